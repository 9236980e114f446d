"""README's "Sign your plugin" with cosign, word for word: keys, an image, a file; served with the key, refused with another, in the sentence that is shown there. With openssl: tests/e2e/test_readme.py."""
import re

import pytest

import peers
import signers
from signers import COSIGNS

pytestmark = pytest.mark.skipif(signers.missing(*COSIGNS) != '', reason=signers.missing(*COSIGNS))

SECTION = re.search(r'^## Sign your plugin$.*?(?=^## )', (peers.SOURCE / 'README.md').read_text(encoding='utf-8'), re.M | re.S)[0]


def commands(name):
    """The lines for this version; what its comment says to leave out is left out."""
    version = 'v' + name[-1]
    for words, comment in re.findall(r'^(cosign .*?) +# (.*)$', SECTION, re.M):
        others = re.findall(r'\bv[0-9]\b', comment)
        left_out = re.search(rf'{version}: without (--[a-z-]+)', comment)
        if not others or version in others:
            yield re.sub(rf' {left_out[1]}=\S+', '', words) if left_out else words


@pytest.mark.parametrize('registry', ['docker-registry', 'olareg'])
@pytest.mark.parametrize('name', COSIGNS)
def test_word_for_word(tmp_path, work, modules, registries, daemon, keys, registry, name):
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'bin' / 'cosign').symlink_to(peers.PEERS / name)
    (tmp_path / 'authz.wasm').write_bytes(modules['small'].read_bytes())
    image, other = signers.Pushed(work, registries[registry], f'readme/{name}', modules['small']), keys(name='other')
    ran = list(commands(name))
    assert [words.split()[1] for words in ran] == ['generate-key-pair', 'sign', 'sign-blob'], ran
    for words in ran:
        words = words.replace('registry.example/team/authz@sha256:…', image.by_digest)
        signers.good(signers.call(tmp_path, 'bash', '-c', words, COSIGN_PASSWORD='', PATH=f'{tmp_path}/bin:/usr/bin:/bin'))
    agent, public = daemon(), tmp_path / 'cosign.pub'
    for subject in (tmp_path / 'authz.wasm', image.ref):
        tried = agent.ctl('verify-signature', subject, '--key', public, admin=True)
        assert tried.returncode == 0 and tried.stdout.startswith('verified: '), tried
        assert agent.ctl('verify-signature', subject, '--key', other.public, admin=True).returncode == 1
    got = agent.ctl('get', image.ref, '--key', public)
    assert got.returncode == 0 and got.stdout.strip().endswith('.wasm'), got
    refused = agent.ctl('get', image.ref, '--key', other.public)
    assert refused.returncode == 1 and refused.stderr.startswith(f'wasmcachectl: signature_invalid: oci://{image.ref} (sha256:') and f'signature is not by key {other.fingerprint[:16]}' in refused.stderr, refused
