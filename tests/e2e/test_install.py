"""make install and uninstall: what is put where, and that nothing else is touched."""
import os
import subprocess

from e2e_daemon import BUILD, DAEMON, SOURCE

FILES = {'sbin/wasmcached': 0o755, 'bin/wasmcachectl': 0o755, 'include/wasmcache.h': 0o644, 'lib/libwasmcache.a': 0o644, 'lib/libwasmcache.so.0': 0o755, 'lib/libwasmcache.so': 0o755, 'lib/pkgconfig/wasmcache.pc': 0o644,
         'lib/systemd/system/wasmcached.service': 0o644, 'lib/systemd/system/wasmcached.socket': 0o644, 'lib/sysusers.d/wasmcached.conf': 0o644, 'lib/tmpfiles.d/wasmcached.conf': 0o644,
         'share/man/man1/wasmcachectl.1': 0o644, 'share/man/man5/wasmcached.yaml.5': 0o644, 'share/man/man8/wasmcached.8': 0o644, 'share/bash-completion/completions/wasmcachectl': 0o644,
         'share/doc/wasmcached/README.md': 0o644, 'share/doc/wasmcached/LICENSE': 0o644}


def make(*words):
    """With the programs under test as they are."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith('MAKE') and name not in ('MFLAGS', 'DESTDIR', 'PREFIX')}
    subprocess.run(['make', '-s', '-C', SOURCE, f'B={BUILD}', '-o', 'all', '-o', DAEMON, *map(str, words)], check=True, capture_output=True, text=True, env=environment, umask=0o027)


def found(root):
    return {os.path.relpath(os.path.join(folder, name), root) for folder, _, names in os.walk(root) for name in names}


def test_install_and_uninstall(tmp_path):
    """Into a tree that has other things: a root of another machine, with its own empty folders."""
    root = tmp_path / 'root'
    for folder in ('proc', 'srv/empty', 'opt/w/lib/other'):
        (root / folder).mkdir(parents=True)
    (root / 'opt/w/lib/other/file').write_text('')
    make('install', f'DESTDIR={root}', 'PREFIX=/opt/w')
    assert found(root) == {f'opt/w/{name}' for name in FILES} | {'opt/w/lib/other/file'}
    assert {name: os.stat(root / 'opt/w' / name).st_mode & 0o7777 for name in FILES} == FILES
    for name in ('lib/pkgconfig/wasmcache.pc', 'lib/systemd/system/wasmcached.service'):
        assert '/opt/w' in (root / 'opt/w' / name).read_text() and '@PREFIX@' not in (root / 'opt/w' / name).read_text() and str(root) not in (root / 'opt/w' / name).read_text()
    make('uninstall', f'DESTDIR={root}', 'PREFIX=/opt/w')
    assert found(root) == {'opt/w/lib/other/file'}
    assert sorted(os.path.relpath(folder, root) for folder, _, _ in os.walk(root)) == ['.', 'opt', 'opt/w', 'opt/w/lib', 'opt/w/lib/other', 'proc', 'srv', 'srv/empty']
