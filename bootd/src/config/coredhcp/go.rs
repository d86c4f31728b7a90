//! Values as Go's library spells them, which is how a coredhcp.yaml is written.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;

/// A time such as `1h30m`, `300ms`, `1.5h` or `0`. `None`: Go refuses it. What is less than nothing counts as nothing.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (negative, text) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (part, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && part.is_empty() {
            return None;
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit());
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        let nanos: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        if !whole.is_empty() {
            total = total.checked_add(whole.parse::<u64>().ok().map(u128::from)?.checked_mul(nanos)?)?;
        }
        // Below a nanosecond nothing counts, so no more digits than these do.
        let part = part.get(..part.len().min(15))?;
        if !part.is_empty() {
            let scale = 10_u128.pow(u32::try_from(part.len()).ok()?);
            total = total.checked_add(u128::from(part.parse::<u64>().ok()?).checked_mul(nanos)? / scale)?;
        }
        rest = after;
    }
    let nanos = u64::try_from(total).ok().filter(|nanos| *nanos <= u64::MAX / 2)?;
    Some(if negative {
        Duration::ZERO
    } else {
        Duration::from_nanos(nanos)
    })
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// What Go's `ParseBool` takes.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// What rules take as yes and no, in any case.
pub(super) fn loose_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "y" | "yes" | "on" => Some(true),
        "0" | "f" | "false" | "n" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// An IPv4 address; one that is written as IPv6 (`::ffff:10.0.0.1`) is one, too.
pub(super) fn ipv4(text: &str) -> Option<Ipv4Addr> {
    match text.parse::<IpAddr>().ok()?.to_canonical() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

/// A network, its host bits cleared.
pub(super) fn cidr(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().map(|net| net.trunc())
}

/// A mask whose ones stand together, not all of them zero.
pub(super) fn netmask(text: &str) -> Option<Ipv4Addr> {
    let mask = ipv4(text)?;
    let bits = mask.to_bits();
    (bits != 0 && bits.leading_ones() + bits.trailing_zeros() == 32).then_some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_reads_them() {
        for (text, millis) in [
            ("1h30m", 5_400_000),
            ("5m", 300_000),
            ("300ms", 300),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("1.s", 1000),
            ("+2s", 2000),
            ("0", 0),
            ("-3s", 0),
            ("2000µs", 2),
            ("1m0.25s", 60_250),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "5",
            "h",
            "1 h",
            "1h ",
            "5min",
            "1d",
            ".s",
            "--1s",
            "1e3s",
            "9999999999999h",
            "99999999999999999999s",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn masks_are_contiguous() {
        assert_eq!(netmask("255.255.252.0"), Some(Ipv4Addr::new(255, 255, 252, 0)));
        assert_eq!(netmask("255.255.255.255"), Some(Ipv4Addr::BROADCAST));
        for text in ["0.0.0.0", "255.0.255.0", "0.255.255.255", "24", "ffffff00"] {
            assert_eq!(netmask(text), None, "{text}");
        }
        assert_eq!(ipv4("::ffff:10.0.0.1"), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(ipv4("010.0.0.1"), None);
    }
}
