// A whole plugin in plain C: publishes one node, which boots, and answers one route. plugins/README.md explains what happens when.
//
//     [[plugin]]
//     name = "example-c"
//     file = "/usr/lib/bootd/plugins/libbootd_example_c.so"      # make installs nothing; see the Makefile
//     config = { id = "x1000c0s0b0n0", mac = "52:54:00:be:ef:01", ip = "172.16.0.1" }
#include "bootd_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Everything that an instance has. bootd may make a second one while the first still answers, so nothing is static.
typedef struct {
    const bootd_host *host;
    uint64_t answered; // the id of a metric
    int has_metric;
    char id[64], mac[64], ip[64];
} instance;

static bootd_str lend(const char *text) { return (bootd_str){(const uint8_t *)text, strlen(text)}; }

static void give_back(void *owner, uint8_t *ptr, size_t len) {
    (void)owner, (void)len;
    free(ptr);
}

// Gives a text away: bootd reads it, then calls `give_back` once. Without memory the buffer stays empty.
static bootd_status give(bootd_status status, bootd_buf *out, const char *text) {
    size_t len = strlen(text);
    uint8_t *copy = malloc(len + 1);
    if (copy) *out = (bootd_buf){memcpy(copy, text, len), len, NULL, give_back};
    return copy ? status : BOOTD_FAILED;
}

// A host has a function when the table is long enough for it and it is not NULL: an older bootd has fewer.
#define HAS(host, f) ((host)->size >= offsetof(bootd_host, f) + sizeof((host)->f) && (host)->f)

// Copies the text at a key of a JSON object. Only letters, digits and ":.-_" pass, so it may stand in JSON again as it is; whoever needs
// more takes a JSON library. A quote inside a JSON string has a backslash, so `"key"` with a colon behind it is a key.
static int read_key(bootd_str json, const char *key, char *value, size_t size) {
    char quoted[32];
    size_t length = (size_t)snprintf(quoted, sizeof quoted, "\"%s\"", key), n = 0;
    const char *at = (const char *)json.ptr, *end = at + json.len;
    for (; at + length < end; at++) {
        const char *p = at + length;
        if (memcmp(at, quoted, length) != 0) continue;
        while (p < end && *p == ' ') p++;
        if (p == end || *p++ != ':') continue;
        while (p < end && *p == ' ') p++;
        if (p == end || *p++ != '"') return 0;
        for (; p < end && *p != '"' && n + 1 < size; value[n++] = *p++)
            if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:.-_", *p) || !*p) return 0;
        value[n] = 0;
        return n > 0 && p < end && *p == '"';
    }
    return 0;
}

static bootd_status init(const bootd_host *host, bootd_str config, void **made, bootd_buf *out) {
    instance *me = calloc(1, sizeof *me);
    if (!me) return BOOTD_FAILED;
    me->host = host;
    if (!read_key(config, "id", me->id, sizeof me->id) || !read_key(config, "mac", me->mac, sizeof me->mac) ||
        !read_key(config, "ip", me->ip, sizeof me->ip)) {
        free(me);
        return give(BOOTD_BAD_ARGUMENT, out, "config needs id, mac and ip, each a plain text");
    }
    char text[512];
    bootd_buf report = {0};
    snprintf(text, sizeof text,
             "{\"full\":true,\"nodes\":[{\"id\":\"%s\",\"kind\":\"Node\",\"role\":\"Compute\",\"enabled\":true,"
             "\"interfaces\":[{\"mac\":\"%s\",\"ips\":[{\"ip\":\"%s\"}]}]}]}",
             me->id, me->mac, me->ip);
    bootd_status status = host->publish(host->ctx, lend(text), &report);
    // The report says which rows were refused, and why; "refused":[] when none was.
    snprintf(text, sizeof text, "%.*s", (int)(report.len < 400 ? report.len : 400), report.ptr ? (char *)report.ptr : "");
    if (report.release) report.release(report.owner, report.ptr, report.len);
    if (status != BOOTD_OK || !strstr(text, "\"refused\":[]")) {
        free(me);
        return give(BOOTD_FAILED, out, text);
    }
    if (HAS(host, metric) && HAS(host, metric_add))
        me->has_metric = host->metric(host->ctx, lend("{\"name\":\"answered\",\"kind\":\"counter\"}"), &me->answered) == BOOTD_OK;
    *made = me;
    return give(BOOTD_OK, out,
                "{\"provides_nodes\":true,\"routes\":[{\"method\":\"GET\",\"prefix\":\"/example-c\",\"access\":\"open\"}]}");
}

// The background thread. This plugin has nothing to look at, so it only waits for its end.
static bootd_status run(void *made) {
    const bootd_host *host = ((instance *)made)->host;
    while (host->sleep(host->ctx, UINT64_C(60000000000)) != BOOTD_STOPPING) {}
    return BOOTD_OK;
}

// Called by several threads at once. `request` is not looked at: every request is for this plugin's one route.
static bootd_status handle(void *made, bootd_str request, bootd_buf *answer) {
    const instance *me = made;
    char text[256];
    if (request.len == 0 || request.ptr[0] != '{') return give(BOOTD_BAD_ARGUMENT, answer, "not a request");
    if (me->has_metric) me->host->metric_add(me->host->ctx, me->answered, 1);
    snprintf(text, sizeof text, "{\"headers\":[[\"content-type\",\"text/plain\"]],\"body\":\"%s is %s\\n\"}", me->mac, me->id);
    return give(BOOTD_OK, answer, text);
}

static void end(void *made) { free(made); }

const bootd_plugin *bootd_plugin_entry_v1(const bootd_host *host) {
    // Constant, so that it is the same table however often bootd asks. No `resolve`: NULL says so.
    static const bootd_plugin table = {
        .magic = BOOTD_MAGIC, .major = BOOTD_MAJOR, .minor = BOOTD_MINOR, .size = sizeof(bootd_plugin),
        .name = {(const uint8_t *)"example-c", 9}, .version = {(const uint8_t *)"1.0", 3},
        .init = init, .run = run, .handle = handle, .free = end,
    };
    return host->magic == BOOTD_MAGIC && host->major == BOOTD_MAJOR ? &table : NULL;
}
