"""Pull secrets of the API server: by name, in the request's namespace, in a known order; what lacks is named; rotation and re-creation are told apart."""
import base64
import json
import os
import threading
import urllib.parse

import pytest

import signing
from conftest import PASSWORD
from e2e_daemon import await_true
from e2e_images import hexes, push, unique
from e2e_kube import Kube, in_cluster
from e2e_plugins import plugin, secret
from e2e_servers import docker_config
from e2e_sign import Key, Signed

WRONG = 'Wr0ng-of-a-test'


@pytest.fixture
def kube():
    made = Kube()
    yield made.start()
    made.stop()


@pytest.fixture
def cluster(make_daemon, kube):
    return in_cluster(make_daemon(start=False), kube)


def config_of(private, password=PASSWORD):
    return docker_config(**{f'127.0.0.1:{private.port}': ('puller', password)})


def ask(cluster, private, repository, name='pull', **more):
    return cluster.daemon.ask('POST', '/v1/modules', {'url': private.ref(repository), 'imagePullSecret': name, **more}, to='team')


# ---- good
def test_plugin_with_a_secret(private, kube, cluster):
    repository, _, module = push(private)
    kube.apply(plugin('p', url=private.ref(repository), imagePullSecret='pull'), secret('pull', config_of(private)), secret('pull', config_of(private, WRONG), namespace='team-b'))
    cluster.daemon.start()
    await_true(lambda: cluster.ask(namespace='team-a').status == 200, 30)
    assert cluster.await_state('p', 'ready')['sha256'] == hexes(module)
    answer = ask(cluster, private, repository)
    assert answer.status == 200 and answer.json['source'] == 'cache'
    assert {entry['target'] for entry in kube.log('/secrets/')} == {'/api/v1/namespaces/team-a/secrets/pull'}        # by name, and no other
    found = cluster.daemon.ask('GET', f"/v1/inspect?name={answer.json['sha256']}", to='admin')
    assert '"secret":"pull","secretUid":"uid-' in found.body.decode().replace(' ', '') and PASSWORD not in found.body.decode()
    told = cluster.daemon.told() + cluster.daemon.ask('GET', '/v1/events', to='admin').body.decode()
    for text in (PASSWORD, 'of-a-test', base64.b64encode(f'puller:{PASSWORD}'.encode()).decode()):
        assert text not in told.replace('kubeconfig', '')


def test_order(private, kube, cluster):
    """Manifests, then the API, then secrets_dir."""
    repository = push(private)[0]
    folder = os.path.join(cluster.daemon.secrets, 'team-a', 'pull')
    os.makedirs(folder)
    with open(os.path.join(folder, '.dockerconfigjson'), 'w', encoding='utf-8') as stream:
        json.dump(config_of(private), stream)
    cluster.daemon.start()
    assert ask(cluster, private, repository).status == 200          # not there, nor in a manifest
    assert kube.log('/secrets/pull')
    cluster.daemon.stop()
    kube.apply(secret('pull', config_of(private, WRONG)))
    cluster.daemon.start()
    other = push(private, repository=unique())[0]
    assert ask(cluster, private, other).code == 'unauthorized'
    cluster.put('s.yaml', secret('pull', config_of(private)))
    await_true(lambda: ask(cluster, private, other).status == 200, 30)


# ---- what lacks
@pytest.mark.parametrize('case, said', [
    ('absent', 'Secret team-a/pull does not exist'), ('forbidden', 'Secret team-a/pull may not be read'), ('type', 'Opaque'), ('empty', 'is empty'), ('key', 'is not in it'),
    ('no config', 'Secret team-a/pull')])
def test_missing_is_named_and_never_anonymous(registry, kube, make_daemon, case, said):
    cluster = in_cluster(make_daemon(start=False), kube)
    cluster.daemon.configure(credentials={'secrets_dir': ''})
    repository = push(registry)[0]
    thing = secret('pull', '' if case == 'empty' else 'no json' if case == 'no config' else {'auths': {}})
    if case == 'type':
        thing['type'] = 'Opaque'
    if case == 'key':
        thing['data'] = {'other': 'YQ=='}
    if case != 'absent':
        kube.apply(thing)
    if case == 'forbidden':
        kube.fault('/secrets/', 'forbidden')
    cluster.daemon.start()
    answer = ask(cluster, registry, repository)
    assert answer.code == 'secret_missing' and 'team-a/pull' in answer.json['detail'] and said in answer.json['detail'], answer
    assert registry.count('GET', repository) == 0 and registry.count('HEAD', repository) == 0


def test_unreachable_is_not_missing(private, kube, cluster):
    """What was read counts on while the API is away; what was not is upstream_unreachable, never anonymous and never another source's."""
    repository = push(private)[0]
    kube.apply(secret('pull', config_of(private)))
    cluster.daemon.start()
    assert ask(cluster, private, repository).status == 200
    kube.stop()
    for _ in range(3):
        assert ask(cluster, private, repository).status == 200
    answer = ask(cluster, private, repository, name='other')
    assert answer.code == 'upstream_unreachable' and 'Secret team-a/other' in answer.json['detail'], answer


def test_restart_while_the_api_is_away(private, kube, cluster):
    """What a Secret was granted before needs no network; another name, another namespace and another image do."""
    repository, _, module = push(private)
    other = push(private, repository=unique())[0]
    kube.apply(plugin('p', url=private.ref(repository), imagePullSecret='pull'), secret('pull', config_of(private)))
    cluster.daemon.start()
    await_true(lambda: cluster.ask(namespace='team-a').status == 200, 30)
    cluster.await_state('p', 'ready')
    await_true(lambda: os.path.exists(os.path.join(cluster.daemon.store, 'cluster', 'trafficextensions.jsonl')), 30)
    assert cluster.daemon.stop() == 0
    kube.stop()
    before = len(private.requests())
    cluster.daemon.start()
    answer = ask(cluster, private, repository)
    assert answer.status == 200 and answer.json['source'] == 'cache' and answer.json['sha256'] == hexes(module)
    await_true(lambda: cluster.ask(namespace='team-a').status == 200, 30)
    cluster.await_state('p', 'ready')                     # the chain is remembered, its module held
    for refused in (ask(cluster, private, repository, name='pul'), ask(cluster, private, repository, name='pull2'), ask(cluster, private, other),
                    ask(cluster, private, repository, imagePullPolicy='Always'),
                    cluster.daemon.ask('POST', '/v1/modules', {'url': private.ref(repository), 'imagePullSecret': 'pull', 'namespace': 'team-b'}, to='trusted')):
        assert refused.code == 'upstream_unreachable' and 'Secret' in refused.json['detail'], refused
    assert len(private.requests()) == before


def test_restart_while_nobody_can_be_asked_for_signatures(private, kube, cluster, tmp_path):
    """Neither the API nor the registry: what a Secret was granted and a key has signed is judged by what is stored, at the first request; another key is told that nobody could look."""
    key, other, image = Key(str(tmp_path), 'K'), Key(str(tmp_path), 'K2'), Signed(private)
    image.sign(signing.sign_simple, key)
    kube.apply(secret('pull', config_of(private)))
    cluster.daemon.start()
    first = ask(cluster, private, image.repository, verificationKey=key.pem)
    assert first.status == 200 and first.json['verified']['keyFingerprint'] == key.fingerprint
    assert cluster.daemon.stop() == 0
    kube.stop()
    before = len(private.requests())
    cluster.daemon.start()
    refused = ask(cluster, private, image.repository, verificationKey=other.pem)
    assert refused.code == 'signature_unreachable' and 'Secret team-a/pull' in refused.json['detail'] and other.fingerprint[:16] in refused.json['detail'], refused
    answer = ask(cluster, private, image.repository, verificationKey=key.pem)
    assert answer.status == 200 and (answer.json['source'], answer.json['verified']) == ('cache', first.json['verified']), answer
    assert ask(cluster, private, image.repository, name='pull2', verificationKey=key.pem).code == 'upstream_unreachable'
    assert len(private.requests()) == before


# ---- change
def test_rotation_is_found_by_the_refusal(private, kube, cluster):
    """A registry that says 401 makes the Secret be read past its cache of minutes, and the same request goes on with what is in it now."""
    repository = push(private)[0]
    kube.apply(secret('pull', config_of(private, WRONG)))
    cluster.daemon.start()
    assert ask(cluster, private, repository).code == 'unauthorized'
    kube.apply(secret('pull', config_of(private)))
    await_true(lambda: ask(cluster, private, repository).status == 200, 40, 'the new password, long before two minutes are over')


def test_recreated_secret_is_another_principal(private, kube, cluster):
    """Rotated (same uid): what it was granted stays. Deleted and made again (new uid): it has to show anew that it may."""
    repository = push(private)[0]
    kube.apply(secret('pull', config_of(private)))
    cluster.daemon.start()
    assert ask(cluster, private, repository).status == 200
    cluster.daemon.stop()
    kube.apply(secret('pull', config_of(private, WRONG)))
    cluster.daemon.start()
    assert ask(cluster, private, repository).status == 200
    cluster.daemon.stop()
    kube.delete(secret('pull', ''))
    kube.apply(secret('pull', config_of(private, WRONG)))
    cluster.daemon.start()
    assert ask(cluster, private, repository).code == 'unauthorized'
    kube.apply(secret('pull', config_of(private)))
    await_true(lambda: ask(cluster, private, repository).status == 200, 40)


def test_many_secrets_of_an_api_that_hangs(registry, private, kube, cluster):
    """They wait for a few workers; everything else goes on."""
    repository, _, module = push(registry)
    kube.fault('/secrets/', 'hang')
    cluster.daemon.start()
    asking = [threading.Thread(target=lambda n=n: ask(cluster, private, 'x/y', name=f's{n}', timeout='2s')) for n in range(20)]
    for thread in asking:
        thread.start()
    answer = cluster.daemon.ask('POST', '/v1/modules', {'url': registry.ref(repository)}, to='team')
    assert answer.status == 200 and answer.json['sha256'] == hexes(module)
    for thread in asking:
        thread.join()


# ---- what is asked at all
def test_traps_of_the_api_that_nobody_steps_into(cluster, kube, private):
    """Measured of a real server: protobuf and CBOR are 406 for custom resources, one version number more or none is 500 or silence, an open watch of a Secret outlives the right to it, and a watch
    without timeout or bookmarks can hang for ever. None of it is ever asked for, in a life with lists, watches, relists, Secrets, Events."""
    first, second = (push(private, repository=unique()) for _ in range(2))
    kube.apply(secret('pull', config_of(private)), plugin('p', url=private.ref(first[0]), imagePullSecret='pull'), plugin('broken', url=private.ref(first[0]), imagePullSecret='nowhere'))
    cluster.daemon.start()
    cluster.await_state('p', 'ready')
    kube.apply(plugin('p', url=private.ref(second[0]), imagePullSecret='pull'))
    await_true(lambda: cluster.entry('p')['sha256'] == hexes(second[2]), 30)
    kube.steer('expire')
    kube.steer('close')
    await_true(lambda: len([entry for entry in kube.log('GET ') if 'wasmplugins' in entry['target']]) >= 3, 60)
    await_true(lambda: kube.events(), 30)
    log = kube.log()
    for entry in log:
        path, _, query = entry['target'].partition('?')
        query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        assert entry['accept'] == 'application/json' and entry['encoding'] in (None, 'identity'), entry
        assert (entry['method'], query.get('watch')) in {('GET', None), ('GET', '1'), ('GET', 'true'), ('POST', None), ('PATCH', None)}, entry
        if 'watch' in query:
            assert query['allowWatchBookmarks'] in ('1', 'true') and 1 <= int(query['timeoutSeconds']) <= 600, entry
            assert 'sendInitialEvents' not in query or query['resourceVersionMatch'] == 'NotOlderThan', entry
        if query.get('resourceVersion'):
            assert query['resourceVersion'].isdigit(), entry
        if '/secrets' in path:                   # by name alone, once per answer
            assert path.startswith('/api/v1/namespaces/team-a/secrets/') and not query, entry
        if path.endswith('/pods'):
            assert query['fieldSelector'].startswith('spec.nodeName='), entry
    assert {part for entry in log for part in ('watch=', '/secrets/', '/events') if part in entry['target']} == {'watch=', '/secrets/', '/events'}
