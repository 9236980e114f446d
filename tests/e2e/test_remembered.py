"""What was decoded and written for one asker is used again for the next who says the same. It must never outlive its reason: each test asks until the answer comes from memory first."""
import http.client
import json
import os
import subprocess
import sys

from conftest import PASSWORD
from e2e_daemon import UnixConnection, ask, await_true
from e2e_images import body_of, hexes, push, wasm
from e2e_servers import docker_config
from e2e_sign import Signed, keys  # noqa: F401 (fixture)
from signing import sign_simple

OTHER_PROCESS = 'import json, sys; sys.path.insert(0, sys.argv[1]); from e2e_daemon import ask; print(json.dumps([ask(sys.argv[2], "POST", "/v1/modules", json.loads(sys.argv[3])).json for _ in range(3)]))'


def warm(daemon, url, **fields):
    daemon.good(url, **fields)
    answers = [daemon.good(url, **fields) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2] and answers[0]['source'] == 'cache'
    return answers[0]


def code_of(answer):
    return '' if answer.status == 200 else answer.code


def let_go(daemon, answer):
    assert daemon.ask('DELETE', '/v1/leases/' + answer['lease']['id']).status == 204
    await_true(lambda: daemon.ask('DELETE', '/v1/modules/' + answer['sha256'], to='admin').status == 200, 10, 'the module to be let go')


def other_process(daemon, url, to='agent'):
    ran = subprocess.run([sys.executable, '-c', OTHER_PROCESS, os.path.dirname(os.path.abspath(__file__)), getattr(daemon, to), json.dumps({'url': url})], capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


def test_each_asker_has_its_lease(registry, daemon):
    url = registry.ref(push(registry)[0])
    mine = warm(daemon, url)
    theirs = other_process(daemon, url)
    assert len({answer['lease']['id'] for answer in theirs}) == 1 and theirs[0]['lease']['id'] != mine['lease']['id']
    for answer in theirs:
        assert {**answer, 'lease': None} == {**mine, 'lease': None}
    assert daemon.good(url)['lease'] == mine['lease']
    assert daemon.ask('DELETE', '/v1/leases/' + mine['lease']['id']).status == 204
    again = warm(daemon, url)
    assert again['lease']['id'] not in (mine['lease']['id'], theirs[0]['lease']['id']) and again['path'] == mine['path']


def test_a_renewed_lease_shows_its_end(registry, make_daemon):
    daemon = make_daemon(store={'lease_time': '4s'})
    url = registry.ref(push(registry)[0])
    first = warm(daemon, url)['lease']
    await_true(lambda: daemon.good(url)['lease']['expires'] > first['expires'], 10, 'a later end of the same lease')
    assert daemon.good(url)['lease']['id'] == first['id']


def test_each_namespace_has_its_path(registry, daemon):
    url = registry.ref(push(registry)[0])
    answers = [warm(daemon, url, to=to) for to in ('agent', 'team', 'trusted', 'agent', 'team', 'trusted')]
    assert [os.path.dirname(answer['path']) for answer in answers[:3]] == [daemon.store + '/modules/default', '/seen/team-a/here', daemon.store + '/modules/default']
    assert answers[3:] == answers[:3]
    assert len({answer['lease']['id'] for answer in answers}) == 2 and answers[0]['lease'] == answers[2]['lease']


def test_removed_and_another(registry, daemon):
    repository, first_digest, module = push(registry)
    url = registry.ref(repository)
    first = warm(daemon, url)
    _, second_digest, other = push(registry, wasm(repository + ' anew'), repository)
    assert daemon.good(url) == first and second_digest != first_digest
    let_go(daemon, first)
    pulled = daemon.good(url)
    assert (pulled['source'], pulled['digest'], pulled['sha256']) == ('pulled', second_digest, hexes(other))
    after = warm(daemon, url)
    assert after == {**pulled, 'source': 'cache'} and body_of(after['path']) == other and hexes(module) not in json.dumps(after)


def test_the_file_is_another(registry, daemon):
    repository, _, module = push(registry)
    url = registry.ref(repository)
    first = warm(daemon, url)
    blob = os.path.join(daemon.store, 'blobs')
    path = next(os.path.join(folder, name) for folder, _, names in os.walk(blob) for name in names if first['sha256'] in os.path.join(folder, name).replace('/', ''))
    os.chmod(path, 0o644)
    with open(path, 'r+b') as stream:
        stream.write(b'\0bad')
    again = daemon.good(url)
    assert body_of(again['path']) == module and again['source'] == 'pulled'
    assert body_of(warm(daemon, url)['path']) == module


def test_the_file_is_another_between_two_requests(registry, daemon):
    """On one connection, right after a hit: what was looked at for the last request is looked at again for this one."""
    repository, _, module = push(registry)
    body = json.dumps({'url': registry.ref(repository)})
    connection = UnixConnection(daemon.agent)
    connection.connect()

    def asked():
        """In one write, so that the daemon waits but once for it."""
        connection.sock.sendall(f'POST /v1/modules HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}'.encode())
        response = http.client.HTTPResponse(connection.sock)
        response.begin()
        return json.loads(response.read())
    for _ in range(5):
        path = asked()['path']
        for _ in range(20):
            assert asked()['source'] == 'cache'
        os.chmod(path, 0o644)
        with open(path, 'r+b') as stream:
            stream.write(b'\0bad')
        assert asked()['source'] == 'pulled' and body_of(path) == module
    connection.close()


def test_a_reload_demands_signatures(registry, daemon, keys):  # noqa: F811
    image, key = Signed(registry), keys()
    image.sign(sign_simple, key)
    unsigned = registry.ref(push(registry)[0])
    assert warm(daemon, image.url)['verified'] is None
    warm(daemon, unsigned)
    daemon.configure(trust={'require': [{'match': registry.host + '/*', 'keys': [key.public]}]})
    assert daemon.ask('POST', '/v1/reload', {}, to='admin').json['applied'] == ['trust.require']
    assert [daemon.bad(unsigned, 'signature_missing') for _ in range(3)]
    verified = warm(daemon, image.url)
    assert verified['verified']['keyFingerprint'] == key.fingerprint
    daemon.configure(trust={'require': [{'match': registry.host + '/*', 'keys': [keys('other').public]}]})
    assert daemon.ask('POST', '/v1/reload', {}, to='admin').status == 200
    assert [daemon.bad(image.url, 'signature_invalid') for _ in range(3)]
    daemon.configure(trust={'require': []})
    assert daemon.ask('POST', '/v1/reload', {}, to='admin').status == 200
    assert warm(daemon, unsigned)['verified'] is None and warm(daemon, image.url)['verified'] is None


def test_a_key_besides(registry, daemon, keys):  # noqa: F811
    """The same body but for the key: what one key proves, another does not."""
    image, key, other = Signed(registry), keys(), keys('other')
    image.sign(sign_simple, key)
    for _ in range(2):
        assert warm(daemon, image.url, verificationKey=key.pem)['verified']['keyFingerprint'] == key.fingerprint
        assert [daemon.bad(image.url, 'signature_invalid', verificationKey=other.pem) for _ in range(2)]
        assert warm(daemon, image.url)['verified'] is None


def test_the_secret_is_gone_or_another(private, daemon):
    repository, _, _ = push(private)
    url = private.ref(repository)
    folder = daemon.put_secret('default', 'pull', docker_config(**{private.host: ('puller', PASSWORD)}))
    warm(daemon, url, imagePullSecret='pull')
    daemon.bad(url, 'unauthorized')
    daemon.put_secret('default', 'pull', docker_config(**{'elsewhere.example': ('puller', PASSWORD)}))
    await_true(lambda: code_of(daemon.get(url, imagePullSecret='pull')) == 'unauthorized', 10, 'the other secret to be seen')
    os.unlink(os.path.join(folder, '.dockerconfigjson'))
    await_true(lambda: code_of(daemon.get(url, imagePullSecret='pull')) == 'secret_missing', 10, 'the loss of the secret to be seen')
    daemon.put_secret('default', 'pull', docker_config(**{private.host: ('puller', PASSWORD)}))
    await_true(lambda: daemon.get(url, imagePullSecret='pull').status == 200, 10, 'the secret to be back')
    warm(daemon, url, imagePullSecret='pull')
    team = ask(daemon.team, 'POST', '/v1/modules', {'url': url, 'imagePullSecret': 'pull'})
    assert team.code == 'secret_missing'          # the same words on another tenant's socket
