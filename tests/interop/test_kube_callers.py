"""Pods as callers, with the Pods and tokens of a real Kubernetes API: what issue 5 calls done, and every answer that a token can get."""
import contextlib
import json
import os
import pathlib
import tempfile
import time

import pytest
import yaml

import kube
import peers
from kube_rig import FOLDER, await_true, bound_pod, built, plain_pod, remove_pod, token

pytestmark = pytest.mark.skipif(kube.missing() is not None, reason=str(kube.missing()))


# ---- cgroups as a kubelet names them
class OldCgroups:
    """Of version 1, in hierarchies that hold no memory and no cpu of anybody."""

    def __init__(self, parts):
        self.parts, self.environment = parts, {}

    def put(self, pid, path):
        for part in self.parts:
            part.put(pid, path)

    def close(self):
        for part in self.parts:
            part.close()


def old_cgroups():
    from e2e_identity import RealCgroups
    mounts = [line.split() for line in pathlib.Path('/proc/self/mounts').read_text().splitlines()]
    found = [at for _, at, kind, options, *_ in mounts if kind == 'cgroup' and {'name=systemd', 'pids', 'freezer'} & set(options.split(',')) and os.access(at, os.W_OK)]
    return OldCgroups([RealCgroups(at) for at in found]) if found else None


@pytest.fixture(params=['cgroup 2', 'cgroup 1', 'a folder in the place of /proc'])
def cgroups(request):
    from e2e_identity import FolderOfProc, RealCgroups, cgroup2
    if request.param.startswith('a folder'):
        with tempfile.TemporaryDirectory() as folder:
            yield FolderOfProc(folder)
        return
    if os.geteuid() != 0:
        pytest.skip('needs root, to make cgroups')
    made = old_cgroups() if request.param == 'cgroup 1' else RealCgroups(root) if (root := cgroup2()) else None
    if not made:
        pytest.skip(f'no {request.param} here that this user may use')
    yield made
    made.close()


class Node:
    """The daemon of node-a as the overlay identity-pod configures it, with the rights of its service account; processes at places among the cgroups."""

    def __init__(self, cluster, daemon, cgroups):
        config = yaml.safe_load((FOLDER / 'overlays' / 'identity-pod' / 'config.yaml').read_text())
        listener, = config.pop('listeners')
        assert listener.pop('path') and config.pop('admin') and config.pop('store') and config.pop('log')         # the daemon of a test has its own
        config['metrics']['address'] = f'127.0.0.1:{peers.free_port()}'
        config['kubernetes'] |= {'mode': 'kubeconfig', 'kubeconfig': str(cluster.write_kubeconfig('wasmcached', token(cluster))), 'node': 'node-a'}
        self.cgroups, self.callers = cgroups, []
        self.daemon = daemon(yaml.safe_dump(config | {'pull': {'negative_time': '0s'}}),
                             listener=', '.join(f'{name}: {value}' for name, value in listener.items()), environment=cgroups.environment)

    def caller(self, uid=None, container=None):
        from e2e_identity import Caller, container_id
        path = f'/kubepods/burstable/pod{uid}/{container or container_id()}' if uid else None
        self.callers.append(Caller(AgentOf(self.daemon), self.cgroups, path))
        return self.callers[-1]

    def ctl(self, *words):
        ran = self.daemon.ctl(*words, admin=True)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def row(self, *words):
        """The first five columns of the one line below the heads."""
        _, line = self.ctl(*words).splitlines()
        return line.split()[:5]

    def file(self, path, namespace):
        """What a pod of that namespace, which mounts only its folder, has at `path`."""
        assert path.startswith('/modules/')
        return self.daemon.folder / 'store' / 'modules' / namespace / path.removeprefix('/modules/')


class AgentOf:
    def __init__(self, daemon):
        self.agent = str(daemon.socket)


@contextlib.contextmanager
def node_of(cluster, daemon, cgroups):
    made = Node(cluster, daemon, cgroups)
    try:
        yield made
    finally:
        for caller in made.callers:
            caller.end()
    assert 'forbidden' not in made.daemon.log.read_text().lower()          # no right was missing


class Chain:
    """The chain that one caller follows by asking and then waiting with the ETag of what it has."""

    def __init__(self, caller):
        self.caller, self.tag, self.plugins = caller, None, []

    def turn(self):
        answer = self.caller.ask('GET', '/v1/plugins?wait=20s', **({'If-None-Match': self.tag} if self.tag else {}))
        assert answer.status in (200, 304), answer
        if answer.status == 200:
            self.tag, self.plugins = answer.headers['etag'], answer.json['plugins']
        return self.plugins

    def follow(self, check, what):
        end = time.monotonic() + 60
        while not check(self.plugins):
            assert time.monotonic() < end, f'{what} did not come about: {self.plugins}'
            self.turn()
        return self.plugins


def told(cluster, reason, text):
    """The Events of that reason on the example's WasmPlugin which hold that text."""
    uid = cluster.get('wasmplugin', 'authz', '-n', 'team-a')['metadata']['uid']
    return [one for one in cluster.get('events.events.k8s.io', '-n', 'team-a')['items'] if one['regarding'].get('uid') == uid and one['reason'] == reason and text in one['note']]


# ---- Done when
def test_done_when(applied, tenant, daemon, cgroups, modules):
    """Issue 5: apply the objects and the example, run the daemon as its service account, ask from a process in the pod's cgroup and get the path; another namespace's process gets `denied`; change, break
    and repair the WasmPlugin and see chain, Events and CLI follow."""
    from e2e_identity import container_id
    plugin, registry = tenant
    good, container = plugin['spec']['url'], container_id()
    mine = bound_pod(applied, next(one for one in built(applied, 'example') if one['kind'] == 'Pod'), container=container)
    applied.kubectl('create', 'namespace', 'team-b', good=False)
    theirs = bound_pod(applied, plain_pod('web-1', 'team-b', app='web'))
    with node_of(applied, daemon, cgroups) as node:
        web, other, host, thief = node.caller(mine, container), node.caller(theirs), node.caller(), node.caller(theirs, container)
        got = await_true(lambda: (lambda answer: answer if answer.status == 200 else None)(web.get(good, imagePullSecret='registry-login')), 'the path').json
        assert got['path'] == f"/modules/{got['sha256']}.wasm" and node.file(got['path'], 'team-a').read_bytes() == modules['small'].read_bytes()

        await_true(lambda: other.ask('GET', '/v1/plugins').status == 200, 'the other pod')
        for caller in (other, host, thief):
            answer = caller.get(good, imagePullSecret='registry-login', namespace='team-a')
            assert (answer.status, answer.code) == (403, 'denied'), answer
        assert other.get(good, imagePullSecret='registry-login').code == 'secret_missing' and other.get(good).code == 'unauthorized'
        assert other.ask('GET', '/v1/plugins').json == {'plugins': []} and other.ask('GET', '/v1/modules').json['modules'] == []
        assert not node.file(got['path'], 'team-b').exists()

        chain = Chain(web)
        first, = chain.follow(lambda plugins: [one['state'] for one in plugins] == ['ready'], 'the chain')
        assert (first['name'], first['phase'], first['path'], first['pluginConfig']) == ('authz', 'AUTHZ', got['path'], plugin['spec']['pluginConfig'])
        await_true(lambda: told(applied, 'Pulled', registry.host), 'the Event Pulled')

        plugin['spec']['url'] = good.replace(':v1', ':v2')                                    # changed
        applied.apply(plugin)
        second, = chain.follow(lambda plugins: plugins[0]['state'] == 'ready' and plugins[0]['sha256'] != first['sha256'], 'the changed plugin')
        assert node.file(second['path'], 'team-a').read_bytes() == modules['small2'].read_bytes()
        assert node.row('plugins', '-n', 'team-a', '-l', 'app=web') == ['team-a', 'authz', 'AUTHZ', '0', 'ready']

        plugin['spec']['url'] = good.replace(':v1', ':nowhere')                               # broken: no such image
        applied.apply(plugin)
        failed, = chain.follow(lambda plugins: plugins[0]['state'] == 'failed', 'the failure')
        assert failed['code'] == 'not_found' and 'team/authz/manifests/nowhere' in failed['detail']
        await_true(lambda: told(applied, 'Refused', 'manifests/nowhere'), 'the Event Refused')
        assert 'not_found' in (event := told(applied, 'Refused', 'manifests/nowhere')[0])['note'] and event['type'] == 'Warning'
        assert node.row('plugins', '-n', 'team-a', '-l', 'app=web')[4] == 'failed' and 'not_found' in node.ctl('plugins', '-n', 'team-a', '-l', 'app=web')
        assert web.get(good, imagePullSecret='registry-login').json['path'] == got['path']         # what was there stays

        plugin['spec'] |= {'url': good, 'verificationKey': 'no key'}                          # broken: the server takes it, the agent does not
        applied.apply(plugin)
        refused, = chain.follow(lambda plugins: plugins[0]['state'] == 'refused', 'the refusal')
        assert [problem['field'] for problem in refused['problems']] == ['spec.verificationKey'] and refused['phase'] == 'AUTHZ'
        await_true(lambda: told(applied, 'Refused', 'spec.verificationKey'), 'the Event Refused')
        assert 'refused' in (said := node.ctl('resources', '-n', 'team-a')) and 'spec.verificationKey' in said, said
        plugin['spec']['failStrategy'] = 'NEVER'                                              # broken: the server itself says no, nothing changes
        assert 'failStrategy' in applied.apply(plugin, good=False).stderr

        del plugin['spec']['verificationKey'], plugin['spec']['failStrategy']                 # repaired
        applied.apply(plugin)
        again, = chain.follow(lambda plugins: plugins[0]['state'] == 'ready', 'the repaired plugin')
        assert (again['sha256'], again['problems']) == (first['sha256'], [])
        await_true(lambda: told(applied, 'Recovered', ''), 'the Event Recovered')
        assert 'accepted' in node.ctl('resources', '-n', 'team-a') and node.row('plugins', '-n', 'team-a', '-l', 'app=web')[4] == 'ready'
        assert 'reaches' in node.ctl('explain', '--plugin', 'team-a/authz', '-n', 'team-a', '-l', 'app=web') and 'pulled' in node.ctl('events')

        remove_pod(applied, 'web-1', 'team-a')
        await_true(lambda: web.get(good, imagePullSecret='registry-login').status == 403, 'the end of the pod')
        assert other.ask('GET', '/v1/plugins').status == 200


# ---- the second way
def bound_token(cluster, uid, name='web-1', namespace='team-a', audience='wasmcached'):
    """What the kubelet writes into the pod's volume: serviceAccountToken: {audience: wasmcached}."""
    bound = ['--bound-object-kind', 'Pod', '--bound-object-name', name, '--bound-object-uid', uid] if uid else []
    return cluster.kubectl('create', 'token', 'default', '-n', namespace, *(['--audience', audience] if audience else []), *bound).strip()


@pytest.fixture
def accounts(applied):
    """What a controller makes in each namespace."""
    applied.kubectl('create', 'namespace', 'team-b', good=False)
    for namespace in ('team-a', 'team-b'):
        applied.kubectl('create', 'serviceaccount', 'default', '-n', namespace, good=False)
    return applied


@pytest.fixture
def seen(tmp_path):
    from e2e_identity import FolderOfProc
    return FolderOfProc(str(tmp_path / 'proc'))


def test_tokens(accounts, tenant, daemon, seen, modules):
    """A projected token with our audience, reviewed by the server itself: the pod's namespace and labels, on this node only, and never against what the cgroup says."""
    plugin, cluster = tenant[0], accounts
    url, secret = plugin['spec']['url'], {'imagePullSecret': 'registry-login'}
    mine, theirs = bound_pod(cluster, plain_pod('web-1', 'team-a', app='web')), bound_pod(cluster, plain_pod('web-1', 'team-b', app='web'))
    far = bound_pod(cluster, plain_pod('far', 'team-a', node='node-b', app='web'))
    tokens = {'mine': bound_token(cluster, mine), 'theirs': bound_token(cluster, theirs, namespace='team-b')}
    with node_of(cluster, daemon, seen) as node:
        host, inside = node.caller(), node.caller(mine)
        await_true(lambda: inside.ask('GET', '/v1/plugins').status == 200, 'the pod')
        assert host.get(url, **secret).code == 'denied'
        got = host.get(url, token=tokens['mine'], **secret).json
        assert node.file(got['path'], 'team-a').read_bytes() == modules['small'].read_bytes()
        chain = host.ask('GET', '/v1/plugins', Authorization=f"Bearer {tokens['mine']}")
        assert [one['name'] for one in chain.json['plugins']] == ['authz']
        assert host.get(url, token=tokens['theirs'], namespace='team-a', **secret).code == 'denied'
        assert host.ask('GET', '/v1/plugins', Authorization=f"Bearer {tokens['theirs']}").json == {'plugins': []}
        assert inside.get(url, token=tokens['mine'], **secret).status == 200
        refused = {'another audience': bound_token(cluster, mine, audience='elsewhere'), 'the audience of the API': bound_token(cluster, mine, audience=None), 'no pod': bound_token(cluster, None),
                   'a pod of another node': bound_token(cluster, far, name='far'), 'another signature': tokens['mine'][:-8] + 'AAAAAAAA', 'nonsense': 'a.b.c'}
        for what, shown in refused.items():
            for caller in (host, inside):
                answer = caller.get(url, token=shown, **secret)
                assert (answer.status, answer.code) == (403, 'denied') and shown not in answer.body.decode(), (what, answer)
        answer = inside.get(url, token=tokens['theirs'], **secret)                            # both ways have to say the same
        assert answer.code == 'denied' and mine in answer.json['detail'], answer
        assert not [shown for shown in (*tokens.values(), *refused.values()) if len(shown) > 20 and shown.split('.')[-1] in node.daemon.log.read_text()]
    assert cluster.kubectl('auth', 'whoami', '--token', tokens['mine'], '--kubeconfig', anonymous(cluster), good=False).returncode != 0           # of no use to the daemon elsewhere


def anonymous(cluster):
    return cluster.write_kubeconfig('anonymous', '')


def test_token_of_a_deleted_pod(accounts, tenant, daemon, seen):
    """Its pod is gone: refused, whether the daemon had it reviewed before or not, as soon as the server's own memory of ten seconds is over."""
    plugin, cluster = tenant[0], accounts
    url, secret = plugin['spec']['url'], {'imagePullSecret': 'registry-login'}
    uid = bound_pod(cluster, plain_pod('short', 'team-a', app='web'))
    reviewed, fresh = (bound_token(cluster, uid, name='short') for _ in range(2))
    with node_of(cluster, daemon, seen) as node:
        host = node.caller()
        assert await_true(lambda: (lambda answer: answer if answer.status == 200 else None)(host.get(url, token=reviewed, **secret)), 'the token').json['path']
        remove_pod(cluster, 'short', 'team-a')
        for shown in (fresh, reviewed):
            await_true(lambda shown=shown: host.get(url, token=shown, **secret).status == 403, 'the refusal of the token', 60)
