//! What an import takes beside nodes, BMCs and groups: whole rows, in the form of the API's bodies.
//!
//! A row here says all that is to be known of its thing: a field that it does not have is empty. Texts are taken as they are, since rows may
//! have them from controllers; ids, addresses and words are checked.

use std::collections::HashMap;
use std::net::IpAddr;

use bootd_sdk::mac::Mac;
use bootd_sdk::text::shown;
use bootd_sdk::xname;
use bootd_sdk::yaml::{Item, Mistakes, Row as Fields};

use crate::api::{is_label, xname_of};
use crate::rows::{Address, Component, ComponentEndpoint, Endpoint, Interface, Nic, Redfish};
use crate::values::{self, Word, canonical};

/// The rows of all sections.
#[derive(Default)]
pub(crate) struct Sections {
    pub(super) components: Vec<Found<String, ComponentRow>>,
    pub(super) endpoints: Vec<Found<String, Endpoint>>,
    pub(super) component_endpoints: Vec<Found<String, ComponentEndpoint>>,
    pub(super) interfaces: Vec<Found<Mac, Interface>>,
}

/// A row with its key and its line.
pub(super) struct Found<K, R> {
    pub(super) id: K,
    pub(super) row: R,
    pub(super) line: u64,
}

/// A component, with the groups of one that `nodes` cannot have.
pub(super) struct ComponentRow {
    pub(super) row: Component,
    pub(super) groups: Vec<String>,
}

impl Sections {
    /// Their keys at the top of the text.
    pub(crate) const KEYS: [&str; 4] = ["components", "redfish-endpoints", "component-endpoints", "interfaces"];

    /// Reads them, in the order of [`Sections::KEYS`].
    pub(crate) fn read(sections: [&[Item]; 4], mistakes: &mut Mistakes) -> Self {
        let [components, endpoints, component_endpoints, interfaces] = sections;
        Self {
            components: rows(components, "component", mistakes, component),
            endpoints: rows(endpoints, "Redfish endpoint", mistakes, endpoint),
            component_endpoints: rows(component_endpoints, "component endpoint", mistakes, component_endpoint),
            interfaces: rows(interfaces, "Ethernet interface", mistakes, interface),
        }
    }
}

fn rows<K: Clone + Eq + std::hash::Hash + ToString, R>(
    items: &[Item],
    what: &'static str,
    mistakes: &mut Mistakes,
    read: impl Fn(&mut Fields<'_, '_>) -> Option<(K, R)>,
) -> Vec<Found<K, R>> {
    let mut found: Vec<Found<K, R>> = Vec::with_capacity(items.len());
    let mut lines: HashMap<K, u64> = HashMap::new();
    for item in items {
        let Some(mut fields) = Fields::of(item, what, mistakes) else {
            continue;
        };
        let line = fields.line;
        let row = read(&mut fields);
        let is_good = fields.done();
        let Some((id, row)) = row.filter(|_| is_good) else {
            continue;
        };
        match lines.get(&id) {
            Some(first) => mistakes.add(
                line,
                format!("the {what} {} is already on line {first}", id.to_string()),
            ),
            None => {
                lines.insert(id.clone(), line);
                found.push(Found { id, row, line });
            }
        }
    }
    found
}

fn component(fields: &mut Fields<'_, '_>) -> Option<(String, ComponentRow)> {
    let id = id(fields, "ID");
    let row = Component {
        state: word(fields, "State", values::STATES),
        flag: word(fields, "Flag", values::FLAGS),
        enabled: fields.parsed("Enabled").unwrap_or(true),
        software_status: text(fields, "SoftwareStatus"),
        role: text(fields, "Role"),
        sub_role: text(fields, "SubRole"),
        nid: fields.parsed("NID"),
        subtype: text(fields, "Subtype"),
        net_type: word(fields, "NetType", values::NET_TYPES),
        arch: word(fields, "Arch", values::ARCHS),
        class: word(fields, "Class", values::CLASSES),
        reservation_disabled: fields.parsed("ReservationDisabled").unwrap_or(false),
        locked: fields.parsed("Locked").unwrap_or(false),
        name: text(fields, "Name"),
        fqdn: text(fields, "FQDN"),
        ip: fields.parsed("IPAddress"),
        ..Component::default()
    };
    let groups = fields.list::<String>("Groups");
    if let Some((group, line)) = groups.iter().find(|(group, _)| !is_label(group)) {
        fields.bad(*line, format!("Groups: '{}' is not the label of a group", shown(group)));
    }
    let groups = groups.into_iter().map(|(group, _)| group).collect();
    Some((id?, ComponentRow { row, groups }))
}

fn endpoint(fields: &mut Fields<'_, '_>) -> Option<(String, Endpoint)> {
    let id = id(fields, "ID");
    let can_be = |id: &String| {
        let kind = xname::component_type(id).unwrap_or_default();
        xname::is_controller(kind) || kind.ends_with("BMC")
    };
    if let Some(other) = id.as_ref().filter(|id| !can_be(id)) {
        fields.bad(
            fields.line_of("ID"),
            format!("ID: '{other}' is not the xname of a controller"),
        );
    }
    let ip: Option<IpAddr> = fields.parsed("IPAddress");
    let row = Endpoint {
        name: text(fields, "Name"),
        hostname: text(fields, "Hostname"),
        domain: text(fields, "Domain"),
        fqdn: text(fields, "FQDN"),
        enabled: fields.parsed("Enabled").unwrap_or(true),
        uuid: text(fields, "UUID"),
        user: text(fields, "User"),
        use_ssdp: fields.parsed("UseSSDP").unwrap_or(false),
        mac_required: fields.parsed("MACRequired").unwrap_or(false),
        mac: text(fields, "MACAddr"),
        // As it was spelled.
        ip: ip.map_or_else(Box::default, |_| text(fields, "IPAddress")),
        rediscover: fields.parsed("RediscoverOnUpdate").unwrap_or(false),
        template: text(fields, "TemplateID"),
    };
    Some((id?, row))
}

fn component_endpoint(fields: &mut Fields<'_, '_>) -> Option<(String, ComponentEndpoint)> {
    let (id, rfe) = (id(fields, "ID"), self::id(fields, "RedfishEndpointID"));
    let of = match fields.required("RedfishType").as_deref() {
        Some("ComputerSystem") => Some(Redfish::System),
        Some("Manager") => Some(Redfish::Manager),
        Some("Outlet") => Some(Redfish::Outlet),
        Some(other) => {
            let text = format!(
                "RedfishType: '{}' is none of ComputerSystem, Manager, Outlet",
                shown(other)
            );
            fields.bad(fields.line_of("RedfishType"), text);
            None
        }
        None => None,
    };
    let (uuid, odata, name) = (text(fields, "UUID"), text(fields, "OdataID"), text(fields, "Name"));
    let mut actions: Vec<Box<str>> = Vec::new();
    for item in fields.rows("Actions") {
        match item.text() {
            Some(action) => actions.push(action.into()),
            None => fields.bad(item.line, "Actions must list texts"),
        }
    }
    let nics = inner(fields, "EthernetNICInfo", "network interface", |fields| {
        let (uri, description) = (text(fields, "RedfishId"), text(fields, "Description"));
        let mac = mac(fields, "MACAddress")?;
        Some(Nic { mac, uri, description })
    });
    let row = ComponentEndpoint {
        rfe: rfe?.into(),
        of: of?,
        uuid,
        odata,
        name,
        actions: actions.into(),
        nics,
    };
    Some((id?, row))
}

fn interface(fields: &mut Fields<'_, '_>) -> Option<(Mac, Interface)> {
    let mac = mac(fields, "MACAddress");
    let component = match fields.item("ComponentID") {
        Some(_) => id(fields, "ComponentID").unwrap_or_default(),
        None => String::new(),
    };
    let row = Interface {
        component: component.into(),
        description: text(fields, "Description"),
        addresses: inner(fields, "IPAddresses", "network address", |fields| {
            let (ip, network) = (fields.required("IPAddress"), text(fields, "Network"));
            Some(Address {
                ip: ip?.into(),
                network,
            })
        }),
        derived: fields.parsed("Discovered").unwrap_or(false),
        ..Interface::default()
    };
    Some((mac?, row))
}

/// The maps of a list within a row.
fn inner<T>(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    what: &'static str,
    read: impl Fn(&mut Fields<'_, '_>) -> Option<T>,
) -> Box<[T]> {
    let mut values = Vec::new();
    for item in fields.rows(key) {
        let value = Fields::of(item, what, fields.mistakes).and_then(|mut inner| {
            let value = read(&mut inner);
            value.filter(|_| inner.done())
        });
        match value {
            Some(value) => values.push(value),
            None => fields.spoil(),
        }
    }
    values.into()
}

fn id(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<String> {
    let text = fields.required(key)?;
    let id = xname_of(&text);
    if id.is_none() {
        fields.bad(
            fields.line_of(key),
            format!("{key}: '{}' is not an xname", shown(&text)),
        );
    }
    id
}

fn mac(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<Mac> {
    fields.required(key)?;
    fields.parsed(key)
}

fn text(fields: &mut Fields<'_, '_>, key: &'static str) -> Box<str> {
    fields.text(key).unwrap_or_default().into()
}

fn word(fields: &mut Fields<'_, '_>, key: &'static str, words: &'static [&'static str]) -> Word {
    let Some(text) = fields.text(key) else {
        return Word::default();
    };
    let word = canonical(words, &text);
    if word.is_none() {
        let text = format!("{key}: '{}' is none of {}", shown(&text), words.join(", "));
        fields.bad(fields.line_of(key), text);
    }
    Word(word.unwrap_or_default())
}
