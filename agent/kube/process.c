/*
 * How it goes: /proc/PID/cgroup is read whole and understood by kube_cgroup_read(). cgroup(5) files of other users may be read by everybody where /proc is not hidden (hidepid).
 * How it fails: what is not there, cannot be read, or is too long to be the kernel's is ERROR_DENIED: no pod.
 * How it ends: plain values; that the number still is the same process's is the caller's to prove afterwards.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <wasmcached/kube/process.h>
#include "room.h"

enum { CGROUP_FILE_BYTES_MAX = 64 << 10 };

bool process_read_at(const char *proc, pid_t pid, struct kube_cgroup *ret_cgroup, struct error *err)
{
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        CLEANUP(cleanup_free) char *path = string_format("%s/%d/cgroup", proc, (int)pid);
        struct error why = { 0 };
        if (pid <= 0 || !fs_load(AT_FDCWD, path, CGROUP_FILE_BYTES_MAX, &text, &why))
                return refuse(err, ERROR_DENIED, "the caller's cgroup cannot be read: %s%s", pid <= 0 ? "its process cannot be seen from here" : why.text,
                              why.code == ERROR_NOT_FOUND ? "; does something hide other users' processes (hidepid, ProtectProc)?" : "");
        return kube_cgroup_read(text.data ? text.data : "", text.used, ret_cgroup, err);
}

bool kube_process_read(pid_t pid, struct kube_cgroup *ret_cgroup, struct error *err)
{
        const char *proc = "/proc";
#ifdef WASMCACHED_FAULTS
        proc = getenv("WASMCACHED_TEST_PROC") ? getenv("WASMCACHED_TEST_PROC") : proc;       /* a test's, where it may make no cgroups */
#endif
        return process_read_at(proc, pid, ret_cgroup, err);
}
