"""good_sign: images that are signed as the tools of the field sign, in every form and place; each must be served with the keys that `registry.py --key` prints."""
import json
import threading

from content import OCI_CONFIG, OCI_INDEX, WASME_CONFIG, WASME_LAYER, image, index, wasm
from signing import BUNDLE, CERTIFICATE, CLASSIC, bundle_manifest, classic_manifest, compact, dsse_bundle, ec_key, ed_key, fallback_tag, put_fallback, referrers_index, sign_bundle, sign_simple
from signing import signature_tag, simple_layer, simple_payload, statement, wasm_signed
from world import mode

KEYS = ec_key().pem + ed_key().pem
OTHER = "another image"
CERTIFICATE_PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def sign_mode(name, code, help_text, needs=""):
    """build(repo, target): an unsigned image lies at v1 already, `target` is its descriptor."""
    def register(build):
        @mode("sign-" + name, code, help_text, ("key " + needs).strip())
        def whole(repo):
            build(repo, repo.raw_image())
        return build
    return register


def on_path(repo, end, answer):
    """answer(connection) for every request whose path ends so."""
    before = repo.on_any

    def handler(connection):
        if connection.request.path.endswith(end):
            return answer(connection) or True
        return before(connection) if before else None
    repo.on_any = handler


def on_path_maybe(repo, end, answer):
    """The same; answer(connection) may leave it to the repository by giving None."""
    before = repo.on_any

    def handler(connection):
        given = answer(connection) if connection.request.path.endswith(end) else None
        return given if given is not None else before(connection) if before else None
    repo.on_any = handler


def json_reply(connection, document, media_type=OCI_INDEX, headers=()):
    connection.reply(200, document, [("Content-Type", media_type), *headers])


@sign_mode("simple", "ok", "classic, under the .sig tag")
def simple(repo, target):
    sign_simple(repo, target, ec_key())


@sign_mode("simple-ed25519", "ok", "classic, by the second key of the field")
def simple_ed(repo, target):
    sign_simple(repo, target, ed_key())


@sign_mode("simple-skopeo", "ok", "classic as skopeo writes it: sorted members, creator and time, name with tag")
def simple_skopeo(repo, target):
    sign_simple(repo, target, ec_key(), reference="192.0.2.1/a/b:v1", optional={"creator": "containers/image 5.21.2-dev", "timestamp": 1657296609})


@sign_mode("simple-docker", "ok", "classic in a manifest of Docker's types")
def simple_docker(repo, target):
    payload = simple_payload(target["digest"])
    layers = [simple_layer(repo, payload, ec_key().sign(payload))]
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    repo.manifest({"schemaVersion": 2, "mediaType": kind, "config": repo.layer("application/vnd.docker.container.image.v1+json", b"{}"), "layers": layers}, tag=signature_tag(target))


@sign_mode("simple-second-layer", "ok", "classic: of two layers the second is by the key")
def second_layer(repo, target):
    payload = simple_payload(target["digest"])
    classic_manifest(repo, [simple_layer(repo, payload, ec_key(OTHER).sign(payload)), simple_layer(repo, payload, ec_key().sign(payload))], signature_tag(target))


@sign_mode("simple-beside-attestation", "ok", "classic: a layer of another type before it")
def beside_attestation(repo, target):
    payload = simple_payload(target["digest"])
    dsse = repo.layer("application/vnd.dsse.envelope.v1+json", b"{}", annotations={"predicateType": "x"})
    classic_manifest(repo, [dsse, simple_layer(repo, payload, ec_key().sign(payload))], signature_tag(target))


@sign_mode("simple-with-certificate", "ok", "classic by the key, with a certificate beside it that is not looked at")
def with_certificate(repo, target):
    payload = simple_payload(target["digest"])
    classic_manifest(repo, [simple_layer(repo, payload, ec_key().sign(payload), **{CERTIFICATE: CERTIFICATE_PEM})], signature_tag(target))


@sign_mode("simple-referrer", "ok", "classic as a referrer, as cosign with oci-1-1 and Tekton Chains write it")
def simple_referrer(repo, target):
    payload = simple_payload(target["digest"])
    made = classic_manifest(repo, [simple_layer(repo, payload, ec_key().sign(payload))], subject=target)
    put_fallback(repo, target, [made | {"artifactType": CLASSIC}])


@sign_mode("bundle", "ok", "bundle, listed by the fallback tag")
def bundle(repo, target):
    sign_bundle(repo, target, ec_key())


@sign_mode("bundle-ed25519", "ok", "bundle by the second key, pure Ed25519")
def bundle_ed(repo, target):
    sign_bundle(repo, target, ed_key())


@sign_mode("bundle-untyped", "ok", "bundle; the entry of the fallback tag says vnd.oci.empty (sigstore/cosign#4641)")
def bundle_untyped(repo, target):
    sign_bundle(repo, target, ec_key(), artifact_type="application/vnd.oci.empty.v1+json")


@sign_mode("bundle-no-type", "ok", "bundle; the entry of the fallback tag has no artifactType")
def bundle_no_type(repo, target):
    sign_bundle(repo, target, ec_key(), artifact_type=None)


@sign_mode("bundle-api", "ok", "bundle, by the referrers API")
def bundle_api(repo, target):
    repo.referrers = {target["digest"]: [sign_bundle(repo, target, ec_key())]}
    del repo.tags[fallback_tag(target)]


@sign_mode("bundle-api-empty", "ok", "bundle; the referrers API knows nothing, the fallback tag does")
def bundle_api_empty(repo, target):
    sign_bundle(repo, target, ec_key())
    repo.referrers = {}


@sign_mode("bundle-second", "ok", "bundle: the second referrer is by the key")
def bundle_second(repo, target):
    made = [bundle_manifest(repo, target, dsse_bundle(ec_key(name), statement(target["digest"]))) | {"artifactType": BUNDLE} for name in (OTHER, "plugin")]
    put_fallback(repo, target, made)


@sign_mode("bundle-predicate-absent", "ok", "bundle of cosign before 3.0.5: no predicate")
def predicate_absent(repo, target):
    document = json.loads(statement(target["digest"]))
    del document["predicate"]
    sign_bundle(repo, target, ec_key(), compact(document))


@sign_mode("bundle-paged", "ok", "bundle on the second page of the referrers API")
def bundle_paged(repo, target):
    entry = sign_bundle(repo, target, ec_key())
    del repo.tags[fallback_tag(target)]
    path = f"/v2/{repo.name}/referrers/{target['digest']}"

    def answer(connection):
        if "page=2" in connection.request.query:
            return json_reply(connection, referrers_index([entry]))
        return json_reply(connection, referrers_index([]), headers=[("Link", f'<{path}?page=2>; rel="next"')])
    on_path(repo, path, answer)


@sign_mode("bundle-beside-sbom", "ok", "bundle after an SBOM and a statement of another predicate by the same key")
def beside_sbom(repo, target):
    sbom = repo.manifest(image(repo.layer(OCI_CONFIG, b"{}"), [repo.layer("text/spdx+json", b"{}")], subject=target, artifactType="text/spdx+json"))
    slsa = bundle_manifest(repo, target, dsse_bundle(ec_key(), statement(target["digest"], "https://slsa.dev/provenance/v1")))
    sign_bundle(repo, target, ec_key())
    good = json.loads(repo.manifests[repo.tags[fallback_tag(target)]][1])["manifests"][0]
    put_fallback(repo, target, [sbom | {"artifactType": "text/spdx+json"}, slsa | {"artifactType": BUNDLE}, good])


@sign_mode("both", "ok", "bundle by another key, classic by the key")
def both(repo, target):
    sign_bundle(repo, target, ec_key(OTHER))
    sign_simple(repo, target, ec_key())


def signed_index(repo, top=None, child=None):
    made = repo.raw_image(tag=None)
    whole = repo.manifest(index([made | {"platform": {"os": "wasi", "architecture": "wasm"}}]), tag="v1")
    for sign, target in ((top, whole), (child, made)):
        if sign:
            sign(repo, target, ec_key())
    return whole, made


@mode("sign-index-top", "ok", "an index: it is signed, its child is not", "key")
def index_top(repo):
    signed_index(repo, top=sign_bundle)


@mode("sign-index-child", "ok", "an index: the child is signed, it is not", "key")
def index_child(repo):
    signed_index(repo, child=sign_simple)


@mode("sign-index-both", "ok", "an index and its child, both are signed", "key")
def index_both(repo):
    signed_index(repo, top=sign_simple, child=sign_bundle)


def embedded_image(repo, module):
    config, layer = repo.layer(WASME_CONFIG, b"{}"), repo.layer(WASME_LAYER, module)
    return repo.manifest(image(config, [layer]), tag="v1")


@mode("sign-embedded", "ok", "the module has a signature section by the Ed25519 key", "key")
def embedded(repo):
    embedded_image(repo, wasm_signed(ed_key(), wasm(repo.name)))


@mode("sign-parallel", "ok", "an index and its child: no look-up for either is answered before all four have come", "key")
def parallel(repo):
    child = repo.raw_image(tag=None)
    top = repo.manifest(index([child | {"platform": {"os": "wasi", "architecture": "wasm"}}]), tag="v1")
    sign_simple(repo, child, ec_key())
    gate = threading.Barrier(4)

    def meet(connection):
        try:
            gate.wait(20)
        except threading.BrokenBarrierError:
            connection.reply(500)
            return True
        return None if connection.request.path.endswith(signature_tag(child)) else connection.reply(404) or True
    for target in (top, child):
        for end in (f"/referrers/{target['digest']}", "/manifests/" + signature_tag(target)):
            on_path_maybe(repo, end, meet)
