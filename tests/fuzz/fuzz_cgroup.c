/* Any text of /proc/PID/cgroup: what is found is well-formed, and what a container puts below its own group changes nothing. */
#include <stdlib.h>
#include <string.h>
#include <wasmcached/kube.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const char own[] = "0::/kubepods/pod2c48913c-b29f-11e7-9350-020968147796/9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961/";
        struct kube_cgroup cgroup;
        struct error err = { 0 };

        if (kube_cgroup_read((const char *)data, size, &cgroup, &err)) {
                if (strlen(cgroup.pod) != (cgroup.is_static ? 32u : 36u) || strspn(cgroup.pod, "0123456789abcdef-") != strlen(cgroup.pod))
                        abort();
                if (*cgroup.container && (strlen(cgroup.container) != 64 || strspn(cgroup.container, "0123456789abcdef") != 64))
                        abort();
        } else if (err.code != ERROR_DENIED) {
                abort();
        }

        /* a group's name may hold anything but '/' and line ends; deeper ones are its own too */
        size_t length = size < 4096 ? size : 4096;
        char *text = malloc(sizeof own + length);
        memcpy(text, own, sizeof own - 1);
        for (size_t i = 0; i < length; i++)
                text[sizeof own - 1 + i] = data[i] == '\n' || data[i] == '\0' ? 'n' : (char)data[i];
        if (kube_cgroup_read(text, sizeof own - 1 + length, &cgroup, &err) &&
            (strcmp(cgroup.pod, "2c48913c-b29f-11e7-9350-020968147796") != 0 || !string_starts_with(cgroup.container, "9bca8d63d5fa")))
                abort();
        free(text);
        return 0;
}
