//! `listen`: where a section is heard, as `ip%interface:port` or `[ip%interface]:port`, each part of which may be missing.

use std::net::IpAddr;

use bootd_sdk::text::shown;

use super::told::Told;

/// Where DHCP of a family is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listen {
    /// Names, addresses, or `*`; never empty.
    pub(super) interfaces: Vec<String>,
    /// The UDP port.
    pub(super) port: u16,
}

/// A family.
struct Family {
    section: &'static str,
    /// The usual port, the keys of port and interfaces, and a group to which clients send.
    port: u16,
    port_key: &'static str,
    interfaces_key: &'static str,
}

const V4: Family = Family {
    section: "server4",
    port: 67,
    port_key: "dhcp.port",
    interfaces_key: "server.interfaces",
};
const V6: Family = Family {
    section: "server6",
    port: 547,
    port_key: "dhcp6.port",
    interfaces_key: "dhcp6.interfaces",
};

/// Version 4.
pub(super) fn v4(entries: Option<&[String]>, told: &mut Told) -> Listen {
    V4.listen(entries, told, |entry, place, told| {
        let key = V4.interfaces_key;
        match (entry.ip, entry.interface) {
            (Some(IpAddr::V6(_)), _) => {
                told.wrong(place, format!("'{}' is no IPv4 address", shown(&entry.text)));
                None
            }
            (ip, Some(interface)) => {
                if ip.is_some_and(|ip| !ip.is_unspecified()) {
                    let text = format!(
                        "everything on {interface} is heard, broadcasts too, not only what is sent to this address"
                    );
                    told.changed(place, key, text);
                }
                Some(interface)
            }
            (Some(ip), None) if ip.is_multicast() => {
                told.changed(
                    place,
                    key,
                    "every interface is heard; no client sends DHCPv4 to a group",
                );
                Some("*".into())
            }
            (Some(ip), None) if !ip.is_unspecified() => {
                let text = format!(
                    "the interface with the address {ip} is heard, broadcasts too; CoreDHCP hears no broadcast there"
                );
                told.changed(place, key, text);
                Some(ip.to_string())
            }
            (_, None) => {
                told.understood(place, key, "every interface");
                Some("*".into())
            }
        }
    })
}

/// Version 6.
pub(super) fn v6(entries: Option<&[String]>, told: &mut Told) -> Listen {
    V6.listen(entries, told, |entry, place, told| {
        let key = V6.interfaces_key;
        let hears = "is heard, what clients send to the groups of servers too";
        match (entry.ip, entry.interface) {
            (Some(IpAddr::V4(ip)), _) => {
                told.wrong(place, format!("{ip} is no IPv6 address"));
                None
            }
            (ip, Some(interface)) => {
                if ip.is_some_and(|ip| !ip.is_multicast()) {
                    told.changed(
                        place,
                        key,
                        format!("everything on {interface} {hears}; CoreDHCP joins none"),
                    );
                }
                Some(interface)
            }
            (Some(ip), None) if ip.is_multicast() => {
                told.understood(place, key, "every interface, those that come later too");
                Some("*".into())
            }
            (Some(ip), None) if !ip.is_unspecified() => {
                let text = format!("the interface with the address {ip} {hears}; CoreDHCP joins none");
                told.changed(place, key, text);
                Some(ip.to_string())
            }
            (Some(_), None) => {
                let text =
                    format!("every interface {hears}; CoreDHCP joins none, so clients on its wire are not heard");
                told.changed(place, key, text);
                Some("*".into())
            }
            (None, None) => {
                told.understood(place, key, "every interface");
                Some("*".into())
            }
        }
    })
}

impl Family {
    fn listen(
        &self,
        entries: Option<&[String]>,
        told: &mut Told,
        interface: impl Fn(Entry, &str, &mut Told) -> Option<String>,
    ) -> Listen {
        let section = self.section;
        let mut listen = Listen {
            interfaces: Vec::new(),
            port: self.port,
        };
        for (at, text) in entries.unwrap_or_default().iter().enumerate() {
            let place = format!("{section}.listen[{at}]");
            let Some(entry) = entry(text, &place, told) else {
                continue;
            };
            let port = entry.port.unwrap_or(self.port);
            let Some(interface) = interface(entry, &place, told) else {
                continue;
            };
            if listen.interfaces.is_empty() {
                listen.port = port;
            } else if listen.port != port {
                told.changed(
                    &place,
                    self.port_key,
                    format!(
                        "port {port} is not heard: there is one port for all, and {section}.listen[0] says {}",
                        listen.port
                    ),
                );
            }
            if !listen.interfaces.contains(&interface) {
                listen.interfaces.push(interface);
            }
        }
        if listen.interfaces.is_empty() {
            let text = "not there, which means every interface";
            told.understood(&format!("{section}.listen"), self.interfaces_key, text);
            listen.interfaces.push("*".into());
        }
        if listen.interfaces.iter().any(|name| name == "*") {
            listen.interfaces = vec!["*".into()];
        }
        listen
    }
}

struct Entry {
    /// As it stands in the file.
    text: String,
    ip: Option<IpAddr>,
    interface: Option<String>,
    port: Option<u16>,
}

fn entry(text: &str, place: &str, told: &mut Told) -> Option<Entry> {
    // A missing port is fine, so a text that only works with one is, too.
    let without = format!("{text}:");
    let parts = host_and_port(text).or_else(|| host_and_port(&without));
    let Some((host, port)) = parts else {
        told.wrong(
            place,
            format!(
                "'{}' is not of the form ip%interface:port, or [ip%interface]:port for IPv6",
                shown(text)
            ),
        );
        return None;
    };
    let (ip, interface) = match host.rsplit_once('%') {
        Some((ip, interface)) => (ip, Some(interface).filter(|name| !name.is_empty())),
        None => (host, None),
    };
    let parsed = ip.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    if !ip.is_empty() && parsed.is_none() {
        told.wrong(
            place,
            format!(
                "'{}' is no address; an interface is written as %{}",
                shown(ip),
                shown(ip)
            ),
        );
        return None;
    }
    if let Some(name) = interface.filter(|name| name.len() > 15 || name.contains(['/', ' ', '*'])) {
        told.wrong(
            place,
            format!("'{}' is not the name of a network interface", shown(name)),
        );
        return None;
    }
    let port = match port {
        "" => None,
        port => match port.parse::<u16>() {
            Ok(number) if number > 0 => Some(number),
            _ => {
                told.wrong(place, format!("'{}' is not a port", shown(port)));
                return None;
            }
        },
    };
    Some(Entry {
        text: text.to_owned(),
        ip: parsed,
        interface: interface.map(str::to_owned),
        port,
    })
}

/// As Go's `SplitHostPort`: the last colon parts them, and an address with colons stands in brackets.
fn host_and_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.contains(['[', ']']) && !port.contains(['[', ']'])).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[&str]) -> Result<Listen, String> {
        let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
        let mut told = Told::default();
        let listen = v4(Some(&entries), &mut told);
        match told.mistakes.first() {
            None => Ok(listen),
            Some(mistake) => Err(mistake.to_string()),
        }
    }

    #[test]
    fn every_part_of_an_entry_may_be_missing() {
        for (entries, interfaces, port) in [
            (&["%eth0"][..], &["eth0"][..], 67),
            (&[":67"], &["*"], 67),
            (&["0.0.0.0"], &["*"], 67),
            (&["0.0.0.0:6767"], &["*"], 6767),
            (&["192.0.2.1%eth0:67"], &["eth0"], 67),
            (&["192.0.2.1"], &["192.0.2.1"], 67),
            (&["[::ffff:192.0.2.1]"], &["192.0.2.1"], 67),
            (&["%eth0.100", "%eth1", "%eth0.100"], &["eth0.100", "eth1"], 67),
            (&["%eth0", "0.0.0.0"], &["*"], 67),
            (&[], &["*"], 67),
            (&[""], &["*"], 67),
        ] {
            let listen = read(entries).unwrap();
            assert_eq!(
                (
                    listen.interfaces.iter().map(String::as_str).collect::<Vec<_>>(),
                    listen.port
                ),
                (interfaces.to_vec(), port)
            );
        }
    }

    #[test]
    fn what_coredhcp_refuses_is_refused() {
        for entry in [
            "eth0",
            "%eth0:http",
            "[::]",
            "::1%lo",
            "[::]%eth0:547",
            "0.0.0.0:70000",
            "0.0.0.0:0",
            "1.2.3",
            "[1.2.3.4",
            "%eth/0",
        ] {
            assert!(read(&[entry]).is_err(), "{entry}");
        }
    }

    #[test]
    fn version_six_is_heard_where_it_says_and_on_every_interface_that_it_leaves_open() {
        for (entry, interface, port) in [
            ("[::]", "*", 547),
            ("[::%eth0]:547", "eth0", 547),
            ("[ff02::1:2]", "*", 547),
            ("[ff02::1:2%eth0]", "eth0", 547),
            ("%eth0", "eth0", 547),
            ("[::1%lo]", "lo", 547),
            (":5547", "*", 5547),
            ("[fd00::fe]", "fd00::fe", 547),
            ("", "*", 547),
        ] {
            let mut told = Told::default();
            let listen = v6(Some(&[entry.to_owned()]), &mut told);
            assert_eq!(told.mistakes, [], "{entry}");
            assert_eq!(
                (listen.interfaces.as_slice(), listen.port),
                (&[interface.to_owned()][..], port),
                "{entry}"
            );
        }
        for entry in ["0.0.0.0", "::1%lo", "[::]%eth0:547", "[fd00::fe]:x"] {
            let mut told = Told::default();
            v6(Some(&[entry.to_owned()]), &mut told);
            assert_eq!(told.mistakes.len(), 1, "{entry}");
        }
    }
}
