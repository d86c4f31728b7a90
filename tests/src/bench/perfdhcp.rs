//! Whole 4-way exchanges through a relay's address, by Kea's own load generator: bootd against ten thousand known nodes, beside Kea with a
//! memfile in the same run, once with ten thousand host reservations, once with nothing but a pool.
//!
//! For each server the rate is looked for up to which it loses nothing, and the latency is taken there and at a rate that all of them have.
//! Server and generator share the processors and a veth pair in a network namespace; both servers log and keep leases as they do by default.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use bootd_tests::process::Child;
use bootd_tests::{eventually, tail};

use super::dhcp_servers::{self as servers, Persist, Threads};
use super::relay::Wire;
use super::site::{self, NODES, RELAY, SERVER};
use super::{Options, Table};

/// Runs it.
pub fn run(options: &Options) -> Result<Table> {
    let with: Vec<String> = options.with_so.iter().map(|file| file.display().to_string()).collect();
    let mut title = format!("perfdhcp: 4-way exchanges through a relay's address, {NODES} clients");
    if !with.is_empty() {
        title = format!("{title}; bootd with {}", with.join(", "));
    }
    let mut table = Table::new(
        title,
        &[
            "server",
            "most a second without loss",
            "there: OFFER avg / max",
            "ACK avg / max",
            "at 500 a second: OFFER avg / max",
            "ACK avg / max",
        ],
    );
    let bench = Bench(Wire::up()?);
    for (name, start) in SERVERS {
        let folder = bench.0.folder.join(name.replace(' ', "-"));
        fs::create_dir_all(&folder)?;
        let mut server = start(&folder, options)?;
        let measured = bench.measure(&mut server);
        let measured = measured.with_context(|| format!("{name}\n{}", tail(&folder.join("log"), 10)))?;
        let (most, there, easy) = measured;
        table.row([
            (*name).into(),
            most.to_string(),
            there.offer.to_string(),
            there.ack.to_string(),
            easy.offer.to_string(),
            easy.ack.to_string(),
        ]);
    }
    Ok(table)
}

type Start = fn(&Path, &Options) -> Result<Child>;

const SERVERS: &[(&str, Start)] = &[
    ("bootd", |folder, options| servers::bootd(folder, options, "")),
    ("Kea, reservations", |folder, _| {
        servers::kea(folder, servers::reservations(), Persist::Yes, Threads::Many)
    }),
    ("Kea, pool", |folder, _| {
        servers::kea(folder, servers::pool(), Persist::Yes, Threads::Many)
    }),
];

/// Loads a server over a wire.
struct Bench(Wire);

impl Bench {
    /// The rate up to which nothing is lost, what it is like there, and what it is like at a rate that is easy.
    fn measure(&self, server: &mut Child) -> Result<(u32, Run, Run)> {
        eventually(Duration::from_secs(60), "the server answers", || {
            let ended = server.ended().map(|status| Err(anyhow::anyhow!("it ended: {status}")));
            ended.or_else(|| self.load(EASY / 10, 1).ok().filter(|run| run.is_whole()).map(Ok))
        })??;
        let easy = self.load(EASY, SECONDS)?;
        // It is at least `good`, and less than `bad`.
        let (mut good, mut bad) = ((EASY, easy), None);
        loop {
            let rate = match bad {
                None => good.0 * 2,
                Some(bad) => (good.0 + bad) / 2,
            };
            if bad.is_some_and(|bad| bad - good.0 <= bad / 16) || rate > 200_000 {
                break;
            }
            // Whatever else the machine does may cost a packet: a rate counts when one of two tries loses none.
            let runs = [self.load(rate, SECONDS)?, self.load(rate, SECONDS)?];
            match runs
                .into_iter()
                .find(|run| run.is_whole() && run.rate() > rate / 20 * 19)
            {
                Some(run) => good = (rate, run),
                None => bad = Some(rate),
            }
        }
        Ok((good.1.rate(), good.1, easy))
    }

    /// So many exchanges a second, for so many seconds.
    fn load(&self, rate: u32, seconds: u32) -> Result<Run> {
        let output = self
            .0
            .command_at_relay(&[PERFDHCP, "-4", "-l", &RELAY.to_string()])
            .args(["-b", &format!("mac={}", site::mac_text(0)), "-R", &NODES.to_string()])
            .args(["-r", &rate.to_string(), "-p", &seconds.to_string()])
            // Answers on their way when the time is over are no losses.
            .args(["-W", "300000", &SERVER.to_string()])
            .stdin(Stdio::null())
            .output()
            .context("start perfdhcp")?;
        // It ends with 3 when something was lost.
        let said = String::from_utf8_lossy(&output.stdout);
        Run::read(&said, seconds).with_context(|| {
            format!(
                "perfdhcp: {}\n{said}{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }
}

/// What perfdhcp says about one run.
#[derive(Debug, Clone, Copy)]
struct Run {
    seconds: u32,
    offer: Half,
    ack: Half,
}

/// One request and its answer.
#[derive(Debug, Clone, Copy)]
struct Half {
    sent: u64,
    lost: u64,
    avg_ms: f64,
    max_ms: f64,
}

impl Run {
    fn read(said: &str, seconds: u32) -> Option<Self> {
        let half = |title: &str| Half::read(said.split_once(title)?.1);
        Some(Self {
            seconds,
            offer: half("Statistics for: DISCOVER-OFFER")?,
            ack: half("Statistics for: REQUEST-ACK")?,
        })
    }

    /// Whole exchanges a second. What perfdhcp calls so counts the time in which it only waits, too.
    fn rate(&self) -> u32 {
        (self.ack.sent - self.ack.lost) as u32 / self.seconds
    }

    fn is_whole(&self) -> bool {
        self.offer.lost + self.ack.lost == 0 && self.ack.sent > 0
    }
}

impl Half {
    /// The first values with these names are its own.
    fn read(said: &str) -> Option<Self> {
        let value = |name: &str| {
            let line = said.lines().find_map(|line| line.trim().strip_prefix(name))?;
            line.trim_start_matches(':')
                .split_whitespace()
                .next()?
                .parse::<f64>()
                .ok()
        };
        Some(Self {
            sent: value("sent packets")? as u64,
            lost: value("drops")? as u64,
            avg_ms: value("avg delay")?,
            max_ms: value("max delay")?,
        })
    }
}

impl std::fmt::Display for Half {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} / {:.1} ms", self.avg_ms, self.max_ms)
    }
}

/// The rate at which all servers are idle most of the time.
const EASY: u32 = 500;
const SECONDS: u32 = 4;
/// Where Debian has it; an ordinary user's path lacks that folder.
const PERFDHCP: &str = "/usr/sbin/perfdhcp";
