//! Rows as a site's SMD lists them (contract 2.3, 2.5 to 2.7), read into rows of ours. Pure.
//!
//! A list that is none is refused as a whole. A row that cannot be read costs only itself: real sites have rows that their own SMD would no
//! longer take. Unknown words of a field are none; rows are not held to the rules of the API, which their own service keeps.

use std::collections::HashSet;

use bootd_sdk::json::{Rows, null_is_default};
use bootd_sdk::mac::Mac;
use bootd_sdk::text::shown;
use bootd_sdk::{time, xname};
use serde::Deserialize;
use serde_json::Value;

use crate::api::{is_clean, is_label, xname_of};
use crate::rows::{Address, Component, ComponentEndpoint, Endpoint, Family, Id, Interface, Nic, Redfish, Set};
use crate::values::{self, Word};

/// Rows that were read, and those that were not.
#[derive(Debug, Default)]
pub(super) struct Read<R> {
    pub(super) rows: Vec<R>,
    /// What names a row that cannot be read: it keeps what it had.
    pub(super) unclear: HashSet<String>,
    pub(super) left_out: LeftOut,
}

/// Rows of a site that cannot be mirrored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) count: usize,
    /// Which one came first, and why.
    pub(crate) first: String,
}

/// Reads each row of a list by itself. Rows of which not one can be read are no list of this kind.
fn each<'b, T: Deserialize<'b>, R>(
    list: Rows<'b>,
    name: &str,
    row: impl Fn(T) -> Result<R, String>,
) -> Result<Read<R>, String> {
    let mut read = Read {
        rows: Vec::with_capacity(list.0.len()),
        unclear: HashSet::new(),
        left_out: LeftOut::default(),
    };
    for raw in list.0 {
        let one = serde_json::from_str::<T>(raw.get()).map_err(|error| error.to_string());
        match one.and_then(&row) {
            Ok(row) => read.rows.push(row),
            Err(text) => {
                read.left_out.count += 1;
                if read.left_out.count == 1 {
                    read.left_out.first = shown(&text);
                }
                let value: Value = serde_json::from_str(raw.get()).unwrap_or_default();
                read.unclear.extend(value[name].as_str().map(str::to_owned));
            }
        }
    }
    if read.rows.is_empty() && read.left_out.count > 0 {
        return Err(format!("not one row can be read: {}", read.left_out.first));
    }
    Ok(read)
}

/// A body is a list, or an object that has one; serde would take one for the other.
fn begins(body: &str, wanted: char) -> Result<(), String> {
    let is = body.trim_start().chars().next();
    match wanted {
        _ if is == Some(wanted) => Ok(()),
        '{' => Err("it is no object with a list in it".into()),
        _ => Err("it is no list".into()),
    }
}

/// `{"Components": [...]}`
pub(super) fn components(body: &str) -> Result<Read<(Id, Component)>, String> {
    begins(body, '{')?;
    #[derive(Deserialize)]
    struct List<'b> {
        #[serde(rename = "Components", borrow)]
        list: Rows<'b>,
    }
    let List { list } = serde_json::from_str(body).map_err(|error| error.to_string())?;
    each(list, "ID", component)
}

/// A component by itself.
pub(super) fn one_component(body: &str) -> Result<(Id, Component), String> {
    component(serde_json::from_str(body).map_err(|error| error.to_string())?)
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ComponentIn {
    #[serde(rename = "ID", deserialize_with = "null_is_default")]
    id: String,
    #[serde(deserialize_with = "null_is_default")]
    state: String,
    #[serde(deserialize_with = "null_is_default")]
    flag: String,
    enabled: Option<bool>,
    #[serde(deserialize_with = "null_is_default")]
    software_status: String,
    #[serde(deserialize_with = "null_is_default")]
    role: String,
    #[serde(deserialize_with = "null_is_default")]
    sub_role: String,
    #[serde(rename = "NID")]
    nid: Value,
    #[serde(deserialize_with = "null_is_default")]
    subtype: String,
    #[serde(deserialize_with = "null_is_default")]
    net_type: String,
    #[serde(deserialize_with = "null_is_default")]
    arch: String,
    #[serde(deserialize_with = "null_is_default")]
    class: String,
    #[serde(deserialize_with = "null_is_default")]
    reservation_disabled: bool,
    #[serde(deserialize_with = "null_is_default")]
    locked: bool,
}

fn component(posted: ComponentIn) -> Result<(Id, Component), String> {
    let id = xname(&posted.id)?;
    let word = |list, text: &str| Word(values::canonical(list, text).unwrap_or_default());
    let nid = match &posted.nid {
        Value::String(text) => text.parse().ok(),
        value => value.as_i64(),
    };
    for text in [&posted.software_status, &posted.role, &posted.sub_role, &posted.subtype] {
        clean(&id, text)?;
    }
    let row = Component {
        kind: xname::component_type(&id).unwrap_or_default(),
        state: word(values::STATES, &posted.state),
        flag: word(values::FLAGS, &posted.flag),
        enabled: posted.enabled.unwrap_or(true),
        software_status: posted.software_status.into(),
        role: posted.role.into(),
        sub_role: posted.sub_role.into(),
        // A negative one is none.
        nid: nid.and_then(|nid| u64::try_from(nid).ok()),
        subtype: posted.subtype.into(),
        net_type: word(values::NET_TYPES, &posted.net_type),
        arch: word(values::ARCHS, &posted.arch),
        class: word(values::CLASSES, &posted.class),
        reservation_disabled: posted.reservation_disabled,
        locked: posted.locked,
        ..Component::default()
    };
    Ok((id.into(), row))
}

/// `[...]`, of interfaces.
pub(super) fn interfaces(body: &str) -> Result<Read<(Mac, Interface)>, String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct AddressIn {
        #[serde(rename = "IPAddress", deserialize_with = "null_is_default")]
        ip: String,
        #[serde(rename = "Network", deserialize_with = "null_is_default")]
        network: String,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct InterfaceIn {
        #[serde(rename = "MACAddress", deserialize_with = "null_is_default")]
        mac: String,
        #[serde(rename = "ComponentID", deserialize_with = "null_is_default")]
        component: String,
        #[serde(rename = "Description", deserialize_with = "null_is_default")]
        description: String,
        #[serde(rename = "LastUpdate", deserialize_with = "null_is_default")]
        updated: String,
        #[serde(rename = "IPAddresses", deserialize_with = "null_is_default")]
        addresses: Vec<AddressIn>,
    }
    begins(body, '[')?;
    let list = serde_json::from_str(body).map_err(|error| error.to_string())?;
    each(list, "MACAddress", |posted: InterfaceIn| {
        let mac: Mac = posted.mac.parse().map_err(|error| format!("{error}"))?;
        let component = match posted.component.as_str() {
            "" => Id::from(""),
            id => xname(id)?.into(),
        };
        clean(&posted.mac, &posted.description)?;
        let mut addresses = Vec::with_capacity(posted.addresses.len());
        for AddressIn { ip, network } in posted.addresses {
            clean(&posted.mac, &ip)?;
            clean(&posted.mac, &network)?;
            if !ip.is_empty() {
                addresses.push(Address {
                    ip: ip.into(),
                    network: network.into(),
                });
            }
        }
        let row = Interface {
            component,
            description: posted.description.into(),
            updated: time::seconds(&posted.updated).unwrap_or(0),
            addresses: addresses.into(),
            derived: false,
        };
        Ok((mac, row))
    })
}

/// A group or a partition, with its members.
pub(super) struct SetRow {
    pub(super) label: Id,
    pub(super) set: Set,
    pub(super) members: Vec<Id>,
}

/// `[...]`, of groups or of partitions.
pub(super) fn sets(family: Family, body: &str) -> Result<Read<SetRow>, String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct MembersIn {
        #[serde(deserialize_with = "null_is_default")]
        ids: Vec<String>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct SetIn {
        #[serde(deserialize_with = "null_is_default")]
        label: String,
        #[serde(deserialize_with = "null_is_default")]
        name: String,
        #[serde(deserialize_with = "null_is_default")]
        description: String,
        #[serde(deserialize_with = "null_is_default")]
        tags: Vec<Box<str>>,
        #[serde(rename = "exclusiveGroup", deserialize_with = "null_is_default")]
        exclusive: String,
        #[serde(deserialize_with = "null_is_default")]
        members: MembersIn,
    }
    begins(body, '[')?;
    let list = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let name = match family {
        Family::Group => "label",
        Family::Partition => "name",
    };
    each(list, name, |posted: SetIn| {
        let label = match family {
            Family::Group => posted.label.to_lowercase(),
            Family::Partition => posted.name.to_lowercase(),
        };
        if !is_label(&label) {
            return Err(format!("'{}' is no label", shown(&label)));
        }
        clean(&label, &posted.description)?;
        let members: Result<Vec<Id>, String> = posted.members.ids.iter().map(|id| Ok(xname(id)?.into())).collect();
        Ok(SetRow {
            label: label.into(),
            set: Set {
                description: posted.description.into(),
                tags: posted.tags,
                exclusive: posted.exclusive.into(),
                of_file: false,
            },
            members: members?,
        })
    })
}

/// What a Redfish endpoint manages, with what is told of the endpoint itself.
pub(super) struct ManagedRow {
    pub(super) id: Id,
    pub(super) row: ComponentEndpoint,
    pub(super) parent: Endpoint,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResetIn {
    #[serde(rename = "ResetType@Redfish.AllowableValues", deserialize_with = "null_is_default")]
    allowed: Vec<Box<str>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ActionsIn {
    #[serde(rename = "#ComputerSystem.Reset", deserialize_with = "null_is_default")]
    system: ResetIn,
    #[serde(rename = "#Manager.Reset", deserialize_with = "null_is_default")]
    manager: ResetIn,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NicIn {
    #[serde(rename = "@odata.id", deserialize_with = "null_is_default")]
    odata: String,
    #[serde(rename = "RedfishId", deserialize_with = "null_is_default")]
    redfish: String,
    #[serde(rename = "Description", deserialize_with = "null_is_default")]
    description: String,
    #[serde(rename = "MACAddress", deserialize_with = "null_is_default")]
    mac: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct InfoIn {
    #[serde(deserialize_with = "null_is_default")]
    name: String,
    #[serde(deserialize_with = "null_is_default")]
    actions: ActionsIn,
    #[serde(rename = "EthernetNICInfo", deserialize_with = "null_is_default")]
    nics: Vec<NicIn>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ManagedIn {
    #[serde(rename = "ID", deserialize_with = "null_is_default")]
    id: String,
    #[serde(rename = "RedfishType", deserialize_with = "null_is_default")]
    redfish: String,
    #[serde(rename = "UUID", deserialize_with = "null_is_default")]
    uuid: String,
    #[serde(rename = "OdataID", deserialize_with = "null_is_default")]
    odata: String,
    #[serde(rename = "RedfishEndpointID", deserialize_with = "null_is_default")]
    endpoint: String,
    #[serde(rename = "RedfishEndpointFQDN", deserialize_with = "null_is_default")]
    fqdn: String,
    #[serde(rename = "Enabled", deserialize_with = "null_is_default")]
    enabled: bool,
    #[serde(rename = "RedfishSystemInfo", deserialize_with = "null_is_default")]
    system: InfoIn,
    #[serde(rename = "RedfishManagerInfo", deserialize_with = "null_is_default")]
    manager: InfoIn,
    #[serde(rename = "RedfishOutletInfo", deserialize_with = "null_is_default")]
    outlet: InfoIn,
}

/// `{"ComponentEndpoints": [...]}`. Chassis and the like, which nothing here would use, are not among the rows.
pub(super) fn managed(body: &str) -> Result<Read<Option<ManagedRow>>, String> {
    #[derive(Deserialize)]
    struct List<'b> {
        #[serde(rename = "ComponentEndpoints", borrow)]
        list: Rows<'b>,
    }
    begins(body, '{')?;
    let List { list } = serde_json::from_str(body).map_err(|error| error.to_string())?;
    each(list, "ID", one_managed)
}

fn one_managed(posted: ManagedIn) -> Result<Option<ManagedRow>, String> {
    let (id, endpoint) = (xname(&posted.id)?, xname(&posted.endpoint)?);
    let (of, info, allowed) = match posted.redfish.as_str() {
        "ComputerSystem" => (Redfish::System, &posted.system, &posted.system.actions.system),
        "Manager" => (Redfish::Manager, &posted.manager, &posted.manager.actions.manager),
        "Outlet" => (Redfish::Outlet, &posted.outlet, &posted.outlet.actions.system),
        _ => return Ok(None),
    };
    for text in [&posted.uuid, &posted.odata, &posted.fqdn, &info.name] {
        clean(&id, text)?;
    }
    let nics = info.nics.iter().filter_map(|nic| {
        let uri = if nic.odata.is_empty() { &nic.redfish } else { &nic.odata };
        Some(Nic {
            mac: nic.mac.parse().ok()?,
            uri: uri.as_str().into(),
            description: nic.description.as_str().into(),
        })
    });
    let parent = Endpoint {
        fqdn: if posted.fqdn == endpoint {
            "".into()
        } else {
            posted.fqdn.as_str().into()
        },
        enabled: posted.enabled,
        ..Endpoint::default()
    };
    Ok(Some(ManagedRow {
        row: ComponentEndpoint {
            rfe: endpoint.into(),
            of,
            uuid: posted.uuid.as_str().into(),
            odata: posted.odata.as_str().into(),
            name: info.name.as_str().into(),
            actions: allowed.allowed.clone().into(),
            nics: nics.collect(),
        },
        id: id.into(),
        parent,
    }))
}

/// `{"id": ..., "groupLabels": [...], "partitionName": ...}`: its groups and its partition.
pub(super) fn one_membership(body: &str) -> Result<Vec<(Family, Id)>, String> {
    #[derive(Deserialize)]
    struct MembershipIn {
        #[serde(rename = "groupLabels", deserialize_with = "null_is_default")]
        groups: Vec<String>,
        #[serde(rename = "partitionName", default, deserialize_with = "null_is_default")]
        partition: String,
    }
    let read: MembershipIn = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let groups = read
        .groups
        .into_iter()
        .map(|label| (Family::Group, label.to_lowercase()));
    let partition = Some((Family::Partition, read.partition.to_lowercase()));
    let all = groups.chain(partition).filter(|(_, label)| is_label(label));
    Ok(all.map(|(family, label)| (family, label.into())).collect())
}

fn xname(text: &str) -> Result<String, String> {
    xname_of(text).ok_or_else(|| format!("'{}' is no xname", shown(text)))
}

fn clean(id: &str, text: &str) -> Result<(), String> {
    if is_clean(text) {
        return Ok(());
    }
    Err(format!("{}: a text is too long or has control characters", shown(id)))
}
