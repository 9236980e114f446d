"""modes_layer: layers whose bytes are what their digest says, and hostile all the same."""
import struct
import tarfile
from content import COMPONENT, DOCKER_TAR_GZIP, OCI_TAR
from content import gz, gz_zeros, noise, padded, tar, tar_header, tar_link, wasm, zst_block, zst_frame, zst_raw, zst_zeros
from world import mode

GZIP, ZSTD = OCI_TAR + "+gzip", OCI_TAR + "+zstd"


def raw_mode(name, code, help_text):
    def register(make):
        @mode(name, code, help_text)
        def build(repo):
            repo.raw_image(make(repo))
        return make
    return register


def layer_mode(name, code, help_text, media_type=GZIP):
    def register(make):
        @mode(name, code, help_text)
        def build(repo):
            repo.tar_image(make(repo), media_type)
        return make
    return register


def archive_mode(name, code, help_text):
    """The function gives a tar; it is stored as tar+gzip."""
    def register(make):
        @mode(name, code, help_text)
        def build(repo):
            archive = make(repo)
            repo.tar_image(gz(archive), archive=archive)
        return make
    return register


def plugin(repo):
    return ("plugin.wasm", wasm(repo.name))


# ---- what a raw layer may not be
raw_mode("raw-component", "not_wasm", "a component instead of a core module")(lambda repo: COMPONENT + noise("c", 100))
raw_mode("raw-not-wasm", "not_wasm", "text instead of a module")(lambda repo: b"#!/bin/sh\necho hello\n" * 20)
raw_mode("raw-short", "not_wasm", "the first five bytes of a module")(lambda repo: b"\0asm\x01")
raw_mode("raw-version", "not_wasm", "version 2 of the binary format")(lambda repo: b"\0asm\x02\0\0\0" + noise("v", 50))
raw_mode("raw-gzip", "not_wasm", "a gzip stream in a raw wasm layer")(lambda repo: gz(wasm(repo.name)))
raw_mode("raw-zstd", "not_wasm", "a zstd stream in a raw wasm layer")(lambda repo: zst_raw(wasm(repo.name)))
raw_mode("raw-tar", "not_wasm", "a tar in a raw wasm layer")(lambda repo: tar([plugin(repo)]))
raw_mode("raw-empty", "not_wasm", "an empty layer")(lambda repo: b"")


# ---- compression
@layer_mode("gzip-bomb", "too_large", "64 MiB of zeros in 64 KiB of gzip")
def gzip_bomb(repo):
    return gz_zeros(64)


@layer_mode("gzip-bomb-plugin", "too_large", "plugin.wasm of 300 MiB of zeros")
def gzip_bomb_plugin(repo):
    return gz(tar_header(b"plugin.wasm", 300 << 20)) + gz_zeros(300) + gz(bytes(1024))


@layer_mode("zstd-bomb", "too_large", "64 MiB of zeros in 4 KiB of zstd", ZSTD)
def zstd_bomb(repo):
    return zst_zeros(64)


@layer_mode("zstd-window", "too_large", "a zstd frame that wants a window of 2 GiB", ZSTD)
def zstd_window(repo):
    archive = tar([plugin(repo)])
    return zst_frame([zst_block(0, len(archive), archive, True)], None, 0xA8)


@layer_mode("gzip-truncated", "upstream_error", "gzip that ends in the middle")
def gzip_truncated(repo):
    data = gz(tar([plugin(repo)]))
    return data[:len(data) // 2]


@layer_mode("gzip-corrupt", "upstream_error", "gzip with a wrong checksum")
def gzip_corrupt(repo):
    data = gz(tar([plugin(repo)]))
    return data[:-8] + b"\0\0\0\0" + data[-4:]


@layer_mode("gzip-garbage", "upstream_error", "garbage after the last gzip member")
def gzip_garbage(repo):
    return gz(tar([plugin(repo)])) + noise("garbage", 300)


@layer_mode("gzip-not", "unsupported_image", "a layer called tar+gzip that is noise")
def gzip_not(repo):
    return noise("not gzip", 2000)


@layer_mode("gzip-is-zstd", "unsupported_image", "a layer called tar+gzip that is zstd")
def gzip_is_zstd(repo):
    return zst_raw(tar([plugin(repo)]))


@layer_mode("zstd-is-gzip", "unsupported_image", "a layer called tar+zstd that is gzip", ZSTD)
def zstd_is_gzip(repo):
    return gz(tar([plugin(repo)]))


@layer_mode("zstd-truncated", "upstream_error", "zstd that ends in the middle", ZSTD)
def zstd_truncated(repo):
    data = zst_raw(tar([plugin(repo)]))
    return data[:len(data) // 2]


@layer_mode("zstd-skippable-only", "upstream_error", "nothing but a skippable frame that claims 4 GiB", ZSTD)
def zstd_skippable(repo):
    return struct.pack("<II", 0x184D2A50, 0xFFFFFFFF) + b"x" * 100


@layer_mode("tar-is-gzip", "ok", "a layer called plain tar that is tar+gzip", OCI_TAR)
def tar_gzip(repo):
    return gz(tar([plugin(repo)]))


@layer_mode("tar-is-zstd", "ok", "a layer called plain tar that is tar+zstd", OCI_TAR)
def tar_zstd(repo):
    return zst_raw(tar([plugin(repo)]))


@layer_mode("tar-is-wasm", "unsupported_image", "a layer called plain tar that is a bare module", OCI_TAR)
def tar_wasm(repo):
    return wasm(repo.name)


@layer_mode("gzip-nested", "unsupported_image", "gzip in gzip in an image layer")
def gzip_nested(repo):
    return gz(gz(tar([plugin(repo)])))


@layer_mode("docker-not-gzip", "unsupported_image", "a Docker tar.gzip layer that is a plain tar", DOCKER_TAR_GZIP)
def docker_plain(repo):
    return tar([plugin(repo)])


# ---- tar
archive_mode("tar-empty", "unsupported_image", "an archive without entries")(lambda repo: bytes(1024))
archive_mode("tar-no-plugin", "unsupported_image", "no plugin.wasm in it")(lambda repo: tar([("other.wasm", wasm(repo.name)), ("README", b"hello")]))
archive_mode("tar-two-plugins", "unsupported_image", "two different plugin.wasm")(lambda repo: tar([("a/plugin.wasm", wasm("a")), ("b/plugin.wasm", wasm("b"))]))
archive_mode("tar-symlink", "unsupported_image", "plugin.wasm is a symlink to /etc/shadow")(lambda repo: tar([tar_link("plugin.wasm", tarfile.SYMTYPE, "/etc/shadow")]))
archive_mode("tar-hardlink", "unsupported_image", "plugin.wasm is a hard link to an earlier entry")(
    lambda repo: tar([("real", wasm("x")), tar_link("plugin.wasm", tarfile.LNKTYPE, "real")]))
archive_mode("tar-device", "unsupported_image", "plugin.wasm is a device")(lambda repo: tar([tar_link("plugin.wasm", tarfile.CHRTYPE, "")]))
archive_mode("tar-fifo", "unsupported_image", "plugin.wasm is a FIFO")(lambda repo: tar([tar_link("plugin.wasm", tarfile.FIFOTYPE, "")]))
archive_mode("tar-folder", "unsupported_image", "plugin.wasm is a folder")(lambda repo: tar([tar_link("plugin.wasm", tarfile.DIRTYPE, "")]))
archive_mode("tar-dotdot", "unsupported_image", "../../plugin.wasm")(lambda repo: tar([("../../plugin.wasm", wasm(repo.name))]))
archive_mode("tar-dotdot-inside", "unsupported_image", "a/../../plugin.wasm")(lambda repo: tar([("a/../../plugin.wasm", wasm(repo.name))]))
archive_mode("tar-absolute", "ok", "/plugin.wasm: a leading slash is taken off")(lambda repo: tar([("/plugin.wasm", wasm(repo.name))]))
archive_mode("tar-component", "not_wasm", "plugin.wasm is a component")(lambda repo: tar([("plugin.wasm", COMPONENT + noise("c", 100))]))
archive_mode("tar-text", "not_wasm", "plugin.wasm is text")(lambda repo: tar([("plugin.wasm", b"not a module at all\n" * 9)]))
archive_mode("tar-empty-plugin", "not_wasm", "plugin.wasm is empty")(lambda repo: tar([("plugin.wasm", b"")]))
archive_mode("tar-truncated", "upstream_error", "the archive ends within plugin.wasm")(lambda repo: tar_header(b"plugin.wasm", 100000) + noise("t", 5000))
archive_mode("tar-bad-checksum", "upstream_error", "a header whose checksum is wrong")(lambda repo: tar([plugin(repo)])[:100] + b"9" + tar([plugin(repo)])[101:])
archive_mode("tar-negative-size", "upstream_error", "a header with a negative size (base 256)")(
    lambda repo: negative_size(tar_header(b"plugin.wasm", 0)) + padded(wasm(repo.name)) + bytes(1024))
archive_mode("tar-huge-size", "too_large", "plugin.wasm of 4 EiB in its header")(
    lambda repo: tar_header(b"plugin.wasm", 1 << 62) + padded(wasm(repo.name)) + bytes(1024))
archive_mode("tar-nul-name", "unsupported_image", "a pax path with a NUL in it: plugin.wasm\\0.txt")(
    lambda repo: pax(b"path=plugin.wasm\0.txt\n") + tar_header(b"x", len(wasm(repo.name))) + padded(wasm(repo.name)) + bytes(1024))
archive_mode("tar-control-name", "unsupported_image", "another entry with a line end in its name")(lambda repo: tar([("a\nb", b"x"), plugin(repo)]))
archive_mode("tar-two-sizes", "unsupported_image", "a pax size other than the header's, so that readers go on at different places")(
    lambda repo: pax(b"size=1024\n") + tar([("a", wasm("hidden")), plugin(repo)]))
archive_mode("tar-pax-huge", "too_large", "a pax header of 4 MiB")(lambda repo: pax(b"comment=" + noise("p", 4 << 20) + b"\n") + tar([plugin(repo)]))
archive_mode("tar-pax-lying", "upstream_error", "a pax record whose length is wrong")(lambda repo: pax_raw(b"99 path=plugin.wasm\n") + tar([plugin(repo)]))
archive_mode("tar-pax-size", "too_large", "a pax size of 1 EiB for plugin.wasm")(lambda repo: pax(b"size=1152921504606846976\n") + tar([plugin(repo)]))
archive_mode("tar-longname-huge", "too_large", "a GNU long name of 8 MiB")(
    lambda repo: tar_header(b"././@LongLink", 8 << 20, b"L") + bytes(b"n" * (8 << 20)) + tar([plugin(repo)]))
archive_mode("tar-sparse-pax", "unsupported_image", "plugin.wasm as a GNU sparse file (pax 1.0)")(
    lambda repo: pax(b"GNU.sparse.major=1\n", b"GNU.sparse.minor=0\n", b"GNU.sparse.name=plugin.wasm\n", b"GNU.sparse.realsize=1099511627776\n") +
    tar_header(b"GNUSparseFile.0/plugin.wasm", 512) + padded(b"1\n0\n0\n") + bytes(1024))
archive_mode("tar-sparse-old", "unsupported_image", "plugin.wasm as an old GNU sparse file (type S)")(
    lambda repo: tar_header(b"plugin.wasm", len(wasm(repo.name)), b"S", b"ustar  \0") + padded(wasm(repo.name)) + bytes(1024))


def negative_size(header):
    header = bytearray(header)
    header[124:136] = b"\xff" * 12
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def pax_raw(body):
    return tar_header(b"PaxHeaders/x", len(body), b"x") + padded(body)


def pax(*records):
    body = b""
    for record in records:
        length = len(record) + 1
        while length != len(record) + 1 + len(str(length)):
            length = len(record) + 1 + len(str(length))
        body += b"%d " % length + record
    return pax_raw(body)


@archive_mode("tar-entries", "too_large", "20 000 entries before plugin.wasm")
def entries(repo):
    empty = tar_header(b"file", 0)
    return empty * 20000 + tar([plugin(repo)])


@archive_mode("tar-pax-chain", "upstream_error", "20 000 pax headers before one entry")
def pax_chain(repo):
    return pax(b"comment=x\n") * 20000 + tar([plugin(repo)])


@archive_mode("tar-nested", "unsupported_image", "a tar in the tar holds the plugin.wasm")
def nested(repo):
    return tar([("inner.tar", tar([plugin(repo)]))])


@archive_mode("tar-whiteout", "ok", "plugin.wasm beside its own whiteout")
def whiteout(repo):
    return tar([plugin(repo), (".wh.plugin.wasm", b"")])
