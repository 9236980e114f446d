"""The container image: its structure by skopeo and by its digests, the same bytes twice, its contents, and the programs in it run from its own root, with a pull over TLS."""
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import tarfile

import pytest
import requests
import yaml

from e2e_daemon import BUILD, SOURCE, Daemon, ask, await_true, free_port
from e2e_images import push
from e2e_servers import Registry, run

BUILDER = os.path.join(SOURCE, 'tools', 'image', 'build')
UID = 60837
pytestmark = pytest.mark.skipif(not shutil.which('dpkg') or not os.path.isdir('/usr/share/ca-certificates/mozilla'), reason='needs Debian with ca-certificates')


def version():
    with open(os.path.join(SOURCE, 'Makefile'), encoding='utf-8') as stream:
        return re.search(r'^VERSION\s*:=\s*(\S+)', stream.read(), re.M)[1]


def build(*words, **more):
    return subprocess.run([BUILDER, '--programs', BUILD, '--version', version(), *map(str, words)], capture_output=True, text=True, check=False, env={**os.environ, 'SOURCE_DATE_EPOCH': '1700000000', **more})


class Image:
    def __init__(self, path):
        self.path = path
        with tarfile.open(path) as archive:
            self.members = archive.getmembers()
            self.files = {one.name: archive.extractfile(one).read() for one in self.members if one.isfile()}
        self.index = json.loads(self.files['index.json'])
        self.manifest = self.blob(self.index['manifests'][0])
        self.config = self.blob(self.manifest['config'])
        self.layer = self.bytes(self.manifest['layers'][0])

    def bytes(self, descriptor):
        data = self.files['blobs/' + descriptor['digest'].replace(':', '/')]
        assert len(data) == descriptor['size'] and 'sha256:' + hashlib.sha256(data).hexdigest() == descriptor['digest']
        return data

    def blob(self, descriptor):
        return json.loads(self.bytes(descriptor))

    def entries(self):
        with tarfile.open(fileobj=io.BytesIO(self.layer)) as archive:
            return {one.name: one for one in archive.getmembers()}


@pytest.fixture(scope='module')
def image(world):
    path = os.path.join(world, 'image.tar')
    made = build('--output', path)
    assert made.returncode == 0, made.stderr
    return Image(path)


@pytest.fixture(scope='module')
def root(world, image):
    """The image's root as a runtime unpacks it, owners included."""
    if os.geteuid() != 0:
        pytest.skip('needs root, to unpack owners and to change the root')
    folder = os.path.join(world, 'root')
    os.mkdir(folder, 0o755)
    subprocess.run(['tar', '--numeric-owner', '-xpzf', '-', '-C', folder], input=image.layer, check=True)
    with open(os.path.join(folder, 'etc', 'hosts'), 'w', encoding='ascii') as stream:        # the runtime's
        stream.write('127.0.0.1 localhost registry.test\n')
    try:
        for name, number in (('null', 3), ('urandom', 9)):
            os.mknod(os.path.join(folder, 'dev', name), 0o666 | stat.S_IFCHR, os.makedev(1, number))
            os.chmod(os.path.join(folder, 'dev', name), 0o666)
            with open(os.path.join(folder, 'dev', name), 'rb'):
                pass
    except OSError as problem:
        pytest.skip(f'devices, which a runtime gives, cannot be made here: {problem}')
    return folder


def inside(root, *words, user=UID):
    return subprocess.run(['chroot', f'--userspec={user}:{user}', root, *words], capture_output=True, text=True, check=False, timeout=60)


def test_structure(image):
    names = [one.name for one in image.members]
    assert set(names) == {'oci-layout', 'index.json', 'blobs', 'blobs/sha256'} | {'blobs/' + one['digest'].replace(':', '/') for one in (image.index['manifests'][0], image.manifest['config'], *image.manifest['layers'])}
    assert json.loads(image.files['oci-layout']) == {'imageLayoutVersion': '1.0.0'}
    assert image.index['manifests'][0]['annotations']['org.opencontainers.image.ref.name'] == version()
    assert image.manifest['schemaVersion'] == 2 and image.manifest['annotations']['org.opencontainers.image.version'] == version()
    assert len(image.manifest['layers']) == 1

    assert image.config['rootfs']['diff_ids'] == ['sha256:' + hashlib.sha256(gzip.decompress(image.layer)).hexdigest()]
    config = image.config['config']
    assert (config['User'], config['Entrypoint'], config['StopSignal']) == (f'{UID}:{UID}', ['/usr/sbin/wasmcached'], 'SIGTERM')
    assert config['Labels'] == image.manifest['annotations'] and image.config['created'] == '2023-11-14T22:13:20Z'


@pytest.mark.skipif(not shutil.which('skopeo'), reason='skopeo is not installed')
def test_skopeo_reads_and_copies_it(image, tmp_path, registry):
    told = json.loads(run('skopeo', 'inspect', f'oci-archive:{image.path}'))
    assert told['Labels']['org.opencontainers.image.title'] == 'wasmcached' and told['Os'] == 'linux' and len(told['Layers']) == 1
    policy = tmp_path / 'policy.json'
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    run('skopeo', '--policy', policy, 'copy', '--dest-tls-verify=false', f'oci-archive:{image.path}:{version()}', f'docker://{registry.host}/agents/wasmcached:{version()}')
    got = registry.session.get(f'http://{registry.host}/v2/agents/wasmcached/manifests/{version()}', headers={'Accept': image.manifest['mediaType']})
    assert got.headers['Docker-Content-Digest'] == image.index['manifests'][0]['digest']


def test_same_bytes_twice(image, tmp_path):
    again = tmp_path / 'again.tar'
    assert build('--output', again, TZ='Asia/Tokyo', LC_ALL='C', HOME=str(tmp_path), USER='other').returncode == 0
    with open(image.path, 'rb') as stream:
        assert stream.read() == again.read_bytes()
    later = tmp_path / 'later.tar'
    assert build('--output', later, SOURCE_DATE_EPOCH='1700000001').returncode == 0
    assert later.read_bytes() != again.read_bytes()
    entries = image.entries()
    assert list(entries) == sorted(entries) and {one.mtime for one in entries.values()} == {1700000000} and {one.uname for one in entries.values()} == {''}


def test_contents(image):
    entries = image.entries()
    programs = {name for name, one in entries.items() if one.isfile() and re.match(r'usr/s?bin/', name)}
    assert programs == {'usr/sbin/wasmcached', 'usr/bin/wasmcachectl', 'usr/bin/install', 'usr/bin/chown'}                # no shell, no package manager
    for name in ('etc/ssl/certs/ca-certificates.crt', 'etc/passwd', 'etc/group', 'etc/nsswitch.conf', 'usr/lib/os-release', 'usr/share/doc/wasmcached/LICENSE', 'usr/share/doc/libcurl4/copyright', 'var/lib/dpkg/status.d/libssl3'):
        assert name in entries, name
    others = {name for name, one in entries.items() if one.uid != 0}
    assert others == {'run/wasmcached', 'var/lib/wasmcached'} and {(entries[name].uid, entries[name].gid, entries[name].mode) for name in others} == {(UID, UID, 0o755)}
    writable = {name for name, one in entries.items() if not one.issym() and one.mode & 0o022}
    assert writable == {'tmp'} and not any(one.mode & 0o6000 for one in entries.values())
    for name in entries:
        assert name == 'tmp' or '/' not in name or name.rsplit('/', 1)[0] in entries, name
    size = sum(one.size for one in entries.values())
    assert size < 100e6, size


def test_authorities_of_this_machine_alone_are_not_in_it(image):
    entries = tarfile.open(fileobj=io.BytesIO(image.layer))
    text = entries.extractfile('etc/ssl/certs/ca-certificates.crt').read().decode()
    assert text.count('BEGIN CERTIFICATE') == len(os.listdir('/usr/share/ca-certificates/mozilla'))


def test_every_library_that_a_program_names_is_there(image, tmp_path):
    file = tmp_path / 'file'
    entries = image.entries()
    archive = tarfile.open(fileobj=io.BytesIO(image.layer))
    there = {name.rsplit('/', 1)[1] for name in entries if '.so' in name}
    for name, one in entries.items():
        data = archive.extractfile(one).read() if one.isfile() else b''
        if data[:4] != b'\x7fELF':
            continue
        file.write_bytes(data)
        needed = run('readelf', '-d', file).decode()
        assert set(re.findall(r'NEEDED.*\[(.*)\]', needed)) <= there, name


def test_tree_of_the_containerfile(image, tmp_path):
    """The Containerfile copies what --root writes; that is what the image has. Its settings are those of the image."""
    made = build('--root', tmp_path / 'tree', '--list')
    assert made.returncode == 0, made.stderr
    entries = image.entries()
    found = {os.path.relpath(os.path.join(top, name), tmp_path / 'tree') for top, folders, files in os.walk(tmp_path / 'tree') for name in folders + files}
    assert found == set(entries)
    listed = {line.split()[3]: line.split() for line in made.stdout.splitlines()}
    assert set(listed) == set(entries)
    for name, one in entries.items():
        path = tmp_path / 'tree' / name
        assert one.issym() and os.readlink(path) == one.linkname or path.stat().st_mode & 0o7777 == one.mode == int(listed[name][0], 8), name
        assert not one.isfile() or path.stat().st_size == one.size
    assert build('--root', tmp_path / 'tree').returncode == 1

    with open(os.path.join(SOURCE, 'tools/image/Containerfile'), encoding='utf-8') as stream:
        text = stream.read()
    config = image.config['config']
    settings = dict(re.findall(r'^(USER|WORKDIR|STOPSIGNAL|ENTRYPOINT|ENV) (.*)$', text.split('FROM scratch')[1], re.M))
    assert settings == {'USER': config['User'], 'WORKDIR': config['WorkingDir'], 'STOPSIGNAL': config['StopSignal'], 'ENTRYPOINT': json.dumps(config['Entrypoint']), 'ENV': config['Env'][0]} and len(config['Env']) == 1
    labels = dict(re.findall(r'([a-z.]+)="([^"]*)"', re.search(r'^LABEL (.*)$', text, re.M)[1]))
    assert labels == {name: value for name, value in config['Labels'].items() if not name.endswith('.created')}
    assert set(re.findall(r'wasmcached:([0-9.]+)|--version ([0-9.]+)', text)) == {(version(), ''), ('', version())}
    owned = dict(re.findall(r'--chown=(\S+) /image/(\S+)/ ', text))
    assert {(f'{one.uid}:{one.gid}', name) for name, one in entries.items() if one.uid} == {(owner, name) for owner, name in re.findall(r'--chown=(\S+) /image/(\S+?)/ ', text)} and owned


@pytest.mark.parametrize('words, more, said', [
    (['--output', '/nowhere/x.tar'], {}, '/nowhere'), (['--output', 'x.tar'], {'SOURCE_DATE_EPOCH': 'today'}, 'SOURCE_DATE_EPOCH'), (['--output', 'x.tar', '--programs', '/nowhere'], {}, 'make programs')])
def test_refusals(tmp_path, words, more, said):
    made = build(*[str(tmp_path / word) if word == 'x.tar' else word for word in words], **more)
    assert made.returncode == 1 and said in made.stderr and made.stderr.count('\n') == 1 and not list(tmp_path.iterdir())


def test_programs_run_in_their_root(root):
    ran = inside(root, '/usr/sbin/wasmcached', '--version')
    assert ran.returncode == 0 and version() in ran.stdout, ran.stderr
    assert inside(root, '/usr/bin/wasmcachectl', 'version', '--client').returncode in (0, 2)
    assert inside(root, '/usr/bin/wasmcachectl', '--help').returncode == 0
    assert inside(root, '/usr/sbin/wasmcached', '--check-config').returncode == 0
    with open(os.path.join(root, 'tmp', 'bad.yaml'), 'w', encoding='ascii') as stream:
        stream.write('store: {root: relative}\n')
    assert inside(root, '/usr/sbin/wasmcached', '--check-config', '--config', '/tmp/bad.yaml').returncode != 0
    done = inside(root, '/usr/bin/install', '-d', '-m', '2775', '-o', str(UID), '-g', str(UID), '/tmp/made', user=0)
    assert done.returncode == 0, done.stderr
    status = os.stat(os.path.join(root, 'tmp', 'made'))
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o2775, UID, UID)
    os.mkdir(os.path.join(root, 'tmp', 'made', 'team-a'))
    done = inside(root, '/usr/bin/chown', '--recursive', '--no-dereference', '--from=0', f'{UID}:{UID}', '/tmp/made', user=0)
    assert done.returncode == 0 and os.stat(os.path.join(root, 'tmp', 'made', 'team-a')).st_uid == UID, done.stderr


def test_pull_over_tls_from_its_root(root, authority, start_server, tmp_path):
    """A name that /etc/hosts knows, a certificate of an authority in the image's bundle: refused before it is there, served once it is."""
    secure = start_server(Registry, tls=authority.sign('image-registry', names='DNS:registry.test,IP:127.0.0.1'), ca=authority.ca)
    repository, _, module = push(secure)
    url = f'oci://registry.test:{secure.port}/{repository}:v1'
    bundle = os.path.join(root, 'etc/ssl/certs/ca-certificates.crt')
    with open(authority.ca, encoding='ascii') as stream:
        ours = stream.read()
    daemon = Daemon(os.path.join(root, 'tmp', 'd'), listeners=[{'path': '/run/wasmcached/agent.sock'}], admin={'path': '/run/wasmcached/admin.sock'}, store={'root': '/var/lib/wasmcached'}, credentials={}, pull={'negative_time': '0s'})
    daemon.config['credentials'] = {}
    daemon.configure()
    daemon.admin, daemon.agent = os.path.join(root, 'run/wasmcached/admin.sock'), os.path.join(root, 'run/wasmcached/agent.sock')
    for trusted in (False, True):
        if trusted:
            with open(bundle, 'a', encoding='ascii') as stream:
                stream.write(ours)
        with open(daemon.log, 'ab') as log:
            daemon.process = subprocess.Popen(['chroot', f'--userspec={UID}:{UID}', root, '/usr/sbin/wasmcached', '--config', '/tmp/d/config.yaml'], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            await_true(daemon.is_up, 20, 'the start')
            if not trusted:
                assert 'certificate' in daemon.bad(url, 'upstream_unreachable')
                continue
            got = daemon.good(url)
            assert got['path'] == f"/var/lib/wasmcached/modules/default/{hashlib.sha256(module).hexdigest()}.wasm"
            with open(root + got['path'], 'rb') as stream:
                assert stream.read() == module
            assert ask(daemon.agent, 'GET', '/healthz').status == 200
            ran = inside(root, '/usr/bin/wasmcachectl', '--socket', '/run/wasmcached/agent.sock', 'get', url)
            assert ran.returncode == 0 and ran.stdout.strip() == got['path'], ran.stderr
        finally:
            assert daemon.stop() == 0, daemon.told()


def test_as_the_daemonset_runs_it(root, registry, tmp_path, world):
    """A read-only root, no capability, and only the mounts of tools/kubernetes, with its configuration: but for the API server, which is not here."""
    if not shutil.which('unshare') or subprocess.run(['unshare', '--mount', 'true'], capture_output=True, check=False).returncode:
        pytest.skip('mount namespaces cannot be made here')
    with open(os.path.join(SOURCE, 'tools/kubernetes/base/config.yaml'), encoding='utf-8') as stream:
        config = yaml.safe_load(stream)
    del config['kubernetes']
    port = free_port()
    config['metrics'] = {'address': f'127.0.0.1:{port}'}
    node = os.path.join(world, 'node')
    mounts = {'run': 'run/wasmcached', 'store': 'var/lib/wasmcached', 'admin': 'run/wasmcached-admin', 'config': 'etc/wasmcached'}
    for name, place in mounts.items():
        os.makedirs(os.path.join(node, name))
        os.makedirs(os.path.join(root, place), exist_ok=True)
        os.chown(os.path.join(node, name), UID, UID)
    with open(os.path.join(node, 'config', 'config.yaml'), 'w', encoding='utf-8') as stream:
        yaml.safe_dump(config, stream)
    binds = ' && '.join(f'mount --bind "$1/{name}" "$0/{place}"' for name, place in mounts.items())
    script = f'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && {binds} && exec chroot --userspec={UID}:{UID} "$0" /usr/sbin/wasmcached --config /etc/wasmcached/config.yaml'
    repository, _, module = push(registry)
    with open(tmp_path / 'log', 'ab') as log:
        process = subprocess.Popen(['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script, root, node], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        agent = os.path.join(node, 'run/default/agent.sock')

        def is_up():
            assert process.poll() is None, (tmp_path / 'log').read_text()
            return os.path.exists(agent) and os.path.exists(os.path.join(node, 'admin/admin.sock'))
        await_true(is_up, 30, 'the sockets')
        got = ask(agent, 'POST', '/v1/modules', {'url': registry.ref(repository)})
        assert got.status == 200 and got.json['path'] == f"/modules/{got.json['sha256']}.wasm", got
        with open(os.path.join(node, 'store/modules/default', os.path.basename(got.json['path'])), 'rb') as stream:
            assert stream.read() == module
        for path in ('/healthz', '/readyz', '/metrics'):
            assert requests.get(f'http://127.0.0.1:{port}{path}', timeout=30).status_code == 200
        with open(f'/proc/{process.pid}/status', encoding='ascii') as stream:
            assert re.search(r'^CapEff:\t0+$', stream.read(), re.M)
    finally:
        process.terminate()
        assert process.wait(20) == 0, (tmp_path / 'log').read_text()
