//! What bootd counts. One value, made at start and handed to whoever counts; read as Prometheus text through the admin socket.
//!
//! Every reason for not doing what a client asked is a label here. [`Metrics::refused`] also writes the log line, at most one a second a
//! reason, with the number of lines left out.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bootd_sdk::text::shown;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The labels of most counters: which part, and what happened there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Labels {
    /// `dhcp4`, `tftp`, `http`, `artifacts`, or a plugin's name.
    pub part: String,
    /// A reason or an outcome, such as `no_magic_cookie` or `offer`.
    pub what: String,
}

/// A number that a plugin declared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginLabels {
    plugin: String,
    name: String,
}

impl PluginLabels {
    fn new(plugin: &str, name: &str) -> Self {
        Self {
            plugin: plugin.into(),
            name: name.into(),
        }
    }
}

/// All counters.
pub struct Metrics {
    registry: Registry,
    /// Things done, by part and outcome.
    pub done: Family<Labels, Counter>,
    /// Things refused or ignored, by part and reason.
    pub refused: Family<Labels, Counter>,
    /// Bytes sent, by part and what.
    pub bytes: Family<Labels, Counter>,
    /// Present amounts, such as nodes, or mistakes in a plugin's data.
    pub amount: Family<Labels, Gauge>,
    plugin_counters: Family<PluginLabels, Counter>,
    plugin_gauges: Family<PluginLabels, Gauge>,
    limits: Mutex<HashMap<(&'static str, &'static str), Limit>>,
}

struct Limit {
    last: Instant,
    left_out: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("bootd");
        let done: Family<Labels, Counter> = Family::default();
        let refused: Family<Labels, Counter> = Family::default();
        let bytes: Family<Labels, Counter> = Family::default();
        let amount: Family<Labels, Gauge> = Family::default();
        let plugin_counters: Family<PluginLabels, Counter> = Family::default();
        let plugin_gauges: Family<PluginLabels, Gauge> = Family::default();
        registry.register("done", "Things done, by part and outcome", done.clone());
        registry.register(
            "refused",
            "Things refused or ignored, by part and reason",
            refused.clone(),
        );
        registry.register("bytes_sent", "Bytes sent, by part", bytes.clone());
        registry.register("amount", "Present amounts, by part", amount.clone());
        registry.register(
            "plugin_counter",
            "Counters that plugins declare",
            plugin_counters.clone(),
        );
        registry.register("plugin_gauge", "Gauges that plugins declare", plugin_gauges.clone());
        Self {
            registry,
            done,
            refused,
            bytes,
            amount,
            plugin_counters,
            plugin_gauges,
            limits: Mutex::default(),
        }
    }
}

impl Metrics {
    /// Counts something done.
    pub fn done(&self, part: &str, what: &str) {
        self.done
            .get_or_create(&Labels {
                part: part.into(),
                what: what.into(),
            })
            .inc();
    }

    /// Counts bytes sent.
    pub fn sent(&self, part: &str, what: &str, bytes: u64) {
        self.bytes
            .get_or_create(&Labels {
                part: part.into(),
                what: what.into(),
            })
            .inc_by(bytes);
    }

    /// Sets a present amount.
    pub fn set(&self, part: &str, what: &str, value: i64) {
        self.amount
            .get_or_create(&Labels {
                part: part.into(),
                what: what.into(),
            })
            .set(value);
    }

    /// A counter of a plugin; the same one for the same name.
    pub fn plugin_counter(&self, plugin: &str, name: &str) -> Counter {
        self.plugin_counters
            .get_or_create_owned(&PluginLabels::new(plugin, name))
    }

    /// A gauge of a plugin; the same one for the same name.
    pub fn plugin_gauge(&self, plugin: &str, name: &str) -> Gauge {
        self.plugin_gauges.get_or_create_owned(&PluginLabels::new(plugin, name))
    }

    /// Counts a refusal and logs it with the peer, at most once a second a reason.
    pub fn refused(
        &self,
        part: &'static str,
        reason: &'static str,
        peer: &dyn fmt::Display,
        detail: &dyn fmt::Display,
    ) {
        self.refused
            .get_or_create(&Labels {
                part: part.into(),
                what: reason.into(),
            })
            .inc();
        if let Some(left_out) = self.may_log(part, reason) {
            let (peer, detail) = (shown(&peer.to_string()), shown(&detail.to_string()));
            tracing::warn!(part, reason, peer, detail, left_out, "refused");
        }
    }

    /// All counters as Prometheus (OpenMetrics) text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// `Some(lines left out since)` when a line may be written now.
    fn may_log(&self, part: &'static str, reason: &'static str) -> Option<u64> {
        let now = Instant::now();
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        match limits.get_mut(&(part, reason)) {
            None => {
                limits.insert((part, reason), Limit { last: now, left_out: 0 });
                Some(0)
            }
            Some(limit) if now.duration_since(limit.last) >= Duration::from_secs(1) => {
                limit.last = now;
                Some(std::mem::take(&mut limit.left_out))
            }
            Some(limit) => {
                limit.left_out += 1;
                None
            }
        }
    }
}
