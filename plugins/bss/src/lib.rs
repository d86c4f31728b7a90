//! The bss plugin: which kernel a node boots.
//!
//! Owns the boot parameters. Keeps what BSS's API, an import and boot parameter files write, or mirrors those of a site; and serves the boot
//! script that each node asks for in its loader. What was acknowledged is in the store. A changed file with a mistake changes nothing, and no
//! file undoes what others wrote since. Nothing that a site answers empties what is there. A node that may not boot yet is told to ask again,
//! never to give up. Stored parameters are never changed: URLs are led here only in the script. Never writes a file.

mod apply;
mod book;
mod bootparameters;
mod bootscript;
mod entry;
mod file;
mod history;
mod hosts;
mod lead;
mod ledger;
mod legacy;
mod listed;
mod lists;
mod mirror;
mod routes;
mod rules;
mod script;
mod service;
mod settings;
mod site;
mod source;
mod status;
mod templates;
mod transfer;
mod waits;
mod yaml;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bootd_sdk::prelude::*;
use bootd_sdk::text::counted;
use bootd_sdk::{form, xname};

use history::History;
use ledger::{Ledger, Written};
use lists::Lists;
use settings::{Common, Settings};
use site::Mirrored;
use source::{Source, Watched};
use status::Status;

/// An instance.
pub struct Bss {
    host: Host,
    common: Common,
    boot_url: String,
    source: Source,
    status: Status,
    ledger: Ledger,
    history: History,
    lists: Lists,
    /// The files changed something before this instance was in service: what the one before it made since is older.
    is_newer: AtomicBool,
}

impl Plugin for Bss {
    const NAME: &'static str = "bss";
    const SETTINGS_BY_MODE: bool = true;
    type Settings = Settings;

    fn init(start: Start<Settings>, setup: &mut Setup) -> Result<Self, Error> {
        let common = start.settings.common();
        let ledger = Ledger::open(start.host)?;
        let (source, written) = match &start.settings {
            Settings::Local(local) => {
                let (applied, written) = Watched::open(local, &start.folder, &ledger)?;
                (Source::Files(applied), written)
            }
            Settings::Upstream(upstream) => {
                let mirrored = Mirrored::new(start.host, upstream, &start.folder);
                (Source::Site(Box::new(mirrored)), Written::Same)
            }
        };
        setup.routes = routes::all(common.legacy_cloud_init, source.written());
        setup.events = vec![EventKind::Http];
        let bss = Self {
            host: start.host,
            history: History::open(start.host)?,
            lists: Lists::default(),
            status: Status::new(start.host),
            is_newer: AtomicBool::new(written == Written::New),
            common,
            boot_url: start.server.boot_url,
            source,
            ledger,
        };
        bss.say();
        Ok(bss)
    }

    fn run(&self) -> Result<(), Error> {
        // The instance before this one may have written, and answered, until now.
        if self.ledger.catch_up()? == Written::New || self.is_newer.swap(false, Ordering::Relaxed) {
            self.host.bump();
        }
        std::thread::scope(|threads| {
            if let Source::Site(site) = &self.source {
                // A site that does not answer holds up nothing else.
                let follow = || self.follow(site);
                std::thread::Builder::new()
                    .name("site".into())
                    .spawn_scoped(threads, follow)?;
            }
            self.tend();
            Ok(())
        })
    }

    fn handle(&self, request: Request) -> Answer {
        let path = request.path.strip_prefix("/apis/bss").unwrap_or(&request.path);
        let path = path.trim_end_matches('/');
        let method = request.method.as_str();
        let Some(path) = path.strip_prefix("/boot/v1") else {
            return match (method, path) {
                ("GET", "/bootd/v1/export/bss") => self.mark(transfer::export(&self.ledger.book())),
                ("POST", "/bootd/v1/import/bss") => match &self.source {
                    Source::Files(_) => transfer::import(&self.ledger, &request.body),
                    Source::Site(site) => site.import(),
                },
                ("POST", "/bootd/v1/accept/bss") => match &self.source {
                    Source::Files(_) => nowhere(),
                    Source::Site(site) => {
                        let answer = site.accept(&self.ledger);
                        self.say();
                        answer
                    }
                },
                ("GET", "/meta-data" | "/user-data") | ("POST", "/phone-home") if self.common.legacy_cloud_init => {
                    self.mark(legacy::answer(self, &request))
                }
                _ => nowhere(),
            };
        };
        match (method, path) {
            ("GET", "/bootscript") => self.mark(bootscript::answer(self, &request)),
            ("POST" | "PUT" | "PATCH" | "DELETE", "/bootparameters") => match &self.source {
                Source::Files(_) => bootparameters::answer(&self.ledger, &request),
                Source::Site(site) => {
                    let answer = site.write(&self.ledger, &request);
                    self.say();
                    answer
                }
            },
            ("GET", "/bootparameters") => self.mark(bootparameters::answer(&self.ledger, &request)),
            ("GET", "/hosts") => self.mark(hosts::list(self, &request)),
            // Nothing is older than the inventory itself. A callback is the same: upstream's answers without a word.
            ("POST", "/hosts" | "/scn") => {
                if let Some(site) = self.site() {
                    site.hurry();
                }
                Answer {
                    status: if path == "/hosts" { 204 } else { 200 },
                    ..Answer::default()
                }
            }
            ("GET", "/dumpstate") => self.mark(hosts::dump(self)),
            ("GET", "/endpoint-history") => self.endpoint_history(&request.query),
            ("GET", "/openapi.json") => Answer::new(200, "application/json", OPENAPI),
            ("GET", "") => service::index(),
            ("GET", path) => path
                .strip_prefix("/service")
                .and_then(|path| service::answer(self.host, path))
                .unwrap_or_else(nowhere),
            _ => nowhere(),
        }
    }
}

/// What a wait ended with.
enum Heard {
    Something,
    Nothing,
}

impl Bss {
    /// Waits for events, and takes those that came. Kept scripts are served without the plugin: these events tell of them.
    fn wait(&self) -> Result<Heard, Stopping> {
        match self.host.event(LOOK_EVERY) {
            Ok(Some(event)) => {
                // In a storm one wake-up takes many. Not the host's sleep, which each event would wake.
                std::thread::sleep(REST);
                let mut next = Some(event);
                while let Some(event) = next {
                    self.history.heard(&event.what, self.host.now_unix().as_secs());
                    next = self.host.event(Duration::ZERO).map_err(|_| Stopping)?;
                }
                Ok(Heard::Something)
            }
            Ok(None) => Ok(Heard::Nothing),
            Err(HostError::Stopping) => Err(Stopping),
            Err(_) => self.host.sleep(LOOK_EVERY).map(|()| Heard::Nothing),
        }
    }

    /// Looks at the files, and keeps in order what is made of requests, until the instance is to stop.
    fn tend(&self) {
        let (mut looked, mut written) = (self.host.now_boot(), self.host.now_boot());
        while let Ok(heard) = self.wait() {
            let now = self.host.now_boot();
            if matches!(heard, Heard::Nothing) || now.saturating_sub(looked) >= LOOK_EVERY {
                looked = now;
                if let Source::Files(files) = &self.source {
                    files.look(&self.ledger);
                    self.say();
                }
                self.history.look_up();
                self.lists.hosts.forget_old(now);
                self.lists.dump.forget_old(now);
            }
            if now.saturating_sub(written) >= WRITE_EVERY {
                written = now;
                self.history.write();
            }
        }
        self.history.look_up();
        self.history.write();
    }

    /// Looks at the site, until the instance is to stop.
    fn follow(&self, site: &Mirrored) {
        loop {
            site.look(&self.ledger);
            self.say();
            if self.host.sleep(LOOK_EVERY).is_err() {
                return;
            }
        }
    }

    fn say(&self) {
        self.status.say(|| {
            let book = self.ledger.book();
            let line = format!(
                "{} of boot parameters for {}",
                counted(book.len(), "set"),
                counted(book.targets(), "target")
            );
            match &self.source {
                Source::Files(files) => files.health(&line),
                Source::Site(site) => site.health(&line),
            }
        });
    }

    /// The site that is mirrored.
    fn site(&self) -> Option<&Mirrored> {
        match &self.source {
            Source::Files(_) => None,
            Source::Site(site) => Some(site),
        }
    }

    /// An answer made of the boot parameters says when they may be old.
    fn mark(&self, answer: Answer) -> Answer {
        match self.site() {
            Some(site) => site.mark(answer),
            None => answer,
        }
    }

    fn endpoint_history(&self, query: &str) -> Answer {
        let Some(query) = form::pairs(query) else {
            return Answer::problem(400, "Bad Request", "the query is not well formed");
        };
        let name = form::first(&query, "name").map(xname::normalise);
        let list = self.history.list(name.as_deref(), form::first(&query, "endpoint"));
        Answer::new(200, "application/json", list.to_string())
    }
}

fn nowhere() -> Answer {
    Answer::text(404, "404 page not found\n")
}

/// What is served, for machines.
const OPENAPI: &str = include_str!("openapi.json");
/// Between two looks at the files or the site.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two writes of the endpoint history: what a crash costs.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// After an event, until all that came are taken.
const REST: Duration = Duration::from_millis(100);

export_plugin!(Bss);

#[cfg(test)]
mod tests;
