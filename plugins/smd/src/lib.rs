//! The smd plugin: the nodes of a cluster, from a static discovery file, for the whole appliance.
//!
//! Owns the nodes of its file. Publishes them before bootd is ready, looks at the file every second, and answers `resolve` from the newest
//! text, so a node added a second ago boots. A changed file with a mistake changes nothing; a missing or broken file never empties anything.
//! A file may be half written and look right: who is gone from it leaves only when its text was the same at two looks, a second apart.
//! Serves the read side of SMD's API from the inventory, with the nodes of every provider in it. Never writes a file.

mod api;
mod file;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bootd_sdk::file::{UNTIL_RIGHT, Watched};
use bootd_sdk::prelude::*;

use file::Row;

/// The `config` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The static discovery file, as `ochami discover static` reads it. Without it the plugin publishes nothing.
    #[serde(default)]
    nodes: Option<PathBuf>,
}

/// An instance.
pub struct Smd {
    host: Host,
    source: Option<Mutex<Source>>,
}

/// The file and what is in effect of it.
struct Source {
    file: Watched,
    /// As the host accepted them.
    nodes: Vec<Node>,
    /// The host could not be asked: try again though the file is as it was.
    unfinished: bool,
    /// The file is right, and who is gone from it is still published.
    waiting: Option<Waiting>,
    health: Health,
}

/// How long nodes that are gone from the file still stay.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// Until `run` has looked, and then looked again: the text was found between two of its looks.
    TwoLooks,
    /// Until `run` looks again.
    OneLook,
}

/// Whether data are in effect already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Not yet: what is good of the file is better than nothing.
    Start,
    /// They are, and stay until the file is right.
    Change,
    /// So is this text: it was the same at two looks.
    Settled,
}

/// Who looks at the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looker {
    /// `run`, every second.
    Run,
    /// `resolve`, at any time.
    Resolve,
}

impl Plugin for Smd {
    const NAME: &'static str = "smd";
    const MODES: &'static [&'static str] = &["local"];
    type Settings = Settings;

    fn init(start: Start<Settings>, setup: &mut Setup) -> Result<Self, Error> {
        setup.provides_nodes = true;
        setup.routes = api::routes();
        let host = start.host;
        let source = start.settings.nodes.map(|path| {
            let mut source = Source::new(Watched::new(start.folder.join(path)));
            source.file.look();
            source.apply(host, When::Start, Waiting::OneLook);
            host.health(&source.health);
            Mutex::new(source)
        });
        if source.is_none() {
            host.health(&Health {
                text: "no nodes of its own: config.nodes is not set".into(),
                mistakes: Vec::new(),
            });
        }
        Ok(Self { host, source })
    }

    fn run(&self) -> Result<(), Error> {
        while self.host.sleep(Duration::from_secs(1)).is_ok() {
            self.look(Looker::Run);
        }
        Ok(())
    }

    fn handle(&self, request: Request) -> Answer {
        api::answer(self.host, &request)
    }

    fn resolve(&self, mac: Mac) -> Option<Node> {
        let source = self.look(Looker::Resolve)?;
        let has_it = |node: &&Node| node.interfaces.iter().any(|interface| interface.mac == mac);
        source.nodes.iter().find(has_it).cloned()
    }
}

impl Smd {
    /// Brings the file's present state into effect. `None`: there is no file.
    fn look(&self, who: Looker) -> Option<MutexGuard<'_, Source>> {
        let mut source = self.source.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = source.file.look() || source.unfinished;
        let (when, waiting) = match (who, source.waiting) {
            (Looker::Run, _) if is_new => (When::Change, Waiting::OneLook),
            (Looker::Resolve, _) if is_new => (When::Change, Waiting::TwoLooks),
            (Looker::Run, Some(Waiting::OneLook)) => (When::Settled, Waiting::OneLook),
            (Looker::Run, Some(Waiting::TwoLooks)) => {
                source.waiting = Some(Waiting::OneLook);
                return Some(source);
            }
            _ => return Some(source),
        };
        let before = source.health.clone();
        source.apply(self.host, when, waiting);
        if source.health != before {
            self.host.health(&source.health);
            let (file, mistakes) = (source.file.name(), source.health.mistakes.len());
            tracing::info!(file, mistakes, "node file read again");
        }
        Some(source)
    }
}

impl Source {
    fn new(file: Watched) -> Self {
        Self {
            file,
            nodes: Vec::new(),
            unfinished: false,
            waiting: None,
            health: Health::default(),
        }
    }

    /// Reads the text, publishes what may be, and says how it went in `health`. `waiting`: how long nodes that are gone from it stay.
    fn apply(&mut self, host: Host, when: When, waiting: Waiting) {
        let name = self.file.name().to_owned();
        let (rows, mut mistakes) = match self.file.text() {
            Ok(text) => file::read(&name, text),
            Err(mistake) => (Vec::new(), vec![mistake]),
        };
        // Nothing good in a broken file is not the same as a file that says that there are no nodes.
        let may_publish = mistakes.is_empty() || (when == When::Start && !rows.is_empty());
        self.unfinished = false;
        self.waiting = None;
        if may_publish {
            // Rows that mistakes cost stay as bootd last had them; who is gone from the file is known only when it is right.
            match publish(host, &rows, when, mistakes.is_empty()) {
                Ok(outcome) => {
                    let is_right = mistakes.is_empty() && outcome.refused.is_empty();
                    self.waiting = (is_right && when != When::Settled).then_some(waiting);
                    mistakes.extend(outcome.refused.into_iter().map(|(line, text)| Mistake {
                        file: name.clone(),
                        line,
                        text,
                    }));
                    if let Some(nodes) = outcome.published {
                        self.replace(nodes, when);
                    }
                }
                Err(error) => {
                    self.unfinished = true;
                    tracing::warn!(%error, "nodes not published");
                    mistakes.push(Mistake {
                        file: name.clone(),
                        line: 0,
                        text: format!("the inventory does not take its nodes: {error}"),
                    });
                }
            }
        }
        let nodes = self.nodes.iter().filter(|node| node.kind == "Node").count();
        let mut text = format!("{nodes} nodes and {} BMCs from {name}", self.nodes.len() - nodes);
        if when != When::Start && !mistakes.is_empty() {
            text.push_str(UNTIL_RIGHT);
        }
        self.health = Health { text, mistakes };
    }

    /// These nodes are in effect now; before the file is settled, beside those that are gone from it.
    fn replace(&mut self, nodes: Vec<Node>, when: When) {
        let before = std::mem::replace(&mut self.nodes, nodes);
        if when != When::Settled {
            let ids: HashSet<&str> = self.nodes.iter().map(|node| node.id.as_str()).collect();
            let rest: Vec<Node> = before
                .into_iter()
                .filter(|old| !ids.contains(old.id.as_str()))
                .collect();
            self.nodes.extend(rest);
        }
    }
}

struct Outcome {
    /// Rows in effect now; `None`: nothing was published.
    published: Option<Vec<Node>>,
    /// Lines and reasons.
    refused: Vec<(u64, String)>,
}

/// `is_right`: the rows are all of the file. They are checked as if who is gone from it had left already, which happens when it is settled.
fn publish(host: Host, rows: &[Row], when: When, is_right: bool) -> Result<Outcome, Error> {
    let mut publication = Publication {
        full: is_right,
        dry_run: true,
        nodes: rows
            .iter()
            .map(|row| serde_json::to_value(&row.node))
            .collect::<Result<_, _>>()?,
        ..Publication::default()
    };
    let report = host.publish(&publication)?;
    let mut published = None;
    if when == When::Start || report.refused.is_empty() {
        publication.dry_run = false;
        publication.full = is_right && when == When::Settled;
        // What is refused only here has something of a node that is gone, such as its MAC, and takes effect when that one leaves.
        let refused: HashSet<usize> = host.publish(&publication)?.refused.iter().map(|r| r.row).collect();
        let accepted = rows.iter().enumerate().filter(|(place, _)| !refused.contains(place));
        published = Some(accepted.map(|(_, row)| row.node.clone()).collect());
    }
    let refused = report.refused.iter().map(|refusal| {
        let line = rows.get(refusal.row).map_or(0, |row| row.line);
        (line, format!("{}: {}", refusal.id, refusal.reason))
    });
    Ok(Outcome {
        published,
        refused: refused.collect(),
    })
}

export_plugin!(Smd);

#[cfg(test)]
mod tests;
