//! The files: the cluster's defaults (a map), groups and instances (one map, or a list of maps), as the `ochami` tool reads them; and an
//! import, which has all three.
//!
//! A wrong value costs its row (of the defaults, itself); a group or an instance that another row has already costs itself, and the message
//! names the other. A group's document that cannot be decoded is a mistake, and stays as such: its members hear of it instead of booting
//! without it.

use std::collections::BTreeMap;

use bootd_sdk::wire::Mistake;
use bootd_sdk::xname;
use bootd_sdk::yaml::{self, Item, Mistakes, Row, Value};

use crate::book::{self, Rows};
use crate::model::{Content, Defaults, Encoding, GroupData, GroupFile, Instance, MOST_DIGITS};
use crate::schema;

/// What a file has in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Defaults,
    Groups,
    Instances,
    /// What an export wrote, or one of the others.
    Import,
}

/// What is good of some files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    pub(crate) defaults: Defaults,
    groups: BTreeMap<String, (GroupData, String)>,
    instances: BTreeMap<String, (Instance, String)>,
}

impl Files {
    /// As rows of the book.
    pub(crate) fn rows(&self) -> Rows {
        let groups: Vec<GroupData> = self.groups.values().map(|(group, _)| group.clone()).collect();
        let instances: Vec<Instance> = self.instances.values().map(|(own, _)| own.clone()).collect();
        book::rows(&self.defaults, &groups, &instances)
    }
}

/// Adds what is in one file's text.
pub(crate) fn read_text(kind: Kind, name: &str, text: &str, files: &mut Files) -> Vec<Mistake> {
    let mut mistakes = Mistakes::new(name);
    if let Some(root) = yaml::read(text, &mut mistakes) {
        match kind {
            Kind::Import => import(&root, files, &mut mistakes),
            kind => part(kind, &root, files, &mut mistakes),
        }
    }
    mistakes.into_list()
}

fn import(root: &Item, files: &mut Files, mistakes: &mut Mistakes) {
    let has = |item: &Item, key: &str| match &item.value {
        Value::Map(entries) => entries.iter().any(|entry| entry.key == key),
        _ => false,
    };
    let sections = [
        ("cluster-defaults", Kind::Defaults),
        ("groups", Kind::Groups),
        ("instances", Kind::Instances),
    ];
    if sections.iter().any(|(key, _)| has(root, key)) {
        let Some(mut row) = Row::of(root, "document", mistakes) else {
            return;
        };
        let parts = sections.map(|(key, kind)| (kind, row.item(key)));
        row.done();
        for (kind, item) in parts {
            if let Some(item) = item {
                part(kind, item, files, mistakes);
            }
        }
        return;
    }
    // One of the seed's files by itself.
    let items = match &root.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(root),
    };
    for item in items {
        let kind = match &root.value {
            _ if has(item, "id") => Kind::Instances,
            Value::Map(_) if !has(item, "name") => Kind::Defaults,
            _ => Kind::Groups,
        };
        part(kind, item, files, mistakes);
    }
}

fn part(kind: Kind, root: &Item, files: &mut Files, mistakes: &mut Mistakes) {
    let items = match &root.value {
        Value::List(items) if kind != Kind::Defaults => items.as_slice(),
        _ => std::slice::from_ref(root),
    };
    for item in items {
        match kind {
            Kind::Defaults => files.defaults = defaults(item, mistakes),
            Kind::Groups => {
                if let Some(group) = group(item, mistakes) {
                    add(
                        &mut files.groups,
                        "group",
                        group.name.clone(),
                        group,
                        item.line,
                        mistakes,
                    );
                }
            }
            Kind::Instances | Kind::Import => {
                if let Some(own) = instance(item, mistakes) {
                    add(&mut files.instances, "node", own.id.clone(), own, item.line, mistakes);
                }
            }
        }
    }
}

/// Adds a row unless there is one of this name.
fn add<T>(
    rows: &mut BTreeMap<String, (T, String)>,
    what: &str,
    name: String,
    row: T,
    line: u64,
    mistakes: &mut Mistakes,
) {
    match rows.get(&name) {
        Some((_, first)) => mistakes.add(line, format!("the {what} {name} is already in {first}, which counts")),
        None => drop(rows.insert(name, (row, format!("{}:{line}", mistakes.file())))),
    }
}

/// Each wrong value costs only itself: a node without its host name's digits is better than one without its keys.
fn defaults(item: &Item, mistakes: &mut Mistakes) -> Defaults {
    let Some(mut row) = Row::of(item, "map of cluster defaults", mistakes) else {
        return Defaults::default();
    };
    let mut defaults = Defaults {
        base_url: url(&mut row, "base-url"),
        cluster_name: line(&mut row, "cluster-name"),
        short_name: line(&mut row, "short-name"),
        nid_length: row.parsed("nid-length"),
        public_keys: keys(&mut row),
        region: line(&mut row, "region"),
        availability_zone: line(&mut row, "availability-zone"),
        cloud_provider: provider(&mut row),
        boot_subnet: line(&mut row, "boot-subnet"),
        wg_subnet: line(&mut row, "wg-subnet"),
    };
    if defaults.nid_length.is_some_and(|digits| digits > MOST_DIGITS) {
        row.bad(
            row.line_of("nid-length"),
            format!("nid-length must be at most {MOST_DIGITS}"),
        );
        defaults.nid_length = None;
    }
    defaults.nid_length = defaults.nid_length.filter(|digits| *digits > 0);
    row.done();
    defaults
}

fn group(item: &Item, mistakes: &mut Mistakes) -> Option<GroupData> {
    let mut row = Row::of(item, "group", mistakes)?;
    let name = row.required("name").unwrap_or_default();
    if schema::follows("segment", &name).is_err() || name.chars().count() > 255 {
        row.bad(row.line_of("name"), "name: a group's name is one word of a URL");
    }
    let description = row.text("description");
    let mut meta_data = serde_json::Map::new();
    if let Some(item) = row.item("meta-data") {
        match item.json() {
            serde_json::Value::Object(map) => meta_data = map,
            _ => row.bad(item.line, "meta-data must be a map of keys"),
        }
    }
    let versions = row.item("versions").map(Item::json).unwrap_or_default();
    for key in ["meta-data", "versions"] {
        if let Some(Err(reason)) = row.item(key).map(|item| schema::is_plain_data(&item.json())) {
            row.bad(row.line_of(key), format!("{key} {reason}"));
        }
    }
    let mut file = GroupFile::default();
    if let Some(item) = row.item("file") {
        match document(item, row.mistakes) {
            Some(document) => file = document,
            None => row.spoil(),
        }
    }
    let group = GroupData {
        name,
        description,
        meta_data,
        file,
        versions,
    };
    row.done().then_some(group)
}

fn document(item: &Item, mistakes: &mut Mistakes) -> Option<GroupFile> {
    let mut row = Row::of(item, "group's file", mistakes)?;
    let mut file = GroupFile {
        content: row.text("content").unwrap_or_default(),
        filename: line(&mut row, "filename").unwrap_or_default(),
        encoding: Encoding::Plain,
    };
    match row.text("encoding").as_deref() {
        None | Some("plain") => {}
        Some("base64") => file.encoding = Encoding::Base64,
        Some(_) => row.bad(row.line_of("encoding"), "encoding must be plain or base64"),
    }
    if let Content::Broken(reason) = Content::of(&file) {
        row.mistakes.add(row.line_of("content"), format!("content {reason}"));
    }
    row.done().then_some(file)
}

fn instance(item: &Item, mistakes: &mut Mistakes) -> Option<Instance> {
    let mut row = Row::of(item, "node override", mistakes)?;
    let id = xname::normalise(&row.required("id").unwrap_or_default());
    if !id.is_empty() && !is_nodes(&id) {
        row.bad(
            row.line_of("id"),
            "id must be the xname of a node, such as x1000c0s0b0n0",
        );
    }
    let instance = Instance {
        id,
        instance_id: line(&mut row, "instance-id"),
        local_hostname: text(&mut row, "local-hostname", "hostname"),
        hostname: text(&mut row, "hostname", "hostname"),
        cluster_name: line(&mut row, "cluster-name"),
        region: line(&mut row, "region"),
        availability_zone: line(&mut row, "availability-zone"),
        cloud_provider: provider(&mut row),
        instance_type: line(&mut row, "instance-type"),
        cloud_init_base_url: url(&mut row, "cloud-init-base-url"),
        public_keys: keys(&mut row),
    };
    row.done().then_some(instance)
}

/// Whether a canonical xname is one that boots.
pub(crate) fn is_nodes(xname: &str) -> bool {
    matches!(xname::kind(xname), Some("Node" | "VirtualNode"))
}

/// A text of one line.
fn line(row: &mut Row<'_, '_>, key: &'static str) -> Option<String> {
    text(row, key, "line")
}

fn text(row: &mut Row<'_, '_>, key: &'static str, format: &str) -> Option<String> {
    let text = row.text(key)?;
    match schema::follows(format, &text) {
        Ok(()) => Some(text),
        Err(reason) => {
            row.bad(row.line_of(key), format!("{key} {reason}"));
            None
        }
    }
}

fn url(row: &mut Row<'_, '_>, key: &'static str) -> Option<String> {
    row.url(key).map(|url| url.trim_end_matches('/').to_owned())
}

/// The API writes an underscore where the files have a dash.
fn provider(row: &mut Row<'_, '_>) -> Option<String> {
    let dashed = line(row, "cloud-provider");
    line(row, "cloud_provider").or(dashed)
}

fn keys(row: &mut Row<'_, '_>) -> Vec<String> {
    let keys = row.list::<String>("public-keys").into_iter().map(|(key, _)| key);
    keys.filter(|key| !key.is_empty()).collect()
}
