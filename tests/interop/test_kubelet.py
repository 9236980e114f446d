"""The DaemonSet and the example on a real node: kubelet starts them, containerd and runc make their cgroups and mounts, the daemon finds out who asks; then it is changed, upgraded and killed under a
client that never stops asking."""
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import time

import pytest
import yaml

import kubelet
import peers
from layouts import oras_variant

pytestmark = pytest.mark.skipif(kubelet.missing() is not None, reason=str(kubelet.missing()))
SYSTEM, PORT = 'wasmcached-system', 5000
HOST = f'{kubelet.NODE}:{PORT}'
PAUSE = '#include <signal.h>\n#include <unistd.h>\nstatic void on_term(int n) { _exit(n == SIGTERM ? 0 : 1); }\nint main(void) { signal(SIGTERM, on_term); for (;;) pause(); }\n'
PROXY = 'docker.io/envoyproxy/envoy:distroless-v1.38-latest'
README = (peers.SOURCE / 'README.md').read_text()
VERSION = re.search(r'^VERSION\s*:=\s*(\S+)', (peers.SOURCE / 'Makefile').read_text(), re.M)[1]


# ---- images
def builder():
    loader = importlib.machinery.SourceFileLoader('image_build', str(peers.SOURCE / 'tools' / 'image' / 'build'))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader('image_build', loader))
    loader.exec_module(module)
    return module


def import_image(node, name, entries, entrypoint):
    """Written as tools/image/build writes ours, under another name."""
    build, path = builder(), node.folder / 'image.tar'
    build.CONFIG = {'Env': ['PATH=/usr/sbin:/usr/bin'], 'Entrypoint': [entrypoint], 'WorkingDir': '/'}
    files, _ = build.image(dict(sorted(entries.items())), 'x', 0)
    build.write_archive(files, str(path), 0)
    node.run('ctr', '-n', 'k8s.io', 'images', 'import', path)
    node.run('ctr', '-n', 'k8s.io', 'images', 'tag', '--force', 'docker.io/library/wasmcached:x', name)


def compiled(folder, source, *options):
    output = folder / 'compiled'
    subprocess.run(['cc', '-O1', '-o', output, source, *map(str, options)], check=True)
    return output.read_bytes()


@pytest.fixture(scope='module')
def node(work, modules):
    """A node that is Ready, with Istio's CRDs, the stand-ins for what no test can pull, and a registry that wants the login of the example's Secret."""
    one = kubelet.Node(work / 'node')
    try:
        one.start()
        (one.folder / 'pause.c').write_text(PAUSE)
        import_image(one, 'docker.io/wasmcached-test/pause:1', {'pause': (0o755, 0, compiled(one.folder, one.folder / 'pause.c', '-static'))}, '/pause')
        proxy = compiled(one.folder, peers.SOURCE / 'tests' / 'interop' / 'proxy.c', f'-I{peers.SOURCE}/include', peers.BUILD / 'libwasmcache.a', '-ljansson', '-lyaml', '-lcrypto')
        import_image(one, PROXY, {**builder().tree(str(peers.BUILD), VERSION), 'usr/bin/proxy': (0o755, 0, proxy)}, '/usr/bin/proxy')
        folder = one.folder / 'registry'
        folder.mkdir()
        opened = peers.docker_registry(folder)
        for name, module in (('v1', 'small'), ('v2', 'small2')):
            oras_variant(folder, f'{opened.host}/team/authz:{name}', modules[module])
        opened.stop()
        (folder / 'htpasswd').write_text(subprocess.run(['htpasswd', '-Bbn', '-C', '4', 'puller', 'change-me'], check=True, capture_output=True, text=True).stdout)
        config = folder / 'docker-registry.yaml'
        config.write_text(config.read_text().replace(opened.host, f'{kubelet.NODE}:{PORT}') + f'auth: {{htpasswd: {{realm: t, path: "{folder / "htpasswd"}"}}}}\n')
        one.launch('docker-registry', 'serve', config)
        one.kubectl('apply', '--server-side', '-f', peers.PEERS / 'istio-crds.yaml')
        one.kubectl('wait', '--for=condition=Established', '--timeout=60s', 'crd/wasmplugins.extensions.istio.io', 'crd/trafficextensions.extensions.istio.io')
        one.await_true(lambda: 'node-a' in one.kubectl('get', 'nodes', good=False).stdout, 'the node')
        one.kubectl('wait', '--for=condition=Ready', '--timeout=120s', 'node/node-a')
        yield one
    finally:
        one.stop()


def block(title):
    return re.search(rf'## {title}\n.*?```sh\n(.*?)```', README, re.S)[1].splitlines()


@pytest.fixture(scope='module')
def walked(node):
    """The README's section of the DaemonSet, word for word but for what needs a registry of one's own and kustomize, in a copy whose registry.example is the one that is here; `said` is what the last
    command says, `shell` runs one more."""
    tree = node.folder / 'tree'
    shutil.copytree(peers.SOURCE / 'tools' / 'kubernetes', tree / 'tools' / 'kubernetes')
    for path in (tree / 'tools' / 'kubernetes' / 'example').glob('*.yaml'):
        path.write_text(path.read_text().replace('registry.example', HOST))
    with open(tree / 'tools' / 'kubernetes' / 'overlays' / 'identity-pod' / 'config.yaml', 'a', encoding='utf-8') as config:
        config.write(f'registries: {{"{HOST}": {{plain_http: true}}}}\npull: {{negative_time: 0s}}\n')
    image(node, VERSION, tree / 'wasmcached.oci.tar')
    environment = {**peers.ENVIRONMENT, 'PATH': f'{peers.PEERS}:{os.environ["PATH"]}', 'KUBECONFIG': str(node.kubeconfig), 'HOME': str(node.folder)}

    def shell(text):
        ran = subprocess.run([*node.within, 'sh', '-ec', f'cd {tree}\n' + text.replace('registry.example', HOST)], env=environment, capture_output=True, text=True, check=False, timeout=200)
        assert ran.returncode == 0, (text, ran.stdout, ran.stderr, node.kubectl('get', 'pods', '-A', '-o', 'wide'))
        return ran.stdout
    lines = block('Running as a DaemonSet')
    load, = re.findall(r'or, on a node: (ctr .* FILE)$', '\n'.join(lines), re.M)
    overlay, example, status = [line for line in lines if line.startswith('kubectl ')]
    shell(load.replace('FILE', str(tree / 'wasmcached.oci.tar')))
    shell(overlay)
    shell(example)
    rolled_out(node)
    node.shell, node.said = shell, shell(status)
    return node


def image(node, version, path):
    subprocess.run([peers.SOURCE / 'tools' / 'image' / 'build', '--programs', peers.BUILD, '--version', version, '--output', path], check=True, capture_output=True)
    return path


def awaited(node, namespace, *words):
    """kubectl waits; when it does so in vain, what kubelet and the containers said."""
    ran = node.kubectl(*words, '-n', namespace, '--timeout=90s', good=False)
    if ran.returncode:
        events = [f"{one['reason']}: {one.get('note', one.get('message'))}" for one in node.get('events', '-n', namespace)['items']]
        logs = [node.kubectl('logs', '-n', namespace, one['metadata']['name'], '--all-containers', good=False).stdout[-1500:] for one in node.get('pods', '-n', namespace)['items']]
        pytest.fail('\n'.join([ran.stderr, *events[-20:], *logs]), pytrace=False)


def rolled_out(node):
    awaited(node, SYSTEM, 'rollout', 'status', 'ds/wasmcached')


def running(node, name, namespace):
    awaited(node, namespace, 'wait', '--for=condition=Ready', f'pod/{name}')


def inside(node, *words, name='web-1', namespace='team-a', good=True):
    return node.kubectl('exec', '-n', namespace, name, '-c', 'proxy', '--', *words, good=good)


def url(tag='v1'):
    return f'oci://{HOST}/team/authz:{tag}'


def workload(name, namespace, *arguments):
    """The example's pod, without the container that waits for the module."""
    pod = yaml.safe_load((peers.SOURCE / 'tools' / 'kubernetes' / 'example' / 'pod.yaml').read_text())
    pod['metadata'] |= {'name': name, 'namespace': namespace}
    del pod['spec']['initContainers']
    pod['spec']['containers'][0]['args'] = list(arguments) or ['-c', 'x']
    return pod


# ---- the walk
def test_readme_walk(walked, modules):
    """What the README's commands lead to: the daemon answers, the pod's first container got its path, the plugin is in the chain."""
    assert 'ready' in walked.said, walked.said
    running(walked, 'web-1', 'team-a')
    assert [one['restartCount'] for one in walked.get('pod', 'web-1', '-n', 'team-a')['status']['initContainerStatuses']] == [0]          # it waited for the daemon, and was known at once
    path = walked.kubectl('logs', 'web-1', '-n', 'team-a', '-c', 'module').strip()
    assert path == f"/modules/{peers.sha256(modules['small'].read_bytes())}.wasm"
    assert inside(walked, 'proxy', 'show', path) == modules['small'].read_bytes().hex()
    assert inside(walked, 'wasmcachectl', 'plugins').splitlines()[1].split()[:5] == ['team-a', 'authz', 'AUTHZ', '0', 'ready']


def test_folders(walked):
    """Only its own folder, and nothing may be written there."""
    for place in ('/modules', '/run/wasmcached'):
        ran = inside(walked, 'install', '/usr/bin/proxy', f'{place}/mine', good=False)
        assert ran.returncode != 0 and 'Read-only file system' in ran.stderr, ran.stderr
    assert walked.run('ls', '/var/lib/wasmcached/modules').split() == ['team-a'] and 'admin.sock' not in walked.run('ls', '/run/wasmcached')


def test_another_namespace(walked, modules):
    """A pod of team-b, which kubelet made the folder for: denied what is team-a's, and has nothing of it; with a Secret of its own it has its own file."""
    walked.kubectl('create', 'namespace', 'team-b', good=False)
    walked.await_true(lambda: walked.kubectl('get', 'serviceaccount', 'default', '-n', 'team-b', good=False).returncode == 0, 'the service account')
    walked.apply(workload('web-1', 'team-b'))
    running(walked, 'web-1', 'team-b')
    ran = inside(walked, 'wasmcachectl', 'get', url(), '--secret', 'registry-login', '-n', 'team-a', namespace='team-b', good=False)
    assert 'denied' in ran.stderr and not ran.stdout, (ran.stdout, ran.stderr)
    ran = inside(walked, 'wasmcachectl', 'get', url(), '--secret', 'registry-login', namespace='team-b', good=False)
    assert 'secret_missing' in ran.stderr and not ran.stdout, (ran.stdout, ran.stderr)
    theirs = walked.kubectl('logs', 'web-1', '-n', 'team-a', '-c', 'module').strip()
    assert inside(walked, 'proxy', 'show', theirs, namespace='team-b', good=False).returncode != 0
    assert len(inside(walked, 'wasmcachectl', 'plugins', namespace='team-b').splitlines()) == 1
    made = list(yaml.safe_load_all((walked.folder / 'tree' / 'tools' / 'kubernetes' / 'example' / 'secret.yaml').read_text()))
    for one in made:
        one['metadata']['namespace'] = 'team-b'
    walked.apply(*made)
    walked.await_true(lambda: inside(walked, 'wasmcachectl', 'get', url(), '--secret', 'registry-login', namespace='team-b', good=False).stdout, 'a module of its own')
    path = inside(walked, 'wasmcachectl', 'get', url(), '--secret', 'registry-login', namespace='team-b').strip()
    assert path == theirs and inside(walked, 'proxy', 'show', path, namespace='team-b') == modules['small'].read_bytes().hex()


def test_readme_kubernetes(walked, modules):
    """The README's page, line by line: what stands behind # comes to be said, by that command, within a minute."""
    lines = block('Kubernetes')
    agent, *commands = lines
    assert agent.startswith('agent() {') and len(commands) == 15
    for line in commands:
        command, _, said = line.partition('  #')
        word = said.strip().split(':')[0].replace('<sha256>', '[0-9a-f]{64}').removesuffix('repaired')
        walked.await_true(lambda command=command, word=word: re.search(word, walked.shell(f'{agent}\n{command}')), line)
    plugin, = json.loads(inside(walked, 'wasmcachectl', 'plugins', '-o', 'json'))['plugins']
    assert plugin['sha256'] == peers.sha256(modules['small'].read_bytes()) and inside(walked, 'proxy', 'show', plugin['path']) == modules['small'].read_bytes().hex()
    assert {one['reportingInstance'] for one in walked.get('events.events.k8s.io', '-n', 'team-a')['items'] if one['regarding']['kind'] == 'WasmPlugin'} == {'node-a'}


def test_static_pod(walked, modules):
    """Its cgroup has the hash of its file for a name; the mirror Pod that kubelet made says whose that is."""
    pod = workload('static', 'team-a')
    (walked.folder / 'static' / 'pod.json').write_text(json.dumps(pod))
    walked.await_true(lambda: walked.kubectl('get', 'pod', 'static-node-a', '-n', 'team-a', good=False).returncode == 0, 'the mirror Pod')
    running(walked, 'static-node-a', 'team-a')
    path = walked.await_true(lambda: inside(walked, 'wasmcachectl', 'get', url(), '--secret', 'registry-login', name='static-node-a', good=False).stdout, 'the path').strip()
    assert inside(walked, 'proxy', 'show', path, name='static-node-a') == modules['small'].read_bytes().hex()
    assert inside(walked, 'wasmcachectl', 'get', url(), '-n', 'team-b', name='static-node-a', good=False).returncode == 1


# ---- under load
class Asking:
    """A pod of team-a that asks without end."""

    def __init__(self, node):
        self.node = node
        node.apply(workload('asking', 'team-a', 'ask', url(), 'registry-login'))
        running(node, 'asking', 'team-a')

    def lines(self):
        return self.node.kubectl('logs', 'asking', '-n', 'team-a').splitlines()

    def goes_on(self, more=50):
        """Waits for so many more answers; none of all may be a failure."""
        wanted = len(self.lines()) + more
        self.node.await_true(lambda: len(self.lines()) >= wanted, 'answers')
        lines = self.lines()
        assert not [line for line in lines if not line.startswith('ok ')], [line for line in lines if not line.startswith('ok ')][:3]
        return max(int(line.split()[1]) for line in lines)


@pytest.fixture(scope='module')
def asking(walked):
    return Asking(walked)


def daemon_pod(node):
    pod, = [one for one in node.get('pods', '-n', SYSTEM)['items'] if 'deletionTimestamp' not in one['metadata']]
    return pod


def test_upgrade(walked, asking):
    """Another image: the DaemonSet's pod ends, the next one has the same store and makes a new socket; nobody is refused."""
    asking.goes_on()
    before = daemon_pod(walked)['metadata']['uid']
    walked.run('ctr', '-n', 'k8s.io', 'images', 'import', image(walked, f'{VERSION}-next', walked.folder / 'next.tar'))
    walked.kubectl('set', 'image', '-n', SYSTEM, 'ds/wasmcached', f'*=wasmcached:{VERSION}-next')
    rolled_out(walked)
    after = daemon_pod(walked)
    assert after['metadata']['uid'] != before and after['spec']['containers'][0]['image'].endswith('-next')
    print(f'upgrade: the longest wait was {asking.goes_on()} ms')
    assert 'pulled' not in walked.kubectl('exec', '-n', SYSTEM, 'ds/wasmcached', '-c', 'wasmcached', '--', 'wasmcachectl', 'events')          # what was there needed no registry


def test_kill(walked, asking):
    """kill -9: kubelet starts the container again, and nobody is refused."""
    asking.goes_on()
    walked.run('pkill', '-KILL', '-x', 'wasmcached')
    walked.await_true(lambda: (status := daemon_pod(walked)['status']['containerStatuses'][0])['restartCount'] >= 1 and status['ready'], 'the restart')
    print(f'kill: the longest wait was {asking.goes_on()} ms')


def test_no_right_was_missing(walked):
    log = walked.kubectl('logs', '-n', SYSTEM, 'ds/wasmcached', '-c', 'wasmcached')
    assert log and 'forbidden' not in log.lower(), log[-2000:]
