//! `bootd coredhcp`: serves by a coredhcp.yaml, with CoreDHCP's own flags and places (contract 0.1).
//!
//! A program that is started under the name `coredhcp` is this verb.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{Exit, Start, print_mistakes};
use crate::config::{self, coredhcp};
use crate::log::{Log, To};

/// CoreDHCP's flags.
#[derive(Debug, Args)]
#[command(version)]
pub struct Arguments {
    /// The coredhcp.yaml; a bootd.toml beside it goes over what it says. Default: the first config.yaml (or another extension, or none) in .,
    /// $XDG_CONFIG_HOME/coredhcp, $HOME/.coredhcp and /etc/coredhcp.
    #[arg(short, long, value_name = "FILE")]
    conf: Option<PathBuf>,
    /// Append the log to a file as well.
    #[arg(short, long, value_name = "FILE")]
    logfile: Option<PathBuf>,
    /// Say nothing on standard output.
    #[arg(short = 'N', long)]
    nostdout: bool,
    /// How much is logged. Default: what BOOTD_LOG says, or info.
    #[arg(short = 'L', long, value_name = "LEVEL")]
    loglevel: Option<Level>,
    /// Print the names of the plugins that a coredhcp.yaml may name.
    #[arg(short = 'P', long)]
    plugins: bool,
}

/// CoreDHCP's log levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    None,
    Debug,
    Info,
    Warning,
    Error,
    Fatal,
}

/// What `serve` begins with, or how the process ends.
pub(super) fn begin(arguments: &Arguments) -> Result<Start, Exit> {
    if arguments.plugins {
        coredhcp::plugins().iter().for_each(|name| say!("{name}"));
        return Err(Exit::Good);
    }
    let path = match &arguments.conf {
        Some(path) => path.clone(),
        None => file().ok_or_else(|| {
            eprintln!(
                "bootd: there is no config.yaml in ., $XDG_CONFIG_HOME/coredhcp, $HOME/.coredhcp or /etc/coredhcp"
            );
            eprintln!("  name the file with --conf");
            Exit::Wrong
        })?,
    };
    let (config, notes) = config::load_coredhcp(&path).map_err(|error| {
        print_mistakes(&error);
        Exit::Wrong
    })?;
    let file = match &arguments.logfile {
        None => None,
        Some(path) => match std::fs::OpenOptions::new().create(true).append(true).open(path) {
            Ok(file) => Some(file),
            Err(error) => {
                eprintln!("bootd: {}: {error}", path.display());
                return Err(Exit::Failed);
            }
        },
    };
    let log = Log {
        to: To::Output {
            stdout: !arguments.nostdout,
            file,
        },
        level: arguments.loglevel.map(Level::filter),
    };
    Ok(Start { config, log, notes })
}

/// The words of the command line as clap reads them: under the name `coredhcp` the verb is not said, and `-conf` is what CoreDHCP's
/// README writes.
pub(super) fn words(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.collect();
    let name = words.first().map(Path::new).and_then(Path::file_name);
    if name.is_some_and(|name| name == "coredhcp") {
        words.splice(..1, ["bootd".into(), "coredhcp".into()]);
    }
    if words.get(1).is_some_and(|verb| verb == "coredhcp") {
        for word in &mut words {
            let text = word.to_str().unwrap_or_default();
            if text == "-conf" || text.starts_with("-conf=") {
                *word = format!("-{text}").into();
            }
        }
    }
    words
}

/// The file that is served by when none is named.
fn file() -> Option<PathBuf> {
    find(&folders(|name| std::env::var_os(name)), Path::is_file)
}

/// The same for who asks the one that serves: it runs elsewhere, so what is in the current folder is another matter.
pub(super) fn file_of_running() -> Option<PathBuf> {
    let folders = folders(|name| std::env::var_os(name));
    find(folders.get(1..)?, Path::is_file)
}

/// Where a file is looked for, in order.
fn folders(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let of = |name: &str, rest: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(|value| Path::new(&value).join(rest))
    };
    let mut folders = vec![PathBuf::from(".")];
    folders.extend(of("XDG_CONFIG_HOME", "coredhcp"));
    folders.extend(of("HOME", ".coredhcp"));
    folders.push("/etc/coredhcp".into());
    folders
}

/// The first that is there: `config` with an extension that viper knows, in its order, then without.
fn find(folders: &[PathBuf], is_there: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let names = EXTENSIONS.iter().map(|extension| format!("config.{extension}"));
    let names: Vec<String> = names.chain(["config".into()]).collect();
    let mut files = folders
        .iter()
        .flat_map(|folder| names.iter().map(|name| folder.join(name)));
    files.find(|file| is_there(file))
}

const EXTENSIONS: [&str; 12] = [
    "json",
    "toml",
    "yaml",
    "yml",
    "properties",
    "props",
    "prop",
    "hcl",
    "tfvars",
    "dotenv",
    "env",
    "ini",
];

impl Level {
    fn filter(self) -> &'static str {
        match self {
            Self::None => "off",
            Self::Debug => "info,bootd=debug,plugin=debug",
            Self::Info => "info",
            Self::Warning => "warn",
            Self::Error | Self::Fatal => "error",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Verb};

    fn parsed(line: &str) -> Option<Arguments> {
        let words = words(line.split_whitespace().map(Into::into));
        match Cli::try_parse_from(words).unwrap().verb {
            Verb::Coredhcp(arguments) => Some(arguments),
            _ => None,
        }
    }

    #[test]
    fn the_flags_are_coredhcp_s_under_either_name() {
        for line in [
            "bootd coredhcp -c a.yaml -l a.log -N -L warning",
            "/usr/bin/coredhcp --conf a.yaml --logfile a.log --nostdout --loglevel warning",
            "coredhcp -conf a.yaml -la.log -NLwarning",
            "coredhcp -conf=a.yaml -l=a.log -N -L=warning",
        ] {
            let arguments = parsed(line).unwrap();
            assert_eq!(arguments.conf.as_deref(), Some(Path::new("a.yaml")), "{line}");
            assert_eq!(arguments.logfile.as_deref(), Some(Path::new("a.log")), "{line}");
            assert_eq!(
                (arguments.nostdout, arguments.loglevel),
                (true, Some(Level::Warning)),
                "{line}"
            );
        }
        assert!(parsed("coredhcp -P").unwrap().plugins);
        assert!(parsed("bootd check").is_none());
    }

    #[test]
    fn the_first_file_of_the_first_folder_is_taken() {
        let home = |name: &str| (name == "HOME").then(|| "/home/a".into());
        let folders = folders(home);
        assert_eq!(
            folders,
            ["", "/home/a/.coredhcp", "/etc/coredhcp"].map(|folder| if folder.is_empty() {
                PathBuf::from(".")
            } else {
                folder.into()
            })
        );
        let there = [
            "/etc/coredhcp/config",
            "/etc/coredhcp/config.yml",
            "/etc/coredhcp/config.yaml",
        ];
        let found = find(&folders, |file| there.iter().any(|there| Path::new(there) == file));
        assert_eq!(found.as_deref(), Some(Path::new("/etc/coredhcp/config.yaml")));
        assert_eq!(find(&folders, |_| false), None);
    }
}
