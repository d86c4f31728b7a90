use serde_json::{Value, json};

use super::*;

#[test]
fn a_component_posted_this_second_is_published_this_second_and_survives() {
    let (host, smd) = empty();
    let body = json!({"Components": [{"ID": "X0001000c0s0b0n0", "State": "Ready", "Role": "compute", "Arch": "X86", "NID": 7}]});
    assert_eq!(send(&smd, "POST", "/State/Components", &body.to_string()).status, 204);
    let node = published(host, "x1000c0s0b0n0").unwrap();
    assert_eq!(
        (node.nid, node.role.as_str(), node.state.as_str()),
        (Some(7), "Compute", "Ready")
    );
    let row = json!({"ID": "x1000c0s0b0n0", "Type": "Node", "State": "Ready", "Flag": "OK", "Enabled": true,
        "Role": "Compute", "NID": 7, "Arch": "X86"});
    assert_eq!(get(&smd, "/State/Components/x1000c0s0b0n0"), row);
    drop(smd);
    let smd = again(host);
    assert_eq!(get(&smd, "/State/Components/ByNID/7"), row);
}

#[test]
fn a_component_that_is_there_is_left_untouched_unless_forced() {
    let (_host, smd) = empty();
    nodes(&smd, &[("x0c0s0b0n0", 1)]);
    let other = json!({"ID": "x0c0s0b0n0", "State": "Off", "NID": 9, "Role": "Storage", "Class": "hill"});
    assert_eq!(
        status(&smd, "POST", "/State/Components", json!({"Components": [other]})),
        204
    );
    assert_eq!(get(&smd, "/State/Components/x0c0s0b0n0")["State"], "On");
    assert_eq!(
        status(
            &smd,
            "POST",
            "/State/Components",
            json!({"Components": [other], "Force": true})
        ),
        204
    );
    let row = get(&smd, "/State/Components/x0c0s0b0n0");
    assert_eq!(
        (&row["State"], &row["NID"], &row["Role"], &row["Class"]),
        (&json!("Off"), &json!(1), &json!("Compute"), &json!("Hill"))
    );
}

#[test]
fn a_put_creates_what_is_absent_and_its_keys_come_in_any_case() {
    let (host, smd) = empty();
    let body = json!({"Component": {"ID": "x0c0s1b0n0", "State": "On", "NID": 3}, "Force": true});
    assert_eq!(status(&smd, "PUT", "/State/Components/x0c0s1b0n0", body.clone()), 204);
    assert_eq!(published(host, "x0c0s1b0n0").unwrap().nid, Some(3));
    assert_eq!(refused(&smd, "PUT", "/State/Components/x0c0s2b0n0", body).0, 400);
}

#[test]
fn what_a_component_cannot_be_is_refused_with_its_reason() {
    let (host, smd) = empty();
    let post = |component: Value| refused(&smd, "POST", "/State/Components", json!({"Components": [component]}));
    let invalid = |text: &str| (400, format!("couldn't validate components: {text}"));
    assert_eq!(
        post(json!({"ID": "compute1", "State": "On"})),
        invalid("xname ID 'compute1' is invalid")
    );
    assert_eq!(
        post(json!({"ID": "x0c8s0b0n0", "State": "On"})),
        invalid("xname ID 'x0c8s0b0n0' is invalid")
    );
    assert_eq!(
        post(json!({"ID": "x0c0s0b0n0", "State": "FAKE"})),
        invalid("state 'FAKE' is invalid")
    );
    assert_eq!(post(json!({"ID": "x0c0s0b0n0"})), invalid("state '' is invalid"));
    assert_eq!(
        post(json!({"ID": "x0c0s0b0n0", "State": "On", "Flag": "F"})),
        invalid("flag 'F' is invalid")
    );
    assert_eq!(
        post(json!({"ID": "x0c0s0b0n0", "State": "On", "Class": "C"})),
        invalid("class 'C' is invalid")
    );
    assert_eq!(post(json!({"State": "On"})), (400, "Missing Components".into()));
    // One that is wrong costs all of its request.
    let two = json!({"Components": [{"ID": "x0c0s0b0n0", "State": "On"}, {"ID": "y", "State": "On"}]});
    assert_eq!(status(&smd, "POST", "/State/Components", two), 400);
    assert_eq!(ids(&smd, "/State/Components"), [""; 0]);
    assert_eq!(host.published(), []);
}

#[test]
fn a_node_gets_a_nid_and_a_role_when_nothing_is_said_and_a_bmc_does_not() {
    let (_host, smd) = empty();
    let body = json!({"Components": [{"ID": "x1c0s0b0n1", "State": "On"}, {"ID": "x1c0s0b0", "State": "On"},
        {"ID": "x1c0s0b0n2", "State": "On", "NID": -1}]});
    assert_eq!(status(&smd, "POST", "/State/Components", body), 204);
    let row = get(&smd, "/State/Components/x1c0s0b0n1");
    assert_eq!((&row["NID"], &row["Role"]), (&json!(32769), &json!("Compute")));
    let bmc = get(&smd, "/State/Components/x1c0s0b0");
    assert!(bmc.get("NID").is_none() && bmc.get("Role").is_none(), "{bmc}");
    assert!(get(&smd, "/State/Components/x1c0s0b0n2").get("NID").is_none());
}

#[test]
fn every_filter_shows_its_components_and_refuses_what_its_field_cannot_have() {
    let (_host, smd) = empty();
    nodes(&smd, &[("x0c0s0b0n0", 1), ("x0c0s1b0n0", 2), ("x0c0s2b0n0", 30)]);
    assert_eq!(
        status(
            &smd,
            "PATCH",
            "/State/Components/x0c0s1b0n0/Role",
            json!({"Role": "storage", "SubRole": "worker"})
        ),
        204
    );
    assert_eq!(
        status(
            &smd,
            "POST",
            "/partitions",
            json!({"name": "p1", "members": {"ids": ["x0c0s2b0n0"]}})
        ),
        201
    );
    for (query, expected) in [
        ("nid_start=2", vec!["x0c0s1b0n0", "x0c0s2b0n0"]),
        ("NID_START=2&nid_end=29", vec!["x0c0s1b0n0"]),
        ("subrole=Worker", vec!["x0c0s1b0n0"]),
        ("role=!Storage", vec!["x0c0s0b0n0", "x0c0s2b0n0"]),
        ("partition=p1", vec!["x0c0s2b0n0"]),
        ("partition=NULL", vec!["x0c0s0b0n0", "x0c0s1b0n0"]),
        (
            "flag=ok&enabled=1&locked=false",
            vec!["x0c0s0b0n0", "x0c0s1b0n0", "x0c0s2b0n0"],
        ),
        ("class=Hill", vec![]),
    ] {
        assert_eq!(ids(&smd, &format!("/State/Components?{query}")), expected, "{query}");
    }
    for (query, what) in [
        ("type=Foo", "Argument was not a valid HMS Type"),
        ("id=a", "Argument was not a valid xname ID"),
        ("state=x", "Argument was not a valid HMS State"),
        ("nid=x", "a required argument was not an integer"),
        ("enabled=perhaps", "Argument did not match any valid input"),
    ] {
        let answer = refused(&smd, "GET", &format!("/State/Components?{query}"), Value::Null);
        assert_eq!(answer, (400, format!("bad query param: {what}")));
    }
    let row = &get(&smd, "/State/Components?nid=2&stateonly=True&nidonly=true")["Components"][0];
    assert_eq!(
        *row,
        json!({"ID": "x0c0s1b0n0", "Type": "Node", "State": "On", "Flag": "OK", "NID": 2})
    );
}

#[test]
fn queries_find_by_ids_by_what_lies_below_and_by_ranges_of_nids() {
    let (_host, smd) = empty();
    nodes(&smd, &[("x1c0s0b0n0", 1), ("x1c0s1b0n0", 2), ("x10c0s0b0n0", 3)]);
    let query = |path: &str, body: Value| {
        let answer = send(&smd, "POST", path, &body.to_string());
        let list: Value = serde_json::from_str(&answer.body).unwrap();
        (answer.status, list["Components"].as_array().map_or(0, Vec::len))
    };
    let all = json!({"ComponentIDs": ["X1c0s0b0n0", "x1c0s1b0n0", "x9"], "type": ["node"], "nid_end": 1});
    assert_eq!(query("/State/Components/Query", all), (200, 1));
    assert_eq!(query("/State/Components/Query", json!({})).0, 400);
    assert_eq!(
        query("/State/Components/ByNID/Query", json!({"NIDRanges": ["1-2", "7"]})),
        (200, 2)
    );
    assert_eq!(
        query("/State/Components/ByNID/Query", json!({"NIDRanges": ["1-x"]})).0,
        400
    );
    assert_eq!(
        query(
            "/State/Components/ByNID/Query",
            json!({"NIDRanges": ["5-1", "0-18446744073709551615"]})
        ),
        (200, 3)
    );
    assert_eq!(ids(&smd, "/State/Components/Query/x1c0"), ["x1c0s0b0n0", "x1c0s1b0n0"]);
    assert_eq!(ids(&smd, "/State/Components/Query/s0").len(), 3);
}

#[test]
fn one_field_is_changed_for_one_or_for_many_and_unknown_ones_are_left_out() {
    let (host, smd) = empty();
    nodes(&smd, &[("x0c0s0b0n0", 1), ("x0c0s1b0n0", 2)]);
    let both = json!(["x0c0s0b0n0", "x0c0s1b0n0", "x0c0s9b0n0"]);
    let patch = |path: &str, body: Value| status(&smd, "PATCH", &format!("/State/Components/{path}"), body);
    assert_eq!(
        patch("BulkStateData", json!({"ComponentIDs": both, "State": "Off"})),
        204
    );
    assert_eq!(patch("x0c0s0b0n0/StateData", json!({"State": "Ready"})), 204);
    assert_eq!(
        patch("BulkStateData", json!({"ComponentIDs": both, "State": "Standby"})),
        204
    );
    assert_eq!(get(&smd, "/State/Components/x0c0s0b0n0")["State"], "Standby");
    assert_eq!(
        get(&smd, "/State/Components/x0c0s1b0n0")["State"],
        "Off",
        "not from Off, so skipped"
    );
    assert_eq!(patch("x0c0s0b0n0/StateData", json!({"State": "Empty"})), 400);
    assert_eq!(
        patch("x0c0s0b0n0/StateData", json!({"State": "Empty", "Force": true})),
        204
    );
    assert_eq!(
        patch("BulkFlagOnly", json!({"ComponentIDs": both, "Flag": "alert"})),
        204
    );
    assert_eq!(
        patch("BulkEnabled", json!({"ComponentIDs": both, "Enabled": false})),
        204
    );
    assert_eq!(
        patch(
            "BulkSoftwareStatus",
            json!({"ComponentIDs": both, "SoftwareStatus": "s"})
        ),
        204
    );
    assert_eq!(patch("BulkRole", json!({"ComponentIDs": both, "Role": "Service"})), 204);
    let nids = json!({"Components": [{"ID": "x0c0s0b0n0", "Type": "", "NID": 11}, {"ID": "x0c0s1b0n0", "NID": -1}]});
    assert_eq!(patch("BulkNID", nids), 204);
    let expected = json!({"ID": "x0c0s0b0n0", "Type": "Node", "State": "Empty", "Flag": "Alert", "Enabled": false,
        "SoftwareStatus": "s", "Role": "Service", "NID": 11});
    assert_eq!(get(&smd, "/State/Components/x0c0s0b0n0"), expected);
    assert_eq!(published(host, "x0c0s1b0n0").unwrap().nid, None);
    assert_eq!(send(&smd, "GET", "/State/Components/ByNID/2", "").status, 404);
    for (path, body, detail) in [
        ("x0c0s0b0n0/FlagOnly", json!({}), "Missing Flag"),
        ("x0c0s0b0n0/NID", json!({}), "NID value missing.  Use NID < 0 to unset."),
        ("nobody/Role", json!({"Role": "Compute"}), "invalid xname ID"),
        ("x0c0s0b0n0/Role", json!({"Role": "Cook"}), "role 'Cook' is invalid"),
        (
            "x0c0s0b0n0/Enabled",
            json!({"ID": "x0c0s1b0n0", "Enabled": true}),
            "xname in URL and body do not match",
        ),
    ] {
        let answer = refused(&smd, "PATCH", &format!("/State/Components/{path}"), body);
        assert_eq!(answer, (400, detail.to_owned()));
    }
}

#[test]
fn a_deleted_component_leaves_the_inventory_and_its_groups_but_not_its_interfaces() {
    let (host, smd) = empty();
    nodes(&smd, &[("x0c0s0b0n0", 1), ("x0c0s1b0n0", 2)]);
    assert_eq!(
        status(
            &smd,
            "POST",
            "/groups",
            json!({"label": "g", "members": {"ids": ["x0c0s0b0n0"]}})
        ),
        201
    );
    let interface = json!({"MACAddress": "52:54:00:be:ef:01", "ComponentID": "x0c0s0b0n0"});
    assert_eq!(status(&smd, "POST", "/Inventory/EthernetInterfaces", interface), 201);
    let answer = send(&smd, "DELETE", "/State/Components/x0c0s0b0n0", "");
    assert_eq!(answer.body, r#"{"code":0,"message":"deleted 1 entry"}"#);
    assert_eq!(published(host, "x0c0s0b0n0"), None);
    assert_eq!(get(&smd, "/groups/g/members"), json!({"ids": []}));
    assert_eq!(get(&smd, "/Inventory/EthernetInterfaces").as_array().unwrap().len(), 1);
    assert_eq!(
        refused(&smd, "DELETE", "/State/Components/x0c0s0b0n0", Value::Null).0,
        404
    );
    assert_eq!(
        refused(&smd, "DELETE", "/State/Components/nobody", Value::Null),
        (400, "invalid xname".into())
    );
    let answer = send(&smd, "DELETE", "/State/Components", "");
    assert_eq!(answer.body, r#"{"code":0,"message":"deleted 1 entry"}"#);
    assert_eq!(
        refused(&smd, "DELETE", "/State/Components", Value::Null),
        (404, "no entries to delete".into())
    );
    assert_eq!(host.published(), []);
}

#[test]
fn what_the_inventory_refuses_is_stored_told_and_tried_again() {
    let (host, smd) = empty();
    host.refuse("x0c0s0b0n0", "NID 1 is x9's already");
    let body = json!({"Components": [{"ID": "x0c0s0b0n0", "State": "On", "NID": 1}]});
    let answer = send(&smd, "POST", "/State/Components", &body.to_string());
    assert_eq!(answer.status, 204);
    assert!(
        answer
            .headers
            .iter()
            .any(|(name, text)| name == "warning" && text.contains("x9's already")),
        "{answer:?}"
    );
    assert_eq!(get(&smd, "/State/Components/x0c0s0b0n0")["NID"], 1);
    assert_eq!(
        host.health().mistakes[0].text,
        "x0c0s0b0n0 is kept but not served: NID 1 is x9's already"
    );
    host.accept("x0c0s0b0n0");
    host.sleeps(1);
    assert!(smd.run());
    assert!(published(host, "x0c0s0b0n0").is_some());
    assert_eq!(host.health().mistakes, []);
}

#[test]
fn paths_and_methods_that_are_not_there_are_told_apart() {
    let (_host, smd) = empty();
    let answer = send(&smd, "PUT", "/State/Components", "");
    assert_eq!(answer.status, 405);
    assert!(
        answer.headers.contains(&("allow".into(), "GET, POST, DELETE".into())),
        "{answer:?}"
    );
    assert!(
        answer.body.contains(r#""detail":"allow GET,POST,DELETE""#),
        "{answer:?}"
    );
    for path in [
        "/nothing",
        "/State",
        "/groups/a/b",
        "/Inventory/Hardware",
        "/locks/status",
    ] {
        let answer = send(&smd, "GET", path, "");
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (404, "404 page not found\n"),
            "{path}"
        );
    }
    assert_eq!(get(&smd, "/service/values/")["NetType"][0], "Sling");
    assert_eq!(get(&smd, "/service/values/role")["Role"][0], "Compute");
    assert_eq!(send(&smd, "GET", "/service/liveness", "").status, 204);
}
