"""Ways to a source that lead through others: a proxy (CONNECT for https, whole URLs for http), and HTTP/2 where it is offered."""
import base64
import os
import select
import socket
import subprocess
import threading

import pytest

from conftest import PASSWORD
from e2e_daemon import free_port
from e2e_images import body_of, hexes, push, wasm
from e2e_servers import NGINX, Nginx, Registry, basic


class Proxy:
    """A forward proxy that leads every name to loopback. `login` is what it wants; `refuse` a status that it answers CONNECT with. `told`: (method, target, headers) of every request."""

    def __init__(self, login=None, refuse=None):
        self.login, self.refuse, self.told = login, refuse, []
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        self.url = f'http://{login + "@" if login else ""}127.0.0.1:{self.port}'
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            with client:
                self.talk(client)
        except OSError:
            pass

    def talk(self, client):
        head = b''
        while b'\r\n\r\n' not in head:
            more = client.recv(65536)
            if not more:
                return
            head += more
        head, _, rest = head.partition(b'\r\n\r\n')
        line, *lines = head.decode('latin-1').split('\r\n')
        method, target, _ = line.split(' ')
        headers = {name.lower(): value.strip() for name, _, value in (item.partition(':') for item in lines)}
        self.told.append((method, target, headers))
        if self.login and headers.get('proxy-authorization') != 'Basic ' + base64.b64encode(self.login.encode()).decode():
            return client.sendall(b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="p"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
        if self.refuse:
            return client.sendall(b'HTTP/1.1 %d No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' % self.refuse)
        if method == 'CONNECT':
            with socket.create_connection(('127.0.0.1', int(target.rpartition(':')[2]))) as server:
                client.sendall(b'HTTP/1.1 200 Connection established\r\n\r\n')
                server.sendall(rest)
                return self.pump(client, server)
        authority, _, path = target.removeprefix('http://').partition('/')
        with socket.create_connection(('127.0.0.1', int(authority.rpartition(':')[2]))) as server:
            passed = ''.join(f'{item}\r\n' for item in lines if not item.lower().startswith(('proxy-', 'connection:')))
            server.sendall(f'{method} /{path} HTTP/1.1\r\n{passed}Connection: close\r\n\r\n'.encode('latin-1') + rest)
            self.pump(client, server)

    @staticmethod
    def pump(one, other):
        while True:
            for source in select.select([one, other], [], [], 60)[0]:
                data = source.recv(65536)
                if not data:
                    return
                (other if source is one else one).sendall(data)

    def connects(self):
        return [target for method, target, _ in self.told if method == 'CONNECT']


@pytest.fixture
def make_proxy():
    made = []

    def make(**how):
        made.append(Proxy(**how))
        return made[-1]
    yield make
    for proxy in made:
        proxy.listener.close()


@pytest.fixture(scope='module')
def named(start_server, authority):
    """A registry behind TLS and a password whose name only the proxy can lead to."""
    folder = os.path.dirname(authority.ca)
    path = os.path.join(folder, 'proxied-htpasswd')
    with open(path, 'wb') as stream:
        stream.write(subprocess.run(['htpasswd', '-Bbn', '-C', '4', 'puller', PASSWORD], check=True, capture_output=True).stdout)
    return start_server(Registry, {'auth': {'htpasswd': {'realm': 'of a test', 'path': path}}}, login=('puller', PASSWORD), tls=authority.sign('proxied', 'DNS:registry.example'), ca=authority.ca,
                        name='registry.example')


def secret_for(host):
    return {'auths': {host: {'auth': basic('puller', PASSWORD)}}}


def started(make_daemon, environment=None, **config):
    return make_daemon(start=False, **config).start(environment=environment)


@pytest.mark.parametrize('by', ['environment', 'configuration'])
def test_https_by_connect(by, named, authority, make_daemon, make_proxy):
    repository, _, module = push(named)
    proxy, wrong = make_proxy(login='walker:Pr0xy-s3cret'), make_proxy(refuse=403)
    host = f'registry.example:{named.port}'
    environment = {'HTTPS_PROXY': proxy.url if by == 'environment' else wrong.url, 'HTTP_PROXY': wrong.url}
    daemon = started(make_daemon, environment, registries={host: {'ca': authority.ca}}, network={'https_proxy': proxy.url} if by == 'configuration' else {})
    got = daemon.good(f'oci://{host}/{repository}:v1', pullSecret=secret_for(host))
    assert body_of(got['path']) == module and not wrong.told
    assert proxy.connects() and set(proxy.connects()) == {host}
    for method, _, headers in proxy.told:
        assert method == 'CONNECT' and 'authorization' not in headers and PASSWORD not in str(headers)
    # through the tunnel it is TLS with the registry itself: the proxy cannot stand in for it
    assert 'HTTP/2.0" 200' in named.told()
    assert 'Pr0xy-s3cret' not in daemon.told()


def test_no_proxy(named, authority, make_daemon, make_proxy):
    proxy = make_proxy()
    host = f'registry.example:{named.port}'
    daemon = started(make_daemon, {'HTTPS_PROXY': proxy.url, 'NO_PROXY': 'other.example,.example'}, registries={host: {'ca': authority.ca}}, pull={'retries': 0, 'connect_timeout': '3s'})
    daemon.bad(f'oci://{host}/team/a:v1', 'upstream_unreachable')          # no such name outside of the proxy
    assert not proxy.told


def test_proxy_that_refuses(named, authority, make_daemon, make_proxy):
    host = f'registry.example:{named.port}'
    for proxy, words in ((make_proxy(refuse=403).url, '403'), (make_proxy(login='a:b').url.replace('a:b@', ''), '407'), (f'http://127.0.0.1:{free_port()}', 'proxy')):
        daemon = started(make_daemon, registries={host: {'ca': authority.ca}}, network={'https_proxy': proxy}, pull={'retries': 0})
        detail = daemon.bad(f'oci://{host}/team/a:v1', 'upstream_unreachable')
        assert words in detail and host in detail, detail


def test_http_by_whole_urls(nginx, make_daemon, make_proxy):
    proxy = make_proxy()
    nginx.put('proxied.wasm', wasm('proxied'))
    daemon = started(make_daemon, {'HTTP_PROXY': proxy.url})
    url = f'http://files.example:{nginx.port}/proxied.wasm'
    assert daemon.good(url)['sha256'] == hexes(wasm('proxied'))
    assert [target for method, target, _ in proxy.told if method == 'GET'] == [url]
    # loopback is never asked for by way of a proxy
    assert daemon.good(nginx.put('direct.wasm', wasm('direct')))['sha256'] == hexes(wasm('direct'))
    assert len(proxy.told) == 1


def test_literal_addresses_are_judged_before_the_proxy(make_daemon, make_proxy):
    proxy = make_proxy()
    daemon = started(make_daemon, {'HTTP_PROXY': proxy.url})
    daemon.bad('http://169.254.169.254/latest/plugin.wasm', 'denied')
    assert not proxy.told


@pytest.mark.skipif(not NGINX, reason='nginx is not installed')
def test_http2(start_server, make_daemon, authority):
    """Taken where it is offered (ALPN), several requests on one connection, and HTTP/1.1 where not."""
    modern = start_server(Nginx, tls=authority.sign('modern'))
    with open(os.path.join(modern.folder, 'nginx.conf'), encoding='utf-8') as stream:
        text = stream.read()
    modern.stop()
    with open(os.path.join(modern.folder, 'nginx.conf'), 'w', encoding='utf-8') as stream:
        stream.write(text.replace(' ssl;', ' ssl http2;', 1).replace("'$request_method $uri $status", "'$request_method $uri $status $server_protocol $connection"))
    modern.start()
    plain = start_server(Nginx, tls=authority.sign('plain'))
    daemon = make_daemon(registries={server.host: {'ca': authority.ca} for server in (modern, plain)})
    modules = [wasm(f'over h2 {number}', 300_000) for number in range(6)]
    for number, module in enumerate(modules):
        assert daemon.good(modern.put(f'm{number}.wasm', module))['sha256'] == hexes(module)
    lines = [modern.lines(f'm{number}.wasm')[0] for number in range(6)]
    assert {line[3] for line in lines} == {'HTTP/2.0'} and len({line[4] for line in lines}) == 1, lines
    assert daemon.good(plain.put('old.wasm', modules[0]))['sha256'] == hexes(modules[0])
    daemon.bad(modern.put('absent.wasm', b'').replace('absent', 'none'), 'not_found')
