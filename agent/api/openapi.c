/*
 * How it goes: the paths follow from the route table, one after the other; schemas are a fixed text beside it.
 * How it fails: it does not; a unit test asks for every route, and for every schema that a route names.
 * How it ends: OpenAPI 3.0.3 as YAML in the caller's buffer.
 */
#include <stdio.h>
#include <string.h>
#include "front.h"

static const char SCHEMAS[] =
        "components:\n"
        "  responses:\n"
        "    Problem:\n"
        "      description: Refused or failed (RFC 9457). Retry-After is there where asking again makes sense.\n"
        "      content: {application/problem+json: {schema: {$ref: '#/components/schemas/Problem'}}}\n"
        "  schemas:\n"
        "    Want:\n"
        "      type: object\n"
        "      required: [url]\n"
        "      additionalProperties: false\n"
        "      properties:\n"
        "        url: {type: string, description: 'oci://, http://, https:// or file://; without a scheme an OCI reference'}\n"
        "        sha256: {type: string, pattern: '^([0-9a-f]{64})?$', description: 'oci: the manifest; http and file: the module'}\n"
        "        imagePullPolicy: {type: string, enum: [UNSPECIFIED_POLICY, IfNotPresent, Always]}\n"
        "        imagePullSecret: {type: string, description: Name of a Secret in the namespace of the request}\n"
        "        verificationKey: {type: string, description: '1 to 8 PEM public keys; a valid signature by one of them is then required'}\n"
        "        namespace: {type: string, description: 'The tenant; with identity fixed and pod only its own'}\n"
        "        resource: {type: object, additionalProperties: false, properties: {name: {type: string}, version: {type: string}}}\n"
        "        pullSecret: {type: object, description: 'A docker config, instead of imagePullSecret; held in memory only'}\n"
        "        timeout: {type: string, example: 5s, description: How long this caller waits; 30s if not given}\n"
        "    Module:\n"
        "      type: object\n"
        "      required: [path, sha256, size, url, verified, source]\n"
        "      properties:\n"
        "        path: {type: string}\n"
        "        sha256: {type: string, description: Of the module}\n"
        "        size: {type: integer, format: int64}\n"
        "        url: {type: string}\n"
        "        digest: {type: string, description: Of the manifest; absent for http and file}\n"
        "        verified:\n"
        "          type: object\n"
        "          nullable: true\n"
        "          description: 'The signature that was demanded and found, null where none was demanded; in listings the latest that is known'\n"
        "          properties:\n"
        "            format: {type: string, enum: [cosign-bundle, cosign-simple, wasm-embedded, wasm-detached, sigstore-bundle, raw, legacy-bundle, wasmsign1, minisign]}\n"
        "            keyFingerprint: {type: string, description: 'SHA-256 of the key that signed, as SubjectPublicKeyInfo in DER'}\n"
        "        source: {type: string, enum: [cache, revalidated, pulled]}\n"
        "        stale: {type: boolean, description: The source could not be reached}\n"
        "        lease: {type: object, nullable: true, properties: {id: {type: string}, expires: {type: string, format: date-time}}, description: As in Lease; null in listings}\n"
        "        pinned: {type: boolean}\n"
        "        leases: {type: integer}\n"
        "        created: {type: string, format: date-time}\n"
        "        lastUsed: {type: string, format: date-time}\n"
        "        urls: {type: array, items: {type: string}}\n"
        "        namespaces: {type: array, items: {type: string}}\n"
        "    ModuleList:\n"
        "      type: object\n"
        "      required: [modules]\n"
        "      properties:\n"
        "        modules: {type: array, items: {$ref: '#/components/schemas/Module'}}\n"
        "        continue: {type: string, description: Given when there is more}\n"
        "    Lease:\n"
        "      type: object\n"
        "      required: [id, expires]\n"
        "      properties: {id: {type: string}, expires: {type: string, format: date-time}}\n"
        "    LeaseAnswer: {type: object, required: [lease], properties: {lease: {$ref: '#/components/schemas/Lease'}}}\n"
        "    GcRequest: {type: object, additionalProperties: false, properties: {dryRun: {type: boolean}}}\n"
        "    VerifyRequest: {type: object, additionalProperties: false, properties: {sha256: {type: string, description: Only this module}}}\n"
        "    RefreshRequest: {type: object, additionalProperties: false, properties: {url: {type: string, description: Only this reference}}}\n"
        "    ImportRequest:\n"
        "      type: object\n"
        "      required: [url, path]\n"
        "      additionalProperties: false\n"
        "      properties:\n"
        "        url: {type: string, description: The name it shall have}\n"
        "        path: {type: string, description: 'Absolute; a regular file that the daemon opens'}\n"
        "        digest: {type: string, description: 'Of the image manifest that it came from, so that a request that pins it is a hit'}\n"
        "        index: {type: string, description: 'Of the index that led to that manifest'}\n"
        "        manifest: {type: string, description: 'The text of that manifest, which must have the digest'}\n"
        "    Reload: {type: object, properties: {applied: {type: array, items: {type: string}}, needsRestart: {type: array, items: {type: string}}}}\n"
        "    Explanation:\n"
        "      type: object\n"
        "      properties:\n"
        "        verdict: {type: string, enum: [hit, miss, refused, reached, not_reached]}\n"
        "        code: {type: string, nullable: true}\n"
        "        steps: {type: array, items: {type: object, properties: {check: {type: string}, result: {type: string}, detail: {type: string}}}}\n"
        "    Signature:\n"
        "      type: object\n"
        "      properties:\n"
        "        format: {type: string, description: As in Module.verified}\n"
        "        keyFingerprint: {type: string}\n"
        "        algorithm: {type: string, example: ECDSA P-256 SHA-256}\n"
        "        where: {type: string, description: 'Where it was found: a tag, a referrer, a url'}\n"
        "        target: {type: string, description: 'Digest of what is signed: image manifest, index, file or module'}\n"
        "        annotations: {type: object, description: What was signed with it}\n"
        "        logged: {type: string, format: date-time, description: 'Of the entry in a transparency log, where trust.rekor_keys asks for one'}\n"
        "    Trial:\n"
        "      type: object\n"
        "      required: [verdict, url, signatures]\n"
        "      properties:\n"
        "        verdict: {type: string, enum: [verified, refused]}\n"
        "        url: {type: string}\n"
        "        digest: {type: string, description: What the reference means now; absent for http and file}\n"
        "        code: {type: string, description: 'signature_missing, signature_invalid or signature_unreachable, where refused'}\n"
        "        detail: {type: string, description: Why it is refused}\n"
        "        lookedAt: {type: string, description: The places where signatures were looked for}\n"
        "        signatures: {type: array, items: {$ref: '#/components/schemas/Signature'}}\n"
        "    Chain:\n"
        "      type: object\n"
        "      required: [plugins]\n"
        "      properties: {plugins: {type: array, items: {$ref: '#/components/schemas/Plugin'}}}\n"
        "    Plugin:\n"
        "      type: object\n"
        "      properties:\n"
        "        kind: {type: string, enum: [WasmPlugin, TrafficExtension]}\n"
        "        namespace: {type: string}\n"
        "        name: {type: string}\n"
        "        resourceVersion: {type: string, description: A hash of the content for what has none}\n"
        "        phase: {type: string, enum: [AUTHN, AUTHZ, STATS, UNSPECIFIED]}\n"
        "        priority: {type: integer, format: int64}\n"
        "        type: {type: string, enum: [HTTP, NETWORK]}\n"
        "        match: {type: array, items: {type: object}}\n"
        "        pluginName: {type: string, nullable: true}\n"
        "        pluginConfig: {type: object, nullable: true}\n"
        "        env: {type: array, items: {type: object, properties: {name: {type: string}, value: {type: string}, valueFrom: {type: string, enum: [HOST]}}}}\n"
        "        failStrategy: {type: string, enum: [FAIL_CLOSE, FAIL_OPEN, FAIL_RELOAD]}\n"
        "        url: {type: string, nullable: true}\n"
        "        sha256: {type: string, nullable: true, description: Of the module that is there}\n"
        "        digest: {type: string, nullable: true, description: Of its manifest}\n"
        "        path: {type: string, nullable: true, description: As the caller sees it; there when ready}\n"
        "        state: {type: string, enum: [ready, pulling, failed, refused]}\n"
        "        code: {type: string, nullable: true, description: Of what went wrong; with ready, of a refresh that failed}\n"
        "        detail: {type: string, nullable: true}\n"
        "        since: {type: string, format: date-time, description: With times=1}\n"
        "        problems: {type: array, items: {$ref: '#/components/schemas/FieldProblem'}}\n"
        "    FieldProblem: {type: object, properties: {field: {type: string}, detail: {type: string}}}\n"
        "    ResourceList:\n"
        "      type: object\n"
        "      required: [resources]\n"
        "      properties:\n"
        "        resources:\n"
        "          type: array\n"
        "          items:\n"
        "            type: object\n"
        "            properties:\n"
        "              kind: {type: string, description: 'Also Secret, Pod and File, where something is wrong with one'}\n"
        "              namespace: {type: string}\n"
        "              name: {type: string}\n"
        "              source: {type: string, description: The file it came from}\n"
        "              state: {type: string, enum: [accepted, refused, ignored]}\n"
        "              problems: {type: array, items: {$ref: '#/components/schemas/FieldProblem'}}\n"
        "        continue: {type: string, description: Given when there is more}\n"
        "    Config: {type: object, description: As wasmcached.yaml(5)}\n"
        "    Status: {type: object}\n"
        "    Result: {type: object}\n";

static void put_problem_schema(struct buffer *out)
{
        buffer_append_text(out, "    Problem:\n      type: object\n      required: [type, title, status, detail, code]\n      properties:\n        type: {type: string}\n "
                "       title: {type: string}\n"
                "        status: {type: integer}\n        detail: {type: string}\n        code:\n          type: string\n          enum: [");
        for (int code = ERROR_NONE + 1; code < ERROR_CODES; code++)
                buffer_printf(out, "%s%s", code > ERROR_NONE + 1 ? ", " : "", error_get_row((enum error_code)code)->name);
        buffer_append_text(out, "]\n");
}

static bool is_media_type(const char *answer)
{
        return strchr(answer, '/');
}

static void put_parameters(const struct api_route *route, struct buffer *out)
{
        const char *brace = strchr(route->path, '{');
        if (!brace && !route->query)
                return;
        buffer_append_text(out, "      parameters:\n");
        if (brace)
                buffer_printf(out, "        - {name: %.*s, in: path, required: true, schema: {type: string}}\n", (int)strcspn(brace + 1, "}"), brace + 1);
        for (const struct api_query *query = route->query; query && query->name; query++)
                buffer_printf(out, "        - {name: %s, in: query, description: \"%s\", schema: %s}\n", query->name, query->prose,
                              api_query_repeats(query->name) ? "{type: array, items: {type: string}}" : "{type: string}");
}

/* Answers besides 200 that are no problem. */
static void put_more_answers(const struct api_route *route, bool is_head, struct buffer *out)
{
        bool is_content = string_equal(route->answer, "application/wasm");
        if (is_content && !is_head)
                buffer_append_text(out, "        '206': {description: The range asked for, content: {application/wasm: {schema: {type: string, format: binary}}}}\n");
        if (is_content || string_equal(route->answer, "Chain"))
                buffer_append_text(out, "        '304': {description: If-None-Match has it already}\n");
}

static void put_operation(const struct api_route *route, const char *method, struct buffer *out)
{
        static const char *const WHO[] = { [API_ADMIN] = "admin", [API_AGENT | API_ADMIN] = "agent", [API_AGENT | API_ADMIN | API_METRICS] = "metrics" };
        buffer_printf(out, "    %s:\n      summary: \"%s\"\n      tags: [%s]\n", method, route->summary, WHO[route->who]);
        put_parameters(route, out);
        if (route->schema)
                buffer_printf(out, "      requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/%s'}}}}\n", route->schema);
        buffer_append_text(out, "      responses:\n");
        if (!route->answer)
                buffer_append_text(out, "        '204': {description: Done}\n");
        else if (string_equal(method, "head"))
                buffer_append_text(out, "        '200': {description: Headers alone}\n");
        else if (is_media_type(route->answer))
                buffer_printf(out, "        '200': {description: Done, content: {%s: {schema: {type: string%s}}}}\n", route->answer,
                              string_equal(route->answer, "application/wasm") ? ", format: binary" : "");
        else
                buffer_printf(out, "        '200': {description: Done, content: {application/json: {schema: {$ref: '#/components/schemas/%s'}}}}\n", route->answer);
        put_more_answers(route, string_equal(method, "head"), out);
        buffer_append_text(out, "        default: {$ref: '#/components/responses/Problem'}\n");
}

static void put_path(size_t first, struct buffer *out)
{
        static const struct { const char *method, *name; } METHODS[] = { { "GET", "get" }, { "POST", "post" }, { "PUT", "put" }, { "DELETE", "delete" } };
        for (size_t i = 0; i < first; i++)
                if (string_equal(api_routes[i].path, api_routes[first].path))
                        return;
        buffer_printf(out, "  %s:\n", api_routes[first].path);
        for (size_t i = first; i < api_route_count; i++) {
                if (!string_equal(api_routes[i].path, api_routes[first].path))
                        continue;
                for (size_t m = 0; m < COUNT_OF(METHODS); m++)
                        if (string_equal(METHODS[m].method, api_routes[i].method))
                                put_operation(&api_routes[i], METHODS[m].name, out);
                if (string_equal(api_routes[i].answer, "application/wasm"))
                        put_operation(&api_routes[i], "head", out);
        }
}

void api_print_openapi(const char *version, struct buffer *out)
{
        buffer_printf(out,
                "openapi: 3.0.3\n"
                "info:\n"
                "  title: wasmcached\n"
                "  version: \"%s\"\n"
                "  description: >-\n"
                "    Modules for local proxies over a Unix socket. Tags say which listener has a route - metrics on every one, agent on agent and admin sockets, admin on "
                "the admin socket only.\n"
                "  license: {name: Apache-2.0}\n"
                "servers:\n"
                "  - {url: 'http://localhost', description: 'Unix sockets: curl --unix-socket /run/wasmcached/agent.sock http://localhost/v1/modules'}\n"
                "paths:\n",
                version);
        for (size_t i = 0; i < api_route_count; i++)
                put_path(i, out);
        buffer_append_text(out, SCHEMAS);
        put_problem_schema(out);
}
