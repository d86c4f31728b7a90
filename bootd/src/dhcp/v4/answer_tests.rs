//! The decisions for nodes of the inventory, as packets in and packets out. Replies are read back with dhcproto, an independent decoder.

use dhcproto::{Decodable, Decoder, v4};

use super::super::boot::Note;
use super::super::encode::MINIMUM;
use super::super::reply::Destination;
use super::super::request::parse;
use super::super::testing::{Client, SERVER, Sent, mac, node, policy, receiving, site, snapshot};
use super::*;

/// A verdict that borrows nothing.
#[derive(Debug, PartialEq, Eq)]
enum Decided {
    Reply(Sent),
    Nak(Sent, NakWhy),
    Unknown(Mac, Missing),
    Ignore(Why),
}

fn decide(packet: &[u8], snapshot: &Snapshot) -> Decided {
    match answer(&parse(packet).unwrap(), &policy(), snapshot, &receiving()) {
        Verdict::Reply(reply) => Decided::Reply(Sent::of(&reply)),
        Verdict::Nak(reply, why) => Decided::Nak(Sent::of(&reply), why),
        Verdict::Unknown(mac, missing) => Decided::Unknown(mac, missing),
        Verdict::Ignore(why) => Decided::Ignore(why),
        other => panic!("only pools have leases: {other:?}"),
    }
}

fn reply(packet: &[u8], snapshot: &Snapshot) -> Sent {
    match decide(packet, snapshot) {
        Decided::Reply(reply) => reply,
        other => panic!("no reply: {other:?}"),
    }
}

fn golden(boot_file: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let server = SERVER.octets().to_vec();
    vec![
        (1, vec![255, 255, 255, 0]),
        (3, server.clone()),
        (6, server.clone()),
        (12, b"nid0001.openchami.cluster".to_vec()),
        (17, b"172.16.0.254".to_vec()),
        (51, 3600u32.to_be_bytes().to_vec()),
        (53, vec![2]),
        (54, server),
        (67, boot_file.to_vec()),
    ]
}

#[test]
fn golden_reply_a_a_firmware_gets_its_loader() {
    let reply = reply(&Client::new(1).option(93, &[0, 7]).discover(), &site());
    let packet = &reply.packet;
    let header = [2, 1, 6, 0, 0x11, 0x22, 0x33, 0x44, 0, 0, 0x80, 0, 0, 0, 0, 0];
    assert_eq!(packet[..16], header);
    assert_eq!(packet[16..28], [172, 16, 0, 1, 172, 16, 0, 254, 0, 0, 0, 0]);
    assert_eq!(packet[28..44], [2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(packet[44..108], [0; 64]);
    // More than upstream: the boot file is in the header too.
    assert_eq!(packet[108..123], *b"ipxe-x86_64.efi");
    assert_eq!(packet[123..236], [0; 113]);
    assert_eq!(reply.options(), golden(b"ipxe-x86_64.efi"));
    assert_eq!(packet.len(), 332);
    assert_eq!(reply.to, Destination::Broadcast);
    let decoded = v4::Message::decode(&mut Decoder::new(packet)).unwrap();
    assert_eq!(decoded.opts().msg_type(), Some(v4::MessageType::Offer));
    assert_eq!(decoded.yiaddr(), Ipv4Addr::new(172, 16, 0, 1));
}

#[test]
fn golden_reply_b_ipxe_gets_its_boot_script() {
    let url = b"http://172.16.0.254:8081/boot/v1/bootscript?mac=02:00:00:00:00:01";
    let client = Client::new(1).option(93, &[0, 7]).option(77, b"iPXE");
    let reply = reply(&client.discover(), &site());
    assert_eq!(reply.options(), golden(url));
    assert_eq!(reply.file().as_bytes(), url);
}

#[test]
fn a_request_is_acknowledged_with_or_without_an_offer_before() {
    for client in [
        Client::new(1),
        Client::new(1).option(50, &[172, 16, 0, 1]),
        Client::new(1).option(50, &[172, 16, 0, 1]).option(54, &SERVER.octets()),
        Client::new(1).siaddr(SERVER.octets()),
        Client::new(1).ciaddr([172, 16, 0, 1]),
    ] {
        let reply = reply(&client.request(), &site());
        assert_eq!(reply.kind, ReplyKind::Ack);
        assert_eq!(reply.yiaddr, Ipv4Addr::new(172, 16, 0, 1));
    }
}

#[test]
fn a_request_for_another_address_is_refused_so_that_the_client_begins_again() {
    for client in [
        Client::new(1).option(50, &[172, 16, 0, 9]),
        Client::new(1).ciaddr([172, 16, 0, 201]),
    ] {
        let client = client.option(61, &[1, 2]).option(82, &[1, 1, 9]);
        let Decided::Nak(nak, NakWhy::OtherAddress) = decide(&client.request(), &site()) else {
            panic!("no NAK");
        };
        assert_eq!(nak.to, Destination::Broadcast);
        assert_eq!(nak.packet[0], 2);
        assert_eq!(nak.packet[16..24], [0; 8]);
        let server = SERVER.octets().to_vec();
        let expected = vec![(53, vec![6]), (54, server), (61, vec![1, 2]), (82, vec![1, 1, 9])];
        assert_eq!(nak.options(), expected);
    }
}

#[test]
fn a_refusal_through_a_relay_asks_it_to_broadcast() {
    let nodes = snapshot([node(1, &["10.1.0.1"])]);
    let client = Client::new(1)
        .unicast()
        .giaddr([10, 1, 0, 253])
        .option(50, &[10, 1, 0, 9]);
    let Decided::Nak(nak, _) = decide(&client.request(), &nodes) else {
        panic!("no NAK");
    };
    assert_eq!(nak.to, Destination::Relay(Ipv4Addr::new(10, 1, 0, 253), 67));
    assert_eq!(nak.packet[10..12], [0x80, 0]);
    assert_eq!(nak.packet[24..28], [10, 1, 0, 253]);
}

#[test]
fn silence_has_its_reason() {
    for (packet, why) in [
        (Client::new(1).option(54, &[172, 16, 0, 3]).request(), Why::OtherServer),
        (Client::new(1).siaddr([172, 16, 0, 3]).discover(), Why::OtherServer),
        (Client::new(1).send(7), Why::Released),
        (Client::new(1).option(50, &[172, 16, 0, 1]).send(4), Why::Conflict),
        (Client::new(1).send(8), Why::InformFromElsewhere),
        (Client::new(1).ciaddr([8, 8, 8, 8]).send(8), Why::InformFromElsewhere),
        (Client::new(1).send(2), Why::MessageType),
        (Client::new(1).bootp(), Why::Bootp),
        (Client::new(1).giaddr([192, 168, 1, 1]).discover(), Why::RelayNotServed),
    ] {
        assert_eq!(decide(&packet, &site()), Decided::Ignore(why));
    }
    let mut packet = Client::new(1).discover();
    packet[2] = 0;
    assert_eq!(decide(&packet, &site()), Decided::Ignore(Why::NoMac));
}

#[test]
fn inform_is_answered_without_address_and_lease_time() {
    let reply = reply(&Client::new(1).ciaddr([172, 16, 0, 1]).send(8), &site());
    assert_eq!((reply.kind, reply.yiaddr), (ReplyKind::Ack, Ipv4Addr::UNSPECIFIED));
    assert_eq!(reply.to, Destination::Unicast(Ipv4Addr::new(172, 16, 0, 1)));
    assert!(reply.option(51).is_none() && reply.option(1).is_some());
}

#[test]
fn each_reply_goes_where_the_client_hears_it() {
    let own = Ipv4Addr::new(172, 16, 0, 1);
    for (client, to) in [
        (Client::new(1), Destination::Broadcast),
        (Client::new(1).unicast(), Destination::Frame(own, mac(1))),
        (Client::new(1).ciaddr(own.octets()), Destination::Unicast(own)),
        (
            Client::new(1).ciaddr(own.octets()).giaddr([172, 16, 0, 9]),
            Destination::Relay([172, 16, 0, 9].into(), 67),
        ),
    ] {
        assert_eq!(reply(&client.request(), &site()).to, to);
    }
}

#[test]
fn who_asks_for_an_address_has_none_whatever_its_packet_says() {
    for used in [[8, 8, 8, 8], [172, 16, 0, 1], [172, 16, 0, 66], [10, 1, 0, 1], [255; 4]] {
        let known = reply(&Client::new(1).ciaddr(used).discover(), &site());
        assert_eq!(known.to, Destination::Broadcast);
        let known = reply(&Client::new(1).unicast().ciaddr(used).discover(), &site());
        assert_eq!(known.to, Destination::Frame([172, 16, 0, 1].into(), mac(1)));
    }
}

#[test]
fn nothing_is_sent_to_an_address_that_is_not_a_hosts_in_a_served_subnet() {
    for used in [
        [172, 16, 0, 255],
        [172, 16, 0, 0],
        [255; 4],
        [127, 0, 0, 1],
        SERVER.octets(),
    ] {
        let inform = Client::new(1).ciaddr(used).send(8);
        assert_eq!(decide(&inform, &site()), Decided::Ignore(Why::InformFromElsewhere));
    }
    let link = [5, 4, 172, 16, 0, 1];
    for (relay, why) in [
        ([255; 4], Why::BadRelay),
        ([127, 0, 0, 1], Why::BadRelay),
        ([224, 0, 0, 1], Why::BadRelay),
        ([0, 0, 0, 1], Why::BadRelay),
        ([172, 16, 0, 255], Why::BadRelay),
        ([172, 16, 0, 0], Why::BadRelay),
        (SERVER.octets(), Why::BadRelay),
        ([8, 8, 8, 8], Why::RelayNotServed),
    ] {
        for kind in [1, 3, 8] {
            // Link selection does not make another address a relay's, nor does being a stranger.
            for number in [1, 9] {
                let client = Client::new(number).giaddr(relay).ciaddr([172, 16, 0, 1]);
                assert_eq!(
                    decide(&client.option(82, &link).send(kind), &site()),
                    Decided::Ignore(why)
                );
            }
        }
    }
}

#[test]
fn the_list_of_wanted_options_is_honoured() {
    let codes = |client: Client| reply(&client.discover(), &site()).codes();
    let always = [1, 3, 12, 17, 51, 53, 54];
    assert_eq!(codes(Client::new(1).option(55, &[1])), always);
    assert_eq!(codes(Client::new(1)), [1, 3, 6, 12, 17, 51, 53, 54]);
    assert_eq!(
        codes(Client::new(1).option(55, &[6, 15, 58, 59, 66])),
        [1, 3, 6, 12, 15, 17, 51, 53, 54, 58, 59, 66]
    );
}

#[test]
fn what_relay_and_client_sent_comes_back_byte_for_byte_and_last() {
    let agent = [1, 2, 9, 9, 250, 0];
    let client = Client::new(1)
        .option(82, &agent)
        .option(61, &[0; 19])
        .option(93, &[0, 0]);
    let reply = reply(&client.giaddr([172, 16, 0, 9]).discover(), &site());
    let options = reply.options();
    assert_eq!(options.last(), Some(&(82, agent.to_vec())));
    assert!(options.contains(&(61, vec![0; 19])));
}

#[test]
fn the_address_is_the_one_of_the_clients_subnet() {
    let nodes = snapshot([node(1, &["fd00::1", "192.168.7.7", "10.1.0.1", "172.16.0.1"])]);
    let ip = |client: Client| reply(&client.discover(), &nodes).yiaddr;
    assert_eq!(ip(Client::new(1)), Ipv4Addr::new(172, 16, 0, 1));
    assert_eq!(ip(Client::new(1).giaddr([10, 1, 0, 7])), Ipv4Addr::new(10, 1, 0, 1));
    assert_eq!(
        ip(Client::new(1).giaddr([172, 16, 0, 9]).option(82, &[5, 4, 10, 1, 0, 0])),
        Ipv4Addr::new(10, 1, 0, 1)
    );
    // A renewal is not relayed.
    let renewal = reply(&Client::new(1).ciaddr([10, 1, 0, 1]).request(), &nodes);
    assert_eq!(renewal.yiaddr, Ipv4Addr::new(10, 1, 0, 1));
    assert_eq!(renewal.server, Ipv4Addr::new(10, 1, 0, 254));
}

#[test]
fn a_node_without_an_address_here_and_a_stranger_are_not_for_the_inventory() {
    let nodes = snapshot([
        node(1, &["10.1.0.1"]),
        node(2, &["fd00::2", "192.168.7.7"]),
        node(3, &[]),
    ]);
    let relayed = Client::new(1).giaddr([172, 16, 0, 9]).discover();
    assert_eq!(decide(&relayed, &nodes), Decided::Unknown(mac(1), Missing::Address));
    for number in [2, 3] {
        let verdict = decide(&Client::new(number).discover(), &nodes);
        assert_eq!(verdict, Decided::Unknown(mac(number), Missing::Address));
    }
    let verdict = decide(&Client::new(9).discover(), &nodes);
    assert_eq!(verdict, Decided::Unknown(mac(9), Missing::Mac));
}

#[test]
fn only_nodes_have_a_host_name() {
    let mut bmc = node(1, &["172.16.0.1"]);
    bmc.kind = "NodeBMC".into();
    let reply = reply(&Client::new(1).discover(), &snapshot([bmc]));
    assert_eq!(reply.option(12), None);
}

#[test]
fn options_of_a_node_add_and_replace_but_never_break_the_protocol() {
    let mut special = node(1, &["172.16.0.1"]);
    special.options = [
        (3, "ac100001"),
        (67, "6f776e"),
        (224, "00:ff"),
        (225, "zz"),
        (226, "abc"),
        (51, "00000001"),
        (53, "06"),
        (54, "01020304"),
        (52, "03"),
        (0, ""),
        (255, ""),
    ]
    .into_iter()
    .map(|(code, hex)| (code, hex.to_owned()))
    .collect();
    special.options.insert(230, "5a".repeat(300));
    let reply = reply(&Client::new(1).option(93, &[0, 7]).discover(), &snapshot([special]));
    assert_eq!(reply.option(3), Some(vec![172, 16, 0, 1]));
    assert_eq!(reply.option(224), Some(vec![0, 255]));
    assert_eq!(reply.file(), "own");
    assert_eq!(reply.codes(), [1, 3, 6, 12, 17, 51, 53, 54, 67, 224, 230, 230]);
    assert_eq!(reply.option(51), Some(3600u32.to_be_bytes().to_vec()));
}

#[test]
fn http_boot_is_told_that_it_speaks_to_an_http_server() {
    let client = Client::new(1)
        .option(93, &[0, 16])
        .option(60, b"HTTPClient:Arch:00016:UNDI:003001");
    let reply = reply(&client.discover(), &site());
    assert_eq!(reply.option(60).as_deref(), Some(&b"HTTPClient"[..]));
    let url = &b"http://172.16.0.254:8081/loaders/ipxe-x86_64.efi"[..];
    assert_eq!(reply.option(67).as_deref(), Some(url));
}

#[test]
fn a_short_reply_is_filled_up() {
    let Decided::Nak(nak, _) = decide(&Client::new(1).option(50, &[1; 4]).request(), &site()) else {
        panic!("no NAK");
    };
    assert_eq!(nak.packet.len(), MINIMUM);
}

#[test]
fn a_boot_file_too_long_for_the_header_stays_in_its_option() {
    let mut special = node(1, &["172.16.0.1"]);
    special.boot.script = Some(format!("http://172.16.0.254/{}", "a".repeat(300)));
    let reply = reply(&Client::new(1).option(77, b"iPXE").discover(), &snapshot([special]));
    assert_eq!(reply.file(), "");
    assert_eq!(reply.option(67).map(|value| value.len()), Some(320));
    assert!(reply.packet.len() > MINIMUM);
}

#[test]
fn an_architecture_of_one_byte_does_not_stop_the_answer() {
    for value in [&[][..], &[7]] {
        let reply = reply(&Client::new(1).option(93, value).discover(), &site());
        assert_eq!((reply.kind, reply.option(67)), (ReplyKind::Offer, None));
        assert_eq!(reply.note, Some(Note::ArchTooShort));
    }
}
