/* Lines as they arrive on fd 2: logfmt, JSON, journald; floods, lines too long, a reader that does not read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include <wasmcached/base.h>

static int ends[2], kept_stderr;
static char seen[1 << 17];

/* fd 2 is a pipe from here on. */
static void catch(void)
{
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        fcntl(ends[0], F_SETFL, O_NONBLOCK);
        kept_stderr = dup(STDERR_FILENO);
        dup2(ends[1], STDERR_FILENO);
}

static const char *release(void)
{
        size_t used = 0;
        for (ssize_t got; used < sizeof seen - 1 && (got = read(ends[0], seen + used, sizeof seen - 1 - used)) > 0;)
                used += (size_t)got;
        seen[used] = '\0';
        dup2(kept_stderr, STDERR_FILENO);
        close(kept_stderr);
        close(ends[0]);
        close(ends[1]);
        return seen;
}

static size_t count_lines(const char *text)
{
        size_t lines = 0;
        for (; *text; text++)
                lines += *text == '\n';
        return lines;
}

/* Until the next second of the clock that floods are counted by has just begun. */
static void next_second(void)
{
        int64_t second = clock_get_ms() / 1000;
        for (int i = 0; i < 2000 && clock_get_ms() / 1000 == second; i++)
                nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
        assert_true(clock_get_ms() / 1000 > second);
}

static const struct { const char *text, *logfmt; } fields[] = {
        { "plain", "k=plain" }, { "", "k=\"\"" }, { "two words", "k=\"two words\"" }, { "a=b", "k=\"a=b\"" }, { "a\"b", "k=\"a\\\"b\"" }, { "a\\b", "k=\"a\\\\b\"" }, { "a\nb", "k=\"a\\x0ab\"" },
        { "\x1b[31m", "k=\"\\x1b[31m\"" }, { "gr\xc3\xbc", "k=\"gr\xc3\xbc\"" }, { "\xff", "k=\"\\xff\"" }, { "oci://r.example:5000/a@sha256:1", "k=oci://r.example:5000/a@sha256:1" },
};

static void test_logfmt(void **state)
{
        (void)state;
        unsetenv("JOURNAL_STREAM");
        log_configure(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
        for (size_t i = 0; i < COUNT_OF(fields); i++) {
                catch();
                LOG_WARN("formed", LOG_TEXT("k", fields[i].text), LOG_NUMBER("n", -3));
                CLEANUP(cleanup_free) char *end = string_format("Z level=warn event=formed %s n=-3\n", fields[i].logfmt);
                const char *line = release();
                assert_true(string_starts_with(line, "time=20") && string_ends_with(line, end));
                assert_int_equal(count_lines(line), 1);
        }
        catch();
        LOG_INFO("empty", LOG_TEXT("k", NULL));
        LOG_DEBUG("hidden", LOG_TEXT("k", "v"));
        log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT);
        LOG_ERROR("hidden", LOG_TEXT("k", "v"));
        log_configure(LOG_LEVEL_DEBUG, LOG_FORMAT_LOGFMT);
        log_write(LOG_LEVEL_DEBUG, "bare", NULL, 0);
        const char *text = release();
        assert_non_null(strstr(text, "event=empty k=\"\"\n"));
        assert_non_null(strstr(text, "level=debug event=bare\n"));
        assert_null(strstr(text, "hidden"));
}

static void test_json(void **state)
{
        (void)state;
        log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
        for (size_t i = 0; i < COUNT_OF(fields); i++) {
                catch();
                LOG_ERROR("jsoned", LOG_TEXT("k", fields[i].text), LOG_NUMBER("n", 7));
                const char *line = release();
                CLEANUP(value_free) struct value *value = NULL;
                struct error err = { 0 };
                assert_true(json_parse(line, strlen(line), ERROR_INTERNAL, &value, &err));
                assert_string_equal(value_get_text(value_get_member(value, "level")), "error");
                assert_string_equal(value_get_text(value_get_member(value, "event")), "jsoned");
                assert_int_equal(value_get_int(value_get_member(value, "n")), 7);
                assert_string_equal(value_get_text(value_get_member(value, "k")), strcmp(fields[i].text, "\xff") == 0 ? "\xef\xbf\xbd" : fields[i].text);
                assert_int_equal(count_lines(line), 1);
        }
}

static void test_long(void **state)
{
        (void)state;
        static char quotes[9000];
        const char *text = memset(quotes, '"', sizeof quotes - 1);
        for (int format = LOG_FORMAT_LOGFMT; format <= LOG_FORMAT_JSON; format++) {
                log_configure(LOG_LEVEL_INFO, (enum log_format)format);
                catch();
                LOG_INFO("long", LOG_TEXT("first", "kept"), LOG_TEXT("a", text), LOG_TEXT("b", text), LOG_TEXT("c", text));
                const char *line = release();
                assert_true(strlen(line) < 4096);
                assert_int_equal(count_lines(line), 1);
                assert_non_null(strstr(line, "kept"));
                assert_non_null(strstr(line, "fields_cut"));
                CLEANUP(value_free) struct value *value = NULL;
                struct error err = { 0 };
                assert_true(format == LOG_FORMAT_LOGFMT || json_parse(line, strlen(line), ERROR_INTERNAL, &value, &err));
        }
}

static void test_flood(void **state)
{
        (void)state;
        log_configure(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
        next_second();
        catch();
        for (int i = 0; i < 100; i++)
                LOG_INFO("flooding", LOG_NUMBER("i", i));
        LOG_INFO("other", LOG_NUMBER("i", 1));
        const char *text = release();
        assert_int_equal(count_lines(text), 21);                  /* 20 of the flood; others pass */
        assert_non_null(strstr(text, "event=other"));
        next_second();
        catch();
        LOG_INFO("other", LOG_NUMBER("i", 2));
        LOG_INFO("flooding", LOG_NUMBER("i", 100));
        text = release();
        assert_non_null(strstr(text, "level=warn event=log_flood of=flooding held_back=80\n"));
        assert_int_equal(count_lines(text), 3);
}

static void test_journal(void **state)
{
        (void)state;
        struct stat status;
        log_configure(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
        catch();
        assert_int_equal(fstat(STDERR_FILENO, &status), 0);
        CLEANUP(cleanup_free) char *this_stream = string_format("%llu:%llu", (unsigned long long)status.st_dev, (unsigned long long)status.st_ino);
        setenv("JOURNAL_STREAM", this_stream, 1);
        LOG_WARN("journaled", LOG_TEXT("k", "v"));
        setenv("JOURNAL_STREAM", "1:2", 1);                        /* inherited from a service that this terminal is below */
        LOG_WARN("shown", LOG_TEXT("k", "v"));
        unsetenv("JOURNAL_STREAM");
        const char *text = release();
        assert_true(string_starts_with(text, "<4>level=warn event=journaled k=v\ntime="));
        assert_non_null(strstr(text, "Z level=warn event=shown k=v\n"));
}

static void *write_some(void *arg)
{
        for (int i = 0; i < 20; i++)
                LOG_INFO(arg, LOG_NUMBER("i", i));
        return NULL;
}

/* Whole lines from several threads; nobody waits for a reader that does not read. */
static void test_never_blocks(void **state)
{
        (void)state;
        static char events[4][8] = { "one", "two", "three", "four" };
        static char fs[3000];
        const char *filler = memset(fs, 'f', sizeof fs - 1);
        pthread_t threads[4];
        next_second();
        catch();
        for (int i = 0; i < 4; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, write_some, events[i]), 0);
        for (int i = 0; i < 4; i++)
                pthread_join(threads[i], NULL);
        const char *text = release();
        assert_int_equal(count_lines(text), 80);
        for (const char *line = text; *line; line = strchr(line, '\n') + 1)
                assert_true(string_starts_with(line, "time=20"));

        uint64_t before = log_get_dropped();
        catch();
        for (int i = 0; i < 15; i++)
                for (int k = 0; k < 4; k++)
                        LOG_INFO(events[k], LOG_TEXT("a", filler), LOG_TEXT("b", filler));
        for (int i = 0; i < 200; i++) {
                CLEANUP(cleanup_free) char *name = string_format("%d", i);
                LOG_INFO("full", LOG_TEXT("a", filler), LOG_TEXT("b", filler), LOG_TEXT("name", name));
        }
        release();
        assert_true(log_get_dropped() > before);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_logfmt), cmocka_unit_test(test_json), cmocka_unit_test(test_long), cmocka_unit_test(test_flood), cmocka_unit_test(test_journal), cmocka_unit_test(test_never_blocks),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
