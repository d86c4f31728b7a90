//! What a client sent, read by one function that cannot be surprised.
//!
//! [`parse`] checks length, cookie, operation and the length of the hardware address before it looks at anything else, then takes the
//! options one by one. A packet is read completely or refused with its reason. What is read is a view of the packet: nothing is copied, but
//! for a value that comes in several parts. Nothing here panics, whatever the bytes; memory is bounded by the packet's own size.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv4Addr;

use bootd_sdk::mac::Mac;
use dhcproto::v4::{MessageType, OptionCode};

use super::boot::arch_of;
use super::options::{self, AUTOCONFIGURE, Ends, IPXE, Truncated};
use crate::config::Arch;
use crate::dhcp::rules::Asks;

/// The fixed part of a packet, with the magic cookie.
pub const HEADER: usize = 240;
/// What the options begin with (RFC 2131).
pub const MAGIC_COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Sub-options of option 82: the link of the client, who sent it, the server that it is to see.
pub const CIRCUIT_ID: u8 = 1;
/// See [`CIRCUIT_ID`].
pub const REMOTE_ID: u8 = 2;
const LINK_SELECTION: u8 = 5;
const SERVER_OVERRIDE: u8 = 11;
const RELAY_PORT: u8 = 19;
/// Where servers and relays listen.
pub const SERVER_PORT: u16 = 67;
/// How option 60 of UEFI HTTP Boot begins, and what its answer must hold.
pub const HTTP_CLIENT: &[u8] = b"HTTPClient";
/// The hardware type of IP over InfiniBand.
pub const INFINIBAND: u8 = 32;
/// The broadcast bit of `flags`.
pub const BROADCAST: u16 = 0x8000;

/// What a message wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Who has an address for me?
    Discover,
    /// I want this one, or to keep it.
    Request,
    /// Somebody uses it already.
    Decline,
    /// I do not need it any more.
    Release,
    /// I have an address; tell me the rest.
    Inform,
    /// Nothing that a client says to a server.
    Other(u8),
}

impl Kind {
    /// The value of option 53.
    pub fn number(self) -> u8 {
        match self {
            Self::Discover => 1,
            Self::Request => 3,
            Self::Decline => 4,
            Self::Release => 7,
            Self::Inform => 8,
            Self::Other(number) => number,
        }
    }
}

/// A packet from a client or its relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Option 53; BOOTP clients have none.
    pub kind: Option<Kind>,
    /// Hardware type.
    pub htype: u8,
    /// Bytes of `chaddr` that count, at most 16.
    pub hlen: u8,
    /// The transaction.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// Flags as they came.
    pub flags: u16,
    /// The client's own address, when it has one.
    pub ciaddr: Ipv4Addr,
    /// The server that the client means, normally zero.
    pub siaddr: Ipv4Addr,
    /// The relay.
    pub giaddr: Ipv4Addr,
    /// The port at which it listens, [`SERVER_PORT`] unless [`Request::came_from_port`] found another.
    pub relay_port: u16,
    /// The hardware address and what follows it.
    pub chaddr: [u8; 16],
    /// The hardware address, when it has 6 bytes.
    pub mac: Option<Mac>,
    /// Option 55: what the client wants to know. Absent is not the same as empty.
    pub wanted: Option<Cow<'a, [u8]>>,
    /// The first value of option 93.
    pub arch: Option<u16>,
    /// Option 93 was there and too short for a value.
    pub arch_too_short: bool,
    /// The client is iPXE: option 77 says so, plain or in the form of RFC 3004, or option 175 is there.
    pub ipxe: bool,
    /// Option 60.
    pub vendor_class: Cow<'a, [u8]>,
    /// Option 77 as received; see [`Request::user_classes`].
    pub user_class: Cow<'a, [u8]>,
    /// Option 97 as received.
    pub machine_id: Option<Cow<'a, [u8]>>,
    /// Option 116 is there: the client asks whether it may choose an address itself (RFC 2563).
    pub asks_autoconfigure: bool,
    /// Option 61 as received.
    pub client_id: Option<Cow<'a, [u8]>>,
    /// Option 82 as received.
    pub relay_agent: Option<Cow<'a, [u8]>>,
    /// Option 50.
    pub requested_ip: Option<Ipv4Addr>,
    /// Option 54.
    pub server_id: Option<Ipv4Addr>,
    /// Option 12 as received; see [`Request::host_name`].
    pub name: Option<Cow<'a, [u8]>>,
}

/// Why a packet cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPacket {
    /// Not even a header.
    #[error("{0} bytes are too few for a DHCP packet")]
    TooShort(usize),
    /// Not DHCP.
    #[error("no magic cookie before the options")]
    NoMagicCookie,
    /// A reply, or nothing known.
    #[error("operation {0} is not a request")]
    NotARequest(u8),
    /// The hardware address does not fit its field.
    #[error("a hardware address of {0} bytes")]
    HardwareAddressTooLong(u8),
    /// An option's length points behind the end.
    #[error("option {0} is truncated")]
    TruncatedOption(u8),
    /// The options do not end.
    #[error("the options have no End")]
    NoEnd,
    /// An option's length is impossible for its kind.
    #[error("option {0} has {1} bytes")]
    BadOption(u8, usize),
    /// An option that a reply repeats is longer than one option can be: replies are not to be made large by who asks.
    #[error("option {0} has {1} bytes, which a reply would repeat")]
    EchoTooLong(u8, usize),
}

impl BadPacket {
    /// The metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooShort(_) => "too_short",
            Self::NoMagicCookie => "no_magic_cookie",
            Self::NotARequest(_) => "not_a_request",
            Self::HardwareAddressTooLong(_) => "hlen_over_16",
            Self::TruncatedOption(_) => "truncated_option",
            Self::NoEnd => "no_end_option",
            Self::BadOption(..) => "bad_option_length",
            Self::EchoTooLong(..) => "echoed_option_over_255",
        }
    }
}

/// Reads a packet.
pub fn parse(packet: &[u8]) -> Result<Request<'_>, BadPacket> {
    let (head, area) = packet
        .split_first_chunk::<HEADER>()
        .ok_or(BadPacket::TooShort(packet.len()))?;
    if head[236..] != MAGIC_COOKIE {
        return Err(BadPacket::NoMagicCookie);
    }
    if head[0] != 1 {
        return Err(BadPacket::NotARequest(head[0]));
    }
    let hlen = head[2];
    // InfiniBand's have 20 bytes; clients should say 0 (RFC 4390), and not all do.
    if hlen > 16 && (head[1], hlen) != (INFINIBAND, 20) {
        return Err(BadPacket::HardwareAddressTooLong(hlen));
    }
    let read = Read::all(head, area)?;
    let chaddr: [u8; 16] = std::array::from_fn(|i| head[28 + i]);
    let [a, b, c, d, e, f, ..] = chaddr;
    let arch = read.arch.as_deref();
    Ok(Request {
        kind: kind(read.kind.as_deref())?,
        htype: head[1],
        hlen,
        xid: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
        secs: u16::from_be_bytes([head[8], head[9]]),
        flags: u16::from_be_bytes([head[10], head[11]]),
        ciaddr: address(head, 12),
        siaddr: address(head, 20),
        giaddr: address(head, 24),
        relay_port: SERVER_PORT,
        chaddr,
        mac: (hlen == 6).then_some(Mac([a, b, c, d, e, f])),
        arch: arch
            .and_then(|value| value.first_chunk())
            .map(|first| u16::from_be_bytes(*first)),
        arch_too_short: arch.is_some_and(|value| value.len() < 2),
        ipxe: read.ipxe.is_some() || read.user_class.as_deref().is_some_and(says_ipxe),
        requested_ip: option_address(OptionCode::RequestedIpAddress, read.requested_ip.as_deref())?,
        server_id: option_address(OptionCode::ServerIdentifier, read.server_id.as_deref())?,
        name: read.name,
        vendor_class: read.vendor_class.unwrap_or_default(),
        user_class: read.user_class.unwrap_or_default(),
        machine_id: echoed(OptionCode::ClientMachineIdentifier, read.machine_id)?,
        asks_autoconfigure: read.autoconfigure.is_some(),
        wanted: read.wanted,
        client_id: echoed(OptionCode::ClientIdentifier, read.client_id)?,
        relay_agent: echoed(OptionCode::RelayAgentInformation, read.relay_agent)?,
    })
}

impl Request<'_> {
    /// The client wants this option: it lists it, or it lists nothing at all.
    pub fn wants(&self, code: OptionCode) -> bool {
        self.wanted.as_ref().is_none_or(|list| list.contains(&code.into()))
    }

    /// The client lists this option.
    pub fn lists(&self, code: OptionCode) -> bool {
        self.wanted.as_ref().is_some_and(|list| list.contains(&code.into()))
    }

    /// The client is UEFI HTTP Boot, as option 60 says.
    pub fn boots_by_http(&self) -> bool {
        self.vendor_class.starts_with(HTTP_CLIENT)
    }

    /// The client's own name, which goes to logs, the store and a terminal: at most 64 characters, none of which does anything there.
    pub fn host_name(&self) -> Option<String> {
        host_name(&String::from_utf8_lossy(self.name.as_deref()?))
    }

    /// By whom limits and the list of the ignored go: the first six bytes of the hardware address whatever length it claims, else those of a
    /// client identifier that holds one, else something made of that identifier.
    pub fn sender(&self) -> Mac {
        let [a, b, c, d, e, f, ..] = self.chaddr;
        let id = self.client_id.as_deref().unwrap_or_default();
        match (self.hlen, id) {
            (0, &[1, a, b, c, d, e, f]) => Mac([a, b, c, d, e, f]),
            (0, id) => {
                // FNV-1a: that of two identifiers of which one is ignored the other has the same is very unlikely.
                let mix = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
                let [_, _, a, b, c, d, e, f] = id.iter().fold(0xcbf2_9ce4_8422_2325, mix).to_be_bytes();
                Mac([a, b, c, d, e, f])
            }
            _ => Mac([a, b, c, d, e, f]),
        }
    }

    /// The address that the client uses already. Who asks for an address has none, whatever the packet says.
    pub fn used_ip(&self) -> Option<Ipv4Addr> {
        let has = !self.ciaddr.is_unspecified() && self.kind != Some(Kind::Discover);
        has.then_some(self.ciaddr)
    }

    /// An address of the link that the client is on, when a relay says so: sub-option 5 of option 82 (RFC 3527), else `giaddr`.
    pub fn relayed_from(&self) -> Option<Ipv4Addr> {
        if self.giaddr.is_unspecified() {
            return None;
        }
        Some(self.relayed_address(LINK_SELECTION).unwrap_or(self.giaddr))
    }

    /// The server identifier that the relay wants its clients to see: sub-option 11 of option 82 (RFC 5107).
    pub fn server_override(&self) -> Option<Ipv4Addr> {
        if self.giaddr.is_unspecified() {
            return None;
        }
        self.relayed_address(SERVER_OVERRIDE)
    }

    /// The packet came from this UDP port: its relay listens there if it says so, by sub-option 19 of option 82 (RFC 8357).
    pub fn came_from_port(&mut self, port: u16) {
        if !self.giaddr.is_unspecified() && self.relay_option(RELAY_PORT).is_some_and(<[u8]>::is_empty) {
            self.relay_port = port;
        }
    }

    /// A sub-option of option 82.
    pub fn relay_option(&self, wanted: u8) -> Option<&[u8]> {
        let mut parts = self.relay_agent.as_deref().unwrap_or_default();
        while let [code, length, rest @ ..] = parts {
            let (value, next) = rest.split_at_checked(usize::from(*length))?;
            if *code == wanted {
                return Some(value);
            }
            parts = next;
        }
        None
    }

    fn relayed_address(&self, code: u8) -> Option<Ipv4Addr> {
        let &[a, b, c, d] = self.relay_option(code)? else {
            return None;
        };
        Some(Ipv4Addr::new(a, b, c, d))
    }

    /// The user classes: option 77 as it is, then what it holds in the form of RFC 3004, if it has that.
    pub fn user_classes(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.user_class;
        let parts = std::iter::from_fn(move || {
            let (length, after) = rest.split_first()?;
            let (part, next) = after.split_at_checked(usize::from(*length))?;
            rest = next;
            Some(part)
        });
        let whole = (!self.user_class.is_empty()).then_some(&*self.user_class);
        whole.into_iter().chain(parts)
    }
}

impl Asks for Request<'_> {
    fn arch(&self, strict: bool) -> Option<Arch> {
        self.arch.and_then(|code| arch_of(code, self.boots_by_http(), strict))
    }

    fn vendor_classes(&self) -> impl Iterator<Item = &[u8]> {
        [&*self.vendor_class].into_iter()
    }

    fn user_classes(&self) -> impl Iterator<Item = &[u8]> {
        Request::user_classes(self)
    }

    fn circuit_id(&self) -> Option<&[u8]> {
        self.relay_option(CIRCUIT_ID)
    }

    fn remote_id(&self) -> Option<&[u8]> {
        self.relay_option(REMOTE_ID)
    }
}

/// Who it is, for logs: the hardware address in hexadecimal, whatever its length.
impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.chaddr.iter().take(usize::from(self.hlen)).enumerate() {
            write!(f, "{}{byte:02x}", if at == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// A name that a client gives itself, which goes to logs, the store and a terminal: at most 64 characters, none of which does anything there.
pub(super) fn host_name(text: &str) -> Option<String> {
    let is_shown = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let text: String = text.chars().filter(is_shown).take(64).collect();
    (!text.is_empty()).then_some(text)
}

/// The values of the options that matter here.
#[derive(Default)]
struct Read<'a> {
    name: Option<Cow<'a, [u8]>>,
    requested_ip: Option<Cow<'a, [u8]>>,
    overload: Option<Cow<'a, [u8]>>,
    kind: Option<Cow<'a, [u8]>>,
    server_id: Option<Cow<'a, [u8]>>,
    wanted: Option<Cow<'a, [u8]>>,
    vendor_class: Option<Cow<'a, [u8]>>,
    client_id: Option<Cow<'a, [u8]>>,
    user_class: Option<Cow<'a, [u8]>>,
    relay_agent: Option<Cow<'a, [u8]>>,
    arch: Option<Cow<'a, [u8]>>,
    ipxe: Option<Cow<'a, [u8]>>,
    machine_id: Option<Cow<'a, [u8]>>,
    autoconfigure: Option<Cow<'a, [u8]>>,
}

impl<'a> Read<'a> {
    /// All options, those in `file` and `sname` too when option 52 says that they hold some.
    fn all(head: &'a [u8; HEADER], area: &'a [u8]) -> Result<Self, BadPacket> {
        let mut read = Self::default();
        if read.area(area)? == Ends::WithoutEnd {
            return Err(BadPacket::NoEnd);
        }
        let overload = match read.overload.as_deref() {
            None => 0,
            Some(&[fields]) => fields,
            Some(value) => return Err(BadPacket::BadOption(OptionCode::OptionOverload.into(), value.len())),
        };
        if overload & 1 != 0 {
            read.area(&head[108..236])?;
        }
        if overload & 2 != 0 {
            read.area(&head[44..108])?;
        }
        Ok(read)
    }

    fn area(&mut self, area: &'a [u8]) -> Result<Ends, BadPacket> {
        let read = options::read(area, |code, part| {
            let value = match OptionCode::from(code) {
                OptionCode::Hostname => &mut self.name,
                OptionCode::RequestedIpAddress => &mut self.requested_ip,
                OptionCode::OptionOverload => &mut self.overload,
                OptionCode::MessageType => &mut self.kind,
                OptionCode::ServerIdentifier => &mut self.server_id,
                OptionCode::ParameterRequestList => &mut self.wanted,
                OptionCode::ClassIdentifier => &mut self.vendor_class,
                OptionCode::ClientIdentifier => &mut self.client_id,
                OptionCode::UserClass => &mut self.user_class,
                OptionCode::RelayAgentInformation => &mut self.relay_agent,
                OptionCode::ClientSystemArchitecture => &mut self.arch,
                IPXE => &mut self.ipxe,
                OptionCode::ClientMachineIdentifier => &mut self.machine_id,
                AUTOCONFIGURE => &mut self.autoconfigure,
                _ => return,
            };
            options::add(value, part);
        });
        read.map_err(|Truncated(code)| BadPacket::TruncatedOption(code))
    }
}

fn kind(value: Option<&[u8]>) -> Result<Option<Kind>, BadPacket> {
    match value {
        None => Ok(None),
        Some(&[kind]) => Ok(Some(match MessageType::from(kind) {
            MessageType::Discover => Kind::Discover,
            MessageType::Request => Kind::Request,
            MessageType::Decline => Kind::Decline,
            MessageType::Release => Kind::Release,
            MessageType::Inform => Kind::Inform,
            _ => Kind::Other(kind),
        })),
        Some(value) => Err(BadPacket::BadOption(OptionCode::MessageType.into(), value.len())),
    }
}

fn address(head: &[u8; HEADER], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3])
}

/// An option that decides what the client means; with another length than 4 it means nothing, and guessing would be worse.
fn option_address(code: OptionCode, value: Option<&[u8]>) -> Result<Option<Ipv4Addr>, BadPacket> {
    match value {
        None => Ok(None),
        Some(&[a, b, c, d]) => Ok(Some(Ipv4Addr::new(a, b, c, d))),
        Some(value) => Err(BadPacket::BadOption(code.into(), value.len())),
    }
}

/// An option that goes back as it came.
fn echoed(code: OptionCode, value: Option<Cow<'_, [u8]>>) -> Result<Option<Cow<'_, [u8]>>, BadPacket> {
    match value {
        Some(value) if value.len() > usize::from(u8::MAX) => Err(BadPacket::EchoTooLong(code.into(), value.len())),
        value => Ok(value),
    }
}

/// A user class is plain text, as iPXE sends it, or a list of parts that each begin with their length (RFC 3004).
fn says_ipxe(value: &[u8]) -> bool {
    if value == b"iPXE" {
        return true;
    }
    let mut parts = value;
    while let [length, rest @ ..] = parts {
        let Some((part, next)) = rest.split_at_checked(usize::from(*length)) else {
            return false;
        };
        if part == b"iPXE" {
            return true;
        }
        parts = next;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::testing::Client;
    use super::*;

    #[test]
    fn a_discover_is_read_completely() {
        let packet = Client::new(1)
            .option(93, &[0, 7])
            .option(55, &[1, 3, 66])
            .option(60, b"PXEClient:Arch:00007")
            .option(61, &[0, 1, 2])
            .option(82, &[1, 1, 9])
            .option(12, b"a\x1bb")
            .discover();
        let request = parse(&packet).unwrap();
        assert_eq!(request.kind, Some(Kind::Discover));
        assert_eq!(request.mac, Some(Mac([2, 0, 0, 0, 0, 1])));
        assert_eq!(request.arch, Some(7));
        assert!(request.lists(OptionCode::TFTPServerName) && !request.wants(OptionCode::DomainNameServer));
        assert_eq!(request.client_id.as_deref(), Some(&[0, 1, 2][..]));
        assert_eq!(request.relay_agent.as_deref(), Some(&[1, 1, 9][..]));
        assert_eq!(request.host_name().as_deref(), Some("ab"));
        assert_eq!(request.to_string(), "02:00:00:00:00:01");
    }

    #[test]
    fn every_truncation_of_a_packet_is_refused() {
        let packet = Client::new(1).option(93, &[0, 7]).discover();
        let end = packet.iter().rposition(|&byte| byte == 255).unwrap();
        for length in 0..=end {
            let refused = parse(&packet[..length]).unwrap_err();
            match length {
                ..HEADER => assert_eq!(refused, BadPacket::TooShort(length)),
                _ => assert!(matches!(refused, BadPacket::TruncatedOption(_) | BadPacket::NoEnd)),
            }
        }
        assert!(parse(&packet[..=end]).is_ok());
    }

    #[test]
    fn each_broken_field_has_its_own_reason() {
        let good = Client::new(1).discover();
        let with = |at: usize, byte: u8| {
            let mut packet = good.clone();
            packet[at] = byte;
            parse(&packet).unwrap_err()
        };
        assert_eq!(with(236, 0), BadPacket::NoMagicCookie);
        assert_eq!(with(0, 2), BadPacket::NotARequest(2));
        assert_eq!(with(2, 20), BadPacket::HardwareAddressTooLong(20));
        assert_eq!(with(2, 17).label(), "hlen_over_16");
        let of = |client: Client| parse(&client.discover()).unwrap_err();
        assert_eq!(of(Client::new(1).option(50, &[1, 2, 3])), BadPacket::BadOption(50, 3));
        assert_eq!(of(Client::new(1).option(54, &[1; 8])), BadPacket::BadOption(54, 8));
        assert_eq!(of(Client::new(1).option(53, &[1])), BadPacket::BadOption(53, 2));
        assert_eq!(of(Client::new(1).raw(&[43, 200, 1])), BadPacket::TruncatedOption(43));
        for code in [61, 82] {
            let whole = Client::new(1).option(code, &[7; 255]);
            assert!(parse(&whole.clone().discover()).is_ok());
            assert_eq!(of(whole.option(code, &[7])), BadPacket::EchoTooLong(code, 256));
        }
    }

    #[test]
    fn an_architecture_of_no_or_one_byte_is_absent() {
        for value in [&[][..], &[0]] {
            let packet = Client::new(1).option(93, value).discover();
            let request = parse(&packet).unwrap();
            assert_eq!((request.arch, request.arch_too_short), (None, true));
        }
        let packet = Client::new(1).option(93, &[0, 11, 0, 7]).discover();
        let request = parse(&packet).unwrap();
        assert_eq!((request.arch, request.arch_too_short), (Some(11), false));
    }

    #[test]
    fn limits_go_by_the_hardware_address_whatever_length_it_claims() {
        let sender = |hlen: u8, id: &[u8]| {
            let mut packet = Client::new(1).option(61, id).discover();
            packet[2] = hlen;
            parse(&packet).unwrap().sender()
        };
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        for hlen in [1, 6, 7, 16] {
            assert_eq!(sender(hlen, &[1, 9, 9, 9, 9, 9, 9]), mac);
        }
        assert_eq!(sender(0, &[1, 2, 0, 0, 0, 0, 1]), mac);
        assert_ne!(sender(0, &[255, 1]), sender(0, &[255, 2]));
    }

    #[test]
    fn a_hardware_address_of_another_length_is_not_a_mac() {
        for hlen in [0, 1, 5, 7, 16] {
            let mut packet = Client::new(1).discover();
            packet[2] = hlen;
            assert_eq!(parse(&packet).unwrap().mac, None);
        }
    }

    #[test]
    fn ipxe_is_recognised_in_both_forms_and_by_its_own_option() {
        for (value, expected) in [
            (&b"iPXE"[..], true),
            (b"\x04iPXE", true),
            (b"\x03abc\x04iPXE", true),
            (b"iPXE2", false),
            (b"\x09iPXE", false),
            (b"", false),
        ] {
            let packet = Client::new(1).option(77, value).discover();
            let request = parse(&packet).unwrap();
            assert_eq!(request.ipxe, expected, "{value:?}");
        }
        assert!(parse(&Client::new(1).option(175, &[1]).discover()).unwrap().ipxe);
    }

    #[test]
    fn options_in_the_file_and_name_fields_are_read() {
        let mut packet = Client::new(1).option(52, &[3]).option(60, b"ab").discover();
        packet[108..113].copy_from_slice(&[60, 2, b'c', b'd', 255]);
        packet[44..48].copy_from_slice(&[60, 1, b'e', 255]);
        assert_eq!(*parse(&packet).unwrap().vendor_class, *b"abcde");
        packet[45] = 200;
        assert_eq!(parse(&packet), Err(BadPacket::TruncatedOption(60)));
    }

    #[test]
    fn link_selection_says_where_a_relayed_client_is() {
        let relayed = |agent: &[u8]| {
            let packet = Client::new(1).giaddr([10, 0, 0, 1]).option(82, agent).discover();
            parse(&packet).unwrap().relayed_from()
        };
        assert_eq!(relayed(&[1, 1, 7]), Some([10, 0, 0, 1].into()));
        assert_eq!(relayed(&[1, 1, 7, 5, 4, 10, 9, 0, 0]), Some([10, 9, 0, 0].into()));
        assert_eq!(relayed(&[5, 9, 1]), Some([10, 0, 0, 1].into()));
        assert_eq!(parse(&Client::new(1).discover()).unwrap().relayed_from(), None);
    }

    #[test]
    fn a_relay_may_listen_at_the_port_that_it_sends_from() {
        let heard_at = |giaddr: [u8; 4], agent: &[u8]| {
            let packet = Client::new(1).giaddr(giaddr).option(82, agent).discover();
            let mut request = parse(&packet).unwrap();
            request.came_from_port(4067);
            request.relay_port
        };
        assert_eq!(heard_at([10, 0, 0, 1], &[1, 1, 7, 19, 0]), 4067);
        assert_eq!(heard_at([10, 0, 0, 1], &[1, 1, 7]), SERVER_PORT);
        assert_eq!(heard_at([10, 0, 0, 1], &[19, 1, 7]), SERVER_PORT);
        assert_eq!(heard_at([0; 4], &[19, 0]), SERVER_PORT);
    }
}
