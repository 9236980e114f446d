"""What the README shows is true: its configuration is accepted, its commands and options exist, its table of codes is the daemon's."""
import os
import re
import shutil
import subprocess

import pytest

import signing
from e2e_images import push, wasm

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ['WASMCACHED_BUILD']


def readme():
    with open(os.path.join(SOURCE, 'README.md'), encoding='utf-8') as stream:
        return stream.read()


def output(*words):
    return subprocess.run([os.path.join(BUILD, words[0]), *words[1:]], capture_output=True, text=True, check=True).stdout


def check_configuration(folder, example, named):
    """Good, once the file that it names is there."""
    assert named in example
    (folder / 'named').write_text('{}')
    (folder / 'config.yaml').write_text(example.replace(named, str(folder / 'named')))
    result = subprocess.run([os.path.join(BUILD, 'wasmcached'), '--config', folder / 'config.yaml', '--check-config'], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, '')


def test_configuration(tmp_path):
    example = re.search(r'```yaml\n(.*?)```', readme(), re.S)[1]
    certificate = tmp_path / 'ca.pem'
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=ca', '-keyout', '/dev/null', '-out', certificate],
                   capture_output=True, check=True)
    key = tmp_path / 'key.pub'
    key.write_text(signing.ec_key().pem)
    example = re.sub(r'/etc/wasmcached/keys/[a-z-]+\.pub', str(key), example.replace('/etc/wasmcached/registry-ca.pem', str(certificate)))
    check_configuration(tmp_path, example, '/etc/kubernetes/image-credential-provider.yaml')


def test_manifests(registry, make_daemon):
    """The example of plugins from files, with a registry that is here."""
    from e2e_images import push
    from e2e_plugins import Folder
    example = re.search(r'```yaml\n(apiVersion: .*?)```', readme(), re.S)[1]
    folder = Folder(make_daemon(start=False))
    folder.daemon.start()
    folder.put('example.yaml', text=example.replace('registry.example/team/authz:v1', registry.ref(push(registry)[0]).removeprefix('oci://')))
    entry = folder.await_state('authz', 'ready', namespace='default', label='app=web')
    assert entry['pluginConfig'] == {'allow': ['GET']} and all(row['state'] == 'accepted' for row in folder.resources())
    commands = re.search(r'```sh\n(wasmcachectl plugins .*?)```', readme(), re.S)[1]
    told = [folder.daemon.ctl_good(*line.split('#')[0].split()[1:]) for line in commands.splitlines() if line.startswith('wasmcachectl')]
    assert 'ready' in told[0] and 'authz' in told[1] and told[2].startswith('verdict: not_reached')


def test_configuration_of_pods(tmp_path):
    example = re.search(r'## Pods as callers.*?```yaml\n(.*?)```', readme(), re.S)[1]
    check_configuration(tmp_path, example, '/etc/wasmcached/kubeconfig')


def test_commands():
    text = readme()
    known = set(re.findall(r'^  ([a-z-]+) ', output('wasmcachectl', 'help').split('Options')[0], re.M))
    named = set(re.findall(r'wasmcachectl ([a-z][a-z-]+)', text)) - {'exits', 'with'}
    assert named and named <= known
    fields = re.search(r'\| field .*?\n\n', text, re.S)[0]
    shown = output('wasmcachectl', 'get', '--help')
    for option in re.findall(r'`(-[a-z0-9-]+)', fields):
        assert re.search(rf'(^|[ ,]){option}[ ,]', shown, re.M), option


def test_codes():
    with open(os.path.join(SOURCE, 'agent/base/error.c'), encoding='utf-8') as stream:
        table = dict(re.findall(r'\{ "([a-z_]+)", (\d+), ERROR_RETRY', stream.read()))
    del table['none']
    assert dict(re.findall(r'^\| `([a-z_]+)` \| (\d+) \|', readme(), re.M)) == table


def test_options():
    manual = output('wasmcached', '--print-config')
    for option in re.findall(r'`((?:pull|store|network|files|registries|limits|credentials|trust|kubernetes)[{}]*\.[a-z_]+)`', readme()):
        assert re.search(rf'\b{option.split(".")[1]}\b', manual + output('wasmcached', '--print-manual')), option


def test_manual_of_the_daemon():
    """wasmcached(8): every flag of --help and every value of identity is in it, every option that it names there is, and so are all of kubernetes but what only its file says."""
    with open(os.path.join(SOURCE, 'agent/daemon/wasmcached.8'), encoding='utf-8') as stream:
        manual = stream.read()
    options, prose = output('wasmcached', '--print-config'), output('wasmcached', '--print-manual')
    for flag in re.findall(r'^  --([a-z-]+)', output('wasmcached', '--help'), re.M):
        assert f'Fl -{flag}' in manual, flag
    for value in ('fixed', 'pod', 'trusted'):
        assert f'.It Cm {value}\n' in manual and f'{value},' in prose
    named = set(re.findall(r'^\.Cm ([a-z_]+(?:\.[a-z_]+)?)\b', manual, re.M)) - {'in-cluster', 'in', 'kubeconfig'}
    assert {'identity', 'manifests', 'kubernetes.mode', 'kubernetes.node', 'kubernetes.events', 'kubernetes.root_namespace'} <= named
    for name in named:
        assert re.search(rf'^ *(- )?{name.split(".")[-1]}:', options, re.M), name


@pytest.mark.skipif(not shutil.which('mandoc'), reason='mandoc is not installed')
def test_manuals_are_well_formed(tmp_path):
    (tmp_path / 'wasmcached.yaml.5').write_text(output('wasmcached', '--print-manual'), encoding='utf-8')
    for page in (os.path.join(SOURCE, 'agent/daemon/wasmcached.8'), os.path.join(SOURCE, 'tools/wasmcachectl/wasmcachectl.1'), tmp_path / 'wasmcached.yaml.5'):
        ran = subprocess.run(['mandoc', '-T', 'lint', '-W', 'warning', page], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout


def shell(text, folder):
    return subprocess.run(['bash', '-euo', 'pipefail', '-c', text], cwd=folder, capture_output=True, text=True, check=True)


def test_sign_your_plugin(daemon, registry, tmp_path):
    """The newcomer's walk, word for word: keys, a file and an image signed with openssl alone; served with the key, refused with another, and why in one sentence."""
    text = readme()
    make_key = re.search(r'^openssl genpkey .*$', text, re.M)[0]
    walk = re.search(r'```sh\n(# openssl: a file.*?)```', text, re.S)[1]
    tries = dict(re.findall(r'^wasmcachectl (verify-signature|get) \S+ --key (?:plugin|other)\.pub +# (.*)$', text, re.M))
    assert len(tries) == 2
    repository, _, module = push(registry)
    (tmp_path / 'authz.wasm').write_bytes(wasm('authz'))
    shell(make_key, tmp_path)
    shell(make_key.replace('plugin.', 'other.'), tmp_path)
    shell(walk.replace('https://registry.example', f'http://{registry.host}').replace('team/authz', repository), tmp_path)
    url = registry.ref(repository)
    for subject in (tmp_path / 'authz.wasm', url):
        assert daemon.ctl_good('verify-signature', subject, '--key', tmp_path / 'plugin.pub').startswith('verified: ')
    with open(daemon.ctl_good('get', url, '--key', tmp_path / 'plugin.pub').strip(), 'rb') as stream:
        assert stream.read() == module
    ran = daemon.ctl('get', url, '--key', tmp_path / 'other.pub')
    sentence = re.search(r'^wasmcachectl: signature_invalid: .*$', text, re.M)[0].replace('registry.example/team/authz', f'{registry.host}/{repository}')
    assert ran.returncode == 1 and re.match(re.sub('41ff…|…', '[0-9a-f…]+', re.escape(sentence).replace('41ff…', '…')), ran.stderr), (sentence, ran.stderr)


def test_words_of_signatures():
    """The reasons and formats that the README names are those that there are."""
    with open(os.path.join(SOURCE, 'agent/trust/words.c'), encoding='utf-8') as stream:
        reasons = set(re.findall(r'"(sig_[a-z_]+)"', stream.read())) - {'sig_absent', 'sig_unreachable'}
    assert set(re.findall(r'`(sig_[a-z_]+)`', readme())) == reasons
    with open(os.path.join(SOURCE, 'agent/module/verdict.c'), encoding='utf-8') as stream:
        proofs = set(re.findall(r'"([a-z0-9-]+)"', re.search(r'module_proof_names\[MODULE_PROOFS\] = \{(.*?)\};', stream.read(), re.S)[1]))
    shown = re.search(r'^In answers, in `inspect` .*?\n\n', readme(), re.M | re.S)[0]
    assert set(re.findall(r'`([a-z0-9-]+)`', shown)) - {'inspect', 'verified', 'refused'} == proofs
    formats = re.search(r'^\| signed by .*?\n\n', readme(), re.M | re.S)[0]
    manual = output('wasmcached', '--print-manual')
    for name in re.findall(r'`([a-z0-9-]+)`', formats):
        assert name == 'sha256-' or name in manual.replace('\\-', '-'), name
