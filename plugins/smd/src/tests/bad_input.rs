use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::api::{OPENAPI, PLACES};

/// A path that fits each template, and bodies that its methods may take.
fn requests() -> Vec<(&'static str, String)> {
    let mut requests = Vec::new();
    for place in PLACES {
        let path = place
            .path
            .replace("{xname}", "x0c0s0b0n0")
            .replace("{nid}", "1")
            .replace("{label}", "g")
            .replace("{name}", "p1")
            .replace("{id}", "525400beef01")
            .replace("{ip}", "10.0.0.1")
            .replace("{list}", "role");
        requests.extend(place.methods.iter().map(|(method, _)| (*method, path.clone())));
    }
    requests
}

fn bodies() -> Vec<Value> {
    vec![
        json!({"Components": [{"ID": "x0c0s0b0n0", "State": "On", "NID": 1}], "Force": true}),
        json!({"Component": {"ID": "x0c0s0b0n0", "State": "Off"}, "ComponentIDs": ["x0c0s0b0n0"], "State": "Ready", "NIDRanges": ["1-4"],
            "Flag": "OK", "Role": "Compute", "NID": 3, "Enabled": true, "SoftwareStatus": "s"}),
        json!({"ID": "x0c0s0b0", "FQDN": "a.b", "SchemaVersion": 1, "Systems": [{"uri": "/x0c0s0b0n0", "ethernet_interfaces": [{"mac": "52-54-00-be-ef-01",
            "ip": "10.0.0.1"}]}], "Managers": [{"uri": "/m"}], "PDUInventory": null}),
        json!({"MACAddress": "525400beef01", "ComponentID": "x0c0s0b0n0", "Description": "d", "IPAddresses": [{"IPAddress": "10.0.0.1", "Network": "n"}]}),
        json!({"label": "g", "name": "p1", "description": "d", "tags": ["t"], "exclusiveGroup": "e", "members": {"ids": ["x0c0s0b0n0"]}, "id": "x0c0s0b0n0",
            "ids": ["x0c0s0b0n0"]}),
    ]
}

#[test]
fn broken_json_is_refused_with_400_on_every_route_and_nothing_is_stored() {
    let (host, smd) = empty();
    let bodies = [
        "".to_owned(),
        r#"{"Components":[{"ID":"x0c0s0b0n0""#.into(),
        "[".repeat(10_000),
        "{\"a\":".repeat(10_000),
        "[]".into(),
        "null".into(),
        r#"{"ID":"x0c0s0b0","id":"x0c0s1b0","label":"a","Label":"b","MACAddress":"525400beef01","macaddress":"525400beef02","Components":[],"components":[],"component":{},"Component":{},"ids":[],"IDs":[],"componentids":[],"ComponentIDs":[],"NIDRanges":[],"nidranges":[],"IPAddress":"1","ipaddress":"2","Description":"1","description":"2"}"#.into(),
    ];
    for (method, path) in requests()
        .into_iter()
        .filter(|(method, _)| matches!(*method, "POST" | "PUT" | "PATCH"))
    {
        for body in &bodies {
            let path = path.strip_prefix("/hsm/v2").unwrap_or(&path);
            let answer = send(&smd, method, path, body);
            assert_eq!(
                answer.status,
                400,
                "{method} {path} {} {answer:?}",
                &body[..body.len().min(60)]
            );
        }
    }
    assert!(host.stored().is_empty() && host.published().is_empty());
}

#[test]
fn wrong_types_and_control_characters_are_refused() {
    let (host, smd) = empty();
    for (path, body) in [
        ("/State/Components", json!({"Components": {"ID": "x0c0s0b0n0"}})),
        ("/State/Components", json!({"Components": [["x0c0s0b0n0", "On"]]})),
        ("/State/Components", json!({"Components": [{"ID": 7, "State": "On"}]})),
        (
            "/State/Components",
            json!({"Components": [{"ID": "x0c0s0b0n0", "State": "On", "NID": "one"}]}),
        ),
        (
            "/State/Components",
            json!({"Components": [{"ID": "x0c0s0b0n0", "State": "On", "NID": 1.5}]}),
        ),
        (
            "/State/Components",
            json!({"Components": [{"ID": "x0c0s0b0n0", "State": "On", "Role": "a\nb"}]}),
        ),
        (
            "/Inventory/RedfishEndpoints",
            json!({"ID": "x0c0s0b0", "Name": "a\u{0}b"}),
        ),
        (
            "/Inventory/RedfishEndpoints",
            json!({"ID": "x0c0s0b0", "SchemaVersion": 1, "Systems": "none"}),
        ),
        ("/Inventory/EthernetInterfaces", json!({"MACAddress": 52})),
        ("/groups", json!({"label": "a\u{7f}"})),
        ("/groups", json!({"label": "a", "members": ["x0c0s0b0n0"]})),
    ] {
        assert_eq!(refused(&smd, "POST", path, body.clone()).0, 400, "{path} {body}");
    }
    assert!(host.stored().is_empty());
}

#[test]
fn no_mutation_of_a_request_panics_or_leaves_what_a_restart_does_not() {
    let (host, smd) = empty();
    let requests = requests();
    let mut seeds: Vec<Vec<u8>> = bodies().iter().map(|body| body.to_string().into_bytes()).collect();
    seeds.push(b"nodes:\n- {xname: x0c0s0b0n0, nid: 1, interfaces: []}\n".to_vec());
    let mut at = 0;
    bootd_sdk::fake::mutations(&seeds, 6000, |text| {
        at += 1;
        let (method, path) = &requests[at * 7 % requests.len()];
        let cut = text.len().min(20);
        let odd: String = text.chars().take(cut).filter(|c| *c != '?').collect();
        let path = if at % 5 == 0 {
            format!("{path}/{odd}")
        } else {
            path.clone()
        };
        let query = if at % 3 == 0 { text } else { "" };
        let answer = smd.handle(&Request {
            method: (*method).into(),
            path,
            query: query.into(),
            body: text.into(),
            ..Request::default()
        });
        let answer = answer.unwrap();
        assert!((200..500).contains(&answer.status), "{answer:?}");
    });
    let lists = [
        "/State/Components",
        "/Inventory/RedfishEndpoints",
        "/Inventory/ComponentEndpoints",
        "/Inventory/EthernetInterfaces",
        "/groups",
        "/partitions",
        "/memberships",
    ];
    let before = lists.map(|list| get(&smd, list));
    drop(smd);
    let smd = again(host);
    assert_eq!(lists.map(|list| get(&smd, list)), before);
}

#[test]
fn two_writers_at_once_lose_nothing() {
    let (host, smd) = empty();
    nodes(&smd, &[("x0c0s0b0n0", 1)]);
    assert_eq!(status(&smd, "POST", "/groups", json!({"label": "g"})), 201);
    let smd = Arc::new(smd);
    std::thread::scope(|scope| {
        for writer in 0..4_u32 {
            let smd = Arc::clone(&smd);
            scope.spawn(move || {
                for n in 0..50 {
                    let id = format!("x{}c0s{n}b0n0", writer + 1);
                    let nid = u64::from(writer * 1000 + n);
                    nodes(&smd, &[(&id, nid)]);
                    assert_eq!(status(&smd, "POST", "/groups/g/members", json!({"id": id})), 201);
                }
            });
        }
    });
    assert_eq!(get(&smd, "/groups/g/members")["ids"].as_array().unwrap().len(), 200);
    assert_eq!(host.published().iter().filter(|node| node.groups == ["g"]).count(), 200);
}

#[test]
fn the_openapi_document_has_every_path_and_method_and_no_other() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let mut told: Vec<String> = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let methods = methods.as_object().unwrap().keys().filter(|key| *key != "parameters");
        told.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    let mut served: Vec<String> = Vec::new();
    for place in PLACES {
        served.extend(
            place
                .methods
                .iter()
                .map(|(method, _)| format!("{method} {}", place.path)),
        );
    }
    (told.sort(), served.sort());
    assert_eq!(told, served);
}

#[test]
fn every_route_that_the_host_is_told_of_leads_somewhere_and_only_lists_are_open() {
    let (_host, smd) = empty();
    let open: Vec<&str> = smd
        .setup
        .routes
        .iter()
        .filter(|route| route.access == Access::Open)
        .map(|route| route.prefix.as_str())
        .collect();
    assert_eq!(
        open,
        [
            "/hsm/v2/service",
            "/hsm/v2/openapi.json",
            "/hsm/v2/State/Components",
            "/hsm/v2/Inventory/EthernetInterfaces"
        ]
    );
    assert!(
        smd.setup
            .routes
            .iter()
            .all(|route| route.access != Access::Open || route.method == "GET")
    );
}
