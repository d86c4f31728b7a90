//! `/meta-data`, `/user-data` and `/phone-home` at the root, as BSS served them before there was a service of its own for it (contract 3.4). By
//! the client's address; off unless the configuration says so.
//!
//! What there is for `Global`, the node's role, its groups, its NID, its name and its MACs is merged, in this order, the later over the earlier.

use std::collections::BTreeMap;

use bootd_sdk::form;
use bootd_sdk::prelude::*;
use serde_json::{Map, Value, json};

use crate::Bss;
use crate::book::{Book, By, Draft};
use crate::bootparameters::refused;
use crate::entry::{CloudInit, PHONE_HOME, Target};
use crate::ledger::NotWritten;
use crate::source::Source;
use crate::yaml;

/// Answers one of the three paths.
pub(crate) fn answer(bss: &Bss, request: &Request) -> Answer {
    let Some(node) = &request.node else {
        return Answer::problem(404, "Not Found", "this address is no node's");
    };
    let now = bss.host.now_unix().as_secs();
    let book = bss.ledger.book();
    match request.path.trim_end_matches('/') {
        "/meta-data" => {
            bss.history.saw(&node.id, "meta-data", now);
            meta_data(&book, node, &request.query)
        }
        "/user-data" => {
            bss.history.saw(&node.id, "user-data", now);
            let data = merged(&book, node, |cloud_init| &cloud_init.user_data);
            Answer::new(200, "text/yaml", format!("#cloud-config\n{}", yaml::document(&data)))
        }
        _ => {
            bss.history.saw(&node.id, "phone-home", now);
            match bss.source {
                Source::Files(_) => phone_home(bss, node, &request.body),
                // The boot parameters are the site's. That the node is up is heard.
                Source::Site(_) => Answer::default(),
            }
        }
    }
}

fn meta_data(book: &Book, node: &Node, query: &str) -> Answer {
    let mut data = merged(book, node, |cloud_init| &cloud_init.meta_data);
    for (key, text) in [("instance-id", &node.id), ("local-hostname", &node.name)] {
        if !data.contains_key(key) && !text.is_empty() {
            data.insert(key.into(), text.as_str().into());
        }
    }
    let Some(query) = form::pairs(query) else {
        return Answer::problem(400, "Bad Request", "the query is not well formed");
    };
    let all = Value::Object(data);
    let found = match form::first(&query, "key") {
        None => Some(&all),
        Some(path) => path.split('.').try_fold(&all, |value, key| value.get(key)),
    };
    match found {
        Some(value) => Answer::new(200, "application/json", value.to_string()),
        None => Answer::problem(404, "Not Found", "there is no such key in the meta-data"),
    }
}

fn merged(book: &Book, node: &Node, part: impl Fn(&CloudInit) -> &Map<String, Value>) -> Map<String, Value> {
    let mut targets = vec![Target::Host("Global".into()), Target::Host(node.role.clone())];
    targets.extend(node.groups.iter().cloned().map(Target::Host));
    targets.extend(node.nid.map(Target::Nid));
    targets.push(Target::Host(node.id.clone()));
    targets.extend(node.interfaces.iter().map(|interface| Target::Mac(interface.mac)));
    let mut data = Map::new();
    for target in &targets {
        if let Some(config) = book.config(target) {
            merge(&mut data, part(&config.cloud_init));
        }
    }
    data
}

/// Maps within each other are merged too, as deep as what was written may be.
fn merge(data: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (data.get_mut(key), value) {
            (Some(Value::Object(below)), Value::Object(over)) => merge(below, over),
            _ => {
                data.insert(key.clone(), value.clone());
            }
        }
    }
}

/// What the node says is kept with the parameters of its name.
fn phone_home(bss: &Bss, node: &Node, body: &str) -> Answer {
    let phone_home = match said(body) {
        Ok(said) => said,
        Err(detail) => return bad_request(&detail),
    };
    let written = bss.ledger.write(|book| heard(book, &node.id, &phone_home));
    match written {
        Ok(_) => Answer::default(),
        Err(NotWritten::Store(error)) => refused(NotWritten::Store(error)),
        Err(NotWritten::Refused(Full)) => {
            let detail = format!("all nodes together have phoned home with more than {MOST_OF_ALL} bytes");
            Answer::problem(507, "Insufficient Storage", &detail)
        }
    }
}

/// Nothing more is kept of what nodes say.
#[derive(Debug)]
pub(crate) struct Full;

/// The next book, when the node of this name says this.
pub(crate) fn heard(book: &Book, id: &str, phone_home: &BTreeMap<String, String>) -> Result<Draft, Full> {
    let target = Target::Host(id.into());
    let old = book.row(&target);
    let mut new = old.map(|row| row.config().clone()).unwrap_or_default();
    let (before, now) = (bytes(&new.cloud_init.phone_home), bytes(phone_home));
    let all = || {
        book.configs()
            .map(|config| bytes(&config.cloud_init.phone_home))
            .sum::<usize>()
    };
    // Who says less is heard, so that there is a way back.
    if now > before && all() + now > MOST_OF_ALL {
        return Err(Full);
    }
    new.cloud_init.phone_home.clone_from(phone_home);
    let mut draft = Draft::of(book);
    draft.set(&target, &new, old.map_or(By::Api, |row| row.by));
    Ok(draft)
}

/// What is kept of what a node says: the contract's texts. cloud-init sends others with them, which are passed over.
fn said(body: &str) -> Result<BTreeMap<String, String>, String> {
    let mut said: Map<String, Value> = if body.trim_start().starts_with('{') {
        bootd_sdk::json::parse(body).map_err(|error| error.to_string())?
    } else {
        // cloud-init's own module posts a form.
        let pairs = form::pairs(body).ok_or("the form is not well formed")?;
        pairs.into_iter().map(|(name, text)| (name, text.into())).collect()
    };
    said.retain(|name, _| PHONE_HOME.contains(&name.as_str()));
    let mut texts = CloudInit::read(&json!({"phone-home": said}))?.phone_home;
    for (name, text) in &mut texts {
        // Keys come with the line's end of their file.
        text.truncate(text.trim_end().len());
        if text.len() > LONGEST_TEXT {
            return Err(format!("{name} has more than {LONGEST_TEXT} bytes"));
        }
        if text.chars().any(char::is_control) {
            return Err(format!("{name} must be one line, without control characters"));
        }
    }
    texts.retain(|_, text| !text.is_empty());
    Ok(texts)
}

fn bytes(phone_home: &BTreeMap<String, String>) -> usize {
    phone_home.iter().map(|(name, text)| name.len() + text.len()).sum()
}

fn bad_request(detail: &str) -> Answer {
    Answer::problem(400, "Bad Request", &format!("Bad Request: {detail}"))
}

/// Bytes of each text; a public key has some hundred.
const LONGEST_TEXT: usize = 4 * 1024;
/// Bytes of all nodes' texts, some ten thousand nodes' keys. All boot parameters are listed in one answer, which may have 64 MiB of JSON
/// within JSON: four times as much as the worst of texts.
const MOST_OF_ALL: usize = 12 * 1024 * 1024;
