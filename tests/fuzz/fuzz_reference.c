/* Any text: refused, or read the same again after being formatted. */
#include <stdlib.h>
#include <string.h>
#include <wasmcached/registry.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        CLEANUP(cleanup_free) char *text = string_copy_bytes((const char *)data, size);
        CLEANUP(reference_fini) struct reference reference = { 0 }, again = { 0 };
        struct error err = { 0 };

        if (!reference_parse(text, &reference, &err)) {
                if (err.code != ERROR_BAD_URL)
                        abort();
                return 0;
        }
        CLEANUP(cleanup_free) char *formatted = reference_format(&reference);
        if (!reference_parse(formatted, &again, &err) || !string_equal(reference.host, again.host) || !string_equal(reference.path, again.path) ||
            !string_equal(reference.tag, again.tag) || memcmp(&reference.digest, &again.digest, sizeof again.digest) != 0)
                abort();
        return 0;
}
