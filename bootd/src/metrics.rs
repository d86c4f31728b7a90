//! What bootd counts. One value, made at start and handed to whoever counts; read as Prometheus text through the admin socket.
//!
//! Every reason for not doing what a client asked is a label here. [`Metrics::refused`] also writes the log line, at most one a second a
//! reason, with the number of lines left out. Whoever refuses for every packet has [`Refusals`]: no lock, and no text but for a line.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use bootd_sdk::text::shown;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::watchdog::Pulses;

/// The labels of most counters: which part, and what happened there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Labels {
    /// `dhcp4`, `dhcp6`, `tftp`, `http`, `artifacts`, or a plugin's name.
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

/// An HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: String,
}

/// All counters.
pub struct Metrics {
    registry: Registry,
    /// Things done, by part and outcome.
    done: Known<Counter>,
    /// Things refused or ignored, by part and reason.
    refused: Known<Counter>,
    /// Bytes sent, by part and what.
    bytes: Known<Counter>,
    /// Bytes read from origins, by part and what for.
    fetched: Known<Counter>,
    /// Present amounts, such as nodes, or mistakes in a plugin's data.
    amount: Known<Gauge>,
    plugin_counters: Family<PluginLabels, Counter>,
    plugin_gauges: Family<PluginLabels, Gauge>,
    /// 1: whoever reaches this listener may do everything.
    unauthenticated: Family<ListenerLabels, Gauge>,
    /// Answers of the boot listeners: counted for each request, so they are at hand.
    http: Http,
    refusals: RwLock<HashMap<(&'static str, &'static str), Arc<Refusal>>>,
    pulses: Pulses,
}

/// A reason to refuse: its counter, and how often it may be logged.
struct Refusal {
    part: &'static str,
    reason: &'static str,
    counter: Counter,
    start: Instant,
    /// Milliseconds after `start` from which on a line may be written.
    next: AtomicU64,
    left_out: AtomicU64,
}

/// The reasons that one thread met, found again without a lock.
pub struct Refusals {
    metrics: Arc<Metrics>,
    part: &'static str,
    /// Few; the first ones are the frequent ones.
    known: Vec<Arc<Refusal>>,
}

impl Refusals {
    /// What a part refuses.
    pub fn new(metrics: Arc<Metrics>, part: &'static str) -> Self {
        Self {
            metrics,
            part,
            known: Vec::new(),
        }
    }

    /// The same as [`Metrics::refused`].
    pub fn count(&mut self, reason: &'static str, peer: &dyn fmt::Display, detail: &dyn fmt::Display) {
        if let Some(known) = self.known.iter().find(|known| known.reason == reason) {
            return known.count(peer, detail);
        }
        let refusal = self.metrics.refusal(self.part, reason);
        refusal.count(peer, detail);
        self.known.push(refusal);
    }
}

impl Refusal {
    fn count(&self, peer: &dyn fmt::Display, detail: &dyn fmt::Display) {
        self.counter.inc();
        if let Some(left_out) = self.may_log() {
            let (part, reason) = (self.part, self.reason);
            let (peer, detail) = (shown(&peer.to_string()), shown(&detail.to_string()));
            tracing::warn!(part, reason, peer, detail, left_out, "refused");
        }
    }

    /// `Some(lines left out since)` when a line may be written now.
    fn may_log(&self) -> Option<u64> {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = self.next.load(Ordering::Relaxed);
        let then = now.saturating_add(BETWEEN_LINES);
        let mine = now >= next
            && self
                .next
                .compare_exchange(next, then, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Milliseconds between two lines about one reason.
const BETWEEN_LINES: u64 = 1000;

/// A family and those of its members that were counted before: counting them again copies no label.
struct Known<M> {
    family: Family<Labels, M>,
    members: RwLock<HashMap<String, HashMap<String, M>>>,
}

impl<M: Clone + Default> Default for Known<M> {
    fn default() -> Self {
        Self {
            family: Family::default(),
            members: RwLock::default(),
        }
    }
}

impl<M: Clone + Default> Known<M> {
    fn of(&self, part: &str, what: &str) -> M {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = members.get(part).and_then(|part| part.get(what)) {
            return member.clone();
        }
        drop(members);
        let labels = Labels {
            part: part.into(),
            what: what.into(),
        };
        let member = self.family.get_or_create(&labels).clone();
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        members
            .entry(labels.part)
            .or_default()
            .insert(labels.what, member.clone());
        member
    }
}

/// What is counted of the boot listeners' answers.
struct Http {
    classes: [Counter; 4],
    bytes: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("bootd");
        let (done, refused, bytes, fetched) =
            <(Known<Counter>, Known<Counter>, Known<Counter>, Known<Counter>)>::default();
        let plugin_counters: Family<PluginLabels, Counter> = Family::default();
        let plugin_gauges: Family<PluginLabels, Gauge> = Family::default();
        let amount: Known<Gauge> = Known::default();
        registry.register("done", "Things done, by part and outcome", done.family.clone());
        registry.register(
            "refused",
            "Things refused or ignored, by part and reason",
            refused.family.clone(),
        );
        registry.register("bytes_sent", "Bytes sent, by part", bytes.family.clone());
        registry.register(
            "bytes_fetched",
            "Bytes read from origins, by part and what for",
            fetched.family.clone(),
        );
        registry.register("amount", "Present amounts, by part", amount.family.clone());
        let unauthenticated: Family<ListenerLabels, Gauge> = Family::default();
        registry.register(
            "http_listener_unauthenticated",
            "1: auth is \"none\" on this listener, and whoever reaches it may read and change everything",
            unauthenticated.clone(),
        );
        let http = Http {
            classes: ["2xx", "3xx", "4xx", "5xx"].map(|class| done.of("http", class)),
            bytes: bytes.of("http", "boot"),
        };
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
            fetched,
            amount,
            plugin_counters,
            plugin_gauges,
            unauthenticated,
            http,
            refusals: RwLock::default(),
            pulses: Pulses::default(),
        }
    }
}

impl Metrics {
    /// Whose work the watchdog follows.
    pub fn pulses(&self) -> &Pulses {
        &self.pulses
    }

    /// Counts something done.
    pub fn done(&self, part: &str, what: &str) {
        self.done.of(part, what).inc();
    }

    /// The counter of [`Metrics::done`], for who counts the same thing again and again.
    pub fn counter(&self, part: &str, what: &str) -> Counter {
        self.done.of(part, what)
    }

    /// Counts an answer of a boot listener.
    pub fn answered(&self, status: u16, bytes: u64) {
        let class = match status {
            200..300 => 0,
            300..400 => 1,
            400..500 => 2,
            _ => 3,
        };
        self.http.classes[class].inc();
        self.http.bytes.inc_by(bytes);
    }

    /// Counts bytes sent.
    pub fn sent(&self, part: &str, what: &str, bytes: u64) {
        self.bytes.of(part, what).inc_by(bytes);
    }

    /// The counter of [`Metrics::sent`].
    pub fn bytes_counter(&self, part: &str, what: &str) -> Counter {
        self.bytes.of(part, what)
    }

    /// The counter of bytes that were read from origins.
    pub fn fetched_counter(&self, part: &str, what: &str) -> Counter {
        self.fetched.of(part, what)
    }

    /// Sets a present amount.
    pub fn set(&self, part: &str, what: &str, value: i64) {
        self.amount.of(part, what).set(value);
    }

    /// Says of a listener whether its routes are served without a token.
    pub fn listener(&self, address: &str, is_unauthenticated: bool) {
        let labels = ListenerLabels {
            listener: address.into(),
        };
        let gauge = self.unauthenticated.get_or_create_owned(&labels);
        gauge.set(is_unauthenticated.into());
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
        self.refusal(part, reason).count(peer, detail);
    }

    /// The counter of [`Metrics::refused`], for what is counted without a line.
    pub fn refusals_counter(&self, part: &str, what: &str) -> Counter {
        self.refused.of(part, what)
    }

    fn refusal(&self, part: &'static str, reason: &'static str) -> Arc<Refusal> {
        let refusals = self.refusals.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(refusal) = refusals.get(&(part, reason)) {
            return Arc::clone(refusal);
        }
        drop(refusals);
        let mut refusals = self.refusals.write().unwrap_or_else(PoisonError::into_inner);
        let refusal = refusals.entry((part, reason)).or_insert_with(|| {
            Arc::new(Refusal {
                part,
                reason,
                counter: self.refused.of(part, reason),
                start: Instant::now(),
                next: AtomicU64::new(0),
                left_out: AtomicU64::new(0),
            })
        });
        Arc::clone(refusal)
    }

    /// All counters as Prometheus (OpenMetrics) text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_number_and_one_line_a_second_whoever_counts_it() {
        let metrics = Arc::new(Metrics::default());
        let mut refusals = Refusals::new(Arc::clone(&metrics), "dhcp4");
        refusals.count("bootp", &"a", &"");
        refusals.count("bootp", &"b", &"");
        metrics.refused("dhcp4", "bootp", &"c", &"");
        let text = metrics.text();
        let line = r#"bootd_refused_total{part="dhcp4",what="bootp"} 3"#;
        assert!(text.lines().any(|other| other == line), "{text}");
        let refusal = metrics.refusal("dhcp4", "bootp");
        assert_eq!(refusal.left_out.load(Ordering::Relaxed), 2);
        assert_eq!((refusal.may_log(), refusal.left_out.load(Ordering::Relaxed)), (None, 3));
        refusal.next.store(0, Ordering::Relaxed);
        assert_eq!(
            (refusal.may_log(), refusal.left_out.load(Ordering::Relaxed)),
            (Some(3), 0)
        );
    }

    #[test]
    fn what_is_counted_in_either_way_is_one_number() {
        let metrics = Metrics::default();
        metrics.done("http", "2xx");
        metrics.answered(204, 7);
        metrics.counter("http", "2xx").inc();
        metrics.done("smd", "answer");
        metrics.set("inventory", "nodes", 5);
        metrics.listener("0.0.0.0:8081", true);
        metrics.listener("0.0.0.0:8082", false);
        let text = metrics.text();
        for line in [
            r#"bootd_done_total{part="http",what="2xx"} 3"#,
            r#"bootd_done_total{part="http",what="5xx"} 0"#,
            r#"bootd_done_total{part="smd",what="answer"} 1"#,
            r#"bootd_bytes_sent_total{part="http",what="boot"} 7"#,
            r#"bootd_amount{part="inventory",what="nodes"} 5"#,
            r#"bootd_http_listener_unauthenticated{listener="0.0.0.0:8081"} 1"#,
            r#"bootd_http_listener_unauthenticated{listener="0.0.0.0:8082"} 0"#,
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
    }
}
