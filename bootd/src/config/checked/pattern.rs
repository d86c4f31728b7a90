//! Patterns: names that are made of a node, and texts that clients and nodes are recognised by.
//!
//! Both are read once and only compared or written afterwards, without memory of their own. Pure.

use std::fmt;
use std::str::FromStr;

/// A host name with places for a node's number and xname: `{04d}`, `{4d}`, `{id}` (contract 1.5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The number, with zeros in front to this width.
    Number(usize),
    Id,
}

/// Why a text is no host name pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// There is nothing in it.
    #[error("an empty name")]
    Empty,
    /// A character that host names do not have.
    #[error("'{0}' is not a letter, digit, '-', '_' or '.', and no {{04d}} or {{id}}")]
    Character(char),
    /// Longer than a host name.
    #[error("longer than 63 characters")]
    TooLong,
}

impl NamePattern {
    /// `nid{04d}`
    pub fn nid4() -> Self {
        Self(vec![Part::Text("nid".into()), Part::Number(4)])
    }

    /// Whether it needs the node's number.
    pub fn needs_number(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Number(_)))
    }

    /// Whether it needs the xname.
    pub fn needs_id(&self) -> bool {
        self.0.contains(&Part::Id)
    }

    /// Writes the name.
    pub fn write(&self, number: u64, id: &str, to: &mut dyn fmt::Write) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => to.write_str(text),
            Part::Number(width) => write!(to, "{number:0width$}"),
            Part::Id => to.write_str(id),
        })
    }
}

impl FromStr for NamePattern {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some((part, after)) = place(rest) {
                parts.push(part);
                rest = after;
                continue;
            }
            let next = rest.char_indices().skip(1).find(|(_, c)| *c == '{');
            let end = next.map_or(rest.len(), |(at, _)| at);
            let (literal, after) = rest.split_at(end);
            if let Some(c) = literal
                .chars()
                .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '.' | '_'))
            {
                return Err(BadName::Character(c));
            }
            parts.push(Part::Text(literal.into()));
            rest = after;
        }
        match text.len() {
            0 => Err(BadName::Empty),
            64.. => Err(BadName::TooLong),
            _ => Ok(Self(parts)),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Number(width) => write!(f, "{{{width:02}d}}"),
            Part::Id => f.write_str("{id}"),
        })
    }
}

/// A place at the beginning of a text, and what follows it.
fn place(text: &str) -> Option<(Part, &str)> {
    let (inside, after) = text.strip_prefix('{')?.split_once('}')?;
    if inside == "id" {
        return Some((Part::Id, after));
    }
    let width: usize = inside.strip_suffix('d')?.parse().ok()?;
    (width <= 20).then_some((Part::Number(width), after))
}

/// What a text or some bytes must look like: `*` stands for anything, and in xnames `[0-3,7]` for one of these numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    parts: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Bytes(Vec<u8>),
    Anything,
    /// One of these numbers, in decimal.
    Numbers(Vec<(u64, u64)>),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadGlob {
    /// There is nothing in it.
    #[error("an empty pattern")]
    Empty,
    /// What follows `0x` is not hexadecimal.
    #[error("0x is not followed by bytes in hexadecimal")]
    NotHex,
    /// Not a list of numbers.
    #[error("brackets hold numbers and ranges of them, such as [0-3,7]")]
    NotNumbers,
}

impl Glob {
    /// A text with `*`.
    pub fn text(text: &str) -> Result<Self, BadGlob> {
        Self::of(text, false)
    }

    /// An xname, with `*` and numbers in brackets.
    pub fn xname(text: &str) -> Result<Self, BadGlob> {
        Self::of(text, true)
    }

    /// A text with `*`, or bytes as `0x` and hexadecimal.
    pub fn bytes(text: &str) -> Result<Self, BadGlob> {
        let Some(hex) = text.strip_prefix("0x") else {
            return Self::text(text);
        };
        let bytes = hex_bytes(hex)
            .filter(|bytes| !bytes.is_empty())
            .ok_or(BadGlob::NotHex)?;
        let parts = vec![Piece::Bytes(bytes)];
        let text = text.into();
        Ok(Self { text, parts })
    }

    fn of(text: &str, brackets: bool) -> Result<Self, BadGlob> {
        if text.is_empty() {
            return Err(BadGlob::Empty);
        }
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, after @ ..] = rest {
            rest = after;
            let piece = match first {
                b'*' => Piece::Anything,
                b'[' if brackets => {
                    let end = after.iter().position(|c| *c == b']').ok_or(BadGlob::NotNumbers)?;
                    rest = &after[end + 1..];
                    Piece::Numbers(numbers(&after[..end]).ok_or(BadGlob::NotNumbers)?)
                }
                byte => {
                    literal.push(*byte);
                    continue;
                }
            };
            if !literal.is_empty() {
                parts.push(Piece::Bytes(std::mem::take(&mut literal)));
            }
            parts.push(piece);
        }
        if !literal.is_empty() {
            parts.push(Piece::Bytes(literal));
        }
        let text = text.into();
        Ok(Self { text, parts })
    }

    /// Whether all of these bytes fit.
    pub fn fits(&self, bytes: &[u8]) -> bool {
        fits(&self.parts, bytes)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Tries the shortest text for each `*`. Only the last `*` is ever tried anew, so the time is bounded by the product of the lengths.
fn fits(parts: &[Piece], bytes: &[u8]) -> bool {
    let (mut at, mut rest) = (0, bytes);
    let mut again: Option<(usize, &[u8])> = None;
    loop {
        let next = match parts.get(at) {
            Some(Piece::Anything) => {
                again = Some((at + 1, rest));
                Some(rest)
            }
            Some(Piece::Bytes(literal)) => rest.strip_prefix(literal.as_slice()),
            Some(Piece::Numbers(ranges)) => number(ranges, rest),
            None if rest.is_empty() => return true,
            None => None,
        };
        match (next, again) {
            (Some(next), _) => {
                rest = next;
                at += 1;
            }
            (None, Some((part, [_, shorter @ ..]))) => {
                again = Some((part, shorter));
                (at, rest) = (part, shorter);
            }
            (None, _) => return false,
        }
    }
}

/// What follows a number of these.
fn number<'a>(ranges: &[(u64, u64)], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let digits = bytes.iter().take_while(|c| c.is_ascii_digit()).count();
    let (digits, rest) = bytes.split_at(digits);
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    ranges
        .iter()
        .any(|&(first, last)| (first..=last).contains(&number))
        .then_some(rest)
}

fn numbers(list: &[u8]) -> Option<Vec<(u64, u64)>> {
    let list = std::str::from_utf8(list).ok()?;
    list.split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (first <= last).then_some((first, last))
        })
        .collect()
}

/// The bytes that hexadecimal text means; `:`, `-` and spaces may stand between them.
pub fn hex_bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = hex
        .chars()
        .filter(|c| !matches!(c, ':' | '-' | ' '))
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect();
    let (pairs, left) = digits.as_deref()?.as_chunks::<2>();
    left.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(pattern: &str) -> String {
        let mut text = String::new();
        let pattern: NamePattern = pattern.parse().unwrap();
        pattern.write(7, "x1000c0s0b0n0", &mut text).unwrap();
        text
    }

    #[test]
    fn names_hold_the_number_and_the_xname() {
        assert_eq!(name("nid{04d}"), "nid0007");
        assert_eq!(name("nid{4d}"), "nid0007");
        assert_eq!(name("{1d}-{id}"), "7-x1000c0s0b0n0");
        assert_eq!(name("login"), "login");
        assert_eq!(name("n{010d}x"), "n0000000007x");
        for (text, bad) in [
            ("", BadName::Empty),
            ("nid{x}", BadName::Character('{')),
            ("nid{04d", BadName::Character('{')),
            ("a b", BadName::Character(' ')),
        ] {
            assert_eq!(text.parse::<NamePattern>(), Err(bad), "{text}");
        }
    }

    #[test]
    fn a_glob_fits_as_a_shell_s_would() {
        let fits = |pattern: &str, text: &str| Glob::text(pattern).unwrap().fits(text.as_bytes());
        assert!(fits("vlan*", "vlan7") && fits("*", "") && fits("a*b*c", "aXbYbc") && fits("eth0", "eth0"));
        assert!(!fits("vlan*", "xvlan7") && !fits("a*b*c", "aXbYb") && !fits("eth0", "eth01"));
        assert!(Glob::bytes("0x00ff").unwrap().fits(&[0, 255]));
        assert!(!Glob::bytes("0x00ff").unwrap().fits(b"0x00ff"));
        assert_eq!(Glob::bytes("0x0"), Err(BadGlob::NotHex));
    }

    #[test]
    fn numbers_in_brackets_are_one_of_them() {
        let fits = |pattern: &str, text: &str| Glob::xname(pattern).unwrap().fits(text.as_bytes());
        assert!(fits("x1000c0s[0-3]b0n0", "x1000c0s3b0n0") && fits("x1000c0s[0-3,10]b0n*", "x1000c0s10b0n1"));
        assert!(!fits("x1000c0s[0-3]b0n0", "x1000c0s4b0n0") && !fits("x1000c0s[0-3]b0n0", "x1000c0s31b0n0"));
        for bad in ["x[", "x[a]", "x[3-1]", "x[]"] {
            assert_eq!(Glob::xname(bad), Err(BadGlob::NotNumbers), "{bad}");
        }
    }
}
