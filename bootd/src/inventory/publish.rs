//! Publications: rows in, a new snapshot out, and its copy on disk.
//!
//! A publication is checked against everything else that is published; what passes is in effect when [`Inventory::publish`] returns.
//! The copy on disk is written afterwards. A publication that says what is known already changes neither the snapshot nor the disk.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use bootd_sdk::wire::{Node, Overlay, Refusal, Report};

use super::draft::{Draft, Owner};
use super::kept::Kept;
use super::rules::{Reason, ServedSubnets, refusal};
use super::snapshot::Snapshot;
use super::told::{Rows, Told};
use crate::lines::Lines;
use crate::metrics::Metrics;
use crate::state::{Store, StoreError};

/// Nodes that one plugin may publish, and overlays; more are refused.
const MOST_NODES: usize = 200_000;
/// Refused rows of a publication that are logged one by one.
const MOST_SAID: usize = 10;

/// A publication that did not take place at all.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Nobody of this name is configured.
    #[error("no plugin '{0}' is configured")]
    UnknownPlugin(String),
    /// Too many rows.
    #[error("{0} rows are more than the {MOST_NODES} that an inventory holds")]
    TooMany(usize),
}

/// The nodes of this box.
pub struct Inventory {
    shared: Arc<ArcSwap<Snapshot>>,
    working: Mutex<Working>,
    subnets: ArcSwap<ServedSubnets>,
    kept: Option<Kept>,
    lines: Lines,
}

struct Working {
    /// What each plugin published, in configuration order.
    owners: Vec<Owner>,
    /// The snapshot before the current one. Freeing one takes a while, which is not to happen to a packet that held it last.
    former: Arc<Snapshot>,
}

impl Inventory {
    /// An inventory for these plugins, in their order, holding what was last good. `store: None` keeps nothing (for `bootd check`).
    pub fn new(
        plugins: &[String],
        subnets: ServedSubnets,
        store: Option<Store>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let owners: Vec<Owner> = plugins.iter().map(|name| Owner::new(name)).collect();
        let kept = store.map(|store| Kept::new(store, metrics));
        let mut draft = Draft::new(&owners, &Snapshot::default(), &subnets);
        if let Some(kept) = &kept {
            last_good(&mut draft, kept)?;
        }
        let Draft { owners, snapshot, .. } = draft;
        Ok(Self {
            shared: Arc::new(ArcSwap::from_pointee(snapshot)),
            working: Mutex::new(Working {
                owners,
                former: Arc::default(),
            }),
            subnets: ArcSwap::from_pointee(subnets),
            kept,
            lines: Lines::new(Instant::now()),
        })
    }

    /// Takes over what is on disk by now: another process published until a moment ago.
    pub fn read_again(&self) -> Result<(), StoreError> {
        let Some(kept) = &self.kept else { return Ok(()) };
        let mut working = self.lock();
        let owners: Vec<Owner> = working.owners.iter().map(|owner| Owner::new(&owner.name)).collect();
        let subnets = self.subnets.load();
        let mut draft = Draft::new(&owners, &Snapshot::default(), &subnets);
        last_good(&mut draft, kept)?;
        let Draft { owners, snapshot, .. } = draft;
        working.former = self.shared.swap(Arc::new(snapshot));
        working.owners = owners;
        Ok(())
    }

    /// The nodes at this moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.load_full()
    }

    /// Where the current snapshot always is.
    pub fn shared(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.shared)
    }

    /// Rows that are published from now on are checked by other subnets. Those that are there stay until then.
    pub fn serve(&self, subnets: ServedSubnets) {
        self.subnets.store(Arc::new(subnets));
    }

    /// Rows that are refused at present, with the plugin that published them; of a plugin with very many the first.
    pub fn refused(&self) -> Vec<(String, Refusal)> {
        let working = self.lock();
        working
            .owners
            .iter()
            .flat_map(|o| o.refused.iter().map(|r| (o.name.to_string(), r.clone())))
            .collect()
    }

    /// How many rows of each plugin are refused at present.
    pub fn refused_rows(&self) -> Vec<(String, usize)> {
        let working = self.lock();
        let owners = working.owners.iter();
        owners.map(|owner| (owner.name.to_string(), owner.refusals)).collect()
    }

    /// Whether a plugin's nodes are those of the last run, because it has not published since.
    pub fn is_last_good(&self, plugin: &str) -> bool {
        self.lock()
            .owners
            .iter()
            .any(|o| *o.name == *plugin && o.last_good && !o.rows.is_empty())
    }

    /// Checks a publication and, unless it is a dry run, puts it into effect.
    pub fn publish(&self, plugin: &str, publication: impl Into<Told>) -> Result<Report, PublishError> {
        let publication = publication.into();
        let dry_run = publication.dry_run;
        // Reading takes longest; other publishers do not wait for that.
        let rows = self.read(publication)?;
        self.put(plugin, rows, dry_run)
    }

    /// Reads the rows of a publication, for [`Inventory::put`].
    pub fn read(&self, publication: Told) -> Result<Rows, PublishError> {
        let most = publication.nodes.len().max(publication.overlays.len());
        if most > MOST_NODES {
            return Err(PublishError::TooMany(most));
        }
        Ok(publication.read())
    }

    /// Checks rows that were read and, unless it is a dry run, puts them into effect.
    pub fn put(&self, plugin: &str, rows: Rows, dry_run: bool) -> Result<Report, PublishError> {
        let mut working = self.lock();
        let at = working.owners.iter().position(|o| *o.name == *plugin);
        let at = at.ok_or_else(|| PublishError::UnknownPlugin(plugin.to_owned()))?;
        let subnets = self.subnets.load();
        let mut draft = Draft::new(&working.owners, &self.shared.load(), &subnets);
        let report = rows.apply(&mut draft, at);
        let owner = &draft.owners[at];
        let most = owner.rows.len().max(owner.overlays.len());
        if most > MOST_NODES {
            return Err(PublishError::TooMany(most));
        }
        if !dry_run {
            self.say(plugin, &report.refused);
            self.take_effect(&mut working, draft);
        }
        Ok(report)
    }

    /// Swaps, and has what changed written to disk.
    fn take_effect(&self, working: &mut Working, mut draft: Draft<'_>) {
        draft.settle(&working.owners);
        let same = draft.is_the_same();
        if !same {
            let new = Arc::new(std::mem::take(&mut draft.snapshot));
            working.former = self.shared.swap(new);
        }
        if let Some(kept) = self.kept.as_ref().filter(|kept| !same || kept.is_behind()) {
            kept.keep(&draft);
        }
        working.owners = draft.owners;
    }

    /// The first refused rows, and how many more there are: a publisher of nonsense fills no disk.
    fn say(&self, plugin: &str, refused: &[Refusal]) {
        let (said, more) = refused.split_at(refused.len().min(MOST_SAID));
        for refusal in said.iter().filter(|_| self.lines.may_write(Instant::now())) {
            let (id, reason) = (&refusal.id, &refusal.reason);
            tracing::warn!(plugin, id, reason, "a row is left out of the inventory");
        }
        if !more.is_empty() && self.lines.may_write(Instant::now()) {
            tracing::warn!(plugin, rows = more.len(), "more rows are left out of the inventory");
        }
        if let Some(left_out) = self.lines.left_out(Instant::now()) {
            tracing::warn!(
                left_out,
                "inventory lines left out: plugins publish too much that is wrong"
            );
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Working> {
        self.working.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts in what is on disk, owner by owner.
fn last_good(draft: &mut Draft<'_>, kept: &Kept) -> Result<(), StoreError> {
    for (at, overlay) in kept.overlays(&draft.owners)? {
        let id = overlay.id.clone();
        if let Err(reason) = draft.insert_overlay(at, Arc::new(overlay)) {
            draft.owners[at].refuse(refusal(usize::MAX, id, &reason));
        }
    }
    let mut nodes = kept.nodes(&draft.owners)?;
    nodes.sort_by_key(|(at, _)| *at);
    for (at, node) in nodes {
        let id = node.id.clone();
        if let Err(reason) = draft.insert(at, Arc::new(node)) {
            draft.owners[at].refuse(refusal(usize::MAX, id, &reason));
        }
    }
    Ok(())
}

impl Rows {
    /// Puts them into a draft.
    fn apply(self, draft: &mut Draft<'_>, at: usize) -> Report {
        let owner = &mut draft.owners[at];
        owner.last_good = false;
        owner.refused = Vec::new();
        owner.refusals = 0;
        for id in &self.gone {
            draft.remove(at, id);
            draft.remove_overlay(at, id);
        }
        let mut accepted = 0;
        let mut refused = self.unreadable;
        apply_nodes(draft, at, self.full, self.nodes, &mut accepted, &mut refused);
        refused.sort_by_key(|refusal| refusal.row);
        let mut of_overlays = self.unreadable_overlays;
        apply_overlays(draft, at, self.full, self.overlays, &mut accepted, &mut of_overlays);
        of_overlays.sort_by_key(|refusal| refusal.row);
        refused.append(&mut of_overlays);
        for refusal in &refused {
            draft.owners[at].refuse(refusal.clone());
        }
        Report { accepted, refused }
    }
}

/// Rows that are what they were keep what they have; the others leave before the first of them comes back, so that nodes can change places.
fn apply_nodes(
    draft: &mut Draft<'_>,
    at: usize,
    full: bool,
    nodes: Vec<(usize, Arc<Node>)>,
    accepted: &mut usize,
    refused: &mut Vec<Refusal>,
) {
    let mut seen = HashSet::with_capacity(nodes.len());
    let mut changed = Vec::new();
    for (row, node) in &nodes {
        let first = seen.insert(node.id.as_str());
        if first && draft.owners[at].rows.get(&node.id) == Some(node) {
            *accepted += 1;
            continue;
        }
        let before = if first { draft.remove(at, &node.id) } else { None };
        // A full publication says what there is; otherwise what a refused row was to replace stays.
        changed.push((row, node, before.filter(|_| !full)));
    }
    if full {
        let rows = draft.owners[at].rows.iter().map(|(id, _)| id);
        let gone: Vec<String> = rows.filter(|id| !seen.contains(id.as_str())).cloned().collect();
        for id in gone {
            draft.remove(at, &id);
        }
    }
    for (row, node, before) in changed {
        match draft.insert(at, Arc::clone(node)) {
            Ok(()) => *accepted += 1,
            Err(reason) => {
                refused.push(refusal(*row, node.id.clone(), &reason));
                if let Some(before) = before {
                    // Another row may have taken something of it; then it is gone.
                    let _ = draft.insert(at, before);
                }
            }
        }
    }
}

fn apply_overlays(
    draft: &mut Draft<'_>,
    at: usize,
    full: bool,
    overlays: Vec<(usize, Arc<Overlay>)>,
    accepted: &mut usize,
    refused: &mut Vec<Refusal>,
) {
    let mut seen = HashSet::with_capacity(overlays.len());
    for (row, overlay) in overlays {
        let id = overlay.id.clone();
        let inserted = match draft.owners[at].overlays.get(&id) {
            _ if seen.contains(&id) => Err(Reason::DuplicateId),
            Some(before) if *before == overlay => Ok(()),
            _ => draft.insert_overlay(at, overlay),
        };
        match inserted {
            Ok(()) => {
                *accepted += 1;
                seen.insert(id);
            }
            Err(reason) => refused.push(refusal(row, id, &reason)),
        }
    }
    if full {
        let overlays = draft.owners[at].overlays.iter().map(|(id, _)| id);
        let gone: Vec<String> = overlays.filter(|id| !seen.contains(*id)).cloned().collect();
        for id in gone {
            draft.remove_overlay(at, &id);
        }
    }
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
