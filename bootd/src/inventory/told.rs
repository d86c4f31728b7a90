//! What a plugin says, from text to rows.
//!
//! The rows of a publication stay text until each is read by itself, so a bad one costs only itself and a good one is read once.

use std::sync::Arc;

use bootd_sdk::wire::{Node, Overlay, Publication, Refusal};
use bootd_sdk::xname;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::rules::{Reason, refusal};

/// A [`Publication`] as it comes from a plugin; see there for the fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Told {
    full: bool,
    /// Only look.
    pub dry_run: bool,
    pub(super) nodes: Vec<Box<RawValue>>,
    pub(super) overlays: Vec<Box<RawValue>>,
    gone: Vec<String>,
}

/// A publication whose rows were read, each with its place in it. A copy shares the rows.
#[derive(Clone)]
pub struct Rows {
    pub(super) full: bool,
    pub(super) gone: Vec<String>,
    pub(super) nodes: Vec<(usize, Arc<Node>)>,
    pub(super) overlays: Vec<(usize, Arc<Overlay>)>,
    pub(super) unreadable: Vec<Refusal>,
    pub(super) unreadable_overlays: Vec<Refusal>,
}

impl From<Publication> for Told {
    fn from(publication: Publication) -> Self {
        // A value is always JSON.
        let raw = |rows: Vec<Value>| rows.iter().filter_map(|row| to_raw_value(row).ok()).collect();
        Self {
            full: publication.full,
            dry_run: publication.dry_run,
            nodes: raw(publication.nodes),
            overlays: raw(publication.overlays),
            gone: publication.gone,
        }
    }
}

impl Told {
    pub(super) fn read(self) -> Rows {
        let (nodes, unreadable) = read_all(&self.nodes, canonical, Reason::NotANode);
        let (overlays, unreadable_overlays) = read_all(
            &self.overlays,
            |overlay: Overlay| Overlay {
                id: xname::normalise(&overlay.id),
                ..overlay
            },
            Reason::NotAnOverlay,
        );
        Rows {
            full: self.full,
            gone: self.gone.iter().map(|id| xname::normalise(id)).collect(),
            nodes,
            overlays,
            unreadable,
            unreadable_overlays,
        }
    }
}

fn read_all<T: DeserializeOwned>(
    rows: &[Box<RawValue>],
    canonical: impl Fn(T) -> T,
    reason: impl Fn(String) -> Reason,
) -> (Vec<(usize, Arc<T>)>, Vec<Refusal>) {
    let mut read = Vec::with_capacity(rows.len());
    let mut unreadable = Vec::new();
    for (row, text) in rows.iter().enumerate() {
        match serde_json::from_str(text.get()) {
            Ok(value) => read.push((row, Arc::new(canonical(value)))),
            Err(error) => unreadable.push(refusal(row, id_of(text), &reason(error.to_string()))),
        }
    }
    (read, unreadable)
}

/// The id of a row, as far as it can be read.
fn id_of(row: &RawValue) -> String {
    let row: Value = serde_json::from_str(row.get()).unwrap_or_default();
    let id = row.get("id").and_then(Value::as_str).unwrap_or_default();
    id.chars().take(64).collect()
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
