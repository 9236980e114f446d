"""An old daemon goes, a new one comes, over the same store and socket names: on a host, where systemd holds the sockets, and in a cluster, where nobody does."""
import ctypes
import fcntl
import http.client
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from e2e_daemon import CTL, DAEMON, ask, await_true
from e2e_images import push
from test_client import Library

UPGRADES, CLIENTS = 8, 4


class Host:
    """What systemd does: holds the sockets, and gives them to whichever program is started."""

    def __init__(self, daemon, folder):
        self.daemon = daemon
        self.programs = [DAEMON, shutil.copy(DAEMON, os.path.join(folder, 'wasmcached'))]
        self.sockets = {}
        for name in ('agent', 'team', 'trusted'):
            self.sockets[name] = socket.socket(socket.AF_UNIX)
            self.sockets[name].bind(getattr(daemon, name))
            self.sockets[name].listen(512)

    def start(self, number):
        held = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, 40) for one in self.sockets.values()]
        become = ' '.join(f'{3 + at}<&${at + 2}' for at in range(len(held)))
        environment = dict(os.environ, LISTEN_FDS=str(len(held)), LISTEN_FDNAMES=':'.join(self.sockets))
        # bash does it between fork and exec: a fork of this process, which has threads, may deadlock before its exec.
        with open(self.daemon.log, 'ab') as log:
            self.daemon.process = subprocess.Popen(['bash', '-c', f'exec {become}; LISTEN_PID=$$ exec "$0" --config "$1"', self.programs[number % 2], self.daemon.file, *map(str, held)], pass_fds=held, env=environment,
                                                   stdout=log, stderr=log)
        for number in held:
            os.close(number)

    def close(self):
        for one in self.sockets.values():
            one.close()


class Load:
    """Clients that ask all the time; `failed` has what none of them should ever see."""

    def __init__(self, *jobs):
        self.stop, self.failed, self.done = threading.Event(), [], [0] * len(jobs)
        self.threads = [threading.Thread(target=self.run, args=(number, job)) for number, job in enumerate(jobs)]

    def run(self, number, job):
        while not self.stop.is_set():
            try:
                job()
                self.done[number] += 1
            except Exception as problem:  # noqa: BLE001 (whatever it is, it is told)
                self.failed.append(problem)
                time.sleep(0.01)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)

    def await_more(self, what):
        before = list(self.done)
        await_true(lambda: all(now > then for now, then in zip(self.done, before)), 60, f'an answer for each client {what}')


def patient(path, *urls):
    """A job: the next of `urls` by libwasmcache, over a connection that is kept."""
    library, at = Library(), [0]
    assert library.connect(path) == 0
    library.c.wasmcache_set_patience(library.cache, 60000)

    def job():
        url = urls[at[0] % len(urls)]
        at[0] += 1
        assert library.get(url=url) == 0, library.error.text
        file, lease = library.field('path'), library.field('lease')
        assert os.path.exists(file), file
        assert library.c.wasmcache_renew(library.cache, lease, ctypes.byref(library.error)) == 0, library.error.text
        library.c.wasmcache_module_free(library.module)
    return job


def hasty(daemon, url):
    """A job: one request over a connection of its own, never tried again. Who connects and then says nothing for so long as a loaded machine may make it is not waited for."""
    def job():
        began = time.monotonic()
        try:
            answer = daemon.get(url)
        except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected):
            if time.monotonic() - began < 0.25:
                raise
            return
        assert answer.status == 200, answer
    return job


@pytest.fixture
def prepared(make_daemon, registry):
    daemon = make_daemon(start=False)
    urls = [registry.ref(push(registry)[0]) for _ in range(4)]
    return daemon, urls


def test_host(prepared, world, registry):
    daemon, urls = prepared
    daemon.start()
    first = daemon.good(urls[0])
    inode = os.stat(first['path']).st_ino
    assert daemon.stop() == 0
    folder = os.path.join(world, 'second')
    os.makedirs(folder, exist_ok=True)
    host = Host(daemon, folder)
    try:
        host.start(0)
        with Load(*[patient(daemon.agent, *urls) for _ in range(CLIENTS)], *[hasty(daemon, urls[0]) for _ in range(CLIENTS)]) as load:
            for number in range(1, UPGRADES + 1):
                load.await_more('before an upgrade')
                assert daemon.stop() == 0
                host.start(number)
            load.await_more('after the upgrades')
        assert load.failed == []
        assert os.stat(first['path']).st_ino == inode
        assert ask(daemon.admin, 'PUT', f"/v1/leases/{first['lease']['id']}").status == 200
    finally:
        daemon.stop()
        host.close()


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_cluster(prepared, registry, number):
    """No socket between the two; killed, no good-bye either. The library's clients wait, whether they asked before or come in between, and pulls that were under way go on."""
    daemon, urls = prepared
    daemon.start()
    first = daemon.good(urls[0])
    inode = os.stat(first['path']).st_ino
    fresh = [registry.ref(push(registry)[0]) for _ in range(60)]
    with Load(*[patient(daemon.agent, *urls) for _ in range(CLIENTS)], patient(daemon.agent, *fresh)) as load:
        for _ in range(3):
            load.await_more('before an upgrade')
            daemon.stop(number)
            late = subprocess.Popen([CTL, '--socket', daemon.agent, 'get', urls[1]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, 'WASMCACHED_PATIENCE': '60s'})
            time.sleep(0.3)
            daemon.start()
            out, err = late.communicate(timeout=60)
            assert late.returncode == 0 and os.path.exists(out.strip()), err
        load.await_more('after the upgrades')
    assert load.failed == []
    assert os.stat(first['path']).st_ino == inode


def test_two_at_once_is_refused_by_name(prepared):
    """Why the DaemonSet has no surge: the new one ends with 3, the old one goes on."""
    daemon, urls = prepared
    daemon.start()
    second = subprocess.run([DAEMON, '--config', daemon.file], capture_output=True, text=True, check=False, timeout=60)
    assert second.returncode == 3 and str(daemon.process.pid) in second.stderr
    daemon.good(urls[0])
