"""Contract 2 to 4 and issue 3.9: the daemon under a service manager, its configuration, and what the CLI says to people."""
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import time

import pytest
import signing
from contract_rig import CTL, DAEMON, Daemon, Registry, ask, connect, read_answer


@pytest.fixture(scope='module')
def registry():
    registry = Registry()
    yield registry
    registry.close()


@pytest.fixture(scope='module')
def daemon():
    daemon = Daemon('pull: {negative_time: 0s, retries: 0}\n').start()
    yield daemon
    daemon.stop()


class Manager:
    def __init__(self, folder):
        self.path = str(folder / 'notify')
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)

    def hear(self, wanted, seconds=5):
        end, seen = time.monotonic() + seconds, []
        while time.monotonic() < end:
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                seen += self.socket.recv(4096).decode().split('\n')
            except TimeoutError:
                break
            if wanted in seen:
                return seen
        raise AssertionError(f'{wanted} was not told: {seen}')


@pytest.mark.alone
def test_notify(tmp_path):
    manager = Manager(tmp_path)
    daemon = Daemon(env={'NOTIFY_SOCKET': manager.path, 'WATCHDOG_USEC': '600000'}).start()
    manager.hear('READY=1')
    manager.hear('WATCHDOG=1')
    daemon.process.send_signal(signal.SIGHUP)
    seen = manager.hear('RELOADING=1')
    assert any(re.fullmatch('MONOTONIC_USEC=[0-9]+', line) for line in seen)
    manager.hear('READY=1')
    began = time.monotonic()
    daemon.process.send_signal(signal.SIGTERM)
    manager.hear('STOPPING=1')
    assert daemon.process.wait(5) == 0
    assert time.monotonic() - began < 1


def activate(daemon, listener):
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(daemon.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
        os.dup2(listener.fileno(), 3)
        os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES='agent')
        os.execv(DAEMON, [DAEMON, '--config', daemon.config])
    return pid


def test_socket_activation_refuses_no_connection_over_a_restart():
    daemon = Daemon()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(daemon.a)
    listener.listen(64)
    os.chmod(daemon.a, 0o600)
    for _ in range(2):
        with connect(daemon.a) as peer:
            peer.sendall(b'GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
            pid = activate(daemon, listener)
            assert read_answer(peer).status == 200
        assert stat.S_IMODE(os.stat(daemon.a).st_mode) == 0o600       # the manager's, not ours to change
        os.kill(pid, signal.SIGTERM)
        assert os.waitpid(pid, 0)[1] == 0
        assert os.path.exists(daemon.a) and not os.path.exists(daemon.admin)
    listener.close()


def test_sockets_of_the_dead_and_the_living():
    daemon = Daemon()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(daemon.a)
    dead.close()
    daemon.start()
    assert stat.S_IMODE(os.stat(daemon.admin).st_mode) == 0o600 and stat.S_IMODE(os.stat(daemon.a).st_mode) == 0o666
    other = Daemon()
    other.write(daemon.text.replace(daemon.store, other.store))
    ran = subprocess.run([DAEMON, '--config', other.config], capture_output=True, text=True, check=False, timeout=20)
    assert ran.returncode == 1 and daemon.a in ran.stderr
    ran = subprocess.run([DAEMON, '--config', daemon.config], capture_output=True, text=True, check=False, timeout=20)
    assert ran.returncode == 3 and str(daemon.process.pid) in ran.stderr
    assert ask(daemon.a, 'GET', '/healthz').status == 200
    daemon.stop()


def test_reload_says_what_it_cannot_apply(daemon):
    daemon.write(daemon.text.replace('store: {', 'store: {max_size: 1GiB, ') + 'log: {level: debug}\nmetrics: {address: "127.0.0.1:1"}\nlimits: {headers: 16KiB, body: 2MiB}\n')
    told = ask(daemon.admin, 'POST', '/v1/reload').json
    assert set(told['applied']) == {'store.max_size', 'log.level', 'limits.body'} and set(told['needsRestart']) == {'metrics.address', 'limits.headers'}
    daemon.write(daemon.text + 'log:\n  level: nope\n')
    answer = ask(daemon.admin, 'POST', '/v1/reload')
    assert answer.status == 400 and re.search(r'config\.yaml:\d+: log\.level: "nope".*debug, info, warn, error', answer.json['detail'])
    assert ask(daemon.admin, 'GET', '/v1/config').json['log']['level'] == 'debug'
    daemon.write(daemon.text)
    assert ask(daemon.admin, 'POST', '/v1/reload').status == 200


EXAMPLE = """
listeners:
  - path: /run/wasmcached/agent.sock
    mode: "0666"
    identity: fixed
    namespace: default
    module_dir: /var/lib/wasmcached/modules/{namespace}
admin:   {path: /run/wasmcached/admin.sock, mode: "0600"}
metrics: {address: "127.0.0.1:9464"}
store:   {root: /var/lib/wasmcached, max_size: 10GiB, high_watermark: 90, low_watermark: 80, lease_time: 1h, scrub_rate: 8MiB}
pull:    {slots: 8, slots_per_host: 4, timeout: 5m, connect_timeout: 10s, progress_timeout: 30s, retries: 3,
          max_layer_size: 256MiB, max_module_size: 256MiB, stale_if_error: 0s, negative_time: 10s}
registries:
  "registry.example:5000": {plain_http: false, skip_verify: false, ca: /etc/a.pem, client_certificate: /etc/b.pem, client_key: /etc/c.pem,
                            mirrors: ["https://mirror.example/prefix"]}
registries_dir: ""
files:   {roots: []}
network: {block: [], allow: [], http_proxy: "", https_proxy: "", no_proxy: ""}
credentials: {secrets_dir: "", docker_config: "", provider_config: "", provider_bin_dir: ""}
trust:
  formats: [bundle, simple, embedded, detached, raw]
  predicates: ["https://sigstore.dev/cosign/sign/v1"]
  rekor_keys: []
  signature_repository: ""
  require_top_level_signature: false
  require: [{match: "registry.example/team/*", keys: [/etc/k.pem], annotations: {}, identity: ignore}]
kubernetes: {mode: off, kubeconfig: "", node: "", root_namespace: istio-system}
manifests: ""
log:     {level: info, format: logfmt}
"""


def check(folder, text, option='--check-config'):
    path = folder / 'c.yaml'
    path.write_text(text)
    return subprocess.run([DAEMON, option], capture_output=True, text=True, check=False, env={**os.environ, 'WASMCACHED_CONFIG': str(path)})


@pytest.mark.parametrize('text', [EXAMPLE, '', '{}', '# only words\n', 'log:\n'], ids=['example', 'empty', 'braces', 'comment', 'null'])
def test_configuration_accepted(tmp_path, text):
    ran = check(tmp_path, text)
    assert ran.returncode == 0, ran.stderr
    printed = check(tmp_path, text, '--print-config').stdout
    assert check(tmp_path, printed).returncode == 0
    assert printed == check(tmp_path, printed, '--print-config').stdout


@pytest.mark.parametrize('line, key, allowed', [
    ('store: {max_size: lots}', 'store.max_size', '10GiB'), ('store: {max_size: 10}', 'store.max_size', '1MiB'), ('store: {lease_time: 3600}', 'store.lease_time', '30s'),
    ('store: {high_watermark: 101}', 'store.high_watermark', '100'), ('store: {high_watermark: 70, low_watermark: 80}', 'store.low_watermark', 'smaller'), ('store: {root: rel}', 'store.root', 'absolute'),
    ('store: {maxsize: 1GiB}', 'store.maxsize', 'max_size'), ('stores: {}', 'stores', 'store'), ('pull: {slots: 0}', 'pull.slots', '1 to 256'), ('pull: {slots: "8"}', 'pull.slots', 'whole number'),
    ('pull: {retries: 1.5}', 'pull.retries', 'whole number'), ('listeners: [{path: /a, identity: x}]', 'listeners[0].identity', 'trusted'), ('listeners: [{path: a}]', 'listeners[0].path', 'absolute'),
    ('listeners: [{path: /a, mode: 666}]', 'listeners[0].mode', '0777'), ('listeners: [{path: /a, namespace: A}]', 'listeners[0].namespace', 'DNS label'), ('metrics: {address: "1.2.3.4"}', 'metrics.address', 'host:port'),
    ('registries: {"http://x": {}}', 'registries.http://x', 'without a scheme'), ('registries: {x: {mirrors: [ftp://m]}}', 'registries.x.mirrors', 'https://'), ('registries: {x: {plain_http: 1}}', 'registries.x.plain_http', 'true'),
    ('files: {roots: [a]}', 'files.roots', 'absolute'), ('network: {block: [1.2.3.4/40]}', 'network.block', '10.0.0.0/8'), ('log: {level: loud}', 'log.level', 'warn'), ('log: {format: xml}', 'log.format', 'json'),
    ('kubernetes: {mode: maybe}', 'kubernetes.mode', 'off'), ('trust: {formats: [x]}', 'trust.formats', 'bundle')])
def test_configuration_refused(tmp_path, line, key, allowed):
    ran = check(tmp_path, '# a comment\n' + line + '\n')
    assert ran.returncode == 2
    assert f'{tmp_path}/c.yaml:2: {key}' in ran.stderr and allowed in ran.stderr, ran.stderr


def test_proxy_password_is_not_printed(tmp_path):
    for value in ('http://u:hunter2@p:3128', 'ftp://u:hunter2@p'):
        ran = check(tmp_path, f'network: {{https_proxy: "{value}"}}\n', '--print-config')
        assert 'hunter2' not in ran.stdout + ran.stderr


COMMANDS = 'get ls inspect explain refresh rm pin unpin gc verify events status config reload import export version'.split()


@pytest.mark.parametrize('command', COMMANDS)
def test_help_has_examples(command):
    ran = subprocess.run([CTL, command, '--help'], capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and f'wasmcachectl {command}' in ran.stdout.partition('Example')[2]


def test_ls_tells_when_a_module_was_used(daemon, registry):
    assert daemon.get(f'oci://{registry.host}/good/raw:v1').status == 200
    assert re.search(r'^[0-9a-f]{12} +\d+ B +\d+[smh] ', daemon.ctl('ls').stdout, re.M)


def test_list_names_a_module_whose_tag_moved(daemon, registry):
    url = f'oci://{registry.host}/dyn/moves:v1'
    first = daemon.get(url).json
    registry.steer('/_set?repo=dyn/moves&tag=v1', 'POST')
    assert daemon.get(url, imagePullPolicy='Always').json['sha256'] != first['sha256']
    one = ask(daemon.a, 'GET', '/v1/modules/' + first['sha256']).json
    assert one['url'] == f'oci://{registry.host}/dyn/moves@{first["digest"]}' and one['digest'] == first['digest']


@pytest.mark.parametrize('words, code', [(['get', 'ftp://x'], 1), (['get', 'oci://127.0.0.1:1/a:b'], 1), (['get'], 2), (['nope'], 2), ([], 2), (['get', 'a', '--nope'], 2), (['-o', 'xml', 'ls'], 2),
                                         (['--socket', '/nonexistent/a.sock', 'ls'], 3)])
def test_exit_code_and_next_step(daemon, words, code):
    ran = daemon.ctl(*words)
    assert (ran.returncode, ran.stdout) == (code, '')
    assert ran.stderr.startswith('wasmcachectl: ') and (code == 2 or 'hint: ' in ran.stderr)


@pytest.mark.parametrize('env, coloured', [({}, True), ({'NO_COLOR': '1'}, False), ({'TERM': 'dumb'}, False)])
def test_colours_only_on_a_terminal_that_wants_them(daemon, env, coloured):
    master, slave = pty.openpty()
    with subprocess.Popen([CTL, 'get', 'ftp://x'], stdout=subprocess.DEVNULL, stderr=slave, env={**os.environ, 'WASMCACHED_SOCKET': daemon.admin, 'TERM': 'xterm', **env}) as process:
        process.wait(10)
    assert (b'\x1b[' in os.read(master, 65536)) == coloured
    os.close(master)
    os.close(slave)


def test_required_signature_fails_closed(registry):
    daemon = Daemon().start()
    url = f'oci://{registry.host}/good/raw:v1'
    assert daemon.get(url).status == 200
    key = os.path.join(daemon.folder, 'k.pem')
    with open(key, 'w', encoding='utf-8') as stream:
        stream.write(signing.ec_key().pem)
    daemon.write(daemon.text + f'trust: {{require: [{{match: "{registry.host}/good/*", keys: [{key}]}}]}}\n')
    assert ask(daemon.admin, 'POST', '/v1/reload').json['applied'] == ['trust.require']
    for path in (daemon.a, daemon.t, daemon.admin):
        answer = daemon.get(url, path)
        assert answer.json['code'] == 'signature_missing' and 'trust.require' in answer.json['detail']
    assert daemon.ctl('explain', url, '-o', 'json').stdout.find('signature_missing') > 0
    assert daemon.get(f'oci://{registry.host}/dyn/other:v1').status == 200
    daemon.stop()
