//! Whatever clients write, an export holds it, and an empty bootd takes it back.

use std::path::PathBuf;

use serde_json::json;

use super::random::{PASSWORD, Random};
use super::*;

const LISTS: [&str; 7] = [
    "/State/Components",
    "/Inventory/EthernetInterfaces",
    "/Inventory/RedfishEndpoints",
    "/Inventory/ComponentEndpoints",
    "/groups",
    "/memberships",
    "/partitions",
];

#[test]
fn whatever_clients_wrote_goes_out_and_comes_into_an_empty_bootd_the_same() {
    let mut taken = 0;
    for seed in 1..=120 {
        let host = FakeHost::new();
        let nodes = (seed % 3 == 0).then(data);
        let smd = host.start::<Smd>(json!({"nodes": nodes})).unwrap();
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (seed << 20));
        for _ in 0..60 {
            let (method, path, body) = random.request();
            let answer = send(&smd, method, &path, &body.to_string());
            assert_ne!(answer.status, 500, "{answer:?}");
            taken += u32::from(answer.status < 300);
        }
        returns(host, &smd, &format!("seed {seed}"));
    }
    assert!(taken > 2500, "too little was written: {taken}");
}

#[test]
fn texts_of_controllers_go_out_and_come_in_whatever_their_characters() {
    let texts = "null ~ yes 007 1e3 [a {a *a &a !a %a @a `a |a >a ?a -a :a a: a# #a 'a \"a \\a";
    let mut texts: Vec<String> = texts.split(' ').map(str::to_owned).collect();
    texts.extend(
        [
            " a ",
            "a: b",
            "a #b",
            "- a",
            "? a",
            "---",
            "...",
            "é 漢 🦀",
            "<<",
            "a,b",
            "a]",
        ]
        .map(String::from),
    );
    let odd = (0..=0x2fff).chain(0xfdd0..=0x1_0001).filter_map(char::from_u32);
    texts.push(odd.collect());
    texts.push("long ".repeat(2000));
    let (host, smd) = empty();
    for (n, text) in texts.iter().enumerate() {
        let mac = |m: usize| format!("02:00:00:00:{m:02x}:{n:02x}");
        let nic = |m| json!([{"mac": mac(m), "ip": text, "description": text, "uri": text}]);
        let body = json!({"ID": format!("x{n}c0s0b0"), "SchemaVersion": 1,
            "Managers": [{"uri": text, "uuid": text, "name": text, "actions": [text, ""], "ethernet_interfaces": nic(0)}],
            "Systems": [{"uri": text, "uuid": text, "name": text, "actions": [text], "ethernet_interfaces": nic(1)}]});
        assert_eq!(status(&smd, "POST", "/Inventory/RedfishEndpoints", body), 201, "{text}");
    }
    returns(host, &smd, "odd texts");
}

#[test]
fn an_import_takes_an_exports_node_that_a_nodes_file_put_into_two_exclusive_groups() {
    let host = FakeHost::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes.yaml");
    std::fs::write(&path, "nodes: []\n").unwrap();
    let smd = host.start::<Smd>(json!({"nodes": path})).unwrap();
    for label in ["a", "b"] {
        let group = json!({"label": label, "exclusiveGroup": "ex"});
        assert_eq!(status(&smd, "POST", "/groups", group), 201);
    }
    let node = |n| format!("- {{xname: x0c0s{n}b0n0, nid: {n}, groups: [a, b], interfaces: []}}\n");
    std::fs::write(&path, format!("nodes:\n{}{}", node(1), node(2))).unwrap();
    host.sleeps(3);
    assert!(smd.run());
    let nid = json!({"NID": -1});
    assert_eq!(status(&smd, "PATCH", "/State/Components/x0c0s2b0n0/NID", nid), 204);
    assert_eq!(
        get(&smd, "/groups/b/members"),
        json!({"ids": ["x0c0s1b0n0", "x0c0s2b0n0"]})
    );
    returns(host, &smd, "two exclusive groups");
}

#[test]
fn an_import_tells_every_mistake_of_every_section_with_its_line_and_takes_none_of_it() {
    let (host, smd) = empty();
    let text = "nodes: []
components:
- {ID: x0c0w1, State: Onn}
- {ID: banana}
- {ID: x0c0w2, NID: -1, Colour: red}
redfish-endpoints:
- {ID: x0c0s0b0n0}
- {ID: x0c0s1b0, IPAddress: 1.2.3}
component-endpoints:
- {ID: x0c0s0b0n0, RedfishType: Toaster, RedfishEndpointID: x0c0s0b0}
interfaces:
- {ComponentID: x0}
- {MACAddress: '02:00:00:00:00:01', IPAddresses: [{Network: a}]}
- {MACAddress: '02:00:00:00:00:02'}
- {MACAddress: '020000000002'}
";
    let answer = send(&smd, "POST", "/bootd/v1/import/smd", text);
    assert_eq!(answer.status, 400);
    let told = [
        "import:3: State: 'Onn' is none of",
        "import:4: ID: 'banana' is not an xname",
        "import:5: NID: '-1'",
        "import:5: unknown key 'Colour'",
        "import:7: ID: 'x0c0s0b0n0' is not the xname of a controller",
        "import:8: IPAddress: '1.2.3'",
        "import:10: RedfishType: 'Toaster'",
        "import:12: this Ethernet interface has no MACAddress",
        "import:13: this network address has no IPAddress",
        "import:15: the Ethernet interface 02:00:00:00:00:02 is already on line 14",
    ];
    for told in told {
        assert!(answer.body.contains(told), "{told}: {}", answer.body);
    }
    assert_eq!(host.stored().len(), 0);
}

#[test]
fn an_import_refuses_two_endpoints_of_one_name_and_lets_names_change_places() {
    let (_, smd) = empty();
    let import = |rows: &str| {
        let text = format!("nodes: []\nredfish-endpoints:\n{rows}");
        let answer = send(&smd, "POST", "/bootd/v1/import/smd", &text);
        (answer.status, answer.body)
    };
    assert_eq!(import("- {ID: x0c0s0b0, FQDN: a}\n- {ID: x0c0s1b0, FQDN: b}\n").0, 204);
    assert_eq!(import("- {ID: x0c0s0b0, FQDN: b}\n- {ID: x0c0s1b0, FQDN: a}\n").0, 204);
    let before = get(&smd, "/Inventory/RedfishEndpoints");
    for rows in [
        "- {ID: x0c0s2b0, FQDN: a}\n",
        "- {ID: x0c0s2b0, FQDN: b}\n",
        "- {ID: x0c0s2b0, FQDN: c}\n- {ID: x0c0s3b0, FQDN: c}\n",
    ] {
        let (status, detail) = import(rows);
        assert!(
            status == 400 && detail.contains("has the same FQDN as") && detail.contains("import:3:"),
            "{detail}"
        );
    }
    assert_eq!(get(&smd, "/Inventory/RedfishEndpoints"), before);
}

#[test]
fn an_import_replaces_nothing_that_it_does_not_name() {
    let (_, smd) = empty();
    nodes(&smd, &[("x0c0s0b0n0", 1), ("x0c0s1b0n0", 2)]);
    let text = "nodes: []\ncomponents:\n- {ID: x0c0s0b0n0, State: Ready, Flag: Warning, NID: 7}\n";
    assert_eq!(send(&smd, "POST", "/bootd/v1/import/smd", text).status, 204);
    let rows = get(&smd, "/State/Components");
    let shown = |at: usize| {
        (
            rows["Components"][at]["State"].clone(),
            rows["Components"][at]["NID"].clone(),
        )
    };
    assert_eq!(shown(0), (json!("Ready"), json!(7)));
    assert_eq!(shown(1), (json!("On"), json!(2)));
}

#[test]
fn a_nodes_file_takes_only_its_own_part_of_an_export() {
    let (_, smd) = empty();
    nodes(&smd, &[("x0c0s0b0n0", 1)]);
    let row = json!({"Components": [{"ID": "x3000c0w14", "State": "On"}]});
    assert_eq!(status(&smd, "POST", "/State/Components", row), 204);
    let loose = json!({"MACAddress": "02:00:00:00:00:31", "Description": "spare"});
    assert_eq!(status(&smd, "POST", "/Inventory/EthernetInterfaces", loose), 201);
    let bmc = json!({"ID": "x0c0s5b0", "FQDN": "b.example", "User": "root", "Password": PASSWORD});
    assert_eq!(status(&smd, "POST", "/Inventory/RedfishEndpoints", bmc), 201);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes.yaml");
    let text = send(&smd, "GET", "/bootd/v1/export/smd", "").body;
    for key in ["components:", "redfish-endpoints:", "interfaces:"] {
        assert!(text.contains(&format!("\n{key}\n")), "{key} {text}");
    }
    std::fs::write(&path, text).unwrap();
    let other = FakeHost::new();
    let smd = other.start::<Smd>(json!({"nodes": path})).unwrap();
    assert_eq!(other.health().mistakes, []);
    assert_eq!(ids(&smd, "/State/Components"), ["x0c0s0b0n0"]);
}

#[test]
fn a_spoiled_export_is_taken_whole_or_not_at_all() {
    let mut random = Random(7);
    let (_, smd) = empty();
    for _ in 0..60 {
        let (method, path, body) = random.request();
        send(&smd, method, &path, &body.to_string());
    }
    let text = send(&smd, "GET", "/bootd/v1/export/smd", "").body;
    let (host, imported) = empty();
    let mut refused = 0;
    bootd_sdk::fake::mutations(&[text.into_bytes()], 300, |text| {
        let before = host.stored();
        let answer = send(&imported, "POST", "/bootd/v1/import/smd", text);
        match answer.status {
            204 => {}
            400 => {
                refused += 1;
                assert!(answer.body.contains("import:"), "{}", answer.body);
                assert_eq!(host.stored(), before);
            }
            other => panic!("{other}: {}", answer.body),
        }
    });
    assert!(refused > 100, "{refused}");
}

#[test]
fn an_import_may_be_as_large_as_the_export_of_many_nodes() {
    let routes = crate::api::routes(false);
    let import = routes
        .iter()
        .find(|route| route.prefix == "/bootd/v1/import/smd")
        .unwrap();
    // 10,000 nodes behind as many controllers are 17 MB.
    assert!(import.body_limit >= 64 * 1024 * 1024);
}

/// Exports, imports into nothing, and compares all that can be seen, and what is stored.
fn returns(host: &'static FakeHost, smd: &Instance, what: &str) {
    let text = send(smd, "GET", "/bootd/v1/export/smd", "").body;
    assert!(!text.contains(PASSWORD), "{what}: {text}");
    let (other, imported) = empty();
    let answer = send(&imported, "POST", "/bootd/v1/import/smd", &text);
    assert_eq!(answer.status, 204, "{what}: {} in\n{text}", answer.body);
    for list in LISTS {
        assert_eq!(
            without_times(get(&imported, list)),
            without_times(get(smd, list)),
            "{what}: {list} of\n{text}"
        );
    }
    assert_eq!(served(other), served(host), "{what}:\n{text}");
    assert_eq!(stored(other), stored(host), "{what}:\n{text}");
    let again = send(&imported, "GET", "/bootd/v1/export/smd", "").body;
    assert_eq!(again, text, "{what}");
}

fn without_times(mut list: Value) -> Value {
    for row in list.as_array_mut().into_iter().flatten() {
        row.as_object_mut().unwrap().remove("LastUpdate");
    }
    list
}

/// The inventory's rows.
fn served(host: &FakeHost) -> Vec<Node> {
    let mut nodes = host.published();
    nodes.sort_by(|a, b| a.id.cmp(&b.id));
    nodes
}

/// The store's rows, without when and by whom they were written.
fn stored(host: &FakeHost) -> Vec<(String, Value)> {
    let rows = host
        .stored()
        .into_iter()
        .filter(|(key, _)| !key.starts_with("applied/"));
    let rows = rows.map(|(key, text)| {
        let mut row: Value = serde_json::from_str(&text).unwrap();
        for field in ["updated", "of_file"] {
            row.as_object_mut().map(|row| row.remove(field));
        }
        (key, row)
    });
    rows.collect()
}

fn data() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/nodes.yaml"))
}
