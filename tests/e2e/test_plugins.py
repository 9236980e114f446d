"""WasmPlugins from a folder of manifests: chains, states, and how files come, change and break."""
import os
import re
import time

import pytest

import signing
from conftest import PASSWORD
from e2e_daemon import await_true
from e2e_images import body_of, hexes, push, unique, wasm
from e2e_plugins import Folder, events, plugin, pod, secret
from e2e_servers import Registry, TokenServer, docker_config, run
from e2e_sign import Key, Signed

MEMBERS = ['kind', 'namespace', 'name', 'resourceVersion', 'phase', 'priority', 'type', 'match', 'pluginName', 'pluginConfig', 'env', 'failStrategy', 'url', 'sha256', 'digest',
           'path', 'state', 'code', 'detail', 'problems']


# ---- one plugin from file to path ----
def test_every_field(registry, folder):
    repository, digest, module = push(registry)
    folder.put('a.yaml', plugin('authz', url=registry.ref(repository), phase='AUTHZ', priority=7, pluginName='n', pluginConfig={'a': [1, {'b': None}]}, failStrategy='FAIL_OPEN',
                                match=[{'mode': 'SERVER', 'ports': [{'number': 80}]}], vmConfig={'env': [{'name': 'A', 'value': 'x'}, {'name': 'B', 'valueFrom': 'HOST'}]}))
    entry = folder.await_state('authz', 'ready', to='team')
    assert list(entry) == MEMBERS
    assert re.fullmatch('[0-9a-f]{16}', entry.pop('resourceVersion'))
    assert entry == {
        'kind': 'WasmPlugin', 'namespace': 'team-a', 'name': 'authz', 'phase': 'AUTHZ', 'priority': 7, 'type': 'HTTP', 'match': [{'mode': 'SERVER', 'ports': [{'number': 80}]}],
        'pluginName': 'n', 'pluginConfig': {'a': [1, {'b': None}]}, 'env': [{'name': 'A', 'value': 'x'}, {'name': 'B', 'valueFrom': 'HOST'}], 'failStrategy': 'FAIL_OPEN',
        'url': registry.ref(repository), 'sha256': hexes(module), 'digest': digest, 'path': f'/seen/team-a/here/{hexes(module)}.wasm', 'state': 'ready', 'code': None, 'detail': None,
        'problems': []}
    # each listener's callers see the folder where it is for them
    there = folder.entry('authz')['path']
    assert there == os.path.join(folder.daemon.store, 'modules', 'team-a', hexes(module) + '.wasm') and body_of(there) == module
    assert folder.chain(namespace='team-b') == []
    assert 'since' in folder.entry('authz', times='1')
    assert folder.resources() == [{'kind': 'WasmPlugin', 'namespace': 'team-a', 'name': 'authz', 'source': 'a.yaml', 'state': 'accepted', 'problems': []}]


def test_change_break_repair(registry, folder):
    first, second = (push(registry, repository=unique()) for _ in range(2))
    folder.put('a.yaml', plugin('p', url=registry.ref(first[0])))
    before = folder.await_state('p', 'ready')
    folder.put('a.yaml', plugin('p', url=registry.ref(second[0])))
    after = await_true(lambda: (entry := folder.entry('p'))['sha256'] == hexes(second[2]) and entry, 20)
    assert after['state'] == 'ready' and after['resourceVersion'] != before['resourceVersion']
    # a source that is not there: the plugin is failed, and names why
    folder.put('a.yaml', plugin('p', url=registry.ref(unique('absent'))))
    failed = folder.await_state('p', 'failed')
    assert failed['code'] == 'not_found' and failed['detail'] and failed['path'] is None and failed['sha256'] is None
    # a field that is wrong: refused, keeps its place
    folder.put('a.yaml', plugin('p', url=registry.ref(first[0]), phase='AUTHZ', failStrategy='SOMETIMES'))
    refused = folder.await_state('p', 'refused')
    assert refused['phase'] == 'AUTHZ' and [problem['field'] for problem in refused['problems']] == ['spec.failStrategy'] and refused['code'] == 'bad_request'
    assert folder.row('p')['state'] == 'refused'
    folder.put('a.yaml', plugin('p', url=registry.ref(first[0])))
    assert folder.await_state('p', 'ready')['sha256'] == hexes(first[2])
    folder.remove('a.yaml')
    await_true(lambda: folder.names() == [], 20)
    assert [event['detail'] for event in events(folder.daemon, 'resource_refused')][0].startswith('WasmPlugin team-a/p: spec.failStrategy: ')
    assert events(folder.daemon, 'resource_accepted') and events(folder.daemon, 'plugin_refused') and events(folder.daemon, 'plugin_pulled')
    for name in ('plugins', 'plugin_resources', 'plugin_pulls_total'):
        assert f'wasmcached_{name}' in folder.daemon.ask('GET', '/metrics', to='admin').body.decode()


@pytest.mark.alone
def test_recovers_when_the_resource_changes(registry, folder):
    """A failure is tried again after 10 s and more; a new version of the resource at once, whatever was remembered."""
    folder.daemon.configure(pull={'negative_time': '5m'})
    folder.daemon.restart()
    repository = unique('late')
    folder.put('a.yaml', plugin('p', url=registry.ref(repository)))
    folder.await_state('p', 'failed')
    push(registry, repository=repository)
    folder.put('a.yaml', plugin('p', url=registry.ref(repository), priority=1))
    began = time.monotonic()
    folder.await_state('p', 'ready', 60)
    assert time.monotonic() - began < 9
    assert events(folder.daemon, 'plugin_recovered')


def test_failed_refresh_keeps_what_was_there(start_server, folder):
    server = start_server(Registry)
    repository, _, module = push(server)
    folder.put('a.yaml', plugin('p', url=server.ref(repository), imagePullPolicy='Always'))
    folder.await_state('p', 'ready')
    server.stop()
    folder.put('a.yaml', plugin('p', url=server.ref(repository), imagePullPolicy='Always', priority=3))
    entry = await_true(lambda: (entry := folder.entry('p'))['code'] and entry, 30)
    assert (entry['state'], entry['code'], entry['priority'], entry['sha256']) == ('ready', 'upstream_unreachable', 3, hexes(module))
    assert body_of(entry['path']) == module


def test_restart_needs_no_network(start_server, folder):
    server = start_server(Registry)
    repositories = [push(server)[0] for _ in range(5)]
    folder.put('a.yaml', *(plugin(f'p{i}', url=server.ref(name), priority=i, imagePullPolicy='Always') for i, name in enumerate(repositories)), pod('x'))
    for i in range(5):
        folder.await_state(f'p{i}', 'ready')
    before, etag = folder.chain(), folder.ask(namespace='team-a').headers['etag']
    server.stop()
    folder.daemon.restart()
    await_true(lambda: folder.ask(namespace='team-a').status == 200, 20)
    await_true(lambda: folder.chain() == before, 20)
    assert folder.ask(namespace='team-a').headers['etag'] == etag


def test_crash_gives_the_same_chain(registry, folder):
    import signal
    folder.put('a.yaml', *(plugin(f'p{i}', url=registry.ref(push(registry)[0]), priority=i) for i in range(3)), pod('x'))
    for i in range(3):
        folder.await_state(f'p{i}', 'ready')
    before, asked = folder.chain(), len(registry.requests())
    folder.daemon.restart(signal.SIGKILL)
    await_true(lambda: folder.ask(namespace='team-a').status == 200 and folder.chain() == before, 20)
    assert all(os.path.exists(entry['path']) for entry in before) and len(registry.requests()) == asked


def test_rules_of_the_node_change(registry, folder, authority):
    """A reload that demands signatures takes away what has none, and gives it back."""
    repository, _, _ = push(registry)
    folder.put('a.yaml', plugin('p', url=registry.ref(repository)), pod('x'))
    folder.await_state('p', 'ready')
    public = os.path.join(folder.daemon.folder, 'key.pub')
    with open(public, 'wb') as stream:
        stream.write(run('openssl', 'x509', '-in', authority.ca, '-noout', '-pubkey'))
    folder.daemon.configure(trust={'require': [{'match': f'{registry.host}/*', 'keys': [public]}]})
    assert folder.daemon.ask('POST', '/v1/reload', {}, to='admin').status == 200
    failed = folder.await_state('p', 'failed')
    assert failed['code'] == 'signature_missing' and failed['path'] is None
    folder.daemon.configure(trust={'require': []})
    assert folder.daemon.ask('POST', '/v1/reload', {}, to='admin').status == 200
    assert folder.await_state('p', 'ready')['code'] is None


def test_key_of_a_plugin_changes(registry, folder, tmp_path):
    """Every plugin is held to its own key, whatever others of the same image are; another key is judged anew."""
    key, other, image = Key(str(tmp_path), 'K'), Key(str(tmp_path), 'K2'), Signed(registry)
    image.sign(signing.sign_simple, key)
    certificate = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n'
    folder.put('a.yaml', plugin('held', url=image.url, verificationKey=key.pem), plugin('bare', url=image.url), plugin('p', url=image.url, verificationKey=key.pem),
               plugin('wrong', url=image.url, verificationKey=certificate), pod('x'))
    held = folder.await_state('held', 'ready')
    assert folder.await_state('p', 'ready')['path'] == folder.await_state('bare', 'ready')['path'] == held['path']
    wrong = folder.entry('wrong')
    assert (wrong['state'], wrong['code'], wrong['path']) == ('refused', 'bad_key', None) and 'spec.verificationKey' in wrong['detail'] and 'openssl x509 -pubkey' in wrong['detail']
    for pem, state, code in ((other.pem, 'failed', 'signature_invalid'), (other.pem + key.pem, 'ready', None), (other.pem, 'failed', 'signature_invalid'), ('', 'ready', None)):
        folder.put('b.yaml', plugin('q', url=image.url, verificationKey=pem))
        entry = folder.await_state('q', state)
        assert (entry['code'], entry['path']) == (code, held['path'] if state == 'ready' else None)
        assert folder.entry('held') == held and os.path.exists(held['path'])


def test_a_slow_source_holds_up_nobody_else(registry, folder):
    """A server that accepts and says nothing: plugins of it wait, others do not."""
    import socket
    with socket.create_server(('127.0.0.1', 0), backlog=512) as silent:
        host = f'127.0.0.1:{silent.getsockname()[1]}'
        folder.put('a.yaml', pod('x'), *(plugin(f'slow{i}', url=f'oci://{host}/slow{i}:v1') for i in range(200)))
        folder.await_row('slow199', 'accepted')
        folder.put('b.yaml', plugin('quick', url=registry.ref(push(registry)[0])))
        folder.await_state('quick', 'ready', 10)
        assert folder.entry('slow0')['state'] in ('pulling', 'failed')


# ---- order and selection ----
def test_order_root_namespace_and_labels(registry, folder):
    url = registry.ref(push(registry)[0])
    folder.put('a.yaml', plugin('late', url=url), plugin('stats', url=url, phase='STATS'), plugin('low', url=url, phase='AUTHZ', priority=-5), plugin('high', url=url, phase='AUTHZ', priority=5),
               plugin('authn', url=url, phase='AUTHN'), plugin('web', url=url, phase='AUTHN', selector={'matchLabels': {'app': 'web'}}), plugin('elsewhere', 'team-b', url=url))
    folder.put('b.yaml', plugin('everywhere', 'istio-system', url=url, phase='AUTHZ', priority=1), plugin('extension', kind='TrafficExtension', phase='AUTHZ', wasm={'url': url}),
               plugin('lua', kind='TrafficExtension', lua={'inlineCode': 'x'}))
    await_true(lambda: folder.names() == ['authn', 'high', 'everywhere', 'extension', 'low', 'stats', 'late'], 20)
    assert folder.names(label=['app=web', 'x=y']) == ['authn', 'web', 'high', 'everywhere', 'extension', 'low', 'stats', 'late']
    assert folder.names(to='team', label='app=web')[1] == 'web'
    assert folder.names(namespace='team-b') == ['everywhere', 'elsewhere']
    assert folder.names(namespace='istio-system') == ['everywhere']
    # the root's plugin has its file in the folder of whoever runs it
    ready = folder.await_state('everywhere', 'ready', namespace='team-b')
    assert '/modules/team-b/' in ready['path'] and os.path.exists(ready['path'])
    assert folder.row('lua')['state'] == 'ignored'
    folder.daemon.configure(kubernetes={'root_namespace': 'team-b'})
    folder.daemon.restart()
    await_true(lambda: folder.ask(namespace='team-a').status == 200, 20)
    assert 'elsewhere' in folder.names() and 'everywhere' not in folder.names()


def test_traffic_and_services(registry, folder):
    url = registry.ref(push(registry)[0])
    folder.put('a.yaml', plugin('server', url=url, match=[{'mode': 'SERVER'}]), plugin('port', url=url, match=[{'ports': [{'number': 8080}]}]), plugin('net', url=url, type='NETWORK'),
               plugin('svc', url=url, targetRefs=[{'group': '', 'kind': 'Service', 'name': 's'}]))
    await_true(lambda: folder.names() == ['net', 'port', 'server'], 20)
    assert folder.names(direction='inbound') == ['net', 'server']
    assert folder.names(direction='outbound', port='8080') == ['net', 'port']
    assert folder.names(type='HTTP', port='8080') == ['port', 'server']
    waypoint = ['gateway.networking.k8s.io/gateway-name=w', 'gateway.istio.io/managed=istio.io-mesh-controller']
    assert folder.names(label=waypoint, service='team-a/s') == ['svc'] and folder.names(label=waypoint) == []


# ---- pulled ahead, let go ----
def test_pulled_ahead_for_pods(registry, folder):
    wanted, other = push(registry), push(registry)
    folder.put('a.yaml', pod('web', app='web'), plugin('web', url=registry.ref(wanted[0]), selector={'matchLabels': {'app': 'web'}}),
               plugin('db', url=registry.ref(other[0]), selector={'matchLabels': {'app': 'db'}}))
    daemon = folder.daemon
    here = lambda: {module['sha256'] for module in daemon.ask('GET', '/v1/modules', to='admin').json['modules']}  # noqa: E731
    await_true(lambda: hexes(wanted[2]) in here(), 20)
    assert hexes(other[2]) not in here()
    link = os.path.join(daemon.store, 'modules', 'team-a', hexes(wanted[2]) + '.wasm')
    assert body_of(link) == wanted[2]
    daemon.ask('POST', '/v1/gc', {}, to='admin')
    assert os.path.exists(link)
    # nobody names it any more: the link goes
    folder.remove('a.yaml')
    await_true(lambda: not os.path.exists(link), 30)
    daemon.configure(pull={'ahead': False})
    assert daemon.ask('POST', '/v1/reload', {}, to='admin').status == 200
    third = push(registry)
    folder.put('a.yaml', pod('web', app='web'), plugin('late', url=registry.ref(third[0])))
    folder.await_row('late', 'accepted')
    time.sleep(0.5)
    assert hexes(third[2]) not in here()
    folder.await_state('late', 'ready')


def test_lease_is_renewed(registry, folder):
    folder.daemon.configure(store={'lease_time': '1s'})
    folder.daemon.restart()
    folder.put('a.yaml', pod('web'), plugin('p', url=registry.ref(push(registry)[0])))
    path = folder.await_state('p', 'ready')['path']
    for _ in range(30):
        time.sleep(0.1)
        assert os.path.exists(path) and folder.entry('p')['state'] == 'ready'


def test_damaged_module_is_pulled_again(registry, folder):
    repository, _, module = push(registry)
    folder.put('a.yaml', plugin('p', url=registry.ref(repository)), pod('x'))
    path = folder.await_state('p', 'ready')['path']
    blob = os.path.join(folder.daemon.store, 'blobs')
    blob = next(os.path.join(root, name) for root, _, names in os.walk(blob) for name in names if hexes(module) in name)
    os.chmod(blob, 0o644)
    with open(blob, 'r+b') as stream:
        stream.write(b'damaged')
    folder.daemon.ask('POST', '/v1/verify', {}, to='admin')
    await_true(lambda: os.path.exists(path) and body_of(path) == module and folder.entry('p')['state'] == 'ready', 30)


# ---- files ----
def test_before_the_first_reading(make_daemon, registry):
    """A folder that is not there: 503, never an empty chain; then it appears."""
    daemon = make_daemon(start=False)
    missing = os.path.join(daemon.folder, 'later')
    daemon.configure(manifests=missing)
    daemon.start()
    answer = daemon.ask('GET', '/v1/plugins')
    assert (answer.status, answer.code) == (503, 'busy') and int(answer.headers['retry-after']) >= 1 and missing in answer.json['detail']
    ready = daemon.ask('GET', '/readyz')
    assert ready.status == 503 and missing.encode() in ready.body
    assert daemon.ask('GET', '/v1/resources', to='admin').json['resources'][0]['kind'] == 'File'
    os.mkdir(missing)
    await_true(lambda: daemon.ask('GET', '/v1/plugins').status == 200, 20)
    assert daemon.ask('GET', '/readyz').status == 200 and daemon.ask('GET', '/v1/resources', to='admin').json['resources'] == []
    # it goes away: what it gave stays
    files = Folder(daemon)
    files.path = missing
    files.put('a.yaml', plugin('p', url=registry.ref(push(registry)[0])))
    files.await_state('p', 'ready')
    os.rename(missing, missing + '.gone')
    await_true(lambda: files.row(missing), 20)
    assert files.names() == ['p']
    os.rename(missing + '.gone', missing)
    await_true(lambda: not files.row(missing), 20)
    files.put('b.yaml', plugin('q', url='r.example/q'))
    await_true(lambda: files.names() == ['p', 'q'], 20)


def test_no_folder_is_no_plugins(daemon):
    assert daemon.ask('GET', '/v1/plugins').json == {'plugins': []} and daemon.ask('GET', '/v1/resources', to='admin').json == {'resources': []}


def test_broken_file_keeps_what_it_gave(folder):
    folder.put('a.yaml', plugin('a', url='r.example/a'))
    folder.put('b.yaml', plugin('b', url='r.example/b'))
    await_true(lambda: folder.names() == ['a', 'b'], 20)
    folder.put('a.yaml', text='apiVersion: v1\nkind: {\n')
    row = folder.await_row('a.yaml', 'refused')
    assert row['kind'] == 'File' and row['source'] == 'a.yaml' and re.fullmatch(r'line \d+', row['problems'][0]['field']) and row['problems'][0]['detail']
    folder.put('b.yaml', plugin('b', url='r.example/b'), plugin('b2', url='r.example/b'))
    await_true(lambda: folder.names() == ['a', 'b', 'b2'], 20)
    assert 'a.yaml' in events(folder.daemon, 'resource_refused')[0]['detail'] and 'a.yaml' in folder.daemon.told()
    folder.put('a.yaml', plugin('a3', url='r.example/a'))
    await_true(lambda: folder.names() == ['a3', 'b', 'b2'], 20)
    assert folder.row('a.yaml') is None


@pytest.mark.parametrize('text', ['a: &x 1\n', '- *x\n', 'a: 1\na: 2\n', '\x01', 'a: !!python/object:os.system x\n', '{' * 200, '"\\xff', 'a: b: c', '--- a\n... b'])
def test_hostile_text(folder, text):
    folder.put('bad.yaml', text=text)
    folder.put('good.yml', plugin('good', url='r.example/a'))
    folder.await_row('bad.yaml', 'refused')
    await_true(lambda: folder.names() == ['good'], 20)


def test_objects_of_other_kinds(folder):
    folder.put('a.yaml', text='''apiVersion: v1
kind: ConfigMap
metadata: {name: x}
---
only text
---
# nothing
---
apiVersion: v1
kind: List
extra: 1
items:
- {apiVersion: extensions.istio.io/v1alpha1, kind: WasmPlugin, metadata: {name: q, namespace: team-a}, spec: {url: r.example/a}}
- {apiVersion: v1, kind: List, items: []}
- {apiVersion: extensions.istio.io/v1alpha1, kind: WasmPlugin, metadata: {name: r}, spec: {url: r.example/a, urk: 1}}
---
kind: WasmPlugin
metadata: {name: s}
''')
    await_true(lambda: folder.names() == ['q'], 20)
    problems = {problem['field']: problem['detail'] for problem in folder.row('a.yaml')['problems']}
    assert list(problems) == ['line 1', 'line 5', 'line 9', 'line 14', 'line 17']
    assert 'ConfigMap' in problems['line 1'] and 'apiVersion' in problems['line 5'] and 'extra' in problems['line 9'] and 'List' in problems['line 14'] and 'apiVersion' in problems['line 17']
    assert folder.row('r')['namespace'] == 'default' and 'spec.urk' in str(folder.row('r')['problems'])
    assert folder.names(namespace='default') == ['r']


def test_names_of_files(folder):
    """Hidden files, editors' left-overs, folders, other suffixes and pipes are not read; a pipe of ours is refused without hanging."""
    for name in ('.hidden.yaml', 'a.yaml~', '#b.yaml#', 'c.yaml.swp', 'd.txt', 'e.json', 'yaml'):
        with open(os.path.join(folder.path, name), 'w', encoding='utf-8') as stream:
            stream.write('{')
    os.mkdir(os.path.join(folder.path, 'folder.yaml'))
    os.mkfifo(os.path.join(folder.path, 'pipe.yaml'))
    os.symlink('nowhere', os.path.join(folder.path, 'dangling.yaml'))
    folder.put('z.yaml', plugin('z', url='r.example/a'))
    await_true(lambda: folder.names() == ['z'], 20)
    assert [row['name'] for row in folder.resources() if row['kind'] == 'File'] == ['pipe.yaml']
    with open(os.path.join(folder.path, 'large.yaml'), 'wb') as stream:
        stream.truncate((4 << 20) + 1)
    folder.await_row('large.yaml', 'refused')


def test_written_in_place_link_and_rename(folder):
    with open(os.path.join(folder.path, 'a.yaml'), 'w', encoding='utf-8') as stream:
        import yaml
        stream.write(yaml.safe_dump(plugin('p', url='r.example/a')))
    await_true(lambda: folder.names() == ['p'], 20)
    os.rename(os.path.join(folder.path, 'a.yaml'), os.path.join(folder.path, 'b.yaml'))
    await_true(lambda: (folder.row('p') or {}).get('source') == 'b.yaml', 20)
    outside = os.path.join(folder.daemon.folder, 'outside.yaml')
    with open(outside, 'w', encoding='utf-8') as stream:
        stream.write(yaml.safe_dump(plugin('q', url='r.example/a')))
    os.symlink(outside, os.path.join(folder.path, 'c.yaml'))
    await_true(lambda: folder.names() == ['p', 'q'], 20)
    # what the link leads to changes without an event here: the next look finds it
    with open(outside, 'w', encoding='utf-8') as stream:
        stream.write(yaml.safe_dump(plugin('q2', url='r.example/a')))
    await_true(lambda: folder.names() == ['p', 'q2'], 40)


def test_config_map_swap(folder):
    """As the kubelet mounts a ConfigMap: files are links through ..data, which is swapped by a rename; a chain of both versions is never seen."""
    import yaml

    def version(number):
        inner = os.path.join(folder.path, f'..{number}')
        os.mkdir(inner)
        for name in ('a', 'b'):
            with open(os.path.join(inner, name + '.yaml'), 'w', encoding='utf-8') as stream:
                stream.write(yaml.safe_dump(plugin(f'{name}{number}', url='r.example/a')))
        os.symlink(f'..{number}', os.path.join(folder.path, '..data_tmp'))
        os.rename(os.path.join(folder.path, '..data_tmp'), os.path.join(folder.path, '..data'))
    version(0)
    for name in ('a', 'b'):
        os.symlink(f'..data/{name}.yaml', os.path.join(folder.path, f'{name}.yaml'))
    await_true(lambda: folder.names() == ['a0', 'b0'], 20)
    for number in range(1, 5):
        version(number)
        seen = await_true(lambda: (names := folder.names()) != [f'a{number - 1}', f'b{number - 1}'] and names, 20)
        assert seen == [f'a{number}', f'b{number}']


def test_same_object_twice(folder):
    folder.put('b.yaml', plugin('p', url='r.example/b', priority=2))
    await_true(lambda: folder.names() == ['p'], 20)
    folder.put('a.yaml', plugin('p', url='r.example/a', priority=1))
    await_true(lambda: folder.entry('p')['priority'] == 1, 20)
    row = folder.row('p', 'b.yaml')
    assert row['state'] == 'refused' and row['problems'][0]['field'] == 'metadata.name' and 'a.yaml' in row['problems'][0]['detail'] and 'team-a/p' in row['problems'][0]['detail']
    folder.remove('a.yaml')
    await_true(lambda: folder.entry('p')['priority'] == 2 and folder.row('p')['state'] == 'accepted', 20)


# ---- Secrets and Pods ----
@pytest.fixture(scope='module')
def tokens(start_server):
    service = start_server(TokenServer, {'puller': PASSWORD, 'pusher': 'push'})
    return service, start_server(Registry, service.auth())


def private_push(tokens):
    service, server = tokens
    repository, module = unique('private'), wasm(unique())

    class Bearer(__import__('requests').auth.AuthBase):
        def __call__(self, request):
            request.headers['Authorization'] = 'Bearer ' + service.sign('pusher', [f'repository:{repository}:pull,push'], 'of a test')
            return request
    server.session.auth = Bearer()
    push(server, module, repository)
    return server.ref(repository), module


@pytest.mark.alone
@pytest.mark.parametrize('plain', [False, True])
def test_secret_in_manifests(tokens, folder, plain):
    url, module = private_push(tokens)
    folder.put('p.yaml', plugin('p', url=url, imagePullSecret='pull'))
    assert folder.await_state('p', 'failed')['code'] == 'secret_missing'
    began = time.monotonic()
    folder.put('s.yaml', secret('pull', docker_config(**{tokens[1].host: ('puller', PASSWORD)}), plain=plain))
    entry = folder.await_state('p', 'ready')
    assert entry['sha256'] == hexes(module) and time.monotonic() - began < 9
    # callers may name it too; other namespaces have no such Secret
    daemon = folder.daemon
    assert daemon.good(url, to='team', imagePullSecret='pull')['sha256'] == hexes(module)
    daemon.bad(url, 'secret_missing', to='trusted', namespace='team-b', imagePullSecret='pull')
    # in no log, event, listing
    told = daemon.told() + str(events(daemon, 'pulled')) + str(folder.resources()) + daemon.ask('GET', '/v1/config', to='admin').body.decode()
    assert PASSWORD not in told and folder.row('pull') is None
    folder.remove('s.yaml')
    await_true(lambda: daemon.get(url, to='team', imagePullSecret='pull', imagePullPolicy='Always').status != 200, 20)
    assert folder.entry('p')['state'] == 'ready'


def test_secret_goes_before_secrets_dir(tokens, folder):
    url, _ = private_push(tokens)
    folder.daemon.put_secret('team-a', 'pull', docker_config(**{tokens[1].host: ('puller', 'wrong')}))
    folder.daemon.bad(url, 'unauthorized', to='team', imagePullSecret='pull')
    folder.put('s.yaml', secret('pull', docker_config(**{tokens[1].host: ('puller', PASSWORD)})))
    await_true(lambda: folder.daemon.get(url, to='team', imagePullSecret='pull').status == 200, 20)


@pytest.mark.parametrize('change, field', [
    ({'data': {'.dockerconfigjson': '%%%'}}, 'data..dockerconfigjson'), ({'data': {'.dockerconfigjson': 5}}, 'data..dockerconfigjson'), ({'dota': {}}, 'dota'), ({'immutable': 'yes'}, 'immutable'),
    ({'metadata': {'name': 'pull', 'namespace': 'team-a', 'nome': 'x'}}, 'metadata.nome'), ({'type': 5}, 'type')])
def test_refused_secret(folder, change, field):
    folder.put('s.yaml', {**secret('pull', docker_config(**{'r.example': ('u', 'p')})), **change})
    row = folder.await_row('pull', 'refused')
    assert row['kind'] == 'Secret' and [problem['field'] for problem in row['problems']] == [field]
    assert 's.yaml' in folder.daemon.bad('oci://127.0.0.1:5/a:1', 'secret_missing', to='team', imagePullSecret='pull')


@pytest.mark.parametrize('made, words', [(secret('pull', 'not json ' + PASSWORD), 'pull'), (secret('pull', '{}', type='Opaque'), 'Opaque'),
                                         (secret('pull', '{}', type='kubernetes.io/dockercfg'), '.dockercfg'), (secret('pull', {'auths': {}}), 'pull')])
def test_useless_secret(folder, made, words):
    """It is a Secret like any other, so the listing has nothing against it; who names it is told."""
    folder.put('s.yaml', made, plugin('marker', url='r.example/a'))
    await_true(lambda: folder.names() == ['marker'], 20)
    detail = folder.daemon.bad('oci://127.0.0.1:5/a:1', 'secret_missing', to='team', imagePullSecret='pull')
    assert words in detail and PASSWORD not in detail and PASSWORD not in folder.daemon.told()


def test_secrets_and_pods_twice(folder):
    first, second = (secret('pull', docker_config(**{'r.example': ('u', password)})) for password in 'ab')
    folder.put('b.yaml', second, pod('x'))
    folder.put('a.yaml', first, pod('x'))
    row = folder.await_row('pull', 'refused', source='b.yaml')
    assert row['kind'] == 'Secret' and 'a.yaml' in row['problems'][0]['detail']
    assert folder.await_row('x', 'refused', source='b.yaml')['kind'] == 'Pod'
    assert folder.daemon.metric('wasmcached_plugin_pods') == 1
    folder.remove('a.yaml')
    await_true(lambda: folder.row('pull') is None and folder.row('x') is None, 20)
    assert folder.daemon.metric('wasmcached_plugin_pods') == 1


def test_bad_pod_and_other_node(folder):
    folder.daemon.configure(kubernetes={'node': 'here'})
    folder.daemon.restart()
    here, there = pod('here'), pod('there')
    here['spec']['nodeName'], there['spec']['nodeName'] = 'here', 'there'
    folder.put('a.yaml', here, there, {'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {'name': 'bad', 'labels': {'a': 5}}}, {'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {}})
    assert folder.await_row('bad', 'refused')['problems'] == [{'field': 'metadata.labels.a', 'detail': 'must be a string; put it in quotes'}]
    assert folder.row('a.yaml')['problems'][0]['detail'] == 'a Pod without metadata.name'
    assert folder.daemon.metric('wasmcached_plugin_pods') == 1


def test_two_thousand_manifests(registry, folder):
    repository, _, module = push(registry)
    for i in range(2000):
        folder.put(f'{i:04}.yaml', plugin(f'p{i}', url=registry.ref(repository), priority=i % 7, selector={'matchLabels': {'app': f'a{i % 50}'}}))
    for i in range(50):
        folder.put(f'pod{i}.yaml', pod(f'x{i}', app=f'a{i}'))
    await_true(lambda: len(folder.chain(label='app=a7')) == 40, 60)
    await_true(lambda: all(entry['state'] == 'ready' for entry in folder.chain(label='app=a7')), 60)
    assert {entry['sha256'] for entry in folder.chain(label='app=a7')} == {hexes(module)}
    assert folder.daemon.metric('wasmcached_pulls_done_total') == 1
    # one of them changes: the others do not notice
    folder.put('0007.yaml', plugin('p7', url=registry.ref(repository), priority=100, selector={'matchLabels': {'app': 'a7'}}))
    await_true(lambda: folder.names(label='app=a7')[0] == 'p7', 30)
