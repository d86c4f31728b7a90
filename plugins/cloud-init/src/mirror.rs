//! What a site's cloud-init says, as rows of the book: a body in, rows and a [`Draft`] out. Pure.
//!
//! A body counts only when it is what the service answers when all is well: anything else has the wrong shape and changes nothing. A row that
//! cannot be read costs only itself, and what is here of it stays. A document that cannot be decoded takes the place of nothing better. What
//! the site has no more goes, once the guard against sites that lost their data has let it through.

use std::collections::BTreeSet;
use std::sync::Arc;

use bootd_sdk::json;
use bootd_sdk::text::shown;
use bootd_sdk::upstream::Loss;
use serde_json::{Map, Value};

use crate::book::{self, Book, By, Draft, Rows, field_key, group_key};
use crate::model::{Content, Defaults, GroupData};
use crate::schema;

/// A part of the book that a site answers as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// A row for each field.
    Defaults,
    Groups,
    /// Only sites with the newer service list them.
    Instances,
}

impl Part {
    /// What the keys of its rows begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Defaults => book::DEFAULTS,
            Self::Groups => book::GROUP,
            Self::Instances => book::INSTANCE,
        }
    }
}

/// Why a body is not what the service answers.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WrongShape {
    #[error("not JSON: {0}")]
    NotJson(String),
    #[error("not {0}")]
    Not(&'static str),
    /// The first reason.
    #[error("nothing in it can be read: {0}")]
    Nothing(String),
}

/// What the site said of a part.
#[derive(Debug, Default)]
pub(crate) struct Said {
    rows: Rows,
    /// Rows that stand only where there is nothing: their documents cannot be decoded.
    broken: Rows,
    /// Keys of rows that cannot be read.
    unreadable: BTreeSet<String>,
    /// What is wrong with single rows. Bounded: the last one counts the rest.
    pub(crate) mistakes: Vec<String>,
}

impl Said {
    /// Adds a row.
    pub(crate) fn add(&mut self, key: String, value: Value) {
        self.rows.insert(key, Arc::new(value));
    }

    /// Adds a group; one whose document cannot be decoded is told.
    pub(crate) fn add_group(&mut self, group: &GroupData) {
        let row = book::rows(&Defaults::default(), std::slice::from_ref(group), &[]);
        match Content::of(&group.file) {
            Content::Broken(reason) => {
                self.mistakes
                    .push(format!("the content of group {} {reason}", shown(&group.name)));
                self.broken.extend(row);
            }
            Content::None | Content::Text(_) => self.rows.extend(row),
        }
    }

    /// A row that cannot be read.
    pub(crate) fn bad(&mut self, key: String, reason: String) {
        self.unreadable.insert(key);
        self.mistakes.push(reason);
    }

    /// All of it; a body of which nothing can be read is something else.
    pub(crate) fn whole(mut self) -> Result<Self, WrongShape> {
        if self.rows.is_empty() && self.broken.is_empty() && !self.unreadable.is_empty() {
            return Err(WrongShape::Nothing(self.mistakes.swap_remove(0)));
        }
        let more = self.mistakes.len().saturating_sub(MOST_TOLD);
        if more > 0 {
            self.mistakes.truncate(MOST_TOLD);
            self.mistakes.push(format!("and {more} more"));
        }
        Ok(self)
    }

    fn names(&self, key: &str) -> bool {
        self.rows.contains_key(key) || self.broken.contains_key(key) || self.unreadable.contains(key)
    }
}

/// What taking this would cost. Rows that were here before the site was asked count too: a site that has nothing empties nothing. `meant`: a
/// row that is gone because somebody just deleted it.
pub(crate) fn losing(book: &Book, part: Part, said: &Said, meant: Option<&str>) -> Loss {
    let had = book.keys(part.prefix());
    let lost = book
        .keys(part.prefix())
        .filter(|key| !said.names(key) && Some(key.as_str()) != meant);
    Loss {
        had: had.count(),
        lost: lost.count(),
        has: said.rows.len() + said.broken.len() + said.unreadable.len(),
    }
}

/// The next book, when the site says this of a part. What data files said before is forgotten: should the data be this box's own again, all that
/// they say is new.
pub(crate) fn draft(book: &Book, part: Part, said: &Said) -> Draft {
    let mut draft = Draft::of(book);
    draft.note_applied(Rows::new());
    draft.set_all(&said.rows, By::Site);
    for (key, value) in &said.broken {
        if book.row(key).is_none() {
            draft.set(key, value, By::Site);
        }
    }
    for key in book.keys(part.prefix()) {
        if !said.names(key) {
            draft.remove(key);
        }
    }
    draft
}

/// Reads `GET /admin/cluster-defaults`: each wrong value costs only itself.
pub(crate) fn defaults(body: &str) -> Result<Said, WrongShape> {
    match json::parse(body).map_err(not_json)? {
        Value::Object(fields) => default_fields(fields),
        _ => Err(WrongShape::Not(DEFAULTS)),
    }
}

/// Fields as the admin API names them. An object with none of them is an error's.
pub(crate) fn default_fields(fields: Map<String, Value>) -> Result<Said, WrongShape> {
    let mut said = Said::default();
    let mut is_other = !fields.is_empty();
    for (field, value) in fields {
        if !schema::names(DEFAULTS_SCHEMA, &field) {
            continue;
        }
        is_other = false;
        // Rows have the tool's own spelling.
        let row = if field == "cloud-provider" {
            "cloud_provider"
        } else {
            &field
        };
        let one = Value::Object(Map::from_iter([(field.clone(), value)]));
        match schema::read_value::<Defaults>(DEFAULTS_SCHEMA, one) {
            Ok(one) => {
                for (field, value) in one.tidied().fields() {
                    said.add(field_key(&field), value);
                }
            }
            Err(error) => said.bad(field_key(row), format!("cluster-defaults: {error}")),
        }
    }
    match is_other {
        true => Err(WrongShape::Not(DEFAULTS)),
        false => said.whole(),
    }
}

/// Reads `GET /admin/groups`: an object of groups by their names.
pub(crate) fn groups(body: &str) -> Result<Said, WrongShape> {
    let Value::Object(groups) = serde_json::from_str(body).map_err(not_json)? else {
        return Err(WrongShape::Not("an object of groups"));
    };
    let mut said = Said::default();
    for (name, value) in groups {
        match group(&name, value) {
            Ok(group) => said.add_group(&group),
            Err(reason) => said.bad(group_key(&name), format!("group {}: {reason}", shown(&name))),
        }
    }
    said.whole()
}

/// A group's name is its key: a name in the row may be missing, or an older one.
fn group(name: &str, value: Value) -> Result<GroupData, String> {
    let mut value: Value = json::folded(value).map_err(|error| error.to_string())?;
    match value.as_object_mut() {
        Some(group) if group.contains_key("name") || group.contains_key("file") => {
            group.insert("name".into(), name.into());
        }
        _ => return Err("not a group".into()),
    }
    schema::read_value("GroupData", value).map_err(|error| error.to_string())
}

pub(crate) fn not_json(error: serde_json::Error) -> WrongShape {
    WrongShape::NotJson(error.to_string())
}

const DEFAULTS: &str = "an object of cluster defaults";
const DEFAULTS_SCHEMA: &str = "ClusterDefaults";
/// Mistakes of one answer that are told one by one.
const MOST_TOLD: usize = 10;
