//! What is known of the pools and is in no row of the store: who was offered what, and which addresses rest. A bootd hands it to the one that follows it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bootd_sdk::mac::Mac;
use serde::{Deserialize, Serialize};

use super::holder::{Hex, from_hex};
use super::pool::Pools;
use super::table::{Client, Entry, State};

/// An address of a pool. Times are those of the boot clock, which all processes of a machine share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsaved {
    ip: Ipv4Addr,
    state: State,
    holder: Option<String>,
    mac: Option<Mac>,
    client_id: Option<String>,
    hostname: Option<String>,
    until: Duration,
    probed: Duration,
}

impl Pools {
    /// All of it.
    pub(super) fn unsaved(&self) -> Vec<Unsaved> {
        let tables = self.tables().iter();
        let all = tables.flat_map(|table| &table.entries);
        let unsaved = all.filter(|(_, entry)| !matches!(entry.state, State::Leased | State::Free));
        unsaved.map(|(ip, entry)| Unsaved::of(*ip, entry)).collect()
    }

    /// Takes over what another process knew. What does not fit these pools, or is there already, is left out.
    pub(super) fn restore_unsaved(&mut self, unsaved: Unsaved) {
        let ip = unsaved.ip.to_bits();
        let holder = match unsaved.holder.map(|holder| holder.parse()) {
            None => None,
            Some(Ok(holder)) => Some(holder),
            Some(Err(_)) => return,
        };
        let has = |holder| self.tables().iter().any(|table| table.of.contains_key(holder));
        if unsaved.state == State::Offered && holder.as_ref().is_none_or(has) {
            return;
        }
        let Some(table) = self.tables_mut().iter_mut().find(|table| table.holds(ip)) else {
            return;
        };
        if table.entries.contains_key(&ip) {
            return;
        }
        let client = Client {
            mac: unsaved.mac,
            client_id: unsaved.client_id.as_deref().and_then(from_hex).map(Arc::from),
            host_name: unsaved.hostname,
        };
        table.set(ip, holder.clone(), client, unsaved.state, unsaved.until);
        if let Some(entry) = table.entries.get_mut(&ip) {
            entry.probed = unsaved.probed;
        }
        // Who declined an address has none.
        if unsaved.state != State::Offered
            && let Some(holder) = holder
        {
            table.of.remove(&holder);
        }
    }
}

impl Unsaved {
    fn of(ip: u32, entry: &Entry) -> Self {
        Self {
            ip: Ipv4Addr::from_bits(ip),
            state: entry.state,
            holder: entry.holder.as_ref().map(ToString::to_string),
            mac: entry.client.mac,
            client_id: entry.client.client_id.as_deref().map(|id| Hex(id).to_string()),
            hostname: entry.client.host_name.clone(),
            until: entry.until,
            probed: entry.probed,
        }
    }
}
