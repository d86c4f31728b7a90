//! The leases in the store: which rows there are, and how one is written and read.
//!
//! Table `lease`, key: the [`Holder`]; value: JSON. At most one row an address, so there are never more rows than addresses. A row says when
//! its lease ends twice: by the boot clock, which nobody sets, for as long as the machine runs, and by the wall clock for after that.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bootd_sdk::mac::Mac;
use serde::{Deserialize, Serialize};

use super::answer::Lease;
use super::holder::{Hex, Holder, from_hex};
use super::pool::Former;
use crate::config::BindTo;
use crate::state::{Row, Write};

/// Remembers who has a row for which address.
#[derive(Debug, Default)]
pub(super) struct Rows {
    by_holder: HashMap<Holder, Ipv4Addr>,
    by_ip: HashMap<Ipv4Addr, Holder>,
}

/// What time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clocks {
    /// Since the machine started, sleep included.
    pub(super) boot: Duration,
    /// Which start that was.
    pub(super) boot_id: u64,
    /// Seconds since 1970, as far as the machine knows.
    pub(super) unix: u64,
}

/// The value of a row.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) ip: Ipv4Addr,
    /// Seconds since 1970; the boot clock begins anew with the machine.
    pub(super) expires_unix: u64,
    /// The start of the machine and the end by its boot clock, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_boot: Option<(u64, u64)>,
    #[serde(default, rename = "hostname", skip_serializing_if = "Option::is_none")]
    pub(super) host_name: Option<String>,
    /// The hardware address, when the key is not it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mac: Option<Mac>,
    /// Option 61 in hexadecimal, when the key is not it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) client_id: Option<String>,
}

impl Rows {
    /// A client gets a row for this address. Returns who had one for it before.
    pub(super) fn put(&mut self, holder: &Holder, ip: Ipv4Addr) -> Option<Holder> {
        if let Some(former) = self.by_holder.insert(holder.clone(), ip) {
            self.by_ip.remove(&former);
        }
        let before = self.by_ip.insert(ip, holder.clone())?;
        self.by_holder.remove(&before);
        Some(before)
    }

    /// Whether this is its row.
    pub(super) fn has(&self, holder: &Holder, ip: Ipv4Addr) -> bool {
        self.by_holder.get(holder) == Some(&ip)
    }

    /// A client's row goes. `false`: it has none.
    pub(super) fn remove(&mut self, holder: &Holder) -> bool {
        match self.by_holder.remove(holder) {
            Some(ip) => {
                self.by_ip.remove(&ip);
                true
            }
            None => false,
        }
    }
}

impl Saved {
    /// The lease of a row, with whose it is by now: what leases are bound to may have changed. `None`: the row makes no sense.
    pub(super) fn read(key: &str, value: &str, bind_to: BindTo, clocks: Clocks) -> Option<Former> {
        let saved: Self = serde_json::from_str(value).ok()?;
        let (mac, client_id) = match key.parse().ok()? {
            Holder::Mac(mac) => (Some(mac), saved.client_id.as_deref().and_then(from_hex).map(Arc::from)),
            Holder::Id(id) => (saved.mac, Some(id)),
        };
        let id = || client_id.clone().map(Holder::Id);
        let holder = match bind_to {
            BindTo::Mac => mac.map(Holder::Mac).or_else(id),
            BindTo::ClientId => id().or(mac.map(Holder::Mac)),
        };
        Some(Former {
            holder: holder?,
            mac,
            client_id,
            ip: saved.ip,
            left: saved.left(clocks),
            host_name: saved.host_name,
        })
    }

    fn left(&self, clocks: Clocks) -> Duration {
        match self.expires_boot {
            Some((boot, until)) if boot != 0 && boot == clocks.boot_id => {
                Duration::from_secs(until).saturating_sub(clocks.boot)
            }
            _ => Duration::from_secs(self.expires_unix.saturating_sub(clocks.unix)),
        }
    }
}

/// The write that makes a lease durable.
pub(super) fn keep(lease: &Lease, clocks: Clocks) -> Write {
    let seconds = u64::from(lease.seconds);
    let saved = Saved {
        ip: lease.ip,
        expires_unix: clocks.unix.saturating_add(seconds),
        expires_boot: Some((clocks.boot_id, clocks.boot.as_secs().saturating_add(seconds))),
        host_name: lease.host_name.clone(),
        mac: lease.mac.filter(|mac| lease.holder != Holder::Mac(*mac)),
        client_id: match lease.holder {
            Holder::Mac(_) => lease.client_id.as_deref().map(|id| Hex(id).to_string()),
            Holder::Id(_) => None,
        },
    };
    Write {
        // No map with other keys than text, nothing that fails by itself: this has a text.
        put: vec![(row(&lease.holder), serde_json::to_string(&saved).unwrap_or_default())],
        delete: lease.instead_of.as_ref().map(row).into_iter().collect(),
        ..Write::default()
    }
}

/// What leases are bound to may have changed: then the row of a client that was taken over gets its new key.
pub(super) fn rekey(former: &Former, key: &str, clocks: Clocks, write: &mut Write) {
    if former.holder.to_string() == key {
        return;
    }
    let lease = Lease {
        holder: former.holder.clone(),
        mac: former.mac,
        client_id: former.client_id.clone(),
        ip: former.ip,
        seconds: u32::try_from(former.left.as_secs()).unwrap_or(u32::MAX),
        host_name: former.host_name.clone(),
        instead_of: None,
    };
    write.put.extend(keep(&lease, clocks).put);
    write.delete.push(Row {
        table: TABLE.into(),
        key: key.into(),
    });
}

/// The write that removes a client's row.
pub(super) fn drop_row(holder: &Holder) -> Write {
    Write {
        delete: vec![row(holder)],
        ..Write::default()
    }
}

pub(super) fn row(holder: &Holder) -> Row {
    Row {
        table: TABLE.into(),
        key: holder.to_string(),
    }
}

/// The table of leases.
pub(super) const TABLE: &str = "lease";

#[cfg(test)]
mod tests {
    use super::super::testing::mac;
    use super::*;

    const CLOCKS: Clocks = Clocks {
        boot: Duration::from_secs(1000),
        boot_id: 7,
        unix: 1_700_000_000,
    };

    fn lease(holder: Holder) -> Lease {
        Lease {
            holder,
            mac: Some(mac(9)),
            client_id: Some([1, 2].into()),
            ip: [172, 16, 0, 200].into(),
            seconds: 300,
            host_name: None,
            instead_of: None,
        }
    }

    #[test]
    fn a_wall_clock_that_jumps_ends_no_lease_while_the_machine_runs() {
        let write = keep(&lease(Holder::Mac(mac(9))), CLOCKS);
        let (row, value) = &write.put[0];
        let left = |clocks| {
            Saved::read(&row.key, value, BindTo::Mac, clocks)
                .unwrap()
                .left
                .as_secs()
        };
        for unix in [0, 1_700_000_000, 4_000_000_000] {
            let boot = Duration::from_secs(1100);
            assert_eq!(left(Clocks { boot, unix, ..CLOCKS }), 200);
        }
        // After a restart of the machine there is only the wall clock.
        let (boot, boot_id) = (Duration::from_secs(5), 8);
        let unix = CLOCKS.unix + 290;
        assert_eq!(left(Clocks { boot, boot_id, unix }), 10);
    }

    #[test]
    fn a_row_is_its_clients_whatever_leases_are_bound_to() {
        let id = Holder::Id([1, 2].into());
        for holder in [Holder::Mac(mac(9)), id.clone()] {
            let write = keep(&lease(holder), CLOCKS);
            let (row, value) = &write.put[0];
            let read = |bind_to| Saved::read(&row.key, value, bind_to, CLOCKS).unwrap();
            assert_eq!(read(BindTo::Mac).holder, Holder::Mac(mac(9)));
            assert_eq!(read(BindTo::ClientId).holder, id);
            assert_eq!(read(BindTo::Mac).mac, Some(mac(9)));
            assert_eq!(read(BindTo::Mac).client_id.as_deref(), Some(&[1, 2][..]));
        }
    }

    #[test]
    fn rows_of_older_versions_are_read() {
        let value = r#"{"ip":"172.16.0.203","expires_unix":1700000100,"hostname":"pi"}"#;
        let former = Saved::read("02:00:00:00:00:09", value, BindTo::ClientId, CLOCKS).unwrap();
        assert_eq!((former.holder, former.left.as_secs()), (Holder::Mac(mac(9)), 100));
        for (key, value) in [("x", value), ("02:00:00:00:00:09", "{}"), ("id:", value)] {
            assert!(Saved::read(key, value, BindTo::Mac, CLOCKS).is_none(), "{key}");
        }
    }
}
