//! The boot sequence of the server, and the way to the other verbs.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use bootd::admin::{self, Admin};
use bootd::auth::Auth;
use bootd::boots::Watch;
use bootd::cache::Artifacts;
use bootd::cli::{self, Exit, Start};
use bootd::dhcp::{self, Former};
use bootd::http::{App, Bounds, Certificates, Door, InService, Lanes, Listeners};
use bootd::inventory::{Inventory, ServedSubnets};
use bootd::metrics::Metrics;
use bootd::plugins::{Core, Plugins, Purpose};
use bootd::reload::{self, Mode, Reloader};
use bootd::state::{Store, Write};
use bootd::tftp::{self, Files};
use bootd::upgrade::{self, Asked, Begun, Upgrader};
use bootd::{log, memory, urgency, warmer, watchdog};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

fn main() -> ExitCode {
    let exit = match cli::parse().map(|cli| cli.verb) {
        Ok(verb) => match cli::begin(&verb) {
            Some(Ok(start)) => report(serve(start)),
            Some(Err(exit)) => exit,
            None => cli::run(verb),
        },
        Err(usage) => cli::usage(&usage),
    };
    exit.into()
}

/// Serves until a signal says otherwise.
fn serve(start: Start) -> anyhow::Result<()> {
    let Start { config, log, notes } = start;
    let Begun { successor, sockets } = upgrade::begin()?;
    memory::settle();
    let _log = log::start(log);
    cli::tell(&notes);
    raise_descriptor_limit();
    memory::watch()?;
    let metrics = Arc::<Metrics>::default();
    let certificates = Arc::new(Certificates::open(&config)?);
    let mut warnings = Vec::new();

    // What was last good is there before anything else answers or is asked.
    let store = match &successor {
        Some(successor) => successor.store(&config.state_dir)?,
        None => Store::open(&config.state_dir)?,
    };
    warnings.extend(store.replaced().map(str::to_owned));
    let names: Vec<String> = config.plugins.iter().map(|plugin| plugin.name.clone()).collect();
    let subnets = ServedSubnets::of(&config);
    let inventory = Arc::new(Inventory::new(
        &names,
        subnets,
        Some(store.clone()),
        Arc::clone(&metrics),
    )?);

    let auth = Arc::new(Auth::open(&config.auth, &config.state_dir)?);
    let (files, missing) = Files::load(&config);
    for missing in &missing {
        tracing::warn!(%missing, "a loader is missing; nodes that need it do not boot");
        warnings.push(missing.to_string());
    }
    let answering = Arc::new(config.with_loaders(|arch| files.get(arch.file_name()).is_ok()));
    let files = Arc::new(ArcSwap::from_pointee(files));
    let config = Arc::new(config);

    let watch = Watch::start(
        &config,
        inventory.shared(),
        Arc::clone(&files),
        store.clone(),
        Arc::clone(&metrics),
    )?;
    let ignored = Arc::new(dhcp::Ignored::open(store.clone())?);
    // Packets first: they need no plugin, so a plugin that hangs in its start delays none.
    let plugins: Arc<OnceLock<Arc<Plugins>>> = Arc::default();
    let asked = Arc::clone(&plugins);
    let dhcp = Arc::new(dhcp::start(dhcp::Deps {
        config: answering,
        snapshot: inventory.shared(),
        store: store.clone(),
        metrics: Arc::clone(&metrics),
        watch: watch.clone(),
        ignored: Arc::clone(&ignored),
        sockets: Arc::clone(&sockets),
        former: match &successor {
            Some(_) => Former::Awaited,
            None => Former::Kept,
        },
        pause: Arc::default(),
        unknown: Arc::new(move |mac, then| match asked.get() {
            Some(plugins) => plugins.unknown(mac, then),
            None => dhcp::Lookup::Nobody,
        }),
    })?);
    let tftp = match config.tftp.serve {
        true => Some(Arc::new(tftp::start(
            &config,
            Arc::clone(&files),
            Arc::clone(&metrics),
            watch.clone(),
            &sockets,
        )?)),
        false => None,
    };
    // All that answers packets runs.
    urgency::let_packets_go_first();
    if let Some(successor) = &successor {
        successor.take_over(&config.state_dir, &store, &inventory, &ignored, &dhcp)?;
    }

    let core = Core::new(Arc::clone(&inventory), Some(store.clone()), Arc::clone(&metrics));
    let plugins = Arc::clone(plugins.get_or_init(|| Plugins::load(&config, core, Purpose::Serve)));
    plugins.settings_are_good(&config)?;

    let runtime = runtime("http")?;
    // A lane of their own: however many bytes of images leave, no script waits behind them.
    let images = self::runtime("images")?;
    runtime.block_on(async {
        let (mut artifacts, mistakes) = Artifacts::new(&config, Arc::clone(&metrics));
        for mistake in &mistakes {
            tracing::error!(%mistake, "an origin cannot be used");
            warnings.push(mistake.to_string());
        }
        // A rack without a cache still boots, as long as its origins live.
        if let Err(unusable) = artifacts.keep(&config) {
            tracing::error!(%unusable, "the cache cannot be used: all artifacts go through to their origins");
            warnings.push(format!("{unusable}: no artifact is kept"));
        }
        artifacts.tell(watch.clone());
        let app: InService = Arc::new(ArcSwap::from_pointee(App {
            listeners: config.http.listeners.iter().cloned().map(Arc::new).collect(),
            config: Arc::clone(&config),
            inventory,
            plugins: Arc::clone(&plugins),
            artifacts: Arc::new(artifacts),
            files,
            certificates,
            auth: Some(auth),
            metrics: Arc::clone(&metrics),
            watch: watch.clone(),
            readiness: Arc::default(),
            bounds: Arc::<Bounds>::default(),
            admin: OnceLock::new(),
        }));
        let (shutdown, serving, door) = (CancellationToken::new(), TaskTracker::new(), Door::default());
        // What serves no connection.
        let background = shutdown.child_token();
        let warnings = Arc::new(ArcSwap::from_pointee(warnings));
        let lanes = Lanes {
            scripts: Handle::current(),
            images: images.handle().clone(),
        };
        let ends = (serving.clone(), shutdown.clone());
        let listeners = Listeners::new(Arc::clone(&app), lanes, ends, (Arc::clone(&sockets), door.clone()));
        let opened = listeners.open(&config).await?;
        let socket = admin::bind(&config.admin_socket, &sockets)?;
        sockets.close_the_rest();
        let parts = reload::Parts {
            app: Arc::clone(&app),
            dhcp: Arc::clone(&dhcp),
            tftp: tftp.clone(),
            warnings: Arc::clone(&warnings),
            tasks: serving.clone(),
            shutdown: background.clone(),
        };
        let reloader = Reloader::begin(parts, listeners, opened);
        let upgrader = Upgrader::new(upgrade::Parts {
            config: config.path.clone(),
            sockets,
            store: store.clone(),
            dhcp: Arc::clone(&dhcp),
            tftp: tftp.clone(),
            app: Arc::clone(&app),
            reloader: Arc::clone(&reloader),
            door: door.clone(),
            metrics: Arc::clone(&metrics),
        });
        let admin = Arc::new(Admin {
            app: Arc::clone(&app),
            reloader: Arc::clone(&reloader),
            upgrader: Arc::clone(&upgrader),
            store: store.clone(),
            ignored,
            leases: dhcp.leases(),
            started: std::time::Instant::now(),
            warnings,
            interfaces: dhcp.warnings(),
            served: dhcp.served(),
            tftp: tftp.as_ref().map(|tftp| tftp.trouble()),
            watchers: Admin::watchers(),
            missing: ArcSwap::default(),
        });
        app.load().is_shown_by(&admin);
        serving.spawn(admin::run(socket, Arc::clone(&admin), door, background.clone()));
        serving.spawn(admin::look_for_missing_files(admin, background.clone()));
        serving.spawn(warmer::run(Arc::clone(&app), background.clone()));

        watchdog::start(
            Arc::clone(&metrics),
            &[("http", &Handle::current()), ("images", images.handle())],
        )?;
        if let Some(successor) = successor {
            successor.serves()?;
        }
        cli::say_ready(&config, &app.load());
        let end = wait_for_the_end(Some((&reloader, &upgrader))).await?;
        serving.close();
        match end {
            End::Told(signal) => {
                tracing::info!(signal, "stopping");
                let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]);
            }
            End::Followed => {
                background.cancel();
                finish(&serving, tftp.as_deref(), &plugins).await;
            }
        }
        shutdown.cancel();
        tokio::select! {
            () = serving.wait() => {}
            _ = wait_for_the_end(None) => tracing::info!("told twice: open downloads are cut off"),
        }
        app.load().artifacts.end();
        anyhow::Ok(())
    })?;
    plugins.stop();
    if let Some(tftp) = tftp {
        tftp.stop();
    }
    dhcp.stop();
    watch.stop();
    // What nobody waited for is written now. A disk that fails was told before.
    let _ = store.write_and_wait(Write::default());
    Ok(())
}

fn runtime(name: &'static str) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().thread_name(name).build()
}

/// As many descriptors as the system allows: a rack that boots at once opens many connections.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// Why this process ends.
enum End {
    /// A signal came.
    Told(&'static str),
    /// Another process serves in its place.
    Followed,
}

/// Another process serves: what this one sends it sends to its end, if that comes in time and no signal before it.
async fn finish(serving: &TaskTracker, tftp: Option<&tftp::Service>, plugins: &Arc<Plugins>) {
    let transfers = async {
        serving.wait().await;
        while tftp.is_some_and(|tftp| !tftp.has_ended()) {
            tokio::time::sleep(LOOK_FOR_TRANSFERS).await;
        }
    };
    let without_plugins = async {
        tokio::time::sleep(PLUGINS_LIVE_ON).await;
        let plugins = Arc::clone(plugins);
        let _ = tokio::task::spawn_blocking(move || plugins.stop()).await;
        tokio::time::sleep(upgrade::LIVES_ON - PLUGINS_LIVE_ON).await;
    };
    tokio::select! {
        () = transfers => tracing::info!("all transfers ended, and so does this process"),
        () = without_plugins => tracing::warn!("the last transfers have had their time: they are cut off"),
        _ = wait_for_the_end(None) => {}
    }
}

/// Connections that clients keep have ended by then, and images need no plugin.
const PLUGINS_LIVE_ON: Duration = Duration::from_secs(20);
const LOOK_FOR_TRANSFERS: Duration = Duration::from_millis(50);

/// Waits for the signal to end, or for another process; meanwhile SIGHUP has the configuration read again, and SIGUSR2 another process started.
async fn wait_for_the_end(live: Option<(&Arc<Reloader>, &Arc<Upgrader>)>) -> anyhow::Result<End> {
    let mut term = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut int = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    let mut usr2 = signal(SignalKind::user_defined2()).context("SIGUSR2 cannot be caught")?;
    let followed = async {
        match live {
            Some((_, upgrader)) => upgrader.is_over().await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(followed);
    let mut hup = signal(SignalKind::hangup()).context("SIGHUP cannot be caught")?;
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(End::Told("SIGTERM")),
            _ = int.recv() => return Ok(End::Told("SIGINT")),
            () = &mut followed => return Ok(End::Followed),
            _ = usr2.recv() => if let Some(upgrader) = live.map(|(_, upgrader)| Arc::clone(upgrader)) {
                // What comes of it is in the log.
                tokio::spawn(async move { upgrader.upgrade(Asked::default()).await });
            },
            _ = hup.recv() => if let Some(reloader) = live.map(|(reloader, _)| Arc::clone(reloader)) {
                // What comes of it is in the log.
                tokio::spawn(async move { reloader.reload(Mode::Apply).await });
            },
        }
    }
}

fn report(result: anyhow::Result<()>) -> Exit {
    match result {
        Ok(()) => Exit::Good,
        Err(error) => cli::complain(&error),
    }
}
