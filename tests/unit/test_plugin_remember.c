/* What was listed before a restart: lists, changes after them, the file written anew from itself, lines that were cut, files that say nothing, disks that fail. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../../agent/plugin/remember.h"
#include "plugin_tools.h"

static char folder[] = "/tmp/wasmcached-remember-XXXXXX";
static char *path;

static int start(void **state)
{
        (void)state;
        assert_non_null(mkdtemp(folder));
        path = string_format("%s/r.jsonl", folder);
        return 0;
}

static int stop(void **state)
{
        (void)state;
        struct error err = { 0 };
        free(path);
        return fs_remove_tree(AT_FDCWD, folder, &err) ? 0 : 1;
}

static struct value *object_of(const char *name, const char *spec)
{
        CLEANUP(cleanup_free) char *text = string_format("{\"apiVersion\":\"a/v1\",\"kind\":\"K\",\"metadata\":{\"namespace\":\"n\",\"name\":\"%s\",\"uid\":\"u\",\"resourceVersion\":\"7\","
                                                         "\"managedFields\":[1,2]},\"spec\":%s,\"status\":{\"x\":1}}", name, spec);
        struct value *object = NULL;
        struct error err = { 0 };
        assert_true(json_parse(text, strlen(text), ERROR_INTERNAL, &object, &err));
        return object;
}

static void put(struct remember *remember, const char *name, const char *spec)
{
        CLEANUP(value_free) struct value *object = object_of(name, spec);
        remember_put(remember, object);
}

static void note(void *arg, struct value **line)
{
        struct buffer *text = arg;
        struct json_writer json = { .out = text };
        json_put_value(&json, NULL, value_get_member(*line, "put"));
        buffer_append_text(text, "\n");
}

/* How many objects, -1 = nothing known; *ret_text is what they say. */
static int load(const char *head, char **ret_text)
{
        struct remember remember;
        struct buffer text = { 0 };
        struct error err = { 0 };
        remember_init(&remember, path, head);
        bool is_known = remember_load(&remember, note, &text, &err);
        remember_fini(&remember);
        int count = 0;
        for (const char *at = text.data; at && (at = strchr(at, '\n')); at++)
                count++;
        CLEANUP(cleanup_free) char *taken = buffer_take(&text);
        if (ret_text)
                *ret_text = TAKE(taken);
        if (!is_known)
                assert_true(err.code != ERROR_NONE && strstr(err.text, path));
        return is_known ? count : -1;
}

/* Of a Pod what tells who it is; its environment may hold secrets. */
static void test_pods(void **state)
{
        (void)state;
        static const char *const kept[] = { "\"uid\":\"u1\"", "\"app\":\"web\"", "\"nodeName\":\"n1\"", "\"serviceAccountName\":\"sa\"", "\"phase\":\"Running\"", "\"containerStatuses\":[{\"containerID\":\"c://1\"}]",
                                            "\"kubernetes.io/config.mirror\":\"h\"", "\"ownerReferences\":[{\"kind\":\"Node\"}]" };
        static const char text[] = "{\"metadata\":{\"namespace\":\"n\",\"name\":\"p\",\"uid\":\"u1\",\"labels\":{\"app\":\"web\"},\"annotations\":{\"kubernetes.io/config.mirror\":\"h\",\"x\":\"hidden\"},"
                                   "\"ownerReferences\":[{\"kind\":\"Node\"}]},\"spec\":{\"nodeName\":\"n1\",\"serviceAccountName\":\"sa\",\"containers\":[{\"env\":[{\"value\":\"hidden\"}]}]},"
                                   "\"status\":{\"phase\":\"Running\",\"containerStatuses\":[{\"containerID\":\"c://1\",\"state\":\"hidden\"}]}}";
        struct remember remember;
        struct error err = { 0 };
        CLEANUP(value_free) struct value *object = NULL;
        CLEANUP(cleanup_free) char *told = NULL;
        assert_true(json_parse(text, strlen(text), ERROR_INTERNAL, &object, &err));
        remember_init(&remember, path, "head");
        remember.is_of_pods = true;
        remember_begin(&remember);
        remember_put(&remember, object);
        remember_commit(&remember);
        remember_fini(&remember);
        assert_int_equal(load("head", &told), 1);
        for (size_t i = 0; i < COUNT_OF(kept); i++)
                if (!strstr(told, kept[i]))
                        fail_msg("%s is not in %s", kept[i], told);
        assert_null(strstr(told, "hidden"));
}

static void test_list_and_changes(void **state)
{
        (void)state;
        struct remember remember;
        CLEANUP(cleanup_free) char *text = NULL;
        struct stat info;
        assert_int_equal(load("head", NULL), -1);
        remember_init(&remember, path, "head");
        put(&remember, "early", "{}");                    /* before any list nothing is written */
        assert_int_equal(access(path, F_OK), -1);
        remember_begin(&remember);
        put(&remember, "a", "{\"url\":\"x\\ny\"}");
        put(&remember, "b", "{}");
        remember_commit(&remember);
        assert_int_equal(load("head", NULL), 2);
        put(&remember, "c", "[]");
        put(&remember, "a", "{\"url\":\"new\"}");
        remember_remove(&remember, "n", "b");
        assert_int_equal(load("head", &text), 2);
        assert_non_null(strstr(text, "{\"apiVersion\":\"a/v1\",\"kind\":\"K\",\"metadata\":{\"namespace\":\"n\",\"name\":\"a\",\"uid\":\"u\",\"resourceVersion\":\"7\"},\"spec\":{\"url\":\"new\"}}"));
        assert_null(strstr(text, "managedFields"));
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(info.st_mode & 07777, 0600);
        /* a list that breaks off leaves what was, and changes go on */
        remember_begin(&remember);
        put(&remember, "z", "{}");
        remember_abandon(&remember);
        put(&remember, "d", "{}");
        assert_int_equal(load("head", NULL), 3);
        /* a list replaces all, an empty one too */
        remember_begin(&remember);
        remember_commit(&remember);
        assert_int_equal(load("head", NULL), 0);
        assert_int_equal(load("other head", NULL), -1);
        assert_int_equal(load("hea", NULL), -1);
        remember_fini(&remember);
}

static void test_written_anew(void **state)
{
        (void)state;
        struct remember remember;
        struct stat info;
        CLEANUP(cleanup_free) char *spec = memory_new(1, 20003);
        memset(spec, 'x', 20002);
        spec[0] = spec[20001] = '"';
        remember_init(&remember, path, "head");
        remember_begin(&remember);
        put(&remember, "a", "{}");
        remember_commit(&remember);
        for (int i = 0; i < 500; i++)
                put(&remember, "b", spec);                /* ten megabytes of changes to one object */
        assert_int_equal(load("head", NULL), 2);
        assert_int_equal(stat(path, &info), 0);
        assert_true(info.st_size < 2 << 20);
        remember_fini(&remember);
}

static void test_spoilt(void **state)
{
        (void)state;
        static const struct { const char *text; int count; } rows[] = {
                { "head\n", 0 }, { "", -1 }, { "head", -1 }, { "other\n", -1 },
                { "head\n{\"put\":{\"metadata\":{\"name\":\"a\"}}}\n{\"put\":{\"metad", 1 },                          /* cut by a crash */
                { "head\n{\"put\":{\"metad\n{\"put\":{\"metadata\":{\"name\":\"a\"}}}\n", -1 },                       /* in the middle: something is wrong with it */
                { "head\n{\"put\":{\"metadata\":{}}}\n", -1 }, { "head\n{\"other\":1}\n", -1 }, { "head\n[]\n", -1 }, { "head\n\n", -1 },
                { "head\n{\"put\":{\"metadata\":{\"name\":\"a\"}}}\n{\"remove\":{\"name\":\"a\"}}\n", 0 },
                { "head\n{\"remove\":{\"name\":\"never\"}}\n", 0 },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct error err = { 0 };
                assert_true(fs_save(AT_FDCWD, path, rows[i].text, strlen(rows[i].text), 0600, &err));
                if (load("head", NULL) != rows[i].count)
                        fail_msg("row %zu", i);
        }
        unlink(path);
}

static void test_disk_that_fails(void **state)
{
        (void)state;
        struct remember remember;
        CLEANUP(cleanup_free) char *nowhere = string_format("%s/absent/r.jsonl", folder);
        remember_init(&remember, nowhere, "head");
        remember_begin(&remember);
        put(&remember, "a", "{}");
        remember_commit(&remember);
        put(&remember, "b", "{}");
        remember_begin(&remember);                        /* the next list tries again */
        put(&remember, "c", "{}");
        remember_commit(&remember);
        remember_fini(&remember);
        assert_int_equal(access(nowhere, F_OK), -1);
        /* a descriptor that takes nothing any more: the file goes, since it is not true any longer */
        remember_init(&remember, path, "head");
        remember_begin(&remember);
        put(&remember, "a", "{}");
        remember_commit(&remember);
        assert_int_equal(load("head", NULL), 1);
        close(remember.fd);
        remember.fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
        put(&remember, "b", "{}");
        assert_int_equal(load("head", NULL), -1);
        remember_fini(&remember);
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_list_and_changes), cmocka_unit_test(test_written_anew), cmocka_unit_test(test_spoilt),
                cmocka_unit_test(test_disk_that_fails), cmocka_unit_test(test_pods) };
        return cmocka_run_group_tests(tests, start, stop);
}
