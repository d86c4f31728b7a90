//! Addresses for clients that the inventory does not know.
//!
//! Owns who has which address of which pool. Promises: an address has one holder at a time, lies in its pool, and is never one of a node, of
//! the server or of a router; memory is bounded by the size of the pools. Leases belong to hardware addresses, never to option 61: a diskless
//! Linux makes a new client id at every boot.
//!
//! Pure: the time is passed in (it never goes back), and a lease that must be durable is a [`Verdict::Lease`] for the caller to write.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bootd_sdk::mac::Mac;
use serde::Serialize;

use super::answer::{FreedWhy, Lease, NakWhy, Verdict, Why, client, named, nowhere};
use super::hosts::Hosts;
use super::policy::{Policy, Receiving, seconds};
use super::reply::{Asker, Reply, ReplyKind};
use super::request::{Kind, Request};
use super::rows::Rows;
use crate::config::Subnet;
use crate::inventory::Snapshot;

/// All pools.
#[derive(Debug, Default)]
pub struct Pools {
    tables: Vec<Table>,
    rows: Rows,
}

/// How an address of a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Offered a moment ago.
    Offered,
    /// Leased.
    Leased,
    /// Nobody's; its last holder gets it again as long as nobody else needs it.
    Free,
    /// Found in use by somebody else: it rests.
    Declined,
}

/// An address of a pool, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its holder, or its last one.
    pub mac: Mac,
    /// The address.
    pub ip: Ipv4Addr,
    /// How it is.
    pub state: State,
    /// When that ends.
    pub until: Duration,
    /// What the client calls itself.
    pub host_name: Option<String>,
}

/// One pool and who has what in it.
#[derive(Debug)]
struct Table {
    subnet: Subnet,
    /// Its place among the subnets of the policy.
    number: usize,
    first: u32,
    last: u32,
    seconds: u32,
    /// No address from here on was ever looked at.
    next: u64,
    entries: HashMap<u32, Entry>,
    /// The address of each holder, past ones too.
    of: HashMap<Mac, u32>,
    /// The entries by the time at which they may be given to somebody else.
    by_end: BTreeSet<(Duration, u32)>,
    /// Those of them that clients declined, and that rest.
    declined: BTreeSet<(Duration, u32)>,
    /// Clients with addresses of their own.
    hosts: Option<Arc<Hosts>>,
    /// bootd's addresses on the interface that was heard last.
    own: Vec<Ipv4Addr>,
}

#[derive(Debug, Clone)]
struct Entry {
    /// `None`: not to be had, looked at again later.
    mac: Option<Mac>,
    state: State,
    until: Duration,
    host_name: Option<String>,
}

impl Pools {
    /// The pools of the configuration, all free.
    pub fn new(policy: &Policy) -> Self {
        let table = |(number, subnet): (usize, &Subnet)| {
            subnet.pool.as_ref().map(|pool| Table {
                subnet: subnet.clone(),
                number,
                first: pool.first.to_bits(),
                last: pool.last.to_bits(),
                seconds: seconds(pool.lease_time),
                next: pool.first.to_bits().into(),
                entries: HashMap::new(),
                of: HashMap::new(),
                by_end: BTreeSet::new(),
                declined: BTreeSet::new(),
                hosts: policy.hosts.clone(),
                own: Vec::new(),
            })
        };
        Self {
            tables: policy.subnets.iter().enumerate().filter_map(table).collect(),
            rows: Rows::default(),
        }
    }

    /// Takes over a lease of an earlier run, which ends `left` after `now`. `false`: it does not fit these pools.
    pub fn restore(
        &mut self,
        mac: Mac,
        ip: Ipv4Addr,
        left: Duration,
        host_name: Option<String>,
        now: Duration,
    ) -> bool {
        if self.tables.iter().any(|table| table.of.contains_key(&mac)) {
            return false;
        }
        let Some(table) = self.tables.iter_mut().find(|table| table.holds(ip.to_bits())) else {
            return false;
        };
        if table.entries.contains_key(&ip.to_bits()) {
            return false;
        }
        // A clock that was wrong when the lease was written, or is now, makes no lease longer than it can be.
        let left = left.min(Duration::from_secs(table.seconds.into()));
        let state = if left.is_zero() { State::Free } else { State::Leased };
        table.set(ip.to_bits(), Some(mac), state, now + left, host_name);
        self.rows.put(mac, ip);
        true
    }

    /// Decides for a client that the inventory has no address for. The policy is the one that these pools were made for.
    pub fn answer<'a>(
        &mut self,
        request: &'a Request<'a>,
        policy: &'a Policy,
        snapshot: &Snapshot,
        receiving: &Receiving,
        now: Duration,
    ) -> Verdict<'a> {
        let (kind, mac) = match client(request, policy, receiving) {
            Ok(client) => client,
            Err(why) => return Verdict::Ignore(why),
        };
        if policy.is_for_another(request, receiving) {
            if kind == Kind::Request {
                self.take_back_offer(mac, now);
            }
            return Verdict::Ignore(Why::OtherServer);
        }
        match kind {
            Kind::Release => return self.release(request, mac, now),
            Kind::Decline => return self.decline(request, mac, now),
            Kind::Inform => return Verdict::Ignore(Why::UnknownInform),
            Kind::Other(_) => return Verdict::Ignore(Why::MessageType),
            Kind::Discover | Kind::Request => {}
        }
        let at = match self.table_of(request, policy, receiving, mac) {
            Ok(at) => at,
            Err(Why::NoPool) => return nowhere(request, policy, receiving, kind, mac),
            Err(why) => return Verdict::Ignore(why),
        };
        let table = &mut self.tables[at];
        if table.own != receiving.addresses {
            table.own.clone_from(&receiving.addresses);
        }
        let place = (&table.subnet, Ipv4Addr::from_bits(table.first));
        let asker = match Asker::unknown(request, mac, policy, snapshot, receiving, place) {
            Ok(asker) => asker,
            Err(why) => return Verdict::Ignore(why),
        };
        if kind == Kind::Discover {
            self.tables[at].offer(asker, policy, snapshot, now)
        } else {
            self.lease(at, asker, policy, snapshot, now)
        }
    }

    /// The client has an address of the inventory now and was told so: its lease here ends. `true`: it had a row in the store.
    pub fn forget(&mut self, mac: Mac, now: Duration) -> bool {
        for table in &mut self.tables {
            table.free(mac, now);
        }
        self.rows.remove(mac)
    }

    /// How many clients hold or held an address.
    pub fn len(&self) -> usize {
        self.tables.iter().map(|table| table.of.len()).sum()
    }

    /// Whether no client ever had an address.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every address that somebody has, or had last.
    pub fn held(&self, now: Duration) -> Vec<Held> {
        let mut held: Vec<Held> = self.tables.iter().flat_map(|table| table.held(now)).collect();
        held.sort_by_key(|held| held.ip);
        held
    }

    /// The pool for a client: where it has a lease, else the first one on its wire.
    fn table_of(&self, request: &Request<'_>, policy: &Policy, receiving: &Receiving, mac: Mac) -> Result<usize, Why> {
        if let Some(link) = policy.link_of(request) {
            let subnet = policy.subnet_of(link).ok_or(Why::RelayNotServed)?;
            let of = |subnet: &Subnet| self.tables.iter().position(|table| table.subnet == *subnet);
            // A pool that is for everywhere is for here, too.
            let everywhere = || policy.catch_all().and_then(of);
            return of(subnet).or_else(everywhere).ok_or(Why::NoPool);
        }
        // A renewal comes without relay from wherever the client is; the address that it uses says where.
        let local = |table: &Table| Policy::is_local(&table.subnet, receiving);
        let at = |wanted: &dyn Fn(&Table) -> bool| self.tables.iter().position(wanted);
        let used = request.used_ip().map(Ipv4Addr::to_bits);
        at(&|table| used.is_some() && table.of.get(&mac).copied() == used)
            .or_else(|| at(&|table| local(table) && named(request).any(|ip| table.subnet.contains(ip))))
            .or_else(|| at(&|table| local(table) && table.of.contains_key(&mac)))
            .or_else(|| at(&|table| Policy::is_addressed(&table.subnet, receiving)))
            .or_else(|| at(&local))
            .ok_or(Why::NoPool)
    }

    fn lease<'a>(
        &mut self,
        at: usize,
        asker: Asker<'a>,
        policy: &'a Policy,
        snapshot: &Snapshot,
        now: Duration,
    ) -> Verdict<'a> {
        let Asker { request, mac, .. } = asker;
        let table = &self.tables[at];
        let nak = |why| Verdict::Nak(Reply::nak(asker.clone(), policy), why);
        let mut all = named(request);
        let Some(ip) = all.next() else {
            return Verdict::Ignore(Why::NoAddress);
        };
        if all.any(|other| other != ip) {
            return nak(NakWhy::NotYours);
        }
        let has = table.of.get(&mac).copied();
        if !table.subnet.contains(ip) {
            // Without relay a renewal may be of any subnet; it is not for us to end a lease that another server gave.
            let routed = request.giaddr.is_unspecified() && !request.ciaddr.is_unspecified();
            return match routed {
                true => Verdict::Ignore(Why::NotOurLease),
                false => nak(NakWhy::OtherSubnet),
            };
        }
        match has {
            Some(has) if has != ip.to_bits() && table.is_alive(has, now) => return nak(NakWhy::NotYours),
            _ if !table.holds(ip.to_bits()) && request.server_id.is_none() => {
                return Verdict::Ignore(Why::NotOurLease);
            }
            _ if !table.usable(ip.to_bits(), snapshot) => {
                self.tables[at].lose(mac);
                return nak(NakWhy::Taken);
            }
            _ if !table.is_free_for(ip.to_bits(), mac, now) => return nak(NakWhy::Taken),
            // Free, and within the pool that only we give from: a client that comes back to it may have it.
            _ => {}
        }
        for (other, table) in self.tables.iter_mut().enumerate() {
            if other != at {
                table.free(mac, now);
            }
        }
        let table = &mut self.tables[at];
        let seconds = table.seconds;
        let until = now + Duration::from_secs(seconds.into());
        let host_name = request.host_name();
        table.set(ip.to_bits(), Some(mac), State::Leased, until, host_name.clone());
        let lease = Lease {
            mac,
            ip,
            seconds,
            host_name,
            instead_of: self.rows.put(mac, ip),
        };
        Verdict::Lease(table.grant(ReplyKind::Ack, asker, policy, ip), lease)
    }

    fn release<'a>(&mut self, request: &Request<'_>, mac: Mac, now: Duration) -> Verdict<'a> {
        let ip = request.ciaddr;
        if !self.leased(mac, ip, now) {
            return Verdict::Ignore(Why::NotOurLease);
        }
        self.forget(mac, now);
        Verdict::Freed(mac, ip, FreedWhy::Released)
    }

    fn decline<'a>(&mut self, request: &Request<'_>, mac: Mac, now: Duration) -> Verdict<'a> {
        let Some(ip) = request.requested_ip.filter(|ip| self.leased(mac, *ip, now)) else {
            return Verdict::Ignore(Why::NotOurLease);
        };
        self.forget(mac, now);
        for table in &mut self.tables {
            if table.holds(ip.to_bits()) {
                table.set(ip.to_bits(), Some(mac), State::Declined, now + QUARANTINE, None);
                table.of.remove(&mac);
            }
        }
        Verdict::Freed(mac, ip, FreedWhy::Declined)
    }

    fn leased(&self, mac: Mac, ip: Ipv4Addr, now: Duration) -> bool {
        let ip = ip.to_bits();
        self.tables.iter().any(|table| table.is_leased(ip, mac, now))
    }

    /// The client chose another server.
    fn take_back_offer(&mut self, mac: Mac, now: Duration) {
        for table in &mut self.tables {
            let offered = |ip: &u32| table.entries.get(ip).is_some_and(|entry| entry.state == State::Offered);
            if table.of.get(&mac).is_some_and(offered) {
                table.free(mac, now);
            }
        }
    }
}

impl Entry {
    /// By its holder. One that rests because it became a node's is still in use by whoever had it.
    fn is_declined(&self) -> bool {
        self.state == State::Declined && self.mac.is_some()
    }
}

impl Table {
    fn offer<'a>(&mut self, asker: Asker<'a>, policy: &'a Policy, snapshot: &Snapshot, now: Duration) -> Verdict<'a> {
        let Asker { request, mac, .. } = asker;
        let Some(ip) = self.choose(mac, request.requested_ip, snapshot, now) else {
            return Verdict::Ignore(Why::PoolExhausted);
        };
        // A client that asks again while its lease runs keeps it.
        let leased = self.is_leased(ip, mac, now);
        if !leased {
            self.set(ip, Some(mac), State::Offered, now + OFFER, request.host_name());
        }
        Verdict::Reply(self.grant(ReplyKind::Offer, asker, policy, Ipv4Addr::from_bits(ip)))
    }

    /// The client's own address, else the one that it asks for, else one that nobody ever had, else the one that is free for longest, else
    /// the one that was declined longest ago: whoever declines all of them does not empty the pool.
    fn choose(&mut self, mac: Mac, wanted: Option<Ipv4Addr>, snapshot: &Snapshot, now: Duration) -> Option<u32> {
        if let Some(&own) = self.of.get(&mac) {
            if self.usable(own, snapshot) {
                return Some(own);
            }
            self.lose(mac);
        }
        let wanted = wanted.map(Ipv4Addr::to_bits);
        if let Some(ip) = wanted.filter(|&ip| self.usable(ip, snapshot) && self.is_free_for(ip, mac, now)) {
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
            self.set(ip, None, State::Free, now + LOOK_AGAIN, None);
        }
        while let Some(&(until, ip)) = self.by_end.first() {
            if until > now {
                break;
            }
            if self.usable(ip, snapshot) {
                return Some(ip);
            }
            self.set(ip, None, State::Free, now + LOOK_AGAIN, None);
        }
        let mut declined = self.declined.iter().map(|&(_, ip)| ip);
        declined.find(|&ip| self.usable(ip, snapshot))
    }

    fn grant<'a>(&self, kind: ReplyKind, asker: Asker<'a>, policy: &'a Policy, ip: Ipv4Addr) -> Reply<'a> {
        let subnet = &policy.subnets[self.number];
        Reply::grant(kind, asker, policy, subnet, Some((ip, self.seconds)))
    }

    /// Gives an address to a holder; the former one has nothing then, and the new one nothing else.
    fn set(&mut self, ip: u32, mac: Option<Mac>, state: State, until: Duration, host_name: Option<String>) {
        if let Some(mac) = mac
            && let Some(former) = self.of.insert(mac, ip)
            && former != ip
            && let Some(entry) = self.entries.remove(&former)
        {
            self.insert(former, Entry { mac: None, ..entry });
        }
        if let Some(entry) = self.entries.get(&ip)
            && let Some(holder) = entry.mac.filter(|holder| Some(*holder) != mac)
            && self.of.get(&holder) == Some(&ip)
        {
            self.of.remove(&holder);
        }
        let entry = Entry {
            mac,
            state,
            until,
            host_name,
        };
        self.insert(ip, entry);
    }

    fn insert(&mut self, ip: u32, entry: Entry) {
        let end = (entry.until, ip);
        let declined = entry.is_declined();
        if let Some(former) = self.entries.insert(ip, entry) {
            self.by_end.remove(&(former.until, ip));
            self.declined.remove(&(former.until, ip));
        }
        self.by_end.insert(end);
        if declined {
            self.declined.insert(end);
        }
    }

    /// Ends what a client has here.
    fn free(&mut self, mac: Mac, now: Duration) {
        if let Some(ip) = self.of.remove(&mac)
            && let Some(entry) = self.entries.get(&ip)
        {
            let until = entry.until.min(now);
            self.set(ip, None, State::Free, until, None);
        }
    }

    /// A client's address became a node's. Should it be the node's only for a moment, it rests until the client cannot use it any more.
    fn lose(&mut self, mac: Mac) {
        if let Some(ip) = self.of.remove(&mac)
            && let Some(entry) = self.entries.get(&ip)
        {
            self.set(ip, None, State::Declined, entry.until, None);
        }
    }

    fn holds(&self, ip: u32) -> bool {
        (self.first..=self.last).contains(&ip)
    }

    /// In the pool, and nobody's by configuration or inventory.
    fn usable(&self, ip: u32, snapshot: &Snapshot) -> bool {
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

    fn is_free_for(&self, ip: u32, mac: Mac, now: Duration) -> bool {
        self.entries.get(&ip).is_none_or(|entry| {
            let resting = entry.state == State::Declined;
            entry.until <= now || (!resting && (entry.mac.is_none() || entry.mac == Some(mac)))
        })
    }

    fn is_alive(&self, ip: u32, now: Duration) -> bool {
        self.entries.get(&ip).is_some_and(|entry| entry.until > now)
    }

    fn is_leased(&self, ip: u32, mac: Mac, now: Duration) -> bool {
        self.entries
            .get(&ip)
            .is_some_and(|entry| entry.mac == Some(mac) && entry.state == State::Leased && entry.until > now)
    }

    fn held(&self, now: Duration) -> impl Iterator<Item = Held> + '_ {
        self.entries.iter().filter_map(move |(&ip, entry)| {
            Some(Held {
                mac: entry.mac?,
                ip: Ipv4Addr::from_bits(ip),
                state: if entry.until > now { entry.state } else { State::Free },
                until: entry.until,
                host_name: entry.host_name.clone(),
            })
        })
    }
}

/// How long an offered address waits for its REQUEST.
const OFFER: Duration = Duration::from_secs(10);
/// How long a declined address rests.
const QUARANTINE: Duration = Duration::from_secs(600);
/// When an address that was a node's is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
