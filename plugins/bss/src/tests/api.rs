//! Writing and reading boot parameters by the API, and where upstream's own behaviour is a defect (contract 3.2).

use super::*;

const PATH: &str = "/boot/v1/bootparameters";
/// What the tool sends beside what a person said.
const CLOUD_INIT: &str = r#""cloud-init":{"meta-data":null,"user-data":null,"phone-home":{"pub_key_dsa":"","pub_key_rsa":"","pub_key_ecdsa":"","instance_id":"","hostname":"","fqdn":""}}"#;

fn empty() -> (&'static FakeHost, Instance) {
    start(json!({}))
}

fn put(bss: &Instance, body: &str) {
    let answer = send(bss, "PUT", PATH, body);
    assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{body}");
}

#[test]
fn the_tutorials_conversation_sets_lists_and_sets_again() {
    let (host, bss) = empty();
    assert_eq!(bss.get(PATH, None).unwrap().body, "null");
    let macs = json!([
        "52:54:00:be:ef:01",
        "52:54:00:be:ef:02",
        "52:54:00:be:ef:03",
        "52:54:00:be:ef:04",
        "52:54:00:be:ef:05"
    ]);
    let body = |kernel: &str, params: &str| {
        format!(r#"{{"macs":{macs},"params":"{params}","kernel":"{kernel}","initrd":"http://h/i",{CLOUD_INIT}}}"#)
    };
    let answer = send(&bss, "PUT", PATH, &body("http://h/debug", "ro debug"));
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(answer.headers[0].0, "BSS-Referral-Token");
    assert_eq!(answer.headers[0].1.len(), 36);
    let first = list(&bss, "");
    assert_eq!(first[0]["macs"], macs, "in the order in which they came");
    let bumps = host.bumps();
    put(&bss, &body("http://h/compute", "ro"));
    assert_eq!(host.bumps(), bumps + 1, "kept scripts are made anew");
    let second = list(&bss, "");
    assert_eq!(
        second.as_array().unwrap().len(),
        1,
        "the second call replaces the first"
    );
    let keys: Vec<&str> = second[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["cloud-init", "initrd", "kernel", "macs", "params"]);
    assert_eq!(second[0]["kernel"], "http://h/compute");
    assert_eq!(second[0]["cloud-init"]["meta-data"], Value::Null);
    assert!(arguments(&bss, "mac=52:54:00:be:ef:03").starts_with("http://h/compute initrd=initrd ro "));
    put(&bss, &body("http://h/compute", "ro"));
    assert_eq!(host.bumps(), bumps + 1, "what changes nothing is not written");
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let (host, bss) = empty();
    put(
        &bss,
        r#"{"macs":["52:54:00:be:ef:01"],"kernel":"http://h/k","params":"a"}"#,
    );
    put(&bss, r#"{"hosts":["Default"],"kernel":"http://h/d"}"#);
    put(&bss, r#"{"nids":[3],"kernel":"http://h/k","params":"a"}"#);
    let before = list(&bss, "");
    drop(bss);
    let again = host.start::<Bss>(json!({})).unwrap();
    assert_eq!(list(&again, ""), before);
    put(&again, r#"{"nids":[4],"kernel":"http://h/d"}"#);
    assert_eq!(
        list(&again, "").as_array().unwrap().len(),
        2,
        "equal parameters are one entry"
    );
}

#[test]
fn a_post_adds_and_answers_201_with_a_referral_token_and_no_body() {
    let (_, bss) = empty();
    let answer = send(
        &bss,
        "POST",
        PATH,
        r#"{"hosts":["x1000c0s0b0n0"],"kernel":"http://h/k"}"#,
    );
    assert_eq!((answer.status, answer.body.as_str()), (201, ""));
    assert_eq!(answer.headers[0].0, "BSS-Referral-Token");
    assert_eq!(list(&bss, "?name=X1000c0s0b0n0")[0]["hosts"], json!(["x1000c0s0b0n0"]));
    for (body, detail) in [
        (
            r#"{"hosts":["compute"],"kernel":"http://h/k"}"#,
            "Bad Request: invalid xname",
        ),
        (
            r#"{"hosts":["x1000c0s0b0"],"kernel":"http://h/k"}"#,
            "Bad Request: invalid xname",
        ),
        (
            r#"{"macs":["52:54"],"kernel":"http://h/k"}"#,
            "Bad Request: invalid MAC address format: ",
        ),
        (r#"{"macs":["52:54:00:be:ef:09"]}"#, "Bad Request: kernel is missing"),
        (
            r#"{"kernel":"http://h/k"}"#,
            "Bad Request: these boot parameters are for nobody",
        ),
        ("", "Bad Request: "),
    ] {
        let (status, told) = told(&send(&bss, "POST", PATH, body));
        assert_eq!(status, 400, "{body}");
        assert!(told.starts_with(detail), "{body}: {told}");
    }
    assert_eq!(list(&bss, "").as_array().unwrap().len(), 1);
}

#[test]
fn upstream_bug_ids_of_a_lower_kind_given_with_hosts_are_lost_here_all_three_kinds_are_stored() {
    let (_, bss) = empty();
    let body = r#"{"hosts":["x1000c0s0b0n0"],"macs":["52:54:00:be:ef:02"],"nids":[3],"kernel":"http://h/k"}"#;
    assert_eq!(send(&bss, "POST", PATH, body).status, 201);
    let entry = &list(&bss, "")[0];
    assert_eq!(
        (&entry["hosts"], &entry["macs"], &entry["nids"]),
        (&json!(["x1000c0s0b0n0"]), &json!(["52:54:00:be:ef:02"]), &json!([3]))
    );
    assert_eq!(send(&bss, "DELETE", PATH, body).status, 200);
    assert_eq!(list(&bss, ""), Value::Null);
}

#[test]
fn upstream_bug_a_post_that_adds_only_some_is_not_reported_here_it_is_refused_with_the_list_and_stores_nothing() {
    let (_, bss) = empty();
    put(
        &bss,
        r#"{"macs":["52:54:00:be:ef:01","52:54:00:be:ef:02"],"kernel":"http://h/k"}"#,
    );
    let body = r#"{"macs":["52:54:00:BE:EF:01","52:54:00:be:ef:07"],"kernel":"http://h/other"}"#;
    assert_eq!(
        told(&send(&bss, "POST", PATH, body)),
        (
            400,
            "Bad Request: postgres.Add: data already exists: MAC 52:54:00:be:ef:01".into()
        )
    );
    assert_eq!(bss.get(&format!("{PATH}?mac=525400beef07"), None).unwrap().status, 404);
}

#[test]
fn upstream_bug_configs_that_nobody_uses_stay_after_an_update_here_they_go() {
    let (host, bss) = empty();
    put(&bss, r#"{"macs":["52:54:00:be:ef:01"],"kernel":"http://h/old"}"#);
    put(&bss, r#"{"macs":["52:54:00:be:ef:01"],"kernel":"http://h/new"}"#);
    drop(bss);
    let again = host.start::<Bss>(json!({})).unwrap();
    assert_eq!(list(&again, "").as_array().unwrap().len(), 1);
    assert!(
        host.health().text.starts_with("1 set of boot parameters for 1 target"),
        "{}",
        host.health().text
    );
}

#[test]
fn upstream_bug_params_by_xname_never_reach_who_asks_by_mac_here_they_do() {
    let (_, bss) = empty();
    put(&bss, r#"{"hosts":["x1000c0s0b0n0"],"kernel":"http://h/k"}"#);
    assert!(arguments(&bss, "mac=52:54:00:be:ef:01").starts_with("http://h/k "));
}

#[test]
fn a_put_keeps_what_is_empty_and_changes_each_by_itself() {
    let (_, bss) = empty();
    put(
        &bss,
        r#"{"macs":["52:54:00:be:ef:01"],"kernel":"http://h/1","initrd":"http://h/i","params":"a"}"#,
    );
    put(
        &bss,
        r#"{"macs":["52:54:00:be:ef:02"],"kernel":"http://h/2","params":"b"}"#,
    );
    put(
        &bss,
        r#"{"macs":["52:54:00:be:ef:01","52:54:00:be:ef:02"],"params":"c","kernel":"","initrd":null}"#,
    );
    let all = list(&bss, "");
    assert_eq!(
        (&all[0]["kernel"], &all[0]["initrd"], &all[0]["params"]),
        (&json!("http://h/1"), &json!("http://h/i"), &json!("c"))
    );
    assert_eq!(
        (&all[1]["kernel"], &all[1]["initrd"], &all[1]["params"]),
        (&json!("http://h/2"), &Value::Null, &json!("c"))
    );
    for (body, detail) in [
        (r#"{"macs":["52:54:00:be:ef:01"]}"#, "No data: none of"),
        (
            r#"{"macs":["52:54:00:be:ef:01","52:54:00:be:ef:03"],"params":"d"}"#,
            "No data: no kernel is given for new MAC 52:54:00:be:ef:03",
        ),
        (
            r#"{"kernel":"http://h/k"}"#,
            "No data: these boot parameters are for nobody",
        ),
    ] {
        let (status, told) = told(&send(&bss, "PUT", PATH, body));
        assert_eq!(status, 400, "{body}");
        assert!(told.starts_with(detail), "{body}: {told}");
    }
    assert_eq!(list(&bss, ""), all, "a refused request stores nothing");
    put(&bss, r#"{"hosts":["compute","Default"],"kernel":"http://h/g"}"#);
    assert!(
        arguments(&bss, "nid=4").starts_with("http://h/g "),
        "groups and Default are set by PUT"
    );
}

#[test]
fn a_patch_changes_only_who_is_there() {
    let (_, bss) = empty();
    put(
        &bss,
        r#"{"macs":["52:54:00:be:ef:01"],"kernel":"http://h/1","params":"a"}"#,
    );
    assert_eq!(
        send(
            &bss,
            "PATCH",
            PATH,
            r#"{"macs":["52:54:00:be:ef:01"],"initrd":"http://h/i"}"#
        )
        .status,
        200
    );
    let all = list(&bss, "");
    assert_eq!(
        (&all[0]["initrd"], &all[0]["params"]),
        (&json!("http://h/i"), &json!("a"))
    );
    assert_eq!(
        told(&send(&bss, "PATCH", PATH, r#"{"macs":["52:54:00:be:ef:01","52:54:00:be:ef:02"],"nids":[9],"hosts":["x1"],"params":"b"}"#)),
        (404, "Not Found: postgres.Update: data does not exist: nodes table: macs=[52:54:00:be:ef:02] xnames=[x1] nids=[9]".into())
    );
    assert_eq!(
        told(&send(&bss, "PATCH", PATH, r#"{"macs":["52:54:00:be:ef:01"]}"#)),
        (
            404,
            "Not Found: postgres.Update: must specify at least one of params, kernel, or initrd".into()
        )
    );
    assert_eq!(list(&bss, ""), all);
}

#[test]
fn a_delete_takes_who_is_named_or_all_that_are_alike() {
    let (_, bss) = empty();
    put(
        &bss,
        r#"{"macs":["52:54:00:be:ef:01","52:54:00:be:ef:02"],"kernel":"http://h/1","params":"a"}"#,
    );
    put(&bss, r#"{"nids":[1,2],"kernel":"http://h/1","params":"b"}"#);
    let delete = |body: &str| told(&send(&bss, "DELETE", PATH, body));
    assert_eq!(
        delete(r#"{"macs":["52:54:00:be:ef:01"],"kernel":"http://h/other"}"#).0,
        200
    );
    assert_eq!(list(&bss, "")[0]["macs"], json!(["52:54:00:be:ef:02"]));
    assert_eq!(
        delete(r#"{"macs":["52:54:00:be:ef:01"]}"#),
        (400, "postgres.Delete: no boot parameters match".into())
    );
    assert_eq!(delete(r#"{"kernel":"http://h/1","params":"c"}"#).0, 400);
    assert_eq!(delete("{}").0, 400);
    assert_eq!(delete(r#"{"kernel":"http://h/1","params":"b"}"#).0, 200);
    assert_eq!(list(&bss, "").as_array().unwrap().len(), 1);
    assert_eq!(delete(r#"{"kernel":"http://h/1"}"#).0, 200);
    assert_eq!(list(&bss, ""), Value::Null);
}

#[test]
fn a_list_is_selected_by_query_or_body_and_shows_only_what_was_asked_for() {
    let (_, bss) = empty();
    put(
        &bss,
        r#"{"hosts":["x1000c0s0b0n0","Default"],"macs":["52:54:00:be:ef:01","52:54:00:be:ef:02"],"nids":[1,2],"kernel":"http://h/k"}"#,
    );
    let one = list(&bss, "?mac=52-54-00-BE-EF-02&nid=2,7&name=Default");
    assert_eq!(
        (&one[0]["macs"], &one[0]["nids"], &one[0]["hosts"]),
        (&json!(["52:54:00:be:ef:02"]), &json!([2]), &json!(["Default"]))
    );
    assert_eq!(
        list(&bss, "?mac=525400beef01&mac=5254.00be.ef02")[0]["macs"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert!(list(&bss, "?nid=1")[0].get("macs").is_none());
    let body = send(&bss, "GET", PATH, r#"{"macs":["52:54:00:be:ef:01"]}"#);
    assert!(body.body.contains("ef:01") && !body.body.contains("ef:02"));
    assert_eq!(
        told(&send(&bss, "GET", PATH, "{}")),
        (400, "No specified data requested".into())
    );
    assert_eq!(told(&send(&bss, "GET", &format!("{PATH}?foo=1"), "")).0, 400);
    assert_eq!(
        told(&send(&bss, "GET", &format!("{PATH}?nid=9"), "")),
        (404, "Cannot find boot parameters for requested NIDs".into())
    );
    assert_eq!(told(&send(&bss, "GET", &format!("{PATH}?mac=x"), "")).0, 400);
}

#[test]
fn a_mac_in_four_spellings_is_one() {
    let (_, bss) = empty();
    let body =
        r#"{"macs":["52:54:00:BE:EF:01","52-54-00-be-ef-01","5254.00be.ef01","525400beef01"],"kernel":"http://h/k"}"#;
    assert_eq!(send(&bss, "POST", PATH, body).status, 201);
    assert_eq!(list(&bss, "")[0]["macs"], json!(["52:54:00:be:ef:01"]));
}

#[test]
fn bad_bodies_are_refused_with_the_reason_and_store_nothing() {
    let (_, bss) = empty();
    let deep = format!(
        r#"{{"kernel":"http://h/k","macs":["525400beef01"],"cloud-init":{}{}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let nested = format!(
        r#"{{"kernel":"http://h/k","nids":[1],"cloud-init":{{"meta-data":{}1{}}}}}"#,
        "{\"a\":".repeat(40),
        "}".repeat(40)
    );
    for (body, detail) in [
        (r#"{"macs":["52:54:00:be:ef:01"],"kernel":"http://h/k""#, "EOF"),
        (deep.as_str(), "recursion"),
        (nested.as_str(), "levels deep"),
        (
            r#"{"kernel":"http://h/k","Kernel":"http://h/l","nids":[1]}"#,
            "stands twice",
        ),
        (r#"{"kernel":["http://h/k"],"nids":[1]}"#, "invalid type"),
        (r#"{"kernel":"http://h/k","nids":["1"]}"#, "invalid type"),
        (r#"{"kernel":"http://h/k","nids":[-1]}"#, "invalid value"),
        (r#"{"kernel":"http://h/k","nids":1}"#, "invalid type"),
        (
            r#"{"kernel":"http://h/k","hosts":["a\nshell"]}"#,
            "invalid host 'a\\nshell'",
        ),
        (r#"{"kernel":"http://h/k","hosts":["a b"]}"#, "invalid host"),
        (r#"{"kernel":"http://h/k","hosts":[""]}"#, "invalid host"),
        (r#"{"kernel":"http://h/k\nshell","nids":[1]}"#, "kernel must be a URL"),
        (r#"{"kernel":"--autofree","nids":[1]}"#, "kernel must be a URL"),
        (r##"{"kernel":"#http://h/k","nids":[1]}"##, "kernel must be a URL"),
        (r#"{"kernel":"http://h/k\"","nids":[1]}"#, "kernel must be a URL"),
        (
            r#"{"kernel":"http://h/k","initrd":"http://h/'i","nids":[1]}"#,
            "initrd must be a URL",
        ),
        (
            r#"{"kernel":"http://h/k","initrd":"http://h/\u0000","nids":[1]}"#,
            "initrd must be a URL",
        ),
        (
            r##"{"kernel":"{{params}}","params":"#x","nids":[1]}"##,
            "kernel: with its templates filled in",
        ),
        (
            r#"{"kernel":"http://h/k","params":"a\u0000b\u001b[2J","nids":[1]}"#,
            "params must have no control characters",
        ),
        (
            r#"{"kernel":"http://h/k","initrd":"a b","nids":[1]}"#,
            "initrd must be a URL",
        ),
        (
            r#"{"kernel":"http://h/k","nids":[1],"cloud-init":{"meta-data":"x"}}"#,
            "cloud-init: ",
        ),
        (
            r#"{"kernel":"http://h/{{params}}","params":"{{kernel}}","nids":[1]}"#,
            "the template loops: kernel, which has params, which has kernel",
        ),
        ("[]", "a JSON object is expected"),
        ("null", "a JSON object is expected"),
    ] {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let (status, told) = told(&send(&bss, method, PATH, body));
            assert_eq!(status, 400, "{method} {body:.80}: {told}");
            assert!(told.contains(detail), "{method} {body:.80}: {told}");
        }
    }
    let long = format!(
        r#"{{"kernel":"http://h/k","nids":[1],"params":"{}"}}"#,
        "x".repeat(70_000)
    );
    assert_eq!(told(&send(&bss, "PUT", PATH, &long)).0, 400);
    assert_eq!(list(&bss, ""), Value::Null);
}

#[test]
fn keys_come_in_any_case_and_no_content_type_is_needed() {
    let (_, bss) = empty();
    put(
        &bss,
        r#"{"MACS":["52:54:00:be:ef:01"],"Kernel":"http://h/k","Params":"a","Cloud-Init":null,"unknown":1}"#,
    );
    assert_eq!(list(&bss, "")[0]["params"], "a");
}

/// Two instances with one store, as while one takes the place of the other; `run` has four threads write to them at once.
struct Writers([Bss; 2]);

impl Plugin for Writers {
    const NAME: &'static str = "writers";
    const SETTINGS_BY_MODE: bool = true;
    type Settings = crate::Settings;

    fn init(start: Start<crate::Settings>, setup: &mut Setup) -> Result<Self, Error> {
        let one = || Start {
            settings: start.settings.clone(),
            mode: start.mode.clone(),
            folder: start.folder.clone(),
            server: start.server.clone(),
            host: start.host,
        };
        Ok(Self([Bss::init(one(), setup)?, Bss::init(one(), setup)?]))
    }

    fn run(&self) -> Result<(), Error> {
        std::thread::scope(|scope| {
            for writer in 0..4 {
                scope.spawn(move || {
                    for n in 0..25 {
                        let request = Request {
                            method: "PUT".into(),
                            path: PATH.into(),
                            body: format!(r#"{{"nids":[{}],"kernel":"http://h/{writer}"}}"#, writer * 100 + n),
                            ..Request::default()
                        };
                        assert_eq!(self.0[writer % 2].handle(request).status, 200);
                    }
                });
            }
        });
        Ok(())
    }
}

#[test]
fn two_writers_at_once_lose_nothing() {
    let host = FakeHost::new();
    assert!(host.start::<Writers>(json!({})).unwrap().run());
    let last = host.start::<Bss>(json!({})).unwrap();
    let entries = list(&last, "");
    let nids = |entry: &Value| entry["nids"].as_array().unwrap().len();
    let count: usize = entries.as_array().unwrap().iter().map(nids).sum();
    assert_eq!(count, 100);
}

#[test]
fn cloud_init_data_is_kept_and_listed() {
    let (_, bss) = empty();
    put(
        &bss,
        r#"{"hosts":["Global"],"cloud-init":{"meta-data":{"a":{"b":1}},"user-data":null,"phone-home":{"fqdn":""}}}"#,
    );
    let entry = &list(&bss, "?name=Global")[0];
    assert_eq!(entry["cloud-init"]["meta-data"], json!({"a": {"b": 1}}));
    assert!(entry.get("kernel").is_none());
    assert!(
        script(&bss, "nid=1").contains("${buildarch}"),
        "data for cloud-init alone boot nobody"
    );
}
