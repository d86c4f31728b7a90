//! Boot parameter files: one map, or a list of maps, as `ochami bss boot params set` reads them.
//!
//! A wrong value costs its entry; a target that another entry has already costs itself, and the message names the other. Entries count in the
//! order of the files in the configuration.

use bootd_sdk::file::Watched;
use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Mistake;
use bootd_sdk::yaml::{self, Item, Mistakes, Row, Value};

use crate::params::{Entry, Params, host};

/// The good entries of all files, and every mistake.
pub(crate) fn read(files: &[Watched]) -> (Params, Vec<Mistake>) {
    let mut params = Params::default();
    let mut all = Vec::new();
    for file in files {
        match file.text() {
            Ok(text) => all.extend(read_text(file.name(), text, &mut params)),
            Err(mistake) => all.push(mistake),
        }
    }
    (params, all)
}

/// Adds the entries of one file's text.
pub(crate) fn read_text(name: &str, text: &str, params: &mut Params) -> Vec<Mistake> {
    let mut mistakes = Mistakes::new(name);
    if let Some(root) = yaml::read(text, &mut mistakes) {
        let items = match &root.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(&root),
        };
        for item in items {
            if let Some(entry) = entry(item, &mut mistakes) {
                params.add(entry, |text| mistakes.add(item.line, text));
            }
        }
    }
    mistakes.into_list()
}

fn entry(item: &Item, mistakes: &mut Mistakes) -> Option<Entry> {
    let mut row = Row::of(item, "boot parameter entry", mistakes)?;
    let kernel = row.url("kernel");
    let initrd = row.url("initrd");
    if kernel.is_none() && row.item("kernel").is_none() {
        row.bad(row.line, "this boot parameter entry has no kernel");
    }
    let params = row.text("params").unwrap_or_default();
    let macs = row
        .list::<Mac>("macs")
        .into_iter()
        .map(|(mac, _)| mac)
        .collect::<Vec<_>>();
    let nids = row
        .list::<u64>("nids")
        .into_iter()
        .map(|(nid, _)| nid)
        .collect::<Vec<_>>();
    let mut hosts = Vec::new();
    for (name, line) in row.list::<String>("hosts") {
        if name.is_empty() || name.len() > 253 || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            row.bad(line, "hosts: each is the xname of a node, a group, a role, or Default");
        } else {
            hosts.push(host(&name));
        }
    }
    // What the tool prints has this key; its content has moved to cloud-init.
    row.item("cloud-init");
    let origin = format!("{}:{}", row.mistakes.file(), row.line);
    if hosts.is_empty() && macs.is_empty() && nids.is_empty() && row.is_good() {
        row.bad(
            row.line,
            "this boot parameter entry is for nobody: it has no macs, hosts or nids",
        );
    }
    row.done().then_some(Entry {
        kernel: kernel.unwrap_or_default(),
        initrd,
        params,
        hosts,
        macs,
        nids,
        origin,
    })
}
