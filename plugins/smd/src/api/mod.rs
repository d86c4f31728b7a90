//! SMD's API below `/hsm/v2` (contract 2): which path and method leads to what.
//!
//! One table says it all; the routes that the host gets, the `Allow` of a 405 and the OpenAPI document are checked against it. Handlers read
//! the tables or draft a change; nothing here stores. Answers are sorted; a list is never `null`.

mod answers;
mod component_endpoints;
mod components;
mod components_patch;
mod components_query;
mod endpoints;
mod exchange;
mod filter;
mod groups;
mod interfaces;
mod members;
mod memberships;
mod out;
mod service_paths;

use bootd_sdk::prelude::*;
use bootd_sdk::{etag, upstream};

use crate::draft::Draft;
use crate::rows::Family;
use crate::service::Service;
use crate::site::{self, Mirrored};

pub(crate) use groups::is_label;
#[cfg(test)]
pub(crate) use service_paths::OPENAPI;

/// A request on its way to its handler.
pub(crate) struct Call<'a> {
    pub(crate) service: &'a Service,
    pub(crate) request: &'a Request,
    /// What stands in the place of the path's parameters.
    params: Vec<&'a str>,
}

type Handler = fn(&Call<'_>) -> Answer;

/// A path, and what its methods do. A segment in braces is a parameter.
pub(crate) struct Place {
    pub(crate) path: &'static str,
    pub(crate) methods: &'static [(&'static str, Handler)],
}

const fn place(path: &'static str, methods: &'static [(&'static str, Handler)]) -> Place {
    Place { path, methods }
}

/// Every path. Of two that fit, the first counts.
pub(crate) static PLACES: &[Place] = &[
    place("/hsm/v2/service/ready", &[("GET", service_paths::ready)]),
    place("/hsm/v2/service/liveness", &[("GET", service_paths::liveness)]),
    place("/hsm/v2/service/values", &[("GET", service_paths::values)]),
    place("/hsm/v2/service/values/{list}", &[("GET", service_paths::value_list)]),
    place("/hsm/v2/openapi.json", &[("GET", service_paths::openapi)]),
    place(
        "/hsm/v2/State/Components",
        &[
            ("GET", components::list),
            ("POST", components::post),
            ("DELETE", components::delete_all),
        ],
    ),
    place("/hsm/v2/State/Components/Query", &[("POST", components_query::query)]),
    place(
        "/hsm/v2/State/Components/Query/{xname}",
        &[("GET", components_query::below)],
    ),
    place(
        "/hsm/v2/State/Components/ByNID/Query",
        &[("POST", components_query::nids)],
    ),
    place("/hsm/v2/State/Components/ByNID/{nid}", &[("GET", components::by_nid)]),
    place(
        "/hsm/v2/State/Components/BulkStateData",
        &[("PATCH", components_patch::bulk)],
    ),
    place(
        "/hsm/v2/State/Components/BulkFlagOnly",
        &[("PATCH", components_patch::bulk)],
    ),
    place(
        "/hsm/v2/State/Components/BulkEnabled",
        &[("PATCH", components_patch::bulk)],
    ),
    place(
        "/hsm/v2/State/Components/BulkSoftwareStatus",
        &[("PATCH", components_patch::bulk)],
    ),
    place(
        "/hsm/v2/State/Components/BulkRole",
        &[("PATCH", components_patch::bulk)],
    ),
    place(
        "/hsm/v2/State/Components/BulkNID",
        &[("PATCH", components_patch::bulk_nid)],
    ),
    place(
        "/hsm/v2/State/Components/{xname}",
        &[
            ("GET", components::get),
            ("PUT", components::put),
            ("DELETE", components::delete),
        ],
    ),
    place(
        "/hsm/v2/State/Components/{xname}/StateData",
        &[("PATCH", components_patch::one)],
    ),
    place(
        "/hsm/v2/State/Components/{xname}/FlagOnly",
        &[("PATCH", components_patch::one)],
    ),
    place(
        "/hsm/v2/State/Components/{xname}/Enabled",
        &[("PATCH", components_patch::one)],
    ),
    place(
        "/hsm/v2/State/Components/{xname}/SoftwareStatus",
        &[("PATCH", components_patch::one)],
    ),
    place(
        "/hsm/v2/State/Components/{xname}/Role",
        &[("PATCH", components_patch::one)],
    ),
    place(
        "/hsm/v2/State/Components/{xname}/NID",
        &[("PATCH", components_patch::one)],
    ),
    place(
        "/hsm/v2/Inventory/RedfishEndpoints",
        &[
            ("GET", endpoints::list),
            ("POST", endpoints::post),
            ("DELETE", endpoints::delete_all),
        ],
    ),
    place(
        "/hsm/v2/Inventory/RedfishEndpoints/Query/{xname}",
        &[("GET", endpoints::query)],
    ),
    place(
        "/hsm/v2/Inventory/RedfishEndpoints/{xname}",
        &[
            ("GET", endpoints::get),
            ("PUT", endpoints::put),
            ("PATCH", endpoints::patch),
            ("DELETE", endpoints::delete),
        ],
    ),
    place(
        "/hsm/v2/Inventory/ComponentEndpoints",
        &[
            ("GET", component_endpoints::list),
            ("DELETE", component_endpoints::delete_all),
        ],
    ),
    place(
        "/hsm/v2/Inventory/ComponentEndpoints/{xname}",
        &[
            ("GET", component_endpoints::get),
            ("DELETE", component_endpoints::delete),
        ],
    ),
    place(
        "/hsm/v2/Inventory/EthernetInterfaces",
        &[
            ("GET", interfaces::list),
            ("POST", interfaces::post),
            ("DELETE", interfaces::delete_all),
        ],
    ),
    place(
        "/hsm/v2/Inventory/EthernetInterfaces/{id}",
        &[
            ("GET", interfaces::get),
            ("PATCH", interfaces::patch),
            ("DELETE", interfaces::delete),
        ],
    ),
    place(
        "/hsm/v2/Inventory/EthernetInterfaces/{id}/IPAddresses",
        &[("GET", interfaces::addresses), ("POST", interfaces::post_address)],
    ),
    place(
        "/hsm/v2/Inventory/EthernetInterfaces/{id}/IPAddresses/{ip}",
        &[
            ("PATCH", interfaces::patch_address),
            ("DELETE", interfaces::delete_address),
        ],
    ),
    place("/hsm/v2/groups", &[("GET", groups::list), ("POST", groups::post)]),
    place("/hsm/v2/groups/labels", &[("GET", groups::labels)]),
    place(
        "/hsm/v2/groups/{label}",
        &[
            ("GET", groups::get),
            ("PATCH", groups::patch),
            ("DELETE", groups::delete),
        ],
    ),
    place(
        "/hsm/v2/groups/{label}/members",
        &[("GET", members::get), ("POST", members::post), ("PUT", members::put)],
    ),
    place("/hsm/v2/groups/{label}/members/{xname}", &[("DELETE", members::delete)]),
    place("/hsm/v2/partitions", &[("GET", groups::list), ("POST", groups::post)]),
    place("/hsm/v2/partitions/names", &[("GET", groups::labels)]),
    place(
        "/hsm/v2/partitions/{name}",
        &[
            ("GET", groups::get),
            ("PATCH", groups::patch),
            ("DELETE", groups::delete),
        ],
    ),
    place(
        "/hsm/v2/partitions/{name}/members",
        &[("GET", members::get), ("POST", members::post), ("PUT", members::put)],
    ),
    place(
        "/hsm/v2/partitions/{name}/members/{xname}",
        &[("DELETE", members::delete)],
    ),
    place("/hsm/v2/memberships", &[("GET", memberships::list)]),
    place("/hsm/v2/memberships/{xname}", &[("GET", memberships::get)]),
    place("/bootd/v1/export/smd", &[("GET", exchange::export)]),
    place(IMPORT, &[("POST", exchange::import)]),
];

/// What the plugin serves. The lists that who boots reads are open, as in SMD; one row of them is not. `is_mirror`: writes go to the site, and
/// reads of what is not mirrored.
pub(crate) fn routes(is_mirror: bool) -> Vec<Route> {
    let mut routes = vec![
        Route::new("GET", "/hsm/v2", Access::Token),
        Route::new("GET", "/hsm/v2/service", Access::Open),
        Route::new("GET", "/hsm/v2/openapi.json", Access::Open),
        Route::new("GET", "/hsm/v2/State/Components", Access::Open),
        Route::new("GET", "/hsm/v2/State/Components/ByNID", Access::Token),
        Route::new("GET", "/hsm/v2/State/Components/Query", Access::Token),
        Route::new("GET", "/hsm/v2/Inventory/EthernetInterfaces", Access::Open),
        Route::new("GET", "/bootd/v1/export/smd", Access::Token),
        Route::new("POST", IMPORT, Access::Token),
    ];
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        routes.push(Route::new(method, "/hsm/v2", Access::Token));
    }
    for (list, firsts) in [
        ("State/Components", COMPONENT_FIRSTS),
        ("Inventory/EthernetInterfaces", INTERFACE_FIRSTS),
    ] {
        let prefixes = firsts.chars().map(|first| format!("/hsm/v2/{list}/{first}*"));
        routes.extend(prefixes.map(|prefix| Route::new("GET", &prefix, Access::Token)));
    }
    if is_mirror {
        routes.push(Route::new("GET", REDFISH, Access::Token));
        // Reads that are posted.
        for path in ["/hsm/v2/State/Components/Query", "/hsm/v2/State/Components/ByNID"] {
            routes.push(Route::new("POST", path, Access::Token));
        }
        routes.push(Route::new("POST", ACCEPT, Access::Token));
        for route in &mut routes {
            let is_here = (route.method == "GET" && route.prefix != REDFISH) || route.prefix.contains("Components/");
            if !is_here && route.prefix != IMPORT {
                route.deadline_ms = Some(upstream::PASS_ON_MS);
                route.passes_token = route.prefix != ACCEPT;
            }
        }
    }
    for route in &mut routes {
        route.body_limit = if route.prefix == IMPORT { MOST_IMPORT } else { MOST_BODY };
    }
    routes
}

/// Answers a request.
pub(crate) fn answer(service: &Service, request: &Request) -> Answer {
    let path = request.path.trim_end_matches('/');
    if let Some(site) = &service.site
        && (request.method.as_str(), path) == ("POST", ACCEPT)
    {
        let answer = site.accept(&Mirrored(service));
        service.tend();
        return answer;
    }
    let Some((place, params)) = PLACES.iter().find_map(|place| Some((place, fits(place.path, path)?))) else {
        return Answer::text(404, "404 page not found\n");
    };
    let Some((_, handler)) = place.methods.iter().find(|(method, _)| *method == request.method) else {
        let methods: Vec<&str> = place.methods.iter().map(|(method, _)| *method).collect();
        let mut answer = problem(405, &format!("allow {}", methods.join(",")));
        answer.headers.push(("allow".into(), methods.join(", ")));
        return answer;
    };
    let handled = || {
        handler(&Call {
            service,
            request,
            params,
        })
    };
    let Some(site) = &service.site else {
        return match request.method.as_str() {
            "GET" => etag::answer(request, &service.tag(request), handled),
            _ => handled(),
        };
    };
    match request.method.as_str() {
        _ if path == IMPORT => {
            let detail = format!(
                "this box mirrors {}: write there, or through this API, not by an import",
                site.url()
            );
            problem(409, &detail)
        }
        "GET" if !path.starts_with(REDFISH) => site.mark(etag::answer(request, &service.tag(request), handled)),
        "POST" if place.path.contains("/Query") => site.mark(handled()),
        _ => {
            let below = path.strip_prefix("/hsm/v2").unwrap_or(path);
            site::pass_on(service, site, request, below)
        }
    }
}

impl<'a> Call<'a> {
    /// A parameter of the path.
    fn param(&self, at: usize) -> &'a str {
        self.params.get(at).copied().unwrap_or_default()
    }

    /// The last literal segment, by which handlers of several paths tell them apart.
    fn last_segment(&self) -> &'a str {
        self.request
            .path
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or_default()
    }
}

/// The parameters of a path that fits a template.
fn fits<'p>(template: &str, path: &'p str) -> Option<Vec<&'p str>> {
    let mut params = Vec::new();
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(params),
            (Some(segment), Some(text)) if segment.starts_with('{') && !text.is_empty() => params.push(text),
            (Some(segment), Some(text)) if segment == text => {}
            _ => return None,
        }
    }
}

/// Makes a component a member, if the rules let it; the error says why not.
pub(crate) fn enter(draft: &mut Draft<'_>, family: Family, label: &str, id: &str) -> Result<(), String> {
    groups::enter(draft, family, label, id).map_err(|answer| answer.body)
}

/// A refusal with its reason (contract 1.4).
pub(crate) fn problem(status: u16, detail: &str) -> Answer {
    let title = match status {
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        _ => "Internal Server Error",
    };
    Answer::problem(status, title, detail)
}

/// A body as a struct whose keys come in any case.
pub(crate) fn body<T: serde::de::DeserializeOwned>(call: &Call<'_>) -> Result<T, Answer> {
    let text = call.request.body.trim_start();
    if text.starts_with('[') {
        return Err(problem(400, "error decoding JSON: an object is expected"));
    }
    bootd_sdk::json::parse(text).map_err(|error| problem(400, &format!("error decoding JSON {error}")))
}

/// An xname of any type, canonical.
pub(crate) fn xname_of(text: &str) -> Option<String> {
    let id = bootd_sdk::xname::normalise(text);
    bootd_sdk::xname::component_type(&id).map(|_| id)
}

/// What a row's text may be: no control characters, and not of any length.
pub(crate) fn is_clean(text: &str) -> bool {
    text.len() <= LONGEST_TEXT && !text.chars().any(char::is_control)
}

/// Bytes that a body may have: a list of 50,000 components fits.
const MOST_BODY: usize = 8 * 1024 * 1024;
const IMPORT: &str = "/bootd/v1/import/smd";
const ACCEPT: &str = "/bootd/v1/accept/smd";
/// What is not mirrored.
const REDFISH: &str = "/hsm/v2/Inventory/RedfishEndpoints";
/// Bytes that an import may have: as many as an export can have.
const MOST_IMPORT: usize = 64 * 1024 * 1024;
/// Bytes of one text of a row.
const LONGEST_TEXT: usize = 4096;
/// How ids of components begin.
const COMPONENT_FIRSTS: &str = "xXdDsSpPaA";
/// How ids of interfaces begin.
const INTERFACE_FIRSTS: &str = "0123456789abcdefABCDEF";
