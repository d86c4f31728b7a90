//! What is served, and what answers it.
//!
//! Everything is below `/cloud-init`; the host leads a listener of cloud-init's own there. Old clients put `meta-data` behind `/cloud-init`
//! without a slash. Paths below `/admin` are reached by their own routes only, so that they always ask for a token.

use bootd_sdk::prelude::*;
use bootd_sdk::upstream::PASS_ON_MS;

use crate::book::Book;
use crate::documents::{self, Makings};
use crate::schema::OPENAPI;
use crate::{CloudInit, Source, admin, reports, transfer};

/// What all paths of nodes and administrators begin with.
pub(crate) const PREFIX: &str = "/cloud-init";

/// What the plugin serves. Writes at a site wait for it, with their client's token.
pub(crate) fn routes(source: &Source) -> Vec<Route> {
    let small = |method, prefix, access| Route {
        body_limit: 16 * 1024,
        ..Route::new(method, prefix, access)
    };
    let write = |method, prefix| {
        let route = Route::new(method, prefix, Access::Token);
        match source {
            Source::Local(_) => route,
            Source::Site(_) => Route {
                deadline_ms: Some(PASS_ON_MS),
                passes_token: true,
                ..route
            },
        }
    };
    let large = |method, prefix| Route {
        body_limit: 4 * 1024 * 1024,
        ..write(method, prefix)
    };
    vec![
        Route::new("GET", "/cloud-init*", Access::Open),
        // A handful of host keys.
        small("POST", "/cloud-init/phone-home", Access::Node),
        small("POST", "/cloud-init/wg-init", Access::Node),
        Route::new("GET", "/cloud-init/admin", Access::Token),
        write("POST", "/cloud-init/admin/cluster-defaults"),
        large("POST", "/cloud-init/admin/groups"),
        large("PUT", "/cloud-init/admin/groups"),
        write("DELETE", "/cloud-init/admin/groups"),
        write("PUT", "/cloud-init/admin/instance-info"),
        write("DELETE", "/cloud-init/admin/instance-info"),
        Route::new("GET", EXPORT, Access::Token),
        Route {
            body_limit: 64 * 1024 * 1024,
            ..Route::new("POST", IMPORT, Access::Token)
        },
        Route {
            deadline_ms: Some(PASS_ON_MS),
            ..Route::new("POST", ACCEPT, Access::Token)
        },
    ]
}

/// Answers a request.
pub(crate) fn answer(plugin: &CloudInit, request: &Request) -> Answer {
    match (request.method.as_str(), request.path.as_str(), plugin.site()) {
        ("GET", EXPORT, _) => transfer::export(&plugin.ledger.book()),
        ("POST", IMPORT, None) => plugin.bumped(transfer::import(&plugin.ledger, &request.body)),
        ("POST", IMPORT, Some(site)) => site.import(),
        ("POST", ACCEPT, None) => Answer::new(200, "application/json", r#"{"accepted":[],"left":[]}"#),
        ("POST", ACCEPT, Some(site)) => site.accept(&plugin.ledger),
        (method, path, _) => match path.strip_prefix(PREFIX) {
            Some(rest) => below(plugin, request, method, rest.trim_end_matches('/')),
            None => not_found(),
        },
    }
}

/// Answers what is below [`PREFIX`].
fn below(plugin: &CloudInit, request: &Request, method: &str, rest: &str) -> Answer {
    if method == "GET" && WITHOUT_SLASH.contains(&rest) {
        return own(plugin, request, rest);
    }
    let Some(path) = rest.strip_prefix('/') else {
        return not_found();
    };
    if let Some(path) = path.strip_prefix("admin/") {
        return match (method, path.strip_prefix("impersonation/"), plugin.site()) {
            ("GET", Some(path), _) => match path.split_once('/') {
                Some((id, document)) if plugin.impersonation => as_another(plugin, request, id, document),
                _ => not_found(),
            },
            ("GET", None, _) => plugin.marked(admin::answer(&plugin.ledger, &plugin.tags, request, path)),
            (_, _, Some(site)) => site.write(&plugin.ledger, request, &format!("/admin/{path}")),
            (_, _, None) => plugin.bumped(admin::answer(&plugin.ledger, &plugin.tags, request, path)),
        };
    }
    let first = path.split('/').next().unwrap_or_default();
    match (method, path) {
        ("POST", _) if first == "phone-home" => reports::phone_home(request),
        ("POST", "wg-init") => reports::wg_init(request),
        ("GET", "version") => plugin.version(),
        ("GET", "openapi.json") => Answer::new(200, "application/json", OPENAPI),
        ("GET", document) => own(plugin, request, document),
        _ => not_found(),
    }
}

/// A document of the node that asks.
fn own(plugin: &CloudInit, request: &Request, document: &str) -> Answer {
    let is_known = match &request.node {
        Some(node) => knows(plugin, node, document),
        None => true,
    };
    let book = plugin.ledger.book();
    let answer = documents::own(&makings(plugin, request, &book), document);
    // The next time it is asked for again.
    let keep = answer.keep && is_known;
    plugin.marked(Answer { keep, ..answer })
}

/// A document of any node.
fn as_another(plugin: &CloudInit, request: &Request, id: &str, document: &str) -> Answer {
    let node = match documents::node(plugin.host, id) {
        Ok(node) => node,
        Err(error) => return plain(500, format!("{error}\n")),
    };
    if let Some(node) = &node {
        knows(plugin, node, document);
    }
    let book = plugin.ledger.book();
    let answer = documents::as_another(&makings(plugin, request, &book), node.as_ref(), id, document);
    plugin.marked(answer)
}

/// Whether what is different about a node is known, as far as a document needs it.
fn knows(plugin: &CloudInit, node: &Node, document: &str) -> bool {
    match plugin.site() {
        Some(site) if document == "meta-data" => site.knows(&plugin.ledger, node),
        _ => true,
    }
}

fn makings<'a>(plugin: &'a CloudInit, request: &'a Request, book: &'a Book) -> Makings<'a> {
    Makings {
        documents: &book.documents,
        networks: plugin.networks.as_ref(),
        boot_url: &plugin.boot_url,
        request,
        site: plugin.site().and_then(|site| site.names(request)),
    }
}

pub(crate) fn plain(status: u16, body: impl Into<String>) -> Answer {
    Answer::text(status, body)
}

/// Who asks is no node: without a word, as clients know it.
pub(crate) fn unprocessable() -> Answer {
    Answer {
        status: 422,
        ..Answer::default()
    }
}

pub(crate) fn not_found() -> Answer {
    Answer::text(404, "404 page not found\n")
}

const EXPORT: &str = "/bootd/v1/export/cloud-init";
const IMPORT: &str = "/bootd/v1/import/cloud-init";
/// Lets through what is held back of a site.
const ACCEPT: &str = "/bootd/v1/accept/cloud-init";
/// What follows `/cloud-init` without a slash, from clients that concatenate.
const WITHOUT_SLASH: [&str; 4] = ["meta-data", "user-data", "vendor-data", "network-config"];
