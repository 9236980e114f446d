"""Contract section 2 over the real sockets: routes, content, events, metrics, problems, limits, clients that vanish."""
import json
import os
import re
import signal
import socket
import threading
import time

import pytest
import requests
import yaml

from e2e_daemon import UnixConnection, await_true, free_port
from e2e_images import hexes, push, unique, wasm


@pytest.fixture
def ready(daemon, registry):
    """A daemon with one module of 10 KiB."""
    repository, _, module = push(registry, wasm(unique(), 10 << 10))
    return daemon, daemon.good(registry.ref(repository)), module


# ---- leases ----
def test_a_lease_is_renewed_by_asking_again(ready):
    """The same lease, from second to second; and what was promised last outlives a crash, though not every renewal is a row."""
    daemon, first, _ = ready

    def asked():
        return daemon.good(first['url'])['lease']
    second = await_true(lambda: next((lease for lease in [asked()] if lease['expires'] > first['lease']['expires']), None), 5, 'a later end')
    third = await_true(lambda: next((lease for lease in [asked()] if lease['expires'] > second['expires']), None), 5, 'a still later end')
    assert first['lease']['id'] == second['id'] == third['id']
    daemon.restart(signal.SIGKILL)
    leases = daemon.ask('GET', f"/v1/inspect?name={first['sha256']}", to='admin').json['leases']
    assert [lease['id'] for lease in leases] == [third['id']] and leases[0]['expires'] >= third['expires'] and os.path.exists(first['path'])


# ---- content ----
def test_content(ready):
    daemon, got, module = ready
    path = f"/v1/modules/{got['sha256']}/content"
    whole = daemon.ask('GET', path)
    tag = whole.headers['etag']
    assert (whole.status, whole.body, whole.headers['content-type'], whole.headers['content-length'], whole.headers['accept-ranges']) == (200, module, 'application/wasm', str(len(module)), 'bytes')
    assert got['sha256'] in tag and re.fullmatch(r'"[^"]+"', tag)
    head = daemon.ask('HEAD', path)
    assert (head.status, head.body, head.headers['content-length'], head.headers['etag']) == (200, b'', str(len(module)), tag)
    assert daemon.ask('GET', path, to='trusted').status in (200, 404) and daemon.ask('GET', path, to='admin').body == module


@pytest.mark.parametrize('value, first, last', [('bytes=0-0', 0, 0), ('bytes=0-99', 0, 99), ('bytes=100-', 100, None), ('bytes=-7', -7, None), ('bytes=5-999999999', 5, None), ('bytes=-999999999', 0, None)])
def test_range(ready, value, first, last):
    daemon, got, module = ready
    answer = daemon.ask('GET', f"/v1/modules/{got['sha256']}/content", headers={'Range': value})
    size = len(module)
    first = first + size if first < 0 else first
    last = size - 1 if last is None else last
    assert answer.status == 206 and answer.body == module[first:last + 1]
    assert answer.headers['content-range'] == f'bytes {first}-{last}/{size}' and answer.headers['content-length'] == str(last + 1 - first)


def test_range_refusals(ready):
    daemon, got, module = ready
    path = f"/v1/modules/{got['sha256']}/content"
    tag = daemon.ask('HEAD', path).headers['etag']
    for value in (f'bytes={len(module)}-', 'bytes=99999999-100000000', 'bytes=-0'):
        answer = daemon.ask('GET', path, headers={'Range': value})
        assert answer.status == 416 and answer.headers['content-range'] == f'bytes */{len(module)}', value
    for value in ('bytes=5-2', 'lines=1-2', 'bytes=a-b', 'bytes', 'bytes=1-2-3'):
        answer = daemon.ask('GET', path, headers={'Range': value})
        assert answer.status == 200 and answer.body == module, value
    assert daemon.ask('GET', path, headers={'Range': 'bytes=0-1', 'If-Range': tag}).status == 206
    assert daemon.ask('GET', path, headers={'Range': 'bytes=0-1', 'If-Range': '"other"'}).status == 200
    for value in (tag, '*', f'"x", {tag}', 'W/' + tag):
        answer = daemon.ask('GET', path, headers={'If-None-Match': value})
        assert answer.status == 304 and answer.body == b'' and answer.headers['etag'] == tag, value
        assert answer.headers.get('content-length', str(len(module))) == str(len(module)), 'RFC 9110 8.6: the length of a 200, or none'
    assert daemon.ask('GET', path, headers={'If-None-Match': '"other"'}).status == 200
    several = daemon.ask('GET', path, headers={'Range': 'bytes=0-1,5-6'})
    assert several.status in (200, 206)


# ---- the other routes ----
def test_listing(daemon, registry):
    for number in range(5):
        daemon.good(registry.ref(push(registry)[0]), to='team' if number == 4 else 'agent')
    seen, more = [], ''
    while True:
        page = daemon.ask('GET', f'/v1/modules?limit=2{more}').json
        assert len(page['modules']) <= 2
        seen += [module['sha256'] for module in page['modules']]
        if not page.get('continue'):
            break
        more = '&continue=' + page['continue']
    assert len(seen) == len(set(seen)) == 4 and seen == sorted(seen)
    assert len(daemon.ask('GET', '/v1/modules', to='admin').json['modules']) == 5
    assert len(daemon.ask('GET', '/v1/modules?namespace=team-a', to='admin').json['modules']) == 1
    one = daemon.ask('GET', f'/v1/modules/{seen[0]}').json
    assert one['sha256'] == seen[0] and one['verified'] is None
    for query in ('limit=0', 'limit=x', 'limit=1001', 'limit=-1', 'nonsense=1', 'limit=1&limit=2', 'continue=%00', 'namespace=team-a'):
        answer = daemon.ask('GET', '/v1/modules?' + query)
        assert answer.status in (400, 403) and answer.code in ('bad_request', 'denied'), query


def test_listed_paths_are_there(daemon, registry):
    """For a trusted caller that names no namespace, too: `default` only where the module was handed out there."""
    urls = [registry.ref(push(registry)[0]) for _ in range(3)]
    paths = [daemon.good(urls[0], to='trusted', namespace='team-b')['path'], daemon.good(urls[1], to='trusted')['path']]
    for namespace in ('default', 'a'):
        paths.append(daemon.good(urls[2], to='trusted', namespace=namespace)['path'])
    listed = daemon.ask('GET', '/v1/modules', to='trusted').json['modules']
    assert {module['path'] for module in listed} == set(paths[:3]) and all(os.path.exists(path) for path in paths)
    for sha in (module['sha256'] for module in listed):
        assert os.path.exists(daemon.ask('GET', f'/v1/modules/{sha}', to='trusted').json['path'])
    for to in ('admin', 'trusted', 'agent'):
        for route in ('modules', 'events'):
            assert daemon.ask('GET', f'/v1/{route}?namespace=Bad_', to=to).code == 'bad_request', (to, route)


def test_health_and_openapi(daemon):
    assert daemon.ask('GET', '/healthz').status == daemon.ask('GET', '/readyz').status == 200
    document = yaml.safe_load(daemon.ask('GET', '/openapi.yaml').body)
    assert document['openapi'].startswith('3.')
    for path in ('/v1/modules', '/v1/modules/{sha256}', '/v1/modules/{sha256}/content', '/v1/leases/{id}', '/v1/events', '/metrics', '/healthz', '/readyz', '/openapi.yaml', '/v1/pins/{sha256}', '/v1/gc', '/v1/verify', '/v1/refresh',
                 '/v1/reload', '/v1/config', '/v1/explain'):
        assert path in document['paths'], path
    assert set(document['paths']['/v1/pins/{sha256}']) >= {'put', 'delete'}


def fits(schema, value, schemas):
    """As far as OpenAPI 3.0 is used here; says where not."""
    if '$ref' in schema:
        schema = schemas[schema['$ref'].rsplit('/', 1)[1]]
    if value is None:
        return [] if schema.get('nullable') else ['null']
    kinds = {'object': dict, 'array': list, 'string': str, 'boolean': bool, 'integer': int, 'number': (int, float)}
    if not isinstance(value, kinds[schema['type']]) or ('enum' in schema and value not in schema['enum']):
        return [f'{value!r} is no {schema}']
    if isinstance(value, list):
        return [f'[{i}] {wrong}' for i, one in enumerate(value) for wrong in fits(schema.get('items', {'type': 'object'}), one, schemas)]
    if not isinstance(value, dict):
        return []
    known = schema.get('properties', {})
    return [f'{name} lacks' for name in schema.get('required', []) if name not in value] + [f'{name} is not described' for name in value if known and name not in known] + \
           [f'{name}: {wrong}' for name in known if name in value for wrong in fits(known[name], value[name], schemas)]


def test_answers_are_as_openapi_says(ready):
    daemon, got, _ = ready
    document = yaml.safe_load(daemon.ask('GET', '/openapi.yaml').body)
    sha, schemas = got['sha256'], document['components']['schemas']
    content, tag = f'/v1/modules/{sha}/content', {'If-None-Match': '*'}
    rows = [('POST', '/v1/modules', {'url': got['url']}, None), ('POST', '/v1/modules', {'url': 'oci://A'}, None), ('GET', '/v1/modules', None, None), ('GET', f'/v1/modules/{sha}', None, None), ('GET', content, None, None),
            ('GET', content, None, {'Range': 'bytes=0-0'}), ('GET', content, None, {'Range': 'bytes=999999999-'}), ('GET', content, None, tag), ('HEAD', content, None, tag), ('HEAD', content, None, None), ('GET', '/v1/plugins', None, tag),
            ('GET', '/v1/plugins', None, None), ('GET', '/v1/events', None, None), ('PUT', f"/v1/leases/{got['lease']['id']}", None, None), ('GET', f"/v1/explain?url={got['url']}", None, None), ('GET', '/v1/explain?url=oci://A', None, None),
            ('GET', '/v1/status', None, None), ('POST', '/v1/gc', {'dryRun': True}, None), ('POST', '/v1/reload', None, None), ('PUT', '/v1/pins/' + sha, None, None), ('DELETE', f"/v1/leases/{got['lease']['id']}", None, None)]
    for method, target, body, headers in rows:
        answer = daemon.ask(method, target, body, to='admin', headers=headers)
        path = target.split('?')[0].replace(sha, '{sha256}').replace(got['lease']['id'], '{id}')
        said = document['paths'][path][method.lower()]['responses']
        assert answer.status >= 400 or str(answer.status) in said, (method, target, answer)
        described = said.get(str(answer.status)) or document['components']['responses']['Problem']
        media = answer.headers.get('content-type', '').split(';')[0]
        assert method == 'HEAD' or (media in described['content'] if 'content' in described else not media), (method, target, answer, described)
        if media in ('application/json', 'application/problem+json') and method != 'HEAD':
            assert fits(described['content'][media]['schema'], answer.json, schemas) == [], (method, target, answer)
    workload = {one['name']: one['schema']['type'] for one in document['paths']['/v1/plugins']['get']['parameters']}
    assert workload['label'] == workload['service'] == workload['serviceEntry'] == 'array' and workload['port'] == 'string'


def test_admin_routes_are_the_operators(ready):
    daemon, got, _ = ready
    for method, path in (('DELETE', f"/v1/modules/{got['sha256']}"), ('PUT', f"/v1/pins/{got['sha256']}"), ('POST', '/v1/gc'), ('POST', '/v1/verify'), ('POST', '/v1/refresh'), ('POST', '/v1/reload'), ('GET', '/v1/config'),
                         ('GET', '/v1/explain?url=a/b'), ('GET', '/v1/status')):
        for to in ('agent', 'trusted'):
            answer = daemon.ask(method, path, to=to)
            assert (answer.status, answer.code) == (403, 'denied'), (method, path, to)
    answer = daemon.ask('PATCH', '/v1/modules')
    assert answer.status == 405 and 'POST' in answer.headers['allow'] and answer.headers['content-type'] == 'application/problem+json'
    assert daemon.ask('GET', '/nothing').code == 'not_found'
    assert daemon.ask('GET', '/v1/modules/' + 'Z' * 64).code == 'bad_request'
    assert daemon.ask('GET', '/v1/modules/' + 'a' * 64).code == 'not_found'


@pytest.mark.parametrize('body, named', [
    ('{"url": "a/b", "nonsense": 1}', 'nonsense'), ('{"url": "a/b", "url": "a/c"}', 'url'), ('{"url": 7}', 'url'), ('{}', 'url'), ('[]', 'object'), ('{"url": "a/b"', ''), ('', ''), ('{"url": "a/b", "resource": {"name": 1}}', 'name'),
    ('{"url": "a/b", "resource": {"x": "y"}}', 'x'), ('{"url": "a/b", "sha256": "abc"}', 'sha256'), ('{"url": "a/b", "sha256": "' + 'A' * 64 + '"}', 'sha256'), ('{"url": "a/b", "timeout": "soon"}', 'timeout'),
    ('{"url": "a/b", "timeout": 5}', 'timeout'), ('{"url": "a/b", "namespace": "No"}', 'namespace'), ('{"url": "a/b", "imagePullPolicy": "always"}', 'imagePullPolicy'), ('\xff', ''), ('{"url": "a/b"} x', ''), ('[' * 3000, '')])
def test_bad_bodies(daemon, body, named):
    answer = daemon.ask('POST', '/v1/modules', body.encode('latin-1'))
    assert answer.status == 400 and answer.code == 'bad_request', answer
    assert named in answer.json['detail'], answer


def test_null_is_absent_or_refused(daemon, registry):
    repository, _, _ = push(registry)
    for member in ('sha256', 'imagePullSecret', 'verificationKey'):
        assert daemon.get(registry.ref(repository), **{member: ''}).status == 200, member


def test_limits(daemon):
    answer = daemon.ask('POST', '/v1/modules', b'{"url": "' + b'a' * (2 << 20) + b'"}')
    assert answer.status == 413 and answer.headers['content-type'] == 'application/problem+json'
    assert daemon.ask('GET', '/healthz', headers={'X-Long': 'a' * (64 << 10)}).status == 431
    assert daemon.ask('POST', '/v1/modules', '{"url": "a/b"}', headers={'Content-Type': 'text/html'}).status == 415
    assert daemon.ask('GET', '/healthz').status == 200


@pytest.mark.alone
def test_timeout(make_daemon):
    with socket.socket() as silent:
        silent.bind(('127.0.0.1', 0))
        silent.listen()
        daemon = make_daemon()
        began = time.monotonic()
        answer = daemon.get(f'http://127.0.0.1:{silent.getsockname()[1]}/x.wasm', timeout='300ms')
        assert answer.status == 504 and answer.code == 'timeout' and 0.2 < time.monotonic() - began < 2


def test_a_client_that_vanishes_is_noticed(make_daemon):
    with socket.socket() as silent:
        silent.bind(('127.0.0.1', 0))
        silent.listen()
        daemon = make_daemon()
        body = json.dumps({'url': f'http://127.0.0.1:{silent.getsockname()[1]}/x.wasm'}).encode()
        for leave in ('close', 'shutdown'):
            client = socket.socket(socket.AF_UNIX)
            client.connect(daemon.agent)
            client.sendall(b'POST /v1/modules HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n' % len(body) + body)
            await_true(lambda: daemon.metric('wasmcached_waiters') == 1, what='the waiter')
            if leave == 'close':
                client.close()
                await_true(lambda: daemon.metric('wasmcached_waiters') == 0, 1.5, 'the end of the waiter')
            else:
                client.close()


def test_pipelining_and_keep_alive(ready):
    daemon, _, _ = ready
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(daemon.agent)
        client.sendall(b'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n' * 3)
        data = b''
        while data.count(b'HTTP/1.1 200') < 3:
            data += client.recv(65536)
        for byte in b'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n':
            client.send(bytes([byte]))
        assert client.recv(65536).startswith(b'HTTP/1.1 200')
    connection = UnixConnection(daemon.agent)
    for _ in range(50):
        connection.request('GET', '/v1/modules')
        assert connection.getresponse().read().startswith(b'{')
    connection.close()


@pytest.mark.parametrize('text', [b'\x00\x01\x02\r\n\r\n', b'GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n', b'GET /healthz\r\n\r\n', b'POST /v1/modules HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n',
                                  b'GET http://other/healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n', b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + b'x' * 200])
def test_hostile_requests(daemon, text):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(daemon.agent)
        client.sendall(text)
        client.shutdown(socket.SHUT_WR)
        answer = client.recv(65536)
        assert answer == b'' or answer.startswith(b'HTTP/1.1 4') or answer.startswith(b'HTTP/1.1 5') or answer.startswith(b'HTTP/1.1 200')
    assert daemon.ask('GET', '/healthz').status == 200


def test_callers_cannot_lock_operators_out(make_daemon):
    """Whoever holds all connections of the agent socket holds none of the admin socket's and the probes' own."""
    port = free_port()
    daemon = make_daemon(limits={'connections': 32, 'idle_timeout': '10m'}, metrics={'address': f'127.0.0.1:{port}'})
    held = []
    try:
        for _ in range(40):
            held.append(socket.socket(socket.AF_UNIX))
            held[-1].settimeout(10)
            held[-1].connect(daemon.agent)
            held[-1].sendall(b'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n')
        await_true(lambda: daemon.metric('wasmcached_connections_open') > 32, what='a full daemon')
        assert daemon.ask('GET', '/v1/status', to='admin', timeout=10).status == 200
        assert requests.get(f'http://127.0.0.1:{port}/healthz', timeout=10).status_code == 200
        waiting = held.pop()
        for one in held:
            one.close()
        assert waiting.recv(100).startswith(b'HTTP/1.1 200')
    finally:
        for one in held:
            one.close()


# ---- events ----
def test_events_follow(daemon, registry):
    connection = UnixConnection(daemon.agent, 20)
    connection.request('GET', '/v1/events?follow=1')
    response = connection.getresponse()
    assert response.status == 200 and response.getheader('Content-Type').startswith('application/x-ndjson')
    repository, digest, module = push(registry)
    url = registry.ref(repository)
    daemon.good(registry.ref(push(registry)[0]), to='team')        # another tenant's: not for us
    daemon.bad(registry.ref(repository, 'absent'), 'not_found')
    daemon.good(url)
    seen = []
    while not seen or seen[-1]['type'] != 'pulled':
        event = json.loads(response.readline())
        if event['type'] != 'progress':
            seen.append(event)
    connection.close()
    assert [event['type'] for event in seen] == ['refused', 'pulled'], seen
    assert seen[0]['code'] == 'not_found' and seen[1]['sha256'] == hexes(module) and seen[1]['url'] == url and seen[1].get('digest') == digest
    remembered = [json.loads(line) for line in daemon.ask('GET', '/v1/events', to='admin').body.splitlines()]
    assert [event['type'] for event in remembered].count('pulled') == 2
    assert daemon.ask('GET', '/v1/events', to='team').body.count(b'"pulled"') == 1


def test_ctl_events(daemon, registry):
    daemon.good(registry.ref(push(registry)[0]))
    assert 'pulled' in daemon.ctl_good('events') and json.loads(daemon.ctl_good('events', '-o', 'json').splitlines()[0])


# ---- metrics ----
SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\.)*"(?:,[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\.)*")*\})? (-?[0-9.e+-]+|\+Inf|NaN)$')


def test_metrics(daemon, registry):
    url = registry.ref(push(registry)[0])
    daemon.good(url)
    daemon.good(url)
    daemon.bad('oci://127.0.0.1:5/A', 'bad_url')
    answer = daemon.ask('GET', '/metrics')
    assert answer.headers['content-type'].startswith('text/plain; version=0.0.4')
    types, seen = {}, set()
    for line in answer.body.decode().splitlines():
        if line.startswith('# TYPE '):
            _, _, name, kind = line.split(' ')
            assert name not in types and kind in ('counter', 'gauge', 'histogram')
            types[name] = kind
        elif not line.startswith('# HELP '):
            match = SAMPLE.match(line)
            assert match, line
            name = match[1]
            family = name if name in types else re.sub('_(bucket|sum|count)$', '', name)
            assert family in types, line
            assert (types[family] != 'counter') or name.endswith('_total')
            assert (name, match[2]) not in seen
            seen.add((name, match[2]))
    assert daemon.metric('wasmcached_hits_total') == 1 and daemon.metric('wasmcached_misses_total') == 1 and daemon.metric('wasmcached_pulls_done_total') == 1 and daemon.metric('wasmcached_leases') == 1
    assert b'route="/v1/modules",code="bad_url"} 1' in answer.body
    assert b'127.0.0.1' not in answer.body
    opened = daemon.ask('GET', '/metrics', headers={'Accept': 'application/openmetrics-text; version=1.0.0'})
    assert opened.headers['content-type'].startswith('application/openmetrics-text') and opened.body.endswith(b'# EOF\n')


# ---- the CLI against the real daemon ----
def test_ctl(daemon, registry):
    repository, digest, module = push(registry)
    url = registry.ref(repository)
    assert daemon.ctl_good('explain', url).strip()
    explained = json.loads(daemon.ctl_good('explain', url, '-o', 'json'))
    assert explained['verdict'] == 'miss'
    path = daemon.ctl_good('get', url, to='agent')
    assert path == f'{daemon.store}/modules/default/{hexes(module)}.wasm\n'
    assert json.loads(daemon.ctl_good('explain', url, '-n', 'default', '-o', 'json'))['verdict'] == 'hit'
    assert hexes(module)[:12] in daemon.ctl_good('ls')
    for name in (url, digest, hexes(module), hexes(module)[:10]):
        assert json.loads(daemon.ctl_good('inspect', name, '-o', 'json'))['sha256'] == hexes(module)
    assert yaml.safe_load(daemon.ctl_good('status', '-o', 'yaml'))
    assert daemon.ctl_good('version').count('.') >= 2
    registry.session.get(f'{registry.scheme}://{registry.host}/v2/')
    push(registry, wasm('newer ' + repository), repository)
    daemon.ctl_good('refresh', url)
    await_true(lambda: daemon.good(url)['sha256'] == hexes(wasm('newer ' + repository)), what='the refreshed module')
    ran = daemon.ctl('get', url + 'x', to='agent')
    assert ran.returncode == 1 and ran.stdout == '' and 'not_found' in ran.stderr and 'hint' in ran.stderr
    assert daemon.ctl('get', 'oci://A B', to='agent').returncode == 1
    daemon.stop()
    ran = daemon.ctl('status')
    assert ran.returncode == 3 and 'hint' in ran.stderr


# ---- single flight and deadlines ----
def test_different_deadlines_share_a_flight(make_daemon, registry):
    """A caller who gives up does not take the pull with him."""
    daemon = make_daemon()
    repository, _, module = push(registry, wasm(unique(), 8 << 20))
    url = registry.ref(repository)
    answers = []
    threads = [threading.Thread(target=lambda wait=wait: answers.append(daemon.get(url, timeout=wait).status)) for wait in ('1ms', '30s', '30s', '30s')]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers.count(200) >= 3
    assert daemon.good(url)['sha256'] == hexes(module) and daemon.metric('wasmcached_pulls_started_total') == 1
