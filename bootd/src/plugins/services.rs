//! What a plugin may ask of bootd: the host's side of the ABI.
//!
//! Each instance has a [`Services`] of its own, leaked, because the ABI promises its table for the process's life. Every function is
//! callable from any thread at any time, checks what it gets, and never panics across the border.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bootd_abi as abi;
use bootd_sdk::text::{given, lent};
use bootd_sdk::wire::{Commit, Health, Node, Query};
use bootd_sdk::xname;
use rustix::time::{ClockId, clock_gettime};
use serde::de::DeserializeOwned;

use super::{Core, locked};
use crate::inventory::Told;
use crate::state::{Row, StoreError, Write};

/// The services of one plugin instance.
pub(super) struct Services {
    table: OnceLock<abi::Host>,
    name: String,
    core: Core,
    health: Mutex<Health>,
    bumps: AtomicU64,
    stopping: Mutex<bool>,
    wake: Condvar,
}

impl Services {
    pub(super) fn leak(name: &str, core: Core) -> &'static Self {
        let services: &'static Self = Box::leak(Box::new(Self {
            table: OnceLock::new(),
            name: name.into(),
            core,
            health: Mutex::default(),
            bumps: AtomicU64::new(0),
            stopping: Mutex::new(false),
            wake: Condvar::new(),
        }));
        services.table.get_or_init(|| abi::Host {
            ctx: std::ptr::from_ref(services).cast(),
            log_enabled: Some(log_enabled),
            log: Some(log),
            now_unix_ns: Some(now_unix_ns),
            now_boot_ns: Some(now_boot_ns),
            sleep: Some(sleep),
            publish: Some(publish),
            nodes: Some(nodes),
            bump: Some(bump),
            health: Some(health),
            store_get: Some(store_get),
            store_scan: Some(store_scan),
            store_commit: Some(store_commit),
            ..bare_table()
        });
        services
    }

    pub(super) fn table(&'static self) -> &'static abi::Host {
        self.table.get_or_init(bare_table)
    }

    pub(super) fn health(&self) -> Health {
        locked(&self.health).clone()
    }

    pub(super) fn bumps(&self) -> u64 {
        self.bumps.load(Ordering::Acquire)
    }

    pub(super) fn stop(&self) {
        *locked(&self.stopping) = true;
        self.wake.notify_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        *locked(&self.stopping)
    }

    fn take_health(&self, health: Health) {
        let mistakes = i64::try_from(health.mistakes.len()).unwrap_or(i64::MAX);
        self.core.metrics.set(&self.name, "data_mistakes", mistakes);
        let before = std::mem::replace(&mut *locked(&self.health), health.clone());
        for mistake in health
            .mistakes
            .iter()
            .filter(|mistake| !before.mistakes.contains(mistake))
        {
            tracing::warn!(plugin = self.name, %mistake, "a mistake in a plugin's data");
        }
    }

    fn sleep(&self, time: Duration) -> abi::Status {
        let until = Instant::now().checked_add(time);
        let mut stopping = locked(&self.stopping);
        loop {
            if *stopping {
                return abi::status::STOPPING;
            }
            let left = until.map_or(Duration::from_secs(3600), |until| {
                until.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return abi::status::OK;
            }
            stopping = match self.wake.wait_timeout(stopping, left) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn publish(&self, publication: Told) -> Result<String, String> {
        let report = self
            .core
            .inventory
            .publish(&self.name, publication)
            .map_err(|error| error.to_string())?;
        serde_json::to_string(&report).map_err(|error| error.to_string())
    }

    fn nodes(&self, query: &Query) -> Result<String, String> {
        let snapshot = self.core.inventory.snapshot();
        fn one(node: Option<&Arc<Node>>) -> Vec<&Node> {
            node.map(|node| vec![&**node]).unwrap_or_default()
        }
        let found: Vec<&Node> = match query {
            Query { mac: Some(mac), .. } => one(snapshot.by_mac(*mac).map(|(node, _)| node)),
            Query { ip: Some(ip), .. } => one(snapshot.by_ip(*ip)),
            Query { id: Some(id), .. } => one(snapshot.by_id(&xname::normalise(id))),
            Query { nid: Some(nid), .. } => one(snapshot.by_nid(*nid)),
            Query { group: Some(group), .. } => snapshot
                .entries()
                .iter()
                .map(|entry| &*entry.node)
                .filter(|node| node.groups.contains(group))
                .collect(),
            _ => snapshot.entries().iter().map(|entry| &*entry.node).collect(),
        };
        serde_json::to_string(&found).map_err(|error| error.to_string())
    }

    fn table_name(&self) -> String {
        format!("plugin/{}", self.name)
    }

    fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        let Some(store) = &self.core.store else { return Ok(()) };
        let row = |key: String| Row {
            table: self.table_name(),
            key,
        };
        store.write_and_wait(Write {
            expect: commit
                .expect
                .into_iter()
                .map(|(key, value)| (row(key), value))
                .collect(),
            put: commit.put.into_iter().map(|(key, value)| (row(key), value)).collect(),
            delete: commit.delete.into_iter().map(row).collect(),
        })
    }
}

/// A table without services: what the version check of a plugin's entry function sees.
pub(super) const fn bare_table() -> abi::Host {
    abi::Host {
        magic: abi::MAGIC,
        major: abi::MAJOR,
        minor: abi::MINOR,
        size: std::mem::size_of::<abi::Host>(),
        ctx: std::ptr::null(),
        log_enabled: None,
        log: None,
        now_unix_ns: None,
        now_boot_ns: None,
        sleep: None,
        publish: None,
        nodes: None,
        bump: None,
        health: None,
        store_get: None,
        store_scan: None,
        store_commit: None,
    }
}

unsafe extern "C" fn log_enabled(_: *const c_void, level: u32) -> u8 {
    let enabled = match level {
        0..=abi::level::ERROR => tracing::enabled!(target: "plugin", tracing::Level::ERROR),
        abi::level::WARN => tracing::enabled!(target: "plugin", tracing::Level::WARN),
        5..=abi::level::INFO => tracing::enabled!(target: "plugin", tracing::Level::INFO),
        _ => tracing::enabled!(target: "plugin", tracing::Level::DEBUG),
    };
    u8::from(enabled)
}

unsafe extern "C" fn log(ctx: *const c_void, level: u32, target: abi::Str, message: abi::Str, fields: abi::Str) {
    // SAFETY: called through the table, with lent texts.
    let (services, target, message, fields) = unsafe { (this(ctx), lent(target), lent(message), lent(fields)) };
    let (target, message, fields) = (target.unwrap_or("?"), message.unwrap_or("?"), fields.unwrap_or("?"));
    let plugin = services.name.as_str();
    let _ = catch_unwind(AssertUnwindSafe(|| match level {
        0..=abi::level::ERROR => tracing::error!(target: "plugin", plugin, module = target, fields, "{message}"),
        abi::level::WARN => tracing::warn!(target: "plugin", plugin, module = target, fields, "{message}"),
        5..=abi::level::INFO => tracing::info!(target: "plugin", plugin, module = target, fields, "{message}"),
        _ => tracing::debug!(target: "plugin", plugin, module = target, fields, "{message}"),
    }));
}

unsafe extern "C" fn now_unix_ns(_: *const c_void) -> u64 {
    clock_ns(ClockId::Realtime)
}

unsafe extern "C" fn now_boot_ns(_: *const c_void) -> u64 {
    clock_ns(ClockId::Boottime)
}

fn clock_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

unsafe extern "C" fn sleep(ctx: *const c_void, ns: u64) -> abi::Status {
    // SAFETY: called through the table.
    unsafe { this(ctx) }.sleep(Duration::from_nanos(ns))
}

unsafe extern "C" fn publish(ctx: *const c_void, publication: abi::Str, report: *mut abi::Buf) -> abi::Status {
    // SAFETY: called through the table, with a lent text and a place for a buffer.
    unsafe { json_call(ctx, publication, report, Services::publish) }
}

unsafe extern "C" fn nodes(ctx: *const c_void, query: abi::Str, nodes: *mut abi::Buf) -> abi::Status {
    // SAFETY: called through the table, with a lent text and a place for a buffer.
    unsafe { json_call(ctx, query, nodes, |services, query: Query| services.nodes(&query)) }
}

unsafe extern "C" fn bump(ctx: *const c_void) {
    // SAFETY: called through the table.
    unsafe { this(ctx) }.bumps.fetch_add(1, Ordering::AcqRel);
}

unsafe extern "C" fn health(ctx: *const c_void, health: abi::Str) -> abi::Status {
    // SAFETY: called through the table, with a lent text.
    let said = unsafe { lent(health) }.and_then(|text| serde_json::from_str::<Health>(text).ok());
    let Some(health) = said else {
        return abi::status::BAD_ARGUMENT;
    };
    // SAFETY: called through the table.
    let services = unsafe { this(ctx) };
    match catch_unwind(AssertUnwindSafe(|| services.take_health(health))) {
        Ok(()) => abi::status::OK,
        Err(_) => abi::status::FAILED,
    }
}

unsafe extern "C" fn store_get(ctx: *const c_void, key: abi::Str, value: *mut abi::Buf) -> abi::Status {
    // SAFETY: called through the table, with a lent text and a place for a buffer.
    unsafe {
        text_call(ctx, key, value, |services, key| match &services.core.store {
            Some(store) => store
                .get(&services.table_name(), key)
                .map_err(|error| error.to_string()),
            None => Ok(None),
        })
    }
}

unsafe extern "C" fn store_scan(ctx: *const c_void, prefix: abi::Str, values: *mut abi::Buf) -> abi::Status {
    // SAFETY: called through the table, with a lent text and a place for a buffer.
    unsafe {
        text_call(ctx, prefix, values, |services, prefix| match &services.core.store {
            Some(store) => {
                let found = store
                    .scan(&services.table_name(), prefix)
                    .map_err(|error| error.to_string())?;
                serde_json::to_string(&found)
                    .map(Some)
                    .map_err(|error| error.to_string())
            }
            None => Ok(Some("{}".into())),
        })
    }
}

unsafe extern "C" fn store_commit(ctx: *const c_void, commit: abi::Str, error: *mut abi::Buf) -> abi::Status {
    // SAFETY: called through the table, with a lent text and a place for a buffer.
    unsafe {
        text_call(ctx, commit, error, |services, text| {
            let commit = serde_json::from_str(text).map_err(|error| error.to_string())?;
            match services.commit(commit) {
                Ok(()) => Ok(Some(String::new())),
                Err(StoreError::Conflict) => Ok(None),
                Err(error) => Err(error.to_string()),
            }
        })
    }
}

/// # Safety
/// As for [`text_call`].
unsafe fn json_call<I: DeserializeOwned>(
    ctx: *const c_void,
    input: abi::Str,
    out: *mut abi::Buf,
    f: impl FnOnce(&Services, I) -> Result<String, String>,
) -> abi::Status {
    // SAFETY: the caller's promise.
    unsafe {
        text_call(ctx, input, out, |services, text| {
            let input = serde_json::from_str(text).map_err(|error| error.to_string())?;
            f(services, input).map(Some)
        })
    }
}

/// Text in, text out; a panic becomes `FAILED`.
///
/// # Safety
/// `ctx` is that of a [`Services`]' table, `input` a lent text, `out` NULL or a place for a buffer.
unsafe fn text_call(
    ctx: *const c_void,
    input: abi::Str,
    out: *mut abi::Buf,
    f: impl FnOnce(&Services, &str) -> Result<Option<String>, String>,
) -> abi::Status {
    // SAFETY: the caller's promise.
    let (services, input) = unsafe { (this(ctx), lent(input)) };
    let result = match input {
        Some(text) => {
            catch_unwind(AssertUnwindSafe(|| f(services, text))).unwrap_or_else(|_| Err("bootd panicked".into()))
        }
        None => Err("not UTF-8".into()),
    };
    let (status, text) = match result {
        Ok(Some(text)) => (abi::status::OK, text),
        Ok(None) => (abi::status::NONE, String::new()),
        Err(text) => (abi::status::FAILED, text),
    };
    if !out.is_null() {
        // SAFETY: the caller's promise.
        unsafe { *out = given(text) };
    }
    status
}

/// # Safety
/// `ctx` is that of a [`Services`]' table; services are leaked.
unsafe fn this(ctx: *const c_void) -> &'static Services {
    // SAFETY: the caller's promise.
    unsafe { &*ctx.cast::<Services>() }
}
