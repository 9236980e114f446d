/* What a signature's manifest says is to be fetched: classic layers and the one layer of a bundle (§14.3, §14.4). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "trust_oci_rig.h"

#define OCI "application/vnd.oci.image.manifest.v1+json"
#define DOCKER "application/vnd.docker.distribution.manifest.v2+json"
#define SIMPLE "application/vnd.dev.cosign.simplesigning.v1+json"
#define BUNDLE "application/vnd.dev.sigstore.bundle.v0.3+json"
#define HEX_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define SIGNATURE "\"dev.cosignproject.cosign/signature\":\"MEUC\""
#define LAYER "{\"mediaType\":\"" SIMPLE "\",\"digest\":\"sha256:" HEX_A "\",\"size\":250,\"annotations\":{" SIGNATURE "}}"
#define CLASSIC "{\"schemaVersion\":2,\"mediaType\":\"" OCI "\",\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"sha256:" HEX_B "\",\"size\":233},\"layers\":[" LAYER "]}"

/* `says` NULL: taken, with `count` signatures and `others`. */
static const struct { const char *from, *to, *says; size_t count, others; } classic[] = {
        { "{", "{", NULL, 1, 0 }, { OCI, DOCKER, NULL, 1, 0 }, { "\"mediaType\":\"" OCI "\",", "", NULL, 1, 0 }, { "\"layers\"", "\"x\":{},\"layers\"", NULL, 1, 0 }, { LAYER, LAYER "," LAYER, NULL, 2, 0 },
        { "[{", "[{\"mediaType\":\"application/vnd.dsse.envelope.v1+json\",\"digest\":\"sha256:" HEX_B "\",\"size\":1},{", NULL, 1, 1 }, { SIGNATURE, "", NULL, 1, 0 }, { ",\"annotations\":{" SIGNATURE "}", "", NULL, 1, 0 },
        { "\"annotations\":{" SIGNATURE "}", "\"annotations\":null", NULL, 1, 0 }, { SIMPLE, SIMPLE "2", "no layer is a signature", 0, 0 }, { SIMPLE, "application/vnd.oci.image.layer.v1.tar", "found \"application/vnd.oci.image.layer.v1.tar\"", 0, 0 },
        { "[" LAYER "]", "[]", "no layers", 0, 0 }, { ",\"layers\":[" LAYER "]", "", "no layers", 0, 0 }, { "[" LAYER "]", "{}", "\"layers\"", 0, 0 }, { LAYER, "7", "layers[0]: is no object", 0, 0 }, { LAYER, LAYER ",null", "layers[1]", 0, 0 },
        { "\"schemaVersion\":2", "\"schemaVersion\":1", "schemaVersion", 0, 0 }, { "\"schemaVersion\":2,", "", "schemaVersion", 0, 0 }, { "\"schemaVersion\":2", "\"schemaVersion\":\"2\"", "\"schemaVersion\" must be of type", 0, 0 },
        { OCI, "application/vnd.oci.image.index.v1+json", "not the type of an image manifest", 0, 0 }, { OCI, "application/vnd.docker.distribution.manifest.list.v2+json", "not the type", 0, 0 }, { "\"" OCI "\"", "[]", "mediaType", 0, 0 },
        { "\"layers\"", "\"manifests\":[],\"layers\"", "\"manifests\" has no place", 0, 0 }, { "\"layers\"", "\"manifests\":null,\"layers\"", "\"manifests\" has no place", 0, 0 }, { "\"layers\"", "\"fsLayers\":[],\"layers\"", "fsLayers", 0, 0 },
        { "\"layers\"", "\"layers\":[],\"layers\"", "twice", 0, 0 }, { "sha256:" HEX_A, "sha256:" HEX_A "0", "layers[0]", 0, 0 }, { "\"digest\":\"sha256:" HEX_A "\",", "", "missing", 0, 0 }, { "\"size\":250", "\"size\":-1", "negative", 0, 0 },
        { "\"size\":250", "\"size\":\"250\"", "\"size\" must be of type", 0, 0 }, { "\"" SIMPLE "\"", "7", "\"mediaType\" must be of type", 0, 0 }, { "\"mediaType\":\"" SIMPLE "\",", "", "is missing", 0, 0 }, { "\"sha256:" HEX_A "\"", "7", "\"digest\" must be of type", 0, 0 }, { "\"size\":250,", "", "missing", 0, 0 }, { "\"size\":250", "\"size\":1.5", "size", 0, 0 }, { "\"MEUC\"", "7", "dev.cosignproject.cosign/signature", 0, 0 },
        { "{" SIGNATURE "}", "[]", "annotations", 0, 0 }, { SIGNATURE, SIGNATURE "," SIGNATURE, "twice", 0, 0 }, { SIGNATURE, SIGNATURE ",\"dev.sigstore.cosign/bundle\":{}", "dev.sigstore.cosign/bundle", 0, 0 },
        { "{\"schema", "[{\"schema", "JSON", 0, 0 }, { "}]}", "}]}}", "more after", 0, 0 },
};

static void test_classic(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(classic); i++) {
                CLEANUP(cleanup_free) char *text = rig_swap(CLASSIC, classic[i].from, classic[i].to);
                struct trust_layers layers = { 0 };
                struct error err = { 0 };
                bool good = trust_layers_parse(text, strlen(text), &layers, &err);
                if (good != !classic[i].says || (!good && (err.code != ERROR_SIGNATURE_INVALID || !strstr(err.text, classic[i].says) || !strstr(err.text, "signature manifest"))))
                        fail_msg("%s: %s", text, good ? "taken" : err.text);
                assert_int_equal(layers.count, good ? classic[i].count : 0);
                assert_int_equal(layers.other_count, good ? classic[i].others : 0);
                assert_true(good || (!layers.document && !layers.items));
                trust_layers_fini(&layers);
        }
        struct trust_layers layers = { 0 };
        struct error err = { 0 };
        assert_false(trust_layers_parse("[]", 2, &layers, &err));
        assert_non_null(strstr(err.text, "is no JSON object"));
        assert_false(trust_layers_parse("", 0, &layers, &err));
}

static void test_classic_members(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *text = rig_swap(CLASSIC, SIGNATURE, SIGNATURE ",\"dev.sigstore.cosign/bundle\":\"{}\",\"dev.sigstore.cosign/certificate\":\"\",\"dev.sigstore.cosign/chain\":\"\"");
        CLEANUP(trust_layers_fini) struct trust_layers layers = { 0 }, plain = { 0 };
        char digest[DIGEST_TEXT_BYTES];
        struct error err;
        assert_true(trust_layers_parse(text, strlen(text), &layers, &err));
        digest_format(&layers.items[0].digest, digest);
        assert_string_equal(digest, "sha256:" HEX_A);
        assert_int_equal(layers.items[0].size_bytes, 250);
        assert_string_equal(layers.items[0].signature, "MEUC");
        assert_string_equal(layers.items[0].log_entry, "{}");
        assert_true(layers.items[0].has_certificate);
        assert_true(trust_layers_parse(CLASSIC, sizeof CLASSIC - 1, &plain, &err));
        assert_null(plain.items[0].log_entry);
        assert_false(plain.items[0].has_certificate);
}

static char *layers_of(size_t count, const char *other)
{
        struct buffer text = { 0 };
        buffer_printf(&text, "{\"schemaVersion\":2,\"layers\":[%s", other);
        for (size_t i = 0; i < count; i++)
                buffer_printf(&text, "%s%s", i > 0 || *other ? "," : "", LAYER);
        buffer_append_text(&text, "]}");
        return buffer_take(&text);
}

/* 64 signatures at most, layers of other types not counted; more is refused, not cut (9.2.7). */
static void test_classic_limit(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *most = layers_of(64, "{\"mediaType\":\"x\",\"digest\":\"sha256:" HEX_B "\",\"size\":1}"), *more = layers_of(65, "");
        CLEANUP(trust_layers_fini) struct trust_layers layers = { 0 }, over = { 0 };
        struct error err;
        assert_true(trust_layers_parse(most, strlen(most), &layers, &err));
        assert_true(layers.count == 64 && layers.other_count == 1);
        assert_false(trust_layers_parse(more, strlen(more), &over, &err));
        assert_non_null(strstr(err.text, "too many signatures to examine"));
}

#define SUBJECT "\"subject\":{\"mediaType\":\"" OCI "\",\"digest\":\"sha256:" HEX_B "\",\"size\":404}"
#define BUNDLE_LAYER "{\"mediaType\":\"" BUNDLE "\",\"digest\":\"sha256:" HEX_A "\",\"size\":667}"
#define BUNDLED "{\"schemaVersion\":2,\"mediaType\":\"" OCI "\",\"artifactType\":\"" BUNDLE "\",\"config\":{\"mediaType\":\"application/vnd.oci.empty.v1+json\",\"digest\":\"sha256:" HEX_A "\",\"size\":2}," \
                "\"layers\":[" BUNDLE_LAYER "]," SUBJECT "}"
static const struct { const char *from, *to, *says; } bundled[] = {
        { "{", "{", NULL }, { "\"mediaType\":\"" OCI "\",\"artifactType\"", "\"artifactType\"", NULL }, { "\"artifactType\":\"" BUNDLE "\",", "", NULL }, { "[{\"mediaType\":\"" BUNDLE, "[{\"mediaType\":\"application/vnd.dev.sigstore.bundle+json;version=0.3", NULL },
        { "\"size\":667", "\"size\":1048576", NULL }, { "\"size\":667", "\"size\":1048577", "1048577 bytes" }, { "\"size\":667", "\"size\":9223372036854775807", "bytes" }, { "\"size\":667", "\"size\":-1", "negative" },
        { BUNDLE_LAYER, "", "0 layers" }, { BUNDLE_LAYER, BUNDLE_LAYER "," BUNDLE_LAYER, "2 layers" }, { "\"layers\"", "\"Layers\"", "0 layers" }, { BUNDLE_LAYER, "[]", "layers[0]: is no object" },
        { "[{\"mediaType\":\"" BUNDLE, "[{\"mediaType\":\"application/vnd.dev.cosign.simplesigning.v1+json", "no Sigstore bundle" }, { "[{\"mediaType\":\"application", "[{\"mediaType\":\"x-application", "no Sigstore bundle" },
        { "," SUBJECT, "", "\"subject\" is missing" }, { SUBJECT, "\"subject\":null", "\"subject\" is missing" }, { HEX_A "\",\"size\":667", HEX_A HEX_B "\",\"size\":667", "layers[0]" }, { SUBJECT, "\"subject\":\"sha256:" HEX_B "\"", "\"subject\" must be of type" }, { "[" BUNDLE_LAYER "]", "{}", "\"layers\" must be of type" },
        { "\"subject\":{\"mediaType\":\"" OCI "\",\"digest\":\"sha256:" HEX_B, "\"subject\":{\"mediaType\":\"" OCI "\",\"digest\":\"sha256:" HEX_A, "another manifest" }, { ",\"size\":404", "", "subject: mediaType, digest or size is missing" },
        { "\"mediaType\":\"" OCI "\",\"artifactType\"", "\"mediaType\":\"" DOCKER "\",\"artifactType\"", "not the type" }, { "\"mediaType\":\"" OCI "\",\"artifactType\"", "\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"artifactType\"", "not the type" },
        { "\"layers\"", "\"manifests\":[],\"layers\"", "manifests" }, { "\"schemaVersion\":2", "\"schemaVersion\":3", "schemaVersion" }, { "\"subject\"", "\"subject\":{},\"subject\"", "twice" }, { "{\"schema", "{\"schema\":[[,\"schema", "JSON" },
};

static void test_bundle(void **state)
{
        (void)state;
        struct digest target, layer;
        assert_true(digest_parse_hex(HEX_B, &target));
        for (size_t i = 0; i < COUNT_OF(bundled); i++) {
                CLEANUP(cleanup_free) char *text = rig_swap(BUNDLED, bundled[i].from, bundled[i].to);
                char digest[DIGEST_TEXT_BYTES] = "";
                uint64_t size = 0;
                struct error err = { 0 };
                bool good = trust_bundle_layer_parse(text, strlen(text), &target, &layer, &size, &err);
                if (good != !bundled[i].says || (!good && (err.code != ERROR_SIGNATURE_INVALID || !strstr(err.text, bundled[i].says) || !strstr(err.text, "bundle manifest"))))
                        fail_msg("%s: %s", text, good ? "taken" : err.text);
                if (!good)
                        continue;
                digest_format(&layer, digest);
                assert_string_equal(digest, "sha256:" HEX_A);
                assert_true(size == 667 || size == 1048576);
        }
        struct error err;
        uint64_t size;
        assert_false(trust_bundle_layer_parse("7", 1, &target, &layer, &size, &err));
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_classic), cmocka_unit_test(test_classic_members), cmocka_unit_test(test_classic_limit), cmocka_unit_test(test_bundle) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
