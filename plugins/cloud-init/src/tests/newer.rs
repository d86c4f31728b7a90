//! A site with OpenCHAMI's metadata-service.

use super::upstream::{Site, host_at, pass, start_at};
use super::*;

const DEFAULTS: &str = "GET /metadata-service/clusterdefaultss";
const GROUPS: &str = "GET /metadata-service/groups";
const INSTANCES: &str = "GET /metadata-service/instanceinfos";

/// A resource as the service lists it.
fn resource(name: &str, updated: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Any", "spec": spec, "status": {"valid": true, "templateHistory": [1]},
        "metadata": {"name": name, "uid": format!("any-{name}-{updated}"), "createdAt": updated, "updatedAt": updated},
    })
}

fn site() -> Site {
    let site = Site::default();
    let old = json!({"base_url": "http://old/", "cluster_name": "old"});
    let new = json!({"base_url": "http://site:8080/", "cluster_name": "demo", "short_name": "nid", "nid_length": 3, "public_keys": ["k1"], "cloud_provider": "p"});
    let defaults = [
        resource("b", "2026-08-14T10:00:00.9Z", new),
        resource("a", "2026-08-14T10:00:00Z", old),
    ];
    let groups = [
        resource(
            "compute",
            "2026-08-14T10:00:01Z",
            json!({"description": "new", "template": "#cloud-config\nfqdn: {{ hostname }}\n", "metaData": {"rack": "r1", "a b": "x", "ds": "y"}}),
        ),
        resource("compute", "2026-08-14T12:00:00+02:00", json!({"template": "old"})),
        resource(
            "plain",
            "2026-08-14T10:00:00Z",
            json!({"template": "#cloud-config\nx: 1\n"}),
        ),
    ];
    let instances = [
        resource(
            "x1000c0s0b0n0",
            "2026-08-14T10:00:00Z",
            json!({"instance_id": "i-own", "local_hostname": "login", "public_keys": ["k2"], "default_profile": "x"}),
        ),
        resource(
            "by-id",
            "2026-08-14T10:00:00Z",
            json!({"instance_id": "X1000c0s0b1n0", "hostname": "other"}),
        ),
        resource("nobody", "2026-08-14T10:00:00Z", json!({"instance_id": "i-1"})),
    ];
    site.has(DEFAULTS, &json!(defaults).to_string());
    site.has(GROUPS, &json!(groups).to_string());
    site.has(INSTANCES, &json!(instances).to_string());
    site
}

fn mirrored() -> (Site, &'static FakeHost, Instance) {
    let site = site();
    let host = host_at(&site);
    let plugin = start_at(host, json!({"api": "metadata-service"}));
    pass(host, &plugin, 0);
    assert_eq!(told(host), [""; 0]);
    (site, host, plugin)
}

#[test]
fn what_the_newer_service_lists_is_mirrored_with_its_overrides() {
    let (_, host, plugin) = mirrored();
    let (_, body) = get(&plugin, "/cloud-init/meta-data", Some(compute1()));
    let body: Value = serde_saphyr::from_str(&body).unwrap();
    assert_eq!(
        (&body["instance-id"], &body["local-hostname"], &body["hostname"]),
        (&json!("i-own"), &json!("login"), &json!("nid001"))
    );
    assert_eq!(body["instance_data"]["v1"]["public_keys"], json!(["k1", "k2"]));
    let vendor = &body["instance_data"]["v1"]["vendor_data"];
    assert_eq!(vendor["cloud_init_base_url"], "http://172.16.0.254:8081/cloud-init");
    assert_eq!(
        vendor["groups"]["compute"],
        json!({"Description": "new", "rack": "r1", "a b": "x", "ds": "y"})
    );
    let other = Node {
        id: "x1000c0s0b1n0".into(),
        nid: Some(2),
        ..compute1()
    };
    assert!(
        get(&plugin, "/cloud-init/meta-data", Some(other))
            .1
            .contains("hostname: other\n")
    );
    assert!(
        host.health()
            .text
            .starts_with("2 groups and 2 node overrides, mirrored from "),
        "{}",
        host.health().text
    );
    pass(host, &plugin, 100);
    assert_eq!(told(host), [""; 0]);
}

#[test]
fn a_template_is_rendered_by_the_node_with_the_facts_under_their_names() {
    let (_, _, plugin) = mirrored();
    let (_, body) = get(&plugin, "/cloud-init/compute.yaml", Some(compute1()));
    let lines: Vec<&str> = body.lines().collect();
    assert_eq!(lines[0], "## template: jinja");
    assert_eq!(lines[1], "{%- set hostname = ds.meta_data.hostname -%}");
    assert_eq!(
        lines[lines.len() - 3],
        "{%- set rack = ds.meta_data.instance_data.v1.vendor_data.groups['compute'].rack -%}"
    );
    assert_eq!(lines[lines.len() - 2..], ["#cloud-config", "fqdn: {{ hostname }}"]);
    let node = Node {
        groups: vec!["plain".into()],
        ..compute1()
    };
    assert_eq!(
        get(&plugin, "/cloud-init/plain.yaml", Some(node)).1,
        "#cloud-config\nx: 1\n"
    );
}

#[test]
fn the_newer_service_is_only_read_and_who_writes_hears_where_to() {
    let (_, host, plugin) = mirrored();
    let stored = host.stored();
    for (method, path) in [
        ("POST", "cluster-defaults"),
        ("PUT", "groups/compute"),
        ("DELETE", "instance-info/x1000c0s0b0n0"),
    ] {
        let answer = super::api::send(&plugin, method, &format!("/cloud-init/admin/{path}"), "{}");
        assert_eq!(answer.status, 405);
        assert!(
            answer
                .body
                .contains("https://demo.openchami.cluster:8443/metadata-service"),
            "{}",
            answer.body
        );
    }
    assert_eq!(host.stored(), stored);
}

#[test]
fn nothing_that_the_newer_service_may_say_instead_takes_anything_away() {
    let (site, host, plugin) = mirrored();
    let stored = host.stored();
    for body in [
        "",
        "{}",
        "null",
        r#"{"error":"no","code":500}"#,
        "[1]",
        r#"[{"error":"no"}]"#,
        r#"[{"metadata":{"name":"a"}}]"#,
        "[]",
    ] {
        for what in [DEFAULTS, GROUPS, INSTANCES] {
            site.has(what, body);
        }
        pass(host, &plugin, 100);
        assert_eq!(host.stored(), stored, "{body}");
        assert!(!told(host).is_empty(), "{body}");
    }
    let groups = [
        resource("compute", "2026-08-14T10:00:01Z", json!({"template": 7})),
        resource("plain", "", json!({"template": "x", "metaData": [1]})),
        resource("new", "", json!({"template": "n"})),
        json!(7),
    ];
    site.has(GROUPS, &json!(groups).to_string());
    pass(host, &plugin, 100);
    let mistakes = told(host);
    for told in [
        "group compute: /template: must be a text",
        "group plain: /meta-data: must be an object",
        "1 of the list",
    ] {
        assert!(mistakes.iter().any(|text| text.contains(told)), "{told}: {mistakes:?}");
    }
    assert!(
        get(&plugin, "/cloud-init/compute.yaml", Some(compute1()))
            .1
            .contains("fqdn")
    );
}

#[test]
fn a_service_without_a_gateway_is_at_its_own_url() {
    let site = Site::default();
    let host = host_at(&site);
    let plugin = start_at(host, json!({"api": "metadata-service", "url": "http://10.0.0.1:8080/"}));
    pass(host, &plugin, 0);
    assert_eq!(host.health().mistakes[0].file, "http://10.0.0.1:8080");
}
