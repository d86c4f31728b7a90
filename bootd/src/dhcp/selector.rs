//! Which interfaces a word of `server.interfaces` means.

use std::fmt;
use std::net::Ipv4Addr;

/// A name, a pattern of names with `*`, or the address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selector {
    /// The interface with this name.
    Name(String),
    /// All whose names fit.
    Pattern(String),
    /// The interface that has this address.
    Address(Ipv4Addr),
}

impl Selector {
    /// What a word means.
    pub(super) fn of(word: &str) -> Self {
        match word.parse() {
            Ok(ip) => Self::Address(ip),
            Err(_) if word.contains('*') => Self::Pattern(word.into()),
            Err(_) => Self::Name(word.into()),
        }
    }

    /// Whether it means an interface with this name and these addresses.
    pub(super) fn means(&self, name: &str, addresses: &[Ipv4Addr]) -> bool {
        match self {
            Self::Name(wanted) => wanted == name,
            Self::Pattern(pattern) => fits(pattern.as_bytes(), name.as_bytes()),
            Self::Address(ip) => addresses.contains(ip),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) | Self::Pattern(text) => f.write_str(text),
            Self::Address(ip) => ip.fmt(f),
        }
    }
}

fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*', rest @ ..] => (0..=name.len()).any(|at| fits(rest, &name[at..])),
        [first, rest @ ..] => name
            .split_first()
            .is_some_and(|(of, name)| of == first && fits(rest, name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_patterns_and_addresses_mean_interfaces() {
        let address = Ipv4Addr::new(172, 16, 0, 254);
        let means = |word: &str, name: &str| Selector::of(word).means(name, &[address]);
        assert!(means("eth1", "eth1") && !means("eth1", "eth10"));
        assert!(means("vlan*", "vlan7") && means("vlan*", "vlan") && !means("vlan*", "lo"));
        assert!(means("*", "lo") && means("e*h*1", "eth1"));
        assert!(means("172.16.0.254", "any") && !means("172.16.0.1", "any"));
    }
}
