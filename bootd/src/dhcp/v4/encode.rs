//! A reply as bytes.
//!
//! One function puts header and options together for nodes and for clients of a pool alike, so the two cannot drift apart. It writes straight
//! into the caller's buffer, options in ascending order with the relay's (82) last, and allocates nothing when the buffer is large enough.
//! Pure.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write;
use std::net::Ipv4Addr;
use std::ops::Range;

use bootd_sdk::wire::Node;
use dhcproto::v4::OptionCode;

use super::boot::HTTP_CLIENT;
use super::options::Writer;
use super::reply::{Grant, Reply};
use super::request::{HEADER, MAGIC_COOKIE};

/// Makes `packet` the reply: header, options, and zeros up to the 300 bytes that BOOTP clients and some relays insist on.
pub fn encode(reply: &Reply<'_>, packet: &mut Vec<u8>) {
    let request = reply.request;
    packet.clear();
    packet.extend_from_slice(&[2, request.htype, request.hlen, 0]);
    packet.extend_from_slice(&request.xid.to_be_bytes());
    packet.extend_from_slice(&[0; 2]); // secs
    packet.extend_from_slice(&reply.flags.to_be_bytes());
    packet.extend_from_slice(&[0; 4]); // ciaddr
    packet.extend_from_slice(&reply.yiaddr.octets());
    packet.extend_from_slice(&reply.siaddr().octets());
    packet.extend_from_slice(&request.giaddr.octets());
    packet.extend_from_slice(&request.chaddr);
    packet.resize(HEADER - MAGIC_COOKIE.len(), 0); // sname and file
    packet.extend_from_slice(&MAGIC_COOKIE);
    let boot_file = match &reply.grant {
        Some(grant) => {
            let node = grant.node.map_or(&NO_OPTIONS, |node| &node.options);
            granted(Writer::new(packet, node), reply, grant)
        }
        None => refused(Writer::new(packet, &NO_OPTIONS), reply),
    };
    // The boot file in the header too, for ROMs that do not look at option 67, when it fits there with a zero behind it.
    if let Some(file) = boot_file.filter(|file| file.len() < FILE.len()) {
        packet.copy_within(file, FILE.start);
    }
    packet.resize(packet.len().max(MINIMUM), 0);
}

/// The options of an offer or an ACK; says where the boot file is.
fn granted(mut to: Writer<'_, '_>, reply: &Reply<'_>, grant: &Grant<'_>) -> Option<Range<usize>> {
    let (request, subnet) = (reply.request, grant.subnet);
    if let Some(mask) = subnet.netmask {
        to.option(OptionCode::SubnetMask, address(mask));
    }
    if !subnet.routers.is_empty() {
        to.option(OptionCode::Router, addresses(&subnet.routers));
    }
    if !subnet.dns.is_empty() && request.wants(OptionCode::DomainNameServer) {
        to.option(OptionCode::DomainNameServer, addresses(&subnet.dns));
    }
    if let Some((nid, domain)) = grant.node.and_then(nid).zip(Some(grant.domain)) {
        to.option(OptionCode::Hostname, |packet| match domain {
            Some(domain) => text(packet, &format_args!("nid{nid:04}.{domain}")),
            None => text(packet, &format_args!("nid{nid:04}")),
        });
    }
    if let Some(domain) = grant.domain.filter(|_| request.lists(OptionCode::DomainName)) {
        to.option(OptionCode::DomainName, bytes(domain.as_bytes()));
    }
    // OpenCHAMI's iPXE takes the TFTP server from here.
    to.option(OptionCode::RootPath, |packet| text(packet, &reply.server));
    if let Some(seconds) = grant.seconds {
        to.option(OptionCode::AddressLeaseTime, number(seconds));
    }
    to.option(OptionCode::MessageType, bytes(&[reply.kind.message_type().into()]));
    to.option(OptionCode::ServerIdentifier, address(reply.server));
    // The defaults of RFC 2131; clients know them, some ask.
    if let Some(seconds) = grant.seconds.filter(|_| request.lists(OptionCode::Renewal)) {
        to.option(OptionCode::Renewal, number(seconds / 2));
    }
    if let Some(seconds) = grant.seconds.filter(|_| request.lists(OptionCode::Rebinding)) {
        to.option(OptionCode::Rebinding, number(seconds - seconds / 8));
    }
    if reply.booting.by_http {
        to.option(OptionCode::ClassIdentifier, bytes(HTTP_CLIENT));
    }
    if let Some(id) = &request.client_id {
        to.option(OptionCode::ClientIdentifier, bytes(id));
    }
    if request.lists(OptionCode::TFTPServerName) {
        to.option(OptionCode::TFTPServerName, |packet| text(packet, &reply.server));
    }
    let boot_file = match reply.booting.file {
        Some(file) => to.option(OptionCode::BootfileName, |packet| text(packet, &file)),
        None => to.own(OptionCode::BootfileName),
    };
    to.end(request.relay_agent.as_deref());
    boot_file
}

/// The options of a NAK: it names the server and holds what the relay needs, nothing else.
fn refused(mut to: Writer<'_, '_>, reply: &Reply<'_>) -> Option<Range<usize>> {
    to.option(OptionCode::MessageType, bytes(&[reply.kind.message_type().into()]));
    to.option(OptionCode::ServerIdentifier, address(reply.server));
    if let Some(id) = &reply.request.client_id {
        to.option(OptionCode::ClientIdentifier, bytes(id));
    }
    to.end(reply.request.relay_agent.as_deref());
    None
}

/// What a node's host name is made of. Other kinds than nodes have none: two BMCs of one blade would get the same.
fn nid(node: &Node) -> Option<u64> {
    node.nid.filter(|_| node.kind == "Node")
}

fn text(packet: &mut Vec<u8>, text: &dyn Display) {
    // Writing into a Vec does not fail.
    let _ = write!(packet, "{text}");
}

fn bytes(value: &[u8]) -> impl FnOnce(&mut Vec<u8>) + '_ {
    |packet| packet.extend_from_slice(value)
}

fn number(value: u32) -> impl FnOnce(&mut Vec<u8>) {
    move |packet| packet.extend_from_slice(&value.to_be_bytes())
}

fn address(ip: Ipv4Addr) -> impl FnOnce(&mut Vec<u8>) {
    move |packet| packet.extend_from_slice(&ip.octets())
}

fn addresses(all: &[Ipv4Addr]) -> impl FnOnce(&mut Vec<u8>) + '_ {
    |packet| packet.extend(all.iter().flat_map(Ipv4Addr::octets))
}

/// The least length of a reply.
pub const MINIMUM: usize = 300;
/// Where the header has its boot file.
const FILE: Range<usize> = 108..236;

static NO_OPTIONS: BTreeMap<u8, String> = BTreeMap::new();
