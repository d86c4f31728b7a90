//! A real distribution: Debian with dracut, cloud-init and sshd boots diskless through a rack in front of a site, with the seed's boot
//! parameters, its kernel, initramfs and root image from the site's S3 server; and once more when site and S3 server are dead. Takes minutes,
//! and tests/install long: run by tests/run --long.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::ochami::commands;
use bootd_tests::process::{Child, run};
use bootd_tests::{BOOT_LIMIT, Capture, Node, Rack, SERVER, SITE, Site, eventually, eventually_true, prepare, tail};

const NODE_1: [u8; 6] = [0x52, 0x54, 0, 0xbe, 0xef, 1];

#[test]
#[ignore = "takes minutes and what tests/install long makes; tests/run --long runs it"]
fn debian_boots_through_the_rack_until_ssh_and_again_when_site_and_s3_are_dead_and_the_rack_was_killed() {
    in_rack(|| {
        let rack = Rack::new()?;
        let operator = Operator::new(&rack)?;
        let site = Site::with_s3(&rack)?;
        let mut s3 = s3(&rack, &site)?;
        let mut upstream = site.start_bootd()?;
        site.fill()?;
        let mut defaults = commands::defaults_set();
        for request in &mut defaults.requests {
            request.body = request
                .body
                .replace(r"\u003cYOUR SSH KEY GOES HERE\u003e", &operator.public);
            ensure!(request.body.contains(&operator.public), "{}", request.body);
        }
        site.ochami().succeed(&defaults)?;
        rack.write("bootd.toml", &site.rack_config(&rack))?;
        let mut bootd = rack.start_bootd()?;
        eventually_true(Duration::from_secs(10), "the rack has the site's defaults", || {
            site.operator()
                .get("/cloud-init/admin/cluster-defaults")
                .is_ok_and(|answer| answer.body.contains(&operator.public))
        })?;
        drop(boots(&rack, &operator).context("with site and S3")?);

        s3.kill();
        upstream.kill_minus_nine();
        bootd.kill_minus_nine();
        bootd.start_again()?;
        drop(boots(&rack, &operator).context("with site and S3 dead")?);
        bootd.must_run()
    });
}

/// Node 1 boots until all is well with it, and speaks neither to the site nor to its S3 server.
fn boots(rack: &Rack, operator: &Operator) -> Result<Node> {
    let capture = Capture::of(NODE_1)?;
    let node = rack.power_on(1)?;
    let ssh = |command: &str| operator.ssh(command);
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
    let spoken_to = capture.spoken_to();
    ensure!(
        spoken_to.get(&SERVER).is_some_and(|packets| *packets > 10) && !spoken_to.contains_key(&SITE),
        "the node spoke to {spoken_to:?}"
    );
    Ok(node)
}

/// Who has the key that the cluster's defaults name.
struct Operator {
    key: PathBuf,
    public: String,
}

impl Operator {
    fn new(rack: &Rack) -> Result<Self> {
        let key = rack.path("key");
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", text(&key)?])?;
        let public = std::fs::read_to_string(key.with_extension("pub"))?.trim().to_owned();
        Ok(Self { key, public })
    }

    /// Runs a command on node 1.
    fn ssh(&self, command: &str) -> Result<String> {
        let options = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "BatchMode=yes",
            "ConnectTimeout=5",
            "LogLevel=ERROR",
        ];
        let output = Command::new("ssh")
            .args(["-F", "none"])
            .args(options.iter().flat_map(|option| ["-o", option]))
            .args(["-i", text(&self.key)?, "root@172.16.0.1", command])
            .stdin(Stdio::null())
            .output()
            .context("install the Debian package openssh-client")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ssh: {} {}", output.status, said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// The site's S3 server, whose bucket `boot-images` holds the distribution's files under the keys that the seed names.
fn s3(rack: &Rack, site: &Site) -> Result<Child> {
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
    let mut command = site.machine.command(prepare::s3_server()?);
    command
        .args(["--host", &SITE.to_string(), "--port", "9000"])
        .arg(rack.path("s3"));
    let log = std::fs::File::create(rack.path("s3.log"))?;
    command.stdout(Stdio::null()).stderr(log);
    let mut child = Child::spawn("s3s-fs", &mut command)?;
    eventually_true(Duration::from_secs(10), "the S3 server listens", || {
        TcpStream::connect(SocketAddr::from((SITE, 9000))).is_ok()
    })
    .with_context(|| tail(&rack.path("s3.log"), 10))?;
    child.must_run()?;
    Ok(child)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is UTF-8")
}
