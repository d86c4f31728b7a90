//! What operators see of the cache.

use serde::{Deserialize, Serialize};

/// An object of the cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cached {
    /// Its path at the artifacts listener: `/bucket/key`.
    pub path: String,
    /// What is there of it.
    pub state: CachedState,
    /// Why it may be old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Its length in bytes, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub len: Option<u64>,
    /// Bytes that are there.
    pub have: u64,
    /// Its entity tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// SHA-256 of its bytes as they were fetched, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
    /// Seconds since it was fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_s: Option<u64>,
    /// How often it was served since the start.
    pub hits: u64,
    /// It makes no room for anything.
    #[serde(rename = "pinned")]
    pub is_pinned: bool,
}

/// What is there of an object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CachedState {
    /// All of it.
    #[default]
    Kept,
    /// All of it, and it may be old.
    Stale,
    /// Some of it.
    Fetching,
    /// Nothing; its name is pinned.
    Absent,
    /// Its origin is a folder of this machine.
    Local,
}

impl CachedState {
    /// For humans.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Stale => "stale",
            Self::Fetching => "fetching",
            Self::Absent => "absent",
            Self::Local => "local",
        }
    }
}

/// How much there is of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amounts {
    /// Objects that are kept.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that they may have together.
    pub budget: u64,
    /// Objects that are being fetched.
    pub fills: usize,
    /// Objects that may be old.
    pub stale: usize,
    /// New versions that are here and wait for the others of their scripts.
    pub waiting: usize,
    /// Versions that stay for nodes with a former script.
    pub former: usize,
}

/// A name that is not pinned, or not unpinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// There are too many.
    #[error("{0} names are pinned already, which is the most")]
    TooMany(usize),
    /// It holds until the next start only.
    #[error("it holds until the next start only: the file of pins cannot be written: {0}")]
    Disk(std::io::Error),
}
