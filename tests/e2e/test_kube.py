"""WasmPlugins from the API server: listed, watched, remembered; what happens when it is away, says no, or talks nonsense."""
import json
import os
import re
import time

import pytest

from e2e_daemon import await_true
from e2e_images import hexes, push, unique
from e2e_kube import PATHS, Kube, in_cluster
from e2e_plugins import plugin, pod


@pytest.fixture
def kube():
    made = Kube()
    yield made.start()
    made.stop()


@pytest.fixture
def cluster(make_daemon, kube):
    """A daemon of node-a that has not been started."""
    return in_cluster(make_daemon(start=False), kube, node='node-a')


def on_node(thing, node='node-a', phase='Running'):
    return {**thing, 'spec': {**thing['spec'], 'nodeName': node}, 'status': {'phase': phase}}


def is_ready(cluster):
    return cluster.daemon.ask('GET', '/readyz', to='admin').status == 200


def await_ready(cluster):
    await_true(lambda: is_ready(cluster), 30, 'readiness')


# ---- the whole way
def test_apply_change_break_repair(registry, kube, cluster):
    first, second = (push(registry, repository=unique()) for _ in range(2))
    kube.apply(plugin('p', url=registry.ref(first[0]), phase='AUTHZ'))
    cluster.daemon.start()
    await_ready(cluster)
    assert cluster.await_state('p', 'ready')['sha256'] == hexes(first[2])
    assert cluster.resources() == [{'kind': 'WasmPlugin', 'namespace': 'team-a', 'name': 'p', 'source': 'kubernetes/wasmplugins', 'state': 'accepted', 'problems': []}]
    version = cluster.entry('p')['resourceVersion']
    kube.apply(plugin('p', url=registry.ref(second[0]), phase='AUTHZ'))
    await_true(lambda: cluster.entry('p')['sha256'] == hexes(second[2]), 30)
    assert cluster.entry('p')['resourceVersion'] != version
    kube.apply(plugin('p', url=registry.ref(second[0]), phase='AUTHZ', failStrategy='NEVER'), plugin('q', url=registry.ref(first[0])))
    refused = cluster.await_state('p', 'refused')
    assert [problem['field'] for problem in refused['problems']] == ['spec.failStrategy'] and refused['phase'] == 'AUTHZ'
    cluster.await_state('q', 'ready')                     # one bad resource harms no other
    kube.apply(plugin('p', url=registry.ref(first[0])))
    assert cluster.await_state('p', 'ready')['sha256'] == hexes(first[2])
    kube.delete(plugin('p'))
    await_true(lambda: cluster.names() == ['q'], 30)
    kube.apply(plugin('t', kind='TrafficExtension', wasm={'url': registry.ref(first[0])}))
    cluster.await_state('t', 'ready')


def test_pods_of_the_node_pull_ahead(registry, kube, cluster):
    repository, _, module = push(registry)
    kube.apply(plugin('p', url=registry.ref(repository), selector={'matchLabels': {'app': 'web'}}), on_node(pod('elsewhere', app='web'), 'node-b'),
               on_node(pod('over', app='web'), phase='Succeeded'), on_node(pod('other', app='db')))
    cluster.daemon.start()
    await_ready(cluster)
    await_true(lambda: kube.log('GET /api/v1/pods'), 30)
    assert all('fieldSelector=spec.nodeName%3Dnode-a' in entry['target'] for entry in kube.log('/api/v1/pods'))
    path = os.path.join(cluster.daemon.store, 'modules', 'team-a', hexes(module) + '.wasm')
    time.sleep(0.5)
    assert not os.path.exists(path)
    kube.apply(on_node(pod('web', app='web')))            # nobody has asked for a chain
    await_true(lambda: os.path.exists(path), 30, 'the module of a pod that has just come')


@pytest.mark.alone
def test_ten_thousand(kube, cluster):
    """They are there after one list, and whoever asks meanwhile is answered."""
    kube.apply(plugin('p', url='oci://127.0.0.1:1/x:v1', selector={'matchLabels': {'app': 'none'}}), count=10000)
    cluster.daemon.start()
    slowest, began = 0, time.monotonic()
    while not is_ready(cluster) and time.monotonic() - began < 60:
        asked = time.monotonic()
        assert cluster.daemon.ask('GET', '/healthz', to='admin').status == 200
        slowest = max(slowest, time.monotonic() - asked)
    await_true(lambda: len(cluster.resources(limit=1000)) == 1000, 30)
    assert slowest < 2, slowest
    kube.apply(plugin('last', url='oci://127.0.0.1:1/x:v1'))
    await_true(lambda: 'last' in cluster.names(), 30)


def test_large_objects_are_not_held_together(kube, cluster):
    """A list of many large objects goes through in pieces that are bounded in bytes, too."""
    kube.apply(plugin('p', url='oci://127.0.0.1:1/x:v1'), count=200, pad=1 << 20)
    cluster.daemon.start()
    await_true(lambda: len(cluster.resources(limit=1000)) == 200, 120)
    with open(f'/proc/{cluster.daemon.process.pid}/status', encoding='ascii') as stream:
        peak = int(re.search(r'VmHWM:\s+(\d+)', stream.read())[1])
    assert peak < 120 << 10, f'{peak} KiB'


def listed(thing, kind, version):
    return {'type': kind, 'object': {**thing, 'metadata': {**thing['metadata'], 'resourceVersion': str(version)}}}


def test_changes_before_the_end_of_a_streaming_list(kube, cluster):
    """A server may send what changes meanwhile before the bookmark that ends its list: the last of it counts, in a first list and in a later one."""
    def early(*events):
        kube.steer('early', path=PATHS['WasmPlugin'], json=json.dumps(events))

    kube.apply(plugin('p', url='oci://127.0.0.1:1/x:v1'), plugin('gone', url='oci://127.0.0.1:1/x:v1'))
    early(listed(plugin('p', url='oci://127.0.0.1:1/x:v1', priority=5), 'MODIFIED', 5000), listed(plugin('gone', url='oci://127.0.0.1:1/x:v1'), 'DELETED', 5001))
    cluster.daemon.start()
    await_ready(cluster)
    assert [(entry['name'], entry['priority']) for entry in cluster.chain()] == [('p', 5)]
    early(listed(plugin('p', url='oci://127.0.0.1:1/x:v1', priority=6), 'MODIFIED', 6000), listed(plugin('p', url='oci://127.0.0.1:1/x:v1', priority=7), 'MODIFIED', 6001),
          listed(plugin('q', url='oci://127.0.0.1:1/x:v1'), 'ADDED', 6002), listed(plugin('gone', url='oci://127.0.0.1:1/x:v1'), 'DELETED', 6003),
          listed(plugin('q', url='oci://127.0.0.1:1/x:v1'), 'DELETED', 6004))
    kube.steer('expire')
    kube.steer('close')
    await_true(lambda: [(entry['name'], entry['priority']) for entry in cluster.chain()] == [('p', 7)], 60)
    assert len(cluster.resources()) == 1


@pytest.mark.parametrize('streaming', ['yes', 'no'])
def test_first_list_that_breaks_off(kube, cluster, streaming):
    """Nobody is told of half a list, and nothing of it is left."""
    kube.steer('set', streaming=streaming)
    half = {'type': 'ADDED', 'object': {**plugin('half', url='oci://127.0.0.1:1/x:v1')}}
    half['object']['metadata']['resourceVersion'] = '7'
    kube.fault('wasmplugins', 'line' if streaming == 'yes' else 'truncate', count=3, arg=json.dumps(half))
    cluster.daemon.start()
    await_true(lambda: 'kubernetes_lost source=kubernetes/wasmplugins' in cluster.daemon.told(), 30)
    answer = cluster.ask(namespace='team-a')
    assert answer.status == 503 and answer.code == 'busy'
    kube.apply(plugin('p', url='oci://127.0.0.1:1/x:v1'))
    await_ready(cluster)
    assert cluster.names() == ['p'] and [row['name'] for row in cluster.resources()] == ['p']


# ---- before the first list
def test_busy_until_listed(registry, kube, cluster):
    """The server is not there at the start: 503 with what lacks, never an empty chain; then it comes."""
    repository = push(registry)[0]
    kube.stop()
    cluster.daemon.start()
    answers = []

    def is_told():
        """Each source tries for itself: of the one that the answer names it may not be known yet what lacks."""
        answers.append(cluster.ask(namespace='team-a'))
        assert answers[-1].status == 503 and answers[-1].code == 'busy' and answers[-1].headers['retry-after'] and 'kubernetes/' in answers[-1].json['detail'], answers[-1]
        return 'what lacks' in answers[-1].json['detail']
    await_true(is_told, 30)
    assert cluster.daemon.ask('GET', '/readyz', to='admin').status == 503
    kube.start()
    kube.apply(plugin('p', url=registry.ref(repository)))
    await_ready(cluster)
    cluster.await_state('p', 'ready')


@pytest.mark.parametrize('mode, said', [('forbidden', 'cannot do that'), ('garbage', ''), ('html', ''), ('hang', None), ('unavailable', ''), ('toomany', 'initializing')])
def test_no_list_is_no_empty_chain(kube, cluster, mode, said):
    kube.fault('wasmplugins', mode)
    cluster.daemon.start()
    await_true(lambda: kube.log('wasmplugins'), 30)
    if said is not None:
        await_true(lambda: 'kubernetes_lost source=kubernetes/wasmplugins' in cluster.daemon.told(), 30)
    answers = []

    def is_of_plugins():
        """The other kind is read: what lacks is this one alone."""
        answers.append(cluster.ask(namespace='team-a'))
        assert answers[-1].status == 503 and answers[-1].code == 'busy', answers[-1]
        return 'kubernetes/wasmplugins' in answers[-1].json['detail']
    await_true(is_of_plugins, 30)
    assert not said or said in answers[-1].json['detail'], answers[-1]


def test_remembered_over_a_restart(registry, kube, cluster):
    """The server is away when the daemon starts again: the chain is what it was, with changes since the list; a new list then counts alone."""
    repository, _, module = push(registry)
    kube.apply(plugin('p', url=registry.ref(repository)), plugin('gone', url=registry.ref(repository)), plugin('bad', url='oci://UPPER', phase='AUTHZ'))
    cluster.daemon.start()
    await_ready(cluster)
    cluster.await_state('p', 'ready')
    kube.apply(plugin('later', url=registry.ref(repository), priority=5))
    kube.delete(plugin('gone'))
    await_true(lambda: sorted(cluster.names()) == ['bad', 'later', 'p'], 30)
    cluster.await_state('later', 'ready')
    chain = cluster.chain()
    assert cluster.daemon.stop() == 0
    kube.stop()
    cluster.daemon.start()
    await_ready(cluster)
    cluster.await_state('p', 'ready')
    cluster.await_state('later', 'ready')
    assert cluster.chain() == chain
    assert oct(os.stat(os.path.join(cluster.daemon.store, 'cluster')).st_mode & 0o777) == '0o700'
    kube.start()
    kube.apply(plugin('new', url=registry.ref(repository)))
    await_true(lambda: cluster.names() == ['new'], 60)


@pytest.mark.parametrize('spoil', ['cut', 'garbage', 'other server'])
def test_what_is_remembered_may_be_spoilt(kube, cluster, spoil):
    """A last line that was cut costs one change; anything else costs the memory, and the answer is 503 again."""
    kube.apply(plugin('p', url='oci://127.0.0.1:1/x:v1'), plugin('q', url='oci://127.0.0.1:1/x:v1'))
    cluster.daemon.start()
    await_ready(cluster)
    path = os.path.join(cluster.daemon.store, 'cluster', 'wasmplugins.jsonl')
    await_true(lambda: os.path.exists(path), 30)          # written behind what is served
    assert len(cluster.names()) == 2 and oct(os.stat(path).st_mode & 0o777) == '0o600'
    assert cluster.daemon.stop() == 0
    kube.stop()
    with open(path, encoding='utf-8') as stream:
        lines = stream.readlines()
    if spoil == 'cut':
        lines.append(lines[1][:40])
    elif spoil == 'garbage':
        lines[1] = lines[1][:40] + '\n'
    else:
        lines[0] = lines[0].replace('127.0.0.1', '127.0.0.2')
    with open(path, 'w', encoding='utf-8') as stream:
        stream.writelines(lines)
    cluster.daemon.start()
    if spoil == 'cut':
        await_ready(cluster)
        assert len(cluster.names()) == 2
    else:
        await_true(lambda: 'kubernetes_lost source=kubernetes/wasmplugins' in cluster.daemon.told(), 30)
        assert cluster.ask(namespace='team-a').code == 'busy'


# ---- no CRD
def test_kind_that_the_server_does_not_know(kube, cluster):
    """No CRD of TrafficExtensions is the usual case: there are none, one line says so, and it is looked for again."""
    kube.fault('trafficextensions', 'plain404', count=3)
    kube.apply(plugin('p', url='oci://127.0.0.1:1/x:v1'))
    cluster.daemon.start()
    await_ready(cluster)
    assert cluster.names() == ['p'] and cluster.daemon.told().count('kubernetes_absent') == 1
    kube.apply(plugin('t', kind='TrafficExtension', wasm={'url': 'oci://127.0.0.1:1/x:v1'}))
    await_true(lambda: sorted(cluster.names()) == ['p', 't'], 60)


def test_kind_that_was_known_and_is_not_any_more(kube, cluster):
    """A server that has just started may answer 404: what is known stays."""
    kube.apply(plugin('p', url='oci://127.0.0.1:1/x:v1'))
    cluster.daemon.start()
    await_ready(cluster)
    await_true(lambda: os.path.exists(os.path.join(cluster.daemon.store, 'cluster', 'wasmplugins.jsonl')), 30)
    cluster.daemon.stop()
    kube.fault('wasmplugins', 'plain404')
    cluster.daemon.start()
    await_true(lambda: len(kube.log('wasmplugins')) > 4, 60)
    assert cluster.names() == ['p'] and 'what is known stays in force' in cluster.daemon.told()


# ---- the watch is lost
@pytest.mark.parametrize('mode', ['gone-event', 'gone', 'forbidden', 'garbage', 'reset', 'error-event', 'unavailable', 'plain404', 'empty-watch'])
def test_lost_watch_changes_nothing(kube, cluster, mode):
    kube.apply(plugin('p', url='oci://127.0.0.1:1/x:v1'))
    cluster.daemon.start()
    await_ready(cluster)
    kube.steer('log', clear=1)
    kube.fault('wasmplugins', mode, count=2)
    kube.steer('close')
    for _ in range(20):
        assert cluster.names() == ['p']
        time.sleep(0.02)
    await_true(lambda: len(kube.log('wasmplugins')) >= 2, 60)
    if mode not in ('gone', 'gone-event', 'empty-watch'):
        assert 'kubernetes_lost source=kubernetes/wasmplugins' in cluster.daemon.told()
    kube.apply(plugin('q', url='oci://127.0.0.1:1/x:v1'))
    await_true(lambda: cluster.names() == ['p', 'q'], 90, 'what came after')


def lost_sources(cluster):
    text = cluster.daemon.ask('GET', '/metrics', to='admin').body.decode()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith('wasmcached_plugin_sources_lost '))


def test_server_that_goes_away_and_comes_back(kube, cluster):
    kube.apply(plugin('p', url='oci://127.0.0.1:1/x:v1'))
    cluster.daemon.start()
    await_ready(cluster)
    kube.stop()
    await_true(lambda: lost_sources(cluster) == 3, 60)
    assert cluster.names() == ['p'] and is_ready(cluster)
    kube.start()                                          # with nothing in it, and too young to know the versions of before
    kube.apply(plugin('q', url='oci://127.0.0.1:1/x:v1'))
    kube.steer('expire')
    kube.steer('close')
    await_true(lambda: cluster.names() == ['q'], 90)
    await_true(lambda: not kube.steer('bookmark') and lost_sources(cluster) == 0, 60)        # those that are quiet are heard of by bookmarks


def test_expired_version_lists_again(kube, cluster):
    """410: what was deleted while nobody looked is gone after the new list, in one turn with what came."""
    kube.apply(plugin('p', url='oci://127.0.0.1:1/x:v1'))
    cluster.daemon.start()
    await_ready(cluster)
    assert cluster.names() == ['p']
    kube.fault('wasmplugins?watch', 'reset', count=2)
    kube.steer('close')
    kube.delete(plugin('p'))
    kube.apply(plugin('q', url='oci://127.0.0.1:1/x:v1'))
    kube.steer('expire')
    await_true(lambda: cluster.names() == ['q'], 60)


@pytest.mark.alone
def test_stop_while_the_server_hangs(kube, cluster):
    kube.fault('/api', 'hang')
    cluster.daemon.start()
    await_true(lambda: len(kube.log('/api')) >= 3, 30)
    began = time.monotonic()
    assert cluster.daemon.stop() == 0
    assert time.monotonic() - began < 8


# ---- hostile objects
def test_object_that_cannot_be_read(kube, cluster):
    kube.apply(plugin('deep', url='oci://127.0.0.1:1/x:v1'), depth=60)
    kube.apply(plugin('large', url='oci://127.0.0.1:1/x:v1'), pad=5 << 20)
    kube.apply(plugin('good', url='oci://127.0.0.1:1/x:v1'))
    cluster.daemon.start()
    await_ready(cluster)
    assert cluster.names() == ['good']
    rows = {row['name']: row for row in cluster.resources()}
    assert rows['deep']['state'] == rows['large']['state'] == 'refused' and rows['good']['state'] == 'accepted'
    assert rows['large']['problems'][0]['field'] == 'object' and 'larger than' in rows['large']['problems'][0]['detail']
    kube.apply(plugin('deep', url='oci://127.0.0.1:1/x:v1'))
    await_true(lambda: sorted(cluster.names()) == ['deep', 'good'], 30)


def test_file_goes_before_the_cluster(kube, cluster):
    """The same object on the node and in the cluster: the node's counts, the other waits and takes over."""
    kube.apply(plugin('p', url='oci://127.0.0.1:1/x:v1', priority=1))
    cluster.put('zzz.yaml', plugin('p', url='oci://127.0.0.1:1/x:v1', priority=2))
    cluster.daemon.start()
    await_ready(cluster)
    assert [entry['priority'] for entry in cluster.chain()] == [2]
    assert cluster.row('p', source='kubernetes/wasmplugins')['state'] == 'refused'
    cluster.remove('zzz.yaml')
    await_true(lambda: [entry['priority'] for entry in cluster.chain()] == [1], 30)


# ---- start
def test_configuration_that_cannot_be(make_daemon):
    daemon = make_daemon(start=False)
    daemon.configure(kubernetes={'mode': 'kubeconfig', 'kubeconfig': os.path.join(daemon.folder, 'absent')})
    daemon.start(wait=False)
    assert daemon.process.wait(20) == 2 and 'absent' in daemon.told() and 'step=kubernetes' in daemon.told()


def test_node_from_the_environment(kube, make_daemon):
    cluster = in_cluster(make_daemon(start=False), kube)
    cluster.daemon.start(environment={'NODE_NAME': 'node-of-environment'})
    await_true(lambda: any('node-of-environment' in entry['target'] for entry in kube.log('/pods')), 30)
    assert cluster.daemon.ask('GET', '/v1/config', to='admin').json['kubernetes']['node'] == 'node-of-environment'


# ---- Events
def test_events_on_the_plugin(registry, kube, cluster):
    """Pulled, refused with code and sentence, recovered; on the object with its uid; said once, however often it happens."""
    repository = push(registry)[0]
    kube.apply(plugin('p', url=registry.ref(repository)))
    cluster.daemon.start()
    await_ready(cluster)
    cluster.await_state('p', 'ready')
    await_true(lambda: [event[0] for event in kube.events()] == ['Pulled'], 30)
    body = json.loads(kube.log('POST /apis/events.k8s.io/')[0]['body'])
    assert body['regarding'] == {'apiVersion': 'extensions.istio.io/v1alpha1', 'kind': 'WasmPlugin', 'namespace': 'team-a', 'name': 'p', 'uid': body['regarding']['uid']}
    assert body['regarding']['uid'].startswith('uid-') and body['type'] == 'Normal' and body['reportingController'] == 'wasmcached.dev/agent' and body['reportingInstance'] == 'node-a'
    assert body['metadata']['namespace'] == 'team-a' and registry.ref(repository) in body['note']
    kube.apply(plugin('p', url=registry.ref(repository), failStrategy='NEVER'))
    await_true(lambda: [event[0] for event in kube.events()] == ['Pulled', 'Refused'], 30)
    assert kube.events()[1][1].startswith('bad_request: spec.failStrategy: ')
    kube.apply(plugin('p', url=registry.ref(unique('absent'))))
    await_true(lambda: [event[0] for event in kube.events()] == ['Pulled', 'Refused', 'Recovered', 'Refused'], 30)
    assert kube.events()[3][1].startswith('not_found: ')
    kube.apply(plugin('p', url=registry.ref(repository), priority=3))
    await_true(lambda: [event[0] for event in kube.events()][4:] == ['Recovered'], 30)
    assert [json.loads(entry['body'])['type'] for entry in kube.log('POST /apis/events.k8s.io/')] == ['Normal', 'Warning', 'Normal', 'Warning', 'Normal']


def test_events_only_where_they_concern(registry, kube, cluster):
    """On a node whose Pods are known, only about what one of its workloads is selected by: thousands of nodes do not repeat one mistake."""
    kube.apply(on_node(pod('web', app='web')))
    cluster.daemon.start()
    await_ready(cluster)
    await_true(lambda: 'kubernetes_listed source=kubernetes/pods objects=1' in cluster.daemon.told(), 30)
    kube.apply(plugin('others', url='oci://UPPER', selector={'matchLabels': {'app': 'db'}}), plugin('ours', url='oci://UPPER', selector={'matchLabels': {'app': 'web'}}))
    await_true(lambda: kube.events(), 30)
    time.sleep(0.3)
    assert [event[2] for event in kube.events()] == ['ours']


def test_events_when_the_pod_comes_later(registry, kube, cluster):
    """A plugin that is refused, by a field or by its image, is told of when a Pod of this node is selected by it, once; its repair too; what was repaired before is not."""
    cluster.daemon.start()
    await_ready(cluster)
    await_true(lambda: 'kubernetes_listed source=kubernetes/pods objects=0' in cluster.daemon.told(), 30)
    web = {'matchLabels': {'app': 'web'}}
    kube.apply(plugin('field', url='oci://UPPER', selector=web), plugin('image', url=registry.ref(unique('absent')), selector=web), plugin('key', url=registry.ref(unique()), selector=web,
               verificationKey='none'), plugin('unplaced', url='oci://127.0.0.1:1/x:v1', selector={'matchLabels': 7}), plugin('others', url='oci://UPPER', selector={'matchLabels': {'app': 'db'}}),
               plugin('early', url='oci://UPPER', selector=web))
    kube.apply(plugin('early', url='oci://127.0.0.1:1/x:v1', selector={'matchLabels': {'app': 'none'}}))
    await_true(lambda: {row['name']: row['state'] for row in cluster.resources()}.get('early') == 'accepted', 30)
    time.sleep(0.3)
    assert kube.events() == []
    kube.apply(on_node(pod('web', app='web')))
    await_true(lambda: len(kube.events()) >= 4, 30)
    kube.apply(on_node(pod('web-2', app='web')))
    time.sleep(0.5)
    told = {event[2]: event[:2] for event in kube.events()}
    assert len(kube.events()) == 4 and {name: (reason, note.split(':')[0]) for name, (reason, note) in told.items()} == {
        'field': ('Refused', 'bad_url'), 'image': ('Refused', 'not_found'), 'key': ('Refused', 'bad_key'), 'unplaced': ('Refused', 'bad_request')}, kube.events()
    kube.apply(plugin('field', url=registry.ref(push(registry, repository=unique())[0]), selector=web))
    await_true(lambda: [event[:1] for event in kube.events() if event[2] == 'field'][1:] in ([('Recovered',)], [('Recovered',), ('Pulled',)]), 30)


@pytest.mark.parametrize('mode', ['forbidden', 'hang'])
def test_events_that_cannot_be_written_harm_nothing(registry, kube, cluster, mode):
    repository = push(registry)[0]
    kube.fault('POST /apis/events', mode)
    kube.apply(plugin('p', url=registry.ref(repository)), plugin('q', url='oci://UPPER'))
    cluster.daemon.start()
    await_ready(cluster)
    cluster.await_state('p', 'ready')
    await_true(lambda: kube.log('POST /apis/events'), 30)
    if mode == 'forbidden':
        await_true(lambda: 'kubernetes_event_lost' in cluster.daemon.told(), 30)
        assert cluster.daemon.told().count('kubernetes_event_lost') == 1


def test_no_events_of_files_or_when_off(registry, kube, cluster):
    repository = push(registry)[0]
    cluster.daemon.configure(kubernetes={'events': False})
    kube.apply(plugin('p', url=registry.ref(repository)))
    cluster.daemon.start()
    await_ready(cluster)
    cluster.await_state('p', 'ready')
    assert cluster.daemon.stop() == 0
    cluster.daemon.configure(kubernetes={'events': True})
    file_plugin = plugin('f', url='oci://UPPER')
    file_plugin['metadata']['uid'] = 'uid-of-a-copy'
    cluster.put('f.yaml', file_plugin)
    cluster.daemon.start()
    await_ready(cluster)
    cluster.await_state('f', 'refused')
    time.sleep(0.3)
    assert kube.events() == []
