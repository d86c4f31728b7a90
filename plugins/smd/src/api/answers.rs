//! Answers made of rows. A list is written row by row into one text.

use bootd_sdk::prelude::*;
use serde::Serialize;

use super::problem;

/// `prefix[row,row,…]suffix`, each row written in its turn.
pub(super) fn list<T: Serialize>(prefix: &str, rows: impl Iterator<Item = T>, suffix: &str) -> Answer {
    let mut text = Vec::from(prefix.as_bytes());
    text.push(b'[');
    for (at, row) in rows.enumerate() {
        if at > 0 {
            text.push(b',');
        }
        if let Err(error) = serde_json::to_writer(&mut text, &row) {
            return problem(500, &error.to_string());
        }
    }
    text.push(b']');
    text.extend_from_slice(suffix.as_bytes());
    match String::from_utf8(text) {
        Ok(text) => Answer::new(200, "application/json", text),
        Err(error) => problem(500, &error.to_string()),
    }
}

/// One document.
pub(super) fn json(status: u16, body: &impl Serialize) -> Answer {
    match serde_json::to_string(body) {
        Ok(body) => Answer::new(status, "application/json", body),
        Err(error) => problem(500, &error.to_string()),
    }
}

/// A document of its own, named by its place.
#[derive(Serialize)]
pub(super) struct Uri {
    #[serde(rename = "URI")]
    uri: String,
}

impl Uri {
    pub(super) fn of(list: &str, id: &str) -> Self {
        Self {
            uri: format!("/hsm/v2/{list}/{id}"),
        }
    }
}

/// 201 with what was made below `list`; nothing: 204.
pub(super) fn created(list: &str, ids: &[&str]) -> Answer {
    let location = match ids {
        [] => return no_content(),
        [one] => format!("/hsm/v2/{list}/{one}"),
        _ => format!("/hsm/v2/{list}"),
    };
    let uris: Vec<Uri> = ids.iter().map(|id| Uri::of(list, id)).collect();
    let mut answer = json(201, &uris);
    answer.headers.push(("location".into(), location));
    answer
}

/// 201 with the one thing that was made.
pub(super) fn created_one(list: &str, id: &str) -> Answer {
    let mut answer = json(201, &Uri::of(list, id));
    answer.headers.push(("location".into(), format!("/hsm/v2/{list}/{id}")));
    answer
}

/// 204.
pub(super) fn no_content() -> Answer {
    Answer {
        status: 204,
        ..Answer::default()
    }
}

/// 200 with how many were deleted.
pub(super) fn deleted(count: usize) -> Answer {
    message(&match count {
        1 => "deleted 1 entry".to_owned(),
        count => format!("deleted {count} entries"),
    })
}

/// 200 with a message.
pub(super) fn message(text: &str) -> Answer {
    json(200, &serde_json::json!({"code": 0, "message": text}))
}
