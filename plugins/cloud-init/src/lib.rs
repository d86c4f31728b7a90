//! The cloud-init plugin: what makes a booted node itself (meta-data, user-data, vendor-data and a document for each of its groups).
//!
//! Owns the cluster's defaults, the groups' documents and the nodes' overrides, from files. Who asks is known by the address that asks; an
//! administrator may ask as any node. A changed file with a mistake changes nothing. Never renders templates (the node does), never writes a
//! file, never logs a key.

mod emit;
mod file;
mod metadata;
mod routes;

use std::path::PathBuf;

use bootd_sdk::file::{Paths, Source};
use bootd_sdk::prelude::*;

use metadata::Documents;

/// The `config` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The cluster's defaults, as `ochami cloud-init defaults set` reads them.
    #[serde(default)]
    defaults: Option<PathBuf>,
    /// Files of groups, as `ochami cloud-init group set` reads them.
    #[serde(default)]
    groups: Paths,
    /// What is different about single nodes, as `ochami cloud-init node set` reads it.
    #[serde(default)]
    instances: Option<PathBuf>,
}

/// An instance.
pub struct CloudInit {
    host: Host,
    boot_url: String,
    source: Source<Documents>,
}

impl Plugin for CloudInit {
    const NAME: &'static str = "cloud-init";
    const MODES: &'static [&'static str] = &["local"];
    type Settings = Settings;

    fn init(start: Start<Settings>, setup: &mut Setup) -> Result<Self, Error> {
        setup.routes = routes::routes();
        let settings = start.settings;
        let mut paths = Vec::new();
        let mut kinds = Vec::new();
        for (kind, files) in [
            (file::Kind::Defaults, settings.defaults.into_iter().collect()),
            (file::Kind::Groups, settings.groups.0),
            (
                file::Kind::Instances,
                settings.instances.into_iter().collect::<Vec<_>>(),
            ),
        ] {
            kinds.extend(files.iter().map(|_| kind));
            paths.extend(files.iter().map(|file| start.folder.join(file)));
        }
        let (source, mistakes) = Source::open(&paths, move |files| file::read(&kinds, files));
        let plugin = Self {
            host: start.host,
            boot_url: start.server.boot_url,
            source,
        };
        plugin.source.report(plugin.host, mistakes, describe);
        Ok(plugin)
    }

    fn run(&self) -> Result<(), Error> {
        self.source.follow(self.host, describe);
        Ok(())
    }

    fn handle(&self, request: Request) -> Answer {
        routes::answer(self.host, &self.source.data(), &self.boot_url, &request)
    }
}

fn describe(data: &Documents) -> String {
    let (groups, instances) = (data.groups.len(), data.instances.len());
    format!("{groups} groups and {instances} node overrides")
}

export_plugin!(CloudInit);

#[cfg(test)]
mod tests;
