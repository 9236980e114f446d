"""Contract 1 and 2 as tables: what a request may say, and what it is told when it says something else."""
import json

import pytest
from contract_rig import Daemon, Registry, ask, raw


@pytest.fixture(scope='module')
def registry():
    registry = Registry()
    yield registry
    registry.close()


@pytest.fixture(scope='module')
def daemon(registry):  # pylint: disable=unused-argument
    daemon = Daemon('pull: {negative_time: 0s}\n').start()
    yield daemon
    assert daemon.stop() == 0


def problem(answer, status, code):
    assert answer.status == status, answer
    assert answer.headers['content-type'] == 'application/problem+json', answer
    body = answer.json
    assert body['status'] == status and body['code'] == code and body['title'] and body['detail'], body
    return body['detail']


@pytest.mark.parametrize('url', ['oci://{h}/good/raw:v1', 'OCI://{h}/good/raw:v1', 'oCi://{h}/good/raw:v1', '{h}/good/raw:v1', 'localhost:{p}/good/raw:v1', 'HTTP://{h}/files/plugin.wasm'])
def test_url_accepted(daemon, registry, url):
    answer = daemon.get(url.format(h=registry.host, p=registry.port))
    assert answer.status == 200, answer


@pytest.mark.parametrize('url', [
    '', ' ', 'ftp://{h}/a', 'S3://b/c', 'kubernetes://a/b', 'oci://', 'oci:/{h}/a', 'oci://oci://{h}/a', 'oci://u:hunter2@{h}/good/raw:v1', 'oci://u@{h}/good/raw:v1', 'http://u:hunter2@{h}/a',
    'oci://{h}/good/raw:v1?hunter2', 'oci://{h}/good/raw:v1#hunter2', 'http://{h}/a?hunter2', 'http://{h}/a#hunter2', ' oci://{h}/good/raw:v1', 'oci://{h}/good/raw:v1 ', 'oci://{h}/go od:v1',
    'oci://{h}/Good/raw:v1', '{h}/good/Raw:v1', 'oci://{h}/good/raw/', 'oci://{h}/', 'http://{h}/', 'http://{h}', 'http://{h}/files/', 'http:///a', 'file://etc/a', 'file:///', 'file:///a/',
    'file:///a/../b', 'file://localhost/a', '[::1/a:b', 'oci://[::1%25lo]:1/a:b', 'oci://x:0/a', 'oci://x:65536/a', 'oci://{h}/good/raw:v1@sha256:00', 'oci://{h}/good/raw:', 'a' * 64,
    'oci://{h}/a/../b:1', 'oci://{h}/a//b:1', 'oci://{h}/' + 'a' * 256 + ':1', 'oci://{h}/a:' + 'b' * 129, 'a\tb', 'a\nb', 'a' * 5000])
def test_url_refused_at_once(daemon, registry, url):
    registry.log(True)
    detail = problem(daemon.get(url.format(h=registry.host)), 400, 'bad_url')
    assert detail.startswith('url: ')
    assert 'hunter2' not in detail
    assert registry.log() == []


@pytest.mark.parametrize('url', ['localhost:1/a/b:1', '[::1]:1/a/b:1', 'oci://[::1]:1/a/b:1', 'http://[::1]:1/a.wasm'])
def test_url_with_port_or_v6_is_tried(daemon, url):
    assert 'refused' in problem(daemon.get(url), 502, 'upstream_unreachable')


@pytest.mark.parametrize('member, value, code', [
    ('sha256', 'ab', 'bad_request'), ('sha256', 'A' * 64, 'bad_request'), ('sha256', 'sha256:' + 'a' * 64, 'bad_request'), ('sha256', 5, 'bad_request'),
    ('imagePullPolicy', 'always', 'bad_request'), ('imagePullPolicy', 'Never', 'bad_request'), ('imagePullPolicy', 1, 'bad_request'), ('imagePullPolicy', [], 'bad_request'),
    ('imagePullSecret', 'ns/name', 'bad_request'), ('imagePullSecret', 'kubernetes://ns/name', 'bad_request'), ('imagePullSecret', 'configmap://a', 'bad_request'),
    ('imagePullSecret', 'Upper', 'bad_request'), ('imagePullSecret', '..', 'bad_request'), ('imagePullSecret', 'a' * 254, 'bad_request'), ('imagePullSecret', 3, 'bad_request'),
    ('verificationKey', 'x', 'bad_key'), ('verificationKey', ' ', 'bad_key'), ('verificationKey', '-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----', 'bad_key'), ('verificationKey', 7, 'bad_request'),
    ('namespace', 'A', 'bad_request'), ('namespace', 'a.b', 'bad_request'), ('namespace', 'a' * 64, 'bad_request'), ('namespace', '-a', 'bad_request'), ('namespace', 1, 'bad_request'),
    ('resource', 'x', 'bad_request'), ('resource', {}, 'bad_request'), ('resource', {'name': 'a'}, 'bad_request'), ('resource', {'name': 'a', 'version': 1}, 'bad_request'),
    ('resource', {'name': 'a', 'version': '1', 'more': 1}, 'bad_request'), ('pullSecret', 'x', 'bad_request'), ('pullSecret', [], 'bad_request'),
    ('timeout', 5, 'bad_request'), ('timeout', '5', 'bad_request'), ('timeout', '0s', 'bad_request'), ('timeout', '-5s', 'bad_request'), ('timeout', '', 'bad_request'), ('timeout', '2h', 'bad_request'),
    ('timeout', '5 s', 'bad_request'), ('url', 5, 'bad_request'), ('url', None, 'bad_request'), ('Url', 'x', 'bad_request'), ('image', 'x', 'bad_request')])
def test_member_refused_by_name(daemon, registry, member, value, code):
    registry.log(True)
    body = {'url': f'oci://{registry.host}/good/raw:v1', member: value}
    assert member in problem(ask(daemon.a, 'POST', '/v1/modules', body), 400, code)
    assert registry.log() == []


@pytest.mark.parametrize('more', [{'sha256': ''}, {'sha256': None}, {'imagePullSecret': ''}, {'verificationKey': ''}, {'imagePullPolicy': None}, {'imagePullPolicy': 'UNSPECIFIED_POLICY'},
                                  {'namespace': 'team-a'}, {'resource': None}, {'resource': {'name': 'a', 'version': '1'}}, {'pullSecret': None}, {'timeout': '1m30s'}, {'timeout': '1.5s'}, {'timeout': '900ms'}])
def test_member_accepted(daemon, registry, more):
    assert daemon.get(f'oci://{registry.host}/good/raw:v1', **more).status == 200


@pytest.mark.parametrize('text, name', [
    ('{"url": "a", "url": "b"}', '"url"'), ('{"url": "a", "verificationKey": "", "verificationKey": ""}', '"verificationKey"'),
    ('{"url": "http://x/y", "resource": {"version": "1", "name": "a", "name": "b"}}', '"name"'),
    ('{"url": "a", "pullSecret": {"auths": {"registry.example.com:5000": {}, "registry.example.com:5000" : {}}}}', 'registry.example.com:5000'), ('{"a\\"b": 1, "a\\"b": 1}', 'b"')])
def test_duplicate_is_named(daemon, text, name):
    assert name in problem(ask(daemon.a, 'POST', '/v1/modules', text.encode()), 400, 'bad_request')


@pytest.mark.parametrize('text', [b'', b'{', b'[]', b'"x"', b'null', b'{}', b'{"url":"\xff"}', b'{"url":"a\\u0000"}', b'{"url":"x"} x', b'[' * 100000, b"{'url': 'x'}", b'{"url": NaN}'])
def test_body_refused(daemon, text):
    problem(ask(daemon.a, 'POST', '/v1/modules', text), 400, 'bad_request')


def test_sha256_against_url_before_network(daemon, registry):
    registry.log(True)
    detail = problem(daemon.get(f'oci://{registry.host}/good/raw@sha256:{"1" * 64}', sha256='2' * 64), 422, 'checksum_mismatch')
    assert '1' * 64 in detail and '2' * 64 in detail
    assert registry.log() == []


def test_a_text_that_is_no_key_is_refused_before_network(daemon, registry):
    key = '-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQ2xvdWQgaXMgYSBsaWUgYW5kIHRoZSBjYWtlIHRvby4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLg==\n-----END PUBLIC KEY-----\n'
    registry.log(True)
    answer = daemon.get(f'oci://{registry.host}/good/raw:v1', verificationKey=key)
    assert answer.status >= 400 and 'verificationKey' in answer.json['detail']
    assert registry.log() == []


def test_namespace_of_another(daemon, registry):
    url = f'oci://{registry.host}/good/raw:v1'
    assert 'team-b' in problem(daemon.get(url, namespace='team-b'), 403, 'denied')
    assert '/modules/team-z/' in daemon.get(url, daemon.t, namespace='team-z').json['path']
    assert '/modules/default/' in daemon.get(url, daemon.t).json['path']
    assert '/blobs/' in daemon.get(url, daemon.admin).json['path']


def test_module_object(daemon, registry):
    module = daemon.get(f'oci://{registry.host}/good/raw:v1').json
    assert list(module) == ['path', 'sha256', 'size', 'url', 'digest', 'verified', 'source', 'lease']
    assert module['verified'] is None and module['source'] in ('cache', 'revalidated', 'pulled') and list(module['lease']) == ['id', 'expires']
    plain = daemon.get(f'http://{registry.host}/files/plugin.wasm').json
    assert 'digest' not in plain and plain['verified'] is None
    assert json.dumps(plain['size']).isdigit()


@pytest.mark.parametrize('method, target, status, code', [
    ('GET', '/', 404, 'not_found'), ('GET', '/v1/modules/', 404, 'not_found'), ('GET', '/v1/modules/xyz', 400, 'bad_request'), ('GET', '/v1/modules/' + '0' * 64, 404, 'not_found'),
    ('GET', '/v1/modules?limit=0', 400, 'bad_request'), ('GET', '/v1/modules?limit=1&limit=1', 400, 'bad_request'), ('GET', '/v1/modules?nope=1', 400, 'bad_request'),
    ('GET', '/v1/modules?continue=x', 400, 'bad_request'), ('GET', '/v1/modules?namespace=team-b', 403, 'denied'), ('GET', '/v1/events?follow=x', 400, 'bad_request'),
    ('PUT', '/v1/modules', 405, 'bad_request'), ('POST', '/v1/gc', 403, 'denied'), ('DELETE', '/v1/modules/' + '0' * 64, 403, 'denied'), ('PUT', '/v1/leases/nope', 404, 'not_found')])
def test_problem(daemon, method, target, status, code):
    answer = ask(daemon.a, method, target)
    problem(answer, status, code)
    assert ('allow' in answer.headers) == (status == 405)


def test_two_hosts_are_a_problem(daemon):
    problem(raw(daemon.a, b'GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n'), 400, 'bad_request')


@pytest.mark.parametrize('data, status, code', [
    (b'GARBAGE\r\n\r\n', 400, 'bad_request'), (b'GET\r\n\r\n', 400, 'bad_request'), (b'GET /healthz\r\n\r\n', 400, 'bad_request'), (b'GET / HTTP/2.0\r\nHost: a\r\n\r\n', 505, 'bad_request'),
    (b'GET / HTTP/1.1\r\n\r\n', 400, 'bad_request'), (b'GET /' + b'a' * 9000 + b' HTTP/1.1\r\nHost: a\r\n\r\n', 414, 'too_large'), (b'GET / HTTP/1.1\r\nHost: a\r\nX: ' + b'b' * 20000 + b'\r\n\r\n', 431, 'too_large'),
    (b'GET / HTTP/1.1\r\nHost: a\r\nX: ' + b'b' * 9000 + b'\r\n\r\n', 431, 'too_large'), (b'GET / HTTP/1.1\r\nHost: a\r\n' + b'X: b\r\n' * 3000 + b'\r\n', 431, 'too_large'),
    (b'POST /v1/modules HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n', 400, 'bad_request'), (b'POST /v1/modules HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n', 400, 'bad_request'),
    (b'POST /v1/modules HTTP/1.1\r\nHost: a\r\ncontent-length: 99999999999999999999\r\n\r\n', 413, 'too_large'), (b'POST /v1/modules HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n', 400, 'bad_request'),
    (b'POST /v1/modules HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n', 400, 'bad_request'), (b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 505, 'bad_request'),
    (b'POST /v1/modules HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2000000\r\n\r\n', 413, 'too_large'), (b'GET http://a/healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n', 400, 'bad_request')], ids=lambda value: str(value)[:40])
def test_malformed_request_is_a_problem(daemon, data, status, code):
    problem(raw(daemon.a, data), status, code)


@pytest.mark.parametrize('data', [b'GET /healthz HTTP/1.0\r\n\r\n', b'GET /healthz HTTP/1.1\r\nHost: a\r\nX: ' + b'b' * 7000 + b'\r\nConnection: close\r\n\r\n',
                                  b'GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n' + b'X: b\r\n' * 40 + b'\r\n'], ids=range(3))
def test_unusual_but_good_request(daemon, data):
    assert raw(daemon.a, data).status == 200


def test_body_behind_small_headers_is_not_taken_for_headers(daemon, registry):
    text = b'{"url": "oci://%s/good/raw:v1",%s "timeout": "5s"}' % (registry.host.encode(), b'\n \n' * 8000)
    assert ask(daemon.a, 'POST', '/v1/modules', text).status == 200


def test_body_at_the_limit(daemon, registry):
    text = b'{"url": "oci://%s/good/raw:v1"' % registry.host.encode()
    assert ask(daemon.a, 'POST', '/v1/modules', text.ljust((1 << 20) - 1) + b'}').status == 200
    problem(ask(daemon.a, 'POST', '/v1/modules', text.ljust(1 << 20) + b'}'), 413, 'too_large')


def test_large_body(daemon):
    problem(ask(daemon.a, 'POST', '/v1/modules', b'{"url":"' + b'a' * 1100000 + b'"}'), 413, 'too_large')
    problem(ask(daemon.a, 'POST', '/v1/modules', b'{}', {'Content-Type': 'text/plain'}), 415, 'bad_request')


@pytest.mark.parametrize('content_type', ['application/json', 'application/json; charset=utf-8', 'APPLICATION/JSON', 'application/x-www-form-urlencoded'])
def test_content_type_of_curl_and_others(daemon, registry, content_type):
    assert ask(daemon.a, 'POST', '/v1/modules', {'url': f'oci://{registry.host}/good/raw:v1'}, {'Content-Type': content_type}).status == 200
