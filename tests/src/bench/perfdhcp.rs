//! Whole 4-way exchanges through a relay's address, by Kea's own load generator: bootd against ten thousand known nodes, beside Kea with a
//! memfile in the same run, once with ten thousand host reservations, once with nothing but a pool.
//!
//! For each server the rate is looked for up to which it loses nothing, and the latency is taken there and at a rate that all of them have.
//! Server and generator share the processors and a veth pair in a network namespace; both servers log and keep leases as they do by default.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use bootd_tests::network::ip;
use bootd_tests::process::{Child, run as run_command};
use bootd_tests::{eventually, server, tail};
use serde_json::{Value, json};

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
    let wire = Wire::up()?;
    for (name, start) in SERVERS {
        let folder = wire.folder.join(name.replace(' ', "-"));
        fs::create_dir_all(&folder)?;
        let mut server = start(&folder, options)?;
        let measured = wire.measure(&mut server);
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
    ("bootd", start_bootd),
    ("Kea, reservations", |folder, _| start_kea(folder, reservations())),
    ("Kea, pool", |folder, _| start_kea(folder, pool())),
];

/// Two ends of a cable: the server's here, the relay's in a namespace of its own.
struct Wire {
    folder: PathBuf,
    relay: Child,
}

impl Wire {
    fn up() -> Result<Self> {
        let mut command = Child::command("unshare");
        command.args(["-n", "--", "sleep", "infinity"]);
        let relay = Child::spawn("the relay's namespace", &mut command)?;
        let folder = std::env::temp_dir().join(format!("bootd-perfdhcp-{}", std::process::id()));
        let wire = Self { folder, relay };
        let pid = wire.relay.id();
        let ours = fs::read_link("/proc/self/ns/net").context("own namespace")?;
        eventually(Duration::from_secs(5), "the relay's namespace is there", || {
            fs::read_link(format!("/proc/{pid}/ns/net"))
                .ok()
                .filter(|theirs| *theirs != ours)
        })?;
        ip("link set lo up")?;
        ip(&format!("link add eth0 type veth peer name relay0 netns {pid}"))?;
        ip(&format!("addr add {SERVER}/16 dev eth0"))?;
        ip("link set eth0 up")?;
        wire.at_relay(&["ip", "link", "set", "lo", "up"])?;
        wire.at_relay(&["ip", "addr", "add", &format!("{RELAY}/16"), "dev", "relay0"])?;
        wire.at_relay(&["ip", "link", "set", "relay0", "up"])?;
        Ok(wire)
    }

    fn at_relay(&self, words: &[&str]) -> Result<String> {
        let pid = self.relay.id().to_string();
        let mut args = vec!["-t", &pid, "-n", "--"];
        args.extend(words);
        run_command("nsenter", &args)
    }

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
        let pid = self.relay.id().to_string();
        let output = Command::new("nsenter")
            .args(["-t", &pid, "-n", "--", PERFDHCP, "-4", "-l", &RELAY.to_string()])
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

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
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

fn start_bootd(folder: &Path, options: &Options) -> Result<Child> {
    let mut nodes = String::from("nodes:\n");
    for n in 0..NODES {
        nodes.push_str(&format!(
            "- name: compute{n}\n  nid: {}\n  xname: {}\n  group: compute\n  interfaces:\n  - mac_addr: {}\n    ip_addrs:\n    - name: \
             management\n      ip_addr: {}\n",
            n + 1,
            site::xname(n),
            site::mac_text(n),
            site::ip(n)
        ));
    }
    fs::write(folder.join("nodes.yaml"), nodes)?;
    let mut plugins = format!(
        "[[plugin]]\nname = \"smd\"\nconfig.nodes = \"{}/nodes.yaml\"\n",
        folder.display()
    );
    for file in &options.with_so {
        let file = fs::canonicalize(file).with_context(|| file.display().to_string())?;
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let name = stem
            .trim_start_matches("lib")
            .trim_start_matches("bootd_")
            .replace('_', "-");
        plugins.push_str(&format!(
            "[[plugin]]\nname = \"{name}\"\nfile = \"{}\"\n",
            file.display()
        ));
    }
    let config = folder.join("bootd.toml");
    fs::write(&config, site::config_text(folder, &plugins))?;
    let mut command = Child::command(server::binary()?);
    command.args(["serve", "--config"]).arg(config);
    spawn("bootd", command, folder)
}

fn start_kea(folder: &Path, subnet: Value) -> Result<Child> {
    let config = json!({"Dhcp4": {
        "interfaces-config": {"interfaces": ["eth0"], "dhcp-socket-type": "udp"},
        "lease-database": {"type": "memfile", "persist": true, "name": folder.join("leases.csv")},
        "valid-lifetime": 3600,
        "host-reservation-identifiers": ["hw-address"],
        "subnet4": [subnet],
        "loggers": [{"name": "kea-dhcp4", "severity": "WARN", "output_options": [{"output": "stdout"}]}],
    }});
    let file = folder.join("kea.json");
    fs::write(&file, config.to_string())?;
    let mut command = Child::command(KEA);
    command
        .arg("-c")
        .arg(file)
        .env("KEA_PIDFILE_DIR", folder)
        .env("KEA_LOCKFILE_DIR", "none")
        // What older versions wait for before they bind their sockets.
        .env("KEA_DHCP_DATA_DIR", folder);
    spawn("kea-dhcp4", command, folder)
}

/// Every client has its reservation, none of them in a pool: what Kea looks for first, and all that it must look for.
fn reservations() -> Value {
    let all: Vec<Value> = (0..NODES)
        .map(|n| json!({"hw-address": site::mac_text(n), "ip-address": site::ip(n)}))
        .collect();
    let mut subnet = subnet();
    subnet["reservations"] = all.into();
    subnet["reservations-in-subnet"] = true.into();
    subnet["reservations-out-of-pool"] = true.into();
    subnet
}

/// Nothing is reserved, and there are more addresses than clients.
fn pool() -> Value {
    let mut subnet = subnet();
    subnet["pools"] = json!([{"pool": "10.1.1.0 - 10.1.200.255"}]);
    subnet["reservations-global"] = false.into();
    subnet["reservations-in-subnet"] = false.into();
    subnet
}

fn subnet() -> Value {
    json!({"id": 1, "subnet": "10.1.0.0/16", "option-data": [
        {"name": "routers", "data": SERVER}, {"name": "domain-name-servers", "data": SERVER}]})
}

fn spawn(name: &str, mut command: Command, folder: &Path) -> Result<Child> {
    let log = File::create(folder.join("log"))?;
    command.stdout(log.try_clone()?).stderr(log);
    Child::spawn(name, &mut command)
}

/// The rate at which all servers are idle most of the time.
const EASY: u32 = 500;
const SECONDS: u32 = 4;
/// Where Debian has them; an ordinary user's path lacks that folder.
const PERFDHCP: &str = "/usr/sbin/perfdhcp";
const KEA: &str = "/usr/sbin/kea-dhcp4";
