/*
 * How it goes: configuration, loop, store, transport, modules, keeper, manifests, cluster, api, serve, listeners; then the loop runs. Each start_… step is undone
 *              by its line in stop.
 * How it fails: a step that fails is logged with what it said, what was started is stopped in reverse, and the exit code tells the kind.
 * How it ends: a first SIGTERM closes listeners, answers who has already connected, then waiters, saves leases and lets the loop run empty; a second one ends the process at once
 *              (the store survives that).
 */
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include <wasmcached/api.h>
#include <wasmcached/credential.h>
#include <wasmcached/fetch.h>
#include <wasmcached/kube.h>
#include <wasmcached/loop.h>
#include <wasmcached/module.h>
#include <wasmcached/plugin/cluster.h>
#include <wasmcached/plugin/manifests.h>
#include <wasmcached/registry.h>
#include <wasmcached/serve.h>
#include <wasmcached/store.h>
#include "config.h"
#include "daemon.h"
#include "reload.h"

enum { WORKERS_EXTRA = 6, STOP_GRACE_MS = 500 };           /* workers besides pull slots: links, leases, secrets, scrub, operators */
enum { SECRETS_GRACE_MS = 24 * 3600 * 1000 };             /* for how long Secrets that were read count while the Kubernetes API cannot be asked */

struct daemon {
        const char *config_path;
        struct config *first, *running;                    /* listener tags borrow texts of `first` */
        struct reload reload;
        struct loop *loop;
        struct store *store;
        struct kube *kube;                                 /* NULL, as kube_secrets and cluster: kubernetes.mode is off */
        struct kube_secrets *kube_secrets;
        struct kube_reviews *reviews;
        struct modules *modules;
        struct keeper *keeper;
        struct manifests *manifests;
        struct cluster *cluster;
        struct api *api;
        struct serve *serve;
        struct api_listener *tags;
        struct loop_signal *signals[3];
        struct loop_timer *watchdog;
        unsigned open_parts;                               /* of modules, manifests, cluster and serve, while stopping */
        bool is_stopping;
        struct loop_timer *drain;                          /* while stopping, until who has connected is answered */
        int64_t drain_deadline_ms;
        enum daemon_exit exit_code;                        /* of what ended it after the start */
};

/* No core with secrets in it, no ptrace by the same user, few arenas (threads come and go with pulls), many descriptors. */
static void process_harden(void)
{
        struct rlimit files, core = { 0, 0 };

        prctl(PR_SET_DUMPABLE, 0);
        setrlimit(RLIMIT_CORE, &core);
        if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
                files.rlim_cur = files.rlim_max;
                setrlimit(RLIMIT_NOFILE, &files);
        }
        mallopt(M_ARENA_MAX, 2);
        mallopt(M_TRIM_THRESHOLD, 1 << 20);
        umask(022);
}

/* ---- what the api asks ---- */

static void config_answer(void *arg, struct buffer *ret_json)
{
        config_print_json(((struct daemon *)arg)->running, ret_json);
}

/* All or nothing: the new configuration was read, checked and turned into rooms' options before anything running is touched. */
static bool reload_apply(void *arg, struct reload *result, struct error *err)
{
        struct daemon *daemon = arg;
        CLEANUP(buffer_fini) struct buffer told = { 0 };
        struct modules_options modules_options;
        struct serve_limits limits;

        if (daemon->is_stopping)
                return refuse(err, ERROR_BUSY, "the daemon is stopping; the configuration stays as it was");
        transport_to_modules_options(result->next, &result->transport, &modules_options);
        modules_options.kube = daemon->kube;
        modules_options.kube_secrets = daemon->kube_secrets;
        if (!modules_reload(daemon->modules, result->transport.fetch, result->transport.registry, &modules_options, err))
                return false;
        result->transport.registry = NULL;
        keeper_set_ahead(daemon->keeper, result->next->pull.ahead);
        keeper_refresh(daemon->keeper);
        config_to_serve_limits(result->next, &limits);
        serve_set_limits(daemon->serve, &limits);
        config_apply_log(result->next);
        if (daemon->running != daemon->first)
                config_free(&daemon->running);
        result->running = daemon->running = TAKE(result->next);
        config_changes_print_text(&result->changes, &told);
        LOG_INFO("reloaded", LOG_TEXT("changes", told.data));
        module_event_emit(daemon->modules, &(struct module_event){ .wall_ms = clock_get_wall_ms(), .type = "reloaded", .detail = told.data, .total = -1 });
        return true;
}

static void reload(void *arg, module_done done, void *done_arg)
{
        reload_start(&((struct daemon *)arg)->reload, done, done_arg);
}

static void readiness(void *arg, struct buffer *ret_reasons)
{
        struct daemon *daemon = arg;

        struct error err;

        if (daemon->is_stopping)
                buffer_append_text(ret_reasons, "stopping\n");
        if (!keeper_is_ready(daemon->keeper, &err))
                buffer_printf(ret_reasons, "%s\n", err.text);
        if (store_get_health(daemon->store) == STORE_FAILING)
                buffer_append_text(ret_reasons, "the store's disk fails: hits are served, nothing new is kept\n");
}

/* ---- stop ---- */

static void part_closed(void *arg)
{
        struct daemon *daemon = arg;

        if (--daemon->open_parts == 0)
                loop_stop(daemon->loop);
}

static void reload_idle(void *arg)
{
        struct daemon *daemon = arg;

        if (daemon->is_stopping)
                part_closed(daemon);
}

enum { DRAIN_MS = 300, DRAIN_LOOK_MS = 5, GRACE_LEAST_MS = 100 };

/* Both waits together are STOP_GRACE_MS, so that a stop is over within a second. */
static int64_t grace_left_ms(const struct daemon *daemon)
{
        int64_t drained_ms = daemon->drain_deadline_ms > 0 ? clock_get_ms() - (daemon->drain_deadline_ms - DRAIN_MS) : 0;
        return drained_ms < STOP_GRACE_MS - GRACE_LEAST_MS ? STOP_GRACE_MS - drained_ms : GRACE_LEAST_MS;
}

/* Everything that exists, in reverse; part_closed() for each that takes time. */
static void parts_close(struct daemon *daemon)
{
        daemon->open_parts = 1u + daemon->reload.is_running + (daemon->manifests != NULL) + (daemon->cluster != NULL) + (daemon->serve != NULL);
        if (daemon->api)
                api_close(daemon->api);
        if (daemon->manifests)
                manifests_close(daemon->manifests, part_closed, daemon);
        if (daemon->cluster)
                cluster_close(daemon->cluster, part_closed, daemon);
        if (daemon->keeper)
                keeper_close(daemon->keeper);
        modules_close(daemon->modules, part_closed, daemon);
        if (daemon->serve)
                serve_close(daemon->serve, grace_left_ms(daemon), part_closed, daemon);
}

/* A connection that was accepted is ours to answer: behind a socket that systemd holds, whoever comes later waits for the next daemon, and nobody is refused. */
static void drain(void *arg)
{
        struct daemon *daemon = arg;

        if (!serve_is_quiet(daemon->serve) && clock_get_ms() < daemon->drain_deadline_ms)
                return;
        loop_timer_cancel(&daemon->drain);
        parts_close(daemon);
}

static void stop(void *arg)
{
        struct daemon *daemon = arg;

        if (daemon->is_stopping)
                _exit(DAEMON_EXIT_FAILED);                 /* the second signal */
        daemon->is_stopping = true;
        sd_notify(0, "STOPPING=1");
        LOG_INFO("stopping", LOG_NUMBER("pid", getpid()));
        serve_stop_listening(daemon->serve);
        daemon->drain_deadline_ms = clock_get_ms() + DRAIN_MS;
        daemon->drain = loop_timer_start(daemon->loop, 0, DRAIN_LOOK_MS, drain, daemon);
}

static void reloaded_by_signal(void *arg, const char *json, const struct error *err)
{
        (void)arg, (void)json;
        if (err)
                LOG_ERROR("reload_failed", LOG_TEXT("detail", err->text), LOG_TEXT("kept", "the configuration as it was"));
        sd_notify(0, "READY=1");
}

static void reload_by_signal(void *arg)
{
        struct daemon *daemon = arg;

        if (daemon->is_stopping)
                return;
        sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)clock_get_us());
        reload_start(&daemon->reload, reloaded_by_signal, daemon);
}

static void watchdog_feed(void *arg)
{
        (void)arg;
        sd_notify(0, "WATCHDOG=1");
}

/* ---- listeners ---- */

/* The descriptor that systemd passed for the Unix socket at `path`; -1 if none. */
static int passed_fd(int count, const char *path)
{
        for (int i = 0; i < count; i++)
                if (sd_is_socket_unix(SD_LISTEN_FDS_START + i, SOCK_STREAM, 1, path, 0) > 0)
                        return SD_LISTEN_FDS_START + i;
        return -1;
}

/* Clients of a socket that systemd holds and nobody accepts from wait for ever. */
static void tell_unused(const struct config *config, int count)
{
        for (int fd = SD_LISTEN_FDS_START; fd < SD_LISTEN_FDS_START + count; fd++) {
                bool is_used = sd_is_socket_unix(fd, SOCK_STREAM, 1, config->admin.path, 0) > 0;
                for (size_t i = 0; !is_used && i < config->listener_count; i++)
                        is_used = sd_is_socket_unix(fd, SOCK_STREAM, 1, config->listeners[i].path, 0) > 0;
                if (is_used)
                        continue;
                struct { struct sockaddr_un address; char end; } name = { 0 };
                socklen_t size = sizeof name.address;
                bool has_path = getsockname(fd, (struct sockaddr *)&name.address, &size) == 0 && name.address.sun_family == AF_UNIX;
                LOG_WARN("socket_unused", LOG_NUMBER("fd", fd), LOG_TEXT("path", has_path ? name.address.sun_path : ""),
                        LOG_TEXT("detail", "systemd passed it, but no listener has this path: nobody answers there"));
        }
}

static bool listen_unix(struct daemon *daemon, int passed_count, const struct config_listener *listener, struct api_listener *tag, struct error *err)
{
        int fd = passed_fd(passed_count, listener->path);

        if (fd >= 0)
                return serve_listen_fd(daemon->serve, fd, tag, err);
        return serve_listen_unix(daemon->serve, listener->path, (mode_t)listener->mode, tag, err);
}

static bool start_listeners(struct daemon *daemon, struct error *err)
{
        struct config *config = daemon->first;
        int passed_count = sd_listen_fds(1);
        struct config_listener admin = { .path = config->admin.path, .mode = config->admin.mode };

        tell_unused(config, passed_count);
        daemon->tags = memory_new(config->listener_count + 2, sizeof *daemon->tags);
        struct api_listener *admin_tag = &daemon->tags[config->listener_count], *metrics_tag = admin_tag + 1;
        for (size_t i = 0; i < config->listener_count; i++) {
                config_to_listener(&config->listeners[i], &daemon->tags[i]);
                if (!listen_unix(daemon, passed_count, &config->listeners[i], &daemon->tags[i], err))
                        return false;
        }
        config_to_admin_listener(config, admin_tag);
        if (!listen_unix(daemon, passed_count, &admin, admin_tag, err))
                return false;
        config_to_metrics_listener(metrics_tag);
        return !*config->metrics.address || serve_listen_tcp(daemon->serve, config->metrics.address, metrics_tag, NULL, err);
}

/* ---- start ---- */

static void report_log(const struct store_report *report)
{
        if (report->adopted || report->removed || report->quarantined || report->dropped_rows || report->index_rebuilt)
                LOG_WARN("store_recovered", LOG_NUMBER("adopted", report->adopted), LOG_NUMBER("removed", report->removed), LOG_NUMBER("quarantined", report->quarantined),
                        LOG_NUMBER("dropped_rows", report->dropped_rows), LOG_NUMBER("index_rebuilt", report->index_rebuilt));
}

static bool start_store(struct daemon *daemon, struct error *err)
{
        struct store_options options;
        struct store_report report = { 0 };

        config_to_store_options(daemon->first, &options);
        options.settles_later = true;
        if (!store_open(&options, &daemon->store, &report, err))
                return false;
        report_log(&report);
        return true;
}

/* Only its configuration is read: the server need not be there yet. */
static bool start_kube(struct daemon *daemon, struct error *err)
{
        struct kube_options options;
        struct kube_secrets_options secrets = { .grace_ms = SECRETS_GRACE_MS };

        if (!config_to_kube_options(daemon->first, &options))
                return true;
        if (!kube_new(&options, &daemon->kube, err))
                return false;
        daemon->kube_secrets = kube_secrets_new(&secrets);
        daemon->reviews = kube_reviews_new(daemon->first->kubernetes.token_audience, NULL);
        return true;
}

static bool start_modules(struct daemon *daemon, struct error *err)
{
        CLEANUP(transport_fini) struct transport transport = { 0 };
        struct modules_options options;

        if (!transport_init(daemon->first, &transport, err))
                return false;
        transport_to_modules_options(daemon->first, &transport, &options);
        options.kube = daemon->kube;
        options.kube_secrets = daemon->kube_secrets;
        if (!modules_new(daemon->loop, daemon->store, transport.fetch, transport.registry, &options, &daemon->modules, err))
                return false;
        transport.registry = NULL;
        return true;
}

static void start_plugins(struct daemon *daemon)
{
        const struct config *config = daemon->first;
        struct keeper_options options;

        config_to_keeper_options(config, &options);
        options.loop = daemon->loop;
        options.modules = daemon->modules;
        daemon->keeper = keeper_new(&options);
        if (*config->manifests)
                daemon->manifests = manifests_new(&(struct manifests_options){ daemon->loop, daemon->modules, daemon->keeper, config->manifests });
        if (!daemon->kube)
                return;
        CLEANUP(cleanup_free) char *folder = string_format("%s/cluster", config->store.root);
        daemon->cluster = cluster_new(&(struct cluster_options){ .loop = daemon->loop, .modules = daemon->modules, .keeper = daemon->keeper, .kube = daemon->kube,
                .node = config->kubernetes.node, .writes_events = config->kubernetes.events, .folder = folder });
}

static bool start_serve(struct daemon *daemon, struct error *err)
{
        struct serve_limits limits;
        struct api_options options = {
                .loop = daemon->loop, .modules = daemon->modules, .keeper = daemon->keeper, .version = WASMCACHED_VERSION,
                .kube = daemon->kube, .reviews = daemon->reviews, .node = daemon->first->kubernetes.node,
                .callbacks = { .arg = daemon, .config = config_answer, .reload = reload, .readiness = readiness },
        };

        daemon->api = api_new(&options);
        config_to_serve_limits(daemon->first, &limits);
        if (!serve_new(daemon->loop, &limits, api_get_handler(daemon->api), &daemon->serve, err))
                return false;
        api_set_serve(daemon->api, daemon->serve);
        return start_listeners(daemon, err);
}

static void start_reload(struct daemon *daemon)
{
        daemon->reload = (struct reload){
                .loop = daemon->loop, .config_path = daemon->config_path, .running = daemon->running, .apply = reload_apply, .idle = reload_idle, .arg = daemon,
        };
}

static void start_signals(struct daemon *daemon)
{
        uint64_t watchdog_us = 0;

        daemon->signals[0] = loop_signal_start(daemon->loop, SIGTERM, stop, daemon);
        daemon->signals[1] = loop_signal_start(daemon->loop, SIGINT, stop, daemon);
        daemon->signals[2] = loop_signal_start(daemon->loop, SIGHUP, reload_by_signal, daemon);
        if (sd_watchdog_enabled(0, &watchdog_us) > 0)
                daemon->watchdog = loop_timer_start(daemon->loop, 0, (int64_t)(watchdog_us / 3000), watchdog_feed, daemon);
}

static void tear_down(struct daemon *daemon)
{
        for (size_t i = 0; i < COUNT_OF(daemon->signals); i++)
                if (daemon->signals[i])
                        loop_signal_cancel(&daemon->signals[i]);
        loop_timer_cancel(&daemon->watchdog);
        if (daemon->serve)
                serve_free(&daemon->serve);
        if (daemon->api) {
                api_set_serve(daemon->api, NULL);
                api_free(&daemon->api);
        }
        manifests_free(&daemon->manifests);
        cluster_free(&daemon->cluster);
        keeper_free(&daemon->keeper);
        if (daemon->modules)
                modules_free(&daemon->modules);
        if (daemon->store)
                store_close(&daemon->store);
        if (daemon->loop)
                loop_free(&daemon->loop);
        kube_secrets_free(&daemon->kube_secrets);
        kube_reviews_free(&daemon->reviews);               /* jobs of reviews are over now */
        kube_free(&daemon->kube);
        free(daemon->tags);
        if (daemon->running != daemon->first)
                config_free(&daemon->running);
        config_free(&daemon->first);
}

static enum daemon_exit failed(const char *step, const struct error *err, enum daemon_exit exit_code)
{
        LOG_ERROR("start_failed", LOG_TEXT("step", step), LOG_TEXT("code", error_get_row(err->code)->name), LOG_TEXT("detail", err->text));
        return exit_code;
}

/* In the background, where the store is large: what it could not read ends the daemon as a start that fails does. */
static void store_loaded(void *arg, const struct store_report *report, const struct error *err)
{
        struct daemon *daemon = arg;

        if (report)
                report_log(report);
        if (!err || daemon->is_stopping)
                return;
        daemon->exit_code = failed("store", err, DAEMON_EXIT_FAILED);
        stop(daemon);
}

/* A failed start after modules or serve exist goes through the same stop as a signal. */
static enum daemon_exit start(struct daemon *daemon)
{
        struct error err = { 0 };

        if (!config_load(daemon->config_path, &daemon->first, &err))
                return failed("configuration", &err, DAEMON_EXIT_USAGE);
        daemon->running = daemon->first;
        config_apply_log(daemon->first);
        if (!start_kube(daemon, &err))
                return failed("kubernetes", &err, err.code == ERROR_BAD_REQUEST ? DAEMON_EXIT_USAGE : DAEMON_EXIT_FAILED);
        if (!loop_new((unsigned)daemon->first->pull.slots + WORKERS_EXTRA + (daemon->kube ? CLUSTER_WORKERS : 0), &daemon->loop, &err))
                return failed("loop", &err, DAEMON_EXIT_FAILED);
        if (!start_store(daemon, &err))
                return failed("store", &err, err.code == ERROR_BUSY ? DAEMON_EXIT_STORE_IN_USE : DAEMON_EXIT_FAILED);
        if (!start_modules(daemon, &err))
                return failed("modules", &err, err.code == ERROR_BAD_REQUEST ? DAEMON_EXIT_USAGE : DAEMON_EXIT_FAILED);        /* a file that the configuration names */
        start_reload(daemon);
        start_plugins(daemon);
        if (!start_serve(daemon, &err))
                return failed("listeners", &err, DAEMON_EXIT_FAILED);
        start_signals(daemon);
        module_when_whole(daemon->modules, store_loaded, daemon);
        return DAEMON_EXIT_OK;
}

enum daemon_exit daemon_run(const char *config_path)
{
        struct daemon daemon = { .config_path = config_path };

        process_harden();
        enum daemon_exit exit_code = start(&daemon);
        if (exit_code == DAEMON_EXIT_OK) {
                LOG_INFO("ready", LOG_TEXT("version", WASMCACHED_VERSION), LOG_TEXT("store", daemon.first->store.root), LOG_TEXT("admin", daemon.first->admin.path),
                        LOG_NUMBER("pid", getpid()));
                sd_notify(0, "READY=1");
                loop_run(daemon.loop);
                exit_code = daemon.exit_code;
        } else if (daemon.modules) {
                daemon.is_stopping = true;
                parts_close(&daemon);
                loop_run(daemon.loop);
        }
        tear_down(&daemon);
        return exit_code;
}
