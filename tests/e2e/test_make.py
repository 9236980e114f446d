"""What is made of the sources besides programs: the compile commands of editors, and an installation that leaves as it came."""
import json
import os
import shlex
import shutil
import subprocess

import pytest

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ['WASMCACHED_BUILD'])
pytestmark = pytest.mark.skipif(not shutil.which('make') or not shutil.which('gcc'), reason='no make, no gcc')


@pytest.fixture
def make(tmp_path):
    """make(...) as in the sources, which stay as they are: it runs beside links to them."""
    tree = tmp_path / 'tree'
    tree.mkdir()
    for name in ('Makefile', 'README.md', 'LICENSE', 'agent', 'include', 'systemd', 'tests', 'tools'):
        (tree / name).symlink_to(os.path.join(SOURCE, name))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(('MAKE', 'MFLAGS'))}

    def run(*words):
        subprocess.run(['make', '-C', tree, f'BUILD={os.path.dirname(BUILD)}', f'VARIANT={os.path.basename(BUILD)}', *words],
                       env=environment, capture_output=True, text=True, check=True)
        return tree
    return run


def installed(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*'))


def test_compile_commands_compile(make):
    """As a language server runs them: without a shell. main.c has the version, a text in quotes, from the command line."""
    commands = {entry['file']: entry for entry in json.loads((make('compile_commands.json', 'CC=gcc') / 'compile_commands.json').read_text())}
    assert {'agent/daemon/main.c', 'tools/wasmcachectl/main.c', 'tests/unit/test_loop.c'} <= set(commands)
    for name in ('agent/daemon/main.c', 'tools/wasmcachectl/main.c'):
        ran = subprocess.run([*commands[name]['arguments'], '-fsyntax-only'], cwd=commands[name]['directory'], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, (shlex.join(commands[name]['arguments']), ran.stderr)


@pytest.mark.parametrize('where', [['DESTDIR={}', 'PREFIX=/usr'], ['DESTDIR={}/', 'PREFIX=/usr'], ['PREFIX={}']], ids=['destdir', 'slash', 'prefix'])
def test_uninstall_takes_what_install_gave_and_nothing_else(make, tmp_path, where):
    folder = tmp_path / 'root'
    for kept in ('mnt/empty', 'usr/lib/others'):
        (folder / kept).mkdir(parents=True)
    before = installed(folder)
    words = [word.format(folder) for word in where]
    make('install', *words)
    place = folder if where == ['PREFIX={}'] else folder / 'usr'
    assert {'sbin/wasmcached', 'bin/wasmcachectl', 'include/wasmcache.h', 'lib/libwasmcache.a', 'lib/libwasmcache.so', 'lib/pkgconfig/wasmcache.pc',
            'lib/systemd/system/wasmcached.socket', 'lib/sysusers.d/wasmcached.conf', 'share/man/man5/wasmcached.yaml.5', 'share/bash-completion/completions/wasmcachectl'} <= set(installed(place))
    prefix = words[-1].removeprefix('PREFIX=')
    assert f'ExecStart={prefix}/sbin/wasmcached\n' in (place / 'lib/systemd/system/wasmcached.service').read_text()
    assert f'prefix={prefix}\n' in (place / 'lib/pkgconfig/wasmcache.pc').read_text()
    make('uninstall', *words)
    assert installed(folder) == before


@pytest.mark.parametrize('where', [['DESTDIR=/'], ['PREFIX=/usr'], ['DESTDIR=/', 'PREFIX=/usr']], ids=str)
def test_folders_of_the_system_stay(make, where):
    """An own DESTDIR is swept of empty folders; the system is not."""
    tree = make('help')
    ran = subprocess.run(['make', '-C', tree, '-n', 'uninstall', *where], capture_output=True, text=True, check=True)
    assert 'rm -f /' in ran.stdout and 'rmdir' not in ran.stdout and 'find' not in ran.stdout
