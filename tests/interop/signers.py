"""The signing tools of tests/interop: cosign 2 and 3, wasmsign2, npm's @sigstore/sign and @sigstore/verify, and openssl with the forms of tests/fake/signing.py. What a tool says is kept; tests judge."""
import functools
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import threading

import requests

import peers
import signing
from e2e_images import Image
from e2e_servers import Registry
from e2e_sign import Key
from layouts import oras_variant

IS_ASKED_FOR = bool(os.environ.get('INTEROP_SLOW'))
COSIGNS = ('cosign2', 'cosign3')
NODE_MODULES = peers.PEERS / 'npm' / 'node_modules'
KINDS = ('P-256', 'P-384', 'P-521', 'RSA', 'RSA-4096', 'Ed25519')


def missing(*programs):
    """Why these tests do not run, or ''."""
    if not IS_ASKED_FOR:
        return 'signers are in the slow set: INTEROP_SLOW=1'
    absent = [name for name in programs if not ((NODE_MODULES / '@sigstore').exists() and shutil.which('node') if name == 'node' else (peers.PEERS / name).exists())]
    return f'not here: {" ".join(absent)}' if absent else ''


class Keys:
    """keys(kind, name): a key pair by openssl, made when it is first asked for."""

    def __init__(self, folder):
        self.folder, self.made = folder, {}

    def __call__(self, kind='P-256', name='K', digest='sha256'):
        at = f'{name}-{kind}-{digest}'
        if at not in self.made:
            self.made[at] = Key(str(self.folder), at, kind, digest=digest)
        return self.made[at]


class Pusher:
    """What e2e_images.Image needs of a registry."""
    put_blob, put_manifest, scheme = Registry.put_blob, Registry.put_manifest, 'http'

    def __init__(self, host):
        self.host, self.session = host, requests.Session()
        self.session.trust_env = False


class Pushed:
    """A module as an image of its own: `ref` by tag, `by_digest`, `target` as signing.py wants it."""

    def __init__(self, work, registry, repository, module, tag='v1', put=oras_variant):
        self.registry, self.repository, self.module = registry, f'interop/{repository}', module
        self.base, folder = f'{registry.host}/{self.repository}', work / f'{repository.replace("/", "-")}-{registry.port}-{tag}'
        folder.mkdir()
        self.ref = f'{self.base}:{tag}'
        put(folder, self.ref, module)
        answer = Pusher(registry.host).session.get(f'http://{registry.host}/v2/{self.repository}/manifests/{tag}', headers={'Accept': ', '.join(MANIFESTS)}, timeout=60)
        self.manifest, self.target = answer.content, {'mediaType': answer.headers['Content-Type'], 'digest': 'sha256:' + peers.sha256(answer.content), 'size': len(answer.content)}
        self.by_digest = f'{self.base}@{self.target["digest"]}'

    def sign(self, form, key, **more):
        """With openssl: form is signing.sign_simple, signing.sign_bundle or like them."""
        image = Image(self.repository)
        form(image, self.target, key, **more)
        image.push(Pusher(self.registry.host))


MANIFESTS = [f'application/vnd.oci.image.{kind}.v1+json' for kind in ('manifest', 'index')] + [f'application/vnd.docker.distribution.{kind}.v2+json' for kind in ('manifest', 'manifest.list')]


def complaint(done):
    """'' for 0, else what the tool said."""
    lines = [line for line in (done.stderr or done.stdout).decode(errors='replace').splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith(('Error: ', 'panic: '))), lines[-1] if lines else '')
    return '' if done.returncode == 0 else told or f'exit {done.returncode}'


def good(done):
    assert done.returncode == 0, f'{" ".join(map(str, done.args))}: {done.returncode}: {done.stderr.decode(errors="replace")[-2000:]}'
    return done.stdout


def call(folder, *words, **environment):
    environment = {**peers.ENVIRONMENT, 'HOME': str(folder), 'DOCKER_CONFIG': str(folder / '.docker'), **environment}
    return subprocess.run([str(word) for word in words], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, timeout=600, check=False)


class Cosign:
    """One version, offline: no log, no certificates, no roots from the network."""
    OFFLINE = {'cosign2': ['--tlog-upload=false'], 'cosign3': ['--tlog-upload=false', '--use-signing-config=false']}
    FORMS = {'bundle': ['--new-bundle-format=true'], 'classic': ['--new-bundle-format=false'], 'referrer': ['--new-bundle-format=false', '--registry-referrers-mode=oci-1-1']}

    def __init__(self, folder, name):
        self.folder, self.name, self.private = folder / name, name, functools.cache(self.imported)
        self.folder.mkdir()
        self.root = self.folder / 'root.json'              # version 2 wants one for bundles; it may be empty
        self.root.write_text('{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}')

    def run(self, *words, **environment):
        return call(self.folder, peers.PEERS / self.name, *words, COSIGN_PASSWORD='', **environment)

    def imported(self, path):
        """The private key in cosign's own encrypted form."""
        prefix = self.folder / pathlib.Path(path).stem
        good(self.run('import-key-pair', '-y', '--key', path, '--output-key-prefix', prefix))
        return f'{prefix}.key'

    def sign(self, ref, key, form, *more, **environment):
        environment = {**({'COSIGN_EXPERIMENTAL': '1'} if form == 'referrer' else {}), **environment}
        good(self.run('sign', '-y', '--allow-http-registry', '--key', self.private(key.path), *self.OFFLINE[self.name], *self.FORMS[form], *more, ref, **environment))

    def attest(self, ref, key, form, kind, predicate):
        good(self.run('attest', '-y', '--allow-http-registry', '--key', self.private(key.path), *self.OFFLINE[self.name], *self.FORMS[form], '--type', kind, '--predicate', predicate, ref))

    def verify(self, ref, key, *more, **environment):
        root = ['--trusted-root', self.root] if self.name == 'cosign2' else []
        return complaint(self.run('verify', '--allow-http-registry', '--insecure-ignore-tlog=true', *root, '--key', key.public, *more, ref, **environment))

    # form of a signature beside a file → (suffix, words of sign-blob before the output's name)
    BLOBS = {'blob-bundle': ('.sigstore.json', ['--new-bundle-format=true', '--bundle']), 'blob-raw': ('.sig', ['--new-bundle-format=false', '--output-signature']),
             'blob-legacy': ('.bundle', ['--new-bundle-format=false', '--bundle'])}

    def sign_blob(self, path, key, form):
        """What went wrong, or ''; the signature lies beside the file."""
        suffix, words = self.BLOBS[form]
        return complaint(self.run('sign-blob', '-y', '--key', self.private(key.path), *self.OFFLINE[self.name], *words, f'{path}{suffix}', path))

    def verify_blob(self, path, key, form, signature=None):
        suffix, _ = self.BLOBS[form]
        words = {'blob-bundle': ['--new-bundle-format=true', '--bundle'], 'blob-raw': ['--new-bundle-format=false', '--signature'], 'blob-legacy': ['--new-bundle-format=false', '--bundle']}[form]
        root = ['--trusted-root', self.root] if self.name == 'cosign2' and form == 'blob-bundle' else []
        return complaint(self.run('verify-blob', '--insecure-ignore-tlog=true', *root, '--key', key.public, *words, signature or f'{path}{suffix}', path))

    def attest_blob(self, path, key, predicate, bundle):
        good(self.run('attest-blob', '-y', '--key', self.private(key.path), *self.OFFLINE[self.name], '--new-bundle-format=true', '--type', 'https://example.com/scan/v1', '--predicate', predicate,
                      '--bundle', bundle, path))


class Npm:
    """@sigstore/sign and @sigstore/verify behind sigstore.js."""
    name = '@sigstore/verify'

    def __init__(self, folder):
        self.folder = folder

    def run(self, *words):
        return call(self.folder, shutil.which('node'), pathlib.Path(__file__).with_name('sigstore.js'), *words, NODE_PATH=str(NODE_MODULES))

    def sign(self, form, key, data):
        file = self.folder / 'to-sign'
        file.write_bytes(data)
        return good(self.run('sign', form, key.path, 'none' if key.kind == 'Ed25519' else key.digest, file))

    def verify(self, key, bundle, data=None):
        file, of = self.folder / 'bundle.json', self.folder / 'data'
        file.write_bytes(bundle)
        of.write_bytes(data or b'')
        return complaint(self.run('verify', key.public, file, *([of] if data is not None else [])))


class Wasmsign2:
    """Its key files are a byte and the raw key; `public` is PEM for us."""
    name = 'wasmsign2'

    def __init__(self, folder, name='k'):
        self.folder, self.secret, self.raw = folder, folder / f'{name}.sec', folder / f'{name}.raw'
        self.run_good('keygen', '-k', self.secret, '-K', self.raw)
        self.spki = bytes.fromhex('302a300506032b6570032100') + self.raw.read_bytes()[-32:]
        self.pem = signing.pem(self.spki)

    def run(self, *words):
        return call(self.folder, peers.PEERS / 'wasmsign2', *words)

    def run_good(self, *words):
        return good(self.run(*words))

    def verify(self, path, *more):
        return complaint(self.run('verify', '-i', path, '-K', self.raw, *more))


class Web:
    """A folder behind a web server: put(name, bytes) gives the url."""

    def __init__(self, folder):
        class Quiet(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments, **more):
                super().__init__(*arguments, directory=str(folder), **more)

            def log_message(self, *_):
                pass
        self.folder, self.server = folder, http.server.ThreadingHTTPServer(('127.0.0.1', 0), Quiet)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def path(self, name):
        return self.folder / name

    def url(self, name):
        return f'http://127.0.0.1:{self.server.server_address[1]}/{name}'

    def put(self, name, data):
        self.path(name).write_bytes(data)
        return self.url(name)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def trust(**more):
    """YAML that a daemon's configuration ends with; JSON is YAML."""
    return f'trust: {json.dumps(more)}\npull: {{negative_time: 0s}}\n'


def check(answer, module, key, form):
    """Served, the very module, for the reason that was wanted; `key` has pem and fingerprint or spki."""
    assert answer.status == 200, answer
    assert answer.body['verified'] == {'format': form, 'keyFingerprint': peers.sha256(key.spki)}, answer
    assert answer.body['sha256'] == peers.sha256(module) and pathlib.Path(answer.body['path']).read_bytes() == module


def refused(answer, code, *words):
    """One sentence that says why."""
    assert (answer.status, answer.body['code']) == (422, code), answer
    assert '\n' not in answer.body['detail'] and all(word in answer.body['detail'] for word in words), answer
