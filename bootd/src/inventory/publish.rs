//! Publications: rows in, a new snapshot out, and its copy on disk.
//!
//! A publication is checked against everything else that is published; what passes is in effect when [`Inventory::publish`] returns.
//! The copy on disk is written afterwards, only the rows that changed; at the next start it is there before any plugin answers.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bootd_sdk::wire::{Node, Publication, Refusal, Report};
use bootd_sdk::xname;

use super::rules::{Checker, Reason, ServedSubnets};
use super::snapshot::{Entry, Snapshot};
use crate::metrics::Metrics;
use crate::state::{Row, Store, StoreError, Write};

/// Nodes that one inventory may hold; more are refused.
const MOST_NODES: usize = 200_000;

/// The table of last-good rows: key `<plugin>/<xname>`, value the node as JSON.
const TABLE: &str = "inventory";

/// A publication that did not take place at all.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Nobody of this name is configured.
    #[error("no plugin '{0}' is configured")]
    UnknownPlugin(String),
    /// Too many rows.
    #[error("{0} nodes are more than the {MOST_NODES} that an inventory holds")]
    TooMany(usize),
}

/// The nodes of this box.
pub struct Inventory {
    shared: Arc<ArcSwap<Snapshot>>,
    working: Mutex<Working>,
    subnets: ServedSubnets,
    store: Option<Store>,
    /// A write failed: the copy on disk is not what the last snapshot said.
    behind: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

/// What each plugin published, in configuration order.
struct Working {
    owners: Vec<Owner>,
    generation: u64,
}

#[derive(Clone)]
struct Owner {
    name: Arc<str>,
    rows: Vec<Arc<Node>>,
    refused: Vec<Refusal>,
    /// Its rows come from the last run; it has not published yet.
    last_good: bool,
}

impl Inventory {
    /// An inventory for these plugins, in their order, holding what was last good. `store: None` keeps nothing (for `bootd check`).
    pub fn new(
        plugins: &[String],
        subnets: ServedSubnets,
        store: Option<Store>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let mut owners: Vec<Owner> = plugins
            .iter()
            .map(|name| Owner {
                name: name.as_str().into(),
                rows: Vec::new(),
                refused: Vec::new(),
                last_good: true,
            })
            .collect();
        if let Some(store) = &store {
            for (key, text) in store.scan(TABLE, "")? {
                let owner = key
                    .split_once('/')
                    .and_then(|(name, _)| owners.iter_mut().find(|o| *o.name == *name));
                match (owner, serde_json::from_str::<Node>(&text)) {
                    (Some(owner), Ok(node)) => owner.rows.push(Arc::new(node)),
                    (None, _) => tracing::info!(key, "a last-good node is left out: its plugin is not configured"),
                    (_, Err(error)) => tracing::warn!(key, %error, "a last-good node cannot be read"),
                }
            }
        }
        let inventory = Self {
            shared: Arc::default(),
            working: Mutex::new(Working {
                owners: Vec::new(),
                generation: 0,
            }),
            subnets,
            store,
            behind: Arc::default(),
            metrics,
        };
        inventory.take_effect(&mut inventory.lock(), owners);
        Ok(inventory)
    }

    /// The nodes at this moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.load_full()
    }

    /// Where the current snapshot always is.
    pub fn shared(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.shared)
    }

    /// Rows that are refused at present, with the plugin that published them.
    pub fn refused(&self) -> Vec<(String, Refusal)> {
        let working = self.lock();
        working
            .owners
            .iter()
            .flat_map(|o| o.refused.iter().map(|r| (o.name.to_string(), r.clone())))
            .collect()
    }

    /// Whether a plugin's nodes are those of the last run, because it has not published since.
    pub fn is_last_good(&self, plugin: &str) -> bool {
        self.lock()
            .owners
            .iter()
            .any(|o| *o.name == *plugin && o.last_good && !o.rows.is_empty())
    }

    /// Checks a publication and, unless it is a dry run, puts it into effect.
    pub fn publish(&self, plugin: &str, publication: Publication) -> Result<Report, PublishError> {
        let mut working = self.lock();
        let at = working.owners.iter().position(|o| *o.name == *plugin);
        let at = at.ok_or_else(|| PublishError::UnknownPlugin(plugin.to_owned()))?;
        let dry_run = publication.dry_run;
        let candidates = Candidates::of(&working.owners[at], publication);
        if candidates.kept.len() + candidates.new.len() > MOST_NODES {
            return Err(PublishError::TooMany(candidates.kept.len() + candidates.new.len()));
        }
        let accepted = candidates.new.len();
        let (owners, refused) = merge(&working.owners, at, candidates, &self.subnets);
        let report = Report {
            accepted: accepted - refused,
            refused: owners[at].refused.clone(),
        };
        if !dry_run {
            for refusal in &report.refused {
                tracing::warn!(
                    plugin,
                    id = refusal.id,
                    reason = refusal.reason,
                    "a row is left out of the inventory"
                );
            }
            self.take_effect(&mut working, owners);
        }
        Ok(report)
    }

    /// Indexes, swaps, counts, and writes what changed to disk.
    fn take_effect(&self, working: &mut Working, owners: Vec<Owner>) {
        working.owners = owners;
        working.generation += 1;
        let entries = working.owners.iter().flat_map(|owner| {
            owner.rows.iter().map(|node| Entry {
                owner: Arc::clone(&owner.name),
                node: Arc::clone(node),
            })
        });
        let new = Arc::new(Snapshot::new(working.generation, entries.collect()));
        let old = self.shared.swap(Arc::clone(&new));
        self.metrics.set(
            "inventory",
            "nodes",
            i64::try_from(new.entries().len()).unwrap_or(i64::MAX),
        );
        for owner in &working.owners {
            self.metrics.set(
                &owner.name,
                "refused_rows",
                i64::try_from(owner.refused.len()).unwrap_or(i64::MAX),
            );
        }
        if working.generation > 1 {
            self.keep(&old, &new);
        }
    }

    /// Hands the difference to the store's writer. A write that fails is counted; the next publication then writes everything.
    fn keep(&self, old: &Snapshot, new: &Snapshot) {
        let Some(store) = &self.store else { return };
        let key = |entry: &Entry| format!("{}/{}", entry.owner, entry.node.id);
        let mut before: HashMap<String, Option<&Arc<Node>>> =
            old.entries().iter().map(|e| (key(e), Some(&e.node))).collect();
        if self.behind.swap(false, Ordering::AcqRel) {
            // What is on disk counts, of which only the keys are known here.
            before = match store.scan(TABLE, "") {
                Ok(rows) => rows.into_keys().map(|key| (key, None)).collect(),
                Err(error) => return self.kept(Err(error)),
            };
        }
        let after: HashMap<String, &Arc<Node>> = new.entries().iter().map(|e| (key(e), &e.node)).collect();
        let row = |key: &String| Row {
            table: TABLE.into(),
            key: key.clone(),
        };
        let write = Write {
            put: after
                .iter()
                .filter(|(key, node)| before.get(*key).copied().flatten() != Some(**node))
                .filter_map(|(key, node)| Some((row(key), serde_json::to_string(&***node).ok()?)))
                .collect(),
            delete: before.keys().filter(|key| !after.contains_key(*key)).map(row).collect(),
            expect: Vec::new(),
        };
        if write == Write::default() {
            return;
        }
        let (metrics, behind) = (Arc::clone(&self.metrics), Arc::clone(&self.behind));
        let written = store.write(write, move |result| report_store(&metrics, &behind, result));
        if written.is_err() {
            self.kept(written);
        }
    }

    fn kept(&self, result: Result<(), StoreError>) {
        report_store(&self.metrics, &self.behind, result);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Working> {
        self.working.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn report_store(metrics: &Metrics, behind: &AtomicBool, result: Result<(), StoreError>) {
    if let Err(error) = result {
        behind.store(true, Ordering::Release);
        metrics.refused("inventory", error.label(), &"state store", &error);
    }
}

/// What a plugin's rows would become: those that stay, and the new ones with their place in the publication.
struct Candidates {
    kept: Vec<Arc<Node>>,
    new: Vec<(usize, Arc<Node>)>,
    unreadable: Vec<Refusal>,
}

impl Candidates {
    fn of(owner: &Owner, publication: Publication) -> Self {
        let gone: HashSet<String> = publication.gone.iter().map(|id| xname::normalise(id)).collect();
        let mut new = Vec::with_capacity(publication.nodes.len());
        let mut unreadable = Vec::new();
        for (row, value) in publication.nodes.into_iter().enumerate() {
            let id: String = value
                .get("id")
                .and_then(|id| id.as_str())
                .unwrap_or_default()
                .chars()
                .take(64)
                .collect();
            match serde_json::from_value::<Node>(value) {
                Ok(node) => new.push((row, Arc::new(canonical(node)))),
                Err(error) => {
                    unreadable.push(Refusal {
                        row,
                        id,
                        reason: Reason::NotANode(error.to_string()).to_string(),
                    });
                }
            }
        }
        let kept = if publication.full {
            Vec::new()
        } else {
            owner.rows.clone()
        };
        let kept = kept.into_iter().filter(|node| !gone.contains(&node.id)).collect();
        Self { kept, new, unreadable }
    }
}

fn canonical(mut node: Node) -> Node {
    node.id = xname::normalise(&node.id);
    if node.kind.is_empty() {
        node.kind = xname::kind(&node.id).unwrap_or_default().to_owned();
    }
    node.groups.sort();
    node.groups.dedup();
    node
}

/// All owners' rows with the candidates of one in its place, and how many of the candidates are refused.
fn merge(owners: &[Owner], at: usize, candidates: Candidates, subnets: &ServedSubnets) -> (Vec<Owner>, usize) {
    let mut checker = Checker::new(subnets);
    let mut merged = owners.to_vec();
    for owner in &mut merged[..at] {
        keep_accepted(owner, &mut checker);
    }
    let owner = &mut merged[at];
    let replaced: HashSet<&str> = candidates.new.iter().map(|(_, node)| node.id.as_str()).collect();
    let (old, kept): (Vec<_>, Vec<_>) = candidates
        .kept
        .into_iter()
        .partition(|node| replaced.contains(node.id.as_str()));
    owner.last_good = false;
    owner.rows = kept;
    owner.refused = Vec::new();
    keep_accepted(owner, &mut checker);
    owner.refused = candidates.unreadable;
    let mut refused = 0;
    for (row, node) in candidates.new {
        match checker.accept(&owner.name, &node) {
            Ok(()) => owner.rows.push(node),
            Err(reason) => {
                refused += 1;
                owner.refused.push(Refusal {
                    row,
                    id: node.id.clone(),
                    reason: reason.to_string(),
                });
                // What a refused row was to replace stays.
                let before = old.iter().find(|before| before.id == node.id);
                if let Some(before) = before.filter(|before| checker.accept(&owner.name, before).is_ok()) {
                    owner.rows.push(Arc::clone(before));
                }
            }
        }
    }
    owner.refused.sort_by_key(|refusal| refusal.row);
    for owner in &mut merged[at + 1..] {
        keep_accepted(owner, &mut checker);
    }
    (merged, refused)
}

/// Rows that were accepted before stay, unless an earlier owner has taken something of theirs since.
fn keep_accepted(owner: &mut Owner, checker: &mut Checker<'_>) {
    let name = Arc::clone(&owner.name);
    let mut lost = Vec::new();
    owner.rows.retain(|node| match checker.accept(&name, node) {
        Ok(()) => true,
        Err(reason) => {
            lost.push(Refusal {
                row: usize::MAX,
                id: node.id.clone(),
                reason: reason.to_string(),
            });
            false
        }
    });
    owner.refused.extend(lost);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::path::Path;

    fn subnets() -> ServedSubnets {
        let text =
            "[server]\ninterfaces = [\"br0\"]\naddress = \"172.16.0.254\"\n[[dhcp.subnet]]\ncidr = \"172.16.0.0/24\"\n";
        ServedSubnets::of(&crate::config::parse(text, Path::new("bootd.toml")).unwrap())
    }

    fn inventory(store: Option<Store>) -> Inventory {
        Inventory::new(&["smd".into(), "other".into()], subnets(), store, Arc::default()).unwrap()
    }

    fn row(id: &str, nid: u64, mac: &str, ip: &str) -> Value {
        json!({"id": id, "nid": nid, "interfaces": [{"mac": mac, "ips": [{"ip": ip}]}]})
    }

    fn full(rows: Vec<Value>) -> Publication {
        Publication {
            full: true,
            nodes: rows,
            ..Publication::default()
        }
    }

    fn good(n: u8) -> Value {
        row(
            &format!("x1000c0s0b{n}n0"),
            n.into(),
            &format!("52:54:00:be:ef:{n:02x}"),
            &format!("172.16.0.{n}"),
        )
    }

    #[test]
    fn a_wrong_row_costs_only_itself_and_the_reason_names_the_other_one() {
        let inventory = inventory(None);
        let report = inventory
            .publish(
                "smd",
                full(vec![
                    good(1),
                    row("x1000c0s0b2n0", 2, "52:54:00:be:ef:01", "172.16.0.2"),
                    row("x1000c0s0b3n0", 3, "52:54:00:be:ef:03", "172.16.0.1"),
                    row("compute4", 4, "52:54:00:be:ef:04", "172.16.0.4"),
                    row("x1000c0s0b5n0", 5, "52:54:00:be:ef:05", "172.16.0.254"),
                    row("x1000c0s0b6n0", 1, "52:54:00:be:ef:06", "172.16.0.6"),
                    json!({"id": "x1000c0s0b7n0", "interfaces": [{"mac": "nonsense"}]}),
                    good(8),
                    good(8),
                ]),
            )
            .unwrap();
        let reasons: Vec<(usize, &str)> = report.refused.iter().map(|r| (r.row, r.reason.as_str())).collect();
        assert_eq!(report.accepted, 2);
        assert_eq!(reasons[0], (1, "MAC 52:54:00:be:ef:01 is x1000c0s0b1n0's already"));
        assert_eq!(reasons[1], (2, "address 172.16.0.1 is x1000c0s0b1n0's already"));
        assert!(reasons[2].1.contains("'compute4' is not the xname"));
        assert_eq!(reasons[3], (4, "address 172.16.0.254 is bootd's own address"));
        assert_eq!(reasons[4], (5, "NID 1 is x1000c0s0b1n0's already"));
        assert!(reasons[5].1.contains("nonsense"));
        assert_eq!(reasons[6], (8, "this id stands in an earlier row"));
        assert_eq!(inventory.snapshot().entries().len(), 2);
        assert_eq!(inventory.refused().len(), 7);
    }

    #[test]
    fn a_dry_run_changes_nothing() {
        let inventory = inventory(None);
        let report = inventory
            .publish(
                "smd",
                Publication {
                    dry_run: true,
                    ..full(vec![good(1)])
                },
            )
            .unwrap();
        assert_eq!((report.accepted, inventory.snapshot().entries().len()), (1, 0));
    }

    #[test]
    fn a_delta_replaces_adds_and_removes_and_a_refused_row_leaves_the_old_one() {
        let inventory = inventory(None);
        inventory.publish("smd", full(vec![good(1), good(2), good(3)])).unwrap();
        let moved = row("x1000c0s0b2n0", 2, "52:54:00:be:ef:02", "172.16.0.1");
        let delta = Publication {
            nodes: vec![moved, good(4)],
            gone: vec!["x1000c0s0b3n0".into()],
            ..Publication::default()
        };
        let report = inventory.publish("smd", delta).unwrap();
        assert_eq!((report.accepted, report.refused.len()), (1, 1));
        let snapshot = inventory.snapshot();
        let ids: Vec<&str> = snapshot.entries().iter().map(|e| e.node.id.as_str()).collect();
        assert_eq!(ids, ["x1000c0s0b1n0", "x1000c0s0b2n0", "x1000c0s0b4n0"]);
        assert_eq!(
            snapshot.by_ip("172.16.0.2".parse().unwrap()).unwrap().id,
            "x1000c0s0b2n0"
        );
    }

    #[test]
    fn the_first_plugin_in_order_owns_a_node_whoever_publishes_first() {
        let inventory = inventory(None);
        inventory.publish("other", full(vec![good(1), good(2)])).unwrap();
        inventory.publish("smd", full(vec![good(1)])).unwrap();
        let snapshot = inventory.snapshot();
        let owners: Vec<&str> = snapshot.entries().iter().map(|e| &*e.owner).collect();
        assert_eq!(owners, ["smd", "other"]);
        let report = inventory.publish("other", full(vec![good(1)])).unwrap();
        assert_eq!(report.refused[0].reason, "the plugin smd comes first and has this id");
    }

    #[test]
    fn a_copy_on_disk_that_fell_behind_catches_up_with_the_next_publication() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let first = inventory(Some(store.clone()));
        first.publish("smd", full(vec![good(1), good(2)])).unwrap();
        store.write_and_wait(Write::default()).unwrap();
        // As after a write that failed: node 1 is missing on disk, and one that is gone is still there.
        let row = |id: &str| Row {
            table: TABLE.into(),
            key: format!("smd/{id}"),
        };
        let wrong = Write {
            put: vec![(row("x1000c0s0b9n0"), good(9).to_string())],
            delete: vec![row("x1000c0s0b1n0")],
            ..Write::default()
        };
        store.write_and_wait(wrong).unwrap();
        first.behind.store(true, Ordering::Release);
        first.publish("smd", full(vec![good(1), good(2), good(3)])).unwrap();
        store.write_and_wait(Write::default()).unwrap();
        let keys: Vec<String> = store.scan(TABLE, "").unwrap().into_keys().collect();
        assert_eq!(keys, ["smd/x1000c0s0b1n0", "smd/x1000c0s0b2n0", "smd/x1000c0s0b3n0"]);
    }

    #[test]
    fn the_last_good_nodes_are_there_after_a_restart_before_any_plugin_publishes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        inventory(Some(store.clone()))
            .publish("smd", full(vec![good(1), good(2)]))
            .unwrap();
        // The next write waits behind the inventory's own, so both are on disk when it returns.
        store.write_and_wait(Write::default()).unwrap();
        let restarted = inventory(Some(store));
        assert_eq!(
            restarted
                .snapshot()
                .by_mac("52:54:00:be:ef:02".parse().unwrap())
                .unwrap()
                .0
                .id,
            "x1000c0s0b2n0"
        );
        assert!(restarted.is_last_good("smd"));
        restarted.publish("smd", full(vec![good(1)])).unwrap();
        assert!(!restarted.is_last_good("smd"));
        assert_eq!(restarted.snapshot().entries().len(), 1);
    }
}
