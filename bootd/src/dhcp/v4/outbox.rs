//! Replies on their way: a [`Letter`] is a reply that is bytes, an [`Outbox`] holds those of a batch, and [`Dispatch`] sends them together,
//! counts them and writes the lines about them.
//!
//! Buffers are used again, so a letter to a known node takes nothing from the heap. ACKs that wait for the store gather in [`Acks`] and leave
//! when its commit is reported. A letter that cannot leave costs no other one, and is counted.

use std::io;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bootd_sdk::mac::Mac;
use dhcproto::v4::OptionCode;
use prometheus_client::metrics::counter::Counter;

use super::PART;
use super::answer::NakWhy;
use super::boot::Stage;
use super::bootloop::encode_nak;
use super::encode::encode;
use super::options::find;
use super::reply::{Destination, Envelope, Reply, ReplyKind};
use super::request::HEADER;
use crate::config::Arch;
use crate::lines::Lines;
use crate::metrics::Metrics;

/// Where replies leave.
pub(crate) trait Outlet: Send + Sync + 'static {
    /// Sends them, and says of those that did not leave why, by their place.
    fn send(&self, letters: &[Letter], failed: &mut Vec<(usize, io::Error)>);
}

/// A reply that is bytes, and what is said about it.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    /// The bytes.
    pub(crate) packet: Vec<u8>,
    /// Where it goes, and from whom.
    pub(crate) envelope: Envelope,
    boot: Boot,
    /// Empty when the inventory does not know the client.
    xname: String,
    /// The last rule that is told of, empty when there is none.
    rule: String,
    nak: Option<NakWhy>,
}

/// How far a client's boot is, as far as logs and metrics tell.
#[derive(Debug, Clone, Copy)]
struct Boot {
    stage: Stage,
    arch: Option<Arch>,
}

impl Letter {
    /// A letter by itself.
    pub(crate) fn of(reply: &Reply<'_>, nak: Option<NakWhy>) -> Self {
        let mut letter = Self::blank();
        letter.write(reply, nak);
        letter
    }

    fn blank() -> Self {
        Self {
            packet: Vec::with_capacity(ROOM),
            envelope: Envelope {
                kind: ReplyKind::Offer,
                to: Destination::Broadcast,
                server: Ipv4Addr::UNSPECIFIED,
                mac: Mac([0; 6]),
                yiaddr: Ipv4Addr::UNSPECIFIED,
            },
            boot: Boot {
                stage: Stage::Os,
                arch: None,
            },
            xname: String::new(),
            rule: String::new(),
            nak: None,
        }
    }

    fn write(&mut self, reply: &Reply<'_>, nak: Option<NakWhy>) {
        match nak {
            Some(NakWhy::Bootloop) => encode_nak(reply, &mut self.packet),
            _ => encode(reply, &mut self.packet),
        }
        self.envelope = reply.envelope();
        self.boot = Boot {
            stage: reply.booting.stage,
            arch: reply.booting.arch,
        };
        self.xname.clear();
        self.xname.push_str(reply.xname.unwrap_or_default());
        self.rule.clear();
        self.rule.push_str(reply.rule().unwrap_or_default());
        self.nak = nak;
    }
}

/// The letters of a batch.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Those behind `count` are of earlier batches, and written over.
    letters: Vec<Letter>,
    count: usize,
    failed: Vec<(usize, io::Error)>,
}

impl Outbox {
    /// Puts a reply in.
    pub(crate) fn put(&mut self, reply: &Reply<'_>, nak: Option<NakWhy>) {
        if self.count == self.letters.len() {
            self.letters.push(Letter::blank());
        }
        if let Some(letter) = self.letters.get_mut(self.count) {
            letter.write(reply, nak);
            self.count += 1;
        }
    }
}

/// Sends letters.
pub(crate) struct Dispatch {
    metrics: Arc<Metrics>,
    counters: [Sent; KINDS.len()],
    lines: Lines,
}

/// Replies of one kind.
struct Sent {
    count: Counter,
    bytes: Counter,
}

impl Dispatch {
    /// With its own counters among all of them.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        let counters = KINDS.map(|kind| Sent {
            count: metrics.counter(PART, kind.name()),
            bytes: metrics.bytes_counter(PART, kind.name()),
        });
        Self {
            metrics,
            counters,
            lines: Lines::new(Instant::now()),
        }
    }

    /// Whether a line about a client may be written.
    pub(crate) fn may_write(&self) -> bool {
        self.lines.may_write(Instant::now())
    }

    /// Sends what is in an outbox, which is empty then.
    pub(crate) fn send(&self, outbox: &mut Outbox, outlet: &dyn Outlet) {
        let count = std::mem::take(&mut outbox.count);
        if let Some(letters @ [_, ..]) = outbox.letters.get(..count) {
            self.send_all(letters, outlet, &mut outbox.failed);
        }
    }

    /// Says from time to time how many lines were too many.
    pub(crate) fn say_left_out(&self) {
        if let Some(left_out) = self.lines.left_out(Instant::now()) {
            tracing::warn!(left_out, "dhcp lines left out: clients send too much");
        }
    }

    /// Sends letters now. `failed` is for its own use.
    fn send_all(&self, letters: &[Letter], outlet: &dyn Outlet, failed: &mut Vec<(usize, io::Error)>) {
        failed.clear();
        // Some callers' threads must not end by a bug here.
        if catch_unwind(AssertUnwindSafe(|| outlet.send(letters, failed))).is_err() {
            let lost = format!("a bug in bootd; it may have cost {} replies", letters.len());
            return self.metrics.refused(PART, "panic", &"", &lost);
        }
        for (at, letter) in letters.iter().enumerate() {
            match failed.iter().find(|(number, _)| *number == at) {
                Some((_, error)) => self.not_sent(letter, error),
                None => self.sent(letter),
            }
        }
    }

    fn not_sent(&self, letter: &Letter, error: &io::Error) {
        let reason = match error.kind() {
            io::ErrorKind::WouldBlock => "send_buffer_full",
            _ => "send_failed",
        };
        self.metrics.refused(PART, reason, &letter.envelope.mac, error);
    }

    fn sent(&self, letter: &Letter) {
        let (envelope, boot) = (&letter.envelope, &letter.boot);
        let counters = &self.counters[envelope.kind as usize];
        counters.count.inc();
        counters.bytes.inc_by(letter.packet.len() as u64);
        if !self.may_write() {
            return;
        }
        let area = letter.packet.get(HEADER..).unwrap_or_default();
        let file = find(area, OptionCode::BootfileName).unwrap_or_default();
        tracing::info!(
            kind = envelope.kind.name(),
            mac = %envelope.mac,
            ip = %envelope.yiaddr,
            xname = letter.xname,
            rule = letter.rule,
            arch = boot.arch.map_or("", |arch| arch.name()),
            stage = boot.stage.name(),
            file = %String::from_utf8_lossy(&file),
            reason = letter.nak.map_or("", NakWhy::label),
            "dhcp reply"
        );
    }
}

/// ACKs whose leases are durable, until the store has reported all of a commit.
pub(crate) struct Acks {
    dispatch: Arc<Dispatch>,
    waiting: Mutex<Vec<(Arc<dyn Outlet>, Letter)>>,
}

impl Acks {
    /// None yet.
    pub(crate) fn new(dispatch: Arc<Dispatch>) -> Self {
        Self {
            dispatch,
            waiting: Mutex::default(),
        }
    }

    /// Keeps one until [`Acks::send`].
    pub(crate) fn put(&self, letter: Letter, outlet: Arc<dyn Outlet>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push((outlet, letter));
    }

    /// Sends all that there are, those of an outlet together.
    pub(crate) fn send(&self) {
        let mut waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let mut failed = Vec::new();
        while let Some((outlet, _)) = waiting.first() {
            let outlet = Arc::clone(outlet);
            let (same, others): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|(other, _)| Arc::ptr_eq(other, &outlet));
            let letters: Vec<Letter> = same.into_iter().map(|(_, letter)| letter).collect();
            self.dispatch.send_all(&letters, &*outlet, &mut failed);
            waiting = others;
        }
    }
}

/// All kinds, in the order of their numbers.
const KINDS: [ReplyKind; 3] = [ReplyKind::Offer, ReplyKind::Ack, ReplyKind::Nak];
/// What nearly every answer fits in.
const ROOM: usize = 1024;
