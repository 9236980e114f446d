"""Who may have what: pull secrets as the kubelet mounts them, grants between namespaces, files that a tenant sees, and where secrets must never be."""
import json
import os
import re
import stat
import subprocess

import pytest

from conftest import PASSWORD
from e2e_images import body_of, hexes, push
from e2e_servers import basic, docker_config


def secret_for(registry, password=PASSWORD):
    return docker_config(**{registry.host: ('puller', password)})


# ---- secrets_dir ----
@pytest.mark.parametrize('text', ['', ' ', '{', '[]', 'null', '{"auths": []}', '{"auths": {"x": 1}}', 'not json ' + PASSWORD, '{"auths": {"x": {"auth": "%%%"}}}', '{}', '{"auths": {}}'])
def test_malformed_secret(private, daemon, text):
    repository, _, _ = push(private)
    daemon.put_secret('default', 'broken', text)
    asked = len(private.requests())
    detail = daemon.bad(private.ref(repository), 'secret_missing', imagePullSecret='broken')
    assert 'broken' in detail and PASSWORD not in detail and PASSWORD not in daemon.told()
    assert len(private.requests()) == asked


def test_missing_secret_is_never_anonymous(registry, daemon):
    repository, _, _ = push(registry)
    asked = len(registry.requests())
    assert 'no-such' in daemon.bad(registry.ref(repository), 'secret_missing', imagePullSecret='no-such')
    os.makedirs(os.path.join(daemon.secrets, 'default', 'hollow'))
    assert 'hollow' in daemon.bad(registry.ref(repository), 'secret_missing', imagePullSecret='hollow')
    daemon.put_secret('default', 'other-type', 'x', 'tls.crt')
    daemon.bad(registry.ref(repository), 'secret_missing', imagePullSecret='other-type')
    assert len(registry.requests()) == asked
    # also when the module is here by an anonymous pull
    daemon.good(registry.ref(repository))
    daemon.bad(registry.ref(repository), 'secret_missing', imagePullSecret='no-such', imagePullPolicy='Always')


@pytest.mark.parametrize('name', ['ns/name', 'kubernetes://ns/name', 'configmap://x', '../default/pull', '..', '.', 'UPPER', 'a b', '-a', 'a' * 254, 'a/../b', '..data'])
def test_bad_secret_name(registry, daemon, name):
    assert 'imagePullSecret' in daemon.bad('oci://127.0.0.1:5/a:1', 'bad_request', 400, imagePullSecret=name)


def test_kubelet_swaps(private, daemon):
    """The kubelet mounts NAME/..data -> ..TIME and NAME/.dockerconfigjson -> ..data/.dockerconfigjson, and swaps ..data by rename."""
    repository, _, _ = push(private)
    folder = os.path.join(daemon.secrets, 'default', 'pull')

    def swap(version, password):
        os.makedirs(os.path.join(folder, version))
        with open(os.path.join(folder, version, '.dockerconfigjson'), 'w', encoding='utf-8') as stream:
            json.dump(secret_for(private, password), stream)
        os.symlink(version, os.path.join(folder, '..data_tmp'))
        os.rename(os.path.join(folder, '..data_tmp'), os.path.join(folder, '..data'))
    swap('..2026_01', 'old password')
    os.symlink('..data/.dockerconfigjson', os.path.join(folder, '.dockerconfigjson'))
    daemon.bad(private.ref(repository), 'unauthorized', imagePullSecret='pull')
    swap('..2026_02', PASSWORD)
    assert daemon.good(private.ref(repository), imagePullSecret='pull')['source'] == 'pulled'


def test_changed_secret_clears_the_refusal(private, make_daemon):
    daemon = make_daemon(pull={'negative_time': '1h'})
    repository, _, _ = push(private)
    daemon.put_secret('default', 'pull', secret_for(private, 'old password'))
    daemon.bad(private.ref(repository), 'unauthorized', imagePullSecret='pull')
    asked = len(private.requests())
    daemon.bad(private.ref(repository), 'unauthorized', imagePullSecret='pull')
    assert len(private.requests()) == asked
    daemon.put_secret('default', 'pull', secret_for(private))
    daemon.good(private.ref(repository), imagePullSecret='pull')


def test_refresh_clears_the_refusal(registry, make_daemon):
    daemon = make_daemon(pull={'negative_time': '1h'})
    url = registry.ref('later/pushed')
    daemon.bad(url, 'not_found')
    push(registry, repository='later/pushed')
    assert daemon.get(url).code == 'not_found'
    daemon.ctl('refresh', url)
    daemon.good(url)


def test_secret_of_another_namespace(private, daemon):
    repository, _, _ = push(private)
    daemon.put_secret('team-a', 'pull', secret_for(private))
    daemon.bad(private.ref(repository), 'secret_missing', imagePullSecret='pull')
    assert daemon.good(private.ref(repository), to='team', imagePullSecret='pull')
    daemon.bad(private.ref(repository), 'secret_missing', to='trusted', imagePullSecret='pull', namespace='team-b')


@pytest.mark.parametrize('bad', [{'auths': 1}, [], 'x', {'auths': {'h': []}}, 7])
def test_bad_inline_secret(registry, daemon, bad):
    assert 'pullSecret' in daemon.get('oci://127.0.0.1:5/a:1', pullSecret=bad).json['detail']


def test_both_secrets(daemon):
    daemon.bad('oci://127.0.0.1:5/a:1', 'bad_request', pullSecret={'auths': {}}, imagePullSecret='x')


# ---- grants ----
def test_grants_on_fixed_listeners(private, daemon):
    """One namespace has shown that it may pull; the cache gives nothing to the other."""
    repository, digest, module = push(private)
    daemon.put_secret('default', 'pull', secret_for(private))
    daemon.good(private.ref(repository), imagePullSecret='pull')
    for url in (private.ref(repository), private.ref(repository, digest)):
        daemon.bad(url, 'unauthorized', to='team')
        daemon.bad(url, 'unauthorized', to='team', sha256=digest[7:])
        daemon.bad(url, 'unauthorized', to='team', pullSecret=secret_for(private, 'wrong'))
        daemon.bad(url, 'unauthorized')               # the same namespace, but without the secret
    sha = hexes(module)
    assert daemon.ask('GET', f'/v1/modules/{sha}', to='team').code == 'not_found'
    assert daemon.ask('GET', f'/v1/modules/{sha}/content', to='team').code == 'not_found'
    assert daemon.ask('GET', '/v1/modules', to='team').json['modules'] == []
    assert not os.path.exists(f'{daemon.store}/modules/team-a/{sha}.wasm')
    daemon.restart()
    daemon.bad(private.ref(repository), 'unauthorized', to='team')
    assert daemon.good(private.ref(repository), imagePullSecret='pull')['source'] == 'cache'
    # the same credential has shown it already (KEP-2535); another good one must show it by one request, without a download
    blobs = private.count('GET', repository + '/blobs')
    assert daemon.good(private.ref(repository), to='team', pullSecret=secret_for(private))['source'] == 'cache'
    assert daemon.good(private.ref(repository), to='team', pullSecret=docker_config(**{private.host: ('other', 'other-' + PASSWORD)}))['source'] == 'revalidated'
    assert private.count('GET', repository + '/blobs') == blobs
    assert os.path.exists(f'{daemon.store}/modules/team-a/{sha}.wasm')


def test_grants_on_the_trusted_listener(private, daemon):
    repository, _, module = push(private)
    daemon.put_secret('team-b', 'pull', secret_for(private))
    daemon.good(private.ref(repository), to='trusted', namespace='team-b', imagePullSecret='pull')
    daemon.bad(private.ref(repository), 'unauthorized', to='trusted', namespace='team-c')
    daemon.bad(private.ref(repository), 'secret_missing', to='trusted', namespace='team-c', imagePullSecret='pull')
    assert [len(daemon.ask('GET', f'/v1/modules?namespace={name}', to='trusted').json['modules']) for name in ('team-b', 'team-c')] == [1, 0]
    assert daemon.good(private.ref(repository), to='trusted', namespace='team-b', imagePullSecret='pull')['path'] == f'{daemon.store}/modules/team-b/{hexes(module)}.wasm'


def test_unreachable_is_not_refused(start_server, htpasswd, make_daemon):
    from e2e_servers import Registry
    server = start_server(Registry, htpasswd, login=('puller', PASSWORD))
    daemon = make_daemon()
    repository, _, _ = push(server)
    daemon.good(server.ref(repository), pullSecret=secret_for(server))
    server.stop()
    assert daemon.good(server.ref(repository), pullSecret=secret_for(server))['source'] == 'cache'
    daemon.bad(server.ref(repository), 'upstream_unreachable', to='team', pullSecret=docker_config(**{server.host: ('other', 'other-' + PASSWORD)}))


def test_public_images_are_for_all_who_ask(registry, daemon):
    repository, _, _ = push(registry)
    daemon.good(registry.ref(repository))
    blobs = registry.count('GET', repository + '/blobs')
    assert daemon.good(registry.ref(repository), to='team')
    assert registry.count('GET', repository + '/blobs') == blobs


def test_namespace_of_the_body(registry, daemon):
    repository, _, _ = push(registry)
    assert daemon.good(registry.ref(repository), namespace='default')
    daemon.bad(registry.ref(repository), 'denied', 403, namespace='team-a')
    daemon.bad(registry.ref(repository), 'denied', 403, to='team', namespace='default')
    daemon.bad(registry.ref(repository), 'bad_request', 400, to='trusted', namespace='../x')
    assert '/modules/default/' in daemon.good(registry.ref(repository), to='trusted')['path']


# ---- files ----
def test_files_and_module_dir(registry, daemon):
    repository, _, module = push(registry)
    got = daemon.good(registry.ref(repository))
    blob = daemon.good(registry.ref(repository), to='admin')['path']
    assert blob.startswith(f'{daemon.store}/blobs/') and os.path.samefile(blob, got['path'])
    assert daemon.good(registry.ref(repository), to='team')['path'] == f'/seen/team-a/here/{hexes(module)}.wasm'
    assert os.path.samefile(f'{daemon.store}/modules/team-a/{hexes(module)}.wasm', blob)

    def mode(path):
        return stat.S_IMODE(os.stat(path).st_mode)
    assert (mode(got['path']), mode(os.path.dirname(got['path'])), mode(f'{daemon.store}/modules'), mode(f'{daemon.store}/blobs')) == (0o444, 0o755, 0o755, 0o700)
    assert mode(daemon.admin) == 0o600 and mode(daemon.agent) == 0o666
    assert daemon.good(registry.ref(repository), to='admin', namespace='team-b')['path'] == f'{daemon.store}/modules/team-b/{hexes(module)}.wasm'


@pytest.mark.skipif(os.geteuid() != 0, reason='needs root to be someone else')
def test_another_user(registry, daemon):
    repository, _, module = push(registry)
    got = daemon.good(registry.ref(repository))
    blob = daemon.good(registry.ref(repository), to='admin')['path']

    def nobody(*words):
        return subprocess.run(['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', *words], capture_output=True, check=False)
    assert nobody('cat', got['path']).stdout == module
    assert nobody('cat', blob).returncode != 0 and nobody('ls', os.path.dirname(blob)).returncode != 0
    assert nobody('sh', '-c', f'cat {daemon.store}/*.db {daemon.store}/*.sqlite* {daemon.store}/index* 2>/dev/null').stdout == b''
    assert nobody('sh', '-c', f'echo x >> {got["path"]}').returncode != 0
    assert nobody('rm', '-f', got['path']).returncode != 0
    from e2e_daemon import CTL
    assert nobody(CTL, '--socket', daemon.admin, 'status').returncode == 3
    listed = nobody(CTL, '--socket', daemon.agent, 'ls')
    assert listed.returncode == 0, listed.stderr


def test_umask_does_not_matter(registry, make_daemon):
    daemon = make_daemon(start=False)
    old = os.umask(0o077)
    try:
        daemon.start()
    finally:
        os.umask(old)
    repository, _, _ = push(registry)
    got = daemon.good(registry.ref(repository))
    assert [stat.S_IMODE(os.stat(path).st_mode) for path in (got['path'], os.path.dirname(got['path']), daemon.agent)] == [0o444, 0o755, 0o666]


# ---- where secrets must not be ----
def test_secrets_are_nowhere(private, make_daemon):
    daemon = make_daemon(log={'level': 'debug'})
    repository, _, _ = push(private)
    wrong = 'wr0ng-and-still-secret'
    daemon.put_secret('default', 'pull', secret_for(private))
    answers = [daemon.get(private.ref(repository), imagePullSecret='pull'), daemon.get(private.ref(repository), pullSecret=secret_for(private)),
               daemon.get(private.ref(repository), pullSecret=secret_for(private, wrong)), daemon.get(private.ref(repository), to='team', pullSecret={'auths': {private.host: {'auth': 7, 'password': PASSWORD}}}),
               daemon.ask('POST', '/v1/modules', '{"url": "oci://a/b", "pullSecret": {"auths": {"a": {"password": "' + PASSWORD + '"'), daemon.get(f'oci://puller:{PASSWORD}@{private.host}/a:b'),
               daemon.get(f'http://puller:{PASSWORD}@{private.host}/a.wasm'), daemon.ask('GET', '/metrics', to='admin'), daemon.ask('GET', '/v1/config', to='admin'), daemon.ask('GET', '/v1/events', to='admin'),
               daemon.ask('POST', '/v1/explain', {'url': private.ref(repository), 'pullSecret': secret_for(private)}, to='admin')]
    assert answers[0].status == answers[1].status == 200 and answers[2].code == 'unauthorized'
    inspected = daemon.ctl('inspect', private.ref(repository), '-o', 'json').stdout
    assert repository in inspected
    daemon.restart()
    needles = [word.encode() for secret in (PASSWORD, wrong) for word in (secret, basic('puller', secret), basic('puller', secret).rstrip('='))]
    texts = [answer.body for answer in answers] + [inspected.encode(), daemon.told().encode()]
    for folder, _, names in os.walk(daemon.store):
        texts += [body_of(os.path.join(folder, name)) for name in names]
    assert len(texts) > 13
    for text in texts:
        for needle in needles:
            assert needle not in text, text[:2000]


def test_secrets_are_not_printed_by_print_config(make_daemon):
    daemon = make_daemon(network={'http_proxy': f'http://user:{PASSWORD}@127.0.0.1:1'})
    from e2e_daemon import DAEMON
    shown = subprocess.run([DAEMON, '--config', daemon.file, '--print-config'], capture_output=True, text=True, check=True).stdout
    assert 'http_proxy' in shown and PASSWORD not in shown
    assert PASSWORD not in daemon.ask('GET', '/v1/config', to='admin').body.decode()
    assert not re.search(PASSWORD, daemon.told())
