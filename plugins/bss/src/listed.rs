//! What a site's service lists, read: BSS's `GET /bootparameters` (contract 3.2) and boot-service's `GET /bootconfigurations` (contract 6).
//!
//! Strict on the whole, lenient in its parts: what is no list of objects is refused, a bad entry costs only itself, and a bad target only that.
//! Whom a bad entry is for keeps what it had. Pure.

use std::cmp::Reverse;
use std::collections::HashSet;

use bootd_sdk::text::shown;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::book::DEFAULT;
use crate::entry::{CloudInit, Config, Entry, Target, host, is_host};
use crate::rules;

/// All that a site lists.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// What can be used. No target is in two of them.
    pub(crate) entries: Vec<Entry>,
    /// Whom bad entries are for.
    pub(crate) unclear: HashSet<Target>,
    /// What is wrong with entries: the first [`MOST_TOLD`].
    pub(crate) told: Vec<String>,
    /// How much more is wrong.
    pub(crate) untold: usize,
    targets: HashSet<Target>,
    too_many: bool,
}

/// Why a body is not a list.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Shape {
    #[error("it is no list: {0}")]
    NoList(String),
    #[error("none of its {0} entries can be used; the first: {1}")]
    NothingGood(usize, String),
    #[error("it names more than {MOST_TARGETS} targets")]
    TooMany,
}

/// What BSS lists: an array, or `null` for nothing at all.
pub(crate) fn boot_parameters(body: &str) -> Result<Listed, Shape> {
    let items: Option<Vec<&RawValue>> = list(body)?;
    let items = items.unwrap_or_default();
    let (mut listed, mut good) = (Listed::default(), 0);
    for (place, item) in items.iter().enumerate() {
        match object(item) {
            Ok(map) => {
                good += 1;
                let name = format!("entry {}", place + 1);
                listed.take(Service::Bss, &name, &map);
            }
            Err(text) => listed.tell(format!("entry {}: {text}", place + 1)),
        }
    }
    listed.judged(items.len(), good)
}

/// What boot-service lists: an array of resources. Of two that are for the same, the one with the higher priority counts, then the first by
/// name.
pub(crate) fn boot_configurations(body: &str) -> Result<Listed, Shape> {
    let items: Vec<&RawValue> = list(body)?;
    let (mut listed, mut resources) = (Listed::default(), Vec::new());
    for (place, item) in items.iter().enumerate() {
        match resource(item) {
            Ok(resource) => resources.push(resource),
            Err(text) => listed.tell(format!("entry {}: {text}", place + 1)),
        }
    }
    resources.sort_by(|a, b| (Reverse(a.priority), &a.name, &a.uid).cmp(&(Reverse(b.priority), &b.name, &b.uid)));
    for resource in &resources {
        let name = format!("BootConfiguration '{}'", shown(&resource.name));
        listed.take(Service::Boot, &name, &resource.spec);
    }
    listed.judged(items.len(), resources.len())
}

/// Whose entry it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Service {
    /// No target is in two entries, and who is not named is not meant.
    Bss,
    /// The first of several for the same target counts, and an entry without targets is for all.
    Boot,
}

impl Listed {
    /// How many targets can be used.
    pub(crate) fn targets(&self) -> usize {
        self.targets.len()
    }

    /// Whether the site says anything of a target.
    pub(crate) fn has(&self, target: &Target) -> bool {
        self.targets.contains(target) || self.unclear.contains(target)
    }

    /// Adds an entry, or what is wrong with it.
    fn take(&mut self, service: Service, name: &str, map: &Map<String, Value>) {
        let mut targets = Vec::new();
        for (kind, read) in KINDS {
            match map.get(kind) {
                None | Some(Value::Null) => {}
                Some(Value::Array(values)) => {
                    for value in values {
                        match read(value) {
                            Ok(target) => targets.push(target),
                            Err(text) => self.tell(format!("{name}: {kind}: {text}")),
                        }
                    }
                }
                Some(_) => self.tell(format!("{name}: {kind} must be a list")),
            }
        }
        if self.targets.len() + targets.len() > MOST_TARGETS {
            self.too_many = true;
            return;
        }
        let names_nobody = KINDS.iter().all(|(kind, _)| is_empty(map.get(*kind)));
        if service == Service::Boot && names_nobody {
            targets.push(Target::Host(DEFAULT.into()));
        }
        let config = config(map).and_then(|config| match service {
            Service::Boot if config.kernel.is_empty() => Err("it has no kernel".into()),
            _ => Ok(config),
        });
        let config = match config {
            Ok(config) => config,
            Err(text) => {
                self.tell(format!("{name}: {text}"));
                self.unclear.extend(targets);
                return;
            }
        };
        let mut entry = Entry {
            config,
            ..Entry::default()
        };
        for target in targets {
            if self.targets.insert(target.clone()) {
                entry.push(&target);
            } else if service == Service::Bss {
                self.tell(format!("{name}: {target} is in an entry before, which counts"));
            }
        }
        // What is for nobody is no mistake: upstream's lists what it forgot to delete.
        if !entry.is_for_nobody() {
            self.entries.push(entry);
        }
    }

    fn tell(&mut self, text: String) {
        if self.told.len() < MOST_TOLD {
            self.told.push(text);
        } else {
            self.untold += 1;
        }
    }

    fn judged(self, all: usize, good: usize) -> Result<Self, Shape> {
        if self.too_many {
            return Err(Shape::TooMany);
        }
        if all > 0 && (good == 0 || self.entries.is_empty() && !self.told.is_empty()) {
            let first = self.told.first().cloned().unwrap_or_default();
            return Err(Shape::NothingGood(all, first));
        }
        Ok(self)
    }
}

/// A BootConfiguration.
struct Resource {
    priority: i64,
    name: String,
    uid: String,
    spec: Map<String, Value>,
}

fn resource(item: &RawValue) -> Result<Resource, String> {
    let mut map = object(item)?;
    if let Some(kind) = map
        .get("kind")
        .and_then(Value::as_str)
        .filter(|kind| *kind != "BootConfiguration")
    {
        return Err(format!("'{}' is no BootConfiguration", shown(kind)));
    }
    let Some(Value::Object(mut spec)) = map.remove("spec") else {
        return Err("a BootConfiguration has a spec".into());
    };
    // A group is one of the names that boot parameters are for, and so is everybody.
    if let Some(Value::Array(hosts)) = spec.get_mut("hosts") {
        for host in hosts.iter_mut().filter(|host| *host == "*") {
            *host = DEFAULT.into();
        }
    }
    if let Some(Value::Array(groups)) = spec.remove("groups").filter(|groups| !is_empty(Some(groups))) {
        match spec.entry("hosts").or_insert(Value::Null) {
            Value::Array(hosts) => hosts.extend(groups),
            hosts => *hosts = Value::Array(groups),
        }
    }
    let metadata = map.get("metadata");
    let text = |key| {
        metadata
            .and_then(|metadata| metadata.get(key)?.as_str())
            .unwrap_or_default()
    };
    Ok(Resource {
        priority: spec.get("priority").and_then(Value::as_i64).unwrap_or_default(),
        name: text("name").to_owned(),
        uid: text("uid").to_owned(),
        spec,
    })
}

fn list<'b, T: serde::Deserialize<'b>>(body: &'b str) -> Result<T, Shape> {
    serde_json::from_str(body).map_err(|error| Shape::NoList(shown(&error.to_string())))
}

/// An object, its own keys in lower case.
fn object(item: &RawValue) -> Result<Map<String, Value>, String> {
    bootd_sdk::json::parse(item.get()).map_err(|error| error.to_string())
}

fn config(map: &Map<String, Value>) -> Result<Config, String> {
    let text = |key: &str| match map.get(key) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(format!("{key} must be a text")),
    };
    let config = Config {
        kernel: text("kernel")?,
        initrd: text("initrd")?,
        params: text("params")?,
        cloud_init: CloudInit::read(map.get("cloud-init").unwrap_or(&Value::Null))?,
    };
    rules::check(&config)?;
    Ok(config)
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(values)) => values.is_empty(),
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    }
}

/// Reads a target.
type Read = fn(&Value) -> Result<Target, String>;

/// The kinds of targets, in the order in which they are listed.
const KINDS: [(&str, Read); 3] = [("hosts", read_host), ("macs", read_mac), ("nids", read_nid)];

fn read_host(value: &Value) -> Result<Target, String> {
    match value.as_str() {
        Some(name) if is_host(name) => Ok(Target::Host(host(name))),
        _ => Err(format!("{} is no name", named(value))),
    }
}

fn read_mac(value: &Value) -> Result<Target, String> {
    let mac = value.as_str().and_then(|text| text.parse().ok()).map(Target::Mac);
    mac.ok_or_else(|| format!("{} is no MAC address", named(value)))
}

fn read_nid(value: &Value) -> Result<Target, String> {
    let nid = value.as_u64().or_else(|| value.as_str()?.parse().ok()).map(Target::Nid);
    nid.ok_or_else(|| format!("{} is no NID", named(value)))
}

fn named(value: &Value) -> String {
    format!("'{}'", shown(&value.to_string()))
}

/// What is wrong with more entries is only counted.
const MOST_TOLD: usize = 20;

/// Targets of a site: twice as many as an inventory has rows.
const MOST_TARGETS: usize = 2 * bootd_sdk::json::Rows::MOST;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(listed: &Listed) -> Vec<String> {
        let targets = |entry: &Entry| entry.targets().map(|target| target.to_string()).collect::<Vec<_>>();
        let entries = listed.entries.iter();
        entries
            .map(|entry| format!("{}: {}", entry.config.kernel, targets(entry).join(", ")))
            .collect()
    }

    #[test]
    fn a_list_of_bss_is_read_as_it_is() {
        let body = json!([
            {"macs": ["52:54:00:BE:EF:01", "525400beef02"], "hosts": ["X0001c0s0b0n0", "Default"], "nids": [7], "kernel": "k",
             "initrd": "i", "params": "p", "cloud-init": {"meta-data": {"a": 1}, "user-data": null,
             "phone-home": {"pub_key_dsa": "", "pub_key_rsa": "", "pub_key_ecdsa": "", "instance_id": "", "hostname": "", "fqdn": ""}}},
            {"kernel": "forgotten", "cloud-init": {}},
            {"Hosts": ["Global"], "cloud-init": {"user-data": {"x": 1}}},
        ]);
        let listed = boot_parameters(&body.to_string()).unwrap();
        let targets = "host x1c0s0b0n0, host Default, MAC 52:54:00:be:ef:01, MAC 52:54:00:be:ef:02, NID 7";
        assert_eq!(said(&listed), [&format!("k: {targets}"), ": host Global"]);
        let config = &listed.entries[0].config;
        assert_eq!((config.initrd.as_str(), config.params.as_str()), ("i", "p"));
        assert_eq!(json!(config.cloud_init), json!({"meta-data": {"a": 1}}));
        assert!(listed.told.is_empty());
        assert_eq!(listed.targets(), 6);
        for nothing in ["null", " null\n", "[]"] {
            assert_eq!(boot_parameters(nothing).unwrap().targets(), 0);
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for body in [
            "",
            "{}",
            r#"{"boot-parameters":[]}"#,
            "<html>",
            "3",
            "\"x\"",
            "[{\"nids\":[1],\"kernel\":\"k\"}",
            "[] []",
            "[,]",
        ] {
            assert!(matches!(boot_parameters(body), Err(Shape::NoList(_))), "{body}");
            assert!(matches!(boot_configurations(body), Err(Shape::NoList(_))), "{body}");
        }
        assert!(matches!(boot_configurations("null"), Err(Shape::NoList(_))));
        for body in [
            "[1, 2]",
            "[[]]",
            "[null]",
            r#"[{"nids":[1],"kernel":"a b"}]"#,
            r#"[{"nids":["x"],"kernel":"k"}]"#,
        ] {
            assert!(matches!(boot_parameters(body), Err(Shape::NothingGood(..))), "{body}");
            assert!(
                matches!(boot_configurations(body), Err(Shape::NothingGood(..))),
                "{body}"
            );
        }
    }

    #[test]
    fn a_bad_entry_costs_itself_and_a_bad_target_itself() {
        let body = json!([
            {"nids": [1, -2, "3", {}], "macs": ["x", "525400beef01"], "hosts": ["a b", "n"], "kernel": "k"},
            {"nids": [1, 5], "kernel": "l"},
            {"nids": [6], "macs": ["525400beef06"], "kernel": 3},
            {"nids": [7], "kernel": "a b"},
            {"nids": 8, "kernel": "k"},
            "x",
        ]);
        let listed = boot_parameters(&body.to_string()).unwrap();
        assert_eq!(
            said(&listed),
            ["k: host n, MAC 52:54:00:be:ef:01, NID 1, NID 3", "l: NID 5"]
        );
        assert_eq!(listed.unclear.len(), 3);
        assert!(listed.has(&Target::Nid(7)) && listed.has(&Target::Nid(5)) && !listed.has(&Target::Nid(8)));
        assert_eq!(
            listed.told[..4],
            [
                "entry 1: hosts: '\"a b\"' is no name",
                "entry 1: macs: '\"x\"' is no MAC address",
                "entry 1: nids: '-2' is no NID",
                "entry 1: nids: '{}' is no NID"
            ]
        );
        assert_eq!(
            listed.told[4..7],
            [
                "entry 2: NID 1 is in an entry before, which counts",
                "entry 3: kernel must be a text",
                "entry 4: kernel must be a URL, without white space, quotes or control characters in it"
            ]
        );
        assert_eq!(listed.told.len(), 9);
    }

    #[test]
    fn what_is_told_is_bounded() {
        let body: Value = (0..100).map(|n| json!({"nids": [n, "x"], "kernel": "k"})).collect();
        let listed = boot_parameters(&body.to_string()).unwrap();
        assert_eq!((listed.entries.len(), listed.told.len(), listed.untold), (100, 20, 80));
    }

    fn configuration(name: &str, spec: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "BootConfiguration", "metadata": {"name": name, "uid": format!("bootconfiguration-{name}"),
               "createdAt": "2026-08-14T10:00:00.123Z", "updatedAt": "2026-08-14T10:00:00.123Z"}, "spec": spec, "status": {}})
    }

    #[test]
    fn boot_configurations_become_boot_parameters_for_the_same() {
        let body = json!([
            configuration("default", json!({"kernel": "http://h/any", "priority": 1})),
            configuration(
                "b",
                json!({"kernel": "http://h/b", "macs": ["52:54:00:BE:EF:01"], "groups": ["compute"], "priority": 5})
            ),
            configuration(
                "a",
                json!({"kernel": "http://h/a", "macs": ["52:54:00:be:ef:01"], "nids": [1], "priority": 5})
            ),
            configuration(
                "c",
                json!({"kernel": "http://h/c", "hosts": ["x0c0s0b0n0"], "groups": ["compute"], "params": "ro", "priority": 9})
            ),
            configuration("star", json!({"kernel": "http://h/star", "hosts": ["*"]})),
        ]);
        let listed = boot_configurations(&body.to_string()).unwrap();
        assert_eq!(
            said(&listed),
            [
                "http://h/c: host x0c0s0b0n0, host compute",
                "http://h/a: MAC 52:54:00:be:ef:01, NID 1",
                "http://h/any: host Default"
            ]
        );
        assert_eq!(listed.entries[0].config.params, "ro");
        assert!(listed.told.is_empty(), "{:?}", listed.told);
        assert_eq!(boot_configurations("[]").unwrap().targets(), 0);
    }

    #[test]
    fn a_bad_boot_configuration_costs_itself() {
        let body = json!([
            configuration("good", json!({"kernel": "/k", "nids": [1]})),
            configuration("none", json!({"nids": [2]})),
            {"kind": "Node", "metadata": {"name": "n"}, "spec": {"xname": "x0c0s0b0n0"}},
            {"metadata": {"name": "n"}},
            configuration("words", json!({"kernel": "/k k", "nids": [3]})),
            configuration("long", json!({"kernel": "/k", "macs": ["00:00:00:00:fe:80:00:00"]})),
        ]);
        let listed = boot_configurations(&body.to_string()).unwrap();
        assert_eq!(said(&listed), ["/k: NID 1"]);
        assert_eq!(
            listed.told,
            [
                "entry 3: 'Node' is no BootConfiguration",
                "entry 4: a BootConfiguration has a spec",
                "BootConfiguration 'long': macs: '\"00:00:00:00:fe:80:00:00\"' is no MAC address",
                "BootConfiguration 'none': it has no kernel",
                "BootConfiguration 'words': kernel must be a URL, without white space, quotes or control characters in it"
            ]
        );
        assert!(listed.has(&Target::Nid(2)) && listed.has(&Target::Nid(3)));
    }
}
