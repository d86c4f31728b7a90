//! `instructions`: what the timelines of boots and their metrics cost: instructions that bootd executes a DHCP message and a request for a boot
//! script, with timelines and without (`boots.attempts = 0`), counted by callgrind.
//!
//! bootd runs under valgrind, answers real packets and requests, and its counters are set to zero before them and read behind them. What it does
//! meanwhile by itself, such as looking at files each second, is measured in an idle time and subtracted. The kernel's part is not counted.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bootd_tests::process::{Child, run as command};
use bootd_tests::wire::{Client, DISCOVER, DhcpSocket, REQUEST, message, xid};
use bootd_tests::{SERVER, server};

use super::appliance::Site;
use super::{Options, Table};

/// Measures, and gives the table.
pub fn run(options: &Options) -> Result<Table> {
    let nodes = if options.short { 50 } else { 400 };
    let mut table = Table::new(
        format!("instructions each, {nodes} nodes, without and with timelines of boots"),
        &["", "without", "with", "more", "with, but their own thread", "more"],
    );
    let site = Site::new(nodes)?;
    let client = Client::plug_into(&site.network)?;
    let socket = client.dhcp_socket()?;
    let without = measure(&site, &socket, nodes, 0)?;
    let with = measure(&site, &socket, nodes, 5)?;
    for (name, before, after) in [
        ("DHCP message of a known node", without.dhcp, with.dhcp),
        ("boot script, kept answer", without.script, with.script),
    ] {
        let more = |before: f64, after: f64| format!("{:+.1} %", (after / before - 1.0) * 100.0);
        let answering = after.all - after.boots;
        table.row([
            name.into(),
            format!("{:.0}", before.all),
            format!("{:.0}", after.all),
            more(before.all, after.all),
            format!("{answering:.0}"),
            more(before.all, answering),
        ]);
    }
    Ok(table)
}

/// Instructions a packet or request.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Of all threads.
    all: f64,
    /// Of the thread that keeps the timelines.
    boots: f64,
}

struct Costs {
    dhcp: Cost,
    script: Cost,
}

fn measure(site: &Site, socket: &DhcpSocket, nodes: u32, attempts: u32) -> Result<Costs> {
    let _ = fs::remove_dir_all(site.dir.join("state"));
    let config = format!("{}[boots]\nattempts = {attempts}\n", site.config());
    fs::write(site.dir.join("bootd.toml"), config)?;
    let bootd = start(site)?;
    let counters = Counters {
        pid: bootd.id(),
        dir: site.dir.clone(),
    };
    let url = format!("http://{SERVER}:8081/boot/v1/bootscript?mac=52:54:00:00:00:01");
    let wait = Instant::now();
    while command("wget", &["-q", "-O", "-", "-T", "20", "-t", "1", &url]).is_err() {
        ensure!(wait.elapsed() < START, "bootd does not answer under valgrind");
        std::thread::sleep(Duration::from_secs(1));
    }
    // Once, so that all that is made once is there.
    exchanges(socket, 1..=nodes.min(20))?;
    scripts(nodes)?;
    std::thread::sleep(SETTLE);

    let idle = counters.during(|| {
        std::thread::sleep(IDLE);
        Ok(())
    })?;
    let packets = counters.during(|| exchanges(socket, 1..=nodes))?;
    let requests = counters.during(|| scripts(nodes))?;
    let each = |counted: &Counted, count: u32| {
        let own = |all: f64, idle: f64, idle_s: f64| (all - idle * counted.seconds / idle_s) / f64::from(count);
        Cost {
            all: own(counted.all, idle.all, idle.seconds),
            boots: own(counted.boots, idle.boots, idle.seconds).max(0.0),
        }
    };
    Ok(Costs {
        dhcp: each(&packets, 4 * nodes),
        script: each(&requests, nodes),
    })
}

fn start(site: &Site) -> Result<Child> {
    let log = fs::File::create(site.dir.join("bootd.log"))?;
    let mut valgrind = Child::command("valgrind");
    valgrind
        .args(["--tool=callgrind", "--separate-threads=yes", "--quiet"])
        .arg(format!("--callgrind-out-file={}/count", site.dir.display()))
        .arg(server::binary()?)
        .args(["serve", "--config"])
        .arg(site.dir.join("bootd.toml"));
    let bootd = Child::spawn("valgrind", valgrind.stdout(Stdio::null()).stderr(log));
    bootd.context("install the Debian package valgrind")
}

/// The firmware's exchange and iPXE's of each of these nodes.
fn exchanges(socket: &DhcpSocket, nodes: impl Iterator<Item = u32>) -> Result<()> {
    for node in nodes {
        let [_, _, high, low] = node.to_be_bytes();
        let mac = [0x52, 0x54, 0, 0, high, low];
        for stage in [[].as_slice(), [77, 4, b'i', b'P', b'X', b'E'].as_slice()] {
            let xid = xid();
            socket.send(&message(DISCOVER, xid, mac, stage))?;
            let offer = socket.receive(xid, PATIENCE)?;
            let mut options = vec![50, 4];
            options.extend(offer.yiaddr.octets());
            options.extend_from_slice(stage);
            socket.send(&message(REQUEST, xid, mac, &options))?;
            socket.receive(xid, PATIENCE)?;
        }
    }
    Ok(())
}

/// The boot script of node 1, so many times over one connection.
fn scripts(count: u32) -> Result<()> {
    let mut stream = TcpStream::connect(SocketAddr::from((SERVER, 8081)))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut read = BufReader::new(stream.try_clone()?);
    for _ in 0..count {
        let path = "/boot/v1/bootscript?mac=52:54:00:00:00:01";
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {SERVER}:8081\r\nUser-Agent: iPXE/1.21.1\r\n\r\n"
        )?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            read.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        read.read_exact(&mut body)?;
        ensure!(length > 100, "a script of {length} bytes");
    }
    Ok(())
}

/// callgrind's counters of a process.
struct Counters {
    pid: u32,
    dir: PathBuf,
}

struct Counted {
    all: f64,
    boots: f64,
    seconds: f64,
}

impl Counters {
    fn during(&self, work: impl FnOnce() -> Result<()>) -> Result<Counted> {
        let pid = self.pid.to_string();
        command("callgrind_control", &["-z", &pid])?;
        let started = Instant::now();
        work()?;
        // The timelines are behind by a moment.
        std::thread::sleep(SETTLE);
        let seconds = started.elapsed().as_secs_f64();
        command("callgrind_control", &["-d", &pid])?;
        let mut counted = Counted {
            all: 0.0,
            boots: 0.0,
            seconds,
        };
        for (is_boots, total) in newest(&self.dir)? {
            counted.all += total;
            counted.boots += if is_boots { total } else { 0.0 };
        }
        Ok(counted)
    }
}

/// The totals of the last dump, and whether they are of the thread of timelines; its files are read once and removed.
fn newest(dir: &Path) -> Result<Vec<(bool, f64)>> {
    let mut totals = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with("count") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let total = text
            .lines()
            .find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<f64>().ok());
        totals.push((text.contains("boots::watch::Keeper"), total.unwrap_or_default()));
        fs::remove_file(&path)?;
    }
    ensure!(
        !totals.is_empty(),
        "callgrind has written nothing into {}",
        dir.display()
    );
    Ok(totals)
}

/// Valgrind is slow.
const START: Duration = Duration::from_secs(180);
const PATIENCE: Duration = Duration::from_secs(20);
const SETTLE: Duration = Duration::from_secs(3);
const IDLE: Duration = Duration::from_secs(10);
