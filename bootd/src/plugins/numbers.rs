//! The metrics that a plugin declares. A name is the same number in every instance; an id is good in the instance that declared it: it
//! carries that instance's number, so one of an earlier instance, or an invented one, finds nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bootd_sdk::wire::{Metric, MetricKind};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use crate::metrics::Metrics;

/// Metrics a plugin.
const MOST: usize = 64;
/// Bytes of a metric's name.
const LONGEST_NAME: usize = 64;

/// The declared metrics of one instance.
pub(super) struct Numbers {
    instance: u32,
    declared: Mutex<Vec<(Metric, Number)>>,
}

enum Number {
    Counter(Counter),
    Gauge(Gauge),
}

/// Why a metric is not declared or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NumberError {
    /// The name is not one.
    #[error("a metric's name is 1 to {LONGEST_NAME} of a-z, 0-9 and _")]
    BadName,
    /// It is declared with another kind.
    #[error("this metric is declared with another kind already")]
    OtherKind,
    /// Too many.
    #[error("a plugin has at most {MOST} metrics")]
    TooMany,
    /// The id names no metric of this instance.
    #[error("this id names no metric of this instance")]
    NoSuchId,
    /// A counter only grows, and is never set.
    #[error("a counter only grows")]
    OnlyGrows,
}

impl Numbers {
    /// For the instance of this number.
    pub(super) fn new(instance: u32) -> Self {
        Self {
            instance,
            declared: Mutex::default(),
        }
    }

    /// Gives the id of a metric, made if need be.
    pub(super) fn declare(&self, plugin: &str, metric: Metric, metrics: &Metrics) -> Result<u64, NumberError> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if metric.name.is_empty() || metric.name.len() > LONGEST_NAME || !metric.name.bytes().all(good) {
            return Err(NumberError::BadName);
        }
        let mut declared = self.lock();
        let at = match declared.iter().position(|(other, _)| other.name == metric.name) {
            Some(at) if declared[at].0.kind == metric.kind => at,
            Some(_) => return Err(NumberError::OtherKind),
            None if declared.len() >= MOST => return Err(NumberError::TooMany),
            None => {
                let number = match metric.kind {
                    MetricKind::Counter => Number::Counter(metrics.plugin_counter(plugin, &metric.name)),
                    MetricKind::Gauge => Number::Gauge(metrics.plugin_gauge(plugin, &metric.name)),
                };
                declared.push((metric, number));
                declared.len() - 1
            }
        };
        Ok(u64::from(self.instance) << 32 | at as u64)
    }

    pub(super) fn add(&self, id: u64, by: i64) -> Result<(), NumberError> {
        self.change(id, |number| match number {
            Number::Counter(counter) => {
                counter.inc_by(u64::try_from(by).map_err(|_| NumberError::OnlyGrows)?);
                Ok(())
            }
            Number::Gauge(gauge) => {
                gauge.inc_by(by);
                Ok(())
            }
        })
    }

    pub(super) fn set(&self, id: u64, value: i64) -> Result<(), NumberError> {
        self.change(id, |number| match number {
            Number::Counter(_) => Err(NumberError::OnlyGrows),
            Number::Gauge(gauge) => {
                gauge.set(value);
                Ok(())
            }
        })
    }

    fn change(&self, id: u64, f: impl FnOnce(&Number) -> Result<(), NumberError>) -> Result<(), NumberError> {
        let declared = self.lock();
        let at = (id >> 32 == u64::from(self.instance)).then_some((id & u64::from(u32::MAX)) as usize);
        let (_, number) = at.and_then(|at| declared.get(at)).ok_or(NumberError::NoSuchId)?;
        f(number)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Metric, Number)>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, kind: MetricKind) -> Metric {
        Metric {
            name: name.into(),
            kind,
        }
    }

    #[test]
    fn a_name_is_the_same_number_in_the_next_instance_and_an_old_id_is_not() {
        let metrics = Metrics::default();
        let (first, second) = (Numbers::new(7), Numbers::new(8));
        let old = first
            .declare("x", metric("fetched", MetricKind::Counter), &metrics)
            .unwrap();
        first.add(old, 3).unwrap();
        assert_eq!(second.add(old, 1), Err(NumberError::NoSuchId));
        let new = second
            .declare("x", metric("fetched", MetricKind::Counter), &metrics)
            .unwrap();
        second.add(new, 2).unwrap();
        let text = metrics.text();
        assert!(
            text.contains("bootd_plugin_events_total{plugin=\"x\",name=\"fetched\"} 5"),
            "{text}"
        );
        for invented in [0, 1, u64::MAX, new + 1, new ^ (1 << 40)] {
            assert_eq!(second.set(invented, 1), Err(NumberError::NoSuchId), "{invented}");
        }
    }

    #[test]
    fn a_counter_only_grows_and_names_and_their_number_have_bounds() {
        let (metrics, numbers) = (Metrics::default(), Numbers::new(1));
        let id = numbers
            .declare("x", metric("n", MetricKind::Counter), &metrics)
            .unwrap();
        assert_eq!(numbers.add(id, -1), Err(NumberError::OnlyGrows));
        assert_eq!(numbers.set(id, 1), Err(NumberError::OnlyGrows));
        let declare = |name: &str, kind| numbers.declare("x", metric(name, kind), &metrics);
        assert_eq!(declare("n", MetricKind::Gauge), Err(NumberError::OtherKind));
        for bad in ["", "A", "a b", "a\"", &"a".repeat(65)] {
            assert_eq!(declare(bad, MetricKind::Gauge), Err(NumberError::BadName), "{bad}");
        }
        for number in 1..MOST {
            declare(&format!("n{number}"), MetricKind::Gauge).unwrap();
        }
        assert_eq!(declare("one_more", MetricKind::Gauge), Err(NumberError::TooMany));
    }
}
