//! The engine without sockets and clock: packets in, packets out. For the conformance suite and the fuzzer.

use std::net::SocketAddr;
use std::time::Duration;

use super::Files;
use super::engine::{Ended, Engine, Id, Limits, Verdict};
use crate::net::Burst;

/// A server that nobody can reach.
pub struct Rehearsal {
    /// What it serves.
    pub files: Files,
    /// Bytes of the largest datagram that leaves in one piece.
    pub room: usize,
    /// What ended.
    pub ended: Vec<Ended>,
    engine: Engine,
    now: Duration,
}

/// What a packet got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Packets of a transfer.
    Sent(Id, Vec<Vec<u8>>),
    /// An ERROR, and the metric label of the reason.
    Refused(&'static str, Vec<u8>),
    /// Nothing, for a reason that is counted.
    Ignored(&'static str),
    /// Nothing.
    Silence,
}

impl Rehearsal {
    /// A new one.
    pub fn new(files: Files, limits: Limits) -> Self {
        Self {
            files,
            room: 1472,
            ended: Vec::new(),
            engine: Engine::new(limits),
            now: Duration::ZERO,
        }
    }

    /// A packet comes where the server listens.
    pub fn asks(&mut self, peer: SocketAddr, packet: &[u8]) -> Outcome {
        let outcome = match self.engine.request(peer, packet, &self.files, self.now) {
            Verdict::Begin(opening) => {
                let (id, burst) = self.engine.begin(opening, self.room, self.now);
                Outcome::Sent(id, packets(&burst))
            }
            Verdict::Again(id, burst) => Outcome::Sent(id, packets(&burst)),
            Verdict::Refuse(refusal) => Outcome::Refused(refusal.why.label(), refusal.packet.into()),
            Verdict::Ignore(why) => Outcome::Ignored(why.label()),
        };
        self.ended.extend(self.engine.ended());
        outcome
    }

    /// A packet comes to a transfer.
    pub fn says(&mut self, id: Id, packet: &[u8]) -> Outcome {
        let outcome = match self.engine.packet(id, packet, self.now) {
            Ok(Some(burst)) => Outcome::Sent(id, packets(&burst)),
            Ok(None) => Outcome::Silence,
            Err(why) => Outcome::Ignored(why.label()),
        };
        self.ended.extend(self.engine.ended());
        outcome
    }

    /// Time passes; what leaves meanwhile.
    pub fn passes(&mut self, time: Duration) -> Vec<Outcome> {
        let until = self.now + time;
        let mut left = Vec::new();
        while let Some(alarm) = self.engine.alarm().filter(|alarm| *alarm <= until) {
            self.now = self.now.max(alarm);
            while let Some((id, burst)) = self.engine.due(self.now) {
                left.extend(burst.map(|burst| Outcome::Sent(id, packets(&burst))));
            }
        }
        self.now = until;
        self.ended.extend(self.engine.ended());
        left
    }

    /// The transfer of a client's port.
    pub fn of(&self, peer: SocketAddr) -> Option<Id> {
        self.engine.of(&peer)
    }

    /// How many transfers there are.
    pub fn count(&self) -> usize {
        self.engine.len()
    }
}

fn packets(burst: &Burst) -> Vec<Vec<u8>> {
    burst.datagrams().map(|(head, body)| [head, body].concat()).collect()
}
