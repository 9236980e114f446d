/*
 * How it goes: which workloads (selector, targetRef, targetRefs) and which traffic (match) a plugin is for.
 * How it fails: by problem. A selection with any problem selects nobody, since nobody can know whom. What of a `match` cannot be read counts as any mode, any port, any
 *               traffic, never as less than was meant: the stand-in of a refused AUTHZ plugin fails closed.
 * How it ends: the lists belong to the plugin.
 */
#include "room.h"

static int label_compare(const void *a, const void *b)
{
        return strcmp(((const struct plugin_label *)a)->key, ((const struct plugin_label *)b)->key);
}

static void label_read(struct plugin *plugin, const struct place *labels, const char *key, const struct value *value)
{
        struct place at = place_member(labels, key);
        const char *text = value_get_text(value);
        if (!*key)
                problem_add(plugin, ERROR_BAD_REQUEST, labels, "a label key must not be empty");
        else if (strchr(key, '*'))
                problem_add(plugin, ERROR_BAD_REQUEST, &at, "a label key is matched as it stands; wildcards (*) are not supported");
        else if (!text)
                problem_add(plugin, ERROR_BAD_REQUEST, &at, "must be a string, not %s", value_get_kind_name(value_get_kind(value)));
        else if (strchr(text, '*'))
                problem_add(plugin, ERROR_BAD_REQUEST, &at, "a label value is matched as it stands; wildcards (*) are not supported");
        else if (text_count_characters(text) > PLUGIN_LABEL_VALUE_MAX)
                problem_add(plugin, ERROR_BAD_REQUEST, &at, "a label value has at most %d characters", PLUGIN_LABEL_VALUE_MAX);
        else
                plugin->labels[plugin->label_count++] = (struct plugin_label){ string_copy(key), string_copy(text) };
}

static void selector_read(const struct reading *spec)
{
        static const char *const members[] = { "matchLabels", NULL };
        struct plugin *plugin = spec->plugin;
        struct place at = place_member(&spec->at, "selector");
        const struct value *selector = reading_get(spec, "selector", VALUE_MAP);
        struct reading reading;
        if (!selector || !reading_start(plugin, selector, &at, &reading))
                return;
        reading_only(&reading, "a selector", members);
        const struct value *labels = reading_get(&reading, "matchLabels", VALUE_MAP);
        struct place labels_at = place_member(&at, "matchLabels");
        size_t count = value_get_count(labels);
        if (count > PLUGIN_LABELS_MAX) {
                problem_add(plugin, ERROR_BAD_REQUEST, &labels_at, "has %zu labels, at most %d are allowed", count, PLUGIN_LABELS_MAX);
                return;
        }
        if (count == 0)
                return;
        plugin->labels = memory_new(count, sizeof *plugin->labels);
        for (size_t i = 0; i < count; i++)
                label_read(plugin, &labels_at, value_get_key(labels, i), value_get_item(labels, i));
        qsort(plugin->labels, plugin->label_count, sizeof *plugin->labels, label_compare);
}

/* The four that Istio attaches to; an empty group is the core group. */
static bool target_kind_find(const char *group, const char *kind, enum plugin_target_kind *ret_kind)
{
        static const struct { const char *group, *kind; enum plugin_target_kind target; } rows[] = {
                { "gateway.networking.k8s.io", "Gateway", PLUGIN_GATEWAY }, { "gateway.networking.k8s.io", "GatewayClass", PLUGIN_GATEWAY_CLASS },
                { "core", "Service", PLUGIN_SERVICE }, { "networking.istio.io", "ServiceEntry", PLUGIN_SERVICE_ENTRY },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++)
                if (strcmp(*group ? group : "core", rows[i].group) == 0 && strcmp(kind, rows[i].kind) == 0) {
                        *ret_kind = rows[i].target;
                        return true;
                }
        return false;
}

static void target_read(struct plugin *plugin, const struct value *value, const struct place *at)
{
        static const char *const members[] = { "group", "kind", "name", "namespace", NULL };
        struct reading reading;
        if (!reading_start(plugin, value, at, &reading))
                return;
        reading_only(&reading, "a target reference", members);

        size_t problems = plugin->problem_count;
        const char *group = "", *kind = NULL, *name = NULL;
        const struct value *member = reading_get(&reading, "group", VALUE_TEXT), *namespace = reading_get(&reading, "namespace", VALUE_TEXT);
        group = member ? value_get_text(member) : "";
        reading_text(&reading, "kind", PLUGIN_LABEL_VALUE_MAX, &kind);
        reading_text(&reading, "name", PLUGIN_TARGET_NAME_MAX, &name);
        struct place kind_at = place_member(at, "kind"), name_at = place_member(at, "name"), namespace_at = place_member(at, "namespace");
        if (!kind && !reading_has(&reading, "kind"))
                problem_add(plugin, ERROR_BAD_REQUEST, &kind_at, "is missing");
        if (!name && !reading_has(&reading, "name"))
                problem_add(plugin, ERROR_BAD_REQUEST, &name_at, "is missing");
        if (namespace && *value_get_text(namespace))
                problem_add(plugin, ERROR_BAD_REQUEST, &namespace_at, "must not be set: a target is in the namespace of the resource");
        enum plugin_target_kind target = PLUGIN_GATEWAY;
        if (kind && !target_kind_find(group, kind, &target))
                problem_add(plugin, ERROR_BAD_REQUEST, at,
                        "must be a Service of the core group, a ServiceEntry of networking.istio.io, or a Gateway or GatewayClass of gateway.networking.k8s.io");
        if (plugin->problem_count == problems)
                plugin->targets[plugin->target_count++] = (struct plugin_target){ target, string_copy(name) };
}

/* targetRefs win over targetRef, but both together are refused anyway. */
static void targets_read(const struct reading *spec, bool has_target_ref)
{
        struct plugin *plugin = spec->plugin;
        struct place list_at = place_member(&spec->at, "targetRefs"), one_at = place_member(&spec->at, "targetRef");
        const struct value *list = reading_get(spec, "targetRefs", VALUE_LIST);
        size_t count = value_get_count(list);
        if (count > PLUGIN_TARGETS_MAX) {
                problem_add(plugin, ERROR_BAD_REQUEST, &list_at, "has %zu targets, at most %d are allowed", count, PLUGIN_TARGETS_MAX);
                return;
        }
        plugin->targets = count > 0 || has_target_ref ? memory_new(count + 1, sizeof *plugin->targets) : NULL;
        for (size_t i = 0; i < count; i++) {
                struct place at = place_item(&list_at, i);
                target_read(plugin, value_get_item(list, i), &at);
        }
        const struct value *one = has_target_ref ? value_get_member(spec->map, "targetRef") : NULL;
        if (value_get_kind(one) != VALUE_NULL)
                target_read(plugin, one, &one_at);
}

bool selection_read(const struct reading *spec, bool has_target_ref)
{
        static const char *const ways[] = { "selector", "targetRef", "targetRefs" };
        struct plugin *plugin = spec->plugin;
        size_t problems = plugin->problem_count;
        const char *first = NULL;
        for (size_t i = 0; i < COUNT_OF(ways); i++) {
                if (!reading_has(spec, ways[i]) || (i == 1 && !has_target_ref))
                        continue;
                struct place at = place_member(&spec->at, ways[i]);
                if (first)
                        problem_add(plugin, ERROR_BAD_REQUEST, &at, "only one of selector and target references can be set, and %s is", first);
                first = ways[i];
        }
        selector_read(spec);
        targets_read(spec, has_target_ref);
        return plugin->problem_count == problems;
}

/* False if nobody can know which port is meant. */
static bool port_read(const struct reading *reading, struct plugin_match *match, uint8_t *seen)
{
        static const char *const members[] = { "number", NULL };
        reading_only(reading, "a port", members);
        struct place at = place_member(&reading->at, "number");
        int64_t number = 0;
        if (!reading_has(reading, "number"))
                return problem_add(reading->plugin, ERROR_BAD_REQUEST, &at, "is missing");
        if (!reading_integer(reading, "number", &number))
                return false;
        if (number < 1 || number > PLUGIN_PORT_MAX)
                return problem_add(reading->plugin, ERROR_BAD_REQUEST, &at, "must be 1 to %d, not %lld", PLUGIN_PORT_MAX, (long long)number);
        if (seen[number / 8] & 1 << number % 8)
                problem_add(reading->plugin, ERROR_BAD_REQUEST, &reading->at, "port %lld is there twice", (long long)number);
        else
                match->ports[match->port_count++] = (uint16_t)number;
        seen[number / 8] |= (uint8_t)(1 << number % 8);
        return true;
}

static void ports_read(const struct reading *reading, struct plugin_match *match)
{
        const struct value *list = reading_get(reading, "ports", VALUE_LIST);
        struct place at = place_member(&reading->at, "ports");
        size_t count = value_get_count(list);
        if (count > PLUGIN_PORT_MAX) {
                problem_add(reading->plugin, ERROR_BAD_REQUEST, &at, "has %zu ports, but there are no more than %d", count, PLUGIN_PORT_MAX);
                return;
        }
        uint8_t seen[(PLUGIN_PORT_MAX + 1) / 8] = { 0 };
        bool are_known = true;
        match->ports = count > 0 ? memory_new(count, sizeof *match->ports) : NULL;
        for (size_t i = 0; i < count; i++) {
                struct place item = place_item(&at, i);
                struct reading port;
                if (!reading_start(reading->plugin, value_get_item(list, i), &item, &port) || !port_read(&port, match, seen))
                        are_known = false;
        }
        if (!are_known)
                match->port_count = 0;
}

static void match_read(struct plugin *plugin, const struct value *value, const struct place *at)
{
        static const char *const members[] = { "mode", "ports", NULL }, *const modes[] = { "UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER", NULL };
        struct reading reading;
        struct plugin_match *match = &plugin->matches[plugin->match_count++];
        if (!reading_start(plugin, value, at, &reading))
                return;
        reading_only(&reading, "a match", members);
        unsigned mode = PLUGIN_UNDEFINED;
        reading_choice(&reading, "mode", modes, &mode);
        match->mode = mode;
        ports_read(&reading, match);
}

void matches_read(const struct reading *spec)
{
        struct plugin *plugin = spec->plugin;
        struct place at = place_member(&spec->at, "match");
        const struct value *list = reading_get(spec, "match", VALUE_LIST);
        size_t count = value_get_count(list);
        plugin->matches = count > 0 ? memory_new(count, sizeof *plugin->matches) : NULL;
        for (size_t i = 0; i < count; i++) {
                struct place item = place_item(&at, i);
                match_read(plugin, value_get_item(list, i), &item);
        }
}
