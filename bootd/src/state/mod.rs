//! The embedded store: what must survive a power cut, in one file, `state_dir/bootd.redb`.
//!
//! Owns one writer thread. Writes are handed to it and reported back when they are durable; all that wait at once share one commit
//! (group commit), so many leases a second cost few disk flushes. Reads see the last commit and never wait for a writer. The queue is
//! bounded: a full one refuses, which callers count. A broken file is put aside at the start and never keeps bootd from starting; a file in use
//! by another bootd does. Tables: one for leases, one for each plugin, one for the core's own rows.

mod copied;
mod store;

pub use copied::Copied;
#[cfg(test)]
pub(crate) use store::tests::on_a_disk_that_may_be_full;
pub use store::{Row, Store, StoreError, Write};
