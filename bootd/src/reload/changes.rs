//! What another configuration changes, key by key, and which of its keys only a start can take.
//!
//! Pure. Tables of a list (`[[dhcp.subnet]]`) are the same ones when they are about the same: a subnet by its prefix, a listener by its address, a
//! plugin by its name; so who adds one in front of the others does not change all of them. What may be a secret is never shown.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::config::Config;

/// A key that has another value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The key, such as `dhcp.subnet[172.16.0.0/24].routers`.
    pub key: String,
    /// What it was; `None`: it was not there.
    pub old: Option<String>,
    /// What it is; `None`: it is not there.
    pub new: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "(not set)".into());
        write!(f, "{}: {} -> {}", self.key, shown(&self.old), shown(&self.new))
    }
}

/// What was written otherwise, by key.
pub fn changes(old: &Table, new: &Table) -> Vec<Change> {
    let (old, new) = (leaves(old), leaves(new));
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let changed = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    changed
        .map(|key| Change {
            key: key.clone(),
            old: old.get(key).map(|value| shown(key, value)),
            new: new.get(key).map(|value| shown(key, value)),
        })
        .collect()
}

/// The keys that only a start can take, of those that come to something else: where bootd keeps its data, where operators reach it, ports of DHCP and
/// TFTP, and which plugins there are.
pub fn needs_restart(old: &Config, new: &Config) -> Vec<Change> {
    let mut needed = Vec::new();
    let mut compare = |key: &str, of: &dyn Fn(&Config) -> Option<String>| {
        let (old, new) = (of(old), of(new));
        if old != new {
            let key = key.into();
            needed.push(Change { key, old, new });
        }
    };
    compare("server.state_dir", &|c| Some(c.state_dir.display().to_string()));
    compare("server.cache_dir", &|c| Some(c.cache_dir.display().to_string()));
    compare("admin.socket", &|c| Some(c.admin_socket.display().to_string()));
    compare("dhcp.port", &|c| Some(c.dhcp.port.to_string()));
    compare("dhcp.threads", &|c| Some(c.dhcp.threads.to_string()));
    compare("dhcp.bind_to", &|c| Some(format!("{:?}", c.dhcp.bind_to)));
    compare("boots.attempts", &|c| {
        (c.boots.limits.attempts == 0).then(|| "0".into())
    });
    // Where there is none there is nothing to be moved.
    if old.dhcp6.is_some() && new.dhcp6.is_some() {
        compare("dhcp6.port", &|c| c.dhcp6.as_ref().map(|six| six.port.to_string()));
    }
    compare("tftp.serve", &|c| Some(c.tftp.serve.to_string()));
    if old.tftp.serve && new.tftp.serve {
        compare("tftp.port", &|c| Some(c.tftp.port.to_string()));
        compare("tftp.single_port", &|c| Some(c.tftp.single_port.to_string()));
        // It also follows from server.address, the subnets' servers and whether there is DHCPv6.
        compare("tftp.address", &|c| {
            let addresses: Vec<String> = c.tftp_addresses().iter().map(ToString::to_string).collect();
            Some(addresses.join(", "))
        });
    }
    compare("plugins.dirs", &|c| Some(format!("{:?}", c.plugin_dirs)));
    compare("plugin", &|c| {
        let names: Vec<&str> = c.plugins.iter().map(|plugin| plugin.name.as_str()).collect();
        Some(names.join(", "))
    });
    compare("compat.strict", &|c| Some(c.compat.strict.to_string()));
    compare("compat.import_leases", &|c| {
        Some(format!("{:?}", c.compat.import_leases))
    });
    needed
}

/// All values by their keys. A list of other things than tables is one value.
fn leaves(table: &Table) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    for (key, value) in table {
        gather(key.clone(), value, &mut leaves);
    }
    leaves
}

fn gather(key: String, value: &Value, leaves: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            for (inner, value) in table {
                gather(format!("{key}.{inner}"), value, leaves);
            }
        }
        Value::Array(list) if !list.is_empty() && list.iter().all(Value::is_table) => {
            let tables: Vec<&Table> = list.iter().filter_map(Value::as_table).collect();
            let names: Vec<Option<String>> = tables.iter().map(|table| name_of(table)).collect();
            let is_clear = |name: &Option<String>| names.iter().filter(|other| *other == name).count() == 1;
            for (at, (table, name)) in tables.iter().zip(&names).enumerate() {
                let name = name
                    .clone()
                    .filter(|_| is_clear(name))
                    .unwrap_or_else(|| at.to_string());
                for (inner, value) in *table {
                    gather(format!("{key}[{name}].{inner}"), value, leaves);
                }
                // Where order matters it is seen: who stands behind whom.
                if matches!(key.as_str(), "dhcp.rule" | "plugin") && at > 0 {
                    let before = names
                        .get(at - 1)
                        .cloned()
                        .flatten()
                        .unwrap_or_else(|| (at - 1).to_string());
                    leaves.insert(format!("{key}[{name}] (behind)"), before);
                }
            }
        }
        value => {
            leaves.insert(key, value.to_string());
        }
    }
}

/// What a table of a list is about.
fn name_of(table: &Table) -> Option<String> {
    let text = |key: &str| table.get(key).and_then(Value::as_str);
    let bucket = text("bucket").map(|bucket| match text("prefix") {
        Some(prefix) => format!("{bucket}/{prefix}"),
        None => bucket.to_owned(),
    });
    let others = ["cidr", "address", "name"].into_iter().find_map(text);
    // DHCPv6 names its subnets so.
    bucket.or(others.or(text("prefix")).map(str::to_owned))
}

/// A value for people.
fn shown(key: &str, value: &str) -> String {
    let last = key.rsplit(['.', '[']).next().unwrap_or(key).to_ascii_lowercase();
    let is_secret = SECRETS.iter().any(|word| last.contains(word));
    // A URL with a name and a password in it.
    let has_password = value
        .split("://")
        .skip(1)
        .any(|rest| rest.split('/').next().is_some_and(|host| host.contains('@')));
    match is_secret || has_password {
        true => "(not shown)".into(),
        false => value.into(),
    }
}

/// What is in the names of keys that hold secrets.
const SECRETS: [&str; 6] = ["token", "secret", "password", "passwd", "passphrase", "api_key"];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn told(old: &str, new: &str) -> Vec<String> {
        let changes = changes(&old.parse().unwrap(), &new.parse().unwrap());
        changes.iter().map(ToString::to_string).collect()
    }

    const TWO: &str = "[[dhcp.subnet]]\ncidr = \"10.1.0.0/24\"\nrouters = [\"10.1.0.1\"]\n\
                       [[dhcp.subnet]]\ncidr = \"10.2.0.0/24\"\nrouters = [\"10.2.0.1\"]\n";

    #[test]
    fn a_changed_value_is_told_by_its_key_with_what_it_was() {
        assert_eq!(told(TWO, TWO), [""; 0]);
        let other = TWO.replace("10.2.0.1\"", "10.2.0.9\"");
        assert_eq!(
            told(TWO, &other),
            [r#"dhcp.subnet[10.2.0.0/24].routers: ["10.2.0.1"] -> ["10.2.0.9"]"#]
        );
        assert_eq!(
            told("a = 1\n[b]\nc = true", "[b]\nd = 'x'"),
            ["a: 1 -> (not set)", "b.c: true -> (not set)", "b.d: (not set) -> \"x\""]
        );
    }

    #[test]
    fn one_that_comes_in_front_of_others_changes_only_itself() {
        let three = format!("[[dhcp.subnet]]\ncidr = \"10.0.0.0/24\"\n{TWO}");
        assert_eq!(
            told(TWO, &three),
            [r#"dhcp.subnet[10.0.0.0/24].cidr: (not set) -> "10.0.0.0/24""#]
        );
    }

    #[test]
    fn the_order_of_rules_is_a_change() {
        let rules = |names: &[&str]| {
            let rules = names.iter().map(|name| format!("[[dhcp.rule]]\nname = \"{name}\"\n"));
            rules.collect::<String>()
        };
        assert!(!told(&rules(&["a", "b"]), &rules(&["b", "a"])).is_empty());
        assert!(told(&rules(&["a", "b"]), &rules(&["a", "b"])).is_empty());
    }

    #[test]
    fn secrets_are_not_shown_and_their_change_is() {
        let with = |token: &str, url: &str| {
            format!("[[plugin]]\nname = \"smd\"\nconfig.token = \"{token}\"\nconfig.url = \"{url}\"\n")
        };
        let told = told(&with("one", "http://u:p@a/x"), &with("two", "http://u:q@a/x"));
        assert_eq!(
            told,
            [
                "plugin[smd].config.token: (not shown) -> (not shown)",
                "plugin[smd].config.url: (not shown) -> (not shown)"
            ]
        );
    }

    #[test]
    fn what_only_a_start_can_take_is_told_by_what_it_comes_to() {
        let text = |more: &str| {
            let more = more.to_owned();
            let text = format!(
                "[server]\ninterfaces = [\"eth0\"]\naddress = \"172.16.0.254\"\n{more}\n[[dhcp.subnet]]\ncidr = \"172.16.0.0/24\"\n\
                 [[http.listener]]\naddress = \"0.0.0.0:8081\"\nserve = [\"boot\"]\n"
            );
            config::parse(&text, Path::new("/x/bootd.toml")).unwrap()
        };
        let keys = |old: &str, new: &str| -> Vec<String> {
            let needed = needs_restart(&text(old), &text(new));
            needed.into_iter().map(|change| change.key).collect()
        };
        assert_eq!(keys("", "state_dir = \"/var/lib/bootd\""), [""; 0]);
        assert_eq!(keys("", "state_dir = \"/data\""), ["server.state_dir"]);
        assert_eq!(keys("", "[tftp]\nport = 1069"), ["tftp.port"]);
        assert_eq!(keys("", "[tftp]\nblksize = 512\n[dhcp]\nlease_time = \"2h\""), [""; 0]);
        assert_eq!(keys("", "[[plugin]]\nname = \"smd\""), ["plugin"]);
        assert_eq!(
            keys(
                "[admin]\nsocket = \"/a\"",
                "[admin]\nsocket = \"/b\"\n[dhcp]\nthreads = 2"
            ),
            ["admin.socket", "dhcp.threads"]
        );
    }
}
