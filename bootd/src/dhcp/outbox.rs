//! Replies on their way, of either family: a [`Letter`] is a reply that is bytes, a [`Desk`] is what a receive thread has by itself, its
//! [`Outbox`] holds the letters of a batch, and [`Dispatch`] sends them together, counts them and has the lines about them written.
//!
//! Buffers are used again, so a letter to a known node takes nothing from the heap. A letter that cannot leave costs no other one, and is
//! counted.

use std::fmt::Display;
use std::io;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

use super::clock::boot_clock;
use super::limit::{Limit, Load};
use crate::boots::{Event, Pen, Watch};
use crate::lines::Lines;
use crate::metrics::{Durations, Metrics, Refusals};

/// A reply that is bytes, and what is said about it.
pub(crate) trait Letter: 'static {
    /// The part of the metrics.
    const PART: &'static str;
    /// The names of all kinds of replies.
    const KINDS: &'static [&'static str];

    /// One with room for what nearly every answer is.
    fn blank() -> Self;
    /// The bytes.
    fn packet(&self) -> &[u8];
    /// Its place among [`Self::KINDS`].
    fn kind(&self) -> usize;
    /// Whom a refusal names.
    fn whose(&self) -> &dyn Display;
    /// Writes the line about it.
    fn tell(&self);
    /// For the capture; `None`: nobody knows whose it is.
    fn seen(&self) -> Option<Event>;
}

/// Where replies leave.
pub(crate) trait Outlet<L>: Send + Sync + 'static {
    /// Sends them, and says of those that did not leave why, by their place.
    fn send(&self, letters: &[L], failed: &mut Vec<(usize, io::Error)>);
}

/// What a thread has by itself: the replies of its batch, and what it counts.
pub(crate) struct Desk<L> {
    pub(super) outbox: Outbox<L>,
    pub(super) refusals: Refusals,
    pub(super) limit: Limit,
    /// What the timelines of boots are told of its batch.
    pub(super) pen: Pen,
    rate_limit: u32,
    /// Packets of this batch that were remembered.
    noted: u8,
    /// When its batch came, by the boot clock; `None`: its packets waited for something.
    came: Option<Duration>,
}

impl<L: Letter> Desk<L> {
    /// With nothing on it; each client may send so many packets a second.
    pub(super) fn new(metrics: Arc<Metrics>, watch: &Watch, rate_limit: u32) -> Self {
        Self {
            outbox: Outbox::default(),
            refusals: Refusals::new(metrics, L::PART),
            limit: Limit::new(rate_limit),
            pen: watch.pen(),
            rate_limit,
            noted: 0,
            came: None,
        }
    }

    /// Each client may send so many packets a second from now on. Another number than before forgets who sent how much.
    pub(crate) fn limit_to(&mut self, rate_limit: u32) {
        if self.rate_limit != rate_limit {
            (self.limit, self.rate_limit) = (Limit::new(rate_limit), rate_limit);
        }
    }

    /// A batch of packets came.
    pub(crate) fn begin(&mut self, load: Load) {
        let now = boot_clock();
        self.came = Some(now);
        self.limit.begin(now, load);
        self.noted = 0;
    }

    /// Whether one more packet of this batch is to be remembered. Of full batches only some are: what comes then is hardly news, and has to be answered.
    pub(super) fn notes(&mut self) -> bool {
        self.noted += u8::from(self.noted <= NOTED);
        self.noted <= NOTED
    }
}

/// Packets of a batch that are remembered at most.
const NOTED: u8 = 8;

/// The letters of a batch.
#[derive(Debug)]
pub(crate) struct Outbox<L> {
    /// Those behind `count` are of earlier batches, and written over.
    letters: Vec<L>,
    count: usize,
    failed: Vec<(usize, io::Error)>,
}

impl<L> Default for Outbox<L> {
    fn default() -> Self {
        Self {
            letters: Vec::new(),
            count: 0,
            failed: Vec::new(),
        }
    }
}

impl<L: Letter> Outbox<L> {
    /// Has one more letter written, which is in then, unless that fails.
    pub(super) fn put<E>(&mut self, write: impl FnOnce(&mut L) -> Result<(), E>) -> Result<(), E> {
        if self.count == self.letters.len() {
            self.letters.push(L::blank());
        }
        if let Some(letter) = self.letters.get_mut(self.count) {
            write(letter)?;
            self.count += 1;
        }
        Ok(())
    }
}

/// Sends letters.
pub(crate) struct Dispatch<L> {
    metrics: Arc<Metrics>,
    watch: Watch,
    counters: Vec<Sent>,
    lines: Lines,
    took: Durations,
    letters: PhantomData<fn(&L)>,
}

/// Replies of one kind.
struct Sent {
    count: Counter,
    bytes: Counter,
}

impl<L: Letter> Dispatch<L> {
    /// With its own counters among all of them.
    pub(super) fn new(metrics: Arc<Metrics>, watch: Watch) -> Self {
        let counters = L::KINDS.iter().map(|kind| Sent {
            count: metrics.counter(L::PART, kind),
            bytes: metrics.bytes_counter(L::PART, kind),
        });
        Self {
            counters: counters.collect(),
            took: metrics.answer_durations(L::PART),
            metrics,
            watch,
            lines: Lines::new(Instant::now()),
            letters: PhantomData,
        }
    }

    /// Whether a line about a client may be written.
    pub(super) fn may_write(&self) -> bool {
        self.lines.may_write(Instant::now())
    }

    /// Tells the timelines, sends what is on a desk, whose outbox is empty then, and says from time to time how many lines were too many.
    pub(super) fn send(&self, desk: &mut Desk<L>, outlet: &dyn Outlet<L>) {
        // What came is told before what leaves.
        desk.pen.tell();
        let (outbox, came) = (&mut desk.outbox, desk.came.take());
        let count = std::mem::take(&mut outbox.count);
        if let Some(letters @ [_, ..]) = outbox.letters.get(..count) {
            self.send_all(letters, outlet, &mut outbox.failed);
            if let Some(came) = came {
                // One look at the clock for the whole batch.
                self.took.observe_all(boot_clock().saturating_sub(came), count as u64);
            }
        }
        if let Some(left_out) = self.lines.left_out(Instant::now()) {
            tracing::warn!(left_out, "dhcp lines left out: clients send too much");
        }
    }

    /// Sends letters now. `failed` is for its own use.
    pub(super) fn send_all(&self, letters: &[L], outlet: &dyn Outlet<L>, failed: &mut Vec<(usize, io::Error)>) {
        failed.clear();
        // Some callers' threads must not end by a bug here.
        if catch_unwind(AssertUnwindSafe(|| outlet.send(letters, failed))).is_err() {
            let lost = format!("a bug in bootd; it may have cost {} replies", letters.len());
            return self.metrics.refused(L::PART, "panic", &"", &lost);
        }
        for (at, letter) in letters.iter().enumerate() {
            match failed.iter().find(|(number, _)| *number == at) {
                Some((_, error)) => self.not_sent(letter, error),
                None => self.sent(letter),
            }
        }
    }

    fn not_sent(&self, letter: &L, error: &io::Error) {
        let reason = match error.kind() {
            io::ErrorKind::WouldBlock => "send_buffer_full",
            _ => "send_failed",
        };
        self.metrics.refused(L::PART, reason, letter.whose(), error);
    }

    fn sent(&self, letter: &L) {
        if let Some(counters) = self.counters.get(letter.kind()) {
            counters.count.inc();
            counters.bytes.inc_by(letter.packet().len() as u64);
        }
        self.watch.tell_packet(|| letter.seen());
        if self.may_write() {
            letter.tell();
        }
    }
}
