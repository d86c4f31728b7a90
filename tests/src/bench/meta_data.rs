//! `meta-data`: how long a node waits for its meta-data: 10,000 nodes, 200 groups with data, each node in four of them.
//!
//! Each node asks once, so that its document is made, and once more, when it is kept; one request at a time over one kept connection, as
//! from a trusted proxy that names the node. The budget: under 1 ms at p99.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bootd_tests::SERVER;

use super::appliance::Site;
use super::client::Client;

const NODES: u32 = 10_000;
const GROUPS: u32 = 200;
const BUDGET: Duration = Duration::from_millis(1);

/// Measures, and gives the report.
pub fn run() -> Result<String> {
    let site = Site::with_groups(NODES, GROUPS)?;
    let _bootd = site.start_bootd()?;
    site.answered(&format!("http://{SERVER}:8081/hsm/v2/service/ready"))?;
    let mut report = format!("meta-data of {NODES} nodes in 4 of {GROUPS} groups each, one request at a time\n\n");
    let mut client = Client::connect(8081)?;
    let mut worst = Duration::ZERO;
    for name in ["made", "kept"] {
        let mut times = Vec::with_capacity(NODES as usize);
        for n in 1..=NODES {
            let ip = Ipv4Addr::from_bits(Ipv4Addr::new(172, 16, 1, 0).to_bits() + n);
            let start = Instant::now();
            let (status, body) = client.ask(
                "GET",
                "/cloud-init/meta-data",
                &format!("X-Forwarded-For: {ip}\r\n"),
                "",
            )?;
            times.push(start.elapsed());
            ensure!(
                status == 200 && body.windows(8).any(|word| word == b"purpose:"),
                "{ip}: {status} {}",
                String::from_utf8_lossy(body)
            );
        }
        times.sort();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        worst = worst.max(at(0.99));
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        writeln!(
            report,
            "{name}: p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms",
            ms(at(0.5)),
            ms(at(0.99)),
            ms(at(0.999))
        )?;
    }
    let verdict = if worst < BUDGET { "within" } else { "over" };
    writeln!(report, "{verdict} the budget of {} ms at p99", BUDGET.as_millis())?;
    Ok(report)
}
