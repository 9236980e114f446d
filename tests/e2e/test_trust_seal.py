"""From a signature to a module: what was unpacked is shown by a seal that whoever writes the index cannot make; without it the source is asked again, and nothing is called verified."""
import concurrent.futures
import gzip
import os
import stat

import pytest

import signing
from content import OCI_INDEX, gz, index, tar, wasm as wasm_of
from e2e_daemon import await_true
from e2e_images import Image, body_of, hexes, unique, wasm
from e2e_servers import Registry
from e2e_sign import Signed, evidence, keys, place  # noqa: F401 (fixtures)
from signing import sign_bundle, sign_simple

LARGE = 8 << 20
FORMS = {  # kind of key, suffix, what signs
    'EC': ('P-256', '.sig', signing.raw_signature), 'EC-384': ('P-384', '.sig', signing.raw_signature), 'EC-521': ('P-521', '.sig', lambda key, data: key.sign(data)),
    'RSA': ('RSA', '.sig', signing.raw_signature), 'Ed25519': ('Ed25519', '.sig', signing.raw_signature), 'EC-bundle': ('P-256', '.sigstore.json', signing.message_bundle),
    'Ed25519-bundle': ('Ed25519', '.sigstore', signing.message_bundle), 'attestation': ('P-256', '.sigstore.json', lambda key, data: signing.dsse_bundle(key, signing.statement(hexes(data)))),
    'legacy': ('P-256', '.bundle', signing.legacy_bundle), 'minisign': ('Ed25519', '.minisig', signing.minisig)}
HASHES = {'EC-384': 'sha384', 'EC-521': 'sha512'}
ALL_FORMATS = {'formats': ['bundle', 'simple', 'embedded', 'detached', 'raw', 'legacy-bundle', 'minisign']}


def large(name):
    """A module that gzip cannot make smaller, and its gzip."""
    module = wasm_of(name, LARGE + 65536)
    return module, gzip.compress(module, 1, mtime=0)


# ---- packed files
@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('kind', ['http', 'file'])
def test_large_packed_file_needs_no_source(place, nginx, keys, kind, form):
    """Of whatever size: the hashes that the signature is over are kept with the module, sealed; not the body."""
    (key_kind, suffix, make), daemon, name = FORMS[form], place.daemon(trust=ALL_FORMATS), unique('f').replace('/', '-')
    key, other = keys(form, key_kind, digest=HASHES.get(form, 'sha256')), keys('other', key_kind)
    module, body = large(name)
    assert len(body) >= LARGE
    url = place(kind, name, body)
    place(kind, name + suffix, make(key, body))
    first = daemon.good(url, verificationKey=key.pem)
    assert first['sha256'] == hexes(module)
    for gone in (name, name + suffix):
        os.remove(os.path.join(nginx.files if kind == 'http' else place.root, gone))
    daemon.restart()
    again = daemon.good(url, verificationKey=key.pem)
    assert (again['verified'], again['path'], again['source']) == (first['verified'], first['path'], 'cache')
    assert daemon.get(url, verificationKey=other.pem).status != 200
    shown = daemon.ctl_good('inspect', first['sha256'], '-o', 'json')
    assert key.fingerprint in shown

    # A byte of what was noted, or the secret, and it says nothing any more; whoever asks without a key is served.
    daemon.stop()
    rows = evidence(daemon, "SELECT target, kind, place, repository, body, extra FROM evidence WHERE kind = 'packed-body'")
    assert len(rows) == 1 and len(rows[0][4]) < 4096
    good = rows[0][4]
    assert evidence(daemon, "SELECT id FROM evidence WHERE kind = 'packed-body'") == [(evidence_id(*rows[0]),)]
    for at in (0, 40, len(good) - 1):
        bad = bytearray(good)
        bad[at] ^= 1
        # With the id that fits it, as somebody would who knows how it is made.
        evidence(daemon, "UPDATE evidence SET body = ?, id = ? WHERE kind = 'packed-body'", bytes(bad), evidence_id(*rows[0][:4], bytes(bad), rows[0][5]))
        daemon.start()
        assert daemon.get(url, verificationKey=key.pem).status != 200
        assert daemon.good(url)['path'] == first['path']
        daemon.stop()
    place(kind, name, body)
    place(kind, name + suffix, make(key, body))
    daemon.start()
    assert daemon.good(url, verificationKey=key.pem)['verified'] == first['verified']


def test_one_module_in_two_boxes(place, keys):
    """Each body with its own signature, both of the same module."""
    key, second, daemon, name = keys(), keys('second', 'Ed25519'), place.daemon(), unique('f').replace('/', '-')
    module = wasm(name)
    bodies = {'a': gz(module), 'b': gz(tar([('plugin.wasm', module)]))}
    urls = {part: place('file', name + part, body) for part, body in bodies.items()}
    for part, signer in (('a', key), ('b', second)):
        place('file', name + part + '.sig', signing.raw_signature(signer, bodies[part]))
        assert daemon.good(urls[part], verificationKey=signer.pem)['sha256'] == hexes(module)
    for part in 'ab':
        os.remove(os.path.join(place.root, name + part))
        os.remove(os.path.join(place.root, name + part + '.sig'))
    daemon.restart()
    assert daemon.good(urls['a'], verificationKey=key.pem)['source'] == 'cache'
    assert daemon.good(urls['b'], verificationKey=second.pem)['source'] == 'cache'
    assert daemon.get(urls['b'], verificationKey=keys('third').pem).status != 200


def test_packed_bodies_exchanged(place, keys):
    """What was noted of a body that is signed, under the name of a module that is not."""
    key, other, daemon, name = keys(), keys('other'), place.daemon(), unique('f').replace('/', '-')
    made = {}
    for part, signer in (('good', key), ('bad', other)):
        module = wasm(name + part)
        url = place('file', name + part, gz(module))
        place('file', name + part + '.sig', signing.raw_signature(signer, gz(module)))
        made[part] = (url, daemon.good(url, verificationKey=signer.pem))
    daemon.stop()
    targets = {part: b'\1' + bytes.fromhex(got['sha256']) for part, (_, got) in made.items()}
    rows = evidence(daemon, 'SELECT target, kind, place, repository, extra, found_s, module, size_bytes, body FROM evidence WHERE target = ?', targets['good'])
    assert {row[1] for row in rows} == {'packed-body', 'sidecar-sig'}
    for part in made:
        os.remove(os.path.join(place.root, name + part))
        os.remove(os.path.join(place.root, name + part + '.sig'))
    for target, kind, where, repository, extra, found, module, size, body in rows:
        moved = evidence_id(targets['bad'], kind, where, repository, body, extra)
        evidence(daemon, 'INSERT INTO evidence VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)', moved, targets['bad'], kind, where, repository, extra, found, module, size, body)
    daemon.start()
    assert daemon.good(made['good'][0], verificationKey=key.pem)['verified']
    assert daemon.good(made['bad'][0], verificationKey=other.pem)['verified']
    assert daemon.get(made['bad'][0], verificationKey=key.pem).status != 200


def evidence_id(target, kind, where, repository, body, extra):
    """As store_hash_evidence() makes it: nothing in it is secret."""
    parts = [b'wasmcached evidence 1', target, kind.encode(), where.encode(), repository.encode(), body, extra.encode()]
    return b'\1' + bytes.fromhex(hexes(b''.join(len(part).to_bytes(8, 'little') + part for part in parts)))


# ---- images
def raw(image, module):
    return image.raw_image(module, tag='v1')


def boxed(image, module):
    return image.tar_image(archive=tar([('plugin.wasm', module)]), tag='v1')


def of_index(image, module):
    child = image.tar_image(archive=tar([('plugin.wasm', module)]), tag=None)
    return image.manifest(index([child | {'platform': {'os': 'wasi', 'architecture': 'wasm'}}]), tag='v1')


BUILDS = {'raw': raw, 'boxed': boxed, 'index': of_index}


class Pair:
    """Two images in a registry of their own, each signed by its own key, both pulled without one and with it."""

    def __init__(self, registry, daemon, keys, build):
        self.registry, self.daemon = registry, daemon
        self.keys = {'a': keys('A'), 'b': keys('B')}
        self.images, self.got = {}, {}
        for part, key in self.keys.items():
            name = unique('sealed')
            image = self.images[part] = Signed(registry, wasm(name), name, build=BUILDS[build])
            image.sign(sign_bundle, key)
            self.got[part] = daemon.good(image.url, verificationKey=key.pem)
            assert self.got[part]['sha256'] == hexes(image.module)
        self.modules = {part: b'\1' + bytes.fromhex(got['sha256']) for part, got in self.got.items()}

    def ask(self, part):
        return self.daemon.get(self.images[part].url, verificationKey=self.keys[part].pem)

    def column(self, name, part):
        return evidence(self.daemon, f'SELECT {name} FROM image WHERE module = ?', self.modules[part])[0][0]

    def exchange(self, *names):
        """The named columns of the two rows, each in the place of the other."""
        evidence(self.daemon, 'PRAGMA foreign_keys = OFF')
        values = {name: (self.column(name, 'a'), self.column(name, 'b')) for name in names}
        numbers = [evidence(self.daemon, 'SELECT manifest, top FROM image WHERE module = ?', self.modules[part])[0] for part in 'ab']
        documents = evidence(self.daemon, 'SELECT manifest, top, text FROM document')
        rows = [list(evidence(self.daemon, 'SELECT manifest, top, module, layer, media_type, layer_type, seal FROM image WHERE manifest = ? AND top = ?', *number)[0]) for number in numbers]
        columns = ['manifest', 'top', 'module', 'layer', 'media_type', 'layer_type', 'seal']
        for name, (first, second) in values.items():
            rows[0][columns.index(name)], rows[1][columns.index(name)] = second, first
        evidence(self.daemon, 'DELETE FROM image')
        for row in rows:
            evidence(self.daemon, 'INSERT INTO image VALUES (?, ?, ?, ?, ?, ?, ?)', *row)
        for row in documents:
            evidence(self.daemon, 'INSERT OR REPLACE INTO document SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM image WHERE manifest = ? AND top = ?)', *row, row[0], row[1])
        # References follow what the image rows say, as the attacker would see to.
        evidence(self.daemon, 'UPDATE reference SET module = coalesce((SELECT module FROM image WHERE image.manifest = reference.manifest), module)')


@pytest.fixture
def pair(start_server, make_daemon, keys):
    def make(build, **config):
        registry = start_server(Registry)
        return Pair(registry, make_daemon(**config), keys, build)
    return make


EXCHANGES = [('module',), ('module', 'layer'), ('module', 'layer', 'seal'), ('seal',), ('manifest',), ('module', 'seal'), ('layer',), ('top', 'manifest'), ('top', 'manifest', 'seal')]


@pytest.mark.parametrize('build', BUILDS)
@pytest.mark.parametrize('names', EXCHANGES, ids='+'.join)
def test_exchanged_rows(pair, build, names):
    both = pair(build)
    both.daemon.stop()
    both.exchange(*names)
    both.registry.stop()
    both.daemon.start()
    for part in 'ab':
        answer = both.ask(part)
        assert answer.code in ('signature_unreachable', 'upstream_unreachable'), (part, answer)
        if 'manifest' not in names:               # else it is not there any more under the digest that its name meant
            assert answer.status == 503 and 'nothing shows that it is what was signed' in answer.json['detail']
    # Whoever holds it without a key is served as before.
    for part in 'ab':
        assert 'manifest' in names or both.daemon.get(both.images[part].url).status == 200
    both.registry.start()
    for part in 'ab':
        both.daemon.ctl_good('refresh', both.images[part].url)
        got = both.ask(part).json
        assert got['sha256'] == hexes(both.images[part].module) and got['verified']['keyFingerprint'] == both.keys[part].fingerprint
        assert body_of(got['path']) == both.images[part].module
    # It is whole again, and stays so without the registry.
    both.registry.stop()
    both.daemon.restart()
    for part in 'ab':
        got = both.ask(part).json
        assert got['source'] == 'cache' and got['sha256'] == hexes(both.images[part].module)


@pytest.mark.parametrize('build', BUILDS)
def test_rows_as_they_were(pair, build):
    """The same walk, with nothing exchanged: no registry is needed, and what was pulled without a key needs its signature only."""
    both = pair(build)
    both.daemon.stop()
    both.exchange()
    both.registry.stop()
    both.daemon.start()
    for part in 'ab':
        assert both.ask(part).json['source'] == 'cache'


@pytest.mark.parametrize('build', BUILDS)
def test_seal_of_a_pull_without_key(start_server, make_daemon, keys, build):
    """It is made by every pull: a key that is asked with later needs the signature, not the layer."""
    registry, daemon, key, name = start_server(Registry), make_daemon(), keys(), unique('sealed')
    image = Signed(registry, wasm(name), name, build=BUILDS[build])
    image.sign(sign_simple, key)
    daemon.good(image.url)
    layers = registry.count('GET', '/blobs/')
    for restart in (False, True):
        if restart:
            daemon.restart()
        assert daemon.good(image.url, verificationKey=keys().pem)['verified']
        assert registry.count('GET', '/blobs/') == layers + 1                   # the payload of the signature, once


SECRETS = {
    'gone': os.remove, 'other': lambda path: write(path, bytes(range(32))), 'cut': lambda path: os.truncate(path, 31), 'open': lambda path: os.chmod(path, 0o644),
    'link': lambda path: (os.rename(path, path + '.moved'), os.symlink(path + '.moved', path))}


def write(path, data):
    with open(path, 'wb') as stream:
        stream.write(data)


@pytest.mark.parametrize('damage', SECRETS)
def test_secret_damaged(pair, place, keys, damage):
    """What was sealed under it is asked for once more where a signature is demanded, and nothing else changes."""
    both = pair('boxed')
    path = os.path.join(both.daemon.store, 'secret')
    info = os.stat(path)
    assert stat.S_IMODE(info.st_mode) == 0o600 and info.st_size == 32
    both.daemon.stop()
    before = body_of(path)
    SECRETS[damage](path)
    both.registry.stop()
    both.daemon.start()
    for part in 'ab':
        assert both.ask(part).code == 'signature_unreachable'
        assert both.daemon.good(both.images[part].url)['source'] == 'cache'
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600 and body_of(path) != before
    both.registry.start()
    for part in 'ab':
        both.daemon.ctl_good('refresh', both.images[part].url)
        assert both.ask(part).json['verified']
    both.registry.stop()
    both.daemon.restart()
    for part in 'ab':
        assert both.ask(part).json['source'] == 'cache'


@pytest.mark.parametrize('build', BUILDS)
def test_store_of_before(pair, build):
    """An index that knows no seals is brought up in place; what is demanded signed is pulled once more, what is not needs no network."""
    both = pair(build)
    both.daemon.stop()
    evidence(both.daemon, 'ALTER TABLE image DROP COLUMN seal')
    evidence(both.daemon, 'PRAGMA user_version = 3')
    os.remove(os.path.join(both.daemon.store, 'secret'))
    both.registry.stop()
    both.daemon.start()
    for part in 'ab':
        assert both.daemon.good(both.images[part].url)['source'] == 'cache'
        assert both.ask(part).code == 'signature_unreachable'
    both.registry.start()
    both.daemon.restart()
    for part in 'ab':
        got = both.ask(part).json
        assert got['source'] == 'pulled' and got['path'] == both.got[part]['path'] and got['verified'] == both.got[part]['verified']
    both.registry.stop()
    both.daemon.restart()
    for part in 'ab':
        assert both.ask(part).json['source'] == 'cache'
    both.daemon.stop()
    assert evidence(both.daemon, 'PRAGMA user_version')[0][0] >= 4


@pytest.mark.parametrize('build', BUILDS)
def test_rules_judge_no_exchanged_row(start_server, make_daemon, keys, build):
    """Judged in the background for a rule of the node: what is not sealed is not verified, in no listing, and an untouched image beside it is."""
    registry, key = start_server(Registry), keys()
    both = Pair(registry, make_daemon(trust={'require': [{'match': f'{registry.host}/*', 'keys': [key.public]}]}), lambda name: key, build)
    name = unique('untouched')
    other = Signed(registry, wasm(name), name, build=BUILDS[build])
    other.sign(sign_bundle, key)
    daemon, third = both.daemon, both.daemon.good(other.url)
    daemon.stop()
    kept = evidence(daemon, 'SELECT manifest, top, module, layer, media_type, layer_type, seal FROM image WHERE module = ?', b'\1' + bytes.fromhex(third['sha256']))[0]
    both.exchange('module', 'layer')
    evidence(daemon, 'INSERT OR REPLACE INTO image VALUES (?, ?, ?, ?, ?, ?, ?)', *kept)
    registry.stop()
    daemon.start()
    await_true(lambda: key.fingerprint in daemon.ctl_good('inspect', third['sha256'], '-o', 'json'), 20)
    for part in 'ab':
        assert key.fingerprint not in daemon.ctl_good('inspect', both.got[part]['sha256'], '-o', 'json')
        assert daemon.get(both.images[part].url).code == 'signature_unreachable'
        assert 'unverified' in daemon.ctl('explain', both.images[part].url).stdout
    assert daemon.good(other.url)['verified']


def test_index_over_another_image(pair):
    """A signed index, and below it in the row an image that is not of it."""
    both = pair('index')
    both.daemon.stop()
    both.exchange('top')
    both.registry.stop()
    both.daemon.start()
    for part in 'ab':
        assert both.ask(part).status != 200


def test_reference_to_another_index(pair):
    """A signed index as what a name means, over an image that is not of it."""
    both = pair('index')
    both.daemon.stop()
    tops = {part: both.column('top', part) for part in 'ab'}
    evidence(both.daemon, 'UPDATE reference SET top = CASE top WHEN ? THEN ? ELSE ? END', tops['a'], tops['b'], tops['a'])
    both.registry.stop()
    both.daemon.start()
    for part, other in ('ab', 'ba'):
        assert both.daemon.get(both.images[part].url, verificationKey=both.keys[other].pem).status != 200
        assert both.ask(part).status != 200
    assert both.daemon.get(both.images['a'].url).status == 200


@pytest.mark.parametrize('build', BUILDS)
def test_second_row_of_a_manifest(pair, build):
    """The sealed row as it was, and beside it one that says otherwise, which is read last."""
    both = pair(build)
    both.daemon.stop()
    evidence(both.daemon, 'INSERT INTO image SELECT ?, ?, module, layer, media_type, layer_type, seal FROM image WHERE module = ?', both.column('manifest', 'a'), b'\1' + b'\xff' * 32, both.modules['b'])
    evidence(both.daemon, 'UPDATE reference SET module = ? WHERE module = ?', both.modules['b'], both.modules['a'])
    both.registry.stop()
    both.daemon.start()
    assert both.daemon.good(both.images['a'].url)['sha256'] == hexes(both.images['b'].module)      # a row alone is believed where no signature is demanded
    assert both.ask('a').code == 'signature_unreachable'
    assert both.ask('b').json['source'] == 'cache'
    both.registry.start()
    both.daemon.ctl_good('refresh', both.images['a'].url)
    assert both.ask('a').json['source'] == 'pulled'
    both.registry.stop()
    both.daemon.restart()
    assert both.ask('a').json['sha256'] == hexes(both.images['a'].module)


def test_pull_without_key_seals_nothing_unseen(pair):
    """An exchanged row, then a new index over the same image: that it was found here is no proof of what it unpacks to."""
    both = pair('index')
    image, key = both.images['a'], both.keys['a']
    both.daemon.stop()
    both.exchange('module', 'layer')
    both.daemon.start()
    new = Image(image.repository)
    child = new.tar_image(archive=tar([('plugin.wasm', image.module)]), tag=None)
    image.target = {'mediaType': OCI_INDEX, **new.manifest(index([child | {'platform': {'os': 'wasi', 'architecture': 'wasm'}}]) | {'annotations': {'another': 'index'}}, tag='v1')}
    new.push(both.registry)
    image.sign(sign_simple, key)
    assert both.daemon.get(image.url, imagePullPolicy='Always').status == 200
    for restart in (False, True):
        if restart:
            both.daemon.restart()
        for policy in ({}, {'imagePullPolicy': 'Always'}):
            got = both.daemon.good(image.url, verificationKey=key.pem, **policy)
            assert got['sha256'] == hexes(image.module) and got['verified']['keyFingerprint'] == key.fingerprint


def test_import_is_a_word(start_server, make_daemon, keys, tmp_path):
    """What an operator says of the manifest that a file came from serves those who demand nothing; whoever demands a signature gets what the registry gives."""
    registry, first, second, key, name = start_server(Registry), make_daemon(), make_daemon(), keys(), unique('sealed')
    image = Signed(registry, wasm(name), name, build=boxed)
    image.sign(sign_bundle, key)
    first.good(image.url)
    first.ctl_good('export', image.url, tmp_path / 'image.tar')
    registry.stop()
    second.ctl_good('import', tmp_path / 'image.tar', '--url', image.url)
    assert second.good(image.url)['sha256'] == hexes(image.module)
    assert second.get(image.url, verificationKey=key.pem).code == 'signature_unreachable'
    registry.start()
    second.ctl_good('refresh', image.url)
    assert second.good(image.url, verificationKey=key.pem)['verified']['keyFingerprint'] == key.fingerprint


def test_two_keys_while_it_is_pulled(start_server, make_daemon, keys):
    """Flights that follow another one's pull take its word for what it unpacked: the layer comes once."""
    registry, daemon, first, second, name = start_server(Registry), make_daemon(), keys(), keys('second'), unique('sealed')
    image = Signed(registry, wasm(name), name, build=boxed)
    image.sign(sign_bundle, first)
    image.sign(sign_simple, second)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        got = list(pool.map(lambda more: daemon.good(image.url, **more), [{'verificationKey': first.pem}, {'verificationKey': second.pem}, {}] * 4))
    assert {one['sha256'] for one in got} == {hexes(image.module)}
    assert registry.count('GET', f'/v2/{name}/blobs/sha256:' + hexes(gz(tar([('plugin.wasm', image.module)])))) == 1
