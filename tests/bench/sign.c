/*
 * How it goes: sign ROOT FROM TO KEY.pem: for each image that `fill` has put there, a DSSE bundle signed with this private EC key as evidence, and the row that says it was
 *              accepted under the key and the policy of a daemon without `trust:` options, as a pull with that key would leave them.
 * How it fails: the first refused row ends it with 1.
 * How it ends: the store is closed clean; nothing of it is durable, see fill.c.
 */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/base.h>
#include <wasmcached/store.h>
#include <wasmcached/trust.h>

enum { BATCH = 200, BUNDLE_BYTES = 2048 };

int fsync(int fd);
int fdatasync(int fd);

int fsync(int fd)
{
        (void)fd;
        return 0;
}

int fdatasync(int fd)
{
        (void)fd;
        return 0;
}

/* As fill.c makes it. */
static void manifest_digest(unsigned number, struct digest *ret_manifest)
{
        static const uint8_t magic[] = { 0, 'a', 's', 'm', 1, 0, 0, 0 };
        char module[200], document[700], layer[DIGEST_TEXT_BYTES];
        memcpy(module, magic, sizeof magic);
        size_t size = sizeof magic + (size_t)snprintf(module + sizeof magic, sizeof module - sizeof magic, "%cfill%08u", 0, number);
        struct digest sha256;
        digest_sha256(module, size, &sha256);
        digest_format(&sha256, layer);
        snprintf(document, sizeof document,
                 "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{\"mediaType\":\"application/vnd.module.wasm.config.v1+json\","
                 "\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2},"
                 "\"layers\":[{\"mediaType\":\"application/vnd.module.wasm.content.layer.v1+wasm\",\"digest\":\"%s\",\"size\":%zu}]}", layer, size);
        digest_sha256(document, strlen(document), ret_manifest);
}

static bool bundle_make(EVP_PKEY *key, const struct digest *manifest, char *ret_bundle)
{
        char hex[DIGEST_TEXT_BYTES], statement[512], pae[640];
        unsigned char signature[160];
        size_t signature_bytes = sizeof signature;
        digest_format_hex(manifest, hex);
        int length = snprintf(statement, sizeof statement, "{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":[{\"digest\":{\"sha256\":\"%s\"}}],"
                              "\"predicateType\":\"https://sigstore.dev/cosign/sign/v1\",\"predicate\":{}}", hex);
        int pae_bytes = snprintf(pae, sizeof pae, "DSSEv1 28 application/vnd.in-toto+json %d %s", length, statement);
        EVP_MD_CTX *context = EVP_MD_CTX_new();
        bool done = EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) == 1 &&
                    EVP_DigestSign(context, signature, &signature_bytes, (unsigned char *)pae, (size_t)pae_bytes) == 1;
        EVP_MD_CTX_free(context);
        CLEANUP(cleanup_free) char *payload = base64_encode(statement, (size_t)length);
        CLEANUP(cleanup_free) char *sig = base64_encode(signature, signature_bytes);
        snprintf(ret_bundle, BUNDLE_BYTES, "{\"mediaType\":\"application/vnd.dev.sigstore.bundle.v0.3+json\",\"verificationMaterial\":{\"publicKey\":{\"hint\":\"\"}},"
                 "\"dsseEnvelope\":{\"payload\":\"%s\",\"payloadType\":\"application/vnd.in-toto+json\",\"signatures\":[{\"sig\":\"%s\"}]}}", payload, sig);
        return done;
}

static bool save_batch(struct store *store, EVP_PKEY *key, const struct digest *names, unsigned from, unsigned to, struct error *err)
{
        static char bundles[BATCH][BUNDLE_BYTES];
        struct store_evidence rows[BATCH];
        struct store_proof proofs[BATCH];
        size_t count = 0;
        for (unsigned i = from; i < to; i++, count++) {
                struct digest manifest;
                manifest_digest(i, &manifest);
                if (!bundle_make(key, &manifest, bundles[count]))
                        return refuse(err, ERROR_INTERNAL, "cannot sign with this key");
                rows[count] = (struct store_evidence){ .target = manifest, .kind = trust_form_names[TRUST_FORM_BUNDLE], .where = "referrer", .repository = "", .body = bundles[count],
                                                       .body_bytes = strlen(bundles[count]), .extra = "{}", .found_s = 1 };
                store_hash_evidence(&rows[count], &rows[count].id);
                proofs[count] = (struct store_proof){ .target = manifest, .keys = names[0], .policy = names[1], .evidence = rows[count].id, .proved_s = 1 };
        }
        return store_save_evidence(store, rows, count, proofs, count, err);
}

static EVP_PKEY *key_load(const char *path, struct digest ret_names[2])
{
        static const struct trust_policy_options defaults = { .formats = TRUST_FORMATS_DEFAULT };
        FILE *file = fopen(path, "r");
        EVP_PKEY *key = file ? PEM_read_PrivateKey(file, NULL, NULL, NULL) : NULL;
        if (file)
                fclose(file);
        if (!key)
                return NULL;
        BIO *out = BIO_new(BIO_s_mem());
        char *pem;
        struct error err;
        struct trust_keys *keys = NULL;
        PEM_write_bio_PUBKEY(out, key);
        size_t size = (size_t)BIO_get_mem_data(out, &pem);
        if (trust_keys_parse(pem, size, "key", &keys, &err)) {
                struct trust_policy *policy = trust_policy_new(&defaults);
                ret_names[0] = *trust_keys_get_digest(keys);
                ret_names[1] = *trust_policy_get_digest(policy);
                trust_policy_unref(&policy);
        }
        BIO_free(out);
        trust_keys_unref(&keys);
        return key;
}

int main(int argc, char **argv)
{
        struct error err = { 0 };
        struct store *store = NULL;
        struct store_report report = { 0 };
        struct digest names[2];
        EVP_PKEY *key = argc == 5 ? key_load(argv[4], names) : NULL;
        if (!key)
                return 2;
        bool is_good = store_open(&(struct store_options){ .root = argv[1] }, &store, &report, &err);
        for (unsigned i = (unsigned)atoi(argv[2]), end = (unsigned)atoi(argv[3]); is_good && i < end; i += BATCH)
                is_good = save_batch(store, key, names, i, i + BATCH < end ? i + BATCH : end, &err);
        if (!is_good)
                fprintf(stderr, "sign: %s\n", err.text);
        if (store)
                store_close(&store);
        EVP_PKEY_free(key);
        return !is_good;
}
