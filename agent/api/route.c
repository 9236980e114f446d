/*
 * How it goes: one table of routes; a request is matched by path, then by method, then by the kind of its listener. The commonest route stands first.
 * How it fails: 404 for a path that nobody has, 405 with Allow for another method, 403 for an operator's route on a proxies' socket.
 * How it ends: constant data and pure functions.
 */
#include <string.h>
#include "front.h"

#define EVERYONE (API_AGENT | API_ADMIN | API_METRICS)
#define CALLERS (API_AGENT | API_ADMIN)

static const struct api_query QUERY_LIST[] = {
        { "limit", "At most so many, 1 to 1000 (default 100)" },
        { "continue", "The `continue` of the page before" },
        { "namespace", "Only what this namespace may see (trusted callers)" },
        { 0 },
};
static const struct api_query QUERY_EVENTS[] = {
        { "follow", "1 = the answer stays open and every further event is written; 0 = what is remembered" },
        { "namespace", "Only events of this namespace (trusted callers)" },
        { 0 },
};
#define QUERY_WORKLOAD \
        { "namespace", "The workload's namespace (trusted callers; elsewhere only the socket's own). With identity pod neither this nor the next three: 403" }, \
        { "label", "k=v, a label of the workload; repeated" }, \
        { "service", "namespace/name of a Service that the waypoint serves; repeated (trusted callers)" }, \
        { "serviceEntry", "namespace/name of a ServiceEntry that the waypoint serves; repeated (trusted callers)" }, \
        { "direction", "inbound, outbound or gateway" }, { "port", "1 to 65535" }, { "type", "HTTP or NETWORK; both if not given" }
static const struct api_query QUERY_EXPLAIN[] = {
        { "url", "As in POST /v1/modules" }, { "sha256", "As in POST /v1/modules" }, { "imagePullPolicy", "As in POST /v1/modules" },
        { "imagePullSecret", "As in POST /v1/modules" }, { "plugin", "[Kind/]namespace/name: why this plugin reaches the workload, or not, instead of url" },
        QUERY_WORKLOAD, { 0 },
};
static const struct api_query QUERY_PLUGINS[] = {
        QUERY_WORKLOAD,
        { "wait", "With If-None-Match: how long to wait for another chain, like 30s, at most 5m; then 304" },
        { "times", "1 = each plugin has `since`, when it came to its state" },
        { 0 },
};
static const struct api_query QUERY_RESOURCES[] = {
        { "namespace", "Only resources of this namespace" }, { "limit", "At most so many, 1 to 1000 (default 100)" }, { "continue", "The `continue` of the page before" }, { 0 },
};
static const struct api_query QUERY_INSPECT[] = { { "name", "url, manifest digest, module sha256 or a unique prefix of it" }, { 0 } };

const struct api_route api_routes[] = {
        { "POST", "/v1/modules", CALLERS, api_handle_get, NULL, "Want", "Module", "A module by its source: waits while it is pulled, gives a path and a lease", false, false },
        { "GET", "/v1/modules", CALLERS, api_handle_list, QUERY_LIST, NULL, "ModuleList", "What the caller may see, in pages", false, true },
        { "GET", "/v1/modules/{sha256}", CALLERS, api_handle_one, NULL, NULL, "Module", "One module", false, true },
        { "DELETE", "/v1/modules/{sha256}", API_ADMIN, api_handle_remove, NULL, NULL, "Result", "Remove a module that is neither leased nor pinned nor in use", false, true },
        { "GET", "/v1/modules/{sha256}/content", CALLERS, api_handle_content, NULL, NULL, "application/wasm",
          "The bytes of a module; ETag, If-None-Match, Range and If-Range are honoured", false, true },
        { "PUT", "/v1/leases/{id}", CALLERS, api_handle_lease_renew, NULL, NULL, "LeaseAnswer", "Renew a lease", false, true },
        { "DELETE", "/v1/leases/{id}", CALLERS, api_handle_lease_end, NULL, NULL, NULL, "Give a lease back", false, true },
        { "GET", "/v1/plugins", CALLERS, api_handle_plugins, QUERY_PLUGINS, NULL, "Chain",
          "The ordered chain of plugins of the calling workload; ETag, If-None-Match", false, false },
        { "GET", "/v1/resources", API_ADMIN, api_handle_resources, QUERY_RESOURCES, NULL, "ResourceList",
          "Every WasmPlugin and TrafficExtension that was read, in pages", false, false },
        { "GET", "/v1/events", CALLERS, api_handle_events, QUERY_EVENTS, NULL, "application/x-ndjson", "Events, one JSON object per line", true, false },
        { "GET", "/metrics", EVERYONE, api_handle_metrics, NULL, NULL, "text/plain", "Metrics in Prometheus text or OpenMetrics, by Accept", false, false },
        { "GET", "/healthz", EVERYONE, api_handle_health, NULL, NULL, "text/plain", "200 as long as the daemon answers", false, false },
        { "GET", "/readyz", EVERYONE, api_handle_ready, NULL, NULL, "text/plain", "200 when it can serve, 503 with reasons when not", false, false },
        { "GET", "/openapi.yaml", CALLERS, api_handle_openapi, NULL, NULL, "application/yaml", "This description", false, false },
        { "PUT", "/v1/pins/{sha256}", API_ADMIN, api_handle_pin, NULL, NULL, "Result", "Pin a module: it is never let go", false, true },
        { "DELETE", "/v1/pins/{sha256}", API_ADMIN, api_handle_unpin, NULL, NULL, "Result", "Take a pin away", false, true },
        { "POST", "/v1/gc", API_ADMIN, api_handle_gc, NULL, "GcRequest", "Result", "Let modules go down to the low watermark", false, true },
        { "POST", "/v1/verify", API_ADMIN, api_handle_verify, NULL, "VerifyRequest", "Result",
          "Hash one module or all again; damaged ones are quarantined and pulled anew", false, true },
        { "POST", "/v1/refresh", API_ADMIN, api_handle_refresh, NULL, "RefreshRequest", "Result", "Forget refusals and ask the source of one url or all again", false, true },
        { "POST", "/v1/reload", API_ADMIN, api_handle_reload, NULL, NULL, "Reload", "Read the configuration file again", false, false },
        { "GET", "/v1/config", API_ADMIN, api_handle_config, NULL, NULL, "Config", "The configuration in effect", false, false },
        { "GET", "/v1/explain", API_ADMIN, api_handle_explain_query, QUERY_EXPLAIN, NULL, "Explanation",
          "Why a request would hit, miss or be refused; changes nothing", false, true },
        { "POST", "/v1/explain", API_ADMIN, api_handle_explain, NULL, "Want", "Explanation", "The same for a body as of POST /v1/modules", false, true },
        { "POST", "/v1/verify-signature", API_ADMIN, api_handle_verify_signature, NULL, "Want", "Trial",
          "Try a verificationKey on a source as it is now; nothing is cached. file:// may be any file that the daemon can open", false, true },
        { "GET", "/v1/status", API_ADMIN, api_handle_status, NULL, NULL, "Status", "The daemon in a few numbers", false, false },
        { "GET", "/v1/inspect", API_ADMIN, api_handle_inspect, QUERY_INSPECT, NULL, "Result", "Everything known of one module", false, true },
        { "GET", "/v1/manifests/{sha256}", API_ADMIN, api_handle_manifest, NULL, NULL, "Result", "The manifest of an image that is here, as its registry gave it", false, true },
        { "POST", "/v1/import", API_ADMIN, api_handle_import, NULL, "ImportRequest", "Result",
          "Take a module file that the daemon can open under the name it shall have", false, true },
};
const size_t api_route_count = COUNT_OF(api_routes);
_Static_assert(COUNT_OF(api_routes) <= API_ROUTES_MAX, "one row of counters per route");

/* "/v1/modules/{sha256}/content" against a path; the segment in place of {…} is not empty and holds no '/'. */
static bool path_matches(const char *pattern, const char *path, char ret_parameter[API_PARAMETER_BYTES])
{
        const char *brace = strchr(pattern, '{');
        if (!brace) {
                if (strcmp(pattern, path) != 0)
                        return false;
                ret_parameter[0] = '\0';
                return true;
        }
        size_t before = (size_t)(brace - pattern);
        if (strncmp(pattern, path, before) != 0)
                return false;

        const char *segment = path + before;
        size_t length = strcspn(segment, "/");
        const char *after = strchr(brace, '}') + 1;
        if (length == 0 || length >= API_PARAMETER_BYTES || strcmp(after, segment + length) != 0)
                return false;
        memcpy(ret_parameter, segment, length);
        ret_parameter[length] = '\0';
        return true;
}

static bool method_matches(const struct api_route *route, const char *method)
{
        return strcmp(route->method, method) == 0 || (strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0 && !route->is_stream);
}

static void allow_add(struct buffer *allow, const struct api_route *route)
{
        buffer_printf(allow, "%s%s", allow->used ? ", " : "", route->method);
        if (strcmp(route->method, "GET") == 0 && !route->is_stream)
                buffer_append_text(allow, ", HEAD");
}

const struct api_route *api_route_find(const struct api_listener *listener, const char *method, const char *path, char ret_parameter[API_PARAMETER_BYTES], struct buffer *ret_allow,
        int *ret_status, struct error *err)
{
        unsigned who = 1u << listener->kind;
        bool is_forbidden = false;
        for (size_t i = 0; i < api_route_count; i++) {
                const struct api_route *route = &api_routes[i];
                if (!path_matches(route->path, path, ret_parameter))
                        continue;
                if (route->who & who) {
                        if (method_matches(route, method))
                                return route;
                        allow_add(ret_allow, route);
                } else if (who != API_METRICS && method_matches(route, method))
                        is_forbidden = true;
        }

        char shown[96];
        string_printable(path, strlen(path), shown, sizeof shown);
        if (is_forbidden) {
                *ret_status = error_get_row(ERROR_DENIED)->http_status;
                refuse(err, ERROR_DENIED, "%s %s is for operators: only the admin socket has it", method, shown);
        } else if (ret_allow->used) {
                *ret_status = 405;
                refuse(err, ERROR_BAD_REQUEST, "%s is not a method of %s; it has %s", method, shown, ret_allow->data);
        } else {
                *ret_status = error_get_row(ERROR_NOT_FOUND)->http_status;
                refuse(err, ERROR_NOT_FOUND, "there is no %s here; GET /openapi.yaml on the agent or admin socket lists what there is", shown);
        }
        return NULL;
}

static bool query_allows(const struct api_query *query, const char *name)
{
        for (; query && query->name; query++)
                if (strcmp(query->name, name) == 0)
                        return true;
        return false;
}

bool api_query_repeats(const char *name)
{
        static const char *const names[] = { "label", "service", "serviceEntry" };
        for (size_t i = 0; i < COUNT_OF(names); i++)
                if (strcmp(names[i], name) == 0)
                        return true;
        return false;
}

bool api_query_check(const struct serve_request *request, const struct api_route *route, struct error *err)
{
        const char *name;
        for (size_t i = 0; (name = serve_request_get_query_name(request, i)); i++) {
                char shown[96];
                string_printable(name, strlen(name), shown, sizeof shown);
                if (!query_allows(route->query, name))
                        return refuse(err, ERROR_BAD_REQUEST, "query parameter \"%s\": unknown for %s %s", shown, route->method, route->path);
                if (!api_query_repeats(name) && serve_request_get_query(request, name, 1))
                        return refuse(err, ERROR_BAD_REQUEST, "query parameter \"%s\": given twice", shown);
        }
        return true;
}
