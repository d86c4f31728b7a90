//! Rows as SMD writes them.

use bootd_sdk::mac::Mac;
use serde::{Serialize, Serializer};

use crate::draft::interface_id;
use crate::rows::{Component, ComponentEndpoint, Endpoint, Interface, Redfish};
use crate::values::Word;
use bootd_sdk::time;

pub(super) use super::answers::{created, created_one, deleted, json, list, message, no_content};

/// A component (contract 2.3).
#[derive(Serialize)]
pub(super) struct ComponentOut<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Type", skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    #[serde(rename = "State", skip_serializing_if = "Word::is_empty")]
    state: Word,
    #[serde(rename = "Flag", skip_serializing_if = "Word::is_empty")]
    flag: Word,
    #[serde(rename = "Enabled", skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    #[serde(rename = "SoftwareStatus", skip_serializing_if = "str::is_empty")]
    software_status: &'a str,
    #[serde(rename = "Role", skip_serializing_if = "str::is_empty")]
    role: &'a str,
    #[serde(rename = "SubRole", skip_serializing_if = "str::is_empty")]
    sub_role: &'a str,
    #[serde(rename = "NID", skip_serializing_if = "Option::is_none")]
    nid: Option<u64>,
    #[serde(rename = "Subtype", skip_serializing_if = "str::is_empty")]
    subtype: &'a str,
    #[serde(rename = "NetType", skip_serializing_if = "Word::is_empty")]
    net_type: Word,
    #[serde(rename = "Arch", skip_serializing_if = "Word::is_empty")]
    arch: Word,
    #[serde(rename = "Class", skip_serializing_if = "Word::is_empty")]
    class: Word,
    #[serde(rename = "ReservationDisabled", skip_serializing_if = "is_false")]
    reservation_disabled: bool,
    #[serde(rename = "Locked", skip_serializing_if = "is_false")]
    locked: bool,
}

/// Which of its fields a list of components shows: all, or `ID`, `Type` and those that were asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) state: bool,
    pub(super) flag: bool,
    pub(super) role: bool,
    pub(super) nid: bool,
}

impl<'a> ComponentOut<'a> {
    pub(super) fn new(id: &'a str, row: &'a Component) -> Self {
        Self {
            id,
            kind: row.kind,
            state: row.state,
            flag: row.flag,
            enabled: Some(row.enabled),
            software_status: &row.software_status,
            role: &row.role,
            sub_role: &row.sub_role,
            nid: row.nid,
            subtype: &row.subtype,
            net_type: row.net_type,
            arch: row.arch,
            class: row.class,
            reservation_disabled: row.reservation_disabled,
            locked: row.locked,
        }
    }

    pub(super) fn only(mut self, shown: Shown) -> Self {
        if shown == Shown::default() {
            return self;
        }
        if !shown.state {
            self.state = Word::default();
        }
        if !shown.state && !shown.flag {
            self.flag = Word::default();
        }
        if !shown.role {
            (self.role, self.sub_role) = ("", "");
        }
        if !shown.nid {
            self.nid = None;
        }
        Self {
            enabled: None,
            software_status: "",
            subtype: "",
            net_type: Word::default(),
            arch: Word::default(),
            class: Word::default(),
            reservation_disabled: false,
            locked: false,
            ..self
        }
    }
}

/// An Ethernet interface (contract 2.6).
#[derive(Serialize)]
pub(super) struct InterfaceOut<'a> {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Description")]
    description: &'a str,
    #[serde(rename = "MACAddress")]
    mac: Mac,
    #[serde(rename = "LastUpdate", skip_serializing_if = "String::is_empty")]
    updated: String,
    #[serde(rename = "ComponentID")]
    component: &'a str,
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "IPAddresses")]
    addresses: Vec<AddressOut<'a>>,
}

#[derive(Serialize)]
pub(super) struct AddressOut<'a> {
    #[serde(rename = "IPAddress")]
    ip: &'a str,
    #[serde(rename = "Network", skip_serializing_if = "str::is_empty")]
    network: &'a str,
}

impl<'a> InterfaceOut<'a> {
    pub(super) fn new(mac: Mac, row: &'a Interface) -> Self {
        Self {
            id: interface_id(mac),
            description: &row.description,
            mac,
            updated: if row.updated > 0 {
                time::rfc3339(row.updated)
            } else {
                String::new()
            },
            component: &row.component,
            kind: bootd_sdk::xname::component_type(&row.component).unwrap_or_default(),
            addresses: addresses(row),
        }
    }
}

/// The addresses of an interface.
pub(super) fn addresses(row: &Interface) -> Vec<AddressOut<'_>> {
    row.addresses
        .iter()
        .map(|address| AddressOut {
            ip: &address.ip,
            network: &address.network,
        })
        .collect()
}

/// A Redfish endpoint (contract 2.4). The password is never among what is kept.
#[derive(Serialize)]
pub(super) struct EndpointOut<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "Name", skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "Hostname")]
    hostname: &'a str,
    #[serde(rename = "Domain")]
    domain: &'a str,
    #[serde(rename = "FQDN")]
    fqdn: &'a str,
    #[serde(rename = "Enabled")]
    enabled: bool,
    #[serde(rename = "UUID", skip_serializing_if = "str::is_empty")]
    uuid: &'a str,
    #[serde(rename = "User")]
    user: &'a str,
    #[serde(rename = "Password")]
    password: &'static str,
    #[serde(rename = "UseSSDP", skip_serializing_if = "is_false")]
    use_ssdp: bool,
    #[serde(rename = "MACRequired", skip_serializing_if = "is_false")]
    mac_required: bool,
    #[serde(rename = "MACAddr", skip_serializing_if = "str::is_empty")]
    mac: &'a str,
    #[serde(rename = "IPAddress", skip_serializing_if = "str::is_empty")]
    ip: &'a str,
    #[serde(rename = "RediscoverOnUpdate")]
    rediscover: bool,
    #[serde(rename = "TemplateID", skip_serializing_if = "str::is_empty")]
    template: &'a str,
    #[serde(rename = "DiscoveryInfo")]
    discovery: DiscoveryOut,
}

#[derive(Serialize)]
struct DiscoveryOut {
    #[serde(rename = "LastDiscoveryStatus")]
    status: &'static str,
}

impl<'a> EndpointOut<'a> {
    pub(super) fn new(id: &'a str, row: &'a Endpoint) -> Self {
        Self {
            id,
            kind: bootd_sdk::xname::component_type(id).unwrap_or_default(),
            name: &row.name,
            hostname: &row.hostname,
            domain: &row.domain,
            fqdn: row.fqdn_or(id),
            enabled: row.enabled,
            uuid: &row.uuid,
            user: &row.user,
            password: "",
            use_ssdp: row.use_ssdp,
            mac_required: row.mac_required,
            mac: &row.mac,
            ip: &row.ip,
            rediscover: row.rediscover,
            template: &row.template,
            discovery: DiscoveryOut {
                status: "NotYetQueried",
            },
        }
    }
}

/// A component endpoint (contract 2.5), with what it has of its Redfish endpoint.
pub(super) struct ComponentEndpointOut<'a> {
    pub(super) id: &'a str,
    pub(super) row: &'a ComponentEndpoint,
    pub(super) parent: Option<&'a Endpoint>,
}

impl Serialize for ComponentEndpointOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let row = self.row;
        let fqdn = self.parent.map_or("", |parent| parent.fqdn_or(&row.rfe));
        let (redfish, kind, info) = match row.of {
            Redfish::System => ("ComputerSystem", "ComponentEndpointComputerSystem", "RedfishSystemInfo"),
            Redfish::Manager => ("Manager", "ComponentEndpointManager", "RedfishManagerInfo"),
            Redfish::Outlet => ("Outlet", "ComponentEndpointPowerDistribution", "RedfishOutletInfo"),
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("ID", self.id)?;
        map.serialize_entry("Type", bootd_sdk::xname::component_type(self.id).unwrap_or_default())?;
        map.serialize_entry("RedfishType", redfish)?;
        if let Some(nic) = row.nics.first() {
            map.serialize_entry("MACAddr", &nic.mac)?;
        }
        if !row.uuid.is_empty() {
            map.serialize_entry("UUID", &row.uuid)?;
        }
        map.serialize_entry("OdataID", &row.odata)?;
        map.serialize_entry("RedfishEndpointID", &row.rfe)?;
        map.serialize_entry("Enabled", &self.parent.is_some_and(|parent| parent.enabled))?;
        map.serialize_entry("RedfishEndpointFQDN", fqdn)?;
        let host = if row.of == Redfish::Manager && fqdn != &*row.rfe {
            fqdn
        } else {
            ""
        };
        map.serialize_entry("RedfishURL", &format_args!("{host}{}", row.odata))?;
        map.serialize_entry("ComponentEndpointType", kind)?;
        map.serialize_entry(info, &InfoOut(row))?;
        map.end()
    }
}

/// `RedfishSystemInfo` and its like.
struct InfoOut<'a>(&'a ComponentEndpoint);

impl Serialize for InfoOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let row = self.0;
        let mut map = serializer.serialize_map(None)?;
        if !row.name.is_empty() {
            map.serialize_entry("Name", &row.name)?;
        }
        let reset = match row.of {
            Redfish::System if !row.odata.is_empty() => Some("ComputerSystem.Reset"),
            Redfish::Manager if !row.odata.is_empty() => Some("Manager.Reset"),
            _ => None,
        };
        if let Some(reset) = reset {
            map.serialize_entry("Actions", &ActionsOut { row, reset })?;
        }
        if !row.nics.is_empty() {
            let nics: Vec<NicOut<'_>> = row.nics.iter().map(NicOut::new).collect();
            map.serialize_entry("EthernetNICInfo", &nics)?;
        }
        map.end()
    }
}

struct ActionsOut<'a> {
    row: &'a ComponentEndpoint,
    reset: &'static str,
}

impl Serialize for ActionsOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        #[derive(Serialize)]
        struct Action<'a> {
            #[serde(
                rename = "ResetType@Redfish.AllowableValues",
                skip_serializing_if = "<[_]>::is_empty"
            )]
            allowed: &'a [Box<str>],
            #[serde(rename = "@Redfish.ActionInfo", skip_serializing_if = "String::is_empty")]
            info: String,
            target: String,
        }
        let odata = &self.row.odata;
        let is_system = self.row.of == Redfish::System;
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(
            &format_args!("#{}", self.reset),
            &Action {
                allowed: &self.row.actions,
                info: if is_system {
                    format!("{odata}/ResetActionInfo")
                } else {
                    String::new()
                },
                target: format!("{odata}/Actions/{}", self.reset),
            },
        )?;
        map.end()
    }
}

#[derive(Serialize)]
struct NicOut<'a> {
    #[serde(rename = "RedfishId", skip_serializing_if = "str::is_empty")]
    redfish_id: &'a str,
    #[serde(rename = "@odata.id", skip_serializing_if = "str::is_empty")]
    odata: &'a str,
    #[serde(rename = "Description", skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(rename = "InterfaceEnabled")]
    enabled: bool,
    #[serde(rename = "MACAddress")]
    mac: Mac,
}

impl<'a> NicOut<'a> {
    fn new(nic: &'a crate::rows::Nic) -> Self {
        Self {
            redfish_id: &nic.uri,
            odata: &nic.uri,
            description: &nic.description,
            enabled: true,
            mac: nic.mac,
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}
