//! What the timelines of boots are told of an answer of a boot listener. Pure; what is no step of a boot says nothing.

use std::net::IpAddr;

use bootd_sdk::mac::Mac;
use bootd_sdk::text::shown;
use bytes::Bytes;
use hyper::header::USER_AGENT;
use hyper::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use super::holding;
use crate::boots::Event;
use crate::boots::event::{Asked, State, Transfer};
use crate::metrics::Class;

/// The text of an answer, left in its extensions for who tells of it.
#[derive(Clone)]
pub(super) struct Text(pub(super) Bytes);

/// A request and its answer.
pub(super) struct Answered<'a> {
    pub(super) peer: IpAddr,
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) status: u16,
    /// Bytes of the body.
    pub(super) bytes: u64,
    /// Its text; empty when it is none of a plugin's.
    pub(super) text: Bytes,
    pub(super) agent: Box<str>,
}

/// `User-Agent`.
pub(super) fn agent(headers: &HeaderMap) -> Box<str> {
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
    agent
        .map(|agent| agent.get(..80).unwrap_or(agent))
        .unwrap_or_default()
        .into()
}

/// What kind of thing a path of a boot listener is, as far as it is none of an operator's.
pub(super) fn class(path: &str) -> Class {
    let last = last(path);
    match last {
        _ if path.starts_with("/loaders/") => Class::Loader,
        "bootscript" => Class::Script,
        _ if is_document(last) && !path.contains("/admin/") => Class::Document,
        _ => Class::Api,
    }
}

fn last(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

fn is_document(last: &str) -> bool {
    matches!(last, "meta-data" | "user-data" | "vendor-data") || last.ends_with(".yaml")
}

/// What becomes of it.
pub(super) fn of_answer(answered: Answered<'_>) -> Option<Event> {
    let Answered { peer, path, .. } = answered;
    // No step of a boot has a longer path; what is told is kept.
    if path.len() > LONGEST_PATH {
        return None;
    }
    let is_read = *answered.method == Method::GET;
    if let Some(name) = path.strip_prefix("/loaders/") {
        let name = percent_decode_str(name).decode_utf8_lossy();
        return is_read.then(|| Event::Loader(peer, transfer(&shown(&name), &answered)));
    }
    let last = last(path);
    if SCRIPTS.contains(&path.trim_end_matches('/')) {
        return is_read.then(|| Event::Script(peer, script(answered)));
    }
    let is_phone_home = *answered.method == Method::POST && path.contains("/phone-home");
    // What operators read is none of a node's boot.
    let is_nodes = (is_read && is_document(last) || is_phone_home) && !path.contains("/admin/");
    is_nodes.then(|| {
        Event::Document(
            peer,
            Asked {
                path: path.trim_end_matches('/').into(),
                mac: None,
                status: answered.status,
                body: answered.text,
                agent: answered.agent,
            },
        )
    })
}

fn script(answered: Answered<'_>) -> Asked {
    // Colons may be escaped; nothing else in it is.
    let mac = answered.query.split('&').find_map(|pair| pair.strip_prefix("mac="));
    let mac = mac.and_then(|value| match value.contains('%') {
        true => value.replace("%3A", ":").replace("%3a", ":").parse::<Mac>().ok(),
        false => value.parse().ok(),
    });
    let waits = holding::waits(&answered.text);
    Asked {
        path: answered.path.into(),
        mac,
        status: answered.status,
        body: if waits { Bytes::new() } else { answered.text },
        agent: answered.agent,
    }
}

fn transfer(name: &str, answered: &Answered<'_>) -> Transfer {
    let good = (200..300).contains(&answered.status);
    Transfer {
        name: name.into(),
        sent: if good { answered.bytes } else { 0 },
        of: good.then_some(answered.bytes),
        state: if good {
            State::Done
        } else {
            State::Refused(answered.status)
        },
        agent: answered.agent.clone(),
    }
}

/// Where boot scripts are.
const SCRIPTS: [&str; 2] = ["/boot/v1/bootscript", "/apis/bss/boot/v1/bootscript"];
/// Bytes of a path.
const LONGEST_PATH: usize = 512;
