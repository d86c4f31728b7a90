//! A scripted client and a small site for the tests of this folder.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::{Address, Interface, Node};

use super::boot::Note;
use super::encode::encode;
use super::options::find;
use super::policy::{Policy, Receiving};
use super::reply::{Destination, Reply, ReplyKind};
use super::request::{HEADER, MAGIC_COOKIE};
use crate::config::{Access, Arch, Config, Dhcp, Http, Listener, Loader, Pool, Selector, Service, Subnet, Tftp};
use crate::inventory::{Entry, Snapshot};

/// The server of the test site.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 254);

/// Builds packets.
#[derive(Clone)]
pub(crate) struct Client {
    head: [u8; 240],
    options: Vec<u8>,
}

impl Client {
    /// The client with the MAC `02:00:00:00:00:<number>`, which asks for broadcast replies.
    pub(crate) fn new(number: u8) -> Self {
        let mut head = [0; 240];
        head[..8].copy_from_slice(&[1, 1, 6, 0, 0x11, 0x22, 0x33, 0x44]);
        head[10] = 0x80;
        head[28..34].copy_from_slice(&[2, 0, 0, 0, 0, number]);
        head[236..].copy_from_slice(&MAGIC_COOKIE);
        Self { head, options: vec![] }
    }

    pub(crate) fn option(mut self, code: u8, value: &[u8]) -> Self {
        self.options.push(code);
        self.options.push(value.len() as u8);
        self.options.extend_from_slice(value);
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.options.extend_from_slice(bytes);
        self
    }

    pub(crate) fn unicast(self) -> Self {
        self.head(10, &[0])
    }

    pub(crate) fn ciaddr(self, ip: [u8; 4]) -> Self {
        self.head(12, &ip)
    }

    pub(crate) fn siaddr(self, ip: [u8; 4]) -> Self {
        self.head(20, &ip)
    }

    pub(crate) fn giaddr(self, ip: [u8; 4]) -> Self {
        self.head(24, &ip)
    }

    /// Another hardware address.
    pub(crate) fn chaddr(self, mac: [u8; 6]) -> Self {
        self.head(28, &mac)
    }

    fn head(mut self, at: usize, bytes: &[u8]) -> Self {
        self.head[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn discover(self) -> Vec<u8> {
        self.send(1)
    }

    pub(crate) fn request(self) -> Vec<u8> {
        self.send(3)
    }

    /// The packet with this message type.
    pub(crate) fn send(self, kind: u8) -> Vec<u8> {
        let mut packet = self.head.to_vec();
        packet.extend_from_slice(&[53, 1, kind]);
        packet.extend_from_slice(&self.options);
        packet.push(255);
        packet
    }

    /// The packet without a message type.
    pub(crate) fn bootp(self) -> Vec<u8> {
        let mut packet = self.head.to_vec();
        packet.extend_from_slice(&self.options);
        packet.push(255);
        packet
    }
}

/// A reply that is bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) kind: ReplyKind,
    pub(crate) yiaddr: Ipv4Addr,
    pub(crate) to: Destination,
    pub(crate) server: Ipv4Addr,
    pub(crate) mac: Mac,
    pub(crate) note: Option<Note>,
    pub(crate) packet: Vec<u8>,
}

impl Sent {
    pub(crate) fn of(reply: &Reply<'_>) -> Self {
        let mut packet = Vec::new();
        encode(reply, &mut packet);
        Self {
            kind: reply.kind,
            yiaddr: reply.yiaddr,
            to: reply.to,
            server: reply.server,
            mac: reply.mac,
            note: reply.booting.note,
            packet,
        }
    }

    /// The value of an option.
    pub(crate) fn option(&self, code: u8) -> Option<Vec<u8>> {
        find(&self.packet[HEADER..], code.into()).map(|value| value.into_owned())
    }

    /// Code and value of each option on the wire, in order.
    pub(crate) fn options(&self) -> Vec<(u8, Vec<u8>)> {
        let mut found = Vec::new();
        let mut rest = &self.packet[HEADER..];
        while rest[0] != 255 {
            let length = usize::from(rest[1]);
            found.push((rest[0], rest[2..2 + length].to_vec()));
            rest = &rest[2 + length..];
        }
        found
    }

    pub(crate) fn codes(&self) -> Vec<u8> {
        self.options().into_iter().map(|(code, _)| code).collect()
    }

    /// The boot file in the header.
    pub(crate) fn file(&self) -> &str {
        let field = &self.packet[108..236];
        let end = field.iter().position(|&byte| byte == 0).unwrap();
        std::str::from_utf8(&field[..end]).unwrap()
    }
}

/// Two subnets with pools, loaders for all but 32-bit ARM.
pub(crate) fn config() -> Config {
    let pool = |first: [u8; 4], last: [u8; 4]| {
        Some(Pool {
            first: first.into(),
            last: last.into(),
            lease_time: Duration::from_secs(300),
        })
    };
    let subnet = |network: [u8; 4], server: Ipv4Addr, pool| Subnet {
        network: network.into(),
        prefix: 24,
        routers: vec![server],
        dns: vec![server],
        server: Some(server),
        pool,
        netmask: Some([255, 255, 255, 0].into()),
        options: Default::default(),
    };
    let loader = |arch| {
        let loader = Loader {
            file: PathBuf::from("loader"),
            configured: false,
        };
        (arch, loader)
    };
    Config {
        path: PathBuf::new(),
        interfaces: vec![Selector::Name("eth0".into())],
        address: Some(SERVER),
        state_dir: PathBuf::new(),
        cache_dir: PathBuf::new(),
        dhcp: Dhcp {
            domain: Some("openchami.cluster".into()),
            subnets: vec![
                subnet([172, 16, 0, 0], SERVER, pool([172, 16, 0, 200], [172, 16, 0, 207])),
                subnet(
                    [10, 1, 0, 0],
                    Ipv4Addr::new(10, 1, 0, 254),
                    pool([10, 1, 0, 10], [10, 1, 0, 12]),
                ),
            ],
            ..Dhcp::default()
        },
        dhcp6: None,
        tftp: Tftp {
            serve: true,
            autoexec: true,
            address: None,
            port: 69,
            single_port: false,
            root: PathBuf::new(),
            blksize: 1468,
            windowsize: 16,
            loaders: Arch::ALL
                .into_iter()
                .filter(|arch| *arch != Arch::Arm32Efi)
                .map(loader)
                .collect(),
        },
        http: Http {
            listeners: vec![Listener {
                address: ([0, 0, 0, 0], 8081).into(),
                serve: BTreeSet::from([Service::Boot, Service::Loaders]),
                access: Access::None,
                tls: None,
                trusted_proxies: vec![],
                pace: None,
            }],
            plugin_deadline: Duration::from_secs(5),
        },
        admin_socket: PathBuf::new(),
        auth: Default::default(),
        origins: vec![],
        cache: Default::default(),
        boots: Default::default(),
        plugins: vec![],
        plugin_dirs: vec![],
        compat: Default::default(),
        written: Default::default(),
        dialect: Default::default(),
    }
}

pub(crate) fn policy() -> Policy {
    Policy::new(&config())
}

pub(crate) fn receiving() -> Receiving {
    Receiving {
        addresses: vec![SERVER],
        link: None,
    }
}

/// A compute node with the MAC `02:00:00:00:00:<number>`.
pub(crate) fn node(number: u8, ips: &[&str]) -> Node {
    Node {
        id: format!("x1000c0s0b0n{number}"),
        nid: Some(number.into()),
        kind: "Node".into(),
        enabled: true,
        interfaces: vec![Interface {
            mac: mac(number),
            ips: ips
                .iter()
                .map(|ip| Address {
                    network: String::new(),
                    ip: ip.parse().unwrap(),
                })
                .collect(),
        }],
        options: BTreeMap::new(),
        ..Node::default()
    }
}

pub(crate) fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, number])
}

pub(crate) fn snapshot(nodes: impl IntoIterator<Item = Node>) -> Snapshot {
    let entry = |node| Entry {
        owner: "smd".into(),
        node: Arc::new(node),
    };
    Snapshot::new(1, nodes.into_iter().map(entry).collect())
}

/// The site of the contract: node 1 has 172.16.0.1.
pub(crate) fn site() -> Snapshot {
    snapshot([node(1, &["172.16.0.1"])])
}

/// A small generator of numbers: the same seed gives the same run.
pub(crate) struct Random(u64);

impl Random {
    /// Seeded from `BOOTD_SIM_SEED`, else with a fixed number; the seed is printed, so a failure can be run again.
    pub(crate) fn seeded(default: u64) -> Self {
        let seed = std::env::var("BOOTD_SIM_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or(default);
        println!("BOOTD_SIM_SEED={seed}");
        Self::of(seed)
    }

    pub(crate) fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}
