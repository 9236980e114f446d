/*
 * How it goes: first byte: kind of config; the rest: its text. What is read is asked for three images and fingerprinted.
 * How it fails: a crash, or an error without a text.
 * How it ends: all freed.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/credential.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const char *const images[][2] = { { "docker.io", "library/x" }, { "r.io:5000", "team/x" }, { "[::1]:5000", "x" } };
        CLEANUP(docker_config_free) struct docker_config *config = NULL;
        struct error err = { 0 };
        if (size == 0)
                return 0;
        if (!docker_config_parse(data + 1, size - 1, data[0] & 1 ? DOCKER_CONFIG_LEGACY : DOCKER_CONFIG_JSON, &config, &err)) {
                if (err.code != ERROR_SECRET_MISSING || !err.text[0])
                        abort();
                return 0;
        }
        for (size_t i = 0; i < COUNT_OF(images); i++) {
                struct login *logins = NULL;
                size_t count = 0;
                keyring_find((const struct docker_config *const[]){ config }, 1, images[i][0], images[i][1], &logins, &count);
                logins_free(&logins, count);
        }
        struct digest fingerprint;
        docker_config_fingerprint(config, "key", 3, &fingerprint);
        return 0;
}
