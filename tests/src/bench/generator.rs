//! Many clients behind one relay: DISCOVER, OFFER, REQUEST, ACK, in batches.
//!
//! A closed loop keeps so many exchanges in flight, each begun when one is over; a rate begins so many a second, whatever comes back, and counts
//! their times from when they were due. Each answer is looked at: whose it is, its type, its address. An exchange is lost after a second
//! without an answer. It sends and receives with the same calls as bootd does, and never sleeps: give it a processor of its own.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bootd::net::{Incoming, Interface, UdpPort};

use super::histogram::Histogram;
use super::site::{self, NODES, RELAY, SERVER};

/// What is sent.
#[derive(Debug, Clone)]
pub struct Load {
    /// Exchanges in flight at most.
    pub in_flight: usize,
    /// Exchanges begun a second; none: whenever one is over.
    pub rate: Option<u32>,
    /// For how long.
    pub time: Duration,
    /// What must come back.
    pub expect: Expect,
    /// Every so many exchanges, one is of a client that has no address of its own, and is not measured.
    pub strangers: Option<u32>,
}

/// What addresses answers must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Each node its own.
    OwnAddress,
    /// Each client one of these, and no two the same.
    OneOf(RangeInclusive<Ipv4Addr>),
    /// What was sent, as it was sent.
    Echo,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Whole exchanges.
    pub exchanges: u64,
    /// In this time.
    pub time: Duration,
    /// Without an answer.
    pub lost: u64,
    /// With an answer that was not right.
    pub wrong: u64,
    /// What they took.
    pub times: Histogram,
}

impl Outcome {
    /// Exchanges a second.
    pub fn rate(&self) -> f64 {
        self.exchanges as f64 / self.time.as_secs_f64()
    }
}

/// Sends it, from the relay's namespace.
pub fn run(load: &Load) -> Result<Outcome> {
    let port = UdpPort::open(&Interface::find("relay0")?, 67)?;
    rustix::io::ioctl_fionbio(&port, true)?;
    let mut generator = Generator::new(load);
    let mut incoming = Incoming::default();
    let begin = Instant::now();
    // Half a second in which the loop gets going is not measured.
    let (warm, end) = (WARM.as_nanos() as u64, (WARM + load.time).as_nanos() as u64);
    loop {
        generator.now = begin.elapsed().as_nanos() as u64;
        generator.measuring = (warm..end).contains(&generator.now);
        if generator.now >= end {
            break;
        }
        port.receive(&mut incoming)?;
        for (packet, _) in incoming.packets() {
            generator.answer(packet);
        }
        generator.begin_due();
        generator.give_up_old();
        let packets = generator.outgoing.iter().filter_map(|&slot| {
            let packet = &generator.slots.get(slot)?.packet;
            Some((slot, &packet[..], TO))
        });
        // What does not leave is lost.
        port.send(packets, |_, _| {});
        generator.outgoing.clear();
    }
    let mut outcome = generator.outcome;
    outcome.time = load.time;
    ensure!(
        outcome.exchanges > 0,
        "no exchange was completed; {} lost, {} wrong",
        outcome.lost,
        outcome.wrong
    );
    Ok(outcome)
}

/// All exchanges.
struct Generator<'l> {
    load: &'l Load,
    slots: Vec<Slot>,
    idle: Vec<usize>,
    outgoing: Vec<usize>,
    /// Nanoseconds since the begin, as all times here.
    now: u64,
    measuring: bool,
    /// When the next exchange is due.
    next: u64,
    looked: u64,
    begun: u32,
    /// Who has which address.
    holders: HashMap<u32, u32>,
    outcome: Outcome,
}

/// One exchange.
struct Slot {
    packet: Vec<u8>,
    stage: Stage,
    client: u32,
    /// Grows with each exchange, so that a late answer to an earlier one is none to this.
    turn: u16,
    due: u64,
    sent: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Discovered,
    Requested,
}

impl<'l> Generator<'l> {
    fn new(load: &'l Load) -> Self {
        let slot = |_| Slot {
            packet: packet(),
            stage: Stage::Idle,
            client: 0,
            turn: 0,
            due: 0,
            sent: 0,
        };
        Self {
            load,
            slots: (0..load.in_flight).map(slot).collect(),
            idle: (0..load.in_flight).rev().collect(),
            outgoing: Vec::with_capacity(load.in_flight),
            now: 0,
            measuring: false,
            next: 0,
            looked: 0,
            begun: 0,
            holders: HashMap::new(),
            outcome: Outcome::default(),
        }
    }

    /// Begins all exchanges that are due.
    fn begin_due(&mut self) {
        let between = self.load.rate.map(|rate| 1_000_000_000 / u64::from(rate.max(1)));
        while between.is_none() || self.next <= self.now {
            let Some(number) = self.idle.pop() else { return };
            let Some(slot) = self.slots.get_mut(number) else { return };
            slot.due = match between {
                Some(_) => self.next,
                None => self.now,
            };
            self.next += between.unwrap_or(0);
            self.begun = self.begun.wrapping_add(1);
            let is_stranger = self.load.strangers.is_some_and(|each| self.begun.is_multiple_of(each));
            slot.client = self.begun % NODES + if is_stranger { STRANGERS } else { 0 };
            slot.discover(number, self.now);
            self.outgoing.push(number);
        }
    }

    /// Deals with what came.
    fn answer(&mut self, packet: &[u8]) {
        let Some(answer) = Answer::read(packet) else {
            self.outcome.wrong += 1;
            return;
        };
        let number = (answer.xid & 0xffff) as usize;
        let Some(slot) = self.slots.get_mut(number) else {
            return;
        };
        if u32::from(slot.turn) != answer.xid >> 16 || slot.stage == Stage::Idle {
            // It was given up.
            return;
        }
        let echo = self.load.expect == Expect::Echo;
        let expected = match (slot.stage, echo) {
            (Stage::Discovered, false) => (2, 2),
            (Stage::Discovered, true) => (1, 1),
            (_, false) => (2, 5),
            (_, true) => (1, 3),
        };
        let mut right = (answer.op, answer.kind) == expected && answer.mac == site::mac(slot.client);
        right &= match &self.load.expect {
            Expect::Echo => true,
            Expect::OwnAddress if slot.client < STRANGERS => answer.ip == site::ip(slot.client),
            Expect::OwnAddress => !answer.ip.is_unspecified(),
            Expect::OneOf(addresses) => {
                let mine = slot.stage == Stage::Discovered
                    || *self.holders.entry(answer.ip.to_bits()).or_insert(slot.client) == slot.client;
                mine && addresses.contains(&answer.ip)
            }
        };
        if !right {
            self.outcome.wrong += 1;
            slot.stage = Stage::Idle;
            self.idle.push(number);
        } else if slot.stage == Stage::Discovered {
            slot.request(answer.ip, answer.server, self.now);
            self.outgoing.push(number);
        } else {
            slot.stage = Stage::Idle;
            self.idle.push(number);
            if self.measuring && slot.client < STRANGERS {
                self.outcome.exchanges += 1;
                self.outcome.times.add(self.now - slot.due);
            }
        }
    }

    /// Exchanges that nobody answers any more.
    fn give_up_old(&mut self) {
        if self.now - self.looked < LOOK {
            return;
        }
        self.looked = self.now;
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if slot.stage != Stage::Idle && self.now - slot.sent > PATIENCE {
                slot.stage = Stage::Idle;
                self.idle.push(number);
                self.outcome.lost += u64::from(self.measuring && slot.client < STRANGERS);
            }
        }
    }
}

impl Slot {
    fn discover(&mut self, number: usize, now: u64) {
        self.turn = self.turn.wrapping_add(1);
        let xid = u32::from(self.turn) << 16 | number as u32;
        self.packet[4..8].copy_from_slice(&xid.to_be_bytes());
        self.packet[28..34].copy_from_slice(&site::mac(self.client));
        self.packet[KIND] = 1;
        // Options 50 and 54 are Pad, Pad, ... here.
        self.packet[NAMED..NAMED + 12].fill(0);
        (self.stage, self.sent) = (Stage::Discovered, now);
    }

    fn request(&mut self, ip: Ipv4Addr, server: Ipv4Addr, now: u64) {
        self.packet[KIND] = 3;
        let named = &mut self.packet[NAMED..NAMED + 12];
        named[..2].copy_from_slice(&[50, 4]);
        named[2..6].copy_from_slice(&ip.octets());
        named[6..8].copy_from_slice(&[54, 4]);
        named[8..].copy_from_slice(&server.octets());
        (self.stage, self.sent) = (Stage::Requested, now);
    }
}

/// What matters of an answer.
struct Answer {
    op: u8,
    xid: u32,
    ip: Ipv4Addr,
    mac: [u8; 6],
    kind: u8,
    server: Ipv4Addr,
}

impl Answer {
    fn read(packet: &[u8]) -> Option<Self> {
        let (head, mut options) = packet.split_first_chunk::<240>()?;
        let four = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
        let mut answer = Self {
            op: head[0],
            xid: u32::from_be_bytes(four(4)),
            ip: Ipv4Addr::from(four(16)),
            mac: *head[28..].first_chunk()?,
            kind: 0,
            server: Ipv4Addr::UNSPECIFIED,
        };
        while let [code, rest @ ..] = options {
            match code {
                0 => options = rest,
                255 => break,
                _ => {
                    let (length, rest) = rest.split_first()?;
                    let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                    match (code, value) {
                        (53, [kind]) => answer.kind = *kind,
                        (54, &[a, b, c, d]) => answer.server = Ipv4Addr::new(a, b, c, d),
                        _ => {}
                    }
                    options = rest;
                }
            }
        }
        Some(answer)
    }
}

/// A relayed packet, without what changes.
fn packet() -> Vec<u8> {
    let mut packet = vec![0; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, 1]);
    packet[24..28].copy_from_slice(&RELAY.octets());
    packet[236..].copy_from_slice(&[99, 130, 83, 99]);
    packet.extend([53, 1, 0]);
    packet.extend([0; 12]);
    packet.extend([55, 8, 1, 3, 6, 12, 15, 28, 51, 54]);
    packet.extend([82, 6, 1, 4, b'e', b't', b'h', b'0']);
    packet.push(255);
    packet.resize(300, 0);
    packet
}

/// Where the message type is.
const KIND: usize = 242;
/// Where options 50 and 54 are.
const NAMED: usize = 243;
/// Clients from here on are none of the nodes.
const STRANGERS: u32 = 1 << 20;
const TO: SocketAddrV4 = SocketAddrV4::new(SERVER, 67);
const WARM: Duration = Duration::from_millis(500);
/// Nanoseconds without an answer after which an exchange is lost.
const PATIENCE: u64 = 1_000_000_000;
/// Between two looks for such.
const LOOK: u64 = 50_000_000;
