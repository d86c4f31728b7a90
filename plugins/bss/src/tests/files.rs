//! Files are applied, not owned; export and import.

use super::*;

const PATH: &str = "/boot/v1/bootparameters";

/// The kernel that each NID of 1 to 5 has, `-` for none.
fn kernels(bss: &Instance) -> String {
    let one = |nid: u64| {
        let answer = bss.get(&format!("{PATH}?nid={nid}"), None).unwrap();
        let list: Value = serde_json::from_str(&answer.body).unwrap();
        list[0]["kernel"]
            .as_str()
            .map_or("-".into(), |kernel| kernel.trim_start_matches("http://h/").to_owned())
    };
    (1..=5).map(one).collect::<Vec<_>>().join(" ")
}

fn look(host: &FakeHost, bss: &Instance, times: u64) {
    host.sleeps(times);
    assert!(bss.run());
}

#[test]
fn what_the_api_wrote_stays_until_the_file_says_something_else() {
    let (host, bss, dir) = with_file("- {kernel: http://h/a, nids: [1, 2, 3]}\n");
    let file = dir.path().join("boot.yaml");
    assert_eq!(
        send(&bss, "PUT", PATH, r#"{"nids":[2,4],"kernel":"http://h/api"}"#).status,
        200
    );
    assert_eq!(send(&bss, "DELETE", PATH, r#"{"nids":[3]}"#).status, 200);
    look(host, &bss, 3);
    assert_eq!(kernels(&bss), "a api - api -");
    // Its kernel changes for one: only that one is written.
    fs::write(
        &file,
        "- {kernel: http://h/a, nids: [2, 3]}\n- {kernel: http://h/b, nids: [1]}\n",
    )
    .unwrap();
    look(host, &bss, 2);
    assert_eq!(kernels(&bss), "b api - api -");
    // Two are gone from it: only what nobody wrote since goes.
    fs::write(&file, "- {kernel: http://h/c, nids: [3]}\n").unwrap();
    look(host, &bss, 1);
    assert_eq!(
        kernels(&bss),
        "b api c api -",
        "who is gone stays until the file was the same twice"
    );
    look(host, &bss, 1);
    assert_eq!(kernels(&bss), "- api c api -");
}

#[test]
fn a_restart_neither_writes_the_file_again_nor_forgets_what_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("boot.yaml");
    fs::write(&path, "- {kernel: http://h/a, nids: [1, 2, 3]}\n").unwrap();
    let (host, bss) = start(json!({"boot": path}));
    assert_eq!(
        send(&bss, "PUT", PATH, r#"{"nids":[2],"kernel":"http://h/api"}"#).status,
        200
    );
    assert_eq!(send(&bss, "DELETE", PATH, r#"{"nids":[3]}"#).status, 200);
    drop(bss);
    let bss = host.start::<Bss>(json!({"boot": path})).unwrap();
    look(host, &bss, 3);
    assert_eq!(kernels(&bss), "a api - - -");
    drop(bss);
    // Changed while nobody looked.
    fs::write(&path, "- {kernel: http://h/d, nids: [4]}\n").unwrap();
    let bss = host.start::<Bss>(json!({"boot": path})).unwrap();
    assert_eq!(kernels(&bss), "a api - d -");
    look(host, &bss, 1);
    assert_eq!(kernels(&bss), "- api - d -");
}

#[test]
fn a_file_that_is_broken_or_gone_at_start_empties_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("boot.yaml");
    fs::write(&path, "- {kernel: http://h/a, nids: [1, 2]}\n").unwrap();
    let (host, bss) = start(json!({"boot": path}));
    drop(bss);
    fs::write(
        &path,
        "- {kernel: http://h/b, nids: [1, 3]}\n- {kernel: http://h/b, nids: [x]}\n",
    )
    .unwrap();
    let bss = host.start::<Bss>(json!({"boot": path})).unwrap();
    look(host, &bss, 3);
    assert_eq!(kernels(&bss), "b a b - -", "wrong rows are left out, right ones count");
    assert_eq!(host.health().mistakes.len(), 1);
    drop(bss);
    fs::remove_file(&path).unwrap();
    let bss = host.start::<Bss>(json!({"boot": path})).unwrap();
    look(host, &bss, 3);
    assert_eq!(kernels(&bss), "b a b - -");
    fs::write(&path, "- {kernel: http://h/b, nids: [3]}\n").unwrap();
    look(host, &bss, 2);
    assert_eq!(
        kernels(&bss),
        "- - b - -",
        "when it is right again it counts as a whole"
    );
    assert_eq!(host.health().mistakes, []);
}

#[test]
fn a_mistake_in_one_file_holds_back_only_that_file_and_health_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = ["one.yaml", "two.yaml"].map(|name| dir.path().join(name));
    fs::write(&one, "- {kernel: http://h/a, nids: [1, 2]}\n").unwrap();
    fs::write(&two, "- {kernel: http://h/a, nids: [3, 4]}\n").unwrap();
    let (host, bss) = start(json!({"boot": [one, two]}));
    look(host, &bss, 1);
    fs::write(&one, "- {kernel: http://h/b, nids: [1]}\n").unwrap();
    fs::write(
        &two,
        "- {kernel: http://h/b, nids: [3]}\n- {kernel: http://h/b, nids: [x]}\n",
    )
    .unwrap();
    look(host, &bss, 2);
    assert_eq!(kernels(&bss), "b - a a -", "of the other even what is gone goes");
    let health = host.health();
    assert_eq!(health.mistakes.len(), 1);
    let held_back = format!("; held back until right: {}", two.display());
    assert!(health.text.ends_with(&held_back), "{}", health.text);
    // What one takes of the other is the other's mistake.
    fs::write(&one, "- {kernel: http://h/c, nids: [1, 4]}\n").unwrap();
    look(host, &bss, 2);
    assert_eq!(kernels(&bss), "c - a c -");
    fs::write(&two, "- {kernel: http://h/d, nids: [3, 5]}\n").unwrap();
    look(host, &bss, 2);
    assert_eq!(kernels(&bss), "c - d c d");
    assert_eq!(host.health().mistakes, []);
    assert!(!host.health().text.contains("held back"));
}

#[test]
fn a_file_that_was_wrong_at_the_start_keeps_what_is_gone_from_all() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = ["one.yaml", "two.yaml"].map(|name| dir.path().join(name));
    fs::write(&one, "- {kernel: http://h/a, nids: [1, 2]}\n").unwrap();
    fs::write(&two, "- {kernel: http://h/a, nids: [3, 4]}\n").unwrap();
    let (host, bss) = start(json!({"boot": [one, two]}));
    drop(bss);
    fs::write(
        &two,
        "- {kernel: http://h/b, nids: [3]}\n- {kernel: http://h/b, nids: [x]}\n",
    )
    .unwrap();
    let bss = host.start::<Bss>(json!({"boot": [one, two]})).unwrap();
    look(host, &bss, 2);
    fs::write(&one, "- {kernel: http://h/b, nids: [1]}\n").unwrap();
    look(host, &bss, 2);
    assert_eq!(kernels(&bss), "b a b a -", "4 may be in the row that cannot be read");
    fs::write(&two, "- {kernel: http://h/b, nids: [3]}\n").unwrap();
    look(host, &bss, 2);
    assert_eq!(kernels(&bss), "b - b - -");
}

#[test]
fn what_the_api_writes_is_in_the_health_after_a_look() {
    let (host, bss) = start(json!({}));
    let said = || host.health().text;
    assert_eq!(said(), "0 sets of boot parameters for 0 targets; 0 files applied");
    assert_eq!(
        send(&bss, "PUT", PATH, r#"{"nids":[1,2],"kernel":"http://h/k"}"#).status,
        200
    );
    look(host, &bss, 1);
    assert_eq!(said(), "1 set of boot parameters for 2 targets; 0 files applied");
}

#[test]
fn an_export_is_a_file_and_comes_back_as_it_was() {
    let (_, bss) = start(json!({"boot": data("boot-compute.yaml")}));
    let params = "it's \"quoted\": #x é\u{2028}\ttab & <b> ${x}";
    let body = json!({"hosts": ["Default", "compute"], "nids": [7], "kernel": "/relative/k", "params": params,
                      "cloud-init": {"meta-data": {"a key": [1, {"b": "c\n"}], "yes": "no"}, "phone-home": {"fqdn": "f"}}});
    assert_eq!(send(&bss, "PUT", PATH, &body.to_string()).status, 200);
    assert_eq!(
        send(
            &bss,
            "PUT",
            PATH,
            r#"{"hosts":["Global"],"cloud-init":{"user-data":{"x":1}}}"#
        )
        .status,
        200
    );
    let exported = bss.get("/bootd/v1/export/bss", None).unwrap();
    assert_eq!(
        (exported.status, exported.headers[0].1.as_str()),
        (200, "application/yaml")
    );
    assert!(
        exported
            .body
            .starts_with("- kernel: 'http://172.16.0.254:9000/boot-images/"),
        "{}",
        exported.body
    );
    assert!(
        exported.body.contains("  macs:\n    - '52:54:00:be:ef:01'\n"),
        "{}",
        exported.body
    );
    let (_, other) = start(json!({}));
    let imported = send(&other, "POST", "/bootd/v1/import/bss", &exported.body);
    assert_eq!(
        (imported.status, imported.body.as_str()),
        (204, ""),
        "{}",
        exported.body
    );
    assert_eq!(list(&other, ""), list(&bss, ""));
    assert_eq!(other.get("/bootd/v1/export/bss", None).unwrap().body, exported.body);
    let (_, none) = start(json!({}));
    let empty = none.get("/bootd/v1/export/bss", None).unwrap().body;
    assert_eq!(empty, "[]\n");
    assert_eq!(send(&none, "POST", "/bootd/v1/import/bss", &empty).status, 204);
}

#[test]
fn the_tutorials_file_is_an_import() {
    let (_, bss) = start(json!({}));
    let text = fs::read_to_string(data("boot-compute.yaml")).unwrap();
    assert_eq!(send(&bss, "POST", "/bootd/v1/import/bss", &text).status, 204);
    assert_eq!(script(&bss, "mac=52:54:00:be:ef:01"), STORED);
}

#[test]
fn an_import_is_all_or_nothing_and_says_every_mistake() {
    let (_, bss) = start(json!({}));
    assert_eq!(
        send(&bss, "PUT", PATH, r#"{"nids":[1,2],"kernel":"http://h/old"}"#).status,
        200
    );
    let text = "- kernel: http://h/new\n  nids: [1]\n- kernel: http://h/new\n  nids: [x]\n- params: ro\n  nids: [3]\n- kernel: http://h/k\n  nids: [1]\n";
    let (status, told) = told(&send(&bss, "POST", "/bootd/v1/import/bss", text));
    assert_eq!(
        (status, told.as_str()),
        (
            400,
            "import:4: nids: 'x': invalid digit found in string\nimport:5: this boot parameter entry has no kernel\n\
             import:7: NID 1 is already in import:1, which counts"
        )
    );
    assert_eq!(kernels(&bss), "old old - - -");
    for text in ["", "- [", "x", "- kernel: {}\n"] {
        assert_eq!(send(&bss, "POST", "/bootd/v1/import/bss", text).status, 400, "{text}");
    }
    assert_eq!(
        send(
            &bss,
            "POST",
            "/bootd/v1/import/bss",
            "- {kernel: http://h/new, nids: [1]}\n"
        )
        .status,
        204
    );
    assert_eq!(kernels(&bss), "new old - - -", "what it does not name stays");
}
