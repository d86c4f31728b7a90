//! One configured plugin: the instance that serves at present, what came before it, and how it is. The [supervisor](super::supervisor)
//! changes it; everybody else reads it or asks its instance.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use bootd_sdk::wire::{Answer, Configuration, Request};

use super::gate::Gate;
use super::instance::{CallError, Instance, Lane};
use super::loader::{Identity, LoadError, Loaded};
use super::services::Shared;
use super::{Core, PluginStatus};
use crate::config::PluginConfig;
use crate::metrics::Durations;

/// A configured plugin.
pub(super) struct Slot {
    name: String,
    settings: ArcSwap<Settings>,
    pub(super) shared: Arc<Shared>,
    pub(super) gate: Arc<Gate>,
    current: ArcSwapOption<Instance>,
    state: Mutex<State>,
    /// How long calls take.
    calls: Durations,
}

/// What each instance is started with.
#[derive(Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) plugin: PluginConfig,
    pub(super) configuration: Configuration,
}

/// How a plugin is.
#[derive(Default)]
pub(super) struct State {
    /// The file that was mapped last. Starting it again maps nothing.
    pub(super) loaded: Option<Arc<Loaded>>,
    /// A file that is mapped and is no plugin for this bootd: it is not mapped again.
    pub(super) refused: Option<(Identity, Arc<LoadError>)>,
    /// Instances that were in service so far.
    pub(super) generation: u64,
    /// Instances that were started in the place of one in trouble.
    pub(super) restarts: u64,
    /// Why none is in service.
    pub(super) error: Option<Arc<LoadError>>,
    /// Why the last instance was replaced, or a newer file was not taken.
    pub(super) reason: Option<String>,
    /// The reason tells of a start that failed; a start that succeeds settles it.
    pub(super) reason_is_of_a_start: bool,
    /// When the next one is tried.
    pub(super) next_try: Option<Instant>,
    /// One is starting, since then.
    pub(super) starting: Option<Instant>,
    /// Its `run` never rests.
    pub(super) spins: bool,
    /// Instances that were retired and have not ended yet, and since when.
    pub(super) retired: Vec<(Arc<Instance>, Instant)>,
    /// Starts that have not come back.
    pub(super) hung_starts: usize,
}

impl Slot {
    pub(super) fn new(settings: Settings, core: Core) -> Self {
        Self {
            calls: core.metrics.call_durations(&settings.plugin.name),
            shared: Shared::new(&settings.plugin.name, core),
            name: settings.plugin.name.clone(),
            settings: ArcSwap::from_pointee(settings),
            gate: Arc::default(),
            current: ArcSwapOption::empty(),
            state: Mutex::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What the next instance is started with.
    pub(super) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// The next instance is started with these.
    pub(super) fn set(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// The instance in service.
    pub(super) fn current(&self) -> Option<Arc<Instance>> {
        self.current.load_full()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Retires an instance that is not in service, and counts it until it has ended.
    pub(super) fn retire(&self, instance: Arc<Instance>) {
        instance.retire();
        self.state().retired.push((instance, Instant::now()));
    }

    /// Puts another instance, or none, into service; the one before finishes what it has. What was kept of it is made anew.
    pub(super) fn replace(&self, next: Option<Arc<Instance>>) {
        let before = self.current.swap(next);
        self.shared.bump();
        if let Some(before) = before {
            self.retire(before);
        }
    }

    /// Asks the instance in service, and once more when it was replaced meanwhile.
    pub(super) async fn ask(&self, request: &Request, lane: Lane, within: Duration) -> Result<Answer, CallError> {
        let started = Instant::now();
        let answer = self.ask_until(request, lane, started + within).await;
        self.calls.observe(started.elapsed());
        answer
    }

    async fn ask_until(&self, request: &Request, lane: Lane, deadline: Instant) -> Result<Answer, CallError> {
        let text = serde_json::to_string(request).map_err(|error| CallError::Nonsense(error.to_string()))?;
        let text: Arc<str> = text.into();
        loop {
            // While an instance starts, writes wait: what it reads from the store is all there is.
            let pass = match request.method.as_str() {
                "GET" => None,
                _ => {
                    let entered = tokio::time::timeout_at(deadline.into(), self.gate.enter()).await;
                    Some(entered.map_err(|_| CallError::Deadline)?)
                }
            };
            let instance = self.current().ok_or(CallError::NotRunning)?;
            match instance.handle(&text, lane, pass, deadline).await {
                Err(CallError::Retired) if Instant::now() < deadline => tokio::task::yield_now().await,
                result => return result,
            }
        }
    }

    /// For `bootd plugins`.
    pub(super) fn status(&self, last_good: bool, routes: Vec<String>) -> PluginStatus {
        let health = self.shared.health();
        let current = self.current();
        let state = self.state();
        let now = Instant::now();
        let stuck = current.as_ref().map_or(0, |instance| instance.stuck());
        let left_behind = state.left_behind(now);
        let in_seconds = |at: Instant| at.saturating_duration_since(now).as_secs_f64();
        let next_try_s = state.next_try.map(|at| in_seconds(at).ceil() as u64);
        let mut text = match (&current, &state.error) {
            (None, Some(error)) => error.to_string(),
            (None, None) if state.starting.is_some() => "its init is under way".into(),
            (None, None) => state.reason.clone().unwrap_or_default(),
            (Some(_), _) if last_good => format!("{} (the nodes are those of the last run)", health.text),
            (Some(_), _) => health.text.clone(),
        };
        if state.spins {
            text.push_str(" (its run uses a whole processor)");
        }
        let degraded = stuck > 0 || left_behind > 0 || state.spins || !health.mistakes.is_empty() || last_good;
        PluginStatus {
            name: self.name().into(),
            state: match (&current, state.next_try, state.starting) {
                (Some(_), ..) if degraded => "degraded",
                (Some(_), ..) => "running",
                (None, _, Some(_)) if state.generation == 0 && state.error.is_none() => "starting",
                (None, Some(_), _) | (None, _, Some(_)) if state.generation > 0 => "restarting",
                (None, ..) => "failed",
            }
            .into(),
            version: current.as_ref().map(|instance| instance.version()).unwrap_or_default(),
            file: self.file(&current),
            text,
            reason: state.reason.clone(),
            restarts: state.restarts,
            next_try_s,
            generation: state.generation,
            left_behind,
            mistakes: health.mistakes.iter().map(ToString::to_string).collect(),
            routes,
            stuck,
        }
    }

    fn file(&self, current: &Option<Arc<Instance>>) -> Option<PathBuf> {
        let running = current.as_ref().map(|instance| instance.file().to_owned());
        running.or_else(|| self.settings().plugin.file.clone())
    }
}

impl State {
    /// Instances that should have ended by now, and starts that should have come back.
    pub(super) fn left_behind(&self, now: Instant) -> usize {
        let old = |(_, since): &&(Arc<Instance>, Instant)| now.saturating_duration_since(*since) > GRACE;
        self.retired.iter().filter(old).count() + self.hung_starts
    }
}

/// How long a retired instance may take to end before it counts as left behind.
const GRACE: Duration = Duration::from_secs(2);
