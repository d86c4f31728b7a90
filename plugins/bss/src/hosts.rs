//! `/hosts` and `/dumpstate`: nodes of the inventory as BSS lists them, made anew for each request. There is no cache that could be stale, so
//! the request to refresh it has nothing to do.

use bootd_sdk::form;
use bootd_sdk::prelude::*;
use bootd_sdk::text::shown;
use bootd_sdk::xname;
use serde_json::{Map, Value, json};

use crate::book::Book;
use crate::entry::Entry;

/// `GET /hosts`: all, or those that are named.
pub(crate) fn list(host: Host, request: &Request) -> Answer {
    let Some(query) = form::pairs(&request.query) else {
        return Answer::problem(400, "Bad Request", "the query is not well formed");
    };
    match asked(host, &query) {
        Ok(nodes) => json_answer(&nodes.iter().map(as_bss).collect()),
        Err(answer) => answer,
    }
}

/// `GET /dumpstate`: nodes and boot parameters.
pub(crate) fn dump(host: Host, book: &Book) -> Answer {
    match all(host) {
        Ok(nodes) => {
            let components: Vec<Value> = nodes.iter().map(as_bss).collect();
            let params: Vec<Value> = book.entries(None).iter().map(Entry::as_bss).collect();
            json_answer(&json!({"Components": components, "Params": params}))
        }
        Err(answer) => answer,
    }
}

fn asked(host: Host, query: &[(String, String)]) -> Result<Vec<Node>, Answer> {
    let (mut nodes, mut has_asked): (Vec<Node>, bool) = (Vec::new(), false);
    for (kind, values) in query {
        for value in values.split(',').filter(|value| !value.is_empty()) {
            let mut query = Query::default();
            let what = match kind.as_str() {
                "name" => {
                    query.id = Some(xname::normalise(value));
                    "host name"
                }
                "mac" => {
                    // What is no MAC is nobody's MAC.
                    query.mac = Some(value.parse().unwrap_or(Mac([0; 6])));
                    "MAC address"
                }
                "nid" => {
                    let nid = value.parse().map_err(|_| {
                        let detail = format!("Bad Request - Invalid NID '{}'", shown(value));
                        Answer::problem(400, "Bad Request", &detail)
                    })?;
                    query.nid = Some(nid);
                    "NID"
                }
                _ => continue,
            };
            has_asked = true;
            let node = host.node(&query).filter(is_node).ok_or_else(|| {
                let detail = format!("Not Found - Unknown {what} '{}'", shown(value));
                Answer::problem(404, "Not Found", &detail)
            })?;
            if nodes.iter().all(|other| other.id != node.id) {
                nodes.push(node);
            }
        }
    }
    if has_asked { Ok(nodes) } else { all(host) }
}

fn all(host: Host) -> Result<Vec<Node>, Answer> {
    let mut nodes = host
        .nodes(&Query::default())
        .map_err(|error| Answer::problem(500, "Internal Server Error", &error.to_string()))?;
    nodes.retain(is_node);
    nodes.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(nodes)
}

/// BMCs boot nothing of ours.
fn is_node(node: &Node) -> bool {
    node.kind.is_empty() || node.kind == "Node"
}

fn as_bss(node: &Node) -> Value {
    let mut map = Map::new();
    for (name, text) in [
        ("ID", &node.id),
        ("Type", &node.kind),
        ("State", &node.state),
        ("Role", &node.role),
        ("SubRole", &node.sub_role),
        ("Arch", &node.arch),
        ("Class", &node.class),
    ] {
        if !text.is_empty() {
            map.insert(name.into(), text.as_str().into());
        }
    }
    if let Some(nid) = node.nid {
        map.insert("NID".into(), nid.into());
    }
    map.insert("Enabled".into(), node.enabled.into());
    map.insert("FQDN".into(), node.fqdn.as_str().into());
    let macs = node.interfaces.iter().map(|interface| interface.mac.to_string());
    map.insert("MAC".into(), macs.collect());
    map.insert("EndpointEnabled".into(), node.enabled.into());
    Value::Object(map)
}

fn json_answer(value: &Value) -> Answer {
    Answer::new(200, "application/json", value.to_string())
}
