/*
 * How it goes: files are read for every request (a rotated token, certificate or CA counts at once), …-data is copied, an exec plugin is asked when what it gave ends.
 * How it fails: a token file that cannot be read or is empty lets the last token count; without one, and for all else, the error names the file.
 * How it ends: identity_fini() wipes; the held token and the plugin's credential are wiped with the kube.
 */
#include <ctype.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include "room.h"

enum { EXPIRY_MARGIN_S = 10 };

void identity_fini(struct identity *identity)
{
        secret_free(&identity->authorization);
        secret_free(&identity->certificate);
        secret_free(&identity->key);
        buffer_fini(&identity->ca);
}

/* Visible ASCII only: it becomes a header line. */
static struct secret *bearer_new(const char *token, size_t length)
{
        CLEANUP(buffer_fini_secret) struct buffer line = { 0 };
        while (length > 0 && isspace((unsigned char)token[length - 1]))
                length--;
        while (length > 0 && isspace((unsigned char)*token))
                token++, length--;
        for (size_t i = 0; i < length; i++)
                if (token[i] <= ' ' || token[i] > '~')
                        return NULL;
        if (length == 0 || !buffer_reserve(&line, length + 8))
                return NULL;
        buffer_append_text(&line, "Bearer ");
        buffer_append(&line, token, length);
        return secret_new(line.data, line.used);
}

/* With the lock held. A file counts before `token`, as client-go has it. */
static bool token_take(struct kube *kube, struct secret **ret_authorization, struct error *err)
{
        const struct source *source = &kube->config.token;
        CLEANUP(buffer_fini_secret) struct buffer text = { 0 };
        struct error problem = { 0 };
        struct secret *fresh = NULL;
        if (source->path) {
                buffer_reserve(&text, TOKEN_BYTES_MAX);
                if (fs_load(AT_FDCWD, source->path, TOKEN_BYTES_MAX, &text, &problem) && !(fresh = bearer_new(text.data, text.used)))
                        refuse(&problem, ERROR_UNAUTHORIZED, "%s is empty, or no token", source->path);
        }
        if (!fresh && !kube->token && source->text && !(fresh = bearer_new(secret_get_text(source->text), secret_get_size(source->text))))
                refuse(&problem, ERROR_UNAUTHORIZED, "%s: token has characters that no token has", kube->config.origin);
        if (fresh) {
                secret_free(&kube->token);
                kube->token = fresh;
        }
        *ret_authorization = secret_copy(kube->token);
        if (*ret_authorization || (!source->path && !source->text))
                return true;
        *err = problem;
        err->code = ERROR_UNAUTHORIZED;
        return refuse_within(err, "the token for the Kubernetes API");
}

static bool source_take(const struct source *source, const char *what, struct secret **ret_text, struct error *err)
{
        CLEANUP(buffer_fini_secret) struct buffer text = { 0 };
        if (!source->path && !source->text)
                return true;
        if (source->text) {
                *ret_text = secret_copy(source->text);
                return true;
        }
        if (!buffer_reserve(&text, PEM_BYTES_MAX) || !fs_load(AT_FDCWD, source->path, PEM_BYTES_MAX, &text, err)) {
                err->code = ERROR_UPSTREAM_UNREACHABLE;
                return refuse_within(err, "%s for the Kubernetes API", what);
        }
        if (!text.data || !strstr(text.data, "-----BEGIN "))
                return refuse(err, ERROR_UPSTREAM_UNREACHABLE, "%s for the Kubernetes API: %s holds no PEM (-----BEGIN …)", what, source->path);
        *ret_text = secret_new(text.data, text.used);
        return true;
}

/* provideClusterInfo: the cluster as the plugin wants to see it. */
static char *cluster_format(const struct kube *kube, const struct buffer *ca)
{
        struct buffer text = { 0 };
        struct json_writer json = { .out = &text };
        CLEANUP(cleanup_free) char *data = ca->used ? base64_encode(ca->data, ca->used) : NULL;
        json_open_map(&json, NULL);
        json_put_text(&json, "server", kube->config.server);
        if (kube->config.server_name)
                json_put_text(&json, "tls-server-name", kube->config.server_name);
        if (kube->config.skip_verify)
                json_put_bool(&json, "insecure-skip-tls-verify", true);
        if (data)
                json_put_text(&json, "certificate-authority-data", data);
        if (kube->config.proxy)
                json_put_text(&json, "proxy-url", kube->config.proxy);
        json_put_raw(&json, "config", "null");
        json_close_map(&json);
        return buffer_take(&text);
}

/* With the lock held. */
static bool plugin_take(struct kube *kube, struct cancel *cancel, struct identity *identity, struct error *err)
{
        struct exec_credential *held = &kube->exec;
        bool is_there = held->token || held->certificate, is_over = held->expires_s > 0 && clock_get_wall_s() + EXPIRY_MARGIN_S >= held->expires_s;
        if (!is_there || is_over) {
                CLEANUP(cleanup_free) char *cluster = kube->config.exec->wants_cluster ? cluster_format(kube, &identity->ca) : NULL;
                struct exec_credential fresh = { 0 };
                if (!exec_run(kube->config.exec, cluster, cancel, &fresh, err))
                        return refuse_within(err, "%s", kube->config.origin);
                exec_credential_fini(held);
                *held = fresh;
        }
        if (held->token && !(identity->authorization = bearer_new(secret_get_text(held->token), secret_get_size(held->token))))
                return refuse(err, ERROR_UNAUTHORIZED, "%s: exec: %s gave a token with characters that no token has", kube->config.origin, kube->config.exec->command);
        if (held->certificate) {
                secret_free(&identity->certificate);
                secret_free(&identity->key);
                identity->certificate = secret_copy(held->certificate);
                identity->key = secret_copy(held->key);
        }
        return true;
}

static bool identity_take_locked(struct kube *kube, struct cancel *cancel, struct identity *identity, struct error *err)
{
        if (cancel_is_triggered(cancel))
                return refuse(err, ERROR_BUSY, "cancelled");
        CLEANUP(secret_free) struct secret *ca = NULL;
        if (!source_take(&kube->config.ca, "the CA", &ca, err) || !source_take(&kube->config.certificate, "client-certificate", &identity->certificate, err) ||
            !source_take(&kube->config.key, "client-key", &identity->key, err))
                return false;
        if (ca)
                buffer_append(&identity->ca, secret_get_text(ca), secret_get_size(ca));
        return kube->config.exec ? plugin_take(kube, cancel, identity, err) : token_take(kube, &identity->authorization, err);
}

bool identity_take(struct kube *kube, struct cancel *cancel, struct identity *ret_identity, struct error *err)
{
        struct identity identity = { 0 };
        pthread_mutex_lock(&kube->lock);
        bool good = identity_take_locked(kube, cancel, &identity, err);
        pthread_mutex_unlock(&kube->lock);
        if (good)
                *ret_identity = identity;
        else
                identity_fini(&identity);
        return good;
}

bool identity_renew(struct kube *kube, struct cancel *cancel, struct identity *refused)
{
        struct identity fresh = { 0 };
        struct error ignored = { 0 };
        pthread_mutex_lock(&kube->lock);
        if (kube->config.exec) {
                CLEANUP(secret_free) struct secret *held = kube->exec.token ? bearer_new(secret_get_text(kube->exec.token), secret_get_size(kube->exec.token)) : NULL;
                /* what another request has renewed meanwhile is not thrown away */
                if (secret_equal(held, refused->authorization) && (!kube->exec.certificate || secret_equal(kube->exec.certificate, refused->certificate)))
                        exec_credential_fini(&kube->exec);
        }
        bool good = identity_take_locked(kube, cancel, &fresh, &ignored);
        pthread_mutex_unlock(&kube->lock);
        good = good && (!secret_equal(fresh.authorization, refused->authorization) || !secret_equal(fresh.certificate, refused->certificate));
        struct identity *gone = good ? refused : &fresh, kept = fresh;
        identity_fini(gone);
        if (good)
                *refused = kept;
        return good;
}
