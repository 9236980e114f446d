"""content: what honest and hostile images are made of: modules, archives, compressed streams, descriptors, manifests."""
import base64
import functools
import gzip
import hashlib
import io
import json
import struct
import tarfile
import zlib

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_TAR = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_TAR_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
WASME_CONFIG = "application/vnd.module.wasm.config.v1+json"
WASME_LAYER = "application/vnd.module.wasm.content.layer.v1+wasm"
CNCF_CONFIG = "application/vnd.wasm.config.v0+json"
CNCF_LAYER = "application/wasm"
EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "size": 2}

COMPONENT = bytes.fromhex("0061736d0d000100")


def leb(number):
    out = bytearray()
    while True:
        byte = number & 0x7F
        number >>= 7
        out.append(byte | (0x80 if number else 0))
        if not number:
            return bytes(out)


def section(kind, body):
    return bytes([kind]) + leb(len(body)) + body


def wasm(name="plugin", size=0):
    """A valid core module that exports proxy_abi_version_0_2_1; `name` makes it unlike others, `size` pads it with a custom section of incompressible bytes."""
    abi = b"proxy_abi_version_0_2_1"
    module = b"\0asm\x01\0\0\0" + section(1, b"\x01\x60\0\0") + section(3, b"\x01\0") + section(7, b"\x01" + leb(len(abi)) + abi + b"\0\0") + section(10, b"\x01\x02\0\x0b")
    module += section(0, leb(4) + b"name" + name.encode())
    if size > len(module):
        module += section(0, leb(3) + b"pad" + noise(name, size - len(module)))
    return module


def noise(seed, size):
    out = bytearray()
    block = seed.encode()
    while len(out) < size:
        block = hashlib.sha256(block).digest()
        out += block
    return bytes(out[:size])


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar(entries, fmt=tarfile.USTAR_FORMAT):
    """entries: (name, bytes) or a ready TarInfo (with .data where it has some)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt) as archive:
        for entry in entries:
            info, data = entry, getattr(entry, "data", b"")
            if isinstance(entry, tuple):
                info, data = tarfile.TarInfo(entry[0]), entry[1]
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Entry(tarfile.TarInfo):
    """A TarInfo with a place for its bytes."""
    __slots__ = ("data",)


def tar_link(name, kind, target):
    info = Entry(name)
    info.type, info.linkname, info.data = kind, target, b""
    return info


def tar_header(name, size, kind=b"0", magic=b"ustar\x0000"):
    """A single header written by hand, for what tarfile refuses to write. `name` bytes, at most 100."""
    field = b"%011o\0" % size if size < 1 << 33 else b"\x80" + size.to_bytes(11, "big")
    head = bytearray(name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + field + b"00000000000\0" + b" " * 8 + kind + b"\0" * 100 + magic + b"\0" * 247)
    assert len(head) == 512
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def padded(data):
    return data + b"\0" * (-len(data) % 512)


def gz(data):
    return gzip.compress(data, mtime=0)


@functools.cache
def gz_zeros(megabytes):
    """A gzip stream of zeros, made without holding them."""
    out, packer, block = [], zlib.compressobj(9, zlib.DEFLATED, 31), bytes(1 << 20)
    for _ in range(megabytes):
        out.append(packer.compress(block))
    return b"".join(out) + packer.flush()


def zst_frame(blocks, content_size=None, window_byte=0x58):
    """A zstd frame of ready blocks (RFC 8878); window_byte 0x58 = 2 MiB, 0xa8 = 2 GiB."""
    if content_size is None:
        head = b"\x28\xb5\x2f\xfd\x00" + bytes([window_byte])
    else:
        head = b"\x28\xb5\x2f\xfd\x80" + bytes([window_byte]) + struct.pack("<I", content_size)
    return head + b"".join(blocks)


def zst_block(kind, size, payload, last):
    return struct.pack("<I", (size << 3) | (kind << 1) | int(last))[:3] + payload


def zst(data):
    """Honest zstd of raw blocks, in two frames with a skippable one between them, as zstd:chunked has."""
    half = len(data) // 2
    skippable = struct.pack("<II", 0x184D2A50, 5) + b"chunk"
    return zst_raw(data[:half]) + skippable + zst_raw(data[half:])


def zst_raw(data):
    pieces = [data[at:at + 65536] for at in range(0, len(data), 65536)] or [b""]
    return zst_frame([zst_block(0, len(piece), piece, piece is pieces[-1]) for piece in pieces], len(data))


def zst_zeros(megabytes):
    count = megabytes * 16
    return zst_frame([zst_block(1, 65536, b"\0", at == count - 1) for at in range(count)])


def encode(document):
    return json.dumps(document, separators=(",", ":")).encode()


def descriptor(media_type, content, **more):
    return {"mediaType": media_type, "digest": sha256(content), "size": len(content), **more}


def embedded(media_type, data):
    return descriptor(media_type, data, data=base64.b64encode(data).decode())


def image(config, layers, media_type=OCI_MANIFEST, **more):
    return {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers, **more}


def index(children, media_type=OCI_INDEX, **more):
    return {"schemaVersion": 2, "mediaType": media_type, "manifests": children, **more}


def container_config(layer_tar):
    return encode({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [sha256(layer_tar)]}})
