//! The cloud-init plugin: what makes a booted node itself (meta-data, user-data, vendor-data and a document for each of its groups).
//!
//! Owns the cluster's defaults, the groups' documents and the nodes' overrides. Keeps what its admin API, an import and data files write;
//! what was acknowledged is in the store. A changed file with a mistake changes nothing, and no file undoes what others wrote since. Who
//! asks is known by the address that asks; an administrator may ask as any node. Never renders templates (the node does), never writes a
//! file, never logs a key.

mod admin;
mod apply;
mod book;
mod documents;
mod emit;
mod file;
mod ledger;
mod metadata;
mod model;
mod network;
mod reports;
mod routes;
mod schema;
mod transfer;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bootd_sdk::file::{Paths, Source, UNTIL_RIGHT};
use bootd_sdk::prelude::*;

use apply::Gone;
use book::Rows;
use ledger::{Ledger, NotWritten, Written};
use network::Networks;

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
    /// Whether who has a token may read the documents of any node. `ochami cloud-init group render` and `node get` need it.
    #[serde(default = "yes")]
    impersonation: bool,
    /// Serves `network-config`: fixed addresses in the networks of these names, DHCP on all other interfaces. Unset: 404.
    #[serde(default)]
    network_config: Option<Networks>,
}

fn yes() -> bool {
    true
}

/// An instance.
pub struct CloudInit {
    host: Host,
    settings: Settings,
    boot_url: String,
    started: Duration,
    source: Source<Rows>,
    ledger: Ledger,
    /// What is gone from the files is not deleted yet, or they could not be applied.
    unfinished: AtomicBool,
    /// The files had no mistakes at the last look: what is not in them is gone.
    is_right: AtomicBool,
}

impl Plugin for CloudInit {
    const NAME: &'static str = "cloud-init";
    const MODES: &'static [&'static str] = &["local"];
    type Settings = Settings;

    fn init(start: Start<Settings>, setup: &mut Setup) -> Result<Self, Error> {
        setup.routes = routes::routes();
        let settings = start.settings;
        let files = [
            (file::Kind::Defaults, settings.defaults.iter().collect::<Vec<_>>()),
            (file::Kind::Groups, settings.groups.0.iter().collect()),
            (file::Kind::Instances, settings.instances.iter().collect()),
        ];
        let files: Vec<(file::Kind, PathBuf)> = files
            .iter()
            .flat_map(|(kind, paths)| paths.iter().map(|path| (*kind, start.folder.join(path))))
            .collect();
        let (kinds, paths): (Vec<_>, Vec<_>) = files.into_iter().unzip();
        let (source, mistakes) = Source::open(&paths, move |files| file::read(&kinds, files));
        let plugin = Self {
            host: start.host,
            boot_url: start.server.boot_url,
            started: start.host.now_boot(),
            settings,
            source,
            ledger: Ledger::open(start.host)?,
            unfinished: AtomicBool::new(mistakes.is_empty()),
            is_right: AtomicBool::new(mistakes.is_empty()),
        };
        let draft = apply::apply(&plugin.ledger.book(), &plugin.source.data(), Gone::Waits);
        plugin.ledger.prepare(draft);
        plugin.source.report(plugin.host, mistakes, |_| plugin.describe());
        Ok(plugin)
    }

    fn run(&self) -> Result<(), Error> {
        // The instance before this one may have written until now.
        let caught_up = self.ledger.catch_up()?;
        if caught_up == Written::New || self.apply(Gone::Waits) == Written::New {
            self.apply(Gone::Waits);
            self.host.bump();
        }
        while self.host.sleep(Duration::from_secs(1)).is_ok() {
            self.look();
        }
        Ok(())
    }

    fn handle(&self, request: Request) -> Answer {
        routes::answer(self, &request)
    }
}

impl CloudInit {
    /// Looks at the files, and brings what is new into effect.
    fn look(&self) {
        match self.source.look() {
            Some(mistakes) => {
                tracing::info!(mistakes = mistakes.len(), "data files read again");
                let is_right = mistakes.is_empty();
                self.is_right.store(is_right, Ordering::Relaxed);
                self.unfinished.fetch_or(is_right, Ordering::Relaxed);
                if is_right && self.apply(Gone::Waits) == Written::New {
                    self.host.bump();
                }
                let until = if is_right { "" } else { UNTIL_RIGHT };
                self.source.report(self.host, mistakes, |_| self.describe() + until);
            }
            // As they were a second ago: what is gone from them is gone.
            None if self.unfinished.swap(false, Ordering::Relaxed) => {
                let gone = match self.is_right.load(Ordering::Relaxed) {
                    true => Gone::Deleted,
                    false => Gone::Waits,
                };
                if self.apply(gone) == Written::New {
                    self.host.bump();
                    if gone == Gone::Deleted {
                        self.source.report(self.host, Vec::new(), |_| self.describe());
                    }
                }
            }
            None => {}
        }
    }

    /// Writes what the files say. What cannot be stored is tried again at the next look.
    fn apply(&self, gone: Gone) -> Written {
        let files = self.source.data();
        let written = self
            .ledger
            .write(|book| Ok::<_, Infallible>(apply::apply(book, &files, gone)));
        match written {
            Ok(written) => written,
            Err(NotWritten::Store(error)) => {
                tracing::error!(%error, "data files cannot be applied");
                self.unfinished.store(true, Ordering::Relaxed);
                Written::Same
            }
            Err(NotWritten::Refused(never)) => match never {},
        }
    }

    /// An answer to a write: what was kept before it is old.
    fn bumped(&self, answer: Answer) -> Answer {
        if (200..300).contains(&answer.status) {
            self.host.bump();
        }
        answer
    }

    fn version(&self) -> Answer {
        let up = self.host.now_boot().saturating_sub(self.started);
        let body = serde_json::json!({
            "process_name": "bootd",
            "build_info": {"version": env!("CARGO_PKG_VERSION")},
            "uptime": format!("{}s", up.as_secs()),
        });
        Answer::new(200, "application/json", body.to_string())
    }

    fn describe(&self) -> String {
        let documents = &self.ledger.book().documents;
        let (groups, instances) = (documents.groups.len(), documents.instances.len());
        format!("{groups} groups and {instances} node overrides")
    }
}

export_plugin!(CloudInit);

#[cfg(test)]
mod tests;
