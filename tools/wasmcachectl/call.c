/*
 * How it goes: the socket is chosen once; each call is one exchange whose answer becomes a tree.
 * How it fails: whatever goes wrong is reported here, the caller only hands the exit status on.
 * How it ends: main closes the connection.
 */
#include <stdlib.h>
#include <string.h>
#include "ctl.h"

static const char admin_socket[] = "/run/wasmcached/admin.sock", agent_socket[] = "/run/wasmcached/agent.sock";

int daemon_connect(struct ctl *ctl)
{
        struct wasmcache_error err = { 0 };
        const char *environment = getenv("WASMCACHED_SOCKET");

        ctl->socket_path = ctl->options[OPTION_SOCKET];
        if (!ctl->socket_path && environment && *environment)
                ctl->socket_path = environment;
        bool is_chosen = ctl->socket_path != NULL;
        if (!is_chosen)
                ctl->socket_path = admin_socket;

        int result = wasmcache_connect(ctl->socket_path, &ctl->cache, &err);
        if (result == WASMCACHE_UNREACHABLE && !is_chosen && ctl->command->socket == SOCKET_ANY) {
                ctl->socket_path = agent_socket;
                result = wasmcache_connect(ctl->socket_path, &ctl->cache, &err);
        }
        return result == WASMCACHE_OK ? WASMCACHE_OK : report_daemon(ctl, result, &err);
}

int daemon_ask(struct ctl *ctl, const char *method, const char *path, const char *body, struct value **ret_answer)
{
        struct wasmcache_error err = { 0 };
        struct error problem = { 0 };
        struct value *answer = NULL;
        CLEANUP(cleanup_free) char *text = NULL;
        size_t size = 0;

        int result = wasmcache_call(ctl->cache, method, path, body, NULL, &text, &size, &err);
        if (result != WASMCACHE_OK)
                return report_daemon(ctl, result, &err);
        if (size > 0 && !json_parse(text, size, ERROR_UPSTREAM_ERROR, &answer, &problem))
                return report_local("is that wasmcached's socket?", "%s %s: the answer is no JSON: %s", method, path, problem.text);
        if (ret_answer)
                *ret_answer = answer;
        else
                value_free(&answer);
        return WASMCACHE_OK;
}

char *query_escape(const char *text)
{
        struct buffer out = { 0 };
        for (const unsigned char *at = (const unsigned char *)text; *at; at++)
                if ((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9') || strchr("-._~/:", *at))
                        buffer_append(&out, at, 1);
                else
                        buffer_printf(&out, "%%%02X", *at);
        return buffer_take(&out);
}

int daemon_resolve(struct ctl *ctl, const char *name, char ret_sha256[DIGEST_HEX_BYTES])
{
        CLEANUP(value_free) struct value *object = NULL;
        CLEANUP(cleanup_free) char *escaped = query_escape(name);
        CLEANUP(cleanup_free) char *path = string_format("/v1/inspect?name=%s", escaped);
        struct digest digest;

        int result = daemon_ask(ctl, "GET", path, NULL, &object);
        if (result != WASMCACHE_OK)
                return result;
        const char *sha256 = text_member(object, "sha256");
        if (!sha256 || !digest_parse_hex(sha256, &digest))
                return report_local("is that wasmcached's socket?", "the daemon does not say which module %s is", name);
        strcpy(ret_sha256, sha256);
        return WASMCACHE_OK;
}
