//! The plugin as the host sees it: requests in, answers and publications out, over a store that outlives the instance.

mod bad_input;
mod components;
mod discovery;
mod exchange;
mod exchange_random;
mod groups;
mod interfaces;
mod many;
mod nodes_file;
mod random;
mod site;

use bootd_sdk::fake::{FakeHost, Instance};
use bootd_sdk::prelude::*;
use serde_json::Value;

use crate::Smd;

/// An instance without a nodes file, and its host.
fn empty() -> (&'static FakeHost, Instance) {
    let host = FakeHost::new();
    (host, again(host))
}

/// Another instance on the same host, as after a crash.
fn again(host: &'static FakeHost) -> Instance {
    host.start::<Smd>(serde_json::json!({})).unwrap()
}

fn send(smd: &Instance, method: &str, path: &str, body: &str) -> Answer {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    smd.handle(&Request {
        method: method.into(),
        path: if path.starts_with("/bootd") {
            path.into()
        } else {
            format!("/hsm/v2{path}")
        },
        query: query.into(),
        body: body.into(),
        ..Request::default()
    })
    .unwrap()
}

/// The status of a request with a JSON body.
fn status(smd: &Instance, method: &str, path: &str, body: Value) -> u16 {
    send(smd, method, path, &body.to_string()).status
}

/// Status and reason of a refusal.
fn refused(smd: &Instance, method: &str, path: &str, body: Value) -> (u16, String) {
    let answer = send(smd, method, path, &body.to_string());
    assert_eq!(
        answer.headers[0],
        ("content-type".to_owned(), "application/problem+json".to_owned()),
        "{answer:?}"
    );
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(problem["status"], answer.status);
    assert_eq!(problem["type"], "about:blank");
    (answer.status, problem["detail"].as_str().unwrap().to_owned())
}

fn get(smd: &Instance, path: &str) -> Value {
    let answer = send(smd, "GET", path, "");
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

/// The ids of a list of components.
fn ids(smd: &Instance, path: &str) -> Vec<String> {
    let list = get(smd, path);
    let rows = list["Components"].as_array().unwrap().iter();
    rows.map(|row| row["ID"].as_str().unwrap().to_owned()).collect()
}

/// Posts nodes with these NIDs.
fn nodes(smd: &Instance, nodes: &[(&str, u64)]) {
    let list: Vec<Value> = nodes
        .iter()
        .map(|(id, nid)| serde_json::json!({"ID": id, "Type": "Node", "State": "On", "Enabled": true, "NID": nid}))
        .collect();
    assert_eq!(
        status(
            smd,
            "POST",
            "/State/Components",
            serde_json::json!({"Components": list})
        ),
        204
    );
}

fn published(host: &FakeHost, id: &str) -> Option<Node> {
    host.published().into_iter().find(|node| node.id == id)
}
