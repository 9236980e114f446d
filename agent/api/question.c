/*
 * How it goes: the query's parameters become a workload and its traffic; labels are sorted, so that one workload is always the same question.
 * How it fails: malformed parameters are 400 and named; what this listener's callers may not say of themselves is 403.
 * How it ends: api_question_fini().
 */
#include <stdlib.h>
#include <string.h>
#include "front.h"

enum { LABELS_MAX = 256, SERVICES_MAX = 256, LABEL_PART_MAX = 63, LABEL_PREFIX_MAX = 253, PORT_MAX = 65535 };

static bool is_alphanumeric(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Kubernetes' rule for values and for the part of a key behind its prefix. */
static bool is_label_part(const char *text, bool may_be_empty)
{
        size_t length = strlen(text);
        if (length == 0)
                return may_be_empty;
        for (size_t i = 0; i < length; i++)
                if (!is_alphanumeric(text[i]) && !strchr("-_.", text[i]))
                        return false;
        return length <= LABEL_PART_MAX && is_alphanumeric(text[0]) && is_alphanumeric(text[length - 1]);
}

static bool is_label_key(char *key)
{
        char *slash = strchr(key, '/');
        if (!slash)
                return is_label_part(key, false);
        *slash = '\0';
        bool is_good = string_is_dns(key, LABEL_PREFIX_MAX, true) && is_label_part(slash + 1, false);
        *slash = '/';
        return is_good;
}

static int by_key(const void *a, const void *b)
{
        return strcmp(((const struct plugin_label *)a)->key, ((const struct plugin_label *)b)->key);
}

static bool refuse_parameter(struct error *err, const char *name, const char *value, const char *needed)
{
        char shown[80];
        return refuse(err, ERROR_BAD_REQUEST, "query parameter \"%s\": \"%s\" is not %s", name, string_printable(value, strlen(value), shown, sizeof shown), needed);
}

static bool labels_read(const struct api_call *call, struct api_question *question, struct error *err)
{
        const char *text;
        question->labels = memory_new(LABELS_MAX, sizeof *question->labels);
        for (size_t i = 0; (text = serve_request_get_query(call->request, "label", i)); i++) {
                const char *equals = strchr(text, '=');
                if (question->label_count == LABELS_MAX)
                        return refuse(err, ERROR_BAD_REQUEST, "query parameter \"label\": given more than %d times", LABELS_MAX);
                if (!equals)
                        return refuse_parameter(err, "label", text, "of the form key=value");
                struct plugin_label label = { string_copy_bytes(text, (size_t)(equals - text)), string_copy(equals + 1) };
                question->labels[question->label_count++] = label;
                if (!is_label_key(label.key) || !is_label_part(label.value, true))
                        return refuse_parameter(err, "label", text, "a label as Kubernetes allows it");
        }
        if (question->label_count > 1)
                qsort(question->labels, question->label_count, sizeof *question->labels, by_key);
        for (size_t i = 1; i < question->label_count; i++)
                if (strcmp(question->labels[i - 1].key, question->labels[i].key) == 0)
                        return refuse(err, ERROR_BAD_REQUEST, "query parameter \"label\": \"%.80s\" is given twice", question->labels[i].key);
        return true;
}

static bool services_read(const struct api_call *call, const char *name, bool is_entry, struct api_question *question, struct error *err)
{
        const char *text;
        if (!question->services)
                question->services = memory_new(2 * SERVICES_MAX, sizeof *question->services);
        for (size_t i = 0; (text = serve_request_get_query(call->request, name, i)); i++) {
                const char *slash = strchr(text, '/');
                if (i == SERVICES_MAX)
                        return refuse(err, ERROR_BAD_REQUEST, "query parameter \"%s\": given more than %d times", name, SERVICES_MAX);
                if (!slash)
                        return refuse_parameter(err, name, text, "of the form namespace/name");
                struct plugin_service service = { is_entry, string_copy_bytes(text, (size_t)(slash - text)), string_copy(slash + 1) };
                question->services[question->service_count++] = service;
                if (!string_is_dns(service.namespace, 63, false) || !string_is_dns(service.name, 253, true))
                        return refuse_parameter(err, name, text, "of the form namespace/name");
        }
        return true;
}

static bool choice_read(const struct api_call *call, const char *name, const char *const *words, const char *needed, unsigned *ret_choice, struct error *err)
{
        const char *text = serve_request_get_query(call->request, name, 0);
        if (!text)
                return true;
        for (unsigned i = 0; words[i]; i++)
                if (strcmp(words[i], text) == 0) {
                        *ret_choice = i;
                        return true;
                }
        return refuse_parameter(err, name, text, needed);
}

static bool traffic_read(const struct api_call *call, struct plugin_traffic *ret_traffic, struct error *err)
{
        static const char *const directions[] = { "inbound", "outbound", "gateway", NULL }, *const types[] = { "HTTP", "NETWORK", NULL };
        const char *port = serve_request_get_query(call->request, "port", 0);
        unsigned direction = 3, type = PLUGIN_ANY_TYPE;
        if (!choice_read(call, "direction", directions, "one of inbound, outbound, gateway", &direction, err) ||
                !choice_read(call, "type", types, "one of HTTP, NETWORK", &type, err))
                return false;
        *ret_traffic = (struct plugin_traffic){ .direction = direction == 3 ? PLUGIN_ANY_DIRECTION : PLUGIN_INBOUND + direction, .type = type };
        if (!port)
                return true;
        size_t digits = strspn(port, "0123456789");
        unsigned long number = digits > 0 && digits <= 5 && !port[digits] ? strtoul(port, NULL, 10) : 0;
        if (number < 1 || number > PORT_MAX || port[0] == '0')
                return refuse_parameter(err, "port", port, "a number from 1 to 65535");
        ret_traffic->port = (uint16_t)number;
        return true;
}

/* Malformed is 400 wherever it is said; then comes who may say it. */
static bool namespace_read(const struct api_call *call, struct api_question *question, struct error *err)
{
        const char *namespace = serve_request_get_query(call->request, "namespace", 0), *own = call->caller.namespace;
        bool is_trusted = call->listener->identity == API_IDENTITY_TRUSTED;
        if (namespace && !string_is_dns(namespace, 63, false))
                return refuse_parameter(err, "namespace", namespace, "a DNS label (at most 63 of a-z, 0-9 and -)");
        if (namespace && !is_trusted && call->listener->identity != API_IDENTITY_POD && strcmp(namespace, own) != 0)
                return refuse(err, ERROR_DENIED, "query parameter \"namespace\": callers of this socket are in \"%s\" and cannot ask for another namespace", own);
        question->namespace = string_copy(namespace ? namespace : is_trusted ? "default" : own);
        return true;
}

static void labels_free(struct api_question *question)
{
        for (size_t i = 0; i < question->label_count; i++) {
                free(question->labels[i].key);
                free(question->labels[i].value);
        }
        free(TAKE(question->labels));
        question->label_count = 0;
}

void api_question_set_pod(struct api_question *question, const struct plugin_pod *pod)
{
        labels_free(question);
        question->labels = memory_new(pod->label_count + 1, sizeof *question->labels);
        for (; question->label_count < pod->label_count; question->label_count++) {
                const struct plugin_label *label = &pod->labels[question->label_count];
                question->labels[question->label_count] = (struct plugin_label){ string_copy(label->key), string_copy(label->value) };
        }
        qsort(question->labels, question->label_count, sizeof *question->labels, by_key);
}

/* A pod is what it is, and says nothing of itself. */
static bool pod_read(const struct api_call *call, struct api_question *question, struct error *err)
{
        static const char *const own[] = { "namespace", "label", "service", "serviceEntry" };
        if (call->listener->identity != API_IDENTITY_POD)
                return true;
        for (size_t i = 0; i < COUNT_OF(own); i++)
                if (serve_request_get_query(call->request, own[i], 0))
                        return refuse(err, ERROR_DENIED, "query parameter \"%s\": who asks on this socket is known by its pod and cannot say it", own[i]);
        if (!call->pod)
                return refuse(err, ERROR_BUSY, "the labels of the pod that asks are not known yet; ask again in a moment");
        api_question_set_pod(question, call->pod);
        return true;
}

bool api_question_read(struct api_call *call, struct api_question *ret_question, struct error *err)
{
        struct api_question *question = ret_question;
        const char *times = serve_request_get_query(call->request, "times", 0);
        *question = (struct api_question){ .has_times = times && strcmp(times, "1") == 0 };
        if (times && strcmp(times, "0") != 0 && strcmp(times, "1") != 0)
                return refuse_parameter(err, "times", times, "0 or 1");
        if (!traffic_read(call, &question->traffic, err) || !labels_read(call, question, err) || !services_read(call, "service", false, question, err) ||
                !services_read(call, "serviceEntry", true, question, err) || !namespace_read(call, question, err))
                return false;
        if (!pod_read(call, question, err))
                return false;
        if (question->service_count > 0 && call->listener->identity != API_IDENTITY_TRUSTED)
                return refuse(err, ERROR_DENIED, "query parameter \"%s\": only callers of a trusted socket may name the services that they serve",
                        question->services[0].is_entry ? "serviceEntry" : "service");
        return true;
}

void api_question_fini(struct api_question *question)
{
        labels_free(question);
        for (size_t i = 0; i < question->service_count; i++) {
                free((void *)(uintptr_t)question->services[i].namespace);
                free((void *)(uintptr_t)question->services[i].name);
        }
        free(question->services);
        free(question->namespace);
        *question = (struct api_question){ 0 };
}

struct plugin_workload api_question_workload(const struct api_question *question)
{
        return (struct plugin_workload){ question->namespace, question->labels, question->label_count, question->services, question->service_count };
}
