//! Where DHCP is at present, for `bootd status`: the interfaces, and the families on each.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The interfaces that are served.
#[derive(Debug, Default)]
pub struct Served(Mutex<BTreeMap<String, Line>>);

/// What is served on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) v4: bool,
    pub(super) v6: bool,
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
                format!("DHCP on {name}: {families}")
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

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interface_is_told_with_its_families() {
        let served = Served::default();
        for (name, v4, v6) in [("b", true, true), ("a", false, true), ("c", true, false)] {
            served.begin(name, Line { v4, v6 });
        }
        served.end("c");
        assert_eq!(served.lines(), ["DHCP on a: IPv6", "DHCP on b: IPv4 and IPv6"]);
    }
}
