//! Relays: layers, links, and what comes back to them.

use super::super::testing::{Client, SERVER_ID};
use super::*;
use crate::dhcp::v4::testing::node;

pub(super) fn cases() -> Vec<Case> {
    let solicit = || Client::new(1).ia(7, &[]).solicit();
    let through = |message: &[u8], link: &str, more: &[u8]| relayed(message, 0, link, link_local(1), more);
    let of = |says| case("2.8 M", says).only(Way::Relayed);
    vec![
        of("options 18, 37 and 135 of each relay come back to it, others do not").packet(
            RELAY,
            relayed(
                &through(
                    &solicit(),
                    LINK,
                    &[option(18, b"a"), option(37, &[0, 0, 0, 9, 1]), option(99, b"x")].concat(),
                ),
                1,
                "::",
                "fd00:9::2".parse().unwrap(),
                &[option(135, &[0x13, 0x88]), option(18, b"b")].concat(),
            ),
            advertise().lease(7, &[("fd00::1", 3600)]),
        ),
        of("a node behind two relays gets the address of the link that is nearest to it")
            .config(SECOND)
            .nodes([node(1, &["fd00::1", "fd01::1"])])
            .packet(
                RELAY,
                relayed(&through(&solicit(), "fd01::fd", &[]), 1, "fd00::fd", link_local(5), &[]),
                advertise().lease(7, &[("fd01::1", 3600)]),
            ),
        of("a relay of layer 2, which knows no link, leaves it to the next one")
            .config(SECOND)
            .nodes([node(1, &["fd00::1", "fd01::1"])])
            .packet(
                RELAY,
                relayed(&through(&solicit(), "::", &[]), 1, "fd01::fd", link_local(1), &[]),
                advertise().lease(7, &[("fd01::1", 3600)]),
            ),
        of("32 relays are as many as there may be").packet(
            RELAY,
            (0..32).fold(solicit(), |message, hop| {
                relayed(&message, hop, LINK, link_local(1), &[])
            }),
            advertise().lease(7, &[("fd00::1", 3600)]),
        ),
        of("33 are refused").packet(
            RELAY,
            (0..33).fold(solicit(), |message, hop| {
                relayed(&message, hop, LINK, link_local(1), &[])
            }),
            silence("too_many_relays"),
        ),
        of("a link that is in no served subnet gets no answer").packet(
            RELAY,
            through(&solicit(), "fd05::1", &[]),
            silence("relay_not_served"),
        ),
        of("what relays say about it counts more than what the client says")
            .nodes([node(1, &["fd00::1"]), node(3, &["fd00::3"])])
            .packet(
                RELAY,
                through(&solicit(), LINK, &option(79, &[0, 1, 2, 0, 0, 0, 0, 3])),
                advertise().lease(7, &[("fd00::3", 3600)]),
            ),
        of("a reply to a reply's layer, or a relay's reply, is nobody's to answer")
            .packet(RELAY, through(&[13; 40], LINK, &[]), silence("message_type"))
            .packet(
                RELAY,
                [&[13][..], &through(&solicit(), LINK, &[])[1..]].concat(),
                silence("message_type"),
            ),
        of("a relay on the wire of the server that names its link is one like others")
            .plug(&[])
            .packet(
                "fe80::5",
                through(&solicit(), LINK, &[]),
                advertise().lease(7, &[("fd00::1", 3600)]),
            ),
        of("a relayed RENEW and INFORMATION-REQUEST are answered")
            .message(
                Client::new(1).ia(7, &["fd00::1"]).renew(),
                reply().lease(7, &[("fd00::1", 3600)]),
            )
            .message(
                Client::nameless().asks(&[23]).send(11),
                reply().with(23, octets("fd00::fe")),
            ),
    ]
}

/// What node 1 gets in the innermost layer.
fn innermost(config: &str, nodes: &[Node], packet: &[u8]) -> (Vec<Layer>, Vec<u8>) {
    let config = config::parse(config, Path::new("bootd.toml")).unwrap();
    let server = Rehearsal::new(&config, Arc::new(snapshot(nodes.to_vec())), Receiving::default()).unwrap();
    match server.packet(packet, RELAY.parse().unwrap()) {
        Outcome::Sent { packet, .. } => peeled(&packet, 13),
        Outcome::Silence(why) => panic!("{why}"),
    }
}

#[test]
fn every_relay_gets_its_own_layer_and_the_client_the_address_of_its_link() {
    let solicit = Client::new(1).ia(7, &[]).solicit();
    let nodes = [node(1, &["fd00::1", "fd01::1"])];
    let two = format!("{B6}{SECOND}");
    let own = [option(18, b"a"), option(37, &[0, 0, 0, 9, 1]), option(99, b"x")].concat();
    let inner = relayed(&solicit, 0, "fd01::fd", link_local(1), &own);
    let outer = relayed(
        &inner,
        1,
        "fd00::fd",
        link_local(5),
        &[option(135, &[0x13, 0x88]), option(18, b"b")].concat(),
    );
    let (layers, message) = innermost(&two, &nodes, &outer);
    assert_eq!(
        layers,
        [
            vec![(18, b"b".to_vec()), (135, vec![0x13, 0x88])],
            vec![(18, b"a".to_vec()), (37, vec![0, 0, 0, 9, 1])]
        ]
    );
    let ids = options(&message[4..]);
    assert_eq!(ids[1], (2, SERVER_ID.to_vec()));
    assert_eq!(ids[2], (3, lease(7, &[("fd01::1", 3600)])));
    // A relay of layer 2 knows no link; the next one does.
    let blind = relayed(
        &relayed(&solicit, 0, "::", link_local(1), &[]),
        1,
        "fd01::fd",
        link_local(1),
        &[],
    );
    let (_, message) = innermost(&two, &nodes, &blind);
    assert_eq!(options(&message[4..])[2], (3, lease(7, &[("fd01::1", 3600)])));
    let told = relayed(&solicit, 0, LINK, link_local(1), &option(79, &[0, 1, 2, 0, 0, 0, 0, 3]));
    let (_, message) = innermost(B6, &[node(3, &["fd00::3"])], &told);
    assert_eq!(options(&message[4..])[2], (3, lease(7, &[("fd00::3", 3600)])));
    let deep = (0..32).fold(solicit, |message, hop| relayed(&message, hop, LINK, link_local(1), &[]));
    assert_eq!(innermost(B6, &nodes, &deep).0.len(), 32);
}
