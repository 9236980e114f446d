/*
 * How it goes: a key is tried on a reference or file as a pull would try it, with the same look-ups and the same judges, but nothing is kept: no row, no blob, no evidence, no
 *              verdict. A layer is fetched only where the module itself has to be judged.
 * How it fails: a key that does not do is the answer ("refused", with code and sentence), not an error; what cannot be read or reached is.
 * How it ends: the pull is freed with all that it fetched.
 */
#include <stdlib.h>
#include <string.h>
#include "modules.h"
#include "prove.h"

struct trial { struct task task; struct pull pull; module_done done; void *arg; bool is_done; };

/* ---- worker ---- */

static bool try_image(struct pull *pull, struct error *err)
{
        if (!pull_oci_resolve(pull, err) || !prove_image(pull, err))
                return false;
        return proving_is_done(pull->proving) || (pull_oci_download(pull, err) && prove_module(pull, err));
}

static void trial_run(struct job *job)
{
        ON_WORKER();
        struct trial *trial = CONTAINER_OF(job, struct trial, task.job);
        struct pull *pull = &trial->pull;
        pull->err = (struct error){ 0 };
        if (!prove_keys(pull, &pull->err))
                return;
        if (pull->want->kind == WANT_OCI)
                trial->is_done = try_image(pull, &pull->err);
        else
                trial->is_done = pull->want->kind == WANT_HTTP ? pull_http_download(pull, &pull->err) : pull_file_download(pull, &pull->err);
        if (!trial->is_done)
                pull_hide_credentials(pull);
}

/* ---- loop ---- */

static void put_proof(struct json_writer *writer, const struct proven *proven)
{
        char hex[DIGEST_TEXT_BYTES], target[DIGEST_TEXT_BYTES], time[CLOCK_RFC3339_BYTES];
        digest_format_hex(&proven->proof.fingerprint, hex);
        digest_format(&proven->target, target);
        json_open_map(writer, NULL);
        json_put_text(writer, "format", proven->proof.format);
        json_put_text(writer, "keyFingerprint", hex);
        json_put_text(writer, "algorithm", proven->proof.algorithm);
        json_put_text(writer, "where", proven->where);
        json_put_text(writer, "target", target);
        json_put_raw(writer, "annotations", proven->proof.annotations ? proven->proof.annotations : "{}");
        if (proven->proof.logged_s > 0) {
                clock_format_rfc3339(proven->proof.logged_s, time);
                json_put_text(writer, "logged", time);
        }
        json_close_map(writer);
}

static char *format_answer(const struct trial *trial)
{
        const struct pull *pull = &trial->pull;
        const struct proving *proving = pull->proving;
        struct buffer text = { 0 };
        struct json_writer writer = { .out = &text };
        char digest[DIGEST_TEXT_BYTES];
        json_open_map(&writer, NULL);
        json_put_text(&writer, "verdict", trial->is_done ? "verified" : "refused");
        json_put_text(&writer, "url", pull->want->url);
        if (digest_is_set(&pull->top)) {
                digest_format(&pull->top, digest);
                json_put_text(&writer, "digest", digest);
        }
        if (!trial->is_done) {
                json_put_text(&writer, "code", error_get_row(pull->err.code)->name);
                json_put_text(&writer, "detail", pull->err.text);
        }
        json_put_text(&writer, "lookedAt", proving && proving->looked.data ? proving->looked.data : "");
        json_open_list(&writer, "signatures");
        for (size_t i = 0; trial->is_done && proving && i < proving->proof_count; i++)
                put_proof(&writer, &proving->proofs[i]);
        json_close_list(&writer);
        json_close_map(&writer);
        return buffer_take(&text);
}

static bool is_verdict(enum error_code code)
{
        return code == ERROR_SIGNATURE_MISSING || code == ERROR_SIGNATURE_INVALID || code == ERROR_SIGNATURE_UNREACHABLE;
}

static void trial_done(struct job *job)
{
        struct trial *trial = CONTAINER_OF(job, struct trial, task.job);
        struct modules *modules = trial->task.modules;
        struct pull *pull = &trial->pull;
        CLEANUP(cleanup_free) char *json = format_answer(trial);
        bool has_verdict = trial->is_done || is_verdict(pull->err.code);
        verifications_count(modules, pull);
        trial->done(trial->arg, has_verdict ? json : NULL, has_verdict ? NULL : &pull->err);
        pull_fini(pull);
        cancel_free(&pull->cancel);
        module_want_unref(&pull->want);
        keys_unref(&pull->keys);
        demands_unref(&pull->demands);
        setup_unref(&pull->setup);
        free(trial);
        task_end(modules);
}

static void trial_start(struct module_waiter *waiter, const struct error *err)
{
        struct trial *trial = waiter->arg;
        struct modules *modules = waiter->modules;
        struct pull *pull = &trial->pull;
        if (err) {
                trial->done(trial->arg, NULL, err);
                free(trial);
                waiter_free(waiter);
                return;
        }
        /* The key alone: what the node demands besides is not what is tried. */
        struct trust_setup own = modules->setup->trust;
        own.rule_count = 0;
        pull->want = module_want_ref(waiter->ask.want);
        pull->demands = demands_ref(demands_of(&own, pull->want));
        pull->setup = setup_ref(modules->setup);
        pull->store = modules->store;
        pull->keys = secret_get_keys(modules, &waiter->ask);
        pull->key = store_get_key(modules->store);
        pull->namespace = string_copy(waiter->ask.namespace);
        pull->cancel = cancel_new();
        pull->is_trial = true;
        pull->deadline_ms = clock_get_ms() + waiter->ask.want->timeout_ms;
        waiter_free(waiter);
        task_start(modules, &trial->task, trial_run, trial_done);
}

static void trial_timed_out(void *arg, const struct module_object *object, const struct error *err)
{
        struct trial *trial = arg;
        (void)object;
        trial->done(trial->arg, NULL, err);
        free(trial);
}

void module_try_key(struct modules *modules, struct module_want *want, const struct module_caller *caller, module_done done, void *arg)
{
        ON_LOOP();
        struct ask ask;
        struct error err;
        bool is_right = want->key || refuse(&err, ERROR_BAD_REQUEST, "verificationKey: is missing; it is the key that is to be tried");
        is_right = is_right && (!modules->is_closing || refuse(&err, ERROR_BUSY, "the daemon is stopping"));
        if (!is_right || !ask_init(modules, want, caller, &ask, &err)) {
                done(arg, NULL, &err);
                return;
        }
        struct trial *trial = memory_new(1, sizeof *trial);
        *trial = (struct trial){ .done = done, .arg = arg };
        struct module_waiter *waiter = waiter_new(modules, &ask, trial_timed_out, trial);
        waiter->explain = trial_start;
        waiter_step(waiter);
}
