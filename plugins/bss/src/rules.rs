//! What POST, PUT, PATCH and DELETE of boot parameters do (contract 3.2): pure, from a book and a request to the next book or a refusal.
//!
//! All of a request or nothing of it. Unlike upstream's, ids of each kind count when several kinds are given, and a POST that names somebody
//! who has parameters stores nothing and says who.

use crate::book::{Book, By, Draft};
use crate::entry::{Config, Entry, Target, is_host};
use crate::templates;
use bootd_sdk::json::null_is_default;
use bootd_sdk::text::shown;
use bootd_sdk::xname;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 400.
    Bad(String),
    /// 404.
    Absent(String),
}

/// The document of a request, as it came.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    #[serde(deserialize_with = "null_is_default")]
    hosts: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    macs: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    nids: Vec<u64>,
    #[serde(deserialize_with = "null_is_default")]
    kernel: String,
    #[serde(deserialize_with = "null_is_default")]
    initrd: String,
    #[serde(deserialize_with = "null_is_default")]
    params: String,
    #[serde(rename = "cloud-init")]
    cloud_init: Value,
}

/// Reads the body of a request. Refused: what could not stand in a script or a list as it is.
pub(crate) fn read(body: &str) -> Result<Entry, Refusal> {
    let bad = |text: String| Refusal::Bad(format!("Bad Request: {text}"));
    // A struct would be read from a list, too, by the order of its fields.
    if !body.trim_start().starts_with('{') {
        return Err(bad("a JSON object is expected".into()));
    }
    let document: Document = bootd_sdk::json::parse(body).map_err(|error| bad(error.to_string()))?;
    let mut entry = Entry {
        config: Config {
            kernel: document.kernel,
            initrd: document.initrd,
            params: document.params,
            cloud_init: crate::entry::CloudInit::read(&document.cloud_init).map_err(bad)?,
        },
        nids: document.nids,
        ..Entry::default()
    };
    for mac in document.macs {
        let mac = mac
            .parse()
            .map_err(|error| bad(format!("invalid MAC address format: {error}")))?;
        entry.macs.push(mac);
    }
    for name in document.hosts {
        if !is_host(&name) {
            let name = shown(&name);
            return Err(bad(format!(
                "invalid host '{name}': it is the xname of a node, a group, a role, or Default"
            )));
        }
        entry.hosts.push(crate::entry::host(&name));
    }
    check(&entry.config).map_err(bad)?;
    Ok(entry)
}

/// What no boot parameters may be, whoever writes them.
pub(crate) fn check(config: &Config) -> Result<(), String> {
    for (name, text) in [("kernel", &config.kernel), ("initrd", &config.initrd)] {
        if !is_word(text) {
            return Err(format!(
                "{name} must be a URL, without white space, quotes or control characters in it"
            ));
        }
        if text.len() > LONGEST_URL {
            return Err(format!("{name} must be a URL of at most {LONGEST_URL} bytes"));
        }
    }
    if config.params.len() > LONGEST_PARAMS {
        return Err(format!("params has more than {LONGEST_PARAMS} bytes"));
    }
    // A block of YAML ends in a line feed, and may have more: in a script they are spaces.
    if config.params.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return Err("params must have no control characters in it".into());
    }
    templates::check(config)
}

/// Whether a script's line has a text as one word that is no option and no comment. An empty text says nothing, and is fine.
pub(crate) fn is_word(text: &str) -> bool {
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`');
    !text.chars().any(is_bad) && !text.starts_with(['-', '#'])
}

/// Reads where cloud-init is. What is no URL would be a mistake of each node's boot: it is one of bootd.toml.
pub(crate) fn advertised<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let is_good = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) && is_word(&text);
    if !is_good {
        let text = shown(&text);
        return Err(D::Error::custom(format_args!(
            "advertise: '{text}' must be a URL, such as http://172.16.0.254:8081/cloud-init"
        )));
    }
    Ok(Some(text))
}

/// Adds parameters for who has none.
pub(crate) fn post(book: &Book, entry: &Entry) -> Result<Draft, Refusal> {
    let bad = |text: String| Refusal::Bad(format!("Bad Request: {text}"));
    if let Some(name) = entry.hosts.iter().find(|name| xname::kind(name) != Some("Node")) {
        let name = shown(name);
        return Err(bad(format!(
            "invalid xname '{name}': hosts that are added are xnames of nodes"
        )));
    }
    if entry.is_for_nobody() {
        return Err(bad(FOR_NOBODY.into()));
    }
    let taken: Vec<Target> = entry.targets().filter(|target| book.row(target).is_some()).collect();
    if !taken.is_empty() {
        return Err(bad(format!("postgres.Add: data already exists: {}", named(&taken))));
    }
    if entry.config.kernel.is_empty() {
        return Err(bad("kernel is missing: new boot parameters need one".into()));
    }
    let mut draft = Draft::of(book);
    for target in entry.targets() {
        draft.set(&target, &entry.config, By::Api);
    }
    Ok(draft)
}

/// Adds parameters for who has none, and changes those of who has: what is empty stays as it was.
pub(crate) fn put(book: &Book, entry: &Entry) -> Result<Draft, Refusal> {
    if entry.is_for_nobody() {
        return Err(Refusal::Bad(format!("No data: {FOR_NOBODY}")));
    }
    if entry.config.boots_nothing() && entry.config.cloud_init.is_empty() {
        return Err(Refusal::Bad(
            "No data: none of kernel, initrd and params is given".into(),
        ));
    }
    let is_new = |target: &Target| book.row(target).is_none();
    // What only cloud-init reads needs no kernel.
    if entry.config.kernel.is_empty() && !entry.config.boots_nothing() {
        let new: Vec<Target> = entry.targets().filter(is_new).collect();
        if !new.is_empty() {
            let new = named(&new);
            return Err(Refusal::Bad(format!("No data: no kernel is given for new {new}")));
        }
    }
    updated(book, entry, Refusal::Bad)
}

/// Changes parameters of who has some.
pub(crate) fn patch(book: &Book, entry: &Entry) -> Result<Draft, Refusal> {
    let absent = |text: &str| Refusal::Absent(format!("Not Found: postgres.Update: {text}"));
    if entry.config.boots_nothing() && entry.config.cloud_init.is_empty() {
        return Err(absent("must specify at least one of params, kernel, or initrd"));
    }
    if entry.is_for_nobody() {
        return Err(absent(FOR_NOBODY));
    }
    let missing: Vec<Target> = entry.targets().filter(|target| book.row(target).is_none()).collect();
    if !missing.is_empty() {
        let missing = by_kind(&missing);
        return Err(absent(&format!("data does not exist: nodes table: {missing}")));
    }
    updated(book, entry, Refusal::Bad)
}

/// Deletes the parameters of all that are named; when nobody is, of all that have this kernel, initrd and params.
pub(crate) fn delete(book: &Book, entry: &Entry) -> Result<Draft, Refusal> {
    let bad = |text: &str| Refusal::Bad(format!("postgres.Delete: {text}"));
    let like = &entry.config;
    let targets: Vec<Target> = if !entry.is_for_nobody() {
        entry.targets().filter(|target| book.row(target).is_some()).collect()
    } else if like.boots_nothing() {
        return Err(bad(
            "nothing is named: give hosts, macs, nids, or kernel, initrd and params",
        ));
    } else {
        let is_like = |has: &str, wanted: &str| wanted.is_empty() || has == wanted;
        book.targets_like(|config| {
            is_like(&config.kernel, &like.kernel)
                && is_like(&config.initrd, &like.initrd)
                && is_like(&config.params, &like.params)
        })
    };
    if targets.is_empty() {
        return Err(bad("no boot parameters match"));
    }
    let mut draft = Draft::of(book);
    for target in &targets {
        draft.remove(target);
    }
    Ok(draft)
}

fn updated(book: &Book, entry: &Entry, refusal: impl Fn(String) -> Refusal) -> Result<Draft, Refusal> {
    let mut draft = Draft::of(book);
    // Most requests name many that have the same: each old config is updated and checked once.
    let mut last: Option<(Config, Config)> = None;
    let nothing = Config::default();
    for target in entry.targets() {
        let old = book.config(&target).unwrap_or(&nothing);
        let new = match &last {
            Some((before, new)) if before == old => new.clone(),
            _ => {
                let new = old.updated(&entry.config);
                check(&new).map_err(|text| refusal(format!("Bad Request: {text}")))?;
                last = Some((old.clone(), new.clone()));
                new
            }
        };
        draft.set(&target, &new, By::Api);
    }
    Ok(draft)
}

/// Targets for people: all of a few, the number of many.
fn named(targets: &[Target]) -> String {
    let mut text = targets
        .iter()
        .take(MOST_NAMED)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if let Some(more) = targets.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// Targets as upstream's message lists them.
fn by_kind(targets: &[Target]) -> String {
    let mut entry = Entry::default();
    for target in targets.iter().take(MOST_NAMED) {
        entry.push(target);
    }
    let list = |texts: Vec<String>| texts.join(" ");
    format!(
        "macs=[{}] xnames=[{}] nids=[{}]",
        list(entry.macs.iter().map(ToString::to_string).collect()),
        list(entry.hosts),
        list(entry.nids.iter().map(ToString::to_string).collect()),
    )
}

const FOR_NOBODY: &str = "these boot parameters are for nobody: give hosts, macs or nids";
/// A message names no more than this.
const MOST_NAMED: usize = 100;
/// Bytes of a kernel's or an initrd's URL.
const LONGEST_URL: usize = 4096;
/// Bytes of arguments; no kernel takes more.
const LONGEST_PARAMS: usize = 64 * 1024;
