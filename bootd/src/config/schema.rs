//! The JSON Schema of `bootd.toml`, for editors: which keys there are, of what type, and what `conf/bootd.toml` says of them.
//!
//! The keys and types are those of `raw`, the descriptions the comments of the shipped file, so neither is said twice. What values mean,
//! and which fit together, is `bootd check`'s to judge.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::raw::{Field, Raw};

/// The schema (draft 7).
pub fn schema() -> Value {
    let mut schema = Raw::shape();
    describe(&mut schema, include_str!("../../../conf/bootd.toml"));
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$schema".into(), "http://json-schema.org/draft-07/schema#".into());
        schema.insert("title".into(), "bootd.toml".into());
    }
    schema
}

/// What a value must look like.
pub(super) trait Shape {
    fn shape() -> Value;
}

/// A table with these keys and no others.
pub(super) fn table(keys: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let keys = keys.into_iter();
    let properties: Map<String, Value> = keys
        .map(|(key, shape)| (key.trim_start_matches("r#").to_owned(), shape))
        .collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

macro_rules! shapes {
    ($($type:ty => $shape:tt,)*) => {
        $(impl Shape for $type {
            fn shape() -> Value {
                json!($shape)
            }
        })*
    };
}

shapes! {
    bool => { "type": "boolean" },
    u8 => { "type": "integer", "minimum": 0, "maximum": 255 },
    u16 => { "type": "integer", "minimum": 0, "maximum": 65535 },
    u32 => { "type": "integer", "minimum": 0, "maximum": 4_294_967_295_u32 },
    String => { "type": "string" },
    toml::Value => {},
    toml::Table => { "type": "object" },
}

impl<T: Shape> Shape for Field<T> {
    fn shape() -> Value {
        T::shape()
    }
}

impl<T: Shape> Shape for Vec<T> {
    fn shape() -> Value {
        json!({ "type": "array", "items": T::shape() })
    }
}

impl<T: Shape> Shape for BTreeMap<String, T> {
    fn shape() -> Value {
        json!({ "type": "object", "additionalProperties": T::shape() })
    }
}

/// Gives keys and tables what the comments before them say, or those behind them. Of a key that stands there more than once the first counts.
fn describe(schema: &mut Value, explained: &str) {
    let mut table: Vec<String> = Vec::new();
    let mut before = Comment::default();
    for line in explained.lines() {
        let written = line.strip_prefix("# ").unwrap_or(line).trim_start();
        match Line::of(written) {
            Line::Table(path, behind) => {
                table = path.split('.').map(str::to_owned).collect();
                let text = match behind.is_empty() && !before.is_used {
                    true => before.text(),
                    false => behind,
                };
                put(schema, &table, text);
                before = Comment::default();
            }
            // What a plugin's own settings are is part of what is said about plugins.
            Line::Key(key, behind) if at(schema, &within(&table, key)).is_some() => {
                let path = within(&table, key);
                if !behind.is_empty() && before.is_used_or_detached() {
                    put(schema, &path, behind);
                } else if !before.is_detached {
                    put(schema, &path, before.text());
                }
                before.is_used = true;
            }
            _ if written.is_empty() => before.is_detached = true,
            _ => before.add(line.trim_start_matches('#').trim()),
        }
    }
}

fn within(table: &[String], key: &str) -> Vec<String> {
    table.iter().cloned().chain([key.to_owned()]).collect()
}

/// The comment before a line.
#[derive(Default)]
struct Comment {
    lines: Vec<String>,
    /// A key had it; the next one may share it.
    is_used: bool,
    /// There is an empty line behind it, so it is about all that follows.
    is_detached: bool,
}

impl Comment {
    fn add(&mut self, line: &str) {
        if self.is_used || self.is_detached && self.lines.is_empty() {
            *self = Self::default();
        }
        self.lines.push(line.into());
    }

    fn is_used_or_detached(&self) -> bool {
        self.is_used || self.is_detached || self.lines.is_empty()
    }

    fn text(&self) -> String {
        self.lines.join(" ")
    }
}

/// A line of the shipped file, whether it is in force or commented out.
enum Line<'a> {
    Table(&'a str, String),
    Key(&'a str, String),
    Other,
}

impl<'a> Line<'a> {
    fn of(written: &'a str) -> Self {
        // Prose may look like a key at its beginning, but it is not TOML to its end.
        if written.parse::<toml::Table>().is_err() {
            return Self::Other;
        }
        let behind = comment_of(written);
        if let Some(rest) = written.strip_prefix('[') {
            let path = rest.trim_start_matches('[').split(']').next();
            return path.map_or(Self::Other, |path| Self::Table(path, behind));
        }
        match written.split_once('=') {
            Some((key, _)) if !written.starts_with('#') => Self::Key(key.trim().trim_matches('"'), behind),
            _ => Self::Other,
        }
    }
}

/// What stands behind the value.
fn comment_of(line: &str) -> String {
    let mut is_quoted = false;
    let start = line.char_indices().find(|(_, letter)| {
        is_quoted ^= *letter == '"';
        *letter == '#' && !is_quoted
    });
    let comment = start.and_then(|(start, _)| line.get(start + 1..));
    comment.unwrap_or_default().trim().to_owned()
}

/// The schema of a key; of an array's its elements' keys.
fn at<'a>(schema: &'a mut Value, path: &[String]) -> Option<&'a mut Map<String, Value>> {
    let mut at = schema;
    for key in path {
        if at.get("items").is_some() {
            at = at.get_mut("items")?;
        }
        at = at.get_mut("properties")?.get_mut(key)?;
    }
    at.as_object_mut()
}

fn put(schema: &mut Value, path: &[String], text: String) {
    if let Some(at) = at(schema, path)
        && !text.is_empty()
    {
        at.entry("description").or_insert(text.into());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_shipped_files_are_as_the_schema_says() {
        let schema = schema();
        for file in ["bootd.toml", "rack.toml"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf").join(file);
            let text = std::fs::read_to_string(path).unwrap();
            let value: Value = toml::from_str(&text).unwrap();
            assert_eq!(wrong(&schema, &value, file), [""; 0]);
        }
        let bad = json!({ "sever": {}, "dhcp": { "port": 65536, "subnet": [{ "cidr": 1 }] }, "tftp": [] });
        let wanted = ["x.dhcp.port", "x.dhcp.subnet.cidr", "x.sever", "x.tftp"];
        let mut found = wrong(&schema, &bad, "x");
        found.sort();
        assert_eq!(found, wanted);
    }

    #[test]
    fn each_key_has_the_shipped_files_words_for_it() {
        let schema = schema();
        let said = |path: &str| {
            schema
                .pointer(path)
                .and_then(|text| text["description"].as_str().map(str::to_owned))
        };
        let port = said("/properties/dhcp/properties/port").unwrap();
        assert!(
            port.starts_with("UDP port of the server. Change it only for tests"),
            "{port}"
        );
        let mut silent = Vec::new();
        undescribed(&schema, "", &mut silent);
        // These are told with the table or the key that they are in.
        let within = [
            "plugin.",
            "dhcp.subnet.pool.",
            "dhcp6.hosts.",
            "http.listener.tls.",
            "compat.import_leases.",
        ];
        silent.retain(|path| !within.iter().any(|within| path.starts_with(within)));
        assert_eq!(silent, [""; 0], "conf/bootd.toml explains every key");
    }

    /// The places that are other than the schema says, as far as this schema says anything.
    fn wrong(schema: &Value, value: &Value, path: &str) -> Vec<String> {
        let is_right = match schema["type"].as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("integer") => value
                .as_u64()
                .is_some_and(|number| number <= schema["maximum"].as_u64().unwrap()),
            _ => true,
        };
        if !is_right {
            return vec![path.into()];
        }
        let items = value.as_array().into_iter().flatten();
        let items = items.flat_map(|item| wrong(&schema["items"], item, path));
        let keys = value.as_object().into_iter().flatten().flat_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match (&schema["properties"][key], &schema["additionalProperties"]) {
                (Value::Null, Value::Bool(false)) => vec![path],
                (Value::Null, others) => wrong(others, value, &path),
                (known, _) => wrong(known, value, &path),
            }
        });
        items.chain(keys).collect()
    }

    fn undescribed(schema: &Value, path: &str, silent: &mut Vec<String>) {
        let table = if schema.get("items").is_some() {
            &schema["items"]
        } else {
            schema
        };
        for (key, value) in table["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}{key}");
            if value["description"].is_null() && value["properties"].is_null() && value["items"]["properties"].is_null()
            {
                silent.push(path.clone());
            }
            undescribed(value, &format!("{path}."), silent);
        }
    }
}
