//! `[dhcp]`: subnets and their pools, who is not in the inventory, hosts, limits.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bootd_sdk::mac::Mac;

use super::{Mistakes, options, rules};
use crate::config::raw::{self, Field};
use crate::config::{
    Autoconfigure, BindTo, Dhcp, Hosts, NamePattern, Nbp, Pool, RouterAdvertisement, Subnet, UnknownClients,
};

pub(super) fn dhcp(m: &mut Mistakes, raw: Field<raw::Dhcp>, address: Option<Ipv4Addr>) -> Dhcp {
    let raw = m.table("dhcp", raw);
    m.unknown("dhcp", &raw.unknown_keys, raw::Dhcp::KEYS);
    let usual = Dhcp::default();
    let lease_time = m.lease_time("dhcp.lease_time", raw.lease_time, usual.lease_time);
    let domain = m.domain("dhcp.domain", raw.domain);
    let hostnames = match raw.hostnames {
        Field::Absent => usual.hostnames,
        names => {
            let names = m.optional("dhcp.hostnames", names).unwrap_or_default();
            let named = names.into_iter().filter_map(|(kind, text)| {
                let key = format!("dhcp.hostnames.{kind}");
                let text = m.optional(&key, text);
                Some((kind, m.parsed::<NamePattern>(&key, text)?))
            });
            named.collect()
        }
    };
    let script_url = m.optional("dhcp.script_url", raw.script_url);
    let script_url = script_url.filter(|url| m.script("dhcp.script_url", url));
    let threads = usize::from(m.optional("dhcp.threads", raw.threads).unwrap_or(1));
    if !(1..=64).contains(&threads) {
        m.wrong("dhcp.threads", format!("{threads} is not between 1 and 64"));
    }
    let choices = [("mac", BindTo::Mac), ("client-id", BindTo::ClientId)];
    let bind_to = m.choice("dhcp.bind_to", raw.bind_to, &choices);
    let nbp = m.optional("dhcp.nbp", raw.nbp);
    let probe = m.time("dhcp.probe", raw.probe).unwrap_or(usual.probe);
    if probe > Duration::from_secs(2) {
        m.wrong("dhcp.probe", "longer than 2s: clients do not wait so long for an offer");
    }
    let router_solicitations = m.optional("dhcp.router_solicitations", raw.router_solicitations);
    let router_solicitations = router_solicitations.unwrap_or(true);
    Dhcp {
        port: m.port("dhcp.port", raw.port, usual.port),
        lease_time,
        domain,
        router_solicitations,
        router_advertisement: router_advertisement(m, raw.router_advertisement, router_solicitations),
        script_url,
        hostnames,
        options: options::options(m, "dhcp.options", raw.options),
        ipv6_only: m.time("dhcp.ipv6_only", raw.ipv6_only),
        threads: threads.max(1),
        probe,
        rate_limit: m
            .optional("dhcp.rate_limit", raw.rate_limit)
            .unwrap_or(usual.rate_limit),
        bind_to: bind_to.unwrap_or(BindTo::Mac),
        nbp: nbp.and_then(|text| self::nbp(m, text)),
        ignore: m
            .each("dhcp.ignore", raw.ignore, str::parse::<Mac>)
            .into_iter()
            .collect(),
        hosts: hosts(m, "dhcp.hosts", raw.hosts, lease_time),
        unknown: unknown(m, raw.unknown),
        subnets: subnets(m, raw.subnet, address, lease_time),
        rules: rules::rules(m, raw.rule),
    }
}

fn router_advertisement(m: &mut Mistakes, raw: Field<raw::RouterAdvertisement>, is_sent: bool) -> RouterAdvertisement {
    if !is_sent && !matches!(raw, Field::Absent) {
        m.wrong(
            "dhcp.router_advertisement",
            "nothing of it is sent while dhcp.router_solicitations is false",
        );
    }
    let raw = m.table("dhcp.router_advertisement", raw);
    m.unknown(
        "dhcp.router_advertisement",
        &raw.unknown_keys,
        raw::RouterAdvertisement::KEYS,
    );
    let key = "dhcp.router_advertisement.lifetime";
    let lifetime = m.time(key, raw.lifetime).unwrap_or_default();
    if lifetime > LONGEST_ROUTER {
        m.wrong(key, "longer than 9000s, which RFC 4861 allows at most");
    } else if !lifetime.is_zero() && lifetime < SHORTEST_ROUTER {
        m.wrong(key, "shorter than 600s: advertisements are sent every 200s");
    }
    let prefixes = m.each("dhcp.router_advertisement.prefixes", raw.prefixes, prefix);
    for (i, prefix) in prefixes.iter().enumerate() {
        if prefixes.iter().take(i).any(|other| other == prefix) {
            m.wrong(format!("dhcp.router_advertisement.prefixes[{i}]"), "is there already");
        }
    }
    let rdnss = m.each("dhcp.router_advertisement.rdnss", raw.rdnss, |text| {
        text.parse().map_err(|_| "not an IPv6 address".to_owned())
    });
    if prefixes.len() > MOST_PREFIXES || rdnss.len() > MOST_PREFIXES {
        m.wrong(
            "dhcp.router_advertisement",
            format!("more than {MOST_PREFIXES} prefixes or name servers do not fit into a packet"),
        );
    }
    RouterAdvertisement {
        prefixes,
        rdnss,
        lifetime,
        beside_routers: m
            .optional("dhcp.router_advertisement.beside_routers", raw.beside_routers)
            .unwrap_or_default(),
    }
}

/// Hosts make addresses of prefixes of 64 bits only (RFC 4862).
fn prefix(text: &str) -> Result<(Ipv6Addr, u8), String> {
    let prefix: ipnet::Ipv6Net = text
        .parse()
        .map_err(|_| "not an IPv6 prefix, such as fd00::/64".to_owned())?;
    if prefix.prefix_len() != 64 {
        return Err("not 64 bits long, and hosts make no addresses of it".into());
    }
    let network = prefix.network();
    if network.is_unicast_link_local() || network.is_multicast() || network.is_loopback() {
        return Err(
            "no prefix of which hosts make addresses: each has its link-local one, and groups are nobody's".into(),
        );
    }
    if prefix.addr() != network {
        return Err(format!("has bits behind its prefix; {} is meant?", prefix.trunc()));
    }
    Ok((prefix.network(), prefix.prefix_len()))
}

/// A table with a file of hosts, in either family.
pub(super) fn hosts(m: &mut Mistakes, key: &str, raw: Field<raw::Hosts>, lease_time: Duration) -> Option<Hosts> {
    if matches!(raw, Field::Absent) {
        return None;
    }
    let raw = m.table(key, raw);
    m.unknown(key, &raw.unknown_keys, raw::Hosts::KEYS);
    let of = |name: &str| format!("{key}.{name}");
    let lease_time = m.lease_time(&of("lease_time"), raw.lease_time, lease_time);
    let refresh = m.optional(&of("refresh"), raw.refresh).unwrap_or_default();
    let before = m.optional(&of("before_inventory"), raw.before_inventory);
    let file: String = m.required(&of("file"), raw.file, "a file with lines of MAC and IP")?;
    Some(Hosts {
        file: m.folder.join(file),
        refresh,
        lease_time,
        before_inventory: before.unwrap_or_default(),
    })
}

fn unknown(m: &mut Mistakes, raw: Field<raw::Unknown>) -> UnknownClients {
    let raw = m.table("dhcp.unknown", raw);
    m.unknown("dhcp.unknown", &raw.unknown_keys, raw::Unknown::KEYS);
    let choices = [
        ("DoNotAutoConfigure", Autoconfigure::DoNotAutoConfigure),
        ("AutoConfigure", Autoconfigure::AutoConfigure),
    ];
    let answer = m.optional("dhcp.unknown.answer_without_address", raw.answer_without_address);
    UnknownClients {
        autoconfigure: m.choice("dhcp.unknown.autoconfigure", raw.autoconfigure, &choices),
        script: m.boot_file("dhcp.unknown.script", raw.script),
        options: options::options(m, "dhcp.unknown.options", raw.options),
        answer_without_address: answer.unwrap_or_default(),
    }
}

/// Options 66 and 67 as CoreDHCP makes them of a URL: HTTP and FTP clients get it whole, others the host and the path.
fn nbp(m: &mut Mistakes, text: String) -> Option<Nbp> {
    let url = match url::Url::parse(&text) {
        Ok(url) if url.has_host() => url,
        _ => {
            m.wrong(
                "dhcp.nbp",
                format!("'{text}' is not a URL such as tftp://10.0.0.1/file"),
            );
            return None;
        }
    };
    if matches!(url.scheme(), "http" | "https" | "ftp") {
        let (server, file) = (None, text);
        return Some(Nbp { server, file });
    }
    let host = url.host_str().unwrap_or_default();
    let server = url.port().map_or_else(|| host.into(), |port| format!("{host}:{port}"));
    Some(Nbp {
        server: Some(server),
        file: url.path().into(),
    })
}

fn subnets(
    m: &mut Mistakes,
    raw: Field<Vec<Field<raw::Subnet>>>,
    address: Option<Ipv4Addr>,
    lease_time: Duration,
) -> Vec<Subnet> {
    // Each with its number in the file, for whoever overlaps.
    let mut subnets: Vec<(usize, bool, Subnet)> = Vec::new();
    for (i, mut raw) in m.list("dhcp.subnet", raw) {
        let key = format!("dhcp.subnet[{i}]");
        let nested = m.optional(&format!("{key}.nested"), std::mem::take(&mut raw.nested));
        let nested: bool = nested.unwrap_or_default();
        let Some(subnet) = subnet(m, &key, raw, address, lease_time) else {
            continue;
        };
        for (other, other_nests, of) in &subnets {
            let overlap = of.contains(subnet.network) || subnet.contains(of.network);
            let inner_nests = if of.prefix > subnet.prefix {
                *other_nests
            } else {
                nested
            };
            let may_overlap = of.prefix != subnet.prefix && (inner_nests || of.is_catch_all() || subnet.is_catch_all());
            if overlap && !may_overlap {
                m.wrong(format!("{key}.cidr"), format!("overlaps dhcp.subnet[{other}]"));
            }
            if let (Some(a), Some(b)) = (&of.pool, &subnet.pool)
                && a.first <= b.last
                && b.first <= a.last
            {
                m.wrong(
                    format!("{key}.pool"),
                    format!(
                        "{} to {} overlaps {} to {} of dhcp.subnet[{other}]",
                        b.first, b.last, a.first, a.last
                    ),
                );
            }
        }
        subnets.push((i, nested, subnet));
    }
    subnets.into_iter().map(|(.., subnet)| subnet).collect()
}

fn subnet(
    m: &mut Mistakes,
    key: &str,
    raw: raw::Subnet,
    address: Option<Ipv4Addr>,
    lease_time: Duration,
) -> Option<Subnet> {
    m.unknown(key, &raw.unknown_keys, raw::Subnet::KEYS);
    let cidr_key = format!("{key}.cidr");
    let cidr = m.required(&cidr_key, raw.cidr, "the subnet, such as 172.16.0.0/24");
    let cidr: Option<ipnet::Ipv4Net> = m.parsed(&cidr_key, cidr);
    let routers = m.addresses(&format!("{key}.routers"), raw.routers);
    let dns = m.addresses(&format!("{key}.dns"), raw.dns);
    let server_key = format!("{key}.server");
    let server = m.optional(&server_key, raw.server);
    let server = m.parsed(&server_key, server).or(address);
    let mask_key = format!("{key}.netmask");
    let netmask: Option<String> = m.optional(&mask_key, raw.netmask);
    let options = options::options(m, &format!("{key}.options"), raw.options);
    let pool = match raw.pool {
        Field::Absent => None,
        raw => Some(m.table(&format!("{key}.pool"), raw)),
    };
    let cidr = cidr?;
    if !(1..=30).contains(&cidr.prefix_len()) && cidr.prefix_len() != 0 {
        m.wrong(
            cidr_key,
            format!(
                "a prefix of {} leaves no room for nodes: 1 to 30, or 0.0.0.0/0 for all that no other subnet holds",
                cidr.prefix_len()
            ),
        );
        return None;
    }
    let netmask = match netmask.as_deref() {
        Some("none") => None,
        Some(text) => m.mask(&mask_key, text),
        None if cidr.prefix_len() == 0 => {
            m.wrong(
                &mask_key,
                "missing: the clients of 0.0.0.0/0 need one, such as 255.255.255.0",
            );
            None
        }
        None => Some(cidr.netmask()),
    };
    let mut subnet = Subnet {
        network: cidr.network(),
        prefix: cidr.prefix_len(),
        netmask,
        routers,
        dns,
        server,
        pool: None,
        options,
    };
    if cidr.addr() != cidr.network() {
        m.wrong(
            &cidr_key,
            format!("{cidr} has host bits; the subnet is {}", cidr.trunc()),
        );
    }
    for (i, router) in subnet
        .routers
        .iter()
        .enumerate()
        .filter(|(_, router)| !subnet.contains(**router))
    {
        m.wrong(
            format!("{key}.routers[{i}]"),
            format!("{router} is not in {}, so its clients cannot reach it", cidr.trunc()),
        );
    }
    subnet.pool = pool.and_then(|raw| pool_of(m, &format!("{key}.pool"), raw, &subnet, lease_time));
    Some(subnet)
}

fn pool_of(m: &mut Mistakes, key: &str, raw: raw::Pool, subnet: &Subnet, lease_time: Duration) -> Option<Pool> {
    m.unknown(key, &raw.unknown_keys, raw::Pool::KEYS);
    let mut end = |name: &str, field| {
        let key = format!("{key}.{name}");
        let text = m.required(&key, field, "an address of the subnet");
        let ip: Option<Ipv4Addr> = m.parsed(&key, text);
        if let Some(ip) = ip.filter(|ip| !subnet.contains(*ip) || *ip == subnet.network || *ip == subnet.broadcast()) {
            m.wrong(&key, format!("{ip} is not a host address of {subnet}"));
            return None;
        }
        ip
    };
    let (first, last) = (end("first", raw.first), end("last", raw.last));
    let lease_time = m.lease_time(&format!("{key}.lease_time"), raw.lease_time, lease_time);
    let (first, last) = (first?, last?);
    if first > last {
        m.wrong(format!("{key}.last"), format!("{last} is before {first}"));
        return None;
    }
    if let Some(server) = subnet.server.filter(|server| (first..=last).contains(server)) {
        m.wrong(key, format!("holds {server}, which is bootd's own address"));
    }
    Some(Pool {
        first,
        last,
        lease_time,
    })
}

/// RFC 4861 section 6.2.1, AdvDefaultLifetime.
const LONGEST_ROUTER: Duration = Duration::from_secs(9000);
/// Three of the intervals in which they are sent.
const SHORTEST_ROUTER: Duration = Duration::from_secs(600);
const MOST_PREFIXES: usize = 16;
