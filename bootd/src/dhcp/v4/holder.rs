//! Who a lease of a pool belongs to.
//!
//! A lease is its hardware address's, unless the configuration says that it is its client identifier's (option 61): a diskless Linux makes
//! a new identifier at every boot, and would have another address each time. A client whose hardware address has not 6 bytes, as on
//! InfiniBand (RFC 4390), has nothing but its identifier. Pure.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bootd_sdk::mac::Mac;

use super::request::Request;
use crate::config::BindTo;

/// Who has a lease. Its text is the key of the lease's row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Holder {
    /// A hardware address.
    Mac(Mac),
    /// A client identifier, as it came.
    Id(Arc<[u8]>),
}

impl Holder {
    /// Who sent this. `None`: it does not say who it is.
    pub fn of(request: &Request<'_>, bind_to: BindTo) -> Option<Self> {
        let id = || id(request).map(|id| Self::Id(id.into()));
        match bind_to {
            BindTo::Mac => request.mac.map(Self::Mac).or_else(id),
            BindTo::ClientId => id().or(request.mac.map(Self::Mac)),
        }
    }
}

/// Option 61, when it says something.
pub(super) fn id<'a>(request: &'a Request<'_>) -> Option<&'a [u8]> {
    request.client_id.as_deref().filter(|id| !id.is_empty())
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => mac.fmt(f),
            Self::Id(id) => write!(f, "{ID}{}", Hex(id)),
        }
    }
}

/// The text is no holder's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("neither a hardware address of 6 bytes nor a client identifier")]
pub struct BadHolder;

impl FromStr for Holder {
    type Err = BadHolder;

    fn from_str(text: &str) -> Result<Self, BadHolder> {
        match text.strip_prefix(ID) {
            Some(hex) => Ok(Self::Id(from_hex(hex).ok_or(BadHolder)?.into())),
            None => text.parse().map(Self::Mac).map_err(|_| BadHolder),
        }
    }
}

/// Bytes as hexadecimal digits, without anything between.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The bytes of an identifier: at least one, at most as many as an option has.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    if !odd.is_empty() || pairs.is_empty() || pairs.len() > usize::from(u8::MAX) {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let byte = |pair: &[u8; 2]| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok();
    pairs.iter().map(byte).collect()
}

/// What the text of an identifier begins with.
const ID: &str = "id:";

#[cfg(test)]
mod tests {
    use super::super::request::parse;
    use super::super::testing::{Client, mac};
    use super::*;

    #[test]
    fn text_and_back() {
        for holder in [Holder::Mac(mac(7)), Holder::Id([0xff, 0, 0x1a].into())] {
            assert_eq!(holder.to_string().parse(), Ok(holder));
        }
        let long = format!("id:{}", "00".repeat(256));
        for text in ["", "id:", "id:f", "id:0g", "id:+1", "id:é", "02:00", &long] {
            assert_eq!(text.parse::<Holder>(), Err(BadHolder), "{text}");
        }
    }

    #[test]
    fn the_hardware_address_comes_first_unless_said_otherwise() {
        let of = |packet: &[u8], bind_to| Holder::of(&parse(packet).unwrap(), bind_to);
        let both = Client::new(9).option(61, &[1, 2]).discover();
        assert_eq!(of(&both, BindTo::Mac), Some(Holder::Mac(mac(9))));
        assert_eq!(of(&both, BindTo::ClientId), Some(Holder::Id([1, 2].into())));
        for without in [Client::new(9).discover(), Client::new(9).option(61, &[]).discover()] {
            assert_eq!(of(&without, BindTo::ClientId), Some(Holder::Mac(mac(9))));
        }
        let mut infiniband = both;
        infiniband[1..3].copy_from_slice(&[32, 0]);
        assert_eq!(of(&infiniband, BindTo::Mac), Some(Holder::Id([1, 2].into())));
        let mut nobody = Client::new(9).discover();
        nobody[2] = 0;
        assert_eq!(of(&nobody, BindTo::Mac), None);
    }
}
