//! What a client gets, decided from the packet, the configuration and the inventory alone.
//!
//! [`answer`] decides for nodes of the inventory; for everybody else it says [`Verdict::Unknown`] and the [pool](super::pool) decides.
//! Neither has a socket, a clock, a lock or a disk. The inventory's address is the only one that a node gets: a node that asks for another
//! one is told to begin again.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Interface;

use super::holder::{self, Holder};
use super::options::V6ONLY_PREFERRED;
use super::policy::{Policy, Receiving};
use super::reply::{Asker, Instead, Reply, ReplyKind, Who};
use super::request::{Kind, Request};
use crate::config::Subnet;
use crate::dhcp::rules::{Client, Ruling, rule};
use crate::inventory::Snapshot;

/// What comes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Send this.
    Reply(Reply<'a>),
    /// Send this NAK.
    Nak(Reply<'a>, NakWhy),
    /// Make the lease durable, then send this. When that fails, send nothing.
    Lease(Reply<'a>, Lease),
    /// Send this NAK; the client's lease is over, so forget its row.
    End(Reply<'a>, Holder, NakWhy),
    /// Send nothing; the client's lease is over, so forget its row.
    Freed(Holder, Ipv4Addr, FreedWhy),
    /// Ask the wire whether somebody uses this address, tell the pool, and decide again.
    Probe(Ipv4Addr),
    /// Not a matter of the inventory: ask the pool.
    Unknown(Mac, Missing),
    /// Send nothing.
    Ignore(Why),
}

/// A lease to make durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whose it is.
    pub holder: Holder,
    /// The hardware address, when it has 6 bytes.
    pub mac: Option<Mac>,
    /// Option 61, when it was sent.
    pub client_id: Option<Arc<[u8]>>,
    /// The address.
    pub ip: Ipv4Addr,
    /// For how long, in seconds.
    pub seconds: u32,
    /// What the client calls itself.
    pub host_name: Option<String>,
    /// Who had the address before, and whose row goes with it.
    pub instead_of: Option<Holder>,
}

/// Why a client must begin again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NakWhy {
    /// The inventory has another address for it.
    OtherAddress,
    /// The address is not one of its subnet.
    OtherSubnet,
    /// The address is somebody else's now.
    Taken,
    /// It never got this address here, and has another one.
    NotYours,
    /// Leases are not renewed, so that clients are looked at again (`compat.bootloop_nak`).
    Renewal,
    /// CoreDHCP's `bootloop` knows it already, and it is not iPXE (`compat.strict`).
    Bootloop,
}

/// Why a lease is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreedWhy {
    /// The client gave it back.
    Released,
    /// The client found somebody else with the address, which now rests.
    Declined,
}

/// Why the inventory does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// No node has this hardware address.
    Mac,
    /// The node has no IPv4 address in a subnet where this client can be.
    Address,
    /// The client has no hardware address of 6 bytes, by which nodes are known.
    HardwareAddress,
}

/// Why a request gets no answer. Each is a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// BOOTP: no option 53.
    Bootp,
    /// A message that no client sends to a server.
    MessageType,
    /// The hardware address has not 6 bytes, and there is no client identifier.
    NoMac,
    /// The hardware address is a group's, or nobody's.
    NotAHost,
    /// It speaks to another server.
    OtherServer,
    /// Its relay, or the link that the relay selects, is in no served subnet.
    RelayNotServed,
    /// Its relay's address is not one that a relay can have.
    BadRelay,
    /// A REQUEST that names no address.
    NoAddress,
    /// An INFORM without a host's address of a served subnet.
    InformFromElsewhere,
    /// A node gave its address back; it stays the node's.
    Released,
    /// A node says that somebody else uses its address.
    Conflict,
    /// Nobody that we know, and no pool where it is.
    NoPool,
    /// All addresses of the pool are in use.
    PoolExhausted,
    /// It speaks of a lease that is not ours.
    NotOurLease,
    /// INFORM from nobody that we know or gave a lease.
    UnknownInform,
    /// The plugins are being asked about it; an earlier packet of it is answered then.
    LookupUnderWay,
    /// A rule ignores it.
    ByRule,
    /// `dhcp.ignore` lists it.
    ByConfiguration,
    /// The address for it is being probed; it is answered then.
    ProbeUnderWay,
    /// Somebody has each address that was probed for it.
    AllInUse,
    /// The operator has it ignored: `bootd nodes ignore`.
    ByOperator,
}

impl Why {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Bootp => "bootp",
            Self::MessageType => "message_type",
            Self::NoMac => "hlen_not_6",
            Self::NotAHost => "mac_of_no_host",
            Self::OtherServer => "other_server",
            Self::RelayNotServed => "relay_not_served",
            Self::BadRelay => "bad_relay_address",
            Self::NoAddress => "no_address_named",
            Self::InformFromElsewhere => "inform_from_elsewhere",
            Self::Released => "release_of_node",
            Self::Conflict => "address_conflict",
            Self::NoPool => "no_pool",
            Self::PoolExhausted => "pool_exhausted",
            Self::NotOurLease => "not_our_lease",
            Self::UnknownInform => "inform_of_unknown",
            Self::LookupUnderWay => "lookup_under_way",
            Self::ByRule => "ignored_by_rule",
            Self::ByConfiguration => "ignored_by_configuration",
            Self::ProbeUnderWay => "probe_under_way",
            Self::AllInUse => "probed_in_vain",
            Self::ByOperator => "ignored_by_operator",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bootp => "it is BOOTP, without a DHCP message type",
            Self::MessageType => "its message type is not one of a client's",
            Self::NoMac => "its hardware address has not 6 bytes, and it sends no client identifier",
            Self::NotAHost => "its hardware address is a group's, or zero",
            Self::OtherServer => "it speaks to another server",
            Self::RelayNotServed => "its relay is in no served subnet",
            Self::BadRelay => "its relay's address is not a host's, or is our own",
            Self::NoAddress => "it requests without naming an address",
            Self::InformFromElsewhere => "it informs from an address of no host in a served subnet",
            Self::Released => "it released its address, which stays its own",
            Self::Conflict => "it says that somebody else uses its address",
            Self::NoPool => "it is not in the inventory, and where it is there is no pool",
            Self::PoolExhausted => "it is not in the inventory, and the pool is exhausted",
            Self::NotOurLease => "it speaks of a lease that is not ours",
            Self::UnknownInform => "it informs, is not in the inventory, and has no lease of its address",
            Self::ProbeUnderWay => {
                "the address for it is being probed since an earlier packet; this one is answered then"
            }
            Self::AllInUse => "somebody answers for each address that was probed for it",
            Self::LookupUnderWay => {
                "the plugins are being asked about it since an earlier packet, which is answered then"
            }
            Self::ByRule => "a rule of the configuration ignores it",
            Self::ByConfiguration => "dhcp.ignore of the configuration lists it",
            Self::ByOperator => "the operator has it ignored (`bootd nodes unignore` ends that)",
        })
    }
}

impl NakWhy {
    /// The label in logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::OtherAddress => "other_address",
            Self::OtherSubnet => "other_subnet",
            Self::Taken => "taken",
            Self::NotYours => "not_yours",
            Self::Renewal => "renewal_refused",
            Self::Bootloop => "bootloop",
        }
    }
}

/// Decides for a client of the inventory, or of the file of hosts.
pub fn answer<'a>(
    request: &'a Request<'a>,
    policy: &'a Policy,
    snapshot: &'a Snapshot,
    receiving: &Receiving,
) -> Verdict<'a> {
    let (kind, mac) = match client(request, policy, receiving) {
        Ok(client) => client,
        Err(Why::NotAHost) => return health_check(request, policy, receiving),
        Err(why) => return Verdict::Ignore(why),
    };
    let Some(mac) = mac else {
        return Verdict::Unknown(NOBODY, Missing::HardwareAddress);
    };
    if let Some(verdict) = ipv6_only(request, policy, receiving, kind) {
        return verdict;
    }
    let node = snapshot.by_mac(mac);
    let host = host(policy, mac, node.is_some());
    if node.is_none() && host.is_none() {
        return Verdict::Unknown(mac, Missing::Mac);
    }
    if policy.is_for_another(request, receiving) {
        return Verdict::Ignore(Why::OtherServer);
    }
    let found = match (host, node) {
        (Some(ip), _) => place(request, policy, [ip].into_iter(), receiving),
        (None, Some((_, interface))) => place(request, policy, ipv4(interface), receiving),
        (None, None) => Ok(None),
    };
    let (subnet, ip) = match found {
        Ok(Some(place)) => place,
        Ok(None) => return Verdict::Unknown(mac, Missing::Address),
        Err(why) => return Verdict::Ignore(why),
    };
    let node = node.map(|(node, _)| &**node).filter(|_| host.is_none());
    let client = Client {
        request,
        mac: Some(mac),
        node,
        ip: Some(ip.into()),
    };
    let said = match rule(policy.book(), snapshot, &client) {
        Ruling::Ignore(_) => return Verdict::Ignore(Why::ByRule),
        Ruling::Serve(said) => said,
    };
    let settings = policy.hosts.as_ref().filter(|_| host.is_some());
    let who = match node {
        Some(node) => Who::Node(node, snapshot.options_of(node)),
        None => Who::Host {
            before_inventory: settings.is_some_and(|hosts| hosts.before_inventory),
        },
    };
    let asker = Asker {
        request,
        mac,
        who,
        server: policy.server_of(subnet, ip, receiving),
        said,
    };
    let lease = Some((ip, settings.map_or(policy.lease_time, |hosts| hosts.lease_time)));
    let reply = |kind, asker, lease| Verdict::Reply(Reply::grant(kind, asker, policy, subnet, lease));
    match kind {
        Kind::Discover => reply(ReplyKind::Offer, asker, lease),
        Kind::Request if !policy.strict && named(request).any(|named| named != ip) => {
            Verdict::Nak(Reply::nak(asker, policy), NakWhy::OtherAddress)
        }
        Kind::Request => reply(ReplyKind::Ack, asker, lease),
        // The answer goes to an address that the packet names.
        Kind::Inform if !policy.is_host(request.ciaddr) || policy.is_us(request.ciaddr, receiving) => {
            Verdict::Ignore(Why::InformFromElsewhere)
        }
        Kind::Inform => reply(ReplyKind::Ack, asker, None),
        Kind::Release => Verdict::Ignore(Why::Released),
        Kind::Decline => Verdict::Ignore(Why::Conflict),
        Kind::Other(_) => Verdict::Ignore(Why::MessageType),
    }
}

/// Sites look with `dhcping` whether a server lives: it asks as the hardware address zero for an address that it names. That nobody is told
/// that it cannot have it.
fn health_check<'a>(request: &'a Request<'a>, policy: &'a Policy, receiving: &Receiving) -> Verdict<'a> {
    let asks =
        request.kind == Some(Kind::Request) && request.giaddr.is_unspecified() && named(request).next().is_some();
    if request.mac != Some(NOBODY) || !asks {
        return Verdict::Ignore(Why::NotAHost);
    }
    if policy.is_for_another(request, receiving) {
        return Verdict::Ignore(Why::OtherServer);
    }
    match policy.subnet_at(request, receiving) {
        Ok(subnet) => {
            let asker = Asker::without_rules(request, policy, receiving, (subnet, subnet.network));
            Verdict::Nak(Reply::nak(asker, policy), NakWhy::NotYours)
        }
        Err(why) => Verdict::Ignore(why),
    }
}

/// The address that the file of hosts has for a client, when it counts.
fn host(policy: &Policy, mac: Mac, is_known: bool) -> Option<Ipv4Addr> {
    let hosts = policy.hosts.as_ref()?;
    if is_known && !hosts.before_inventory {
        return None;
    }
    hosts.address_of(mac)
}

/// Who prefers to do without IPv4 is told that it may, and gets no address (RFC 8925). Upstream took everybody without option 55 for one.
fn ipv6_only<'a>(
    request: &'a Request<'a>,
    policy: &'a Policy,
    receiving: &Receiving,
    kind: Kind,
) -> Option<Verdict<'a>> {
    let seconds = policy.ipv6_only?;
    let prefers = request.lists(V6ONLY_PREFERRED) || (policy.strict && request.wants(V6ONLY_PREFERRED));
    let reply = match kind {
        Kind::Discover => ReplyKind::Offer,
        Kind::Request => ReplyKind::Ack,
        _ => return None,
    };
    if !prefers || policy.is_for_another(request, receiving) {
        return None;
    }
    let instead = Some(Instead::Ipv6Only(seconds));
    Some(without_address(request, policy, receiving, reply, instead))
}

/// What a client gets for whom nobody has an address: an answer to option 116 (RFC 2563), one without address where that is wanted, or none.
pub(super) fn nowhere<'a>(
    request: &'a Request<'a>,
    policy: &'a Policy,
    receiving: &Receiving,
    kind: Kind,
) -> Verdict<'a> {
    let unknown = &policy.unknown;
    let (reply, instead) = match (kind, unknown.autoconfigure) {
        (Kind::Discover, Some(value)) if request.asks_autoconfigure => {
            (ReplyKind::Offer, Some(Instead::Autoconfigure(value)))
        }
        (Kind::Discover, Some(_)) => return Verdict::Ignore(Why::NoPool),
        _ if !unknown.answer_without_address && !policy.strict => return Verdict::Ignore(Why::NoPool),
        (Kind::Discover, None) => (ReplyKind::Offer, None),
        (Kind::Request, _) => (ReplyKind::Ack, None),
        _ => return Verdict::Ignore(Why::NoPool),
    };
    without_address(request, policy, receiving, reply, instead)
}

/// Upstream comes to rules and boot files only with an address, and so do we.
fn without_address<'a>(
    request: &'a Request<'a>,
    policy: &'a Policy,
    receiving: &Receiving,
    kind: ReplyKind,
    instead: Option<Instead>,
) -> Verdict<'a> {
    let subnet = match policy.subnet_at(request, receiving) {
        Ok(subnet) => subnet,
        Err(why) => return Verdict::Ignore(why),
    };
    let near = policy.link_of(request).unwrap_or(subnet.network);
    let asker = Asker {
        who: Who::Addressless,
        ..Asker::without_rules(request, policy, receiving, (subnet, near))
    };
    Verdict::Reply(Reply::without_address(kind, asker, policy, subnet, instead))
}

/// Who asks for what, as far as it can have an answer at all.
pub(super) fn client(
    request: &Request<'_>,
    policy: &Policy,
    receiving: &Receiving,
) -> Result<(Kind, Option<Mac>), Why> {
    policy.check_relay(request, receiving)?;
    if policy.ignore.contains(&request.sender()) {
        return Err(Why::ByConfiguration);
    }
    match (request.kind, request.mac) {
        (None, _) => Err(Why::Bootp),
        (Some(Kind::Other(_)), _) => Err(Why::MessageType),
        (Some(kind), None) if holder::id(request).is_some() => Ok((kind, None)),
        (Some(_), None) => Err(Why::NoMac),
        (Some(_), Some(mac)) if !mac.is_host() => Err(Why::NotAHost),
        // Upstream knows two kinds of message.
        (Some(kind), Some(_)) if policy.strict && !matches!(kind, Kind::Discover | Kind::Request) => {
            Err(Why::MessageType)
        }
        (Some(kind), mac) => Ok((kind, mac)),
    }
}

/// The addresses that a REQUEST names: option 50, and the one that the client uses already.
pub(super) fn named(request: &Request<'_>) -> impl Iterator<Item = Ipv4Addr> + use<> {
    [request.requested_ip, request.used_ip()].into_iter().flatten()
}

/// The subnet and the address of a client, of those that it can have, where its packet came from.
fn place<'a>(
    request: &Request<'_>,
    policy: &'a Policy,
    ips: impl Iterator<Item = Ipv4Addr> + Clone,
    receiving: &Receiving,
) -> Result<Option<(&'a Subnet, Ipv4Addr)>, Why> {
    let served = || ips.clone().filter_map(|ip| Some((policy.subnet_of(ip)?, ip)));
    if let Some(link) = policy.link_of(request) {
        let subnet = policy.subnet_of(link).ok_or(Why::RelayNotServed)?;
        // Behind a relay of which nobody knows more than that it is served, an address is as good as another.
        let fits = |of: &Subnet| subnet.is_catch_all() || of == subnet;
        return Ok(served().find(|(of, _)| fits(of)));
    }
    if policy.strict {
        return Ok(served().next());
    }
    // A renewal comes without relay from wherever the node is; the address that it uses says where.
    Ok(served()
        .find(|(_, ip)| request.used_ip() == Some(*ip))
        .or_else(|| served().find(|(subnet, ip)| Policy::is_near(subnet, *ip, receiving)))
        .or_else(|| served().find(|(subnet, _)| !subnet.is_catch_all() && Policy::is_local(subnet, receiving)))
        .or_else(|| served().next()))
}

fn ipv4(interface: &Interface) -> impl Iterator<Item = Ipv4Addr> + Clone + '_ {
    interface.ips.iter().filter_map(|address| match address.ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    })
}

/// What stands for the hardware address of a client whose own has not 6 bytes.
pub(super) const NOBODY: Mac = Mac([0; 6]);

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "strict_tests.rs"]
mod strict_tests;
