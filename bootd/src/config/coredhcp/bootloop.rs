//! bootloop's words: by position (5 of them) or `key=value` (contract 1.6).

use std::net::Ipv4Addr;
use std::time::Duration;

use bootd_sdk::text::shown;
use ipnet::{IpNet, Ipv4Net};

use super::coresmd::no_time;
use super::file::Plugin;
use super::told::Told;
use super::{go, words};

/// What it is told.
#[derive(Debug, Clone)]
pub(super) struct Bootloop {
    /// SQLite, of which leases are taken over.
    pub(super) store: String,
    /// Boot file of iPXE.
    pub(super) script: String,
    pub(super) lease_time: Duration,
    /// At least one.
    pub(super) pools: Vec<Pool>,
}

/// Addresses of a subnet; without one, of everybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pool {
    pub(super) subnet: Option<Ipv4Net>,
    pub(super) first: Ipv4Addr,
    pub(super) last: Ipv4Addr,
}

/// Reads it; `None`: the mistakes say why not.
pub(super) fn read(plugin: &Plugin, told: &mut Told) -> Option<Bootloop> {
    let place = &plugin.place;
    let words = words::without_comments(&plugin.words, told, place);
    if words::are_positional(&words) {
        let [store, script, lease, first, last] = words.as_slice() else {
            told.wrong(
                place,
                format!(
                    "has {} words, and needs either 5 (lease file, script, lease time, first and last address) or key=value, of which lease_file= and \
                     subnet_pool= must be there",
                    words.len()
                ),
            );
            return None;
        };
        let lease_time = told.or_wrong(go::duration(lease), place, no_time("the third word", lease));
        let pool = ends(place, first, last, told);
        return Some(Bootloop {
            store: words::unquoted(store).into(),
            script: (*script).into(),
            lease_time: lease_time?,
            pools: vec![pool?],
        });
    }
    by_key(place, &words, told)
}

fn by_key(place: &str, words: &[&str], told: &mut Told) -> Option<Bootloop> {
    let (mut store, mut start, mut end) = (None, None, None);
    let mut found = Bootloop {
        store: String::new(),
        script: "default".into(),
        lease_time: Duration::from_secs(300),
        pools: Vec::new(),
    };
    for (key, value) in words::settings(words, told, place) {
        let mut bad = |what: String| told.ignored(place, "", format!("{what}; left out, as by bootloop"));
        match key {
            "lease_file" => store = Some(words::unquoted(value)).filter(|path| !path.is_empty()),
            "script_path" if value.is_empty() || value.len() > 255 => bad(format!("{key} is empty or too long")),
            "script_path" => found.script = value.into(),
            "lease_time" => match go::duration(value) {
                Some(time) => found.lease_time = time,
                None => bad(no_time(key, value)),
            },
            "ipv4_start" | "ipv4_end" => {
                if go::ipv4(value).is_none() {
                    bad(format!("{key} '{}' is no IPv4 address", shown(value)));
                } else if key == "ipv4_start" {
                    start = Some(value);
                } else {
                    end = Some(value);
                }
            }
            "subnet_pool" => match subnet_pool(value) {
                Ok(pool) if pool.first > pool.last => {
                    told.wrong(
                        place,
                        format!("{key} '{}': the last address is before the first", shown(value)),
                    );
                    return None;
                }
                Ok(pool) => found.pools.push(pool),
                Err(why) => bad(format!("{key} '{}': {why}", shown(value))),
            },
            _ => bad(format!("there is no key '{}'", shown(key))),
        }
    }
    let store = told.or_wrong(store, place, "lease_file= is missing");
    match (start, end, found.pools.is_empty()) {
        (None, None, true) => {
            told.wrong(
                place,
                "no addresses: subnet_pool=, or ipv4_start= and ipv4_end=, are missing or bad",
            );
            return None;
        }
        (None, None, false) => {}
        (_, _, false) => {
            told.wrong(place, "subnet_pool= and ipv4_start=, ipv4_end= exclude each other");
            return None;
        }
        (Some(start), Some(end), true) => found.pools.push(ends(place, start, end, told)?),
        (_, _, true) => {
            told.wrong(
                place,
                "ipv4_start= and ipv4_end= go together, and one is missing or bad",
            );
            return None;
        }
    }
    found.store = store?.into();
    Some(found)
}

/// Both ends of a pool for everybody.
pub(super) fn ends(place: &str, first: &str, last: &str, told: &mut Told) -> Option<Pool> {
    let mut address =
        |text: &str| told.or_wrong(go::ipv4(text), place, format!("'{}' is no IPv4 address", shown(text)));
    let (first, last) = (address(first), address(last));
    let (first, last) = (first?, last?);
    if first > last {
        told.wrong(place, format!("the last address, {last}, is before the first, {first}"));
        return None;
    }
    Some(Pool {
        subnet: None,
        first,
        last,
    })
}

fn subnet_pool(value: &str) -> Result<Pool, &'static str> {
    let mut parts = value.split(',').map(str::trim);
    let (Some(subnet), Some(first), Some(last), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err("is not of the form subnet,first,last");
    };
    let Some(IpNet::V4(subnet)) = go::cidr(subnet) else {
        return Err("has no IPv4 subnet such as 10.0.0.0/24");
    };
    let (Some(first), Some(last)) = (go::ipv4(first), go::ipv4(last)) else {
        return Err("has ends that are no IPv4 addresses");
    };
    if !subnet.contains(&first) || !subnet.contains(&last) {
        return Err("has ends outside of its subnet");
    }
    Ok(Pool {
        subnet: Some(subnet),
        first,
        last,
    })
}
