//! Whole files, as they are in the field; and texts that are none.

use std::path::{Path, PathBuf};

use super::{Kind, Understood, read};
use crate::config::{Config, ConfigError};

const SAMPLES: [&str; 11] = [
    "b", "b-plus", "b6", "dual", "t", "p", "plain6", "rpm", "both", "omnia", "plain",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/coredhcp")
}

fn sample(name: &str) -> String {
    std::fs::read_to_string(folder().join(format!("{name}.yaml"))).unwrap()
}

fn understood(text: &str) -> Understood {
    read(text).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
}

/// What is wrong with server4's plugins, each as one line of YAML.
fn mistakes(plugins: &[&str]) -> Vec<String> {
    let mistakes = read(&with(plugins)).map_or_else(|mistakes| mistakes, |_| Vec::new());
    mistakes.iter().map(ToString::to_string).collect()
}

fn with(plugins: &[&str]) -> String {
    let plugins = plugins.iter().map(|plugin| format!("    - {plugin}\n"));
    format!("server4:\n  plugins:\n{}", plugins.collect::<String>())
}

/// The notes of a kind, for server4's plugins.
fn notes(kind: Kind, plugins: &[&str]) -> Vec<String> {
    let notes = understood(&with(plugins)).notes.into_iter();
    notes
        .filter(|note| note.kind == kind)
        .map(|note| note.to_string())
        .collect()
}

fn table(plugins: &[&str]) -> toml::Table {
    toml::from_str(&understood(&with(plugins)).toml).unwrap()
}

/// The mistakes of a `bootd.toml`, each on a line of its own.
fn checked(toml: &str) -> Result<Config, String> {
    crate::config::parse(toml, Path::new("/etc/coredhcp/config.yaml")).map_err(|error| match error {
        ConfigError::Mistakes { mistakes, .. } => {
            let mistakes = mistakes.iter().map(|mistake| format!("{mistake}\n"));
            mistakes.collect()
        }
        error => error.to_string(),
    })
}

const SMD: &str = "coresmd: http://10.0.0.9:27779 http://10.0.0.9:8081 '' 30s 1h";

/// `BLESS=1` writes what is there now.
#[test]
fn the_files_of_the_field_come_to_the_configurations_beside_them() {
    for name in SAMPLES {
        let made = understood(&sample(name)).toml;
        let beside = folder().join(format!("{name}.toml"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&beside, &made).unwrap();
        }
        checked(&made).unwrap_or_else(|mistakes| panic!("{name}: {mistakes}"));
        assert_eq!(made, std::fs::read_to_string(&beside).unwrap(), "{name}");
    }
}

#[test]
fn a_plugin_without_its_colon_is_told_of_it() {
    for (plugin, says) in [
        ("sleep 300ms", "write \"sleep: 300ms\""),
        ("file /x", "write \"file: /x\""),
        ("ipv6only", "write \"ipv6only:\""),
    ] {
        let found = mistakes(&[plugin]);
        assert!(
            found.len() == 1 && found[0].contains("no colon") && found[0].contains(says),
            "{found:?}"
        );
    }
}

#[test]
fn every_mistake_of_a_file_is_listed_with_its_place() {
    let found = mistakes(&[
        "server_id: fd00::1",
        "dns:",
        "router: 10.0.0.1 x",
        "netmask: 255.0.255.0",
        "mtu: 60",
        "mtu: 70000",
        "lease_time: 1 h",
        "staticroute: fd00::/64,10.0.0.1",
        "staticroute: 10.0.0.0/8",
        "sleep: soon",
        "ipv6only: 1m 2m",
        "autoconfigure: maybe",
        "nbp: x",
        "range: l.db 10.0.0.9 10.0.0.1 1h",
        "range: l.db 10.0.0.9",
        "file:",
        "example: 1",
        "coresmd: http://a http://b",
        "coresmd: svc_base_uri=http://a",
        "coresmd: a b c d e",
        "bootloop: l.db default 5m 10.0.0.1",
        "bootloop: lease_file=l.db",
        "bootloop: lease_file=l.db subnet_pool=10.0.0.0/24,10.0.0.9,10.0.0.8",
        "bootloop: lease_file=l.db subnet_pool=10.0.0.0/24,10.0.0.8,10.0.0.9 ipv4_start=10.0.0.1",
        "bootloop: ipv4_start=10.0.0.1 ipv4_end=10.0.0.2",
        "[dns]",
        "{dns: 10.0.0.1, router: 10.0.0.1}",
    ]);
    for at in 0..27 {
        let place = format!("server4.plugins[{at}]");
        assert!(
            found.iter().any(|mistake| mistake.starts_with(&place)),
            "{place}: {found:#?}"
        );
    }
    assert!(
        found
            .iter()
            .any(|mistake| mistake.contains("there is no plugin 'example'"))
    );
}

#[test]
fn a_file_without_a_server_is_refused() {
    for (text, says) in [
        ("", "empty"),
        ("server4:\n", "neither server4 nor server6"),
        ("server5: {}\n", "neither server4 nor server6"),
        ("- a\n", "not a map"),
        ("server4: x\n", "not a map"),
        ("server4: {}\n", "is empty"),
        ("server4: {plugins: []}\n", "is empty"),
        ("server4: {plugins: x}\n", "not a list"),
        ("server4: {plugins: [{dns: 1.1.1.1}]}\nSERVER4: {}\n", "twice"),
        (
            "server4: {plugins: [{dns: 1.1.1.1}], listen: \"%a\", interface: b}\n",
            "both are there",
        ),
        ("server4: {plugins: [{dns: 1.1.1.1}], listen: eth0}\n", "%eth0"),
        ("server4: [\n", "not YAML"),
        ("server6: {plugins: [{bootloop: x}]}\n", "server4 only"),
        (
            "server6: {plugins: [{server_id: EN 00:11:22:33:44:55}]}\n",
            "neither LL nor LLT",
        ),
        ("server6: {plugins: [{prefix: fd00::/48 40}]}\n", "not a length"),
        ("server6: {plugins: [{nonsense: x}]}\n", "no plugin 'nonsense'"),
    ] {
        let found = read(text).map(|understood| understood.toml).unwrap_err();
        assert!(
            found.iter().any(|mistake| mistake.to_string().contains(says)),
            "{text}: {found:?}"
        );
    }
}

#[test]
fn version_six_alone_serves_no_version_four() {
    let text = "server6:\n  listen: '[ff02::1:2%veth0]'\n  plugins:\n    - server_id: LL 02:00:00:00:00:fe\n    - dns: fd00::fe 10.0.0.1\n    \
                - prefix: fd00::/48 64\n    - nbp: http://[fd00::1]/x\n    - dns: fd00::1\n";
    let six = understood(text);
    let config = checked(&six.toml).unwrap();
    assert_eq!(config.dhcp.subnets, []);
    assert_eq!(config.interfaces[0].to_string(), "veth0");
    let dhcp6 = config.dhcp6.unwrap();
    assert_eq!(dhcp6.interfaces, config.interfaces);
    assert_eq!(dhcp6.nbp.as_deref(), Some("http://[fd00::1]/x"));
    let told = |kind, says: &str| {
        let notes = six.notes.iter();
        notes
            .filter(|note| note.kind == kind)
            .any(|note| note.to_string().contains(says))
    };
    assert!(
        told(Kind::Ignored, "server6.plugins[1] dns: 10.0.0.1"),
        "{:?}",
        six.notes
    );
    assert!(told(
        Kind::Ignored,
        "server6.plugins[2] prefix: prefixes are not delegated"
    ));
    assert!(told(
        Kind::Ignored,
        "server6.plugins[4] dns: server6.plugins[3] nbp ends the chain"
    ));
}

#[test]
fn a_list_counts_as_no_words_and_is_told() {
    assert!(mistakes(&["dns: [1.1.1.1]"])[0].contains("needs the IPv4 addresses"));
    let ignored = notes(Kind::Ignored, &["searchdomains: [a.example]"]);
    assert!(ignored[0].contains("a list counts as no value"), "{ignored:?}");
}

#[test]
fn words_may_stand_on_several_lines() {
    let several = understood("server4:\n  plugins:\n    - DNS: |\n        10.0.0.1\n        10.0.0.2\n");
    assert!(
        several.toml.contains("dns = [\"10.0.0.1\", \"10.0.0.2\"]"),
        "{}",
        several.toml
    );
}

#[test]
fn what_stands_behind_coresmd_is_for_unknown_clients() {
    let plugins = [
        "netmask: 255.255.255.0",
        "dns: 10.0.0.1",
        SMD,
        "dns: 10.0.0.2",
        "mtu: 1500",
    ];
    let table = table(&plugins);
    assert_eq!(table["dhcp"]["subnet"][0]["dns"][0].as_str(), Some("10.0.0.1"));
    let options = &table["dhcp"]["unknown"]["options"];
    assert_eq!(options["dns"][0].as_str(), Some("10.0.0.2"));
    assert_eq!(options["mtu"].as_integer(), Some(1500));
    assert!(
        notes(Kind::Changed, &plugins)
            .iter()
            .any(|note| note.contains("counts for everybody"))
    );
}

#[test]
fn nothing_is_reached_behind_what_ends_the_chain() {
    let plugins = [
        "nbp: tftp://10.0.0.1/x",
        SMD,
        "bootloop: l.db default 5m 10.0.0.1 10.0.0.2",
    ];
    let table = table(&plugins);
    assert!(
        !table.contains_key("plugin") && !table.contains_key("compat"),
        "{table:?}"
    );
    assert_eq!(table["tftp"]["root"].as_str(), Some("/tftpboot"));
    let ignored = notes(Kind::Ignored, &plugins);
    assert_eq!(
        ignored
            .iter()
            .filter(|note| note.contains("nbp ends the chain"))
            .count(),
        2,
        "{ignored:?}"
    );
}

#[test]
fn a_pool_that_holds_the_server_itself_is_refused() {
    let found = mistakes(&["server_id: 10.0.0.5", "range: l.db 10.0.0.1 10.0.0.9 1h"]);
    assert!(found[0].contains("holds 10.0.0.5"), "{found:?}");
}

#[test]
fn a_generation_names_its_nodes() {
    let names = |coresmd: &str| table(&[coresmd])["dhcp"]["hostnames"].to_string();
    let keys = "svc_base_uri=http://a ipxe_base_uri=http://b";
    assert_eq!(names(SMD), r#"{ Node = "nid{04d}" }"#);
    assert_eq!(
        names(&format!("coresmd: {keys} bmc_pattern='b{{id}}'")),
        r#"{ Node = "nid{04d}", NodeBMC = "b{id}" }"#
    );
    assert_eq!(
        names(&format!("coresmd: {keys} rule_log=none")),
        r#"{ "*" = "unknown-{04d}" }"#
    );
    assert_eq!(
        names(&format!("coresmd: {keys} /* x */")),
        r#"{ "*" = "unknown-{04d}" }"#
    );
}

#[test]
fn a_single_port_stays_one() {
    let coresmd = "coresmd: http://10.0.0.9:27779 http://10.0.0.9:8081 '' 30s 1h true";
    assert_eq!(table(&[coresmd])["tftp"]["single_port"].as_bool(), Some(true));
    let understood = notes(Kind::Understood, &[coresmd]);
    assert!(
        understood.iter().any(|note| note.contains("single_port")),
        "{understood:?}"
    );
    assert!(table(&[SMD])["tftp"].get("single_port").is_none());
}

#[test]
fn a_url_with_an_equals_sign_is_still_by_position() {
    let table = table(&["coresmd: http://10.0.0.9:27779 http://10.0.0.9/x=y '' 30s 1h true"]);
    assert_eq!(
        table["dhcp"]["script_url"].as_str(),
        Some("http://10.0.0.9/x=y/boot/v1/bootscript")
    );
}

#[test]
fn bad_settings_are_left_out_and_said() {
    let plugin = "coresmd: svc_base_uri=http://a ipxe_base_uri=http://b ipxe_uri=http://c/s?x=1 lease_time=soon tftp_port=0 tftp_port=70000 \
                  single_port=maybe domain=a..b nonsense=1 word cache_valid=0s auth_mode=required */ /* lost=1";
    let ignored = notes(Kind::Ignored, &[plugin]).join("\n");
    for says in [
        "lease_time 'soon'",
        "tftp_port '70000'",
        "single_port 'maybe'",
        "domain 'a..b'",
        "no key 'nonsense'",
        "left out: word",
        "auth_mode is not known",
        "closes a comment",
        "swallows all that follows it: lost=1",
        "ipxe_uri is there, too",
    ] {
        assert!(ignored.contains(says), "{says}: {ignored}");
    }
    let table = table(&[plugin]);
    assert_eq!(table["dhcp"]["script_url"].as_str(), Some("http://c/s?x=1"));
    assert_eq!(table["tftp"]["port"].as_integer(), Some(69));
    assert_eq!(table["plugin"][0]["config"]["refresh_s"].as_integer(), Some(1));
}

#[test]
fn each_pool_has_a_subnet_of_its_own() {
    let table = table(&[
        "netmask: 255.255.255.0",
        "router: 10.0.0.1",
        "bootloop: lease_file='l.db' subnet_pool=10.0.0.0/24,10.0.0.8,10.0.0.9 subnet_pool=10.1.0.0/24,10.1.0.8,10.1.0.9 subnet_pool=10.2.0.0/24,10.1.0.8,10.1.0.9",
    ]);
    let subnets = table["dhcp"]["subnet"].as_array().unwrap();
    assert_eq!(subnets.len(), 3, "{subnets:?}");
    assert!(subnets[0].get("pool").is_none());
    assert_eq!(subnets[1]["routers"][0].as_str(), Some("10.0.0.1"));
    assert!(
        subnets[2].get("routers").is_none(),
        "a router that is not in the subnet"
    );
    assert_eq!(subnets[2]["pool"]["last"].as_str(), Some("10.1.0.9"));
}

#[test]
fn no_text_makes_it_panic_and_what_is_understood_is_a_good_configuration() {
    let words = [
        "\n",
        ":",
        "- ",
        "  ",
        "'",
        "\"",
        "{",
        "}",
        "[",
        "]",
        "|",
        "&a ",
        "*a",
        "<<: ",
        "#",
        "/*",
        "*/",
        "=",
        ",",
        "%",
        "é",
        "\u{0}",
        "\u{2028}",
        "\t",
        "rule=",
        "subnet:",
        "hostname:",
        "domain_append:",
        "cidr:",
        "id_set:",
        "ignore:",
        "continue:",
        "10.0.0.0/8",
        "0.0.0.0/0",
        "::/0",
        "255.255.255.255",
        "99999999999999999999",
        "-1",
        "1h",
        "300ms",
        "µs",
        "coresmd: ",
        "bootloop: ",
        "file: ",
        "range: ",
        "nbp: ",
        "subnet_pool=",
        "ipv4_start=",
        "server6:\n  plugins:\n    - ",
        "\\",
        "\\\"",
        "null",
        "~",
        "!!str ",
        "---\n",
    ];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below.max(1) as u64).unwrap_or(0)
    };
    let samples: Vec<Vec<u8>> = SAMPLES.iter().map(|name| sample(name).into_bytes()).collect();
    let mut good = 0;
    for round in 0..4000 {
        let mut text = samples[round % samples.len()].clone();
        for _ in 0..=next(4) {
            let at = next(text.len());
            let end = (at + next(12)).min(text.len());
            match next(5) {
                0 => text[at] = u8::try_from(next(256)).unwrap_or(0),
                1 => drop(text.drain(at..end)),
                2 => drop(text.splice(at..at, words[next(words.len())].bytes())),
                3 => drop(text.splice(at..end, words[next(words.len())].bytes())),
                _ => {
                    let copy = text[at..(at + next(80)).min(text.len())].to_vec();
                    let to = next(text.len());
                    text.splice(to..to, copy);
                }
            }
            if text.is_empty() {
                text.push(b'a');
            }
        }
        let text = String::from_utf8_lossy(&text);
        if let Ok(understood) = read(&text) {
            good += 1;
            if let Err(error) = checked(&understood.toml) {
                panic!("{error}\nof\n{text}\nmade\n{}", understood.toml);
            }
        }
    }
    assert!(good > 500, "only {good} texts were understood, so little was tried");
}
