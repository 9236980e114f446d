"""tools/kubernetes on a real Kubernetes API: every object accepted as it stands, the service account's rights, and the daemon under that account, from an applied WasmPlugin to the file in its pod's folder."""
import copy
import json
import pathlib
import subprocess
import time

import pytest
import yaml

import kube
import peers
from layouts import oras_variant

pytestmark = pytest.mark.skipif(kube.missing() is not None, reason=str(kube.missing()))
FOLDER = peers.SOURCE / 'tools' / 'kubernetes'
ACCOUNT = 'system:serviceaccount:wasmcached-system:wasmcached'
LOGIN = ('puller', 'of-a-test')


@pytest.fixture(scope='module')
def cluster(work):
    one = kube.Cluster(work / 'kube')
    try:
        one.start()
        one.kubectl('apply', '--server-side', '-f', peers.PEERS / 'istio-crds.yaml')
        one.kubectl('wait', '--for=condition=Established', '--timeout=60s', 'crd/wasmplugins.extensions.istio.io', 'crd/trafficextensions.extensions.istio.io')
        yield one
    finally:
        one.stop()


def built(cluster, path):
    return list(yaml.safe_load_all(cluster.kubectl('kustomize', FOLDER / path)))


def await_true(check, what, seconds=60):
    end = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < end, f'{what} did not come about in {seconds} s'
        time.sleep(0.1)
    return value


@pytest.fixture(scope='module')
def applied(cluster):
    """The overlay and the example, as the README says. A dry run on the server first; namespaces have to be there for that."""
    for path in ('.', 'overlays/identity-pod', 'example'):
        cluster.apply(*[one for one in built(cluster, path) if one['kind'] == 'Namespace'])
        cluster.apply(*built(cluster, path))
        said = cluster.kubectl('apply', '--dry-run=server', '--validate=strict', '-f', '-', stdin=yaml.safe_dump_all(built(cluster, path)))
        assert said.count('(server dry run)') == len(built(cluster, path)), said
    return cluster


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
def agent(applied, modules, tmp_path, daemon):
    """The daemon with the rights of its pod, on node-a; the registry wants the login of the example's Secret."""
    manual = subprocess.run([peers.BUILD / 'wasmcached', '--print-manual'], capture_output=True, text=True, check=True).stdout
    if 'kubernetes.events' not in manual and 'events' not in manual.split('kubernetes', 1)[-1]:
        pytest.skip('this build does not read plugins from the Kubernetes API')
    folder = tmp_path / 'registry'
    folder.mkdir()
    opened = peers.docker_registry(folder)
    ref = f'{opened.host}/team/authz:v1'
    oras_variant(tmp_path, ref, modules['small'])
    oras_variant(tmp_path, f'{opened.host}/team/authz:v2', modules['small2'])
    opened.stop()
    (folder / 'htpasswd').write_text(subprocess.run(['htpasswd', '-Bbn', '-C', '4', *LOGIN], check=True, capture_output=True, text=True).stdout)
    registry = peers.docker_registry(folder, auth=f'auth: {{htpasswd: {{realm: t, path: "{folder / "htpasswd"}"}}}}\n', port=opened.port)
    token = applied.kubectl('create', 'token', 'wasmcached', '-n', 'wasmcached-system', '--duration', '1h').strip()
    config = applied.write_kubeconfig('wasmcached', token)
    secret = {'apiVersion': 'v1', 'kind': 'Secret', 'type': 'kubernetes.io/dockerconfigjson', 'metadata': {'name': 'registry-login', 'namespace': 'team-a'},
              'stringData': {'.dockerconfigjson': json.dumps(peers.docker_config(registry.host, ':'.join(LOGIN)))}}
    plugin = yaml.safe_load((FOLDER / 'example' / 'wasmplugin.yaml').read_text())
    plugin['spec']['url'] = f'oci://{ref}'
    applied.apply(secret, plugin)
    one = daemon(f'kubernetes: {{mode: kubeconfig, kubeconfig: {config}, node: node-a}}\npull: {{negative_time: 0s}}\n')
    yield one, plugin, secret
    registry.stop()


def chain(agent):
    connection = peers.UnixConnection(agent.folder / 'admin.sock')
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
    one, plugin, _ = agent
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
    one, _, _ = agent
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
