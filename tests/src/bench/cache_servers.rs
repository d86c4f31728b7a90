//! What `cache` measures: bootd and several nginx before the same origin, on the loopback interface, with their files in one folder.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::appliance::processor_time;
use super::fetches::Fetches;
use super::origin::{self, Origin};
use bootd_tests::network::ip;
use bootd_tests::process::Child;
use bootd_tests::{eventually_true, namespace, run_dir, server, tail};

/// The folder, and the origin.
pub struct Place {
    pub dir: PathBuf,
    pub origin: Origin,
}

/// One of those that stand before it.
pub struct Server {
    pub name: &'static str,
    pub port: u16,
    child: Child,
}

/// What an nginx does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Nginx {
    /// Files, by sendfile.
    Static,
    /// The same, and it keeps them open.
    StaticOpen,
    /// proxy_cache as it is set when nothing is said.
    Proxy,
    /// One fetch for all who want an object, who wait for its end.
    ProxyLock,
}

impl Nginx {
    /// Its name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Static => "nginx",
            Self::StaticOpen => "nginx, open_file_cache",
            Self::Proxy => "nginx, proxy_cache",
            Self::ProxyLock => "nginx, proxy_cache_lock",
        }
    }
}

impl Place {
    pub fn new() -> Result<Self> {
        namespace::require_inside()?;
        ip("link set lo up")?;
        Ok(Self {
            dir: run_dir()?,
            origin: Origin::start()?,
        })
    }

    /// Starts bootd, with an empty cache.
    pub fn bootd(&self) -> Result<Server> {
        let (at, origin) = (self.dir.display(), self.origin.port);
        let config = format!(
            "[server]\ninterfaces = []\naddress = \"127.0.0.1\"\nstate_dir = \"{at}/state\"\ncache_dir = \"{at}/cache\"\n\
             [[http.listener]]\naddress = \"127.0.0.1:{BOOTD}\"\nserve = [\"artifacts\"]\n\
             [admin]\nsocket = \"{at}/admin.sock\"\n\
             [[origin]]\nbucket = \"boot-images\"\nhttp = \"http://127.0.0.1:{origin}/boot-images\"\n"
        );
        let file = self.dir.join("bootd.toml");
        fs::write(&file, config)?;
        let mut command = Child::command(server::binary()?);
        command.args(["serve", "--config"]).arg(file);
        self.start("bootd", BOOTD, command)
    }

    /// Starts an nginx, with an empty cache.
    pub fn nginx(&self, kind: Nginx) -> Result<Server> {
        let (port, http, location) = match kind {
            Nginx::Static => (9101, "", String::new()),
            Nginx::StaticOpen => (
                9102,
                "open_file_cache max=1000; open_file_cache_valid 60s;",
                String::new(),
            ),
            Nginx::Proxy => (9103, "", self.proxy("")),
            Nginx::ProxyLock => (
                9104,
                "",
                self.proxy("proxy_cache_lock on; proxy_cache_lock_timeout 1h; proxy_cache_lock_age 1h;"),
            ),
        };
        let at = self.dir.join(format!("nginx{port}"));
        fs::create_dir_all(at.join("kept"))?;
        let (at, files) = (at.display(), self.dir.display());
        let location = if location.is_empty() {
            format!("root {files}/files;")
        } else {
            location
        };
        // As many workers as processors, which is what bootd's HTTP has, too.
        let config = format!(
            "user root root; daemon off; worker_processes auto; worker_rlimit_nofile 8192; pid {at}/pid; error_log {at}/log warn;
events {{ worker_connections 4096; }}
http {{
    sendfile on; tcp_nopush on; access_log off; keepalive_requests 1000000000; {http}
    proxy_cache_path {at}/kept levels=1:2 keys_zone=kept:10m max_size=100g use_temp_path=off;
    client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
    server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ {location} }} }}
}}
"
        );
        let file = self.dir.join(format!("nginx{port}.conf"));
        fs::write(&file, config)?;
        // Its workers outlive a master that is killed, unless they are in its process namespace.
        let mut command = Child::command("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--", "nginx"]);
        command.arg("-p").arg(&self.dir).arg("-c").arg(&file);
        command.arg("-e").arg(self.log(port));
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let started = self.start(kind.name(), port, command);
        started.context("is the Debian package nginx-light installed?")
    }

    fn proxy(&self, more: &str) -> String {
        let origin = self.origin.port;
        format!("proxy_pass http://127.0.0.1:{origin}; proxy_cache kept; proxy_cache_valid 200 1h; {more}")
    }

    fn start(&self, name: &'static str, port: u16, mut command: std::process::Command) -> Result<Server> {
        let log = File::create(self.log(port))?;
        command.stdout(log.try_clone()?).stderr(log);
        let mut child = Child::spawn(name, &mut command)?;
        eventually_true(START, &format!("{name} listens"), || {
            child.ended().is_some() || TcpStream::connect(("127.0.0.1", port)).is_ok()
        })?;
        child.must_run().with_context(|| tail(&self.log(port), 10))?;
        Ok(Server { name, port, child })
    }

    fn log(&self, port: u16) -> PathBuf {
        self.dir.join(format!("{port}.log"))
    }

    /// Puts an object where every server has it at hand: in nginx's folder, and in bootd's cache, complete and on the disk.
    pub fn keep(&self, path: &str) -> Result<()> {
        let len = path.split('/').nth(2).and_then(|len| len.parse().ok());
        let len: u64 = len.context("a path without length")?;
        let file = self.dir.join("files").join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().context("a folder")?)?;
        write_object(&file, len).with_context(|| format!("write {}", file.display()))?;
        let mut fetch = Fetches::of_one(BOOTD, path, 1);
        fetch.compare = 1;
        fetch.once(PATIENCE)?.into_iter().collect::<Result<Vec<_>>>()?;
        eventually_true(PATIENCE, "bootd keeps the object", || {
            self.is_kept(path).is_ok_and(|kept| kept)
        })
    }

    fn is_kept(&self, path: &str) -> Result<bool> {
        let config = self.dir.join("bootd.toml").display().to_string();
        let output = server::command(&["cache", "ls", "--json", "--config", &config])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let view: Value = serde_json::from_slice(&output.stdout)?;
        let objects = view["objects"].as_array().context("no objects")?;
        Ok(objects
            .iter()
            .any(|object| object["path"] == path && object["state"] == "kept"))
    }
}

impl Server {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processor time that it and its workers have used.
    pub fn used(&self) -> Result<Duration> {
        processor_time(self.child.id())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn write_object(file: &std::path::Path, len: u64) -> Result<()> {
    use std::io::Write;
    let mut file = File::create(file)?;
    let mut at = 0;
    while at < len {
        let part = origin::bytes_at(at);
        let most = part.len().min(usize::try_from(len - at).unwrap_or(part.len()));
        file.write_all(&part[..most])?;
        at += most as u64;
    }
    // Nothing of it is written while something else is measured.
    Ok(file.sync_all()?)
}

const BOOTD: u16 = 9100;
const START: Duration = Duration::from_secs(20);
/// For what takes as long as it takes.
const PATIENCE: Duration = Duration::from_secs(600);
