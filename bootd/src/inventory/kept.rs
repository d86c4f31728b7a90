//! The copy on disk: what was last good, there at the next start before any plugin answers.
//!
//! Two tables, `inventory` for nodes and `overlay` for what plugins add to them; key `<plugin>/<xname>`, value JSON as it was published.
//! Only what changed is written. A write that fails is counted, and the next publication then writes everything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bootd_sdk::wire::{Node, Overlay};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::draft::{Draft, Owner};
use super::shards::Shards;
use crate::metrics::Metrics;
use crate::state::{Row, Store, StoreError, Write};

/// The table of nodes.
pub(super) const NODES: &str = "inventory";
/// The table of what plugins add to nodes.
const OVERLAYS: &str = "overlay";

/// The copy.
pub(super) struct Kept {
    store: Store,
    /// A write failed: the copy is not what the last snapshot said.
    pub(super) behind: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

impl Kept {
    pub(super) fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            behind: Arc::default(),
            metrics,
        }
    }

    /// The nodes of these owners, each with its owner's place.
    pub(super) fn nodes(&self, owners: &[Owner]) -> Result<Vec<(usize, Node)>, StoreError> {
        self.load(NODES, owners)
    }

    /// Their overlays.
    pub(super) fn overlays(&self, owners: &[Owner]) -> Result<Vec<(usize, Overlay)>, StoreError> {
        self.load(OVERLAYS, owners)
    }

    /// Hands what a settled draft changed to the store's writer.
    pub(super) fn keep(&self, draft: &Draft<'_>) {
        let mut write = Write::default();
        if self.behind.swap(false, Ordering::AcqRel) {
            if let Err(error) = self.everything(&draft.owners, &mut write) {
                return report(&self.metrics, &self.behind, Err(error));
            }
        } else {
            for (at, id) in &draft.rows {
                let owner = &draft.owners[*at];
                change(&mut write, NODES, owner, id, owner.rows.get(id));
            }
            for (at, id) in &draft.overlays {
                let owner = &draft.owners[*at];
                change(&mut write, OVERLAYS, owner, id, owner.overlays.get(id));
            }
        }
        if write == Write::default() {
            return;
        }
        let (metrics, behind) = (Arc::clone(&self.metrics), Arc::clone(&self.behind));
        let queued = self
            .store
            .write_soon(write, move |done| report(&metrics, &behind, done));
        if queued.is_err() {
            report(&self.metrics, &self.behind, queued);
        }
    }

    pub(super) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire)
    }

    fn load<T: DeserializeOwned>(&self, table: &str, owners: &[Owner]) -> Result<Vec<(usize, T)>, StoreError> {
        let mut found = Vec::new();
        for (key, text) in self.store.scan(table, "")? {
            let owner = key
                .split_once('/')
                .and_then(|(name, _)| owners.iter().position(|owner| *owner.name == *name));
            match (owner, serde_json::from_str(&text)) {
                (Some(at), Ok(row)) => found.push((at, row)),
                (None, _) => tracing::info!(table, key, "a last-good row is left out: its plugin is not configured"),
                (_, Err(error)) => tracing::warn!(table, key, %error, "a last-good row cannot be read"),
            }
        }
        Ok(found)
    }

    /// What is on disk counts, of which only the keys are known here.
    fn everything(&self, owners: &[Owner], write: &mut Write) -> Result<(), StoreError> {
        let mut on_disk = BTreeMap::new();
        for table in [NODES, OVERLAYS] {
            on_disk.extend(self.store.scan(table, "")?.into_keys().map(|key| ((table, key), ())));
        }
        for owner in owners {
            put_all(write, NODES, owner, &owner.rows);
            put_all(write, OVERLAYS, owner, &owner.overlays);
        }
        for (row, _) in &write.put {
            for table in [NODES, OVERLAYS] {
                if row.table == table {
                    on_disk.remove(&(table, row.key.clone()));
                }
            }
        }
        write.delete = on_disk
            .into_keys()
            .map(|(table, key)| Row {
                table: table.into(),
                key,
            })
            .collect();
        Ok(())
    }
}

fn put_all<T: Serialize + Clone>(write: &mut Write, table: &str, owner: &Owner, rows: &Shards<String, Arc<T>>) {
    for (id, value) in rows.iter() {
        change(write, table, owner, id, Some(value));
    }
}

fn change<T: Serialize>(write: &mut Write, table: &str, owner: &Owner, id: &str, value: Option<&Arc<T>>) {
    let row = Row {
        table: table.into(),
        key: format!("{}/{id}", owner.name),
    };
    match value.map(|value| serde_json::to_string(&**value)) {
        Some(Ok(text)) => write.put.push((row, text)),
        // What came as JSON is JSON.
        Some(Err(_)) => {}
        None => write.delete.push(row),
    }
}

fn report(metrics: &Metrics, behind: &AtomicBool, result: Result<(), StoreError>) {
    if let Err(error) = result {
        behind.store(true, Ordering::Release);
        metrics.refused("inventory", error.label(), &"state store", &error);
    }
}
