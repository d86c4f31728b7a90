//! All rows of a store, in memory: what a bootd hands to the one that follows it, and what both read while neither has the file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// By table and key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied(BTreeMap<String, BTreeMap<String, String>>);

impl Copied {
    pub(super) fn put_table(&mut self, table: String, rows: BTreeMap<String, String>) {
        self.0.insert(table, rows);
    }

    pub(super) fn get(&self, table: &str, key: &str) -> Option<String> {
        self.0.get(table)?.get(key).cloned()
    }

    pub(super) fn scan(&self, table: &str, prefix: &str) -> BTreeMap<String, String> {
        let rows = self.0.get(table).into_iter();
        let rows = rows.flat_map(|rows| rows.range(prefix.to_owned()..));
        let rows = rows.take_while(|(key, _)| key.starts_with(prefix));
        rows.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}
