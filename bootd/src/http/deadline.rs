//! The deadline of a request's head, without a timer of the runtime for each request.
//!
//! hyper sets a deadline whenever it waits for a head and drops it when the head is there, many thousand times a second. Here that is a
//! number; the connection's one alarm looks at it when it rings, and sets itself to the deadline that it finds.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// The deadline of one connection: its [`Timer`]. Whoever polls the connection must do so again at [`HeadDeadline::next_look`].
#[derive(Debug, Clone)]
pub(super) struct HeadDeadline {
    /// How long after it is set a deadline comes, at the least.
    timeout: Duration,
    at: Arc<Mutex<Option<Instant>>>,
}

impl HeadDeadline {
    /// None yet.
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            at: Arc::default(),
        }
    }

    /// When to look again: at the deadline; without one, no later than the earliest that could be set from now on.
    pub(super) fn next_look(&self, now: Instant) -> Instant {
        self.get().filter(|at| *at > now).unwrap_or(now + self.timeout)
    }

    fn get(&self) -> Option<Instant> {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, deadline: Option<Instant>) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }
}

impl Timer for HeadDeadline {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.set(Some(deadline));
        Box::pin(Wait(self.clone()))
    }

    fn reset(&self, _: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        self.set(Some(deadline));
    }
}

/// Until the deadline; there is one at a time. Wakes nobody.
struct Wait(HeadDeadline);

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match self.0.get() {
            Some(deadline) if deadline <= Instant::now() => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

impl Sleep for Wait {}

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(15);

    #[test]
    fn the_alarm_rings_at_the_deadline_and_never_after_one_that_is_set_later() {
        let deadline = HeadDeadline::new(TIMEOUT);
        let now = Instant::now();
        assert_eq!(deadline.next_look(now), now + TIMEOUT);
        let first = now + Duration::from_secs(3);
        let wait = deadline.sleep_until(first);
        assert_eq!(deadline.next_look(now), first);
        assert_eq!(deadline.next_look(first), first + TIMEOUT);
        drop(wait);
        assert_eq!(deadline.next_look(now), now + TIMEOUT);
    }

    #[test]
    fn waiting_ends_when_the_deadline_has_come() {
        let deadline = HeadDeadline::new(TIMEOUT);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut wait = deadline.sleep(Duration::from_secs(60));
        assert!(wait.as_mut().poll(&mut context).is_pending());
        deadline.reset(&mut wait, Instant::now());
        assert!(wait.as_mut().poll(&mut context).is_ready());
    }
}
