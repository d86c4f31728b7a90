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
