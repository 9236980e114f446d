"""Signatures beside files on a web server, by `cosign sign-blob` and openssl: bundle, raw, legacy bundle; and what is beside but is none."""
import pytest

import signers
import signing
import verdicts
from signers import COSIGNS, check, refused, trust

pytestmark = pytest.mark.skipif(signers.missing(*COSIGNS) != '', reason=signers.missing(*COSIGNS))

SHOWN = {'blob-bundle': 'sigstore-bundle', 'blob-raw': 'raw', 'blob-legacy': 'legacy-bundle'}
OURS = {'blob-bundle': signing.message_bundle, 'blob-raw': signing.raw_signature, 'blob-legacy': signing.legacy_bundle}
WITH_LEGACY = trust(formats=['bundle', 'raw', 'legacy-bundle'])


@pytest.fixture(scope='module')
def cosigns(work):
    (work / 'files').mkdir()
    return {name: signers.Cosign(work / 'files', name) for name in COSIGNS}


@pytest.fixture
def web(tmp_path):
    server = signers.Web(tmp_path)
    yield server
    server.stop()


@pytest.mark.parametrize('kind', signers.KINDS)
@pytest.mark.parametrize('form', SHOWN)
@pytest.mark.parametrize('by', [*COSIGNS, 'openssl'])
def test_file(daemon, modules, cosigns, keys, web, by, form, kind):
    case, key, other, module = f'{by}/{form}/{kind}', keys(kind), keys(kind, 'other'), modules['small'].read_bytes()
    url, path, suffix = web.put('plugin.wasm', module), web.path('plugin.wasm'), signers.Cosign.BLOBS[form][0]
    failure = cosigns[by].sign_blob(path, key, form) if by in cosigns else web.put('plugin.wasm' + suffix, OURS[form](key, module)) and ''
    assert bool(failure) == bool(verdicts.cannot(case)), f'{case}: {failure or "signed, against verdicts.CANNOT"}'
    if failure:
        refused(daemon().get(url, verificationKey=key.pem), 'signature_missing')
        return
    if form == 'blob-legacy':
        refused(daemon().get(url, verificationKey=key.pem), 'signature_missing', 'sig_absent')
    agent = daemon(WITH_LEGACY)
    answer = agent.get(url, verificationKey=key.pem)
    check(answer, module, key, SHOWN[form])
    refused(agent.get(url, verificationKey=other.pem), 'signature_invalid', other.fingerprint[:16])
    for name, cosign in cosigns.items():
        verdicts.compare(case, name, answer, cosign.verify_blob(path, key, form))
        assert cosign.verify_blob(path, other, form) != ''
    # The same signature beside another file.
    moved = web.put('moved.wasm', module + b'\0\2\1x')
    web.put('moved.wasm' + suffix, web.path('plugin.wasm' + suffix).read_bytes())
    refused(agent.get(moved, verificationKey=key.pem), 'signature_invalid', 'sig_')
    for name, cosign in cosigns.items():
        assert cosign.verify_blob(web.path('moved.wasm'), key, form) != ''


@pytest.mark.parametrize('by', COSIGNS)
def test_file_of_a_root(daemon, modules, cosigns, keys, tmp_path, by):
    """The same beside a file:// source, through the trial of a key too."""
    key, path = keys(), tmp_path / 'plugin.wasm'
    path.write_bytes(modules['small'].read_bytes())
    assert cosigns[by].sign_blob(path, key, 'blob-bundle') == ''
    agent = daemon(f'files: {{roots: ["{tmp_path}"]}}\n')
    check(agent.get(f'file://{path}', verificationKey=key.pem), path.read_bytes(), key, 'sigstore-bundle')
    refused(agent.get(f'file://{path}', verificationKey=keys(name='other').pem), 'signature_invalid')
    assert agent.ctl('verify-signature', path, '--key', key.public, admin=True).returncode == 0


SCAN = 'https://example.com/scan/v1'


@pytest.mark.parametrize('by', COSIGNS)
def test_attestation_of_a_file(daemon, modules, cosigns, keys, web, by):
    key, module = keys(), modules['small'].read_bytes()
    url, path = web.put('plugin.wasm', module), web.path('plugin.wasm')
    web.put('scan.json', b'{"verdict": "vulnerable"}')
    cosigns[by].attest_blob(path, key, web.path('scan.json'), web.path('plugin.wasm.sigstore.json'))
    answer = daemon().get(url, verificationKey=key.pem)
    refused(answer, 'signature_invalid', 'sig_wrong_type', SCAN)
    for name, cosign in cosigns.items():
        verdicts.compare(f'{by}/attest-blob/bundle', name, answer, cosign.verify_blob(path, key, 'blob-bundle'))
    check(daemon(trust(predicates=[SCAN])).get(url, verificationKey=key.pem), module, key, 'sigstore-bundle')


@pytest.mark.parametrize('by', COSIGNS)
def test_big_module(daemon, modules, cosigns, keys, web, by):
    """A module of 14 MB, signed as a whole with each kind of hash."""
    module = modules['big'].read_bytes()
    for kind in ('P-256', 'P-521', 'RSA'):
        key, name = keys(kind), f'{kind}.wasm'
        url = web.put(name, module)
        assert cosigns[by].sign_blob(web.path(name), key, 'blob-bundle') == ''
        check(daemon().get(url, verificationKey=key.pem), module, key, 'sigstore-bundle')
