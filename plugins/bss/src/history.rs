//! Who asked when: the last time that each node asked each endpoint (contract 3.4, `/endpoint-history`).
//!
//! Kept answers never come by the plugin: those are heard of as events of the host, which are lossy. What is new is written every few seconds
//! at most, so a crash costs seconds and a storm of requests few commits. Only nodes of the inventory are remembered, and no more than
//! [`MOST`] times; the oldest go first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bootd_sdk::prelude::*;
use bootd_sdk::wire::Commit;
use serde_json::{Value, json};

/// The endpoints that are remembered; each node has at most one time for each.
pub(crate) const ENDPOINTS: [&str; 4] = ["bootscript", "meta-data", "phone-home", "user-data"];

/// The times.
pub(crate) struct History {
    host: Host,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Seconds since 1970 by xname and endpoint.
    seen: HashMap<(String, &'static str), u64>,
    /// What the store does not have yet.
    new: HashSet<(String, &'static str)>,
    /// What it has, and should not.
    gone: Vec<String>,
    /// Addresses that got a script, and whose nodes have not been looked up.
    peers: HashMap<IpAddr, u64>,
}

/// Times that are remembered in all.
const MOST: usize = 65_536;
/// Addresses that wait to be looked up.
const MOST_PEERS: usize = 16_384;
/// Keys in the store begin so.
const SEEN: &str = "seen/";

impl History {
    pub(crate) fn open(host: Host) -> Result<Self, HostError> {
        let mut state = State::default();
        for (key, text) in host.store_scan(SEEN)? {
            let name = key.strip_prefix(SEEN).and_then(|key| key.rsplit_once('/'));
            let known = name.and_then(|(name, last)| Some((name, ENDPOINTS.into_iter().find(|e| *e == last)?)));
            match (known, text.parse()) {
                (Some((name, endpoint)), Ok(at)) => {
                    state.seen.insert((name.to_owned(), endpoint), at);
                }
                _ => state.gone.push(key),
            }
        }
        state.bound(MOST);
        Ok(Self {
            host,
            state: Mutex::new(state),
        })
    }

    /// This node asked this endpoint at this time, in seconds since 1970.
    pub(crate) fn saw(&self, name: &str, endpoint: &'static str, at: u64) {
        self.lock().saw(name, endpoint, at, MOST);
    }

    /// An event of the host: perhaps a script that was served without the plugin.
    pub(crate) fn heard(&self, what: &Happening, at: u64) {
        let Happening::Http {
            peer,
            method,
            path,
            status: 200,
        } = what
        else {
            return;
        };
        let mut state = self.lock();
        let is_known = state.peers.len() < MOST_PEERS || state.peers.contains_key(peer);
        if method == "GET" && path.trim_end_matches('/').ends_with("/boot/v1/bootscript") && is_known {
            state.peers.insert(*peer, at);
        }
    }

    /// Finds out whose the addresses are that were heard of.
    pub(crate) fn look_up(&self) {
        let peers = std::mem::take(&mut self.lock().peers);
        for (ip, at) in peers {
            let query = Query {
                ip: Some(ip),
                ..Query::default()
            };
            if let Some(node) = self.host.node(&query) {
                self.saw(&node.id, "bootscript", at);
            }
        }
    }

    /// Writes what is new. What the store does not take is tried again next time.
    pub(crate) fn write(&self) {
        let (new, commit) = {
            let mut state = self.lock();
            if state.new.is_empty() && state.gone.is_empty() {
                return;
            }
            let new = std::mem::take(&mut state.new);
            let put: BTreeMap<String, String> = new
                .iter()
                .filter_map(|seen| Some((key(&seen.0, seen.1), state.seen.get(seen)?.to_string())))
                .collect();
            let delete = std::mem::take(&mut state.gone);
            let commit = Commit {
                put,
                delete,
                ..Commit::default()
            };
            (new, commit)
        };
        if let Err(error) = self.host.store_commit(&commit) {
            tracing::warn!(%error, "the endpoint history is not written yet");
            let mut state = self.lock();
            state.new.extend(new);
            state.gone.extend(commit.delete);
        }
    }

    /// As BSS lists it, sorted.
    pub(crate) fn list(&self, name: Option<&str>, endpoint: Option<&str>) -> Value {
        let state = self.lock();
        let is_asked = |(n, e): &&(String, &'static str)| {
            name.is_none_or(|name| name == n) && endpoint.is_none_or(|endpoint| endpoint == *e)
        };
        let mut list: Vec<_> = match (name, endpoint) {
            (Some(name), _) => {
                let keys = ENDPOINTS.map(|endpoint| (name.to_owned(), endpoint));
                let seen = keys.into_iter().filter(|key| is_asked(&key));
                seen.filter_map(|key| Some((state.seen.get(&key)?, key)))
                    .map(|(at, key)| (key, *at))
                    .collect()
            }
            (None, _) => {
                let seen = state.seen.iter().filter(|(key, _)| is_asked(key));
                seen.map(|(key, at)| (key.clone(), *at)).collect()
            }
        };
        drop(state);
        list.sort();
        list.iter()
            .map(|((name, endpoint), at)| json!({"name": name, "endpoint": endpoint, "last_epoch": at}))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn saw(&mut self, name: &str, endpoint: &'static str, at: u64, most: usize) {
        let key = (name.to_owned(), endpoint);
        let last = self.seen.entry(key.clone()).or_insert(0);
        if *last < at {
            *last = at;
            self.new.insert(key);
            self.bound(most);
        }
    }

    /// Lets the oldest go, some at once so that this is seldom.
    fn bound(&mut self, most: usize) {
        if self.seen.len() <= most {
            return;
        }
        let mut all: Vec<_> = self.seen.iter().map(|(key, at)| (*at, key.clone())).collect();
        all.sort_unstable();
        let surplus = self.seen.len() - most + most / 16;
        for (_, key) in all.into_iter().take(surplus) {
            self.seen.remove(&key);
            self.new.remove(&key);
            self.gone.push(self::key(&key.0, key.1));
        }
    }
}

fn key(name: &str, endpoint: &str) -> String {
    format!("{SEEN}{name}/{endpoint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_times_go_when_there_are_too_many_and_a_node_has_one_for_each_endpoint() {
        let mut state = State::default();
        for at in 1..=100 {
            state.saw("x0c0s0b0n0", "bootscript", at, 32);
        }
        assert_eq!(state.seen.len(), 1);
        for n in 1..=40 {
            state.saw(&format!("x{n}c0s0b0n0"), "bootscript", 100 + n, 32);
        }
        assert!((24..=32).contains(&state.seen.len()), "{}", state.seen.len());
        let has = |state: &State, name: &str| state.seen.contains_key(&(name.to_owned(), "bootscript"));
        assert!(has(&state, "x40c0s0b0n0") && !has(&state, "x0c0s0b0n0"));
        assert!(state.gone.contains(&"seen/x0c0s0b0n0/bootscript".to_owned()));
        assert!(state.new.iter().all(|key| state.seen.contains_key(key)));
    }

    #[test]
    fn a_time_never_goes_back() {
        let mut state = State::default();
        state.saw("x0c0s0b0n0", "bootscript", 9, 8);
        state.saw("x0c0s0b0n0", "bootscript", 7, 8);
        assert_eq!(state.seen.values().collect::<Vec<_>>(), [&9]);
    }
}
