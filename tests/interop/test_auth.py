"""Logins as real servers ask for them: Basic, opaque tokens of the registry itself, Bearer tokens of a server on another port. And who gets nothing."""
import base64
import hashlib
import json
import os
import time

import pytest

import peers
from layouts import oras_variant

PASSWORDS = {'alice': 'wonderland-and-back', 'bob': 'builds-things'}


def htpasswd(folder):
    file = folder / 'htpasswd'
    file.write_text('\n'.join(peers.run(folder, '/usr/bin/htpasswd', '-nbB', user, password) for user, password in PASSWORDS.items()) + '\n')
    return file


def push(folder, host, path, module, user='alice'):
    """→ reference; the client logs in by itself."""
    ref = f'{host}/{path}:v1'
    peers.run(folder, 'oras', 'login', '--plain-http', '-u', user, '--password-stdin', host, stdin=PASSWORDS[user].encode())
    oras_variant(folder, ref, module)
    return ref


def basic_docker_registry(start, folder):
    return start(peers.docker_registry, folder, auth=f'auth: {{htpasswd: {{realm: interop, path: "{htpasswd(folder)}"}}}}\n')


def users_of_olareg(folder):
    lines = (line.split(':', 1) for line in htpasswd(folder).read_text().split())
    file = folder / 'users.yaml'
    file.write_text('users:\n' + ''.join(f'  {user}: {{cred: "{hashed.replace("$2y$", "$2a$")}"}}\n' for user, hashed in lines) +
                    'groups: {all: {members: [alice, bob]}}\nacls:\n  - {repo: "", members: [all], access: [read]}\n  - {repo: "alice/*", members: [alice], access: ["*"]}\n')
    return file


def basic_olareg(start, folder):
    return start(peers.olareg, folder, '--auth-basic', users_of_olareg(folder))


def token_olareg(start, folder):
    """Its realm is its own /token; the challenge of /v2/ has the scope "registry::pull"."""
    return start(peers.olareg, folder, '--auth-token-opaque', users_of_olareg(folder))


def token_server(start, folder):
    """docker-registry, and the reference token server on a port of its own; its realm is on the same host, so it may have the login."""
    peers.run(folder, '/usr/bin/openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=interop', '-keyout', 'key8.pem', '-out', 'cert.pem')
    peers.run(folder, '/usr/bin/openssl', 'rsa', '-traditional', '-in', 'key8.pem', '-out', 'key.pem')
    port = peers.free_port()
    tokens = start(peers.Server, folder, 'token-server', [peers.PEERS / 'token-server', '-addr', f'127.0.0.1:{port}', '-realm', 'interop', '-issuer', 'interop', '-key', folder / 'key.pem',
                                                          '-passwd', htpasswd(folder), '-debug'], port)
    registry = start(peers.docker_registry, folder,
                     auth=f'auth: {{token: {{realm: "http://{tokens.host}/token/", service: interop, issuer: interop, rootcertbundle: "{folder / "cert.pem"}"}}}}\n')
    registry.tokens = tokens
    return registry


SERVERS = [basic_docker_registry, basic_olareg, token_olareg, token_server]


@pytest.mark.parametrize('serve', SERVERS)
def test_login(tmp_path, modules, start, daemon, serve):
    registry = serve(start, tmp_path)
    ref = push(tmp_path, registry.host, 'alice/private', modules['small'])
    digest = 'sha256:' + hashlib.sha256(peers.run(tmp_path, 'oras', 'manifest', 'fetch', '--plain-http', ref).encode()).hexdigest()
    agent = daemon()
    agent.secret('right', registry.host, f'alice:{PASSWORDS["alice"]}')
    agent.secret('wrong', registry.host, 'alice:is not her password')
    agent.secret('elsewhere', 'registry.example', f'alice:{PASSWORDS["alice"]}')

    def refused(code, **more):
        answer = agent.get('oci://' + ref, **more)
        assert answer.body.get('code') == code, answer
        return answer

    def all_refused():
        assert refused('unauthorized').status in (401, 403)
        refused('unauthorized', imagePullSecret='wrong')
        refused('unauthorized', imagePullSecret='elsewhere')
        refused('secret_missing', imagePullSecret='absent')
        refused('unauthorized', pullSecret=peers.docker_config(registry.host, 'alice:nonsense'))

    all_refused()
    answer = agent.get('oci://' + ref, imagePullSecret='right')
    assert answer.status == 200, answer
    assert (answer.body['sha256'], answer.body['digest'], answer.body['source']) == (peers.sha256(modules['small'].read_bytes()), digest, 'pulled')
    all_refused()          # what is cached is not for those who may not pull it
    assert agent.get('oci://' + ref, imagePullSecret='right').body['source'] == 'cache'
    answer = agent.get('oci://' + ref, pullSecret=peers.docker_config(registry.host, f'alice:{PASSWORDS["alice"]}'))
    assert answer.status == 200, answer
    assert agent.get('oci://' + ref, imagePullSecret='right', imagePullPolicy='Always').body['source'] == 'revalidated'

    told = agent.log.read_text()
    for user, password in PASSWORDS.items():
        assert password not in told and base64.b64encode(f'{user}:{password}'.encode()).decode() not in told
    assert 'Bearer ey' not in told


@pytest.mark.parametrize('serve', [basic_olareg, token_olareg, token_server])
def test_another_user_is_refused(tmp_path, modules, start, daemon, serve):
    """bob has an account, but not there: a token without the right, or 403."""
    registry = serve(start, tmp_path)
    ref = push(tmp_path, registry.host, 'alice/private', modules['small'])
    agent = daemon()
    agent.secret('bob', registry.host, f'bob:{PASSWORDS["bob"]}')
    agent.secret('alice', registry.host, f'alice:{PASSWORDS["alice"]}')
    assert agent.get(ref, imagePullSecret='bob').body['code'] == 'unauthorized'
    assert agent.get(ref, imagePullSecret='alice').status == 200
    assert agent.get(ref, imagePullSecret='bob').body['code'] == 'unauthorized'


def test_entries_of_one_secret_are_tried_in_turn(tmp_path, modules, start, daemon):
    """The longest match first; when it is refused, the next."""
    registry = basic_docker_registry(start, tmp_path)
    ref = push(tmp_path, registry.host, 'alice/private', modules['small'])
    auths = {**peers.docker_config(f'{registry.host}/alice', 'alice:no longer right')['auths'], **peers.docker_config(registry.host, f'alice:{PASSWORDS["alice"]}')['auths']}
    answer = daemon().get(ref, pullSecret={'auths': auths})
    assert answer.status == 200, answer


def test_realm_that_is_no_url_is_refused(tmp_path, modules, start, daemon):
    """olareg that was not told its URL says realm="/token". As crane, oras and skopeo do: the password is sent nowhere."""
    first = peers.olareg(tmp_path)
    oras_variant(tmp_path, f'{first.host}/alice/private:v1', modules['small'])
    first.stop()
    registry = start(peers.olareg, tmp_path, '--auth-token-opaque', users_of_olareg(tmp_path), is_told_its_url=False)
    agent = daemon()
    agent.secret('right', registry.host, f'alice:{PASSWORDS["alice"]}')
    answer = agent.get(f'{registry.host}/alice/private:v1', imagePullSecret='right')
    assert answer.body['code'] == 'unauthorized' and '"/token"' in answer.body['detail'], answer


def test_one_token_serves_manifest_layer_and_revalidation(tmp_path, modules, start, daemon):
    registry = token_server(start, tmp_path)
    ref = push(tmp_path, registry.host, 'alice/private', modules['small'])
    agent = daemon()
    agent.secret('right', registry.host, f'alice:{PASSWORDS["alice"]}')
    before = len(registry.requests())
    assert agent.get(ref, imagePullSecret='right').status == 200
    assert agent.get(ref, imagePullSecret='right', imagePullPolicy='Always').body['source'] == 'revalidated'
    requests = [(method, status) for method, path, status in registry.requests()[before:]]
    assert requests == [('GET', 401), ('GET', 200), ('GET', 200), ('HEAD', 200)], registry.requests()[before:]
    asked = [line for line in registry.tokens.log.read_text().splitlines() if 'msg=getToken' in line and 'useragent=wasmcached' in line]
    assert len(asked) == 1 and 'http.request.method=GET' in asked[0] and 'scope=repository%3Aalice%2Fprivate%3Apull&' in asked[0], asked


def mount(folder, name, config):
    """A Secret as the kubelet mounts and changes it: files behind ..data, which is swapped."""
    secret = folder / 'secrets' / 'default' / name
    version = f'..{time.monotonic_ns()}'
    (secret / version).mkdir(parents=True)
    (secret / version / '.dockerconfigjson').write_text(json.dumps(config))
    os.symlink(version, secret / '..new')
    os.rename(secret / '..new', secret / '..data')
    if not (secret / '.dockerconfigjson').is_symlink():
        os.symlink('..data/.dockerconfigjson', secret / '.dockerconfigjson')


def test_a_password_that_changes(tmp_path, modules, start, daemon):
    """First at the registry, then in the mounted Secret: refused in between, and right at once after it, without a restart."""
    registry = basic_docker_registry(start, tmp_path)
    ref = push(tmp_path, registry.host, 'alice/private', modules['small'])
    agent = daemon()
    mount(agent.folder, 'pull', peers.docker_config(registry.host, f'alice:{PASSWORDS["alice"]}'))
    always = {'imagePullSecret': 'pull', 'imagePullPolicy': 'Always'}
    assert agent.get(ref, **always).body['source'] == 'pulled'
    changed = peers.run(tmp_path, '/usr/bin/htpasswd', '-nbB', 'alice', 'a new one')
    (tmp_path / 'htpasswd').write_text(changed + '\n')
    os.utime(tmp_path / 'htpasswd', (time.time() + 5, time.time() + 5))
    assert agent.get(ref, **always).body['code'] == 'unauthorized'
    assert agent.get(ref, **always).body['code'] == 'unauthorized'
    mount(agent.folder, 'pull', peers.docker_config(registry.host, 'alice:a new one'))
    answer = agent.get(ref, **always)
    assert answer.status == 200 and answer.body['source'] == 'revalidated', answer
    mount(agent.folder, 'pull', {'auths': {}})
    end = time.monotonic() + 3          # what a Secret says is kept for a second
    while (answer := agent.get(ref, imagePullSecret='pull')).status == 200 and time.monotonic() < end:
        time.sleep(0.1)
    assert answer.body.get('code') in ('secret_missing', 'unauthorized'), answer
