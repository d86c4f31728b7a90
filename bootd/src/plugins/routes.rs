//! Which plugin answers a path: pure. The longest prefix wins; two plugins never have the same one.

use std::sync::Arc;

use bootd_sdk::wire::Route;

use super::LoadError;

/// Routes a plugin.
const MOST: usize = 512;

/// What a request's method and path lead to.
#[derive(Debug, PartialEq, Eq)]
pub enum Routed {
    /// This plugin, by its place, and its route.
    To(usize, Arc<Route>),
    /// The path exists, with these methods only.
    OtherMethods(Vec<String>),
    /// No plugin has this path.
    Nowhere,
}

/// The routes of all plugins.
#[derive(Debug, Clone, Default)]
pub(super) struct Routes {
    routes: Vec<(usize, String, Arc<Route>)>,
}

impl Routes {
    /// Adds a plugin's routes, all or none.
    pub(super) fn add(&mut self, plugin: usize, name: &str, routes: &[Route]) -> Result<(), LoadError> {
        if let Some(route) = routes.get(MOST) {
            let name = format!("{} {}", route.method, route.prefix);
            return Err(LoadError::BadRoute(name, format!("a plugin has at most {MOST} routes")));
        }
        for route in routes {
            let bad = |text: &str| LoadError::BadRoute(format!("{} {}", route.method, route.prefix), text.into());
            if !matches!(route.method.as_str(), "GET" | "POST" | "PUT" | "PATCH" | "DELETE") {
                return Err(bad("the method is not one of GET, POST, PUT, PATCH, DELETE"));
            }
            if !route.prefix.starts_with('/') || route.prefix.len() > 256 {
                return Err(bad("the prefix does not begin with '/' or is longer than 256 bytes"));
            }
            let same =
                |other: &&(usize, String, Arc<Route>)| other.2.method == route.method && other.2.prefix == route.prefix;
            if let Some((_, owner, _)) = self.routes.iter().find(same) {
                return Err(bad(&format!("the plugin {owner} has it already")));
            }
        }
        self.routes.extend(
            routes
                .iter()
                .map(|route| (plugin, name.to_owned(), Arc::new(route.clone()))),
        );
        self.routes
            .sort_by_key(|(_, _, route)| std::cmp::Reverse(route.prefix.trim_end_matches('*').len()));
        Ok(())
    }

    /// Takes a plugin's routes out.
    pub(super) fn remove(&mut self, plugin: usize) {
        self.routes.retain(|(owner, _, _)| *owner != plugin);
    }

    pub(super) fn find(&self, method: &str, path: &str) -> Routed {
        let method = if method == "HEAD" { "GET" } else { method };
        let mut others = Vec::new();
        for (plugin, _, route) in self.routes.iter().filter(|(_, _, route)| covers(&route.prefix, path)) {
            if route.method == method {
                return Routed::To(*plugin, Arc::clone(route));
            }
            if !others.contains(&route.method) {
                others.push(route.method.clone());
            }
        }
        if others.is_empty() {
            Routed::Nowhere
        } else {
            Routed::OtherMethods(others)
        }
    }

    /// A plugin's routes, for humans.
    pub(super) fn of(&self, plugin: usize) -> Vec<String> {
        let mut routes: Vec<String> = self
            .routes
            .iter()
            .filter(|(owner, _, _)| *owner == plugin)
            .map(|(_, _, route)| format!("{} {}", route.method, route.prefix))
            .collect();
        routes.sort();
        routes
    }
}

fn covers(prefix: &str, path: &str) -> bool {
    match prefix.strip_suffix('*') {
        Some(text) => path.starts_with(text),
        None => {
            let prefix = prefix.trim_end_matches('/');
            path.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootd_sdk::wire::Access;

    fn plugin(routes: &Routes, method: &str, path: &str) -> Option<usize> {
        match routes.find(method, path) {
            Routed::To(plugin, _) => Some(plugin),
            _ => None,
        }
    }

    #[test]
    fn the_longest_prefix_wins_and_ends_at_a_segment() {
        let mut routes = Routes::default();
        let route = |method: &str, prefix: &str| Route::new(method, prefix, Access::Open);
        routes
            .add(
                0,
                "a",
                &[
                    route("GET", "/boot/v1"),
                    route("GET", "/cloud-init*"),
                    route("POST", "/boot/v1/hosts"),
                ],
            )
            .unwrap();
        routes
            .add(
                1,
                "b",
                &[route("GET", "/boot/v1/bootscript"), route("GET", "/cloud-init/admin")],
            )
            .unwrap();
        assert_eq!(plugin(&routes, "GET", "/boot/v1/bootscript"), Some(1));
        assert_eq!(plugin(&routes, "HEAD", "/boot/v1/bootscript/"), Some(1));
        assert_eq!(plugin(&routes, "GET", "/boot/v1/bootscripts"), Some(0));
        assert_eq!(plugin(&routes, "GET", "/boot/v10"), None);
        assert_eq!(plugin(&routes, "GET", "/cloud-initmeta-data"), Some(0));
        assert_eq!(plugin(&routes, "GET", "/cloud-init/admin/groups"), Some(1));
        assert_eq!(
            routes.find("DELETE", "/boot/v1/hosts"),
            Routed::OtherMethods(vec!["POST".into(), "GET".into()])
        );
        assert_eq!(routes.find("GET", "/"), Routed::Nowhere);
        let error = routes
            .add(2, "c", &[route("GET", "/new"), route("GET", "/boot/v1")])
            .unwrap_err();
        assert!(error.to_string().contains("the plugin a has it already"), "{error}");
        assert_eq!(plugin(&routes, "GET", "/new"), None);
    }
}
