//! What is measured, each in a module of its own: against what, and how often. Nothing here asserts; the numbers are for whoever reads them.

#![allow(unreachable_pub, reason = "the modules of one program")]

pub mod allocations;
pub mod appliance;
pub mod bad_plugins;
pub mod cache;
pub mod cache_servers;
pub mod client;
pub mod dhcp;
pub mod dhcp6;
pub mod dhcp_core;
pub mod dhcp_servers;
pub mod discover;
pub mod fetches;
pub mod generator;
pub mod histogram;
pub mod instructions;
pub mod meta_data;
pub mod origin;
pub mod perfdhcp;
pub mod process;
pub mod publish;
pub mod relay;
pub mod script;
pub mod site;
pub mod slow;
pub mod tftp;
pub mod upstream;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// What the command line says.
#[derive(Debug, Default)]
pub struct Options {
    /// Plugins to load beside the ordinary ones.
    pub with_so: Vec<PathBuf>,
    /// Only whether all of it works: one short run of each.
    pub short: bool,
    /// Exchanges that DHCP has in flight; none: as each table says.
    pub in_flight: Option<usize>,
    /// Exchanges of DHCP that are begun a second; none: half of what bootd reaches.
    pub rate: Option<u32>,
    /// Rounds of `cache`; none: as each of its tables says.
    pub rounds: Option<usize>,
    /// Megabytes of the large object of `cache`.
    pub object: Option<u64>,
}

/// What came of a measurement.
#[derive(Debug, Default)]
pub struct Table {
    /// What was measured.
    pub title: String,
    /// The columns' names.
    pub columns: Vec<&'static str>,
    /// A row's first cell says what it is about.
    pub rows: Vec<Vec<String>>,
    /// What one must know to read them.
    pub notes: Vec<String>,
}

impl Table {
    /// An empty one.
    pub fn new(title: impl Into<String>, columns: &[&'static str]) -> Self {
        Self {
            title: title.into(),
            columns: columns.to_vec(),
            ..Self::default()
        }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// The same in Markdown, for a page.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let names: Vec<String> = self.columns.iter().map(|&name| name.to_owned()).collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        let notes: String = self.notes.iter().map(|note| format!("\n{note}\n")).collect();
        let rule = "|---".repeat(names.len());
        format!("{}\n\n{}{rule}|\n{rows}{notes}", self.title, line(&names))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.columns.iter().map(|&name| name.to_owned()).collect();
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&names]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        writeln!(f, "{}", self.title)?;
        for row in [&names].into_iter().chain(&self.rows) {
            for (column, cell) in row.iter().enumerate() {
                let width = width(column);
                match column {
                    0 => write!(f, "  {cell:<width$}")?,
                    _ => write!(f, "  {cell:>width$}")?,
                }
            }
            writeln!(f)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))
    }
}

/// The middle one of what `RUNS` runs took.
pub fn median(mut run: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..RUNS).map(|_| run()).collect();
    times.sort();
    times[times.len() / 2]
}

/// How long this thread is on a processor for something, so that whatever else runs on the machine does not count.
pub fn timed(work: impl FnOnce()) -> Duration {
    let start = on_processor();
    work();
    on_processor() - start
}

fn on_processor() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// Keeps all threads of a process, or this one, to one processor, where there is one of this number.
pub fn pin(process: Option<u32>, to: usize) -> Result<()> {
    let to = to % std::thread::available_parallelism()?.get().max(2);
    match process {
        None => {
            let mut set = CpuSet::new();
            set.set(to);
            sched_setaffinity(None, &set).context("keep to a processor")
        }
        // Threads that exist already, too.
        Some(pid) => {
            let words = ["-a", "-c", "-p", &to.to_string(), &pid.to_string()];
            bootd_tests::process::run("taskset", &words).map(drop)
        }
    }
}

/// The value below which this share of the times is; they are sorted.
pub fn share(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at).or(sorted.last()).copied().unwrap_or_default()
}

/// With a unit that fits.
pub fn shown(time: Duration) -> String {
    match time.as_nanos() {
        n @ ..10_000 => format!("{n} ns"),
        n @ ..10_000_000 => format!("{:.1} us", n as f64 / 1e3),
        n => format!("{:.1} ms", n as f64 / 1e6),
    }
}

const RUNS: usize = 11;
