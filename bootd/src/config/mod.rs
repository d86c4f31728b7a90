//! The configuration: what an operator wrote (`raw`), and what the code uses ([`Config`], made by `checked`).
//!
//! Promises: every mistake of a file is reported at once, each with its key; a [`Config`] that exists is consistent. Never opens a socket
//! and never writes. Paths are not touched here; `bootd check` looks at them.

mod check;
mod checked;
pub mod coredhcp;
mod raw;
pub mod schema;
#[cfg(test)]
mod tests;

pub use checked::*;

use std::path::{Path, PathBuf};

use coredhcp::{Kind, Note};

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/bootd/bootd.toml";
/// Where loaders lie when `tftp.root` says nothing.
pub const LOADERS: &str = "/usr/share/bootd/loaders";

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

/// Reads and checks a file: a `bootd.toml`, or a coredhcp.yaml by its extension.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    if is_yaml(path) {
        return load_coredhcp(path).map(|(config, _)| config);
    }
    parse(&read(path)?, path)
}

/// Reads a coredhcp.yaml and checks what it comes to, with the `bootd.toml` beside it merged over; tells what became of it.
pub fn load_coredhcp(path: &Path) -> Result<(Config, Vec<Note>), ConfigError> {
    let mistakes = |mistakes| ConfigError::Mistakes {
        path: path.into(),
        mistakes,
    };
    let mut understood = coredhcp::read(&read(path)?).map_err(mistakes)?;
    let beside = path.with_file_name("bootd.toml");
    if beside != path && beside.exists() {
        let text = read(&beside)?;
        understood.toml = coredhcp::merged(&understood.toml, &text).map_err(|mistake| ConfigError::Mistakes {
            path: beside.clone(),
            mistakes: vec![mistake],
        })?;
        understood.notes.push(Note {
            kind: Kind::Understood,
            place: beside.display().to_string(),
            text: "goes over what the file beside it says".into(),
        });
    }
    let config = Config {
        dialect: Dialect::Coredhcp,
        ..parse(&understood.toml, path)?
    };
    Ok((config, understood.notes))
}

/// Reads the file of a configuration again, as it was read before.
///
/// What is no ordinary file is refused: it may never end, and then neither would this process.
pub fn load_again(config: &Config) -> Result<Config, ConfigError> {
    if std::fs::metadata(&config.path).is_ok_and(|found| !found.is_file()) {
        return Err(ConfigError::Read {
            path: config.path.clone(),
            source: std::io::Error::other("it is not an ordinary file"),
        });
    }
    match config.dialect {
        Dialect::Bootd => load(&config.path),
        Dialect::Coredhcp => load_coredhcp(&config.path).map(|(config, _)| config),
    }
}

fn is_yaml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn read(path: &Path) -> Result<String, ConfigError> {
    text_of(path).map_err(|source| ConfigError::Read {
        path: path.into(),
        source,
    })
}

/// The text of a file that an operator writes, of at most 64 MiB.
pub(crate) fn text_of(path: &Path) -> std::io::Result<String> {
    bounded(std::fs::File::open(path)?)
}

/// The same of a file that is read while DHCP works: what is no ordinary file, and so may never end or begin, is refused.
pub(crate) fn text_of_ordinary(path: &Path) -> std::io::Result<String> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not an ordinary file"));
    }
    bounded(file)
}

fn bounded(file: std::fs::File) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    if file.take(MOST + 1).read_to_string(&mut text)? as u64 > MOST {
        return Err(std::io::Error::other("it has more than 64 MiB"));
    }
    Ok(text)
}

/// Bytes of a file that an operator writes.
const MOST: u64 = 64 << 20;

/// Where the admin socket is, whatever else is wrong with the file. `None`: that cannot be read.
pub fn admin_socket(path: &Path) -> Option<PathBuf> {
    check::admin_socket(raw::parse(&text_of(path).ok()?).ok()?, path)
}

/// Checks the text of a file. Relative paths in it are relative to the file's folder.
pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let failed = |mistakes| ConfigError::Mistakes {
        path: path.into(),
        mistakes,
    };

    let raw = raw::parse(text).map_err(|mistake| failed(vec![mistake]))?;
    let config = check::check(raw, path).map_err(failed)?;
    // It was read as TOML a moment ago.
    let written = text.parse::<toml::Table>().unwrap_or_default().into();
    Ok(Config { written, ..config })
}
