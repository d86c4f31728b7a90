// Compiled by header.rs: the offsets of version 1, as C sees them. src/lib.rs has the same numbers for Rust. A new field only comes at the end.
#include "bootd_plugin.h"

#define AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field)

_Static_assert(sizeof(bootd_str) == 16 && sizeof(bootd_buf) == 32, "sizes of texts");
AT(bootd_str, ptr, 0);
AT(bootd_str, len, 8);
AT(bootd_buf, ptr, 0);
AT(bootd_buf, len, 8);
AT(bootd_buf, owner, 16);
AT(bootd_buf, release, 24);

AT(bootd_host, magic, 0);
AT(bootd_host, major, 8);
AT(bootd_host, minor, 12);
AT(bootd_host, size, 16);
AT(bootd_host, ctx, 24);
AT(bootd_host, log_enabled, 32);
AT(bootd_host, log, 40);
AT(bootd_host, now_unix_ns, 48);
AT(bootd_host, now_boot_ns, 56);
AT(bootd_host, sleep, 64);
AT(bootd_host, publish, 72);
AT(bootd_host, nodes, 80);
AT(bootd_host, bump, 88);
AT(bootd_host, health, 96);
AT(bootd_host, store_get, 104);
AT(bootd_host, store_scan, 112);
AT(bootd_host, store_commit, 120);
AT(bootd_host, fetch, 128);
AT(bootd_host, metric, 136);
AT(bootd_host, metric_add, 144);
AT(bootd_host, metric_set, 152);
AT(bootd_host, event, 160);
_Static_assert(sizeof(bootd_host) == RUST_HOST_SIZE, "bootd_host has another size in Rust");

AT(bootd_plugin, magic, 0);
AT(bootd_plugin, major, 8);
AT(bootd_plugin, minor, 12);
AT(bootd_plugin, size, 16);
AT(bootd_plugin, name, 24);
AT(bootd_plugin, version, 40);
AT(bootd_plugin, init, 56);
AT(bootd_plugin, run, 64);
AT(bootd_plugin, handle, 72);
AT(bootd_plugin, resolve, 80);
AT(bootd_plugin, free, 88);
_Static_assert(sizeof(bootd_plugin) == RUST_PLUGIN_SIZE, "bootd_plugin has another size in Rust");

_Static_assert(BOOTD_MAGIC == UINT64_C(0x3144544f4f42), "BOOTD1");
_Static_assert(BOOTD_OK == 0 && BOOTD_NONE == 1 && BOOTD_STOPPING == 2, "good ends");
_Static_assert(BOOTD_FAILED == -1 && BOOTD_PANICKED == -2 && BOOTD_BAD_ARGUMENT == -3, "bad ends");
