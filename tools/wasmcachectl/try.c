/*
 * How it goes: verify-signature has the daemon try a key on a reference, or on a file of this user with what lies beside it; the daemon keeps nothing of it.
 * How it fails: a signature that does not do is said with the daemon's sentence and exit 1; a file that the daemon may not open is copied to where it can, and tried once more.
 * How it ends: copies are removed in every case.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "ctl.h"

enum { FINGERPRINT_SHOWN = 16 };

static const char *const suffixes[] = { ".sigstore.json", ".sigstore", ".sig", ".bundle", ".minisig" };

/* What is tried: `url` is asked of the daemon; `path` is the file's own, absolute, NULL if it is no file. */
struct subject { char *path, *url; struct scratch scratch; };

static void subject_fini(struct subject *subject)
{
        scratch_remove(&subject->scratch);
        free(subject->path);
        free(subject->url);
}

static char *url_of_file(const char *path)
{
        CLEANUP(cleanup_free) char *escaped = query_escape(path);
        return string_format("file://%s", escaped);
}

/* Can a name that is no file's be meant as one? Then nobody is asked for it: without a host it would be an image of Docker Hub. */
static bool reads_like_file(const char *argument)
{
        bool has_host = strcspn(argument, ".:") < strcspn(argument, "/") && strchr(argument, '/');
        return *argument == '/' || string_starts_with(argument, "./") || string_starts_with(argument, "../") || (!has_host && string_ends_with(argument, ".wasm"));
}

/* A regular file is meant as such, whatever else its name could be. */
static bool subject_make(const char *argument, struct subject *ret_subject, struct error *err)
{
        struct stat info;
        bool is_url = strstr(argument, "://"), is_there = !is_url && stat(argument, &info) == 0;

        if (!is_url && !is_there && reads_like_file(argument))
                return refuse_errno(err, ERROR_BAD_REQUEST, errno, "%s", argument);
        if (!is_there)
                return (ret_subject->url = string_copy(argument));
        if (!S_ISREG(info.st_mode))
                return refuse(err, ERROR_BAD_REQUEST, "%s: is no regular file", argument);
        ret_subject->path = realpath(argument, NULL);
        if (!ret_subject->path)
                return refuse_errno(err, ERROR_BAD_REQUEST, errno, "%s", argument);
        return (ret_subject->url = url_of_file(ret_subject->path));
}

static bool copy_save(const struct scratch *scratch, const char *path, bool is_needed, struct error *err)
{
        CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat info;

        if (fd < 0)
                return (!is_needed && errno == ENOENT) || refuse_errno(err, ERROR_BAD_REQUEST, errno, "%s", path);
        if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
                return refuse(err, ERROR_BAD_REQUEST, "%s: is no regular file", path);
        return scratch_save(scratch, strrchr(path, '/') + 1, fd, err);
}

/* The file and its signatures, under their own names in a folder that the daemon can read. */
static bool subject_copy(const struct ctl *ctl, struct subject *subject, struct error *err)
{
        if (!scratch_make(ctl, &subject->scratch, err) || !copy_save(&subject->scratch, subject->path, true, err))
                return false;
        for (size_t i = 0; i < COUNT_OF(suffixes); i++) {
                CLEANUP(cleanup_free) char *beside = string_format("%s%s", subject->path, suffixes[i]);
                if (!copy_save(&subject->scratch, beside, false, err))
                        return false;
        }
        CLEANUP(cleanup_free) char *copy = string_format("%s%s", subject->scratch.folder, strrchr(subject->path, '/'));
        free(subject->url);
        subject->url = url_of_file(copy);
        return true;
}

/* ---- asking ---- */

static int try_once(struct ctl *ctl, struct wish *wish, const struct subject *subject, char **ret_text, struct wasmcache_error *err)
{
        CLEANUP(buffer_fini_secret) struct buffer body = { 0 };
        size_t size;

        wish->request.url = subject->url;
        wish_write(wish, &body);
        return wasmcache_call(ctl->cache, "POST", "/v1/verify-signature", body.data, NULL, ret_text, &size, err);
}

/* Of a file: could the daemon not see it, or not all that lies beside it? */
static bool is_out_of_sight(int result, const struct wasmcache_error *err, const char *text)
{
        static const char *const codes[] = { "denied", "not_found" };

        for (size_t i = 0; result == WASMCACHE_REFUSED && i < COUNT_OF(codes); i++)
                if (strcmp(err->code, codes[i]) == 0)
                        return true;
        return result == WASMCACHE_OK && text && strstr(text, "\"signature_unreachable\"");
}

/* The copy's place in what the daemon says is the file's own for whoever reads it. */
static char *text_restore(const char *text, const struct subject *subject)
{
        CLEANUP(cleanup_free) char *folder = string_copy_bytes(subject->path, (size_t)(strrchr(subject->path, '/') - subject->path));
        struct buffer out = { 0 };

        if (strpbrk(folder, "\"\\"))
                return string_copy(text);
        for (const char *at; (at = strstr(text, subject->scratch.folder)) != NULL; text = at + strlen(subject->scratch.folder)) {
                buffer_append(&out, text, (size_t)(at - text));
                buffer_append_text(&out, folder);
        }
        buffer_append_text(&out, text);
        return buffer_take(&out);
}

static int ask_daemon(struct ctl *ctl, struct wish *wish, struct subject *subject, struct value **ret_answer)
{
        CLEANUP(cleanup_free) char *text = NULL;
        struct wasmcache_error refusal = { 0 };
        struct error err = { 0 };

        int result = try_once(ctl, wish, subject, &text, &refusal);
        if (subject->path && is_out_of_sight(result, &refusal, text)) {
                if (!subject_copy(ctl, subject, &err))
                        return report_error(&err);
                free(TAKE(text));
                result = try_once(ctl, wish, subject, &text, &refusal);
        }
        if (result != WASMCACHE_OK)
                return report_daemon(ctl, result, &refusal);
        CLEANUP(cleanup_free) char *shown = subject->scratch.folder ? text_restore(text, subject) : string_copy(text);
        if (!json_parse(shown, strlen(shown), ERROR_UPSTREAM_ERROR, ret_answer, &err))
                return report_local("is that wasmcached's socket?", "POST /v1/verify-signature: the answer is no JSON: %s", err.text);
        return WASMCACHE_OK;
}

/* ---- showing ---- */

static void annotations_join(const struct value *annotations, struct buffer *ret_joined)
{
        for (size_t i = 0; i < value_get_count(annotations); i++) {
                const char *text = value_get_text(value_get_item(annotations, i));
                buffer_printf(ret_joined, "%s%s=%s", ret_joined->used ? "," : "", value_get_key(annotations, i), text ? text : "...");
        }
}

static void signature_row(struct table *table, const struct value *signature)
{
        CLEANUP(buffer_fini) struct buffer annotations = { 0 };
        const char *key = text_member(signature, "keyFingerprint");
        CLEANUP(cleanup_free) char *short_key = key ? string_copy_bytes(key, strnlen(key, FINGERPRINT_SHOWN)) : NULL;

        annotations_join(value_get_member(signature, "annotations"), &annotations);
        table_add(table, text_member(signature, "format"));
        table_add(table, short_key);
        table_add(table, text_member(signature, "algorithm"));
        table_add(table, text_member(signature, "where"));
        table_add(table, annotations.data);
}

static void show_verified(const struct value *answer)
{
        static const char *const heads[] = { "FORMAT", "KEY", "ALGORITHM", "WHERE", "ANNOTATIONS" };
        const struct value *signatures = value_get_member(answer, "signatures");
        const char *url = text_member(answer, "url"), *digest = text_member(answer, "digest");
        char shown[1024];
        struct table table = { .columns = COUNT_OF(heads) };

        printf("verified: %s%s%s%s\n", url ? string_printable(url, strlen(url), shown, sizeof shown) : "", digest ? " (" : "", digest ? digest : "", digest ? ")" : "");
        for (size_t i = 0; i < COUNT_OF(heads); i++)
                table_add(&table, heads[i]);
        for (size_t i = 0; i < value_get_count(signatures); i++)
                signature_row(&table, value_get_item(signatures, i));
        table_print(&table);
}

static int show_refused(const struct value *answer)
{
        const char *code = text_member(answer, "code"), *detail = text_member(answer, "detail");
        struct error err = { .code = ERROR_SIGNATURE_INVALID };

        if (code)
                error_parse_name(code, &err.code);
        string_printable(detail ? detail : "", detail ? strlen(detail) : 0, err.text, sizeof err.text);
        return report_error(&err);
}

int command_verify_signature(struct ctl *ctl)
{
        CLEANUP(wish_fini) struct wish wish = { 0 };
        CLEANUP(subject_fini) struct subject subject = { 0 };
        CLEANUP(value_free) struct value *answer = NULL;
        struct error err;

        if (!ctl->options[OPTION_KEY])
                return report_usage(NULL, "verify-signature needs --key FILE, the public key that is to be tried");
        if (!subject_make(ctl->arguments[0], &subject, &err))
                return report_local("the argument is a reference, or a file with its signatures beside it", "%s", err.text);
        int result = wish_make(ctl, &wish);
        if (result == WASMCACHE_OK)
                result = ask_daemon(ctl, &wish, &subject, &answer);
        if (result != WASMCACHE_OK)
                return result;

        bool is_verified = string_equal(text_member(answer, "verdict"), "verified");
        if (ctl->format != FORMAT_TABLE)
                output_value(ctl, answer);
        else if (is_verified)
                show_verified(answer);
        else
                return show_refused(answer);
        return is_verified ? WASMCACHE_OK : WASMCACHE_REFUSED;
}
