//! Files are applied, not owned; exports and imports.

use super::api::{read, send, status};
use super::*;

const DEFAULTS: &str = "/cloud-init/admin/cluster-defaults";
const GROUPS: &str = "/cloud-init/admin/groups";

fn look(host: &FakeHost, plugin: &Instance, looks: u64) {
    host.sleeps(looks);
    assert!(plugin.run());
}

fn names(plugin: &Instance) -> Vec<String> {
    read(plugin, GROUPS).as_object().unwrap().keys().cloned().collect()
}

#[test]
fn what_is_gone_from_a_file_goes_unless_others_wrote_it_since() {
    let (host, plugin, dir) = with("groups", "[{name: a}, {name: b}, {name: c}]");
    let path = dir.path().join("file.yaml");
    look(host, &plugin, 1);
    assert_eq!(
        status(
            &plugin,
            "PUT",
            &format!("{GROUPS}/b"),
            r#"{"name":"b","description":"mine"}"#
        ),
        201
    );
    assert_eq!(status(&plugin, "POST", GROUPS, r#"{"name":"own"}"#), 201);
    fs::write(&path, "[{name: c, description: new}]").unwrap();
    look(host, &plugin, 1);
    assert_eq!(names(&plugin), ["a", "b", "c", "own"], "it may be half written");
    assert_eq!(read(&plugin, GROUPS)["c"]["description"], "new");
    look(host, &plugin, 1);
    assert_eq!(names(&plugin), ["b", "c", "own"]);
    assert_eq!(host.health().text, "3 groups and 0 node overrides");
}

#[test]
fn a_write_of_others_stays_until_the_file_says_something_new() {
    let (host, plugin, dir) = with("defaults", "cluster-name: file\nnid-length: 3\n");
    let path = dir.path().join("file.yaml");
    assert_eq!(
        status(&plugin, "POST", DEFAULTS, r#"{"cluster-name":"mine","region":"r"}"#),
        201
    );
    fs::write(&path, "cluster-name: file\nnid-length: 5\n").unwrap();
    look(host, &plugin, 2);
    let mine = json!({"cluster-name": "mine", "region": "r", "nid-length": 5});
    assert_eq!(read(&plugin, DEFAULTS), mine);
    drop(plugin);
    let plugin = host.start::<CloudInit>(json!({"defaults": path})).unwrap();
    look(host, &plugin, 2);
    assert_eq!(read(&plugin, DEFAULTS), mine, "a start writes nothing that is not new");
    fs::write(&path, "cluster-name: newer\n").unwrap();
    look(host, &plugin, 2);
    assert_eq!(read(&plugin, DEFAULTS), json!({"cluster-name": "newer", "region": "r"}));
}

#[test]
fn what_was_gone_from_a_file_at_a_start_goes_after_a_look() {
    let (host, plugin, dir) = with("groups", "[{name: a}, {name: b}]");
    look(host, &plugin, 0);
    drop(plugin);
    let path = dir.path().join("file.yaml");
    fs::write(&path, "[{name: b}]").unwrap();
    let plugin = host.start::<CloudInit>(json!({"groups": path})).unwrap();
    assert_eq!(names(&plugin), ["a", "b"]);
    look(host, &plugin, 1);
    assert_eq!(names(&plugin), ["b"]);
}

#[test]
fn an_instance_that_never_was_in_service_wrote_nothing() {
    let (host, plugin, _dir) = with("groups", "[{name: a}]");
    assert_eq!(names(&plugin), ["a"]);
    drop(plugin);
    let plugin = host.start::<CloudInit>(json!({})).unwrap();
    assert_eq!(names(&plugin), [""; 0]);
}

#[test]
fn what_files_say_at_a_start_is_stored_with_the_first_write() {
    let (host, plugin, _dir) = with("groups", "[{name: a}]");
    assert_eq!(status(&plugin, "POST", GROUPS, r#"{"name":"b"}"#), 201);
    drop(plugin);
    let plugin = host.start::<CloudInit>(json!({})).unwrap();
    assert_eq!(names(&plugin), ["a", "b"]);
    // Without the file, what it said goes: nobody else wrote it.
    look(host, &plugin, 1);
    assert_eq!(names(&plugin), ["b"]);
}

#[test]
fn what_another_instance_wrote_meanwhile_stays_beside_what_the_files_say() {
    let (host, before) = start(json!({}));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("groups.yaml");
    fs::write(&path, "[{name: a}]").unwrap();
    let next = host.start::<CloudInit>(json!({"groups": path})).unwrap();
    assert_eq!(status(&before, "POST", GROUPS, r#"{"name":"b"}"#), 201);
    look(host, &next, 0);
    assert_eq!(names(&next), ["a", "b"]);
}

#[test]
fn an_export_is_the_seeds_files_and_can_be_imported() {
    let (_, plugin, _dir) = tutorial();
    let answer = send(&plugin, "GET", "/bootd/v1/export/cloud-init", "");
    assert_eq!(
        answer.body,
        "cluster-defaults:
  base-url: http://172.16.0.254:8081/cloud-init
  cluster-name: demo
  nid-length: 3
  public-keys:
    - \"<YOUR SSH KEY GOES HERE>\"
  short-name: nid
groups:
  - description: compute config
    file:
      content: |
        ## template: jinja
        #cloud-config
        merge_how:
        - name: list
          settings: [append]
        - name: dict
          settings: [no_replace, recurse_list]
        users:
          - name: root
            ssh_authorized_keys: {{ ds.meta_data.instance_data.v1.public_keys }}
        disable_root: false
      encoding: plain
      filename: \"\"
    name: compute
instances:
  - id: x1000c0s0b0n0
    local-hostname: compute1
"
    );
    let (host, fresh) = start(json!({}));
    assert_eq!(
        status(&fresh, "POST", GROUPS, r#"{"name":"other","description":"stays"}"#),
        201
    );
    for _ in 0..2 {
        let imported = send(&fresh, "POST", "/bootd/v1/import/cloud-init", &answer.body);
        assert_eq!((imported.status, imported.body.as_str()), (204, ""));
    }
    assert!(host.bumps() > 1);
    assert_eq!(names(&fresh), ["compute", "other"]);
    assert_eq!(
        get(&fresh, "/cloud-init/meta-data", Some(compute1())),
        (200, META_DATA.into())
    );
    assert_eq!(status(&fresh, "DELETE", &format!("{GROUPS}/other"), ""), 200);
    assert_eq!(send(&fresh, "GET", "/bootd/v1/export/cloud-init", "").body, answer.body);
}

#[test]
fn the_export_of_nothing_is_an_import_and_so_is_each_of_the_seeds_files() {
    let (_, plugin) = start(json!({}));
    let nothing = send(&plugin, "GET", "/bootd/v1/export/cloud-init", "").body;
    assert_eq!(nothing, "cluster-defaults: {}\ngroups: []\ninstances: []\n");
    let mut texts = vec![nothing, "- id: x1000c0s0b0n0\n  hostname: a\n".into()];
    for name in ["ci-defaults.yaml", "ci-group-compute.yaml"] {
        texts.push(fs::read_to_string(data(name)).unwrap());
    }
    for text in texts {
        assert_eq!(
            status(&plugin, "POST", "/bootd/v1/import/cloud-init", &text),
            204,
            "{text}"
        );
    }
    assert_eq!(names(&plugin), ["compute"]);
    assert_eq!(read(&plugin, DEFAULTS)["cluster-name"], "demo");
    assert!(
        get(&plugin, "/cloud-init/meta-data", Some(compute1()))
            .1
            .contains("hostname: a\n")
    );
}

#[test]
fn any_content_survives_an_export() {
    let contents = [
        "a\nb\n",
        "a\nb",
        "a\n\n\nb\n\n",
        " a\nb\n",
        "\na\nb\n",
        "a\n b \n\tc\n",
        "a\r\nb\n",
        "a\n---\nb\n...\n",
        "a\n\u{85}b\n",
        "# a\n#b\n",
        "é\n😀\n",
        "a: |\n  b\n",
        "a\n \n",
        "%a\nb\n",
    ];
    let (_, plugin) = start(json!({}));
    let (_, other) = start(json!({}));
    for (n, content) in contents.iter().enumerate() {
        let body = json!({"name": format!("g{n:02}"), "description": content, "file": {"content": content}, "meta-data": {"x": [{"y": content}], "z": [content, [content]]}});
        assert_eq!(status(&plugin, "POST", GROUPS, &body.to_string()), 201);
    }
    let export = send(&plugin, "GET", "/bootd/v1/export/cloud-init", "").body;
    serde_saphyr::from_str::<Value>(&export).unwrap();
    let answer = send(&other, "POST", "/bootd/v1/import/cloud-init", &export);
    assert_eq!(answer.status, 204, "{}\n{export}", answer.body);
    assert_eq!(read(&other, GROUPS), read(&plugin, GROUPS), "{export}");
}

#[test]
fn a_mistake_in_one_file_holds_back_only_that_file_and_health_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let [defaults, one, two, own] = ["d.yaml", "one.yaml", "two.yaml", "i.yaml"].map(|name| dir.path().join(name));
    let write = |path: &PathBuf, text: &str| fs::write(path, text).unwrap();
    write(&defaults, "cluster-name: old\n");
    write(&one, "[{name: a}, {name: b}]");
    write(&two, "[{name: c}]");
    write(&own, "- id: x1000c0s0b0n0\n  hostname: old\n");
    let (host, plugin) = start(json!({"defaults": defaults, "groups": [one, two], "instances": own}));
    look(host, &plugin, 2);
    write(&own, "- id: x1000c0s0b0\n- id: x1000c0s0b0n0\n  hostname: new\n");
    write(&defaults, "cluster-name: new\n");
    write(&one, "[{name: a, description: new}]");
    look(host, &plugin, 2);
    assert_eq!(names(&plugin), ["a", "c"], "of the others even what is gone goes");
    assert_eq!(read(&plugin, GROUPS)["a"]["description"], "new");
    assert_eq!(read(&plugin, DEFAULTS), json!({"cluster-name": "new"}));
    let hostname = || read(&plugin, "/cloud-init/admin/instance-info")["x1000c0s0b0n0"]["hostname"].clone();
    assert_eq!(hostname(), "old");
    assert_eq!(told(host), ["1: id must be the xname of a node, such as x1000c0s0b0n0"]);
    let text = format!("2 groups and 1 node override; held back until right: {}", own.display());
    assert_eq!(host.health().text, text);
    write(&own, "- id: x1000c0s0b0n0\n  hostname: new\n");
    look(host, &plugin, 2);
    assert_eq!(hostname(), "new");
    assert_eq!(host.health().text, "2 groups and 1 node override");
}

#[test]
fn a_file_that_was_wrong_at_the_start_keeps_what_is_gone_from_all() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = ["one.yaml", "two.yaml"].map(|name| dir.path().join(name));
    fs::write(&one, "[{name: a}, {name: b}]").unwrap();
    fs::write(&two, "[{name: c}, {name: d}]").unwrap();
    let config = json!({"groups": [one, two]});
    let (host, plugin) = start(config.clone());
    look(host, &plugin, 2);
    drop(plugin);
    fs::write(&two, "[{name: c}, {nam: d}]").unwrap();
    let plugin = host.start::<CloudInit>(config).unwrap();
    fs::write(&one, "[{name: a}]").unwrap();
    look(host, &plugin, 3);
    assert_eq!(names(&plugin), ["a", "b", "c", "d"]);
    fs::write(&two, "[{name: c}]").unwrap();
    look(host, &plugin, 2);
    assert_eq!(names(&plugin), ["a", "c"]);
}

#[test]
fn what_the_api_writes_is_in_the_health_after_a_look() {
    let (host, plugin) = start(json!({}));
    assert_eq!(host.health().text, "0 groups and 0 node overrides");
    assert_eq!(status(&plugin, "POST", GROUPS, r#"{"name":"a"}"#), 201);
    look(host, &plugin, 1);
    assert_eq!(host.health().text, "1 group and 0 node overrides");
}
