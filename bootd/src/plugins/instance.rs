//! One plugin instance: its threads, its calls, its deadlines.
//!
//! A call is a job on the instance's own threads, behind a bounded queue: requests on a small pool, look-ups of nodes on a thread beside it,
//! so that slow requests do not delay a node just added. Who asked waits for the answer until the deadline and then goes on without it. A
//! thread that does not come back is counted and never killed.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bootd_abi as abi;
use bootd_sdk::mac::Mac;
use bootd_sdk::text::{borrowed, empty, lent, taken};
use bootd_sdk::wire::{Answer, Configuration, Health, Request, Setup};
use tokio::sync::oneshot;

use super::services::Services;
use super::{Core, LoadError, Purpose, locked};

/// Threads that answer requests, a plugin.
const THREADS: usize = 2;
/// Requests that wait for a thread, a plugin; more are answered with 503.
const QUEUE: usize = 256;
/// Look-ups that wait for their thread, a plugin; more are left to the clients' retries.
const RESOLVE_QUEUE: usize = 64;
/// Bytes that an answer of a plugin may have.
const MOST_ANSWER: usize = 16 * 1024 * 1024;

/// A call that brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Too many calls wait already.
    #[error("the plugin's queue is full")]
    QueueFull,
    /// No answer within the deadline.
    #[error("the plugin did not answer in time")]
    Deadline,
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
            Self::Missing => "no_function",
            Self::Failed(_) => "failed",
            Self::Nonsense(_) => "nonsense",
        }
    }
}

/// A plugin in service.
pub(super) struct Instance {
    name: String,
    file: PathBuf,
    plugin: &'static abi::Plugin,
    /// What `init` made.
    pointer: Pointer,
    services: &'static Services,
    provides_nodes: bool,
    requests: Jobs,
    resolves: Jobs,
    /// The deadline of the call that each thread is in: the pool's, then the one for look-ups.
    busy: [Mutex<Option<Instant>>; THREADS + 1],
    background: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Clone, Copy)]
struct Pointer(*mut c_void);

// SAFETY: the ABI says that an instance's functions may be called from several threads at once.
unsafe impl Send for Pointer {}
// SAFETY: as above.
unsafe impl Sync for Pointer {}

enum Call {
    Handle(String),
    Resolve(Mac),
}

type CallResult = Result<Option<String>, CallError>;

/// Where an answer goes: to a task of the HTTP runtime, or to a thread.
enum Reply {
    Task(oneshot::Sender<CallResult>),
    Thread(SyncSender<CallResult>),
}

struct Job {
    call: Call,
    reply: Reply,
    deadline: Instant,
}

/// Jobs that wait for a thread.
struct Jobs {
    sender: SyncSender<Job>,
    queue: Arc<Mutex<Receiver<Job>>>,
}

impl Jobs {
    fn new(most: usize) -> Self {
        let (sender, queue) = sync_channel(most);
        let queue = Arc::new(Mutex::new(queue));
        Self { sender, queue }
    }
}

impl Instance {
    /// Runs `init`.
    pub(super) fn start(
        name: &str,
        file: PathBuf,
        plugin: &'static abi::Plugin,
        configuration: &Configuration,
        core: Core,
    ) -> Result<(Arc<Self>, Setup), LoadError> {
        let services = Services::leak(name, core);
        let text = serde_json::to_string(configuration).map_err(|error| LoadError::Setup(error.to_string()))?;
        let init = plugin
            .init
            .ok_or_else(|| LoadError::Abi(file.clone(), "init is NULL".into()))?;
        let (mut pointer, mut out) = (std::ptr::null_mut(), empty());
        // SAFETY: the table was checked by the loader; the services are leaked; the text is lent for the call.
        let status = unsafe { init(services.table(), borrowed(&text), &raw mut pointer, &raw mut out) };
        // SAFETY: the plugin gave it, or nobody wrote to it.
        let text = unsafe { taken(out, MOST_ANSWER) }.unwrap_or_default();
        match status {
            abi::status::OK => {}
            abi::status::BAD_ARGUMENT => return Err(LoadError::Settings(text)),
            _ => return Err(LoadError::Init(text)),
        }
        let setup: Setup = serde_json::from_str(&text).map_err(|error| LoadError::Setup(error.to_string()))?;
        let instance = Self {
            name: name.into(),
            file,
            plugin,
            pointer: Pointer(pointer),
            services,
            provides_nodes: setup.provides_nodes,
            requests: Jobs::new(QUEUE),
            resolves: Jobs::new(RESOLVE_QUEUE),
            busy: Default::default(),
            background: Mutex::default(),
        };
        Ok((Arc::new(instance), setup))
    }

    /// Starts its threads: the pool, the one for look-ups, and to serve also `run`.
    pub(super) fn spawn(self: &Arc<Self>, setup: &Setup, purpose: Purpose) -> Result<(), LoadError> {
        if !setup.routes.is_empty() {
            for number in 0..THREADS {
                self.spawn_worker(number, &number.to_string(), &self.requests)?;
            }
        }
        if setup.provides_nodes {
            self.spawn_worker(THREADS, "resolve", &self.resolves)?;
        }
        let (Some(run), Purpose::Serve) = (self.plugin.run, purpose) else {
            return Ok(());
        };
        let instance = Arc::clone(self);
        let background = std::thread::Builder::new()
            .name(format!("{}-run", self.name))
            .spawn(move || {
                let pointer = instance.pointer;
                // SAFETY: what `init` made; `run` is called once.
                let status = unsafe { run(pointer.0) };
                if !instance.services.is_stopping() && status != abi::status::OK {
                    tracing::error!(plugin = instance.name, status, "a plugin's background work ended");
                }
            });
        *locked(&self.background) = Some(background.map_err(LoadError::Thread)?);
        Ok(())
    }

    fn spawn_worker(self: &Arc<Self>, number: usize, name: &str, jobs: &Jobs) -> Result<(), LoadError> {
        let (instance, queue) = (Arc::clone(self), Arc::clone(&jobs.queue));
        let name = format!("{}-{name}", self.name);
        let spawned = std::thread::Builder::new()
            .name(name)
            .spawn(move || instance.work(number, &queue));
        spawned.map(drop).map_err(LoadError::Thread)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn version(&self) -> String {
        // SAFETY: the ABI promises the text for the process's life.
        unsafe { lent(self.plugin.version) }.unwrap_or("?").to_owned()
    }

    pub(super) fn health(&self) -> Health {
        self.services.health()
    }

    pub(super) fn bumps(&self) -> u64 {
        self.services.bumps()
    }

    pub(super) fn provides_nodes(&self) -> bool {
        self.provides_nodes
    }

    /// Calls that are over their deadline and have not come back.
    pub(super) fn stuck(&self) -> usize {
        let now = Instant::now();
        self.busy
            .iter()
            .filter(|busy| locked(busy).is_some_and(|deadline| deadline < now))
            .count()
    }

    /// Sends a request and waits for its answer, at most until the deadline. Dropped while waiting: the answer is thrown away.
    pub(super) async fn handle(&self, request: &Request, deadline: Duration) -> Result<Answer, CallError> {
        let text = serde_json::to_string(request).map_err(|error| CallError::Nonsense(error.to_string()))?;
        let (reply, wait) = oneshot::channel();
        self.submit(Call::Handle(text), Reply::Task(reply), deadline)?;
        let text = match tokio::time::timeout(deadline, wait).await {
            Ok(Ok(result)) => result?,
            Ok(Err(_)) => return Err(CallError::Failed("its thread is gone".into())),
            Err(_) => return Err(CallError::Deadline),
        };
        let text = text.ok_or_else(|| CallError::Nonsense("no answer".into()))?;
        let answer: Answer = serde_json::from_str(&text).map_err(|error| CallError::Nonsense(error.to_string()))?;
        if !(200..600).contains(&answer.status) {
            return Err(CallError::Nonsense(format!("status {}", answer.status)));
        }
        Ok(answer)
    }

    /// Looks up a MAC and waits for the answer, at most until the deadline. For threads that may wait.
    pub(super) fn resolve(&self, mac: Mac, deadline: Duration) -> Result<Option<serde_json::Value>, CallError> {
        let (reply, wait) = sync_channel(1);
        self.submit(Call::Resolve(mac), Reply::Thread(reply), deadline)?;
        let text = match wait.recv_timeout(deadline) {
            Ok(result) => result?,
            Err(RecvTimeoutError::Timeout) => return Err(CallError::Deadline),
            Err(RecvTimeoutError::Disconnected) => return Err(CallError::Failed("its thread is gone".into())),
        };
        text.map(|text| serde_json::from_str(&text).map_err(|error| CallError::Nonsense(error.to_string())))
            .transpose()
    }

    pub(super) fn tell_to_stop(&self) {
        self.services.stop();
    }

    /// Waits for `run`; `false` when it did not return in time.
    pub(super) fn join(&self, within: Duration) -> bool {
        let Some(background) = locked(&self.background).take() else {
            return true;
        };
        let until = Instant::now() + within;
        while !background.is_finished() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let _ = background.join();
        true
    }

    fn submit(&self, call: Call, reply: Reply, deadline: Duration) -> Result<(), CallError> {
        let job = Job {
            call,
            reply,
            deadline: Instant::now() + deadline,
        };
        let jobs = match job.call {
            Call::Handle(_) => &self.requests,
            Call::Resolve(_) => &self.resolves,
        };
        jobs.sender.try_send(job).map_err(|_| CallError::QueueFull)
    }

    fn work(&self, number: usize, queue: &Mutex<Receiver<Job>>) {
        loop {
            let job = locked(queue).recv();
            let Ok(job) = job else { return };
            // Whoever asked has gone on already.
            if Instant::now() > job.deadline {
                continue;
            }
            *locked(&self.busy[number]) = Some(job.deadline);
            let result = self.call(&job.call);
            *locked(&self.busy[number]) = None;
            match job.reply {
                Reply::Task(reply) => drop(reply.send(result)),
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
            _ => Err(CallError::Failed(text)),
        }
    }
}
