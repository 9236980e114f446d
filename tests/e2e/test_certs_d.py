"""containerd's certs.d (registries_dir): mirrors, authorities, client certificates, headers and capabilities, with real registries."""
import os

import pytest

from conftest import PASSWORD
from e2e_images import body_of, push, unique, wasm
from e2e_servers import Authority, Nginx, Registry, docker_config


class Tree:
    def __init__(self, folder):
        self.folder = str(folder)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def put(self, host, text, name='hosts.toml'):
        os.makedirs(self.path(host), exist_ok=True)
        with open(self.path(host, name), 'w', encoding='utf-8') as stream:
            stream.write(text)

    def copy(self, host, source, name):
        with open(source, encoding='utf-8') as stream:
            self.put(host, stream.read(), name)


@pytest.fixture
def tree(tmp_path):
    os.chmod(tmp_path, 0o755)
    os.mkdir(tmp_path / 'certs.d')
    return Tree(tmp_path / 'certs.d')


@pytest.fixture(scope='module')
def tls(start_server, authority):
    return start_server(Registry, tls=authority.sign('certs-d'), ca=authority.ca)


def toml(url, *lines, server=None):
    return (f'server = "{server}"\n' if server else '') + f'[host."{url}"]\n' + '\n'.join(lines) + '\n'


def test_mirror_over_tls_with_its_own_ca(tls, authority, registry, make_daemon, tree):
    """The origin has nothing; the mirror is asked first, with the authority that lies beside hosts.toml."""
    repository, _, module = push(tls)
    tree.copy(registry.host, authority.ca, 'ca.pem')
    tree.put(registry.host, toml(f'https://{tls.host}', 'capabilities = ["pull", "resolve"]', 'ca = "ca.pem"'))
    daemon = make_daemon(registries_dir=tree.folder)
    assert body_of(daemon.good(registry.ref(repository))['path']) == module
    assert f'ns={registry.host}'.replace(':', '%3A') in tls.told() or f'ns={registry.host}' in tls.told()


def test_mirror_is_passed_over(registry, make_daemon, tree):
    repository, _, _ = push(registry)
    tree.put(registry.host, toml('http://127.0.0.1:1'))
    make_daemon(registries_dir=tree.folder).good(registry.ref(repository))


def test_server_forbids_the_origin(registry, start_server, make_daemon, tree):
    mirror = start_server(Registry)
    repository, _, _ = push(registry)
    tree.put(registry.host, f'server = "http://{mirror.host}"\n')
    daemon = make_daemon(registries_dir=tree.folder)
    before = len(registry.requests())
    daemon.bad(registry.ref(repository), 'not_found')
    assert len(registry.requests()) == before


def test_default_is_for_all_others(registry, start_server, make_daemon, tree):
    mirror = start_server(Registry)
    repository, _, module = push(mirror)
    own, _, _ = push(registry)
    tree.put('_default', toml(f'http://{mirror.host}'))
    tree.put(registry.host.replace(':', '_') + '_', '# nothing but the registry itself\n')
    daemon = make_daemon(registries_dir=tree.folder)
    assert body_of(daemon.good(f'oci://127.0.0.1:1/{repository}:v1')['path']) == module
    before = len(mirror.requests())
    daemon.good(registry.ref(own))
    assert len(mirror.requests()) == before


@pytest.mark.parametrize('form', ['toml', 'docker', 'skip'])
def test_registry_itself(tls, authority, make_daemon, tree, form):
    repository, _, module = push(tls)
    if form == 'docker':
        tree.copy(tls.host, authority.ca, 'ca.crt')
    else:
        tree.put(tls.host, f'ca = "{authority.ca}"\n' if form == 'toml' else 'skip_verify = true\n')
    daemon = make_daemon(registries_dir=tree.folder)
    assert body_of(daemon.good(tls.ref(repository))['path']) == module


@pytest.mark.parametrize('form', ['toml', 'docker'])
def test_client_certificate(start_server, authority, make_daemon, tree, form):
    certificate, key = authority.sign('node-' + form, use='clientAuth')
    server = start_server(Registry, tls=(*authority.sign('mutual-' + form), authority.ca), ca=authority.ca, client=(certificate, key))
    repository, _, module = push(server)
    tree.copy(server.host, authority.ca, 'ca.crt')
    tree.put(server.host, f'ca = "ca.crt"\nclient = [["{certificate}", "{key}"]]\n' if form == 'toml' else '')
    if form == 'docker':
        tree.copy(server.host, certificate, 'node.cert')
        tree.copy(server.host, key, 'node.key')
    assert body_of(make_daemon(registries_dir=tree.folder).good(server.ref(repository))['path']) == module


def test_registries_win(tls, authority, make_daemon, tree, tmp_path):
    """A host of which registries says how it is reached is not looked up in the tree, and what they say of a mirror's TLS holds too."""
    repository, _, _ = push(tls)
    tree.put(tls.host, f'server = "http://127.0.0.1:1"\nca = "{authority.ca}"\n')
    make_daemon(registries_dir=tree.folder).bad(tls.ref(repository), 'upstream_unreachable')
    make_daemon(registries_dir=tree.folder, registries={tls.host: {'ca': authority.ca}}).good(tls.ref(repository))
    make_daemon(registries_dir=tree.folder, registries={tls.host: {'token_realms': ['t.example']}}).bad(tls.ref(repository), 'upstream_unreachable')      # says nothing of how it is reached
    stranger = Authority(tmp_path, 'stranger')
    tree.put('127.0.0.1:1', toml(f'https://{tls.host}', f'ca = "{authority.ca}"'))
    make_daemon(registries_dir=tree.folder).good(f'oci://127.0.0.1:1/{repository}:v1')
    make_daemon(registries_dir=tree.folder, registries={tls.host: {'ca': stranger.ca}}).bad(f'oci://127.0.0.1:1/{repository}:v1', 'upstream_unreachable')


def test_capabilities(registry, start_server, make_daemon, tree):
    """Tags are resolved only where that may be; bytes come from a mirror for bytes before the origin; by digest it is asked first."""
    mirror = start_server(Registry)
    name = unique()
    repository, digest, module = push(registry, repository=name)
    push(mirror, module, repository=name)
    push(mirror, wasm('another of that tag'), repository=name, tag='v2')
    tree.put(registry.host, toml(f'http://{mirror.host}', 'capabilities = ["pull"]'))
    daemon = make_daemon(registries_dir=tree.folder)
    assert body_of(daemon.good(registry.ref(repository))['path']) == module
    assert mirror.count('GET', f'/v2/{repository}/manifests/v1') == 0 and registry.count('GET', f'/v2/{repository}/blobs/') == 0 and mirror.count('GET', f'/v2/{repository}/blobs/') == 1
    daemon.bad(registry.ref(repository).replace(':v1', ':v2'), 'not_found')
    other = make_daemon(registries_dir=tree.folder)
    before = registry.count('GET', f'/v2/{repository}/manifests/')
    other.good(f'oci://{registry.host}/{repository}@{digest}')
    assert registry.count('GET', f'/v2/{repository}/manifests/') == before
    tree.put(registry.host, f'server = "http://{mirror.host}"\ncapabilities = ["pull"]\n')
    detail = make_daemon(registries_dir=tree.folder).bad(registry.ref(repository), 'upstream_unreachable')
    assert 'capability "resolve"' in detail


def test_override_path_and_header(start_server, make_daemon, tree):
    """A mirror whose API lies elsewhere than below /v2 and that wants a header of its own."""
    origin, behind = start_server(Registry), start_server(Registry)
    repository, _, module = push(behind)
    front = start_server(Nginx, extra=f'location /api/cache/ {{ if ($http_x_node != "n 1") {{ return 403; }} proxy_pass http://{behind.host}/v2/; }}')
    tree.put(origin.host, toml(f'http://{front.host}/api/cache', 'override_path = true', 'dial_timeout = "5s"', f'[host."http://{front.host}/api/cache".header]', 'x-node = "n 1"'))
    daemon = make_daemon(registries_dir=tree.folder)
    assert body_of(daemon.good(origin.ref(repository))['path']) == module
    assert 'n 1' not in daemon.told()


def test_mirror_has_its_own_login(private, start_server, htpasswd, make_daemon, tree):
    mirror = start_server(Registry, htpasswd, login=('other', 'other-' + PASSWORD))
    repository, _, _ = push(mirror)
    tree.put(private.host, toml(f'http://{mirror.host}'))
    daemon = make_daemon(registries_dir=tree.folder)
    daemon.get(private.ref(repository), pullSecret=docker_config(**{private.host: ('puller', PASSWORD)}))
    assert not [line for line in mirror.told().splitlines() if 'puller' in line and repository in line and 'http.response.status=200' in line and 'method=GET' in line]
    daemon.good(private.ref(repository), pullSecret=docker_config(**{private.host: ('puller', PASSWORD), mirror.host: ('other', 'other-' + PASSWORD)}))


def test_mistake_closes_its_host_only_until_it_is_mended(registry, start_server, make_daemon, tree):
    other = start_server(Registry)
    repository, _, _ = push(registry)
    elsewhere, _, _ = push(other)
    tree.put(registry.host, '\ncapabilities = ["fly"]\n')
    daemon = make_daemon(registries_dir=tree.folder)
    detail = daemon.bad(registry.ref(repository), 'upstream_unreachable')
    assert f'{registry.host}/hosts.toml:2: capabilities' in detail
    daemon.good(other.ref(elsewhere))
    tree.put(registry.host, '\ncapabilities = ["pull"]\n')
    daemon.ctl_good('reload')
    daemon.good(registry.ref(repository))


def test_absent_folder(registry, make_daemon, tmp_path):
    repository, _, _ = push(registry)
    daemon = make_daemon(registries_dir=str(tmp_path / 'none'))
    daemon.good(registry.ref(repository))
    assert 'registries_dir_absent' in daemon.told()
