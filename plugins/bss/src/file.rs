//! Boot parameter files: one map, or a list of maps, as `ochami bss boot params set` reads them. Exports are files of this form, too.
//!
//! A wrong value costs its entry; a target that another entry has already costs itself, and the message names the other. Entries count in the
//! order of the files in the configuration.

use std::collections::HashMap;

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Mistake;
use bootd_sdk::yaml::{self, Item, Mistakes, Row, Value};

use crate::entry::{CloudInit, Config, Entry, Target, host, is_host};
use crate::rules;

/// What a text comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    /// A person wrote it: what is likely a slip is a mistake.
    File,
    /// It may have come by the API, which takes what upstream's takes.
    Import,
}

/// The entries of all files. No target is in two of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    pub(crate) entries: Vec<Entry>,
    /// File and line of each entry, for people.
    origins: Vec<String>,
    places: HashMap<Target, usize>,
}

impl Files {
    /// Adds an entry. Targets that another has already stay with that one; each is told to `taken` with the other's origin.
    fn add(&mut self, mut entry: Entry, origin: String, mut taken: impl FnMut(String)) {
        let place = self.entries.len();
        self.origins.push(origin);
        let (places, origins) = (&mut self.places, &self.origins);
        let mut claim = |target: Target| {
            let first = places.get(&target).copied();
            if let Some(origin) = first.and_then(|first| origins.get(first)) {
                taken(format!("{target} is already in {origin}, which counts"));
                return false;
            }
            places.insert(target, place);
            true
        };
        entry.macs.retain(|mac| claim(Target::Mac(*mac)));
        entry.hosts.retain(|name| claim(Target::Host(name.clone())));
        entry.nids.retain(|nid| claim(Target::Nid(*nid)));
        self.entries.push(entry);
    }
}

/// Adds the entries of a file that a person wrote.
pub(crate) fn read(_: usize, name: &str, text: &str, files: &mut Files) -> Vec<Mistake> {
    read_text(name, text, Text::File, files)
}

/// Adds the entries of one file's text.
pub(crate) fn read_text(name: &str, text: &str, kind: Text, files: &mut Files) -> Vec<Mistake> {
    let mut mistakes = Mistakes::new(name);
    if let Some(root) = yaml::read(text, &mut mistakes) {
        let items = match &root.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(&root),
        };
        for item in items {
            if let Some(entry) = entry(item, kind, &mut mistakes) {
                let origin = format!("{}:{}", mistakes.file(), item.line);
                files.add(entry, origin, |text| mistakes.add(item.line, text));
            }
        }
    }
    mistakes.into_list()
}

fn entry(item: &Item, kind: Text, mistakes: &mut Mistakes) -> Option<Entry> {
    let mut row = Row::of(item, "boot parameter entry", mistakes)?;
    let mut url = |key| match kind {
        Text::Import => row.text(key),
        // What a template begins with is known when a node boots.
        Text::File if row.item(key).and_then(Item::text).is_some_and(|t| t.starts_with("{{")) => row.text(key),
        Text::File => row.url(key),
    };
    let (kernel, initrd) = (url("kernel"), url("initrd"));
    let params = row.text("params").unwrap_or_default();
    let macs = values::<Mac>(&mut row, "macs");
    let nids = values::<u64>(&mut row, "nids");
    let mut hosts = Vec::new();
    for (name, line) in row.list::<String>("hosts") {
        if is_host(&name) {
            hosts.push(host(&name));
        } else {
            row.bad(line, "hosts: each is the xname of a node, a group, a role, or Default");
        }
    }
    let mut cloud_init = CloudInit::default();
    if let Some(item) = row.item("cloud-init") {
        match CloudInit::read(&item.json()) {
            Ok(read) => cloud_init = read,
            Err(text) => row.bad(item.line, text),
        }
    }
    if kernel.is_none() && row.item("kernel").is_none() && cloud_init.is_empty() {
        row.bad(row.line, "this boot parameter entry has no kernel");
    }
    let entry = Entry {
        config: Config {
            kernel: kernel.unwrap_or_default(),
            initrd: initrd.unwrap_or_default(),
            params,
            cloud_init,
        },
        hosts,
        macs,
        nids,
    };
    if entry.is_for_nobody() && row.is_good() {
        row.bad(
            row.line,
            "this boot parameter entry is for nobody: it has no macs, hosts or nids",
        );
    }
    if row.is_good()
        && let Err(text) = rules::check(&entry.config)
    {
        row.bad(row.line, text);
    }
    row.done().then_some(entry)
}

fn values<T: std::str::FromStr>(row: &mut Row<'_, '_>, key: &'static str) -> Vec<T>
where
    T::Err: std::fmt::Display,
{
    row.list::<T>(key).into_iter().map(|(value, _)| value).collect()
}
