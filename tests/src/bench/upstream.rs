//! `upstream`: what a rack pays for mirroring a site of 10,000 nodes and 200 groups: all three plugins refresh each second while nothing changes.
//!
//! From a bootd, which answers conditional requests, and from a service without entity tags, whose whole bodies are read each time. Processor
//! time of a refresh of all three plugins is what bootd used in a window, without what it uses in one in which nothing is refreshed, over the
//! number of refreshes. Beside that, how long nodes wait for their meta-data meanwhile.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bootd_tests::ochami::{Line, Request};
use bootd_tests::process::Child;
use bootd_tests::scripted::{Asked, Conduct, PORT, Scripted, Speaks};
use bootd_tests::{Machine, SERVER, SITE, eventually_true, server, tail};

use super::appliance::{self, median};
use super::client::Client;
use super::meta_data::{NODES, Waited, ask, waits};

const GROUPS: u32 = 200;
const WINDOW: Duration = Duration::from_secs(6);
const WINDOWS: usize = 5;
/// For a refresh of all three plugins, in ms.
const CONDITIONAL_BUDGET: f64 = 10.0;
const WHOLE_BUDGET: f64 = 150.0;
/// At p99.
const META_DATA_BUDGET: Duration = Duration::from_millis(1);

/// Measures, and gives the report.
pub fn run() -> Result<String> {
    let rack = appliance::Site::with_groups(NODES, GROUPS)?;
    let own = fs::read_to_string(rack.dir.join("bootd.toml"))?;
    let _site = site(&rack, &own)?;
    let scripted = Scripted::start(PORT, Speaks::Http, &rack.dir)?;
    let mut report = format!(
        "a site of {NODES} nodes with BMCs and {GROUPS} groups, refreshed each second by all three plugins; medians of {WINDOWS} windows of {} s\n\n",
        WINDOW.as_secs()
    );

    configure(&rack.dir, &own, &scripted, 86_400)?;
    let bootd = rack.start_bootd()?;
    is_mirrored(&rack.dir)?;
    let idle = windows(&bootd, || Ok(()))?;
    let idle = median(idle.into_iter().map(|(time, ())| time).collect());
    let still = waits(&mut Client::connect(8081)?)?;
    writeln!(report, "nothing refreshed: {idle:.1} ms of processor time a window")?;
    drop(bootd);

    configure(&rack.dir, &own, &scripted, 1)?;
    let mut waited = vec![("nothing refreshed", still)];
    for (name, conduct, budget, changes) in [
        (
            "from a bootd",
            Conduct::PassesOn,
            Some(CONDITIONAL_BUDGET),
            Changes::None,
        ),
        (
            "from a service without entity tags",
            Conduct::Replays,
            Some(WHOLE_BUDGET),
            Changes::None,
        ),
        (
            "from a bootd, a node changes each time",
            Conduct::PassesOn,
            None,
            Changes::OneNode,
        ),
    ] {
        scripted.set(conduct);
        let goes_on = changes.begin();
        let bootd = rack.start_bootd()?;
        is_mirrored(&rack.dir)?;
        scripted.take();
        let before = unchanged(&rack.dir)?;
        let mut asked = Vec::new();
        let times = windows(&bootd, || {
            let these = scripted.take();
            let refreshes = these.iter().filter(|asked| asked.target.starts_with(COUNTED)).count();
            ensure!(refreshes > 0, "no refresh in a window: {these:?}");
            asked.extend(these);
            Ok(refreshes as f64)
        })?;
        let cost = median(
            times
                .into_iter()
                .map(|(time, refreshes)| (time - idle) / refreshes)
                .collect(),
        );
        let verdict = match budget {
            Some(budget) if cost < budget => format!("within {budget:.0} ms"),
            Some(budget) => format!("over {budget:.0} ms"),
            None => "no budget".into(),
        };
        writeln!(report, "\n{name}: {cost:.1} ms of processor time a refresh ({verdict})")?;
        let unchanged = unchanged(&rack.dir)? - before;
        writeln!(
            report,
            "  {unchanged} of {} answers were what is there already, so nothing was published for them\n  {}",
            asked.len(),
            shown(&asked)
        )?;
        let start = Instant::now();
        waited.push((name, waits(&mut Client::connect(8081)?)?));
        let during = scripted.take();
        let refreshes = during.iter().filter(|asked| asked.target.starts_with(COUNTED)).count();
        writeln!(
            report,
            "  while meta-data were asked for: {refreshes} refreshes in {:.1} s",
            start.elapsed().as_secs_f64()
        )?;
        goes_on.store(false, Ordering::Relaxed);
    }

    writeln!(
        report,
        "\nmeta-data of all nodes, one request at a time (at most {} ms at p99)",
        META_DATA_BUDGET.as_millis()
    )?;
    for (name, waited) in waited {
        let worst = waited
            .iter()
            .map(|waited: &Waited| waited.at(0.99))
            .max()
            .unwrap_or_default();
        let verdict = if worst < META_DATA_BUDGET { "within" } else { "over" };
        writeln!(
            report,
            "  {name}: {} ({verdict})",
            waited.each_ref().map(ToString::to_string).join("; ")
        )?;
    }
    Ok(report)
}

/// What changes at the site meanwhile.
#[derive(PartialEq, Eq)]
enum Changes {
    None,
    /// Its first node gets another NID, several times a second.
    OneNode,
}

impl Changes {
    /// Until what this gives says no.
    fn begin(self) -> Arc<AtomicBool> {
        let goes_on = Arc::new(AtomicBool::new(self == Self::OneNode));
        let wanted = Arc::clone(&goes_on);
        std::thread::spawn(move || -> Result<()> {
            let mut line = Line::open_to(SITE)?;
            for n in 0.. {
                if !wanted.load(Ordering::Relaxed) {
                    break;
                }
                let nid = format!(r#"{{"NID":{}}}"#, 20_000 + n % 2);
                let change = Request::new("PATCH", "/hsm/v2/State/Components/x1000c0s0b0n0/NID", nid);
                let answer = line.ask(&change.bytes(""))?;
                ensure!(answer.status < 300, "{answer:?}");
                std::thread::sleep(Duration::from_millis(300));
            }
            Ok(())
        });
        goes_on
    }
}

/// One of the collections, to count refreshes.
const COUNTED: &str = "/hsm/v2/State/Components";

/// The site: a bootd in local mode on a machine of its own, with the files of the measurement.
fn site(rack: &appliance::Site, own: &str) -> Result<(Machine, Child)> {
    let machine = Machine::plug(&rack.network, "site")?;
    machine.ip(&format!("addr add {SITE}/16 brd + dev site0"))?;
    let dir = rack.dir.display().to_string();
    let config = own
        .replace("[\"br0\"]", "[]")
        .replace(&SERVER.to_string(), &SITE.to_string())
        .replace(&format!("{dir}/state"), &format!("{dir}/site-state"))
        .replace(&format!("{dir}/admin.sock"), &format!("{dir}/site.sock"));
    let config_file = rack.dir.join("site.toml");
    fs::write(&config_file, config)?;
    let log = fs::File::create(rack.dir.join("site.log"))?;
    let mut command = machine.command(server::binary()?);
    command.args(["serve", "--config"]).arg(&config_file);
    let bootd = Child::spawn("the site's bootd", command.stdout(Stdio::null()).stderr(log))?;
    rack.answered(&format!("http://{SITE}:8081/hsm/v2/service/ready"))
        .with_context(|| tail(&rack.dir.join("site.log"), 10))?;
    Ok((machine, bootd))
}

/// The rack's configuration: all three plugins mirror the site.
fn configure(dir: &Path, own: &str, scripted: &Scripted, refresh_s: u32) -> Result<()> {
    let mut config = own.split("[[plugin]]").next().unwrap_or_default().to_owned();
    for plugin in ["smd", "bss", "cloud-init"] {
        let url = scripted.url();
        write!(
            config,
            "[[plugin]]\nname = \"{plugin}\"\nmode = \"upstream\"\nconfig.url = \"{url}\"\nconfig.refresh_s = {refresh_s}\n"
        )?;
    }
    Ok(fs::write(dir.join("bootd.toml"), config)?)
}

/// Waits until the rack serves the last node's meta-data with those of its groups, and has nothing more to do.
fn is_mirrored(dir: &Path) -> Result<()> {
    let is_there = || -> Result<bool> {
        ask(&mut Client::connect(8081)?, NODES)?;
        Ok(true)
    };
    eventually_true(Duration::from_secs(60), "the rack has mirrored the site", || {
        is_there().unwrap_or(false)
    })
    .with_context(|| tail(&dir.join("bootd.log"), 10))?;
    std::thread::sleep(Duration::from_secs(3));
    Ok(())
}

/// Processor time of bootd in each window in ms, and what `count` says at its end.
fn windows<T>(bootd: &Child, mut count: impl FnMut() -> Result<T>) -> Result<Vec<(f64, T)>> {
    let mut times = Vec::new();
    for _ in 0..WINDOWS {
        let before = on_processors(bootd.id())?;
        std::thread::sleep(WINDOW);
        let spent = on_processors(bootd.id())?.saturating_sub(before);
        times.push((spent.as_secs_f64() * 1000.0, count()?));
    }
    Ok(times)
}

/// Processor time of all threads of a process, to the nanosecond; a thread that ended meanwhile does not count.
fn on_processors(pid: u32) -> Result<Duration> {
    let mut all = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else {
            continue;
        };
        let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse().ok());
        all += Duration::from_nanos(nanoseconds.context("schedstat")?);
    }
    Ok(all)
}

/// How many answers of the site said nothing new, so that nothing was read of them, stored or published.
fn unchanged(dir: &Path) -> Result<u64> {
    let metrics = server::metrics(&dir.join("admin.sock"))?;
    let counted = metrics.lines().filter(|line| line.contains("\"upstream_unchanged\""));
    Ok(counted
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum())
}

/// The requests of each target, by how they were answered.
fn shown(asked: &[Asked]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for asked in asked {
        let kind = if asked.conditional { "conditional" } else { "plain" };
        *counts
            .entry(format!("{} ({kind}, {})", asked.target, asked.status))
            .or_default() += 1;
    }
    let all: Vec<String> = counts
        .iter()
        .map(|(what, count)| format!("{count} of {what}"))
        .collect();
    format!("requests: {}", all.join(", "))
}
