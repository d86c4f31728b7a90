//! Rules of coresmd: `type:Node,subnet:10.0.0.0/24,hostname:nid{04d}` (contract 1.5).
//!
//! A rule that cannot be understood is left out whole, with the reason; so does coresmd, and half a rule would do what nobody meant.

use std::net::Ipv4Addr;

use bootd_sdk::text::shown;
use ipnet::IpNet;

use super::go;
use crate::config::{Glob, NamePattern};

/// A rule that does something.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// Its own name.
    pub(super) name: Option<String>,
    /// SMD component types.
    pub(super) kinds: Vec<String>,
    /// The address is in one of these; empty: any.
    pub(super) subnets: Vec<IpNet>,
    /// Components: one by name, or patterns with ranges in brackets.
    pub(super) ids: Vec<String>,
    /// Pattern of the host name.
    pub(super) hostname: Option<String>,
    /// Option 3.
    pub(super) routers: Vec<Ipv4Addr>,
    /// Option 1.
    pub(super) netmask: Option<Ipv4Addr>,
    /// No answer.
    pub(super) ignore: bool,
    /// The rules after it count, too.
    pub(super) goes_on: bool,
    /// Its own domain.
    pub(super) domain: Option<String>,
    /// Which domains are appended, in order; `None`: its own, else the general one.
    pub(super) domain_append: Option<Vec<&'static str>>,
    /// `info`, `debug` or `none`.
    pub(super) log: Option<String>,
    /// What is not as coresmd does it, for the operator.
    pub(super) changes: Vec<String>,
}

/// Reads a rule, or tells why it is left out.
pub(super) fn read(text: &str) -> Result<Rule, String> {
    let mut rule = Rule::default();
    let mut seen: Vec<&str> = Vec::new();
    let mut any_subnet = false;
    let mut mask_key = None;
    for part in parts(text)? {
        let Some((key, value)) = part.split_once(':') else {
            return Err(format!("'{}' is not of the form key:value", shown(part)));
        };
        if seen.contains(&key) {
            return Err(format!("{} is there twice", shown(key)));
        }
        seen.push(key);
        let value = unquoted(value)?;
        match key {
            "type" => rule.kinds = list(key, &value)?,
            "subnet" => {
                any_subnet = true;
                for text in list(key, &value)? {
                    match go::cidr(&text) {
                        Some(net) => rule.subnets.push(net),
                        None => return Err(format!("'{}' is not a subnet such as 10.0.0.0/24", shown(&text))),
                    }
                }
            }
            "id" if value.is_empty() || value.contains(['*', '[', ']']) => {
                return Err(format!("id '{}' is no xname; id_set takes ranges", shown(&value)));
            }
            "id" => rule.ids = vec![value],
            "id_set" => {
                rule.ids = list(key, &value)?;
                if let Some(why) = rule.ids.iter().find_map(|id| Glob::xname(id).err()) {
                    return Err(format!("id_set '{}' has {why}", shown(&value)));
                }
                rule.changes.push("id_set is understood, which coresmd refuses".into());
            }
            "hostname" => match value.parse::<NamePattern>() {
                Ok(_) => rule.hostname = Some(value),
                Err(why) => return Err(format!("hostname '{}' has {why}", shown(&value))),
            },
            "routers" => {
                for text in list(key, &value)? {
                    let ip = go::ipv4(&text).ok_or_else(|| format!("router '{}' is no IPv4 address", shown(&text)))?;
                    rule.routers.push(ip);
                }
            }
            "netmask" | "cidr" => {
                if mask_key.is_some() {
                    return Err("netmask and cidr say the same; one of them is enough".into());
                }
                mask_key = Some(key);
                rule.netmask = Some(mask(key, &value)?);
            }
            "ignore" => rule.ignore = yes_or_no(key, &value)?,
            "continue" => rule.goes_on = yes_or_no(key, &value)?,
            "domain" => {
                let domain = value.trim_start_matches('.');
                if domain.is_empty() || domain.eq_ignore_ascii_case("none") {
                    return Err("domain is not a name; domain_append:none appends none".into());
                }
                rule.domain = Some(domain.to_owned());
            }
            "domain_append" => rule.domain_append = Some(append(&value)?),
            "log" => match value.to_ascii_lowercase().as_str() {
                "info" | "debug" | "none" => rule.log = Some(value.to_ascii_lowercase()),
                _ => return Err(format!("log '{}' is neither info, debug nor none", shown(&value))),
            },
            "name" => rule.name = Some(value),
            _ => return Err(format!("there is no key '{}'", shown(key))),
        }
    }
    if seen.contains(&"id") && seen.contains(&"id_set") {
        return Err("id and id_set exclude each other".into());
    }
    let masks = rule.subnets.iter().filter(|net| matches!(net, IpNet::V4(_))).count();
    let acts = rule.hostname.is_some() || !rule.routers.is_empty() || rule.netmask.is_some() || masks > 0;
    if !acts && !rule.ignore && any_subnet {
        return Err("it does nothing: of a subnet of IPv6 no client is told a mask".into());
    }
    if !acts && !rule.ignore {
        return Err("it does nothing: no hostname, routers, netmask, cidr, subnet, nor ignore:true".into());
    }
    if masks > 1 && rule.netmask.is_none() && !rule.ignore {
        rule.changes
            .push("the netmask is that of the subnet which holds the address; coresmd takes the first subnet's".into());
    }
    Ok(rule)
}

/// Parts between commas that stand in no quotes; empty ones do not count.
fn parts(text: &str) -> Result<Vec<&str>, String> {
    let mut parts = Vec::new();
    let mut quote = None;
    let mut escaped = false;
    let mut start = 0;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if open == c => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ',') => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if let Some(quote) = quote {
        return Err(format!(
            "a quote ({quote}) is not closed; spaces part the text even within quotes"
        ));
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.is_empty());
    Ok(parts)
}

/// A value without the quotes around it; within them, a backslash means the character after it.
fn unquoted(value: &str) -> Result<String, String> {
    let Some(quote) = value.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
        return Ok(value.to_owned());
    };
    let mut out = String::with_capacity(value.len());
    let mut rest = value[1..].chars();
    loop {
        match rest.next() {
            Some('\\') => out.extend(rest.next()),
            Some(c) if c == quote => break,
            Some(c) => out.push(c),
            None => return Err(format!("a quote ({quote}) is not closed")),
        }
    }
    match rest.as_str() {
        "" => Ok(out),
        rest => Err(format!("'{}' stands behind a closed quote", shown(rest))),
    }
}

fn list(key: &str, value: &str) -> Result<Vec<String>, String> {
    let items: Vec<String> = value
        .split('|')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect();
    if items.is_empty() {
        return Err(format!("{key} is empty"));
    }
    Ok(items)
}

fn mask(key: &str, value: &str) -> Result<Ipv4Addr, String> {
    let mask = match key {
        "netmask" => go::netmask(value),
        _ => value
            .parse::<u8>()
            .ok()
            .filter(|bits| (1..=32).contains(bits))
            .map(|bits| Ipv4Addr::from_bits(u32::MAX << (32 - u32::from(bits)))),
    };
    mask.ok_or_else(|| match key {
        "netmask" => format!("'{}' is not a netmask such as 255.255.255.0", shown(value)),
        _ => format!("cidr '{}' is not a number from 1 to 32", shown(value)),
    })
}

fn yes_or_no(key: &str, value: &str) -> Result<bool, String> {
    go::loose_boolean(value).ok_or_else(|| format!("{key} '{}' is neither true nor false", shown(value)))
}

fn append(value: &str) -> Result<Vec<&'static str>, String> {
    match value.to_ascii_lowercase().as_str() {
        "none" => Ok(Vec::new()),
        "global" => Ok(vec!["global"]),
        "rule" => Ok(vec!["rule"]),
        "global|rule" => Ok(vec!["global", "rule"]),
        "rule|global" => Ok(vec!["rule", "global"]),
        _ => Err(format!(
            "domain_append '{}' is not global, rule, both with | between, or none",
            shown(value)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_with_everything_is_understood() {
        let rule = read(
            r#"name:"a,b",type:Node|NodeBMC,subnet:10.0.0.7/24|fd00::/64|10.0.1.0/24,hostname:'nid{04d}',routers:10.0.0.1|10.0.0.2,,domain:..x.example,domain_append:Rule|GLOBAL,continue:Yes,log:Debug,cidr:16"#,
        )
        .unwrap();
        assert_eq!(rule.name.as_deref(), Some("a,b"));
        assert_eq!(rule.kinds, ["Node", "NodeBMC"]);
        assert_eq!(
            rule.subnets,
            ["10.0.0.0/24", "fd00::/64", "10.0.1.0/24"].map(|net| net.parse().unwrap())
        );
        assert_eq!(rule.hostname.as_deref(), Some("nid{04d}"));
        assert_eq!(rule.netmask, Some(Ipv4Addr::new(255, 255, 0, 0)));
        assert_eq!(rule.domain.as_deref(), Some("x.example"));
        assert_eq!(rule.domain_append, Some(vec!["rule", "global"]));
        assert_eq!(
            (rule.goes_on, rule.ignore, rule.log.as_deref()),
            (true, false, Some("debug"))
        );
    }

    #[test]
    fn a_rule_that_is_not_understood_says_why() {
        for (text, why) in [
            ("type:Node", "does nothing"),
            ("", "does nothing"),
            ("ignore:false", "does nothing"),
            ("hostname", "form key:value"),
            ("hostname:a,hostname:b", "twice"),
            ("hostnam:a", "no key 'hostnam'"),
            ("hostname:'a", "not closed"),
            ("hostname:'a'b", "behind a closed quote"),
            ("type:|,hostname:a", "type is empty"),
            ("subnet:10.0.0.0", "not a subnet"),
            ("subnet:fd00::/64", "IPv6"),
            ("id:a,id_set:b,hostname:c", "exclude"),
            ("routers:fd00::1", "no IPv4 address"),
            ("netmask:255.0.255.0", "not a netmask"),
            ("netmask:255.0.0.0,cidr:8", "one of them"),
            ("cidr:0", "from 1 to 32"),
            ("ignore:maybe", "neither"),
            ("hostname:a,domain:none", "domain"),
            ("hostname:a,domain_append:none|rule", "domain_append"),
            ("hostname:a,domain_append:rule|rule", "domain_append"),
            ("hostname:a,log:warn", "log"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn quotes_keep_commas_and_escapes_keep_quotes() {
        assert_eq!(
            read(r#"name:"a\"b,c\\d",hostname:x"#).unwrap().name.as_deref(),
            Some(r#"a"b,c\d"#)
        );
        assert!(read(r#"hostname:"a\""#).is_err());
        assert_eq!(
            read("id_set:x1000c0s[0-3]b0n0|x2,ignore:y").unwrap().ids,
            ["x1000c0s[0-3]b0n0", "x2"]
        );
    }
}
