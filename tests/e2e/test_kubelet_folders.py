"""What kubelets do to the store of a daemon that is not root: folders of namespaces that they make for subPath mounts, before or after the daemon's first start."""
import os
import subprocess

import pytest

from e2e_daemon import DAEMON, await_true
from e2e_images import push

UID = 60837
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='needs root, to act as kubelet and to run the daemon as somebody else')


def make_folder(path, mode=0o755, owner=0):
    os.makedirs(path, exist_ok=True)
    os.chown(path, owner, owner)
    os.chmod(path, mode)


def kubelet_mounts(root, namespace):
    """SafeMakeDir of the kubelet: the folder is root's, with the mode of the volume above, setgid included; the group is what the kernel makes of that."""
    path = os.path.join(root, 'modules', namespace)
    if not os.path.isdir(path):
        os.mkdir(path)
        os.chmod(path, os.stat(os.path.dirname(path)).st_mode & 0o7777)
    return path


@pytest.fixture
def start(make_daemon):
    def launch(daemon):
        with open(daemon.log, 'ab') as log:
            daemon.process = subprocess.Popen([DAEMON, '--config', daemon.file], stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=UID, group=UID, extra_groups=[], cwd='/')
        await_true(daemon.is_up, 20, 'the start')

    def prepare(prepared):
        daemon = make_daemon(start=False)
        os.chown(daemon.folder, UID, UID)
        make_folder(daemon.store, 0o2775 if prepared else 0o755, UID)
        if prepared:
            make_folder(os.path.join(daemon.store, 'modules'), 0o2775, UID)
        return daemon, lambda: launch(daemon)
    return prepare


def test_prepared_folders(start, registry):
    """As the DaemonSet's first container leaves them: the kubelet may be first, and a restart keeps what pods have mounted."""
    daemon, launch = start(True)
    url = registry.ref(push(registry)[0])
    mounted = kubelet_mounts(daemon.store, 'default')
    inode = os.stat(mounted).st_ino
    launch()
    got = daemon.good(url)
    assert os.listdir(mounted) == [got['sha256'] + '.wasm'] and os.stat(mounted).st_ino == inode
    late = kubelet_mounts(daemon.store, 'team-a')
    assert daemon.get(url, to='team').status == 200 and os.listdir(late) == [got['sha256'] + '.wasm']
    for _ in range(2):
        assert daemon.stop() == 0
        launch()
        assert os.listdir(mounted) == [got['sha256'] + '.wasm'] and os.stat(mounted).st_ino == inode
        assert daemon.good(url)['sha256'] == got['sha256']
    status = os.stat(os.path.join(daemon.store, 'modules'))
    assert (status.st_mode & 0o7777, status.st_gid) == (0o2775, UID)
    assert os.stat(daemon.store).st_mode & 0o022 == 0         # of the root only the owner is one who writes
    assert os.stat(os.path.join(daemon.store, 'blobs')).st_mode & 0o777 == 0o700
    stray = os.path.join(mounted, 'stray')
    with open(stray, 'w', encoding='utf-8'):
        pass
    assert daemon.stop() == 0
    launch()
    assert not os.path.exists(stray)         # what no lease holds goes, in a kubelet's folder as well


def test_folders_that_nobody_prepared(start, registry):
    """The daemon starts and serves the others; for this one it says what is wrong and what to do."""
    daemon, launch = start(False)
    url = registry.ref(push(registry)[0])
    launch()
    daemon.good(url)
    kubelet_mounts(daemon.store, 'team-a')
    answer = daemon.get(url, to='team')
    assert answer.code == 'internal'
    for part in ('modules/team-a', 'uid 0', '2775', f'uid {UID}'):
        assert part in answer.json['detail'], answer
    assert daemon.stop() == 0
    launch()
    assert daemon.good(url) and 'folder_not_writable' in daemon.told()


@pytest.mark.parametrize('mode', [0o2777, 0o750])
def test_foreign_folders_with_other_modes(start, mode):
    """Writable for everyone, or closed to callers: not served from."""
    daemon, launch = start(True)
    make_folder(os.path.join(daemon.store, 'modules', 'default'), mode)
    with open(daemon.log, 'ab') as log:
        ran = subprocess.run([DAEMON, '--config', daemon.file], stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=UID, group=UID, extra_groups=[], cwd='/', check=False, timeout=60)
    assert ran.returncode == 1 and 'modules/default' in daemon.told()


@pytest.mark.parametrize('mode, group', [(0o2775, 0), (0o777, UID), (0o3775, UID), (0o775, UID)])
def test_modules_with_other_modes_are_closed(start, mode, group):
    """Only our own group, only with the group handed down; everything else is set right as before."""
    daemon, launch = start(True)
    modules = os.path.join(daemon.store, 'modules')
    os.chown(modules, UID, group)
    os.chmod(modules, mode)
    launch()
    assert os.stat(modules).st_mode & 0o7777 == 0o755
