use std::fs;
use std::path::{Path, PathBuf};

use bootd_sdk::fake::{FakeHost, Instance};
use bootd_sdk::prelude::*;
use bootd_sdk::wire::{Interface, Rewrite};
use serde_json::{Value, json};

use crate::Bss;
use crate::book::Book;
use crate::file::{Files, Text};
use crate::lead::Lead;

mod api;
mod documents;
mod files;
mod history;
mod legacy;
mod load;
mod robust;
mod scripts;
mod site;

const STORED: &str = "#!ipxe
kernel --name kernel http://172.16.0.254:9000/boot-images/efi-images/compute/base/vmlinuz-5.14.0-570.21.1.el9_6.x86_64 initrd=initrd \
nomodeset ro root=live:http://172.16.0.254:9000/boot-images/compute/base/rocky9.6-compute-base-rocky9 ip=dhcp overlayroot=tmpfs \
overlayroot_cfgdisk=disabled apparmor=0 selinux=0 console=ttyS0,115200 ip6=off cloud-init=enabled \
ds=nocloud-net;s=http://172.16.0.254:8081/cloud-init xname=x1000c0s0b0n0 nid=1 BOOTIF=01-52-54-00-be-ef-01 || goto boot_retry
initrd --name initrd http://172.16.0.254:9000/boot-images/efi-images/compute/base/initramfs-5.14.0-570.21.1.el9_6.x86_64.img || goto boot_retry
boot || goto boot_retry
:boot_retry
sleep 1
chain http://172.16.0.254:8081/boot/v1/bootscript?mac=52:54:00:be:ef:01&retry=1

";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data")
        .join(name)
}

fn node(number: u8) -> Node {
    Node {
        id: format!("x1000c0s0b{}n0", number - 1),
        nid: Some(number.into()),
        kind: "Node".into(),
        role: "Compute".into(),
        enabled: true,
        groups: vec!["compute".into()],
        interfaces: vec![Interface {
            mac: Mac([0x52, 0x54, 0, 0xbe, 0xef, number]),
            ips: Vec::new(),
        }],
        ..Node::default()
    }
}

fn start(config: Value) -> (&'static FakeHost, Instance) {
    let host = FakeHost::new();
    host.set_nodes((1..=5).map(node).collect());
    let bss = host.start::<Bss>(config).unwrap();
    (host, bss)
}

fn with_file(text: &str) -> (&'static FakeHost, Instance, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("boot.yaml");
    fs::write(&path, text).unwrap();
    let (host, bss) = start(json!({"boot": path}));
    (host, bss, dir)
}

/// A request with a token's claims, as the host hands it on.
fn send(bss: &Instance, method: &str, path: &str, body: &str) -> Answer {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let request = Request {
        method: method.into(),
        path: path.into(),
        query: query.into(),
        body: body.into(),
        scheme: "http".into(),
        host: "172.16.0.254:8081".into(),
        listener: "0.0.0.0:8081".into(),
        claims: Some(json!({"sub": "test"})),
        ..Request::default()
    };
    bss.handle(&request).unwrap()
}

/// The status, and the detail of a problem.
fn told(answer: &Answer) -> (u16, String) {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    (answer.status, body["detail"].as_str().unwrap_or_default().to_owned())
}

/// What `GET /bootparameters` lists.
fn list(bss: &Instance, query: &str) -> Value {
    let answer = bss.get(&format!("/boot/v1/bootparameters{query}"), None).unwrap();
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

fn script(bss: &Instance, query: &str) -> String {
    let answer = bss.get(&format!("/boot/v1/bootscript?{query}"), None).unwrap();
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    answer.body
}

fn arguments(bss: &Instance, query: &str) -> String {
    let script = script(bss, query);
    let line = script
        .lines()
        .find(|line| line.starts_with("kernel "))
        .unwrap_or_default();
    line.split(" || ")
        .next()
        .unwrap()
        .trim_start_matches("kernel --name kernel ")
        .into()
}

#[test]
fn the_tutorials_node_gets_the_tutorials_script() {
    let (host, bss) = start(json!({"boot": data("boot-compute.yaml")}));
    assert_eq!(host.health().mistakes, []);
    assert_eq!(script(&bss, "mac=52:54:00:be:ef:01"), STORED);
    assert_eq!(script(&bss, "mac=52-54-00-BE-EF-01&arch=x86_64&ts=1"), STORED);
    let answer = bss
        .get("/apis/bss/boot/v1/bootscript?mac=52:54:00:be:ef:01&retry=4", None)
        .unwrap();
    let sleep = format!("sleep {}\n", crate::waits::wait(30, 4, "mac=52:54:00:be:ef:01"));
    let later = STORED.replace("retry=1", "retry=5").replace("sleep 1\n", &sleep);
    assert_eq!(answer.body, later);
    assert_eq!(answer.headers[0].1, "text/plain; charset=UTF-8");
    assert!(answer.keep);
}

#[test]
fn urls_of_an_origin_are_led_here_in_the_script_only() {
    let (_, bss) = start(json!({"boot": [data("boot-compute.yaml")]}));
    let answer = bss
        .handle(&Request {
            method: "GET".into(),
            path: "/boot/v1/bootscript".into(),
            query: "mac=52:54:00:be:ef:01".into(),
            scheme: "http".into(),
            host: "10.0.0.1:8081".into(),
            rewrites: vec![Rewrite {
                from: "http://172.16.0.254:9000/".into(),
                to: "http://10.0.0.1:9000/".into(),
            }],
            ..Request::default()
        })
        .unwrap();
    let expected = STORED
        .replace("172.16.0.254:9000", "10.0.0.1:9000")
        .replace("chain http://172.16.0.254:8081", "chain http://10.0.0.1:8081");
    assert_eq!(answer.body, expected);
    let list = bss.get("/boot/v1/bootparameters", None).unwrap().body;
    assert!(list.contains("http://172.16.0.254:9000/") && !list.contains("10.0.0.1"));
}

#[test]
fn who_may_not_boot_yet_is_told_to_ask_again() {
    let (host, bss) = start(json!({"boot": data("boot-compute.yaml"), "poll_delay_s": 3}));
    let poll = |key: &str| {
        format!(
            "#!ipxe\nsleep 3\nchain http://172.16.0.254:8081/boot/v1/bootscript?{key}&arch=${{buildarch}}&ts=1700000000\n"
        )
    };
    for query in [
        "mac=52:54:00:00:00:99",
        "mac=52540000.0099&arch=arm64",
        "mac=525400000099&arch=x&ts=9",
    ] {
        let query = query.replace("52540000.0099", "5254.0000.0099");
        assert_eq!(script(&bss, &query), poll("mac=52:54:00:00:00:99"));
    }
    assert_eq!(script(&bss, "name=x9c0s0b0n0"), poll("name=x9c0s0b0n0"));
    assert_eq!(script(&bss, "nid=99&arch=i386"), poll("nid=99"));
    let mut off = node(1);
    off.enabled = false;
    host.set_nodes(vec![off]);
    assert_eq!(script(&bss, "mac=52:54:00:be:ef:01"), poll("mac=52:54:00:be:ef:01"));
    assert!(!bss.get("/boot/v1/bootscript?nid=1", None).unwrap().keep);
}

#[test]
fn the_most_exact_target_wins() {
    let text = "- {kernel: http://h/default, hosts: [Default]}\n- {kernel: http://h/role, hosts: [Compute]}\n- {kernel: http://h/group, hosts: [compute]}\n\
                - {kernel: http://h/nid, nids: [1, 2]}\n- {kernel: http://h/xname, hosts: [X1000c0s0b0n0]}\n- {kernel: http://h/mac, macs: 52-54-00-BE-EF-01}\n";
    let (host, bss, _dir) = with_file(text);
    assert_eq!(host.health().mistakes, []);
    let kernel = |query: &str| arguments(&bss, query).split(' ').next().unwrap().to_owned();
    assert_eq!(kernel("mac=52:54:00:be:ef:01"), "http://h/mac");
    assert_eq!(kernel("name=x1000c0s0b0n0"), "http://h/mac");
    assert_eq!(kernel("nid=2"), "http://h/nid");
    assert_eq!(kernel("mac=52:54:00:be:ef:03"), "http://h/group");
    let (mut one, mut two, mut three) = (node(1), node(2), node(3));
    one.interfaces[0].mac = Mac([2; 6]);
    two.groups.clear();
    two.nid = None;
    (three.groups, three.role) = (vec![], String::new());
    host.set_nodes(vec![one, two, three]);
    assert_eq!(kernel("mac=02:02:02:02:02:02"), "http://h/xname");
    assert_eq!(kernel("mac=52:54:00:be:ef:02"), "http://h/role");
    assert_eq!(kernel("mac=52:54:00:be:ef:03"), "http://h/default");
    assert!(script(&bss, "mac=52:54:00:be:ef:03").contains("bootscript?mac=52:54:00:be:ef:03&retry=1\n"));
}

#[test]
fn who_asks_by_name_or_nid_asks_again_by_its_mac() {
    let (host, bss, _dir) = with_file(
        "- {kernel: http://h/mac, macs: [52:54:00:be:ef:12]}\n- {kernel: http://h/group, hosts: [compute]}\n",
    );
    let (mut two, mut none) = (node(2), node(3));
    let second = Interface {
        mac: "52:54:00:be:ef:12".parse().unwrap(),
        ips: Vec::new(),
    };
    two.interfaces.push(second);
    none.interfaces.clear();
    host.set_nodes(vec![node(1), two, none]);
    for (query, kernel, again) in [
        ("nid=1", "group", "mac=52:54:00:be:ef:01"),
        ("name=x1000c0s0b0n0", "group", "mac=52:54:00:be:ef:01"),
        ("nid=2", "mac", "mac=52:54:00:be:ef:12"),
        ("mac=52:54:00:be:ef:02", "group", "mac=52:54:00:be:ef:02"),
        ("nid=3", "group", "name=x1000c0s0b2n0"),
    ] {
        let script = script(&bss, query);
        assert!(script.contains(&format!("http://h/{kernel} ")), "{query}: {script}");
        assert!(
            script.contains(&format!("bootscript?{again}&retry=1\n")),
            "{query}: {script}"
        );
        assert_eq!(
            script.contains("BOOTIF="),
            query.starts_with("mac="),
            "{query}: {script}"
        );
    }
}

#[test]
fn arguments_are_added_only_where_the_parameters_do_not_say() {
    let line = |params: &str, initrd: &str| {
        let text = format!(
            "kernel: http://h/k\nparams: {}\nmacs: [525400beef01]\n{initrd}",
            json!(params)
        );
        let (host, bss, _dir) = with_file(&text);
        assert_eq!(host.health().mistakes, []);
        arguments(&bss, "mac=52:54:00:be:ef:01")
    };
    let all = "xname=x1000c0s0b0n0 nid=1 BOOTIF=01-52-54-00-be-ef-01";
    assert_eq!(line("", ""), format!("http://h/k {all}"));
    assert_eq!(
        line("a  b=\"&'<>\" ${x}", ""),
        format!("http://h/k a  b=\"&'<>\" ${{x}} {all}")
    );
    assert_eq!(
        line("\txname=a nid=7\tBOOTIF=x", ""),
        "http://h/k xname=a nid=7\tBOOTIF=x"
    );
    assert_eq!(
        line("initrd=a  ro initrd=b noinitrd=c initrd", "initrd: http://h/i"),
        format!("http://h/k initrd=initrd ro noinitrd=c initrd {all}")
    );
    assert_eq!(line("initrd=a ro", ""), format!("http://h/k initrd=a ro {all}"));
}

#[test]
fn the_datasource_is_appended_only_when_configured_and_absent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("boot.yaml");
    fs::write(&path, "kernel: http://h/k\nparams: ro\nnids: [1]\n").unwrap();
    let (_, bss) = start(json!({"boot": path, "advertise": "http://10.0.0.1:8081/cloud-init/"}));
    assert!(arguments(&bss, "nid=1").ends_with(" ds=nocloud-net;s=http://10.0.0.1:8081/cloud-init/"));
    fs::write(&path, "kernel: http://h/k\nparams: \"ro\\tds=none\"\nnids: [1]\n").unwrap();
    let (_, bss) = start(json!({"boot": path, "advertise": "https://x"}));
    assert_eq!(
        arguments(&bss, "nid=1"),
        "http://h/k ro\tds=none xname=x1000c0s0b0n0 nid=1"
    );
}

#[test]
fn hostile_queries_are_refused_and_never_reach_a_script() {
    let (_, bss) = start(json!({"boot": data("boot-compute.yaml")}));
    for query in [
        "",
        "mac=",
        "retry=1",
        "mac=x%0Aboot",
        "mac=52:54:00:be:ef:01%0Ashell",
        "mac=%",
        "name=x%0Ashell",
        "name=a%20b",
        "name=%24%7Bnet0%7D",
        "name=%C3%A9",
        "nid=1%0A",
        "nid=-1",
        "nid=99999999999999999999",
        "mac=%ff",
    ] {
        let answer = bss.get(&format!("/boot/v1/bootscript?{query}"), None).unwrap();
        assert_eq!(answer.status, 400, "{query}: {}", answer.body);
        assert_eq!(answer.headers[0].1, "application/problem+json");
        assert!(!answer.keep);
    }
    let answer = bss.get("/boot/v1/bootscript", None).unwrap();
    assert!(answer.body.contains("Need a mac=, name=, or nid= parameter"));
    assert_eq!(script(&bss, "mac=52:54:00:be:ef:01&retry=%0Ashell"), STORED);
    let request = Request {
        method: "GET".into(),
        path: "/boot/v1/bootscript".into(),
        query: "nid=77".into(),
        scheme: "http".into(),
        host: "a b\nshell".into(),
        ..Request::default()
    };
    let body = bss.handle(&request).unwrap().body;
    assert!(body.contains("chain http://172.16.0.254:8081/boot"), "{body}");
    assert!(!body.contains("shell"));
}

#[test]
fn the_parameters_are_listed_as_bss_lists_them() {
    let (_, bss) = start(json!({"boot": data("boot-compute.yaml")}));
    let get = |query: &str| {
        let answer = bss.get(&format!("/boot/v1/bootparameters{query}"), None).unwrap();
        (answer.status, serde_json::from_str::<Value>(&answer.body).unwrap())
    };
    let (status, list) = get("");
    assert_eq!((status, list.as_array().unwrap().len()), (200, 1));
    let keys: Vec<&str> = list[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["cloud-init", "initrd", "kernel", "macs", "params"]);
    assert_eq!(list[0]["macs"][4], "52:54:00:be:ef:05");
    assert_eq!(list[0]["cloud-init"]["phone-home"]["fqdn"], "");
    assert_eq!(
        get("?mac=52:54:00:BE:EF:02,52-54-00-be-ef-03").1[0]["macs"],
        json!(["52:54:00:be:ef:02", "52:54:00:be:ef:03"])
    );
    assert_eq!(
        get("?name=x1&mac=525400000000").1["detail"],
        "Cannot find boot parameters for requested Hosts or MACs"
    );
    assert_eq!(get("?nid=7").0, 404);
    assert_eq!(get("?nid=x").1["detail"], "Bad Request - Invalid nid 'x'");
    assert_eq!(
        bss.get("/boot/v1/service/status", None).unwrap().body,
        r#"{"bss-status":"running"}"#
    );
    assert_eq!(bss.get("/boot/v1/nothing", None).unwrap().status, 404);
    let (_, none) = start(json!({}));
    assert_eq!(none.get("/boot/v1/bootparameters", None).unwrap().body, "null");
}

#[test]
fn mistakes_are_told_with_file_and_line_and_the_first_of_two_wins() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one.yaml"), dir.path().join("two.yaml"));
    fs::write(
        &one,
        "kernel: http://h/one\nmacs:\n- 52:54:00:be:ef:01\n- 52:54:00:be:ef:01\n",
    )
    .unwrap();
    fs::write(
        &two,
        "- kernel: http://h/two\n  macs: [52:54:00:be:ef:01, 52:54:00:be:ef:02]\n- params: ro\n  macs: [x]\n- kernel: http://h/a b\n  nids: [9]\n- kernel: http://h/k\n  kernle: x\n- kernel: x\n  nids: [8]\n",
    )
    .unwrap();
    let (host, bss) = start(json!({"boot": [one, two, "/nowhere.yaml"]}));
    let told: Vec<String> = host.health().mistakes.iter().map(ToString::to_string).collect();
    let (one, two) = (one.display(), two.display());
    assert_eq!(
        told,
        [
            format!("{one}:1: MAC 52:54:00:be:ef:01 is already in {one}:1, which counts"),
            format!("{two}:1: MAC 52:54:00:be:ef:01 is already in {one}:1, which counts"),
            format!("{two}:3: this boot parameter entry has no kernel"),
            format!("{two}:4: macs: 'x' is not a MAC address (six bytes in hexadecimal, such as 52:54:00:be:ef:01)"),
            format!("{two}:5: kernel must be a URL, without white space in it"),
            format!("{two}:7: this boot parameter entry is for nobody: it has no macs, hosts or nids"),
            format!(
                "{two}:8: unknown key 'kernle' in a boot parameter entry; it may have kernel, initrd, params, macs, nids, hosts, cloud-init"
            ),
            format!("{two}:9: kernel: 'x' is not a URL: it begins with no scheme, such as http://"),
            "/nowhere.yaml: there is no such file; create it, or take it out of bootd's configuration".into(),
        ]
    );
    assert!(arguments(&bss, "mac=52:54:00:be:ef:01").starts_with("http://h/one "));
    assert!(arguments(&bss, "mac=52:54:00:be:ef:02").starts_with("http://h/two "));
}

#[test]
fn a_changed_file_with_mistakes_changes_nothing_until_it_is_right() {
    let (host, bss, dir) = with_file("kernel: http://h/old\nnids: [1]\n");
    let path = dir.path().join("boot.yaml");
    let look = || {
        host.sleeps(1);
        assert!(bss.run());
        arguments(&bss, "nid=1").split(' ').next().unwrap().to_owned()
    };
    look();
    let before = host.bumps();
    assert_eq!((look(), host.bumps()), ("http://h/old".into(), before));
    for bad in ["kernel: http://h/new\nnids: [1, x]\n", "", "kernel: [\n"] {
        fs::write(&path, bad).unwrap();
        assert_eq!((look(), host.bumps()), ("http://h/old".into(), before));
        assert_eq!(host.health().mistakes.len(), 1);
    }
    fs::write(&path, "kernel: http://h/new\nnids: [1]\n").unwrap();
    assert_eq!((look(), host.bumps()), ("http://h/new".into(), before + 1));
    assert_eq!(host.health().mistakes, []);
}

#[test]
fn settings_are_checked() {
    let start = |config| FakeHost::new().start::<Bss>(config).err().unwrap().to_string();
    assert!(start(json!({"boot": 3})).contains("a path or a list of paths"));
    assert!(start(json!({"boots": "x"})).contains("unknown field `boots`"));
}

#[test]
fn no_mutation_of_a_file_panics() {
    let seeds = ["boot-compute.yaml", "boot-compute-debug.yaml"].map(|name| fs::read(data(name)).unwrap());
    let script = crate::script::Script {
        retry_delay: 1,
        poll_delay: 1,
        advertise: Some("a"),
        lead: Lead {
            base: "http://h",
            rewrites: &[],
            site: None,
        },
    };
    bootd_sdk::fake::mutations(&seeds, 3000, |text| {
        let mut files = Files::default();
        let mistakes = crate::file::read_text("f", text, Text::File, &mut files);
        assert!(!files.entries.is_empty() || !mistakes.is_empty());
        let book = crate::apply::apply(&Book::default(), &files.entries, crate::apply::Gone::Deleted);
        let (book, _, _) = book.done();
        if let Some(config) = book.choose(Some(node(1).interfaces[0].mac), &node(1)) {
            let again = crate::script::Key::Nid(1);
            let boot = script.resolved(config, Some(&node(1)), None);
            let lines = script.boot(&boot, &again, 0).lines().count();
            assert_eq!(lines, 7 + usize::from(!config.initrd.is_empty()));
        }
    });
}
