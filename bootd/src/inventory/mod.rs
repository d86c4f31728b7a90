//! The nodes that this box boots: the one model that DHCP, boot scripts and cloud-init share.
//!
//! Owns the current [`Snapshot`] and its copy on disk. Plugins publish rows, each row is checked by itself (`rules`), and a new snapshot
//! takes the place of the old one whole. Readers never wait: they hold the snapshot that was current when they asked. A node belongs to
//! the first plugin, in configuration order, that publishes its xname; others may add to it what is not set yet (`overlay`).
//!
//! A publication costs what it changes: snapshots share all that is the same (`shards`), and only rows that changed are written (`kept`).

mod draft;
mod kept;
mod overlay;
mod publish;
mod rules;
mod shards;
mod snapshot;
mod told;

pub use publish::{Inventory, PublishError};
pub use rules::{Reason, ServedSubnets};
pub use snapshot::{Entry, Snapshot};
pub use told::{Rows, Told};
