//! What is different about a node, read from the document that the site made for it. Pure.
//!
//! Sites with the older service list no overrides: what its meta-data say otherwise than those computed here is the node's own. Only what
//! differs is kept, so that new defaults reach the node without asking again; the instance id is kept always, since nobody can compute the
//! site's. A document that was made of other defaults than those here says nothing yet.

use std::net::IpAddr;

use bootd_sdk::text::shown;
use bootd_sdk::wire::Node;
use bootd_sdk::yaml::{self, Item, Mistakes, Value};

use crate::book::Documents;
use crate::mirror::WrongShape;
use crate::model::Instance;
use crate::schema;

/// What a document says.
#[derive(Debug, PartialEq)]
pub(crate) enum Read {
    /// This is the node's own.
    Override(Box<Instance>),
    /// It was made of other defaults: they changed at the site, or the site lost them.
    OtherDefaults,
    /// It is another node's.
    AnotherNodes,
}

/// Whose document was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The node's, by its name.
    ByName,
    /// The one of whoever has this address, which the site believed or not.
    ByAddress(IpAddr),
}

/// Reads a node's meta-data (contract 4.3).
pub(crate) fn read(documents: &Documents, node: &Node, asked: Asked, text: &str) -> Result<Read, WrongShape> {
    let mut mistakes = Mistakes::new("meta-data");
    let root = yaml::read(text, &mut mistakes).filter(|_| mistakes.is_empty());
    let root = root.ok_or(WrongShape::Not("YAML"))?;
    let v1 = at(&root, &["instance_data", "v1"]);
    let vendor = v1.and_then(|v1| at(v1, &["vendor_data"]));
    // The last of what is written: a document that was cut off does not have it.
    let groups = vendor.and_then(|vendor| at(vendor, &["groups"]));
    let (Some(v1), Some(vendor), Some(Value::Map(_))) = (v1, vendor, groups.map(|groups| &groups.value)) else {
        return Err(WrongShape::Not("a node's meta-data"));
    };
    let text = |item: &Item, key: &str| {
        let text = at(item, &[key]).and_then(Item::text).filter(|text| !text.is_empty());
        text.map(str::to_owned)
    };
    let instance_id = text(&root, "instance-id").ok_or(WrongShape::Not("meta-data with an instance-id"))?;
    if let Asked::ByAddress(ip) = asked
        && !is_of(node, ip, text(v1, "local_ipv4").as_deref())
    {
        return Ok(Read::AnotherNodes);
    }

    let defaults = &documents.defaults;
    let cluster = text(&root, "cluster-name");
    let zone = text(v1, "availability_zone");
    let region = text(v1, "region");
    let provider = text(v1, "cloud_provider");
    let pairs = [
        (&defaults.cluster_name, &cluster),
        (&defaults.availability_zone, &zone),
        (&defaults.region, &region),
        (&defaults.cloud_provider, &provider),
    ];
    let keys = keys(v1)?;
    // An override takes the place of a default, and never takes it away; keys are added to those of all nodes.
    if pairs.iter().any(|(ours, theirs)| ours.is_some() && theirs.is_none()) || !keys.starts_with(&defaults.public_keys)
    {
        return Ok(Read::OtherDefaults);
    }
    let computed = documents.hostname(node, cluster.as_deref().unwrap_or_default());
    let other = |theirs: Option<String>, ours: &Option<String>| theirs.filter(|theirs| Some(theirs) != ours.as_ref());
    let base = text(vendor, "cloud_init_base_url").map(|url| url.trim_end_matches('/').to_owned());
    let named = |key: &str| text(&root, key).filter(|name| *name != computed);
    let own = Instance {
        id: node.id.clone(),
        instance_id: Some(instance_id),
        local_hostname: named("local-hostname"),
        hostname: named("hostname"),
        cluster_name: other(cluster, &defaults.cluster_name),
        region: other(region, &defaults.region),
        availability_zone: other(zone, &defaults.availability_zone),
        cloud_provider: other(provider, &defaults.cloud_provider),
        instance_type: text(v1, "instance_type"),
        cloud_init_base_url: other(base, &defaults.base_url),
        public_keys: keys.into_iter().skip(defaults.public_keys.len()).collect(),
    };
    Ok(Read::Override(Box::new(checked(&own)?)))
}

/// What goes into documents of this box follows the same rules as what is written here.
fn checked(own: &Instance) -> Result<Instance, WrongShape> {
    let value = serde_json::to_value(own).unwrap_or_default();
    schema::read_value("InstanceInfo", value).map_err(|error| WrongShape::Nothing(shown(&error.to_string())))
}

fn keys(v1: &Item) -> Result<Vec<String>, WrongShape> {
    let Some(item) = at(v1, &["public_keys"]) else {
        return Ok(Vec::new());
    };
    let keys = match &item.value {
        Value::List(items) => items.iter().map(|item| item.text().map(str::to_owned)).collect(),
        _ => None,
    };
    keys.ok_or(WrongShape::Not("meta-data with a list of public keys"))
}

/// Whether a document with this address is the node's: by its first address, whichever of them was asked for.
fn is_of(node: &Node, asked: IpAddr, told: Option<&str>) -> bool {
    let Some(told) = told.and_then(|told| told.parse::<IpAddr>().ok()) else {
        return false;
    };
    let mut ips = node.interfaces.iter().flat_map(|interface| &interface.ips);
    told == asked || ips.any(|address| address.ip == told)
}

fn at<'a>(item: &'a Item, path: &[&str]) -> Option<&'a Item> {
    path.iter().try_fold(item, |item, key| match &item.value {
        Value::Map(entries) => entries.iter().find(|entry| entry.key == *key).map(|entry| &entry.item),
        _ => None,
    })
}
