"""modes_manifest: manifests and indexes that lie, contradict themselves or are too much."""
import json
from content import CNCF_CONFIG, CNCF_LAYER, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, OCI_TAR, SCHEMA1, WASME_CONFIG, WASME_LAYER
from content import descriptor, embedded, encode, gz, image, index, noise, sha256, tar, wasm, zst
from world import mode



def document_mode(name, code, help_text, media_type=None):
    """The function gives the manifest: dict or bytes; parts(repo) makes an honest config and layer."""
    def register(make):
        @mode(name, code, help_text)
        def build(repo):
            document = make(repo)
            repo.manifest(document, media_type, tag="v1")
        return make
    return register


def parts(repo):
    return repo.layer(WASME_CONFIG, b"{}"), repo.layer(WASME_LAYER, wasm(repo.name))


def honest(repo, **more):
    config, layer = parts(repo)
    return image(config, [layer], **more)


# ---- JSON
@document_mode("json-duplicate", "upstream_error", "layers twice: the second is another module")
def duplicate(repo):
    text = encode(honest(repo)).decode()
    return (text[:-1] + ',"layers":' + json.dumps([repo.layer(WASME_LAYER, wasm("evil"))]) + "}").encode()


@document_mode("json-truncated", "upstream_error", "JSON that ends in the middle")
def truncated(repo):
    return encode(honest(repo))[:-10]


@document_mode("json-trailing", "upstream_error", "JSON with something after it")
def trailing(repo):
    return encode(honest(repo)) + b" {}"


@document_mode("json-bad-utf8", "upstream_error", "JSON with bytes that are no UTF-8")
def bad_utf8(repo):
    return encode(honest(repo, annotations={"a": "b"})).replace(b'"b"', b'"\xff\xfe"')


@document_mode("json-deep", "upstream_error", "arrays 100 000 deep")
def deep(repo):
    return encode(honest(repo))[:-1] + b',"x":' + b"[" * 100000 + b"]" * 100000 + b"}"


@document_mode("json-many-nodes", "upstream_error", "a million numbers")
def many_nodes(repo):
    return encode(honest(repo))[:-1] + b',"x":[' + b",".join([b"0"] * 1000000) + b"]}"


@document_mode("json-array", "upstream_error", "an array instead of an object")
def array(repo):
    return b"[]"


@document_mode("json-empty", "upstream_error", "an empty body")
def empty(repo):
    return b""


@document_mode("json-html", "upstream_error", "a page of HTML with status 200", "text/html")
def html(repo):
    return b"<html><body>Please sign in</body></html>"


@document_mode("manifest-too-large", "too_large", "a manifest of 5 MiB")
def too_large(repo):
    return encode(honest(repo, annotations={"pad": "x" * (5 << 20)}))


# ---- kinds
@document_mode("both-kinds", "upstream_error", "layers and manifests in one document (CVE-2021-41190)")
def both(repo):
    return honest(repo, manifests=[])


@document_mode("index-with-layers", "upstream_error", "an index that has layers too")
def index_layers(repo):
    child = repo.raw_image(tag=None)
    config, layer = parts(repo)
    return index([child], layers=[layer], config=config)


@document_mode("type-mismatch", "upstream_error", "mediaType says index, Content-Type image", OCI_MANIFEST)
def type_mismatch(repo):
    return honest(repo) | {"mediaType": OCI_INDEX}


@document_mode("type-unknown", "unsupported_image", "an unknown Content-Type and mediaType", "application/vnd.example.thing+json")
def type_unknown(repo):
    return honest(repo) | {"mediaType": "application/vnd.example.thing+json"}


@document_mode("schema-version", "upstream_error", "schemaVersion 3")
def schema_version(repo):
    return honest(repo) | {"schemaVersion": 3}


@document_mode("schema-text", "upstream_error", "schemaVersion \"2\"")
def schema_text(repo):
    return honest(repo) | {"schemaVersion": "2"}


@document_mode("schema1", "unsupported_image", "Docker schema 1", SCHEMA1)
def schema1(repo):
    return {"schemaVersion": 1, "name": repo.name, "tag": "v1", "fsLayers": [{"blobSum": parts(repo)[1]["digest"]}], "history": [{"v1Compatibility": "{}"}], "signatures": []}


@document_mode("no-layers", "unsupported_image", "no layers at all")
def no_layers(repo):
    return honest(repo) | {"layers": []}


@document_mode("layers-object", "upstream_error", "layers is an object")
def layers_object(repo):
    return honest(repo) | {"layers": {}}


@document_mode("unknown-layers", "unsupported_image", "only layers of unknown types")
def unknown_layers(repo):
    return image(parts(repo)[0], [repo.layer("application/vnd.example.one", b"1"), repo.layer("application/vnd.example.two", b"2")])


@document_mode("two-wasm-layers", "unsupported_image", "two application/wasm layers")
def two_wasm(repo):
    return image(repo.layer(CNCF_CONFIG, b"{}"), [repo.layer(CNCF_LAYER, wasm("one")), repo.layer(CNCF_LAYER, wasm("two"))])


@document_mode("layers-129", "unsupported_image", "129 layers")
def layers_129(repo):
    return image(repo.layer(OCI_CONFIG, b"{}"), [repo.layer("application/x-junk", noise(str(at), 30)) for at in range(128)] + [repo.layer(WASME_LAYER, wasm(repo.name))])


# ---- indexes
@document_mode("index-1001", "unsupported_image", "1001 children")
def index_1001(repo):
    return index([repo.raw_image(tag=None)] * 1001)


@document_mode("index-empty", "unsupported_image", "no children")
def index_empty(repo):
    return index([])


@document_mode("index-deep", "unsupported_image", "indexes nested 12 deep")
def index_deep(repo):
    child = repo.raw_image(tag=None)
    for _ in range(12):
        child = repo.manifest(index([child]), OCI_INDEX)
    return index([child])


@document_mode("index-loop", "upstream_error", "an index that names itself: the child's digest cannot match")
def index_loop(repo):
    fake = {"mediaType": OCI_INDEX, "digest": "sha256:" + "1" * 64, "size": 500}
    document = encode(index([fake]))
    repo.manifests[fake["digest"]] = (OCI_INDEX, document)
    return document


@document_mode("index-platforms", "unsupported_image", "two children for platforms that are not ours")
def platforms(repo):
    child = repo.raw_image(tag=None)
    return index([child | {"platform": {"os": "windows", "architecture": "amd64"}}, child | {"platform": {"os": "plan9", "architecture": "mips"}}])


@document_mode("child-missing", "not_found", "the child is not in the registry")
def child_missing(repo):
    return index([descriptor(OCI_MANIFEST, b"not there")])


@document_mode("child-wrong-digest", "checksum_mismatch", "the child's bytes are not what its digest says")
def child_wrong(repo):
    child = repo.raw_image(tag=None)
    evil = repo.raw_image(wasm("evil"), tag=None)
    repo.manifests[child["digest"]] = repo.manifests[evil["digest"]]
    return index([child | {"size": evil["size"]}])


@document_mode("child-wrong-size", "checksum_mismatch", "the child's size in the index is wrong")
def child_size(repo):
    child = repo.raw_image(tag=None)
    return index([child | {"size": child["size"] + 1}])


@document_mode("child-embedded", "ok", "the child is embedded in its index (data) and nowhere else")
def child_embedded(repo):
    child = repo.raw_image(tag=None)
    return index([embedded(OCI_MANIFEST, repo.manifests.pop(child["digest"])[1])])


@document_mode("child-embedded-other", "upstream_error", "the embedded child is not what its digest says")
def child_embedded_other(repo):
    return index([repo.raw_image(tag=None) | {"data": embedded(OCI_MANIFEST, b"{}")["data"]}])


@document_mode("child-embedded-type", "upstream_error", "the embedded child is an image, its index calls it an index")
def child_embedded_type(repo):
    child = repo.raw_image(tag=None)
    return index([embedded(OCI_INDEX, repo.manifests.pop(child["digest"])[1])])


@document_mode("child-wrong-type", "unsupported_image", "the index calls an image an index")
def child_type(repo):
    return index([repo.raw_image(tag=None) | {"mediaType": OCI_INDEX}])


# ---- descriptors
def layer_change(name, code, help_text, **change):
    @document_mode(name, code, help_text)
    def make(repo):
        config, layer = parts(repo)
        return image(config, [{key: value for key, value in (layer | change).items() if value is not None}])


layer_change("size-negative", "upstream_error", "a layer of size -1", size=-1)
layer_change("size-huge", "too_large", "a layer that claims 1 TiB", size=1 << 40)
layer_change("size-overflow", "upstream_error", "a layer of size 2^64", size=1 << 64)
layer_change("size-real", "upstream_error", "a layer of size 10.5", size=10.5)
layer_change("size-text", "upstream_error", "a layer whose size is a string", size="100")
layer_change("size-missing", "upstream_error", "a layer without size", size=None)
layer_change("size-lying", "checksum_mismatch", "a layer whose size is one too few", size=10)
layer_change("digest-missing", "upstream_error", "a layer without digest", digest=None)
layer_change("digest-md5", "unsupported_image", "a layer with an md5 digest", digest="md5:d41d8cd98f00b204e9800998ecf8427e")
layer_change("digest-path", "upstream_error", "a digest that is a path (CVE-2024-3727)", digest="sha256:../../../../etc/passwd")
layer_change("digest-upper", "upstream_error", "a digest in upper case", digest="sha256:" + "AB" * 32)
layer_change("digest-absent", "not_found", "a layer that is not in the registry", digest="sha256:" + "0" * 64)
layer_change("type-missing", "upstream_error", "a layer without mediaType", mediaType=None)
layer_change("data-other", "upstream_error", "embedded data that is not what the digest says", data="AGFzbQEAAAA=")
layer_change("data-not-base64", "upstream_error", "embedded data that is no base64", data="!!!!")


@document_mode("data-size", "upstream_error", "embedded data of the right digest with a wrong size")
def data_size(repo):
    layer = embedded(WASME_LAYER, wasm(repo.name))
    return image(parts(repo)[0], [layer | {"size": layer["size"] + 1}])


@mode("digest-sha512", "ok", "the layer's digest is a sha512")
def sha512(repo):
    import hashlib
    module = wasm(repo.name)
    digest = "sha512:" + hashlib.sha512(module).hexdigest()
    repo.blobs[digest] = module
    repo.manifest(image(parts(repo)[0], [{"mediaType": WASME_LAYER, "digest": digest, "size": len(module)}]), tag="v1")


@mode("config-missing", "ok", "the config blob of a tar image is not in the registry")
def config_missing(repo):
    repo.tar_image()
    config = min(repo.blobs, key=lambda digest: len(repo.blobs[digest]))
    del repo.blobs[config]


document_mode("manifest-4mib", "ok", "a manifest of 4 MiB, just at the limit")(lambda repo: encode(honest(repo)).ljust(4 << 20))
document_mode("manifest-4mib-over", "too_large", "a manifest of 4 MiB and a byte")(lambda repo: encode(honest(repo)).ljust((4 << 20) + 1))


def config_mode(name, code, help_text, box=gz, box_type="+gzip"):
    """The function gives the config's content: bytes, or the list of its diff_ids; `good` is the archive's own."""
    def register(make):
        @mode(name, code, help_text)
        def build(repo):
            archive = tar([("plugin.wasm", wasm(repo.name))])
            content = make(sha256(archive))
            if isinstance(content, list):
                content = encode({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": content}})
            config = repo.layer(OCI_CONFIG, content)
            repo.manifest(image(config, [repo.layer(OCI_TAR + box_type, box(archive))]), tag="v1")
        return make
    return register


OTHER_ID = sha256(b"other")
config_mode("config-diff-id", "checksum_mismatch", "diff_ids of the config do not match the layer, which is tar+gzip")(lambda good: [OTHER_ID])
config_mode("config-diff-id-zstd", "checksum_mismatch", "diff_ids of the config do not match the layer, which is tar+zstd", zst, "+zstd")(lambda good: [OTHER_ID])
config_mode("config-diff-id-tar", "checksum_mismatch", "diff_ids of the config do not match the layer, which is a plain tar", lambda archive: archive, "")(lambda good: [OTHER_ID])
config_mode("config-diff-id-good", "ok", "diff_ids of the config match the layer, which is tar+zstd", zst, "+zstd")(lambda good: [good])
config_mode("config-diff-id-text", "checksum_mismatch", "a diff_id that is no digest")(lambda good: ["x" * 71])
config_mode("config-diff-ids-none", "ok", "a config without a diff_id says nothing")(lambda good: [])
config_mode("config-diff-ids-more", "unsupported_image", "more diff_ids than layers: which is whose?")(lambda good: [good, OTHER_ID])
config_mode("config-no-json", "ok", "the config is no JSON: not an image's, whatever its type says")(lambda good: b"not JSON at all, but long enough that it could hold a digest: " + b"x" * 100)
config_mode("config-huge", "too_large", "a config of more than 4 MiB")(lambda good: b'{"a":"' + b"x" * (4 << 20) + b'"}')


@mode("config-wrong", "checksum_mismatch", "the config blob is not what its digest says")
def config_wrong(repo):
    repo.tar_image()
    config = min(repo.blobs, key=lambda digest: len(repo.blobs[digest]))
    repo.blobs[config] = repo.blobs[config].replace(b"amd64", b"arm64")


@mode("config-short", "checksum_mismatch", "the config blob ends early")
def config_short(repo):
    repo.tar_image()
    config = min(repo.blobs, key=lambda digest: len(repo.blobs[digest]))
    repo.blobs[config] = repo.blobs[config][:-1]


@mode("config-diff-ids-fewer", "ok", "fewer diff_ids than layers: nothing can be said")
def diff_ids_fewer(repo):
    archive = tar([("plugin.wasm", wasm(repo.name))])
    config = repo.layer(OCI_CONFIG, encode({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [OTHER_ID]}}))
    repo.manifest(image(config, [repo.layer(OCI_TAR + "+gzip", gz(data)) for data in (tar([("etc/motd", b"hello")]), archive)]), tag="v1")


@mode("config-diff-id-second", "checksum_mismatch", "the diff_id of the second layer, which has the module, is that of the first")
def diff_id_second(repo):
    first, last = tar([("etc/motd", b"hello")]), tar([("plugin.wasm", wasm(repo.name))])
    config = repo.layer(OCI_CONFIG, encode({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [sha256(first), sha256(first)]}}))
    repo.manifest(image(config, [repo.layer(OCI_TAR + "+gzip", gz(data)) for data in (first, last)]), tag="v1")


# ---- what another repository holds: this one says that it has it too (the image is byte for byte that of basic/raw)
@mode("good-twin", "ok", "the same image as basic/raw has, whole")
def twin(repo):
    repo.raw_image(wasm("basic/raw"))


@mode("vouch-manifest", "not_found", "the manifest of basic/raw (which is no secret) and none of its blobs")
def vouch_manifest(repo):
    repo.raw_image(wasm("basic/raw"))
    repo.blobs.clear()


@mode("vouch-head", "not_found", "200 to every HEAD of a manifest, with whatever digest was asked for; nothing behind it")
def vouch_head(repo):
    repo.raw_image(wasm("basic/raw"))
    repo.on_any = lambda connection: vouch(connection, [("Docker-Content-Digest", connection.request.path.rpartition("/")[2])])


@mode("vouch-page", "not_found", "a HEAD of a manifest is led to a login page, which is always 200")
def vouch_page(repo):
    repo.raw_image(wasm("basic/raw"))

    def on_any(connection):
        if connection.request.method != "HEAD":
            return vouch(connection, [])
        page = repo.world.path(lambda reader: reader.reply(200, "<html>log in</html>", [("Content-Type", "text/html")]))
        return connection.reply(307, headers=[("Location", page)]) or True
    repo.on_any = on_any


def vouch(connection, headers):
    if connection.request.method == "HEAD":
        return connection.reply(200, b"", [("Content-Type", OCI_MANIFEST), ("Content-Length", 400)] + headers) or True
    return connection.reply(404, {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}) or True
