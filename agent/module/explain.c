/*
 * How it goes: the same decision as module_get(), told check by check: who asks, secret, name or pin, policy, access, remembered refusal, the file itself.
 * How it fails: what would refuse the request is the verdict, not an error of the explanation.
 * How it ends: nothing was changed and nobody was asked; only the secret may have been read again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "modules.h"

struct explanation { struct buffer text; struct json_writer writer; module_done done; void *arg; };

static void step(void *arg, const char *check, const char *result, const char *detail)
{
        struct explanation *explanation = arg;
        json_open_map(&explanation->writer, NULL);
        json_put_text(&explanation->writer, "check", check);
        json_put_text(&explanation->writer, "result", result);
        json_put_text(&explanation->writer, "detail", detail);
        json_close_map(&explanation->writer);
}

static void finish(struct explanation *explanation, const char *verdict, const char *code)
{
        CLEANUP(cleanup_free) char *steps = buffer_take(&explanation->text);
        CLEANUP(cleanup_free) char *json = code ? string_format("{\"verdict\": \"%s\", \"code\": \"%s\", \"steps\": [%s]}", verdict, code, steps) :
                                                  string_format("{\"verdict\": \"%s\", \"code\": null, \"steps\": [%s]}", verdict, steps);
        explanation->done(explanation->arg, json, NULL);
        free(explanation);
}

static void tell_name(struct explanation *explanation, const struct ask *ask)
{
        char detail[512];
        snprintf(detail, sizeof detail, "%.300s, asked for by namespace %s", ask->want->name, ask->is_blob_path ? "default (operator)" : ask->namespace);
        step(explanation, "name", "ok", detail);
        if (ask->want->inline_config)
                step(explanation, "secret", "inline", ask->principal && ask->principal->count ? "the pull secret in the request has a login for this repository" :
                     "the pull secret in the request has no login for this repository, so the source is asked without one");
        else if (ask->want->secret_name)
                step(explanation, "secret", "ok", ask->principal && ask->principal->count ? "the named secret has a login for this repository" :
                     "the named secret has no login for this repository, so the source is asked without one");
        else
                step(explanation, "secret", "none", "no secret named: the node's own docker config if it fits, else anonymous");
}

/* Present and allowed: is the file as we left it, and is it linked for this namespace already. */
static void tell_file(struct modules *modules, struct explanation *explanation, const struct ask *ask, const struct entry *entry)
{
        const struct handout *handout = ask->is_blob_path ? NULL : catalog_find_handout(entry, ask->handout_namespace);
        if (!store_check_identity(modules->store, &entry->sha256, NULL, &entry->identity))
                step(explanation, "file", "changed", "the blob does not look as it was left: it is hashed again first, and pulled again if it is damaged");
        else if (!ask->is_blob_path && (!handout || !handout->is_linked))
                step(explanation, "file", "ok", "the blob is as it was left; this namespace gets its first link to it");
        else
                step(explanation, "file", "ok", "the file is as it was left; the answer needs no worker and no network");
}

/* Its host has asked for patience: the pull waits with all others. */
static void tell_wait(struct modules *modules, struct explanation *explanation, const struct module_want *want)
{
        char detail[HOST_LIMITS_BYTES];
        if (host_limits(modules, want, detail) > 0)
                step(explanation, "host", "limits", detail);
}

static void tell_verdict(struct modules *modules, struct explanation *explanation, const struct ask *ask, const struct hit *hit)
{
        struct hit stale;
        if (hit->result == HIT_YES) {
                tell_file(modules, explanation, ask, hit->entry);
                finish(explanation, "hit", NULL);
                return;
        }
        struct refusal *refusal = refusal_find(modules, ask, hit);
        struct error away = { 0 };
        const char *root;
        size_t root_bytes;
        if (!refusal && host_refuses(modules, ask, hit, &away)) {
                step(explanation, "host", "away", away.text);
                bool is_stale = stale_is_allowed(modules, ask, &away, &stale);
                finish(explanation, is_stale ? "hit" : "refused", is_stale ? NULL : error_get_row(away.code)->name);
                return;
        }
        if (!refusal && ask->want->kind == WANT_FILE && !setup_find_file_root(modules->setup, ask->want->path, &root, &root_bytes, &away)) {
                step(explanation, "source", "refused", away.text);
                finish(explanation, "refused", error_get_row(away.code)->name);
                return;
        }
        if (!refusal) {
                tell_wait(modules, explanation, ask->want);
                step(explanation, "source", "ask", hit->result == HIT_REVALIDATE ? "one HEAD tells whether it changed; unchanged needs no download" :
                     hit->result == HIT_UNPROVEN ? "the caller's credentials have to prove access there: by one request if the repository has brought these bytes before" :
                     hit->result == HIT_UNVERIFIED ? "stored evidence is judged without network; only if it does not do, the source is asked for signatures" :
                     hit->result == HIT_FILE ? "the file is looked at; unchanged needs no copy" : "it is pulled");
                finish(explanation, "miss", NULL);
                return;
        }
        char detail[ERROR_TEXT_BYTES + 64];
        struct error err = refusal_get_error(refusal);
        snprintf(detail, sizeof detail, "refused %u time%s, asked again in %u s (or after refresh): %s", refusal->failures,
                 refusal->failures == 1 ? "" : "s", err.retry_after_s, err.text);
        step(explanation, "refusal", "remembered", detail);
        if (stale_is_allowed(modules, ask, &err, &stale)) {
                step(explanation, "stale", "allowed", "the source cannot be reached and stale_if_error lets the last answer stand");
                finish(explanation, "hit", NULL);
                return;
        }
        finish(explanation, "refused", error_get_row(err.code)->name);
}

static void explain_waiter(struct module_waiter *waiter, const struct error *err)
{
        struct explanation *explanation = waiter->arg;
        struct modules *modules = waiter->modules;
        if (err) {
                step(explanation, err->code == ERROR_SECRET_MISSING ? "secret" : "daemon", "refused", err->text);
                finish(explanation, "refused", error_get_row(err->code)->name);
                waiter_free(waiter);
                return;
        }
        struct hit hit;
        struct hit_trace trace = { .told = step, .arg = explanation };
        struct hit_question question = question_of(modules, &waiter->ask);
        question.trace = &trace;
        tell_name(explanation, &waiter->ask);
        hit_decide(&question, &hit);
        tell_verdict(modules, explanation, &waiter->ask, &hit);
        waiter_free(waiter);
}

static void explain_timed_out(void *arg, const struct module_object *object, const struct error *err)
{
        struct explanation *explanation = arg;
        (void)object;
        step(explanation, "secret", "refused", err ? err->text : "");
        finish(explanation, "refused", error_get_row(err ? err->code : ERROR_INTERNAL)->name);
}

void module_explain(struct modules *modules, struct module_want *want, const struct module_caller *caller, module_done done, void *arg)
{
        ON_LOOP();
        struct ask ask;
        struct error err;
        struct explanation *explanation = memory_new(1, sizeof *explanation);
        *explanation = (struct explanation){ .done = done, .arg = arg };
        explanation->writer.out = &explanation->text;
        if (!ask_init(modules, want, caller, &ask, &err)) {
                step(explanation, "namespace", "refused", err.text);
                finish(explanation, "refused", error_get_row(err.code)->name);
                return;
        }
        struct module_waiter *waiter = waiter_new(modules, &ask, explain_timed_out, explanation);
        waiter->explain = explain_waiter;
        waiter_step(waiter);
}
