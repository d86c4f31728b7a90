//! bootd: a network-boot appliance for one rack.
//!
//! One box gives a node everything it needs from power-on to its login prompt: an address and a loader (`dhcp`, `tftp`), a boot script and
//! its configuration (`http`, from `plugins`), kernel and root image (`http::artifacts`, through `cache`). What a packet needs lies in
//! immutable snapshots (`inventory`); no packet waits for a plugin, an upstream or a disk.

#[cfg(test)]
#[path = "../../tests/src/bench/allocations.rs"]
#[allow(unreachable_pub, reason = "it is a module of the benches, too")]
mod allocations;

pub mod admin;
pub mod auth;
pub mod boots;
pub mod cache;
pub mod capture;
pub mod cli;
pub mod config;
pub mod dhcp;
pub mod explain;
pub mod http;
pub mod inventory;
mod lines;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod net;
pub mod plugins;
pub mod reload;
mod script;
pub mod state;
pub mod tftp;
pub mod upgrade;
pub mod urgency;
pub mod warmer;
pub mod watchdog;
