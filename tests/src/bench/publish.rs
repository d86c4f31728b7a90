//! Publications: from the text that a plugin hands over to the snapshot that packets are answered from, and what packets notice of it.
//!
//! Ten thousand rows as smd publishes them, as a whole and one by one. The aim is 50 ms for the whole, and no later answer for any packet while
//! that goes on in another thread: the same packets are answered with and without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bootd::dhcp::v4::policy::Policy;
use bootd::inventory::{Inventory, Told};
use bootd::state::Store;
use serde_json::json;

use super::dhcp_core::{Kind, answered, packet, receiving};
use super::{Table, allocations, median, share, shown, site, timed};

/// Runs it.
pub fn run() -> Result<Table> {
    let mut table = Table::new(
        format!(
            "publish: text in, snapshot swapped; an inventory of {} nodes",
            site::NODES
        ),
        &["what", "time", "heap allocations"],
    );
    let folder = Folder::new()?;
    let (on, off) = (site::publication("On"), site::publication("Off"));
    let mut row = |what: &str, time: Duration, taken: u64| {
        table.row([
            what.into(),
            shown(time),
            if taken == 0 { String::new() } else { taken.to_string() },
        ])
    };

    let read = median(|| timed(|| drop(serde_json::from_str::<Told>(&on))));
    row("of that, finding the rows in the JSON", read, 0);
    let first = median(|| match site::inventory(None) {
        Ok(inventory) => timed(|| publish(&inventory, &on)),
        Err(_) => Duration::MAX,
    });
    row("all nodes, the first time", first, 0);

    let store = Store::open(&folder.0)?;
    let inventory = site::inventory(Some(store.clone()))?;
    row(
        "all nodes, the first time, with the disk's copy",
        timed(|| publish(&inventory, &on)),
        0,
    );
    store.write_and_wait(Default::default())?;
    ensure!(inventory.snapshot().len() == site::NODES as usize, "nodes are missing");
    let same = median(|| timed(|| publish(&inventory, &on)));
    row(
        "all nodes again, nothing changed",
        same,
        allocations::during(|| publish(&inventory, &on)),
    );
    let unkept = site::inventory(None)?;
    for (what, inventory) in [("", &unkept), (", with the disk's copy", &inventory)] {
        let mut turn = 0;
        let changed = median(|| {
            turn += 1;
            timed(|| publish(inventory, if turn % 2 == 0 { &on } else { &off }))
        });
        row(&format!("all nodes, each of them changed{what}"), changed, 0);
    }
    store.write_and_wait(Default::default())?;
    let mut n = 0;
    let mut delta = || {
        n = (n + 1) % site::NODES;
        let text = json!({"nodes": [site::row(n, &format!("s{n}"))]}).to_string();
        timed(|| publish(&inventory, &text))
    };
    let one = median(|| (0..200).map(|_| delta()).sum::<Duration>() / 200);
    let taken = allocations::during(|| _ = delta());
    row("one node", one, taken);
    store.write_and_wait(Default::default())?;

    let (alone, beside) = (latencies(Beside::Nothing)?, latencies(Beside::Publications)?);
    for (what, times) in [
        ("DHCP core, nothing beside it", &alone),
        ("DHCP core, all nodes republished beside it", &beside),
    ] {
        for (name, part) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            row(&format!("{what}: {name}"), share(times, part), 0);
        }
    }
    table
        .notes
        .push("Republished: every row different each time, without a pause. Times are those on a processor.".into());
    Ok(table)
}

fn publish(inventory: &Inventory, text: &str) {
    // As the host does it: the text of a plugin, then the rows.
    if let Ok(publication) = serde_json::from_str::<Told>(text) {
        let _ = inventory.publish("smd", publication);
    }
}

#[derive(PartialEq, Eq)]
enum Beside {
    Nothing,
    Publications,
}

/// How long each of many packets took, sorted.
fn latencies(beside: Beside) -> Result<Vec<Duration>> {
    let inventory = Arc::new(site::inventory(None)?);
    publish(&inventory, &site::publication("On"));
    let (policy, receiving, shared) = (Policy::new(&site::config()?), receiving(), inventory.shared());
    let packets: Vec<Vec<u8>> = (0..site::NODES).map(|n| packet(Kind::Firmware, n)).collect();
    let texts = [site::publication("On"), site::publication("Off")];
    let ending = AtomicBool::new(false);
    let mut times = Vec::with_capacity(PACKETS);
    std::thread::scope(|scope| {
        if beside == Beside::Publications {
            scope.spawn(|| {
                for text in texts.iter().cycle() {
                    if ending.load(Ordering::Relaxed) {
                        break;
                    }
                    publish(&inventory, text);
                }
            });
        }
        let mut buffer = Vec::with_capacity(1024);
        for packet in packets.iter().cycle().take(PACKETS) {
            let start = Instant::now();
            let snapshot = shared.load();
            std::hint::black_box(answered(&policy, &snapshot, &receiving, packet, &mut buffer));
            drop(snapshot);
            times.push(start.elapsed());
        }
        ending.store(true, Ordering::Relaxed);
    });
    times.sort();
    Ok(times)
}

const PACKETS: usize = 2_000_000;

/// A folder that goes with its owner.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("bootd-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
