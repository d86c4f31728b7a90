//! `[http]` and its listeners: what each serves, to whom, and whether it speaks TLS.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::Mistakes;
use crate::config::raw::{self, Field};
use crate::config::{Access, Http, Listener, Service, Tls};

/// `v6`: nodes come over IPv6, too.
pub(super) fn http(m: &mut Mistakes, raw: Field<raw::Http>, v6: bool) -> Http {
    let raw = m.table("http", raw);
    m.unknown("http", &raw.unknown_keys, raw::Http::KEYS);
    let plugin_deadline = m.duration("http.plugin_deadline", raw.plugin_deadline, Duration::from_secs(5));
    let mut listeners: Vec<Listener> = Vec::new();
    if matches!(raw.listener, Field::Absent) {
        let default = |port, serve: &[Service]| Listener {
            address: if v6 {
                SocketAddr::from(([0; 16], port))
            } else {
                SocketAddr::from(([0; 4], port))
            },
            serve: serve.iter().copied().collect(),
            access: Access::Token,
            tls: None,
            trusted_proxies: Vec::new(),
            pace: None,
        };
        listeners.push(default(8081, &[Service::Boot, Service::Loaders]));
        listeners.push(default(9000, &[Service::Artifacts]));
    }
    for (i, raw) in m.list("http.listener", raw.listener) {
        let key = format!("http.listener[{i}]");
        let Some(listener) = listener(m, &key, raw) else {
            continue;
        };
        let address = listener.address;
        if let Some(other) = listeners.iter().position(|l| clash(l.address, address)) {
            m.wrong(
                format!("{key}.address"),
                format!("{address} is http.listener[{other}]'s already"),
            );
        }
        listeners.push(listener);
    }
    Http {
        listeners,
        plugin_deadline,
    }
}

fn listener(m: &mut Mistakes, key: &str, raw: raw::Listener) -> Option<Listener> {
    m.unknown(key, &raw.unknown_keys, raw::Listener::KEYS);
    let address_key = format!("{key}.address");
    let address = m.required(&address_key, raw.address, "address and port, such as 0.0.0.0:8081");
    let address: Option<SocketAddr> = m.parsed(&address_key, address);
    let serve = services(m, &format!("{key}.serve"), raw.serve);
    let auth: Option<String> = m.optional(&format!("{key}.auth"), raw.auth);
    let access = match auth.as_deref() {
        None | Some("token") => Access::Token,
        Some("none") => Access::None,
        Some(other) => {
            m.wrong(
                format!("{key}.auth"),
                format!("'{other}' is neither \"token\" nor \"none\""),
            );
            Access::Token
        }
    };
    let tls = match raw.tls {
        Field::Absent => None,
        raw => tls(m, &format!("{key}.tls"), raw),
    };
    let proxies_key = format!("{key}.trusted_proxies");
    let proxies: Vec<String> = m.optional(&proxies_key, raw.trusted_proxies).unwrap_or_default();
    let trusted_proxies = proxies
        .into_iter()
        .filter_map(|ip| m.parsed(&proxies_key, Some(ip)))
        .collect();
    let pace_key = format!("{key}.pace");
    let pace = m.bytes(&pace_key, raw.pace);
    if pace.is_some_and(|pace| pace < SLOWEST) {
        m.wrong(pace_key, "less than 64KiB a second: no node would boot at that");
    }
    Some(Listener {
        address: address?,
        serve,
        access,
        tls,
        trusted_proxies,
        pace,
    })
}

/// Bytes a second that a connection gets at least, where it has a limit.
const SLOWEST: u64 = 64 << 10;

fn services(m: &mut Mistakes, key: &str, raw: Field<Vec<String>>) -> BTreeSet<Service> {
    let names = m.required(key, raw, "what it serves, such as [\"boot\"]");
    let mut serve = BTreeSet::new();
    for (j, name) in names.unwrap_or_default().iter().enumerate() {
        match Service::from_name(name) {
            Some(service) => drop(serve.insert(service)),
            None => m.wrong(
                format!("{key}[{j}]"),
                format!("'{name}' is not one of {}", Service::ALL.map(Service::name).join(", ")),
            ),
        }
    }
    if serve.contains(&Service::Artifacts) && serve.len() > 1 {
        m.wrong(
            key,
            "artifacts own every path of their listener; give them one of their own",
        );
    }
    if serve.contains(&Service::CloudInit) && serve.contains(&Service::BssRoot) {
        m.wrong(
            key,
            "cloud-init and bss-root both own /meta-data, /user-data and /phone-home; give each a listener of its own",
        );
    }
    serve
}

fn tls(m: &mut Mistakes, key: &str, raw: Field<raw::Tls>) -> Option<Tls> {
    let raw = m.optional(key, raw)?;
    m.unknown(key, &raw.unknown_keys, raw::Tls::KEYS);
    let (cert_key, key_key) = (format!("{key}.cert"), format!("{key}.key"));
    let cert: Option<String> = m.required(
        &cert_key,
        raw.cert,
        "the certificate and what leads to its root, as PEM",
    );
    let key: Option<String> = m.required(&key_key, raw.key, "the certificate's private key, as PEM");
    for (key, path) in [(&cert_key, &cert), (&key_key, &key)] {
        if path.as_deref() == Some("") {
            m.wrong(key.as_str(), "an empty path");
        }
    }
    Some(Tls {
        cert: m.folder.join(cert?),
        key: m.folder.join(key?),
    })
}

/// Whether two listeners want the same port of one address. Port 0 is any free one; `[::]` is every address, of IPv4 as well.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let holds = |a: SocketAddr, b: SocketAddr| a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || holds(a, b) || holds(b, a))
}
