//! TFTP: what a firmware fetches before it can speak HTTP. Loaders and a few generated scripts, nothing else.
//!
//! `table` holds every file that may be asked for, in memory, under the names by which it may be asked for; UEFI HTTP Boot gets the same
//! files from it. `service` moves them: one thread of its own, which never waits for a disk, a plugin or an upstream.

mod scripts;
mod service;
mod table;
#[cfg(test)]
pub(crate) mod testing;

pub use service::{Service, TftpError, start};
pub use table::{File, Files, Kind, LeftOut, Missing, Refused};
