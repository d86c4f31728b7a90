//! `bootd generate`: what is made of the command line and the configuration's keys when bootd is packaged. Hidden: nobody else needs it.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

use super::{Cli, Exit};
use crate::config;

/// What to make, and where.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Manual pages, completions for shells, or the JSON Schema of bootd.toml.
    #[arg(value_enum)]
    what: What,
    /// The folder for it; it is made when it is not there.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    Man,
    Completions,
    Schema,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    match make(arguments.what, &arguments.folder) {
        Ok(()) => Exit::Good,
        Err(error) => {
            eprintln!("bootd: {}: {error}", arguments.folder.display());
            Exit::Failed
        }
    }
}

fn make(what: What, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    match what {
        What::Man => clap_mangen::generate_to(Cli::command(), folder),
        What::Completions => [Shell::Bash, Shell::Zsh, Shell::Fish]
            .into_iter()
            .try_for_each(|shell| clap_complete::generate_to(shell, &mut Cli::command(), "bootd", folder).map(drop)),
        What::Schema => std::fs::write(
            folder.join("bootd.schema.json"),
            format!("{:#}\n", config::schema::schema()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_finds_its_pages_completions_and_schema() {
        let folder = tempfile::tempdir().unwrap();
        for what in [What::Man, What::Completions, What::Schema] {
            make(what, &folder.path().join("new")).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join("new").join(name)).unwrap();
        assert!(read("bootd-leases-free.1").contains("bootd leases free 172.16.0.200"));
        for name in ["bootd.bash", "_bootd", "bootd.fish"] {
            assert!(read(name).contains("explain"), "{name}");
        }
        assert!(read("bootd.schema.json").contains("\"state_dir\""));
        let hidden = folder.path().join("new/bootd-generate.1");
        assert!(!hidden.exists(), "what is hidden has no page");
    }
}
