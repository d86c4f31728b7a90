//! coresmd's words, in every generation: by position (5 or 6 of them) or `key=value` (contract 1.4).

use std::time::Duration;

use bootd_sdk::text::shown;

use super::file::Plugin;
use super::rule::{self, Rule};
use super::told::Told;
use super::{go, words};
use crate::config::NamePattern;

/// What it is told.
#[derive(Debug, Clone)]
pub(super) struct Coresmd {
    /// `server4.plugins[4] coresmd`.
    pub(super) place: String,
    /// SMD's base.
    pub(super) smd: String,
    /// Where iPXE finds its script, whole, without `?mac=`.
    pub(super) script: String,
    /// Certificates that are trusted.
    pub(super) ca: Option<String>,
    /// Between two looks at SMD.
    pub(super) refresh: Duration,
    pub(super) lease_time: Duration,
    pub(super) single_port: bool,
    pub(super) tftp_dir: String,
    pub(super) tftp_port: u16,
    pub(super) domain: Option<String>,
    /// What a node without a name by a rule is called, by type; `*` is every other.
    pub(super) hostnames: Vec<(&'static str, String)>,
    /// In order, each with its place.
    pub(super) rules: Vec<(String, Rule)>,
}

/// Reads it; `None`: the mistakes say why not.
pub(super) fn read(plugin: &Plugin, told: &mut Told) -> Option<Coresmd> {
    let place = &plugin.place;
    let words = words::without_comments(&plugin.words, told, place);
    let commented = plugin.words.len() != words.len();
    if words::are_positional(&words) {
        match words.as_slice() {
            [smd, ipxe, ca, refresh, lease] => {
                return positional(place, [smd, ipxe, ca, refresh, lease, "false"], told);
            }
            [smd, ipxe, ca, refresh, lease, single] => {
                return positional(place, [smd, ipxe, ca, refresh, lease, single], told);
            }
            _ => {
                told.wrong(
                    place,
                    format!(
                        "has {} words, and needs either 5 or 6 (SMD's URL, the boot script's URL, CA, refresh, lease time, single port) or key=value, of which \
                         svc_base_uri= and ipxe_base_uri= or ipxe_uri= must be there",
                        words.len()
                    ),
                );
                return None;
            }
        }
    }
    by_key(place, &words, commented, told)
}

fn positional(place: &str, words: [&str; 6], told: &mut Told) -> Option<Coresmd> {
    let [smd, ipxe, ca, refresh, lease, single] = words;
    let smd_url = told.or_wrong(base(smd), place, no_url("the first word", smd));
    let ipxe_url = told.or_wrong(
        base(ipxe).map(|url| script(&url)),
        place,
        no_url("the second word", ipxe),
    );
    let refresh = told.or_wrong(go::duration(refresh), place, no_time("the fourth word", refresh));
    let lease_time = told.or_wrong(go::duration(lease), place, no_time("the fifth word", lease));
    let single_port = told.or_wrong(
        go::boolean(single),
        place,
        format!("the sixth word '{}' is neither true nor false", shown(single)),
    );
    let ca = words::unquoted(ca);
    told.understood(
        place,
        "dhcp.hostnames",
        "by position, as until coresmd 0.4: nodes are called nid0001, others have no name",
    );
    Some(Coresmd {
        place: place.into(),
        smd: smd_url?,
        script: ipxe_url?,
        ca: (!ca.is_empty()).then(|| ca.into()),
        refresh: refresh?,
        lease_time: lease_time?,
        single_port: single_port?,
        tftp_dir: TFTP_DIR.into(),
        tftp_port: 69,
        domain: None,
        hostnames: vec![("Node", NODE.into())],
        rules: Vec::new(),
    })
}

fn by_key(place: &str, words: &[&str], commented: bool, told: &mut Told) -> Option<Coresmd> {
    let mut smd = None;
    let mut ipxe_base = None;
    let mut ipxe = None;
    let mut rule_log = None;
    let mut has_rules = false;
    let (mut node, mut bmc) = (None, None);
    let mut found = Coresmd {
        place: place.into(),
        smd: String::new(),
        script: String::new(),
        ca: None,
        refresh: Duration::from_secs(30),
        lease_time: Duration::from_secs(3600),
        single_port: false,
        tftp_dir: TFTP_DIR.into(),
        tftp_port: 69,
        domain: None,
        hostnames: Vec::new(),
        rules: Vec::new(),
    };
    let mut number = 0;
    for (key, value) in words::settings(words, told, place) {
        let trimmed = words::unquoted(value);
        let mut bad = |what: String| told.ignored(place, "", format!("{what}; left out, as by coresmd"));
        match key {
            "svc_base_uri" => match base(value) {
                Some(url) => smd = Some(url),
                None => bad(no_url(key, value)),
            },
            "ipxe_base_uri" => match base(value) {
                Some(url) => ipxe_base = Some(url),
                None => bad(no_url(key, value)),
            },
            "ipxe_uri" => match url::Url::parse(value) {
                Ok(url) if url.has_host() && url.fragment().is_none() && value.len() <= 400 => {
                    ipxe = Some(value.to_owned())
                }
                _ => bad(no_url(key, value)),
            },
            "ca_cert" => found.ca = (!trimmed.is_empty()).then(|| trimmed.into()),
            "cache_valid" => match go::duration(value) {
                Some(time) => found.refresh = time,
                None => bad(no_time(key, value)),
            },
            "lease_time" => match go::duration(value) {
                Some(time) => found.lease_time = time,
                None => bad(no_time(key, value)),
            },
            "single_port" => match go::boolean(value) {
                Some(single) => found.single_port = single,
                None => bad(format!("{key} '{}' is neither true nor false", shown(value))),
            },
            "tftp_dir" if trimmed.is_empty() => bad(format!("{key} is empty")),
            "tftp_dir" => found.tftp_dir = trimmed.into(),
            "tftp_port" => match value.parse::<u16>() {
                Ok(0) => found.tftp_port = 69,
                Ok(port) => found.tftp_port = port,
                Err(_) => bad(format!("{key} '{}' is not a port", shown(value))),
            },
            "domain" => {
                let domain = trimmed.trim_matches('.');
                if is_domain(domain) {
                    found.domain = Some(domain.into());
                } else {
                    bad(format!("{key} '{}' is not a domain name", shown(value)));
                }
            }
            "node_pattern" | "bmc_pattern" if trimmed.parse::<NamePattern>().is_err() => {
                bad(format!("{key} '{}' is not the pattern of a host name", shown(value)));
            }
            "node_pattern" | "bmc_pattern" => {
                let kind = if key == "node_pattern" { "Node" } else { "NodeBMC" };
                let rule = Rule {
                    name: Some(key.into()),
                    kinds: vec![kind.into()],
                    hostname: Some(trimmed.into()),
                    ..Rule::default()
                };
                found.rules.push((format!("{place} {key}"), rule));
                if kind == "Node" {
                    node = Some(trimmed)
                } else {
                    bmc = Some(trimmed)
                }
            }
            "rule_log" => match value {
                "info" | "debug" | "none" => rule_log = Some(value),
                _ => bad(format!("{key} '{}' is neither info, debug nor none", shown(value))),
            },
            "rule" => {
                has_rules = true;
                number += 1;
                let at = format!("{place} rule {number}");
                match rule::read(value) {
                    Ok(rule) if rule.domain.as_deref().is_some_and(|domain| !is_domain(domain)) => {
                        told.ignored(&at, "", "left out whole: its domain is not a domain name");
                    }
                    Ok(rule) => found.rules.push((at, rule)),
                    Err(why) => told.ignored(&at, "", format!("left out whole: {why}")),
                }
            }
            "auth_mode" | "tokensmith_url" | "refresh_before" => bad(format!(
                "{key} is not known here: SMD is asked without a token, unless a bootd.toml beside this file gives one (plugin smd, config.token)"
            )),
            _ => bad(format!("there is no key '{}'", shown(key))),
        }
    }
    for (_, rule) in &mut found.rules {
        rule.log = rule.log.take().or_else(|| rule_log.map(str::to_owned));
    }

    match (&ipxe, &ipxe_base) {
        (Some(_), Some(_)) => told.ignored(
            place,
            "dhcp.script_url",
            "ipxe_base_uri: ipxe_uri is there, too, and is the whole URL",
        ),
        (None, None) => told.wrong(
            place,
            "ipxe_base_uri= or ipxe_uri= is missing or bad: the URL of the boot scripts",
        ),
        _ => {}
    }
    if smd.is_none() {
        told.wrong(place, "svc_base_uri= is missing or bad: SMD's URL");
    }
    found.smd = smd.unwrap_or_default();
    found.script = ipxe.or_else(|| ipxe_base.map(|url| script(&url))).unwrap_or_default();
    let modern = has_rules || rule_log.is_some() || commented || words.iter().any(|word| word.starts_with("ipxe_uri="));
    found.hostnames = if modern {
        told.understood(
            place,
            "dhcp.hostnames",
            "what no rule names is called unknown-0001, as since coresmd 0.6",
        );
        vec![("*", "unknown-{04d}".into())]
    } else {
        told.changed(
            place,
            "dhcp.hostnames",
            "nodes are called as by coresmd 0.5, since this file has nothing of a later one; coresmd 0.6 calls those without a pattern unknown-0001",
        );
        vec![
            ("Node", node.unwrap_or(NODE).into()),
            ("NodeBMC", bmc.unwrap_or("bmc{04d}").into()),
        ]
    };
    Some(found)
}

const TFTP_DIR: &str = "/tftpboot";
const NODE: &str = "nid{04d}";

/// An http(s) URL to which a path is joined, without a slash at its end.
fn base(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    let good = matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none();
    (good && url.fragment().is_none() && text.len() <= 300).then(|| text.trim_end_matches('/').to_owned())
}

fn script(base: &str) -> String {
    format!("{base}/boot/v1/bootscript")
}

/// Letters, digits and '-' in labels, at most 200 in all.
pub(super) fn is_domain(text: &str) -> bool {
    let label = |l: &str| !l.is_empty() && l.len() < 64 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    text.len() <= 200 && text.split('.').all(label)
}

fn no_url(what: &str, text: &str) -> String {
    format!("{what} '{}' is not an http or https URL", shown(text))
}

pub(super) fn no_time(what: &str, text: &str) -> String {
    format!("{what} '{}' is not a time such as 30s, 5m or 1h30m", shown(text))
}
