//! Keeps the last packets of each client.
//!
//! Promises: so many packets a client, so many clients, so many bytes in all; who was heard longest ago goes first, so a flood of strangers costs other
//! strangers their packets before it costs nodes theirs: clients that sent one packet only go before all others.

use std::collections::VecDeque;
use std::net::IpAddr;

use bootd_sdk::mac::Mac;
use foldhash::HashMap;

use super::frame::Packet;
use super::pcapng;
use super::said::Said;

/// Whose packets those are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Whose {
    /// Of this hardware address.
    Mac(Mac),
    /// Of an address, and nobody knows whose that is.
    Ip(IpAddr),
}

/// A packet, when it was seen, and what is said about it.
#[derive(Debug, Clone)]
struct Seen {
    /// Milliseconds since 1970.
    at: u64,
    packet: Packet,
    said: Option<Said>,
}

#[derive(Debug, Default)]
struct Client {
    seen: VecDeque<Seen>,
    /// Counts what was heard of all; the greatest is the newest.
    heard: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Ring {
    clients: HashMap<Whose, Client>,
    bytes: usize,
    heard: u64,
    /// Clients that were forgotten for others.
    pub forgotten: u64,
}

impl Ring {
    /// Keeps a packet.
    pub fn put(&mut self, whose: Whose, packet: Packet, at: u64) {
        self.heard += 1;
        self.bytes += packet.bytes.len();
        let client = self.clients.entry(whose).or_default();
        client.heard = self.heard;
        client.seen.push_back(Seen { at, packet, said: None });
        if client.seen.len() > PACKETS
            && let Some(old) = client.seen.pop_front()
        {
            self.bytes -= old.packet.bytes.len();
        }
        if self.clients.len() > CLIENTS || self.bytes > BYTES {
            self.make_room(whose);
        }
    }

    /// What was decided about the last packet of a client that it sent.
    pub fn say(&mut self, whose: Whose, said: Said) {
        let Some(client) = self.clients.get_mut(&whose) else {
            return;
        };
        let last = client.seen.iter_mut().rev().find(|seen| seen.packet.is_from_client());
        if let Some(seen) = last.filter(|seen| seen.said.is_none()) {
            seen.said = Some(said);
        }
    }

    /// How many packets there are of a client.
    pub fn count(&self, whose: &[Whose]) -> usize {
        whose
            .iter()
            .filter_map(|whose| self.clients.get(whose))
            .map(|client| client.seen.len())
            .sum()
    }

    /// The packets of these, in the order in which they were seen, as a pcapng file. `about`: what is said about all of it.
    pub fn file(&self, whose: &[Whose], about: &str) -> Vec<u8> {
        let clients = whose.iter().filter_map(|whose| self.clients.get(whose));
        let mut seen: Vec<&Seen> = clients.flat_map(|client| &client.seen).collect();
        seen.sort_by_key(|seen| seen.at);
        let mut file = pcapng::begin(about);
        for (number, seen) in seen.into_iter().enumerate() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let said = seen.said.as_ref().map(ToString::to_string).unwrap_or_default();
            pcapng::packet(&mut file, seen.at, &seen.packet.frame(number), &said);
        }
        file
    }

    /// Forgets an eighth of the clients, those of one packet first, then those that were heard longest ago.
    fn make_room(&mut self, but: Whose) {
        let mut all: Vec<(bool, u64, Whose)> = self
            .clients
            .iter()
            .filter(|(whose, _)| **whose != but)
            .map(|(whose, client)| (client.seen.len() > 1, client.heard, *whose))
            .collect();
        all.sort_unstable();
        all.truncate((all.len() / 8).max(1));
        for (_, _, whose) in all {
            if let Some(client) = self.clients.remove(&whose) {
                self.bytes -= client.seen.iter().map(|seen| seen.packet.bytes.len()).sum::<usize>();
                self.forgotten += 1;
            }
        }
    }
}

/// Packets of a client.
const PACKETS: usize = 64;
/// Clients.
const CLIENTS: usize = 16_384;
/// Bytes of all packets.
const BYTES: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::frame::{Direction, Kind};
    use super::*;
    use crate::boots::event::State;

    fn packet(length: usize) -> Packet {
        let address = SocketAddr::from(([10, 0, 0, 1], 67));
        Packet::new(Kind::Udp, Direction::FromClient, address, address, &vec![7; length])
    }

    #[test]
    fn a_client_keeps_its_last_packets_and_a_flood_of_others_costs_them_first() {
        let mut ring = Ring::default();
        let node = Whose::Mac(Mac([2, 0, 0, 0, 0, 1]));
        for at in 0..100 {
            ring.put(node, packet(300), at);
        }
        assert_eq!(ring.count(&[node]), PACKETS);
        for number in 0..200_000_u32 {
            let [_, a, b, c] = number.to_be_bytes();
            ring.put(Whose::Mac(Mac([4, 0, 0, a, b, c])), packet(600), 1000);
        }
        assert_eq!(ring.count(&[node]), PACKETS);
        assert!(ring.clients.len() <= CLIENTS && ring.bytes <= BYTES);
        let counted: usize = ring
            .clients
            .values()
            .flat_map(|client| &client.seen)
            .map(|seen| seen.packet.bytes.len())
            .sum();
        assert_eq!(ring.bytes, counted);
    }

    #[test]
    fn what_is_said_is_said_of_the_last_packet_that_came_and_once() {
        let mut ring = Ring::default();
        let node = Whose::Mac(Mac([2, 0, 0, 0, 0, 1]));
        ring.say(node, Said::File(State::Done));
        ring.put(node, packet(300), 1);
        ring.say(node, Said::File(State::Refused(404)));
        ring.say(node, Said::File(State::Done));
        assert_eq!(ring.clients[&node].seen[0].said, Some(Said::File(State::Refused(404))));
    }
}
