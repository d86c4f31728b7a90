//! The cloud-init plugin: what makes a booted node itself (meta-data, user-data, vendor-data and a document for each of its groups).
//!
//! Owns the cluster's defaults, the groups' documents and the nodes' overrides. In local mode it keeps what its admin API, an import and data
//! files write; what was acknowledged is in the store, a changed file with a mistake changes nothing, and no file undoes what others wrote
//! since. In upstream mode all of it is the site's, kept so that nodes get their documents while the site is away. Who asks is known by the
//! address that asks; an administrator may ask as any node. Never renders templates (the node does), never writes a file, never logs a key.

mod admin;
mod apply;
mod book;
mod documents;
mod emit;
mod file;
mod ledger;
mod local;
mod metadata;
mod mirror;
mod model;
mod network;
mod newer;
mod overrides;
mod reports;
mod rounds;
mod routes;
mod schema;
mod settings;
mod site;
mod status;
mod transfer;

use std::time::Duration;

use bootd_sdk::etag::Tags;
use bootd_sdk::prelude::*;

use ledger::Ledger;
use local::Local;
use network::Networks;
use settings::Settings;
use site::Mirrored;
use status::Status;

/// An instance.
pub struct CloudInit {
    host: Host,
    impersonation: bool,
    networks: Option<Networks>,
    boot_url: String,
    started: Duration,
    status: Status,
    ledger: Ledger,
    tags: Tags,
    source: Source,
}

/// Where the data come from.
enum Source {
    /// They are this box's own.
    Local(Local),
    /// A site has them.
    Site(Box<Mirrored>),
}

impl Plugin for CloudInit {
    const NAME: &'static str = "cloud-init";
    const SETTINGS_BY_MODE: bool = true;
    type Settings = Settings;

    fn init(start: Start<Settings>, setup: &mut Setup) -> Result<Self, Error> {
        let Start {
            settings, folder, host, ..
        } = start;
        let ledger = Ledger::open(host)?;
        let (source, impersonation, networks) = match settings {
            Settings::Local(settings) => {
                let (impersonation, networks) = (settings.impersonation, settings.network_config.clone());
                let local = Local::open(&settings, &folder, &ledger);
                (Source::Local(local), impersonation, networks)
            }
            Settings::Upstream(settings) => {
                let (impersonation, networks) = (settings.impersonation, settings.network_config.clone());
                let mirrored = Mirrored::new(host, &settings, &folder);
                (Source::Site(Box::new(mirrored)), impersonation, networks)
            }
        };
        setup.routes = routes::routes(&source);
        let plugin = Self {
            host,
            impersonation,
            networks,
            boot_url: start.server.boot_url,
            started: host.now_boot(),
            status: Status::new(host),
            ledger,
            tags: Tags::default(),
            source,
        };
        plugin.say();
        Ok(plugin)
    }

    fn run(&self) -> Result<(), Error> {
        // The instance before this one may have written until now.
        let caught_up = self.ledger.catch_up()?;
        match &self.source {
            Source::Local(local) => local.begin(self, caught_up),
            Source::Site(mirrored) => mirrored.begin(self, caught_up),
        }
        self.say();
        while self.host.sleep(Duration::from_secs(1)).is_ok() {
            match &self.source {
                Source::Local(local) => local.look(self),
                Source::Site(mirrored) => mirrored.look(self),
            }
            self.say();
        }
        Ok(())
    }

    fn handle(&self, request: Request) -> Answer {
        routes::answer(self, &request)
    }
}

impl CloudInit {
    /// Says how the plugin is, when that is new.
    fn say(&self) {
        let book = self.ledger.book();
        self.status.say(match &self.source {
            Source::Local(local) => local.health(&book),
            Source::Site(mirrored) => mirrored.health(&book),
        });
    }

    /// The site that is mirrored.
    fn site(&self) -> Option<&Mirrored> {
        match &self.source {
            Source::Local(_) => None,
            Source::Site(mirrored) => Some(mirrored),
        }
    }

    /// An answer made of the book: says so when that may be old.
    fn marked(&self, answer: Answer) -> Answer {
        match self.site() {
            Some(site) => site.mark(answer),
            None => answer,
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
