use std::fs;
use std::path::{Path, PathBuf};

use bootd_sdk::fake::{FakeHost, Instance};
use bootd_sdk::prelude::*;
use bootd_sdk::wire::{Address, Interface};
use serde_json::{Value, json};

use crate::CloudInit;

mod api;
mod bad_input;
mod described;
mod emitted;
mod files;
mod mirror;
mod network;
mod newer;
mod overrides;
mod rounds;
mod speed;
mod upstream;

const META_DATA: &str = "instance-id: i-15e49172
local-hostname: compute1
hostname: nid001
cluster-name: demo
instance_data:
  v1:
    instance_id: i-15e49172
    local_ipv4: 172.16.0.1
    public_keys:
      - \"<YOUR SSH KEY GOES HERE>\"
    vendor_data:
      version: \"1.0\"
      cloud_init_base_url: http://172.16.0.254:8081/cloud-init
      cluster_name: demo
      groups:
        compute:
          Description: compute config
";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data")
        .join(name)
}

fn compute1() -> Node {
    Node {
        id: "x1000c0s0b0n0".into(),
        nid: Some(1),
        kind: "Node".into(),
        enabled: true,
        groups: vec!["compute".into()],
        interfaces: vec![Interface {
            mac: Mac([0x52, 0x54, 0, 0xbe, 0xef, 1]),
            ips: vec![Address {
                network: "management".into(),
                ip: "172.16.0.1".parse().unwrap(),
            }],
        }],
        ..Node::default()
    }
}

fn start(config: Value) -> (&'static FakeHost, Instance) {
    let host = FakeHost::new();
    host.set_nodes(vec![compute1()]);
    let plugin = host.start::<CloudInit>(config).unwrap();
    (host, plugin)
}

/// The tutorial's files, with the override of its command line.
fn tutorial() -> (&'static FakeHost, Instance, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let instances = dir.path().join("instances.yaml");
    fs::write(&instances, r#"[{"id":"x1000c0s0b0n0","local-hostname":"compute1"}]"#).unwrap();
    let (host, plugin) = start(json!({
        "defaults": data("ci-defaults.yaml"), "groups": data("ci-group-compute.yaml"), "instances": instances,
    }));
    (host, plugin, dir)
}

fn with(kind: &str, text: &str) -> (&'static FakeHost, Instance, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.yaml");
    fs::write(&path, text).unwrap();
    let (host, plugin) = start(json!({kind: path}));
    (host, plugin, dir)
}

fn get(plugin: &Instance, path: &str, node: Option<Node>) -> (u16, String) {
    let answer = plugin.get(path, node).unwrap();
    (answer.status, answer.body)
}

fn told(host: &FakeHost) -> Vec<String> {
    let mistakes = host.health().mistakes;
    mistakes.iter().map(|m| format!("{}: {}", m.line, m.text)).collect()
}

#[test]
fn the_tutorials_node_gets_the_tutorials_meta_data() {
    let (host, plugin, _dir) = tutorial();
    assert_eq!(told(host), [""; 0]);
    let answer = plugin.get("/cloud-init/meta-data", Some(compute1())).unwrap();
    assert_eq!(answer.body, META_DATA);
    assert_eq!(answer.headers[0].1, "application/x-yaml");
    assert!(answer.keep);
    for path in [
        "/cloud-init/meta-data/",
        "/cloud-initmeta-data",
        "/cloud-init/admin/impersonation/X1000c0s0b0n0/meta-data",
    ] {
        assert_eq!(get(&plugin, path, Some(compute1())), (200, META_DATA.into()), "{path}");
    }
    let parsed: Value = serde_saphyr::from_str(META_DATA).unwrap();
    assert_eq!(parsed["instance_data"]["v1"]["vendor_data"]["version"], "1.0");
}

#[test]
fn every_document_of_the_tutorial_is_served() {
    let (_, plugin, _dir) = tutorial();
    let include = "#include\nhttp://172.16.0.254:8081/cloud-init/compute.yaml\n";
    for prefix in [
        "/cloud-init",
        "/cloud-init/",
        "/cloud-init/admin/impersonation/x1000c0s0b0n0/",
    ] {
        assert_eq!(
            get(&plugin, &format!("{prefix}vendor-data"), Some(compute1())),
            (200, include.into())
        );
        assert_eq!(
            get(&plugin, &format!("{prefix}user-data"), Some(compute1())),
            (200, "#cloud-config".into())
        );
    }
    let (status, body) = get(&plugin, "/cloud-init/compute.yaml", Some(compute1()));
    assert_eq!(status, 200);
    assert!(
        body.starts_with("## template: jinja\n#cloud-config\nmerge_how:\n- name: list\n"),
        "{body}"
    );
    assert!(
        body.ends_with(
            "    ssh_authorized_keys: {{ ds.meta_data.instance_data.v1.public_keys }}\ndisable_root: false\n"
        )
    );
    assert_eq!(
        get(
            &plugin,
            "/cloud-init/admin/impersonation/x1000c0s0b0n0/compute.yaml",
            None
        )
        .1,
        body
    );
    assert!(get(&plugin, "/cloud-init/version", None).1.contains("process_name"));
    assert_eq!(get(&plugin, "/cloud-init/network-config", Some(compute1())).0, 404);
}

#[test]
fn strangers_get_what_the_contract_says() {
    let (_, plugin, _dir) = tutorial();
    for document in ["meta-data", "vendor-data"] {
        let answer = plugin.get(&format!("/cloud-init/{document}"), None).unwrap();
        assert_eq!((answer.status, answer.body.as_str(), answer.keep), (422, "", false));
    }
    assert_eq!(
        get(&plugin, "/cloud-init/user-data", None),
        (200, "#cloud-config".into())
    );
    assert_eq!(get(&plugin, "/cloud-init/compute.yaml", None).0, 500);
    let as_nobody = |document: &str| {
        get(
            &plugin,
            &format!("/cloud-init/admin/impersonation/x9c0s0b0n0/{document}"),
            None,
        )
    };
    assert_eq!(
        as_nobody("meta-data"),
        (404, "node x9c0s0b0n0 not found in SMD\n".into())
    );
    assert_eq!(as_nobody("vendor-data"), (200, "#include\n".into()));
    assert_eq!(as_nobody("user-data"), (200, "#cloud-config".into()));
    assert_eq!(as_nobody("compute.yaml").0, 404);
    let (status, text) = get(&plugin, "/cloud-init/storage.yaml", Some(compute1()));
    assert_eq!(status, 404);
    assert_eq!(
        text,
        "node x1000c0s0b0n0 is not a member of group storage (node and/or group may not exist in SMD)\n"
    );
}

#[test]
fn hostile_paths_lead_nowhere() {
    let (_, plugin, _dir) = tutorial();
    for path in [
        "/cloud-init",
        "/cloud-init/",
        "/cloud-init/.yaml",
        "/cloud-init/../../etc/passwd",
        "/cloud-init/../x.yaml",
        "/cloud-initadmin/impersonation/x1000c0s0b0n0/meta-data",
        "/cloud-init//admin/impersonation/x1000c0s0b0n0/meta-data",
        "/cloud-initversion",
        "/cloud-initcompute.yaml",
        "/cloud-init/admin/impersonation/x1000c0s0b0n0",
        "/cloud-init/admin/impersonation//meta-datax",
        "/cloud-init/phone-home/x",
        "/elsewhere",
        "/cloud-init/a\nb",
    ] {
        assert_eq!(get(&plugin, path, Some(compute1())).0, 404, "{path}");
    }
    let (_, text) = get(&plugin, "/cloud-init/a\r\nSet-Cookie: x.yaml", Some(compute1()));
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn a_computed_name_follows_the_rule() {
    let name = |defaults: &str, nid: Option<u64>| {
        let (_, plugin, _dir) = with("defaults", defaults);
        let node = Node { nid, ..compute1() };
        let body = get(&plugin, "/cloud-init/meta-data", Some(node)).1;
        serde_saphyr::from_str::<Value>(&body).unwrap()["hostname"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(name("short-name: nid\nnid-length: 3", Some(1)), "nid001");
    assert_eq!(name("short-name: nid\nnid-length: 3", Some(12345)), "nid12345");
    assert_eq!(name("cluster-name: demo\nnid-length: 0", Some(7)), "de0007");
    assert_eq!(name("cluster-name: é", Some(7)), "é0007");
    assert_eq!(name("region: here", None), "0000");
}

#[test]
fn the_base_url_is_the_nodes_then_the_clusters_then_the_requests() {
    let base = |plugin: &Instance, host: &str| {
        let request = Request {
            method: "GET".into(),
            path: "/cloud-init/vendor-data".into(),
            scheme: "http".into(),
            host: host.into(),
            node: Some(compute1()),
            ..Request::default()
        };
        let body = plugin.handle(&request).unwrap().body;
        let url = body.lines().nth(1).unwrap();
        url.strip_suffix("/compute.yaml").unwrap().to_owned()
    };
    let (_, plugin) = start(json!({}));
    assert_eq!(base(&plugin, "10.1.1.1:80"), "http://10.1.1.1:80/cloud-init");
    assert_eq!(base(&plugin, "evil\n#x"), "http://172.16.0.254:8081/cloud-init");
    let (_, plugin, _dir) = with("defaults", "base-url: http://site.example/cloud-init/");
    assert_eq!(base(&plugin, "10.1.1.1:80"), "http://site.example/cloud-init");
    let (_, plugin, _dir) = with("instances", "id: x1000c0s0b0n0\ncloud-init-base-url: http://own/ci");
    assert_eq!(base(&plugin, "10.1.1.1:80"), "http://own/ci");
}

#[test]
fn an_instance_wins_over_the_defaults_and_keys_are_joined() {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["d.yaml", "g.yaml", "i.yaml"].map(|name| dir.path().join(name));
    fs::write(
        &paths[0],
        "region: r1\navailability-zone: z1\ncloud_provider: p1\ncluster-name: c1\npublic-keys: [k1]\n",
    )
    .unwrap();
    fs::write(
        &paths[1],
        "name: compute\ndescription: one\nmeta-data: {Description: 'two: #', n: 7, yes: no, list: [1, {a: [b]}], deep: {x: ~, e: {}}}\n",
    )
    .unwrap();
    fs::write(
        &paths[2],
        "- {id: x1000c0s0b0n0, instance-id: '0x10', hostname: 'on', region: r2, cloud-provider: p2, cluster-name: c2, instance-type: big, public-keys: [k2]}\n",
    )
    .unwrap();
    let (host, plugin) = start(json!({"defaults": paths[0], "groups": [paths[1]], "instances": paths[2]}));
    assert_eq!(told(host), [""; 0]);
    let node = Node {
        groups: vec!["zeta".into(), "compute".into()],
        ..compute1()
    };
    let body = get(&plugin, "/cloud-init/meta-data", Some(node)).1;
    assert_eq!(
        serde_saphyr::from_str::<Value>(&body).unwrap(),
        json!({
            "instance-id": "0x10", "local-hostname": "c20001", "hostname": "on", "cluster-name": "c2",
            "instance_data": {"v1": {
                "availability_zone": "z1", "instance_id": "0x10", "instance_type": "big", "region": "r2",
                "local_ipv4": "172.16.0.1", "cloud_provider": "p2", "public_keys": ["k1", "k2"],
                "vendor_data": {
                    "version": "1.0", "cloud_init_base_url": "http://172.16.0.254:8081/cloud-init", "cluster_name": "c2",
                    "groups": {
                        "compute": {"Description": "two: #", "n": 7, "yes": "no", "list": [1, {"a": ["b"]}], "deep": {"x": null, "e": {}}},
                        "zeta": {"Description": "No description Found"},
                    },
                },
            }},
        })
    );
}

#[test]
fn groups_without_data_and_with_base64_are_served_decoded() {
    let text = "- {name: compute, file: {encoding: base64, content: I2Nsb3VkLWNvbmZpZwphOiAxCg==}}\n- {name: bare}\n\
                - {name: broken, file: {encoding: base64, content: '***'}}\n- {name: binary, file: {encoding: base64, content: /w==}}\n";
    let (host, plugin, _dir) = with("groups", text);
    assert_eq!(
        told(host),
        ["3: content is not base64", "4: content is not UTF-8 text when decoded"]
    );
    let node = Node {
        groups: ["bare", "binary", "broken", "compute", "none", "a/b", "x y"]
            .map(String::from)
            .to_vec(),
        ..compute1()
    };
    let get = |path: &str| get(&plugin, path, Some(node.clone()));
    assert_eq!(get("/cloud-init/compute.yaml"), (200, "#cloud-config\na: 1\n".into()));
    assert_eq!(get("/cloud-init/bare.yaml"), (200, "#cloud-config".into()));
    assert_eq!(get("/cloud-init/none.yaml"), (200, "#cloud-config".into()));
    assert_eq!(
        get("/cloud-init/broken.yaml"),
        (500, "the document of group broken is not base64\n".into())
    );
    assert_eq!(get("/cloud-init/binary.yaml").0, 500);
    let list = get("/cloud-init/vendor-data").1;
    let names: Vec<&str> = list
        .lines()
        .skip(1)
        .map(|line| line.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "bare.yaml",
            "binary.yaml",
            "broken.yaml",
            "compute.yaml",
            "none.yaml",
            "x%20y.yaml"
        ]
    );
}

#[test]
fn a_node_phones_home() {
    let (_, plugin, _dir) = tutorial();
    let post = |body: &str, node: Option<Node>| {
        let request = Request {
            method: "POST".into(),
            path: "/cloud-init/phone-home/i-1".into(),
            body: body.into(),
            node,
            ..Request::default()
        };
        let answer = plugin.handle(&request).unwrap();
        assert_eq!(answer.body, "");
        answer.status
    };
    assert_eq!(
        post(
            "hostname=nid001&pub_key_rsa=ssh-rsa+AAA%0A&instance_id=i-1",
            Some(compute1())
        ),
        200
    );
    assert_eq!(post("", Some(compute1())), 200);
    assert_eq!(post("hostname=%zz", Some(compute1())), 400);
    assert_eq!(post("hostname=nid001", None), 422);
}

#[test]
fn mistakes_are_told_with_their_line_and_cost_only_their_row() {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["d.yaml", "g.yaml", "i.yaml"].map(|name| dir.path().join(name));
    fs::write(
        &paths[0],
        "cluster-name: demo\nnid-length: three\nbase-url: a b\nbase_url: x\n",
    )
    .unwrap();
    fs::write(&paths[1], "- name: compute\n- file: {}\n- name: compute\n- name: x\n  file: {encoding: gzip}\n- name: y\n  meta-data: [1]\n").unwrap();
    fs::write(
        &paths[2],
        "- id: compute1\n- id: x1000c0s0b0n0\n  hostnam: a\n- id: X1000c0s0b0n0\n",
    )
    .unwrap();
    let (host, plugin) = start(json!({"defaults": paths[0], "groups": paths[1], "instances": paths[2]}));
    assert!(
        get(&plugin, "/cloud-init/meta-data", Some(compute1()))
            .1
            .contains("cluster-name: demo\n")
    );
    let told = told(host);
    let begins: Vec<String> = told.iter().map(|text| text.chars().take(24).collect()).collect();
    assert_eq!(
        begins,
        [
            "2: nid-length: 'three': ",
            "3: base-url must be a UR",
            "4: unknown key 'base_url",
            "2: this group has no nam",
            "3: the group compute is ",
            "5: encoding must be plai",
            "7: meta-data must be a m",
            "1: id must be the xname ",
            "3: unknown key 'hostnam'",
            "4: the node x1000c0s0b0n",
        ],
        "{told:#?}"
    );
    assert!(told[4].ends_with("g.yaml:1, which counts"), "{told:#?}");
    assert_eq!(host.health().text, "1 group and 1 node override");
}

#[test]
fn a_changed_file_with_mistakes_changes_nothing_until_it_is_right() {
    let (host, plugin, dir) = with("defaults", "short-name: old\n");
    let path = dir.path().join("file.yaml");
    let look = || {
        host.sleeps(1);
        assert!(plugin.run());
        let body = get(&plugin, "/cloud-init/meta-data", Some(compute1())).1;
        (
            body.contains("hostname: old0001"),
            host.bumps(),
            host.health().mistakes.len(),
        )
    };
    assert_eq!(look(), (true, 0, 0));
    for bad in ["short-name: new\nnid-length: x\n", "", "short-name: {"] {
        fs::write(&path, bad).unwrap();
        assert_eq!(look(), (true, 0, 1), "{bad}");
    }
    fs::write(&path, "short-name: new\n").unwrap();
    assert_eq!(look(), (false, 1, 0));
}
