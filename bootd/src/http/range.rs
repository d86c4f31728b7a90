//! Ranges and preconditions of HTTP (RFC 9110), as arithmetic on header values: no body, no socket, no clock.
//!
//! A server may always answer a range request with the whole; so whatever is not one well-formed range of bytes is [`Spec::Whole`]. Tags
//! are compared as the RFC wants: strongly for `If-Match` and `If-Range`, weakly for `If-None-Match`.

use std::ops::Range;
use std::time::SystemTime;

use hyper::HeaderMap;
use hyper::header::{HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};

/// What a `Range` header asks for, before the length is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spec {
    /// Everything.
    Whole,
    /// First byte and last byte, both included; the last may lie behind the end.
    FromTo(u64, u64),
    /// From this byte to the end.
    From(u64),
    /// So many bytes at the end.
    Last(u64),
}

/// What of a body of known length is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slice {
    /// Everything: 200.
    Whole,
    /// These bytes, at least one: 206.
    Part(Range<u64>),
    /// Nothing that exists: 416.
    Unsatisfiable,
}

/// What the preconditions of a GET or HEAD say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Answer.
    Met,
    /// 304: the client has it.
    NotModified,
    /// 412: it is not what the client wants.
    Failed,
}

/// What preconditions are compared with.
#[derive(Debug, Clone, Copy)]
pub struct Version<'a> {
    /// The entity tag, with its quotes, `W/"…"` when it is weak.
    pub etag: Option<&'a str>,
    /// The date of the last change.
    pub modified: Option<SystemTime>,
}

impl Spec {
    /// What the headers ask for.
    pub fn of(headers: &HeaderMap) -> Self {
        one(headers, RANGE).map_or(Self::Whole, Self::parse)
    }

    /// Reads the value of a `Range` header.
    pub fn parse(value: &str) -> Self {
        let Some((unit, range)) = value.split_once('=') else {
            return Self::Whole;
        };
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return Self::Whole;
        }
        let Some((first, last)) = range.trim().split_once('-') else {
            return Self::Whole;
        };
        match (number(first), number(last)) {
            (Number::Is(first), Number::Is(last)) if first <= last => Self::FromTo(first, last),
            (Number::Is(first), Number::Absent) => Self::From(first),
            (Number::Absent, Number::Is(count)) => Self::Last(count),
            _ => Self::Whole,
        }
    }

    /// What that is of a body of this length.
    pub fn of_length(self, len: u64) -> Slice {
        match self {
            Self::Whole => Slice::Whole,
            Self::FromTo(first, _) | Self::From(first) if first >= len => Slice::Unsatisfiable,
            Self::FromTo(first, last) => Slice::Part(first..last.saturating_add(1).min(len)),
            Self::From(first) => Slice::Part(first..len),
            Self::Last(count) if count == 0 || len == 0 => Slice::Unsatisfiable,
            Self::Last(count) => Slice::Part(len.saturating_sub(count)..len),
        }
    }
}

/// What the headers ask for of a body of this length.
pub fn slice(headers: &HeaderMap, len: u64) -> Slice {
    Spec::of(headers).of_length(len)
}

/// Whether the headers have a precondition at all, `If-Range` included.
pub fn conditional(headers: &HeaderMap) -> bool {
    [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE]
        .into_iter()
        .any(|name| headers.contains_key(name))
        || (headers.contains_key(IF_RANGE) && headers.contains_key(RANGE))
}

/// Whether the headers want one version or nothing.
pub fn insists(headers: &HeaderMap) -> bool {
    headers.contains_key(IF_MATCH) || headers.contains_key(IF_UNMODIFIED_SINCE)
}

/// Evaluates the preconditions in the order of RFC 9110, 13.2.2.
pub fn condition(headers: &HeaderMap, version: Version<'_>) -> Condition {
    if headers.contains_key(IF_MATCH) {
        if !listed(headers, IF_MATCH, |tag| strong(tag, version.etag)) {
            return Condition::Failed;
        }
    } else if let (Some(since), Some(modified)) = (date(headers, IF_UNMODIFIED_SINCE), version.modified)
        && seconds(modified) > seconds(since)
    {
        return Condition::Failed;
    }
    if headers.contains_key(IF_NONE_MATCH) {
        if listed(headers, IF_NONE_MATCH, |tag| weak(tag, version.etag)) {
            return Condition::NotModified;
        }
    } else if let (Some(since), Some(modified)) = (date(headers, IF_MODIFIED_SINCE), version.modified)
        && seconds(modified) <= seconds(since)
    {
        return Condition::NotModified;
    }
    Condition::Met
}

/// Whether `If-Range` lets the range stand; without it, it does.
pub fn range_stands(headers: &HeaderMap, version: Version<'_>) -> bool {
    if !headers.contains_key(IF_RANGE) {
        return true;
    }
    match one(headers, IF_RANGE) {
        Some(tag) if tag.starts_with('"') || tag.starts_with("W/") => strong(tag, version.etag),
        Some(_) => match (date(headers, IF_RANGE), version.modified) {
            (Some(then), Some(modified)) => seconds(then) == seconds(modified),
            _ => false,
        },
        None => false,
    }
}

/// The value of a header that stands there once, in ASCII.
fn one(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok().map(str::trim)
}

enum Number {
    Absent,
    Is(u64),
    Malformed,
}

/// Digits only: `parse` alone would take a sign. More than fits counts as the largest number.
fn number(text: &str) -> Number {
    let text = text.trim();
    if text.is_empty() {
        Number::Absent
    } else if text.bytes().all(|b| b.is_ascii_digit()) {
        Number::Is(text.parse().unwrap_or(u64::MAX))
    } else {
        Number::Malformed
    }
}

/// Whether one of the tags listed in a header is it, or the header is `*` (what is asked about exists).
fn listed(headers: &HeaderMap, name: HeaderName, is: impl Fn(&str) -> bool) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.trim() == "*" || tags(value).any(&is))
}

/// The tags of a list; a tag may contain commas. Ends at the first malformed one.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let opaque = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?;
        let prefix = rest.len() - opaque.len();
        let end = prefix + opaque.find('"')? + 1;
        let tag;
        (tag, rest) = rest.split_at(end);
        Some(tag)
    })
}

fn strong(a: &str, b: Option<&str>) -> bool {
    b == Some(a) && !a.starts_with("W/")
}

fn weak(a: &str, b: Option<&str>) -> bool {
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    b.is_some_and(|b| opaque(a) == opaque(b))
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(one(headers, name)?).ok()
}

/// HTTP dates have no fractions; files do.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn ranges_against_a_length() {
        use Slice::{Part, Unsatisfiable, Whole};
        let max = u64::MAX;
        let table = [
            ("bytes=0-0", 10, Part(0..1)),
            ("bytes=0-9", 10, Part(0..10)),
            ("bytes=0-10", 10, Part(0..10)),
            ("bytes=2-5", 10, Part(2..6)),
            ("bytes=9-", 10, Part(9..10)),
            ("bytes=0-", 10, Part(0..10)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=10-12", 10, Unsatisfiable),
            ("bytes=-3", 10, Part(7..10)),
            ("bytes=-10", 10, Part(0..10)),
            ("bytes=-11", 10, Part(0..10)),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-1", 0, Unsatisfiable),
            ("bytes=0-18446744073709551615", max, Part(0..max)),
            ("bytes=5-99999999999999999999999", 10, Part(5..10)),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=-99999999999999999999999", 10, Part(0..10)),
            ("BYTES = 1 - 2 ", 10, Part(1..3)),
            ("bytes=3-2", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=", 10, Whole),
            ("bytes", 10, Whole),
            ("", 10, Whole),
            ("bytes=a-b", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=1--2", 10, Whole),
            ("bytes=--1", 10, Whole),
            ("bytes=0-1,3-4", 10, Whole),
            ("bytes=0-1,", 10, Whole),
            ("items=0-1", 10, Whole),
            ("bytes 0-1", 10, Whole),
        ];
        for (value, len, want) in table {
            assert_eq!(Spec::parse(value).of_length(len), want, "{value:?} of {len}");
        }
    }

    #[test]
    fn two_range_headers_are_none() {
        let twice = headers(&[("range", "bytes=0-1"), ("range", "bytes=3-4")]);
        assert_eq!(slice(&twice, 10), Slice::Whole);
        assert_eq!(slice(&HeaderMap::new(), 10), Slice::Whole);
    }

    const DAY: &str = "Wed, 21 Oct 2015 07:28:00 GMT";
    const DAY_BEFORE: &str = "Tue, 20 Oct 2015 07:28:00 GMT";

    fn day(text: &str) -> SystemTime {
        httpdate::parse_http_date(text).unwrap() + Duration::from_millis(500)
    }

    #[test]
    fn preconditions() {
        use Condition::{Failed, Met, NotModified};
        let version = Version {
            etag: Some("\"a,b\""),
            modified: Some(day(DAY)),
        };
        let table: &[(&[(&'static str, &str)], Condition)] = &[
            (&[], Met),
            (&[("if-match", "\"a,b\"")], Met),
            (&[("if-match", "\"x\", \"a,b\"")], Met),
            (&[("if-match", "\"x\""), ("if-match", "\"a,b\"")], Met),
            (&[("if-match", "*")], Met),
            (&[("if-match", "W/\"a,b\"")], Failed),
            (&[("if-match", "\"x\"")], Failed),
            (&[("if-match", "a,b")], Failed),
            (&[("if-none-match", "\"a,b\"")], NotModified),
            (&[("if-none-match", "W/\"a,b\"")], NotModified),
            (&[("if-none-match", "\"x\",W/\"a,b\"")], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "\"x\"")], Met),
            (&[("if-none-match", "rubbish")], Met),
            (&[("if-modified-since", DAY)], NotModified),
            (&[("if-modified-since", DAY_BEFORE)], Met),
            (&[("if-modified-since", "yesterday")], Met),
            (&[("if-unmodified-since", DAY)], Met),
            (&[("if-unmodified-since", DAY_BEFORE)], Failed),
            (&[("if-none-match", "\"x\""), ("if-modified-since", DAY)], Met),
            (&[("if-match", "\"a,b\""), ("if-unmodified-since", DAY_BEFORE)], Met),
            (&[("if-match", "\"a,b\""), ("if-none-match", "\"a,b\"")], NotModified),
            (&[("if-match", "\"x\""), ("if-none-match", "\"a,b\"")], Failed),
        ];
        for (pairs, want) in table {
            assert_eq!(condition(&headers(pairs), version), *want, "{pairs:?}");
        }
        let unknown = Version {
            etag: None,
            modified: None,
        };
        for (pairs, want) in [
            (("if-match", "\"x\""), Failed),
            (("if-match", "*"), Met),
            (("if-none-match", "\"x\""), Met),
            (("if-modified-since", DAY), Met),
        ] {
            assert_eq!(condition(&headers(&[pairs]), unknown), want, "{pairs:?}");
        }
    }

    #[test]
    fn if_range() {
        let version = Version {
            etag: Some("\"a\""),
            modified: Some(day(DAY)),
        };
        for (value, want) in [
            ("\"a\"", true),
            ("\"b\"", false),
            ("W/\"a\"", false),
            (DAY, true),
            (DAY_BEFORE, false),
            ("rubbish", false),
        ] {
            let headers = headers(&[("if-range", value), ("range", "bytes=0-1")]);
            assert!(conditional(&headers));
            assert_eq!(range_stands(&headers, version), want, "{value}");
        }
        assert!(range_stands(&HeaderMap::new(), version));
        let weak = Version {
            etag: Some("W/\"a\""),
            modified: None,
        };
        assert!(!range_stands(&headers(&[("if-range", "W/\"a\"")]), weak));
    }
}
