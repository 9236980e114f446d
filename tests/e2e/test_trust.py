"""Signatures: what a verificationKey lets through and what not, from real registries, web servers and files; in which order, and at what cost."""
import concurrent.futures
import os
import socket
import time

import pytest

import signing
from content import gz, image as content_image, index, tar
from e2e_images import body_of, hexes, unique, wasm
from e2e_servers import Nginx, Registry, docker_config, run
from e2e_sign import FAKE_K, FAKE_K2, KINDS, Scripted, Signed, evidence, fake, keys, place, up  # noqa: F401 (fixtures)
from signing import sign_bundle, sign_simple


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
    assert 'more that do not do' not in said                   # one signature is one, wherever it was seen
    assert daemon.good(image.url, verificationKey=key.pem)['source'] == 'pulled'
    assert daemon.bad(image.url, 'signature_invalid', verificationKey=other.pem) == said
    assert 'sig_other_digest' in daemon.bad(moved(registry, image, key).url, 'signature_invalid', verificationKey=key.pem)
    for text in ('x', '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n', body_of(key.path).decode()):
        said = daemon.bad(image.url, 'bad_key', 400, verificationKey=text)
        assert text[40:90] not in said or len(text) < 40
    assert daemon.good(image.url, verificationKey='')['verified'] is None


def test_unsound_key(make_daemon, registry, keys, tmp_path):
    """Of a prime modulus everybody can make the private half. That is found before the first use, not where the key is read: it takes long."""
    number = int(run('openssl', 'prime', '-generate', '-bits', '2048')).to_bytes(256, 'big')
    inner = bytes.fromhex('3082010a0282010100') + number + bytes.fromhex('0203010001')
    pem = signing.pem(bytes.fromhex('30820122300d06092a864886f70d01010105000382010f00') + inner)
    (tmp_path / 'prime.pub').write_text(pem)
    image, daemon = Signed(registry), make_daemon()
    image.sign(sign_simple, keys())
    for ask in (lambda: daemon.bad(image.url, 'bad_key', 400, verificationKey=pem), lambda: daemon.bad(image.url, 'bad_key', 400, verificationKey=keys().pem + pem)):
        before = len(registry.requests())
        assert 'the key is not sound' in ask() and len(registry.requests()) == before
    assert 'bad_key' in daemon.ctl('verify-signature', image.url, '--key', tmp_path / 'prime.pub').stderr
    assert daemon.good(image.url, verificationKey=keys().pem)
    daemon.bad(image.url, 'bad_key', 400, verificationKey=pem)
    daemon.configure(trust={'require': [{'match': '*', 'keys': [str(tmp_path / 'prime.pub')]}]})
    ran = daemon.ctl('reload')
    assert ran.returncode == 1 and 'trust.require[0].keys' in ran.stderr and 'not sound' in ran.stderr
    assert daemon.good(image.url)


def moved(registry, image, key):
    """Another image with the signature of `image` under its own .sig tag."""
    copy = Signed(registry)
    copy.sign(sign_simple, key, payload=signing.simple_payload(image.target['digest']))
    return copy


def test_nearest_miss(daemon, registry, keys):
    """Of many that do not do, the nearest is told, and how many more there are."""
    key, other, image = keys(), keys('other'), Signed(registry)

    def form(repo, target, signer):
        payloads = [signing.simple_payload(target['digest']), signing.simple_payload('sha256:' + '0' * 64)]
        layers = [signing.simple_layer(repo, payloads[0], other.sign(payloads[0])), signing.simple_layer(repo, payloads[1], signer.sign(payloads[1])), signing.simple_layer(repo, payloads[0], b'x')]
        return signing.classic_manifest(repo, layers, signing.signature_tag(target))
    image.sign(form, key)
    said = daemon.bad(image.url, 'signature_invalid', verificationKey=key.pem)
    assert 'sig_other_digest' in said and '; 2 more that do not do' in said


def test_nearest_miss_of_what_cannot_be_read(daemon, registry, keys):
    """A bundle that is broken is nearer than a signature of a kind that nobody here reads, whichever is listed first."""
    key, image, kind = keys(), Signed(registry), 'application/vnd.cncf.notary.signature'

    def form(repo, target, signer):
        notation = repo.manifest(signing_image(repo, target, kind))
        broken = signing.bundle_manifest(repo, target, b'', [repo.layer(signing.BUNDLE, body) for body in (b'1', b'2')])
        return signing.put_fallback(repo, target, [notation | {'artifactType': kind}, broken | {'artifactType': signing.BUNDLE}])
    image.sign(form, key)
    said = daemon.bad(image.url, 'signature_invalid', verificationKey=key.pem)
    assert ': sig_malformed: ' in said and 'has 2 layers' in said and '; 1 more that do not do' in said
    other = Signed(registry)
    other.sign(lambda repo, target, signer: signing.put_fallback(repo, target, [repo.manifest(signing_image(repo, target, kind)) | {'artifactType': kind}]), key)
    said = daemon.bad(other.url, 'signature_invalid', verificationKey=key.pem)
    assert ': sig_not_accepted: ' in said and kind in said and 'not supported' in said


def signing_image(repo, target, kind):
    return content_image(repo.layer(kind, b'{}'), [repo.layer('application/jose+json', b'{}')], subject=target, artifactType=kind)


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
    said = daemon.bad(image.url, 'signature_missing', verificationKey=keys().pem)   # no key of a kind that modules are signed with: nothing is downloaded for it
    assert 'not within the module, which takes an Ed25519 key' in said


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


@pytest.mark.parametrize('trust', [{}, {'require_top_level_signature': True}], ids=['usual', 'top-level'])
@pytest.mark.parametrize('kind', ['http', 'file'])
def test_embedded_in_a_file(place, keys, kind, trust):
    """What a url gives is the top: there is no index above it."""
    key, daemon, name = keys(kind='Ed25519'), place.daemon(trust=trust), unique('f').replace('/', '-')
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
    # After a restart it is judged again from what was kept.
    daemon.restart()
    got = daemon.good(image.url, verificationKey=FAKE_K, imagePullPolicy='Always')
    assert got['verified'] and got['source'] == 'revalidated' and image.asked() == [('HEAD', 'manifests/v1')]


def test_a_verified_hit_judges_nothing(make_daemon, fake, keys):
    """Once per key in the life of the process: then neither the network nor a signature is looked at, whatever admitted it."""
    daemon = make_daemon(trust={'require': [{'match': f'{fake.host}/*', 'keys': [keys_file(keys, FAKE_K)]}]})
    image = Scripted(fake)
    image.sign()
    image.sign('second', 'bundle')
    for key, by in (('', 'plugin'), (FAKE_K, 'plugin'), (FAKE_K2, 'second')):
        assert daemon.good(image.url, verificationKey=key)['verified']['keyFingerprint'] == signing.ec_key(by).fingerprint
    judged = daemon.metric('wasmcached_verifications_total')
    image.asked()
    for _ in range(5):
        for key in ('', FAKE_K, FAKE_K2, FAKE_K.replace('\n', '\r\n')):
            assert daemon.good(image.url, verificationKey=key)['source'] == 'cache'
    assert daemon.metric('wasmcached_verifications_total') == judged > 0 and image.asked() == []


def keys_file(keys, pem):
    path = keys().public + '.fake'
    with open(path, 'w', encoding='ascii') as stream:
        stream.write(pem)
    return path


def test_look_ups_share_connections(daemon, fake):
    """They run beside one another, on what is open already."""
    image = Scripted(fake)
    image.sign()
    image.sign('second', 'bundle')
    fake.log(clear=True)
    port = fake.host.rpartition(':')[2]
    before = fake.steer('/_stats')[port]
    assert daemon.good(image.url, verificationKey=FAKE_K)['verified']
    used, asked = fake.steer('/_stats')[port] - before - 1, image.asked()
    assert used <= 3 and len([path for method, path in asked if not path.startswith('/_')]) >= 7, (used, asked)


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


def test_two_keys_in_parallel(daemon, fake):
    """What one key proves helps no other."""
    image = Scripted(fake)
    image.sign()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda key: daemon.get(image.url, verificationKey=key), [FAKE_K, FAKE_K2] * 4))
    assert [answer.status for answer in got] == [200, 422] * 4


def test_stale_if_error_needs_the_signature(make_daemon, up):
    daemon, image = make_daemon(pull={'stale_if_error': '10m'}), Scripted(up)
    image.sign()
    first = daemon.good(image.url, verificationKey=FAKE_K, imagePullPolicy='Always')
    up.steer('/_set?down=1', 'POST')
    again = daemon.good(image.url, verificationKey=FAKE_K, imagePullPolicy='Always')
    assert again['path'] == first['path'] and again['verified'] == first['verified'] and again.get('stale')
    assert daemon.get(image.url, verificationKey=FAKE_K2, imagePullPolicy='Always').status >= 500
    daemon.restart()
    assert daemon.good(image.url, verificationKey=FAKE_K, imagePullPolicy='Always')['verified'] == first['verified']
    assert daemon.get(image.url, verificationKey=FAKE_K2, imagePullPolicy='Always').status >= 500


def test_evidence_goes_with_the_module(daemon, registry, keys):
    key, image, other = keys(), Signed(registry), Signed(registry)
    for one in (image, other):
        one.sign(sign_bundle, key)
        one.sign(sign_simple, key)
    held = daemon.good(image.url, verificationKey=key.pem)
    daemon.good(other.url, verificationKey=key.pem)
    daemon.ask('DELETE', f"/v1/leases/{held['lease']['id']}")
    daemon.ctl_good('rm', image.url)
    daemon.stop()
    targets = {row[0] for row in evidence(daemon, 'SELECT target FROM evidence UNION SELECT target FROM proof')}
    assert len(targets) == 1 and bytes.fromhex(other.target['digest'][7:]) in next(iter(targets))


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


def test_mirror_with_other_signatures(make_daemon, start_server, registry, keys):
    """What a mirror has is by somebody else; the registry's own signature still counts."""
    mirror, key, stranger = start_server(Registry), keys(), keys('stranger')
    image = Signed(registry)
    Signed(mirror, image.module, image.repository).sign(sign_simple, stranger)
    image.sign(sign_simple, key)
    daemon = make_daemon(registries={registry.host: {'mirrors': [f'http://{mirror.host}']}})
    assert daemon.good(image.url, verificationKey=key.pem)['verified']['keyFingerprint'] == key.fingerprint
    assert registry.count('GET', f'{image.repository}/manifests/{signing.signature_tag(image.target)}') == 1


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


def test_sidecars_that_never_come(daemon, start_server, keys):
    """All look-ups of one pull have 15 s together, not each of them."""
    with socket.create_server(('127.0.0.1', 0)) as silent:
        server = start_server(Nginx, extra=f'location ~ [.]sig(store|store[.]json)?$ {{ proxy_pass http://127.0.0.1:{silent.getsockname()[1]}; proxy_read_timeout 120s; }}')
        url, started = server.put('m.wasm', wasm('silent')), time.monotonic()
        said = daemon.bad(url, 'signature_unreachable', 503, verificationKey=keys().pem, timeout='120s')
        assert 'm.wasm.sigstore.json' in said and 10 < time.monotonic() - started < 29


@pytest.mark.parametrize('kind', ['http', 'file'])
@pytest.mark.parametrize('suffix, make, reason', [
    ('.sig', lambda key, data: b'A' * (2 << 20), 'sig_limit'), ('.sigstore.json', lambda key, data: b' ' * (2 << 20), 'sig_limit'), ('.sig', lambda key, data: b'', 'sig_malformed'),
    ('.sig', lambda key, data: b'*' * 100, 'sig_'), ('.sig', lambda key, data: signing.raw_signature(key, data) * 2, 'sig_'), ('.sigstore.json', lambda key, data: b'[' * 100000, 'sig_malformed'),
    ('.sigstore.json', lambda key, data: signing.message_bundle(key, data)[:-1] + b',"messageSignature":{}}', 'sig_malformed'),
    ('.sigstore.json', lambda key, data: signing.message_bundle(key, data, bytes(32)), 'sig_malformed'),
    ('.sigstore.json', lambda key, data: signing.dsse_bundle(key, signing.statement('0' * 64)), 'sig_other_digest'),
    ('.sigstore.json', lambda key, data: signing.dsse_bundle(key, signing.statement(hexes(data), 'https://slsa.dev/provenance/v1')), 'sig_wrong_type')])
def test_hostile_sidecars(place, keys, kind, suffix, make, reason):
    key, daemon, name = keys(), place.daemon(), unique('f').replace('/', '-') + '.wasm'
    url = place(kind, name, wasm(name))
    place(kind, name + suffix, make(key, wasm(name)))
    assert reason in daemon.bad(url, 'signature_invalid', verificationKey=key.pem)


def test_redirected_sidecar(daemon, start_server, nginx, keys):
    """Followed like the redirects of the module itself: the key decides, not the place."""
    key, name = keys(), unique('f').replace('/', '-') + '.wasm'
    server = start_server(Nginx, extra=f'location ~ [.]sig$ {{ return 302 {nginx.scheme}://{nginx.host}$uri; }}')
    nginx.put(name + '.sig', signing.raw_signature(key, wasm(name)))
    assert daemon.good(server.put(name, wasm(name)), verificationKey=key.pem)['verified']['format'] == 'raw'


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
