//! YAML data files as trees that know their lines.
//!
//! Scalars keep the spelling of the file (`525400110203` stays a MAC address, `007` a name); types are asked for later, field by field, by a
//! [`Row`], so that one wrong value costs one row and not the file. Anchors, aliases and merge keys (`<<`) work. Size, depth and the growth
//! that aliases cause are bounded. Nothing here panics on any text.

mod row;

pub use row::{Mistakes, Row};

use std::collections::HashMap;

use crate::text::shown;
use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span, StrInput};

/// Levels of lists and maps within each other.
const MOST_DEEP: usize = 64;
/// Bytes of the tree, about; what aliases repeat counts each time.
const MOST_BYTES: usize = 128 * 1024 * 1024;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its line, from 1.
    pub line: u64,
    /// What it is.
    pub value: Value,
}

/// A value. Scalars are not interpreted.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A text that was quoted or in block form.
    Quoted(String),
    /// A text without quotes: perhaps a number or a boolean.
    Plain(String),
    /// A list.
    List(Vec<Item>),
    /// A map, in the file's order, each key once.
    Map(Vec<Entry>),
}

/// A key of a map with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The line of the key.
    pub line: u64,
    /// The value.
    pub item: Item,
}

/// Reads a file's text. `None`: it is not YAML, or there is nothing in it; the mistake says so. Keys that stand twice are mistakes too: the
/// first counts.
pub fn read(text: &str, mistakes: &mut Mistakes) -> Option<Item> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut tree = Tree {
        events: Parser::new_from_str_with_options(text.strip_prefix('\u{feff}').unwrap_or(text), options),
        anchors: HashMap::new(),
        bytes: 0,
        mistakes,
    };
    match tree.document() {
        Ok(Some(item)) if item.value != Value::Null => Some(item),
        Ok(_) => {
            mistakes.add(0, "is empty");
            None
        }
        Err(Broken { line, text }) => {
            mistakes.add(line, text);
            None
        }
    }
}

impl Item {
    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Quoted(text) | Value::Plain(text) => Some(text),
            _ => None,
        }
    }

    /// The same as JSON; plain scalars become numbers and booleans as YAML's core schema says.
    pub fn json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Quoted(text) => text.as_str().into(),
            Value::Plain(text) => plain_json(text),
            Value::List(items) => items.iter().map(Self::json).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.item.json()))
                .collect(),
        }
    }

    /// How people call it.
    pub(crate) fn what(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Quoted(_) | Value::Plain(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    fn cost(&self) -> usize {
        let inner = match &self.value {
            Value::Null => 0,
            Value::Quoted(text) | Value::Plain(text) => text.len(),
            Value::List(items) => items.iter().map(Self::cost).sum(),
            Value::Map(entries) => entries
                .iter()
                .map(|entry| entry.key.len() + 32 + entry.item.cost())
                .sum(),
        };
        inner + std::mem::size_of::<Self>()
    }
}

/// A text in double quotes; see [`fn@line`].
pub fn quoted(text: &str) -> String {
    line(&text.into())
}

/// A value on one line: JSON, with what it allows raw and YAML does not, or takes for the end of a line, written as escapes. Every reader of
/// YAML reads it as it was.
pub fn line(value: &serde_json::Value) -> String {
    let json = value.to_string();
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

fn plain_json(text: &str) -> serde_json::Value {
    match text {
        "true" | "True" | "TRUE" => return true.into(),
        "false" | "False" | "FALSE" => return false.into(),
        _ => {}
    }
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    if let Ok(number) = text.parse::<u64>() {
        return number.into();
    }
    // Rust also reads `inf` and `nan`, which are words in YAML.
    let numeric =
        text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) && text.bytes().any(|b| b.is_ascii_digit());
    match text.parse::<f64>() {
        Ok(number) if numeric && number.is_finite() => number.into(),
        _ => text.into(),
    }
}

struct Broken {
    line: u64,
    text: String,
}

struct Tree<'t, 'm> {
    events: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Item>,
    bytes: usize,
    mistakes: &'m mut Mistakes,
}

impl<'t> Tree<'t, '_> {
    fn document(&mut self) -> Result<Option<Item>, Broken> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(broken(&span, "a second document begins here; one is expected"));
                }
                Event::DocumentStart(..) => {}
                event => root = Some(self.item(event, &span, 0)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Broken> {
        loop {
            match self.events.next() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(event)) => return Ok(event),
                Some(Err(error)) => {
                    return Err(Broken {
                        line: error.marker().line() as u64,
                        text: format!("is not YAML: {}", error.info()),
                    });
                }
                None => {
                    return Err(Broken {
                        line: 0,
                        text: "is not YAML: it ends early".into(),
                    });
                }
            }
        }
    }

    fn item(&mut self, event: Event<'t>, span: &Span, depth: usize) -> Result<Item, Broken> {
        if depth > MOST_DEEP {
            return Err(broken(span, "lists and maps are too deep within each other"));
        }
        let (value, anchor) = match event {
            Event::Alias(id) => {
                // An alias within its own anchor has no value yet.
                let item = self.anchors.get(&id).cloned();
                let mut item = item.ok_or_else(|| broken(span, "this alias contains itself"))?;
                item.line = span.start.line() as u64;
                self.spend(item.cost(), span)?;
                return Ok(item);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
                let value = match text.as_ref() {
                    text if is_text => Value::Quoted(text.into()),
                    "" | "~" | "null" | "Null" | "NULL" => Value::Null,
                    text => Value::Plain(text.into()),
                };
                (value, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (Value::List(self.list(depth)?), anchor),
            Event::MappingStart(_, anchor, _) => (Value::Map(self.map(depth)?), anchor),
            _ => return Err(broken(span, "is not YAML: a value is expected here")),
        };
        let item = Item {
            line: span.start.line() as u64,
            value,
        };
        let own = match &item.value {
            Value::List(items) => items.len() * std::mem::size_of::<Item>(),
            Value::Map(entries) => entries.len() * std::mem::size_of::<Entry>(),
            _ => item.cost(),
        };
        self.spend(own, span)?;
        if anchor > 0 {
            self.spend(item.cost(), span)?;
            self.anchors.insert(anchor, item.clone());
        }
        Ok(item)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Item>, Broken> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.item(event, &span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Broken> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut places = HashMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key = self.item(event, &span, depth + 1)?;
            let (event, value_span) = self.next()?;
            let item = self.item(event, &value_span, depth + 1)?;
            let is_merge = key.value == Value::Plain("<<".into());
            let line = key.line;
            let key = match key.value {
                Value::Quoted(text) | Value::Plain(text) => text,
                Value::Null => "null".into(),
                Value::List(_) | Value::Map(_) => return Err(broken(&span, "a key must be a text")),
            };
            if is_merge {
                merged.push(item);
            } else if let Some(first) = places.insert(key.clone(), line) {
                self.mistakes.add(
                    line,
                    format!("the key '{}' is already on line {first}; the first counts", shown(&key)),
                );
                places.insert(key, first);
            } else {
                entries.push(Entry { key, line, item });
            }
        }
        for item in merged {
            let (line, sources) = match item.value {
                Value::List(items) => (item.line, items),
                _ => (item.line, vec![item]),
            };
            for source in sources {
                let Value::Map(source) = source.value else {
                    self.mistakes.add(line, "'<<' merges maps only");
                    continue;
                };
                for mut entry in source {
                    if let std::collections::hash_map::Entry::Vacant(place) = places.entry(entry.key.clone()) {
                        place.insert(line);
                        (entry.line, entry.item.line) = (line, line);
                        entries.push(entry);
                    }
                }
            }
        }
        Ok(entries)
    }

    fn spend(&mut self, bytes: usize, span: &Span) -> Result<(), Broken> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MOST_BYTES {
            return Err(broken(span, "is too large, or its aliases repeat too much"));
        }
        Ok(())
    }
}

fn broken(span: &Span, text: &str) -> Broken {
    Broken {
        line: span.start.line() as u64,
        text: text.into(),
    }
}

#[cfg(test)]
mod tests;
