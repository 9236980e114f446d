"""TLS of a real registry (which then offers HTTP/2), client certificates, and a pull-through registry as mirror."""
import pytest

import peers
from layouts import oras_variant


def authority(folder):
    """ca.pem, and server.pem/.key and client.pem/.key that it signed."""
    openssl = '/usr/bin/openssl'
    peers.run(folder, openssl, 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=interop CA', '-keyout', 'ca.key', '-out', 'ca.pem')
    for name in ('server', 'client'):
        peers.run(folder, openssl, 'req', '-newkey', 'rsa:2048', '-nodes', '-subj', f'/CN={name}', '-keyout', f'{name}.key', '-out', f'{name}.csr')
        (folder / f'{name}.ext').write_text('subjectAltName=IP:127.0.0.1,DNS:localhost\n')
        peers.run(folder, openssl, 'x509', '-req', '-in', f'{name}.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2', '-extfile', f'{name}.ext', '-out', f'{name}.pem')


@pytest.fixture
def behind_tls(tmp_path, modules, start):
    """behind_tls(clients): a docker-registry on https with the big module in tls/big:v1, and what it said."""
    authority(tmp_path)

    def serve(clients=False):
        first = peers.docker_registry(tmp_path)
        oras_variant(tmp_path, f'{first.host}/tls/big:v1', modules['big'])
        first.stop()
        asked = f', clientcas: ["{tmp_path / "ca.pem"}"]' if clients else ''
        return start(peers.docker_registry, tmp_path, http=f', tls: {{certificate: "{tmp_path / "server.pem"}", key: "{tmp_path / "server.key"}"{asked}}}')
    return serve


def is_big(answer, modules):
    return answer.status == 200 and answer.body['sha256'] == peers.sha256(modules['big'].read_bytes())


def test_own_authority(tmp_path, modules, behind_tls, daemon):
    registry = behind_tls()
    ref = f'{registry.host}/tls/big:v1'
    answer = daemon().get(ref)          # loopback is spoken to in plain http unless the configuration says something of TLS
    assert answer.body['code'] == 'upstream_error' and 'HTTPS' in answer.body['detail'], answer
    peers.run(tmp_path, '/usr/bin/openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=another CA', '-keyout', 'another.key', '-out', 'another.pem')
    answer = daemon(f'registries: {{"{registry.host}": {{ca: "{tmp_path / "another.pem"}"}}}}\n').get(ref)
    assert answer.body['code'] == 'upstream_unreachable' and 'certificate' in answer.body['detail'], answer
    trusting = daemon(f'registries: {{"{registry.host}": {{ca: "{tmp_path / "ca.pem"}"}}}}\n')
    answer = trusting.get(ref)
    assert is_big(answer, modules), answer
    assert trusting.get(ref, imagePullPolicy='Always').body['source'] == 'revalidated'
    assert 'HTTP/2.0" 200' in registry.log.read_text()
    careless = daemon(f'registries: {{"{registry.host}": {{skip_verify: true}}}}\n')
    assert is_big(careless.get(ref), modules)


def test_client_certificate(tmp_path, modules, behind_tls, daemon):
    registry = behind_tls(clients=True)
    ref = f'{registry.host}/tls/big:v1'
    without = daemon(f'registries: {{"{registry.host}": {{ca: "{tmp_path / "ca.pem"}"}}}}\npull: {{retries: 0}}\n').get(ref)
    assert without.body['code'] == 'upstream_unreachable', without
    mutual = daemon(f'registries: {{"{registry.host}": {{ca: "{tmp_path / "ca.pem"}", client_certificate: "{tmp_path / "client.pem"}", client_key: "{tmp_path / "client.key"}"}}}}\n')
    answer = mutual.get(ref)
    assert is_big(answer, modules), answer


def test_cut_http2_transfer_goes_on(tmp_path, modules, behind_tls, start, daemon):
    """Nothing can be read on the wire; the first connection that has brought 5 MB breaks."""
    registry = behind_tls()
    proxy = start(peers.CutProxy, registry.port, r'', 5_000_000)
    proxy.cut_any()
    answer = daemon(f'registries: {{"{proxy.host}": {{ca: "{tmp_path / "ca.pem"}"}}}}\n').get(f'{proxy.host}/tls/big:v1')
    assert is_big(answer, modules), answer
    assert [(method, status) for method, path, status in registry.requests() if '/blobs/' in path and method == 'GET'][-1] == ('GET', 206), registry.requests()
    assert proxy.cuts == 0


def test_pull_through_mirror(tmp_path, modules, start, daemon):
    """A docker-registry that fetches what it has not: asked first, and alone once it has it. With the mirror gone, the origin serves."""
    origin_folder, mirror_folder = tmp_path / 'origin', tmp_path / 'mirror'
    origin_folder.mkdir()
    mirror_folder.mkdir()
    origin = start(peers.docker_registry, origin_folder)
    oras_variant(tmp_path, f'{origin.host}/mirrored/small:v1', modules['small'])
    mirror = start(peers.docker_registry, mirror_folder, auth=f'proxy: {{remoteurl: "http://{origin.host}"}}\n')
    settings = f'registries: {{"{origin.host}": {{mirrors: ["http://{mirror.host}"]}}}}\npull: {{retries: 0}}\n'
    digest = peers.run(tmp_path, 'crane', 'digest', '--insecure', f'{origin.host}/mirrored/small:v1')
    for _ in range(2):
        answer = daemon(settings).get(f'oci://{origin.host}/mirrored/small:v1')
        assert answer.status == 200 and (answer.body['digest'], answer.body['url']) == (digest, f'oci://{origin.host}/mirrored/small:v1'), answer
    origin.stop()
    assert daemon(settings).get(f'{origin.host}/mirrored/small@{digest}').status == 200
    mirror.stop()
    assert daemon(settings).get(f'{origin.host}/mirrored/small:v1').body['code'] == 'upstream_unreachable'


def test_mirror_that_is_down_or_has_it_not(tmp_path, modules, start, registries, daemon):
    origin = registries['docker-registry']
    oras_variant(tmp_path, f'{origin.host}/mirrored/other:v1', modules['small'])
    dead = f'127.0.0.1:{peers.free_port()}'
    empty = start(peers.olareg, tmp_path, name='empty')
    settings = f'registries: {{"{origin.host}": {{mirrors: ["http://{dead}", "http://{empty.host}"]}}}}\npull: {{retries: 0}}\n'
    answer = daemon(settings).get(f'{origin.host}/mirrored/other:v1')
    assert answer.status == 200 and answer.body['sha256'] == peers.sha256(modules['small'].read_bytes()), answer


def test_mirror_that_breaks_in_the_middle(tmp_path, modules, start, registries, daemon):
    """Manifest from the mirror, but never a whole layer, or no layer at all: the origin gives it."""
    origin = registries['docker-registry']
    ref = f'{origin.host}/mirrored/broken:v1'
    oras_variant(tmp_path, ref, modules['big'])
    cutting = start(peers.CutProxy, origin.port, r'^GET \S+/blobs/', 1_000_000, 99)
    answer = daemon(f'registries: {{"{origin.host}": {{mirrors: ["http://{cutting.host}"]}}}}\npull: {{retries: 1}}\n').get(ref)
    assert is_big(answer, modules), answer
    assert len(cutting.blobs()) >= 2

    emptied = start(peers.docker_registry, tmp_path, name='emptied')
    peers.run(tmp_path, 'oras', 'cp', '--from-plain-http', '--to-plain-http', ref, f'{emptied.host}/mirrored/broken:v1')
    for data in (tmp_path / 'emptied').glob('docker/registry/v2/blobs/sha256/*/*/data'):
        if data.stat().st_size > 10_000:
            data.unlink()
    agent = daemon(f'registries: {{"{origin.host}": {{mirrors: ["http://{emptied.host}"]}}}}\npull: {{retries: 0}}\n')
    answer = agent.get(ref)
    assert is_big(answer, modules), answer
    assert [status for method, path, status in emptied.requests() if '/blobs/' in path and method == 'GET'] == [404]


def test_damaged_layer_is_never_handed_out(tmp_path, modules, start, daemon):
    """Bytes of a layer change on the registry's disk: refused by its digest, and taken as soon as it is right again."""
    registry = start(peers.docker_registry, tmp_path)
    ref = f'{registry.host}/damaged/big:v1'
    oras_variant(tmp_path, ref, modules['big'])
    file = next(data for data in (tmp_path / 'docker-registry').glob('docker/registry/v2/blobs/sha256/*/*/data') if data.stat().st_size > 10_000)
    right = file.read_bytes()
    file.write_bytes(right[:7_000_000] + b'!' + right[7_000_001:])
    agent = daemon('pull: {negative_time: 0s}\n')
    answer = agent.get(ref)
    assert answer.body['code'] == 'checksum_mismatch', answer
    file.write_bytes(right[:-5])
    answer = agent.get(ref)
    assert answer.status != 200 and answer.body['code'] in ('checksum_mismatch', 'upstream_error'), answer
    file.write_bytes(right)
    assert is_big(agent.get(ref), modules)
