//! The nodes file: applied, not owned.
//!
//! Its rows are compared with how they were last applied, which the store remembers. What is new or different in the file is written; what is
//! gone from it is deleted, unless a client wrote it since; all else stays as it is. A file with mistakes changes nothing, except at start,
//! when only its wrong rows are left out. A file may be half written and look right: who is gone from it leaves only when its text was the same
//! at two looks, a second apart.

use std::collections::{BTreeMap, HashSet};

use bootd_sdk::file::{UNTIL_RIGHT, Watched};
use bootd_sdk::prelude::*;
use bootd_sdk::xname;

use crate::discovery;
use crate::draft::Draft;
use crate::file::{self, Row};
use crate::rows::{Address, Family, Id, Interface, Set};
use crate::service::{Service, Stored, Unwritten};
use crate::values::{self, Word};

/// The file and what is in effect of it.
pub(crate) struct NodesFile {
    file: Watched,
    /// The host could not be asked: try again though the file is as it was.
    unfinished: bool,
    /// The file is right, and who is gone from it is still there.
    waiting: Option<Waiting>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Looker {
    /// `run`, every second.
    Run,
    /// `resolve`, at any time.
    Resolve,
}

impl NodesFile {
    /// Reads it for the first time, and applies what is good of it.
    pub(crate) fn open(file: Watched, service: &Service) -> Self {
        let mut this = Self {
            file,
            unfinished: false,
            waiting: None,
        };
        this.file.look();
        this.apply(service, When::Start, Waiting::OneLook);
        this
    }

    /// Brings the file's present state into effect.
    pub(crate) fn look(&mut self, service: &Service, who: Looker) {
        let is_new = self.file.look() || self.unfinished;
        let (when, waiting) = match (who, self.waiting) {
            (Looker::Run, _) if is_new => (When::Change, Waiting::OneLook),
            (Looker::Resolve, _) if is_new => (When::Change, Waiting::TwoLooks),
            (Looker::Run, Some(Waiting::OneLook)) => (When::Settled, Waiting::OneLook),
            (Looker::Run, Some(Waiting::TwoLooks)) => {
                self.waiting = Some(Waiting::OneLook);
                return;
            }
            _ => return,
        };
        self.apply(service, when, waiting);
        if when == When::Change {
            tracing::info!(file = self.file.name(), "node file read again");
        }
    }

    /// Reads the text, applies what may be, and says how it went. `waiting`: how long nodes that are gone from it stay.
    fn apply(&mut self, service: &Service, when: When, waiting: Waiting) {
        let name = self.file.name().to_owned();
        let (rows, mut mistakes) = match self.file.text() {
            Ok(text) => file::read(&name, text),
            Err(mistake) => (Vec::new(), vec![mistake]),
        };
        // Nothing good in a broken file is not the same as a file that says that there are no nodes.
        let may_apply = mistakes.is_empty() || (when == When::Start && !rows.is_empty());
        self.unfinished = false;
        self.waiting = None;
        let mut done = Ok(());
        if may_apply {
            done = self.write(service, &name, rows, when, waiting, &mut mistakes);
        }
        if let Err(error) = done {
            self.unfinished = true;
            tracing::warn!(%error, "nodes not published");
            mistakes.push(Mistake {
                file: name.clone(),
                line: 0,
                text: format!("its nodes are not in effect: {error}"),
            });
        }
        let addition = if when != When::Start && !mistakes.is_empty() {
            UNTIL_RIGHT
        } else {
            ""
        };
        service.file_is(&name, addition, mistakes);
    }

    fn write(
        &mut self,
        service: &Service,
        name: &str,
        mut rows: Vec<Row>,
        when: When,
        waiting: Waiting,
        mistakes: &mut Vec<Mistake>,
    ) -> Result<(), Unwritten> {
        let is_right = mistakes.is_empty();
        let applied = applied(service.host)?;
        // What was taken before is not asked for again: at most starts nothing of a file is new.
        let is_applied = |row: &Row| applied.get(&row.node.id) == Some(&row.node);
        let refused = match rows.len() == applied.len() && rows.iter().all(is_applied) {
            true => BTreeMap::new(),
            false => refused(service.host, &rows, &applied, is_right)?,
        };
        for (row, text) in &refused {
            let line = rows.get(*row).map_or(0, |row| row.line);
            mistakes.push(Mistake {
                file: name.into(),
                line,
                text: text.clone(),
            });
        }
        if !refused.is_empty() {
            if when != When::Start {
                return Ok(());
            }
            let mut at = 0..;
            rows.retain(|_| at.next().is_some_and(|at| !refused.contains_key(&at)));
        }
        let goes = is_right && when == When::Settled;
        let stored = match when {
            // The first answers do not wait for the disk.
            When::Start => Stored::Later,
            When::Change | When::Settled => Stored::First,
        };
        service.write_file(stored, |draft| put_rows(draft, &rows, &applied, goes))?;
        if goes {
            // The inventory may have rows of an earlier run that neither the file nor the store knows.
            service.withdraw_others()?;
        }
        self.waiting = (is_right && refused.is_empty() && when != When::Settled).then_some(waiting);
        Ok(())
    }
}

/// The rows of the file as they were last applied.
fn applied(host: Host) -> Result<BTreeMap<String, Node>, Unwritten> {
    let mut applied = BTreeMap::new();
    for (key, text) in host.store_scan("applied/")? {
        let node = serde_json::from_str(&text).map_err(|error| Unwritten::Unreadable(key.clone(), error))?;
        applied.insert(key.trim_start_matches("applied/").to_owned(), node);
    }
    Ok(applied)
}

/// Which rows, by their place, the inventory would not take, and why; as if who is gone from the file had left already.
fn refused(
    host: Host,
    rows: &[Row],
    applied: &BTreeMap<String, Node>,
    is_right: bool,
) -> Result<BTreeMap<usize, String>, Unwritten> {
    let mut publication = Publication {
        dry_run: true,
        ..Publication::default()
    };
    for row in rows {
        publication.nodes.push(serde_json::to_value(&row.node)?);
    }
    if is_right {
        let ids: HashSet<&str> = rows.iter().map(|row| row.node.id.as_str()).collect();
        let gone = applied.keys().filter(|id| !ids.contains(id.as_str()));
        publication.gone = gone.cloned().collect();
    }
    let report = host.publish(&publication)?;
    let reasons = report.refused.into_iter();
    Ok(reasons.map(|r| (r.row, format!("{}: {}", r.id, r.reason))).collect())
}

/// Writes what is new or different; with `goes`, deletes what is gone.
fn put_rows(draft: &mut Draft<'_>, rows: &[Row], applied: &BTreeMap<String, Node>, goes: bool) {
    let ids: HashSet<&str> = rows.iter().map(|row| row.node.id.as_str()).collect();
    if goes {
        for (id, before) in applied.iter().filter(|(id, _)| !ids.contains(id.as_str())) {
            delete(draft, before);
            draft.put_applied(id, None);
        }
    }
    // Controllers first: nodes are managed by them.
    let (nodes, controllers): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.node.kind == "Node");
    for row in controllers.into_iter().chain(nodes) {
        let before = applied.get(&row.node.id);
        if before == Some(&row.node) {
            continue;
        }
        put(draft, &row.node, before);
        draft.put_applied(&row.node.id, serde_json::to_string(&row.node).ok());
    }
}

/// Writes a row of the file, or of an import, which has no `before`.
pub(crate) fn put(draft: &mut Draft<'_>, node: &Node, before: Option<&Node>) {
    let mut component = draft.component(&node.id).cloned().unwrap_or_default();
    component.state = Word(values::canonical(values::STATES, &node.state).unwrap_or_default());
    component.arch = Word(values::canonical(values::ARCHS, &node.arch).unwrap_or_default());
    component.class = Word(values::canonical(values::CLASSES, &node.class).unwrap_or_default());
    component.enabled = node.enabled;
    component.role = node.role.as_str().into();
    component.sub_role = node.sub_role.as_str().into();
    component.nid = node.nid.or(component.nid);
    component.name = node.name.as_str().into();
    component.fqdn = node.fqdn.as_str().into();
    let ip = node.extra.get("ip").and_then(|ip| ip.as_str());
    component.ip = ip.and_then(|ip| ip.parse().ok());
    for (place, interface) in node.interfaces.iter().enumerate() {
        let addresses = interface.ips.iter().map(|address| Address {
            ip: address.ip.to_string().into(),
            network: address.network.as_str().into(),
        });
        let row = Interface {
            component: node.id.as_str().into(),
            description: description(node, place).into(),
            addresses: addresses.collect(),
            ..Interface::default()
        };
        draft.put_interface(interface.mac, row);
    }
    let old = before.iter().flat_map(|before| &before.interfaces);
    for interface in old.filter(|old| node.interfaces.iter().all(|new| new.mac != old.mac)) {
        delete_interface(draft, interface.mac, &node.id);
    }
    let old = before.iter().flat_map(|before| &before.groups);
    for label in old.filter(|label| !node.groups.contains(label)) {
        leave(draft, &label.to_lowercase(), &node.id);
    }
    // After its interfaces: writing those for a client touches the component, too.
    draft.put_component(&node.id, component);
    for label in &node.groups {
        let label = label.to_lowercase();
        if draft.set(Family::Group, &label).is_none() {
            let row = Set {
                description: format!("The {label} group").into(),
                ..Set::default()
            };
            draft.put_set(Family::Group, &label, row);
        }
        draft.set_member(Family::Group, &label, &node.id, true);
    }
    discovery::put_file_row(draft, node);
}

/// Deletes what a row of the file wrote, as far as nobody wrote it since.
fn delete(draft: &mut Draft<'_>, node: &Node) {
    if !draft.component(&node.id).is_some_and(|component| component.of_file) {
        return;
    }
    for interface in &node.interfaces {
        delete_interface(draft, interface.mac, &node.id);
    }
    let groups: Vec<Id> = draft.labels_of(Family::Group, &node.id);
    for label in groups {
        leave(draft, &label, &node.id);
    }
    draft.delete_component_endpoint(&node.id);
    if xname::kind(&node.id) != Some("Node") {
        draft.delete_endpoint(&node.id);
    }
    draft.delete_component(&node.id);
}

fn delete_interface(draft: &mut Draft<'_>, mac: Mac, owner: &str) {
    // Another row may have it by now.
    if draft.interface(mac).is_some_and(|row| *row.component == *owner) {
        draft.delete_interface(mac);
    }
}

fn leave(draft: &mut Draft<'_>, label: &str, id: &str) {
    if !draft.is_member(Family::Group, label, id) {
        return;
    }
    draft.set_member(Family::Group, label, id, false);
    let of_file = draft.set(Family::Group, label).is_some_and(|set| set.of_file);
    if of_file && draft.has_no_members(Family::Group, label) {
        draft.delete_set(Family::Group, label);
    }
}

fn description(node: &Node, place: usize) -> String {
    if node.kind == "Node" {
        let name = if node.name.is_empty() { &node.id } else { &node.name };
        format!("Interface {place} for {name}")
    } else {
        format!("Interface for BMC {}", node.id)
    }
}
