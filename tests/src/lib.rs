//! The virtual rack: nodes in QEMU that boot real UEFI firmware through bootd, in a network namespace of their own.
//!
//! A [`Rack`] owns a bridge, a folder for its files, the boot images, a server (bootd, or dnsmasq and nginx as its
//! peer) and a [`Journal`] in which everything that servers and consoles say is written down with its time. It must be
//! made inside the namespace ([`namespace::enter`], [`namespace::in_rack`]); it never touches the host's network, and
//! all its processes end with it. Waiting is polling with a bound, [`eventually`], and never a fixed sleep.

pub mod browser;
pub mod capture;
pub mod journal;
pub mod machine;
pub mod namespace;
pub mod network;
pub mod node;
pub mod ochami;
pub mod peer;
pub mod plugin;
pub mod prepare;
pub mod process;
pub mod readers;
pub mod root;
pub mod s3cmd;
pub mod scripted;
pub mod server;
pub mod signer;
pub mod site;
pub mod timeline;
pub mod wire;
pub mod wire6;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub use browser::Browser;
pub use capture::Capture;
pub use journal::{Event, Journal, Stage};
pub use machine::Machine;
pub use network::Network;
pub use node::{Firmware, Node};
pub use prepare::Images;
pub use root::Root;
pub use server::Bootd;
pub use site::{SITE, Site};
pub use timeline::{Step, Timeline};

/// The address of the server on the bridge.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 254);

/// How long a node may take from power-on to its login prompt.
pub const BOOT_LIMIT: Duration = Duration::from_secs(300);

/// The stages of a boot as bootd's timelines have them, in their order.
pub const BOOT_STAGES: [&str; 11] = [
    "firmware-dhcp",
    "loader",
    "ipxe-dhcp",
    "script",
    "kernel",
    "initramfs",
    "os-dhcp",
    "root",
    "meta-data",
    "cloud-config",
    "phone-home",
];

/// The seed's data files, verbatim.
pub mod data {
    /// Five nodes: `52:54:00:be:ef:01` to `05`, `172.16.0.1` to `.5`.
    pub const NODES: &str = include_str!("../data/nodes.yaml");
    /// The boot parameters of these five.
    pub const BOOT: &str = include_str!("../data/boot-compute.yaml");
    /// cloud-init's cluster defaults.
    pub const DEFAULTS: &str = include_str!("../data/ci-defaults.yaml");
    /// cloud-init's data of the group `compute`.
    pub const GROUP: &str = include_str!("../data/ci-group-compute.yaml");
}

/// A rack: its network, its files, and what happens in it. Its folder goes with it, unless `BOOTD_RACK_KEEP` is set.
pub struct Rack {
    /// Its folder: configuration, data files, state, logs.
    pub dir: PathBuf,
    /// The boot images.
    pub images: Images,
    /// The bridge and the node's ports.
    pub network: Network,
    /// All that was said.
    pub journal: Journal,
    keep: bool,
}

impl Rack {
    /// A rack with its network up, its images built, the seed's data files and a `bootd.toml` in its folder; nothing runs yet.
    pub fn new() -> Result<Self> {
        Self::on("br0")
    }

    /// The same, its bridge under another name; its `bootd.toml` does not know it.
    pub fn on(bridge: &str) -> Result<Self> {
        namespace::require_inside()?;
        let images = Images::prepare()?;
        let dir = run_dir()?;
        let rack = Self {
            network: Network::up_as(bridge)?,
            journal: Journal::new(),
            images,
            dir,
            keep: false,
        };
        rack.write("nodes.yaml", data::NODES)?;
        rack.write("boot-compute.yaml", data::BOOT)?;
        rack.write("ci-defaults.yaml", data::DEFAULTS)?;
        rack.write("ci-group-compute.yaml", data::GROUP)?;
        rack.write("bootd.toml", &rack.config())?;
        Ok(rack)
    }

    /// The text of a complete `bootd.toml` for this rack.
    pub fn config(&self) -> String {
        let dir = self.dir.display();
        let boot_images = self.images.bucket().display().to_string();
        format!(
            r#"[server]
interfaces = ["br0"]
address = "172.16.0.254"
state_dir = "{dir}/state"
cache_dir = "{dir}/cache"

[dhcp]
lease_time = "1h"
[[dhcp.subnet]]
cidr = "172.16.0.0/24"
routers = ["172.16.0.254"]
pool = {{ first = "172.16.0.200", last = "172.16.0.250", lease_time = "5m" }}

[[http.listener]]
address = "0.0.0.0:8081"
serve = ["boot", "loaders"]
auth = "none"
[[http.listener]]
address = "0.0.0.0:9000"
serve = ["artifacts"]

[admin]
socket = "{dir}/admin.sock"

[[origin]]
bucket = "boot-images"
dir = "{boot_images}"
from = ["http://172.16.0.254:9000/", "s3://"]

[[plugin]]
name = "smd"
config.nodes = "{dir}/nodes.yaml"

[[plugin]]
name = "bss"
config.boot = ["{dir}/boot-compute.yaml"]

[[plugin]]
name = "cloud-init"
config.defaults = "{dir}/ci-defaults.yaml"
config.groups = ["{dir}/ci-group-compute.yaml"]
"#
        )
    }

    /// A complete `bootd.toml` for a rack whose data all comes through the API, with tokens.
    pub fn bare_config(&self) -> String {
        let config = self.config().replace("auth = \"none\"\n", "");
        let bare = config.lines().filter(|line| !line.starts_with("config."));
        bare.flat_map(|line| [line, "\n"]).collect()
    }

    /// A file in the rack's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file into the rack's folder, whole or not at all, as an editor does.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        let aside = self.path(&format!(".{name}.new"));
        fs::write(&aside, text).with_context(|| format!("write {}", aside.display()))?;
        fs::rename(&aside, &path).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Starts bootd with the rack's `bootd.toml` and waits until it is ready.
    pub fn start_bootd(&self) -> Result<Bootd> {
        Bootd::start(&server::binary()?, &self.path("bootd.toml"), &self.dir, &self.journal)
    }

    /// Switches node number `number` on: MAC `52:54:00:be:ef:<number>`, one of the seed's for 1 to 5.
    pub fn power_on(&self, number: u8) -> Result<Node> {
        let tap = self.network.port(number)?;
        Node::power_on(number, &tap, &self.dir, &self.journal)
    }

    /// [`Rack::power_on`] with another firmware.
    pub fn power_on_with(&self, firmware: Firmware, number: u8) -> Result<Node> {
        let tap = self.network.port(number)?;
        Node::power_on_with(firmware, number, &tap, &self.dir, &self.journal)
    }

    /// Leaves the folder in place when the rack ends.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Rack {
    fn drop(&mut self) {
        if !self.keep && std::env::var_os("BOOTD_RACK_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Polls until `probe` gives something, for at most `within`; `what` is what the error says did not happen.
pub fn eventually<T>(within: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        if start.elapsed() > within {
            bail!("not within {} s: {what}", within.as_secs_f32());
        }
        std::thread::sleep(POLL);
    }
}

/// [`eventually`] for a condition.
pub fn eventually_true(within: Duration, what: &str, mut probe: impl FnMut() -> bool) -> Result<()> {
    eventually(within, what, || probe().then_some(()))
}

/// Terminal control sequences, which firmware and shells mix with their text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Escapes {
    /// In text.
    #[default]
    Text,
    /// After the escape character.
    Escape,
    /// In a sequence that began with `ESC [`.
    Sequence,
}

impl Escapes {
    /// Whether the next byte is text and no part of a sequence.
    pub fn is_text(&mut self, byte: u8) -> bool {
        let (next, text) = match (*self, byte) {
            (_, 0x1b) => (Self::Escape, false),
            (Self::Text, _) => (Self::Text, true),
            (Self::Escape, b'[') => (Self::Sequence, false),
            (Self::Sequence, b' '..=b'?') => (Self::Sequence, false),
            _ => (Self::Text, false),
        };
        *self = next;
        text
    }
}

/// The last lines of a text file, without control sequences, for reports of failures.
pub fn tail(path: &Path, lines: usize) -> String {
    let mut bytes = fs::read(path).unwrap_or_default();
    let mut escapes = Escapes::default();
    bytes.retain(|byte| escapes.is_text(*byte) && *byte != b'\r');
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A new folder in the temporary folder, where paths are short enough for Unix sockets. Those of ended processes go.
pub fn run_dir() -> Result<PathBuf> {
    const PREFIX: &str = "bootd-rack-";
    let base = std::env::temp_dir();
    for entry in fs::read_dir(&base)
        .with_context(|| format!("read {}", base.display()))?
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    for n in 0.. {
        let dir = base.join(format!("{PREFIX}{}-{n}", std::process::id()));
        match fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("make {}", dir.display())),
        }
    }
    bail!("no folder left in {}", base.display())
}

const POLL: Duration = Duration::from_millis(20);

/// A node for `nodes.yaml` that is not there at the start of a rack: a machine with this hardware address is unknown until it is added.
pub const NODE_9: &str = "\
- name: compute9
  nid: 9
  xname: x1000c0s0b8n0
  bmc_mac: de:ca:fc:0f:fe:e9
  bmc_ip: 172.16.0.109
  group: compute
  interfaces:
  - mac_addr: 52:54:00:be:ef:09
    ip_addrs:
    - name: management
      ip_addr: 172.16.0.9
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_are_not_text() {
        let mut escapes = Escapes::default();
        let text: Vec<u8> = b"\x1b[2J\x1b[01;01H~ $ \x1b[6n"
            .iter()
            .copied()
            .filter(|b| escapes.is_text(*b))
            .collect();
        assert_eq!(text, b"~ $ ");
    }

    #[test]
    fn waiting_ends_with_what_did_not_happen() {
        let error = eventually_true(Duration::from_millis(30), "pigs fly", || false).unwrap_err();
        assert!(error.to_string().ends_with("pigs fly"));
    }
}
