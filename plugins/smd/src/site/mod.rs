//! The mirror of a site's SMD (`mode = "upstream"`): five lists, read whole, compared with the tables, and what differs written like any change.
//!
//! Promises: what a list does not say is not touched, and equal lists write and publish nothing. A machine that nobody knows here is looked up
//! at the site while its DHCP waits. Redfish endpoints are not mirrored: they come with credentials, and nodes boot without them; who asks
//! for one is asked on. Never writes to the site by itself.

mod rows;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bootd_sdk::mac::Mac;
use bootd_sdk::prelude::*;
use bootd_sdk::upstream::{Listed, Loss, Mirror, Site};
use bootd_sdk::wire::Fetched;
use bootd_sdk::xname;

use crate::draft::Change;
use crate::rows::{Component, Family, Id, Interface, Redfish};
use crate::service::Service;
use crate::tables::{Tables, is_node};

pub(crate) use rows::LeftOut;

/// What is mirrored, in the order in which it is asked for.
pub(crate) const LISTED: &[Listed] = &[
    Listed {
        path: "/State/Components",
        rows: "nodes",
    },
    Listed {
        path: "/Inventory/EthernetInterfaces",
        rows: "interfaces",
    },
    Listed {
        path: "/groups",
        rows: "memberships of groups",
    },
    Listed {
        path: "/partitions",
        rows: "memberships of partitions",
    },
    Listed {
        path: "/Inventory/ComponentEndpoints",
        rows: "component endpoints",
    },
];

/// The tables as a mirror.
pub(crate) struct Mirrored<'s>(pub(crate) &'s Service);

/// What a list changes, and what of it cannot be mirrored.
pub(crate) struct News {
    change: Change,
    left_out: LeftOut,
}

impl Mirror for Mirrored<'_> {
    type Change = News;

    fn read(&self, collection: usize, body: &str) -> Result<(Loss, News), String> {
        match collection {
            0 => {
                let read = rows::components(body)?;
                let unclear = read.unclear.iter().map(|id| xname::normalise(id).into()).collect();
                Ok(news(components(&self.0.tables(), read.rows, unclear), read.left_out))
            }
            1 => {
                let read = rows::interfaces(body)?;
                let unclear = read.unclear.iter().filter_map(|mac| mac.parse().ok()).collect();
                Ok(news(interfaces(&self.0.tables(), read.rows, unclear), read.left_out))
            }
            2 | 3 => {
                let family = if collection == 2 {
                    Family::Group
                } else {
                    Family::Partition
                };
                let read = rows::sets(family, body)?;
                let unclear = read.unclear.iter().map(|label| label.to_lowercase().into()).collect();
                Ok(news(sets(&self.0.tables(), family, read.rows, unclear), read.left_out))
            }
            _ => {
                let read = rows::managed(body)?;
                let rows = read.rows.into_iter().flatten().collect();
                let unclear = read.unclear.iter().map(|id| xname::normalise(id).into()).collect();
                Ok(news(managed(&self.0.tables(), rows, unclear), read.left_out))
            }
        }
    }

    fn most_bytes(&self) -> usize {
        64 * 1024 * 1024
    }

    /// A node without its interfaces does not boot, and one without its groups not as it should.
    fn goes_with(&self, collection: usize) -> Option<usize> {
        (collection > 0).then_some(0)
    }

    fn take(&self, collection: usize, news: News) -> Result<(), HostError> {
        let changes = news.change.counts(&self.0.tables());
        self.0.write_site(news.change)?;
        let rows = LISTED.get(collection).map_or("", |listed| listed.rows);
        changes.log(rows, self.0.site.as_ref().map_or("", Site::url));
        self.0.left_out(collection, news.left_out);
        Ok(())
    }
}

/// A machine that nobody knows here, as the site knows it. Takes a second at most: its DHCP waits.
pub(crate) fn look_up(service: &Service, site: &Site, mac: Mac) -> Option<Node> {
    if site.is_failing() {
        return None;
    }
    let until = service.host.now_boot() + LOOK_UP;
    let get = |path: String| -> Result<Option<Fetched>, String> {
        let left = until.saturating_sub(service.host.now_boot());
        let fetched = site.look_up(&path, &[], left)?;
        match fetched.status {
            200 => Ok(Some(fetched)),
            404 => Ok(None),
            status => Err(format!("status {status}")),
        }
    };
    let find = || -> Result<Option<Change>, String> {
        let Some(found) = get(format!("/Inventory/EthernetInterfaces?MACAddress={mac}"))? else {
            return Ok(None);
        };
        let mut rows = rows::interfaces(&found.body)?.rows.into_iter();
        let Some((_, interface)) = rows.find(|(other, row)| *other == mac && !row.component.is_empty()) else {
            return Ok(None);
        };
        let id = Arc::clone(&interface.component);
        let mut change = Change::default();
        change.interfaces.insert(mac, Some(interface));
        if service.tables().components.contains_key(&id) {
            return Ok(Some(change));
        }
        let Some(found) = get(format!("/State/Components/{id}"))? else {
            return Ok(None);
        };
        let (told, component) = rows::one_component(&found.body)?;
        if told != id {
            return Err(format!("the site tells of {told} who asks for {id}"));
        }
        change.components.insert(Arc::clone(&id), Some(component));
        // Without its groups it boots all the same; the next refresh has them.
        if let Ok(Some(found)) = get(format!("/memberships/{id}")) {
            let tables = service.tables();
            for (family, label) in rows::one_membership(&found.body).unwrap_or_default() {
                if tables.sets(family).get(&label).is_some() {
                    change.members.insert((family, label, Arc::clone(&id)), true);
                }
            }
        }
        Ok(Some(change))
    };
    let written = find().and_then(|change| match change {
        Some(change) => service.write_site(change).map(Some).map_err(|error| error.to_string()),
        None => Ok(None),
    });
    match written {
        Ok(Some(())) => {
            // A refresh under way may have read a list from before.
            site.hurry();
            let tables = service.tables();
            tables.node(&tables.interfaces.get(&mac)?.component)
        }
        Ok(None) => None,
        Err(reason) => {
            tracing::warn!(%mac, reason, "the site cannot look up a machine");
            None
        }
    }
}

/// Passes a request on, and reads back what it changed before its client hears of it.
pub(crate) fn pass_on(service: &Service, site: &Site, request: &Request, path: &str) -> Answer {
    let answer = site.pass_on(request, path);
    if request.method == "GET" || !(200..300).contains(&answer.status) {
        return answer;
    }
    // A list of members that is set leaves others out.
    let deleted = request.method == "DELETE" || (request.method == "PUT" && path.ends_with("/members"));
    let answer = site.read_back(&Mirrored(service), deleted, answer);
    service.tend();
    answer
}

fn news(compared: (Loss, Change), left_out: LeftOut) -> (Loss, News) {
    let (loss, change) = compared;
    (loss, News { change, left_out })
}

/// What a list of all components changes. The loss is counted in nodes, unless there is none among what is mirrored. `seen`: rows that are
/// there and cannot be read.
fn components(tables: &Tables, rows: Vec<(Id, Component)>, mut seen: HashSet<Id>) -> (Loss, Change) {
    let mut change = Change::default();
    let counts = |kind: &str| tables.counts().nodes == 0 || is_node(kind);
    let mut loss = Loss {
        had: tables.components.values().filter(|row| counts(row.kind)).count(),
        ..Loss::default()
    };
    for (id, mut row) in rows {
        if !seen.insert(Arc::clone(&id)) {
            continue;
        }
        loss.has += usize::from(counts(row.kind));
        let known = tables.components.get(&id);
        if let Some(known) = known {
            // The list does not have them.
            row.name.clone_from(&known.name);
            row.fqdn.clone_from(&known.fqdn);
            row.ip = known.ip;
        }
        if known != Some(&row) {
            change.components.insert(id, Some(row));
        }
    }
    for (id, row) in &tables.components {
        if !seen.contains(id) {
            loss.lost += usize::from(counts(row.kind));
            change.components.insert(Arc::clone(id), None);
        }
    }
    (loss, change)
}

/// What a list of all interfaces changes. The loss is counted in those of nodes, unless there is none among what is mirrored: BMCs' would hide it.
fn interfaces(tables: &Tables, rows: Vec<(Mac, Interface)>, mut seen: HashSet<Mac>) -> (Loss, Change) {
    let mut change = Change::default();
    for (mac, row) in rows {
        if seen.insert(mac) && tables.interfaces.get(&mac) != Some(&row) {
            change.interfaces.insert(mac, Some(row));
        }
    }
    let is_nodes = |row: &Interface| xname::component_type(&row.component).is_some_and(is_node);
    let have_nodes_any = tables.interfaces.values().any(is_nodes);
    let counts = |row: &Interface| !have_nodes_any || is_nodes(row);
    let mut loss = Loss {
        had: tables.interfaces.values().filter(|row| counts(row)).count(),
        has: seen.len(),
        ..Loss::default()
    };
    for (mac, row) in tables.interfaces.iter().filter(|(mac, _)| !seen.contains(mac)) {
        loss.lost += usize::from(counts(row));
        change.interfaces.insert(*mac, None);
    }
    (loss, change)
}

fn sets(tables: &Tables, family: Family, rows: Vec<rows::SetRow>, mut seen: HashSet<Id>) -> (Loss, Change) {
    let (mut change, mut loss) = (Change::default(), Loss::default());
    let known = tables.sets(family);
    for rows::SetRow { label, set, members } in rows {
        if !seen.insert(Arc::clone(&label)) {
            continue;
        }
        if known.get(&label) != Some(&set) {
            change.sets.insert((family, Arc::clone(&label)), Some(set));
        }
        let before: BTreeSet<&Id> = known.members(&label).collect();
        let now: BTreeSet<&Id> = members.iter().collect();
        loss.has += now.len();
        for id in now.difference(&before) {
            change
                .members
                .insert((family, Arc::clone(&label), Arc::clone(id)), true);
        }
        for id in before.difference(&now) {
            change
                .members
                .insert((family, Arc::clone(&label), Arc::clone(id)), false);
        }
    }
    for (label, (_, members)) in &known.rows {
        loss.had += members.len();
        if !seen.contains(label) {
            for id in members {
                change
                    .members
                    .insert((family, Arc::clone(label), Arc::clone(id)), false);
            }
            change.sets.insert((family, Arc::clone(label)), None);
        }
    }
    loss.lost = change.members.values().filter(|is_member| !**is_member).count();
    (loss, change)
}

/// What is managed, with what is known by it of Redfish endpoints and of the names of nodes.
fn managed(tables: &Tables, rows: Vec<rows::ManagedRow>, mut seen: HashSet<Id>) -> (Loss, Change) {
    let mut change = Change::default();
    let mut parents = BTreeMap::new();
    for rows::ManagedRow { id, row, parent } in rows {
        if !seen.insert(Arc::clone(&id)) {
            continue;
        }
        parents.entry(Arc::clone(&row.rfe)).or_insert(parent);
        if row.of != Redfish::Outlet
            && let Some(component) = tables.components.get(&id).filter(|known| known.name != row.name)
        {
            let name = row.name.clone();
            change.components.insert(
                Arc::clone(&id),
                Some(Component {
                    name,
                    ..component.clone()
                }),
            );
        }
        if tables.component_endpoints.get(&id) != Some(&row) {
            change.component_endpoints.insert(id, Some(row));
        }
    }
    for (id, parent) in &parents {
        if tables.endpoints.get(id) != Some(parent) {
            change.endpoints.insert(Arc::clone(id), Some(parent.clone()));
        }
    }
    let gone = tables.endpoints.keys().filter(|id| !parents.contains_key(*id));
    change.endpoints.extend(gone.map(|id| (Arc::clone(id), None)));
    let gone = tables.component_endpoints.keys().filter(|id| !seen.contains(*id));
    change.component_endpoints.extend(gone.map(|id| (Arc::clone(id), None)));
    let lost = change.component_endpoints.values().filter(|row| row.is_none()).count();
    let (had, has) = (tables.component_endpoints.len(), seen.len());
    (Loss { had, lost, has }, change)
}

/// For a look-up, all of its requests together: less than the second that its client's packet waits.
const LOOK_UP: Duration = Duration::from_millis(900);
