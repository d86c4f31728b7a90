//! The administrator's side (contract 4.4): cluster defaults, groups and what is different about single nodes.
//!
//! A body is checked before anything is written, and a write is in the store before it is answered. Mistakes are answered as plain text, as
//! clients of this API show them.

use std::convert::Infallible;

use bootd_sdk::etag::{self, Tags};
use bootd_sdk::prelude::*;
use bootd_sdk::text::shown;
use bootd_sdk::xname;
use serde::Serialize;

use crate::book::{Book, By, Draft, group_key, instance_key, rows};
use crate::file::is_nodes;
use crate::ledger::{Edition, Ledger, NotWritten};
use crate::model::{Content, Defaults, GroupData, Instance};
use crate::routes::{not_found, plain};
use crate::schema::{self, BadBody};

/// Answers a request below `/admin/`, which everything but `GET` writes.
pub(crate) fn answer(ledger: &Ledger, tags: &Tags, request: &Request, path: &str) -> Answer {
    let (what, name) = path.split_once('/').unwrap_or((path, ""));
    let answered = match (request.method.as_str(), what, name) {
        ("GET", "cluster-defaults", "") => {
            let tag = tags.tag(ledger.edition(Edition::Defaults));
            Ok(etag::answer(request, &tag, || json(&*ledger.book().documents.defaults)))
        }
        ("POST", "cluster-defaults", "") => set_defaults(ledger, &request.body),
        ("GET", "groups", "") => {
            let tag = tags.tag(ledger.edition(Edition::Groups));
            Ok(etag::answer(request, &tag, || groups(&ledger.book())))
        }
        ("POST", "groups", "") => add_group(ledger, &request.body),
        ("GET", "groups", name) => group(&ledger.book(), name),
        ("PUT", "groups", name) => set_group(ledger, name, &request.body),
        ("DELETE", "groups", name) if !name.is_empty() => remove(ledger, &group_key(name)),
        ("GET", "instance-info", "") => Ok(instances(&ledger.book())),
        ("GET", "instance-info", id) => instance(&ledger.book(), &xname::normalise(id)),
        ("PUT", "instance-info", id) => set_instance(ledger, id, &request.body),
        ("DELETE", "instance-info", id) if !id.is_empty() => remove(ledger, &instance_key(&xname::normalise(id))),
        _ => Ok(not_found()),
    };
    answered.unwrap_or_else(|refused| refused.answer())
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0}")]
    BadBody(BadBody),
    /// A group's own status for the same.
    #[error("{0}")]
    BadGroup(BadBody),
    #[error("the content of group {0} {1}")]
    BadContent(String, &'static str),
    #[error("{0}")]
    BadName(String),
    #[error("{0} is not the xname of a node, such as x1000c0s0b0n0")]
    BadXname(String),
    #[error("group {0} already exists")]
    Exists(String),
    #[error("group ({0}) not found in memstore")]
    NoGroup(String),
    #[error("there is no instance-info of {0}")]
    NoInstance(String),
    #[error("not stored: {0}")]
    Store(HostError),
}

impl Refused {
    fn answer(&self) -> Answer {
        let status = match self {
            Self::BadBody(_) | Self::BadXname(_) => 400,
            Self::NoGroup(_) | Self::NoInstance(_) => 404,
            Self::Exists(_) => 409,
            Self::BadGroup(_) | Self::BadContent(..) | Self::BadName(_) => 422,
            Self::Store(_) => 500,
        };
        plain(status, format!("{self}\n"))
    }
}

impl From<NotWritten<Self>> for Refused {
    fn from(error: NotWritten<Self>) -> Self {
        match error {
            NotWritten::Refused(refused) => refused,
            NotWritten::Store(error) => Self::Store(error),
        }
    }
}

impl From<NotWritten<Infallible>> for Refused {
    fn from(error: NotWritten<Infallible>) -> Self {
        match error {
            NotWritten::Refused(never) => match never {},
            NotWritten::Store(error) => Self::Store(error),
        }
    }
}

/// Writes the fields that are not empty; the others stay. A list takes the place of the old one.
fn set_defaults(ledger: &Ledger, body: &str) -> Result<Answer, Refused> {
    let defaults: Defaults = schema::read("ClusterDefaults", body).map_err(Refused::BadBody)?;
    let rows = rows(&defaults.tidied(), &[], &[]);
    ledger.write(|book| {
        let mut draft = Draft::of(book);
        draft.set_all(&rows, By::Api);
        Ok::<_, Infallible>(draft)
    })?;
    Ok(created(None))
}

fn groups(book: &Book) -> Answer {
    json(&Mapped(
        book.documents.groups.iter().map(|(name, group)| (name, &group.data)),
    ))
}

fn group(book: &Book, name: &str) -> Result<Answer, Refused> {
    let group = book.documents.groups.get(name);
    let group = group.ok_or_else(|| Refused::NoGroup(shown(name)))?;
    Ok(json(&group.data))
}

fn add_group(ledger: &Ledger, body: &str) -> Result<Answer, Refused> {
    let group = read_group(body)?;
    let rows = rows(&Defaults::default(), std::slice::from_ref(&group), &[]);
    ledger.write(|book| {
        if book.row(&group_key(&group.name)).is_some() {
            return Err(Refused::Exists(shown(&group.name)));
        }
        let mut draft = Draft::of(book);
        draft.set_all(&rows, By::Api);
        Ok(draft)
    })?;
    Ok(created(Some(&group.name)))
}

/// The name of the path counts.
fn set_group(ledger: &Ledger, name: &str, body: &str) -> Result<Answer, Refused> {
    if name.is_empty() {
        return Ok(not_found());
    }
    let mut group = read_group(body)?;
    if let Err(reason) = schema::follows("segment", name) {
        return Err(Refused::BadName(format!("the group's name {reason}")));
    }
    group.name = name.to_owned();
    let rows = rows(&Defaults::default(), std::slice::from_ref(&group), &[]);
    ledger.write(|book| {
        let mut draft = Draft::of(book);
        draft.set_all(&rows, By::Api);
        Ok::<_, Infallible>(draft)
    })?;
    Ok(created(Some(name)))
}

fn read_group(body: &str) -> Result<GroupData, Refused> {
    let group: GroupData = schema::read("GroupData", body).map_err(Refused::BadGroup)?;
    match Content::of(&group.file) {
        Content::Broken(reason) => Err(Refused::BadContent(shown(&group.name), reason)),
        Content::None | Content::Text(_) => Ok(group),
    }
}

fn remove(ledger: &Ledger, key: &str) -> Result<Answer, Refused> {
    ledger.write(|book| {
        let mut draft = Draft::of(book);
        draft.remove(key);
        Ok::<_, Infallible>(draft)
    })?;
    Ok(Answer::default())
}

/// As it was set, with the id that its node gets.
fn shown_instance(id: &str, own: &Instance) -> Instance {
    Instance {
        instance_id: Some(own.effective_id(id)),
        ..own.clone()
    }
}

fn instances(book: &Book) -> Answer {
    let all = book.documents.instances.iter();
    json(&Mapped(all.map(|(id, own)| (id, shown_instance(id, own)))))
}

fn instance(book: &Book, id: &str) -> Result<Answer, Refused> {
    let own = book.documents.instances.get(id);
    let own = own.ok_or_else(|| Refused::NoInstance(shown(id)))?;
    Ok(json(&shown_instance(id, own)))
}

/// Reads the body of an override. `id`: the canonical one of the path.
pub(crate) fn read_instance(id: &str, body: &str) -> Result<Instance, Refused> {
    let mut own: Instance = schema::read("InstanceInfo", body).map_err(Refused::BadBody)?;
    let named = xname::normalise(&own.id);
    if !is_nodes(id) {
        return Err(Refused::BadXname(shown(id)));
    }
    if !named.is_empty() && named != id {
        return Err(Refused::BadXname(format!(
            "{}, where the path has {id},",
            shown(&named)
        )));
    }
    own.id = id.into();
    Ok(own.tidied())
}

/// Takes the place of what was there, but for the instance id: with another one its node would take itself for a new one.
fn set_instance(ledger: &Ledger, id: &str, body: &str) -> Result<Answer, Refused> {
    if id.is_empty() {
        return Ok(not_found());
    }
    let id = xname::normalise(id);
    let own = read_instance(&id, body)?;
    ledger.write(|book| {
        let mut own = own.clone();
        if let Some(before) = book.documents.instances.get(&id) {
            own.instance_id.clone_from(&before.instance_id);
        }
        let mut draft = Draft::of(book);
        draft.set_all(&rows(&Defaults::default(), &[], &[own]), By::Api);
        Ok::<_, Infallible>(draft)
    })?;
    Ok(created(None))
}

fn created(group: Option<&str>) -> Answer {
    let location = |name: &str| {
        let name = bootd_sdk::form::segment(name);
        ("location".to_owned(), format!("/groups/{name}"))
    };
    Answer {
        status: 201,
        headers: group.map(location).into_iter().collect(),
        ..Answer::default()
    }
}

/// Pairs as a JSON object.
struct Mapped<I>(I);

impl<K: Serialize, V: Serialize, I: Iterator<Item = (K, V)> + Clone> Serialize for Mapped<I> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.clone())
    }
}

fn json<T: Serialize>(value: &T) -> Answer {
    match serde_json::to_string(value) {
        Ok(text) => Answer::new(200, "application/json", text),
        Err(error) => plain(500, format!("{error}\n")),
    }
}
