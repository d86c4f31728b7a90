use std::fs;
use std::path::{Path, PathBuf};

use bootd_sdk::fake::{FakeHost, Instance};
use bootd_sdk::prelude::*;

use serde_json::{Value, json};

use super::{get, status};
use crate::Smd;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data")
        .join(name)
}

fn start(path: &Path) -> (&'static FakeHost, Instance) {
    let host = FakeHost::new();
    let smd = host.start::<Smd>(serde_json::json!({"nodes": path})).unwrap();
    (host, smd)
}

fn look(host: &FakeHost, smd: &Instance) {
    host.sleeps(1);
    assert!(smd.run());
}

fn told(host: &FakeHost) -> Vec<(u64, String)> {
    let mistakes = host.health().mistakes;
    mistakes.into_iter().map(|m| (m.line, m.text)).collect()
}

fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}

#[test]
fn the_tutorials_nodes_are_published_in_init_exactly() {
    let (host, smd) = start(&data("nodes.yaml"));
    assert!(smd.setup.provides_nodes);
    assert_eq!(told(host), []);
    let nodes = host.published();
    assert_eq!(nodes.len(), 10);
    assert_eq!(
        serde_json::to_value(&nodes[0]).unwrap(),
        serde_json::json!({
            "id": "x1000c0s0b0n0", "nid": 1, "kind": "Node", "role": "Compute", "state": "On", "enabled": true,
            "name": "compute1", "groups": ["compute"],
            "interfaces": [{"mac": "52:54:00:be:ef:01", "ips": [{"network": "management", "ip": "172.16.0.1"}]}],
        })
    );
    assert_eq!(
        serde_json::to_value(&nodes[9]).unwrap(),
        serde_json::json!({
            "id": "x1000c0s0b4", "kind": "NodeBMC", "enabled": true, "name": "compute5",
            "interfaces": [{"mac": "de:ca:fc:0f:fe:e5", "ips": [{"ip": "172.16.0.105"}]}],
        })
    );
}

#[test]
fn both_spellings_and_a_bare_list_give_the_same_nodes() {
    let old = start(&data("nodes.yaml")).0.published();
    let new = start(&data("nodes-new-form.yaml")).0;
    assert_eq!(told(new), []);
    assert_eq!(new.published(), old);
    let dir = tempfile::tempdir().unwrap();
    let bare = dir.path().join("bare.yaml");
    let text = fs::read_to_string(data("nodes.yaml")).unwrap();
    fs::write(&bare, text.strip_prefix("nodes:\n").unwrap()).unwrap();
    assert_eq!(start(&bare).0.published(), old);
}

#[test]
fn every_mistake_is_told_with_its_line_and_costs_only_its_row() {
    let (host, _smd) = start(&data("nodes-with-mistakes.yaml"));
    let lines: Vec<u64> = told(host).iter().map(|m| m.0).collect();
    assert_eq!(lines, [18, 29, 32, 36, 40, 47, 54], "{:?}", told(host));
    let texts: Vec<String> = host.health().mistakes.iter().map(ToString::to_string).collect();
    assert!(
        texts[0].contains("nodes-with-mistakes.yaml:18: mac_addr: '52:54:00:be:ef' is not a MAC"),
        "{texts:?}"
    );
    assert!(texts[1].contains("'172.16.0.333': invalid IP address"), "{texts:?}");
    assert!(texts[2].contains("'compute4' is not the xname of a node"), "{texts:?}");
    assert!(texts[4].contains("this node has no xname"), "{texts:?}");
    assert!(texts[5].contains("unknown key 'colour' in a node"), "{texts:?}");
    let ids: Vec<String> = host.published().into_iter().map(|n| n.id).collect();
    assert_eq!(ids, ["x1000c0s0b0n0", "x1000c0s0b6n0", "x1000c0s0b0"]);
}

#[test]
fn a_start_with_mistakes_keeps_the_rows_that_they_cost() {
    let (host, smd) = start(&data("nodes.yaml"));
    drop(smd);
    let config = serde_json::json!({"nodes": data("nodes-with-mistakes.yaml")});
    let smd = host.start::<Smd>(config).unwrap();
    let ids: Vec<String> = host.published().into_iter().map(|n| n.id).collect();
    assert_eq!(ids.len(), 11, "{ids:?}");
    assert!(ids.contains(&"x1000c0s0b1n0".into()) && ids.contains(&"x1000c0s0b6n0".into()));
    assert_eq!(smd.resolve(mac("52:54:00:be:ef:07")).unwrap().nid, Some(7));
}

#[test]
fn what_the_inventory_refuses_is_told_with_its_line() {
    let host = FakeHost::new();
    host.refuse("x1000c0s0b1n0", "MAC 52:54:00:be:ef:02 belongs to x1c0s0b0n0");
    let config = serde_json::json!({"nodes": data("nodes.yaml")});
    let smd = host.start::<Smd>(config).unwrap();
    assert_eq!(
        told(host),
        [(13, "x1000c0s0b1n0: MAC 52:54:00:be:ef:02 belongs to x1c0s0b0n0".into())]
    );
    assert_eq!(host.published().len(), 9);
    assert_eq!(smd.resolve(mac("52:54:00:be:ef:02")), None);
    assert!(smd.resolve(mac("52:54:00:be:ef:03")).is_some());
}

#[test]
fn a_changed_file_with_mistakes_changes_nothing_until_it_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes.yaml");
    let good = fs::read_to_string(data("nodes.yaml")).unwrap();
    fs::write(&path, &good).unwrap();
    let (host, smd) = start(&path);
    let before = host.published();
    for bad in [
        good.replace("ef:02", "ef"),
        String::new(),
        "nodes: [".into(),
        "hello".into(),
        "nodes: {}".into(),
    ] {
        fs::write(&path, bad).unwrap();
        look(host, &smd);
        assert_eq!(host.published(), before);
        assert_eq!(told(host).len(), 1, "{:?}", told(host));
    }
    fs::remove_file(&path).unwrap();
    look(host, &smd);
    assert_eq!(host.published(), before);
    assert!(told(host)[0].1.contains("no such file"));

    host.refuse("x1000c0s0b4n0", "no");
    fs::write(&path, good.replace("compute4", "compute9")).unwrap();
    look(host, &smd);
    assert_eq!(host.published(), before);
    assert_eq!(told(host), [(46, "x1000c0s0b4n0: no".into())]);

    fs::write(&path, good.split("- name: compute3").next().unwrap()).unwrap();
    look(host, &smd);
    look(host, &smd);
    assert_eq!(told(host), []);
    assert_eq!(host.published().len(), 4);
    fs::write(&path, "nodes: []").unwrap();
    look(host, &smd);
    look(host, &smd);
    assert_eq!((told(host), host.published()), (vec![], vec![]));
}

#[test]
fn a_half_written_file_removes_nobody_until_it_was_the_same_at_two_looks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes.yaml");
    let good = fs::read_to_string(data("nodes.yaml")).unwrap();
    let half: String = good.split_inclusive('\n').take(12).collect();
    fs::write(&path, &good).unwrap();
    let (host, smd) = start(&path);
    let ids = || {
        let mut ids: Vec<String> = host.published().into_iter().map(|node| node.id).collect();
        ids.sort();
        ids
    };
    let before = ids();
    fs::write(&path, &half).unwrap();
    look(host, &smd);
    assert_eq!(ids(), before);
    fs::write(&path, &good).unwrap();
    look(host, &smd);
    look(host, &smd);
    assert_eq!(ids(), before);

    // What `resolve` sees between two looks of `run` counts for neither.
    fs::write(&path, &half).unwrap();
    assert!(smd.resolve(mac("52:54:00:be:ef:01")).is_some());
    look(host, &smd);
    assert!(smd.resolve(mac("52:54:00:be:ef:01")).is_some());
    assert_eq!(ids(), before);
    fs::write(&path, good.split("- name: compute3").next().unwrap()).unwrap();
    look(host, &smd);
    assert_eq!(ids(), before, "the file still grows");
    look(host, &smd);
    assert_eq!(ids(), ["x1000c0s0b0", "x1000c0s0b0n0", "x1000c0s0b1", "x1000c0s0b1n0"]);
    assert_eq!(smd.resolve(mac("52:54:00:be:ef:03")), None);
    assert!(
        host.health().text.starts_with("2 nodes and 2 BMCs"),
        "{}",
        host.health().text
    );
}

#[test]
fn a_change_that_also_removes_adds_and_changes_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes.yaml");
    let good = fs::read_to_string(data("nodes.yaml")).unwrap();
    fs::write(&path, &good).unwrap();
    let (host, smd) = start(&path);
    let has = |id: &str| host.published().iter().any(|node| node.id == id);
    let changed = good
        .replace("x1000c0s0b4n0", "x1000c0s0b5n0")
        .replace("name: compute1\n", "name: first\n");
    fs::write(&path, changed).unwrap();
    assert_eq!(smd.resolve(mac("52:54:00:be:ef:05")).unwrap().id, "x1000c0s0b5n0");
    assert!(has("x1000c0s0b5n0") && has("x1000c0s0b4n0"));
    assert!(host.published().iter().any(|node| node.name == "first"));
    look(host, &smd);
    assert!(has("x1000c0s0b4n0"), "the first look of run");
    look(host, &smd);
    assert!(has("x1000c0s0b5n0") && !has("x1000c0s0b4n0"));
    assert_eq!((told(host), host.published().len()), (vec![], 10));
}

#[test]
fn a_missing_file_at_start_publishes_nothing_and_is_read_when_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes.yaml");
    let host = FakeHost::new();
    let old = Node {
        id: "x1c0s0b0n0".into(),
        ..Node::default()
    };
    host.set_nodes(vec![old.clone()]);
    let smd = host.start::<Smd>(serde_json::json!({"nodes": path})).unwrap();
    assert_eq!(host.published(), [old]);
    assert!(told(host)[0].1.contains("no such file; create it"));
    fs::copy(data("nodes.yaml"), &path).unwrap();
    assert_eq!(smd.resolve(mac("52:54:00:be:ef:05")).unwrap().id, "x1000c0s0b4n0");
    assert_eq!(host.published().len(), 11);
    assert_eq!(told(host), []);
    look(host, &smd);
    look(host, &smd);
    assert_eq!(host.published().len(), 10, "who is gone from the file has left");
}

#[test]
fn several_nodes_may_share_a_bmc_and_one_may_have_none() {
    let text = "- {name: a, nid: 1, xname: X1000C0S0B0N0, bmc_mac: de-ca-fc-0f-fe-e1, bmc_ip: 10.0.0.9, groups: [b, a, b], group: c, interfaces: []}\n\
                - {name: b, nid: 2, xname: x1000c0s0b0n1, bmc_mac: de:ca:fc:0f:fe:e1, bmc_ip: 10.0.0.9, interfaces: [{mac_addr: 5254.00be.ef02}]}\n\
                - {name: c, nid: 3, xname: x1000c0s0b1n0, bmc_mac: '', interfaces: []}\n\
                - {name: d, nid: 4, xname: x1000c0s0b0n2, bmc_mac: de:ca:fc:0f:fe:e2, interfaces: []}\n";
    let (rows, mistakes) = crate::file::read("f", text);
    let ids: Vec<&str> = rows.iter().map(|row| row.node.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "x1000c0s0b0n0",
            "x1000c0s0b0n1",
            "x1000c0s0b1n0",
            "x1000c0s0b0n2",
            "x1000c0s0b0"
        ]
    );
    assert_eq!(rows[0].node.groups, ["a", "b", "c"]);
    assert_eq!(mistakes.len(), 1);
    assert_eq!(
        mistakes[0].to_string(),
        "f:4: the BMC x1000c0s0b0 is described differently on line 1, which counts"
    );
}

#[test]
fn the_lists_are_served_as_smd_writes_them() {
    let (_host, smd) = start(&data("nodes.yaml"));
    let get = |path: &str| {
        let answer = smd.get(path, None).unwrap();
        (answer.status, answer.body)
    };
    assert_eq!(
        get("/hsm/v2/service/ready").1,
        r#"{"code":0,"message":"HSM is healthy"}"#
    );
    let list: serde_json::Value = serde_json::from_str(&get("/hsm/v2/State/Components/").1).unwrap();
    assert_eq!(list["Components"].as_array().unwrap().len(), 10);
    assert_eq!(list["Components"][0]["Type"], "NodeBMC");
    let one = r#"{"ID":"x1000c0s0b0n0","Type":"Node","State":"On","Enabled":true,"Role":"Compute","NID":1}"#;
    assert_eq!(get("/hsm/v2/State/Components/X1000c0s0b0n0"), (200, one.into()));
    assert_eq!(get("/hsm/v2/State/Components/ByNID/1/"), (200, one.into()));
    assert_eq!(get("/hsm/v2/State/Components/ByNID/77").0, 404);
    assert_eq!(get("/hsm/v2/State/Components/ByNID/one").0, 400);
    assert_eq!(get("/hsm/v2/State/Components/x9").0, 404);
    for open in ["/%20x1000c0s0b0n0", "//x1000c0s0b0n0", "/ x1000c0s0b0n0", "/../x"] {
        assert_eq!(get(&format!("/hsm/v2/State/Components/{open}")).0, 404, "{open}");
    }
    let list: serde_json::Value = serde_json::from_str(&get("/hsm/v2/Inventory/EthernetInterfaces/").1).unwrap();
    assert_eq!(
        list[1],
        serde_json::json!({
            "ID": "525400beef01", "Description": "Interface 0 for compute1", "MACAddress": "52:54:00:be:ef:01",
            "ComponentID": "x1000c0s0b0n0", "Type": "Node",
            "IPAddresses": [{"IPAddress": "172.16.0.1", "Network": "management"}],
        })
    );
    assert_eq!(get("/hsm/v2/nothing"), (404, "404 page not found\n".into()));
}

#[test]
fn lists_are_filtered_by_their_query() {
    let (_host, smd) = start(&data("nodes.yaml"));
    let count = |path: &str| {
        let body: serde_json::Value = serde_json::from_str(&smd.get(path, None).unwrap().body).unwrap();
        body.get("Components").unwrap_or(&body).as_array().unwrap().len()
    };
    for (query, expected) in [
        ("type=Node", 5),
        ("Type=node&nid=1&nid=2", 2),
        ("type=!Node", 5),
        ("id=X1000c0s0b0n0", 1),
        ("id=!x1000c0s0b00n0", 9),
        ("id=!x1000c0s0b0n0&id=!x1000c0s0b1n0", 10),
        ("group=compute&role=Compute&state=on&enabled=true", 5),
        ("group=none", 0),
        ("unknown=1", 10),
    ] {
        assert_eq!(count(&format!("/hsm/v2/State/Components?{query}")), expected, "{query}");
    }
    for (query, expected) in [
        ("MACAddress=52-54-00-BE-EF-01", 1),
        ("MACAddress=none", 0),
        ("IPAddress=172.16.0.102", 1),
        ("ComponentID=x1000c0s0b0&type=NodeBMC", 1),
        ("network=management", 5),
        ("id=525400BEEF01", 1),
    ] {
        assert_eq!(
            count(&format!("/hsm/v2/Inventory/EthernetInterfaces?{query}")),
            expected,
            "{query}"
        );
    }
    assert_eq!(smd.get("/hsm/v2/State/Components?id=%", None).unwrap().status, 400);
    let many = |values| format!("/hsm/v2/State/Components?{}", vec!["id=x1"; values].join("&"));
    assert_eq!(count(&many(64)), 0);
    assert_eq!(smd.get(&many(65), None).unwrap().status, 400);
}

#[test]
fn an_empty_inventory_is_an_empty_list() {
    let smd = FakeHost::new().start::<Smd>(serde_json::json!({})).unwrap();
    assert_eq!(
        smd.get("/hsm/v2/State/Components", None).unwrap().body,
        r#"{"Components":[]}"#
    );
    assert_eq!(
        smd.get("/hsm/v2/Inventory/EthernetInterfaces", None).unwrap().body,
        "[]"
    );
    assert_eq!(smd.resolve(mac("52:54:00:be:ef:01")), None);
}

#[test]
fn an_unknown_setting_is_refused_by_name() {
    let error = FakeHost::new()
        .start::<Smd>(serde_json::json!({"node": "x"}))
        .err()
        .unwrap();
    assert!(error.is_bad_argument);
    assert!(error.text.contains("unknown field `node`"), "{error}");
}

#[test]
fn no_mutation_of_a_file_panics() {
    let seeds: Vec<Vec<u8>> = ["nodes.yaml", "nodes-new-form.yaml", "nodes-with-mistakes.yaml"]
        .iter()
        .map(|name| fs::read(data(name)).unwrap())
        .collect();
    bootd_sdk::fake::mutations(&seeds, 3000, |text| {
        let (rows, mistakes) = crate::file::read("f", text);
        assert!(rows.iter().all(|row| row.line > 0 && !row.node.id.is_empty()));
        assert!(!rows.is_empty() || !mistakes.is_empty() || text.contains("nodes"));
    });
}

#[test]
fn a_node_that_a_client_wrote_since_stays_when_it_is_gone_from_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes.yaml");
    let text = fs::read_to_string(data("nodes.yaml")).unwrap();
    fs::write(&path, &text).unwrap();
    let (host, smd) = start(&path);
    look(host, &smd);
    look(host, &smd);
    let role = json!({"Role": "Service"});
    let at = "/State/Components/x1000c0s0b3n0";
    assert_eq!(status(&smd, "PATCH", &format!("{at}/Role"), role), 204);
    let keep = json!({"label": "keep", "members": {"ids": ["x1000c0s0b4n0"]}});
    assert_eq!(status(&smd, "POST", "/groups", keep), 201);
    let moved = json!({"IPAddresses": [{"IPAddress": "172.16.0.44"}]});
    let interface = "/Inventory/EthernetInterfaces/525400beef03";
    assert_eq!(status(&smd, "PATCH", interface, moved), 200);

    let rows: Vec<&str> = text.split("- name: ").collect();
    fs::write(&path, format!("{}- name: {}", rows[0], rows[1])).unwrap();
    for _ in 0..4 {
        look(host, &smd);
    }
    let there = |id: &str| status(&smd, "GET", &format!("/State/Components/{id}"), Value::Null);
    for (id, wanted) in [
        ("x1000c0s0b0n0", 200),
        ("x1000c0s0b1n0", 404),
        ("x1000c0s0b2n0", 200),
        ("x1000c0s0b3n0", 200),
        ("x1000c0s0b4n0", 200),
    ] {
        assert_eq!(there(id), wanted, "{id}");
    }
    assert_eq!(get(&smd, "/groups/keep")["members"]["ids"], json!(["x1000c0s0b4n0"]));
}

#[test]
fn what_the_file_says_at_a_start_is_in_effect_at_once_and_stored_with_the_first_look_or_write() {
    let (host, smd) = start(&data("nodes.yaml"));
    assert_eq!((host.published().len(), host.stored().len()), (10, 0));
    look(host, &smd);
    assert!(host.stored().contains_key("component/x1000c0s0b0n0"));
    let (host, smd) = start(&data("nodes.yaml"));
    assert_eq!(
        status(&smd, "DELETE", "/State/Components/x1000c0s0b4n0", Value::Null),
        200
    );
    let stored = host.stored();
    assert!(stored.contains_key("applied/x1000c0s0b4n0") && !stored.contains_key("component/x1000c0s0b4n0"));
    look(host, &smd);
    look(host, &smd);
    assert_eq!(status(&smd, "GET", "/State/Components/x1000c0s0b4n0", Value::Null), 404);
}

#[test]
fn a_stored_row_that_cannot_be_read_costs_only_itself_and_is_told() {
    let (host, smd) = start(&data("nodes.yaml"));
    look(host, &smd);
    host.store("component/x1000c0s0b3n0", "{\"enabled\": 7");
    drop(smd);
    let smd = host.start::<Smd>(json!({})).unwrap();
    assert_eq!(status(&smd, "GET", "/State/Components/x1000c0s0b0n0", Value::Null), 200);
    let told = told(host);
    let [(_, told)] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert!(told.starts_with("component/x1000c0s0b3n0 cannot be read"), "{told}");
}
