"""tools/kubernetes on a real Kubernetes API: every object accepted as it stands, the service account's rights, and the daemon under that account, from an applied WasmPlugin to the file in its pod's folder."""
import copy
import json
import os
import pathlib
import subprocess
import time

import pytest
import yaml

import kube
import peers
from kube_rig import ACCOUNT, FOLDER, await_true, built, token

pytestmark = pytest.mark.skipif(kube.missing() is not None, reason=str(kube.missing()))


def test_everything_is_accepted_as_it_stands(applied):
    """What the server made of it: nothing pruned, nothing changed but by its defaults."""
    def within(ours, theirs, place=''):
        if isinstance(ours, dict):
            for name, value in ours.items():
                assert name in theirs, f'{place}.{name}'
                within(value, theirs[name], f'{place}.{name}')
        elif isinstance(ours, list):
            assert len(ours) == len(theirs), place
            for at, value in enumerate(ours):
                within(value, theirs[at], f'{place}[{at}]')
        else:
            assert ours == theirs, (place, ours, theirs)
    for one in built(applied, 'overlays/identity-pod') + built(applied, 'example'):
        names = ['-n', one['metadata']['namespace']] if 'namespace' in one['metadata'] else []
        within({name: value for name, value in one.items() if name != 'stringData'}, applied.get(f"{one['kind'].lower()}/{one['metadata']['name']}", *names), one['kind'])


def test_the_pod_for_the_base_is_accepted(applied):
    applied.kubectl('apply', '--dry-run=server', '--validate=strict', '-f', FOLDER / 'example' / 'pod-fixed.yaml')


def test_a_field_that_is_none_is_refused(applied):
    """The dry run does look."""
    broken = copy.deepcopy(next(one for one in built(applied, '.') if one['kind'] == 'DaemonSet'))
    broken['spec']['template']['spec']['hostPid'] = True
    ran = applied.apply(broken, good=False)
    assert ran.returncode != 0 and 'hostPid' in ran.stderr


MAY = [('list', 'wasmplugins.extensions.istio.io', 'team-a', ''), ('watch', 'wasmplugins.extensions.istio.io', '', ''), ('list', 'trafficextensions.extensions.istio.io', '', ''), ('list', 'pods', '', ''), ('watch', 'pods', '', ''),
       ('create', 'events.events.k8s.io', 'team-a', ''), ('patch', 'events.events.k8s.io', 'team-a', ''), ('create', 'tokenreviews.authentication.k8s.io', '', ''), ('get', 'secrets', 'team-a', 'registry-login')]
MAY_NOT = [('get', 'secrets', 'team-a', 'other'), ('list', 'secrets', 'team-a', ''), ('watch', 'secrets', 'team-a', ''), ('get', 'secrets', 'default', 'registry-login'), ('list', 'secrets', '', ''), ('get', 'secrets', 'wasmcached-system', 'x'),
           ('update', 'wasmplugins.extensions.istio.io', 'team-a', ''), ('patch', 'wasmplugins.extensions.istio.io', 'team-a', ''), ('delete', 'pods', 'team-a', ''), ('get', 'nodes', '', ''), ('get', 'configmaps', 'wasmcached-system', ''),
           ('list', 'namespaces', '', ''), ('create', 'subjectaccessreviews.authorization.k8s.io', '', ''), ('create', 'serviceaccounts', 'team-a', ''), ('impersonate', 'users', '', '')]


@pytest.mark.parametrize('verb, resource, namespace, name', MAY + MAY_NOT)
def test_rights(applied, verb, resource, namespace, name):
    where = ['-n', namespace] if namespace else ['--all-namespaces'] if resource.split('.')[0] in ('wasmplugins', 'trafficextensions', 'pods', 'secrets') else []
    asked = [f'{resource}/{name}'] if name else [resource]
    ran = applied.kubectl('auth', 'can-i', verb, *asked, *where, '--as', ACCOUNT, good=False)
    assert ran.stdout.split()[-1:] == ['yes' if (verb, resource, namespace, name) in MAY else 'no'], (ran.stdout, ran.stderr)


# ---- the daemon as that account
@pytest.fixture
def agent(applied, tenant, daemon):
    """The daemon with the rights of its pod, on node-a."""
    config = applied.write_kubeconfig('wasmcached', token(applied))
    starts, one = applied.starts, daemon(f'kubernetes: {{mode: kubeconfig, kubeconfig: {config}, node: node-a}}\npull: {{negative_time: 0s}}\n')
    yield one, tenant[0]
    assert applied.starts > starts or 'forbidden' not in one.log.read_text().lower()          # no right was missing; a server that has just started says 403 before it has read its own roles


def chain(agent):
    return chain_at(agent.folder / 'admin.sock')


def chain_at(socket):
    connection = peers.UnixConnection(socket)
    connection.request('GET', '/v1/plugins?namespace=team-a&label=app=web')
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    return body.get('plugins', [])


def state(agent, wanted):
    found = chain(agent)
    return found[0] if [plugin['state'] for plugin in found] == [wanted] else None


def test_from_plugin_to_file(applied, agent, modules):
    """Applied, served; broken, told, and what was there stays; repaired, the new one."""
    one, plugin = agent
    ready = await_true(lambda: state(one, 'ready'), 'the plugin')
    assert ready['sha256'] == peers.sha256(modules['small'].read_bytes()) and pathlib.Path(ready['path']).read_bytes() == modules['small'].read_bytes()
    assert pathlib.Path(ready['path']).parent.name == 'team-a'
    good = plugin['spec']['url']
    plugin['spec']['url'] = good.replace(':v1', ':nowhere')
    applied.apply(plugin)
    failed = await_true(lambda: next((found for found in chain(one) if found['state'] in ('failed', 'refused')), None), 'the failure')
    assert failed['code'] == 'not_found'
    plugin['spec']['url'] = good.replace(':v1', ':v2')
    applied.apply(plugin)
    await_true(lambda: (state(one, 'ready') or {}).get('sha256') == peers.sha256(modules['small2'].read_bytes()), 'the repaired plugin')
    events = await_true(lambda: [event for event in applied.get('events.events.k8s.io', '-n', 'team-a')['items'] if event['regarding']['name'] == 'authz'], 'Events on the WasmPlugin')
    assert all(event['regarding']['kind'] == 'WasmPlugin' for event in events)


def test_what_was_served_outlives_the_api(applied, agent):
    one, _ = agent
    await_true(lambda: state(one, 'ready'), 'the plugin')
    applied.stop('kube-apiserver')
    try:
        for _ in range(5):
            assert state(one, 'ready')
            time.sleep(0.2)
        one.kill()
        one.start()
        await_true(lambda: state(one, 'ready'), 'what was known before the restart')
    finally:
        applied.start_api()


def test_watch_over_compaction_and_restart(applied, agent, modules):
    """A version that etcd has forgotten and a server that knows none of ours (410, 429 at first): the chain stays, and goes on with what was changed."""
    one, plugin = agent
    await_true(lambda: state(one, 'ready'), 'the plugin')
    first, good = chain(one), plugin['spec']['url']
    applied.apply({'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': 'another-version', 'namespace': 'team-a'}})
    applied.compact()
    plugin['spec']['url'] = good.replace(':v1', ':v2')
    applied.apply(plugin)
    await_true(lambda: (state(one, 'ready') or {}).get('sha256') == peers.sha256(modules['small2'].read_bytes()), 'the change after a compaction')
    applied.stop('kube-apiserver')
    applied.compact()
    assert [found['name'] for found in chain(one)] == [found['name'] for found in first]
    applied.start_api()
    applied.kubectl('delete', 'wasmplugin', 'authz', '-n', 'team-a')
    await_true(lambda: chain(one) == [], 'the end of what was deleted')
    plugin['spec']['url'] = good
    applied.apply(plugin)
    await_true(lambda: (state(one, 'ready') or {}).get('sha256') == first[0]['sha256'], 'the plugin that was made again')
    assert 'kubernetes_lost' in one.log.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason='needs root, to change the root and to make mounts')
def test_the_image_in_its_pod(applied, tenant, modules, tmp_path, work):
    """As a kubelet starts it: the image's read-only root, the ConfigMap that kustomize made, the mounts, a service account's files, the environment of a pod, and the first containers before."""
    uid, root, node = 60837, work / 'image-root', work / 'image-node'
    version = subprocess.run(['make', '-s', '-C', peers.SOURCE, 'print-version'], check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run([peers.SOURCE / 'tools/image/build', '--programs', peers.BUILD, '--version', version, '--root', root], check=True)
    made = built(applied, '.')
    pod = next(one for one in made if one['kind'] == 'DaemonSet')['spec']['template']['spec']
    config = yaml.safe_load(next(one for one in made if one['kind'] == 'ConfigMap')['data']['config.yaml'])
    config['metrics']['address'] = f'127.0.0.1:{peers.free_port()}'
    mounts = {mount['name']: mount['mountPath'] for mount in pod['containers'][0]['volumeMounts']} | {'account': '/run/secrets/kubernetes.io/serviceaccount', 'dev': '/dev'}
    for name, place in mounts.items():
        (node / name).mkdir(parents=True)
        (root / place[1:]).mkdir(parents=True, exist_ok=True)
    (node / 'admin').chmod(0o777)
    (node / 'config' / 'config.yaml').write_text(yaml.safe_dump(config))
    (node / 'account' / 'token').write_text(token(applied))
    (node / 'account' / 'namespace').write_text('wasmcached-system')
    (node / 'account' / 'ca.crt').write_bytes((applied.pki / 'ca.crt').read_bytes())
    kubelet_made = node / 'store' / 'modules' / 'team-a'          # a pod came before the daemon
    (node / 'store' / 'modules').mkdir()
    folders = {'/node/run': node / 'run', '/node/store': node / 'store', '/node/modules': node / 'store' / 'modules'}
    (node / 'run' / 'team-a').mkdir()          # a pod came even before the first container, and its kubelet made this folder of the socket
    for first in pod['initContainers']:
        rights = '-all,' + ','.join('+' + name.lower() for name in first['securityContext']['capabilities']['add'])
        subprocess.run(['setpriv', '--bounding-set', rights, '--inh-caps', '-all', *[str(folders.get(word, word)) for word in first['command']]], check=True)
    kubelet_made.mkdir()
    kubelet_made.chmod((node / 'store' / 'modules').stat().st_mode & 0o7777)
    binds = ' && '.join(f'mount --bind {"/dev" if name == "dev" else f"$1/{name}"} "$0{place}"' for name, place in mounts.items())
    script = f'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && {binds} && exec chroot --userspec={uid}:{uid} "$0" /usr/sbin/wasmcached "$2" "$3"'
    log = tmp_path / 'image.log'
    with open(log, 'wb') as stream:
        process = subprocess.Popen(['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script, root, node, *pod['containers'][0]['args']], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                                   env={'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'NODE_NAME': 'node-a', 'KUBERNETES_SERVICE_HOST': '127.0.0.1', 'KUBERNETES_SERVICE_PORT': str(applied.port)})
    try:
        def ready():
            assert process.poll() is None, log.read_text()
            if not (node / 'admin' / 'admin.sock').exists():
                return None
            found = chain_at(node / 'admin' / 'admin.sock')
            return found[0] if [plugin['state'] for plugin in found] == ['ready'] else None
        await_true(ready, f'the plugin ({log})')
        connection = peers.UnixConnection(node / 'run' / 'team-a' / 'agent.sock')
        connection.request('GET', '/v1/plugins?label=app=web')
        told = json.loads(connection.getresponse().read())['plugins'][0]
        connection.close()
        assert told['path'] == f"/modules/{told['sha256']}.wasm" and (kubelet_made / f"{told['sha256']}.wasm").read_bytes() == modules['small'].read_bytes()
        assert 'forbidden' not in log.read_text().lower()
    finally:
        process.terminate()
        assert process.wait(20) == 0, log.read_text()
