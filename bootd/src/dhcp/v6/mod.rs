//! DHCP for IPv6.
//!
//! A packet goes one way, as in [`v4`](super::v4): [`request`] opens the relays' layers and reads what is in them, [`answer`] decides,
//! [`encode`] writes what it decided into as many layers, `service` does it, and `port` moves bytes. What is read and decided only borrows.
//! All but `service` and `port` are free of sockets, clocks, locks and disks.
//!
//! Addresses come from the inventory and from a file of hosts; there are no pools and no delegated prefixes. So nothing is kept but the
//! server's own [`identity`]. What upstream's replies break is not repeated, in strict mode neither: clients cannot depend on it.
//!
//! Every reason to stay silent is a variant of [`BadPacket`](request::BadPacket) or [`Why`](answer::Why), and its label is the metric.

pub mod answer;
pub mod boot;
#[cfg(test)]
mod conformance;
pub mod encode;
pub mod explain;
pub mod identity;
mod letter;
pub mod policy;
pub(crate) mod port;
pub mod rehearsal;
pub mod reply;
pub mod request;
pub(crate) mod service;
#[cfg(test)]
pub(crate) mod testing;
mod told;

/// The name of this part in metrics and logs.
const PART: &str = "dhcp6";
