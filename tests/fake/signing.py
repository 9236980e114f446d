"""signing: signatures of images and files in every form that wasmcached reads, and keys that follow from a name (P-256 and Ed25519 in plain Python, the same at every run; for tests only).
A signer is anything with sign(bytes) -> bytes, hint and pem."""
import base64
import functools
import hashlib
import json

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
CLASSIC = "application/vnd.dev.cosign.artifact.sig.v1+json"
SIGNATURE, CERTIFICATE, LOG_ENTRY = "dev.cosignproject.cosign/signature", "dev.sigstore.cosign/certificate", "dev.sigstore.cosign/bundle"
PREDICATE, STATEMENT, PAYLOAD = "https://sigstore.dev/cosign/sign/v1", "https://in-toto.io/Statement/v1", "application/vnd.in-toto+json"


def b64(data):
    return base64.b64encode(data).decode()


def compact(document):
    return document if isinstance(document, bytes) else json.dumps(document, separators=(",", ":")).encode()


def number_of(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "big")


def pem(der):
    text = b64(der)
    return "-----BEGIN PUBLIC KEY-----\n" + "".join(text[at:at + 64] + "\n" for at in range(0, len(text), 64)) + "-----END PUBLIC KEY-----\n"


class Signer:
    def __init__(self, spki):
        self.spki, self.pem = spki, pem(spki)
        self.fingerprint = hashlib.sha256(spki).hexdigest()
        self.hint = b64(hashlib.sha256(spki).digest())


# ---- ECDSA over P-256 (FIPS 186-4), affine: slow enough to be short
P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296, 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5)


def point_add(a, b):
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def point_times(number, point):
    total = None
    while number:
        if number & 1:
            total = point_add(total, point)
        point, number = point_add(point, point), number >> 1
    return total


def der_integer(number):
    body = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return b"\x02" + bytes([len(body)]) + body


class EcKey(Signer):
    def __init__(self, name):
        self.secret = number_of(b"ec key of ", name.encode()) % (N - 1) + 1
        x, y = point_times(self.secret, G)
        super().__init__(bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200") + b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big"))

    def sign(self, data):
        digest = hashlib.sha256(data).digest()
        nonce = number_of(self.secret.to_bytes(32, "big"), digest) % (N - 1) + 1
        r = point_times(nonce, G)[0] % N
        s = pow(nonce, -1, N) * (int.from_bytes(digest, "big") + r * self.secret) % N
        body = der_integer(r) + der_integer(s)
        return b"\x30" + bytes([len(body)]) + body


# ---- Ed25519 (RFC 8032), extended coordinates
Q = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, Q) % Q
BASE_Y = 4 * pow(5, -1, Q) % Q


def base_point():
    square = (BASE_Y * BASE_Y - 1) * pow(D * BASE_Y * BASE_Y + 1, -1, Q) % Q
    x = pow(square, (Q + 3) // 8, Q)
    if (x * x - square) % Q:
        x = x * pow(2, (Q - 1) // 4, Q) % Q
    x = Q - x if x & 1 else x
    return x, BASE_Y, 1, x * BASE_Y % Q


def edwards_add(a, b):
    left, right = (a[1] - a[0]) * (b[1] - b[0]) % Q, (a[1] + a[0]) * (b[1] + b[0]) % Q
    c, d = 2 * a[3] * b[3] * D % Q, 2 * a[2] * b[2] % Q
    e, f, g, h = right - left, d - c, d + c, right + left
    return e * f % Q, g * h % Q, f * g % Q, e * h % Q


def edwards_times(number, point):
    total = (0, 1, 1, 0)
    while number:
        if number & 1:
            total = edwards_add(total, point)
        point, number = edwards_add(point, point), number >> 1
    return total


def edwards_bytes(point):
    inverse = pow(point[2], -1, Q)
    x, y = point[0] * inverse % Q, point[1] * inverse % Q
    return (y | (x & 1) << 255).to_bytes(32, "little")


class EdKey(Signer):
    def __init__(self, name="", seed=None):
        half = hashlib.sha512(seed or hashlib.sha256(b"ed key of " + name.encode()).digest()).digest()
        self.scalar = int.from_bytes(half[:32], "little") & (1 << 254) - 8 | 1 << 254
        self.prefix = half[32:]
        self.raw = edwards_bytes(edwards_times(self.scalar, base_point()))
        super().__init__(bytes.fromhex("302a300506032b6570032100") + self.raw)

    def sign(self, data):
        nonce = number_of_little(self.prefix, data)
        first = edwards_bytes(edwards_times(nonce, base_point()))
        return first + ((nonce + number_of_little(first, self.raw, data) * self.scalar) % L).to_bytes(32, "little")


def number_of_little(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % L


@functools.cache
def ec_key(name="plugin"):
    return EcKey(name)


@functools.cache
def ed_key(name="plugin"):
    return EdKey(name)


# ---- images: what is signed
def simple_payload(digest, reference="registry.example/team/plugin", optional=None, **more):
    return compact({"critical": {"identity": {"docker-reference": reference}, "image": {"docker-manifest-digest": digest}, "type": "cosign container image signature", **more}, "optional": optional})


def statement(digest, predicate_type=PREDICATE, annotations=None, kind=STATEMENT, **more):
    subject = {"digest": {"sha256": digest.removeprefix("sha256:")}, **({"annotations": annotations} if annotations else {})}
    return compact({"_type": kind, "subject": [subject], "predicateType": predicate_type, "predicate": {}, **more})


def pae(payload, kind=PAYLOAD):
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)


def dsse_bundle(signer, payload, kind=PAYLOAD, signatures=None, hint=None, **more):
    signatures = signatures if signatures is not None else [{"sig": b64(signer.sign(pae(payload, kind)))}]
    return compact({"mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": hint or signer.hint}},
                    "dsseEnvelope": {"payload": b64(payload), "payloadType": kind, "signatures": signatures}, **more})


# ---- files
def message_bundle(signer, data, digest=None):
    return compact({"mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": signer.hint}},
                    "messageSignature": {"messageDigest": {"algorithm": "SHA2_256", "digest": b64(digest or hashlib.sha256(data).digest())}, "signature": b64(signer.sign(data))}})


def raw_signature(signer, data):
    return b64(signer.sign(data)).encode() + b"\n"


def legacy_bundle(signer, data):
    return compact({"base64Signature": b64(signer.sign(data)), "cert": "", "rekorBundle": None})


def wasm_signature_data(signer, module):
    """What wasmsign2 writes: the section's payload, and the whole of a detached signature."""
    content = hashlib.sha256(module[8:]).digest()
    return b"\x01\x01\x01\x01\x66\x01" + content + b"\x01\x43\x00\x01\x40" + signer.sign(b"wasmsig\x01\x01\x01" + content)


def wasm_signed(signer, module):
    body = b"\x09signature" + wasm_signature_data(signer, module)
    return module[:8] + b"\x00" + bytes([len(body) & 0x7F | 0x80, len(body) >> 7]) + body + module[8:]


def wasm_signed_1(signer, module):
    """wasmsign v1: the last section."""
    digest = hashlib.sha512(b"WasmSignature" + bytes(4) + module).digest()
    return module + b"\x00\x57\x12signature_wasmsign\x02\x00\x00\x00" + signer.sign(digest)


def minisig(signer, data, comment="timestamp:1 file:plugin.wasm"):
    first = signer.sign(hashlib.blake2b(data).digest())
    return (f"untrusted comment: a test\n{b64(b'ED' + bytes(8) + first)}\ntrusted comment: {comment}\n{b64(signer.sign(first + comment.encode()))}\n").encode()


# ---- a repository (world.Repo): where signatures lie
def signature_tag(target):
    return target["digest"].replace(":", "-") + ".sig"


def fallback_tag(target):
    return target["digest"].replace(":", "-")


def simple_layer(repo, payload, signature, kind=SIMPLE, **annotations):
    return repo.layer(kind, payload, annotations={**({SIGNATURE: signature if isinstance(signature, str) else b64(signature)} if signature is not None else {}), **annotations})


def classic_manifest(repo, layers, tag=None, **more):
    config = repo.layer("application/vnd.oci.image.config.v1+json", b'{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[]}}')
    return repo.manifest({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers, **more}, tag=tag)


def sign_simple(repo, target, signer, payload=None, **more):
    """The `.sig` tag, one layer."""
    payload = payload if payload is not None else simple_payload(target["digest"], **more)
    return classic_manifest(repo, [simple_layer(repo, payload, signer.sign(payload))], signature_tag(target))


def bundle_manifest(repo, target, bundle, layers=None, **more):
    empty = repo.layer("application/vnd.oci.empty.v1+json", b"{}")
    layers = layers or [repo.layer(BUNDLE, bundle)]
    return repo.manifest({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": BUNDLE, "config": empty, "layers": layers, "subject": target,
                          "annotations": {"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": PREDICATE}, **more})


def referrers_index(entries):
    return {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}


def put_fallback(repo, target, entries):
    return repo.manifest(referrers_index(entries), tag=fallback_tag(target))


def sign_bundle(repo, target, signer, payload=None, artifact_type=BUNDLE, **more):
    """A bundle as referrer, listed by the fallback tag as cosign does; gives the entry."""
    made = bundle_manifest(repo, target, dsse_bundle(signer, payload if payload is not None else statement(target["digest"], **more)))
    entry = made | ({"artifactType": artifact_type} if artifact_type else {})
    put_fallback(repo, target, [entry])
    return entry
