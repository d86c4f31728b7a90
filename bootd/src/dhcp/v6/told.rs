//! What the timelines of boots are told of a packet of IPv6. Pure.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use bootd_sdk::mac::Mac;

use super::boot::stage_of;
use super::policy::Receiving;
use super::reply::{Reply, ReplyKind};
use super::request::{Kind, Request};
use crate::boots::Event;
use crate::boots::event::{Dhcp, Gets, Outcome};
use crate::capture::{Direction, Kind as Wire, Packet, Whose};
use crate::dhcp::v4::boot::Note;

/// A packet as it came; `None`: nobody knows whose it is.
pub(super) fn packet(request: &Request<'_>, bytes: &[u8], peer: SocketAddrV6, receiving: &Receiving) -> Option<Event> {
    let mac = request.mac()?;
    let own = receiving.addresses.first().copied();
    let to = match peer.ip().is_unicast_link_local() {
        true => ALL_SERVERS,
        false => own.unwrap_or(ALL_SERVERS),
    };
    let server = SocketAddr::new(to.into(), SERVER_PORT);
    let packet = Packet::new(Wire::Udp, Direction::FromClient, peer.into(), server, bytes);
    Some(Event::Packet(Whose::Mac(mac), packet))
}

/// What became of a packet that was answered. `None`: it says nothing about a boot, or nobody knows whose it is.
pub(super) fn of_reply(reply: &Reply<'_>) -> Option<Event> {
    let booting = reply.grant.as_ref().map(|grant| &grant.booting);
    let outcome = match (reply.ip, reply.kind) {
        (None, _) => Outcome::Silence("no_address_for_it"),
        (Some(ip), kind) => {
            let gets = Gets {
                ip: ip.into(),
                boot_file: booting.is_some_and(|booting| booting.file.is_some()),
                note: booting.and_then(|booting| booting.note).map(Note::label),
            };
            match kind {
                ReplyKind::Advertise => Outcome::Offered(gets),
                ReplyKind::Reply => Outcome::Has(gets),
            }
        }
    };
    event(reply.request, reply.mac.or_else(|| reply.request.mac())?, outcome)
}

/// What became of a packet that was not answered, for the reason of this label.
pub(super) fn of_silence(request: &Request<'_>, label: &'static str) -> Option<Event> {
    let outcome = match label {
        "other_server" => Outcome::OtherServer(None),
        label => Outcome::Silence(label),
    };
    event(request, request.mac()?, outcome)
}

fn event(request: &Request<'_>, mac: Mac, outcome: Outcome) -> Option<Event> {
    let (begins, renews) = match request.kind {
        Kind::Solicit => (true, false),
        Kind::Request => (false, false),
        Kind::Renew | Kind::Rebind => (false, true),
        _ => return None,
    };
    let [a, b, c] = request.xid;
    Some(Event::Dhcp(Dhcp {
        mac,
        six: true,
        xid: u32::from_be_bytes([0, a, b, c]),
        asker: stage_of(request),
        begins,
        renews,
        relay: request.nearest.as_ref().map(|relay| IpAddr::V6(relay.link)),
        outcome,
        hints: None,
    }))
}

/// All_DHCP_Relay_Agents_and_Servers.
const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// Where servers listen.
const SERVER_PORT: u16 = 547;
