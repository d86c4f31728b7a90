//! Getting into a network namespace: the rack's programs and tests start themselves again inside a new one.
//!
//! As an ordinary user and as root alike that is a user namespace with a network and a mount namespace in it. Where
//! user namespaces are forbidden, root makes the other two without; an ordinary user gets told what to do, or goes
//! through `sudo -n` where that works. The host's network is never touched.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

/// Set for programs that are inside.
const MARK: &str = "BOOTD_RACK_INSIDE";

/// Whether this process is inside.
pub fn inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// An error outside.
pub fn require_inside() -> Result<()> {
    if !inside() {
        bail!("a rack is made inside its network namespace only");
    }
    Ok(())
}

/// Replaces this process by itself inside a new namespace; returns at once when it is inside already.
pub fn enter() -> Result<()> {
    if inside() {
        return Ok(());
    }
    let me = std::env::current_exe().context("path of this program")?;
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let error = prefix()?.arg(me).args(args).exec();
    Err(error).context("start inside the namespace")
}

/// Runs this program with these arguments inside a new namespace, to its end.
pub fn again_with(args: &[&str]) -> Result<()> {
    let me = std::env::current_exe().context("path of this program")?;
    let status = prefix()?
        .arg(me)
        .args(args)
        .status()
        .context("start inside the namespace")?;
    if !status.success() {
        bail!("{}: {status}", args.join(" "));
    }
    Ok(())
}

/// Runs the body of a test inside a namespace of its own: the test program starts again with only this test.
/// One at a time in a test program, since machines need memory.
pub fn in_rack<F: FnOnce() -> Result<()>>(body: F) {
    if inside() {
        if let Err(error) = body() {
            panic!("{error:?}");
        }
        return;
    }
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = again(test_name::<F>()) {
        panic!("{error:?}");
    }
}

fn again(test: &str) -> Result<()> {
    let me = std::env::current_exe().context("path of this program")?;
    let output = prefix()?
        .arg(me)
        .args([
            "--exact",
            test,
            "--nocapture",
            "--include-ignored",
            "--test-threads",
            "1",
        ])
        .stdin(Stdio::null())
        .output()
        .context("start inside the namespace")?;
    let said = String::from_utf8_lossy(&output.stdout);
    // A name that matches no test must not pass for a success.
    let is_good = output.status.success() && said.contains("1 passed");
    let mut report = format!("the test {test} inside its namespace: {}\n", output.status);
    for line in said.lines().chain(String::from_utf8_lossy(&output.stderr).lines()) {
        // Set off, so that nobody counts its result lines with those of the test program outside.
        report.push_str(&format!("  | {line}\n"));
    }
    if is_good {
        tell(&report);
        return Ok(());
    }
    bail!("{report}")
}

/// For `--nocapture`, where figures are looked at.
#[allow(
    clippy::print_stdout,
    reason = "the test program outside shows it, when it is told to"
)]
fn tell(report: &str) {
    println!("{report}");
}

/// The name of the test function in which a closure stands, as the test program knows it.
fn test_name<F>() -> &'static str {
    let name = std::any::type_name::<F>();
    let name = name.split_once("::").map_or(name, |(_, rest)| rest);
    name.split("::{{closure}}").next().unwrap_or(name)
}

/// The start of a command line whose program runs inside a new namespace.
fn prefix() -> Result<Command> {
    let unshare = |flags: &'static str| vec!["unshare", flags, "--"];
    let ways: [Vec<&str>; 3] = [
        unshare("-Urnm"),
        unshare("-nm"),
        vec!["sudo", "-n", "-E", "unshare", "-nm", "--"],
    ];
    for way in ways {
        let works = Command::new(way[0])
            .args(&way[1..])
            .arg("true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if works {
            let mut command = Command::new(way[0]);
            command.args(&way[1..]).arg("env").arg(format!("{MARK}=1"));
            return Ok(command);
        }
    }
    bail!(
        "no network namespace can be made here. Allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, \
         user.max_user_namespaces > 0, on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0; for a container: \
         --privileged), or run as root"
    )
}
