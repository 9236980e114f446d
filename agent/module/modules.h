/* modules: the room's own parts, one struct each, and what they ask of one another. Loop only, except pull_run and the run() of jobs. */
#pragma once
#include <wasmcached/fetch.h>
#include <wasmcached/loop.h>
#include <wasmcached/unpack.h>
#include "catalog.h"
#include "hit.h"
#include "pull.h"
#include "want.h"

enum { SECRET_FRESH_MS = 1000, SECRET_KEEP_MS = 60000, SECRET_READERS_MAX = 4, REFUSAL_MAX_MS = 300000,
       REFUSAL_SIGNATURE_MAX_MS = 60000, REFUSAL_TRANSIENT_MS = 1000, REFUSALS_MAX = 4096, TOUCH_MS = 150, SWEEP_MS = 250,
       LEASE_STEP_MS = 1000, LEASE_SLACK_MS = 10000, WAITER_ATTEMPTS = 4, EVENTS_KEPT = 1000, EVICT_BATCH = 64, SCRUB_FIRST_MS = 60000, SCRUB_PAUSE_MS = 3600000, TRIM_MS = 3000 };

struct untaken { struct digest fingerprint; struct error err; };
/* ---- waiters: one caller each; in exactly one list while they wait ---- */
struct ask {
        struct module_want *want;
        const char *namespace, *module_dir;
        const char *handout_namespace;            /* whose folder; that of `namespace` for most */
        bool is_patient;
        bool is_blob_path;                        /* admin without namespace */
        bool is_internal;                         /* refresh and re-pull: no hand-out, no lease */
        uint64_t holder, sequence;
        struct principal *principal;
};
struct module_waiter {
        struct modules *modules;
        struct ask ask;
        module_answered answered; void *arg;
        struct module_waiter *previous, *next;
        struct waiter_list *list;
        struct flight *flight;                    /* while it waits for one */
        struct loop_timer *timer;
        struct module_waiter *all_previous, *all_next;
        struct entry *entry; struct image *image; enum module_source source; bool is_stale;    /* found; while it waits for its hand-out */
        unsigned attempts;
        bool is_looked_up;                        /* while a large store is loading: what it may mean has been read */
        char *texts[3];                           /* own copies of namespace, module_dir and handout_namespace */
        void (*explain)(struct module_waiter *waiter, const struct error *err);   /* instead of an answer: the secret is known now */
        struct untaken *untaken;                  /* what the source did not take, while it is read again; stays */
        bool *gone;                               /* set when it ends, while module_get is on the stack */
};
void waiter_join(struct module_waiter *waiter, struct waiter_list *list);
void waiter_leave(struct module_waiter *waiter);
void waiter_step(struct module_waiter *waiter);                            /* from the start: secret, decision, hand-out or flight */
void waiter_found(struct module_waiter *waiter, struct entry *entry, struct image *image, enum module_source source);
void waiter_answer(struct module_waiter *waiter, struct module_object *object);             /* answers and frees */
void waiter_refuse(struct module_waiter *waiter, const struct error *err);
void waiter_refuse_pull(struct module_waiter *waiter, const struct error *err);             /* the same, unless a stale answer is allowed */
void waiters_take(struct waiter_list *from, struct waiter_list *ret_to);
/* module_get for refresh and re-pull. */
void modules_ask_again(struct modules *modules, struct module_want *want, module_answered answered, void *arg);

/* ---- secrets ---- */
void principal_unref(struct principal **principal);
void keys_unref(struct keys **keys);
struct secret_state {
        char *key;                                /* "namespace/name" */
        char *namespace, *name;
        struct keys *keys;                        /* NULL when it could not be read */
        struct error err;
        int64_t loaded_ms, used_ms;
        uint64_t loaded_sequence;                 /* of modules when the reading began */
        bool is_loading;
        struct waiter_list waiting;
        struct map *principals;                   /* repository → struct principal */
        struct job job; struct modules *modules; struct setup *setup;
        struct docker_config *loaded; struct error loaded_err; bool is_loaded;
        /* with a Kubernetes API */
        struct kube_secret *used;                 /* what was read last, for reading again what a registry did not take */
        struct cancel *cancel;
        char *loaded_coordinate;                  /* "name@uid" of what was loaded, NULL: not from there */
        bool rereads, wants_reread, is_queued;
        struct secret_state *queue_next;
        uint64_t given_serial;                    /* of the struct given that it has; 0 = none */
};
/* secret_read.c, a worker: fills loaded, loaded_err, is_loaded, loaded_coordinate. */
void secret_read(struct secret_state *state);
size_t coordinate_name_length(const char *coordinate);                      /* of the name in a grant's "name" or "name@uid" */
/* The source did not take what this secret says: is there anything newer? True: `waiter` waits for the answer, and gets `err` if there is not. Once per waiter. */
bool secret_reread(struct modules *modules, struct module_waiter *waiter, const struct keys *keys, const struct error *err);
void secrets_cancel(struct modules *modules);
/* A secret as modules_put_secret() gave it. */
struct given { struct keys *keys; struct error err; uint64_t serial; };
/* True: *ret_principal (referenced) or err is known now. False: it is being read; `state` takes waiters. Explain, which has none, passes ret_state too. */
enum secret_answer { SECRET_READY, SECRET_REFUSED, SECRET_LOADING };
enum secret_answer secret_get(struct modules *modules, const struct ask *ask, struct principal **ret_principal, struct secret_state **ret_state, struct error *err);
/* Was what is known of the secret read before this request came? Then it is read anew, and true: only hits are given by what was known up to a second ago. */
bool secret_renew(struct modules *modules, const struct ask *ask, struct secret_state **ret_state);
struct keys *secret_get_keys(struct modules *modules, const struct ask *ask);               /* referenced; NULL for none; right after SECRET_READY */
void secrets_sweep(struct modules *modules, int64_t now_ms);
void secrets_forget_principals(struct modules *modules);                     /* after a reload */
void secrets_free(struct modules *modules);
void given_free(void *given);

/* ---- flights ---- */
enum flight_state { FLIGHT_QUEUED, FLIGHT_RUNNING, FLIGHT_FOLLOWING /* another one stores the same image */, FLIGHT_MAKING_ROOM };
struct flight {
        struct modules *modules;
        struct flight *next;
        char *key; size_t key_bytes;
        enum flight_state state;
        struct waiter_list waiting;
        unsigned waiters;
        bool is_kept;                             /* somebody's own time ran out: goes on for the cache */
        bool is_cancelled, holds_slot, is_storing;
        enum pull_step next_step; uint64_t next_bytes;              /* when room is made */
        uint64_t sequence, reserved_bytes, told_bytes;
        struct entry *held;
        enum module_source source;
        struct pull pull;
        char *namespace;                          /* of the first asker, for events */
        struct error nobody;                      /* set: why nobody may be asked; what is stored has to do */
};
struct refusal { struct error err; int64_t until_ms, forget_ms; unsigned failures; char *name; };
void flight_join(struct modules *modules, struct module_waiter *waiter, const struct hit *hit, const struct error *nobody_or_null);
void flight_leave(struct module_waiter *waiter, bool goes_on);
void flight_choose_rows(struct flight *flight, bool is_new, const struct entry *entry);
void pull_drop_rows_of_proof(struct pull *pull);
void pull_know(struct pull *pull, const struct hit *hit);                  /* flight_known.c */
void pull_know_verdicts(struct modules *modules, struct pull *pull, const struct ask *ask, const struct hit *hit);     /* nothing is judged twice in the life of the process */
void flight_keep_newest(struct flight *flight);
bool slot_take(struct flight *flight);
void slot_give_back(struct flight *flight);
void flights_start(struct modules *modules);
void flights_progress(struct modules *modules);
void flights_cancel(struct modules *modules);
void flight_tell_refused(struct flight *flight, const struct error *err);   /* log, event, number */
struct error refusal_get_error(const struct refusal *refusal);             /* with the seconds that are left */
struct refusal *refusal_find(struct modules *modules, const struct ask *ask, const struct hit *hit);        /* NULL = may be tried */
void refusal_add(struct modules *modules, const char *key, size_t key_bytes, const char *name, const struct error *err);
void refusal_forget(struct modules *modules, const char *key, size_t key_bytes);
void refusal_free(void *refusal);
int64_t refusal_get_keep_ms(const struct error *err, int64_t negative_ms, unsigned failures);
void refusals_clear(struct modules *modules, const char *name_or_null);
void refusals_sweep(struct modules *modules, int64_t now_ms);
/* host.c: a host that does not answer is left alone for a while, whatever is asked of it. */
void host_note(struct modules *modules, const struct module_want *want, const struct error *err_or_null);   /* how a pull from it ended */
bool host_is_away(const struct modules *modules, const struct module_want *want, struct error *ret_err);
bool host_refuses(struct modules *modules, const struct ask *ask, const struct hit *hit, struct error *ret_err);
/* Seconds that pulls from its host wait yet because it answered 429 or 503, and that in words; 0 = they do not. */
enum { HOST_LIMITS_BYTES = 400 };
unsigned host_limits(const struct modules *modules, const struct module_want *want, char ret_text[HOST_LIMITS_BYTES]);
void hosts_clear(struct modules *modules);
void hosts_sweep(struct modules *modules, int64_t now_ms);
char *flight_format_key(const struct ask *ask, const struct hit *hit, size_t *ret_bytes);
void flights_room_made(struct modules *modules);                           /* space may be enough now */

/* ---- hand-outs, leases ---- */
enum { PATH_BYTES = 4608 };
struct object_texts { char sha256[DIGEST_TEXT_BYTES], digest[DIGEST_TEXT_BYTES], path[PATH_BYTES]; };
struct handed { struct module_object *object; struct object_texts *texts; };
/* Fills what was found if link and lease allow it without a worker. */
bool handout_try(struct modules *modules, const struct ask *ask, struct entry *entry, const struct image *image, const struct handed *handed);
void handout_give(struct module_waiter *waiter);
/* Which waiter of a flight gets link and lease with the commit; what became of that. */
void handout_plan(struct flight *flight);
void handout_planned(struct flight *flight, struct entry *entry, bool is_file_known);
void handout_take_away(struct modules *modules, struct handout *handout);
void handout_link(struct modules *modules, struct handout *handout, const struct lease *lease);     /* its entry is not busy */
struct lease *lease_make(struct modules *modules, struct entry *entry, const char *namespace, uint64_t holder);
/* The first lease of a module that is not in the catalog yet, and when it is. */
void lease_plan(struct modules *modules, const struct ask *ask, const struct digest *module, struct first_handout *ret_first);
struct lease *lease_keep(struct modules *modules, struct entry *entry, const struct first_handout *first);
void lease_extend(struct modules *modules, struct lease *lease, bool exactly);
void lease_note_dirty(struct modules *modules, struct lease *lease);
void lease_to_row(const struct modules *modules, const struct lease *lease, struct store_lease *ret_row, char ret_holder[20]);
void leases_forget(struct modules *modules, struct handout *handout);
void handout_drop(struct entry *entry, const char *namespace);
void handouts_sweep(struct modules *modules);
void leases_sweep(struct modules *modules, int64_t now_ms);
void leases_save(struct modules *modules);                                  /* starts a job if something is dirty and none runs */
void lease_end(struct modules *modules, struct lease *lease);               /* the last one of a namespace takes the link away */
void entry_note_used(struct modules *modules, struct entry *entry);
void entry_wake(struct modules *modules, struct entry *entry, const char *namespace, const struct error *err);  /* waiters go on; those of `namespace` are refused if err */
void modules_drop_entry(struct modules *modules, struct entry *entry, const char *event, const char *detail);  /* damaged or gone: out of the catalog, waiters ask again */

/* promise.c: leases and pin of a module whose file went bad, until its bytes are here again. */
void promises_keep(struct modules *modules, const struct entry *entry);    /* before it leaves the catalog */
void promises_return(struct modules *modules, struct entry *entry);        /* it has come (again) */
void promises_link(struct modules *modules, struct entry *entry);          /* the next link that a lease is there for and no file */
void promises_sweep(struct modules *modules, int64_t now_ms);
void promise_free(void *promise);

/* link.c: links are made and taken away by a worker, many at a time. What comes back is settled by handout.c. */
struct link {
        struct link *next;
        struct entry *entry;
        struct digest sha256;
        struct store_identity identity;
        char namespace[STORE_NAMESPACE_BYTES], holder[20];
        struct store_lease lease;
        bool takes_away, is_linked_again, is_patient;      /* the last: those that somebody waits for go first */
        bool is_doubtful, is_damaged, is_done;
        struct error err;
};
struct link_list { struct link *first, **end; };
void link_start(struct modules *modules, struct link *link);                /* takes it over */
void links_init(struct modules *modules);
void links_close(struct modules *modules);                                  /* what has not begun is refused, what has is settled when it is done */
void handout_settle(struct modules *modules, struct link *link);

/* ---- space ---- */
enum room { ROOM_MADE, ROOM_BEING_MADE, ROOM_NONE };
enum room evict_make_room(struct modules *modules, uint64_t bytes);
void evict_check(struct modules *modules);                                 /* above the high watermark: down to the low one */
size_t evict_down_to(struct modules *modules, uint64_t target_bytes, bool dry_run, uint64_t *ret_bytes);
void evict_entry(struct modules *modules, struct entry *entry, const char *event);
uint64_t evict_get_used(const struct modules *modules);

/* ---- the rest ---- */
struct events { struct module_event ring[EVENTS_KEPT]; uint64_t next; struct module_listener *listeners; unsigned telling; };
void event_tell(struct modules *modules, const char *type, const struct module_event *event);
void events_fini(struct modules *modules);
void stage_count(struct modules *modules, const struct pull *pull);
/* A want that asks again for a name of this entry, with the credentials that once got it; NULL when only an inline secret did. */
struct module_want *repull_want(const struct known_reference *reference, enum module_policy policy);
bool entry_is_visible(const struct module_caller *caller, const struct entry *entry);
void object_note_verdict(struct module_object *object, const struct verdict *verdict);
void object_fill(const struct modules *modules, const struct entry *entry, const struct image *image, const struct handed *handed);

/* load.c: NULL = all that the store knows is in the catalog. Until then it has whole what was asked for, and only what that gives at once is given: nothing is pulled, let go or
   judged anew for want of what has not been read. */
struct load;
bool load_start(struct modules *modules, struct error *err);               /* a small store is loaded when it returns */
void load_look_up(struct modules *modules, struct module_waiter *waiter);  /* steps it again when what it may mean is in the catalog */
void load_wait(struct modules *modules, struct module_waiter *waiter);     /* steps it again when everything is */
void load_cancel(struct modules *modules);
void load_free(struct modules *modules);

/* Jobs that outlive a call and have a done(): counted, so that close can wait for them. */
struct task { struct job job; struct modules *modules; };
void task_start(struct modules *modules, struct task *task, void (*run)(struct job *job), void (*done)(struct job *job));
void task_end(struct modules *modules);
void modules_check_closed(struct modules *modules);
/* rows.c: small writes that nobody waits for. */
struct grant_owner { const char *namespace, *coordinate; };
void grants_revoke_start(struct modules *modules, const struct digest *manifest, const char *repository, const struct grant_owner *owner);
void rows_remove_start(struct modules *modules, const struct digest *sha256, int64_t created_s);
void reference_save_start(struct modules *modules, const struct known_reference *reference);

/* verdict.c: what a pull has judged, into memory: numbers after each step, verdicts when it succeeded. */
void verifications_count(struct modules *modules, struct pull *pull);
void verification_count(struct modules *modules, const char *format);      /* one that was good */
void verdicts_take(struct modules *modules, struct pull *pull);
/* rejudge.c: stored proofs judged again in the background, for the rules of the node at start and reload, for a key when it is first asked with. */
void rejudge_rules(struct modules *modules);
void rejudge_key(struct modules *modules, struct trust_keys *keys);
void rejudge_fini(struct modules *modules);
bool pull_has_evidence(const struct pull *pull);           /* found anew, to be saved */
/* verify.c: one blob hashed again; done(arg, sha256, err) with err NULL when it is good. Damaged ones leave the catalog and are asked for again. */
typedef void (*verified)(void *arg, const struct digest *sha256, const struct error *err);
void verify_start(struct modules *modules, struct entry *entry, uint64_t rate_bytes, verified done, void *arg);
void scrub_step(struct modules *modules, int64_t now_ms);
struct leaving_waiter { struct leaving_waiter *next; module_done done; void *arg; char *json; };
void leaving_wait(struct modules *modules, char *json, module_done done, void *arg);        /* takes json; answers when all that leaves has left */
bool ask_init(struct modules *modules, struct module_want *want, const struct module_caller *caller, struct ask *ret_ask, struct error *err);
struct module_waiter *waiter_new(struct modules *modules, const struct ask *ask, module_answered answered, void *arg);
void waiter_free(struct module_waiter *waiter);
struct hit_question question_of(const struct modules *modules, const struct ask *ask);
bool stale_is_allowed(struct modules *modules, const struct ask *ask, const struct error *err, struct hit *ret_hit);
struct setup *setup_new(struct fetch_client *fetch, struct registry *registry, const struct modules_options *options);
struct modules {
        struct loop *loop;
        struct store *store;
        struct setup *setup;
        struct catalog catalog;
        struct load *load;
        struct module_whole_wait *whole_waits;
        struct map *secrets, *given, *flights, *refusals;      /* given: "namespace/name" → struct given */
        struct verdicts *verdicts;
        struct rejudge { struct rejudge_round *first, **end; struct map *seen; bool is_running; } rejudge;
        struct flight *queue;                     /* all flights, in order of start */
        unsigned flight_count, slots_taken, waiter_count;
        struct module_waiter *all_waiters;
        struct map *host_slots, *hosts, *promises;
        unsigned secret_readers; struct secret_state *secret_queue, **secret_queue_end;     /* that ask the Kubernetes API; the rest wait */
        uint64_t sequence, reserved_bytes, leaving_bytes, holder_internal, given_serial;
        unsigned tasks, leaving;
        struct loop_timer *sweep_timer, *touch_timer;
        bool is_touch_running, is_touch_armed, untaken_links;
        struct { struct link_list urgent, patient, done; bool is_running; struct loop_timer *timer; } links;
        struct buffer dirty, ended, used;         /* to be saved: lease ids (STORE_LEASE_ID_BYTES each), ids gone, digests of modules used */
        struct cancel *verify_cancel;
        bool is_scrubbing; struct digest scrub_at; int64_t scrub_next_ms;
        struct leaving_waiter *leaving_waiters;
        struct events events;
        struct module_stats stats;
        bool is_closing, is_closed;
        void (*closed)(void *arg); void *closed_arg;
        int64_t next_lease_sweep_ms, next_slow_sweep_ms, next_trim_ms;
        uint64_t trimmed_at;                      /* pulls that had ended then */
};
