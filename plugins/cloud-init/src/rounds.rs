//! Which nodes' overrides are asked for at the site, and when. Pure: nodes and times in, names out.
//!
//! Nodes of which nothing is known come first, those that asked for their documents before all others; then each is asked for again, spread
//! over a round. Never more than a few a second. A site that fails is left alone for a while that grows. So is each node of which it refuses
//! to say anything, up to a round, unless something changed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Who is next.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    nodes: BTreeSet<String>,
    /// Of which something is known.
    known: BTreeSet<String>,
    /// Of which the site did not say anything when it was last asked; the reasons are told where they are found.
    refused: BTreeMap<String, Refused>,
    /// Of which something is known, and which the inventory has no more, since then.
    absent: BTreeMap<String, Duration>,
    /// They got their documents without.
    waiting: VecDeque<String>,
    queue: VecDeque<String>,
    /// When the next one of the queue is due of which something is known.
    due: Duration,
    pace: Duration,
    listed: Option<Duration>,
    ends: Duration,
    failures: u32,
    not_before: Duration,
}

/// A node that was asked for in vain.
#[derive(Debug, Default)]
struct Refused {
    times: u32,
    /// When it is asked for again.
    again: Duration,
}

impl Refused {
    fn once_more(&mut self, now: Duration) {
        self.again = now + (FIRST_PAUSE * 2_u32.saturating_pow(self.times)).min(ROUND);
        self.times = self.times.saturating_add(1).min(16);
    }
}

impl Rounds {
    /// Whether the inventory is to be listed anew.
    pub(crate) fn is_listing_due(&self, now: Duration) -> bool {
        let again = if self.nodes.is_empty() { EMPTY_AGAIN } else { AGAIN };
        self.listed.is_none_or(|listed| now >= listed + again)
    }

    /// The nodes of the inventory, and those of which something is known.
    pub(crate) fn list(&mut self, now: Duration, nodes: BTreeSet<String>, known: BTreeSet<String>) {
        if now < self.ends {
            let new = nodes.difference(&self.nodes).filter(|id| !known.contains(*id));
            new.for_each(|id| self.queue.push_front(id.clone()));
        }
        if nodes != self.nodes {
            self.ask_again(now);
        }
        self.refused.retain(|id, _| nodes.contains(id));
        // An inventory without any nodes has lost them, more likely than not.
        self.absent
            .retain(|id, _| !nodes.is_empty() && !nodes.contains(id) && known.contains(id));
        if !nodes.is_empty() {
            for id in known.difference(&nodes) {
                self.absent.entry(id.clone()).or_insert(now);
            }
        }
        self.listed = Some(now);
        self.nodes = nodes;
        self.known = known;
    }

    /// Nodes of which something is known that left the inventory some time ago.
    pub(crate) fn gone(&self, now: Duration) -> Vec<String> {
        let gone = self.absent.iter().filter(|(_, since)| now >= **since + GONE);
        gone.map(|(id, _)| id.clone()).collect()
    }

    /// The round ends now: the site's defaults are others, which may be all that kept documents from being read.
    pub(crate) fn again(&mut self, now: Duration) {
        self.queue.clear();
        self.ends = now;
        self.ask_again(now);
    }

    /// Something is another than when the site refused: all that it refused is asked for again.
    pub(crate) fn ask_again(&mut self, now: Duration) {
        for refused in self.refused.values_mut() {
            *refused = Refused { times: 0, again: now };
        }
    }

    /// Whether a node of which nothing is known may be asked for right now.
    pub(crate) fn may_ask(&self, id: &str, now: Duration) -> bool {
        now >= self.not_before && self.refused.get(id).is_none_or(|refused| now >= refused.again)
    }

    /// A node got its document without its override: it is among the next.
    pub(crate) fn want(&mut self, id: &str) {
        self.nodes.insert(id.into());
        if self.waiting.len() < MOST_WAITING && !self.refused.contains_key(id) && !self.waiting.iter().any(|w| w == id)
        {
            self.waiting.push_back(id.into());
        }
    }

    /// Takes the next ones, for the second that begins.
    pub(crate) fn next(&mut self, now: Duration) -> Vec<String> {
        if now < self.not_before {
            return Vec::new();
        }
        if self.queue.is_empty() && now >= self.ends && !self.nodes.is_empty() {
            self.begin(now);
        }
        // One of them at least, and of others what is due, however many are refused.
        let mut next = self.due_again(now);
        let more = next.split_off(next.len().min(1));
        while next.len() < A_SECOND {
            let is_due = |id: &String| now >= self.due || !self.known.contains(id);
            let Some(id) = self
                .waiting
                .pop_front()
                .or_else(|| self.queue.pop_front_if(|id| is_due(id)))
            else {
                break;
            };
            if self.known.contains(&id) {
                self.due = self.due.max(now.saturating_sub(Duration::from_secs(1))) + self.pace;
            }
            if self.nodes.contains(&id) && !self.refused.contains_key(&id) && !next.contains(&id) {
                next.push(id);
            }
        }
        let rest = A_SECOND.saturating_sub(next.len());
        next.extend(more.into_iter().take(rest));
        next
    }

    /// Refused ones that are due, those that waited longest first.
    fn due_again(&self, now: Duration) -> Vec<String> {
        let due = self.refused.iter().filter(|(_, refused)| now >= refused.again);
        let mut due: Vec<(Duration, &String)> = due.map(|(id, refused)| (refused.again, id)).collect();
        due.sort_unstable();
        due.into_iter().take(A_SECOND).map(|(_, id)| id.clone()).collect()
    }

    fn begin(&mut self, now: Duration) {
        let in_turn = self.nodes.iter().filter(|id| !self.refused.contains_key(*id)).cloned();
        let (known, unknown): (Vec<_>, Vec<_>) = in_turn.partition(|id| self.known.contains(id));
        self.pace = ROUND / u32::try_from(known.len().max(1)).unwrap_or(u32::MAX);
        self.queue = unknown.into_iter().chain(known).collect();
        self.due = now;
        self.ends = now + ROUND;
    }

    /// Something is known of a node now.
    pub(crate) fn read(&mut self, id: &str) {
        self.failures = 0;
        self.refused.remove(id);
        self.known.insert(id.into());
        self.waiting.retain(|waiting| waiting != id);
    }

    /// The site answered, and does not say what is different about this node.
    pub(crate) fn refuse(&mut self, now: Duration, id: &str) {
        self.failures = 0;
        self.refused.entry(id.into()).or_default().once_more(now);
    }

    /// The inventory has this node no more.
    pub(crate) fn forget(&mut self, id: &str) {
        self.nodes.remove(id);
        self.refused.remove(id);
    }

    /// The site did not answer for this one, or not as one that is well. It comes last, so that others are not held up by it for good.
    /// `unread`: those that would have been next.
    pub(crate) fn fail(&mut self, now: Duration, failed: &str, unread: Vec<String>) {
        self.not_before = now + (FIRST_PAUSE * 2_u32.saturating_pow(self.failures)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1).min(16);
        if let Some(refused) = self.refused.get_mut(failed) {
            refused.once_more(self.not_before);
        } else if self.nodes.contains(failed) {
            self.queue.push_back(failed.into());
        }
        for id in unread.into_iter().rev() {
            if self.waiting.len() < MOST_WAITING {
                self.waiting.push_front(id);
            }
        }
    }

    /// Nodes of which nothing is known, of all.
    pub(crate) fn unknown(&self) -> (usize, usize) {
        (self.nodes.difference(&self.known).count(), self.nodes.len())
    }
}

/// How long a round takes.
const ROUND: Duration = Duration::from_secs(600);
/// Nodes that are asked for in a second.
const A_SECOND: usize = 4;
/// Nodes that wait to be read out of their turn.
const MOST_WAITING: usize = 1024;
/// When the inventory is listed again.
const AGAIN: Duration = Duration::from_secs(300);
/// The same, when there was no node yet.
const EMPTY_AGAIN: Duration = Duration::from_secs(5);
/// How long what is known of a node that left the inventory is kept: it may come back.
const GONE: Duration = Duration::from_secs(2 * ROUND.as_secs());
/// How long a site that failed once is left alone, or a node that it refused; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
