//! Hardware addresses that the operator has DHCP ignore, live: `bootd nodes ignore MAC`.
//!
//! Owns the set; every change is on the disk before it is answered, and is there again after a restart. Packet threads only look, without a
//! lock. What the configuration or its rules ignore is not in here.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bootd_sdk::mac::Mac;

use crate::state::{Row, Store, StoreError, Write};

/// The set.
pub struct Ignored {
    now: ArcSwap<BTreeSet<Mac>>,
    store: Store,
    /// Held by whoever changes the set, until the change is durable: the set and its rows stay the same.
    changing: Mutex<()>,
}

/// Why the set stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum IgnoredError {
    /// Too many.
    #[error("{MOST} hardware addresses are ignored already; let some go with `bootd nodes unignore`")]
    Full,
    /// The state file.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Ignored {
    /// The set as the last run left it. Rows that make no sense are left out, and said.
    pub fn open(store: Store) -> Result<Self, StoreError> {
        Ok(Self {
            now: ArcSwap::from_pointee(read(&store)?),
            store,
            changing: Mutex::default(),
        })
    }

    /// Takes over what is on disk by now: another process changed it until a moment ago.
    pub fn read_again(&self) -> Result<(), StoreError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.now.store(Arc::new(read(&self.store)?));
        Ok(())
    }

    /// Whether packets of this client get no answer.
    pub fn contains(&self, mac: Mac) -> bool {
        let now = self.now.load();
        !now.is_empty() && now.contains(&mac)
    }

    /// All of them.
    pub fn all(&self) -> Arc<BTreeSet<Mac>> {
        self.now.load_full()
    }

    /// From now on, and after a restart, this client gets no answer. `false`: so it was. Waits for the disk.
    pub fn add(&self, mac: Mac) -> Result<bool, IgnoredError> {
        self.change(|set| {
            if set.len() >= MOST && !set.contains(&mac) {
                return Err(IgnoredError::Full);
            }
            Ok(set.insert(mac).then(|| Write {
                put: vec![(row(mac), "{}".into())],
                ..Write::default()
            }))
        })
    }

    /// The client is answered again. `false`: it was not ignored. Waits for the disk.
    pub fn remove(&self, mac: Mac) -> Result<bool, IgnoredError> {
        self.change(|set| {
            Ok(set.remove(&mac).then(|| Write {
                delete: vec![row(mac)],
                ..Write::default()
            }))
        })
    }

    fn change(
        &self,
        change: impl FnOnce(&mut BTreeSet<Mac>) -> Result<Option<Write>, IgnoredError>,
    ) -> Result<bool, IgnoredError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = BTreeSet::clone(&self.now.load());
        let Some(write) = change(&mut next)? else {
            return Ok(false);
        };
        self.store.write_and_wait(write)?;
        self.now.store(Arc::new(next));
        Ok(true)
    }
}

fn read(store: &Store) -> Result<BTreeSet<Mac>, StoreError> {
    let mut found = BTreeSet::new();
    for key in store.scan(TABLE, "")?.into_keys() {
        match key.parse::<Mac>() {
            Ok(mac) => drop(found.insert(mac)),
            Err(_) => tracing::warn!(key, "left out of the ignored: not a hardware address"),
        }
    }
    Ok(found)
}

fn row(mac: Mac) -> Row {
    Row {
        table: TABLE.into(),
        key: mac.to_string(),
    }
}

/// The table in the store; its keys are hardware addresses, its values are empty objects.
const TABLE: &str = "ignored";
/// The most that are ignored at once.
const MOST: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_stays_so_after_a_restart_and_until_it_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let store = Store::open(folder.path()).unwrap();
        let ignored = Ignored::open(store.clone()).unwrap();
        assert!(ignored.add(a).unwrap() && ignored.add(b).unwrap());
        assert!(!ignored.add(a).unwrap());
        assert!(ignored.remove(b).unwrap() && !ignored.remove(b).unwrap());
        let bad = Row {
            table: TABLE.into(),
            key: "nonsense".into(),
        };
        store
            .write_and_wait(Write {
                put: vec![(bad, "{}".into())],
                ..Write::default()
            })
            .unwrap();
        let ignored = Ignored::open(store).unwrap();
        assert!(ignored.contains(a) && !ignored.contains(b));
        assert_eq!(*ignored.all(), BTreeSet::from([a]));
    }

    #[test]
    fn their_number_has_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let ignored = Ignored::open(Store::open(folder.path()).unwrap()).unwrap();
        let many = (0..MOST as u32).map(|n| {
            let [a, b, c, d] = n.to_be_bytes();
            Mac([2, 0, a, b, c, d])
        });
        ignored.now.store(Arc::new(many.collect()));
        assert!(matches!(ignored.add(Mac([2, 1, 0, 0, 0, 0])), Err(IgnoredError::Full)));
        assert!(!ignored.add(Mac([2, 0, 0, 0, 0, 0])).unwrap());
    }
}
