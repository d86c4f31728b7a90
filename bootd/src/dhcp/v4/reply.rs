//! What goes back to a client, before it is bytes, and where it goes.
//!
//! A reply only borrows: from the packet that it answers, the configuration and the inventory. Pure.

use std::net::Ipv4Addr;

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Node;
use dhcproto::v4::MessageType;

use super::answer::{NOBODY, Why};
use super::boot::{Booting, Whose, booting};
use super::policy::{Policy, Receiving};
use super::request::{BROADCAST, Request, SERVER_PORT};
use crate::config::{Autoconfigure, OptionSet, RuleLog, Subnet};
use crate::dhcp::rules::{Client, Ruling, Said, rule};
use crate::inventory::Snapshot;

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
    pub const fn name(self) -> &'static str {
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
    /// To the relay, at this port.
    Relay(Ipv4Addr, u16),
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
    /// It is upstream's, byte for byte.
    pub strict: bool,
}

/// What an offer or an ACK gives, beside the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant<'a> {
    /// Where the client is; its options are of everybody there.
    pub subnet: &'a Subnet,
    /// The options of clients that the inventory does not know.
    pub unknown: Option<&'a OptionSet>,
    /// What rules say.
    pub said: Said<'a>,
    /// The node's own options.
    pub own: Option<&'a OptionSet>,
    /// How long the address is the client's; answers to INFORM give none.
    pub seconds: Option<u32>,
    /// Option 15, for who lists it.
    pub domain: Option<&'a str>,
    /// Why there is no address, for who can make something of that.
    pub instead: Option<Instead>,
}

/// What a client is told that gets no address on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// Option 108: do without IPv4 for so many seconds.
    Ipv6Only(u32),
    /// Option 116: whether it may choose an address itself.
    Autoconfigure(Autoconfigure),
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
#[derive(Clone)]
pub(super) struct Asker<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) mac: Mac,
    pub(super) who: Who<'a>,
    /// bootd's address for it.
    pub(super) server: Ipv4Addr,
    /// What the rules say about it.
    pub(super) said: Said<'a>,
}

/// Who a client is.
#[derive(Clone, Copy)]
pub(super) enum Who<'a> {
    /// A node of the inventory, and its own options.
    Node(&'a Node, Option<&'a OptionSet>),
    /// In the file of hosts, which counts before the inventory or after it.
    Host { before_inventory: bool },
    /// Nobody that we know.
    Unknown,
    /// It gets no address, whoever it is, and so no boot file.
    Addressless,
}

impl<'a> Asker<'a> {
    /// A client that the inventory does not know and that gets an address of this subnet, this one or one near it.
    pub(super) fn unknown(
        request: &'a Request<'a>,
        policy: &'a Policy,
        snapshot: &Snapshot,
        receiving: &Receiving,
        (subnet, ip): (&Subnet, Ipv4Addr),
    ) -> Result<Self, Why> {
        let asker = Self::without_rules(request, policy, receiving, (subnet, ip));
        let client = Client {
            request,
            mac: Some(asker.mac),
            node: None,
            ip: Some(ip.into()),
        };
        match rule(policy.book(), snapshot, &client) {
            Ruling::Ignore(_) => Err(Why::ByRule),
            Ruling::Serve(said) => Ok(Self { said, ..asker }),
        }
    }

    /// The same, and no rule counts.
    pub(super) fn without_rules(
        request: &'a Request<'a>,
        policy: &Policy,
        receiving: &Receiving,
        (subnet, ip): (&Subnet, Ipv4Addr),
    ) -> Self {
        Self {
            request,
            mac: request.mac.unwrap_or(NOBODY),
            who: Who::Unknown,
            server: policy.server_of(subnet, ip, receiving),
            said: Said::default(),
        }
    }
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
        let (unknown, own) = match asker.who {
            Who::Node(_, own) => (None, own),
            Who::Host { before_inventory: true } => (None, None),
            Who::Host { .. } | Who::Unknown | Who::Addressless => (Some(&policy.unknown.options), None),
        };
        Self {
            yiaddr,
            to: destination(asker.request, policy, yiaddr, asker.mac),
            grant: Some(Grant {
                subnet,
                unknown,
                own,
                seconds: lease.map(|(_, seconds)| seconds),
                domain: asker.said.domain().or(policy.domain.as_deref()),
                said: asker.said.clone(),
                instead: None,
            }),
            ..Self::bare(kind, asker, policy)
        }
    }

    /// An answer that gives no address on purpose.
    pub(super) fn without_address(
        kind: ReplyKind,
        asker: Asker<'a>,
        policy: &'a Policy,
        subnet: &'a Subnet,
        instead: Option<Instead>,
    ) -> Self {
        let mut reply = Self::grant(kind, asker, policy, subnet, None);
        if let Some(grant) = &mut reply.grant {
            grant.instead = instead;
        }
        reply
    }

    /// A NAK.
    pub(super) fn nak(asker: Asker<'a>, policy: &'a Policy) -> Self {
        let relay = relay(asker.request, policy);
        let mut reply = Self::bare(ReplyKind::Nak, asker, policy);
        if let Some(relay) = relay {
            // The client does not use its address any more; only the relay's broadcast reaches it.
            reply.flags |= BROADCAST;
            reply.to = relay;
        }
        reply
    }

    /// Where the boot file is.
    pub fn siaddr(&self) -> Ipv4Addr {
        match self.kind {
            ReplyKind::Nak => Ipv4Addr::UNSPECIFIED,
            ReplyKind::Offer | ReplyKind::Ack => self.server,
        }
    }

    /// The last rule that fits and is to be told of.
    pub fn rule(&self) -> Option<&str> {
        let mut rules = self.grant.iter().flat_map(|grant| grant.said.rules.iter().rev());
        let told = rules.find(|rule| rule.log == RuleLog::Info);
        told.map(|rule| rule.name.as_str())
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
            who,
            server,
            said,
        } = asker;
        let (xname, whose) = match who {
            Who::Node(node, _) => (Some(node.id.as_str()), Whose::Node(&node.boot)),
            Who::Addressless => (None, Whose::Bootless),
            Who::Host { .. } if policy.strict => (None, Whose::Bootless),
            Who::Host { .. } | Who::Unknown => (None, Whose::Unknown),
        };
        Self {
            kind,
            request,
            flags: request.flags,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            to: Destination::Broadcast,
            server,
            mac,
            xname,
            booting: booting(request, policy, mac, server, whose, &said),
            grant: None,
            strict: policy.strict,
        }
    }
}

/// The relay, if there is one. Upstream knows one port.
fn relay(request: &Request<'_>, policy: &Policy) -> Option<Destination> {
    let port = if policy.strict { SERVER_PORT } else { request.relay_port };
    let is_relayed = !request.giaddr.is_unspecified();
    is_relayed.then_some(Destination::Relay(request.giaddr, port))
}

/// The first matching row of the contract's table. `yiaddr` is unspecified in answers to INFORM, which come from `ciaddr`, and in those without
/// an address, which only a broadcast reaches. That the relay can be one was checked before.
fn destination(request: &Request<'_>, policy: &Policy, yiaddr: Ipv4Addr, mac: Mac) -> Destination {
    let used = if policy.strict {
        Some(request.ciaddr).filter(|ip| !ip.is_unspecified())
    } else {
        request.used_ip()
    };
    if let Some(relay) = relay(request, policy) {
        relay
    } else if let Some(used) = used.filter(|ip| policy.is_host(*ip)) {
        Destination::Unicast(used)
    } else if request.flags & BROADCAST != 0 || request.mac.is_none() || (yiaddr.is_unspecified() && !policy.strict) {
        Destination::Broadcast
    } else {
        Destination::Frame(yiaddr, mac)
    }
}
