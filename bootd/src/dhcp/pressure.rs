//! How much waits at a socket, looked at from time to time while batches are full: what is left unanswered then says [`limit`](super::limit).
//!
//! One for each receive thread. Counts what the kernel had no room for.

use std::io;

use prometheus_client::metrics::counter::Counter;

use super::limit::Load;
use crate::metrics::Metrics;
use crate::net::Backlog;

/// What is known of a socket.
pub(super) struct Pressure {
    /// Full batches, one after the other.
    full: u32,
    load: Load,
    /// Packets that the kernel had no room for, as far as they are counted.
    dropped: u32,
    counter: Counter,
}

impl Pressure {
    /// Nothing waits. `part`: of the metrics.
    pub(super) fn new(metrics: &Metrics, part: &'static str) -> Self {
        Self {
            full: 0,
            load: Load::Light,
            dropped: 0,
            counter: metrics.refusals_counter(part, "receive_buffer_full"),
        }
    }

    /// The load after a receive, which filled its batch or did not.
    pub(super) fn after(&mut self, is_full: bool, backlog: impl FnOnce() -> io::Result<Backlog>) -> Load {
        if !is_full {
            self.load = Load::Light;
            if self.full > 0 {
                self.full = 0;
                self.look(backlog);
            }
        } else {
            self.full += 1;
            if self.full.is_multiple_of(LOOK_EVERY)
                && let Some(backlog) = self.look(backlog)
            {
                let heavy = backlog.waiting > backlog.room / 2;
                self.load = if heavy { Load::Heavy } else { Load::Light };
            }
        }
        self.load
    }

    fn look(&mut self, backlog: impl FnOnce() -> io::Result<Backlog>) -> Option<Backlog> {
        let backlog = backlog().ok()?;
        self.counter.inc_by(backlog.dropped.wrapping_sub(self.dropped).into());
        self.dropped = backlog.dropped;
        Some(backlog)
    }
}

/// Full batches from one look at the backlog to the next.
const LOOK_EVERY: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_heavy_while_more_than_half_of_the_room_is_full_and_drops_are_counted_once() {
        let metrics = Metrics::default();
        let mut pressure = Pressure::new(&metrics, "dhcp4");
        let waits = |waiting, dropped| {
            move || {
                Ok(Backlog {
                    waiting,
                    room: 100,
                    dropped,
                })
            }
        };
        for _ in 0..LOOK_EVERY - 1 {
            assert_eq!(pressure.after(true, waits(60, 5)), Load::Light);
        }
        assert_eq!(pressure.after(true, waits(60, 5)), Load::Heavy);
        assert_eq!(pressure.after(true, waits(10, 5)), Load::Heavy);
        assert_eq!(pressure.after(false, waits(0, 7)), Load::Light);
        assert_eq!(pressure.counter.get(), 7);
        // Without a full batch before it nobody looks.
        assert_eq!(pressure.after(false, waits(0, 9)), Load::Light);
        assert_eq!(pressure.counter.get(), 7);
    }
}
