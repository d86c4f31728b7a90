//! `discover`: an empty bootd is given its nodes as `ochami discover static` gives them: all components in one request, then a
//! RedfishEndpoint a request, then the group. One client, one kept connection.
//!
//! On a tmpfs: how long 10,000 nodes take, and when the last of them gets its DHCP answer. On the disk that holds the target folder: beside
//! as many durable writes (4 KiB and fdatasync) in the same run, before and after.

use std::fmt::Write as _;
use std::fs;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bootd_tests::wire::{self, DISCOVER, message, xid};
use bootd_tests::{SERVER, server};

use super::appliance::Site;
use super::client::Client;

const NODES: u32 = 10_000;
/// On a disk each request waits for it.
const NODES_ON_DISK: u32 = 2_000;
const BUDGET: Duration = Duration::from_secs(10);
const FIRST_ANSWER: Duration = Duration::from_millis(100);

/// Measures, and gives the report.
pub fn run() -> Result<String> {
    let mut report = String::new();
    let site = Site::empty()?;
    let client = wire::Client::plug_into(&site.network)?;
    let tmpfs = Folder::new(Path::new("/dev/shm"))?;
    let found = discover(&site, &client, &tmpfs.0, NODES)?;
    let verdict = |good: bool| if good { "within" } else { "over" };
    writeln!(
        report,
        "{NODES} nodes, {} requests, state on a tmpfs: {:.2} s ({} {} s); slowest request {:.1} ms\n\
         the last node's DHCP answer {:.1} ms after its endpoint was taken ({} {} ms)",
        found.requests,
        found.time.as_secs_f64(),
        verdict(found.time < BUDGET),
        BUDGET.as_secs(),
        found.slowest.as_secs_f64() * 1000.0,
        found.dhcp.as_secs_f64() * 1000.0,
        verdict(found.dhcp < FIRST_ANSWER),
        FIRST_ANSWER.as_millis(),
    )?;
    drop(tmpfs);
    let binary = server::binary()?;
    let disk = Folder::new(binary.parent().context("the target folder")?)?;
    let before = durable_writes(&disk.0, NODES_ON_DISK)?;
    let found = discover(&site, &client, &disk.0, NODES_ON_DISK)?;
    let after = durable_writes(&disk.0, NODES_ON_DISK)?;
    let writes = (before + after) / 2;
    writeln!(
        report,
        "{NODES_ON_DISK} nodes, {} requests, state on the disk: {:.2} s; as many durable writes {:.2} s ({:.2} before, {:.2} after): {:.2} times",
        found.requests,
        found.time.as_secs_f64(),
        writes.as_secs_f64(),
        before.as_secs_f64(),
        after.as_secs_f64(),
        found.time.as_secs_f64() / writes.as_secs_f64(),
    )?;
    Ok(report)
}

struct Found {
    requests: usize,
    time: Duration,
    slowest: Duration,
    dhcp: Duration,
}

/// Discovers so many nodes, with bootd's state in this folder.
fn discover(site: &Site, client: &wire::Client, state: &Path, nodes: u32) -> Result<Found> {
    site.configure(state)?;
    let _bootd = site.start_bootd()?;
    site.answered(&format!("http://{SERVER}:8081/hsm/v2/service/ready"))?;
    let socket = client.dhcp_socket()?;
    let requests = requests(nodes)?;
    let mut http = Client::connect(8081)?;
    let mut slowest = Duration::ZERO;
    let start = Instant::now();
    for (path, body) in &requests[..requests.len() - 1] {
        slowest = slowest.max(post(&mut http, path, body)?);
    }
    let taken = Instant::now();
    let [_, _, high, low] = nodes.to_be_bytes();
    let dhcp = loop {
        let xid = xid();
        socket.send(&message(DISCOVER, xid, [0x52, 0x54, 0, 0, high, low], &[]))?;
        if socket.receive(xid, Duration::from_millis(10)).is_ok() {
            break taken.elapsed();
        }
        if taken.elapsed() > Duration::from_secs(10) {
            bail!("the last node gets no DHCP answer");
        }
    };
    let waited = taken.elapsed();
    let (path, body) = &requests[requests.len() - 1];
    slowest = slowest.max(post(&mut http, path, body)?);
    Ok(Found {
        requests: requests.len(),
        time: start.elapsed() - waited,
        slowest,
        dhcp,
    })
}

fn post(http: &mut Client, path: &str, body: &str) -> Result<Duration> {
    let start = Instant::now();
    let (status, said) = http.ask("POST", path, "", body)?;
    let said = String::from_utf8_lossy(said);
    ensure!((200..300).contains(&status), "POST {path}: {status} {said}");
    Ok(start.elapsed())
}

/// What `ochami discover static` sends for so many nodes, in its order: the path and the body of each request.
fn requests(nodes: u32) -> Result<Vec<(&'static str, String)>> {
    let (mut components, mut ids) = (String::new(), String::new());
    let mut endpoints = Vec::new();
    for n in 1..=nodes {
        let place = n - 1;
        let [_, _, high, low] = n.to_be_bytes();
        let bmc = format!(
            "x{}c{}s{}b{}",
            1000 + place / 512,
            place / 64 % 8,
            place / 4 % 16,
            place % 4
        );
        let comma = if n > 1 { "," } else { "" };
        write!(
            components,
            "{comma}{{\"ID\":\"{bmc}n0\",\"Type\":\"Node\",\"State\":\"On\",\"Enabled\":true,\"NID\":{n}}}"
        )?;
        write!(ids, "{comma}\"{bmc}n0\"")?;
        endpoints.push(("/hsm/v2/Inventory/RedfishEndpoints", endpoint(&bmc, n, high, low)));
    }
    let mut requests = vec![("/hsm/v2/State/Components", format!("{{\"Components\":[{components}]}}"))];
    requests.append(&mut endpoints);
    requests.push((
        "/hsm/v2/groups",
        format!("{{\"label\":\"compute\",\"description\":\"The compute group\",\"members\":{{\"ids\":[{ids}]}}}}"),
    ));
    Ok(requests)
}

fn endpoint(bmc: &str, n: u32, high: u8, low: u8) -> String {
    let (bmc_mac, mac) = (
        format!("de:ca:fc:00:{high:02x}:{low:02x}"),
        format!("52:54:00:00:{high:02x}:{low:02x}"),
    );
    let (bmc_ip, ip) = (
        format!("172.16.{}.{low}", 129 + u32::from(high)),
        format!("172.16.{}.{low}", 1 + u32::from(high)),
    );
    let uuid = |kind: u32| format!("{kind:08x}-0000-4000-8000-{n:012x}");
    serde_json::json!({
        "ID": bmc, "Type": "NodeBMC", "Name": format!("compute{n}"), "MACAddr": bmc_mac, "IPAddress": bmc_ip, "UUID": uuid(1),
        "DiscoveryInfo": { "LastAttempt": "0001-01-01T00:00:00Z" },
        "SchemaVersion": 1,
        "Systems": [{
            "uri": format!("https://{SERVER}/redfish/v1/Systems/{bmc}n0"), "uuid": uuid(2), "name": format!("compute{n}"),
            "ethernet_interfaces": [{ "mac": mac, "ip": ip, "name": format!("{bmc}n0"), "description": format!("Interface 0 for compute{n}") }],
            "actions": ["On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart", "Nmi", "ForceOn", "PushPowerButton",
                "PowerCycle", "Suspend", "Pause", "Resume"],
        }],
        "Managers": [{
            "uri": format!("https://{SERVER}/redfish/v1/Managers/{bmc}"), "uuid": uuid(1), "name": bmc,
            "ethernet_interfaces": [{ "mac": bmc_mac, "ip": bmc_ip, "name": bmc, "description": format!("Interface for BMC {bmc}") }],
            "actions": null, "description": "", "type": "NodeBMC",
        }],
    })
    .to_string()
}

/// How long so many durable writes of 4 KiB take, one after the other.
fn durable_writes(folder: &Path, count: u32) -> Result<Duration> {
    let mut file = fs::File::create(folder.join("writes"))?;
    file.write_all(&[0; 1 << 20])?;
    file.sync_all()?;
    let start = Instant::now();
    for n in 0..count {
        file.seek(std::io::SeekFrom::Start(u64::from(n % 256) * 4096))?;
        file.write_all(&[n.to_be_bytes()[3]; 4096])?;
        file.sync_data()?;
    }
    Ok(start.elapsed())
}

/// A folder that goes with the measurement.
struct Folder(PathBuf);

impl Folder {
    fn new(at: &Path) -> Result<Self> {
        let path = at.join(format!("bootd-bench-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
