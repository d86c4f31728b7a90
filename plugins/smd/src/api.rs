//! The read side of SMD's API (`/hsm/v2`), from the inventory: nodes of every provider.
//!
//! Answers are made anew for each request and sorted; a list is never `null`. Writing comes with the store. Lists are open, as in SMD: who
//! boots and what serves it reads them without a token.

use std::collections::{BTreeMap, BTreeSet};

use bootd_sdk::form;
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
        "/State/Components" => list(host, request, Of::Components, |nodes, filter| {
            let components: Vec<_> = nodes.iter().filter(|node| filter.shows(node)).map(component).collect();
            json(&Components { components })
        }),
        "/Inventory/EthernetInterfaces" => list(host, request, Of::Interfaces, |nodes, filter| {
            let interfaces = nodes.iter().flat_map(ethernet_interfaces);
            let interfaces: Vec<_> = interfaces
                .filter(|interface| filter.shows_interface(interface))
                .collect();
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

fn list(host: Host, request: &Request, of: Of, answer: impl FnOnce(&[Node], &Filter) -> Answer) -> Answer {
    let filter = match Filter::new(&request.query, of) {
        Ok(filter) => filter,
        Err(detail) => return Answer::problem(400, "Bad Request", detail),
    };
    match host.nodes(&Query::default()) {
        Ok(mut nodes) => {
            nodes.sort_by(|a, b| a.id.cmp(&b.id));
            answer(&nodes, &filter)
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

/// What a list is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Components,
    Interfaces,
}

/// Values that a query may name. Each is compared with every node.
const MOST_VALUES: usize = 64;

/// The query of a list. A name given several times shows any of its values, `!` before a value all others; unknown names are ignored.
struct Filter(BTreeMap<String, BTreeSet<Value>>);

/// A value of a query, written as the nodes' own values are.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Value {
    not: bool,
    text: String,
}

impl Filter {
    fn new(query: &str, of: Of) -> Result<Self, &'static str> {
        let pairs = form::pairs(query).ok_or("the query is not well formed")?;
        if pairs.len() > MOST_VALUES {
            return Err("the query names more than 64 values");
        }
        let mut values = BTreeMap::<_, BTreeSet<_>>::new();
        for (name, value) in pairs {
            let name = name.to_ascii_lowercase();
            let (not, text) = match value.strip_prefix('!') {
                Some(text) => (true, text),
                None => (false, value.as_str()),
            };
            let text = match (name.as_str(), of) {
                ("id", Of::Components) | ("componentid", _) => xname::normalise(text),
                // As in the ID of an interface; what is no MAC is none's.
                ("macaddress", _) => text.parse().map(interface_id).unwrap_or_default(),
                _ => text.to_owned(),
            };
            values.entry(name).or_default().insert(Value { not, text });
        }
        Ok(Self(values))
    }

    fn shows(&self, node: &Node) -> bool {
        let nid = node.nid.map(|nid| nid.to_string()).unwrap_or_default();
        self.allows("id", |id| id == node.id)
            && self.allows("type", |kind| kind.eq_ignore_ascii_case(&node.kind))
            && self.allows("state", |state| state.eq_ignore_ascii_case(&node.state))
            && self.allows("role", |role| role.eq_ignore_ascii_case(&node.role))
            && self.allows("nid", |other| other == nid)
            && self.allows("enabled", |enabled| {
                enabled.eq_ignore_ascii_case(&node.enabled.to_string())
            })
            && self.allows("group", |group| node.groups.iter().any(|own| own == group))
    }

    fn shows_interface(&self, interface: &EthernetInterface<'_>) -> bool {
        self.allows("id", |id| id.eq_ignore_ascii_case(&interface.id))
            && self.allows("macaddress", |mac| mac == interface.id)
            && self.allows("componentid", |id| id == interface.component)
            && self.allows("type", |kind| kind.eq_ignore_ascii_case(interface.kind))
            && self.allows("ipaddress", |ip| interface.addresses.iter().any(|own| own.ip == ip))
            && self.allows("network", |network| {
                interface.addresses.iter().any(|own| own.network == network)
            })
    }

    fn allows(&self, name: &str, is: impl Fn(&str) -> bool) -> bool {
        let Some(values) = self.0.get(name) else { return true };
        values.iter().any(|value| is(&value.text) != value.not)
    }
}

/// A list of components as SMD writes it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Components<'a> {
    components: Vec<Component<'a>>,
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

fn interface_id(mac: Mac) -> String {
    mac.to_string().replace(':', "")
}

fn ethernet_interfaces(node: &Node) -> impl Iterator<Item = EthernetInterface<'_>> {
    let address = |address: &'_ Address| address.ip.to_string();
    node.interfaces
        .iter()
        .enumerate()
        .map(move |(place, interface)| EthernetInterface {
            id: interface_id(interface.mac),
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
