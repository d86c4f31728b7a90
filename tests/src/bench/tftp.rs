//! `tftp`: a loader of 1 MB for 32 clients at once, by one generator for all: bootd, with a port a transfer and with one for all, dnsmasq, and
//! atftpd, in lock-step and with windows of 16 blocks.
//!
//! Over a cable to a namespace of its own. The generator has one processor to itself and each server another one, alike; the servers take
//! turns, and medians of the rounds are shown. Each block that comes is compared with the file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use bootd_tests::process::Child;
use bootd_tests::readers::{Load, Outcome};
use bootd_tests::{eventually, prepare, server, tail};

use super::appliance::{median, processor_time};
use super::relay::Wire;
use super::site::{RELAY, SERVER};
use super::{Options, Table, pin};

/// Measures, and gives the table.
pub fn run(options: &Options) -> Result<String> {
    let wire = Wire::up()?;
    fs::set_permissions(&wire.folder, fs::Permissions::from_mode(0o755))?;
    let content: Vec<u8> = (0..LOADER).map(|n| (n * 7 % 251) as u8).collect();
    let mut table = Table::new(
        format!(
            "tftp: a loader of {} MB, {CLIENTS} clients, blksize {BLKSIZE}",
            LOADER >> 20
        ),
        &[
            "server",
            "window",
            "MB/s",
            "of the peer",
            "us of a processor a MB",
            "said again",
        ],
    );
    for (window, peer, contenders) in CONTESTS {
        let mut all: BTreeMap<&str, Vec<(f64, f64, u64)>> = BTreeMap::new();
        for _ in 0..rounds(options) {
            for name in contenders {
                let measured = measure(&wire, options, name, window, &content)
                    .with_context(|| format!("{name}\n{}", tail(&wire.folder.join("log"), 10)))?;
                eprintln!("{name}, window {window}: {:.0} MB/s", measured.0);
                all.entry(name).or_default().push(measured);
            }
        }
        let of = |name: &str, what: fn(&(f64, f64, u64)) -> f64| {
            let rounds = all.get(name).map(Vec::as_slice).unwrap_or_default();
            median(rounds.iter().map(what).collect())
        };
        for name in contenders {
            table.row([
                (*name).into(),
                window.to_string(),
                format!("{:.0}", of(name, |round| round.0)),
                format!("{:.2}", of(name, |round| round.0) / of(peer, |round| round.0)),
                format!("{:.0}", of(name, |round| round.1)),
                all.get(name)
                    .map_or(0, |rounds| rounds.iter().map(|round| round.2).sum())
                    .to_string(),
            ]);
        }
    }
    table.notes.push(format!(
        "Medians of {} rounds of {} s. The peer is dnsmasq in lock-step, which Debian's has alone, and atftpd with windows.",
        rounds(options),
        time(options).as_secs_f64()
    ));
    Ok(table.to_string())
}

/// Megabytes a second, microseconds of a processor for one, and how often clients had to say something again.
fn measure(wire: &Wire, options: &Options, name: &str, window: u64, content: &[u8]) -> Result<(f64, f64, u64)> {
    let folder = &wire.folder;
    let root = folder.join("root");
    fs::create_dir_all(&root)?;
    fs::write(root.join("loader"), content)?;
    let mut child = start(name, folder, &root)?;
    let load = Load {
        server: (SERVER, 69).into(),
        from: RELAY.into(),
        name: "loader".into(),
        content: content.to_vec(),
        clients: 1,
        blksize: BLKSIZE,
        window,
    };
    eventually(START, "the server answers", || {
        let once = wire.at_relay(|| load.once(Duration::from_secs(2)));
        child.must_run().ok()?;
        once.ok()
    })?;
    pin(Some(child.id()), 0)?;
    let before = processor_time(child.id())?;
    let all = Load {
        clients: CLIENTS,
        ..load
    };
    let outcome: Outcome = wire.at_relay(|| {
        pin(None, 1)?;
        all.for_a_while(time(options))
    })?;
    let used = processor_time(child.id())?.saturating_sub(before);
    child.must_run()?;
    let megabytes = outcome.bytes as f64 / 1e6;
    // The time before it counts is half as long, and uses as much.
    let used = used.as_secs_f64() * 1e6 / 1.5;
    Ok((megabytes / outcome.time.as_secs_f64(), used / megabytes, outcome.again))
}

fn start(name: &str, folder: &Path, root: &Path) -> Result<Child> {
    let log = File::create(folder.join("log"))?;
    let mut command = match name {
        DNSMASQ => {
            let mut command = Child::command("/usr/sbin/dnsmasq");
            command
                .args([
                    "--port=0",
                    "--interface=eth0",
                    "--bind-interfaces",
                    "--conf-file=/dev/null",
                    "--no-daemon",
                ])
                .args([
                    "--enable-tftp",
                    "--tftp-max=1000",
                    "--user=root",
                    "--log-facility=/dev/null",
                ])
                .arg(format!("--tftp-root={}", root.display()));
            command
        }
        ATFTPD => {
            let mut command = Child::command(prepare::atftpd()?);
            command
                .args([
                    "--daemon",
                    "--no-fork",
                    "--user",
                    "root",
                    "--group",
                    "root",
                    "--maxthread",
                    "1000",
                ])
                .args(["--port", "69", "--verbose=1", "--logfile", "/dev/null"])
                .args(["--bind-address", &SERVER.to_string()])
                .arg(root);
            command
        }
        _ => {
            let (folder, root) = (folder.display(), root.display());
            let config = folder_config(&folder.to_string(), &root.to_string(), name == SINGLE_PORT);
            let file = format!("{folder}/bootd.toml");
            fs::write(&file, config)?;
            let mut command = Child::command(server::binary()?);
            command.args(["serve", "--config"]).arg(file);
            command
        }
    };
    command.stdout(log.try_clone()?).stderr(log);
    Child::spawn(name, &mut command)
}

fn folder_config(folder: &str, root: &str, single_port: bool) -> String {
    format!(
        "[server]\naddress = \"{SERVER}\"\nstate_dir = \"{folder}/state\"\ncache_dir = \"{folder}/cache\"\n\
         [tftp]\nroot = \"{root}\"\nsingle_port = {single_port}\n[admin]\nsocket = \"{folder}/admin.sock\"\n\
         [[http.listener]]\naddress = \"127.0.0.1:8081\"\nserve = [\"boot\"]\nauth = \"none\"\n"
    )
}

fn rounds(options: &Options) -> usize {
    if options.short { 1 } else { 7 }
}

fn time(options: &Options) -> Duration {
    Duration::from_millis(if options.short { 300 } else { 2000 })
}

/// A window, the peer, and who takes part.
type Contest = (u64, &'static str, &'static [&'static str]);

const CONTESTS: [Contest; 2] = [
    (1, DNSMASQ, &[BOOTD, SINGLE_PORT, DNSMASQ, ATFTPD]),
    (16, ATFTPD, &[BOOTD, SINGLE_PORT, ATFTPD]),
];
const BOOTD: &str = "bootd";
const SINGLE_PORT: &str = "bootd, single_port";
const DNSMASQ: &str = "dnsmasq";
const ATFTPD: &str = "atftpd";
const LOADER: usize = 1 << 20;
const CLIENTS: usize = 32;
const BLKSIZE: usize = 1468;
const START: Duration = Duration::from_secs(20);
