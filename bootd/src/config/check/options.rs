//! `options = { … }` of a scope: options by name and by number, encoded.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use super::Mistakes;
use crate::config::raw::{Field, Options};
use crate::config::{DhcpOption, OptionSet, When, hex_bytes};

pub(super) fn options(m: &mut Mistakes, key: &str, raw: Field<Options>) -> OptionSet {
    let mut set = OptionSet::default();
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

/// The names, with code, when they are sent, and what the value is.
const NAMES: [(&str, u8, When, Shape); 14] = [
    ("netmask", 1, When::Always, Shape::Mask),
    ("time_offset", 2, When::Requested, Shape::Seconds),
    ("routers", 3, When::Always, Shape::Addresses),
    ("dns", 6, When::Requested, Shape::Addresses),
    ("log_servers", 7, When::Requested, Shape::Addresses),
    ("domain", 15, When::Requested, Shape::Domain),
    ("root_path", 17, When::Always, Shape::Text),
    ("mtu", 26, When::Requested, Shape::Mtu),
    ("broadcast", 28, When::Requested, Shape::Address),
    ("ntp", 42, When::Requested, Shape::Addresses),
    ("vendor_class", 60, When::Always, Shape::Text),
    ("tftp_server", 66, When::Requested, Shape::Text),
    ("search", 119, When::Always, Shape::Domains),
    ("static_routes", 121, When::Always, Shape::Routes),
];

#[derive(Clone, Copy)]
enum Shape {
    Address,
    Addresses,
    Mask,
    Seconds,
    Mtu,
    Text,
    Domain,
    Domains,
    Routes,
}

fn option(name: &str, value: toml::Value) -> Result<DhcpOption, String> {
    if let Some((_, code, when, shape)) = NAMES.iter().find(|(known, ..)| *known == name) {
        return Ok(DhcpOption::new(*code, *when, &encoded(*shape, value)?));
    }
    let Ok(code) = name.parse::<u8>() else {
        let names: Vec<&str> = NAMES.iter().map(|(name, ..)| *name).collect();
        return Err(format!(
            "no such option; there are {}, and numbers from 1 to 254",
            names.join(", ")
        ));
    };
    if is_protocol(code) {
        return Err(format!("option {code} is the protocol's own and cannot be set"));
    }
    let text: String = of_type(value)?;
    let bytes = hex_bytes(&text).filter(|bytes| (1..=MOST).contains(&bytes.len()));
    let bytes =
        bytes.ok_or_else(|| format!("'{text}' is not hexadecimal of 1 to {MOST} bytes, such as \"0104ac10\""))?;
    Ok(DhcpOption::new(code, When::Always, &bytes))
}

/// Options that make a message what it is.
pub(super) fn is_protocol(code: u8) -> bool {
    matches!(code, 0 | 50..=54 | 57..=59 | 61 | 82 | 255)
}

/// The longest value by number; a few of these still fit a packet.
pub(super) const MOST: usize = 510;

fn encoded(shape: Shape, value: toml::Value) -> Result<Vec<u8>, String> {
    match shape {
        Shape::Address => Ok(parsed::<Ipv4Addr>(&of_type::<String>(value)?)?.octets().into()),
        Shape::Addresses => {
            let texts = list(value)?;
            let octets = texts.iter().map(|text| Ok(parsed::<Ipv4Addr>(text)?.octets()));
            some(octets.collect::<Result<Vec<_>, String>>()?.concat())
        }
        Shape::Mask => {
            let text: String = of_type(value)?;
            mask(&text).map(|mask| mask.octets().into())
        }
        Shape::Seconds => Ok(of_type::<i32>(value)?.to_be_bytes().into()),
        Shape::Mtu => match of_type::<u16>(value)? {
            mtu @ 68.. => Ok(mtu.to_be_bytes().into()),
            mtu => Err(format!("{mtu} is not between 68 and 65535")),
        },
        Shape::Text => some(of_type::<String>(value)?.into_bytes()),
        Shape::Domain => {
            let text: String = of_type(value)?;
            if is_domain(&text) {
                Ok(text.into_bytes())
            } else {
                Err(format!("'{text}' is not a domain name"))
            }
        }
        Shape::Domains => some(domains(&list(value)?)?),
        Shape::Routes => some(routes(&list(value)?)?),
    }
}

/// RFC 3397, without compression: few clients have trouble with that.
pub(super) fn domains(names: &[String]) -> Result<Vec<u8>, String> {
    let mut value = Vec::new();
    for name in names {
        let name = name.trim_end_matches('.');
        if !is_domain(name) {
            return Err(format!("'{name}' is not a domain name"));
        }
        for label in name.split('.') {
            // Shorter than 64, or it would be no domain name.
            value.push(label.len() as u8);
            value.extend_from_slice(label.as_bytes());
        }
        value.push(0);
    }
    Ok(value)
}

/// RFC 3442: `10.0.0.0/8 via 172.16.0.1`.
fn routes(texts: &[String]) -> Result<Vec<u8>, String> {
    let mut value = Vec::new();
    for text in texts {
        let (to, via) = text
            .split_once(" via ")
            .ok_or_else(|| format!("'{text}' is not a route such as \"10.0.0.0/8 via 172.16.0.1\""))?;
        let to: ipnet::Ipv4Net = parsed(to.trim())?;
        let via: Ipv4Addr = parsed(via.trim())?;
        value.push(to.prefix_len());
        value.extend_from_slice(&to.network().octets()[..usize::from(to.prefix_len().div_ceil(8))]);
        value.extend_from_slice(&via.octets());
    }
    Ok(value)
}

/// A contiguous mask that is not zero.
pub(super) fn mask(text: &str) -> Result<Ipv4Addr, String> {
    let mask: Ipv4Addr = parsed(text)?;
    let bits = mask.to_bits();
    if bits != 0 && bits.leading_ones() + bits.trailing_zeros() == u32::BITS {
        Ok(mask)
    } else {
        Err(format!("'{text}' is not a netmask such as 255.255.255.0"))
    }
}

/// Letters, digits and '-' in labels of 1 to 63, with dots between, at most 200 in all.
pub(super) fn is_domain(text: &str) -> bool {
    let label = |l: &str| !l.is_empty() && l.len() < 64 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    text.len() <= 200 && text.split('.').all(label)
}

fn list(value: toml::Value) -> Result<Vec<String>, String> {
    of_type(value)
}

pub(super) fn of_type<T: serde::de::DeserializeOwned>(value: toml::Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error| error.to_string().trim().to_owned())
}

pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("'{text}': {error}"))
}

fn some(value: Vec<u8>) -> Result<Vec<u8>, String> {
    if value.is_empty() {
        return Err("an empty value".into());
    }
    Ok(value)
}
