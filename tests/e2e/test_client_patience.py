"""How long libwasmcache and wasmcachectl try again: a daemon that is away or busy, and what is not worth another try."""
import ctypes
import os
import subprocess
import threading
import time

import pytest

from scripted_peer import CTL, URL, answer, module_object, peer, problem  # noqa: F401 (peer is a fixture)
from test_client import library  # noqa: F401 (a fixture)

FOUND = answer(body=module_object())


def patience(library, milliseconds):
    library.c.wasmcache_set_patience(library.cache, milliseconds)


def away(server):
    """Ends without an answer what is connected, and is not there for others."""
    server.script = lambda *_: None
    server.stop()
    os.unlink(server.path)


def test_daemon_that_is_away_for_a_while(peer, library):
    first = peer(FOUND)
    assert library.connect(first.path) == 0 and library.get(url=URL) == 0
    away(first)
    later = []
    timer = threading.Timer(0.7, lambda: later.append(peer(FOUND)))
    timer.start()
    patience(library, 30000)
    assert library.get(url=URL) == 0
    timer.join()
    assert later[0].path == first.path and len(later[0].requests) == 1


def test_patience_ends(peer, library):
    server = peer(FOUND)
    assert library.connect(server.path) == 0
    away(server)
    for milliseconds in (0, 400):
        patience(library, milliseconds)
        began = time.monotonic()
        assert library.get(url=URL) == 3 and b'no such socket' in library.error.text
        assert milliseconds == 0 or time.monotonic() - began > 0.1
    assert time.monotonic() - began < 20


def test_busy_is_asked_again(peer, library):
    replies = [problem(503, 'busy', 'the daemon is stopping', ['Retry-After: 1']), problem(503, 'busy', 'starting'), FOUND]
    server = peer(lambda *_: replies[min(len(server.requests), 3) - 1])
    assert library.connect(server.path) == 0
    patience(library, 30000)
    began = time.monotonic()
    assert library.get(url=URL) == 0 and len(server.requests) == 3
    assert time.monotonic() - began >= 1          # as long as the daemon said
    server.requests.clear()
    result, status, body = library.call('GET', '/v1/plugins')
    assert (result, status) == (0, 200) and body == FOUND.split(b'\r\n\r\n', 1)[1] and len(server.requests) == 3


@pytest.mark.alone
def test_busy_for_longer_than_the_patience(peer, library):
    server = peer(problem(503, 'busy', 'full', ['Retry-After: 60']))
    assert library.connect(server.path) == 0
    patience(library, 5000)
    began = time.monotonic()
    assert library.get(url=URL) == 1 and (library.error.code, library.error.retry_after_s) == (b'busy', 60)
    assert len(server.requests) == 1 and time.monotonic() - began < 4        # it is not waited for what would be too late
    server.script = lambda *_: problem(503, 'busy', 'full')
    patience(library, 300)
    assert library.get(url=URL) == 1 and library.error.code == b'busy' and 2 <= len(server.requests) < 20
    result, status, body = library.call('GET', '/v1/plugins')
    assert (result, status) == (1, 503) and b'full' in body


@pytest.mark.parametrize('status, code', [(503, 'signature_unreachable'), (429, 'rate_limited'), (502, 'upstream_unreachable'), (404, 'not_found')])
def test_other_refusals_are_final(peer, library, status, code):
    server = peer(problem(status, code, 'no', ['Retry-After: 1']))
    assert library.connect(server.path) == 0
    assert library.get(url=URL) == 1 and library.error.code == code.encode() and len(server.requests) == 1


@pytest.mark.alone
def test_connecting_waits_only_when_told(peer, library, tmp_path, monkeypatch):
    server = peer(FOUND)
    away(server)
    began = time.monotonic()
    assert library.connect(server.path) == 3
    assert time.monotonic() - began < 5
    monkeypatch.setenv('WASMCACHED_PATIENCE', '30s')
    timer = threading.Timer(0.5, lambda: peer(FOUND))
    timer.start()
    assert library.connect(server.path) == 0 and library.get(url=URL) == 0
    timer.join()


@pytest.mark.parametrize('value', ['soon', '5', '-1s', '2h'])
def test_patience_that_is_none(peer, library, monkeypatch, value):
    monkeypatch.setenv('WASMCACHED_PATIENCE', value)
    assert library.connect(peer(FOUND).path) == 2
    assert b'WASMCACHED_PATIENCE' in library.error.text


def test_interrupt_ends_patience(peer, library):
    server = peer(FOUND)
    assert library.connect(server.path) == 0
    away(server)
    patience(library, 3600000)
    results = []
    thread = threading.Thread(target=lambda: results.append(library.get(url=URL)))
    thread.start()
    time.sleep(0.3)
    assert not results
    library.c.wasmcache_interrupt(library.cache)
    thread.join(20)
    assert not thread.is_alive() and results == [3]


def test_a_connection_that_breaks_within_the_answer_is_no_answer(peer, library):
    """What was cut is not handed out, and not asked for ever."""
    server = peer(lambda *_: (FOUND[:-9],))
    assert library.connect(server.path) == 0
    assert library.get(url=URL) == 3 and len(server.requests) <= 2


def test_stream_is_asked_again_too(peer, library):
    take_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_char), ctypes.c_size_t)
    got = []
    take = take_type(lambda _, data, size: got.append(ctypes.string_at(data, size)) or 0)
    server = peer(lambda *_: problem(503, 'busy', 'starting') if len(server.requests) < 3 else answer(body=b'event'))
    assert library.connect(server.path) == 0
    assert library.c.wasmcache_stream(library.cache, b'/v1/events', take, None, ctypes.byref(library.error)) == 0
    assert b''.join(got) == b'event' and len(server.requests) == 3


def test_the_tool_waits_as_its_environment_says(peer, tmp_path):
    server = peer(FOUND)
    away(server)
    words = [CTL, '--socket', server.path, 'get', URL]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode == 3 and 'no such socket' in ran.stderr
    timer = threading.Timer(0.5, lambda: peer(FOUND))
    timer.start()
    ran = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, 'WASMCACHED_PATIENCE': '30s'})
    timer.join()
    assert ran.returncode == 0 and ran.stdout.endswith('.wasm\n'), ran.stderr
