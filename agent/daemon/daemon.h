/* daemon: the rooms together, from start to stop. */
#pragma once
#include <stdbool.h>
#include <wasmcached/base.h>

/* Exit codes of wasmcached(8). */
enum daemon_exit { DAEMON_EXIT_OK = 0, DAEMON_EXIT_FAILED = 1, DAEMON_EXIT_USAGE = 2, DAEMON_EXIT_STORE_IN_USE = 3 };

/* Runs until SIGTERM or SIGINT. `config_path` NULL = the default file, which may be absent. What went wrong at start is logged once; the exit code says which kind. */
enum daemon_exit daemon_run(const char *config_path);
