//! The leases in the store: which rows there are, and how one is written.
//!
//! Table `lease`, key: the hardware address; value: JSON. At most one row an address, so there are never more rows than addresses.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bootd_sdk::mac::Mac;
use serde::{Deserialize, Serialize};

use super::answer::Lease;
use crate::state::{Row, Write};

/// Remembers which client has a row for which address.
#[derive(Debug, Default)]
pub(super) struct Rows {
    by_mac: HashMap<Mac, Ipv4Addr>,
    by_ip: HashMap<Ipv4Addr, Mac>,
}

/// The value of a row.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) ip: Ipv4Addr,
    /// Seconds since 1970; the boot clock begins anew with the machine.
    pub(super) expires_unix: u64,
    #[serde(default, rename = "hostname", skip_serializing_if = "Option::is_none")]
    pub(super) host_name: Option<String>,
}

impl Rows {
    /// A client gets a row for this address. Returns who had one for it before.
    pub(super) fn put(&mut self, mac: Mac, ip: Ipv4Addr) -> Option<Mac> {
        if let Some(former) = self.by_mac.insert(mac, ip) {
            self.by_ip.remove(&former);
        }
        let holder = self.by_ip.insert(ip, mac)?;
        self.by_mac.remove(&holder);
        Some(holder)
    }

    /// A client's row goes. `false`: it has none.
    pub(super) fn remove(&mut self, mac: Mac) -> bool {
        match self.by_mac.remove(&mac) {
            Some(ip) => {
                self.by_ip.remove(&ip);
                true
            }
            None => false,
        }
    }
}

/// The write that makes a lease durable.
pub(super) fn keep(lease: &Lease, now_unix: u64) -> Write {
    let saved = Saved {
        ip: lease.ip,
        expires_unix: now_unix.saturating_add(lease.seconds.into()),
        host_name: lease.host_name.clone(),
    };
    Write {
        put: vec![(row(lease.mac), serde_json::json!(saved).to_string())],
        delete: lease.instead_of.map(row).into_iter().collect(),
        ..Write::default()
    }
}

/// The write that removes a client's row.
pub(super) fn drop_row(mac: Mac) -> Write {
    Write {
        delete: vec![row(mac)],
        ..Write::default()
    }
}

fn row(mac: Mac) -> Row {
    Row {
        table: TABLE.into(),
        key: mac.to_string(),
    }
}

/// The table of leases.
pub(super) const TABLE: &str = "lease";
