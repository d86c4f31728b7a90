//! A reply as bytes.
//!
//! One function puts header and options together for nodes and for clients of a pool alike, so the two cannot drift apart. It writes straight
//! into the caller's buffer, options in ascending order with the relay's (82) last, and allocates nothing when the buffer is large enough.
//! Pure.

use std::fmt::Display;
use std::io::Write;
use std::net::Ipv4Addr;
use std::ops::Range;

use dhcproto::v4::OptionCode;

use super::options::{AUTOCONFIGURE, V6ONLY_PREFERRED, Writer};
use super::reply::{Destination, Grant, Instead, Reply};
use super::request::{HEADER, HTTP_CLIENT, MAGIC_COOKIE};
use super::scopes::Scopes;
use crate::config::Autoconfigure;

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
        Some(grant) => granted(packet, reply, grant),
        None => refused(packet, reply),
    };
    // The boot file in the header too, for ROMs that do not look at option 67, when it fits there with a zero behind it.
    if let Some(file) = boot_file.filter(|file| file.len() < FILE.len() && !reply.strict) {
        packet.copy_within(file, FILE.start);
    }
    // Upstream pads what it sends by UDP, and no frame.
    if !(reply.strict && matches!(reply.to, Destination::Frame(..))) {
        packet.resize(packet.len().max(MINIMUM), 0);
    }
}

/// The options of an offer or an ACK; says where the boot file is.
fn granted(packet: &mut Vec<u8>, reply: &Reply<'_>, grant: &Grant<'_>) -> Option<Range<usize>> {
    let request = reply.request;
    let mut scopes = Scopes::default();
    scopes.add(&grant.subnet.options);
    grant.unknown.into_iter().for_each(|unknown| scopes.add(unknown));
    grant.said.rules.iter().for_each(|rule| scopes.add(&rule.options));
    grant.own.into_iter().for_each(|own| scopes.add(own));
    let own = |code: OptionCode| grant.own.and_then(|own| own.get(code.into()));
    // What upstream does not know, of what clients may list.
    let lists = |code| !reply.strict && request.lists(code);

    let mut to = Writer::new(packet, &scopes, request);
    if let Some(mask) = grant.said.mask.filter(|_| own(OptionCode::SubnetMask).is_none()) {
        to.ours(OptionCode::SubnetMask, address(mask));
    }
    if let Some(name) = &grant.said.name {
        to.option(OptionCode::Hostname, |packet| text(packet, name));
    }
    if let Some(domain) = grant.domain.filter(|_| lists(OptionCode::DomainName)) {
        to.option(OptionCode::DomainName, bytes(domain.as_bytes()));
    }
    // OpenCHAMI's iPXE takes the TFTP server from here.
    to.option(OptionCode::RootPath, |packet| text(packet, &reply.server));
    if let Some(seconds) = grant.seconds {
        to.ours(OptionCode::AddressLeaseTime, number(seconds));
    }
    to.ours(OptionCode::MessageType, bytes(&[reply.kind.message_type().into()]));
    server_identifier(&mut to, reply);
    // The defaults of RFC 2131; clients know them, some ask.
    if let Some(seconds) = grant.seconds.filter(|_| lists(OptionCode::Renewal)) {
        to.option(OptionCode::Renewal, number(seconds / 2));
    }
    if let Some(seconds) = grant.seconds.filter(|_| lists(OptionCode::Rebinding)) {
        to.option(OptionCode::Rebinding, number(seconds - seconds / 8));
    }
    if reply.booting.by_http {
        to.ours(OptionCode::ClassIdentifier, bytes(HTTP_CLIENT));
    }
    if let Some(id) = &request.client_id {
        to.ours(OptionCode::ClientIdentifier, bytes(id));
    }
    match reply.booting.from {
        Some(server) if request.wants(OptionCode::TFTPServerName) => {
            to.ours(OptionCode::TFTPServerName, bytes(server.as_bytes()));
        }
        None if lists(OptionCode::TFTPServerName) => {
            to.option(OptionCode::TFTPServerName, |packet| text(packet, &reply.server));
        }
        _ => {}
    }
    let boot_file = match reply.booting.file {
        Some(file) if own(OptionCode::BootfileName).is_none() => {
            to.ours(OptionCode::BootfileName, |packet| text(packet, &file))
        }
        _ => to.theirs(OptionCode::BootfileName),
    };
    // RFC 4578 wants it back as it came.
    if let Some(id) = request.machine_id.as_ref().filter(|_| !reply.strict) {
        to.ours(OptionCode::ClientMachineIdentifier, bytes(id));
    }
    match grant.instead {
        Some(Instead::Ipv6Only(seconds)) => {
            to.ours(V6ONLY_PREFERRED, number(seconds));
        }
        Some(Instead::Autoconfigure(value)) => {
            to.ours(AUTOCONFIGURE, bytes(&[u8::from(value == Autoconfigure::AutoConfigure)]));
        }
        None => {}
    }
    to.end(request.relay_agent.as_deref());
    boot_file
}

/// The options of a NAK: it names the server and holds what the relay needs, nothing else.
fn refused(packet: &mut Vec<u8>, reply: &Reply<'_>) -> Option<Range<usize>> {
    let none = Scopes::default();
    let mut to = Writer::new(packet, &none, reply.request);
    to.ours(OptionCode::MessageType, bytes(&[reply.kind.message_type().into()]));
    server_identifier(&mut to, reply);
    if let Some(id) = &reply.request.client_id {
        to.ours(OptionCode::ClientIdentifier, bytes(id));
    }
    to.end(reply.request.relay_agent.as_deref());
    None
}

/// Option 54: bootd's address, or the one that the relay wants clients to see. Upstream, without its plugin `server_id`, sends none.
fn server_identifier(to: &mut Writer<'_, '_>, reply: &Reply<'_>) {
    let server = reply.request.server_override().filter(|_| !reply.strict);
    let server = server.unwrap_or(reply.server);
    if !(reply.strict && server.is_unspecified()) {
        to.ours(OptionCode::ServerIdentifier, address(server));
    }
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

/// The least length of a reply.
pub const MINIMUM: usize = 300;
/// Where the header has its boot file.
const FILE: Range<usize> = 108..236;
