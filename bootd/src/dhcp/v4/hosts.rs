//! Addresses of single clients, from a file with lines of `MAC IP` (contract 1.3, `file`).
//!
//! A file with a mistake is not taken over: at the start that is fatal, later what was there before counts on. Owns its own map; nothing else
//! writes to it.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use bootd_sdk::mac::Mac;

use super::policy::{is_unicast, seconds};
use crate::config;

/// The clients of a file.
#[derive(Debug)]
pub struct Hosts {
    file: PathBuf,
    refresh: bool,
    /// Seconds of their leases.
    pub lease_time: u32,
    /// Whether it counts before the inventory.
    pub before_inventory: bool,
    clients: ArcSwap<Clients>,
    /// What the file was like at the last look; `Some(None)`: it was not there.
    seen: Mutex<Option<Option<Stamp>>>,
}

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Clients {
    by_mac: HashMap<Mac, Ipv4Addr>,
    by_ip: HashMap<Ipv4Addr, Mac>,
    v6: HashMap<Mac, Ipv6Addr>,
}

/// When a file was changed, and how long it is.
type Stamp = (Option<SystemTime>, u64);

/// Why a file cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// It cannot be read.
    #[error("{0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// Lines with mistakes, all of them.
    #[error("{0}: {1}")]
    Lines(PathBuf, BadLines),
}

/// Lines with mistakes.
#[derive(Debug, PartialEq, Eq)]
pub struct BadLines(Vec<(usize, String)>);

impl fmt::Display for BadLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (line, text)) in self.0.iter().take(TOLD).enumerate() {
            write!(f, "{}line {line}: {text}", if at == 0 { "" } else { "; " })?;
        }
        match self.0.len().saturating_sub(TOLD) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Mistakes that are told one by one.
const TOLD: usize = 5;

/// What came of a look at the file.
#[derive(Debug)]
pub enum Look {
    /// It is as it was.
    Same,
    /// It was taken over; so many clients are in it.
    Taken(usize),
    /// It has mistakes; what was there before counts on.
    Kept(HostsError),
}

impl Hosts {
    /// Reads the file of a configuration, when it has one.
    pub fn open(config: Option<&config::Hosts>) -> Result<Option<Self>, HostsError> {
        let Some(config) = config else {
            return Ok(None);
        };
        let hosts = Self {
            file: config.file.clone(),
            refresh: config.refresh,
            lease_time: seconds(config.lease_time),
            before_inventory: config.before_inventory,
            clients: ArcSwap::default(),
            seen: Mutex::new(None),
        };
        match hosts.look() {
            Look::Kept(error) => Err(error),
            Look::Same | Look::Taken(_) => Ok(Some(hosts)),
        }
    }

    /// Whether the file is to be looked at again.
    pub fn refreshes(&self) -> bool {
        self.refresh
    }

    /// What is new of the file, which is taken over when it has changed: how many clients it has, or why it is not.
    pub fn news(&self) -> Option<Result<usize, HostsError>> {
        match self.look() {
            Look::Same => None,
            Look::Taken(clients) => Some(Ok(clients)),
            Look::Kept(error) => Some(Err(error)),
        }
    }

    /// Takes the file over when it has changed. A file with mistakes is told once.
    pub fn look(&self) -> Look {
        let stamp = match std::fs::metadata(&self.file) {
            Ok(data) => Some((data.modified().ok(), data.len())),
            Err(_) => None,
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == Some(stamp) {
            return Look::Same;
        }
        *seen = Some(stamp);
        let text = match config::text_of_ordinary(&self.file) {
            Ok(text) => text,
            Err(error) => return Look::Kept(HostsError::Read(self.file.clone(), error)),
        };
        match Clients::read(&text) {
            Ok(clients) => {
                let count = clients.by_mac.len() + clients.v6.len();
                self.clients.store(clients.into());
                Look::Taken(count)
            }
            Err(bad) => Look::Kept(HostsError::Lines(self.file.clone(), bad)),
        }
    }

    /// The address of a client.
    pub fn address_of(&self, mac: Mac) -> Option<Ipv4Addr> {
        self.clients.load().by_mac.get(&mac).copied()
    }

    /// The IPv6 address of a client.
    pub fn address6_of(&self, mac: Mac) -> Option<Ipv6Addr> {
        self.clients.load().v6.get(&mac).copied()
    }

    /// Whether a client has this address: it is never given to somebody else.
    pub fn owns(&self, ip: Ipv4Addr) -> bool {
        self.clients.load().by_ip.contains_key(&ip)
    }
}

impl Clients {
    fn read(text: &str) -> Result<Self, BadLines> {
        let mut clients = Self::default();
        let mut bad = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let (mac, ip) = match (words.next(), words.next(), words.next()) {
                (None, ..) => continue,
                (Some(mac), Some(ip), None) => (mac, ip),
                _ => {
                    bad.push((at + 1, "is not a MAC and an IP".into()));
                    continue;
                }
            };
            match (mac.parse::<Mac>(), ip.parse::<IpAddr>()) {
                (Ok(mac), _) if !mac.is_host() => bad.push((at + 1, format!("{mac} is a group's, or nobody's"))),
                (Ok(_), Ok(IpAddr::V4(ip))) if !is_unicast(ip) => {
                    bad.push((at + 1, format!("no host can have {ip}")));
                }
                (Ok(mac), Ok(IpAddr::V4(ip))) => {
                    // The last line of a client counts, as upstream has it.
                    clients.by_ip.insert(ip, mac);
                    clients.by_mac.insert(mac, ip);
                }
                // One file may serve both families.
                (Ok(mac), Ok(IpAddr::V6(ip))) => drop(clients.v6.insert(mac, ip)),
                (Err(error), _) => bad.push((at + 1, error.to_string())),
                (_, Err(_)) => bad.push((at + 1, format!("'{ip}' is not an IP address"))),
            }
        }
        if bad.is_empty() {
            Ok(clients)
        } else {
            Err(BadLines(bad))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::mac;
    use super::*;

    fn open(file: &std::path::Path) -> Result<Option<Hosts>, HostsError> {
        Hosts::open(Some(&config::Hosts {
            file: file.into(),
            refresh: true,
            lease_time: Duration::from_secs(3600),
            before_inventory: false,
        }))
    }

    #[test]
    fn a_file_has_lines_of_mac_and_ip_and_comments() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hosts.txt");
        std::fs::write(
            &file,
            "# all\n\n02:00:00:00:00:01 10.0.0.1 # one\n02-00-00-00-00-02\t10.0.0.2\n02:00:00:00:00:01 fd00::1\n",
        )
        .unwrap();
        let hosts = open(&file).unwrap().unwrap();
        assert_eq!(hosts.address_of(mac(1)), Some([10, 0, 0, 1].into()));
        assert_eq!(hosts.address_of(mac(2)), Some([10, 0, 0, 2].into()));
        assert_eq!(hosts.address_of(mac(3)), None);
        assert_eq!(hosts.address6_of(mac(1)), Some("fd00::1".parse().unwrap()));
        assert_eq!(hosts.address6_of(mac(2)), None);
        assert!(hosts.owns([10, 0, 0, 2].into()) && !hosts.owns([10, 0, 0, 3].into()));
    }

    #[test]
    fn a_mistake_is_fatal_at_the_start_and_keeps_what_was_there_later() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hosts.txt");
        assert!(matches!(open(&file), Err(HostsError::Read(..))));
        let bad = "02:00:00:00:00:01 10.0.0.1 x\nx 10.0.0.1\n02:00:00:00:00:02 10.0.0\n\
                   01:00:00:00:00:02 10.0.0.2\n02:00:00:00:00:02 224.0.0.1\n";
        std::fs::write(&file, bad).unwrap();
        let error = open(&file).unwrap_err().to_string();
        for line in [
            "line 1: is not",
            "line 2: 'x' is not",
            "line 3: '10.0.0' is not",
            "line 4: 01:00:00:00:00:02 is a group's",
            "line 5: no host can have 224.0.0.1",
        ] {
            assert!(error.contains(line), "{error}");
        }
        std::fs::write(&file, "02:00:00:00:00:01 10.0.0.1\n").unwrap();
        let hosts = open(&file).unwrap().unwrap();
        assert!(matches!(hosts.look(), Look::Same));
        std::fs::write(&file, bad).unwrap();
        assert!(matches!(hosts.look(), Look::Kept(_)));
        assert!(matches!(hosts.look(), Look::Same));
        assert_eq!(hosts.address_of(mac(1)), Some([10, 0, 0, 1].into()));
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(hosts.look(), Look::Kept(_)) && matches!(hosts.look(), Look::Same));
        std::fs::write(&file, "02:00:00:00:00:01 10.0.0.9\n").unwrap();
        assert!(matches!(hosts.look(), Look::Taken(1)));
        assert_eq!(hosts.address_of(mac(1)), Some([10, 0, 0, 9].into()));
    }
}
