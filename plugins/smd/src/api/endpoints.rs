//! `/Inventory/RedfishEndpoints` (contract 2.4): controllers, and with a POST or PUT all that is discovered behind them.

use bootd_sdk::json::null_is_default;
use bootd_sdk::mac::Mac;
use bootd_sdk::prelude::*;
use bootd_sdk::xname;
use serde_json::Value;

use super::filter::pairs;
use super::out::{self, EndpointOut};
use super::{Call, body, is_clean, problem, xname_of};
use crate::discovery::{self, Before, Discovered};
use crate::rows::Endpoint;
use crate::values::canonical;

const LIST: &str = "Inventory/RedfishEndpoints";
const CONFLICT: &str = "operation would conflict with an existing resource that has the same FQDN or xname ID.";

/// An endpoint as clients send it: what is absent is `None`. `User` is kept, `Password` is not even read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Posted {
    #[serde(deserialize_with = "null_is_default")]
    id: String,
    name: Option<String>,
    hostname: Option<String>,
    domain: Option<String>,
    fqdn: Option<String>,
    enabled: Option<bool>,
    uuid: Option<String>,
    user: Option<String>,
    usessdp: Option<bool>,
    macrequired: Option<bool>,
    macaddr: Option<String>,
    ipaddress: Option<String>,
    rediscoveronupdate: Option<bool>,
    templateid: Option<String>,
}

pub(super) fn list(call: &Call<'_>) -> Answer {
    let mut wanted: Vec<(String, String)> = Vec::new();
    let asked = match pairs(&call.request.query) {
        Ok(asked) => asked,
        Err(detail) => return problem(400, &detail),
    };
    for (name, value) in asked.into_iter().filter(|(_, value)| !value.is_empty()) {
        let value = match name.as_str() {
            "id" => xname_of(&value).ok_or("xname ID"),
            "type" => canonical(xname::TYPES, &value).map(str::to_owned).ok_or("HMS Type"),
            "macaddr" => Ok(value.parse::<Mac>().map_or(value, |mac| mac.to_string())),
            "fqdn" | "uuid" | "ipaddress" | "laststatus" => Ok(value),
            _ => continue,
        };
        match value {
            Ok(value) => wanted.push((name, value)),
            Err(what) => return problem(400, &format!("bad query param: Argument was not a valid {what}")),
        }
    }
    let tables = call.service.tables();
    let rows = tables.endpoints.iter().filter(|(id, row)| {
        let own = |name: &str| match name {
            "id" => id,
            "type" => xname::component_type(id).unwrap_or_default(),
            "macaddr" => &row.mac,
            "fqdn" => row.fqdn_or(id),
            "uuid" => &row.uuid,
            "ipaddress" => &row.ip,
            _ => "NotYetQueried",
        };
        let is_shown = |name: &str| {
            let mut values = wanted.iter().filter(|(other, _)| other == name).peekable();
            values.peek().is_none() || values.any(|(_, value)| value.eq_ignore_ascii_case(own(name)))
        };
        ["id", "type", "macaddr", "fqdn", "uuid", "ipaddress", "laststatus"]
            .into_iter()
            .all(is_shown)
    });
    out::list(
        r#"{"RedfishEndpoints":"#,
        rows.map(|(id, row)| EndpointOut::new(id, row)),
        "}",
    )
}

pub(super) fn get(call: &Call<'_>) -> Answer {
    let id = xname_of(call.param(0)).unwrap_or_default();
    match call.service.tables().endpoints.get_key_value(id.as_str()) {
        Some((id, row)) => out::json(200, &EndpointOut::new(id, row)),
        None => problem(404, "no such xname."),
    }
}

/// SMD's own words for all that it says here (contract 2.4).
pub(super) fn query(_: &Call<'_>) -> Answer {
    problem(400, "not yet implemented")
}

/// One object, from which rows follow, or a list, from which none do.
pub(super) fn post(call: &Call<'_>) -> Answer {
    #[derive(Deserialize)]
    struct Many {
        #[serde(default, deserialize_with = "bootd_sdk::json::folded_list")]
        redfishendpoints: Vec<Posted>,
    }
    let fields = match body::<serde_json::Map<String, Value>>(call) {
        Ok(fields) => fields,
        Err(answer) => return answer,
    };
    if !fields.contains_key("redfishendpoints") {
        return post_one(call, fields);
    }
    let posted = match body::<Many>(call) {
        Ok(posted) => posted.redfishendpoints,
        Err(answer) => return answer,
    };
    call.service.write(|draft| {
        let mut ids = Vec::with_capacity(posted.len());
        for (at, posted) in posted.iter().enumerate() {
            let (id, row) = posted
                .checked()
                .map_err(|detail| problem(400, &format!("couldn't validate endpoint data: {detail} at idx {at}")))?;
            if draft.endpoint(&id).is_some() || draft.with_fqdn(row.fqdn_or(&id)).is_some() {
                return Err(problem(409, CONFLICT));
            }
            draft.put_endpoint(&id, row);
            ids.push(id);
        }
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        Ok(out::created(LIST, &ids))
    })
}

fn post_one(call: &Call<'_>, fields: serde_json::Map<String, Value>) -> Answer {
    let (posted, discovered) = match document(fields) {
        Ok(document) => document,
        Err(answer) => return answer,
    };
    call.service.write(|draft| {
        let (id, row) = posted.checked().map_err(invalid)?;
        if draft.endpoint(&id).is_some() || draft.with_fqdn(row.fqdn_or(&id)).is_some() {
            return Err(problem(409, CONFLICT));
        }
        draft.put_endpoint(&id, row.clone());
        if discovered.says_something() {
            discovery::put(draft, &id, &row, &discovered, Before::None)
                .map_err(|taken| problem(409, &taken.to_string()))?;
        }
        Ok(out::created(LIST, &[&id]))
    })
}

pub(super) fn put(call: &Call<'_>) -> Answer {
    let (mut posted, discovered) = match body(call).and_then(document) {
        Ok(document) => document,
        Err(answer) => return answer,
    };
    let wanted = xname::normalise(call.param(0));
    if posted.id.is_empty() {
        posted.id.clone_from(&wanted);
    }
    if xname::normalise(&posted.id) != wanted {
        return problem(400, "xname in URL and PUT body do not match");
    }
    let answer = call.service.write(|draft| {
        let (id, row) = posted.checked().map_err(invalid)?;
        if draft.with_fqdn(row.fqdn_or(&id)).is_some_and(|other| *other != *id) {
            return Err(problem(409, CONFLICT));
        }
        draft.put_endpoint(&id, row.clone());
        if discovered.says_something() {
            discovery::put(draft, &id, &row, &discovered, Before::Replaced)
                .map_err(|taken| problem(409, &taken.to_string()))?;
        }
        Ok(out::no_content())
    });
    shown_after(call, answer)
}

pub(super) fn patch(call: &Call<'_>) -> Answer {
    let Some(id) = xname_of(call.param(0)) else {
        return problem(400, "xname in URL is not valid");
    };
    let posted = match body::<Posted>(call) {
        Ok(posted) => posted,
        Err(answer) => return answer,
    };
    if !posted.id.is_empty() && xname::normalise(&posted.id) != id {
        return problem(400, "xname in URL and PATCH body do not match");
    }
    let answer = call.service.write(|draft| {
        let before = draft
            .endpoint(&id)
            .ok_or_else(|| problem(404, &format!("No such entry: {id}")))?;
        let row = posted.over(&id, before).map_err(invalid)?;
        if draft.with_fqdn(row.fqdn_or(&id)).is_some_and(|other| *other != *id) {
            return Err(problem(409, CONFLICT));
        }
        draft.put_endpoint(&id, row);
        Ok(out::no_content())
    });
    shown_after(call, answer)
}

pub(super) fn delete(call: &Call<'_>) -> Answer {
    let Some(id) = xname_of(call.param(0)) else {
        return problem(400, "Argument was not a valid xname ID");
    };
    call.service.write(|draft| match draft.delete_endpoint(&id) {
        true => Ok(out::deleted(1)),
        false => Err(problem(404, "no such xname.")),
    })
}

pub(super) fn delete_all(call: &Call<'_>) -> Answer {
    call.service.write(|draft| {
        let tables = draft.tables();
        for id in tables.endpoints.keys() {
            draft.delete_endpoint(id);
        }
        match tables.endpoints.len() {
            0 => Err(problem(404, "no entries to delete")),
            count => Ok(out::deleted(count)),
        }
    })
}

/// 200 with the row as it is now, for an answer that only says that it was written.
fn shown_after(call: &Call<'_>, answer: Answer) -> Answer {
    if answer.status != 204 {
        return answer;
    }
    let mut shown = get(call);
    shown.headers.extend(answer.headers);
    shown
}

/// The two sides of a posted document, which is read once.
fn document(fields: serde_json::Map<String, Value>) -> Result<(Posted, Discovered), Answer> {
    let fields = Value::Object(fields);
    let wrong = |error: serde_json::Error| problem(400, &format!("error decoding JSON {error}"));
    let posted = Posted::deserialize(&fields).map_err(wrong)?;
    Ok((posted, Discovered::deserialize(fields).map_err(wrong)?))
}

fn invalid(detail: String) -> Answer {
    problem(400, &format!("couldn't validate endpoint data: {detail}"))
}

impl Posted {
    fn checked(&self) -> Result<(String, Endpoint), String> {
        let told = if self.id.is_empty() {
            self.hostname.as_deref().unwrap_or_default()
        } else {
            &self.id
        };
        let id = xname::normalise(told);
        let row = self.over(
            &id,
            &Endpoint {
                enabled: true,
                ..Endpoint::default()
            },
        )?;
        Ok((id, row))
    }

    /// The row, where nothing is said as before.
    fn over(&self, id: &str, before: &Endpoint) -> Result<Endpoint, String> {
        match xname::component_type(id) {
            None => {
                return Err(format!(
                    "{} is not a valid locational xname ID",
                    bootd_sdk::text::shown(id)
                ));
            }
            Some(kind) if !xname::is_controller(kind) => {
                return Err(format!("xname ID {id} has wrong type for RF endpoint: {kind}"));
            }
            Some(_) => {}
        }
        let text = |told: &Option<String>, before: &str| -> Result<Box<str>, String> {
            let text = told.as_deref().unwrap_or(before).trim();
            if is_clean(text) {
                Ok(text.into())
            } else {
                Err("a field is too long or has control characters".into())
            }
        };
        let mac = text(&self.macaddr, &before.mac)?;
        let names = self.names(id, before)?;
        let ip = text(&self.ipaddress, &before.ip)?;
        let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(&ip);
        if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
            return Err(format!("IPAddress '{}' is not valid", bootd_sdk::text::shown(ip)));
        }
        let is_other = |host: std::net::IpAddr| ip.parse::<std::net::IpAddr>().is_ok_and(|ip| ip != host);
        if names.hostname.parse().is_ok_and(is_other) {
            return Err(format!(
                "hostname conflicts with IPAddress: '{}' != '{ip}'",
                names.hostname
            ));
        }
        Ok(Endpoint {
            name: text(&self.name, &before.name)?,
            hostname: names.hostname.into(),
            domain: names.domain.into(),
            fqdn: names.fqdn.into(),
            enabled: self.enabled.unwrap_or(before.enabled),
            uuid: text(&self.uuid, &before.uuid)?,
            user: text(&self.user, &before.user)?,
            use_ssdp: self.usessdp.unwrap_or(before.use_ssdp),
            mac_required: self.macrequired.unwrap_or(before.mac_required),
            mac: mac.parse::<Mac>().map_or(mac, |mac| mac.to_string().into()),
            ip: ip.into(),
            rediscover: self.rediscoveronupdate.unwrap_or(before.rediscover),
            template: text(&self.templateid, &before.template)?,
        })
    }

    fn names(&self, id: &str, before: &Endpoint) -> Result<Names, String> {
        let given = |told: &Option<String>| {
            told.as_deref()
                .map(str::trim)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let (mut hostname, domain, fqdn) = (given(&self.hostname), given(&self.domain), given(&self.fqdn));
        if hostname.is_none() && domain.is_none() && fqdn.is_none() && !before.hostname.is_empty() {
            return Ok(Names {
                hostname: before.hostname.to_string(),
                domain: before.domain.to_string(),
                fqdn: before.fqdn.to_string(),
            });
        }
        for text in [&hostname, &domain, &fqdn].into_iter().flatten() {
            if !is_clean(text) || text.contains(char::is_whitespace) || text.contains('/') {
                return Err("Hostname is not a basename or IP address.".into());
            }
        }
        let is_ip = |text: &str| text.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        if hostname
            .as_deref()
            .is_some_and(|name| name.contains('.') && !is_ip(name))
        {
            return Err("Hostname is not a basename or IP address.".into());
        }
        let bare = |text: &str| text.rsplit_once(':').map_or(text, |(host, _)| host).to_owned();
        if let Some(fqdn) = &fqdn {
            // `magellan` sends the address that it asked, sometimes with its port.
            if is_ip(fqdn) || is_ip(&bare(fqdn)) {
                hostname.get_or_insert_with(|| if is_ip(fqdn) { fqdn.clone() } else { bare(fqdn) });
                return Ok(Names {
                    hostname: hostname.unwrap_or_default().trim_matches(['[', ']']).to_owned(),
                    domain: String::new(),
                    fqdn: fqdn.clone(),
                });
            }
            let (first, rest) = fqdn.split_once('.').unwrap_or((fqdn, ""));
            let of_parts = match (&hostname, &domain) {
                (Some(host), Some(domain)) => format!("{host}.{domain}"),
                (Some(host), None) if !rest.is_empty() => format!("{host}.{rest}"),
                (Some(host), None) => host.clone(),
                (None, Some(domain)) => format!("{first}.{domain}"),
                (None, None) => fqdn.clone(),
            };
            if of_parts != *fqdn {
                return Err(format!("host/domain conflicts with FQDN: '{of_parts}' != '{fqdn}'"));
            }
            return Ok(Names {
                hostname: first.to_owned(),
                domain: rest.to_owned(),
                fqdn: fqdn.clone(),
            });
        }
        let hostname = hostname.unwrap_or_else(|| id.to_owned());
        let domain = domain.unwrap_or_default();
        let fqdn = if domain.is_empty() {
            hostname.clone()
        } else {
            format!("{hostname}.{domain}")
        };
        Ok(Names { hostname, domain, fqdn })
    }
}

struct Names {
    hostname: String,
    domain: String,
    fqdn: String,
}
