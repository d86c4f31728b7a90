//! Packets that no client should send: among them each class that ends the server that bootd replaces.

use super::super::testing::{Client, node};
use super::*;

const OWN: [u8; 4] = [172, 16, 0, 1];

pub(super) fn cases() -> Vec<Case> {
    let client = || Client::new(1);
    let with = |at: usize, value: u8| {
        let mut packet = Client::new(1).discover();
        packet[at] = value;
        packet
    };
    let cut = |length: usize| Client::new(1).discover()[..length].to_vec();
    vec![
        case("6.3.1 I", "an architecture of no bytes, which ends upstream, is none")
            .packet(client().option(93, &[]).discover(), offer(OWN).without(67)),
        case("6.3.1 I", "an architecture of one byte, which ends upstream, is none")
            .packet(client().option(93, &[7]).discover(), offer(OWN).without(67))
            .packet(client().option(93, &[7]).request(), ack(OWN).without(67)),
        case("6.3.1 I", "an architecture of three bytes counts with its first two").packet(
            client().option(93, &[0, 7, 0]).discover(),
            offer(OWN).with(67, "ipxe-x86_64.efi"),
        ),
        case(
            "2.4 I",
            "a node without any address is a stranger, and none without a pool gets anything",
        )
        .nodes([node(1, &[])])
        .packet(client().discover(), silence("no_pool")),
        case("6.3.15 I", "a node with an IPv6 address only is never given 0.0.0.0")
            .nodes([node(1, &["fd00::1"])])
            .packet(client().discover(), silence("no_pool")),
        case("6.3.2 I", "a hardware address of no bytes is neither served nor kept")
            .instead("dns =", &format!("{POOL}dns ="))
            .packet(with(2, 0), silence("hlen_not_6"))
            .packet(Client::new(9).discover(), offer([172, 16, 0, 200])),
        case("6.3.2 I", "a hardware address of 16 bytes is neither served nor kept")
            .instead("dns =", &format!("{POOL}dns ="))
            .packet(with(2, 16), silence("hlen_not_6"))
            .packet(Client::new(9).discover(), offer([172, 16, 0, 200])),
        case("2.1 M", "a hardware address longer than its field is refused")
            .packet(with(2, 17), silence("hlen_over_16")),
        case("2.1 M", "packets without a whole header are refused")
            .packet(vec![], silence("too_short"))
            .packet(cut(235), silence("too_short"))
            .packet(cut(239), silence("too_short")),
        case("2.1 M", "options without End are refused")
            .packet(cut(240), silence("no_end_option"))
            .packet(cut(243), silence("no_end_option")),
        case("2.1 M", "an option that is longer than the packet is refused")
            .packet(cut(242), silence("truncated_option"))
            .packet(
                client().raw(&[93, 200, 0]).send(1)[..246].to_vec(),
                silence("truncated_option"),
            ),
        case("2.1 M", "another cookie is refused").packet(with(239, 0), silence("no_magic_cookie")),
        case("2.1 M", "a reply is not answered").packet(with(0, 2), silence("not_a_request")),
        case(
            "2.1 M",
            "messages that servers send, and lease queries, are not answered",
        )
        .packet(client().send(2), silence("message_type"))
        .packet(client().send(5), silence("message_type"))
        .packet(client().send(6), silence("message_type"))
        .packet(client().send(10), silence("message_type"))
        .packet(client().send(0), silence("message_type")),
        case(
            "2.1 I",
            "options that say which server or address, in another length than 4, are not guessed at",
        )
        .packet(
            client().option(54, &[172, 16, 0]).request(),
            silence("bad_option_length"),
        )
        .packet(client().option(50, &[]).request(), silence("bad_option_length"))
        .packet(client().raw(&[53, 2, 1, 1]).bootp(), silence("bad_option_length")),
        case("2.1 I", "what a reply repeats is not longer than one option").packet(
            client().option(61, &[1; 200]).option(61, &[2; 200]).discover(),
            silence("echoed_option_over_255"),
        ),
        case("2.1 I", "a group's hardware address, and that of nobody, is no host's")
            .packet(with(28, 3), silence("mac_of_no_host"))
            .packet(Client::new(0).discover(), silence("no_pool"))
            .packet(
                {
                    let mut packet = Client::new(0).discover();
                    packet[28] = 0;
                    packet
                },
                silence("mac_of_no_host"),
            ),
        case("2.1 M", "padding between options means nothing").packet(
            client().raw(&[0, 0, 0]).option(93, &[0, 7]).raw(&[0]).discover(),
            offer(OWN).with(67, "ipxe-x86_64.efi"),
        ),
        case("2.1 M", "what follows End is not looked at").packet(
            client().raw(&[255]).option(93, &[0, 7]).discover(),
            offer(OWN).without(67),
        ),
        case(
            "2.3 I",
            "a refusal holds nothing that makes it a request: op 2, the server, the client's identifier",
        )
        .packet(
            client().option(50, &[172, 16, 0, 9]).option(61, b"me").request(),
            nak().at(0, &[2]).with(54, [172, 16, 0, 254]).with(61, b"me"),
        ),
        case("0.1 M", "dhcping as nobody gets its answer, which is no").packet(
            {
                let mut packet = Client::new(0).ciaddr([172, 16, 0, 254]).request();
                packet[28] = 0;
                packet
            },
            nak().to(EVERYONE).with(54, [172, 16, 0, 254]),
        ),
    ]
}
