//! Times, counted in buckets whose width is about three percent of them: as many as there are, in the same memory.

use std::time::Duration;

/// The buckets.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    all: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            all: 0,
        }
    }
}

impl Histogram {
    /// Counts a time.
    pub fn add(&mut self, nanoseconds: u64) {
        if let Some(count) = self.counts.get_mut(bucket(nanoseconds)) {
            *count += 1;
            self.all += 1;
        }
    }

    /// The time below which this share of the times is.
    pub fn share(&self, share: f64) -> Duration {
        let rank = (self.all as f64 * share) as u64;
        let mut below = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            below += count;
            if below > rank || (below == self.all && self.all > 0) {
                return Duration::from_nanos(end(bucket));
            }
        }
        Duration::ZERO
    }
}

/// Small numbers have a bucket each; of others the five bits behind the first one count.
fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(BITS + 1);
    (shift << BITS) as usize + (value >> shift) as usize
}

/// The largest number in a bucket.
fn end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket >> BITS).saturating_sub(1);
    let first = bucket - (shift << BITS);
    ((first + 1) << shift) - 1
}

const BITS: u32 = 5;
const BUCKETS: usize = (u64::BITS as usize) << BITS;
