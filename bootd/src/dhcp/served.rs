//! Where DHCP is at present, for `bootd status`: the interfaces, the families on each, and another router where there is one.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::{Mutex, PoisonError};

/// The interfaces that are served.
#[derive(Debug, Default)]
pub struct Served(Mutex<BTreeMap<String, Line>>);

/// What is served on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) v4: bool,
    pub(super) v6: bool,
    /// Router solicitations are answered.
    pub(super) solicitations: bool,
    /// But another router does that.
    pub(super) router: Option<Ipv6Addr>,
}

impl Served {
    /// All of them, in words.
    pub fn lines(&self) -> Vec<String> {
        let all = self.all();
        all.iter()
            .map(|(name, line)| {
                let families = match (line.v4, line.v6) {
                    (true, true) => "IPv4 and IPv6",
                    (false, true) => "IPv6",
                    _ => "IPv4",
                };
                let routers = match (line.solicitations, line.router) {
                    (false, _) => String::new(),
                    (true, None) => ", router solicitations answered".into(),
                    (true, Some(ip)) => format!(", router solicitations left to {ip}, which advertises"),
                };
                format!("DHCP on {name}: {families}{routers}")
            })
            .collect()
    }

    /// An interface is served from now on.
    pub(super) fn begin(&self, name: &str, line: Line) {
        self.all().insert(name.to_owned(), line);
    }

    /// It is not any more.
    pub(super) fn end(&self, name: &str) {
        self.all().remove(name);
    }

    /// Another router of an interface's link speaks, or none does.
    pub(super) fn router(&self, name: &str, router: Option<Ipv6Addr>) {
        let mut all = self.all();
        let Some(line) = all.get_mut(name).filter(|line| line.router != router) else {
            return;
        };
        line.router = router;
        match router {
            Some(router) => tracing::info!(
                interface = name,
                %router,
                "another router advertises: solicitations are left to it"
            ),
            None => tracing::info!(interface = name, "no other router advertises any more"),
        }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interface_is_told_with_its_families_and_the_router_that_speaks_there() {
        let served = Served::default();
        let line = |v4, v6, solicitations| Line {
            v4,
            v6,
            solicitations,
            router: None,
        };
        served.begin("b", line(true, true, true));
        served.begin("a", line(false, true, false));
        served.begin("c", line(true, false, true));
        served.router("b", Some("fe80::1".parse().unwrap()));
        served.router("gone", Some("fe80::1".parse().unwrap()));
        served.end("c");
        assert_eq!(
            served.lines(),
            [
                "DHCP on a: IPv6",
                "DHCP on b: IPv4 and IPv6, router solicitations left to fe80::1, which advertises",
            ]
        );
    }
}
