"""Contract 1 and issue 3: who may have what is cached, and where a credential never shows up."""
import base64
import glob
import http.server
import json
import os
import stat
import threading
import urllib.parse

import pytest
from contract_rig import Daemon, Registry, ask


@pytest.fixture(scope='module')
def registry():
    registry = Registry()
    yield registry
    registry.close()


@pytest.fixture
def daemon(registry, tmp_path):
    secret = tmp_path / 'secrets' / 'team-a' / 'pull'
    secret.mkdir(parents=True)
    (secret / '.dockerconfigjson').write_text(json.dumps({'auths': {registry.host: {'username': 'pull', 'password': 'secret'}}}))
    registry.steer('/_reset', 'POST')
    daemon = Daemon(f'pull: {{negative_time: 0s, retries: 0}}\nlog: {{level: debug}}\ncredentials: {{secrets_dir: {tmp_path}/secrets}}\n').start()
    yield daemon
    daemon.stop()


def refusals(daemon, registry, digest):
    """What a tenant without credentials is told, by tag and by digest, with the registry up and down."""
    urls = [f'oci://{registry.host}/basic/raw:v1', f'oci://{registry.host}/basic/raw@{digest}']
    told = [daemon.get(url, daemon.b, **more).json for url in urls for more in ({}, {'sha256': digest[7:]}, {'pullSecret': {'auths': {registry.host: {'username': 'other', 'password': 'word'}}}})]
    registry.steer('/_set?down=1', 'POST')
    told += [daemon.get(url, daemon.b).json for url in urls]
    registry.steer('/_set?down=0', 'POST')
    return told


def test_refusal_does_not_tell_what_is_cached(daemon, registry):
    digest = registry.steer('/_repo?repo=basic/raw')['tags']['v1']['digest']
    before = refusals(daemon, registry, digest)
    module = daemon.get(f'oci://{registry.host}/basic/raw:v1', imagePullSecret='pull').json
    assert module['digest'] == digest
    assert refusals(daemon, registry, digest) == before
    assert ask(daemon.b, 'GET', '/v1/modules').json == {'modules': []}
    for suffix in ('', '/content'):
        there, absent = (ask(daemon.b, 'GET', f'/v1/modules/{sha256}{suffix}') for sha256 in (module['sha256'], '0' * 64))
        assert (there.status, there.json['detail'].replace(module['sha256'], '')) == (absent.status, absent.json['detail'].replace('0' * 64, ''))


def test_a_login_that_is_shown_nothing_is_followed_by_the_next(daemon, registry):
    def both(**more):
        return {'auths': {f'{registry.host}/mode': {'username': 'other', 'password': 'word'}, registry.host: {'username': 'pull', 'password': 'secret', **more}}}

    url = f'oci://{registry.host}/mode/auth-hidden:v1'
    told = daemon.get(url, pullSecret={'auths': {registry.host: {'username': 'other', 'password': 'word'}}}).json
    assert told['code'] == 'not_found' and "user 'other'" in told['detail']
    assert daemon.get(url, pullSecret=both()).json['source'] == 'pulled'
    assert daemon.get(url, daemon.b, pullSecret=both(identitytoken='makes it another login')).json['source'] == 'revalidated'
    assert daemon.get(url, pullSecret=both(password='old')).json['code'] == 'not_found'
    registry.log(True)
    assert daemon.get(url.replace(':v1', ':v9'), pullSecret=both()).json['code'] == 'not_found'
    assert 2 <= len(registry.log()) <= 3


def test_grant_is_of_the_namespace_and_its_secret(daemon, registry):
    url = f'oci://{registry.host}/basic/raw:v1'
    assert daemon.get(url, imagePullSecret='pull').status == 200
    assert daemon.get(url).json['code'] == 'unauthorized'
    assert daemon.get(url, daemon.b, imagePullSecret='pull').json['code'] == 'secret_missing'
    registry.steer('/_set?down=1', 'POST')
    assert daemon.get(url, imagePullSecret='pull').json['source'] == 'cache'
    assert daemon.get(url, daemon.b).json['code'] == 'upstream_unreachable'
    registry.steer('/_set?down=0', 'POST')


@pytest.mark.parametrize('name, text', [('empty', ''), ('broken', '{'), ('list', '[]'), ('none', '{"auths": {}}'), ('absent', None)])
def test_unusable_secret_is_named_and_nobody_is_asked(daemon, registry, tmp_path, name, text):
    (tmp_path / 'secrets' / 'team-a' / name).mkdir()
    if text is not None:
        (tmp_path / 'secrets' / 'team-a' / name / '.dockerconfigjson').write_text(text)
    registry.log(True)
    answer = daemon.get(f'oci://{registry.host}/good/raw:v1', imagePullSecret=name)
    assert answer.json['code'] == 'secret_missing' and f'team-a/{name}' in answer.json['detail']
    assert registry.log() == []


@pytest.mark.parametrize('host', ['169.254.169.254', '2852039166', '0xa9fea9fe', '[::ffff:169.254.169.254]', '[fd00:ec2::254]', '[fe80::1]', '[64:ff9b::a9fe:a9fe]', '100.100.100.200'])
def test_metadata_is_blocked(daemon, host):
    answer = daemon.get(f'http://{host}/a.wasm', timeout='5s')
    assert answer.json['code'] == 'denied' and 'network.allow' in answer.json['detail'], answer


def test_redirect_is_checked_at_each_hop(daemon, registry):
    seen = []

    class Redirect(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # pylint: disable=invalid-name
            seen.append(self.headers.get('Authorization'))
            self.send_response(302)
            self.send_header('Location', {'/a': 'http://169.254.169.254/a', '/b': 'file:///etc/passwd', '/c': f'http://{registry.host}/files/plugin.wasm'}[self.path])
            self.send_header('Content-Length', '0')
            self.end_headers()

        def log_message(self, *_):  # pylint: disable=arguments-differ
            pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Redirect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f'127.0.0.1:{server.server_port}'
    assert daemon.get(f'http://{here}/a').json['code'] == 'denied'
    assert daemon.get(f'http://{here}/b').json['code'] == 'upstream_error'
    registry.log(True)
    assert daemon.get(f'http://{here}/c', pullSecret={'auths': {here: {'username': 'u', 'password': 'hunter2'}}}).status == 200
    assert all(entry['authorization'] is None for entry in registry.log())
    server.shutdown()


def test_no_credential_is_left_anywhere(daemon, registry):
    words = ['hunter2-inline', base64.b64encode(b'pull:secret').decode(), base64.b64encode(b'pull:hunter2-inline').decode(), base64.b64encode(b'other:word').decode()]
    for kind in ('basic', 'bearer'):
        url = f'oci://{registry.host}/{kind}/raw:v1'
        assert daemon.get(url, imagePullSecret='pull').status == 200
        assert daemon.get(url, daemon.b, pullSecret={'auths': {registry.host: {'username': 'pull', 'password': 'hunter2-inline'}}}).status == 401
        assert daemon.get(url, daemon.b, pullSecret={'auths': {registry.host: {'auth': base64.b64encode(b'other:word').decode()}}}).status == 401
    daemon.get(f'http://u:hunter2-inline@{registry.host}/a')
    daemon.get(f'oci://u:hunter2-inline@{registry.host}/a')
    shown = [ask(daemon.admin, 'GET', target).body for target in ('/v1/events', '/metrics', '/v1/config', '/v1/status', '/v1/modules')]
    shown += [ask(daemon.admin, 'GET', '/v1/inspect?name=' + module['sha256']).body for module in ask(daemon.admin, 'GET', '/v1/modules').json['modules']]
    with open(f'/proc/{daemon.process.pid}/limits', encoding='ascii') as stream:
        assert next(line for line in stream if line.startswith('Max core')).split()[4] == '0'
    if os.geteuid() != 0:
        assert os.stat(f'/proc/{daemon.process.pid}/mem').st_uid == 0          # not dumpable: not even its own user reads its memory
    daemon.stop()
    for path in [path for path in glob.glob(daemon.store + '/**', recursive=True) if os.path.isfile(path)] + [daemon.log_path]:
        with open(path, 'rb') as stream:
            shown.append(stream.read())
    for text in shown:
        for word in words:
            assert word.encode() not in text


@pytest.mark.parametrize('where', ['body', 'form', 'warning', 'type', 'media-type', 'layer-type', 'location'])
def test_a_registry_that_repeats_what_it_was_sent(daemon, where):
    password = 'hunter2+/=of é'
    secret = base64.b64encode(f'pull:{password}'.encode()).decode()

    class Echo(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # pylint: disable=invalid-name
            said = (self.headers.get('Authorization') or '')[6:]
            layer = {'mediaType': 'application/vnd.' + said, 'digest': 'sha256:' + '1' * 64, 'size': 1}
            manifest = json.dumps({'schemaVersion': 2, 'mediaType': said, 'config': layer, 'layers': [layer]})
            image = json.dumps({'schemaVersion': 2, 'config': layer, 'layers': [layer]})
            form = urllib.parse.urlencode({'password': password})
            oci = 'application/vnd.oci.image.manifest.v1+json'
            status, body, headers = (401, '', {'WWW-Authenticate': 'Basic realm="x"'}) if not said else {
                'body': (403, f'you sent {password}', {}), 'form': (403, form, {}), 'warning': (404, '', {'Warning': f'299 - "{said}"'}), 'type': (200, manifest, {'Content-Type': said + 'x'}),
                'media-type': (200, manifest, {'Content-Type': oci}), 'layer-type': (200, image, {'Content-Type': oci}),
                'location': (307, '', {'Location': f'http://127.0.0.1:1/{urllib.parse.quote(password, safe="")}'})}[where]
            self.send_response(status)
            for name, value in {**headers, 'Content-Length': len(body.encode())}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):  # pylint: disable=arguments-differ
            pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f'127.0.0.1:{server.server_port}'
    told = daemon.get(f'{here}/a:v1', pullSecret={'auths': {here: {'username': 'pull', 'password': password}}})
    server.shutdown()
    assert told.status >= 400 and (where == 'warning' or 'left out' in told.json['detail'])
    for text in (told.body.decode(), daemon.log(), ask(daemon.admin, 'GET', '/v1/events').body.decode()):
        assert secret not in text and 'hunter2' not in text


def test_only_modules_can_be_read_by_others(daemon, registry):
    assert daemon.get(f'oci://{registry.host}/good/raw:v1').status == 200
    for path in glob.glob(daemon.store + '/*'):
        mode = stat.S_IMODE(os.stat(path).st_mode)
        assert mode & 0o077 == 0 or path == daemon.store + '/modules', path
    link = glob.glob(daemon.store + '/modules/team-a/*.wasm')
    assert len(link) == 1 and stat.S_IMODE(os.stat(link[0]).st_mode) == 0o444
