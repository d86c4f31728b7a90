//! Answers that may be served again: to the same node, for the same URL, until the plugin or the inventory changes. In memory only and
//! bounded by bytes; an answer that is no longer fresh stays until it is pushed out, for when its plugin cannot be asked.

use std::sync::Arc;

use bootd_sdk::wire::{Answer, Request};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// Bytes of kept answers.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// What an answer depended on when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Freshness {
    pub(super) plugin: u64,
    pub(super) inventory: u64,
}

/// Whom and what an answer was for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    plugin: usize,
    who: String,
    url: String,
}

/// A kept answer.
pub(super) struct KeptAnswer {
    pub(super) answer: Answer,
    pub(super) freshness: Freshness,
}

pub(super) struct Kept {
    answers: Cache<Key, Arc<KeptAnswer>>,
}

impl Key {
    /// The key of a request, when its answer can be kept at all: a GET without a body.
    pub(super) fn of(plugin: usize, request: &Request) -> Option<Self> {
        if request.method != "GET" || !request.body.is_empty() || request.claims.is_some() {
            return None;
        }
        let who = match (&request.node, request.peer) {
            (Some(node), _) => node.id.clone(),
            (None, Some(peer)) => peer.to_string(),
            (None, None) => return None,
        };
        // Rewritten URLs depend on the address by which the node reaches this box.
        let rewrites = request.rewrites.first().map_or("", |rewrite| rewrite.to.as_str());
        let url = format!(
            "{}://{} {rewrites} {}?{}",
            request.scheme, request.host, request.path, request.query
        );
        Some(Self { plugin, who, url })
    }

    fn len(&self) -> usize {
        self.who.len() + self.url.len()
    }
}

impl Kept {
    pub(super) fn new() -> Self {
        // A boot storm asks for each document about once: the newest are the likeliest, so plain LRU without admission.
        let weigh = |key: &Key, kept: &Arc<KeptAnswer>| {
            u32::try_from(200 + key.len() + kept.answer.body.len()).unwrap_or(u32::MAX)
        };
        let answers = Cache::builder()
            .max_capacity(MOST_BYTES)
            .weigher(weigh)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { answers }
    }

    pub(super) fn find(&self, key: &Key) -> Option<Arc<KeptAnswer>> {
        self.answers.get(key)
    }

    pub(super) fn keep(&self, key: Key, answer: Answer, freshness: Freshness) {
        self.answers.insert(key, Arc::new(KeptAnswer { answer, freshness }));
    }
}
