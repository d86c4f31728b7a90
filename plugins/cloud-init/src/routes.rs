//! Requests: which document of which node.
//!
//! Node documents are open, and for the node whose address asks; the same documents under `/admin/impersonation` ask for a token. A name of
//! a path is only ever looked up in a map. Old clients put `meta-data` behind `/cloud-init` without a slash.

use bootd_sdk::form;
use bootd_sdk::prelude::*;
use bootd_sdk::text::shown;
use bootd_sdk::xname;

use crate::metadata::{Content, Documents};

const EMPTY: &str = "#cloud-config";
/// What follows `/cloud-init` without a slash, from clients that concatenate.
const WITHOUT_SLASH: [&str; 3] = ["meta-data", "user-data", "vendor-data"];

/// What the plugin serves.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/cloud-init*", Access::Open),
        Route::new("GET", "/cloud-init/admin", Access::Token),
        Route {
            // A handful of host keys.
            body_limit: 16 * 1024,
            ..Route::new("POST", "/cloud-init/phone-home", Access::Open)
        },
    ]
}

/// Answers a request.
pub(crate) fn answer(host: Host, data: &Documents, boot_url: &str, request: &Request) -> Answer {
    let Some(rest) = request.path.strip_prefix("/cloud-init") else {
        return not_found();
    };
    let rest = rest.trim_end_matches('/');
    if WITHOUT_SLASH.contains(&rest) {
        return own(data, boot_url, request, rest);
    }
    let Some(path) = rest.strip_prefix('/') else {
        return not_found();
    };
    if request.method == "POST" {
        return match path.split('/').next() {
            Some("phone-home") => phone_home(request),
            _ => not_found(),
        };
    }
    if let Some(path) = path.strip_prefix("admin/impersonation/") {
        return match path.split_once('/') {
            Some((id, document)) => as_another(host, data, boot_url, request, id, document),
            None => not_found(),
        };
    }
    match path {
        "version" => {
            let version = env!("CARGO_PKG_VERSION");
            let body = serde_json::json!({"process_name": "bootd", "build_info": {"version": version}});
            Answer::new(200, "application/json", body.to_string())
        }
        document => own(data, boot_url, request, document),
    }
}

/// A document of the node whose address asks.
fn own(data: &Documents, boot_url: &str, request: &Request, document: &str) -> Answer {
    let base = |node: &Node| base(data, node, boot_url, request);
    let Some(node) = &request.node else {
        return match (document, group_of(document)) {
            ("meta-data" | "vendor-data", _) => unprocessable(),
            ("user-data", _) => plain(200, EMPTY),
            (_, Some(_)) => {
                let peer = request.peer.map(|peer| peer.to_string()).unwrap_or_default();
                plain(500, format!("IP address {peer} not found for an xname in nodes\n"))
            }
            _ => not_found(),
        };
    };
    match (document, group_of(document)) {
        ("meta-data", _) => yaml(data.meta_data(node, &base(node))).kept(),
        ("vendor-data", _) => plain(200, vendor_data(node, &base(node))).kept(),
        ("user-data", _) => plain(200, EMPTY).kept(),
        (_, Some(name)) => group(data, Some(node), &node.id, name),
        _ => not_found(),
    }
}

/// A document of any node, for an administrator.
fn as_another(host: Host, data: &Documents, boot_url: &str, request: &Request, id: &str, document: &str) -> Answer {
    let id = xname::normalise(id);
    let query = Query {
        id: Some(id.clone()),
        ..Query::default()
    };
    let node = match host.nodes(&query) {
        Ok(nodes) => nodes.into_iter().next(),
        Err(error) => return plain(500, format!("{error}\n")),
    };
    match (document, group_of(document), node) {
        ("meta-data", _, Some(node)) => yaml(data.meta_data(&node, &base(data, &node, boot_url, request))),
        ("meta-data", _, None) => plain(404, format!("node {} not found in SMD\n", shown(&id))),
        ("vendor-data", _, Some(node)) => plain(200, vendor_data(&node, &base(data, &node, boot_url, request))),
        ("vendor-data", _, None) => plain(200, "#include\n"),
        ("user-data", ..) => plain(200, EMPTY),
        (_, Some(name), node) => Answer {
            keep: false,
            ..group(data, node.as_ref(), &id, name)
        },
        _ => not_found(),
    }
}

/// The URL under which the node finds this plugin.
fn base(data: &Documents, node: &Node, boot_url: &str, request: &Request) -> String {
    data.base_url(node).map(str::to_owned).unwrap_or_else(|| {
        let base = request.base().unwrap_or_else(|| boot_url.to_owned());
        format!("{base}/cloud-init")
    })
}

fn vendor_data(node: &Node, base: &str) -> String {
    // cloud-init stops at an include that it cannot fetch: a slash would make the name two segments of the path.
    let mut groups: Vec<&String> = node.groups.iter().filter(|group| !group.contains('/')).collect();
    groups.sort();
    groups.dedup();
    let mut body = String::from("#include\n");
    for group in groups {
        body.push_str(&format!("{base}/{}.yaml\n", form::segment(group)));
    }
    body
}

/// The document of a group, for its members.
fn group(data: &Documents, node: Option<&Node>, id: &str, name: &str) -> Answer {
    if !node.is_some_and(|node| node.groups.iter().any(|group| group == name)) {
        let (id, name) = (shown(id), shown(name));
        let text = format!("node {id} is not a member of group {name} (node and/or group may not exist in SMD)\n");
        return plain(404, text);
    }
    match data.groups.get(name).map(|group| &group.content) {
        None | Some(Content::None) => plain(200, EMPTY).kept(),
        Some(Content::Text(text)) => plain(200, text.as_str()).kept(),
        Some(Content::Broken(reason)) => plain(500, format!("the document of group {} {reason}\n", shown(name))),
    }
}

fn group_of(document: &str) -> Option<&str> {
    let name = document.strip_suffix(".yaml")?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

/// A node says that it is up. Its keys are its own affair.
fn phone_home(request: &Request) -> Answer {
    let Some(fields) = form::pairs(&request.body) else {
        return Answer {
            status: 400,
            ..Answer::default()
        };
    };
    let Some(node) = &request.node else {
        return unprocessable();
    };
    let hostname = shown(form::first(&fields, "hostname").unwrap_or_default());
    tracing::info!(
        node = node.id.as_str(),
        hostname = hostname.as_str(),
        "node phoned home"
    );
    Answer::default()
}

fn yaml(body: String) -> Answer {
    Answer::new(200, "application/x-yaml", body)
}

fn plain(status: u16, body: impl Into<String>) -> Answer {
    Answer::text(status, body)
}

fn unprocessable() -> Answer {
    Answer {
        status: 422,
        ..Answer::default()
    }
}

fn not_found() -> Answer {
    Answer::text(404, "404 page not found\n")
}
