//! All that is stored, and the documents made of it. Pure: a [`Draft`] is the next book together with what the store must write for it.
//!
//! A row is a field of the cluster's defaults, a group or a node's override. The book also knows what the files said when they were last
//! applied, row by row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bootd_sdk::changes::Changes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::{Defaults, Group, GroupData, Instance};

/// Rows by their keys.
pub(crate) type Rows = BTreeMap<String, Arc<Value>>;

/// Who wrote a row last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum By {
    /// A request or an import.
    Api,
    /// A data file.
    File,
    /// The site, in upstream mode.
    Site,
}

/// A row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) by: By,
    pub(crate) value: Arc<Value>,
}

/// A row as the store has it.
#[derive(Serialize, Deserialize)]
struct Stored<V> {
    by: By,
    value: V,
}

/// What node documents are made of.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Documents {
    pub(crate) defaults: Arc<Defaults>,
    /// By name.
    pub(crate) groups: BTreeMap<String, Arc<Group>>,
    /// By xname.
    pub(crate) instances: BTreeMap<String, Arc<Instance>>,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Book {
    pub(crate) documents: Documents,
    /// What the files said when they were last applied.
    pub(crate) applied: Rows,
    /// Keys of stored rows that cannot be read: they count for nothing until they are written again or deleted.
    pub(crate) unread: BTreeSet<String>,
    rows: BTreeMap<String, Row>,
}

/// The key of a field of the defaults.
pub(crate) fn field_key(field: &str) -> String {
    format!("{DEFAULTS}{field}")
}

/// The key of a group.
pub(crate) fn group_key(name: &str) -> String {
    format!("{GROUP}{name}")
}

/// The key of a node's override.
pub(crate) fn instance_key(xname: &str) -> String {
    format!("{INSTANCE}{xname}")
}

/// The rows of some defaults, groups and overrides.
pub(crate) fn rows(defaults: &Defaults, groups: &[GroupData], instances: &[Instance]) -> Rows {
    let value = |value: serde_json::Result<Value>| Arc::new(value.unwrap_or_default());
    let fields = defaults.fields().into_iter();
    let mut rows: Rows = fields
        .map(|(field, value)| (field_key(&field), Arc::new(value)))
        .collect();
    for group in groups {
        rows.insert(group_key(&group.name), value(serde_json::to_value(group)));
    }
    for instance in instances {
        rows.insert(instance_key(&instance.id), value(serde_json::to_value(instance)));
    }
    rows
}

impl Book {
    /// Reads what the store has.
    pub(crate) fn read(store: &BTreeMap<String, String>) -> Self {
        let mut book = Self::default();
        for (key, text) in store {
            if let Some(key) = key.strip_prefix(APPLIED) {
                // The file said something that nobody knows any more; what it says next is new.
                let value = serde_json::from_str(text).unwrap_or_default();
                book.applied.insert(key.into(), Arc::new(value));
                continue;
            }
            match serde_json::from_str::<Stored<Value>>(text) {
                Ok(Stored { by, value }) if is_readable(key, &value) => {
                    let value = Arc::new(value);
                    book.rows.insert(key.clone(), Row { by, value });
                }
                _ => drop(book.unread.insert(key.clone())),
            }
        }
        let keys: Vec<String> = book.rows.keys().cloned().collect();
        for key in keys {
            if !key.starts_with(DEFAULTS) {
                book.make(&key);
            }
        }
        book.make_defaults();
        book
    }

    /// A row, with who wrote it.
    pub(crate) fn row(&self, key: &str) -> Option<&Row> {
        self.rows.get(key)
    }

    /// The keys of all rows that begin so, readable or not.
    pub(crate) fn keys<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a String> {
        let begins = move |key: &&String| key.starts_with(prefix);
        let rows = self.rows.range(prefix.to_owned()..).map(|(key, _)| key);
        let unread = self.unread.iter().filter(begins);
        rows.take_while(begins).chain(unread)
    }

    /// The xnames of the nodes about which something is different. An instance id alone, which every node has at a site, is nothing that
    /// anybody wrote.
    pub(crate) fn overrides(&self) -> impl Iterator<Item = &str> {
        let rows = self.rows.range(INSTANCE.to_owned()..);
        rows.map_while(|(key, row)| Some((key.strip_prefix(INSTANCE)?, row)))
            .filter(|(_, row)| row.by != By::Site || says_more_than_ids(&row.value))
            .map(|(id, _)| id)
    }

    /// Makes the document of a row anew.
    fn make(&mut self, key: &str) {
        let value = self.rows.get(key).map(|row| &*row.value);
        if let Some(name) = key.strip_prefix(GROUP) {
            match value.and_then(|value| GroupData::deserialize(value).ok()) {
                Some(group) => drop(self.documents.groups.insert(name.into(), Arc::new(group.into()))),
                None => drop(self.documents.groups.remove(name)),
            }
        } else if let Some(id) = key.strip_prefix(INSTANCE) {
            match value.and_then(|value| Instance::deserialize(value).ok()) {
                Some(instance) => drop(self.documents.instances.insert(id.into(), Arc::new(instance))),
                None => drop(self.documents.instances.remove(id)),
            }
        } else {
            self.make_defaults();
        }
    }

    fn make_defaults(&mut self) {
        let rows = self.rows.range(DEFAULTS.to_owned()..);
        let fields: Map<String, Value> = rows
            .map_while(|(key, row)| Some((key.strip_prefix(DEFAULTS)?.to_owned(), (*row.value).clone())))
            .collect();
        self.documents.defaults = Arc::new(serde_json::from_value(Value::Object(fields)).unwrap_or_default());
    }
}

/// The next book, and what the store must write for it.
pub(crate) struct Draft {
    book: Book,
    /// What the store must write.
    stored: BTreeMap<String, Option<String>>,
    changes: Changes,
}

impl Draft {
    /// Nothing changed yet.
    pub(crate) fn of(book: &Book) -> Self {
        Self {
            book: book.clone(),
            stored: BTreeMap::new(),
            changes: Changes::default(),
        }
    }

    /// Rows that say something else than before, whoever said it.
    pub(crate) fn changes(&self) -> Changes {
        self.changes
    }

    /// Writes rows.
    pub(crate) fn set_all(&mut self, rows: &Rows, by: By) {
        for (key, value) in rows {
            self.set(key, value, by);
        }
    }

    /// Writes a row.
    pub(crate) fn set(&mut self, key: &str, value: &Arc<Value>, by: By) {
        let row = Row {
            by,
            value: Arc::clone(value),
        };
        match self.book.rows.get(key) {
            Some(old) if *old == row => return,
            Some(old) => self.changes.changed += usize::from(old.value != row.value),
            None => self.changes.added += 1,
        }
        self.stored
            .insert(key.into(), Some(text(&Stored { by, value: &**value })));
        self.book.unread.remove(key);
        self.book.rows.insert(key.into(), row);
        self.book.make(key);
    }

    /// Deletes a row, if there is one.
    pub(crate) fn remove(&mut self, key: &str) {
        let is_unread = self.book.unread.remove(key);
        if self.book.rows.remove(key).is_some() || is_unread {
            self.stored.insert(key.into(), None);
            self.changes.removed += 1;
            self.book.make(key);
        }
    }

    /// Notes what the files said.
    pub(crate) fn note_applied(&mut self, now: Rows) {
        for (key, value) in &now {
            if self.book.applied.get(key) != Some(value) {
                self.stored.insert(format!("{APPLIED}{key}"), Some(text(&**value)));
            }
        }
        let gone = self.book.applied.keys().filter(|key| !now.contains_key(*key));
        self.stored.extend(gone.map(|key| (format!("{APPLIED}{key}"), None)));
        self.book.applied = now;
    }

    /// The book, and what the store must write for it: texts by key, none for those to delete.
    pub(crate) fn done(self) -> (Book, BTreeMap<String, Option<String>>) {
        (self.book, self.stored)
    }
}

fn says_more_than_ids(instance: &Value) -> bool {
    let fields = instance.as_object().map(Map::keys).into_iter().flatten();
    fields
        .into_iter()
        .any(|field| !matches!(field.as_str(), "id" | "instance-id"))
}

/// Whether a document can be made of a row.
fn is_readable(key: &str, value: &Value) -> bool {
    if let Some(field) = key.strip_prefix(DEFAULTS) {
        let field = Value::Object([(field.to_owned(), value.clone())].into_iter().collect());
        return Defaults::deserialize(field).is_ok();
    }
    match key.starts_with(GROUP) {
        true => GroupData::deserialize(value).is_ok(),
        false => Instance::deserialize(value).is_ok(),
    }
}

fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// What keys begin with.
pub(crate) const PREFIXES: [&str; 4] = [DEFAULTS, GROUP, INSTANCE, APPLIED];
pub(crate) const DEFAULTS: &str = "defaults/";
pub(crate) const GROUP: &str = "group/";
pub(crate) const INSTANCE: &str = "instance/";
const APPLIED: &str = "applied/";
