/* Part of the door kube.h: what who-is-asking needs besides: the cgroup of a process, and what is remembered of tokens. Neither makes a request. */
#pragma once
#include <sys/types.h>
#include <wasmcached/kube.h>

/* kube_cgroup_read() of /proc/PID/cgroup: a small read, no waiting. ERROR_DENIED says why it is no pod's. */
bool kube_process_read(pid_t pid, struct kube_cgroup *ret_cgroup, struct error *err);
/* What kube_reviews_fetch() would say without asking the server. False with ERROR_NONE: it would ask; else its refusal. In memory, any thread. */
bool kube_reviews_find(struct kube_reviews *reviews, const char *token, struct kube_caller *ret_caller, struct error *err);
/* Its pod is not known here, or no longer: what is remembered of the token counts for 10 s from its review on. False: it does not any more, ask again. In memory, any thread. */
bool kube_reviews_doubt(struct kube_reviews *reviews, const char *token);
/* Of a Pod object whatever is there of container ids and mirror hash, into `pod`, whose node_name is set or NULL. In memory. */
void kube_pod_read_running(const struct value *object, struct kube_pod *pod);
