//! The smd plugin: the inventory of a cluster for the whole appliance, behind SMD's API (`/hsm/v2`).
//!
//! Owns components, their interfaces, Redfish endpoints, groups and partitions: each a row of bootd's store, all of them in memory. A write is
//! durable and published before it is answered, so a node posted this second boots this second. A nodes file, when one is configured, is
//! applied to the same rows. In upstream mode the rows are those of a `site`, which writes are passed on to. Never returns, logs or exports
//! a password, and keeps none.
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
mod site;
mod tables;
mod values;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bootd_sdk::file::Watched;
use bootd_sdk::prelude::*;
use bootd_sdk::upstream::{self, HoldBack, Refresh, Site, Token, Trust, Url};

use nodes_file::{Looker, NodesFile};
use service::Service;
use site::Mirrored;
use tables::Tables;

/// The `config` table, by mode.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Settings {
    /// The rows are kept here.
    Local(Local),
    /// The rows are those of a site.
    Upstream(Upstream),
}

/// With `mode = "upstream"`. What the keys mean is at their types.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    url: Url,
    ca: Option<PathBuf>,
    token: Option<Token>,
    #[serde(default)]
    refresh_s: Refresh,
    #[serde(default)]
    hold_back: HoldBack,
}

/// With `mode = "local"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Local {
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
    const SETTINGS_BY_MODE: bool = true;
    type Settings = Settings;

    fn init(start: Start<Settings>, setup: &mut Setup) -> Result<Self, Error> {
        setup.provides_nodes = true;
        let (nodes, site) = match start.settings {
            Settings::Local(local) => (local.nodes, None),
            Settings::Upstream(upstream) => {
                let site = upstream.into();
                (
                    None,
                    Some(Site::new(start.host, &site, &start.folder, "/hsm/v2", site::LISTED)),
                )
            }
        };
        setup.routes = api::routes(site.is_some());
        let service = Service::open(start.host, site)?;
        service.publish_all()?;
        // With a file, what the inventory has of the last run stays until the file is known to be whole.
        if nodes.is_none() {
            service.withdraw_others()?;
        }
        let file = nodes.map(|path| {
            let file = Watched::new(start.folder.join(path));
            Mutex::new(NodesFile::open(file, &service))
        });
        Ok(Self { service, file })
    }

    fn run(&self) -> Result<(), Error> {
        while self.service.host.sleep(LOOK_EVERY).is_ok() {
            self.look(Looker::Run);
            // A site that does not answer holds up only what is tried again anyway: requests and look-ups have threads of their own.
            if let Some(site) = self.service.site.as_ref().filter(|site| site.is_due()) {
                site.refresh(&Mirrored(&self.service), Trust::Guarded);
            }
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
        let known = |tables: &Tables| tables.node(&tables.interfaces.get(&mac)?.component);
        let node = known(&self.service.tables());
        node.or_else(|| site::look_up(&self.service, self.service.site.as_ref()?, mac))
    }
}

impl From<Upstream> for upstream::Settings {
    fn from(settings: Upstream) -> Self {
        Self {
            url: settings.url,
            ca: settings.ca,
            token: settings.token,
            refresh: settings.refresh_s,
            hold_back: settings.hold_back,
        }
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

/// How often the file, the site and what is pending are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

export_plugin!(Smd);

#[cfg(test)]
mod tests;
