//! Plugins: loaded, kept at arm's length, asked, and started again.
//!
//! `loader` brings a shared object into the process; `services` is what it may ask of us (with `fetch`, `mailbox` and `numbers`);
//! `instance` calls it, on threads of its own; `slot` is one configured plugin with the instance that serves, `supervisor` starts and
//! replaces instances; `routes` says which plugin answers a path; `kept` answers requests, from memory where an answer may be served
//! again; `lookups` asks for clients that nobody knows; `conformance` checks a plugin file. [`Plugins`] ties them together. Nobody who has
//! a packet or a connection in hand waits for a plugin longer than the deadline. Plugins are trusted code: a crash of one is a crash of
//! bootd; a hang, a panic or nonsense is not.

mod backoff;
pub mod conformance;
mod fetch;
mod gate;
mod instance;
mod kept;
mod loader;
mod lookups;
mod mailbox;
mod numbers;
mod routes;
mod services;
mod slot;
mod supervisor;

pub use instance::{CallError, Lane};
pub use kept::{Asked, Freshness, Ready};
pub use loader::LoadError;
pub use routes::Routed;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bootd_sdk::mac::Mac;
use bootd_sdk::wire::{self, Answer, Configuration, EventKind, Happening, Health, Publication, Request};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::config::{Config, ConfigError, Mistake, Mode, PluginConfig};
use crate::dhcp::{Lookup, Then};
use crate::inventory::{Inventory, ServedSubnets};
use crate::metrics::Metrics;
use crate::state::Store;
use fetch::Fetcher;
use kept::Kept;
use lookups::{Lookups, Wanted};
use mailbox::Events;
use routes::Routes;
use slot::{Settings, Slot};
use supervisor::{Supervisor, Word};

/// How long a plugin may take to look up a MAC.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(1);
/// How long the start waits for plugins; one that takes longer comes into service later.
const START: Duration = Duration::from_secs(3);
/// How long the end waits for plugins.
const END: Duration = Duration::from_secs(2);

/// What plugins work on.
#[derive(Clone)]
pub struct Core {
    /// The nodes.
    pub inventory: Arc<Inventory>,
    /// What survives; none for `bootd check`.
    pub store: Option<Store>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    events: Arc<Events>,
    fetcher: Arc<Fetcher>,
}

impl Core {
    /// What plugins of one bootd work on.
    pub fn new(inventory: Arc<Inventory>, store: Option<Store>, metrics: Arc<Metrics>) -> Self {
        Self {
            inventory,
            store,
            metrics,
            events: Arc::default(),
            fetcher: Arc::default(),
        }
    }
}

/// What plugins are loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To serve: their background threads run.
    Serve,
    /// To look: they are asked, but do nothing by themselves.
    Check,
}

/// How a plugin is, for `bootd plugins`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginStatus {
    /// Its name in the configuration.
    pub name: String,
    /// `starting`, `running`, `degraded` (mistakes in its data, stuck calls, a `run` that spins), `restarting` or `failed`.
    pub state: String,
    /// Its own version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The file that was loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// What it says of itself, or why it is out of service.
    pub text: String,
    /// Why its last instance was replaced, or a newer one was not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Starts that followed a failure.
    pub restarts: u64,
    /// Seconds until the next start, when one is to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try_s: Option<u64>,
    /// Instances that were in service so far.
    pub generation: u64,
    /// Instances and starts that never came back.
    pub left_behind: usize,
    /// Mistakes in its data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<String>,
    /// Its routes, as `METHOD prefix`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// Calls that are over their deadline and have not come back.
    pub stuck: usize,
}

/// What came of a reload.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reloaded {
    /// The plugin.
    pub name: String,
    /// Instances that were in service so far.
    pub generation: u64,
    /// Why the new one is not in service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// All configured plugins: those in service, and what keeps the others out.
pub struct Plugins {
    core: Core,
    deadline: ArcSwap<Duration>,
    slots: Vec<Arc<Slot>>,
    routes: Arc<ArcSwap<Routes>>,
    kept: Kept,
    lookups: Lookups,
    words: SyncSender<Word>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

impl Plugins {
    /// Starts the plugins and waits a moment for them. One that cannot be loaded is left out and reported; the others serve.
    pub fn load(config: &Config, core: Core, purpose: Purpose) -> Arc<Self> {
        let slots: Vec<Arc<Slot>> = config
            .plugins
            .iter()
            .map(|plugin| Arc::new(Slot::new(settings(config, plugin), core.clone())))
            .collect();
        Self::with(slots, config, core, purpose)
    }

    fn with(slots: Vec<Arc<Slot>>, config: &Config, core: Core, purpose: Purpose) -> Arc<Self> {
        let routes = Arc::<ArcSwap<Routes>>::default();
        let (mut supervisor, words, heard) =
            Supervisor::begin(&slots, core.clone(), &config.plugin_dirs, purpose, Arc::clone(&routes));
        supervisor.settle(&heard, START);
        let (lookups, wanted) = Lookups::new();
        let plugins = Arc::new(Self {
            deadline: ArcSwap::from_pointee(config.http.plugin_deadline),
            slots,
            routes,
            kept: Kept::new(),
            lookups,
            words,
            supervisor: Mutex::default(),
            core,
        });
        if purpose == Purpose::Serve {
            let supervised = thread("plugins", move || supervisor.run(&heard));
            *locked(&plugins.supervisor) = supervised;
            let asked = Arc::downgrade(&plugins);
            thread("resolve", move || look_up(&asked, &wanted));
        }
        plugins
    }

    /// Which route answers a request.
    pub fn route(&self, method: &str, path: &str) -> Routed {
        self.routes.load().find(method, path)
    }

    /// The names of all plugins, in configuration order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().map(|slot| slot.name())
    }

    /// Asks a plugin on behalf of an operator; nothing is kept.
    pub async fn ask(
        &self,
        plugin: usize,
        request: &Request,
        lane: Lane,
        within: Duration,
    ) -> Result<Answer, CallError> {
        let slot = &self.slots[plugin];
        let answer = slot.ask(request, lane, within).await;
        match &answer {
            Ok(_) => self.core.metrics.done(slot.name(), "answer"),
            Err(error) => self.core.metrics.refused(PART, error.label(), &slot.name(), error),
        }
        answer
    }

    /// Plugins that are configured and not in service, and why.
    pub fn out_of_service(&self) -> Vec<(&str, Option<Arc<LoadError>>)> {
        let out = self.slots.iter().filter(|slot| slot.current().is_none());
        out.map(|slot| (slot.name(), slot.state().error.clone())).collect()
    }

    /// The mistakes that plugins found in their settings, which are part of bootd.toml.
    pub fn settings_are_good(&self, config: &Config) -> Result<(), ConfigError> {
        let wrong = self.slots.iter().enumerate().filter_map(|(at, slot)| {
            let error = slot.state().error.clone()?;
            matches!(*error, LoadError::Settings(_)).then(|| Mistake {
                key: format!("plugin[{at}].config"),
                text: format!("{}: {error}", slot.name()),
            })
        });
        let mistakes: Vec<Mistake> = wrong.collect();
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::Mistakes {
                path: config.path.clone(),
                mistakes,
            })
        }
    }

    /// What the plugins say of themselves.
    pub fn health(&self) -> impl Iterator<Item = (&str, Health)> {
        self.slots.iter().map(|slot| (slot.name(), slot.shared.health()))
    }

    /// What the plugins that publish nodes say of themselves.
    pub fn health_of_providers(&self) -> impl Iterator<Item = (&str, Health)> {
        let providers = self.slots.iter().filter(|slot| {
            let current = slot.current();
            current.is_some_and(|instance| instance.setup().provides_nodes)
        });
        providers.map(|slot| (slot.name(), slot.shared.health()))
    }

    /// Tells plugins that want to know what happened.
    pub fn tell(&self, kind: EventKind, what: impl FnOnce() -> Happening) {
        self.core.events.tell(kind, what);
    }

    /// A client that the inventory does not know: the plugins are asked for its MAC, unless they were a moment ago. Never waits.
    pub fn unknown(&self, mac: Mac, then: Option<Then>) -> Lookup {
        let providers = |slot: &Arc<Slot>| slot.current().is_some_and(|instance| instance.setup().provides_nodes);
        if !self.slots.iter().any(providers) {
            return Lookup::Nobody;
        }
        self.lookups.ask(mac, then, &self.core.metrics)
    }

    /// All plugins, in configuration order.
    pub fn status(&self) -> Vec<PluginStatus> {
        let routes = self.routes.load();
        let each = self.slots.iter().enumerate();
        each.map(|(at, slot)| slot.status(self.core.inventory.is_last_good(slot.name()), routes.of(at)))
            .collect()
    }

    /// Starts new instances of these plugins, or of all when there is no name, from the files that are there now. Each takes the place
    /// of the old one when its `init` succeeded; the old one finishes what it has. `None`: no plugin has this name.
    pub async fn reload(&self, names: Vec<String>) -> Option<Vec<Reloaded>> {
        if names
            .iter()
            .any(|name| self.slots.iter().all(|slot| slot.name() != name))
        {
            return None;
        }
        let (answer, waiting) = oneshot::channel();
        self.words.try_send(Word::Reload(names, answer)).ok()?;
        let mut reloaded = Vec::new();
        for wait in waiting.await.unwrap_or_default() {
            reloaded.extend(wait.await);
        }
        Some(reloaded)
    }

    /// The plugins, by their place, whose settings are others in another configuration of the same plugins.
    pub fn changed(&self, config: &Config) -> Vec<usize> {
        let each = self.slots.iter().zip(&config.plugins).enumerate();
        let changed = each.filter(|(_, (slot, plugin))| *slot.settings() != settings(config, plugin));
        changed.map(|(at, _)| at).collect()
    }

    /// Has the plugins at these places look at the settings that another configuration has for them, beside those that serve and without
    /// effect; gives what they find wrong. Blocks, a few seconds at most.
    pub fn try_settings(&self, config: &Config, places: &[usize]) -> Vec<Mistake> {
        let names: Vec<String> = self.slots.iter().map(|slot| slot.name().to_owned()).collect();
        let metrics = Arc::<Metrics>::default();
        let subnets = ServedSubnets::of(config);
        let inventory = match Inventory::new(&names, subnets, None, Arc::clone(&metrics)) {
            Ok(inventory) => Arc::new(inventory),
            // Without a store nothing can fail.
            Err(_) => return Vec::new(),
        };
        let core = Core::new(inventory, None, metrics);
        let slots = places.iter().filter_map(|&at| {
            let (before, plugin) = (self.slots.get(at)?, config.plugins.get(at)?);
            let slot = Slot::new(settings(config, plugin), core.clone());
            // The same file is not mapped again.
            let loaded = before.state().loaded.clone();
            slot.state().loaded = loaded;
            Some(Arc::new(slot))
        });
        let tried = Self::with(slots.collect(), config, core, Purpose::Check);
        let wrong = tried.slots.iter().zip(places).filter_map(|(slot, at)| {
            let error = slot.state().error.clone()?;
            Some(Mistake {
                key: format!("plugin[{at}].config"),
                text: format!("{}: {error}", slot.name()),
            })
        });
        let wrong = wrong.collect();
        tried.stop();
        wrong
    }

    /// Goes by another configuration of the same plugins. Who has other settings now gets a new instance with [`Plugins::reload`]; no answer that was kept
    /// before is fresh any more.
    pub fn take(&self, config: &Config) {
        self.deadline.store(Arc::new(config.http.plugin_deadline));
        for (slot, plugin) in self.slots.iter().zip(&config.plugins) {
            let settings = settings(config, plugin);
            if *slot.settings() != settings {
                slot.set(settings);
            }
            slot.shared.bump();
        }
    }

    /// Tells all plugins to end and waits a moment for their threads; one that hangs is left behind.
    pub fn stop(&self) {
        // A full queue is no reason to wait: the supervisor ends with the process.
        let told = self.words.try_send(Word::Stop).is_ok();
        if let Some(supervisor) = locked(&self.supervisor).take().filter(|_| told) {
            let _ = supervisor.join();
        }
        let ending: Vec<_> = self.slots.iter().filter_map(|slot| slot.current()).collect();
        for instance in &ending {
            instance.retire();
        }
        let until = Instant::now() + END;
        for instance in &ending {
            while !instance.has_ended() && Instant::now() < until {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            if !instance.has_ended() {
                let plugin = instance.name();
                tracing::warn!(plugin, "a plugin did not stop in time and is left behind");
            }
        }
    }

    /// Asks the plugins in order; the first that knows the MAC publishes the node.
    fn resolve(&self, mac: Mac) {
        if self.core.inventory.snapshot().by_mac(mac).is_some() {
            return;
        }
        for slot in &self.slots {
            let Some(instance) = slot.current().filter(|instance| instance.setup().provides_nodes) else {
                continue;
            };
            match instance.resolve(mac, RESOLVE_DEADLINE) {
                Ok(Some(node)) => {
                    let nodes = vec![node];
                    let publication = Publication {
                        nodes,
                        ..Publication::default()
                    };
                    match self.core.inventory.publish(slot.name(), publication) {
                        Ok(report) if report.refused.is_empty() => {
                            let generation = self.core.inventory.snapshot().generation();
                            self.tell(EventKind::Inventory, || Happening::Inventory { generation });
                            tracing::info!(%mac, plugin = slot.name(), "an unknown client is a node now");
                        }
                        Ok(report) => {
                            tracing::warn!(%mac, reason = report.refused[0].reason, "a looked-up node is refused")
                        }
                        Err(error) => tracing::warn!(%mac, %error, "a looked-up node is refused"),
                    }
                    return;
                }
                Ok(None) => {}
                Err(error) => self.core.metrics.refused(PART, error.label(), &slot.name(), &error),
            }
        }
    }
}

/// What a plugin is started with.
fn settings(config: &Config, plugin: &PluginConfig) -> Settings {
    Settings {
        plugin: plugin.clone(),
        configuration: Configuration {
            mode: match plugin.mode {
                Mode::Local => "local".into(),
                Mode::Upstream => "upstream".into(),
            },
            config: plugin.config.clone(),
            folder: config
                .path
                .parent()
                .map(|folder| folder.display().to_string())
                .unwrap_or_default(),
            server: wire::Server {
                address: config.own_address().to_string(),
                boot_url: config.boot_url(),
            },
        },
    }
}

/// Looks up one MAC after the other, as long as there are plugins.
fn look_up(plugins: &std::sync::Weak<Plugins>, wanted: &Receiver<Wanted>) {
    while let Ok(next) = wanted.recv() {
        let Some(plugins) = plugins.upgrade() else { return };
        plugins
            .lookups
            .look_up(&next, &plugins.core.metrics, |mac| plugins.resolve(mac));
    }
}

/// Starts a thread of this part. Without it plugins serve on as they are.
fn thread(name: &str, f: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    match std::thread::Builder::new().name(name.into()).spawn(f) {
        Ok(thread) => Some(thread),
        Err(error) => {
            tracing::error!(%error, name, "no thread: plugins are not started again, or unknown clients not looked up");
            None
        }
    }
}

/// The metrics' name of this part.
const PART: &str = "plugins";

/// A lock whose holders do not panic in between.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
