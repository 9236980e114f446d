"""npm's @sigstore/sign and @sigstore/verify: a second implementation of the bundle, which knows nothing of registries. Both ways, for images (DSSE) and for files (message signatures)."""
import json

import pytest

import peers
import signers
import signing
import verdicts
from signers import check, refused

pytestmark = pytest.mark.skipif(signers.missing('node') != '', reason=signers.missing('node'))

# kind, hash: all that a key may sign with
HASHES = [('P-256', 'sha256'), ('P-384', 'sha256'), ('P-384', 'sha384'), ('P-521', 'sha256'), ('P-521', 'sha512'), ('RSA', 'sha256'), ('RSA-4096', 'sha256'), ('Ed25519', 'sha256')]


@pytest.fixture(scope='module')
def npm(work):
    folder = work / 'npm'
    folder.mkdir()
    return signers.Npm(folder)


@pytest.fixture
def web(tmp_path):
    server = signers.Web(tmp_path)
    yield server
    server.stop()


def put_bundle(bundle):
    """form of Pushed.sign(): this bundle, as referrer and under the fallback tag."""
    def form(repo, target, _):
        entry = signing.bundle_manifest(repo, target, bundle) | {'artifactType': signing.BUNDLE}
        signing.put_fallback(repo, target, [entry])
    return form


def name_of(kind, digest):
    return kind if digest == 'sha256' else f'{kind}-SHA-{digest[3:]}'


@pytest.mark.parametrize('registry', ['docker-registry', 'olareg'])
@pytest.mark.parametrize('kind, digest', HASHES)
def test_image_by_npm(work, modules, registries, daemon, keys, npm, registry, kind, digest):
    key, other = keys(kind, digest=digest), keys(kind, 'other')
    image = signers.Pushed(work, registries[registry], f'npm/{kind.lower()}-{digest}', modules['small'])
    bundle = npm.sign('dsse', key, signing.statement(image.target['digest']))
    image.sign(put_bundle(bundle), key)
    agent = daemon()
    answer = agent.get(image.ref, verificationKey=key.pem)
    check(answer, modules['small'].read_bytes(), key, 'cosign-bundle')
    verdicts.compare(f'npm/dsse/{name_of(kind, digest)}', npm.name, answer, npm.verify(key, bundle))
    refused(agent.get(image.ref, verificationKey=other.pem), 'signature_invalid', 'sig_other_key', other.fingerprint[:16], key.hint)
    assert npm.verify(other, bundle) != ''


@pytest.mark.parametrize('case, reason', [('other-digest', 'sig_other_digest'), ('other-type', 'sig_wrong_type')])
def test_statement_of_something_else(work, modules, registries, daemon, keys, npm, case, reason):
    key = keys()
    image = signers.Pushed(work, registries['olareg'], f'npm/{case}', modules['small'])
    bundle = npm.sign('dsse', key, signing.statement('sha256:' + '1' * 64) if case == 'other-digest' else signing.statement(image.target['digest'], 'https://slsa.dev/provenance/v1'))
    image.sign(put_bundle(bundle), key)
    answer = daemon().get(image.ref, verificationKey=key.pem)
    refused(answer, 'signature_invalid', reason)
    verdicts.compare(f'npm/dsse-{case}', npm.name, answer, npm.verify(key, bundle))


@pytest.mark.parametrize('kind, digest', HASHES)
def test_file_by_npm(daemon, modules, keys, npm, web, kind, digest):
    key, other, module = keys(kind, digest=digest), keys(kind, 'other'), modules['small'].read_bytes()
    url, bundle = web.put('plugin.wasm', module), npm.sign('message', key, module)
    web.put('plugin.wasm.sigstore.json', bundle)
    agent = daemon()
    answer = agent.get(url, verificationKey=key.pem)
    check(answer, module, key, 'sigstore-bundle')
    verdicts.compare(f'npm/message/{name_of(kind, digest)}', npm.name, answer, npm.verify(key, bundle, module))
    refused(agent.get(url, verificationKey=other.pem), 'signature_invalid', other.fingerprint[:16])
    assert npm.verify(other, bundle, module) != ''
    # Another file with this signature.
    changed = module + b'\0\2\1x'
    url = web.put('moved.wasm', changed)
    web.put('moved.wasm.sigstore.json', bundle)
    refused(agent.get(url, verificationKey=key.pem), 'signature_invalid', 'sig_')
    assert npm.verify(key, bundle, changed) != ''


@pytest.mark.parametrize('kind, digest', HASHES)
def test_ours(daemon, modules, keys, npm, web, kind, digest):
    """What openssl signed in the forms of our tests, a message and a statement about the file."""
    key, module = keys(kind, digest=digest), modules['small'].read_bytes()
    for form, bundle in (('message', signing.message_bundle(key, module)), ('dsse', signing.dsse_bundle(key, signing.statement(peers.sha256(module))))):
        url = web.put(f'{form}.wasm', module)
        web.put(f'{form}.wasm.sigstore.json', bundle)
        answer = daemon().get(url, verificationKey=key.pem)
        check(answer, module, key, 'sigstore-bundle')
        verdicts.compare(f'openssl/{form}/{name_of(kind, digest)}', npm.name, answer, npm.verify(key, bundle, module if form == 'message' else None))


def test_shape(keys, npm):
    """What these tests lean on: the 0.2 media type and an empty timestamp object in messages, keyid in envelopes. When that changes, other tests of ours need it as data."""
    key = keys()
    message, envelope = (json.loads(npm.sign(form, key, b'{}')) for form in ('message', 'dsse'))
    assert message['mediaType'] == 'application/vnd.dev.sigstore.bundle+json;version=0.2' and message['verificationMaterial']['timestampVerificationData'] == {}
    assert envelope['dsseEnvelope']['signatures'][0]['keyid'] == key.hint
