//! `options = { … }` of DHCPv6: options by name and by number, encoded.

use std::net::Ipv6Addr;

use super::{Mistakes, options};
use crate::config::raw::{Field, Options};
use crate::config::{Option6, Options6, When, hex_bytes};

pub(super) fn options(m: &mut Mistakes, key: &str, raw: Field<Options>) -> Options6 {
    let mut set = Options6::default();
    for (name, value) in m.optional(key, raw).unwrap_or_default() {
        let key = format!("{key}.{name}");
        match option(&name, value) {
            Ok(option) if set.get(option.code).is_some() => {
                m.wrong(key, format!("option {} is there by name and by number", option.code));
            }
            Ok(option) => set.set(option),
            Err(text) => m.wrong(key, text),
        }
    }
    set
}

/// The search list of a subnet: option 24.
pub(super) fn search(m: &mut Mistakes, key: &str, raw: Field<Vec<String>>, set: &mut Options6) {
    let names: Vec<String> = m.optional(key, raw).unwrap_or_default();
    if names.is_empty() {
        return;
    }
    match options::domains(&names) {
        Ok(value) => set.set(Option6::new(24, When::Always, &value)),
        Err(text) => m.wrong(key, text),
    }
}

/// The names, with code, when they are sent, and what the value is.
const NAMES: [(&str, u16, When, Shape); 4] = [
    ("dns", 23, When::Requested, Shape::Addresses),
    ("search", 24, When::Always, Shape::Domains),
    ("sntp", 31, When::Requested, Shape::Addresses),
    ("ntp", 56, When::Requested, Shape::TimeServers),
];

#[derive(Clone, Copy)]
enum Shape {
    Addresses,
    Domains,
    TimeServers,
}

fn option(name: &str, value: toml::Value) -> Result<Option6, String> {
    if let Some((_, code, when, shape)) = NAMES.iter().find(|(known, ..)| *known == name) {
        let texts: Vec<String> = options::of_type(value)?;
        let value = match shape {
            Shape::Addresses => addresses(&texts)?.concat(),
            Shape::Domains => options::domains(&texts)?,
            // Each is sub-option 1 of 16 bytes (RFC 5908).
            Shape::TimeServers => {
                let sub_option = |ip: &[u8; 16]| [&[0, 1, 0, 16], &ip[..]].concat();
                addresses(&texts)?.iter().flat_map(sub_option).collect()
            }
        };
        if value.is_empty() {
            return Err("an empty value".into());
        }
        return Ok(Option6::new(*code, *when, &value));
    }
    let code = name.parse::<u16>().ok().filter(|code| *code > 0);
    let Some(code) = code else {
        let names: Vec<&str> = NAMES.iter().map(|(name, ..)| *name).collect();
        return Err(format!(
            "no such option of DHCPv6; there are {}, and numbers from 1 to 65535",
            names.join(", ")
        ));
    };
    if is_protocol(code) {
        return Err(format!("option {code} is the protocol's own and cannot be set"));
    }
    let text: String = options::of_type(value)?;
    let bytes = hex_bytes(&text).filter(|bytes| (1..=options::MOST).contains(&bytes.len()));
    let bytes = bytes.ok_or_else(|| {
        format!(
            "'{text}' is not hexadecimal of 1 to {} bytes, such as \"0104ac10\"",
            options::MOST
        )
    })?;
    // As IPv4's: by number the type is known as well.
    let is_addresses = NAMES
        .iter()
        .any(|(_, known, _, shape)| *known == code && matches!(shape, Shape::Addresses));
    if is_addresses && bytes.len() % 16 != 0 {
        return Err(format!(
            "option {code} is addresses of 16 bytes each, and '{text}' has {} bytes",
            bytes.len()
        ));
    }
    Ok(Option6::new(code, When::Always, &bytes))
}

/// Options that make a message what it is, and those that other keys say.
fn is_protocol(code: u16) -> bool {
    matches!(code, 0..=9 | 11..=16 | 18..=20 | 25 | 26 | 37 | 39 | 59..=62 | 79 | 135)
}

fn addresses(texts: &[String]) -> Result<Vec<[u8; 16]>, String> {
    let octets = texts.iter().map(|text| Ok(options::parsed::<Ipv6Addr>(text)?.octets()));
    octets.collect()
}
