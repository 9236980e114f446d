"""The units as systemd itself judges them, offline: no unknown settings, and an exposure of at most 1.5."""
import os
import re
import shutil
import subprocess

import pytest

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
pytestmark = pytest.mark.skipif(not shutil.which('systemd-analyze'), reason='systemd-analyze is not installed')


@pytest.fixture
def units(tmp_path):
    """The units as `make install` writes them, with a program that is there."""
    program = tmp_path / 'sbin' / 'wasmcached'
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n')
    program.chmod(0o755)
    for name in ('wasmcached.service', 'wasmcached.socket'):
        with open(os.path.join(SOURCE, 'systemd', name), encoding='utf-8') as stream:
            text = stream.read().replace('@PREFIX@', str(tmp_path))
        assert '@' not in text.replace('@system-service', '').replace('@privileged', '').replace('@resources', '')
        (tmp_path / name).write_text(text)
    return tmp_path


def test_units_are_valid(units):
    result = subprocess.run(['systemd-analyze', 'verify', '--man=no', units / 'wasmcached.service', units / 'wasmcached.socket'], capture_output=True, text=True, check=False)
    complaints = [line for line in (result.stdout + result.stderr).splitlines() if 'wasmcached' in line]
    assert complaints == []


def test_exposure(units):
    result = subprocess.run(['systemd-analyze', 'security', '--offline=true', '--no-pager', '--threshold=15', units / 'wasmcached.service'], capture_output=True, text=True, check=False)
    level = re.search(r'exposure level for wasmcached.service: ([0-9.]+)', result.stdout)
    assert level, result.stdout + result.stderr
    assert float(level[1]) <= 1.5
    assert result.returncode == 0


@pytest.mark.parametrize('setting', ['Type=notify', 'WatchdogSec=', 'User=wasmcached', 'StateDirectory=wasmcached', 'RuntimeDirectoryPreserve=yes',
                                     'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6', 'MemoryDenyWriteExecute=yes', 'LimitCORE=0'])
def test_setting(units, setting):
    assert re.search('^' + re.escape(setting), (units / 'wasmcached.service').read_text(), re.M)


def test_workers_may_step_back(units):
    """These are of @resources: allowed again after it was taken away, or all threads would be alike, and two of one pull on one processor."""
    lists = re.findall('^SystemCallFilter=(.*)', (units / 'wasmcached.service').read_text(), re.M)
    allowed = [line for line in lists if not line.startswith('~')][-1].split()
    assert {'sched_setscheduler', 'setpriority', 'sched_setaffinity'} <= set(allowed)
    assert lists.index('sched_setscheduler setpriority sched_setaffinity') > lists.index('~@privileged @resources')


def test_user_and_folders_agree():
    with open(os.path.join(SOURCE, 'systemd', 'wasmcached.sysusers'), encoding='utf-8') as stream:
        users = re.findall(r'^u\s+(\S+)', stream.read(), re.M)
    with open(os.path.join(SOURCE, 'systemd', 'wasmcached.tmpfiles'), encoding='utf-8') as stream:
        owners = set(re.findall(r'^d\s+\S+\s+\d+\s+(\S+)', stream.read(), re.M))
    assert users == ['wasmcached']
    assert owners <= {'wasmcached', 'root'}


def test_sysusers_and_tmpfiles_are_read_by_systemd(tmp_path):
    (tmp_path / 'etc').mkdir()
    for program, name in (('systemd-sysusers', 'wasmcached.sysusers'), ('systemd-tmpfiles', 'wasmcached.tmpfiles')):
        if not shutil.which(program):
            pytest.skip(f'{program} is not installed')
        arguments = ['--create'] if program == 'systemd-tmpfiles' else []
        if os.geteuid() != 0:
            pytest.skip('needs root to make users and folders below another root')
        result = subprocess.run([program, f'--root={tmp_path}', *arguments, os.path.join(SOURCE, 'systemd', name)], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
    assert 'wasmcached' in (tmp_path / 'etc' / 'passwd').read_text()
    assert (tmp_path / 'var/lib/wasmcached').is_dir()
