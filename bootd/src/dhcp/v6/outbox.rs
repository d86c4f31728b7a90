//! Replies on their way: a [`Letter`] is a reply that is bytes, an [`Outbox`] holds those of a batch, and [`Dispatch`] sends them together,
//! counts them and writes the lines about them.
//!
//! Buffers are used again, so a letter to a known node takes nothing from the heap. A letter that cannot leave costs no other one, and is counted.

use std::fmt::Write;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bootd_sdk::mac::Mac;
use dhcproto::v6::Status;
use prometheus_client::metrics::counter::Counter;

use super::PART;
use super::boot::stage_of;
use super::encode::encode;
use super::reply::{Reply, ReplyKind};
use crate::config::Arch;
use crate::dhcp::v4::boot::Stage;
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
    /// Where it goes.
    pub(crate) to: SocketAddrV6,
    kind: ReplyKind,
    mac: Option<Mac>,
    ip: Option<Ipv6Addr>,
    status: Option<Status>,
    stage: Stage,
    arch: Option<Arch>,
    /// Empty when the inventory does not know the client.
    xname: String,
    /// The last rule that is told of, empty when there is none.
    rule: String,
    /// The boot file, empty when there is none.
    file: String,
}

impl Letter {
    fn blank() -> Self {
        Self {
            packet: Vec::with_capacity(ROOM),
            to: SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0),
            kind: ReplyKind::Reply,
            mac: None,
            ip: None,
            status: None,
            stage: Stage::Os,
            arch: None,
            xname: String::new(),
            rule: String::new(),
            file: String::new(),
        }
    }

    fn write(&mut self, reply: &Reply<'_>, to: SocketAddrV6) {
        encode(reply, &mut self.packet);
        self.to = to;
        self.kind = reply.kind;
        self.mac = reply.mac;
        self.ip = reply.ip;
        self.status = reply.status;
        let booting = reply.grant.as_ref().map(|grant| &grant.booting);
        self.stage = booting.map_or_else(|| stage_of(reply.request), |booting| booting.stage);
        self.arch = booting.and_then(|booting| booting.arch);
        for (text, said) in [(&mut self.xname, reply.xname), (&mut self.rule, reply.rule())] {
            text.clear();
            text.push_str(said.unwrap_or_default());
        }
        self.file.clear();
        if let Some(file) = booting.and_then(|booting| booting.file) {
            // Writing into a text cannot fail.
            let _ = write!(self.file, "{file}");
        }
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

/// A reply does not fit a datagram.
#[derive(Debug)]
pub(crate) struct TooLong;

impl Outbox {
    /// Puts a reply in.
    pub(crate) fn put(&mut self, reply: &Reply<'_>, to: SocketAddrV6) -> Result<(), TooLong> {
        if self.count == self.letters.len() {
            self.letters.push(Letter::blank());
        }
        if let Some(letter) = self.letters.get_mut(self.count) {
            letter.write(reply, to);
            if letter.packet.is_empty() {
                return Err(TooLong);
            }
            self.count += 1;
        }
        Ok(())
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

    /// Sends what is in an outbox, which is empty then.
    pub(crate) fn send(&self, outbox: &mut Outbox, outlet: &dyn Outlet) {
        let count = std::mem::take(&mut outbox.count);
        if let Some(letters @ [_, ..]) = outbox.letters.get(..count) {
            self.send_all(letters, outlet, &mut outbox.failed);
        }
        if let Some(left_out) = self.lines.left_out(Instant::now()) {
            tracing::warn!(left_out, "dhcp lines left out: clients send too much");
        }
    }

    fn send_all(&self, letters: &[Letter], outlet: &dyn Outlet, failed: &mut Vec<(usize, io::Error)>) {
        failed.clear();
        // Some callers' threads must not end by a bug here.
        if catch_unwind(AssertUnwindSafe(|| outlet.send(letters, failed))).is_err() {
            let lost = format!("a bug in bootd; it may have cost {} replies", letters.len());
            return self.metrics.refused(PART, "panic", &"", &lost);
        }
        for (at, letter) in letters.iter().enumerate() {
            match failed.iter().find(|(number, _)| *number == at) {
                Some((_, error)) => {
                    let reason = match error.kind() {
                        io::ErrorKind::WouldBlock => "send_buffer_full",
                        _ => "send_failed",
                    };
                    self.metrics.refused(PART, reason, &letter.to, error);
                }
                None => self.sent(letter),
            }
        }
    }

    fn sent(&self, letter: &Letter) {
        let counters = &self.counters[letter.kind as usize];
        counters.count.inc();
        counters.bytes.inc_by(letter.packet.len() as u64);
        if !self.lines.may_write(Instant::now()) {
            return;
        }
        tracing::info!(
            kind = letter.kind.name(),
            mac = letter.mac.map(tracing::field::display),
            ip = letter.ip.map(tracing::field::display),
            to = %letter.to.ip(),
            xname = letter.xname,
            rule = letter.rule,
            arch = letter.arch.map_or("", |arch| arch.name()),
            stage = letter.stage.name(),
            file = letter.file,
            status = letter.status.map(tracing::field::debug),
            "dhcp6 reply"
        );
    }
}

/// All kinds, in the order of their numbers.
const KINDS: [ReplyKind; 2] = [ReplyKind::Advertise, ReplyKind::Reply];
/// What nearly every answer fits in.
const ROOM: usize = 1024;
