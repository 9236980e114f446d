"""What is remembered of signatures and what of that is believed; what the node itself demands; registries that lie about them."""
import os
import re

import pytest

import good_sign
import signing
from content import gz, tar
from e2e_daemon import Daemon
from e2e_images import Image, hexes, unique, wasm
from e2e_servers import Registry, docker_config
from e2e_sign import FAKE_K, FAKE_K2, Scripted, Signed, both_keys, evidence, fake, keys, place, up, with_log_entry  # noqa: F401 (fixtures)
from signing import sign_bundle, sign_simple
from world import MODES


# ---- what is kept
def test_restart_without_network(daemon, up):
    image = Scripted(up)
    image.sign(form='bundle')
    first = daemon.good(image.url, verificationKey=FAKE_K)
    up.steer('/_set?down=1', 'POST')
    daemon.restart()
    again = daemon.good(image.url, verificationKey=FAKE_K)
    assert (again['verified'], again['path'], again['source']) == (first['verified'], first['path'], 'cache')
    said = daemon.bad(image.url, 'signature_unreachable', 503, verificationKey=FAKE_K2)
    digest, key = first['digest'], signing.ec_key('second')
    assert f'{image.url} ({digest}): sig_unreachable: ' in said and key.fingerprint[:16] in said and up.host in said and '\n' not in said
    assert daemon.get(image.url, verificationKey=FAKE_K2).headers['retry-after']
    assert re.search(r'^wasmcached_verifications_total{format="none",result="refused",reason="sig_unreachable"} 2$', daemon.ask('GET', '/metrics', to='admin').body.decode(), re.M)


def test_a_host_that_is_away_is_not_needed(make_daemon, up):
    """It is left alone after five failures; what is stored is judged all the same, and who needs it reads that signatures could not be looked up."""
    daemon, image, tracked = make_daemon(pull={'negative_time': '10s', 'stale_if_error': '10m'}), Scripted(up), Scripted(up)
    image.sign()
    tracked.sign()
    daemon.good(tracked.url, verificationKey=FAKE_K, imagePullPolicy='Always')
    first = daemon.good(image.url, verificationKey=FAKE_K)
    up.steer('/_set?down=1', 'POST')
    daemon.restart()
    told = [daemon.bad(f'oci://{up.host}/{unique()}:v1', 'upstream_unreachable') for _ in range(7)]
    assert 'left alone for now' in told[-1]
    stale = daemon.good(tracked.url, verificationKey=FAKE_K, imagePullPolicy='Always')
    assert stale['verified'] == first['verified'] and stale['stale']
    again = daemon.good(image.url, verificationKey=FAKE_K)
    assert (again['verified'], again['source']) == (first['verified'], 'cache')
    answer = daemon.get(image.url, verificationKey=FAKE_K2)
    assert answer.code == 'signature_unreachable' and answer.headers['retry-after'] and 'sig_unreachable: ' in answer.json['detail'] and 'left alone for now' in answer.json['detail']
    assert daemon.get(image.url, verificationKey=FAKE_K2).code == 'signature_unreachable'
    up.steer('/_set?down=0', 'POST')
    daemon.ctl_good('refresh', image.url)
    daemon.bad(image.url, 'signature_invalid', verificationKey=FAKE_K2)


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


@pytest.mark.parametrize('box', ['wasm', 'gzip', 'tar'])
@pytest.mark.parametrize('kind', ['http', 'file'])
def test_files_need_no_source_after_a_restart(place, nginx, keys, kind, box):
    """What lies beside a packed body signs the body: it is kept, unpacked again and has to give the module that is handed out."""
    key, daemon, name = keys(), place.daemon(), unique('f').replace('/', '-')
    module = wasm(name)
    body = {'wasm': module, 'gzip': gz(module), 'tar': gz(tar([('plugin.wasm', module)]))}[box]
    url = place(kind, name, body)
    place(kind, name + '.sig', signing.b64(key.sign(body)).encode())
    first = daemon.good(url, verificationKey=key.pem)
    for gone in (name, name + '.sig'):
        os.remove(os.path.join(nginx.files if kind == 'http' else place.root, gone))
    daemon.restart()
    again = daemon.good(url, verificationKey=key.pem)
    assert (again['verified'], again['path'], again['source']) == (first['verified'], first['path'], 'cache')
    assert daemon.get(url, verificationKey=keys('other').pem).status != 200
    daemon.stop()
    rows = evidence(daemon, "SELECT body FROM evidence WHERE kind = 'packed-body'")
    assert len(rows) == (box != 'wasm')
    evidence(daemon, "UPDATE evidence SET body = zeroblob(length(body)) WHERE kind = 'packed-body'" if rows else 'DELETE FROM evidence')
    daemon.start()
    assert daemon.get(url, verificationKey=key.pem).status != 200


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
    explained = next(line for line in daemon.ctl_good('explain', signed.url).splitlines() if line.startswith('signature'))
    assert f'trust.require, match "{registry.host}/e2e/team/*": cosign-simple signature by key {key.fingerprint[:16]}' in explained
    assert 'signature' not in daemon.ctl_good('explain', elsewhere.url)
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
    for host in ('127.1', '0x7f.0.0.1', '2130706433', '%31%32%37.0.0.1', '127%2e0.0.1', '[::ffff:127.0.0.1]', '%6cocalhost', '127.0.0.1'):
        daemon.bad(f'http://{host}:0{nginx.port}/team/{name}', 'signature_missing')
    daemon.bad(f'http://\uff4cocalhost:{nginx.port}/team/{name}', 'bad_url')
    os.makedirs(os.path.join(place.root, 'team'))
    for url in (place('file', 'team/' + name, wasm(name)), f'file://{place.root}/%74eam/{name}', f'file://{place.root}//team/{name}'):
        assert daemon.get(url).code == ('denied' if '//team' in url else 'signature_missing'), url


def test_require_also_of_bare_blobs(make_daemon, registry, keys):
    """What a registry gives under the url of a blob lies in its repository, also for who asks for it as for any file."""
    key, image, elsewhere = keys(), Signed(registry, repository=unique('team/x')), Signed(registry)
    image.sign(sign_simple, key)
    daemon = make_daemon(trust={'require': [{'match': f'{registry.host}/e2e/team/*', 'keys': [key.public]}]})
    assert daemon.good(image.url)['verified']
    blob = f'http://{registry.host}/v2/{{}}/blobs/sha256:{{}}'
    assert daemon.good(blob.format(elsewhere.repository, hexes(elsewhere.module)))['verified'] is None
    for url in (blob.format(image.repository, hexes(image.module)), blob.format(image.repository.replace('team', '%74eam'), hexes(image.module))):
        assert 'demanded by trust.require' in daemon.bad(url, 'signature_missing')


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


def test_reload_reads_key_files_again(make_daemon, registry, keys, tmp_path):
    """The configuration is the same, the file that it names is not."""
    key, other, path, image = keys(), keys('other'), tmp_path / 'rule.pub', Signed(registry, repository=unique('rotate/x'))
    path.write_text(key.pem)
    image.sign(sign_bundle, key)
    daemon = make_daemon(trust={'require': [{'match': f'{registry.host}/e2e/rotate/*', 'keys': [str(path)]}]})
    assert daemon.good(image.url)['verified']
    for text, is_good in ((other.pem, False), (other.pem + key.pem, True), (other.pem, False), (key.pem, True)):
        path.write_text(text)
        daemon.ctl_good('reload')
        assert daemon.good(image.url)['source'] == 'cache' if is_good else daemon.bad(image.url, 'signature_invalid')
    # What cannot be read changes nothing, and does not start either.
    path.write_text(key.pem.replace('PUBLIC', 'PRIVATE'))
    ran = daemon.ctl('reload')
    assert ran.returncode == 1 and str(path) in ran.stderr and key.pem.splitlines()[1] not in ran.stderr + daemon.told()
    assert daemon.good(image.url)['verified']
    assert daemon.stop() == 0
    daemon.start(wait=False)
    assert daemon.process.wait(20) != 0 and 'trust.require[0].keys' in daemon.told()


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


def test_another_name_is_counted(make_daemon, registry, keys):
    """Ignored by default, but told ([sig] 4.3)."""
    key, own, foreign = keys(), Signed(registry), Signed(registry)
    own.sign(sign_simple, key, reference=f'{registry.host}/{own.repository}')
    foreign.sign(sign_simple, key, reference=f'{registry.host}/team/else')
    daemon = make_daemon(log={'level': 'debug'})
    for image, count in ((own, 0), (foreign, 1), (foreign, 1)):
        assert daemon.good(image.url, verificationKey=key.pem)['verified']
        assert daemon.metric('wasmcached_signature_identity_mismatches_total') == count
    assert [line for line in daemon.told().splitlines() if 'event=signed_for_another_name' in line and foreign.url in line and 'level=debug' in line]


def test_signature_repository(make_daemon, registry, keys):
    key, image, beside = keys(), Signed(registry), Signed(registry)
    place = unique('signatures')
    image.sign(sign_simple, key, repository=place)
    beside.sign(sign_simple, key)
    daemon = make_daemon(trust={'signature_repository': f'{registry.host}/{place}'})
    assert daemon.good(image.url, verificationKey=key.pem)['verified']
    assert f'looked at: in trust.signature_repository {registry.host}/{place}, ' in daemon.bad(beside.url, 'signature_missing', verificationKey=key.pem)
    make_daemon().bad(image.url, 'signature_missing', verificationKey=key.pem)


def test_signature_repository_with_a_login_of_its_own(make_daemon, registry, private, keys):
    """Whoever may not read it is told that nobody could look; the image's own login is not sent there."""
    key, image, place = keys(), Signed(registry), unique('signatures')
    signatures = Image(place)
    sign_simple(signatures, image.target, key)
    signatures.push(private)
    daemon = make_daemon(trust={'signature_repository': f'{private.host}/{place}'})
    daemon.put_secret('default', 'image', docker_config(**{registry.host: ('somebody', 'Passw0rd-of-the-image')}))
    daemon.put_secret('default', 'both', docker_config(**{registry.host: ('somebody', 'Passw0rd-of-the-image'), private.host: private.session.auth}))
    for more in ({}, {'imagePullSecret': 'image'}):
        assert '401' in daemon.bad(image.url, 'signature_unreachable', 503, verificationKey=key.pem, **more)
    assert daemon.good(image.url, verificationKey=key.pem, imagePullSecret='both')['verified']
    assert private.session.auth[1] not in daemon.told() and 'Passw0rd' not in daemon.told()


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
    daemon = Daemon(os.path.join(world, 'hardened'), pull={'retries': 0, 'negative_time': '0s', 'progress_timeout': '2s'}).start()
    yield daemon
    assert daemon.stop() == 0
    assert 'Sanitizer' not in daemon.told() and 'runtime error' not in daemon.told()


@pytest.mark.parametrize('name', [name for name in MODES if name.startswith('sign-')])
def test_modes(hardened, fake, name):
    expected = MODES[name].code
    answer = hardened.get(f'oci://{fake.host}/mode/{name}:v1', verificationKey=good_sign.KEYS)
    got = 'ok' if answer.status == 200 else answer.code
    assert got in expected.split('|'), answer
    assert got == 'ok' or (answer.json['detail'] and 'oci://' in answer.json['detail'])
    assert got != 'ok' or answer.json['verified']
