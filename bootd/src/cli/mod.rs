//! The command line: one file a verb. What a verb prints is its own; exit codes are decided in one place, [`Exit`].
#![allow(clippy::print_stdout, clippy::print_stderr)]

/// A line on standard output. Whoever reads it may go away.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::line(format_args!($($text)*)) };
}

mod ask;
mod boots;
mod cache;
mod check;
mod convert;
mod coredhcp;
mod explain;
mod export;
mod import;
mod leases;
mod nodes;
mod plugins;
mod reload;
mod status;
mod token;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::coredhcp::{Kind, Note};
use crate::config::{self, Access, Config, ConfigError, Selector};
use crate::http::App;
use crate::log::{self, Log};

/// A network-boot appliance for one rack: DHCP, TFTP and HTTP, with plugins for SMD, BSS and cloud-init.
#[derive(Debug, Parser)]
#[command(name = "bootd", version, max_term_width = 120)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What bootd can be told to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Serve, until SIGTERM or Ctrl-C.
    Serve(Place),
    /// Look for mistakes in the configuration and everything it names; exit 64 when there are any.
    Check(Place),
    /// Print the bootd.toml that says the same as a coredhcp.yaml.
    Convert(convert::Arguments),
    /// Serve by a coredhcp.yaml, in the place of CoreDHCP.
    Coredhcp(coredhcp::Arguments),
    /// Print all that the plugins keep, as YAML in the form of the files that they read.
    Export(export::Arguments),
    /// Give the plugins what an export or a file of the same form holds.
    Import(import::Arguments),
    /// Show all that a node would get, step by step.
    Explain(explain::Arguments),
    /// Show the inventory, or accept what is held back of a site that lost much of it.
    Nodes(nodes::Arguments),
    /// Show the addresses of the DHCP pools and who has them; free one, or export them for CoreDHCP.
    Leases(leases::Arguments),
    /// Show how each node's boot goes, what is wrong with it, and what happens as it happens.
    Boots(boots::Arguments),
    /// Show what is kept of artifacts; fetch, pin or remove objects.
    Cache(cache::Arguments),
    /// Show the plugins, or check a plugin file.
    Plugins(plugins::Arguments),
    /// Load plugins anew, beside those that serve; each takes over when its start succeeded.
    Reload(reload::Arguments),
    /// Show whether all is well.
    Status(Look),
    /// Make a token for whoever changes data through the APIs: export DEMO_ACCESS_TOKEN=$(bootd token)
    Token(token::Arguments),
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct Place {
    /// The configuration file, a bootd.toml or a coredhcp.yaml.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    pub config: PathBuf,
}

impl Place {
    /// The configuration of who serves here. Without a bootd.toml that is the coredhcp.yaml that [`Verb::Coredhcp`] takes by itself.
    fn of_running(&self) -> PathBuf {
        let left_out = self.config == Path::new(config::DEFAULT_PATH) && !self.config.exists();
        let found = if left_out { coredhcp::file_of_running() } else { None };
        found.unwrap_or_else(|| self.config.clone())
    }
}

/// How to show something.
#[derive(Debug, Args)]
pub struct Look {
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Good,
    /// It did not work.
    Failed,
    /// What was asked or configured is wrong (`EX_USAGE`).
    Wrong,
    /// A word between two processes of bootd.
    Code(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Good => Self::SUCCESS,
            Exit::Failed => Self::from(1),
            Exit::Wrong => Self::from(64),
            Exit::Code(code) => Self::from(code),
        }
    }
}

/// What serving begins with.
pub struct Start {
    /// What to do.
    pub config: Config,
    /// Where log lines go.
    pub log: Log,
    /// What is told first of a file that CoreDHCP would read.
    pub notes: Vec<Note>,
}

/// Reads the command line.
pub fn parse() -> Result<Cli, clap::Error> {
    Cli::try_parse_from(coredhcp::words(std::env::args_os()))
}

/// What `serve` and `coredhcp` begin with.
pub fn begin(verb: &Verb) -> Option<Result<Start, Exit>> {
    match verb {
        Verb::Serve(place) => Some(load(place).map(|config| Start {
            config,
            log: Log::default(),
            notes: Vec::new(),
        })),
        Verb::Coredhcp(arguments) => Some(coredhcp::begin(arguments)),
        _ => None,
    }
}

/// Logs what was understood, changed and ignored.
pub fn tell(notes: &[Note]) {
    for Note { kind, place, text } in notes {
        match kind {
            Kind::Understood => tracing::info!(place, "understood: {text}"),
            Kind::Changed => tracing::warn!(place, "changed: {text}"),
            Kind::Ignored => tracing::warn!(place, "ignored: {text}"),
        }
    }
}

/// Runs a verb that does not serve.
pub fn run(verb: Verb) -> Exit {
    match verb {
        Verb::Serve(_) | Verb::Coredhcp(_) => Exit::Failed,
        Verb::Check(place) => check::run(&place),
        Verb::Convert(arguments) => convert::run(&arguments),
        Verb::Export(arguments) => export::run(&arguments),
        Verb::Import(arguments) => import::run(&arguments),
        Verb::Explain(arguments) => explain::run(&arguments),
        Verb::Nodes(arguments) => nodes::run(&arguments),
        Verb::Leases(arguments) => leases::run(&arguments),
        Verb::Boots(arguments) => boots::run(&arguments),
        Verb::Cache(arguments) => cache::run(&arguments),
        Verb::Plugins(arguments) => plugins::run(&arguments),
        Verb::Reload(arguments) => reload::run(&arguments),
        Verb::Status(look) => status::run(&look),
        Verb::Token(arguments) => token::run(&arguments),
    }
}

/// Reads the configuration, or prints every mistake.
pub fn load(place: &Place) -> Result<Config, Exit> {
    config::load(&place.config).map_err(|error| {
        print_mistakes(&error);
        Exit::Wrong
    })
}

/// Says that bootd serves, to people, to whoever reads standard output, and to systemd.
pub fn say_ready(config: &Config, app: &App) {
    for warning in config
        .http
        .listeners
        .iter()
        .filter(|listener| listener.access == Access::None)
    {
        tracing::warn!(listener = %warning.address, "auth is \"none\": whoever reaches this listener may read and change everything");
    }
    for listener in &config.http.listeners {
        app.metrics
            .listener(&listener.address.to_string(), listener.access == Access::None);
    }
    let nodes = app.inventory.snapshot().count();
    let listeners: Vec<String> = config
        .http
        .listeners
        .iter()
        .map(|listener| listener.address.to_string())
        .collect();
    let ready = format!(
        "bootd {} ready: {nodes}, {}, {}, {}",
        env!("CARGO_PKG_VERSION"),
        served(config),
        config.tftp_text(),
        if listeners.is_empty() {
            "no HTTP".into()
        } else {
            format!("HTTP on {}", listeners.join(", "))
        },
    );
    if log::has_stdout() {
        say!("{ready}");
    }
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
}

/// Where DHCP of each family is.
fn served(config: &Config) -> String {
    let listed = |selectors: &[Selector]| {
        let names: Vec<String> = selectors.iter().map(ToString::to_string).collect();
        names.join(", ")
    };
    let v4 = !config.interfaces.is_empty() && !config.dhcp.subnets.is_empty();
    let v6 = config
        .dhcp6
        .as_ref()
        .map(|dhcp6| &dhcp6.interfaces[..])
        .unwrap_or_default();
    match (v4, v6) {
        (false, []) => "DHCP on no interface".into(),
        (true, []) => format!("DHCP on {}", listed(&config.interfaces)),
        (false, v6) => format!("DHCPv6 on {}", listed(v6)),
        (true, v6) => format!("DHCP on {}, DHCPv6 on {}", listed(&config.interfaces), listed(v6)),
    }
}

/// Prints why the process ends.
pub fn complain(error: &anyhow::Error) -> Exit {
    if let Some(mistakes) = error.downcast_ref::<ConfigError>() {
        print_mistakes(mistakes);
        return Exit::Wrong;
    }
    eprintln!("bootd: {error}");
    Exit::Failed
}

/// Prints what is wrong with a command line, or the help that was asked for.
pub fn usage(error: &clap::Error) -> Exit {
    let _ = error.print();
    if error.use_stderr() { Exit::Wrong } else { Exit::Good }
}

fn print_mistakes(error: &ConfigError) {
    eprintln!("bootd: {error}");
    match error {
        ConfigError::Mistakes { mistakes, .. } => mistakes.iter().for_each(|mistake| eprintln!("  {mistake}")),
        ConfigError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            eprintln!(
                "  name the file with --config, or --conf of `bootd coredhcp`; conf/bootd.toml explains every key"
            );
        }
        ConfigError::Read { .. } => {}
    }
}

fn line(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// A number of bytes for humans.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
