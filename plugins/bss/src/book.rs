//! All boot parameters, and which of them a node boots.
//!
//! Each target leads to one [`Config`]; equal ones are kept once. The most exact target wins: MAC, xname, NID, group, role, `Default`. Every
//! look-up is by hash. A [`Book`] never changes: a [`Draft`] makes the next one, and says what that writes to the store. Knows no requests.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bootd_sdk::changes::Changes;
use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Node;
use serde::{Deserialize, Serialize};

use crate::entry::{Config, Entry, Target};

/// The boot parameters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Book {
    rows: HashMap<Target, Row>,
    /// By the JSON of the config: each once, with the number of rows that have it.
    configs: HashMap<Arc<str>, (Arc<Numbered>, usize)>,
    next_config: u64,
    next_order: u64,
    /// What the files said when they were last applied.
    pub(crate) applied: Arc<Applied>,
}

/// What the files said of each target.
pub(crate) type Applied = HashMap<Target, Arc<Config>>;

/// What a target leads to.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    config: Arc<Numbered>,
    order: u64,
    pub(crate) by: By,
}

#[derive(Debug)]
struct Numbered {
    id: u64,
    text: Arc<str>,
    config: Config,
}

/// Who wrote a row last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum By {
    Api,
    File,
    /// The site that this box mirrors.
    Site,
}

/// A [`Row`] in the store.
#[derive(Debug, Serialize, Deserialize)]
struct StoredRow {
    config: u64,
    order: u64,
    by: By,
}

impl Row {
    pub(crate) fn config(&self) -> &Config {
        &self.config.config
    }
}

impl Book {
    /// Reads what [`Draft`]s have written. Rows that cannot be read are left out and counted.
    pub(crate) fn read(store: &BTreeMap<String, String>) -> (Self, usize) {
        let (mut book, mut unread) = (Self::default(), 0);
        let mut numbered = HashMap::new();
        for (key, text) in store {
            let Some(id) = key.strip_prefix(CONFIG).and_then(|id| id.parse().ok()) else {
                continue;
            };
            let Ok(config) = serde_json::from_str(text) else {
                unread += 1;
                continue;
            };
            let text: Arc<str> = text.as_str().into();
            numbered.insert(id, Arc::new(Numbered { id, text, config }));
            book.next_config = book.next_config.max(id + 1);
        }
        for (key, text) in store {
            let Some(target) = Target::of_key(key) else { continue };
            let row = serde_json::from_str::<StoredRow>(text).ok();
            let Some((config, row)) = row.and_then(|row| Some((numbered.get(&row.config)?, row))) else {
                unread += 1;
                continue;
            };
            let place = book.configs.entry(Arc::clone(&config.text));
            place.or_insert_with(|| (Arc::clone(config), 0)).1 += 1;
            book.next_order = book.next_order.max(row.order + 1);
            let row = Row {
                config: Arc::clone(config),
                order: row.order,
                by: row.by,
            };
            book.rows.insert(target, row);
        }
        if let Some(text) = store.get(APPLIED) {
            match serde_json::from_str::<Vec<Entry>>(text) {
                Ok(entries) => book.applied = Arc::new(applied(&entries)),
                Err(_) => unread += 1,
            }
        }
        (book, unread)
    }

    pub(crate) fn row(&self, target: &Target) -> Option<&Row> {
        self.rows.get(target)
    }

    /// What is kept for exactly this target.
    pub(crate) fn config(&self, target: &Target) -> Option<&Config> {
        self.row(target).map(Row::config)
    }

    /// What is kept for a name.
    pub(crate) fn host(&self, name: &str) -> Option<&Config> {
        self.config(&Target::Host(name.into()))
    }

    pub(crate) fn targets(&self) -> usize {
        self.rows.len()
    }

    /// Each target that leads somewhere.
    pub(crate) fn each_target(&self) -> impl Iterator<Item = &Target> {
        self.rows.keys()
    }

    pub(crate) fn len(&self) -> usize {
        self.configs.len()
    }

    /// Each config once.
    pub(crate) fn configs(&self) -> impl Iterator<Item = &Config> {
        self.configs.values().map(|(numbered, _)| &numbered.config)
    }

    /// What this node boots. `mac`: the address that asks; without it, each of the node's counts. What has no kernel is passed over.
    pub(crate) fn choose(&self, mac: Option<Mac>, node: &Node) -> Option<&Config> {
        let row = |target: Target| self.row(&target).filter(|row| !row.config().kernel.is_empty());
        let host = |name: &str| row(Target::Host(name.into()));
        let mac = mac.or_else(|| self.mac_of(node));
        mac.and_then(|mac| row(Target::Mac(mac)))
            .or_else(|| host(&node.id))
            .or_else(|| node.nid.and_then(|nid| row(Target::Nid(nid))))
            // Of several groups the one whose parameters have been there longest.
            .or_else(|| {
                let groups = node.groups.iter().filter_map(|group| host(group));
                groups.min_by_key(|row| row.order)
            })
            .or_else(|| (!node.role.is_empty()).then(|| host(&node.role))?)
            .or_else(|| host(DEFAULT))
            .map(Row::config)
    }

    /// What a client boots that nobody knows, or whose node has no parameters, and that runs on this architecture.
    pub(crate) fn unknown(&self, arch: &str) -> Option<&Config> {
        self.host(&format!("Unknown-{arch}"))
            .filter(|config| !config.kernel.is_empty())
    }

    /// The address by which a node asks that did not say one: the first with parameters, so that it boots the same again, else its first.
    pub(crate) fn mac_of(&self, node: &Node) -> Option<Mac> {
        let mut macs = node.interfaces.iter().map(|interface| interface.mac);
        let first = macs.clone().next();
        macs.find(|mac| self.rows.contains_key(&Target::Mac(*mac))).or(first)
    }

    /// All, or what there is for these targets: one entry for each config, in the order in which they came, with those of the targets that
    /// have it.
    pub(crate) fn entries(&self, of: Option<&[Target]>) -> Vec<Entry> {
        let mut rows: Vec<(&Target, &Row)> = match of {
            None => self.rows.iter().collect(),
            Some(targets) => {
                let targets: HashSet<&Target> = targets.iter().collect();
                targets
                    .into_iter()
                    .filter_map(|target| self.rows.get_key_value(target))
                    .collect()
            }
        };
        rows.sort_unstable_by_key(|(_, row)| row.order);
        let mut entries: Vec<Entry> = Vec::new();
        let mut places = HashMap::new();
        for (target, row) in rows {
            let place = *places.entry(row.config.id).or_insert_with(|| {
                entries.push(Entry {
                    config: row.config().clone(),
                    ..Entry::default()
                });
                entries.len() - 1
            });
            if let Some(entry) = entries.get_mut(place) {
                entry.push(target);
            }
        }
        entries
    }

    /// The targets whose config is like this.
    pub(crate) fn targets_like(&self, is_like: impl Fn(&Config) -> bool) -> Vec<Target> {
        let rows = self.rows.iter().filter(|(_, row)| is_like(row.config()));
        rows.map(|(target, _)| target.clone()).collect()
    }
}

/// Each target of these entries with its config; of two the first counts.
pub(crate) fn applied(entries: &[Entry]) -> Applied {
    let mut applied = Applied::new();
    for entry in entries {
        let config = Arc::new(entry.config.clone());
        for target in entry.targets() {
            applied.entry(target).or_insert_with(|| Arc::clone(&config));
        }
    }
    applied
}

/// The next [`Book`] in the making.
pub(crate) struct Draft {
    book: Book,
    put: BTreeMap<String, String>,
    delete: BTreeSet<String>,
    changes: Changes,
}

impl Draft {
    pub(crate) fn of(book: &Book) -> Self {
        Self {
            book: book.clone(),
            put: BTreeMap::new(),
            delete: BTreeSet::new(),
            changes: Changes::default(),
        }
    }

    /// Targets that lead elsewhere than before.
    pub(crate) fn changes(&self) -> Changes {
        self.changes
    }

    /// The target leads to this config from now on. Where it stands in lists stays, when it led to one before.
    pub(crate) fn set(&mut self, target: &Target, config: &Config, by: By) {
        let config = self.numbered(config);
        let old = self.book.rows.get(target);
        if old.is_some_and(|old| old.config.id == config.id && old.by == by) {
            return;
        }
        let order = old.map_or(self.book.next_order, |old| old.order);
        match old {
            None => self.changes.added += 1,
            Some(old) => self.changes.changed += usize::from(old.config.id != config.id),
        }
        self.book.next_order = self.book.next_order.max(order + 1);
        let stored = StoredRow {
            config: config.id,
            order,
            by,
        };
        self.put(target.key(), &stored);
        self.count(&config, 1);
        if let Some(old) = self.book.rows.insert(target.clone(), Row { config, order, by }) {
            self.count(&old.config, -1);
        }
    }

    /// The target leads nowhere from now on.
    pub(crate) fn remove(&mut self, target: &Target) {
        if let Some(old) = self.book.rows.remove(target) {
            self.put.remove(&target.key());
            self.delete.insert(target.key());
            self.changes.removed += 1;
            self.count(&old.config, -1);
        }
    }

    /// The files say this from now on.
    pub(crate) fn apply(&mut self, applied: Applied) {
        let mut entries: Vec<Entry> = Vec::new();
        let mut places: HashMap<*const Config, usize> = HashMap::new();
        let mut sorted: Vec<_> = applied.iter().collect();
        sorted.sort_unstable_by_key(|(target, _)| *target);
        for (target, config) in sorted {
            let place = *places.entry(Arc::as_ptr(config)).or_insert_with(|| {
                entries.push(Entry {
                    config: (**config).clone(),
                    ..Entry::default()
                });
                entries.len() - 1
            });
            if let Some(entry) = entries.get_mut(place) {
                entry.push(target);
            }
        }
        self.put(APPLIED.into(), &entries);
        self.book.applied = Arc::new(applied);
    }

    /// The new book, and what to put and to delete. Configs that nobody uses are gone.
    pub(crate) fn done(mut self) -> (Book, BTreeMap<String, String>, Vec<String>) {
        let (put, delete) = (&mut self.put, &mut self.delete);
        self.book.configs.retain(|_, (config, uses)| {
            if *uses == 0 && put.remove(&format!("{CONFIG}{}", config.id)).is_none() {
                delete.insert(format!("{CONFIG}{}", config.id));
            }
            *uses > 0
        });
        (self.book, self.put, self.delete.into_iter().collect())
    }

    fn numbered(&mut self, config: &Config) -> Arc<Numbered> {
        let text: Arc<str> = serde_json::to_string(config).unwrap_or_default().into();
        if let Some((numbered, _)) = self.book.configs.get(&text) {
            return Arc::clone(numbered);
        }
        let numbered = Arc::new(Numbered {
            id: self.book.next_config,
            text: Arc::clone(&text),
            config: config.clone(),
        });
        self.book.next_config += 1;
        self.put
            .insert(format!("{CONFIG}{}", numbered.id), text.as_ref().into());
        self.book.configs.insert(text, (Arc::clone(&numbered), 0));
        numbered
    }

    fn count(&mut self, config: &Numbered, by: isize) {
        if let Some((_, uses)) = self.book.configs.get_mut(&config.text) {
            *uses = uses.saturating_add_signed(by);
        }
    }

    fn put(&mut self, key: String, value: &impl Serialize) {
        self.delete.remove(&key);
        self.put.insert(key, serde_json::to_string(value).unwrap_or_default());
    }
}

/// The name of what boots who has nothing of its own.
pub(crate) const DEFAULT: &str = "Default";
/// Keys of configs in the store begin so.
const CONFIG: &str = "config/";
/// The key of what the files said.
const APPLIED: &str = "applied";
