//! The site that a plugin in upstream mode mirrors: when it is asked, what is believed of it, how old the mirror is.
//!
//! A [`Site`] has some collections: lists that it serves whole. A refresh asks for each of them; one that is as it was costs one conditional
//! request. What a new one says is read by the plugin ([`Mirror`]), and takes place, unless it would lose too much: then it is held back.
//! Promises: no answer, whatever it is, empties or breaks what is mirrored; a site that does not answer is asked less and less often; what is
//! wrong, and since when, is in the plugin's health, in its metrics, and in a header of what it answers meanwhile. Tokens are never logged.

mod service;
mod settings;
mod state;

pub use service::excerpt;
pub use settings::{HoldBack, Refresh, Settings, Token, Url};
pub use state::{Loss, Trust, Verdict};

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::text::shown;
use crate::wire::{Answer, Commit, Fetched, Health, Mistake, Request};
use crate::{Host, HostError, Number, time};
use service::{New, Service, Unanswered, looks_like_json};
use state::{Collection, Kind, Outcome, Schedule, Trouble};

/// A plugin's mirror of a site.
pub trait Mirror {
    /// What is different at the site, read and checked.
    type Change;

    /// Reads what the site says of a collection, and compares it with what is there. The error says what is wrong with it: it is not a list
    /// of this kind at all. A bad row is the mirror's business, and costs only itself.
    fn read(&self, collection: usize, body: &str) -> Result<(Loss, Self::Change), String>;

    /// The collection without whose rows those of this one are useless: while it is held back, so is every loss here.
    fn goes_with(&self, collection: usize) -> Option<usize> {
        let _ = collection;
        None
    }

    /// Bytes that a collection may have. In memory a list of short rows is many times as large.
    fn most_bytes(&self) -> usize {
        16 * 1024 * 1024
    }

    /// Stores a change and puts it into effect. What was not stored is read again with the next refresh.
    fn take(&self, collection: usize, change: Self::Change) -> Result<(), HostError>;
}

/// A collection of a site.
#[derive(Debug, Clone, Copy)]
pub struct Listed {
    /// Its path, as the service has it below its base, with a query if there is one: `/State/Components`.
    pub path: &'static str,
    /// What its rows are, for people: `components`.
    pub rows: &'static str,
}

/// A site.
pub struct Site {
    host: Host,
    service: Service,
    guard: HoldBack,
    listed: &'static [Listed],
    /// One refresh at a time.
    turn: Mutex<()>,
    state: Mutex<State>,
    told: Mutex<Told>,
    numbers: Numbers,
}

struct State {
    schedule: Schedule,
    collections: Vec<Collection>,
    /// In this run.
    has_refreshed: bool,
}

/// Among bootd's metrics.
struct Numbers {
    refreshes: Number,
    unchanged: Number,
    failures: Number,
    held_back: Number,
    stale: Number,
    as_of: Number,
    token_ends: Number,
    passed_on: Number,
}

impl Site {
    /// A site whose service is at `config.url` and `service` (`/hsm/v2`). Asks nothing yet. `folder`: of bootd.toml.
    pub fn new(host: Host, settings: &Settings, folder: &Path, service: &str, listed: &'static [Listed]) -> Self {
        let seconds = u64::from(settings.refresh.0);
        // What an earlier run knew. Without it a site that is dead for a week would seem dead since the restart.
        let text = host.store_get(KEY).ok().flatten().unwrap_or_default();
        let mut known: BTreeMap<String, Collection> = serde_json::from_str(&text).unwrap_or_default();
        let collections = listed
            .iter()
            .map(|listed| known.remove(listed.path).unwrap_or_default());
        let collections: Vec<Collection> = collections.collect();
        let told = Told {
            is_stale: collections.iter().any(|collection| collection.stale_since().is_some()),
            ..Told::default()
        };
        let site = Self {
            service: Service::new(host, settings, folder, service),
            host,
            guard: settings.hold_back,
            listed,
            turn: Mutex::default(),
            state: Mutex::new(State {
                schedule: Schedule::new(Duration::from_secs(seconds)),
                collections,
                has_refreshed: false,
            }),
            told: Mutex::new(told),
            numbers: Numbers {
                refreshes: host.counter("upstream_refreshes"),
                unchanged: host.counter("upstream_unchanged"),
                failures: host.counter("upstream_failures"),
                held_back: host.gauge("upstream_held_back"),
                stale: host.gauge("upstream_stale"),
                as_of: host.gauge("upstream_as_of_unix_s"),
                token_ends: host.gauge("upstream_token_ends_unix_s"),
                passed_on: host.counter("upstream_writes_passed_on"),
            },
        };
        site.count();
        site
    }

    /// The service's URL, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.service.base
    }

    /// Whether it is time for a refresh; to be asked once a second.
    pub fn is_due(&self) -> bool {
        self.state().schedule.is_due(self.host.now_boot())
    }

    /// Somebody needs what the mirror has not: the next refresh is due soon, at most one in two seconds for that.
    pub fn hurry(&self) {
        self.state().schedule.hurry();
    }

    /// Whether the site did not answer when it was last asked: not the moment to ask it while somebody waits.
    pub fn is_failing(&self) -> bool {
        self.state().schedule.is_failing()
    }

    /// Whether what is mirrored may be old: the site does not answer as it should, or something is held back.
    pub fn is_stale(&self) -> bool {
        self.stale_since().is_some()
    }

    /// Asks for each collection, and puts into effect what is new and believed.
    pub fn refresh<M: Mirror>(&self, mirror: &M, trust: Trust) {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh_all(mirror, trust, None, &turn);
    }

    /// Reads back what a write that was passed on has changed, before its client hears of it. A site too slow for that is read with the next
    /// refresh, which is due at once; the answer says so. What is deleted is obeyed: the site had it. Whatever else is gone at the same moment
    /// may be the site's mistake.
    pub fn read_back<M: Mirror>(&self, mirror: &M, deleted: bool, mut answer: Answer) -> Answer {
        let until = Instant::now() + READ_BACK;
        let turn = loop {
            match self.turn.try_lock() {
                Ok(turn) => break Some(turn),
                Err(TryLockError::Poisoned(turn)) => break Some(turn.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(TRY_AGAIN),
                Err(TryLockError::WouldBlock) => break None,
            }
        };
        let trust = if deleted { Trust::Obeyed } else { Trust::Guarded };
        let is_whole = turn.is_some_and(|turn| self.refresh_all(mirror, trust, Some(until), &turn));
        if !is_whole {
            self.hurry();
            let text = format!(
                "199 bootd \"{} has taken it, and is read back later\"",
                self.service.base
            );
            answer.headers.push(("warning".into(), text));
        }
        answer
    }

    /// `false`: not all of it was asked for in time.
    fn refresh_all<M: Mirror>(&self, mirror: &M, trust: Trust, until: Option<Instant>, _: &MutexGuard<'_, ()>) -> bool {
        self.state().schedule.begin(self.host.now_boot());
        let mut outcome = Outcome::Good;
        for at in 0..self.listed.len() {
            let left = until.map_or(REFRESH, |until| until.saturating_duration_since(Instant::now()));
            if left < LEAST {
                self.settle();
                return false;
            }
            match self.refresh_one(mirror, at, trust, left.min(REFRESH)) {
                Refreshed::Good => {}
                Refreshed::Bad => outcome = Outcome::Bad,
                // It would not answer the next question either.
                Refreshed::Unanswered(_) if until.is_some() => {
                    self.settle();
                    return false;
                }
                Refreshed::Unanswered(text) => {
                    outcome = Outcome::Bad;
                    for at in at..self.listed.len() {
                        self.wrong(at, Kind::Unanswered, text.clone());
                    }
                    break;
                }
                Refreshed::Stopping => return true,
            }
        }
        {
            let mut state = self.state();
            state.schedule.end(self.host.now_boot(), outcome, random());
            state.has_refreshed = true;
        }
        self.numbers.refreshes.add(1);
        self.settle();
        true
    }

    /// Lets through what is held back, for an operator who knows better, unless it has become worse meanwhile. The answer lists what was
    /// `accepted`, and what is `left`.
    pub fn accept<M: Mirror>(&self, mirror: &M) -> Answer {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut accepted, mut left) = (Vec::new(), Vec::new());
        for (at, listed) in self.listed.iter().enumerate() {
            let Some((_, told)) = self.held(at) else { continue };
            let refreshed = self.refresh_one(mirror, at, Trust::Accepted, ACCEPT);
            match (self.held(at), refreshed) {
                (None, _) => accepted.push(format!(
                    "{}: {} of {} {}",
                    listed.path, told.lost, told.had, listed.rows
                )),
                (Some(_), Refreshed::Unanswered(text)) => {
                    left.push(format!("{}: the site does not answer: {text}", listed.path));
                }
                (Some((_, now)), _) => left.push(format!(
                    "{}: the site has lost {} of {} {} by now, which nobody has seen; ask again when it is so",
                    listed.path, now.lost, now.had, listed.rows
                )),
            }
        }
        self.settle();
        let body = serde_json::json!({ "accepted": accepted, "left": left });
        Answer::new(200, "application/json", body.to_string())
    }

    /// How the plugin is: what it has, as of when, and what is wrong. `mistakes` are the mirror's own.
    pub fn health(&self, line: &str, mistakes: Vec<Mistake>) -> Health {
        // Files are read before the lock is taken: answers wait for it. Before the first refresh, and in `bootd check`, they are all that
        // can be seen without the site.
        let has_refreshed = self.state().has_refreshed;
        let mut told = if has_refreshed {
            Vec::new()
        } else {
            self.service.unready()
        };
        told.extend(self.service.token_ends());
        let state = self.state();
        let good = state.collections.iter().map(|collection| collection.good);
        let as_of = match good.min().flatten() {
            Some(seconds) => format!(" as of {}", time::rfc3339(seconds)),
            None => ", not refreshed yet".into(),
        };
        told.extend(self.troubles(&state.collections));
        for (listed, collection) in self.listed.iter().zip(&state.collections) {
            let held = collection.held.as_ref();
            told.extend(held.map(|(since, loss)| Mistake {
                file: format!("{}{}", self.service.base, listed.path),
                line: 0,
                text: held_back(listed, loss, &time::rfc3339(*since)),
            }));
        }
        told.extend(mistakes);
        Health {
            text: format!("{line}, mirrored from {}{as_of}", self.service.base),
            mistakes: told,
        }
    }

    /// What is wrong, each thing once.
    fn troubles(&self, collections: &[Collection]) -> Vec<Mistake> {
        let mut told: Vec<(&Trouble, Vec<&str>)> = Vec::new();
        for (listed, collection) in self.listed.iter().zip(collections) {
            let Some(trouble) = &collection.trouble else { continue };
            match told.iter_mut().find(|(other, _)| other.text == trouble.text) {
                Some((_, paths)) => paths.push(listed.path),
                None => told.push((trouble, vec![listed.path])),
            }
        }
        let mistake = |(trouble, paths): (&Trouble, Vec<&str>)| {
            let (file, all) = match paths.as_slice() {
                [path] => (format!("{}{path}", self.service.base), String::new()),
                paths => (self.service.base.clone(), format!(" (all of {})", paths.join(", "))),
            };
            let since = time::rfc3339(trouble.since);
            let text = format!(
                "{}, since {since}; what was mirrored before is served{all}",
                trouble.text
            );
            Mistake { file, line: 0, text }
        };
        told.into_iter().map(mistake).collect()
    }

    /// An answer made of the mirror: says so in a header (`warning: 110`) while what is mirrored may be old.
    pub fn mark(&self, mut answer: Answer) -> Answer {
        if let Some(since) = self.stale_since() {
            let text = format!("110 bootd \"may be old since {}\"", time::rfc3339(since));
            answer.headers.push(("warning".into(), text));
        }
        answer
    }

    /// Passes a request on with its client's token, and gives the site's answer. `path`: as the service has it below its base, decoded.
    /// Who passes a write on reads it back: a [`Site::refresh`] that is [`Trust::Obeyed`]. The route must say that it passes tokens.
    pub fn pass_on(&self, request: &Request, path: &str) -> Answer {
        self.numbers.passed_on.add(1);
        self.service.pass_on(request, path)
    }

    /// One thing that is asked for while somebody waits, with the token of the configuration. `within`: for all of it.
    pub fn look_up(
        &self,
        path_and_query: &str,
        headers: &[(String, String)],
        within: Duration,
    ) -> Result<Fetched, String> {
        self.service.look_up(path_and_query, headers, within)
    }

    fn refresh_one<M: Mirror>(&self, mirror: &M, at: usize, trust: Trust, within: Duration) -> Refreshed {
        let Some(listed) = self.listed.get(at) else {
            return Refreshed::Good;
        };
        let (known, held) = {
            let state = self.state();
            let collection = state.collections.get(at).cloned().unwrap_or_default();
            (collection.validator, collection.held)
        };
        let (body, validator) = match self.service.ask(listed, known.clone(), within, mirror.most_bytes()) {
            Ok(New {
                body: Some(body),
                validator,
            }) => (body, validator),
            Ok(New { body: None, validator }) => {
                self.numbers.unchanged.add(1);
                self.took(at, validator.or(known));
                return Refreshed::Good;
            }
            Err(Unanswered::Stopping) => return Refreshed::Stopping,
            Err(Unanswered::Silent(text)) => return Refreshed::Unanswered(text),
            Err(Unanswered::Wrong(kind, text)) => return self.wrong(at, kind, text),
        };
        if let Err(text) = looks_like_json(&body) {
            return self.wrong(at, Kind::Shape, text);
        }
        let (loss, change) = match mirror.read(at, &body) {
            Ok(read) => read,
            Err(text) => return self.wrong(at, Kind::Shape, format!("the answer is not understood: {text}")),
        };
        drop(body);
        let trust = match (held, trust) {
            // Nobody saw this one.
            (Some((_, told)), Trust::Accepted) if loss.lost > told.lost => Trust::Guarded,
            (Some(_), Trust::Obeyed) => Trust::Guarded,
            _ => trust,
        };
        // What goes with something that is held back is held back with it.
        let waits = trust == Trust::Guarded
            && loss.lost > 0
            && mirror.goes_with(at).is_some_and(|other| self.held(other).is_some());
        if waits || self.guard.judge(loss, trust) == Verdict::HoldBack {
            self.hold(at, loss);
            return Refreshed::Good;
        }
        match mirror.take(at, change) {
            Ok(()) => {
                self.took(at, validator);
                Refreshed::Good
            }
            Err(HostError::Stopping) => Refreshed::Stopping,
            Err(error) => {
                let text = format!("what the site says cannot be stored: {error}");
                self.wrong(at, Kind::Store, text)
            }
        }
    }

    fn took(&self, at: usize, validator: Option<String>) {
        let now = self.host.now_unix().as_secs();
        if let Some(collection) = self.state().collections.get_mut(at) {
            collection.took(now, validator);
        }
    }

    fn hold(&self, at: usize, loss: Loss) {
        let now = self.host.now_unix().as_secs();
        let (mut state, path) = (self.state(), self.listed.get(at).map_or("", |listed| listed.path));
        let Some(collection) = state.collections.get_mut(at) else {
            return;
        };
        if collection.held.is_none() {
            let (had, lost, site) = (loss.had, loss.lost, self.service.base.as_str());
            tracing::warn!(
                site,
                path,
                had,
                lost,
                "a refresh would lose too much and is held back; see bootd nodes accept"
            );
        }
        collection.hold(now, loss);
    }

    fn wrong(&self, at: usize, kind: Kind, text: String) -> Refreshed {
        // Parsers quote what they do not understand, whole.
        let text = shown(&text);
        let now = self.host.now_unix().as_secs();
        if let Some(collection) = self.state().collections.get_mut(at) {
            collection.wrong(now, kind, text);
        }
        self.numbers.failures.add(1);
        Refreshed::Bad
    }

    fn held(&self, at: usize) -> Option<(u64, Loss)> {
        self.state().collections.get(at)?.held
    }

    /// Since when what is mirrored may be old.
    fn stale_since(&self) -> Option<u64> {
        let state = self.state();
        let stale = state.collections.iter().filter_map(Collection::stale_since);
        stale.min()
    }

    /// Tells what changed: in metrics, in the log, in the store, and to whoever is served kept answers.
    fn settle(&self) {
        let (held, as_of) = self.count();
        let (trouble, text) = {
            let state = self.state();
            let trouble = state
                .collections
                .iter()
                .find_map(|collection| collection.trouble.clone());
            let paths = self.listed.iter().map(|listed| listed.path);
            let kept: BTreeMap<&str, &Collection> = paths.zip(&state.collections).collect();
            let text = serde_json::to_string(&kept).unwrap_or_default();
            (trouble, text)
        };
        let is_stale = self.stale_since().is_some();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let site = self.service.base.as_str();
        match (&told.kind, trouble) {
            (before, Some(trouble)) if *before != Some(trouble.kind) => {
                let reason = trouble.text;
                tracing::warn!(
                    site,
                    reason,
                    "the site cannot be mirrored; what was mirrored before is served"
                );
                told.kind = Some(trouble.kind);
            }
            (Some(_), None) => {
                tracing::info!(site, "the site is mirrored again");
                told.kind = None;
            }
            _ => {}
        }
        // Answers that are kept say whether they may be old.
        let is_new = told.is_stale != is_stale || told.held != held;
        if told.is_stale != is_stale {
            self.host.bump();
        }
        (told.is_stale, told.held) = (is_stale, held);
        // How old the mirror is must be known after a restart, too; to some minutes.
        if is_new || as_of.unwrap_or(0) >= told.kept.saturating_add(KEEP_EVERY) {
            let commit = Commit {
                put: [(KEY.to_owned(), text)].into_iter().collect(),
                ..Commit::default()
            };
            match self.host.store_commit(&commit) {
                Ok(_) => told.kept = as_of.unwrap_or(0),
                Err(error) => tracing::warn!(%error, "how old the mirror is cannot be stored"),
            }
        }
    }

    /// Sets the gauges: how many collections are held back, and as of when the oldest is.
    fn count(&self) -> (usize, Option<u64>) {
        let (held, as_of) = {
            let state = self.state();
            let held = state.collections.iter().filter(|collection| collection.held.is_some());
            let good = state.collections.iter().map(|collection| collection.good);
            (held.count(), good.min().flatten())
        };
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.numbers.held_back.set(number(held as u64));
        self.numbers.stale.set(i64::from(self.stale_since().is_some()));
        self.numbers.as_of.set(as_of.map_or(0, number));
        self.numbers.token_ends.set(self.service.token_end().map_or(0, number));
        (held, as_of)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a refresh of a collection.
enum Refreshed {
    /// The site said how it is, be it held back.
    Good,
    Bad,
    Unanswered(String),
    /// The instance is to end.
    Stopping,
}

/// What was told last.
#[derive(Default)]
struct Told {
    kind: Option<Kind>,
    is_stale: bool,
    held: usize,
    /// As of when the mirror is, in the store.
    kept: u64,
}

fn held_back(listed: &Listed, loss: &Loss, since: &str) -> String {
    let (Loss { had, lost, .. }, rows) = (loss, listed.rows);
    format!(
        "the site has lost {lost} of {had} {rows}: held back since {since}, and all {had} are served; `bootd nodes accept` lets it through"
    )
}

/// 0 to 1.
fn random() -> f64 {
    (RandomState::new().hash_one(0) >> 11) as f64 / (1_u64 << 53) as f64
}

/// For a collection: large ones come slowly.
const REFRESH: Duration = Duration::from_secs(30);
/// The same, while an operator waits.
const ACCEPT: Duration = Duration::from_secs(8);
/// For reading it back, all collections together, and for the turn to do so.
const READ_BACK: Duration = Duration::from_secs(15);
/// Between two looks whether it is our turn.
const TRY_AGAIN: Duration = Duration::from_millis(20);
/// With less time than this nothing is asked any more.
const LEAST: Duration = Duration::from_millis(100);
/// The deadline of routes that pass writes on: for the write, and for reading it back.
pub const PASS_ON_MS: u64 = 45_000;
/// The key of the plugin's store where it is kept what is known of the site.
pub(crate) const KEY: &str = "upstream";
/// Seconds by which the store may be behind.
const KEEP_EVERY: u64 = 300;

#[cfg(test)]
mod tests;
