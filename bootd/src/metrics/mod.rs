//! What bootd counts, and how long things take. One value, made at start and handed to whoever counts.
//!
//! Every reason for not doing what a client asked is a label here. [`Metrics::refused`] also writes the log line, at most one a second a
//! reason, with the number of lines left out. Whoever refuses for every packet has [`Refusals`]: no lock, and no text but for a line.
//!
//! What is a state, such as leases or boots under way, is not kept here: the operator's side reads it when somebody asks
//! (`admin::present`). Labels come from bootd and its configuration, never from a client, so there is a bounded number of each. Every family is
//! explained in `conf/metrics.md`; a test compares.

mod durations;
mod exposition;
mod refusals;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

pub use durations::Durations;
pub use durations::{BOOTS, PACKETS, REQUESTS};
pub use exposition::Format;
use refusals::Refusal;
pub use refusals::Refusals;

use crate::boots::{Ended, Stage};
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

/// What is asked of HTTP: which side of bootd, and what kind of thing there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    listener: &'static str,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabel {
    part: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginLabel {
    plugin: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DiagnosisLabel {
    diagnosis: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabel {
    end: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

/// The kinds of what is asked of HTTP, as far as their times differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A boot script.
    Script,
    /// A document of cloud-init.
    Document,
    /// A loader, for UEFI HTTP Boot.
    Loader,
    /// Everything else of a boot listener.
    Api,
    /// An object of a bucket, until its first byte may leave.
    Object,
    /// Everything else of an artifacts listener, such as lists.
    Bucket,
    /// What operators look at.
    Operator,
}

impl Class {
    /// All of them.
    const ALL: [Self; 7] = [
        Self::Script,
        Self::Document,
        Self::Loader,
        Self::Api,
        Self::Object,
        Self::Bucket,
        Self::Operator,
    ];

    fn labels(self) -> ClassLabels {
        let (listener, class) = match self {
            Self::Script => ("boot", "script"),
            Self::Document => ("boot", "document"),
            Self::Loader => ("boot", "loader"),
            Self::Api => ("boot", "api"),
            Self::Object => ("artifacts", "object"),
            Self::Bucket => ("artifacts", "bucket"),
            Self::Operator => ("admin", "operator"),
        };
        ClassLabels { listener, class }
    }
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
    /// Answers of DHCP, by family.
    answers: Family<PartLabel, Durations>,
    /// Calls of plugins.
    plugin_calls: Family<PluginLabel, Durations>,
    /// How the cache answered.
    cache_requests: Family<ResultLabel, Counter>,
    boots: Boots,
    refusals: RwLock<HashMap<(&'static str, &'static str), Arc<Refusal>>>,
    pulses: Pulses,
}

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

/// What is counted of the boot listeners' answers, and how long those of all listeners take.
struct Http {
    classes: [Counter; 4],
    bytes: Counter,
    took: [Durations; Class::ALL.len()],
}

/// What is counted of boots that ended.
struct Boots {
    attempts: Family<EndLabel, Counter>,
    took: Durations,
    stages: Family<StageLabel, Durations>,
    diagnoses: Family<DiagnosisLabel, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("bootd");
        let r = &mut registry;
        identify(r);
        let (done, refused, bytes, fetched) =
            <(Known<Counter>, Known<Counter>, Known<Counter>, Known<Counter>)>::default();
        let amount: Known<Gauge> = Known::default();
        r.register("done", "Things done, by part and outcome", done.family.clone());
        r.register(
            "refused",
            "Things refused, left out or failed, by part and reason; bounds that were hit are among them",
            refused.family.clone(),
        );
        r.register("sent_bytes", "Bytes sent, by part and what", bytes.family.clone());
        r.register(
            "fetched_bytes",
            "Bytes read from origins, by part and what for",
            fetched.family.clone(),
        );
        r.register("amount", "Present amounts, by part and what", amount.family.clone());
        let http_took: Family<ClassLabels, Durations> = Family::new_with_constructor(|| Durations::new(&REQUESTS));
        let mut metrics = Self {
            unauthenticated: registered(
                r,
                "http_listener_unauthenticated",
                "1: auth is \"none\" on this listener, and whoever reaches it may read and change everything",
            ),
            http: Http {
                classes: ["2xx", "3xx", "4xx", "5xx"].map(|class| done.of("http", class)),
                bytes: bytes.of("http", "boot"),
                took: Class::ALL.map(|class| http_took.get_or_create_owned(&class.labels())),
            },
            answers: timed(
                r,
                "dhcp_answer_duration_seconds",
                "From the batch with a DHCP message to its answer on the wire, of answers that wait for nothing",
                || Durations::new(&PACKETS),
            ),
            plugin_calls: timed(
                r,
                "plugin_call_duration_seconds",
                "How long requests to a plugin took, its queue included",
                || Durations::new(&REQUESTS),
            ),
            cache_requests: registered(
                r,
                "cache_requests",
                "Reads of objects of remote origins, by how the cache answered",
            ),
            boots: Boots::register(r),
            plugin_counters: registered(r, "plugin_events", "Counters that plugins declare"),
            plugin_gauges: registered(r, "plugin_value", "Gauges that plugins declare"),
            registry: Registry::default(),
            done,
            refused,
            bytes,
            fetched,
            amount,
            refusals: RwLock::default(),
            pulses: Pulses::default(),
        };
        r.register(
            "http_request_duration_seconds",
            "From a request's head to the head of its answer, by listener and class",
            http_took,
        );
        metrics.registry = registry;
        metrics
    }
}

impl Boots {
    fn register(registry: &mut Registry) -> Self {
        let took = Durations::new(&BOOTS);
        registry.register(
            "boot_duration_seconds",
            "From the first sign of a node to the last stage that its boot promised, of attempts that came so far",
            took.clone(),
        );
        let boots = Self {
            attempts: registered(registry, "boot_attempts", "Attempts to boot that ended, by how"),
            stages: timed(
                registry,
                "boot_stage_duration_seconds",
                "How long stages took, each from the end of the one before it, of attempts that booted",
                || Durations::new(&BOOTS),
            ),
            diagnoses: registered(
                registry,
                "boot_diagnoses",
                "What was found to be wrong with boots, by name",
            ),
            took,
        };
        for end in [BOOTED, GIVEN_UP] {
            boots.attempts.get_or_create_owned(&EndLabel { end });
        }
        for stage in Stage::ALL {
            boots.stages.get_or_create_owned(&StageLabel { stage: stage.name() });
        }
        boots
    }
}

/// Which bootd this is, and since when.
fn identify(registry: &mut Registry) {
    let build: Family<VersionLabel, Gauge> = registered(registry, "build_info", "Always 1; the version is the label");
    let version = env!("CARGO_PKG_VERSION");
    build.get_or_create_owned(&VersionLabel { version }).set(1);
    let started: Gauge = Gauge::default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    started.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    registry.register(
        "start_time_seconds",
        "When this bootd started, in seconds since 1970",
        started,
    );
}

/// A new family of this name.
fn registered<L, M>(registry: &mut Registry, name: &str, help: &str) -> Family<L, M>
where
    L: Clone + std::hash::Hash + Eq,
    M: Default,
    Family<L, M>: Metric + Clone,
{
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

/// A new family of histograms.
fn timed<L>(registry: &mut Registry, name: &str, help: &str, new: fn() -> Durations) -> Family<L, Durations>
where
    L: Clone + std::hash::Hash + Eq,
    Family<L, Durations>: Metric + Clone,
{
    let family = Family::new_with_constructor(new);
    registry.register(name, help, family.clone());
    family
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

    /// A request of this class was answered after so long.
    pub fn took(&self, class: Class, time: Duration) {
        if let Some(durations) = self.http.took.get(class as usize) {
            durations.observe(time);
        }
    }

    /// How long the answers of a family of DHCP take: `dhcp4` or `dhcp6`.
    pub fn answer_durations(&self, part: &'static str) -> Durations {
        self.answers.get_or_create_owned(&PartLabel { part })
    }

    /// How long calls of a plugin take.
    pub fn call_durations(&self, plugin: &str) -> Durations {
        let plugin = plugin.into();
        self.plugin_calls.get_or_create_owned(&PluginLabel { plugin })
    }

    /// The counter of reads that the cache answered in one way, such as `hit`.
    pub fn cache_requests(&self, result: &str) -> Counter {
        let result = result.into();
        self.cache_requests.get_or_create_owned(&ResultLabel { result })
    }

    /// Attempts to boot came to their end.
    pub fn boots_ended(&self, booted: &[Ended], given_up: u64) {
        let end = |end| self.boots.attempts.get_or_create_owned(&EndLabel { end });
        end(BOOTED).inc_by(booted.len() as u64);
        end(GIVEN_UP).inc_by(given_up);
        for ended in booted {
            self.boots.took.observe(Duration::from_millis(ended.took_ms));
            for (stage, ms) in &ended.stages {
                let stages = self
                    .boots
                    .stages
                    .get_or_create_owned(&StageLabel { stage: stage.name() });
                stages.observe(Duration::from_millis(*ms));
            }
        }
    }

    /// Something was found to be wrong with so many boots.
    pub fn diagnosed(&self, name: &str, boots: u64) {
        let diagnosis = name.into();
        let family = &self.boots.diagnoses;
        family.get_or_create_owned(&DiagnosisLabel { diagnosis }).inc_by(boots);
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
            let counter = self.refused.of(part, reason);
            Arc::new(Refusal::new(part, reason, counter))
        });
        Arc::clone(refusal)
    }

    /// All that is counted, as OpenMetrics text without the mark at its end.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode_registry(&mut text, &self.registry);
        text
    }

    /// All that is counted, and what is there at present, in the wanted form.
    pub fn exposition(&self, present: &Registry, format: Format) -> String {
        let mut text = self.text();
        let _ = encode_registry(&mut text, present);
        format.written(text)
    }
}

/// How an attempt to boot ends.
const BOOTED: &str = "booted";
const GIVEN_UP: &str = "given_up";

#[cfg(test)]
mod tests {
    use super::*;

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
            r#"bootd_sent_bytes_total{part="http",what="boot"} 7"#,
            r#"bootd_amount{part="inventory",what="nodes"} 5"#,
            r#"bootd_http_listener_unauthenticated{listener="0.0.0.0:8081"} 1"#,
            r#"bootd_http_listener_unauthenticated{listener="0.0.0.0:8082"} 0"#,
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
    }
}
