//! The admin API as `ochami cloud-init` drives it (contract 1.6.3, 4.4), and that what was acknowledged stays.

use super::*;

pub(super) fn send(plugin: &Instance, method: &str, path: &str, body: &str) -> Answer {
    let request = Request {
        method: method.into(),
        path: path.into(),
        body: body.into(),
        scheme: "http".into(),
        host: "172.16.0.254:8081".into(),
        ..Request::default()
    };
    plugin.handle(&request).unwrap()
}

pub(super) fn status(plugin: &Instance, method: &str, path: &str, body: &str) -> u16 {
    send(plugin, method, path, body).status
}

pub(super) fn read(plugin: &Instance, path: &str) -> Value {
    let answer = send(plugin, "GET", path, "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

const DEFAULTS: &str = "/cloud-init/admin/cluster-defaults";
const GROUPS: &str = "/cloud-init/admin/groups";
const NODE_1: &str = "/cloud-init/admin/instance-info/x1000c0s0b0n0";

#[test]
fn the_tutorials_commands_lead_to_the_tutorials_meta_data() {
    let (host, plugin) = start(json!({}));
    let defaults = r#"{"base-url":"http://172.16.0.254:8081/cloud-init/","cluster-name":"demo","nid-length":3,"public-keys":["<YOUR SSH KEY GOES HERE>"],"short-name":"nid"}"#;
    let answer = send(&plugin, "POST", DEFAULTS, defaults);
    assert_eq!((answer.status, answer.body.as_str()), (201, ""));
    assert_eq!(
        send(&plugin, "GET", DEFAULTS, "").body,
        r#"{"cluster-name":"demo","public-keys":["<YOUR SSH KEY GOES HERE>"],"base-url":"http://172.16.0.254:8081/cloud-init","short-name":"nid","nid-length":3}"#
    );
    let group = json!({"name": "compute", "description": "compute config", "file": {"content": "## template: jinja\n#cloud-config\n", "filename": "", "encoding": "plain"}});
    let answer = send(&plugin, "PUT", &format!("{GROUPS}/compute"), &group.to_string());
    assert_eq!(
        (answer.status, answer.headers),
        (201, vec![("location".into(), "/groups/compute".into())])
    );
    assert_eq!(read(&plugin, &format!("{GROUPS}/compute")), group);
    assert_eq!(read(&plugin, GROUPS), json!({"compute": group}));
    let own = r#"{"id":"x1000c0s0b0n0","instance-id":"","local-hostname":"compute1"}"#;
    assert_eq!(status(&plugin, "PUT", NODE_1, own), 201);
    assert_eq!(host.bumps(), 3);
    for path in [
        "/cloud-init/meta-data",
        "/cloud-init/admin/impersonation/x1000c0s0b0n0/meta-data",
    ] {
        assert_eq!(get(&plugin, path, Some(compute1())), (200, META_DATA.into()), "{path}");
    }
    assert_eq!(
        get(&plugin, "/cloud-init/compute.yaml", Some(compute1())).1,
        "## template: jinja\n#cloud-config\n"
    );
}

#[test]
fn what_was_acknowledged_is_there_after_a_start() {
    let (host, plugin) = start(json!({}));
    assert_eq!(status(&plugin, "POST", DEFAULTS, r#"{"cluster-name":"demo"}"#), 201);
    assert_eq!(
        status(
            &plugin,
            "POST",
            GROUPS,
            r#"{"name":"compute","file":{"content":"I2E=","encoding":"base64"}}"#
        ),
        201
    );
    assert_eq!(status(&plugin, "PUT", NODE_1, r#"{"hostname":"first"}"#), 201);
    assert_eq!(status(&plugin, "POST", GROUPS, r#"{"name":"gone"}"#), 201);
    assert_eq!(status(&plugin, "DELETE", &format!("{GROUPS}/gone"), ""), 200);
    drop(plugin);
    let plugin = host.start::<CloudInit>(json!({})).unwrap();
    assert_eq!(read(&plugin, DEFAULTS), json!({"cluster-name": "demo"}));
    assert_eq!(
        get(&plugin, "/cloud-init/compute.yaml", Some(compute1())),
        (200, "#a".into())
    );
    assert_eq!(read(&plugin, NODE_1)["hostname"], "first");
    assert_eq!(read(&plugin, GROUPS).as_object().unwrap().len(), 1);
}

#[test]
fn defaults_are_merged_and_never_cleared() {
    let (_, plugin) = start(json!({}));
    assert_eq!(send(&plugin, "GET", DEFAULTS, "").body, "{}");
    let set = |body: &str| assert_eq!(status(&plugin, "POST", DEFAULTS, body), 201, "{body}");
    set(r#"{"cluster-name":"demo","public-keys":["a","b"],"nid-length":3,"boot-subnet":"172.16.0.0/24"}"#);
    set(r#"{"Cluster-Name":"","public-keys":["c"],"nid-length":0,"cloud-provider":"site","region":null}"#);
    set(r#"{"public-keys":[]}"#);
    set(r#"{"cloud_provider":"site","cloud-provider":"other"}"#);
    assert_eq!(
        read(&plugin, DEFAULTS),
        json!({"cluster-name": "demo", "public-keys": ["c"], "nid-length": 3, "cloud_provider": "site", "boot-subnet": "172.16.0.0/24"})
    );
}

#[test]
fn a_group_is_added_once_and_set_often_under_the_paths_name() {
    let (_, plugin) = start(json!({}));
    assert_eq!(status(&plugin, "POST", GROUPS, r#"{"name":"a"}"#), 201);
    let answer = send(&plugin, "POST", GROUPS, r#"{"name":"a","description":"new"}"#);
    assert_eq!((answer.status, answer.body.as_str()), (409, "group a already exists\n"));
    let path = format!("{GROUPS}/a");
    assert_eq!(
        status(&plugin, "PUT", &path, r#"{"name":"b","description":"new"}"#),
        201
    );
    assert_eq!(
        send(&plugin, "GET", &path, "").body,
        r#"{"name":"a","description":"new","file":{"content":"","filename":"","encoding":"plain"}}"#
    );
    let answer = send(&plugin, "GET", &format!("{GROUPS}/b"), "");
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (404, "group (b) not found in memstore\n")
    );
    for body in [
        "{}",
        "{",
        "null",
        r#"{"name":7}"#,
        r#"{"name":""}"#,
        r#"{"name":"a/b"}"#,
    ] {
        assert_eq!(status(&plugin, "POST", GROUPS, body), 422, "{body}");
        assert_eq!(status(&plugin, "PUT", &path, body), 422, "{body}");
    }
    for _ in 0..2 {
        assert_eq!(status(&plugin, "DELETE", &path, ""), 200);
    }
    assert_eq!(read(&plugin, GROUPS), json!({}));
}

#[test]
fn content_that_is_not_base64_is_refused_with_422_as_all_that_is_wrong_with_a_group() {
    let (host, plugin) = start(json!({}));
    for content in ["***", "/w=="] {
        let body = json!({"name": "a", "file": {"content": content, "encoding": "base64"}}).to_string();
        assert_eq!(status(&plugin, "POST", GROUPS, &body), 422, "{content}");
        assert_eq!(status(&plugin, "PUT", &format!("{GROUPS}/a"), &body), 422, "{content}");
    }
    assert_eq!((read(&plugin, GROUPS), host.bumps()), (json!({}), 0));
}

#[test]
fn an_override_keeps_its_instance_id_and_can_be_read_and_taken_back() {
    let (_, plugin) = start(json!({}));
    assert_eq!(status(&plugin, "GET", NODE_1, ""), 404);
    assert_eq!(
        status(
            &plugin,
            "PUT",
            NODE_1,
            r#"{"instance-id":"i-mine","hostname":"a","region":"r"}"#
        ),
        201
    );
    assert_eq!(
        status(&plugin, "PUT", NODE_1, r#"{"instance-id":"i-other","hostname":"b"}"#),
        201
    );
    let own = json!({"id": "x1000c0s0b0n0", "instance-id": "i-mine", "hostname": "b"});
    assert_eq!(read(&plugin, NODE_1), own);
    assert_eq!(
        read(&plugin, "/cloud-init/admin/instance-info"),
        json!({"x1000c0s0b0n0": own})
    );
    for _ in 0..2 {
        assert_eq!(
            status(&plugin, "DELETE", "/cloud-init/admin/instance-info/X1000c0s0b0n0", ""),
            200
        );
    }
    assert_eq!(status(&plugin, "GET", NODE_1, ""), 404);
    // A node that had a computed id keeps it as well.
    assert_eq!(status(&plugin, "PUT", NODE_1, "{}"), 201);
    assert_eq!(status(&plugin, "PUT", NODE_1, r#"{"instance-id":"i-late"}"#), 201);
    assert_eq!(read(&plugin, NODE_1)["instance-id"], "i-15e49172");
}

#[test]
fn a_node_that_left_the_inventory_is_gone_and_its_override_waits_for_it() {
    let (host, plugin) = start(json!({}));
    assert_eq!(status(&plugin, "PUT", NODE_1, r#"{"hostname":"a"}"#), 201);
    let path = "/cloud-init/admin/impersonation/x1000c0s0b0n0/meta-data";
    assert_eq!(get(&plugin, path, None).0, 200);
    host.set_nodes(Vec::new());
    assert_eq!(get(&plugin, path, None).0, 404);
    assert_eq!(get(&plugin, "/cloud-init/meta-data", None).0, 422);
    host.set_nodes(vec![compute1()]);
    assert!(get(&plugin, path, None).1.contains("\nhostname: a\n"));
}

#[test]
fn only_what_a_node_asks_for_itself_is_kept() {
    let (_, plugin, _dir) = tutorial();
    for document in ["meta-data", "user-data", "vendor-data", "compute.yaml"] {
        let kept = |path: &str| {
            plugin
                .get(&format!("{path}/{document}"), Some(compute1()))
                .unwrap()
                .keep
        };
        assert!(kept("/cloud-init"), "{document}");
        assert!(!kept("/cloud-init/admin/impersonation/x1000c0s0b0n0"), "{document}");
    }
    for path in [DEFAULTS, GROUPS, NODE_1, "/cloud-init/version"] {
        assert!(!send(&plugin, "GET", path, "").keep, "{path}");
    }
}

#[test]
fn impersonation_can_be_switched_off() {
    let (_, plugin) = start(json!({"impersonation": false}));
    for document in ["meta-data", "user-data", "vendor-data", "compute.yaml"] {
        let path = format!("/cloud-init/admin/impersonation/x1000c0s0b0n0/{document}");
        assert_eq!(get(&plugin, &path, None).0, 404, "{document}");
        assert_eq!(
            get(&plugin, &format!("/cloud-init/{document}"), Some(compute1())).0,
            200
        );
    }
}

#[test]
fn wireguard_is_asked_for_in_vain_but_not_with_nonsense() {
    let (_, plugin) = start(json!({}));
    let ask = |body: &str| {
        let answer = send(&plugin, "POST", "/cloud-init/wg-init", body);
        (answer.status, answer.body)
    };
    assert_eq!(ask("x"), (400, "Invalid request body\n".into()));
    assert_eq!(ask("{}"), (400, "Public key is required\n".into()));
    assert_eq!(ask(r#"{ "public_key": "k" }"#).0, 404);
}

/// Two instances side by side, as while one takes the place of the other; a request to it is three writers at once.
struct Writers([CloudInit; 2]);

impl Plugin for Writers {
    const NAME: &'static str = "writers";
    type Settings = Value;

    fn init(start: Start<Value>, _: &mut Setup) -> Result<Self, Error> {
        let one = || {
            let start = Start {
                settings: serde_json::from_value(json!({"local": {}}))?,
                mode: start.mode.clone(),
                folder: start.folder.clone(),
                server: start.server.clone(),
                host: start.host,
            };
            CloudInit::init(start, &mut Setup::default())
        };
        Ok(Self([one()?, one()?]))
    }

    fn handle(&self, _: Request) -> Answer {
        let Self([first, second]) = self;
        std::thread::scope(|scope| {
            for (writer, plugin) in [first, second, first].into_iter().enumerate() {
                scope.spawn(move || {
                    for n in 0..50 {
                        let request = Request {
                            method: "POST".into(),
                            path: GROUPS.into(),
                            body: json!({"name": format!("g{writer}-{n}")}).to_string(),
                            ..Request::default()
                        };
                        // Two instances that meet too often say so.
                        while plugin.handle(request.clone()).status == 503 {}
                    }
                });
            }
        });
        Answer::default()
    }
}

#[test]
fn two_writers_at_once_lose_nothing() {
    let host = FakeHost::new();
    let writers = host.start::<Writers>(json!({})).unwrap();
    assert_eq!(status(&writers, "POST", "/", ""), 200);
    let plugin = host.start::<CloudInit>(json!({})).unwrap();
    assert_eq!(read(&plugin, GROUPS).as_object().unwrap().len(), 150);
}
