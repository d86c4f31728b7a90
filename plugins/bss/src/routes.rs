//! What the plugin serves: each path once, and who may call it.

use bootd_sdk::prelude::*;
use bootd_sdk::upstream::PASS_ON_MS;

/// Paths below [`PREFIXES`].
pub(crate) const PATHS: [(&str, &str, Access); 18] = [
    ("GET", "", Access::Token),
    ("GET", "/bootparameters", Access::Token),
    ("POST", "/bootparameters", Access::Token),
    ("PUT", "/bootparameters", Access::Token),
    ("PATCH", "/bootparameters", Access::Token),
    ("DELETE", "/bootparameters", Access::Token),
    ("GET", "/bootscript", Access::Open),
    ("GET", "/hosts", Access::Open),
    ("POST", "/hosts", Access::Node),
    ("POST", "/scn", Access::Node),
    ("GET", "/dumpstate", Access::Open),
    ("GET", "/endpoint-history", Access::Open),
    ("GET", "/service/status", Access::Open),
    ("GET", "/service/status/all", Access::Open),
    ("GET", "/service/version", Access::Open),
    ("GET", "/service/hsm", Access::Open),
    ("GET", "/service/storage/status", Access::Open),
    ("GET", "/openapi.json", Access::Open),
];

/// Where the API is: as the tool asks for it, and as behind upstream's gateway.
pub(crate) const PREFIXES: [&str; 2] = ["/boot/v1", "/apis/bss/boot/v1"];

/// All data at once.
pub(crate) const TRANSFER: [(&str, &str, Access); 2] = [
    ("GET", "/bootd/v1/export/bss", Access::Token),
    ("POST", IMPORT, Access::Token),
];

/// Lets through what is held back of a site.
pub(crate) const ACCEPT: (&str, &str, Access) = ("POST", "/bootd/v1/accept/bss", Access::Token);

/// What is served at the root when the configuration says so.
pub(crate) const LEGACY: [(&str, &str, Access); 3] = [
    ("GET", "/meta-data", Access::Open),
    ("GET", "/user-data", Access::Open),
    ("POST", "/phone-home", Access::Node),
];

/// Bytes that a request's body may have. What asks for no token has next to nothing: bodies of strangers are read before they are refused.
fn body_limit(method: &str, path: &str, access: Access) -> usize {
    const KIB: usize = 1024;
    match (method, path, access) {
        // A tool may name those that it asks for in the body.
        ("GET", "/bootparameters", _) => 1024 * KIB,
        ("POST", "/hosts", _) => KIB,
        // All boot parameters.
        ("POST", IMPORT, _) => 16 * 1024 * KIB,
        // A list of all nodes' MACs is far below.
        ("POST" | "PUT" | "PATCH" | "DELETE", _, Access::Token) => 4 * 1024 * KIB,
        _ => 64 * KIB,
    }
}

/// Where boot parameters are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    Here,
    /// At a site: writes wait for it, with their client's token.
    There,
}

/// The routes. `legacy`: with those at the root.
pub(crate) fn all(legacy: bool, written: Written) -> Vec<Route> {
    let route = |prefix: &str, (method, path, access): (&str, &str, Access)| {
        let is_passed_on = written == Written::There && method != "GET" && path == "/bootparameters";
        let waits = is_passed_on || path == ACCEPT.1;
        Route {
            body_limit: body_limit(method, path, access),
            deadline_ms: waits.then_some(PASS_ON_MS),
            passes_token: is_passed_on,
            ..Route::new(method, &format!("{prefix}{path}"), access)
        }
    };
    let api = PREFIXES.iter().flat_map(|prefix| PATHS.map(|path| route(prefix, path)));
    let transfer = TRANSFER.map(|path| route("", path));
    let legacy = if legacy { LEGACY.as_slice() } else { &[] };
    let legacy = legacy.iter().map(|path| route("", *path));
    let accept = (written == Written::There).then(|| route("", ACCEPT));
    api.chain(transfer).chain(legacy).chain(accept).collect()
}

const IMPORT: &str = "/bootd/v1/import/bss";
