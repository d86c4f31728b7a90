//! What goes back to a client, before it is bytes, and where it goes.
//!
//! A reply only borrows: from the packet that it answers, the configuration and the inventory. Pure.

use std::net::Ipv4Addr;

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Node;
use dhcproto::v4::MessageType;

use super::boot::{Booting, booting};
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
    pub(super) fn message_type(self) -> MessageType {
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
pub struct Reply<'a> {
    /// Offer, ACK or NAK.
    pub kind: ReplyKind,
    /// What it answers; much of that comes back as it came.
    pub request: &'a Request<'a>,
    /// Flags, as they came; a NAK for a relay asks it to broadcast.
    pub flags: u16,
    /// The client's address from now on.
    pub yiaddr: Ipv4Addr,
    /// Where it goes.
    pub to: Destination,
    /// The server's address.
    pub server: Ipv4Addr,
    /// The client.
    pub mac: Mac,
    /// The xname, when the inventory knows the client.
    pub xname: Option<&'a str>,
    /// What it says about booting.
    pub booting: Booting<'a>,
    /// What the client is given; a NAK gives nothing.
    pub grant: Option<Grant<'a>>,
}

/// What an offer or an ACK gives, beside the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant<'a> {
    /// Where the client is.
    pub subnet: &'a Subnet,
    /// The node that it is.
    pub node: Option<&'a Node>,
    /// How long the address is the client's; answers to INFORM give none.
    pub seconds: Option<u32>,
    /// What is appended to host names.
    pub domain: Option<&'a str>,
}

/// What is left to know about a reply that is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// Offer, ACK or NAK.
    pub kind: ReplyKind,
    /// Where it goes.
    pub to: Destination,
    /// The server's address, which a frame names as its sender.
    pub server: Ipv4Addr,
    /// The client.
    pub mac: Mac,
    /// The client's address from now on.
    pub yiaddr: Ipv4Addr,
}

/// The client and what it asked.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) mac: Mac,
    pub(super) node: Option<&'a Node>,
    /// bootd's address for it.
    pub(super) server: Ipv4Addr,
}

impl<'a> Reply<'a> {
    /// An offer or an ACK. `lease`: the address and the seconds for which it is the client's; `None` answers INFORM.
    pub(super) fn grant(
        kind: ReplyKind,
        asker: Asker<'a>,
        policy: &'a Policy,
        subnet: &'a Subnet,
        lease: Option<(Ipv4Addr, u32)>,
    ) -> Self {
        let yiaddr = lease.map_or(Ipv4Addr::UNSPECIFIED, |(ip, _)| ip);
        Self {
            yiaddr,
            to: destination(asker.request, policy, yiaddr, asker.mac),
            grant: Some(Grant {
                subnet,
                node: asker.node,
                seconds: lease.map(|(_, seconds)| seconds),
                domain: policy.domain.as_deref(),
            }),
            ..Self::bare(kind, asker, policy)
        }
    }

    /// A NAK.
    pub(super) fn nak(asker: Asker<'a>, policy: &'a Policy) -> Self {
        let mut reply = Self::bare(ReplyKind::Nak, asker, policy);
        let relay = asker.request.giaddr;
        if !relay.is_unspecified() {
            // The client does not use its address any more; only the relay's broadcast reaches it.
            reply.flags |= BROADCAST;
            reply.to = Destination::Relay(relay);
        }
        reply
    }

    /// Where the boot file is.
    pub fn siaddr(&self) -> Ipv4Addr {
        self.grant.as_ref().map_or(Ipv4Addr::UNSPECIFIED, |_| self.server)
    }

    /// What is left to know once this is bytes.
    pub fn envelope(&self) -> Envelope {
        Envelope {
            kind: self.kind,
            to: self.to,
            server: self.server,
            mac: self.mac,
            yiaddr: self.yiaddr,
        }
    }

    fn bare(kind: ReplyKind, asker: Asker<'a>, policy: &'a Policy) -> Self {
        let Asker {
            request,
            mac,
            node,
            server,
        } = asker;
        Self {
            kind,
            request,
            flags: request.flags,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            to: Destination::Broadcast,
            server,
            mac,
            xname: node.map(|node| node.id.as_str()),
            booting: booting(request, policy, mac, node.map(|node| &node.boot)),
            grant: None,
        }
    }
}

/// The first matching row of the contract's table; `yiaddr` is unspecified in answers to INFORM, which come from `ciaddr`. That the relay can
/// be one was checked before.
fn destination(request: &Request<'_>, policy: &Policy, yiaddr: Ipv4Addr, mac: Mac) -> Destination {
    if !request.giaddr.is_unspecified() {
        Destination::Relay(request.giaddr)
    } else if let Some(used) = request.used_ip().filter(|ip| policy.is_host(*ip)) {
        Destination::Unicast(used)
    } else if request.flags & BROADCAST != 0 || request.mac.is_none() {
        Destination::Broadcast
    } else {
        Destination::Frame(yiaddr, mac)
    }
}
