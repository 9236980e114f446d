"""Registries as they are in the world: TLS with an own CA, client certificates, passwords, tokens, mirrors."""
import time

import pytest

from conftest import PASSWORD
from e2e_images import body_of, hexes, push, unique, wasm
from e2e_servers import Authority, Registry, TokenServer, basic, docker_config


# ---- TLS ----
@pytest.fixture(scope='module')
def tls(start_server, authority):
    return start_server(Registry, tls=authority.sign('registry'), ca=authority.ca)


def test_own_ca(tls, authority, make_daemon):
    repository, _, module = push(tls)
    daemon = make_daemon(registries={tls.host: {'ca': authority.ca}})
    assert body_of(daemon.good(tls.ref(repository))['path']) == module


def test_unknown_ca(tls, authority, make_daemon, tmp_path):
    repository, _, _ = push(tls)
    assert tls.host in make_daemon().bad(tls.ref(repository), 'upstream_error')     # a loopback host that nothing is said of is asked in http
    stranger = Authority(tmp_path, 'stranger')
    other = make_daemon(registries={tls.host: {'ca': stranger.ca}})
    detail = other.bad(tls.ref(repository), 'upstream_unreachable')
    assert tls.host in detail and 'certificate' in detail.lower()
    # the right one, by reload
    other.configure(registries={tls.host: {'ca': authority.ca}})
    other.ctl_good('reload')
    other.good(tls.ref(repository))


def test_skip_verify(tls, make_daemon):
    repository, _, _ = push(tls)
    daemon = make_daemon(registries={tls.host: {'skip_verify': True}})
    daemon.good(tls.ref(repository))


def test_wrong_name(start_server, authority, make_daemon):
    server = start_server(Registry, tls=authority.sign('elsewhere', 'DNS:registry.example'), ca=authority.ca, name='registry.example')
    repository, _, _ = push(server)
    daemon = make_daemon(registries={server.host: {'ca': authority.ca}})
    daemon.bad(server.ref(repository), 'upstream_unreachable')


def test_client_certificate(start_server, authority, make_daemon, tmp_path):
    certificate, key = authority.sign('node', use='clientAuth')
    server = start_server(Registry, tls=(*authority.sign('mutual'), authority.ca), ca=authority.ca, client=(certificate, key))
    repository, _, module = push(server)
    config = {'ca': authority.ca}
    daemon = make_daemon(registries={server.host: config})
    daemon.bad(server.ref(repository), 'upstream_unreachable')
    daemon.configure(registries={server.host: {**config, 'client_certificate': certificate, 'client_key': key}})
    daemon.ctl_good('reload')
    assert body_of(daemon.good(server.ref(repository))['path']) == module


def test_plain_http_is_not_tried_against_tls(tls, make_daemon, registry):
    repository, _, _ = push(registry)
    daemon = make_daemon(registries={registry.host: {'plain_http': False}})
    answer = daemon.get(registry.ref(repository))
    assert answer.status in (200, 502, 503)


# ---- Basic ----
def test_basic(private, daemon):
    repository, _, module = push(private)
    detail = daemon.bad(private.ref(repository), 'unauthorized', 401)
    assert private.host in detail
    daemon.put_secret('default', 'pull', docker_config(**{private.host: ('puller', PASSWORD)}))
    got = daemon.good(private.ref(repository), imagePullSecret='pull')
    assert body_of(got['path']) == module
    daemon.put_secret('default', 'wrong', docker_config(**{private.host: ('puller', 'not this')}))
    daemon.bad(private.ref(repository), 'unauthorized', imagePullSecret='wrong')
    daemon.put_secret('default', 'elsewhere', docker_config(**{'registry.example': ('puller', PASSWORD)}))
    daemon.bad(private.ref(repository), 'unauthorized', imagePullSecret='elsewhere')


@pytest.mark.parametrize('entry', [lambda: {'auth': basic('puller', PASSWORD)}, lambda: {'username': 'puller', 'password': PASSWORD}, lambda: {'auth': basic('puller', PASSWORD), 'email': 'a@b'}])
@pytest.mark.parametrize('form', ['json', 'cfg'])
def test_forms_of_a_secret(private, daemon, entry, form):
    repository, _, _ = push(private)
    auths = {private.host: entry()}
    daemon.put_secret('default', 's', {'auths': auths} if form == 'json' else auths, '.dockerconfigjson' if form == 'json' else '.dockercfg')
    daemon.good(private.ref(repository), imagePullSecret='s')


@pytest.mark.parametrize('key', ['http://{}', 'https://{}/v1/', '{}/e2e', '{}/e2e/', '127.0.0.*:{port}'])
def test_keys_of_a_keyring(private, daemon, key):
    repository, _, _ = push(private)
    name = key.format(private.host, port=private.port)
    answer = daemon.get(private.ref(repository), pullSecret=docker_config(**{name: ('puller', PASSWORD)}))
    assert answer.status == 200 or (name.endswith('/') and 'e2e' in name), answer


def test_several_entries_are_tried(private, daemon):
    repository, _, _ = push(private)
    daemon.good(private.ref(repository), pullSecret=docker_config(**{private.host + '/' + repository: ('puller', 'old'), private.host: ('puller', PASSWORD)}))


def test_node_config(private, make_daemon, tmp_path):
    import json
    (tmp_path / 'node.json').write_text(json.dumps(docker_config(**{private.host: ('puller', PASSWORD)})))
    daemon = make_daemon(credentials={'docker_config': str(tmp_path / 'node.json')})
    repository, _, _ = push(private)
    daemon.good(private.ref(repository))
    daemon.good(private.ref(repository), to='team')


def test_a_broken_node_config_harms_only_who_needs_it(private, registry, make_daemon, tmp_path):
    (tmp_path / 'node.json').write_text('{"auths": {')
    daemon = make_daemon(credentials={'docker_config': str(tmp_path / 'node.json')})
    own, public = push(private)[0], push(registry)[0]
    daemon.good(private.ref(own), pullSecret=docker_config(**{private.host: ('puller', PASSWORD)}))
    wrong = daemon.bad(private.ref(push(private)[0]), 'unauthorized', pullSecret=docker_config(**{private.host: ('puller', 'old')}))
    assert 'besides' in wrong and 'node.json' in wrong
    assert 'node.json' in daemon.bad(registry.ref(public), 'secret_missing')
    assert 'node.json' in daemon.bad(registry.ref(public), 'secret_missing', pullSecret=docker_config(**{private.host: ('puller', PASSWORD)}))
    (tmp_path / 'node.json').write_text('{"auths": {}}')
    daemon.good(registry.ref(public))


# ---- Bearer ----
@pytest.fixture(scope='module')
def tokens(start_server):
    """The realm is at another port of 127.0.0.1 than the registry."""
    service = start_server(TokenServer, {'puller': PASSWORD, 'pusher': 'push'})
    return service, start_server(Registry, service.auth())


class Bearer(__import__('requests').auth.AuthBase):
    def __init__(self, service, repository):
        self.token = service.sign('pusher', [f'repository:{repository}:pull,push'], 'of a test')

    def __call__(self, request):
        request.headers['Authorization'] = 'Bearer ' + self.token
        return request


def push_with_token(tokens, name=None):
    service, registry = tokens
    repository = name or unique()
    registry.session.auth = Bearer(service, repository)
    return push(registry, repository=repository)


def test_bearer(tokens, make_daemon):
    service, registry = tokens
    daemon = make_daemon()
    repository, _, module = push_with_token(tokens)
    daemon.bad(registry.ref(repository), 'unauthorized')
    got = daemon.good(registry.ref(repository), pullSecret=docker_config(**{registry.host: ('puller', PASSWORD)}))
    assert body_of(got['path']) == module
    assert service.asked[-1] == ('GET', 'puller', f'repository:{repository}:pull')
    daemon.bad(registry.ref(repository), 'unauthorized', pullSecret=docker_config(**{registry.host: ('puller', 'wrong')}), imagePullPolicy='Always')
    assert PASSWORD not in daemon.told()


def test_bearer_anonymous(tokens, make_daemon):
    _, registry = tokens
    daemon = make_daemon()
    repository, _, _ = push_with_token(tokens, 'public/' + unique())
    assert daemon.good(registry.ref(repository))


def test_bearer_identitytoken(tokens, make_daemon):
    service, registry = tokens
    daemon = make_daemon()
    repository, _, _ = push_with_token(tokens)
    daemon.good(registry.ref(repository), pullSecret={'auths': {registry.host: {'identitytoken': PASSWORD}}})
    assert service.asked[-1][0] == 'POST'


def test_bearer_registrytoken(tokens, make_daemon):
    service, registry = tokens
    daemon = make_daemon()
    repository, _, _ = push_with_token(tokens)
    asked = len(service.asked)
    daemon.good(registry.ref(repository), pullSecret={'auths': {registry.host: {'registrytoken': service.sign('puller', [f'repository:{repository}:pull'], 'of a test')}}})
    assert len(service.asked) == asked


def test_token_is_kept(tokens, make_daemon):
    service, registry = tokens
    daemon = make_daemon()
    repository, _, _ = push_with_token(tokens)
    secret = docker_config(**{registry.host: ('puller', PASSWORD)})
    daemon.good(registry.ref(repository), pullSecret=secret)
    asked = len(service.asked)
    for _ in range(3):
        daemon.good(registry.ref(repository), pullSecret=secret, imagePullPolicy='Always')
    assert len(service.asked) == asked


# ---- mirrors ----
@pytest.fixture
def mirrored(world, start_server, htpasswd):
    """An origin, and a pull-through registry as its mirror; both of this test alone, as they are stopped in it."""
    origin = start_server(Registry)
    mirror = start_server(Registry, {'proxy': {'remoteurl': f'http://{origin.host}'}})
    return origin, mirror


def test_mirror(mirrored, make_daemon):
    origin, mirror = mirrored
    repository, digest, module = push(origin)
    daemon = make_daemon(registries={origin.host: {'mirrors': [f'http://{mirror.host}']}, mirror.host: {'plain_http': True}})
    got = daemon.good(origin.ref(repository))
    assert body_of(got['path']) == module and got['digest'] == digest
    assert mirror.count('GET', repository) >= 2 and f'ns={origin.host}'.replace(':', '%3A') in mirror.told() or f'ns={origin.host}' in mirror.told()


@pytest.mark.alone
def test_mirror_down_is_origin(mirrored, make_daemon):
    origin, mirror = mirrored
    repository, _, module = push(origin)
    mirror.stop()
    daemon = make_daemon(registries={origin.host: {'mirrors': [f'http://{mirror.host}']}})
    began = time.monotonic()
    assert body_of(daemon.good(origin.ref(repository))['path']) == module
    assert time.monotonic() - began < 5


def test_origin_down_is_mirror(mirrored, make_daemon):
    origin, mirror = mirrored
    repository, _, module = push(origin)
    daemon = make_daemon(registries={origin.host: {'mirrors': [f'http://{mirror.host}']}})
    daemon.good(origin.ref(repository), imagePullPolicy='Always')
    other = make_daemon(registries={origin.host: {'mirrors': [f'http://{mirror.host}']}})
    origin.stop()
    assert hexes(module) == other.good(origin.ref(repository))['sha256']
    mirror.stop()
    make_daemon(registries={origin.host: {'mirrors': [f'http://{mirror.host}']}}).bad(origin.ref(repository), 'upstream_unreachable')


def test_mirror_gets_its_own_credentials_only(start_server, htpasswd, make_daemon):
    origin = start_server(Registry, htpasswd, login=('puller', PASSWORD))
    mirror = start_server(Registry, htpasswd, login=('other', 'other-' + PASSWORD))
    module = wasm(unique())
    repository, _, _ = push(mirror, module)
    config = {origin.host: {'mirrors': [f'http://{mirror.host}']}}
    # only the origin's: the mirror refuses, the origin has nothing of that name
    make_daemon(registries=config).bad(origin.ref(repository), 'not_found', pullSecret=docker_config(**{origin.host: ('puller', PASSWORD)}))
    assert not [line for line in mirror.told().splitlines() if 'puller' in line and repository in line and '200' in line and 'PUT' not in line and 'POST' not in line]
    both = docker_config(**{origin.host: ('puller', PASSWORD), mirror.host: ('other', 'other-' + PASSWORD)})
    assert make_daemon(registries=config).good(origin.ref(repository), pullSecret=both)['sha256'] == hexes(module)
