//! Answers that may be served again: to the same node, for the same URL, until the plugin or the inventory changes. In memory only and
//! bounded by bytes, in all and for each asker, so that nobody pushes out what the others asked for; an answer that is no longer fresh
//! stays until it is pushed out, for when its plugin cannot be asked.

use std::sync::Arc;

use bootd_sdk::wire::{Answer, Request};
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// Bytes of kept answers.
const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// Answers kept for one asker.
const MOST_EACH: usize = 64;
/// Bytes kept for one asker.
const MOST_BYTES_EACH: usize = 4 * 1024 * 1024;
/// Bytes of a query whose answer is kept.
const LONGEST_QUERY: usize = 512;
/// Bytes of all that an answer depends on, the query among it.
const LONGEST_URL: usize = 2048;

/// What an answer depended on when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Freshness {
    pub(super) plugin: u64,
    pub(super) inventory: u64,
}

/// Whom and what an answer was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    who: String,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct What {
    plugin: usize,
    url: String,
}

/// A kept answer.
pub(super) struct KeptAnswer {
    pub(super) answer: Answer,
    pub(super) freshness: Freshness,
}

/// What is kept for one asker, the oldest first.
type Shelf = Vec<(What, Arc<KeptAnswer>)>;

pub(super) struct Kept {
    shelves: Cache<String, Arc<Shelf>>,
}

impl Key {
    /// The key of a request, when its answer can be kept at all: a GET without a body and of ordinary length.
    pub(super) fn of(plugin: usize, request: &Request) -> Option<Self> {
        if request.method != "GET" || !request.body.is_empty() || request.claims.is_some() {
            return None;
        }
        if request.query.len() > LONGEST_QUERY {
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
        (url.len() <= LONGEST_URL).then_some(Self {
            who,
            what: What { plugin, url },
        })
    }
}

impl Kept {
    pub(super) fn new() -> Self {
        // A boot storm asks for each document about once: the newest are the likeliest, so plain LRU without admission.
        let shelves = Cache::builder()
            .max_capacity(MOST_BYTES)
            .weigher(|who: &String, shelf: &Arc<Shelf>| u32::try_from(who.len() + bytes(shelf)).unwrap_or(u32::MAX))
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { shelves }
    }

    pub(super) fn find(&self, key: &Key) -> Option<Arc<KeptAnswer>> {
        let shelf = self.shelves.get(&key.who)?;
        let (_, kept) = shelf.iter().find(|(what, _)| *what == key.what)?;
        Some(Arc::clone(kept))
    }

    pub(super) fn keep(&self, key: Key, answer: Answer, freshness: Freshness) {
        let Key { who, what } = key;
        self.shelves.entry(who).and_compute_with(|shelf| {
            let mut shelf = shelf.map_or_else(Shelf::new, |shelf| shelf.into_value().to_vec());
            shelf.retain(|(other, _)| *other != what);
            shelf.push((what, Arc::new(KeptAnswer { answer, freshness })));
            while shelf.len() > MOST_EACH || bytes(&shelf) > MOST_BYTES_EACH {
                shelf.remove(0);
            }
            if shelf.is_empty() {
                Op::Remove
            } else {
                Op::Put(Arc::new(shelf))
            }
        });
    }
}

fn bytes(shelf: &Shelf) -> usize {
    let each = shelf
        .iter()
        .map(|(what, kept)| 200 + what.url.len() + kept.answer.body.len());
    each.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESHNESS: Freshness = Freshness {
        plugin: 0,
        inventory: 0,
    };

    fn request(peer: &str, query: &str) -> Request {
        Request {
            method: "GET".into(),
            query: query.into(),
            peer: Some(peer.parse().unwrap()),
            ..Request::default()
        }
    }

    fn keep(kept: &Kept, peer: &str, query: &str, body: &str) {
        let key = Key::of(0, &request(peer, query)).unwrap();
        kept.keep(key, Answer::new(200, "text/plain", body), FRESHNESS);
    }

    fn found(kept: &Kept, peer: &str, query: &str) -> bool {
        let key = Key::of(0, &request(peer, query)).unwrap();
        kept.find(&key).is_some()
    }

    #[test]
    fn one_asker_pushes_out_only_its_own_answers() {
        let kept = Kept::new();
        keep(&kept, "10.0.0.1", "mine", "x");
        let large = "x".repeat(64 << 10);
        for number in 0..4000 {
            keep(&kept, "10.0.0.2", &format!("{number}"), &large);
        }
        assert!(found(&kept, "10.0.0.1", "mine"));
        let left = |number: &i32| found(&kept, "10.0.0.2", &number.to_string());
        let left: Vec<_> = (0..4000).filter(left).collect();
        assert_eq!((left.len(), left.last()), (63, Some(&3999)));
        for number in 0..4000 {
            keep(&kept, "10.0.0.2", &format!("{number}"), "small");
        }
        let left = (0..4000).filter(|number: &i32| found(&kept, "10.0.0.2", &number.to_string()));
        assert_eq!(left.count(), MOST_EACH);
    }

    #[test]
    fn an_answer_to_a_long_query_or_larger_than_a_share_is_not_kept() {
        assert_eq!(Key::of(0, &request("10.0.0.1", &"x".repeat(LONGEST_QUERY + 1))), None);
        let host = "h".repeat(LONGEST_URL);
        let long = Request {
            host,
            ..request("10.0.0.1", "")
        };
        assert_eq!(Key::of(0, &long), None);
        let kept = Kept::new();
        keep(&kept, "10.0.0.1", "a", &"x".repeat(MOST_BYTES_EACH));
        assert!(!found(&kept, "10.0.0.1", "a"));
    }

    #[test]
    fn a_newer_answer_takes_the_place_of_the_older() {
        let kept = Kept::new();
        keep(&kept, "10.0.0.1", "a", "old");
        keep(&kept, "10.0.0.1", "a", "new");
        let key = Key::of(0, &request("10.0.0.1", "a")).unwrap();
        assert_eq!(kept.find(&key).unwrap().answer.body, "new");
        assert!(kept.find(&Key::of(1, &request("10.0.0.1", "a")).unwrap()).is_none());
    }
}
