//! The C contract between bootd and its plugins, version 1.
//!
//! A plugin is a shared object with one symbol, [`ENTRY_SYMBOL`]. bootd calls it once with its own table ([`Host`]) and gets the plugin's
//! table ([`Plugin`]) back. Both begin with a magic number, a version and their own size in bytes: a *minor* version only appends
//! functions, so a reader uses a function only when it lies within `size` and is not NULL. A *major* version is another symbol.
//!
//! Rules that hold everywhere:
//! - [`Str`] is borrowed: UTF-8, valid until the call returns. [`Buf`] is given away: its receiver calls `release` exactly once.
//! - Requests, answers and records are JSON. Their fields are documented in `bootd_sdk::wire`; unknown fields are ignored by both sides.
//! - No panic and no exception may cross. Nothing here is ever unmapped, so a function pointer stays callable for the process's life.
//! - Every function of [`Host`] may be called from any thread between the start of `init` and the return of `run`. Afterwards it does nothing and says
//!   [`status::STOPPING`].
//! - Ids (metrics, and the instance that `ctx` names) are a slot and a generation, looked up and never dereferenced: a stale or invented one is
//!   refused and counted.
//!
//! This crate has no dependencies and no logic; `plugins/sdk` makes it safe to use from Rust. `include/bootd_plugin.h` is the same for C,
//! made from this file by its test.
#![no_std]

use core::ffi::c_void;

/// `BOOTD1` in ASCII, little-endian: tells a bootd plugin from any other shared object.
pub const MAGIC: u64 = 0x0000_3144_544f_4f42;
/// A change of meaning or order; it is part of the entry symbol's name too.
pub const MAJOR: u32 = 1;
/// Functions were appended. 1: `fetch`, `metric`, `metric_add`, `metric_set`, `event`.
pub const MINOR: u32 = 1;
/// The one symbol that a plugin exports, of type [`Entry`].
pub const ENTRY_SYMBOL: &str = "bootd_plugin_entry_v1";

/// What a call came to. Zero is success; the host and plugins accept values that they do not know as [`status::FAILED`].
pub type Status = i32;

/// The values of [`Status`].
pub mod status {
    use super::Status;
    /// The call did what it says.
    pub const OK: Status = 0;
    /// There is no such thing: no such node, no such key. Nothing is written to the output buffer.
    pub const NONE: Status = 1;
    /// The host is ending this instance: `run` returns now.
    pub const STOPPING: Status = 2;
    /// It did not work. An output buffer, if any, holds the reason as UTF-8 text.
    pub const FAILED: Status = -1;
    /// The plugin panicked. The host takes the instance out of service and starts another.
    pub const PANICKED: Status = -2;
    /// An argument is not what this page says: not UTF-8, not JSON, a field of the wrong type, an id that names nothing. The output buffer, if
    /// any, holds the reason.
    pub const BAD_ARGUMENT: Status = -3;
}

/// Severity of a log line: the numbers of syslog.
pub mod level {
    /// Something failed.
    pub const ERROR: u32 = 3;
    /// Something is wrong and was handled.
    pub const WARN: u32 = 4;
    /// Worth a line in ordinary operation.
    pub const INFO: u32 = 6;
    /// For whoever looks for a fault.
    pub const DEBUG: u32 = 7;
}

/// Borrowed UTF-8 text: valid until the call that carries it returns. `ptr` may be NULL when `len` is 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Str {
    /// First byte.
    pub ptr: *const u8,
    /// Bytes; no NUL ends them.
    pub len: usize,
}

/// Bytes that change hands. The receiver reads `len` bytes at `ptr`, then calls `release(owner, ptr, len)` once. `release` NULL: nothing
/// to free.
#[repr(C)]
pub struct Buf {
    /// First byte; may be NULL when `len` is 0.
    pub ptr: *mut u8,
    /// Bytes.
    pub len: usize,
    /// For `release`; of no meaning to the receiver.
    pub owner: *mut c_void,
    /// Frees the bytes. Callable from any thread.
    pub release: Option<unsafe extern "C" fn(owner: *mut c_void, ptr: *mut u8, len: usize)>,
}

/// What bootd offers to a plugin. Each function gets `ctx` as its first argument: it names the plugin's instance.
#[repr(C)]
pub struct Host {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`MAJOR`] of the host.
    pub major: u32,
    /// [`MINOR`] of the host.
    pub minor: u32,
    /// Bytes of this table.
    pub size: usize,
    /// First argument of each function below.
    pub ctx: *const c_void,
    /// 1 when a line of this [`level`] would be kept: ask before building an expensive one.
    pub log_enabled: Option<unsafe extern "C" fn(ctx: *const c_void, level: u32) -> u8>,
    /// Writes a log line. `target` says where in the plugin; `fields` is a JSON object or empty.
    pub log: Option<unsafe extern "C" fn(ctx: *const c_void, level: u32, target: Str, message: Str, fields: Str)>,
    /// Nanoseconds since 1970-01-01 UTC.
    pub now_unix_ns: Option<unsafe extern "C" fn(ctx: *const c_void) -> u64>,
    /// Nanoseconds of a clock that never jumps and goes on in suspend.
    pub now_boot_ns: Option<unsafe extern "C" fn(ctx: *const c_void) -> u64>,
    /// Sleeps; `OK` when the time is over, `STOPPING` at once when the instance is to end.
    pub sleep: Option<unsafe extern "C" fn(ctx: *const c_void, ns: u64) -> Status>,
    /// Publishes nodes: `publication` is a `wire::Publication`, `report` gets a `wire::Report`. Rows that are wrong are refused one by
    /// one, with reasons in the report; the others take effect before the call returns.
    pub publish: Option<unsafe extern "C" fn(ctx: *const c_void, publication: Str, report: *mut Buf) -> Status>,
    /// Reads the inventory: `query` is a `wire::Query`, `nodes` gets a JSON array of `wire::Node` (empty: no such node).
    pub nodes: Option<unsafe extern "C" fn(ctx: *const c_void, query: Str, nodes: *mut Buf) -> Status>,
    /// Says that this plugin's data changed: answers that were kept for it are made anew at the next request.
    pub bump: Option<unsafe extern "C" fn(ctx: *const c_void)>,
    /// Says how the plugin is: `health` is a `wire::Health`; it replaces what was said before.
    pub health: Option<unsafe extern "C" fn(ctx: *const c_void, health: Str) -> Status>,
    /// Reads a value of the plugin's own persistent store. `NONE`: no such key.
    pub store_get: Option<unsafe extern "C" fn(ctx: *const c_void, key: Str, value: *mut Buf) -> Status>,
    /// Reads all keys that begin with `prefix`: a JSON object key → text, in key order.
    pub store_scan: Option<unsafe extern "C" fn(ctx: *const c_void, prefix: Str, values: *mut Buf) -> Status>,
    /// Writes several keys at once, or none: `commit` is a `wire::Commit`. What returned `OK` survives a power cut; `NONE`: a
    /// precondition did not hold and nothing was written.
    pub store_commit: Option<unsafe extern "C" fn(ctx: *const c_void, commit: Str, error: *mut Buf) -> Status>,
    /// Since minor 1. Makes an HTTP request and waits for its answer: `request` is a `wire::Fetch`, `reply` gets a `wire::Fetched`. Any status is
    /// `OK`; `FAILED`: there was no answer. Returns early with `STOPPING`.
    pub fetch: Option<unsafe extern "C" fn(ctx: *const c_void, request: Str, reply: *mut Buf) -> Status>,
    /// Since minor 1. Declares a number that bootd shows among its metrics: `declaration` is a `wire::Metric`; `id` is set. Declared
    /// again it is the same one, with the same value, also after a restart of the plugin.
    pub metric: Option<unsafe extern "C" fn(ctx: *const c_void, declaration: Str, id: *mut u64) -> Status>,
    /// Since minor 1. Adds to a metric; a counter only grows.
    pub metric_add: Option<unsafe extern "C" fn(ctx: *const c_void, id: u64, by: i64) -> Status>,
    /// Since minor 1. Sets a gauge.
    pub metric_set: Option<unsafe extern "C" fn(ctx: *const c_void, id: u64, value: i64) -> Status>,
    /// Since minor 1. Waits for the next event of the kinds that `wire::Setup` named, at most `timeout_ns`: `event` gets a `wire::Event`.
    /// `NONE`: none came. Events that nobody takes are lost, the oldest first, and the next one says how many.
    pub event: Option<unsafe extern "C" fn(ctx: *const c_void, timeout_ns: u64, event: *mut Buf) -> Status>,
}

/// What a plugin offers to bootd. All functions may block; each runs on a thread that the host owns and names after the plugin.
#[repr(C)]
pub struct Plugin {
    /// [`MAGIC`].
    pub magic: u64,
    /// The [`MAJOR`] that the plugin was built for.
    pub major: u32,
    /// The [`MINOR`] that the plugin was built for.
    pub minor: u32,
    /// Bytes of this table.
    pub size: usize,
    /// The plugin's name, such as `smd`. Valid for the process's life.
    pub name: Str,
    /// The plugin's own version, for humans. Valid for the process's life.
    pub version: Str,
    /// Makes an instance. `host` is this instance's table, valid for the process's life; `config` a `wire::Configuration`. On `OK`
    /// `instance` is set (NULL is allowed) and `out` holds a `wire::Setup`; else `out` holds the reason as text. `BAD_ARGUMENT`: the mode
    /// is not available or the settings cannot be read, a mistake in bootd.toml that no second try repairs; `FAILED`: anything else. May
    /// publish: it takes effect when the instance is in service, and never when the start fails.
    pub init: Option<
        unsafe extern "C" fn(host: *const Host, config: Str, instance: *mut *mut c_void, out: *mut Buf) -> Status,
    >,
    /// The plugin's own thread, called when the instance is in service: poll, publish, sleep. Returns when `sleep` says `STOPPING`. NULL: nothing to do in the background.
    pub run: Option<unsafe extern "C" fn(instance: *mut c_void) -> Status>,
    /// Answers an HTTP request: `request` is a `wire::Request`, `answer` gets a `wire::Answer`. Called from several threads at once. No call
    /// with a method other than `GET` is under way while another instance's `init` runs.
    pub handle: Option<unsafe extern "C" fn(instance: *mut c_void, request: Str, answer: *mut Buf) -> Status>,
    /// Looks up a MAC that the inventory does not have: `OK` and a `wire::Node`, or `NONE`. Called from several threads at once.
    pub resolve: Option<unsafe extern "C" fn(instance: *mut c_void, mac: Str, node: *mut Buf) -> Status>,
    /// Frees an instance. Called once, after `run` returned and while no other call is under way.
    pub free: Option<unsafe extern "C" fn(instance: *mut c_void)>,
}

// SAFETY: a table is never written after it was made, its functions are callable from any thread, and its pointers lead to constants.
#[allow(unsafe_code)]
unsafe impl Sync for Host {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Send for Host {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Plugin {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Send for Plugin {}

/// The type of [`ENTRY_SYMBOL`]. Has no side effects; `host` here serves only the version check. NULL: the plugin refuses this host.
pub type Entry = unsafe extern "C" fn(host: *const Host) -> *const Plugin;

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    /// Every field's offset, in order: a new one only comes at the end.
    macro_rules! offsets {
        ($of:ty: $($field:ident),+) => { [$(offset_of!($of, $field)),+] };
    }

    #[test]
    fn the_layout_of_version_1_never_changes() {
        assert_eq!((size_of::<Str>(), size_of::<Buf>()), (16, 32));
        assert_eq!(offsets!(Str: ptr, len), [0, 8]);
        assert_eq!(offsets!(Buf: ptr, len, owner, release), [0, 8, 16, 24]);
        assert_eq!(offsets!(Host: magic, major, minor, size, ctx), [0, 8, 12, 16, 24]);
        assert_eq!(
            offsets!(Host: log_enabled, log, now_unix_ns, now_boot_ns, sleep, publish, nodes, bump, health),
            [32, 40, 48, 56, 64, 72, 80, 88, 96]
        );
        assert_eq!(offsets!(Host: store_get, store_scan, store_commit), [104, 112, 120]);
        assert_eq!(
            offsets!(Host: fetch, metric, metric_add, metric_set, event),
            [128, 136, 144, 152, 160]
        );
        assert_eq!(size_of::<Host>(), 168);
        assert_eq!(
            offsets!(Plugin: magic, major, minor, size, name, version),
            [0, 8, 12, 16, 24, 40]
        );
        assert_eq!(offsets!(Plugin: init, run, handle, resolve, free), [56, 64, 72, 80, 88]);
        assert_eq!(size_of::<Plugin>(), 96);
    }

    #[test]
    fn the_values_of_version_1_never_change() {
        use status::*;
        assert_eq!(
            [OK, NONE, STOPPING, FAILED, PANICKED, BAD_ARGUMENT],
            [0, 1, 2, -1, -2, -3]
        );
        assert_eq!([level::ERROR, level::WARN, level::INFO, level::DEBUG], [3, 4, 6, 7]);
        assert_eq!(MAGIC.to_le_bytes(), *b"BOOTD1\0\0");
    }
}
