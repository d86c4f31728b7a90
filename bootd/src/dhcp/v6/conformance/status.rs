//! CONFIRM, RELEASE, DECLINE, and clients that nobody knows.

use super::super::testing::{Client, ia};
use super::*;
use crate::dhcp::v4::testing::node;

pub(super) fn cases() -> Vec<Case> {
    let with = |ip: &str| Client::new(1).ia(7, &[ip]);
    let stranger = || Client::new(9).ia(7, &["fd00::77"]);
    vec![
        case("2.8 I", "CONFIRM of its own address is a success, without the address")
            .message(with("fd00::1").send(4), reply().status(0).codes(&[1, 2, 13])),
        case("2.8 I", "CONFIRM of an address of another link is told so")
            .message(with("fd05::1").send(4), reply().status(4).without(3)),
        case(
            "2.8 I",
            "CONFIRM of an address that is not the node's any more sends it back to SOLICIT",
        )
        .message(with("fd00::2").send(4), reply().status(4).without(3)),
        case("2.8 I", "CONFIRM that names no address gets no answer")
            .message(Client::new(1).ia(7, &[]).send(4), silence("no_address_named")),
        case("2.8 I", "RELEASE is a success, and gives nothing").message(
            with("fd00::1").for_server().send(8),
            reply().status(0).codes(&[1, 2, 13]),
        ),
        case(
            "2.8 I",
            "DECLINE is a success; the conflict is counted, and the address stays the node's",
        )
        .message(
            with("fd00::1").for_server().send(9),
            reply().status(0).codes(&[1, 2, 13]).note(Some("address_conflict")),
        )
        .message(with("fd00::1").request(), reply().lease(7, &[("fd00::1", 3600)])),
        case(
            "2.8 I",
            "DECLINE of an address that is not the node's is no conflict of it",
        )
        .message(with("fd00::5").for_server().send(9), reply().status(0).note(None)),
        case("2.8 I", "SOLICIT of a stranger gets no answer").of(9, stranger().solicit(), silence("unknown_client")),
        case(
            "2.8 I",
            "SOLICIT of a stranger gets the status NoAddrsAvail where the configuration says so",
        )
        .keys("[dhcp6]", "unknown = \"no-address\"")
        .of(
            9,
            stranger().option(25, &ia(8, &[])).solicit(),
            advertise().nothing(3, 7, 2).nothing(25, 8, 6).no_status(),
        ),
        case(
            "2.8 I",
            "such a SOLICIT with rapid commit gets an ADVERTISE, since nothing is committed",
        )
        .keys("[dhcp6]", "unknown = \"no-address\"")
        .of(
            9,
            stranger().option(14, &[]).solicit(),
            advertise().nothing(3, 7, 2).without(14),
        ),
        case("2.8 I", "RENEW of who has nothing gets the status NoBinding").of(
            9,
            stranger().renew(),
            reply().nothing(3, 7, 3),
        ),
        case(
            "2.8 I",
            "REQUEST of who is not known any more gets the status NoAddrsAvail",
        )
        .of(9, stranger().request(), reply().nothing(3, 7, 2)),
        case(
            "2.8 I",
            "REBIND and CONFIRM of a stranger get no answer, since another server may know it",
        )
        .of(9, stranger().send(6), silence("unknown_client"))
        .of(9, stranger().send(4), silence("unknown_client")),
        case("2.8 I", "RELEASE and DECLINE of a stranger are a success, of nothing")
            .of(9, stranger().for_server().send(8), reply().status(0).nothing(3, 7, 3))
            .of(9, stranger().for_server().send(9), reply().status(0).nothing(3, 7, 3)),
        case("2.8 I", "a node without an IPv6 address gets no answer to SOLICIT")
            .nodes([node(1, &["172.16.0.1"])])
            .message(Client::new(1).ia(7, &[]).solicit(), silence("no_address_there")),
        case(
            "2.8 I",
            "REQUEST for an address of another link is told so, and begins again",
        )
        .message(with("fd05::1").request(), reply().nothing(3, 7, 4)),
        case("2.8 M", "a stranger becomes a node, and is answered")
            .of(2, Client::new(2).ia(7, &[]).solicit(), silence("unknown_client"))
            .publish([node(2, &["fd00::2"])])
            .of(
                2,
                Client::new(2).ia(7, &[]).solicit(),
                advertise().lease(7, &[("fd00::2", 3600)]),
            ),
        case("2.8 I", "who tells its hardware address in no way gets no answer")
            .only(Way::Direct)
            .packet(
                "fe80::1234:5678:9abc:def0",
                Client::nameless().option(1, &[0, 4, 1, 2, 3]).ia(7, &[]).solicit(),
                silence("no_hardware_address"),
            ),
    ]
}
