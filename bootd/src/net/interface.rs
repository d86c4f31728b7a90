//! What an interface is: its number, its hardware address, its addresses; and when any of that may have changed.
//!
//! Asks `getifaddrs`, not `/sys`, which shows the interfaces of whoever mounted it: in a network namespace those are other ones.
//! Contains unsafe code: the walk over the list that the C library returns.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use bootd_sdk::mac::Mac;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use super::NetError;

/// A network interface as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number in the system.
    pub index: u32,
    /// Whether it is up.
    pub up: bool,
    /// Its hardware address, when it is Ethernet.
    pub ethernet: Option<Mac>,
    /// Its IPv4 addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// The same with the lengths of their prefixes.
    pub networks: Vec<(Ipv4Addr, u8)>,
    /// Its IPv6 addresses with the lengths of their prefixes, those of the link among them; first those that are its own.
    pub networks6: Vec<(Ipv6Addr, u8)>,
    /// How many of these somebody set; the others are made from router advertisements, or are lent.
    pub own6: usize,
}

impl Interface {
    /// All interfaces, in the system's order.
    pub fn all() -> Result<Vec<Self>, NetError> {
        let mut all: Vec<Self> = Vec::new();
        for (name, fact) in facts().map_err(NetError::Interfaces)? {
            match (fact, all.iter_mut().find(|known| known.name == name)) {
                (Fact::Link { index, up, ethernet }, None) => all.push(Self {
                    name,
                    index,
                    up,
                    ethernet,
                    addresses: Vec::new(),
                    networks: Vec::new(),
                    networks6: Vec::new(),
                    own6: 0,
                }),
                (Fact::Address(IpAddr::V4(ip), prefix), Some(known)) => {
                    known.addresses.push(ip);
                    known.networks.push((ip, prefix));
                }
                (Fact::Address(IpAddr::V6(ip), prefix), Some(known)) => known.networks6.push((ip, prefix)),
                // The list has a link once, and before its addresses. Labels of addresses (`eth0:1`) are no interfaces.
                (Fact::Link { .. }, Some(_)) | (Fact::Address(..), None) => {}
            }
        }
        // Whoever may send a router advertisement gives this machine an address; none of these stands for it while it has one of its own.
        let own = permanent(&std::fs::read_to_string("/proc/self/net/if_inet6").unwrap_or_default());
        for interface in &mut all {
            interface.networks6.sort_by_key(|(ip, _)| !own.contains(ip));
            interface.own6 = interface.networks6.iter().filter(|(ip, _)| own.contains(ip)).count();
        }
        Ok(all)
    }

    /// Its addresses of both families.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let v4 = self.addresses.iter().copied().map(IpAddr::V4);
        v4.chain(self.networks6.iter().map(|(ip, _)| IpAddr::V6(*ip)))
    }

    /// The interface with this name.
    pub fn find(name: &str) -> Result<Self, NetError> {
        let mut all = Self::all()?;
        match all.iter().position(|interface| interface.name == name) {
            Some(at) => Ok(all.swap_remove(at)),
            None => Err(NetError::NoInterface {
                name: name.into(),
                present: all.into_iter().map(|interface| interface.name).collect(),
            }),
        }
    }
}

/// Hears of interfaces and addresses that come, change and go.
#[derive(Debug)]
pub struct Changes(OwnedFd);

impl Changes {
    /// From now on.
    pub fn listen() -> std::io::Result<Self> {
        // No protocol is number 0, which is rtnetlink.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        // The kernel chooses a number for the socket.
        bind(
            &socket,
            &SocketAddrNetlink::new(0, LINKS | IPV4_ADDRESSES | IPV6_ADDRESSES),
        )?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// Waits for a change, half a second at most. What it was is not said; whoever wants to know looks at all.
    pub fn wait(&self) -> std::io::Result<Changed> {
        let mut buffer = [0; 8192];
        match recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
            Ok(_) => Ok(Changed::Something),
            // So much changed at once that the kernel left some out.
            Err(Errno::NOBUFS) => Ok(Changed::Something),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Changed::Nothing),
            Err(error) => Err(error.into()),
        }
    }
}

/// What was heard of the interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// Some of them may be others now.
    Something,
    /// All are as they were.
    Nothing,
}

/// The groups of rtnetlink(7) with what matters here.
const LINKS: u32 = 1;
const IPV4_ADDRESSES: u32 = 0x10;
const IPV6_ADDRESSES: u32 = 0x100;
/// How long a wait lasts.
const PATIENCE: Duration = Duration::from_millis(500);

/// The addresses that somebody set, of a text as proc_net(5) has it: address, index, prefix, scope, flags, name.
fn permanent(if_inet6: &str) -> Vec<Ipv6Addr> {
    let lines = if_inet6.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = u128::from_str_radix(words.next()?, 16).ok()?;
        let flags = u32::from_str_radix(words.nth(3)?, 16).ok()?;
        (flags & libc::IFA_F_PERMANENT != 0).then_some(address.into())
    });
    lines.collect()
}

/// One entry of the list.
enum Fact {
    Link {
        index: u32,
        up: bool,
        ethernet: Option<Mac>,
    },
    Address(IpAddr, u8),
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
                let prefix = if entry.ifa_netmask.is_null() {
                    32
                } else {
                    // SAFETY: the mask of such an address is one, too.
                    let mask = unsafe { entry.ifa_netmask.cast::<libc::sockaddr_in>().read_unaligned() };
                    mask.sin_addr.s_addr.count_ones() as u8
                };
                let ip = Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr));
                Fact::Address(ip.into(), prefix)
            }
            libc::AF_INET6 => {
                // SAFETY: an address of this family is a `sockaddr_in6`; it is copied, so alignment does not matter.
                let address = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
                let prefix = if entry.ifa_netmask.is_null() {
                    128
                } else {
                    // SAFETY: the mask of such an address is one, too.
                    let mask = unsafe { entry.ifa_netmask.cast::<libc::sockaddr_in6>().read_unaligned() };
                    u128::from_be_bytes(mask.sin6_addr.s6_addr).count_ones() as u8
                };
                Fact::Address(IpAddr::V6(address.sin6_addr.s6_addr.into()), prefix)
            }
            libc::AF_PACKET => {
                // SAFETY: an address of this family is a `sockaddr_ll`; it is copied, so alignment does not matter.
                let link = unsafe { entry.ifa_addr.cast::<libc::sockaddr_ll>().read_unaligned() };
                let [a, b, c, d, e, f, ..] = link.sll_addr;
                let ethernet = link.sll_hatype == libc::ARPHRD_ETHER && link.sll_halen == 6;
                Fact::Link {
                    index: u32::try_from(link.sll_ifindex).unwrap_or_default(),
                    up: entry.ifa_flags & libc::IFF_UP as u32 != 0,
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
    fn addresses_that_somebody_set_are_told_from_those_of_advertisements() {
        let text = "fd00000000000000000000000000000e 02 40 00 80     eth0\n\
                    20010db80bad000000000000000000ff 02 40 00 00     eth0\nnonsense\n";
        assert_eq!(permanent(text), ["fd00::e".parse::<Ipv6Addr>().unwrap()]);
    }

    #[test]
    fn loopback_has_a_number_and_is_not_ethernet() {
        let loopback = Interface::find("lo").unwrap();
        assert!(loopback.index > 0);
        assert_eq!(loopback.ethernet, None);
        if loopback.up {
            assert!(loopback.networks.contains(&(Ipv4Addr::LOCALHOST, 8)));
            let v6 = loopback.networks6.is_empty() || loopback.networks6.contains(&(Ipv6Addr::LOCALHOST, 128));
            assert!(v6, "{:?}", loopback.networks6);
        }
    }

    #[test]
    fn changes_can_be_waited_for() {
        let changes = Changes::listen().unwrap();
        assert!(changes.wait().is_ok());
    }

    #[test]
    fn a_missing_interface_is_told_with_those_that_are_there() {
        let error = Interface::find("nope0").unwrap_err().to_string();
        assert!(error.contains("'nope0'") && error.contains("lo"), "{error}");
    }
}
