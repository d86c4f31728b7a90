//! bootd's peer: dnsmasq for DHCP and TFTP, nginx with static files for the rest, set up for the same boot.
//!
//! For comparisons in the same run, and to try the rack itself. Every document is prepared beforehand as a file, which
//! is the least work that a server can have; dnsmasq announces an IPv6 prefix since iPXE waits for one.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::journal::{Event, How, Journal, Stage};
use crate::node::mac;
use crate::process::Child;
use crate::{Rack, SERVER, data, eventually, tail};

/// How many nodes it knows: the seed's.
const NODES: u8 = 5;

/// A running dnsmasq and a running nginx.
pub struct Peer {
    dnsmasq: Child,
    nginx: Child,
    stop: Arc<AtomicBool>,
}

impl Peer {
    /// Starts both for the seed's nodes and waits until they answer.
    pub fn start(rack: &Rack) -> Result<Self> {
        let dir = rack.path("peer");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir)?;
        // Fails when an earlier peer did it already, which is as good.
        let _ = rack.network.announce_ready();
        documents(&dir)?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut peer = Self {
            dnsmasq: dnsmasq(&dir, &rack.journal)?,
            nginx: nginx(&dir, &rack.images.bucket())?,
            stop,
        };
        let reader = AccessLog {
            journal: rack.journal.clone(),
            stop: Arc::clone(&peer.stop),
        };
        let log = dir.join("access.log");
        eventually(Duration::from_secs(10), "nginx answers", || {
            if peer.nginx.ended().is_some() || peer.dnsmasq.ended().is_some() {
                return Some(Err(anyhow::anyhow!("dnsmasq or nginx ended")));
            }
            TcpStream::connect((SERVER, 9000)).ok().map(|_| Ok(()))
        })
        .and_then(|inner| inner)
        .with_context(|| {
            format!(
                "{}\n{}",
                tail(&dir.join("dnsmasq.log"), 10),
                tail(&dir.join("error.log"), 10)
            )
        })?;
        thread::spawn(move || reader.run(&log));
        Ok(peer)
    }

    /// The process ids of dnsmasq and nginx.
    pub fn ids(&self) -> [u32; 2] {
        [self.dnsmasq.id(), self.nginx.id()]
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Scripts and cloud-init documents as bootd makes them, as files.
fn documents(dir: &Path) -> Result<()> {
    let value = |key: &str| {
        let line = data::BOOT
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{key}: ")));
        line.map(|text| text.trim().trim_matches('\'').to_owned())
            .with_context(|| format!("no {key} in boot-compute.yaml"))
    };
    let (kernel, initrd, params) = (value("kernel")?, value("initrd")?, value("params")?);
    fs::create_dir_all(dir.join("scripts"))?;
    fs::create_dir_all(dir.join("tftp"))?;
    fs::copy("/usr/lib/ipxe/ipxe.efi", dir.join("tftp/ipxe-x86_64.efi"))
        .context("the Debian package ipxe is needed")?;
    // The group's file is the block below "content: |".
    let group: String = data::GROUP
        .lines()
        .skip_while(|line| !line.trim_end().ends_with("content: |"))
        .skip(1)
        .map(|line| format!("{}\n", line.strip_prefix("      ").unwrap_or(line)))
        .collect();
    for n in 1..=NODES {
        let mac = mac(n);
        let bootif = mac.replace(':', "-");
        let retry = format!("http://{SERVER}:8081/boot/v1/bootscript?mac={mac}&retry=1");
        let script = format!(
            "#!ipxe\n\
             kernel --name kernel {kernel} initrd=initrd {params} nid={n} BOOTIF=01-{bootif} || goto boot_retry\n\
             initrd --name initrd {initrd} || goto boot_retry\n\
             boot || goto boot_retry\n\
             :boot_retry\nsleep 30\nchain {retry}\n"
        );
        fs::write(dir.join("scripts").join(format!("172.16.0.{n}.ipxe")), script)?;
        let seed = dir.join("cloud-init").join(format!("172.16.0.{n}"));
        fs::create_dir_all(&seed)?;
        let meta = format!(
            "instance-id: i-0000000{n}\nlocal-hostname: nid{n:03}\nhostname: nid{n:03}\ncluster-name: demo\n\
             instance_data:\n  v1:\n    instance_id: i-0000000{n}\n    local_ipv4: 172.16.0.{n}\n"
        );
        fs::write(seed.join("meta-data"), meta)?;
        fs::write(seed.join("user-data"), "#cloud-config")?;
        fs::write(
            seed.join("vendor-data"),
            format!("#include\nhttp://{SERVER}:8081/cloud-init/compute.yaml\n"),
        )?;
        fs::write(seed.join("compute.yaml"), &group)?;
    }
    Ok(())
}

fn dnsmasq(dir: &Path, journal: &Journal) -> Result<Child> {
    let at = dir.display();
    let mut config = format!(
        "port=0\ninterface=br0\nexcept-interface=lo\nbind-interfaces\n\
         pid-file={at}/dnsmasq.pid\ndhcp-leasefile={at}/leases\ndhcp-authoritative\nno-ping\n\
         dhcp-range=172.16.0.200,172.16.0.250,255.255.255.0,1h\ndhcp-option=3,{SERVER}\n\
         dhcp-range=fd00:b007::,ra-only\nenable-ra\n\
         dhcp-userclass=set:ipxe,iPXE\ndhcp-boot=tag:!ipxe,ipxe-x86_64.efi,,{SERVER}\n\
         enable-tftp\ntftp-root={at}/tftp\n"
    );
    for n in 1..=NODES {
        let mac = mac(n);
        config.push_str(&format!(
            "dhcp-host={mac},set:n{n},172.16.0.{n},nid{n:03}\n\
             dhcp-boot=tag:ipxe,tag:n{n},\"http://{SERVER}:8081/boot/v1/bootscript?mac={mac}\"\n"
        ));
    }
    let path = dir.join("dnsmasq.conf");
    fs::write(&path, config)?;
    let mut command = Child::command("dnsmasq");
    command
        .arg("--no-daemon")
        .arg(format!("--conf-file={}", path.display()))
        .env("PATH", SYSTEM_PATH)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = Child::spawn("dnsmasq", &mut command).context("install the Debian package dnsmasq-base")?;
    let mut log = File::create(dir.join("dnsmasq.log"))?;
    let stderr = child.streams().stderr.take().context("dnsmasq's log")?;
    let journal = journal.clone();
    thread::spawn(move || {
        let mut stages = std::collections::HashMap::new();
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = writeln!(log, "{line}");
            if let Some(event) = dnsmasq_event(&line, &mut stages) {
                journal.write(event);
            }
        }
    });
    Ok(child)
}

/// What a line of dnsmasq's log means. It does not say who asks, but a node asks in the order of its boot.
fn dnsmasq_event(line: &str, stages: &mut std::collections::HashMap<String, u32>) -> Option<Event> {
    if let Some(rest) = line.split("DHCPACK(br0) ").nth(1) {
        let mut words = rest.split_whitespace();
        let ip: Ipv4Addr = words.next()?.parse().ok()?;
        let mac = words.next()?.to_lowercase();
        let count = stages.entry(mac.clone()).or_insert(0);
        *count += 1;
        let stage = match *count {
            1 => Stage::Firmware,
            2 => Stage::Ipxe,
            _ => Stage::Os,
        };
        return Some(Event::Address { mac, ip, stage });
    }
    let rest = line.split("sent ").nth(1).filter(|_| line.contains("tftp"))?;
    let (file, peer) = rest.rsplit_once(" to ")?;
    Some(Event::Served {
        peer: peer.trim().parse().ok()?,
        path: file.to_owned(),
        how: How::Tftp,
        bytes: 0,
    })
}

fn nginx(dir: &Path, bucket: &Path) -> Result<Child> {
    let at = dir.display();
    let root = bucket.parent().context("folder of the bucket")?.display();
    let config = format!(
        r#"user root root; daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/error.log warn;
events {{ worker_connections 256; }}
http {{
    log_format rack "$remote_addr $request_method $status $body_bytes_sent $request_uri";
    access_log {at}/access.log rack;
    sendfile on; tcp_nopush on; keepalive_timeout 30; default_type text/plain;
    client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
    server {{ listen {SERVER}:9000; root {root}; default_type application/octet-stream; }}
    server {{
        listen {SERVER}:8081;
        location = /boot/v1/bootscript {{ root {at}/scripts; try_files /$remote_addr.ipxe =404; }}
        location /cloud-init/phone-home/ {{ return 200; }}
        location /cloud-init/ {{ rewrite ^/cloud-init/(.*)$ /$remote_addr/$1 break; root {at}/cloud-init; }}
    }}
}}
"#
    );
    let path = dir.join("nginx.conf");
    fs::write(&path, config)?;
    let mut command = Child::command("nginx");
    command
        .arg("-p")
        .arg(dir)
        .arg("-c")
        .arg(&path)
        .arg("-e")
        .arg(dir.join("error.log"))
        .env("PATH", SYSTEM_PATH)
        .stdout(Stdio::null())
        .stderr(File::create(dir.join("nginx.log"))?);
    Child::spawn("nginx", &mut command).context("install the Debian package nginx-light")
}

/// Follows nginx's access log.
struct AccessLog {
    journal: Journal,
    stop: Arc<AtomicBool>,
}

impl AccessLog {
    fn run(self, path: &Path) {
        let Ok(mut file) = File::open(path) else {
            return;
        };
        let mut text = String::new();
        while !self.stop.load(Ordering::Relaxed) {
            let mut chunk = String::new();
            match file.read_to_string(&mut chunk) {
                Ok(n) if n > 0 => text.push_str(&chunk),
                _ => thread::sleep(Duration::from_millis(20)),
            }
            while let Some((line, rest)) = text.split_once('\n') {
                if let Some(event) = access_event(line) {
                    self.journal.write(event);
                }
                text = rest.to_owned();
            }
        }
    }
}

fn access_event(line: &str) -> Option<Event> {
    let mut words = line.split(' ');
    let peer = words.next()?.parse().ok()?;
    let method = words.next()?;
    let status: u16 = words.next()?.parse().ok()?;
    let bytes = words.next()?.parse().ok()?;
    let path = words.next()?.to_owned();
    let how = match method {
        "GET" | "HEAD" => How::Http,
        _ => How::HttpWrite,
    };
    (200..300)
        .contains(&status)
        .then_some(Event::Served { peer, path, how, bytes })
}

/// Servers are in folders that an ordinary user's path often lacks.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
