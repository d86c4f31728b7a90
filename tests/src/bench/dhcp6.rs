//! `dhcp6`: whole exchanges of DHCPv6 (SOLICIT, ADVERTISE, REQUEST, REPLY) through a relay, in a closed loop, for nodes that have their addresses; and those
//! of IPv4 by the same bootd in the same run, beside which they are shown.
//!
//! Generator and server have a processor each. The families take turns; medians of the rounds are shown. The generator sends and receives with the
//! calls that bootd uses, looks at each answer, and never sleeps.

use std::fs;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bootd::net::{Incoming, Interface, UdpPort6};
use bootd_tests::network::ip;
use bootd_tests::wire6::{ADVERTISE, RELAY_FORW, REPLY, REQUEST, SOLICIT, option};
use bootd_tests::{eventually, tail};

use super::appliance::median;
use super::dhcp_servers::{self as servers, START, Server};
use super::generator::{self, Expect, Load, Outcome};
use super::relay::Wire;
use super::site::{self, NODES};
use super::{Options, Table, pin, shown};

/// Measures both families.
pub fn run(options: &Options) -> Result<Table> {
    let wire = Wire::up()?;
    ip(&format!("addr add {SERVER}/64 dev eth0 nodad"))?;
    wire.command_at_relay(&["ip", "addr", "add", &format!("{RELAY}/64"), "dev", "relay0", "nodad"])
        .status()
        .context("the relay's address")?;
    let mut server = start(&wire.folder)?;
    let mut table = Table::new(
        format!("dhcp6: {NODES} nodes with addresses of both families, closed loop through a relay, one bootd"),
        &[
            "family",
            "in flight",
            "exchanges/s",
            "of IPv4",
            "p50",
            "p99",
            "p99.9",
            "lost",
            "wrong",
        ],
    );
    let load = |in_flight, time| Load {
        in_flight,
        rate: None,
        time,
        expect: Expect::OwnAddress,
        strangers: None,
    };
    let measure = |family, load: &Load| {
        wire.at_relay(|| {
            pin(None, GENERATOR_PROCESSOR)?;
            match family {
                Family::V4 => generator::run(load),
                Family::V6 => run6(load),
            }
        })
    };
    let told = || tail(&wire.folder.join("log"), 10);
    for family in [Family::V4, Family::V6] {
        let first = load(1, Duration::from_millis(100));
        eventually(START, "the server answers", || match server.must_run() {
            Ok(()) => measure(family, &first).ok().map(Ok),
            Err(error) => Some(Err(error)),
        })
        .and_then(|answered| answered)
        .with_context(told)?;
    }
    server.pin(SERVER_PROCESSOR)?;
    let (rounds, time) = match options.short {
        true => (1, Duration::from_secs(1)),
        false => (5, Duration::from_secs(5)),
    };
    for in_flight in options
        .in_flight
        .map_or(vec![64, MOST], |number| vec![number.min(MOST)])
    {
        let load = load(in_flight, time);
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            v4.push(measure(Family::V4, &load).with_context(told)?);
            v6.push(measure(Family::V6, &load).with_context(told)?);
        }
        let rate = |all: &[Outcome]| median(all.iter().map(Outcome::rate).collect());
        let of = rate(&v4);
        for (name, all) in [("IPv4", &v4), ("IPv6", &v6)] {
            let share = |at: f64| median(all.iter().map(|one| one.times.share(at).as_secs_f64()).collect());
            let time = |at| shown(Duration::from_secs_f64(share(at)));
            table.row([
                name.into(),
                in_flight.to_string(),
                format!("{:.0}", rate(all)),
                format!("{:.2}", rate(all) / of),
                time(0.5),
                time(0.99),
                time(0.999),
                all.iter().map(|one| one.lost).sum::<u64>().to_string(),
                all.iter().map(|one| one.wrong).sum::<u64>().to_string(),
            ]);
        }
    }
    table.notes.push(format!(
        "Medians of {rounds} round(s) of {} s, by turns.",
        time.as_secs_f64()
    ));
    Ok(table)
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

fn start(folder: &Path) -> Result<Server> {
    let mut nodes = String::from("nodes:\n");
    for n in 0..NODES {
        nodes.push_str(&format!(
            "- name: compute{n}\n  nid: {}\n  xname: {}\n  group: compute\n  interfaces:\n  - mac_addr: {}\n    ip_addrs:\n    \
             - name: management\n      ip_addr: {}\n    - name: management6\n      ip_addr: {}\n",
            n + 1,
            site::xname(n),
            site::mac_text(n),
            site::ip(n),
            ip6(n)
        ));
    }
    fs::write(folder.join("nodes.yaml"), nodes)?;
    let more = format!(
        "[dhcp6]\n[[dhcp6.subnet]]\nprefix = \"fd00:1::/64\"\ndns = [\"{SERVER}\"]\n\
         [[plugin]]\nname = \"smd\"\nconfig.nodes = \"{}/nodes.yaml\"\n",
        folder.display()
    );
    let config = site::config_text(folder, &more).replace("0.0.0.0:8081", "[::]:8081");
    Ok(Server::Process(servers::bootd_with(folder, &config)?))
}

/// A closed loop of DHCPv6, from the relay's namespace.
fn run6(load: &Load) -> Result<Outcome> {
    let port = UdpPort6::open(&Interface::find("relay0")?, 547, &[])?;
    rustix::io::ioctl_fionbio(&port, true)?;
    let mut slots: Vec<Slot> = (0..load.in_flight.min(MOST)).map(|_| Slot::default()).collect();
    let mut outgoing: Vec<usize> = (0..slots.len()).collect();
    let mut next = 0_u32;
    let mut outcome = Outcome::default();
    let mut incoming = Incoming::default();
    let begin = Instant::now();
    let (warm, end) = (WARM, WARM + load.time);
    let mut looked = Duration::ZERO;
    for (number, slot) in slots.iter_mut().enumerate() {
        slot.solicit(number, next % NODES, Duration::ZERO);
        next += 1;
    }
    loop {
        let now = begin.elapsed();
        if now >= end {
            break;
        }
        let measuring = now >= warm;
        let packets = outgoing.iter().filter_map(|&number| {
            let packet = &slots.get(number)?.packet;
            Some((number, &packet[..], TO))
        });
        // What does not leave is lost.
        port.send(packets, |_, _| {});
        outgoing.clear();
        port.receive(&mut incoming)?;
        for (packet, _) in incoming.packets() {
            let Some(answer) = Answer::read(packet) else {
                outcome.wrong += 1;
                continue;
            };
            let (number, turn) = ((answer.xid & 0x3ff) as usize, answer.xid >> 10);
            let Some(slot) = slots.get_mut(number).filter(|slot| slot.turn == turn) else {
                continue;
            };
            let expected = match slot.kind {
                SOLICIT => ADVERTISE,
                _ => REPLY,
            };
            if answer.kind != expected || answer.ip != Some(ip6(slot.client)) {
                outcome.wrong += u64::from(measuring);
            } else if slot.kind == SOLICIT {
                slot.request(number, answer.server, now);
                outgoing.push(number);
                continue;
            } else if measuring {
                outcome.exchanges += 1;
                outcome.times.add((now - slot.begun).as_nanos() as u64);
            }
            slot.solicit(number, next % NODES, now);
            next = next.wrapping_add(1);
            outgoing.push(number);
        }
        if now - looked > LOOK {
            looked = now;
            for (number, slot) in slots.iter_mut().enumerate() {
                if now.saturating_sub(slot.sent) > PATIENCE {
                    outcome.lost += u64::from(measuring);
                    slot.solicit(number, next % NODES, now);
                    next = next.wrapping_add(1);
                    outgoing.push(number);
                }
            }
        }
    }
    outcome.time = load.time;
    ensure!(
        outcome.exchanges > 0,
        "no exchange was completed; {} lost, {} wrong",
        outcome.lost,
        outcome.wrong
    );
    Ok(outcome)
}

/// One exchange.
#[derive(Default)]
struct Slot {
    packet: Vec<u8>,
    kind: u8,
    client: u32,
    /// Grows with each exchange, so that a late answer to an earlier one is none to this; 14 bits.
    turn: u32,
    begun: Duration,
    sent: Duration,
}

impl Slot {
    fn solicit(&mut self, number: usize, client: u32, now: Duration) {
        self.turn = (self.turn + 1) & 0x3fff;
        (self.client, self.begun) = (client, now);
        self.write(SOLICIT, number, &[], now);
    }

    fn request(&mut self, number: usize, server: &[u8], now: Duration) {
        let server = option(2, server);
        self.write(REQUEST, number, &server, now);
    }

    /// A relayed message, as a relay on the link of the nodes makes it.
    fn write(&mut self, kind: u8, number: usize, more: &[u8], now: Duration) {
        (self.kind, self.sent) = (kind, now);
        let mac = site::mac(self.client);
        let [_, a, b, c] = (self.turn << 10 | number as u32).to_be_bytes();
        let mut message = vec![kind, a, b, c];
        message.extend_from_slice(&option(1, &[&[0, 3, 0, 1], &mac[..]].concat()));
        message.extend_from_slice(&option(6, &[0, 23, 0, 39]));
        message.extend_from_slice(&option(8, &[0, 0]));
        message.extend_from_slice(&option(3, &[0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]));
        message.extend_from_slice(more);
        self.packet.clear();
        self.packet.extend_from_slice(&[RELAY_FORW, 0]);
        self.packet.extend_from_slice(&RELAY.octets());
        self.packet
            .extend_from_slice(&bootd_tests::wire6::link_local(mac).octets());
        self.packet.extend_from_slice(&option(18, b"eth0"));
        self.packet.extend_from_slice(&option(9, &message));
    }
}

/// What matters of an answer.
struct Answer<'a> {
    kind: u8,
    xid: u32,
    ip: Option<Ipv6Addr>,
    server: &'a [u8],
}

impl<'a> Answer<'a> {
    fn read(packet: &'a [u8]) -> Option<Self> {
        let message = find(packet.get(34..)?, 9)?;
        let (head, options) = message.split_first_chunk::<4>()?;
        let [kind, a, b, c] = *head;
        let address = find(options, 3).and_then(|ia| find(ia.get(12..)?, 5));
        let ip: Option<[u8; 16]> = address.and_then(|value| value.first_chunk().copied());
        Some(Self {
            kind,
            xid: u32::from_be_bytes([0, a, b, c]),
            ip: ip.map(Ipv6Addr::from),
            server: find(options, 2)?,
        })
    }
}

fn find(mut options: &[u8], wanted: u16) -> Option<&[u8]> {
    while let [a, b, c, d, rest @ ..] = options {
        let (value, next) = rest.split_at_checked(u16::from_be_bytes([*c, *d]).into())?;
        if u16::from_be_bytes([*a, *b]) == wanted {
            return Some(value);
        }
        options = next;
    }
    None
}

/// The address of a node.
fn ip6(n: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 1, 0).to_bits() + u128::from(n))
}

const SERVER: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0xfe);
const RELAY: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0xfd);
const TO: SocketAddrV6 = SocketAddrV6::new(SERVER, 547, 0, 0);
/// As many as a transaction's number tells apart.
const MOST: usize = 1024;
const WARM: Duration = Duration::from_millis(500);
/// Without an answer for so long an exchange is lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks for such.
const LOOK: Duration = Duration::from_millis(50);
const GENERATOR_PROCESSOR: usize = 1;
const SERVER_PROCESSOR: usize = 0;
