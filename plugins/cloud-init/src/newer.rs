//! What a site's metadata-service lists, the one that came after cloud-init, as rows of the book. Pure; [`crate::mirror`] does the rest.
//!
//! Each list is a JSON array of resources. Of several with one name the latest counts. A template is rendered by that service, with the node's
//! facts under names of their own: here the node renders it, as with cloud-init, and finds those facts in its meta-data. Profiles, and facts
//! that its meta-data do not have, are left out.

use std::collections::BTreeMap;

use bootd_sdk::text::shown;
use bootd_sdk::{json, time, xname};
use serde_json::{Map, Value};

use crate::book::{group_key, instance_key};
use crate::file::is_nodes;
use crate::mirror::{Said, WrongShape, default_fields, not_json};
use crate::model::{GroupData, Instance};
use crate::schema;

/// Reads `GET /clusterdefaultss`: the latest of all counts.
pub(crate) fn defaults(body: &str) -> Result<Said, WrongShape> {
    let (resources, mistakes) = list(body)?;
    let latest = resources.into_iter().max_by(|a, b| a.updated.cmp(&b.updated));
    let mut said = match latest {
        Some(latest) => default_fields(kebab(latest.spec))?,
        None => Said::default(),
    };
    said.mistakes.extend(mistakes);
    Ok(said)
}

/// Reads `GET /groups`.
pub(crate) fn groups(body: &str) -> Result<Said, WrongShape> {
    let (resources, mistakes) = list(body)?;
    let mut said = Said::default();
    for (name, Resource { spec, .. }) in latest(resources, |resource| Some(resource.name.clone())) {
        match group(&name, spec) {
            Ok(group) => said.add_group(&group),
            Err(reason) => said.bad(group_key(&name), format!("group {}: {reason}", shown(&name))),
        }
    }
    said.mistakes.extend(mistakes);
    said.whole()
}

/// Reads `GET /instanceinfos`: a node is named by the resource or by its instance id.
pub(crate) fn instances(body: &str) -> Result<Said, WrongShape> {
    let (resources, mistakes) = list(body)?;
    let mut said = Said::default();
    let node = |resource: &Resource| {
        let names = [
            Some(resource.name.as_str()),
            resource.spec.get("instance_id").and_then(Value::as_str),
        ];
        let names = names.into_iter().flatten().map(xname::normalise);
        names.into_iter().find(|name| is_nodes(name))
    };
    for (id, Resource { spec, .. }) in latest(resources, node) {
        let mut spec = kebab(spec);
        spec.insert("id".into(), id.as_str().into());
        match schema::read_value::<Instance>("InstanceInfo", Value::Object(spec)) {
            Ok(own) => said.add(
                instance_key(&id),
                serde_json::to_value(own.tidied()).unwrap_or_default(),
            ),
            Err(error) => said.bad(instance_key(&id), format!("instance-info of {id}: {error}")),
        }
    }
    said.mistakes.extend(mistakes);
    said.whole()
}

/// A resource of a list.
struct Resource {
    name: String,
    /// Seconds since 1970, and what follows the point.
    updated: (u64, String),
    spec: Map<String, Value>,
}

/// The resources of a list, and what is wrong with those that are none. A list of nothing else is something else.
fn list(body: &str) -> Result<(Vec<Resource>, Vec<String>), WrongShape> {
    let Value::Array(items) = serde_json::from_str(body).map_err(not_json)? else {
        return Err(WrongShape::Not("a list of resources"));
    };
    let is_empty = items.is_empty();
    let (mut resources, mut bad) = (Vec::new(), 0_usize);
    for item in items {
        match resource(item) {
            Some(resource) => resources.push(resource),
            None => bad += 1,
        }
    }
    if resources.is_empty() && !is_empty {
        return Err(WrongShape::Not("a list of resources"));
    }
    let told = (bad > 0).then(|| format!("{bad} of the list are no resources with a name and a spec"));
    Ok((resources, told.into_iter().collect()))
}

fn resource(mut item: Value) -> Option<Resource> {
    let Value::Object(spec) = item.get_mut("spec")?.take() else {
        return None;
    };
    let metadata = item.get("metadata")?;
    let updated = metadata.get("updatedAt").and_then(Value::as_str).unwrap_or_default();
    let fraction = updated.split_once('.').map_or("", |(_, rest)| rest);
    let fraction = fraction.trim_end_matches(|c: char| !c.is_ascii_digit());
    Some(Resource {
        name: metadata.get("name")?.as_str()?.to_owned(),
        updated: (time::seconds(updated).unwrap_or(0), fraction.to_owned()),
        spec,
    })
}

/// The latest resource of each key; those without one are left out.
fn latest(resources: Vec<Resource>, key: impl Fn(&Resource) -> Option<String>) -> BTreeMap<String, Resource> {
    let mut latest: BTreeMap<String, Resource> = BTreeMap::new();
    for resource in resources {
        let Some(key) = key(&resource) else { continue };
        match latest.get(&key) {
            Some(other) if other.updated > resource.updated => {}
            _ => drop(latest.insert(key, resource)),
        }
    }
    latest
}

/// The service's names as cloud-init has them; those that it does not have stay.
fn kebab(spec: Map<String, Value>) -> Map<String, Value> {
    let name = |name: String| match name.as_str() {
        "cloud_provider" => name,
        _ => name.replace('_', "-"),
    };
    spec.into_iter().map(|(key, value)| (name(key), value)).collect()
}

fn group(name: &str, spec: Map<String, Value>) -> Result<GroupData, String> {
    let spec: Value = json::folded(Value::Object(spec)).map_err(|error| error.to_string())?;
    let template = match &spec["template"] {
        Value::Null => "",
        Value::String(text) => text,
        _ => return Err("/template: must be a text".into()),
    };
    let group = serde_json::json!({
        "name": name, "description": spec["description"], "meta-data": spec["metadata"],
        "file": {"content": rendered_by_node(name, &spec["metadata"], template), "filename": "", "encoding": "plain"},
    });
    schema::read_value("GroupData", group).map_err(|error| error.to_string())
}

/// A template that says that the node renders it; with the facts, and with what the group's own meta-data say, under their names.
fn rendered_by_node(name: &str, meta_data: &Value, template: &str) -> String {
    let is_template = template.contains("{{") || template.contains("{%");
    if !is_template || template.starts_with("## template:") {
        return template.to_owned();
    }
    let mut text = format!("## template: jinja\n{FACTS}");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name = |key: &str| {
        let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let begins = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        begins && key.chars().all(is_inner) && !TAKEN.contains(&key.to_ascii_lowercase().as_str())
    };
    let keys = meta_data.as_object().into_iter().flatten().map(|(key, _)| key);
    for key in keys.filter(|key| is_name(key) && name.chars().all(is_plain)) {
        text.push_str(&format!(
            "{{%- set {key} = ds.meta_data.instance_data.v1.vendor_data.groups['{name}'].{key} -%}}\n"
        ));
    }
    text.push_str(template);
    text
}

/// The names under which metadata-service's templates have the facts, of what cloud-init finds in its meta-data. They leave nothing in the
/// document: what a client of cloud-init looks at first is the line behind them.
const FACTS: &str = "\
{%- set hostname = ds.meta_data.hostname -%}
{%- set local_hostname = ds.meta_data['local-hostname'] -%}
{%- set instance_id = ds.meta_data['instance-id'] -%}
{%- set cluster_name = ds.meta_data['cluster-name'] -%}
{%- set public_keys = ds.meta_data.instance_data.v1.public_keys | default([]) -%}
{%- set region = ds.meta_data.instance_data.v1.region | default('') -%}
{%- set cloud_provider = ds.meta_data.instance_data.v1.cloud_provider | default('') -%}
{%- set ip = ds.meta_data.instance_data.v1.local_ipv4 | default('') -%}
";
/// What a template cannot have as names.
const TAKEN: [&str; 10] = ["ds", "true", "false", "none", "if", "in", "is", "not", "and", "or"];
