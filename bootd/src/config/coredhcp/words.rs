//! How coresmd and bootloop read their words: comments between `/*` and `*/`, then `key=value`.
//!
//! A word that begins with `/*` opens a comment, one that ends with `*/` closes it, and both belong to it. A comment that nobody closes
//! swallows all that follows (contract 1.4); what it swallowed is told, since nobody means that.

use bootd_sdk::text::shown;

use super::told::Told;

/// The words outside of comments. `key`: where notes of them belong.
pub(super) fn without_comments<'a>(words: &'a [String], told: &mut Told, place: &str) -> Vec<&'a str> {
    let mut kept = Vec::new();
    let mut swallowed: Vec<&str> = Vec::new();
    let mut open = false;
    for word in words {
        let (opens, closes) = (word.starts_with("/*"), word.ends_with("*/"));
        if opens && !open {
            swallowed.clear();
        }
        if closes && !open && !opens {
            told.ignored(
                place,
                "",
                format!("'{}' closes a comment that nobody opened", shown(word)),
            );
        } else if !opens && !closes {
            if open { &mut swallowed } else { &mut kept }.push(word.as_str());
        }
        open = (open || opens) && !closes;
    }
    if open {
        let lost: Vec<String> = swallowed
            .iter()
            .filter(|word| has_key(word))
            .map(|word| shown(word))
            .collect();
        let what = if lost.is_empty() {
            "no setting".to_owned()
        } else {
            lost.join(" ")
        };
        told.ignored(
            place,
            "",
            format!("a comment (/*) that is not closed (*/) swallows all that follows it: {what}"),
        );
    }
    kept
}

/// `key=value` at its first `=`; what has none is told and left out. The number of the word is not kept: keys are places enough.
pub(super) fn settings<'a>(words: &[&'a str], told: &mut Told, place: &str) -> Vec<(&'a str, &'a str)> {
    let mut settings = Vec::new();
    let mut stray: Vec<String> = Vec::new();
    for word in words {
        match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => settings.push((key, value)),
            _ => stray.push(shown(word)),
        }
    }
    if !stray.is_empty() {
        let hash = if stray.iter().any(|word| word.starts_with('#')) {
            "; within such a text # begins no comment, only /* */ is one"
        } else {
            ""
        };
        told.ignored(
            place,
            "",
            format!("not of the form key=value, so left out: {}{hash}", stray.join(" ")),
        );
    }
    settings
}

/// Whether words are the older form, which is by position: none of them begins as `key=`.
pub(super) fn are_positional(words: &[&str]) -> bool {
    !words.iter().any(|word| has_key(word))
}

/// Quotes around a value.
pub(super) fn unquoted(value: &str) -> &str {
    value.trim_matches(['\'', '"'])
}

fn has_key(word: &str) -> bool {
    word.split_once('=').is_some_and(|(key, _)| {
        !key.is_empty()
            && key
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
    })
}
