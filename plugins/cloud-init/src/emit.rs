//! Writes YAML: block maps in a given order, with every text quoted that some YAML reader could take for something else.
//!
//! Readers are strict and lenient, old and new (PyYAML reads `1:30` as a number and `2024-01-01` as a date): a text stays without quotes only
//! when it begins with a letter and has no character of meaning. Quoted texts are JSON strings, which YAML reads alike.

use std::net::Ipv4Addr;

use bootd_sdk::yaml::quoted;
use serde_json::Value;

/// What a document is made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Doc {
    Text(String),
    /// A number, a boolean or null.
    Other(Value),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
    /// Lines of a map that were written before by [`entry`], for where it stands.
    Written(String),
}

impl Doc {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<&Value> for Doc {
    fn from(value: &Value) -> Self {
        match value {
            Value::String(text) => Self::text(text),
            Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Value::Object(map) => Self::Map(
                map.iter()
                    .map(|(key, value)| (key.clone(), Self::from(value)))
                    .collect(),
            ),
            other => Self::Other(other.clone()),
        }
    }
}

/// A map as a whole document.
pub(crate) fn document(map: &[(String, Doc)]) -> String {
    let mut out = String::new();
    block_map(map, 0, &mut out);
    out
}

/// An entry of a map that is indented this far, as lines.
pub(crate) fn entry(key: &str, value: Doc, indent: usize) -> String {
    let mut out = String::new();
    block_map(&[(key.to_owned(), value)], indent, &mut out);
    out
}

fn block_map(map: &[(String, Doc)], indent: usize, out: &mut String) {
    for (key, value) in map {
        out.push_str(&format!("{:indent$}{}:", "", scalar(key)));
        block(value, indent, out);
    }
}

/// What follows a key or a dash.
fn block(value: &Doc, indent: usize, out: &mut String) {
    match value {
        Doc::Text(text) if is_prose(text) => literal(text, indent + 2, out),
        Doc::Text(text) => out.push_str(&format!(" {}\n", scalar(text))),
        Doc::Other(value) => out.push_str(&format!(" {value}\n")),
        Doc::Written(lines) if lines.is_empty() => out.push_str(" {}\n"),
        Doc::Written(lines) => {
            out.push('\n');
            out.push_str(lines);
        }
        Doc::List(items) if items.is_empty() => out.push_str(" []\n"),
        Doc::Map(map) if map.is_empty() => out.push_str(" {}\n"),
        Doc::Map(map) => {
            out.push('\n');
            block_map(map, indent + 2, out);
        }
        Doc::List(items) => {
            out.push('\n');
            for item in items {
                out.push_str(&format!("{:width$}-", "", width = indent + 2));
                match item {
                    Doc::Map(map) if !map.is_empty() => {
                        let mut inner = String::new();
                        block_map(map, indent + 4, &mut inner);
                        // The first key stands behind the dash.
                        out.push(' ');
                        out.push_str(inner.trim_start_matches(' '));
                    }
                    Doc::Map(_) | Doc::List(_) => {
                        out.push(' ');
                        flow(item, out);
                        out.push('\n');
                    }
                    scalar => block(scalar, indent + 2, out),
                }
            }
        }
    }
}

/// Several lines as they are, for people to read: what has one reading only, in every YAML reader.
fn is_prose(text: &str) -> bool {
    let Some(lines) = text.strip_suffix('\n') else {
        return false;
    };
    // The first line says how far all are indented, and what ends a text is one line's end.
    let begins = lines.starts_with(|c: char| !c.is_whitespace());
    let is_good =
        |c: char| matches!(c, '\n' | ' '..='~' | '\u{a1}'..='\u{d7ff}') && !matches!(c, '\u{2028}' | '\u{2029}');
    begins && !lines.ends_with('\n') && lines.contains('\n') && lines.chars().all(is_good)
}

fn literal(text: &str, indent: usize, out: &mut String) {
    out.push_str(" |\n");
    for line in text.lines() {
        if !line.is_empty() {
            out.push_str(&format!("{:indent$}{line}", ""));
        }
        out.push('\n');
    }
}

/// Lists within lists: on one line, like JSON.
fn flow(value: &Doc, out: &mut String) {
    match value {
        Doc::Text(text) => out.push_str(&quoted(text)),
        Doc::Other(value) => out.push_str(&value.to_string()),
        // Lines have no place on a line.
        Doc::Written(_) => out.push_str("{}"),
        Doc::List(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                out.push_str(if place > 0 { ", " } else { "" });
                flow(item, out);
            }
            out.push(']');
        }
        Doc::Map(map) => {
            out.push('{');
            for (place, (key, item)) in map.iter().enumerate() {
                out.push_str(if place > 0 { ", " } else { "" });
                out.push_str(&format!("{}: ", quoted(key)));
                flow(item, out);
            }
            out.push('}');
        }
    }
}

fn scalar(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    if text.parse::<Ipv4Addr>().is_ok() {
        return true;
    }
    let is_inner =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | '/' | '@' | '+' | '=' | ':');
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let ends = !text.ends_with([' ', ':']);
    begins
        && ends
        && text.len() <= 512
        && text.chars().all(is_inner)
        && !text.contains(": ")
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}
