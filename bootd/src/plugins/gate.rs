//! Keeps writes and starts apart: while an instance of a plugin starts, no write is under way in another one, so what `init` reads from
//! the store is all there is. A write waits at the closed gate; whoever closes it waits for the writes under way, but not for ever.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The gate of one plugin.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    left: Condvar,
    opened: Notify,
}

#[derive(Debug, Default)]
struct State {
    under_way: usize,
    /// Counts how often those under way were given up.
    epoch: u64,
    /// Counts the closings, so that only the last one opens it.
    closings: u64,
    closed: bool,
}

/// A write under way.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Arc<Gate>,
    epoch: u64,
}

/// The gate is closed until this is dropped.
#[derive(Debug)]
pub(super) struct Closed {
    gate: Arc<Gate>,
    closing: u64,
}

impl Gate {
    /// Waits until the gate is open. Dropped while waiting: nothing happened.
    pub(super) async fn enter(self: &Arc<Self>) -> Pass {
        loop {
            let opened = self.opened.notified();
            {
                let mut state = self.lock();
                if !state.closed {
                    state.under_way += 1;
                    return Pass {
                        gate: Arc::clone(self),
                        epoch: state.epoch,
                    };
                }
            }
            opened.await;
        }
    }

    /// Closes the gate and waits, at most this long, until no write is under way. One that hangs is left behind: its instance is told to
    /// stop, after which its writes are refused.
    pub(super) fn close(self: &Arc<Self>, within: Duration) -> Closed {
        let until = Instant::now() + within;
        let mut state = self.lock();
        state.closed = true;
        state.closings += 1;
        let closing = state.closings;
        while state.under_way > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = match self.left.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        drop(state);
        Closed {
            gate: Arc::clone(self),
            closing,
        }
    }

    /// Gives up the writes under way: their instance hangs and is replaced. Nobody waits for them any more.
    pub(super) fn give_up(&self) {
        let mut state = self.lock();
        state.under_way = 0;
        state.epoch += 1;
        self.left.notify_all();
    }

    /// Opens the gate, whoever closed it.
    pub(super) fn open(&self) {
        self.lock().closed = false;
        self.opened.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        if state.epoch == self.epoch {
            state.under_way -= 1;
            self.gate.left.notify_all();
        }
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        // One that was given up long ago opens nothing that was closed since.
        if self.gate.lock().closings == self.closing {
            self.gate.open();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_write_waits_while_an_instance_starts_and_a_start_waits_for_writes() {
        let gate = Arc::new(Gate::default());
        let pass = now(gate.enter()).unwrap();
        let closing = std::thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.close(Duration::from_secs(60))
        });
        while !gate.lock().closed {
            std::thread::yield_now();
        }
        assert!(now(gate.enter()).is_none());
        assert!(!closing.is_finished());
        drop(pass);
        let closed = closing.join().unwrap();
        assert!(now(gate.enter()).is_none());
        drop(closed);
        assert!(now(gate.enter()).is_some());
    }

    #[test]
    fn a_write_that_hangs_keeps_no_instance_from_starting_and_a_start_given_up_keeps_no_write_waiting() {
        let gate = Arc::new(Gate::default());
        let hanging = now(gate.enter()).unwrap();
        let given_up = gate.close(Duration::from_millis(1));
        gate.open();
        assert!(now(gate.enter()).is_some());
        let second = gate.close(Duration::from_millis(1));
        drop(given_up);
        assert!(now(gate.enter()).is_none());
        drop(second);
        gate.give_up();
        let started = std::time::Instant::now();
        drop(gate.close(Duration::from_secs(60)));
        assert!(started.elapsed() < Duration::from_secs(30));
        drop(hanging);
        assert!(now(gate.enter()).is_some());
    }
}
