//! A page of a bucket's list, as S3's ListObjectsV2 has it.
//!
//! Keys come in the order of their bytes; what they have in common up to a delimiter stands once, as a prefix. The list is the origin's own: what
//! is kept of a bucket is no list of it.

use std::ops::ControlFlow;
use std::time::SystemTime;

/// What is wanted of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Only keys that begin so; need not end at a slash.
    pub prefix: String,
    /// Up to the next of these behind the prefix, keys are put together.
    pub delimiter: Option<String>,
    /// Only keys behind this one.
    pub after: Option<String>,
    /// Where an earlier page ended: its [`Listing::next`].
    pub token: Option<String>,
    /// Keys and prefixes at most, 1 to [`MOST`].
    pub most: usize,
}

/// A page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Objects, by key.
    pub objects: Vec<Listed>,
    /// What keys have in common, with the delimiter at the end.
    pub prefixes: Vec<String>,
    /// There is more: the token of the next page.
    pub next: Option<String>,
}

/// An object in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its length.
    pub len: u64,
    /// Its entity tag, with its quotes.
    pub etag: Option<String>,
    /// When it last changed.
    pub last_modified: SystemTime,
}

/// Keys and prefixes of a page at most, as in S3.
pub const MOST: usize = 1000;

impl Page {
    /// What a key is put together under, if the delimiter is in it behind the prefix.
    pub(super) fn common<'k>(&self, key: &'k str) -> Option<&'k str> {
        let delimiter = self.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty())?;
        let rest = key.strip_prefix(self.prefix.as_str())?;
        let end = self.prefix.len() + rest.find(delimiter)? + delimiter.len();
        key.get(..end)
    }

    /// Where to begin, for a list that is made here: its tokens are where the page before ended.
    pub(super) fn begin(&self) -> &str {
        let [token, after] = [&self.token, &self.after].map(|from| from.as_deref().unwrap_or_default());
        token.max(after)
    }
}

impl Listing {
    /// Takes the next key of a list that is made here, unless it is not wanted; breaks when the page is full.
    pub(super) fn offer(&mut self, page: &Page, key: &str, object: impl FnOnce() -> Option<Listed>) -> ControlFlow<()> {
        if !key.starts_with(&page.prefix) {
            return ControlFlow::Continue(());
        }
        let common = page.common(key);
        let begin = page.begin();
        let is_before = match common {
            Some(common) => common <= begin || begin.starts_with(common),
            None => key <= begin,
        };
        if is_before || (common.is_some() && self.prefixes.last().map(String::as_str) == common) {
            return ControlFlow::Continue(());
        }
        if self.objects.len() + self.prefixes.len() >= page.most {
            self.next = self.last();
            return ControlFlow::Break(());
        }
        match common {
            Some(common) => self.prefixes.push(common.into()),
            None => self.objects.extend(object()),
        }
        ControlFlow::Continue(())
    }

    /// The last key or prefix, from which the next page begins.
    pub fn last(&self) -> Option<String> {
        let key = self.objects.last().map(|object| &object.key);
        key.max(self.prefixes.last()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 6] = ["a", "b-1", "b/1", "b/2", "b/c/3", "d/4"];

    fn list(page: &Page) -> Listing {
        let mut listing = Listing::default();
        for key in KEYS {
            let object = || {
                Some(Listed {
                    key: key.into(),
                    len: 1,
                    etag: None,
                    last_modified: SystemTime::UNIX_EPOCH,
                })
            };
            if listing.offer(page, key, object).is_break() {
                break;
            }
        }
        listing
    }

    /// All pages, in one line.
    fn all(mut page: Page) -> String {
        let mut text = Vec::new();
        loop {
            let listing = list(&page);
            let objects = listing.objects.iter().map(|object| object.key.clone());
            text.extend(objects.chain(listing.prefixes.iter().map(|prefix| format!("{prefix}*"))));
            match listing.next {
                None => return text.join(" "),
                next => page.token = next,
            }
        }
    }

    fn page(prefix: &str, delimiter: &str, most: usize) -> Page {
        Page {
            prefix: prefix.into(),
            delimiter: Some(delimiter.into()),
            most,
            ..Page::default()
        }
    }

    #[test]
    fn pages_of_any_size_make_the_same_list() {
        for most in 1..8 {
            assert_eq!(all(page("", "", most)), "a b-1 b/1 b/2 b/c/3 d/4", "{most}");
            assert_eq!(all(page("b/", "", most)), "b/1 b/2 b/c/3", "{most}");
            assert_eq!(all(page("b/", "/", most)), "b/1 b/2 b/c/*", "{most}");
            assert_eq!(all(page("x", "/", most)), "", "{most}");
        }
        assert_eq!(all(page("", "/", 8)), "a b-1 b/* d/*");
        assert_eq!(all(page("", "/", 1)), "a b-1 b/* d/*");
        assert_eq!(all(page("b", "/", 8)), "b-1 b/*");
        assert_eq!(all(page("", "-", 8)), "a b/1 b/2 b/c/3 d/4 b-*");
    }

    #[test]
    fn a_list_begins_behind_a_key() {
        let after = |after: &str| {
            all(Page {
                after: Some(after.into()),
                ..page("", "/", 8)
            })
        };
        assert_eq!(after("a"), "b-1 b/* d/*");
        assert_eq!(after("b-9"), "b/* d/*");
        // As where a page ended.
        assert_eq!(after("b/"), "d/*");
        assert_eq!(after("z"), "");
    }
}
