"""e2e_sign: keys and signatures by the openssl program; their forms are those of tests/fake/signing.py, their places those where cosign and others put them."""
import hashlib
import json
import os
import sqlite3
import tempfile

import pytest

import contract_rig
import signing
from content import OCI_MANIFEST
from e2e_images import Image, unique, wasm
from e2e_servers import run

KINDS = {
    'P-256': ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256'], 'P-384': ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-384'],
    'P-521': ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-521'], 'RSA': ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048'], 'Ed25519': ['-algorithm', 'ED25519']}
MORE_KINDS = {'RSA-4096': ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:4096']}


class Key(signing.Signer):
    """A key pair in `folder`; `public` is the file for --key. pss signs RSA-PSS."""

    def __init__(self, folder, name, kind='P-256', digest='sha256', pss=False):
        self.path, self.public, self.kind, self.digest, self.pss = os.path.join(folder, name + '.key'), os.path.join(folder, name + '.pub'), kind, digest, pss
        run('openssl', 'genpkey', *{**KINDS, **MORE_KINDS}[kind], '-out', self.path)
        run('openssl', 'pkey', '-in', self.path, '-pubout', '-out', self.public)
        super().__init__(run('openssl', 'pkey', '-in', self.path, '-pubout', '-outform', 'DER'))

    def sign(self, data):
        if self.kind != 'Ed25519':
            more = ['-sigopt', 'rsa_padding_mode:pss', '-sigopt', 'rsa_pss_saltlen:-1'] if self.pss else []
            return run('openssl', 'dgst', '-' + self.digest, *more, '-sign', self.path, input=data)
        with tempfile.NamedTemporaryFile() as message:
            message.write(data)
            message.flush()
            return run('openssl', 'pkeyutl', '-sign', '-rawin', '-inkey', self.path, '-in', message.name)


class Signed:
    """An image of its own in a registry; sign(form, key) puts signatures beside it."""

    def __init__(self, registry, module=None, repository=None, tag='v1', build=None):
        self.registry, self.repository = registry, repository or unique('signed')
        image = Image(self.repository)
        self.module = module if module is not None else wasm(self.repository + tag)
        made = build(image, self.module) if build else image.raw_image(self.module, tag=tag)
        image.push(registry)
        self.target = {'mediaType': OCI_MANIFEST, **made}
        self.url = registry.ref(self.repository, tag)

    def sign(self, form, key, repository=None, target=None, **more):
        """form: signing.sign_simple, signing.sign_bundle or whatever is called like them."""
        image = Image(repository or self.repository)
        made = form(image, target or self.target, key, **more)
        image.push(self.registry)
        return made


def both_keys(first, second):
    """Two layers under one .sig tag, two entries in one fallback tag: an image that two have signed."""
    def form(repo, target, key):
        payload = signing.simple_payload(target['digest'])
        return signing.classic_manifest(repo, [signing.simple_layer(repo, payload, key.sign(payload)) for key in (first, second)], signing.signature_tag(target))
    return form


def set_entry(log, payload, signature, key):
    """The classic log entry (SET) that Rekor v1 gives for a signature; `log` signs it."""
    body = signing.compact({'apiVersion': '0.0.1', 'kind': 'hashedrekord', 'spec': {
        'data': {'hash': {'algorithm': 'sha256', 'value': hashlib.sha256(payload).hexdigest()}},
        'signature': {'content': signing.b64(signature), 'publicKey': {'content': signing.b64(key.pem.encode())}}}})
    entry = {'body': signing.b64(body), 'integratedTime': 1700000000, 'logID': log.fingerprint, 'logIndex': 7}
    return json.dumps({'SignedEntryTimestamp': signing.b64(log.sign(signing.compact(entry))), 'Payload': entry})


def with_log_entry(log):
    def form(repo, target, key):
        payload = signing.simple_payload(target['digest'])
        signature = key.sign(payload)
        return signing.classic_manifest(repo, [signing.simple_layer(repo, payload, signature, **{signing.LOG_ENTRY: set_entry(log, payload, signature, key)})], signing.signature_tag(target))
    return form


def evidence(daemon, statement, *values):
    """SQL on the index of a daemon that is stopped; gives the rows."""
    assert daemon.process is None
    with sqlite3.connect(os.path.join(daemon.store, 'index.sqlite')) as base:
        base.execute('PRAGMA foreign_keys = ON')
        rows = base.execute(statement, values).fetchall()
    base.close()
    return rows


# ---- fixtures, for the test files that import them
@pytest.fixture(scope='module')
def keys(world):
    """keys(name, kind) gives a key pair, the same one for the same words."""
    folder, made = tempfile.mkdtemp(prefix='keys', dir=world), {}

    def key(name='K', kind='P-256', **more):
        if name + kind not in made:
            made[name + kind] = Key(folder, name + kind, kind, **more)
        return made[name + kind]
    return key


@pytest.fixture(scope='module')
def fake():
    """The scripted registry: its requests can be counted, and it can go away."""
    registry = contract_rig.Registry()
    yield registry
    registry.close()


class Scripted:
    """A dyn/ image of the scripted registry."""

    def __init__(self, fake):
        self.fake, self.repo = fake, 'dyn/' + unique('trust')
        self.url = f'oci://{fake.host}/{self.repo}:v1'
        fake.steer(f'/_set?repo={self.repo}&tag=v1&module={self.repo}', 'POST')

    def sign(self, key='plugin', form='simple'):
        return self.fake.steer(f'/_sign?repo={self.repo}&tag=v1&key={key}&form={form}', 'POST')

    def has_layer(self, asked):
        """Was the layer among what was asked for?"""
        layers = self.fake.steer(f'/_repo?repo={self.repo}')['tags']['v1']['layers']
        return any(path == 'blobs/' + layer['digest'] for _, path in asked for layer in layers)

    def asked(self):
        """(method, path) since the last call, without the repository's name."""
        return [(entry['method'], entry['path'].replace(f'/v2/{self.repo}/', '')) for entry in self.fake.log(clear=True)]


FAKE_K, FAKE_K2 = signing.ec_key('plugin').pem, signing.ec_key('second').pem


@pytest.fixture
def up(fake):
    yield fake
    fake.steer('/_set?down=0', 'POST')


@pytest.fixture
def place(nginx, world, make_daemon):
    """place(kind, name, data) puts a file where http or file finds it and gives its url; place.daemon() is a daemon that may read it."""
    class Place:
        root = os.path.join(world, 'files-' + unique().replace('/', '-'))

        def __call__(self, kind, name, data):
            if kind == 'http':
                return nginx.put(name, data)
            with open(os.path.join(self.root, name), 'wb') as stream:
                stream.write(data)
            return f'file://{self.root}/{name}'

        def daemon(self, **config):
            return make_daemon(files={'roots': [self.root]}, **config)
    os.mkdir(Place.root)
    return Place()
