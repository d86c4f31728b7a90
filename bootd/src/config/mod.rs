//! The configuration: what an operator wrote (`raw`), and what the code uses ([`Config`], made by `checked`).
//!
//! Promises: every mistake of a file is reported at once, each with its key; a [`Config`] that exists is consistent. Never opens a socket
//! and never writes. Paths are not touched here; `bootd check` looks at them.

mod check;
mod checked;
pub mod coredhcp;
mod raw;
#[cfg(test)]
mod tests;

pub use checked::*;

use std::path::{Path, PathBuf};

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/bootd/bootd.toml";

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file has mistakes, all of them listed.
    #[error("{path}: {} mistake(s)", mistakes.len())]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// Each with its key.
        mistakes: Vec<Mistake>,
    },
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.into(),
        source,
    })?;
    parse(&text, path)
}

/// Where the admin socket is, whatever else is wrong with the file. `None`: that cannot be read.
pub fn admin_socket(path: &Path) -> Option<PathBuf> {
    check::admin_socket(raw::parse(&std::fs::read_to_string(path).ok()?).ok()?, path)
}

/// Checks the text of a file. Relative paths in it are relative to the file's folder.
pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let failed = |mistakes| ConfigError::Mistakes {
        path: path.into(),
        mistakes,
    };

    let raw = raw::parse(text).map_err(|mistake| failed(vec![mistake]))?;
    check::check(raw, path).map_err(failed)
}
