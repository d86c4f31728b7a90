//! A map whose copies share what they have in common.
//!
//! It is cut into a fixed number of hash maps by the hash of the key. A copy takes references to them, and whoever changes an entry copies
//! the one part that holds it, so a change to a snapshot of ten thousand nodes costs about as much as one of a hundred. Look-ups are those of
//! a hash map.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

/// Parts: a copy of the whole costs this many references, a change copies this fraction of the entries.
const PARTS: usize = 512;

/// The map.
#[derive(Debug)]
pub(super) struct Shards<K, V> {
    parts: Box<[Arc<HashMap<K, V>>]>,
    hasher: RandomState,
    len: usize,
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        Self {
            parts: vec![Arc::default(); PARTS].into(),
            hasher: RandomState::new(),
            len: 0,
        }
    }
}

impl<K, V> Clone for Shards<K, V> {
    fn clone(&self) -> Self {
        Self {
            parts: self.parts.clone(),
            hasher: self.hasher.clone(),
            len: self.len,
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Shards<K, V> {
    pub(super) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.parts[self.part(key)].get(key)
    }

    /// Sets an entry; a former value is gone.
    pub(super) fn insert(&mut self, key: K, value: V) {
        let part = self.part(&key);
        if Arc::make_mut(&mut self.parts[part]).insert(key, value).is_none() {
            self.len += 1;
        }
    }

    pub(super) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let part = self.part(key);
        // What is not there is no reason to copy a part.
        if !self.parts[part].contains_key(key) {
            return None;
        }
        self.len -= 1;
        Arc::make_mut(&mut self.parts[part]).remove(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.parts.iter().flat_map(|part| part.iter())
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn part<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        // Not the bits by which the parts themselves look up.
        (self.hasher.hash_one(key) >> 32) as usize % PARTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_what_it_has_whatever_happens_to_the_other_one() {
        let mut map = Shards::default();
        for n in 0..1000 {
            map.insert(n, n);
        }
        let before = map.clone();
        map.insert(7, 70);
        map.insert(1000, 1000);
        assert_eq!((map.remove(&8), map.remove(&8)), (Some(8), None));
        assert_eq!((map.get(&7), map.get(&8), map.len()), (Some(&70), None, 1000));
        assert_eq!(
            (before.get(&7), before.get(&8), before.len()),
            (Some(&7), Some(&8), 1000)
        );
        assert_eq!((map.iter().count(), before.iter().count()), (1000, 1000));
        let shared = map.parts.iter().zip(&before.parts).filter(|(a, b)| Arc::ptr_eq(a, b));
        assert!(shared.count() >= PARTS - 3);
    }
}
