"""Where the daemon and the signing tools differ, on purpose: each difference with its reason. What is not listed must be judged alike, and what is listed must still differ."""
import fnmatch

STRICTER, WIDER = ('refused', 'accepted'), ('accepted', 'refused')          # (ours, theirs)

OWN_CURVES = 'cosign from 2.6 on signs with the hash of the curve and verifies with SHA-256, so it refuses what it wrote itself; the key allows exactly these two'
OWN_PH = 'cosign signs images with Ed25519ph and verifies pure Ed25519 only, so it refuses what it wrote itself; we try both'
ANY_TYPE = 'cosign takes any statement by the key about the digest, also one that says "vulnerable"; a signature is the predicate type that is configured'
NODE_HASH = '@sigstore/verify verifies SHA-256 alone, or what messageDigest names; the key allows the hash of its curve too, which is what cosign writes'
TRAILING = 'wasmsign2 does not read its signature data to the end; bytes that are in no signature are nobody\'s'

# case, verifier, (ours, theirs), why: shell patterns, first match
DIFFERENCES = [
    ('cosign?/bundle/P-384', 'cosign?', WIDER, OWN_CURVES), ('cosign?/bundle/P-521', 'cosign?', WIDER, OWN_CURVES),
    ('cosign?/classic/P-384', 'cosign?', WIDER, OWN_CURVES), ('cosign?/classic/P-521', 'cosign?', WIDER, OWN_CURVES),
    ('cosign?/bundle/Ed25519', 'cosign?', WIDER, OWN_PH), ('cosign?/classic/Ed25519', 'cosign?', WIDER, OWN_PH),
    ('openssl/*/P-384-SHA-384', 'cosign?', WIDER, OWN_CURVES), ('openssl/*/P-521-SHA-512', 'cosign?', WIDER, OWN_CURVES),
    ('cosign?/referrer/*', 'cosign?', WIDER, 'cosign looks for a classic signature among the referrers only with --experimental-oci11; we look there always'),
    ('cosign2/annotations-bundle/right', 'cosign2', STRICTER, 'cosign 2 leaves -a out of its bundles and does not miss it when it verifies; a demand that nobody signed is not met'),
    ('*/annotations-bundle/wrong', 'cosign2', STRICTER, 'cosign 2 does not compare -a with what a bundle says; cosign 3 and we do'),
    ('cosign3/elsewhere-bundle/there', 'cosign2', WIDER, 'cosign 2 does not read COSIGN_REPOSITORY for bundles; cosign 3 and we do'),
    ('cosign?/index-child/by-index', 'cosign?', WIDER, 'the child is what runs; its signature counts unless trust.require_top_level_signature is set, as in containers/image'),
    ('cosign?/attest/bundle', 'cosign?', STRICTER, ANY_TYPE),
    ('cosign?/attest-blob/*', 'cosign?', STRICTER, ANY_TYPE),
    ('cosign?/blob-*/P-384', 'cosign?', WIDER, OWN_CURVES), ('cosign?/blob-*/P-521', 'cosign?', WIDER, OWN_CURVES),
    ('cosign3/blob-bundle/Ed25519', 'cosign3', WIDER, 'cosign 3 writes an empty messageDigest for Ed25519 and then misses it; the signature is over the bytes, the digest a hint'),
    ('wasmsign2/attack-cut', 'wasmsign2', STRICTER, 'wasmsign2 takes any hash of the list: parts can be cut off; the last hash must be that of the end of the file'),
    ('wasmsign2/attack-component', 'wasmsign2', STRICTER, 'the header is in no hash, so it must be the one of a module'),
    ('wasmsign2/detached-trailing', 'wasmsign2', STRICTER, TRAILING),
    ('*/P-384-SHA-384', '@sigstore/verify', WIDER, NODE_HASH), ('*/P-521-SHA-512', '@sigstore/verify', WIDER, NODE_HASH),
    ('*/message/Ed25519', '@sigstore/verify', WIDER, 'it passes the name of the digest to the verifier of an Ed25519 key, which takes none, and so refuses what @sigstore/sign wrote'),
    ('npm/dsse-other-*', '@sigstore/verify', STRICTER, 'it verifies the envelope and leaves what the statement is about, and of which type, to its caller'),
]

# What a tool cannot make, and why; the day it can, the list is wrong.
CANNOT = {
    'cosign2/blob-*/Ed25519': 'cosign 2 panics (requested hash function #0 is unavailable)',
}

seen = set()


def is_served(answer):
    return 'accepted' if answer.status == 200 else 'refused'


def compare(case, verifier, answer, error):
    """`answer` of the daemon, `error` of the verifier: '' when it took the signature."""
    both = is_served(answer), 'refused' if error else 'accepted'
    row = next((row for row in DIFFERENCES if fnmatch.fnmatchcase(case, row[0]) and fnmatch.fnmatchcase(verifier, row[1])), None)
    told = f'{case}: we say {both[0]} ({answer}), {verifier} says {both[1]} ({error})'
    if both[0] == both[1]:
        assert row is None, f'{told}: the difference that verdicts.py lists is gone: {row[3]}'
        return
    assert row is not None, f'{told}: verdicts.py does not list that'
    assert row[2] == both, f'{told}: verdicts.py has it the other way round'
    seen.add(row)


def cannot(case):
    """Why the tool cannot make this, or None."""
    return next((why for pattern, why in CANNOT.items() if fnmatch.fnmatchcase(case, pattern)), None)
