//! `/service/*` and the index: whether the parts that the tool asks about work (contract 1.6.2).

use bootd_sdk::prelude::*;
use serde_json::{Value, json};

use crate::routes::PATHS;

/// `GET /service/…`; `None`: there is no such path.
pub(crate) fn answer(host: Host, path: &str) -> Option<Answer> {
    Some(match path {
        "/status" => of(&[], json!({"bss-status": "running"})),
        "/version" => of(&[], version()),
        "/hsm" => {
            let hsm = hsm(host);
            of(&[&hsm], json!({"bss-status-hsm": hsm.text()}))
        }
        "/storage/status" => {
            let storage = storage(host);
            of(&[&storage], json!({"bss-storage-backend": backend(&storage)}))
        }
        "/status/all" => {
            let (hsm, storage) = (hsm(host), storage(host));
            let mut all = version();
            if let Some(map) = all.as_object_mut() {
                map.insert("bss-status".into(), "running".into());
                map.insert("bss-status-hsm".into(), hsm.text().into());
                map.insert("bss-storage-backend".into(), backend(&storage));
            }
            of(&[&hsm, &storage], all)
        }
        _ => return None,
    })
}

/// `GET /`: what there is.
pub(crate) fn index() -> Answer {
    let mut paths: Vec<&str> = PATHS.iter().map(|(_, path, _)| *path).collect();
    paths.dedup();
    of(&[], json!({"service": "bss", "base": "/boot/v1", "paths": paths}))
}

/// How a part is.
enum Part {
    Connected,
    Broken(HostError),
}

impl Part {
    fn text(&self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Broken(_) => "error",
        }
    }
}

fn hsm(host: Host) -> Part {
    // Nobody has this name: the inventory is asked and nothing is sent.
    let nobody = Query {
        id: Some("x0".into()),
        ..Query::default()
    };
    host.nodes(&nobody).map_or_else(Part::Broken, |_| Part::Connected)
}

fn storage(host: Host) -> Part {
    host.store_get("revision")
        .map_or_else(Part::Broken, |_| Part::Connected)
}

fn backend(storage: &Part) -> Value {
    json!({"name": "bootd", "status": storage.text()})
}

fn version() -> Value {
    json!({"bss-version": env!("CARGO_PKG_VERSION")})
}

/// 200, or 500 with what is broken.
fn of(parts: &[&Part], mut body: Value) -> Answer {
    let broken = parts.iter().find_map(|part| match part {
        Part::Connected => None,
        Part::Broken(error) => Some(error.to_string()),
    });
    let status = if broken.is_some() { 500 } else { 200 };
    if let (Some(error), Some(map)) = (broken, body.as_object_mut()) {
        map.insert("error".into(), error.into());
    }
    Answer::new(status, "application/json", body.to_string())
}
