//! Writes YAML in the form of the files that people write: block maps, and texts in quotes where some reader could take them for something
//! else (a MAC of decimal digits is a number in base 60 to old ones).

use bootd_sdk::yaml::{line, quoted};
use serde_json::{Map, Value};

/// A list of maps as a document.
pub(crate) fn list(items: &[Value]) -> String {
    if items.is_empty() {
        return "[]\n".into();
    }
    let mut out = String::new();
    for item in items {
        match item {
            Value::Object(map) if !map.is_empty() => {
                let text = document(map);
                for (place, line) in text.lines().enumerate() {
                    out.push_str(if place == 0 { "- " } else { "  " });
                    out.push_str(line);
                    out.push('\n');
                }
            }
            other => out.push_str(&format!("- {}\n", scalar(other))),
        }
    }
    out
}

/// A map as a document.
pub(crate) fn document(map: &Map<String, Value>) -> String {
    let mut out = String::new();
    if map.is_empty() {
        return "{}\n".into();
    }
    block(map, 0, &mut out);
    out
}

fn block(map: &Map<String, Value>, indent: usize, out: &mut String) {
    let mut keys: Vec<&String> = map.keys().collect();
    // What a node boots first, then who boots it; all else as it comes.
    keys.sort_by_key(|key| FIRST.iter().position(|first| first == key).unwrap_or(FIRST.len()));
    for key in keys {
        let name = if is_plain(key) { key.clone() } else { quoted(key) };
        out.push_str(&format!("{:indent$}{name}:", ""));
        match map.get(key) {
            Some(Value::Object(map)) if !map.is_empty() => {
                out.push('\n');
                block(map, indent + 2, out);
            }
            Some(Value::Array(items)) if !items.is_empty() => {
                out.push('\n');
                for item in items {
                    out.push_str(&format!("{:indent$}  - {}\n", "", scalar(item)));
                }
            }
            Some(other) => out.push_str(&format!(" {}\n", scalar(other))),
            None => out.push('\n'),
        }
    }
}

const FIRST: [&str; 6] = ["kernel", "initrd", "params", "macs", "hosts", "nids"];

/// A value on one line; lists and maps as JSON, which YAML reads alike.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().all(|c| matches!(c, ' '..='~')) => {
            format!("'{}'", text.replace('\'', "''"))
        }
        other => line(other),
    }
}

fn is_plain(key: &str) -> bool {
    const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        && key.len() <= 128
        && !WORDS.contains(&key.to_ascii_lowercase().as_str())
}
