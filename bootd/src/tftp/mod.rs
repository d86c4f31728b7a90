//! TFTP: what a firmware fetches before it can speak HTTP. Loaders and a few generated scripts, nothing else.
//!
//! `table` holds every file that may be asked for, in memory, under the names by which it may be asked for; UEFI HTTP Boot gets the same
//! files from it. `request` reads what clients send, `transfer` (with its `content`) is one read and `engine` all of them: pure, without
//! sockets and clocks; `places` says who makes room when all places are taken. `service` moves their packets: one thread of its own, which never waits for a disk, a plugin or an upstream.

#[cfg(test)]
mod conformance;
mod content;
pub mod engine;
mod places;
pub mod rehearsal;
pub mod request;
mod scripts;
mod service;
#[cfg(test)]
mod simulation;
mod table;
#[cfg(test)]
pub(crate) mod testing;
pub mod transfer;
mod trouble;

pub use service::{Service, TftpError, start};
pub use table::{File, Files, Kind, LeftOut, Missing, Refused};
pub use trouble::Trouble;
