/*
 * How it goes: stands for a proxy in a pod. `-c FILE` waits, as Envoy runs; `show FILE` prints a file in hex; `ask URL SECRET` asks for a module again and again and opens what it is told.
 * How it fails: each answer is a line, "ok MILLISECONDS" or "failed CODE: TEXT"; who reads the log judges.
 * How it ends: SIGTERM.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wasmcache.h>

enum { PAUSE_US = 20000 };

static void on_term(int number)
{
        _exit(number == SIGTERM ? 0 : 1);
}

static int show(const char *path)
{
        FILE *file = fopen(path, "rb");
        if (!file) {
                perror(path);
                return 1;
        }
        for (int c = getc(file); c != EOF; c = getc(file))
                printf("%02x", c);
        return fclose(file);
}

static double now_ms(void)
{
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void ask_once(const struct wasmcache_request *request)
{
        struct wasmcache *cache = NULL;
        struct wasmcache_module *module = NULL;
        struct wasmcache_error err = { 0 };
        char magic[4] = "";
        double start_ms = now_ms();
        if (wasmcache_connect(NULL, &cache, &err) != WASMCACHE_OK || wasmcache_get(cache, request, &module, &err) != WASMCACHE_OK) {
                printf("failed %s: %s\n", err.code, err.text);
        } else {
                FILE *file = fopen(wasmcache_module_path(module), "rb");
                if (!file || fread(magic, 1, sizeof magic, file) != sizeof magic || memcmp(magic, "\0asm", sizeof magic) != 0)
                        printf("failed: %s is no module\n", wasmcache_module_path(module));
                else
                        printf("ok %.0f\n", now_ms() - start_ms);
                if (file)
                        fclose(file);
        }
        fflush(stdout);
        wasmcache_module_free(module);
        wasmcache_close(cache);
}

int main(int argc, char **argv)
{
        signal(SIGTERM, on_term);
        if (argc == 3 && strcmp(argv[1], "show") == 0)
                return show(argv[2]);
        if (argc == 4 && strcmp(argv[1], "ask") == 0)
                for (;;) {
                        ask_once(&(struct wasmcache_request){ .url = argv[2], .image_pull_secret = argv[3] });
                        usleep(PAUSE_US);
                }
        for (;;)
                pause();
}
