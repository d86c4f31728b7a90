//! The smd plugin: the inventory of a cluster for the whole appliance, behind SMD's API (`/hsm/v2`).
//!
//! Owns components, their interfaces, Redfish endpoints, groups and partitions: each a row of bootd's store, all of them in memory. A write is
//! durable and published before it is answered, so a node posted this second boots this second. A nodes file, when one is configured, is
//! applied to the same rows. Never returns, logs or exports a password, and keeps none.
//!
//! A request's way: `api` reads it, a `draft` decides, `service` stores, puts into `tables` and publishes.

mod api;
mod discovery;
mod draft;
mod exchange;
mod file;
mod nodes_file;
mod rows;
mod service;
mod tables;
mod values;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bootd_sdk::file::Watched;
use bootd_sdk::prelude::*;

use nodes_file::{Looker, NodesFile};
use service::Service;

/// The `config` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A static discovery file, as `ochami discover static` reads it, that is applied now and whenever it changes.
    #[serde(default)]
    nodes: Option<PathBuf>,
}

/// An instance.
pub struct Smd {
    service: Service,
    file: Option<Mutex<NodesFile>>,
}

impl Plugin for Smd {
    const NAME: &'static str = "smd";
    const MODES: &'static [&'static str] = &["local"];
    type Settings = Settings;

    fn init(start: Start<Settings>, setup: &mut Setup) -> Result<Self, Error> {
        setup.provides_nodes = true;
        setup.routes = api::routes();
        let service = Service::open(start.host)?;
        service.publish_all()?;
        // With a file, what the inventory has of the last run stays until the file is known to be whole.
        if start.settings.nodes.is_none() {
            service.withdraw_others()?;
        }
        let file = start.settings.nodes.map(|path| {
            let file = Watched::new(start.folder.join(path));
            Mutex::new(NodesFile::open(file, &service))
        });
        Ok(Self { service, file })
    }

    fn run(&self) -> Result<(), Error> {
        while self.service.host.sleep(Duration::from_secs(1)).is_ok() {
            self.look(Looker::Run);
            self.service.tend();
        }
        Ok(())
    }

    fn handle(&self, request: Request) -> Answer {
        api::answer(&self.service, &request)
    }

    fn resolve(&self, mac: Mac) -> Option<Node> {
        self.look(Looker::Resolve);
        // Whether the inventory takes it is for the host to see: asking here would wait for a writer.
        let tables = self.service.tables();
        tables.node(&tables.interfaces.get(&mac)?.component)
    }
}

impl Smd {
    /// Brings the file's present state into effect.
    fn look(&self, who: Looker) {
        if let Some(file) = &self.file {
            file.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .look(&self.service, who);
        }
    }
}

export_plugin!(Smd);

#[cfg(test)]
mod tests;
