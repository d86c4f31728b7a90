//! `bad-plugins`: the latency of DHCP beside a plugin that misbehaves, against the same bootd without one. One client on a cable asks for
//! its address again and again; the situations take turns, each with a bootd of its own, and the medians of the rounds are shown. The client
//! has one processor to itself and bootd, with the bad plugin, another: whoever spins does so where packets are answered.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bootd_tests::wire::{Client, DISCOVER, DhcpSocket, message, xid};
use bootd_tests::{SERVER, eventually_true, plugin};

use super::appliance::{Site, median};
use super::{Table, pin, share};

const NODES: u32 = 10_000;
const ROUNDS: usize = 5;
/// Exchanges that each round measures.
const EXCHANGES: usize = 3000;
/// How it is called, and what the plugin does.
const SITUATIONS: [(&str, Option<&str>); 5] = [
    ("no bad plugin", None),
    ("requests hang", Some("hang-in-handle")),
    ("look-ups hang", Some("hang-in-resolve")),
    ("run spins", Some("run-spins")),
    ("10,000 rows published without end", Some("publish-often")),
];

/// Measures, and gives the table.
pub fn run() -> Result<Table> {
    let site = Site::new(NODES)?;
    let client = Client::plug_into(&site.network)?;
    pin(None, 0)?;
    let plain = site.config();
    let hostile = plugin::hostile()?;
    let mut times: [[Vec<f64>; 3]; SITUATIONS.len()] = Default::default();
    for _ in 0..ROUNDS {
        for ((name, behaviour), times) in SITUATIONS.iter().zip(&mut times) {
            let more = behaviour.map_or(String::new(), |behaviour| {
                let file = hostile.display();
                format!("[[plugin]]\nname = \"hostile\"\nfile = \"{file}\"\nconfig.behaviour = \"{behaviour}\"\n")
            });
            fs::write(site.dir.join("bootd.toml"), format!("{plain}{more}"))?;
            let bootd = site.start_bootd()?;
            pin(Some(bootd.id()), 1)?;
            site.answered(&format!("http://{SERVER}:8081/hsm/v2/service/ready"))?;
            let socket = client.dhcp_socket()?;
            provoke(&socket, *behaviour)?;
            let round = latencies(&socket).with_context(|| (*name).to_owned())?;
            for (times, at) in times.iter_mut().zip([0.5, 0.99, 0.999]) {
                times.push(share(&round, at).as_secs_f64() * 1e6);
            }
            drop(bootd);
        }
    }
    let mut table = Table::new(
        format!("DISCOVER to OFFER in us, {NODES} nodes, {EXCHANGES} exchanges in turn, medians of {ROUNDS} rounds"),
        &["beside", "p50", "p99", "p99.9", "p50, ratio", "p99, ratio"],
    );
    let medians = times.map(|times| times.map(median));
    let base = medians[0];
    for ((name, _), [p50, p99, p999]) in SITUATIONS.iter().zip(medians) {
        let shown = |value: f64| format!("{value:.0}");
        let ratio = |value: f64, base: f64| format!("{:.2}", value / base);
        table.row([
            (*name).into(),
            shown(p50),
            shown(p99),
            shown(p999),
            ratio(p50, base[0]),
            ratio(p99, base[1]),
        ]);
    }
    Ok(table)
}

/// Makes the plugin misbehave: requests and look-ups that hang must be asked for.
fn provoke(socket: &DhcpSocket, behaviour: Option<&str>) -> Result<()> {
    match behaviour {
        Some("hang-in-handle") => {
            for _ in 0..2 {
                std::thread::spawn(|| {
                    let url = format!("http://{SERVER}:8081/hostile");
                    // It comes to nothing.
                    let _ = bootd_tests::process::run("wget", &["-q", "-O", "-", "-T", "2", "-t", "1", &url]);
                });
            }
        }
        Some("hang-in-resolve") => {
            for last in 0..8 {
                socket.send(&message(DISCOVER, xid(), [0x52, 0x54, 0, 0xff, 0, last], &[]))?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// The latencies of a round, sorted.
fn latencies(socket: &DhcpSocket) -> Result<Vec<Duration>> {
    let node = [0x52, 0x54, 0, 0, 0, 1];
    let exchange = || {
        let (id, start) = (xid(), Instant::now());
        socket.send(&message(DISCOVER, id, node, &[]))?;
        socket.receive(id, Duration::from_secs(2))?;
        anyhow::Ok(start.elapsed())
    };
    // What a start leaves to do is over.
    eventually_true(Duration::from_secs(10), "an answer", || exchange().is_ok())?;
    for _ in 0..EXCHANGES / 3 {
        exchange()?;
    }
    let mut times = (0..EXCHANGES).map(|_| exchange()).collect::<Result<Vec<_>>>()?;
    times.sort();
    Ok(times)
}
