//! What is decided about a packet of IPv6, and what is done then.
//!
//! Known nodes are answered from the snapshot. A SOLICIT of a client that the plugins are asked about is kept, and answered on the asker's
//! thread when they have said something. A packet that makes the code panic costs that packet, and is counted. Nothing here waits, and nothing
//! touches the store but the start. Packets come and replies leave through [`port`](super::port).

use std::net::SocketAddrV6;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bootd_sdk::mac::Mac;

use super::PART;
use super::answer::{Missing, Verdict, Why, answer, stranger};
use super::identity;
use super::letter::Letter;
use super::policy::{Policy, Receiving};
use super::request::{Kind, Request, parse};
use super::told;
use crate::config::{Config, Dhcp6};
use crate::dhcp::HostsError;
use crate::dhcp::limit::Token;
use crate::dhcp::outbox::{self, Dispatch, Outlet};
use crate::dhcp::{Deps, DhcpError, Lookup};
use crate::state::Store;

/// What a thread has by itself.
pub(crate) type Desk = outbox::Desk<Letter>;

/// What all threads share.
pub(crate) struct Shell {
    deps: Deps,
    rules: ArcSwap<Rules>,
    dispatch: Dispatch<Letter>,
}

/// What a configuration says of DHCPv6; replaced whole.
pub(crate) struct Rules {
    config: Arc<Config>,
    policy: Policy,
}

impl Rules {
    /// Those of a configuration, with its file of hosts and the server's identity, which is made when there is none yet.
    pub(crate) fn read(config: &Arc<Config>, dhcp6: &Dhcp6, store: &Store) -> Result<Self, DhcpError> {
        let kept = match &dhcp6.server_id {
            Some(_) => identity::of_nobody(),
            None => identity::kept(store).map_err(DhcpError::Identity)?,
        };
        Ok(Self {
            policy: Policy::read(config, dhcp6, kept)?,
            config: Arc::clone(config),
        })
    }
}

/// A packet, and how it came.
#[derive(Clone, Copy)]
struct Arrived<'a> {
    bytes: &'a [u8],
    peer: SocketAddrV6,
    receiving: &'a Receiving,
    /// Where the answer leaves.
    outlet: &'a Arc<dyn Outlet<Letter>>,
    turn: Turn,
}

/// Whether the plugins may be asked about a client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The packet came a moment ago.
    First,
    /// They were asked for this packet already.
    Asked,
}

/// What becomes of the packet of a client that is not in the inventory.
enum Unknown {
    /// It is a stranger, now.
    Stranger,
    /// It is kept until the plugins have said something.
    Kept,
    /// An earlier one is.
    Left,
}

impl Shell {
    /// Reads the file of hosts, and makes the server's identity when there is none yet.
    pub(crate) fn new(deps: Deps, dhcp6: &Dhcp6) -> Result<Self, DhcpError> {
        let rules = Rules::read(&deps.config, dhcp6, &deps.store)?;
        Ok(Self::with(deps, rules))
    }

    /// One with these rules.
    pub(crate) fn with(deps: Deps, rules: Rules) -> Self {
        Self {
            rules: ArcSwap::from_pointee(rules),
            dispatch: Dispatch::new(Arc::clone(&deps.metrics), deps.watch.clone()),
            deps,
        }
    }

    /// Goes by other rules from now on.
    pub(crate) fn take(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }

    /// Packets a second of one client.
    pub(crate) fn rate_limit(&self) -> u32 {
        self.rules.load().config.dhcp.rate_limit
    }

    /// A desk for a thread.
    pub(crate) fn desk(&self) -> Desk {
        Desk::new(Arc::clone(&self.deps.metrics), &self.deps.watch, self.rate_limit())
    }

    /// What DHCP works with.
    pub(crate) fn deps(&self) -> &Deps {
        &self.deps
    }

    /// Takes the file of hosts over when it changed. `None`: it is as it was.
    pub(crate) fn look_at_hosts(&self) -> Option<Result<usize, HostsError>> {
        let rules = self.rules.load();
        let hosts = rules.policy.hosts.as_ref().filter(|hosts| hosts.refreshes())?;
        hosts.news()
    }

    /// Deals with one packet. A reply that can leave at once is on the desk then, until [`Shell::send`].
    pub(crate) fn packet(
        self: &Arc<Self>,
        bytes: &[u8],
        peer: SocketAddrV6,
        receiving: &Receiving,
        outlet: &Arc<dyn Outlet<Letter>>,
        desk: &mut Desk,
    ) {
        let arrived = Arrived {
            bytes,
            peer,
            receiving,
            outlet,
            turn: Turn::First,
        };
        self.deal(arrived, desk);
    }

    /// Sends what is on the desk.
    pub(crate) fn send(&self, desk: &mut Desk, outlet: &dyn Outlet<Letter>) {
        self.dispatch.send(desk, outlet);
    }

    fn deal(self: &Arc<Self>, arrived: Arrived<'_>, desk: &mut Desk) {
        let handled = catch_unwind(AssertUnwindSafe(|| match parse(arrived.bytes, *arrived.peer.ip()) {
            Ok(request) => {
                if arrived.turn == Turn::First {
                    let Arrived {
                        bytes, peer, receiving, ..
                    } = arrived;
                    desk.pen.note_packet(|| told::packet(&request, bytes, peer, receiving));
                }
                self.request(&request, arrived, desk);
            }
            Err(bad) => desk.refusals.count(bad.label(), &arrived.peer, &bad),
        }));
        if handled.is_err() {
            let detail = format!("a bug in bootd; the packet has {} bytes", arrived.bytes.len());
            self.deps.metrics.refused(PART, "panic", &arrived.peer, &detail);
        }
    }

    fn request(self: &Arc<Self>, request: &Request<'_>, arrived: Arrived<'_>, desk: &mut Desk) {
        let sender = request.sender();
        if self.deps.ignored.contains(sender) {
            return ignored(Why::ByOperator, request, desk);
        }
        if arrived.turn == Turn::First
            && let Err(shed) = desk.limit.admit(token(request, sender, arrived.peer))
        {
            return desk.refusals.count(shed.label(), request, &shed.text());
        }
        let snapshot = self.deps.snapshot.load();
        let rules = self.rules.load();
        let mut verdict = answer(request, &rules.policy, &snapshot, arrived.receiving);
        if let Verdict::Unknown(missing) = verdict {
            if let Missing::Mac(mac) = missing {
                if let Err(shed) = desk.limit.admit_unknown() {
                    return desk.refusals.count(shed.label(), request, &shed.text());
                }
                match self.look_up(mac, request, arrived) {
                    Unknown::Stranger => {}
                    Unknown::Kept => return,
                    Unknown::Left => return ignored(Why::LookupUnderWay, request, desk),
                }
            }
            verdict = stranger(request, &rules.policy, &snapshot, missing);
        }
        match verdict {
            Verdict::Reply(reply) => {
                if let Some(note) = reply.grant.as_ref().and_then(|grant| grant.booting.note) {
                    desk.refusals.count(note.label(), request, &note);
                }
                if reply.conflict {
                    let detail = "it says that somebody else uses its address, which stays its own";
                    desk.refusals.count("address_conflict", request, &detail);
                }
                desk.pen.note(|| told::of_reply(&reply));
                if desk.outbox.put(|letter| letter.write(&reply, arrived.peer)).is_err() {
                    let detail = "the options of the configuration are too many for a datagram";
                    desk.refusals.count("reply_too_long", request, &detail);
                }
            }
            Verdict::Ignore(why) => ignored(why, request, desk),
            Verdict::Unknown(missing) => ignored(missing.why(), request, desk),
        }
    }

    /// Has the plugins asked about a client that the inventory does not know. Only its SOLICIT waits for what they say: who sends anything else
    /// has an answer already, and is answered at once.
    fn look_up(self: &Arc<Self>, mac: Mac, request: &Request<'_>, arrived: Arrived<'_>) -> Unknown {
        if arrived.turn == Turn::Asked {
            return Unknown::Stranger;
        }
        if request.kind != Kind::Solicit {
            (self.deps.unknown)(mac, None);
            return Unknown::Stranger;
        }
        let (shell, outlet) = (Arc::clone(self), Arc::clone(arrived.outlet));
        let (bytes, peer) = (arrived.bytes.to_vec(), arrived.peer);
        let receiving = arrived.receiving.clone();
        let then = move || {
            let kept = Arrived {
                bytes: &bytes,
                peer,
                receiving: &receiving,
                outlet: &outlet,
                turn: Turn::Asked,
            };
            let mut desk = Desk::new(Arc::clone(&shell.deps.metrics), &shell.deps.watch, 0);
            shell.deal(kept, &mut desk);
            shell.send(&mut desk, &*outlet);
        };
        match (self.deps.unknown)(mac, Some(Box::new(then))) {
            Lookup::Begun => Unknown::Kept,
            Lookup::Waiting => Unknown::Left,
            Lookup::Nobody => Unknown::Stranger,
        }
    }
}

fn token(request: &Request<'_>, mac: Mac, peer: SocketAddrV6) -> Token {
    let [a, b, c] = request.xid;
    Token {
        mac,
        xid: u32::from_be_bytes([0, a, b, c]),
        kind: request.kind.number(),
        relay: request.relays.iter().next().map_or(0, |relay| relay.link.to_bits()),
        from: peer.ip().to_bits(),
    }
}

fn ignored(why: Why, request: &Request<'_>, desk: &mut Desk) {
    desk.pen.note(|| told::of_silence(request, why.label()));
    desk.refusals.count(why.label(), request, &why);
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
