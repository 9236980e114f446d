"""What goes over the wire to real registries: how often they are asked, what happens when they say 429, and when a transfer breaks off."""
import concurrent.futures
import http.client
import json
import os
import threading
import time

import pytest

import peers
from layouts import crane_append, oras_variant


def tag_again(folder, ref, module):
    oras_variant(folder, ref, module)
    return peers.run(folder, 'crane', 'digest', '--insecure', ref)


@pytest.fixture
def asked(tmp_path, modules, start):
    """A docker-registry with one image; asked() gives what it was asked since the last time."""
    class Asked:
        def __init__(self):
            self.registry = start(peers.docker_registry, tmp_path)
            self.ref = f'{self.registry.host}/interop/asked:v1'
            self.push(modules['small'])

        def push(self, module):
            self.digest = tag_again(tmp_path, self.ref, module)
            self.seen = len(self.registry.requests())

        def __call__(self):
            new = self.registry.requests()[self.seen:]
            self.seen += len(new)
            return [f'{method} {(path.split("/") + ["", ""])[4]}' for method, path, status in new if status == 200] + [status for _, _, status in new if status != 200]
    return Asked()


def test_if_not_present_asks_once(asked, daemon):
    agent = daemon()
    for source in ('pulled', 'cache', 'cache'):
        assert agent.get(asked.ref).body['source'] == source
    assert asked() == ['GET manifests', 'GET blobs']
    agent.stop()
    asked.registry.stop()
    agent.start()
    assert agent.get(asked.ref).body['source'] == 'cache'


def test_always_is_one_head(asked, daemon, modules):
    agent = daemon()
    assert agent.get(asked.ref, imagePullPolicy='Always').body['source'] == 'pulled'
    assert asked() == ['GET manifests', 'GET blobs']
    for _ in range(3):
        assert agent.get(asked.ref, imagePullPolicy='Always').body['source'] == 'revalidated'
    assert asked() == ['HEAD manifests'] * 3
    asked.push(modules['small2'])
    answer = agent.get(asked.ref, imagePullPolicy='Always')
    assert (answer.body['source'], answer.body['digest'], answer.body['sha256']) == ('pulled', asked.digest, peers.sha256(modules['small2'].read_bytes()))
    assert asked() == ['HEAD manifests', 'GET manifests', 'GET blobs']


def test_always_is_asked_once_per_version_of_a_resource(asked, daemon):
    agent = daemon()
    for version in ('1', '1', '2', '2', '1'):
        assert agent.get(asked.ref, imagePullPolicy='Always', resource={'name': 'team-a/authz', 'version': version}).status == 200
    requests = asked()
    assert requests[:3] == ['GET manifests', 'GET blobs', 'HEAD manifests'] and len(requests) <= 4, requests


def test_latest_and_untagged_are_always(asked, tmp_path, modules, daemon):
    base = asked.ref.rsplit(':', 1)[0]
    digest = tag_again(tmp_path, f'{base}:latest', modules['small'])
    asked()
    agent = daemon()
    assert [agent.get(base).body['source'] for _ in range(2)] == ['pulled', 'revalidated']
    assert agent.get(f'{base}:latest').body['source'] == 'revalidated'
    assert asked() == ['GET manifests', 'GET blobs', 'HEAD manifests', 'HEAD manifests']
    assert agent.get(f'{base}:latest', imagePullPolicy='IfNotPresent').body['source'] == 'cache'
    assert agent.get(f'{base}:latest', sha256=digest[7:]).body['source'] == 'cache'
    assert agent.get(f'{base}@{digest}', imagePullPolicy='Always').body['source'] == 'cache'
    assert asked() == []


def test_unreachable_is_not_a_refusal(asked, daemon):
    agent = daemon('pull: {retries: 0}\n')
    assert agent.get(asked.ref).status == 200
    asked.registry.stop()
    assert agent.get(asked.ref, imagePullPolicy='Always').body['code'] == 'upstream_unreachable'
    assert agent.get(asked.ref).body['source'] == 'cache'


def limited(folder, module, start):
    """olareg that answers at most one request per second and caller: (server, reference)."""
    first = peers.olareg(folder)
    oras_variant(folder, f'{first.host}/interop/limited:v1', module)
    first.stop()
    server = start(peers.olareg, folder, '--rate-limit', '1')
    return server, f'{server.host}/interop/limited:v1'


def use_up(server):
    """The next request within a second is answered with 429."""
    status = 0
    for _ in range(20):
        connection = http.client.HTTPConnection('127.0.0.1', server.port)
        connection.request('GET', '/v2/')
        answer = connection.getresponse()
        status, after = answer.status, answer.getheader('retry-after')
        connection.close()
        if status == 429:
            assert after == '1'
            return
    raise AssertionError(f'never 429, last {status}')


def test_429_is_waited_for(tmp_path, modules, start, daemon):
    server, ref = limited(tmp_path, modules['small'], start)
    agent = daemon()
    use_up(server)
    began = time.monotonic()
    answer = agent.get(ref)
    assert answer.status == 200 and answer.body['sha256'] == peers.sha256(modules['small'].read_bytes()), answer
    assert 0.5 < time.monotonic() - began < 15


def test_429_that_lasts_is_told_with_retry_after(tmp_path, modules, start, daemon):
    server, ref = limited(tmp_path, modules['small'], start)
    agent = daemon('pull: {retries: 0, negative_time: 1s}\n')
    use_up(server)
    answer = agent.get(ref)
    assert (answer.status, answer.body['code']) == (429, 'rate_limited'), answer
    assert 1 <= int(answer.headers['Retry-After']) <= 60
    assert server.host in answer.body['detail'] and '429' in answer.body['detail']


@pytest.mark.parametrize('name, ends', [('docker-registry', ['206']), ('olareg', ['206']), ('ggcr', ['416', '200'])])
@pytest.mark.parametrize('layout', ['raw', 'tar-gzip'])
def test_cut_transfer_goes_on(tmp_path, modules, registries, start, daemon, name, ends, layout):
    """The connection breaks in the middle of the layer, once. It goes on by Range where the registry can; where it says 416 to that, the layer is taken anew."""
    registry = registries[name]
    cut_after = 5_000_000 if layout == 'raw' else 1_000_000
    path = f'interop/cut-{layout}:v1'
    (oras_variant if layout == 'raw' else crane_append([], 'L.tar.gz'))(tmp_path, f'{registry.host}/{path}', modules['big'])
    layer = json.loads(peers.run(tmp_path, 'crane', 'manifest', '--insecure', f'{registry.host}/{path}'))['layers'][-1]['digest']          # an image's config is a blob too, and too short to be cut
    proxy = start(peers.CutProxy, registry.port, rf'^GET \S+/blobs/{layer} ', cut_after)
    answer = daemon().get(f'{proxy.host}/{path}')
    assert answer.status == 200 and answer.body['sha256'] == peers.sha256(modules['big'].read_bytes()), answer
    blobs = proxy.blobs()
    assert [status.split()[1] for _, status in blobs] == ['200', *ends], blobs
    assert blobs[0][0] is None
    first, last = blobs[1][0].removeprefix('bytes=').split('-')
    assert cut_after - 2000 < int(first) <= cut_after and last == '', blobs
    assert all(ranged is None for ranged, _ in blobs[2:])


def test_cut_again_and_again(tmp_path, modules, registries, start, daemon):
    """Each try that gets a megabyte on is no step towards the end of patience: more cuts than retries."""
    registry = registries['docker-registry']
    oras_variant(tmp_path, f'{registry.host}/interop/cut-often:v1', modules['big'])
    proxy = start(peers.CutProxy, registry.port, r'^GET \S+/blobs/', 2_500_000, 5)
    answer = daemon('pull: {retries: 2}\n').get(f'{proxy.host}/interop/cut-often:v1')
    assert answer.status == 200 and answer.body['sha256'] == peers.sha256(modules['big'].read_bytes()), answer
    assert [status.split()[1] for _, status in proxy.blobs()] == ['200'] + ['206'] * 5


def test_cut_manifest_is_asked_again(tmp_path, modules, registries, start, daemon):
    registry = registries['docker-registry']
    oras_variant(tmp_path, f'{registry.host}/interop/cut-manifest:v1', modules['small'])
    proxy = start(peers.CutProxy, registry.port, r'^GET \S+/manifests/', 600)
    answer = daemon().get(f'{proxy.host}/interop/cut-manifest:v1')
    assert answer.status == 200 and answer.body['sha256'] == peers.sha256(modules['small'].read_bytes()), answer
    assert len(proxy.blobs()) == 2


def test_hundred_callers_one_pull(asked, daemon):
    """Cold, all at once: one manifest and one blob request."""
    agent = daemon('pull: {slots: 8}\n')
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: agent.get(asked.ref), range(100)))
    assert [answer.status for answer in answers] == [200] * 100, [answer for answer in answers if answer.status != 200][:3]
    assert asked() == ['GET manifests', 'GET blobs']


@pytest.mark.parametrize('name', ['docker-registry', 'olareg'])
def test_stalled_transfer_goes_on(tmp_path, modules, registries, start, daemon, name):
    """Nothing comes any more and nobody hangs up: after pull.progress_timeout it goes on by Range."""
    registry = registries[name]
    oras_variant(tmp_path, f'{registry.host}/interop/stall:v1', modules['big'])
    proxy = start(peers.CutProxy, registry.port, r'^GET \S+/blobs/', 5_000_000, stalls=True)
    began = time.monotonic()
    answer = daemon('pull: {progress_timeout: 1s}\n').get(f'{proxy.host}/interop/stall:v1')
    assert answer.status == 200 and answer.body['sha256'] == peers.sha256(modules['big'].read_bytes()), answer
    assert 1 <= time.monotonic() - began < 10
    assert [ranged is None for ranged, _ in proxy.blobs()] == [True, False]


def test_a_caller_does_not_wait_longer_than_it_said(tmp_path, modules, registries, start, daemon):
    """Its timeout is its own: the pull goes on, the next caller has the module."""
    registry = registries['docker-registry']
    oras_variant(tmp_path, f'{registry.host}/interop/patience:v1', modules['big'])
    proxy = start(peers.CutProxy, registry.port, r'^GET \S+/blobs/', 5_000_000, stalls=True)
    agent = daemon('pull: {progress_timeout: 2s}\n')
    began = time.monotonic()
    answer = agent.get(f'{proxy.host}/interop/patience:v1', timeout='500ms')
    assert (answer.status, answer.body['code']) == (504, 'timeout') and time.monotonic() - began < 1.5, answer
    assert agent.get(f'{proxy.host}/interop/patience:v1').status == 200
    assert len(proxy.blobs()) == 2


def test_killed_in_the_middle_of_a_pull(tmp_path, modules, registries, start, daemon):
    """Nothing half is ever handed out, nothing is left behind, and the next start pulls."""
    registry = registries['docker-registry']
    oras_variant(tmp_path, f'{registry.host}/interop/killed:v1', modules['big'])
    proxy = start(peers.CutProxy, registry.port, r'^GET \S+/blobs/', 5_000_000, stalls=True)
    agent = daemon()
    caller = threading.Thread(target=lambda: pytest.raises(Exception, agent.get, f'{proxy.host}/interop/killed:v1'))
    caller.start()
    assert proxy.stalled.wait(20)
    agent.kill()
    caller.join()
    agent.start()
    store = agent.folder / 'store'
    assert [name for name in os.listdir(store / 'tmp')] == [] and not any(files for _, _, files in os.walk(store / 'blobs'))
    answer = agent.get(f'{proxy.host}/interop/killed:v1')
    assert answer.status == 200 and answer.body['source'] == 'pulled' and answer.body['sha256'] == peers.sha256(modules['big'].read_bytes()), answer


def test_the_daemon_ends_at_once_in_the_middle_of_a_pull(tmp_path, modules, registries, start, daemon):
    """SIGTERM while a transfer hangs: within a second (the registry keeps the connection open)."""
    registry = registries['docker-registry']
    oras_variant(tmp_path, f'{registry.host}/interop/ended:v1', modules['big'])
    proxy = start(peers.CutProxy, registry.port, r'^GET \S+/blobs/', 5_000_000, stalls=True)
    agent = daemon()
    answers = []
    caller = threading.Thread(target=lambda: answers.append(agent.get(f'{proxy.host}/interop/ended:v1')))
    caller.start()
    assert proxy.stalled.wait(20)
    began = time.monotonic()
    agent.stop()
    assert time.monotonic() - began < 2
    caller.join()
    assert answers[0].body['code'] == 'busy', answers


def test_many_modules_at_once_from_a_registry_that_limits(tmp_path, modules, start, daemon):
    """Six images, two requests each (what one repository has shown is no other's, so equal layers are asked for again), two requests a second: all arrive within the callers' 30 s, for they
    wait together and go one after another."""
    first = peers.olareg(tmp_path)
    for number in range(6):
        oras_variant(tmp_path, f'{first.host}/interop/limited{number}:v1', modules['small2' if number % 2 else 'small'])
    first.stop()
    server = start(peers.olareg, tmp_path, '--rate-limit', '2')
    agent = daemon()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda number: agent.get(f'{server.host}/interop/limited{number}:v1'), range(6)))
    assert [answer.status for answer in answers] == [200] * 6, [answer for answer in answers if answer.status != 200]
