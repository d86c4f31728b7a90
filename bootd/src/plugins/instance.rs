//! One plugin instance: its threads, its calls, its deadlines, its end.
//!
//! A call is a job on the instance's own threads, behind a bounded queue: requests on a small pool, look-ups of nodes on a thread beside it,
//! so that slow requests do not delay a node just added, and what is passed on to another service on threads beside both. Who asked waits for
//! the answer until the deadline and then goes on without it. A
//! thread that does not come back is counted and never killed. An instance that is retired takes no new call, finishes those that it has,
//! is told to stop, and is freed by its own thread: whoever retires it waits for nothing.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bootd_abi as abi;
use bootd_sdk::mac::Mac;
use bootd_sdk::text::{borrowed, empty, lent, taken};
use bootd_sdk::wire::{Answer, Configuration, Route, Setup};
use tokio::sync::oneshot;

use super::gate::Pass;
use super::services::{Registered, in_call};
use super::{LoadError, Purpose, locked};

/// Threads that answer requests, a plugin.
const THREADS: usize = 2;
/// Threads for requests that may take long, a plugin that has such routes.
const PATIENT: usize = 2;
/// The thread for look-ups, among all.
const RESOLVE: usize = THREADS;
/// All threads for calls.
const ALL: usize = THREADS + 1 + PATIENT;
/// Requests that wait for a thread, a plugin; more are answered with 503.
const QUEUE: usize = 256;
/// Look-ups that wait for their thread, a plugin; more are left to the clients' retries.
const RESOLVE_QUEUE: usize = 64;
/// Requests that may take long and wait for a thread, a plugin; more are answered with 503.
const PATIENT_QUEUE: usize = 16;
/// Bytes that an answer of a plugin may have, in JSON. A plugin makes as many at once as it has threads; what is sent of them has a bound of
/// its own.
pub(super) const MOST_ANSWER: usize = 64 * 1024 * 1024;
/// The niceness of a plugin's threads: one that spins leaves the processor to packets and to what is sent to nodes.
const NICE: i32 = 7;
/// The niceness of `run`, for which nobody waits.
const NICE_RUN: i32 = 10;

/// A call that brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Too many calls wait already.
    #[error("the plugin's queue is full")]
    QueueFull,
    /// No answer within the deadline.
    #[error("the plugin did not answer in time")]
    Deadline,
    /// No instance of it is in service just now.
    #[error("the plugin is not running (see bootd plugins)")]
    NotRunning,
    /// This instance takes no more calls; another one does.
    #[error("the plugin's instance is ending")]
    Retired,
    /// The plugin has no function for it.
    #[error("the plugin has no such function")]
    Missing,
    /// The plugin failed; its own words.
    #[error("the plugin failed: {0}")]
    Failed(String),
    /// The plugin's answer is not understood.
    #[error("the plugin's answer is not understood: {0}")]
    Nonsense(String),
}

impl CallError {
    /// The metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Deadline => "deadline",
            Self::NotRunning => "not_running",
            Self::Retired => "retired",
            Self::Missing => "no_function",
            Self::Failed(_) => "failed",
            Self::Nonsense(_) => "nonsense",
        }
    }
}

/// Why an instance must be replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// It panicked; its state may be half written.
    #[error("{0}")]
    Panicked(String),
    /// Its background work ended with this status.
    #[error("its run ended with status {0}")]
    RunEnded(abi::Status),
    /// All threads for requests, for long ones, or the one for look-ups are in calls that are over their deadline.
    #[error("its calls do not come back: {0} are over their deadline")]
    Stuck(usize),
}

impl Trouble {
    /// The metric label.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Panicked(_) => "panicked",
            Self::RunEnded(_) => "run_ended",
            Self::Stuck(_) => "stuck",
        }
    }
}

/// A plugin in service.
pub(super) struct Instance {
    inner: Arc<Inner>,
    requests: Jobs,
    resolves: Jobs,
    patient: Jobs,
}

/// Which threads answer a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Those for all.
    Quick,
    /// Those for routes with a deadline of their own.
    Patient,
}

impl Lane {
    /// For a route.
    pub fn of(route: &Route) -> Self {
        match route.deadline_ms {
            Some(_) => Self::Patient,
            None => Self::Quick,
        }
    }
}

/// What the instance's threads hold.
struct Inner {
    name: String,
    file: PathBuf,
    plugin: &'static abi::Plugin,
    /// What `init` made; freed by the thread that ends the instance.
    pointer: Pointer,
    services: Registered,
    setup: Setup,
    started: Instant,
    /// The deadline of the call that each thread is in: the pool's, then the one for look-ups, then those for long calls.
    busy: [Mutex<Option<Instant>>; ALL],
    trouble: Mutex<Option<Trouble>>,
    /// The thread of `run`, for its use of the processor.
    run_thread: Mutex<Option<rustix::process::Pid>>,
    ended: AtomicBool,
}

#[derive(Clone, Copy)]
struct Pointer(*mut c_void);

// SAFETY: the ABI says that an instance's functions may be called from several threads at once.
unsafe impl Send for Pointer {}
// SAFETY: as above.
unsafe impl Sync for Pointer {}

enum Call {
    Handle(Arc<str>),
    Resolve(Mac),
}

type CallResult = Result<Option<String>, CallError>;

/// Where an answer goes: to a task of the HTTP runtime, or to a thread.
enum Reply {
    Task(oneshot::Sender<Result<Answer, CallError>>),
    Thread(SyncSender<CallResult>),
}

struct Job {
    call: Call,
    reply: Reply,
    deadline: Instant,
    /// What its thread may take, from when it begins: one that waited long for its turn does not hang when it takes its time.
    within: Duration,
    /// A write holds it until its call returns.
    _pass: Option<Pass>,
}

/// Jobs that wait for a thread.
struct Jobs {
    /// `None`: retired.
    sender: Mutex<Option<SyncSender<Job>>>,
    queue: Arc<Mutex<Receiver<Job>>>,
}

impl Jobs {
    fn new(most: usize) -> Self {
        let (sender, queue) = sync_channel(most);
        Self {
            sender: Mutex::new(Some(sender)),
            queue: Arc::new(Mutex::new(queue)),
        }
    }

    fn submit(&self, job: Job) -> Result<(), CallError> {
        let sender = locked(&self.sender);
        let sender = sender.as_ref().ok_or(CallError::Retired)?;
        sender.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => CallError::QueueFull,
            TrySendError::Disconnected(_) => CallError::Retired,
        })
    }
}

impl Instance {
    /// Runs `init` and starts the instance's threads: the pool, the one for look-ups, and the one that, to serve, calls `run` and ends
    /// the instance.
    pub(super) fn start(
        name: &str,
        file: PathBuf,
        plugin: &'static abi::Plugin,
        configuration: &Configuration,
        services: Registered,
        purpose: Purpose,
    ) -> Result<Arc<Self>, LoadError> {
        let text = serde_json::to_string(configuration).map_err(|error| LoadError::Setup(error.to_string()))?;
        let init = plugin
            .init
            .ok_or_else(|| LoadError::Abi(file.clone(), "init is NULL".into()))?;
        let (mut pointer, mut out) = (std::ptr::null_mut(), empty());
        // SAFETY: the table was checked by the loader; the host's table is leaked; the text is lent for the call.
        let status = unsafe { init(services.table(), borrowed(&text), &raw mut pointer, &raw mut out) };
        // SAFETY: the plugin gave it, or nobody wrote to it.
        let text = unsafe { taken(out, MOST_ANSWER) }.unwrap_or_default();
        match status {
            abi::status::OK => {}
            abi::status::BAD_ARGUMENT => return Err(LoadError::Settings(text)),
            _ => return Err(LoadError::Init(text)),
        }
        let setup: Setup = match serde_json::from_str(&text) {
            Ok(setup) => setup,
            Err(error) => {
                services.stop();
                if let Some(free) = plugin.free {
                    // SAFETY: what `init` just made; nothing else uses it.
                    unsafe { free(pointer) };
                }
                return Err(LoadError::Setup(error.to_string()));
            }
        };
        services.subscribe(&setup.events);
        let instance = Arc::new(Self {
            inner: Arc::new(Inner {
                name: name.into(),
                file,
                plugin,
                pointer: Pointer(pointer),
                services,
                setup,
                started: Instant::now(),
                busy: Default::default(),
                trouble: Mutex::default(),
                run_thread: Mutex::default(),
                ended: AtomicBool::new(false),
            }),
            requests: Jobs::new(QUEUE),
            resolves: Jobs::new(RESOLVE_QUEUE),
            patient: Jobs::new(PATIENT_QUEUE),
        });
        match instance.spawn(purpose) {
            Ok(()) => Ok(instance),
            Err(error) => {
                instance.retire();
                Err(error)
            }
        }
    }

    fn spawn(&self, purpose: Purpose) -> Result<(), LoadError> {
        let mut workers = Vec::new();
        let mut failed = None;
        let mut spawn = |number: usize, thread: &str, jobs: &Jobs| {
            let (inner, queue) = (Arc::clone(&self.inner), Arc::clone(&jobs.queue));
            match thread_of(&self.inner.name, thread, NICE, move || inner.work(number, &queue)) {
                Ok(worker) => workers.push(worker),
                Err(error) => failed = Some(error),
            }
        };
        if !self.inner.setup.routes.is_empty() {
            for number in 0..THREADS {
                spawn(number, &number.to_string(), &self.requests);
            }
        }
        if self.inner.setup.provides_nodes {
            spawn(RESOLVE, "resolve", &self.resolves);
        }
        if self.inner.setup.routes.iter().any(|route| route.deadline_ms.is_some()) {
            for number in RESOLVE + 1..ALL {
                spawn(number, &number.to_string(), &self.patient);
            }
        }
        // Even an instance whose threads could not start has one that ends it.
        let inner = Arc::clone(&self.inner);
        let keeper = thread_of(&self.inner.name, "run", NICE_RUN, move || inner.live(purpose, workers));
        match (failed, keeper) {
            (Some(error), _) | (None, Err(error)) => Err(LoadError::Thread(error)),
            (None, Ok(_)) => Ok(()),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.inner.name
    }

    pub(super) fn file(&self) -> &Path {
        &self.inner.file
    }

    pub(super) fn version(&self) -> String {
        // SAFETY: the ABI promises the text for the process's life.
        unsafe { lent(self.inner.plugin.version) }.unwrap_or("?").to_owned()
    }

    pub(super) fn setup(&self) -> &Setup {
        &self.inner.setup
    }

    /// How long it has been there.
    pub(super) fn age(&self) -> Duration {
        self.inner.started.elapsed()
    }

    /// It is in service from now on: what it published takes effect, and its `run` begins.
    pub(super) fn enter_service(&self) {
        self.inner.services.enter_service();
    }

    /// It hangs: besides being retired, what waits for its threads is given back to whoever asked.
    pub(super) fn abandon(&self) {
        self.retire();
        for jobs in [&self.requests, &self.resolves, &self.patient] {
            // Held by a worker only while it waits for a job, and then there is none.
            if let Ok(queue) = jobs.queue.try_lock() {
                while queue.try_recv().is_ok() {}
            }
        }
    }

    /// Calls that are over their deadline and have not come back.
    pub(super) fn stuck(&self) -> usize {
        self.inner
            .over_deadline(Instant::now())
            .iter()
            .filter(|over| **over)
            .count()
    }

    /// Why it must be replaced, if it must.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        if let Some(trouble) = &*locked(&self.inner.trouble) {
            return Some(trouble.clone());
        }
        let now = Instant::now().checked_sub(STUCK_FOR)?;
        let over = self.inner.over_deadline(now);
        let all = |threads: &[bool]| threads.iter().all(|over| *over);
        let stuck = all(&over[..THREADS]) || over[RESOLVE] || all(&over[RESOLVE + 1..]);
        stuck.then(|| Trouble::Stuck(self.stuck()))
    }

    /// The time that `run` has used of a processor or, on a busy machine, has waited for one.
    pub(super) fn run_time(&self) -> Option<Duration> {
        let thread = (*locked(&self.inner.run_thread))?;
        let stat = std::fs::read_to_string(format!("/proc/self/task/{}/schedstat", thread.as_raw_nonzero())).ok()?;
        let mut times = stat.split_whitespace().map_while(|field| field.parse().ok());
        Some(Duration::from_nanos(times.next()?) + Duration::from_nanos(times.next()?))
    }

    /// Whether all its threads have come back and it is freed.
    pub(super) fn has_ended(&self) -> bool {
        self.inner.ended.load(Ordering::Acquire)
    }

    /// Takes no more calls, finishes those that it has, and ends. Waits for nothing.
    pub(super) fn retire(&self) {
        for jobs in [&self.requests, &self.resolves, &self.patient] {
            drop(locked(&jobs.sender).take());
        }
        self.inner.services.stop();
    }

    /// Sends a request and waits for its answer, at most until the deadline. Dropped while waiting: the answer is thrown away; a write
    /// keeps its pass until the call returns.
    pub(super) async fn handle(
        &self,
        text: &Arc<str>,
        lane: Lane,
        pass: Option<Pass>,
        deadline: Instant,
    ) -> Result<Answer, CallError> {
        let (reply, wait) = oneshot::channel();
        let (jobs, within) = match lane {
            Lane::Quick => (&self.requests, Duration::ZERO),
            Lane::Patient => (&self.patient, deadline.saturating_duration_since(Instant::now())),
        };
        jobs.submit(Job {
            call: Call::Handle(Arc::clone(text)),
            reply: Reply::Task(reply),
            deadline,
            within,
            _pass: pass,
        })?;
        match tokio::time::timeout_at(deadline.into(), wait).await {
            Ok(Ok(result)) => result,
            // Nobody will answer this job; another instance may.
            Ok(Err(_)) => Err(CallError::Retired),
            Err(_) => Err(CallError::Deadline),
        }
    }

    /// Looks up a MAC and waits for the answer, at most until the deadline. For threads that may wait.
    pub(super) fn resolve(&self, mac: Mac, deadline: Duration) -> Result<Option<serde_json::Value>, CallError> {
        if self.inner.over_deadline(Instant::now())[RESOLVE] {
            // Who waits behind a call that hangs waits for nothing.
            return Err(CallError::Deadline);
        }
        let (reply, wait) = sync_channel(1);
        self.resolves.submit(Job {
            call: Call::Resolve(mac),
            reply: Reply::Thread(reply),
            deadline: Instant::now() + deadline,
            within: Duration::ZERO,
            _pass: None,
        })?;
        let text = match wait.recv_timeout(deadline) {
            Ok(result) => result?,
            Err(RecvTimeoutError::Timeout) => return Err(CallError::Deadline),
            Err(RecvTimeoutError::Disconnected) => return Err(CallError::Failed("its thread is gone".into())),
        };
        text.map(|text| serde_json::from_str(&text).map_err(|error| CallError::Nonsense(error.to_string())))
            .transpose()
    }
}

impl Inner {
    /// The life of an instance after `init`: its background work, then the end of everything.
    fn live(&self, purpose: Purpose, workers: Vec<JoinHandle<()>>) {
        let in_service = self.services.wait_for_service();
        if let (Some(run), Purpose::Serve, true) = (self.plugin.run, purpose, in_service) {
            *locked(&self.run_thread) = Some(rustix::thread::gettid());
            // SAFETY: what `init` made; `run` is called once.
            let status = unsafe { run(self.pointer.0) };
            *locked(&self.run_thread) = None;
            if status != abi::status::OK && !self.services.is_stopping() {
                self.troubled(match status {
                    abi::status::PANICKED => Trouble::Panicked("its run panicked".into()),
                    other => Trouble::RunEnded(other),
                });
            }
        }
        self.services.wait_for_the_end();
        for worker in workers {
            // A worker catches nothing because nothing in it panics; one that did is gone all the same.
            let _ = worker.join();
        }
        if let Some(free) = self.plugin.free {
            // SAFETY: `run` returned and the workers ended, so nothing uses it any more; this thread runs once.
            unsafe { free(self.pointer.0) };
        }
        self.ended.store(true, Ordering::Release);
    }

    /// Answers jobs until the instance is retired and none is left.
    fn work(&self, number: usize, queue: &Mutex<Receiver<Job>>) {
        loop {
            let job = locked(queue).recv();
            let Ok(job) = job else { return };
            // Whoever asked has gone on already.
            if Instant::now() > job.deadline {
                continue;
            }
            *locked(&self.busy[number]) = Some(job.deadline.max(Instant::now() + job.within));
            let result = in_call(|| self.call(&job.call));
            *locked(&self.busy[number]) = None;
            match job.reply {
                // Whoever asked has gone on: a large answer is not read for nobody.
                Reply::Task(reply) if reply.is_closed() => {}
                // Read on this thread, so that no more of them are in memory twice than there are threads, and packets' threads wait for
                // none.
                Reply::Task(reply) => drop(reply.send(result.and_then(answer_of))),
                Reply::Thread(reply) => drop(reply.try_send(result)),
            }
        }
    }

    fn call(&self, call: &Call) -> CallResult {
        let mut out = empty();
        let status = match call {
            Call::Handle(request) => {
                let handle = self.plugin.handle.ok_or(CallError::Missing)?;
                // SAFETY: what `init` made; the request is lent for the call.
                unsafe { handle(self.pointer.0, borrowed(request), &raw mut out) }
            }
            Call::Resolve(mac) => {
                let Some(resolve) = self.plugin.resolve else {
                    return Ok(None);
                };
                let mac = mac.to_string();
                // SAFETY: as above.
                unsafe { resolve(self.pointer.0, borrowed(&mac), &raw mut out) }
            }
        };
        // SAFETY: the plugin gave it, or nobody wrote to it.
        let text = unsafe { taken(out, MOST_ANSWER) };
        let text = text.ok_or_else(|| CallError::Nonsense(format!("more than {MOST_ANSWER} bytes")))?;
        match status {
            abi::status::OK => Ok(Some(text)),
            abi::status::NONE => Ok(None),
            abi::status::PANICKED => {
                self.troubled(Trouble::Panicked(text.clone()));
                Err(CallError::Failed(text))
            }
            _ => Err(CallError::Failed(text)),
        }
    }

    /// The first trouble is the reason.
    fn troubled(&self, trouble: Trouble) {
        locked(&self.trouble).get_or_insert(trouble);
    }

    /// Which threads are in a call that is over its deadline.
    fn over_deadline(&self, now: Instant) -> [bool; ALL] {
        std::array::from_fn(|at| locked(&self.busy[at]).is_some_and(|deadline| deadline < now))
    }
}

/// What a plugin answered to a request.
fn answer_of(text: Option<String>) -> Result<Answer, CallError> {
    let text = text.ok_or_else(|| CallError::Nonsense("no answer".into()))?;
    let answer: Answer = serde_json::from_str(&text).map_err(|error| CallError::Nonsense(error.to_string()))?;
    if !(200..600).contains(&answer.status) {
        return Err(CallError::Nonsense(format!("status {}", answer.status)));
    }
    Ok(answer)
}

/// How long all threads must be over their deadlines before the instance is replaced: a moment of slowness is no hang.
const STUCK_FOR: Duration = Duration::from_secs(1);

fn thread_of(
    plugin: &str,
    name: &str,
    nice: i32,
    f: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("{plugin}-{name}"))
        .spawn(move || {
            // On Linux this is the thread's own. Where it is not allowed, the plugin is as important as packets.
            let _ = rustix::process::setpriority_process(None, nice);
            f();
        })
}
