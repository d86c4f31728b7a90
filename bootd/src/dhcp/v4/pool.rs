//! Addresses for clients that the inventory does not know.
//!
//! Owns all pools: which one a client belongs to, and what it may do with what it has there. Promises: an address lies in its pool, and is
//! never one of a node, of the server or of a router; memory is bounded by the size of the pools. Whose a lease is says [`Holder`].
//!
//! Pure: the time is passed in (it never goes back), a lease that must be durable is a [`Verdict::Lease`] for the caller to write, and an
//! address that somebody may use already is a [`Verdict::Probe`] for the caller to ask about.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bootd_sdk::mac::Mac;

use super::answer::{FreedWhy, Lease, NakWhy, Verdict, Why, client, named, nowhere};
use super::bootloop::{Bootloop, Habit};
use super::holder::{Holder, id};
use super::policy::{Policy, Receiving};
use super::reply::{Asker, Reply, ReplyKind};
use super::request::{Kind, Request};
use super::rows::Rows;
use super::table::{Client, Entry, Held, PROBED, PoolFill, QUARANTINE, State, Table};
use crate::config::{BindTo, BootloopNak, Config, Subnet};
use crate::inventory::Snapshot;

/// All pools.
#[derive(Debug, Default)]
pub struct Pools {
    tables: Vec<Table>,
    rows: Rows,
    /// Decides instead of the tables.
    strict: Option<Bootloop>,
    /// Leases that run and fit no pool, by their address: of a pool that was there before, and may be there again.
    homeless: HashMap<u32, Entry>,
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

impl Pools {
    /// The pools of the configuration, all free.
    pub fn new(policy: &Policy) -> Self {
        let table = |(number, subnet): (usize, &Subnet)| {
            let hosts = policy.hosts.clone();
            Some(Table::new(number, subnet, subnet.pool.as_ref()?, hosts))
        };
        Self {
            tables: policy.subnets.iter().enumerate().filter_map(table).collect(),
            rows: Rows::default(),
            strict: policy.terms.strict.map(|habit| Bootloop::new(habit, policy)),
            homeless: HashMap::new(),
        }
    }

    /// Takes over what was given by pools from before, which end. An address stays its client's, until the time that it was told, wherever it lies in a
    /// pool now; what lies in none waits for one, and its row stays.
    pub fn take_over(&mut self, before: Self, now: Duration) {
        self.rows = before.rows;
        if let (Some(strict), Some(before)) = (&mut self.strict, before.strict) {
            strict.take_over(before);
        }
        let mut loose: Vec<(u32, Entry)> = Vec::new();
        for table in before.tables {
            match self.tables.iter_mut().find(|new| new.has_range_of(&table)) {
                Some(same) => same.continue_as(table),
                None => loose.extend(table.entries),
            }
        }
        loose.extend(before.homeless);
        for (ip, entry) in loose {
            // Whoever uses an address that rests has none of its own by that.
            let holder = entry.holder.as_ref().filter(|_| !entry.state.rests());
            let has_another = |holder| self.tables.iter().any(|table| table.of.contains_key(holder));
            if (holder.is_none() && entry.until <= now) || holder.is_some_and(has_another) {
                continue;
            }
            match self.tables.iter_mut().find(|table| table.holds(ip)) {
                Some(table) => table.adopt(ip, entry),
                None if entry.state == State::Leased && entry.until > now => drop(self.homeless.insert(ip, entry)),
                None => {}
            }
        }
    }

    /// One for each subnet that has a pool.
    pub(super) fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The same, to change.
    pub(super) fn tables_mut(&mut self) -> &mut [Table] {
        &mut self.tables
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
            let client = Client {
                mac: former.mac,
                client_id: former.client_id,
                host_name: former.host_name,
            };
            let entry = Entry::leased(former.holder, client, now + former.left);
            self.homeless.insert(ip, entry);
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
            Kind::Inform => return self.inform(request, policy, snapshot, receiving, &holder, now),
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
        self.homeless.retain(|_, entry| entry.holder.as_ref() != Some(holder));
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

    /// How full each pool is.
    pub fn fill(&self, now: Duration) -> Vec<PoolFill> {
        let mut fills: Vec<PoolFill> = self.tables.iter().map(|table| table.fill(now)).collect();
        if let Some(strict) = &self.strict {
            // Its addresses are its own; how many there are, it has from the same pools.
            for fill in &mut fills {
                fill.states.clear();
            }
            for held in strict.held(now) {
                if let Some(fill) = fills.iter_mut().find(|fill| fill.subnet == held.subnet) {
                    *fill.states.entry(held.state).or_default() += 1;
                }
            }
        }
        fills
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

    /// Who has a lease may ask for more than it got with it (RFC 2131 section 3.4).
    fn inform<'a>(
        &self,
        request: &'a Request<'a>,
        policy: &'a Policy,
        snapshot: &Snapshot,
        receiving: &Receiving,
        holder: &Holder,
        now: Duration,
    ) -> Verdict<'a> {
        let ip = request.ciaddr;
        let mut tables = self.tables.iter();
        let Some(table) = tables.find(|table| table.is_leased(ip.to_bits(), holder, now)) else {
            return Verdict::Ignore(Why::UnknownInform);
        };
        let subnet = &policy.subnets[table.number];
        match Asker::unknown(request, policy, snapshot, receiving, (subnet, ip)) {
            Ok(asker) => Verdict::Reply(Reply::grant(ReplyKind::Ack, asker, policy, subnet, None)),
            Err(why) => Verdict::Ignore(why),
        }
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

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
