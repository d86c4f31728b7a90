use serde_json::{Value, json};

use super::*;

const LIST: &str = "/Inventory/EthernetInterfaces";

#[test]
fn a_mac_in_any_of_four_spellings_is_the_same_interface() {
    let (_host, smd) = empty();
    for (at, mac) in [
        "52:54:00:BE:EF:01",
        "52-54-00-be-ef-01",
        "5254.00be.ef01",
        "525400beef01",
    ]
    .iter()
    .enumerate()
    {
        let answer = send(&smd, "POST", LIST, &json!({"MACAddress": mac}).to_string());
        if at == 0 {
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (201, r#"{"URI":"/hsm/v2/Inventory/EthernetInterfaces/525400beef01"}"#)
            );
        } else {
            assert_eq!(answer.status, 409, "{mac}");
        }
    }
    let row = get(&smd, &format!("{LIST}/525400BEEF01"));
    assert_eq!(
        (&row["ID"], &row["MACAddress"]),
        (&json!("525400beef01"), &json!("52:54:00:be:ef:01"))
    );
    assert_eq!(row["LastUpdate"], "2023-11-14T22:13:20Z");
}

#[test]
fn an_interface_boots_its_component_whichever_comes_first() {
    let (host, smd) = empty();
    let interface = json!({"ID": "", "ComponentID": "x0c0s0b0n0", "Type": "", "Description": "d", "MACAddress": "52:54:00:be:ef:01",
        "IPAddresses": [{"IPAddress": "172.16.0.1", "Network": "management"}]});
    assert_eq!(status(&smd, "POST", LIST, interface), 201);
    assert_eq!(host.published(), []);
    nodes(&smd, &[("x0c0s0b0n0", 1)]);
    let mac: Mac = "52:54:00:be:ef:01".parse().unwrap();
    assert_eq!(published(host, "x0c0s0b0n0").unwrap().interfaces[0].mac, mac);
    assert_eq!(smd.resolve(mac).unwrap().id, "x0c0s0b0n0");
    assert_eq!(
        status(
            &smd,
            "PATCH",
            &format!("{LIST}/525400beef01"),
            json!({"ComponentID": ""})
        ),
        200
    );
    assert_eq!(published(host, "x0c0s0b0n0").unwrap().interfaces, []);
    assert_eq!(smd.resolve(mac), None);
}

#[test]
fn addresses_come_and_go_and_the_node_with_them() {
    let (host, smd) = empty();
    nodes(&smd, &[("x0c0s0b0n0", 1)]);
    assert_eq!(
        status(
            &smd,
            "POST",
            LIST,
            json!({"ComponentID": "x0c0s0b0n0", "MACAddress": "52:54:00:be:ef:01"})
        ),
        201
    );
    let list = format!("{LIST}/525400beef01/IPAddresses");
    let answer = send(&smd, "POST", &list, r#"{"IPAddress":"172.16.0.1","Network":"a"}"#);
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (
            201,
            r#"{"URI":"/hsm/v2/Inventory/EthernetInterfaces/525400beef01/IPAddresses/172.16.0.1"}"#
        )
    );
    assert_eq!(status(&smd, "POST", &list, json!({"IPAddress": "172.16.0.1"})), 409);
    assert_eq!(status(&smd, "POST", &list, json!({"IPAddress": ""})), 400);
    assert_eq!(
        status(&smd, "PATCH", &format!("{list}/172.16.0.1"), json!({"Network": "b"})),
        200
    );
    assert_eq!(get(&smd, &list), json!([{"IPAddress": "172.16.0.1", "Network": "b"}]));
    assert_eq!(published(host, "x0c0s0b0n0").unwrap().interfaces[0].ips[0].network, "b");
    assert_eq!(status(&smd, "DELETE", &format!("{list}/172.16.0.2"), Value::Null), 404);
    assert_eq!(status(&smd, "DELETE", &format!("{list}/172.16.0.1"), Value::Null), 200);
    assert_eq!(published(host, "x0c0s0b0n0").unwrap().interfaces[0].ips, []);
    assert_eq!(
        status(&smd, "GET", &format!("{LIST}/525400beef02/IPAddresses"), Value::Null),
        404
    );
}

#[test]
fn a_patch_changes_what_it_says_and_answers_with_the_whole() {
    let (_host, smd) = empty();
    let row =
        json!({"MACAddress": "52:54:00:be:ef:01", "Description": "a", "IPAddresses": [{"IPAddress": "10.0.0.1"}]});
    assert_eq!(status(&smd, "POST", LIST, row), 201);
    let path = format!("{LIST}/525400beef01");
    let answer = send(&smd, "PATCH", &path, r#"{"description":"b"}"#);
    let row: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        (answer.status, &row["Description"], &row["IPAddresses"][0]["IPAddress"]),
        (200, &json!("b"), &json!("10.0.0.1"))
    );
    assert_eq!(status(&smd, "PATCH", &path, json!({"IPAddresses": []})), 200);
    assert_eq!(get(&smd, &path)["IPAddresses"], json!([]));
    assert_eq!(
        refused(&smd, "PATCH", &path, json!({})),
        (400, "Request must have at least one patch field.".into())
    );
    assert_eq!(
        refused(
            &smd,
            "PATCH",
            &format!("{LIST}/525400beef09"),
            json!({"Description": ""})
        )
        .0,
        404
    );
}

#[test]
fn what_an_interface_cannot_be_is_refused() {
    let (_host, smd) = empty();
    for (body, detail) in [
        (json!({"MACAddress": ""}), "''"),
        (json!({"MACAddress": "52:54"}), "'52:54'"),
        (
            json!({"MACAddress": "525400beef01", "ComponentID": "x"}),
            "Invalid CompID.",
        ),
        (
            json!({"MACAddress": "525400beef01", "IPAddresses": [{"IPAddress": ""}]}),
            "Invalid CompEthInterface IP Address",
        ),
        (
            json!({"MACAddress": "525400beef01", "Description": "a\u{7}"}),
            "control characters",
        ),
    ] {
        let (status, text) = refused(&smd, "POST", LIST, body);
        assert!(status == 400 && text.contains(detail), "{status} {text}");
    }
    for (query, detail) in [
        ("ComponentID=y", "Invalid CompID."),
        ("Type=y", "Invalid HMS type."),
        ("OlderThan=y", "Invalid time"),
    ] {
        let (status, text) = refused(&smd, "GET", &format!("{LIST}?{query}"), Value::Null);
        assert!(status == 400 && text.contains(detail), "{status} {text}");
    }
    assert_eq!(
        get(
            &smd,
            &format!("{LIST}?MACAddress=&IPAddress=&Network=&ComponentID=&Type=&OlderThan=&NewerThan=")
        ),
        json!([])
    );
    assert_eq!(
        refused(&smd, "GET", &format!("{LIST}/0001"), Value::Null),
        (404, "No such component ethernet interface: 0001".into())
    );
    assert_eq!(
        refused(&smd, "DELETE", &format!("{LIST}/0001"), Value::Null),
        (404, "no such component ethernet interface.".into())
    );
    assert_eq!(
        refused(&smd, "DELETE", LIST, Value::Null),
        (404, "no entries to delete".into())
    );
}
