/*
 * How it goes: stored evidence is judged first, without network; then what the source has about the digests that were resolved; what only the module itself can show is judged
 *              on its bytes before they are committed as verified. Each demand is met by itself, all must be.
 * How it fails: closed. A place that could not be looked at is "unreachable" (worth a retry), nothing anywhere is "missing", the rest is "invalid" with the nearest miss told.
 * How it ends: proofs and evidence are in the pull for loop and store; proving_free() with it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "prove.h"

/* ---- life ---- */

static void proving_begin(struct pull *pull)
{
        if (pull->proving)
                return;
        struct proving *proving = pull->proving = memory_new(1, sizeof *proving);
        proving->demands = pull->demands;
        proving->met = memory_new(pull->demands->count, sizeof *proving->met);
        proving->failures = memory_new(pull->demands->count, sizeof *proving->failures);
        for (size_t i = 0; i < pull->demands->count; i++)
                proving->failures[i] = TRUST_FAILURE_NONE;
        proving->budget = TRUST_BUDGET;
}

/* It is about other content now than what was judged before: nothing of that counts. The budget and the tallies go on. */
static void proving_reset(struct proving *proving)
{
        for (size_t i = 0; i < proving->proof_count; i++) {
                trust_proof_fini(&proving->proofs[i].proof);
                free(proving->proofs[i].where);
        }
        proving->proof_count = 0;
        for (size_t i = 0; i < proving->demands->count; i++) {
                proving->met[i] = false;
                proving->failures[i] = TRUST_FAILURE_NONE;
        }
        founds_fini(&proving->founds);
        proving->noted = (struct trust_content){ 0 };
        proving->box_count = 0;
        buffer_fini(&proving->looked);
        proving->unreachable = (struct error){ 0 };
        proving->has_tried_stored = proving->has_news = proving->is_module_judged = proving->has_noted = false;
}

void proving_free(struct proving **proving_pointer)
{
        struct proving *proving = TAKE(*proving_pointer);
        if (!proving)
                return;
        proving_reset(proving);
        free(proving->proofs);
        free(proving->met);
        free(proving->failures);
        free(proving);
}

bool proving_is_done(const struct proving *proving)
{
        for (size_t i = 0; i < proving->demands->count; i++)
                if (!proving->met[i])
                        return false;
        return true;
}

/* "sha256-6b76a4250555…": the sentence names the digest once in full. */
static void shorten_digests(char *text)
{
        enum { LONG = 40, KEPT = 12 };
        char *out = text;
        for (const char *at = text; *at;) {
                size_t run = strspn(at, "0123456789abcdef"), kept = run >= LONG ? KEPT : run;
                memmove(out, at, kept);
                out += kept;
                at += run;
                if (kept < run) {
                        memcpy(out, "…", strlen("…"));
                        out += strlen("…");
                }
                if (*at)
                        *out++ = *at++;
        }
        *out = '\0';
}

void proving_note_looked(struct proving *proving, const char *format, ...)
{
        va_list list;
        char text[256];
        va_start(list, format);
        vsnprintf(text, sizeof text, format, list);
        va_end(list);
        shorten_digests(text);
        if (proving->looked.used < 300)           /* a sentence, not a log */
                buffer_printf(&proving->looked, "%s%s", proving->looked.used ? ", " : "", text);
}

void proving_note_unreachable(struct proving *proving, const struct error *err)
{
        if (proving->unreachable.code == ERROR_NONE)
                proving->unreachable = *err;
}

/* ---- manifests ---- */

static struct trust_target manifest_target(const struct pull *pull, const struct digest *digest, bool is_child)
{
        const struct module_want *want = pull->want;
        bool has_bytes = pull->document && digest_equal(digest, &pull->manifest_digest);
        return (struct trust_target){
                .kind = TRUST_TARGET_MANIFEST, .digest = *digest, .bytes = has_bytes ? pull->document : NULL, .size_bytes = has_bytes ? strlen(pull->document) : 0,
                .repository = want->repository, .tag = digest_is_set(&want->reference.digest) ? NULL : want->reference.tag, .is_child = is_child,
        };
}

static void judge_manifests(struct pull *pull)
{
        bool has_child = !digest_equal(&pull->top, &pull->manifest_digest);
        struct trust_target top = manifest_target(pull, &pull->top, false), child = manifest_target(pull, &pull->manifest_digest, has_child);
        proving_judge(pull, PROOF_OF_MANIFEST, &top, &pull->top);
        if (has_child)
                proving_judge(pull, PROOF_OF_MANIFEST, &child, &pull->manifest_digest);
}

/* ---- stored evidence ---- */

static void stored_found(void *arg, const struct store_evidence *row)
{
        struct pull *pull = arg;
        if (box_is_row(row))
                box_add_row(pull, row);
        else
                founds_add_row(&pull->proving->founds, row);
}

static void stored_image_found(void *arg, const struct store_image *row)
{
        lead_add_image(arg, row);
}

/* Evidence that cannot be read is evidence that is not there: the source is asked. */
static void load_stored(struct pull *pull, const struct digest *target)
{
        struct error err = { 0 };
        struct store_evidence_visitor visitor = { .arg = pull, .evidence = stored_found, .image = stored_image_found };
        if (digest_is_set(target) && !store_load_targets(pull->store, target, 1, &visitor, &err))
                LOG_WARN("evidence not readable", LOG_TEXT("url", pull->want->name), LOG_TEXT("detail", err.text));
}

/* ---- the module's own bytes ---- */

struct mapped { const void *bytes; size_t size_bytes; };

static void mapped_fini(struct mapped *mapped)
{
        if (mapped->bytes && mapped->size_bytes > 0)
                munmap((void *)(uintptr_t)mapped->bytes, mapped->size_bytes);
}

static bool map_fd(int fd, uint64_t size_bytes, struct mapped *ret_mapped, struct error *err)
{
        if (size_bytes == 0) {
                *ret_mapped = (struct mapped){ "", 0 };
                return true;
        }
        void *bytes = mmap(NULL, (size_t)size_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (bytes == MAP_FAILED)
                return refuse_errno(err, ERROR_INTERNAL, errno, "mapping a module of %llu bytes to judge its signatures", (unsigned long long)size_bytes);
        *ret_mapped = (struct mapped){ bytes, (size_t)size_bytes };
        return true;
}

/* A blob is judged only if its bytes are what its name says, now. */
static bool map_module(struct pull *pull, struct mapped *ret_mapped, struct error *err)
{
        if (pull->writer)
                return map_fd(blob_writer_get_fd(pull->writer), pull->module_bytes, ret_mapped, err);
        CLEANUP(cleanup_close) int fd = store_open_blob(pull->store, &pull->module, err);
        if (fd < 0)
                return false;
        off_t size = lseek(fd, 0, SEEK_END);
        CLEANUP(mapped_fini) struct mapped mapped = { 0 };
        if (size < 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "the size of a blob");
        if (!map_fd(fd, (uint64_t)size, &mapped, err))
                return false;
        struct digest found;
        digest_sha256(mapped.bytes, mapped.size_bytes, &found);
        if (!digest_equal(&found, &pull->module))
                return refuse(err, ERROR_CHECKSUM_MISMATCH, "%s: the stored module is damaged", pull->want->name);
        *ret_mapped = mapped;
        mapped.bytes = NULL;
        return true;
}

/* May signatures within the module meet what is still open? */
static bool module_may_prove(const struct pull *pull)
{
        const struct proving *proving = pull->proving;
        for (size_t i = 0; i < proving->demands->count; i++) {
                const struct trust_policy_options *policy = trust_policy_get_options(proving->demands->items[i].policy);
                bool is_on = policy->formats & (1u << TRUST_EMBEDDED | 1u << TRUST_WASMSIGN1);
                bool wants_top = policy->requires_top_level && pull->want->kind == WANT_OCI;
                if (!proving->met[i] && (!is_on || wants_top || !trust_keys_have_ed25519(proving->demands->items[i].keys)))
                        return false;
        }
        return true;
}

/* Who signed the module itself and asks with a key of another kind would look in vain for the reason: nothing is downloaded for that key. */
static void note_sections_left_out(struct pull *pull)
{
        struct proving *proving = pull->proving;
        for (size_t i = 0; i < proving->demands->count; i++) {
                const struct demand *demand = &proving->demands->items[i];
                bool is_on = trust_policy_get_options(demand->policy)->formats & 1u << TRUST_EMBEDDED;
                if (!proving->met[i] && is_on && !trust_keys_have_ed25519(demand->keys)) {
                        proving_note_looked(proving, "not within the module, which takes an Ed25519 key");
                        return;
                }
        }
}

static void judge_within(struct pull *pull, const struct mapped *module)
{
        struct proving *proving = pull->proving;
        struct trust_target target = { .kind = TRUST_TARGET_MODULE, .digest = pull->module, .bytes = module->bytes, .size_bytes = module->size_bytes };
        if (pull->want->kind == WANT_OCI) {
                target.repository = pull->want->repository;
                target.tag = pull->want->reference.tag;
        }
        if (proving->is_module_judged && digest_equal(&proving->judged_module, &pull->module))
                return;
        proving->is_module_judged = true;
        proving->judged_module = pull->module;
        struct trust_evidence evidence = { .form = TRUST_FORM_EMBEDDED, .where = "a section of the module itself" };
        for (size_t i = 0; i < proving->demands->count; i++) {
                const struct trust_policy_options *policy = trust_policy_get_options(proving->demands->items[i].policy);
                if (proving->met[i] || !(policy->formats & (1u << TRUST_EMBEDDED | 1u << TRUST_WASMSIGN1)) || (policy->requires_top_level && pull->want->kind == WANT_OCI))
                        continue;
                proving_judge_one(pull, &(struct judged_as){ PROOF_OF_MODULE, &pull->module, i, SIZE_MAX }, &target, &evidence);
        }
        proving_note_looked(proving, "signature sections of the module");
}

/* ---- steps ---- */

bool prove_keys(struct pull *pull, struct error *err)
{
        for (size_t i = 0; pull->demands && i < pull->demands->count; i++)
                if (!trust_keys_check(pull->demands->items[i].keys, pull->demands->items[i].rule ? "trust.require" : "verificationKey", err))
                        return false;
        return true;
}

/* Signatures of what is known count if it is shown to which module they lead; of what was just resolved, the layer will be fetched where that is not. */
static void judge_image(struct pull *pull)
{
        pull->leads_to = (struct digest){ 0 };
        load_stored(pull, &pull->top);
        if (!digest_equal(&pull->top, &pull->manifest_digest))
                load_stored(pull, &pull->manifest_digest);
        pull->is_unled = !digest_is_set(&pull->leads_to) && pull->outcome != PULL_RESOLVED;
        if (!pull->is_unled)
                judge_manifests(pull);
}

static bool judge_stored(struct pull *pull)
{
        struct proving *proving = pull->proving;
        if (pull->want->kind == WANT_OCI && digest_is_set(&pull->manifest_digest))
                judge_image(pull);
        if (proving_is_done(proving) || !digest_is_set(&pull->module))
                return proving_is_done(proving);

        /* By the bytes in the store: signatures within the module, and those beside a url whose body it was. */
        bool is_url = pull->want->kind != WANT_OCI;
        size_t before = proving->founds.count;
        if (is_url) {
                load_stored(pull, &pull->module);
                box_judge(pull);
        }
        CLEANUP(mapped_fini) struct mapped module = { 0 };
        struct error err;
        if (proving_is_done(proving))
                return true;
        if ((!module_may_prove(pull) && proving->founds.count == before) || !map_module(pull, &module, &err))
                return false;
        judge_within(pull, &module);
        struct trust_target file = { .kind = TRUST_TARGET_FILE, .digest = pull->module, .bytes = module.bytes, .size_bytes = module.size_bytes };
        if (is_url && !proving_is_done(proving))
                proving_judge(pull, PROOF_OF_FILE, &file, &pull->module);
        return proving_is_done(proving);
}

static bool is_known_met(const struct pull *pull)
{
        for (size_t i = 0; i < pull->demands->count; i++)
                if (!pull->known_met || !pull->known_met[i])
                        return false;
        return true;
}

bool prove_stored(struct pull *pull)
{
        if (!pull->demands || is_known_met(pull))
                return true;
        proving_begin(pull);
        if (pull->proving->has_tried_stored)
                return proving_is_done(pull->proving);
        pull->proving->has_tried_stored = true;
        pull->top = pull->known_top;
        pull->manifest_digest = pull->known_manifest;
        pull->module = pull->known_module;
        return judge_stored(pull);
}

static bool judge_arrived(struct pull *pull)
{
        judge_manifests(pull);
        return proving_is_done(pull->proving);
}

bool prove_image(struct pull *pull, struct error *err)
{
        if (!pull->demands)
                return true;
        bool is_known = digest_is_set(&pull->known_manifest) && digest_equal(&pull->top, &pull->known_top) && digest_equal(&pull->manifest_digest, &pull->known_manifest);
        proving_begin(pull);
        struct proving *proving = pull->proving;
        if (!is_known) {
                proving_reset(proving);
                pull->module = (struct digest){ 0 };
        }
        for (size_t i = 0; is_known && pull->known_met && i < pull->demands->count; i++)
                proving->met[i] |= pull->known_met[i];
        if (proving_is_done(proving))
                return true;
        if (!pull->is_trial && (!is_known || !proving->has_tried_stored)) {
                proving->has_tried_stored = true;
                if (judge_stored(pull))
                        return true;
        }
        if (prove_look_oci(pull, judge_arrived))
                return true;
        if (!module_may_prove(pull)) {
                note_sections_left_out(pull);
                return proving_refuse(pull, err);
        }
        return pull->outcome != PULL_UNCHANGED || prove_module(pull, err);
}

struct body { struct mapped mapped; bool is_module; };

static void judge_body(struct pull *pull, void *arg)
{
        const struct body *body = arg;
        struct trust_target file = { .kind = TRUST_TARGET_FILE, .digest = pull->module, .bytes = body->mapped.bytes, .size_bytes = body->mapped.size_bytes,
                                     .noted = body->is_module ? NULL : &pull->proving->noted };
        proving_judge(pull, PROOF_OF_FILE, &file, &pull->module);
}

bool prove_body(struct pull *pull, bool is_module, struct error *err)
{
        if (!pull->demands)
                return true;
        struct body body = { .is_module = is_module };
        proving_begin(pull);
        struct proving *proving = pull->proving;
        proving_reset(proving);                   /* what was judged before was about other bytes, or did not do */
        proving->body = pull->module;
        if (!map_fd(blob_writer_get_fd(pull->writer), pull->module_bytes, &body.mapped, err))
                return false;
        CLEANUP(mapped_fini) struct mapped mapped = body.mapped;
        if (is_module)
                judge_within(pull, &mapped);
        if (!proving_is_done(proving))
                prove_look_sidecars(pull, judge_body, &body);
        proving->has_noted = !is_module && proving->proof_count > 0;
        if (proving->has_noted)
                trust_content_fill(&proving->noted, mapped.bytes, mapped.size_bytes);
        if (proving_is_done(proving) || (!is_module && module_may_prove(pull)))
                return true;
        return proving_refuse(pull, err);
}

/* Detached data in a `.sig` signs the module, not the box it came in. */
static void judge_detached(struct pull *pull, const struct mapped *module)
{
        struct trust_target target = { .kind = TRUST_TARGET_MODULE, .digest = pull->module, .bytes = module->bytes, .size_bytes = module->size_bytes };
        struct founds *founds = &pull->proving->founds;
        for (size_t i = 0; i < founds->count; i++)
                if (founds->items[i].form == TRUST_FORM_SIDECAR_SIG) {
                        founds->items[i].target = pull->module;
                        founds->items[i].judged = FOUND_NEW;       /* about the module now */
                        proving_judge(pull, PROOF_OF_FILE, &target, &pull->module);
                }
}

bool prove_module(struct pull *pull, struct error *err)
{
        if (!pull->demands || (!pull->proving && is_known_met(pull) && digest_equal(&pull->module, &pull->known_module)))
                return true;
        proving_begin(pull);
        struct proving *proving = pull->proving;
        /* What was in the box is known by its own name from here on. */
        for (size_t i = 0; i < proving->proof_count; i++)
                if (proving->proofs[i].scope == PROOF_OF_FILE && digest_equal(&proving->proofs[i].target, &proving->body))
                        proving->proofs[i].target = pull->module;
        for (size_t i = 0; proving->has_noted && i < proving->founds.count; i++)
                if (digest_equal(&proving->founds.items[i].target, &proving->body))
                        proving->founds.items[i].target = pull->module;
        if (proving_is_done(proving))
                return true;
        CLEANUP(mapped_fini) struct mapped module = { 0 };
        if (!map_module(pull, &module, err))
                return false;
        judge_within(pull, &module);
        if (pull->want->kind != WANT_OCI && !proving_is_done(proving))
                judge_detached(pull, &module);
        return proving_is_done(proving) || proving_refuse(pull, err);
}

/* ---- the store ---- */

static char *format_extra(const struct found *found)
{
        struct buffer text = { 0 };
        struct json_writer writer = { .out = &text };
        json_open_map(&writer, NULL);
        if (found->signature)
                json_put_text(&writer, "signature", found->signature);
        if (found->log_entry)
                json_put_text(&writer, "logEntry", found->log_entry);
        if (found->has_certificate)
                json_put_bool(&writer, "certificate", true);
        json_close_map(&writer);
        return buffer_take(&text);
}

static bool is_about_what_stays(const struct pull *pull, const struct digest *target)
{
        return digest_equal(target, &pull->module) || digest_equal(target, &pull->manifest_digest) || digest_equal(target, &pull->top);
}

bool prove_save(struct pull *pull, struct error *err)
{
        struct proving *proving = pull->proving;
        if (!proving || !proving->has_news || proving->founds.count == 0)
                return true;
        int64_t now_s = clock_get_wall_s();
        size_t count = 0, proof_count = 0;
        CLEANUP(cleanup_free) struct store_evidence *rows = memory_new(proving->founds.count + 1, sizeof *rows);
        CLEANUP(cleanup_free) struct store_proof *proofs = memory_new(proving->proof_count + 1, sizeof *proofs);
        CLEANUP(cleanup_free) size_t *row_of = memory_new(proving->founds.count, sizeof *row_of);
        for (size_t i = 0; i < proving->founds.count; i++) {
                const struct found *found = &proving->founds.items[i];
                row_of[i] = SIZE_MAX;
                if (!is_about_what_stays(pull, &found->target))
                        continue;
                row_of[i] = count;
                rows[count++] = (struct store_evidence){
                        .target = found->target, .kind = trust_form_names[found->form], .where = found->where, .repository = pull->want->repository,
                        .body = found->body.data ? found->body.data : "", .body_bytes = found->body.used, .extra = format_extra(found), .found_s = now_s,
                };
        }
        for (size_t i = 0; i < proving->proof_count; i++) {
                const struct proven *proven = &proving->proofs[i];
                const struct demand *demand = &proving->demands->items[proven->demand];
                if (proven->found == SIZE_MAX || row_of[proven->found] == SIZE_MAX)
                        continue;
                struct store_evidence *row = &rows[row_of[proven->found]];
                store_hash_evidence(row, &row->id);
                proofs[proof_count++] = (struct store_proof){
                        .target = proven->target, .keys = *trust_keys_get_digest(demand->keys), .policy = *trust_policy_get_digest(demand->policy), .evidence = row->id,
                        .proved_s = now_s,
                };
        }
        size_t signature_count = count;
        CLEANUP(buffer_fini) struct buffer body = { 0 };
        if (proving->has_noted && proof_count > 0)
                box_format_row(pull, &body, &rows[count++]);
        bool done = store_save_evidence(pull->store, rows, count, proofs, proof_count, err);
        for (size_t i = 0; i < signature_count; i++)
                free((void *)(uintptr_t)rows[i].extra);
        return done;
}

/* ---- the sentence ---- */

static void format_keys(const struct trust_keys *keys, char *ret_text, size_t size_bytes)
{
        size_t used = 0;
        for (size_t i = 0; i < trust_keys_get_count(keys) && used < size_bytes; i++) {
                char hex[DIGEST_TEXT_BYTES];
                digest_format_hex(trust_keys_get_fingerprint(keys, i), hex);
                used += (size_t)snprintf(ret_text + used, size_bytes - used, "%s%.16s", i ? ", " : "", hex);
        }
}

/* Reference and digest; of a url that did not answer there is none. */
static void format_what(const struct pull *pull, char *ret_text, size_t size_bytes)
{
        const struct digest *known = digest_is_set(&pull->top) ? &pull->top : &pull->module;
        char digest[DIGEST_TEXT_BYTES];
        digest_format(known, digest);
        bool is_set = digest_is_set(known);
        snprintf(ret_text, size_bytes, "%.400s%s%s%s", pull->want->name, is_set ? " (" : "", is_set ? digest : "", is_set ? ")" : "");
}

bool proving_refuse(struct pull *pull, struct error *err)
{
        struct proving *proving = pull->proving;
        size_t open = 0;
        while (proving->met[open])
                open++;
        const struct demand *demand = &proving->demands->items[open];
        const struct trust_failure *failure = &proving->failures[open];
        char keys[160], what[640], asker[128] = "";
        format_keys(demand->keys, keys, sizeof keys);
        format_what(pull, what, sizeof what);
        if (demand->rule)
                snprintf(asker, sizeof asker, ", demanded by trust.require \"%.80s\"", demand->rule);
        const char *looked = proving->looked.data ? proving->looked.data : "nothing";

        if (cancel_is_triggered(pull->cancel))
                return refuse(err, ERROR_BUSY, "%s: the look-up of signatures was cancelled", pull->want->name);
        if (proving->unreachable.code != ERROR_NONE) {
                proving_tally(proving, NULL, TRUST_FORMS, 1 + TRUST_UNREACHABLE);
                refuse(err, ERROR_SIGNATURE_UNREACHABLE, "%s: %s: %s: %s; nothing is handed out unverified (key %s%s)", what, trust_reason_names[TRUST_UNREACHABLE],
                       pull->is_unled ? "nothing shows that it is what was signed, and its source could not be asked for it again" : "signatures could not be looked up",
                       proving->unreachable.text, keys, asker);
                err->retry_after_s = proving->unreachable.retry_after_s;
                return false;
        }
        if (failure->reason >= TRUST_ABSENT) {
                proving_tally(proving, NULL, TRUST_FORMS, 1 + TRUST_ABSENT);
                return refuse(err, ERROR_SIGNATURE_MISSING, "%s: %s: there is no signature (looked at: %s); sign it with key %s%s", what, trust_reason_names[TRUST_ABSENT], looked,
                              keys, asker);
        }
        char others[64] = "";
        if (failure->others > 0)
                snprintf(others, sizeof others, "; %u more that do not do", failure->others);
        return refuse(err, ERROR_SIGNATURE_INVALID, "%s: %s: %s%s (wanted: key %s%s; looked at: %s)", what, trust_reason_names[failure->reason], failure->text, others, keys, asker,
                      looked);
}

void prove_refuse_unreachable(struct pull *pull, const struct error *was, struct error *err)
{
        proving_begin(pull);
        if (proving_is_done(pull->proving))
                return;
        proving_note_unreachable(pull->proving, was);
        proving_refuse(pull, err);
}
