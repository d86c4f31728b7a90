//! The rows that smd holds, as they lie in memory and in the store: one key of the store each, short JSON as its text.
//!
//! A row does not repeat its own key, and leaves out what is not set: there are tens of thousands of them. What follows from a row's key (its
//! type) is worked out when the row enters the tables.

use std::net::IpAddr;
use std::sync::Arc;

use bootd_sdk::mac::Mac;
use serde::{Deserialize, Serialize};

use crate::values::Word;

/// An xname, a group's label or a partition's name; shared by all that names it.
pub(crate) type Id = Arc<str>;

/// `component/<xname>`: a component (contract 2.3).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Component {
    /// Its type; follows from its xname.
    #[serde(skip)]
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "Word::is_empty")]
    pub(crate) state: Word,
    #[serde(skip_serializing_if = "Word::is_empty")]
    pub(crate) flag: Word,
    pub(crate) enabled: bool,
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) software_status: Box<str>,
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) role: Box<str>,
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) sub_role: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nid: Option<u64>,
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) subtype: Box<str>,
    #[serde(skip_serializing_if = "Word::is_empty")]
    pub(crate) net_type: Word,
    #[serde(skip_serializing_if = "Word::is_empty")]
    pub(crate) arch: Word,
    #[serde(skip_serializing_if = "Word::is_empty")]
    pub(crate) class: Word,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) reservation_disabled: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) locked: bool,
    /// What people call it; SMD itself has no such field, the inventory has.
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) name: Box<str>,
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) fqdn: Box<str>,
    /// The address of a controller whose hardware address nobody told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ip: Option<IpAddr>,
    /// The nodes file wrote it, and nobody since.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) of_file: bool,
}

/// `iface/<mac without colons>`: an Ethernet interface (contract 2.6).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Interface {
    /// Whose it is; empty: nobody's. There may be no such component.
    #[serde(skip_serializing_if = "is_empty_id")]
    pub(crate) component: Id,
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) description: Box<str>,
    /// Seconds since 1970; 0: written by the nodes file, which says no time.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) updated: u64,
    #[serde(skip_serializing_if = "is_empty_list")]
    pub(crate) addresses: Box<[Address]>,
    /// It follows from a Redfish endpoint.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) derived: bool,
}

impl Default for Interface {
    fn default() -> Self {
        Self {
            component: "".into(),
            description: "".into(),
            updated: 0,
            addresses: Box::default(),
            derived: false,
        }
    }
}

/// An address of an [`Interface`]; its text is the client's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Address {
    pub(crate) ip: Box<str>,
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) network: Box<str>,
}

/// `rfe/<xname>`: a Redfish endpoint (contract 2.4). Passwords are not kept: nothing here would use them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoint {
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) name: Box<str>,
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) hostname: Box<str>,
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) domain: Box<str>,
    /// Empty: its xname.
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) fqdn: Box<str>,
    pub(crate) enabled: bool,
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) uuid: Box<str>,
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) user: Box<str>,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) use_ssdp: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) mac_required: bool,
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) mac: Box<str>,
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) ip: Box<str>,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) rediscover: bool,
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) template: Box<str>,
}

/// `compep/<xname>`: what a Redfish endpoint manages (contract 2.5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ComponentEndpoint {
    /// The Redfish endpoint.
    pub(crate) rfe: Id,
    pub(crate) of: Redfish,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) uuid: Box<str>,
    /// The path of its Redfish document.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) odata: Box<str>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) name: Box<str>,
    /// The same for most, so shared.
    #[serde(default, skip_serializing_if = "is_empty_shared")]
    pub(crate) actions: Arc<[Box<str>]>,
    #[serde(default, skip_serializing_if = "is_empty_list")]
    pub(crate) nics: Box<[Nic]>,
}

/// What kind of Redfish document a [`ComponentEndpoint`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Redfish {
    System,
    Manager,
    Outlet,
}

/// A network interface as a [`ComponentEndpoint`] shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Nic {
    pub(crate) mac: Mac,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) uri: Box<str>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) description: Box<str>,
}

/// Groups, and partitions, which are groups of which a component is in one at most (contract 2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    Group,
    Partition,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::Group, Self::Partition];

    /// Its place in a pair.
    pub(crate) fn at(self) -> usize {
        match self {
            Self::Group => 0,
            Self::Partition => 1,
        }
    }
}

/// `group/<label>` or `partition/<name>`, without its members: each has a key of its own, `group-member/<label>/<xname>`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Set {
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) description: Box<str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<Box<str>>,
    /// Of the groups with the same one, a component is in one at most.
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) exclusive: Box<str>,
    /// The nodes file made it, and nobody wrote it since: it goes with its last member.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) of_file: bool,
}

fn is_empty(text: &str) -> bool {
    text.is_empty()
}

fn is_empty_id(id: &Id) -> bool {
    id.is_empty()
}

fn is_empty_list<T>(list: &[T]) -> bool {
    list.is_empty()
}

fn is_empty_shared<T>(list: &Arc<[T]>) -> bool {
    list.is_empty()
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}
