//! bootd as a process, on a network of its own, with an inventory of some size: for measurements of the whole appliance. All of it is in a folder
//! that goes with it.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use bootd_tests::network::{Network, ip};
use bootd_tests::process::Child;
use bootd_tests::{SERVER, eventually, namespace, run_dir, server, tail};

/// A network and a folder with bootd's configuration, for an inventory of some size.
pub struct Site {
    pub dir: PathBuf,
    pub network: Network,
}

impl Site {
    /// With so many nodes, each with a BMC: `52:54:00:…` and `172.16.x.y`, numbered from 1. bootd does not run yet.
    pub fn new(nodes: u32) -> Result<Self> {
        let site = Self::empty()?;
        fs::write(site.dir.join("nodes.yaml"), nodes_yaml(nodes, 0)?)?;
        fs::write(site.dir.join("boot.yaml"), BOOT)?;
        fs::write(site.dir.join("bootd.toml"), site.config())?;
        Ok(site)
    }

    /// With so many nodes, each in four of so many groups, which all have data for cloud-init.
    pub fn with_groups(nodes: u32, groups: u32) -> Result<Self> {
        let site = Self::empty()?;
        fs::write(site.dir.join("nodes.yaml"), nodes_yaml(nodes, groups)?)?;
        fs::write(site.dir.join("boot.yaml"), BOOT)?;
        fs::write(site.dir.join("defaults.yaml"), DEFAULTS)?;
        let mut config = site.config();
        config.push_str("[[plugin]]\nname = \"cloud-init\"\nconfig.defaults = \"defaults.yaml\"\nconfig.groups = [");
        for group in 0..groups {
            let file = format!("group{group}.yaml");
            fs::write(site.dir.join(&file), group_yaml(group))?;
            write!(config, "\"{file}\", ")?;
        }
        config.push_str("]\n");
        fs::write(site.dir.join("bootd.toml"), config)?;
        Ok(site)
    }

    /// Without a node: all three plugins keep their own data, which are none yet.
    pub fn empty() -> Result<Self> {
        namespace::require_inside()?;
        let site = Self {
            dir: run_dir()?,
            network: Network::up()?,
        };
        ip(&format!("addr add {SERVER}/16 brd + dev br0"))?;
        site.configure(&site.dir.join("state"))?;
        Ok(site)
    }

    /// All three plugins keep their own data, in this folder.
    pub fn configure(&self, state: &Path) -> Result<()> {
        let own = format!("\"{}/state\"", self.dir.display());
        let config = self
            .without_plugins()
            .replace(&own, &format!("\"{}\"", state.display()));
        let plugins = ["smd", "bss", "cloud-init"].map(|name| format!("[[plugin]]\nname = \"{name}\"\n"));
        Ok(fs::write(self.dir.join("bootd.toml"), config + &plugins.concat())?)
    }

    /// The configuration of [`Site::new`].
    pub fn config(&self) -> String {
        self.without_plugins() + PLUGINS_WITH_FILES
    }

    fn without_plugins(&self) -> String {
        let dir = self.dir.display();
        format!(
            r#"[server]
interfaces = ["br0"]
address = "{SERVER}"
state_dir = "{dir}/state"
cache_dir = "{dir}/cache"
[[dhcp.subnet]]
cidr = "172.16.0.0/16"
[[http.listener]]
address = "0.0.0.0:8081"
serve = ["boot", "loaders"]
auth = "none"
trusted_proxies = ["{SERVER}"]
[[http.listener]]
address = "0.0.0.0:9000"
serve = ["artifacts"]
[admin]
socket = "{dir}/admin.sock"
[[origin]]
bucket = "boot-images"
dir = "{dir}"
from = ["http://{SERVER}:9000/", "s3://"]
"#
        )
    }

    pub fn start_bootd(&self) -> Result<Child> {
        let log = fs::File::create(self.dir.join("bootd.log"))?;
        let mut command = Child::command(server::binary()?);
        command.args(["serve", "--config"]).arg(self.dir.join("bootd.toml"));
        Child::spawn("bootd", command.stdout(Stdio::null()).stderr(log))
    }

    /// Waits until a URL is answered with 200 and gives the body.
    pub fn answered(&self, url: &str) -> Result<Vec<u8>> {
        let get = || bootd_tests::process::run("wget", &["-q", "-O", "-", "-T", "5", "-t", "1", url]).ok();
        let body = eventually(Duration::from_secs(20), url, get);
        Ok(body
            .with_context(|| tail(&self.dir.join("bootd.log"), 10))?
            .into_bytes())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The boot parameters of node 1, as long as those of a real site.
const BOOT: &str = "kernel: 'http://172.16.0.254:9000/boot-images/efi-images/compute/base/vmlinuz-5.14.0-570.21.1.el9_6.x86_64'
initrd: 'http://172.16.0.254:9000/boot-images/efi-images/compute/base/initramfs-5.14.0-570.21.1.el9_6.x86_64.img'
params: 'nomodeset ro root=live:http://172.16.0.254:9000/boot-images/compute/base/rocky9.6-compute-base-rocky9 ip=dhcp overlayroot=tmpfs overlayroot_cfgdisk=disabled apparmor=0 selinux=0 console=ttyS0,115200 ip6=off cloud-init=enabled ds=nocloud-net;s=http://172.16.0.254:8081/cloud-init'
macs:
  - 52:54:00:00:00:01
";

/// The plugins of a site with files, relative to its folder.
const PLUGINS_WITH_FILES: &str = r#"[[plugin]]
name = "smd"
config.nodes = "nodes.yaml"
[[plugin]]
name = "bss"
config.boot = ["boot.yaml"]
"#;

const DEFAULTS: &str = "base-url: http://172.16.0.254:8081/cloud-init
cluster-name: demo
nid-length: 5
short-name: nid
public-keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJvb3RkIGJlbmNoIGtleSwgbm90IGEgc2VjcmV0 operator@site]
";

/// What cloud-init gives the nodes of a group.
fn group_yaml(group: u32) -> String {
    format!(
        "name: g{group}
description: Group number {group}
meta-data: {{ rack: r{group}, purpose: bench }}
file:
  encoding: plain
  content: |
    ## template: jinja
    #cloud-config
    disable_root: false
"
    )
}

/// A discovery file as `ochami discover static` reads it.
fn nodes_yaml(nodes: u32, groups: u32) -> Result<String> {
    ensure!(nodes < 30_000, "the subnet has no room for so many");
    let mut text = String::from("nodes:\n");
    for n in 1..=nodes {
        let place = n - 1;
        let [_, _, high, low] = n.to_be_bytes();
        writeln!(
            text,
            "- name: compute{n}
  nid: {n}
  xname: x{}c{}s{}b{}n0
  bmc_mac: de:ca:fc:00:{high:02x}:{low:02x}
  bmc_ip: 172.16.{}.{low}
  group: compute
  interfaces:
  - mac_addr: 52:54:00:00:{high:02x}:{low:02x}
    ip_addrs:
    - name: management
      ip_addr: 172.16.{}.{low}",
            1000 + place / 512,
            place / 64 % 8,
            place / 4 % 16,
            place % 4,
            129 + u32::from(high),
            1 + u32::from(high),
        )?;
        if groups > 0 {
            let of = [1, 7, 31, 101].map(|step| format!("g{}", n * step % groups));
            writeln!(text, "  groups: [{}]", of.join(", "))?;
        }
    }
    Ok(text)
}

/// Processor time that a process and its children have used.
pub fn processor_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may contain anything.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut all = Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second());
    for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        all += processor_time(child)?;
    }
    Ok(all)
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}
