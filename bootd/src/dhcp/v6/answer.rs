//! What a client gets over IPv6, decided from the packet, the configuration and the inventory alone.
//!
//! [`answer`] decides for nodes of the inventory and clients of the file of hosts; for everybody else it says [`Verdict::Unknown`], and
//! [`stranger`] decides. Neither has a socket, a clock, a lock or a disk. The inventory's address is the only one that a node gets: a node that
//! has another one is told that it is over, beside the right one. Clients on the wire and behind relays get the same.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::{Interface, Node};
use dhcproto::v6::{OptionCode, Status};
use smallvec::SmallVec;

use super::boot::booting;
use super::policy::{Policy, Receiving};
use super::reply::{Grant, Reply, ReplyKind, Said6};
use super::request::{Ia, IaKind, Kind, Request};
use crate::config::{Subnet6, Unknown6};
use crate::dhcp::rules::{Client, Ruling, Said, rule};
use crate::dhcp::v4::boot::Whose;
use crate::inventory::Snapshot;

/// What comes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "an answer takes nothing from the heap")]
pub enum Verdict<'a> {
    /// Send this.
    Reply(Reply<'a>),
    /// Not a matter of the inventory: ask [`stranger`].
    Unknown(Missing),
    /// Send nothing.
    Ignore(Why),
}

/// Why the inventory does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// No node has this hardware address.
    Mac(Mac),
    /// The node has no IPv6 address in a subnet where this client can be.
    Address,
    /// Nothing that the client or its relay says holds a hardware address, by which nodes are known.
    HardwareAddress,
}

/// Why a request gets no answer. Each is a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A message that no client sends to a server.
    MessageType,
    /// No client identifier.
    NoClientId,
    /// It names a server, which such a message must not.
    ServerNamed,
    /// It names no server, which such a message must.
    NoServerNamed,
    /// It speaks to another server.
    OtherServer,
    /// It asks for information and an address in one.
    AddressInInformation,
    /// It asks whether its addresses are good, and names none.
    NoAddress,
    /// The packet's source is not an address of the link, nor of a served subnet.
    FromElsewhere,
    /// The link of which its relay speaks is in no served subnet.
    RelayNotServed,
    /// The interface is in none of the served subnets, of which there are several.
    NoSubnet,
    /// It is not in the inventory.
    UnknownClient,
    /// It is in the inventory, without an IPv6 address for where it is.
    NoAddressThere,
    /// Nobody knows its hardware address.
    NoMac,
    /// The plugins are being asked about it; an earlier packet of it is answered then.
    LookupUnderWay,
    /// A rule ignores it.
    ByRule,
    /// `dhcp.ignore` lists it.
    ByConfiguration,
    /// The operator has it ignored: `bootd nodes ignore`.
    ByOperator,
}

impl Why {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::MessageType => "message_type",
            Self::NoClientId => "no_client_id",
            Self::ServerNamed => "server_named",
            Self::NoServerNamed => "no_server_named",
            Self::OtherServer => "other_server",
            Self::AddressInInformation => "address_in_information_request",
            Self::NoAddress => "no_address_named",
            Self::FromElsewhere => "from_elsewhere",
            Self::RelayNotServed => "relay_not_served",
            Self::NoSubnet => "no_subnet",
            Self::UnknownClient => "unknown_client",
            Self::NoAddressThere => "no_address_there",
            Self::NoMac => "no_hardware_address",
            Self::LookupUnderWay => "lookup_under_way",
            Self::ByRule => "ignored_by_rule",
            Self::ByConfiguration => "ignored_by_configuration",
            Self::ByOperator => "ignored_by_operator",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MessageType => "its message type is not one of a client's",
            Self::NoClientId => "it sends no client identifier",
            Self::ServerNamed => "it names a server in a message that is for all servers",
            Self::NoServerNamed => "it names no server in a message that is for one",
            Self::OtherServer => "it speaks to another server",
            Self::AddressInInformation => "it asks for information only, and for an address",
            Self::NoAddress => "it asks whether its addresses are good, and names none",
            Self::FromElsewhere => "it comes without a relay, and not from the link or a served subnet",
            Self::RelayNotServed => "the link of which its relay speaks is in no served subnet",
            Self::NoSubnet => "the interface on which it is heard has no address in a served subnet",
            Self::UnknownClient => "it is not in the inventory",
            Self::NoAddressThere => "it is in the inventory, without an IPv6 address in a served subnet where it is",
            Self::NoMac => "neither its relay, its address nor its DUID tells its hardware address",
            Self::LookupUnderWay => {
                "the plugins are being asked about it since an earlier packet, which is answered then"
            }
            Self::ByRule => "a rule of the configuration ignores it",
            Self::ByConfiguration => "dhcp.ignore of the configuration lists it",
            Self::ByOperator => "the operator has it ignored (`bootd nodes unignore` ends that)",
        })
    }
}

impl Missing {
    /// Why such a client is not answered.
    pub fn why(self) -> Why {
        match self {
            Self::Mac(_) => Why::UnknownClient,
            Self::Address => Why::NoAddressThere,
            Self::HardwareAddress => Why::NoMac,
        }
    }
}

/// Decides for a client of the inventory, or of the file of hosts; and on who needs no address.
pub fn answer<'a>(
    request: &'a Request<'a>,
    policy: &'a Policy,
    snapshot: &'a Snapshot,
    receiving: &Receiving,
) -> Verdict<'a> {
    if let Err(why) = check(request, policy) {
        return Verdict::Ignore(why);
    }
    let mac = request.mac();
    let node = mac.and_then(|mac| snapshot.by_mac(mac));
    let host = mac.and_then(|mac| host(policy, mac, node.is_some()));
    let found = match (host, node) {
        (Some(ip), _) => place(request, policy, [ip].into_iter(), receiving),
        (None, Some((_, interface))) => place(request, policy, ipv6(interface), receiving),
        (None, None) => place(request, policy, [].into_iter(), receiving),
    };
    let found = match found {
        Ok(found) => found,
        Err(why) => return Verdict::Ignore(why),
    };
    let asker = Asker {
        request,
        policy,
        mac,
        node: node.map(|(node, _)| &**node).filter(|_| host.is_none()),
    };
    if request.kind == Kind::Information {
        return asker.information(snapshot, found, receiving);
    }
    let Some((subnet, ip)) = found else {
        return Verdict::Unknown(match (mac, node) {
            (_, Some(_)) => Missing::Address,
            (Some(mac), None) if host.is_none() => Missing::Mac(mac),
            (Some(_), None) => Missing::Address,
            (None, None) => Missing::HardwareAddress,
        });
    };
    let said = match asker.rules(snapshot, Some(ip)) {
        Ok(said) => said,
        Err(why) => return Verdict::Ignore(why),
    };
    let hosts = policy.hosts.as_ref().filter(|_| host.is_some());
    let seconds = hosts.map_or(policy.lease_time, |hosts| hosts.lease_time);
    match request.kind {
        Kind::Confirm if request.named().next().is_none() => Verdict::Ignore(Why::NoAddress),
        Kind::Confirm if request.named().all(|named| named == ip) => asker.status(Status::Success),
        Kind::Confirm => asker.status(Status::NotOnLink),
        Kind::Release => asker.status(Status::Success),
        Kind::Decline => match asker.status(Status::Success) {
            Verdict::Reply(reply) => Verdict::Reply(Reply {
                conflict: request.named().any(|named| named == ip),
                ..reply
            }),
            verdict => verdict,
        },
        _ => {
            let grant = asker.grant(subnet, said, receiving);
            let ias = ias(request, subnet, ip, seconds);
            let has = |(_, said): &(_, Said6)| matches!(said, Said6::Has(..));
            Verdict::Reply(Reply {
                ip: ias.iter().any(has).then_some(ip),
                ias,
                grant: Some(grant),
                ..asker.bare(granting(request))
            })
        }
    }
}

/// Decides for a client for whom nobody has an address. One that speaks to this server in particular is told so, since it had one once.
pub fn stranger<'a>(
    request: &'a Request<'a>,
    policy: &'a Policy,
    snapshot: &'a Snapshot,
    missing: Missing,
) -> Verdict<'a> {
    let mac = request.mac();
    let node = mac.and_then(|mac| snapshot.by_mac(mac));
    let asker = Asker {
        request,
        policy,
        mac,
        node: node.map(|(node, _)| &**node),
    };
    if let Err(why) = asker.rules(snapshot, None) {
        return Verdict::Ignore(why);
    }
    let status = match request.kind {
        Kind::Solicit if policy.unknown == Unknown6::NoAddress => Status::NoAddrsAvail,
        Kind::Request => Status::NoAddrsAvail,
        Kind::Renew | Kind::Release | Kind::Decline => Status::NoBinding,
        _ => return Verdict::Ignore(missing.why()),
    };
    let of = |kind| match kind {
        IaKind::Prefix if status == Status::NoAddrsAvail => Status::NoPrefixAvail,
        _ => status,
    };
    let over = matches!(request.kind, Kind::Release | Kind::Decline);
    let kind = match request.kind {
        Kind::Solicit => ReplyKind::Advertise,
        _ => ReplyKind::Reply,
    };
    Verdict::Reply(Reply {
        status: over.then_some(Status::Success),
        ias: request.ias().map(|ia| (ia, Said6::Nothing(of(ia.kind)))).collect(),
        ..asker.bare(kind)
    })
}

/// Who asks for what.
struct Asker<'a> {
    request: &'a Request<'a>,
    policy: &'a Policy,
    mac: Option<Mac>,
    node: Option<&'a Node>,
}

impl<'a> Asker<'a> {
    fn rules(&self, snapshot: &Snapshot, ip: Option<Ipv6Addr>) -> Result<Said<'a>, Why> {
        let client = Client {
            request: self.request,
            mac: self.mac,
            node: self.node,
            ip: ip.map(IpAddr::V6),
        };
        match rule(self.policy.book(), snapshot, &client) {
            Ruling::Ignore(_) => Err(Why::ByRule),
            Ruling::Serve(said) => Ok(said),
        }
    }

    /// All but addresses, for whoever asks.
    fn information(
        &self,
        snapshot: &Snapshot,
        found: Option<(&'a Subnet6, Ipv6Addr)>,
        receiving: &Receiving,
    ) -> Verdict<'a> {
        let subnet = match found {
            Some((subnet, _)) => Ok(subnet),
            None => self.policy.subnet_at(self.request.link, receiving),
        };
        let said = self.rules(snapshot, found.map(|(_, ip)| ip));
        match (subnet, said) {
            (Ok(subnet), Ok(said)) => Verdict::Reply(Reply {
                grant: Some(Grant {
                    name: None,
                    ..self.grant(subnet, said, receiving)
                }),
                ..self.bare(ReplyKind::Reply)
            }),
            (Err(why), _) | (_, Err(why)) => Verdict::Ignore(why),
        }
    }

    fn status(&self, status: Status) -> Verdict<'a> {
        Verdict::Reply(Reply {
            status: Some(status),
            ..self.bare(ReplyKind::Reply)
        })
    }

    fn grant(&self, subnet: &'a Subnet6, said: Said<'a>, receiving: &Receiving) -> Grant<'a> {
        let (request, policy) = (self.request, self.policy);
        let whose = match self.node {
            Some(node) => Whose::Node(&node.boot),
            None => Whose::Unknown,
        };
        let server = policy.server_of(subnet, receiving);
        let wants_name = request.fqdn.is_some() || request.lists(OptionCode::ClientFqdn);
        Grant {
            subnet,
            booting: booting(request, policy, self.mac, server, whose, &said),
            boot_params: &policy.boot_params,
            name: said.name.filter(|_| wants_name),
            preference: policy.preference.filter(|_| request.kind == Kind::Solicit),
            said,
        }
    }

    fn bare(&self, kind: ReplyKind) -> Reply<'a> {
        Reply {
            kind,
            request: self.request,
            server_id: &self.policy.server_id,
            mac: self.mac,
            xname: self.node.map(|node| node.id.as_str()),
            ip: None,
            status: None,
            ias: SmallVec::new(),
            grant: None,
            conflict: false,
        }
    }
}

/// Whether a message can have an answer at all (contract 2.8; RFC 8415, section 16).
fn check(request: &Request<'_>, policy: &Policy) -> Result<(), Why> {
    if let Kind::Other(_) = request.kind {
        return Err(Why::MessageType);
    }
    if policy.ignore.contains(&request.sender()) {
        return Err(Why::ByConfiguration);
    }
    if request.client_id.is_none() && request.kind != Kind::Information {
        return Err(Why::NoClientId);
    }
    let is_us = |id: &[u8]| id == &*policy.server_id;
    match (request.kind, request.server_id) {
        (Kind::Solicit | Kind::Confirm | Kind::Rebind, Some(_)) => return Err(Why::ServerNamed),
        (Kind::Request | Kind::Renew | Kind::Release | Kind::Decline, None) => return Err(Why::NoServerNamed),
        (_, Some(id)) if !is_us(id) => return Err(Why::OtherServer),
        _ => {}
    }
    if request.kind == Kind::Information && request.ias().next().is_some() {
        return Err(Why::AddressInInformation);
    }
    // The reply goes to the source, so that is not to be anybody's.
    let from = request.from;
    let is_near = from.is_unicast_link_local() || !request.relays.is_empty() || policy.subnet_of(from).is_some();
    if from.is_unspecified() || from.is_multicast() || !is_near {
        return Err(Why::FromElsewhere);
    }
    Ok(())
}

/// The kind of the answer that gives an address.
fn granting(request: &Request<'_>) -> ReplyKind {
    match request.kind {
        Kind::Solicit if !request.rapid_commit => ReplyKind::Advertise,
        _ => ReplyKind::Reply,
    }
}

/// What becomes of the identity associations of a client that has an address.
fn ias<'a>(request: &Request<'a>, subnet: &Subnet6, ip: Ipv6Addr, seconds: u32) -> SmallVec<[(Ia<'a>, Said6); 2]> {
    let of_addresses = || request.ias().enumerate().filter(|(_, ia)| ia.kind == IaKind::Address);
    // The one that has the address already, else the first: a node has one address.
    let its = of_addresses()
        .find(|(_, ia)| ia.addresses().any(|named| named == ip))
        .or_else(|| of_addresses().next())
        .map(|(at, _)| at);
    let renews = matches!(request.kind, Kind::Renew | Kind::Rebind);
    let said = |at: usize, ia: &Ia<'a>| {
        if its == Some(at) {
            // A client that moved begins again (RFC 8415, section 18.3.2).
            let moved = request.kind == Kind::Request && ia.addresses().any(|named| !subnet.contains(named));
            return match moved {
                true => Said6::Nothing(Status::NotOnLink),
                false => Said6::Has(ip, seconds),
            };
        }
        Said6::Nothing(match ia.kind {
            _ if renews => Status::NoBinding,
            IaKind::Prefix => Status::NoPrefixAvail,
            IaKind::Address | IaKind::Temporary => Status::NoAddrsAvail,
        })
    };
    let ias = request.ias().enumerate();
    ias.map(|(at, ia)| (ia, said(at, &ia))).collect()
}

/// The address that the file of hosts has for a client, when it counts.
fn host(policy: &Policy, mac: Mac, is_known: bool) -> Option<Ipv6Addr> {
    let hosts = policy.hosts.as_ref()?;
    if is_known && !hosts.before_inventory {
        return None;
    }
    hosts.address6_of(mac)
}

/// The subnet and the address of a client, of those that it can have, where its packet came from.
fn place<'a>(
    request: &Request<'_>,
    policy: &'a Policy,
    ips: impl Iterator<Item = Ipv6Addr> + Clone,
    receiving: &Receiving,
) -> Result<Option<(&'a Subnet6, Ipv6Addr)>, Why> {
    let served = || ips.clone().filter_map(|ip| Some((policy.subnet_of(ip)?, ip)));
    if let Some(link) = request.link {
        let subnet = policy.subnet_of(link).ok_or(Why::RelayNotServed)?;
        // Behind a relay of which nobody knows more than that it is served, an address is as good as another.
        let fits = |of: &Subnet6| subnet.is_catch_all() || of == subnet;
        return Ok(served().find(|(of, _)| fits(of)));
    }
    let near = |subnet: &Subnet6| !subnet.is_catch_all() && receiving.addresses.iter().any(|own| subnet.contains(*own));
    // What it has already says where it is, as long as it is one of the wire, or the wire says nothing.
    Ok(served()
        .find(|(subnet, ip)| near(subnet) && request.named().any(|named| named == *ip))
        .or_else(|| served().find(|(subnet, _)| near(subnet)))
        .or_else(|| served().find(|(_, ip)| request.named().any(|named| named == *ip)))
        .or_else(|| served().next()))
}

fn ipv6(interface: &Interface) -> impl Iterator<Item = Ipv6Addr> + Clone + '_ {
    interface
        .ips
        .iter()
        .filter_map(|address| match address.ip.to_canonical() {
            IpAddr::V6(ip) => Some(ip),
            IpAddr::V4(_) => None,
        })
}
