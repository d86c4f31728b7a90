//! `[dhcp6]`: subnets, the server's identity, what its clients boot.

use std::net::Ipv6Addr;
use std::time::Duration;

use bootd_sdk::mac::Mac;
use ipnet::Ipv6Net;

use super::{Mistakes, dhcp, options6, selector};
use crate::config::raw::{self, Field};
use crate::config::{Dhcp6, Selector, Subnet6, Unknown6, When, hex_bytes};

/// `lease_time`: that of `[dhcp]`. `interfaces`: those of `[server]`.
pub(super) fn dhcp6(
    m: &mut Mistakes,
    raw: Field<raw::Dhcp6>,
    lease_time: Duration,
    interfaces: &[Selector],
) -> Option<Dhcp6> {
    if matches!(raw, Field::Absent) {
        return None;
    }
    let raw = m.table("dhcp6", raw);
    m.unknown("dhcp6", &raw.unknown_keys, raw::Dhcp6::KEYS);
    let usual = Dhcp6::default();
    let interfaces = match raw.interfaces {
        Field::Absent => interfaces.to_vec(),
        field => {
            let texts: Vec<String> = m.optional("dhcp6.interfaces", field).unwrap_or_default();
            if texts.is_empty() && !m.has("dhcp6.interfaces") {
                m.wrong(
                    "dhcp6.interfaces",
                    "empty: DHCPv6 would be served nowhere; without this key it is where server.interfaces are",
                );
            }
            let named = texts.iter().enumerate();
            named
                .filter_map(|(i, text)| selector(m, &format!("dhcp6.interfaces[{i}]"), text))
                .collect()
        }
    };
    let lease_time = m.lease_time("dhcp6.lease_time", raw.lease_time, lease_time);
    let script_url = m.optional("dhcp6.script_url", raw.script_url);
    let script_url = script_url.filter(|url| m.script("dhcp6.script_url", url));
    let choices = [("silence", Unknown6::Silence), ("no-address", Unknown6::NoAddress)];
    let unknown = m.choice("dhcp6.unknown", raw.unknown, &choices);
    let dhcp6 = Dhcp6 {
        port: m.port("dhcp6.port", raw.port, usual.port),
        interfaces,
        lease_time,
        server_id: server_id(m, raw.server_id),
        preference: m.optional("dhcp6.preference", raw.preference),
        script_url,
        unknown: unknown.unwrap_or(usual.unknown),
        nbp: nbp(m, raw.nbp),
        boot_params: boot_params(m, raw.boot_params),
        hosts: dhcp::hosts(m, "dhcp6.hosts", raw.hosts, lease_time),
        options: options6::options(m, "dhcp6.options", raw.options),
        subnets: subnets(m, raw.subnet),
    };
    if dhcp6.subnets.is_empty() && !m.has("dhcp6") {
        m.wrong(
            "dhcp6.subnet",
            "missing: DHCPv6 needs at least one [[dhcp6.subnet]]; \"::/0\" holds every address",
        );
    }
    Some(dhcp6)
}

/// A DUID: `LL` or `LLT` with a hardware address, as CoreDHCP has it, or the bytes.
fn server_id(m: &mut Mistakes, raw: Field<String>) -> Option<Box<[u8]>> {
    let key = "dhcp6.server_id";
    let text: String = m.optional(key, raw)?;
    let words: Vec<&str> = text.split_whitespace().collect();
    // Both are of Ethernet, whose number is 1; the time of LLT is 0, as upstream has it.
    let head: Option<&[u8]> = match words.first().map(|kind| kind.to_ascii_lowercase()).as_deref() {
        Some("ll" | "duid-ll" | "duid_ll") => Some(&[0, 3, 0, 1]),
        Some("llt" | "duid-llt" | "duid_llt") => Some(&[0, 1, 0, 1, 0, 0, 0, 0]),
        _ => None,
    };
    let duid = match (head, words.as_slice()) {
        (Some(head), [_, mac]) => mac.parse::<Mac>().ok().map(|mac| [head, &mac.0].concat()),
        (None, [bytes]) => hex_bytes(bytes).filter(|bytes| (3..=LONGEST_DUID).contains(&bytes.len())),
        _ => None,
    };
    if duid.is_none() {
        m.wrong(
            key,
            format!(
                "'{text}' is no DUID: \"LL 02:00:00:00:00:fe\", \"LLT 02:00:00:00:00:fe\", or 3 to {LONGEST_DUID} bytes in hexadecimal"
            ),
        );
    }
    duid.map(Vec::into_boxed_slice)
}

/// Bytes of a DUID.
const LONGEST_DUID: usize = 128;

fn nbp(m: &mut Mistakes, raw: Field<String>) -> Option<String> {
    let text: String = m.optional("dhcp6.nbp", raw)?;
    let good = url::Url::parse(&text).is_ok_and(|url| url.has_host()) && text.len() <= 512;
    if !good || text.contains(char::is_whitespace) {
        m.wrong(
            "dhcp6.nbp",
            format!("'{text}' is not a URL such as tftp://[fd00::1]/file"),
        );
        return None;
    }
    Some(text)
}

/// Each with its length before it (RFC 5970 section 3.2).
fn boot_params(m: &mut Mistakes, raw: Field<Vec<String>>) -> Box<[u8]> {
    let mut value = Vec::new();
    for text in m.words("dhcp6.boot_params", raw) {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        value.extend_from_slice(&length.to_be_bytes());
        value.extend_from_slice(text.as_bytes());
    }
    if value.len() > MOST_PARAMS {
        m.wrong("dhcp6.boot_params", format!("more than {MOST_PARAMS} bytes"));
        value.clear();
    }
    value.into()
}

/// Bytes of all parameters, which a packet has room for.
const MOST_PARAMS: usize = 512;

fn subnets(m: &mut Mistakes, raw: Field<Vec<Field<raw::Subnet6>>>) -> Vec<Subnet6> {
    // Each with its number in the file, for whoever overlaps.
    let mut subnets: Vec<(usize, bool, Subnet6)> = Vec::new();
    for (i, mut raw) in m.list("dhcp6.subnet", raw) {
        let key = format!("dhcp6.subnet[{i}]");
        let nested = m.optional(&format!("{key}.nested"), std::mem::take(&mut raw.nested));
        let nested: bool = nested.unwrap_or_default();
        let Some(subnet) = subnet(m, &key, raw) else {
            continue;
        };
        for (other, other_nests, of) in &subnets {
            let (a, b) = (of.prefix, subnet.prefix);
            if a == b {
                m.wrong(
                    format!("{key}.prefix"),
                    format!("{b} is dhcp6.subnet[{other}]'s already"),
                );
            } else if a.contains(&b) || b.contains(&a) {
                let inner_nests = if a.prefix_len() > b.prefix_len() {
                    *other_nests
                } else {
                    nested
                };
                if !inner_nests && !of.is_catch_all() && !subnet.is_catch_all() {
                    m.wrong(format!("{key}.prefix"), format!("overlaps dhcp6.subnet[{other}]"));
                }
            }
        }
        subnets.push((i, nested, subnet));
    }
    subnets.into_iter().map(|(.., subnet)| subnet).collect()
}

fn subnet(m: &mut Mistakes, key: &str, raw: raw::Subnet6) -> Option<Subnet6> {
    m.unknown(key, &raw.unknown_keys, raw::Subnet6::KEYS);
    let prefix_key = format!("{key}.prefix");
    let prefix = m.required(&prefix_key, raw.prefix, "the subnet, such as fd00::/64");
    let prefix: Option<Ipv6Net> = m.parsed(&prefix_key, prefix);
    let dns: Vec<Ipv6Addr> = m.each(&format!("{key}.dns"), raw.dns, str::parse);
    let server_key = format!("{key}.server");
    let server = m.optional(&server_key, raw.server);
    let server: Option<Ipv6Addr> = m.parsed(&server_key, server);
    if server.is_some_and(|ip| ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local()) {
        m.wrong(
            &server_key,
            "is not an address that clients can be given in a URL; leave it out for the receiving interface's",
        );
    }
    let mut options = crate::config::Options6::default();
    options.set_addresses(23, When::Requested, &dns);
    options6::search(m, &format!("{key}.search"), raw.search, &mut options);
    options.extend(&options6::options(m, &format!("{key}.options"), raw.options));
    let prefix = prefix?;
    if prefix.addr() != prefix.network() {
        m.wrong(
            &prefix_key,
            format!("{prefix} has host bits; the subnet is {}", prefix.trunc()),
        );
    }
    let network = prefix.network();
    if network.is_multicast() || network.is_unicast_link_local() || network.to_ipv4_mapped().is_some() {
        m.wrong(&prefix_key, format!("{prefix} holds no addresses of nodes"));
    }
    Some(Subnet6 {
        prefix,
        server,
        options,
    })
}
