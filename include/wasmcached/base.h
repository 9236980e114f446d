/* base: things with no opinion. This door is the sum of its leaves, one header per thing. */
#pragma once
#include <wasmcached/base/buffer.h>
#include <wasmcached/base/cancel.h>
#include <wasmcached/base/clock.h>
#include <wasmcached/base/digest.h>
#include <wasmcached/base/error.h>
#include <wasmcached/base/fault.h>
#include <wasmcached/base/fs.h>
#include <wasmcached/base/json.h>
#include <wasmcached/base/log.h>
#include <wasmcached/base/map.h>
#include <wasmcached/base/memory.h>
#include <wasmcached/base/secret.h>
#include <wasmcached/base/sink.h>
#include <wasmcached/base/thread.h>
#include <wasmcached/base/value.h>
