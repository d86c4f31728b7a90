//! The server without sockets, plugins or clock: what packets would get. For the conformance suite, the fuzzer and `bootd explain`.
//!
//! A packet goes through the same functions as in `service`, in the same order, and what would leave comes back as bytes. Never panics by
//! itself.

use std::net::Ipv6Addr;
use std::sync::Arc;

use super::answer::{Verdict, answer, stranger};
use super::encode::encode;
use super::policy::{Policy, Receiving};
use super::request::parse;
use crate::config::Config;
use crate::inventory::Snapshot;

/// A server. It remembers nothing.
#[derive(Debug)]
pub struct Rehearsal {
    policy: Policy,
    snapshot: Arc<Snapshot>,
    receiving: Receiving,
}

/// What a packet gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This leaves, to where the packet came from. `note`: the labels of what was counted about it.
    Sent {
        /// The bytes.
        packet: Vec<u8>,
        /// What was counted beside it.
        note: Option<&'static str>,
    },
    /// Nothing leaves; the label of the reason.
    Silence(&'static str),
}

impl Rehearsal {
    /// A server with this configuration and inventory; packets come in on `receiving`. `None`: the configuration has no DHCPv6.
    pub fn new(config: &Config, snapshot: Arc<Snapshot>, receiving: Receiving) -> Option<Self> {
        Some(Self {
            policy: Policy::rehearsed(config, config.dhcp6.as_ref()?),
            snapshot,
            receiving,
        })
    }

    /// The server's DUID.
    pub fn server_id(&self) -> &[u8] {
        &self.policy.server_id
    }

    /// Takes another inventory.
    pub fn publish(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot = snapshot;
    }

    /// Takes the packets from now on from another interface.
    pub fn plug(&mut self, receiving: Receiving) {
        self.receiving = receiving;
    }

    /// A packet comes in from this address.
    pub fn packet(&self, bytes: &[u8], from: Ipv6Addr) -> Outcome {
        let request = match parse(bytes, from) {
            Ok(request) => request,
            Err(bad) => return Outcome::Silence(bad.label()),
        };
        let mut verdict = answer(&request, &self.policy, &self.snapshot, &self.receiving);
        if let Verdict::Unknown(missing) = verdict {
            verdict = stranger(&request, &self.policy, &self.snapshot, missing);
        }
        match verdict {
            Verdict::Reply(reply) => {
                let mut packet = Vec::new();
                encode(&reply, &mut packet);
                let of_boot = reply.grant.as_ref().and_then(|grant| grant.booting.note);
                let note = reply.conflict.then_some("address_conflict");
                Outcome::Sent {
                    packet,
                    note: note.or(of_boot.map(|note| note.label())),
                }
            }
            Verdict::Ignore(why) => Outcome::Silence(why.label()),
            Verdict::Unknown(missing) => Outcome::Silence(missing.why().label()),
        }
    }
}
