//! The next state of the inventory, while a publication is put into it. Pure: nothing of it is in effect, so a dry run is a draft that is
//! dropped.

use std::collections::HashSet;
use std::sync::Arc;

use bootd_sdk::wire::{Node, Overlay, Refusal};

use super::overlay::with_overlays;
use super::rules::{Reason, ServedSubnets, check_overlay, check_row, clashes};
use super::shards::Shards;
use super::snapshot::{Entry, Snapshot};

/// What a plugin published.
#[derive(Clone)]
pub(super) struct Owner {
    pub(super) name: Arc<str>,
    /// Its nodes, as it published them.
    pub(super) rows: Shards<String, Arc<Node>>,
    /// What it adds to nodes, be they there or not.
    pub(super) overlays: Shards<String, Arc<Overlay>>,
    /// The first rows that were refused.
    pub(super) refused: Vec<Refusal>,
    /// How many were.
    pub(super) refusals: usize,
    /// Its rows come from the last run; it has not published yet.
    pub(super) last_good: bool,
}

/// The next state.
pub(super) struct Draft<'a> {
    /// What each plugin published, in configuration order.
    pub(super) owners: Vec<Owner>,
    pub(super) snapshot: Snapshot,
    /// Rows, of these owners, that may be different now.
    pub(super) rows: HashSet<(usize, String)>,
    /// Overlays that may be.
    pub(super) overlays: HashSet<(usize, String)>,
    subnets: &'a ServedSubnets,
}

impl Owner {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            rows: Shards::default(),
            overlays: Shards::default(),
            refused: Vec::new(),
            refusals: 0,
            last_good: true,
        }
    }

    /// Remembers that a row is refused.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.refusals += 1;
        if self.refused.len() < MOST_REFUSED {
            self.refused.push(refusal);
        }
    }
}

impl<'a> Draft<'a> {
    pub(super) fn new(owners: &[Owner], snapshot: &Snapshot, subnets: &'a ServedSubnets) -> Self {
        Self {
            owners: owners.to_vec(),
            snapshot: snapshot.draft(),
            rows: HashSet::new(),
            overlays: HashSet::new(),
            subnets,
        }
    }

    /// Takes a row of an owner out.
    pub(super) fn remove(&mut self, at: usize, id: &str) -> Option<Arc<Node>> {
        let row = self.owners[at].rows.remove(id)?;
        self.snapshot.remove(id);
        self.rows.insert((at, id.to_owned()));
        Some(row)
    }

    /// Puts a row in, or says why not. Nodes of later owners make room for it, those of earlier ones do not.
    pub(super) fn insert(&mut self, at: usize, node: Arc<Node>) -> Result<(), Reason> {
        check_row(&node, self.subnets)?;
        let mut later = Vec::new();
        for (entry, reason) in clashes(&node, &self.snapshot, self.subnets) {
            match self.place(&entry.owner) {
                of if of == at && entry.node.id == node.id => return Err(Reason::DuplicateId),
                of if of <= at => return Err(reason),
                of => later.push((of, entry.node.id.clone(), reason)),
            }
        }
        let owner = Arc::clone(&self.owners[at].name);
        for (of, id, reason) in later {
            self.evict(of, id, &reason.of_the_other(&owner, &node.id));
        }
        self.rows.insert((at, node.id.clone()));
        self.snapshot.insert(Entry {
            owner,
            node: self.merged(&node),
        });
        self.owners[at].rows.insert(node.id.clone(), node);
        Ok(())
    }

    /// Takes an overlay of an owner out.
    pub(super) fn remove_overlay(&mut self, at: usize, id: &str) {
        if self.owners[at].overlays.remove(id).is_some() {
            self.overlays.insert((at, id.to_owned()));
            self.merge_again(id);
        }
    }

    /// Puts an overlay in, in place of the one that is there, or says why not.
    pub(super) fn insert_overlay(&mut self, at: usize, overlay: Arc<Overlay>) -> Result<(), Reason> {
        check_overlay(&overlay)?;
        let id = overlay.id.clone();
        self.owners[at].overlays.insert(id.clone(), overlay);
        self.merge_again(&id);
        self.overlays.insert((at, id));
        Ok(())
    }

    /// Drops the marks of rows and overlays that are what they were. What is left is different from before.
    pub(super) fn settle(&mut self, before: &[Owner]) {
        let owners = &self.owners;
        self.rows
            .retain(|(at, id)| before[*at].rows.get(id) != owners[*at].rows.get(id));
        self.overlays
            .retain(|(at, id)| before[*at].overlays.get(id) != owners[*at].overlays.get(id));
    }

    /// Whether [`Draft::settle`] found that nothing is different.
    pub(super) fn is_the_same(&self) -> bool {
        self.rows.is_empty() && self.overlays.is_empty()
    }

    /// A row of a later owner goes, since an earlier one has taken something of it.
    fn evict(&mut self, of: usize, id: String, reason: &Reason) {
        // It may have had more than one thing of the new row's.
        if self.remove(of, &id).is_some() {
            self.owners[of].refuse(Refusal {
                row: usize::MAX,
                id,
                reason: reason.to_string(),
            });
        }
    }

    fn merge_again(&mut self, id: &str) {
        let Some(entry) = self.snapshot.entry(id) else { return };
        let Some(row) = self.owners[self.place(&entry.owner)].rows.get(id) else {
            return;
        };
        let node = self.merged(row);
        if node == entry.node {
            return;
        }
        if let Some(entry) = self.snapshot.remove(id) {
            self.snapshot.insert(Entry { node, ..entry });
        }
    }

    fn merged(&self, row: &Arc<Node>) -> Arc<Node> {
        let owners = self.owners.iter().filter(|owner| !owner.overlays.is_empty());
        with_overlays(row, owners.filter_map(|owner| owner.overlays.get(&row.id)))
    }

    /// An owner's place in the configuration.
    fn place(&self, name: &str) -> usize {
        let place = self.owners.iter().position(|owner| *owner.name == *name);
        // Entries are made of owners only.
        place.unwrap_or(usize::MAX)
    }
}

/// Refused rows of a plugin that are kept for the operator to see; the publisher gets all of them.
const MOST_REFUSED: usize = 1000;
