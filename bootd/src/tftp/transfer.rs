//! One transfer: what is sent, when it is sent again, and when it is over.
//!
//! Pure: told what came and what time it is, it says what leaves. What a client can make it send is bounded: one answer until it has been
//! heard, and then one window for each thing that it says that is news, or that it had reason to say again.
//!
//! Who says again what it said before misses what was sent behind that. With windows it gets it at once, and so it must: a client whose first block
//! of a window is lost has nothing else to say. But each block of a flight that it cannot use may make it say so; what was under
//! way when the same was sent already is no news. In lock-step (window 1) an acknowledgement may have been doubled by the network, or be that
//! of a block that was sent twice, and answering each would double all that follows, to the end of the file: RFC 1123 4.2.3.1, the
//! Sorcerer's Apprentice. There it counts only after the time in which the block would be sent again anyway.

use std::time::Duration;

use bytes::Bytes;

use super::content::Content;
use super::request::{Granted, data_head};
use crate::net::Burst;

/// A transfer under way. Times are those of a clock that only its caller knows.
#[derive(Debug)]
pub struct Transfer {
    content: Content,
    /// Blocks that may be under way at once.
    window: u64,
    /// The answer to the request, until it is acknowledged; `None`: the first block is the answer.
    oack: Option<Bytes>,
    /// The client asked for so long a wait; it does not grow.
    asked_wait: Option<Duration>,
    /// Whether anything came from the client since its request.
    heard: bool,
    /// Blocks that the client has.
    acknowledged: u64,
    /// Blocks that were sent at least once.
    sent: u64,
    /// When what is under way was sent, and whether it was for the first time.
    sent_at: Duration,
    is_repeated: bool,
    /// Since the last news: what was sent again because nothing came, and because the client said the same again.
    repetitions: u32,
    said_again: u32,
    news_at: Duration,
    /// What is said again counts from then on.
    deaf_until: Duration,
    due: Duration,
    times: Times,
}

/// How a transfer goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It waits.
    Nothing,
    /// These leave.
    Send(Burst),
    /// These leave once more.
    Repeat(Burst),
    /// The client has all of it.
    Done,
    /// Nothing was heard of the client for too long.
    GaveUp,
}

/// What was measured of the way to the client and back.
#[derive(Debug, Default)]
struct Times {
    /// Mean and spread.
    round: Option<(Duration, Duration)>,
    least: Option<Duration>,
}

impl Transfer {
    /// Begins one: the first answer is in the step.
    pub(super) fn begin(content: Content, granted: &Granted, now: Duration) -> (Self, Step) {
        let mut transfer = Self {
            content,
            window: granted.windowsize.unwrap_or(1).into(),
            oack: granted.packet(),
            asked_wait: granted.timeout.map(|seconds| Duration::from_secs(seconds.into())),
            heard: false,
            acknowledged: 0,
            sent: 0,
            sent_at: now,
            is_repeated: false,
            repetitions: 0,
            said_again: 0,
            news_at: now,
            deaf_until: now,
            due: now,
            times: Times::default(),
        };
        let burst = transfer.flight(now);
        (transfer, Step::Send(burst))
    }

    /// The client says that it has all blocks up to this one.
    pub fn acknowledged(&mut self, block: u16, now: Duration) -> Step {
        if self.oack.is_some() {
            if block != 0 {
                return Step::Nothing;
            }
            self.oack = None;
            return self.go_on(0, now);
        }
        // In either direction the numbers of blocks that matter are far fewer than 65536.
        let ahead = u64::from(block.wrapping_sub(self.acknowledged as u16));
        match ahead {
            0 => self.said_again(now),
            ahead if ahead <= self.sent - self.acknowledged => self.go_on(ahead, now),
            _ => Step::Nothing,
        }
    }

    /// The client asks for the same again. Only who has not been heard since gets its answer again, and not more than ten times a second.
    pub fn asked_again(&mut self, now: Duration) -> Step {
        if self.heard || now < self.sent_at + BETWEEN_ANSWERS {
            return Step::Nothing;
        }
        let due = self.due;
        let burst = self.flight(now);
        self.is_repeated = true;
        self.due = due;
        Step::Repeat(burst)
    }

    /// Nothing came until [`Transfer::due`].
    pub fn waited(&mut self, now: Duration) -> Step {
        if now < self.due {
            return Step::Nothing;
        }
        if now >= self.news_at + self.patience() {
            return Step::GaveUp;
        }
        if self.repetitions >= self.repetitions_allowed() {
            self.due = self.news_at + self.patience();
            return Step::Nothing;
        }
        self.repetitions += 1;
        self.repeat(now)
    }

    /// When [`Transfer::waited`] has something to do.
    pub fn due(&self) -> Duration {
        self.due
    }

    /// Whether anything came from the client since its request, and when the last news did.
    pub fn heard(&self) -> Option<Duration> {
        self.heard.then_some(self.news_at)
    }

    /// When its client said something new; the request is the first of that.
    pub fn news_at(&self) -> Duration {
        self.news_at
    }

    /// Whether the last block was sent.
    pub fn is_at_end(&self) -> bool {
        self.oack.is_none() && self.content.ends_with(self.sent)
    }

    /// Bytes that the client has.
    pub fn bytes(&self) -> u64 {
        self.content.bytes(self.acknowledged)
    }

    /// So many more blocks arrived.
    fn go_on(&mut self, blocks: u64, now: Duration) -> Step {
        self.heard = true;
        let arrived_whole = self.acknowledged + blocks == self.sent;
        // What was sent last cannot have been heard yet: this is of what was under way before, and what is under way now goes on behind it.
        let is_of_before = !arrived_whole && now < self.sent_at + self.times.least();
        let was_repeated = self.is_repeated;
        if !was_repeated && !is_of_before {
            self.times.measured(now.saturating_sub(self.sent_at));
        }
        self.acknowledged += blocks;
        self.content.release(blocks);
        (self.repetitions, self.said_again) = (0, 0);
        self.news_at = now;
        if is_of_before {
            return self.slide(now);
        }
        let burst = self.flight(now);
        if self.oack.is_none() && burst.heads.is_empty() {
            return Step::Done;
        }
        self.is_repeated = !arrived_whole;
        self.deaf_until = match self.window {
            1 => now + self.wait(),
            _ if arrived_whole && !was_repeated => now,
            // Of each block that is still under way besides the client may say that it is of no use.
            _ => now + self.times.quiet(),
        };
        match arrived_whole {
            true => Step::Send(burst),
            false => Step::Repeat(burst),
        }
    }

    /// The window moved on over what is under way.
    fn slide(&mut self, now: Duration) -> Step {
        self.is_repeated = true;
        self.due = (now + self.wait()).min(self.news_at + self.patience());
        let skipped = self.sent - self.acknowledged;
        let (count, body) = self.content.blocks(self.acknowledged, skipped, self.window);
        if count == 0 {
            return Step::Nothing;
        }
        let first = self.sent + 1;
        self.sent += count;
        Step::Send(self.burst(first, count, body))
    }

    /// The client has no more than before.
    fn said_again(&mut self, now: Duration) -> Step {
        self.heard = true;
        if now < self.deaf_until {
            return Step::Nothing;
        }
        self.said_again += 1;
        self.repeat(now)
    }

    fn repeat(&mut self, now: Duration) -> Step {
        let burst = self.flight(now);
        self.is_repeated = true;
        // Who says the same again and again is heard less and less.
        let quiet = self.times.quiet() * (1 << self.said_again.min(10));
        self.deaf_until = match self.window {
            1 => now + self.wait(),
            _ => now + quiet.min(self.wait()),
        };
        Step::Repeat(burst)
    }

    /// What is to leave now: the answer to the request, or the window behind what the client has. No heads and no answer: it has all.
    fn flight(&mut self, now: Duration) -> Burst {
        self.sent_at = now;
        self.is_repeated = false;
        let wait = match self.asked_wait {
            Some(_) => self.wait(),
            None => (self.wait() * (1 << self.repetitions.min(10))).min(LONGEST_WAIT),
        };
        self.due = (now + wait).min(self.news_at + self.patience());
        if let Some(oack) = &self.oack {
            return Burst::of(oack.clone());
        }
        // Whoever has not been heard may be somebody else than who asked.
        let window = if self.heard { self.window } else { 1 };
        let (count, body) = self.content.blocks(self.acknowledged, 0, window);
        self.sent = self.acknowledged + count;
        self.burst(self.acknowledged + 1, count, body)
    }

    fn burst(&self, first: u64, count: u64, body: Bytes) -> Burst {
        Burst {
            heads: (first..first + count).map(data_head).collect(),
            body,
            each: self.content.blksize(),
        }
    }

    /// How long the first answer to a flight is waited for.
    fn wait(&self) -> Duration {
        match self.asked_wait {
            Some(asked) if self.heard => asked.min(LONGEST_ASKED_WAIT),
            Some(asked) => asked.min(LONGEST_WAIT_UNHEARD),
            None => self.times.wait(),
        }
    }

    /// How long no news is waited for, in all.
    fn patience(&self) -> Duration {
        match self.asked_wait {
            _ if !self.heard => PATIENCE_UNHEARD,
            Some(asked) => PATIENCE.max((asked * 2 + LONGEST_ASKED_WAIT).min(LONGEST_PATIENCE)),
            None => PATIENCE,
        }
    }

    fn repetitions_allowed(&self) -> u32 {
        if self.heard { REPETITIONS } else { REPETITIONS_UNHEARD }
    }

    /// Bytes that this transfer has for itself.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.content.held()
    }
}

impl Times {
    /// As RFC 6298 does it.
    fn measured(&mut self, round: Duration) {
        self.least = Some(self.least.map_or(round, |least| least.min(round)));
        self.round = Some(match self.round {
            None => (round, round / 2),
            Some((mean, spread)) => (mean * 7 / 8 + round / 8, spread * 3 / 4 + mean.abs_diff(round) / 4),
        });
    }

    /// What no answer is faster than.
    fn least(&self) -> Duration {
        self.least.unwrap_or_default()
    }

    /// How long an answer is waited for.
    fn wait(&self) -> Duration {
        match self.round {
            None => FIRST_WAIT,
            Some((mean, spread)) => (mean + spread * 4).clamp(SHORTEST_WAIT, FIRST_WAIT),
        }
    }

    /// How long what was under way may be spoken of.
    fn quiet(&self) -> Duration {
        self.round.map_or(FIRST_WAIT / 10, |(mean, _)| mean.max(SHORTEST_QUIET))
    }
}

/// Before the way was measured.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A firmware that writes its flash, or a machine that has no processor for it now, is slower than the way to it.
const SHORTEST_WAIT: Duration = Duration::from_millis(250);
/// Waits double until then.
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// As upstream: 5 times, within half a minute.
const REPETITIONS: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(30);
/// Who asked may be another than it says; it costs little until it is heard.
const REPETITIONS_UNHEARD: u32 = 2;
const PATIENCE_UNHEARD: Duration = Duration::from_secs(15);
/// Without news, of who asked for long waits: whoever holds a place for nothing keeps it from others.
const LONGEST_PATIENCE: Duration = Duration::from_secs(60);
const LONGEST_WAIT_UNHEARD: Duration = Duration::from_secs(3);
/// Of waits that clients ask for, the rest of which counts for the patience only.
const LONGEST_ASKED_WAIT: Duration = Duration::from_secs(10);
const BETWEEN_ANSWERS: Duration = Duration::from_millis(100);
const SHORTEST_QUIET: Duration = Duration::from_millis(2);
