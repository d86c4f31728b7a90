//! `process`: what bootd with 10,000 nodes takes: memory after the start and after a hundred full reads of the nodes, and the time from
//! its start to the first DHCP answer for a known node and to the first HTTP answer, with nothing in its state folder and with what the last run left there.
//!
//! Against the budget: under 100 MB resident, first answers within a second. Each node has a BMC, so the inventory holds 20,000 rows.

use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::appliance::{Site, median};
use bootd_tests::process::{Child, run as command};
use bootd_tests::wire::{Client, DISCOVER, message, xid};
use bootd_tests::{SERVER, eventually_true, server};
use rustix::process::{Pid, Signal, kill_process};

const NODES: u32 = 10_000;
const ROUNDS: usize = 5;
const READS: usize = 100;
/// The most that bootd may have in memory, in MB.
const BUDGET_MB: f64 = 100.0;

/// Measures, and gives the report.
pub fn run() -> Result<String> {
    let site = Site::new(NODES)?;
    let client = Client::plug_into(&site.network)?;
    let mut report = format!("bootd with {NODES} nodes and as many BMCs; times are medians of {ROUNDS} starts\n\n");
    for name in ["cold", "warm"] {
        if name == "warm" {
            leave_a_state(&site)?;
        }
        let (mut dhcp, mut http) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            if name == "cold" {
                let _ = fs::remove_dir_all(site.dir.join("state"));
            }
            let first = first_answers(&site, &client)?;
            dhcp.push(first.dhcp.as_secs_f64() * 1000.0);
            http.push(first.http.as_secs_f64() * 1000.0);
        }
        let (dhcp, http) = (median(dhcp), median(http));
        writeln!(
            report,
            "{name} state: first DHCP answer after {dhcp:.0} ms, first HTTP answer after {http:.0} ms"
        )?;
    }
    let bootd = site.start_bootd()?;
    let url = |path: &str| format!("http://{SERVER}:8081{path}");
    site.answered(&url("/hsm/v2/service/ready"))?;
    let mut worst = resident(&bootd, &mut report, "after the start")?;
    let config = site.dir.join("bootd.toml").display().to_string();
    let binary = server::binary()?.display().to_string();
    for _ in 0..READS {
        command(&binary, &["nodes", "--json", "--config", &config])?;
    }
    worst = worst.max(resident(&bootd, &mut report, "after 100 times bootd nodes --json")?);
    for _ in 0..READS {
        site.answered(&url("/hsm/v2/State/Components"))?;
    }
    worst = worst.max(resident(
        &bootd,
        &mut report,
        "after 100 times /hsm/v2/State/Components",
    )?);
    let verdict = if worst < BUDGET_MB { "within" } else { "over" };
    writeln!(report, "{verdict} the budget of {BUDGET_MB:.0} MB")?;
    Ok(report)
}

/// A bootd that is told to end has written all that it knows.
fn leave_a_state(site: &Site) -> Result<()> {
    let mut bootd = site.start_bootd()?;
    site.answered(&format!("http://{SERVER}:8081/hsm/v2/service/ready"))?;
    let pid = Pid::from_raw(bootd.id().cast_signed()).context("process id")?;
    kill_process(pid, Signal::TERM).context("signal bootd")?;
    eventually_true(LIMIT, "bootd ends", || bootd.ended().is_some())
}

struct First {
    dhcp: Duration,
    http: Duration,
}

/// Starts bootd, and ends it when it has answered both.
fn first_answers(site: &Site, client: &Client) -> Result<First> {
    let socket = client.dhcp_socket()?;
    let start = Instant::now();
    let bootd = site.start_bootd()?;
    let http = std::thread::spawn(move || -> Result<Duration> {
        let to = SocketAddr::from((SERVER, 8081));
        while start.elapsed() < LIMIT {
            if TcpStream::connect(to).is_ok() {
                let url = format!("http://{SERVER}:8081/boot/v1/bootscript?mac=52:54:00:00:00:01");
                let script = command("wget", &["-q", "-O", "-", &url])?;
                if script.contains("kernel") {
                    return Ok(start.elapsed());
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        bail!("no HTTP answer within {LIMIT:?}")
    });
    let dhcp = loop {
        let xid = xid();
        socket.send(&message(DISCOVER, xid, [0x52, 0x54, 0, 0, 0, 1], &[]))?;
        if socket.receive(xid, Duration::from_millis(5)).is_ok() {
            break start.elapsed();
        }
        if start.elapsed() > LIMIT {
            bail!("no DHCP answer within {LIMIT:?}");
        }
    };
    let http = http.join().ok().context("the HTTP client panicked")??;
    drop(bootd);
    Ok(First { dhcp, http })
}

const LIMIT: Duration = Duration::from_secs(20);

/// Resident memory in MB, when what is free was given back, which bootd does within a few seconds.
fn resident(bootd: &Child, report: &mut String, when: &str) -> Result<f64> {
    let now = || -> Option<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", bootd.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib * 1024.0 / 1e6)
    };
    let at_once = now().context("bootd's memory")?;
    let mut low = at_once;
    let _ = eventually_true(Duration::from_secs(8), "less memory", || {
        low = low.min(now().unwrap_or(low));
        false
    });
    writeln!(
        report,
        "resident {when}: {at_once:.0} MB, some seconds later {low:.0} MB"
    )?;
    Ok(low)
}
