"""A disk that is full or may not be written: hits go on, the error says so, and room makes all well again."""
import os
import subprocess

import pytest

from e2e_images import body_of, hexes, push, unique, wasm


@pytest.fixture
def disk(make_daemon):
    """A daemon whose store is a small file system of its own."""
    daemon = make_daemon(start=False)
    os.mkdir(daemon.store)
    if os.geteuid() != 0 or subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8m,mode=0755', 'tmpfs', daemon.store], capture_output=True, check=False).returncode != 0:
        pytest.skip('file systems cannot be mounted here')
    yield daemon
    if daemon.process:
        daemon.stop()
    subprocess.run(['umount', '-l', daemon.store], check=False)


def fill(disk):
    """Takes the disk to its last page."""
    ballast = os.open(os.path.join(disk.store, 'ballast'), os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(ballast, b'x' * 4096)
    except OSError:
        pass
    finally:
        os.close(ballast)


def test_full(disk, registry):
    disk.start()
    url = registry.ref(push(registry)[0])
    got = disk.good(url)
    fill(disk)
    big = registry.ref(push(registry, wasm(unique(), 2 << 20))[0])
    detail = disk.bad(big, 'store_full', 507)
    assert detail
    assert disk.good(url)['source'] == 'cache' and body_of(got['path'])
    assert disk.ask('GET', '/metrics', to='admin').status == 200
    os.remove(os.path.join(disk.store, 'ballast'))
    assert disk.good(big)['source'] == 'pulled'
    assert disk.good(registry.ref(push(registry)[0]))


def test_full_at_the_start(disk, registry):
    disk.start()
    url = registry.ref(push(registry)[0])
    module = body_of(disk.good(url)['path'])
    disk.stop()
    fill(disk)
    disk.start()
    got = disk.good(url)
    assert got['source'] == 'cache' and body_of(got['path']) == module


def test_read_only(disk, registry):
    disk.start()
    url = registry.ref(push(registry)[0])
    module = body_of(disk.good(url)['path'])
    disk.stop()
    if subprocess.run(['mount', '-o', 'remount,ro', disk.store], capture_output=True, check=False).returncode != 0:
        pytest.skip('cannot be remounted here')
    disk.start()
    got = disk.good(url)
    assert got['source'] == 'cache' and hexes(body_of(got['path'])) == hexes(module)
    assert disk.get(registry.ref(push(registry)[0])).code in ('store_full', 'internal')
    disk.stop()
    subprocess.run(['mount', '-o', 'remount,rw', disk.store], check=True)
    disk.start()
    assert disk.good(registry.ref(push(registry)[0]))['source'] == 'pulled'
