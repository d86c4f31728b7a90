//! The command line: one file a verb. What a verb prints is its own; exit codes are decided in one place, [`Exit`].
#![allow(clippy::print_stdout, clippy::print_stderr)]

/// A line on standard output. Whoever reads it may go away.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::line(format_args!($($text)*)) };
}

mod ask;
mod boots;
mod cache;
mod capture;
mod check;
mod convert;
mod coredhcp;
mod explain;
mod export;
mod generate;
mod import;
mod leases;
mod nodes;
mod plugins;
mod reload;
mod status;
mod token;
mod upgrade;

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
#[command(
    name = "bootd",
    version,
    max_term_width = 120,
    after_help = "Examples:\n  bootd check\n  bootd status\n  bootd explain --mac 52:54:00:be:ef:01\n\nExit codes: 0 all is well, 1 it did not work, 64 the command line or the configuration is wrong."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What bootd can be told to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Serve, until SIGTERM or Ctrl-C.
    #[command(after_help = "Examples:\n  bootd serve\n  bootd serve --config ./bootd.toml")]
    Serve(Place),
    /// Look for mistakes in the configuration and everything it names; exit 64 when there are any.
    #[command(after_help = "Examples:\n  bootd check\n  bootd check --config ./bootd.toml --json")]
    Check(Look),
    /// Print the bootd.toml that says the same as a coredhcp.yaml.
    #[command(after_help = "Examples:\n  bootd convert /etc/coredhcp/config.yaml > bootd.toml")]
    Convert(convert::Arguments),
    /// Serve by a coredhcp.yaml, in the place of CoreDHCP.
    #[command(
        after_help = "Examples:\n  bootd coredhcp -c /etc/coredhcp/config.yaml\n  bootd coredhcp -c config.yaml -l /var/log/coredhcp.log -N -L warning"
    )]
    Coredhcp(coredhcp::Arguments),
    /// Print all that the plugins keep, as YAML in the form of the files that they read.
    #[command(after_help = "Examples:\n  bootd export > backup.yaml\n  bootd export smd > nodes.yaml")]
    Export(export::Arguments),
    /// Give the plugins what an export or a file of the same form holds.
    #[command(after_help = "Examples:\n  bootd import backup.yaml\n  bootd import --plugin smd nodes.yaml")]
    Import(import::Arguments),
    /// Show all that a node would get, step by step.
    #[command(
        after_help = "Examples:\n  bootd explain --mac 52:54:00:be:ef:01\n  bootd explain --mac 52:54:00:be:ef:01 --arch x86-bios --json"
    )]
    Explain(explain::Arguments),
    /// Show the inventory, or accept what is held back of a site that lost much of it.
    #[command(after_help = "Examples:\n  bootd nodes\n  bootd nodes --json\n  bootd nodes ignore 52:54:00:be:ef:01")]
    Nodes(nodes::Arguments),
    /// Show the addresses of the DHCP pools and who has them; free one, or export them for CoreDHCP.
    #[command(after_help = "Examples:\n  bootd leases\n  bootd leases free 172.16.0.200")]
    Leases(leases::Arguments),
    /// Show how each node's boot goes, what is wrong with it, and what happens as it happens.
    Boots(boots::Arguments),
    /// Write the last packets and requests of a node into a file for tshark.
    Capture(capture::Arguments),
    /// Show what is kept of artifacts; fetch, pin or remove objects.
    #[command(
        after_help = "Examples:\n  bootd cache ls\n  bootd cache warm --all\n  bootd cache pin s3://boot-images/compute/base/rootfs"
    )]
    Cache(cache::Arguments),
    /// Show the plugins, or check a plugin file.
    #[command(
        after_help = "Examples:\n  bootd plugins\n  bootd plugins check ./libbootd_hello.so --set greeting=Hello"
    )]
    Plugins(plugins::Arguments),
    /// Take a changed configuration into service without a restart, or show what it would change; or load plugins anew.
    #[command(after_help = "Examples:\n  bootd reload --dry-run\n  bootd reload\n  bootd reload bss cloud-init")]
    Reload(reload::Arguments),
    /// Show whether all is well.
    #[command(after_help = "Examples:\n  bootd status\n  bootd status --json")]
    Status(Look),
    /// Make manual pages, completions, or the schema of bootd.toml, for a package.
    #[command(hide = true, after_help = "Examples:\n  bootd generate man ./man")]
    Generate(generate::Arguments),
    /// Make a token for whoever changes data through the APIs: export DEMO_ACCESS_TOKEN=$(bootd token)
    #[command(
        after_help = "Examples:\n  bootd token\n  bootd token --subject rack1 --ttl 24h > site.token\n  bootd token --keys > bootd.jwks"
    )]
    Token(token::Arguments),
    /// Have another binary take the place of the running one: no packet is lost, no transfer breaks off, and after a failure the old one serves on.
    #[command(after_help = "Examples:\n  bootd upgrade\n  bootd upgrade --binary /opt/bootd/bin/bootd")]
    Upgrade(upgrade::Arguments),
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
        Verb::Check(look) => check::run(&look),
        Verb::Convert(arguments) => convert::run(&arguments),
        Verb::Export(arguments) => export::run(&arguments),
        Verb::Generate(arguments) => generate::run(&arguments),
        Verb::Import(arguments) => import::run(&arguments),
        Verb::Explain(arguments) => explain::run(&arguments),
        Verb::Nodes(arguments) => nodes::run(&arguments),
        Verb::Leases(arguments) => leases::run(&arguments),
        Verb::Boots(arguments) => boots::run(&arguments),
        Verb::Capture(arguments) => capture::run(&arguments),
        Verb::Cache(arguments) => cache::run(&arguments),
        Verb::Plugins(arguments) => plugins::run(&arguments),
        Verb::Reload(arguments) => reload::run(&arguments),
        Verb::Status(look) => status::run(&look),
        Verb::Token(arguments) => token::run(&arguments),
        Verb::Upgrade(arguments) => upgrade::run(&arguments),
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
    let _ = sd_notify::notify(
        false,
        &[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&ready)],
    );
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_help_of_every_verb_shows_an_example_that_is_understood() {
        fn look(command: &clap::Command, path: &str) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> = help.lines().filter_map(|line| line.strip_prefix("  ")).collect();
            assert!(
                !examples.is_empty(),
                "`{path} --help` has no examples: #[command(after_help = \"Examples:\\n  {path} …\")]"
            );
            for example in examples {
                assert!(
                    example.starts_with(path),
                    "an example of `{path}` is of another verb: {example}"
                );
                // What it shows may stand behind it, and where its output goes.
                let words = example
                    .split("  ")
                    .next()
                    .and_then(|example| example.split(" > ").next());
                let words = words.unwrap_or_default().split(' ');
                if let Err(error) = Cli::try_parse_from(words) {
                    panic!("{example}: {error}");
                }
            }
            for verb in command.get_subcommands() {
                look(verb, &format!("{path} {}", verb.get_name()));
            }
        }
        look(&Cli::command(), "bootd");
    }

    #[test]
    fn every_verb_that_looks_prints_json() {
        for line in [
            "bootd status --json",
            "bootd nodes --json",
            "bootd leases --json",
            "bootd boots --json",
            "bootd plugins --json",
            "bootd cache ls --json",
            "bootd explain --mac 02:00:00:00:00:01 --json",
            "bootd check --json",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }
}
