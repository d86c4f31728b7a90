//! `[router_advertisements]`: prefixes, name servers, a router's lifetime.

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

use super::Mistakes;
use crate::config::raw::{self, Field};
use crate::config::{AdvertisedPrefix, RouterAdvertisements};

/// `answered`: whether solicitations are.
pub(super) fn advertisements(
    m: &mut Mistakes,
    raw: Field<raw::RouterAdvertisements>,
    answered: bool,
) -> Option<RouterAdvertisements> {
    if matches!(raw, Field::Absent) {
        return None;
    }
    let table = "router_advertisements";
    let raw = m.table(table, raw);
    m.unknown(table, &raw.unknown_keys, raw::RouterAdvertisements::KEYS);
    if !answered {
        m.wrong(table, "nothing is advertised with dhcp.router_solicitations = false");
    }
    let lifetime = m
        .time("router_advertisements.lifetime", raw.lifetime)
        .unwrap_or_default();
    if lifetime > LONGEST || (!lifetime.is_zero() && lifetime < SHORTEST) {
        m.wrong(
            "router_advertisements.lifetime",
            "is neither 0s nor between 30s and 9000s (RFC 4861)",
        );
    }
    let dns: Vec<Ipv6Addr> = m.each("router_advertisements.dns", raw.dns, str::parse);
    if dns.len() > MOST {
        m.wrong("router_advertisements.dns", format!("more than {MOST} name servers"));
    }
    let beside = m.optional("router_advertisements.beside_others", raw.beside_others);
    let mut prefixes: Vec<AdvertisedPrefix> = Vec::new();
    for (i, raw) in m.list("router_advertisements.prefix", raw.prefix) {
        let key = format!("router_advertisements.prefix[{i}]");
        let Some(prefix) = prefix(m, &key, raw) else { continue };
        if let Some(other) = prefixes.iter().position(|other| other.net == prefix.net) {
            m.wrong(
                format!("{key}.prefix"),
                format!("{} is router_advertisements.prefix[{other}]'s already", prefix.net),
            );
        }
        prefixes.push(prefix);
    }
    if prefixes.len() > MOST {
        m.wrong("router_advertisements.prefix", format!("more than {MOST} prefixes"));
    }
    Some(RouterAdvertisements {
        lifetime,
        prefixes,
        dns,
        beside_others: beside.unwrap_or_default(),
    })
}

/// A router's lifetime (RFC 4861, 6.2.1); a shorter one would end between two advertisements.
const LONGEST: Duration = Duration::from_secs(9000);
const SHORTEST: Duration = Duration::from_secs(30);
/// Name servers and prefixes, so that an advertisement fits a frame.
const MOST: usize = 16;

fn prefix(m: &mut Mistakes, key: &str, raw: raw::AdvertisedPrefix) -> Option<AdvertisedPrefix> {
    m.unknown(key, &raw.unknown_keys, raw::AdvertisedPrefix::KEYS);
    let of = |name: &str| format!("{key}.{name}");
    let net = m.required(&of("prefix"), raw.prefix, "a prefix of the link, such as fd00::/64");
    let net: Option<Ipv6Net> = m.parsed(&of("prefix"), net);
    let valid = m.duration(&of("valid"), raw.valid, Duration::from_secs(24 * 3600));
    let preferred = m.duration(
        &of("preferred"),
        raw.preferred,
        valid.min(Duration::from_secs(4 * 3600)),
    );
    if preferred > valid {
        m.wrong(of("preferred"), "is longer than valid");
    }
    if preferred < SHORTEST || valid.as_secs() >= u64::from(u32::MAX) {
        m.wrong(
            of("preferred"),
            "is shorter than 30s, or valid is longer than 136 years",
        );
    }
    let on_link = m.optional(&of("on_link"), raw.on_link).unwrap_or(true);
    let autonomous = m.optional(&of("autonomous"), raw.autonomous).unwrap_or(true);
    let net = net?;
    if net.addr() != net.network() {
        m.wrong(
            of("prefix"),
            format!("{net} has host bits; the prefix is {}", net.trunc()),
        );
    }
    let network = net.network();
    if network.is_multicast() || network.is_unicast_link_local() || network.is_unspecified() {
        m.wrong(of("prefix"), format!("{net} is not a prefix of hosts"));
    }
    if autonomous && net.prefix_len() != 64 {
        m.wrong(
            of("autonomous"),
            "hosts make themselves addresses of a prefix of 64 only; set it to false",
        );
    }
    Some(AdvertisedPrefix {
        net,
        on_link,
        autonomous,
        valid,
        preferred,
    })
}
