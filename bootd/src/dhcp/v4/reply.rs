//! What goes back to a client, before it is bytes, and where it goes.
//!
//! One function puts options together for nodes and for clients of a pool alike, so the two cannot drift apart. Pure.

use std::net::Ipv4Addr;

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Node;
use dhcproto::v4::{MessageType, OptionCode};

use super::boot::{Booting, HTTP_CLIENT, booting};
use super::options::Options;
use super::policy::Policy;
use super::request::{BROADCAST, Request};
use crate::config::Subnet;

/// The kind of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyKind {
    /// An address that may be had.
    Offer,
    /// An address that is had.
    Ack,
    /// No: begin again.
    Nak,
}

impl ReplyKind {
    /// What it is called in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Ack => "ack",
            Self::Nak => "nak",
        }
    }

    /// Option 53.
    fn message_type(self) -> MessageType {
        match self {
            Self::Offer => MessageType::Offer,
            Self::Ack => MessageType::Ack,
            Self::Nak => MessageType::Nak,
        }
    }
}

/// Where a reply goes (RFC 2131 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To the relay, port 67.
    Relay(Ipv4Addr),
    /// To everyone on the receiving interface.
    Broadcast,
    /// To a client that uses its address already.
    Unicast(Ipv4Addr),
    /// To a client that does not use its address yet, in a frame with its hardware address.
    Frame(Ipv4Addr, Mac),
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Offer, ACK or NAK.
    pub kind: ReplyKind,
    /// Hardware type, as it came.
    pub htype: u8,
    /// Length of the hardware address, as it came.
    pub hlen: u8,
    /// The transaction.
    pub xid: u32,
    /// Flags, as they came; a NAK for a relay asks it to broadcast.
    pub flags: u16,
    /// The client's address from now on.
    pub yiaddr: Ipv4Addr,
    /// Where the boot file is.
    pub siaddr: Ipv4Addr,
    /// The relay, as it came.
    pub giaddr: Ipv4Addr,
    /// The hardware address, as it came.
    pub chaddr: [u8; 16],
    /// The boot file in the header, for ROMs that do not look at option 67; empty when it does not fit.
    pub file: String,
    /// All options.
    pub options: Options,
    /// Where it goes.
    pub to: Destination,
    /// The server's address, which a frame names as its sender.
    pub server: Ipv4Addr,
    /// The client.
    pub mac: Mac,
    /// The xname, when the inventory knows the client.
    pub xname: Option<String>,
    /// What it says about booting.
    pub booting: Booting,
}

/// What the deciding side found out about a client.
pub(super) struct Grant<'a> {
    /// Offer or ACK.
    pub(super) kind: ReplyKind,
    pub(super) mac: Mac,
    pub(super) subnet: &'a Subnet,
    /// The address and the seconds for which it is the client's; `None` answers INFORM.
    pub(super) lease: Option<(Ipv4Addr, u32)>,
    pub(super) node: Option<&'a Node>,
}

impl Reply {
    /// An offer or an ACK.
    pub(super) fn grant(request: &Request, policy: &Policy, grant: &Grant<'_>) -> Self {
        let server = grant.subnet.server;
        let booting = booting(request, policy, grant.mac, grant.node.map(|node| &node.boot));
        let options = options(request, policy, grant, &booting);
        let yiaddr = grant.lease.map_or(Ipv4Addr::UNSPECIFIED, |(ip, _)| ip);
        let file = options.text(OptionCode::BootfileName).filter(|file| file.len() <= 127);
        Self {
            flags: request.flags,
            yiaddr,
            siaddr: server,
            file: file.unwrap_or_default(),
            options,
            to: destination(request, policy, yiaddr, grant.mac),
            xname: grant.node.map(|node| node.id.clone()),
            booting,
            ..Self::bare(request, policy, grant.kind, grant.mac, server)
        }
    }

    /// A NAK: it names the server and holds what the relay needs, nothing else.
    pub(super) fn nak(request: &Request, policy: &Policy, mac: Mac, server: Ipv4Addr, node: Option<&Node>) -> Self {
        let mut reply = Self::bare(request, policy, ReplyKind::Nak, mac, server);
        reply.xname = node.map(|node| node.id.clone());
        if !request.giaddr.is_unspecified() {
            // The client does not use its address any more; only the relay's broadcast reaches it.
            reply.flags |= BROADCAST;
            reply.to = Destination::Relay(request.giaddr);
        }
        reply
    }

    fn bare(request: &Request, policy: &Policy, kind: ReplyKind, mac: Mac, server: Ipv4Addr) -> Self {
        Self {
            kind,
            htype: request.htype,
            hlen: request.hlen,
            xid: request.xid,
            flags: request.flags,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: request.giaddr,
            chaddr: request.chaddr,
            file: String::new(),
            options: head_options(request, kind, server),
            to: Destination::Broadcast,
            server,
            mac,
            xname: None,
            booting: booting(request, policy, mac, None),
        }
    }
}

/// The first matching row of the contract's table; `yiaddr` is unspecified in answers to INFORM, which come from `ciaddr`. That the relay can
/// be one was checked before.
fn destination(request: &Request, policy: &Policy, yiaddr: Ipv4Addr, mac: Mac) -> Destination {
    if !request.giaddr.is_unspecified() {
        Destination::Relay(request.giaddr)
    } else if let Some(used) = request.used_ip().filter(|ip| policy.is_host(*ip)) {
        Destination::Unicast(used)
    } else if request.flags & BROADCAST != 0 {
        Destination::Broadcast
    } else {
        Destination::Frame(yiaddr, mac)
    }
}

/// What every reply has.
fn head_options(request: &Request, kind: ReplyKind, server: Ipv4Addr) -> Options {
    let mut options = Options::default();
    options.set(OptionCode::MessageType, [kind.message_type().into()]);
    options.set_addresses(OptionCode::ServerIdentifier, &[server]);
    for (code, value) in [
        (OptionCode::ClientIdentifier, &request.client_id),
        (OptionCode::RelayAgentInformation, &request.relay_agent),
    ] {
        if let Some(value) = value {
            options.set(code, value.as_slice());
        }
    }
    options
}

fn options(request: &Request, policy: &Policy, grant: &Grant<'_>, booting: &Booting) -> Options {
    let subnet = grant.subnet;
    let server = subnet.server.to_string();
    let mut options = head_options(request, grant.kind, subnet.server);
    options.set_addresses(OptionCode::SubnetMask, &[subnet.mask()]);
    options.set_addresses(OptionCode::Router, &subnet.routers);
    if request.wants(OptionCode::DomainNameServer) {
        options.set_addresses(OptionCode::DomainNameServer, &subnet.dns);
    }
    if let Some(name) = grant.node.and_then(|node| host_name(node, policy)) {
        options.set(OptionCode::Hostname, name);
    }
    if let Some(domain) = policy.domain.as_ref().filter(|_| request.lists(OptionCode::DomainName)) {
        options.set(OptionCode::DomainName, domain.as_str());
    }
    if let Some((_, seconds)) = grant.lease {
        options.set_u32(OptionCode::AddressLeaseTime, seconds);
        // The defaults of RFC 2131; clients know them, some ask.
        if request.lists(OptionCode::Renewal) {
            options.set_u32(OptionCode::Renewal, seconds / 2);
        }
        if request.lists(OptionCode::Rebinding) {
            options.set_u32(OptionCode::Rebinding, seconds - seconds / 8);
        }
    }
    if request.lists(OptionCode::TFTPServerName) {
        options.set(OptionCode::TFTPServerName, server.as_str());
    }
    // OpenCHAMI's iPXE takes the TFTP server from here.
    options.set(OptionCode::RootPath, server);
    if let Some(file) = &booting.file {
        options.set(OptionCode::BootfileName, file.as_str());
    }
    if booting.by_http {
        options.set(OptionCode::ClassIdentifier, HTTP_CLIENT);
    }
    for (&code, hex) in grant.node.iter().flat_map(|node| &node.options) {
        let code = OptionCode::from(code);
        // The inventory reports bad values to who published them; here they are only left out.
        if let Some(value) = bytes(hex).filter(|_| !KEPT.contains(&code)) {
            options.set(code, value);
        }
    }
    options
}

/// `nid0001` and the domain. Other kinds than nodes have none: two BMCs of one blade would get the same.
fn host_name(node: &Node, policy: &Policy) -> Option<String> {
    let nid = node.nid.filter(|_| node.kind == "Node")?;
    Some(match &policy.domain {
        Some(domain) => format!("nid{nid:04}.{domain}"),
        None => format!("nid{nid:04}"),
    })
}

/// The bytes that hexadecimal text means; `:`, `-` and spaces may stand between them.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = hex
        .chars()
        .filter(|c| !matches!(c, ':' | '-' | ' '))
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Options that no row of the inventory may set: they carry the protocol itself.
const KEPT: [OptionCode; 8] = [
    OptionCode::Pad,
    OptionCode::AddressLeaseTime,
    OptionCode::OptionOverload,
    OptionCode::MessageType,
    OptionCode::ServerIdentifier,
    OptionCode::ClientIdentifier,
    OptionCode::RelayAgentInformation,
    OptionCode::End,
];
