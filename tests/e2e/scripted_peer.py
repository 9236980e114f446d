"""A peer on a Unix socket that answers what a test scripts, and wasmcachectl run against it. Shared by the tests of the client side."""
import contextlib
import hashlib
import json
import os
import pathlib
import socket
import subprocess
import threading

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get('WASMCACHED_BUILD', SOURCE / 'build' / 'test'))
CTL = BUILD / 'wasmcachectl'
MODULE = b'\0asm\1\0\0\0' + b'\0\x05\4test'
SHA = hashlib.sha256(MODULE).hexdigest()
URL = 'oci://registry.example/team/authz:v1'


def module_object(**more):
    return {'path': '/nowhere/' + SHA + '.wasm', 'sha256': SHA, 'size': len(MODULE), 'url': URL, 'digest': 'sha256:' + 'a' * 64, 'verified': None, 'source': 'pulled',
            'lease': {'id': 'l1', 'expires': '2030-01-01T00:00:00Z'}, **more}


def answer(status=200, body=b'', headers=(), framing='length', reason='OK'):
    if isinstance(body, (dict, list)):
        body = json.dumps(body).encode()
    lines = [f'HTTP/1.1 {status} {reason}', *headers]
    if framing == 'length':
        lines.append(f'Content-Length: {len(body)}')
    elif framing == 'chunked':
        lines.append('Transfer-Encoding: chunked')
        pieces = [body[i:i + 7] for i in range(0, len(body), 7)]
        body = b''.join(b'%x;ext=1\r\n%s\r\n' % (len(piece), piece) for piece in pieces) + b'0\r\nTrailer: x\r\n\r\n'
    return ('\r\n'.join(lines) + '\r\n\r\n').encode() + body


def problem(status, code, detail, headers=()):
    return answer(status, {'status': status, 'title': 'x', 'detail': detail, 'code': code}, ['Content-Type: application/problem+json', *headers], reason='No')


class Peer:
    """Answers each request by `script(method, path, body)` → bytes, or None to close; 'close' behind the bytes closes after them."""

    def __init__(self, path, script):
        self.path, self.script, self.requests, self.connections = str(path), script, [], 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(16)
        self.lock = threading.Lock()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        stream = peer.makefile('rb')
        with contextlib.suppress(OSError), peer:
            while True:
                line = stream.readline()
                if not line:
                    return
                method, path, _ = line.decode().split(' ')
                headers = {}
                while (header := stream.readline()) not in (b'\r\n', b''):
                    name, _, value = header.decode().partition(':')
                    headers[name.lower()] = value.strip()
                body = stream.read(int(headers.get('content-length', 0)))
                with self.lock:
                    self.requests.append((method, path, body))
                result = self.script(method, path, body)
                close = result is None or isinstance(result, tuple)
                data = b'' if result is None else result[0] if close else result
                if callable(data):
                    data(peer)
                else:
                    peer.sendall(data)
                if close:
                    peer.shutdown(socket.SHUT_RDWR)
                    return

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def peer(tmp_path):
    made = []

    def make(script, name='s'):
        made.append(Peer(tmp_path / name, script if callable(script) else lambda *_: script))
        return made[-1]
    yield make
    for one in made:
        with contextlib.suppress(OSError):
            one.stop()


def ctl(peer_or_path, *words, stdin=None, env=None, **more):
    path = peer_or_path.path if isinstance(peer_or_path, Peer) else str(peer_or_path)
    environment = {**os.environ, 'WASMCACHED_SOCKET': path, **(env or {})}
    return subprocess.run([CTL, *words], capture_output=True, text=True, timeout=60, input=stdin, env=environment, check=False, **more)
