//! The server without sockets, store, plugins or clock: what packets would get, one after the other.
//!
//! A packet goes through the same functions as in `service`, in the same order, and what would leave comes back as bytes. Every lease is
//! durable at once, and the time is what the caller says. For the conformance suite and the fuzzer. Never panics by itself.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bootd_sdk::mac::Mac;

use super::answer::{FreedWhy, NakWhy, Verdict, Why, answer};
use super::bootloop::encode_nak;
use super::encode::encode;
use super::holder::Holder;
use super::policy::{Policy, Receiving};
use super::pool::Pools;
use super::reply::{Envelope, Reply};
use super::request::parse;
use crate::config::Config;
use crate::inventory::Snapshot;

/// A server, and what it remembers of earlier packets.
#[derive(Debug)]
pub struct Rehearsal {
    policy: Policy,
    pools: Pools,
    snapshot: Arc<Snapshot>,
    receiving: Receiving,
    used: BTreeMap<Ipv4Addr, Mac>,
    now: Duration,
}

/// What a packet gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This leaves.
    Sent(Dispatch),
    /// Nothing leaves; the label of the reason.
    Silence(&'static str),
    /// Nothing leaves: the client gave its address back.
    Released,
    /// Nothing leaves: the client found its address in use.
    Declined,
}

/// A reply that is bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// The packet.
    pub packet: Vec<u8>,
    /// Where it goes, and for whom it is.
    pub envelope: Envelope,
    /// It goes with a lease of a pool.
    pub lease: bool,
    /// Why it is a NAK.
    pub nak: Option<NakWhy>,
}

impl Rehearsal {
    /// A server that starts with this configuration and inventory, and without leases; packets come in on `receiving`. A file of hosts that
    /// cannot be read is left out.
    pub fn new(config: &Config, snapshot: Arc<Snapshot>, receiving: Receiving) -> Self {
        let policy = Policy::read(config).unwrap_or_else(|_| Policy::new(config));
        Self {
            pools: Pools::new(&policy),
            policy,
            snapshot,
            receiving,
            used: BTreeMap::new(),
            now: Duration::ZERO,
        }
    }

    /// Takes another inventory.
    pub fn publish(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot = snapshot;
    }

    /// Takes the packets from now on from another interface.
    pub fn plug(&mut self, receiving: Receiving) {
        self.receiving = receiving;
    }

    /// Forgets all leases.
    pub fn forget_leases(&mut self) {
        self.pools = Pools::new(&self.policy);
    }

    /// From now on a machine that never asked answers probes for this address.
    pub fn occupy(&mut self, ip: Ipv4Addr, by: Mac) {
        self.used.insert(ip, by);
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now.saturating_add(time);
    }

    /// A packet comes in, from the usual port.
    pub fn packet(&mut self, bytes: &[u8]) -> Outcome {
        self.packet_from(None, bytes)
    }

    /// A packet comes in from this port.
    pub fn packet_from(&mut self, port: Option<u16>, bytes: &[u8]) -> Outcome {
        let mut request = match parse(bytes) {
            Ok(request) => request,
            Err(bad) => return Outcome::Silence(bad.label()),
        };
        if let Some(port) = port {
            request.came_from_port(port);
        }
        match answer(&request, &self.policy, &self.snapshot, &self.receiving) {
            Verdict::Unknown(..) => {
                // As many probes as there are addresses in use, one that nobody answers, and the offer.
                for _ in 0..self.used.len() + 2 {
                    let (pools, now) = (&mut self.pools, self.now);
                    match pools.answer(&request, &self.policy, &self.snapshot, &self.receiving, now) {
                        Verdict::Probe(ip) => match self.used.get(&ip) {
                            Some(by) => {
                                pools.is_used(ip, *by, now);
                            }
                            None => pools.is_unused(ip, now),
                        },
                        verdict => return outcome(&verdict),
                    }
                }
                Outcome::Silence(Why::AllInUse.label())
            }
            verdict => {
                let outcome = outcome(&verdict);
                if super::service::settled(&verdict)
                    && let Some(holder) = Holder::of(&request, self.policy.terms.bind_to)
                {
                    self.pools.forget(&holder, self.now);
                }
                outcome
            }
        }
    }
}

fn outcome(verdict: &Verdict<'_>) -> Outcome {
    match verdict {
        Verdict::Reply(reply) => Outcome::Sent(dispatch(reply, false, None)),
        Verdict::Nak(reply, why) | Verdict::End(reply, _, why) => Outcome::Sent(dispatch(reply, false, Some(*why))),
        Verdict::Lease(reply, _) => Outcome::Sent(dispatch(reply, true, None)),
        Verdict::Freed(_, _, FreedWhy::Released) => Outcome::Released,
        Verdict::Freed(_, _, FreedWhy::Declined) => Outcome::Declined,
        Verdict::Ignore(why) => Outcome::Silence(why.label()),
        Verdict::Probe(_) => Outcome::Silence("probe_under_way"),
        Verdict::Unknown(..) => Outcome::Silence("unknown"),
    }
}

fn dispatch(reply: &Reply<'_>, lease: bool, nak: Option<NakWhy>) -> Dispatch {
    let mut packet = Vec::new();
    match nak {
        Some(NakWhy::Bootloop) => encode_nak(reply, &mut packet),
        _ => encode(reply, &mut packet),
    }
    Dispatch {
        packet,
        envelope: reply.envelope(),
        lease,
        nak,
    }
}
