//! Who asked when.

use super::*;

fn history(bss: &Instance, query: &str) -> Value {
    let answer = bss.get(&format!("/boot/v1/endpoint-history{query}"), None).unwrap();
    assert_eq!(answer.status, 200);
    serde_json::from_str(&answer.body).unwrap()
}

fn with_addresses() -> (&'static FakeHost, Instance) {
    let (host, bss) = start(json!({"boot": data("boot-compute.yaml")}));
    let with_address = |number: u8| {
        let mut node = node(number);
        node.interfaces[0].ips = serde_json::from_value(json!([{"ip": format!("172.16.0.{number}")}])).unwrap();
        node
    };
    host.set_nodes((1..=5).map(with_address).collect());
    (host, bss)
}

fn served(path: &str, peer: &str, status: u16) -> Happening {
    Happening::Http {
        peer: peer.parse().unwrap(),
        method: "GET".into(),
        path: path.into(),
        status,
    }
}

#[test]
fn who_asked_for_a_script_is_remembered_by_name() {
    let (_, bss) = with_addresses();
    assert_eq!(history(&bss, ""), json!([]));
    script(&bss, "mac=52:54:00:be:ef:02");
    script(&bss, "nid=1");
    script(&bss, "mac=52:54:00:00:00:99");
    let entry = |name: &str| json!({"name": name, "endpoint": "bootscript", "last_epoch": 1_700_000_000});
    assert_eq!(
        history(&bss, ""),
        json!([entry("x1000c0s0b0n0"), entry("x1000c0s0b1n0")])
    );
    assert_eq!(history(&bss, "?name=X1000c0s0b1n0"), json!([entry("x1000c0s0b1n0")]));
    assert_eq!(history(&bss, "?name=x1000c0s0b1n0&endpoint=user-data"), json!([]));
    assert_eq!(history(&bss, "?endpoint=bootscript").as_array().unwrap().len(), 2);
    assert_eq!(history(&bss, "?name=nobody"), json!([]));
}

#[test]
fn what_bootd_asks_itself_to_explain_is_no_nodes_request() {
    let (_, bss) = with_addresses();
    let request = Request {
        method: "GET".into(),
        path: "/boot/v1/bootscript".into(),
        query: "nid=1".into(),
        listener: "explain".into(),
        ..Request::default()
    };
    assert_eq!(bss.handle(&request).unwrap().status, 200);
    assert_eq!(history(&bss, ""), json!([]));
}

#[test]
fn a_kept_script_that_was_served_without_the_plugin_is_heard_of() {
    let (host, bss) = with_addresses();
    assert_eq!(bss.setup.events, [EventKind::Http]);
    host.happens(served("/boot/v1/bootscript", "172.16.0.3", 200));
    host.happens(served("/apis/bss/boot/v1/bootscript/", "172.16.0.4", 200));
    host.happens(served("/boot/v1/bootscript", "172.16.0.5", 400));
    host.happens(served("/cloud-init/meta-data", "172.16.0.5", 200));
    host.happens(served("/boot/v1/bootscript", "172.16.0.200", 200));
    host.sleeps(6);
    assert!(bss.run());
    let names: Vec<Value> = history(&bss, "")
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].clone())
        .collect();
    assert_eq!(names, ["x1000c0s0b2n0", "x1000c0s0b3n0"]);
}

#[test]
fn it_is_written_when_the_instance_ends_and_read_at_the_next_start() {
    let (host, bss) = with_addresses();
    script(&bss, "mac=52:54:00:be:ef:02");
    let before = history(&bss, "");
    host.sleeps(0);
    assert!(bss.run());
    drop(bss);
    let again = host.start::<Bss>(json!({})).unwrap();
    assert_eq!(history(&again, ""), before);
}
