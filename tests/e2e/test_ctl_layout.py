"""wasmcachectl import and export: OCI image layouts, good and hostile, against a scripted peer."""
import gzip
import hashlib
import io
import json
import os
import pathlib
import subprocess
import tarfile

import pytest

from scripted_peer import MODULE, SHA, URL, answer, ctl, module_object, peer  # noqa: F401 (peer is a fixture)


def blob(folder, data, algorithm='sha256'):
    if isinstance(data, dict):
        data = json.dumps(data).encode()
    name = hashlib.new(algorithm, data).hexdigest()
    (folder / 'blobs' / algorithm).mkdir(parents=True, exist_ok=True)
    (folder / 'blobs' / algorithm / name).write_bytes(data)
    return {'digest': f'{algorithm}:{name}', 'size': len(data)}


RAW = 'application/vnd.module.wasm.content.layer.v1+wasm'
TAR = 'application/vnd.oci.image.layer.v1.tar'


def image(folder, *layers):
    config = blob(folder, b'{}')
    return blob(folder, {'schemaVersion': 2, 'config': {'mediaType': 'application/vnd.oci.empty.v1+json', **config}, 'layers': [{'mediaType': kind, **blob(folder, data)} for kind, data in layers]})


def layout(folder, *descriptors):
    folder.mkdir(exist_ok=True)
    (folder / 'oci-layout').write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / 'index.json').write_text(json.dumps({'schemaVersion': 2, 'manifests': list(descriptors)}))
    return folder


def named(descriptor, name=URL, **more):
    return {'mediaType': 'application/vnd.oci.image.manifest.v1+json', **descriptor, 'annotations': {'org.opencontainers.image.ref.name': name}, **more}


def tar(*entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as archive:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def importing(taken):
    def script(method, path, body):
        request = json.loads(body)
        status = os.stat(os.path.dirname(request['path']))
        taken.append((request['url'], pathlib.Path(request['path']).read_bytes(), status.st_mode & 0o777))
        return answer(body={'sha256': hashlib.sha256(taken[-1][1]).hexdigest()})
    return script


def raw_layout(folder):
    folder.mkdir()
    return layout(folder, named(image(folder, (RAW, MODULE))))


@pytest.mark.parametrize('form', ['folder', 'tar', 'tar with ./'])
def test_import_of_a_raw_layer(peer, tmp_path, form):
    taken, path = [], raw_layout(tmp_path / 'l')
    if form != 'folder':
        subprocess.run(['tar', '-C', path, '-cf', tmp_path / 'l.tar', *(['.'] if './' in form else ['oci-layout', 'blobs', 'index.json'])], check=True)
        path = tmp_path / 'l.tar'
    ran = ctl(peer(importing(taken)), 'import', path)
    assert ran.returncode == 0, ran.stderr
    assert taken == [(URL, MODULE, 0o700)] and ran.stdout == f'imported {SHA} {URL}\n'
    assert not list(tmp_path.glob('import-*'))


@pytest.mark.parametrize('box', ['plain', 'gzip', 'zstd'])
def test_import_of_tar_layers(peer, tmp_path, box):
    taken, folder, data = [], tmp_path / 'l', tar(('etc/x', b'1'), ('./a/plugin.wasm', MODULE))
    folder.mkdir()
    if box == 'zstd':
        data = subprocess.run(['zstd', '-c'], input=data, capture_output=True, check=True).stdout
    elif box == 'gzip':
        data = gzip.compress(data)
    layout(folder, named(image(folder, (TAR + {'plain': '', 'gzip': '+gzip', 'zstd': '+zstd'}[box], data))))
    ran = ctl(peer(importing(taken)), 'import', folder)
    assert ran.returncode == 0, ran.stderr
    assert taken == [(URL, MODULE, 0o700)]


def test_import_of_nested_indexes_and_names(peer, tmp_path):
    taken, folder = [], tmp_path / 'l'
    folder.mkdir()
    other, wasm = image(folder, ('text/plain', b'x')), image(folder, (RAW, MODULE))
    index = blob(folder, {'schemaVersion': 2, 'manifests': [{**other, 'platform': {'os': 'linux', 'architecture': 'amd64'}}, {**wasm, 'platform': {'os': 'wasi', 'architecture': 'wasm'}}]})
    layout(folder, named(index, mediaType='application/vnd.oci.image.index.v1+json'))
    server = peer(importing(taken))
    assert ctl(server, 'import', folder).returncode == 0
    layout(folder, named(wasm, 'v1'))
    ran = ctl(server, 'import', folder)
    assert ran.returncode == 1 and 'bad_url' in ran.stderr and '--url' in ran.stderr
    assert ctl(server, 'import', folder, '--url', 'h.example/a/b:v2').returncode == 0
    assert [url for url, _, _ in taken] == [URL, 'h.example/a/b:v2']


def broken(folder, what):
    folder.mkdir()
    good = named(image(folder, (RAW, MODULE)))
    layout(folder, good)
    if what == 'no index':
        (folder / 'index.json').unlink()
    elif what == 'no mark':
        (folder / 'oci-layout').unlink()
    elif what == 'future':
        (folder / 'oci-layout').write_text('{"imageLayoutVersion": "9.0.0"}')
    elif what == 'other bytes':
        (folder / 'blobs/sha256' / SHA).write_bytes(MODULE[:-1] + b'x')
    elif what == 'short':
        (folder / 'blobs/sha256' / SHA).write_bytes(MODULE[:-1])
    elif what == 'long':
        (folder / 'blobs/sha256' / SHA).write_bytes(MODULE + b'x')
    elif what == 'absent':
        (folder / 'blobs/sha256' / SHA).unlink()
    elif what == 'symlink outside':
        (folder / 'blobs/sha256' / SHA).unlink()
        (folder.parent / 'outside').write_bytes(MODULE)
        (folder / 'blobs/sha256' / SHA).symlink_to(folder.parent / 'outside')
    elif what == 'wrong size':
        layout(folder, {**good, 'size': good['size'] + 1})
    elif what == 'escaping digest':
        layout(folder, {**good, 'digest': 'sha256:../../../etc/passwd'})
    elif what == 'no image':
        layout(folder)
    elif what == 'no wasm':
        layout(folder, named(image(folder, ('text/plain', b'x'))))
    elif what == 'component':
        layout(folder, named(image(folder, (RAW, b'\0asm\x0d\0\1\0more'))))
    elif what == 'not wasm':
        layout(folder, named(image(folder, (RAW, b'ELF is not it'))))
    elif what == 'tiny':
        layout(folder, named(image(folder, (RAW, b'\0asm'))))
    elif what == 'huge size':
        layout(folder, {**good, 'size': 1 << 40})
    elif what == 'two plugins':
        layout(folder, named(image(folder, (TAR, tar(('a/plugin.wasm', MODULE), ('plugin.wasm', MODULE))))))
    elif what == 'no plugin':
        layout(folder, named(image(folder, (TAR, tar(('a', MODULE))))))
    elif what == 'link plugin':
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode='w') as archive:
            info = tarfile.TarInfo('plugin.wasm')
            info.type, info.linkname = tarfile.SYMTYPE, '/etc/passwd'
            archive.addfile(info)
        layout(folder, named(image(folder, (TAR, out.getvalue()))))
    elif what == 'no tar':
        layout(folder, named(image(folder, (TAR, b'x' * 2000))))
    elif what == 'two raw':
        layout(folder, named(image(folder, ('application/wasm', MODULE), ('application/wasm', MODULE + b'\0\1\0'))))
    elif what == 'deep':
        inner = blob(folder, {'manifests': [image(folder, (RAW, MODULE))]})
        for _ in range(5):
            inner = blob(folder, {'manifests': [inner]})
        layout(folder, named(inner))
    elif what == 'duplicate member':
        (folder / 'index.json').write_text('{"manifests": [], "manifests": []}')


@pytest.mark.parametrize('what, code', [
    ('no index', 'not_found'), ('no mark', 'not_found'), ('future', 'bad_request'), ('other bytes', 'checksum_mismatch'), ('short', 'checksum_mismatch'), ('long', 'too_large'), ('absent', 'not_found'),
    ('symlink outside', 'bad_request'), ('wrong size', 'checksum_mismatch'), ('escaping digest', 'bad_request'), ('no image', 'unsupported_image'), ('no wasm', 'unsupported_image'),
    ('component', 'not_wasm'), ('not wasm', 'not_wasm'), ('tiny', 'not_wasm'), ('huge size', 'too_large'), ('two plugins', 'unsupported_image'), ('no plugin', 'unsupported_image'),
    ('link plugin', 'unsupported_image'), ('no tar', 'unsupported_image'), ('two raw', 'unsupported_image'), ('deep', 'unsupported_image'), ('duplicate member', 'bad_request')])
def test_import_refuses(peer, tmp_path, what, code):
    taken = []
    broken(tmp_path / 'l', what)
    ran = ctl(peer(importing(taken)), 'import', tmp_path / 'l')
    assert ran.returncode == 1 and taken == [], ran.stdout
    assert ran.stderr.startswith(f'wasmcachectl: {code}: '), ran.stderr
    assert not list(tmp_path.glob('import-*'))


def exporting(content=MODULE):
    def script(method, path, body):
        return answer(body=content, framing='chunked') if path.endswith('/content') else answer(body=module_object(urls=[URL]))
    return script


def test_export_is_what_import_takes_and_always_the_same(peer, tmp_path):
    server, taken = peer(exporting()), []
    assert ctl(server, 'export', URL, tmp_path / 'a.tar').returncode == 0
    assert ctl(server, 'export', SHA[:10], tmp_path / 'b.tar').returncode == 0
    assert (tmp_path / 'a.tar').read_bytes() == (tmp_path / 'b.tar').read_bytes()
    assert ctl(server, 'export', URL, f'{tmp_path}/c/').returncode == 0
    index = json.loads((tmp_path / 'c/index.json').read_text())
    descriptor = index['manifests'][0]
    assert descriptor['annotations'] == {'org.opencontainers.image.ref.name': URL, 'wasmcached.source.digest': 'sha256:' + 'a' * 64}
    data = (tmp_path / 'c/blobs/sha256' / descriptor['digest'].split(':')[1]).read_bytes()
    manifest = json.loads(data)
    assert hashlib.sha256(data).hexdigest() == descriptor['digest'].split(':')[1] and len(data) == descriptor['size']
    assert manifest['config']['mediaType'] == 'application/vnd.module.wasm.config.v1+json'
    assert [(one['mediaType'], one['digest'], one['size']) for one in manifest['layers']] == [(RAW, 'sha256:' + SHA, len(MODULE))]
    importer = peer(importing(taken), 'i')
    for path in ('a.tar', 'c'):
        assert ctl(importer, 'import', tmp_path / path).returncode == 0
    assert taken == [(URL, MODULE, 0o700)] * 2


def original(folder, **change):
    """A layout as export makes it of an image whose manifest is there too; `change` spoils it."""
    folder.mkdir(exist_ok=True)
    kind, data = change.get('layer', (RAW, MODULE))
    origin = image(folder, (kind, data))
    annotations = {'wasmcached.source.digest': origin['digest']}
    made = json.loads((folder / 'blobs/sha256' / image(folder, (RAW, MODULE))['digest'][7:]).read_text())
    layout(folder, named(blob(folder, {**made, 'annotations': annotations}), change.get('name', URL)))
    path = folder / 'blobs/sha256' / origin['digest'][7:]
    if 'bytes' in change:
        path.write_bytes(change['bytes'] or path.read_bytes() + b' ')
    if change.get('absent'):
        path.unlink()
    return origin['digest'], path


@pytest.mark.parametrize('change, is_proved', [
    ({}, True), ({'layer': (RAW, MODULE + b'\0\1\0')}, False), ({'layer': (TAR, tar(('plugin.wasm', MODULE)))}, False), ({'layer': (TAR, MODULE)}, False), ({'absent': True}, False),
    ({'bytes': b'{}'}, False), ({'bytes': None}, False), ({'bytes': b''}, False)])
def test_import_takes_the_digest_that_is_proved(peer, tmp_path, change, is_proved):
    requests, server = [], None
    digest, path = original(tmp_path / 'l', **change)
    server = peer(asked(requests))
    assert ctl(server, 'import', tmp_path / 'l').returncode == 0
    assert (requests[0]['digest'] == digest) == is_proved and 'index' not in requests[0]
    assert hashlib.sha256(requests[0]['manifest'].encode()).hexdigest() == requests[0]['digest'][7:]
    pinned = f'r.example/a@{digest}'
    assert ctl(server, 'import', tmp_path / 'l', '--url', pinned).returncode == 0         # the operator's own word
    assert (requests[1]['url'], requests[1]['digest'], 'manifest' in requests[1]) == (pinned, digest, is_proved)


@pytest.mark.parametrize('change', [{'layer': (TAR, tar(('plugin.wasm', MODULE)))}, {'absent': True}])
def test_import_of_a_pinned_name_that_nothing_proves(peer, tmp_path, change):
    requests = []
    digest, _ = original(tmp_path / 'l', **change)
    original(tmp_path / 'l', **change, name=f'r.example/a@{digest}')
    ran = ctl(peer(asked(requests)), 'import', tmp_path / 'l')
    assert ran.returncode == 1 and requests == [] and 'checksum_mismatch' in ran.stderr and f'--url r.example/a@{digest}' in ran.stderr


@pytest.mark.parametrize('content', [MODULE + b'x', MODULE[:-1], MODULE[:-1] + b'x'])
@pytest.mark.parametrize('target', ['out.tar', 'out'])
def test_export_of_other_bytes_leaves_nothing(peer, tmp_path, content, target):
    ran = ctl(peer(exporting(content)), 'export', URL, tmp_path / target)
    assert ran.returncode == 1 and 'checksum_mismatch' in ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ['s']


def test_export_overwrites_nothing(peer, tmp_path):
    (tmp_path / 'there.tar').write_text('x')
    ran = ctl(peer(exporting()), 'export', URL, tmp_path / 'there.tar')
    assert ran.returncode == 1 and 'already there' in ran.stderr and (tmp_path / 'there.tar').read_text() == 'x'
    assert 'hint: PATH is a new folder' in ran.stderr


def test_import_of_no_layout_tells_what_one_is(peer, tmp_path):
    """Not what a registry may have meant."""
    (tmp_path / 'text').write_text('x')
    for path in (tmp_path / 'absent.tar', tmp_path / 'text', tmp_path):
        ran = ctl(peer(importing([]), f's-{path.name}'), 'import', path)
        assert ran.returncode == 1 and 'OCI image layout, as' in ran.stderr.splitlines()[-1] and 'registry' not in ran.stderr


def asked(requests):
    def script(method, path, body):
        requests.append(json.loads(body))
        return answer(body={'sha256': SHA})
    return script


def index_of(folder, *children):
    return {'mediaType': 'application/vnd.oci.image.index.v1+json', **blob(folder, {'schemaVersion': 2, 'manifests': list(children)})}


def test_import_tells_the_digests_of_image_and_index(peer, tmp_path):
    folder = tmp_path / 'l'
    folder.mkdir()
    plain = named(image(folder, (RAW, MODULE)), 'r.example/a:v1')
    child = {'mediaType': 'application/vnd.oci.image.manifest.v1+json', **image(folder, (RAW, MODULE + b'\0\1\0'))}
    top = index_of(folder, child)
    requests = []
    ran = ctl(peer(asked(requests)), 'import', layout(folder, named(top, 'r.example/b:v1', mediaType=top['mediaType']), plain))
    assert ran.returncode == 0, ran.stderr
    assert [(request['url'], request['digest'], request.get('index')) for request in requests] == [('r.example/b:v1', child['digest'], top['digest']), ('r.example/a:v1', plain['digest'], None)]


@pytest.mark.parametrize('words', [[], ['--url', 'r.example/a:v1']])
def test_import_takes_the_named_where_there_are_names(peer, tmp_path, words):
    """As `oras cp` of an index writes it: the children stand in index.json too, without names."""
    folder = tmp_path / 'l'
    folder.mkdir()
    children = [{'mediaType': 'application/vnd.oci.image.manifest.v1+json', **image(folder, (RAW, MODULE + b'\0\1' + bytes([i])))} for i in range(2)]
    top = index_of(folder, *children)
    requests = []
    ran = ctl(peer(asked(requests)), 'import', layout(folder, *children, named(top, 'r.example/a:v1', mediaType=top['mediaType'])), *words)
    assert ran.returncode == 0, ran.stderr
    assert [(request['url'], request['digest'], request['index']) for request in requests] == [('r.example/a:v1', children[0]['digest'], top['digest'])]


def test_import_of_several_with_one_name_is_refused(peer, tmp_path):
    folder = tmp_path / 'l'
    folder.mkdir()
    children = [{'mediaType': 'application/vnd.oci.image.manifest.v1+json', **image(folder, (RAW, MODULE + b'\0\1' + bytes([i])))} for i in range(2)]
    ran = ctl(peer(asked([])), 'import', layout(folder, *children), '--url', 'r.example/a:v1')
    assert ran.returncode == 1 and '2 images' in ran.stderr
