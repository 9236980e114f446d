/*
 * How it goes: the first bytes against a table of magics; what is no core module is named for the person who pushed it.
 * How it fails: not_wasm with that name and what to do.
 * How it ends: nothing is kept.
 */
#include <string.h>
#include "stream.h"

enum { TAR_MAGIC_OFFSET = 257, TAR_BLOCK_BYTES = 512, TAR_SUM_OFFSET = 148, TAR_SUM_BYTES = 8, WASM_HEAD_BYTES = 8 };

static const struct { enum kind kind; const char *name; size_t offset, size_bytes; const char *magic; } magics[] = {
        { KIND_WASM,  "WebAssembly",             0,                4, "\0asm" },
        { KIND_GZIP,  "gzip data",               0,                2, "\x1f\x8b" },
        { KIND_ZSTD,  "zstd data",               0,                4, "\x28\xb5\x2f\xfd" },
        { KIND_TAR,   "a tar archive",           TAR_MAGIC_OFFSET, 5, "ustar" },
        { KIND_OTHER, "an ELF program",          0,                4, "\x7f" "ELF" },
        { KIND_OTHER, "a zip archive",           0,                4, "PK\x03\x04" },
        { KIND_OTHER, "bzip2 data",              0,                3, "BZh" },
        { KIND_OTHER, "xz data",                 0,                6, "\xfd" "7zXZ\0" },
        { KIND_OTHER, "LLVM bitcode",            0,                4, "BC\xc0\xde" },
        { KIND_OTHER, "WebAssembly text (.wat)", 0,                7, "(module" },
        { KIND_OTHER, "a shell script",          0,                2, "#!" },
};

static bool is_zstd_skippable(const uint8_t *head, size_t head_bytes)
{
        return head_bytes >= 4 && (head[0] & 0xf0) == 0x50 && memcmp(head + 1, "\x2a\x4d\x18", 3) == 0;
}

/* Archives older than POSIX have no magic, but the sum of their first header is right. An archive without entries is two blocks of zeros. */
static bool is_old_tar(const uint8_t *head, size_t head_bytes)
{
        if (head_bytes < TAR_BLOCK_BYTES)
                return false;

        unsigned long sum = 0, said = 0;
        bool zeros = true;
        for (size_t i = 0; i < TAR_BLOCK_BYTES; i++) {
                bool in_sum = i >= TAR_SUM_OFFSET && i < TAR_SUM_OFFSET + TAR_SUM_BYTES;
                sum += in_sum ? ' ' : head[i];
                zeros = zeros && head[i] == 0;
                if (in_sum && head[i] >= '0' && head[i] <= '7')
                        said = said * 8 + head[i] - '0';
        }
        return zeros || (head[0] != 0 && sum == said);
}

enum kind kind_detect(const uint8_t *head, size_t head_bytes)
{
        if (head_bytes == 0)
                return KIND_EMPTY;
        for (size_t i = 0; i < COUNT_OF(magics); i++)
                if (head_bytes >= magics[i].offset + magics[i].size_bytes && memcmp(head + magics[i].offset, magics[i].magic, magics[i].size_bytes) == 0)
                        return magics[i].kind;
        return is_zstd_skippable(head, head_bytes) ? KIND_ZSTD : is_old_tar(head, head_bytes) ? KIND_TAR : KIND_OTHER;
}

/* An error page instead of a file is the commonest accident. */
static bool is_html(const uint8_t *head, size_t head_bytes)
{
        char text[65] = "";
        size_t skipped = 0;
        while (skipped < head_bytes && strchr(" \t\r\n", head[skipped] ? head[skipped] : 'x'))
                skipped++;
        memcpy(text, head + skipped, head_bytes - skipped < sizeof text - 1 ? head_bytes - skipped : sizeof text - 1);
        return string_starts_with_nocase(text, "<!doctype html") || string_starts_with_nocase(text, "<html");
}

static bool is_text(const uint8_t *head, size_t head_bytes)
{
        for (size_t i = 0; i < head_bytes; i++)
                if (head[i] < ' ' && !(head[i] >= '\t' && head[i] <= '\r'))
                        return false;
        return true;
}

const char *kind_describe(const uint8_t *head, size_t head_bytes)
{
        if (head_bytes == 0)
                return "empty";
        for (size_t i = 0; i < COUNT_OF(magics); i++)
                if (head_bytes >= magics[i].offset + magics[i].size_bytes && memcmp(head + magics[i].offset, magics[i].magic, magics[i].size_bytes) == 0)
                        return magics[i].name;
        if (is_zstd_skippable(head, head_bytes))
                return "zstd data";
        if (is_old_tar(head, head_bytes))
                return "a tar archive";
        if (is_html(head, head_bytes))
                return "an HTML page";
        if (head[0] == '{' || head[0] == '[')
                return "JSON";
        return is_text(head, head_bytes) ? "text" : "unknown data";
}

static const struct { enum kind kind; const char *hint; } hints[] = {
        { KIND_GZIP, "; push it with a tar+gzip media type, or push the module itself" },
        { KIND_ZSTD, "; push it with a tar+zstd media type, or push the module itself" },
        { KIND_TAR,  "; push it with a tar media type, or push the module itself" },
};

bool unpack_check_wasm(const void *head, size_t head_bytes, uint64_t size_bytes, struct error *err)
{
        static const uint8_t core[WASM_HEAD_BYTES] = "\0asm\1\0\0\0", component[WASM_HEAD_BYTES] = "\0asm\x0d\0\1\0";
        const uint8_t *bytes = head;
        if (head_bytes == 0 || size_bytes == 0)
                return refuse(err, ERROR_NOT_WASM, "it is empty, not a Wasm module");
        if (head_bytes < WASM_HEAD_BYTES && memcmp(bytes, core, head_bytes < 4 ? head_bytes : 4) == 0)
                return refuse(err, ERROR_NOT_WASM, "it is a truncated Wasm module: %llu bytes, its header alone has %d", (unsigned long long)size_bytes, WASM_HEAD_BYTES);
        if (head_bytes >= WASM_HEAD_BYTES && memcmp(bytes, core, WASM_HEAD_BYTES) == 0)
                return true;
        if (head_bytes >= WASM_HEAD_BYTES && memcmp(bytes, component, WASM_HEAD_BYTES) == 0)
                return refuse(err, ERROR_NOT_WASM, "it is a WebAssembly component, not a core module: proxies run core modules only; "
                        "build it for wasm32-wasip1 without componentizing");
        if (head_bytes >= WASM_HEAD_BYTES && memcmp(bytes, core, 4) == 0)
                return refuse(err, ERROR_NOT_WASM, "it is WebAssembly of an unknown version (%02x %02x %02x %02x), not a core module of version 1",
                        bytes[4], bytes[5], bytes[6], bytes[7]);

        const char *hint = "";
        for (size_t i = 0; i < COUNT_OF(hints); i++)
                if (hints[i].kind == kind_detect(bytes, head_bytes))
                        hint = hints[i].hint;
        return refuse(err, ERROR_NOT_WASM, "it is %s, not a Wasm module%s", kind_describe(bytes, head_bytes), hint);
}
