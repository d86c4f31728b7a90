// A plugin whose table is what -DCASE says; tests/hostile.rs builds each. The good ones answer GET /table/CASE.
#include "bootd_plugin.h"

#include <stdlib.h>

#define GOOD 0
#define WRONG_MAGIC 1
#define NEWER_MAJOR 2
#define OLDER_MINOR 3   // must load: a minor only appends
#define NEWER_MINOR 4   // must load, although the table is longer than this bootd knows
#define NULL_TABLE 5
#define MISSING_SYMBOL 6
#define NULL_INIT 7
#define SHORT_TABLE 8
#define ONLY_INIT 9     // must load: every function but init may be NULL
#define NAME_NOT_UTF8 10
#define CRASH 11        // for `bootd plugins check` alone: plugins are trusted not to

static bootd_str text(const char *t, size_t len) { return (bootd_str){(const uint8_t *)t, len}; }
static bootd_buf answer(const char *t, size_t len) { return (bootd_buf){(uint8_t *)(uintptr_t)t, len, NULL, NULL}; }
#define LITERAL(t) (t), sizeof(t) - 1
#define QUOTED(n) QUOTE(n)
#define QUOTE(n) #n

static bootd_status init(const bootd_host *host, bootd_str config, void **instance, bootd_buf *out) {
    (void)host, (void)config;
    *instance = NULL;
#if CASE == ONLY_INIT
    *out = answer(LITERAL("{}"));
#else
    *out = answer(LITERAL("{\"routes\":[{\"method\":\"GET\",\"prefix\":\"/table/" QUOTED(CASE) "\",\"access\":\"open\"}]}"));
#endif
    return BOOTD_OK;
}

static bootd_status handle(void *instance, bootd_str request, bootd_buf *out) {
    (void)instance, (void)request;
#if CASE == CRASH
    abort();
#endif
    *out = answer(LITERAL("{\"body\":\"good\\n\"}"));
    return BOOTD_OK;
}

static struct {
    bootd_plugin known;
    void *functions_of_a_later_minor[4];
} table;

#if CASE == MISSING_SYMBOL
const bootd_plugin *bootd_plugin_entry_v0(const bootd_host *host);
const bootd_plugin *bootd_plugin_entry_v0(const bootd_host *host) {
#else
const bootd_plugin *bootd_plugin_entry_v1(const bootd_host *host) {
#endif
    (void)host, (void)text, (void)init, (void)handle;
    if (CASE == NULL_TABLE) return NULL;
    table.known = (bootd_plugin){
        .magic = CASE == WRONG_MAGIC ? BOOTD_MAGIC + 1 : BOOTD_MAGIC,
        .major = CASE == NEWER_MAJOR ? BOOTD_MAJOR + 1 : BOOTD_MAJOR,
        .minor = CASE == OLDER_MINOR ? 0 : CASE == NEWER_MINOR ? BOOTD_MINOR + 1 : BOOTD_MINOR,
        .size = CASE == NEWER_MINOR ? sizeof table : CASE == SHORT_TABLE ? offsetof(bootd_plugin, init) : sizeof(bootd_plugin),
        .name = CASE == NAME_NOT_UTF8 ? text(LITERAL("\xff\xfe")) : text(LITERAL("table")),
        .version = CASE == NAME_NOT_UTF8 ? text(LITERAL("\xff\xfe")) : text(LITERAL("1")),
        .init = CASE == NULL_INIT ? NULL : init,
        .handle = CASE == ONLY_INIT ? NULL : handle,
    };
    return &table.known;
}
