"""GET /v1/plugins and /v1/resources: what callers may ask, who waits for a change, why a plugin reaches a workload or not, and the command line."""
import json
import re
import threading
import time

import pytest

from e2e_daemon import await_true
from e2e_images import push, unique
from e2e_plugins import plugin, target


# ---- the route ----
@pytest.mark.parametrize('to, query, status', [
    ('trusted', {'what': '1'}, 400), ('trusted', {'direction': 'sideways'}, 400), ('trusted', {'direction': 'INBOUND'}, 400), ('trusted', {'direction': ''}, 400), ('trusted', {'port': '0'}, 400),
    ('trusted', {'port': '65536'}, 400), ('trusted', {'port': '-1'}, 400), ('trusted', {'port': '80x'}, 400), ('trusted', {'port': ''}, 400), ('trusted', {'port': '080'}, 400),
    ('trusted', {'port': ['80', '81']}, 400), ('trusted', {'type': 'http'}, 400), ('trusted', {'label': 'novalue'}, 400), ('trusted', {'label': '=v'}, 400), ('trusted', {'label': 'a=b c'}, 400),
    ('trusted', {'label': ['a=b', 'a=c']}, 400), ('trusted', {'label': 'a=' + 'x' * 64}, 400), ('trusted', {'label': 'a/b/c=x'}, 400), ('trusted', {'namespace': 'UPPER'}, 400),
    ('trusted', {'namespace': ''}, 400), ('trusted', {'namespace': ['a', 'b']}, 400), ('trusted', {'service': 'noslash'}, 400), ('trusted', {'service': 'a/'}, 400),
    ('trusted', {'serviceEntry': 'A/b'}, 400), ('trusted', {'wait': 'soon'}, 400), ('trusted', {'wait': '1h'}, 400), ('trusted', {'wait': ''}, 400), ('trusted', {'times': '2'}, 400),
    ('team', {'namespace': 'team-b'}, 403), ('team', {'service': 'team-a/s'}, 403), ('team', {'serviceEntry': 'team-a/s'}, 403), ('team', {'label': 'a'}, 400),
    ('team', {'label': 'app.kubernetes.io/name=x'}, 200), ('team', {'label': 'a='}, 200), ('team', {'direction': 'gateway', 'port': '65535', 'type': 'NETWORK'}, 200), ('team', {'wait': '1s'}, 200),
    ('trusted', {'namespace': 'team-b', 'service': 'a/b', 'serviceEntry': ['a/b', 'c/d.e']}, 200), ('admin', {'namespace': 'team-b', 'label': 'a=b'}, 200), ('admin', {}, 200)])
def test_parameters(folder, to, query, status):
    await_true(lambda: folder.ask().status == 200, 20)
    answer = folder.ask(to, **query)
    assert answer.status == status, answer
    if status != 200:
        assert answer.code == ('denied' if status == 403 else 'bad_request')
        assert next(iter(query)) in answer.json['detail']


def test_methods_and_places(folder):
    daemon = folder.daemon
    await_true(lambda: folder.ask().status == 200, 20)
    for to in ('agent', 'team', 'trusted'):
        assert daemon.ask('GET', '/v1/resources', to=to).code == 'denied'
    assert daemon.ask('POST', '/v1/plugins').status == 405
    head = daemon.ask('HEAD', '/v1/plugins')
    assert head.status == 200 and head.body == b'' and head.headers['etag']
    for query in ({'limit': '0'}, {'limit': '1001'}, {'namespace': 'A'}, {'continue': '!'}, {'x': 'y'}):
        assert daemon.ask('GET', target('/v1/resources', **query), to='admin').code == 'bad_request'


def test_pages_of_resources(folder):
    folder.put('a.yaml', *(plugin(f'p{i:03}', f'ns{i % 3}', url='r.example/a') for i in range(250)))
    await_true(lambda: folder.row('p249'), 20)
    seen, after = [], None
    while True:
        page = folder.daemon.ask('GET', target('/v1/resources', **({'continue': after} if after else {})), to='admin').json
        seen += [(row['namespace'], row['name']) for row in page['resources']]
        after = page.get('continue')
        if not after:
            break
        assert len(page['resources']) == 100
    assert seen == sorted((f'ns{i % 3}', f'p{i:03}') for i in range(250))
    assert len(folder.resources(namespace='ns1')) == 83


def test_etag_and_long_poll(registry, folder):
    url = registry.ref(push(registry)[0])
    folder.put('a.yaml', plugin('p', url=url))
    folder.await_state('p', 'ready', to='team')
    first = folder.ask('team')
    etag = first.headers['etag']
    assert re.fullmatch('"[^"]+"', etag)
    for match in (etag, '*', f'"x", {etag}', 'W/' + etag):
        same = folder.ask('team', {'If-None-Match': match})
        assert same.status == 304 and same.body == b'' and same.headers['etag'] == etag and same.headers.get('content-length') != '0'
    assert folder.ask('team', {'If-None-Match': '"other"'}, wait='30s').status == 200
    began = time.monotonic()
    assert folder.ask('team', {'If-None-Match': etag}, wait='300ms').status == 304
    assert time.monotonic() - began >= 0.29

    got = []
    waiters = [threading.Thread(target=lambda: got.append(folder.ask('team', {'If-None-Match': etag}, wait='60s', timeout=90))) for _ in range(5)]
    for waiter in waiters:
        waiter.start()
    time.sleep(0.3)
    folder.put('z.yaml', plugin('not-ours', 'team-b', url='r.example/a'))       # another namespace's change wakes nobody
    folder.await_row('not-ours', 'accepted')
    time.sleep(0.3)
    assert got == []
    folder.put('a.yaml', plugin('p', url=url, priority=1))
    for waiter in waiters:
        waiter.join(60)
    assert [answer.status for answer in got] == [200] * 5 and {answer.headers['etag'] for answer in got} != {etag}
    assert all(answer.json['plugins'][0]['priority'] == 1 for answer in got)


def test_long_poll_sees_states(registry, folder):
    """Every state on the way is another chain."""
    repository = unique('states')
    folder.put('a.yaml', plugin('p', url=registry.ref(repository)))
    failed = folder.await_state('p', 'failed')
    assert failed['code'] == 'not_found'
    etag = folder.ask(namespace='team-a').headers['etag']
    push(registry, repository=repository)
    got = []
    waiter = threading.Thread(target=lambda: got.append(folder.ask(headers={'If-None-Match': etag}, namespace='team-a', wait='60s', timeout=90)))
    waiter.start()
    waiter.join(60)        # the back-off's first step is 10 s
    assert got[0].status == 200 and got[0].json['plugins'][0]['state'] == 'ready'


@pytest.mark.alone
def test_stop_ends_polls(folder):
    await_true(lambda: folder.ask().status == 200, 20)
    etag = folder.ask().headers['etag']
    got = []

    def wait():
        try:
            got.append(folder.ask(headers={'If-None-Match': etag}, wait='60s').status)
        except OSError:
            got.append(503)
    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.3)
    began = time.monotonic()
    assert folder.daemon.stop() == 0 and time.monotonic() - began < 10
    waiter.join(20)
    assert got == [503]


# ---- why ----
def test_explain(registry, folder):
    folder.put('a.yaml', plugin('p', url=registry.ref(push(registry)[0]), selector={'matchLabels': {'app': 'web'}}), plugin('bad', url='r.example/a', failStrategy='X'),
               plugin('gone', url=registry.ref(unique())))
    folder.await_state('p', 'ready', label='app=web')
    folder.await_state('gone', 'failed', label='app=web')

    def explain(**query):
        answer = folder.daemon.ask('GET', target('/v1/explain', namespace='team-a', **query), to='admin')
        return answer.json['verdict'], answer.json['code'], str(answer.json['steps'])
    assert explain(plugin='team-a/p', label='app=web')[:2] == ('reached', None)
    verdict, _, steps = explain(plugin='WasmPlugin/team-a/p', label='app=db')
    assert verdict == 'not_reached' and 'it wants app=web, the workload has app=db' in steps
    assert 'no such label' in explain(plugin='team-a/p')[2]
    assert explain(plugin='team-a/bad')[:2] == ('refused', 'bad_request')
    assert explain(plugin='team-a/gone')[:2] == ('refused', 'not_found')
    assert explain(plugin='team-a/none')[:2] == ('not_reached', 'not_found')
    for query in ({'plugin': 'x'}, {'plugin': 'a/b', 'url': 'c'}, {'plugin': 'Pod/a/b'}, {'plugin': 'a/b', 'label': 'x'}):
        assert folder.daemon.ask('GET', target('/v1/explain', **query), to='admin').code == 'bad_request'


# ---- the command line ----
def test_ctl(registry, folder):
    daemon = folder.daemon
    folder.put('a.yaml', plugin('web', url=registry.ref(push(registry)[0]), phase='AUTHZ', priority=-3, selector={'matchLabels': {'app': 'web', 'tier': 'x'}}),
               plugin('bad', url='r.example/a', failStrategy='X', type='Y'), plugin('elsewhere', 'team-b', url='r.example/a'))
    folder.await_state('web', 'ready', label=['app=web', 'tier=x'])
    lines = daemon.ctl_good('plugins', '-n', 'team-a', '-l', 'app=web', '--label=tier=x').splitlines()
    assert lines[0].split() == ['NAMESPACE', 'NAME', 'PHASE', 'PRIORITY', 'STATE', 'AGE', 'REASON']
    assert re.fullmatch(r'team-a +web +AUTHZ +-3 +ready +\d+s +-', lines[1])
    assert re.fullmatch(r'team-a +bad +UNSPECIFIED +0 +refused +- +spec\.type: .* \(and 1 more\)', lines[2]), lines[2]
    assert [entry['name'] for entry in json.loads(daemon.ctl_good('plugins', '-n', 'team-a', '-o', 'json'))['plugins']] == ['bad']
    assert 'since' not in daemon.ctl_good('plugins', '-n', 'team-a', '-o', 'json')
    assert 'bad' in daemon.ctl_good('plugins', to='team')
    assert daemon.ctl('plugins', '-n', 'team-b', to='team').returncode == 1
    assert daemon.ctl('plugins', '--direction', 'up').returncode == 2 and daemon.ctl('plugins', '-l', 'x').returncode == 1
    assert daemon.ctl_good('plugins', '-n', 'team-a', '--port', '80', '--direction', 'inbound', '--type', 'NETWORK').splitlines()[1:] == []

    lines = daemon.ctl_good('resources', '-A').splitlines()
    assert lines[0].split() == ['NAMESPACE', 'KIND', 'NAME', 'STATE', 'SOURCE', 'REASON'] and len(lines) == 4
    assert daemon.ctl_good('resources').splitlines() == lines and len(daemon.ctl_good('resources', '-n', 'team-b').splitlines()) == 2
    assert daemon.ctl('resources', '-A', '-n', 'x').returncode == 2
    assert 'team-b' in daemon.ctl_good('resources', '-o', 'yaml') and '"resources"' in daemon.ctl_good('resources', '-o', 'json')

    told = daemon.ctl_good('explain', '--plugin', 'team-a/web', '-n', 'team-a', '-l', 'app=db')
    assert told.startswith('verdict: not_reached') and 'it wants app=web, the workload has app=db' in told
    assert daemon.ctl_good('explain', '--plugin', 'team-a/web', '-n', 'team-a', '-l', 'app=web', '-l', 'tier=x').startswith('verdict: reached')
    assert daemon.ctl('explain').returncode == 2 and daemon.ctl('explain', 'a', '--plugin', 'b/c').returncode == 2
