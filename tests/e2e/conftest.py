"""Fixtures of the end-to-end tests: real servers that are shared by a session, a daemon per test."""
import os
import shutil
import sys
import tempfile
import uuid

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'fake'))

from e2e_daemon import Daemon  # noqa: E402
from e2e_identity import FolderOfProc, Node  # noqa: E402
from e2e_plugins import Folder  # noqa: E402
from e2e_servers import NGINX, REGISTRY, Authority, Nginx, Registry, TokenServer, run  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line('markers', 'alone: it measures what other tests on the machine would change, and runs when they are done (tests/e2e/run)')


PASSWORD = 'Gr3at-s3cret-of-the-registry'


@pytest.fixture(scope='session')
def world():
    """A short folder (Unix socket paths have 107 bytes) that everyone may pass through."""
    folder = tempfile.mkdtemp(prefix='we2e-', dir=os.environ.get('TMPDIR') or '/tmp')
    os.chmod(folder, 0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope='session')
def authority(world):
    os.mkdir(os.path.join(world, 'ca'))
    return Authority(os.path.join(world, 'ca'))


@pytest.fixture(scope='session')
def start_server(world):
    """start_server(Class, ...) starts a server that lives as long as the session."""
    if not REGISTRY:
        pytest.skip('docker-registry is not installed')
    started = []

    def start(kind, *arguments, **options):
        server = kind(os.path.join(world, f'server{len(started)}'), *arguments, **options)
        started.append(server)
        return server if kind is TokenServer else server.start()
    yield start
    for server in reversed(started):
        server.stop()


@pytest.fixture(scope='session')
def registry(start_server):
    return start_server(Registry)


@pytest.fixture(scope='session')
def htpasswd(world):
    path = os.path.join(world, 'htpasswd')
    with open(path, 'wb') as stream:
        stream.write(run('htpasswd', '-Bbn', '-C', '4', 'puller', PASSWORD) + run('htpasswd', '-Bbn', '-C', '4', 'other', 'other-' + PASSWORD))
    return {'auth': {'htpasswd': {'realm': 'of a test', 'path': path}}}


@pytest.fixture(scope='session')
def private(start_server, htpasswd):
    """docker-registry behind a password."""
    return start_server(Registry, htpasswd, login=('puller', PASSWORD))


@pytest.fixture(scope='session')
def nginx(start_server):
    if not NGINX:
        pytest.skip('nginx is not installed')
    return start_server(Nginx)


@pytest.fixture
def make_daemon(world):
    """make_daemon(**config) gives a running daemon; all end with the test, within a second, and in order."""
    made = []
    folders = []

    def make(start=True, **config):
        folders.append(tempfile.mkdtemp(prefix='d', dir=world))
        daemon = Daemon(folders[-1], **config)
        made.append(daemon)
        return daemon.start() if start else daemon
    yield make
    for daemon in made:
        if daemon.process and daemon.process.poll() is None:
            assert daemon.stop() == 0, daemon.told()[-3000:]
        told = daemon.told() if os.path.exists(daemon.log) else ''
        assert 'Sanitizer' not in told and 'runtime error' not in told, told[-5000:]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def daemon(make_daemon):
    return make_daemon()


@pytest.fixture
def folder(make_daemon):
    """A running daemon over an empty folder of manifests."""
    made = Folder(make_daemon(start=False))
    made.daemon.start()
    return made


@pytest.fixture
def folder_of_proc(tmp_path):
    return FolderOfProc(str(tmp_path / 'proc'))


@pytest.fixture
def make_node(world):
    nodes = []

    def make(cgroups, **config):
        daemon = Daemon(os.path.join(world, 'i' + uuid.uuid4().hex[:8]), **config)
        nodes.append(Node(daemon, cgroups))
        return nodes[-1]
    yield make
    for node in nodes:
        node.close()


@pytest.fixture
def quick(make_node, folder_of_proc):
    """For what is not about cgroups themselves."""
    return make_node(folder_of_proc)
