use std::time::Instant;

use serde_json::{Value, json};

use super::*;

/// Discovers `count` nodes as `ochami discover static --discovery-version 1` does: one request for the components, one an endpoint, one an interface,
/// one a group.
fn discover(smd: &Instance, count: u32) -> u32 {
    let id = |n: u32| (format!("x{}c{}s{}b0", 1000 + n / 512, n / 64 % 8, n % 64), n + 1);
    let list: Vec<Value> = (0..count)
        .map(id)
        .map(|(bmc, nid)| json!({"ID": format!("{bmc}n0"), "Type": "Node", "State": "On", "Enabled": true, "NID": nid}))
        .collect();
    assert_eq!(
        status(smd, "POST", "/State/Components", json!({"Components": list})),
        204
    );
    let mut requests = 1;
    let mac = |first: &str, n: u32| format!("{first}:{:02x}:{:02x}:{:02x}", n >> 16, n >> 8 & 255, n & 255);
    let ip = |net: u32, n: u32| format!("10.{net}.{}.{}", n >> 8, n & 255);
    let actions = [
        "On",
        "ForceOff",
        "GracefulShutdown",
        "GracefulRestart",
        "ForceRestart",
        "Nmi",
        "ForceOn",
        "PushPowerButton",
        "PowerCycle",
        "Suspend",
        "Pause",
        "Resume",
    ];
    for n in 0..count {
        let (bmc, _) = id(n);
        let name = format!("compute{}", n + 1);
        let body = json!({"ID": bmc, "Type": "NodeBMC", "Name": name, "MACAddr": mac("de:ca:fc", n), "IPAddress": ip(1, n),
            "UUID": format!("8d5b6a0e-0000-4000-8000-{n:012}"), "DiscoveryInfo": {"LastAttempt": "0001-01-01T00:00:00Z"}, "SchemaVersion": 1,
            "Systems": [{"uri": format!("https://demo/redfish/v1/Systems/{bmc}n0"), "uuid": format!("8d5b6a0e-0000-4000-8001-{n:012}"), "name": name,
                "ethernet_interfaces": [{"mac": mac("52:54:00", n), "ip": ip(0, n), "name": format!("{bmc}n0"), "description": format!("Interface 0 for {name}")}],
                "actions": actions}],
            "Managers": [{"uri": format!("https://demo/redfish/v1/Managers/{bmc}"), "uuid": format!("8d5b6a0e-0000-4000-8000-{n:012}"), "name": bmc,
                "ethernet_interfaces": [{"mac": mac("de:ca:fc", n), "ip": ip(1, n), "name": bmc, "description": format!("Interface for BMC {bmc}")}],
                "actions": null, "description": "", "type": "NodeBMC"}]});
        assert_eq!(status(smd, "POST", "/Inventory/RedfishEndpoints", body), 201);
        let body = json!({"ID": "", "ComponentID": format!("{bmc}n0"), "Type": "Node", "Description": format!("Interface 0 for {name}"),
            "MACAddress": mac("52:54:00", n), "IPAddresses": [{"IPAddress": ip(0, n), "Network": "management"}]});
        assert_eq!(status(smd, "POST", "/Inventory/EthernetInterfaces", body), 201);
        requests += 2;
    }
    for group in 0..200 {
        let members: Vec<String> = (0..count)
            .filter(|n| n % 200 == group)
            .map(|n| format!("{}n0", id(n).0))
            .collect();
        let body = json!({"label": format!("g{group}"), "description": "d", "members": {"ids": members}});
        assert_eq!(status(smd, "POST", "/groups", body), 201);
        requests += 1;
    }
    requests
}

#[test]
fn a_discovery_of_many_nodes_costs_each_request_the_same() {
    let (host, smd) = empty();
    let count = 400;
    discover(&smd, count);
    assert_eq!(host.published().len(), 2 * count as usize);
    assert_eq!(host.health().mistakes, []);
}

/// `cargo test -p bootd-smd --release -- --ignored --nocapture ten_thousand`
#[test]
#[ignore = "a measurement"]
fn ten_thousand_nodes_are_discovered_in_seconds() {
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        text.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned()
    };
    let (host, smd) = empty();
    let started = Instant::now();
    let requests = discover(&smd, 10_000);
    println!("{requests} requests in {:?}, {}", started.elapsed(), resident());
    assert_eq!(host.published().len(), 20_000);
    for list in [
        "/State/Components",
        "/Inventory/RedfishEndpoints",
        "/Inventory/ComponentEndpoints",
        "/Inventory/EthernetInterfaces",
        "/groups",
        "/memberships",
    ] {
        let started = Instant::now();
        let answer = send(&smd, "GET", list, "");
        println!("{list}: {} bytes in {:?}", answer.body.len(), started.elapsed());
    }
    let started = Instant::now();
    let text = send(&smd, "GET", "/bootd/v1/export/smd", "").body;
    println!("export: {} bytes in {:?}", text.len(), started.elapsed());
    drop(smd);
    println!("after stopping: {}", resident());
    let started = Instant::now();
    let smd = again(host);
    println!("start: {:?}, {}", started.elapsed(), resident());
    assert_eq!(ids(&smd, "/State/Components?type=Node").len(), 10_000);
}
