//! `GET /bootscript`: who asks, and which of the three outcomes it gets (contract 3.3).
//!
//! A known and enabled node with parameters boots. Who has none boots what there is for its architecture (`Unknown-<arch>`), once it says it.
//! All others, disabled nodes among them, are told to ask again: nobody gives up, so a node boots as soon as somebody knows it. Only a
//! known node's script is kept: others ask by a URL that has the time in it.

use bootd_sdk::form;
use bootd_sdk::prelude::*;
use bootd_sdk::xname;
use serde_json::json;

use crate::Bss;
use crate::book::{Book, DEFAULT};
use crate::entry::{Config, Target};
use crate::lead::Lead;
use crate::script::{Key, Script};
use crate::site::Mirrored;
use crate::templates::{self, Known};

/// The listener of requests that bootd makes itself to see what a node would get. No node has asked then.
const EXPLAIN: &str = "explain";

/// A request for a script, read.
struct Asked {
    key: Key,
    retry: u32,
    arch: Option<String>,
    form: Form,
}

/// What is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Script,
    /// What would be in the script, for people.
    Json,
}

pub(crate) fn answer(bss: &Bss, request: &Request) -> Answer {
    let asked = match Asked::read(&request.query) {
        Ok(asked) => asked,
        Err(detail) => return Answer::problem(400, "Bad Request", &detail),
    };
    let base = request.base().unwrap_or_else(|| bss.boot_url.clone());
    let script = Script {
        retry_delay: bss.common.retry_delay_s,
        poll_delay: bss.common.poll_delay_s,
        advertise: bss.common.advertise.as_deref(),
        lead: Lead {
            base: &base,
            rewrites: &request.rewrites,
            site: bss.site().filter(|_| request.leads_here).and_then(Mirrored::names),
        },
    };
    let book = bss.ledger.book();
    let node = asked.node(bss.host);
    if let Some(node) = node.as_ref().filter(|_| request.listener != EXPLAIN) {
        bss.history.saw(&node.id, "bootscript", bss.host.now_unix().as_secs());
    }
    let answer = match asked.form {
        Form::Json => asked.shown(&book, &script, node.as_ref()),
        Form::Script => asked.script(&book, &script, node.as_ref(), bss.host),
    };
    // The site may have parameters for it since a moment ago.
    let may_boot = node.as_ref().is_none_or(|node| node.enabled);
    if let Some(site) = bss.site()
        && request.listener != EXPLAIN
        && asked.form == Form::Script
        && may_boot
        && !answer.keep
    {
        site.hurry();
    }
    answer
}

impl Asked {
    fn read(query: &str) -> Result<Self, String> {
        let query = form::pairs(query).ok_or("the query is not well formed")?;
        let is_json = form::first(&query, "json").is_some_and(|json| json != "0");
        Ok(Self {
            key: key(&query)?,
            retry: form::first(&query, "retry")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
            arch: form::first(&query, "arch").map(ToOwned::to_owned),
            // `ts`, or `timestamp` as the tool calls it, would ask upstream for newer data; here a site is asked for it anyway.
            form: if is_json { Form::Json } else { Form::Script },
        })
    }

    fn node(&self, host: Host) -> Option<Node> {
        let mut query = Query::default();
        match &self.key {
            Key::Mac(mac) => query.mac = Some(*mac),
            Key::Name(name) => query.id = Some(name.clone()),
            Key::Nid(nid) => query.nid = Some(*nid),
        }
        host.node(&query)
    }

    fn mac(&self) -> Option<Mac> {
        match self.key {
            Key::Mac(mac) => Some(mac),
            Key::Name(_) | Key::Nid(_) => None,
        }
    }

    fn script(&self, book: &Book, script: &Script<'_>, node: Option<&Node>, host: Host) -> Answer {
        let mac = self.mac();
        let poll = || text(script.poll(&self.key, host.now_unix().as_secs()));
        if node.is_some_and(|node| !node.enabled) {
            return poll();
        }
        if let Some((node, config)) = node.and_then(|node| Some((node, book.choose(mac, node)?))) {
            // The name only when no MAC is known: what a loader asks by is its MAC (contract 3.3).
            let again = mac.or_else(|| book.mac_of(node));
            let again = again.map_or_else(|| Key::Name(node.id.clone()), Key::Mac);
            return match filled(config, Some(node), mac.or_else(|| book.mac_of(node))) {
                Ok(config) => {
                    let boot = script.resolved(&config, Some(node), mac);
                    text(script.boot(&boot, &again, self.retry)).kept()
                }
                Err(answer) => answer,
            };
        }
        let unknown = self.arch.as_deref().and_then(|arch| book.unknown(arch));
        match unknown.map(|config| filled(config, node, mac)) {
            Some(Ok(config)) => {
                let boot = script.resolved(&config, None, mac);
                text(script.boot(&boot, &self.key, self.retry))
            }
            Some(Err(answer)) => answer,
            None => poll(),
        }
    }

    /// Also for who is not known: what there is for exactly what was asked by, else `Default`.
    fn shown(&self, book: &Book, script: &Script<'_>, node: Option<&Node>) -> Answer {
        let mac = self.mac();
        let exact = match &self.key {
            Key::Mac(mac) => Target::Mac(*mac),
            Key::Name(name) => Target::Host(name.clone()),
            Key::Nid(nid) => Target::Nid(*nid),
        };
        let config = match node {
            Some(node) => book.choose(mac, node),
            None => book.config(&exact).or_else(|| book.host(DEFAULT)),
        };
        let nothing = Config::default();
        let stored = config.unwrap_or(&nothing);
        let config = match filled(stored, node, mac) {
            Ok(config) => config,
            Err(answer) => return answer,
        };
        let boot = script.resolved(&config, node, mac);
        let mut shown = json!({
            "params": format!("kernel {}", boot.arguments).trim_end(),
            "kernel": {"path": boot.kernel, "params": stored.params},
        });
        if !boot.initrd.is_empty()
            && let Some(map) = shown.as_object_mut()
        {
            map.insert("initrd".into(), json!({"path": boot.initrd, "params": ""}));
        }
        Answer::new(200, "application/json", shown.to_string())
    }
}

fn filled(config: &Config, node: Option<&Node>, mac: Option<Mac>) -> Result<Config, Answer> {
    // Such templates are refused when they are written, for the longest values there are.
    templates::fill(config, Known { node, mac })
        .map_err(|error| Answer::problem(500, "Internal Server Error", &error.to_string()))
}

/// Who is asked for: the first of mac, name and nid.
fn key(query: &[(String, String)]) -> Result<Key, String> {
    if let Some(mac) = form::first(query, "mac") {
        return mac.parse().map(Key::Mac).map_err(|error| format!("{error}"));
    }
    if let Some(name) = form::first(query, "name") {
        let name = xname::normalise(name);
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.len() > 253 || !name.chars().all(is_name) {
            return Err("name= must be an xname, such as x1000c0s0b0n0".into());
        }
        return Ok(Key::Name(name));
    }
    if let Some(nid) = form::first(query, "nid") {
        return nid.parse().map(Key::Nid).map_err(|_| "nid= must be a number".into());
    }
    Err("Need a mac=, name=, or nid= parameter".into())
}

fn text(body: String) -> Answer {
    Answer::new(200, "text/plain; charset=UTF-8", body)
}
