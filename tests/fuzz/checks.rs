//! What the fuzzer does with its bytes, and what must hold whatever they are.
//!
//! The targets in `fuzz_targets` and the replay of the corpus by `cargo test` share these functions; each panics at a finding.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bootd::config::{self, Config};
use bootd::dhcp::v4::options::{self, Ends};
use bootd::dhcp::v4::policy::Receiving;
use bootd::dhcp::v4::rehearsal::{Dispatch, Outcome, Rehearsal};
use bootd::dhcp::v4::reply::{Destination, ReplyKind};
use bootd::dhcp::v4::request::HEADER;
use bootd::inventory::{Entry, Snapshot};
use bootd_sdk::mac::Mac;
use bootd_sdk::wire::{Address, Interface, Node};

/// A conversation: packets, each behind one byte with the time that passes before it, in quarters of a minute, and two with its length.
/// A length that is too much means all that is left.
pub(crate) fn dhcp4(mut bytes: &[u8]) {
    let mut server = server();
    while let [time, high, low, rest @ ..] = bytes {
        server.pass(Duration::from_secs(15) * u32::from(*time));
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (packet, next) = rest.split_at(length);
        if let Outcome::Sent(reply) = server.packet(packet) {
            good(packet, &reply);
        }
        bytes = next;
    }
}

/// Option 82 of a packet that is well formed otherwise, from a node and from a stranger, through a relay and without one.
pub(crate) fn relay_options(bytes: &[u8]) {
    let mut server = server();
    for relay in [[0; 4], [172, 16, 0, 9], [10, 1, 0, 9], [192, 0, 2, 9]] {
        for (number, kind) in [(1, 1), (1, 3), (9, 1), (9, 3)] {
            let packet = relayed(relay, number, kind, bytes);
            let Outcome::Sent(reply) = server.packet(&packet) else {
                continue;
            };
            good(&packet, &reply);
            let echoed = options::find(&reply.packet[HEADER..], 82.into());
            assert_eq!(
                echoed.as_deref(),
                Some(bytes),
                "the relay's option came back as another one"
            );
        }
    }
}

/// The text of a coredhcp.yaml: it is refused with its mistakes, or comes to a configuration that is good.
pub(crate) fn coredhcp_yaml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match config::coredhcp::read(text) {
        Ok(understood) => {
            if let Err(error) = config::parse(&understood.toml, Path::new("/etc/coredhcp/config.yaml")) {
                panic!("what it comes to is refused: {error:?}\n{}", understood.toml);
            }
        }
        Err(mistakes) => assert!(!mistakes.is_empty(), "refused without a mistake"),
    }
}

/// What holds for every reply.
fn good(packet: &[u8], reply: &Dispatch) {
    let sent = &reply.packet;
    assert!((300..=1472).contains(&sent.len()), "a reply of {} bytes", sent.len());
    assert_eq!((sent[0], sent[3]), (2, 0), "op or hops");
    assert_eq!(sent[1..3], packet[1..3], "htype or hlen is another one");
    assert_eq!(sent[4..8], packet[4..8], "xid is another one");
    assert_eq!(sent[24..28], packet[24..28], "giaddr is another one");
    assert_eq!(sent[28..44], packet[28..44], "chaddr is another one");
    let mut codes = Vec::new();
    let mut values: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    let ends = options::read(&sent[HEADER..], |code, part| {
        codes.push(code);
        values.entry(code).or_default().extend_from_slice(part);
    });
    assert_eq!(ends, Ok(Ends::AtEnd), "the options cannot be read again");
    let places: Vec<u16> = codes
        .iter()
        .map(|&code| if code == 82 { 256 } else { code.into() })
        .collect();
    assert!(places.is_sorted(), "options are not in order: {codes:?}");
    let kind = match reply.envelope.kind {
        ReplyKind::Offer => 2,
        ReplyKind::Ack => 5,
        ReplyKind::Nak => 6,
    };
    assert_eq!(values.get(&53), Some(&vec![kind]), "option 53");
    assert_eq!(values.get(&54).map(Vec::len), Some(4), "option 54");
    let yours = Ipv4Addr::new(sent[16], sent[17], sent[18], sent[19]);
    assert_eq!(yours, reply.envelope.yiaddr);
    let served = [[172, 16, 0], [10, 1, 0]].contains(&[sent[16], sent[17], sent[18]]);
    match reply.envelope.kind {
        ReplyKind::Offer => assert!(served, "{yours} is offered"),
        ReplyKind::Ack => assert!(served || yours.is_unspecified(), "{yours} is acknowledged"),
        ReplyKind::Nak => assert!(yours.is_unspecified(), "{yours} in a NAK"),
    }
    // Nothing leaves for an address outside of the served subnets, whatever the packet names.
    let (Destination::Unicast(to) | Destination::Relay(to, _) | Destination::Frame(to, _)) = reply.envelope.to else {
        return;
    };
    let [a, b, c, d] = to.octets();
    let host = d != 0 && d != 255 && d != 254;
    assert!(host && [[172, 16, 0], [10, 1, 0]].contains(&[a, b, c]), "sent to {to}");
}

fn relayed(relay: [u8; 4], number: u8, kind: u8, agent: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 236];
    packet[..8].copy_from_slice(&[1, 1, 6, 1, 0x11, 0x22, 0x33, 0x44]);
    packet[24..28].copy_from_slice(&relay);
    packet[28..34].copy_from_slice(&[2, 0, 0, 0, 0, number]);
    packet.extend_from_slice(&[99, 130, 83, 99, 53, 1, kind]);
    for part in agent.chunks(255) {
        packet.push(82);
        packet.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
        packet.extend_from_slice(part);
    }
    if agent.is_empty() {
        packet.extend_from_slice(&[82, 0]);
    }
    packet.push(255);
    packet
}

/// A new server of a small site.
fn server() -> Rehearsal {
    let (config, snapshot) = &*SITE;
    let receiving = Receiving {
        addresses: vec![Ipv4Addr::new(172, 16, 0, 254)],
        link: Some((2, Mac([2, 0, 0, 0, 0, 0xfe]))),
    };
    Rehearsal::new(config, Arc::clone(snapshot), receiving)
}

static SITE: LazyLock<(Config, Arc<Snapshot>)> = LazyLock::new(|| {
    let config = config::parse(CONFIG, Path::new("/etc/bootd/bootd.toml")).unwrap_or_else(|error| panic!("{error:?}"));
    (config, Arc::new(Snapshot::new(1, vec![node(1), node(2)])))
});

const CONFIG: &str = r#"
[server]
interfaces = ["eth0"]
address = "172.16.0.254"
[dhcp]
domain = "openchami.cluster"
[[dhcp.subnet]]
cidr = "172.16.0.0/24"
routers = ["172.16.0.254"]
dns = ["172.16.0.254"]
pool = { first = "172.16.0.200", last = "172.16.0.202", lease_time = "5m" }
[[dhcp.subnet]]
cidr = "10.1.0.0/24"
routers = ["10.1.0.254"]
server = "10.1.0.254"
pool = { first = "10.1.0.10", last = "10.1.0.12", lease_time = "5m" }
"#;

/// The node with the MAC `02:00:00:00:00:<number>`, in both subnets.
fn node(number: u8) -> Entry {
    let address = |ip: [u8; 4]| Address {
        network: String::new(),
        ip: Ipv4Addr::from(ip).into(),
    };
    let node = Node {
        id: format!("x1000c0s0b0n{number}"),
        nid: Some(number.into()),
        kind: "Node".into(),
        enabled: true,
        interfaces: vec![Interface {
            mac: Mac([2, 0, 0, 0, 0, number]),
            ips: vec![address([172, 16, 0, number]), address([10, 1, 0, number])],
        }],
        // One in the middle of ours, one behind them, one that is too long for one piece.
        options: [
            (43, "0104".to_owned()),
            (224, "00ff".to_owned()),
            (230, "5a".repeat(300)),
        ]
        .into(),
        ..Node::default()
    };
    Entry {
        owner: "smd".into(),
        node: Arc::new(node),
    }
}
