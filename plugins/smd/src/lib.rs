//! The smd plugin: the nodes of a cluster, from a static discovery file, for the whole appliance.
//!
//! Owns the nodes of its file. Publishes them before bootd is ready, looks at the file every second, and answers `resolve` from the newest
//! text, so a node added a second ago boots. A changed file with a mistake changes nothing; a missing or broken file never empties anything.
//! Serves the read side of SMD's API from the inventory, with the nodes of every provider in it. Never writes a file.

mod api;
mod file;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bootd_sdk::file::Watched;
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
    health: Health,
}

/// Whether data are in effect already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Not yet: what is good of the file is better than nothing.
    Start,
    /// They are, and stay until the file is right.
    Change,
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
            source.apply(host, When::Start);
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
            self.look();
        }
        Ok(())
    }

    fn handle(&self, request: Request) -> Answer {
        api::answer(self.host, &request)
    }

    fn resolve(&self, mac: Mac) -> Option<Node> {
        let source = self.look()?;
        let has_it = |node: &&Node| node.interfaces.iter().any(|interface| interface.mac == mac);
        source.nodes.iter().find(has_it).cloned()
    }
}

impl Smd {
    /// Brings the file's present state into effect. `None`: there is no file.
    fn look(&self) -> Option<MutexGuard<'_, Source>> {
        let mut source = self.source.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        if source.file.look() || source.unfinished {
            let before = source.health.clone();
            source.apply(self.host, When::Change);
            if source.health != before {
                self.host.health(&source.health);
                let (file, mistakes) = (source.file.name(), source.health.mistakes.len());
                tracing::info!(file, mistakes, "node file read again");
            }
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
            health: Health::default(),
        }
    }

    /// Reads the text, publishes what may be, and says how it went in `health`.
    fn apply(&mut self, host: Host, when: When) {
        let name = self.file.name().to_owned();
        let (rows, mut mistakes) = match self.file.text() {
            Ok(text) => file::read(&name, text),
            Err(mistake) => (Vec::new(), vec![mistake]),
        };
        // Nothing good in a broken file is not the same as a file that says that there are no nodes.
        let may_publish = mistakes.is_empty() || (when == When::Start && !rows.is_empty());
        self.unfinished = false;
        if may_publish {
            // Rows that mistakes cost stay as bootd last had them; who is gone from the file is known only when it is right.
            match publish(host, &rows, when, mistakes.is_empty()) {
                Ok(outcome) => {
                    mistakes.extend(outcome.refused.into_iter().map(|(line, text)| Mistake {
                        file: name.clone(),
                        line,
                        text,
                    }));
                    if let Some(nodes) = outcome.published {
                        self.nodes = nodes;
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
        if when == When::Change && !mistakes.is_empty() {
            text.push_str("; the file changed since, and counts when its mistakes are gone");
        }
        self.health = Health { text, mistakes };
    }
}

struct Outcome {
    /// Nodes in effect now; `None`: nothing was published.
    published: Option<Vec<Node>>,
    /// Lines and reasons.
    refused: Vec<(u64, String)>,
}

fn publish(host: Host, rows: &[Row], when: When, full: bool) -> Result<Outcome, Error> {
    let mut publication = Publication {
        full,
        dry_run: when == When::Change,
        nodes: rows
            .iter()
            .map(|row| serde_json::to_value(&row.node))
            .collect::<Result<_, _>>()?,
        gone: Vec::new(),
    };
    let mut report = host.publish(&publication)?;
    if publication.dry_run && report.refused.is_empty() {
        publication.dry_run = false;
        report = host.publish(&publication)?;
    }
    let refused_rows: HashSet<usize> = report.refused.iter().map(|refusal| refusal.row).collect();
    let published = (!publication.dry_run).then(|| {
        let accepted = rows
            .iter()
            .enumerate()
            .filter(|(place, _)| !refused_rows.contains(place));
        accepted.map(|(_, row)| row.node.clone()).collect()
    });
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
