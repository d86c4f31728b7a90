//! The cloud-init plugin: what makes a booted node itself (meta-data, user-data, vendor-data and a document for each of its groups).
//!
//! Owns the cluster's defaults, the groups' documents and the nodes' overrides, from files. Who asks is known by the address that asks; an
//! administrator may ask as any node. A changed file with a mistake changes nothing. Never renders templates (the node does), never writes a
//! file, never logs a key.

mod base64;
mod emit;
mod file;
mod metadata;
mod routes;

use std::path::PathBuf;
use std::time::Duration;

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
        plugin.tell(mistakes, "");
        Ok(plugin)
    }

    fn run(&self) -> Result<(), Error> {
        while self.host.sleep(Duration::from_secs(1)).is_ok() {
            let Some(mistakes) = self.source.look() else { continue };
            tracing::info!(mistakes = mistakes.len(), "cloud-init files read again");
            if mistakes.is_empty() {
                self.host.bump();
                self.tell(mistakes, "");
            } else {
                self.tell(
                    mistakes,
                    "; the files changed since, and count when their mistakes are gone",
                );
            }
        }
        Ok(())
    }

    fn handle(&self, request: Request) -> Answer {
        routes::answer(self.host, &self.source.data(), &self.boot_url, &request)
    }
}

impl CloudInit {
    fn tell(&self, mistakes: Vec<Mistake>, note: &str) {
        let data = self.source.data();
        let text = format!(
            "{} groups and {} node overrides{note}",
            data.groups.len(),
            data.instances.len()
        );
        self.host.health(&Health { text, mistakes });
    }
}

export_plugin!(CloudInit);

#[cfg(test)]
mod tests;
