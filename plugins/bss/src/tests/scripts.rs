//! Boot scripts: outcomes, waits, templates and what iPXE would take for its own; and where upstream's behaviour is a defect (contract 3.3).

use super::*;
use crate::waits::wait;

const MAC: &str = "mac=52:54:00:be:ef:01";

fn sleep(script: &str) -> u32 {
    let line = script.lines().find_map(|line| line.strip_prefix("sleep "));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_node_whose_boot_fails_waits_longer_each_time_and_no_longer_than_configured() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("boot.yaml");
    fs::write(&path, "kernel: http://h/k\nhosts: [Default]\n").unwrap();
    let (_, bss) = start(json!({"boot": path, "retry_delay_s": 10}));
    assert_eq!(sleep(&script(&bss, MAC)), 1);
    for retry in 1..12 {
        let query = format!("{MAC}&retry={retry}");
        let text = script(&bss, &query);
        assert_eq!(sleep(&text), wait(10, retry, MAC));
        assert!((1..=10).contains(&sleep(&text)));
        assert!(text.contains(&format!("&retry={}\n", retry + 1)));
        assert_eq!(script(&bss, &query), text, "kept for each URL");
    }
    assert_eq!(
        sleep(&script(&bss, &format!("{MAC}&retry=4294967295"))),
        wait(10, u32::MAX, MAC)
    );
    let slept: std::collections::BTreeSet<u32> = (1..=5)
        .map(|n| sleep(&script(&bss, &format!("mac=52:54:00:be:ef:0{n}&retry=9"))))
        .collect();
    assert!(slept.len() > 1, "nodes that failed together come back apart: {slept:?}");
}

#[test]
fn who_is_not_known_boots_what_there_is_for_its_architecture_once_it_says_it() {
    let (_, bss, _dir) = with_file(
        "- {kernel: 'http://h/{{arch}}{{xname}}k', initrd: 'http://h/i', params: ro, hosts: [Unknown-x86_64]}\n\
         - {kernel: http://h/mac, macs: ['52:54:00:00:00:99']}\n",
    );
    assert!(
        script(&bss, "mac=52:54:00:00:00:98").contains("sleep 10\n"),
        "not before it says it"
    );
    let text = script(&bss, "mac=52:54:00:00:00:98&arch=x86_64&ts=1");
    assert_eq!(
        text,
        "#!ipxe\nkernel --name kernel http://h/k initrd=initrd ro || goto boot_retry\ninitrd --name initrd http://h/i || goto boot_retry\n\
         boot || goto boot_retry\n:boot_retry\nsleep 1\nchain http://172.16.0.254:8081/boot/v1/bootscript?mac=52:54:00:00:00:98&retry=1\n\n"
    );
    let answer = bss
        .get("/boot/v1/bootscript?mac=525400000098&arch=x86_64", None)
        .unwrap();
    assert!(!answer.keep);
    assert!(
        arguments(&bss, &format!("{MAC}&arch=x86_64")).starts_with("http://h/x1000c0s0b0n0k "),
        "known, and without parameters"
    );
    assert!(script(&bss, "mac=52:54:00:00:00:98&arch=arm64").contains("${buildarch}"));
    assert!(
        script(&bss, "mac=52:54:00:00:00:99").contains("${buildarch}"),
        "a MAC alone is no node"
    );
}

#[test]
fn a_disabled_node_polls_whatever_it_says() {
    let (host, bss, _dir) = with_file("kernel: http://h/k\nhosts: [Unknown-x86_64, Default]\n");
    let mut off = node(1);
    off.enabled = false;
    host.set_nodes(vec![off]);
    assert!(script(&bss, &format!("{MAC}&arch=x86_64")).contains("${buildarch}"));
}

#[test]
fn upstream_bug_an_architecture_without_parameters_is_500_here_the_node_keeps_asking() {
    let (_, bss) = start(json!({}));
    let text = script(&bss, "mac=52:54:00:00:00:98&arch=x86_64");
    assert!(text.starts_with("#!ipxe\nsleep 10\nchain "), "{text}");
}

#[test]
fn upstream_bug_initrd_is_cut_out_of_other_words_here_whole_words_only() {
    let (_, bss, _dir) = with_file(
        "kernel: http://h/k\ninitrd: http://h/i\nparams: 'noinitrd=1 x.initrd rd.initrd=a initrd=old'\nnids: [1]\n",
    );
    assert_eq!(
        arguments(&bss, "nid=1"),
        "http://h/k initrd=initrd noinitrd=1 x.initrd rd.initrd=a xname=x1000c0s0b0n0 nid=1"
    );
}

#[test]
fn upstream_bug_a_tab_before_ds_makes_a_second_one_here_any_white_space_parts_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("boot.yaml");
    fs::write(
        &path,
        "kernel: http://h/k\nparams: \"ro\\tds=nocloud-net;s=http://right/\"\nnids: [1]\n",
    )
    .unwrap();
    let (_, bss) = start(json!({"boot": path, "advertise": "http://wrong"}));
    let line = arguments(&bss, "nid=1");
    assert_eq!(line.matches("ds=").count(), 1, "{line}");
}

#[test]
fn upstream_bug_the_chain_url_has_an_empty_host_here_it_is_the_one_that_was_asked() {
    let (_, bss, _dir) = with_file("kernel: http://h/k\nhosts: [Default]\n");
    let request = |host: &str| Request {
        method: "GET".into(),
        path: "/boot/v1/bootscript".into(),
        query: MAC.into(),
        host: host.into(),
        ..Request::default()
    };
    let chain = |host: &str| {
        let body = bss.handle(&request(host)).unwrap().body;
        body.lines()
            .find_map(|line| line.strip_prefix("chain "))
            .unwrap()
            .to_owned()
    };
    assert!(chain("10.0.0.1:8081").starts_with("http://10.0.0.1:8081/boot/v1/bootscript?"));
    assert!(chain("").starts_with("http://172.16.0.254:8081/boot/v1/bootscript?"));
}

#[test]
fn words_that_ipxe_would_take_for_its_own_reach_the_kernel_as_they_are() {
    let (_, bss, _dir) =
        with_file("kernel: http://h/k\nparams: 'a || b && c ; d #e f#g a||b \"q\" <x> & '\nnids: [1]\n");
    let text = script(&bss, "nid=1");
    let line = text.lines().nth(1).unwrap();
    assert_eq!(
        line,
        "kernel --name kernel http://h/k a |${}| b &${}& c ;${} d ${}#e f#g a||b \"q\" <x> & xname=x1000c0s0b0n0 nid=1 || goto boot_retry"
    );
    // What iPXE's splitting leaves of it: no word ends the command before the last.
    let words: Vec<&str> = line.split_whitespace().collect();
    let end = words
        .iter()
        .position(|word| ["||", "&&", ";"].contains(word) || word.starts_with('#'));
    assert_eq!(end, Some(words.len() - 3));
    assert!(!text.contains("&amp;") && !text.contains("&lt;") && !text.contains("&#34;"));
}

#[test]
fn templates_are_filled_in_with_what_is_known_of_the_node() {
    let (host, bss, _dir) = with_file(
        "kernel: 'http://h/{{arch}}/k'\ninitrd: '{{kernel}}.img'\nparams: 'h={{name}} x={{ xname }} n={{nid}} m={{mac}} r={{role}} {{other}} {{nid {y} ${net0/mac} a=}}'\nhosts: [compute]\n",
    );
    assert_eq!(host.health().mistakes, []);
    let mut one = node(1);
    (one.arch, one.name) = ("X86".into(), "c1\nshell ${x} ||".into());
    host.set_nodes(vec![one]);
    let text = script(&bss, MAC);
    assert!(text.contains("kernel --name kernel http://h/X86/k initrd=initrd h=c1shellx x=x1000c0s0b0n0 n=1 m=52:54:00:be:ef:01 r=Compute {{other}} {{nid {y} ${net0/mac} a=}} "), "{text}");
    assert!(text.contains("initrd --name initrd http://h/X86/k.img ||"), "{text}");
    let stored = bss.get("/boot/v1/bootparameters", None).unwrap().body;
    assert!(stored.contains("{{arch}}"), "what is stored stays");
}

#[test]
fn a_template_that_loops_or_grows_is_refused_in_a_file_and_by_the_api() {
    for (text, detail) in [
        (
            "kernel: http://h/k\nparams: 'a {{params}}'\nnids: [1]\n",
            "the template loops: params, which has params",
        ),
        (
            "kernel: 'http://h/{{initrd}}'\ninitrd: 'http://h/{{kernel}}'\nnids: [1]\n",
            "the template loops: kernel, which has initrd, which has kernel",
        ),
        (
            "kernel: 'http://h/{{params}}'\nparams: 'a b'\nnids: [1]\n",
            "kernel: with its templates filled in it has white space or quotes in it",
        ),
    ] {
        let (host, bss, _dir) = with_file(text);
        let mistakes = host.health().mistakes;
        assert_eq!(mistakes.len(), 1, "{text}");
        assert!(mistakes[0].text.contains(detail), "{}", mistakes[0].text);
        assert_eq!(list(&bss, ""), Value::Null, "nothing is stored");
    }
    let (_, bss) = start(json!({}));
    let body = json!({"nids": [1], "kernel": "http://h/k", "params": "{{kernel}}".repeat(6000), "initrd": format!("http://h/{}", "{{kernel}}".repeat(400))});
    let body = body
        .to_string()
        .replace("http://h/k\"", &format!("http://h/{}\"", "{{nid}}".repeat(500)));
    let answer = told(&send(&bss, "PUT", "/boot/v1/bootparameters", &body));
    assert_eq!(answer.0, 400);
    assert!(answer.1.contains("has more than"), "{}", answer.1);
}

#[test]
fn a_change_by_the_api_cannot_complete_a_loop() {
    let (_, bss) = start(json!({}));
    let path = "/boot/v1/bootparameters";
    assert_eq!(
        send(&bss, "PUT", path, r#"{"nids":[1],"kernel":"http://h/{{initrd}}"}"#).status,
        200
    );
    for method in ["PUT", "PATCH"] {
        let (status, told) = told(&send(&bss, method, path, r#"{"nids":[1],"initrd":"{{kernel}}"}"#));
        assert_eq!(status, 400, "{told}");
        assert!(told.contains("the template loops"), "{told}");
    }
}

#[test]
fn json_shows_what_would_be_in_the_script_also_for_who_is_not_known() {
    let (_, bss, _dir) = with_file(
        "- {kernel: http://h/k, initrd: http://h/i, params: ro, hosts: [Compute]}\n- {kernel: http://h/d, hosts: [Default]}\n",
    );
    let shown = |query: &str| {
        let answer = bss.get(&format!("/boot/v1/bootscript?{query}"), None).unwrap();
        assert_eq!((answer.status, answer.headers[0].1.as_str()), (200, "application/json"));
        serde_json::from_str::<Value>(&answer.body).unwrap()
    };
    assert_eq!(
        shown(&format!("{MAC}&json=1")),
        json!({"params": "kernel initrd=initrd ro xname=x1000c0s0b0n0 nid=1 BOOTIF=01-52-54-00-be-ef-01",
               "kernel": {"path": "http://h/k", "params": "ro"}, "initrd": {"path": "http://h/i", "params": ""}})
    );
    assert_eq!(shown("mac=52:54:00:00:00:99&json=true")["kernel"]["path"], "http://h/d");
    assert!(script(&bss, &format!("{MAC}&json=0")).starts_with("#!ipxe\n"));
    let (_, none) = start(json!({}));
    let answer = none.get("/boot/v1/bootscript?nid=1&json=1", None).unwrap();
    assert_eq!(
        answer.body,
        r#"{"kernel":{"params":"","path":""},"params":"kernel xname=x1000c0s0b0n0 nid=1"}"#
    );
}

#[test]
fn timestamps_of_both_names_are_taken() {
    let (_, bss, _dir) = with_file("kernel: http://h/k\nhosts: [Default]\n");
    let plain = script(&bss, MAC);
    for query in ["ts=1700000000", "timestamp=1700000000", "ts=junk"] {
        assert_eq!(script(&bss, &format!("{MAC}&{query}")), plain);
    }
}
