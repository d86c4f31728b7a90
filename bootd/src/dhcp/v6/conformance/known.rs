//! Nodes of the inventory: addresses, lifetimes, names.

use super::super::testing::{Client, ia, option};
use super::*;
use crate::dhcp::v4::testing::node;

pub(super) fn cases() -> Vec<Case> {
    let client = || Client::new(1).ia(7, &[]);
    let moved = || [node(1, &["fd00::9"])];
    vec![
        case(
            "2.8 M",
            "SOLICIT gets an ADVERTISE with the node's first IPv6 address, half and three quarters of its lifetime",
        )
        .message(
            client().solicit(),
            advertise().lease(7, &[("fd00::1", 3600)]).no_status().codes(&[1, 2, 3]),
        ),
        case("2.8 M", "SOLICIT with rapid commit gets a REPLY that says so").message(
            client().option(14, &[]).solicit(),
            reply().lease(7, &[("fd00::1", 3600)]).with(14, []),
        ),
        case("2.8 M", "REQUEST gets a REPLY with the address").message(
            client().request(),
            reply().lease(7, &[("fd00::1", 3600)]).no_status().without(14),
        ),
        case("2.8 M", "REQUEST for the address that was advertised gets it").message(
            Client::new(1).ia(7, &["fd00::1"]).request(),
            reply().lease(7, &[("fd00::1", 3600)]),
        ),
        case("2.8 M", "RENEW of its own address prolongs it").message(
            Client::new(1).ia(7, &["fd00::1"]).renew(),
            reply().lease(7, &[("fd00::1", 3600)]),
        ),
        case("2.8 M", "REBIND of its own address prolongs it, and names no server").message(
            Client::new(1).ia(7, &["fd00::1"]).send(6),
            reply().lease(7, &[("fd00::1", 3600)]),
        ),
        case(
            "2.8 I",
            "RENEW of an address that is not its own any more ends that and gives the right one",
        )
        .publish(moved())
        .message(
            Client::new(1).ia(7, &["fd00::1"]).renew(),
            reply().lease(7, &[("fd00::9", 3600), ("fd00::1", 0)]),
        ),
        case("2.8 I", "REBIND of several addresses keeps the right one alone").message(
            Client::new(1).ia(7, &["fd00::2", "fd00::1", "fd00::3"]).send(6),
            reply().lease(7, &[("fd00::1", 3600), ("fd00::2", 0), ("fd00::3", 0)]),
        ),
        case("2.8 I", "RENEW of nothing gives a known node its address")
            .message(client().renew(), reply().lease(7, &[("fd00::1", 3600)])),
        case("2.8 M", "a wish in SOLICIT does not change the address").message(
            Client::new(1).ia(7, &["fd00::77"]).solicit(),
            advertise().lease(7, &[("fd00::1", 3600)]),
        ),
        case("2.8 I", "a node with an IPv4 address first in its list is served")
            .message(client().solicit(), advertise().lease(7, &[("fd00::1", 3600)])),
        case(
            "2.8 I",
            "an address of the link in the inventory is not the one that is given",
        )
        .nodes([node(1, &["fe80::1", "fd00::3"])])
        .message(client().solicit(), advertise().lease(7, &[("fd00::3", 3600)])),
        case("2.8 I", "of addresses in several subnets a node gets that of its link")
            .config(SECOND)
            .nodes([node(1, &["fd01::1", "fd00::1"])])
            .message(client().solicit(), advertise().lease(7, &[("fd00::1", 3600)])),
        case("2.8 M", "the same number of the association comes back, whatever it is").message(
            Client::new(1).ia(0xffff_fffe, &[]).solicit(),
            advertise().lease(0xffff_fffe, &[("fd00::1", 3600)]),
        ),
        case(
            "2.8 I",
            "a second association of addresses gets the status NoAddrsAvail",
        )
        .message(
            client().ia(8, &[]).solicit(),
            advertise()
                .each(3, &[&lease(7, &[("fd00::1", 3600)]), &no_addresses(8)])
                .nothing(3, 8, 2),
        ),
        case("2.8 I", "of two associations the one with the node's address keeps it").message(
            Client::new(1).ia(7, &[]).ia(8, &["fd00::1"]).renew(),
            reply()
                .nothing(3, 7, 3)
                .each(3, &[&no_binding(7), &lease(8, &[("fd00::1", 3600)])]),
        ),
        case(
            "2.8 I",
            "temporary addresses and prefixes are refused by their own status, beside the address",
        )
        .message(
            client().option(4, &[0, 0, 0, 5]).option(25, &ia(6, &[])).solicit(),
            advertise()
                .lease(7, &[("fd00::1", 3600)])
                .nothing(4, 5, 2)
                .nothing(25, 6, 6),
        ),
        case("2.8 I", "who asks for prefixes only gets the status NoPrefixAvail").message(
            Client::new(1).option(25, &ia(6, &[])).solicit(),
            advertise().nothing(25, 6, 6).without(3),
        ),
        case(
            "2.8 I",
            "who sends option 39 gets one whole name, of which the server changes no DNS",
        )
        .message(
            client().option(39, &[0, 1, b'x']).solicit(),
            advertise().with(39, [&[0], &labels("nid0001.openchami.cluster")[..], &[0]].concat()),
        ),
        case("2.8 I", "who wants the DNS changed is told that it is not").message(
            client().option(39, &[1, 0]).request(),
            reply().with(39, [&[2], &labels("nid0001.openchami.cluster")[..], &[0]].concat()),
        ),
        case("2.8 I", "who lists option 39 gets its name, too").message(
            client().asks(&[39]).solicit(),
            advertise().with(39, [&[0], &labels("nid0001.openchami.cluster")[..], &[0]].concat()),
        ),
        case("2.8 I", "a name without a domain is a partial one")
            .instead("domain = \"openchami.cluster\"\n", "")
            .message(
                client().option(39, &[0, 0]).solicit(),
                advertise().with(39, [&[0], &labels("nid0001")[..]].concat()),
            ),
        case("2.8 I", "who asks for no name gets none")
            .message(client().asks(&[23]).solicit(), advertise().without(39)),
        case("1.3 M", "name servers come to who lists option 23")
            .message(client().asks(&[23]).solicit(), advertise().with(23, octets("fd00::fe"))),
        case("1.3 M", "and to nobody else").message(client().solicit(), advertise().without(23)),
        case("2.8 M", "INFORMATION-REQUEST gets all but an address and a name").message(
            Client::new(1).asks(&[23, 39]).option(39, &[0, 0]).send(11),
            reply().with(23, octets("fd00::fe")).without(3).without(39).no_status(),
        ),
        case("2.8 I", "INFORMATION-REQUEST without a DUID is answered").message(
            Client::nameless().asks(&[23]).send(11),
            reply().with(23, octets("fd00::fe")).without(1),
        ),
        case("2.8 I", "INFORMATION-REQUEST of a stranger is answered as well").of(
            9,
            Client::new(9).asks(&[23]).send(11),
            reply().with(23, octets("fd00::fe")),
        ),
        case("2.8 M", "INFORMATION-REQUEST that names this server is answered")
            .message(Client::new(1).for_server().send(11), reply()),
        case(
            "2.8 I",
            "a node is known by the address of its link when its DUID says nothing",
        )
        .message(
            Client::nameless().option(1, &[0, 4, 1, 2, 3]).ia(7, &[]).solicit(),
            advertise().lease(7, &[("fd00::1", 3600)]),
        ),
        case(
            "2.8 M",
            "a node is known by the hardware address in its DUID, with a time or without",
        )
        .packet(
            "fe80::1234:5678:9abc:def0",
            client().solicit(),
            advertise().lease(7, &[("fd00::1", 3600)]),
        )
        .packet(
            "fe80::1234:5678:9abc:def0",
            Client::nameless()
                .option(1, &[0, 1, 0, 1, 9, 9, 9, 9, 2, 0, 0, 0, 0, 1])
                .ia(7, &[])
                .solicit(),
            advertise().lease(7, &[("fd00::1", 3600)]),
        ),
    ]
}

fn no_addresses(id: u32) -> Vec<u8> {
    with_status(id, 2, "no address for this client here")
}

fn no_binding(id: u32) -> Vec<u8> {
    with_status(id, 3, "this client has nothing here")
}

fn with_status(id: u32, status: u16, text: &str) -> Vec<u8> {
    let value = [&status.to_be_bytes(), text.as_bytes()].concat();
    [&id.to_be_bytes()[..], &[0; 8], &option(13, &value)].concat()
}
