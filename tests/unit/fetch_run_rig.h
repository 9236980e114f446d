/* For tests of fetch_run() against the hostile registry: urls of its modes, its log, a sink that looks. Include after cmocka.h. */
#pragma once
#include "fetch_fake.h"

#define RIG __attribute__((unused)) static

RIG struct fake fake;
RIG struct fetch_client *client;

#define OK ERROR_NONE

RIG char *mode_url(const char *mode)
{
        return string_format("http://127.0.0.1:%u/v2/mode/%s/blobs/layer", fake.port, mode);
}

/* What the first layer's descriptor says. */
RIG int64_t mode_size(const char *mode)
{
        CLEANUP(cleanup_free) char *path = string_format("/_repo?repo=mode/%s", mode);
        CLEANUP(cleanup_free) char *text = fake_steer(client, &fake, FETCH_GET, path);
        const char *at = strstr(text, "\"layers\": [");
        assert_non_null(at);
        at = strstr(at, "\"size\": ");
        assert_non_null(at);
        return strtoll(at + 8, NULL, 10);
}

RIG unsigned log_count(const char *piece)
{
        CLEANUP(cleanup_free) char *text = fake_steer(client, &fake, FETCH_GET, "/_log");
        unsigned count = 0;
        for (const char *at = text; (at = strstr(at, piece)); at++)
                count++;
        return count;
}

/* Requests of one url: what an earlier test has left behind may still come in. */
RIG unsigned log_count_url(const char *url)
{
        CLEANUP(cleanup_free) char *piece = string_format("\"path\": \"%s\"", strchr(strstr(url, "://") + 3, '/'));
        return log_count(piece);
}

RIG void log_clear(void)
{
        free(fake_steer(client, &fake, FETCH_GET, "/_log?clear=1"));
}

/* Hashes what it gets, so that a wrong resume shows; may refuse. */
struct probe { struct sink sink; struct buffer bytes; unsigned restarts; bool refuse; };

RIG bool probe_write(struct sink *sink, const void *bytes, size_t size_bytes, struct error *err)
{
        struct probe *probe = CONTAINER_OF(sink, struct probe, sink);
        if (probe->refuse)
                return refuse(err, ERROR_STORE_FULL, "the disk is full");
        assert_true(buffer_append(&probe->bytes, bytes, size_bytes));
        return true;
}

RIG bool probe_restart(struct sink *sink, struct error *err)
{
        struct probe *probe = CONTAINER_OF(sink, struct probe, sink);
        (void)err;
        probe->restarts++;
        buffer_clear(&probe->bytes);
        return true;
}

RIG void probe_fini(struct probe *probe)
{
        buffer_fini(&probe->bytes);
}

#define PROBE { .sink = { probe_write, probe_restart } }

/* Patient: on a busy machine the fake may take longer to answer than the 400 ms that the modes that stall are given. */
RIG struct fetch_request request_of(const char *url, int64_t size)
{
        static const int64_t patience_ms = 30000;
        return (struct fetch_request){ .url = url, .size_limit = 16 << 20, .size_expected = size, .redirects_max = FETCH_REDIRECTS_MAX, .resume = true,
                                       .progress_timeout_ms = strstr(url, "stalled") ? NULL : &patience_ms };
}
RIG bool fetch_plain(const struct fetch_request *request, struct fetch_response **ret_response, struct error *err)
{
        CLEANUP(probe_fini) struct probe probe = PROBE;
        return fetch_run(client, request, &probe.sink, ret_response, err);
}

RIG int setup(void **state)
{
        (void)state;
        struct error err = { 0 };
        struct fetch_options options = { .connect_timeout_ms = 3000, .progress_timeout_ms = 400, .retries = 2 };
        static const char *const names[] = { "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy" };
        for (size_t i = 0; i < COUNT_OF(names); i++)
                unsetenv(names[i]);
        fake = fake_start(NULL);
        return fetch_client_new(&options, &client, &err) ? 0 : -1;
}

RIG int teardown(void **state)
{
        (void)state;
        fetch_client_unref(&client);
        fake_stop(&fake);
        return 0;
}
