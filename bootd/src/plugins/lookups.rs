//! Clients that the inventory does not know: plugins are asked for their MACs, one after the other, and whoever waits for the answer is
//! told. Never holds up whoever asks: a bounded queue, a memory of what was asked a moment ago, a bound on how long anybody waits.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use bootd_sdk::mac::Mac;

use crate::dhcp::{Lookup, Then};
use crate::metrics::Metrics;

use super::{PART, locked};

/// MACs that wait to be looked up at once; more are left to the clients' retries.
const QUEUE: usize = 1024;
/// How long an unknown MAC is not asked for again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a client waits for its turn; after that it is answered as one that nobody knows.
const TURN: Duration = Duration::from_secs(1);

/// The queue of MACs.
pub(super) struct Lookups {
    sender: SyncSender<Wanted>,
    /// Who waits for each look-up under way; whoever began it may have nothing to wait for. As many as the queue holds.
    under_way: Mutex<HashMap<Mac, Option<Then>>>,
    /// What was looked up a moment ago.
    over: moka::sync::Cache<Mac, ()>,
}

/// A MAC that waits for its turn.
pub(super) struct Wanted {
    mac: Mac,
    since: Instant,
}

impl Lookups {
    pub(super) fn new() -> (Self, Receiver<Wanted>) {
        let (sender, queue) = sync_channel(QUEUE);
        let over = moka::sync::Cache::builder()
            .max_capacity(65_536)
            .time_to_live(AGAIN)
            .build();
        let lookups = Self {
            sender,
            under_way: Mutex::default(),
            over,
        };
        (lookups, queue)
    }

    /// Asks for a MAC; `then`, if there is one, is called when [`Lookup::Begun`] is over. Never waits.
    pub(super) fn ask(&self, mac: Mac, then: Option<Then>, metrics: &Metrics) -> Lookup {
        let mut under_way = locked(&self.under_way);
        match under_way.get_mut(&mac) {
            // It was begun for a packet that is answered already.
            Some(waiting @ None) if then.is_some() => {
                *waiting = then;
                return Lookup::Begun;
            }
            Some(_) => return Lookup::Waiting,
            None if self.over.contains_key(&mac) => return Lookup::Nobody,
            None => {}
        }
        let since = Instant::now();
        if self.sender.try_send(Wanted { mac, since }).is_ok() {
            under_way.insert(mac, then);
            return Lookup::Begun;
        }
        metrics.refused(PART, "resolve_queue_full", &mac, &"answered as one that nobody knows");
        Lookup::Nobody
    }

    /// Looks one up and tells whoever waits.
    pub(super) fn look_up(&self, wanted: &Wanted, metrics: &Metrics, resolve: impl FnOnce(Mac)) {
        let mac = wanted.mac;
        if wanted.since.elapsed() < TURN {
            resolve(mac);
        } else {
            metrics.refused(PART, "resolve_too_late", &mac, &"it waited too long for its turn");
        }
        self.over.insert(mac, ());
        let Some(then) = locked(&self.under_way).remove(&mac).flatten() else {
            return;
        };
        if catch_unwind(AssertUnwindSafe(then)).is_err() {
            metrics.refused(PART, "panic", &mac, &"a bug in bootd");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn mac(n: u16) -> Mac {
        let [high, low] = n.to_be_bytes();
        Mac([2, 0, 0, 0, high, low])
    }

    #[test]
    fn a_client_is_looked_up_once_and_told_once_and_then_rests() {
        let (lookups, queue) = Lookups::new();
        let (metrics, told) = (Metrics::default(), Arc::new(AtomicU32::new(0)));
        let then = || -> Option<Then> {
            let told = Arc::clone(&told);
            Some(Box::new(move || {
                told.fetch_add(1, Ordering::Relaxed);
            }))
        };
        assert_eq!(lookups.ask(mac(1), then(), &metrics), Lookup::Begun);
        assert_eq!(lookups.ask(mac(1), then(), &metrics), Lookup::Waiting);
        let mut asked = Vec::new();
        lookups.look_up(&queue.try_recv().unwrap(), &metrics, |mac| asked.push(mac));
        assert_eq!((asked.as_slice(), told.load(Ordering::Relaxed)), (&[mac(1)][..], 1));
        assert_eq!(lookups.ask(mac(1), then(), &metrics), Lookup::Nobody);
        assert!(queue.try_recv().is_err());
    }

    #[test]
    fn more_clients_than_the_queue_holds_are_answered_as_unknown_ones() {
        let (lookups, queue) = Lookups::new();
        let metrics = Metrics::default();
        let ask = |n| lookups.ask(mac(n), None, &metrics);
        let full = u16::try_from(QUEUE).unwrap();
        assert!((0..full).all(|n| ask(n) == Lookup::Begun));
        assert_eq!(ask(full), Lookup::Nobody);
        drop(queue.try_recv());
        assert_eq!(ask(full), Lookup::Begun);
    }

    #[test]
    fn who_waited_too_long_is_told_without_a_look_up_and_a_panic_of_one_costs_only_that_one() {
        let (lookups, queue) = Lookups::new();
        let metrics = Metrics::default();
        let begun = lookups.ask(mac(1), Some(Box::new(|| panic!("tried"))), &metrics);
        assert_eq!(begun, Lookup::Begun);
        let mut late = queue.try_recv().unwrap();
        late.since = Instant::now().checked_sub(2 * TURN).unwrap();
        lookups.look_up(&late, &metrics, |_| panic!("nobody is asked"));
        assert!(metrics.text().contains("what=\"panic\"") && locked(&lookups.under_way).is_empty());
    }

    #[test]
    fn a_discover_waits_for_a_look_up_that_an_earlier_packet_began() {
        let (lookups, queue) = Lookups::new();
        let (metrics, told) = (Metrics::default(), Arc::new(AtomicU32::new(0)));
        assert_eq!(lookups.ask(mac(1), None, &metrics), Lookup::Begun);
        assert_eq!(lookups.ask(mac(1), None, &metrics), Lookup::Waiting);
        let waits = || -> Then {
            let told = Arc::clone(&told);
            Box::new(move || {
                told.fetch_add(1, Ordering::Relaxed);
            })
        };
        assert_eq!(lookups.ask(mac(1), Some(waits()), &metrics), Lookup::Begun);
        assert_eq!(lookups.ask(mac(1), Some(waits()), &metrics), Lookup::Waiting);
        lookups.look_up(&queue.try_recv().unwrap(), &metrics, |_| {});
        assert_eq!(told.load(Ordering::Relaxed), 1);
        assert!(queue.try_recv().is_err() && locked(&lookups.under_way).is_empty());
    }
}
