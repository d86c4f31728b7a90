//! What the plugin serves: each path once, and who may call it.

use bootd_sdk::prelude::*;

/// Paths below [`PREFIXES`].
pub(crate) const PATHS: [(&str, &str, Access); 17] = [
    ("GET", "", Access::Token),
    ("GET", "/bootparameters", Access::Token),
    ("POST", "/bootparameters", Access::Token),
    ("PUT", "/bootparameters", Access::Token),
    ("PATCH", "/bootparameters", Access::Token),
    ("DELETE", "/bootparameters", Access::Token),
    ("GET", "/bootscript", Access::Open),
    ("GET", "/hosts", Access::Open),
    ("POST", "/hosts", Access::Node),
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
    ("POST", "/bootd/v1/import/bss", Access::Token),
];

/// What is served at the root when the configuration says so.
pub(crate) const LEGACY: [(&str, &str, Access); 3] = [
    ("GET", "/meta-data", Access::Open),
    ("GET", "/user-data", Access::Open),
    ("POST", "/phone-home", Access::Node),
];

/// Bytes of a request with boot parameters: a list of all nodes' MACs is far below.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of a request with all of them.
const MOST_BYTES_IMPORT: usize = 16 * 1024 * 1024;

/// The routes. `legacy`: with those at the root.
pub(crate) fn all(legacy: bool) -> Vec<Route> {
    let mut routes = Vec::new();
    for prefix in PREFIXES {
        for (method, path, access) in PATHS {
            let mut route = Route::new(method, &format!("{prefix}{path}"), access);
            route.body_limit = MOST_BYTES;
            routes.push(route);
        }
    }
    for (method, path, access) in TRANSFER {
        let mut route = Route::new(method, path, access);
        route.body_limit = MOST_BYTES_IMPORT;
        routes.push(route);
    }
    if legacy {
        let legacy = LEGACY.iter();
        routes.extend(legacy.map(|(method, path, access)| Route::new(method, path, *access)));
    }
    routes
}
