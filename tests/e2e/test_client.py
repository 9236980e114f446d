"""libwasmcache against a scripted peer: framing, keep-alive, limits, errors, memory files, linking."""
import ctypes
import json
import os
import re
import shutil
import subprocess
import threading

import pytest

from scripted_peer import BUILD, MODULE, SHA, SOURCE, URL, answer, module_object, peer, problem  # noqa: F401 (peer is a fixture)


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


def test_jansson_of_the_host_is_left_alone(peer, library):
    """The programs have jansson wipe what it frees; a library has no say in its host's allocator."""
    jansson = ctypes.CDLL('libjansson.so.4')

    def allocator():
        functions = [ctypes.c_void_p(), ctypes.c_void_p()]
        jansson.json_get_alloc_funcs(*map(ctypes.byref, functions))
        return [function.value for function in functions]
    before = allocator()
    assert library.connect(peer(answer(body=module_object())).path) == 0
    assert library.get(url=URL) == 0
    library.c.wasmcache_module_free(library.module)
    assert allocator() == before


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
    library.c.wasmcache_set_patience(library.cache, 0)
    assert library.get(url=URL) == 3 and b'no such socket' in library.error.text
    second = peer(answer(body=module_object()))
    assert library.get(url=URL) == 0 and second.connections == 1


def test_fresh_connection_that_ends_is_not_asked_for_ever(peer, library):
    server = peer(lambda *_: None)
    assert library.connect(server.path) == 0
    assert library.get(url=URL) == 3
    assert 1 <= len(server.requests) <= 5


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


def test_who_wants_no_error_gives_none(peer, library, tmp_path):
    """Every function, failing: it says so by its result alone."""
    c, cache, number = library.c, ctypes.c_void_p(), ctypes.c_int()
    assert c.wasmcache_connect(str(tmp_path / 'absent').encode(), ctypes.byref(cache), None) == 3
    gone, module = problem(404, 'not_found', 'gone'), ctypes.c_void_p()
    good = peer(lambda method, path, body: gone if path.endswith('/content') else answer(body=module_object()), 'good')
    assert library.connect(good.path) == 0 and library.get(url=URL) == 0 and c.wasmcache_open_fd(library.cache, library.module, ctypes.byref(number), None) == 1
    c.wasmcache_close(library.cache)
    assert library.connect(peer(gone).path) == 0
    cache = library.cache
    assert [c.wasmcache_get(cache, ctypes.byref(Request(url=url)), ctypes.byref(module), None) for url in (None, b'a/b')] == [2, 1]
    assert [c.wasmcache_renew(cache, lease, None) for lease in (None, b'l1')] == [2, 1] and c.wasmcache_release(cache, b'l1', None) == 1
    assert c.wasmcache_call(cache, b'GET', b'/x', None, None, None, None, None) == 1
    assert c.wasmcache_stream(cache, b'/x', ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 0), None, None) == 1


@pytest.mark.parametrize('language', ['c90', 'c11', 'c++98', 'c++17'])
def test_header_stands_alone(tmp_path, language):
    """In C and in C++, without a warning, and without another header before it; clang of the test packages knows both."""
    (tmp_path / 'user').write_text('#include <wasmcache.h>\nint main(void) { struct wasmcache *cache; return wasmcache_connect("/x", &cache, 0); }\n')
    kind = 'c++' if '+' in language else 'c'
    subprocess.run(['clang', '-x', kind, f'-std={language}', '-Wall', '-Wextra', '-pedantic-errors', '-Werror', '-I', SOURCE / 'include', '-S', '-o', tmp_path / 'user.s', tmp_path / 'user'], check=True)
    assert 'call' in (tmp_path / 'user.s').read_text() and not re.search(r'_Z\w*wasmcache', (tmp_path / 'user.s').read_text())


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
    (prefix / 'lib/libwasmcache.so').unlink()
    flags = subprocess.run(['pkg-config', '--static', '--cflags', '--libs', 'wasmcache'], capture_output=True, text=True, check=True, env=environment).stdout.split()
    subprocess.run(['cc', '-o', tmp_path / 'user-static', tmp_path / 'user.c', *flags], check=True)
    assert subprocess.run([tmp_path / 'user-static', server.path], capture_output=True, text=True, check=True).stdout == ran.stdout
