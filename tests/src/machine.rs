//! A machine at the end of a cable: a network namespace of its own, whose packets reach the rack's bridge as those of any machine do.
//!
//! Sockets are made by a thread that enters the namespace, programs start inside it; this process stays where it is. Files
//! and Unix sockets are shared with it. The machine and what runs on it end with this process.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{Child, run};
use crate::{Network, eventually};

/// A machine.
pub struct Machine {
    holder: Child,
}

impl Machine {
    /// Plugs its cable into a bridge: its end is `<cable>0` and has no address yet. One cable of a name a bridge.
    pub fn plug(network: &Network, cable: &str) -> Result<Self> {
        // Something must keep the namespace alive; it also tells when the namespace is there.
        let mut command = Child::command("unshare");
        command.args(["-n", "--", "sleep", "infinity"]);
        let machine = Self {
            holder: Child::spawn("a machine's namespace", &mut command)?,
        };
        let ours = std::fs::read_link("/proc/self/ns/net").context("own namespace")?;
        eventually(Duration::from_secs(5), "a machine's namespace is there", || {
            std::fs::read_link(machine.namespace())
                .ok()
                .filter(|theirs| *theirs != ours)
        })?;
        network.cable(cable, machine.holder.id())?;
        machine.ip("link set lo up")?;
        machine.ip(&format!("link set {cable}0 up"))?;
        Ok(machine)
    }

    /// `ip` with these words, there.
    pub fn ip(&self, words: &str) -> Result<()> {
        let pid = self.holder.id().to_string();
        let mut args = vec!["-t", &pid, "-n", "--", "ip"];
        args.extend(words.split_whitespace());
        run("nsenter", &args).map(|_| ())
    }

    /// Runs something in a thread there.
    pub fn at<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let namespace = File::open(self.namespace()).context("the machine's namespace")?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .context("enter the machine's namespace")?;
                work()
            });
            match thread.join() {
                Ok(result) => result,
                Err(_) => bail!("the client panicked"),
            }
        })
    }

    /// A command for [`Child::spawn`] that runs a program there.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        command(self.id(), program)
    }

    /// Its id: that of the process that holds its namespace.
    pub fn id(&self) -> u32 {
        self.holder.id()
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }
}

/// A command for [`Child::spawn`] that runs a program on the machine with this id.
pub fn command(machine: u32, program: impl AsRef<OsStr>) -> Command {
    let mut command = Child::command("nsenter");
    command.args(["-t", &machine.to_string(), "-n", "--"]).arg(program);
    command
}
