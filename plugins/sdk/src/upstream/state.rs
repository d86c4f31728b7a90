//! What is known of a site: pure, without clock and network. Which refresh is due when, what is held back, what is wrong and since when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::settings::HoldBack;

/// What a refresh of a collection would lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Loss {
    /// Rows that are mirrored now.
    pub had: usize,
    /// Those of them that the site has no more.
    pub lost: usize,
    /// Rows that the site has.
    pub has: usize,
}

/// How far a refresh is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It may be that the site is broken: a large loss is held back.
    Guarded,
    /// Somebody just changed the site through this box: it is obeyed, unless something is held back already.
    Obeyed,
    /// The operator accepts what is held back.
    Accepted,
}

/// What becomes of a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It takes place.
    Take,
    /// It does not, until a later one says something else or the operator accepts it.
    HoldBack,
}

impl HoldBack {
    /// Whether a refresh takes place.
    pub fn judge(&self, loss: Loss, trust: Trust) -> Verdict {
        let too_many = loss.lost >= self.least.max(1) && loss.lost as f64 > self.share * loss.had as f64;
        let all = loss.lost > 0 && loss.has == 0;
        match trust {
            Trust::Guarded if too_many || all => Verdict::HoldBack,
            Trust::Guarded | Trust::Obeyed | Trust::Accepted => Verdict::Take,
        }
    }
}

/// What is known of one collection. Times are seconds since 1970. Kept in the store, but for the validator: the first refresh of a run reads all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Collection {
    /// Of what is mirrored.
    #[serde(skip)]
    pub(super) validator: Option<String>,
    /// When the site last said that this is how it is.
    pub(super) good: Option<u64>,
    /// What is wrong.
    pub(super) trouble: Option<Trouble>,
    /// Since when a refresh is held back, and what it would lose.
    pub(super) held: Option<(u64, Loss)>,
}

/// What is wrong with a collection, or with its site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trouble {
    /// Since when something is wrong.
    pub(super) since: u64,
    pub(super) kind: Kind,
    pub(super) text: String,
}

/// What kind of trouble it is. Within one the text may be another each time: the log tells the first, health the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// The site gives no answer, or none is asked for: the same for all collections.
    Unanswered,
    /// It answers with this status.
    Status(u16),
    /// What it answers is no list of this kind.
    Shape,
    /// What it answers cannot be stored.
    Store,
}

impl Collection {
    /// The site says that what is mirrored is how it is.
    pub(super) fn took(&mut self, now: u64, validator: Option<String>) {
        *self = Self {
            validator,
            good: Some(now),
            trouble: None,
            held: None,
        };
    }

    /// Nothing new is known, since this is wrong.
    pub(super) fn wrong(&mut self, now: u64, kind: Kind, text: String) {
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
        self.trouble = Some(Trouble { since, kind, text });
    }

    /// The site says something that is held back.
    pub(super) fn hold(&mut self, now: u64, loss: Loss) {
        let since = self.held.as_ref().map_or(now, |(since, _)| *since);
        self.held = Some((since, loss));
        self.trouble = None;
    }

    /// Since when what is mirrored may be old; `None`: it is not.
    pub(super) fn stale_since(&self) -> Option<u64> {
        let trouble = self.trouble.as_ref().map(|trouble| trouble.since);
        let held = self.held.as_ref().map(|(since, _)| *since);
        trouble.into_iter().chain(held).min()
    }
}

/// When the site is asked. Times are of a clock that never jumps.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    refresh: Duration,
    due: Duration,
    began: Duration,
    failures: u32,
}

impl Schedule {
    /// The first refresh is due at once.
    pub(super) fn new(refresh: Duration) -> Self {
        Self {
            refresh,
            due: Duration::ZERO,
            began: Duration::ZERO,
            failures: 0,
        }
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        now >= self.due
    }

    pub(super) fn begin(&mut self, now: Duration) {
        self.began = now;
    }

    /// A refresh is over. `random`: 0 to 1, so that racks do not ask in step.
    pub(super) fn end(&mut self, now: Duration, outcome: Outcome, random: f64) {
        self.failures = match outcome {
            Outcome::Good => 0,
            Outcome::Bad => self.failures.saturating_add(1),
        };
        let wait = match self.failures {
            0 => self.refresh.mul_f64(0.9 + 0.2 * random),
            failures => {
                let doubled = FIRST_WAIT * 2_u32.saturating_pow((failures - 1).min(10));
                doubled.min(self.refresh.max(LONGEST_WAIT)).mul_f64(0.75 + 0.5 * random)
            }
        };
        self.due = now + wait;
    }

    /// Somebody needs something newer: the next refresh is due soon. Many that hurry are no more than one refresh in [`HURRY`]; a site
    /// that does not answer is not asked more often for that.
    pub(super) fn hurry(&mut self) {
        if self.failures == 0 {
            self.due = self.due.min(self.began + HURRY);
        }
    }

    /// Whether the site did not answer when it was last asked.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }
}

/// How a refresh went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Good,
    Bad,
}

/// After the first failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// After many failures, unless refreshes are further apart anyway.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Between two refreshes that somebody hurried.
const HURRY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_large_loss_is_held_back_and_a_small_one_is_not() {
        let guard = HoldBack::default();
        let judge = |had, lost, has| guard.judge(Loss { had, lost, has }, Trust::Guarded);
        for (had, lost, has, verdict) in [
            (5, 4, 1, Verdict::HoldBack),
            (5, 5, 0, Verdict::HoldBack),
            (1, 1, 0, Verdict::HoldBack),
            (5, 5, 5, Verdict::HoldBack),
            (10_000, 5_001, 4_999, Verdict::HoldBack),
            (10_000, 5_000, 5_000, Verdict::Take),
            (5, 2, 3, Verdict::Take),
            (1, 1, 1, Verdict::Take),
            (0, 0, 0, Verdict::Take),
            (0, 0, 5, Verdict::Take),
        ] {
            assert_eq!(judge(had, lost, has), verdict, "{lost} of {had}, {has} left");
        }
        let loss = Loss {
            had: 5,
            lost: 5,
            has: 0,
        };
        assert_eq!(guard.judge(loss, Trust::Obeyed), Verdict::Take);
        let careless = HoldBack { share: 1.0, least: 10 };
        assert_eq!(
            careless.judge(
                Loss {
                    had: 9,
                    lost: 8,
                    has: 1
                },
                Trust::Guarded
            ),
            Verdict::Take
        );
        assert_eq!(
            careless.judge(
                Loss {
                    had: 9,
                    lost: 9,
                    has: 0
                },
                Trust::Guarded
            ),
            Verdict::HoldBack
        );
    }

    #[test]
    fn failures_back_off_and_one_success_ends_that() {
        let mut schedule = Schedule::new(SECOND * 30);
        assert!(schedule.is_due(Duration::ZERO));
        let (mut now, mut waits) = (Duration::ZERO, Vec::new());
        for _ in 0..12 {
            schedule.begin(now);
            schedule.end(now, Outcome::Bad, 0.5);
            waits.push((schedule.due - now).as_secs());
            schedule.hurry();
            assert!(!schedule.is_due(now + SECOND / 2));
            now = schedule.due;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30, 30]);
        schedule.end(now, Outcome::Good, 0.0);
        assert_eq!(schedule.due - now, SECOND * 27);
        schedule.end(now, Outcome::Good, 1.0);
        assert_eq!(schedule.due - now, SECOND * 33);
    }

    #[test]
    fn who_hurries_gets_a_refresh_soon_and_a_thousand_who_hurry_get_one() {
        let mut schedule = Schedule::new(SECOND * 30);
        schedule.begin(SECOND * 100);
        schedule.end(SECOND * 101, Outcome::Good, 0.5);
        for _ in 0..1000 {
            schedule.hurry();
        }
        assert!(!schedule.is_due(SECOND * 101) && schedule.is_due(SECOND * 102));
    }

    #[test]
    fn trouble_and_what_is_held_back_keep_their_first_time() {
        let mut collection = Collection::default();
        assert_eq!(collection.stale_since(), None);
        collection.wrong(10, Kind::Status(500), "request 1".into());
        collection.wrong(15, Kind::Status(500), "request 2".into());
        let trouble = collection.trouble.clone().unwrap();
        assert_eq!((trouble.since, trouble.text.as_str()), (10, "request 2"));
        collection.wrong(20, Kind::Shape, "b".into());
        let trouble = collection.trouble.clone().unwrap();
        assert_eq!((trouble.since, trouble.text.as_str()), (10, "b"));
        let loss = Loss {
            had: 5,
            lost: 4,
            has: 1,
        };
        collection.hold(30, loss);
        collection.hold(40, loss);
        collection.wrong(50, Kind::Unanswered, "c".into());
        assert_eq!(collection.stale_since(), Some(30));
        collection.took(60, None);
        assert_eq!((collection.stale_since(), collection.good), (None, Some(60)));
    }
}
