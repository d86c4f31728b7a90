//! Child processes that end with whoever started them.
//!
//! A [`Child`] is killed, by its id, when it is dropped, and by the kernel when the thread that started it ends
//! (`setpriv --pdeathsig`), so that nothing outlives a harness that was killed itself. Start children from threads
//! that live as long as the children should.

use std::ffi::OsStr;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

/// A running child.
pub struct Child {
    name: String,
    inner: std::process::Child,
}

impl Child {
    /// A command for [`Child::spawn`]: standard input empty, the rest inherited until the caller says otherwise.
    pub fn command(program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Starts it.
    pub fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        let inner = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            inner,
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.inner.id()
    }

    /// Its standard streams, for those that were piped.
    pub fn streams(&mut self) -> &mut std::process::Child {
        &mut self.inner
    }

    /// Whether it still runs; if not, how it ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.inner.try_wait().ok().flatten()
    }

    /// An error if it ended.
    pub fn must_run(&mut self) -> Result<()> {
        match self.ended() {
            Some(status) => bail!("{} ended: {status}", self.name),
            None => Ok(()),
        }
    }

    /// Kills it (signal 9) and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.inner.kill();
        let _ = self.inner.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end; an error tells its standard error output.
pub fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} {}: {} {}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
