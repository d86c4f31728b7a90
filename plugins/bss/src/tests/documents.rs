//! Hosts, state, service and the description of the API.

use super::*;

fn get(bss: &Instance, path: &str) -> (u16, Value) {
    let answer = bss.get(path, None).unwrap();
    (answer.status, serde_json::from_str(&answer.body).unwrap_or_default())
}

#[test]
fn hosts_are_the_inventorys_nodes_with_their_macs() {
    let (host, bss) = start(json!({}));
    let mut bmc = node(2);
    (bmc.id, bmc.kind, bmc.nid) = ("x1000c0s0b1".into(), "NodeBMC".into(), None);
    bmc.interfaces[0].mac = Mac([2; 6]);
    host.set_nodes(vec![node(3), node(1), bmc]);
    let (status, all) = get(&bss, "/boot/v1/hosts");
    assert_eq!((status, all.as_array().unwrap().len()), (200, 2));
    assert_eq!(
        all[0],
        json!({"ID": "x1000c0s0b0n0", "Type": "Node", "Role": "Compute", "NID": 1, "Enabled": true, "FQDN": "",
               "MAC": ["52:54:00:be:ef:01"], "EndpointEnabled": true})
    );
    assert_eq!(
        get(&bss, "/apis/bss/boot/v1/hosts?mac=52-54-00-BE-EF-03").1[0]["NID"],
        3
    );
    assert_eq!(
        get(&bss, "/boot/v1/hosts?name=X1000C0S0B0N0&nid=3,1")
            .1
            .as_array()
            .unwrap()
            .len(),
        2
    );
    for (query, status, detail) in [
        ("name=x9", 404, "Not Found - Unknown host name 'x9'"),
        ("name=x1000c0s0b1", 404, "Not Found - Unknown host name 'x1000c0s0b1'"),
        ("mac=junk", 404, "Not Found - Unknown MAC address 'junk'"),
        ("nid=9", 404, "Not Found - Unknown NID '9'"),
        ("nid=x", 400, "Bad Request - Invalid NID 'x'"),
        ("nid=%", 400, "the query is not well formed"),
    ] {
        let answer = bss.get(&format!("/boot/v1/hosts?{query}"), None).unwrap();
        assert_eq!(told(&answer), (status, detail.into()), "{query}");
    }
    assert_eq!(send(&bss, "POST", "/boot/v1/hosts", "").status, 204);
    assert_eq!(send(&bss, "POST", "/apis/bss/boot/v1/scn", "{}").status, 200);
}

#[test]
fn the_state_is_nodes_and_parameters() {
    let (_, bss) = start(json!({"boot": data("boot-compute.yaml")}));
    let state = get(&bss, "/boot/v1/dumpstate").1;
    assert_eq!(state["Components"].as_array().unwrap().len(), 5);
    assert_eq!(state["Params"][0]["macs"].as_array().unwrap().len(), 5);
    let (host, none) = start(json!({}));
    host.set_nodes(Vec::new());
    assert_eq!(
        get(&none, "/boot/v1/dumpstate").1,
        json!({"Components": [], "Params": []})
    );
}

#[test]
fn the_state_shows_nobody_what_cloud_init_gets() {
    let (_, bss) = start(json!({"legacy_cloud_init": true}));
    let body = r#"{"nids":[1],"kernel":"http://h/k","cloud-init":{"user-data":{"password":"SEKRET"},"meta-data":{"a":"SEKRET"},"phone-home":{"fqdn":"SEKRET"}}}"#;
    assert_eq!(send(&bss, "PUT", "/boot/v1/bootparameters", body).status, 200);
    assert!(list(&bss, "").to_string().contains("SEKRET"));
    let state = get(&bss, "/boot/v1/dumpstate").1;
    assert!(!state.to_string().contains("SEKRET"), "{state}");
    let entry = &state["Params"][0];
    assert_eq!(
        (&entry["kernel"], &entry["cloud-init"]["user-data"]),
        (&json!("http://h/k"), &Value::Null)
    );
    assert_eq!(
        entry["cloud-init"]["phone-home"]["fqdn"], "",
        "an empty one, as BSS writes it"
    );
}

#[test]
fn lists_of_all_nodes_are_made_once_in_a_second_and_after_each_write() {
    let (host, bss) = start(json!({}));
    // The fake host's clock stands still.
    for path in ["/boot/v1/dumpstate", "/boot/v1/hosts", "/boot/v1/hosts?x=1"] {
        host.set_nodes(vec![node(1)]);
        send(
            &bss,
            "PUT",
            "/boot/v1/bootparameters",
            &format!(r#"{{"nids":[1],"kernel":"http://h/{path}"}}"#),
        );
        let first = bss.get(path, None).unwrap().body;
        host.set_nodes(vec![node(1), node(2)]);
        assert_eq!(bss.get(path, None).unwrap().body, first, "{path}");
        assert_eq!(get(&bss, "/boot/v1/hosts?nid=2").0, 200, "who is named is never old");
        let body = r#"{"nids":[1],"kernel":"http://h/new"}"#;
        assert_eq!(send(&bss, "PUT", "/boot/v1/bootparameters", body).status, 200);
        assert_ne!(bss.get(path, None).unwrap().body, first, "{path}");
    }
}

#[test]
fn the_service_says_how_it_is() {
    let (_, bss) = start(json!({}));
    let version = env!("CARGO_PKG_VERSION");
    for (path, body) in [
        ("status", json!({"bss-status": "running"})),
        ("version", json!({"bss-version": version})),
        ("hsm", json!({"bss-status-hsm": "connected"})),
        (
            "storage/status",
            json!({"bss-storage-backend": {"name": "bootd", "status": "connected"}}),
        ),
        (
            "status/all",
            json!({"bss-version": version, "bss-status": "running", "bss-status-hsm": "connected",
                   "bss-storage-backend": {"name": "bootd", "status": "connected"}}),
        ),
    ] {
        assert_eq!(get(&bss, &format!("/boot/v1/service/{path}")), (200, body), "{path}");
    }
    assert_eq!(get(&bss, "/boot/v1/service/nothing").0, 404);
    assert_eq!(get(&bss, "/boot/v1/").1["base"], "/boot/v1");
}

#[test]
fn the_description_names_each_route_and_no_other() {
    // The mode with more of them.
    let config = json!({"legacy_cloud_init": true, "url": "http://site"});
    let bss = FakeHost::new().start_in::<Bss>("upstream", config).unwrap();
    let (status, description) = get(&bss, "/boot/v1/openapi.json");
    assert_eq!((status, &description["openapi"]), (200, &json!("3.0.3")));
    let mut described = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let is_token = operation["security"] != json!([]);
            described.push((method.to_uppercase(), path.clone(), is_token));
        }
    }
    let mut served: Vec<_> = bss
        .setup
        .routes
        .iter()
        .filter(|route| !route.prefix.starts_with("/apis/bss"))
        .map(|route| {
            (
                route.method.clone(),
                route.prefix.clone(),
                route.access == Access::Token,
            )
        })
        .collect();
    described.sort();
    served.sort();
    assert_eq!(described, served);
    let aliases = bss
        .setup
        .routes
        .iter()
        .filter(|route| route.prefix.starts_with("/apis/bss"))
        .count();
    assert_eq!(aliases, crate::routes::PATHS.len());
}

#[test]
fn each_reference_of_the_description_leads_somewhere() {
    let text = crate::OPENAPI;
    let description: Value = serde_json::from_str(text).unwrap();
    let references: Vec<&str> = text
        .split("\"$ref\": \"#")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(references.len() > 20);
    for reference in references {
        assert!(description.pointer(reference).is_some(), "{reference}");
    }
}

#[test]
fn who_may_call_what_is_as_upstream_has_it() {
    let (_, bss) = start(json!({}));
    let access = |method: &str, path: &str| {
        let routes = &bss.setup.routes;
        routes
            .iter()
            .find(|route| route.method == method && route.prefix == path)
            .map(|route| route.access)
    };
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        assert_eq!(access(method, "/boot/v1/bootparameters"), Some(Access::Token));
    }
    for path in ["bootscript", "hosts", "dumpstate", "endpoint-history", "service/status"] {
        assert_eq!(access("GET", &format!("/boot/v1/{path}")), Some(Access::Open));
    }
    assert_eq!(access("POST", "/apis/bss/boot/v1/hosts"), Some(Access::Node));
    assert_eq!(access("POST", "/bootd/v1/import/bss"), Some(Access::Token));
    assert_eq!(
        access("GET", "/meta-data"),
        None,
        "off unless the configuration says so"
    );
}

#[test]
fn only_who_shows_a_token_may_send_large_bodies() {
    let (_, bss) = start(json!({"legacy_cloud_init": true}));
    for route in &bss.setup.routes {
        let path = route.prefix.trim_start_matches("/apis/bss");
        let most = match (route.method.as_str(), path) {
            ("GET", "/boot/v1/bootparameters") => 1024,
            ("POST", "/boot/v1/hosts") => 1,
            ("POST", "/bootd/v1/import/bss") => 16 * 1024,
            ("GET", _) | ("POST", "/phone-home" | "/boot/v1/scn") => 64,
            _ => {
                assert_eq!(route.access, Access::Token, "{path}");
                4 * 1024
            }
        };
        assert_eq!(route.body_limit, most * 1024, "{} {path}", route.method);
    }
}

#[test]
fn where_cloud_init_is_must_be_a_url_or_the_settings_are_wrong() {
    for bad in [
        "nope",
        "",
        "http://",
        "http:///x",
        "ftp://h",
        "http://h/a b",
        "http://h/\n",
        "#http://h",
    ] {
        let error = FakeHost::new().start::<Bss>(json!({"advertise": bad})).err().unwrap();
        assert!(
            error.is_bad_argument && error.text.contains("must be a URL"),
            "{bad}: {error}"
        );
    }
    start(json!({"advertise": "https://[fd00::1]:8443/cloud-init"}));
}
