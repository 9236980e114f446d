"""The peers of tests/interop: registries, clients, the daemon, and a proxy that cuts a transfer. Nothing here knows what is right; the tests do."""
import base64
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import threading
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get('WASMCACHED_BUILD', SOURCE / 'build' / 'test'))
PEERS = pathlib.Path(os.environ.get('INTEROP_PEERS', SOURCE / 'build' / 'peers'))

# No proxy of the machine may stand between programs that all are on loopback.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.lower().endswith('_proxy')}


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def await_port(port, process, log, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, f'ended with {process.returncode}: {log.read_text(errors="replace")[-2000:]}'
        with socket.socket() as probe:
            if probe.connect_ex(('127.0.0.1', port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f'nobody listens on {port} after {seconds} s: {log.read_text(errors="replace")[-2000:]}')


class Server:
    """A process that listens on loopback; its output is kept in a file."""

    def __init__(self, folder, name, command, port):
        self.port, self.host, self.log = port, f'127.0.0.1:{port}', folder / f'{name}.log'
        with open(self.log, 'wb') as log:
            self.process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=subprocess.STDOUT, env={**ENVIRONMENT, 'OTEL_TRACES_EXPORTER': 'none'}, cwd=folder)
        await_port(port, self.process, self.log)

    def requests(self):
        """[(method, path, status)] of docker-registry's access log, in order."""
        found = re.findall(r'"(GET|HEAD|POST|PUT|PATCH|DELETE) (\S+) HTTP/[0-9.]+" (\d{3})', self.log.read_text(errors='replace'))
        return [(method, path, int(status)) for method, path, status in found]

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def docker_registry(folder, name='docker-registry', auth='', http='', port=None):
    port = port or free_port()
    config = folder / f'{name}.yaml'
    config.write_text(f'version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: "{folder / name}"}}, delete: {{enabled: true}}}}\n'
                      f'http: {{addr: "127.0.0.1:{port}", secret: interop{http}}}\n{auth}')
    return Server(folder, name, ['docker-registry', 'serve', config], port)


def olareg(folder, *options, name='olareg', is_told_its_url=True):
    port = free_port()
    options = (*options, '--external-url', f'http://127.0.0.1:{port}') if is_told_its_url else options
    return Server(folder, name, [PEERS / 'olareg', 'serve', '--port', port, '--dir', folder / name, *options], port)


def ggcr(folder, name='ggcr'):
    port = free_port()
    return Server(folder, name, [PEERS / 'crane', 'registry', 'serve', '--address', f'127.0.0.1:{port}', '--disk', folder], port)


def run(folder, *words, stdin=None):
    """A client's standard output; its failure is ours."""
    command = [str(word) for word in words]
    if not command[0].startswith('/'):
        command[0] = str(PEERS / command[0])
    done = subprocess.run(command, cwd=folder, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**ENVIRONMENT, 'HOME': str(folder), 'DOCKER_CONFIG': str(folder / '.docker')},
                          timeout=120, check=False)
    assert done.returncode == 0, f'{" ".join(command)}: {done.returncode}: {done.stderr.decode(errors="replace")}'
    return done.stdout.decode().strip()


def have(program):
    return (PEERS / program).exists() if program != 'skopeo' else shutil.which('skopeo') is not None


class CutProxy:
    """TCP on loopback in front of a registry. Answers whose request line matches `pattern` are cut `cuts` times, after `after` bytes of the answer (`stalls`: nothing more comes, but the connection
    stays); requests are counted as (line, Range)."""

    def __init__(self, target_port, pattern, after, cuts=1, stalls=False):
        self.target_port, self.pattern, self.after, self.cuts, self.stalls = target_port, re.compile(pattern), after, cuts, stalls
        self.stopped, self.stalled = threading.Event(), threading.Event()
        self.requests, self.answers, self.lock = [], [], threading.Lock()
        self.listener = socket.socket()
        self.listener.bind(('127.0.0.1', 0))
        self.listener.listen(16)
        self.port = self.listener.getsockname()[1]
        self.host = f'127.0.0.1:{self.port}'
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def cut_any(self):
        """For TLS: no request can be told from another, the connection itself is cut."""
        self.pattern = None

    def serve(self, client):
        """One request at a time, as the daemon sends them: the head, then the answer until the next head or the end."""
        try:
            with client, socket.create_connection(('127.0.0.1', self.target_port)) as server:
                state = {'cut_after': None, 'is_new': False}
                threading.Thread(target=self.answer, args=(server, client, state), daemon=True).start()
                if self.pattern is None:
                    self.note('', state)
                    while piece := client.recv(65536):
                        server.sendall(piece)
                    return
                head = b''
                while piece := client.recv(65536):
                    head += piece
                    while b'\r\n\r\n' in head:
                        text, head = head.split(b'\r\n\r\n', 1)
                        self.note(text.decode('latin-1'), state)
                        server.sendall(text + b'\r\n\r\n')
        except OSError:
            pass

    def note(self, text, state):
        line = text.split('\r\n', 1)[0]
        ranged = re.search(r'^range: *(.*)$', text, re.I | re.M)
        with self.lock:
            self.requests.append((line, ranged.group(1).strip() if ranged else None))
            cut = self.cuts > 0 and (self.pattern is None or self.pattern.search(line))
            self.cuts -= 1 if cut else 0
            state['cut_after'], state['is_new'] = (self.after if cut else None), True

    def answer(self, server, client, state):
        try:
            while piece := server.recv(65536):
                with self.lock:
                    if state['is_new']:
                        self.answers.append(piece.split(b'\r\n', 1)[0].decode('latin-1'))
                        state['is_new'] = False
                    left = state['cut_after']
                    if left is not None:
                        state['cut_after'] = left - len(piece)
                if left is not None and len(piece) >= left:
                    client.sendall(piece[:left])
                    if self.stalls:
                        self.stalled.set()
                        self.stopped.wait(60)
                    break
                client.sendall(piece)
        except OSError:
            pass
        for end in (client, server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def blobs(self):
        """[(Range, status line)] of the blob requests; the daemon asks one after the other."""
        return [(ranged, answer) for (line, ranged), answer in zip(self.requests, self.answers) if self.pattern.search(line)]

    def stop(self):
        self.stopped.set()
        self.listener.close()


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__('localhost', timeout=120)
        self.unix_path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.unix_path)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __repr__(self):
        return f'{self.status} {json.dumps(self.body)}'


class Daemon:
    """wasmcached with a store of its own. `listener` is what its socket is, `more` YAML that the configuration ends with."""

    def __init__(self, folder, more='', listener='mode: "0600", identity: fixed, namespace: default', environment=None):
        self.folder, self.socket, self.log, self.environment = folder, folder / 'agent.sock', folder / 'daemon.log', {**ENVIRONMENT, **(environment or {})}
        self.config = folder / 'config.yaml'
        (folder / 'secrets').mkdir(parents=True)
        self.config.write_text(f'listeners:\n  - {{path: {self.socket}, {listener}}}\nadmin: {{path: {folder / "admin.sock"}}}\n'
                               f'store: {{root: {folder / "store"}}}\ncredentials: {{secrets_dir: {folder / "secrets"}}}\nlog: {{level: debug}}\n{more}')
        self.process = None
        self.start()

    def start(self):
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen([str(BUILD / 'wasmcached'), '--config', str(self.config)], stdout=log, stderr=subprocess.STDOUT, env=self.environment)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(self.socket))
                    return
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f'no socket after 20 s: {self.log.read_text()}')

    def secret(self, name, host, login):
        folder = self.folder / 'secrets' / 'default' / name
        folder.mkdir(parents=True)
        (folder / '.dockerconfigjson').write_text(json.dumps(docker_config(host, login)))

    def get(self, url, **more):
        connection = UnixConnection(self.socket)
        connection.request('POST', '/v1/modules', json.dumps({'url': url, **more}), {'Content-Type': 'application/json'})
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        return Answer(answer.status, answer.headers, body)

    def ctl(self, *words, admin=False):
        return subprocess.run([str(BUILD / 'wasmcachectl'), '--socket', str(self.folder / 'admin.sock' if admin else self.socket), *[str(word) for word in words]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, timeout=120,
                              check=False, text=True)

    def kill(self):
        """As a crash."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError('the daemon did not end within 10 s of SIGTERM') from None
        assert self.process.returncode == 0, f'the daemon ended with {self.process.returncode}: {self.log.read_text(errors="replace")[-4000:]}'


def docker_config(host, login):
    return {'auths': {host: {'auth': base64.b64encode(login.encode()).decode()}}}
