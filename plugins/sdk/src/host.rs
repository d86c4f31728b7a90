//! The host's services as safe Rust. Owns nothing: the table that it points to is valid for the process's life, as the ABI promises.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use bootd_abi as abi;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::text::{borrowed, empty, read};
use crate::wire::{Commit, Event, Fetch, Fetched, Health, Metric, MetricKind, Node, Publication, Query, Report};

/// bootd, as a plugin sees it. Cheap to copy; usable from any thread until `run` has returned.
#[derive(Clone, Copy)]
pub struct Host {
    table: *const abi::Host,
}

// SAFETY: the ABI promises that every function of the table may be called from any thread, and that the table outlives the process's plugins.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

/// The instance is to end: `run` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the plugin is stopping")]
pub struct Stopping;

/// A host service that did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// This host is older than the service.
    #[error("this bootd has no service '{0}'")]
    Missing(&'static str),
    /// The instance is to end.
    #[error("the plugin is stopping")]
    Stopping,
    /// The host refused or failed; its own words.
    #[error("{0}")]
    Failed(String),
}

/// The service at a field of the host's table, when the host is new enough to have it.
macro_rules! service {
    ($host:expr, $field:ident) => {{
        // SAFETY: `table` is valid for the process's life; `size` tells which fields exist, and no field beyond it is read.
        unsafe {
            let table = $host.table;
            let end = std::mem::offset_of!(abi::Host, $field) + std::mem::size_of::<usize>();
            if (*table).size >= end { (*table).$field.map(|f| (f, (*table).ctx)) } else { None }
        }
    }};
}

impl Host {
    /// # Safety
    /// `table` must be a host's table as the ABI describes it, valid for the process's life.
    pub(crate) unsafe fn new(table: *const abi::Host) -> Self {
        Self { table }
    }

    /// Whether a log line of this [`abi::level`] would be kept.
    pub fn log_enabled(&self, level: u32) -> bool {
        // SAFETY: a service of the host, called as the ABI says.
        service!(self, log_enabled).is_none_or(|(f, ctx)| unsafe { f(ctx, level) } != 0)
    }

    /// Writes a log line; `fields` is a JSON object or empty. Prefer `tracing`.
    pub fn log(&self, level: u32, target: &str, message: &str, fields: &str) {
        if let Some((f, ctx)) = service!(self, log) {
            // SAFETY: the texts are borrowed for the call.
            unsafe { f(ctx, level, borrowed(target), borrowed(message), borrowed(fields)) }
        }
    }

    /// Time since 1970-01-01 UTC.
    pub fn now_unix(&self) -> Duration {
        // SAFETY: a service of the host, called as the ABI says.
        Duration::from_nanos(service!(self, now_unix_ns).map_or(0, |(f, ctx)| unsafe { f(ctx) }))
    }

    /// A clock that never jumps.
    pub fn now_boot(&self) -> Duration {
        // SAFETY: a service of the host, called as the ABI says.
        Duration::from_nanos(service!(self, now_boot_ns).map_or(0, |(f, ctx)| unsafe { f(ctx) }))
    }

    /// Sleeps; returns early with [`Stopping`] when the instance is to end.
    pub fn sleep(&self, time: Duration) -> Result<(), Stopping> {
        let Some((f, ctx)) = service!(self, sleep) else {
            return Err(Stopping);
        };
        // SAFETY: a service of the host, called as the ABI says.
        match unsafe { f(ctx, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)) } {
            abi::status::OK => Ok(()),
            _ => Err(Stopping),
        }
    }

    /// Publishes nodes. They are in effect when this returns.
    pub fn publish(&self, publication: &Publication) -> Result<Report, HostError> {
        let (f, ctx) = service!(self, publish).ok_or(HostError::Missing("publish"))?;
        // SAFETY: a service of the host, called as the ABI says.
        call(publication, |text, out| unsafe { f(ctx, text, out) })?.ok_or(HostError::Missing("publish"))
    }

    /// Reads nodes of the inventory.
    pub fn nodes(&self, query: &Query) -> Result<Vec<Node>, HostError> {
        let (f, ctx) = service!(self, nodes).ok_or(HostError::Missing("nodes"))?;
        // SAFETY: a service of the host, called as the ABI says.
        Ok(call(query, |text, out| unsafe { f(ctx, text, out) })?.unwrap_or_default())
    }

    /// Reads one node; `None` when there is none, or the host cannot say.
    pub fn node(&self, query: &Query) -> Option<Node> {
        self.nodes(query).ok()?.into_iter().next()
    }

    /// This plugin's data changed: kept answers are made anew.
    pub fn bump(&self) {
        if let Some((f, ctx)) = service!(self, bump) {
            // SAFETY: a service of the host, called as the ABI says.
            unsafe { f(ctx) }
        }
    }

    /// Says how the plugin is; replaces what was said before.
    pub fn health(&self, health: &Health) {
        if let (Some((f, ctx)), Ok(text)) = (service!(self, health), serde_json::to_string(health)) {
            // SAFETY: the text is borrowed for the call.
            unsafe { f(ctx, borrowed(&text)) };
        }
    }

    /// Reads a key of the plugin's store.
    pub fn store_get(&self, key: &str) -> Result<Option<String>, HostError> {
        let (f, ctx) = service!(self, store_get).ok_or(HostError::Missing("store_get"))?;
        // SAFETY: a service of the host, called as the ABI says.
        raw_call(key, |text, out| unsafe { f(ctx, text, out) })
    }

    /// Reads all keys that begin with `prefix`.
    pub fn store_scan(&self, prefix: &str) -> Result<BTreeMap<String, String>, HostError> {
        let (f, ctx) = service!(self, store_scan).ok_or(HostError::Missing("store_scan"))?;
        // SAFETY: a service of the host, called as the ABI says.
        let text = raw_call(prefix, |text, out| unsafe { f(ctx, text, out) })?;
        text.map_or_else(|| Ok(BTreeMap::new()), |text| parse(&text))
    }

    /// Writes several keys at once. `true`: written, and it survives a power cut; `false`: a precondition did not hold.
    pub fn store_commit(&self, commit: &Commit) -> Result<bool, HostError> {
        let (f, ctx) = service!(self, store_commit).ok_or(HostError::Missing("store_commit"))?;
        let text = serde_json::to_string(commit).map_err(|e| HostError::Failed(e.to_string()))?;
        // SAFETY: a service of the host, called as the ABI says.
        let done = raw_call(&text, |text, out| unsafe { f(ctx, text, out) })?;
        Ok(done.is_some())
    }

    /// Makes an HTTP request and waits for its answer, whatever its status. [`HostError::Failed`]: there was none.
    pub fn fetch(&self, request: &Fetch) -> Result<Fetched, HostError> {
        let (f, ctx) = service!(self, fetch).ok_or(HostError::Missing("fetch"))?;
        // SAFETY: a service of the host, called as the ABI says.
        call(request, |text, out| unsafe { f(ctx, text, out) })?.ok_or(HostError::Missing("fetch"))
    }

    /// A counter among bootd's metrics; see [`Metric`] for its name. The same name is the same counter.
    pub fn counter(&self, name: &str) -> Number {
        self.metric(name, MetricKind::Counter)
    }

    /// A gauge among bootd's metrics.
    pub fn gauge(&self, name: &str) -> Number {
        self.metric(name, MetricKind::Gauge)
    }

    fn metric(&self, name: &str, kind: MetricKind) -> Number {
        let declaration = Metric {
            name: name.into(),
            kind,
        };
        let declared = service!(self, metric).and_then(|(f, ctx)| {
            let (text, mut id) = (serde_json::to_string(&declaration).ok()?, 0);
            // SAFETY: the text is borrowed for the call; the id has a place.
            let status = unsafe { f(ctx, borrowed(&text), &raw mut id) };
            (status == abi::status::OK).then_some(id)
        });
        if declared.is_none() {
            tracing::warn!(name, "a metric cannot be declared");
        }
        Number {
            host: *self,
            id: declared,
        }
    }

    /// Waits for the next event of the kinds that `init` asked for; `None` when none came in time.
    pub fn event(&self, within: Duration) -> Result<Option<Event>, HostError> {
        let (f, ctx) = service!(self, event).ok_or(HostError::Missing("event"))?;
        let mut out = empty();
        // SAFETY: a service of the host, called as the ABI says.
        let status = unsafe { f(ctx, u64::try_from(within.as_nanos()).unwrap_or(u64::MAX), &raw mut out) };
        match status {
            // SAFETY: the host gave it.
            abi::status::OK => unsafe { read(out, usize::MAX, |text| parse(&text)) }.transpose(),
            abi::status::NONE => Ok(None),
            abi::status::STOPPING => Err(HostError::Stopping),
            _ => Err(HostError::Failed("no events".into())),
        }
    }
}

/// A number among bootd's metrics. Without a host that has metrics it counts nothing.
#[derive(Clone, Copy)]
pub struct Number {
    host: Host,
    id: Option<u64>,
}

impl Number {
    /// Adds to it; a counter only grows.
    pub fn add(&self, by: i64) {
        if let (Some(id), Some((f, ctx))) = (self.id, service!(self.host, metric_add)) {
            // SAFETY: a service of the host, called as the ABI says.
            unsafe { f(ctx, id, by) };
        }
    }

    /// Sets a gauge.
    pub fn set(&self, value: i64) {
        if let (Some(id), Some((f, ctx))) = (self.id, service!(self.host, metric_set)) {
            // SAFETY: a service of the host, called as the ABI says.
            unsafe { f(ctx, id, value) };
        }
    }
}

/// JSON in, JSON out; `None` when the host says that there is no such thing.
fn call<I: Serialize, O: DeserializeOwned>(
    input: &I,
    f: impl FnOnce(abi::Str, *mut abi::Buf) -> abi::Status,
) -> Result<Option<O>, HostError> {
    let text = serde_json::to_string(input).map_err(|e| HostError::Failed(e.to_string()))?;
    // A list of all nodes has some megabytes: it is not copied before it is read.
    read_call(&text, f, |text| parse(&text))?.transpose()
}

fn raw_call(input: &str, f: impl FnOnce(abi::Str, *mut abi::Buf) -> abi::Status) -> Result<Option<String>, HostError> {
    read_call(input, f, |text| text.into_owned())
}

fn read_call<T>(
    input: &str,
    f: impl FnOnce(abi::Str, *mut abi::Buf) -> abi::Status,
    reader: impl FnOnce(Cow<'_, str>) -> T,
) -> Result<Option<T>, HostError> {
    let mut out = empty();
    let status = f(borrowed(input), &raw mut out);
    let result = |text: Cow<'_, str>| match status {
        abi::status::OK => Ok(Some(reader(text))),
        abi::status::NONE => Ok(None),
        abi::status::STOPPING => Err(HostError::Stopping),
        _ => Err(HostError::Failed(text.into_owned())),
    };
    // SAFETY: the host gave it, or nobody wrote to it.
    unsafe { read(out, usize::MAX, result) }.unwrap_or(Ok(None))
}

fn parse<O: DeserializeOwned>(text: &str) -> Result<O, HostError> {
    serde_json::from_str(text).map_err(|e| HostError::Failed(format!("the host's answer is not understood: {e}")))
}
