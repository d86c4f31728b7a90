//! Publications into an inventory of two plugins, with and without a store.

use super::super::kept::NODES;
use super::*;
use crate::state::{Row, Write};
use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Publication;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::Ordering;

fn subnets() -> ServedSubnets {
    let text =
        "[server]\ninterfaces = [\"br0\"]\naddress = \"172.16.0.254\"\n[[dhcp.subnet]]\ncidr = \"172.16.0.0/24\"\n";
    ServedSubnets::of(&crate::config::parse(text, Path::new("bootd.toml")).unwrap())
}

fn inventory(store: Option<Store>) -> Inventory {
    Inventory::new(&["smd".into(), "other".into()], subnets(), store, Arc::default()).unwrap()
}

fn row(id: &str, nid: u64, mac: &str, ip: &str) -> Value {
    json!({"id": id, "nid": nid, "interfaces": [{"mac": mac, "ips": [{"ip": ip}]}]})
}

fn full(rows: Vec<Value>) -> Publication {
    Publication {
        full: true,
        nodes: rows,
        ..Publication::default()
    }
}

fn good(n: u8) -> Value {
    row(
        &format!("x1000c0s0b{n}n0"),
        n.into(),
        &format!("52:54:00:be:ef:{n:02x}"),
        &format!("172.16.0.{n}"),
    )
}

#[test]
fn a_wrong_row_costs_only_itself_and_the_reason_names_the_other_one() {
    let inventory = inventory(None);
    let report = inventory
        .publish(
            "smd",
            full(vec![
                good(1),
                row("x1000c0s0b2n0", 2, "52:54:00:be:ef:01", "172.16.0.2"),
                row("x1000c0s0b3n0", 3, "52:54:00:be:ef:03", "172.16.0.1"),
                row("compute4", 4, "52:54:00:be:ef:04", "172.16.0.4"),
                row("x1000c0s0b5n0", 5, "52:54:00:be:ef:05", "172.16.0.254"),
                row("x1000c0s0b6n0", 1, "52:54:00:be:ef:06", "172.16.0.6"),
                json!({"id": "x1000c0s0b7n0", "interfaces": [{"mac": "nonsense"}]}),
                good(8),
                good(8),
            ]),
        )
        .unwrap();
    let reasons: Vec<(usize, &str)> = report.refused.iter().map(|r| (r.row, r.reason.as_str())).collect();
    assert_eq!(report.accepted, 2);
    assert_eq!(reasons[0], (1, "MAC 52:54:00:be:ef:01 is x1000c0s0b1n0's already"));
    assert_eq!(reasons[1], (2, "address 172.16.0.1 is x1000c0s0b1n0's already"));
    assert!(reasons[2].1.contains("'compute4' is not the xname"));
    assert_eq!(reasons[3], (4, "address 172.16.0.254 is bootd's own address"));
    assert_eq!(reasons[4], (5, "NID 1 is x1000c0s0b1n0's already"));
    assert!(reasons[5].1.contains("nonsense"));
    assert_eq!(reasons[6], (8, "this id stands in an earlier row"));
    assert_eq!(inventory.snapshot().entries().len(), 2);
    assert_eq!(inventory.refused().len(), 7);
}

#[test]
fn a_dry_run_changes_nothing() {
    let inventory = inventory(None);
    let report = inventory
        .publish(
            "smd",
            Publication {
                dry_run: true,
                ..full(vec![good(1)])
            },
        )
        .unwrap();
    assert_eq!((report.accepted, inventory.snapshot().entries().len()), (1, 0));
}

#[test]
fn a_delta_replaces_adds_and_removes_and_a_refused_row_leaves_the_old_one() {
    let inventory = inventory(None);
    inventory.publish("smd", full(vec![good(1), good(2), good(3)])).unwrap();
    let moved = row("x1000c0s0b2n0", 2, "52:54:00:be:ef:02", "172.16.0.1");
    let delta = Publication {
        nodes: vec![moved, good(4)],
        gone: vec!["x1000c0s0b3n0".into()],
        ..Publication::default()
    };
    let report = inventory.publish("smd", delta).unwrap();
    assert_eq!((report.accepted, report.refused.len()), (1, 1));
    let snapshot = inventory.snapshot();
    let ids: Vec<&str> = snapshot.entries().iter().map(|e| e.node.id.as_str()).collect();
    assert_eq!(ids, ["x1000c0s0b1n0", "x1000c0s0b2n0", "x1000c0s0b4n0"]);
    assert_eq!(
        snapshot.by_ip("172.16.0.2".parse().unwrap()).unwrap().id,
        "x1000c0s0b2n0"
    );
}

#[test]
fn the_first_plugin_in_order_owns_a_node_whoever_publishes_first() {
    let inventory = inventory(None);
    inventory.publish("other", full(vec![good(1), good(2)])).unwrap();
    inventory.publish("smd", full(vec![good(1)])).unwrap();
    let snapshot = inventory.snapshot();
    let owners: Vec<&str> = snapshot.entries().iter().map(|e| &*e.owner).collect();
    assert_eq!(owners, ["smd", "other"]);
    let report = inventory.publish("other", full(vec![good(1)])).unwrap();
    assert_eq!(report.refused[0].reason, "the plugin smd comes first and has this id");
}

#[test]
fn a_copy_on_disk_that_fell_behind_catches_up_with_the_next_publication() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let first = inventory(Some(store.clone()));
    first.publish("smd", full(vec![good(1), good(2)])).unwrap();
    store.write_and_wait(Write::default()).unwrap();
    // As after a write that failed: node 1 is missing on disk, and one that is gone is still there.
    let row = |id: &str| Row {
        table: NODES.into(),
        key: format!("smd/{id}"),
    };
    let wrong = Write {
        put: vec![(row("x1000c0s0b9n0"), good(9).to_string())],
        delete: vec![row("x1000c0s0b1n0")],
        ..Write::default()
    };
    store.write_and_wait(wrong).unwrap();
    first.kept.as_ref().unwrap().behind.store(true, Ordering::Release);
    first.publish("smd", full(vec![good(1), good(2), good(3)])).unwrap();
    store.write_and_wait(Write::default()).unwrap();
    let keys: Vec<String> = store.scan(NODES, "").unwrap().into_keys().collect();
    assert_eq!(keys, ["smd/x1000c0s0b1n0", "smd/x1000c0s0b2n0", "smd/x1000c0s0b3n0"]);
}

#[test]
fn the_last_good_nodes_are_there_after_a_restart_before_any_plugin_publishes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    inventory(Some(store.clone()))
        .publish("smd", full(vec![good(1), good(2)]))
        .unwrap();
    // The next write waits behind the inventory's own, so both are on disk when it returns.
    store.write_and_wait(Write::default()).unwrap();
    let restarted = inventory(Some(store));
    assert_eq!(
        restarted
            .snapshot()
            .by_mac("52:54:00:be:ef:02".parse().unwrap())
            .unwrap()
            .0
            .id,
        "x1000c0s0b2n0"
    );
    assert!(restarted.is_last_good("smd"));
    restarted.publish("smd", full(vec![good(1)])).unwrap();
    assert!(!restarted.is_last_good("smd"));
    assert_eq!(restarted.snapshot().entries().len(), 1);
}

fn overlays(full: bool, rows: Vec<Value>) -> Publication {
    Publication {
        full,
        overlays: rows,
        ..Publication::default()
    }
}

/// Name, loader, script and options of a node.
type Added = (String, Option<String>, Option<String>, Vec<(u8, String)>);

/// What node 1 has of these.
fn node_1(inventory: &Inventory) -> Added {
    let node = inventory
        .snapshot()
        .by_id("x1000c0s0b1n0")
        .map(|node| (**node).clone())
        .unwrap();
    let by_mac = inventory
        .snapshot()
        .by_mac(Mac([0x52, 0x54, 0, 0xbe, 0xef, 1]))
        .map(|(node, _)| (**node).clone());
    assert_eq!(by_mac.as_ref(), Some(&node), "all indexes lead to the same node");
    (
        node.name,
        node.boot.loader,
        node.boot.script,
        node.options.into_iter().collect(),
    )
}

#[test]
fn an_overlay_adds_to_a_node_of_another_plugin_and_changes_nothing_that_is_set() {
    let inventory = inventory(None);
    let mut own = good(1);
    own["boot"] = json!({"loader": "own.efi"});
    own["options"] = json!({"3": "ac100001"});
    inventory.publish("smd", full(vec![own, good(2)])).unwrap();
    let report = inventory
        .publish(
            "other",
            overlays(
                true,
                vec![json!({"id": "x1000c0s0b1n0", "name": "login1",
                "boot": {"loader": "other.efi", "script": "http://a/s"}, "options": {"3": "ff", "224": "01"}})],
            ),
        )
        .unwrap();
    assert_eq!((report.accepted, report.refused.len()), (1, 0));
    let options = vec![(3, "ac100001".to_owned()), (224, "01".to_owned())];
    let script = Some("http://a/s".to_owned());
    assert_eq!(
        node_1(&inventory),
        ("login1".into(), Some("own.efi".into()), script, options)
    );
    assert_eq!(&*inventory.snapshot().entry("x1000c0s0b1n0").unwrap().owner, "smd");

    // The owner's next publication keeps what is added, and an overlay that is gone takes it away.
    inventory.publish("smd", full(vec![good(1)])).unwrap();
    let options = vec![(3, "ff".to_owned()), (224, "01".to_owned())];
    let script = Some("http://a/s".to_owned());
    assert_eq!(
        node_1(&inventory),
        ("login1".into(), Some("other.efi".into()), script, options)
    );
    inventory.publish("other", overlays(true, vec![])).unwrap();
    assert_eq!(node_1(&inventory), (String::new(), None, None, vec![]));
}

#[test]
fn a_field_that_two_overlays_set_is_the_first_plugins_whoever_publishes_first() {
    let inventory = inventory(None);
    inventory.publish("smd", full(vec![good(1)])).unwrap();
    let overlay = |name: &str, option: &str| json!({"id": "x1000c0s0b1n0", "name": name, "options": {option: "aa"}});
    inventory
        .publish("other", overlays(false, vec![overlay("second", "225")]))
        .unwrap();
    inventory
        .publish(
            "smd",
            Publication {
                nodes: vec![good(1)],
                ..overlays(true, vec![overlay("first", "224")])
            },
        )
        .unwrap();
    let options = vec![(224, "aa".to_owned()), (225, "aa".to_owned())];
    assert_eq!(node_1(&inventory), ("first".into(), None, None, options));
}

#[test]
fn an_overlay_waits_for_its_node_and_outlives_it() {
    let inventory = inventory(None);
    let overlay = json!({"id": "X1000c0s0b1n0", "name": "login1"});
    inventory.publish("other", overlays(false, vec![overlay])).unwrap();
    assert!(inventory.snapshot().is_empty());
    for _ in 0..2 {
        inventory.publish("smd", full(vec![good(1)])).unwrap();
        assert_eq!(node_1(&inventory).0, "login1");
        inventory.publish("smd", full(vec![])).unwrap();
    }
    let gone = Publication {
        gone: vec!["x1000c0s0b1n0".into()],
        ..Publication::default()
    };
    inventory.publish("other", gone).unwrap();
    inventory.publish("smd", full(vec![good(1)])).unwrap();
    assert_eq!(node_1(&inventory).0, "");
}

#[test]
fn a_wrong_overlay_costs_only_itself() {
    let inventory = inventory(None);
    let report = inventory
        .publish(
            "other",
            overlays(
                true,
                vec![
                    json!({"id": "compute1"}),
                    json!({"id": "x1000c0s0b1n0", "options": {"53": "06"}}),
                    json!({"id": "x1000c0s0b1n0", "boot": 7}),
                    json!({"id": "x1000c0s0b1n0", "name": "a"}),
                    json!({"id": "x1000c0s0b1n0", "name": "b"}),
                ],
            ),
        )
        .unwrap();
    let reasons: Vec<&str> = report.refused.iter().map(|refusal| refusal.reason.as_str()).collect();
    assert_eq!((report.accepted, reasons.len()), (1, 4));
    assert!(reasons[0].contains("'compute1' is not the xname") && reasons[1].starts_with("option 53"));
    assert!(
        reasons[2].starts_with("not an overlay") && reasons[3].contains("earlier row"),
        "{reasons:?}"
    );
}

#[test]
fn what_is_known_already_changes_neither_snapshot_nor_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let inventory = inventory(Some(store.clone()));
    let overlay = vec![json!({"id": "x1000c0s0b1n0", "name": "a"})];
    let all = || Publication {
        nodes: vec![good(1), good(2)],
        ..overlays(true, overlay.clone())
    };
    inventory.publish("smd", all()).unwrap();
    store.write_and_wait(Write::default()).unwrap();
    // Whoever writes the same again would bring these back.
    let row = |table: &str| Row {
        table: table.into(),
        key: "smd/x1000c0s0b1n0".into(),
    };
    let delete = vec![row("inventory"), row("overlay")];
    store
        .write_and_wait(Write {
            delete,
            ..Write::default()
        })
        .unwrap();
    let before = inventory.snapshot();
    for _ in 0..3 {
        let report = inventory.publish("smd", all()).unwrap();
        assert_eq!((report.accepted, report.refused.len()), (3, 0));
    }
    assert!(Arc::ptr_eq(&before, &inventory.snapshot()));
    store.write_and_wait(Write::default()).unwrap();
    assert_eq!(store.get("inventory", "smd/x1000c0s0b1n0").unwrap(), None);
    // A row that changed is written by itself.
    let delta = Publication {
        nodes: vec![row_named(2)],
        ..Publication::default()
    };
    inventory.publish("smd", delta).unwrap();
    store.write_and_wait(Write::default()).unwrap();
    assert_eq!(store.scan("inventory", "").unwrap().len(), 1);
    assert_eq!(inventory.snapshot().generation(), before.generation() + 1);
}

fn row_named(n: u8) -> Value {
    let mut row = good(n);
    row["name"] = "changed".into();
    row
}

#[test]
fn overlays_are_last_good_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let first = inventory(Some(store.clone()));
    first.publish("smd", full(vec![good(1)])).unwrap();
    first
        .publish(
            "other",
            overlays(true, vec![json!({"id": "x1000c0s0b1n0", "name": "login1"})]),
        )
        .unwrap();
    store.write_and_wait(Write::default()).unwrap();
    let restarted = inventory(Some(store));
    assert_eq!(node_1(&restarted).0, "login1");
    // What is on disk is what was published, not what came of it.
    restarted.publish("other", overlays(true, vec![])).unwrap();
    assert_eq!(node_1(&restarted).0, "");
}

#[test]
fn two_nodes_can_change_places_in_one_publication() {
    let inventory = inventory(None);
    inventory.publish("smd", full(vec![good(1), good(2), good(3)])).unwrap();
    let crossed = |id: u8, of: u8| {
        let mut row = good(of);
        row["id"] = format!("x1000c0s0b{id}n0").into();
        row
    };
    for publication in [
        Publication {
            nodes: vec![crossed(1, 2), crossed(2, 1)],
            ..Publication::default()
        },
        full(vec![good(1), good(2), good(3)]),
    ] {
        let report = inventory.publish("smd", publication).unwrap();
        assert!(report.refused.is_empty(), "{report:?}");
    }
    assert_eq!(inventory.snapshot().by_nid(1).unwrap().id, "x1000c0s0b1n0");
}

#[test]
fn a_row_of_a_later_plugin_makes_room_and_its_reason_says_for_whom() {
    let inventory = inventory(None);
    inventory
        .publish("other", full(vec![good(1), good(2), good(3)]))
        .unwrap();
    // Node 4 with what were the MAC of 1 and the NID of 2.
    let taker = row("x1000c0s0b4n0", 2, "52:54:00:be:ef:01", "172.16.0.1");
    inventory.publish("smd", full(vec![taker])).unwrap();
    let ids: Vec<String> = inventory
        .snapshot()
        .entries()
        .iter()
        .map(|e| e.node.id.clone())
        .collect();
    assert_eq!(ids, ["x1000c0s0b3n0", "x1000c0s0b4n0"]);
    let mut reasons: Vec<String> = inventory
        .refused()
        .into_iter()
        .map(|(_, refusal)| refusal.reason)
        .collect();
    reasons.sort();
    assert_eq!(
        reasons,
        [
            "MAC 52:54:00:be:ef:01 is x1000c0s0b4n0's already",
            "NID 2 is x1000c0s0b4n0's already"
        ]
    );
    assert_eq!(
        inventory.snapshot().by_ip("172.16.0.1".parse().unwrap()).unwrap().id,
        "x1000c0s0b4n0"
    );
}

#[test]
fn a_publisher_of_nonsense_gets_all_reasons_and_the_rest_hears_of_the_first() {
    let inventory = inventory(None);
    let report = inventory.publish("smd", full(vec![json!(7); 5000])).unwrap();
    assert_eq!((report.refused.len(), inventory.refused().len()), (5000, 1000));
    assert_eq!(inventory.refused_rows(), [("smd".into(), 5000), ("other".into(), 0)]);
    let too_many = full(vec![json!(7); MOST_NODES + 1]);
    assert!(matches!(
        inventory.publish("smd", too_many),
        Err(PublishError::TooMany(_))
    ));
}

/// Random publications of two plugins: what is there after each is what a new inventory makes of the same rows.
#[test]
fn a_row_of_deltas_leads_where_one_publication_would() {
    let mut seed = 0x5eed_u64;
    let mut below = move |bound: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    for _ in 0..30 {
        let inventory = inventory(None);
        for _ in 0..40 {
            let mut rows = Vec::new();
            for _ in 0..below(4) {
                let (n, mac, ip) = (1 + below(6), 1 + below(6), 1 + below(8));
                let mut row = row(
                    &format!("x1000c0s0b{n}n0"),
                    1 + below(6),
                    &format!("52:54:00:be:ef:{mac:02x}"),
                    &format!("172.16.0.{ip}"),
                );
                row["name"] = [json!(""), json!("a")][below(2) as usize].clone();
                rows.push(row);
            }
            let added = (0..below(3))
                .map(|_| json!({"id": format!("x1000c0s0b{}n0", 1 + below(6)), "name": format!("o{}", below(2))}));
            let added: Vec<Value> = added.collect();
            let gone = (0..below(2)).map(|_| format!("x1000c0s0b{}n0", 1 + below(6))).collect();
            let publication = Publication {
                full: below(4) == 0,
                nodes: rows,
                overlays: added,
                gone,
                dry_run: below(5) == 0,
            };
            inventory
                .publish(["smd", "other"][below(2) as usize], publication)
                .unwrap();

            let now = inventory.snapshot();
            let fresh = self::inventory(None);
            for owner in &inventory.lock().owners {
                let nodes = owner
                    .rows
                    .iter()
                    .map(|(_, node)| serde_json::to_value(&**node).unwrap())
                    .collect();
                let overlays = owner
                    .overlays
                    .iter()
                    .map(|(_, overlay)| serde_json::to_value(&**overlay).unwrap())
                    .collect();
                let report = fresh.publish(
                    &owner.name,
                    Publication {
                        full: true,
                        nodes,
                        overlays,
                        ..Publication::default()
                    },
                );
                assert!(report.unwrap().refused.is_empty());
            }
            let other = fresh.snapshot();
            assert_eq!(now.entries(), other.entries());
            for n in 0..10 {
                let (mac, ip) = (
                    Mac([0x52, 0x54, 0, 0xbe, 0xef, n]),
                    std::net::IpAddr::from([172, 16, 0, n]),
                );
                assert_eq!(now.by_mac(mac), other.by_mac(mac));
                assert_eq!(now.by_ip(ip), other.by_ip(ip));
                assert_eq!(now.by_nid(n.into()), other.by_nid(n.into()));
            }
        }
    }
}
