/*
 * load: a large store is read in the background while hits are answered already. Part of the door module.h; loop only.
 *
 * Until everything is here, module_get() answers a hit by reading what is asked for alone; whoever needs more (a pull, an answer of the source) waits for the rest. What lists,
 * changes or lets go of modules and leases is called when it is whole.
 */
#pragma once
#include <stdbool.h>
#include <wasmcached/base.h>

struct modules; struct store_report;

bool module_is_whole(const struct modules *modules);
/* Told once, maybe before module_when_whole() returns (then NULL is): what the look at the blobs found, or (err) that the index could not be read or the daemon stops. */
typedef void (*module_whole)(void *arg, const struct store_report *report, const struct error *err);
struct module_whole_wait;
struct module_whole_wait *module_when_whole(struct modules *modules, module_whole whole, void *arg);
void module_whole_cancel(struct module_whole_wait **wait);
