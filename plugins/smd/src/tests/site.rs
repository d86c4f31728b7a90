//! A rack in front of a site: what is mirrored, what is passed on, and what is left as it was whatever the site says.

use std::sync::{Arc, Mutex};

use bootd_sdk::wire::{Fetch, Fetched};
use serde_json::json;

use super::*;
use crate::site::LISTED;

/// The seed's five nodes.
const NODES: &str = include_str!("../../../../tests/data/nodes.yaml");

type Asked = Arc<Mutex<Vec<Fetch>>>;

/// A site that is another smd, with what it was asked.
fn site() -> (Arc<Instance>, Asked) {
    let folder = tempfile::tempdir().unwrap();
    let nodes = folder.path().join("nodes.yaml");
    std::fs::write(&nodes, NODES).unwrap();
    let site = FakeHost::new().start::<Smd>(json!({ "nodes": nodes })).unwrap();
    (Arc::new(site), Asked::default())
}

/// What a site's smd answers to a fetch.
fn of(site: &Instance, fetch: &Fetch) -> Fetched {
    let rest = fetch.url.strip_prefix("http://site:8081").unwrap();
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut headers = fetch.headers.clone();
    if let Some((_, etag)) = fetch.known.as_ref().and_then(|known| known.split_once(' ')) {
        headers.push(("if-none-match".into(), etag.into()));
    }
    let answer = site
        .handle(&Request {
            method: fetch.method.clone(),
            path: path.into(),
            query: query.into(),
            headers,
            body: fetch.body.clone(),
            ..Request::default()
        })
        .unwrap();
    Fetched {
        status: answer.status,
        headers: answer.headers,
        body: answer.body,
        validator: None,
    }
}

/// The host of a rack whose fetches the site answers.
fn host_of(site: &Arc<Instance>, asked: &Asked) -> &'static FakeHost {
    let host = FakeHost::new();
    answer(host, site, asked);
    host
}

fn answer(host: &'static FakeHost, site: &Arc<Instance>, asked: &Asked) {
    let (site, asked) = (Arc::clone(site), Arc::clone(asked));
    host.answer_fetches(move |fetch| {
        asked.lock().unwrap().push(fetch.clone());
        Ok(of(&site, fetch))
    });
}

fn start(host: &'static FakeHost) -> Instance {
    host.start_in::<Smd>("upstream", json!({"url": "http://site:8081/", "refresh_s": 30}))
        .unwrap()
}

/// One look of the background work: a refresh, when one is due.
fn look(host: &FakeHost, rack: &Instance) {
    host.sleeps(1);
    assert!(rack.run());
}

/// A refresh, whenever the next one was due.
fn refresh(host: &FakeHost, rack: &Instance) {
    host.sleeps(40);
    assert!(rack.run());
}

/// A rack that has mirrored its site once.
fn mirrored() -> (Arc<Instance>, Asked, &'static FakeHost, Instance) {
    let (site, asked) = site();
    let host = host_of(&site, &asked);
    let rack = start(host);
    look(host, &rack);
    (site, asked, host, rack)
}

const LISTS: [&str; 8] = [
    "/State/Components",
    "/Inventory/EthernetInterfaces",
    "/Inventory/ComponentEndpoints",
    "/groups",
    "/partitions",
    "/memberships",
    "/memberships/x1000c0s0b0n0",
    "/State/Components/ByNID/1",
];

#[test]
fn a_rack_lists_and_publishes_what_its_site_has() {
    let (site, _, host, rack) = mirrored();
    for list in LISTS {
        assert_eq!(get(&rack, list), get(&site, list), "{list}");
    }
    let node = published(host, "x1000c0s0b0n0").unwrap();
    assert_eq!(
        (node.nid, node.groups.as_slice(), node.name.as_str()),
        (Some(1), &["compute".to_owned()][..], "compute1")
    );
    assert_eq!(node.interfaces[0].mac.to_string(), "52:54:00:be:ef:01");
    assert_eq!(node.interfaces[0].ips[0].ip.to_string(), "172.16.0.1");
    let health = host.health();
    assert!(health.mistakes.is_empty(), "{health:?}");
    assert!(
        health
            .text
            .starts_with("5 nodes and 5 BMCs, mirrored from http://site:8081/hsm/v2 as of 2023-"),
        "{}",
        health.text
    );
}

#[test]
fn an_unchanged_site_is_asked_once_a_list_and_nothing_is_written_or_published() {
    let (_, asked, host, rack) = mirrored();
    let (stored, bumps) = (host.stored(), host.bumps());
    asked.lock().unwrap().clear();
    refresh(host, &rack);
    assert_eq!(asked.lock().unwrap().len(), 5);
    assert_eq!(host.metric("upstream_unchanged"), Some(5));
    assert_eq!((host.stored(), host.bumps()), (stored, bumps));
}

#[test]
fn a_change_of_one_list_leaves_the_tags_of_the_others() {
    let (site, asked, host, rack) = mirrored();
    assert_eq!(
        status(
            &site,
            "PATCH",
            "/State/Components/x1000c0s0b0n0/NID",
            json!({"NID": 99})
        ),
        204
    );
    let unchanged = host.metric("upstream_unchanged").unwrap();
    asked.lock().unwrap().clear();
    refresh(host, &rack);
    assert_eq!(get(&rack, "/State/Components/ByNID/99")["ID"], "x1000c0s0b0n0");
    assert_eq!(host.metric("upstream_unchanged"), Some(unchanged + 4));
    // What depends on several of them has another tag after each.
    let tag = |path: &str| {
        send(&site, "GET", path, "")
            .headers
            .iter()
            .find(|(name, _)| name == "etag")
            .unwrap()
            .1
            .clone()
    };
    let before: Vec<String> = ["/memberships", "/State/Components?group=compute", "/groups"]
        .map(tag)
        .into();
    assert_eq!(status(&site, "POST", "/groups", json!({"label": "more"})), 201);
    let after: Vec<String> = ["/memberships", "/State/Components?group=compute", "/groups"]
        .map(tag)
        .into();
    assert!(
        before.iter().zip(&after).all(|(before, after)| before != after),
        "{before:?} {after:?}"
    );
}

#[test]
fn what_changes_at_the_site_is_here_after_the_next_refresh() {
    let (site, _, host, rack) = mirrored();
    nodes(&site, &[("x1000c0s0b5n0", 6)]);
    let interface = json!({"ComponentID": "x1000c0s0b5n0", "MACAddress": "52:54:00:be:ef:06",
        "IPAddresses": [{"IPAddress": "172.16.0.6", "Network": "mgmt"}]});
    assert_eq!(status(&site, "POST", "/Inventory/EthernetInterfaces", interface), 201);
    assert_eq!(
        status(&site, "POST", "/groups/compute/members", json!({"id": "x1000c0s0b5n0"})),
        201
    );
    assert_eq!(
        status(&site, "DELETE", "/State/Components/x1000c0s0b4n0", json!(null)),
        200
    );
    refresh(host, &rack);
    for list in LISTS {
        assert_eq!(get(&rack, list), get(&site, list), "{list}");
    }
    let node = published(host, "x1000c0s0b5n0").unwrap();
    assert_eq!(
        (node.groups.len(), node.interfaces[0].ips[0].network.as_str()),
        (1, "mgmt")
    );
    assert!(published(host, "x1000c0s0b4n0").is_none());
}

#[test]
fn a_rack_starts_with_what_it_mirrored_while_its_site_is_dead() {
    let (site, asked, host, rack) = mirrored();
    drop(rack);
    host.set_nodes(Vec::new());
    host.answer_fetches(|_| Err("connection refused".into()));
    let rack = start(host);
    assert_eq!(host.published().len(), 10);
    look(host, &rack);
    assert_eq!(get(&rack, "/State/Components"), get(&site, "/State/Components"));
    let answer = send(&rack, "GET", "/groups", "");
    assert!(
        answer
            .headers
            .iter()
            .any(|(name, value)| name == "warning" && value.starts_with("110 ")),
        "{answer:?}"
    );
    let health = host.health();
    assert!(health.text.contains(" as of 2023-"), "{}", health.text);
    assert_eq!(health.mistakes.len(), 1);
    assert!(
        health.mistakes[0]
            .to_string()
            .starts_with("http://site:8081/hsm/v2: connection refused, since 2023-"),
        "{}",
        health.mistakes[0]
    );
    answer_again(host, &site, &asked, &rack);
}

/// The site comes back: all is well again.
fn answer_again(host: &'static FakeHost, site: &Arc<Instance>, asked: &Asked, rack: &Instance) {
    answer(host, site, asked);
    refresh(host, rack);
    assert!(host.health().mistakes.is_empty());
}

#[test]
fn whatever_a_broken_site_says_the_rack_keeps_what_it_had() {
    let (_, _, host, rack) = mirrored();
    let before: Vec<Value> = LISTS.iter().map(|list| get(&rack, list)).collect();
    for body in [
        "",
        "[]",
        "null",
        "{}",
        "{\"error\": \"no database\"}",
        "{\"Components\": null}",
        "{\"Components\": []}",
        "[1, 2]",
        "{\"Components\": [{\"ID\": \"?\"}]}",
        "[{\"MACAddress\": \"?\"}]",
        "[{\"label\": \"?!\"}]",
        "<html>",
        "{\"ComponentEndpoints\": []}",
        "{\"ComponentEndpoints\": [{}]}",
        "[[[[",
        "{\"Components\": [{\"ID\": \"x1000c0s0b0n0\"",
    ] {
        for status in [200, 500] {
            let fetched = Fetched {
                status,
                body: body.into(),
                ..Fetched::default()
            };
            host.answer_fetches(move |_| Ok(fetched.clone()));
            refresh(host, &rack);
            let now: Vec<Value> = LISTS.iter().map(|list| get(&rack, list)).collect();
            assert_eq!(now, before, "{status} {body}");
            assert_eq!(host.published().len(), 10);
            assert!(!host.health().mistakes.is_empty(), "{status} {body}");
        }
    }
}

#[test]
fn a_site_that_lost_most_of_its_nodes_is_believed_only_when_the_operator_says_so() {
    let (site, _, host, rack) = mirrored();
    for node in 1..5 {
        let path = format!("/State/Components/x1000c0s0b{node}n0");
        assert_eq!(status(&site, "DELETE", &path, json!(null)), 200);
    }
    refresh(host, &rack);
    assert_eq!(host.published().len(), 10);
    let mistakes = host.health().mistakes;
    assert!(
        mistakes[0].text.contains("lost 4 of 5 nodes: held back since 2023-"),
        "{mistakes:?}"
    );
    // The groups of nodes that are gone went with them.
    assert!(
        mistakes[1].text.contains("lost 4 of 5 memberships of groups"),
        "{mistakes:?}"
    );
    let accepted = send(&rack, "POST", "/bootd/v1/accept/smd", "");
    assert_eq!(accepted.status, 200);
    assert!(
        accepted.body.contains("/State/Components: 4 of 5 nodes"),
        "{}",
        accepted.body
    );
    assert_eq!(host.published().len(), 6);
    assert_eq!(get(&rack, "/groups"), get(&site, "/groups"));
    assert!(host.health().mistakes.is_empty());
}

#[test]
fn nodes_that_lose_their_interfaces_are_not_hidden_by_their_bmcs() {
    let (site, _, host, rack) = mirrored();
    for node in 1..5 {
        let path = format!("/Inventory/EthernetInterfaces/525400beef0{node}");
        assert_eq!(status(&site, "DELETE", &path, json!(null)), 200);
    }
    refresh(host, &rack);
    assert!(!published(host, "x1000c0s0b0n0").unwrap().interfaces.is_empty());
    let mistakes = host.health().mistakes;
    assert!(mistakes[0].text.contains("lost 4 of 5 interfaces"), "{mistakes:?}");
}

#[test]
fn while_nodes_are_held_back_so_is_what_makes_them_boot() {
    let (site, _, host, rack) = mirrored();
    // Most of the nodes, and a single interface.
    for node in 0..3 {
        let path = format!("/State/Components/x1000c0s0b{node}n0");
        assert_eq!(status(&site, "DELETE", &path, json!(null)), 200);
    }
    assert_eq!(
        status(
            &site,
            "DELETE",
            "/Inventory/EthernetInterfaces/525400beef01",
            json!(null)
        ),
        200
    );
    refresh(host, &rack);
    let node = published(host, "x1000c0s0b0n0").unwrap();
    assert_eq!((node.interfaces.len(), node.groups.len()), (1, 1));
    let mistakes = host.health().mistakes;
    assert!(mistakes[0].text.contains("lost 3 of 5 nodes"), "{mistakes:?}");
    assert!(mistakes[1].text.contains("lost 1 of 5 interfaces"), "{mistakes:?}");
    let accepted = send(&rack, "POST", "/bootd/v1/accept/smd", "");
    assert!(accepted.body.ends_with(r#""left":[]}"#), "{}", accepted.body);
    assert!(published(host, "x1000c0s0b0n0").is_none());
    for list in LISTS {
        assert_eq!(
            send(&rack, "GET", list, "").body,
            send(&site, "GET", list, "").body,
            "{list}"
        );
    }
}

#[test]
fn a_write_goes_to_the_site_with_its_clients_token_and_is_here_when_it_is_answered() {
    let (site, asked, host, rack) = mirrored();
    let request = |method: &str, path: &str, body: Value| {
        rack.handle(&Request {
            method: method.into(),
            path: format!("/hsm/v2{path}"),
            headers: vec![("authorization".into(), "Bearer of-the-operator".into())],
            body: body.to_string(),
            ..Request::default()
        })
        .unwrap()
    };
    asked.lock().unwrap().clear();
    let component = json!({"Components": [{"ID": "x1000c0s0b6n0", "State": "On", "NID": 7}]});
    assert_eq!(request("POST", "/State/Components", component).status, 204);
    let first = asked.lock().unwrap()[0].clone();
    assert_eq!(
        (first.method.as_str(), first.url.as_str()),
        ("POST", "http://site:8081/hsm/v2/State/Components")
    );
    assert_eq!(
        first.headers,
        [("authorization".into(), "Bearer of-the-operator".into())]
    );
    assert_eq!(get(&rack, "/State/Components"), get(&site, "/State/Components"));
    assert!(published(host, "x1000c0s0b6n0").is_some());

    let refused = request("POST", "/State/Components", json!({"Components": [{"ID": "x9"}]}));
    assert_eq!(
        (refused.status, refused.body.contains("state '' is invalid")),
        (400, true),
        "{refused:?}"
    );
    // What is deleted through this box is gone, however much it is.
    assert_eq!(request("DELETE", "/State/Components", json!(null)).status, 200);
    assert!(ids(&rack, "/State/Components").is_empty() && host.published().is_empty());

    let import = send(&rack, "POST", "/bootd/v1/import/smd", "nodes: []");
    assert_eq!(import.status, 409);
    host.answer_fetches(|_| Err("connection refused".into()));
    let dead = request("POST", "/groups", json!({"label": "a"}));
    assert_eq!(
        (dead.status, dead.body.contains("http://site:8081/hsm/v2")),
        (502, true),
        "{dead:?}"
    );
}

#[test]
fn a_write_at_a_site_that_lost_everything_does_not_empty_the_rack() {
    let (_, asked, host, rack) = mirrored();
    let lost = Arc::new(FakeHost::new().start::<Smd>(json!({})).unwrap());
    answer(host, &lost, &asked);
    let component = json!({"Components": [{"ID": "x1000c0s0b6n0", "State": "On", "NID": 7}]});
    assert_eq!(status(&rack, "POST", "/State/Components", component), 204);
    assert_eq!(host.published().len(), 10);
    assert!(
        host.health().mistakes[0].text.contains("lost 5 of 5 nodes"),
        "{:?}",
        host.health()
    );
}

#[test]
fn a_row_that_cannot_be_read_any_more_keeps_what_it_had() {
    let (site, _, host, rack) = mirrored();
    let mut list = get(&site, "/State/Components");
    for row in list["Components"].as_array_mut().unwrap() {
        row["Role"] = json!("bad\u{7}role");
        if row["ID"] == "x1000c0s0b0n0" {
            row["Role"] = json!("Service");
        }
    }
    host.answer_fetches(move |fetch| match fetch.url.ends_with("/State/Components") {
        true => Ok(Fetched {
            status: 200,
            body: list.to_string(),
            ..Fetched::default()
        }),
        false => Ok(of(&site, fetch)),
    });
    refresh(host, &rack);
    assert_eq!(host.published().len(), 10);
    assert_eq!(published(host, "x1000c0s0b0n0").unwrap().role, "Service");
    assert_eq!(published(host, "x1000c0s0b1n0").unwrap().role, "Compute");
    assert!(
        host.health().mistakes[0]
            .text
            .starts_with("9 rows of the site are left out")
    );
}

#[test]
fn a_site_with_more_rows_than_an_inventory_holds_is_not_believed() {
    let (_, _, host, rack) = mirrored();
    let rows: Vec<String> = (0..200_001)
        .map(|n| format!(r#"{{"ID":"x{}c0s{}b0n0"}}"#, n / 1000, n % 1000))
        .collect();
    let body = format!(r#"{{"Components":[{}]}}"#, rows.join(","));
    host.answer_fetches(move |_| {
        Ok(Fetched {
            status: 200,
            body: body.clone(),
            ..Fetched::default()
        })
    });
    refresh(host, &rack);
    assert_eq!(host.published().len(), 10);
    assert!(
        host.health().mistakes[0].text.contains("more than 200000 rows"),
        "{:?}",
        host.health().mistakes[0]
    );
}

#[test]
fn redfish_endpoints_are_asked_of_the_site() {
    let (site, _, host, rack) = mirrored();
    assert_eq!(
        get(&rack, "/Inventory/RedfishEndpoints"),
        get(&site, "/Inventory/RedfishEndpoints")
    );
    host.answer_fetches(|_| Err("connection refused".into()));
    assert_eq!(send(&rack, "GET", "/Inventory/RedfishEndpoints", "").status, 502);
}

#[test]
fn a_machine_that_the_site_learned_a_moment_ago_is_looked_up_at_once() {
    let (site, _, host, rack) = mirrored();
    let mac: Mac = "52:54:00:be:ef:08".parse().unwrap();
    assert!(rack.resolve(mac).is_none());
    nodes(&site, &[("x1000c0s0b7n0", 8)]);
    let interface =
        json!({"ComponentID": "x1000c0s0b7n0", "MACAddress": mac, "IPAddresses": [{"IPAddress": "172.16.0.8"}]});
    assert_eq!(status(&site, "POST", "/Inventory/EthernetInterfaces", interface), 201);
    assert_eq!(
        status(&site, "POST", "/groups/compute/members", json!({"id": "x1000c0s0b7n0"})),
        201
    );
    let node = rack.resolve(mac).unwrap();
    assert_eq!(
        (node.id.as_str(), node.nid, node.groups.as_slice()),
        ("x1000c0s0b7n0", Some(8), &["compute".to_owned()][..])
    );
    assert_eq!(get(&rack, "/State/Components"), get(&site, "/State/Components"));
    // A site that does not answer is not asked while a client waits.
    host.answer_fetches(|_| Err("no whole answer".into()));
    refresh(host, &rack);
    let asked = Asked::default();
    let keep = Arc::clone(&asked);
    host.answer_fetches(move |fetch| {
        keep.lock().unwrap().push(fetch.clone());
        Err("no whole answer".into())
    });
    assert!(rack.resolve("52:54:00:be:ef:09".parse().unwrap()).is_none());
    assert!(asked.lock().unwrap().is_empty());
}

#[test]
fn a_row_that_cannot_be_read_costs_only_itself_and_is_told() {
    let (_, _, host, rack) = mirrored();
    host.answer_fetches(|fetch| {
        let body = match fetch.url.strip_prefix("http://site:8081/hsm/v2").unwrap() {
            "/State/Components" => json!({"Components": [
                {"ID": "x1000c0s0b0n0", "Type": "Node", "State": "Ready", "NID": -1, "Arch": "X86", "Unheard": [1]},
                {"ID": "nonsense"}, 7,
                {"ID": "x1000c0s0b1n0", "Type": "Node", "NID": "2"},
                {"ID": "x1000c0s0b2n0"}, {"ID": "x1000c0s0b2n0", "NID": 9}
            ]}),
            "/Inventory/EthernetInterfaces" => json!([
                {"MACAddress": "52-54-00-BE-EF-01", "ComponentID": "x1000c0s0b0n0", "IPAddresses": null},
                {"MACAddress": "", "ComponentID": "x1000c0s0b0n0"},
                {"MACAddress": "52:54:00:be:ef:02", "ComponentID": "x1000c0s0b1n0", "IPAddresses": [{"IPAddress": ""}, {"IPAddress": "nonsense"}]}
            ]),
            "/Inventory/ComponentEndpoints" => json!({"ComponentEndpoints": []}),
            _ => json!([]),
        };
        Ok(Fetched {
            status: 200,
            body: body.to_string(),
            ..Fetched::default()
        })
    });
    refresh(host, &rack);
    let accepted = send(&rack, "POST", "/bootd/v1/accept/smd", "");
    assert!(accepted.body.contains(r#""left":[]"#), "{}", accepted.body);
    assert_eq!(
        ids(&rack, "/State/Components"),
        ["x1000c0s0b0n0", "x1000c0s0b1n0", "x1000c0s0b2n0"]
    );
    let node = published(host, "x1000c0s0b0n0").unwrap();
    assert_eq!(
        (node.nid, node.state.as_str(), node.arch.as_str()),
        (None, "Ready", "X86")
    );
    let told: Vec<String> = host.health().mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(
        told[0],
        "/State/Components: 2 rows of the site are left out; the first: 'nonsense' is no xname"
    );
    assert!(
        told[1].starts_with("/Inventory/EthernetInterfaces: 1 rows of the site are left out; "),
        "{told:?}"
    );
}

#[test]
fn no_mutation_of_what_a_site_says_stops_the_rack_or_empties_it() {
    let (site, asked, host, rack) = mirrored();
    let list = |path: &str| send(&site, "GET", path, "").body.into_bytes();
    let seeds: Vec<Vec<u8>> = LISTED.iter().map(|listed| list(listed.path)).collect();
    let mut texts = Vec::new();
    bootd_sdk::fake::mutations(&seeds, 400, |text| texts.push(text.to_owned()));
    for text in texts {
        let body = text.clone();
        host.answer_fetches(move |_| {
            Ok(Fetched {
                status: 200,
                body: body.clone(),
                ..Fetched::default()
            })
        });
        refresh(host, &rack);
        let nodes = ids(&rack, "/State/Components?type=Node").len();
        assert!(nodes >= 2, "{nodes} nodes are left by {text}");
        answer(host, &site, &asked);
        refresh(host, &rack);
        // One that was held back may have been believed in part; the site is right again.
        assert_eq!(
            get(&rack, "/State/Components"),
            get(&site, "/State/Components"),
            "{text}"
        );
    }
}

#[test]
fn settings_of_the_other_mode_are_mistakes() {
    let start = |mode: &str, config: Value| {
        let error = FakeHost::new().start_in::<Smd>(mode, config).err().unwrap();
        assert!(error.is_bad_argument);
        error.text
    };
    assert!(start("upstream", json!({})).contains("missing field `url`"));
    let text = start("upstream", json!({"url": "site", "nodes": "n.yaml", "token": "eyJ"}));
    assert!(
        text.contains("url: it must begin with http") && text.contains("unknown field `nodes`"),
        "{text}"
    );
    assert!(text.contains("token: it must be {") && !text.contains("eyJ"), "{text}");
    assert!(start("local", json!({"url": "http://site"})).contains("did you mean mode = \"upstream\"?"));
}
