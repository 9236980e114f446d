"""More of a service's life: activation without names, the second signal, mirrors of private images."""
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from conftest import PASSWORD
from e2e_daemon import DAEMON, await_true
from e2e_images import hexes, push, unique, wasm
from e2e_servers import Registry, docker_config


@pytest.mark.skipif(not shutil.which('systemd-socket-activate'), reason='systemd-socket-activate is not installed')
def test_activation_without_names(make_daemon, registry):
    """Sockets are told apart by their paths, not only by names."""
    daemon = make_daemon(start=False, listeners=[{'path': '/nowhere', 'identity': 'fixed'}])
    daemon.configure(listeners=[{'path': daemon.agent, 'identity': 'fixed', 'namespace': 'team-z'}])
    with open(daemon.log, 'ab') as log:
        parent = subprocess.Popen(['systemd-socket-activate', '--listen', daemon.admin, '--listen', daemon.agent, DAEMON, '--config', daemon.file], stdout=log, stderr=log)
    try:
        await_true(lambda: os.path.exists(daemon.agent) and os.path.exists(daemon.admin), what='the sockets')
        repository, _, _ = push(registry)
        assert '/modules/team-z/' in daemon.good(registry.ref(repository))['path']
        assert daemon.ask('POST', '/v1/gc').code == 'denied' and daemon.ask('POST', '/v1/gc', to='admin').status == 200
    finally:
        parent.terminate()
        assert parent.wait(10) == 0
    assert os.path.exists(daemon.agent)       # it is its parent's


@pytest.mark.skipif(not shutil.which('systemd-socket-activate'), reason='systemd-socket-activate is not installed')
def test_socket_that_is_no_listeners_is_told(make_daemon):
    """Who connects there waits for ever; the log says why."""
    daemon = make_daemon(start=False)
    other = os.path.join(daemon.folder, 'other.sock')
    with open(daemon.log, 'ab') as log:
        parent = subprocess.Popen(['systemd-socket-activate', '--listen', daemon.admin, '--listen', other, DAEMON, '--config', daemon.file], stdout=log, stderr=log)
    try:
        await_true(lambda: os.path.exists(daemon.admin), what='the sockets')
        assert daemon.ask('GET', '/healthz', to='admin').status == 200
        assert [line for line in daemon.told().splitlines() if 'event=socket_unused' in line and f'path={other}' in line] and f'path={daemon.admin}' not in daemon.told()
    finally:
        parent.terminate()
        assert parent.wait(10) == 0


@pytest.mark.alone
def test_second_signal(make_daemon):
    with socket.socket() as silent:
        silent.bind(('127.0.0.1', 0))
        silent.listen()
        daemon = make_daemon()
        thread = threading.Thread(target=daemon_get_quietly, args=(daemon, silent.getsockname()[1]))
        thread.start()
        silent.accept()
        process = daemon.process
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        process.wait(5)
        assert time.monotonic() - began < 1
        daemon.process = None
        thread.join(5)
        daemon.start()


def daemon_get_quietly(daemon, port):
    try:
        daemon.get(f'http://127.0.0.1:{port}/x.wasm')
    except Exception as problem:  # noqa: BLE001
        assert isinstance(problem, OSError) or type(problem).__module__ == 'http.client', problem


def test_image_of_an_open_mirror(start_server, htpasswd, make_daemon):
    """The operator configured the mirror: who may pull there may have the image; the origin is not asked."""
    origin = start_server(Registry, htpasswd, login=('puller', PASSWORD))
    mirror = start_server(Registry)
    module = wasm(unique())
    repository, _, _ = push(mirror, module)
    push(origin, module, repository)
    daemon = make_daemon(registries={origin.host: {'mirrors': [f'http://{mirror.host}']}})
    assert daemon.good(origin.ref(repository))['sha256'] == hexes(module)
    mirror.stop()
    daemon.bad(origin.ref(repository), 'unauthorized', imagePullPolicy='Always')
    assert daemon.good(origin.ref(repository), imagePullPolicy='Always', pullSecret=docker_config(**{origin.host: ('puller', PASSWORD)}))['sha256'] == hexes(module)


def test_mirror_without_the_layer(start_server, make_daemon):
    """The manifest comes from the mirror, the layer then from the origin."""
    origin, mirror = start_server(Registry), start_server(Registry)
    module = wasm(unique())
    repository, digest, _ = push(origin, module)
    push(mirror, module, repository)
    daemon = make_daemon(registries={origin.host: {'mirrors': [f'http://{mirror.host}']}})
    for folder, _, names in os.walk(os.path.join(mirror.folder, 'data')):
        if hexes(module) in folder and 'data' in names and 'blobs' in folder:
            os.remove(os.path.join(folder, 'data'))
    got = daemon.good(origin.ref(repository))
    assert (got['sha256'], got['digest']) == (hexes(module), digest)
    assert mirror.count('GET', f'/v2/{repository}/manifests/') == 1 and origin.count('GET', f'/v2/{repository}/blobs/') == 1


def test_mirror_with_a_prefix(start_server, make_daemon):
    """As in containerd: /v2 follows the prefix. docker-registry has the same option."""
    origin = start_server(Registry)

    class Prefixed(Registry):
        def __init__(self, folder):
            super().__init__(folder)
            self.config['http']['prefix'] = '/cached/'
            self.config['storage'] = origin.config['storage']
    mirror = start_server(Prefixed)
    repository, _, module = push(origin)
    before = len(origin.requests())
    daemon = make_daemon(registries={origin.host: {'mirrors': [f'http://{mirror.host}/cached']}})
    assert daemon.good(origin.ref(repository))['sha256'] == hexes(module)
    assert len(origin.requests()) == before and mirror.count('GET', f'/cached/v2/{repository}/blobs/') == 1


def test_digest_asked_of_mirrors_first(start_server, make_daemon):
    origin, mirror = start_server(Registry), start_server(Registry)
    module = wasm(unique())
    repository, digest, _ = push(origin, module)
    push(mirror, module, repository)
    before = len(origin.requests())
    daemon = make_daemon(registries={origin.host: {'mirrors': ['http://127.0.0.1:1', f'http://{mirror.host}']}})
    assert daemon.good(origin.ref(repository, digest))['sha256'] == hexes(module)
    assert len(origin.requests()) == before
