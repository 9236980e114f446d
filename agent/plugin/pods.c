/*
 * How it goes: Pods are found by UID, static ones by the config hash of their mirror Pod, and container ids by the Pod that lists them; all anew whenever a source's Pods change.
 * How it fails: an UID, hash or container id that two Pods claim is nobody's. A container id that is listed for another Pod than its cgroup says is refused; one that is listed
 *              nowhere yet is not, since the kubelet made the cgroup and its UID is the proof, and statuses come later. Where Pods are told of by the API server, nobody is said
 *              to be in no Pod before it has told of any, or while it cannot be asked.
 * How it ends: the maps borrow from the keeper's Pods.
 */
#include <wasmcached/kube.h>
#include "keeper.h"

static const struct plugin_pod nobody;             /* stands where two claim the same */

static void index_put(struct map *map, const char *key, const struct plugin_pod *pod)
{
        const struct plugin_pod *before = map_get_text(map, key);
        map_put_text(map, key, (void *)(uintptr_t)(before && before != pod ? &nobody : pod));
}

void pods_index_clear(struct keeper *keeper)
{
        struct map **maps[] = { &keeper->pods_by_uid, &keeper->pods_by_mirror, &keeper->pods_by_container };
        for (size_t i = 0; i < COUNT_OF(maps); i++) {
                map_free(maps[i]);
                *maps[i] = map_new(NULL);
        }
}

void pods_index_put(struct keeper *keeper, const struct plugin_pod *pod)
{
        if (pod->uid)
                index_put(keeper->pods_by_uid, pod->uid, pod);
        if (pod->mirror_hash)
                index_put(keeper->pods_by_mirror, pod->mirror_hash, pod);
        for (size_t i = 0; i < pod->container_count; i++)
                index_put(keeper->pods_by_container, pod->containers[i], pod);
}

void pods_index_free(struct keeper *keeper)
{
        map_free(&keeper->pods_by_uid);
        map_free(&keeper->pods_by_mirror);
        map_free(&keeper->pods_by_container);
}

const struct plugin_pod *keeper_find_pod(const struct keeper *keeper, const char *uid)
{
        const struct plugin_pod *pod = map_get_text(keeper->pods_by_uid, uid);
        return pod == &nobody ? NULL : pod;
}

void keeper_expect_pods(struct keeper *keeper, const char *source)
{
        free(keeper->pods_told_by);
        keeper->pods_told_by = string_copy(source);
        keeper->pods_have_come = false;
}

void keeper_arrive_pods(struct keeper *keeper, const char *source)
{
        keeper->pods_have_come |= string_equal(keeper->pods_told_by, source);
}

static const struct plugin_pod *pod_by_cgroup(const struct keeper *keeper, const struct kube_cgroup *cgroup)
{
        return map_get_text(cgroup->is_static ? keeper->pods_by_mirror : keeper->pods_by_uid, cgroup->pod);
}

bool keeper_may_learn_of(const struct keeper *keeper, const struct kube_cgroup *cgroup)
{
        return keeper->pods_have_come && !pod_by_cgroup(keeper, cgroup);
}

/* Nobody who may be a Pod's is told that he is none. */
static void refuse_unknown(const struct keeper *keeper, const struct kube_cgroup *cgroup, struct error *err)
{
        const char *what = cgroup->is_static ? "config hash" : "UID", *why = keeper->pods_told_by ? map_get_text(keeper->troubles, keeper->pods_told_by) : NULL;
        if (keeper->pods_told_by && (!keeper->pods_have_come || why)) {
                refuse(err, ERROR_BUSY, "no pod with the %s %s is known yet: %s; ask again in a moment%s%s", what, cgroup->pod,
                        keeper->pods_have_come ? "the API server cannot be asked for those that have just started" : "the pods of this node have not been listed",
                        why ? "; what lacks: " : "", why ? why : "");
                err->retry_after_s = 1;
        } else
                refuse(err, ERROR_DENIED, "no pod with the %s %s is known on this node%s", what, cgroup->pod, cgroup->is_static ? ": no mirror pod tells of it" : "");
}

const struct plugin_pod *keeper_find_pod_of(const struct keeper *keeper, const struct kube_cgroup *cgroup, struct error *err)
{
        const struct plugin_pod *pod = pod_by_cgroup(keeper, cgroup);
        if (!pod)
                refuse_unknown(keeper, cgroup, err);
        else if (pod == &nobody)
                refuse(err, ERROR_DENIED, "more than one pod has the %s %s", cgroup->is_static ? "config hash" : "UID", cgroup->pod);
        if (!pod || pod == &nobody)
                return NULL;
        const struct plugin_pod *owner = *cgroup->container ? map_get_text(keeper->pods_by_container, cgroup->container) : NULL;
        if (!owner || owner == pod)
                return pod;
        refuse(err, ERROR_DENIED, "the caller's cgroup is of pod %s/%s, but its container %.12s is listed for %s%s%s", pod->namespace, pod->name, cgroup->container,
               owner == &nobody ? "more than one pod" : owner->namespace, owner == &nobody ? "" : "/", owner == &nobody ? "" : owner->name);
        return NULL;
}
