"""modes_sign: registries that lie, mumble or keep silent about signatures; asked for with the keys of good_sign. signature_missing: nothing was found anywhere; signature_invalid:
something was, and no good; signature_unreachable: somewhere nobody could look."""
import base64
import json

from content import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, image, index, noise, sha256, wasm
from good_sign import CERTIFICATE_PEM, OTHER, embedded_image, json_reply, on_path, sign_mode
from signing import BUNDLE, CERTIFICATE, b64, bundle_manifest, classic_manifest, compact, dsse_bundle, ec_key, ed_key, fallback_tag, pae, put_fallback, referrers_index, sign_bundle, sign_simple
from signing import signature_tag, simple_layer, simple_payload, statement, wasm_signed
from world import mode


@mode("sign-index-other-child", "signature_missing", "an index: a child is signed that is not the one for us", "key")
def index_other_child(repo):
    other = repo.tar_image(tag=None)
    made = repo.raw_image(tag=None)
    sign_simple(repo, other, ec_key())
    repo.manifest(index([other | {"platform": {"os": "linux", "architecture": "s390x"}}, made | {"platform": {"os": "wasi", "architecture": "wasm"}}]), tag="v1")


@mode("sign-embedded-other-key", "signature_invalid", "the module has a signature section by another key", "key")
def embedded_other(repo):
    embedded_image(repo, wasm_signed(ed_key(OTHER), wasm(repo.name)))


@mode("sign-embedded-grown", "signature_invalid", "a section was added behind what is signed", "key")
def embedded_grown(repo):
    embedded_image(repo, wasm_signed(ed_key(), wasm(repo.name)) + bytes.fromhex("0008046576696c060606"))


@mode("sign-embedded-moved", "signature_invalid", "the signature section of another module", "key")
def embedded_moved(repo):
    size = len(wasm_signed(ed_key(), wasm("x"))) - len(wasm("x"))
    module = wasm(repo.name)
    embedded_image(repo, module[:8] + wasm_signed(ed_key(), wasm("x"))[8:8 + size] + module[8:])


# ---- nothing there
@sign_mode("none", "signature_missing", "no signature, no referrers API")
def none(repo, target):
    pass


@sign_mode("none-api", "signature_missing", "no signature; the referrers API says so")
def none_api(repo, target):
    repo.referrers = {}


@sign_mode("none-tag-empty", "signature_missing", "the fallback tag lists nothing")
def tag_empty(repo, target):
    put_fallback(repo, target, [])


@sign_mode("api-405", "signature_missing", "405 on the referrers API is how some say that they have none")
def api_405(repo, target):
    on_path(repo, f"/referrers/{target['digest']}", lambda connection: connection.reply(405))


# ---- there, and no good: what is signed
@sign_mode("simple-other-digest", "signature_invalid", "classic by the key, for another image")
def simple_other_digest(repo, target):
    sign_simple(repo, target, ec_key(), simple_payload(sha256(b"other")))


@sign_mode("simple-other-key", "signature_invalid", "classic by another key")
def simple_other_key(repo, target):
    sign_simple(repo, target, ec_key(OTHER))


@sign_mode("simple-other-payload", "signature_invalid", "classic: the signature is of another payload")
def simple_other_payload(repo, target):
    payload = simple_payload(target["digest"])
    classic_manifest(repo, [simple_layer(repo, payload, ec_key().sign(payload + b" "))], signature_tag(target))


@sign_mode("simple-keyless", "signature_invalid", "classic with a certificate (keyless) only")
def simple_keyless(repo, target):
    payload = simple_payload(target["digest"])
    classic_manifest(repo, [simple_layer(repo, payload, ec_key(OTHER).sign(payload), **{CERTIFICATE: CERTIFICATE_PEM})], signature_tag(target))


@sign_mode("simple-key-in-certificate", "signature_invalid", "the key that signed lies in the certificate annotation (GHSA-fx35-mq7g-6g98)")
def key_in_certificate(repo, target):
    payload = simple_payload(target["digest"])
    classic_manifest(repo, [simple_layer(repo, payload, ec_key(OTHER).sign(payload), **{CERTIFICATE: ec_key(OTHER).pem})], signature_tag(target))


def payload_mode(name, help_text):
    """Classic, rightly signed: make(digest) gives the payload."""
    def register(make):
        @sign_mode("payload-" + name, "signature_invalid", "classic by the key: " + help_text)
        def build(repo, target):
            sign_simple(repo, target, ec_key(), make(target["digest"]))
        return make
    return register


@payload_mode("gpg-type", "the type is that of GPG payloads")
def payload_gpg(digest):
    return simple_payload(digest).replace(b"cosign container image signature", b"atomic container signature")


@payload_mode("duplicate", "\"critical\" twice")
def payload_duplicate(digest):
    return simple_payload(digest)[:-1] + b',"critical":' + compact(json.loads(simple_payload(sha256(b"other")))["critical"]) + b"}"


@payload_mode("member", "an unknown member in \"critical\"")
def payload_member(digest):
    return simple_payload(digest, extra="x")


@payload_mode("case", "\"Docker-manifest-digest\", which Go reads and we do not")
def payload_case(digest):
    return simple_payload(digest).replace(b"docker-manifest-digest", b"Docker-manifest-digest")


@payload_mode("truncated", "JSON that ends in the middle")
def payload_truncated(digest):
    return simple_payload(digest)[:-2]


@payload_mode("optional-text", "\"optional\" is a text")
def payload_optional(digest):
    return simple_payload(digest, optional="x")


@payload_mode("digest-number", "the digest is a number")
def payload_number(digest):
    return simple_payload(1)


@payload_mode("deep", "100 000 arrays in \"optional\"")
def payload_deep(digest):
    return simple_payload(digest)[:-5] + b'{"a":' + b"[" * 100000 + b"]" * 100000 + b"}}"


def bundle_mode(name, help_text, code="signature_invalid"):
    """make(target) gives the bundle's bytes."""
    def register(make):
        @sign_mode("bundle-" + name, code, "bundle: " + help_text)
        def build(repo, target):
            put_fallback(repo, target, [bundle_manifest(repo, target, make(target)) | {"artifactType": BUNDLE}])
        return make
    return register


@bundle_mode("other-digest", "by the key, for another image")
def bundle_other_digest(target):
    return dsse_bundle(ec_key(), statement(sha256(b"other")))


@bundle_mode("other-key", "by another key")
def bundle_other_key(target):
    return dsse_bundle(ec_key(OTHER), statement(target["digest"]))


@bundle_mode("other-key-hint", "by another key, with the hint of ours")
def bundle_hint(target):
    return dsse_bundle(ec_key(OTHER), statement(target["digest"]), hint=ec_key().hint)


@bundle_mode("predicate", "by the key, with an SBOM's predicate (CVE-2022-35929)")
def bundle_predicate(target):
    return dsse_bundle(ec_key(), statement(target["digest"], "https://spdx.dev/Document"))


@bundle_mode("payload-type", "by the key, of another payloadType")
def bundle_payload_type(target):
    return dsse_bundle(ec_key(), statement(target["digest"]), "application/json")


@bundle_mode("payload-type-swapped", "payloadType exchanged after signing")
def bundle_swapped(target):
    payload = statement(target["digest"])
    return dsse_bundle(ec_key(), payload, signatures=[{"sig": b64(ec_key().sign(pae(payload, "text/plain")))}])


@bundle_mode("no-signature", "an envelope without signatures")
def bundle_no_signature(target):
    return dsse_bundle(ec_key(), statement(target["digest"]), signatures=[])


@bundle_mode("two-signatures", "an envelope with two signatures")
def bundle_two(target):
    payload = statement(target["digest"])
    good = {"sig": b64(ec_key().sign(pae(payload)))}
    return dsse_bundle(ec_key(), payload, signatures=[good, good])


@bundle_mode("two-subjects", "a statement with two subjects")
def bundle_subjects(target):
    document = json.loads(statement(target["digest"]))
    document["subject"] += [{"digest": {"sha256": "0" * 64}}]
    return dsse_bundle(ec_key(), compact(document))


@bundle_mode("upper-case", "the subject's digest in upper case")
def bundle_upper(target):
    return dsse_bundle(ec_key(), statement(target["digest"][7:].upper()))


@bundle_mode("duplicate", "\"subject\" twice in the statement")
def bundle_duplicate(target):
    text = statement(sha256(b"other"))
    return dsse_bundle(ec_key(), text[:-1] + b',"subject":' + compact(json.loads(statement(target["digest"]))["subject"]) + b"}")


@bundle_mode("duplicate-outside", "\"dsseEnvelope\" twice")
def bundle_duplicate_outside(target):
    text = dsse_bundle(ec_key(), statement(target["digest"]))
    return text[:-1] + b',"dsseEnvelope":' + compact(json.loads(text)["dsseEnvelope"]) + b"}"


@bundle_mode("certificate", "a certificate instead of a key (keyless)")
def bundle_certificate(target):
    document = json.loads(dsse_bundle(ec_key(), statement(target["digest"])))
    document["verificationMaterial"] = {"certificate": {"rawBytes": "MIIB"}}
    return compact(document)


@bundle_mode("both-contents", "an envelope and a message signature")
def bundle_both(target):
    return dsse_bundle(ec_key(), statement(target["digest"]), messageSignature={"signature": "AA=="})


@bundle_mode("version", "a media type of tomorrow")
def bundle_version(target):
    return dsse_bundle(ec_key(), statement(target["digest"])).replace(b"bundle.v0.3+json", b"bundle.v0.4+json")


@bundle_mode("no-json", "no JSON")
def bundle_no_json(target):
    return b"<html></html>"


@bundle_mode("base64", "a signature that is no base64")
def bundle_base64(target):
    return dsse_bundle(ec_key(), statement(target["digest"]), signatures=[{"sig": "*" * 96}])


@bundle_mode("numbers", "numbers where texts belong")
def bundle_numbers(target):
    return dsse_bundle(ec_key(), statement(target["digest"]), signatures=[{"sig": 1}])


@bundle_mode("message-signature", "a message signature over the manifest, which is off")
def bundle_message(target):
    return compact({"mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": ec_key().hint}}, "messageSignature": {"signature": b64(b"x" * 70)}})


# ---- there, and no good: what it is wrapped in
@sign_mode("wrong-subject", "signature_invalid", "the bundle's manifest names another subject")
def wrong_subject(repo, target):
    other = target | {"digest": sha256(b"other")}
    put_fallback(repo, target, [bundle_manifest(repo, other, dsse_bundle(ec_key(), statement(target["digest"]))) | {"artifactType": BUNDLE}])


@sign_mode("two-layers", "signature_invalid", "the bundle's manifest has two layers")
def two_layers(repo, target):
    made = [repo.layer(BUNDLE, dsse_bundle(key, statement(target["digest"]))) for key in (ec_key(), ec_key(OTHER))]
    put_fallback(repo, target, [bundle_manifest(repo, target, b"", made) | {"artifactType": BUNDLE}])


@sign_mode("notation", "signature_invalid", "Notation only: named, not supported")
def notation(repo, target):
    kind = "application/vnd.cncf.notary.signature"
    made = repo.manifest(image(repo.layer(kind, b"{}"), [repo.layer("application/jose+json", b"{}")], subject=target, artifactType=kind))
    put_fallback(repo, target, [made | {"artifactType": kind}])


@sign_mode("tag-index", "signature_invalid", "an index under the .sig tag")
def tag_index(repo, target):
    made = sign_simple(repo, target, ec_key())
    repo.manifest(index([made]), tag=signature_tag(target))


@sign_mode("tag-other-type", "signature_invalid", "an image under the .sig tag without a signature in it")
def tag_other_type(repo, target):
    repo.manifest(image(repo.layer(OCI_CONFIG, b"{}"), [repo.layer("application/octet-stream", b"x")]), tag=signature_tag(target))


@sign_mode("tag-no-annotation", "signature_invalid", "the layer has no signature annotation")
def tag_no_annotation(repo, target):
    classic_manifest(repo, [simple_layer(repo, simple_payload(target["digest"]), None)], signature_tag(target))


@sign_mode("tag-json", "signature_invalid", "the .sig tag is no JSON")
def tag_json(repo, target):
    repo.manifest(b"{]", OCI_MANIFEST, signature_tag(target))


@sign_mode("tag-duplicate", "signature_invalid", "\"layers\" twice under the .sig tag")
def tag_duplicate(repo, target):
    payload = simple_payload(target["digest"])
    layers = [simple_layer(repo, payload, ec_key().sign(payload))]
    text = compact({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": repo.layer(OCI_CONFIG, b"{}"), "layers": layers})
    repo.manifest(text[:-1] + b',"layers":' + compact(layers) + b"}", OCI_MANIFEST, signature_tag(target))


@sign_mode("payload-changed", "signature_invalid", "the payload that comes is not the one of the layer's digest")
def payload_changed(repo, target):
    payload = simple_payload(target["digest"])
    sign_simple(repo, target, ec_key(), payload)
    on_path(repo, f"/blobs/{sha256(payload)}", lambda connection: connection.reply(200, payload[:-1] + b" "))


@sign_mode("payload-gone", "signature_invalid", "the payload that the .sig tag names is not there")
def payload_gone(repo, target):
    payload = simple_payload(target["digest"])
    sign_simple(repo, target, ec_key(), payload)
    del repo.blobs[sha256(payload)]


@sign_mode("referrer-gone", "signature_invalid", "the referrer that the index names is not there")
def referrer_gone(repo, target):
    entry = sign_bundle(repo, target, ec_key())
    del repo.manifests[entry["digest"]]


@sign_mode("referrer-changed", "signature_invalid", "another manifest than the referrer's digest says")
def referrer_changed(repo, target):
    entry = sign_bundle(repo, target, ec_key())
    repo.manifests[entry["digest"]] = (OCI_MANIFEST, repo.manifests[entry["digest"]][1] + b" ")


@sign_mode("referrer-size", "signature_invalid", "the list of referrers says another size than the manifest has")
def referrer_size(repo, target):
    entry = bundle_manifest(repo, target, dsse_bundle(ec_key(), statement(target["digest"])))
    put_fallback(repo, target, [entry | {"artifactType": BUNDLE, "size": entry["size"] + 1}])


# ---- too much
@sign_mode("payload-huge", "signature_invalid", "a payload of 2 MiB")
def payload_huge(repo, target):
    sign_simple(repo, target, ec_key(), simple_payload(target["digest"]) + b" " * (2 << 20))


@sign_mode("bundle-huge", "signature_invalid", "a bundle of 2 MiB")
def bundle_huge(repo, target):
    put_fallback(repo, target, [bundle_manifest(repo, target, dsse_bundle(ec_key(), statement(target["digest"]), pad="x" * (2 << 20))) | {"artifactType": BUNDLE}])


@sign_mode("bundles-heavy", "signature_invalid", "twelve bundles of 900 KiB: more than 8 MiB of signatures")
def bundles_heavy(repo, target):
    payload = statement(sha256(b"other"))
    made = [bundle_manifest(repo, target, dsse_bundle(ec_key(), payload, pad=base64.b64encode(noise(str(at), 600 << 10)).decode())) | {"artifactType": BUNDLE} for at in range(12)]
    put_fallback(repo, target, made)


@sign_mode("referrers-many", "signature_invalid", "10 000 referrers, the good one last")
def referrers_many(repo, target):
    entry = sign_bundle(repo, target, ec_key())
    put_fallback(repo, target, [entry | {"digest": sha256(str(at).encode())} for at in range(10000)] + [entry])


@sign_mode("candidates-many", "signature_invalid", "60 bundles by another key (CVE-2023-46737)")
def candidates_many(repo, target):
    made = [bundle_manifest(repo, target, dsse_bundle(ec_key(OTHER), statement(target["digest"], annotations={"n": str(at)}), signatures=[{"sig": b64(b"x" * 70)}])) for at in range(60)]
    put_fallback(repo, target, [entry | {"artifactType": BUNDLE} for entry in made])


@sign_mode("layers-many", "signature_invalid", "100 layers under the .sig tag, the good one last")
def layers_many(repo, target):
    payload = simple_payload(target["digest"])
    bad = [simple_layer(repo, payload, b"x" * 70) for _ in range(99)]
    classic_manifest(repo, bad + [simple_layer(repo, payload, ec_key().sign(payload))], signature_tag(target))


@sign_mode("index-huge", "signature_unreachable", "an index of referrers of 5 MiB")
def index_huge(repo, target):
    repo.manifest(compact(referrers_index([]) | {"pad": "x" * (5 << 20)}), OCI_INDEX, fallback_tag(target))


# ---- nobody could look
def link_mode(name, help_text, link):
    @sign_mode("link-" + name, "signature_unreachable", "pages of referrers: " + help_text)
    def build(repo, target):
        path = f"/v2/{repo.name}/referrers/{target['digest']}"
        on_path(repo, path, lambda connection: json_reply(connection, referrers_index([]), headers=[("Link", f'<{link(repo, path)}>; rel="next"')]))
    return build


link_mode("loop", "the next page is this one", lambda repo, path: path)
link_mode("endless", "there is always one more", lambda repo, path: f"{path}?n={repo.count('page')}")
link_mode("elsewhere", "the next page is at another host", lambda repo, path: repo.world.url("/secret-sink", repo.world.other_port))

for status in (401, 403, 429, 500, 503):
    @sign_mode(f"tag-{status}", "signature_unreachable", f"{status} on the .sig tag")
    def tag_status(repo, target, status=status):
        on_path(repo, "/manifests/" + signature_tag(target), lambda connection: connection.reply(status, b"{}"))

    @sign_mode(f"referrers-{status}", "signature_unreachable", f"{status} on the referrers API")
    def referrers_status(repo, target, status=status):
        on_path(repo, f"/referrers/{target['digest']}", lambda connection: connection.reply(status, b"{}"))

    @sign_mode(f"fallback-{status}", "signature_unreachable", f"{status} on the fallback tag")
    def fallback_status(repo, target, status=status):
        on_path(repo, "/manifests/" + fallback_tag(target), lambda connection: connection.reply(status, b"{}"))


@sign_mode("blob-500", "signature_unreachable", "500 on the payload")
def blob_500(repo, target):
    payload = simple_payload(target["digest"])
    sign_simple(repo, target, ec_key(), payload)
    on_path(repo, f"/blobs/{sha256(payload)}", lambda connection: connection.reply(500, b"{}"))


@sign_mode("tag-503-bundle-good", "ok", "503 on the .sig tag, and a good bundle: what is proved is proved")
def tag_503_bundle(repo, target):
    sign_bundle(repo, target, ec_key())
    on_path(repo, "/manifests/" + signature_tag(target), lambda connection: connection.reply(503, b"{}"))


@sign_mode("tag-503-bundle-other-key", "signature_unreachable", "503 on the .sig tag, and a bundle by another key")
def tag_503_other(repo, target):
    sign_bundle(repo, target, ec_key(OTHER))
    on_path(repo, "/manifests/" + signature_tag(target), lambda connection: connection.reply(503, b"{}"))


@sign_mode("tag-reset", "signature_unreachable", "the connection is cut on the .sig tag")
def tag_reset(repo, target):
    on_path(repo, "/manifests/" + signature_tag(target), lambda connection: connection.reset())


@sign_mode("tag-hang", "signature_unreachable", "no answer on the .sig tag", "slow")
def tag_hang(repo, target):
    on_path(repo, "/manifests/" + signature_tag(target), lambda connection: connection.stall())


@sign_mode("referrers-hang", "signature_unreachable", "no answer on the referrers API", "slow")
def referrers_hang(repo, target):
    on_path(repo, f"/referrers/{target['digest']}", lambda connection: connection.stall())


@sign_mode("referrers-redirect", "signature_missing", "the referrers API leads to another host")
def referrers_redirect(repo, target):
    url = repo.world.url("/secret-sink", repo.world.other_port)
    on_path(repo, f"/referrers/{target['digest']}", lambda connection: connection.reply(307, b"", [("Location", url)]))


@sign_mode("referrers-html", "signature_missing", "a page for people instead of an index")
def referrers_html(repo, target):
    on_path(repo, f"/referrers/{target['digest']}", lambda connection: json_reply(connection, b"<html></html>", "text/html"))


@sign_mode("referrers-malformed", "signature_unreachable", "the index of referrers is no JSON")
def referrers_malformed(repo, target):
    on_path(repo, f"/referrers/{target['digest']}", lambda connection: json_reply(connection, b"{]"))


@sign_mode("referrers-types", "signature_missing", "entries of wrong types in the index of referrers")
def referrers_types(repo, target):
    put_fallback(repo, target, [1, None, [], {}, {"mediaType": 1}, {"mediaType": OCI_MANIFEST, "digest": "sha256:x", "size": -1}])


@sign_mode("stripped", "signature_missing", "a registry that drops signatures: the tags answer 404, a bundle lies there unlisted")
def stripped(repo, target):
    bundle_manifest(repo, target, dsse_bundle(ec_key(), statement(target["digest"])))
