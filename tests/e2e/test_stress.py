"""What wears a daemon down: many callers, sources that stall, changes under its feet; and nothing may be left behind."""
import json
import os
import random
import shutil
import signal
import socket
import threading
import time

import pytest

from conftest import PASSWORD
from content import OCI_INDEX, index
from e2e_daemon import UnixConnection, await_true
from e2e_images import Image, body_of, hexes, push, unique, wasm
from e2e_servers import Registry, docker_config


def descriptors(daemon):
    try:
        return len(os.listdir(f'/proc/{daemon.process.pid}/fd'))
    except PermissionError:
        pytest.skip('a daemon that leaves no core files shows its descriptors to root alone; the flow tests count them from inside')


def test_nothing_is_left_open(daemon, registry, private, nginx):
    urls = [registry.ref(push(registry)[0]) for _ in range(3)] + [nginx.put(unique('f').replace('/', '-'), wasm('fd'))]

    def round_of_requests():
        for url in urls:
            daemon.good(url, imagePullPolicy='Always')
            daemon.ask('GET', f"/v1/modules/{daemon.good(url)['sha256']}/content")
        daemon.bad(registry.ref('absent/image'), 'not_found')
        daemon.get(private.ref('some/image'))
        daemon.get('http://127.0.0.1:1/x')
        daemon.get(nginx.put('no.wasm', b'no wasm'))
        daemon.ctl('verify')
        daemon.ask('POST', '/v1/reload', to='admin')
    round_of_requests()
    before = descriptors(daemon)
    for _ in range(5):
        round_of_requests()
    # idle connections of the pool may be one more or less
    await_true(lambda: descriptors(daemon) <= before + 2, 5, f'descriptors going back from {descriptors(daemon)} to {before}')
    assert os.listdir(os.path.join(daemon.store, 'tmp')) == []


@pytest.mark.alone
def test_stalled_source(make_daemon):
    """A source that sends a little and then nothing is given up after progress_timeout."""
    with socket.socket() as source:
        source.bind(('127.0.0.1', 0))
        source.listen()
        held = []

        def serve():
            try:
                while True:
                    client, _ = source.accept()
                    client.recv(4096)
                    client.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n\0asm')
                    held.append(client)
            except OSError:
                pass
        threading.Thread(target=serve, daemon=True).start()
        daemon = make_daemon(pull={'progress_timeout': '300ms'})
        began = time.monotonic()
        answer = daemon.get(f'http://127.0.0.1:{source.getsockname()[1]}/x.wasm')
        assert answer.code in ('timeout', 'upstream_unreachable', 'upstream_error') and time.monotonic() - began < 5
        for client in held:
            client.close()
        source.shutdown(socket.SHUT_RDWR)


def test_broken_transfer_is_resumed(make_daemon):
    module = wasm('resumed', 300 << 10)
    ranges = []
    with socket.socket() as source:
        source.bind(('127.0.0.1', 0))
        source.listen()

        def serve():
            try:
                while True:
                    client, _ = source.accept()
                    request = client.recv(8192).decode()
                    wanted = next((line for line in request.splitlines() if line.lower().startswith('range:')), None)
                    ranges.append(wanted)
                    if wanted:
                        first = int(wanted.split('=')[1].rstrip('-'))
                        client.sendall(b'HTTP/1.1 206 Partial Content\r\nETag: "a"\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\nConnection: close\r\n\r\n' % (first, len(module) - 1, len(module), len(module) - first)
                                       + module[first:])
                    else:
                        client.sendall(b'HTTP/1.1 200 OK\r\nETag: "a"\r\nAccept-Ranges: bytes\r\nContent-Length: %d\r\n\r\n' % len(module) + module[:100000])
                    client.close()
            except OSError:
                pass
        threading.Thread(target=serve, daemon=True).start()
        daemon = make_daemon(pull={'retries': 3})
        got = daemon.good(f'http://127.0.0.1:{source.getsockname()[1]}/x.wasm', sha256=hexes(module))
        assert body_of(got['path']) == module
        assert len(ranges) == 2 and ranges[1].lower() == 'range: bytes=100000-', ranges
        source.shutdown(socket.SHUT_RDWR)


def test_secret_goes_away(private, daemon):
    repository, _, _ = push(private)
    folder = daemon.put_secret('default', 'pull', docker_config(**{private.host: ('puller', PASSWORD)}))
    daemon.good(private.ref(repository), imagePullSecret='pull')
    shutil.rmtree(folder)
    await_true(lambda: daemon.get(private.ref(repository), imagePullSecret='pull').status != 200, 2, 'the refusal')
    daemon.bad(private.ref(repository), 'secret_missing', imagePullSecret='pull')


def test_always_of_an_index(daemon, registry):
    made = Image(unique())
    child = made.raw_image(tag=None)
    made.manifest(index([child]), OCI_INDEX, tag='v1')
    made.push(registry)
    url = registry.ref(made.name)
    assert daemon.good(url, imagePullPolicy='Always')['source'] == 'pulled'
    gets = registry.count('GET', made.name)
    assert daemon.good(url, imagePullPolicy='Always')['source'] == 'revalidated'
    assert registry.count('GET', made.name) == gets


def test_image_is_gone_upstream(daemon, registry):
    """Always says so; what was there stays."""
    repository, digest, module = push(registry)
    url = registry.ref(repository)
    got = daemon.good(url, imagePullPolicy='Always')
    deleted = registry.session.delete(f'{registry.scheme}://{registry.host}/v2/{repository}/manifests/{digest}')
    assert deleted.status_code == 202
    daemon.bad(url, 'not_found', imagePullPolicy='Always')
    assert body_of(got['path']) == module
    assert daemon.good(url)['source'] == 'cache'


def test_ipv6(start_server, make_daemon):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(('::1', 0))
    except OSError:
        pytest.skip('there is no ::1 here')

    class SixRegistry(Registry):
        def __init__(self, folder):
            super().__init__(folder)
            self.host = f'[::1]:{self.port}'
            self.config['http']['addr'] = self.host
    server = start_server(SixRegistry)
    repository, _, module = push(server)
    assert body_of(make_daemon().good(server.ref(repository))['path']) == module


def test_no_log_storm(daemon):
    before = len(daemon.told().splitlines())
    connection = UnixConnection(daemon.agent)
    for _ in range(2000):
        connection.request('POST', '/v1/modules', '{"url": "oci://127.0.0.1:1/a/b:v1", "nonsense": 1}', {'Content-Type': 'application/json'})
        connection.getresponse().read()
    connection.close()
    assert len(daemon.told().splitlines()) - before < 500


def test_reload_and_restart_under_load(daemon, registry):
    """Every answer is right, or an honest refusal, whatever happens to the daemon."""
    modules = {}
    for _ in range(6):
        repository, _, module = push(registry)
        modules[registry.ref(repository)] = hexes(module)
    stop, wrong, good = threading.Event(), [], [0]

    def load(seed):
        chance = random.Random(seed)
        while not stop.is_set():
            url = chance.choice(list(modules))
            try:
                answer = daemon.get(url, imagePullPolicy=chance.choice(['Always', 'IfNotPresent']), to=chance.choice(['agent', 'team', 'trusted', 'admin']))
            except OSError:
                continue
            except Exception as problem:  # noqa: BLE001
                assert type(problem).__module__ == 'http.client', problem
                continue
            if answer.status == 200 and answer.json['sha256'] == modules[url]:
                good[0] += 1
            elif answer.status not in (503, 404):
                wrong.append(answer)
    threads = [threading.Thread(target=load, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(6):
            time.sleep(0.2)
            daemon.ctl('gc')
            daemon.ctl('verify')
            for url in modules:
                daemon.ctl('refresh', url)
            daemon.process.send_signal(signal.SIGHUP)
            if number % 2:
                daemon.restart(signal.SIGKILL if number == 3 else signal.SIGTERM)
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert wrong == [] and good[0] > 50
    for url, sha in modules.items():
        got = daemon.good(url)
        assert hexes(body_of(got['path'])) == sha
    assert json.loads(daemon.ctl_good('verify', '-o', 'json')).get('damaged') == []
