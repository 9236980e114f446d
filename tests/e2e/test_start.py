"""The start with a large store: hits at once, the rest when all of it is read; and what may happen meanwhile."""
import hashlib
import os
import signal
import sqlite3
import subprocess
import threading
import time

import pytest

from e2e_daemon import await_true
from e2e_images import push
from e2e_sign import Signed, keys  # noqa: F401
from signing import sign_bundle

MANY = 1500                       # with documents this long an index of more than 8 MiB
DOCUMENT = '{"x": "%s"}' % ('y' * 6000)
HUGE = 1 << 30                    # holes, which take a second or more to hash


def key_of(digest):
    return b'\x01' + digest


def fill(daemon, count):
    """Modules as pulls of oci://127.0.0.1:1/fill/m<n>:v1 by everybody would leave them."""
    index = sqlite3.connect(os.path.join(daemon.store, 'index.sqlite'))
    now = int(time.time())
    for number in range(count):
        body = b'\0asm\1\0\0\0\0\x0cfill%07d' % number
        digest = hashlib.sha256(body).digest()
        manifest = hashlib.sha256(b'manifest' + body).digest()
        path = blob_path(daemon, digest.hex())
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, 'wb') as stream:
            stream.write(body)
        os.chmod(path, 0o444)
        info = os.stat(path)
        repository = f'127.0.0.1:1/fill/m{number}'
        index.execute('INSERT INTO module VALUES (?,?,?,?,?,?,?,?,0)', (key_of(digest), info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns, now, now))
        index.execute('INSERT INTO image (manifest, top, module, layer, media_type, layer_type) VALUES (?,?,?,?,?,?)', (key_of(manifest), key_of(manifest), key_of(digest), key_of(digest), 'application/vnd.oci.image.manifest.v1+json', 'application/wasm'))
        index.execute('INSERT INTO document VALUES (?,?,?)', (key_of(manifest), key_of(manifest), DOCUMENT))
        index.execute('INSERT INTO reference VALUES (?,?,?,?,?,?)', (f'oci://{repository}:v1', key_of(manifest), key_of(manifest), key_of(digest), '', now))
        index.execute('INSERT INTO "grant" VALUES (?,?,?,?,?,?,?,?)', (key_of(manifest), repository, 'anonymous' if number % 2 else 'secret', '' if number % 2 else 'team-a', '' if number % 2 else 'pull',
                                                                       b'\x01' + bytes(32), now, now))
    index.commit()
    index.close()
    assert os.path.getsize(os.path.join(daemon.store, 'index.sqlite')) > 8 << 20


def blob_path(daemon, sha256):
    return os.path.join(daemon.store, 'blobs', sha256[:2], sha256)


def filled(number):
    return f'oci://127.0.0.1:1/fill/m{number}:v1'


def sha_of(number):
    return hashlib.sha256(b'\0asm\1\0\0\0\0\x0cfill%07d' % number).hexdigest()


def is_loading(daemon):
    return daemon.ask('GET', '/v1/status', to='admin').json['store']['loading']


def whole(daemon):
    await_true(lambda: not is_loading(daemon), 120, 'the rest of the store')


@pytest.fixture(name='large')
def large_fixture(make_daemon, registry, keys):
    daemon = make_daemon(registries={'127.0.0.1:1': {'plain_http': True}}, store={'lease_time': '1h'})
    daemon.known, _, _ = push(registry)
    daemon.good(registry.ref(daemon.known))
    daemon.signed, daemon.pem = Signed(registry), keys().pem
    daemon.signed.sign(sign_bundle, keys())
    daemon.good(daemon.signed.url, verificationKey=daemon.pem)
    daemon.stop()
    fill(daemon, MANY)
    return daemon


def crash_with_work(daemon):
    """After a kill -9 with one blob that takes seconds to be looked at."""
    daemon.start()
    whole(daemon)
    daemon.stop(signal.SIGKILL)
    path = blob_path(daemon, sha_of(1))
    os.chmod(path, 0o600)
    os.truncate(path, HUGE)
    daemon.start()
    assert is_loading(daemon)


def in_background(results, name, call):
    def run():
        results[name] = call(), time.monotonic()
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_after_a_stop(large, registry):
    """Everything is where it was, and nothing is asked for again."""
    before = registry.count('GET', large.known)
    large.start()
    assert large.good(filled(711))['source'] == 'cache'
    assert large.good(registry.ref(large.known))['source'] == 'cache'
    whole(large)
    assert large.metric('wasmcached_store_modules') == MANY + 2
    assert large.metric('wasmcached_store_loading') == 0
    assert large.good(filled(713))['source'] == 'cache'
    assert registry.count('GET', large.known) == before
    # An even one is granted to a secret that is not there any more.
    large.bad(filled(710), 'upstream_unreachable')


def test_meanwhile(large, registry):
    """After kill -9, while one blob keeps the look at all of them busy."""
    unknown, _, _ = push(registry)
    crash_with_work(large)
    assert large.ask('GET', '/readyz').status == 200
    assert large.metric('wasmcached_store_loading') == 1
    assert 'wasmcached_store_modules ' not in large.ask('GET', '/metrics').body.decode()
    for number in (3, 5, 1499):
        got = large.good(filled(number))
        assert got['source'] == 'cache' and got['sha256'] == sha_of(number)
    assert large.good(registry.ref(large.known))['source'] == 'cache'
    asked = registry.count('GET', large.signed.repository)
    got_signed = large.good(large.signed.url, verificationKey=large.pem)      # what is stored is judged again
    assert got_signed['source'] == 'cache' and got_signed['verified']['format'] == 'cosign-bundle'
    assert registry.count('GET', large.signed.repository) == asked
    assert large.ask('POST', '/v1/reload', to='admin').status == 200
    assert is_loading(large)

    results, blobs = {}, registry.count('GET', large.known + '/blobs')
    public = subprocess.run('openssl ecparam -name prime256v1 -genkey -noout | openssl ec -pubout', shell=True, capture_output=True, text=True, check=True).stdout
    threads = [in_background(results, name, call) for name, call in {
        'unknown': lambda: large.get(registry.ref(unknown)),
        'signed': lambda: large.get(registry.ref(large.known), verificationKey=public),
        'always': lambda: large.get(registry.ref(large.known), imagePullPolicy='Always'),
        'other tenant': lambda: large.get(filled(4), to='agent'),
        'damaged': lambda: large.get(filled(1)),
        'list': lambda: large.ctl('ls', '-o', 'json'),
        'remove': lambda: large.ask('DELETE', '/v1/modules/' + sha_of(7), to='admin'),
        'gc': lambda: large.ask('POST', '/v1/gc', to='admin'),
        'renew': lambda: large.ask('PUT', '/v1/leases/' + got['lease']['id']),
    }.items()]
    time.sleep(0.3)
    early = set(results) - {'signed', 'damaged'}
    assert not (early and is_loading(large)), early
    whole(large)
    ended = time.monotonic()
    for thread in threads:
        thread.join(60)
    answers = {name: answer for name, (answer, _) in results.items()}
    assert ended - min(at for _, at in results.values()) < 60
    assert answers['unknown'].status == 200 and answers['unknown'].json['source'] == 'pulled'
    assert answers['signed'].code == 'signature_missing'
    assert answers['always'].status == 200 and answers['always'].json['source'] == 'revalidated'
    assert answers['other tenant'].code == 'upstream_unreachable'
    assert answers['damaged'].code in ('upstream_unreachable', 'timeout')
    assert answers['list'].returncode == 0 and sha_of(9) in answers['list'].stdout
    assert answers['remove'].status == 200 and answers['renew'].status == 200 and answers['gc'].status == 200
    assert registry.count('GET', large.known + '/blobs') == blobs
    assert not os.path.exists(blob_path(large, sha_of(1))) and not os.path.exists(blob_path(large, sha_of(7)))
    assert os.path.exists(blob_path(large, sha_of(3)))
    await_true(lambda: large.metric('wasmcached_store_modules') == MANY + 1)   # the known, the signed, the unknown, all but two
    assert 'event=store_recovered' in large.told()


@pytest.mark.alone
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_ended_meanwhile(large, registry, number):
    """In the middle of it; the next start goes on where this one began."""
    crash_with_work(large)
    results = {}
    thread = in_background(results, 'unknown', lambda: large.get(filled(MANY + 1)) if number == signal.SIGTERM else None)
    time.sleep(0.1)
    began = time.monotonic()
    assert large.stop(number) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    assert number == signal.SIGKILL or time.monotonic() - began < 5
    thread.join(60)
    assert number == signal.SIGKILL or results['unknown'][0].code == 'busy'
    large.start()
    assert is_loading(large)
    assert large.good(filled(11))['source'] == 'cache'
    os.truncate(os.path.join(blob_path(large, sha_of(1))), 30)
    whole(large)
    assert large.metric('wasmcached_store_modules') == MANY + 1
    assert large.good(registry.ref(large.known))['source'] == 'cache'


def test_index_damaged_inside(large, registry):
    """Pages that only the reading of all rows comes to: the daemon ends, and the next one makes the index anew from the blobs."""
    path = os.path.join(large.store, 'index.sqlite')
    index = sqlite3.connect(path)
    pages = [row[0] for row in index.execute("SELECT pageno FROM dbstat WHERE name = 'grant' AND pagetype = 'leaf'")]
    index.close()
    with open(path, 'r+b') as stream:
        for page in pages[len(pages) // 2:]:
            stream.seek((page - 1) * 4096)
            stream.write(os.urandom(4096))
    large.start(wait=False)
    assert large.process.wait(30) == 1
    assert 'damaged' in large.told()
    large.process = None
    large.start()
    whole(large)
    assert large.metric('wasmcached_store_modules') == MANY + 2
    assert large.metric('wasmcached_store_grants') == 0
    assert large.get(registry.ref(large.known)).status == 200
