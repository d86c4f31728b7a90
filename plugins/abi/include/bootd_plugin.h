// The C contract between bootd and its plugins, version 1.
//
// A plugin is a shared object with one symbol, `BOOTD_ENTRY_SYMBOL`. bootd calls it once with its own table (`bootd_host`) and gets the plugin's
// table (`bootd_plugin`) back. Both begin with a magic number, a version and their own size in bytes: a *minor* version only appends
// functions, so a reader uses a function only when it lies within `size` and is not NULL. A *major* version is another symbol.
//
// Rules that hold everywhere:
// - `bootd_str` is borrowed: UTF-8, valid until the call returns. `bootd_buf` is given away: its receiver calls `release` exactly once.
// - Requests, answers and records are JSON. Their fields are documented in plugins/README.md; unknown fields are ignored by both sides.
// - No panic and no exception may cross. Nothing here is ever unmapped, so a function pointer stays callable for the process's life.
// - Every function of `bootd_host` may be called from any thread between the start of `init` and the return of `run`. Afterwards it does nothing and says
//   `BOOTD_STOPPING`.
// - Ids (metrics, and the instance that `ctx` names) are a slot and a generation, looked up and never dereferenced: a stale or invented one is
//   refused and counted.
//
// Made from plugins/abi/src/lib.rs; to renew it: BOOTD_WRITE_HEADER=1 cargo test -p bootd-abi

#ifndef BOOTD_PLUGIN_H
#define BOOTD_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

// `BOOTD1` in ASCII, little-endian: tells a bootd plugin from any other shared object.
#define BOOTD_MAGIC UINT64_C(0x3144544f4f42)

// A change of meaning or order; it is part of the entry symbol's name too.
#define BOOTD_MAJOR 1

// Functions were appended. 1: `fetch`, `metric`, `metric_add`, `metric_set`, `event`.
#define BOOTD_MINOR 1

// Something failed.
#define BOOTD_LEVEL_ERROR 3

// Something is wrong and was handled.
#define BOOTD_LEVEL_WARN 4

// Worth a line in ordinary operation.
#define BOOTD_LEVEL_INFO 6

// For whoever looks for a fault.
#define BOOTD_LEVEL_DEBUG 7

// What a call came to. Zero is success; the host and plugins accept values that they do not know as `BOOTD_FAILED`.
typedef int32_t bootd_status;

// The call did what it says.
#define BOOTD_OK 0

// There is no such thing: no such node, no such key. Nothing is written to the output buffer.
#define BOOTD_NONE 1

// The host is ending this instance: `run` returns now.
#define BOOTD_STOPPING 2

// It did not work. An output buffer, if any, holds the reason as UTF-8 text.
#define BOOTD_FAILED (-1)

// The plugin panicked. The host takes the instance out of service and starts another.
#define BOOTD_PANICKED (-2)

// An argument is not what this page says: not UTF-8, not JSON, a field of the wrong type, an id that names nothing. The output buffer, if
// any, holds the reason.
#define BOOTD_BAD_ARGUMENT (-3)

// Borrowed UTF-8 text: valid until the call that carries it returns. `ptr` may be NULL when `len` is 0.
typedef struct {
    // First byte.
    const uint8_t *ptr;
    // Bytes; no NUL ends them.
    size_t len;
} bootd_str;

// Bytes that change hands. The receiver reads `len` bytes at `ptr`, then calls `release(owner, ptr, len)` once. `release` NULL: nothing
// to free.
typedef struct {
    // First byte; may be NULL when `len` is 0.
    uint8_t *ptr;
    // Bytes.
    size_t len;
    // For `release`; of no meaning to the receiver.
    void *owner;
    // Frees the bytes. Callable from any thread.
    void (*release)(void *owner, uint8_t *ptr, size_t len);
} bootd_buf;

// What bootd offers to a plugin. Each function gets `ctx` as its first argument: it names the plugin's instance.
typedef struct {
    // `BOOTD_MAGIC`.
    uint64_t magic;
    // `BOOTD_MAJOR` of the host.
    uint32_t major;
    // `BOOTD_MINOR` of the host.
    uint32_t minor;
    // Bytes of this table.
    size_t size;
    // First argument of each function below.
    const void *ctx;
    // 1 when a line of this `BOOTD_LEVEL_…` would be kept: ask before building an expensive one.
    uint8_t (*log_enabled)(const void *ctx, uint32_t level);
    // Writes a log line. `target` says where in the plugin; `fields` is a JSON object or empty.
    void (*log)(const void *ctx, uint32_t level, bootd_str target, bootd_str message, bootd_str fields);
    // Nanoseconds since 1970-01-01 UTC.
    uint64_t (*now_unix_ns)(const void *ctx);
    // Nanoseconds of a clock that never jumps and goes on in suspend.
    uint64_t (*now_boot_ns)(const void *ctx);
    // Sleeps; `BOOTD_OK` when the time is over, `BOOTD_STOPPING` at once when the instance is to end.
    bootd_status (*sleep)(const void *ctx, uint64_t ns);
    // Publishes nodes: `publication` is a `Publication`, `report` gets a `Report`. Rows that are wrong are refused one by
    // one, with reasons in the report; the others take effect before the call returns.
    bootd_status (*publish)(const void *ctx, bootd_str publication, bootd_buf *report);
    // Reads the inventory: `query` is a `Query`, `nodes` gets a JSON array of `Node` (empty: no such node).
    bootd_status (*nodes)(const void *ctx, bootd_str query, bootd_buf *nodes);
    // Says that this plugin's data changed: answers that were kept for it are made anew at the next request.
    void (*bump)(const void *ctx);
    // Says how the plugin is: `health` is a `Health`; it replaces what was said before.
    bootd_status (*health)(const void *ctx, bootd_str health);
    // Reads a value of the plugin's own persistent store. `BOOTD_NONE`: no such key.
    bootd_status (*store_get)(const void *ctx, bootd_str key, bootd_buf *value);
    // Reads all keys that begin with `prefix`: a JSON object key → text, in key order.
    bootd_status (*store_scan)(const void *ctx, bootd_str prefix, bootd_buf *values);
    // Writes several keys at once, or none: `commit` is a `Commit`. What returned `BOOTD_OK` survives a power cut; `BOOTD_NONE`: a
    // precondition did not hold and nothing was written.
    bootd_status (*store_commit)(const void *ctx, bootd_str commit, bootd_buf *error);
    // Since minor 1. Makes an HTTP request and waits for its answer: `request` is a `Fetch`, `reply` gets a `Fetched`. Any status is
    // `BOOTD_OK`; `BOOTD_FAILED`: there was no answer. Returns early with `BOOTD_STOPPING`.
    bootd_status (*fetch)(const void *ctx, bootd_str request, bootd_buf *reply);
    // Since minor 1. Declares a number that bootd shows among its metrics: `declaration` is a `Metric`; `id` is set. Declared
    // again it is the same one, with the same value, also after a restart of the plugin.
    bootd_status (*metric)(const void *ctx, bootd_str declaration, uint64_t *id);
    // Since minor 1. Adds to a metric; a counter only grows.
    bootd_status (*metric_add)(const void *ctx, uint64_t id, int64_t by);
    // Since minor 1. Sets a gauge.
    bootd_status (*metric_set)(const void *ctx, uint64_t id, int64_t value);
    // Since minor 1. Waits for the next event of the kinds that `Setup` named, at most `timeout_ns`: `event` gets a `Event`.
    // `BOOTD_NONE`: none came. Events that nobody takes are lost, the oldest first, and the next one says how many.
    bootd_status (*event)(const void *ctx, uint64_t timeout_ns, bootd_buf *event);
} bootd_host;

// What a plugin offers to bootd. All functions may block; each runs on a thread that the host owns and names after the plugin.
typedef struct {
    // `BOOTD_MAGIC`.
    uint64_t magic;
    // The `BOOTD_MAJOR` that the plugin was built for.
    uint32_t major;
    // The `BOOTD_MINOR` that the plugin was built for.
    uint32_t minor;
    // Bytes of this table.
    size_t size;
    // The plugin's name, such as `smd`. Valid for the process's life.
    bootd_str name;
    // The plugin's own version, for humans. Valid for the process's life.
    bootd_str version;
    // Makes an instance. `host` is this instance's table, valid for the process's life; `config` a `Configuration`. On `BOOTD_OK`
    // `instance` is set (NULL is allowed) and `out` holds a `Setup`; else `out` holds the reason as text. `BOOTD_BAD_ARGUMENT`: the mode
    // is not available or the settings cannot be read, a mistake in bootd.toml that no second try repairs; `BOOTD_FAILED`: anything else. May
    // publish: it takes effect when the instance is in service, and never when the start fails.
    bootd_status (*init)(const bootd_host *host, bootd_str config, void **instance, bootd_buf *out);
    // The plugin's own thread, called when the instance is in service: poll, publish, sleep. Returns when `sleep` says `BOOTD_STOPPING`. NULL: nothing to do in the background.
    bootd_status (*run)(void *instance);
    // Answers an HTTP request: `request` is a `Request`, `answer` gets a `Answer`. Called from several threads at once. No call
    // with a method other than `GET` is under way while another instance's `init` runs.
    bootd_status (*handle)(void *instance, bootd_str request, bootd_buf *answer);
    // Looks up a MAC that the inventory does not have: `BOOTD_OK` and a `Node`, or `BOOTD_NONE`. Called from several threads at once.
    bootd_status (*resolve)(void *instance, bootd_str mac, bootd_buf *node);
    // Frees an instance. Called once, after `run` returned and while no other call is under way.
    void (*free)(void *instance);
} bootd_plugin;

#ifdef __cplusplus
extern "C" {
#endif

// The one symbol that a plugin exports. Has no side effects; `host` here serves only the version check. NULL: the plugin refuses this host.
const bootd_plugin *bootd_plugin_entry_v1(const bootd_host *host);

#ifdef __cplusplus
}
#endif

#endif  /* BOOTD_PLUGIN_H */
