//! DHCP options as they are on the wire.
//!
//! Reads an options area one option at a time and says where it is broken; the parts of a repeated code are one value (RFC 3396), joined
//! only then. Writes options ascending, those of the scopes in their places between ours, values over 255 bytes in several parts. Never
//! interprets a value.
//!
//! Codes are dhcproto's. Its decoders do not serve here (0.15): both end silently at a truncated option, and neither says whether End was there.
//! Nor does its encoder: it leaves out options without a value, writes raw values of 82 twice, and clears `chaddr` behind `hlen`.

use std::borrow::Cow;
use std::ops::Range;

use dhcproto::v4::OptionCode;

use super::request::Request;
use super::scopes::Scopes;
use crate::config::When;

/// iPXE's own option, of which the registry knows only the number.
pub const IPXE: OptionCode = OptionCode::Unknown(175);

/// Whether a client without an address may choose one itself (RFC 2563).
pub const AUTOCONFIGURE: OptionCode = OptionCode::DisableSLAAC;
/// How long a client does without IPv4 (RFC 8925).
pub const V6ONLY_PREFERRED: OptionCode = OptionCode::Unknown(108);

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

/// Writes options at the end of a packet, ascending: those of the scopes in between ours.
pub(super) struct Writer<'p, 'a> {
    packet: &'p mut Vec<u8>,
    scopes: &'a Scopes<'a>,
    /// All below this code is written.
    next: u8,
    wants: &'a Request<'a>,
}

impl<'p, 'a> Writer<'p, 'a> {
    /// A writer behind what the packet holds, for who sent this.
    pub(super) fn new(packet: &'p mut Vec<u8>, scopes: &'a Scopes<'a>, wants: &'a Request<'a>) -> Self {
        let next = 0;
        Self {
            packet,
            scopes,
            next,
            wants,
        }
    }

    /// Writes an option with what `value` puts into the packet, whatever the scopes say. Says where the value is now, when it is in one piece.
    pub(super) fn ours(&mut self, code: OptionCode, value: impl FnOnce(&mut Vec<u8>)) -> Option<Range<usize>> {
        self.up_to(code);
        self.next = u8::from(code).saturating_add(1);
        put(self.packet, code, value)
    }

    /// Writes what the scopes say, should they have this option, else ours.
    pub(super) fn option(&mut self, code: OptionCode, value: impl FnOnce(&mut Vec<u8>)) {
        if self.scopes.get(code).is_none() {
            self.ours(code, value);
        }
    }

    /// Writes what the scopes say. Says where the value is now, when it is in one piece.
    pub(super) fn theirs(&mut self, code: OptionCode) -> Option<Range<usize>> {
        self.up_to(code);
        let at = self.packet.len();
        self.write(code.into());
        self.next = u8::from(code).saturating_add(1);
        let written = self.packet.get(at..)?;
        let length = usize::from(*written.get(1)?);
        (written.len() == length + 2).then_some(at + 2..self.packet.len())
    }

    /// Writes what is left of the scopes, then what the relay sent, then End.
    pub(super) fn end(mut self, relay_agent: Option<&[u8]>) {
        self.up_to(OptionCode::End);
        if let Some(value) = relay_agent {
            put(self.packet, OptionCode::RelayAgentInformation, |packet| {
                packet.extend_from_slice(value);
            });
        }
        self.packet.push(OptionCode::End.into());
    }

    fn up_to(&mut self, code: OptionCode) {
        let code = u8::from(code);
        while let Some(there) = self.scopes.next_from(self.next).filter(|there| *there < code) {
            self.write(there);
            self.next = there + 1;
        }
    }

    fn write(&mut self, code: u8) {
        if let Some(option) = self.scopes.get(code.into())
            && (option.when == When::Always || self.wants.wants(code.into()))
        {
            self.packet.extend_from_slice(&option.wire);
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

#[cfg(test)]
mod tests {
    use super::super::request::parse;
    use super::super::testing::Client;
    use super::*;
    use crate::config::{DhcpOption, OptionSet};

    fn scopes(sets: &[OptionSet]) -> Scopes<'_> {
        let mut scopes = Scopes::default();
        sets.iter().for_each(|set| scopes.add(set));
        scopes
    }

    fn set(options: &[(u8, When, &[u8])]) -> OptionSet {
        let mut set = OptionSet::default();
        for (code, when, value) in options {
            set.set(DhcpOption::new(*code, *when, value));
        }
        set
    }

    #[test]
    fn long_values_are_split_and_read_back_as_one() {
        let packet = Client::new(1).discover();
        let request = parse(&packet).unwrap();
        let sets = [set(&[(224, When::Always, &[9; 600]), (80, When::Always, &[])])];
        let mut area = Vec::new();
        Writer::new(&mut area, &scopes(&sets), &request).end(Some(&[7; 3]));
        assert_eq!(find(&area, OptionCode::Unknown(224)).as_deref(), Some(&[9; 600][..]));
        assert_eq!(find(&area, OptionCode::RapidCommit).as_deref(), Some(&[][..]));
        assert_eq!(area[..4], [80, 0, 224, 255]);
        assert_eq!(area[area.len() - 6..], [82, 3, 7, 7, 7, 255]);
    }

    #[test]
    fn options_of_later_scopes_win_and_stand_in_their_places_between_ours() {
        let packet = Client::new(1).option(55, &[1, 6]).discover();
        let request = parse(&packet).unwrap();
        let (always, requested) = (When::Always, When::Requested);
        let sets = [
            set(&[
                (2, always, &[1]),
                (3, always, &[1]),
                (6, requested, &[1]),
                (7, requested, &[1]),
            ]),
            set(&[(2, always, &[2]), (53, always, &[6]), (67, always, b"x")]),
        ];
        let mut area = Vec::new();
        let scopes = scopes(&sets);
        let mut writer = Writer::new(&mut area, &scopes, &request);
        writer.ours(OptionCode::SubnetMask, |packet| packet.push(9));
        writer.option(OptionCode::Router, |packet| packet.push(9));
        writer.option(OptionCode::NameServer, |packet| packet.push(9));
        writer.ours(OptionCode::MessageType, |packet| packet.push(9));
        assert_eq!(writer.theirs(OptionCode::BootfileName), Some(20..21));
        assert_eq!(writer.theirs(OptionCode::Unknown(70)), None);
        writer.end(None);
        let expected = [1, 1, 9, 2, 1, 2, 3, 1, 1, 5, 1, 9, 6, 1, 1, 53, 1, 9, 67, 1, b'x', 255];
        assert_eq!(area, expected);
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
