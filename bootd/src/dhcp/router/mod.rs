//! Router solicitations, answered so that nobody waits for a router that is not there (RFC 4861).
//!
//! iPXE configures IPv6 before it fetches anything, and where no router answers it waits about 12.5 s for nothing. What it gets here promises
//! nothing unless the configuration says so: no prefix, no default route, so hosts change nothing else. It is for who has no router: where
//! another one advertises, nothing is said. [`advertisement`] is the message, [`speaker`] decides, both without I/O; `service` has one thread
//! an interface that moves messages. Where IPv6 is off, there is nothing to answer.

pub mod advertisement;
pub(super) mod service;
pub mod speaker;
