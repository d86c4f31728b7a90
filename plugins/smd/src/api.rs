//! The read side of SMD's API (`/hsm/v2`), from the inventory: nodes of every provider.
//!
//! Answers are made anew for each request and sorted; a list is never `null`. Writing comes with the store. Lists are open, as in SMD: who
//! boots and what serves it reads them without a token.

use bootd_sdk::prelude::*;
use bootd_sdk::wire::Address;
use bootd_sdk::xname;
use serde::Serialize;

/// What the plugin serves.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/hsm/v2", Access::Token),
        Route::new("GET", "/hsm/v2/service/ready", Access::Open),
        Route::new("GET", "/hsm/v2/State/Components", Access::Open),
        // A component alone asks for a token though the list does not; all xnames of nodes and BMCs begin so.
        Route::new("GET", "/hsm/v2/State/Components/x*", Access::Token),
        Route::new("GET", "/hsm/v2/State/Components/X*", Access::Token),
        Route::new("GET", "/hsm/v2/State/Components/ByNID", Access::Token),
        Route::new("GET", "/hsm/v2/Inventory/EthernetInterfaces", Access::Open),
    ]
}

/// Answers a request.
pub(crate) fn answer(host: Host, request: &Request) -> Answer {
    let path = request.path.strip_prefix("/hsm/v2").unwrap_or_default();
    let path = path.trim_end_matches('/');
    match path {
        "/service/ready" => json(&serde_json::json!({"code": 0, "message": "HSM is healthy"})),
        "/State/Components" => list(host, |nodes| {
            let components: Vec<_> = nodes.iter().map(component).collect();
            json(&serde_json::json!({"Components": components}))
        }),
        "/Inventory/EthernetInterfaces" => list(host, |nodes| {
            let interfaces: Vec<_> = nodes.iter().flat_map(ethernet_interfaces).collect();
            json(&interfaces)
        }),
        _ => {
            if let Some(nid) = path.strip_prefix("/State/Components/ByNID/") {
                by_nid(host, nid)
            } else if let Some(id) = path.strip_prefix("/State/Components/") {
                by_id(host, id)
            } else {
                Answer::text(404, "404 page not found\n")
            }
        }
    }
}

fn list(host: Host, answer: impl FnOnce(&[Node]) -> Answer) -> Answer {
    match host.nodes(&Query::default()) {
        Ok(mut nodes) => {
            nodes.sort_by(|a, b| a.id.cmp(&b.id));
            answer(&nodes)
        }
        Err(error) => Answer::problem(500, "Internal Server Error", &error.to_string()),
    }
}

fn by_id(host: Host, id: &str) -> Answer {
    // Only what the routes above guard: anything else came through the open list's.
    let node = if id.starts_with(['x', 'X']) {
        let id = Some(xname::normalise(id));
        host.node(&Query { id, ..Query::default() })
    } else {
        None
    };
    match node {
        Some(node) => json(&component(&node)),
        None => Answer::problem(404, "Not Found", "no such xname."),
    }
}

fn by_nid(host: Host, nid: &str) -> Answer {
    let Ok(nid) = nid.parse::<u64>() else {
        let detail = "bad query param: a required argument was not an integer";
        return Answer::problem(400, "Bad Request", detail);
    };
    let nid = Some(nid);
    match host.node(&Query {
        nid,
        ..Query::default()
    }) {
        Some(node) => json(&component(&node)),
        None => Answer::problem(404, "Not Found", "no such NID."),
    }
}

/// A component as SMD writes it.
#[derive(Serialize)]
struct Component<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Type", skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    #[serde(rename = "State", skip_serializing_if = "str::is_empty")]
    state: &'a str,
    #[serde(rename = "Enabled")]
    enabled: bool,
    #[serde(rename = "Role", skip_serializing_if = "str::is_empty")]
    role: &'a str,
    #[serde(rename = "NID", skip_serializing_if = "Option::is_none")]
    nid: Option<u64>,
}

fn component(node: &Node) -> Component<'_> {
    Component {
        id: &node.id,
        kind: &node.kind,
        state: &node.state,
        enabled: node.enabled,
        role: &node.role,
        nid: node.nid,
    }
}

/// An interface as SMD writes it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EthernetInterface<'a> {
    #[serde(rename = "ID")]
    id: String,
    description: String,
    #[serde(rename = "MACAddress")]
    mac: Mac,
    #[serde(rename = "ComponentID")]
    component: &'a str,
    #[serde(rename = "Type")]
    kind: &'a str,
    #[serde(rename = "IPAddresses")]
    addresses: Vec<IpAddress<'a>>,
}

#[derive(Serialize)]
struct IpAddress<'a> {
    #[serde(rename = "IPAddress")]
    ip: String,
    #[serde(rename = "Network", skip_serializing_if = "str::is_empty")]
    network: &'a str,
}

fn ethernet_interfaces(node: &Node) -> impl Iterator<Item = EthernetInterface<'_>> {
    let address = |address: &'_ Address| address.ip.to_string();
    node.interfaces
        .iter()
        .enumerate()
        .map(move |(place, interface)| EthernetInterface {
            id: interface.mac.to_string().replace(':', ""),
            description: match node.kind.as_str() {
                "Node" => format!(
                    "Interface {place} for {}",
                    if node.name.is_empty() { &node.id } else { &node.name }
                ),
                _ => format!("Interface for BMC {}", node.id),
            },
            mac: interface.mac,
            component: &node.id,
            kind: &node.kind,
            addresses: interface
                .ips
                .iter()
                .map(|ip| IpAddress {
                    ip: address(ip),
                    network: &ip.network,
                })
                .collect(),
        })
}

fn json(body: &impl Serialize) -> Answer {
    match serde_json::to_string(body) {
        Ok(body) => Answer::new(200, "application/json", body),
        Err(error) => Answer::problem(500, "Internal Server Error", &error.to_string()),
    }
}
