"""Modules signed by wasmsign2 and by us in its form: embedded, detached, in parts; what its own verifier lets pass and ours does not."""
import pytest

import peers
import signers
import signing
import verdicts
from layouts import oras_variant
from signers import check, refused

pytestmark = pytest.mark.skipif(signers.missing('wasmsign2') != '', reason=signers.missing('wasmsign2'))


@pytest.fixture(scope='module')
def tools(work):
    """Two signers: two key pairs."""
    folder = work / 'wasmsign2'
    folder.mkdir()
    return signers.Wasmsign2(folder, 'k'), signers.Wasmsign2(folder, 'other')


@pytest.fixture
def web(tmp_path):
    server = signers.Web(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def place(web, modules):
    """A module with three custom sections, where the web server has it."""
    web.put('plugin.wasm', modules['small'].read_bytes() + b''.join(section(name, name.encode() * 9) for name in ('meta1', 'meta2', 'other')))
    return web


def section(name, data):
    body = bytes([len(name)]) + name.encode() + data
    assert len(body) < 128
    return bytes([0, len(body)]) + body


def sign(tool, web, source='plugin.wasm', name='signed.wasm', *more):
    """→ url, path, bytes"""
    path = web.path(name)
    tool.run_good('sign', '-i', web.path(source), '-o', path, '-k', tool.secret, '-K', tool.raw, *more)
    return web.url(name), path, path.read_bytes()


def both(agent, tool, case, url, path, *more):
    """Our answer and wasmsign2's word, compared; → the answer"""
    answer = agent.get(url, verificationKey=tool.pem)
    verdicts.compare(f'wasmsign2/{case}', 'wasmsign2', answer, tool.verify(path, *more))
    return answer


def test_embedded(daemon, tools, place):
    agent, (tool, other) = daemon(), tools
    refused(agent.get(place.url('plugin.wasm'), verificationKey=tool.pem), 'signature_missing', 'sig_absent')
    url, path, signed = sign(tool, place)
    check(both(agent, tool, 'embedded', url, path), signed, tool, 'wasm-embedded')
    assert other.verify(path) != ''
    refused(agent.get(url, verificationKey=other.pem), 'signature_invalid', peers.sha256(other.spki)[:16])


@pytest.mark.parametrize('name', ['docker-registry', 'olareg'])
def test_embedded_in_an_image(work, registries, daemon, tools, place, name):
    agent, (tool, other) = daemon(), tools
    _, path, signed = sign(tool, place)
    image = signers.Pushed(work, registries[name], 'wasmsign2-embedded', path, put=oras_variant)
    check(agent.get(image.ref, verificationKey=tool.pem), signed, tool, 'wasm-embedded')
    refused(agent.get(image.ref, verificationKey=other.pem), 'signature_invalid', 'sig_')


def test_second_signer(daemon, tools, place):
    agent, (tool, other) = daemon(), tools
    sign(tool, place, name='first.wasm')
    url, path, signed = sign(other, place, 'first.wasm', 'second.wasm')
    for one in tools:
        check(both(agent, one, 'second-signer', url, path), signed, one, 'wasm-embedded')


@pytest.mark.parametrize('regex', ['meta1', 'meta[12]'])
def test_split(daemon, tools, place, regex):
    """A module in parts, signed whole."""
    agent, (tool, other) = daemon(), tools
    tool.run_good('split', '-i', place.path('plugin.wasm'), '-o', place.path('split.wasm'), '-s', regex)
    url, path, signed = sign(tool, place, 'split.wasm')
    check(both(agent, tool, 'split', url, path), signed, tool, 'wasm-embedded')
    assert tool.verify(path, '-s', regex) == ''
    refused(agent.get(url, verificationKey=other.pem), 'signature_invalid')


def ends_of_sections(module):
    """[(offset after the section, its bytes)], after the header."""
    at, found = 8, []
    while at < len(module):
        start, at, size, shift = at, at + 1, 0, 0
        while True:
            size, shift, at = size | (module[at] & 0x7F) << shift, shift + 7, at + 1
            if not module[at - 1] & 0x80:
                break
        at += size
        found.append((at, module[start:at]))
    return found


def cut_after_first_part(module):
    return module[:next(end for end, body in ends_of_sections(module) if b'signature_delimiter' in body[:32])]


ATTACKS = {
    'cut': cut_after_first_part,
    'component': lambda module: module[:4] + b'\x0d\0\1\0' + module[8:],
    'appended': lambda module: module + section('evil', b'x'),
    'changed': lambda module: module[:-1] + bytes([module[-1] ^ 1]),
    'second-section': lambda module: module + ends_of_sections(module)[0][1],
    'moved-last': lambda module: module[:8] + module[ends_of_sections(module)[0][0]:] + ends_of_sections(module)[0][1],
    'other-body': lambda module: module[:ends_of_sections(module)[0][0]] + section('evil', b'x'),
}


@pytest.mark.parametrize('attack', ATTACKS)
def test_attack(daemon, tools, place, attack):
    agent, (tool, _) = daemon(), tools
    tool.run_good('split', '-i', place.path('plugin.wasm'), '-o', place.path('split.wasm'), '-s', 'meta1')
    _, _, signed = sign(tool, place, 'split.wasm')
    url = place.put('attacked.wasm', ATTACKS[attack](signed))
    answer = both(agent, tool, f'attack-{attack}', url, place.path('attacked.wasm'))
    assert answer.status == 422 and answer.body['code'] in ('signature_invalid', 'signature_missing', 'not_wasm', 'unsupported_image'), answer


def test_detached(daemon, tools, place):
    agent, (tool, other) = daemon(), tools
    module = place.path('plugin.wasm')
    sign(tool, place, 'plugin.wasm', 'rewritten.wasm', '-S', place.path('plugin.wasm.sig'))
    url, signature = place.url('plugin.wasm'), place.path('plugin.wasm.sig')
    check(both(agent, tool, 'detached', url, module, '-S', signature), module.read_bytes(), tool, 'wasm-detached')
    refused(agent.get(url, verificationKey=other.pem), 'signature_invalid')
    assert other.verify(module, '-S', signature) != ''

    place.put('trailing.wasm', module.read_bytes())
    place.put('trailing.wasm.sig', signature.read_bytes() + b'\0')
    refused(both(daemon(), tool, 'detached-trailing', place.url('trailing.wasm'), module, '-S', place.path('trailing.wasm.sig')), 'signature_invalid')
    place.put('moved.wasm', module.read_bytes() + section('evil', b'x'))
    place.put('moved.wasm.sig', signature.read_bytes())
    refused(both(daemon(), tool, 'detached-moved', place.url('moved.wasm'), place.path('moved.wasm'), '-S', signature), 'signature_invalid')


def test_detached_and_attached(daemon, tools, place):
    """Taken out of a signed module, and put in again."""
    agent, (tool, _) = daemon(), tools
    _, path, _ = sign(tool, place)
    body, signature, again = (place.path(name) for name in ('body.wasm', 'body.wasm.sig', 'again.wasm'))
    tool.run_good('detach', '-i', path, '-o', body, '-S', signature)
    check(both(agent, tool, 'detached', place.url('body.wasm'), body, '-S', signature), body.read_bytes(), tool, 'wasm-detached')
    tool.run_good('attach', '-i', body, '-o', again, '-S', signature)
    check(both(agent, tool, 'embedded', place.url('again.wasm'), again), again.read_bytes(), tool, 'wasm-embedded')


def test_module_of_go(daemon, tools, web, modules):
    """Go pads the sizes of sections. wasmsign2 signs the module as it would write it: its detached signature is one of the rewritten file alone, as it says itself."""
    agent, (tool, _) = daemon(), tools
    web.put('go.wasm', modules['big'].read_bytes())
    _, rewritten, body = sign(tool, web, 'go.wasm', 'rewritten.wasm', '-S', web.path('go.wasm.sig'))
    web.put('rewritten.wasm.sig', web.path('go.wasm.sig').read_bytes())
    assert body != modules['big'].read_bytes()
    refused(both(agent, tool, 'detached-go', web.url('go.wasm'), web.path('go.wasm'), '-S', web.path('go.wasm.sig')), 'signature_invalid')
    check(both(agent, tool, 'detached', web.url('rewritten.wasm'), rewritten, '-S', web.path('go.wasm.sig')), body, tool, 'wasm-detached')
    url, path, signed = sign(tool, web, 'go.wasm', 'signed.wasm')
    check(both(agent, tool, 'embedded', url, path), signed, tool, 'wasm-embedded')


def test_ours(tmp_path, daemon, tools, place):
    """Signed with openssl in the forms of our tests: wasmsign2 takes them, embedded and detached."""
    keys, module = signers.Keys(tmp_path), place.path('plugin.wasm').read_bytes()
    key, tool = keys('Ed25519'), tools[0]
    raw = tmp_path / 'ours.raw'
    raw.write_bytes(b'\1' + key.spki[-32:])
    url = place.put('ours.wasm', signing.wasm_signed(key, module))
    answer = daemon().get(url, verificationKey=key.pem)
    check(answer, signing.wasm_signed(key, module), key, 'wasm-embedded')
    verdicts.compare('openssl/embedded', 'wasmsign2', answer, signers.complaint(tool.run('verify', '-i', place.path('ours.wasm'), '-K', raw)))
    place.put('plugin.wasm.sig', signing.wasm_signature_data(key, module))
    answer = daemon().get(place.url('plugin.wasm'), verificationKey=key.pem)
    check(answer, module, key, 'wasm-detached')
    verdicts.compare('openssl/detached', 'wasmsign2', answer, signers.complaint(tool.run('verify', '-i', place.path('plugin.wasm'), '-K', raw, '-S', place.path('plugin.wasm.sig'))))
