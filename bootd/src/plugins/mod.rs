//! Plugins: loaded, kept at arm's length, and asked.
//!
//! `loader` brings a shared object into the process; `services` is what it may ask of us; `instance` calls it, on threads of its own;
//! `routes` says which plugin answers a path; `kept` answers requests, from memory where an answer may be served again. [`Plugins`] ties them together.
//! Nobody who has a packet or a connection in hand waits for a plugin longer than the deadline. Plugins are trusted code: a crash of one
//! is a crash of bootd; a hang, a panic or nonsense is not.

mod instance;
mod kept;
mod loader;
mod routes;
mod services;

pub use instance::CallError;
pub use kept::{Asked, Ready};
pub use loader::LoadError;
pub use routes::Routed;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::{self, Configuration, Health, Publication};
use serde::{Deserialize, Serialize};

use crate::config::{Config, ConfigError, Mistake, Mode, PluginConfig};
use crate::inventory::Inventory;
use crate::metrics::Metrics;
use crate::state::Store;
use instance::Instance;
use kept::Kept;
use routes::Routes;

/// MACs that wait to be looked up at once; more are left to the clients' retries.
const RESOLVE_QUEUE: usize = 1024;
/// How long an unknown MAC is not asked for again.
const RESOLVE_AGAIN: Duration = Duration::from_secs(2);
/// How long a plugin may take to look up a MAC.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(1);

/// What plugins work on.
#[derive(Clone)]
pub struct Core {
    /// The nodes.
    pub inventory: Arc<Inventory>,
    /// What survives; none for `bootd check`.
    pub store: Option<Store>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// What plugins are loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To serve: their background threads run.
    Serve,
    /// To look: they are asked, but do nothing by themselves.
    Check,
}

/// All configured plugins: those in service, and what keeps the others out.
pub struct Plugins {
    core: Core,
    deadline: Duration,
    instances: Vec<Arc<Instance>>,
    failed: Vec<(PluginConfig, LoadError)>,
    routes: Routes,
    kept: Kept,
    unknown: SyncSender<Mac>,
    asked: moka::sync::Cache<Mac, ()>,
}

/// How a plugin is, for `bootd plugins`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginStatus {
    /// Its name in the configuration.
    pub name: String,
    /// `running`, `degraded` (mistakes in its data, or stuck calls) or `failed`.
    pub state: String,
    /// Its own version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The file that was loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// What it says of itself, or why it is out of service.
    pub text: String,
    /// Mistakes in its data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<String>,
    /// Its routes, as `METHOD prefix`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// Calls that are over their deadline and have not come back.
    pub stuck: usize,
}

impl Plugins {
    /// Loads the plugins in order. One that cannot be loaded is left out and reported; the others serve.
    pub fn load(config: &Config, core: Core, purpose: Purpose) -> Arc<Self> {
        let server = wire::Server {
            address: config.address.to_string(),
            boot_url: config.boot_url(),
        };
        let (unknown, queue) = sync_channel(RESOLVE_QUEUE);
        let mut plugins = Self {
            deadline: config.http.plugin_deadline,
            instances: Vec::new(),
            failed: Vec::new(),
            routes: Routes::default(),
            kept: Kept::new(),
            unknown,
            asked: moka::sync::Cache::builder()
                .max_capacity(65_536)
                .time_to_live(RESOLVE_AGAIN)
                .build(),
            core,
        };
        for plugin in &config.plugins {
            if let Err(error) = plugins.add(config, plugin, &server, purpose) {
                tracing::error!(plugin = plugin.name, %error, "a plugin is out of service");
                plugins.core.metrics.done(PART, error.label());
                plugins.failed.push((plugin.clone(), error));
            }
        }
        let plugins = Arc::new(plugins);
        if purpose == Purpose::Serve {
            plugins.spawn_resolver(queue);
        }
        plugins
    }

    fn add(
        &mut self,
        config: &Config,
        plugin: &PluginConfig,
        server: &wire::Server,
        purpose: Purpose,
    ) -> Result<(), LoadError> {
        let file = loader::find(plugin, &config.plugin_dirs)?;
        let table = loader::load(&file)?;
        let configuration = Configuration {
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
            server: server.clone(),
        };
        let (instance, setup) = Instance::start(&plugin.name, file, table, &configuration, self.core.clone())?;
        // Routes lead to what runs, so they come last.
        let started = instance.spawn(&setup, purpose);
        let added = started.and_then(|()| self.routes.add(self.instances.len(), &plugin.name, &setup.routes));
        if let Err(error) = added {
            instance.tell_to_stop();
            return Err(error);
        }
        self.instances.push(instance);
        Ok(())
    }

    /// Which route answers a request.
    pub fn route(&self, method: &str, path: &str) -> Routed<'_> {
        self.routes.find(method, path)
    }

    /// Plugins that are configured but not in service.
    pub fn failed(&self) -> impl Iterator<Item = (&str, &LoadError)> {
        self.failed.iter().map(|(plugin, error)| (plugin.name.as_str(), error))
    }

    /// The mistakes that plugins found in their settings, which are part of bootd.toml.
    pub fn settings_are_good(&self, config: &Config) -> Result<(), ConfigError> {
        let wrong = self
            .failed
            .iter()
            .filter(|(_, error)| matches!(error, LoadError::Settings(_)));
        let mistakes: Vec<Mistake> = wrong
            .map(|(plugin, error)| {
                let at = config
                    .plugins
                    .iter()
                    .position(|other| other.name == plugin.name)
                    .unwrap_or_default();
                Mistake {
                    key: format!("plugin[{at}].config"),
                    text: format!("{}: {error}", plugin.name),
                }
            })
            .collect();
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::Mistakes {
                path: config.path.clone(),
                mistakes,
            })
        }
    }

    /// What the plugins in service say of themselves.
    pub fn health(&self) -> impl Iterator<Item = (&str, Health)> {
        self.instances
            .iter()
            .map(|instance| (instance.name(), instance.health()))
    }

    /// What the plugins that publish nodes say of themselves.
    pub fn health_of_providers(&self) -> impl Iterator<Item = (&str, Health)> {
        let providers = self.instances.iter().filter(|instance| instance.provides_nodes());
        providers.map(|instance| (instance.name(), instance.health()))
    }

    /// A client that the inventory does not know: its MAC is looked up, if it was not a moment ago. Never waits.
    pub fn unknown(&self, mac: Mac) {
        if self.asked.contains_key(&mac) {
            return;
        }
        self.asked.insert(mac, ());
        if self.unknown.try_send(mac).is_err() {
            self.core
                .metrics
                .refused(PART, "resolve_queue_full", &mac, &"left to the client's next try");
        }
    }

    /// All plugins, in configuration order.
    pub fn status(&self) -> Vec<PluginStatus> {
        let running = self.instances.iter().enumerate().map(|(at, instance)| {
            let health = instance.health();
            let stuck = instance.stuck();
            let last_good = self.core.inventory.is_last_good(instance.name());
            let degraded = stuck > 0 || !health.mistakes.is_empty() || last_good;
            PluginStatus {
                name: instance.name().into(),
                state: if degraded { "degraded" } else { "running" }.into(),
                version: instance.version(),
                file: Some(instance.file().into()),
                text: if last_good {
                    format!("{} (the nodes are those of the last run)", health.text)
                } else {
                    health.text
                },
                mistakes: health.mistakes.iter().map(ToString::to_string).collect(),
                routes: self.routes.of(at),
                stuck,
            }
        });
        let failed = self.failed.iter().map(|(plugin, error)| PluginStatus {
            name: plugin.name.clone(),
            state: "failed".into(),
            version: String::new(),
            file: plugin.file.clone(),
            text: error.to_string(),
            mistakes: Vec::new(),
            routes: Vec::new(),
            stuck: 0,
        });
        running.chain(failed).collect()
    }

    /// Tells all plugins to end and waits a moment for their threads; one that hangs is left behind.
    pub fn stop(&self) {
        for instance in &self.instances {
            instance.tell_to_stop();
        }
        for instance in &self.instances {
            if !instance.join(Duration::from_secs(2)) {
                tracing::warn!(
                    plugin = instance.name(),
                    "a plugin did not stop in time and is left behind"
                );
            }
        }
    }

    fn spawn_resolver(self: &Arc<Self>, queue: Receiver<Mac>) {
        let plugins = Arc::downgrade(self);
        let spawned = std::thread::Builder::new().name("resolve".into()).spawn(move || {
            while let Ok(mac) = queue.recv() {
                let Some(plugins) = plugins.upgrade() else { return };
                plugins.resolve(mac);
            }
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for looking up unknown MACs; nodes are found when plugins publish them");
        }
    }

    /// Asks the plugins in order; the first that knows the MAC publishes the node.
    fn resolve(&self, mac: Mac) {
        if self.core.inventory.snapshot().by_mac(mac).is_some() {
            return;
        }
        for instance in self.instances.iter().filter(|instance| instance.provides_nodes()) {
            match instance.resolve(mac, RESOLVE_DEADLINE) {
                Ok(Some(node)) => {
                    let nodes = vec![node];
                    let publication = Publication {
                        nodes,
                        ..Publication::default()
                    };
                    match self.core.inventory.publish(instance.name(), publication) {
                        Ok(report) if report.refused.is_empty() => {
                            tracing::info!(%mac, plugin = instance.name(), "an unknown client is a node now");
                        }
                        Ok(report) => {
                            tracing::warn!(%mac, reason = report.refused[0].reason, "a looked-up node is refused")
                        }
                        Err(error) => tracing::warn!(%mac, %error, "a looked-up node is refused"),
                    }
                    return;
                }
                Ok(None) => {}
                Err(error) => self.core.metrics.refused(PART, error.label(), &instance.name(), &error),
            }
        }
    }
}

/// The metrics' name of this part.
const PART: &str = "plugins";

/// A lock whose holders do not panic in between.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
