//! What an instance waits for: the end of its sleep, an event, or the word to stop. Events are lossy and bounded: whoever sends one never
//! waits, and the oldest is lost first, counted.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bootd_sdk::wire::{Event, EventKind, Happening};

/// Events that wait for a plugin; more push out the oldest.
const WAITING: usize = 256;

/// The mailbox of one instance.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    started: bool,
    stopping: bool,
    waiting: VecDeque<Happening>,
    lost: u64,
}

/// Why a wait is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// Its time is.
    InTime,
    /// Something happened.
    By(Event),
    /// The instance is to end.
    Stopping,
}

impl Mailbox {
    /// Waits for the time to pass; events stay where they are.
    pub(super) fn sleep(&self, time: Duration) -> Woken {
        self.wait(time, |_| None)
    }

    /// Waits for an event.
    pub(super) fn event(&self, time: Duration) -> Woken {
        self.wait(time, |state| {
            let what = state.waiting.pop_front()?;
            let lost = std::mem::take(&mut state.lost);
            Some(Event { lost, what })
        })
    }

    /// Waits until the instance is in service. `false`: it is to end, and never was.
    pub(super) fn wait_for_start(&self) -> bool {
        let mut state = self.lock();
        while !state.started && !state.stopping {
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.stopping
    }

    /// The instance is in service.
    pub(super) fn start(&self) {
        self.lock().started = true;
        self.wake.notify_all();
    }

    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.wake.notify_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    fn wait(&self, time: Duration, take: impl Fn(&mut State) -> Option<Event>) -> Woken {
        let until = Instant::now().checked_add(time);
        let mut state = self.lock();
        loop {
            if state.stopping {
                return Woken::Stopping;
            }
            if let Some(event) = take(&mut state) {
                return Woken::By(event);
            }
            let left = until.map_or(FOR_EVER, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Woken::InTime;
            }
            state = match self.wake.wait_timeout(state, left.min(FOR_EVER)) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn put(&self, what: &Happening) {
        let mut state = self.lock();
        if state.stopping {
            return;
        }
        if state.waiting.len() >= WAITING {
            state.waiting.pop_front();
            state.lost += 1;
        }
        state.waiting.push_back(what.clone());
        drop(state);
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a thread waits before it looks again all the same.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// Who wants to be told of what.
#[derive(Debug, Default)]
pub(super) struct Events {
    takers: ArcSwap<Vec<Taker>>,
}

#[derive(Debug, Clone)]
struct Taker {
    kinds: Vec<EventKind>,
    mailbox: Arc<Mailbox>,
}

impl Events {
    /// From now on this mailbox gets events of these kinds.
    pub(super) fn subscribe(&self, mailbox: &Arc<Mailbox>, kinds: &[EventKind]) {
        if kinds.is_empty() {
            return;
        }
        let new = Taker {
            kinds: kinds.to_vec(),
            mailbox: Arc::clone(mailbox),
        };
        self.takers.rcu(|takers| {
            let going_on = takers.iter().filter(|taker| !taker.mailbox.is_stopping());
            going_on.chain([&new]).cloned().collect::<Vec<_>>()
        });
    }

    /// Something of this kind happened. Costs a look when nobody wants to know.
    pub(super) fn tell(&self, kind: EventKind, what: impl FnOnce() -> Happening) {
        let takers = self.takers.load();
        let mut interested = takers.iter().filter(|taker| taker.kinds.contains(&kind)).peekable();
        if interested.peek().is_none() {
            return;
        }
        let what = what();
        for taker in interested {
            taker.mailbox.put(&what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(generation: u64) -> Happening {
        Happening::Inventory { generation }
    }

    #[test]
    fn events_that_nobody_takes_are_lost_oldest_first_and_counted() {
        let (events, mailbox) = (Events::default(), Arc::<Mailbox>::default());
        events.subscribe(&mailbox, &[EventKind::Inventory]);
        for generation in 0..300 {
            events.tell(EventKind::Inventory, || inventory(generation));
        }
        let next = || mailbox.event(Duration::ZERO);
        let what = inventory(44);
        assert_eq!(next(), Woken::By(Event { lost: 44, what }));
        let what = inventory(45);
        assert_eq!(next(), Woken::By(Event { lost: 0, what }));
        assert_eq!((0..300).filter(|_| next() != Woken::InTime).count(), 254);
    }

    #[test]
    fn only_the_kinds_that_were_asked_for_come() {
        let (events, mailbox) = (Events::default(), Arc::<Mailbox>::default());
        events.subscribe(&mailbox, &[EventKind::Http]);
        events.tell(EventKind::Inventory, || panic!("nobody wants to know"));
        assert_eq!(mailbox.event(Duration::ZERO), Woken::InTime);
    }

    #[test]
    fn the_word_to_stop_ends_every_wait_at_once_and_for_good() {
        let mailbox = Arc::<Mailbox>::default();
        let sleeping = std::thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || mailbox.sleep(Duration::MAX)
        });
        mailbox.stop();
        assert_eq!(sleeping.join().unwrap(), Woken::Stopping);
        assert_eq!(mailbox.event(Duration::MAX), Woken::Stopping);
    }
}
