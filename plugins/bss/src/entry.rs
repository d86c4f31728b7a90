//! Boot parameters as they are written and kept: what a kernel is booted with ([`Config`]), and for whom ([`Target`]).
//!
//! Pure data. Promises that what is empty says nothing: an empty text or map takes the place of no other.

use std::collections::BTreeMap;
use std::fmt;

use bootd_sdk::json::null_is_default;
use bootd_sdk::mac::Mac;
use bootd_sdk::xname;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What a kernel is booted with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    /// The kernel's URL; empty: it is not known, and this is no reason to boot.
    pub(crate) kernel: String,
    /// The initrd's URL; empty: there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) initrd: String,
    /// The kernel's arguments.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) params: String,
    /// What the legacy cloud-init routes serve.
    #[serde(rename = "cloud-init", skip_serializing_if = "CloudInit::is_empty")]
    pub(crate) cloud_init: CloudInit,
}

/// The part of boot parameters that is for cloud-init (contract 1.6.2).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct CloudInit {
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Map::is_empty")]
    pub(crate) meta_data: Map<String, Value>,
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Map::is_empty")]
    pub(crate) user_data: Map<String, Value>,
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) phone_home: BTreeMap<String, String>,
}

impl Config {
    /// This, with what `news` says in the place of what was said.
    pub(crate) fn updated(&self, news: &Self) -> Self {
        let text = |old: &String, new: &String| if new.is_empty() { old } else { new }.clone();
        let (old, new) = (&self.cloud_init, &news.cloud_init);
        let map = |old: &Map<_, _>, new: &Map<_, _>| if new.is_empty() { old } else { new }.clone();
        let mut phone_home = old.phone_home.clone();
        phone_home.extend(new.phone_home.clone());
        Self {
            kernel: text(&self.kernel, &news.kernel),
            initrd: text(&self.initrd, &news.initrd),
            params: text(&self.params, &news.params),
            cloud_init: CloudInit {
                meta_data: map(&old.meta_data, &new.meta_data),
                user_data: map(&old.user_data, &new.user_data),
                phone_home,
            },
        }
    }

    /// Whether it says nothing of kernel, initrd and arguments.
    pub(crate) fn boots_nothing(&self) -> bool {
        self.kernel.is_empty() && self.initrd.is_empty() && self.params.is_empty()
    }
}

impl CloudInit {
    /// From JSON; texts of `phone-home` that are empty, as the tool always sends them, are left out.
    pub(crate) fn read(value: &Value) -> Result<Self, String> {
        if is_deeper(value, MOST_DEEP) {
            return Err(format!("cloud-init is more than {MOST_DEEP} levels deep"));
        }
        if !value.is_object() && !value.is_null() {
            return Err("cloud-init must be an object".into());
        }
        let mut read = <Option<Self>>::deserialize(value)
            .map_err(|error| format!("cloud-init: {error}"))?
            .unwrap_or_default();
        read.phone_home.retain(|_, text| !text.is_empty());
        Ok(read)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.meta_data.is_empty() && self.user_data.is_empty() && self.phone_home.is_empty()
    }

    /// As BSS writes it: absent maps are `null`, and six texts are always there.
    fn as_bss(&self) -> Value {
        let map = |map: &Map<String, Value>| {
            if map.is_empty() {
                Value::Null
            } else {
                Value::Object(map.clone())
            }
        };
        let mut phone_home: Map<String, Value> =
            PHONE_HOME.iter().map(|name| ((*name).to_owned(), "".into())).collect();
        for (name, text) in &self.phone_home {
            phone_home.insert(name.clone(), text.as_str().into());
        }
        json!({"meta-data": map(&self.meta_data), "user-data": map(&self.user_data), "phone-home": phone_home})
    }
}

/// Texts of `phone-home`: BSS always writes all of them.
pub(crate) const PHONE_HOME: [&str; 6] = [
    "pub_key_dsa",
    "pub_key_rsa",
    "pub_key_ecdsa",
    "instance_id",
    "hostname",
    "fqdn",
];
/// Levels of what cloud-init gets; an export must be readable again.
const MOST_DEEP: usize = 32;

fn is_deeper(value: &Value, most: usize) -> bool {
    let Some(less) = most.checked_sub(1) else { return true };
    match value {
        Value::Array(items) => items.iter().any(|item| is_deeper(item, less)),
        Value::Object(map) => map.values().any(|item| is_deeper(item, less)),
        _ => false,
    }
}

/// For whom boot parameters are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    /// An xname, a group, a role, `Default`, `Global` or `Unknown-<arch>`; as [`host`] writes it.
    Host(String),
    Mac(Mac),
    Nid(u64),
}

impl Target {
    /// Its key in the store.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Host(name) => format!("host/{name}"),
            Self::Mac(mac) => format!("mac/{mac}"),
            Self::Nid(nid) => format!("nid/{nid}"),
        }
    }

    /// The target of a key in the store; `None`: the key is of something else.
    pub(crate) fn of_key(key: &str) -> Option<Self> {
        let (kind, text) = key.split_once('/')?;
        match kind {
            "host" => Some(Self::Host(text.into())),
            "mac" => text.parse().ok().map(Self::Mac),
            "nid" => text.parse().ok().map(Self::Nid),
            _ => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => write!(f, "host {name}"),
            Self::Mac(mac) => write!(f, "MAC {mac}"),
            Self::Nid(nid) => write!(f, "NID {nid}"),
        }
    }
}

/// Boot parameters with all that they are for: a document of BSS (BootParams).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    #[serde(flatten)]
    pub(crate) config: Config,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) hosts: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) macs: Vec<Mac>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) nids: Vec<u64>,
}

impl Entry {
    /// All that it is for, each once for each time that it is named.
    pub(crate) fn targets(&self) -> impl Iterator<Item = Target> + '_ {
        let hosts = self.hosts.iter().cloned().map(Target::Host);
        let macs = self.macs.iter().copied().map(Target::Mac);
        let nids = self.nids.iter().copied().map(Target::Nid);
        hosts.chain(macs).chain(nids)
    }

    pub(crate) fn push(&mut self, target: &Target) {
        match target {
            Target::Host(name) => self.hosts.push(name.clone()),
            Target::Mac(mac) => self.macs.push(*mac),
            Target::Nid(nid) => self.nids.push(*nid),
        }
    }

    pub(crate) fn is_for_nobody(&self) -> bool {
        self.hosts.is_empty() && self.macs.is_empty() && self.nids.is_empty()
    }

    /// As BSS writes it: what is empty is left out, but for `cloud-init`, which is always there.
    pub(crate) fn as_bss(&self) -> Value {
        let mut map = Map::new();
        map.insert("cloud-init".into(), self.config.cloud_init.as_bss());
        for (name, text) in [
            ("kernel", &self.config.kernel),
            ("initrd", &self.config.initrd),
            ("params", &self.config.params),
        ] {
            if !text.is_empty() {
                map.insert(name.into(), text.as_str().into());
            }
        }
        if !self.hosts.is_empty() {
            map.insert("hosts".into(), json!(self.hosts));
        }
        if !self.macs.is_empty() {
            map.insert("macs".into(), json!(self.macs));
        }
        if !self.nids.is_empty() {
            map.insert("nids".into(), json!(self.nids));
        }
        Value::Object(map)
    }
}

/// A host name as it is compared: xnames in their canonical form, all else (`Default`, groups, roles) as it is.
pub(crate) fn host(text: &str) -> String {
    let id = xname::normalise(text);
    if xname::kind(&id).is_some() {
        id
    } else {
        text.trim().to_owned()
    }
}

/// Whether a text may be a host name.
pub(crate) fn is_host(text: &str) -> bool {
    let is_bad = |c: char| c.is_whitespace() || c.is_control();
    !text.is_empty() && text.len() <= 253 && !text.chars().any(is_bad)
}
