#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <wasmcached/registry.h>

#define HEX "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
#define IMAGE_TYPE "application/vnd.oci.image.manifest.v1+json"
#define INDEX_TYPE "application/vnd.oci.image.index.v1+json"
#define DOCKER_TYPE "application/vnd.docker.distribution.manifest.v2+json"

/* The size of a descriptor is its position, so that rows can say which one they mean. */
#define CHILD(n, type, more) "{\"mediaType\":\"" type "\",\"digest\":\"sha256:" HEX "\",\"size\":" #n more "}"
#define PLATFORM(os, cpu) ",\"platform\":{\"os\":\"" os "\",\"architecture\":\"" cpu "\"}"
#define ARTIFACT(type) ",\"artifactType\":\"" type "\""
#define ATTESTATION ",\"annotations\":{\"vnd.docker.reference.type\":\"attestation-manifest\"}"

#ifdef __x86_64__
#define HOST_CPU "amd64"
#define OTHER_CPU "arm64"
#else
#define HOST_CPU "arm64"
#define OTHER_CPU "riscv64"
#endif

static const struct { const char *children; int chosen; const char *why; } child_rows[] = {
        /* ranks */
        { CHILD(0, IMAGE_TYPE, PLATFORM("linux", "amd64")) "," CHILD(1, IMAGE_TYPE, "") "," CHILD(2, IMAGE_TYPE, PLATFORM("wasip1", "wasm")), 2, NULL },
        { CHILD(0, IMAGE_TYPE, PLATFORM("linux", "amd64")) "," CHILD(1, IMAGE_TYPE, PLATFORM("wasi", "wasm")), 1, NULL },
        { CHILD(0, IMAGE_TYPE, PLATFORM("linux", "amd64")) "," CHILD(1, IMAGE_TYPE, PLATFORM("js", "wasm")), 1, NULL },
        { CHILD(0, IMAGE_TYPE, PLATFORM("linux", "amd64")) "," CHILD(1, IMAGE_TYPE, PLATFORM("wasm", "wasm")), 1, NULL },
        { CHILD(0, IMAGE_TYPE, PLATFORM("linux", "amd64")) "," CHILD(1, IMAGE_TYPE, PLATFORM("", "wasm")), 1, NULL },
        { CHILD(0, IMAGE_TYPE, PLATFORM("linux", "amd64")) "," CHILD(1, IMAGE_TYPE, ",\"platform\":{\"architecture\":\"wasm32\"}"), 1, NULL },
        { CHILD(0, IMAGE_TYPE, PLATFORM("linux", "amd64")) "," CHILD(1, IMAGE_TYPE, PLATFORM("wasi", "wasm32")), 1, NULL },
        { CHILD(0, IMAGE_TYPE, PLATFORM("linux", "amd64")) "," CHILD(1, IMAGE_TYPE, ""), 1, NULL },
        { CHILD(0, IMAGE_TYPE, PLATFORM("linux", "amd64")) "," CHILD(1, IMAGE_TYPE, ",\"platform\":{}"), 1, NULL },
        { CHILD(0, IMAGE_TYPE, PLATFORM("linux", "amd64")) "," CHILD(1, IMAGE_TYPE, ",\"platform\":null"), 1, NULL },
        { CHILD(0, IMAGE_TYPE, PLATFORM("wasip1", "wasm")) "," CHILD(1, IMAGE_TYPE, PLATFORM("wasi", "wasm")), 0, NULL },
        { CHILD(0, IMAGE_TYPE, "") "," CHILD(1, IMAGE_TYPE, ""), 0, NULL },
        { CHILD(0, IMAGE_TYPE, PLATFORM("linux", OTHER_CPU)) "," CHILD(1, IMAGE_TYPE, PLATFORM("linux", HOST_CPU)), 1, NULL },
        { CHILD(0, IMAGE_TYPE, PLATFORM("linux", "s390x")) "," CHILD(1, IMAGE_TYPE, PLATFORM("linux", "amd64")), 1, NULL },
        { CHILD(0, IMAGE_TYPE, PLATFORM("windows", "amd64")) "," CHILD(1, IMAGE_TYPE, PLATFORM("linux", "amd64")), 1, NULL },
        { CHILD(0, DOCKER_TYPE, PLATFORM("linux", "amd64")) "," CHILD(1, DOCKER_TYPE, PLATFORM("linux", "amd64")), 0, NULL },
        { CHILD(0, IMAGE_TYPE, PLATFORM("wasip2", "wasm")) "," CHILD(1, IMAGE_TYPE, PLATFORM("linux", "amd64")), 1, NULL },
        { CHILD(0, IMAGE_TYPE, PLATFORM("wasip2", "wasm")) "," CHILD(1, IMAGE_TYPE, PLATFORM("linux", "s390x")), 0, NULL },
        /* the only one */
        { CHILD(0, IMAGE_TYPE, PLATFORM("windows", "arm")), 0, NULL },
        { CHILD(0, IMAGE_TYPE, PLATFORM("linux", "s390x")) "," CHILD(1, IMAGE_TYPE, PLATFORM("unknown", "unknown")), 0, NULL },
        { CHILD(0, IMAGE_TYPE, ATTESTATION) "," CHILD(1, IMAGE_TYPE, PLATFORM("linux", "s390x")), 1, NULL },
        { CHILD(0, IMAGE_TYPE, ARTIFACT("application/vnd.dev.sigstore.bundle.v0.3+json")) "," CHILD(1, IMAGE_TYPE, PLATFORM("linux", "amd64")), 1, NULL },
        { CHILD(0, IMAGE_TYPE, ARTIFACT("application/vnd.dev.cosign.artifact.sig.v1+json")) "," CHILD(1, IMAGE_TYPE, PLATFORM("linux", "s390x")), 1, NULL },
        { CHILD(0, IMAGE_TYPE, ARTIFACT("application/spdx+json")) "," CHILD(1, IMAGE_TYPE, ""), 1, NULL },
        { CHILD(0, IMAGE_TYPE, ARTIFACT("application/vnd.cncf.notary.signature")) "," CHILD(1, IMAGE_TYPE, ""), 1, NULL },
        /* crane's artifactType (measured) is no reason to skip */
        { CHILD(0, IMAGE_TYPE, ARTIFACT("application/vnd.oci.image.config.v1+json")), 0, NULL },
        { CHILD(0, IMAGE_TYPE, ARTIFACT("application/vnd.docker.container.image.v1+json")) "," CHILD(1, IMAGE_TYPE, PLATFORM("linux", "amd64")), 0, NULL },
        { CHILD(0, IMAGE_TYPE, ARTIFACT("application/vnd.wasm.config.v0+json") PLATFORM("wasip1", "wasm")) "," CHILD(1, IMAGE_TYPE, PLATFORM("linux", "amd64")), 0, NULL },
        /* nested index, unknown children */
        { CHILD(0, INDEX_TYPE, ""), 0, NULL },
        { CHILD(0, "application/x-unknown", "") "," CHILD(1, IMAGE_TYPE, PLATFORM("linux", "s390x")), 1, NULL },
        { CHILD(0, "application/vnd.oci.artifact.manifest.v1+json", PLATFORM("wasi", "wasm")) "," CHILD(1, IMAGE_TYPE, ""), 1, NULL },
        /* nothing */
        { "", -1, "none of its 0 children" },
        { CHILD(0, "application/x-unknown", ""), -1, "none of its 1 children" },
        { CHILD(0, IMAGE_TYPE, PLATFORM("unknown", "unknown")) "," CHILD(1, IMAGE_TYPE, ATTESTATION), -1, "none of its 2 children" },
        { CHILD(0, IMAGE_TYPE, PLATFORM("windows", "amd64")) "," CHILD(1, IMAGE_TYPE, ",\"platform\":{\"os\":\"linux\",\"architecture\":\"s390x\",\"variant\":\"v\\u0007\"}"),
                -1, "windows/amd64, linux/s390x/v\\x07" },
};

#define W_ISTIO "application/vnd.module.wasm.content.layer.v1+wasm"
#define W_CNCF "application/wasm"
#define W_KUBEWARDEN "application/vnd.wasm.content.layer.v1+wasm"
#define W_COMPONENT "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"
#define T_OCI "application/vnd.oci.image.layer.v1.tar"
#define T_DOCKER "application/vnd.docker.image.rootfs.diff.tar"

static const struct { const char *types[6]; int chosen; enum layer_form form; const char *why; } layer_rows[] = {
        { { W_ISTIO }, 0, LAYER_WASM, NULL },
        { { W_CNCF }, 0, LAYER_WASM, NULL },
        { { W_KUBEWARDEN }, 0, LAYER_WASM, NULL },
        { { W_COMPONENT }, 0, LAYER_WASM, NULL },
        { { "application/vnd.module.wasm.config.v1+json", W_ISTIO }, 1, LAYER_WASM, NULL },
        { { W_ISTIO, "application/vnd.module.wasm.config.v1+json" }, 0, LAYER_WASM, NULL },
        { { T_OCI "+gzip", W_CNCF, T_OCI "+gzip" }, 1, LAYER_WASM, NULL },
        { { W_ISTIO, W_ISTIO, W_ISTIO }, 0, LAYER_WASM, NULL },
        { { W_KUBEWARDEN, W_KUBEWARDEN }, 0, LAYER_WASM, NULL },
        { { W_CNCF, W_CNCF }, -1, 0, "more than one wasm layer" },
        { { W_COMPONENT, W_COMPONENT }, -1, 0, "more than one wasm layer" },
        { { W_ISTIO, W_CNCF }, -1, 0, "more than one wasm layer" },
        { { W_CNCF, W_ISTIO }, -1, 0, "more than one wasm layer" },
        { { T_OCI }, 0, LAYER_TAR, NULL },
        { { T_OCI "+gzip" }, 0, LAYER_TAR_GZIP, NULL },
        { { T_OCI "+zstd" }, 0, LAYER_TAR_ZSTD, NULL },
        { { T_DOCKER }, 0, LAYER_TAR, NULL },
        { { T_DOCKER ".gzip" }, 0, LAYER_TAR_GZIP, NULL },
        { { T_DOCKER ".zstd" }, 0, LAYER_TAR_ZSTD, NULL },
        { { T_OCI "+gzip", T_OCI "+zstd" }, 1, LAYER_TAR_ZSTD, NULL },
        { { T_OCI "+gzip", T_OCI "+gzip", T_OCI }, 2, LAYER_TAR, NULL },
        { { "application/vnd.module.wasm.spec.v1+yaml", "application/vnd.module.wasm.doc.v1+markdown", T_OCI "+gzip" }, 2, LAYER_TAR_GZIP, NULL },
        { { T_OCI "+gzip", "application/x-unknown" }, 0, LAYER_TAR_GZIP, NULL },
        { { T_OCI "+gzip", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip" }, 0, LAYER_TAR_GZIP, NULL },
        { { T_OCI "+encrypted" }, -1, 0, T_OCI "+encrypted" },
        { { "application/vnd.oci.empty.v1+json" }, -1, 0, "no layer is a wasm module or a tar; its layer types are: application/vnd.oci.empty.v1+json" },
        { { "text/plain", "image/png" }, -1, 0, "its layer types are: text/plain, image/png" },
        { { "a/\\u0001b" }, -1, 0, "a/\\x01b" },
        { { NULL }, -1, 0, "has no layers" },
};

static void parse(const char *text, struct manifest *manifest)
{
        struct error err = { 0 };
        if (!manifest_parse(text, strlen(text), NULL, manifest, &err))
                fail_msg("%s: %s", text, err.text);
}

static void test_child(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(child_rows); i++) {
                CLEANUP(manifest_fini) struct manifest manifest = { 0 };
                CLEANUP(cleanup_free) char *text = string_format("{\"schemaVersion\":2,\"mediaType\":\"%s\",\"manifests\":[%s]}", INDEX_TYPE, child_rows[i].children);
                const struct descriptor *child = NULL;
                struct error err = { 0 };

                print_message("%s\n", child_rows[i].children);
                parse(text, &manifest);
                bool ok = manifest_choose_child(&manifest, &child, &err);
                assert_int_equal(ok, child_rows[i].chosen >= 0);
                if (ok) {
                        assert_int_equal(child->size_bytes, child_rows[i].chosen);
                        continue;
                }
                assert_null(child);
                assert_int_equal(err.code, ERROR_UNSUPPORTED_IMAGE);
                if (!strstr(err.text, child_rows[i].why))
                        fail_msg("\"%s\" does not say \"%s\"", err.text, child_rows[i].why);
        }
}

static void test_layer(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(layer_rows); i++) {
                CLEANUP(manifest_fini) struct manifest manifest = { 0 };
                CLEANUP(buffer_fini) struct buffer text = { 0 };
                const struct descriptor *layer = NULL;
                enum layer_form form = LAYER_WASM;
                struct error err = { 0 };

                buffer_printf(&text, "{\"schemaVersion\":2,\"mediaType\":\"%s\",\"config\":%s,\"layers\":[", IMAGE_TYPE, CHILD(2, "application/vnd.oci.image.config.v1+json", ""));
                for (size_t k = 0; layer_rows[i].types[k]; k++)
                        buffer_printf(&text, "%s{\"mediaType\":\"%s\",\"digest\":\"sha256:" HEX "\",\"size\":%zu}", k > 0 ? "," : "", layer_rows[i].types[k], k);
                buffer_append_text(&text, "]}");
                print_message("%s\n", text.data);
                parse(text.data, &manifest);
                bool ok = manifest_choose_layer(&manifest, &layer, &form, &err);
                assert_int_equal(ok, layer_rows[i].chosen >= 0);
                if (ok) {
                        assert_int_equal(layer->size_bytes, layer_rows[i].chosen);
                        assert_int_equal(form, layer_rows[i].form);
                        continue;
                }
                assert_null(layer);
                assert_int_equal(err.code, ERROR_UNSUPPORTED_IMAGE);
                if (!strstr(err.text, layer_rows[i].why))
                        fail_msg("\"%s\" does not say \"%s\"", err.text, layer_rows[i].why);
        }
}

static void test_kind(void **state)
{
        (void)state;
        CLEANUP(manifest_fini) struct manifest index = { 0 }, image = { 0 };
        const struct descriptor *item = NULL;
        struct error err = { 0 };
        enum layer_form form;

        parse("{\"schemaVersion\":2,\"manifests\":[]}", &index);
        parse("{\"schemaVersion\":2,\"config\":" CHILD(2, "a/b", "") ",\"layers\":[]}", &image);
        assert_false(manifest_choose_layer(&index, &item, &form, &err));
        assert_non_null(strstr(err.text, "is an index"));
        assert_false(manifest_choose_child(&image, &item, &err));
        assert_non_null(strstr(err.text, "is an image"));
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_child), cmocka_unit_test(test_layer), cmocka_unit_test(test_kind) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
