//! The operator's side: a Unix socket that answers the commands `bootd status`, `nodes`, `leases`, `plugins`, `explain`, `reload`,
//! `token`, `export` and `import`, and gives metrics.
//!
//! HTTP with JSON over the socket `admin.socket`; whoever may open the socket may ask. `POST /reload`, `/import`, `/accept`, `/ignore`,
//! `/unignore` and `/leases/free` change something and `POST /token` makes a token, all else only reads; `GET /keys` gives the public keys.
//! Never answers nodes.

mod service;
mod transfer;
pub mod views;

pub use service::{Admin, AdminError, bind, look_for_missing_files, run};
pub use transfer::Accepted;
