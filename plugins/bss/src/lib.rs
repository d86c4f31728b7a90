//! The bss plugin: which kernel a node boots.
//!
//! Owns the boot parameters. Keeps what BSS's API, an import and boot parameter files write, and serves the boot script that each node asks
//! for in its loader. What was acknowledged is in the store. A changed file with a mistake changes nothing, and no file undoes what others
//! wrote since. A node that may not boot yet is told to ask again, never to give up. Stored parameters are never changed: URLs are led here
//! only in the script. Never writes a file.

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
mod status;
mod templates;
mod transfer;
mod waits;
mod yaml;

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bootd_sdk::file::Paths;
use bootd_sdk::form;
use bootd_sdk::prelude::*;
use bootd_sdk::sources::Sources;
use bootd_sdk::xname;

use apply::Gone;
use file::Files;
use history::History;
use ledger::{Ledger, NotWritten, Written};
use lists::Lists;
use status::Status;

/// The `config` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Boot parameter files, as `ochami bss boot params set` reads them.
    #[serde(default)]
    boot: Paths,
    /// Seconds that a node waits at most after a boot that failed, before it asks again. It waits one at first, and longer each time.
    #[serde(default = "retry_delay")]
    retry_delay_s: u32,
    /// Seconds that a node without parameters waits before it asks again.
    #[serde(default = "poll_delay")]
    poll_delay_s: u32,
    /// Where cloud-init is: appended as `ds=nocloud-net;s=ADVERTISE/` to parameters without `ds=`. Unset: nothing is appended.
    #[serde(default, deserialize_with = "rules::advertised")]
    advertise: Option<String>,
    /// Serves `/meta-data`, `/user-data` and `/phone-home` at the root, as BSS once did.
    #[serde(default)]
    legacy_cloud_init: bool,
}

fn retry_delay() -> u32 {
    30
}

fn poll_delay() -> u32 {
    10
}

/// An instance.
pub struct Bss {
    host: Host,
    settings: Settings,
    boot_url: String,
    sources: Sources<Files>,
    status: Status,
    ledger: Ledger,
    history: History,
    lists: Lists,
    /// What is gone from the files is not deleted yet, or they could not be applied: the next look goes on.
    unfinished: AtomicBool,
    /// The files changed something before this instance was in service: what the one before it made since is older.
    is_newer: AtomicBool,
}

impl Plugin for Bss {
    const NAME: &'static str = "bss";
    const MODES: &'static [&'static str] = &["local"];
    type Settings = Settings;

    fn init(start: Start<Settings>, setup: &mut Setup) -> Result<Self, Error> {
        setup.routes = routes::all(start.settings.legacy_cloud_init);
        setup.events = vec![EventKind::Http];
        let (sources, seen) = Sources::open(&start.settings.boot.below(&start.folder), file::read);
        let ledger = Ledger::open(start.host)?;
        let written = apply(&ledger, &sources, Gone::Waits)?;
        let line = describe(&ledger, &start.settings);
        Ok(Self {
            host: start.host,
            history: History::open(start.host)?,
            lists: Lists::default(),
            status: Status::new(start.host, seen, line),
            unfinished: AtomicBool::new(sources.is_whole()),
            is_newer: AtomicBool::new(written == Written::New),
            settings: start.settings,
            boot_url: start.server.boot_url,
            sources,
            ledger,
        })
    }

    fn run(&self) -> Result<(), Error> {
        // The instance before this one may have written, and answered, until now.
        if self.ledger.catch_up()? == Written::New || self.is_newer.swap(false, Ordering::Relaxed) {
            self.host.bump();
        }
        let (mut looked, mut written) = (self.host.now_boot(), self.host.now_boot());
        while let Ok(heard) = self.wait() {
            let now = self.host.now_boot();
            if matches!(heard, Heard::Nothing) || now.saturating_sub(looked) >= LOOK_EVERY {
                looked = now;
                self.look();
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
        Ok(())
    }

    fn handle(&self, request: Request) -> Answer {
        let path = request.path.strip_prefix("/apis/bss").unwrap_or(&request.path);
        let path = path.trim_end_matches('/');
        let method = request.method.as_str();
        let Some(path) = path.strip_prefix("/boot/v1") else {
            return match (method, path) {
                ("GET", "/bootd/v1/export/bss") => transfer::export(&self.ledger.book()),
                ("POST", "/bootd/v1/import/bss") => transfer::import(&self.ledger, &request.body),
                ("GET", "/meta-data" | "/user-data") | ("POST", "/phone-home") if self.settings.legacy_cloud_init => {
                    legacy::answer(self, &request)
                }
                _ => nowhere(),
            };
        };
        match (method, path) {
            ("GET", "/bootscript") => bootscript::answer(self, &request),
            ("GET" | "POST" | "PUT" | "PATCH" | "DELETE", "/bootparameters") => {
                bootparameters::answer(&self.ledger, &request)
            }
            ("GET", "/hosts") => hosts::list(self, &request),
            // Nothing is older than the inventory itself.
            ("POST", "/hosts") => Answer {
                status: 204,
                ..Answer::default()
            },
            // The same of a callback: upstream's answers without a word.
            ("POST", "/scn") => Answer::default(),
            ("GET", "/dumpstate") => hosts::dump(self),
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
        if let Some(gone) = gone {
            let applied = apply(&self.ledger, &self.sources, gone);
            if let Err(error) = &applied {
                tracing::warn!(%error, "boot parameter files are not applied yet");
            }
            let may_delete = gone == Gone::Waits && self.sources.is_whole();
            self.unfinished.store(applied.is_err() || may_delete, Ordering::Relaxed);
        }
        self.status.say(seen, describe(&self.ledger, &self.settings));
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

fn apply(ledger: &Ledger, sources: &Sources<Files>, gone: Gone) -> Result<Written, HostError> {
    let files = sources.data();
    let written = ledger.write(|book| Ok::<_, Infallible>(apply::apply(book, &files.entries, gone)));
    written.map_err(|not_written| match not_written {
        NotWritten::Store(error) => error,
        NotWritten::Refused(never) => match never {},
    })
}

fn describe(ledger: &Ledger, settings: &Settings) -> String {
    let book = ledger.book();
    let (entries, targets, files) = (book.len(), book.targets(), settings.boot.0.len());
    format!("{entries} boot parameters for {targets} targets; {files} files are applied")
}

fn nowhere() -> Answer {
    Answer::text(404, "404 page not found\n")
}

/// What is served, for machines.
const OPENAPI: &str = include_str!("openapi.json");
/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two writes of the endpoint history: what a crash costs.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// After an event, until all that came are taken.
const REST: Duration = Duration::from_millis(100);

export_plugin!(Bss);

#[cfg(test)]
mod tests;
