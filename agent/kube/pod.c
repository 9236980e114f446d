/*
 * How it goes: a Pod object is read for what identity needs; a cgroup text is read line by line, each path segment by segment from the root side, so that what a container
 *              makes below its own group (any name it likes) comes after what the kubelet made.
 * How it fails: a path that is no pod's, or lines that say different things, are ERROR_DENIED: unknown is refused, never guessed.
 * How it ends: kube_pod_fini(); the rest is plain values.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/kube/process.h>
#include "room.h"

enum { CONTAINERS_MAX = 1000, LABELS_MAX = 1000, CGROUP_BYTES_MAX = 64 << 10, ID_LENGTH = 64, HASH_LENGTH = 32, UID_LENGTH = 36 };

void kube_pod_fini(struct kube_pod *pod)
{
        for (size_t i = 0; i < pod->label_count; i++) {
                free(pod->labels[i].name);
                free(pod->labels[i].value);
        }
        for (size_t i = 0; i < pod->container_count; i++)
                free(pod->containers[i]);
        free(pod->labels);
        free(pod->containers);
        free(pod->namespace);
        free(pod->name);
        free(pod->uid);
        free(pod->node_name);
        free(pod->service_account);
        free(pod->mirror_hash);
        *pod = (struct kube_pod){ 0 };
}

static bool is_hex(const char *text, size_t length)
{
        for (size_t i = 0; i < length; i++)
                if (!isdigit((unsigned char)text[i]) && !(text[i] >= 'a' && text[i] <= 'f'))
                        return false;
        return true;
}

/* ---- the object */
static const char *text_of(const struct value *map, const char *name)
{
        const char *text = value_get_text(value_get_member(map, name));
        return text ? text : "";
}

/* "containerd://<64 hex>", "cri-o://<64 hex>"; a container that was not made yet has none. */
static void containers_read(const struct value *statuses, struct kube_pod *pod)
{
        for (size_t i = 0; i < value_get_count(statuses) && pod->container_count < CONTAINERS_MAX; i++) {
                const char *id = strstr(text_of(value_get_item(statuses, i), "containerID"), "://");
                if (!id || strlen(id + 3) != ID_LENGTH || !is_hex(id + 3, ID_LENGTH))
                        continue;
                pod->containers = memory_resize(pod->containers, pod->container_count + 1, sizeof *pod->containers);
                pod->containers[pod->container_count++] = string_copy(id + 3);
        }
}

static bool labels_read(const struct value *labels, struct kube_pod *pod, struct error *err)
{
        size_t count = value_get_count(labels);
        if (count > LABELS_MAX)
                return refuse(err, ERROR_UPSTREAM_ERROR, "metadata.labels has more than %d members", LABELS_MAX);
        pod->labels = memory_new(count + 1, sizeof *pod->labels);
        for (size_t i = 0; i < count; i++) {
                const char *text = value_get_text(value_get_item(labels, i));
                if (!text)
                        return refuse(err, ERROR_UPSTREAM_ERROR, "metadata.labels: every value must be of type string");
                pod->labels[pod->label_count++] = (struct kube_label){ string_copy(value_get_key(labels, i)), string_copy(text) };
        }
        return true;
}

/* Anybody may write annotations; that a Node owns the pod only the API server's admission lets through for that node itself. */
static void mirror_read(const struct value *metadata, struct kube_pod *pod)
{
        const struct value *annotations = value_get_member(metadata, "annotations"), *owners = value_get_member(metadata, "ownerReferences");
        const char *hash = text_of(annotations, "kubernetes.io/config.mirror");
        bool is_of_node = false;
        for (size_t i = 0; i < value_get_count(owners); i++)
                is_of_node = is_of_node || (pod->node_name && *pod->node_name && strcmp(text_of(value_get_item(owners, i), "kind"), "Node") == 0 &&
                                            strcmp(text_of(value_get_item(owners, i), "apiVersion"), "v1") == 0 &&
                                            strcmp(text_of(value_get_item(owners, i), "name"), pod->node_name) == 0);
        if (is_of_node && strlen(hash) == HASH_LENGTH && is_hex(hash, HASH_LENGTH) && strcmp(hash, text_of(annotations, "kubernetes.io/config.hash")) == 0)
                pod->mirror_hash = string_copy(hash);
}

void kube_pod_read_running(const struct value *object, struct kube_pod *pod)
{
        static const char *const lists[] = { "initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses" };
        const struct value *status = value_get_member(object, "status");
        for (size_t i = 0; i < COUNT_OF(lists); i++)
                containers_read(value_get_member(status, lists[i]), pod);
        mirror_read(value_get_member(object, "metadata"), pod);
}

bool kube_pod_read(const struct value *object, struct kube_pod *ret_pod, struct error *err)
{
        const struct value *metadata = NULL, *spec = NULL, *status = NULL, *labels = NULL;
        CLEANUP(kube_pod_fini) struct kube_pod pod = { 0 };
        if (!value_read_map(object, "metadata", ERROR_UPSTREAM_ERROR, &metadata, err) || !value_read_map(object, "spec", ERROR_UPSTREAM_ERROR, &spec, err) ||
            !value_read_map(object, "status", ERROR_UPSTREAM_ERROR, &status, err) || !value_read_map(metadata, "labels", ERROR_UPSTREAM_ERROR, &labels, err))
                return refuse_within(err, "Pod");
        pod.namespace = string_copy(text_of(metadata, "namespace"));
        pod.name = string_copy(text_of(metadata, "name"));
        pod.uid = string_copy(text_of(metadata, "uid"));
        pod.node_name = string_copy(text_of(spec, "nodeName"));
        pod.service_account = string_copy(text_of(spec, "serviceAccountName"));
        pod.is_ended = strcmp(text_of(status, "phase"), "Succeeded") == 0 || strcmp(text_of(status, "phase"), "Failed") == 0;
        if (!string_is_dns(pod.namespace, 63, false) || !string_is_dns(pod.name, 253, true) || !*pod.uid)
                return refuse(err, ERROR_UPSTREAM_ERROR, "Pod: metadata needs namespace, name and uid");
        if (!labels_read(labels, &pod, err))
                return refuse_within(err, "Pod %s/%s", pod.namespace, pod.name);
        kube_pod_read_running(object, &pod);
        *ret_pod = pod;
        pod = (struct kube_pod){ 0 };
        return true;
}

/* ---- /proc/PID/cgroup */
struct segment { const char *text; size_t length; };

static bool segment_next(const char **at, const char *end, struct segment *ret_segment)
{
        while (*at < end && **at == '/')
                (*at)++;
        const char *start = *at;
        while (*at < end && **at != '/')
                (*at)++;
        *ret_segment = (struct segment){ start, (size_t)(*at - start) };
        return *at > start;
}

static bool segment_starts(const struct segment *segment, const char *prefix)
{
        return segment->length >= strlen(prefix) && memcmp(segment->text, prefix, strlen(prefix)) == 0;
}

static bool is_word(char c)
{
        return isalnum((unsigned char)c) || c == '_';
}

/* 8-4-4-4-12 hex digits, all with '-' (cgroupfs) or all with '_' (systemd, where '-' means a child); written with '-'. */
static bool uid_take(const char *text, size_t room, char ret_uid[UID_LENGTH + 1])
{
        if (room < UID_LENGTH)
                return false;
        char mark = text[8];
        for (size_t i = 0; i < UID_LENGTH; i++) {
                bool is_mark = i == 8 || i == 13 || i == 18 || i == 23;
                if (is_mark ? text[i] != mark : !is_hex(text + i, 1))
                        return false;
                ret_uid[i] = is_mark ? '-' : text[i];
        }
        ret_uid[UID_LENGTH] = '\0';
        return mark == '-' || mark == '_';
}

/* "pod<UID>" or "pod<32 hex>" as a word of its own in one segment. *ret_end is the offset behind it. */
static bool pod_find(const struct segment *segment, struct kube_cgroup *cgroup, size_t *ret_end)
{
        for (size_t i = 0; i + 3 < segment->length; i++) {
                const char *at = segment->text + i + 3;
                size_t room = segment->length - i - 3;
                if (memcmp(segment->text + i, "pod", 3) != 0 || (i > 0 && is_word(segment->text[i - 1])))
                        continue;
                bool is_static = !uid_take(at, room, cgroup->pod);
                size_t length = is_static ? HASH_LENGTH : UID_LENGTH;
                if ((is_static && (room < HASH_LENGTH || !is_hex(at, HASH_LENGTH))) || (room > length && is_word(at[length])))
                        continue;
                if (is_static)
                        snprintf(cgroup->pod, sizeof cgroup->pod, "%.*s", HASH_LENGTH, at);
                cgroup->is_static = is_static;
                *ret_end = i + 3 + length;
                return true;
        }
        cgroup->pod[0] = '\0';
        return false;
}

/* The first 64 hex digits that are a word; cri-o's monitor is no container. */
static bool container_find(const struct segment *segment, char ret_id[ID_LENGTH + 1])
{
        if (segment_starts(segment, "crio-conmon-"))
                return false;
        for (size_t i = 0; i + ID_LENGTH <= segment->length; i++) {
                bool is_alone = (i == 0 || !is_word(segment->text[i - 1])) && (i + ID_LENGTH == segment->length || !is_word(segment->text[i + ID_LENGTH]));
                if (!is_alone || !is_hex(segment->text + i, ID_LENGTH))
                        continue;
                memcpy(ret_id, segment->text + i, ID_LENGTH);
                ret_id[ID_LENGTH] = '\0';
                return true;
        }
        return false;
}

enum line_end { LINE_NO_POD, LINE_POD, LINE_FORGED };

/* Of one path. A path from outside of our cgroup namespace ("/../…") may hide the kubepods group. */
static enum line_end path_read(const char *path, const char *end, struct kube_cgroup *ret_cgroup)
{
        bool is_below = end - path >= 4 && memcmp(path, "/../", 4) == 0, has_pod = false, is_users = false;
        struct kube_cgroup cgroup = { 0 };
        struct segment segment;
        while (segment_next(&path, end, &segment)) {
                size_t behind = 0;
                if (!has_pod && pod_find(&segment, &cgroup, &behind)) {
                        if (is_users || !is_below)
                                return LINE_FORGED;
                        has_pod = true;
                        segment = (struct segment){ segment.text + behind, segment.length - behind };
                        if (container_find(&segment, cgroup.container))
                                break;
                        continue;
                }
                if (has_pod && container_find(&segment, cgroup.container))
                        break;
                is_below = is_below || segment_starts(&segment, "kubepods") || segment_starts(&segment, "kubelet-kubepods");
                is_users = is_users || (segment.length == 10 && segment_starts(&segment, "user.slice"));       /* a login may be delegated a tree and names in it */
        }
        if (has_pod)
                *ret_cgroup = cgroup;
        return has_pod ? LINE_POD : LINE_NO_POD;
}

/* Behind the second colon of "id:controllers:path" (cgroups(7)). */
static const char *path_find(const char *line, const char *end)
{
        const char *colon = memchr(line, ':', (size_t)(end - line));
        const char *path = colon ? memchr(colon + 1, ':', (size_t)(end - colon - 1)) : NULL;
        return path && path + 1 < end && path[1] == '/' ? path + 1 : NULL;
}

static bool cgroups_agree(const struct kube_cgroup *a, const struct kube_cgroup *b)
{
        return strcmp(a->pod, b->pod) == 0 && (!*a->container || !*b->container || strcmp(a->container, b->container) == 0);
}

bool kube_cgroup_read(const char *text, size_t size_bytes, struct kube_cgroup *ret_cgroup, struct error *err)
{
        static const char gone[] = " (deleted)";
        struct kube_cgroup found = { 0 };
        if (size_bytes > CGROUP_BYTES_MAX || memchr(text, '\0', size_bytes))
                return refuse(err, ERROR_DENIED, "the caller's cgroup cannot be read");
        for (const char *line = text, *all = text + size_bytes; line < all;) {
                const char *end = memchr(line, '\n', (size_t)(all - line));
                end = end ? end : all;
                const char *path = path_find(line, end);
                struct kube_cgroup cgroup = { 0 };
                line = end + 1;
                if (!path)
                        continue;
                if ((size_t)(end - path) >= sizeof gone - 1 && memcmp(end - (sizeof gone - 1), gone, sizeof gone - 1) == 0)
                        return refuse(err, ERROR_DENIED, "the caller's cgroup is gone: it is dying");
                enum line_end is = path_read(path, end, &cgroup);
                if (is == LINE_FORGED)
                        return refuse(err, ERROR_DENIED, "the caller's cgroup names a pod, but is not below a group of the kubelet");
                if (is == LINE_NO_POD)
                        continue;
                if (*found.pod && !cgroups_agree(&found, &cgroup))
                        return refuse(err, ERROR_DENIED, "the caller's cgroups name different pods or containers");
                if (!*found.pod || !*found.container)
                        found = cgroup;
        }
        if (!*found.pod)
                return refuse(err, ERROR_DENIED, "the caller runs in no pod: its cgroup names none");
        *ret_cgroup = found;
        return true;
}
