//! What is decided about a packet, and what is done then.
//!
//! What the configuration says is in [`Rules`], which are replaced whole ([`Shell::take`]): a packet is decided by those from before or by the
//! new ones, and the pools change in the same moment, with the leases that fit them.
//! The pools' lock is held only while memory changes: a lease is written by the store's thread, which sends the ACK when the row is durable;
//! when the store refuses or fails there is none, and the client asks again. A DISCOVER of a client that the plugins are asked about is kept,
//! and answered on the asker's thread when they have said something. A packet that makes the code panic costs that packet, and is counted.
//! Packets come and replies leave through [`port`](super::port).

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use bootd_sdk::mac::Mac;

use super::PART;
use super::answer::{FreedWhy, Lease, Missing, NakWhy, Verdict, Why, answer};
use super::boot::Stage;
use super::early::{Early, Keeping};
use super::handover;
use super::holder::{Hex, Holder};
use super::hosts::HostsError;
use super::letter::{Acks, Letter};
use super::policy::{Policy, Receiving};
use super::pool::{Cleared, Pools};
use super::probe::Begun;
use super::prober::{Kept, Waiting};
use super::reply::{Reply, ReplyKind};
use super::request::{Kind, Request, parse};
use super::rows::{self, Clocks, Saved};
use super::table::PoolFill;
use super::told;
use super::unsaved::Unsaved;
use crate::config::Config;
use crate::dhcp::clock::{boot_clock, boot_id, unix_clock};
use crate::dhcp::limit::Token;
use crate::dhcp::outbox::{self, Dispatch, Outlet};
use crate::dhcp::recent::Recent;
use crate::dhcp::{Deps, DhcpError, Former, LeaseView, Lookup};
use crate::state::{StoreError, Write};

/// What a thread has by itself.
pub(crate) type Desk = outbox::Desk<Letter>;

/// What all threads share.
pub(crate) struct Shell {
    deps: Deps,
    /// Those that count. They are replaced while the pools are locked, which are made for them.
    rules: ArcSwap<Rules>,
    pools: Mutex<Pools>,
    /// Clients in the pools, readable without their lock.
    pooled: AtomicUsize,
    dispatch: Arc<Dispatch<Letter>>,
    acks: Arc<Acks>,
    /// Packets that wait for the leases of another process.
    early: Early,
    /// Each packet that waits for plugins holds it.
    looked_up: Arc<()>,
    /// Packets that wait for a probe, where addresses are probed.
    waiting: ArcSwapOption<Waiting>,
    recent: Recent,
}

/// What a configuration says of DHCP.
pub(crate) struct Rules {
    pub(crate) config: Arc<Config>,
    pub(crate) policy: Policy,
}

impl Rules {
    /// Those of a configuration, with its file of hosts.
    pub(crate) fn read(config: &Arc<Config>) -> Result<Self, HostsError> {
        Ok(Self {
            policy: Policy::read(config)?,
            config: Arc::clone(config),
        })
    }
}

/// A packet, and how it came.
#[derive(Clone, Copy)]
struct Arrived<'a> {
    bytes: &'a [u8],
    peer: SocketAddrV4,
    receiving: &'a Receiving,
    /// Where the answer leaves.
    outlet: &'a Arc<dyn Outlet<Letter>>,
    turn: Turn,
    /// Addresses that were probed for it.
    probed: u8,
}

impl Arrived<'_> {
    /// The packet, to be dealt with later.
    fn kept(&self) -> Kept {
        Kept {
            bytes: self.bytes.to_vec(),
            peer: self.peer,
            receiving: self.receiving.clone(),
            outlet: Arc::clone(self.outlet),
            probed: self.probed,
        }
    }
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
    pub(crate) fn new(deps: Deps) -> Result<Self, DhcpError> {
        let rules = Rules::read(&deps.config)?;
        let policy = &rules.policy;
        let mut pools = Pools::new(policy);
        let early = match deps.former {
            Former::Kept => {
                restore(&mut pools, policy, &deps)?;
                Early::default()
            }
            Former::Awaited => Early::awaiting(),
        };
        let pooled = AtomicUsize::new(pools.len());
        let dispatch = Arc::new(Dispatch::new(Arc::clone(&deps.metrics), deps.watch.clone()));
        let acks = Arc::new(Acks::new(Arc::clone(&dispatch)));
        let durable = Arc::clone(&acks);
        deps.store.after_each_commit(move || durable.send());
        Ok(Self {
            waiting: ArcSwapOption::new(waiting_for(policy)),
            deps,
            rules: ArcSwap::from_pointee(rules),
            pools: Mutex::new(pools),
            pooled,
            dispatch,
            acks,
            recent: Recent::default(),
            early,
            looked_up: Arc::default(),
        })
    }

    /// Takes over the leases that were awaited, with what is in no row of the store, and deals with the packets that waited for them.
    pub(crate) fn take_over(self: &Arc<Self>, unsaved: Vec<Unsaved>) -> Result<(), DhcpError> {
        let mut pools = self.pools();
        restore(&mut pools, &self.rules().policy, &self.deps)?;
        for unsaved in unsaved {
            pools.restore_unsaved(unsaved);
        }
        self.pooled.store(pools.len(), Ordering::Relaxed);
        drop(pools);
        let mut desk = self.unlimited_desk();
        for kept in self.early.end() {
            let arrived = Arrived {
                bytes: &kept.bytes,
                peer: kept.peer,
                receiving: &kept.receiving,
                outlet: &kept.outlet,
                turn: Turn::First,
                probed: kept.probed,
            };
            self.deal(arrived, &mut desk);
            self.send(&mut desk, &*kept.outlet);
        }
        Ok(())
    }

    /// What is in no row of the store.
    pub(crate) fn unsaved(&self) -> Vec<Unsaved> {
        self.pools().unsaved()
    }

    /// Whether packets are kept for plugins or for a probe.
    pub(crate) fn is_busy(&self) -> bool {
        Arc::strong_count(&self.looked_up) > 1 || self.waiting().is_some_and(|waiting| waiting.is_busy())
    }

    /// Goes by other rules from now on; leases that fit their pools are kept, and those that do not wait for pools that they fit. Says whether
    /// addresses are probed for another time than before.
    pub(crate) fn take(&self, rules: Rules) -> Probing {
        let is_same = rules.policy.terms.probe == self.rules.load().policy.terms.probe;
        if !is_same {
            self.waiting.store(waiting_for(&rules.policy));
        }
        let mut pools = self.pools();
        let fresh = Pools::new(&rules.policy);
        let before = std::mem::replace(&mut *pools, fresh);
        pools.take_over(before, boot_clock());
        self.pooled.store(pools.len(), Ordering::Relaxed);
        self.rules.store(Arc::new(rules));
        drop(pools);
        match is_same {
            true => Probing::Same,
            false => Probing::Other,
        }
    }

    /// What it goes by at present.
    pub(crate) fn rules(&self) -> arc_swap::Guard<Arc<Rules>> {
        self.rules.load()
    }

    /// What clients asked lately.
    pub(crate) fn recent(&self) -> &Recent {
        &self.recent
    }

    /// A desk for a thread.
    pub(crate) fn desk(&self) -> Desk {
        Desk::new(Arc::clone(&self.deps.metrics), &self.deps.watch, self.rate_limit())
    }

    /// Packets a second of one client.
    pub(crate) fn rate_limit(&self) -> u32 {
        self.rules().config.dhcp.rate_limit
    }

    /// Takes the file of hosts over when it changed. `None`: it is as it was.
    pub(crate) fn look_at_hosts(&self) -> Option<Result<usize, HostsError>> {
        let rules = self.rules();
        let hosts = rules.policy.hosts.as_ref().filter(|hosts| hosts.refreshes())?;
        hosts.news()
    }

    /// A desk for packets that had their turn with the limit.
    pub(super) fn unlimited_desk(&self) -> Desk {
        Desk::new(Arc::clone(&self.deps.metrics), &self.deps.watch, 0)
    }

    /// What DHCP works with.
    pub(crate) fn deps(&self) -> &Deps {
        &self.deps
    }

    /// Packets that wait for a probe.
    pub(super) fn waiting(&self) -> Option<Arc<Waiting>> {
        self.waiting.load_full()
    }

    /// Deals with one packet. A reply that can leave at once is on the desk then, until [`Shell::send`].
    pub(crate) fn packet(
        self: &Arc<Self>,
        bytes: &[u8],
        peer: SocketAddrV4,
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
            probed: 0,
        };
        desk.pen.note_packet(|| told::packet(bytes, peer, receiving));
        self.deal(arrived, desk);
    }

    /// Sends what is on the desk.
    pub(crate) fn send(&self, desk: &mut Desk, outlet: &dyn Outlet<Letter>) {
        self.dispatch.send(desk, outlet);
    }

    fn deal(self: &Arc<Self>, arrived: Arrived<'_>, desk: &mut Desk) {
        let handled = catch_unwind(AssertUnwindSafe(|| match parse(arrived.bytes) {
            Ok(mut request) => {
                request.came_from_port(arrived.peer.port());
                self.request(&request, arrived, desk);
            }
            Err(bad) => desk.refusals.count(bad.label(), &arrived.peer, &bad),
        }));
        if handled.is_err() {
            let detail = format!("a bug in bootd; the packet has {} bytes", arrived.bytes.len());
            self.deps.metrics.refused(PART, "panic", &arrived.peer, &detail);
        }
    }

    /// The addresses of the pools that clients have, or had last.
    pub(crate) fn leases(&self) -> Vec<LeaseView> {
        let now = boot_clock();
        let held = self.pools().held(now);
        held.into_iter()
            .map(|held| LeaseView {
                mac: held.mac,
                client_id: held.client_id.map(|id| Hex(&id).to_string()),
                ip: held.ip,
                subnet: format!("{}/{}", held.subnet.0, held.subnet.1),
                state: held.state,
                expires_in_s: held.until.saturating_sub(now).as_secs(),
                hostname: held.host_name,
            })
            .collect()
    }

    /// How full each pool is.
    pub(crate) fn fill(&self) -> Vec<PoolFill> {
        self.pools().fill(boot_clock())
    }

    /// A clean stop: CoreDHCP may come after us.
    pub(crate) fn hand_over(&self) {
        handover::export(&self.rules().config, &self.deps.store, &self.leases(), unix_clock());
    }

    fn request(self: &Arc<Self>, request: &Request<'_>, arrived: Arrived<'_>, desk: &mut Desk) {
        let (receiving, outlet) = (arrived.receiving, arrived.outlet);
        let sender = request.sender();
        if self.deps.ignored.contains(sender) {
            return ignored(Why::ByOperator, request, desk);
        }
        if arrived.turn == Turn::First
            && let Err(shed) = desk.limit.admit(token(request, sender, arrived.peer))
        {
            return desk.refusals.count(shed.label(), request, &shed.text());
        }
        let rules = self.rules();
        if arrived.turn == Turn::First && desk.notes() {
            let stage = Stage::of(request, rules.policy.strict);
            self.recent.note(
                (sender, request.kind.map_or(0, Kind::number), stage),
                arrived.bytes,
                arrived.peer,
                receiving,
            );
        }
        let snapshot = self.deps.snapshot.load();
        let verdict = answer(request, &rules.policy, &snapshot, receiving);
        let Verdict::Unknown(mac, missing) = verdict else {
            if settled(&verdict) {
                self.forget(request);
            }
            return Self::act(verdict, request, desk);
        };
        if missing != Missing::Address
            && let Err(shed) = desk.limit.admit_unknown()
        {
            return desk.refusals.count(shed.label(), request, &shed.text());
        }
        if missing == Missing::Mac {
            match self.look_up(mac, request, arrived) {
                Unknown::Pool => {}
                Unknown::Kept => return,
                Unknown::Left => return ignored(Why::LookupUnderWay, request, desk),
            }
        }
        match self.early.keep(|| arrived.kept()) {
            Keeping::Unneeded => {}
            Keeping::Kept => return,
            Keeping::Full => {
                let detail = "too many wait for the leases of the process before this one";
                return desk.refusals.count("leases_awaited", request, &detail);
            }
        }
        let mut pools = self.pools();
        // They may be others by now, and the pools are theirs.
        let rules = self.rules();
        let verdict = pools.answer(request, &rules.policy, &snapshot, receiving, boot_clock());
        self.pooled.store(pools.len(), Ordering::Relaxed);
        // Writes are queued in the order of the decisions, so the lock is held until then; queueing never waits.
        let verdict = self.queue(verdict, outlet);
        drop(pools);
        match verdict {
            Some(Verdict::Probe(ip)) => self.probe(ip, request, arrived, desk),
            Some(verdict) => Self::act(verdict, request, desk),
            None => {}
        }
    }

    /// Has the wire asked about an address; the packet waits for that.
    fn probe(self: &Arc<Self>, ip: Ipv4Addr, request: &Request<'_>, arrived: Arrived<'_>, desk: &mut Desk) {
        if arrived.probed >= PROBES {
            return ignored(Why::AllInUse, request, desk);
        }
        let kept = arrived.kept();
        let begun = match (self.waiting(), arrived.receiving.link) {
            (Some(waiting), Some(link)) => waiting.begin(link, ip, request.mac, kept),
            _ => Begun::Full(kept),
        };
        match begun {
            Begun::Kept => {}
            Begun::Instead => ignored(Why::ProbeUnderWay, request, desk),
            // Better unprobed than not at all: the client probes by itself before it uses the address.
            Begun::Full(kept) => {
                let detail = "too many addresses are being probed, or none can be";
                desk.refusals.count("not_probed", request, &detail);
                self.unused(ip, &kept, desk);
            }
        }
    }

    /// Nobody has the address that was probed for a packet.
    pub(super) fn unused(self: &Arc<Self>, ip: Ipv4Addr, kept: &Kept, desk: &mut Desk) {
        self.pools().is_unused(ip, boot_clock());
        self.again(kept, desk);
    }

    /// Somebody has the address that was probed for a packet: it rests, and the packet gets another one.
    pub(super) fn used(self: &Arc<Self>, ip: Ipv4Addr, by: Mac, kept: &Kept, desk: &mut Desk) {
        let detail = format!("{by} answers for {ip}, which the pool was about to offer: it rests");
        self.deps.metrics.refused(PART, "address_in_use", &ip, &detail);
        self.pools().is_used(ip, by, boot_clock());
        self.again(kept, desk);
    }

    fn again(self: &Arc<Self>, kept: &Kept, desk: &mut Desk) {
        let arrived = Arrived {
            bytes: &kept.bytes,
            peer: kept.peer,
            receiving: &kept.receiving,
            outlet: &kept.outlet,
            turn: Turn::Asked,
            probed: kept.probed + 1,
        };
        self.deal(arrived, desk);
        self.send(desk, &*kept.outlet);
    }

    /// Has the plugins asked about a client that the inventory does not know. Only its DISCOVER waits for what they say: who sends anything
    /// else has an address or an offer already, and is answered at once.
    fn look_up(self: &Arc<Self>, mac: Mac, request: &Request<'_>, arrived: Arrived<'_>) -> Unknown {
        if arrived.turn == Turn::Asked || self.rules().policy.is_for_another(request, arrived.receiving) {
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
        let (bytes, peer) = (arrived.bytes.to_vec(), arrived.peer);
        let receiving = arrived.receiving.clone();
        let waits = Arc::clone(&self.looked_up);
        let then = move || {
            let _waits = waits;
            let kept = Arrived {
                bytes: &bytes,
                peer,
                receiving: &receiving,
                outlet: &outlet,
                turn: Turn::Asked,
                probed: 0,
            };
            let mut desk = shell.unlimited_desk();
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
                desk.pen.note(|| told::of_reply(&reply, None));
                put(&reply, None, desk);
            }
            Verdict::Nak(reply, why) | Verdict::End(reply, _, why) => {
                desk.pen.note(|| told::of_reply(&reply, Some(why)));
                put(&reply, Some(why), desk);
            }
            Verdict::Ignore(why) => ignored(why, request, desk),
            Verdict::Lease(..) | Verdict::Freed(..) | Verdict::Unknown(..) | Verdict::Probe(_) => {}
        }
    }

    /// Queues what the store must know; what needs no store comes back.
    fn queue<'a>(&self, verdict: Verdict<'a>, outlet: &Arc<dyn Outlet<Letter>>) -> Option<Verdict<'a>> {
        match verdict {
            Verdict::Lease(reply, lease) => self.keep(&reply, &lease, outlet),
            Verdict::End(reply, holder, why) => {
                self.drop_row(&holder);
                return Some(Verdict::Nak(reply, why));
            }
            Verdict::Freed(holder, ip, why) => {
                let why = match why {
                    FreedWhy::Released => "release",
                    FreedWhy::Declined => "decline",
                };
                if self.dispatch.may_write() {
                    tracing::info!(client = %holder, %ip, why, "dhcp lease ended by its client");
                }
                self.deps.metrics.done(PART, why);
                self.drop_row(&holder);
            }
            other => return Some(other),
        }
        None
    }

    /// The ACK leaves when the lease is durable, from the store's thread, with those of the same commit.
    fn keep(&self, reply: &Reply<'_>, lease: &Lease, outlet: &Arc<dyn Outlet<Letter>>) {
        let (acks, outlet, who) = (Arc::clone(&self.acks), Arc::clone(outlet), lease.holder.clone());
        let metrics = Arc::clone(&self.deps.metrics);
        let letter = Letter::of(reply, None);
        self.deps.watch.tell(|| told::of_reply(reply, None));
        if let Some(note) = reply.booting.note {
            metrics.refused(PART, note.label(), &reply.mac, &note);
        }
        let queued = self
            .deps
            .store
            .write(rows::keep(lease, clocks()), move |done| match done {
                Ok(()) => acks.put(letter, outlet),
                Err(error) => metrics.refused(PART, error.label(), &who, &error),
            });
        if let Err(error) = queued {
            self.deps.metrics.refused(PART, error.label(), &lease.holder, &error);
        }
    }

    /// A client of the inventory knows its address by now: what it had of a pool is over.
    fn forget(&self, request: &Request<'_>) {
        if self.pooled.load(Ordering::Relaxed) == 0 {
            return;
        }
        let Some(holder) = Holder::of(request, self.rules().policy.terms.bind_to) else {
            return;
        };
        let mut pools = self.pools();
        let had_row = pools.forget(&holder, boot_clock());
        self.pooled.store(pools.len(), Ordering::Relaxed);
        if had_row {
            self.drop_row(&holder);
        }
    }

    /// An operator says that nobody has an address of a pool. `false`: nobody ever had it, or it is in no pool.
    pub(crate) fn free(&self, ip: Ipv4Addr) -> bool {
        let mut pools = self.pools();
        let Some(Cleared(holder)) = pools.clear(ip, boot_clock()) else {
            return false;
        };
        self.pooled.store(pools.len(), Ordering::Relaxed);
        if let Some(holder) = holder {
            self.drop_row(&holder);
        }
        true
    }

    /// A row that stays by a failure is harmless: it is of a client that no other row is about, and runs out by itself.
    fn drop_row(&self, holder: &Holder) {
        let (metrics, who) = (Arc::clone(&self.deps.metrics), holder.clone());
        let refused = move |error: StoreError| metrics.refused(PART, error.label(), &who, &error);
        let then = refused.clone();
        let queued = self
            .deps
            .store
            .write(rows::drop_row(holder), move |done| done.unwrap_or_else(then));
        queued.unwrap_or_else(refused);
    }

    fn pools(&self) -> MutexGuard<'_, Pools> {
        // A panic while it was held is counted; the tables stay usable.
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a new configuration has addresses probed for another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probing {
    /// As before.
    Same,
    /// Otherwise: another prober is needed.
    Other,
}

/// Where packets wait for probes; none where nobody is probed.
fn waiting_for(policy: &Policy) -> Option<Arc<Waiting>> {
    let probe = Some(policy.terms.probe).filter(|time| !time.is_zero() && policy.terms.strict.is_none());
    let failed = |error| tracing::warn!(%error, "addresses are offered without being probed");
    Waiting::new(probe?).map_err(failed).ok().map(Arc::new)
}

/// Reads the leases of earlier runs into the pools. Rows that make no sense are left out, and said.
fn restore(pools: &mut Pools, policy: &Policy, deps: &Deps) -> Result<(), DhcpError> {
    handover::import(&deps.config, &deps.store)?;
    let clocks = clocks();
    let mut moved = Write::default();
    let mut left_out = Vec::new();
    for (key, value) in deps.store.scan(rows::TABLE, "")? {
        let former = Saved::read(&key, &value, policy.terms.bind_to, clocks);
        let restored = former.filter(|former| pools.restore(former.clone(), clocks.boot));
        match restored {
            Some(former) => rows::rekey(&former, &key, clocks, &mut moved),
            None => left_out.push(key),
        }
    }
    if let [first, ..] = left_out.as_slice() {
        let count = left_out.len();
        tracing::warn!(
            count,
            first,
            "leases left out: unreadable, twice there, or in no pool any more"
        );
    }
    if moved != Write::default() {
        deps.store.write_and_wait(moved)?;
    }
    Ok(())
}

fn token(request: &Request<'_>, mac: Mac, peer: SocketAddrV4) -> Token {
    Token {
        mac,
        xid: request.xid,
        kind: request.kind.map_or(0, Kind::number),
        relay: request.giaddr.to_bits().into(),
        from: peer.ip().to_bits().into(),
    }
}

fn put(reply: &Reply<'_>, nak: Option<NakWhy>, desk: &mut Desk) {
    let Ok(()) = desk.outbox.put(|letter| {
        letter.write(reply, nak);
        Ok::<(), Infallible>(())
    });
}

fn ignored(why: Why, request: &Request<'_>, desk: &mut Desk) {
    desk.pen.note(|| told::of_silence(request, why.label()));
    desk.refusals.count(why.label(), request, &why);
}

/// Whether a client of the inventory now knows that an address of the pool is not its own any more.
pub(super) fn settled(verdict: &Verdict<'_>) -> bool {
    match verdict {
        Verdict::Reply(reply) => reply.kind == ReplyKind::Ack,
        Verdict::Nak(..) | Verdict::Ignore(Why::Released) => true,
        _ => false,
    }
}

fn clocks() -> Clocks {
    Clocks {
        boot: boot_clock(),
        boot_id: boot_id(),
        unix: unix_clock(),
    }
}

/// Addresses that are probed for one packet at most. The client asks again.
const PROBES: u8 = 3;

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
