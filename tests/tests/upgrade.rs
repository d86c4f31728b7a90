//! Another bootd takes the place of the running one under load: nobody's packet is lost and no transfer breaks off; and when the other one does not
//! serve, the running one does as before.
#![allow(clippy::print_stdout, reason = "the figures are looked at, with --nocapture")]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::wire::{ACK, Client, DISCOVER, OFFER, REQUEST, message, xid};
use bootd_tests::{Bootd, Rack, SERVER, data, eventually_true, server, tail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

#[test]
fn a_binary_takes_over_again_and_again_under_load_and_nobody_notices() {
    in_rack(|| {
        under_load(&Rates {
            upgrades: 5,
            known: 300,
            pool: 20,
            scripts: 40,
        })
    });
}

/// `cargo test --release -p bootd-tests --test upgrade -- --ignored --nocapture`
#[test]
#[ignore = "takes two minutes and both processors"]
fn twenty_upgrades_during_two_thousand_requests_a_second() {
    in_rack(|| {
        under_load(&Rates {
            upgrades: 20,
            known: 1500,
            pool: 100,
            scripts: 300,
        })
    });
}

#[test]
fn what_does_not_serve_takes_nothing_over() {
    in_rack(|| {
        let rack = Rack::new()?;
        let bootd = rack.start_bootd()?;
        let mut ends = Ends::default();
        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        let first = socket.lease(stranger(1), PATIENCE)?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        let serves = |number: u32| -> Result<()> {
            ensure!(
                socket.discover(node(1), ONCE)?.yiaddr == Ipv4Addr::new(172, 16, 0, 1),
                "the node's own address"
            );
            ensure!(
                socket.lease(stranger(1), ONCE)?.yiaddr == first.yiaddr,
                "the lease of before"
            );
            socket.lease(stranger(number), PATIENCE)?;
            ensure!(client.get(SCRIPT)?.0 == 200, "the script");
            ensure!(!client.tftp("config.ipxe")?.is_empty(), "TFTP");
            ensure!(bootd.ask(&["status"])?.status.code() != Some(1), "status");
            Ok(())
        };
        let refused = |args: &[&str], says: &str| -> Result<()> {
            let output = bootd.ask(&[&["upgrade"], args].concat())?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(!output.status.success() && said.contains(says), "{args:?}: {said}");
            Ok(())
        };

        refused(&["--binary", "/nowhere/bootd"], "cannot be started")?;
        refused(&["--binary", "/bin/false"], "refuses the configuration")?;
        refused(
            &["--binary", "/bin/false", "--unchecked"],
            "ended (exit status: 1) before it was ready",
        )?;
        serves(2)?;
        let text = rack.write("text", "no program")?;
        fs::set_permissions(&text, fs::Permissions::from_mode(0o755))?;
        refused(&["--binary", text.to_str().context("a path")?], "cannot be started")?;

        let config = rack.config();
        rack.write(
            "bootd.toml",
            &config.replace("lease_time = \"1h\"", "lease_time = \"soon\""),
        )?;
        refused(&[], "lease_time")?;
        refused(&["--unchecked"], "ended (exit status: 64) before it was ready")?;
        serves(3)?;

        // Found out when it has store, leases and packets already.
        let taken = TcpListener::bind("0.0.0.0:8099")?;
        let more = "[[http.listener]]\naddress = \"0.0.0.0:8099\"\nserve = [\"boot\"]\nauth = \"none\"\n[admin]";
        rack.write("bootd.toml", &config.replace("[admin]", more))?;
        refused(&["--unchecked"], "before it served")?;
        serves(4)?;
        drop(taken);

        let upgraded = upgrade(&bootd, &mut ends, &[])?;
        ensure!(upgraded["was"] == bootd.id(), "{upgraded}");
        serves(5)?;
        ensure!(
            ask("172.16.0.254:8099")?.starts_with("HTTP/1.0 200"),
            "the listener that came with it"
        );
        gone(&[bootd.id()], Duration::from_secs(40), &bootd)?;
        serves(6)
    });
}

/// A line for `status` that a signal upgrades, too.
#[test]
fn a_signal_upgrades_to_the_binary_that_is_in_the_place_of_the_old_one() {
    in_rack(|| {
        let rack = Rack::new()?;
        let binary = rack.path("bootd");
        fs::copy(server::binary()?, &binary)?;
        // Plugins are found beside it.
        let plugins = server::binary()?.parent().context("a folder")?.display().to_string();
        let config = rack.config().replacen(
            "[[plugin]]",
            &format!("[plugins]\ndirs = [\"{plugins}\"]\n\n[[plugin]]"),
            1,
        );
        rack.write("bootd.toml", &config)?;
        let bootd = Bootd::start(&binary, &rack.path("bootd.toml"), &rack.dir, &rack.journal)?;
        let mut ends = Ends::default();
        let aside = rack.path("bootd.new");
        fs::copy(&binary, &aside)?;
        fs::rename(&aside, &binary)?;
        let pid = Pid::from_raw(bootd.id().try_into()?).context("a process")?;
        kill_process(pid, Signal::USR2)?;
        let said = |line: &str| tail(&bootd.log(), 200).lines().any(|said| said.contains(line));
        eventually_true(PATIENCE * 3, "the log says that it was upgraded", || {
            said("upgraded: another process serves")
        })?;
        for line in tail(&bootd.log(), 200).lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            if let Some(pid) = line["fields"]["pid"].as_u64() {
                ends.0.push(pid.try_into()?);
            }
        }
        let now = *ends.0.first().context("the new process is named")?;
        ensure!(
            fs::read_link(format!("/proc/{now}/exe"))? == binary,
            "it is of the new file"
        );
        gone(&[bootd.id()], Duration::from_secs(40), &bootd)?;
        ensure!(bootd.ask(&["status"])?.status.code() != Some(1), "status");
        Ok(())
    });
}

/// Requests a second, but for upgrades.
struct Rates {
    upgrades: usize,
    /// DISCOVERs of nodes.
    known: u32,
    /// Whole exchanges of strangers.
    pool: u32,
    /// Boot scripts, each over a connection of its own.
    scripts: u32,
}

fn under_load(rates: &Rates) -> Result<()> {
    let rack = Rack::new()?;
    rack.write("nodes.yaml", &nodes())?;
    let config = rack.config().replace("172.16.0.0/24", "172.16.0.0/16");
    let pool = "first = \"172.16.128.0\", last = \"172.16.255.250\", lease_time = \"1h\"";
    let before = "first = \"172.16.0.200\", last = \"172.16.0.250\", lease_time = \"5m\"";
    ensure!(config.contains(before), "the pool of the rack");
    rack.write("bootd.toml", &config.replace(before, pool))?;
    let bootd = rack.start_bootd()?;
    let client = Client::plug(&rack)?;
    client.ip("addr add 172.16.0.1/24 dev cable0")?;
    let mut ends = Ends::default();
    let (over, leases) = (AtomicBool::new(false), Mutex::new(HashMap::new()));
    let loader = fs::read("/usr/lib/ipxe/ipxe-x86_64.efi").or_else(|_| client.tftp("ipxe-x86_64.efi"))?;
    let image = largest(rack.images.bucket())?;

    let (pids, said) = std::thread::scope(|scope| -> Result<_> {
        let loads = [
            scope.spawn(|| client.at(|| dhcp(rates, &over, &leases)).context("DHCP")),
            scope.spawn(|| client.at(|| scripts(rates.scripts, &over)).context("scripts")),
            scope.spawn(|| {
                client
                    .at(|| kept_connection(&over))
                    .context("a connection that is kept")
            }),
            scope.spawn(|| loaders(&client, &loader, &over).context("TFTP")),
            scope.spawn(|| loaders(&client, &loader, &over).context("TFTP")),
            scope.spawn(|| client.at(|| slow_images(&image, &over)).context("an image")),
        ];
        let done = (|| -> Result<Vec<u32>> {
            let mut pids = vec![bootd.id()];
            for number in 0..rates.upgrades {
                if loads.iter().any(|load| load.is_finished()) {
                    break;
                }
                // Each upgrade falls among requests.
                sleep(BETWEEN);
                let upgraded = upgrade(&bootd, &mut ends, &[]).with_context(|| format!("upgrade {number}"))?;
                ensure!(
                    upgraded["was"].as_u64() == pids.last().copied().map(u64::from),
                    "{upgraded} after {pids:?}"
                );
                let status = bootd.ask(&["status"])?;
                ensure!(status.status.code() != Some(1), "{status:?}");
                println!("upgrade {number}: {upgraded}");
                pids.push(u32::try_from(upgraded["pid"].as_u64().context("pid")?)?);
            }
            sleep(BETWEEN);
            Ok(pids)
        })();
        over.store(true, Ordering::Relaxed);
        let mut said = Vec::new();
        for load in loads {
            match load.join() {
                Ok(result) => said.push(result.with_context(|| told(&bootd))?),
                Err(_) => bail!("a load panicked"),
            }
        }
        Ok((done?, said))
    })?;
    said.iter().for_each(|said| println!("{said}"));
    ensure!(
        pids.len() == rates.upgrades + 1,
        "{} of {} upgrades",
        pids.len() - 1,
        rates.upgrades
    );
    ensure!(
        pids.iter().collect::<HashSet<_>>().len() == pids.len(),
        "the same process twice: {pids:?}"
    );

    let given = leases.into_inner().unwrap_or_default();
    ensure!(!given.is_empty(), "no lease was given");
    let shown = bootd.ask_json(&["leases"])?;
    let shown: HashMap<String, String> = shown["leases"]
        .as_array()
        .or(shown.as_array())
        .into_iter()
        .flatten()
        .filter(|lease| lease["state"] == "leased")
        .filter_map(|lease| Some((lease["mac"].as_str()?.into(), lease["ip"].as_str()?.into())))
        .collect();
    for (mac, ip) in &given {
        let has = shown.get(&mac_text(*mac));
        ensure!(
            has == Some(&ip.to_string()),
            "{} has {ip}, bootd says {has:?}",
            mac_text(*mac)
        );
    }
    let ips: HashSet<&Ipv4Addr> = given.values().collect();
    ensure!(ips.len() == given.len(), "an address was given twice");
    gone(&pids[..pids.len() - 1], Duration::from_secs(60), &bootd)
}

/// Each packet is sent once and must be answered in time.
fn dhcp(rates: &Rates, over: &AtomicBool, leases: &Mutex<HashMap<[u8; 6], Ipv4Addr>>) -> Result<String> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_broadcast(true)?;
    socket.bind_device(Some(b"cable0"))?;
    socket.set_recv_buffer_size(4 << 20)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68).into())?;
    let socket = UdpSocket::from(socket);
    socket.set_nonblocking(true)?;
    let begun = Instant::now();
    let (mut known, mut pool, mut answered, mut exchanged) = (0_u32, 0_u32, 0_u64, 0_u64);
    let mut waiting: HashMap<u32, (Instant, [u8; 6], Option<Ipv4Addr>, u8)> = HashMap::new();
    let (mut longest_known, mut longest_pool) = (Duration::ZERO, Duration::ZERO);
    let mut buffer = [0; 2048];
    let send = |kind, mac, options: &[u8]| -> Result<u32> {
        let xid = xid();
        socket.send_to(&message(kind, xid, mac, options), (Ipv4Addr::BROADCAST, 67))?;
        Ok(xid)
    };
    while !over.load(Ordering::Relaxed) || !waiting.is_empty() {
        if !over.load(Ordering::Relaxed) {
            let due = |rate: u32| (begun.elapsed().as_secs_f64() * f64::from(rate)) as u32;
            while known < due(rates.known) {
                let number = known as usize % NODES;
                let xid = send(DISCOVER, numbered(number), &[])?;
                waiting.insert(xid, (Instant::now(), numbered(number), Some(ip_of(number)), OFFER));
                known += 1;
            }
            while pool < due(rates.pool) {
                let mac = stranger(pool + 1);
                let xid = send(DISCOVER, mac, &[])?;
                waiting.insert(xid, (Instant::now(), mac, None, OFFER));
                pool += 1;
            }
        }
        while let Ok((n, _)) = socket.recv_from(&mut buffer) {
            if n < 240 || buffer[0] != 2 {
                continue;
            }
            let word = |at: usize| [buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]];
            let Some((at, mac, ip, kind)) = waiting.remove(&u32::from_be_bytes(word(4))) else {
                continue;
            };
            let yours = Ipv4Addr::from(word(16));
            let took = at.elapsed();
            let is = buffer[240..n]
                .windows(3)
                .find(|option| option[..2] == [53, 1])
                .map(|option| option[2]);
            ensure!(is == Some(kind), "{mac:x?} was answered with {is:?}, not {kind}");
            ensure!(
                ip.is_none_or(|ip| ip == yours),
                "{mac:x?} was given {yours}, not {ip:?}"
            );
            match (kind, ip) {
                (OFFER, Some(_)) => {
                    answered += 1;
                    longest_known = longest_known.max(took);
                }
                (OFFER, None) => {
                    longest_pool = longest_pool.max(took);
                    let mut options = vec![50, 4];
                    options.extend(yours.octets());
                    options.extend([54, 4]);
                    options.extend(SERVER.octets());
                    let xid = send(REQUEST, mac, &options)?;
                    waiting.insert(xid, (Instant::now(), mac, Some(yours), ACK));
                }
                _ => {
                    longest_pool = longest_pool.max(took);
                    exchanged += 1;
                    leases
                        .lock()
                        .map_err(|_| anyhow::anyhow!("poisoned"))?
                        .insert(mac, yours);
                }
            }
        }
        if let Some((_, (at, mac, ip, kind))) = waiting.iter().find(|(_, (at, ..))| at.elapsed() > LONGEST) {
            bail!(
                "{mac:x?} ({ip:?}) was not answered with {kind} in {LONGEST:?}, {:.1} s after the begin; {} wait",
                at.duration_since(begun).as_secs_f64(),
                waiting.len()
            );
        }
        sleep(Duration::from_micros(300));
    }
    Ok(format!(
        "{answered} DISCOVERs of nodes, the longest {longest_known:?}; {exchanged} exchanges of strangers, the longest answer {longest_pool:?}; none lost"
    ))
}

/// Boot scripts, each over a connection of its own.
fn scripts(rate: u32, over: &AtomicBool) -> Result<String> {
    let (begun, mut count, mut longest) = (Instant::now(), 0_u32, Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        if count >= (begun.elapsed().as_secs_f64() * f64::from(rate)) as u32 {
            sleep(Duration::from_millis(1));
            continue;
        }
        let asked = Instant::now();
        let answer = ask("172.16.0.254:8081").with_context(|| format!("script {count}"))?;
        ensure!(
            answer.starts_with("HTTP/1.0 200") && answer.contains("#!ipxe"),
            "{answer}"
        );
        longest = longest.max(asked.elapsed());
        count += 1;
    }
    Ok(format!("{count} boot scripts, the longest {longest:?}"))
}

fn ask(to: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&to.parse::<SocketAddr>()?, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {SCRIPT} HTTP/1.0\r\nhost: b\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// One connection for many requests, as long as the server keeps it.
fn kept_connection(over: &AtomicBool) -> Result<String> {
    let (mut count, mut connections) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        connections += 1;
        let mut stream = BufReader::new(TcpStream::connect("172.16.0.254:8081")?);
        stream.get_ref().set_read_timeout(Some(PATIENCE))?;
        let mut is_last = false;
        while !is_last && !over.load(Ordering::Relaxed) {
            let request = format!("GET {SCRIPT}&n={count} HTTP/1.1\r\nhost: b\r\n\r\n");
            stream.get_mut().write_all(request.as_bytes())?;
            let (mut length, mut first) = (0, String::new());
            stream.read_line(&mut first)?;
            ensure!(first.starts_with("HTTP/1.1 200"), "request {count}: {first:?}");
            loop {
                let mut line = String::new();
                stream.read_line(&mut line)?;
                let line = line.trim().to_lowercase();
                if line.is_empty() {
                    break;
                }
                is_last |= line == "connection: close";
                if let Some(number) = line.strip_prefix("content-length: ") {
                    length = number.parse()?;
                }
            }
            stream.read_exact(&mut vec![0; length])?;
            count += 1;
            sleep(Duration::from_millis(20));
        }
    }
    Ok(format!(
        "{count} requests over {connections} connections that were kept"
    ))
}

/// The same loader again and again, in blocks of 512 bytes, without asking for anything twice.
fn loaders(client: &Client, loader: &[u8], over: &AtomicBool) -> Result<String> {
    let (mut count, mut longest) = (0, Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        ensure!(client.tftp("ipxe-x86_64.efi")? == loader, "other bytes");
        longest = longest.max(asked.elapsed());
        count += 1;
    }
    Ok(format!("{count} loaders by TFTP, the longest {longest:?}"))
}

/// Images that take some seconds each, so that upgrades fall into them.
fn slow_images((path, content): &(String, Vec<u8>), over: &AtomicBool) -> Result<String> {
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_recv_buffer_size(64 << 10)?;
        socket.connect(&SocketAddrV4::new(SERVER, 9000).into())?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: b\r\n\r\n").as_bytes())?;
        let begun = Instant::now();
        let (mut came, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let n = stream
                .read(&mut chunk)
                .with_context(|| format!("after {} bytes", came.len()))?;
            came.extend_from_slice(&chunk[..n]);
            if n == 0 {
                break;
            }
            let share = came.len() as f64 / content.len() as f64;
            sleep(IMAGE.mul_f64(share.min(1.0)).saturating_sub(begun.elapsed()));
        }
        let head = came.windows(4).position(|end| end == b"\r\n\r\n").context("a head")? + 4;
        ensure!(
            came.starts_with(b"HTTP/1.0 200") && came[head..] == content[..],
            "image {count}: {} bytes",
            came.len()
        );
        count += 1;
    }
    Ok(format!("{count} images of {} bytes in {IMAGE:?} each", content.len()))
}

/// The largest file of the bucket, with its path at the listener.
fn largest(bucket: PathBuf) -> Result<(String, Vec<u8>)> {
    fn all(folder: &Path, found: &mut Vec<(u64, PathBuf)>) -> Result<()> {
        for entry in fs::read_dir(folder)?.flatten() {
            let metadata = fs::metadata(entry.path())?;
            match metadata.is_dir() {
                true => all(&entry.path(), found)?,
                false => found.push((metadata.len(), entry.path())),
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    all(&bucket, &mut found)?;
    let (_, file) = found.into_iter().max().context("a file in the bucket")?;
    let key = file.strip_prefix(&bucket)?.display().to_string();
    Ok((format!("/boot-images/{key}"), fs::read(&file)?))
}

fn upgrade(bootd: &Bootd, ends: &mut Ends, args: &[&str]) -> Result<Value> {
    let upgraded = bootd.ask_json(&[&["upgrade"], args].concat());
    let upgraded = upgraded.with_context(|| told(bootd))?;
    ends.0.push(u32::try_from(upgraded["pid"].as_u64().context("pid")?)?);
    Ok(upgraded)
}

fn gone(pids: &[u32], within: Duration, bootd: &Bootd) -> Result<()> {
    let lives = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        !status.is_empty() && !status.contains("State:\tZ")
    };
    eventually_true(within, "processes end with their transfers", || !pids.iter().any(lives))
        .with_context(|| format!("{pids:?}\n{}", told(bootd)))
}

/// What is in the log beside the requests.
fn told(bootd: &Bootd) -> String {
    let log = tail(&bootd.log(), 100_000);
    let lines = log
        .lines()
        .filter(|line| !REQUESTS.iter().any(|request| line.contains(request)));
    let mut last: Vec<&str> = lines.collect();
    last.drain(..last.len().saturating_sub(60));
    last.join("\n")
}

/// Processes that this one did not start, and that end with it.
#[derive(Default)]
struct Ends(Vec<u32>);

impl Drop for Ends {
    fn drop(&mut self) {
        for pid in &self.0 {
            if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn node(number: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 0xbe, 0xef, number]
}

fn stranger(number: u32) -> [u8; 6] {
    let [_, a, b, c] = number.to_be_bytes();
    [2, 0, 9, a, b, c]
}

fn numbered(number: usize) -> [u8; 6] {
    let [a, b] = (number as u16).to_be_bytes();
    [2, 0, 1, 0, a, b]
}

fn ip_of(number: usize) -> Ipv4Addr {
    let [a, b] = (number as u16 + 256).to_be_bytes();
    Ipv4Addr::new(172, 16, a, b)
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The seed's, and many more.
fn nodes() -> String {
    let mut nodes = format!("{}\n", data::NODES.trim_end());
    for number in 0..NODES {
        nodes.push_str(&format!(
            "- name: more{number}\n  nid: {}\n  xname: x2000c0s{}b{}n0\n  group: compute\n  interfaces:\n  - mac_addr: {}\n    ip_addrs:\n    - \
             name: management\n      ip_addr: {}\n",
            1000 + number,
            number / 8,
            number % 8,
            mac_text(numbered(number)),
            ip_of(number)
        ));
    }
    nodes
}

const REQUESTS: [&str; 4] = [
    "\"http request\"",
    "\"tftp read\"",
    "\"dhcp reply\"",
    "\"artifact read\"",
];
const SCRIPT: &str = "/boot/v1/bootscript?mac=52:54:00:be:ef:01";
const NODES: usize = 400;
/// How long a single packet may wait for its answer.
const LONGEST: Duration = Duration::from_secs(2);
const ONCE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN: Duration = Duration::from_secs(1);
const IMAGE: Duration = Duration::from_secs(7);
