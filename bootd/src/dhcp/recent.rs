//! What clients of DHCPv4 asked lately: the last packet of each client, kind of message and stage of its boot, as it came.
//!
//! For `bootd reload --dry-run`, which answers all of them with the old and the new configuration. Bounded in packets and bytes: the oldest make room. Noting never waits, and takes nothing from the heap once the room is there: where two threads meet, one packet is left out.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddrV4;
use std::sync::{Mutex, PoisonError};

use bootd_sdk::mac::Mac;

use super::v4::boot::Stage;
use super::v4::policy::Receiving;

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Ring>);

/// Whose packet it is, the number of its kind, and the stage.
type Key = (Mac, u8, Stage);

/// A packet, and how it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Who sent it.
    pub mac: Mac,
    /// Where the client is in its boot.
    pub stage: Stage,
    /// The packet.
    pub bytes: Vec<u8>,
    /// Where it came from.
    pub peer: SocketAddrV4,
    /// The interface on which it came.
    pub receiving: Receiving,
}

#[derive(Debug, Default)]
struct Ring {
    /// Slots by what is in them; a slot's number is its place since the begin.
    by_key: HashMap<Key, u64>,
    /// Oldest first.
    slots: VecDeque<(Key, Asked)>,
    /// How many slots left at the front.
    gone: u64,
    bytes: usize,
}

impl Recent {
    /// Notes a packet.
    pub(crate) fn note(&self, key: Key, bytes: &[u8], peer: SocketAddrV4, receiving: &Receiving) {
        if bytes.len() > LONGEST {
            return;
        }
        if let Ok(mut ring) = self.0.try_lock() {
            ring.note(key, bytes, peer, receiving);
        }
    }

    /// All of them, oldest first.
    pub(crate) fn all(&self) -> Vec<Asked> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.slots.iter().map(|(_, asked)| asked.clone()).collect()
    }
}

impl Ring {
    fn note(&mut self, key: Key, bytes: &[u8], peer: SocketAddrV4, receiving: &Receiving) {
        let at = self
            .by_key
            .get(&key)
            .and_then(|number| usize::try_from(number - self.gone).ok());
        if let Some((_, asked)) = at.and_then(|at| self.slots.get_mut(at)) {
            self.bytes = self.bytes - asked.bytes.len() + bytes.len();
            asked.fill(bytes, peer, receiving);
            return;
        }
        let mut used = None;
        while self.slots.len() >= MOST || self.bytes + bytes.len() > BYTES {
            let Some((key, asked)) = self.slots.pop_front() else {
                break;
            };
            self.by_key.remove(&key);
            self.gone += 1;
            self.bytes -= asked.bytes.len();
            used = Some(asked);
        }
        let mut asked = used.unwrap_or_else(|| Asked {
            mac: key.0,
            stage: key.2,
            bytes: Vec::with_capacity(bytes.len()),
            peer,
            receiving: Receiving::default(),
        });
        (asked.mac, asked.stage) = (key.0, key.2);
        asked.fill(bytes, peer, receiving);
        self.bytes += bytes.len();
        self.by_key.insert(key, self.gone + self.slots.len() as u64);
        self.slots.push_back((key, asked));
    }
}

impl Asked {
    /// Takes the place of an earlier packet, in its room.
    fn fill(&mut self, bytes: &[u8], peer: SocketAddrV4, receiving: &Receiving) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.peer = peer;
        self.receiving.addresses.clone_from(&receiving.addresses);
        self.receiving.link = receiving.link;
    }
}

/// Packets that are remembered.
const MOST: usize = 4096;
/// Bytes that they have together.
const BYTES: usize = 2 << 20;
/// Bytes of a packet that is remembered; hardly any is longer.
const LONGEST: usize = 1500;

#[cfg(test)]
mod tests {
    use super::*;

    fn note(recent: &Recent, client: u16, stage: Stage, bytes: &[u8]) {
        let [a, b] = client.to_be_bytes();
        let peer = SocketAddrV4::new([0; 4].into(), 68);
        let key = (Mac([2, 0, 0, 0, a, b]), 1, stage);
        recent.note(key, bytes, peer, &Receiving::default());
    }

    #[test]
    fn of_each_client_and_stage_the_last_packet_is_remembered() {
        let recent = Recent::default();
        note(&recent, 1, Stage::Firmware, b"first");
        note(&recent, 1, Stage::Ipxe, b"other stage");
        note(&recent, 1, Stage::Firmware, b"second one");
        let all: Vec<Vec<u8>> = recent.all().into_iter().map(|asked| asked.bytes).collect();
        assert_eq!(all, [&b"second one"[..], b"other stage"]);
    }

    #[test]
    fn whatever_comes_packets_and_bytes_are_bounded_and_the_newest_are_there() {
        let recent = Recent::default();
        for client in 0..10_000_u16 {
            note(&recent, client, Stage::Os, &vec![7; usize::from(client % 1500) + 1]);
        }
        note(&recent, 9_999, Stage::Os, &[7; 1501]);
        let all = recent.all();
        let bytes: usize = all.iter().map(|asked| asked.bytes.len()).sum();
        let ring = recent.0.lock().unwrap();
        assert!(
            all.len() <= MOST && bytes <= BYTES && bytes == ring.bytes,
            "{} {bytes}",
            all.len()
        );
        assert_eq!(ring.by_key.len(), all.len());
        assert_eq!(all.last().unwrap().mac, Mac([2, 0, 0, 0, 0x27, 0x0f]));
        for (key, number) in &ring.by_key {
            assert_eq!(ring.slots[usize::try_from(number - ring.gone).unwrap()].0, *key);
        }
    }
}
