//! Hardware addresses: read in every spelling that people and machines use, written in one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An Ethernet hardware address. Written in lower case with colons.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether one interface can have it: it is neither a group's nor zero.
    pub fn is_host(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

/// The text is not a hardware address of 6 bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a MAC address (six bytes in hexadecimal, such as 52:54:00:be:ef:01)")]
pub struct BadMac(pub String);

impl FromStr for Mac {
    type Err = BadMac;

    /// Accepts `52:54:00:be:ef:01`, `52-54-00-BE-EF-01`, `5254.00be.ef01` and `525400beef01`.
    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = || BadMac(text.chars().take(64).collect());
        let mut digits = [0u8; 12];
        let mut count = 0;
        let mut group = 0;
        let mut groups = 0;
        for c in text.trim().chars() {
            if matches!(c, ':' | '-' | '.') {
                // A separator stands between groups of one size: pairs, or Cisco's fours.
                if group == 0 || (group != 2 && group != 4) {
                    return Err(bad());
                }
                group = 0;
                groups += 1;
            } else {
                let digit = c.to_digit(16).ok_or_else(bad)?;
                *digits.get_mut(count).ok_or_else(bad)? = digit as u8;
                count += 1;
                group += 1;
            }
        }
        if count != 12 || !matches!((groups, group), (0, 12) | (5, 2) | (2, 4)) {
            return Err(bad());
        }
        Ok(Self(std::array::from_fn(|i| digits[2 * i] << 4 | digits[2 * i + 1])))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand: it is in every boot script's URL, and six formatted numbers cost more than the rest of such a DHCP answer.
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b':'; 17];
        for (at, byte) in self.0.iter().enumerate() {
            text[3 * at] = DIGITS[usize::from(byte >> 4)];
            text[3 * at + 1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_common_spelling_is_read_and_one_is_written() {
        for text in [
            "52:54:00:be:ef:01",
            "52-54-00-BE-EF-01",
            "5254.00be.ef01",
            "525400BEEF01",
            " 52:54:00:be:ef:01 ",
        ] {
            assert_eq!(text.parse::<Mac>().unwrap().to_string(), "52:54:00:be:ef:01", "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "52:54:00:be:ef",
            "52:54:00:be:ef:01:02",
            "5:254:00:be:ef:01",
            "52:54:00:be:ef:0g",
            "::::::",
            "52:54:00:be:ef:01:",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
