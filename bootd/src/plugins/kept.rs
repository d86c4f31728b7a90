//! Answers that may be served again: to the same node, for the same URL, until the plugin or the inventory changes. In memory only and
//! bounded by bytes, in all and for each asker, so that nobody pushes out what the others asked for; an answer that is no longer fresh
//! stays until it is pushed out, for when its plugin cannot be asked.
//!
//! What is kept is kept in the form in which it is sent, and found by what the request holds already: most requests of a boot storm end
//! here, so a look-up copies and formats nothing.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bootd_sdk::wire::{Answer, Request, Route};
use bytes::Bytes;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::{HeaderMap, StatusCode};
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use prometheus_client::metrics::counter::Counter;

use super::{CallError, Lane, PART, Plugins};
use crate::inventory::Snapshot;

/// Bytes of answers kept for nodes.
const MOST_BYTES: u64 = 56 * 1024 * 1024;
/// Bytes of answers kept for others, such as clients that are no nodes yet.
const MOST_BYTES_OTHERS: u64 = 8 * 1024 * 1024;
/// Answers kept for one asker.
const MOST_EACH: usize = 64;
/// Bytes kept for one asker.
const MOST_BYTES_EACH: usize = 4 * 1024 * 1024;
/// Bytes of a query whose answer is kept.
const LONGEST_QUERY: usize = 512;
/// Bytes of all that an answer depends on, the query among it.
const LONGEST_URL: usize = 2048;

/// What the answer to a GET without a body depends on.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The place of the plugin that is asked.
    pub plugin: usize,
    /// The xname of the node that asks, when it is one.
    pub node: Option<&'a str>,
    /// Its address.
    pub peer: Option<IpAddr>,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host and port by which it reaches the listener.
    pub host: &'a str,
    /// The address that URLs are led to; `None`: they are not.
    pub led_to: Option<IpAddr>,
    /// The path, without a slash at its end.
    pub path: &'a str,
    /// The query.
    pub query: &'a str,
    /// As of what all of this is, the node first of all.
    pub as_of: Freshness,
}

/// An answer in the form in which it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields, without those of the framing, which is the host's.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Plugins {
    /// A kept answer that is fresh.
    pub fn kept(&self, asked: &Asked<'_>) -> Option<Ready> {
        let kept = self.kept.find(asked).filter(|kept| kept.freshness == asked.as_of)?;
        kept.served.inc();
        Some(kept.ready.clone())
    }

    /// Answers a request on a route of the plugin at `plugin`, by asking. `asked`: the answer may be kept under it; and when asking fails,
    /// one that was kept and is no longer fresh is better than none.
    pub async fn answer(
        &self,
        plugin: usize,
        asked: Option<&Asked<'_>>,
        request: Request,
        route: &Route,
    ) -> Result<Ready, CallError> {
        let slot = &self.slots[plugin];
        let own = route.deadline_ms.map(|ms| Duration::from_millis(ms).min(LONGEST));
        match slot
            .ask(&request, Lane::of(route), own.unwrap_or(**self.deadline.load()))
            .await
        {
            Ok(answer) => {
                self.core.metrics.done(slot.name(), "answer");
                let keep = answer.keep && answer.status == 200;
                let ready = Ready::from(answer);
                if let Some(asked) = asked.filter(|_| keep) {
                    let served = self.core.metrics.counter(slot.name(), "kept_answer");
                    self.kept.keep(asked, ready.clone(), served);
                }
                Ok(ready)
            }
            Err(error) => {
                self.core.metrics.refused(PART, error.label(), &slot.name(), &error);
                let kept = asked.and_then(|asked| self.kept.find(asked)).ok_or(error)?;
                self.core.metrics.done(slot.name(), "stale_answer");
                let mut ready = kept.ready.clone();
                ready.headers.insert(STALE, HeaderValue::from_static("1"));
                Ok(ready)
            }
        }
    }

    /// How fresh an answer is that this plugin makes from now on for a node of this snapshot. What changes afterwards, while a body is read
    /// or the plugin works, makes the answer stale.
    pub fn as_of(&self, plugin: usize, snapshot: &Snapshot) -> Freshness {
        Freshness {
            plugin: self.slots[plugin].shared.bumps(),
            inventory: snapshot.generation(),
        }
    }
}

/// The longest deadline of a route.
const LONGEST: Duration = Duration::from_secs(60);
/// Marks an answer that was kept and is no longer fresh.
const STALE: HeaderName = HeaderName::from_static("x-bootd-stale");

impl From<Answer> for Ready {
    fn from(answer: Answer) -> Self {
        let mut headers = HeaderMap::with_capacity(answer.headers.len());
        for (name, value) in answer.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
                && ![CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(&name)
            {
                headers.append(name, value);
            }
        }
        Self {
            status: StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers,
            body: answer.body.into(),
        }
    }
}

/// What an answer depended on when it was made: two counters, which only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freshness {
    plugin: u64,
    inventory: u64,
}

impl Freshness {
    fn is_newer_than(self, other: Self) -> bool {
        self.plugin > other.plugin || self.inventory > other.inventory
    }
}

/// A kept answer.
struct KeptAnswer {
    what: What,
    ready: Ready,
    freshness: Freshness,
    /// Counts how often it was served.
    served: Counter,
}

/// [`Asked`] without who asked, for keeps.
#[derive(Debug, PartialEq, Eq)]
struct What {
    plugin: usize,
    led_to: Option<IpAddr>,
    scheme: Box<str>,
    host: Box<str>,
    path: Box<str>,
    query: Box<str>,
}

/// What is kept for one asker, the oldest first.
type Shelf = Vec<Arc<KeptAnswer>>;

pub(super) struct Kept {
    nodes: Cache<String, Arc<Shelf>>,
    /// Of askers that are no nodes; however many there are, nodes keep what is theirs.
    others: Cache<String, Arc<Shelf>>,
}

impl<'a> Asked<'a> {
    /// Under which an answer to it may be kept: it has an asker, and is of ordinary length.
    fn who(&self) -> Option<Cow<'a, str>> {
        let length = self.scheme.len() + self.host.len() + self.path.len() + self.query.len();
        if self.query.len() > LONGEST_QUERY || length > LONGEST_URL {
            return None;
        }
        match (self.node, self.peer) {
            (Some(node), _) => Some(node.into()),
            (None, Some(peer)) => Some(peer.to_string().into()),
            (None, None) => None,
        }
    }
}

impl What {
    fn of(asked: &Asked<'_>) -> Self {
        Self {
            plugin: asked.plugin,
            led_to: asked.led_to,
            scheme: asked.scheme.into(),
            host: asked.host.into(),
            path: asked.path.into(),
            query: asked.query.into(),
        }
    }

    fn is(&self, asked: &Asked<'_>) -> bool {
        // What differs most comes first.
        *self.query == *asked.query
            && *self.path == *asked.path
            && self.plugin == asked.plugin
            && self.led_to == asked.led_to
            && *self.host == *asked.host
            && *self.scheme == *asked.scheme
    }

    fn len(&self) -> usize {
        self.scheme.len() + self.host.len() + self.path.len() + self.query.len()
    }
}

impl Kept {
    pub(super) fn new() -> Self {
        // A boot storm asks for each document about once: the newest are the likeliest, so plain LRU without admission.
        let shelves = |most| {
            Cache::builder()
                .max_capacity(most)
                .weigher(|who: &String, shelf: &Arc<Shelf>| u32::try_from(who.len() + bytes(shelf)).unwrap_or(u32::MAX))
                .eviction_policy(EvictionPolicy::lru())
                .build()
        };
        Self {
            nodes: shelves(MOST_BYTES),
            others: shelves(MOST_BYTES_OTHERS),
        }
    }

    fn shelves(&self, asked: &Asked<'_>) -> &Cache<String, Arc<Shelf>> {
        match asked.node {
            Some(_) => &self.nodes,
            None => &self.others,
        }
    }

    fn find(&self, asked: &Asked<'_>) -> Option<Arc<KeptAnswer>> {
        let shelf = self.shelves(asked).get(&*asked.who()?)?;
        shelf.iter().find(|kept| kept.what.is(asked)).cloned()
    }

    fn keep(&self, asked: &Asked<'_>, ready: Ready, served: Counter) {
        let Some(who) = asked.who() else { return };
        let new = Arc::new(KeptAnswer {
            what: What::of(asked),
            ready,
            freshness: asked.as_of,
            served,
        });
        self.shelves(asked).entry(who.into_owned()).and_compute_with(|shelf| {
            let mut shelf = shelf.map_or_else(Shelf::new, |shelf| shelf.into_value().to_vec());
            // A slow call may end after a later one.
            let newer =
                |other: &Arc<KeptAnswer>| other.what == new.what && other.freshness.is_newer_than(new.freshness);
            if shelf.iter().any(newer) {
                return Op::Nop;
            }
            shelf.retain(|other| other.what != new.what);
            shelf.push(new);
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
    shelf.iter().map(|kept| kept.bytes()).sum()
}

impl KeptAnswer {
    /// About what it takes.
    fn bytes(&self) -> usize {
        let headers = self.ready.headers.iter();
        let headers: usize = headers
            .map(|(name, value)| 100 + name.as_str().len() + value.len())
            .sum();
        300 + self.what.len() + headers + self.ready.body.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked<'a>(peer: &str, query: &'a str) -> Asked<'a> {
        Asked {
            plugin: 0,
            node: None,
            peer: Some(peer.parse().unwrap()),
            scheme: "http",
            host: "172.16.0.254:8081",
            led_to: None,
            path: "/",
            query,
            as_of: Freshness::default(),
        }
    }

    fn keep(kept: &Kept, peer: &str, query: &str, body: &str) {
        let ready = Answer::new(200, "text/plain", body).into();
        kept.keep(&asked(peer, query), ready, Counter::default());
    }

    fn found(kept: &Kept, peer: &str, query: &str) -> bool {
        kept.find(&asked(peer, query)).is_some()
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
        let kept = Kept::new();
        let long = "x".repeat(LONGEST_QUERY + 1);
        keep(&kept, "10.0.0.1", &long, "x");
        assert!(!found(&kept, "10.0.0.1", &long));
        let path = "p".repeat(LONGEST_URL);
        let long = Asked {
            path: &path,
            ..asked("10.0.0.1", "")
        };
        assert_eq!(long.who(), None);
        keep(&kept, "10.0.0.1", "a", &"x".repeat(MOST_BYTES_EACH));
        assert!(!found(&kept, "10.0.0.1", "a"));
    }

    #[test]
    fn a_newer_answer_takes_the_place_of_the_older() {
        let kept = Kept::new();
        keep(&kept, "10.0.0.1", "a", "old");
        keep(&kept, "10.0.0.1", "a", "new");
        assert_eq!(kept.find(&asked("10.0.0.1", "a")).unwrap().ready.body, "new");
    }

    #[test]
    fn a_slow_older_answer_does_not_take_the_place_of_a_newer_one() {
        let kept = Kept::new();
        let at = |plugin, inventory| Asked {
            as_of: Freshness { plugin, inventory },
            ..asked("10.0.0.1", "a")
        };
        let keep = |asked: &Asked<'_>, body: &str| {
            kept.keep(asked, Answer::new(200, "text/plain", body).into(), Counter::default());
            String::from_utf8(kept.find(asked).unwrap().ready.body.to_vec()).unwrap()
        };
        assert_eq!(keep(&at(1, 5), "newer"), "newer");
        assert_eq!(keep(&at(1, 4), "of an older inventory"), "newer");
        assert_eq!(keep(&at(0, 5), "of older data"), "newer");
        assert_eq!(keep(&at(1, 6), "newest"), "newest");
    }

    #[test]
    fn however_many_others_ask_nodes_keep_what_is_theirs() {
        let kept = Kept::new();
        let node = Asked {
            node: Some("x1000c0s0b0n0"),
            ..asked("10.0.0.1", "mine")
        };
        kept.keep(&node, Answer::new(200, "text/plain", "x").into(), Counter::default());
        let large = "x".repeat(256 << 10);
        for number in 0..400 {
            keep(&kept, &format!("10.1.{}.{}", number / 200, number % 200), "q", &large);
        }
        kept.others.run_pending_tasks();
        assert!(kept.others.weighted_size() <= MOST_BYTES_OTHERS);
        assert!(kept.find(&node).is_some());
    }

    #[test]
    fn an_answer_is_found_only_by_all_that_it_depends_on() {
        let kept = Kept::new();
        let mine = asked("10.0.0.1", "a");
        keep(&kept, "10.0.0.1", "a", "x");
        let others = [
            Asked { plugin: 1, ..mine },
            Asked {
                node: Some("x1000c0s0b0n0"),
                ..mine
            },
            Asked {
                peer: "10.0.0.2".parse().ok(),
                ..mine
            },
            Asked {
                scheme: "https",
                ..mine
            },
            Asked {
                host: "rack1:8081",
                ..mine
            },
            Asked {
                led_to: "10.0.0.254".parse().ok(),
                ..mine
            },
            Asked { path: "/b", ..mine },
            Asked { query: "b", ..mine },
        ];
        assert!(kept.find(&mine).is_some());
        for other in others {
            assert!(kept.find(&other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn the_framing_of_an_answer_is_the_hosts() {
        let mut answer = Answer::text(404, "no");
        for (name, value) in [
            ("Content-Length", "9"),
            ("x-one", "1"),
            ("x-one", "2"),
            ("x bad", "3"),
            ("x-bad", "\n"),
        ] {
            answer.headers.push((name.into(), value.into()));
        }
        let ready = Ready::from(answer);
        let headers: Vec<_> = ready
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(
            headers,
            [
                ("content-type", "text/plain; charset=utf-8"),
                ("x-one", "1"),
                ("x-one", "2")
            ]
        );
        assert_eq!((ready.status.as_u16(), &*ready.body), (404, &b"no"[..]));
    }
}
