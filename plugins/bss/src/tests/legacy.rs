//! cloud-init at the root, as it once was.

use super::*;

const PATH: &str = "/boot/v1/bootparameters";

fn with_data() -> (&'static FakeHost, Instance) {
    let (host, bss) = start(json!({"legacy_cloud_init": true}));
    for body in [
        r#"{"hosts":["Global"],"cloud-init":{"meta-data":{"a":{"x":1,"y":1},"b":"global"}}}"#,
        r#"{"hosts":["compute"],"kernel":"http://h/k","cloud-init":{"meta-data":{"a":{"y":2}},"user-data":{"packages":["vim"],"runcmd":["echo 'a'"]}}}"#,
        r#"{"hosts":["x1000c0s0b0n0"],"kernel":"http://h/n","cloud-init":{"meta-data":{"b":"node"}}}"#,
    ] {
        assert_eq!(send(&bss, "PUT", PATH, body).status, 200);
    }
    (host, bss)
}

#[test]
fn it_is_off_unless_configured() {
    let (_, bss) = start(json!({}));
    assert!(bss.setup.routes.iter().all(|route| route.prefix != "/meta-data"));
    assert_eq!(bss.get("/meta-data", Some(node(1))).unwrap().status, 404);
}

#[test]
fn meta_data_are_merged_from_the_general_to_the_exact() {
    let (_, bss) = with_data();
    let get = |query: &str, node: Option<Node>| {
        let answer = bss.get(&format!("/meta-data{query}"), node).unwrap();
        (answer.status, serde_json::from_str::<Value>(&answer.body).unwrap())
    };
    let all = json!({"a": {"x": 1, "y": 2}, "b": "node", "instance-id": "x1000c0s0b0n0"});
    assert_eq!(get("", Some(node(1))), (200, all));
    assert_eq!(get("?key=a.y", Some(node(1))), (200, json!(2)));
    assert_eq!(get("?key=b", Some(node(2))), (200, json!("global")));
    assert_eq!(get("?key=a.z", Some(node(1))).0, 404);
    assert_eq!(get("", None).0, 404);
}

#[test]
fn user_data_are_a_cloud_config() {
    let (_, bss) = with_data();
    let answer = bss.get("/user-data", Some(node(1))).unwrap();
    assert_eq!(
        answer.body,
        "#cloud-config\npackages:\n  - 'vim'\nruncmd:\n  - 'echo ''a'''\n"
    );
    let mut alone = node(1);
    (alone.groups, alone.id) = (Vec::new(), "x9c0s0b0n0".into());
    assert_eq!(bss.get("/user-data", Some(alone)).unwrap().body, "#cloud-config\n{}\n");
}

#[test]
fn what_a_node_says_when_it_is_up_is_kept_with_its_name() {
    let (_, bss) = with_data();
    let post = |body: &str| {
        let request = Request {
            method: "POST".into(),
            path: "/phone-home".into(),
            body: body.into(),
            node: Some(node(1)),
            ..Request::default()
        };
        bss.handle(&request).unwrap().status
    };
    assert_eq!(
        post(r#"{"pub_key_rsa":"ssh-rsa A","instance_id":"i-1","hostname":""}"#),
        200
    );
    let entry = |name: &str| list(&bss, &format!("?name={name}"))[0].clone();
    assert_eq!(
        entry("x1000c0s0b0n0")["cloud-init"]["phone-home"]["pub_key_rsa"],
        "ssh-rsa A"
    );
    assert_eq!(entry("x1000c0s0b0n0")["kernel"], "http://h/n", "what it boots stays");
    assert_eq!(post("instance_id=i-2&fqdn=a%2Eb"), 200);
    let said = &entry("x1000c0s0b0n0")["cloud-init"]["phone-home"];
    assert_eq!(
        (&said["instance_id"], &said["fqdn"], &said["pub_key_rsa"]),
        (&json!("i-2"), &json!("a.b"), &json!(""))
    );
    for bad in [
        r#"{"fqdn":1}"#,
        "a=%",
        "{",
        &format!(r#"{{"fqdn":"{}"}}"#, "x".repeat(20_000)),
    ] {
        assert_eq!(post(bad), 400, "{bad:.40}");
    }
    let history = bss
        .get("/boot/v1/endpoint-history?endpoint=phone-home", None)
        .unwrap()
        .body;
    assert!(history.contains("x1000c0s0b0n0"));
}

fn phone(bss: &Instance, number: u16, body: &str) -> Answer {
    let mut node = node(1);
    node.id = format!("x{number}c0s0b0n0");
    let request = Request {
        method: "POST".into(),
        path: "/phone-home".into(),
        body: body.into(),
        node: Some(node),
        ..Request::default()
    };
    bss.handle(&request).unwrap()
}

#[test]
fn only_the_contracts_texts_are_kept_of_what_a_node_says() {
    let (_, bss) = with_data();
    let said = |body: &str| {
        assert_eq!(phone(&bss, 7, body).status, 200, "{body}");
        list(&bss, "?name=x7c0s0b0n0")[0]["cloud-init"]["phone-home"].clone()
    };
    let all = json!({"pub_key_dsa": "d", "pub_key_rsa": "ssh-rsa A", "pub_key_ecdsa": "e", "instance_id": "i", "hostname": "h", "fqdn": "h.d"});
    let form = "pub_key_dsa=d&pub_key_rsa=ssh-rsa+A%0A&pub_key_ecdsa=e&instance_id=i&hostname=h&fqdn=h.d&pub_key_ed25519=x&a%0Ab=c";
    assert_eq!(said(form), all);
    assert_eq!(said(r#"{"hostname":"h","evil":{"a":[1]},"x":3}"#)["hostname"], "h");
    let long = "k".repeat(4096);
    assert_eq!(said(&format!("fqdn={long}"))["fqdn"], json!(long));
    for bad in [
        format!("fqdn={long}k"),
        "hostname=evil%0A%7C%7Creboot".into(),
        r#"{"hostname":"a\u001b[2J"}"#.into(),
        r#"{"hostname":["a"]}"#.into(),
    ] {
        assert_eq!(phone(&bss, 7, &bad).status, 400, "{bad:.40}");
    }
}

#[test]
fn what_all_nodes_say_together_is_bounded() {
    let said = |length: usize| [("fqdn".to_owned(), "x".repeat(length))].into();
    let hear = |book: &Book, number: u16, length: usize| {
        let heard = crate::legacy::heard(book, &format!("x{number}c0s0b0n0"), &said(length));
        heard.map(|draft| draft.done().0)
    };
    let (mut book, mut count) = (Book::default(), 0);
    // Each says something else: what is equal is kept once.
    while let Ok(next) = hear(&book, count, 100_000 + usize::from(count)) {
        (book, count) = (next, count + 1);
    }
    assert_eq!(count, 125, "12 MiB");
    assert!(hear(&book, 3, 100_004).is_err());
    assert!(hear(&book, 3, 99_000).is_ok(), "who says less is heard");
}
