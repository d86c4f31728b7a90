// A plugin that does with the raw table what no safe code does, by the path of the request; tests/hostile.rs asks for each.
#include "bootd_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bootd_str lend(const char *text) { return (bootd_str){(const uint8_t *)text, strlen(text)}; }

static void give_back(void *owner, uint8_t *ptr, size_t len) {
    (void)owner, (void)len;
    free(ptr);
}

static bootd_status give(bootd_buf *out, const char *text) {
    *out = (bootd_buf){(uint8_t *)strdup(text), strlen(text), NULL, give_back};
    return BOOTD_OK;
}

static bootd_status say(bootd_buf *out, const char *text) {
    char answer[256];
    snprintf(answer, sizeof answer, "{\"body\":\"%s\\n\"}", text);
    return give(out, answer);
}

// Of the first instance: they name nothing once it has ended.
static const bootd_host *first;
static uint64_t first_id;

static bootd_status declare(const bootd_host *host, uint64_t *id) {
    return host->metric(host->ctx, lend("{\"name\":\"counted\",\"kind\":\"counter\"}"), id);
}

static bootd_status init(const bootd_host *host, bootd_str config, void **instance, bootd_buf *out) {
    (void)config;
    *instance = (void *)(uintptr_t)host;
    if (!first) {
        first = host;
        declare(host, &first_id);
    }
    return give(out, "{\"routes\":[{\"method\":\"GET\",\"prefix\":\"/raw\",\"access\":\"open\"}]}");
}

// Takes 64 kB of nodes a thousand times and releases nothing: the plugin's own loss, within bounds here.
static bootd_status leak(const bootd_host *host, bootd_buf *out) {
    for (int n = 0; n < 1000; n++) {
        bootd_buf nodes = {0};
        host->nodes(host->ctx, lend("{}"), &nodes);
    }
    return say(out, "leaked");
}

// Metrics under ids that were invented, or are those of an instance that ended.
static bootd_status ids(const bootd_host *host, bootd_buf *out) {
    uint64_t good = 0;
    char text[128];
    int refused = 0;
    declare(host, &good);
    const uint64_t bad[] = {0, 1, UINT64_MAX, good + 1, good ^ (UINT64_C(1) << 40), first == host ? UINT64_MAX - 1 : first_id};
    for (size_t n = 0; n < sizeof bad / sizeof *bad; n++) refused += host->metric_add(host->ctx, bad[n], 1) == BOOTD_BAD_ARGUMENT;
    refused += host->metric_set(host->ctx, good, 7) == BOOTD_BAD_ARGUMENT; // a counter only grows
    host->metric_add(host->ctx, good, 1);
    snprintf(text, sizeof text, "%d of %zu refused", refused, sizeof bad / sizeof *bad + 1);
    return say(out, text);
}

// Calls with the `ctx` of an instance that ended, and with invented ones.
static bootd_status contexts(const bootd_host *host, bootd_buf *out) {
    static int somewhere;
    const void *bad[] = {first == host ? NULL : first->ctx, NULL, (void *)(intptr_t)-1, (void *)1, &somewhere,
                         (const char *)host->ctx + 1, (void *)((uintptr_t)host->ctx + (UINT64_C(1) << 24))};
    size_t refused = 0, count = sizeof bad / sizeof *bad;
    char text[128];
    for (size_t n = 0; n < count; n++) {
        bootd_buf report = {0};
        refused += host->publish(bad[n], lend("{\"full\":true}"), &report) == BOOTD_STOPPING &&
                   host->sleep(bad[n], UINT64_C(1000000000000)) == BOOTD_STOPPING &&
                   host->health(bad[n], lend("{\"text\":\"invented\"}")) == BOOTD_STOPPING;
        if (report.release) report.release(report.owner, report.ptr, report.len);
        host->bump(bad[n]);
        host->log(bad[n], BOOTD_LEVEL_ERROR, lend("raw"), lend("invented"), lend(""));
    }
    snprintf(text, sizeof text, "%zu of %zu refused", refused, count);
    return say(out, text);
}

// Texts that are none, NULL where a buffer may be, and lengths of nothing.
static bootd_status arguments(const bootd_host *host, bootd_buf *out) {
    const bootd_str bad[] = {{(const uint8_t *)"\xff\xfe\0{", 4}, {NULL, 0}, {NULL, 5}, lend("{"), lend("7"), lend("\"x\"")};
    size_t refused = 0, count = sizeof bad / sizeof *bad;
    char text[128];
    for (size_t n = 0; n < count; n++) {
        uint64_t id = 0;
        bootd_buf buf = {0};
        refused += host->publish(host->ctx, bad[n], NULL) < 0 && host->nodes(host->ctx, bad[n], NULL) < 0 &&
                   host->store_commit(host->ctx, bad[n], NULL) < 0 && host->fetch(host->ctx, bad[n], NULL) < 0 &&
                   host->metric(host->ctx, bad[n], &id) < 0 && host->metric(host->ctx, bad[n], NULL) < 0 &&
                   host->health(host->ctx, bad[n]) < 0;
        host->log(host->ctx, 4000000000u, bad[n], bad[n], bad[n]);
        host->store_get(host->ctx, bad[n], &buf);
        if (buf.release) buf.release(buf.owner, buf.ptr, buf.len);
    }
    snprintf(text, sizeof text, "%zu of %zu refused", refused, count);
    return say(out, text);
}

static bootd_status handle(void *instance, bootd_str request, bootd_buf *out) {
    const bootd_host *host = instance;
    char path[64] = "";
    const char *at = request.len < 4096 ? strstr(strndup((const char *)request.ptr, request.len), "\"path\":\"/raw/") : NULL;
    if (at) sscanf(at + 13, "%63[a-z-]", path);
    if (!strcmp(path, "leak")) return leak(host, out);
    if (!strcmp(path, "ids")) return ids(host, out);
    if (!strcmp(path, "contexts")) return contexts(host, out);
    if (!strcmp(path, "arguments")) return arguments(host, out);
    if (!strcmp(path, "no-json")) return give(out, "<html>");
    if (!strcmp(path, "no-text")) return give(out, "{\"body\":\"\xff\xfe\xc0\"}");
    if (!strcmp(path, "nothing")) return BOOTD_OK;
    if (!strcmp(path, "null-with-length")) return *out = (bootd_buf){NULL, 4096, NULL, NULL}, BOOTD_OK;
    if (!strcmp(path, "deep")) {
        char deep[20001];
        memset(deep, '[', sizeof deep - 1);
        deep[sizeof deep - 1] = 0;
        return give(out, deep);
    }
    if (!strcmp(path, "huge")) return *out = (bootd_buf){calloc(1, 100000000), 100000000, NULL, give_back}, BOOTD_OK;
    if (!strcmp(path, "status")) return 12345; // a status that no version has
    if (!strcmp(path, "none")) return BOOTD_NONE;
    return say(out, "good");
}

static const bootd_plugin table = {
    .magic = BOOTD_MAGIC, .major = BOOTD_MAJOR, .minor = BOOTD_MINOR, .size = sizeof(bootd_plugin),
    .name = {(const uint8_t *)"raw", 3}, .version = {(const uint8_t *)"1", 1}, .init = init, .handle = handle,
};

const bootd_plugin *bootd_plugin_entry_v1(const bootd_host *host) { return host->magic == BOOTD_MAGIC ? &table : NULL; }
