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
mod mirror;
mod model;
mod network;
mod overrides;
mod reports;
mod rounds;
mod routes;
mod schema;
mod status;
mod transfer;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bootd_sdk::file::Paths;
use bootd_sdk::prelude::*;
use bootd_sdk::sources::Sources;

use apply::Gone;
use file::Files;
use ledger::{Ledger, NotWritten, Written};
use network::Networks;
use status::Status;

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
    sources: Sources<Files>,
    status: Status,
    ledger: Ledger,
    /// What is gone from the files is not deleted yet, or they could not be applied: the next look goes on.
    unfinished: AtomicBool,
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
        let (sources, seen) = Sources::open(&paths, move |place, name, text, files: &mut Files| {
            let kind = kinds.get(place).copied().unwrap_or(file::Kind::Import);
            file::read_text(kind, name, text, files)
        });
        let plugin = Self {
            host: start.host,
            boot_url: start.server.boot_url,
            started: start.host.now_boot(),
            settings,
            status: Status::new(start.host),
            ledger: Ledger::open(start.host)?,
            unfinished: AtomicBool::new(sources.is_whole()),
            sources,
        };
        let draft = apply::apply(&plugin.ledger.book(), &plugin.sources.data().rows(), Gone::Waits);
        plugin.ledger.prepare(draft);
        plugin.status.say(Some(seen), &plugin.ledger.book());
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
    /// Looks at the files, brings what is new into effect, and says how it is.
    fn look(&self) {
        let seen = self.sources.look();
        let gone = match &seen {
            Some(seen) => {
                tracing::info!(mistakes = seen.mistakes.len(), "data files read again");
                Some(Gone::Waits)
            }
            None if !self.unfinished.load(Ordering::Relaxed) => None,
            // As they were a second ago: what is gone from them is gone.
            None if self.sources.is_whole() => Some(Gone::Deleted),
            None => Some(Gone::Waits),
        };
        if gone.map(|gone| self.apply(gone)) == Some(Written::New) {
            self.host.bump();
        }
        self.status.say(seen, &self.ledger.book());
    }

    /// Writes what the files say. What cannot be stored is tried again at the next look.
    fn apply(&self, gone: Gone) -> Written {
        let files = self.sources.data().rows();
        let applied = self
            .ledger
            .write(|book| Ok::<_, Infallible>(apply::apply(book, &files, gone)));
        let may_delete = gone == Gone::Waits && self.sources.is_whole();
        self.unfinished.store(applied.is_err() || may_delete, Ordering::Relaxed);
        match applied {
            Ok(written) => written,
            Err(NotWritten::Store(error)) => {
                tracing::error!(%error, "data files cannot be applied");
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
}

export_plugin!(CloudInit);

#[cfg(test)]
mod tests;
