/*
 * How it goes: a caller gets the path of a hard link in the folder of its namespace; one statx proves that the file is the one we made. Who waited first for a new module gets link
 *              and lease with its commit. The first hand-out to another namespace, and every doubt, goes by a worker: the blob is hashed again if it does not look as we left
 *              it, the link is made, the lease is on disk before the answer.
 * How it fails: a damaged blob leaves the catalog (the store has quarantined it) and its waiters start again as a miss; a link that cannot be made refuses that namespace only.
 * How it ends: the last lease of a namespace takes its link away.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "modules.h"

/* ---- the answer ---- */

/* On every hit, so without printf. */
static char *append(char *at, const char *end, const char *text, size_t length)
{
        size_t room = (size_t)(end - at), taken = length < room ? length : room;
        memcpy(at, text, taken);
        return at + taken;
}

static void path_format(const struct ask *ask, const char *hex, char *ret_path, size_t size_bytes)
{
        static const char mark[] = "{namespace}";
        const char *template = ask->module_dir ? ask->module_dir : "", *end = ret_path + size_bytes - 1, *found;
        char *at = ret_path;
        if ((found = strstr(template, mark)) != NULL) {
                at = append(at, end, template, (size_t)(found - template));
                at = append(at, end, ask->handout_namespace, strlen(ask->handout_namespace));
                template = found + strlen(mark);
        }
        at = append(at, end, template, strlen(template));
        if (at > ret_path && at[-1] != '/')
                at = append(at, end, "/", 1);
        at = append(at, end, hex, strlen(hex));
        *append(at, end, ".wasm", 5) = '\0';
}

void object_fill(const struct modules *modules, const struct entry *entry, const struct image *image, const struct handed *handed)
{
        struct object_texts *texts = handed->texts;
        digest_format_hex(&entry->sha256, texts->sha256);
        texts->digest[0] = texts->path[0] = '\0';
        if (image)
                digest_format(&image->manifest, texts->digest);
        (void)modules;
        *handed->object = (struct module_object){
                .path = texts->path, .sha256 = texts->sha256, .digest = image ? texts->digest : NULL, .size_bytes = entry->identity.size_bytes, .is_pinned = entry->is_pinned,
                .created_s = entry->created_s, .last_used_s = entry->last_used_s,
        };
}

void object_note_verdict(struct module_object *object, const struct verdict *verdict)
{
        object->verified_format = verdict ? verdict->format : NULL;
        object->verified_key = verdict ? verdict->fingerprint_hex : NULL;
}

static const char *link_name(const struct ask *ask)
{
        return ask->is_blob_path ? "" : ask->handout_namespace;
}

/* One statx per turn of the loop: the requests that one wait brought ask at the same moment. */
static bool handout_look(struct modules *modules, const struct entry *entry, struct handout *handout, const char *namespace)
{
        uint64_t turn = loop_get_turn(modules->loop);
        if (turn > 0 && handout && handout->looked_turn == turn)
                return true;
        if (!store_check_identity(modules->store, &entry->sha256, *namespace ? namespace : NULL, &entry->identity))
                return false;
        if (handout)
                handout->looked_turn = turn;
        return true;
}

bool handout_try(struct modules *modules, const struct ask *ask, struct entry *entry, const struct image *image, const struct handed *handed)
{
        const char *namespace = link_name(ask);
        if (!ask->is_internal) {
                struct handout *handout = catalog_find_handout(entry, namespace);
                if (*namespace && (!handout || !handout->is_linked))
                        return false;
                if (!handout_look(modules, entry, handout, namespace))
                        return false;
        }

        object_fill(modules, entry, image, handed);
        handed->object->url = ask->want->url;
        if (ask->is_internal)
                return true;
        struct lease *lease = lease_make(modules, entry, namespace, ask->holder);
        handed->object->lease_id = lease->id;
        handed->object->lease_expires_s = lease->expires_s;
        if (ask->is_blob_path)
                store_format_path(modules->store, &entry->sha256, handed->texts->path, sizeof handed->texts->path);
        else
                path_format(ask, handed->texts->sha256, handed->texts->path, sizeof handed->texts->path);
        entry_note_used(modules, entry);
        return true;
}

/* ---- what comes of a link ---- */

void entry_wake(struct modules *modules, struct entry *entry, const char *namespace, const struct error *err)
{
        struct waiter_list waiting;
        waiters_take(&entry->waiting, &waiting);
        /* The entry must outlive the walk: an answer may let go of anything that nobody holds. */
        entry->holds++;
        while (waiting.head) {
                struct module_waiter *waiter = waiting.head;
                waiter_leave(waiter);
                if (err && strcmp(link_name(&waiter->ask), namespace) == 0)
                        waiter_refuse(waiter, err);
                else
                        handout_give(waiter);
        }
        entry->holds--;
        (void)modules;
}

void modules_drop_entry(struct modules *modules, struct entry *entry, const char *event, const char *detail)
{
        struct waiter_list waiting;
        char sha256[DIGEST_TEXT_BYTES];
        digest_format_hex(&entry->sha256, sha256);
        const char *shown = sha256;
        for (struct flight *flight = modules->queue; flight; flight = flight->next)
                if (flight->held == entry)
                        flight->held = NULL;
        modules->stats.quarantined++;
        waiters_take(&entry->waiting, &waiting);
        LOG_WARN(event, LOG_TEXT("sha256", shown), LOG_TEXT("detail", detail));
        event_tell(modules, event,
                &(struct module_event){
                        .sha256 = sha256, .url = entry->references ? entry->references->name : NULL, .detail = detail, .bytes = entry->identity.size_bytes });
        promises_keep(modules, entry);
        catalog_remove_entry(&modules->catalog, &entry);
        while (waiting.head) {
                struct module_waiter *waiter = waiting.head;
                waiter_leave(waiter);
                waiter->entry = NULL;
                waiter->image = NULL;
                waiter_step(waiter);
        }
}

void handout_drop(struct entry *entry, const char *namespace)
{
        for (struct handout **at = &entry->handouts; *at; at = &(*at)->next)
                if (strcmp((*at)->namespace, namespace) == 0) {
                        struct handout *gone = *at;
                        if (gone->lease_count > 0)
                                return;
                        *at = gone->next;
                        free(gone);
                        return;
                }
}

void handout_settle(struct modules *modules, struct link *link)
{
        struct entry *entry = link->entry;
        struct handout *handout = catalog_find_handout(entry, link->namespace);
        entry->is_busy = false;
        if (entry->is_doomed || (link->is_damaged && link->err.code == ERROR_CHECKSUM_MISMATCH)) {
                modules_drop_entry(modules, entry, "quarantined", entry->is_doomed ? "its bytes are not what its name says" : link->err.text);
        } else if (link->is_damaged && link->err.code == ERROR_NOT_FOUND) {
                struct digest sha256 = entry->sha256;
                int64_t created_s = entry->created_s;
                modules_drop_entry(modules, entry, "vanished", "the blob was taken out of the store behind our back");
                rows_remove_start(modules, &sha256, created_s);
        } else {
                if (link->is_done || link->takes_away)
                        entry->identity = link->identity;
                if (handout && !link->takes_away)
                        handout->is_linked = link->is_done && link->namespace[0];
                if (!link->is_done && !link->takes_away)
                        leases_forget(modules, handout);
                if (link->takes_away || !link->is_done)
                        handout_drop(entry, link->namespace);
                entry_wake(modules, entry, link->namespace, link->is_done || link->takes_away ? NULL : &link->err);
                promises_link(modules, entry);
        }
}

static struct link *link_new(struct entry *entry, const char *namespace)
{
        struct link *link = memory_new(1, sizeof *link);
        link->entry = entry;
        link->sha256 = entry->sha256;
        link->identity = entry->identity;
        snprintf(link->namespace, sizeof link->namespace, "%s", namespace);
        entry->is_busy = true;
        return link;
}

/* What was true when the waiter was served may not be any more: a reload brings other demands. */
static bool is_verified_now(const struct module_waiter *waiter, const struct verdict **ret_verdict)
{
        const struct modules *modules = waiter->modules;
        struct hit_question question = question_of(modules, &waiter->ask);
        struct hit hit = { .entry = waiter->entry, .image = waiter->image, .reference = catalog_find_reference(&modules->catalog, waiter->ask.want->name) };
        struct proof_targets targets = hit_get_targets(&question, &hit);
        return demands_are_met(modules->verdicts, question.demands, &targets, ret_verdict);
}

static bool too_many_attempts(struct module_waiter *waiter, const char *why)
{
        struct error err;
        if (++waiter->attempts <= WAITER_ATTEMPTS)
                return false;
        refuse(&err, ERROR_INTERNAL, "%s: %s", waiter->ask.want->url, why);
        waiter_refuse(waiter, &err);
        return true;
}

void handout_give(struct module_waiter *waiter)
{
        struct modules *modules = waiter->modules;
        struct entry *entry = waiter->entry;
        struct module_object object;
        struct object_texts texts;
        const struct verdict *verdict = NULL;
        if (!is_verified_now(waiter, &verdict)) {
                waiter->entry = NULL;
                waiter->image = NULL;
                if (!too_many_attempts(waiter, "what signatures are demanded of it keeps changing; ask again when the configuration is at rest"))
                        waiter_step(waiter);
                return;
        }
        if (handout_try(modules, &waiter->ask, entry, waiter->image, &(struct handed){ &object, &texts })) {
                object_note_verdict(&object, verdict);
                waiter_answer(waiter, &object);
                return;
        }
        waiter_join(waiter, &entry->waiting);
        if (entry->is_busy)
                return;
        if (too_many_attempts(waiter, "the module's file in the store keeps changing behind our back; who else writes there?"))
                return;

        const char *namespace = link_name(&waiter->ask);
        struct link *link = link_new(entry, namespace);
        link->is_patient = waiter->ask.is_patient;
        struct handout *handout = catalog_find_handout(entry, namespace);
        link->is_linked_again = handout && handout->is_linked;
        if (*namespace) {
                struct lease *lease = lease_make(modules, entry, namespace, waiter->ask.holder);
                lease_to_row(modules, lease, &link->lease, link->holder);
        }
        link_start(modules, link);
}

static struct module_waiter *waiter_find_first(const struct flight *flight)
{
        for (struct module_waiter *waiter = flight->waiting.head; waiter; waiter = waiter->next)
                if (!waiter->ask.is_internal && *link_name(&waiter->ask))
                        return waiter;
        return NULL;
}

void handout_plan(struct flight *flight)
{
        struct pull *pull = &flight->pull;
        const struct module_waiter *waiter = pull->writer ? waiter_find_first(flight) : NULL;
        pull->first = (struct first_handout){ 0 };
        if (waiter)
                lease_plan(flight->modules, &waiter->ask, &pull->module, &pull->first);
}

/* An entry that a job has at the moment is that job's: it finds the link made. Whoever waited may have vanished; then the promise ends as it began, unheard. */
void handout_planned(struct flight *flight, struct entry *entry, bool is_file_known)
{
        const struct first_handout *first = &flight->pull.first;
        const struct module_waiter *waiter = flight->waiting.head;
        if (!first->is_linked)
                return;
        struct lease *lease = lease_keep(flight->modules, entry, first);
        lease->handout->is_linked |= is_file_known;
        while (waiter && (waiter->ask.holder != first->holder || strcmp(link_name(&waiter->ask), first->lease.namespace) != 0))
                waiter = waiter->next;
        if (!waiter)
                lease_end(flight->modules, lease);
}

void handout_link(struct modules *modules, struct handout *handout, const struct lease *lease)
{
        struct link *link = link_new(handout->entry, handout->namespace);
        lease_to_row(modules, lease, &link->lease, link->holder);
        link_start(modules, link);
}

/* Starts only if nobody holds the file; else the sweep comes by again. */
void handout_take_away(struct modules *modules, struct handout *handout)
{
        if (handout->entry->is_busy) {
                modules->untaken_links = true;
                return;
        }
        struct link *link = link_new(handout->entry, handout->namespace);
        handout->is_linked = false;
        link->takes_away = link->is_patient = true;
        link_start(modules, link);
}
