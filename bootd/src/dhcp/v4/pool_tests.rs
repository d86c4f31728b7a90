//! Pools: the conversations that matter, then many random ones against the promises.

use std::collections::{HashMap, HashSet};

use super::super::reply::Destination;
use super::super::request::parse;
use super::super::testing::{Client, Random, SERVER, Sent, mac, node, policy, receiving, site, snapshot};
use super::*;

const FIRST: [u8; 4] = [172, 16, 0, 200];

struct Bench {
    pools: Pools,
    policy: Policy,
    receiving: Receiving,
    snapshot: Snapshot,
    now: Duration,
}

/// A verdict that borrows nothing.
#[derive(Debug, PartialEq, Eq)]
enum Decided {
    Reply(Sent),
    Nak(Sent, NakWhy),
    Lease(Sent, Lease),
    End(Sent, NakWhy),
    Freed(Holder, Ipv4Addr, FreedWhy),
    Probe(Ipv4Addr),
    Ignore(Why),
}

impl Bench {
    fn new() -> Self {
        Self {
            pools: Pools::new(&policy()),
            policy: policy(),
            receiving: receiving(),
            snapshot: site(),
            now: Duration::from_secs(1000),
        }
    }

    fn decide(&mut self, packet: &[u8]) -> Decided {
        let request = parse(packet).unwrap();
        let verdict = self
            .pools
            .answer(&request, &self.policy, &self.snapshot, &self.receiving, self.now);
        match verdict {
            Verdict::Reply(reply) => Decided::Reply(Sent::of(&reply)),
            Verdict::Nak(reply, why) => Decided::Nak(Sent::of(&reply), why),
            Verdict::Lease(reply, lease) => Decided::Lease(Sent::of(&reply), lease),
            Verdict::End(reply, _, why) => Decided::End(Sent::of(&reply), why),
            Verdict::Freed(holder, ip, why) => Decided::Freed(holder, ip, why),
            Verdict::Probe(ip) => Decided::Probe(ip),
            Verdict::Ignore(why) => Decided::Ignore(why),
            Verdict::Unknown(..) => panic!("the pool has the last word"),
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn offered(&mut self, client: Client) -> [u8; 4] {
        match self.decide(&client.discover()) {
            Decided::Reply(reply) if reply.kind == ReplyKind::Offer => reply.yiaddr.octets(),
            other => panic!("no offer: {other:?}"),
        }
    }

    fn leased(&mut self, client: Client) -> Lease {
        match self.decide(&client.request()) {
            Decided::Lease(reply, lease) => {
                assert_eq!((reply.kind, reply.yiaddr), (ReplyKind::Ack, lease.ip));
                lease
            }
            other => panic!("no lease: {other:?}"),
        }
    }

    fn refused(&mut self, client: Client) -> NakWhy {
        match self.decide(&client.request()) {
            Decided::Nak(_, why) => why,
            other => panic!("no NAK: {other:?}"),
        }
    }

    /// DISCOVER, OFFER, REQUEST, ACK.
    fn join(&mut self, number: u8) -> [u8; 4] {
        let ip = self.offered(Client::new(number));
        let lease = self.leased(selecting(number, ip));
        assert_eq!((lease.holder, lease.ip.octets()), (holder(number), ip));
        ip
    }
}

fn holder(number: u8) -> Holder {
    Holder::Mac(mac(number))
}

fn selecting(number: u8, ip: [u8; 4]) -> Client {
    Client::new(number).option(54, &SERVER.octets()).option(50, &ip)
}

#[test]
fn a_stranger_gets_one_address_for_its_whole_boot() {
    let mut bench = Bench::new();
    let firmware = Client::new(9).option(93, &[0, 7]);
    let Decided::Reply(offer) = bench.decide(&firmware.clone().discover()) else {
        panic!("no offer");
    };
    assert_eq!(offer.yiaddr.octets(), FIRST);
    assert_eq!(offer.option(51), Some(300u32.to_be_bytes().to_vec()));
    assert_eq!(offer.option(12), None);
    assert_eq!(offer.file(), "ipxe-x86_64.efi");
    let lease = bench.leased(selecting(9, FIRST).option(12, b"who"));
    assert_eq!((lease.seconds, lease.host_name.as_deref()), (300, Some("who")));
    // Another client id, as each stage has its own, changes nothing.
    for id in [&[1, 1][..], &[255, 7]] {
        let ipxe = Client::new(9).option(77, b"iPXE").option(61, id);
        let Decided::Reply(offer) = bench.decide(&ipxe.discover()) else {
            panic!("no offer");
        };
        assert_eq!(offer.yiaddr.octets(), FIRST);
        assert!(offer.file().ends_with("/boot/v1/bootscript?mac=02:00:00:00:00:09"));
    }
}

#[test]
fn a_lease_is_renewed_rebound_and_taken_up_again() {
    let mut bench = Bench::new();
    let ip = bench.join(9);
    for client in [
        Client::new(9).unicast().ciaddr(ip),
        Client::new(9).ciaddr(ip),
        Client::new(9).option(50, &ip),
        Client::new(9).ciaddr(ip).option(54, &SERVER.octets()),
    ] {
        bench.pass(200);
        assert_eq!(bench.leased(client).ip.octets(), ip);
    }
    // After its end too, while nobody else needed the address, and by a server that lost its memory.
    bench.pass(1000);
    bench.leased(Client::new(9).option(50, &ip));
    bench.pools = Pools::new(&bench.policy);
    bench.leased(Client::new(9).ciaddr(ip));
}

#[test]
fn an_offer_waits_ten_seconds_and_ends_at_once_when_another_server_is_chosen() {
    let mut bench = Bench::new();
    let ip = bench.offered(Client::new(9));
    assert_ne!(bench.offered(Client::new(10).option(50, &ip)), ip);
    let elsewhere = Client::new(9)
        .option(54, &[172, 16, 0, 3])
        .option(50, &[172, 16, 0, 66]);
    assert_eq!(bench.decide(&elsewhere.request()), Decided::Ignore(Why::OtherServer));
    assert_eq!(bench.offered(Client::new(11).option(50, &ip)), ip);
    bench.pass(11);
    assert_eq!(bench.offered(Client::new(12).option(50, &ip)), ip);
}

#[test]
fn addresses_are_refused_that_are_not_the_clients() {
    let mut bench = Bench::new();
    let ip = bench.join(9);
    let other = bench.join(10);
    assert_eq!(bench.refused(selecting(9, other)), NakWhy::NotYours);
    assert_eq!(bench.refused(selecting(11, ip)), NakWhy::Taken);
    assert_eq!(bench.refused(Client::new(11).option(50, &ip)), NakWhy::Taken);
    assert_eq!(bench.refused(Client::new(11).ciaddr(ip)), NakWhy::Taken);
    assert_eq!(
        bench.refused(Client::new(11).option(50, &[192, 168, 0, 4])),
        NakWhy::OtherSubnet
    );
    assert_eq!(bench.refused(selecting(11, [172, 16, 0, 9])), NakWhy::Taken);
    // Of a lease that another server on this wire gave we know nothing.
    for packet in [
        Client::new(11).option(50, &[172, 16, 0, 66]).request(),
        Client::new(11).ciaddr([192, 168, 0, 4]).request(),
    ] {
        assert_eq!(bench.decide(&packet), Decided::Ignore(Why::NotOurLease));
    }
    assert_eq!(
        bench.decide(&Client::new(11).request()),
        Decided::Ignore(Why::NoAddress)
    );
    let inform = Client::new(11).ciaddr([172, 16, 0, 66]).send(8);
    assert_eq!(bench.decide(&inform), Decided::Ignore(Why::UnknownInform));
}

#[test]
fn a_released_address_is_free_and_a_declined_one_rests() {
    let mut bench = Bench::new();
    let ip = bench.join(9);
    let strange = Client::new(10).ciaddr(ip).send(7);
    assert_eq!(bench.decide(&strange), Decided::Ignore(Why::NotOurLease));
    let freed = bench.decide(&Client::new(9).ciaddr(ip).option(54, &SERVER.octets()).send(7));
    assert_eq!(freed, Decided::Freed(holder(9), ip.into(), FreedWhy::Released));
    assert_eq!(bench.offered(Client::new(10).option(50, &ip)), ip);

    bench.leased(selecting(10, ip));
    let declined = bench.decide(&selecting(10, ip).send(4));
    assert_eq!(declined, Decided::Freed(holder(10), ip.into(), FreedWhy::Declined));
    assert_ne!(bench.offered(Client::new(10).option(50, &ip)), ip);
    assert_eq!(bench.refused(selecting(11, ip)), NakWhy::Taken);
    let states: Vec<State> = bench.pools.held(bench.now).iter().map(|held| held.state).collect();
    assert_eq!(states, [State::Declined, State::Offered]);
    bench.pass(601);
    assert_eq!(bench.offered(Client::new(11).option(50, &ip)), ip);
}

#[test]
fn an_exhausted_pool_is_silent_until_a_lease_ends() {
    let mut bench = Bench::new();
    let ips: Vec<_> = (10..18).map(|number| bench.join(number)).collect();
    let late = Client::new(20).discover();
    assert_eq!(bench.decide(&late), Decided::Ignore(Why::PoolExhausted));
    bench.pass(200);
    bench.leased(Client::new(10).ciaddr(ips[0]));
    bench.pass(101);
    assert_eq!(bench.offered(Client::new(20)), ips[1]);
    // The row of the one who had it goes with the new lease.
    assert_eq!(bench.leased(selecting(20, ips[1])).instead_of, Some(holder(11)));
    assert_eq!(bench.refused(Client::new(11).ciaddr(ips[1])), NakWhy::Taken);
}

#[test]
fn a_pool_of_declined_addresses_gives_the_one_that_was_declined_longest_ago() {
    let mut bench = Bench::new();
    let kept = bench.join(9);
    let mut declined = Vec::new();
    for number in 10..17 {
        bench.pass(1);
        let ip = bench.join(number);
        bench.decide(&selecting(number, ip).send(4));
        declined.push(ip);
    }
    assert!(!declined.contains(&kept));
    for (number, ip) in (20..).zip(&declined) {
        assert_eq!(bench.join(number), *ip);
    }
    let late = Client::new(30).discover();
    assert_eq!(bench.decide(&late), Decided::Ignore(Why::PoolExhausted));
    // An address that rests because it became a node's is still its last client's.
    bench.snapshot = snapshot([node(1, &["172.16.0.200"])]);
    assert_eq!(bench.refused(Client::new(9).ciaddr(kept)), NakWhy::Taken);
    bench.snapshot = site();
    assert_eq!(bench.decide(&late), Decided::Ignore(Why::PoolExhausted));
}

#[test]
fn an_address_of_the_inventory_is_never_given() {
    let mut bench = Bench::new();
    let ip = bench.join(9);
    bench.snapshot = snapshot([node(1, &["172.16.0.200"]), node(2, &["172.16.0.201"])]);
    assert_eq!(bench.refused(Client::new(9).ciaddr(ip)), NakWhy::Taken);
    assert_eq!(bench.offered(Client::new(9)), [172, 16, 0, 202]);
    assert_eq!(bench.refused(selecting(10, [172, 16, 0, 201])), NakWhy::Taken);
    // When the nodes are gone, their addresses come back.
    bench.snapshot = site();
    assert_eq!(bench.refused(selecting(10, ip)), NakWhy::Taken);
    bench.pass(301);
    for number in 30..38 {
        bench.offered(Client::new(number));
    }
}

#[test]
fn a_client_that_the_inventory_learns_of_is_forgotten() {
    let mut bench = Bench::new();
    let ip = bench.join(9);
    assert!(bench.pools.forget(&holder(9), bench.now));
    assert!(!bench.pools.forget(&holder(9), bench.now));
    assert!(bench.pools.is_empty());
    assert_eq!(bench.offered(Client::new(10).option(50, &ip)), ip);
}

#[test]
fn relayed_clients_have_the_pool_of_their_subnet() {
    let mut bench = Bench::new();
    let relayed = |number| Client::new(number).giaddr([10, 1, 0, 1]);
    assert_eq!(bench.offered(relayed(9)), [10, 1, 0, 10]);
    assert_eq!(bench.leased(relayed(9).option(50, &[10, 1, 0, 10])).seconds, 300);
    // It renews without the relay.
    bench.leased(Client::new(9).unicast().ciaddr([10, 1, 0, 10]));
    let elsewhere = Client::new(9).giaddr([192, 168, 0, 1]).discover();
    assert_eq!(bench.decide(&elsewhere), Decided::Ignore(Why::RelayNotServed));
    // Moved to another wire, it has nothing on the first any more.
    let lease = bench.join(9);
    assert_eq!(lease, FIRST);
    assert_eq!(bench.pools.held(bench.now).len(), 1);
}

#[test]
fn leases_of_an_earlier_run_are_taken_over() {
    let mut bench = Bench::new();
    let mut restore = |number, ip: [u8; 4], left| {
        let former = Former {
            holder: holder(number),
            mac: Some(mac(number)),
            client_id: None,
            ip: ip.into(),
            left: Duration::from_secs(left),
            host_name: None,
        };
        bench.pools.restore(former, bench.now)
    };
    assert!(restore(9, FIRST, 100_000_000));
    assert!(!restore(10, FIRST, 100));
    assert!(!restore(9, [172, 16, 0, 201], 100));
    assert!(!restore(11, [172, 16, 0, 9], 100));
    assert!(restore(12, [172, 16, 0, 202], 0));
    assert_eq!(bench.refused(selecting(10, FIRST)), NakWhy::Taken);
    assert_eq!(bench.offered(Client::new(12)), [172, 16, 0, 202]);
    // A wrong clock does not make it last for years.
    bench.pass(301);
    assert_eq!(bench.leased(selecting(10, FIRST)).instead_of, Some(holder(9)));
}

#[test]
fn a_local_offer_is_probed_first_unless_the_address_is_known_to_be_the_clients() {
    let mut bench = Bench::new();
    bench.receiving.link = Some((2, mac(0xfe)));
    let discover = Client::new(9).discover();
    assert_eq!(bench.decide(&discover), Decided::Probe(FIRST.into()));
    // Meanwhile it is nobody else's.
    let second = [172, 16, 0, 201];
    assert_eq!(bench.decide(&Client::new(10).discover()), Decided::Probe(second.into()));
    bench.pools.is_unused(FIRST.into(), bench.now);
    assert_eq!(bench.join(9), FIRST);
    // Not again, neither while it has it nor when it comes back.
    bench.pass(100_000);
    assert_eq!(bench.offered(Client::new(9)), FIRST);
    bench.decide(&Client::new(9).option(50, &FIRST).option(54, &[172, 16, 0, 3]).request());
    // Nor for somebody else within the minute.
    assert_eq!(bench.offered(Client::new(11).option(50, &FIRST)), FIRST);
    bench.pass(61);
    assert_eq!(
        bench.decide(&Client::new(12).option(50, &FIRST).discover()),
        Decided::Probe(FIRST.into())
    );
    // A relay's wire is not ours to ask.
    assert_eq!(bench.offered(Client::new(13).giaddr([10, 1, 0, 1])), [10, 1, 0, 10]);
}

#[test]
fn an_address_that_a_probe_finds_in_use_rests_and_the_next_one_is_tried() {
    let mut bench = Bench::new();
    bench.receiving.link = Some((2, mac(0xfe)));
    let discover = Client::new(9).discover();
    assert_eq!(bench.decide(&discover), Decided::Probe(FIRST.into()));
    assert!(bench.pools.is_used(FIRST.into(), mac(0x66), bench.now));
    assert!(!bench.pools.is_used(FIRST.into(), mac(0x66), bench.now));
    assert_eq!(bench.decide(&discover), Decided::Probe([172, 16, 0, 201].into()));
    let held = bench.pools.held(bench.now);
    assert_eq!((held[0].state, held[0].mac), (State::Conflict, Some(mac(0x66))));
    assert_eq!(bench.refused(selecting(10, FIRST)), NakWhy::Taken);
    // A pool that is used up is probed again rather than given up.
    for number in 20..26 {
        bench.decide(&Client::new(number).discover());
    }
    assert_eq!(bench.decide(&Client::new(30).discover()), Decided::Probe(FIRST.into()));
    bench.pools.is_used(FIRST.into(), mac(0x66), bench.now);
    bench.pass(601);
    assert_eq!(
        bench.decide(&Client::new(31).option(50, &FIRST).discover()),
        Decided::Probe(FIRST.into())
    );
}

#[test]
fn who_is_refused_its_renewal_begins_again() {
    let mut bench = Bench::new();
    bench.policy.terms.nak = BootloopNak::Always;
    let ip = bench.join(9);
    // It asks for its address again while it boots.
    bench.leased(Client::new(9).option(50, &ip));
    let Decided::End(nak, NakWhy::Renewal) = bench.decide(&Client::new(9).ciaddr(ip).option(61, &[1, 2]).request())
    else {
        panic!("no NAK");
    };
    assert_eq!(nak.codes(), [53, 54, 61]);
    assert!(bench.pools.is_empty());
    let ip = bench.join(9);
    bench.pass(301);
    let late = bench.decide(&Client::new(9).option(50, &ip).request());
    assert!(matches!(late, Decided::End(_, NakWhy::Renewal)));
}

#[test]
fn leases_are_the_client_ids_when_said_so() {
    let mut bench = Bench::new();
    bench.policy.terms.bind_to = BindTo::ClientId;
    let with_id = |number, id: &[u8]| Client::new(number).option(61, id);
    let ip = bench.offered(with_id(9, &[1, 1]));
    // Another adapter of the same client, and another client behind the same adapter.
    assert_eq!(bench.offered(with_id(10, &[1, 1])), ip);
    assert_ne!(bench.offered(with_id(9, &[2, 2])), ip);
    let lease = bench.leased(with_id(9, &[1, 1]).option(50, &ip));
    assert_eq!((lease.holder, lease.mac), (Holder::Id([1, 1].into()), Some(mac(9))));
    assert_eq!(bench.refused(with_id(9, &[2, 2]).option(50, &ip)), NakWhy::NotYours);
}

#[test]
fn clients_without_an_ethernet_address_have_their_identifier() {
    let mut bench = Bench::new();
    let infiniband = |hlen: u8, id: &[u8], kind| {
        let mut packet = Client::new(9).unicast().option(61, id).send(kind);
        packet[1..3].copy_from_slice(&[32, hlen]);
        bench.decide(&packet)
    };
    let mut infiniband = infiniband;
    for (hlen, id, last) in [
        (0, [32, 1], 200),
        (8, [32, 2], 201),
        (20, [32, 3], 202),
        (0, [32, 1], 200),
    ] {
        let Decided::Reply(offer) = infiniband(hlen, &id, 1) else {
            panic!("no offer");
        };
        assert_eq!(offer.yiaddr.octets(), [172, 16, 0, last]);
        assert_eq!(offer.to, Destination::Broadcast);
        assert_eq!(offer.option(61), Some(id.to_vec()));
    }
    assert_eq!(infiniband(0, &[], 1), Decided::Ignore(Why::NoMac));
}

#[test]
fn an_operator_may_say_that_nobody_has_an_address() {
    let mut bench = Bench::new();
    let ip = bench.join(9);
    let other = bench.offered(Client::new(10));
    assert_eq!(bench.pools.clear(ip.into(), bench.now), Some(Cleared(Some(holder(9)))));
    assert_eq!(bench.pools.clear(other.into(), bench.now), Some(Cleared(None)));
    assert_eq!(bench.pools.clear([172, 16, 0, 9].into(), bench.now), None);
    assert!(bench.pools.is_empty());
    assert_eq!(bench.offered(Client::new(11).option(50, &ip)), ip);
}

/// Many clients say anything at any time; who was told that it has an address must be the only one.
#[test]
fn whatever_clients_do_an_address_has_one_holder() {
    let mut random = Random::seeded(0x7001);
    for round in 0..60 {
        let mut bench = Bench::new();
        if round % 3 == 1 {
            bench.policy.terms.bind_to = BindTo::ClientId;
        }
        if round % 4 == 1 {
            bench.policy.terms.nak = BootloopNak::Always;
        }
        if round % 2 == 1 {
            bench.receiving.link = Some((2, mac(0xfe)));
        }
        // Address → holder and the end of its lease, as the clients were told.
        let mut told: HashMap<Ipv4Addr, (Holder, Duration)> = HashMap::new();
        // What the store would hold.
        let mut rows: HashMap<Holder, Ipv4Addr> = HashMap::new();
        for _ in 0..1500 {
            bench.now += Duration::from_millis(random.below(30_000));
            if random.below(100) == 0 {
                let ip = format!("172.16.0.{}", 200 + random.below(8));
                bench.snapshot = snapshot([node(200, &[ip.as_str()])]);
            }
            let packet = packet(&mut random);
            let asks = Holder::of(&parse(&packet).unwrap(), bench.policy.terms.bind_to);
            match bench.decide(&packet) {
                Decided::Lease(_, lease) => {
                    assert_eq!(asks.as_ref(), Some(&lease.holder));
                    check(&bench, lease.ip, &lease.holder, &told);
                    told.retain(|_, (holder, _)| *holder != lease.holder);
                    let until = bench.now + Duration::from_secs(lease.seconds.into());
                    told.insert(lease.ip, (lease.holder.clone(), until));
                    if let Some(former) = &lease.instead_of {
                        assert_eq!(rows.remove(former), Some(lease.ip));
                    }
                    rows.insert(lease.holder, lease.ip);
                }
                Decided::Reply(reply) if reply.kind == ReplyKind::Ack => {
                    // It told of its lease, and keeps it.
                    assert!(reply.yiaddr.is_unspecified());
                }
                Decided::Reply(reply) => {
                    assert_eq!(reply.kind, ReplyKind::Offer);
                    check(&bench, reply.yiaddr, &asks.unwrap(), &told);
                }
                Decided::Probe(ip) => {
                    check(&bench, ip, &asks.unwrap(), &told);
                    match random.below(4) {
                        0 => drop(bench.pools.is_used(ip, mac(0x66), bench.now)),
                        _ => bench.pools.is_unused(ip, bench.now),
                    }
                }
                Decided::Freed(freed, ip, _) => {
                    // A client that was refused something else may still say that it is through with this one.
                    let holder = told.remove(&ip).map_or(freed.clone(), |(holder, _)| holder);
                    assert_eq!(holder, freed);
                    rows.remove(&freed);
                }
                Decided::Nak(..) => {
                    // It stops using whatever it has.
                    told.retain(|_, (holder, _)| asks.as_ref() != Some(holder));
                }
                Decided::End(..) => {
                    told.retain(|_, (holder, _)| asks.as_ref() != Some(holder));
                    rows.remove(&asks.unwrap());
                }
                Decided::Ignore(_) => {}
            }
            assert!(bench.pools.tables.iter().all(consistent));
            assert!(bench.pools.len() <= 8 + 3);
            let ips: HashSet<_> = rows.values().collect();
            assert!(ips.len() == rows.len(), "two rows for one address");
            // Whoever was told has a row that says so.
            let lasts = |(holder, until): &(Holder, Duration), ip: &Ipv4Addr| {
                *until <= bench.now || rows.get(holder) == Some(ip)
            };
            assert!(told.iter().all(|(ip, lease)| lasts(lease, ip)));
        }
    }
}

fn check(bench: &Bench, ip: Ipv4Addr, asks: &Holder, told: &HashMap<Ipv4Addr, (Holder, Duration)>) {
    let table = bench
        .pools
        .tables
        .iter()
        .find(|table| table.subnet.contains(ip))
        .unwrap();
    assert!(table.holds(ip.to_bits()), "{ip} is outside of its pool");
    assert!(!bench.snapshot.owns(ip), "{ip} is a node's");
    if let Some((holder, until)) = told.get(&ip) {
        assert!(holder == asks || *until <= bench.now, "{ip} is {holder}'s");
    }
}

fn consistent(table: &Table) -> bool {
    table.by_end.len() == table.entries.len()
        && table.by_end.iter().all(|(until, ip)| table.entries[ip].until == *until)
        && table.resting.is_subset(&table.by_end)
        && table.resting.len() == table.entries.values().filter(|entry| entry.is_resting()).count()
        && table
            .of
            .iter()
            .all(|(holder, ip)| table.entries[ip].holder.as_ref() == Some(holder))
        && table.entries.keys().all(|ip| table.holds(*ip))
}

fn packet(random: &mut Random) -> Vec<u8> {
    let mut client = Client::new(1 + random.below(24) as u8);
    let address = |random: &mut Random| match random.below(12) {
        0 => [172, 16, 0, 9],
        1 => [192, 168, 0, 9],
        2 | 3 => [10, 1, 0, 9 + random.below(5) as u8],
        _ => [172, 16, 0, 199 + random.below(10) as u8],
    };
    if random.below(4) == 0 {
        client = client.giaddr(*random.pick(&[[10, 1, 0, 1], [172, 16, 0, 250], [9, 9, 9, 9]]));
    }
    if random.below(3) == 0 {
        client = client.ciaddr(address(random));
    }
    if random.below(2) == 0 {
        let ip = address(random);
        client = client.option(50, &ip);
    }
    if random.below(3) == 0 {
        let servers = [SERVER.octets(), [10, 1, 0, 254], [172, 16, 0, 3]];
        client = client.option(54, random.pick::<[u8; 4]>(&servers));
    }
    if random.below(3) == 0 {
        client = client.option(61, &[1, random.below(12) as u8]);
    }
    let mut packet = client.send(*random.pick(&[1, 1, 1, 3, 3, 3, 3, 4, 7, 8]));
    if random.below(8) == 0 {
        packet[1..3].copy_from_slice(&[32, *random.pick(&[0, 8, 20])]);
    }
    packet
}

/// A policy whose first pool is other than usual.
fn with_pool(first: u8, last: u8) -> Policy {
    let mut policy = policy();
    let pool = policy.subnets[0].pool.as_mut().unwrap();
    (pool.first, pool.last) = ([172, 16, 0, first].into(), [172, 16, 0, last].into());
    policy
}

impl Bench {
    fn reload(&mut self, policy: Policy) {
        let before = std::mem::replace(&mut self.pools, Pools::new(&policy));
        self.pools.take_over(before, self.now);
        self.policy = policy;
    }
}

#[test]
fn other_pools_take_over_the_leases_that_lie_in_them() {
    let mut bench = Bench::new();
    let (one, two) = (bench.join(9), bench.join(10));
    bench.reload(with_pool(190, 207));
    assert_eq!((bench.join(9), bench.join(10)), (one, two));
    // Somebody else gets neither of them.
    let three = bench.join(11);
    assert!(three != one && three != two, "{three:?}");
}

#[test]
fn a_lease_that_lies_in_no_pool_any_more_is_there_again_with_one_that_holds_it() {
    let mut bench = Bench::new();
    let mine = bench.join(9);
    bench.reload(with_pool(210, 220));
    assert!(bench.pools.held(bench.now).is_empty());
    bench.reload(policy());
    assert_eq!(bench.pools.held(bench.now).len(), 1);
    assert_eq!(bench.join(9), mine);
    assert!(bench.pools.forget(&holder(9), bench.now), "its row is known");
}

#[test]
fn who_got_another_lease_meanwhile_or_whose_lease_ended_does_not_get_the_old_one_back() {
    let mut bench = Bench::new();
    let (mine, ended) = (bench.join(9), bench.join(10));
    bench.reload(with_pool(210, 220));
    let other = bench.join(9);
    assert!(other[3] >= 210, "{other:?}");
    bench.pass(1_000_000);
    bench.reload(with_pool(200, 220));
    let held = bench.pools.held(bench.now);
    let ips: Vec<[u8; 4]> = held.iter().map(|held| held.ip.octets()).collect();
    assert!(!ips.contains(&mine), "{ips:?}");
    let _ = ended;
}

#[test]
fn an_address_that_somebody_uses_who_should_not_rests_in_another_pool_too() {
    let mut bench = Bench::new();
    let mine = bench.join(9);
    assert!(matches!(bench.decide(&selecting(9, mine).send(4)), Decided::Freed(..)));
    bench.reload(with_pool(200, 206));
    for number in 20..26 {
        assert_ne!(bench.join(number), mine);
    }
}
