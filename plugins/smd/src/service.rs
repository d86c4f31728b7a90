//! The way of every write: decided on the tables, committed to the store, put into the tables, published; then answered.
//!
//! Writers take turns. Readers never wait for a disk or the inventory: the tables are locked for as long as memory is read or written.
//! What the inventory refuses stays in the tables, as SMD would have it, and is told in health and in the answer; it is tried again when
//! something changes. What a site says comes the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use bootd_sdk::etag::Tags;
use bootd_sdk::mac::Mac;
use bootd_sdk::prelude::*;
use bootd_sdk::upstream::Site;
use bootd_sdk::wire::{Commit, Report};
use serde::de::DeserializeOwned;

use crate::draft::{Change, Draft, Origin, member_key, set_key};
use crate::rows::{Family, Id};
use crate::site::{LISTED, LeftOut};
use crate::tables::{Revisions, Tables};

/// What smd holds, and how it is changed.
pub(crate) struct Service {
    pub(crate) host: Host,
    /// Whose rows these are; `None`: our own.
    pub(crate) site: Option<Site>,
    tags: Tags,
    tables: RwLock<Tables>,
    /// Keys of the store whose rows are none: left out, and told.
    unread: Vec<String>,
    /// The turn of a writer.
    turn: Mutex<Turn>,
}

/// What only the writer at turn looks at.
#[derive(Default)]
struct Turn {
    /// Rows that the inventory does not take, with its reasons.
    refused: BTreeMap<Id, String>,
    /// What was last said of health, and what the next one adds to.
    said: Health,
    /// The nodes file: what it is, and what is wrong with it.
    file: Option<(String, String, Vec<Mistake>)>,
    /// Rows of the site that cannot be mirrored, for each of its lists.
    left_out: BTreeMap<usize, LeftOut>,
    /// What the nodes file said at the start: in effect, and stored before anything else is.
    pending: Option<Commit>,
}

/// When a change is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Before it is in effect.
    First,
    /// With the next write or look. Nothing of it was acknowledged: after a crash the next start reads it from the file again.
    Later,
}

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unwritten {
    /// The rows could not be written as text.
    #[error("a row cannot be stored: {0}")]
    Row(#[from] serde_json::Error),
    /// The store did not take them. They are not in effect.
    #[error("not stored: {0}")]
    Store(#[from] HostError),
    /// A row in the store is not one.
    #[error("the store's {0} is not readable: {1}")]
    Unreadable(String, serde_json::Error),
}

impl Service {
    /// Everything that the store has.
    pub(crate) fn open(host: Host, site: Option<Site>) -> Result<Self, HostError> {
        let (tables, unread) = read_all(host)?;
        if !unread.is_empty() {
            tracing::error!(
                rows = unread.len(),
                first = unread.first(),
                "stored rows that cannot be read are left out"
            );
        }
        Ok(Self {
            host,
            site,
            tags: Tags::default(),
            tables: RwLock::new(tables),
            unread,
            turn: Mutex::default(),
        })
    }

    /// The rows at this moment. Not to be held while anything waits.
    pub(crate) fn tables(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entity tag of what is listed now. A whole list of some rows changes with these only; whatever else may depend on all rows.
    pub(crate) fn tag(&self, request: &Request) -> String {
        let Revisions {
            components,
            interfaces,
            managed,
            sets,
        } = self.tables().revisions();
        let path = request.path.trim_end_matches('/');
        let revision = match path.strip_prefix("/hsm/v2").filter(|_| request.query.is_empty()) {
            Some("/State/Components") => components,
            Some("/Inventory/EthernetInterfaces") => interfaces,
            Some("/Inventory/ComponentEndpoints") => managed,
            Some("/groups" | "/partitions") => sets,
            _ => components + interfaces + managed + sets,
        };
        self.tags.tag(revision)
    }

    /// Answers a request that writes: what `decide` drafted is durable and in effect before its answer is given. An `Err` writes nothing.
    pub(crate) fn write(&self, decide: impl FnOnce(&mut Draft<'_>) -> Result<Answer, Answer>) -> Answer {
        let mut turn = self.turn();
        let decided = {
            let tables = self.tables();
            let mut draft = Draft::new(&tables, Origin::Api, self.host.now_unix().as_secs());
            decide(&mut draft).map(|answer| (answer, draft.into_change()))
        };
        let (mut answer, change) = match decided {
            Ok(decided) => decided,
            Err(refusal) => return refusal,
        };
        match self.put(&mut turn, change, Stored::First) {
            Ok(refused) => {
                for (id, reason) in refused.iter().take(MOST_WARNED) {
                    let text: String = reason.chars().filter(|c| !c.is_control() && c.is_ascii()).collect();
                    let warning = format!("299 bootd \"{id} is kept but not served: {}\"", text.replace('"', "'"));
                    answer.headers.push(("warning".into(), warning));
                }
                answer
            }
            Err(error) => {
                tracing::error!(%error, "a write was refused by the store");
                Answer::problem(500, "Internal Server Error", &error.to_string())
            }
        }
    }

    /// Writes on behalf of the nodes file.
    pub(crate) fn write_file(&self, stored: Stored, decide: impl FnOnce(&mut Draft<'_>)) -> Result<(), Unwritten> {
        let mut turn = self.turn();
        let change = {
            let tables = self.tables();
            let mut draft = Draft::new(&tables, Origin::File, 0);
            decide(&mut draft);
            draft.into_change()
        };
        self.put(&mut turn, change, stored).map(drop)
    }

    /// Writes what a site says.
    pub(crate) fn write_site(&self, change: Change) -> Result<(), HostError> {
        let mut turn = self.turn();
        self.put(&mut turn, change, Stored::First)
            .map(drop)
            .map_err(|error| match error {
                Unwritten::Store(error) => error,
                error => HostError::Failed(error.to_string()),
            })
    }

    /// Notes what of a site's list cannot be mirrored.
    pub(crate) fn left_out(&self, collection: usize, left_out: LeftOut) {
        self.turn().left_out.insert(collection, left_out);
    }

    /// Publishes every row, beside what the inventory has of the last run. In parts: one text of all rows would be the largest thing here.
    pub(crate) fn publish_all(&self) -> Result<(), HostError> {
        let mut turn = self.turn();
        let ids = self.tables().node_ids();
        self.publish_parts(&mut turn, &ids)?;
        self.say(&mut turn);
        Ok(())
    }

    /// Takes out of the inventory what it has of an earlier run and nobody knows here.
    pub(crate) fn withdraw_others(&self) -> Result<(), HostError> {
        let _turn = self.turn();
        let mut publication = Publication::default();
        let nodes = self.host.nodes(&Query::default())?;
        {
            let tables = self.tables();
            let unknown = nodes
                .into_iter()
                .filter(|node| !tables.components.contains_key(node.id.as_str()));
            // Nodes of other plugins are among them, and stay: one takes out only one's own.
            publication.gone = unknown.map(|node| node.id).collect();
        }
        if !publication.gone.is_empty() {
            self.host.publish(&publication)?;
        }
        Ok(())
    }

    /// What the nodes file is, in words, and what is wrong with it.
    pub(crate) fn file_is(&self, name: &str, addition: &str, mistakes: Vec<Mistake>) {
        let mut turn = self.turn();
        turn.file = Some((name.into(), addition.into(), mistakes));
        self.say(&mut turn);
    }

    /// Once a second: what is pending is stored, rows that the inventory refused are tried again, and health is brought up to date.
    pub(crate) fn tend(&self) {
        let mut turn = self.turn();
        if let Err(error) = self.store_pending(&mut turn) {
            tracing::warn!(%error, "the nodes file is in effect and not stored yet");
        }
        if !turn.refused.is_empty() {
            let ids = turn.refused.keys().cloned().collect();
            if let Err(error) = self.publish(&mut turn, ids) {
                tracing::warn!(%error, "nodes not published");
            }
        }
        self.say(&mut turn);
    }

    /// Stores, puts into the tables and publishes. The rows of this change that the inventory does not take, with its reasons.
    fn put(&self, turn: &mut Turn, change: Change, stored: Stored) -> Result<Vec<(Id, String)>, Unwritten> {
        self.store_pending(turn)?;
        if change.is_empty() {
            return Ok(Vec::new());
        }
        turn.pending = Some(change.commit()?);
        if stored == Stored::First
            && let Err(error) = self.store_pending(turn)
        {
            turn.pending = None;
            return Err(error.into());
        }
        let mut touched = {
            let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
            let touched = tables.touched(&change);
            tables.apply(change);
            touched
        };
        let own = touched.clone();
        // What stood in the way of these may have left. When they are many, the next look tries them.
        if turn.refused.len() <= MOST_RETRIED {
            touched.extend(turn.refused.keys().cloned());
        }
        let before = turn.refused.len();
        let published = match touched.len() {
            0..MOST_AT_ONCE => self.publish(turn, touched),
            _ => self.publish_parts(turn, &touched.into_iter().collect::<Vec<_>>()),
        };
        if let Err(error) = published {
            // The rows are stored and in the tables: the next look publishes them.
            tracing::warn!(%error, "nodes not published yet");
            let text = format!("the inventory could not be asked: {error}");
            turn.refused.extend(own.iter().map(|id| (Arc::clone(id), text.clone())));
        }
        if turn.refused.len() != before && turn.refused.len() <= MOST_TOLD {
            self.say(turn);
        }
        let refused = own.iter().filter_map(|id| turn.refused.get_key_value(id));
        Ok(refused.map(|(id, reason)| (Arc::clone(id), reason.clone())).collect())
    }

    fn store_pending(&self, turn: &mut Turn) -> Result<(), HostError> {
        if let Some(commit) = &turn.pending {
            if !self.host.store_commit(commit)? {
                return Err(HostError::Failed("a precondition did not hold".into()));
            }
            turn.pending = None;
        }
        Ok(())
    }

    fn publish_parts(&self, turn: &mut Turn, ids: &[Id]) -> Result<(), HostError> {
        for part in ids.chunks(PART.max(ids.len() / 32)) {
            self.publish(turn, part.iter().cloned().collect())?;
        }
        Ok(())
    }

    fn publish(&self, turn: &mut Turn, ids: BTreeSet<Id>) -> Result<(), HostError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut publication = Publication::default();
        let mut rows = Vec::with_capacity(ids.len());
        {
            let tables = self.tables();
            // Nodes before controllers: the first of two that clash wins.
            let (nodes, others): (Vec<Id>, Vec<Id>) = ids.into_iter().partition(|id| tables.is_node(id));
            for id in nodes.into_iter().chain(others) {
                match tables.node(&id) {
                    Some(node) => {
                        publication
                            .nodes
                            .extend(serde_json::to_value(node).map_err(|e| HostError::Failed(e.to_string())));
                        rows.push(id);
                    }
                    None => {
                        turn.refused.remove(&id);
                        // Rows of types that the inventory does not have were never in it.
                        if bootd_sdk::xname::kind(&id).is_some() {
                            publication.gone.push(id.to_string());
                        }
                    }
                }
            }
        }
        if rows.is_empty() && publication.gone.is_empty() {
            return Ok(());
        }
        let report = self.host.publish(&publication)?;
        for id in &rows {
            turn.refused.remove(id);
        }
        turn.refused.extend(reasons(&rows, &report));
        Ok(())
    }

    /// Says how the plugin is, when that is new.
    fn say(&self, turn: &mut Turn) {
        let counts = self.tables().counts();
        let mut text = format!("{} nodes and {} BMCs", counts.nodes, counts.controllers);
        let mut mistakes = Vec::new();
        match &turn.file {
            Some((name, addition, of_file)) => {
                text.push_str(&format!(" from {name} and the API{addition}"));
                mistakes.clone_from(of_file);
            }
            None if self.site.is_some() => mistakes.extend(turn.left_out.iter().filter_map(left_out)),
            None => text.push_str(" from the API; config.nodes is not set"),
        }
        let told = turn.refused.iter().take(MOST_TOLD).map(|(id, reason)| Mistake {
            file: "smd".into(),
            line: 0,
            text: format!("{id} is kept but not served: {reason}"),
        });
        mistakes.extend(told);
        if let Some(more) = turn.refused.len().checked_sub(MOST_TOLD).filter(|more| *more > 0) {
            mistakes.push(Mistake {
                file: "smd".into(),
                line: 0,
                text: format!("{more} more components are kept but not served"),
            });
        }
        mistakes.extend(self.unread.iter().take(MOST_TOLD).map(|key| Mistake {
            file: "store".into(),
            line: 0,
            text: format!("{key} cannot be read and is left out; write it again"),
        }));
        let health = match &self.site {
            Some(site) => site.health(&text, mistakes),
            None => Health { text, mistakes },
        };
        if health != turn.said {
            self.host.health(&health);
            turn.said = health;
        }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn left_out((collection, left_out): (&usize, &LeftOut)) -> Option<Mistake> {
    let list = LISTED.get(*collection).filter(|_| left_out.count > 0)?;
    Some(Mistake {
        file: list.path.into(),
        line: 0,
        text: format!(
            "{} rows of the site are left out; the first: {}",
            left_out.count, left_out.first
        ),
    })
}

fn reasons(ids: &[Id], report: &Report) -> BTreeMap<Id, String> {
    let reasons = report.refused.iter().filter_map(|refusal| {
        let id = ids.get(refusal.row)?;
        Some((Arc::clone(id), refusal.reason.clone()))
    });
    reasons.collect()
}

/// Reads the store, table by table, so that no more than one of them is in memory twice; and the keys of what is no row.
fn read_all(host: Host) -> Result<(Tables, Vec<String>), HostError> {
    let (mut tables, mut unread) = (Tables::default(), Vec::new());
    let unread_too = &mut unread;
    tables.apply(Change {
        components: read(host, "component/", |id| Some(id.into()), unread_too)?,
        ..Change::default()
    });
    tables.apply(Change {
        interfaces: read(host, "iface/", |id| id.parse::<Mac>().ok(), unread_too)?,
        ..Change::default()
    });
    tables.apply(Change {
        endpoints: read(host, "rfe/", |id| Some(id.into()), unread_too)?,
        ..Change::default()
    });
    tables.apply(Change {
        component_endpoints: read(host, "compep/", |id| Some(id.into()), unread_too)?,
        ..Change::default()
    });
    for family in Family::ALL {
        let label = |label: &str| Some((family, Id::from(label)));
        let sets = read(host, &format!("{}/", set_key(family)), label, unread_too)?;
        let member = |key: &str| {
            let (label, id) = key.split_once('/')?;
            Some((family, Id::from(label), Id::from(id)))
        };
        let members = read::<_, bool>(host, &format!("{}/", member_key(family)), member, unread_too)?;
        tables.apply(Change {
            sets,
            members: members.into_keys().map(|key| (key, true)).collect(),
            ..Change::default()
        });
    }
    Ok((tables, unread))
}

fn read<K: Ord, R: DeserializeOwned>(
    host: Host,
    prefix: &str,
    key: impl Fn(&str) -> Option<K>,
    unread: &mut Vec<String>,
) -> Result<BTreeMap<K, Option<R>>, HostError> {
    let mut rows = BTreeMap::new();
    for (name, text) in host.store_scan(prefix)? {
        let known = name.strip_prefix(prefix).and_then(&key);
        match (known, serde_json::from_str(&text)) {
            (Some(key), Ok(row)) => drop(rows.insert(key, Some(row))),
            _ => unread.push(name),
        }
    }
    Ok(rows)
}

/// Rows of one part of a large publication, unless they are very many.
const PART: usize = 1000;
/// Rows that are published at once.
const MOST_AT_ONCE: usize = 4 * PART;
/// Refused rows of one request that its answer warns of.
const MOST_WARNED: usize = 8;
/// Refused rows that every write tries again.
const MOST_RETRIED: usize = 32;
/// Refused rows that health lists.
const MOST_TOLD: usize = 100;
