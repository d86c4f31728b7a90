//! DHCP options as raw bytes by code.
//!
//! Reads an options area one option at a time and says where it is broken; repeated codes are one value (RFC 3396). Writes them ascending,
//! the relay's own (82) last, values over 255 bytes in several parts. Never interprets a value.
//!
//! Codes are dhcproto's. Its decoders do not serve here (0.15): both end silently at a truncated option, and neither says whether End was there.
//! Nor does its encoder: it leaves out options without a value, writes raw values of 82 twice, and clears `chaddr` behind `hlen`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcproto::v4::OptionCode;

/// iPXE's own option, of which the registry knows only the number.
pub const IPXE: OptionCode = OptionCode::Unknown(175);

/// Options by code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<OptionCode, Vec<u8>>);

/// An option whose length points behind the end of its area; holds its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncated(pub u8);

impl Options {
    /// Adds the options of an area, and says whether it had an End. What follows End is not looked at.
    pub fn read(&mut self, area: &[u8]) -> Result<bool, Truncated> {
        let mut rest = area;
        while let [code, after @ ..] = rest {
            match OptionCode::from(*code) {
                OptionCode::Pad => rest = after,
                OptionCode::End => return Ok(true),
                known => {
                    let (value, next) = after
                        .split_first()
                        .and_then(|(length, after)| after.split_at_checked(usize::from(*length)))
                        .ok_or(Truncated(*code))?;
                    self.0.entry(known).or_default().extend_from_slice(value);
                    rest = next;
                }
            }
        }
        Ok(false)
    }

    /// Appends all options and End.
    pub fn write(&self, packet: &mut Vec<u8>) {
        let own = self
            .0
            .iter()
            .filter(|(code, _)| **code != OptionCode::RelayAgentInformation);
        let relays = self.0.get_key_value(&OptionCode::RelayAgentInformation);
        for (&code, value) in own.chain(relays) {
            let code = u8::from(code);
            // `chunks` has none for an empty value, which is an option all the same.
            if value.is_empty() {
                packet.extend_from_slice(&[code, 0]);
            }
            for part in value.chunks(usize::from(u8::MAX)) {
                packet.extend_from_slice(&[code, part.len() as u8]);
                packet.extend_from_slice(part);
            }
        }
        packet.push(OptionCode::End.into());
    }

    /// The value of an option.
    pub fn get(&self, code: OptionCode) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    /// Takes a value out.
    pub fn take(&mut self, code: OptionCode) -> Option<Vec<u8>> {
        self.0.remove(&code)
    }

    /// Sets an option; a former value is gone.
    pub fn set(&mut self, code: OptionCode, value: impl Into<Vec<u8>>) {
        self.0.insert(code, value.into());
    }

    /// Sets an option to a list of addresses; an empty list sets nothing.
    pub fn set_addresses(&mut self, code: OptionCode, addresses: &[Ipv4Addr]) {
        if !addresses.is_empty() {
            self.set(code, addresses.iter().flat_map(Ipv4Addr::octets).collect::<Vec<_>>());
        }
    }

    /// Sets an option to a number of 32 bits.
    pub fn set_u32(&mut self, code: OptionCode, value: u32) {
        self.set(code, value.to_be_bytes());
    }

    /// The addresses in an option; half a one at its end is left out.
    pub fn addresses(&self, code: OptionCode) -> Vec<Ipv4Addr> {
        let (whole, _) = self.get(code).unwrap_or_default().as_chunks::<4>();
        whole.iter().copied().map(Ipv4Addr::from).collect()
    }

    /// An option as text; what is not UTF-8 is replaced.
    pub fn text(&self, code: OptionCode) -> Option<String> {
        self.get(code).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// The codes, ascending.
    pub fn codes(&self) -> impl Iterator<Item = OptionCode> + '_ {
        self.0.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_split_and_read_back_as_one() {
        let mut options = Options::default();
        options.set(OptionCode::RelayAgentInformation, [7; 3]);
        options.set(OptionCode::Unknown(224), vec![9; 600]);
        options.set(OptionCode::RapidCommit, []);
        let mut area = Vec::new();
        options.write(&mut area);
        let mut read = Options::default();
        assert_eq!(read.read(&area), Ok(true));
        assert_eq!(read, options);
        assert_eq!(area[..4], [80, 0, 224, 255]);
        assert_eq!(area[area.len() - 6..], [82, 3, 7, 7, 7, 255]);
    }

    #[test]
    fn a_truncated_option_is_named() {
        for area in [&[12, 5, b'a'][..], &[12]] {
            assert_eq!(Options::default().read(area), Err(Truncated(12)));
        }
        assert_eq!(Options::default().read(&[0, 0, 12, 1, b'a']), Ok(false));
    }
}
