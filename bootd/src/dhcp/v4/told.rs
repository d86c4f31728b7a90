//! What the timelines of boots are told of a packet of IPv4. Pure, and little: it is made for each packet.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use bootd_sdk::mac::Mac;

use super::answer::NakWhy;
use super::boot::{Stage, arch_of};
use super::policy::Receiving;
use super::reply::{Reply, ReplyKind};
use super::request::{Kind, Request, SERVER_PORT};
use crate::boots::Event;
use crate::boots::event::{Dhcp, Gets, Hints, Outcome};
use crate::capture::{Direction, Kind as Wire, Packet, Whose};

/// A packet as it came; `None`: it is too short to say whose it is.
pub(super) fn packet(bytes: &[u8], peer: SocketAddrV4, receiving: &Receiving) -> Option<Event> {
    let mac = Mac(bytes.get(28..34)?.try_into().ok()?);
    let own = receiving.addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
    // Who has no address yet sends to all.
    let to = if peer.ip().is_unspecified() {
        Ipv4Addr::BROADCAST
    } else {
        own
    };
    let server = SocketAddr::new(to.into(), SERVER_PORT);
    let packet = Packet::new(Wire::Udp, Direction::FromClient, peer.into(), server, bytes);
    Some(Event::Packet(Whose::Mac(mac), packet))
}

/// What became of a packet that was answered. `None`: it says nothing about a boot.
pub(super) fn of_reply(reply: &Reply<'_>, nak: Option<NakWhy>) -> Option<Event> {
    let gets = || Gets {
        ip: reply.yiaddr.into(),
        boot_file: reply.booting.file.is_some(),
        note: reply.booting.note.map(super::boot::Note::label),
    };
    let outcome = match reply.kind {
        _ if reply.request.kind == Some(Kind::Inform) => return None,
        ReplyKind::Offer => Outcome::Offered(gets()),
        ReplyKind::Ack => Outcome::Has(gets()),
        ReplyKind::Nak => Outcome::Refused(nak.map_or("nak", NakWhy::label)),
    };
    event(reply.request, reply.booting.stage, outcome)
}

/// What became of a packet that was not answered, for the reason of this label.
pub(super) fn of_silence(request: &Request<'_>, label: &'static str) -> Option<Event> {
    let outcome = match label {
        "other_server" => Outcome::OtherServer(request.server_id),
        label => Outcome::Silence(label),
    };
    event(request, Stage::of(request, false), outcome)
}

fn event(request: &Request<'_>, asker: Stage, outcome: Outcome) -> Option<Event> {
    let begins = match request.kind {
        Some(Kind::Discover) => true,
        Some(Kind::Request) => false,
        _ => return None,
    };
    let hints = || {
        Box::new(Hints {
            arch: request.arch,
            known: request
                .arch
                .and_then(|code| arch_of(code, request.boots_by_http(), false)),
            vendor_class: beginning(&request.vendor_class, 64).into(),
            machine_id: beginning(request.machine_id.as_deref().unwrap_or_default(), 17).into(),
        })
    };
    Some(Event::Dhcp(Dhcp {
        mac: request.sender(),
        six: false,
        xid: request.xid,
        asker,
        begins,
        renews: !request.ciaddr.is_unspecified(),
        relay: (!request.giaddr.is_unspecified()).then_some(IpAddr::V4(request.giaddr)),
        outcome,
        hints: (begins && asker == Stage::Firmware).then(hints),
    }))
}

fn beginning(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(..bytes.len().min(most)).unwrap_or_default()
}
