"""Air gaps: OCI image layouts that real tools wrote are imported, and what we export real tools read."""
import json
import tarfile

import pytest

import peers
from layouts import crane_append, oras_cncf, oras_variant, regctl_setup


def by_skopeo(folder, ref):
    peers.run(folder, '/usr/bin/skopeo', 'copy', '--quiet', '--insecure-policy', '--src-tls-verify=false', f'docker://{ref}', 'oci:layout:v1')
    return folder / 'layout'


def by_skopeo_archive(folder, ref):
    peers.run(folder, '/usr/bin/skopeo', 'copy', '--quiet', '--insecure-policy', '--src-tls-verify=false', f'docker://{ref}', 'oci-archive:layout.tar:v1')
    return folder / 'layout.tar'


def by_oras(folder, ref):
    peers.run(folder, 'oras', 'cp', '--from-plain-http', '--to-oci-layout', ref, 'layout:v1')
    return folder / 'layout'


def by_crane(folder, ref):
    peers.run(folder, 'crane', 'pull', '--insecure', '--format=oci', ref, 'layout')
    return folder / 'layout'


def by_regctl(folder, ref):
    regctl_setup(folder, ref)
    peers.run(folder, 'regctl', 'image', 'export', ref, 'layout.tar')
    return folder / 'layout.tar'


@pytest.mark.parametrize('push', [oras_variant, oras_cncf, crane_append([], 'L.tar.gz')], ids=['variant', 'cncf', 'docker-tar-gzip'])
@pytest.mark.parametrize('make', [by_skopeo, by_skopeo_archive, by_oras, by_crane, by_regctl])
def test_import(tmp_path, modules, registries, daemon, make, push):
    if 'skopeo' in make.__name__ and not peers.have('skopeo'):
        pytest.skip('skopeo is not here')
    ref = f'{registries["olareg"].host}/interop/import:v1'
    push(tmp_path, ref, modules['small'])
    layout = make(tmp_path, ref)
    agent = daemon()
    url = 'oci://registry.invalid/team/imported:v1'
    ran = agent.ctl('import', layout, '--url', url, admin=True)
    assert ran.returncode == 0, ran.stderr
    answer = agent.get(url)
    assert answer.status == 200 and answer.body['source'] == 'cache' and answer.body['sha256'] == peers.sha256(modules['small'].read_bytes()), answer


@pytest.mark.parametrize('form', ['folder', 'archive'])
def test_export(tmp_path, modules, registries, daemon, form):
    ref = f'{registries["olareg"].host}/interop/export:v1'
    oras_cncf(tmp_path, ref, modules['small'])
    agent = daemon()
    assert agent.get(ref).status == 200
    path = tmp_path / ('out.tar' if form == 'archive' else 'out')
    ran = agent.ctl('export', ref, path, admin=True)
    assert ran.returncode == 0, ran.stderr
    if form == 'archive':
        with tarfile.open(path) as archive:
            archive.extractall(tmp_path / 'out')
    out = tmp_path / 'out'
    index = json.loads((out / 'index.json').read_text())
    digest = index['manifests'][0]['digest']

    back = f'{registries["docker-registry"].host}/interop/exported:v1'
    peers.run(tmp_path, 'oras', 'cp', '--from-oci-layout', '--to-plain-http', f'out@{digest}', back)
    assert peers.run(tmp_path, 'crane', 'digest', '--insecure', back) == digest
    peers.run(tmp_path, 'crane', 'validate', '--insecure', '--remote', back)
    answer = daemon().get(back)
    assert answer.status == 200 and answer.body['sha256'] == peers.sha256(modules['small'].read_bytes()), answer
    if peers.have('skopeo'):
        peers.run(tmp_path, '/usr/bin/skopeo', 'inspect', '--raw', 'oci:out')
    peers.run(tmp_path, 'regctl', 'manifest', 'get', f'ocidir://out@{digest}')


def test_import_of_what_was_exported(tmp_path, modules, registries, daemon):
    ref = f'{registries["olareg"].host}/interop/round:v1'
    oras_variant(tmp_path, ref, modules['big'])
    first, second = daemon(), daemon('pull: {retries: 0}\n')
    assert first.get(ref).status == 200
    assert first.ctl('export', ref, tmp_path / 'round.tar', admin=True).returncode == 0
    ran = second.ctl('import', tmp_path / 'round.tar', admin=True)
    assert ran.returncode == 0, ran.stderr
    answer = second.get(ref)
    assert answer.body['source'] == 'cache' and answer.body['sha256'] == peers.sha256(modules['big'].read_bytes()), answer


@pytest.mark.parametrize('make', [by_oras, by_crane, by_regctl])
def test_imported_module_satisfies_its_manifest_digest(tmp_path, modules, registries, daemon, make):
    """A plugin that pins `sha256`, or names the image by digest, is a hit behind the air gap too."""
    ref = f'{registries["olareg"].host}/interop/pinned:v1'
    oras_variant(tmp_path, ref, modules['small'])
    digest = peers.run(tmp_path, 'crane', 'digest', '--insecure', ref)
    agent = daemon('pull: {retries: 0}\n')
    ran = agent.ctl('import', make(tmp_path, ref), '--url', 'oci://registry.invalid/team/pinned:v1', admin=True)
    assert ran.returncode == 0, ran.stderr
    for url, more in (('oci://registry.invalid/team/pinned:v1', {'sha256': digest[7:]}), (f'oci://registry.invalid/team/pinned@{digest}', {})):
        answer = agent.get(url, **more)
        assert answer.status == 200 and answer.body['source'] == 'cache' and answer.body['digest'] == digest, answer


@pytest.mark.parametrize('make', [by_oras, by_crane])
def test_imported_index_satisfies_both_its_digests(tmp_path, modules, registries, daemon, make):
    base = f'{registries["olareg"].host}/interop/pinned-index'
    crane_append(['--oci-empty-base'], 'L.tar.gz')(tmp_path, f'{base}:a', modules['small2'])
    oras_cncf(tmp_path, f'{base}:b', modules['small'])
    peers.run(tmp_path, 'crane', 'index', 'append', '--insecure', '--flatten=false', '-m', f'{base}:a', '-m', f'{base}:b', '-t', f'{base}:v1')
    top, child, other = (peers.run(tmp_path, 'crane', 'digest', '--insecure', f'{base}:{tag}') for tag in ('v1', 'b', 'a'))
    url = 'oci://registry.invalid/team/index:v1'
    agent = daemon('pull: {retries: 0}\n')
    ran = agent.ctl('import', make(tmp_path, f'{base}:v1'), '--url', url, admin=True)
    assert ran.returncode == 0, ran.stderr
    for _ in range(2):
        for pin in (top, child):
            answer = agent.get(url, sha256=pin[7:])
            assert answer.status == 200 and answer.body['source'] == 'cache' and answer.body['sha256'] == peers.sha256(modules['small'].read_bytes()), answer
        assert agent.get(url, sha256=other[7:]).status != 200
        agent.stop()
        agent.start()
