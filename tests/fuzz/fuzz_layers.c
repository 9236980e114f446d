/* A signature's manifest, read in both ways. What is taken must be consistent. */
#include <stdlib.h>
#include <string.h>
#include <wasmcached/base.h>
#include <wasmcached/trust.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        CLEANUP(trust_layers_fini) struct trust_layers layers = { 0 };
        struct digest target, layer = { 0 };
        struct error err = { 0 };
        uint64_t size_bytes = 0;

        digest_parse_hex("6b76a4250555153df6f2d9bd613f3118bc21703f891c493a5dabe4ab493ee00d", &target);
        if (trust_layers_parse(data, size, &layers, &err) ? layers.count == 0 || layers.count > 64 : err.code != ERROR_SIGNATURE_INVALID || layers.document || layers.items)
                abort();
        for (size_t i = 0; i < layers.count; i++)
                if (!digest_is_set(&layers.items[i].digest))
                        abort();
        err = (struct error){ 0 };
        if (trust_bundle_layer_parse(data, size, &target, &layer, &size_bytes, &err) ? !digest_is_set(&layer) || size_bytes > 1 << 20 : err.code != ERROR_SIGNATURE_INVALID)
                abort();
        return 0;
}
