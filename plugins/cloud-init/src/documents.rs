//! The documents of nodes (contract 4.3, 4.5): which one, of which node.
//!
//! Open, and for the node whose address asks; the same documents under `/admin/impersonation` ask for a token. A name of a path is only ever
//! looked up in a map. Templates are never rendered here: the node does that, with its own meta-data.

use bootd_sdk::lead::{self, Name};
use bootd_sdk::prelude::*;
use bootd_sdk::text::shown;
use bootd_sdk::{form, xname};

use crate::book::Documents;
use crate::model::Content;
use crate::network::{self, Networks};
use crate::routes::{PREFIX, not_found, plain, unprocessable};

/// What answers are made of.
pub(crate) struct Makings<'a> {
    pub(crate) documents: &'a Documents,
    /// None: there is no network configuration.
    pub(crate) networks: Option<&'a Networks>,
    /// The boot listener, for requests that do not say how they got here.
    pub(crate) boot_url: &'a str,
    pub(crate) request: &'a Request,
    /// What URLs of the site's documents begin with: they lead to this box. `None`: all URLs stay as they are.
    pub(crate) site: Option<&'a [Name]>,
}

/// A document of the node whose address asks.
pub(crate) fn own(makings: &Makings<'_>, document: &str) -> Answer {
    let Some(node) = &makings.request.node else {
        return match (document, group_of(document)) {
            ("meta-data" | "vendor-data", _) => unprocessable(),
            ("user-data", _) => plain(200, EMPTY),
            (_, Some(_)) => {
                let peer = makings.request.peer.map(|peer| peer.to_string()).unwrap_or_default();
                plain(500, format!("IP address {peer} not found for an xname in nodes\n"))
            }
            _ => not_found(),
        };
    };
    match (document, group_of(document)) {
        ("meta-data", _) => meta_data(makings, node).kept(),
        ("vendor-data", _) => vendor_data(makings, node).kept(),
        ("user-data", _) => plain(200, EMPTY).kept(),
        ("network-config", _) => network_config(makings, node),
        (_, Some(name)) => group(makings, Some(node), &node.id, name),
        _ => not_found(),
    }
}

/// A node by its xname in any spelling.
pub(crate) fn node(host: Host, id: &str) -> Result<Option<Node>, HostError> {
    let query = Query {
        id: Some(xname::normalise(id)),
        ..Query::default()
    };
    Ok(host.nodes(&query)?.into_iter().next())
}

/// A document of any node, for an administrator.
pub(crate) fn as_another(makings: &Makings<'_>, node: Option<&Node>, id: &str, document: &str) -> Answer {
    let id = xname::normalise(id);
    let answer = match (document, group_of(document), node) {
        ("meta-data", _, Some(node)) => meta_data(makings, node),
        ("meta-data", _, None) => plain(404, format!("node {} not found in SMD\n", shown(&id))),
        ("vendor-data", _, Some(node)) => vendor_data(makings, node),
        ("vendor-data", _, None) => plain(200, "#include\n"),
        ("user-data", ..) => plain(200, EMPTY),
        ("network-config", _, Some(node)) => network_config(makings, node),
        (_, Some(name), node) => group(makings, node, &id, name),
        _ => not_found(),
    };
    Answer { keep: false, ..answer }
}

fn meta_data(makings: &Makings<'_>, node: &Node) -> Answer {
    let body = makings.documents.meta_data(node, &base(makings, node));
    Answer::new(200, YAML, body)
}

fn network_config(makings: &Makings<'_>, node: &Node) -> Answer {
    match makings.networks {
        Some(networks) => Answer::new(200, YAML, network::config(networks, node)).kept(),
        None => not_found(),
    }
}

/// The URL under which the node finds this plugin: what was configured, else where the request came in. What is configured at a site names
/// the site, past this box.
fn base(makings: &Makings<'_>, node: &Node) -> String {
    let configured = makings.documents.base_url(node).filter(|_| makings.site.is_none());
    configured.map_or_else(|| here(makings), str::to_owned)
}

/// Where the request came in.
fn here(makings: &Makings<'_>) -> String {
    let base = makings.request.base();
    format!("{}{PREFIX}", base.as_deref().unwrap_or(makings.boot_url))
}

/// A group's document, with the URLs of the site's documents led here.
fn led(makings: &Makings<'_>, text: &str) -> String {
    let Some(site) = makings.site else {
        return text.to_owned();
    };
    let to = here(makings);
    let configured = Name::all(makings.documents.defaults.base_url.as_deref());
    lead::led(text, |_, rest| {
        let names = site.iter().chain(&configured);
        let bytes = names.filter_map(|name| name.begins(rest)).max();
        bytes.map(|bytes| (bytes, to.clone()))
    })
}

fn vendor_data(makings: &Makings<'_>, node: &Node) -> Answer {
    let base = base(makings, node);
    // cloud-init stops at an include that it cannot fetch: a slash would make the name two segments of the path.
    let mut groups: Vec<&String> = node.groups.iter().filter(|group| !group.contains('/')).collect();
    groups.sort();
    groups.dedup();
    let mut body = String::from("#include\n");
    for group in groups {
        body.push_str(&format!("{base}/{}.yaml\n", form::segment(group)));
    }
    plain(200, body)
}

/// The document of a group, for its members.
fn group(makings: &Makings<'_>, node: Option<&Node>, id: &str, name: &str) -> Answer {
    if !node.is_some_and(|node| node.groups.iter().any(|group| group == name)) {
        let (id, name) = (shown(id), shown(name));
        let text = format!("node {id} is not a member of group {name} (node and/or group may not exist in SMD)\n");
        return plain(404, text);
    }
    match makings.documents.groups.get(name).map(|group| &group.content) {
        None | Some(Content::None) => plain(200, EMPTY).kept(),
        Some(Content::Text(text)) => plain(200, led(makings, text)).kept(),
        Some(Content::Broken(reason)) => plain(500, format!("the document of group {} {reason}\n", shown(name))),
    }
}

fn group_of(document: &str) -> Option<&str> {
    let name = document.strip_suffix(".yaml")?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

const EMPTY: &str = "#cloud-config";
const YAML: &str = "application/x-yaml";
