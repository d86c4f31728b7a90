//! A reply of IPv6 that is bytes, with what its line in the log says.

use std::fmt::{Display, Write};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use bootd_sdk::mac::Mac;
use dhcproto::v6::Status;

use super::PART;
use super::boot::stage_of;
use super::encode::encode;
use super::reply::{Reply, ReplyKind, Said6};
use crate::boots::Event;
use crate::capture::{Direction, Kind, Packet, Whose};
use crate::config::Arch;
use crate::dhcp::outbox;
use crate::dhcp::v4::boot::Stage;

/// A reply that is bytes, and what is said about it.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    /// The bytes.
    pub(crate) packet: Vec<u8>,
    /// Where it goes.
    pub(crate) to: SocketAddrV6,
    kind: ReplyKind,
    asked: &'static str,
    mac: Option<Mac>,
    /// Who it is when there is no hardware address, else empty.
    client: String,
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
    /// Makes it that of a reply.
    pub(super) fn write(&mut self, reply: &Reply<'_>, to: SocketAddrV6) -> Result<(), TooLong> {
        encode(reply, &mut self.packet);
        self.to = to;
        self.kind = reply.kind;
        self.asked = reply.request.kind.name();
        self.mac = reply.mac;
        self.client.clear();
        if reply.mac.is_none() {
            // Writing into a text cannot fail.
            let _ = write!(self.client, "{}", reply.request);
        }
        self.ip = reply.ip;
        let of_ias = reply.ias.iter().find_map(|(_, said)| match said {
            Said6::Nothing(status) => Some(*status),
            Said6::Has(..) => None,
        });
        self.status = of_ias.or(reply.status);
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
        match self.packet.is_empty() {
            true => Err(TooLong),
            false => Ok(()),
        }
    }
}

/// A reply does not fit a datagram.
#[derive(Debug)]
pub(crate) struct TooLong;

impl outbox::Letter for Letter {
    const PART: &'static str = PART;
    const KINDS: &'static [&'static str] = &[ReplyKind::Advertise.name(), ReplyKind::Reply.name()];

    fn blank() -> Self {
        Self {
            packet: Vec::with_capacity(ROOM),
            to: SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0),
            kind: ReplyKind::Reply,
            asked: "",
            mac: None,
            client: String::new(),
            ip: None,
            status: None,
            stage: Stage::Os,
            arch: None,
            xname: String::new(),
            rule: String::new(),
            file: String::new(),
        }
    }

    fn packet(&self) -> &[u8] {
        &self.packet
    }

    fn kind(&self) -> usize {
        self.kind as usize
    }

    fn whose(&self) -> &dyn Display {
        &self.to
    }

    fn seen(&self) -> Option<Event> {
        let server = SocketAddr::from((Ipv6Addr::UNSPECIFIED, SERVER_PORT));
        let packet = Packet::new(Kind::Udp, Direction::ToClient, self.to.into(), server, &self.packet);
        Some(Event::Packet(Whose::Mac(self.mac?), packet))
    }

    fn tell(&self) {
        tracing::info!(
            kind = self.kind.name(),
            asked = self.asked,
            mac = self.mac.map(tracing::field::display),
            client = self.client,
            ip = self.ip.map(tracing::field::display),
            to = %self.to.ip(),
            xname = self.xname,
            rule = self.rule,
            arch = self.arch.map_or("", |arch| arch.name()),
            stage = self.stage.name(),
            file = self.file,
            status = self.status.map(tracing::field::debug),
            "dhcp6 reply"
        );
    }
}

/// What nearly every answer fits in.
const ROOM: usize = 1024;
/// Where servers listen.
const SERVER_PORT: u16 = 547;
