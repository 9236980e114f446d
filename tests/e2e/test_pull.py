"""Contract section 1 on a real docker-registry: layouts, digests, policies, errors."""
import os

import pytest

from content import OCI_CONFIG, OCI_INDEX, WASME_CONFIG, COMPONENT, gz, image, index, tar, wasm
from e2e_images import Image, MODES, body_of, hexes, layout, push, sha256, unique

NOT_ON_DOCKER_REGISTRY = {'good-embedded': 'docker-registry demands the blob', 'good-foreign-urls': 'docker-registry 2.8 refuses urls', 'good-no-media-type': 'pushed by the fake registry: docker-registry has its own mind about it'}
GOOD = [name for name, mode in MODES.items() if mode.code == 'ok' and name.startswith('good-') and name not in NOT_ON_DOCKER_REGISTRY]


@pytest.mark.parametrize('name', GOOD)
def test_layout(daemon, registry, name):
    made = layout(name).push(registry)
    got = daemon.good(registry.ref(made.name))
    data = body_of(got['path'])
    assert hexes(data) == got['sha256'] and len(data) == got['size'] and data[:8] == b'\0asm\1\0\0\0'
    if name not in ('good-raw', 'good-large'):
        assert data == wasm(made.name)
    assert got['source'] == 'pulled' and got['verified'] is None
    assert got['digest'] in made.manifests
    assert got['path'] == f"{daemon.store}/modules/default/{got['sha256']}.wasm"
    assert daemon.good(registry.ref(made.name))['source'] == 'cache'


def test_same_module_of_two_images_is_one_file(daemon, registry):
    module = wasm('shared')
    first, _, _ = push(registry, module)
    second, _, _ = push(registry, module, tag='other')
    a, b = daemon.good(registry.ref(first)), daemon.good(registry.ref(second, 'other'))
    assert a['path'] == b['path'] and a['sha256'] == hexes(module)
    assert len(daemon.ask('GET', '/v1/modules').json['modules']) == 1


def test_digest_and_sha256(daemon, registry):
    repository, digest, module = push(registry)
    got = daemon.good(registry.ref(repository, digest))
    assert got['digest'] == digest and got['sha256'] == hexes(module)
    plain = digest.removeprefix('sha256:')
    assert daemon.good(registry.ref(repository), sha256=plain)['sha256'] == hexes(module)
    assert daemon.good(registry.ref(repository) + '@' + digest)['sha256'] == hexes(module)
    assert daemon.good(registry.ref(repository, digest), sha256=plain)['sha256'] == hexes(module)
    assert plain in daemon.bad(registry.ref(repository), 'checksum_mismatch', sha256='a' * 64)
    # the module's own hash is no manifest digest
    daemon.bad(registry.ref(repository), 'checksum_mismatch', sha256=hexes(module))


def test_disagreement_is_told_before_network(daemon, registry):
    repository, digest, _ = push(registry)
    asked = registry.count('GET', '') + registry.count('HEAD', '')
    daemon.bad(registry.ref(repository, digest), 'checksum_mismatch', sha256='b' * 64)
    assert registry.count('GET', '') + registry.count('HEAD', '') == asked
    daemon.bad('oci://127.0.0.1:1/a/b@' + digest, 'checksum_mismatch', sha256='b' * 64)


def test_top_and_child_digest_of_an_index(daemon, registry):
    made = Image(unique())
    child = made.raw_image(tag=None)
    inner = made.manifest(index([child | {'platform': {'os': 'wasi', 'architecture': 'wasm'}}]), OCI_INDEX)
    top = made.manifest(index([inner]), OCI_INDEX, tag='v1')
    made.push(registry)
    for digest in (top['digest'], child['digest']):
        assert daemon.good(registry.ref(made.name), sha256=digest.removeprefix('sha256:'))['sha256'] == hexes(wasm(made.name))
        assert daemon.good(registry.ref(made.name, digest))['sha256'] == hexes(wasm(made.name))
    daemon.bad(registry.ref(made.name), 'checksum_mismatch', sha256='c' * 64)


def test_no_scheme_is_oci(daemon, registry):
    repository, _, _ = push(registry)
    assert daemon.good(f'{registry.host}/{repository}:v1')['source'] == 'pulled'
    assert daemon.good(f'OCI://{registry.host}/{repository}:v1')['source'] == 'cache'
    # another registry by name: it has to bring the bytes once, whatever is here from others; then its word is enough
    blobs = registry.count('GET', repository + '/blobs')
    assert daemon.good(f'localhost:{registry.port}/{repository}:v1')['source'] == 'pulled'
    assert daemon.good(f'localhost:{registry.port}/{repository}:v1', imagePullPolicy='Always')['source'] == 'revalidated'
    assert registry.count('GET', repository + '/blobs') == blobs + 1


@pytest.mark.parametrize('url, code', [
    ('', 'bad_url'), ('s3://b/k', 'bad_url'), ('oci://user:pass@127.0.0.1:5/a:b', 'bad_url'), ('oci://127.0.0.1:5/a?x=1', 'bad_url'), ('oci://127.0.0.1:5/a#x', 'bad_url'), ('oci://127.0.0.1:5/a b', 'bad_url'),
    ('oci://127.0.0.1:5/A/b:v1', 'bad_url'), ('oci://127.0.0.1:5/a/', 'bad_url'), ('oci://127.0.0.1:5/a:v1\n', 'bad_url'), (' oci://127.0.0.1:5/a:v1', 'bad_url'), ('file://relative/x', 'bad_url'), ('file:///', 'bad_url'),
    ('http://u:p@127.0.0.1/x.wasm', 'bad_url'), ('http:///x', 'bad_url'), ('oci://127.0.0.1:5/a@sha256:12', 'bad_url'), ('oci://127.0.0.1:99999/a', 'bad_url'), ('oci://', 'bad_url'), ('oci://127.0.0.1:5/a@md5:' + 'a' * 32, 'bad_url'),
    ('oci://127.0.0.1:5/' + 'a' * 300, 'bad_url'), ('oci://127.0.0.1:5/a:' + 'b' * 129, 'bad_url')])
def test_bad_url(daemon, url, code):
    daemon.bad(url, code, 400)


def test_errors_of_the_registry(daemon, registry):
    repository, _, _ = push(registry)
    assert registry.host in daemon.bad(registry.ref(repository, 'absent'), 'not_found', 404)
    daemon.bad(registry.ref('no/such'), 'not_found', 404)
    daemon.bad('oci://127.0.0.1:1/a/b:v1', 'upstream_unreachable')
    daemon.bad(registry.ref(repository), 'bad_key', verificationKey='-----BEGIN PUBLIC KEY-----\nnot one\n-----END PUBLIC KEY-----')


def test_bad_images(daemon, registry):
    def pushed(build):
        made = Image(unique('bad'))
        build(made)
        made.push(registry)
        return registry.ref(made.name)

    assert 'component' in daemon.bad(pushed(lambda made: made.raw_image(COMPONENT + bytes(8))), 'not_wasm')
    daemon.bad(pushed(lambda made: made.raw_image(b'#!/bin/sh\n')), 'not_wasm')
    daemon.bad(pushed(lambda made: made.raw_image(b'\0asm')), 'not_wasm')
    daemon.bad(pushed(lambda made: made.raw_image(gz(wasm('x')))), 'not_wasm')
    daemon.bad(pushed(lambda made: made.tar_image(archive=tar([('other.wasm', wasm('x'))]))), 'unsupported_image')
    daemon.bad(pushed(lambda made: made.tar_image(gz(b'not a tar' * 100), archive=b'not a tar' * 100)), 'unsupported_image')
    daemon.bad(pushed(lambda made: made.manifest(image(made.layer(OCI_CONFIG, b'{}'), []), tag='v1')), 'unsupported_image')
    daemon.bad(pushed(lambda made: made.manifest(image(made.layer(WASME_CONFIG, b'{}'), [made.layer('application/wasm', wasm('1')), made.layer('application/wasm', wasm('2'))]), tag='v1')), 'unsupported_image')


def test_too_large(make_daemon, registry):
    daemon = make_daemon(pull={'max_layer_size': '1MiB', 'max_module_size': '64KiB'})
    repository, _, _ = push(registry, wasm('big layer', 2 << 20))
    daemon.bad(registry.ref(repository), 'too_large')
    made = Image(unique())
    made.tar_image(archive=tar([('plugin.wasm', wasm('big module', 100 << 10))]))
    made.push(registry)
    daemon.bad(registry.ref(made.name), 'too_large')
    assert daemon.ask('GET', '/v1/modules').json['modules'] == []


def test_bomb(daemon, registry):
    made = Image(unique())
    archive = tar([('plugin.wasm', wasm('bomb') + bytes(64 << 20))])
    made.tar_image(archive=archive)
    made.push(registry)
    daemon.bad(registry.ref(made.name), 'too_large')


# ---- policies ----
def retag(registry, repository, tag, name):
    return push(registry, wasm(name), repository, tag)


def test_if_not_present_keeps_the_tag(daemon, registry):
    repository, digest, _ = push(registry)
    assert daemon.good(registry.ref(repository))['digest'] == digest
    asked = len(registry.requests())
    retag(registry, repository, 'v1', 'newer')
    pushed = len(registry.requests()) - asked
    got = daemon.good(registry.ref(repository))
    assert (got['digest'], got['source']) == (digest, 'cache')
    assert daemon.good(registry.ref(repository), imagePullPolicy='UNSPECIFIED_POLICY')['source'] == 'cache'
    assert len(registry.requests()) == asked + pushed


def test_always_costs_one_head(daemon, registry):
    repository, digest, _ = push(registry)
    url = registry.ref(repository)
    assert daemon.good(url, imagePullPolicy='Always')['source'] == 'pulled'
    heads, gets = registry.count('HEAD', repository + '/manifests'), registry.count('GET', repository)
    got = daemon.good(url, imagePullPolicy='Always')
    assert (got['source'], got['digest']) == ('revalidated', digest)
    assert (registry.count('HEAD', repository + '/manifests'), registry.count('GET', repository)) == (heads + 1, gets)
    _, newer, module = retag(registry, repository, 'v1', 'newer ' + repository)
    got = daemon.good(url, imagePullPolicy='Always')
    assert (got['source'], got['digest'], got['sha256']) == ('pulled', newer, hexes(module))
    assert daemon.good(url)['digest'] == newer


@pytest.mark.parametrize('tag', ['latest', None])
def test_latest_is_always(daemon, registry, tag):
    repository, _, _ = push(registry, tag='latest')
    url = registry.ref(repository, 'latest') if tag else f'oci://{registry.host}/{repository}'
    daemon.good(url)
    _, newer, _ = retag(registry, repository, 'latest', 'newer ' + repository)
    assert daemon.good(url)['digest'] == newer
    _, newest, _ = retag(registry, repository, 'latest', 'newest ' + repository)
    assert daemon.good(url, imagePullPolicy='IfNotPresent')['digest'] == newer
    assert daemon.good(url, sha256=newer.removeprefix('sha256:'))['digest'] == newer
    assert daemon.good(url, imagePullPolicy='Always')['digest'] == newest


def test_digest_ignores_always(daemon, registry):
    repository, digest, _ = push(registry)
    url = registry.ref(repository, digest)
    daemon.good(url)
    asked = len(registry.requests())
    assert daemon.good(url, imagePullPolicy='Always')['source'] == 'cache'
    assert daemon.good(registry.ref(repository) + '@' + digest, imagePullPolicy='Always')['source'] == 'cache'
    assert len(registry.requests()) == asked


def test_sha256_ignores_always(daemon, registry):
    repository, digest, _ = push(registry)
    daemon.good(registry.ref(repository), sha256=digest[7:])
    asked = len(registry.requests())
    assert daemon.good(registry.ref(repository), sha256=digest[7:], imagePullPolicy='Always')['source'] == 'cache'
    assert len(registry.requests()) == asked


def test_resource_version(daemon, registry):
    repository, _, _ = push(registry)
    url = registry.ref(repository)

    def heads(name, version):
        before = registry.count('HEAD', repository) + registry.count('GET', repository + '/manifests')
        daemon.good(url, imagePullPolicy='Always', resource={'name': name, 'version': version})
        return registry.count('HEAD', repository) + registry.count('GET', repository + '/manifests') - before
    assert heads('a', '1') >= 1
    assert heads('a', '1') == 0
    assert heads('a', '2') == 1
    assert heads('a', '2') == 0
    assert heads('b', '2') == 1
    daemon.restart()
    assert heads('a', '2') <= 1


def test_layers_are_gone_after_pull(daemon, registry):
    repository, _, _ = push(registry)
    daemon.good(registry.ref(repository))
    files = [name for _, _, names in os.walk(os.path.join(daemon.store, 'blobs')) for name in names]
    assert len(files) == 1
    assert sha256(b'')[7:] not in files


def test_policy_text_is_checked(daemon, registry):
    assert 'imagePullPolicy' in daemon.bad('oci://127.0.0.1:5/a:1', 'bad_request', 400, imagePullPolicy='Never')
