"""Who is asking, where Pods are told of by the API server: listed, watched, not heard of yet, remembered."""
import contextlib
import json
import signal
import pytest
from e2e_daemon import await_true
from e2e_identity import known, pod_object, uid_of
from e2e_kube import PATHS, Kube, in_cluster
from e2e_plugins import plugin


def test_pods_and_plugins_of_the_api_server(quick):
    """Nothing lies on the node: the Pod, its labels and its plugin come from the API; who is gone there is nobody here."""
    kube = Kube().start()
    try:
        in_cluster(quick.daemon, kube, node='node-a')
        mine, theirs = pod_object('web', 'team-a', node='node-a', app='web'), pod_object('db', 'team-b', node='node-a')
        kube.apply(mine, theirs, plugin('p', url=quick.url, selector={'matchLabels': {'app': 'web'}}))
        quick.start()
        caller, other = quick.caller(mine), quick.caller(theirs)
        module = known(quick, caller).json
        assert module['path'].startswith('/seen/team-a/here/')
        await_true(lambda: caller.ask('GET', '/v1/plugins').status == 200, 30)
        entry = await_true(lambda: (chain := caller.ask('GET', '/v1/plugins').json['plugins']) and chain[0]['state'] == 'ready' and chain[0], 30)
        assert entry['name'] == 'p' and entry['path'] == module['path']
        assert known(quick, other) and other.ask('GET', '/v1/plugins').json['plugins'] == []
        assert other.get(quick.url, namespace='team-a').code == 'denied'
        kube.delete(mine)
        await_true(lambda: caller.get(quick.url).status == 403, 30, 'the pod to be forgotten')
    finally:
        kube.stop()


@pytest.fixture
def listed(quick):
    """Pods of node-a come from the API server; the daemon has not been started."""
    kube = Kube().start()
    in_cluster(quick.daemon, kube, node='node-a')
    quick.kube = kube
    yield quick
    kube.stop()


def test_before_the_first_list_of_pods(listed):
    """Nobody is denied for a Pod that has only not been heard of yet."""
    pod = pod_object('web', 'team-a', node='node-a')
    listed.kube.fault('/api/v1/pods', 'forbidden', count=4)
    listed.start()
    caller = listed.caller(pod)
    await_true(lambda: listed.kube.log('/api/v1/pods'), 30)
    for method, target, body in (('POST', '/v1/modules', {'url': listed.url}), ('GET', '/v1/plugins', None), ('GET', '/v1/modules', None)):
        answer = caller.ask(method, target, body)
        assert (answer.status, answer.code, answer.headers['retry-after']) == (503, 'busy', '1') and uid_of(pod) in answer.json['detail'], answer
    assert await_true(lambda: 'cannot do that' in caller.get(listed.url).json['detail'], 30), 'what lacks'
    listed.kube.apply(pod)
    assert known(listed, caller).json['path'].startswith('/seen/team-a/')
    assert listed.caller().get(listed.url).code == 'denied'              # a process of the host is none, whatever comes


@pytest.mark.alone
def test_pod_that_started_a_moment_ago(listed):
    """It asks before the watch has told of it: it waits, on whichever route, and is served; who never comes is denied after a moment."""
    listed.kube.apply(pod_object('web', 'team-a', node='node-a'))
    listed.start()
    await_true(lambda: 'kubernetes_listed source=kubernetes/pods objects=1' in listed.daemon.told(), 30)
    stranger = listed.caller(pod_object('never', 'team-a'))
    asked = [('POST', '/v1/modules', json.dumps({'url': listed.url})), ('GET', '/v1/plugins', None), ('GET', '/v1/modules', None)]

    def served():
        pods = [pod_object(f'new-{number}', 'team-a', node='node-a') for number in range(3)]
        callers = [listed.caller(pod) for pod in pods]
        for caller, (method, target, body) in zip(callers, asked):
            caller.tell(method=method, target=target, body=body, headers={'Content-Type': 'application/json'} if body else {})
        await_true(lambda: listed.daemon.metric('wasmcached_requests_waiting') >= 3, 1)
        listed.kube.apply(*pods)
        return [json.loads(caller.process.stdout.readline())['status'] for caller in callers]
    for patience in range(5):                 # of us: a machine may be too busy for a moment
        with contextlib.suppress(AssertionError):
            if served() == [200, 200, 200]:
                break
        assert patience < 4
    answer = stranger.get(listed.url)
    assert (answer.status, answer.code) == (403, 'denied'), answer
    gone = listed.caller(pod_object('gone', 'team-a'))            # one that does not wait for its answer
    gone.tell(method='GET', target='/v1/modules')
    await_true(lambda: listed.daemon.metric('wasmcached_requests_waiting') >= 1, 30)
    listed.callers.remove(gone)
    gone.end()
    await_true(lambda: listed.daemon.metric('wasmcached_requests_waiting') == 0, 30)


def test_stop_while_a_pod_is_waited_for(listed):
    listed.start()
    await_true(lambda: 'kubernetes_listed source=kubernetes/pods' in listed.daemon.told(), 30)
    caller = listed.caller(pod_object('new', 'team-a'))
    caller.tell(method='GET', target='/v1/modules')
    await_true(lambda: listed.daemon.metric('wasmcached_requests_waiting') >= 1, 30)
    assert listed.daemon.stop() == 0
    told = json.loads(caller.process.stdout.readline())
    assert told['status'] in (503, 0), told


def test_unknown_pod_while_the_server_is_away(listed):
    """Who is known stays known; who is not may be new: busy, not denied."""
    pod = pod_object('web', 'team-a', node='node-a')
    listed.kube.apply(pod)
    listed.start()
    caller, new = listed.caller(pod), listed.caller(pod_object('new', 'team-a'))
    known(listed, caller)
    listed.kube.stop()
    await_true(lambda: 'kubernetes_lost source=kubernetes/pods' in listed.daemon.told(), 30)
    answer = new.get(listed.url)
    assert (answer.status, answer.code) == (503, 'busy') and 'what lacks' in answer.json['detail'], answer
    assert caller.get(listed.url).status == 200


def test_before_the_pods_have_been_listed(quick):
    """A daemon that was killed and starts again while the API cannot be asked: who was known before is known, with its chain; who was not is told to ask again, not denied."""
    kube = Kube().start()
    try:
        in_cluster(quick.daemon, kube, node='node-a')
        mine, gone = pod_object('web', 'team-a', node='node-a', app='web'), pod_object('gone', 'team-a', node='node-a')
        rule = plugin('p', url=quick.url, selector={'matchLabels': {'app': 'web'}})
        kube.apply(mine, gone, rule, *(pod_object(name, 'team-a', node='node-a') for name in ('third', 'fourth')))       # several are remembered
        quick.start()
        caller, late = quick.caller(mine), pod_object('late', 'team-b', node='node-a')
        path = known(quick, caller).json['path']
        await_true(lambda: caller.ask('GET', '/v1/plugins').status == 200, 30)
        kube.delete(gone)
        await_true(lambda: quick.caller(gone).get(quick.url).status == 403, 30)
        quick.daemon.stop(signal.SIGKILL)
        kube.fault('/api/v1/pods', 'unavailable', arg=1)
        kube.apply(late)
        quick.start()
        await_true(lambda: caller.get(quick.url).status == 200, 20, 'what was known before')
        assert caller.get(quick.url).json['path'] == path and caller.get(quick.url, namespace='team-b').code == 'denied'
        assert [entry['name'] for entry in await_true(lambda: caller.ask('GET', '/v1/plugins').json.get('plugins'), 20)] == ['p']
        for pod in (late, gone):
            answer = quick.caller(pod).get(quick.url)
            assert (answer.status, answer.code) == (503, 'busy') and 'have not been listed' in answer.json['detail'] and int(answer.headers['retry-after']) >= 1, answer
        assert quick.caller(path='/system.slice/x.service').get(quick.url).code == 'denied'          # who is in no pod never is in one
        kube.steer('reset')
        kube.apply(late, rule)
        known(quick, quick.caller(late))
        await_true(lambda: caller.get(quick.url).status == 403, 30, 'the list that counts alone')
    finally:
        kube.stop()


def test_pods_that_change_before_the_end_of_a_streaming_list(listed):
    """The last of it counts: who was listed and is gone, or has ended, is nobody, and who came again with another UID is that one."""
    web, gone, over, old, new = (pod_object(name, 'team-a', node='node-a') for name in ('web', 'gone', 'over', 'again', 'again'))
    listed.kube.apply(web, gone, over, old)
    ended = {**over, 'status': {**over.get('status', {}), 'phase': 'Succeeded'}}
    events = [('DELETED', gone, 5000), ('MODIFIED', ended, 5001), ('DELETED', old, 5002), ('ADDED', new, 5003), ('MODIFIED', web, 5004)]
    listed.kube.steer('early', path=PATHS['Pod'], json=json.dumps([{'type': kind, 'object': {**pod, 'metadata': {**pod['metadata'], 'resourceVersion': str(version)}}} for kind, pod, version in events]))
    listed.start()
    for pod in (web, new):
        known(listed, listed.caller(pod))
    for pod in (gone, over, old):
        assert listed.caller(pod).get(listed.url).code == 'denied', pod['metadata']['name']
