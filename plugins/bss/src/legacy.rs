//! `/meta-data`, `/user-data` and `/phone-home` at the root, as BSS served them before there was a service of its own for it (contract 3.4). By
//! the client's address; off unless the configuration says so.
//!
//! What there is for `Global`, the node's role, its groups, its NID, its name and its MACs is merged, in this order, the later over the earlier.

use bootd_sdk::form;
use bootd_sdk::prelude::*;
use serde_json::{Map, Value, json};

use crate::Bss;
use crate::book::{Book, By, Draft};
use crate::bootparameters::refused;
use crate::entry::{CloudInit, Config, Target};
use crate::rules::Refusal;
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
            phone_home(bss, node, &request.body)
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
    let said = if body.trim_start().starts_with('{') {
        bootd_sdk::json::parse::<Map<String, Value>>(body).map_err(|error| error.to_string())
    } else {
        // cloud-init's own module posts a form.
        let pairs = form::pairs(body).ok_or_else(|| "the form is not well formed".to_owned());
        pairs.map(|pairs| pairs.into_iter().map(|(name, text)| (name, text.into())).collect())
    };
    let said = said.and_then(|said| CloudInit::read(&json!({"phone-home": said})));
    let news = match said {
        Ok(said) if said.phone_home.len() > MOST_TEXTS => {
            return bad_request(&format!("more than {MOST_TEXTS} texts"));
        }
        Ok(cloud_init) => Config {
            cloud_init,
            ..Config::default()
        },
        Err(detail) => return bad_request(&detail),
    };
    if news
        .cloud_init
        .phone_home
        .values()
        .any(|text| text.len() > LONGEST_TEXT)
    {
        return bad_request(&format!("a text has more than {LONGEST_TEXT} bytes"));
    }
    let target = Target::Host(node.id.clone());
    let written = bss.ledger.write(|book| -> Result<Draft, Refusal> {
        let mut draft = Draft::of(book);
        let old = book.row(&target);
        let nothing = Config::default();
        let mut new = old.map_or(&nothing, |row| row.config()).clone();
        new.cloud_init.phone_home.clear();
        draft.set(&target, &new.updated(&news), old.map_or(By::Api, |row| row.by));
        Ok(draft)
    });
    written.map_or_else(refused, |_| Answer::default())
}

fn bad_request(detail: &str) -> Answer {
    Answer::problem(400, "Bad Request", &format!("Bad Request: {detail}"))
}

/// Texts that a node may say.
const MOST_TEXTS: usize = 32;
/// Bytes of each; a public key has some hundred.
const LONGEST_TEXT: usize = 16 * 1024;
