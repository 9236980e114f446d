"""The store in use: damage, loss, room, pins, leases, import and export, a thousand clients."""
import glob
import json
import os
import socket
import tarfile
import threading
import time

import pytest

from conftest import PASSWORD
from e2e_daemon import await_true
from e2e_images import body_of, hexes, layout, push, unique, wasm
from e2e_servers import docker_config


def blob_of(daemon, url):
    return daemon.good(url, to='admin')['path']


def damage(path):
    """Other bytes of the same size, behind the daemon's back."""
    os.chmod(path, 0o644)
    with open(path, 'r+b') as stream:
        stream.seek(30)
        stream.write(b'\xff' * 8)
    os.chmod(path, 0o444)


def test_verify_repairs(daemon, registry):
    repository, _, module = push(registry)
    other, _, _ = push(registry)
    got = daemon.good(registry.ref(repository))
    daemon.good(registry.ref(other))
    assert daemon.ctl('verify').returncode == 0
    damage(blob_of(daemon, registry.ref(repository)))
    ran = daemon.ctl('verify')
    assert ran.returncode == 1 and hexes(module)[:12] in ran.stdout + ran.stderr, ran
    again = await_true(lambda: daemon.get(registry.ref(repository)).json if daemon.get(registry.ref(repository)).status == 200 else None)
    assert body_of(again['path']) == module and again['path'] == got['path']
    assert daemon.ctl('verify').returncode == 0
    assert any(name for _, _, names in os.walk(os.path.join(daemon.store, 'quarantine')) for name in names)
    events = daemon.ask('GET', '/v1/events', to='admin').body.decode()
    assert '"quarantined"' in events
    assert daemon.metric('wasmcached_quarantined_modules_total') == 1


def test_damage_is_not_handed_out(daemon, registry):
    """What was changed behind our back is seen by the one statx of a hit."""
    repository, _, module = push(registry)
    daemon.good(registry.ref(repository))
    damage(blob_of(daemon, registry.ref(repository)))
    again = daemon.good(registry.ref(repository))
    assert body_of(again['path']) == module


@pytest.mark.parametrize('found_by', ['verify', 'another'])
def test_damage_breaks_no_promise(daemon, registry, found_by):
    """Leases and a pin outlive the damage: once the bytes are here again, the paths that were told lead to them, whoever it was that asked."""
    repository, _, module = push(registry)
    url = registry.ref(repository)
    mine, theirs = daemon.good(url), daemon.get(url, to='team').json
    daemon.ctl_good('pin', url)
    paths = [f"{daemon.store}/modules/{name}/{mine['sha256']}.wasm" for name in ('default', 'team-a')]
    damage(blob_of(daemon, url))
    if found_by == 'verify':
        assert daemon.ctl('verify').returncode == 1
    else:
        assert daemon.get(url, to='trusted', namespace='team-b').status == 200
    for _ in range(2):
        for path in paths:
            await_true(lambda: os.path.exists(path) and body_of(path) == module, 10, path)
        assert daemon.ask('PUT', f"/v1/leases/{mine['lease']['id']}").status == 200
        assert daemon.ask('PUT', f"/v1/leases/{theirs['lease']['id']}", to='team').status == 200
        await_true(lambda: daemon.ask('GET', f"/v1/modules/{mine['sha256']}", to='admin').json['pinned'], 10, 'the pin')
        daemon.restart()
    assert daemon.ask('DELETE', f"/v1/modules/{mine['sha256']}", to='admin').code == 'busy'


def test_blob_and_link_deleted(daemon, registry):
    repository, _, module = push(registry)
    got = daemon.good(registry.ref(repository))
    os.remove(got['path'])
    assert body_of(daemon.good(registry.ref(repository))['path']) == module
    blob = blob_of(daemon, registry.ref(repository))
    os.remove(blob)
    os.remove(got['path'])
    assert body_of(daemon.good(registry.ref(repository))['path']) == module
    daemon.stop()
    os.remove(blob)
    daemon.start()
    assert body_of(daemon.good(registry.ref(repository))['path']) == module
    assert 'level=error' not in daemon.told()


def test_truncated_while_stopped(daemon, registry):
    repository, _, module = push(registry)
    daemon.good(registry.ref(repository))
    blob = blob_of(daemon, registry.ref(repository))
    daemon.stop()
    os.chmod(blob, 0o644)                     # read-only, also for its owner
    os.truncate(blob, 10)
    daemon.start()
    assert body_of(daemon.good(registry.ref(repository))['path']) == module


def test_left_overs_go_at_start(daemon, registry):
    repository, _, _ = push(registry)
    daemon.good(registry.ref(repository))
    daemon.stop()
    with open(os.path.join(daemon.store, 'tmp', 'left-over'), 'wb') as stream:
        stream.write(b'x' * 1000)
    os.makedirs(os.path.join(daemon.store, 'modules', 'stranger'), exist_ok=True)
    daemon.start()
    assert not os.path.exists(os.path.join(daemon.store, 'tmp', 'left-over'))
    assert daemon.good(registry.ref(repository))['source'] == 'cache'


# ---- room ----
def test_store_full(make_daemon, registry):
    daemon = make_daemon(store={'max_size': '2MiB'})
    refs = [registry.ref(push(registry, wasm(unique(), 600 << 10))[0]) for _ in range(5)]
    leases = [daemon.good(url)['lease']['id'] for url in refs[:3]]
    answer = daemon.get(refs[3])
    assert answer.code == 'store_full' and answer.status == 507, answer
    assert 'max_size' in answer.json['detail'] or '2' in answer.json['detail']
    for url in refs[:3]:
        assert daemon.good(url)['source'] == 'cache'
    # a lease that is given back makes room, pins keep it
    sha = daemon.good(refs[0])['sha256']
    for lease in leases:
        daemon.ask('DELETE', f'/v1/leases/{lease}')
    for url in refs[:3]:
        daemon.ask('DELETE', f"/v1/leases/{daemon.good(url)['lease']['id']}")
    daemon.ctl_good('pin', refs[0])
    daemon.good(refs[3])
    listed = {module['sha256'] for module in daemon.ask('GET', '/v1/modules', to='admin').json['modules']}
    assert sha in listed and len(listed) <= 3
    assert '"evicted"' in daemon.ask('GET', '/v1/events', to='admin').body.decode()
    assert daemon.metric('wasmcached_evicted_modules_total') >= 1
    assert daemon.metric('wasmcached_store_bytes') <= 2 << 20


def test_gc_pin_rm(make_daemon, registry):
    daemon = make_daemon(store={'lease_time': '1s', 'max_size': '2MiB', 'high_watermark': 100, 'low_watermark': 20})
    pinned, other = registry.ref(push(registry, wasm(unique(), 300 << 10))[0]), registry.ref(push(registry, wasm(unique(), 300 << 10))[0])
    daemon.good(pinned)
    got = daemon.good(other)
    daemon.ctl_good('pin', pinned)
    ran = daemon.ctl('rm', pinned)
    assert ran.returncode == 1 and 'busy' in ran.stderr and 'pin' in ran.stderr
    await_true(lambda: not os.path.exists(got['path']), 5, 'the end of the lease')
    dry = json.loads(daemon.ctl_good('gc', '--dry-run', '-o', 'json'))
    assert dry['dryRun'] is True and dry['modules'] == 1 and dry['bytes'] == got['size']
    assert len(daemon.ask('GET', '/v1/modules', to='admin').json['modules']) == 2
    daemon.ctl_good('gc')
    assert [module['sha256'] for module in daemon.ask('GET', '/v1/modules', to='admin').json['modules']] == [daemon.good(pinned)['sha256']]
    assert daemon.good(other)['source'] == 'pulled'
    daemon.ctl_good('unpin', pinned)
    for lease in (daemon.good(pinned)['lease']['id'], daemon.good(other)['lease']['id']):
        assert daemon.ask('DELETE', f'/v1/leases/{lease}').status in (200, 204)
    daemon.ctl_good('rm', pinned, other)
    assert daemon.ask('GET', '/v1/modules', to='admin').json['modules'] == []
    assert glob.glob(f'{daemon.store}/blobs/**/*.wasm', recursive=True) == [] and glob.glob(f'{daemon.store}/modules/*/*.wasm') == []
    assert daemon.ctl('rm', pinned).returncode == 1


# ---- leases ----
def test_leases(daemon, registry):
    got = daemon.good(registry.ref(push(registry)[0]))
    lease = got['lease']['id']
    assert got['lease']['expires'].endswith('Z')
    renewed = daemon.ask('PUT', f'/v1/leases/{lease}')
    assert renewed.status == 200 and renewed.json['lease']['id'] == lease if 'lease' in renewed.json else renewed.json['id'] == lease
    assert daemon.ask('PUT', f'/v1/leases/{lease}', to='team').status in (403, 404)
    assert daemon.ask('DELETE', f'/v1/leases/{lease}', to='team').status in (403, 404)
    assert os.path.exists(got['path'])
    assert daemon.ask('DELETE', f'/v1/leases/{lease}').status in (200, 204)
    await_true(lambda: not os.path.exists(got['path']), 3, 'the end of the link')
    assert daemon.ask('PUT', f'/v1/leases/{lease}').code == 'not_found'
    assert daemon.ask('PUT', '/v1/leases/nonsense').status in (400, 404)
    assert body_of(daemon.good(got['url'])['path'])


def test_a_link_lives_as_long_as_any_lease(make_daemon, registry):
    daemon = make_daemon()
    url = registry.ref(push(registry)[0])
    first = daemon.good(url, to='trusted', namespace='team-b')
    second = daemon.good(url, to='admin', namespace='team-b')
    daemon.ask('DELETE', f"/v1/leases/{first['lease']['id']}", to='trusted')
    if first['lease']['id'] != second['lease']['id']:
        time.sleep(0.4)
        assert os.path.exists(first['path'])
        daemon.ask('DELETE', f"/v1/leases/{second['lease']['id']}", to='admin')
    await_true(lambda: not os.path.exists(first['path']), 3, 'the end of the link')


def test_expiry_survives_restart(make_daemon, registry):
    daemon = make_daemon(store={'lease_time': '2s'})
    got = daemon.good(registry.ref(push(registry)[0]))
    daemon.restart()
    assert os.path.exists(got['path'])
    await_true(lambda: not os.path.exists(got['path']), 6, 'the end of the lease')
    assert daemon.good(got['url'])['source'] == 'cache'


def test_what_is_used_is_not_removed(make_daemon, registry):
    """A leased module says when its last lease ends, not that a second will do."""
    daemon = make_daemon(store={'lease_time': '30m'})
    got = daemon.good(registry.ref(push(registry)[0]))
    target, pin = '/v1/modules/' + got['sha256'], '/v1/pins/' + got['sha256']
    refused = daemon.ask('DELETE', target, to='admin')
    assert (refused.status, refused.code) == (503, 'busy') and 'is leased and is not removed' in refused.json['detail'] and 1500 < int(refused.headers['retry-after']) <= 1800
    assert daemon.ask('PUT', pin, to='admin').status == 200
    assert daemon.ask('DELETE', f"/v1/leases/{got['lease']['id']}").status == 204
    refused = daemon.ask('DELETE', target, to='admin')
    assert (refused.status, refused.code) == (503, 'busy') and 'unpin it first' in refused.json['detail']
    assert daemon.ask('DELETE', pin, to='admin').status == 200
    assert daemon.ask('DELETE', target, to='admin').status == 200 and daemon.ask('GET', target, to='admin').status == 404


# ---- import and export ----
@pytest.mark.parametrize('suffix', ['', '.tar'])
@pytest.mark.parametrize('kind', ['good-raw', 'good-oci', 'good-zstd', 'good-index'])
def test_export_and_import(make_daemon, registry, tmp_path, suffix, kind):
    daemon = make_daemon()
    made = layout(kind).push(registry)
    url = registry.ref(made.name)
    got = daemon.good(url)
    target = tmp_path / ('out' + suffix)
    daemon.ctl_good('export', url, target)
    if suffix:
        with tarfile.open(target) as archive:
            names = archive.getnames()
            index = json.load(archive.extractfile('index.json'))
    else:
        names = os.listdir(target)
        index = json.loads((target / 'index.json').read_text())
    assert 'oci-layout' in names and index['schemaVersion'] == 2
    other = make_daemon()
    daemon.stop()
    asked = len(registry.requests())
    other.ctl_good('import', target)
    again = other.good(url)
    assert again['source'] == 'cache' and again['sha256'] == got['sha256'] and body_of(again['path']) == body_of(f"{daemon.store}/modules/default/{got['sha256']}.wasm") and len(registry.requests()) == asked
    other.ctl_good('export', again['sha256'], tmp_path / ('again' + suffix))
    other.restart()
    assert other.good(url)['source'] == 'cache' and len(registry.requests()) == asked


@pytest.mark.parametrize('by_tag', [True, False])
@pytest.mark.parametrize('kind', ['good-raw', 'good-oci', 'good-index'])
def test_export_and_import_of_a_pinned_image(make_daemon, registry, tmp_path, kind, by_tag):
    """A node without a registry is asked by digest too: a raw layer proves it by the manifest that lies beside, over two exports; a packed one cannot, and needs the operator's word."""
    daemon, other, third = make_daemon(), make_daemon(), make_daemon()
    made = layout(kind).push(registry)
    tagged = registry.ref(made.name)
    pinned = f"{registry.host}/{made.name}@{made.tags['v1']}"
    got = daemon.good(pinned)
    daemon.good(tagged)
    told = json.loads(daemon.ctl_good('export', tagged if by_tag else pinned, tmp_path / 'out', '-o', 'json'))
    assert told == {'sha256': got['sha256'], 'url': tagged if by_tag else pinned, 'path': str(tmp_path / 'out')}
    asked = len(registry.requests())
    if kind == 'good-raw':
        other.ctl_good('import', tmp_path / 'out')
        other.ctl_good('export', tagged if by_tag else pinned, tmp_path / 'again.tar')
        third.ctl_good('import', tmp_path / 'again.tar')
    else:
        if not by_tag:
            ran = other.ctl('import', tmp_path / 'out')
            assert ran.returncode == 1 and 'checksum_mismatch' in ran.stderr and f'--url {pinned}' in ran.stderr
        for each in (other, third):
            each.ctl_good('import', tmp_path / 'out', '--url', pinned)
    for each in (other, third):
        each.restart()
        module = each.good(pinned)
        assert (module['source'], module['sha256'], module['digest']) == ('cache', got['sha256'], got['digest'])
    assert len(registry.requests()) == asked


def test_import_refusals(daemon, tmp_path):
    assert daemon.ctl('import', tmp_path / 'absent').returncode == 1
    (tmp_path / 'empty').mkdir()
    assert daemon.ctl('import', tmp_path / 'empty').returncode == 1
    (tmp_path / 'x.tar').write_bytes(b'not a tar')
    assert daemon.ctl('import', tmp_path / 'x.tar').returncode == 1


def test_skopeo_reads_what_was_exported(daemon, registry, tmp_path):
    import shutil
    import subprocess
    if not shutil.which('skopeo'):
        pytest.skip('skopeo is not installed')
    url = registry.ref(push(registry)[0])
    daemon.good(url)
    daemon.ctl_good('export', url, tmp_path / 'out')
    shown = subprocess.run(['skopeo', 'inspect', '--raw', f'oci:{tmp_path}/out'], capture_output=True, text=True, check=False)
    assert shown.returncode == 0 and 'wasm' in shown.stdout, shown


# ---- many at once ----
@pytest.mark.parametrize('kind', ['public', 'private'])
def test_a_thousand_clients(daemon, registry, private, kind):
    server = private if kind == 'private' else registry
    repository, _, module = push(server, wasm(unique(), 1 << 20))
    body = {'url': server.ref(repository)}
    if kind == 'private':
        body['pullSecret'] = docker_config(**{server.host: ('puller', PASSWORD)})
    data = json.dumps(body).encode()
    message = b'POST /v1/modules HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n' % len(data) + data
    clients = []
    before = [sum(1 for method, path, status in server.requests() if status == 200 and method == 'GET' and f'/{repository}/{part}/' in path) for part in ('manifests', 'blobs')]
    answers = []

    def one(number):
        for client in clients[number::8]:
            answers.append(client.recv(65536))
    try:
        for _ in range(1000):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(60)
            client.connect(daemon.agent)
            clients.append(client)
        for client in clients:
            client.sendall(message)
        threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    finally:
        for client in clients:
            client.close()
    assert len(answers) == 1000 and all(answer.startswith(b'HTTP/1.1 200') and hexes(module).encode() in answer for answer in answers)
    after = [sum(1 for method, path, status in server.requests() if status == 200 and method == 'GET' and f'/{repository}/{part}/' in path) for part in ('manifests', 'blobs')]
    assert [b - a for a, b in zip(before, after)] == [1, 1]
    assert daemon.metric('wasmcached_pulls_started_total') == 1
