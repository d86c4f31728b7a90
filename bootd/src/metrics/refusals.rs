//! Why things were refused: counted each time, and logged at most once a second a reason, with the number of lines left out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bootd_sdk::text::shown;
use prometheus_client::metrics::counter::Counter;

use super::Metrics;

/// A reason to refuse: its counter, and how often it may be logged.
pub(super) struct Refusal {
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
    pub(super) fn new(part: &'static str, reason: &'static str, counter: Counter) -> Self {
        Self {
            part,
            reason,
            counter,
            start: Instant::now(),
            next: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }

    pub(super) fn count(&self, peer: &dyn fmt::Display, detail: &dyn fmt::Display) {
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
}
