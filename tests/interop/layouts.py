"""Every layout that a real client can push, as a table: name → (client, push). push(work, ref, module) runs the client; ref is host/path:tag."""
import gzip
import hashlib
import io
import json
import subprocess
import tarfile

from peers import run

OCI_CONFIG = 'application/vnd.oci.image.config.v1+json'
OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar'
WASM_CONFIG = 'application/vnd.module.wasm.config.v1+json'
WASM_LAYER = 'application/vnd.module.wasm.content.layer.v1+wasm'


def put(work, name, data):
    (work / name).write_bytes(data)
    return name


def only_tar_of(module, name='plugin.wasm'):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode='w') as tar:
        tar.add(module, name)
    return archive.getvalue()


def copy(work, module):
    return put(work, 'plugin.wasm', module.read_bytes())


def cncf_config(work, module):
    return put(work, 'cncf.json', json.dumps({'created': '2026-01-01T00:00:00Z', 'architecture': 'wasm', 'os': 'wasip1', 'layerDigests': []}).encode())


def crane_append(base, layer):
    def push(work, ref, module):
        run(work, 'crane', 'append', '--insecure', *base, '-f', put(work, layer, gzip.compress(only_tar_of(module)) if layer.endswith('gz') else only_tar_of(module)), '-t', ref)
    return push


def crane_mutated(work, ref, module):
    """A second layer with the module: the last one counts, the first has none."""
    empty = put(work, 'first.tar.gz', gzip.compress(only_tar_of(module, 'doc/text')))
    run(work, 'crane', 'append', '--insecure', '-f', empty, '-t', ref)
    run(work, 'crane', 'append', '--insecure', '-b', ref, '-f', put(work, 'L.tar.gz', gzip.compress(only_tar_of(module))), '-t', ref)


def oras_image(form, make):
    def push(work, ref, module):
        put(work, 'image.json', json.dumps({'architecture': 'wasm', 'os': 'wasi', 'rootfs': {'type': 'layers', 'diff_ids': []}, 'config': {}}).encode())
        run(work, 'oras', 'push', '--plain-http', ref, '--disable-path-validation', '--config', f'image.json:{OCI_CONFIG}', f'{make(work, module)}:{OCI_LAYER}{form}')
    return push


def zstd(work, module):
    """Two frames, as parallel compressors write them."""
    data = only_tar_of(module)
    frames = [subprocess.run(['zstd', '-q', '-c'], input=part, stdout=subprocess.PIPE, check=True).stdout for part in (data[:5000], data[5000:])]
    return put(work, 'L.tar.zst', b''.join(frames))


def gzip_members(work, module):
    """Two gzip members, as pigz and estargz write them."""
    data = only_tar_of(module)
    return put(work, 'L.tar.gz', gzip.compress(data[:5000]) + gzip.compress(data[5000:]))


def oras_variant(work, ref, module):
    put(work, 'wasm.json', b'{"type":"envoy_proxy","abiVersions":["v0-2-1"],"config":{}}')
    run(work, 'oras', 'push', '--plain-http', ref, '--config', f'wasm.json:{WASM_CONFIG}', f'{copy(work, module)}:{WASM_LAYER}')


def oras_cncf(work, ref, module):
    run(work, 'oras', 'push', '--plain-http', ref, '--config', f'{cncf_config(work, module)}:application/vnd.wasm.config.v0+json', f'{copy(work, module)}:application/wasm')


def oras_cncf_as_wkg(work, ref, module):
    """What wkg 0.16.1 writes, a core module too: os wasip2 and a "component" in the config."""
    put(work, 'wkg.json', json.dumps({'created': '2026-01-01T00:00:00.000000000Z', 'architecture': 'wasm', 'os': 'wasip2', 'layerDigests': ['sha256:' + hashlib.sha256(module.read_bytes()).hexdigest()],
                                      'component': {'exports': [], 'imports': [], 'target': None}}).encode())
    run(work, 'oras', 'push', '--plain-http', ref, '--config', 'wkg.json:application/vnd.wasm.config.v0+json', f'{copy(work, module)}:application/wasm')


def oras_artifact(work, ref, module):
    run(work, 'oras', 'push', '--plain-http', ref, '--artifact-type', 'application/vnd.example.wasm', f'{copy(work, module)}:application/wasm')


def oras_old_artifact(work, ref, module):
    run(work, 'oras', 'push', '--plain-http', ref, '--image-spec', 'v1.0', '--artifact-type', 'application/vnd.example.wasm', f'{copy(work, module)}:application/wasm')


def regctl_setup(work, ref):
    run(work, 'regctl', 'registry', 'set', '--tls', 'disabled', ref.split('/')[0], '--skip-check')


def regctl_artifact(work, ref, module):
    regctl_setup(work, ref)
    run(work, 'regctl', 'artifact', 'put', '--artifact-type', 'application/vnd.example.wasm', '--file', copy(work, module), '--file-media-type', 'application/wasm', ref)


def regctl_variant(work, ref, module):
    regctl_setup(work, ref)
    run(work, 'regctl', 'artifact', 'put', '--config-file', put(work, 'wasm.json', b'{}'), '--config-type', WASM_CONFIG, '--file', copy(work, module), '--file-media-type', WASM_LAYER, ref)


def regctl_cncf(work, ref, module):
    regctl_setup(work, ref)
    run(work, 'regctl', 'artifact', 'put', '--config-file', cncf_config(work, module), '--config-type', 'application/vnd.wasm.config.v0+json', '--file', copy(work, module), '--file-media-type',
        'application/wasm', ref)


def regctl_image(work, ref, module):
    regctl_setup(work, ref)
    folder = work / 'tree'
    folder.mkdir(exist_ok=True)
    (folder / 'plugin.wasm').write_bytes(module.read_bytes())
    run(work, 'regctl', 'image', 'create', ref)
    run(work, 'regctl', 'image', 'mod', ref, '--create', ref.rsplit(':', 1)[1], '--layer-add', f'dir={folder}')


def skopeo_copy(*options):
    def push(work, ref, module):
        first = ref.rsplit(':', 1)[0] + ':before-skopeo'
        crane_append([], 'L.tar.gz')(work, first, module)
        run(work, '/usr/bin/skopeo', 'copy', '--quiet', '--insecure-policy', '--src-tls-verify=false', '--dest-tls-verify=false', *options, f'docker://{first}', f'docker://{ref}')
    return push


def regctl_mod(*options):
    def push(work, ref, module):
        first = ref.rsplit(':', 1)[0] + ':before-regctl'
        crane_append(['--oci-empty-base'] if '--to-docker' in options else [], 'L.tar.gz')(work, first, module)
        regctl_setup(work, ref)
        run(work, 'regctl', 'image', 'mod', first, '--create', ref, *options)
    return push


def wkg_push(work, ref, module):
    host = ref.split('/')[0]
    run(work, 'wkg', 'oci', 'push', '--insecure', host, ref, copy(work, module))


LAYOUTS = {
    'docker-tar-gzip': ('crane', crane_append([], 'L.tar.gz')),
    'docker-tar': ('crane', crane_append([], 'L.tar')),
    'docker-two-layers': ('crane', crane_mutated),
    'oci-tar-gzip': ('crane', crane_append(['--oci-empty-base'], 'L.tar.gz')),
    'oci-tar': ('crane', crane_append(['--oci-empty-base'], 'L.tar')),
    'oci-tar-plain-oras': ('oras', oras_image('', lambda work, module: put(work, 'L.tar', only_tar_of(module)))),
    'oci-tar-gzip-members': ('oras', oras_image('+gzip', gzip_members)),
    'oci-tar-zstd': ('oras', oras_image('+zstd', zstd)),
    'variant-oras': ('oras', oras_variant),
    'cncf-oras': ('oras', oras_cncf),
    'cncf-as-wkg': ('oras', oras_cncf_as_wkg),
    'artifact-oras': ('oras', oras_artifact),
    'artifact-oras-1.0': ('oras', oras_old_artifact),
    'artifact-regctl': ('regctl', regctl_artifact),
    'variant-regctl': ('regctl', regctl_variant),
    'cncf-regctl': ('regctl', regctl_cncf),
    'image-regctl': ('regctl', regctl_image),
    'skopeo-oci': ('skopeo', skopeo_copy('--format', 'oci')),
    'skopeo-zstd': ('skopeo', skopeo_copy('--format', 'oci', '--dest-compress-format', 'zstd')),
    'skopeo-zstd-chunked': ('skopeo', skopeo_copy('--format', 'oci', '--dest-compress-format', 'zstd:chunked')),
    'regctl-oci': ('regctl', regctl_mod('--to-oci')),
    'regctl-docker': ('regctl', regctl_mod('--to-docker')),
    'regctl-zstd': ('regctl', regctl_mod('--to-oci', '--layer-compress', 'zstd')),
    'regctl-uncompressed': ('regctl', regctl_mod('--layer-compress', 'none')),
    'cncf-wkg': ('wkg', wkg_push),
}
