//! DHCP for IPv4.
//!
//! A packet goes one way: [`request`] reads it, [`answer`] decides for nodes of the inventory and [`pool`] for everybody else, [`encode`]
//! writes what they decided, `service` does it, and `port` moves bytes. What is read and decided only borrows, from the packet, the configuration and the
//! snapshot: an answer to a node of the inventory allocates nothing. All but `service` and `port` are free of sockets, clocks, locks and disks: the same packet,
//! snapshot and time give the same [`Verdict`](answer::Verdict).
//!
//! Every reason to stay silent is a variant of [`BadPacket`](request::BadPacket) or [`Why`](answer::Why), and its label is the metric.

pub mod answer;
pub mod boot;
pub mod bootloop;
#[cfg(test)]
mod conformance;
mod early;
pub mod encode;
pub mod explain;
pub(crate) mod handover;
pub mod holder;
pub mod hosts;
mod letter;
pub mod options;
pub mod policy;
pub mod pool;
pub(crate) mod port;
mod probe;
pub(crate) mod prober;
pub mod rehearsal;
pub mod reply;
pub mod request;
mod rows;
mod scopes;
pub(crate) mod service;
pub mod sqlite;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;
mod told;
pub mod unsaved;

/// The name of this part in metrics and logs.
const PART: &str = "dhcp4";
