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

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use base64::Engine;

use crate::text::shown;
use crate::wire::{Answer, Commit, Fetch, Fetched, Health, Mistake, Request};
use crate::{Host, HostError, Number, form, time};
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
    /// The service's URL, without a slash at its end.
    base: String,
    /// Its path, as it is appended to `config.url`.
    service: String,
    ca: Option<String>,
    token: Option<Token>,
    folder: PathBuf,
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
    passed_on: Number,
}

impl Site {
    /// A site whose service is at `config.url` and `service` (`/hsm/v2`). Asks nothing yet. `folder`: of bootd.toml.
    pub fn new(host: Host, settings: &Settings, folder: &Path, service: &str, listed: &'static [Listed]) -> Self {
        let seconds = u64::from(settings.refresh.0);
        let ca = settings.ca.as_ref().map(|ca| folder.join(ca).display().to_string());
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
            host,
            base: format!("{}{service}", settings.url.text()),
            service: service.into(),
            ca,
            token: settings.token.clone(),
            folder: folder.into(),
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
                passed_on: host.counter("upstream_writes_passed_on"),
            },
        };
        site.count();
        site
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
            let text = format!("199 bootd \"{} has taken it, and is read back later\"", self.base);
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
        let mut told = if has_refreshed { Vec::new() } else { self.unready() };
        told.extend(self.token_ends());
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
                file: format!("{}{}", self.base, listed.path),
                line: 0,
                text: held_back(listed, loss, &time::rfc3339(*since)),
            }));
        }
        told.extend(mistakes);
        Health {
            text: format!("{line}, mirrored from {}{as_of}", self.base),
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
                [path] => (format!("{}{path}", self.base), String::new()),
                paths => (self.base.clone(), format!(" (all of {})", paths.join(", "))),
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

    /// What is wrong with the settings that only files can show.
    fn unready(&self) -> Vec<Mistake> {
        let mut told = Vec::new();
        let mut tell = |key: &str, text: String| {
            told.push(Mistake {
                file: format!("config.{key}"),
                line: 0,
                text,
            });
        };
        if let Some(ca) = &self.ca {
            match std::fs::read_to_string(ca) {
                Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => {}
                Ok(_) => tell("ca", format!("{ca} holds no certificate in PEM form")),
                Err(error) => tell("ca", format!("{ca}: {error}")),
            }
        }
        if let Err(text) = self.token() {
            tell("token", text);
        }
        let doubled = format!("{0}{0}", self.service);
        if !self.service.is_empty() && self.base.ends_with(&doubled) {
            tell(
                "url",
                format!("{} is appended to it, and is in it already", self.service),
            );
        }
        told
    }

    /// A token that ends soon, before the site refuses it.
    fn token_ends(&self) -> Option<Mistake> {
        let token = self.token().ok()??;
        let ends = expiry(&token)?;
        let now = self.host.now_unix().as_secs();
        (ends > now && ends - now < SOON).then(|| Mistake {
            file: "config.token".into(),
            line: 0,
            text: format!(
                "the token ends at {}: write a newer one in its place",
                time::rfc3339(ends)
            ),
        })
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
        // Of a field that stands twice the first: that is the token that was looked at here.
        let first = |name: &&str| request.headers.iter().find(|(other, _)| other == *name).cloned();
        let fetch = Fetch {
            method: request.method.clone(),
            headers: CARRIED_THERE.iter().filter_map(first).collect(),
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
                let text = unreachable(&error.to_string());
                let took = match text.starts_with("cannot connect") {
                    true => "nothing was written",
                    false => "whether it took this is not known",
                };
                let detail = format!(
                    "{} keeps this data, and {took}: {text}. What this box serves is as it was.",
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

    fn refresh_one<M: Mirror>(&self, mirror: &M, at: usize, trust: Trust, within: Duration) -> Refreshed {
        let Some(listed) = self.listed.get(at) else {
            return Refreshed::Good;
        };
        let (known, held) = {
            let state = self.state();
            let collection = state.collections.get(at).cloned().unwrap_or_default();
            (collection.validator, collection.held)
        };
        let (body, validator) = match self.ask(listed, known.clone(), within, mirror.most_bytes()) {
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
            let (had, lost, site) = (loss.had, loss.lost, self.base.as_str());
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

    /// What the site says of a collection, when it is something that can be believed at all.
    fn ask(
        &self,
        listed: &Listed,
        known: Option<String>,
        within: Duration,
        most_bytes: usize,
    ) -> Result<New, Unanswered> {
        let is_known = known.is_some();
        let mut fetch = Fetch {
            timeout_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
            most_bytes,
            known: Some(known.unwrap_or_default()),
            ..self.fetch(listed.path)
        };
        self.show_token(&mut fetch).map_err(Unanswered::Silent)?;
        let fetched = self.host.fetch(&fetch).map_err(|error| match error {
            HostError::Stopping => Unanswered::Stopping,
            error => Unanswered::Silent(unreachable(&error.to_string())),
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
            status => Err(Unanswered::Wrong(Kind::Status(status), refusal(status, &fetched))),
        }
    }

    fn fetch(&self, path_and_query: &str) -> Fetch {
        Fetch {
            ca: self.ca.clone(),
            ..Fetch::get(format!("{}{path_and_query}", self.base))
        }
    }

    fn show_token(&self, fetch: &mut Fetch) -> Result<(), String> {
        if let Some(token) = self.token()? {
            fetch.headers.push(("authorization".into(), format!("Bearer {token}")));
        }
        Ok(())
    }

    fn token(&self) -> Result<Option<String>, String> {
        let token = match &self.token {
            None => return Ok(None),
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
        Ok(Some(token.into()))
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
        let site = self.base.as_str();
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
        (held, as_of)
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
    /// There is no answer.
    Silent(String),
    Wrong(Kind, String),
    /// The instance is to end.
    Stopping,
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
        401 | 403 => {
            let detail = serde_json::from_str::<serde_json::Value>(&fetched.body).unwrap_or_default();
            let detail = detail["detail"]
                .as_str()
                .map_or(String::new(), |detail| format!(" ({})", excerpt(detail)));
            format!("status {status}: the token is refused{detail}; see config.token")
        }
        _ => format!("status {status} {}", excerpt(&fetched.body))
            .trim_end()
            .to_owned(),
    }
}

/// Why there is no answer, with what to do.
fn unreachable(text: &str) -> String {
    if text.contains("certificate") {
        return format!("{text}; config.ca must hold what the site's certificate leads to");
    }
    text.to_owned()
}

/// No service that is mirrored answers with anything but JSON.
fn looks_like_json(body: &str) -> Result<(), String> {
    match body.trim_start().chars().next() {
        Some('{' | '[' | 'n') => Ok(()),
        Some(_) => Err(format!("the answer is no JSON: {}", excerpt(body))),
        None => Err("the answer is empty".into()),
    }
}

/// Some words of a text that others sent, such as an error page.
pub fn excerpt(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().take(MOST_WORDS).collect();
    shown(&words.join(" "))
}

/// When a token ends, in seconds since 1970; `None`: it is no JSON Web Token, or has no end. What it says is not verified: that is the site's.
fn expiry(token: &str) -> Option<u64> {
    let payload = token.split('.').nth(1)?;
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    claims["exp"].as_u64()
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
const REFRESH: Duration = Duration::from_secs(30);
/// The same, while an operator waits.
const ACCEPT: Duration = Duration::from_secs(8);
/// For a write that is passed on.
const WRITE_MS: u64 = 20_000;
/// For reading it back, all collections together, and for the turn to do so.
const READ_BACK: Duration = Duration::from_secs(15);
/// Between two looks whether it is our turn.
const TRY_AGAIN: Duration = Duration::from_millis(20);
/// With less time than this nothing is asked any more.
const LEAST: Duration = Duration::from_millis(100);
/// The deadline of routes that pass writes on: for the write, and for reading it back.
pub const PASS_ON_MS: u64 = 45_000;
/// Bytes of one thing that is looked up.
const MOST_LOOKED_UP: usize = 1024 * 1024;
/// The key of the plugin's store where it is kept what is known of the site.
pub(crate) const KEY: &str = "upstream";
/// Seconds by which the store may be behind.
const KEEP_EVERY: u64 = 300;
/// Seconds before its end when a token is told of: those of OpenCHAMI live for an hour, and are renewed in time by who renews them.
const SOON: u64 = 300;
/// Words of an error page that are told.
const MOST_WORDS: usize = 12;

#[cfg(test)]
mod tests;
