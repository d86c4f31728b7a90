//! What is wrong is refused with its reason, and changes nothing.

use super::api::{read, send, status};
use super::*;

const DEFAULTS: &str = "/cloud-init/admin/cluster-defaults";
const GROUPS: &str = "/cloud-init/admin/groups";
const INSTANCES: &str = "/cloud-init/admin/instance-info";

fn nothing_changed(host: &FakeHost, plugin: &Instance) {
    for path in [DEFAULTS, GROUPS, INSTANCES] {
        assert_eq!(read(plugin, path), json!({}), "{path}");
    }
    assert_eq!(host.bumps(), 0);
}

#[test]
fn bad_json_is_refused_on_each_route_that_writes() {
    let (host, plugin) = start(json!({}));
    let deep = "[".repeat(10_000);
    let deep_data = format!(r#"{{"name":"a","meta-data":{}}}"#, "{\"a\":".repeat(10_000));
    let bodies = [
        "",
        "{",
        "[]",
        "7",
        r#"{"name":"a"#,
        r#"{"name":"a"} x"#,
        r#"{"name":"a","Name":"b"}"#,
        r#"{"name":"a","NAME":"a"}"#,
        &deep,
        &deep_data,
    ];
    for body in bodies {
        for (method, path, refused) in [
            ("POST", DEFAULTS.to_owned(), 400),
            ("POST", GROUPS.to_owned(), 422),
            ("PUT", format!("{GROUPS}/a"), 422),
            ("PUT", format!("{INSTANCES}/x1000c0s0b0n0"), 400),
        ] {
            let answer = send(&plugin, method, &path, body);
            let start = &body[..body.len().min(40)];
            assert_eq!(answer.status, refused, "{method} {path} {start}");
            assert!(answer.body.len() > 10, "a reason is told: {method} {path} {start}");
        }
    }
    nothing_changed(host, &plugin);
}

#[test]
fn a_groups_file_has_its_keys_in_any_case_and_none_twice() {
    let (_, plugin) = start(json!({}));
    let body = r##"{"NAME":"compute","File":{"Content":"#a","ENCODING":"plain"},"Meta-Data":{"Key":1,"key":2}}"##;
    assert_eq!(status(&plugin, "POST", GROUPS, body), 201);
    assert_eq!(
        read(&plugin, GROUPS)["compute"],
        json!({"name": "compute", "meta-data": {"Key": 1, "key": 2}, "file": {"content": "#a", "filename": "", "encoding": "plain"}})
    );
    let answer = send(
        &plugin,
        "POST",
        GROUPS,
        r#"{"name":"a","file":{"content":"a","Content":"b"}}"#,
    );
    assert_eq!(answer.status, 422);
    assert!(
        answer.body.contains("the key 'content' stands twice"),
        "{}",
        answer.body
    );
}

#[test]
fn wrong_types_and_values_are_told_with_their_place() {
    let (host, plugin) = start(json!({}));
    let told = |path: &str, body: Value| {
        let method = if path == DEFAULTS || path == GROUPS {
            "POST"
        } else {
            "PUT"
        };
        let answer = send(&plugin, method, path, &body.to_string());
        assert!(
            answer.status == 400 || answer.status == 422,
            "{body}: {}",
            answer.status
        );
        answer.body.trim_end().to_owned()
    };
    let node = format!("{INSTANCES}/x1000c0s0b0n0");
    for (path, body, reason) in [
        (
            DEFAULTS,
            json!({"nid-length": "3"}),
            "/nid-length: must be a whole number",
        ),
        (
            DEFAULTS,
            json!({"nid-length": 21}),
            "/nid-length: must be a number from 0 to 20",
        ),
        (
            DEFAULTS,
            json!({"nid-length": -1, "public-keys": "k"}),
            "/nid-length: must be a number from 0 to 20; /public-keys: must be a list",
        ),
        (
            DEFAULTS,
            json!({"public-keys": ["a", 1, "b\nc"]}),
            "/public-keys/1: must be a text; /public-keys/2: must be one line, without control characters",
        ),
        (
            DEFAULTS,
            json!({"base-url": "172.16.0.254"}),
            "/base-url: must be a URL, such as http://172.16.0.254:8081/cloud-init",
        ),
        (
            DEFAULTS,
            json!({"base-url": "http://a\n#x"}),
            "/base-url: must be a URL, such as http://172.16.0.254:8081/cloud-init",
        ),
        (
            GROUPS,
            json!({"name": "a\u{7}b"}),
            "/name: must be one word of a URL, without '/'",
        ),
        (
            GROUPS,
            json!({"name": "a", "meta-data": []}),
            "/meta-data: must be an object",
        ),
        (
            GROUPS,
            json!({"name": "a", "meta-data": {"x": {"k".repeat(2000): 1}}}),
            "/meta-data: a key has more than 160 bytes",
        ),
        (
            GROUPS,
            json!({"name": "a", "file": {"Encoding": "gzip"}}),
            "/file/encoding: must be one of plain, base64",
        ),
        (
            GROUPS,
            json!({"name": "a", "file": {"content": {}}}),
            "/file/content: must be a text",
        ),
        (GROUPS, json!({"description": "a"}), "body: has no name"),
        (
            &node,
            json!({"region": "a\r\nb"}),
            "/region: must be one line, without control characters",
        ),
        (&node, json!({"hostname": ["a"]}), "/hostname: must be a text"),
    ] {
        assert_eq!(told(path, body), reason);
    }
    nothing_changed(host, &plugin);
}

/// `{"a":{"a":…1}}` of so many levels.
fn nested(levels: usize) -> String {
    format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels))
}

#[test]
fn group_data_of_32_levels_are_there_after_a_start_and_deeper_ones_are_refused() {
    let (host, plugin) = start(json!({}));
    for key in ["meta-data", "versions"] {
        for (levels, expected) in [(31, 201), (32, 201), (33, 422), (126, 422), (127, 422)] {
            let name = format!("{key}{levels}");
            let body = format!(r#"{{"name":"{name}","{key}":{}}}"#, nested(levels));
            for (method, path) in [("POST", GROUPS.to_owned()), ("PUT", format!("{GROUPS}/{name}"))] {
                let answer = send(&plugin, method, &path, &body);
                assert_eq!(answer.status, expected, "{method} {key} {levels}: {}", answer.body);
                if levels == 33 {
                    assert_eq!(answer.body, format!("/{key}: is more than 32 levels deep\n"));
                }
            }
        }
    }
    let before = read(&plugin, GROUPS);
    assert_eq!(before.as_object().unwrap().len(), 4);
    let export = send(&plugin, "GET", "/bootd/v1/export/cloud-init", "").body;
    drop(plugin);
    let plugin = host.start::<CloudInit>(json!({})).unwrap();
    assert_eq!(read(&plugin, GROUPS), before);
    let (_, other) = start(json!({}));
    assert_eq!(status(&other, "POST", "/bootd/v1/import/cloud-init", &export), 204);
    assert_eq!(read(&other, GROUPS), before);
    let text = format!("groups:\n- name: a\n  meta-data: {}\n", nested(33));
    let answer = send(&other, "POST", "/bootd/v1/import/cloud-init", &text);
    assert_eq!(answer.status, 400);
    assert!(
        answer.body.contains("import:3: meta-data is more than 32 levels deep"),
        "{}",
        answer.body
    );
}

/// What an older version, or a damaged disk, left in the store.
struct Older;

impl Plugin for Older {
    const NAME: &'static str = "older";
    type Settings = std::collections::BTreeMap<String, String>;

    fn init(start: Start<Self::Settings>, _: &mut Setup) -> Result<Self, Error> {
        let commit = bootd_sdk::wire::Commit {
            put: start.settings,
            ..Default::default()
        };
        start.host.store_commit(&commit)?;
        Ok(Self)
    }

    fn run(&self) -> Result<(), Error> {
        Ok(())
    }
}

#[test]
fn stored_rows_that_cannot_be_read_are_mistakes_until_they_are_deleted_or_written_again() {
    let host = FakeHost::new();
    let deep = format!(
        r#"{{"by":"api","value":{{"name":"deep","meta-data":{}}}}}"#,
        nested(126)
    );
    let rows = json!({
        "group/deep": deep,
        "group/typed": r#"{"by":"api","value":{"name":7}}"#,
        "instance/x1000c0s0b0n0": "{",
        "defaults/nid-length": r#"{"by":"api","value":"three"}"#,
        "defaults/cluster-name": r#"{"by":"api","value":"demo"}"#,
        "applied/group/typed": "{",
        "revision": "7",
    });
    host.start::<Older>(rows).unwrap();
    let plugin = host.start::<CloudInit>(json!({})).unwrap();
    let keys = || -> Vec<String> {
        let mistakes = host.health().mistakes;
        assert!(mistakes.iter().all(|mistake| mistake.file == "store"));
        mistakes
            .iter()
            .map(|mistake| mistake.text.split(' ').next().unwrap().to_owned())
            .collect()
    };
    let all = [
        "defaults/nid-length",
        "group/deep",
        "group/typed",
        "instance/x1000c0s0b0n0",
    ];
    assert_eq!(keys(), all);
    assert_eq!(
        read(&plugin, DEFAULTS),
        json!({"cluster-name": "demo"}),
        "one costs only itself"
    );
    assert_eq!(status(&plugin, "DELETE", &format!("{GROUPS}/deep"), ""), 200);
    assert_eq!(
        status(&plugin, "PUT", &format!("{GROUPS}/typed"), r#"{"name":"typed"}"#),
        201
    );
    host.sleeps(1);
    assert!(plugin.run());
    assert_eq!(keys(), ["defaults/nid-length", "instance/x1000c0s0b0n0"]);
    assert_eq!(status(&plugin, "POST", DEFAULTS, r#"{"nid-length":3}"#), 201);
    assert_eq!(
        status(&plugin, "DELETE", &format!("{INSTANCES}/x1000c0s0b0n0"), ""),
        200
    );
    drop(plugin);
    let plugin = host.start::<CloudInit>(json!({})).unwrap();
    assert_eq!(keys(), [""; 0]);
    assert_eq!(read(&plugin, GROUPS).as_object().unwrap().len(), 1);
    assert!(!host.stored().contains_key("group/deep"));
}

#[test]
fn a_store_that_fails_is_a_fault_of_the_server_on_each_route_that_writes() {
    let host = FakeHost::new();
    // No write finds this revision as it was.
    host.start::<Older>(json!({"revision": "?"})).unwrap();
    let plugin = host.start::<CloudInit>(json!({})).unwrap();
    for (method, path, body) in [
        ("POST", DEFAULTS, r#"{"region":"r"}"#),
        ("POST", GROUPS, r#"{"name":"a"}"#),
        ("PUT", "/cloud-init/admin/groups/a", r#"{"name":"a"}"#),
        ("PUT", "/cloud-init/admin/instance-info/x1000c0s0b0n0", "{}"),
        ("POST", "/bootd/v1/import/cloud-init", "groups: [{name: a}]"),
    ] {
        let answer = send(&plugin, method, path, body);
        assert_eq!(answer.status, 500, "{method} {path}: {}", answer.body);
    }
    assert_eq!(read(&plugin, GROUPS), json!({}));
}

#[test]
fn host_names_of_overrides_are_host_names() {
    let (host, plugin) = start(json!({}));
    let path = format!("{INSTANCES}/x1000c0s0b0n0");
    let (label, name) = ("a".repeat(63), format!("{}b", "a.".repeat(126)));
    let long = [name.as_str(), "b"].concat();
    for key in ["hostname", "local-hostname"] {
        let put = |name: &str| send(&plugin, "PUT", &path, &json!({key: name}).to_string()).status;
        for bad in [
            "bad host_name!",
            "a_b",
            "-a",
            "a-",
            "a.-b",
            "a..b",
            ".a",
            "a.",
            "é",
            "a/b",
            &format!("{label}a"),
            &long,
        ] {
            assert_eq!(put(bad), 400, "{key} {bad}");
        }
    }
    nothing_changed(host, &plugin);
    for good in ["nid001", "A-1.cluster", "1", "", &label, &name] {
        let body = json!({"hostname": good, "local-hostname": good}).to_string();
        assert_eq!(status(&plugin, "PUT", &path, &body), 201, "{good}");
    }
    let (host, _plugin, _dir) = with("instances", "- id: x1000c0s0b0n0\n  hostname: a_b\n");
    assert_eq!(told(host).len(), 1);
}

#[test]
fn an_override_is_only_for_what_boots() {
    let (host, plugin) = start(json!({}));
    for id in [
        "x1000c0s0b0",
        "x1000",
        "compute1",
        "x1000c0s0b0n0x",
        "..",
        "x1c0s0b0n99999999999",
    ] {
        assert_eq!(status(&plugin, "PUT", &format!("{INSTANCES}/{id}"), "{}"), 400, "{id}");
    }
    let path = format!("{INSTANCES}/x1000c0s0b0n0");
    assert_eq!(status(&plugin, "PUT", &path, r#"{"id":"x1000c0s0b0n1"}"#), 400);
    nothing_changed(host, &plugin);
    assert_eq!(status(&plugin, "PUT", &path, r#"{"id":"X1000C0S0B0N0"}"#), 201);
}

#[test]
fn an_import_with_a_mistake_imports_nothing_and_tells_all_of_them() {
    let (host, plugin) = start(json!({}));
    for (text, reason) in [
        ("", "import: is empty"),
        (
            "groups: [{name: a}]\nx: 1\n",
            "import:2: unknown key 'x' in a document; it may have cluster-defaults, groups, instances",
        ),
        (
            "cluster-defaults: {cluster-name: a}\ngroups:\n- name: g\n  file: {encoding: base64, content: '*'}\ninstances:\n- id: compute1\n",
            "import:4: content is not base64\nimport:6: id must be the xname of a node, such as x1000c0s0b0n0",
        ),
        (
            "groups:\n- name: g\n- name: g\n",
            "import:3: the group g is already in import:2, which counts",
        ),
    ] {
        let answer = send(&plugin, "POST", "/bootd/v1/import/cloud-init", text);
        let problem: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, &problem["detail"]), (400, &json!(reason)));
    }
    nothing_changed(host, &plugin);
}

#[test]
fn no_mutation_of_a_request_panics_or_fails() {
    let (_, plugin) = start(json!({"network_config": {}}));
    let seeds = [
        "POST /cloud-init/admin/cluster-defaults {\"cluster-name\":\"demo\",\"nid-length\":3,\"public-keys\":[\"k\"],\"base-url\":\"http://h/c\"}",
        "POST /cloud-init/admin/groups {\"name\":\"compute\",\"meta-data\":{\"a\":[1,{\"b\":null}]},\"file\":{\"content\":\"I2E=\",\"encoding\":\"base64\"}}",
        "PUT /cloud-init/admin/groups/compute {\"name\":\"compute\",\"file\":{\"content\":\"#cloud-config\\n\"}}",
        "PUT /cloud-init/admin/instance-info/x1000c0s0b0n0 {\"id\":\"x1000c0s0b0n0\",\"local-hostname\":\"compute1\"}",
        "DELETE /cloud-init/admin/groups/compute ",
        "DELETE /cloud-init/admin/instance-info/x1000c0s0b0n0 ",
        "GET /cloud-init/admin/impersonation/x1000c0s0b0n0/compute.yaml ",
        "GET /cloud-init/meta-data ",
        "GET /cloud-init/network-config ",
        "GET /bootd/v1/export/cloud-init ",
        "POST /bootd/v1/import/cloud-init groups:\n- name: compute\n  file: {content: a}\n",
        "POST /cloud-init/phone-home/i-1 hostname=nid001&pub_key_rsa=ssh-rsa+AAA%0A",
        "POST /cloud-init/wg-init {\"public_key\":\"k\"}",
    ];
    let seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    bootd_sdk::fake::mutations(&seeds, 4000, |text| {
        let mut words = text.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let request = Request {
            method: word(),
            path: word(),
            body: word(),
            scheme: "http".into(),
            host: "172.16.0.254:8081".into(),
            node: Some(compute1()),
            ..Request::default()
        };
        let answer = plugin
            .handle(&request)
            .unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(answer.status < 500, "{}: {text}", answer.status);
        if answer.headers.iter().any(|(_, value)| value == "application/x-yaml") {
            let read = serde_saphyr::from_str::<Value>(&answer.body);
            assert!(read.is_ok(), "{read:?}\n{}", answer.body);
        }
    });
    assert_eq!(
        get(&plugin, "/cloud-init/user-data", None),
        (200, "#cloud-config".into())
    );
}
