//! `/Inventory/EthernetInterfaces` and their `IPAddresses` (contract 2.6).

use bootd_sdk::json::{folded_list, null_is_default};
use bootd_sdk::prelude::*;
use bootd_sdk::xname;

use super::filter::pairs;
use super::out::{self, InterfaceOut, addresses as out_addresses};
use super::{Call, body, is_clean, problem, xname_of};
use crate::draft::{Draft, interface_id};
use crate::rows::{Address, Interface};
use crate::values::canonical;
use bootd_sdk::time;

const LIST: &str = "Inventory/EthernetInterfaces";
const BAD_IP: &str = "Invalid CompEthInterface IP Address";

pub(super) fn list(call: &Call<'_>) -> Answer {
    let wanted = match wanted(&call.request.query) {
        Ok(wanted) => wanted,
        Err(detail) => return problem(400, &detail),
    };
    let tables = call.service.tables();
    let rows = tables.interfaces.iter();
    let mut rows: Vec<(&Mac, &Interface)> = rows
        .filter(|(mac, row)| wanted.iter().all(|field| field.shows(**mac, row)))
        .collect();
    // Those of one component stand together.
    rows.sort_by_key(|(mac, row)| (&row.component, **mac));
    let rows = rows.into_iter().map(|(mac, row)| InterfaceOut::new(*mac, row));
    out::list("", rows, "")
}

/// A field of the query with all its values.
enum Wanted {
    Macs(Vec<Option<Mac>>),
    Ips(Vec<String>),
    Networks(Vec<String>),
    Components(Vec<String>),
    Kinds(Vec<&'static str>),
    Older(u64),
    Newer(u64),
}

impl Wanted {
    fn shows(&self, mac: Mac, row: &Interface) -> bool {
        match self {
            Self::Macs(macs) => macs.contains(&Some(mac)),
            Self::Ips(ips) => row.addresses.iter().any(|own| ips.iter().any(|ip| *own.ip == **ip)),
            Self::Networks(names) => row
                .addresses
                .iter()
                .any(|own| names.iter().any(|name| *own.network == **name)),
            Self::Components(ids) => ids.iter().any(|id| *row.component == **id),
            Self::Kinds(kinds) => xname::component_type(&row.component).is_some_and(|own| kinds.contains(&own)),
            Self::Older(time) => row.updated < *time,
            Self::Newer(time) => row.updated > *time,
        }
    }
}

fn wanted(query: &str) -> Result<Vec<Wanted>, String> {
    let (mut macs, mut ids, mut ips, mut networks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut components, mut kinds, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
    for (name, value) in pairs(query)? {
        // `ochami smd iface get` sends all names, those without a value, too.
        if value.is_empty() {
            continue;
        }
        let seconds = || time::seconds(&value).ok_or("Invalid time, it must be as RFC 3339 has it.");
        match name.as_str() {
            "macaddress" => macs.push(value.parse().ok()),
            "id" => ids.push(value.parse().ok()),
            "ipaddress" => ips.push(value),
            "network" => networks.push(value),
            "componentid" => components.push(xname_of(&value).ok_or("Invalid CompID.")?),
            "type" => kinds.push(canonical(xname::TYPES, &value).ok_or("Invalid HMS type.")?),
            "olderthan" => wanted.push(Wanted::Older(seconds()?)),
            "newerthan" => wanted.push(Wanted::Newer(seconds()?)),
            _ => {}
        }
    }
    let fields = [
        (!macs.is_empty(), Wanted::Macs(macs)),
        (!ids.is_empty(), Wanted::Macs(ids)),
        (!ips.is_empty(), Wanted::Ips(ips)),
        (!networks.is_empty(), Wanted::Networks(networks)),
        (!components.is_empty(), Wanted::Components(components)),
        (!kinds.is_empty(), Wanted::Kinds(kinds)),
    ];
    wanted.extend(
        fields
            .into_iter()
            .filter_map(|(is_asked, field)| is_asked.then_some(field)),
    );
    Ok(wanted)
}

/// An address as clients send it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PostedAddress {
    #[serde(deserialize_with = "null_is_default")]
    ipaddress: String,
    network: Option<String>,
}

impl PostedAddress {
    fn checked(&self) -> Result<Address, Answer> {
        let network = self.network.as_deref().unwrap_or_default();
        let ip = self.ipaddress.trim();
        if ip.is_empty() || !is_clean(ip) || !is_clean(network) {
            return Err(problem(400, BAD_IP));
        }
        Ok(Address {
            ip: ip.into(),
            network: network.into(),
        })
    }
}

pub(super) fn post(call: &Call<'_>) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default, deserialize_with = "null_is_default")]
        macaddress: String,
        #[serde(default, deserialize_with = "null_is_default")]
        componentid: String,
        #[serde(default, deserialize_with = "null_is_default")]
        description: String,
        #[serde(default, deserialize_with = "folded_list")]
        ipaddresses: Vec<PostedAddress>,
    }
    let posted = match body::<Body>(call) {
        Ok(posted) => posted,
        Err(answer) => return answer,
    };
    call.service.write(|draft| {
        let mac: Mac = posted.macaddress.parse().map_err(|error| problem(400, &format!("{error}")))?;
        let row = Interface {
            component: owner(&posted.componentid)?.into(),
            description: described(&posted.description)?,
            addresses: checked(&posted.ipaddresses)?,
            ..Interface::default()
        };
        let row = match draft.interface(mac) {
            None => row,
            Some(known) => merged(known, row).ok_or_else(|| {
                let detail = "operation would conflict with an existing component ethernet interface that has the same MAC address.";
                problem(409, detail)
            })?,
        };
        draft.put_interface(mac, row);
        Ok(out::created_one(LIST, &interface_id(mac)))
    })
}

/// A row that a discovery brought, with what a client knows beside: the same owner's, and nothing less (Appendix A, 18).
fn merged(known: &Interface, posted: Interface) -> Option<Interface> {
    let has_all = known
        .addresses
        .iter()
        .all(|own| posted.addresses.iter().any(|other| other.ip == own.ip));
    (known.derived && known.component == posted.component && has_all).then_some(posted)
}

pub(super) fn get(call: &Call<'_>) -> Answer {
    let tables = call.service.tables();
    match known(call).and_then(|mac| Some((mac, tables.interfaces.get(&mac)?))) {
        Some((mac, row)) => out::json(200, &InterfaceOut::new(mac, row)),
        None => no_such(call),
    }
}

pub(super) fn patch(call: &Call<'_>) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        description: Option<String>,
        componentid: Option<String>,
        #[serde(default, deserialize_with = "some_list")]
        ipaddresses: Option<Vec<PostedAddress>>,
    }
    let posted = match body::<Body>(call) {
        Ok(posted) => posted,
        Err(answer) => return answer,
    };
    if posted.description.is_none() && posted.componentid.is_none() && posted.ipaddresses.is_none() {
        return problem(400, "Request must have at least one patch field.");
    }
    let answer = change(call, |row| {
        if let Some(text) = &posted.description {
            row.description = described(text)?;
        }
        if let Some(id) = &posted.componentid {
            row.component = owner(id)?.into();
        }
        if let Some(list) = &posted.ipaddresses {
            row.addresses = checked(list)?;
        }
        Ok(out::no_content())
    });
    if answer.status != 204 {
        return answer;
    }
    Answer {
        headers: [get(call).headers, answer.headers].concat(),
        ..get(call)
    }
}

fn some_list<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<PostedAddress>>, D::Error> {
    folded_list(deserializer).map(Some)
}

pub(super) fn delete(call: &Call<'_>) -> Answer {
    call.service.write(|draft| match known(call) {
        Some(mac) if draft.delete_interface(mac) => Ok(out::deleted(1)),
        _ => Err(problem(404, "no such component ethernet interface.")),
    })
}

pub(super) fn delete_all(call: &Call<'_>) -> Answer {
    call.service.write(|draft| {
        let tables = draft.tables();
        for mac in tables.interfaces.keys() {
            draft.delete_interface(*mac);
        }
        match tables.interfaces.len() {
            0 => Err(problem(404, "no entries to delete")),
            count => Ok(out::deleted(count)),
        }
    })
}

pub(super) fn addresses(call: &Call<'_>) -> Answer {
    let tables = call.service.tables();
    match known(call).and_then(|mac| tables.interfaces.get(&mac)) {
        Some(row) => out::list("", out_addresses(row).into_iter(), ""),
        None => no_such(call),
    }
}

pub(super) fn post_address(call: &Call<'_>) -> Answer {
    let posted = match body::<PostedAddress>(call) {
        Ok(posted) => posted,
        Err(answer) => return answer,
    };
    let list = format!("{LIST}/{}/IPAddresses", call.param(0).to_ascii_lowercase());
    change(call, |row| {
        let address = posted.checked()?;
        if row.addresses.iter().any(|own| own.ip == address.ip) {
            let detail = "operation would conflict with an existing component ethernet interface IP address.";
            return Err(problem(409, detail));
        }
        let created = out::created_one(&list, &bootd_sdk::form::segment(&address.ip).replace("%3A", ":"));
        let mut addresses = std::mem::take(&mut row.addresses).into_vec();
        addresses.push(address);
        row.addresses = addresses.into();
        Ok(created)
    })
}

pub(super) fn patch_address(call: &Call<'_>) -> Answer {
    let posted = match body::<PostedAddress>(call) {
        Ok(posted) => posted,
        Err(answer) => return answer,
    };
    let Some(network) = posted.network.filter(|network| is_clean(network)) else {
        return problem(400, "Request must have at least one patch field.");
    };
    change(call, |row| {
        let address = row.addresses.iter_mut().find(|own| *own.ip == *call.param(1));
        let address = address.ok_or_else(|| problem(404, "no such component ethernet interface IP address."))?;
        address.network = network.as_str().into();
        Ok(out::json(
            200,
            &serde_json::json!({"IPAddress": address.ip, "Network": network}),
        ))
    })
}

pub(super) fn delete_address(call: &Call<'_>) -> Answer {
    change(call, |row| {
        let before = row.addresses.len();
        let addresses = std::mem::take(&mut row.addresses).into_vec();
        row.addresses = addresses.into_iter().filter(|own| *own.ip != *call.param(1)).collect();
        match row.addresses.len() == before {
            true => Err(problem(404, "no such component ethernet interface IP address.")),
            false => Ok(out::deleted(1)),
        }
    })
}

/// Changes the row that the path names. What a client wrote is no longer a discovery's.
fn change(call: &Call<'_>, change: impl FnOnce(&mut Interface) -> Result<Answer, Answer>) -> Answer {
    call.service.write(|draft: &mut Draft<'_>| {
        let row = known(call).and_then(|mac| Some((mac, draft.interface(mac)?.clone())));
        let (mac, mut row) = row.ok_or_else(|| no_such(call))?;
        let former = row.component.clone();
        let answer = change(&mut row)?;
        row.derived = false;
        draft.disown(&former);
        draft.put_interface(mac, row);
        Ok(answer)
    })
}

/// The hardware address of the path's id, which is written without separators.
fn known(call: &Call<'_>) -> Option<Mac> {
    let id = call.param(0);
    id.bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then(|| id.parse().ok())?
}

fn no_such(call: &Call<'_>) -> Answer {
    let id = bootd_sdk::text::shown(call.param(0));
    problem(404, &format!("No such component ethernet interface: {id}"))
}

fn owner(id: &str) -> Result<String, Answer> {
    if id.trim().is_empty() {
        return Ok(String::new());
    }
    xname_of(id).ok_or_else(|| problem(400, "Invalid CompID."))
}

fn described(text: &str) -> Result<Box<str>, Answer> {
    if is_clean(text) {
        Ok(text.into())
    } else {
        Err(problem(400, "Description is too long or has control characters"))
    }
}

fn checked(posted: &[PostedAddress]) -> Result<Box<[Address]>, Answer> {
    let mut addresses: Vec<Address> = Vec::with_capacity(posted.len());
    for address in posted {
        let address = address.checked()?;
        // Twice the same one says no more than once.
        if addresses.iter().all(|own| own.ip != address.ip) {
            addresses.push(address);
        }
    }
    Ok(addresses.into())
}
