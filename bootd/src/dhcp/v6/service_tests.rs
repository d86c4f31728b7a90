//! The shell with a real store and an outlet that only remembers.

use std::io;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::super::testing::{Client, link_local, options, relayed};
use super::*;
use crate::config;
use crate::dhcp::limit::Load;
use crate::dhcp::v4::testing::{mac, node, snapshot};
use crate::dhcp::{Ignored, Then};
use crate::inventory::Snapshot;
use crate::metrics::Metrics;
use crate::state::Store;

/// Hands on what would be sent.
struct Wire(Mutex<Sender<(Vec<u8>, SocketAddrV6)>>);

impl Outlet<Letter> for Wire {
    fn send(&self, letters: &[Letter], failed: &mut Vec<(usize, io::Error)>) {
        for (at, letter) in letters.iter().enumerate() {
            let sent = (letter.packet.clone(), letter.to);
            if self.0.lock().unwrap().send(sent).is_err() {
                failed.push((at, io::ErrorKind::BrokenPipe.into()));
            }
        }
    }
}

/// A client that the plugins were asked about, and what is to happen then.
type Asked = (Mac, Option<Then>);

struct Bench {
    shell: Arc<Shell>,
    outlet: Arc<dyn Outlet<Letter>>,
    sent: Receiver<(Vec<u8>, SocketAddrV6)>,
    asked: Receiver<Asked>,
    /// What is said to who asks about a client.
    lookup: Arc<Mutex<Lookup>>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    metrics: Arc<Metrics>,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let text = "[server]\ninterfaces = [\"e\"]\n[dhcp]\nrate_limit = 4\n[dhcp6]\n[[dhcp6.subnet]]\nprefix = \"fd00::/64\"\n";
        let config = Arc::new(config::parse(text, Path::new("bootd.toml")).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (to_wire, sent) = channel();
        let (to_plugins, asked) = channel();
        let lookup = Arc::new(Mutex::new(Lookup::Nobody));
        let metrics = Arc::new(Metrics::default());
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot([node(1, &["fd00::1"])])));
        let (to_plugins, said) = (Mutex::new(to_plugins), Arc::clone(&lookup));
        let deps = Deps {
            config: Arc::clone(&config),
            snapshot: Arc::clone(&snapshot),
            store: store.clone(),
            metrics: Arc::clone(&metrics),
            watch: Default::default(),
            ignored: Arc::new(Ignored::open(store).unwrap()),
            sockets: Default::default(),
            former: Default::default(),
            pause: Default::default(),
            unknown: Arc::new(move |mac, then| {
                to_plugins.lock().unwrap().send((mac, then)).unwrap();
                *said.lock().unwrap()
            }),
        };
        Self {
            shell: Arc::new(Shell::new(deps, config.dhcp6.as_ref().unwrap()).unwrap()),
            outlet: Arc::new(Wire(Mutex::new(to_wire))),
            sent,
            asked,
            lookup,
            snapshot,
            metrics,
            _dir: dir,
        }
    }

    /// A batch of packets comes in.
    fn packets(&self, batch: &[(&[u8], SocketAddrV6)], desk: &mut Desk) {
        let receiving = Receiving::of(["fd00::fe".parse().unwrap()]);
        desk.begin(Load::Light);
        for (bytes, peer) in batch {
            self.shell.packet(bytes, *peer, &receiving, &self.outlet, desk);
        }
        self.shell.send(desk, &*self.outlet);
    }

    fn packet(&self, bytes: &[u8], peer: SocketAddrV6) -> usize {
        self.packets(&[(bytes, peer)], &mut self.shell.desk());
        self.sent.try_iter().count()
    }

    fn counted(&self, what: &str) -> bool {
        let label = format!("what=\"{what}\"");
        self.metrics.text().lines().any(|line| line.contains(&label))
    }
}

fn peer(ip: Ipv6Addr, port: u16) -> SocketAddrV6 {
    SocketAddrV6::new(ip, port, 0, 0)
}

fn solicit(number: u8) -> Vec<u8> {
    Client::new(number).ia(7, &[]).solicit()
}

#[test]
fn a_reply_goes_where_the_packet_came_from_whoever_sent_it() {
    let bench = Bench::new();
    let relay = peer("fd00:9::1".parse().unwrap(), 5000);
    let through = relayed(&solicit(1), 0, "fd00::fd", link_local(1), &[]);
    let client = peer(link_local(1), 546);
    bench.packets(&[(&solicit(1), client), (&through, relay)], &mut bench.shell.desk());
    let sent: Vec<_> = bench.sent.try_iter().collect();
    assert_eq!(sent.iter().map(|(_, to)| *to).collect::<Vec<_>>(), [client, relay]);
    assert_eq!((sent[0].0[0], sent[1].0[0]), (2, 13));
    let id = &options(&sent[0].0[4..])[1];
    assert_eq!((id.0, id.1.len()), (2, 18), "an identity of random bytes");
    assert!(bench.counted("advertise"));
}

#[test]
fn whom_the_operator_ignores_gets_no_answer_until_that_ends() {
    let bench = Bench::new();
    let ignored = &bench.shell.deps().ignored;
    ignored.add(mac(1)).unwrap();
    assert_eq!(bench.packet(&solicit(1), peer(link_local(1), 546)), 0);
    assert!(bench.counted("ignored_by_operator"));
    ignored.remove(mac(1)).unwrap();
    assert_eq!(bench.packet(&solicit(1), peer(link_local(1), 546)), 1);
}

#[test]
fn the_solicit_of_a_stranger_waits_for_what_the_plugins_say() {
    let bench = Bench::new();
    *bench.lookup.lock().unwrap() = Lookup::Begun;
    assert_eq!(bench.packet(&solicit(2), peer(link_local(2), 546)), 0);
    let (asked, then) = bench.asked.try_recv().unwrap();
    assert_eq!(asked, mac(2));
    *bench.lookup.lock().unwrap() = Lookup::Waiting;
    assert_eq!(bench.packet(&solicit(2), peer(link_local(2), 546)), 0);
    assert!(bench.counted("lookup_under_way"));
    bench.snapshot.store(Arc::new(snapshot([node(2, &["fd00::2"])])));
    then.unwrap()();
    let (packet, to) = bench.sent.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!((packet[0], to), (2, peer(link_local(2), 546)));
    *bench.lookup.lock().unwrap() = Lookup::Nobody;
    assert_eq!(bench.packet(&solicit(3), peer(link_local(3), 546)), 0);
    assert!(bench.counted("unknown_client"));
    // Who speaks to this server in particular is answered at once, and asked about all the same.
    let renew = Client::new(3)
        .ia(7, &["fd00::3"])
        .option(2, &bench.shell.rules.load().policy.server_id)
        .send(5);
    assert_eq!(bench.packet(&renew, peer(link_local(3), 546)), 1);
    assert!(
        bench
            .asked
            .try_iter()
            .any(|(asked, then)| asked == mac(3) && then.is_none())
    );
}

#[test]
fn a_batch_answers_a_packet_once_and_a_client_has_its_share() {
    let bench = Bench::new();
    let (client, mut desk) = (peer(link_local(1), 546), bench.shell.desk());
    let twice = solicit(1);
    bench.packets(&[(&twice, client), (&twice, client)], &mut desk);
    assert_eq!(bench.sent.try_iter().count(), 1);
    assert!(bench.counted("shed_duplicate"));
    for _ in 0..20 {
        bench.packets(&[(&twice, client)], &mut desk);
    }
    assert!(bench.sent.try_iter().count() < 10);
    assert!(bench.counted("rate_limited"));
}

#[test]
fn what_cannot_be_read_is_counted_and_nothing_else_changes() {
    let bench = Bench::new();
    for (packet, why) in [
        (&[1, 2][..], "too_short"),
        (&[1, 0, 0, 0, 0, 1, 0, 9], "truncated_option"),
        (&[7, 0, 0, 0], "message_type"),
    ] {
        assert_eq!(bench.packet(packet, peer(link_local(1), 546)), 0);
        assert!(bench.counted(why), "{why}");
    }
    assert_eq!(bench.packet(&solicit(1), peer(link_local(1), 546)), 1);
}
