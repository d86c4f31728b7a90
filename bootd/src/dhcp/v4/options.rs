//! DHCP options as raw bytes by code.
//!
//! Reads an options area one option at a time and says where it is broken; repeated codes are one value (RFC 3396). Writes them ascending,
//! the relay's own (82) last, values over 255 bytes in several parts. Never interprets a value.
//!
//! dhcproto's decoders do not serve here (0.15): both end silently at a truncated option, and neither says whether End was there.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Option codes.
pub mod code {
    #![allow(missing_docs)] // the names are the registry's
    pub const PAD: u8 = 0;
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTERS: u8 = 3;
    pub const DNS: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const DOMAIN_NAME: u8 = 15;
    pub const ROOT_PATH: u8 = 17;
    pub const REQUESTED_IP: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_ID: u8 = 54;
    pub const PARAMETER_LIST: u8 = 55;
    pub const RENEWAL_TIME: u8 = 58;
    pub const REBINDING_TIME: u8 = 59;
    pub const VENDOR_CLASS: u8 = 60;
    pub const CLIENT_ID: u8 = 61;
    pub const TFTP_SERVER: u8 = 66;
    pub const BOOT_FILE: u8 = 67;
    pub const USER_CLASS: u8 = 77;
    pub const RELAY_AGENT: u8 = 82;
    pub const ARCHITECTURE: u8 = 93;
    pub const IPXE: u8 = 175;
    pub const END: u8 = 255;
}

/// Options by code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<u8, Vec<u8>>);

/// An option whose length points behind the end of its area; holds its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncated(pub u8);

impl Options {
    /// Adds the options of an area, and says whether it had an End. What follows End is not looked at.
    pub fn read(&mut self, area: &[u8]) -> Result<bool, Truncated> {
        let mut rest = area;
        while let [code, after @ ..] = rest {
            match *code {
                code::PAD => rest = after,
                code::END => return Ok(true),
                code => {
                    let (value, next) = after
                        .split_first()
                        .and_then(|(length, after)| after.split_at_checked(usize::from(*length)))
                        .ok_or(Truncated(code))?;
                    self.0.entry(code).or_default().extend_from_slice(value);
                    rest = next;
                }
            }
        }
        Ok(false)
    }

    /// Appends all options and End.
    pub fn write(&self, packet: &mut Vec<u8>) {
        let own = self.0.iter().filter(|(code, _)| **code != code::RELAY_AGENT);
        let relays = self.0.get_key_value(&code::RELAY_AGENT);
        for (&code, value) in own.chain(relays) {
            // `chunks` has none for an empty value, which is an option all the same.
            if value.is_empty() {
                packet.extend_from_slice(&[code, 0]);
            }
            for part in value.chunks(usize::from(u8::MAX)) {
                packet.extend_from_slice(&[code, part.len() as u8]);
                packet.extend_from_slice(part);
            }
        }
        packet.push(code::END);
    }

    /// The value of an option.
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    /// Takes a value out.
    pub fn take(&mut self, code: u8) -> Option<Vec<u8>> {
        self.0.remove(&code)
    }

    /// Sets an option; a former value is gone.
    pub fn set(&mut self, code: u8, value: impl Into<Vec<u8>>) {
        self.0.insert(code, value.into());
    }

    /// Sets an option to a list of addresses; an empty list sets nothing.
    pub fn set_addresses(&mut self, code: u8, addresses: &[Ipv4Addr]) {
        if !addresses.is_empty() {
            self.set(code, addresses.iter().flat_map(Ipv4Addr::octets).collect::<Vec<_>>());
        }
    }

    /// Sets an option to a number of 32 bits.
    pub fn set_u32(&mut self, code: u8, value: u32) {
        self.set(code, value.to_be_bytes());
    }

    /// The addresses in an option; half a one at its end is left out.
    pub fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let (whole, _) = self.get(code).unwrap_or_default().as_chunks::<4>();
        whole.iter().copied().map(Ipv4Addr::from).collect()
    }

    /// An option as text; what is not UTF-8 is replaced.
    pub fn text(&self, code: u8) -> Option<String> {
        self.get(code).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// The codes, ascending.
    pub fn codes(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_split_and_read_back_as_one() {
        let mut options = Options::default();
        options.set(code::RELAY_AGENT, [7; 3]);
        options.set(224, vec![9; 600]);
        options.set(80, []);
        let mut area = Vec::new();
        options.write(&mut area);
        let mut read = Options::default();
        assert_eq!(read.read(&area), Ok(true));
        assert_eq!(read, options);
        assert_eq!(area[..4], [80, 0, 224, 255]);
        assert_eq!(area[area.len() - 6..], [code::RELAY_AGENT, 3, 7, 7, 7, code::END]);
    }

    #[test]
    fn a_truncated_option_is_named() {
        for area in [&[12, 5, b'a'][..], &[12]] {
            assert_eq!(Options::default().read(area), Err(Truncated(12)));
        }
        assert_eq!(Options::default().read(&[0, 0, 12, 1, b'a']), Ok(false));
    }
}
