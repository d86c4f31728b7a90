//! `script`: processor time a request for a boot script and for meta-data, from bootd (kept answers) and from nginx (the same bytes as a
//! file).
//!
//! wrk asks over loopback, under the address of the node whose they are. nginx runs once as Debian sets it up (sendfile, one worker) and
//! once with `open_file_cache`, both without an access log. Medians of alternating runs.

use std::fmt::Write;
use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::appliance::{Site, median, processor_time};
use bootd_tests::network::ip;
use bootd_tests::process::{Child, run as command};
use bootd_tests::{SERVER, tail};

const ROUNDS: usize = 5;
/// Seconds that each measurement lasts.
const SECONDS: u32 = 2;
/// Connections, and whether each is used for one request only. One client may have 64 with bootd.
const LOADS: [(u32, bool); 3] = [(1, false), (64, false), (16, true)];

/// Measures, and gives the report.
pub fn run() -> Result<String> {
    let site = Site::with_groups(10_000, 200)?;
    ip("addr add 172.16.1.1/32 dev lo")?;
    ip(&format!(
        "route replace local {SERVER} dev lo src 172.16.1.1 table local"
    ))?;
    let bootd = site.start_bootd()?;
    site.answered(&format!("http://{SERVER}:8081/hsm/v2/service/ready"))?;
    let stock = nginx(&site, 8091, "")?;
    let tuned = nginx(&site, 8092, "open_file_cache max=1000; open_file_cache_valid 60s;")?;
    let pids = [bootd.id(), stock.id(), tuned.id()];
    let script = compare(
        &site,
        pids,
        "/boot/v1/bootscript?mac=52:54:00:00:00:01",
        "#!ipxe\nkernel",
    )?;
    let meta_data = compare(&site, pids, "/cloud-init/meta-data", "instance-id: ")?;
    Ok(format!(
        "processor time a request in us, and requests a second; medians of {ROUNDS} runs of {SECONDS} s\n\n\
         boot script, {script}\nmeta-data, {meta_data}"
    ))
}

/// One document from bootd and as a file from the two nginx.
fn compare(site: &Site, pids: [u32; 3], path: &str, begins: &str) -> Result<String> {
    let url = format!("http://{SERVER}:8081{path}");
    let document = site.answered(&url)?;
    ensure!(document.starts_with(begins.as_bytes()), "{url} is no such document");
    // nginx keeps the file that it has open under this name.
    let name = format!("document{}", document.len());
    fs::write(site.dir.join(&name), &document)?;
    let file_url = |port: u16| format!("http://{SERVER}:{port}/{name}");
    let urls = [url, file_url(8091), file_url(8092)];
    for url in &urls {
        ensure!(site.answered(url)? == document, "{url} is another text");
    }
    let mut report = format!(
        "{} bytes\n{:<28}{:>16}{:>16}{:>26}{:>8}{:>8}\n",
        document.len(),
        "connections",
        "bootd",
        "nginx",
        "nginx, open_file_cache",
        "ratio",
        "ratio",
    );
    for (connections, close) in LOADS {
        let mut cost = [const { Vec::new() }; 3];
        let mut rate = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for (at, (pid, url)) in pids.iter().zip(&urls).enumerate() {
                let (us, requests) = measure(*pid, url, connections, close)?;
                cost[at].push(us);
                rate[at].push(requests / f64::from(SECONDS));
            }
        }
        let [bootd, stock, tuned] = cost.map(median);
        let [bootd_rate, stock_rate, tuned_rate] = rate.map(median);
        let name = if close { "a request each" } else { "kept alive" };
        writeln!(
            report,
            "{:<28}{:>16}{:>16}{:>26}{:>8.2}{:>8.2}",
            format!("{connections}, {name}"),
            format!("{bootd:.1} ({bootd_rate:.0}/s)"),
            format!("{stock:.1} ({stock_rate:.0}/s)"),
            format!("{tuned:.1} ({tuned_rate:.0}/s)"),
            bootd / stock,
            bootd / tuned,
        )?;
    }
    Ok(report)
}

/// Processor time a request in microseconds, and how many requests there were.
fn measure(pid: u32, url: &str, connections: u32, close: bool) -> Result<(f64, f64)> {
    let (connections, seconds) = (format!("-c{connections}"), format!("-d{SECONDS}s"));
    let mut args = vec!["-t1", &connections, &seconds];
    if close {
        args.extend(["-H", "Connection: close"]);
    }
    args.push(url);
    let before = processor_time(pid)?;
    let said = command("wrk", &args).context("install the Debian package wrk")?;
    let used = processor_time(pid)?.saturating_sub(before);
    ensure!(!said.contains("Non-2xx"), "{url}: {said}");
    let line = said.lines().find(|line| line.contains(" requests in "));
    let requests = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    let requests = requests
        .filter(|n| *n > 0.0)
        .with_context(|| format!("{url}: {said}"))?;
    Ok((used.as_secs_f64() * 1e6 / requests, requests))
}

fn nginx(site: &Site, port: u16, extra: &str) -> Result<Child> {
    let at = site.dir.display();
    let config = format!(
        "user root root; daemon off; worker_processes 1; pid {at}/nginx{port}.pid; error_log {at}/nginx.log warn;
events {{ worker_connections 768; }}
http {{
    sendfile on; tcp_nopush on; access_log off; default_type text/plain; keepalive_requests 1000000000; {extra}
    client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
    server {{ listen {SERVER}:{port}; location / {{ root {at}; }} }}
}}
"
    );
    let path = site.dir.join(format!("nginx{port}.conf"));
    fs::write(&path, config)?;
    // Its worker outlives a master that is killed, unless it is in its process namespace.
    let mut command = Child::command("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--", "nginx"]);
    command.arg("-p").arg(&site.dir).arg("-c").arg(&path);
    command.arg("-e").arg(site.dir.join("nginx.log"));
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let child = Child::spawn("nginx", command.stdout(Stdio::null()).stderr(Stdio::null()));
    child.with_context(|| {
        format!(
            "install the Debian package nginx-light\n{}",
            tail(&site.dir.join("nginx.log"), 5)
        )
    })
}
