//! What is described is what is served.

use super::api::send;
use super::*;

/// In local mode, and in front of a site that is away.
fn both() -> [Instance; 2] {
    let (_, local) = start(json!({"network_config": {}}));
    let host = FakeHost::new();
    let config = json!({"url": "http://site:1", "network_config": {}, "instance": "impersonate"});
    [local, host.start_in::<CloudInit>("upstream", config).unwrap()]
}

#[test]
fn the_description_and_the_routes_name_the_same() {
    both().iter().for_each(names_the_same);
}

fn names_the_same(plugin: &Instance) {
    let answer = send(plugin, "GET", "/cloud-init/openapi.json", "");
    let description: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((answer.status, &description["openapi"]), (200, &json!("3.0.3")));
    let covers = |route: &Route, path: &str| match route.prefix.strip_suffix('*') {
        Some(text) => path.starts_with(text),
        None => path
            .strip_prefix(&route.prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
    };
    let mut used = vec![false; plugin.setup.routes.len()];
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method = method.to_uppercase();
            let routes = plugin.setup.routes.iter().enumerate();
            let route = routes
                .filter(|(_, route)| route.method == method && covers(route, path))
                .max_by_key(|(_, route)| route.prefix.trim_end_matches('*').len());
            let (at, route) = route.unwrap_or_else(|| panic!("no route for {method} {path}"));
            used[at] = true;
            let access = match operation["security"] == json!([{"token": []}]) {
                true => Access::Token,
                false if operation["responses"]["403"].is_object() => Access::Node,
                false => Access::Open,
            };
            assert_eq!(route.access, access, "{method} {path}");
        }
    }
    for (route, used) in plugin.setup.routes.iter().zip(used) {
        assert!(used, "{} {} is not described", route.method, route.prefix);
    }
}

#[test]
fn each_route_answers_with_a_status_that_is_described() {
    both().iter().for_each(answers_as_described);
}

fn answers_as_described(plugin: &Instance) {
    let description: Value = serde_json::from_str(crate::schema::OPENAPI).unwrap();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let path = path.replace("{id}", "x1000c0s0b0n0").replace("{group}", "compute");
            let request = Request {
                method: method.to_uppercase(),
                path: path.clone(),
                node: Some(compute1()),
                ..Request::default()
            };
            let status = plugin.handle(&request).unwrap().status;
            assert!(
                operation["responses"][status.to_string()].is_object(),
                "{method} {path} answers {status}"
            );
        }
    }
}

#[test]
fn each_reference_of_the_description_leads_somewhere() {
    let description: Value = serde_json::from_str(crate::schema::OPENAPI).unwrap();
    let parts = crate::schema::OPENAPI.split("\"$ref\": \"#").skip(1);
    let references: Vec<&str> = parts.filter_map(|rest| rest.split('"').next()).collect();
    assert!(references.len() > 10);
    for reference in references {
        assert!(description.pointer(reference).is_some(), "{reference}");
    }
}
