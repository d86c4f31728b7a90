//! The YAML of a coredhcp.yaml: its two sections, their addresses to listen at, and their plugins with the words after each.
//!
//! As viper does, keys count in any case, and a value is its text cut at white space.

use bootd_sdk::text::shown;
use bootd_sdk::yaml::{self, Entry, Item, Value};

use super::told::Told;

/// `server4` or `server6`.
#[derive(Debug)]
pub(super) struct Section {
    /// `listen`, or `interface` as `%name`. `None`: neither is there.
    pub(super) listen: Option<Vec<String>>,
    /// In the order of the file.
    pub(super) plugins: Vec<Plugin>,
}

/// An item of `plugins`.
#[derive(Debug)]
pub(super) struct Plugin {
    /// In lower case.
    pub(super) name: String,
    /// Such as `server4.plugins[3] coresmd`.
    pub(super) place: String,
    /// The words after the name.
    pub(super) words: Vec<String>,
}

/// Both sections, of which one may be missing.
pub(super) fn read(text: &str, told: &mut Told) -> (Option<Section>, Option<Section>) {
    let mut mistakes = yaml::Mistakes::new("");
    let root = yaml::read(text, &mut mistakes);
    for mistake in mistakes.into_list() {
        let text = match mistake.line {
            0 => mistake.text,
            line => format!("line {line}: {}", mistake.text),
        };
        told.wrong("", text);
    }
    let Some(root) = root else { return (None, None) };
    let Value::Map(entries) = &root.value else {
        told.wrong("", "is not a map with server4 and server6");
        return (None, None);
    };
    for entry in entries {
        if !matches!(entry.key.to_lowercase().as_str(), "server4" | "server6") {
            told.ignored(
                &shown(&entry.key),
                "",
                "only server4 and server6 are read, as by CoreDHCP",
            );
        }
    }
    let server4 = key(entries, "server4", "", told).and_then(|item| section("server4", item, told));
    let server6 = key(entries, "server6", "", told).and_then(|item| section("server6", item, told));
    if server4.is_none() && server6.is_none() && told.mistakes.is_empty() {
        told.wrong("", "has neither server4 nor server6");
    }
    (server4, server6)
}

/// The value of a key that is there and not empty.
fn key<'i>(entries: &'i [Entry], name: &str, within: &str, told: &mut Told) -> Option<&'i Item> {
    let mut found = entries.iter().filter(|entry| entry.key.to_lowercase() == name);
    let first = found.next();
    if let Some(second) = found.next() {
        told.wrong(
            within,
            format!("line {}: {name} is there twice; keys count in any case", second.line),
        );
    }
    first.map(|entry| &entry.item).filter(|item| item.value != Value::Null)
}

fn section(name: &'static str, item: &Item, told: &mut Told) -> Option<Section> {
    let Value::Map(entries) = &item.value else {
        told.wrong(name, "is not a map with listen and plugins");
        return None;
    };
    for entry in entries {
        if !matches!(entry.key.to_lowercase().as_str(), "listen" | "interface" | "plugins") {
            let place = format!("{name}.{}", shown(&entry.key));
            told.ignored(
                &place,
                "",
                "only listen, interface and plugins are read, as by CoreDHCP",
            );
        }
    }
    let listen = key(entries, "listen", name, told).map(|item| listen(item, name, told));
    let interface = key(entries, "interface", name, told)
        .map(words)
        .filter(|words| !words.is_empty());
    let listen = match (listen, interface) {
        (Some(_), Some(_)) => {
            told.wrong(
                name,
                "interface is an older word for listen, and both are there; take one away",
            );
            None
        }
        (None, Some(interface)) => Some(vec![format!("%{}", interface.join(" "))]),
        (listen, None) => listen,
    };
    let place = format!("{name}.plugins");
    let plugins = match key(entries, "plugins", name, told).map(|item| &item.value) {
        Some(Value::List(items)) if !items.is_empty() => {
            let plugins = items.iter().enumerate();
            plugins
                .filter_map(|(at, item)| plugin(format!("{place}[{at}]"), item, told))
                .collect()
        }
        Some(Value::List(_)) | None => {
            told.wrong(&place, "is empty; a server without plugins answers nobody");
            Vec::new()
        }
        Some(_) => {
            told.wrong(&place, "is not a list");
            Vec::new()
        }
    };
    Some(Section { listen, plugins })
}

fn listen(item: &Item, section: &str, told: &mut Told) -> Vec<String> {
    let Value::List(items) = &item.value else {
        return words(item);
    };
    let mut entries = Vec::new();
    for (at, item) in items.iter().enumerate() {
        match item.text() {
            Some(text) => entries.push(text.to_owned()),
            None => told.wrong(&format!("{section}.listen[{at}]"), "is not a text"),
        }
    }
    entries
}

fn plugin(place: String, item: &Item, told: &mut Told) -> Option<Plugin> {
    let entries = match &item.value {
        Value::Map(entries) => entries,
        Value::Quoted(text) | Value::Plain(text) => {
            let text = shown(text);
            let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
            let colon = format!("{name}: {}", rest.trim_start());
            told.wrong(
                &place,
                format!(
                    "'{text}' has no colon after the plugin's name; write \"{}\"",
                    colon.trim_end()
                ),
            );
            return None;
        }
        _ => {
            told.wrong(
                &place,
                "is not a plugin's name with a value, such as \"netmask: 255.255.255.0\"",
            );
            return None;
        }
    };
    let [entry] = entries.as_slice() else {
        told.wrong(
            &place,
            format!(
                "has {} keys and must have exactly one, the plugin's name; does a - miss, or are lines too far to the left?",
                entries.len()
            ),
        );
        return None;
    };
    let name = entry.key.to_lowercase();
    let place = format!("{place} {}", shown(&name));
    if matches!(entry.item.value, Value::List(_) | Value::Map(_)) {
        let what = if matches!(entry.item.value, Value::List(_)) {
            "list"
        } else {
            "map"
        };
        told.ignored(
            &place,
            "",
            format!("a {what} counts as no value at all, as by CoreDHCP; write the words on one line, or after a |"),
        );
    }
    Some(Plugin {
        words: words(&entry.item),
        name,
        place,
    })
}

/// A scalar's words. Lists and maps have none.
fn words(item: &Item) -> Vec<String> {
    let text = item.text().unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}
