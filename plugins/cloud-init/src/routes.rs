//! What is served, and what answers it.
//!
//! Everything is below `/cloud-init`; the host leads a listener of cloud-init's own there. Old clients put `meta-data` behind `/cloud-init`
//! without a slash. Paths below `/admin` are reached by their own routes only, so that they always ask for a token.

use bootd_sdk::prelude::*;

use crate::documents::{self, Makings};
use crate::schema::OPENAPI;
use crate::{CloudInit, admin, reports, transfer};

/// What all paths of nodes and administrators begin with.
pub(crate) const PREFIX: &str = "/cloud-init";

/// What the plugin serves.
pub(crate) fn routes() -> Vec<Route> {
    let small = |method, prefix, access| Route {
        body_limit: 16 * 1024,
        ..Route::new(method, prefix, access)
    };
    let large = |method, prefix| Route {
        body_limit: 4 * 1024 * 1024,
        ..Route::new(method, prefix, Access::Token)
    };
    vec![
        Route::new("GET", "/cloud-init*", Access::Open),
        // A handful of host keys.
        small("POST", "/cloud-init/phone-home", Access::Node),
        small("POST", "/cloud-init/wg-init", Access::Node),
        Route::new("GET", "/cloud-init/admin", Access::Token),
        Route::new("POST", "/cloud-init/admin/cluster-defaults", Access::Token),
        large("POST", "/cloud-init/admin/groups"),
        large("PUT", "/cloud-init/admin/groups"),
        Route::new("DELETE", "/cloud-init/admin/groups", Access::Token),
        Route::new("PUT", "/cloud-init/admin/instance-info", Access::Token),
        Route::new("DELETE", "/cloud-init/admin/instance-info", Access::Token),
        Route::new("GET", EXPORT, Access::Token),
        Route {
            body_limit: 64 * 1024 * 1024,
            ..Route::new("POST", IMPORT, Access::Token)
        },
    ]
}

/// Answers a request.
pub(crate) fn answer(plugin: &CloudInit, request: &Request) -> Answer {
    let method = request.method.as_str();
    match (method, request.path.as_str()) {
        ("GET", EXPORT) => return transfer::export(&plugin.ledger.book()),
        ("POST", IMPORT) => return plugin.bumped(transfer::import(&plugin.ledger, &request.body)),
        _ => {}
    }
    let Some(rest) = request.path.strip_prefix(PREFIX) else {
        return not_found();
    };
    let rest = rest.trim_end_matches('/');
    let book = plugin.ledger.book();
    let makings = Makings {
        documents: &book.documents,
        networks: plugin.settings.network_config.as_ref(),
        boot_url: &plugin.boot_url,
        request,
    };
    if method == "GET" && WITHOUT_SLASH.contains(&rest) {
        return documents::own(&makings, rest);
    }
    let Some(path) = rest.strip_prefix('/') else {
        return not_found();
    };
    if let Some(path) = path.strip_prefix("admin/") {
        return match (method, path.strip_prefix("impersonation/")) {
            ("GET", Some(path)) => match path.split_once('/') {
                Some((id, document)) if plugin.settings.impersonation => {
                    documents::as_another(plugin.host, &makings, id, document)
                }
                _ => not_found(),
            },
            ("GET", None) => admin::answer(&plugin.ledger, request, path),
            _ => plugin.bumped(admin::answer(&plugin.ledger, request, path)),
        };
    }
    let first = path.split('/').next().unwrap_or_default();
    match (method, path) {
        ("POST", _) if first == "phone-home" => reports::phone_home(request),
        ("POST", "wg-init") => reports::wg_init(request),
        ("GET", "version") => plugin.version(),
        ("GET", "openapi.json") => Answer::new(200, "application/json", OPENAPI),
        ("GET", document) => documents::own(&makings, document),
        _ => not_found(),
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
/// What follows `/cloud-init` without a slash, from clients that concatenate.
const WITHOUT_SLASH: [&str; 4] = ["meta-data", "user-data", "vendor-data", "network-config"];
