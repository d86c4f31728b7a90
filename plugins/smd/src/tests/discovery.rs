use serde_json::{Value, json};

use super::*;

const RFES: &str = "/Inventory/RedfishEndpoints";

/// What `ochami discover static` posts for a BMC with one node.
fn endpoint(bmc: &str, name: &str, last: &str) -> Value {
    json!({
        "ID": bmc, "Type": "NodeBMC", "Name": name, "MACAddr": format!("de:ca:fc:0f:fe:{last}"), "IPAddress": "172.16.0.101",
        "UUID": "8d5b6a0e-0000-4000-8000-000000000001", "DiscoveryInfo": {"LastAttempt": "0001-01-01T00:00:00Z"}, "SchemaVersion": 1,
        "Systems": [{"uri": format!("https://demo/redfish/v1/Systems/{bmc}n0"), "uuid": "8d5b6a0e-0000-4000-8000-000000000002", "name": name,
            "ethernet_interfaces": [{"mac": format!("52:54:00:be:ef:{last}"), "ip": "172.16.0.1", "name": format!("{bmc}n0"),
                "description": format!("Interface 0 for {name}")}],
            "actions": ["On", "ForceOff"]}],
        "Managers": [{"uri": format!("https://demo/redfish/v1/Managers/{bmc}"), "uuid": "8d5b6a0e-0000-4000-8000-000000000001", "name": bmc,
            "ethernet_interfaces": [{"mac": format!("de:ca:fc:0f:fe:{last}"), "ip": "172.16.0.101", "name": bmc,
                "description": format!("Interface for BMC {bmc}")}],
            "actions": null, "description": "", "type": "NodeBMC"}]
    })
}

#[test]
fn a_static_discovery_leaves_what_the_contract_says() {
    let (host, smd) = empty();
    nodes(&smd, &[("x1000c0s0b0n0", 1)]);
    let answer = send(
        &smd,
        "POST",
        RFES,
        &endpoint("x1000c0s0b0", "compute1", "01").to_string(),
    );
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (201, r#"[{"URI":"/hsm/v2/Inventory/RedfishEndpoints/x1000c0s0b0"}]"#)
    );
    let group = json!({"label": "compute", "description": "The compute group", "members": {"ids": ["x1000c0s0b0n0"]}});
    assert_eq!(status(&smd, "POST", "/groups", group), 201);
    assert_eq!(
        get(&smd, "/State/Components"),
        json!({"Components": [
            {"ID": "x1000c0s0b0", "Type": "NodeBMC", "Enabled": true},
            {"ID": "x1000c0s0b0n0", "Type": "Node", "State": "On", "Enabled": true, "Role": "Compute", "NID": 1},
        ]})
    );
    let list = get(&smd, "/Inventory/EthernetInterfaces");
    assert_eq!(
        list[1],
        json!({"ID": "525400beef01", "Description": "Interface 0 for compute1", "MACAddress": "52:54:00:be:ef:01",
        "LastUpdate": "2023-11-14T22:13:20Z", "ComponentID": "x1000c0s0b0n0", "Type": "Node", "IPAddresses": [{"IPAddress": "172.16.0.1"}]})
    );
    assert_eq!(
        (list[0]["Type"].as_str(), list.as_array().unwrap().len()),
        (Some("NodeBMC"), 2)
    );
    let rfe = get(&smd, &format!("{RFES}/x1000c0s0b0"));
    assert_eq!(
        (&rfe["FQDN"], &rfe["Type"], &rfe["Enabled"], &rfe["Password"]),
        (&json!("x1000c0s0b0"), &json!("NodeBMC"), &json!(true), &json!(""))
    );
    let compep = get(&smd, "/Inventory/ComponentEndpoints/x1000c0s0b0n0");
    assert_eq!(
        compep,
        json!({
        "ID": "x1000c0s0b0n0", "Type": "Node", "RedfishType": "ComputerSystem", "MACAddr": "52:54:00:be:ef:01",
        "UUID": "8d5b6a0e-0000-4000-8000-000000000002", "OdataID": "/redfish/v1/Systems/x1000c0s0b0n0", "RedfishEndpointID": "x1000c0s0b0",
        "Enabled": true, "RedfishEndpointFQDN": "x1000c0s0b0", "RedfishURL": "/redfish/v1/Systems/x1000c0s0b0n0",
        "ComponentEndpointType": "ComponentEndpointComputerSystem",
        "RedfishSystemInfo": {"Name": "compute1", "Actions": {"#ComputerSystem.Reset": {
            "ResetType@Redfish.AllowableValues": ["On", "ForceOff"],
            "@Redfish.ActionInfo": "/redfish/v1/Systems/x1000c0s0b0n0/ResetActionInfo",
            "target": "/redfish/v1/Systems/x1000c0s0b0n0/Actions/ComputerSystem.Reset"}},
            "EthernetNICInfo": [{"Description": "Interface 0 for compute1", "InterfaceEnabled": true, "MACAddress": "52:54:00:be:ef:01"}]}})
    );
    assert_eq!(
        get(&smd, "/Inventory/ComponentEndpoints?type=Node&redfish_ep=x1000c0s0b0")["ComponentEndpoints"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let node = published(host, "x1000c0s0b0n0").unwrap();
    assert_eq!(
        (node.name.as_str(), node.groups.as_slice(), node.interfaces.len()),
        ("compute1", ["compute".to_owned()].as_slice(), 1)
    );
    assert_eq!(
        refused(&smd, "POST", RFES, endpoint("x1000c0s0b0", "compute1", "01")).0,
        409
    );
    let before = (
        get(&smd, "/State/Components"),
        get(&smd, "/Inventory/ComponentEndpoints"),
        list,
    );
    drop(smd);
    let smd = again(host);
    let after = (
        get(&smd, "/State/Components"),
        get(&smd, "/Inventory/ComponentEndpoints"),
        get(&smd, "/Inventory/EthernetInterfaces"),
    );
    assert_eq!(after, before, "after a restart");
}

#[test]
fn an_overwriting_discovery_replaces_what_it_brought() {
    let (_host, smd) = empty();
    assert_eq!(status(&smd, "POST", RFES, endpoint("x1000c0s0b0", "a", "01")), 201);
    let answer = send(
        &smd,
        "PUT",
        &format!("{RFES}/x1000c0s0b0"),
        &endpoint("x1000c0s0b0", "b", "02").to_string(),
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    let macs: Vec<Value> = get(&smd, "/Inventory/EthernetInterfaces")
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["MACAddress"].clone())
        .collect();
    assert_eq!(macs, ["de:ca:fc:0f:fe:02", "52:54:00:be:ef:02"]);
    assert_eq!(get(&smd, &format!("{RFES}/x1000c0s0b0"))["Name"], "b");
    assert_eq!(
        status(
            &smd,
            "PUT",
            &format!("{RFES}/x1000c0s1b0"),
            json!({"ID": "x1000c0s1b0"})
        ),
        200
    );
    assert_eq!(
        refused(
            &smd,
            "PUT",
            &format!("{RFES}/x1000c0s1b0"),
            json!({"ID": "x1000c0s2b0"})
        ),
        (400, "xname in URL and PUT body do not match".into())
    );
}

#[test]
fn what_magellan_finds_on_real_controllers_is_taken() {
    let (host, smd) = empty();
    let body = json!({"ID": "x1c0s0b0", "Type": "", "Name": "", "FQDN": "10.0.0.5:5000", "User": "root", "Password": "s3cret", "MACRequired": true,
        "RediscoverOnUpdate": false, "SchemaVersion": 1, "Managers": [],
        "Systems": [
            {"uri": "/redfish/v1/Systems/1", "uuid": "u1", "name": "view"},
            {"uri": "https://10.0.0.5/redfish/v1/Systems/System.1", "uuid": "u1", "name": "n", "power": {"power_control_ids": ["1"]},
                "serial_console": {"impi": {"port": 1}}, "ethernet_interfaces": [
                    {"uri": "/nic/1", "mac": "A4-BF-01-00-00-01", "enabled": true},
                    {"mac": "ff-ff-ff-ff-ff-ff"}, {"mac": ""}, {"mac": null, "ip": null}]},
            {"uri": "/redfish/v1/Systems/2", "uuid": "u2"}]});
    assert_eq!(status(&smd, "POST", RFES, body), 201);
    assert_eq!(ids(&smd, "/State/Components"), ["x1c0s0b0", "x1c0s0b0n0", "x1c0s0b0n1"]);
    let row = &get(&smd, "/Inventory/EthernetInterfaces")[0];
    assert_eq!(
        (&row["MACAddress"], &row["IPAddresses"]),
        (&json!("a4:bf:01:00:00:01"), &json!([]))
    );
    assert_eq!(
        get(&smd, "/Inventory/ComponentEndpoints/x1c0s0b0n0")["OdataID"],
        "/redfish/v1/Systems/System.1"
    );
    assert_eq!(get(&smd, &format!("{RFES}/x1c0s0b0"))["Hostname"], "10.0.0.5");
    let second =
        json!({"ID": "x1c0s1b0", "SchemaVersion": 1, "Systems": [{"uri": "/redfish/v1/Systems/1", "uuid": "u3"}]});
    assert_eq!(status(&smd, "POST", RFES, second), 201);
    let nid = |id: &str| published(host, id).unwrap().nid;
    assert_eq!(
        (nid("x1c0s0b0n0"), nid("x1c0s0b0n1"), nid("x1c0s1b0n0")),
        (Some(1), Some(2), Some(2 * 16384 + 32))
    );
    let all = format!(
        "{:?}{}{}",
        host.stored(),
        get(&smd, RFES),
        send(&smd, "GET", "/bootd/v1/export/smd", "").body
    );
    assert!(
        all.contains("root") && !all.contains("s3cret"),
        "passwords are kept nowhere"
    );
}

#[test]
fn a_node_is_the_one_that_its_uri_names_or_else_counted() {
    let (_host, smd) = empty();
    let system = |uri: &str, uuid: &str| json!({"uri": uri, "uuid": uuid});
    let body = json!({"ID": "x1c0s0b0", "SchemaVersion": 1, "Systems": [system("/redfish/v1/Systems/x1c0s0b0n3", "a"), system("/redfish/v1/Systems/x9c0s0b0n0", "b")]});
    assert_eq!(status(&smd, "POST", RFES, body), 201);
    assert_eq!(ids(&smd, "/State/Components?type=Node"), ["x1c0s0b0n1", "x1c0s0b0n3"]);
}

#[test]
fn an_interface_that_a_discovery_brought_takes_more_addresses_of_its_own_node() {
    let (_host, smd) = empty();
    assert_eq!(status(&smd, "POST", RFES, endpoint("x1000c0s0b0", "a", "01")), 201);
    let post = |owner: &str, ips: &[&str]| {
        let ips: Vec<Value> = ips
            .iter()
            .map(|ip| json!({"IPAddress": ip, "Network": "management"}))
            .collect();
        let body =
            json!({"ComponentID": owner, "MACAddress": "52:54:00:be:ef:01", "Description": "d", "IPAddresses": ips});
        status(&smd, "POST", "/Inventory/EthernetInterfaces", body)
    };
    assert_eq!(post("x1000c0s0b0", &["172.16.0.1"]), 409);
    assert_eq!(post("x1000c0s0b0n0", &["172.16.0.9"]), 409);
    assert_eq!(post("x1000c0s0b0n0", &["172.16.0.1", "10.0.0.1"]), 201);
    assert_eq!(
        post("x1000c0s0b0n0", &["172.16.0.1", "10.0.0.1"]),
        409,
        "now it is a client's"
    );
}

#[test]
fn what_an_endpoint_cannot_be_is_refused() {
    let (_host, smd) = empty();
    let invalid = |text: &str| (400, format!("couldn't validate endpoint data: {text}"));
    for (body, text) in [
        (json!({"ID": "compute1"}), "compute1 is not a valid locational xname ID"),
        (
            json!({"ID": "x1c0s0b0n0"}),
            "xname ID x1c0s0b0n0 has wrong type for RF endpoint: Node",
        ),
        (
            json!({"ID": "x1c0s0b0", "Hostname": "a.b"}),
            "Hostname is not a basename or IP address.",
        ),
        (
            json!({"ID": "x1c0s0b0", "Hostname": "a", "Domain": "b", "FQDN": "a.c"}),
            "host/domain conflicts with FQDN: 'a.b' != 'a.c'",
        ),
        (
            json!({"ID": "x1c0s0b0", "IPAddress": "300.0.0.1"}),
            "IPAddress '300.0.0.1' is not valid",
        ),
    ] {
        assert_eq!(refused(&smd, "POST", RFES, body), invalid(text));
    }
    assert_eq!(
        status(&smd, "POST", RFES, json!({"ID": "x1c0s0b0", "FQDN": "bmc.site"})),
        201
    );
    assert_eq!(
        refused(&smd, "POST", RFES, json!({"ID": "x1c0s1b0", "FQDN": "bmc.site"})).0,
        409
    );
    assert_eq!(
        refused(&smd, "GET", &format!("{RFES}?type=x"), Value::Null),
        (400, "bad query param: Argument was not a valid HMS Type".into())
    );
    assert_eq!(
        refused(&smd, "GET", &format!("{RFES}/x"), Value::Null),
        (404, "no such xname.".into())
    );
    assert_eq!(
        refused(&smd, "PATCH", &format!("{RFES}/x1c0s1b0"), json!({"Name": "n"})),
        (404, "No such entry: x1c0s1b0".into())
    );
    assert_eq!(
        refused(&smd, "DELETE", &format!("{RFES}/x"), Value::Null),
        (400, "Argument was not a valid xname ID".into())
    );
    assert_eq!(
        refused(&smd, "GET", &format!("{RFES}/Query/x1"), Value::Null),
        (400, "not yet implemented".into())
    );
}

#[test]
fn endpoints_come_as_a_list_are_patched_filtered_and_deleted_with_what_they_manage() {
    let (_host, smd) = empty();
    let many = json!({"RedfishEndpoints": [{"ID": "x1c0s0b0", "MACAddr": "A4-BF-01-00-00-01"}, {"ID": "x1c0s1b0"}]});
    let answer = send(&smd, "POST", RFES, &many.to_string());
    assert_eq!(answer.status, 201);
    assert!(
        answer
            .headers
            .contains(&("location".into(), "/hsm/v2/Inventory/RedfishEndpoints".into()))
    );
    assert_eq!(ids(&smd, "/State/Components"), [""; 0], "a list derives nothing");
    let found = |query: &str| {
        get(&smd, &format!("{RFES}?{query}"))["RedfishEndpoints"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(
        (
            found("macaddr=a4bf01000001"),
            found("id=x1c0s1b0&type=NodeBMC"),
            found("fqdn=x1c0s0b0&fqdn=x1c0s1b0"),
            found("uuid=")
        ),
        (1, 1, 2, 2)
    );
    let answer = send(
        &smd,
        "PATCH",
        &format!("{RFES}/x1c0s0b0"),
        r#"{"Name":"n","Enabled":false}"#,
    );
    assert!(
        answer.status == 200 && answer.body.contains(r#""Enabled":false"#),
        "{answer:?}"
    );
    assert_eq!(status(&smd, "POST", RFES, endpoint("x1000c0s0b0", "a", "01")), 201);
    assert_eq!(status(&smd, "DELETE", &format!("{RFES}/x1000c0s0b0"), Value::Null), 200);
    let row = get(&smd, "/State/Components/x1000c0s0b0n0");
    assert_eq!((&row["State"], &row["Flag"]), (&json!("Empty"), &json!("OK")));
    assert_eq!(
        get(&smd, "/Inventory/ComponentEndpoints"),
        json!({"ComponentEndpoints": []})
    );
    assert_eq!(
        send(&smd, "DELETE", RFES, "").body,
        r#"{"code":0,"message":"deleted 2 entries"}"#
    );
    assert_eq!(
        status(&smd, "DELETE", "/Inventory/ComponentEndpoints", Value::Null),
        404
    );
}

#[test]
fn a_pdu_brings_its_outlets() {
    let (_host, smd) = empty();
    let body = json!({"ID": "x3000m0", "Type": "Node", "FQDN": "x3000m0", "Hostname": "x3000m0", "Enabled": true, "PDUInventory":
        {"Outlets": [{"original_id": "A1", "id_suffix": "p0v1", "name": "o", "state": "On", "socket_type": "C13"}]}});
    assert_eq!(status(&smd, "POST", RFES, body), 201);
    let row = get(&smd, "/State/Components?id=x3000m0p0v1");
    assert_eq!(
        row["Components"][0],
        json!({"ID": "x3000m0p0v1", "Type": "CabinetPDUPowerConnector", "State": "On", "Enabled": true})
    );
    assert_eq!(get(&smd, "/State/Components/x3000m0")["State"], "On");
}

/// Who has which interface with which address.
fn interfaces(smd: &Instance) -> Vec<String> {
    let list = get(smd, "/Inventory/EthernetInterfaces");
    let row = |row: &Value| {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let ip = row["IPAddresses"][0]["IPAddress"].as_str().unwrap_or_default();
        format!("{} {} {ip}", text("ComponentID"), text("MACAddress"))
    };
    let rows = list.as_array().unwrap().iter().map(row);
    rows.filter(|row| row.contains("n0 ")).collect()
}

#[test]
fn boards_that_changed_places_have_their_interfaces_after_one_overwriting_discovery() {
    let (_host, smd) = empty();
    nodes(&smd, &[("x1000c0s0b0n0", 1), ("x1000c0s0b1n0", 2)]);
    let with = |bmc: &str, last: &str, mac: &str, ip: &str| {
        let mut endpoint = endpoint(bmc, bmc, last);
        let nic = &mut endpoint["Systems"][0]["ethernet_interfaces"][0];
        (nic["mac"], nic["ip"]) = (mac.into(), ip.into());
        endpoint
    };
    let (one, two) = ("52:54:00:be:ef:01", "52:54:00:be:ef:02");
    for (bmc, last, mac, ip) in [
        ("x1000c0s0b0", "01", one, "172.16.0.1"),
        ("x1000c0s0b1", "02", two, "172.16.0.2"),
    ] {
        assert_eq!(status(&smd, "POST", RFES, with(bmc, last, mac, ip)), 201);
    }
    for (bmc, last, mac, ip) in [
        ("x1000c0s0b0", "01", two, "172.16.0.1"),
        ("x1000c0s0b1", "02", one, "172.16.0.2"),
    ] {
        let swapped = with(bmc, last, mac, ip);
        assert_eq!(status(&smd, "POST", RFES, swapped.clone()), 409);
        assert_eq!(status(&smd, "PUT", &format!("{RFES}/{bmc}"), swapped), 200);
    }
    assert_eq!(
        interfaces(&smd),
        [
            "x1000c0s0b0n0 52:54:00:be:ef:02 172.16.0.1",
            "x1000c0s0b1n0 52:54:00:be:ef:01 172.16.0.2"
        ]
    );
}

#[test]
fn a_new_endpoint_may_not_take_a_nodes_interface_from_another_and_is_refused_whole() {
    let (_host, smd) = empty();
    nodes(&smd, &[("x1000c0s0b0n0", 1), ("x1000c0s0b1n0", 2)]);
    assert_eq!(
        status(&smd, "POST", RFES, endpoint("x1000c0s0b0", "compute1", "01")),
        201
    );
    let mut wrong = endpoint("x1000c0s0b1", "compute2", "02");
    wrong["Systems"][0]["ethernet_interfaces"][0]["mac"] = "52:54:00:be:ef:01".into();
    let answer = send(&smd, "POST", RFES, &wrong.to_string());
    assert_eq!(answer.status, 409);
    let told = "the interface 52:54:00:be:ef:01 of x1000c0s0b1n0 is x1000c0s0b0n0's already";
    assert!(answer.body.contains(told), "{}", answer.body);
    assert_eq!(status(&smd, "GET", &format!("{RFES}/x1000c0s0b1"), Value::Null), 404);
}

#[test]
fn an_overwriting_discovery_writes_what_clients_changed_of_what_it_brought_and_leaves_what_they_added() {
    let (_host, smd) = empty();
    nodes(&smd, &[("x1000c0s0b0n0", 1)]);
    assert_eq!(
        status(&smd, "POST", RFES, endpoint("x1000c0s0b0", "compute1", "01")),
        201
    );
    let eis = "/Inventory/EthernetInterfaces";
    let rack = json!({"Description": "rack A"});
    assert_eq!(status(&smd, "PATCH", &format!("{eis}/525400beef01"), rack), 200);
    let hsn = json!({"ComponentID": "x1000c0s0b0n0", "MACAddress": "52:54:00:00:00:99", "IPAddresses": [{"IPAddress": "10.0.0.9"}]});
    assert_eq!(status(&smd, "POST", eis, hsn), 201);
    let mut moved = endpoint("x1000c0s0b0", "compute1", "01");
    let nic = &mut moved["Systems"][0]["ethernet_interfaces"][0];
    (nic["mac"], nic["ip"]) = ("52:54:00:be:ef:35".into(), "172.16.0.55".into());
    assert_eq!(status(&smd, "PUT", &format!("{RFES}/x1000c0s0b0"), moved), 200);
    assert_eq!(
        interfaces(&smd),
        [
            "x1000c0s0b0n0 52:54:00:00:00:99 10.0.0.9",
            "x1000c0s0b0n0 52:54:00:be:ef:35 172.16.0.55"
        ]
    );
}

#[test]
fn nodes_that_share_a_made_up_controller_are_those_that_their_uris_name() {
    let (_host, smd) = empty();
    nodes(&smd, &[("x1000c0s0b0n0", 1), ("x1000c0s0b1n0", 2)]);
    let mut shared = endpoint("x1000c0s0b0", "compute1", "01");
    let mut second = endpoint("x1000c0s0b1", "compute2", "02")["Systems"][0].clone();
    second["uuid"] = "8d5b6a0e-0000-4000-8000-000000000003".into();
    shared["Systems"].as_array_mut().unwrap().push(second);
    assert_eq!(status(&smd, "POST", RFES, shared), 201);
    let ids = get(&smd, "/State/Components?type=Node");
    let ids: Vec<&str> = ids["Components"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["ID"].as_str())
        .collect();
    assert_eq!(ids, ["x1000c0s0b0n0", "x1000c0s0b1n0"]);
    assert_eq!(interfaces(&smd)[1], "x1000c0s0b1n0 52:54:00:be:ef:02 172.16.0.1");
}
