/* Which pod: Pod objects, and the texts of /proc/PID/cgroup as kubelets, container runtimes and attackers write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <wasmcached/kube.h>

#pragma GCC diagnostic ignored "-Wmissing-field-initializers"      /* rows of the tables say only what matters to them */

#define UID "2c48913c-b29f-11e7-9350-020968147796"
#define UID_ "2c48913c_b29f_11e7_9350_020968147796"
#define EVIL "deadbeef-b29f-11e7-9350-020968147796"
#define ID "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961"
#define ID2 "0000000000000000847915bcff0ecac1273e5b4bed3f6fa1b07350e013596100"
#define HASH "0123456789abcdef0123456789abcdef"

static const struct row { const char *name, *text, *pod, *container; bool is_static; const char *why; } rows[] = {
        /* the drivers ([oci] 4.6 item 4) */
        { "v2 cgroupfs, burstable", "0::/kubepods/burstable/pod" UID "/" ID "\n", UID, ID },
        { "v2 cgroupfs, guaranteed", "0::/kubepods/pod" UID "/" ID "\n", UID, ID },
        { "v2 cgroupfs, no line end", "0::/kubepods/besteffort/pod" UID "/" ID, UID, ID },
        { "v2 systemd, containerd", "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" UID_ ".slice/cri-containerd-" ID ".scope\n", UID, ID },
        { "v2 systemd, guaranteed", "0::/kubepods.slice/kubepods-pod" UID_ ".slice/cri-containerd-" ID ".scope\n", UID, ID },
        { "v2 systemd, cri-o", "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" UID_ ".slice/crio-" ID ".scope\n", UID, ID },
        { "v2 systemd, cri-o with inner group", "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" UID_ ".slice/crio-" ID ".scope/container\n", UID, ID },
        { "v2 systemd, docker", "0::/kubepods.slice/kubepods-pod" UID_ ".slice/docker-" ID ".scope\n", UID, ID },
        { "v1, all controllers",
          "12:hugetlb:/kubepods/burstable/pod" UID "/" ID "\n11:devices:/kubepods/burstable/pod" UID "/" ID "\n1:name=systemd:/kubepods/burstable/pod" UID "/" ID "\n", UID, ID },
        { "v1 and hybrid", "5:memory:/kubepods/pod" UID "/" ID "\n1:name=systemd:/kubepods/pod" UID "/" ID "\n0::/system.slice/containerd.service\n", UID, ID },
        { "v1, containerd in one segment", "9:cpu:/kubepods.slice/kubepods-pod" UID_ ".slice:cri-containerd:" ID "\n", UID, ID },
        { "containerd, unpack under its own service", "0::/system.slice/containerd.service/kubepods-burstable-pod" UID_ ".slice:cri-containerd:" ID "\n", NULL, NULL, false, "not below" },
        { "another cgroup root", "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod" UID_ ".slice/cri-containerd-" ID ".scope\n", UID, ID },
        { "kind", "0::/docker/" ID2 "/kubelet/kubepods/besteffort/pod" UID "/" ID "\n", UID, ID },
        { "kind, systemd", "0::/docker/" ID2 "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" UID_ ".slice/cri-containerd-" ID ".scope\n", UID, ID },
        { "other cgroup namespace", "0::/../../kubelet-kubepods-besteffort-pod" UID_ ".slice/cri-containerd-" ID ".scope\n", UID, ID },
        { "other cgroup namespace, cgroupfs", "0::/../../pod" UID "/" ID "\n", UID, ID },
        { "the pod's own group", "0::/kubepods/pod" UID "\n", UID, "" },
        { "cri-o's monitor", "0::/kubepods.slice/kubepods-pod" UID_ ".slice/crio-conmon-" ID ".scope\n", UID, "" },
        { "static pod", "0::/kubepods/burstable/pod" HASH "/" ID "\n", HASH, ID, true },
        { "static pod, systemd", "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" HASH ".slice/cri-containerd-" ID ".scope\n", HASH, ID, true },

        /* a container that names groups below its own */
        { "inner pod", "0::/kubepods/pod" UID "/" ID "/kubepods/pod" EVIL "/" ID2 "\n", UID, ID },
        { "inner pod without container", "0::/kubepods/pod" UID "/x/kubepods/pod" EVIL "/" ID2 "\n", UID, ID2 },
        { "inner container", "0::/kubepods/pod" UID "/" ID "/" ID2 "\n", UID, ID },
        { "inner pod in the next segment's name", "0::/kubepods/pod" UID "/" ID "-pod" EVIL "\n", UID, ID },
        /* somebody who is not below the kubelet's groups */
        { "pod of one's own", "0::/system.slice/pod" EVIL "/" ID "\n", NULL, NULL, false, "not below" },
        { "kubepods behind it", "0::/pod" EVIL "/kubepods/" ID "\n", NULL, NULL, false, "not below" },
        { "kubepods only in its own name", "0::/kubepods-pod" UID_ ".slice/cri-containerd-" ID ".scope\n", NULL, NULL, false, "not below" },
        { "a login's delegated tree", "0::/user.slice/user-1000.slice/user@1000.service/kubepods/pod" EVIL "/" ID "\n", NULL, NULL, false, "not below" },
        { "a login's delegated tree from outside", "0::/../../user.slice/user-1000.slice/user@1000.service/kubepods/pod" EVIL "/" ID "\n", NULL, NULL, false, "not below" },
        { "two pods", "2:cpu:/kubepods/pod" UID "/" ID "\n1:memory:/kubepods/pod" EVIL "/" ID "\n", NULL, NULL, false, "different" },
        { "two containers", "2:cpu:/kubepods/pod" UID "/" ID "\n1:memory:/kubepods/pod" UID "/" ID2 "\n", NULL, NULL, false, "different" },
        { "one of two forged", "2:cpu:/kubepods/pod" UID "/" ID "\n1:memory:/x/pod" UID "/" ID "\n", NULL, NULL, false, "not below" },
        { "container in one line only", "2:cpu:/kubepods/pod" UID "\n1:memory:/kubepods/pod" UID "/" ID "\n", UID, ID },

        /* no pod at all */
        { "a host's process", "0::/system.slice/sshd.service\n", NULL, NULL, false, "no pod" },
        { "the root", "0::/\n", NULL, NULL, false, "no pod" },
        { "the kubelet itself", "0::/kubelet.slice/kubelet.service\n", NULL, NULL, false, "no pod" },
        { "docker", "0::/docker/" ID "\n", NULL, NULL, false, "no pod" },
        { "a sibling of ours", "0::/../" ID "\n", NULL, NULL, false, "no pod" },
        { "nothing", "", NULL, NULL, false, "no pod" },
        { "lines without path", "0\n0:\n0::\n::::\n", NULL, NULL, false, "no pod" },
        { "UID too short", "0::/kubepods/pod2c48913c-b29f-11e7-9350-02096814779/" ID "\n", NULL, NULL, false, "no pod" },
        { "UID too long", "0::/kubepods/pod" UID "0/" ID "\n", NULL, NULL, false, "no pod" },
        { "UID mixed", "0::/kubepods/pod2c48913c-b29f_11e7-9350-020968147796/" ID "\n", NULL, NULL, false, "no pod" },
        { "UID in upper case", "0::/kubepods/pod2C48913C-B29F-11E7-9350-020968147796/" ID "\n", NULL, NULL, false, "no pod" },
        { "no word of its own", "0::/kubepods/xpod" UID "/" ID "\n", NULL, NULL, false, "no pod" },
        { "hash too long", "0::/kubepods/pod" HASH "0/" ID "\n", NULL, NULL, false, "no pod" },
        { "dying", "0::/kubepods/pod" UID "/" ID " (deleted)\n", NULL, NULL, false, "dying" },
};

static void test_cgroups(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct kube_cgroup cgroup;
                struct error err = { 0 };
                memset(&cgroup, 'x', sizeof cgroup);
                bool good = kube_cgroup_read(rows[i].text, strlen(rows[i].text), &cgroup, &err);
                if (good != (rows[i].why == NULL))
                        fail_msg("%s: %s", rows[i].name, good ? cgroup.pod : err.text);
                if (!good) {
                        assert_int_equal(err.code, ERROR_DENIED);
                        if (!strstr(err.text, rows[i].why))
                                fail_msg("%s: %s", rows[i].name, err.text);
                        continue;
                }
                if (strcmp(cgroup.pod, rows[i].pod) != 0 || strcmp(cgroup.container, rows[i].container) != 0)
                        fail_msg("%s: %s %s", rows[i].name, cgroup.pod, cgroup.container);
                assert_int_equal(cgroup.is_static, rows[i].is_static);
        }
}

static void test_cgroup_bounds(void **state)
{
        (void)state;
        struct kube_cgroup cgroup;
        struct error err = { 0 };
        static const char nul[] = "0::/kubepods/pod" UID "/\0/" ID "\n";
        assert_false(kube_cgroup_read(nul, sizeof nul - 1, &cgroup, &err));
        size_t size = 1 << 20;
        CLEANUP(cleanup_free) char *large = memory_new(1, size + 1);
        memset(large, 'x', size);
        assert_false(kube_cgroup_read(large, size, &cgroup, &err));
        assert_int_equal(err.code, ERROR_DENIED);
}

static bool pod_of(const char *json, struct kube_pod *ret_pod, struct error *err)
{
        CLEANUP(value_free) struct value *object = NULL;
        assert_true(json_parse(json, strlen(json), ERROR_UPSTREAM_ERROR, &object, err));
        return kube_pod_read(object, ret_pod, err);
}

static void test_pod(void **state)
{
        (void)state;
        struct error err = { 0 };
        struct kube_pod pod = { 0 };
        if (!pod_of("{\"metadata\":{\"namespace\":\"team-a\",\"name\":\"web-1\",\"uid\":\"" UID "\",\"labels\":{\"app\":\"web\",\"tier\":\"\"}},"
                    "\"spec\":{\"nodeName\":\"n1\",\"serviceAccountName\":\"web\"},\"status\":{\"phase\":\"Running\","
                    "\"initContainerStatuses\":[{\"containerID\":\"containerd://" ID2 "\"}],"
                    "\"containerStatuses\":[{\"containerID\":\"cri-o://" ID "\"},{\"name\":\"not made yet\"},{\"containerID\":\"\"},{\"containerID\":\"odd://xyz\"}]}}", &pod, &err))
                fail_msg("%s", err.text);
        assert_string_equal(pod.namespace, "team-a");
        assert_string_equal(pod.name, "web-1");
        assert_string_equal(pod.uid, UID);
        assert_string_equal(pod.node_name, "n1");
        assert_string_equal(pod.service_account, "web");
        assert_null(pod.mirror_hash);
        assert_false(pod.is_ended);
        assert_int_equal(pod.label_count, 2);
        assert_string_equal(pod.labels[0].name, "app");
        assert_string_equal(pod.labels[0].value, "web");
        assert_int_equal(pod.container_count, 2);
        assert_string_equal(pod.containers[0], ID2);
        assert_string_equal(pod.containers[1], ID);
        kube_pod_fini(&pod);
        kube_pod_fini(&pod);
}

/* Only what a node may say makes a mirror pod. */
static void test_mirror(void **state)
{
        (void)state;
        static const struct { const char *annotations, *owners, *node; bool is_mirror; } cases[] = {
                { "\"kubernetes.io/config.mirror\":\"" HASH "\",\"kubernetes.io/config.hash\":\"" HASH "\"", "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"name\":\"n1\"}", "n1", true },
                { "\"kubernetes.io/config.mirror\":\"" HASH "\",\"kubernetes.io/config.hash\":\"" HASH "\"", "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"name\":\"n2\"}", "n1", false },
                { "\"kubernetes.io/config.mirror\":\"" HASH "\",\"kubernetes.io/config.hash\":\"" HASH "\"", "{\"apiVersion\":\"apps/v1\",\"kind\":\"DaemonSet\",\"name\":\"n1\"}", "n1", false },
                { "\"kubernetes.io/config.mirror\":\"" HASH "\",\"kubernetes.io/config.hash\":\"" HASH "\"", "", "n1", false },
                { "\"kubernetes.io/config.hash\":\"" HASH "\"", "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"name\":\"n1\"}", "n1", false },
                { "\"kubernetes.io/config.mirror\":\"../x\",\"kubernetes.io/config.hash\":\"../x\"", "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"name\":\"n1\"}", "n1", false },
                { "\"kubernetes.io/config.mirror\":\"" HASH "\",\"kubernetes.io/config.hash\":\"" HASH "\"", "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"name\":\"\"}", "", false },
        };
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                struct error err = { 0 };
                struct kube_pod pod = { 0 };
                CLEANUP(cleanup_free) char *json = string_format("{\"metadata\":{\"namespace\":\"a\",\"name\":\"p\",\"uid\":\"u\",\"annotations\":{%s},\"ownerReferences\":[%s]},"
                                                                 "\"spec\":{\"nodeName\":\"%s\"},\"status\":{\"phase\":\"Failed\"}}", cases[i].annotations, cases[i].owners, cases[i].node);
                assert_true(pod_of(json, &pod, &err));
                assert_int_equal(pod.mirror_hash != NULL, cases[i].is_mirror);
                assert_true(pod.is_ended);
                kube_pod_fini(&pod);
        }
}

static void test_bad_pods(void **state)
{
        (void)state;
        static const struct { const char *json, *piece; } cases[] = {
                { "{}", "metadata" },
                { "[]", "metadata" },
                { "{\"metadata\":[]}", "\"metadata\"" },
                { "{\"metadata\":{\"namespace\":\"a\",\"name\":\"p\"}}", "uid" },
                { "{\"metadata\":{\"namespace\":\"../a\",\"name\":\"p\",\"uid\":\"u\"}}", "namespace" },
                { "{\"metadata\":{\"namespace\":\"a\",\"name\":\"p/q\",\"uid\":\"u\"}}", "name" },
                { "{\"metadata\":{\"namespace\":\"a\",\"name\":\"p\",\"uid\":\"u\",\"labels\":{\"x\":1}}}", "metadata.labels" },
                { "{\"metadata\":{\"namespace\":\"a\",\"name\":\"p\",\"uid\":\"u\"},\"spec\":3}", "\"spec\"" },
        };
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                struct error err = { 0 };
                struct kube_pod pod = { 0 };
                assert_false(pod_of(cases[i].json, &pod, &err));
                assert_null(pod.name);
                assert_int_equal(err.code, ERROR_UPSTREAM_ERROR);
                if (!strstr(err.text, cases[i].piece))
                        fail_msg("%s: %s", cases[i].json, err.text);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_cgroups), cmocka_unit_test(test_cgroup_bounds), cmocka_unit_test(test_pod), cmocka_unit_test(test_mirror), cmocka_unit_test(test_bad_pods),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
