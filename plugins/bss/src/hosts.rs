//! `/hosts` and `/dumpstate`: nodes of the inventory as BSS lists them. Lists of all of them may be a second old (see [`crate::lists`]); there
//! is no other cache, so the request to refresh it has nothing to do.
//!
//! Both are open (contract 3.1), so nothing that is for the nodes only is in them: boot parameters come without their `cloud-init`.

use bootd_sdk::form;
use bootd_sdk::prelude::*;
use bootd_sdk::text::shown;
use bootd_sdk::xname;
use serde_json::{Map, Value, json};

use crate::Bss;
use crate::entry::{CloudInit, Entry};

/// `GET /hosts`: all, or those that are named.
pub(crate) fn list(bss: &Bss, request: &Request) -> Answer {
    let Some(query) = form::pairs(&request.query) else {
        return Answer::problem(400, "Bad Request", "the query is not well formed");
    };
    let (host, lists) = (bss.host, &bss.lists);
    match asked(host, &query) {
        Ok(Some(nodes)) => Answer::new(200, "application/json", listed(&nodes).to_string()),
        Ok(None) => lists.answer(&lists.hosts, &bss.ledger.book(), host.now_boot(), || {
            Ok(listed(&all(host)?).to_string())
        }),
        Err(answer) => answer,
    }
}

/// `GET /dumpstate`: nodes and boot parameters.
pub(crate) fn dump(bss: &Bss) -> Answer {
    let (host, book, lists) = (bss.host, bss.ledger.book(), &bss.lists);
    lists.answer(&lists.dump, &book, host.now_boot(), || {
        let params: Value = book.entries(None).into_iter().map(without_cloud_init).collect();
        Ok(json!({"Components": listed(&all(host)?), "Params": params}).to_string())
    })
}

fn listed(nodes: &[Node]) -> Value {
    nodes.iter().map(as_bss).collect()
}

/// The contract has `/dumpstate` public, and tools ask for it without a token: passwords in user-data and what nodes phoned home are not
/// everybody's. Who has a token finds them in `/bootparameters`.
fn without_cloud_init(mut entry: Entry) -> Value {
    entry.config.cloud_init = CloudInit::default();
    entry.as_bss()
}

/// The nodes that a query names; `None`: it names none.
fn asked(host: Host, query: &[(String, String)]) -> Result<Option<Vec<Node>>, Answer> {
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
    Ok(has_asked.then_some(nodes))
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
