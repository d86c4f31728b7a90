//! What CoreDHCP did with clients that its inventory did not know, to the letter (contract 2.6 and 1.3): `compat.strict`.
//!
//! A client has a record or has none, and no message changes that as RFC 2131 would have it: leases never end, DISCOVER and REQUEST are
//! treated alike, and `bootloop` refuses whoever has a record and is not iPXE, which loses the record by that. `range` refuses nobody. The
//! NAK is upstream's too: marked as a request, with option 53 and nothing else, so clients that look do not take it for one.
//!
//! Pure, and in place of the [pool](super::pool)'s decision; what is kept of upstream's weakness is this behaviour, not its crashes.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::time::Duration;

use super::answer::{Lease, NakWhy, Verdict, Why, nowhere};
use super::boot::Stage;
use super::holder::Holder;
use super::policy::{Policy, Receiving, seconds};
use super::pool::Former;
use super::reply::{Asker, Reply, ReplyKind};
use super::request::{HEADER, Kind, MAGIC_COOKIE, Request};
use super::rows::Rows;
use super::table::{Client, Held, State};
use crate::config::Subnet;

/// Which plugin had the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// `bootloop`: one contact, then a NAK.
    Bootloop,
    /// `range`: the same address for ever.
    Range,
}

/// The clients that have a record.
#[derive(Debug)]
pub(super) struct Bootloop {
    habit: Habit,
    pools: Vec<Pool>,
    records: HashMap<Holder, Record>,
    taken: BTreeMap<u32, Holder>,
}

#[derive(Debug)]
struct Pool {
    /// Its place among the subnets of the policy.
    number: usize,
    subnet: (Ipv4Addr, u8),
    first: u32,
    last: u32,
    seconds: u32,
}

#[derive(Debug)]
struct Record {
    ip: u32,
    client: Client,
    /// For the operator only; nothing reads it, as nothing did upstream.
    until: Duration,
}

impl Bootloop {
    pub(super) fn new(habit: Habit, policy: &Policy) -> Self {
        let subnets = policy.subnets.iter().enumerate();
        let pools = subnets.filter_map(|(number, subnet)| {
            let pool = subnet.pool.as_ref()?;
            Some(Pool {
                number,
                subnet: (subnet.network, subnet.prefix),
                first: pool.first.to_bits(),
                last: pool.last.to_bits(),
                seconds: seconds(pool.lease_time),
            })
        });
        Self {
            habit,
            pools: pools.collect(),
            records: HashMap::new(),
            taken: BTreeMap::new(),
        }
    }

    /// Takes over a record. `false`: it lies outside of every pool, or another one has its address or its client.
    pub(super) fn restore(&mut self, former: Former, now: Duration) -> bool {
        let ip = former.ip.to_bits();
        let there = self.taken.contains_key(&ip) || self.records.contains_key(&former.holder);
        if there || !self.pools.iter().any(|pool| pool.holds(ip)) {
            return false;
        }
        let client = Client {
            mac: former.mac,
            client_id: former.client_id,
            host_name: former.host_name,
        };
        let until = now + former.left;
        self.taken.insert(ip, former.holder.clone());
        self.records.insert(former.holder, Record { ip, client, until });
        true
    }

    /// Takes over the records that lie in these pools. The rows of the others stay, for a start with other pools.
    pub(super) fn take_over(&mut self, before: Self) {
        let kept = before.records.into_iter();
        self.records = kept
            .filter(|(_, record)| self.pools.iter().any(|pool| pool.holds(record.ip)))
            .collect();
        let records = self.records.iter();
        self.taken = records.map(|(holder, record)| (record.ip, holder.clone())).collect();
    }

    pub(super) fn answer<'a>(
        &mut self,
        request: &'a Request<'a>,
        holder: Holder,
        policy: &'a Policy,
        receiving: &Receiving,
        rows: &mut Rows,
        now: Duration,
    ) -> Verdict<'a> {
        let (wants, kind) = match request.kind {
            Some(wants @ Kind::Discover) => (wants, ReplyKind::Offer),
            Some(wants @ Kind::Request) => (wants, ReplyKind::Ack),
            _ => return Verdict::Ignore(Why::MessageType),
        };
        let is_ipxe = Stage::of(request, policy.strict) == Stage::Ipxe;
        if let Some(record) = self.records.get_mut(&holder) {
            let Some(pool) = self.pools.iter().find(|pool| pool.holds(record.ip)) else {
                return Verdict::Ignore(Why::NoPool);
            };
            let subnet = &policy.subnets[pool.number];
            let ip = Ipv4Addr::from_bits(record.ip);
            // Rules are `coresmd`'s, which knows other clients.
            let asker = Asker::without_rules(request, policy, receiving, (subnet, ip));
            if self.habit == Habit::Bootloop && !is_ipxe {
                self.forget(&holder);
                rows.remove(&holder);
                return Verdict::End(Reply::nak(asker, policy), holder, NakWhy::Bootloop);
            }
            let reply = Reply::grant(kind, asker, policy, subnet, Some((ip, pool.seconds)));
            record.until = now + Duration::from_secs(pool.seconds.into());
            // `range` renews what it wrote; `bootloop` wrote it once.
            return match self.habit {
                Habit::Range => Verdict::Lease(reply, lease(holder, &record.client, ip, pool.seconds)),
                Habit::Bootloop => Verdict::Reply(reply),
            };
        }
        let Some(pool) = self.pool_of(request, policy) else {
            return nowhere(request, policy, receiving, wants);
        };
        // A full pool is seen at once: whoever has nothing may ask often.
        let is_full = self.pools.iter().map(Pool::len).sum::<usize>() <= self.taken.len();
        let Some(ip) = (!is_full).then(|| pool.lowest_free(&self.taken)).flatten() else {
            return Verdict::Ignore(Why::PoolExhausted);
        };
        let client = Client::of(request);
        let until = now + Duration::from_secs(pool.seconds.into());
        let address = Ipv4Addr::from_bits(ip);
        let given = Some((address, pool.seconds));
        let subnet = &policy.subnets[pool.number];
        let asker = Asker::without_rules(request, policy, receiving, (subnet, address));
        let mut reply = Reply::grant(kind, asker, policy, subnet, given);
        if self.habit == Habit::Bootloop && is_ipxe {
            reply.booting.file = None;
        }
        let lease = lease(holder.clone(), &client, address, pool.seconds);
        rows.put(&holder, address);
        self.taken.insert(ip, holder.clone());
        self.records.insert(holder, Record { ip, client, until });
        // On disk before the offer already.
        Verdict::Lease(reply, lease)
    }

    pub(super) fn forget(&mut self, holder: &Holder) {
        if let Some(record) = self.records.remove(holder) {
            self.taken.remove(&record.ip);
        }
    }

    pub(super) fn holder_of(&self, ip: Ipv4Addr) -> Option<Holder> {
        self.taken.get(&ip.to_bits()).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn held(&self, now: Duration) -> Vec<Held> {
        let held = |record: &Record| {
            let pool = self.pools.iter().find(|pool| pool.holds(record.ip))?;
            Some(Held {
                mac: record.client.mac,
                client_id: record.client.client_id.clone(),
                ip: Ipv4Addr::from_bits(record.ip),
                subnet: pool.subnet,
                state: State::Leased,
                until: record.until.max(now),
                host_name: record.client.host_name.clone(),
            })
        };
        self.records.values().filter_map(held).collect()
    }

    /// The pool of the relay's subnet. Who came by no relay has one only where there is no other.
    fn pool_of(&self, request: &Request<'_>, policy: &Policy) -> Option<&Pool> {
        match (policy.link_of(request), &self.pools[..]) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(link), pools) => {
                let of = |subnet: &Subnet| pools.iter().find(|pool| policy.subnets[pool.number] == *subnet);
                // A pool that is for everywhere is for here, too.
                of(policy.subnet_of(link)?).or_else(|| policy.catch_all().and_then(of))
            }
        }
    }
}

impl Pool {
    fn holds(&self, ip: u32) -> bool {
        (self.first..=self.last).contains(&ip)
    }

    fn len(&self) -> usize {
        (self.last - self.first) as usize + 1
    }

    fn lowest_free(&self, taken: &BTreeMap<u32, Holder>) -> Option<u32> {
        let mut free = self.first;
        for ip in taken.range(self.first..=self.last).map(|(ip, _)| *ip) {
            if ip != free {
                break;
            }
            free = ip.checked_add(1)?;
        }
        self.holds(free).then_some(free)
    }
}

fn lease(holder: Holder, client: &Client, ip: Ipv4Addr, seconds: u32) -> Lease {
    Lease {
        holder,
        mac: client.mac,
        client_id: client.client_id.clone(),
        ip,
        seconds,
        host_name: client.host_name.clone(),
        instead_of: None,
    }
}

/// Makes `packet` upstream's NAK: a new packet of its own, not an answer to the client's.
pub fn encode_nak(reply: &Reply<'_>, packet: &mut Vec<u8>) {
    let request = reply.request;
    packet.clear();
    packet.extend_from_slice(&[1, 1, request.hlen, 0]);
    packet.extend_from_slice(&request.xid.to_be_bytes());
    packet.resize(20, 0); // secs, flags, ciaddr, yiaddr
    packet.extend_from_slice(&reply.server.octets());
    packet.extend_from_slice(&[0; 4]); // giaddr
    packet.extend_from_slice(&request.chaddr);
    packet.resize(HEADER - MAGIC_COOKIE.len(), 0);
    packet.extend_from_slice(&MAGIC_COOKIE);
    packet.extend_from_slice(&[53, 1, reply.kind.message_type().into(), 255]);
    packet.resize(super::encode::MINIMUM, 0);
}

#[cfg(test)]
mod tests {
    use super::super::pool::Pools;
    use super::super::reply::Destination;
    use super::super::request::parse;
    use super::super::testing::{self, Sent, mac, receiving, site};
    use super::*;

    struct Bench {
        policy: Policy,
        pools: Pools,
        now: Duration,
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Said {
        /// Kind, address, boot file.
        Has(ReplyKind, [u8; 4], String),
        Nak,
        Silence(Why),
    }

    impl Bench {
        fn new(habit: Habit) -> Self {
            let mut policy = testing::policy();
            policy.subnets.truncate(1);
            policy.terms.strict = Some(habit);
            let pools = Pools::new(&policy);
            let now = Duration::from_secs(1000);
            Self { policy, pools, now }
        }

        fn say(&mut self, packet: &[u8]) -> Said {
            let request = parse(packet).unwrap();
            self.now += Duration::from_secs(1);
            match self
                .pools
                .answer(&request, &self.policy, &site(), &receiving(), self.now)
            {
                Verdict::Reply(reply) | Verdict::Lease(reply, _) => {
                    let sent = Sent::of(&reply);
                    Said::Has(reply.kind, reply.yiaddr.octets(), sent.file().to_owned())
                }
                Verdict::End(reply, holder, NakWhy::Bootloop) => {
                    assert_eq!(holder, Holder::Mac(reply.mac));
                    Said::Nak
                }
                Verdict::Ignore(why) => Said::Silence(why),
                other => panic!("{other:?}"),
            }
        }
    }

    const FIRST: [u8; 4] = [172, 16, 0, 200];

    #[test]
    fn bootloop_offers_and_refuses_by_turns_whatever_the_type() {
        let mut bench = Bench::new(Habit::Bootloop);
        let client = || testing::Client::new(9).option(93, &[0, 7]);
        let has = |kind| Said::Has(kind, FIRST, "ipxe-x86_64.efi".into());
        assert_eq!(bench.say(&client().discover()), has(ReplyKind::Offer));
        let request = client().option(50, &FIRST).request();
        assert_eq!(bench.say(&request), Said::Nak);
        assert_eq!(bench.say(&request), has(ReplyKind::Ack));
        assert_eq!(bench.say(&client().ciaddr(FIRST).request()), Said::Nak);
        assert_eq!(bench.say(&client().discover()), has(ReplyKind::Offer));
        assert_eq!(bench.say(&client().discover()), Said::Nak);
        for kind in [4, 7, 8] {
            assert_eq!(bench.say(&client().send(kind)), Said::Silence(Why::MessageType));
        }
    }

    #[test]
    fn ipxe_keeps_its_record_and_is_told_the_script_at_the_second_contact() {
        let mut bench = Bench::new(Habit::Bootloop);
        let ipxe = || testing::Client::new(9).option(77, b"iPXE");
        assert_eq!(
            bench.say(&ipxe().discover()),
            Said::Has(ReplyKind::Offer, FIRST, String::new())
        );
        for _ in 0..3 {
            let Said::Has(ReplyKind::Ack, FIRST, file) = bench.say(&ipxe().request()) else {
                panic!("no ACK");
            };
            assert!(!file.is_empty());
        }
        // Its operating system is refused once.
        assert_eq!(bench.say(&testing::Client::new(9).discover()), Said::Nak);
        assert_eq!(bench.pools.len(), 0);
    }

    #[test]
    fn records_never_end_so_a_pool_is_used_up() {
        let mut bench = Bench::new(Habit::Bootloop);
        for number in 10..18 {
            let said = bench.say(&testing::Client::new(number).discover());
            assert!(matches!(said, Said::Has(_, [172, 16, 0, ip], _) if ip == number + 190));
        }
        bench.now += Duration::from_secs(1_000_000);
        let late = testing::Client::new(30).discover();
        assert_eq!(bench.say(&late), Said::Silence(Why::PoolExhausted));
        assert_eq!(bench.say(&testing::Client::new(13).discover()), Said::Nak);
        let Said::Has(_, ip, _) = bench.say(&late) else {
            panic!("no offer");
        };
        assert_eq!(ip, [172, 16, 0, 203]);
        assert_eq!(bench.pools.held(bench.now).len(), 8);
    }

    #[test]
    fn range_gives_one_address_for_ever_and_refuses_nobody() {
        let mut bench = Bench::new(Habit::Range);
        for packet in [
            testing::Client::new(9).discover(),
            testing::Client::new(9).option(50, &[172, 16, 0, 207]).request(),
            testing::Client::new(9).option(77, b"iPXE").discover(),
        ] {
            assert!(matches!(bench.say(&packet), Said::Has(_, FIRST, _)));
        }
    }

    #[test]
    fn without_relay_several_pools_are_none() {
        let mut bench = Bench::new(Habit::Bootloop);
        bench.policy.subnets = testing::policy().subnets;
        bench.pools = Pools::new(&bench.policy);
        let direct = testing::Client::new(9).discover();
        assert_eq!(bench.say(&direct), Said::Silence(Why::NoPool));
        let relayed = testing::Client::new(9).giaddr([10, 1, 0, 1]).discover();
        assert!(matches!(bench.say(&relayed), Said::Has(_, [10, 1, 0, 10], _)));
    }

    #[test]
    fn records_come_back_after_a_restart() {
        let mut bench = Bench::new(Habit::Bootloop);
        let mut restore = |number, ip: [u8; 4]| {
            let former = Former {
                holder: Holder::Mac(mac(number)),
                mac: Some(mac(number)),
                client_id: None,
                ip: ip.into(),
                left: Duration::ZERO,
                host_name: None,
            };
            bench.pools.restore(former, bench.now)
        };
        assert!(restore(9, FIRST) && !restore(10, FIRST) && !restore(9, [172, 16, 0, 201]));
        assert!(!restore(11, [172, 16, 0, 9]));
        assert_eq!(bench.say(&testing::Client::new(9).discover()), Said::Nak);
    }

    #[test]
    fn the_nak_is_upstreams_byte_for_byte() {
        let client = testing::Client::new(9).option(61, &[1, 2]).option(82, &[1, 1, 7]);
        let packet = client.giaddr([172, 16, 0, 250]).discover();
        let request = parse(&packet).unwrap();
        let policy = testing::policy();
        let place = (&policy.subnets[0], FIRST.into());
        let asker = Asker::without_rules(&request, &policy, &receiving(), place);
        let reply = Reply::nak(asker, &policy);
        assert_eq!(reply.to, Destination::Relay([172, 16, 0, 250].into(), 67));
        let mut sent = Vec::new();
        encode_nak(&reply, &mut sent);
        let mut expected = vec![0; 300];
        expected[..8].copy_from_slice(&[1, 1, 6, 0, 0x11, 0x22, 0x33, 0x44]);
        expected[20..24].copy_from_slice(&[172, 16, 0, 254]);
        expected[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        expected[236..244].copy_from_slice(&[99, 130, 83, 99, 53, 1, 6, 255]);
        assert_eq!(sent, expected);
    }
}
