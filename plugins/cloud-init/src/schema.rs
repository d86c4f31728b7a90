//! Checks bodies against the schemas that `openapi.json` publishes: what is described is what is checked.
//!
//! Knows the keywords that are used there: `type`, `nullable`, `enum`, `minLength`, `maxLength`, `maximum`, `maxItems`, `items`,
//! `properties`, `required`, `additionalProperties`, `format`; formats are this module's own functions. Every mistake is told, with its
//! place. Keys that a schema does not name are allowed, and not stored.

use std::sync::LazyLock;

use bootd_sdk::json;
use bootd_sdk::text::shown;
use serde_json::{Map, Value};

/// The description of all that is served.
pub(crate) const OPENAPI: &str = include_str!("openapi.json");

static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(OPENAPI).unwrap_or_default());

/// Why a body is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadBody {
    #[error("the body is not the JSON that is expected: {0}")]
    NotJson(String),
    /// Each mistake with its place.
    #[error("{}", .0.join("; "))]
    Wrong(Vec<String>),
}

/// Reads a body as one of the description's schemas. Keys come in any case; what is null is taken out: it is the same as absent.
pub(crate) fn read<T: serde::de::DeserializeOwned>(schema: &str, text: &str) -> Result<T, BadBody> {
    checked(schema, json::parse(text).map_err(not_json)?)
}

/// Reads a value that is part of a larger body, in the same way.
pub(crate) fn read_value<T: serde::de::DeserializeOwned>(schema: &str, value: Value) -> Result<T, BadBody> {
    checked(schema, json::folded(value).map_err(not_json)?)
}

/// Whether a schema names a field.
pub(crate) fn names(schema: &str, field: &str) -> bool {
    DESCRIPTION["components"]["schemas"][schema]["properties"]
        .get(field)
        .is_some()
}

fn not_json(error: serde_json::Error) -> BadBody {
    BadBody::NotJson(error.to_string())
}

fn checked<T: serde::de::DeserializeOwned>(schema: &str, mut body: Value) -> Result<T, BadBody> {
    if let Value::Object(map) = &mut body {
        if let Some(file) = map.get_mut("file") {
            *file = json::folded(file.take()).map_err(not_json)?;
            if let Value::Object(file) = file {
                tidy(file);
            }
        }
        tidy(map);
        // Two spellings of one field; this is the tool's own.
        if map.contains_key("cloud_provider") {
            map.remove("cloud-provider");
        }
    }
    let mut mistakes = Vec::new();
    check(&DESCRIPTION["components"]["schemas"][schema], &body, "", &mut mistakes);
    if !mistakes.is_empty() {
        return Err(BadBody::Wrong(mistakes));
    }
    serde_json::from_value(body).map_err(not_json)
}

/// Takes out what counts as absent: null, and empty texts.
fn tidy(map: &mut Map<String, Value>) {
    map.retain(|_, value| !value.is_null() && value.as_str() != Some(""));
}

fn check(schema: &Value, value: &Value, place: &str, mistakes: &mut Vec<String>) {
    let mut bad = |text: String| mistakes.push(format!("{}: {text}", if place.is_empty() { "body" } else { place }));
    if let Some(reference) = schema["$ref"].as_str() {
        let target = reference.strip_prefix('#').and_then(|at| DESCRIPTION.pointer(at));
        return check(target.unwrap_or(&Value::Null), value, place, mistakes);
    }
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    if let Some(kind) = schema["type"].as_str()
        && !is(kind, value)
    {
        return bad(format!("must be {}", named(kind)));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        bad(format!("must be one of {}", allowed.join(", ")));
    }
    if schema["format"] == "data"
        && let Err(reason) = is_plain_data(value)
    {
        bad(reason);
    }
    match value {
        Value::String(text) => {
            let length = text.chars().count() as u64;
            if schema["minLength"].as_u64().is_some_and(|least| length < least) {
                bad("is missing".into());
            }
            if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
                bad(format!("is longer than {most} characters"));
            }
            if let Some(Err(reason)) = schema["format"].as_str().map(|format| follows(format, text)) {
                bad(reason.into());
            }
        }
        Value::Number(number) => {
            if let Some(most) = schema["maximum"].as_u64()
                && number.as_u64().is_none_or(|number| number > most)
            {
                bad(format!("must be a number from 0 to {most}"));
            }
        }
        Value::Array(items) => {
            if let Some(most) = schema["maxItems"].as_u64().filter(|most| items.len() as u64 > *most) {
                bad(format!("has more than {most} items"));
            }
            for (at, item) in items.iter().enumerate() {
                check(&schema["items"], item, &format!("{place}/{at}"), mistakes);
            }
        }
        Value::Object(map) => {
            for key in schema["required"].as_array().into_iter().flatten() {
                if key.as_str().is_some_and(|key| !map.contains_key(key)) {
                    bad(format!("has no {}", key.as_str().unwrap_or_default()));
                }
            }
            for (key, value) in map {
                if let Some(schema) = schema["properties"].get(key) {
                    check(schema, value, &format!("{place}/{}", shown(key)), mistakes);
                }
            }
        }
        _ => {}
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

fn named(kind: &str) -> &'static str {
    match kind {
        "string" => "a text",
        "integer" => "a whole number",
        "boolean" => "true or false",
        "array" => "a list",
        _ => "an object",
    }
}

/// Whether a text follows one of our formats, and what it should be.
pub(crate) fn follows(format: &str, text: &str) -> Result<(), &'static str> {
    let has_control = text.chars().any(char::is_control);
    match format {
        "line" if has_control => Err("must be one line, without control characters"),
        "segment" if has_control || text.contains('/') => Err("must be one word of a URL, without '/'"),
        "hostname" if !is_hostname(text) => {
            Err("must be a host name: letters, digits, '-' and '.', such as nid001.cluster")
        }
        "url" if !is_url(text) => Err("must be a URL, such as http://172.16.0.254:8081/cloud-init"),
        _ => Ok(()),
    }
}

/// A host name (RFC 1123). An empty text says nothing, and is fine.
fn is_hostname(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    text.is_empty() || (text.len() <= 253 && text.split('.').all(is_label))
}

/// A URL with its scheme. It is one line of an `#include`, so it has no white space in it.
fn is_url(text: &str) -> bool {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    };
    !text.chars().any(|c| c.is_whitespace() || c.is_control())
        && text
            .split_once("://")
            .is_some_and(|(scheme, rest)| is_scheme(scheme) && !rest.is_empty())
}

/// YAML readers take keys of up to 1024 characters, written with escapes.
const MOST_KEY: usize = 160;
/// Levels of lists and maps within each other. What is stored or exported has some more around it, and must be readable again.
const MOST_DEEP: usize = 32;

/// Whether a value of the user's own shape can be read again wherever it goes; else why not.
pub(crate) fn is_plain_data(value: &Value) -> Result<(), String> {
    if !has_good_keys(value) {
        return Err(format!("a key has more than {MOST_KEY} bytes"));
    }
    if is_deeper(value, MOST_DEEP) {
        return Err(format!("is more than {MOST_DEEP} levels deep"));
    }
    Ok(())
}

fn has_good_keys(value: &Value) -> bool {
    match value {
        Value::Object(map) => map
            .iter()
            .all(|(key, value)| key.len() <= MOST_KEY && has_good_keys(value)),
        Value::Array(items) => items.iter().all(has_good_keys),
        _ => true,
    }
}

/// Whether a value has more than `most` lists and maps within each other.
fn is_deeper(value: &Value, most: usize) -> bool {
    let mut inner: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(map) => Box::new(map.values()),
        _ => return false,
    };
    most.checked_sub(1)
        .is_none_or(|less| inner.any(|value| is_deeper(value, less)))
}
