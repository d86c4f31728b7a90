//! `/bootparameters`: requests in, answers out. What a write does is in [`crate::rules`]; here are only the list and the wire.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use bootd_sdk::etag;
use bootd_sdk::form;
use bootd_sdk::json::null_is_default;
use bootd_sdk::prelude::*;
use bootd_sdk::text::shown;
use serde_json::Value;

use crate::book::{Book, Draft};
use crate::entry::{Entry, Target, host};
use crate::ledger::{Ledger, NotWritten, Written};
use crate::rules::{self, Refusal};

pub(crate) fn answer(ledger: &Ledger, request: &Request) -> Answer {
    match request.method.as_str() {
        "GET" => {
            let (book, tag) = ledger.tagged();
            // What a body asks for is no part of the URL that a tag is for.
            if request.body.is_empty() {
                etag::answer(request, &tag, || get(&book, request))
            } else {
                get(&book, request)
            }
        }
        "POST" => written(write(ledger, &request.body, rules::post), 201),
        "PUT" => written(write(ledger, &request.body, rules::put), 200),
        "PATCH" => written(write(ledger, &request.body, rules::patch), 200),
        _ => written(write(ledger, &request.body, rules::delete), 200),
    }
}

/// The answer to a write that may have been refused.
pub(crate) fn refused(refusal: NotWritten<Refusal>) -> Answer {
    match refusal {
        NotWritten::Refused(Refusal::Bad(detail)) => bad_request(&detail),
        NotWritten::Refused(Refusal::Absent(detail)) => Answer::problem(404, "Not Found", &detail),
        NotWritten::Store(error) => {
            let detail = format!("the store does not take it: {error}");
            Answer::problem(500, "Internal Server Error", &detail)
        }
    }
}

fn write(
    ledger: &Ledger,
    body: &str,
    rule: impl Fn(&Book, &Entry) -> Result<Draft, Refusal>,
) -> Result<Written, NotWritten<Refusal>> {
    let entry = rules::read(body).map_err(NotWritten::Refused)?;
    ledger.write(|book| rule(book, &entry))
}

fn written(written: Result<Written, NotWritten<Refusal>>, status: u16) -> Answer {
    match written {
        Ok(_) => Answer {
            status,
            headers: vec![("BSS-Referral-Token".into(), token())],
            ..Answer::default()
        },
        Err(refusal) => refused(refusal),
    }
}

/// A name that no two writes have, in the form of a UUID of version 4. No secret.
fn token() -> String {
    let random = || RandomState::new().hash_one(0);
    let (a, b) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        (b >> 48) & 0x3fff | 0x8000,
        b & 0xffff_ffff_ffff,
    )
}

fn get(book: &Book, request: &Request) -> Answer {
    let filter = match Filter::read(&request.query, &request.body) {
        Ok(filter) => filter,
        Err(detail) => return bad_request(&detail),
    };
    let entries = book.entries(filter.targets.as_deref());
    if entries.is_empty() && filter.targets.is_some() {
        return Answer::problem(404, "Not Found", &filter.nothing());
    }
    let list: Value = match entries.as_slice() {
        // Not an empty list: that is how BSS says that there is nothing at all, and what scripts look for (contract 3.2).
        [] => Value::Null,
        entries => entries.iter().map(Entry::as_bss).collect(),
    };
    Answer::new(200, "application/json", list.to_string())
}

fn bad_request(detail: &str) -> Answer {
    Answer::problem(400, "Bad Request", detail)
}

/// Which targets a list shows. `None`: all.
#[derive(Debug, Default)]
struct Filter {
    targets: Option<Vec<Target>>,
}

/// The body of a GET: the same as its query.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    #[serde(deserialize_with = "null_is_default", alias = "mac")]
    macs: Vec<String>,
    #[serde(deserialize_with = "null_is_default", alias = "name")]
    hosts: Vec<String>,
    #[serde(deserialize_with = "null_is_default", alias = "nid")]
    nids: Vec<u64>,
}

impl Filter {
    /// From `mac`, `name` and `nid`, each repeated or separated by commas, and a JSON body with the same.
    fn read(query: &str, body: &str) -> Result<Self, String> {
        let pairs = form::pairs(query).ok_or("the query is not well formed")?;
        if pairs.is_empty() && body.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut targets = Vec::new();
        for (name, values) in pairs {
            for value in values.split(',').filter(|value| !value.is_empty()) {
                match name.as_str() {
                    "mac" => targets.push(mac(value)?),
                    "name" => targets.push(Target::Host(host(value))),
                    "nid" => {
                        let nid = value.parse().map(Target::Nid);
                        targets.push(nid.map_err(|_| format!("Bad Request - Invalid nid '{}'", shown(value)))?);
                    }
                    _ => {}
                }
            }
        }
        if !body.trim().is_empty() {
            if !body.trim_start().starts_with('{') {
                return Err("Bad Request: a JSON object is expected".into());
            }
            let body: Body = bootd_sdk::json::parse(body).map_err(|error| format!("Bad Request: {error}"))?;
            for value in &body.macs {
                targets.push(mac(value)?);
            }
            targets.extend(body.hosts.iter().map(|name| Target::Host(host(name))));
            targets.extend(body.nids.into_iter().map(Target::Nid));
        }
        if targets.is_empty() {
            return Err("No specified data requested".into());
        }
        Ok(Self { targets: Some(targets) })
    }

    fn nothing(&self) -> String {
        let targets = self.targets.as_deref().unwrap_or_default();
        let mut asked = Vec::new();
        for (kind, is_of) in KINDS {
            if targets.iter().any(is_of) {
                asked.push(kind);
            }
        }
        format!("Cannot find boot parameters for requested {}", asked.join(" or "))
    }
}

/// Whether a target is of a kind.
type IsOf = fn(&Target) -> bool;

/// How upstream calls the kinds of targets.
const KINDS: [(&str, IsOf); 3] = [
    ("Hosts", |target| matches!(target, Target::Host(_))),
    ("MACs", |target| matches!(target, Target::Mac(_))),
    ("NIDs", |target| matches!(target, Target::Nid(_))),
];

fn mac(text: &str) -> Result<Target, String> {
    text.parse().map(Target::Mac).map_err(|error| format!("{error}"))
}
