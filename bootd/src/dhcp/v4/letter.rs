//! A reply of IPv4 that is bytes, with what its line in the log says.
//!
//! ACKs that wait for the store gather in [`Acks`] and leave when its commit is reported.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bootd_sdk::mac::Mac;
use dhcproto::v4::OptionCode;

use super::PART;
use super::answer::NakWhy;
use super::boot::Stage;
use super::bootloop::encode_nak;
use super::encode::encode;
use super::options::find;
use super::reply::{Destination, Envelope, Reply, ReplyKind};
use super::request::{HEADER, SERVER_PORT};
use crate::boots::Event;
use crate::capture::{Direction, Kind, Packet, Whose};
use crate::config::Arch;
use crate::dhcp::outbox::{self, Dispatch, Letter as _, Outlet};

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

    /// Makes it that of a reply.
    pub(super) fn write(&mut self, reply: &Reply<'_>, nak: Option<NakWhy>) {
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

impl outbox::Letter for Letter {
    const PART: &'static str = PART;
    const KINDS: &'static [&'static str] = &[ReplyKind::Offer.name(), ReplyKind::Ack.name(), ReplyKind::Nak.name()];

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

    fn packet(&self) -> &[u8] {
        &self.packet
    }

    fn kind(&self) -> usize {
        self.envelope.kind as usize
    }

    fn whose(&self) -> &dyn Display {
        &self.envelope.mac
    }

    fn seen(&self) -> Option<Event> {
        let (to, port) = match self.envelope.to {
            Destination::Relay(ip, port) => (ip, port),
            Destination::Broadcast => (Ipv4Addr::BROADCAST, CLIENT_PORT),
            Destination::Unicast(ip) | Destination::Frame(ip, _) => (ip, CLIENT_PORT),
        };
        let client = SocketAddr::new(to.into(), port);
        let server = SocketAddr::new(self.envelope.server.into(), SERVER_PORT);
        let packet = Packet::new(Kind::Udp, Direction::ToClient, client, server, &self.packet);
        Some(Event::Packet(Whose::Mac(self.envelope.mac), packet))
    }

    fn tell(&self) {
        let (envelope, boot) = (&self.envelope, &self.boot);
        let area = self.packet.get(HEADER..).unwrap_or_default();
        let file = find(area, OptionCode::BootfileName).unwrap_or_default();
        tracing::info!(
            kind = envelope.kind.name(),
            mac = %envelope.mac,
            ip = %envelope.yiaddr,
            xname = self.xname,
            rule = self.rule,
            arch = boot.arch.map_or("", |arch| arch.name()),
            stage = boot.stage.name(),
            file = %String::from_utf8_lossy(&file),
            reason = self.nak.map_or("", NakWhy::label),
            "dhcp reply"
        );
    }
}

/// ACKs whose leases are durable, until the store has reported all of a commit.
pub(crate) struct Acks {
    dispatch: Arc<Dispatch<Letter>>,
    waiting: Mutex<Vec<Ack>>,
}

struct Ack {
    letter: Letter,
    outlet: Arc<dyn Outlet<Letter>>,
}

impl Acks {
    /// None yet.
    pub(crate) fn new(dispatch: Arc<Dispatch<Letter>>) -> Self {
        Self {
            dispatch,
            waiting: Mutex::default(),
        }
    }

    /// Keeps one until [`Acks::send`].
    pub(crate) fn put(&self, letter: Letter, outlet: Arc<dyn Outlet<Letter>>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(Ack { letter, outlet });
    }

    /// Sends all that there are, those of an outlet together.
    pub(crate) fn send(&self) {
        let mut waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let mut failed = Vec::new();
        while let Some(first) = waiting.first() {
            let outlet = Arc::clone(&first.outlet);
            let (same, others): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|ack| Arc::ptr_eq(&ack.outlet, &outlet));
            let letters: Vec<Letter> = same.into_iter().map(|ack| ack.letter).collect();
            self.dispatch.send_all(&letters, &*outlet, &mut failed);
            waiting = others;
        }
    }
}

/// What nearly every answer fits in.
const ROOM: usize = 1024;
/// Where clients listen.
const CLIENT_PORT: u16 = 68;
