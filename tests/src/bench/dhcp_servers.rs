//! The DHCP servers that are measured, each started with what it needs for the site, on `eth0`.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use bootd::net::{Incoming, Interface, UdpPort};
use bootd_tests::process::Child;
use bootd_tests::server;
use serde_json::{Value, json};

use super::site::{self, NODES, SERVER};
use super::{Options, pin};

/// A running server.
pub enum Server {
    /// A process.
    Process(Child),
    /// A thread of this one.
    Echo(#[expect(dead_code, reason = "it ends with the server")] Echo),
}

impl Server {
    /// Keeps it to a processor.
    pub fn pin(&self, to: usize) -> Result<()> {
        match self {
            Self::Process(child) => pin(Some(child.id()), to),
            // It did so itself.
            Self::Echo(_) => Ok(()),
        }
    }

    /// An error if it ended.
    pub fn must_run(&mut self) -> Result<()> {
        match self {
            Self::Process(child) => child.must_run(),
            Self::Echo(_) => Ok(()),
        }
    }
}

/// Sends back what comes, with the calls that bootd uses: what the kernel and a cable allow.
pub struct Echo {
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// On a processor.
    pub fn start(on: usize) -> Result<Self> {
        let port = UdpPort::open(&Interface::find("eth0")?, 67)?;
        let ending = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ending);
        let thread = std::thread::spawn(move || {
            let mut incoming = Incoming::default();
            if pin(None, on).is_err() {
                return;
            }
            while !told.load(Ordering::Relaxed) && port.receive(&mut incoming).is_ok() {
                let packets = incoming.packets().enumerate();
                port.send(
                    packets.map(|(number, (packet, peer))| (number, packet, peer)),
                    |_, _| {},
                );
            }
        });
        Ok(Self {
            ending,
            thread: Some(thread),
        })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// bootd with all nodes in a file of its plugin smd; `more` is appended to its configuration.
pub fn bootd(folder: &Path, options: &Options, more: &str) -> Result<Child> {
    write_nodes(folder, "compute")?;
    let mut plugins = format!(
        "{more}[[plugin]]\nname = \"smd\"\nconfig.nodes = \"{}/nodes.yaml\"\n",
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
    bootd_with(folder, &site::config_text(folder, &plugins))
}

/// Writes the nodes for bootd, in this group.
pub fn write_nodes(folder: &Path, group: &str) -> Result<()> {
    let mut nodes = String::from("nodes:\n");
    for n in 0..NODES {
        nodes.push_str(&format!(
            "- name: compute{n}\n  nid: {}\n  xname: {}\n  group: {group}\n  interfaces:\n  - mac_addr: {}\n    ip_addrs:\n    - name: \
             management\n      ip_addr: {}\n",
            n + 1,
            site::xname(n),
            site::mac_text(n),
            site::ip(n)
        ));
    }
    // Never half of it is read.
    fs::write(folder.join("nodes.new"), nodes)?;
    Ok(fs::rename(folder.join("nodes.new"), folder.join("nodes.yaml"))?)
}

/// bootd with this configuration.
pub fn bootd_with(folder: &Path, config: &str) -> Result<Child> {
    let file = folder.join("bootd.toml");
    fs::write(&file, config)?;
    let mut command = Child::command(server::binary()?);
    command.args(["serve", "--config"]).arg(file);
    spawn("bootd", command, folder)
}

/// bootd with a pool and nothing else: no node, no plugin.
pub fn bootd_pool(folder: &Path) -> Result<Child> {
    let cidr = "cidr = \"10.1.0.0/16\"\n";
    let pool = format!("{cidr}pool = {{ first = \"{FIRST}\", last = \"{LAST}\", lease_time = \"1h\" }}\n");
    bootd_with(folder, &site::config_text(folder, "").replace(cidr, &pool))
}

/// Whether Kea writes leases to its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persist {
    /// It does.
    Yes,
    /// It forgets them.
    No,
}

/// How many threads Kea has for packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The one that receives.
    One,
    /// As many as there are processors.
    Many,
}

/// Kea with a memfile.
pub fn kea(folder: &Path, subnet: Value, persist: Persist, threads: Threads) -> Result<Child> {
    let config = json!({"Dhcp4": {
        "interfaces-config": {"interfaces": ["eth0"], "dhcp-socket-type": "udp"},
        "lease-database": {"type": "memfile", "persist": persist == Persist::Yes, "name": folder.join("leases.csv")},
        "valid-lifetime": 3600,
        "multi-threading": {"enable-multi-threading": threads == Threads::Many},
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
pub fn reservations() -> Value {
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
pub fn pool() -> Value {
    let mut subnet = subnet();
    subnet["pools"] = json!([{"pool": format!("{FIRST} - {LAST}")}]);
    subnet["reservations-global"] = false.into();
    subnet["reservations-in-subnet"] = false.into();
    subnet
}

fn subnet() -> Value {
    json!({"id": 1, "subnet": "10.1.0.0/16", "option-data": [
        {"name": "routers", "data": SERVER}, {"name": "domain-name-servers", "data": SERVER}]})
}

/// dnsmasq with a pool; it writes its leases to a file.
pub fn dnsmasq(folder: &Path) -> Result<Child> {
    let mut command = Child::command(DNSMASQ);
    command
        .args(["--port=0", "--interface=eth0", "--bind-interfaces"])
        .args([
            "--conf-file=/dev/null",
            "--dhcp-authoritative",
            "--quiet-dhcp",
            "--no-ping",
        ])
        .args(["--dhcp-lease-max=60000", "--no-daemon", "--log-facility=-"])
        .arg(format!("--dhcp-leasefile={}", folder.join("leases").display()))
        .arg(format!("--dhcp-range={FIRST},{LAST},255.255.0.0,1h"));
    spawn("dnsmasq", command, folder)
}

fn spawn(name: &str, mut command: Command, folder: &Path) -> Result<Child> {
    let log = File::create(folder.join("log"))?;
    command.stdout(log.try_clone()?).stderr(log);
    Child::spawn(name, &mut command)
}

/// How long a server may take to begin.
pub const START: Duration = Duration::from_secs(60);
/// The pool.
pub const FIRST: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 1, 1, 0);
/// Its last address.
pub const LAST: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 1, 200, 255);
/// Where Debian has them; an ordinary user's path lacks that folder.
const KEA: &str = "/usr/sbin/kea-dhcp4";
const DNSMASQ: &str = "/usr/sbin/dnsmasq";
