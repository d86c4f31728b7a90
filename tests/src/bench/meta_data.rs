//! `meta-data`: how long a node waits for its meta-data: 10,000 nodes, 200 groups with data, each node in four of them.
//!
//! Each node asks once, so that its document is made, and once more, when it is kept; one request at a time over one kept connection, as
//! from a trusted proxy that names the node. The budget: under 1 ms at p99.

use std::fmt::{self, Write};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bootd_tests::SERVER;

use super::appliance::Site;
use super::client::Client;

/// How many nodes there are.
pub const NODES: u32 = 10_000;
const GROUPS: u32 = 200;
const BUDGET: Duration = Duration::from_millis(1);

/// Measures, and gives the report.
pub fn run() -> Result<String> {
    let site = Site::with_groups(NODES, GROUPS)?;
    let _bootd = site.start_bootd()?;
    site.answered(&format!("http://{SERVER}:8081/hsm/v2/service/ready"))?;
    let mut report = format!("meta-data of {NODES} nodes in 4 of {GROUPS} groups each, one request at a time\n\n");
    let waited = waits(&mut Client::connect(8081)?)?;
    for waited in &waited {
        writeln!(report, "{waited}")?;
    }
    let worst = waited.iter().map(|waited| waited.at(0.99)).max().unwrap_or_default();
    let verdict = if worst < BUDGET { "within" } else { "over" };
    writeln!(report, "{verdict} the budget of {} ms at p99", BUDGET.as_millis())?;
    Ok(report)
}

/// How long all nodes waited, sorted.
pub struct Waited {
    name: &'static str,
    times: Vec<Duration>,
}

impl Waited {
    /// The time within which this share of the nodes had their answer.
    pub fn at(&self, share: f64) -> Duration {
        let at = (self.times.len().saturating_sub(1) as f64 * share) as usize;
        self.times.get(at).copied().unwrap_or_default()
    }
}

impl fmt::Display for Waited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |share| self.at(share).as_secs_f64() * 1000.0;
        let (p50, p99, p999) = (ms(0.5), ms(0.99), ms(0.999));
        write!(f, "{}: p50 {p50:.3} ms, p99 {p99:.3} ms, p99.9 {p999:.3} ms", self.name)
    }
}

/// Asks for the meta-data of each node, and once more.
pub fn waits(client: &mut Client) -> Result<[Waited; 2]> {
    let mut round = |name| -> Result<Waited> {
        let mut times = Vec::with_capacity(NODES as usize);
        for n in 1..=NODES {
            times.push(ask(client, n)?);
        }
        times.sort();
        Ok(Waited { name, times })
    };
    Ok([round("made")?, round("kept")?])
}

/// Asks for the meta-data of node `n`, which must have those of its groups.
pub fn ask(client: &mut Client, n: u32) -> Result<Duration> {
    let ip = Ipv4Addr::from_bits(Ipv4Addr::new(172, 16, 1, 0).to_bits() + n);
    let start = Instant::now();
    let (status, body) = client.ask(
        "GET",
        "/cloud-init/meta-data",
        &format!("X-Forwarded-For: {ip}\r\n"),
        "",
    )?;
    let time = start.elapsed();
    ensure!(
        status == 200 && body.windows(8).any(|word| word == b"purpose:"),
        "{ip}: {status} {}",
        String::from_utf8_lossy(body)
    );
    Ok(time)
}
