"""Images signed by cosign 2, cosign 3 and openssl, on a registry without and one with the referrers API: the daemon serves with the key, refuses with another, and says what `cosign verify` says, but for
what verdicts.py lists."""
import functools
import json

import pytest

import peers
import signers
import signing
import verdicts
from layouts import LAYOUTS, crane_append, oras_cncf
from signers import COSIGNS, check, refused, trust

pytestmark = pytest.mark.skipif(signers.missing(*COSIGNS) != '', reason=signers.missing(*COSIGNS))

REGISTRIES = ('docker-registry', 'olareg')
SHOWN = {'bundle': 'cosign-bundle', 'classic': 'cosign-simple', 'referrer': 'cosign-simple'}
OURS = {'bundle': signing.sign_bundle, 'classic': signing.sign_simple}

# by, form, kind, hash
CASES = [(by, form, kind, 'sha256') for by in (*COSIGNS, 'openssl') for form in ('bundle', 'classic') for kind in signers.KINDS] + \
        [(by, 'referrer', 'P-256', 'sha256') for by in COSIGNS] + \
        [('openssl', form, kind, digest) for form in ('bundle', 'classic') for kind, digest in (('P-384', 'sha384'), ('P-521', 'sha512'))]


@pytest.fixture(scope='session')
def cosigns(work):
    return {name: signers.Cosign(work, name) for name in COSIGNS}


def name_of(by, form, kind, digest):
    return f'{by}/{form}/{kind}' + (f'-SHA-{digest[3:]}' if digest != 'sha256' else '')


def repository(*words):
    return '/'.join(words).lower()


@pytest.mark.parametrize('registry', REGISTRIES)
@pytest.mark.parametrize('by, form, kind, digest', CASES)
def test_image(work, modules, registries, daemon, cosigns, keys, registry, by, form, kind, digest):
    case, key, other = name_of(by, form, kind, digest), keys(kind, digest=digest), keys(kind, 'other')
    image = signers.Pushed(work, registries[registry], repository(case), modules['small'])
    if by == 'openssl':
        image.sign(OURS[form], key)
    else:
        cosigns[by].sign(image.by_digest, key, form)
    agent = daemon()
    answer = agent.get(image.ref, verificationKey=key.pem)
    check(answer, modules['small'].read_bytes(), key, SHOWN[form])
    refused(agent.get(image.ref, verificationKey=other.pem), 'signature_invalid', image.target['digest'], 'sig_other_key', other.fingerprint[:16])
    for name, cosign in cosigns.items():
        verdicts.compare(case, name, answer, cosign.verify(image.by_digest, key))
        assert cosign.verify(image.by_digest, other) != ''
    # The dry run says the same.
    tried = agent.ctl('verify-signature', 'oci://' + image.ref, '--key', key.public, '-o', 'json', admin=True)
    assert tried.returncode == 0 and [one['keyFingerprint'] for one in json.loads(tried.stdout)['signatures']] == [key.fingerprint], tried
    assert agent.ctl('verify-signature', 'oci://' + image.ref, '--key', other.public, admin=True).returncode == 1


@pytest.mark.parametrize('registry', REGISTRIES)
@pytest.mark.parametrize('by', COSIGNS)
@pytest.mark.parametrize('layout', ['docker-tar-gzip', 'oci-tar-zstd', 'cncf-oras', 'artifact-oras'])
def test_layout(work, modules, registries, daemon, cosigns, keys, registry, by, layout):
    """What is signed may be any image that holds a module, and the signature's own manifest may be a Docker one."""
    key = keys()
    for form, environment in (('bundle', {}), ('classic', {}), ('classic', {'COSIGN_DOCKER_MEDIA_TYPES': '1'})):
        image = signers.Pushed(work, registries[registry], f'layouts/{by}-{layout}-{form}{len(environment)}', modules['small'], put=LAYOUTS[layout][1])
        cosigns[by].sign(image.by_digest, key, form, **environment)
        if form == 'classic':
            stored = json.loads(peers.run(work, 'crane', 'manifest', '--insecure', f'{image.base}:{image.target["digest"].replace(":", "-")}.sig'))
            assert ('docker' in stored['mediaType']) == bool(environment), stored
        answer = daemon().get(image.ref, verificationKey=key.pem)
        check(answer, modules['small'].read_bytes(), key, SHOWN[form])
        for name, cosign in cosigns.items():
            verdicts.compare(f'{by}/{form}/{layout}', name, answer, cosign.verify(image.by_digest, key))


@pytest.mark.parametrize('registry', REGISTRIES)
def test_key_of_cosign(work, modules, registries, daemon, cosigns, registry):
    """Its own key pair, the public file as it writes it; its default form."""
    for name, cosign in cosigns.items():
        signers.good(cosign.run('generate-key-pair', '--output-key-prefix', f'own-{registry}'))
        public = cosign.folder / f'own-{registry}.pub'
        image = signers.Pushed(work, registries[registry], f'own-key/{name}', modules['small'], put=oras_cncf)
        signers.good(cosign.run('sign', '-y', '--allow-http-registry', '--key', f'own-{registry}.key', *cosign.OFFLINE[name], image.by_digest))
        answer = daemon().get(image.ref, verificationKey=public.read_text())
        assert answer.status == 200 and answer.body['verified']['format'] == {'cosign2': 'cosign-simple', 'cosign3': 'cosign-bundle'}[name], answer


@pytest.mark.parametrize('registry', REGISTRIES)
def test_unsigned(work, modules, registries, daemon, cosigns, keys, registry):
    key, image = keys(), signers.Pushed(work, registries[registry], 'unsigned', modules['small'])
    answer = daemon().get(image.ref, verificationKey=key.pem)
    refused(answer, 'signature_missing', 'sig_absent', image.target['digest'], key.fingerprint[:16])
    for name, cosign in cosigns.items():
        verdicts.compare('unsigned', name, answer, cosign.verify(image.by_digest, key))


@pytest.mark.parametrize('registry', REGISTRIES)
@pytest.mark.parametrize('by', COSIGNS)
@pytest.mark.parametrize('form', ['bundle', 'classic'])
def test_signature_of_another_image(work, modules, registries, daemon, cosigns, keys, registry, by, form):
    """Its stored objects, put under the names of this one."""
    key, registry = keys(), registries[registry]
    signed, other = (signers.Pushed(work, registry, f'moved/{by}-{form}', modules[name], tag=name) for name in ('small', 'small2'))
    cosigns[by].sign(signed.by_digest, key, form)
    hexes = signed.target['digest'][7:], other.target['digest'][7:]
    if form == 'classic':
        peers.run(work, 'crane', 'copy', '--insecure', f'{signed.base}:sha256-{hexes[0]}.sig', f'{signed.base}:sha256-{hexes[1]}.sig')
    else:
        other.sign(lambda repo, target, _: signing.put_fallback(repo, target, [signing.bundle_manifest(repo, target, bundle_of(work, registry, signed))]), key)
    answer = daemon().get(other.ref, verificationKey=key.pem)
    refused(answer, 'signature_invalid', 'sig_other_digest', signed.target['digest'])
    for name, cosign in cosigns.items():
        verdicts.compare(f'moved/{form}', name, answer, cosign.verify(other.by_digest, key))


def bundle_of(work, registry, image):
    """The bundle that cosign put beside it."""
    session, base = signers.Pusher(registry.host).session, f'http://{registry.host}/v2/{image.repository}'
    listed = session.get(f'{base}/referrers/{image.target["digest"]}', timeout=60)
    if listed.status_code != 200:
        listed = session.get(f'{base}/manifests/{image.target["digest"].replace(":", "-")}', headers={'Accept': ', '.join(signers.MANIFESTS)}, timeout=60)
    manifest = session.get(f'{base}/manifests/{listed.json()["manifests"][0]["digest"]}', headers={'Accept': ', '.join(signers.MANIFESTS)}, timeout=60).json()
    return session.get(f'{base}/blobs/{manifest["layers"][0]["digest"]}', timeout=60).content


@pytest.mark.parametrize('registry', REGISTRIES)
def test_two_signers_and_both_forms(work, modules, registries, daemon, cosigns, keys, registry):
    """Any one good signature is enough, in whichever form, whoever else signed."""
    first, second, third = keys(), keys('Ed25519', 'second'), keys(name='third')
    image = signers.Pushed(work, registries[registry], 'two-signers', modules['small'])
    cosigns['cosign2'].sign(image.by_digest, first, 'classic')
    cosigns['cosign3'].sign(image.by_digest, second, 'bundle')
    cosigns['cosign3'].sign(image.by_digest, third, 'bundle')
    agent = daemon()
    for key, form in ((first, 'cosign-simple'), (second, 'cosign-bundle'), (third, 'cosign-bundle')):
        check(agent.get(image.ref, verificationKey=key.pem), modules['small'].read_bytes(), key, form)
    refused(agent.get(image.ref, verificationKey=keys(name='other').pem), 'signature_invalid', 'sig_other_key')
    check(daemon().get(image.ref, verificationKey=keys(name='other').pem + third.pem), modules['small'].read_bytes(), third, 'cosign-bundle')


@pytest.mark.parametrize('registry', REGISTRIES)
@pytest.mark.parametrize('by', [*COSIGNS, 'openssl'])
@pytest.mark.parametrize('form', ['bundle', 'classic'])
def test_annotations(work, modules, registries, daemon, cosigns, keys, registry, by, form):
    key, image = keys(), signers.Pushed(work, registries[registry], f'annotations/{by}-{form}', modules['small'])
    if by == 'openssl':
        image.sign(OURS[form], key, **{'annotations' if form == 'bundle' else 'optional': {'env': 'prod', 'team': 'x'}})
    else:
        cosigns[by].sign(image.by_digest, key, form, '-a', 'env=prod', '-a', 'team=x')
    for demand, value in (('right', 'prod'), ('wrong', 'test')):
        rule = {'match': f'{registries[registry].host}/*', 'keys': [key.public], 'annotations': {'env': value}}
        answer = daemon(trust(require=[rule])).get(image.ref)
        for name, cosign in cosigns.items():
            verdicts.compare(f'{by}/annotations-{form}/{demand}', name, answer, cosign.verify(image.by_digest, key, '-a', f'env={value}'))
        is_met = demand == 'right' and (by, form) != ('cosign2', 'bundle')
        if is_met:
            check(answer, modules['small'].read_bytes(), key, SHOWN[form])
        else:
            refused(answer, 'signature_invalid', 'env')


@pytest.mark.parametrize('registry', REGISTRIES)
@pytest.mark.parametrize('by', COSIGNS)
@pytest.mark.parametrize('form', ['bundle', 'classic'])
@pytest.mark.parametrize('what', ['top', 'child', 'recursive', 'sibling'])
def test_index(work, modules, registries, daemon, cosigns, keys, registry, by, form, what):
    """Asked for by the index and by the child that is chosen, with only some of them signed."""
    key, registry, name = keys(), registries[registry], f'index/{by}-{form}-{what}'
    other = signers.Pushed(work, registry, name, modules['small2'], 'a', put=crane_append(['--oci-empty-base'], 'L.tar.gz'))
    child = signers.Pushed(work, registry, name, modules['small'], 'b', put=oras_cncf)
    index = signers.Pushed(work, registry, name, None, put=lambda folder, ref, _: peers.run(folder, 'crane', 'index', 'append', '--insecure', '--flatten=false', '-m', other.ref, '-m', child.ref, '-t', ref))
    cosigns[by].sign({'child': child, 'sibling': other}.get(what, index).by_digest, key, form, *(['-r'] if what == 'recursive' else []))
    agent = daemon()
    for asked, image in (('by-index', index), ('by-child', child)):
        answer = agent.get(image.by_digest, verificationKey=key.pem)
        if what in {'by-index': ('top', 'child', 'recursive'), 'by-child': ('child', 'recursive')}[asked]:
            check(answer, modules['small'].read_bytes(), key, SHOWN[form])
        else:
            refused(answer, 'signature_missing', 'sig_absent')
        for verifier, cosign in cosigns.items():
            verdicts.compare(f'{by}/index-{what}/{asked}', verifier, answer, cosign.verify(image.by_digest, key))
    strict = daemon(trust(require_top_level_signature=True)).get(index.by_digest, verificationKey=key.pem)
    assert (strict.status == 200) == (what in ('top', 'recursive')), strict


@pytest.mark.parametrize('by, form', [('cosign2', 'classic'), ('cosign3', 'classic'), ('cosign3', 'bundle')])
@pytest.mark.parametrize('registry', REGISTRIES)
def test_signature_repository(work, modules, registries, daemon, cosigns, keys, registry, by, form):
    """COSIGN_REPOSITORY and trust.signature_repository are the same place."""
    key, host = keys(), registries[registry].host
    image, place = signers.Pushed(work, registries[registry], f'elsewhere/{by}-{form}', modules['small']), f'{host}/interop/elsewhere/signatures-{by}-{form}'
    cosigns[by].sign(image.by_digest, key, form, COSIGN_REPOSITORY=place)
    answer = daemon(trust(signature_repository=place)).get(image.ref, verificationKey=key.pem)
    check(answer, modules['small'].read_bytes(), key, SHOWN[form])
    beside = daemon().get(image.ref, verificationKey=key.pem)
    refused(beside, 'signature_missing', 'sig_absent')
    for name, cosign in cosigns.items():
        verdicts.compare(f'{by}/elsewhere-{form}/there', name, answer, cosign.verify(image.by_digest, key, COSIGN_REPOSITORY=place))
        verdicts.compare(f'{by}/elsewhere-{form}/beside', name, beside, cosign.verify(image.by_digest, key))


@pytest.mark.parametrize('registry', REGISTRIES)
def test_bundles_of_cosign_2_stay_beside_the_image(work, modules, registries, daemon, cosigns, keys, registry):
    """It does not read COSIGN_REPOSITORY for them; so whoever names a repository for us must sign with another version or form."""
    key, place = keys(), f'{registries[registry].host}/interop/elsewhere/empty'
    image = signers.Pushed(work, registries[registry], 'elsewhere/cosign2-bundle', modules['small'])
    cosigns['cosign2'].sign(image.by_digest, key, 'bundle', COSIGN_REPOSITORY=place)
    check(daemon().get(image.ref, verificationKey=key.pem), modules['small'].read_bytes(), key, 'cosign-bundle')
    refused(daemon(trust(signature_repository=place)).get(image.ref, verificationKey=key.pem), 'signature_missing', 'sig_absent')


@pytest.mark.parametrize('by', COSIGNS)
@pytest.mark.parametrize('form', ['bundle', 'classic'])
def test_certificate(work, modules, registries, daemon, cosigns, keys, by, form):
    """Signed with a certificate of one's own authority: the certificate is never believed. A classic signature counts by the bare key, a bundle without that key is keyless."""
    key, cosign, folder, image = keys(name='leaf'), cosigns[by], cosigns[by].folder, signers.Pushed(work, registries['docker-registry'], f'certificate/{by}-{form}', modules['small'])
    authority = keys(name='authority')
    openssl = functools.partial(signers.call, folder, '/usr/bin/openssl')
    signers.good(openssl('req', '-x509', '-key', authority.path, '-days', '2', '-subj', '/CN=authority', '-out', 'ca.pem', '-addext', 'keyUsage=critical,keyCertSign'))
    signers.good(openssl('req', '-new', '-key', key.path, '-subj', '/O=team', '-out', 'leaf.csr'))
    (folder / 'leaf.cnf').write_text('keyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\nsubjectAltName=email:team@example.com\n')
    signers.good(openssl('x509', '-req', '-in', 'leaf.csr', '-CA', 'ca.pem', '-CAkey', authority.path, '-CAcreateserial', '-days', '1', '-extfile', 'leaf.cnf', '-out', 'leaf.pem'))
    cosign.sign(image.by_digest, key, form, '--certificate', 'leaf.pem', '--certificate-chain', 'ca.pem')
    answer = daemon().get(image.ref, verificationKey=key.pem)
    if form == 'classic':
        check(answer, modules['small'].read_bytes(), key, 'cosign-simple')
    else:
        refused(answer, 'signature_invalid', 'sig_keyless')
    other = daemon().get(image.ref, verificationKey=authority.pem)
    refused(other, 'signature_invalid', 'sig_')
    for name, one in cosigns.items():
        verdicts.compare(f'{by}/certificate-{form}', name, answer, one.verify(image.by_digest, key))
        verdicts.compare(f'{by}/certificate-{form}-authority', name, other, one.verify(image.by_digest, authority))


SCAN = 'https://example.com/scan/v1'


@pytest.mark.parametrize('registry', REGISTRIES)
@pytest.mark.parametrize('by', COSIGNS)
@pytest.mark.parametrize('form', ['bundle', 'classic'])
def test_attestation(tmp_path, work, modules, registries, daemon, cosigns, keys, registry, by, form):
    """A statement of another type is no signature, unless its type is configured; classic ones (.att) are never looked for."""
    key, image = keys(), signers.Pushed(work, registries[registry], f'attest/{by}-{form}', modules['small'])
    (tmp_path / 'scan.json').write_text('{"verdict": "vulnerable"}')
    cosigns[by].attest(image.by_digest, key, form, SCAN, tmp_path / 'scan.json')
    answer = daemon().get(image.ref, verificationKey=key.pem)
    refused(answer, *(('signature_invalid', 'sig_wrong_type', SCAN) if form == 'bundle' else ('signature_missing', 'sig_absent')))
    for name, cosign in cosigns.items():
        verdicts.compare(f'{by}/attest/{form}', name, answer, cosign.verify(image.by_digest, key))
    configured = daemon(trust(predicates=[SCAN])).get(image.ref, verificationKey=key.pem)
    if form == 'bundle':
        check(configured, modules['small'].read_bytes(), key, 'cosign-bundle')
    else:
        refused(configured, 'signature_missing')


@pytest.mark.parametrize('by', COSIGNS)
def test_identity(work, modules, registries, daemon, cosigns, keys, by):
    """The name inside a classic payload, when the node compares it; bundles have none and cannot pass."""
    key, registry = keys(), registries['docker-registry']
    rule = {'match': f'{registry.host}/*', 'keys': [key.public], 'identity': 'repository'}
    own, foreign = (signers.Pushed(work, registry, f'identity/{by}-{name}', modules[module]) for name, module in (('own', 'small'), ('foreign', 'small2')))
    bundle = signers.Pushed(work, registry, f'identity/{by}-bundle', modules['small'], put=oras_cncf)             # three digests: a signature may come from wherever the digest was seen
    cosigns[by].sign(own.by_digest, key, 'classic')
    cosigns[by].sign(foreign.by_digest, key, 'classic', '--sign-container-identity', 'registry.example/team/else')
    cosigns[by].sign(bundle.by_digest, key, 'bundle')
    agent = daemon(trust(require=[rule]))
    check(agent.get(own.ref), modules['small'].read_bytes(), key, 'cosign-simple')
    refused(agent.get(foreign.ref), 'signature_invalid', 'sig_identity', 'registry.example/team/else')
    refused(agent.get(bundle.ref), 'signature_invalid', 'sig_identity')
    check(daemon().get(foreign.ref, verificationKey=key.pem), modules['small2'].read_bytes(), key, 'cosign-simple')
