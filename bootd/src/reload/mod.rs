//! Puts another configuration into service while bootd serves: `bootd reload`, SIGHUP, and what `bootd reload --dry-run` says of it.
//!
//! The file is read and checked, and everything that follows from it is made and opened beside what is in service; a mistake anywhere changes
//! nothing. Then all parts take theirs, one after the other within moments. What is in service is always a whole file: a key that only a start can take
//! ([`needs_restart`]) refuses the reload, with its name. Sockets that both configurations have are never closed, so no packet is lost. One reload at a
//! time. Owns none of the parts: each knows by itself how it takes a configuration.

mod changes;
mod scripts;

pub use changes::{Change, changes, needs_restart};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Auth;
use crate::cache::Artifacts;
use crate::config::{self, Access, Config, ConfigError, Mistake};
use crate::dhcp::answer_diff::{self, Differences};
use crate::dhcp::{self, DhcpError};
use crate::http::{App, Certificates, InService, Listeners, Opened};
use crate::inventory::ServedSubnets;
use crate::plugins::Reloaded;
use crate::tftp::{self, Files};

/// What is to be done with the configuration that is in the file now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Puts it into service.
    Apply,
    /// Says who would get something else by it.
    DryRun,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The file.
    pub file: PathBuf,
    /// Whether it is in service now.
    pub applied: bool,
    /// What is written otherwise than in the one that was in service.
    pub changes: Vec<Change>,
    /// Keys among them that only a start can take; with any of them nothing changes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs_restart: Vec<Change>,
    /// What is wrong with it, as `key: text`; with any mistake nothing changes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<String>,
    /// What is in service and not as it should be, such as missing loaders.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The plugins that got a new instance, or kept their old one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<Reloaded>,
    /// Of a dry run: who would get something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<Differences>,
    /// Milliseconds until it was in service, new instances of plugins aside.
    pub took_ms: f64,
}

/// The parts that take a configuration.
pub struct Parts {
    /// HTTP, and what operators see.
    pub app: InService,
    /// DHCP of both families.
    pub dhcp: Arc<dhcp::Service>,
    /// TFTP, where it is served.
    pub tftp: Option<Arc<tftp::Service>>,
    /// What is told in `bootd status`.
    pub warnings: Arc<ArcSwap<Vec<String>>>,
    /// Where background work runs.
    pub tasks: TaskTracker,
    /// When it ends.
    pub shutdown: CancellationToken,
}

/// Puts configurations into service.
pub struct Reloader {
    parts: Parts,
    turn: Mutex<Turn>,
}

/// What one reload at a time may change.
struct Turn {
    listeners: Listeners,
    keeping: Keeping,
}

/// The background work that belongs to parts of one configuration.
#[derive(Default)]
struct Keeping {
    auth: CancellationToken,
    certificates: CancellationToken,
    artifacts: CancellationToken,
}

/// A configuration that is ready to be taken.
struct Prepared {
    app: App,
    files: Files,
    dhcp: dhcp::Prepared,
    opened: Opened,
    plugins: Vec<usize>,
    warnings: Vec<String>,
}

/// What is made of a file without any socket.
struct Made {
    app: App,
    files: Files,
    /// With the loaders that are there.
    answering: Arc<Config>,
    plugins: Vec<usize>,
    warnings: Vec<String>,
}

impl Reloader {
    /// Begins the background work of the configuration in service, and serves its listeners, which are open.
    pub fn begin(parts: Parts, mut listeners: Listeners, opened: Opened) -> Arc<Self> {
        let app = parts.app.load_full();
        listeners.take(&app.config, opened);
        let mut keeping = Keeping::default();
        keeping.follow(None, &app, &parts);
        let turn = Mutex::new(Turn { listeners, keeping });
        Arc::new(Self { parts, turn })
    }

    /// As long as what this gives is held no reload begins.
    pub async fn hold(&self) -> impl Sized + '_ {
        self.turn.lock().await
    }

    /// Reads the file again, and does with it what is wanted. What comes of it is logged.
    pub async fn reload(&self, mode: Mode) -> Report {
        let mut turn = self.turn.lock().await;
        if mode == Mode::Apply {
            tell_systemd(&[sd_notify::NotifyState::Reloading]);
        }
        let (before, began) = (self.parts.app.load_full(), Instant::now());
        let mut report = Report {
            file: before.config.path.clone(),
            ..Report::default()
        };
        let done = self.follow(&mut turn, &before, mode, &mut report, began).await;
        let mistakes = done.err().unwrap_or_default();
        report.mistakes = mistakes.iter().map(ToString::to_string).collect();
        if report.took_ms == 0.0 {
            report.took_ms = milliseconds(began);
        }
        drop(turn);
        if mode == Mode::Apply {
            tell(&report, &before);
            tell_systemd(&[sd_notify::NotifyState::Ready]);
        }
        report
    }

    /// Finds what the file says, what is other in it and what follows from that, and puts it into service if that is wanted.
    async fn follow(
        &self,
        turn: &mut Turn,
        before: &Arc<App>,
        mode: Mode,
        report: &mut Report,
        began: Instant,
    ) -> Result<(), Vec<Mistake>> {
        let now = Arc::clone(&before.config);
        let config = blocking(move || config::load_again(&now)).await?.map_err(mistakes_of)?;
        report.changes = changes(&before.config.written, &config.written);
        report.needs_restart = needs_restart(&before.config, &config);
        if mode == Mode::Apply && !report.needs_restart.is_empty() {
            return Ok(());
        }
        let is_same_plugins = !report.needs_restart.iter().any(|change| change.key == "plugin");
        let now = Arc::clone(before);
        let made = blocking(move || make(&now, config, is_same_plugins, mode)).await??;
        match mode {
            Mode::DryRun => report.answers = Some(self.compare(before, &made).await),
            Mode::Apply => {
                let prepared = self.open(turn, made).await?;
                self.take(turn, before, prepared, report, began).await;
            }
        }
        Ok(())
    }

    /// Opens the sockets that it needs.
    async fn open(&self, turn: &mut Turn, made: Made) -> Result<Prepared, Vec<Mistake>> {
        let listeners = &turn.listeners;
        let opened = listeners.open(&made.app.config).await.map_err(|error| {
            let own = listeners.at_port(error.address().port());
            let own = own.filter(|_| error.kind() == std::io::ErrorKind::AddrInUse);
            let advice = own.map(|own| format!("; bootd itself listens on {own}: that needs a restart"));
            vec![Mistake {
                key: String::new(),
                text: format!("{error}{}", advice.unwrap_or_default()),
            }]
        })?;
        let (dhcp, answering) = (Arc::clone(&self.parts.dhcp), Arc::clone(&made.answering));
        let dhcp = blocking(move || dhcp.prepare(&answering)).await?.map_err(of_dhcp)?;
        Ok(Prepared {
            app: made.app,
            files: made.files,
            dhcp,
            opened,
            plugins: made.plugins,
            warnings: made.warnings,
        })
    }

    /// All parts take theirs. Nothing can fail from here on.
    async fn take(&self, turn: &mut Turn, before: &App, prepared: Prepared, report: &mut Report, began: Instant) {
        let Prepared {
            app,
            files,
            dhcp,
            opened,
            plugins,
            warnings,
        } = prepared;
        let config = Arc::clone(&app.config);
        let app = Arc::new(app);
        let taken = Arc::clone(&self.parts.dhcp);
        // It may wait a moment for the thread that follows the interfaces.
        let _ = tokio::task::spawn_blocking(move || taken.take(dhcp)).await;
        app.files.store(Arc::new(files));
        if let Some(tftp) = &self.parts.tftp {
            tftp.take(&config);
        }
        app.inventory.serve(ServedSubnets::of(&config));
        let (watch, watched) = (app.watch.clone(), Arc::clone(&config));
        // Its queue may be full for a moment.
        tokio::task::spawn_blocking(move || watch.go_by(&watched));
        self.parts.app.store(Arc::clone(&app));
        app.plugins.take(&config);
        turn.listeners.take(&config, opened);
        if !Arc::ptr_eq(&before.artifacts, &app.artifacts) {
            app.artifacts.take(&config);
        }
        turn.keeping.follow(Some(before), &app, &self.parts);
        self.parts.warnings.store(Arc::new(warnings.clone()));
        report.took_ms = milliseconds(began);
        report.applied = true;
        report.warnings = warnings;
        let names: Vec<String> = app
            .plugins
            .names()
            .enumerate()
            .filter(|(at, _)| plugins.contains(at))
            .map(|(_, name)| name.to_owned())
            .collect();
        if !names.is_empty() {
            report.plugins = app.plugins.reload(names).await.unwrap_or_default();
        }
    }

    /// Who would get something else.
    async fn compare(&self, before: &Arc<App>, made: &Made) -> Differences {
        let files = before.files.load_full();
        let old = before.config.with_loaders(|arch| files.get(arch.file_name()).is_ok());
        let (new, snapshot) = (Arc::clone(&made.answering), before.inventory.snapshot());
        let dhcp = Arc::clone(&self.parts.dhcp);
        let compared = blocking(move || answer_diff::differences(&old, &new, &snapshot, &dhcp.recent())).await;
        let mut differences = compared.unwrap_or_default();
        scripts::compare(before, &made.app.config, &mut differences).await;
        for at in &made.plugins {
            let name = before.plugins.names().nth(*at).unwrap_or_default();
            let note = format!("plugin {name}: it gets other settings, and what it answers by them is not compared");
            differences.notes.push(note);
        }
        differences
    }
}

/// Makes what needs no socket of its own. Reads files.
fn make(before: &App, config: Config, is_same_plugins: bool, mode: Mode) -> Result<Made, Vec<Mistake>> {
    let (now, mut mistakes) = (&*before.config, Vec::new());
    let config = Arc::new(config);
    let mut wrong = |key: &str, text: String| {
        let key = key.to_owned();
        mistakes.push(Mistake { key, text });
    };
    let certificates = match tls_of(now) == tls_of(&config) {
        true => {
            if mode == Mode::Apply {
                before.certificates.look(&before.metrics);
            }
            Arc::clone(&before.certificates)
        }
        false => match Certificates::open(&config) {
            Ok(certificates) => Arc::new(certificates),
            Err(error) => {
                mistakes_of(error)
                    .into_iter()
                    .for_each(|mistake| wrong(&mistake.key, mistake.text));
                Arc::default()
            }
        },
    };
    let mut auth = before.auth.clone();
    if now.auth != config.auth {
        match Auth::open(&config.auth, &now.state_dir) {
            Ok(other) => auth = Some(Arc::new(other)),
            Err(error) => wrong("auth", error.to_string()),
        }
    }
    let (files, missing) = Files::load(&config);
    let mut warnings: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let mut artifacts = Arc::clone(&before.artifacts);
    if now.origins != config.origins || now.cache != config.cache {
        let (other, unusable, kept) = match mode {
            Mode::Apply => before.artifacts.changed(&config),
            Mode::DryRun => {
                let (other, unusable) = Artifacts::new(&config, Arc::clone(&before.metrics));
                (other, unusable, Ok(()))
            }
        };
        unusable.iter().for_each(|mistake| wrong("origin", mistake.to_string()));
        if let Err(unusable) = kept {
            warnings.push(format!("{unusable}: no artifact is kept"));
        }
        artifacts = Arc::new(other);
    }
    if mode == Mode::DryRun
        && let Err(error) = dhcp::Hosts::open(config.dhcp.hosts.as_ref())
    {
        wrong("dhcp.hosts", error.to_string());
    }
    let plugins = match is_same_plugins {
        true => before.plugins.changed(&config),
        false => Vec::new(),
    };
    if !plugins.is_empty() {
        mistakes.extend(before.plugins.try_settings(&config, &plugins));
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let answering = Arc::new(config.with_loaders(|arch| files.get(arch.file_name()).is_ok()));
    let app = App {
        listeners: config.http.listeners.iter().cloned().map(Arc::new).collect(),
        config,
        artifacts,
        certificates,
        auth,
        ..before.clone()
    };
    Ok(Made {
        app,
        files,
        answering,
        plugins,
        warnings,
    })
}

impl Keeping {
    /// Begins what is new of a configuration, and ends what it took the place of.
    fn follow(&mut self, before: Option<&App>, app: &App, parts: &Parts) {
        let renew = |token: &mut CancellationToken| {
            token.cancel();
            *token = parts.shutdown.child_token();
            token.clone()
        };
        for listener in &app.config.http.listeners {
            let (address, is_open) = (listener.address.to_string(), listener.access == Access::None);
            app.metrics.listener(&address, is_open);
        }
        let is_same_auth = before.is_some_and(|before| match (&before.auth, &app.auth) {
            (Some(before), Some(auth)) => Arc::ptr_eq(before, auth),
            (before, auth) => before.is_none() && auth.is_none(),
        });
        if let Some(auth) = app.auth.as_ref().filter(|_| !is_same_auth) {
            let token = renew(&mut self.auth);
            parts
                .tasks
                .spawn(Arc::clone(auth).keep_fresh(Arc::clone(&app.metrics), token));
        }
        if before.is_none_or(|before| !Arc::ptr_eq(&before.certificates, &app.certificates)) {
            let token = renew(&mut self.certificates);
            let certificates = Arc::clone(&app.certificates);
            parts
                .tasks
                .spawn(certificates.keep_fresh(Arc::clone(&app.metrics), token));
        }
        if before.is_none_or(|before| !Arc::ptr_eq(&before.artifacts, &app.artifacts)) {
            let token = renew(&mut self.artifacts);
            let artifacts = Arc::clone(&app.artifacts);
            parts.tasks.spawn(artifacts.scrub(app.config.cache.scrub, token));
        }
    }
}

/// The line about a reload.
fn tell(report: &Report, before: &App) {
    let (file, took_ms) = (report.file.display(), report.took_ms);
    let list = |changes: &[Change]| {
        let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
        changes.join("; ")
    };
    if report.applied {
        before.metrics.done("reload", "applied");
        let (changed, changes) = (report.changes.len(), list(&report.changes));
        tracing::info!(%file, changed, changes, took_ms, "the configuration in the file is in service");
    } else if !report.needs_restart.is_empty() {
        let keys = list(&report.needs_restart);
        before.metrics.done("reload", "needs_restart");
        tracing::error!(%file, keys, "nothing changes: the file has keys that need a restart");
    } else {
        let mistakes = report.mistakes.join("; ");
        before.metrics.done("reload", "mistakes");
        tracing::error!(%file, mistakes, "nothing changes: the file has mistakes");
    }
    for plugin in &report.plugins {
        if let Some(error) = &plugin.error {
            tracing::error!(plugin = plugin.name, error, "a plugin goes on with its old settings");
        }
    }
}

fn tell_systemd(states: &[sd_notify::NotifyState<'_>]) {
    let now = sd_notify::NotifyState::monotonic_usec_now();
    let states: Vec<_> = states.iter().cloned().chain(now).collect();
    // Nobody may be there to hear it.
    let _ = sd_notify::notify(false, &states);
}

/// The certificates and keys of all listeners.
fn tls_of(config: &Config) -> Vec<Option<config::Tls>> {
    config
        .http
        .listeners
        .iter()
        .map(|listener| listener.tls.clone())
        .collect()
}

fn mistakes_of(error: ConfigError) -> Vec<Mistake> {
    match error {
        ConfigError::Mistakes { mistakes, .. } => mistakes,
        error @ ConfigError::Read { .. } => vec![Mistake {
            key: String::new(),
            text: error.to_string(),
        }],
    }
}

fn of_dhcp(error: DhcpError) -> Vec<Mistake> {
    let key = match &error {
        DhcpError::Net { .. } | DhcpError::Thread { .. } => "server.interfaces",
        // They say it themselves.
        DhcpError::Hosts(_) | DhcpError::Leases(_) | DhcpError::Identity(_) => "",
    };
    vec![Mistake {
        key: key.into(),
        text: error.to_string(),
    }]
}

/// Runs what may wait for a disk elsewhere.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Vec<Mistake>> {
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        vec![Mistake {
            key: String::new(),
            text: "a bug in bootd; see the log".into(),
        }]
    })
}

fn milliseconds(since: Instant) -> f64 {
    let micros = u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX);
    f64::from(micros) / MICROS
}

/// In a millisecond.
const MICROS: f64 = 1000.0;
