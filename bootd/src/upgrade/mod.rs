//! Another binary takes the place of the one that serves, under load: `bootd upgrade`, or SIGUSR2.
//!
//! The old process starts the new one and stays in service until that one is; a failure at any step takes it back to where it was:
//!
//! ```text
//! old process                                   new process
//! check: NEW check --config FILE
//! start: NEW serve --config FILE      ──▶       reads bootd.toml, loaders, certificates
//!        listening sockets, a copy of the store ──▶ inventory, DHCP and TFTP: known nodes are answered by both
//!                                     ◀── ready  packets for the pools are kept
//! pause: DHCP rests, no connection is accepted
//! release: store and cache are closed ──▶       opens the store: leases; what was kept is answered
//!        offers of the pools                    plugins, cache, HTTP, admin socket
//!                                     ◀── serving
//! hand over: MAINPID=                 ──▶       READY=1
//! lives on until its transfers end
//! ```
//!
//! The queue of a socket is the kernel's and both have the socket, so what waits there is lost by neither. `line` is how the two speak, `steps` the order
//! and what a failure takes back, `old` and `new` are the sides. Knows nothing of what the parts do in a pause or with what they take over.

mod line;
mod new;
mod old;
mod steps;

pub use new::{Begun, Successor, begin};
pub use old::{Asked, LIVES_ON, Parts, UpgradeError, Upgraded, Upgrader};
