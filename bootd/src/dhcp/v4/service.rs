//! What is decided about a packet, and what is done then.
//!
//! The pools' lock is held only while memory changes: a lease is written by the store's thread, which sends the ACK when the row is durable;
//! when the store refuses or fails there is none, and the client asks again. A DISCOVER of a client that the plugins are asked about is kept,
//! and answered on the asker's thread when they have said something. A packet that makes the code panic costs that packet, and is counted.
//! Packets come and replies leave through [`port`](super::port).

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bootd_sdk::mac::Mac;

use super::PART;
use super::answer::{FreedWhy, Lease, Missing, Verdict, Why, answer};
use super::limit::{Limit, Load, Token};
use super::outbox::{Acks, Dispatch, Letter, Outbox, Outlet};
use super::policy::{Policy, Receiving};
use super::pool::Pools;
use super::reply::{Reply, ReplyKind};
use super::request::{Kind, Request, parse};
use super::rows::{self, Saved};
use crate::dhcp::{Deps, LeaseView, Lookup};
use crate::metrics::{Metrics, Refusals};
use crate::state::StoreError;

/// What a thread has by itself: the replies of its batch, and what it counts.
pub(crate) struct Desk {
    outbox: Outbox,
    refusals: Refusals,
    limit: Limit,
}

impl Desk {
    /// With nothing on it; each client may send so many packets a second.
    fn new(metrics: Arc<Metrics>, rate_limit: u32) -> Self {
        Self {
            outbox: Outbox::default(),
            refusals: Refusals::new(metrics, PART),
            limit: Limit::new(rate_limit),
        }
    }

    /// A batch of packets came.
    pub(crate) fn begin(&mut self, load: Load) {
        self.limit.begin(boot_clock(), load);
    }
}

/// What all threads share.
pub(crate) struct Shell {
    deps: Deps,
    policy: Policy,
    pools: Mutex<Pools>,
    /// Clients in the pools, readable without their lock.
    pooled: AtomicUsize,
    dispatch: Arc<Dispatch>,
    acks: Arc<Acks>,
}

/// A packet, and how it came.
#[derive(Clone, Copy)]
struct Arrived<'a> {
    bytes: &'a [u8],
    peer: &'a dyn Display,
    receiving: &'a Receiving,
    /// Where the answer leaves.
    outlet: &'a Arc<dyn Outlet>,
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
    /// A pool decides, now.
    Pool,
    /// It is kept until the plugins have said something.
    Kept,
    /// An earlier one is.
    Left,
}

impl Shell {
    /// Takes over the leases of earlier runs. Rows that make no sense are left out, and said.
    pub(crate) fn new(deps: Deps) -> Result<Self, StoreError> {
        let policy = Policy::new(&deps.config);
        let mut pools = Pools::new(&policy);
        let (now, now_unix) = (boot_clock(), unix_clock());
        for (key, value) in deps.store.scan(rows::TABLE, "")? {
            let restored = key.parse::<Mac>().ok().and_then(|mac| {
                let saved: Saved = serde_json::from_str(&value).ok()?;
                let left = Duration::from_secs(saved.expires_unix.saturating_sub(now_unix));
                pools.restore(mac, saved.ip, left, saved.host_name, now).then_some(())
            });
            if restored.is_none() {
                tracing::warn!(key, value, "lease left out: unreadable, twice there, or in no pool");
            }
        }
        let pooled = AtomicUsize::new(pools.len());
        let dispatch = Arc::new(Dispatch::new(Arc::clone(&deps.metrics)));
        let acks = Arc::new(Acks::new(Arc::clone(&dispatch)));
        let durable = Arc::clone(&acks);
        deps.store.after_each_commit(move || durable.send());
        Ok(Self {
            deps,
            policy,
            pools: Mutex::new(pools),
            pooled,
            dispatch,
            acks,
        })
    }

    /// A desk for a thread.
    pub(crate) fn desk(&self) -> Desk {
        Desk::new(Arc::clone(&self.deps.metrics), self.deps.config.dhcp.rate_limit)
    }

    /// What DHCP works with.
    pub(crate) fn deps(&self) -> &Deps {
        &self.deps
    }

    /// Deals with one packet. A reply that can leave at once is on the desk then, until [`Shell::send`].
    pub(crate) fn packet(
        self: &Arc<Self>,
        bytes: &[u8],
        peer: &dyn Display,
        receiving: &Receiving,
        outlet: &Arc<dyn Outlet>,
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
    pub(crate) fn send(&self, desk: &mut Desk, outlet: &dyn Outlet) {
        self.dispatch.send(&mut desk.outbox, outlet);
        self.dispatch.say_left_out();
    }

    fn deal(self: &Arc<Self>, arrived: Arrived<'_>, desk: &mut Desk) {
        let handled = catch_unwind(AssertUnwindSafe(|| match parse(arrived.bytes) {
            Ok(request) => self.request(&request, arrived, desk),
            Err(bad) => desk.refusals.count(bad.label(), arrived.peer, &bad),
        }));
        if handled.is_err() {
            let detail = format!("a bug in bootd; the packet has {} bytes", arrived.bytes.len());
            self.deps.metrics.refused(PART, "panic", arrived.peer, &detail);
        }
    }

    /// The addresses of the pools that clients have, or had last.
    pub(crate) fn leases(&self) -> Vec<LeaseView> {
        let now = boot_clock();
        let held = self.pools().held(now);
        held.into_iter()
            .map(|held| LeaseView {
                mac: held.mac,
                ip: held.ip,
                state: held.state,
                expires_in_s: held.until.saturating_sub(now).as_secs(),
                hostname: held.host_name,
            })
            .collect()
    }

    fn request(self: &Arc<Self>, request: &Request<'_>, arrived: Arrived<'_>, desk: &mut Desk) {
        let (receiving, outlet) = (arrived.receiving, arrived.outlet);
        if request.mac.is_some_and(|mac| self.deps.ignored.contains(mac)) {
            return ignored(Why::ByOperator, request, desk);
        }
        if arrived.turn == Turn::First
            && let Some(mac) = request.mac
            && let Err(shed) = desk.limit.admit(token(request, mac))
        {
            return desk.refusals.count(shed.label(), request, &shed.text());
        }
        let snapshot = self.deps.snapshot.load();
        let verdict = answer(request, &self.policy, &snapshot, receiving);
        let Verdict::Unknown(mac, missing) = verdict else {
            if let Some(mac) = settled(request, &verdict) {
                self.forget(mac);
            }
            return Self::act(verdict, request, desk);
        };
        if missing == Missing::Mac {
            if let Err(shed) = desk.limit.admit_unknown(request.kind) {
                return desk.refusals.count(shed.label(), request, &shed.text());
            }
            match self.look_up(mac, request, arrived) {
                Unknown::Pool => {}
                Unknown::Kept => return,
                Unknown::Left => return ignored(Why::LookupUnderWay, request, desk),
            }
        }
        let mut pools = self.pools();
        let verdict = pools.answer(request, &self.policy, &snapshot, receiving, boot_clock());
        self.pooled.store(pools.len(), Ordering::Relaxed);
        // Writes are queued in the order of the decisions, so the lock is held until then; queueing never waits.
        let verdict = self.queue(verdict, outlet);
        drop(pools);
        if let Some(verdict) = verdict {
            Self::act(verdict, request, desk);
        }
    }

    /// Has the plugins asked about a client that the inventory does not know. Only its DISCOVER waits for what they say: who sends anything
    /// else has an address or an offer already, and is answered at once.
    fn look_up(self: &Arc<Self>, mac: Mac, request: &Request<'_>, arrived: Arrived<'_>) -> Unknown {
        if arrived.turn == Turn::Asked || self.policy.is_for_another(request, arrived.receiving) {
            return Unknown::Pool;
        }
        match request.kind {
            Some(Kind::Discover) => {}
            Some(Kind::Request | Kind::Inform) => {
                (self.deps.unknown)(mac, None);
                return Unknown::Pool;
            }
            _ => return Unknown::Pool,
        }
        let (shell, outlet) = (Arc::clone(self), Arc::clone(arrived.outlet));
        let (bytes, peer) = (arrived.bytes.to_vec(), arrived.peer.to_string());
        let receiving = arrived.receiving.clone();
        let then = move || {
            let kept = Arrived {
                bytes: &bytes,
                peer: &peer,
                receiving: &receiving,
                outlet: &outlet,
                turn: Turn::Asked,
            };
            // The packet had its turn with the limit.
            let mut desk = Desk::new(Arc::clone(&shell.deps.metrics), 0);
            shell.deal(kept, &mut desk);
            shell.send(&mut desk, &*outlet);
        };
        match (self.deps.unknown)(mac, Some(Box::new(then))) {
            Lookup::Begun => Unknown::Kept,
            Lookup::Waiting => Unknown::Left,
            Lookup::Nobody => Unknown::Pool,
        }
    }

    /// Does what is left to do after the decision. Leases do not come here.
    fn act(verdict: Verdict<'_>, request: &Request<'_>, desk: &mut Desk) {
        match verdict {
            Verdict::Reply(reply) => {
                if let Some(note) = reply.booting.note {
                    desk.refusals.count(note.label(), request, &note);
                }
                desk.outbox.put(&reply, None);
            }
            Verdict::Nak(reply, why) => desk.outbox.put(&reply, Some(why)),
            Verdict::Ignore(why) => ignored(why, request, desk),
            Verdict::Lease(..) | Verdict::Freed(..) | Verdict::Unknown(..) => {}
        }
    }

    /// Queues what the store must know; what needs no store comes back.
    fn queue<'a>(&self, verdict: Verdict<'a>, outlet: &Arc<dyn Outlet>) -> Option<Verdict<'a>> {
        match verdict {
            Verdict::Lease(reply, lease) => self.keep(&reply, &lease, outlet),
            Verdict::Freed(mac, ip, why) => {
                let why = match why {
                    FreedWhy::Released => "release",
                    FreedWhy::Declined => "decline",
                };
                if self.dispatch.may_write() {
                    tracing::info!(%mac, %ip, why, "dhcp lease ended by its client");
                }
                self.deps.metrics.done(PART, why);
                self.drop_row(mac);
            }
            other => return Some(other),
        }
        None
    }

    /// The ACK leaves when the lease is durable, from the store's thread, with those of the same commit.
    fn keep(&self, reply: &Reply<'_>, lease: &Lease, outlet: &Arc<dyn Outlet>) {
        let (acks, outlet, mac) = (Arc::clone(&self.acks), Arc::clone(outlet), lease.mac);
        let metrics = Arc::clone(&self.deps.metrics);
        let letter = Letter::of(reply, None);
        if let Some(note) = reply.booting.note {
            metrics.refused(PART, note.label(), &mac, &note);
        }
        let queued = self
            .deps
            .store
            .write(rows::keep(lease, unix_clock()), move |done| match done {
                Ok(()) => acks.put(letter, outlet),
                Err(error) => metrics.refused(PART, error.label(), &mac, &error),
            });
        if let Err(error) = queued {
            self.deps.metrics.refused(PART, error.label(), &mac, &error);
        }
    }

    /// A client of the inventory knows its address by now: what it had of a pool is over.
    fn forget(&self, mac: Mac) {
        if self.pooled.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut pools = self.pools();
        let had_row = pools.forget(mac, boot_clock());
        self.pooled.store(pools.len(), Ordering::Relaxed);
        if had_row {
            self.drop_row(mac);
        }
    }

    /// A row that stays by a failure is harmless: it is of a client that no other row is about, and runs out by itself.
    fn drop_row(&self, mac: Mac) {
        let metrics = Arc::clone(&self.deps.metrics);
        let refused = move |error: StoreError| metrics.refused(PART, error.label(), &mac, &error);
        let then = refused.clone();
        let queued = self
            .deps
            .store
            .write(rows::drop_row(mac), move |done| done.unwrap_or_else(then));
        queued.unwrap_or_else(refused);
    }

    fn pools(&self) -> MutexGuard<'_, Pools> {
        // A panic while it was held is counted; the tables stay usable.
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn token(request: &Request<'_>, mac: Mac) -> Token {
    Token {
        mac,
        xid: request.xid,
        kind: request.kind,
        relay: request.giaddr.to_bits(),
    }
}

fn ignored(why: Why, request: &Request<'_>, desk: &mut Desk) {
    desk.refusals.count(why.label(), request, &why);
}

/// The client of the inventory that now knows that an address of the pool is not its own any more.
pub(super) fn settled(request: &Request<'_>, verdict: &Verdict<'_>) -> Option<Mac> {
    match verdict {
        Verdict::Reply(reply) if reply.kind == ReplyKind::Ack => request.mac,
        Verdict::Nak(..) | Verdict::Ignore(Why::Released) => request.mac,
        _ => None,
    }
}

/// Time since the machine started, sleep included. Lease times run on it: nobody sets it.
fn boot_clock() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or_default(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}

fn unix_clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
