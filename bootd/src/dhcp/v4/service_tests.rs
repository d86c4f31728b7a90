//! The shell with a real store and an outlet that only remembers; then packets of all kinds through everything.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use arc_swap::ArcSwap;
use dhcproto::v4::OptionCode;

use super::super::encode::encode;
use super::super::options::find;
use super::super::reply::{Destination, Envelope};
use super::super::request::HEADER;
use super::super::testing::{Client, Random, config, mac, node, receiving, site, snapshot};
use super::*;
use crate::config::Config;
use crate::dhcp::limit::Load;
use crate::dhcp::{Ignored, Then};
use crate::inventory::Snapshot;
use crate::metrics::Metrics;
use crate::state::{Store, on_a_disk_that_may_be_full};

/// Who sends.
const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(172, 16, 0, 9), 4067);

/// Hands on what would be sent; refuses when told so.
struct Wire(Mutex<Sender<Sent>>);

struct Sent {
    envelope: Envelope,
    packet: Vec<u8>,
}

impl Sent {
    fn kind(&self) -> ReplyKind {
        self.envelope.kind
    }

    fn ip(&self) -> Ipv4Addr {
        self.envelope.yiaddr
    }
}

impl Outlet<Letter> for Wire {
    fn send(&self, letters: &[Letter], failed: &mut Vec<(usize, io::Error)>) {
        for (at, letter) in letters.iter().enumerate() {
            assert!(letter.packet.len() >= 300);
            let sent = Sent {
                envelope: letter.envelope,
                packet: letter.packet.clone(),
            };
            if self.0.lock().unwrap().send(sent).is_err() {
                failed.push((at, io::ErrorKind::BrokenPipe.into()));
            }
        }
    }
}

/// Sends nothing.
struct Nowhere;

impl Outlet<Letter> for Nowhere {
    fn send(&self, _: &[Letter], _: &mut Vec<(usize, io::Error)>) {}
}

/// A client that the plugins were asked about, and what is to happen then.
type Asked = (Mac, Option<Then>);

struct Bench {
    shell: Arc<Shell>,
    outlet: Arc<dyn Outlet<Letter>>,
    sent: Receiver<Sent>,
    asked: Receiver<Asked>,
    /// What is said to who asks about a client.
    lookup: Arc<Mutex<Lookup>>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    store: Store,
    metrics: Arc<Metrics>,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        Self::with(store, dir)
    }

    fn with(store: Store, dir: tempfile::TempDir) -> Self {
        Self::configured(config(), store, dir)
    }

    fn configured(config: Config, store: Store, dir: tempfile::TempDir) -> Self {
        Self::after(config, store, dir, Former::Kept)
    }

    fn after(config: Config, store: Store, dir: tempfile::TempDir, former: Former) -> Self {
        let (to_wire, sent) = channel();
        let (to_plugins, asked) = channel();
        let lookup = Arc::new(Mutex::new(Lookup::Nobody));
        let metrics = Arc::new(Metrics::default());
        let snapshot = Arc::new(ArcSwap::from_pointee(site()));
        let to_plugins = Mutex::new(to_plugins);
        let said = Arc::clone(&lookup);
        let deps = Deps {
            config: Arc::new(config),
            snapshot: Arc::clone(&snapshot),
            store: store.clone(),
            metrics: Arc::clone(&metrics),
            watch: Default::default(),
            ignored: Arc::new(Ignored::open(store.clone()).unwrap()),
            sockets: Default::default(),
            former,
            pause: Default::default(),
            unknown: Arc::new(move |mac, then| {
                to_plugins.lock().unwrap().send((mac, then)).unwrap();
                *said.lock().unwrap()
            }),
        };
        Self {
            shell: Arc::new(Shell::new(deps).unwrap()),
            outlet: Arc::new(Wire(Mutex::new(to_wire))),
            sent,
            asked,
            lookup,
            snapshot,
            store,
            metrics,
            _dir: dir,
        }
    }

    fn packet(&self, bytes: &[u8]) {
        self.packet_to(bytes, &self.outlet);
    }

    fn packet_to(&self, bytes: &[u8], outlet: &Arc<dyn Outlet<Letter>>) {
        let mut desk = self.shell.desk();
        desk.begin(Load::Light);
        self.shell.packet(bytes, PEER, &receiving(), outlet, &mut desk);
        self.shell.send(&mut desk, &**outlet);
    }

    fn reply(&self, bytes: &[u8]) -> Sent {
        self.packet(bytes);
        self.sent.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    /// Everything that was written before is durable when this returns.
    fn settle(&self) {
        self.store.write_and_wait(Default::default()).unwrap();
    }

    fn counted(&self, what: &str) -> bool {
        let label = format!("what=\"{what}\"");
        self.metrics.text().lines().any(|line| line.contains(&label))
    }
}

#[test]
fn a_packet_of_a_known_node_takes_nothing_from_the_heap_on_its_way_through_the_shell() {
    let bench = Bench::new();
    let outlet: Arc<dyn Outlet<Letter>> = Arc::new(Nowhere);
    let mut desk = bench.shell.unlimited_desk();
    let packets = [
        Client::new(1).option(93, &[0, 7]).discover(),
        Client::new(1).option(77, b"iPXE").discover(),
        Client::new(1).option(50, &[172, 16, 0, 1]).request(),
    ];
    let receiving = receiving();
    let mut batch = || {
        desk.begin(Load::Light);
        for packet in &packets {
            bench.shell.packet(packet, PEER, &receiving, &outlet, &mut desk);
        }
        bench.shell.send(&mut desk, &*outlet);
    };
    // The letters of the batch come into being.
    batch();
    for _ in 0..10 {
        assert_eq!(crate::allocations::during(&mut batch), 0);
    }
    assert!(bench.counted("offer") && bench.counted("ack"));
}

#[test]
fn other_rules_count_from_the_next_packet_on_and_leases_of_the_pool_stay() {
    let bench = Bench::new();
    let stranger = |ip: Ipv4Addr| Client::new(77).option(50, &ip.octets()).request();
    let ip = bench.reply(&Client::new(77).discover()).ip();
    assert_eq!(bench.reply(&stranger(ip)).kind(), ReplyKind::Ack);
    let router = |sent: &Sent| find(&sent.packet[HEADER..], OptionCode::Router).map(|value| value.to_vec());
    let before = router(&bench.reply(&Client::new(1).discover()));
    let mut other = config();
    other.dhcp.subnets[0].routers = vec![[172, 16, 0, 9].into()];
    let rules = Rules::read(&Arc::new(other)).unwrap();
    assert_eq!(bench.shell.take(rules), Probing::Same);
    let after = router(&bench.reply(&Client::new(1).discover()));
    assert!(
        before != after && after == Some(vec![172, 16, 0, 9]),
        "{before:?} {after:?}"
    );
    let again = bench.reply(&stranger(ip));
    assert_eq!((again.kind(), again.ip()), (ReplyKind::Ack, ip));
    assert_eq!(bench.shell.leases().len(), 1);
}

#[test]
fn a_client_may_send_as_much_as_the_rules_say_now() {
    let bench = Bench::new();
    let mut desk = bench.shell.desk();
    let mut answered = |rate: u32| {
        let mut config = config();
        config.dhcp.rate_limit = rate;
        bench.shell.take(Rules::read(&Arc::new(config)).unwrap());
        desk.limit_to(bench.shell.rate_limit());
        for _ in 0..20 {
            desk.begin(Load::Light);
            let packet = Client::new(1).discover();
            bench
                .shell
                .packet(&packet, PEER, &receiving(), &bench.outlet, &mut desk);
            bench.shell.send(&mut desk, &*bench.outlet);
        }
        bench.sent.try_iter().count()
    };
    // Twice as many at once, and those of the time that this takes.
    assert!((4..8).contains(&answered(2)));
    assert_eq!(answered(0), 20);
    assert!((4..8).contains(&answered(2)));
}

#[test]
fn what_clients_asked_is_remembered_once_a_stage_with_how_it_came() {
    let bench = Bench::new();
    for _ in 0..3 {
        bench.reply(&Client::new(1).option(93, &[0, 7]).discover());
        bench.reply(&Client::new(1).option(77, b"iPXE").discover());
    }
    let recent = bench.shell.recent().all();
    assert_eq!(recent.len(), 2);
    assert!(
        recent
            .iter()
            .all(|asked| asked.peer == PEER && asked.receiving == receiving())
    );
    assert_eq!(recent[1].bytes, Client::new(1).option(77, b"iPXE").discover());
}

#[test]
fn whom_the_operator_ignores_gets_no_answer_until_that_ends() {
    let bench = Bench::new();
    let ignored = &bench.shell.deps().ignored;
    ignored.add(mac(1)).unwrap();
    bench.packet(&Client::new(1).discover());
    assert!(bench.counted("ignored_by_operator"));
    assert!(bench.sent.try_recv().is_err());
    ignored.remove(mac(1)).unwrap();
    bench.reply(&Client::new(1).discover());
}

#[test]
fn a_relay_that_says_so_is_answered_at_the_port_it_sends_from() {
    let bench = Bench::new();
    let relayed = |agent: &[u8]| Client::new(1).giaddr([172, 16, 0, 9]).option(82, agent).discover();
    let to = |agent: &[u8]| bench.reply(&relayed(agent)).envelope.to;
    let relay = |port| Destination::Relay([172, 16, 0, 9].into(), port);
    assert_eq!(to(&[1, 1, 7, 19, 0]), relay(PEER.port()));
    assert_eq!(to(&[1, 1, 7]), relay(67));
}

#[test]
fn a_node_is_answered_without_the_store() {
    let bench = Bench::new();
    let reply = bench.reply(&Client::new(1).option(93, &[0, 7]).discover());
    assert_eq!((reply.kind(), reply.ip()), (ReplyKind::Offer, [172, 16, 0, 1].into()));
    assert!(bench.asked.try_recv().is_err());
    assert!(bench.counted("offer"));
}

#[test]
fn who_follows_another_process_answers_known_nodes_at_once_and_the_pools_clients_with_its_leases_and_offers() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().to_path_buf();
    let old = Bench::with(Store::open(&state).unwrap(), dir);
    let leased = old.reply(&Client::new(9).discover()).ip();
    old.reply(&Client::new(9).option(50, &leased.octets()).request());
    let offered = old.reply(&Client::new(10).discover()).ip();

    let store = Store::ahead(&state, old.store.copy().unwrap()).unwrap();
    let new = Bench::after(config(), store, tempfile::tempdir().unwrap(), Former::Awaited);
    new.packet(&Client::new(9).option(50, &leased.octets()).request());
    new.packet(&Client::new(11).discover());
    assert!(new.sent.try_recv().is_err(), "they wait");
    assert_eq!(new.reply(&Client::new(1).discover()).ip(), Ipv4Addr::new(172, 16, 0, 1));

    let unsaved = serde_json::to_string(&old.shell.unsaved()).unwrap();
    old.store.release().unwrap();
    new.store.take_file(&state).unwrap();
    new.shell.take_over(serde_json::from_str(&unsaved).unwrap()).unwrap();
    let mut replies: Vec<Sent> = (0..2)
        .map(|_| new.sent.recv_timeout(Duration::from_secs(10)).unwrap())
        .collect();
    // The ACK comes from the store's thread.
    replies.sort_by_key(|reply| reply.kind() == ReplyKind::Ack);
    let [offer, ack] = &replies[..] else { panic!() };
    assert_eq!((ack.kind(), ack.ip()), (ReplyKind::Ack, leased));
    assert!(
        offer.ip() != leased && offer.ip() != offered,
        "it was offered to somebody else"
    );
    let ack = new.reply(&Client::new(10).option(50, &offered.octets()).request());
    assert_eq!((ack.kind(), ack.ip()), (ReplyKind::Ack, offered));
}

#[test]
fn a_lease_is_in_the_store_when_its_ack_leaves() {
    let bench = Bench::new();
    let ip = bench.reply(&Client::new(9).discover()).ip();
    assert_eq!(bench.asked.try_recv().unwrap().0, mac(9));
    assert_eq!(bench.store.get("lease", "02:00:00:00:00:09").unwrap(), None);
    let ack = bench.reply(&Client::new(9).option(50, &ip.octets()).option(12, b"pi").request());
    assert_eq!((ack.kind(), ack.ip()), (ReplyKind::Ack, ip));
    let row = bench.store.get("lease", "02:00:00:00:00:09").unwrap().unwrap();
    let saved: Saved = serde_json::from_str(&row).unwrap();
    assert_eq!((saved.ip, saved.host_name.as_deref()), (ip, Some("pi")));
    assert!(saved.expires_unix > unix_clock() + 290);
    let leases = bench.shell.leases();
    assert_eq!((leases.len(), leases[0].ip, leases[0].mac), (1, ip, Some(mac(9))));
    assert!((295..=300).contains(&leases[0].expires_in_s));

    bench.packet(&Client::new(9).ciaddr(ip.octets()).send(7));
    bench.settle();
    assert_eq!(bench.store.get("lease", "02:00:00:00:00:09").unwrap(), None);
    assert!(bench.counted("release"));
}

#[test]
fn leases_survive_a_restart_and_bad_rows_do_not_stop_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let row = |key: &str| crate::state::Row {
        table: "lease".into(),
        key: key.into(),
    };
    let good = serde_json::json!({"ip": "172.16.0.203", "expires_unix": unix_clock() + 100});
    let put = vec![
        (row("02:00:00:00:00:09"), good.to_string()),
        (row("not a mac"), good.to_string()),
        (row("02:00:00:00:00:0a"), "{}".into()),
        (row("02:00:00:00:00:0b"), "not json".into()),
        (row("02:00:00:00:00:0c"), r#"{"ip":"1.2.3.4","expires_unix":1}"#.into()),
    ];
    store
        .write_and_wait(crate::state::Write {
            put,
            ..Default::default()
        })
        .unwrap();
    let bench = Bench::with(store, dir);
    assert_eq!(bench.shell.leases().len(), 1);
    assert_eq!(
        bench.reply(&Client::new(9).discover()).ip(),
        Ipv4Addr::new(172, 16, 0, 203)
    );
}

#[test]
fn a_client_that_became_a_node_moves_to_its_own_address() {
    let bench = Bench::new();
    let ip = bench.reply(&Client::new(9).discover()).ip();
    bench.reply(&Client::new(9).option(50, &ip.octets()).request());
    bench.snapshot.store(Arc::new(snapshot([node(9, &["172.16.0.9"])])));
    let offer = bench.reply(&Client::new(9).discover());
    assert_eq!(offer.ip(), Ipv4Addr::new(172, 16, 0, 9));
    assert_eq!(bench.shell.leases().len(), 1);
    let nak = bench.reply(&Client::new(9).ciaddr(ip.octets()).request());
    assert_eq!(nak.kind(), ReplyKind::Nak);
    bench.settle();
    assert!(bench.shell.leases().is_empty());
    assert_eq!(bench.store.get("lease", "02:00:00:00:00:09").unwrap(), None);
}

#[test]
fn a_node_that_a_look_up_finds_gets_its_own_address_for_its_first_discover() {
    let bench = Bench::new();
    *bench.lookup.lock().unwrap() = Lookup::Begun;
    bench.packet(&Client::new(9).discover());
    let (asked, then) = bench.asked.try_recv().unwrap();
    assert_eq!(asked, mac(9));
    assert!(bench.sent.try_recv().is_err() && bench.shell.leases().is_empty());
    bench.snapshot.store(Arc::new(snapshot([node(9, &["172.16.0.9"])])));
    std::thread::spawn(then.unwrap()).join().unwrap();
    let offer = bench.sent.try_recv().unwrap();
    assert_eq!((offer.kind(), offer.ip()), (ReplyKind::Offer, [172, 16, 0, 9].into()));
    assert!(bench.asked.try_recv().is_err());
}

#[test]
fn a_client_that_stays_unknown_gets_one_offer_of_the_pool_when_the_look_up_is_over() {
    let bench = Bench::new();
    *bench.lookup.lock().unwrap() = Lookup::Begun;
    bench.packet(&Client::new(9).discover());
    let (_, then) = bench.asked.try_recv().unwrap();
    *bench.lookup.lock().unwrap() = Lookup::Waiting;
    bench.packet(&Client::new(9).discover());
    assert!(bench.counted("lookup_under_way"));
    drop(bench.asked.try_recv().unwrap());
    // And no look-up follows on that one.
    std::thread::spawn(then.unwrap()).join().unwrap();
    assert_eq!(bench.sent.try_recv().unwrap().ip(), Ipv4Addr::new(172, 16, 0, 200));
    assert!(bench.sent.try_recv().is_err() && bench.asked.try_recv().is_err());
}

#[test]
fn who_renews_a_lease_of_the_pool_waits_for_no_look_up() {
    let bench = Bench::new();
    let ip = bench.reply(&Client::new(9).discover()).ip();
    *bench.lookup.lock().unwrap() = Lookup::Begun;
    let ack = bench.reply(&Client::new(9).option(50, &ip.octets()).request());
    assert_eq!((ack.kind(), ack.ip()), (ReplyKind::Ack, ip));
    let renewed = bench.reply(&Client::new(9).unicast().ciaddr(ip.octets()).request());
    assert_eq!((renewed.kind(), renewed.ip()), (ReplyKind::Ack, ip));
    // Who speaks to another server is none of ours.
    let asked = bench.asked.try_iter().count();
    bench.packet(&Client::new(10).option(54, &[172, 16, 0, 3]).request());
    assert_eq!((asked, bench.asked.try_iter().count()), (3, 0));
}

#[test]
fn a_pool_that_is_used_up_costs_nodes_nothing() {
    let bench = Bench::new();
    for number in 10..18 {
        bench.reply(&Client::new(number).discover());
    }
    bench.packet(&Client::new(30).discover());
    assert!(bench.sent.try_recv().is_err() && bench.counted("pool_exhausted"));
    assert_eq!(bench.reply(&Client::new(1).request()).kind(), ReplyKind::Ack);
}

#[test]
fn a_disk_that_is_full_costs_clients_of_the_pool_their_ack_and_nodes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let store = on_a_disk_that_may_be_full(dir.path(), &full);
    let bench = Bench::with(store, dir);
    let ip = bench.reply(&Client::new(9).discover()).ip();
    full.store(true, Ordering::Relaxed);
    let request = Client::new(9).option(50, &ip.octets()).request();
    bench.packet(&request);
    assert!(bench.store.write_and_wait(Write::default()).is_err());
    assert!(bench.sent.try_recv().is_err() && bench.counted("store_failed"));
    assert_eq!(bench.reply(&Client::new(1).request()).kind(), ReplyKind::Ack);
    // There is room again, and the client asks again.
    full.store(false, Ordering::Relaxed);
    let ack = (0..500).find_map(|_| {
        bench.packet(&request);
        bench.sent.recv_timeout(Duration::from_millis(20)).ok()
    });
    assert_eq!(ack.unwrap().ip(), ip);
}

#[test]
fn a_queue_that_is_full_is_counted_and_nodes_are_answered() {
    let bench = Bench::new();
    let ip = bench.reply(&Client::new(9).discover()).ip();
    let (go, wait) = channel::<()>();
    let (says, is_busy) = channel::<()>();
    let slow = move |_| {
        says.send(()).unwrap();
        wait.recv().unwrap();
    };
    bench.store.write(Write::default(), slow).unwrap();
    is_busy.recv().unwrap();
    while bench.store.write(Write::default(), |_| {}).is_ok() {}
    bench.packet(&Client::new(9).option(50, &ip.octets()).request());
    assert!(bench.counted("store_full"));
    assert_eq!(bench.reply(&Client::new(1).request()).kind(), ReplyKind::Ack);
    go.send(()).unwrap();
}

#[test]
fn a_lease_follows_what_leases_are_bound_to() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let bench = Bench::with(store.clone(), dir);
    let client = || Client::new(9).option(61, &[1, 2]);
    let ip = bench.reply(&client().discover()).ip();
    bench.reply(&client().option(50, &ip.octets()).request());
    let mut config = config();
    config.dhcp.bind_to = crate::config::BindTo::ClientId;
    let bench = Bench::configured(config, store.clone(), tempfile::tempdir().unwrap());
    assert_eq!(
        store.scan("lease", "").unwrap().into_keys().collect::<Vec<_>>(),
        ["id:0102"]
    );
    // Another adapter, the same client.
    let same = Client::new(10).option(61, &[1, 2]).discover();
    assert_eq!(bench.reply(&same).ip(), ip);
}

/// How fast the pools and the store are. Prints its numbers.
#[test]
#[ignore = "a measurement: takes a release build, and a while"]
fn many_leases_a_second_are_durable_and_are_there_soon_after_a_restart() {
    const CLIENTS: u32 = 100_000;
    const IN_FLIGHT: usize = 1024;
    let dir = tempfile::tempdir_in(".").unwrap();
    let mut config = config();
    let subnet = &mut config.dhcp.subnets[1];
    (subnet.network, subnet.prefix) = ([10, 0, 0, 0].into(), 8);
    subnet.pool = Some(crate::config::Pool {
        first: [10, 2, 0, 0].into(),
        last: [10, 4, 255, 255].into(),
        lease_time: Duration::from_secs(3600),
    });
    let client = |number: u32| {
        let [_, b, c, d] = number.to_be_bytes();
        Client::new(9).giaddr([10, 1, 0, 1]).chaddr([2, 1, 0, b, c, d])
    };
    let store = Store::open(dir.path()).unwrap();
    let bench = Bench::configured(config.clone(), store, dir);
    let mut desk = bench.shell.unlimited_desk();
    for (what, kind) in [("new", 1), ("renewed", 3)] {
        let (begun, mut sent, mut done, mut acks) = (std::time::Instant::now(), 0, 0, 0);
        while acks < CLIENTS {
            while sent < CLIENTS && sent - acks < IN_FLIGHT as u32 {
                let ip = Ipv4Addr::from_bits(0x0a02_0000 + sent).octets();
                let packet = match kind {
                    1 => client(sent).discover(),
                    _ => client(sent).option(50, &ip).request(),
                };
                bench
                    .shell
                    .packet(&packet, PEER, &receiving(), &bench.outlet, &mut desk);
                bench.shell.send(&mut desk, &*bench.outlet);
                sent += 1;
            }
            let reply = bench.sent.recv_timeout(Duration::from_secs(10)).unwrap();
            done += 1;
            match reply.kind() {
                ReplyKind::Offer => {
                    let mut request = client(done - acks - 1).option(50, &reply.ip().octets()).request();
                    request[28..34].copy_from_slice(&reply.envelope.mac.0);
                    bench
                        .shell
                        .packet(&request, PEER, &receiving(), &bench.outlet, &mut desk);
                }
                _ => acks += 1,
            }
        }
        let rate = f64::from(CLIENTS) / begun.elapsed().as_secs_f64();
        println!("{what}: {rate:.0} durable leases a second, {IN_FLIGHT} in flight");
    }
    let Bench {
        shell,
        asked,
        store,
        _dir: dir,
        ..
    } = bench;
    // What the look-ups were to call holds the shell.
    drop((shell, store, asked));
    std::thread::sleep(Duration::from_secs(1));
    let begun = std::time::Instant::now();
    let bench = Bench::configured(config, Store::open(dir.path()).unwrap(), dir);
    bench.reply(&client(7).discover());
    println!(
        "{CLIENTS} leases: the first answer is {:?} after the start",
        begun.elapsed()
    );
    assert_eq!(bench.shell.leases().len(), CLIENTS as usize);
}

#[test]
fn bad_packets_are_counted_by_their_reason() {
    let bench = Bench::new();
    let mut no_cookie = Client::new(1).discover();
    no_cookie[236] = 0;
    let mut long_address = Client::new(1).discover();
    long_address[2] = 20;
    let mut no_address = Client::new(1).discover();
    no_address[2] = 0;
    for (packet, label) in [
        (vec![], "too_short"),
        (no_cookie, "no_magic_cookie"),
        (long_address, "hlen_over_16"),
        (no_address, "hlen_not_6"),
        (Client::new(1).raw(&[12, 99]).discover(), "truncated_option"),
        (Client::new(1).option(54, &[1]).discover(), "bad_option_length"),
        (Client::new(9).send(8), "inform_of_unknown"),
    ] {
        bench.packet(&packet);
        assert!(bench.counted(label), "{label}");
    }
    assert!(bench.sent.try_recv().is_err());
    // And the next good one is answered, if without loader.
    let short = bench.reply(&Client::new(1).option(93, &[0]).discover());
    assert_eq!(find(&short.packet[HEADER..], OptionCode::BootfileName), None);
    assert!(bench.counted("architecture_too_short"));
}

#[test]
fn a_bug_costs_one_packet() {
    struct Panics;
    impl Outlet<Letter> for Panics {
        fn send(&self, _: &[Letter], _: &mut Vec<(usize, io::Error)>) {
            panic!("a bug for this test");
        }
    }
    let bench = Bench::new();
    let outlet: Arc<dyn Outlet<Letter>> = Arc::new(Panics);
    let packet = |bytes: &[u8]| bench.packet_to(bytes, &outlet);
    packet(&Client::new(1).discover());
    assert!(bench.counted("panic"));
    // In the store's thread too.
    packet(&Client::new(9).option(50, &[172, 16, 0, 200]).request());
    bench.settle();
    assert_eq!(bench.reply(&Client::new(1).discover()).kind(), ReplyKind::Offer);
}

/// Mutations of good packets through parser, decision, pools and encoder: nothing panics, whatever the bytes.
#[test]
fn no_packet_makes_the_code_panic() {
    let mut random = Random::seeded(0xf022);
    let policy = Policy::new(&config());
    let mut pools = Pools::new(&policy);
    let snapshot = snapshot([node(1, &["172.16.0.1"]), node(2, &["10.1.0.2"]), node(3, &["fd00::3"])]);
    let (mut parsed, mut replies) = (0, 0);
    for round in 0..60_000 {
        let packet = mutated(&mut random);
        let Ok(request) = parse(&packet) else { continue };
        parsed += 1;
        let now = Duration::from_secs(round / 16);
        let verdict = match answer(&request, &policy, &snapshot, &receiving()) {
            Verdict::Unknown(..) => pools.answer(&request, &policy, &snapshot, &receiving(), now),
            verdict => verdict,
        };
        if let Verdict::Reply(reply) | Verdict::Nak(reply, _) | Verdict::Lease(reply, _) = verdict {
            replies += 1;
            let mut packet = Vec::new();
            encode(&reply, &mut packet);
            assert!(packet.len() >= 300 && packet.contains(&255));
            packet[0] = 1;
            let back = parse(&packet).unwrap();
            assert_eq!((back.xid, back.chaddr), (request.xid, request.chaddr));
            assert_eq!(back.relay_agent, request.relay_agent);
        }
    }
    assert!(
        parsed > 10_000 && replies > 5_000,
        "{parsed} parsed, {replies} answered"
    );
}

fn mutated(random: &mut Random) -> Vec<u8> {
    let mut client = Client::new(random.below(12) as u8);
    for _ in 0..random.below(6) {
        let code = *random.pick(&[0, 12, 50, 52, 54, 55, 60, 61, 77, 81, 82, 93, 97, 175, 255]);
        let good: &[&[u8]] = &[
            &[172, 16, 0, 254],
            &[172, 16, 0, 201],
            b"iPXE",
            b"HTTPClient",
            &[0, 16],
            &[5, 4, 10, 1, 0, 1],
            &[],
        ];
        let noise: Vec<u8> = (0..random.below(64)).map(|_| random.next() as u8).collect();
        let value = if random.below(4) == 0 {
            &noise
        } else {
            *random.pick(good)
        };
        client = client.option(code, value);
    }
    let mut packet = client.send(*random.pick(&[1, 3, 3, 4, 7, 8, 200]));
    for _ in 0..random.below(4) {
        let at = random.below(packet.len() as u64) as usize;
        packet[at] = random.next() as u8;
    }
    match random.below(12) {
        0 => packet.truncate(random.below(packet.len() as u64 + 1) as usize),
        1 => packet.extend((0..random.below(300)).map(|_| 12)),
        2 => drop(packet.pop()),
        _ => {}
    }
    packet
}
