//! One pool: who has which of its addresses, until when, and who gets the next one.
//!
//! Owns the entries of its addresses. Promises: an address has one holder at a time and a holder one address; of those that may be given,
//! a client gets its own, the one that it asks for, one that nobody ever had, or the one that is free for longest; what somebody uses who should
//! not rests as long as there is another one. Which pool a client belongs to, and what it may do with its lease, says [`pool`](super::pool).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bootd_sdk::mac::Mac;
use serde::{Deserialize, Serialize};

use super::answer::{Verdict, Why};
use super::holder::{Holder, id};
use super::hosts::Hosts;
use super::policy::{Policy, Receiving, seconds};
use super::reply::{Asker, Reply, ReplyKind};
use super::request::Request;
use crate::config::{Pool, Subnet};
use crate::inventory::Snapshot;

/// One pool and who has what in it.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) subnet: Subnet,
    /// Its place among the subnets of the policy.
    pub(super) number: usize,
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) seconds: u32,
    /// No address from here on was ever looked at.
    pub(super) next: u64,
    pub(super) entries: HashMap<u32, Entry>,
    /// The address of each holder, past ones too.
    pub(super) of: HashMap<Holder, u32>,
    /// The entries by the time at which they may be given to somebody else.
    pub(super) by_end: BTreeSet<(Duration, u32)>,
    /// Those of them that somebody uses who should not, and that rest.
    pub(super) resting: BTreeSet<(Duration, u32)>,
    /// Clients with addresses of their own.
    pub(super) hosts: Option<Arc<Hosts>>,
    /// bootd's addresses on the interface that was heard last.
    pub(super) own: Vec<Ipv4Addr>,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// `None`: nobody's, or not to be had and looked at again later.
    pub(super) holder: Option<Holder>,
    pub(super) client: Client,
    pub(super) state: State,
    pub(super) until: Duration,
    /// Until then nobody needs to probe it.
    pub(super) probed: Duration,
}

/// How an address of a pool is.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Ord, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Offered a moment ago.
    Offered,
    /// Leased.
    Leased,
    /// Nobody's; its last holder gets it again as long as nobody else needs it.
    Free,
    /// Found in use by its client: it rests.
    Declined,
    /// Found in use by a probe: it rests.
    Conflict,
}

impl State {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Leased => "leased",
            Self::Free => "free",
            Self::Declined => "declined",
            Self::Conflict => "conflict",
        }
    }

    /// Nobody gets it before its time is over, as long as there is another one.
    pub(super) fn rests(self) -> bool {
        matches!(self, Self::Declined | Self::Conflict)
    }
}

/// An address of a pool, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The hardware address of its holder, or its last one; of a conflict, who uses it.
    pub mac: Option<Mac>,
    /// The client identifier that came with it.
    pub client_id: Option<Arc<[u8]>>,
    /// The address.
    pub ip: Ipv4Addr,
    /// Its subnet.
    pub subnet: (Ipv4Addr, u8),
    /// How it is.
    pub state: State,
    /// When that ends.
    pub until: Duration,
    /// What the client calls itself.
    pub host_name: Option<String>,
}

/// How full a pool is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolFill {
    /// Its subnet.
    pub subnet: (Ipv4Addr, u8),
    /// How many addresses it has.
    pub addresses: u64,
    /// How many of them are not free, and why.
    pub states: BTreeMap<State, u64>,
}

/// What the operator wants to know of a client.
#[derive(Debug, Clone, Default)]
pub(super) struct Client {
    pub(super) mac: Option<Mac>,
    pub(super) client_id: Option<Arc<[u8]>>,
    pub(super) host_name: Option<String>,
}

impl Client {
    pub(super) fn of(request: &Request<'_>) -> Self {
        Self {
            mac: request.mac,
            client_id: id(request).map(Arc::from),
            host_name: request.host_name(),
        }
    }
}

impl Entry {
    /// A lease that runs.
    pub(super) fn leased(holder: Holder, client: Client, until: Duration) -> Self {
        Self {
            holder: Some(holder),
            client,
            state: State::Leased,
            until,
            probed: Duration::ZERO,
        }
    }

    /// Somebody uses it who should not. One that rests because it became a node's is still in use by whoever had it.
    pub(super) fn is_resting(&self) -> bool {
        self.state == State::Conflict || (self.state == State::Declined && self.holder.is_some())
    }
}

impl Table {
    /// The pool of the subnet with this number, all free.
    pub(super) fn new(number: usize, subnet: &Subnet, pool: &Pool, hosts: Option<Arc<Hosts>>) -> Self {
        Self {
            subnet: subnet.clone(),
            number,
            first: pool.first.to_bits(),
            last: pool.last.to_bits(),
            seconds: seconds(pool.lease_time),
            next: pool.first.to_bits().into(),
            entries: HashMap::new(),
            of: HashMap::new(),
            by_end: BTreeSet::new(),
            resting: BTreeSet::new(),
            hosts,
            own: Vec::new(),
        }
    }

    /// Whether it has the same addresses.
    pub(super) fn has_range_of(&self, other: &Self) -> bool {
        (self.first, self.last) == (other.first, other.last)
    }

    /// Goes on where another one of the same addresses ends.
    pub(super) fn continue_as(&mut self, before: Self) {
        self.next = before.next;
        self.entries = before.entries;
        self.of = before.of;
        self.by_end = before.by_end;
        self.resting = before.resting;
        self.own = before.own;
    }

    /// Takes an address over that another one gave, unless somebody has it here.
    pub(super) fn adopt(&mut self, ip: u32, entry: Entry) {
        if self.entries.contains_key(&ip) {
            return;
        }
        if let Some(holder) = entry.holder.as_ref().filter(|_| !entry.state.rests()) {
            self.of.insert(holder.clone(), ip);
        }
        self.insert(ip, entry);
    }

    pub(super) fn offer<'a>(
        &mut self,
        asker: Asker<'a>,
        policy: &'a Policy,
        snapshot: &Snapshot,
        receiving: &Receiving,
        holder: Holder,
        now: Duration,
    ) -> Verdict<'a> {
        let request = asker.request;
        let Some(ip) = self.choose(&holder, request.requested_ip, snapshot, now) else {
            return Verdict::Ignore(Why::PoolExhausted);
        };
        let before = self.entries.get(&ip);
        // Whoever had the address last is who would use it.
        let had = before.is_some_and(|entry| entry.state == State::Leased && entry.holder.as_ref() == Some(&holder));
        let probed = had || before.is_some_and(|entry| entry.probed > now);
        // A client that asks again while its lease runs keeps it.
        if !self.is_leased(ip, &holder, now) {
            self.set(ip, Some(holder), Client::of(request), State::Offered, now + OFFER);
        }
        if let Some(entry) = self.entries.get_mut(&ip).filter(|_| had) {
            entry.probed = now + PROBED;
        }
        let ip = Ipv4Addr::from_bits(ip);
        let may_probe = !policy.terms.probe.is_zero() && receiving.link.is_some() && request.giaddr.is_unspecified();
        if may_probe && !probed {
            return Verdict::Probe(ip);
        }
        Verdict::Reply(self.grant(ReplyKind::Offer, asker, policy, ip))
    }

    /// The client's own address, else the one that it asks for, else one that nobody ever had, else the one that is free for longest, else
    /// the one that was found in use longest ago: whoever declines all of them does not empty the pool.
    fn choose(&mut self, holder: &Holder, wanted: Option<Ipv4Addr>, snapshot: &Snapshot, now: Duration) -> Option<u32> {
        if let Some(&own) = self.of.get(holder) {
            if self.usable(own, snapshot) {
                return Some(own);
            }
            self.lose(holder);
        }
        let wanted = wanted.map(Ipv4Addr::to_bits);
        if let Some(ip) = wanted.filter(|&ip| self.usable(ip, snapshot) && self.is_free_for(ip, holder, now)) {
            return Some(ip);
        }
        while self.next <= self.last.into() {
            let ip = u32::try_from(self.next).ok()?;
            self.next += 1;
            if self.entries.contains_key(&ip) {
                continue;
            }
            if self.usable(ip, snapshot) {
                return Some(ip);
            }
            self.set(ip, None, Client::default(), State::Free, now + LOOK_AGAIN);
        }
        while let Some(&(until, ip)) = self.by_end.first() {
            if until > now {
                break;
            }
            if self.usable(ip, snapshot) {
                return Some(ip);
            }
            self.set(ip, None, Client::default(), State::Free, now + LOOK_AGAIN);
        }
        let mut resting = self.resting.iter().map(|&(_, ip)| ip);
        resting.find(|&ip| self.usable(ip, snapshot))
    }

    pub(super) fn grant<'a>(&self, kind: ReplyKind, asker: Asker<'a>, policy: &'a Policy, ip: Ipv4Addr) -> Reply<'a> {
        let subnet = &policy.subnets[self.number];
        Reply::grant(kind, asker, policy, subnet, Some((ip, self.seconds)))
    }

    /// Gives an address to a holder; the former one has nothing then, and the new one nothing else.
    pub(super) fn set(&mut self, ip: u32, holder: Option<Holder>, client: Client, state: State, until: Duration) {
        if let Some(holder) = &holder
            && let Some(former) = self.of.insert(holder.clone(), ip)
            && former != ip
            && let Some(entry) = self.entries.remove(&former)
        {
            self.forget_end(former, &entry);
            let (holder, client) = (None, Client::default());
            self.insert(
                former,
                Entry {
                    holder,
                    client,
                    ..entry
                },
            );
        }
        let before = self.entries.remove(&ip);
        if let Some(before) = &before {
            self.forget_end(ip, before);
            if let Some(holder) = before.holder.as_ref().filter(|before| Some(*before) != holder.as_ref())
                && self.of.get(holder) == Some(&ip)
            {
                self.of.remove(holder);
            }
        }
        let probed = before.filter(|_| !state.rests()).map(|before| before.probed);
        let entry = Entry {
            holder,
            client,
            state,
            until,
            probed: probed.unwrap_or_default(),
        };
        self.insert(ip, entry);
    }

    /// Of an address that has no entry.
    fn insert(&mut self, ip: u32, entry: Entry) {
        let end = (entry.until, ip);
        self.by_end.insert(end);
        if entry.is_resting() {
            self.resting.insert(end);
        }
        self.entries.insert(ip, entry);
    }

    fn forget_end(&mut self, ip: u32, entry: &Entry) {
        self.by_end.remove(&(entry.until, ip));
        self.resting.remove(&(entry.until, ip));
    }

    /// Ends what a client has here.
    pub(super) fn free(&mut self, holder: &Holder, now: Duration) {
        if let Some(ip) = self.of.remove(holder)
            && let Some(entry) = self.entries.get(&ip)
        {
            let until = entry.until.min(now);
            self.set(ip, None, Client::default(), State::Free, until);
        }
    }

    /// A client's address became a node's. Should it be the node's only for a moment, it rests until the client cannot use it any more.
    pub(super) fn lose(&mut self, holder: &Holder) {
        if let Some(ip) = self.of.remove(holder)
            && let Some(entry) = self.entries.get(&ip)
        {
            self.set(ip, None, Client::default(), State::Declined, entry.until);
        }
    }

    pub(super) fn holds(&self, ip: u32) -> bool {
        (self.first..=self.last).contains(&ip)
    }

    /// In the pool, and nobody's by configuration or inventory.
    pub(super) fn usable(&self, ip: u32, snapshot: &Snapshot) -> bool {
        let address = Ipv4Addr::from_bits(ip);
        self.holds(ip)
            && Some(address) != self.subnet.server
            && address != self.subnet.network
            && address != self.subnet.broadcast()
            && !self.subnet.routers.contains(&address)
            && !snapshot.owns(address)
            && !self.own.contains(&address)
            && !self.hosts.as_ref().is_some_and(|hosts| hosts.owns(address))
    }

    pub(super) fn is_free_for(&self, ip: u32, holder: &Holder, now: Duration) -> bool {
        self.entries.get(&ip).is_none_or(|entry| {
            let open = entry.holder.is_none() || entry.holder.as_ref() == Some(holder);
            entry.until <= now || (!entry.state.rests() && open)
        })
    }

    pub(super) fn is_alive(&self, ip: u32, now: Duration) -> bool {
        self.entries.get(&ip).is_some_and(|entry| entry.until > now)
    }

    pub(super) fn is_leased(&self, ip: u32, holder: &Holder, now: Duration) -> bool {
        self.entries.get(&ip).is_some_and(|entry| {
            entry.holder.as_ref() == Some(holder) && entry.state == State::Leased && entry.until > now
        })
    }

    /// How full it is. An address whose time is over is free.
    pub(super) fn fill(&self, now: Duration) -> PoolFill {
        let mut states = BTreeMap::new();
        for entry in self
            .entries
            .values()
            .filter(|entry| entry.until > now && entry.state != State::Free)
        {
            *states.entry(entry.state).or_default() += 1;
        }
        PoolFill {
            subnet: (self.subnet.network, self.subnet.prefix),
            addresses: u64::from(self.last - self.first) + 1,
            states,
        }
    }

    pub(super) fn held(&self, now: Duration) -> impl Iterator<Item = Held> + '_ {
        let shown = |entry: &Entry| entry.holder.is_some() || entry.state == State::Conflict;
        let entries = self.entries.iter().filter(move |(_, entry)| shown(entry));
        entries.map(move |(&ip, entry)| Held {
            mac: entry.client.mac,
            client_id: entry.client.client_id.clone(),
            ip: Ipv4Addr::from_bits(ip),
            subnet: (self.subnet.network, self.subnet.prefix),
            state: if entry.until > now { entry.state } else { State::Free },
            until: entry.until,
            host_name: entry.client.host_name.clone(),
        })
    }
}

/// How long an offered address waits for its REQUEST.
const OFFER: Duration = Duration::from_secs(10);
/// How long an address that somebody else uses rests.
pub(super) const QUARANTINE: Duration = Duration::from_secs(600);
/// For how long an address that nobody answered for is not probed again.
pub(super) const PROBED: Duration = Duration::from_secs(60);
/// When an address that was a node's is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
