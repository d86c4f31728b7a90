//! What one request changes, while it is decided. Pure: reads the tables, sees its own changes, and touches nothing.
//!
//! A finished draft is a [`Change`]: rows to write and to delete, which become one commit of the store and then enter the tables. A draft
//! that is dropped leaves nothing behind, so a request is all or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bootd_sdk::changes::Changes;
use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Commit;
use serde::Serialize;

use crate::rows::{Component, ComponentEndpoint, Endpoint, Family, Id, Interface, Set};
use crate::tables::Tables;
use crate::values::Word;

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A client. What it writes is no longer the nodes file's to delete.
    Api,
    /// The nodes file.
    File,
}

/// Rows to write, and (`None`, `false`) to delete.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) components: BTreeMap<Id, Option<Component>>,
    pub(crate) interfaces: BTreeMap<Mac, Option<Interface>>,
    pub(crate) endpoints: BTreeMap<Id, Option<Endpoint>>,
    pub(crate) component_endpoints: BTreeMap<Id, Option<ComponentEndpoint>>,
    pub(crate) sets: BTreeMap<(Family, Id), Option<Set>>,
    pub(crate) members: BTreeMap<(Family, Id, Id), bool>,
    /// `applied/<xname>`: a row of the nodes file as it was last applied.
    pub(crate) applied: BTreeMap<Id, Option<String>>,
}

/// A change in the making.
pub(crate) struct Draft<'t> {
    tables: &'t Tables,
    origin: Origin,
    /// Seconds since 1970, for what is written now.
    now: u64,
    change: Change,
    /// Names of the Redfish endpoints that this draft writes.
    fqdns: BTreeMap<Box<str>, Id>,
}

impl<'t> Draft<'t> {
    pub(crate) fn new(tables: &'t Tables, origin: Origin, now: u64) -> Self {
        Self {
            tables,
            origin,
            now,
            change: Change::default(),
            fqdns: BTreeMap::new(),
        }
    }

    pub(crate) fn into_change(self) -> Change {
        self.change
    }

    /// The rows as they are, without this draft.
    pub(crate) fn tables(&self) -> &'t Tables {
        self.tables
    }

    pub(crate) fn component(&self, id: &str) -> Option<&Component> {
        look(&self.change.components, id, || self.tables.components.get(id))
    }

    pub(crate) fn put_component(&mut self, id: &str, mut row: Component) {
        row.of_file = self.origin == Origin::File;
        self.change.components.insert(id.into(), Some(row));
    }

    /// Deletes a component, and its memberships with it. `false`: there is none.
    pub(crate) fn delete_component(&mut self, id: &str) -> bool {
        if self.component(id).is_none() {
            return false;
        }
        for family in Family::ALL {
            for label in self.labels_of(family, id) {
                self.set_member(family, &label, id, false);
            }
        }
        self.change.components.insert(id.into(), None);
        true
    }

    pub(crate) fn interface(&self, mac: Mac) -> Option<&Interface> {
        look(&self.change.interfaces, &mac, || self.tables.interfaces.get(&mac))
    }

    pub(crate) fn put_interface(&mut self, mac: Mac, mut row: Interface) {
        row.updated = match self.origin {
            Origin::Api => self.now,
            Origin::File => 0,
        };
        self.disown(&row.component.clone());
        self.change.interfaces.insert(mac, Some(row));
    }

    /// `false`: there is none.
    pub(crate) fn delete_interface(&mut self, mac: Mac) -> bool {
        let Some(owner) = self.interface(mac).map(|row| Arc::clone(&row.component)) else {
            return false;
        };
        self.disown(&owner);
        self.change.interfaces.insert(mac, None);
        true
    }

    /// The hardware addresses of a component.
    pub(crate) fn interfaces_of(&self, id: &str) -> Vec<Mac> {
        let is_its = |mac: &Mac| self.interface(*mac).is_some_and(|row| *row.component == *id);
        let before = self.tables.interfaces_of(id).iter().copied();
        let mut macs: BTreeSet<Mac> = before.filter(is_its).collect();
        macs.extend(self.change.interfaces.keys().copied().filter(is_its));
        macs.into_iter().collect()
    }

    pub(crate) fn endpoint(&self, id: &str) -> Option<&Endpoint> {
        look(&self.change.endpoints, id, || self.tables.endpoints.get(id))
    }

    /// The Redfish endpoint that has this name.
    pub(crate) fn with_fqdn(&self, fqdn: &str) -> Option<Id> {
        self.fqdns.get(fqdn).cloned().or_else(|| {
            let id = self.tables.with_fqdn(fqdn)?;
            (!self.change.endpoints.contains_key(id)).then(|| Arc::clone(id))
        })
    }

    pub(crate) fn put_endpoint(&mut self, id: &str, row: Endpoint) {
        self.disown(id);
        self.fqdns.insert(row.fqdn_or(id).into(), id.into());
        self.change.endpoints.insert(id.into(), Some(row));
    }

    /// Deletes a Redfish endpoint with what it manages; the components stay, in the state `Empty`. `false`: there is none.
    pub(crate) fn delete_endpoint(&mut self, id: &str) -> bool {
        if self.endpoint(id).is_none() {
            return false;
        }
        let mut emptied: Vec<Id> = self.tables.managed_by(id).cloned().collect();
        for managed in &emptied {
            self.change.component_endpoints.insert(Arc::clone(managed), None);
        }
        emptied.push(id.into());
        for id in emptied {
            if let Some(mut component) = self.component(&id).cloned() {
                (component.state, component.flag) = (Word("Empty"), Word("OK"));
                // That its controller leaves the nodes file does not make a node, which a client wrote, the file's again.
                component.of_file &= self.origin == Origin::File;
                self.change.components.insert(id, Some(component));
            }
        }
        self.change.endpoints.insert(id.into(), None);
        true
    }

    pub(crate) fn component_endpoint(&self, id: &str) -> Option<&ComponentEndpoint> {
        look(&self.change.component_endpoints, id, || {
            self.tables.component_endpoints.get(id)
        })
    }

    pub(crate) fn put_component_endpoint(&mut self, id: &str, row: ComponentEndpoint) {
        self.change.component_endpoints.insert(id.into(), Some(row));
    }

    /// `false`: there is none.
    pub(crate) fn delete_component_endpoint(&mut self, id: &str) -> bool {
        let is_there = self.component_endpoint(id).is_some();
        if is_there {
            self.change.component_endpoints.insert(id.into(), None);
        }
        is_there
    }

    pub(crate) fn set(&self, family: Family, label: &str) -> Option<&Set> {
        let key = (family, Id::from(label));
        match self.change.sets.get(&key) {
            Some(row) => row.as_ref(),
            None => self.tables.sets(family).get(label),
        }
    }

    pub(crate) fn put_set(&mut self, family: Family, label: &str, mut row: Set) {
        row.of_file = self.origin == Origin::File;
        self.change.sets.insert((family, label.into()), Some(row));
    }

    /// Deletes a group with its memberships. `false`: there is none.
    pub(crate) fn delete_set(&mut self, family: Family, label: &str) -> bool {
        if self.set(family, label).is_none() {
            return false;
        }
        for id in self.members(family, label) {
            self.set_member(family, label, &id, false);
        }
        self.change.sets.insert((family, label.into()), None);
        true
    }

    pub(crate) fn is_member(&self, family: Family, label: &str, id: &str) -> bool {
        match self.change.members.get(&(family, label.into(), id.into())) {
            Some(is_member) => *is_member,
            None => self
                .tables
                .sets(family)
                .rows
                .get(label)
                .is_some_and(|(_, members)| members.contains(id)),
        }
    }

    pub(crate) fn set_member(&mut self, family: Family, label: &str, id: &str, is_member: bool) {
        self.disown(id);
        self.change.members.insert((family, label.into(), id.into()), is_member);
    }

    /// A group's members, sorted.
    pub(crate) fn members(&self, family: Family, label: &str) -> Vec<Id> {
        let mut members: BTreeSet<Id> = self.tables.sets(family).members(label).cloned().collect();
        let first = (family, Id::from(label), Id::from(""));
        let changed = self.change.members.range(first..);
        for ((_, _, id), is_member) in changed.take_while(|((f, l, _), _)| *f == family && **l == *label) {
            if *is_member {
                members.insert(Arc::clone(id));
            } else {
                members.remove(id);
            }
        }
        members.into_iter().collect()
    }

    /// Whether a group is empty. Costs what this draft changed, not what the group has.
    pub(crate) fn has_no_members(&self, family: Family, label: &str) -> bool {
        let first = (family, Id::from(label), Id::from(""));
        let changed = || {
            let changed = self.change.members.range(first.clone()..);
            changed.take_while(|((f, l, _), _)| *f == family && **l == *label)
        };
        let added = changed().any(|(_, is_member)| *is_member);
        let mut before = self.tables.sets(family).members(label);
        !added && before.all(|id| !self.is_member(family, label, id))
    }

    /// The groups of a component.
    pub(crate) fn labels_of(&self, family: Family, id: &str) -> Vec<Id> {
        let sets = self.tables.sets(family);
        let mut labels: BTreeSet<Id> = sets.labels_of(id).iter().cloned().collect();
        // Few groups are new in one request; its members may be many.
        labels.extend(
            self.change
                .sets
                .keys()
                .filter(|(f, _)| *f == family)
                .map(|(_, l)| Arc::clone(l)),
        );
        labels.retain(|label| self.is_member(family, label, id));
        labels.into_iter().collect()
    }

    /// Remembers, or forgets, how a row of the nodes file was applied.
    pub(crate) fn put_applied(&mut self, id: &str, row: Option<String>) {
        self.change.applied.insert(id.into(), row);
    }

    /// A client writes something of this component: it is no longer the nodes file's to delete.
    pub(crate) fn disown(&mut self, id: &str) {
        if self.origin == Origin::Api
            && let Some(row) = self.component(id).filter(|row| row.of_file).cloned()
        {
            self.put_component(id, row);
        }
    }
}

impl Change {
    /// Whether nothing is to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.components.is_empty()
            && self.interfaces.is_empty()
            && self.endpoints.is_empty()
            && self.component_endpoints.is_empty()
            && self.sets.is_empty()
            && self.members.is_empty()
            && self.applied.is_empty()
    }

    /// What it changes of these tables.
    pub(crate) fn counts(&self, tables: &Tables) -> Changes {
        let mut changes = Changes::default();
        let mut count = |is_there: bool, was_there: bool| match (is_there, was_there) {
            (true, false) => changes.added += 1,
            (true, true) => changes.changed += 1,
            (false, true) => changes.removed += 1,
            (false, false) => {}
        };
        for (id, row) in &self.components {
            count(row.is_some(), tables.components.contains_key(id));
        }
        for (mac, row) in &self.interfaces {
            count(row.is_some(), tables.interfaces.contains_key(mac));
        }
        for (id, row) in &self.component_endpoints {
            count(row.is_some(), tables.component_endpoints.contains_key(id));
        }
        for ((family, label), row) in &self.sets {
            count(row.is_some(), tables.sets(*family).get(label).is_some());
        }
        for ((family, label, id), is_member) in &self.members {
            count(*is_member, tables.sets(*family).labels_of(id).contains(label));
        }
        changes
    }

    /// As one commit of the store.
    pub(crate) fn commit(&self) -> Result<Commit, serde_json::Error> {
        let mut commit = Commit::default();
        for (id, row) in &self.components {
            add(&mut commit, format!("component/{id}"), row.as_ref())?;
        }
        for (mac, row) in &self.interfaces {
            add(&mut commit, format!("iface/{}", interface_id(*mac)), row.as_ref())?;
        }
        for (id, row) in &self.endpoints {
            add(&mut commit, format!("rfe/{id}"), row.as_ref())?;
        }
        for (id, row) in &self.component_endpoints {
            add(&mut commit, format!("compep/{id}"), row.as_ref())?;
        }
        for ((family, label), row) in &self.sets {
            add(&mut commit, format!("{}/{label}", set_key(*family)), row.as_ref())?;
        }
        for ((family, label, id), is_member) in &self.members {
            let key = format!("{}/{label}/{id}", member_key(*family));
            add(&mut commit, key, is_member.then_some(&true))?;
        }
        for (id, row) in &self.applied {
            let key = format!("applied/{id}");
            match row {
                Some(text) => drop(commit.put.insert(key, text.clone())),
                None => commit.delete.push(key),
            }
        }
        Ok(commit)
    }
}

/// The id of an interface: its hardware address without colons.
pub(crate) fn interface_id(mac: Mac) -> String {
    mac.to_string().replace(':', "")
}

/// Where the groups, or partitions, lie in the store.
pub(crate) fn set_key(family: Family) -> &'static str {
    match family {
        Family::Group => "group",
        Family::Partition => "partition",
    }
}

/// Where their members lie.
pub(crate) fn member_key(family: Family) -> &'static str {
    match family {
        Family::Group => "group-member",
        Family::Partition => "partition-member",
    }
}

fn add(commit: &mut Commit, key: String, row: Option<&impl Serialize>) -> Result<(), serde_json::Error> {
    match row {
        Some(row) => drop(commit.put.insert(key, serde_json::to_string(row)?)),
        None => commit.delete.push(key),
    }
    Ok(())
}

fn look<'r, K, Q, R>(
    changed: &'r BTreeMap<K, Option<R>>,
    key: &Q,
    before: impl FnOnce() -> Option<&'r R>,
) -> Option<&'r R>
where
    K: std::borrow::Borrow<Q> + Ord,
    Q: Ord + ?Sized,
{
    match changed.get(key) {
        Some(row) => row.as_ref(),
        None => before(),
    }
}
