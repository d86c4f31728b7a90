//! DHCP options as they are on the wire.
//!
//! Reads an options area one option at a time and says where it is broken; the parts of a repeated code are one value (RFC 3396), joined
//! only then. Writes options ascending, those of a node in their places between ours, values over 255 bytes in several parts. Never
//! interprets a value.
//!
//! Codes are dhcproto's. Its decoders do not serve here (0.15): both end silently at a truncated option, and neither says whether End was there.
//! Nor does its encoder: it leaves out options without a value, writes raw values of 82 twice, and clears `chaddr` behind `hlen`.

use std::borrow::Cow;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::ops::Range;

use dhcproto::v4::OptionCode;

/// iPXE's own option, of which the registry knows only the number.
pub const IPXE: OptionCode = OptionCode::Unknown(175);

/// An option whose length points behind the end of its area; holds its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncated(pub u8);

/// How an options area ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// With End. What follows it is not looked at.
    AtEnd,
    /// With its last byte.
    WithoutEnd,
}

/// Hands each option of an area to `take`, in the order in which they stand there.
pub fn read<'a>(area: &'a [u8], mut take: impl FnMut(u8, &'a [u8])) -> Result<Ends, Truncated> {
    let mut rest = area;
    while let [code, after @ ..] = rest {
        match OptionCode::from(*code) {
            OptionCode::Pad => rest = after,
            OptionCode::End => return Ok(Ends::AtEnd),
            _ => {
                let (value, next) = after
                    .split_first()
                    .and_then(|(length, after)| after.split_at_checked(usize::from(*length)))
                    .ok_or(Truncated(*code))?;
                take(*code, value);
                rest = next;
            }
        }
    }
    Ok(Ends::WithoutEnd)
}

/// The value of an option, all parts of it; of a broken area what stands before the break.
pub fn find(area: &[u8], code: OptionCode) -> Option<Cow<'_, [u8]>> {
    let mut found = None;
    let _ = read(area, |other, part| {
        if OptionCode::from(other) == code {
            add(&mut found, part);
        }
    });
    found
}

/// Puts a part behind those that came before it. Only a second one makes a copy.
pub fn add<'a>(value: &mut Option<Cow<'a, [u8]>>, part: &'a [u8]) {
    match value {
        None => *value = Some(Cow::Borrowed(part)),
        Some(before) => before.to_mut().extend_from_slice(part),
    }
}

/// Writes options at the end of a packet. They come in ascending order, and those that a node has of its own go in between, or take the
/// place of ours.
pub(super) struct Writer<'p, 'n> {
    packet: &'p mut Vec<u8>,
    own: Peekable<btree_map::Iter<'n, u8, String>>,
}

impl<'p, 'n> Writer<'p, 'n> {
    /// A writer behind what the packet holds. `own`: code to value in hexadecimal.
    pub(super) fn new(packet: &'p mut Vec<u8>, own: &'n BTreeMap<u8, String>) -> Self {
        let own = own.iter().peekable();
        Self { packet, own }
    }

    /// Writes an option with what `value` puts into the packet. Says where the value of the option is now, when it is in one piece.
    pub(super) fn option(&mut self, code: OptionCode, value: impl FnOnce(&mut Vec<u8>)) -> Option<Range<usize>> {
        self.own_before(code);
        if let Some((_, hex)) = self.own.next_if(|(own, _)| **own == u8::from(code))
            && is_free(code)
            && let Some(bytes) = bytes(hex)
        {
            return put(self.packet, code, |packet| packet.extend(bytes));
        }
        put(self.packet, code, value)
    }

    /// Writes the node's own option with this code, should there be one.
    pub(super) fn own(&mut self, code: OptionCode) -> Option<Range<usize>> {
        self.own_before(code);
        let (_, hex) = self.own.next_if(|(own, _)| **own == u8::from(code))?;
        let bytes = bytes(hex).filter(|_| is_free(code))?;
        put(self.packet, code, |packet| packet.extend(bytes))
    }

    /// Writes what is left of the node's, then what the relay sent, then End.
    pub(super) fn end(mut self, relay_agent: Option<&[u8]>) {
        self.own_before(OptionCode::End);
        if let Some(value) = relay_agent {
            put(self.packet, OptionCode::RelayAgentInformation, |packet| {
                packet.extend_from_slice(value);
            });
        }
        self.packet.push(OptionCode::End.into());
    }

    fn own_before(&mut self, code: OptionCode) {
        while let Some((own, hex)) = self.own.next_if(|(own, _)| **own < u8::from(code)) {
            let own = OptionCode::from(*own);
            // The inventory reports bad values to who published them; here they are only left out.
            if let Some(bytes) = bytes(hex).filter(|_| is_free(own)) {
                put(self.packet, own, |packet| packet.extend(bytes));
            }
        }
    }
}

/// Appends an option, in parts of 255 bytes.
fn put(packet: &mut Vec<u8>, code: OptionCode, value: impl FnOnce(&mut Vec<u8>)) -> Option<Range<usize>> {
    let code = u8::from(code);
    let at = packet.len();
    packet.extend_from_slice(&[code, 0]);
    value(packet);
    let length = packet.len() - (at + 2);
    if let Ok(length) = u8::try_from(length) {
        packet[at + 1] = length;
        return Some(at + 2..packet.len());
    }
    let whole = packet.split_off(at + 2);
    packet.truncate(at);
    for part in whole.chunks(usize::from(u8::MAX)) {
        packet.extend_from_slice(&[code, part.len() as u8]);
        packet.extend_from_slice(part);
    }
    None
}

/// The bytes that hexadecimal text means; `:`, `-` and spaces may stand between them.
fn bytes(hex: &str) -> Option<impl Iterator<Item = u8> + '_> {
    let digits = || hex.bytes().filter(|c| !matches!(c, b':' | b'-' | b' '));
    let digit = |c: u8| char::from(c).to_digit(16).map(|digit| digit as u8);
    let good = digits().all(|c| c.is_ascii_hexdigit()) && digits().count().is_multiple_of(2);
    let mut digits = digits().filter_map(digit);
    let pairs = std::iter::from_fn(move || Some(digits.next()? << 4 | digits.next()?));
    good.then_some(pairs)
}

/// Whether a row of the inventory may set this option: some carry the protocol itself.
fn is_free(code: OptionCode) -> bool {
    !matches!(
        code,
        OptionCode::Pad
            | OptionCode::AddressLeaseTime
            | OptionCode::OptionOverload
            | OptionCode::MessageType
            | OptionCode::ServerIdentifier
            | OptionCode::ClientIdentifier
            | OptionCode::RelayAgentInformation
            | OptionCode::End
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_split_and_read_back_as_one() {
        let own = BTreeMap::from([(224, "09".repeat(600)), (80, String::new())]);
        let mut area = Vec::new();
        Writer::new(&mut area, &own).end(Some(&[7; 3]));
        assert_eq!(find(&area, OptionCode::Unknown(224)).as_deref(), Some(&[9; 600][..]));
        assert_eq!(find(&area, OptionCode::RapidCommit).as_deref(), Some(&[][..]));
        assert_eq!(area[..4], [80, 0, 224, 255]);
        assert_eq!(area[area.len() - 6..], [82, 3, 7, 7, 7, 255]);
    }

    #[test]
    fn options_of_a_node_stand_in_their_places_and_win() {
        let own = BTreeMap::from([(2, "aa".into()), (3, "0b".into()), (5, "x".into()), (53, "06".into())]);
        let mut area = Vec::new();
        let mut writer = Writer::new(&mut area, &own);
        for code in [1, 3, 5, 53] {
            writer.option(OptionCode::from(code), |packet| packet.push(9));
        }
        writer.end(None);
        assert_eq!(area, [1, 1, 9, 2, 1, 0xaa, 3, 1, 0x0b, 5, 1, 9, 53, 1, 9, 255]);
    }

    #[test]
    fn only_a_repeated_option_is_copied() {
        let area = [12, 1, b'a', 61, 1, 7, 12, 1, b'b', 255];
        assert!(matches!(find(&area, OptionCode::Hostname), Some(Cow::Owned(value)) if value == b"ab"));
        assert!(matches!(
            find(&area, OptionCode::ClientIdentifier),
            Some(Cow::Borrowed([7]))
        ));
        assert_eq!(find(&area, OptionCode::Router), None);
    }

    #[test]
    fn a_truncated_option_is_named() {
        for area in [&[12, 5, b'a'][..], &[12]] {
            assert_eq!(read(area, |_, _| {}), Err(Truncated(12)));
        }
        assert_eq!(read(&[0, 0, 12, 1, b'a'], |_, _| {}), Ok(Ends::WithoutEnd));
    }
}
