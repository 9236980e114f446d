"""tools/kubernetes without a cluster: every field known, names and labels agree, the least rights, and what the daemon itself says of the configurations and the example."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest
import yaml

import kube_schema
from e2e_daemon import DAEMON, SOURCE, await_true

FOLDER = pathlib.Path(SOURCE) / 'tools' / 'kubernetes'
FILES = sorted(path.relative_to(FOLDER) for path in FOLDER.rglob('*.yaml'))
CONFIGS = [path for path in FILES if path.name == 'config.yaml']
LABELS = {'app.kubernetes.io/name': 'wasmcached'}
UID = 60837


class Loader(yaml.SafeLoader):
    """The same key twice is an error, as the API server has it."""


def mapping(loader, node, deep=False):
    names = [loader.construct_object(key, deep=True) for key, _ in node.value]
    assert len(names) == len(set(names)), f'{node.start_mark}: {names}'
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


def objects(path):
    return list(yaml.load_all((FOLDER / path).read_text(), Loader))


def one(path, kind):
    found = [item for item in objects(path) if item['kind'] == kind]
    assert len(found) == 1, (path, kind)
    return found[0]


def config(path):
    return objects(path)[0]


DAEMONSET = one('base/daemonset.yaml', 'DaemonSet')
SPEC = DAEMONSET['spec']['template']['spec']
AGENT, = SPEC['containers']
PODS = {path: one(path, 'Pod')['spec'] for path in ('example/pod.yaml', 'example/pod-fixed.yaml')}


# ---- each file
@pytest.mark.parametrize('path', [path for path in FILES if path not in CONFIGS], ids=str)
def test_every_field(path):
    found = objects(path)
    assert found and [text for item in found for text in kube_schema.check_object(item)] == []


@pytest.mark.parametrize('wrong, said', [
    ({'hostPid': True}, '.hostPid: no such field'), ({'terminationGracePeriodSeconds': '15'}, "'15' is no int"), ({'volumes': [{'name': 'x', 'hostPath': {'path': 'relative', 'type': 'Directory'}}]}, "'relative' is not like"),
    ({'containers': []}, 'empty')])
def test_the_check_itself(wrong, said):
    broken = {**DAEMONSET, 'spec': {**DAEMONSET['spec'], 'template': {**DAEMONSET['spec']['template'], 'spec': {**SPEC, **wrong}}}}
    assert [text for text in kube_schema.check_object(broken) if said in text], kube_schema.check_object(broken)


def test_kustomizations_name_every_file():
    named = {pathlib.Path('example/pod-fixed.yaml'), pathlib.Path('example/stranger.yaml')}          # the other pod of the example, for the base; who is refused
    for path in FILES:
        if path.name != 'kustomization.yaml':
            continue
        made, = objects(path)
        listed = made['resources'] + [patch['path'] for patch in made.get('patches', [])] + [file for generator in made.get('configMapGenerator', []) for file in generator['files']]
        for name in listed:
            target = pathlib.Path(os.path.normpath(FOLDER / path.parent / name))
            assert target.exists(), (path, name)
            named.add((target / 'kustomization.yaml' if target.is_dir() else target).relative_to(FOLDER))
    roots = {'kustomization.yaml', 'overlays/identity-pod/kustomization.yaml', 'components/pod-monitor/kustomization.yaml', 'example/kustomization.yaml'}
    assert {str(path) for path in set(FILES) - named} == roots


# ---- what has to agree
def test_version_and_user():
    makefile = (pathlib.Path(SOURCE) / 'Makefile').read_text()
    version = re.search(r'^VERSION\s*:=\s*(\S+)', makefile, re.M)[1]
    for path in FILES:
        for image in re.findall(r'image: (wasmcached\S*)', (FOLDER / path).read_text()):
            assert image == f'wasmcached:{version}', path
    builder = (pathlib.Path(SOURCE) / 'tools/image/build').read_text()
    assert int(re.search(r'^UID = (\d+)', builder, re.M)[1]) == UID == SPEC['securityContext']['runAsUser'] == SPEC['securityContext']['runAsGroup']


def test_labels_and_selectors():
    assert DAEMONSET['spec']['selector']['matchLabels'] == DAEMONSET['spec']['template']['metadata']['labels'] == LABELS
    service, monitor = one('base/metrics.yaml', 'Service'), one('components/pod-monitor/podmonitor.yaml', 'PodMonitor')
    assert service['spec']['selector'] == monitor['spec']['selector']['matchLabels'] == LABELS
    port, = AGENT['ports']
    assert service['spec']['ports'][0]['targetPort'] == port['name'] == monitor['spec']['podMetricsEndpoints'][0]['port'] and service['spec']['ports'][0]['port'] == port['containerPort']
    for probe in ('startupProbe', 'readinessProbe', 'livenessProbe'):
        assert AGENT[probe]['httpGet']['port'] == port['name'] and AGENT[probe]['httpGet']['path'] == ('/readyz' if probe == 'readinessProbe' else '/healthz')


def test_accounts_and_bindings():
    account = one('base/rbac.yaml', 'ServiceAccount')['metadata']
    assert SPEC['serviceAccountName'] == account['name'] and account['namespace'] == DAEMONSET['metadata']['namespace'] == one('base/namespace.yaml', 'Namespace')['metadata']['name']
    for path, role, binding in (('base/rbac.yaml', 'ClusterRole', 'ClusterRoleBinding'), ('overlays/identity-pod/rbac.yaml', 'ClusterRole', 'ClusterRoleBinding'), ('example/secret.yaml', 'Role', 'RoleBinding')):
        bound = one(path, binding)
        assert (bound['roleRef']['kind'], bound['roleRef']['name']) == (role, one(path, role)['metadata']['name'])
        assert bound['subjects'] == [{'kind': 'ServiceAccount', 'name': account['name'], 'namespace': account['namespace']}]


@pytest.mark.parametrize('path', CONFIGS, ids=str)
def test_config_and_mounts(path):
    """Paths of the configuration lie on the mounts that are meant for them; what other pods mount has no admin socket in it."""
    settings, mounts = config(path), {mount['mountPath']: mount['name'] for mount in AGENT['volumeMounts']}
    volumes = {volume['name']: volume for volume in SPEC['volumes']}
    assert mounts['/run/wasmcached'] == 'run' and mounts[settings['store']['root']] == 'store' and 'emptyDir' in volumes[mounts[os.path.dirname(settings['admin']['path'])]]
    assert volumes['modules']['hostPath']['path'] == volumes['store']['hostPath']['path'] + '/modules' and volumes['store']['hostPath']['path'] == settings['store']['root']
    assert int(settings['metrics']['address'].rsplit(':', 1)[1]) == AGENT['ports'][0]['containerPort']
    assert AGENT['args'] == ['--config', '/etc/wasmcached/config.yaml'] and mounts['/etc/wasmcached'] == 'config'
    assert {'name': 'WASMCACHED_SOCKET', 'value': settings['admin']['path']} in AGENT['env'] and {'name': 'NODE_NAME', 'valueFrom': {'fieldRef': {'fieldPath': 'spec.nodeName'}}} in AGENT['env']
    for listener in settings['listeners']:
        assert listener['path'].startswith('/run/wasmcached/') and listener['module_dir'] == '/modules'


@pytest.mark.parametrize('path', CONFIGS, ids=str)
def test_the_daemon_takes_the_config(path, tmp_path):
    """As a ConfigMap is mounted: a link to a link."""
    (tmp_path / '..2026').mkdir()
    shutil.copy(FOLDER / path, tmp_path / '..2026' / 'config.yaml')
    (tmp_path / '..data').symlink_to('..2026')
    (tmp_path / 'config.yaml').symlink_to('..data/config.yaml')
    ran = subprocess.run([DAEMON, '--check-config', '--config', tmp_path / 'config.yaml'], capture_output=True, text=True, check=False, env={**os.environ, 'NODE_NAME': 'node-a.example'})
    assert ran.returncode == 0, ran.stderr


# ---- rights
def test_rights_of_the_containers():
    """The exceptions are the first containers, which give the folders away."""
    for first, rights in zip(SPEC['initContainers'], (['CHOWN', 'FOWNER', 'FSETID'], ['CHOWN']), strict=True):
        assert first['securityContext'] == {'runAsNonRoot': False, 'runAsUser': 0, 'runAsGroup': 0, 'allowPrivilegeEscalation': False, 'readOnlyRootFilesystem': True, 'capabilities': {'drop': ['ALL'], 'add': rights}}
    for container in (AGENT, *[container for pod in PODS.values() for container in pod['initContainers'] + pod['containers']]):
        rights = container['securityContext']
        assert not rights['allowPrivilegeEscalation'] and rights['readOnlyRootFilesystem'] and rights['capabilities'] == {'drop': ['ALL']}, container['name']
    for pod in (SPEC, *PODS.values()):
        assert pod['securityContext']['runAsNonRoot'] and pod['securityContext']['seccompProfile'] == {'type': 'RuntimeDefault'}
    assert 'hostPID' not in SPEC
    patch = one('overlays/identity-pod/daemonset.yaml', 'DaemonSet')
    assert patch['spec'] == {'template': {'spec': {'hostPID': True}}} and patch['metadata'] == {name: DAEMONSET['metadata'][name] for name in ('name', 'namespace')}
    assert (SPEC['priorityClassName'], DAEMONSET['spec']['updateStrategy']['rollingUpdate']['maxSurge']) == ('system-node-critical', 0)


# Right → where it is asked for: (file, text in it).
ASKED = {
    ('extensions.istio.io', 'wasmplugins', 'list,watch'): ('agent/kube/watch.c', 'timeoutSeconds'),
    ('extensions.istio.io', 'trafficextensions', 'list,watch'): ('agent/kube/watch.c', 'timeoutSeconds'),
    ('', 'pods', 'list,watch'): ('agent/kube/watch.c', 'fieldSelector'),
    ('events.k8s.io', 'events', 'create,patch'): ('agent/kube/events.c', '"PATCH"'),
    ('authentication.k8s.io', 'tokenreviews', 'create'): ('agent/kube/review.c', '/apis/authentication.k8s.io/v1/tokenreviews'),
    ('', 'secrets', 'get'): ('agent/kube/secret.c', '/api/v1/namespaces/%s/secrets/%s'),
}


def granted(path, kind):
    return {(group, resource, ','.join(rule['verbs'])) for rule in one(path, kind)['rules'] for group in rule['apiGroups'] for resource in rule['resources']}


def test_roles_give_what_the_code_asks_for():
    base, identity, tenant = granted('base/rbac.yaml', 'ClusterRole'), granted('overlays/identity-pod/rbac.yaml', 'ClusterRole'), granted('example/secret.yaml', 'Role')
    assert base | identity | tenant == set(ASKED)
    assert {resource for _, resource, _ in identity} == {'tokenreviews'} and {resource for _, resource, _ in tenant} == {'secrets'}
    for file, text in ASKED.values():
        assert text in (pathlib.Path(SOURCE) / file).read_text(), (file, text)
    # And nothing else is asked for: every path of the API that the sources name.
    named = set()
    for file in (pathlib.Path(SOURCE) / 'agent').rglob('*.c'):
        named |= set(re.findall(r'"/apis?/[^"]*', file.read_text()))
    assert named <= {'"/apis/events.k8s.io/v1/namespaces/%s/events', '"/apis/authentication.k8s.io/v1/tokenreviews', '"/api/v1/namespaces/%s/secrets/%s', '"/apis/%s/%s'}, named
    assert [rule['resourceNames'] for rule in one('example/secret.yaml', 'Role')['rules']] == [['registry-login']]


# ---- the example
@pytest.mark.parametrize('path', PODS)
def test_pods_mount_their_own_folder_only(path):
    pod = PODS[path]
    overlay, base = config('overlays/identity-pod/config.yaml'), config('base/config.yaml')
    volumes = {volume['name']: volume['hostPath']['path'] for volume in pod['volumes']}
    for container in pod['initContainers'] + pod['containers']:
        mounts = {mount['mountPath']: mount for mount in container['volumeMounts']}
        assert set(mounts) == {'/modules', '/run/wasmcached'} and all(mount['readOnly'] for mount in mounts.values())
        assert mounts['/modules']['subPathExpr'] == '$(POD_NAMESPACE)' and volumes[mounts['/modules']['name']] == '/var/lib/wasmcached/modules'
        assert container['env'][0] == {'name': 'POD_NAMESPACE', 'valueFrom': {'fieldRef': {'fieldPath': 'metadata.namespace'}}}
        assert volumes[mounts['/run/wasmcached']['name']] == '/run/wasmcached'
        environment = {item['name']: item.get('value') for item in container['env']}
        is_fixed = path.endswith('pod-fixed.yaml')
        namespace = one(path, 'Pod')['metadata']['namespace']
        on_node = environment['WASMCACHED_SOCKET'].replace('/run/wasmcached', '/run/wasmcached/' + namespace) if is_fixed else environment['WASMCACHED_SOCKET']
        assert mounts['/run/wasmcached'].get('subPathExpr') == ('$(POD_NAMESPACE)' if is_fixed else None)
        listener, = [listener for listener in (base if is_fixed else overlay)['listeners'] if listener['path'] == on_node]
        assert (listener['identity'], listener.get('namespace')) == (('fixed', namespace) if is_fixed else ('pod', None))
        assert environment['WASMCACHED_PATIENCE'] == '60s'


def test_example_hangs_together():
    plugin, secret, role, pod = one('example/wasmplugin.yaml', 'WasmPlugin'), one('example/secret.yaml', 'Secret'), one('example/secret.yaml', 'Role'), one('example/pod.yaml', 'Pod')
    namespace = one('example/namespace.yaml', 'Namespace')['metadata']['name']
    assert {item['metadata']['namespace'] for item in (plugin, secret, role, pod)} == {namespace}
    assert plugin['spec']['imagePullSecret'] == secret['metadata']['name'] == role['rules'][0]['resourceNames'][0]
    assert plugin['spec']['selector']['matchLabels'].items() <= pod['metadata']['labels'].items()
    assert pod['spec']['initContainers'][0]['command'][1:] == ['get', plugin['spec']['url'], '--secret', secret['metadata']['name']]
    assert list(json.loads(secret['stringData']['.dockerconfigjson'])['auths']) == [plugin['spec']['url'].split('/')[2]]


def test_the_daemon_reads_the_example(make_daemon):
    """The same files as manifests, without a cluster: accepted without a problem, and in the chain of the pod."""
    daemon = make_daemon(start=False)
    folder = pathlib.Path(daemon.folder) / 'manifests'
    folder.mkdir()
    for name in ('wasmplugin.yaml', 'pod.yaml'):
        shutil.copy(FOLDER / 'example' / name, folder)
    (folder / 'secret.yaml').write_text(yaml.safe_dump(one('example/secret.yaml', 'Secret')))
    daemon.configure(manifests=str(folder), network={'block': ['0.0.0.0/0', '::/0']})
    daemon.start()
    await_true(lambda: daemon.ask('GET', '/readyz', to='admin').status == 200, 30, 'the reading of the folder')
    read = daemon.ask('GET', '/v1/resources', to='admin').json['resources']
    assert [(item['kind'], item['namespace'], item['name'], item['state'], item['problems']) for item in read] == [('WasmPlugin', 'team-a', 'authz', 'accepted', [])]
    chain = daemon.ask('GET', '/v1/plugins?namespace=team-a&label=app=web', to='admin').json['plugins']
    assert [(plugin['name'], plugin['phase']) for plugin in chain] == [('authz', 'AUTHZ')]


def test_readme():
    """What its section names is there, with the same numbers."""
    section = re.search(r'## Running as a DaemonSet\n(.*?)\n## ', (pathlib.Path(SOURCE) / 'README.md').read_text(), re.S)[1]
    for path in re.findall(r'tools/(?:kubernetes|image)[A-Za-z0-9/.-]*', section):
        assert (pathlib.Path(SOURCE) / path).exists(), path
    for path in re.findall(r'`((?:example|components)/[a-z.-]+)`', section):
        assert (FOLDER / path).exists(), path
    first, _ = SPEC['initContainers']
    for text in (str(UID), '2775', str(AGENT['ports'][0]['containerPort']), *first['securityContext']['capabilities']['add'], AGENT['resources']['requests']['memory'], SPEC['priorityClassName'], 'WASMCACHED_PATIENCE'):
        assert text in section, text


# ---- by the real tools, where they are
@pytest.mark.skipif(not shutil.which('kubectl'), reason='kubectl is not installed')
@pytest.mark.parametrize('path, host_pid', [('.', None), ('overlays/identity-pod', True)])
def test_kustomize(path, host_pid):
    built = subprocess.run(['kubectl', 'kustomize', FOLDER / path], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    made = list(yaml.load_all(built.stdout, Loader))
    daemonset, = [item for item in made if item['kind'] == 'DaemonSet']
    maps = [item for item in made if item['kind'] == 'ConfigMap']
    assert daemonset['spec']['template']['spec'].get('hostPID') == host_pid
    assert len(maps) == 1 and re.fullmatch(r'wasmcached-[a-z0-9]{10}', maps[0]['metadata']['name'])
    assert maps[0]['data']['config.yaml'] == (FOLDER / ('base' if path == '.' else path) / 'config.yaml').read_text()
    volume, = [volume for volume in daemonset['spec']['template']['spec']['volumes'] if volume['name'] == 'config']
    assert volume['configMap']['name'] == maps[0]['metadata']['name']
    assert [text for item in made if item['kind'] != 'ConfigMap' for text in kube_schema.check_object(item)] == []
    names = [(item['kind'], item['metadata'].get('namespace'), item['metadata']['name']) for item in made]
    assert len(names) == len(set(names))


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which('setpriv'), reason='needs root, to act as the first container')
@pytest.mark.parametrize('before', [(0, 0o755), (UID, 0o2755), (1234, 0o700)])
def test_first_containers(before):
    """Their commands with their capabilities and no other, over folders as a kubelet makes them, as the daemon leaves them, and as somebody else left them; and what a kubelet made in them before that."""
    first, second = SPEC['initContainers']
    with tempfile.TemporaryDirectory() as folder:
        mounts = {}
        for mount in first['volumeMounts']:
            mounts[mount['mountPath']] = path = os.path.join(folder, os.path.basename(mount['mountPath']))
            os.mkdir(path)
            early, ours, link = os.path.join(path, 'team-a'), os.path.join(path, 'module'), os.path.join(path, 'link')
            os.mkdir(early, 0o755)
            os.symlink('/', link)
            os.close(os.open(ours, os.O_CREAT, 0o444))
            os.chown(ours, UID, UID)
            os.chown(path, before[0], before[0])
            os.chmod(path, before[1])
        changed = {path: os.stat(os.path.join(path, 'module')).st_ctime_ns for path in mounts.values()}
        assert {mount['mountPath'] for mount in second['volumeMounts']} == set(mounts) - {'/node/store'}          # it may hold a lost+found
        for container in (first, second):
            command = [mounts.get(word, word) for word in container['command']]
            assert set(command) & set(mounts.values()) == {mounts[mount['mountPath']] for mount in container['volumeMounts']}
            capabilities = '-all,' + ','.join('+' + name.lower() for name in container['securityContext']['capabilities']['add'])
            subprocess.run(['setpriv', '--bounding-set', capabilities, '--inh-caps', '-all', '--no-new-privs', '--clear-groups', *command], check=True)
        for place, path in mounts.items():
            status, early = os.stat(path), os.stat(os.path.join(path, 'team-a'))
            assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (UID, UID, 0o2775)
            assert (early.st_uid, early.st_gid) == ((0, 0) if place == '/node/store' else (UID, UID)) and early.st_mode & 0o7777 == 0o755
            assert os.stat(os.path.join(path, 'module')).st_ctime_ns == changed[path]          # a module's file is the same one to the daemon
        assert os.stat('/').st_uid == 0
