//! The two ends of a cable: the server's here, the relay's in a namespace of its own.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bootd_tests::network::ip;
use bootd_tests::process::{Child, run};
use bootd_tests::{eventually, namespace};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::site::{RELAY, SERVER};

/// The cable, and a folder for the files of servers, which goes with it.
pub struct Wire {
    /// The folder.
    pub folder: PathBuf,
    relay: Child,
}

impl Wire {
    /// Plugs it in: `eth0` here, `relay0` there.
    pub fn up() -> Result<Self> {
        namespace::require_inside()?;
        let mut command = Child::command("unshare");
        command.args(["-n", "--", "sleep", "infinity"]);
        let relay = Child::spawn("the relay's namespace", &mut command)?;
        let folder = std::env::temp_dir().join(format!("bootd-wire-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let wire = Self { folder, relay };
        let pid = wire.relay.id();
        let ours = fs::read_link("/proc/self/ns/net").context("own namespace")?;
        eventually(Duration::from_secs(5), "the relay's namespace is there", || {
            fs::read_link(wire.namespace()).ok().filter(|theirs| *theirs != ours)
        })?;
        ip("link set lo up")?;
        ip(&format!("link add eth0 type veth peer name relay0 netns {pid}"))?;
        ip(&format!("addr add {SERVER}/16 dev eth0"))?;
        ip("link set eth0 up")?;
        wire.run_at_relay(&["ip", "link", "set", "lo", "up"])?;
        wire.run_at_relay(&["ip", "addr", "add", &format!("{RELAY}/16"), "dev", "relay0"])?;
        wire.run_at_relay(&["ip", "link", "set", "relay0", "up"])?;
        Ok(wire)
    }

    /// A command that runs there.
    pub fn command_at_relay(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.relay.id().to_string(), "-n", "--"])
            .args(words);
        command
    }

    /// Runs something in a thread there.
    pub fn at_relay<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let namespace = File::open(self.namespace()).context("the relay's namespace")?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .context("enter the relay's namespace")?;
                work()
            });
            match thread.join() {
                Ok(result) => result,
                Err(_) => bail!("the relay panicked"),
            }
        })
    }

    fn run_at_relay(&self, words: &[&str]) -> Result<String> {
        let pid = self.relay.id().to_string();
        let mut args = vec!["-t", &pid, "-n", "--"];
        args.extend(words);
        run("nsenter", &args)
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.relay.id())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
