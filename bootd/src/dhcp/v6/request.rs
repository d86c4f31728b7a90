//! What a client sent, through however many relays, read by one function that cannot be surprised.
//!
//! [`parse`] opens the relays' layers one after the other (at most [`MOST_RELAYS`] of them), then takes the options of the client's own message one
//! by one. A packet is read completely or refused with its reason. What is read is a view of the packet: nothing is copied. Nothing here
//! panics, whatever the bytes; memory is bounded by the packet's own size.
//!
//! Codes are dhcproto's. Its decoder does not serve here (0.15): it takes the message that a relay passes on for another relay's.

use std::fmt;
use std::net::Ipv6Addr;

use bootd_sdk::mac::Mac;
use dhcproto::v6::{MessageType, OptionCode};

use crate::config::Arch;
use crate::dhcp::rules::Asks;
use crate::dhcp::v4::boot::arch_of;

/// Relays that a packet may have come through (HOP_COUNT_LIMIT of RFC 3315; RFC 8415 has 8).
pub const MOST_RELAYS: usize = 32;
/// Bytes of a relay's message before its options.
pub const RELAY_HEADER: usize = 34;
/// Bytes of a DUID.
const DUID: std::ops::RangeInclusive<usize> = 1..=128;
/// Identity associations of one message: a reply answers each, so their number is bounded.
const MOST_IAS: usize = 16;
/// How the vendor class of UEFI HTTP Boot begins, and what its answer must hold.
pub const HTTP_CLIENT: &[u8] = b"HTTPClient";
/// How that of PXE begins.
const PXE_CLIENT: &[u8] = b"PXEClient";
const IPXE: &[u8] = b"iPXE";

/// What a message wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Who has an address for me?
    Solicit,
    /// I want this one, of you.
    Request,
    /// Is my address still one of this link?
    Confirm,
    /// I want to keep this one, of you.
    Renew,
    /// I want to keep this one, of anybody.
    Rebind,
    /// I do not need it any more.
    Release,
    /// Somebody uses it already.
    Decline,
    /// I need no address; tell me the rest.
    Information,
    /// Nothing that a client says to a server.
    Other(u8),
}

impl Kind {
    fn of(number: u8) -> Self {
        match MessageType::from(number) {
            MessageType::Solicit => Self::Solicit,
            MessageType::Request => Self::Request,
            MessageType::Confirm => Self::Confirm,
            MessageType::Renew => Self::Renew,
            MessageType::Rebind => Self::Rebind,
            MessageType::Release => Self::Release,
            MessageType::Decline => Self::Decline,
            MessageType::InformationRequest => Self::Information,
            _ => Self::Other(number),
        }
    }

    /// What it is called in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Solicit => "solicit",
            Self::Request => "request",
            Self::Confirm => "confirm",
            Self::Renew => "renew",
            Self::Rebind => "rebind",
            Self::Release => "release",
            Self::Decline => "decline",
            Self::Information => "information",
            Self::Other(_) => "other",
        }
    }

    /// The message type's number.
    pub fn number(self) -> u8 {
        match self {
            Self::Solicit => 1,
            Self::Request => 3,
            Self::Confirm => 4,
            Self::Renew => 5,
            Self::Rebind => 6,
            Self::Release => 8,
            Self::Decline => 9,
            Self::Information => 11,
            Self::Other(number) => number,
        }
    }
}

/// A layer of a packet: what a relay said when it passed it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay<'a> {
    /// Relays before it.
    pub hop_count: u8,
    /// An address of the client's link, unspecified when a relay nearer to the server says it.
    pub link: Ipv6Addr,
    /// Who sent the message to the relay.
    pub peer: Ipv6Addr,
    /// Option 18 as received: it comes back.
    pub interface_id: Option<&'a [u8]>,
    /// Option 37 as received: it comes back.
    pub remote_id: Option<&'a [u8]>,
    /// Option 135 as received: it comes back (RFC 8357).
    pub port: Option<&'a [u8]>,
    /// Option 79: the hardware address of who sent the message to the relay, when it has 6 bytes.
    pub link_layer: Option<Mac>,
}

/// The relays of a packet: first the one that is nearest to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relays<'a> {
    /// From the first layer on; all were read once.
    packet: &'a [u8],
    count: usize,
}

impl<'a> Relays<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether the client is on the wire of the receiving interface.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Relay<'a>> + use<'a> {
        let mut rest = self.packet;
        let layers = std::iter::from_fn(move || {
            let (relay, relayed) = layer(rest).ok()?;
            rest = relayed;
            Some(relay)
        });
        layers.take(self.count)
    }
}

/// What an identity association is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IaKind {
    /// Addresses.
    Address,
    /// Temporary addresses.
    Temporary,
    /// Delegated prefixes.
    Prefix,
}

impl IaKind {
    /// The option.
    pub fn code(self) -> OptionCode {
        match self {
            Self::Address => OptionCode::IANA,
            Self::Temporary => OptionCode::IATA,
            Self::Prefix => OptionCode::IAPD,
        }
    }
}

/// An identity association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ia<'a> {
    /// What it is about.
    pub kind: IaKind,
    /// What the client calls it.
    pub id: [u8; 4],
    /// Its options, whole ones.
    options: &'a [u8],
}

impl<'a> Ia<'a> {
    /// The addresses in it.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv6Addr> + use<'a> {
        Options(self.options)
            .flatten()
            .filter(|(code, _)| *code == OptionCode::IAAddr)
            .filter_map(|(_, value)| value.first_chunk::<16>().copied())
            .map(Ipv6Addr::from)
    }
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// What it wants.
    pub kind: Kind,
    /// The transaction.
    pub xid: [u8; 3],
    /// The relays that it came through.
    pub relays: Relays<'a>,
    /// The relay that is nearest to the client.
    pub nearest: Option<Relay<'a>>,
    /// An address of the client's link, as the nearest relay that knows one says. `None`: it is on the wire of the receiving interface.
    pub link: Option<Ipv6Addr>,
    /// Who sent the packet: the client, or its last relay.
    pub from: Ipv6Addr,
    /// Option 1.
    pub client_id: Option<&'a [u8]>,
    /// Option 2.
    pub server_id: Option<&'a [u8]>,
    /// Its options, whole ones.
    options: &'a [u8],
    /// Option 6, an even number of bytes.
    pub wanted: Option<&'a [u8]>,
    /// Option 14 is there.
    pub rapid_commit: bool,
    /// Option 15 as received; see [`Request::user_classes`].
    pub user_class: Option<&'a [u8]>,
    /// Option 16 as received: the vendor's number, then what [`Request::vendor_classes`] says.
    pub vendor_class: Option<&'a [u8]>,
    /// Option 39: flags and name.
    pub fqdn: Option<&'a [u8]>,
    /// The first value of option 61.
    pub arch: Option<u16>,
    /// Option 61 was there and too short for a value.
    pub arch_too_short: bool,
}

/// Why a packet cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPacket {
    /// Not even a header.
    #[error("{0} bytes are too few for a DHCPv6 packet")]
    TooShort(usize),
    /// More relays than a packet can have come through.
    #[error("it came through more than {MOST_RELAYS} relays")]
    TooManyRelays,
    /// A relay passed nothing on.
    #[error("a relay's message holds no message")]
    NothingRelayed,
    /// An option's length points behind the end.
    #[error("option {0} is truncated")]
    TruncatedOption(u16),
    /// Bytes behind the last option that are none.
    #[error("the options do not end with one")]
    LooseBytes,
    /// An option's length is impossible for its kind.
    #[error("option {0} has {1} bytes")]
    BadOption(u16, usize),
    /// More identity associations than a client has.
    #[error("it has more than {MOST_IAS} identity associations")]
    TooManyIas,
}

impl BadPacket {
    /// The metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooShort(_) => "too_short",
            Self::TooManyRelays => "too_many_relays",
            Self::NothingRelayed => "nothing_relayed",
            Self::TruncatedOption(_) => "truncated_option",
            Self::LooseBytes => "loose_bytes",
            Self::BadOption(..) => "bad_option_length",
            Self::TooManyIas => "too_many_ias",
        }
    }
}

/// Reads a packet that came from this address.
pub fn parse(packet: &[u8], from: Ipv6Addr) -> Result<Request<'_>, BadPacket> {
    let (mut count, mut nearest, mut link) = (0, None, None);
    let mut message = packet;
    while message.first() == Some(&MessageType::RelayForw.into()) {
        if count == MOST_RELAYS {
            return Err(BadPacket::TooManyRelays);
        }
        let (relay, relayed) = layer(message)?;
        // Relays that know no address of the link leave it to others.
        let says = !relay.link.is_unspecified() && !relay.link.is_unicast_link_local();
        link = says.then_some(relay.link).or(link);
        nearest = Some(relay);
        message = relayed;
        count += 1;
    }
    let &[kind, a, b, c, ref options @ ..] = message else {
        return Err(BadPacket::TooShort(message.len()));
    };
    let mut request = Request {
        kind: Kind::of(kind),
        xid: [a, b, c],
        relays: Relays { packet, count },
        nearest,
        link,
        from,
        client_id: None,
        server_id: None,
        options,
        wanted: None,
        rapid_commit: false,
        user_class: None,
        vendor_class: None,
        fqdn: None,
        arch: None,
        arch_too_short: false,
    };
    // What is no client's message is not looked into: relays may speak of things that are none of ours.
    if matches!(request.kind, Kind::Other(_)) {
        return Ok(request);
    }
    let mut ias = 0;
    for option in Options(options) {
        let (code, value) = option?;
        ias += usize::from(request.take(code, value)?);
        if ias > MOST_IAS {
            return Err(BadPacket::TooManyIas);
        }
    }
    Ok(request)
}

/// A relay's message, and what it passed on.
fn layer(message: &[u8]) -> Result<(Relay<'_>, &[u8]), BadPacket> {
    let (head, options) = message
        .split_first_chunk::<RELAY_HEADER>()
        .ok_or(BadPacket::TooShort(message.len()))?;
    let address = |at: usize| Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|i| head[at + i]));
    let mut relay = Relay {
        hop_count: head[1],
        link: address(2),
        peer: address(18),
        interface_id: None,
        remote_id: None,
        port: None,
        link_layer: None,
    };
    let mut relayed = None;
    for option in Options(options) {
        let (code, value) = option?;
        match code {
            OptionCode::RelayMsg => first(&mut relayed, value),
            OptionCode::InterfaceId => first(&mut relay.interface_id, value),
            OptionCode::RemoteId => first(&mut relay.remote_id, value),
            OptionCode::RelayPort => first(&mut relay.port, value),
            OptionCode::ClientLinklayerAddr => relay.link_layer = relay.link_layer.or(link_layer(value)),
            _ => {}
        }
    }
    Ok((relay, relayed.ok_or(BadPacket::NothingRelayed)?))
}

/// The identity association of an option, when it is one and its fixed part is there.
fn ia(code: OptionCode, value: &[u8]) -> Option<Ia<'_>> {
    let (kind, head) = match code {
        OptionCode::IANA => (IaKind::Address, 12),
        OptionCode::IATA => (IaKind::Temporary, 4),
        OptionCode::IAPD => (IaKind::Prefix, 12),
        _ => return None,
    };
    let (id, options) = (*value.first_chunk()?, value.get(head..)?);
    Some(Ia { kind, id, options })
}

/// Whether the options within can be read.
fn check_ia(ia: &Ia<'_>) -> Result<(), BadPacket> {
    for option in Options(ia.options) {
        let (code, value) = option?;
        let least = match code {
            OptionCode::IAAddr => 24,
            OptionCode::IAPrefix => 25,
            _ => 0,
        };
        if value.len() < least {
            return Err(BadPacket::BadOption(code.into(), value.len()));
        }
    }
    Ok(())
}

/// Of an option that may be there once the first counts.
fn first<'a>(place: &mut Option<&'a [u8]>, value: &'a [u8]) {
    place.get_or_insert(value);
}

/// Two bytes with the type of the hardware, then the address.
fn link_layer(value: &[u8]) -> Option<Mac> {
    match value {
        &[_, _, a, b, c, d, e, f] => Some(Mac([a, b, c, d, e, f])),
        _ => None,
    }
}

impl<'a> Request<'a> {
    /// Takes what an option says. Tells whether it is an identity association.
    fn take(&mut self, code: OptionCode, value: &'a [u8]) -> Result<bool, BadPacket> {
        let bad = || BadPacket::BadOption(code.into(), value.len());
        match code {
            OptionCode::ClientId | OptionCode::ServerId => {
                if !DUID.contains(&value.len()) {
                    return Err(bad());
                }
                let place = match code {
                    OptionCode::ClientId => &mut self.client_id,
                    _ => &mut self.server_id,
                };
                first(place, value);
            }
            OptionCode::IANA | OptionCode::IATA | OptionCode::IAPD => {
                check_ia(&ia(code, value).ok_or_else(bad)?)?;
                return Ok(true);
            }
            OptionCode::ORO if !value.len().is_multiple_of(2) => return Err(bad()),
            OptionCode::ORO => first(&mut self.wanted, value),
            OptionCode::RapidCommit => self.rapid_commit = true,
            OptionCode::UserClass => first(&mut self.user_class, value),
            OptionCode::VendorClass if value.len() < 4 => return Err(bad()),
            OptionCode::VendorClass => first(&mut self.vendor_class, value),
            OptionCode::ClientFqdn if value.is_empty() => return Err(bad()),
            OptionCode::ClientFqdn => first(&mut self.fqdn, value),
            OptionCode::ClientArchType => match value.first_chunk() {
                Some(first) => self.arch = self.arch.or(Some(u16::from_be_bytes(*first))),
                None => self.arch_too_short = true,
            },
            _ => {}
        }
        Ok(false)
    }

    /// Options 3, 4 and 25, in their order.
    pub fn ias(&self) -> impl Iterator<Item = Ia<'a>> + use<'a> {
        Options(self.options)
            .flatten()
            .filter_map(|(code, value)| ia(code, value))
    }

    /// The client's hardware address: what its first relay saw (RFC 6939), else what its own address on the link is made of, else what its
    /// DUID holds.
    pub fn mac(&self) -> Option<Mac> {
        let seen = self.nearest.as_ref().and_then(|relay| relay.link_layer);
        let made_of = || match &self.nearest {
            Some(relay) => eui64(relay.peer),
            None => self.from.is_unicast_link_local().then(|| eui64(self.from)).flatten(),
        };
        let named = || self.client_id.and_then(duid_mac);
        seen.or_else(made_of).or_else(named).filter(|mac| mac.is_host())
    }

    /// By whom limits and the list of the ignored go: the hardware address, else something made of the client identifier, or of the address.
    pub fn sender(&self) -> Mac {
        self.mac().unwrap_or_else(|| {
            let address = self.nearest.as_ref().map_or(self.from, |relay| relay.peer).octets();
            // FNV-1a, as for clients of IPv4 without a hardware address.
            let mix = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            let bytes = self.client_id.unwrap_or(&address);
            let [_, _, a, b, c, d, e, f] = bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix).to_be_bytes();
            Mac([a, b, c, d, e, f])
        })
    }

    /// The client lists this option.
    pub fn lists(&self, code: OptionCode) -> bool {
        let code = u16::from(code).to_be_bytes();
        let codes = self.wanted.unwrap_or_default().as_chunks::<2>().0;
        codes.contains(&code)
    }

    /// The user classes.
    pub fn user_classes(&self) -> impl Iterator<Item = &'a [u8]> {
        parts(self.user_class.unwrap_or_default())
    }

    /// The vendor classes.
    pub fn vendor_classes(&self) -> impl Iterator<Item = &'a [u8]> {
        parts(self.vendor_class.and_then(|value| value.get(4..)).unwrap_or_default())
    }

    /// The number of the vendor of option 16.
    pub fn vendor(&self) -> Option<[u8; 4]> {
        self.vendor_class?.first_chunk().copied()
    }

    /// The client is iPXE, as option 15 says.
    pub fn is_ipxe(&self) -> bool {
        // Plain text is what some builds send.
        self.user_class == Some(IPXE) || self.user_classes().any(|class| class == IPXE)
    }

    /// The client is UEFI HTTP Boot, as option 16 says.
    pub fn boots_by_http(&self) -> bool {
        self.vendor_classes().any(|class| class.starts_with(HTTP_CLIENT))
    }

    /// The client is a PXE firmware, as option 16 says.
    pub fn boots_by_pxe(&self) -> bool {
        self.vendor_classes().any(|class| class.starts_with(PXE_CLIENT))
    }

    /// The addresses that the client says it has or wants.
    pub fn named(&self) -> impl Iterator<Item = Ipv6Addr> + use<'a> {
        let of_addresses = self.ias().filter(|ia| ia.kind == IaKind::Address);
        of_addresses.flat_map(|ia| ia.addresses())
    }
}

impl Asks for Request<'_> {
    fn arch(&self, strict: bool) -> Option<Arch> {
        self.arch.and_then(|code| arch_of(code, self.boots_by_http(), strict))
    }

    fn vendor_classes(&self) -> impl Iterator<Item = &[u8]> {
        Request::vendor_classes(self)
    }

    fn user_classes(&self) -> impl Iterator<Item = &[u8]> {
        Request::user_classes(self)
    }

    fn circuit_id(&self) -> Option<&[u8]> {
        self.nearest.as_ref()?.interface_id
    }

    fn remote_id(&self) -> Option<&[u8]> {
        self.nearest.as_ref()?.remote_id?.get(4..)
    }
}

/// Who it is, for logs: the hardware address, else the client identifier in hexadecimal, else the address.
impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.mac(), self.client_id) {
            (Some(mac), _) => mac.fmt(f),
            (None, Some(duid)) => duid.iter().take(32).try_for_each(|byte| write!(f, "{byte:02x}")),
            (None, None) => self.from.fmt(f),
        }
    }
}

/// Options one after the other. Ends behind the first one that is broken.
pub(super) struct Options<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Result<(OptionCode, &'a [u8]), BadPacket>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.0);
        let &[a, b, c, d, ref after @ ..] = rest else {
            return (!rest.is_empty()).then_some(Err(BadPacket::LooseBytes));
        };
        let (code, length) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let Some((value, next)) = after.split_at_checked(length.into()) else {
            return Some(Err(BadPacket::TruncatedOption(code)));
        };
        self.0 = next;
        Some(Ok((code.into(), value)))
    }
}

/// Texts, each behind its length. What is cut off is left out.
fn parts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk()?;
        let (part, next) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
        rest = next;
        Some(part)
    })
}

/// The hardware address that an address is made of, when it is made of one (RFC 4291, appendix A).
fn eui64(ip: Ipv6Addr) -> Option<Mac> {
    match ip.octets() {
        [.., a, b, c, 0xff, 0xfe, d, e, f] => Some(Mac([a ^ 2, b, c, d, e, f])),
        _ => None,
    }
}

/// The hardware address in a DUID of the kinds that have one: LL, and LLT with a time before it.
fn duid_mac(duid: &[u8]) -> Option<Mac> {
    match duid {
        &[0, 3, _, _, a, b, c, d, e, f] | &[0, 1, _, _, _, _, _, _, a, b, c, d, e, f] => Some(Mac([a, b, c, d, e, f])),
        _ => None,
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
