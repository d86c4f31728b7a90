//! The files: the cluster's defaults (a map), groups and instances (one map, or a list of maps), as the `ochami` tool reads them.
//!
//! A wrong value costs its row (of the defaults, itself); a group or an instance that another row has already costs itself, and the message names the other. Documents
//! are decoded here, once; one that cannot be is a mistake, and stays as such: its members hear of it instead of booting without it.

use std::collections::BTreeMap;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use bootd_sdk::file::Watched;
use bootd_sdk::wire::Mistake;
use bootd_sdk::xname;
use bootd_sdk::yaml::{self, Item, Mistakes, Row, Value};

use crate::metadata::{Content, Defaults, Documents, Group, Instance};

/// What a file has in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Defaults,
    Groups,
    Instances,
}

/// What is good of all files, and every mistake.
pub(crate) fn read(kinds: &[Kind], files: &[Watched]) -> (Documents, Vec<Mistake>) {
    let mut documents = Documents::default();
    let mut all = Vec::new();
    for (kind, file) in kinds.iter().zip(files) {
        match file.text() {
            Ok(text) => all.extend(read_text(*kind, file.name(), text, &mut documents)),
            Err(mistake) => all.push(mistake),
        }
    }
    (documents, all)
}

/// Adds what is in one file's text.
pub(crate) fn read_text(kind: Kind, name: &str, text: &str, documents: &mut Documents) -> Vec<Mistake> {
    let mut mistakes = Mistakes::new(name);
    if let Some(root) = yaml::read(text, &mut mistakes) {
        let items = match &root.value {
            Value::List(items) if kind != Kind::Defaults => items.as_slice(),
            _ => std::slice::from_ref(&root),
        };
        for item in items {
            match kind {
                Kind::Defaults => documents.defaults = defaults(item, &mut mistakes),
                Kind::Groups => {
                    if let Some((name, row)) = group(item, &mut mistakes) {
                        let origin = |row: &Group| row.origin.clone();
                        add(
                            &mut documents.groups,
                            "group",
                            name,
                            row,
                            origin,
                            item.line,
                            &mut mistakes,
                        );
                    }
                }
                Kind::Instances => {
                    if let Some((id, row)) = instance(item, &mut mistakes) {
                        let origin = |row: &Instance| row.origin.clone();
                        add(
                            &mut documents.instances,
                            "node",
                            id,
                            row,
                            origin,
                            item.line,
                            &mut mistakes,
                        );
                    }
                }
            }
        }
    }
    mistakes.into_list()
}

/// Adds a row unless there is one of this name.
fn add<T>(
    rows: &mut BTreeMap<String, T>,
    what: &str,
    name: String,
    row: T,
    origin: impl Fn(&T) -> String,
    line: u64,
    mistakes: &mut Mistakes,
) {
    match rows.get(&name) {
        Some(first) => mistakes.add(
            line,
            format!("the {what} {name} is already in {}, which counts", origin(first)),
        ),
        None => drop(rows.insert(name, row)),
    }
}

/// Each wrong value costs only itself: a node without its host name's digits is better than one without its keys.
fn defaults(item: &Item, mistakes: &mut Mistakes) -> Defaults {
    let Some(mut row) = Row::of(item, "map of cluster defaults", mistakes) else {
        return Defaults::default();
    };
    let mut defaults = Defaults {
        base_url: row.url("base-url").map(|url| url.trim_end_matches('/').to_owned()),
        cluster_name: row.text("cluster-name"),
        short_name: row.text("short-name"),
        nid_length: row.parsed("nid-length"),
        public_keys: keys(&mut row),
        region: row.text("region"),
        availability_zone: row.text("availability-zone"),
        cloud_provider: provider(&mut row),
    };
    // WireGuard is not here yet.
    row.text("boot-subnet");
    row.text("wg-subnet");
    if defaults.nid_length.is_some_and(|digits| digits > 20) {
        row.bad(row.line_of("nid-length"), "nid-length must be at most 20");
        defaults.nid_length = None;
    }
    row.done();
    defaults
}

fn group(item: &Item, mistakes: &mut Mistakes) -> Option<(String, Group)> {
    let mut row = Row::of(item, "group", mistakes)?;
    let name = row.required("name").unwrap_or_default();
    if name.contains('/') || name.chars().any(char::is_control) {
        row.bad(row.line_of("name"), "name: a group's name is one word of a URL");
    }
    let description = row.text("description");
    let mut meta_data = BTreeMap::new();
    if let Some(item) = row.item("meta-data") {
        match item.json() {
            serde_json::Value::Object(map) => meta_data.extend(map),
            _ => row.bad(item.line, "meta-data must be a map of keys"),
        }
    }
    row.item("versions");
    let mut content = Content::None;
    if let Some(item) = row.item("file") {
        match document(item, row.mistakes) {
            Some(document) => content = document,
            None => row.spoil(),
        }
    }
    let origin = format!("{}:{}", row.mistakes.file(), row.line);
    let group = Group {
        description,
        meta_data,
        content,
        origin,
    };
    row.done().then_some((name, group))
}

fn document(item: &Item, mistakes: &mut Mistakes) -> Option<Content> {
    let mut row = Row::of(item, "group's file", mistakes)?;
    let content = row.text("content");
    row.text("filename");
    let encoding = row.text("encoding").unwrap_or_else(|| "plain".into());
    let content = match (encoding.as_str(), content) {
        ("plain" | "base64", None) => Content::None,
        ("plain", Some(text)) => Content::Text(text),
        ("base64", Some(text)) => match decoded(&text).map(String::from_utf8) {
            Some(Ok(text)) => Content::Text(text),
            Some(Err(_)) => Content::Broken("is not UTF-8 text when decoded".into()),
            None => Content::Broken("is not base64".into()),
        },
        _ => {
            row.bad(row.line_of("encoding"), "encoding must be plain or base64");
            Content::None
        }
    };
    if let Content::Broken(reason) = &content {
        row.mistakes.add(row.line_of("content"), format!("content {reason}"));
    }
    row.done().then_some(content)
}

fn instance(item: &Item, mistakes: &mut Mistakes) -> Option<(String, Instance)> {
    let mut row = Row::of(item, "node override", mistakes)?;
    let id = xname::normalise(&row.required("id").unwrap_or_default());
    if !id.is_empty() && xname::kind(&id).is_none() {
        row.bad(
            row.line_of("id"),
            "id must be the xname of a node, such as x1000c0s0b0n0",
        );
    }
    let instance = Instance {
        instance_id: row.text("instance-id"),
        local_hostname: row.text("local-hostname"),
        hostname: row.text("hostname"),
        cluster_name: row.text("cluster-name"),
        region: row.text("region"),
        availability_zone: row.text("availability-zone"),
        cloud_provider: provider(&mut row),
        instance_type: row.text("instance-type"),
        base_url: row
            .url("cloud-init-base-url")
            .map(|url| url.trim_end_matches('/').to_owned()),
        public_keys: keys(&mut row),
        origin: format!("{}:{}", row.mistakes.file(), row.line),
    };
    row.done().then_some((id, instance))
}

/// The API writes an underscore where the files have a dash.
fn provider(row: &mut Row<'_, '_>) -> Option<String> {
    let dashed = row.text("cloud-provider");
    row.text("cloud_provider").or(dashed)
}

fn keys(row: &mut Row<'_, '_>) -> Vec<String> {
    let keys = row.list::<String>("public-keys").into_iter().map(|(key, _)| key);
    keys.filter(|key| !key.is_empty()).collect()
}

/// Standard base64 as people put documents into files: white space is skipped, padding may be missing. `None`: it is something else.
fn decoded(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let text: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    LENIENT.decode(text).ok()
}
