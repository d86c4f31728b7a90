//! How long things took, in buckets. Counting is two or three atomic additions and never waits, so a thread that answers packets may do it.
//!
//! Knows no clock: whoever counts has read one, mostly for something else. A value lands in the first bucket whose bound it does not exceed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// A histogram of seconds; clones share it.
#[derive(Debug, Clone)]
pub struct Durations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Upper bounds in microseconds, ascending.
    bounds: &'static [u64],
    /// One more than there are bounds: what is above all of them.
    counts: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
}

impl Durations {
    /// An empty one with these upper bounds, in microseconds and ascending.
    pub fn new(bounds: &'static [u64]) -> Self {
        Self(Arc::new(Inner {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            nanoseconds: AtomicU64::new(0),
        }))
    }

    /// Something took so long.
    pub fn observe(&self, took: Duration) {
        self.observe_all(took, 1);
    }

    /// So many things took so long, each of them.
    pub fn observe_all(&self, took: Duration, times: u64) {
        let Inner {
            bounds,
            counts,
            nanoseconds,
        } = &*self.0;
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bounds.partition_point(|bound| bound.saturating_mul(1000) < took);
        if let Some(count) = counts.get(bucket) {
            count.fetch_add(times, Ordering::Relaxed);
        }
        nanoseconds.fetch_add(took.saturating_mul(times), Ordering::Relaxed);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let bounds = self.0.bounds.iter().map(|bound| *bound as f64 / 1e6);
        // How the library writes +Inf.
        let bounds = bounds.chain(std::iter::once(f64::MAX));
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let seconds = self.0.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
        encoder.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Bounds for answers of packet threads, in microseconds: 20 us to 1 s.
pub const PACKETS: [u64; 14] = [
    20, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
];
/// Bounds for requests, calls and commits, in microseconds: 0.1 ms to 30 s.
pub const REQUESTS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000, 30_000_000,
];
/// Bounds for boots and their stages, in microseconds: 0.1 s to half an hour.
pub const BOOTS: [u64; 14] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    20_000_000,
    40_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
];

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn what_took_as_long_as_a_bound_is_within_it_and_what_took_longer_than_all_is_in_the_last() {
        let durations = Durations::new(&[1_000, 5_000]);
        durations.observe(Duration::from_millis(1));
        durations.observe(Duration::from_micros(1_001));
        durations.observe_all(Duration::from_secs(2), 3);
        assert_eq!(durations.count(), 5);
        let mut registry = Registry::default();
        registry.register("x_seconds", "Some", durations);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "x_seconds_sum 6.002001",
            "x_seconds_count 5",
            r#"x_seconds_bucket{le="0.001"} 1"#,
            r#"x_seconds_bucket{le="0.005"} 2"#,
            r#"x_seconds_bucket{le="+Inf"} 5"#,
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
    }
}
