//! Reading the fields of a map one by one, with every mistake told where it is.
//!
//! A [`Row`] knows which keys were asked for: [`Row::done`] reports the others. A field that is null counts as absent. A wrong field marks
//! the row as bad; an unknown key does not.

use std::fmt::Display;
use std::str::FromStr;

use super::{Entry, Item, Value};
use crate::text::shown;
use crate::wire::Mistake;

/// More mistakes of one file are counted, not listed.
const MOST_LISTED: usize = 500;

/// The mistakes of one file.
pub struct Mistakes {
    file: String,
    list: Vec<Mistake>,
    more: usize,
}

impl Mistakes {
    /// None so far.
    pub fn new(file: &str) -> Self {
        Self {
            file: file.into(),
            list: Vec::new(),
            more: 0,
        }
    }

    /// Adds one; line 0 is the file as a whole.
    pub fn add(&mut self, line: u64, text: impl Into<String>) {
        if self.list.len() >= MOST_LISTED {
            self.more += 1;
            return;
        }
        self.list.push(Mistake {
            file: self.file.clone(),
            line,
            text: text.into(),
        });
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The file that they are about.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// All, by line.
    pub fn into_list(mut self) -> Vec<Mistake> {
        self.list.sort_by_key(|mistake| mistake.line);
        if self.more > 0 {
            self.list.push(Mistake {
                file: self.file,
                line: 0,
                text: format!("has {} more mistakes", self.more),
            });
        }
        self.list
    }
}

/// A map that is being read.
pub struct Row<'i, 'm> {
    /// Its line.
    pub line: u64,
    /// Where to tell mistakes.
    pub mistakes: &'m mut Mistakes,
    what: &'static str,
    entries: &'i [Entry],
    asked: Vec<&'static str>,
    good: bool,
}

impl<'i, 'm> Row<'i, 'm> {
    /// Begins to read a map; `what` is how messages call it, such as `node`. Anything but a map is a mistake.
    pub fn of(item: &'i Item, what: &'static str, mistakes: &'m mut Mistakes) -> Option<Self> {
        let Value::Map(entries) = &item.value else {
            mistakes.add(
                item.line,
                format!("a {what} must be a map of keys, this is {}", item.what()),
            );
            return None;
        };
        Some(Self {
            line: item.line,
            mistakes,
            what,
            entries,
            asked: Vec::new(),
            good: true,
        })
    }

    /// The value of a key, unless it is null.
    pub fn item(&mut self, key: &'static str) -> Option<&'i Item> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (entry.item.value != Value::Null).then_some(&entry.item)
    }

    /// A text; an empty one counts as absent.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        let item = self.item(key)?;
        let Some(text) = item.text() else {
            self.bad(item.line, format!("{key} must be a text, this is {}", item.what()));
            return None;
        };
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// A text that must be there.
    pub fn required(&mut self, key: &'static str) -> Option<String> {
        let before = self.good;
        let text = self.text(key);
        if text.is_none() && self.good == before {
            self.bad(self.line, format!("this {} has no {key}", self.what));
        }
        text
    }

    /// A text of some form, such as a number or an address.
    pub fn parsed<T: FromStr>(&mut self, key: &'static str) -> Option<T>
    where
        T::Err: Display,
    {
        let line = self.item(key)?.line;
        let text = self.text(key)?;
        match text.trim().parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.bad(line, format!("{key}: {}", told(&text, &error.to_string())));
                None
            }
        }
    }

    /// A list of texts of some form, each with its line. One text alone is a list of one.
    pub fn list<T: FromStr>(&mut self, key: &'static str) -> Vec<(T, u64)>
    where
        T::Err: Display,
    {
        let mut values = Vec::new();
        let Some(item) = self.item(key) else { return values };
        let items = match &item.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(item),
        };
        for item in items {
            let Some(text) = item.text() else {
                self.bad(item.line, format!("{key} must list texts, this is {}", item.what()));
                continue;
            };
            match text.trim().parse() {
                Ok(value) => values.push((value, item.line)),
                Err(error) => self.bad(item.line, format!("{key}: {}", told(text, &error.to_string()))),
            }
        }
        values
    }

    /// The items of a list of maps.
    pub fn rows(&mut self, key: &'static str) -> &'i [Item] {
        let Some(item) = self.item(key) else { return &[] };
        let Value::List(items) = &item.value else {
            self.bad(item.line, format!("{key} must be a list, this is {}", item.what()));
            return &[];
        };
        items
    }

    /// A URL with its scheme. It is one word of a script or a list, so it has no white space in it.
    pub fn url(&mut self, key: &'static str) -> Option<String> {
        let text = self.text(key)?;
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            self.bad(
                self.line_of(key),
                format!("{key} must be a URL, without white space in it"),
            );
            return None;
        }
        if !has_scheme(&text) {
            let text = format!(
                "{key}: '{}' is not a URL: it begins with no scheme, such as http://",
                shown(&text)
            );
            self.bad(self.line_of(key), text);
            return None;
        }
        Some(text)
    }

    /// The line of a key's value, or of the row.
    pub fn line_of(&self, key: &str) -> u64 {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map_or(self.line, |entry| entry.item.line)
    }

    /// Tells a mistake that costs the row.
    pub fn bad(&mut self, line: u64, text: impl Into<String>) {
        self.good = false;
        self.mistakes.add(line, text);
    }

    /// Whether nothing that costs the row was told so far.
    pub fn is_good(&self) -> bool {
        self.good
    }

    /// Something within the row is bad, and was told.
    pub fn spoil(&mut self) {
        self.good = false;
    }

    /// Reports keys that nobody asked for. Whether the row is good.
    pub fn done(self) -> bool {
        for entry in self.entries {
            if !self.asked.contains(&entry.key.as_str()) {
                let text = format!(
                    "unknown key '{}' in a {}; it may have {}",
                    shown(&entry.key),
                    self.what,
                    self.asked.join(", ")
                );
                self.mistakes.add(entry.line, text);
            }
        }
        self.good
    }
}

/// Whether a text is `scheme://…`.
fn has_scheme(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, rest)| {
        let may_follow = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(may_follow) && !rest.is_empty()
    })
}

/// An error of a parser as a message; many of std's do not show the text.
fn told(text: &str, error: &str) -> String {
    let text = shown(text);
    if error.contains(&text) {
        error.to_owned()
    } else {
        format!("'{text}': {error}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac::Mac;

    #[test]
    fn a_url_has_a_scheme_and_no_white_space() {
        let url = |text: &str| {
            let mut mistakes = Mistakes::new("f.yaml");
            let item = super::super::read(&format!("\nkernel: '{text}'\n"), &mut mistakes).unwrap();
            let url = Row::of(&item, "entry", &mut mistakes).unwrap().url("kernel");
            url.ok_or_else(|| mistakes.into_list()[0].to_string())
        };
        for good in [
            "http://172.16.0.254:9000/k",
            "s3://boot-images/k",
            "tftp://h/k",
            "HTTPS://h",
        ] {
            assert_eq!(url(good).unwrap(), good);
        }
        for bad in [
            "x",
            "/k",
            "http:/h/k",
            "http://",
            "://h/k",
            "1a://h",
            "a/b://h",
            "${base}/k",
        ] {
            assert_eq!(
                url(bad).unwrap_err(),
                format!("f.yaml:2: kernel: '{bad}' is not a URL: it begins with no scheme, such as http://")
            );
        }
        assert!(url("http://h/a b").unwrap_err().ends_with("without white space in it"));
    }

    #[test]
    fn each_wrong_field_is_told_with_its_line() {
        let mut mistakes = Mistakes::new("f.yaml");
        let item = super::super::read("name: [x]\nnid: one\nmac: 52:54\nextra: 1\nnote: ~\n", &mut mistakes).unwrap();
        let mut row = Row::of(&item, "node", &mut mistakes).unwrap();
        assert_eq!(row.text("name"), None);
        assert_eq!(row.parsed::<u64>("nid"), None);
        assert_eq!(row.parsed::<Mac>("mac"), None);
        assert_eq!(row.required("note"), None);
        assert!(!row.done());
        let told: Vec<String> = mistakes.into_list().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "f.yaml:1: name must be a text, this is a list",
                "f.yaml:1: this node has no note",
                "f.yaml:2: nid: 'one': invalid digit found in string",
                "f.yaml:3: mac: '52:54' is not a MAC address (six bytes in hexadecimal, such as 52:54:00:be:ef:01)",
                "f.yaml:4: unknown key 'extra' in a node; it may have name, nid, mac, note",
            ]
        );
    }
}
