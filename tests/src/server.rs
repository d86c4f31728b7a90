//! bootd as a process: started, waited for, killed, started again; its log is read live into the journal.
//!
//! The log is asked for as JSON; each line also goes to `bootd.log`, as it came.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::journal::{Event, How, Journal, Stage};
use crate::machine::{self, Machine};
use crate::process::Child;
use crate::root::Root;
use crate::{eventually, tail};

/// How long bootd may take until it is ready.
pub const READY_LIMIT: Duration = Duration::from_secs(20);

/// A running bootd.
pub struct Bootd {
    place: Place,
    child: Child,
}

/// What is needed to start one, and to start it again.
struct Place {
    binary: PathBuf,
    config: PathBuf,
    dir: PathBuf,
    journal: Journal,
    /// Where it runs.
    on: On,
}

/// Where a bootd runs.
enum On {
    /// On the rack's own machine.
    Rack,
    /// On the machine with this id.
    Machine(u32),
    /// On the rack's own machine, as `bootd coredhcp`, with files of its own.
    Root(Root),
}

impl Bootd {
    /// Starts it and waits for its ready line.
    pub fn start(binary: &Path, config: &Path, dir: &Path, journal: &Journal) -> Result<Self> {
        Self::at(Place {
            binary: binary.to_owned(),
            config: config.to_owned(),
            dir: dir.to_owned(),
            journal: journal.clone(),
            on: On::Rack,
        })
    }

    /// [`Bootd::start`] of the release build, on a machine of its own, with the `bootd.toml` of this folder.
    pub fn start_on(machine: &Machine, dir: &Path, journal: &Journal) -> Result<Self> {
        Self::at(Place {
            binary: binary()?,
            config: dir.join("bootd.toml"),
            dir: dir.to_owned(),
            journal: journal.clone(),
            on: On::Machine(machine.id()),
        })
    }

    /// Starts `bootd coredhcp` with this file, where it finds these files besides the machine's.
    pub fn start_coredhcp(root: Root, config: &Path, dir: &Path, journal: &Journal) -> Result<Self> {
        Self::at(Place {
            binary: binary()?,
            config: config.to_owned(),
            dir: dir.to_owned(),
            journal: journal.clone(),
            on: On::Root(root),
        })
    }

    fn at(place: Place) -> Result<Self> {
        let child = place.launch()?;
        Ok(Self { place, child })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error if it ended, with the end of its log.
    pub fn must_run(&mut self) -> Result<()> {
        let log = log_path(&self.place.dir);
        self.child.must_run().with_context(|| tail(&log, 20))
    }

    /// Kills it at once, as a power cut would.
    pub fn kill_minus_nine(&mut self) {
        self.child.kill();
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn stop(&mut self, within: Duration) -> Result<()> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("process id")?;
        kill_process(pid, Signal::TERM).context("signal bootd")?;
        let status = eventually(within, "bootd ends", || self.child.ended())?;
        ensure!(status.success(), "bootd ended with {status}\n{}", tail(&self.log(), 20));
        Ok(())
    }

    /// Starts it again after [`Bootd::kill_minus_nine`], and waits until it is ready.
    pub fn start_again(&mut self) -> Result<()> {
        self.child = self.place.launch()?;
        Ok(())
    }

    /// Runs a verb of bootd that asks this one, with these arguments, and gives what it said.
    pub fn ask(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.place.binary);
        command.args(args).arg("--config").arg(&self.place.config);
        let output = command.stdin(Stdio::null()).output();
        output.with_context(|| format!("start bootd {}", args.join(" ")))
    }

    /// [`Bootd::ask`] for JSON, where the verb must succeed.
    pub fn ask_json(&self, args: &[&str]) -> Result<Value> {
        let output = self.ask(&[args, &["--json"]].concat())?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "bootd {}: {} {said}",
            args.join(" "),
            output.status
        );
        serde_json::from_slice(&output.stdout).with_context(|| format!("bootd {} says no JSON", args.join(" ")))
    }

    /// How a plugin is, as `bootd plugins --json` tells.
    pub fn plugin(&self, name: &str) -> Result<Value> {
        let plugins = self.ask_json(&["plugins"])?;
        let found = plugins
            .as_array()
            .into_iter()
            .flatten()
            .find(|plugin| plugin["name"] == name);
        found.cloned().with_context(|| format!("bootd plugins names no {name}"))
    }

    /// Starts new instances of these plugins, with `bootd reload`.
    pub fn reload(&self, plugins: &[&str]) -> Result<Output> {
        self.ask(&[&["reload"], plugins].concat())
    }

    /// A number of `/proc/<pid>/status` in KiB: `VmRSS` is what it has in memory, `VmHWM` the most that it ever had.
    pub fn memory_kib(&self, name: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("no {name} in the status of bootd"))
    }

    /// What it counts, as its admin socket tells.
    pub fn metrics(&self) -> Result<String> {
        metrics(&self.place.dir.join("admin.sock"))
    }

    /// Its log file.
    pub fn log(&self) -> PathBuf {
        log_path(&self.place.dir)
    }
}

/// Runs a verb of bootd to its end, with these arguments, and gives what it said.
pub fn command(args: &[&str]) -> Result<Output> {
    Command::new(binary()?)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .context("start bootd")
}

/// What the bootd behind this admin socket counts.
pub fn metrics(socket: &Path) -> Result<String> {
    let mut socket = UnixStream::connect(socket).context("the admin socket")?;
    socket.write_all(b"GET /metrics HTTP/1.0\r\nHost: bootd\r\n\r\n")?;
    let mut text = String::new();
    socket.read_to_string(&mut text)?;
    Ok(text)
}

/// The release build of bootd: `$BOOTD_BIN`, or `release/bootd` in the target folder that holds this program.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("BOOTD_BIN").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let me = std::env::current_exe().context("path of this program")?;
    for folder in me.ancestors().skip(1) {
        let candidate = folder.join("release/bootd");
        if candidate.exists() {
            return Ok(candidate);
        }
        let beside = folder.join("bootd");
        if folder.ends_with("release") && beside.exists() {
            return Ok(beside);
        }
    }
    bail!("no release build of bootd; run: cargo build --release --workspace (tests/run does)")
}

fn log_path(dir: &Path) -> PathBuf {
    dir.join("bootd.log")
}

impl Place {
    fn launch(&self) -> Result<Child> {
        let path = log_path(&self.dir);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        let (mut command, verb) = match &self.on {
            On::Rack => (Child::command(&self.binary), ["serve", "--config"]),
            On::Machine(machine) => (machine::command(*machine, &self.binary), ["serve", "--config"]),
            On::Root(root) => (root.command(&self.binary)?, ["coredhcp", "--conf"]),
        };
        command
            .args(verb)
            .arg(&self.config)
            .env("BOOTD_LOG", "info")
            .env("BOOTD_LOG_FORMAT", "json")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = Child::spawn("bootd", &mut command)?;
        let ready = Arc::new(AtomicBool::new(false));
        if let Some(stdout) = child.streams().stdout.take() {
            let ready = Arc::clone(&ready);
            let (journal, log) = (self.journal.clone(), log.try_clone()?);
            thread::spawn(move || {
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                // Its log comes here, too, when it stands in for CoreDHCP.
                follow(
                    lines.inspect(|line| {
                        if line.starts_with("bootd ") && line.contains(" ready: ") {
                            ready.store(true, Ordering::Release);
                        }
                    }),
                    log,
                    &journal,
                );
            });
        }
        if let Some(stderr) = child.streams().stderr.take() {
            let journal = self.journal.clone();
            thread::spawn(move || follow(BufReader::new(stderr).lines().map_while(Result::ok), log, &journal));
        }
        let waited = eventually(READY_LIMIT, "bootd is ready", || match child.ended() {
            Some(status) => Some(Err(anyhow::anyhow!("bootd ended: {status}"))),
            None => ready.load(Ordering::Acquire).then_some(Ok(())),
        });
        waited
            .and_then(|inner| inner)
            .with_context(|| format!("--- end of bootd's log ---\n{}", tail(&path, 40)))?;
        Ok(child)
    }
}

fn follow(lines: impl Iterator<Item = String>, mut log: File, journal: &Journal) {
    for line in lines {
        let _ = writeln!(log, "{line}");
        let Ok(mut value) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        unfold(&mut value["fields"]);
        if let Some(event) = event(&value["fields"]) {
            journal.write(event);
        }
        journal.write(Event::Log(value));
    }
}

/// What a plugin says comes with its fields as JSON in one field; here they stand with the others.
fn unfold(fields: &mut Value) {
    let inner = fields["fields"]
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok());
    if let (Some(Value::Object(inner)), Some(outer)) = (inner, fields.as_object_mut()) {
        for (key, value) in inner {
            outer.entry(key).or_insert(value);
        }
    }
}

/// What a line of the log means for the rack.
fn event(fields: &Value) -> Option<Event> {
    let text = |key: &str| fields[key].as_str().map(str::to_owned);
    let number = |key: &str| fields[key].as_u64().or_else(|| fields[key].as_str()?.parse().ok());
    match fields["message"].as_str()? {
        "dhcp reply" if fields["kind"] == "ack" => Some(Event::Address {
            mac: text("mac")?.to_lowercase(),
            ip: text("ip")?.parse().ok()?,
            stage: match fields["stage"].as_str()? {
                "firmware" => Stage::Firmware,
                "ipxe" => Stage::Ipxe,
                _ => Stage::Os,
            },
        }),
        "tftp read" => Some(Event::Served {
            peer: peer(&text("peer")?)?,
            path: text("file")?,
            how: How::Tftp,
            bytes: number("bytes").unwrap_or(0),
        }),
        "http request" | "artifact read" if number("status").is_none_or(|status| (200..300).contains(&status)) => {
            Some(Event::Served {
                peer: peer(&text("peer")?)?,
                path: text("path")?,
                how: match fields["method"].as_str() {
                    None | Some("GET" | "HEAD") => How::Http,
                    Some(_) => How::HttpWrite,
                },
                bytes: number("bytes").unwrap_or(0),
            })
        }
        _ => None,
    }
}

/// The address in `172.16.0.1`, `172.16.0.1:4242` or an IPv6 form of these.
fn peer(text: &str) -> Option<Ipv4Addr> {
    let ip = match text.parse::<SocketAddr>() {
        Ok(socket) => socket.ip(),
        Err(_) => text.parse::<IpAddr>().ok()?,
    };
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(ip) => ip.to_ipv4_mapped(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_read_with_and_without_its_port() {
        let ip = Some(Ipv4Addr::new(172, 16, 0, 1));
        assert_eq!(peer("172.16.0.1"), ip);
        assert_eq!(peer("172.16.0.1:4242"), ip);
        assert_eq!(peer("[::ffff:172.16.0.1]:4242"), ip);
        assert_eq!(peer("somewhere"), None);
    }

    #[test]
    fn fields_of_a_plugin_stand_with_the_others() {
        let mut fields = serde_json::json!({"message": "node phoned home", "plugin": "cloud-init",
            "fields": "{\"node\":\"x1000c0s0b0n0\",\"hostname\":\"nid001\"}"});
        unfold(&mut fields);
        assert_eq!(fields["hostname"], "nid001");
        assert_eq!(fields["message"], "node phoned home");
    }

    #[test]
    fn an_ack_in_the_log_is_an_address_in_the_journal() {
        let fields = serde_json::json!({"message": "dhcp reply", "kind": "ack", "mac": "52:54:00:BE:EF:01",
            "ip": "172.16.0.1", "stage": "ipxe", "file": "http://172.16.0.254:8081/"});
        assert!(matches!(
            event(&fields),
            Some(Event::Address { stage: Stage::Ipxe, .. })
        ));
        let offer = serde_json::json!({"message": "dhcp reply", "kind": "offer", "mac": "52:54:00:be:ef:01",
            "ip": "172.16.0.1", "stage": "ipxe"});
        assert!(event(&offer).is_none());
    }
}
