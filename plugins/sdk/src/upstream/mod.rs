//! The site that a plugin in upstream mode mirrors: when it is asked, what is believed of it, how old the mirror is.
//!
//! A [`Site`] has some collections: lists that it serves whole. A refresh asks for each of them; one that is as it was costs one conditional
//! request. What a new one says is read by the plugin ([`Mirror`]), and takes place, unless it would lose too much: then it is held back.
//! Promises: no answer, whatever it is, empties or breaks what is mirrored; a site that does not answer is asked less and less often; what is
//! wrong, and since when, is in the plugin's health, in its metrics, and in a header of what it answers meanwhile. Tokens are never logged.

mod settings;
mod state;

pub use settings::{HoldBack, Refresh, Settings, Token, Url};
pub use state::{Loss, Trust, Verdict};

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::text::shown;
use crate::wire::{Answer, Fetch, Fetched, Health, Mistake, Request};
use crate::{Host, HostError, Number, form, time};
use state::{Collection, Outcome, Schedule};

/// A plugin's mirror of a site.
pub trait Mirror {
    /// What is different at the site, read and checked.
    type Change;

    /// Reads what the site says of a collection, and compares it with what is there. The error says what is wrong with it: it is not a list
    /// of this kind at all. A bad row is the mirror's business, and costs only itself.
    fn read(&self, collection: usize, body: &str) -> Result<(Loss, Self::Change), String>;

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
    /// The service's URL, without a slash at its end.
    base: String,
    ca: Option<String>,
    token: Option<Token>,
    folder: PathBuf,
    guard: HoldBack,
    listed: &'static [Listed],
    /// One refresh at a time.
    turn: Mutex<()>,
    state: Mutex<State>,
    was_stale: AtomicBool,
    numbers: Numbers,
}

struct State {
    schedule: Schedule,
    collections: Vec<Collection>,
}

/// Among bootd's metrics.
struct Numbers {
    refreshes: Number,
    unchanged: Number,
    failures: Number,
    held_back: Number,
    stale: Number,
    as_of: Number,
    passed_on: Number,
}

impl Site {
    /// A site whose service is at `config.url` and `service` (`/hsm/v2`). Asks nothing yet. `folder`: of bootd.toml.
    pub fn new(host: Host, settings: &Settings, folder: &Path, service: &str, listed: &'static [Listed]) -> Self {
        let seconds = u64::from(settings.refresh.0);
        let ca = settings.ca.as_ref().map(|ca| folder.join(ca).display().to_string());
        Self {
            host,
            base: format!("{}{service}", settings.url.text()),
            ca,
            token: settings.token.clone(),
            folder: folder.into(),
            guard: settings.hold_back,
            listed,
            turn: Mutex::default(),
            state: Mutex::new(State {
                schedule: Schedule::new(Duration::from_secs(seconds)),
                collections: vec![Collection::default(); listed.len()],
            }),
            was_stale: AtomicBool::new(false),
            numbers: Numbers {
                refreshes: host.counter("upstream_refreshes"),
                unchanged: host.counter("upstream_unchanged"),
                failures: host.counter("upstream_failures"),
                held_back: host.gauge("upstream_held_back"),
                stale: host.gauge("upstream_stale"),
                as_of: host.gauge("upstream_as_of_unix_s"),
                passed_on: host.counter("upstream_writes_passed_on"),
            },
        }
    }

    /// The service's URL, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.base
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
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.state().schedule.begin(self.host.now_boot());
        let mut outcome = Outcome::Good;
        for at in 0..self.listed.len() {
            if self.refresh_one(mirror, at, trust) == Outcome::Bad {
                outcome = Outcome::Bad;
            }
        }
        self.state().schedule.end(self.host.now_boot(), outcome, random());
        self.numbers.refreshes.add(1);
        self.settle();
    }

    /// Lets through what is held back, for an operator who knows better, unless it has become worse meanwhile. The answer lists what was
    /// `accepted`, and what is `left`.
    pub fn accept<M: Mirror>(&self, mirror: &M) -> Answer {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut accepted, mut left) = (Vec::new(), Vec::new());
        for at in 0..self.listed.len() {
            if self
                .state()
                .collections
                .get(at)
                .is_some_and(|collection| collection.held.is_some())
            {
                let text = self.held_text(at);
                self.refresh_one(mirror, at, Trust::Accepted);
                let is_held = self
                    .state()
                    .collections
                    .get(at)
                    .is_some_and(|collection| collection.held.is_some());
                if is_held {
                    left.push(self.held_text(at))
                } else {
                    accepted.push(text)
                }
            }
        }
        self.settle();
        let body = serde_json::json!({ "accepted": accepted, "left": left });
        Answer::new(200, "application/json", body.to_string())
    }

    /// How the plugin is: what it has, as of when, and what is wrong. `mistakes` are the mirror's own.
    pub fn health(&self, line: &str, mistakes: Vec<Mistake>) -> Health {
        let state = self.state();
        let good = state.collections.iter().map(|collection| collection.good);
        let as_of = match good.min().flatten() {
            Some(seconds) => format!(" as of {}", time::rfc3339(seconds)),
            None => ", not refreshed since the start".into(),
        };
        let since = |seconds: u64| time::rfc3339(seconds);
        let mut told = Vec::new();
        for (listed, collection) in self.listed.iter().zip(&state.collections) {
            let texts = [
                collection
                    .trouble
                    .as_ref()
                    .map(|(from, text)| format!("{text}, since {}; what was mirrored before is served", since(*from))),
                collection
                    .held
                    .as_ref()
                    .map(|(from, loss)| held_back(listed, loss, &since(*from))),
            ];
            told.extend(texts.into_iter().flatten().map(|text| Mistake {
                file: format!("{}{}", self.base, listed.path),
                line: 0,
                text,
            }));
        }
        told.extend(mistakes);
        Health {
            text: format!("{line}, mirrored from {}{as_of}", self.base),
            mistakes: told,
        }
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
        let segments: Vec<String> = path.split('/').map(form::segment).collect();
        if segments.iter().any(|segment| segment == "." || segment == "..") {
            return Answer::problem(400, "Bad Request", "the path leads elsewhere");
        }
        let query = match request.query.as_str() {
            "" => String::new(),
            query => format!("?{query}"),
        };
        let carried = |(name, _): &&(String, String)| CARRIED_THERE.contains(&name.as_str());
        let fetch = Fetch {
            method: request.method.clone(),
            headers: request.headers.iter().filter(carried).cloned().collect(),
            body: request.body.clone(),
            timeout_ms: WRITE_MS,
            ..self.fetch(&format!("{}{query}", segments.join("/")))
        };
        self.numbers.passed_on.add(1);
        match self.host.fetch(&fetch) {
            Ok(fetched) => Answer {
                status: fetched.status,
                headers: fetched
                    .headers
                    .into_iter()
                    .filter(|(name, _)| CARRIED_BACK.contains(&name.as_str()))
                    .collect(),
                body: fetched.body,
                keep: false,
            },
            Err(error) => {
                let detail = format!(
                    "{} keeps this data, and whether it took this is not known: {error}. What this box serves is as it was.",
                    self.base
                );
                Answer::problem(502, "Bad Gateway", &detail)
            }
        }
    }

    /// One thing that is asked for while somebody waits, with the token of the configuration. `within`: for all of it.
    pub fn look_up(
        &self,
        path_and_query: &str,
        headers: &[(String, String)],
        within: Duration,
    ) -> Result<Fetched, String> {
        let mut fetch = Fetch {
            timeout_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
            most_bytes: MOST_LOOKED_UP,
            ..self.fetch(path_and_query)
        };
        fetch.headers.extend(headers.iter().cloned());
        self.show_token(&mut fetch)?;
        self.host.fetch(&fetch).map_err(|error| error.to_string())
    }

    fn refresh_one<M: Mirror>(&self, mirror: &M, at: usize, trust: Trust) -> Outcome {
        let Some(listed) = self.listed.get(at) else {
            return Outcome::Good;
        };
        let (known, held) = {
            let state = self.state();
            let collection = state.collections.get(at).cloned().unwrap_or_default();
            (collection.validator, collection.held)
        };
        let asked = self.ask(listed, known.clone());
        let now = self.host.now_unix().as_secs();
        let done = match asked {
            Ok(New { body: None, validator }) => {
                self.numbers.unchanged.add(1);
                Done::Taken(validator.or(known))
            }
            Ok(New {
                body: Some(body),
                validator,
            }) => match mirror.read(at, &body) {
                Err(text) => Done::Wrong(format!("the answer is not understood: {text}")),
                Ok((loss, change)) => {
                    drop(body);
                    let trust = match (held, trust) {
                        // Nobody saw this one.
                        (Some((_, told)), Trust::Accepted) if loss.lost > told.lost => Trust::Guarded,
                        (Some(_), Trust::Obeyed) => Trust::Guarded,
                        _ => trust,
                    };
                    match self.guard.judge(loss, trust) {
                        Verdict::HoldBack => Done::Held(loss),
                        Verdict::Take => match mirror.take(at, change) {
                            Ok(()) => Done::Taken(validator),
                            Err(error) => Done::Wrong(format!("what the site says cannot be stored: {error}")),
                        },
                    }
                }
            },
            Err(Unanswered::Wrong(text)) => Done::Wrong(text),
            // Nothing is wrong with the site.
            Err(Unanswered::Stopping) => return Outcome::Good,
        };
        let url = format!("{}{}", self.base, listed.path);
        let mut state = self.state();
        let Some(collection) = state.collections.get_mut(at) else {
            return Outcome::Good;
        };
        match done {
            Done::Taken(validator) => {
                if collection.stale_since().is_some() {
                    tracing::info!(url, "the site is mirrored again");
                }
                collection.took(now, validator);
                Outcome::Good
            }
            Done::Held(loss) => {
                if collection.held.is_none() {
                    let (had, lost) = (loss.had, loss.lost);
                    tracing::warn!(
                        url,
                        had,
                        lost,
                        "a refresh would lose too much and is held back; see bootd nodes accept"
                    );
                }
                collection.hold(now, loss);
                Outcome::Good
            }
            Done::Wrong(text) => {
                if collection.trouble.is_none() {
                    tracing::warn!(
                        url,
                        reason = text,
                        "the site cannot be mirrored; what was mirrored before is served"
                    );
                }
                collection.wrong(now, text);
                self.numbers.failures.add(1);
                Outcome::Bad
            }
        }
    }

    /// What the site says of a collection, when it is something that can be believed at all.
    fn ask(&self, listed: &Listed, known: Option<String>) -> Result<New, Unanswered> {
        let is_known = known.is_some();
        let mut fetch = Fetch {
            timeout_ms: REFRESH_MS,
            most_bytes: MOST_BYTES,
            known: Some(known.unwrap_or_default()),
            ..self.fetch(listed.path)
        };
        self.show_token(&mut fetch).map_err(Unanswered::Wrong)?;
        let fetched = self.host.fetch(&fetch).map_err(|error| match error {
            HostError::Stopping => Unanswered::Stopping,
            error => Unanswered::Wrong(error.to_string()),
        })?;
        match fetched.status {
            200 => Ok(New {
                validator: fetched.validator,
                body: Some(fetched.body),
            }),
            304 if is_known => Ok(New {
                validator: fetched.validator,
                body: None,
            }),
            status => Err(Unanswered::Wrong(refusal(status, &fetched))),
        }
    }

    fn fetch(&self, path_and_query: &str) -> Fetch {
        Fetch {
            ca: self.ca.clone(),
            ..Fetch::get(format!("{}{path_and_query}", self.base))
        }
    }

    fn show_token(&self, fetch: &mut Fetch) -> Result<(), String> {
        let token = match &self.token {
            None => return Ok(()),
            Some(Token::Env(name)) => {
                std::env::var(name).map_err(|_| format!("config.token: the variable {name} is not set"))?
            }
            Some(Token::File(file)) => {
                let file = self.folder.join(file);
                std::fs::read_to_string(&file).map_err(|error| format!("config.token: {}: {error}", file.display()))?
            }
        };
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("config.token: there is no token in it".into());
        }
        fetch.headers.push(("authorization".into(), format!("Bearer {token}")));
        Ok(())
    }

    fn held_text(&self, at: usize) -> String {
        let state = self.state();
        let held = state.collections.get(at).and_then(|collection| collection.held);
        match (self.listed.get(at), held) {
            (Some(listed), Some((since, loss))) => held_back(listed, &loss, &time::rfc3339(since)),
            _ => String::new(),
        }
    }

    /// Since when what is mirrored may be old.
    fn stale_since(&self) -> Option<u64> {
        let state = self.state();
        let stale = state.collections.iter().filter_map(Collection::stale_since);
        stale.min()
    }

    /// Tells what changed: in metrics, and to whoever is served kept answers.
    fn settle(&self) {
        let (held, as_of) = {
            let state = self.state();
            let held = state.collections.iter().filter(|collection| collection.held.is_some());
            let good = state.collections.iter().map(|collection| collection.good);
            (held.count(), good.min().flatten())
        };
        let is_stale = self.is_stale();
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.numbers.held_back.set(number(held as u64));
        self.numbers.stale.set(i64::from(is_stale));
        self.numbers.as_of.set(as_of.map_or(0, number));
        // Answers that are kept say whether they may be old.
        if self.was_stale.swap(is_stale, Ordering::AcqRel) != is_stale {
            self.host.bump();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a site said of a collection.
struct New {
    /// `None`: as it was.
    body: Option<String>,
    validator: Option<String>,
}

/// Why it said nothing of use.
enum Unanswered {
    Wrong(String),
    /// The instance is to end.
    Stopping,
}

/// What came of it.
enum Done {
    Taken(Option<String>),
    Held(Loss),
    Wrong(String),
}

fn held_back(listed: &Listed, loss: &Loss, since: &str) -> String {
    let (Loss { had, lost, .. }, rows) = (loss, listed.rows);
    format!(
        "the site has lost {lost} of {had} {rows}: held back since {since}, and all {had} are served; `bootd nodes accept` lets it through"
    )
}

/// Why an answer with this status is none.
fn refusal(status: u16, fetched: &Fetched) -> String {
    match status {
        300..=399 => match fetched.header("location") {
            Some(to) => format!(
                "status {status} leads to {}: set config.url to where the service is",
                shown(to)
            ),
            None => format!("status {status}"),
        },
        401 | 403 => format!("status {status}: the token is refused; see config.token"),
        _ => {
            let words: Vec<&str> = fetched.body.split_whitespace().take(MOST_WORDS).collect();
            format!("status {status} {}", shown(&words.join(" ")))
                .trim_end()
                .to_owned()
        }
    }
}

/// 0 to 1.
fn random() -> f64 {
    (RandomState::new().hash_one(0) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Fields of a request that is passed on.
const CARRIED_THERE: [&str; 3] = ["authorization", "content-type", "if-match"];
/// Fields of its answer.
const CARRIED_BACK: [&str; 7] = [
    "content-type",
    "location",
    "allow",
    "etag",
    "retry-after",
    "warning",
    "bss-referral-token",
];
/// For a collection: large ones come slowly.
const REFRESH_MS: u64 = 30_000;
/// For a write that is passed on.
const WRITE_MS: u64 = 20_000;
/// The deadline of routes that pass writes on: for the write, and for reading it back.
pub const PASS_ON_MS: u64 = 45_000;
/// Bytes of a collection.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of one thing that is looked up.
const MOST_LOOKED_UP: usize = 1024 * 1024;
/// Words of an error page that are told.
const MOST_WORDS: usize = 12;

#[cfg(test)]
mod tests;
