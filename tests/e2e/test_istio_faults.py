"""What Istio's own cache of modules was measured to do wrong, one row after the other, and what is done here instead. The other rows: test_pull.py (policies, moved tags, latest), test_store.py and
tests/flow (damage, single flight)."""
import concurrent.futures
import glob
import os
import re

import pytest

from e2e_daemon import await_true
from e2e_images import body_of, hexes, push, unique, wasm
from e2e_servers import Registry


def memory_peak(daemon):
    """KiB."""
    with open(f'/proc/{daemon.process.pid}/status', encoding='ascii') as stream:
        return int(re.search(r'VmHWM:\s+(\d+)', stream.read())[1])


def test_cold_warm_restart(daemon, registry):
    """Three requests at most for a cold pull, none for a hit, and none after a restart: Istio reuses nothing then."""
    repository, _, _ = push(registry)
    url = registry.ref(repository)
    asked = len(registry.requests())
    assert daemon.good(url)['source'] == 'pulled'
    cold = len(registry.requests())
    assert cold - asked <= 3
    assert daemon.good(url)['source'] == 'cache'
    daemon.restart()
    assert daemon.good(url)['source'] == 'cache' and len(registry.requests()) == cold


@pytest.mark.parametrize('kind', ['image', 'http'])
def test_two_hundred_at_once(daemon, registry, nginx, kind):
    """Istio: 600 requests for an image, 200 for a url, 2 to 5 GB of memory, and most fail when each has 30 s. Here one download for all, whatever resources they name, and memory that stays."""
    module = wasm(unique(), 14 << 20)
    if kind == 'image':
        repository, _, _ = push(registry, module)
        url, count = registry.ref(repository), lambda: sum(1 for method, path, status in registry.requests() if f'/{repository}/' in path and method == 'GET' and status == 200)
    else:
        name = unique().replace('/', '-') + '.wasm'
        url = nginx.put(name, module)
        count = lambda: len(nginx.lines(name))
    before, started = count(), memory_peak(daemon)
    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda number: daemon.ask('POST', '/v1/modules', {'url': url, 'resource': {'name': f'r{number}', 'version': '1'}}), range(200)))
    assert [answer.status for answer in answers] == [200] * 200, [answer.text for answer in answers if answer.status != 200][:3]
    assert {answer.json['sha256'] for answer in answers} == {hexes(module)}
    assert count() - before == (2 if kind == 'image' else 1)
    assert memory_peak(daemon) - started < 40 << 10


def test_known_digest_of_a_tag_that_is_none(daemon, registry):
    """sha256 of what is here: a hit in that repository, whatever the tag says; an unknown one is not vouched for by the tag."""
    repository, digest, module = push(registry)
    daemon.good(registry.ref(repository))
    asked = len(registry.requests())
    got = daemon.good(registry.ref(repository, 'nowhere'), sha256=digest[7:])
    assert (got['source'], got['sha256'], len(registry.requests())) == ('cache', hexes(module), asked)
    daemon.bad(registry.ref(repository, 'nowhere'), 'not_found', sha256='0' * 64)


def test_open_file_outlives_its_module(make_daemon, registry):
    """Let go while a consumer has it open: the consumer reads on, the next one gets a file again, never a dead path."""
    daemon = make_daemon()
    url = registry.ref(push(registry)[0])
    got = daemon.good(url)
    with open(got['path'], 'rb') as held:
        assert daemon.ask('DELETE', f"/v1/leases/{got['lease']['id']}").status in (200, 204)
        daemon.ctl_good('rm', url)
        assert not os.path.exists(got['path'])
        assert hexes(held.read()) == got['sha256']
    again = daemon.good(url)
    assert again['source'] == 'pulled' and hexes(body_of(again['path'])) == got['sha256']


def test_two_tags_of_one_digest(daemon, registry):
    """Istio: once the module is purged and the second tag has moved, IfNotPresent says "checksum does not match" for ever. Here each tag is what the registry says it is."""
    repository, digest, module = push(registry, tag='a')
    push(registry, module, repository, 'b')
    for tag in ('a', 'b'):
        assert daemon.good(registry.ref(repository, tag))['digest'] == digest
    daemon.ask('DELETE', f"/v1/leases/{daemon.good(registry.ref(repository, 'a'))['lease']['id']}")
    daemon.ask('DELETE', f"/v1/leases/{daemon.good(registry.ref(repository, 'b'))['lease']['id']}")
    daemon.ctl_good('rm', registry.ref(repository, 'a'))
    _, moved, newer = push(registry, wasm(unique()), repository, 'b')
    for _ in range(2):
        assert (got := daemon.good(registry.ref(repository, 'b'), imagePullPolicy='IfNotPresent'))['digest'] == moved and got['sha256'] == hexes(newer)
        assert daemon.good(registry.ref(repository, 'a'), imagePullPolicy='IfNotPresent')['digest'] == digest


def test_file_removed_by_hand(make_daemon, registry):
    """Istio: its purge fails for ever, and the dead path is told for ever. Here it is pulled again, and what is let go without a file is simply gone."""
    daemon = make_daemon(store={'lease_time': '1s'})
    url = registry.ref(push(registry)[0])
    got = daemon.good(url)
    for path in [got['path'], *glob.glob(f'{daemon.store}/blobs/*/{got["sha256"]}*')]:
        os.unlink(path)
    again = daemon.good(url)
    assert again['source'] == 'pulled' and hexes(body_of(again['path'])) == got['sha256']
    for path in glob.glob(f'{daemon.store}/blobs/*/{got["sha256"]}*'):
        os.unlink(path)
    await_true(lambda: not os.path.exists(again['path']), 20, 'the end of the lease')
    assert daemon.ctl('rm', url).returncode in (0, 1)
    daemon.ctl_good('gc')
    assert daemon.good(url)['source'] == 'pulled'


def test_refresh_that_failed_is_no_success_later(make_daemon, start_server):
    """Istio: after a refresh of Always that failed, the next question with the same resource version gets the old module as if all were well. Here it fails until the registry has answered."""
    daemon = make_daemon(pull={'negative_time': '0s', 'retries': 0})
    registry = start_server(Registry)
    repository, digest, _ = push(registry)
    version = {'name': 'p', 'version': '1'}
    assert daemon.good(registry.ref(repository), imagePullPolicy='Always', resource=version)['digest'] == digest
    _, moved, _ = push(registry, wasm(unique()), repository)
    registry.stop()
    for _ in range(2):
        daemon.bad(registry.ref(repository), 'upstream_unreachable', imagePullPolicy='Always', resource={**version, 'version': '2'})
    assert daemon.good(registry.ref(repository), imagePullPolicy='Always', resource=version)['digest'] == digest          # what was asked for that version stays
    registry.start()
    assert daemon.good(registry.ref(repository), imagePullPolicy='Always', resource={**version, 'version': '2'})['digest'] == moved
