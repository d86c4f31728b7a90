//! What the fuzzer does with DHCPv6 and router solicitations, and what must hold whatever its bytes are: a reply has the layers of its request,
//! reads to its end, and gives a node its own address only.
//!
//! The target and the replay of the corpus by `cargo test` share this; it panics at a finding.

use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bootd::config::{self, Config, RouterAdvertisement};
use bootd::dhcp::Receiving6;
use bootd::dhcp::router::advertisement::{Dhcp6, encode};
use bootd::dhcp::router::speaker::Speaker;
use bootd::dhcp::v6::rehearsal::{Outcome, Rehearsal};
use bootd::inventory::{Entry, Snapshot};
use bootd::net::Heard;
use bootd_sdk::mac::Mac;
use bootd_sdk::wire::{Address, Interface, Node};

/// Packets, each behind one byte that says from where and what it is, and two with its length. A length that is too much means all that is left.
/// What it is: its own bytes (0), a message to wrap in as many relays as the rest of that byte says (1), neighbour discovery (2).
pub(crate) fn packets(mut bytes: &[u8]) {
    let (config, snapshot) = &*SITE;
    let receiving = Receiving6::of([SERVER]);
    let Some(server) = Rehearsal::new(config, Arc::clone(snapshot), receiving) else {
        panic!("no DHCPv6 in the configuration");
    };
    let says = RouterAdvertisement::default();
    let mut speaker = Speaker::new(encode(&says, Dhcp6::Managed), &says);
    speaker.asked(Duration::ZERO);
    while let [what, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (packet, next) = rest.split_at(length);
        bytes = next;
        let from = [link_local(1), RELAY, link_local(9), Ipv6Addr::UNSPECIFIED][usize::from(what >> 2 & 3)];
        match what & 3 {
            0 => ask(&server, packet, from),
            1 => ask(&server, &relayed(packet, what >> 4), from),
            _ => {
                // Whatever it is, it is no panic, and costs no more than a few routers' names.
                let heard = Heard {
                    message: packet,
                    from,
                    hop_limit: 255,
                };
                let now = Duration::from_secs(u64::from(what >> 4));
                speaker.hear(heard, now);
                speaker.asked(now);
                speaker.is_due(Duration::from_secs(u64::from(*what)));
            }
        }
    }
}

fn ask(server: &Rehearsal, packet: &[u8], from: Ipv6Addr) {
    if let Outcome::Sent { packet: sent, .. } = server.packet(packet, from) {
        good(server, packet, &sent);
    }
}

/// What holds for every reply.
fn good(server: &Rehearsal, packet: &[u8], sent: &[u8]) {
    assert!(
        sent.len() <= packet.len() + 2048,
        "{} bytes for {}",
        sent.len(),
        packet.len()
    );
    let (mut request, mut reply) = (packet, sent);
    let mut relays = 0;
    while request[0] == 12 {
        assert_eq!(reply[0], 13, "a layer is missing");
        assert_eq!(request[1..34], reply[1..34], "a layer is another one");
        let (asked, told) = (options(&request[34..]), options(&reply[34..]));
        for code in [18, 37, 135] {
            assert_eq!(first(&asked, code), first(&told, code), "option {code} of a relay");
        }
        let inner = first(&asked, 9).zip(first(&told, 9));
        (request, reply) = inner.unwrap_or_else(|| panic!("a layer without a message"));
        relays += 1;
    }
    assert!(relays <= 32, "{relays} relays");
    assert!(matches!(reply[0], 2 | 7), "type {}", reply[0]);
    assert_eq!(request[1..4], reply[1..4], "another transaction");
    let (asked, told) = (options(&request[4..]), options(&reply[4..]));
    assert_eq!(first(&asked, 1), first(&told, 1), "another client");
    assert_eq!(first(&told, 2), Some(server.server_id()), "another server");
    let associations = |of: &[(u16, &[u8])]| -> Vec<(u16, Vec<u8>)> {
        let of = of.iter().filter(|(code, _)| matches!(code, 3 | 4 | 25));
        of.map(|(code, value)| (*code, value[..4].to_vec())).collect()
    };
    let given = associations(&told);
    assert!(given.is_empty() || given == associations(&asked), "other associations");
    for (_, value) in told.iter().filter(|(code, _)| *code == 3) {
        for (_, address) in options(&value[12..]).iter().filter(|(code, _)| *code == 5) {
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(&address[..16]).unwrap_or_default());
            let lives = address[16..24].iter().any(|byte| *byte != 0);
            let own = [1, 2].map(|n| [ip_of(0, n), ip_of(1, n)]).concat();
            assert!(!lives || own.contains(&ip), "{ip} is given");
        }
    }
}

/// Code and value of each option; all bytes must be of one.
fn options(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        assert!(bytes.len() >= 4, "{} bytes behind the options", bytes.len());
        let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        found.push((u16::from_be_bytes([bytes[0], bytes[1]]), &bytes[4..4 + length]));
        bytes = &bytes[4 + length..];
    }
    found
}

/// The first value of an option.
fn first<'a>(options: &[(u16, &'a [u8])], code: u16) -> Option<&'a [u8]> {
    options
        .iter()
        .find(|(other, _)| *other == code)
        .map(|(_, value)| *value)
}

/// A message through so many relays, on links that are served or not known.
fn relayed(message: &[u8], relays: u8) -> Vec<u8> {
    let mut packet = message.to_vec();
    for hop in 0..relays * 3 {
        let link = [ip_of(0, 0xfd), Ipv6Addr::UNSPECIFIED, ip_of(1, 0xfd)][usize::from(hop % 3)];
        let mut outer = vec![12, hop];
        outer.extend_from_slice(&link.octets());
        outer.extend_from_slice(&link_local(1).octets());
        outer.extend_from_slice(&[0, 18, 0, 1, hop, 0, 9]);
        outer.extend_from_slice(&u16::try_from(packet.len()).unwrap_or(u16::MAX).to_be_bytes());
        outer.extend_from_slice(&packet);
        packet = outer;
    }
    packet
}

const SERVER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xfe);
const RELAY: Ipv6Addr = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 1);

fn link_local(number: u8) -> Ipv6Addr {
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, number])
}

fn ip_of(subnet: u16, number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00 + subnet, 0, 0, 0, 0, 0, 0, number.into())
}

static SITE: LazyLock<(Config, Arc<Snapshot>)> = LazyLock::new(|| {
    let config = config::parse(CONFIG, Path::new("/etc/bootd/bootd.toml")).unwrap_or_else(|error| panic!("{error:?}"));
    (config, Arc::new(Snapshot::new(1, vec![node(1), node(2)])))
});

const CONFIG: &str = r#"
[server]
interfaces = ["eth0"]
[dhcp]
domain = "openchami.cluster"
[[dhcp.rule]]
user_class = ["rescue*"]
loader = "rescue.efi"
options6 = { "101" = "01" }
[dhcp6]
server_id = "LL 02:00:00:00:00:fe"
unknown = "no-address"
preference = 7
boot_params = ["a", "b=c"]
[[dhcp6.subnet]]
prefix = "fd00::/64"
dns = ["fd00::fe"]
search = ["a.example"]
[[dhcp6.subnet]]
prefix = "fd01::/64"
server = "fd01::fe"
options = { "99" = "0102" }
"#;

/// The node with the MAC `02:00:00:00:00:<number>`, in both subnets.
fn node(number: u8) -> Entry {
    let address = |ip: Ipv6Addr| Address {
        network: String::new(),
        ip: ip.into(),
    };
    let node = Node {
        id: format!("x1000c0s0b0n{number}"),
        nid: Some(number.into()),
        kind: "Node".into(),
        enabled: true,
        interfaces: vec![Interface {
            mac: Mac([2, 0, 0, 0, 0, number]),
            ips: vec![address(ip_of(0, number)), address(ip_of(1, number))],
        }],
        ..Node::default()
    };
    Entry {
        owner: "smd".into(),
        node: Arc::new(node),
    }
}
