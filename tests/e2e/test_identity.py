"""identity: pod: who asks is the pod that the connecting process runs in, or whose token it shows; everybody else is refused."""
import http.client
import json
import os
import shutil
import signal
import subprocess
import urllib.parse
import urllib.request
import uuid

import pytest

from e2e_daemon import DAEMON, SOURCE, ask, await_true
from e2e_identity import FolderOfProc, RealCgroups, cgroup2, container_id, known, pod_object, uid_of
from e2e_plugins import plugin


@pytest.fixture(params=['real', 'folder'])
def cgroups(request, tmp_path):
    if request.param == 'folder':
        return FolderOfProc(str(tmp_path / 'proc'))
    root = cgroup2()
    if not root:
        pytest.skip('this user may make no cgroups')
    return RealCgroups(root)


@pytest.fixture
def node(make_node, cgroups):
    return make_node(cgroups)


# ---- namespaces ----
def test_two_namespaces(node):
    a, b = pod_object('web', 'team-a'), pod_object('web', 'team-b')
    node.put('pods.yaml', a, b)
    node.start()
    callers = {'team-a': node.caller(a), 'team-b': node.caller(b)}
    for mine, other in (('team-a', 'team-b'), ('team-b', 'team-a')):
        caller = callers[mine]
        module = known(node, caller).json
        assert module['path'] == f'/seen/{mine}/here/{module["sha256"]}.wasm'
        assert os.path.exists(os.path.join(node.daemon.store, 'modules', mine, f'{module["sha256"]}.wasm'))
        assert caller.get(node.url, namespace=mine).json['path'] == module['path']
        denied = caller.get(node.url, namespace=other)
        assert (denied.status, denied.code) == (403, 'denied') and f'"{mine}"' in denied.json['detail'], denied
        assert caller.ask('GET', f'/v1/modules?namespace={other}').code == 'denied'
        assert caller.ask('GET', f'/v1/events?namespace={other}').code == 'denied'
    # what one says with the other's namespace in it is denied, also when the same bytes were right before
    for _ in range(3):
        assert callers['team-a'].get(node.url, namespace='team-a').status == 200
        assert callers['team-b'].get(node.url, namespace='team-a').code == 'denied'
    assert [entry['path'] for entry in callers['team-b'].ask('GET', '/v1/modules').json['modules']] == [callers['team-b'].get(node.url).json['path']]


@pytest.mark.parametrize('path', [
    '/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid_}.slice/cri-containerd-{container}.scope',
    '/kubepods.slice/kubepods-pod{uid_}.slice/crio-{container}.scope/container',
    '/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{uid_}.slice/cri-containerd-{container}.scope',
    '/docker/{other}/kubelet/kubepods/besteffort/pod{uid}/{container}',
    '/kubepods/pod{uid}/{container}/kubepods/pod{evil}/{other}'])
def test_names_of_drivers(node, path):
    pod, evil = pod_object('web', 'team-a'), pod_object('evil', 'team-b')
    node.put('pods.yaml', pod, evil)
    node.start()
    uid = uid_of(pod)
    caller = node.caller(path=path.format(uid=uid, uid_=uid.replace('-', '_'), container=container_id(), other=container_id(), evil=uid_of(evil)))
    assert '/seen/team-a/' in known(node, caller).json['path']


@pytest.mark.parametrize('path', ['/system.slice/pod{uid}/{container}', '/user.slice/user-1000.slice/kubepods/pod{uid}/{container}', '/kubepods-pod{uid_}.slice/cri-containerd-{container}.scope',
                                  '/system.slice/ssh.service', '/kubepods/burstable', '/kubepods/pod{uid}x/{container}'])
def test_forged_names(node, path):
    pod = pod_object('web', 'team-a')
    node.put('pods.yaml', pod)
    node.start()
    known(node, node.caller(pod))
    caller = node.caller(path=path.format(uid=uid_of(pod), uid_=uid_of(pod).replace('-', '_'), container=container_id()))
    answer = caller.get(node.url)
    assert (answer.status, answer.code) == (403, 'denied'), answer


# ---- who is not known ----
def test_unknown(node):
    pod = pod_object('web', 'team-a')
    node.put('pods.yaml', pod)
    node.start()
    known(node, node.caller(pod))
    stranger = pod_object('stranger', 'team-a')
    callers = {'a pod that nobody told of': node.caller(stranger), 'a process of the host': node.caller()}
    for who, caller in callers.items():
        for method, target, body in (('POST', '/v1/modules', {'url': node.url}), ('GET', '/v1/modules', None), ('GET', '/v1/plugins', None), ('GET', '/v1/events', None),
                                     ('GET', '/v1/modules/' + 64 * 'a' + '/content', None), ('PUT', '/v1/leases/00ff', None), ('DELETE', '/v1/leases/00ff', None)):
            answer = caller.ask(method, target, body)
            assert (answer.status, answer.code) == (403, 'denied'), (who, method, target, answer)
        assert caller.ask('GET', '/healthz').status == 200      # probes need no pod
        assert caller.ask('POST', '/v1/gc', {}).status == 403
    assert uid_of(stranger) in callers['a pod that nobody told of'].get(node.url).json['detail']
    # it becomes known on the connection that it has, and is no longer known when its Pod goes
    caller = callers['a pod that nobody told of']
    assert caller.get(node.url, keep='one').status == 403
    node.put('more.yaml', stranger)
    await_true(lambda: caller.get(node.url, keep='one').status == 200, 20)
    node.put('more.yaml', pod_object('other', 'team-a'))
    await_true(lambda: caller.get(node.url, keep='one').status == 403, 20)


def test_nothing_read_yet(quick):
    pod = pod_object('web', 'team-a')
    shutil.rmtree(quick.manifests)
    quick.start()
    answer = quick.caller(pod).get(quick.url)
    assert (answer.status, answer.code) in ((503, 'busy'), (403, 'denied')), answer


def test_containers(node):
    mine, theirs = container_id(), container_id()
    a, b = pod_object('a', 'team-a', containers=[mine]), pod_object('b', 'team-b', containers=[theirs])
    node.put('pods.yaml', a, b)
    node.start()
    known(node, node.caller(a, mine))
    fresh = container_id()
    waiting, thief = node.caller(a, fresh), node.caller(a, theirs)
    assert waiting.get(node.url).status == 200          # the kubelet has not listed it yet: the UID is the proof
    answer = thief.get(node.url)
    assert answer.code == 'denied' and 'team-b/b' in answer.json['detail'], answer
    node.put('pods.yaml', a, pod_object('b', 'team-b', uid=uid_of(b), containers=[theirs, fresh]))
    await_true(lambda: waiting.get(node.url).status == 403, 20)


def test_static_pods(node):
    digest, stranger = uuid.uuid4().hex, uuid.uuid4().hex
    annotations = {'kubernetes.io/config.hash': digest, 'kubernetes.io/config.mirror': digest, 'kubernetes.io/config.source': 'file'}
    owner = [{'apiVersion': 'v1', 'kind': 'Node', 'name': 'n1', 'uid': 'x', 'controller': True}]
    forged = {'kubernetes.io/config.hash': stranger, 'kubernetes.io/config.mirror': stranger}
    node.put('pods.yaml', pod_object('proxy-n1', 'team-a', annotations=annotations, owners=owner, node='n1'), pod_object('forger', 'team-b', annotations=forged, node='n1'))
    node.start()
    assert '/seen/team-a/' in known(node, node.caller(path=f'/kubepods/burstable/pod{digest}/{container_id()}')).json['path']
    assert node.caller(path=f'/kubepods/burstable/pod{stranger}/{container_id()}').get(node.url).code == 'denied'       # anybody may write annotations


HOSTILE = {'empty': b'', 'huge': b'\n' * 70000 + b'0::/kubepods/pod%s/x\n', 'deleted': b'0::/kubepods/pod%s (deleted)\n', 'nul': b'0::/kubepods/pod%s\0/x\n',
           'two': b'2:cpu:/kubepods/pod%s/x\n1:memory:/kubepods/pod00000000-0000-0000-0000-000000000000/x\n'}


@pytest.mark.parametrize('text', HOSTILE.values(), ids=HOSTILE)
def test_hostile_files(quick, text):
    pod = pod_object('web', 'team-a')
    quick.put('pods.yaml', pod)
    quick.start()
    known(quick, quick.caller(pod))
    caller = quick.caller()
    quick.cgroups.text(caller.process.pid, text % uid_of(pod).encode() if b'%s' in text else text)
    assert caller.get(quick.url).code == 'denied'


# ---- processes that end ----
def ask_over(connected, target):
    connection = http.client.HTTPConnection('localhost')
    connection.sock = connected
    connection.request('GET', target)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_dead_before_accept(node):
    pod = pod_object('web', 'team-a')
    node.put('pods.yaml', pod)
    node.start()
    known(node, node.caller(pod))
    caller = node.caller(pod)
    node.daemon.process.send_signal(signal.SIGSTOP)
    try:
        handed = caller.hand_out()
        caller.process.kill()
        caller.process.wait()
    finally:
        node.daemon.process.send_signal(signal.SIGCONT)
    with handed:
        status, body = ask_over(handed, '/v1/modules')
    assert status == 403 and 'has ended' in body, (status, body)


def test_identity_is_of_who_connected(node):
    """A connection that is handed on is still its maker's, also when that one is gone."""
    pod = pod_object('web', 'team-a')
    node.put('pods.yaml', pod)
    node.start()
    path = known(node, node.caller(pod)).json['path']
    caller = node.caller(pod)
    with caller.hand_out() as handed:
        status, body = ask_over(handed, '/v1/modules')
        assert status == 200 and path in body, body
        caller.process.kill()
        caller.process.wait()
        assert ask_over(handed, '/v1/modules')[0] == 200


def test_other_pid_namespace(quick):
    """The daemon of a pod without hostPID sees no process of another one."""
    unshare = shutil.which('unshare')
    if not unshare or subprocess.run([unshare, '-pf', '--kill-child', 'true'], capture_output=True, check=False).returncode:
        pytest.skip('this user may make no pid namespaces')
    pod = pod_object('web', 'team-a')
    quick.put('pods.yaml', pod)
    daemon = quick.daemon
    with open(daemon.log, 'ab') as log:
        daemon.process = subprocess.Popen([unshare, '-pf', '--kill-child', DAEMON, '--config', daemon.file], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          env={**os.environ, **quick.cgroups.environment})
    await_true(daemon.is_up, 20)
    answer = quick.caller(pod).get(quick.url)
    assert answer.code == 'denied' and 'hostPID' in answer.json['detail'], answer
    daemon.process.kill()
    daemon.process.wait()
    daemon.process = None


# ---- what a pod has ----
def test_plugins(quick):
    url = {'url': quick.url, 'selector': {'matchLabels': {'app': 'web'}}}
    plugins = [{'apiVersion': 'extensions.istio.io/v1alpha1', 'kind': 'WasmPlugin', 'metadata': {'name': name, 'namespace': namespace}, 'spec': url}
               for name, namespace in (('a', 'team-a'), ('b', 'team-b'))]
    web, db = pod_object('web', 'team-a', app='web', zone='z'), pod_object('db', 'team-a', app='db')
    quick.put('all.yaml', web, db, *plugins)
    quick.start()
    callers = {name: quick.caller(pod) for name, pod in (('web', web), ('db', db))}
    known(quick, callers['web'])
    chain = callers['web'].ask('GET', '/v1/plugins')
    assert chain.status == 200 and [entry['name'] for entry in chain.json['plugins']] == ['a'], chain
    ready = await_true(lambda: next((e for e in callers['web'].ask('GET', '/v1/plugins').json['plugins'] if e['state'] == 'ready'), None), 20)
    assert ready['path'].startswith('/seen/team-a/here/')
    assert callers['db'].ask('GET', '/v1/plugins').json['plugins'] == []
    for query in ('namespace=team-a', 'namespace=team-b', 'label=app%3Dweb', 'service=team-a/x', 'serviceEntry=team-a/x'):
        answer = callers['db'].ask('GET', f'/v1/plugins?{query}')
        assert (answer.status, answer.code) == (403, 'denied'), (query, answer)
    for query in ('port=0', 'direction=up', 'type=x', 'label=x', 'unknown=1'):
        assert callers['db'].ask('GET', f'/v1/plugins?{query}').status == 400, query
    assert callers['web'].ask('GET', '/v1/plugins?direction=inbound&port=80&type=HTTP').status == 200
    # another label, another chain
    quick.put('all.yaml', web, pod_object('db', 'team-a', uid=uid_of(db), app='web'), *plugins)
    await_true(lambda: [entry['name'] for entry in callers['db'].ask('GET', '/v1/plugins').json['plugins']] == ['a'], 20)


def test_waiting_for_a_chain(quick):
    """Who waits with an ETag is answered when its own labels make another chain, and when its Pod is gone."""
    plugin = {'apiVersion': 'extensions.istio.io/v1alpha1', 'kind': 'WasmPlugin', 'metadata': {'name': 'a', 'namespace': 'team-a'},
              'spec': {'url': quick.url, 'selector': {'matchLabels': {'app': 'web'}}}}
    pod = pod_object('one', 'team-a', app='db')
    quick.put('all.yaml', plugin, pod)
    quick.start()
    caller = quick.caller(pod)
    known(quick, caller)
    empty = caller.ask('GET', '/v1/plugins')
    assert empty.json == {'plugins': []}
    waiting = {'method': 'GET', 'target': '/v1/plugins?wait=60s', 'headers': {'If-None-Match': empty.headers['etag']}}
    caller.tell(**waiting)
    await_true(lambda: quick.daemon.metric('wasmcached_requests_waiting') >= 1, 20)
    quick.put('all.yaml', plugin, pod_object('one', 'team-a', uid=uid_of(pod), app='web'))
    told = json.loads(caller.process.stdout.readline())
    assert told['status'] == 200 and '"name":"a"' in told['body'].replace(' ', ''), told
    quick.put('all.yaml', plugin, pod)
    await_true(lambda: caller.ask('GET', '/v1/plugins').json == {'plugins': []}, 20)
    caller.tell(**waiting)
    await_true(lambda: quick.daemon.metric('wasmcached_requests_waiting') >= 1, 20)
    quick.put('all.yaml', plugin)
    assert json.loads(caller.process.stdout.readline())['status'] == 403


def test_leases(quick):
    a, b = pod_object('a', 'team-a'), pod_object('b', 'team-b')
    quick.put('pods.yaml', a, b)
    quick.start()
    first, second, other = quick.caller(a), quick.caller(a), quick.caller(b)
    lease = known(quick, first).json['lease']['id']
    assert second.get(quick.url).json['lease']['id'] == lease           # per pod, whichever process asks
    assert known(quick, other).json['lease']['id'] != lease
    assert other.ask('PUT', f'/v1/leases/{lease}').status in (403, 404)
    first.end()
    quick.callers.remove(first)
    assert second.ask('PUT', f'/v1/leases/{lease}').status == 200
    assert second.ask('DELETE', f'/v1/leases/{lease}').status == 204


def test_limits_per_pod(make_node, folder_of_proc):
    node = make_node(folder_of_proc, limits={'connections_per_peer': 3})
    a, b = pod_object('a', 'team-a'), pod_object('b', 'team-a')
    node.put('pods.yaml', a, b)
    node.start()
    first, second, other = node.caller(a), node.caller(a), node.caller(b)
    known(node, first)
    assert [caller.get(node.url, keep=name).status for caller, name in ((first, 'x'), (second, 'x'), (second, 'y'))] == [200, 200, 200]
    for caller in (first, second):
        assert caller.get(node.url).status in (503, 0)                  # 0: closed before the request was written
    assert [other.get(node.url, keep=name).status for name in 'xyz'] == [200, 200, 200]


def test_configuration(quick):
    daemon = quick.daemon
    listener = {'path': daemon.agent, 'identity': 'pod', 'namespace': 'team-a'}
    daemon.configure(listeners=[listener])
    ran = subprocess.run([DAEMON, '--config', daemon.file], capture_output=True, text=True, check=False, timeout=20)
    assert ran.returncode == 2 and 'identity pod' in ran.stderr, ran
    del listener['namespace']
    daemon.configure(listeners=[listener], kubernetes={'mode': 'kubeconfig', 'kubeconfig': '/nonexistent/conf'})
    ran = subprocess.run([DAEMON, '--config', daemon.file], capture_output=True, text=True, check=False, timeout=20)
    assert ran.returncode == 2 and '/nonexistent/conf' in ran.stderr, ran


# ---- tokens ----
class KubeApi:
    def __init__(self, folder):
        self.process = subprocess.Popen(['/usr/bin/python3', os.path.join(SOURCE, 'tests', 'fake', 'kubeapi.py'), '--until-eof'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().split()[1])
        self.config = os.path.join(folder, 'kubeconfig')
        with open(self.config, 'w', encoding='utf-8') as stream:
            json.dump({'apiVersion': 'v1', 'kind': 'Config', 'current-context': 'c', 'contexts': [{'name': 'c', 'context': {'cluster': 'c', 'user': 'u'}}],
                       'clusters': [{'name': 'c', 'cluster': {'server': f'http://127.0.0.1:{self.port}'}}], 'users': [{'name': 'u', 'user': {'token': 't'}}]}, stream)

    def steer(self, action, **query):
        with urllib.request.urlopen(f'http://127.0.0.1:{self.port}/{action}?{urllib.parse.urlencode(query)}', timeout=20) as answer:
            return answer.read().decode()

    def token(self, token, pod, node='n1', audience='wasmcached'):
        extra = {f'authentication.kubernetes.io/{name}': [value] for name, value in (('pod-name', pod['metadata']['name']), ('pod-uid', uid_of(pod)), ('node-name', node))}
        user = {'username': f'system:serviceaccount:{pod["metadata"]["namespace"]}:runner', 'uid': 'x', 'extra': extra}
        self.steer('_token', token=token, json=json.dumps({'authenticated': True, 'audiences': [audience], 'user': user}))

    def reviews(self):
        return self.steer('_log').count('tokenreviews')

    def stop(self):
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


@pytest.fixture
def kube(world):
    folder = os.path.join(world, 'k' + uuid.uuid4().hex[:8])
    os.mkdir(folder)
    server = KubeApi(folder)
    yield server
    if server.process.poll() is None:
        server.stop()


@pytest.fixture
def clustered(make_node, folder_of_proc, kube):
    return make_node(folder_of_proc, kubernetes={'mode': 'kubeconfig', 'kubeconfig': kube.config, 'node': 'n1'})


def test_tokens(clustered, kube):
    a, b, far = pod_object('a', 'team-a', app='web'), pod_object('b', 'team-b'), pod_object('far', 'team-c')
    clustered.put('pods.yaml', a, b)
    clustered.start()
    for token, pod in (('tok.a', a), ('tok.b', b)):
        kube.token(token, pod)
    kube.token('tok.far', far)
    kube.token('tok.n2', a, node='n2')
    kube.token('tok.other', a, audience='api')
    host, inside = clustered.caller(), clustered.caller(a)
    known(clustered, inside)
    assert host.get(clustered.url).code == 'denied'
    before = kube.reviews()
    assert '/seen/team-a/' in host.get(clustered.url, token='tok.a').json['path']
    assert '/seen/team-b/' in host.get(clustered.url, token='tok.b').json['path']
    for _ in range(3):
        assert '/seen/team-a/' in host.get(clustered.url, token='tok.a').json['path']
    assert kube.reviews() == before + 2                     # remembered
    assert host.get(clustered.url, token='tok.a', namespace='team-b').code == 'denied'
    assert host.ask('GET', '/v1/plugins', Authorization='Bearer tok.a').json == {'plugins': []}
    # proved by the server, though no Pod is known here: its namespace is, its labels are not
    assert '/seen/team-c/' in host.get(clustered.url, token='tok.far').json['path']
    assert host.ask('GET', '/v1/plugins', Authorization='Bearer tok.far').code == 'busy'
    for token in ('tok.n2', 'tok.other', 'unheard-of', 'a b', 'x' * 5000):
        answer = host.get(clustered.url, token=token)
        assert (answer.status, answer.code) == (403, 'denied') and token not in answer.body.decode(), (token, answer)
    # both ways have to say the same
    assert inside.get(clustered.url, token='tok.a').status == 200
    assert inside.get(clustered.url, token='tok.b').code == 'denied'
    assert 'tok.' not in clustered.daemon.told()


def test_server_cannot_be_asked(clustered, kube):
    pod = pod_object('a', 'team-a')
    clustered.put('pods.yaml', pod)
    clustered.start()
    kube.token('tok.a', pod)
    host, inside = clustered.caller(), clustered.caller(pod)
    known(clustered, inside)
    assert host.get(clustered.url, token='tok.a').status == 200
    kube.stop()
    assert host.get(clustered.url, token='tok.a').status == 200             # known, and stays so
    answer = host.get(clustered.url, token='tok.new')
    assert answer.status >= 500 and answer.code in ('upstream_unreachable', 'upstream_error', 'timeout'), answer
    assert inside.get(clustered.url, token='tok.new').status == 200         # its cgroup is proof enough


def test_stop_while_reviewing(clustered, kube):
    clustered.put('pods.yaml', pod_object('a', 'team-a'))
    clustered.start()
    kube.steer('_fault', match='tokenreviews', do='hang', count=20)
    waiting = [clustered.caller() for _ in range(6)]
    for number, caller in enumerate(waiting):
        caller.tell(method='POST', target='/v1/modules', body=json.dumps({'url': clustered.url}), headers={'Content-Type': 'application/json', 'Authorization': f'Bearer tok.{number}'})
    await_true(lambda: kube.reviews() >= 4, 20)
    await_true(lambda: clustered.daemon.metric('wasmcached_requests_waiting') >= 6 and kube.reviews() == 4, 20)          # at most four are asked at a time
    waiting[0].end()
    clustered.callers.remove(waiting[0])
    assert clustered.daemon.stop() == 0, clustered.daemon.told()
    for caller in waiting[1:]:
        told = json.loads(caller.process.stdout.readline())
        assert told['status'] == 503, told
