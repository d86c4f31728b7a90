//! The operator's side: a Unix socket that answers the commands `bootd status`, `nodes`, `leases`, `plugins`, `explain`, `reload`,
//! `token`, `boots`, `export`, `import` and `upgrade`, gives metrics, and has the boot board (`board`).
//!
//! HTTP with JSON over the socket `admin.socket`; whoever may open the socket may ask. `POST /reload`, `/upgrade`, `/import`, `/accept`,
//! `/ignore`, `/unignore` and `/leases/free` change something and `POST /token` makes a token, all else only reads; `GET /keys` gives the public keys.
//! A listener that serves `admin` gives the views below `/admin`, read only, to who has a token. Never answers nodes.

pub(crate) mod board;
pub(crate) mod health;
mod present;
mod service;
mod transfer;
pub mod views;

pub use service::{Admin, AdminError, bind, look_for_missing_files, run};
pub use transfer::Accepted;
