//! YAML, line by line: keys with their values, each scalar so quoted that it is read as it was, whatever its characters.

use std::fmt::Write;

/// `key:` before lines to come, `key: []` when there are none.
pub(super) fn heading(text: &mut String, indent: &str, key: &str, is_empty: bool) {
    text.push_str(indent);
    text.push_str(key);
    text.push_str(if is_empty { ": []\n" } else { ":\n" });
}

/// `key: value`; nothing for an empty value.
pub(super) fn field(text: &mut String, indent: &str, key: &str, value: &str) {
    if !value.is_empty() {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{indent}{key}: {}", quoted(value));
    }
}

/// `key: [value, value]`; nothing for no values.
pub(super) fn list<'a>(text: &mut String, key: &str, values: impl Iterator<Item = &'a str>) {
    let values: Vec<String> = values.map(quoted).collect();
    if !values.is_empty() {
        let _ = writeln!(text, "  {key}: [{}]", values.join(", "));
    }
}

/// A scalar, in quotes unless it cannot be mistaken for anything else.
fn quoted(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'))
        && !["null", "true", "false", "yes", "no", "on", "off"]
            .iter()
            .any(|word| word.eq_ignore_ascii_case(text));
    if is_plain {
        return text.to_owned();
    }
    bootd_sdk::yaml::quoted(text)
}
