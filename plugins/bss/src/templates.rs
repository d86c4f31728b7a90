//! `{{name}}` in boot parameters: what is known of the node that boots takes its place, or another of its parameters (`{{kernel}}.img`).
//!
//! A name that is not among [`NAMES`] and [`FIELDS`] stays as it stands, braces included: it may be the kernel's own. iPXE's `${name}` is not
//! looked at. What is inserted for a node is letters, digits and `-._:` only, so it can end no word. A template that leads back to itself,
//! or grows beyond bounds, is refused when it is written.

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Node;

use crate::entry::Config;
use crate::rules;

/// What is known of who boots.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    /// `None`: nobody knows it.
    pub(crate) node: Option<&'a Node>,
    /// The address that asks.
    pub(crate) mac: Option<Mac>,
}

/// Why a template cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadTemplate {
    #[error("the template loops: {0}")]
    Loops(String),
    #[error("{0}: with its templates filled in it has more than {MOST_BYTES} bytes")]
    TooLong(&'static str),
    #[error("{0}: with its templates filled in it has white space or quotes in it, or begins as no URL does")]
    SeveralWords(&'static str),
}

/// The config with its templates filled in.
pub(crate) fn fill(config: &Config, known: Known<'_>) -> Result<Config, BadTemplate> {
    let value = |name: &str| value(name, known);
    let texts = Texts { config, value: &value };
    Ok(Config {
        kernel: texts.filled("kernel")?,
        initrd: texts.filled("initrd")?,
        params: texts.filled("params")?,
        cloud_init: config.cloud_init.clone(),
    })
}

/// Whether the templates of a config can be filled in, for any node.
pub(crate) fn check(config: &Config) -> Result<(), String> {
    let value = |name: &str| NAMES.contains(&name).then(|| "x".repeat(LONGEST_VALUE));
    let texts = Texts { config, value: &value };
    for field in FIELDS {
        let text = texts.filled(field).map_err(|error| error.to_string())?;
        if field != "params" && !rules::is_word(&text) {
            return Err(BadTemplate::SeveralWords(field).to_string());
        }
    }
    Ok(())
}

/// Names of what is known of a node.
const NAMES: [&str; 8] = ["xname", "nid", "mac", "name", "role", "sub_role", "class", "arch"];
/// Names of parameters.
const FIELDS: [&str; 3] = ["kernel", "initrd", "params"];
/// Bytes of a parameter with its templates filled in.
const MOST_BYTES: usize = 128 * 1024;
/// Bytes of what is inserted for a node.
const LONGEST_VALUE: usize = 64;

fn value(name: &str, known: Known<'_>) -> Option<String> {
    let node = known.node;
    let text = match name {
        "xname" => node.map(|node| node.id.clone()),
        "nid" => node.and_then(|node| node.nid).map(|nid| nid.to_string()),
        "mac" => known
            .mac
            .or_else(|| Some(node?.interfaces.first()?.mac))
            .map(|mac| mac.to_string()),
        "name" => node.map(|node| node.name.clone()),
        "role" => node.map(|node| node.role.clone()),
        "sub_role" => node.map(|node| node.sub_role.clone()),
        "class" => node.map(|node| node.class.clone()),
        "arch" => node.map(|node| node.arch.clone()),
        _ => return None,
    };
    let is_safe = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    let text = text.unwrap_or_default();
    Some(text.chars().filter(is_safe).take(LONGEST_VALUE).collect())
}

struct Texts<'a> {
    config: &'a Config,
    value: &'a dyn Fn(&str) -> Option<String>,
}

impl Texts<'_> {
    fn filled(&self, field: &'static str) -> Result<String, BadTemplate> {
        let mut out = String::new();
        self.fill(field, &mut vec![field], &mut out)?;
        Ok(out)
    }

    /// Appends a field to `out`. `within`: the fields that are being filled in, this one last.
    fn fill(&self, field: &'static str, within: &mut Vec<&'static str>, out: &mut String) -> Result<(), BadTemplate> {
        let first = within.first().copied().unwrap_or(field);
        let mut rest = match field {
            "kernel" => self.config.kernel.as_str(),
            "initrd" => self.config.initrd.as_str(),
            _ => self.config.params.as_str(),
        };
        while let Some((before, after)) = rest.split_once("{{") {
            out.push_str(before);
            let name = after.split_once("}}").map(|(name, rest)| (name.trim(), rest));
            let other = name.and_then(|(name, _)| FIELDS.into_iter().find(|field| *field == name));
            match (name, other) {
                (Some((_, next)), Some(other)) => {
                    if within.contains(&other) {
                        within.push(other);
                        return Err(BadTemplate::Loops(within.join(", which has ")));
                    }
                    within.push(other);
                    self.fill(other, within, out)?;
                    within.pop();
                    rest = next;
                }
                (Some((name, next)), None) if NAMES.contains(&name) => {
                    out.push_str(&(self.value)(name).unwrap_or_default());
                    rest = next;
                }
                _ => {
                    out.push_str("{{");
                    rest = after;
                }
            }
            if out.len() > MOST_BYTES {
                return Err(BadTemplate::TooLong(first));
            }
        }
        out.push_str(rest);
        if out.len() > MOST_BYTES {
            return Err(BadTemplate::TooLong(first));
        }
        Ok(())
    }
}
