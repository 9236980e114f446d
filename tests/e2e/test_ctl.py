"""wasmcachectl against a scripted peer: usage, exit codes, formats, progress, completion. The daemon's own suites test the rest."""
import contextlib
import json
import os
import pty
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import pytest

from scripted_peer import CTL, SHA, SOURCE, URL, answer, ctl, module_object, peer, problem  # noqa: F401 (peer is a fixture)


def test_get_prints_the_path_alone(peer):
    ran = ctl(peer(answer(body=module_object())), 'get', URL)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f'/nowhere/{SHA}.wasm\n', '')


def test_get_options_become_the_request(peer, tmp_path):
    (tmp_path / 'key.pem').write_text('-----BEGIN PUBLIC KEY-----\nx\n')
    server = peer(answer(body=module_object()))
    ran = ctl(server, 'get', '-n', 'team-a', '--policy=Always', '--key', tmp_path / 'key.pem', URL, '--timeout', '5s', '--sha256', 'c' * 64, '--resource', 'a@b@3', '--pull-secret-file', '-',
              stdin='{"auths":{}}')
    assert ran.returncode == 0, ran.stderr
    assert json.loads(server.requests[0][2]) == {'url': URL, 'namespace': 'team-a', 'imagePullPolicy': 'Always', 'verificationKey': '-----BEGIN PUBLIC KEY-----\nx\n', 'timeout': '5s',
                                                 'sha256': 'c' * 64, 'resource': {'name': 'a@b', 'version': '3'}, 'pullSecret': {'auths': {}}}


@pytest.mark.parametrize('words, named', [
    ([], 'a command is needed'), (['lss'], 'did you mean "ls"'), (['instpect', 'x'], 'did you mean "inspect"'), (['zzz'], 'help` lists'), (['get'], 'get needs URL'), (['get', 'a', 'b'], '"b" is one argument too many'),
    (['get', 'a', '--sha'], 'did you mean --sha256'), (['get', 'a', '--polcy', 'Always'], 'did you mean --policy'), (['get', 'a', '--policy', 'Never'], 'IfNotPresent Always'), (['ls', '--dry-run'], 'ls has no option --dry-run'),
    (['ls', '-o', 'xml'], 'table json yaml'), (['ls', '-o'], '--output needs a value'), (['gc', '--dry-run=yes'], 'takes no value'), (['get', 'a', '--resource', 'x'], 'NAME@VERSION'),
    (['get', 'a', '--secret', 's', '--pull-secret-file', 'f'], 'exclude each other'), (['envoy-config'], 'unknown command'), (['ls', '-x'], 'unknown option -x')])
def test_usage_errors(peer, words, named):
    ran = ctl(peer(answer(body={})), *words)
    assert ran.returncode == 2 and ran.stdout == ''
    assert ran.stderr.startswith('wasmcachectl: usage: ') and named in ran.stderr


def test_not_reachable_is_three(tmp_path):
    for words in (['get', URL], ['status'], ['events', '-f'], ['rm', 'x']):
        ran = ctl(tmp_path / 'absent', *words)
        assert ran.returncode == 3 and ran.stderr.startswith('wasmcachectl: unreachable: ') and '\nhint: ' in ran.stderr
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / 'stale'))
    stale.close()
    ran = ctl(tmp_path / 'stale', 'status')
    assert ran.returncode == 3 and 'not running' in ran.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason='needs root to be somebody else')
def test_a_socket_of_others_is_no_daemon_to_start(peer, tmp_path):
    folder = tempfile.mkdtemp()
    try:
        os.chmod(folder, 0o755)
        server = peer(answer(body=module_object()), os.path.join(folder, 'admin'))
        os.chmod(server.path, 0o600)
        ran = subprocess.run([CTL, '--socket', server.path, 'status'], capture_output=True, text=True, check=False, user=65534)
        assert ran.returncode == 3 and 'permission denied' in ran.stderr and '\nhint: ask as root' in ran.stderr and 'start' not in ran.stderr
    except PermissionError:
        pytest.skip('nobody may not run what lies here')
    finally:
        shutil.rmtree(folder)


def test_refusals_are_one_with_code_and_hint(peer):
    ran = ctl(peer(problem(403, 'unauthorized', 'registry.example refused the login')), 'get', URL)
    assert ran.returncode == 1 and ran.stdout == ''
    lines = ran.stderr.splitlines()
    assert lines[0] == 'wasmcachectl: unauthorized: registry.example refused the login'
    assert len(lines) == 2 and lines[1].startswith('hint: ')


def test_hint_says_what_to_do_and_when(peer):
    """What to look at does not give way to how long to wait."""
    ran = ctl(peer(problem(502, 'upstream_unreachable', 'refused', ['Retry-After: 7'])), 'get', URL)
    assert re.search(r'^hint: Check name, port, proxy and TLS .* Retry after 7 s\.$', ran.stderr, re.M), ran.stderr


def test_missing_files_are_told_before_asking(peer, tmp_path):
    server = peer(answer(body=module_object()))
    (tmp_path / 'empty').write_text('')
    for words in (['--key', tmp_path / 'absent'], ['--key', tmp_path / 'empty'], ['--pull-secret-file', tmp_path / 'absent']):
        assert ctl(server, 'get', URL, *words).returncode == 1
    assert server.requests == []


def listing(method, path, body):
    first = {**module_object(), 'urls': [URL], 'namespaces': ['a', 'b'], 'pinned': True, 'leases': 2, 'lastUsed': '2020-01-01T00:00:00Z'}
    second = {**module_object(sha256='d' * 64), 'urls': ['http://x/\x1b[2J'], 'namespaces': [], 'pinned': False, 'leases': 0}
    return answer(body={'modules': [second]} if 'continue=' in path else {'modules': [first], 'continue': 'n 1'})


def test_ls_pages_and_formats(peer):
    server = peer(listing)
    ran = ctl(server, 'ls')
    rows = ran.stdout.splitlines()
    assert ran.returncode == 0 and len(rows) == 3 and rows[0].split()[0] == 'SHA256'
    assert SHA[:12] in rows[1] and 'pinned,2 leased' in rows[1] and 'a,b' in rows[1] and rows[2].startswith('d' * 12)
    assert '\x1b' not in ran.stdout
    assert server.requests[1][1].endswith('continue=n%201')
    assert [module['sha256'] for module in json.loads(ctl(server, 'ls', '-o', 'json').stdout)['modules']] == [SHA, 'd' * 64]
    yaml = pytest.importorskip('yaml', reason='python3-yaml is not installed')
    assert yaml.safe_load(ctl(server, 'ls', '-o', 'yaml').stdout) == json.loads(ctl(server, 'ls', '-o', 'json').stdout)


def test_yaml_of_hard_texts(peer):
    yaml = pytest.importorskip('yaml', reason='python3-yaml is not installed')
    hard = {'a': ['yes', 'null', '1', '0x1', '- x', 'a: b', '#', '', ' x', 'x\ny', '"', "'", '~', '1e3', '2020-01-01', 'é', '*a', '&a', '!t', '%'], 'nested': [[1, [2]], {'a': {}, 'b': []}, [], {'c': [{'d': 1, 'e': None}]}],
            'on': True, 'n': None, 'f': 1.5, '1': -7}
    assert yaml.safe_load(ctl(peer(answer(body=hard)), 'status', '-o', 'yaml').stdout) == hard


def resolving(log):
    def script(method, path, body):
        log.append((method, path, body))
        if path.startswith('/v1/inspect'):
            return answer(body=module_object()) if 'gone' not in path else problem(404, 'not_found', 'nothing here has that name')
        return answer(body={})
    return script


def test_rm_goes_on_after_a_refusal(peer):
    log = []
    ran = ctl(peer(resolving(log)), 'rm', 'gone', URL)
    assert ran.returncode == 1 and ran.stdout == f'removed {SHA}\n' and 'not_found' in ran.stderr
    assert ('DELETE', f'/v1/modules/{SHA}', b'') in log


@pytest.mark.parametrize('words, request_wanted', [
    (['pin', URL], ('PUT', f'/v1/pins/{SHA}', b'')), (['unpin', URL], ('DELETE', f'/v1/pins/{SHA}', b'')), (['gc', '--dry-run'], ('POST', '/v1/gc', b'{"dryRun":true}')),
    (['gc'], ('POST', '/v1/gc', b'{}')), (['verify', URL], ('POST', '/v1/verify', b'{"sha256":"%s"}' % SHA.encode())), (['verify'], ('POST', '/v1/verify', b'{}')),
    (['reload'], ('POST', '/v1/reload', b'')), (['refresh'], ('POST', '/v1/refresh', b'{}')), (['refresh', URL], ('POST', '/v1/refresh', b'{"url":"%s"}' % URL.encode())),
    (['status'], ('GET', '/v1/status', b'')), (['config'], ('GET', '/v1/config', b'')), (['inspect', 'a b&c'], ('GET', '/v1/inspect?name=a%20b%26c', b'')),
    (['explain', URL], ('POST', '/v1/explain', b'{"url":"%s"}' % URL.encode()))])
def test_routes(peer, words, request_wanted):
    log = []
    ran = ctl(peer(resolving(log)), *words)
    assert ran.returncode == 0, ran.stderr
    assert log[-1] == request_wanted


def test_refresh_that_fails_is_told(peer):
    ran = ctl(peer(answer(body={'asked': 1, 'unchanged': 0, 'failed': [{'url': URL, 'code': 'upstream_unreachable', 'detail': 'no route'}]})), 'refresh', URL)
    assert ran.returncode == 1 and 'no route' in ran.stdout


@pytest.mark.parametrize('asked, told', [(URL, URL), ('registry.example/a', 'oci://registry.example/a:latest'), ('a/b', 'oci://docker.io/a/b:latest'), ('OCI://Registry.example/a:v1', 'oci://registry.example/a:v1'),
                                         ('h:5000/a:v1@sha256:' + 'a' * 64, 'oci://h:5000/a@sha256:' + 'a' * 64), ('https://h/x.wasm', 'https://h/x.wasm')])
def test_progress_knows_the_daemons_name_of_a_url(peer, asked, told):
    _, shown, status = run_on_terminal(['get', asked], peer(progress_script(threading.Event(), told)).path)
    assert status == 0 and b'25%' in shown


def test_verify_with_damage_fails(peer):
    ran = ctl(peer(answer(body={'checked': 2, 'damaged': [SHA]})), 'verify')
    assert ran.returncode == 1 and SHA in ran.stdout


def test_explain_in_words(peer):
    ran = ctl(peer(answer(body={'verdict': 'miss', 'code': '', 'steps': [{'check': 'present', 'result': 'no', 'detail': 'not here'}]})), 'explain', URL)
    assert ran.stdout.splitlines()[0] == 'verdict: miss' and 'not here' in ran.stdout


def test_events(peer):
    lines = b''.join(json.dumps({'number': i, 'time': '2030-01-01T00:00:00Z', 'type': 'pulled', 'url': URL}).encode() + b'\n' for i in range(3))
    server = peer(answer(body=lines, framing='chunked'))
    assert len(ctl(server, 'events').stdout.splitlines()) == 3
    followed = ctl(server, 'events', '-f', '-o', 'json')
    assert [json.loads(line)['number'] for line in followed.stdout.splitlines()] == [0, 1, 2]
    assert followed.returncode == 3 and 'stopping' in followed.stderr           # nobody interrupted it
    assert server.requests[1][1] == '/v1/events?follow=1'


def event_by_event(method, path, body):
    def events(connection):
        connection.sendall(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
        with contextlib.suppress(OSError):
            for number in range(200):
                data = json.dumps({'number': number, 'time': '2030-01-01T00:00:00Z', 'type': 'pulled', 'url': URL}).encode() + b'\n'
                connection.sendall(b'%x\r\n%s\r\n' % (len(data), data))
                time.sleep(0.02)
    return (events,)


def test_events_into_what_takes_no_more(peer):
    """A reader that has seen enough is no failure; a full disk is, and is not told as the daemon's end."""
    environment = {**os.environ, 'WASMCACHED_SOCKET': peer(event_by_event).path}
    ran = subprocess.run(['bash', '-c', f'{CTL} events -f | head -n 1; echo "${{PIPESTATUS[0]}}"'], capture_output=True, text=True, check=True, env=environment, timeout=60)
    assert ran.stdout.splitlines()[-1] == '0' and ran.stderr == ''
    with open('/dev/full', 'w', encoding='utf-8') as full:
        ran = subprocess.run([CTL, 'events', '-f'], stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment, timeout=60)
    assert ran.returncode == 1 and 'No space left' in ran.stderr and 'stopping' not in ran.stderr


def test_version_without_a_daemon(tmp_path):
    ran = ctl(tmp_path / 'absent', 'version')
    assert ran.returncode == 0 and 'wasmcachectl' in ran.stdout
    assert ctl(tmp_path / 'absent', '--version').returncode == 0


def test_help_of_every_command(tmp_path):
    overview = ctl(tmp_path / 'absent', '--help').stdout
    names = [line.split()[0] for line in overview.split('Commands:')[1].split('\n\n')[0].splitlines() if line.strip()]
    assert {'get', 'ls', 'inspect', 'explain', 'refresh', 'rm', 'pin', 'unpin', 'gc', 'verify', 'events', 'status', 'config', 'reload', 'import', 'export', 'version'} <= set(names)
    manual = (SOURCE / 'tools/wasmcachectl/wasmcachectl.1').read_text()
    for name in names:
        ran = ctl(tmp_path / 'absent', name, '--help')
        assert ran.returncode == 0 and 'Examples:' in ran.stdout and ran.stdout == ctl(tmp_path / 'absent', 'help', name).stdout
        assert f'Cm {name}' in manual
        for line in ran.stdout.splitlines():
            if line.strip().startswith(('-', '--')) and '--' in line:
                option = line.split('--')[1].split()[0]
                assert f'-{option}' in manual, option


def complete(*words):
    return subprocess.run([CTL, '--complete', *words], capture_output=True, text=True, check=True).stdout.split()


def test_manual_names_the_commands_that_do_without_the_admin_socket(tmp_path):
    """Exactly those that look for the agent's socket too, where a daemon runs as its package has it."""
    if os.path.exists('/run/wasmcached'):
        pytest.skip('a daemon of this machine')
    manual = (SOURCE / 'tools/wasmcachectl/wasmcachectl.1').read_text()
    told = re.search(r'^Without it and\n\.Ev WASMCACHED_SOCKET ,\n(.*?)^use$', manual, re.M | re.S)[1]
    environment = {name: value for name, value in os.environ.items() if name != 'WASMCACHED_SOCKET'}
    for command in ('get x', 'ls', 'plugins', 'events', 'status', 'resources', 'inspect x', 'explain x', 'refresh', 'gc', 'verify', 'config', 'reload'):
        ran = subprocess.run([CTL, *command.split()], capture_output=True, text=True, check=False, env=environment)
        assert ran.returncode == 3 and ('agent.sock' in ran.stderr) == (f'.Cm {command.split()[0]}' in re.sub(' ,$', '', told, flags=re.M).splitlines()), command


def test_completion():
    assert complete('re') == ['resources', 'refresh', 'reload']
    assert complete('get', '--po') == ['--policy']
    assert complete('ls', '-o', '') == ['table', 'json', 'yaml']
    assert complete('get', 'x', '--policy', 'A') == ['Always']
    assert '--dry-run' not in complete('ls', '--') and '--dry-run' in complete('gc', '--')


@pytest.mark.parametrize('words, offered', [
    ('pi', ['pin']), ('get --policy If', ['IfNotPresent']), ('get --policy = If', ['IfNotPresent']), ('ls --output =', ['table', 'json', 'yaml']), ("ls -o ''", ['table', 'json', 'yaml']),
    ('gc --dry', ['--dry-run']), ('import READ', ['README.md']), ('get --key = LIC', ['LICENSE']), ("get --secret ''", [])])
def test_completion_in_bash(words, offered):
    """bash makes three words of --option=VALUE."""
    script = f'source tools/wasmcachectl/wasmcachectl.bash; compopt() {{ :; }}; COMP_WORDS=({CTL} {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _wasmcachectl; echo "${{COMPREPLY[@]}}"'
    ran = subprocess.run(['bash', '-c', script], capture_output=True, text=True, check=True, cwd=SOURCE)
    assert (ran.stdout.split(), ran.stderr) == (offered, '')


def run_on_terminal(words, path, env=None):
    """Standard error is a terminal, standard output is not."""
    master, slave = pty.openpty()
    process = subprocess.Popen([CTL, *words], stdout=subprocess.PIPE, stderr=slave, env={**os.environ, 'WASMCACHED_SOCKET': path, 'TERM': 'xterm', **(env or {})})
    os.close(slave)
    shown = b''
    with contextlib.suppress(OSError):
        while piece := os.read(master, 4096):
            shown += piece
    os.close(master)
    return process.communicate()[0], shown, process.returncode


def progress_script(ready, url=URL, total=4 << 20):
    def events(connection):
        def line(**event):
            data = json.dumps(event).encode() + b'\n'
            connection.sendall(b'%x\r\n%s\r\n' % (len(data), data))
        connection.sendall(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
        line(number=1, type='progress', url='registry.example/other:v1', bytes=5, total=10)
        for done in (0, 1 << 20, 2 << 20):
            line(number=2, type='progress', url=url, bytes=done, total=total)
            time.sleep(0.15)
        ready.set()
        connection.recv(1)

    def script(method, path, body):
        if 'events' in path:
            return (events,)
        ready.wait(10)
        return answer(body=module_object())
    return script


def test_progress_on_a_terminal(peer):
    out, shown, status = run_on_terminal(['get', URL], peer(progress_script(threading.Event())).path)
    assert status == 0 and out == f'/nowhere/{SHA}.wasm\n'.encode()
    assert b'25%' in shown and b'4.0 MiB' in shown and b'\x1b[36m' in shown and shown.rstrip(b'\n').endswith(b'\r\x1b[K')
    assert b'5 B / 10 B' not in shown


def test_progress_of_an_unknown_size_claims_nothing(peer):
    _, shown, _ = run_on_terminal(['get', URL], peer(progress_script(threading.Event(), total=0)).path)
    assert b'1.0 MiB' in shown and b'%' not in shown and b'[ ' not in shown and b'?' not in shown and b'0 B/s' not in shown


def test_no_colours_and_no_progress_when_not_wanted(peer):
    _, shown, _ = run_on_terminal(['get', URL], peer(progress_script(threading.Event())).path, {'NO_COLOR': '1'})
    assert b'25%' in shown and b'\x1b[36m' not in shown
    server = peer(answer(body=module_object()), 'quiet')
    assert run_on_terminal(['get', URL, '--no-progress'], server.path)[1] == b''
    assert ctl(server, 'get', URL).stderr == ''


def test_full_standard_output_is_a_failure(peer):
    if not os.path.exists('/dev/full'):
        pytest.skip('/dev/full is not there')
    with open('/dev/full', 'w', encoding='utf-8') as full:
        ran = subprocess.run([CTL, 'get', URL], stdout=full, stderr=subprocess.PIPE, text=True, check=False, env={**os.environ, 'WASMCACHED_SOCKET': peer(answer(body=module_object())).path})
    assert ran.returncode == 1 and 'standard output' in ran.stderr
