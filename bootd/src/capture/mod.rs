//! The last packets and requests of each client, for `bootd capture`: what came, what left, and what bootd knew and decided at that moment.
//!
//! `ring` keeps them within bounds, `frame` makes packets of what arrives without its headers, `pcapng` writes the file that tshark and Wireshark
//! read, with bootd's words as comments of the packets. All of it is pure; the thread of [`Watch`](crate::boots::Watch) fills the ring. Never keeps
//! more of a packet than [`MOST_BYTES`], nor bodies of HTTP, nor what authorizes anybody.

mod frame;
mod pcapng;
mod ring;
mod said;

pub use frame::{Direction, Kind, Packet};
pub use ring::{Ring, Whose};
pub use said::Said;

/// Bytes of a packet that are kept.
pub const MOST_BYTES: usize = 1500;
