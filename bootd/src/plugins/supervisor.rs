//! Starts plugins, and starts them again: after a panic, a hang or a failed start with growing waits, at once when the operator says so or
//! the file was replaced.
//!
//! A start happens on a thread of its own, beside the instance that serves: a hanging `init` holds up nothing, and when a start fails the
//! old instance stays. Nothing is ever killed; what does not come back is left behind, counted, and after [`MOST_LEFT_BEHIND`] of them no
//! more are made. One thread, which only looks and decides.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bootd_sdk::text::shown;
use tokio::sync::oneshot;

use super::backoff::Backoff;
use super::gate::Closed;
use super::instance::{Instance, Trouble};
use super::loader::{self, Identity, LoadError, Loaded};
use super::routes::Routes;
use super::services::{Registered, Services};
use super::slot::Slot;
use super::{Core, PART, Purpose, Reloaded};

/// How long `init` may take.
const INIT_DEADLINE: Duration = Duration::from_secs(10);
/// How long a start waits for writes that are under way.
const WRITES_END: Duration = Duration::from_secs(2);
/// How often everything is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How often the files are looked at.
const LOOK_AT_FILES: Duration = Duration::from_secs(1);
/// Instances of one plugin that hang; then no more are started until some come back.
const MOST_LEFT_BEHIND: usize = 4;
/// How long `run` is watched before it is said to spin.
const SPINS_AFTER: Duration = Duration::from_secs(10);

/// What the supervisor is told.
pub(super) enum Word {
    /// Start new instances of these plugins, or of all when there is no name.
    Reload(Vec<String>, oneshot::Sender<Vec<oneshot::Receiver<Reloaded>>>),
    /// Something happened: look at once.
    Look,
    /// No more starts.
    Stop,
}

/// Tends all plugins.
pub(super) struct Supervisor {
    core: Core,
    dirs: Vec<PathBuf>,
    purpose: Purpose,
    routes: Arc<ArcSwap<Routes>>,
    tended: Vec<Tended>,
    words: SyncSender<Word>,
    looked_at_files: Instant,
}

/// A plugin, as the supervisor sees it.
struct Tended {
    slot: Arc<Slot>,
    backoff: Backoff,
    starting: Option<Starting>,
    /// Starts that took too long; what comes of them is thrown away.
    hung: Vec<Receiver<Started>>,
    /// The file that was tried last.
    tried: Option<Identity>,
    /// The file at the last look, when it was another one.
    changed: Option<Identity>,
    /// Who waits for a reload.
    wanted: Vec<oneshot::Sender<Reloaded>>,
    /// When the use of the processor was last noted, and what it was.
    run_time: (Instant, Duration),
    shown: Option<[i64; 6]>,
}

struct Starting {
    since: Instant,
    /// Told to stop when it takes too long.
    services: Arc<Services>,
    outcome: Receiver<Started>,
    /// It is to take the place of an instance in trouble.
    is_restart: bool,
    wanted: Vec<oneshot::Sender<Reloaded>>,
}

type Started = Result<(Arc<Instance>, Closed), LoadError>;

impl Supervisor {
    /// Begins to start all plugins.
    pub(super) fn begin(
        slots: &[Arc<Slot>],
        core: Core,
        dirs: &[PathBuf],
        purpose: Purpose,
        routes: Arc<ArcSwap<Routes>>,
    ) -> (Self, SyncSender<Word>, Receiver<Word>) {
        let (words, heard) = sync_channel(64);
        let now = Instant::now();
        let tended = slots.iter().map(|slot| Tended {
            slot: Arc::clone(slot),
            backoff: Backoff::default(),
            starting: None,
            hung: Vec::new(),
            tried: None,
            changed: None,
            wanted: Vec::new(),
            run_time: (now, Duration::ZERO),
            shown: None,
        });
        let mut supervisor = Self {
            core,
            dirs: dirs.to_vec(),
            purpose,
            routes,
            tended: tended.collect(),
            words: words.clone(),
            looked_at_files: now,
        };
        for at in 0..supervisor.tended.len() {
            supervisor.start(at, false);
        }
        (supervisor, words, heard)
    }

    /// Looks until each plugin is in service or has failed, at most this long.
    pub(super) fn settle(&mut self, heard: &Receiver<Word>, within: Duration) {
        let until = Instant::now() + within;
        while self.tended.iter().any(|tended| tended.starting.is_some()) && Instant::now() < until {
            if let Ok(word) = heard.recv_timeout(LOOK.min(until.saturating_duration_since(Instant::now()))) {
                self.hear(word);
            }
            self.look();
        }
    }

    /// Looks and listens until told to stop.
    pub(super) fn run(mut self, heard: &Receiver<Word>) {
        loop {
            match heard.recv_timeout(LOOK) {
                Ok(Word::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(word) => self.hear(word),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.look();
        }
    }

    fn hear(&mut self, word: Word) {
        if let Word::Reload(names, answer) = word {
            let mut waiting = Vec::new();
            for tended in &mut self.tended {
                if names.is_empty() || names.iter().any(|name| name == tended.slot.name()) {
                    let (wanted, wait) = oneshot::channel();
                    tended.wanted.push(wanted);
                    waiting.push(wait);
                }
            }
            // Whoever asked may have gone.
            let _ = answer.send(waiting);
        }
    }

    fn look(&mut self) {
        let now = Instant::now();
        let at_files = now.duration_since(self.looked_at_files) >= LOOK_AT_FILES;
        if at_files {
            self.looked_at_files = now;
        }
        for at in 0..self.tended.len() {
            self.tended[at].reap();
            self.look_at_start(at, now);
            self.look_at_instance(at, now);
            if self.tended[at].starting.is_none() {
                let due = self.tended[at].slot.state().next_try.is_some_and(|next| next <= now);
                let replaced =
                    at_files && self.purpose == Purpose::Serve && self.tended[at].file_was_replaced(&self.dirs);
                if due || replaced || !self.tended[at].wanted.is_empty() {
                    self.start(at, due);
                }
            }
            self.tended[at].slot.shared.say_left_out(now);
            self.tended[at].show(&self.core, now);
        }
    }

    /// Begins a start, unless too many hang.
    fn start(&mut self, at: usize, is_restart: bool) {
        let tended = &mut self.tended[at];
        let slot = Arc::clone(&tended.slot);
        let now = Instant::now();
        let there = loader::find(&slot.settings().plugin, &self.dirs).ok();
        tended.tried = there.and_then(|file| Identity::of(&file));
        let hanging = slot.state().left_behind(now);
        if hanging >= MOST_LEFT_BEHIND {
            let error = LoadError::TooManyHang(hanging);
            let wanted = std::mem::take(&mut tended.wanted);
            tended.answer(wanted, Some(&error.to_string()));
            // Not for ever: they may come back.
            return tended.failed(error, None, &self.core, now);
        }
        let (outcome, comes) = sync_channel(1);
        let registered = Registered::new(&slot.shared);
        let services = registered.services();
        let (dirs, purpose, words) = (self.dirs.clone(), self.purpose, self.words.clone());
        let spawned = std::thread::Builder::new()
            .name(format!("{}-start", slot.name()))
            .spawn(move || {
                let started = start(&slot, registered, &dirs, purpose);
                // Thrown away when it took too long; then the instance ends here.
                if let Err(returned) = outcome.try_send(started)
                    && let std::sync::mpsc::TrySendError::Disconnected(Ok((instance, ..))) = returned
                {
                    slot.retire(instance);
                }
                let _ = words.try_send(Word::Look);
            });
        let mut state = tended.slot.state();
        state.next_try = None;
        state.starting = Some(now);
        drop(state);
        tended.starting = Some(Starting {
            since: now,
            services,
            outcome: comes,
            is_restart,
            wanted: std::mem::take(&mut tended.wanted),
        });
        if let Err(error) = spawned {
            let wanted = tended.starting.take();
            tended.failed(LoadError::Thread(error), wanted, &self.core, now);
        }
    }

    fn look_at_start(&mut self, at: usize, now: Instant) {
        let tended = &mut self.tended[at];
        let Some(starting) = tended.starting.take() else { return };
        match starting.outcome.try_recv() {
            Ok(Ok((instance, closed))) => self.adopt(at, starting, instance, closed),
            Ok(Err(error)) => tended.failed(error, Some(starting), &self.core, now),
            Err(TryRecvError::Empty) if now.duration_since(starting.since) < INIT_DEADLINE => {
                tended.starting = Some(starting);
            }
            Err(_) => {
                // It may still come back, and is then of no use. Writes have waited long enough.
                starting.services.stop();
                tended.slot.gate.open();
                tended.failed(LoadError::InitHangs(INIT_DEADLINE), Some(starting), &self.core, now);
            }
        }
    }

    /// Puts a new instance into service, whose routes come with it.
    fn adopt(&mut self, at: usize, starting: Starting, instance: Arc<Instance>, closed: Closed) {
        let mut routes = Routes::clone(&self.routes.load());
        let tended = &mut self.tended[at];
        routes.remove(at);
        if let Err(error) = routes.add(at, tended.slot.name(), &instance.setup().routes) {
            tended.slot.retire(instance);
            return tended.failed(error, Some(starting), &self.core, Instant::now());
        }
        let mut state = tended.slot.state();
        state.generation += 1;
        state.restarts += u64::from(starting.is_restart);
        state.error = None;
        state.starting = None;
        state.next_try = None;
        state.spins = false;
        if state.reason_is_of_a_start {
            state.reason = None;
        }
        let generation = state.generation;
        drop(state);
        tended.run_time = (Instant::now(), Duration::ZERO);
        tended.slot.replace(Some(Arc::clone(&instance)));
        instance.enter_service();
        self.routes.store(Arc::new(routes));
        // Writes that waited go to the new instance.
        drop(closed);
        tracing::info!(plugin = tended.slot.name(), generation, "a plugin is in service");
        tended.answer(starting.wanted, None);
    }

    fn look_at_instance(&mut self, at: usize, now: Instant) {
        let tended = &mut self.tended[at];
        let Some(instance) = tended.slot.current() else { return };
        let Some(trouble) = instance.trouble() else {
            return tended.look_at_run(&instance, now);
        };
        let wait = tended.backoff.failed_after(instance.age());
        let plugin = tended.slot.name();
        self.core.metrics.refused(PART, trouble.label(), &plugin, &trouble);
        tracing::error!(plugin, %trouble, again_in_s = wait.as_secs(), "a plugin is started again");
        // Kept answers serve on; who asks for others is told to come again.
        tended.slot.replace(None);
        if matches!(trouble, Trouble::Stuck(_)) {
            instance.abandon();
            tended.slot.gate.give_up();
        }
        let mut state = tended.slot.state();
        state.spins = false;
        state.reason = Some(shown(&trouble.to_string()));
        state.reason_is_of_a_start = false;
        state.next_try = Some(now + wait);
    }
}

impl Tended {
    /// Takes note of what came back after all.
    fn reap(&mut self) {
        self.hung.retain(|hung| match hung.try_recv() {
            Ok(started) => {
                if let Ok((instance, ..)) = started {
                    self.slot.retire(instance);
                }
                false
            }
            Err(TryRecvError::Empty) => true,
            Err(TryRecvError::Disconnected) => false,
        });
        let mut state = self.slot.state();
        state.hung_starts = self.hung.len();
        state.retired.retain(|(instance, _)| !instance.has_ended());
    }

    /// A start came to nothing. An instance in service stays; where there is none, another try follows.
    fn failed(&mut self, error: LoadError, starting: Option<Starting>, core: &Core, now: Instant) {
        let plugin = self.slot.name();
        core.metrics.refused(PART, error.label(), &plugin, &error);
        let serves_on = self.slot.current().is_some();
        let mut state = self.slot.state();
        state.starting = None;
        let text = shown(&error.to_string());
        let hangs = matches!(error, LoadError::InitHangs(_));
        if serves_on {
            tracing::error!(plugin, %error, "a new instance of a plugin is not in service; the old one serves on");
            state.reason = Some(format!("a new instance is not in service: {text}"));
            state.reason_is_of_a_start = true;
        } else {
            // What is wrong in bootd.toml no second try repairs.
            let again = (!matches!(error, LoadError::Settings(_))).then(|| self.backoff.failed_after(Duration::ZERO));
            let again_in_s = again.map(|wait| wait.as_secs());
            tracing::error!(plugin, %error, again_in_s, "a plugin is out of service");
            state.next_try = again.map(|wait| now + wait);
            state.error = Some(Arc::new(error));
        }
        drop(state);
        if let Some(Starting { outcome, wanted, .. }) = starting {
            if hangs {
                self.hung.push(outcome);
            }
            self.answer(wanted, Some(&text));
        }
    }

    fn answer(&self, wanted: Vec<oneshot::Sender<Reloaded>>, error: Option<&str>) {
        for waiting in wanted {
            let reloaded = Reloaded {
                name: self.slot.name().into(),
                generation: self.slot.state().generation,
                error: error.map(str::to_owned),
            };
            // Whoever asked may have gone.
            let _ = waiting.send(reloaded);
        }
    }

    /// Whether another file is in the place of the one that was tried, the same at two looks: one that is being copied is not taken.
    fn file_was_replaced(&mut self, dirs: &[PathBuf]) -> bool {
        let there = loader::find(&self.slot.settings().plugin, dirs).ok();
        let identity = there.and_then(|file| Identity::of(&file));
        let before = std::mem::replace(&mut self.changed, identity.filter(|_| identity != self.tried));
        self.changed.is_some() && self.changed == before
    }

    /// Notes whether `run` uses a processor whole.
    fn look_at_run(&mut self, instance: &Instance, now: Instant) {
        let (noted, before) = self.run_time;
        let passed = now.duration_since(noted);
        if passed < SPINS_AFTER {
            return;
        }
        let used = instance.run_time().unwrap_or_default();
        self.run_time = (now, used);
        let spins = used.saturating_sub(before) > passed.mul_f64(0.8);
        let mut state = self.slot.state();
        if spins && !state.spins {
            tracing::warn!(plugin = instance.name(), "a plugin's run uses a whole processor");
        }
        state.spins = spins;
    }

    fn show(&mut self, core: &Core, now: Instant) {
        let current = self.slot.current();
        let state = self.slot.state();
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let shown = [
            i64::from(current.is_some()),
            i64::try_from(state.restarts).unwrap_or(i64::MAX),
            count(current.map_or(0, |instance| instance.stuck())),
            count(state.left_behind(now)),
            i64::try_from(state.generation).unwrap_or(i64::MAX),
            state
                .next_try
                .map_or(0, |at| at.saturating_duration_since(now).as_secs_f64().ceil() as i64),
        ];
        drop(state);
        if self.shown == Some(shown) {
            return;
        }
        self.shown = Some(shown);
        let names = ["up", "restarts", "stuck", "left_behind", "generation", "next_try_s"];
        for (what, value) in names.into_iter().zip(shown) {
            core.metrics.set(self.slot.name(), what, value);
        }
    }
}

/// Finds and loads the file, waits for writes under way, and runs `init`.
fn start(slot: &Slot, services: Registered, dirs: &[PathBuf], purpose: Purpose) -> Started {
    let settings = slot.settings();
    let file = loader::find(&settings.plugin, dirs)?;
    let loaded = load(slot, &file)?;
    let closed = slot.gate.close(WRITES_END);
    let instance = Instance::start(
        slot.name(),
        file,
        loaded.table,
        &settings.configuration,
        services,
        purpose,
    )?;
    Ok((instance, closed))
}

/// The file in the process. What is mapped stays so, so a file that was tried before is not mapped again, whatever came of it.
fn load(slot: &Slot, file: &Path) -> Result<Arc<Loaded>, LoadError> {
    let identity = Identity::of(file);
    let before = {
        let state = slot.state();
        if let Some((_, error)) = state.refused.as_ref().filter(|(refused, _)| Some(*refused) == identity) {
            return Err(LoadError::Again(Arc::clone(error)));
        }
        state.loaded.clone()
    };
    if let Some(before) = before.as_ref().filter(|before| Some(before.identity) == identity) {
        return Ok(Arc::clone(before));
    }
    match loader::load(file, before.as_deref()) {
        Ok(loaded) => {
            let loaded = Arc::new(loaded);
            slot.state().loaded = Some(Arc::clone(&loaded));
            Ok(loaded)
        }
        Err(error @ LoadError::Abi(..)) => {
            let error = Arc::new(error);
            slot.state().refused = identity.map(|identity| (identity, Arc::clone(&error)));
            Err(LoadError::Again(error))
        }
        Err(error) => Err(error),
    }
}
