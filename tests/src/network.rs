//! The rack's network: the bridge `br0` with the server's address, a tap for each node, a cable for clients without QEMU.
//!
//! Everything is made inside the current network namespace and goes with it; nothing here is called outside one.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::SERVER;
use crate::process::run;

/// The bridge.
pub struct Network {
    bridge: String,
}

impl Network {
    /// The bridge `br0` with the server's address, up, and the loopback interface.
    pub fn up() -> Result<Self> {
        Self::up_as("br0")
    }

    /// The same under another name.
    pub fn up_as(bridge: &str) -> Result<Self> {
        if !Path::new("/dev/net/tun").exists() {
            bail!("/dev/net/tun is missing: load the module (modprobe tun), or give the container that device");
        }
        ip("link set lo up")?;
        ip(&format!("link add {bridge} type bridge"))
            .context("no bridge can be made; is the module there? (modprobe bridge)")?;
        // No listening and learning phase: a node's first DISCOVER must get through.
        ip(&format!("link set {bridge} type bridge stp_state 0 forward_delay 0"))?;
        ip(&format!("addr add {SERVER}/24 brd + dev {bridge}"))?;
        ip(&format!("link set {bridge} up"))?;
        let bridge = bridge.to_owned();
        Ok(Self { bridge })
    }

    /// The tap of a node, made when it is not there yet.
    pub fn port(&self, number: u8) -> Result<String> {
        let tap = format!("tap{number}");
        if !Path::new("/sys/class/net").join(&tap).exists() && ip(&format!("link show {tap}")).is_err() {
            ip(&format!("tuntap add dev {tap} mode tap"))
                .context("no tap can be made; is /dev/net/tun writable (mode 0666)?")?;
            ip(&format!("link set {tap} master {}", self.bridge))?;
            ip(&format!("link set {tap} up"))?;
        }
        Ok(tap)
    }

    /// A cable: one end, `<name>-br`, in the bridge, the other one, `<name>0`, moved to the namespace of the process `pid`.
    pub fn cable(&self, name: &str, pid: u32) -> Result<()> {
        ip(&format!("link add {name}-br type veth peer name {name}0"))?;
        ip(&format!("link set {name}-br master {}", self.bridge))?;
        ip(&format!("link set {name}-br up"))?;
        ip(&format!("link set {name}0 netns {pid}"))
    }

    /// An IPv6 prefix on the bridge, for servers that announce one.
    pub fn announce_ready(&self) -> Result<()> {
        ip(&format!("addr add fd00:b007::254/64 dev {} nodad", self.bridge))
    }
}

/// `ip` with these words.
pub fn ip(words: &str) -> Result<()> {
    run("ip", &words.split_whitespace().collect::<Vec<_>>()).map(|_| ())
}
