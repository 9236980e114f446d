"""Signatures: what a verificationKey lets through and what not, from real registries, web servers and files; what is remembered of it, and what of that is believed."""
import concurrent.futures
import os

import pytest

import contract_rig
import signing
from content import gz, index, tar
from e2e_images import Image, body_of, hexes, unique, wasm
from e2e_servers import Nginx, Registry, docker_config
from e2e_sign import KINDS, Key, Signed, both_keys, evidence, with_log_entry
from signing import sign_bundle, sign_simple
from world import MODES


@pytest.fixture(scope='module')
def keys(world):
    folder = os.path.join(world, 'trust-keys')
    os.mkdir(folder)
    made = {}

    def key(name='K', kind='P-256', **more):
        if name + kind not in made:
            made[name + kind] = Key(folder, name + kind, kind, **more)
        return made[name + kind]
    return key


@pytest.fixture(scope='module')
def fake():
    """The scripted registry: its requests can be counted, and it can go away."""
    registry = contract_rig.Registry()
    yield registry
    registry.close()


class Scripted:
    """A dyn/ image of the scripted registry."""

    def __init__(self, fake):
        self.fake, self.repo = fake, 'dyn/' + unique('trust')
        self.url = f'oci://{fake.host}/{self.repo}:v1'
        fake.steer(f'/_set?repo={self.repo}&tag=v1&module={self.repo}', 'POST')

    def sign(self, key='plugin', form='simple'):
        return self.fake.steer(f'/_sign?repo={self.repo}&tag=v1&key={key}&form={form}', 'POST')

    def has_layer(self, asked):
        """Was the layer among what was asked for?"""
        layers = self.fake.steer(f'/_repo?repo={self.repo}')['tags']['v1']['layers']
        return any(path == 'blobs/' + layer['digest'] for _, path in asked for layer in layers)

    def asked(self):
        """(method, path) since the last call, without the repository's name."""
        return [(entry['method'], entry['path'].replace(f'/v2/{self.repo}/', '')) for entry in self.fake.log(clear=True)]


FAKE_K, FAKE_K2 = signing.ec_key('plugin').pem, signing.ec_key('second').pem


@pytest.fixture
def up(fake):
    yield fake
    fake.steer('/_set?down=0', 'POST')


# ---- keys and formats
@pytest.mark.parametrize('form, name', [(sign_simple, 'cosign-simple'), (sign_bundle, 'cosign-bundle')])
@pytest.mark.parametrize('kind', KINDS)
def test_key_kinds(daemon, registry, keys, kind, form, name):
    key, image = keys(kind=kind), Signed(registry)
    image.sign(form, key)
    got = daemon.good(image.url, verificationKey=key.pem)
    assert got['verified'] == {'format': name, 'keyFingerprint': key.fingerprint} and body_of(got['path']) == image.module
    assert daemon.good(image.url, verificationKey=key.pem)['source'] == 'cache'
    assert daemon.good(image.url)['verified'] is None


@pytest.mark.parametrize('kind, digest', [('P-384', 'sha384'), ('P-521', 'sha512')])
def test_hash_of_the_curve(daemon, registry, keys, kind, digest):
    """cosign from 2.6 on."""
    key, image = keys('curve', kind, digest=digest), Signed(registry)
    image.sign(sign_bundle, key)
    assert daemon.good(image.url, verificationKey=key.pem)['verified']['keyFingerprint'] == key.fingerprint


def test_one_sentence(daemon, registry, keys):
    """What somebody reads who has the wrong key, no signature, or no registry."""
    key, other, image = keys(), keys('other'), Signed(registry)
    said = daemon.bad(image.url, 'signature_missing', 422, verificationKey=key.pem)
    assert image.target['digest'] in said and 'sig_absent' in said and '.sig absent' in said and key.fingerprint[:16] in said and '\n' not in said
    image.sign(sign_bundle, key)
    said = daemon.bad(image.url, 'signature_invalid', 422, verificationKey=other.pem)
    assert 'sig_other_key' in said and other.fingerprint[:16] in said and key.hint in said and image.target['digest'] in said and '\n' not in said
    assert daemon.good(image.url, verificationKey=key.pem)['source'] == 'pulled'
    assert daemon.bad(image.url, 'signature_invalid', verificationKey=other.pem)
    assert 'sig_other_digest' in daemon.bad(moved(registry, image, key).url, 'signature_invalid', verificationKey=key.pem)
    for text in ('x', '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n', body_of(key.path).decode()):
        said = daemon.bad(image.url, 'bad_key', 400, verificationKey=text)
        assert text[40:90] not in said or len(text) < 40
    assert daemon.good(image.url, verificationKey='')['verified'] is None


def moved(registry, image, key):
    """Another image with the signature of `image` under its own .sig tag."""
    copy = Signed(registry)
    copy.sign(sign_simple, key, payload=signing.simple_payload(image.target['digest']))
    return copy


def test_two_keys_in_one_field(daemon, registry, keys):
    first, second, image = keys(), keys(kind='Ed25519'), Signed(registry)
    image.sign(sign_simple, second)
    assert daemon.good(image.url, verificationKey=first.pem + second.pem)['verified']['keyFingerprint'] == second.fingerprint
    daemon.bad(image.url, 'bad_key', verificationKey=first.pem + 'x')


@pytest.mark.parametrize('top, child, other', [(sign_bundle, None, None), (None, sign_simple, None), (sign_simple, sign_bundle, None), (None, None, sign_simple)])
def test_index(make_daemon, registry, keys, top, child, other):
    key, parts = keys(), {}

    def build(image, module):
        parts['child'] = image.raw_image(module, tag=None)
        parts['other'] = image.tar_image(tag=None)
        return image.manifest(index([parts['other'] | {'platform': {'os': 'linux', 'architecture': 's390x'}}, parts['child'] | {'platform': {'os': 'wasi', 'architecture': 'wasm'}}]), tag='v1')
    image = Signed(registry, build=build)
    for form, target in ((top, image.target), (child, parts['child']), (other, parts['other'])):
        if form:
            image.sign(form, key, target=target)
    daemon, strict = make_daemon(), make_daemon(trust={'require_top_level_signature': True})
    for who, is_good in ((daemon, top or child), (strict, top)):
        if is_good:
            assert who.good(image.url, verificationKey=key.pem)['verified']['keyFingerprint'] == key.fingerprint
        else:
            who.bad(image.url, 'signature_missing', verificationKey=key.pem)
    by_child = registry.ref(image.repository, parts['child']['digest'])
    assert child or daemon.bad(by_child, 'signature_missing', verificationKey=key.pem)
    assert not child or daemon.good(by_child, verificationKey=key.pem)


def test_embedded_in_an_image(daemon, registry, keys):
    key, other = keys(kind='Ed25519'), keys('other', 'Ed25519')
    image = Signed(registry, signing.wasm_signed(key, wasm(unique())))
    assert daemon.good(image.url, verificationKey=key.pem)['verified'] == {'format': 'wasm-embedded', 'keyFingerprint': key.fingerprint}
    daemon.bad(image.url, 'signature_invalid', verificationKey=other.pem)
    daemon.bad(image.url, 'signature_missing', verificationKey=keys().pem)          # no key of a kind that modules are signed with: nothing is downloaded for it


SIDECARS = {
    'sigstore.json': ('.sigstore.json', signing.message_bundle, 'sigstore-bundle', 'P-256'),
    'sigstore': ('.sigstore', signing.message_bundle, 'sigstore-bundle', 'Ed25519'),
    'sig-base64': ('.sig', signing.raw_signature, 'raw', 'P-256'),
    'sig-der': ('.sig', lambda key, data: key.sign(data), 'raw', 'P-256'),
    'sig-rsa': ('.sig', signing.raw_signature, 'raw', 'RSA'),
    'sig-ed25519': ('.sig', signing.raw_signature, 'raw', 'Ed25519'),
    'detached': ('.sig', signing.wasm_signature_data, 'wasm-detached', 'Ed25519'),
    'attestation': ('.sigstore.json', lambda key, data: signing.dsse_bundle(key, signing.statement(hexes(data))), 'cosign-bundle|sigstore-bundle', 'P-256')}
OPT_IN = {
    'legacy-bundle': ('.bundle', signing.legacy_bundle, 'legacy-bundle', 'P-256'),
    'minisign': ('.minisig', signing.minisig, 'minisign', 'Ed25519')}


@pytest.fixture
def place(nginx, world, make_daemon):
    """place(kind, name, data) puts a file where http or file finds it and gives its url; place.daemon() is a daemon that may read it."""
    class Place:
        root = os.path.join(world, 'files-' + unique().replace('/', '-'))

        def __call__(self, kind, name, data):
            if kind == 'http':
                return nginx.put(name, data)
            with open(os.path.join(self.root, name), 'wb') as stream:
                stream.write(data)
            return f'file://{self.root}/{name}'

        def daemon(self, **config):
            return make_daemon(files={'roots': [self.root]}, **config)
    os.mkdir(Place.root)
    return Place()


@pytest.mark.parametrize('box', ['wasm', 'gzip', 'tar'])
@pytest.mark.parametrize('kind', ['http', 'file'])
def test_sidecars(place, keys, kind, box):
    """Each form beside a url or file; what was signed is what was delivered, but of a detached wasm signature the module."""
    daemon = place.daemon()
    for form, (suffix, make, shown, key_kind) in SIDECARS.items():
        key, other, name = keys(kind=key_kind), keys('other', key_kind), unique('f').replace('/', '-') + '.wasm'
        module = wasm(name)
        body = {'wasm': module, 'gzip': gz(module), 'tar': gz(tar([('plugin.wasm', module)]))}[box]
        url = place(kind, name, body)
        daemon.bad(url, 'signature_missing', verificationKey=key.pem)
        place(kind, name + suffix, make(key, module if form == 'detached' else body))
        got = daemon.good(url, verificationKey=key.pem)
        assert got['verified']['format'] in shown.split('|') and got['verified']['keyFingerprint'] == key.fingerprint and body_of(got['path']) == module, form
        assert daemon.bad(url, 'signature_invalid', verificationKey=other.pem), form
        # Another body with the signature of this one; the path of before stays.
        other_name = 'x' + name
        place(kind, other_name + suffix, make(key, module if form == 'detached' else body))
        daemon.bad(place(kind, other_name, body + b'\0\1\0' if box == 'wasm' else gz(wasm('other'))), 'signature_invalid', verificationKey=key.pem)
        assert body_of(got['path']) == module


@pytest.mark.parametrize('kind', ['http', 'file'])
def test_embedded_in_a_file(place, keys, kind):
    key, daemon, name = keys(kind='Ed25519'), place.daemon(), unique('f').replace('/', '-')
    module = signing.wasm_signed(key, wasm(name))
    assert daemon.good(place(kind, name + '.wasm', module), verificationKey=key.pem)['verified']['format'] == 'wasm-embedded'
    assert daemon.good(place(kind, name + '.gz', gz(module)), verificationKey=key.pem)['verified']['format'] == 'wasm-embedded'
    assert daemon.get(place(kind, name + '.cut', module[:-1]), verificationKey=key.pem).code in ('signature_invalid', 'not_wasm')
    daemon.bad(place(kind, name + '.more', module + b'\0\1\0'), 'signature_invalid', verificationKey=key.pem)


@pytest.mark.parametrize('kind', ['http', 'file'])
def test_opt_in_beside_files(place, keys, kind):
    closed, opened = place.daemon(), place.daemon(trust={'formats': ['legacy-bundle', 'minisign', 'wasmsign1']})
    for form, (suffix, make, shown, key_kind) in OPT_IN.items():
        key, name = keys(kind=key_kind), unique('f').replace('/', '-') + '.wasm'
        url = place(kind, name, wasm(name))
        place(kind, name + suffix, make(key, wasm(name)))
        closed.bad(url, 'signature_missing', verificationKey=key.pem)
        assert opened.good(url, verificationKey=key.pem)['verified']['format'] == shown, form
    key, name = keys(kind='Ed25519'), unique('f').replace('/', '-') + '.wasm'
    url = place(kind, name, signing.wasm_signed_1(key, wasm(name)))
    closed.bad(url, 'signature_invalid', verificationKey=key.pem)
    assert opened.good(url, verificationKey=key.pem)['verified']['format'] == 'wasmsign1'
    # What is not listed is off.
    name = unique('f').replace('/', '-') + '.wasm'
    url = place(kind, name, wasm(name))
    place(kind, name + '.sig', signing.raw_signature(key, wasm(name)))
    assert closed.good(url, verificationKey=key.pem)['verified']['format'] == 'raw'
    assert opened.get(url, verificationKey=key.pem).code.startswith('signature_')


def test_opt_in_of_images(make_daemon, registry, keys):
    pss, key = keys('pss', 'RSA', pss=True), keys()
    closed, opened = make_daemon(), make_daemon(trust={'formats': ['bundle', 'simple', 'rsa-pss', 'message-signature-oci']})
    image = Signed(registry)
    image.sign(sign_simple, pss)
    closed.bad(image.url, 'signature_invalid', verificationKey=pss.pem)
    assert opened.good(image.url, verificationKey=pss.pem)
    image = Signed(registry)
    manifest = registry.session.get(f'http://{registry.host}/v2/{image.repository}/manifests/v1', headers={'Accept': image.target['mediaType']}).content

    def form(repo, target, signer):
        made = signing.bundle_manifest(repo, target, signing.message_bundle(signer, manifest))
        return signing.put_fallback(repo, target, [made | {'artifactType': signing.BUNDLE}])
    image.sign(form, key)
    assert 'message-signature-oci' in closed.bad(image.url, 'signature_invalid', verificationKey=key.pem)
    assert opened.good(image.url, verificationKey=key.pem)['verified']['format'] == 'sigstore-bundle'


# ---- order and cost
def test_nothing_unsigned_is_downloaded(daemon, fake):
    image = Scripted(fake)
    fake.log(clear=True)
    daemon.bad(image.url, 'signature_missing', verificationKey=FAKE_K)
    asked = image.asked()
    assert asked and not any(path.startswith('blobs/') for _, path in asked), asked


def test_always_unchanged_looks_at_no_signature(daemon, fake):
    image = Scripted(fake)
    image.sign()
    assert daemon.good(image.url, verificationKey=FAKE_K)['source'] == 'pulled'
    image.asked()
    assert daemon.good(image.url, verificationKey=FAKE_K, imagePullPolicy='Always')['source'] == 'revalidated'
    assert image.asked() == [('HEAD', 'manifests/v1')]
    assert daemon.good(image.url, verificationKey=FAKE_K)['source'] == 'cache'
    assert image.asked() == []


def test_two_in_parallel_are_one_flight(daemon, fake):
    image = Scripted(fake)
    image.sign()
    fake.log(clear=True)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: daemon.good(image.url, verificationKey=FAKE_K), range(8)))
    assert len({one['path'] for one in got}) == 1 and all(one['verified'] for one in got)
    asked = image.asked()
    assert sum(path.startswith('manifests/sha256-') and path.endswith('.sig') for _, path in asked) == 1, asked
    assert sum(path.startswith('blobs/') for _, path in asked) == 2, asked                      # the payload and the layer


def test_digest_and_key(daemon, registry, keys):
    key, image = keys(), Signed(registry)
    hex_digits = image.target['digest'][7:]
    daemon.bad(image.url, 'signature_missing', verificationKey=key.pem, sha256=hex_digits)
    image.sign(sign_simple, key)
    assert daemon.good(image.url, verificationKey=key.pem, sha256=hex_digits)['verified']
    assert daemon.good(registry.ref(image.repository, image.target['digest']), verificationKey=key.pem)['verified']
    daemon.bad(image.url, 'checksum_mismatch', verificationKey=key.pem, sha256='0' * 64)
    daemon.bad(image.url, 'checksum_mismatch', verificationKey=keys('other').pem, sha256='0' * 64)


def test_look_ups_use_the_callers_login(daemon, private, keys):
    key, image = keys(), Signed(private)
    image.sign(sign_bundle, key)
    daemon.put_secret('default', 'pull', docker_config(**{private.host: private.session.auth}))
    daemon.bad(image.url, 'unauthorized', verificationKey=key.pem)
    assert daemon.good(image.url, verificationKey=key.pem, imagePullSecret='pull')['verified']
    # What is proved is not thereby allowed.
    daemon.bad(image.url, 'unauthorized', verificationKey=key.pem)


def test_mirror_without_signatures(make_daemon, start_server, registry, keys):
    """A mirror has the image, the registry itself the signature too: the one without is no proof that there is none; and a name falls under its rule whoever serves it."""
    mirror, key = start_server(Registry), keys()
    image = Signed(registry)
    Signed(mirror, image.module, image.repository)
    daemon = make_daemon(registries={registry.host: {'mirrors': [f'http://{mirror.host}']}}, trust={'require': [{'match': f'{registry.host}/*', 'keys': [key.public]}]})
    daemon.bad(image.url, 'signature_missing')
    assert mirror.count('GET', signing.signature_tag(image.target)) == 1 and registry.count('GET', f'{image.repository}/manifests/{signing.signature_tag(image.target)}') == 1
    image.sign(sign_simple, key)
    daemon.ctl_good('refresh', image.url)
    assert daemon.good(image.url)['verified']
    assert mirror.count('GET', '/blobs/') >= 1


def broken_sidecars(status):
    return f'location ~ [.]sig(store|store[.]json)?$ {{ return {status}; }}'


@pytest.mark.parametrize('status, code', [(403, 'signature_missing'), (404, 'signature_missing'), (410, 'signature_missing'), (401, 'signature_unreachable'), (429, 'signature_unreachable'),
                                          (500, 'signature_unreachable'), (503, 'signature_unreachable')])
def test_sidecars_that_cannot_be_had(daemon, start_server, keys, status, code):
    """A private bucket answers 403 for what is not there; everything else is no proof that there is nothing."""
    server = start_server(Nginx, extra=broken_sidecars(status))
    said = daemon.bad(server.put('m.wasm', wasm(str(status))), code, verificationKey=keys().pem)
    assert str(status) in said and 'm.wasm.s' in said
    # What is in the module itself is looked at first.
    key = keys(kind='Ed25519')
    assert daemon.good(server.put('e.wasm', signing.wasm_signed(key, wasm(str(status)))), verificationKey=key.pem)['verified']


@pytest.mark.parametrize('kind', ['http', 'file'])
def test_changed_body(place, keys, kind):
    """Another body under the url needs its own signature; whoever has the old one keeps it."""
    key, daemon, name = keys(), place.daemon(), unique('f').replace('/', '-') + '.wasm'
    first, second = wasm('first ' + name), wasm('second, of another length ' + name)
    url = place(kind, name, first)
    place(kind, name + '.sig', signing.raw_signature(key, first))
    old = daemon.good(url, verificationKey=key.pem)
    place(kind, name, second)
    policy = {'imagePullPolicy': 'Always'} if kind == 'http' else {}
    daemon.bad(url, 'signature_invalid', verificationKey=key.pem, **policy)
    assert body_of(old['path']) == first
    place(kind, name + '.sig', signing.raw_signature(key, second))
    new = daemon.good(url, verificationKey=key.pem, **policy)
    assert new['sha256'] == hexes(second) and new['verified']['format'] == 'raw'
    daemon.restart()
    assert daemon.good(url, verificationKey=key.pem)['verified']['format'] == 'raw'


def test_moved_tag(daemon, fake):
    """A new image under the tag needs its own signature; the old one goes on."""
    image = Scripted(fake)
    image.sign()
    old = daemon.good(image.url, verificationKey=FAKE_K)
    fake.steer(f'/_set?repo={image.repo}&tag=v1', 'POST')
    daemon.bad(image.url, 'signature_missing', verificationKey=FAKE_K, imagePullPolicy='Always')
    assert os.path.exists(old['path'])
    image.sign()
    new = daemon.good(image.url, verificationKey=FAKE_K, imagePullPolicy='Always')
    assert new['sha256'] != old['sha256'] and new['verified']


# ---- what is kept
def test_restart_without_network(daemon, up):
    image = Scripted(up)
    image.sign(form='bundle')
    first = daemon.good(image.url, verificationKey=FAKE_K)
    up.steer('/_set?down=1', 'POST')
    daemon.restart()
    again = daemon.good(image.url, verificationKey=FAKE_K)
    assert (again['verified'], again['path'], again['source']) == (first['verified'], first['path'], 'cache')
    assert daemon.get(image.url, verificationKey=FAKE_K2).code == 'signature_unreachable'


@pytest.mark.parametrize('statement', [
    "UPDATE evidence SET body = CAST(replace(CAST(body AS TEXT), 'cosign container', 'cosign Container') AS BLOB)",
    "UPDATE evidence SET body = substr(body, 1, length(body) - 1)",
    """UPDATE evidence SET extra = replace(extra, '"signature":"M', '"signature":"N')""",
    "UPDATE evidence SET extra = '{}'",
    "UPDATE evidence SET body = zeroblob(length(body))",
    "UPDATE evidence SET target = zeroblob(length(target))",
    "UPDATE evidence SET kind = 'embedded'",
    "UPDATE evidence SET kind = 'x'",
    "UPDATE evidence SET extra = '{'",
    "DELETE FROM evidence"])
def test_tampered_evidence_never_verifies(daemon, up, statement):
    image = Scripted(up)
    image.sign()
    daemon.good(image.url, verificationKey=FAKE_K)
    daemon.stop()
    before = evidence(daemon, 'SELECT * FROM evidence')
    evidence(daemon, statement)
    assert before and evidence(daemon, 'SELECT * FROM evidence') != before
    up.steer('/_set?down=1', 'POST')
    daemon.start()
    assert daemon.get(image.url, verificationKey=FAKE_K).status != 200
    up.steer('/_set?down=0', 'POST')
    up.log(clear=True)
    assert daemon.good(image.url, verificationKey=FAKE_K)['verified']
    assert not image.has_layer(image.asked())


def test_exchanged_evidence_never_verifies(daemon, up):
    """Rows of an image that is signed, written over the name of one that is not; proofs made up."""
    good, bad = Scripted(up), Scripted(up)
    good.sign()
    bad.sign('second')
    daemon.good(good.url, verificationKey=FAKE_K)
    daemon.good(bad.url, verificationKey=FAKE_K2)
    daemon.stop()
    targets = [row[0] for row in evidence(daemon, 'SELECT DISTINCT target FROM proof')]
    assert len(targets) == 2
    rows = {target: evidence(daemon, 'SELECT keys, policy, evidence FROM proof WHERE target = ?', target)[0] for target in targets}
    first, second = targets
    evidence(daemon, 'DELETE FROM proof')
    for target, source in ((first, second), (second, first)):
        for evidence_id in (rows[first][2], rows[second][2]):
            evidence(daemon, 'INSERT OR REPLACE INTO proof SELECT ?, ?, ?, ?, 1', target, rows[source][0], rows[source][1], evidence_id)
    evidence(daemon, 'UPDATE evidence SET target = CASE WHEN target = ? THEN ? ELSE ? END', first, second, first)
    up.steer('/_set?down=1', 'POST')
    daemon.start()
    for url in (good.url, bad.url):
        for key in (FAKE_K, FAKE_K2):
            assert daemon.get(url, verificationKey=key).status != 200, (url, key)
    up.steer('/_set?down=0', 'POST')
    assert daemon.good(good.url, verificationKey=FAKE_K)['verified']
    daemon.bad(bad.url, 'signature_invalid', verificationKey=FAKE_K)


def test_key_changed_without_network(daemon, start_server, keys):
    registry = start_server(Registry)
    first, second, image = keys(), keys('second'), Signed(registry)
    image.sign(both_keys(first, second), None)
    held = daemon.good(image.url, verificationKey=first.pem)
    registry.stop()
    try:
        got = daemon.good(image.url, verificationKey=second.pem)
        assert got['verified']['keyFingerprint'] == second.fingerprint and got['path'] == held['path'] and got['source'] == 'cache'
        daemon.restart()
        assert daemon.good(image.url, verificationKey=second.pem)['verified']['keyFingerprint'] == second.fingerprint
        assert daemon.good(image.url, verificationKey=first.pem)['verified']['keyFingerprint'] == first.fingerprint
        daemon.bad(image.url, 'signature_unreachable', 503, verificationKey=keys('third').pem)
    finally:
        registry.start()


def test_refusal_withdraws_nothing(daemon, fake):
    image = Scripted(fake)
    image.sign()
    held = daemon.good(image.url, verificationKey=FAKE_K)
    image.asked()
    daemon.bad(image.url, 'signature_invalid', verificationKey=FAKE_K2)
    assert not image.has_layer(image.asked())
    again = daemon.good(image.url, verificationKey=FAKE_K)
    assert again['path'] == held['path'] and again['source'] == 'cache' and os.path.exists(held['path'])
    # Signed with the second too by now: found without fetching the layer again.
    image.sign('second', 'bundle')
    daemon.ctl_good('refresh', image.url)
    fake.log(clear=True)
    assert daemon.good(image.url, verificationKey=FAKE_K2)['verified']['format'] == 'cosign-bundle'
    assert not image.has_layer(image.asked())


def test_key_added_later(daemon, fake):
    image = Scripted(fake)
    assert daemon.good(image.url)['verified'] is None
    daemon.bad(image.url, 'signature_missing', verificationKey=FAKE_K)
    assert daemon.good(image.url)['source'] == 'cache'
    image.sign()
    daemon.ctl_good('refresh', image.url)
    fake.log(clear=True)
    assert daemon.good(image.url, verificationKey=FAKE_K)['verified']['format'] == 'cosign-simple'
    assert not image.has_layer(image.asked())


# ---- the node's own policy
def test_require(make_daemon, registry, keys):
    key, other = keys(), keys('other')
    signed, unsigned, elsewhere = Signed(registry, repository=unique('team/x')), Signed(registry, repository=unique('team/x')), Signed(registry)
    signed.sign(sign_simple, key)
    daemon = make_daemon(trust={'require': [{'match': f'{registry.host}/e2e/team/*', 'keys': [key.public]}]})
    assert daemon.good(signed.url)['verified'] == {'format': 'cosign-simple', 'keyFingerprint': key.fingerprint}
    assert f'demanded by trust.require "{registry.host}/e2e/team/*"' in daemon.bad(unsigned.url, 'signature_missing')
    assert daemon.good(elsewhere.url)['verified'] is None
    by_digest = registry.ref(unsigned.repository, unsigned.target['digest'])
    daemon.bad(by_digest, 'signature_missing')
    daemon.bad(by_digest, 'signature_missing', sha256=unsigned.target['digest'][7:], to='admin')
    daemon.bad(by_digest, 'signature_missing', to='trusted', namespace='team-b')
    # The request's key does not replace the node's, nor the other way.
    daemon.bad(signed.url, 'signature_invalid', verificationKey=other.pem)
    unsigned.sign(sign_simple, other)
    daemon.ctl_good('refresh', unsigned.url)
    daemon.bad(unsigned.url, 'signature_invalid', verificationKey=other.pem)


def test_require_in_other_spellings(place, nginx, keys):
    key, name = keys(), unique('f').replace('/', '-') + '.wasm'
    os.makedirs(os.path.join(nginx.files, 'team'), exist_ok=True)
    nginx.put('team/' + name, wasm(name))
    daemon = place.daemon(trust={'require': [{'match': f'LocalHost:{nginx.port}/team/*', 'keys': [key.public]}, {'match': f'127.0.0.1:{nginx.port}/team/*', 'keys': [key.public]},
                                             {'match': f'{place.root}/team/*', 'keys': [key.public]}]})
    for path in (f'/team/{name}', f'//team/{name}', f'/%74eam/{name}', f'/%74%65%61%6D//{name}', f'/x/../team/{name}', f'/team%2f{name}', f'/x/%2e%2e/team/{name}', f'/./team/./{name}'):
        for host in (nginx.host, f'localhost:{nginx.port}', f'LOCALHOST:{nginx.port}', f'localhost.:{nginx.port}'):
            for scheme in ('http', 'HTTP'):
                answer = daemon.get(f'{scheme}://{host}{path}')
                assert answer.status >= 400 and answer.code in ('signature_missing', 'bad_url', 'not_found', 'upstream_unreachable', 'upstream_error'), (path, answer)
                assert answer.code == 'signature_missing' or host.startswith('localhost.') or path != f'/team/{name}', (path, host, answer)
    os.makedirs(os.path.join(place.root, 'team'))
    for url in (place('file', 'team/' + name, wasm(name)), f'file://{place.root}/%74eam/{name}', f'file://{place.root}//team/{name}'):
        assert daemon.get(url).code == ('denied' if '//team' in url else 'signature_missing'), url


def test_reload_judges_again(make_daemon, registry, keys):
    key, other = keys(), keys('other')
    signed, unsigned = Signed(registry, repository=unique('judge/x')), Signed(registry, repository=unique('judge/x'))
    signed.sign(sign_bundle, key)
    rule = {'match': f'{registry.host}/e2e/judge/*', 'keys': [key.public]}
    daemon = make_daemon()
    for image in (signed, unsigned):
        assert daemon.good(image.url)['verified'] is None
    daemon.configure(trust={'require': [rule]})
    daemon.ctl_good('reload')
    assert daemon.good(signed.url)['verified']['keyFingerprint'] == key.fingerprint
    daemon.bad(unsigned.url, 'signature_missing')
    daemon.configure(trust={'require': [rule | {'keys': [other.public]}]})
    daemon.ctl_good('reload')
    daemon.bad(signed.url, 'signature_invalid')
    daemon.configure(trust={'require': [rule]})
    daemon.ctl_good('reload')
    assert daemon.good(signed.url)['verified'] and daemon.good(signed.url)['source'] == 'cache'
    daemon.configure(trust={'require': []})
    daemon.ctl_good('reload')
    assert daemon.good(unsigned.url)['source'] == 'cache' and daemon.good(signed.url)['verified'] is None
    daemon.configure(trust={'require': [rule | {'keys': ['/nowhere.pub']}]})
    ran = daemon.ctl('reload')
    assert ran.returncode == 1 and 'trust.require[0].keys' in ran.stderr and '/nowhere.pub' in ran.stderr
    assert daemon.good(unsigned.url)


def test_annotations(make_daemon, registry, keys):
    key = keys()
    daemon = make_daemon(trust={'require': [{'match': f'{registry.host}/e2e/noted/*', 'keys': [key.public], 'annotations': {'env': 'prod'}}]})
    for form, name in ((sign_simple, 'optional'), (sign_bundle, 'annotations')):
        plain, wrong, right = (Signed(registry, repository=unique('noted/x')) for _ in range(3))
        plain.sign(form, key)
        wrong.sign(form, key, **{name: {'env': 'test'}})
        right.sign(form, key, **{name: {'env': 'prod', 'more': 'x'}})
        assert 'sig_annotation' in daemon.bad(plain.url, 'signature_invalid')
        assert 'sig_annotation' in daemon.bad(wrong.url, 'signature_invalid')
        assert daemon.good(right.url)['verified']


def test_identity(make_daemon, registry, keys):
    key = keys()
    for rule, references in (('repository', {'{host}/{name}': True, '{host}/{name}:v1': True, '{host}/{name}:v2': True, '{host}/other': False}),
                             ('exact', {'{host}/{name}:v1': True, '{host}/{name}:v2': False, '{host}/other:v1': False})):
        daemon = make_daemon(trust={'require': [{'match': f'{registry.host}/e2e/id/*', 'keys': [key.public], 'identity': rule}]})
        for reference, is_good in references.items():
            image = Signed(registry, repository=unique('id/x'))
            image.sign(sign_simple, key, reference=reference.format(host=registry.host, name=image.repository))
            if is_good:
                assert daemon.good(image.url)['verified'], (rule, reference)
            else:
                assert 'sig_identity' in daemon.bad(image.url, 'signature_invalid'), (rule, reference)
        image = Signed(registry, repository=unique('id/x'))
        image.sign(sign_bundle, key)
        daemon.bad(image.url, 'signature_invalid')                                             # a bundle has no name


def test_signature_repository(make_daemon, registry, keys):
    key, image, beside = keys(), Signed(registry), Signed(registry)
    place = unique('signatures')
    image.sign(sign_simple, key, repository=place)
    beside.sign(sign_simple, key)
    daemon = make_daemon(trust={'signature_repository': f'{registry.host}/{place}'})
    assert daemon.good(image.url, verificationKey=key.pem)['verified']
    daemon.bad(beside.url, 'signature_missing', verificationKey=key.pem)
    make_daemon().bad(image.url, 'signature_missing', verificationKey=key.pem)


def test_rekor_keys(make_daemon, registry, keys):
    key, log, other_log = keys(), keys('log'), keys('other-log')
    daemon = make_daemon(trust={'rekor_keys': [log.public]})
    logged, wrong, plain = Signed(registry), Signed(registry), Signed(registry)
    logged.sign(with_log_entry(log), key)
    wrong.sign(with_log_entry(other_log), key)
    plain.sign(sign_simple, key)
    assert daemon.good(logged.url, verificationKey=key.pem)['verified']
    for image in (wrong, plain):
        assert 'sig_no_log_entry' in daemon.bad(image.url, 'signature_invalid', verificationKey=key.pem)
    assert make_daemon().good(wrong.url, verificationKey=key.pem)['verified']


# ---- hostile registries
@pytest.fixture(scope='module')
def hardened(world):
    from e2e_daemon import Daemon
    daemon = Daemon(os.path.join(world, 'hardened'), pull={'retries': 0, 'negative_time': '0s', 'progress_timeout': '2s'}).start()
    yield daemon
    assert daemon.stop() == 0
    assert 'Sanitizer' not in daemon.told() and 'runtime error' not in daemon.told()


@pytest.mark.parametrize('name', [name for name in MODES if name.startswith('sign-')])
def test_modes(hardened, fake, name):
    import good_sign
    expected = MODES[name].code
    answer = hardened.get(f'oci://{fake.host}/mode/{name}:v1', verificationKey=good_sign.KEYS)
    got = 'ok' if answer.status == 200 else answer.code
    assert got in expected.split('|'), answer
    assert got == 'ok' or (answer.json['detail'] and 'oci://' in answer.json['detail'])
    assert got != 'ok' or answer.json['verified']
