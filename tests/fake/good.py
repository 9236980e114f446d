"""good: images in every layout that wasmcached accepts; each is a mode that must be pulled."""
import struct
from content import CNCF_CONFIG, CNCF_LAYER, DOCKER_LIST, DOCKER_TAR_GZIP, EMPTY, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, OCI_TAR, WASME_CONFIG, WASME_LAYER
from content import container_config, embedded, encode, gz, image, index, noise, sha256, tar, wasm, zst
from world import mode


@mode("good-raw", "ok", "raw wasm layer of the wasm-image specification")
def raw(repo):
    repo.raw_image()
    repo.raw_image(wasm("raw 2"), tag="v2")


@mode("good-large", "ok", "raw wasm layer of 8 MiB")
def large(repo):
    repo.raw_image(wasm(repo.name, 8 << 20))


@mode("good-cncf", "ok", "CNCF Wasm OCI artifact: application/wasm layer")
def cncf(repo):
    module = wasm(repo.name)
    config = repo.layer(CNCF_CONFIG, encode({"architecture": "wasm", "os": "wasip1", "layerDigests": [sha256(module)]}))
    repo.manifest(image(config, [repo.layer(CNCF_LAYER, module)]), tag="v1")


@mode("good-docker", "ok", "Docker schema 2, tar+gzip with plugin.wasm")
def docker(repo):
    repo.tar_image(media_type=DOCKER_TAR_GZIP)


@mode("good-oci", "ok", "OCI image, tar+gzip with ./plugin.wasm beside other files")
def oci(repo):
    repo.tar_image(archive=tar([("./etc/", b""), ("./runtime-config.json", b"{}"), ("./plugin.wasm", wasm(repo.name))]))


@mode("good-layers", "ok", "three tar+gzip layers, the module in the last")
def layers(repo):
    first, last = tar([("etc/motd", b"hello")]), tar([("opt/plugin.wasm", wasm(repo.name))])
    config = repo.layer(OCI_CONFIG, encode({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [sha256(first), sha256(first), sha256(last)]}}))
    repo.manifest(image(config, [repo.layer(OCI_TAR + "+gzip", gz(data)) for data in (first, first, last)]), tag="v1")


@mode("good-zstd", "ok", "tar+zstd: two frames and a skippable one between")
def zstd(repo):
    archive = tar([("plugin.wasm", wasm(repo.name))])
    repo.tar_image(zst(archive), OCI_TAR + "+zstd", archive=archive)


@mode("good-tar", "ok", "plain tar, no compression")
def plain(repo):
    archive = tar([("plugin.wasm", wasm(repo.name))])
    repo.tar_image(archive, OCI_TAR, archive=archive)


@mode("good-estargz", "ok", "tar+gzip of many gzip members, as estargz has")
def estargz(repo):
    archive = tar([(".no.prefetch.landmark", b"\x0f"), ("plugin.wasm", wasm(repo.name)), ("stargz.index.json", b"{}")])
    repo.tar_image(b"".join(gz(archive[at:at + 512]) for at in range(0, len(archive), 512)), archive=archive)


@mode("good-longnames", "ok", "pax and GNU long names of modest size before the module")
def longnames(repo):
    import tarfile
    repo.tar_image(archive=tar([("d/" * 90 + "file", b"x"), ("plugin.wasm", wasm(repo.name))], tarfile.GNU_FORMAT))


@mode("good-empty-config", "ok", "ORAS artifact: artifactType, empty config, tar+gzip layer last after a document layer")
def oras(repo):
    repo.blob(b"{}")
    archive = tar([("plugin.wasm", wasm(repo.name))])
    document = repo.layer("application/vnd.module.wasm.doc.v1+markdown", b"# plugin\n")
    repo.manifest(image(EMPTY, [document, repo.layer(OCI_TAR + "+gzip", gz(archive))], artifactType="application/vnd.unknown.artifact.v1"), tag="v1")


@mode("good-embedded", "ok", "the layer's bytes are embedded in the manifest (data) and nowhere else")
def data(repo):
    config = repo.layer(WASME_CONFIG, b"{}")
    repo.manifest(image(config, [embedded(WASME_LAYER, wasm(repo.name))]), tag="v1")


@mode("good-index", "ok", "index: a wasm child among linux ones and an attestation")
def multi(repo):
    child = repo.raw_image(tag=None)
    other = repo.tar_image(tag=None, archive=tar([("plugin.wasm", wasm("not this one"))]))
    attestation = repo.manifest(image(repo.layer(OCI_CONFIG, b"{}"), [repo.layer("application/vnd.in-toto+json", b"{}")]))
    attestation |= {"platform": {"os": "unknown", "architecture": "unknown"}, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    repo.manifest(index([attestation, other | {"platform": {"os": "linux", "architecture": "s390x"}}, child | {"platform": {"os": "wasi", "architecture": "wasm"}}]), tag="v1")


@mode("good-docker-list", "ok", "Docker manifest list with one amd64 child")
def docker_list(repo):
    child = repo.tar_image(media_type=DOCKER_TAR_GZIP, tag=None)
    repo.manifest(index([child | {"platform": {"os": "linux", "architecture": "amd64"}}], DOCKER_LIST), tag="v1")


@mode("good-nested-index", "ok", "index in an index")
def nested(repo):
    child = repo.raw_image(tag=None)
    inner = repo.manifest(index([child]), OCI_INDEX)
    repo.manifest(index([inner]), tag="v1")


@mode("good-no-media-type", "ok", "OCI manifest without its mediaType member")
def untyped(repo):
    document = image(repo.layer(WASME_CONFIG, b"{}"), [repo.layer(WASME_LAYER, wasm(repo.name))])
    del document["mediaType"]
    repo.manifest(document, OCI_MANIFEST + "; charset=utf-8", tag="v1")


@mode("good-many-layers", "ok", "128 layers, just at the limit")
def many(repo):
    config = repo.layer(OCI_CONFIG, b"{}")
    junk = [repo.layer("application/x-junk", noise(str(at), 40)) for at in range(127)]
    repo.manifest(image(config, junk + [repo.layer(WASME_LAYER, wasm(repo.name))]), tag="v1")


@mode("good-foreign-urls", "ok", "the layer has urls at another host: they must not be asked, the registry has the blob")
def foreign(repo):
    config = repo.layer(WASME_CONFIG, b"{}")
    urls = [repo.world.url("/secret-sink", repo.world.other_port), "http://169.254.169.254/latest"]
    repo.manifest(image(config, [repo.layer(WASME_LAYER, wasm(repo.name), urls=urls)]), tag="v1")


@mode("good-skippable-first", "ok", "tar+zstd that begins with a skippable frame")
def skippable(repo):
    archive = tar([("plugin.wasm", wasm(repo.name))])
    repo.tar_image(struct.pack("<II", 0x184D2A5F, 3) + b"abc" + zst(archive), OCI_TAR + "+zstd", archive=archive)
