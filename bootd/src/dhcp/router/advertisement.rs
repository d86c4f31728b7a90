//! A router advertisement as bytes (RFC 4861 section 4.2, RFC 8106), and what another router's says.

use std::time::Duration;

use crate::config::RouterAdvertisement;

/// How hosts are to get addresses, besides from prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dhcp6 {
    /// There is no DHCPv6 here.
    #[default]
    None,
    /// It gives addresses and everything else (flags M and O).
    Managed,
}

/// The message that says what the configuration says. It names no hardware address, so that two servers with one configuration say the same.
/// The checksum is the kernel's.
pub fn encode(says: &RouterAdvertisement, dhcp6: Dhcp6) -> Vec<u8> {
    let flags = match dhcp6 {
        Dhcp6::None => 0,
        Dhcp6::Managed => MANAGED | OTHER,
    };
    // The current hop limit is left to the host, as are the times of neighbour discovery.
    let mut message = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, 0, flags];
    let lifetime = u16::try_from(says.lifetime.as_secs()).unwrap_or(u16::MAX);
    message.extend(lifetime.to_be_bytes());
    message.extend([0; 8]);
    for (prefix, length) in &says.prefixes {
        message.extend([PREFIX, 4, *length, ON_LINK | AUTONOMOUS]);
        message.extend(seconds(VALID).to_be_bytes());
        message.extend(seconds(PREFERRED).to_be_bytes());
        message.extend([0; 4]);
        message.extend(prefix.octets());
    }
    if !says.rdnss.is_empty() {
        // In units of 8 bytes; `check` lets through as many as fit.
        let units = u8::try_from(1 + 2 * says.rdnss.len()).unwrap_or(u8::MAX);
        message.extend([RDNSS, units, 0, 0]);
        message.extend(seconds(DNS_LIFETIME).to_be_bytes());
        says.rdnss.iter().for_each(|server| message.extend(server.octets()));
    }
    message
}

/// The same of a router that goes: nobody is to send to it any more (RFC 4861 section 6.2.5).
pub fn last(message: &[u8]) -> Vec<u8> {
    let mut last = message.to_vec();
    if let Some(lifetime) = last.get_mut(LIFETIME) {
        lifetime.fill(0);
    }
    last
}

/// For how long another router's advertisement counts; zero: it promises nothing. `Err`: it is none, or not as RFC 4861 section 6.1.2 demands.
pub fn promise(message: &[u8]) -> Result<Duration, Malformed> {
    let lifetime = match message.get(LIFETIME) {
        Some(&[high, low]) if message.len() >= HEAD && message.get(1) == Some(&0) => u16::from_be_bytes([high, low]),
        _ => return Err(Malformed),
    };
    let mut promised = Duration::from_secs(lifetime.into());
    for option in options(message.get(HEAD..).unwrap_or_default()) {
        if let &[PREFIX, _, _, _, a, b, c, d, ..] = option? {
            let valid = Duration::from_secs(u32::from_be_bytes([a, b, c, d]).into());
            promised = promised.max(valid.min(PREFIX_COUNTS));
        }
    }
    Ok(promised.min(LONGEST))
}

/// The options of a message, each with its type and length. They are 8-byte units with a length of at least one (RFC 4861 section 4.6).
pub(super) fn options(mut rest: &[u8]) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let units = rest.get(1).copied().unwrap_or_default();
        match rest.split_at_checked(usize::from(units) * 8) {
            Some((option, after)) if units > 0 => {
                rest = after;
                Some(Ok(option))
            }
            _ => {
                rest = &[];
                Some(Err(Malformed))
            }
        }
    })
}

/// A message that is cut off, or whose options are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Between two advertisements to everybody that nobody asked for.
pub const INTERVAL: Duration = Duration::from_secs(200);
/// How long an address of a prefix may be used after the last advertisement.
const VALID: Duration = Duration::from_secs(7200);
/// How long it is used for what is new.
const PREFERRED: Duration = Duration::from_secs(3600);
/// How long a router counts that is no default router, and has prefixes: three of the longest intervals between advertisements.
const PREFIX_COUNTS: Duration = Duration::from_secs(5400);
/// No router says that it stays for longer (RFC 4861 section 6.2.1).
const LONGEST: Duration = Duration::from_secs(9000);
/// How long name servers are asked; three intervals at least (RFC 8106 section 5.1).
const DNS_LIFETIME: Duration = Duration::from_secs(1800);

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// The message type of an advertisement.
pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
const HEAD: usize = 16;
const LIFETIME: std::ops::Range<usize> = 6..8;
const MANAGED: u8 = 0x80;
const OTHER: u8 = 0x40;
const PREFIX: u8 = 3;
const ON_LINK: u8 = 0x80;
const AUTONOMOUS: u8 = 0x40;
const RDNSS: u8 = 25;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_promises_nothing_is_sixteen_bytes_of_nearly_nothing() {
        let message = encode(&RouterAdvertisement::default(), Dhcp6::None);
        assert_eq!(message, [134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(promise(&message), Ok(Duration::ZERO));
        let managed = encode(&RouterAdvertisement::default(), Dhcp6::Managed);
        assert_eq!(managed[5], 0xc0);
    }

    #[test]
    fn prefixes_name_servers_and_a_lifetime_are_said_when_they_are_configured() {
        let says = RouterAdvertisement {
            prefixes: vec![("fd00:1::".parse().unwrap(), 64)],
            rdnss: vec!["fd00:1::fe".parse().unwrap(), "fd00:1::fd".parse().unwrap()],
            lifetime: Duration::from_secs(1800),
            beside_routers: false,
        };
        let message = encode(&says, Dhcp6::None);
        assert_eq!(message.len(), 16 + 32 + 40);
        assert_eq!(message[6..8], 1800_u16.to_be_bytes());
        assert_eq!(message[16..20], [3, 4, 64, 0xc0]);
        assert_eq!(message[32..34], [0xfd, 0]);
        assert_eq!(message[48..52], [25, 5, 0, 0]);
        assert_eq!(options(&message[16..]).count(), 2);
        assert_eq!(promise(&message), Ok(PREFIX_COUNTS));
        // A router that is none any more still has its prefix.
        assert_eq!(last(&message)[6..8], [0, 0]);
        assert_eq!(promise(&last(&message)), Ok(PREFIX_COUNTS));
    }

    #[test]
    fn another_router_counts_as_long_as_routers_may_and_a_prefix_as_long_as_it_is_valid() {
        let mut message = encode(&RouterAdvertisement::default(), Dhcp6::None);
        message[6..8].copy_from_slice(&[0xff; 2]);
        assert_eq!(promise(&message), Ok(LONGEST));
        message[1] = 1;
        assert_eq!(promise(&message), Err(Malformed));
        let mut message = encode(&RouterAdvertisement::default(), Dhcp6::None);
        message.extend([PREFIX, 4, 64, 0xc0]);
        message.extend([0; 28]);
        assert_eq!(promise(&message), Ok(Duration::ZERO));
        message[23] = 10;
        assert_eq!(promise(&message), Ok(Duration::from_secs(10)));
    }

    #[test]
    fn options_with_a_false_length_are_told() {
        let mut message = encode(&RouterAdvertisement::default(), Dhcp6::None);
        for wrong in [&[3_u8, 0][..], &[3, 4, 0, 0], &[3], &[1, 1, 0, 0, 0, 0, 0, 0, 9]] {
            message.truncate(16);
            message.extend(wrong);
            assert_eq!(promise(&message), Err(Malformed), "{wrong:?}");
        }
        assert_eq!(promise(&message[..15]), Err(Malformed));
    }
}
