"""libwasmcache and wasmcachectl against a scripted peer on a Unix socket: framing, keep-alive, limits, errors, exit codes. The daemon's own suites test the rest."""
import contextlib
import ctypes
import gzip
import hashlib
import io
import json
import os
import pathlib
import pty
import shutil
import socket
import subprocess
import tarfile
import threading
import time

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


# ---- the library by ctypes ----
class Error(ctypes.Structure):
    _fields_ = [('status', ctypes.c_int), ('retry_after_s', ctypes.c_uint), ('code', ctypes.c_char * 32), ('text', ctypes.c_char * 1024)]


class Request(ctypes.Structure):
    _fields_ = [(name, ctypes.c_char_p) for name in ('url', 'sha256', 'image_pull_policy', 'image_pull_secret', 'verification_key', 'ns', 'resource_name', 'resource_version',
                                                     'pull_secret', 'timeout')]


class Library:
    def __init__(self):
        self.c = ctypes.CDLL(str(BUILD / 'libwasmcache.so'))
        for name in ('path', 'sha256', 'digest', 'source', 'lease', 'lease_expires', 'json'):
            getattr(self.c, 'wasmcache_module_' + name).restype = ctypes.c_char_p
        self.c.wasmcache_module_size.restype = ctypes.c_uint64
        self.error = Error()

    def connect(self, path):
        self.cache = ctypes.c_void_p()
        return self.c.wasmcache_connect(str(path).encode(), ctypes.byref(self.cache), ctypes.byref(self.error))

    def get(self, **fields):
        self.module = ctypes.c_void_p()
        request = Request(**{name: value.encode() for name, value in fields.items()})
        return self.c.wasmcache_get(self.cache, ctypes.byref(request), ctypes.byref(self.module), ctypes.byref(self.error))

    def call(self, method, path, body=None):
        status, text, size = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_size_t()
        result = self.c.wasmcache_call(self.cache, method.encode(), path.encode(), body, ctypes.byref(status), ctypes.byref(text), ctypes.byref(size), ctypes.byref(self.error))
        return result, status.value, ctypes.string_at(text, size.value) if text.value else None

    def field(self, name):
        return getattr(self.c, 'wasmcache_module_' + name)(self.module)


@pytest.fixture
def library():
    one = Library()
    yield one
    if getattr(one, 'cache', None):
        one.c.wasmcache_close(one.cache)


def test_only_our_names_are_visible():
    names = subprocess.run(['nm', '-D', '--defined-only', BUILD / 'libwasmcache.so'], capture_output=True, text=True, check=True).stdout
    defined = [line.split()[2].split('@')[0] for line in names.splitlines() if line.split()[1] in 'TDBRVW']
    assert defined and all(name.startswith('wasmcache_') for name in defined)


def test_get_reads_all_fields(peer, library):
    assert library.connect(peer(answer(body=module_object())).path) == 0
    assert library.get(url=URL) == 0
    assert library.field('path') == f'/nowhere/{SHA}.wasm'.encode()
    assert library.field('sha256') == SHA.encode()
    assert library.field('digest') == b'sha256:' + b'a' * 64
    assert library.field('source') == b'pulled'
    assert (library.field('lease'), library.field('lease_expires')) == (b'l1', b'2030-01-01T00:00:00Z')
    assert library.c.wasmcache_module_size(library.module) == len(MODULE)
    assert json.loads(library.field('json')) == module_object()
    library.c.wasmcache_module_free(library.module)


def test_request_body_has_what_was_given_and_nothing_else(peer, library):
    server = peer(answer(body=module_object()))
    assert library.connect(server.path) == 0
    assert library.get(url=URL, sha256='b' * 64, image_pull_policy='Always', image_pull_secret='pull', verification_key='-----\n"K"', ns='team-a', resource_name='r',
                       resource_version='7', pull_secret=' {"auths": {"h}": {"auth": "a\\"}"}}}\n', timeout='5s') == 0
    assert json.loads(server.requests[0][2]) == {
        'url': URL, 'sha256': 'b' * 64, 'imagePullPolicy': 'Always', 'imagePullSecret': 'pull', 'verificationKey': '-----\n"K"', 'namespace': 'team-a',
        'resource': {'name': 'r', 'version': '7'}, 'pullSecret': {'auths': {'h}': {'auth': 'a"}'}}}, 'timeout': '5s'}
    assert library.get(url=URL) == 0
    assert json.loads(server.requests[1][2]) == {'url': URL}


@pytest.mark.parametrize('fields', [
    {}, {'url': ''}, {'url': URL, 'pull_secret': '{"auths":{}}, "url": "x"'}, {'url': URL, 'pull_secret': '[]'}, {'url': URL, 'pull_secret': '{"a": "}'},
    {'url': URL, 'pull_secret': ''}, {'url': URL, 'timeout': '5 parsecs'}, {'url': URL, 'resource_version': '1'}])
def test_wrong_usage_sends_nothing(peer, library, fields):
    server = peer(answer(body=module_object()))
    assert library.connect(server.path) == 0
    assert library.get(**fields) == 2
    assert library.error.text and not library.error.code and server.requests == []


@pytest.mark.parametrize('framing', ['length', 'chunked', 'close'])
def test_framings(peer, library, framing):
    body = json.dumps(module_object()).encode()
    reply = answer(body=body, framing=framing)
    server = peer((reply,) if framing == 'close' else reply)
    assert library.connect(server.path) == 0
    for _ in range(3):
        assert library.get(url=URL) == 0
        assert library.field('json') == body
    assert server.connections == (3 if framing == 'close' else 1)


def test_byte_by_byte_and_interim_answers(peer, library):
    data = b'HTTP/1.1 100 Continue\r\n\r\n' + answer(body=module_object(), framing='chunked')

    def drip(connection):
        for byte in data:
            connection.sendall(bytes([byte]))
    assert library.connect(peer(lambda *_: (drip,)).path) == 0
    assert library.get(url=URL) == 0


@pytest.mark.parametrize('reply', [
    b'SSH-2.0-x\r\n\r\n', b'HTTP/2 200 OK\r\n\r\n', b'HTTP/1.1 2x0 OK\r\n\r\n', b'HTTP/1.1 200 OK\nContent-Length: 0\n\n', b'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n',
    b'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}', b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}',
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}', b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n',
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n', b'HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n', b'HTTP/1.1 200 OK\r\nno colon\r\n\r\n',
    b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}', b'HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n', b'HTTP/1.1 200 OK\r\nA: ' + b'b' * 70000 + b'\r\n\r\n',
    b'HTTP/1.1 200 OK\r\n' + b'A: b\r\n' * 200 + b'\r\n', b'HTTP/1.1 101 Switching\r\n\r\n', b'HTTP/1.1 200 OK\r\nContent Length: 2\r\n\r\n{}', b'HTTP/1.1 100 C\r\n\r\n' * 20,
    answer(body=b'no json'), answer(body=b'[]'), answer(body={'path': '/x'}), answer(body=module_object(sha256='short')), answer(body=module_object(size='12')),
    answer(body=module_object(path='')), answer(body=module_object(size=-1)), answer(), answer(204, framing=None)])
def test_what_is_no_answer_is_unreachable(peer, library, reply):
    assert library.connect(peer((reply,)).path) == 0
    assert library.get(url=URL) == 3
    assert library.error.text and library.error.status == 0


def test_problem_is_told_in_the_daemons_words(peer, library):
    assert library.connect(peer(problem(429, 'rate_limited', 'registry.example said 429\x1b[31m', ['Retry-After: 7'])).path) == 0
    assert library.get(url=URL) == 1
    assert (library.error.status, library.error.code, library.error.retry_after_s) == (429, b'rate_limited', 7)
    assert library.error.text == b'registry.example said 429\\x1B[31m' or library.error.text == b'registry.example said 429\\x1b[31m'


@pytest.mark.parametrize('body', [b'', b'<html>', b'[]', b'{"detail": 7}'])
def test_error_without_problem(peer, library, body):
    assert library.connect(peer(answer(502, body)).path) == 0
    assert library.get(url=URL) == 1
    assert library.error.status == 502 and b'502' in library.error.text and library.error.code == b''


def test_reconnects_when_the_daemon_was_restarted(peer, library, tmp_path):
    first = peer(answer(body=module_object()))
    assert library.connect(first.path) == 0 and library.get(url=URL) == 0
    calls = []

    def once(*_):
        calls.append(1)
        return None if len(calls) == 1 else answer(body=module_object())
    first.script = once                      # the kept connection ends without an answer: asked again over a new one
    assert library.get(url=URL) == 0 and first.connections == 2
    first.script = lambda *_: (answer(body=module_object()),)
    assert library.get(url=URL) == 0
    first.stop()
    os.unlink(first.path)
    assert library.get(url=URL) == 3 and b'no such socket' in library.error.text
    second = peer(answer(body=module_object()))
    assert library.get(url=URL) == 0 and second.connections == 1


def test_fresh_connection_that_ends_is_not_asked_for_ever(peer, library):
    server = peer(lambda *_: None)
    assert library.connect(server.path) == 0
    assert library.get(url=URL) == 3
    assert len(server.requests) <= 2


def test_answer_larger_than_the_limit(peer, library):
    assert library.connect(peer((answer(body=b' ' * (65 << 20)),)).path) == 0
    assert library.call('GET', '/v1/status')[0] == 3
    assert b'MiB' in library.error.text


def test_call_keeps_the_body_of_a_refusal(peer, library):
    assert library.connect(peer(problem(404, 'not_found', 'gone')).path) == 0
    result, status, body = library.call('DELETE', '/v1/pins/x')
    assert (result, status, json.loads(body)['code']) == (1, 404, 'not_found')
    assert library.call('GET', 'no slash')[0] == 2
    assert library.call('GET', '/a b')[0] == 2
    assert library.call('GET', '/a\r\nX: y')[0] == 2


def test_head_has_no_body(peer, library):
    server = peer(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n')
    assert library.connect(server.path) == 0
    for _ in range(2):
        assert library.call('HEAD', '/x')[:2] == (0, 200)
    assert server.connections == 1


def test_leases(peer, library):
    server = peer(answer(body={}))
    assert library.connect(server.path) == 0
    assert library.c.wasmcache_renew(library.cache, b'l1', ctypes.byref(library.error)) == 0
    assert library.c.wasmcache_release(library.cache, b'l1', ctypes.byref(library.error)) == 0
    assert [request[:2] for request in server.requests] == [('PUT', '/v1/leases/l1'), ('DELETE', '/v1/leases/l1')]
    for bad in (b'', b'a/b', b'a?b', None):
        assert library.c.wasmcache_renew(library.cache, bad, ctypes.byref(library.error)) == 2


def open_fd(library, server_answer_for_content, peer, **more):
    def script(method, path, body):
        return server_answer_for_content if path.endswith('/content') else answer(body=module_object(**more))
    assert library.connect(peer(script).path) == 0 and library.get(url=URL) == 0
    fd = ctypes.c_int(-1)
    return library.c.wasmcache_open_fd(library.cache, library.module, ctypes.byref(fd), ctypes.byref(library.error)), fd.value


def test_open_fd_of_the_path(peer, library, tmp_path):
    (tmp_path / 'm.wasm').write_bytes(MODULE)
    result, fd = open_fd(library, None, peer, path=str(tmp_path / 'm.wasm'))
    assert result == 0 and os.read(fd, 100) == MODULE
    os.close(fd)


@pytest.mark.parametrize('kind', ['absent', 'other size', 'symlink'])
def test_open_fd_over_the_socket_is_sealed(peer, library, tmp_path, kind):
    path = tmp_path / 'm.wasm'
    if kind == 'other size':
        path.write_bytes(MODULE + b'x')
    elif kind == 'symlink':
        (tmp_path / 'target').write_bytes(MODULE)
        path.symlink_to('target')
    result, fd = open_fd(library, answer(body=MODULE, framing='chunked'), peer, path=str(path))
    assert result == 0 and os.read(fd, 100) == MODULE
    for change in (lambda: os.pwrite(fd, b'x', 0), lambda: os.ftruncate(fd, 0), lambda: os.ftruncate(fd, 100)):
        with pytest.raises(OSError):
            change()
    os.close(fd)


@pytest.mark.parametrize('content', [answer(body=MODULE[:-1] + b'x'), answer(body=MODULE + b'x'), answer(body=MODULE[:-1]), (answer(body=MODULE)[:-2],)])
def test_open_fd_refuses_other_bytes(peer, library, content):
    result, fd = open_fd(library, content, peer)
    assert result == 3 and fd == -1 and library.error.text


def test_interrupt_ends_a_stream(peer, library):
    def hold(connection):
        connection.sendall(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n')
        connection.recv(1)
    take_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_char), ctypes.c_size_t)
    seen = threading.Event()
    take = take_type(lambda *_: seen.set() or 0)
    assert library.connect(peer(lambda *_: (hold,)).path) == 0
    results = []
    thread = threading.Thread(target=lambda: results.append(library.c.wasmcache_stream(library.cache, b'/v1/events?follow=1', take, None, ctypes.byref(library.error))))
    thread.start()
    assert seen.wait(10)
    library.c.wasmcache_interrupt(library.cache)
    thread.join(10)
    assert not thread.is_alive() and results == [3]


def test_program_of_a_user_builds_with_pkg_config(peer, tmp_path):
    """The example of wasmcache.h, compiled against an installed tree, shared and static."""
    prefix = tmp_path / 'prefix'
    for folder in ('lib/pkgconfig', 'include'):
        (prefix / folder).mkdir(parents=True)
    shutil.copy(SOURCE / 'include' / 'wasmcache.h', prefix / 'include')
    shutil.copy(BUILD / 'libwasmcache.so', prefix / 'lib' / 'libwasmcache.so.0')
    shutil.copy(BUILD / 'libwasmcache.a', prefix / 'lib')
    (prefix / 'lib' / 'libwasmcache.so').symlink_to('libwasmcache.so.0')
    pc = (SOURCE / 'tools/client/wasmcache.pc.in').read_text().replace('@PREFIX@', str(prefix)).replace('@VERSION@', '1')
    (prefix / 'lib/pkgconfig/wasmcache.pc').write_text(pc)
    (tmp_path / 'user.c').write_text('''
#include <stdio.h>
#include <wasmcache.h>
int main(int argc, char **argv)
{
        struct wasmcache *cache;
        struct wasmcache_error err;
        struct wasmcache_module *module;
        if (argc != 2 || wasmcache_connect(argv[1], &cache, &err) != WASMCACHE_OK)
                return 1;
        if (wasmcache_get(cache, &(struct wasmcache_request){ .url = "oci://registry.example/team/authz:v1" }, &module, &err) != WASMCACHE_OK)
                return 2;
        puts(wasmcache_module_path(module));
        wasmcache_module_free(module);
        wasmcache_close(cache);
        return 0;
}
''')
    server = peer(answer(body=module_object()))
    environment = {**os.environ, 'PKG_CONFIG_PATH': str(prefix / 'lib/pkgconfig')}
    flags = subprocess.run(['pkg-config', '--cflags', '--libs', 'wasmcache'], capture_output=True, text=True, check=True, env=environment).stdout.split()
    subprocess.run(['cc', '-Wall', '-Wextra', '-Werror', '-pedantic', '-std=c11', '-o', tmp_path / 'user', tmp_path / 'user.c', *flags], check=True)
    ran = subprocess.run([tmp_path / 'user', server.path], capture_output=True, text=True, check=True, env={**os.environ, 'LD_LIBRARY_PATH': str(prefix / 'lib')})
    assert ran.stdout == f'/nowhere/{SHA}.wasm\n'
    static = ['-I', prefix / 'include', prefix / 'lib/libwasmcache.a', '-ljansson', '-lyaml', '-lcrypto', '-pthread']
    subprocess.run(['cc', '-o', tmp_path / 'user-static', tmp_path / 'user.c', *static], check=True)
    assert subprocess.run([tmp_path / 'user-static', server.path], capture_output=True, text=True, check=True).stdout == ran.stdout


# ---- wasmcachectl ----
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
    (['get', 'a', '--secret', 's', '--pull-secret-file', 'f'], 'exclude each other'), (['plugins'], 'unknown command'), (['ls', '-x'], 'unknown option -x')])
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


def test_refusals_are_one_with_code_and_hint(peer):
    ran = ctl(peer(problem(403, 'unauthorized', 'registry.example refused the login')), 'get', URL)
    assert ran.returncode == 1 and ran.stdout == ''
    lines = ran.stderr.splitlines()
    assert lines[0] == 'wasmcachectl: unauthorized: registry.example refused the login'
    assert len(lines) == 2 and lines[1].startswith('hint: ')


def test_missing_files_are_told_before_asking(peer, tmp_path):
    server = peer(answer(body=module_object()))
    (tmp_path / 'empty').write_text('')
    for words in (['--key', tmp_path / 'absent'], ['--key', tmp_path / 'empty'], ['--pull-secret-file', tmp_path / 'absent']):
        assert ctl(server, 'get', URL, *words).returncode == 1
    assert server.requests == []


def listing(method, path, body):
    first = {**module_object(), 'urls': [URL], 'namespaces': ['a', 'b'], 'pinned': True, 'leases': 2, 'lastUsedAt': '2020-01-01T00:00:00Z'}
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
    assert [json.loads(line)['number'] for line in ctl(server, 'events', '-f', '-o', 'json').stdout.splitlines()] == [0, 1, 2]
    assert server.requests[1][1] == '/v1/events?follow=1'


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


def test_completion():
    assert complete('re') == ['refresh', 'reload']
    assert complete('get', '--po') == ['--policy']
    assert complete('ls', '-o', '') == ['table', 'json', 'yaml']
    assert complete('get', 'x', '--policy', 'A') == ['Always']
    assert '--dry-run' not in complete('ls', '--') and '--dry-run' in complete('gc', '--')
    script = f'source {SOURCE}/tools/wasmcachectl/wasmcachectl.bash; COMP_WORDS=({CTL} pi); COMP_CWORD=1; _wasmcachectl; echo "${{COMPREPLY[@]}}"'
    assert subprocess.run(['bash', '-c', script], capture_output=True, text=True, check=True).stdout.split() == ['pin']


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


def progress_script(ready):
    def events(connection):
        def line(**event):
            data = json.dumps(event).encode() + b'\n'
            connection.sendall(b'%x\r\n%s\r\n' % (len(data), data))
        connection.sendall(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
        line(number=1, type='progress', url='registry.example/other:v1', bytes=5, total=10)
        for done in (0, 1 << 20, 2 << 20):
            line(number=2, type='progress', url=URL, bytes=done, total=4 << 20)
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


# ---- import and export ----
def blob(folder, data, algorithm='sha256'):
    if isinstance(data, dict):
        data = json.dumps(data).encode()
    name = hashlib.new(algorithm, data).hexdigest()
    (folder / 'blobs' / algorithm).mkdir(parents=True, exist_ok=True)
    (folder / 'blobs' / algorithm / name).write_bytes(data)
    return {'digest': f'{algorithm}:{name}', 'size': len(data)}


RAW = 'application/vnd.module.wasm.content.layer.v1+wasm'
TAR = 'application/vnd.oci.image.layer.v1.tar'


def image(folder, *layers):
    config = blob(folder, b'{}')
    return blob(folder, {'schemaVersion': 2, 'config': {'mediaType': 'application/vnd.oci.empty.v1+json', **config}, 'layers': [{'mediaType': kind, **blob(folder, data)} for kind, data in layers]})


def layout(folder, *descriptors):
    folder.mkdir(exist_ok=True)
    (folder / 'oci-layout').write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / 'index.json').write_text(json.dumps({'schemaVersion': 2, 'manifests': list(descriptors)}))
    return folder


def named(descriptor, name=URL, **more):
    return {'mediaType': 'application/vnd.oci.image.manifest.v1+json', **descriptor, 'annotations': {'org.opencontainers.image.ref.name': name}, **more}


def tar(*entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as archive:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def importing(taken):
    def script(method, path, body):
        request = json.loads(body)
        status = os.stat(os.path.dirname(request['path']))
        taken.append((request['url'], pathlib.Path(request['path']).read_bytes(), status.st_mode & 0o777))
        return answer(body={'sha256': hashlib.sha256(taken[-1][1]).hexdigest()})
    return script


def raw_layout(folder):
    folder.mkdir()
    return layout(folder, named(image(folder, (RAW, MODULE))))


@pytest.mark.parametrize('form', ['folder', 'tar', 'tar with ./'])
def test_import_of_a_raw_layer(peer, tmp_path, form):
    taken, path = [], raw_layout(tmp_path / 'l')
    if form != 'folder':
        subprocess.run(['tar', '-C', path, '-cf', tmp_path / 'l.tar', *(['.'] if './' in form else ['oci-layout', 'blobs', 'index.json'])], check=True)
        path = tmp_path / 'l.tar'
    ran = ctl(peer(importing(taken)), 'import', path)
    assert ran.returncode == 0, ran.stderr
    assert taken == [(URL, MODULE, 0o700)] and ran.stdout == f'imported {SHA} {URL}\n'
    assert not list(tmp_path.glob('import-*'))


@pytest.mark.parametrize('box', ['plain', 'gzip', 'zstd'])
def test_import_of_tar_layers(peer, tmp_path, box):
    taken, folder, data = [], tmp_path / 'l', tar(('etc/x', b'1'), ('./a/plugin.wasm', MODULE))
    folder.mkdir()
    if box == 'zstd':
        data = subprocess.run(['zstd', '-c'], input=data, capture_output=True, check=True).stdout
    elif box == 'gzip':
        data = gzip.compress(data)
    layout(folder, named(image(folder, (TAR + {'plain': '', 'gzip': '+gzip', 'zstd': '+zstd'}[box], data))))
    ran = ctl(peer(importing(taken)), 'import', folder)
    assert ran.returncode == 0, ran.stderr
    assert taken == [(URL, MODULE, 0o700)]


def test_import_of_nested_indexes_and_names(peer, tmp_path):
    taken, folder = [], tmp_path / 'l'
    folder.mkdir()
    other, wasm = image(folder, ('text/plain', b'x')), image(folder, (RAW, MODULE))
    index = blob(folder, {'schemaVersion': 2, 'manifests': [{**other, 'platform': {'os': 'linux', 'architecture': 'amd64'}}, {**wasm, 'platform': {'os': 'wasi', 'architecture': 'wasm'}}]})
    layout(folder, named(index, mediaType='application/vnd.oci.image.index.v1+json'))
    server = peer(importing(taken))
    assert ctl(server, 'import', folder).returncode == 0
    layout(folder, named(wasm, 'v1'))
    ran = ctl(server, 'import', folder)
    assert ran.returncode == 1 and 'bad_url' in ran.stderr and '--url' in ran.stderr
    assert ctl(server, 'import', folder, '--url', 'h.example/a/b:v2').returncode == 0
    assert [url for url, _, _ in taken] == [URL, 'h.example/a/b:v2']


def broken(folder, what):
    folder.mkdir()
    good = named(image(folder, (RAW, MODULE)))
    layout(folder, good)
    if what == 'no index':
        (folder / 'index.json').unlink()
    elif what == 'no mark':
        (folder / 'oci-layout').unlink()
    elif what == 'future':
        (folder / 'oci-layout').write_text('{"imageLayoutVersion": "9.0.0"}')
    elif what == 'other bytes':
        (folder / 'blobs/sha256' / SHA).write_bytes(MODULE[:-1] + b'x')
    elif what == 'short':
        (folder / 'blobs/sha256' / SHA).write_bytes(MODULE[:-1])
    elif what == 'long':
        (folder / 'blobs/sha256' / SHA).write_bytes(MODULE + b'x')
    elif what == 'absent':
        (folder / 'blobs/sha256' / SHA).unlink()
    elif what == 'symlink outside':
        (folder / 'blobs/sha256' / SHA).unlink()
        (folder.parent / 'outside').write_bytes(MODULE)
        (folder / 'blobs/sha256' / SHA).symlink_to(folder.parent / 'outside')
    elif what == 'wrong size':
        layout(folder, {**good, 'size': good['size'] + 1})
    elif what == 'escaping digest':
        layout(folder, {**good, 'digest': 'sha256:../../../etc/passwd'})
    elif what == 'no image':
        layout(folder)
    elif what == 'no wasm':
        layout(folder, named(image(folder, ('text/plain', b'x'))))
    elif what == 'component':
        layout(folder, named(image(folder, (RAW, b'\0asm\x0d\0\1\0more'))))
    elif what == 'not wasm':
        layout(folder, named(image(folder, (RAW, b'ELF is not it'))))
    elif what == 'tiny':
        layout(folder, named(image(folder, (RAW, b'\0asm'))))
    elif what == 'huge size':
        layout(folder, {**good, 'size': 1 << 40})
    elif what == 'two plugins':
        layout(folder, named(image(folder, (TAR, tar(('a/plugin.wasm', MODULE), ('plugin.wasm', MODULE))))))
    elif what == 'no plugin':
        layout(folder, named(image(folder, (TAR, tar(('a', MODULE))))))
    elif what == 'link plugin':
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode='w') as archive:
            info = tarfile.TarInfo('plugin.wasm')
            info.type, info.linkname = tarfile.SYMTYPE, '/etc/passwd'
            archive.addfile(info)
        layout(folder, named(image(folder, (TAR, out.getvalue()))))
    elif what == 'no tar':
        layout(folder, named(image(folder, (TAR, b'x' * 2000))))
    elif what == 'two raw':
        layout(folder, named(image(folder, ('application/wasm', MODULE), ('application/wasm', MODULE + b'\0\1\0'))))
    elif what == 'deep':
        inner = blob(folder, {'manifests': [image(folder, (RAW, MODULE))]})
        for _ in range(5):
            inner = blob(folder, {'manifests': [inner]})
        layout(folder, named(inner))
    elif what == 'duplicate member':
        (folder / 'index.json').write_text('{"manifests": [], "manifests": []}')


@pytest.mark.parametrize('what, code', [
    ('no index', 'not_found'), ('no mark', 'not_found'), ('future', 'bad_request'), ('other bytes', 'checksum_mismatch'), ('short', 'checksum_mismatch'), ('long', 'too_large'), ('absent', 'not_found'),
    ('symlink outside', 'bad_request'), ('wrong size', 'checksum_mismatch'), ('escaping digest', 'bad_request'), ('no image', 'unsupported_image'), ('no wasm', 'unsupported_image'),
    ('component', 'not_wasm'), ('not wasm', 'not_wasm'), ('tiny', 'not_wasm'), ('huge size', 'too_large'), ('two plugins', 'unsupported_image'), ('no plugin', 'unsupported_image'),
    ('link plugin', 'unsupported_image'), ('no tar', 'unsupported_image'), ('two raw', 'unsupported_image'), ('deep', 'unsupported_image'), ('duplicate member', 'bad_request')])
def test_import_refuses(peer, tmp_path, what, code):
    taken = []
    broken(tmp_path / 'l', what)
    ran = ctl(peer(importing(taken)), 'import', tmp_path / 'l')
    assert ran.returncode == 1 and taken == [], ran.stdout
    assert ran.stderr.startswith(f'wasmcachectl: {code}: '), ran.stderr
    assert not list(tmp_path.glob('import-*'))


def exporting(content=MODULE):
    def script(method, path, body):
        return answer(body=content, framing='chunked') if path.endswith('/content') else answer(body=module_object(urls=[URL]))
    return script


def test_export_is_what_import_takes_and_always_the_same(peer, tmp_path):
    server, taken = peer(exporting()), []
    assert ctl(server, 'export', URL, tmp_path / 'a.tar').returncode == 0
    assert ctl(server, 'export', SHA[:10], tmp_path / 'b.tar').returncode == 0
    assert (tmp_path / 'a.tar').read_bytes() == (tmp_path / 'b.tar').read_bytes()
    assert ctl(server, 'export', URL, f'{tmp_path}/c/').returncode == 0
    index = json.loads((tmp_path / 'c/index.json').read_text())
    descriptor = index['manifests'][0]
    assert descriptor['annotations'] == {'org.opencontainers.image.ref.name': URL, 'wasmcached.source.digest': 'sha256:' + 'a' * 64}
    data = (tmp_path / 'c/blobs/sha256' / descriptor['digest'].split(':')[1]).read_bytes()
    manifest = json.loads(data)
    assert hashlib.sha256(data).hexdigest() == descriptor['digest'].split(':')[1] and len(data) == descriptor['size']
    assert manifest['config']['mediaType'] == 'application/vnd.module.wasm.config.v1+json'
    assert [(one['mediaType'], one['digest'], one['size']) for one in manifest['layers']] == [(RAW, 'sha256:' + SHA, len(MODULE))]
    importer = peer(importing(taken), 'i')
    for path in ('a.tar', 'c'):
        assert ctl(importer, 'import', tmp_path / path).returncode == 0
    assert taken == [(URL, MODULE, 0o700)] * 2


@pytest.mark.parametrize('content', [MODULE + b'x', MODULE[:-1], MODULE[:-1] + b'x'])
@pytest.mark.parametrize('target', ['out.tar', 'out'])
def test_export_of_other_bytes_leaves_nothing(peer, tmp_path, content, target):
    ran = ctl(peer(exporting(content)), 'export', URL, tmp_path / target)
    assert ran.returncode == 1 and 'checksum_mismatch' in ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ['s']


def test_export_overwrites_nothing(peer, tmp_path):
    (tmp_path / 'there.tar').write_text('x')
    ran = ctl(peer(exporting()), 'export', URL, tmp_path / 'there.tar')
    assert ran.returncode == 1 and 'already there' in ran.stderr and (tmp_path / 'there.tar').read_text() == 'x'
