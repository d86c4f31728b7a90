//! `bootd plugins`, and `bootd plugins check`

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use bootd_sdk::text::shown;
use bootd_sdk::wire::{Configuration, Server};
use clap::{Args, Subcommand};

use super::{Exit, Look, ask};
use crate::plugins::PluginStatus;
use crate::plugins::conformance::{self, Verdict};

/// What to do with plugins.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(flatten)]
    look: Look,
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Load a plugin file, go through its life, and say whether it keeps the contract; exit 1 when it does not.
    #[command(after_help = "Examples:\n  bootd plugins check ./libbootd_hello.so --set greeting=Hello")]
    Check(Check),
}

/// What to check.
#[derive(Debug, Args)]
struct Check {
    /// The plugin.
    file: PathBuf,
    /// Its settings, the `config` table of bootd.toml, as a TOML file. Relative paths in it are relative to its folder.
    #[arg(long, value_name = "TABLE.toml")]
    config: Option<PathBuf>,
    /// A setting, as TOML or as plain text; again for more.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Its mode.
    #[arg(long, default_value = "local")]
    mode: String,
    /// In this process: a crash of the plugin is one of the check.
    #[arg(long, hide = true)]
    here: bool,
    /// End with codes that a plugin would not think of.
    #[arg(long, hide = true)]
    confirm: bool,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    match &arguments.act {
        Some(Act::Check(arguments)) => check(arguments),
        None => look(&arguments.look),
    }
}

/// Runs the check in a process of its own, which a bad plugin may crash.
fn check(arguments: &Check) -> Exit {
    let configuration = match configuration(arguments) {
        Ok(configuration) => configuration,
        Err(error) => {
            eprintln!("bootd: {error}");
            return Exit::Wrong;
        }
    };
    if arguments.here {
        let exit = check_here(&arguments.file, &configuration);
        return match (arguments.confirm, exit) {
            (true, Exit::Good) => Exit::Code(KEPT),
            (true, _) => Exit::Code(BROKEN),
            (false, exit) => exit,
        };
    }
    let ended = std::env::current_exe().and_then(|me| {
        std::process::Command::new(me)
            .args(std::env::args_os().skip(1))
            .args(["--here", "--confirm"])
            .status()
    });
    match ended {
        Ok(ended) => match (ended.code().and_then(|code| u8::try_from(code).ok()), ended.signal()) {
            (Some(KEPT), _) => Exit::Good,
            (Some(BROKEN), _) => Exit::Failed,
            (Some(code), _) => {
                say!("bad   it ended the process (exit {code}) in the check after the last line");
                Exit::Failed
            }
            (_, Some(signal)) => {
                say!("bad   it crashed (signal {signal}) in the check after the last line");
                Exit::Failed
            }
            _ => Exit::Failed,
        },
        Err(error) => {
            eprintln!("bootd: the check cannot be started: {error}");
            Exit::Failed
        }
    }
}

/// How the process that checks ends, so that nobody takes a plugin's own exit for its word.
const KEPT: u8 = 77;
const BROKEN: u8 = 78;

fn check_here(file: &Path, configuration: &Configuration) -> Exit {
    let bad = conformance::check(file, configuration, |verdict, what, seen| {
        let verdict = match verdict {
            Verdict::Good => "good",
            Verdict::Note => "note",
            Verdict::Bad => "bad",
        };
        say!("{verdict:<5} {what}: {}", shown(seen));
    });
    match bad {
        0 => {
            say!("{}: keeps the contract", file.display());
            Exit::Good
        }
        bad => {
            say!("{}: {bad} bad", file.display());
            Exit::Failed
        }
    }
}

fn configuration(arguments: &Check) -> anyhow::Result<Configuration> {
    let mut settings = toml::Table::new();
    let mut folder = std::env::current_dir()?;
    if let Some(path) = &arguments.config {
        let text = std::fs::read_to_string(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        settings = text
            .parse()
            .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        folder = folder.join(path.parent().unwrap_or(Path::new("")));
    }
    for setting in &arguments.set {
        let Some((key, value)) = setting.split_once('=') else {
            anyhow::bail!("--set {setting}: not KEY=VALUE");
        };
        // What is no TOML value is a text: nobody quotes a path for two readers.
        let value = match format!("v = {value}").parse::<toml::Table>() {
            Ok(mut table) => table.remove("v").unwrap_or_else(|| value.into()),
            Err(_) => value.into(),
        };
        settings.insert(key.into(), value);
    }
    Ok(Configuration {
        mode: arguments.mode.clone(),
        config: serde_json::to_value(settings)?,
        folder: folder.display().to_string(),
        server: Server {
            address: "192.0.2.254".into(),
            boot_url: "http://192.0.2.254:8081".into(),
        },
    })
}

fn look(look: &Look) -> Exit {
    if look.json {
        return ask::print_json(&look.place, "/plugins");
    }
    let view: Vec<PluginStatus> = match ask::view(&look.place, "/plugins") {
        Ok(view) => view,
        Err(exit) => return exit,
    };
    for plugin in &view {
        say!(
            "{:<12} {:<10} {:<8} {}",
            plugin.name,
            plugin.state,
            plugin.version,
            plugin.text
        );
        if let Some(file) = &plugin.file {
            say!("    file   {}", file.display());
        }
        if let Some(seconds) = plugin.next_try_s {
            say!("    next   in {seconds} s");
        }
        if plugin.restarts > 0 {
            say!("    starts {} after a failure", plugin.restarts);
        }
        if let Some(reason) = &plugin.reason {
            say!("    reason {reason}");
        }
        if plugin.left_behind > 0 {
            say!(
                "    hang   {} earlier instances or starts never came back",
                plugin.left_behind
            );
        }
        if plugin.stuck > 0 {
            say!(
                "    stuck  {} calls are over their deadline and have not come back",
                plugin.stuck
            );
        }
        for route in &plugin.routes {
            say!("    route  {route}");
        }
        for mistake in &plugin.mistakes {
            say!("    wrong  {mistake}");
        }
    }
    if view.is_empty() {
        say!("no plugins are configured");
    }
    Exit::Good
}
