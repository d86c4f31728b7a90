//! Addresses for clients that the inventory does not know.
//!
//! Owns who has which address of which pool. Promises: an address has one holder at a time, lies in its pool, and is never one of a node, of
//! the server or of a router; memory is bounded by the size of the pools. Whose a lease is says [`Holder`].
//!
//! Pure: the time is passed in (it never goes back), a lease that must be durable is a [`Verdict::Lease`] for the caller to write, and an
//! address that somebody may use already is a [`Verdict::Probe`] for the caller to ask about.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bootd_sdk::mac::Mac;
use serde::{Deserialize, Serialize};

use super::answer::{FreedWhy, Lease, NakWhy, Verdict, Why, client, named, nowhere};
use super::bootloop::{Bootloop, Habit};
use super::holder::{Holder, id};
use super::hosts::Hosts;
use super::policy::{Policy, Receiving, seconds};
use super::reply::{Asker, Reply, ReplyKind};
use super::request::{Kind, Request};
use super::rows::Rows;
use crate::config::{BindTo, BootloopNak, Config, Subnet};
use crate::inventory::Snapshot;

/// All pools.
#[derive(Debug, Default)]
pub struct Pools {
    tables: Vec<Table>,
    rows: Rows,
    /// Decides instead of the tables.
    strict: Option<Bootloop>,
}

/// How dynamic leases are given, beyond what the subnets say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// What a lease belongs to.
    pub bind_to: BindTo,
    /// Which renewals are refused, so that clients begin again and are looked at again.
    pub nak: BootloopNak,
    /// How long an address is probed before it is offered on a local wire; zero: not at all.
    pub probe: Duration,
    /// Do as CoreDHCP did (contract 2.6).
    pub strict: Option<Habit>,
}

impl Terms {
    /// Those of a configuration.
    pub fn new(config: &Config) -> Self {
        let habit = match config.dhcp.unknown.script {
            Some(_) => Habit::Bootloop,
            None => Habit::Range,
        };
        Self {
            bind_to: config.dhcp.bind_to,
            nak: config.compat.bootloop_nak,
            probe: config.dhcp.probe,
            strict: config.compat.strict.then_some(habit),
        }
    }
}

/// How an address of a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    fn rests(self) -> bool {
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

/// A lease of an earlier run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    /// Whose it is.
    pub holder: Holder,
    /// The hardware address, when it has one.
    pub mac: Option<Mac>,
    /// Option 61, when it sent one.
    pub client_id: Option<Arc<[u8]>>,
    /// The address.
    pub ip: Ipv4Addr,
    /// How long it lasts yet.
    pub left: Duration,
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
    of: HashMap<Holder, u32>,
    /// The entries by the time at which they may be given to somebody else.
    by_end: BTreeSet<(Duration, u32)>,
    /// Those of them that somebody uses who should not, and that rest.
    resting: BTreeSet<(Duration, u32)>,
    /// Clients with addresses of their own.
    hosts: Option<Arc<Hosts>>,
    /// bootd's addresses on the interface that was heard last.
    own: Vec<Ipv4Addr>,
}

#[derive(Debug, Clone)]
struct Entry {
    /// `None`: nobody's, or not to be had and looked at again later.
    holder: Option<Holder>,
    client: Client,
    state: State,
    until: Duration,
    /// Until then nobody needs to probe it.
    probed: Duration,
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
                resting: BTreeSet::new(),
                hosts: policy.hosts.clone(),
                own: Vec::new(),
            })
        };
        Self {
            tables: policy.subnets.iter().enumerate().filter_map(table).collect(),
            rows: Rows::default(),
            strict: policy.terms.strict.map(|habit| Bootloop::new(habit, policy)),
        }
    }

    /// Takes over a lease of an earlier run. `false`: it does not fit these pools.
    pub fn restore(&mut self, former: Former, now: Duration) -> bool {
        if let Some(strict) = &mut self.strict {
            let (holder, ip) = (former.holder.clone(), former.ip);
            let restored = strict.restore(former, now);
            if restored {
                self.rows.put(&holder, ip);
            }
            return restored;
        }
        let ip = former.ip.to_bits();
        if self.tables.iter().any(|table| table.of.contains_key(&former.holder)) {
            return false;
        }
        let Some(table) = self.tables.iter_mut().find(|table| table.holds(ip)) else {
            return false;
        };
        if table.entries.contains_key(&ip) {
            return false;
        }
        // A clock that was wrong when the lease was written, or is now, makes no lease longer than it can be.
        let left = former.left.min(Duration::from_secs(table.seconds.into()));
        let client = Client {
            mac: former.mac,
            client_id: former.client_id,
            host_name: former.host_name,
        };
        self.rows.put(&former.holder, former.ip);
        table.set(ip, Some(former.holder), client, State::Leased, now + left);
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
        let kind = match client(request, policy, receiving) {
            Ok((kind, _)) => kind,
            Err(why) => return Verdict::Ignore(why),
        };
        let Some(holder) = Holder::of(request, policy.terms.bind_to) else {
            return Verdict::Ignore(Why::NoMac);
        };
        if policy.is_for_another(request, receiving) {
            if kind == Kind::Request && self.strict.is_none() {
                self.take_back_offer(&holder, now);
            }
            return Verdict::Ignore(Why::OtherServer);
        }
        if let Some(strict) = self.strict.as_mut().filter(|_| !self.tables.is_empty()) {
            return strict.answer(request, holder, policy, receiving, &mut self.rows, now);
        }
        match kind {
            Kind::Release => return self.release(request, holder, now),
            Kind::Decline => return self.decline(request, holder, now),
            Kind::Inform => return Verdict::Ignore(Why::UnknownInform),
            Kind::Other(_) => return Verdict::Ignore(Why::MessageType),
            Kind::Discover | Kind::Request => {}
        }
        let at = match self.table_of(request, policy, receiving, &holder) {
            Ok(at) => at,
            Err(Why::NoPool) => return nowhere(request, policy, receiving, kind),
            Err(why) => return Verdict::Ignore(why),
        };
        let table = &mut self.tables[at];
        if table.own != receiving.addresses {
            table.own.clone_from(&receiving.addresses);
        }
        let place = (&table.subnet, Ipv4Addr::from_bits(table.first));
        let asker = match Asker::unknown(request, policy, snapshot, receiving, place) {
            Ok(asker) => asker,
            Err(why) => return Verdict::Ignore(why),
        };
        if kind == Kind::Discover {
            self.tables[at].offer(asker, policy, snapshot, receiving, holder, now)
        } else {
            self.lease(at, asker, policy, snapshot, holder, now)
        }
    }

    /// The client has an address of the inventory now and was told so: its lease here ends. `true`: it had a row in the store.
    pub fn forget(&mut self, holder: &Holder, now: Duration) -> bool {
        if let Some(strict) = &mut self.strict {
            strict.forget(holder);
        }
        for table in &mut self.tables {
            table.free(holder, now);
        }
        self.rows.remove(holder)
    }

    /// Nobody answered a probe for the address, which may be offered now.
    pub fn is_unused(&mut self, ip: Ipv4Addr, now: Duration) {
        let mut tables = self.tables.iter_mut();
        if let Some(entry) = tables.find_map(|table| table.entries.get_mut(&ip.to_bits())) {
            entry.probed = now + PROBED;
        }
    }

    /// Somebody answered a probe for the address, which rests. `false`: it is not offered any more, so it stays as it is.
    pub fn is_used(&mut self, ip: Ipv4Addr, by: Mac, now: Duration) -> bool {
        let bits = ip.to_bits();
        let offered = |table: &&mut Table| {
            let entry = table.entries.get(&bits);
            entry.is_some_and(|entry| entry.state == State::Offered)
        };
        let Some(table) = self.tables.iter_mut().find(offered) else {
            return false;
        };
        let client = Client {
            mac: Some(by),
            ..Client::default()
        };
        table.set(bits, None, client, State::Conflict, now + QUARANTINE);
        true
    }

    /// An operator says that nobody has the address. Whose lease that ends.
    pub fn clear(&mut self, ip: Ipv4Addr, now: Duration) -> Option<Cleared> {
        let bits = ip.to_bits();
        if let Some(strict) = &mut self.strict {
            let holder = strict.holder_of(ip)?;
            self.forget(&holder, now);
            return Some(Cleared(Some(holder)));
        }
        let table = self.tables.iter_mut().find(|table| table.holds(bits))?;
        let holder = table.entries.get(&bits)?.holder.clone();
        table.set(bits, None, Client::default(), State::Free, now);
        let holder = holder.filter(|holder| self.rows.has(holder, ip));
        if let Some(holder) = &holder {
            self.rows.remove(holder);
        }
        Some(Cleared(holder))
    }

    /// How many clients hold or held an address.
    pub fn len(&self) -> usize {
        if let Some(strict) = &self.strict {
            return strict.len();
        }
        self.tables.iter().map(|table| table.of.len()).sum()
    }

    /// Whether no client ever had an address.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every address that somebody has, or had last.
    pub fn held(&self, now: Duration) -> Vec<Held> {
        let mut held: Vec<Held> = match &self.strict {
            Some(strict) => strict.held(now),
            None => self.tables.iter().flat_map(|table| table.held(now)).collect(),
        };
        held.sort_by_key(|held| held.ip);
        held
    }

    /// The pool for a client: where it has a lease, else the first one on its wire.
    fn table_of(
        &self,
        request: &Request<'_>,
        policy: &Policy,
        receiving: &Receiving,
        holder: &Holder,
    ) -> Result<usize, Why> {
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
        at(&|table| used.is_some() && table.of.get(holder).copied() == used)
            .or_else(|| at(&|table| local(table) && named(request).any(|ip| table.subnet.contains(ip))))
            .or_else(|| at(&|table| local(table) && table.of.contains_key(holder)))
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
        holder: Holder,
        now: Duration,
    ) -> Verdict<'a> {
        let request = asker.request;
        let table = &self.tables[at];
        let nak = |why| Verdict::Nak(Reply::nak(asker.clone(), policy), why);
        let mut all = named(request);
        let Some(ip) = all.next() else {
            return Verdict::Ignore(Why::NoAddress);
        };
        if all.any(|other| other != ip) {
            return nak(NakWhy::NotYours);
        }
        let has = table.of.get(&holder).copied();
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
                self.tables[at].lose(&holder);
                return nak(NakWhy::Taken);
            }
            _ if !table.is_free_for(ip.to_bits(), &holder, now) => return nak(NakWhy::Taken),
            // Who answers an offer has begun again already.
            Some(has)
                if policy.terms.nak == BootloopNak::Always
                    && request.server_id.is_none()
                    && (request.used_ip().is_some() || !table.is_alive(has, now)) =>
            {
                self.forget(&holder, now);
                return Verdict::End(Reply::nak(asker, policy), holder, NakWhy::Renewal);
            }
            // Free, and within the pool that only we give from: a client that comes back to it may have it.
            _ => {}
        }
        for (other, table) in self.tables.iter_mut().enumerate() {
            if other != at {
                table.free(&holder, now);
            }
        }
        let table = &mut self.tables[at];
        let seconds = table.seconds;
        let until = now + Duration::from_secs(seconds.into());
        let client = Client::of(request);
        let lease = Lease {
            holder: holder.clone(),
            mac: client.mac,
            client_id: client.client_id.clone(),
            ip,
            seconds,
            host_name: client.host_name.clone(),
            instead_of: self.rows.put(&holder, ip),
        };
        table.set(ip.to_bits(), Some(holder), client, State::Leased, until);
        Verdict::Lease(table.grant(ReplyKind::Ack, asker, policy, ip), lease)
    }

    fn release<'a>(&mut self, request: &Request<'_>, holder: Holder, now: Duration) -> Verdict<'a> {
        let ip = request.ciaddr;
        if !self.leased(&holder, ip, now) || !self.is_same_client(request, ip) {
            return Verdict::Ignore(Why::NotOurLease);
        }
        self.forget(&holder, now);
        Verdict::Freed(holder, ip, FreedWhy::Released)
    }

    fn decline<'a>(&mut self, request: &Request<'_>, holder: Holder, now: Duration) -> Verdict<'a> {
        let Some(ip) = request
            .requested_ip
            .filter(|ip| self.leased(&holder, *ip, now) && self.is_same_client(request, *ip))
        else {
            return Verdict::Ignore(Why::NotOurLease);
        };
        self.forget(&holder, now);
        for table in &mut self.tables {
            if table.holds(ip.to_bits()) {
                let until = now + QUARANTINE;
                table.set(
                    ip.to_bits(),
                    Some(holder.clone()),
                    Client::of(request),
                    State::Declined,
                    until,
                );
                table.of.remove(&holder);
            }
        }
        Verdict::Freed(holder, ip, FreedWhy::Declined)
    }

    fn leased(&self, holder: &Holder, ip: Ipv4Addr, now: Duration) -> bool {
        let ip = ip.to_bits();
        self.tables.iter().any(|table| table.is_leased(ip, holder, now))
    }

    /// Whoever ends a lease shows the client identifier with which it was asked for (RFC 2131 section 4.4.6), if any: a hardware address
    /// is no secret on its wire.
    fn is_same_client(&self, request: &Request<'_>, ip: Ipv4Addr) -> bool {
        let entry = self.tables.iter().find_map(|table| table.entries.get(&ip.to_bits()));
        entry.is_none_or(|entry| entry.client.client_id.as_deref() == id(request))
    }

    /// The client chose another server.
    fn take_back_offer(&mut self, holder: &Holder, now: Duration) {
        for table in &mut self.tables {
            let offered = |ip: &u32| table.entries.get(ip).is_some_and(|entry| entry.state == State::Offered);
            if table.of.get(holder).is_some_and(offered) {
                table.free(holder, now);
            }
        }
    }
}

/// An address that an operator cleared, and whose row goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleared(pub Option<Holder>);

impl Entry {
    /// Somebody uses it who should not. One that rests because it became a node's is still in use by whoever had it.
    fn is_resting(&self) -> bool {
        self.state == State::Conflict || (self.state == State::Declined && self.holder.is_some())
    }
}

impl Table {
    fn offer<'a>(
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

    fn grant<'a>(&self, kind: ReplyKind, asker: Asker<'a>, policy: &'a Policy, ip: Ipv4Addr) -> Reply<'a> {
        let subnet = &policy.subnets[self.number];
        Reply::grant(kind, asker, policy, subnet, Some((ip, self.seconds)))
    }

    /// Gives an address to a holder; the former one has nothing then, and the new one nothing else.
    fn set(&mut self, ip: u32, holder: Option<Holder>, client: Client, state: State, until: Duration) {
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
    fn free(&mut self, holder: &Holder, now: Duration) {
        if let Some(ip) = self.of.remove(holder)
            && let Some(entry) = self.entries.get(&ip)
        {
            let until = entry.until.min(now);
            self.set(ip, None, Client::default(), State::Free, until);
        }
    }

    /// A client's address became a node's. Should it be the node's only for a moment, it rests until the client cannot use it any more.
    fn lose(&mut self, holder: &Holder) {
        if let Some(ip) = self.of.remove(holder)
            && let Some(entry) = self.entries.get(&ip)
        {
            self.set(ip, None, Client::default(), State::Declined, entry.until);
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

    fn is_free_for(&self, ip: u32, holder: &Holder, now: Duration) -> bool {
        self.entries.get(&ip).is_none_or(|entry| {
            let open = entry.holder.is_none() || entry.holder.as_ref() == Some(holder);
            entry.until <= now || (!entry.state.rests() && open)
        })
    }

    fn is_alive(&self, ip: u32, now: Duration) -> bool {
        self.entries.get(&ip).is_some_and(|entry| entry.until > now)
    }

    fn is_leased(&self, ip: u32, holder: &Holder, now: Duration) -> bool {
        self.entries.get(&ip).is_some_and(|entry| {
            entry.holder.as_ref() == Some(holder) && entry.state == State::Leased && entry.until > now
        })
    }

    fn held(&self, now: Duration) -> impl Iterator<Item = Held> + '_ {
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
const QUARANTINE: Duration = Duration::from_secs(600);
/// For how long an address that nobody answered for is not probed again.
const PROBED: Duration = Duration::from_secs(60);
/// When an address that was a node's is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
