"""What people see of signatures: wasmcachectl verify-signature, get --key, ls, inspect and explain; metrics and the log."""
import json
import os
import pwd
import re
import subprocess

import pytest
import yaml

import signing
from content import gz
from e2e_daemon import CTL, DAEMON, ask, await_true
from e2e_images import body_of, hexes, unique, wasm
from e2e_servers import docker_config
from e2e_sign import Key, Signed
from signing import sign_bundle, sign_simple


@pytest.fixture(scope='module')
def keys(world):
    folder = os.path.join(world, 'cli-keys')
    os.mkdir(folder)
    return {'K': Key(folder, 'K'), 'K2': Key(folder, 'K2'), 'Ed': Key(folder, 'Ed', 'Ed25519')}


def rows(table):
    """Cells of a table; columns are at least two blanks apart."""
    return [re.split(r' {2,}', line.strip()) for line in table.splitlines()]


def test_verify_a_reference(daemon, registry, keys):
    image = Signed(registry)
    image.sign(sign_bundle, keys['K'], annotations={'env': 'prod'})
    said = daemon.ctl_good('verify-signature', image.url, '--key', keys['K'].public)
    head, names, row = said.splitlines()
    assert head == f"verified: {image.url} ({image.target['digest']})"
    assert names.split() == ['FORMAT', 'KEY', 'ALGORITHM', 'WHERE', 'ANNOTATIONS']
    assert row.startswith('cosign-bundle') and keys['K'].fingerprint[:16] in row and 'ECDSA P-256 SHA-256' in row and 'referrer sha256:' in row and 'env=prod' in row
    answer = json.loads(daemon.ctl_good('verify-signature', image.url, '--key', keys['K'].public, '-o', 'json'))
    assert answer['verdict'] == 'verified' and answer['digest'] == image.target['digest'] and 'code' not in answer
    assert [one['keyFingerprint'] for one in answer['signatures']] == [keys['K'].fingerprint] and answer['signatures'][0]['annotations'] == {'env': 'prod'}
    assert yaml.safe_load(daemon.ctl_good('verify-signature', image.url, '--key', keys['K'].public, '-o', 'yaml')) == answer


def test_several_keys(daemon, registry, keys, tmp_path):
    """Of several files, as of several blocks in one, any key will do; none of them is left out."""
    image, unended = Signed(registry), tmp_path / 'unended.pub'
    image.sign(sign_bundle, keys['K'])
    unended.write_text(keys['K'].pem.rstrip('\n'))
    for words in (['--key', keys['K'].public, '--key', keys['K2'].public], ['--key', keys['K2'].public, '--key', keys['K'].public], ['--key', unended, f"--key={keys['K2'].public}"]):
        for command in ('verify-signature', 'get'):
            assert daemon.ctl_good(command, image.url, *words), words
    ran = daemon.ctl('verify-signature', image.url, '--key', keys['K2'].public, '--key', keys['Ed'].public)
    assert ran.returncode == 1 and keys['K2'].fingerprint[:16] in ran.stderr and keys['Ed'].fingerprint[:16] in ran.stderr
    for bad in (keys['K'].path, tmp_path / 'absent'):
        assert daemon.ctl('verify-signature', image.url, '--key', keys['K'].public, '--key', bad).returncode == 1


def test_nothing_is_kept(daemon, registry, keys):
    image = Signed(registry)
    image.sign(sign_simple, keys['K'])
    daemon.ctl_good('verify-signature', image.url, '--key', keys['K'].public)
    assert daemon.ask('GET', '/v1/modules', to='admin').json['modules'] == []
    # A refusal of the trial is none of the request's, and the other way.
    assert daemon.ctl('verify-signature', image.url, '--key', keys['K2'].public).returncode == 1
    before = registry.count('GET', image.repository)
    assert daemon.good(image.url, verificationKey=keys['K'].pem)['source'] == 'pulled' and registry.count('GET', image.repository) > before


@pytest.mark.parametrize('form, key, code, said', [(sign_bundle, 'K2', 'signature_invalid', 'sig_other_key'), (None, 'K', 'signature_missing', 'sig_absent')])
def test_refused_with_one_sentence(daemon, registry, keys, form, key, code, said):
    image = Signed(registry)
    if form:
        image.sign(form, keys['K'])
    ran = daemon.ctl('verify-signature', image.url, '--key', keys[key].public)
    lines = ran.stderr.splitlines()
    assert (ran.returncode, ran.stdout) == (1, '') and lines[0].startswith(f'wasmcachectl: {code}: ') and said in lines[0] and lines[1].startswith('hint: ') and len(lines) == 2
    # The same sentence as for a request.
    assert daemon.bad(image.url, code, verificationKey=keys[key].pem) == lines[0].partition(f'{code}: ')[2]
    ran = daemon.ctl('verify-signature', image.url, '--key', keys[key].public, '-o', 'json')
    answer = json.loads(ran.stdout)
    assert ran.returncode == 1 and (answer['verdict'], answer['code'], answer['signatures']) == ('refused', code, []) and answer['lookedAt']


def test_errors_are_no_verdicts(daemon, registry, keys, tmp_path):
    image = Signed(registry)
    for words, code in (([image.url], 2), ([tmp_path, '--key', keys['K'].public], 1), ([image.url, '--key', tmp_path / 'absent'], 1), ([image.url, '--key', keys['K'].path], 1),
                        ([registry.ref(unique()), '--key', keys['K'].public], 1), (['oci://127.0.0.1:1/a/b:v1', '--key', keys['K'].public], 1)):
        ran = daemon.ctl('verify-signature', *words)
        assert (ran.returncode, ran.stdout) == (code, ''), ran
        assert 'verified' not in ran.stderr and body_of(keys['K'].path).decode().splitlines()[1] not in ran.stderr
    assert daemon.ctl('verify-signature', image.url, '--key', keys['K'].public, to='agent').returncode == 1          # for operators
    assert ask(daemon.admin, 'POST', '/v1/verify-signature', {'url': image.url}).code == 'bad_request'
    assert ask(daemon.agent, 'POST', '/v1/verify-signature', {'url': image.url, 'verificationKey': keys['K'].pem}).code == 'denied'


@pytest.mark.parametrize('name', ['{tmp}/m.wasm', './m.wasm', '../m.wasm', 'm.wasm', 'build/m.wasm'])
def test_a_file_that_is_not_there_is_no_image(daemon, keys, tmp_path, name):
    """A slip of the pen is not sent to Docker Hub."""
    ran = daemon.ctl('verify-signature', name.format(tmp=tmp_path), '--key', keys['K'].public)
    assert (ran.returncode, ran.stdout) == (1, '') and 'm.wasm: No such file or directory' in ran.stderr
    assert 'verify-signature' not in daemon.told()


def test_with_a_pull_secret(daemon, private, keys):
    image = Signed(private)
    image.sign(sign_simple, keys['K'])
    words = ['verify-signature', image.url, '--key', keys['K'].public]
    assert daemon.ctl(*words).returncode == 1
    daemon.put_secret('team-a', 'pull', docker_config(**{private.host: private.session.auth}))
    assert daemon.ctl_good(*words, '-n', 'team-a', '--secret', 'pull').startswith('verified: ')
    assert daemon.ctl(*words, '-n', 'team-b', '--secret', 'pull').returncode == 1
    assert daemon.ctl_good(*words, '--pull-secret-file', '-', stdin=json.dumps(docker_config(**{private.host: private.session.auth}))).startswith('verified: ')


@pytest.mark.parametrize('suffix, make, key, shown', [
    ('.sigstore.json', signing.message_bundle, 'K', 'sigstore-bundle'), ('.sig', signing.raw_signature, 'K', 'raw'), ('.sig', signing.raw_signature, 'Ed', 'raw'),
    ('.sig', signing.wasm_signature_data, 'Ed', 'wasm-detached')])
def test_verify_a_file(daemon, keys, tmp_path, suffix, make, key, shown):
    """Any file of an operator, outside of the roots too; names that need escapes."""
    tmp_path.chmod(0o755)
    path = tmp_path / 'a b%20ü.wasm'
    path.write_bytes(wasm(suffix + key))
    assert daemon.ctl('verify-signature', path, '--key', keys[key].public).returncode == 1
    (tmp_path / (path.name + suffix)).write_bytes(make(keys[key], path.read_bytes()))
    said = daemon.ctl_good('verify-signature', path, '--key', keys[key].public)
    assert said.startswith('verified: file:///') and rows(said)[2][0] == shown
    assert daemon.ctl('verify-signature', path, '--key', keys['K2'].public).returncode == 1
    assert daemon.ask('GET', '/v1/modules', to='admin').json['modules'] == []


def test_embedded_and_boxed_files(daemon, keys, tmp_path):
    module = signing.wasm_signed(keys['Ed'], wasm('embedded'))
    for name, body in (('a.wasm', module), ('b.wasm.gz', gz(module))):
        (tmp_path / name).write_bytes(body)
        assert rows(daemon.ctl_good('verify-signature', tmp_path / name, '--key', keys['Ed'].public))[2][0] == 'wasm-embedded'
    ran = daemon.ctl('verify-signature', tmp_path / 'a.wasm', '--key', keys['K'].public)
    assert ran.returncode == 1 and 'signature_' in ran.stderr
    # What is signed rightly and no module is not verified (a signed payload must not pass as one, nor the other way).
    (tmp_path / 'text').write_text('{"critical": 1}')
    (tmp_path / 'text.sig').write_bytes(signing.raw_signature(keys['K'], b'{"critical": 1}'))
    ran = daemon.ctl('verify-signature', tmp_path / 'text', '--key', keys['K'].public)
    assert ran.returncode == 1 and ran.stdout == '' and 'signature_invalid' in ran.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can have files that the daemon may not read')
@pytest.mark.parametrize('hidden', ['folder', 'module', 'signature'])
def test_files_that_the_daemon_may_not_open(make_daemon, keys, tmp_path, world, hidden):
    """They are copied with what lies beside them; the copy's place is not shown, and it goes."""
    daemon = make_daemon(start=False)
    nobody = pwd.getpwnam('nobody')
    for folder in (daemon.folder, daemon.secrets):
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    path = tmp_path / 'm.wasm'
    path.write_bytes(wasm('hidden'))
    (tmp_path / 'm.wasm.sig').write_bytes(signing.raw_signature(keys['K'], path.read_bytes()))
    for each in (tmp_path, *tmp_path.parents):
        if len(each.parts) > 2 and hidden != 'folder':
            each.chmod(0o755)
    {'folder': tmp_path, 'module': path, 'signature': tmp_path / 'm.wasm.sig'}[hidden].chmod(0o700 if hidden == 'folder' else 0o600)
    with open(daemon.log, 'ab') as log:
        daemon.process = subprocess.Popen(['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', DAEMON, '--config', daemon.file], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    await_true(daemon.is_up, 10, 'the start')
    said = daemon.ctl_good('verify-signature', path, '--key', keys['K'].public)
    assert rows(said)[2][0] == 'raw' and f'{path}.sig' in said and 'import-' not in said
    ran = daemon.ctl('verify-signature', path, '--key', keys['K2'].public)
    assert ran.returncode == 1 and 'signature_invalid' in ran.stderr and str(path) in ran.stderr and 'import-' not in ran.stderr
    assert not [name for name in os.listdir(daemon.folder) if name.startswith('import-')]


def test_get_ls_inspect_explain(daemon, registry, keys):
    image = Signed(registry)
    image.sign(sign_simple, keys['K'], optional={'team': 'a'})
    path = daemon.ctl_good('get', image.url, '--key', keys['K'].public).strip()
    assert hexes(image.module) in path
    listed = rows(daemon.ctl_good('ls'))
    assert listed[0][4] == 'SIGNED' and listed[1][4] == 'cosign-simple:' + keys['K'].fingerprint[:12]
    assert json.loads(daemon.ctl_good('ls', '-o', 'json'))['modules'][0]['verified'] == {'format': 'cosign-simple', 'keyFingerprint': keys['K'].fingerprint}
    signature = json.loads(daemon.ctl_good('inspect', image.url, '-o', 'json'))['signatures'][0]
    assert (signature['format'], signature['keyFingerprint'], signature['annotations']) == ('cosign-simple', keys['K'].fingerprint, {'team': 'a'})
    assert signature['where'] == 'tag ' + signing.signature_tag(image.target) and signature['target'] == image.target['digest'] and signature['judged'].endswith('Z')
    assert 'signatures:' in daemon.ctl_good('inspect', image.url)
    explained = daemon.ctl_good('explain', image.url, '--key', keys['K'].public)
    line = next(line for line in explained.splitlines() if line.startswith('signature'))
    assert explained.startswith('verdict: hit') and 'verified' in line and 'cosign-simple' in line and keys['K'].fingerprint[:16] in line and '"team"' in line and 'judged 20' in line
    explained = daemon.ctl_good('explain', image.url, '--key', keys['K2'].public)
    assert explained.startswith('verdict: miss') and 'unverified' in explained and 'not judged yet' in explained
    # After a restart it is judged again when it is asked for, without the registry.
    daemon.restart()
    daemon.ctl_good('get', image.url, '--key', keys['K'].public)
    assert rows(daemon.ctl_good('ls'))[1][4].startswith('cosign-simple:')


def test_ls_shows_a_tenant_its_own(daemon, private, keys):
    image = Signed(private)
    image.sign(sign_simple, keys['K'])
    secret = docker_config(**{private.host: private.session.auth})
    for namespace in ('default', 'team-a'):
        daemon.put_secret(namespace, 'pull', secret)
    assert daemon.ctl('get', image.url, '--secret', 'pull', '--key', keys['K'].public, to='agent').returncode == 0
    assert rows(daemon.ctl_good('ls', to='agent'))[1][4].startswith('cosign-simple:')
    assert daemon.ask('GET', '/v1/modules', to='team').json['modules'] == []
    assert daemon.good(image.url, to='team', imagePullSecret='pull')['verified'] is None


def test_metrics_log_and_openapi(daemon, registry, keys):
    image = Signed(registry)
    image.sign(sign_bundle, keys['K'])
    daemon.good(image.url, verificationKey=keys['K'].pem)
    daemon.bad(image.url, 'signature_invalid', verificationKey=keys['K2'].pem)
    daemon.bad(Signed(registry).url, 'signature_missing', verificationKey=keys['K'].pem)
    text = daemon.ask('GET', '/metrics', to='admin').body.decode()
    series = dict(re.findall(r'^wasmcached_verifications_total\{([^}]*)\} (\S+)$', text, re.M))
    assert [name for name in series if 'cosign-bundle' in name and 'result="verified"' in name] and [name for name in series if 'cosign-bundle' in name and 'sig_other_key' in name]
    assert [name for name in series if 'sig_absent' in name and 'result="refused"' in name]
    assert f'key={keys["K"].fingerprint}' in daemon.told() and 'event=verified' in daemon.told()
    schemas = yaml.safe_load(daemon.ask('GET', '/openapi.yaml').body)['components']['schemas']
    assert {'Trial', 'Signature'} <= set(schemas)
    trial = daemon.ask('POST', '/v1/verify-signature', {'url': image.url, 'verificationKey': keys['K'].pem}, to='admin').json
    assert set(trial) <= set(schemas['Trial']['properties']) and set(trial['signatures'][0]) <= set(schemas['Signature']['properties'])


@pytest.mark.parametrize('suffix, make, reason', [
    ('', lambda keys, data: signing.wasm_signed(keys['Ed'], data), 'sig_alg'), ('.sig', lambda keys, data: signing.raw_signature(keys['K2'], data), 'sig_other_key'),
    ('.sig', lambda keys, data: b'', 'sig_malformed'), ('.sig', lambda keys, data: b'-----BEGIN PGP SIGNATURE-----\n', 'sig_not_accepted'),
    ('.sigstore.json', lambda keys, data: signing.dsse_bundle(keys['K'], signing.statement('0' * 64)), 'sig_other_digest'),
    ('.sigstore.json', lambda keys, data: signing.dsse_bundle(keys['K'], signing.statement(hexes(data), 'https://spdx.dev/Document')), 'sig_wrong_type')])
def test_a_reason_has_one_name(daemon, keys, tmp_path, suffix, make, reason):
    """The word that begins a sentence is the label of its metric."""
    tmp_path.chmod(0o755)
    path, module = tmp_path / 'm.wasm', wasm('reasons')
    path.write_bytes(module)
    (tmp_path / ('m.wasm' + suffix)).write_bytes(make(keys, module))
    ran = daemon.ctl('verify-signature', path, '--key', keys['K'].public)
    assert ran.returncode == 1 and f'): {reason}: ' in ran.stderr.splitlines()[0], ran
    text = daemon.ask('GET', '/metrics', to='admin').body.decode()
    assert re.search(rf'^wasmcached_verifications_total{{format="[a-z-]+",result="refused",reason="{reason}"}} 1$', text, re.M), re.findall('^wasmcached_verif.*', text, re.M)


def test_completion_and_help(daemon):
    def complete(*words):
        return subprocess.run([CTL, '--complete', *words], capture_output=True, text=True, check=True).stdout.split()
    assert complete('veri') == ['verify-signature', 'verify']
    assert {'--key', '--secret', '--namespace', '--output'} <= set(complete('verify-signature', '--')) and '--policy' not in complete('verify-signature', '--')
    shown = daemon.ctl_good('help', 'verify-signature')
    assert 'REF|FILE' in shown and '--key FILE' in shown and 'dry run' in shown
    assert daemon.ctl('verify-signatur', 'x').stderr.count('did you mean "verify-signature"') == 1
