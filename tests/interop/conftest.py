"""What the tests of this folder share: the modules, the servers, one daemon per test."""
import pathlib
import subprocess
import sys
import tempfile

import pytest

import peers
from kube_rig import applied, cluster, tenant         # noqa: F401 (fixtures of a session)

sys.path += [str(peers.SOURCE / 'tests' / folder) for folder in ('e2e', 'fake')]         # signatures by openssl, in every form


@pytest.fixture(scope='session')
def work():
    with tempfile.TemporaryDirectory(prefix='wasmcached-interop-', ignore_cleanup_errors=True) as folder:
        yield pathlib.Path(folder)


@pytest.fixture(scope='session')
def modules(work):
    """name → file: `small` by wat2wasm, `big` a program of Go's own tree (14 MB); `small2` differs from small."""
    found = {'big': peers.PEERS / 'big.wasm'}
    for name in ('small', 'small2'):
        found[name] = work / f'{name}.wasm'
        text = f'(module (memory 1) (data (i32.const 0) "{name}") (func (export "proxy_abi_version_0_2_1")))'
        subprocess.run(['wat2wasm', '-', '-o', str(found[name])], input=text.encode(), check=True)
    return found


@pytest.fixture(scope='session')
def registries(work):
    """name → running server; anonymous, shared by the tests, which each use repositories of their own."""
    servers = {}
    try:
        servers['docker-registry'] = peers.docker_registry(work)
        servers['olareg'] = peers.olareg(work, '--warning', 'interop is watching')
        servers['ggcr'] = peers.ggcr(work)
        yield servers
    finally:
        for server in servers.values():
            server.stop()


@pytest.fixture(scope='session')
def keys(work):
    """keys(kind, name): a key pair; the same at every call."""
    import signers         # needs the folders above
    (work / 'keys').mkdir()
    return signers.Keys(work / 'keys')


@pytest.fixture
def start(tmp_path):
    """start(make, …): the server that make(…) starts is stopped with the test."""
    servers = []

    def start_one(make, *arguments, **more):
        servers.append(make(*arguments, **more))
        return servers[-1]
    yield start_one
    for server in reversed(servers):
        server.stop()


@pytest.fixture
def daemon():
    """daemon(more YAML, …): a daemon with an empty store, in a short path (socket names end at 107 bytes). Each must end with 0."""
    with tempfile.TemporaryDirectory(prefix='wasmcached-interop-', ignore_cleanup_errors=True) as folder:
        daemons = []

        def start_one(more='', **how):
            daemons.append(peers.Daemon(pathlib.Path(folder) / str(len(daemons)), more, **how))
            return daemons[-1]
        yield start_one
        for one in daemons:
            one.stop()
