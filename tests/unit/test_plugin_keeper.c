/* The keeper over a module that is made here: what it asks for and for whom, states, back-off, leases, and what a change of resource, Pod or Secret does. */
#include "plugin_tools.h"
#include "../../agent/plugin/keeper.h"

#define SHA "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHB "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* ---- a module ---- */
struct module_waiter { struct module_waiter *next, **at; module_answered answered; void *arg; char folder[64]; };
struct module_listener { void (*happened)(void *arg, const struct module_event *event); void *arg; };
static struct {
        struct module_waiter *waiting;
        unsigned gets, cancels, most, renewals, forgets;
        size_t waiting_count;
        enum error_code code; unsigned retry_after_s;      /* what is answered; ERROR_NONE: well */
        bool waits, loses_leases;
        const char *sha256, *lease; int64_t lease_s;
        struct buffer ended, events;
        struct module_listener *listener;
} world;

static void answer(module_answered answered, void *arg)
{
        struct error err = { .code = world.code, .retry_after_s = world.retry_after_s };
        struct module_object object = { .path = "", .sha256 = world.sha256, .digest = "sha256:" SHB, .url = "x", .source = MODULE_SOURCE_PULLED, .lease_id = world.lease,
                .lease_expires_s = clock_get_wall_s() + world.lease_s };
        snprintf(err.text, sizeof err.text, "it is said");
        answered(arg, world.code ? NULL : &object, world.code ? &err : NULL);
}

struct module_waiter *module_get(struct modules *modules, struct module_want *want, const struct module_caller *caller, module_answered answered, void *arg)
{
        (void)modules;
        assert_non_null(want);
        assert_true(caller->is_trusted && caller->is_patient && caller->handout_namespace && !caller->namespace);
        world.gets++;
        if (!world.waits) {
                answer(answered, arg);
                return NULL;
        }
        struct module_waiter *waiter = memory_new(1, sizeof *waiter);
        *waiter = (struct module_waiter){ .next = world.waiting, .at = &world.waiting, .answered = answered, .arg = arg };
        snprintf(waiter->folder, sizeof waiter->folder, "%s", caller->handout_namespace);
        if (waiter->next)
                waiter->next->at = &waiter->next;
        world.waiting = waiter;
        if (++world.waiting_count > world.most)
                world.most = (unsigned)world.waiting_count;
        return waiter;
}

static void waiter_drop(struct module_waiter *waiter)
{
        *waiter->at = waiter->next;
        if (waiter->next)
                waiter->next->at = waiter->at;
        world.waiting_count--;
        free(waiter);
}

void module_waiter_cancel(struct module_waiter **waiter)
{
        world.cancels++;
        waiter_drop(TAKE(*waiter));
}

static void answer_all(void)
{
        while (world.waiting) {
                struct module_waiter waiter = *world.waiting;
                waiter_drop(world.waiting);
                answer(waiter.answered, waiter.arg);
        }
}

bool module_lease_renew(struct modules *modules, const struct module_caller *caller, const char *id, int64_t *ret_expires_s, struct error *err)
{
        (void)modules, (void)caller, (void)id;
        world.renewals++;
        *ret_expires_s = clock_get_wall_s() + world.lease_s;
        return !world.loses_leases || refuse(err, ERROR_NOT_FOUND, "no such lease");
}
bool module_lease_end(struct modules *modules, const struct module_caller *caller, const char *id, struct error *err)
{
        (void)modules, (void)caller, (void)err;
        buffer_printf(&world.ended, "%s ", id);
        return true;
}
void module_event_emit(struct modules *modules, const struct module_event *event)
{
        (void)modules;
        buffer_printf(&world.events, "%s ", event->type);
}
struct module_listener *module_listen(struct modules *modules, const char *namespace, bool replay, void (*happened)(void *arg, const struct module_event *event), void *arg)
{
        (void)modules, (void)namespace, (void)replay;
        world.listener = memory_new(1, sizeof *world.listener);
        *world.listener = (struct module_listener){ happened, arg };
        return world.listener;
}
void module_unlisten(struct module_listener **listener) { free(TAKE(*listener)); }
void module_forget_refusals(struct modules *modules, const struct module_want *want)
{
        (void)modules, (void)want;
        world.forgets++;
}

/* ---- the rig ---- */
enum { WAITING_MAX = 40 };
struct rig { struct loop *loop; struct keeper *keeper; struct loop_timer *timer; unsigned told; struct keeper_watch *watch; };

static void stop(void *arg) { loop_stop(arg); }
static void told(void *arg) { (*(unsigned *)arg)++; }

static void rig_init(struct rig *rig)
{
        struct error err;
        log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT);
        buffer_fini(&world.ended);
        buffer_fini(&world.events);
        memset(&world, 0, sizeof world);
        world.sha256 = SHA;
        world.lease = "lease-1";
        world.lease_s = 3600;
        *rig = (struct rig){ 0 };
        assert_true(loop_new(1, &rig->loop, &err));
        rig->keeper = keeper_new(&(struct keeper_options){ .loop = rig->loop, .pulls_ahead = true, .waiting_max = WAITING_MAX });
        rig->watch = keeper_watch_start(rig->keeper, told, &rig->told);
        rig->timer = loop_timer_start(rig->loop, 1000000, 0, stop, rig->loop);
}

static void rig_fini(struct rig *rig)
{
        keeper_watch_cancel(&rig->watch);
        keeper_close(rig->keeper);
        assert_null(world.waiting);
        keeper_free(&rig->keeper);
        loop_timer_cancel(&rig->timer);
        loop_free(&rig->loop);
        buffer_fini(&world.ended);
        buffer_fini(&world.events);
}

static void run_ms(struct rig *rig, int64_t ms)
{
        const struct keeper *keeper = rig->keeper;
        loop_timer_again(rig->timer, ms);
        loop_run(rig->loop);
        /* On a loaded machine the time is over before the work is; then once more, for what is told of it. */
        for (unsigned i = 0; i < 100 && (keeper->round_wanted || keeper->round_runs || (keeper->queue && keeper->running < keeper->tenant_max)); i++) {
                loop_timer_again(rig->timer, 10);
                loop_run(rig->loop);
        }
        loop_timer_again(rig->timer, 5);
        loop_run(rig->loop);
}

static void put(struct rig *rig, const char *namespace, const char *name, const char *spec)
{
        plugins_put(keeper_get_plugins(rig->keeper), "s", plugin_of("WasmPlugin", namespace, name, spec));
}

static void put_pod(struct rig *rig, const char *source, const char *namespace, const char *name)
{
        struct plugin_pod *pod = memory_new(1, sizeof *pod);
        *pod = (struct plugin_pod){ .namespace = string_copy(namespace), .name = string_copy(name), .uid = string_format("uid-%s", name) };
        keeper_put_pods(rig->keeper, source, &pod, 1);
}

static const struct plugin *find(struct rig *rig, const char *namespace, const char *name)
{
        return plugins_find(keeper_get_plugins(rig->keeper), PLUGIN_WASM_PLUGIN, namespace, name);
}

static struct keeper_status status_of(struct rig *rig, const char *namespace, const char *name, const char *folder)
{
        struct keeper_status status;
        keeper_get_status(rig->keeper, find(rig, namespace, name), folder, &status);
        return status;
}

static struct item *item_of(struct rig *rig, const char *namespace, const char *name)
{
        const struct plugin *plugin = find(rig, namespace, name);
        struct kept *kept = map_get(rig->keeper->kept, &plugin, sizeof plugin);
        return kept ? kept->items : NULL;
}

/* ---- tests ---- */
static void test_pod_needs_a_plugin(void **state)
{
        struct rig rig;
        (void)state;
        rig_init(&rig);
        put(&rig, "team", "a", "url: r.example/a");
        run_ms(&rig, 20);
        assert_int_equal(world.gets, 0);                   /* nobody needs it */
        uint64_t revision = keeper_get_revision(rig.keeper, "team");
        world.waits = true;
        put_pod(&rig, "s", "team", "p");
        run_ms(&rig, 20);
        assert_int_equal(world.gets, 1);
        assert_string_equal(world.waiting->folder, "team");
        assert_int_equal(status_of(&rig, "team", "a", "team").progress, PLUGIN_PULLING);
        rig.told = 0;
        answer_all();
        struct keeper_status status = status_of(&rig, "team", "a", "team");
        assert_int_equal(status.progress, PLUGIN_READY);
        assert_string_equal(status.sha256, SHA);
        assert_string_equal(status.digest, "sha256:" SHB);
        assert_true(keeper_get_revision(rig.keeper, "team") != revision);
        run_ms(&rig, 20);
        assert_int_equal(rig.told, 1);                     /* several changes, told once */
        assert_int_equal(world.gets, 1);
        assert_string_equal(world.events.data, "resource_accepted plugin_pulled ");
        struct keeper_stats stats;
        keeper_get_stats(rig.keeper, &stats);
        assert_int_equal(stats.modules[PLUGIN_READY], 1);
        assert_int_equal(stats.resources[PLUGIN_ACCEPTED], 1);
        assert_int_equal(stats.pods, 1);
        /* no Pod any more: let go after a moment, but not at once */
        keeper_put_pods(rig.keeper, "s", NULL, 0);
        run_ms(&rig, 20);
        assert_null(item_of(&rig, "team", "a"));
        assert_null(world.ended.data);
        struct held *held = map_get_text(rig.keeper->held, "lease-1");
        assert_true(held->let_go_ms > clock_get_ms());
        held->let_go_ms = 1;
        run_ms(&rig, 2 * KEEPER_TICK_MS);
        assert_string_equal(world.ended.data, "lease-1 ");
        rig_fini(&rig);
}

static void test_folders(void **state)
{
        struct rig rig;
        (void)state;
        rig_init(&rig);
        put(&rig, "istio-system", "root", "url: r.example/a");
        put(&rig, "istio-system", "refused", "url: r.example/a, urk: 1");
        put_pod(&rig, "1", "team", "p");
        put_pod(&rig, "2", "other", "q");
        run_ms(&rig, 20);
        assert_int_equal(world.gets, 2);
        assert_int_equal(status_of(&rig, "istio-system", "root", "team").progress, PLUGIN_READY);
        assert_int_equal(status_of(&rig, "istio-system", "root", "other").progress, PLUGIN_READY);
        assert_int_equal(status_of(&rig, "istio-system", "root", "third").progress, PLUGIN_PULLING);
        /* one of them has no Pod any more */
        keeper_put_pods(rig.keeper, "2", NULL, 0);
        run_ms(&rig, 20);
        assert_int_equal(status_of(&rig, "istio-system", "root", "other").progress, PLUGIN_PULLING);
        assert_int_equal(status_of(&rig, "istio-system", "root", "team").progress, PLUGIN_READY);
        /* not ahead: only who asks */
        keeper_set_ahead(rig.keeper, false);
        run_ms(&rig, 20);
        assert_int_equal(rig.keeper->item_count, 0);
        keeper_ask(rig.keeper, &(struct plugin_workload){ .namespace = "team" });
        assert_int_equal(status_of(&rig, "istio-system", "root", "team").progress, PLUGIN_READY);          /* at once */
        run_ms(&rig, 20);
        assert_int_equal(rig.keeper->item_count, 1);
        /* who has not asked for an hour is forgotten */
        struct asked *asked = map_get(rig.keeper->asked, "team", 5);
        asked->asked_ms = clock_get_ms() - KEEPER_ASKED_KEEP_MS - 1;
        run_ms(&rig, 2 * KEEPER_TICK_MS);
        assert_int_equal(rig.keeper->item_count, 0);
        assert_int_equal(map_get_count(rig.keeper->folders), 0);
        /* a folder that comes back has another revision than any before, or those who remember the old one would believe that nothing changed */
        uint64_t revision = rig.keeper->revision;
        keeper_ask(rig.keeper, &(struct plugin_workload){ .namespace = "team" });
        assert_true(keeper_get_revision(rig.keeper, "team") > revision);
        rig_fini(&rig);
}

static void test_back_off(void **state)
{
        static const int64_t seconds[] = { 10, 20, 40, 80, 160, 300, 300 };
        struct rig rig;
        (void)state;
        rig_init(&rig);
        world.code = ERROR_UPSTREAM_UNREACHABLE;
        put(&rig, "team", "a", "url: r.example/a");
        put_pod(&rig, "s", "team", "p");
        run_ms(&rig, 20);
        struct item *item = item_of(&rig, "team", "a");
        for (size_t i = 0; i < COUNT_OF(seconds); i++) {
                int64_t wait_ms = item->due_ms - clock_get_ms();
                assert_int_equal(world.gets, i + 1);
                assert_in_range(wait_ms, seconds[i] * 1000 - 2000, seconds[i] * 1000);
                item->due_ms = 1;
                run_ms(&rig, 2 * KEEPER_TICK_MS);
        }
        struct keeper_status status = status_of(&rig, "team", "a", "team");
        assert_int_equal(status.progress, PLUGIN_FAILED);
        assert_int_equal(status.code, ERROR_UPSTREAM_UNREACHABLE);
        assert_string_equal(status.detail, "it is said");
        assert_null(status.sha256);
        assert_string_equal(world.events.data, "resource_accepted plugin_refused ");       /* told once */
        /* the peer's own delay counts, if it is longer */
        world.retry_after_s = 200;
        item->failures = 0;
        item->due_ms = 1;
        run_ms(&rig, 2 * KEEPER_TICK_MS);
        assert_in_range(item->due_ms - clock_get_ms(), 198000, 200000);
        /* busy is no failure */
        world.code = ERROR_BUSY;
        world.retry_after_s = 0;
        item->progress = PLUGIN_PULLING;
        item->due_ms = 1;
        run_ms(&rig, KEEPER_TICK_MS + 100);
        assert_int_equal(item->progress, PLUGIN_PULLING);
        assert_in_range(item->due_ms - clock_get_ms(), 0, 1000);
        /* a Secret of the plugin's namespace changes: at once; of another one: not */
        unsigned gets = world.gets;
        item->due_ms = clock_get_ms() + 300000;
        item->code = ERROR_SECRET_MISSING;
        keeper_note_secret(rig.keeper, "other");
        run_ms(&rig, 20);
        assert_int_equal(world.gets, gets);
        world.code = ERROR_NONE;
        keeper_note_secret(rig.keeper, "team");
        run_ms(&rig, 20);
        assert_int_equal(world.gets, gets + 1);
        assert_int_equal(item->progress, PLUGIN_READY);
        assert_string_equal(world.events.data, "resource_accepted plugin_refused plugin_recovered ");
        rig_fini(&rig);
}

static void test_failed_refresh(void **state)
{
        struct rig rig;
        (void)state;
        rig_init(&rig);
        put(&rig, "team", "a", "url: r.example/a");
        put_pod(&rig, "s", "team", "p");
        run_ms(&rig, 20);
        world.code = ERROR_UPSTREAM_ERROR;
        put(&rig, "team", "a", "url: r.example/a, priority: 1");
        run_ms(&rig, 20);
        struct keeper_status status = status_of(&rig, "team", "a", "team");
        assert_int_equal(status.progress, PLUGIN_READY);
        assert_string_equal(status.sha256, SHA);
        assert_int_equal(status.code, ERROR_UPSTREAM_ERROR);
        /* what nobody vouches for any more is not held on to */
        world.code = ERROR_SIGNATURE_INVALID;
        keeper_refresh(rig.keeper);
        run_ms(&rig, 20);
        status = status_of(&rig, "team", "a", "team");
        assert_int_equal(status.progress, PLUGIN_FAILED);
        assert_null(status.sha256);
        assert_int_equal(((struct held *)map_get_text(rig.keeper->held, "lease-1"))->count, 0);
        rig_fini(&rig);
}

static void test_change_of_source(void **state)
{
        struct rig rig;
        (void)state;
        rig_init(&rig);
        put(&rig, "team", "a", "url: r.example/a");
        put_pod(&rig, "s", "team", "p");
        run_ms(&rig, 20);
        world.waits = true;
        put(&rig, "team", "a", "url: r.example/a, priority: 1");           /* the same source: nothing is taken away while it is asked for */
        run_ms(&rig, 20);
        assert_int_equal(world.waiting_count, 1);
        assert_int_equal(status_of(&rig, "team", "a", "team").progress, PLUGIN_READY);
        put(&rig, "team", "a", "url: r.example/b");                         /* another one: the wait for the old one ends */
        run_ms(&rig, 20);
        assert_int_equal(world.cancels, 1);
        assert_int_equal(world.waiting_count, 1);
        assert_true(world.forgets >= 2);
        assert_int_equal(status_of(&rig, "team", "a", "team").progress, PLUGIN_PULLING);
        assert_int_equal(((struct held *)map_get_text(rig.keeper->held, "lease-1"))->count, 1);            /* until there is something else */
        world.sha256 = SHB;
        world.lease = "lease-2";
        answer_all();
        assert_string_equal(status_of(&rig, "team", "a", "team").sha256, SHB);
        assert_true(((struct held *)map_get_text(rig.keeper->held, "lease-1"))->let_go_ms > 0);
        assert_int_equal(((struct held *)map_get_text(rig.keeper->held, "lease-2"))->count, 1);
        /* refused, and mended */
        put(&rig, "team", "a", "url: r.example/b, urk: 1");
        run_ms(&rig, 20);
        assert_null(item_of(&rig, "team", "a"));
        world.waits = false;
        put(&rig, "team", "a", "url: r.example/b");
        run_ms(&rig, 20);
        assert_int_equal(status_of(&rig, "team", "a", "team").progress, PLUGIN_READY);
        rig_fini(&rig);
}

static void test_leases(void **state)
{
        struct rig rig;
        (void)state;
        rig_init(&rig);
        put(&rig, "team", "a", "url: r.example/a");
        put(&rig, "team", "b", "url: r.example/a");
        put_pod(&rig, "s", "team", "p");
        run_ms(&rig, 20);
        struct held *held = map_get_text(rig.keeper->held, "lease-1");
        assert_int_equal(held->count, 2);                  /* one module, one folder, one lease */
        run_ms(&rig, 2 * KEEPER_TICK_MS);
        assert_int_equal(world.renewals, 0);
        held->renewed_ms -= held->length_ms / 3 + 1;
        run_ms(&rig, 2 * KEEPER_TICK_MS);
        assert_int_equal(world.renewals, 1);
        assert_true(plugins_remove(keeper_get_plugins(rig.keeper), "s", PLUGIN_WASM_PLUGIN, "team", "b"));
        run_ms(&rig, 20);
        assert_int_equal(held->count, 1);
        assert_int_equal(held->let_go_ms, 0);
        /* gone behind our back: asked for again */
        unsigned gets = world.gets;
        world.loses_leases = true;
        world.lease = "lease-2";
        held->renewed_ms -= held->length_ms / 3 + 1;
        run_ms(&rig, 2 * KEEPER_TICK_MS);
        assert_int_equal(world.gets, gets + 1);
        assert_null(map_get_text(rig.keeper->held, "lease-1"));
        assert_int_equal(status_of(&rig, "team", "a", "team").progress, PLUGIN_READY);
        /* so is what was found damaged, and what a tag means now */
        world.listener->happened(world.listener->arg, &(struct module_event){ .type = "quarantined", .sha256 = SHB });
        run_ms(&rig, 20);
        assert_int_equal(world.gets, gets + 1);
        world.listener->happened(world.listener->arg, &(struct module_event){ .type = "quarantined", .sha256 = SHA });
        run_ms(&rig, 20);
        assert_int_equal(world.gets, gets + 2);
        world.listener->happened(world.listener->arg, &(struct module_event){ .type = "pulled", .url = "r.example/a", .sha256 = SHA });
        run_ms(&rig, 20);
        assert_int_equal(world.gets, gets + 2);
        world.listener->happened(world.listener->arg, &(struct module_event){ .type = "pulled", .url = "r.example/a", .sha256 = SHB });
        run_ms(&rig, 20);
        assert_int_equal(world.gets, gets + 3);
        rig_fini(&rig);
        assert_null(world.ended.data);                     /* a stop takes nothing away */
}

static void test_bounds(void **state)
{
        struct rig rig;
        (void)state;
        rig_init(&rig);
        world.waits = true;
        for (unsigned i = 0; i < 300; i++) {
                char name[16];
                snprintf(name, sizeof name, "p%u", i);
                CLEANUP(cleanup_free) char *spec = string_format("url: r%u.example/a", i / 2);
                put(&rig, "greedy", name, spec);
        }
        put_pod(&rig, "s", "greedy", "p");
        run_ms(&rig, 100);
        assert_int_equal(world.waiting_count, WAITING_MAX / 4);             /* of one namespace, however many it has */
        put(&rig, "team", "q", "url: r.example/b");
        put_pod(&rig, "t", "team", "q");
        run_ms(&rig, 50);
        assert_int_equal(world.waiting_count, WAITING_MAX / 4 + 1);         /* another one's does not stand behind them */
        for (unsigned i = 0; i < 100 && world.gets < 301; i++) {
                answer_all();
                run_ms(&rig, 10);
        }
        answer_all();
        assert_int_equal(world.gets, 301);
        assert_int_equal(status_of(&rig, "team", "q", "team").progress, PLUGIN_READY);
        assert_int_equal(rig.keeper->running, 0);
        for (unsigned i = 0; i < 60; i++) {
                char namespace[16];
                snprintf(namespace, sizeof namespace, "t%u", i);
                put(&rig, namespace, "p", "url: r.example/a");
                put_pod(&rig, namespace, namespace, "p");
        }
        run_ms(&rig, 50);
        assert_int_equal(world.waiting_count, WAITING_MAX);
        answer_all();
        run_ms(&rig, 50);
        assert_int_equal(world.waiting_count, 20);
        answer_all();
        assert_int_equal(world.most, WAITING_MAX);
        world.waits = false;
        for (unsigned i = 0; i < KEEPER_ASKED_MAX + 50; i++) {
                char namespace[16];
                snprintf(namespace, sizeof namespace, "n%u", i);
                keeper_ask(rig.keeper, &(struct plugin_workload){ .namespace = namespace });
        }
        assert_int_equal(map_get_count(rig.keeper->asked), KEEPER_ASKED_MAX);
        /* ever other askers do not make all be looked at again and again */
        uint64_t round = rig.keeper->round;
        rig.keeper->next_sweep_ms = clock_get_ms() + KEEPER_SWEEP_MS;
        for (unsigned i = 0; i < 20; i++) {
                char namespace[16];
                snprintf(namespace, sizeof namespace, "o%u", i);
                keeper_ask(rig.keeper, &(struct plugin_workload){ .namespace = namespace });
                run_ms(&rig, 1);
        }
        assert_in_range(rig.keeper->round, round, round + 1);
        rig.keeper->next_sweep_ms = 1;
        run_ms(&rig, 2 * KEEPER_TICK_MS);
        assert_in_range(rig.keeper->round, round + 1, round + 2);
        run_ms(&rig, 20);
        rig_fini(&rig);
}

/* Of one host in one namespace a few at a time; a plugin of the same namespace and another host does not stand behind them. */
static void test_one_host(void **state)
{
        struct rig rig;
        (void)state;
        rig_init(&rig);
        rig.keeper->tenant_max = rig.keeper->running_max = 1000;
        world.waits = true;
        for (unsigned i = 0; i < 100; i++) {
                char name[16];
                snprintf(name, sizeof name, "slow%u", i);
                put(&rig, "team", name, "url: slow.example/a");
        }
        put(&rig, "team", "zz", "url: quick.example/a");
        put_pod(&rig, "s", "team", "p");
        run_ms(&rig, 50);
        assert_int_equal(world.waiting_count, KEEPER_HOST_MAX + 1);
        assert_int_equal(map_get_count(rig.keeper->hosts), 2);
        put(&rig, "team", "slow99", "url: third.example/a");                 /* moves over to another host */
        run_ms(&rig, 50);
        assert_int_equal(world.waiting_count, KEEPER_HOST_MAX + 2);
        assert_int_equal(map_get_count(rig.keeper->hosts), 3);
        for (unsigned i = 0; i < 20 && world.waiting; i++) {
                answer_all();
                run_ms(&rig, 10);
        }
        assert_int_equal(world.gets, 101);
        keeper_put_pods(rig.keeper, "s", NULL, 0);
        run_ms(&rig, 50);
        assert_int_equal(map_get_count(rig.keeper->hosts), 0);
        rig_fini(&rig);
}

static void test_pods(void **state)
{
        struct rig rig;
        (void)state;
        rig_init(&rig);
        put_pod(&rig, "b", "team", "p");
        struct plugin_pod *pod = memory_new(1, sizeof *pod);
        *pod = (struct plugin_pod){ .namespace = string_copy("team"), .name = string_copy("p"), .uid = string_copy("other") };
        keeper_put_pods(rig.keeper, "a", &pod, 1);          /* the same Pod again: the first source wins */
        assert_int_equal(keeper_get_pod_count(rig.keeper), 1);
        assert_non_null(keeper_find_pod(rig.keeper, "other"));
        assert_null(keeper_find_pod(rig.keeper, "uid-p"));
        keeper_put_pods(rig.keeper, "a", NULL, 0);
        assert_string_equal(keeper_find_pod(rig.keeper, "uid-p")->name, "p");
        keeper_put_pods(rig.keeper, "none", NULL, 0);
        rig_fini(&rig);
}

static void test_expected_sources(void **state)
{
        struct rig rig;
        struct error err = { 0 };
        (void)state;
        rig_init(&rig);
        assert_true(keeper_is_ready(rig.keeper, &err));
        keeper_expect(rig.keeper, "folder /x");
        assert_false(keeper_is_ready(rig.keeper, &err));
        assert_int_equal(err.code, ERROR_BUSY);
        assert_true(err.retry_after_s > 0 && strstr(err.text, "folder /x"));
        put(&rig, "team", "a", "url: r.example/a");
        assert_null(world.events.data);                     /* what was there from the start is no news */
        keeper_arrive(rig.keeper, "folder /x");
        assert_true(keeper_is_ready(rig.keeper, &err));
        put(&rig, "team", "b", "url: r.example/a");
        assert_string_equal(world.events.data, "resource_accepted ");
        rig_fini(&rig);
}

static void test_close_while_it_waits(void **state)
{
        struct rig rig;
        (void)state;
        rig_init(&rig);
        world.waits = true;
        put(&rig, "team", "a", "url: r.example/a");
        put_pod(&rig, "s", "team", "p");
        run_ms(&rig, 20);
        assert_int_equal(world.waiting_count, 1);
        rig_fini(&rig);
        assert_int_equal(world.cancels, 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_pod_needs_a_plugin), cmocka_unit_test(test_folders), cmocka_unit_test(test_back_off), cmocka_unit_test(test_failed_refresh),
                cmocka_unit_test(test_change_of_source), cmocka_unit_test(test_leases), cmocka_unit_test(test_bounds), cmocka_unit_test(test_one_host), cmocka_unit_test(test_pods),
                cmocka_unit_test(test_expected_sources), cmocka_unit_test(test_close_while_it_waits),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
