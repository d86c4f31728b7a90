//! What a plugin may ask of bootd: the host's side of the ABI.
//!
//! Each instance has [`Services`] of its own. The `ctx` that it is given is a number, a slot and a generation, looked up in [`INSTANCES`] at
//! each call and never dereferenced: a call of an instance that ended, or with an invented `ctx`, finds nothing and is told to stop. Every
//! function is callable from any thread at any time, checks what it gets, and never panics across the border. Only the 168 bytes of a
//! table are leaked an instance, because the ABI promises it for the process's life.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bootd_abi as abi;
use bootd_sdk::text::{given, lent};
use bootd_sdk::wire::{Commit, EventKind, Happening, Health, Mistake, Node, Query, Report};
use bootd_sdk::xname;
use rustix::time::{ClockId, clock_gettime};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::fetch::FetchError;
use super::mailbox::{Mailbox, Woken};
use super::numbers::Numbers;
use super::{Core, PART, locked};
use crate::inventory::{PublishError, Rows, Told};
use crate::lines::Lines;
use crate::state::{Row, StoreError, Write};

/// What all instances of one plugin share, one after the other.
pub(super) struct Shared {
    name: String,
    core: Core,
    health: Mutex<Health>,
    /// Grows with each change of what kept answers depend on.
    bumps: AtomicU64,
    lines: Lines,
    /// One publication after the other, so that none of an instance that ended comes after those of the next.
    publishing: Mutex<()>,
    /// Until when the next publication waits.
    publish_turn: Mutex<Instant>,
}

impl Shared {
    pub(super) fn new(name: &str, core: Core) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            name: name.into(),
            core,
            health: Mutex::default(),
            bumps: AtomicU64::new(0),
            lines: Lines::new(now),
            publishing: Mutex::default(),
            publish_turn: Mutex::new(now),
        })
    }

    pub(super) fn health(&self) -> Health {
        locked(&self.health).clone()
    }

    pub(super) fn bumps(&self) -> u64 {
        self.bumps.load(Ordering::Acquire)
    }

    pub(super) fn bump(&self) {
        self.bumps.fetch_add(1, Ordering::AcqRel);
    }

    /// Says how many log lines were too many, when there were some and it is time to say so.
    pub(super) fn say_left_out(&self, now: Instant) {
        if let Some(left_out) = self.lines.left_out(now) {
            let detail = format!("{left_out} lines left out: it logs too much");
            self.core.metrics.refused(PART, "log_lines", &self.name, &detail);
        }
    }

    fn take_health(&self, mut health: Health) {
        // A plugin may quote what others sent it.
        shorten(&mut health.text);
        if let Some(more) = health
            .mistakes
            .len()
            .checked_sub(MOST_MISTAKES)
            .filter(|more| *more > 0)
        {
            health.mistakes.truncate(MOST_MISTAKES);
            health.mistakes.push(Mistake {
                file: self.name.clone(),
                line: 0,
                text: format!("and {more} more mistakes"),
            });
        }
        for mistake in &mut health.mistakes {
            shorten(&mut mistake.file);
            shorten(&mut mistake.text);
        }
        let mistakes = i64::try_from(health.mistakes.len()).unwrap_or(i64::MAX);
        self.core.metrics.set(&self.name, "data_mistakes", mistakes);
        let before = std::mem::replace(&mut *locked(&self.health), health.clone());
        let new = health
            .mistakes
            .iter()
            .filter(|mistake| !before.mistakes.contains(mistake));
        for mistake in new {
            if self.lines.may_write(Instant::now()) {
                tracing::warn!(plugin = self.name, %mistake, "a mistake in a plugin's data");
            }
        }
    }
}

/// Cuts a text that is too long for a line.
fn shorten(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(MOST_SAID) {
        text.truncate(end);
        text.push('…');
    }
}

/// Mistakes that a plugin may tell at once.
const MOST_MISTAKES: usize = 1000;
/// Characters of a text of its health.
const MOST_SAID: usize = 1000;

/// The services of one plugin instance.
pub(super) struct Services {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    stopping: CancellationToken,
    numbers: Numbers,
    /// What it published before it was in service: takes effect then, or never. `None`: it is in service.
    held: Mutex<Option<Held>>,
}

/// What an instance that is not in service yet has said.
#[derive(Default)]
struct Held {
    publications: Vec<Rows>,
    health: Health,
}

thread_local! {
    /// This thread is in a call that somebody waits for: it is finished, also while the instance ends.
    static IN_CALL: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as one that answers, for the time of a call.
pub(super) fn in_call<T>(call: impl FnOnce() -> T) -> T {
    IN_CALL.set(true);
    let result = call();
    IN_CALL.set(false);
    result
}

/// The instances that live, by the slot and the generation in their `ctx`.
static INSTANCES: RwLock<Vec<(u32, Option<Arc<Services>>)>> = RwLock::new(Vec::new());

/// An instance's place in [`INSTANCES`]; it is taken out when this is dropped.
pub(super) struct Registered {
    services: Arc<Services>,
    table: &'static abi::Host,
    slot: usize,
}

impl Registered {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let mut instances = INSTANCES.write().unwrap_or_else(PoisonError::into_inner);
        let slot = match instances.iter().position(|(_, services)| services.is_none()) {
            Some(free) => free,
            None => {
                instances.push((0, None));
                instances.len() - 1
            }
        };
        let generation = instances[slot].0 + 1;
        let services = Arc::new(Services {
            shared: Arc::clone(shared),
            mailbox: Arc::default(),
            stopping: CancellationToken::new(),
            numbers: Numbers::new(number(slot, generation)),
            held: Mutex::new(Some(Held::default())),
        });
        instances[slot] = (generation, Some(Arc::clone(&services)));
        drop(instances);
        let table = Box::leak(Box::new(abi::Host {
            // No pointer: nobody dereferences it.
            ctx: std::ptr::without_provenance(id(slot, generation)),
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
            fetch: Some(fetch),
            metric: Some(metric),
            metric_add: Some(metric_add),
            metric_set: Some(metric_set),
            event: Some(event),
            ..bare_table()
        }));
        Self { services, table, slot }
    }

    pub(super) fn table(&self) -> &'static abi::Host {
        self.table
    }

    pub(super) fn services(&self) -> Arc<Services> {
        Arc::clone(&self.services)
    }
}

impl std::ops::Deref for Registered {
    type Target = Services;

    fn deref(&self) -> &Services {
        &self.services
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.services.stop();
        let mut instances = INSTANCES.write().unwrap_or_else(PoisonError::into_inner);
        instances[self.slot].1 = None;
    }
}

/// `ctx` as a number: the generation, and the slot from 1.
fn id(slot: usize, generation: u32) -> usize {
    (generation as usize) << SLOT_BITS | (slot + 1)
}

/// A short number for the same, for the ids of metrics.
fn number(slot: usize, generation: u32) -> u32 {
    // Whatever is cut off would take a million restarts.
    (generation << 12) | (slot as u32 & 0xfff)
}

/// Bits of a `ctx` that name the slot.
const SLOT_BITS: u32 = 24;

/// The services that a `ctx` names, while their instance lives.
fn this(ctx: *const c_void) -> Option<Arc<Services>> {
    let id = ctx.addr();
    let slot = (id & ((1 << SLOT_BITS) - 1)).checked_sub(1)?;
    let instances = INSTANCES.read().unwrap_or_else(PoisonError::into_inner);
    let (generation, services) = instances.get(slot)?;
    services
        .as_ref()
        .filter(|_| *generation as usize == id >> SLOT_BITS)
        .cloned()
}

impl Services {
    /// The instance is to end: its waits are over, and it writes and publishes nothing from now on.
    pub(super) fn stop(&self) {
        self.mailbox.stop();
        self.stopping.cancel();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.mailbox.is_stopping()
    }

    /// The instance is in service from now on: what it published until now takes effect, and its `run` begins.
    pub(super) fn enter_service(&self) {
        let publishing = locked(&self.shared.publishing);
        let held = locked(&self.held).take().unwrap_or_default();
        for rows in held.publications {
            if let Err(error) = self.take_effect(rows) {
                tracing::error!(plugin = self.shared.name, %error, "a publication is lost");
            }
        }
        drop(publishing);
        self.shared.take_health(held.health);
        self.mailbox.start();
    }

    /// Waits until the instance is in service. `false`: it never was, and is to end.
    pub(super) fn wait_for_service(&self) -> bool {
        self.mailbox.wait_for_start()
    }

    /// Waits until the instance is to end.
    pub(super) fn wait_for_the_end(&self) {
        while self.mailbox.sleep(Duration::MAX) != Woken::Stopping {}
    }

    pub(super) fn subscribe(&self, kinds: &[EventKind]) {
        self.shared.core.events.subscribe(&self.mailbox, kinds);
    }

    /// Publications of one plugin take at most a fifth of the time, in the long run: one that comes sooner waits. So a plugin that
    /// publishes without end costs its own thread, and a fifth of a processor; while thousands of small ones, such as a discovery's, need not
    /// wait. Until its instance is in service nothing waits: a start is to be quick, and has its own bounds.
    fn publish(&self, text: &str) -> Result<String, Refused> {
        if locked(&self.held).is_some() {
            return self.publish_now(text);
        }
        let turn = *locked(&self.shared.publish_turn);
        let wait = turn.saturating_duration_since(Instant::now() + PUBLISH_AHEAD);
        if !wait.is_zero() {
            self.shared.core.metrics.done(&self.shared.name, "publish_waited");
            if self.mailbox.sleep(wait) == Woken::Stopping {
                return Err(Refused::Stopping);
            }
        }
        let started = Instant::now();
        let result = self.publish_now(text);
        let rest = (started.elapsed() * PUBLISH_REST).min(LONGEST_PUBLISH_REST);
        let mut turn = locked(&self.shared.publish_turn);
        *turn = (*turn).max(Instant::now()) + rest;
        result
    }

    fn publish_now(&self, text: &str) -> Result<String, Refused> {
        let _one_by_one = locked(&self.shared.publishing);
        if self.is_stopping() {
            return Err(Refused::Stopping);
        }
        let publication: Told = serde_json::from_str(text).map_err(Refused::argument)?;
        let (inventory, plugin) = (&self.shared.core.inventory, &self.shared.name);
        let dry_run = publication.dry_run;
        let rows = inventory.read(publication).map_err(Refused::failed)?;
        let report = match &mut *locked(&self.held) {
            _ if dry_run => inventory.put(plugin, rows, true),
            None => self.take_effect(rows),
            Some(held) if held.publications.len() >= MOST_HELD => {
                return Err(Refused::Failed(format!("more than {MOST_HELD} publications in init")));
            }
            // A start that fails must change nothing, so this one is told what would come of it.
            Some(held) => {
                held.publications.push(rows.clone());
                inventory.put(plugin, rows, true)
            }
        };
        serde_json::to_string(&report.map_err(Refused::failed)?).map_err(Refused::failed)
    }

    fn take_effect(&self, rows: Rows) -> Result<Report, PublishError> {
        let core = &self.shared.core;
        let before = core.inventory.snapshot().generation();
        let report = core.inventory.put(&self.shared.name, rows, false)?;
        let generation = core.inventory.snapshot().generation();
        if generation != before {
            core.events
                .tell(EventKind::Inventory, || Happening::Inventory { generation });
        }
        Ok(report)
    }

    fn nodes(&self, query: &Query) -> Result<String, Refused> {
        let snapshot = self.shared.core.inventory.snapshot();
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
        serde_json::to_string(&found).map_err(Refused::failed)
    }

    fn table_name(&self) -> String {
        format!("plugin/{}", self.shared.name)
    }

    /// `None`: a precondition did not hold.
    fn commit(&self, text: &str) -> Result<Option<String>, Refused> {
        let commit: Commit = serde_json::from_str(text).map_err(Refused::argument)?;
        if self.is_stopping() {
            return Err(Refused::Stopping);
        }
        let Some(store) = &self.shared.core.store else {
            return Ok(Some(String::new()));
        };
        let row = |key: String| Row {
            table: self.table_name(),
            key,
        };
        let written = store.write_and_wait(Write {
            expect: commit
                .expect
                .into_iter()
                .map(|(key, value)| (row(key), value))
                .collect(),
            put: commit.put.into_iter().map(|(key, value)| (row(key), value)).collect(),
            delete: commit.delete.into_iter().map(row).collect(),
        });
        match written {
            Ok(()) => Ok(Some(String::new())),
            Err(StoreError::Conflict) => Ok(None),
            Err(error) => Err(Refused::failed(error)),
        }
    }

    fn log(&self, level: u32, target: &str, message: &str, fields: &str) {
        let (now, plugin) = (Instant::now(), self.shared.name.as_str());
        if self.shared.lines.may_write(now) {
            match level {
                0..=abi::level::ERROR => {
                    tracing::error!(target: "plugin", plugin, module = target, fields, "{message}")
                }
                abi::level::WARN => tracing::warn!(target: "plugin", plugin, module = target, fields, "{message}"),
                5..=abi::level::INFO => tracing::info!(target: "plugin", plugin, module = target, fields, "{message}"),
                _ => tracing::debug!(target: "plugin", plugin, module = target, fields, "{message}"),
            }
        }
        self.shared.say_left_out(now);
    }

    /// An id that names nothing: counted, because it is a mistake of the plugin.
    fn stale_id(&self, error: &dyn std::fmt::Display) -> abi::Status {
        self.shared
            .core
            .metrics
            .refused(PART, "stale_id", &self.shared.name, error);
        abi::status::BAD_ARGUMENT
    }
}

/// Publications of an instance that is not in service yet.
const MOST_HELD: usize = 64;
/// The longest sleep in a call that somebody waits for.
const LONGEST_SLEEP_IN_CALL: Duration = Duration::from_secs(60);
/// What a publication takes of the time until others may follow: its own, so often.
const PUBLISH_REST: u32 = 4;
/// How far ahead of that time a plugin may be: a quarter of this it may publish at once.
const PUBLISH_AHEAD: Duration = Duration::from_secs(5);
/// The most that one publication takes of it.
const LONGEST_PUBLISH_REST: Duration = Duration::from_secs(5);
/// Bytes of a log line's message, and of its fields.
const LONGEST_LINE: usize = 4096;

/// A service that did not do what was asked.
#[derive(Debug)]
enum Refused {
    Stopping,
    Argument(String),
    Failed(String),
}

impl Refused {
    fn argument(error: impl std::fmt::Display) -> Self {
        Self::Argument(error.to_string())
    }

    fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
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
        fetch: None,
        metric: None,
        metric_add: None,
        metric_set: None,
        event: None,
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
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let Some(services) = this(ctx) else { return };
        // SAFETY: the plugin lends its texts for the call.
        let texts = unsafe { [lent(target), lent(message), lent(fields)] };
        let [target, message, fields] = texts.map(|text| cut(text.unwrap_or("?")));
        services.log(level, target, message, fields);
    }));
}

/// The beginning of a text, when it is too long for a line.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_LINE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
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
    // Each wait goes by the mailbox alone, so that the instance's entry is not held meanwhile.
    let Some(mailbox) = this(ctx).map(|services| Arc::clone(&services.mailbox)) else {
        return abi::status::STOPPING;
    };
    let time = Duration::from_nanos(ns);
    if IN_CALL.get() {
        // Somebody waits for what comes after it, also while the instance ends.
        std::thread::sleep(time.min(LONGEST_SLEEP_IN_CALL));
        return abi::status::OK;
    }
    match mailbox.sleep(time) {
        Woken::Stopping => abi::status::STOPPING,
        _ => abi::status::OK,
    }
}

unsafe extern "C" fn event(ctx: *const c_void, timeout_ns: u64, event: *mut abi::Buf) -> abi::Status {
    let Some(mailbox) = this(ctx).map(|services| Arc::clone(&services.mailbox)) else {
        return abi::status::STOPPING;
    };
    match mailbox.event(Duration::from_nanos(timeout_ns)) {
        Woken::Stopping => abi::status::STOPPING,
        Woken::InTime => abi::status::NONE,
        Woken::By(what) => {
            // SAFETY: the plugin passes NULL or a place for a buffer.
            unsafe { give(event, serde_json::to_string(&what).unwrap_or_default()) };
            abi::status::OK
        }
    }
}

unsafe extern "C" fn publish(ctx: *const c_void, publication: abi::Str, report: *mut abi::Buf) -> abi::Status {
    // SAFETY: called through the table, with a lent text and a place for a buffer.
    unsafe {
        text_call(ctx, publication, report, |services, text| {
            services.publish(text).map(Some)
        })
    }
}

unsafe extern "C" fn nodes(ctx: *const c_void, query: abi::Str, nodes: *mut abi::Buf) -> abi::Status {
    // SAFETY: called through the table, with a lent text and a place for a buffer.
    unsafe {
        text_call(ctx, query, nodes, |services, text| {
            services.nodes(&json(text)?).map(Some)
        })
    }
}

unsafe extern "C" fn bump(ctx: *const c_void) {
    if let Some(services) = this(ctx) {
        services.shared.bump();
    }
}

unsafe extern "C" fn health(ctx: *const c_void, health: abi::Str) -> abi::Status {
    // SAFETY: called through the table, with a lent text.
    unsafe {
        text_call(ctx, health, std::ptr::null_mut(), |services, text| {
            let health = json(text)?;
            let mut held = locked(&services.held);
            match &mut *held {
                Some(held) => held.health = health,
                // What an instance says while it ends is not how the plugin is.
                None if services.is_stopping() => {}
                None => services.shared.take_health(health),
            }
            Ok(Some(String::new()))
        })
    }
}

unsafe extern "C" fn store_get(ctx: *const c_void, key: abi::Str, value: *mut abi::Buf) -> abi::Status {
    // SAFETY: called through the table, with a lent text and a place for a buffer.
    unsafe {
        text_call(ctx, key, value, |services, key| match &services.shared.core.store {
            Some(store) => store.get(&services.table_name(), key).map_err(Refused::failed),
            None => Ok(None),
        })
    }
}

unsafe extern "C" fn store_scan(ctx: *const c_void, prefix: abi::Str, values: *mut abi::Buf) -> abi::Status {
    // SAFETY: called through the table, with a lent text and a place for a buffer.
    unsafe {
        text_call(ctx, prefix, values, |services, prefix| {
            match &services.shared.core.store {
                Some(store) => {
                    let found = store.scan(&services.table_name(), prefix).map_err(Refused::failed)?;
                    serde_json::to_string(&found).map(Some).map_err(Refused::failed)
                }
                None => Ok(Some("{}".into())),
            }
        })
    }
}

unsafe extern "C" fn store_commit(ctx: *const c_void, commit: abi::Str, error: *mut abi::Buf) -> abi::Status {
    // SAFETY: called through the table, with a lent text and a place for a buffer.
    unsafe { text_call(ctx, commit, error, |services, text| services.commit(text)) }
}

unsafe extern "C" fn fetch(ctx: *const c_void, request: abi::Str, reply: *mut abi::Buf) -> abi::Status {
    // SAFETY: called through the table, with a lent text and a place for a buffer.
    unsafe {
        text_call(ctx, request, reply, |services, text| {
            let to_its_end = CancellationToken::new();
            let stopping = if IN_CALL.get() { &to_its_end } else { &services.stopping };
            let fetched = services.shared.core.fetcher.fetch(&json(text)?, stopping);
            let fetched = fetched.map_err(|error| match error {
                FetchError::Stopping => Refused::Stopping,
                FetchError::Malformed(_) => Refused::argument(error),
                _ => Refused::failed(error),
            })?;
            serde_json::to_string(&fetched).map(Some).map_err(Refused::failed)
        })
    }
}

unsafe extern "C" fn metric(ctx: *const c_void, declaration: abi::Str, id: *mut u64) -> abi::Status {
    let mut declared = None;
    // SAFETY: called through the table, with a lent text.
    let status = unsafe {
        text_call(ctx, declaration, std::ptr::null_mut(), |services, text| {
            let shared = &services.shared;
            let made = services
                .numbers
                .declare(&shared.name, json(text)?, &shared.core.metrics);
            declared = Some(made.map_err(Refused::argument)?);
            Ok(Some(String::new()))
        })
    };
    if let Some(made) = declared.filter(|_| !id.is_null()) {
        // SAFETY: the plugin passes a place for the id.
        unsafe { *id = made };
    }
    status
}

unsafe extern "C" fn metric_add(ctx: *const c_void, id: u64, by: i64) -> abi::Status {
    change_metric(ctx, |numbers| numbers.add(id, by))
}

unsafe extern "C" fn metric_set(ctx: *const c_void, id: u64, value: i64) -> abi::Status {
    change_metric(ctx, |numbers| numbers.set(id, value))
}

fn change_metric(
    ctx: *const c_void,
    f: impl FnOnce(&Numbers) -> Result<(), super::numbers::NumberError>,
) -> abi::Status {
    let Some(services) = this(ctx) else {
        return abi::status::STOPPING;
    };
    match f(&services.numbers) {
        Ok(()) => abi::status::OK,
        Err(error) => services.stale_id(&error),
    }
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, Refused> {
    serde_json::from_str(text).map_err(Refused::argument)
}

/// Text in, text out; a panic becomes `FAILED`.
///
/// # Safety
/// `input` is a lent text, `out` NULL or a place for a buffer.
unsafe fn text_call(
    ctx: *const c_void,
    input: abi::Str,
    out: *mut abi::Buf,
    f: impl FnOnce(&Services, &str) -> Result<Option<String>, Refused>,
) -> abi::Status {
    // SAFETY: the caller's promise.
    let input = unsafe { lent(input) };
    let result = match (this(ctx), input) {
        (None, _) => Err(Refused::Stopping),
        (Some(_), None) => Err(Refused::Argument("not UTF-8".into())),
        (Some(services), Some(text)) => catch_unwind(AssertUnwindSafe(|| f(&services, text)))
            .unwrap_or_else(|_| Err(Refused::Failed("bootd panicked".into()))),
    };
    let (status, text) = match result {
        Ok(Some(text)) => (abi::status::OK, text),
        Ok(None) => (abi::status::NONE, String::new()),
        Err(Refused::Stopping) => (abi::status::STOPPING, String::new()),
        Err(Refused::Argument(text)) => (abi::status::BAD_ARGUMENT, text),
        Err(Refused::Failed(text)) => (abi::status::FAILED, text),
    };
    // SAFETY: the caller's promise.
    unsafe { give(out, text) };
    status
}

/// # Safety
/// `out` is NULL or a place for a buffer.
unsafe fn give(out: *mut abi::Buf, text: String) {
    if !out.is_null() {
        // SAFETY: the caller's promise.
        unsafe { *out = given(text) };
    }
}
