//! All rows in memory, with the indexes that make each look-up short. Knows no rules: what goes in was decided by a [`Draft`].
//!
//! Lists come out in the order of their keys. A change costs what it touches, whatever the tables hold.
//!
//! [`Draft`]: crate::draft::Draft

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::{self, Node};
use bootd_sdk::xname;

use crate::draft::Change;
use crate::rows::{Component, ComponentEndpoint, Endpoint, Family, Id, Interface, Set};

/// The rows.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) components: BTreeMap<Id, Component>,
    pub(crate) interfaces: BTreeMap<Mac, Interface>,
    pub(crate) endpoints: BTreeMap<Id, Endpoint>,
    pub(crate) component_endpoints: BTreeMap<Id, ComponentEndpoint>,
    sets: [Sets; 2],
    interfaces_of: HashMap<Id, Vec<Mac>>,
    nids: BTreeSet<(u64, Id)>,
    fqdns: HashMap<Box<str>, Id>,
    /// Pairs of Redfish endpoint and what it manages.
    managed: BTreeSet<(Id, Id)>,
    /// Lists of actions that rows share.
    actions: Vec<Arc<[Box<str>]>>,
    revisions: Revisions,
    /// Components that are nodes, and all others that the inventory takes.
    counts: Counts,
}

/// Groups, or partitions.
#[derive(Default)]
pub(crate) struct Sets {
    pub(crate) rows: BTreeMap<Id, (Set, BTreeSet<Id>)>,
    /// Labels by member, sorted.
    of: HashMap<Id, Vec<Id>>,
}

/// Other numbers after each change of these rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Revisions {
    pub(crate) components: u64,
    pub(crate) interfaces: u64,
    /// Redfish endpoints, and what they manage.
    pub(crate) managed: u64,
    /// Groups and partitions, with their members.
    pub(crate) sets: u64,
}

/// How many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) nodes: usize,
    pub(crate) controllers: usize,
}

impl Tables {
    /// The groups, or the partitions.
    pub(crate) fn sets(&self, family: Family) -> &Sets {
        &self.sets[family.at()]
    }

    /// Counts the changes of what is listed together.
    pub(crate) fn revisions(&self) -> Revisions {
        self.revisions
    }

    /// How many nodes and controllers there are.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether it is a component that boots.
    pub(crate) fn is_node(&self, id: &str) -> bool {
        self.components.get(id).is_some_and(|row| is_node(row.kind))
    }

    /// The hardware addresses of a component.
    pub(crate) fn interfaces_of(&self, id: &str) -> &[Mac] {
        self.interfaces_of.get(id).map_or(&[], Vec::as_slice)
    }

    /// The components with a NID from `first` to `last`, by NID.
    pub(crate) fn with_nid(&self, first: u64, last: u64) -> impl Iterator<Item = &Id> {
        let range = (first <= last).then(|| self.nids.range((first, Id::from(""))..));
        range
            .into_iter()
            .flatten()
            .take_while(move |(nid, _)| *nid <= last)
            .map(|(_, id)| id)
    }

    /// The Redfish endpoint with this name.
    pub(crate) fn with_fqdn(&self, fqdn: &str) -> Option<&Id> {
        self.fqdns.get(fqdn)
    }

    /// What a Redfish endpoint manages.
    pub(crate) fn managed_by<'t>(&'t self, rfe: &'t str) -> impl Iterator<Item = &'t Id> {
        self.managed
            .range((Id::from(rfe), Id::from(""))..)
            .take_while(move |(of, _)| **of == *rfe)
            .map(|(_, id)| id)
    }

    /// A component as a row of the inventory. `None`: there is none, or it is of a type that the inventory does not have.
    pub(crate) fn node(&self, id: &str) -> Option<Node> {
        let component = self.components.get(id)?;
        xname::kind(id)?;
        let mut interfaces: Vec<(&Interface, Mac)> = self
            .interfaces_of(id)
            .iter()
            .filter_map(|mac| Some((self.interfaces.get(mac)?, *mac)))
            .collect();
        // Descriptions number them, as far as anybody does.
        interfaces.sort_by_key(|(row, mac)| (row.description.len(), &row.description, *mac));
        Some(Node {
            id: id.into(),
            nid: component.nid,
            kind: component.kind.into(),
            role: component.role.to_string(),
            sub_role: component.sub_role.to_string(),
            class: component.class.0.into(),
            state: component.state.0.into(),
            arch: component.arch.0.into(),
            enabled: component.enabled,
            name: component.name.to_string(),
            fqdn: component.fqdn.to_string(),
            groups: self
                .sets(Family::Group)
                .labels_of(id)
                .iter()
                .map(ToString::to_string)
                .collect(),
            interfaces: interfaces.into_iter().map(|(row, mac)| interface(row, mac)).collect(),
            extra: component
                .ip
                .map(|ip| ("ip".to_owned(), ip.to_string().into()))
                .into_iter()
                .collect(),
            ..Node::default()
        })
    }

    /// All rows of the inventory: nodes, then controllers, since the first of two that clash wins.
    pub(crate) fn node_ids(&self) -> Vec<Id> {
        let (mut nodes, mut others) = (Vec::with_capacity(self.counts.nodes), Vec::new());
        for (id, component) in &self.components {
            match xname::kind(id) {
                Some(_) if is_node(component.kind) => nodes.push(Arc::clone(id)),
                Some(_) => others.push(Arc::clone(id)),
                None => {}
            }
        }
        nodes.append(&mut others);
        nodes
    }

    /// Components whose row in the inventory a change may alter; asked before [`Tables::apply`].
    pub(crate) fn touched(&self, change: &Change) -> BTreeSet<Id> {
        let mut touched: BTreeSet<Id> = change.components.keys().cloned().collect();
        for (mac, row) in &change.interfaces {
            touched.extend(self.interfaces.get(mac).map(|before| Arc::clone(&before.component)));
            touched.extend(row.as_ref().map(|after| Arc::clone(&after.component)));
        }
        touched.extend(change.members.keys().map(|(_, _, id)| Arc::clone(id)));
        touched.remove("");
        touched
    }

    /// Puts a change in.
    pub(crate) fn apply(&mut self, change: Change) {
        let Revisions {
            components,
            interfaces,
            managed,
            sets,
        } = &mut self.revisions;
        *components += u64::from(!change.components.is_empty());
        *interfaces += u64::from(!change.interfaces.is_empty());
        *managed += u64::from(!change.endpoints.is_empty() || !change.component_endpoints.is_empty());
        *sets += u64::from(!change.sets.is_empty() || !change.members.is_empty());
        for (id, row) in change.components {
            self.put_component(id, row);
        }
        for (mac, row) in change.interfaces {
            self.put_interface(mac, row);
        }
        for (id, row) in change.endpoints {
            self.put_endpoint(id, row);
        }
        for (id, row) in change.component_endpoints {
            self.put_component_endpoint(id, row);
        }
        for ((family, label), row) in change.sets {
            let sets = &mut self.sets[family.at()];
            match row {
                Some(row) => sets.rows.entry(label).or_default().0 = row,
                None => drop(sets.rows.remove(&label)),
            }
        }
        for ((family, label, id), is_member) in change.members {
            let id = self.shared(&id);
            self.sets[family.at()].put_member(&label, id, is_member);
        }
    }

    fn put_component(&mut self, id: Id, row: Option<Component>) {
        if let Some(before) = self.components.remove(&id) {
            self.count(&id, before.kind, |count| *count = count.saturating_sub(1));
            if let Some(nid) = before.nid {
                self.nids.remove(&(nid, Arc::clone(&id)));
            }
        }
        let Some(mut row) = row else { return };
        row.kind = xname::component_type(&id).unwrap_or_default();
        self.count(&id, row.kind, |count| *count += 1);
        if let Some(nid) = row.nid {
            self.nids.insert((nid, Arc::clone(&id)));
        }
        self.components.insert(id, row);
    }

    fn count(&mut self, id: &str, kind: &str, change: impl Fn(&mut usize)) {
        if is_node(kind) {
            change(&mut self.counts.nodes);
        } else if xname::kind(id).is_some() {
            change(&mut self.counts.controllers);
        }
    }

    fn put_interface(&mut self, mac: Mac, row: Option<Interface>) {
        if let Some(before) = self.interfaces.remove(&mac)
            && let Some(macs) = self.interfaces_of.get_mut(&before.component)
        {
            macs.retain(|other| *other != mac);
            if macs.is_empty() {
                self.interfaces_of.remove(&before.component);
            }
        }
        let Some(mut row) = row else { return };
        row.component = self.shared(&row.component);
        if !row.component.is_empty() {
            let macs = self.interfaces_of.entry(Arc::clone(&row.component)).or_default();
            macs.reserve_exact(1);
            macs.push(mac);
        }
        self.interfaces.insert(mac, row);
    }

    fn put_endpoint(&mut self, id: Id, row: Option<Endpoint>) {
        if let Some(before) = self.endpoints.remove(&id) {
            let fqdn = before.fqdn_or(&id);
            // Of two that change their names with each other, the first has the second's by now.
            if self.with_fqdn(fqdn) == Some(&id) {
                self.fqdns.remove(fqdn);
            }
        }
        let Some(row) = row else { return };
        let id = self.shared(&id);
        self.fqdns.insert(row.fqdn_or(&id).into(), Arc::clone(&id));
        self.endpoints.insert(id, row);
    }

    fn put_component_endpoint(&mut self, id: Id, row: Option<ComponentEndpoint>) {
        if let Some(before) = self.component_endpoints.remove(&id) {
            self.managed.remove(&(before.rfe, Arc::clone(&id)));
        }
        let Some(mut row) = row else { return };
        let id = self.shared(&id);
        row.rfe = self.shared(&row.rfe);
        row.actions = self.shared_actions(row.actions);
        self.managed.insert((Arc::clone(&row.rfe), Arc::clone(&id)));
        self.component_endpoints.insert(id, row);
    }

    /// The one copy of an id, when a component has it.
    fn shared(&self, id: &Id) -> Id {
        let known = self.components.get_key_value(id).map(|(known, _)| known);
        Arc::clone(known.unwrap_or(id))
    }

    fn shared_actions(&mut self, actions: Arc<[Box<str>]>) -> Arc<[Box<str>]> {
        if let Some(known) = self.actions.iter().find(|known| **known == actions) {
            return Arc::clone(known);
        }
        if self.actions.len() < MOST_SHARED {
            self.actions.push(Arc::clone(&actions));
        }
        actions
    }
}

impl Sets {
    /// The labels of a component, sorted.
    pub(crate) fn labels_of(&self, id: &str) -> &[Id] {
        self.of.get(id).map_or(&[], Vec::as_slice)
    }

    /// A group's row.
    pub(crate) fn get(&self, label: &str) -> Option<&Set> {
        self.rows.get(label).map(|(set, _)| set)
    }

    /// A group's members.
    pub(crate) fn members(&self, label: &str) -> impl Iterator<Item = &Id> {
        self.rows.get(label).into_iter().flat_map(|(_, members)| members)
    }

    fn put_member(&mut self, label: &Id, id: Id, is_member: bool) {
        let label = self.rows.get_key_value(label).map_or(label, |(known, _)| known);
        let label = Arc::clone(label);
        if is_member {
            if let Some((_, members)) = self.rows.get_mut(&label) {
                members.insert(Arc::clone(&id));
                let labels = self.of.entry(id).or_default();
                if let Err(at) = labels.binary_search(&label) {
                    labels.reserve_exact(1);
                    labels.insert(at, label);
                }
            }
            return;
        }
        if let Some((_, members)) = self.rows.get_mut(&label) {
            members.remove(&id);
        }
        if let Some(labels) = self.of.get_mut(&id) {
            labels.retain(|other| *other != label);
            if labels.is_empty() {
                self.of.remove(&id);
            }
        }
    }
}

impl Endpoint {
    /// Its fully qualified name.
    pub(crate) fn fqdn_or<'a>(&'a self, id: &'a str) -> &'a str {
        if self.fqdn.is_empty() { id } else { &self.fqdn }
    }
}

/// Whether it is a machine that boots.
pub(crate) fn is_node(kind: &str) -> bool {
    matches!(kind, "Node" | "VirtualNode")
}

/// Addresses that are none, which SMD takes, are kept for its lists and left out here.
fn interface(row: &Interface, mac: Mac) -> wire::Interface {
    let ips = row.addresses.iter().filter_map(|address| {
        Some(wire::Address {
            network: address.network.to_string(),
            ip: address.ip.parse().ok()?,
        })
    });
    wire::Interface {
        mac,
        ips: ips.collect(),
    }
}

/// Lists of actions of which one copy is kept.
const MOST_SHARED: usize = 32;
