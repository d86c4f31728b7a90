//! What a Redfish endpoint brings with it: from one posted document to components, component endpoints and interfaces (contract 1.7, 5).
//!
//! Pure: rows into a draft. Takes what `ochami discover static` and `magellan` send, and is tolerant where real controllers are sloppy:
//! interfaces without an address are kept, those without a usable hardware address are left out, systems that are told twice count once.

use std::collections::HashMap;
use std::sync::Arc;

use bootd_sdk::json::{folded_list, null_is_default};
use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Node;
use bootd_sdk::xname;
use serde::Deserialize;
use serde_json::Value;

use crate::draft::Draft;
use crate::rows::{Address, Component, ComponentEndpoint, Endpoint, Id, Interface, Nic, Redfish};
use crate::values::Word;

/// The part of a posted Redfish endpoint from which other rows follow.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Discovered {
    #[serde(rename = "schemaversion", deserialize_with = "null_is_default")]
    schema: u64,
    #[serde(deserialize_with = "folded_list")]
    systems: Vec<System>,
    #[serde(deserialize_with = "folded_list")]
    managers: Vec<System>,
    #[serde(rename = "pduinventory", deserialize_with = "folded_option")]
    pdu: Option<Pdu>,
}

/// A system or a manager, as one may be posted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct System {
    #[serde(deserialize_with = "null_is_default")]
    uri: String,
    #[serde(deserialize_with = "null_is_default")]
    uuid: String,
    #[serde(deserialize_with = "null_is_default")]
    name: String,
    #[serde(deserialize_with = "folded_list")]
    ethernet_interfaces: Vec<EthernetInterface>,
    #[serde(deserialize_with = "null_is_default")]
    actions: Vec<Box<str>>,
    power: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EthernetInterface {
    #[serde(deserialize_with = "null_is_default")]
    uri: String,
    #[serde(deserialize_with = "null_is_default")]
    mac: String,
    #[serde(deserialize_with = "null_is_default")]
    ip: String,
    #[serde(deserialize_with = "null_is_default")]
    description: String,
}

/// What `magellan collect pdu` sends.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pdu {
    #[serde(deserialize_with = "folded_list")]
    outlets: Vec<Outlet>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Outlet {
    #[serde(deserialize_with = "null_is_default")]
    id_suffix: String,
    #[serde(deserialize_with = "null_is_default")]
    name: String,
    #[serde(deserialize_with = "null_is_default")]
    state: String,
}

/// Whether rows that a Redfish endpoint brought before are written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// It is a new one.
    None,
    /// They are replaced.
    Replaced,
}

impl Discovered {
    /// Whether anything follows from it.
    pub(crate) fn says_something(&self) -> bool {
        self.pdu.is_some() || self.schema > 0 || !self.systems.is_empty() || !self.managers.is_empty()
    }
}

/// A node's interface that another component has already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the interface {mac} of {id} is {holder}'s already")]
pub(crate) struct Taken {
    mac: Mac,
    id: Id,
    holder: Id,
}

/// Drafts what follows from the endpoint `rfe`, which is in the draft already. With [`Before::Replaced`] interfaces that others have move to
/// whom the document names; a new endpoint may not take a node's from another.
pub(crate) fn put(
    draft: &mut Draft<'_>,
    rfe: &str,
    endpoint: &Endpoint,
    discovered: &Discovered,
    before: Before,
) -> Result<(), Taken> {
    if before == Before::Replaced {
        take_back(draft, rfe);
    }
    if let Some(pdu) = &discovered.pdu {
        put_pdu(draft, rfe, endpoint, pdu);
        return Ok(());
    }
    put_controller(draft, rfe, endpoint);
    let mut nics = Vec::new();
    for manager in &discovered.managers {
        nics.append(&mut put_interfaces(draft, rfe, &manager.ethernet_interfaces, before));
    }
    if let Some(manager) = discovered.managers.first() {
        let odata = or(path_of(&manager.uri), || format!("/redfish/v1/Managers/{rfe}"));
        let row = component_endpoint(rfe, Redfish::Manager, manager, odata, nics);
        draft.put_component_endpoint(rfe, row);
    }
    put_own_interface(draft, rfe, endpoint, before);
    for (ordinal, system) in distinct(&discovered.systems).into_iter().enumerate() {
        let odata = path_of(&system.uri);
        let id = node_of(draft, &odata, rfe).unwrap_or_else(|| format!("{rfe}n{ordinal}"));
        if xname::kind(&id) != Some("Node") {
            // Controllers of other things than nodes have systems, too; nothing boots there.
            continue;
        }
        put_node(draft, &id, ordinal, &system.name);
        let nics = put_interfaces(draft, &id, &system.ethernet_interfaces, before);
        for nic in &nics {
            // Kept as it was: nothing takes from a node what it boots by.
            if let Some(holder) = draft.interface(nic.mac).map(|row| &row.component)
                && !holder.is_empty()
                && **holder != *id
            {
                return Err(Taken {
                    mac: nic.mac,
                    id: id.as_str().into(),
                    holder: Arc::clone(holder),
                });
            }
        }
        let row = component_endpoint(rfe, Redfish::System, system, odata, nics);
        draft.put_component_endpoint(&id, row);
    }
    Ok(())
}

/// Deletes what the endpoint brought before, whoever changed it since (contract 2.4); what somebody else has by now is left alone.
fn take_back(draft: &mut Draft<'_>, rfe: &str) {
    let managed: Vec<Id> = draft.tables().managed_by(rfe).cloned().collect();
    for id in managed {
        let brought: Vec<Mac> = draft
            .component_endpoint(&id)
            .map(|row| row.nics.iter().map(|nic| nic.mac).collect())
            .unwrap_or_default();
        draft.delete_component_endpoint(&id);
        for mac in draft.interfaces_of(&id) {
            if brought.contains(&mac) || draft.interface(mac).is_some_and(|row| row.derived) {
                draft.delete_interface(mac);
            }
        }
    }
}

/// What the same conversation would have made of a row of the nodes file: the controller's endpoint, and what it manages.
pub(crate) fn put_file_row(draft: &mut Draft<'_>, node: &Node) {
    let nics = node.interfaces.iter().map(|interface| Nic {
        mac: interface.mac,
        uri: "".into(),
        description: "".into(),
    });
    let mut row = ComponentEndpoint {
        rfe: node.id.as_str().into(),
        of: Redfish::Manager,
        uuid: "".into(),
        odata: "".into(),
        name: node.name.as_str().into(),
        actions: Arc::default(),
        nics: nics.collect(),
    };
    match xname::bmc_of(&node.id) {
        Some(bmc) if draft.endpoint(bmc).is_some() => {
            (row.rfe, row.of) = (bmc.into(), Redfish::System);
            draft.put_component_endpoint(&node.id, row);
        }
        Some(_) => {}
        None => {
            let first = node.interfaces.first();
            let ip = first
                .and_then(|first| first.ips.first())
                .map(|address| address.ip.to_string());
            let told = node.extra.get("ip").and_then(Value::as_str).map(str::to_owned);
            let mut endpoint = draft.endpoint(&node.id).cloned().unwrap_or_default();
            endpoint.enabled = true;
            endpoint.name = node.name.as_str().into();
            endpoint.fqdn = node.fqdn.as_str().into();
            if endpoint.hostname.is_empty() {
                endpoint.hostname = node.id.as_str().into();
            }
            endpoint.mac = first.map(|first| first.mac.to_string()).unwrap_or_default().into();
            endpoint.ip = ip.or(told).unwrap_or_default().into();
            // Two controllers of one name: the file may have them, an API client could not.
            if draft
                .with_fqdn(endpoint.fqdn_or(&node.id))
                .is_none_or(|other| *other == *node.id)
            {
                draft.put_endpoint(&node.id, endpoint);
                draft.put_component_endpoint(&node.id, row);
            }
        }
    }
}

/// A controller's component: it is there and enabled, of no state.
fn put_controller(draft: &mut Draft<'_>, id: &str, endpoint: &Endpoint) {
    let mut row = draft.component(id).cloned().unwrap_or(Component {
        enabled: true,
        ..Component::default()
    });
    forget(&mut row);
    if !endpoint.name.is_empty() {
        row.name.clone_from(&endpoint.name);
    }
    row.ip = if endpoint.mac.is_empty() {
        endpoint.ip.parse().ok()
    } else {
        None
    };
    draft.put_component(id, row);
}

/// A node's component. A new one has the NID that upstream counts, unless another node has it: then one of its place.
fn put_node(draft: &mut Draft<'_>, id: &str, ordinal: usize, name: &str) {
    let mut row = match draft.component(id) {
        Some(row) => row.clone(),
        None => {
            let counted = ordinal as u64 + 1;
            let is_free = draft.tables().with_nid(counted, counted).next().is_none();
            Component {
                enabled: true,
                role: "Compute".into(),
                nid: if is_free { Some(counted) } else { xname::default_nid(id) },
                ..Component::default()
            }
        }
    };
    forget(&mut row);
    row.state = Word("On");
    if !name.is_empty() {
        row.name = name.into();
    }
    draft.put_component(id, row);
}

/// What an upsert of a discovered component sets to nothing; its role, NID and whether it is enabled stay.
fn forget(row: &mut Component) {
    row.state = Word::default();
    row.flag = Word::default();
    row.net_type = Word::default();
    row.arch = Word::default();
    row.class = Word::default();
    row.subtype = "".into();
}

fn put_interfaces(draft: &mut Draft<'_>, owner: &str, posted: &[EthernetInterface], before: Before) -> Vec<Nic> {
    let mut nics = Vec::new();
    for interface in posted {
        // Placeholders (ff-ff-…, zeros, nothing) stand for ports without an address of their own.
        let Some(mac) = interface.mac.parse::<Mac>().ok().filter(|mac| mac.is_host()) else {
            continue;
        };
        nics.push(Nic {
            mac,
            uri: path_of(&interface.uri).into(),
            description: interface.description.as_str().into(),
        });
        let ip = interface.ip.trim();
        let addresses = (!ip.is_empty()).then(|| Address {
            ip: ip.into(),
            network: "".into(),
        });
        let row = Interface {
            component: owner.into(),
            description: interface.description.as_str().into(),
            addresses: addresses.into_iter().collect(),
            derived: true,
            ..Interface::default()
        };
        // What a client or an earlier endpoint wrote is not taken away by a new one.
        let is_free = draft.interface(mac).is_none_or(|there| there.component.is_empty());
        if is_free || before == Before::Replaced {
            draft.put_interface(mac, row);
        }
    }
    nics
}

/// The controller's own interface, when no manager told it.
fn put_own_interface(draft: &mut Draft<'_>, rfe: &str, endpoint: &Endpoint, before: Before) {
    let is_there = endpoint
        .mac
        .parse()
        .is_ok_and(|mac| draft.interface(mac).is_some_and(|row| *row.component == *rfe));
    if is_there {
        return;
    }
    let own = EthernetInterface {
        mac: endpoint.mac.to_string(),
        ip: endpoint.ip.to_string(),
        description: format!("Interface for BMC {rfe}"),
        ..EthernetInterface::default()
    };
    put_interfaces(draft, rfe, &[own], before);
}

fn put_pdu(draft: &mut Draft<'_>, rfe: &str, endpoint: &Endpoint, pdu: &Pdu) {
    put_controller(draft, rfe, endpoint);
    if let Some(mut row) = draft.component(rfe).cloned() {
        row.state = Word("On");
        draft.put_component(rfe, row);
    }
    for outlet in &pdu.outlets {
        let id = xname::normalise(&format!("{rfe}{}", outlet.id_suffix));
        if xname::component_type(&id) != Some("CabinetPDUPowerConnector") {
            continue;
        }
        let is_on = outlet.state.eq_ignore_ascii_case("on");
        let mut row = draft.component(&id).cloned().unwrap_or_default();
        row.enabled = is_on;
        row.state = Word(if is_on { "On" } else { "Off" });
        row.name = outlet.name.as_str().into();
        draft.put_component(&id, row);
        let row = ComponentEndpoint {
            rfe: rfe.into(),
            of: Redfish::Outlet,
            uuid: "".into(),
            odata: format!("/jaws/control/outlets/{}", outlet.id_suffix).into(),
            name: outlet.name.as_str().into(),
            actions: Arc::default(),
            nics: Box::default(),
        };
        draft.put_component_endpoint(&id, row);
    }
}

fn component_endpoint(rfe: &str, of: Redfish, system: &System, odata: String, nics: Vec<Nic>) -> ComponentEndpoint {
    ComponentEndpoint {
        rfe: rfe.into(),
        of,
        uuid: system.uuid.as_str().into(),
        odata: odata.into(),
        name: system.name.as_str().into(),
        actions: system.actions.clone().into(),
        nics: nics.into(),
    }
}

/// Systems that are told twice, as a chassis and as a system, count once: the one whose power can be controlled.
fn distinct(systems: &[System]) -> Vec<&System> {
    let mut distinct: Vec<&System> = Vec::new();
    let mut places = HashMap::new();
    let has_control = |system: &System| {
        let controls = system.power.get("power_control_ids");
        controls.and_then(Value::as_array).is_some_and(|ids| !ids.is_empty())
    };
    for system in systems {
        let place = *places.entry(&system.uuid).or_insert(distinct.len());
        match distinct.get_mut(place) {
            Some(known) if !system.uuid.is_empty() => {
                if has_control(system) && !has_control(known) {
                    *known = system;
                }
            }
            _ => distinct.push(system),
        }
    }
    distinct
}

/// The node that a path ends with, when it is one of this controller, or one that there is: `ochami discover static` sends all nodes that share
/// the hardware address of a controller, made up for nodes that have none, as systems of one.
fn node_of(draft: &Draft<'_>, path: &str, rfe: &str) -> Option<String> {
    let id = xname::normalise(path.trim_end_matches('/').rsplit('/').next()?);
    let bmc = xname::bmc_of(&id)?;
    (bmc == rfe || draft.component(&id).is_some()).then_some(id)
}

/// The path of a URI: what follows `http(s)://host`.
fn path_of(uri: &str) -> String {
    let uri = uri.trim();
    let rest = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"));
    match rest {
        Some(rest) => rest
            .find('/')
            .and_then(|at| rest.get(at..))
            .unwrap_or_default()
            .to_owned(),
        None => uri.to_owned(),
    }
}

fn or(text: String, other: impl FnOnce() -> String) -> String {
    if text.is_empty() { other() } else { text }
}

fn folded_option<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::de::DeserializeOwned,
{
    #[derive(Deserialize)]
    #[serde(bound = "T: serde::de::DeserializeOwned")]
    struct One<T>(#[serde(deserialize_with = "bootd_sdk::json::folded")] T);
    Ok(Option::<One<T>>::deserialize(deserializer)?.map(|One(value)| value))
}
