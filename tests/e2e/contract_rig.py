"""A daemon of its own per test module, the scripted registry beside it, and requests over the Unix socket without any client library."""
import atexit
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get('WASMCACHED_BUILD') or os.path.join(SOURCE, os.environ.get('BUILD', 'build'), os.environ.get('VARIANT', 'test'))
DAEMON, CTL = os.path.join(BUILD, 'wasmcached'), os.path.join(BUILD, 'wasmcachectl')


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f'{self.status} {self.headers} {self.body[:600]!r}'


def connect(path, timeout=20):
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(timeout)
    peer.connect(path)
    return peer


def read_answer(peer, head_only=False):
    data = b''
    while b'\r\n\r\n' not in data:
        more = peer.recv(65536)
        if not more:
            break
        data += more
    head, _, body = data.partition(b'\r\n\r\n')
    lines = head.decode('latin-1').split('\r\n')
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(':')
        headers[name.lower()] = value.strip()
    status = int(lines[0].split()[1]) if len(lines[0].split()) > 1 else 0
    if 'content-length' in headers and not head_only:
        while len(body) < int(headers['content-length']):
            more = peer.recv(65536)
            if not more:
                break
            body += more
    elif not head_only and status not in (204, 304):
        while True:
            more = peer.recv(65536)
            if not more:
                break
            body += more
    return Answer(status, headers, body)


def raw(path, data):
    with connect(path) as peer:
        peer.sendall(data)
        return read_answer(peer)


def ask(path, method, target, body=None, headers=None):
    data = b'' if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f'{method} {target} HTTP/1.1\r\nHost: w\r\nConnection: close\r\n'
    if body is not None:
        head += f'Content-Length: {len(data)}\r\n'
        if not headers or 'Content-Type' not in headers:
            head += 'Content-Type: application/json\r\n'
    for name, value in (headers or {}).items():
        head += f'{name}: {value}\r\n'
    with connect(path) as peer:
        peer.sendall(head.encode() + b'\r\n' + data)
        return read_answer(peer, method == 'HEAD')


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Registry:
    def __init__(self):
        self.process = subprocess.Popen([sys.executable, os.path.join(SOURCE, 'tests/fake/registry.py'), '--until-eof'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        words = self.process.stdout.readline().split()
        self.port, self.other = int(words[1]), int(words[2])
        self.host = f'127.0.0.1:{self.port}'

    def steer(self, target, method='GET'):
        with urllib.request.urlopen(urllib.request.Request(f'http://{self.host}{target}', method=method, data=b'' if method == 'POST' else None), timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def log(self, clear=False):
        return self.steer('/_log' + ('?clear=1' if clear else ''))

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


class Daemon:
    """config: extra YAML; listeners a (fixed team-a), b (fixed team-b), t (trusted) and the admin socket in a folder of its own."""
    def __init__(self, config='', env=None, listeners=None, store=None):
        self.folder = tempfile.mkdtemp(prefix='wc-contract-')
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        os.chmod(self.folder, 0o755)
        self.a, self.b, self.t, self.admin = (os.path.join(self.folder, f'{n}.sock') for n in ('a', 'b', 't', 'admin'))
        self.store = os.path.join(self.folder, 'store')
        self.log_path = os.path.join(self.folder, 'log')
        self.config = os.path.join(self.folder, 'config.yaml')
        self.env = {**os.environ, **(env or {})}
        if listeners is None:
            listeners = f'''listeners:
  - {{path: {self.a}, identity: fixed, namespace: team-a}}
  - {{path: {self.b}, identity: fixed, namespace: team-b}}
  - {{path: {self.t}, identity: trusted}}
'''
        self.text = listeners + f'admin: {{path: {self.admin}}}\n' + (store or f'store: {{root: {self.store}}}\n') + config
        self.write(self.text)
        self.process = None

    def write(self, text):
        with open(self.config, 'w', encoding='utf-8') as stream:
            stream.write(text)

    def start(self):
        self.process = subprocess.Popen([DAEMON, '--config', self.config], stderr=open(self.log_path, 'ab'), env=self.env)
        end = time.monotonic() + 15
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                if ask(self.admin, 'GET', '/readyz').status == 200:
                    return self
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError('the daemon is not ready: ' + self.log())

    def log(self):
        with open(self.log_path, encoding='utf-8') as stream:
            return stream.read()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                return self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        return self.process.returncode if self.process else None

    def get(self, url, socket_path=None, headers=None, **more):
        return ask(socket_path or self.a, 'POST', '/v1/modules', {'url': url, **more}, headers)

    def ctl(self, *words, env=None, socket_path=None, **more):
        return subprocess.run([CTL, *words], capture_output=True, text=True, check=False, timeout=60,
                              env={**os.environ, 'WASMCACHED_SOCKET': socket_path or self.admin, **(env or {})}, **more)
