//! Leases that come from CoreDHCP and go back to it (`compat.import_leases`).
//!
//! A file is read when it is not as bootd last saw or left it, so it is at the first start, and after CoreDHCP ran again; then it knows better
//! than the store. At a clean stop the leases are written into the first file. What goes wrong is said, and costs nobody an answer.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::holder::Holder;
use super::rows::{self, Saved};
use super::sqlite::{self, Found, Kept};
use crate::config::Config;
use crate::dhcp::LeaseView;
use crate::state::{Row, Store, StoreError, Write};

/// Takes over what files hold that are new or changed. The store has it when this returns.
pub(super) fn import(config: &Config, store: &Store) -> Result<(), StoreError> {
    for path in &config.compat.import_leases {
        let Some(mark) = mark(path) else {
            tracing::info!(file = %path.display(), "no leases of CoreDHCP to take over: the file is not there");
            continue;
        };
        if store.get(TABLE, &key(path))?.as_ref() == Some(&mark) {
            continue;
        }
        let found = match sqlite::read(path) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "the leases of CoreDHCP cannot be taken over");
                continue;
            }
        };
        for left_out in &found.left_out {
            tracing::warn!(file = %path.display(), %left_out, "a lease of CoreDHCP is left out");
        }
        let (mut write, count) = taken_over(path, found, config, &store.scan(rows::TABLE, "")?.into_iter().collect());
        // SQLite may have touched it.
        write.put.push((remembered(path), self::mark(path).unwrap_or(mark)));
        store.write_and_wait(write)?;
        tracing::info!(file = %path.display(), leases = count, "leases of CoreDHCP were taken over");
    }
    Ok(())
}

/// Writes the leases into the first file.
pub(super) fn export(config: &Config, store: &Store, leases: &[LeaseView], now_unix: u64) {
    let Some(path) = config.compat.import_leases.first() else {
        return;
    };
    // What was not taken over, or was changed since, would be lost.
    let remembered_mark = store.get(TABLE, &key(path)).ok().flatten();
    if mark(path).is_some_and(|mark| remembered_mark != Some(mark)) {
        tracing::error!(
            file = %path.display(),
            "the leases are not given back to CoreDHCP: somebody else wrote the file, or it could not be taken over; `bootd leases export` writes another"
        );
        return;
    }
    let leases = running(leases, now_unix);
    if let Err(error) = sqlite::write(path, &leases) {
        tracing::error!(%error, "the leases cannot be given back to CoreDHCP");
        return;
    }
    tracing::info!(file = %path.display(), leases = leases.len(), "the leases are where CoreDHCP finds them");
    let put = mark(path).map(|mark| (remembered(path), mark)).into_iter().collect();
    let write = Write {
        put,
        ..Write::default()
    };
    if let Err(error) = store.write_and_wait(write) {
        tracing::warn!(%error, "the file of CoreDHCP will be read again at the next start");
    }
}

/// The leases that run, as CoreDHCP keeps them: it knows clients by their hardware addresses only.
pub(crate) fn running(leases: &[LeaseView], now_unix: u64) -> Vec<Kept> {
    let running = leases.iter().filter(|lease| lease.state == super::table::State::Leased);
    let kept = running.filter_map(|lease| {
        Some(Kept {
            mac: lease.mac?,
            ip: lease.ip,
            expires_unix: now_unix.saturating_add(lease.expires_in_s),
            host_name: lease.hostname.clone(),
        })
    });
    kept.collect()
}

/// The rows that a file's leases come to, and how many. Rows about the same clients or addresses go.
fn taken_over(path: &Path, found: Found, config: &Config, present: &HashMap<String, String>) -> (Write, usize) {
    let mut write = Write::default();
    let (mut clients, mut ips) = (HashSet::new(), HashSet::new());
    for kept in found.leases {
        if !in_a_pool(config, kept.ip) {
            tracing::warn!(file = %path.display(), mac = %kept.mac, ip = %kept.ip, "a lease of CoreDHCP is left out: in no pool");
            continue;
        }
        clients.insert(kept.mac);
        ips.insert(kept.ip);
        let saved = Saved {
            ip: kept.ip,
            expires_unix: kept.expires_unix,
            expires_boot: None,
            host_name: kept.host_name,
            mac: None,
            client_id: None,
        };
        let value = serde_json::to_string(&saved).unwrap_or_default();
        write.put.push((rows::row(&Holder::Mac(kept.mac)), value));
    }
    for (key, value) in present {
        let saved: Option<Saved> = serde_json::from_str(value).ok();
        let holder = key.parse::<Holder>().ok();
        let (Some(saved), Some(holder)) = (saved, holder) else {
            continue;
        };
        let is_put = matches!(&holder, Holder::Mac(mac) if clients.contains(mac));
        let is_older = ips.contains(&saved.ip) || saved.mac.is_some_and(|mac| clients.contains(&mac));
        if is_older && !is_put {
            write.delete.push(rows::row(&holder));
        }
    }
    (write, clients.len())
}

fn in_a_pool(config: &Config, ip: Ipv4Addr) -> bool {
    let mut pools = config.dhcp.subnets.iter().filter_map(|subnet| subnet.pool.as_ref());
    pools.any(|pool| (pool.first..=pool.last).contains(&ip))
}

/// What tells a file from an older one. `None`: it is not there.
fn mark(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    let (time, nanos, size) = (metadata.mtime(), metadata.mtime_nsec(), metadata.size());
    Some(format!("{time}.{nanos:09} {size}"))
}

fn remembered(path: &Path) -> Row {
    Row {
        table: TABLE.into(),
        key: key(path),
    }
}

fn key(path: &Path) -> String {
    path.display().to_string()
}

/// The table of the files that were read or written.
const TABLE: &str = "leases-of-coredhcp";

#[cfg(test)]
mod tests {
    use super::super::testing::{config, mac};
    use super::*;
    use crate::dhcp::State;

    fn kept(number: u8, ip: [u8; 4]) -> Kept {
        Kept {
            mac: mac(number),
            ip: ip.into(),
            expires_unix: 4_000_000_000,
            host_name: None,
        }
    }

    fn rows_of(store: &Store) -> Vec<(String, String)> {
        let rows = store.scan(rows::TABLE, "").unwrap().into_iter();
        let ip = |value: String| serde_json::from_str::<Saved>(&value).unwrap().ip.to_string();
        rows.map(|(key, value)| (key, ip(value))).collect()
    }

    fn row(number: u8, ip: u8) -> (String, String) {
        (mac(number).to_string(), format!("172.16.0.{ip}"))
    }

    #[test]
    fn a_file_is_taken_over_once_and_again_only_when_somebody_changed_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coredhcp.db");
        let store = Store::open(folder.path()).unwrap();
        let mut config = config();
        config.compat.import_leases = vec![path.clone()];
        import(&config, &store).unwrap();
        sqlite::write(&path, &[kept(1, [172, 16, 0, 200]), kept(2, [9, 9, 9, 9])]).unwrap();
        import(&config, &store).unwrap();
        assert_eq!(rows_of(&store), [row(1, 200)]);
        // What bootd does then stays.
        let write = Write {
            put: vec![(
                rows::row(&Holder::Mac(mac(3))),
                r#"{"ip":"172.16.0.201","expires_unix":1}"#.into(),
            )],
            delete: vec![rows::row(&Holder::Mac(mac(1)))],
            ..Write::default()
        };
        store.write_and_wait(write).unwrap();
        import(&config, &store).unwrap();
        assert_eq!(rows_of(&store), [row(3, 201)]);
        let lease = LeaseView {
            mac: Some(mac(3)),
            client_id: None,
            ip: [172, 16, 0, 201].into(),
            subnet: String::new(),
            state: State::Leased,
            expires_in_s: 10,
            hostname: None,
        };
        let mut free = lease.clone();
        (free.mac, free.state) = (Some(mac(7)), State::Free);
        export(&config, &store, &[lease, free], 1_700_000_000);
        let written = sqlite::read(&path).unwrap().leases;
        assert_eq!(written.len(), 1);
        assert_eq!((written[0].mac, written[0].expires_unix), (mac(3), 1_700_000_010));
        store
            .write_and_wait(Write {
                delete: vec![rows::row(&Holder::Mac(mac(3)))],
                ..Write::default()
            })
            .unwrap();
        import(&config, &store).unwrap();
        assert_eq!(rows_of(&store), []);
        // CoreDHCP ran again: it gave the address to another client.
        let other = Write {
            put: vec![(
                rows::row(&Holder::Mac(mac(3))),
                r#"{"ip":"172.16.0.201","expires_unix":1}"#.into(),
            )],
            ..Write::default()
        };
        store.write_and_wait(other).unwrap();
        sqlite::write(&path, &[kept(4, [172, 16, 0, 201]), kept(5, [172, 16, 0, 202])]).unwrap();
        import(&config, &store).unwrap();
        assert_eq!(rows_of(&store), [row(4, 201), row(5, 202)]);
    }

    #[test]
    fn a_file_that_cannot_be_read_stops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coredhcp.db");
        std::fs::write(&path, "nonsense").unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut config = config();
        config.compat.import_leases = vec![path];
        import(&config, &store).unwrap();
        assert_eq!(rows_of(&store), []);
        export(&config, &store, &[], 1_700_000_000);
        assert_eq!(std::fs::read(&config.compat.import_leases[0]).unwrap(), b"nonsense");
    }
}
