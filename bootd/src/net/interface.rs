//! What an interface is: its number, its hardware address, its IPv4 addresses.
//!
//! Asks `getifaddrs`, not `/sys`, which shows the interfaces of whoever mounted it: in a network namespace those are other ones.
//! Contains unsafe code: the walk over the list that the C library returns.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::net::Ipv4Addr;

use bootd_sdk::mac::Mac;

use super::NetError;

/// A network interface as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number in the system.
    pub index: u32,
    /// Its hardware address, when it is Ethernet.
    pub ethernet: Option<Mac>,
    /// Its IPv4 addresses.
    pub addresses: Vec<Ipv4Addr>,
}

impl Interface {
    /// The interface with this name.
    pub fn find(name: &str) -> Result<Self, NetError> {
        let facts = facts().map_err(NetError::Interfaces)?;
        let mut found = None;
        let mut addresses = Vec::new();
        for (of, fact) in facts.iter().filter(|(of, _)| of == name) {
            match *fact {
                Fact::Link { index, ethernet } => found = Some((of.clone(), index, ethernet)),
                Fact::Address(ip) => addresses.push(ip),
            }
        }
        match found {
            Some((name, index, ethernet)) => Ok(Self {
                name,
                index,
                ethernet,
                addresses,
            }),
            None => Err(NetError::NoInterface {
                name: name.into(),
                present: facts
                    .into_iter()
                    .map(|(name, _)| name)
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect(),
            }),
        }
    }
}

/// One entry of the list.
enum Fact {
    Link { index: u32, ethernet: Option<Mac> },
    Address(Ipv4Addr),
}

fn facts() -> std::io::Result<Vec<(String, Fact)>> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `list` is a valid place for the head of the list, which is freed below and not used after.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    let mut facts = Vec::new();
    let mut at = list;
    while !at.is_null() {
        // SAFETY: `at` is an entry of the list, which lives until `freeifaddrs`.
        let entry = unsafe { &*at };
        at = entry.ifa_next;
        if entry.ifa_addr.is_null() || entry.ifa_name.is_null() {
            continue;
        }
        // SAFETY: names in the list are C strings that live as long as it.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) };
        // SAFETY: `ifa_addr` is not null and begins with the family, whatever its type is.
        let family = i32::from(unsafe { (*entry.ifa_addr).sa_family });
        let fact = match family {
            libc::AF_INET => {
                // SAFETY: an address of this family is a `sockaddr_in`; it is copied, so alignment does not matter.
                let address = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned() };
                Fact::Address(Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr)))
            }
            libc::AF_PACKET => {
                // SAFETY: an address of this family is a `sockaddr_ll`; it is copied, so alignment does not matter.
                let link = unsafe { entry.ifa_addr.cast::<libc::sockaddr_ll>().read_unaligned() };
                let [a, b, c, d, e, f, ..] = link.sll_addr;
                let ethernet = link.sll_hatype == libc::ARPHRD_ETHER && link.sll_halen == 6;
                Fact::Link {
                    index: u32::try_from(link.sll_ifindex).unwrap_or_default(),
                    ethernet: ethernet.then_some(Mac([a, b, c, d, e, f])),
                }
            }
            _ => continue,
        };
        facts.push((name.to_string_lossy().into_owned(), fact));
    }
    // SAFETY: `list` came from `getifaddrs`; nothing borrows from it any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_a_number_and_is_not_ethernet() {
        let loopback = Interface::find("lo").unwrap();
        assert!(loopback.index > 0);
        assert_eq!(loopback.ethernet, None);
    }

    #[test]
    fn a_missing_interface_is_told_with_those_that_are_there() {
        let error = Interface::find("nope0").unwrap_err().to_string();
        assert!(error.contains("'nope0'") && error.contains("lo"), "{error}");
    }
}
