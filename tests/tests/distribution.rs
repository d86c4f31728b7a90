//! A real distribution: Debian with dracut, cloud-init and sshd boots diskless, its kernel, initramfs and root image from an S3 server, with
//! the seed's boot parameters. Takes minutes, and tests/install long: run by tests/run --long.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::process::{Child, run};
use bootd_tests::{BOOT_LIMIT, Rack, data, eventually, eventually_true, prepare, tail};

#[test]
#[ignore = "takes minutes and what tests/install long makes; tests/run --long runs it"]
fn debian_boots_from_s3_until_ssh_with_the_key_of_the_cluster_defaults() {
    in_rack(|| {
        let rack = Rack::new()?;
        let key = rack.path("key");
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", text(&key)?])?;
        let public = std::fs::read_to_string(key.with_extension("pub"))?;
        let defaults = data::DEFAULTS.replace("<YOUR SSH KEY GOES HERE>", public.trim());
        rack.write("ci-defaults.yaml", &defaults)?;
        let _s3 = s3(&rack)?;
        let own = format!("dir = \"{}\"", rack.images.bucket().display());
        let config = rack.config();
        ensure!(config.contains(&own), "the configuration names no {own}");
        rack.write(
            "bootd.toml",
            &config.replace(&own, "endpoint = \"http://127.0.0.1:9001\""),
        )?;
        let mut bootd = rack.start_bootd()?;
        let node = rack.power_on(1)?;

        let ssh = |command: &str| -> Result<String> {
            let output = Command::new("ssh")
                .args([
                    "-F",
                    "none",
                    "-o",
                    "StrictHostKeyChecking=no",
                    "-o",
                    "UserKnownHostsFile=/dev/null",
                ])
                .args([
                    "-o",
                    "BatchMode=yes",
                    "-o",
                    "ConnectTimeout=5",
                    "-o",
                    "LogLevel=ERROR",
                    "-i",
                ])
                .args([text(&key)?, "root@172.16.0.1", command])
                .stdin(Stdio::null())
                .output()
                .context("install the Debian package openssh-client")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "ssh: {} {}", output.status, said.trim());
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let left = || BOOT_LIMIT.saturating_sub(node.since.elapsed());
        eventually(left(), "ssh root@172.16.0.1", || ssh("true").ok())
            .with_context(|| format!("{:?}\n{}", ssh("true"), tail(&node.console, 40)))?;
        let status = eventually(left(), "cloud-init has ended", || {
            ssh("cloud-init status").ok().filter(|said| !said.contains("running"))
        })
        .with_context(|| tail(&node.console, 40))?;
        ensure!(
            status == "status: done",
            "{status}\n{}",
            ssh("cat /var/log/cloud-init.log")?
        );
        let root = ssh("findmnt -n -o FSTYPE /")?;
        ensure!(root == "overlay", "/ is {root}");
        let hostname = ssh("hostname")?;
        ensure!(hostname == "nid001", "the node calls itself {hostname}");
        let failed = ssh("systemctl list-units --failed --plain --no-legend")?;
        ensure!(failed.is_empty(), "failed units:\n{failed}");
        bootd.must_run()
    });
}

/// An S3 server whose bucket `boot-images` holds the distribution's files under the keys that the seed names.
fn s3(rack: &Rack) -> Result<Child> {
    let debian = prepare::debian()?;
    let bucket = rack.path("s3/boot-images");
    for (key, file) in [
        (prepare::KERNEL, "vmlinuz"),
        (prepare::INITRAMFS, "initramfs.img"),
        (prepare::ROOT, "root.squashfs"),
    ] {
        let at = bucket.join(key);
        std::fs::create_dir_all(at.parent().context("a key without folder")?)?;
        std::os::unix::fs::symlink(debian.join(file), &at)
            .or_else(|_| std::fs::copy(debian.join(file), &at).map(|_| ()))?;
    }
    let mut command = Child::command(prepare::s3_server()?);
    command
        .args(["--host", "127.0.0.1", "--port", "9001"])
        .arg(rack.path("s3"));
    let log = std::fs::File::create(rack.path("s3.log"))?;
    command.stdout(Stdio::null()).stderr(log);
    let mut child = Child::spawn("s3s-fs", &mut command)?;
    eventually_true(Duration::from_secs(10), "the S3 server listens", || {
        TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], 9001))).is_ok()
    })
    .with_context(|| tail(&rack.path("s3.log"), 10))?;
    child.must_run()?;
    Ok(child)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is UTF-8")
}
