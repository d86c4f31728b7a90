//! `compat.strict`: upstream's packets byte for byte, and ours beside them.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::policy::{Policy, Receiving};
use super::super::rehearsal::{Dispatch, Outcome, Rehearsal};
use super::super::reply::{Destination, ReplyKind};
use super::super::testing::{Client, SERVER, node, snapshot};
use crate::config::{self, Config};

/// Configuration B of the contract as it is converted: everything is one subnet.
fn config(strict: bool, more: &str) -> Config {
    let text = format!(
        "[server]\ninterfaces = [\"veth0\"]\naddress = \"172.16.0.254\"\n[compat]\nstrict = {strict}\n[http]\nlistener = []\n\
         [tftp.loaders]\n\"x86_64-efi\" = \"x\"\n\"i386-efi\" = \"x\"\n\
         [dhcp]\ndomain = \"openchami.cluster\"\nscript_url = \"http://172.16.0.254:8081/boot/v1/bootscript\"\n{more}\n\
         [[dhcp.subnet]]\ncidr = \"0.0.0.0/0\"\nnetmask = \"255.255.255.0\"\nrouters = [\"172.16.0.254\"]\ndns = [\"172.16.0.254\"]\n"
    );
    config::parse(&text, Path::new("bootd.toml")).unwrap()
}

fn ask(config: &Config, packet: &[u8]) -> Outcome {
    let nodes = snapshot([node(1, &["172.16.0.1"])]);
    let receiving = Receiving {
        addresses: vec![SERVER],
        link: None,
    };
    Rehearsal::new(config, Arc::new(nodes), receiving).packet(packet)
}

fn sent(config: &Config, packet: &[u8]) -> Dispatch {
    match ask(config, packet) {
        Outcome::Sent(sent) => sent,
        other => panic!("no reply: {other:?}"),
    }
}

fn silence(config: &Config, packet: &[u8]) -> &'static str {
    match ask(config, packet) {
        Outcome::Silence(why) => why,
        other => panic!("not silent: {other:?}"),
    }
}

/// The bytes of contract 2.1, put together by hand.
fn golden(file: &[u8], in_header: &[u8]) -> Vec<u8> {
    let mut packet = vec![2, 1, 6, 0, 0x11, 0x22, 0x33, 0x44, 0, 0, 0x80, 0, 0, 0, 0, 0];
    packet.extend([172, 16, 0, 1, 172, 16, 0, 254, 0, 0, 0, 0]);
    packet.extend([2, 0, 0, 0, 0, 1]);
    packet.resize(108, 0);
    packet.extend(in_header);
    packet.resize(236, 0);
    packet.extend([99, 130, 83, 99]);
    packet.extend([1, 4, 255, 255, 255, 0, 3, 4, 172, 16, 0, 254, 6, 4, 172, 16, 0, 254]);
    packet.extend([12, 25]);
    packet.extend(b"nid0001.openchami.cluster");
    packet.extend([17, 12]);
    packet.extend(b"172.16.0.254");
    packet.extend([
        51,
        4,
        0,
        0,
        0x0e,
        0x10,
        53,
        1,
        2,
        54,
        4,
        172,
        16,
        0,
        254,
        67,
        file.len() as u8,
    ]);
    packet.extend(file);
    packet.push(255);
    packet
}

const URL: &[u8] = b"http://172.16.0.254:8081/boot/v1/bootscript?mac=02:00:00:00:00:01";

#[test]
fn golden_reply_a_is_upstream_s_and_ours_has_the_file_in_the_header_too() {
    let packet = Client::new(1).option(93, &[0, 7]).discover();
    let upstream = sent(&config(true, ""), &packet);
    assert_eq!(upstream.packet, golden(b"ipxe-x86_64.efi", b""));
    assert_eq!(
        (upstream.packet.len(), upstream.envelope.to),
        (332, Destination::Broadcast)
    );
    let ours = sent(&config(false, ""), &packet);
    assert_eq!(ours.packet, golden(b"ipxe-x86_64.efi", b"ipxe-x86_64.efi"));
}

#[test]
fn golden_reply_b_is_upstream_s_and_ours_has_the_file_in_the_header_too() {
    let packet = Client::new(1).option(93, &[0, 7]).option(77, b"iPXE").discover();
    assert_eq!(sent(&config(true, ""), &packet).packet, golden(URL, b""));
    assert_eq!(sent(&config(false, ""), &packet).packet, golden(URL, URL));
}

#[test]
fn upstream_gives_what_it_knows_and_no_more() {
    let upstream = config(true, "");
    let client = Client::new(1).option(55, &[1, 15, 58, 59, 66, 67]).option(97, &[0; 17]);
    let codes = |config: &Config, client: Client| {
        let packet = sent(config, &client.discover()).packet;
        let mut codes = Vec::new();
        let mut rest = &packet[240..];
        while rest[0] != 255 {
            codes.push(rest[0]);
            rest = &rest[2 + usize::from(rest[1])..];
        }
        codes
    };
    assert_eq!(codes(&upstream, client.clone()), [1, 3, 12, 17, 51, 53, 54]);
    assert_eq!(
        codes(&config(false, ""), client),
        [1, 3, 12, 15, 17, 51, 53, 54, 58, 59, 66, 97]
    );
    // RFC 3004, option 175, EBC, and UEFI HTTP Boot.
    let file = |client: Client| codes(&upstream, client).contains(&67);
    assert!(!file(Client::new(1).option(77, b"\x04iPXE")) && !file(Client::new(1).option(175, &[1, 1, 1])));
    assert!(!file(Client::new(1).option(93, &[0, 9])) && !file(Client::new(1).option(93, &[])));
    assert!(!file(Client::new(1).option(93, &[0, 16]).option(60, b"HTTPClient")));
}

#[test]
fn upstream_acknowledges_whatever_is_requested() {
    let (upstream, ours) = (config(true, ""), config(false, ""));
    for client in [
        Client::new(1).option(50, &[172, 16, 0, 9]),
        Client::new(1).option(54, &[10, 9, 9, 9]),
        Client::new(1).option(50, &[1, 1, 1, 1]).option(54, &[10, 9, 9, 9]),
    ] {
        let got = sent(&upstream, &client.clone().request());
        assert_eq!(
            (got.envelope.kind, got.envelope.yiaddr),
            (ReplyKind::Ack, Ipv4Addr::from([172, 16, 0, 1]))
        );
        match ask(&ours, &client.request()) {
            Outcome::Sent(got) => assert_eq!(got.envelope.kind, ReplyKind::Nak),
            other => assert!(matches!(other, Outcome::Silence("other_server"))),
        }
    }
    assert_eq!(
        silence(&upstream, &Client::new(1).siaddr([10, 9, 9, 9]).request()),
        "other_server"
    );
    for kind in [4, 7, 8] {
        let packet = Client::new(1).ciaddr([172, 16, 0, 1]).send(kind);
        assert_eq!(silence(&upstream, &packet), "message_type");
    }
}

#[test]
fn upstream_answers_strangers_without_an_address_and_we_do_not() {
    let packet = Client::new(9).option(93, &[0, 7]).discover();
    let got = sent(&config(true, ""), &packet);
    assert_eq!(
        (got.envelope.yiaddr, got.packet[16..20].to_vec()),
        (Ipv4Addr::from([0; 4]), vec![0; 4])
    );
    assert_eq!(got.packet[240..258], golden(b"", b"")[240..258]);
    assert_eq!(silence(&config(false, ""), &packet), "no_pool");
    let told = "[dhcp.unknown]\nanswer_without_address = true\n";
    let got = sent(&config(false, told), &packet);
    assert_eq!(
        (got.envelope.kind, got.envelope.yiaddr),
        (ReplyKind::Offer, Ipv4Addr::from([0; 4]))
    );
    assert_eq!(
        sent(&config(true, ""), &Client::new(9).request()).envelope.kind,
        ReplyKind::Ack
    );
}

#[test]
fn upstream_s_frames_are_not_padded() {
    let packet = Client::new(1).option(55, &[1]).unicast().discover();
    let upstream = sent(&config(true, "hostnames = {}\n"), &packet);
    assert!(matches!(upstream.envelope.to, Destination::Frame(..)) && upstream.packet.len() < 300);
    assert_eq!(sent(&config(false, "hostnames = {}\n"), &packet).packet.len(), 300);
}

#[test]
fn upstream_without_a_server_id_has_no_address_of_its_own() {
    let mut nameless = config(true, "");
    nameless.address = None;
    nameless.dhcp.subnets.iter_mut().for_each(|subnet| subnet.server = None);
    let got = sent(&nameless, &Client::new(1).discover());
    assert_eq!(got.packet[20..24], [0; 4]);
    let text = String::from_utf8_lossy(&got.packet[240..]).into_owned();
    assert!(text.contains("0.0.0.0") && !text.contains("172.16.0.254"));
    nameless.compat.strict = false;
    assert_eq!(
        sent(&nameless, &Client::new(1).discover()).packet[20..24],
        SERVER.octets()
    );
}

#[test]
fn an_address_that_is_not_to_be_had_is_told_to_who_asks() {
    let auto = "[dhcp.unknown]\nautoconfigure = \"DoNotAutoConfigure\"\n";
    let asks = Client::new(9).option(116, &[1]);
    let got = sent(&config(false, auto), &asks.clone().discover());
    assert_eq!(got.envelope.yiaddr, Ipv4Addr::from([0; 4]));
    assert!(got.packet.windows(3).any(|w| w == [116, 1, 0]));
    assert_eq!(silence(&config(false, auto), &Client::new(9).discover()), "no_pool");
    let only = "ipv6_only = \"30m\"\n";
    let lists = Client::new(1).option(55, &[1, 108]);
    let got = sent(&config(false, only), &lists.discover());
    assert_eq!(got.envelope.yiaddr, Ipv4Addr::from([0; 4]));
    assert!(got.packet.windows(6).any(|w| w == [108, 4, 0, 0, 7, 8]));
    // Who lists nothing has not said so; upstream takes it for that.
    assert_eq!(
        sent(&config(false, only), &Client::new(1).discover()).envelope.yiaddr,
        Ipv4Addr::from([172, 16, 0, 1])
    );
    assert_eq!(
        sent(&config(true, only), &Client::new(1).discover()).envelope.yiaddr,
        Ipv4Addr::from([0; 4])
    );
}

#[test]
fn a_relay_in_no_other_subnet_gets_any_address_and_a_subnet_only_its_own() {
    let text = "[[dhcp.subnet]]\ncidr = \"10.1.0.0/24\"\n";
    let config = config(false, text);
    let from = |ip: [u8; 4]| Client::new(1).giaddr(ip).discover();
    assert_eq!(
        sent(&config, &from([192, 168, 5, 1])).envelope.yiaddr,
        Ipv4Addr::from([172, 16, 0, 1])
    );
    assert!(matches!(
        ask(&config, &from([10, 1, 0, 1])),
        Outcome::Silence("no_pool")
    ));
    // The relay's own wish for a server identifier (RFC 5107) holds for the request, too.
    let wish = [11, 4, 192, 168, 5, 1];
    let got = sent(
        &config,
        &Client::new(1).giaddr([192, 168, 5, 1]).option(82, &wish).discover(),
    );
    assert!(got.packet.windows(6).any(|w| w == [54, 4, 192, 168, 5, 1]));
    assert_eq!(got.packet[20..24], SERVER.octets());
    let request = Client::new(1).giaddr([192, 168, 5, 1]).option(54, &[192, 168, 5, 1]);
    assert_eq!(
        sent(&config, &request.clone().option(82, &wish).request())
            .envelope
            .kind,
        ReplyKind::Ack
    );
    assert_eq!(silence(&config, &request.request()), "other_server");
}

#[test]
fn nbp_is_the_boot_file_of_who_has_no_other() {
    let config = config(
        false,
        "nbp = \"tftp://10.0.0.1:6969/pxe/l.0\"\n[dhcp.unknown]\nanswer_without_address = true\n",
    );
    let text = |packet: &[u8]| String::from_utf8_lossy(&sent(&config, packet).packet[240..]).into_owned();
    let node = text(&Client::new(1).discover());
    assert!(node.contains("10.0.0.1:6969") && node.contains("/pxe/l.0"), "{node}");
    assert!(!text(&Client::new(1).option(93, &[0, 7]).discover()).contains("/pxe/l.0"));
    assert!(text(&Client::new(9).option(93, &[0, 7]).discover()).contains("/pxe/l.0"));
    assert!(!text(&Client::new(9).option(55, &[1]).discover()).contains("/pxe/l.0"));
}

#[test]
fn a_script_s_url_may_have_a_query_already() {
    let url = |strict| {
        let mut config = config(strict, "");
        config.dhcp.script_url = Some("http://h/s?x=1".into());
        Policy::new(&config).script_url.unwrap()
    };
    assert_eq!(url(false), "http://h/s?x=1&mac=");
    assert_eq!(url(true), "http://h/s?x=1?mac=");
}

#[test]
fn a_host_of_the_file_has_its_address_and_the_inventory_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hosts");
    std::fs::write(&file, "02:00:00:00:00:09 172.16.0.99\n02:00:00:00:00:01 172.16.0.98\n").unwrap();
    let mut config = config(false, "");
    let settings = |before_inventory| config::Hosts {
        file: file.clone(),
        refresh: false,
        lease_time: Duration::from_secs(600),
        before_inventory,
    };
    config.dhcp.hosts = Some(settings(false));
    let ip = |config: &Config, number| sent(config, &Client::new(number).discover()).envelope.yiaddr;
    assert_eq!(
        (ip(&config, 9), ip(&config, 1)),
        (Ipv4Addr::from([172, 16, 0, 99]), Ipv4Addr::from([172, 16, 0, 1]))
    );
    let got = sent(&config, &Client::new(9).discover());
    assert!(got.packet.windows(6).any(|w| w == [51, 4, 0, 0, 2, 0x58]));
    config.dhcp.hosts = Some(settings(true));
    assert_eq!(ip(&config, 1), Ipv4Addr::from([172, 16, 0, 98]));
}

#[test]
fn upstream_s_bootloop_gives_loader_and_script_and_its_range_neither() {
    let pool = "pool = { first = \"172.16.0.200\", last = \"172.16.0.202\" }\n";
    let with = |unknown: &str| {
        let text = format!(
            "[server]\ninterfaces = [\"veth0\"]\naddress = \"172.16.0.254\"\n[compat]\nstrict = true\n{unknown}\
             [tftp.loaders]\n\"x86_64-efi\" = \"x\"\n[[dhcp.subnet]]\ncidr = \"0.0.0.0/0\"\nnetmask = \"255.255.255.0\"\n{pool}"
        );
        config::parse(&text, Path::new("bootd.toml")).unwrap()
    };
    let nodes = || Arc::new(snapshot([]));
    let receiving = || Receiving {
        addresses: vec![SERVER],
        ..Receiving::default()
    };
    let ask = |server: &mut Rehearsal, client: Client| match server.packet(&client.discover()) {
        Outcome::Sent(sent) => (
            sent.envelope.kind,
            String::from_utf8_lossy(&sent.packet[240..]).into_owned(),
        ),
        other => panic!("no reply: {other:?}"),
    };
    let firmware = || Client::new(9).option(93, &[0, 7]);
    let ipxe = || Client::new(9).option(77, b"iPXE");
    let mut bootloop = Rehearsal::new(&with("[dhcp.unknown]\nscript = \"default\"\n"), nodes(), receiving());
    assert!(ask(&mut bootloop, firmware()).1.contains("ipxe-x86_64.efi"));
    assert!(ask(&mut bootloop, ipxe()).1.contains("default"));
    // The user class in the form of RFC 3004 is nobody's that upstream knows.
    assert_eq!(
        ask(&mut bootloop, Client::new(9).option(77, b"\x04iPXE")).0,
        ReplyKind::Nak
    );
    let mut range = Rehearsal::new(&with(""), nodes(), receiving());
    for client in [firmware(), ipxe()] {
        let (kind, text) = ask(&mut range, client);
        assert_eq!(kind, ReplyKind::Offer);
        assert!(!text.contains("ipxe") && !text.contains("bootscript"), "{text}");
    }
}
