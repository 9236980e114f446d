"""The daemon as a service: start, refusal to start, reload, stop, crash, hits without a registry, socket activation."""
import concurrent.futures
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
import yaml

from e2e_daemon import CTL, DAEMON, await_true, free_port
from e2e_images import body_of, push, wasm
from e2e_servers import Registry


def run_daemon(*words, **how):
    return subprocess.run([DAEMON, *map(str, words)], capture_output=True, text=True, check=False, timeout=20, **how)


# ---- configuration ----
@pytest.mark.parametrize('text, line, named', [
    ('store:\n  rooot: /x\n', 2, ['store.rooot', 'root']), ('storee: {}\n', 1, ['storee']), ('store:\n  max_size: big\n', 2, ['store.max_size', 'GiB']), ('log:\n\n  level: loud\n', 3, ['log.level', 'debug', 'error']),
    ('listeners:\n  - path: /x.sock\n    identity: someone\n', 3, ['identity', 'fixed', 'trusted']), ('store: {high_watermark: 101}\n', 1, ['high_watermark', '100']), ('a: [\n', None, []), ('store: {}\nstore: {}\n', 2, ['store']),
    ('listeners:\n  - mode: "0666"\n', 2, ['path']), ('pull: {timeout: 5}\n', 1, ['pull.timeout', '30s']), ('registries:\n  "r.example:5":\n    ca: relative.pem\n', 3, ['ca', 'absolute']),
    ('metrics: {address: nowhere}\n', 1, ['metrics.address', 'host:port']), ('- a\n', 1, ['the whole document', 'a map of keys']), ('kubernetes: {mode: kubeconfig}\n', 1, ['kubernetes.kubeconfig'])])
def test_bad_configuration(tmp_path, text, line, named):
    (tmp_path / 'c.yaml').write_text(text)
    for words in (['--check-config'], ['--print-config'], []):
        ran = run_daemon('--config', tmp_path / 'c.yaml', *words)
        assert ran.returncode == 2, ran
        assert ran.stdout == ''
        assert f'{tmp_path}/c.yaml' in ran.stderr and (line is None or f'c.yaml:{line}' in ran.stderr), ran.stderr
        for word in named:
            assert word in ran.stderr, ran.stderr


def test_good_configuration(tmp_path):
    for text in ('', '{}\n', '---\n', '# nothing\n', 'store: {root: /x/y}\n', 'log:\n'):
        (tmp_path / 'c.yaml').write_text(text)
        ran = run_daemon('--config', tmp_path / 'c.yaml', '--check-config')
        assert ran.returncode == 0, (text, ran.stderr)
    printed = run_daemon('--config', tmp_path / 'c.yaml', '--print-config').stdout
    parsed = yaml.safe_load(printed)
    assert parsed['store']['root'] == '/var/lib/wasmcached' and parsed['pull']['slots'] == 8 and parsed['listeners'][0]['path'] == '/run/wasmcached/agent.sock' and parsed['admin']['mode'] == '0600'
    (tmp_path / 'again.yaml').write_text(printed)
    assert run_daemon('--config', tmp_path / 'again.yaml', '--print-config').stdout == printed
    ran = run_daemon('--check-config', env={**os.environ, 'WASMCACHED_CONFIG': str(tmp_path / 'absent.yaml')})
    assert ran.returncode == 2 and 'absent.yaml' in ran.stderr
    assert run_daemon('--no-such').returncode == 2
    assert run_daemon('--version').stdout.startswith('wasmcached ')


@pytest.mark.parametrize('option', ['ca', 'client_certificate', 'client_key'])
def test_check_looks_at_certificates(tmp_path, option):
    """What the daemon would refuse to start with: a file that is there and no PEM. One that is not there yet may be mounted later, where this is only a check."""
    (tmp_path / 'good.pem').write_text('-----BEGIN CERTIFICATE-----\n')
    (tmp_path / 'bad.pem').write_text('no PEM\n')
    for name, code, told in (('bad.pem', 2, 'no PEM'), ('absent.pem', 0, 'will not start without it'), ('good.pem', 0, '')):
        files = {'ca': 'good.pem', 'client_certificate': 'good.pem', 'client_key': 'good.pem', option: name}
        (tmp_path / 'c.yaml').write_text(yaml.safe_dump({'registries': {'r.example:5': {key: str(tmp_path / value) for key, value in files.items()}}}))
        ran = run_daemon('--config', tmp_path / 'c.yaml', '--check-config')
        assert ran.returncode == code and ('good' in ran.stdout) == (code == 0), ran
        assert told in ran.stderr and (not told or f'registries."r.example:5".{option}' in ran.stderr and name in ran.stderr), ran.stderr


@pytest.mark.parametrize('option, text', [('kubernetes.kubeconfig', 'kubernetes: {mode: kubeconfig, kubeconfig: %s}'),
                                          ('credentials.provider_config', 'credentials: {provider_config: %s, provider_bin_dir: /bin}')])
def test_check_tells_what_will_be_missed(tmp_path, option, text):
    for name, told in (('absent', True), ('here', False)):
        (tmp_path / 'here').write_text('')
        (tmp_path / 'c.yaml').write_text(text % (tmp_path / name))
        ran = run_daemon('--config', tmp_path / 'c.yaml', '--check-config')
        assert ran.returncode == 0 and (f'{option}: there is no {tmp_path / name}' in ran.stderr) == told, ran


def test_check_says_when_there_is_no_file():
    """A mistyped place is no good configuration of it."""
    ran = run_daemon('--check-config', env={name: value for name, value in os.environ.items() if name != 'WASMCACHED_CONFIG'})
    if not os.path.exists('/etc/wasmcached/config.yaml'):
        assert ran.returncode == 0 and '/etc/wasmcached/config.yaml: there is no such file' in ran.stdout


@pytest.mark.parametrize('option', ['--version', '--help', '--print-config', '--print-manual', '--check-config'])
def test_full_standard_output_is_a_failure(tmp_path, option):
    (tmp_path / 'c.yaml').write_text('')
    with open('/dev/full', 'w', encoding='utf-8') as full:
        ran = subprocess.run([DAEMON, '--config', tmp_path / 'c.yaml', option], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 1 and 'standard output' in ran.stderr


def test_reload(make_daemon, registry, tmp_path):
    daemon = make_daemon()
    (tmp_path / 'a.wasm').write_bytes(wasm('reload'))
    daemon.bad(f'file://{tmp_path}/a.wasm', 'denied')
    daemon.configure(files={'roots': [str(tmp_path)]})
    ran = daemon.ctl('reload', '-o', 'json')
    assert ran.returncode == 0 and 'files.roots' in ran.stdout, ran
    daemon.good(f'file://{tmp_path}/a.wasm')
    # what needs a restart is said
    daemon.configure(admin={'mode': '0660'})
    answer = daemon.ask('POST', '/v1/reload', to='admin')
    assert answer.status == 200 and any('admin.mode' in str(item) for item in answer.json['needsRestart'])
    # a bad file changes nothing
    good = body_of(daemon.file)
    with open(daemon.file, 'a', encoding='utf-8') as stream:
        stream.write('nonsense: 1\n')
    answer = daemon.ask('POST', '/v1/reload', to='admin')
    assert answer.code == 'bad_request' and daemon.file in answer.json['detail'] and re.search(r'config.yaml:\d+', answer.json['detail'])
    assert daemon.ctl('reload').returncode == 1
    daemon.process.send_signal(signal.SIGHUP)
    await_true(lambda: 'nonsense' in daemon.told(), what='the complaint about the configuration after SIGHUP')
    daemon.good(f'file://{tmp_path}/a.wasm')
    with open(daemon.file, 'wb') as stream:
        stream.write(good)
    daemon.configure(files={'roots': []})
    daemon.process.send_signal(signal.SIGHUP)
    await_true(lambda: daemon.get(f'file://{tmp_path}/b.wasm').code == 'denied', what='the reload by SIGHUP')
    events = [json.loads(line) for line in daemon.ask('GET', '/v1/events', to='admin').body.decode().splitlines()]
    told = 'applied: files.roots; needs a restart: admin.mode'
    assert [event['detail'] for event in events if event['type'] == 'reloaded'][-1] == told and f'changes="{told}"' in daemon.told()
    daemon.ctl_good('reload')
    assert re.search(r'reloaded +needs a restart: admin\.mode$', daemon.ctl_good('events'), re.M)


def test_reloads_at_once_and_while_stopping(make_daemon, tmp_path):
    """Read on a worker (asserted in this build), one after the other: every asker is answered, hits are not held up, and a stop waits for what runs."""
    daemon = make_daemon()
    (tmp_path / 'a.wasm').write_bytes(wasm('reloads'))
    daemon.configure(files={'roots': [str(tmp_path)]}, registries={f'registry-{number}.example': {'mirrors': [f'https://mirror-{number}.example/prefix']} for number in range(3000)})
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        asked = [pool.submit(daemon.ask, 'POST', '/v1/reload', to='admin') for _ in range(16)]
        for _ in range(5):
            daemon.process.send_signal(signal.SIGHUP)
            assert daemon.ask('GET', '/healthz').status == 200
        answers = [one.result() for one in asked]
        assert {answer.status for answer in answers} == {200}
        assert sum('files.roots' in answer.json['applied'] for answer in answers) >= 1
        daemon.good(f'file://{tmp_path}/a.wasm')
        for _ in range(4):
            pool.submit(daemon.ask, 'POST', '/v1/reload', to='admin')
        daemon.process.send_signal(signal.SIGHUP)
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(20) == 0


def test_config_route(daemon):
    shown = daemon.ask('GET', '/v1/config', to='admin').json
    assert shown['store']['root'] == daemon.store
    assert yaml.safe_load(daemon.ctl_good('config', '-o', 'yaml'))['store']['root'] == daemon.store


# ---- one daemon per store, sockets ----
def test_second_daemon(daemon, make_daemon, registry):
    repository, _, _ = push(registry)
    daemon.good(registry.ref(repository))
    second = make_daemon(start=False, store={'root': daemon.store})
    ran = run_daemon('--config', second.file)
    assert ran.returncode == 3, ran
    assert daemon.store in ran.stderr and str(daemon.process.pid) in ran.stderr and len([line for line in ran.stderr.splitlines() if 'level=error' in line or 'wasmcached:' in line]) == 1
    assert not os.path.exists(second.agent) and not os.path.exists(second.admin)
    assert daemon.good(registry.ref(repository))['source'] == 'cache'


def test_sockets_of_the_dead_and_the_living(daemon, make_daemon):
    daemon.stop(signal.SIGKILL)
    assert os.path.exists(daemon.agent) and os.path.exists(daemon.admin)
    daemon.start()
    other = make_daemon(start=False, listeners=[{'path': daemon.agent}])
    ran = run_daemon('--config', other.file)
    assert ran.returncode == 1 and daemon.agent in ran.stderr
    assert daemon.ask('GET', '/healthz').status == 200
    plain = make_daemon(start=False)
    with open(plain.agent, 'w', encoding='utf-8') as stream:
        stream.write('precious')
    ran = run_daemon('--config', plain.file)
    assert ran.returncode == 1 and plain.agent in ran.stderr and body_of(plain.agent) == b'precious'


@pytest.mark.alone
def test_sigterm(daemon, registry):
    repository, _, module = push(registry)
    got = daemon.good(registry.ref(repository))
    with socket.socket(socket.AF_UNIX) as idle, socket.socket(socket.AF_UNIX) as half:
        idle.connect(daemon.agent)
        half.connect(daemon.agent)
        half.send(b'POST /v1/modules HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{')
        following = subprocess.Popen([CTL, '--socket', daemon.admin, 'events', '-f'], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        await_true(lambda: daemon.metric('wasmcached_connections_open') >= 4, what='three connections')
        began = time.monotonic()
        assert daemon.stop() == 0
        took = time.monotonic() - began
        following.communicate(timeout=10)
    assert took < 1.0
    assert body_of(got['path']) == module
    assert not os.path.exists(daemon.agent)
    daemon.start()
    renewed = daemon.ask('PUT', f"/v1/leases/{got['lease']['id']}")
    assert renewed.status == 200, renewed
    assert body_of(got['path']) == module


@pytest.mark.alone
def test_sigterm_while_pulling(make_daemon):
    """A source that never answers does not hold the stop."""
    with socket.socket() as silent:
        silent.bind(('127.0.0.1', 0))
        silent.listen()
        daemon = make_daemon()
        answers = []
        thread = threading.Thread(target=lambda: answers.append(daemon.get(f'http://127.0.0.1:{silent.getsockname()[1]}/x.wasm')))
        thread.start()
        held, _ = silent.accept()         # kept: a connection that is dropped is an answer too
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 1.0
        thread.join(5)
        assert answers and answers[0].code == 'busy' and answers[0].status == 503


def test_kill_and_restart(make_daemon, start_server):
    server = start_server(Registry)
    daemon = make_daemon()
    repository, digest, module = push(server)
    got = daemon.good(server.ref(repository))
    server.stop()
    daemon.stop(signal.SIGKILL)
    assert body_of(got['path']) == module
    daemon.start()
    assert body_of(got['path']) == module
    again = daemon.good(server.ref(repository))
    assert (again['path'], again['source'], again['digest']) == (got['path'], 'cache', digest)
    assert daemon.good(server.ref(repository, digest))['source'] == 'cache'
    assert daemon.ask('PUT', f"/v1/leases/{got['lease']['id']}").status == 200
    daemon.bad(server.ref(repository), 'upstream_unreachable', imagePullPolicy='Always')
    daemon.bad(server.ref(repository, 'other'), 'upstream_unreachable')
    assert daemon.good(server.ref(repository))['source'] == 'cache'


def test_stale_if_error(make_daemon, start_server):
    server = start_server(Registry)
    daemon = make_daemon(pull={'stale_if_error': '1h', 'retries': 0, 'negative_time': '0s'})
    repository, _, _ = push(server)
    daemon.good(server.ref(repository), imagePullPolicy='Always')
    server.stop()
    got = daemon.good(server.ref(repository), imagePullPolicy='Always')
    assert got['source'] == 'cache' and got['stale'] is True
    daemon.bad(server.ref(repository, 'never-seen'), 'upstream_unreachable', imagePullPolicy='Always')
    daemon.configure(pull={'stale_if_error': '0s'})
    daemon.ctl_good('reload')
    daemon.bad(server.ref(repository), 'upstream_unreachable', imagePullPolicy='Always')


def test_index_lost(daemon, registry):
    """Without the index the modules are adopted by content; who may have them must be shown again."""
    repository, _, module = push(registry)
    daemon.good(registry.ref(repository))
    daemon.stop()
    for name in os.listdir(daemon.store):
        if name.startswith('index'):
            os.remove(os.path.join(daemon.store, name))
    daemon.start()
    blobs = registry.count('GET', repository + '/blobs')
    assert body_of(daemon.good(registry.ref(repository))['path']) == module
    assert registry.count('GET', repository + '/blobs') <= blobs + 1


@pytest.mark.parametrize('damage', [b'', b'not a database at all' * 500])
def test_index_damaged(daemon, registry, damage):
    repository, _, module = push(registry)
    daemon.good(registry.ref(repository))
    daemon.stop()
    for name in os.listdir(daemon.store):
        if name.startswith('index'):
            with open(os.path.join(daemon.store, name), 'wb') as stream:
                stream.write(damage)
    daemon.start()
    assert body_of(daemon.good(registry.ref(repository))['path']) == module


# ---- metrics listener, logs ----
def test_metrics_listener(make_daemon):
    import requests
    address = f'127.0.0.1:{free_port()}'
    make_daemon(metrics={'address': address})
    assert requests.get(f'http://{address}/healthz', timeout=5).status_code == 200
    assert requests.get(f'http://{address}/readyz', timeout=5).status_code == 200
    assert 'wasmcached_' in requests.get(f'http://{address}/metrics', timeout=5).text
    for method, path in (('GET', '/v1/modules'), ('POST', '/v1/modules'), ('GET', '/v1/config'), ('POST', '/v1/gc'), ('GET', '/openapi.yaml'), ('GET', '/v1/events')):
        assert requests.request(method, f'http://{address}{path}', timeout=5).status_code in (403, 404), path


def test_log_json(make_daemon, registry):
    import json
    daemon = make_daemon(log={'format': 'json', 'level': 'debug'})
    repository, _, _ = push(registry)
    daemon.good(registry.ref(repository))
    daemon.bad('oci://127.0.0.1:1/a:\x1b[31mb', 'bad_url')
    lines = [json.loads(line) for line in daemon.told().splitlines()]
    assert any(line['event'] == 'pulled' for line in lines) and all(line['level'] and line['time'] for line in lines)


# ---- socket activation ----
@pytest.mark.skipif(not shutil.which('systemd-socket-activate'), reason='systemd-socket-activate is not installed')
def test_socket_activation(make_daemon, registry):
    """Twenty restarts under load: the listening socket is its parent's, so no connect is ever refused and no request fails for longer than a restart."""
    daemon = make_daemon()
    repository, _, _ = push(registry)
    url = registry.ref(repository)
    daemon.good(url)
    daemon.stop()
    listening = {}
    for name in ('agent', 'team', 'trusted', 'admin'):
        path = getattr(daemon, name)
        if os.path.exists(path):
            os.remove(path)
        listening[name] = socket.socket(socket.AF_UNIX)
        listening[name].bind(path)
        listening[name].listen(512)
    names = ':'.join(listening)

    # What systemd does: descriptors from 3 on, and whose they are. bash does it between fork and exec: a fork of this process, which has threads, may deadlock before its exec.
    become = ' '.join(f'{3 + at}<&${at + 2}' for at in range(len(listening)))
    script = f'exec {become}; LISTEN_PID=$$ exec "$0" --config "$1"'

    def launch():
        held = [fcntl.fcntl(listening[name].fileno(), fcntl.F_DUPFD, 40) for name in listening]
        environment = dict(os.environ, LISTEN_FDS=str(len(held)), LISTEN_FDNAMES=names)
        with open(daemon.log, 'ab') as log:
            child = subprocess.Popen(['bash', '-c', script, DAEMON, daemon.file, *map(str, held)], pass_fds=held, env=environment, stdout=log, stderr=log)
        for number in held:
            os.close(number)
        return child

    stop, refused, done, failed = threading.Event(), [], [0], []

    def load():
        while not stop.is_set():
            try:
                answer = daemon.get(url)
                if answer.status == 200:
                    done[0] += 1
                else:
                    failed.append((answer.status, answer.code))
            except (ConnectionRefusedError, FileNotFoundError) as problem:
                refused.append(problem)
            except OSError:
                pass          # a connection that had been accepted when the daemon stopped
            except Exception as problem:  # noqa: BLE001 (http.client's own: the answer was cut)
                assert type(problem).__module__ == 'http.client', problem
    threads = [threading.Thread(target=load) for _ in range(4)]
    child = launch()
    try:
        for thread in threads:
            thread.start()
        for _ in range(20):
            before = done[0]
            await_true(lambda: done[0] > before + 3, what='answers after a restart')
            child.terminate()
            assert child.wait(10) == 0
            child = launch()
        assert os.path.exists(daemon.agent)
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
        child.terminate()
        child.wait(10)
        for held in listening.values():
            held.close()
    assert refused == []
    assert all(status == 503 for status, _ in failed), failed


@pytest.mark.skipif(not shutil.which('systemd-socket-activate'), reason='systemd-socket-activate is not installed')
def test_systemd_socket_activate(make_daemon, registry):
    daemon = make_daemon(start=False, listeners=[{'path': '/nowhere/agent.sock', 'identity': 'fixed', 'namespace': 'default'}])
    daemon.configure(listeners=[{'path': daemon.agent, 'identity': 'fixed', 'namespace': 'default'}])
    with open(daemon.log, 'ab') as log:
        parent = subprocess.Popen(['systemd-socket-activate', '--listen', daemon.agent, '--fdname', 'agent', DAEMON, '--config', daemon.file], stdout=log, stderr=log)
    try:
        await_true(lambda: os.path.exists(daemon.agent), what='the socket')
        repository, _, _ = push(registry)
        assert daemon.good(registry.ref(repository))['source'] == 'pulled'
    finally:
        parent.terminate()
        assert parent.wait(10) == 0
