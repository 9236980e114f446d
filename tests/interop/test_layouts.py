"""What real clients push, in every layout, on real registries: the daemon hands out the very module, by tag and by digest, and knows the manifest as `crane digest` does."""
import hashlib
import json
import platform

import pytest

import peers
from layouts import LAYOUTS, crane_append, only_tar_of, oras_cncf, oras_variant, put, regctl_setup

REGISTRIES = ('docker-registry', 'olareg', 'ggcr')


def digest_of(work, ref):
    return peers.run(work, 'crane', 'digest', '--insecure', ref)


def push(work, registry, layout, module, tag='v1'):
    """→ reference"""
    client, put = LAYOUTS[layout]
    if not peers.have(client):
        pytest.skip(f'{client} is not here')
    if client == 'wkg' and registry.log.stem == 'ggcr':
        pytest.skip('wkg wants a Location when a blob was taken, which the registry of crane does not send: they cannot talk')
    folder = work / f'{layout}-{registry.port}-{tag}'
    folder.mkdir(exist_ok=True)
    ref = f'{registry.host}/interop/{layout}:{tag}'
    put(folder, ref, module)
    return ref


def check(answer, module, digest, source):
    """The module object, and the file behind its path."""
    assert answer.status == 200, answer
    wanted = module.read_bytes()
    body = answer.body
    assert (body['sha256'], body['size'], body['digest'], body['source'], body['verified']) == (peers.sha256(wanted), len(wanted), digest, source, None)
    with open(body['path'], 'rb') as handed:
        assert hashlib.file_digest(handed, 'sha256').hexdigest() == body['sha256'] if hasattr(hashlib, 'file_digest') else peers.sha256(handed.read()) == body['sha256']


@pytest.mark.parametrize('name', REGISTRIES)
@pytest.mark.parametrize('layout', LAYOUTS)
def test_layout(work, modules, registries, daemon, layout, name):
    ref = push(work, registries[name], layout, modules['small'])
    digest = digest_of(work, ref)
    agent = daemon()
    check(agent.get('oci://' + ref), modules['small'], digest, 'pulled')
    check(agent.get(ref), modules['small'], digest, 'cache')
    check(agent.get(ref, sha256=digest[7:]), modules['small'], digest, 'cache')
    other = daemon()
    check(other.get(f'oci://{ref.rsplit(":", 1)[0]}@{digest}'), modules['small'], digest, 'pulled')
    third = daemon()
    refused = third.get(ref, sha256='0' * 64)
    assert (refused.status, refused.body['code']) == (409, 'checksum_mismatch') or refused.body['code'] == 'checksum_mismatch', refused
    check(third.get(ref, sha256=digest[7:]), modules['small'], digest, 'pulled')


@pytest.mark.parametrize('name', REGISTRIES)
@pytest.mark.parametrize('layout', ['docker-tar-gzip', 'oci-tar-zstd', 'variant-oras', 'cncf-regctl', 'cncf-wkg'])
def test_big_module(work, modules, registries, daemon, layout, name):
    ref = push(work, registries[name], layout, modules['big'], 'big')
    ran = daemon().ctl('get', ref, '-o', 'json')
    assert ran.returncode == 0, ran.stderr
    check(peers.Answer(200, {}, json.loads(ran.stdout)), modules['big'], digest_of(work, ref), 'pulled')


def index_by_crane(folder, ref, children):
    peers.run(folder, 'crane', 'index', 'append', '--insecure', '--flatten=false', *[word for child in children for word in ('-m', child)], '-t', ref)


def index_by_regctl(folder, ref, children):
    regctl_setup(folder, ref)
    peers.run(folder, 'regctl', 'index', 'create', ref, *[word for child in children for word in ('--ref', child)])


def index_by_oras(folder, ref, children):
    peers.run(folder, 'oras', 'manifest', 'index', 'create', '--plain-http', ref, *[child.rsplit(':', 1)[1] for child in children])


@pytest.mark.parametrize('name', REGISTRIES)
@pytest.mark.parametrize('make', [index_by_crane, index_by_oras, index_by_regctl])
def test_index(work, modules, registries, daemon, make, name):
    """A container image for another use stands first, the Wasm one (platform wasm/wasip1, or none by oras) second: the second is it. `sha256` may be the index's or the child's."""
    registry = registries[name]
    folder = work / f'{make.__name__}-{registry.port}'
    folder.mkdir()
    base = f'{registry.host}/interop/{make.__name__.replace("_", "-")}'
    crane_append(['--oci-empty-base'], 'L.tar.gz')(folder, f'{base}:a', modules['small2'])
    peers.run(folder, 'crane', 'mutate', '--insecure', '--set-platform', 'linux/s390x', f'{base}:a', '-t', f'{base}:a')
    oras_cncf(folder, f'{base}:b', modules['small'])
    make(folder, f'{base}:v1', [f'{base}:a', f'{base}:b'])
    top, child, other = (digest_of(folder, f'{base}:{tag}') for tag in ('v1', 'b', 'a'))
    index = json.loads(peers.run(folder, 'crane', 'manifest', '--insecure', f'{base}:v1'))
    assert [item.get('platform', {}).get('architecture') for item in index['manifests']] in (['s390x', 'wasm'], ['s390x', None]), index

    for pin in (top, child):
        agent = daemon()
        check(agent.get(f'{base}:v1', sha256=pin[7:]), modules['small'], agent.get(f'{base}:v1').body['digest'], 'pulled')
    agent = daemon()
    assert agent.get(f'{base}:v1', sha256=other[7:]).body['code'] == 'checksum_mismatch'
    answer = agent.get(f'{base}:v1')
    check(answer, modules['small'], answer.body['digest'], 'pulled')
    assert answer.body['digest'] == child
    check(daemon().get(f'{base}@{top}'), modules['small'], answer.body['digest'], 'pulled')
    check(daemon().get(f'{base}@{child}'), modules['small'], child, 'pulled')


@pytest.mark.parametrize('name', REGISTRIES)
def test_docker_manifest_list_of_platforms(work, modules, registries, daemon, name):
    """As a container build for several platforms leaves it: the image for this host's."""
    folder = work / f'list-{name}'
    folder.mkdir()
    base = f'{registries[name].host}/interop/list'
    here = {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(platform.machine(), platform.machine())
    regctl_setup(folder, base)
    for tag, system, module in (('a', 'linux/s390x', 'small2'), ('b', f'linux/{here}', 'small'), ('c', f'windows/{here}', 'small2')):
        crane_append([], 'L.tar.gz')(folder, f'{base}:{tag}', modules[module])
        peers.run(folder, 'crane', 'mutate', '--insecure', '--set-platform', system, f'{base}:{tag}', '-t', f'{base}:{tag}')
    peers.run(folder, 'regctl', 'index', 'create', '--media-type', 'application/vnd.docker.distribution.manifest.list.v2+json', f'{base}:v1', *[f'--ref={base}:{tag}' for tag in 'abc'])
    index = json.loads(peers.run(folder, 'crane', 'manifest', '--insecure', f'{base}:v1'))
    assert index['mediaType'].endswith('list.v2+json') and [item['platform']['architecture'] for item in index['manifests']] == ['s390x', here, here], index
    check(daemon().get(f'{base}:v1'), modules['small'], digest_of(folder, f'{base}:b'), 'pulled')
    only = daemon()
    peers.run(folder, 'regctl', 'index', 'create', f'{base}:none', f'--ref={base}:a', f'--ref={base}:c')
    answer = only.get(f'{base}:none')
    assert answer.body['code'] == 'unsupported_image' and 'linux/s390x' in answer.body['detail'] and f'windows/{here}' in answer.body['detail'], answer


@pytest.mark.parametrize('make', [index_by_crane, index_by_oras, index_by_regctl])
def test_nested_index_without_platforms(work, modules, registries, daemon, make):
    """Images without a platform: the first one, through an index in an index."""
    folder = work / f'nested-{make.__name__}'
    folder.mkdir()
    base = f'{registries["olareg"].host}/interop/nested-{make.__name__.replace("_", "-")}'
    oras_variant(folder, f'{base}:a', modules['small'])
    oras_variant(folder, f'{base}:b', modules['small2'])
    make(folder, f'{base}:inner', [f'{base}:a', f'{base}:b'])
    make(folder, f'{base}:v1', [f'{base}:inner'])
    answer = daemon().get(f'{base}:v1')
    assert answer.status == 200 and answer.body['sha256'] == peers.sha256(modules['small'].read_bytes()), answer


def test_warning_header_is_told_at_debug(work, modules, registries, daemon):
    ref = push(work, registries['olareg'], 'variant-oras', modules['small'], 'warned')
    agent = daemon()
    assert agent.get(ref).status == 200
    assert 'interop is watching' in agent.log.read_text()


def test_missing_things_are_not_found(registries, daemon):
    agent = daemon()
    for name in REGISTRIES:
        answer = agent.get(f'{registries[name].host}/interop/absent:v1')
        assert (answer.status, answer.body['code']) == (404, 'not_found'), answer


def oras_push(folder, ref, file, layer_type, *options):
    peers.run(folder, 'oras', 'push', '--plain-http', ref, *options, f'{file}:{layer_type}')


COMPONENT = b'\0asm\x0d\0\1\0'


@pytest.mark.parametrize('what, content, layer_type, codes, named', [
    ('component', COMPONENT, 'application/wasm', ('unsupported_image', 'not_wasm'), 'component'),
    ('text', b'# values\n', 'application/vnd.cncf.helm.chart.content.v1.tar+gzip', ('unsupported_image',), 'helm'),
    ('no-wasm', b'just text', 'application/wasm', ('not_wasm',), 'not'),
    ('cut-wasm', b'\0asm', 'application/wasm', ('not_wasm',), 'truncated')])
def test_what_is_no_module_is_refused_by_name(work, registries, daemon, what, content, layer_type, codes, named):
    folder = work / f'refused-{what}'
    folder.mkdir()
    ref = f'{registries["olareg"].host}/interop/refused-{what}:v1'
    oras_push(folder, ref, put(folder, 'file', content), layer_type, '--artifact-type', 'application/vnd.example')
    answer = daemon().get(ref)
    assert answer.body['code'] in codes and named in answer.body['detail'], answer


def test_image_without_module_is_refused_by_name(work, modules, registries, daemon):
    folder = work / 'refused-image'
    folder.mkdir()
    ref = f'{registries["docker-registry"].host}/interop/refused-image:v1'
    (folder / 'README').write_text('no module here')
    archive = put(folder, 'L.tar', only_tar_of(folder / 'README', 'plugin.text'))
    peers.run(folder, 'crane', 'append', '--insecure', '-f', archive, '-t', ref)
    answer = daemon().get(ref)
    assert answer.body['code'] in ('unsupported_image', 'not_wasm'), answer


def test_sha512(work, modules, registries, daemon):
    """Manifest and layers addressed by sha512, as regctl converts them."""
    folder = work / 'sha512'
    folder.mkdir()
    base = f'{registries["olareg"].host}/interop/sha512'
    oras_variant(folder, f'{base}:plain', modules['small'])
    regctl_setup(folder, base)
    peers.run(folder, 'regctl', 'image', 'mod', f'{base}:plain', '--create', f'{base}:v1', '--digest-algo', 'sha512')
    digest = peers.run(folder, 'regctl', 'manifest', 'head', f'{base}:v1')
    assert digest.startswith('sha512:')
    answer = daemon().get(f'{base}@{digest}')
    assert answer.status == 200 and answer.body['sha256'] == peers.sha256(modules['small'].read_bytes()) and answer.body['digest'] == digest, answer
    answer = daemon().get(f'{base}:v1')
    assert answer.status == 200 and answer.body['sha256'] == peers.sha256(modules['small'].read_bytes()), answer
