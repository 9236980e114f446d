#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <wasmcached/registry.h>

#define OCI_IMAGE "application/vnd.oci.image.manifest.v1+json"
#define OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define DOCKER_IMAGE "application/vnd.docker.distribution.manifest.v2+json"
#define DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define SCHEMA1 "application/vnd.docker.distribution.manifest.v1+json"
#define SCHEMA1_SIGNED "application/vnd.docker.distribution.manifest.v1+prettyjws"
#define HEX "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
#define DIGEST "sha256:" HEX
#define EMPTY512 "sha512:27c74670adb75075fad058d5ceaf7b20c4e7786c83bae8a32f626f9782af34c9a33c2046ef60fd2a7878d378e29fec851806bbd9a67878f3a9f1cda4830763fd"
#define ITEM(type) "{\"mediaType\":\"" type "\",\"digest\":\"" DIGEST "\",\"size\":2}"
#define CONFIG "\"config\":" ITEM("application/vnd.oci.image.config.v1+json")
#define LAYER ITEM("application/wasm")
#define HEAD(type) "{\"schemaVersion\":2,\"mediaType\":\"" type "\","
#define PLAIN "{\"schemaVersion\":2,"
#define IMAGE HEAD(OCI_IMAGE) CONFIG ",\"layers\":[" LAYER "]}"
#define WITH(members) HEAD(OCI_IMAGE) CONFIG ",\"layers\":[{\"mediaType\":\"application/wasm\",\"digest\":\"" DIGEST "\",\"size\":2," members "}]}"
#define INDEX HEAD(OCI_INDEX) "\"manifests\":[" ITEM(OCI_IMAGE) "]}"

/* `why` NULL: accepted. */
static const struct { const char *text, *content_type; enum error_code code; const char *why; } rows[] = {
        { IMAGE,                                                   OCI_IMAGE, ERROR_NONE, NULL },
        { IMAGE,                                                   NULL, ERROR_NONE, NULL },
        { IMAGE,                                                   "", ERROR_NONE, NULL },
        { IMAGE,                                                   " " OCI_IMAGE " ; charset=utf-8", ERROR_NONE, NULL },
        { IMAGE,                                                   "Application/vnd.OCI.image.manifest.v1+JSON", ERROR_NONE, NULL },
        { HEAD(DOCKER_IMAGE) CONFIG ",\"layers\":[]}",             DOCKER_IMAGE, ERROR_NONE, NULL },
        { INDEX,                                                   OCI_INDEX, ERROR_NONE, NULL },
        { HEAD(DOCKER_LIST) "\"manifests\":[]}",                   DOCKER_LIST, ERROR_NONE, NULL },
        { PLAIN CONFIG ",\"layers\":[" LAYER "]}",                 OCI_IMAGE, ERROR_NONE, NULL },
        { PLAIN CONFIG ",\"layers\":[" LAYER "]}",                 NULL, ERROR_NONE, NULL },
        { PLAIN CONFIG ",\"layers\":[" LAYER "]}",                 "application/json", ERROR_NONE, NULL },
        { PLAIN "\"manifests\":[]}",                               "text/plain; charset=utf-8", ERROR_NONE, NULL },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":null}",              NULL, ERROR_NONE, NULL },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[],\"newMember\":{\"a\":[1]}}", NULL, ERROR_NONE, NULL },
        { WITH("\"urls\":[\"https://evil.example/x\"]"),           NULL, ERROR_NONE, NULL },
        { WITH("\"data\":\"e30=\""),                               NULL, ERROR_NONE, NULL },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[{\"mediaType\":\"x/y\",\"digest\":\"" EMPTY512 "\",\"size\":2,\"data\":\"e30=\"}]}", NULL, ERROR_NONE, NULL },

        { "",                                                      NULL, ERROR_UPSTREAM_ERROR, "manifest" },
        { "[]",                                                    NULL, ERROR_UPSTREAM_ERROR, "no JSON object" },
        { "{",                                                     NULL, ERROR_UPSTREAM_ERROR, "manifest" },
        { IMAGE "x",                                               NULL, ERROR_UPSTREAM_ERROR, "manifest" },
        { "<html>",                                                NULL, ERROR_UPSTREAM_ERROR, "manifest" },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[],\"x\":\"\xff\"}",  NULL, ERROR_UPSTREAM_ERROR, "manifest" },
        { HEAD(OCI_IMAGE) CONFIG "," CONFIG ",\"layers\":[]}",     NULL, ERROR_UPSTREAM_ERROR, "manifest" },
        { WITH("\"size\":3"),                                      NULL, ERROR_UPSTREAM_ERROR, "manifest" },
        { "{\"mediaType\":\"" OCI_IMAGE "\"," CONFIG ",\"layers\":[]}", NULL, ERROR_UPSTREAM_ERROR, "schemaVersion" },
        { "{\"schemaVersion\":\"2\"," CONFIG ",\"layers\":[]}",    NULL, ERROR_UPSTREAM_ERROR, "schemaVersion" },
        { "{\"schemaVersion\":3," CONFIG ",\"layers\":[]}",        NULL, ERROR_UPSTREAM_ERROR, "schemaVersion" },
        { "{\"schemaVersion\":2.0," CONFIG ",\"layers\":[]}",      NULL, ERROR_UPSTREAM_ERROR, "schemaVersion" },
        { "{\"schemaVersion\":1,\"fsLayers\":[],\"history\":[]}",  NULL, ERROR_UNSUPPORTED_IMAGE, "schema 1" },
        { "{\"schemaVersion\":1,\"fsLayers\":[],\"history\":[]}",  SCHEMA1_SIGNED, ERROR_UNSUPPORTED_IMAGE, "schema 1" },
        { PLAIN CONFIG ",\"layers\":[]}",                          SCHEMA1, ERROR_UNSUPPORTED_IMAGE, "schema 1" },
        { HEAD(SCHEMA1) "\"fsLayers\":[]}",                        NULL, ERROR_UNSUPPORTED_IMAGE, "schema 1" },
        { IMAGE,                                                   OCI_INDEX, ERROR_UPSTREAM_ERROR, "disagree" },
        { IMAGE,                                                   DOCKER_IMAGE, ERROR_UPSTREAM_ERROR, "disagree" },
        { IMAGE,                                                   "application/json", ERROR_UPSTREAM_ERROR, "disagree" },
        { INDEX,                                                   OCI_IMAGE "; a=b", ERROR_UPSTREAM_ERROR, "disagree" },
        { PLAIN CONFIG ",\"layers\":[]}",                          "text/html", ERROR_UNSUPPORTED_IMAGE, "neither an image nor an index" },
        { HEAD("application/vnd.oci.artifact.manifest.v1+json") "\"blobs\":[]}", NULL, ERROR_UNSUPPORTED_IMAGE, "neither an image nor an index" },
        { PLAIN "\"mediaType\":7," CONFIG ",\"layers\":[]}",       NULL, ERROR_UPSTREAM_ERROR, "mediaType" },
        /* two readings */
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[],\"manifests\":[]}", NULL, ERROR_UPSTREAM_ERROR, "two readings" },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[],\"manifests\":null}", NULL, ERROR_UPSTREAM_ERROR, "two readings" },
        { HEAD(OCI_INDEX) "\"layers\":[],\"manifests\":[]}",       NULL, ERROR_UPSTREAM_ERROR, "two readings" },
        { HEAD(OCI_INDEX) CONFIG ",\"manifests\":[]}",             NULL, ERROR_UPSTREAM_ERROR, "two readings" },
        { HEAD(OCI_INDEX) "\"fsLayers\":[],\"manifests\":[]}",     NULL, ERROR_UPSTREAM_ERROR, "two readings" },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[],\"fsLayers\":[]}", NULL, ERROR_UPSTREAM_ERROR, "two readings" },
        { PLAIN CONFIG ",\"layers\":[],\"manifests\":[]}",         NULL, ERROR_UPSTREAM_ERROR, "two readings" },
        { PLAIN CONFIG ",\"layers\":[],\"manifests\":[]}",         OCI_IMAGE, ERROR_UPSTREAM_ERROR, "two readings" },
        /* shape */
        { HEAD(OCI_IMAGE) "\"layers\":[]}",                        NULL, ERROR_UPSTREAM_ERROR, "\"config\" is missing" },
        { HEAD(OCI_IMAGE) "\"config\":null,\"layers\":[]}",        NULL, ERROR_UPSTREAM_ERROR, "config: is no object" },
        { HEAD(OCI_IMAGE) CONFIG "}",                              NULL, ERROR_UPSTREAM_ERROR, "\"layers\" is missing" },
        { HEAD(OCI_INDEX) "\"annotations\":{}}",                   NULL, ERROR_UPSTREAM_ERROR, "\"manifests\" is missing" },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":{}}",                NULL, ERROR_UPSTREAM_ERROR, "layers" },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[7]}",               NULL, ERROR_UPSTREAM_ERROR, "layers[0]: is no object" },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[" LAYER ",{\"digest\":\"" DIGEST "\",\"size\":2}]}", NULL, ERROR_UPSTREAM_ERROR, "layers[1]: mediaType" },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[{\"mediaType\":\"\",\"digest\":\"" DIGEST "\",\"size\":2}]}", NULL, ERROR_UPSTREAM_ERROR, "layers[0]: mediaType" },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[{\"mediaType\":\"a/b\",\"size\":2}]}", NULL, ERROR_UPSTREAM_ERROR, "digest is missing" },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[{\"mediaType\":\"a/b\",\"digest\":\"" DIGEST "\"}]}", NULL, ERROR_UPSTREAM_ERROR, "size is missing" },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[{\"mediaType\":\"a/b\",\"digest\":\"" DIGEST "\",\"size\":-1}]}", NULL, ERROR_UPSTREAM_ERROR, "size is missing or negative" },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[{\"mediaType\":\"a/b\",\"digest\":\"" DIGEST "\",\"size\":\"2\"}]}", NULL, ERROR_UPSTREAM_ERROR, "size" },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[{\"mediaType\":\"a/b\",\"digest\":\"" DIGEST "\",\"size\":1.5}]}", NULL, ERROR_UPSTREAM_ERROR, "size" },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[{\"mediaType\":\"a/b\",\"digest\":\"" DIGEST "\",\"size\":99999999999999999999}]}", NULL, ERROR_UPSTREAM_ERROR, "manifest" },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[{\"mediaType\":\"a/b\",\"digest\":\"sha256:../../etc\",\"size\":2}]}", NULL, ERROR_UPSTREAM_ERROR, "layers[0]" },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[{\"mediaType\":\"a/b\",\"digest\":\"sha256:" HEX "0\",\"size\":2}]}", NULL, ERROR_UPSTREAM_ERROR, "layers[0]" },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[{\"mediaType\":\"a/b\",\"digest\":\"../x\",\"size\":2}]}", NULL, ERROR_UPSTREAM_ERROR, "layers[0]" },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[{\"mediaType\":\"a/b\",\"digest\":\"blake3:" HEX "\",\"size\":2}]}", NULL, ERROR_UNSUPPORTED_IMAGE, "layers[0]" },
        { HEAD(OCI_IMAGE) CONFIG ",\"layers\":[],\"annotations\":[]}", NULL, ERROR_UPSTREAM_ERROR, "annotations" },
        { WITH("\"annotations\":7"),                               NULL, ERROR_UPSTREAM_ERROR, "annotations" },
        { WITH("\"platform\":\"linux\""),                          NULL, ERROR_UPSTREAM_ERROR, "platform" },
        { WITH("\"platform\":{\"os\":7}"),                         NULL, ERROR_UPSTREAM_ERROR, "platform" },
        /* embedded data */
        { WITH("\"data\":\"e30\""),                                NULL, ERROR_UPSTREAM_ERROR, "no base64" },
        { WITH("\"data\":\"e3 0=\""),                              NULL, ERROR_UPSTREAM_ERROR, "no base64" },
        { WITH("\"data\":\"e31=\""),                               NULL, ERROR_UPSTREAM_ERROR, "embedded data" },
        { WITH("\"data\":\"e30K\""),                               NULL, ERROR_UPSTREAM_ERROR, "not what size and digest say" },
        { WITH("\"data\":\"fXs=\""),                               NULL, ERROR_UPSTREAM_ERROR, "not what size and digest say" },
        { WITH("\"data\":\"\""),                                   NULL, ERROR_UPSTREAM_ERROR, "not what size and digest say" },
        { WITH("\"data\":7"),                                      NULL, ERROR_UPSTREAM_ERROR, "data" },
        { HEAD(OCI_IMAGE) "\"config\":{\"mediaType\":\"a/b\",\"digest\":\"" DIGEST "\",\"size\":3,\"data\":\"e30=\"},\"layers\":[]}", NULL, ERROR_UPSTREAM_ERROR,
                "config: embedded data" },
};

static void test_rows(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(manifest_fini) struct manifest manifest = { 0 };
                struct error err = { 0 };

                print_message("%s\n", rows[i].text);
                bool ok = manifest_parse(rows[i].text, strlen(rows[i].text), rows[i].content_type, &manifest, &err);
                if (ok != (rows[i].why == NULL))
                        fail_msg("%s: %s", ok ? "accepted" : "refused", err.text);
                if (ok)
                        continue;
                assert_null(manifest.document);
                if (err.code != rows[i].code || !strstr(err.text, rows[i].why))
                        fail_msg("%d \"%s\" instead of %d \"%s\"", err.code, err.text, rows[i].code, rows[i].why);
        }
}

static void test_content(void **state)
{
        (void)state;
        static const char text[] = HEAD(OCI_IMAGE) "\"artifactType\":\"application/vnd.example\"," CONFIG ",\"layers\":[" LAYER
                ",{\"mediaType\":\"a/b\",\"artifactType\":\"c/d\",\"digest\":\"" DIGEST
                "\",\"size\":2,\"data\":\"e30=\",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\",\"variant\":\"v8\"}}],\"annotations\":{\"a\":\"b\",\"n\":7}}";
        CLEANUP(manifest_fini) struct manifest manifest = { 0 };
        struct error err = { 0 };
        char digest[DIGEST_TEXT_BYTES];

        assert_true(manifest_parse(text, strlen(text), NULL, &manifest, &err));
        assert_int_equal(manifest.kind, MANIFEST_IMAGE);
        assert_string_equal(manifest.media_type, OCI_IMAGE);
        assert_string_equal(manifest.artifact_type, "application/vnd.example");
        assert_string_equal(manifest.config.media_type, "application/vnd.oci.image.config.v1+json");
        assert_int_equal(manifest.item_count, 2);
        assert_null(manifest.items[0].data.data);
        assert_null(manifest.items[0].platform_os);
        assert_string_equal(manifest.items[1].artifact_type, "c/d");
        assert_int_equal(manifest.items[1].size_bytes, 2);
        assert_int_equal(manifest.items[1].data.used, 2);
        assert_string_equal(manifest.items[1].data.data, "{}");
        assert_string_equal(manifest.items[1].platform_os, "linux");
        assert_string_equal(manifest.items[1].platform_architecture, "arm64");
        assert_string_equal(manifest.items[1].platform_variant, "v8");
        assert_false(manifest.items[1].is_attestation);
        digest_format(&manifest.items[1].digest, digest);
        assert_string_equal(digest, DIGEST);
        assert_string_equal(manifest_get_annotation(&manifest, "a"), "b");
        assert_null(manifest_get_annotation(&manifest, "n"));
        assert_null(manifest_get_annotation(&manifest, "x"));
}

static bool parse_many(const char *head, const char *item, size_t count, const char *tail, struct error *err)
{
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        CLEANUP(manifest_fini) struct manifest manifest = { 0 };

        buffer_append_text(&text, head);
        for (size_t i = 0; i < count; i++)
                buffer_printf(&text, "%s%s", i > 0 ? "," : "", item);
        buffer_append_text(&text, tail);
        return manifest_parse(text.data, text.used, NULL, &manifest, err);
}

static void test_limits(void **state)
{
        (void)state;
        struct error err = { 0 };

        assert_true(parse_many(HEAD(OCI_IMAGE) CONFIG ",\"layers\":[", LAYER, 128, "]}", &err));
        assert_false(parse_many(HEAD(OCI_IMAGE) CONFIG ",\"layers\":[", LAYER, 129, "]}", &err));
        assert_int_equal(err.code, ERROR_UNSUPPORTED_IMAGE);
        assert_non_null(strstr(err.text, "129 layers, at most 128"));
        assert_true(parse_many(HEAD(OCI_INDEX) "\"manifests\":[", ITEM(OCI_IMAGE), 1000, "]}", &err));
        assert_false(parse_many(HEAD(OCI_INDEX) "\"manifests\":[", ITEM(OCI_IMAGE), 1001, "]}", &err));
        assert_non_null(strstr(err.text, "1001 manifests, at most 1000"));
        assert_false(parse_many("", " ", MANIFEST_BYTES_MAX / 2, "", &err));
        assert_int_equal(err.code, ERROR_UPSTREAM_ERROR);
        assert_false(parse_many("", "                                               ", MANIFEST_BYTES_MAX / 40, "", &err));
        assert_int_equal(err.code, ERROR_TOO_LARGE);
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_rows), cmocka_unit_test(test_content), cmocka_unit_test(test_limits) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
