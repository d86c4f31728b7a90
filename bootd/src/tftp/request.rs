//! What clients of TFTP send, and the packets they get: RFC 1350, options after RFC 2347, 2348, 2349 and 7440.
//!
//! Pure. Reads what comes without trusting it: a request is whole or it is refused; an option with a value that it cannot have, one that is
//! unknown, and one that was there before count as not sent. Nothing is kept of a packet but the name and the options that are understood.

use bytes::{BufMut, Bytes, BytesMut};

/// A packet from a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet {
    /// It wants a file.
    Read(Request),
    /// It has a file; nobody wants that.
    Write,
    /// It has all blocks up to this one.
    Acknowledgement(u16),
    /// It wants no more.
    Error,
}

/// A request for a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The file's name, as it was written.
    pub name: String,
    /// How the content is sent.
    pub mode: Mode,
    /// What else is asked for.
    pub options: Options,
}

/// How content is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As it is.
    Octet,
    /// With the ends of lines of a terminal: LF becomes CR LF, and CR becomes CR NUL.
    Netascii,
}

/// Options of a request, within the bounds of their RFCs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Options {
    /// Bytes a block, 8 to 65464.
    pub blksize: Option<u16>,
    /// The size of the file is asked for.
    pub tsize: bool,
    /// Seconds until something is sent again, 1 to 255.
    pub timeout: Option<u8>,
    /// Blocks that are sent before an acknowledgement, 1 to 65535.
    pub windowsize: Option<u16>,
}

/// What is wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Less than a packet can be.
    TooShort,
    /// It is none of a client that reads.
    Opcode,
    /// No NUL behind the name or the mode.
    Unterminated,
    /// A mode that there is not; `mail` is one.
    Mode,
}

impl Packet {
    /// Whether these bytes begin as a request does, for a file or with one.
    pub fn is_request(bytes: &[u8]) -> bool {
        matches!(bytes, [0, 1 | 2, ..])
    }

    /// Reads a packet. What follows an acknowledgement or an error number means nothing.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let [high, low, rest @ ..] = bytes else {
            return Err(Malformed::TooShort);
        };
        match u16::from_be_bytes([*high, *low]) {
            RRQ => Request::read(rest).map(Self::Read),
            WRQ => Ok(Self::Write),
            ACK => match rest {
                [high, low, ..] => Ok(Self::Acknowledgement(u16::from_be_bytes([*high, *low]))),
                _ => Err(Malformed::TooShort),
            },
            // However it goes on.
            ERROR => Ok(Self::Error),
            _ => Err(Malformed::Opcode),
        }
    }
}

impl Request {
    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let (name, rest) = word(bytes).ok_or(Malformed::Unterminated)?;
        let (mode, rest) = word(rest).ok_or(Malformed::Unterminated)?;
        let mode = match mode {
            mode if mode.eq_ignore_ascii_case(b"octet") => Mode::Octet,
            mode if mode.eq_ignore_ascii_case(b"netascii") => Mode::Netascii,
            _ => return Err(Malformed::Mode),
        };
        Ok(Self {
            // Names of files are UTF-8; what is not names none.
            name: String::from_utf8_lossy(name).into_owned(),
            mode,
            options: Options::read(rest),
        })
    }
}

impl Options {
    fn read(mut bytes: &[u8]) -> Self {
        let mut options = Self::default();
        let mut seen = [false; NAMES.len()];
        while let Some((name, rest)) = word(bytes) {
            // A name without a value is the end of something that was cut off.
            let Some((value, rest)) = word(rest) else { break };
            bytes = rest;
            let Some(at) = NAMES.iter().position(|known| name.eq_ignore_ascii_case(known)) else {
                continue;
            };
            // An option is there once (RFC 2347); a second one is none.
            let Some(seen) = seen.get_mut(at).filter(|seen| !**seen) else {
                continue;
            };
            *seen = true;
            let Some(value) = number(value) else { continue };
            match at {
                0 => options.blksize = u16::try_from(value).ok().filter(|size| BLKSIZES.contains(size)),
                1 => options.tsize = true,
                2 => options.timeout = u8::try_from(value).ok().filter(|seconds| *seconds > 0),
                _ => options.windowsize = u16::try_from(value).ok().filter(|blocks| *blocks > 0),
            }
        }
        options
    }
}

/// The packet that says which options hold; `None` when none does.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Bytes a block.
    pub blksize: Option<u16>,
    /// Bytes of the file.
    pub tsize: Option<u64>,
    /// Seconds until something is sent again.
    pub timeout: Option<u8>,
    /// Blocks that are sent before an acknowledgement.
    pub windowsize: Option<u16>,
}

impl Granted {
    /// The OACK, always in this order.
    pub fn packet(&self) -> Option<Bytes> {
        let values = [
            self.blksize.map(u64::from),
            self.tsize,
            self.timeout.map(u64::from),
            self.windowsize.map(u64::from),
        ];
        if values.iter().all(Option::is_none) {
            return None;
        }
        let mut packet = BytesMut::new();
        packet.put_u16(OACK);
        for (name, value) in NAMES.iter().zip(values) {
            if let Some(value) = value {
                packet.put_slice(name);
                packet.put_u8(0);
                packet.put_slice(value.to_string().as_bytes());
                packet.put_u8(0);
            }
        }
        Some(packet.freeze())
    }
}

/// What goes before the data of a block. Block 65536 is number 0, and so on.
pub fn data_head(block: u64) -> [u8; 4] {
    let [.., high, low] = block.to_be_bytes();
    [0, DATA as u8, high, low]
}

/// An ERROR packet.
pub fn error(code: Code, text: &str) -> Bytes {
    let mut packet = BytesMut::new();
    packet.put_u16(ERROR);
    packet.put_u16(code as u16);
    packet.put_slice(text.as_bytes());
    packet.put_u8(0);
    packet.freeze()
}

/// Numbers of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// See the text.
    Undefined = 0,
    /// There is no such file.
    NotFound = 1,
    /// The name may not be asked for.
    Access = 2,
    /// No client may do that.
    Illegal = 4,
}

impl Malformed {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::TooShort => "too_short",
            Self::Opcode => "opcode",
            Self::Unterminated => "unterminated_request",
            Self::Mode => "mode",
        }
    }
}

/// What stands before the next NUL, and what behind it.
fn word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

/// A decimal number of at most 19 digits, and nothing else.
fn number(value: &[u8]) -> Option<u64> {
    let digits = (1..=19).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(value).ok().filter(|_| digits)?;
    text.parse().ok()
}

/// The options, in the order in which they are granted.
const NAMES: [&[u8]; 4] = [b"blksize", b"tsize", b"timeout", b"windowsize"];
/// RFC 2348.
const BLKSIZES: std::ops::RangeInclusive<u16> = 8..=65464;
const RRQ: u16 = 1;
const WRQ: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Options {
        let text = ["ipxe.efi", "octet"].iter().chain(words);
        let body: String = text.map(|word| format!("{word}\0")).collect();
        match Packet::read(&[b"\0\x01", body.as_bytes()].concat()) {
            Ok(Packet::Read(request)) => request.options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_has_a_name_and_a_mode_that_end() {
        let read = |bytes: &[u8]| Packet::read(bytes).unwrap_err();
        assert_eq!(read(b""), Malformed::TooShort);
        assert_eq!(read(b"\0"), Malformed::TooShort);
        assert_eq!(read(b"\0\x01"), Malformed::Unterminated);
        assert_eq!(read(b"\0\x01ipxe.efi"), Malformed::Unterminated);
        assert_eq!(read(b"\0\x01ipxe.efi\0"), Malformed::Unterminated);
        assert_eq!(read(b"\0\x01ipxe.efi\0octet"), Malformed::Unterminated);
        assert_eq!(read(b"\0\x01ipxe.efi\0mail\0"), Malformed::Mode);
        assert_eq!(read(b"\0\x04\0"), Malformed::TooShort);
        for opcode in [0, 3, 6, 7, 255] {
            assert_eq!(read(&[0, opcode, 0, 0]), Malformed::Opcode, "{opcode}");
        }
        let Ok(Packet::Read(request)) = Packet::read(b"\0\x01a\xffb\0OcTeT\0") else {
            panic!("no request");
        };
        assert_eq!((request.name.as_str(), request.mode), ("a\u{fffd}b", Mode::Octet));
        assert_eq!(Packet::read(b"\0\x04\x01\x02more"), Ok(Packet::Acknowledgement(258)));
        assert_eq!(Packet::read(b"\0\x05"), Ok(Packet::Error));
    }

    #[test]
    fn options_are_known_by_any_case_and_count_once() {
        let all = options(&["BLKSIZE", "1468", "TSize", "0", "timeout", "5", "windowSize", "16"]);
        assert_eq!(
            (all.blksize, all.tsize, all.timeout, all.windowsize),
            (Some(1468), true, Some(5), Some(16))
        );
        let twice = options(&["blksize", "1024", "blksize", "512", "multicast", ""]);
        assert_eq!(twice.blksize, Some(1024));
        // The first one counts, also when it says nothing.
        assert_eq!(options(&["blksize", "x", "blksize", "512"]).blksize, None);
    }

    #[test]
    fn values_that_cannot_be_are_left_out() {
        for (name, value) in [
            ("blksize", "7"),
            ("blksize", "65465"),
            ("blksize", "-1"),
            ("blksize", "+512"),
            ("blksize", " 512"),
            ("blksize", "0x200"),
            ("blksize", ""),
            ("blksize", "99999999999999999999999999"),
            ("tsize", "-1"),
            ("tsize", "?"),
            ("timeout", "0"),
            ("timeout", "256"),
            ("windowsize", "0"),
            ("windowsize", "65536"),
        ] {
            assert_eq!(options(&[name, value]), Options::default(), "{name} {value}");
        }
        assert_eq!(options(&["blksize"]), Options::default());
        assert_eq!(options(&["windowsize", "65535"]).windowsize, Some(65535));
        assert_eq!(options(&["blksize", "8"]).blksize, Some(8));
    }

    #[test]
    fn what_is_granted_is_told_in_one_order() {
        let all = Granted {
            windowsize: Some(16),
            timeout: Some(5),
            tsize: Some(70_000),
            blksize: Some(1468),
        };
        let packet = all.packet().unwrap();
        assert_eq!(
            &packet[..],
            b"\0\x06blksize\x001468\0tsize\x0070000\0timeout\x005\0windowsize\x0016\0"
        );
        assert_eq!(Granted::default().packet(), None);
        assert_eq!(&error(Code::Access, "no")[..], b"\0\x05\0\x02no\0");
        assert_eq!(data_head(0x1_0203), [0, 3, 2, 3]);
    }
}
