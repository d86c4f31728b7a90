//! The conformance suite: packets in, packets out, against what CoreDHCP's users rely on and what it ought to do better.
//!
//! A case is a sentence with its section of the contract, a configuration (the text of a `bootd.toml`, or of a coredhcp.yaml), an inventory,
//! and steps: packets and what each of them gets, time that passes, an inventory that changes. Packets go the whole way from configuration text to bytes
//! ([`Rehearsal`]). Each file of this folder has the cases of one subject; a run tells all that fail.

mod boot;
mod broken;
mod configuration;
mod dropin;
mod known;
mod options;
mod pool;
mod relay;
mod rules;

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Node;

use super::policy::Receiving;
use super::rehearsal::{Dispatch, Outcome, Rehearsal};
use super::reply::{Destination, ReplyKind};
use super::request::HEADER;
use super::testing::{SERVER, node, snapshot};
use crate::config::{self, Config, ConfigError};

/// Configuration B of the contract.
const B: &str = r#"
[server]
interfaces = ["veth0"]
address = "172.16.0.254"
[dhcp]
lease_time = "1h"
domain = "openchami.cluster"
[[dhcp.subnet]]
cidr = "172.16.0.0/24"
routers = ["172.16.0.254"]
dns = ["172.16.0.254"]
"#;

/// What makes B+ of it.
const POOL: &str = "pool = { first = \"172.16.0.200\", last = \"172.16.0.202\", lease_time = \"5m\" }\n";

/// A second subnet, behind a relay.
const SECOND: &str = r#"
[[dhcp.subnet]]
cidr = "10.1.0.0/24"
routers = ["10.1.0.254"]
"#;

/// A case.
struct Case {
    /// The section of the contract and the mark of the rule: `2.2 M`.
    rule: &'static str,
    says: &'static str,
    config: String,
    nodes: Vec<Node>,
    steps: Vec<Step>,
    /// The configuration is refused: each of these texts is in a line of `bootd check`.
    refused: Vec<&'static str>,
    /// Why a coredhcp.yaml is refused.
    mistakes: Vec<String>,
}

enum Step {
    Packet(Vec<u8>, Box<Expected>),
    Pass(Duration),
    Publish(Vec<Node>),
    Plug(Vec<Ipv4Addr>),
    Occupy(Ipv4Addr),
}

/// A case with configuration B and node 1, which has 172.16.0.1.
fn case(rule: &'static str, says: &'static str) -> Case {
    Case {
        rule,
        says,
        config: B.to_owned(),
        nodes: vec![node(1, &["172.16.0.1"])],
        steps: vec![],
        refused: vec![],
        mistakes: vec![],
    }
}

impl Case {
    /// With more text at the end of the configuration.
    fn config(mut self, more: &str) -> Self {
        self.config.push_str(more);
        self
    }

    /// With another text in a place of the configuration.
    fn instead(mut self, of: &str, text: &str) -> Self {
        assert!(self.config.contains(of), "no {of} in the configuration");
        self.config = self.config.replacen(of, text, 1);
        self
    }

    /// With more keys in a table of the configuration, such as `[dhcp]`.
    fn keys(self, table: &str, keys: &str) -> Self {
        self.instead(&format!("{table}\n"), &format!("{table}\n{keys}\n"))
    }

    /// With another inventory.
    fn nodes(mut self, nodes: impl Into<Vec<Node>>) -> Self {
        self.nodes = nodes.into();
        self
    }

    /// A packet and what it gets.
    fn packet(mut self, packet: Vec<u8>, gets: Expected) -> Self {
        self.steps.push(Step::Packet(packet, Box::new(gets)));
        self
    }

    fn pass(mut self, seconds: u64) -> Self {
        self.steps.push(Step::Pass(Duration::from_secs(seconds)));
        self
    }

    /// The inventory changes.
    fn publish(mut self, nodes: impl Into<Vec<Node>>) -> Self {
        self.steps.push(Step::Publish(nodes.into()));
        self
    }

    /// Packets come from here on from an interface with these addresses.
    fn plug(mut self, addresses: &[[u8; 4]]) -> Self {
        let addresses = addresses.iter().map(|&ip| ip.into()).collect();
        self.steps.push(Step::Plug(addresses));
        self
    }

    /// A machine that never asked uses this address.
    fn occupy(mut self, ip: [u8; 4]) -> Self {
        self.steps.push(Step::Occupy(ip.into()));
        self
    }

    /// The configuration is refused, with this in what is said about it.
    fn refused(mut self, text: &'static str) -> Self {
        self.refused.push(text);
        self
    }

    fn parse(&self) -> Result<Config, Vec<String>> {
        if !self.mistakes.is_empty() {
            return Err(self.mistakes.clone());
        }
        config::parse(&self.config, Path::new("/etc/bootd/bootd.toml")).map_err(|error| match error {
            ConfigError::Mistakes { mistakes, .. } => mistakes.iter().map(ToString::to_string).collect(),
            error => vec![error.to_string()],
        })
    }

    /// What is not as it should be.
    fn run(&self) -> Result<(), String> {
        let config = match self.parse() {
            Ok(_) if !self.refused.is_empty() => return Err("the configuration is accepted".into()),
            Ok(config) => config,
            Err(said) => {
                let told = |text: &&str| said.iter().any(|line| line.contains(*text));
                return match !self.refused.is_empty() && self.refused.iter().all(told) {
                    true => Ok(()),
                    false => Err(format!("the configuration is refused: {said:#?}")),
                };
            }
        };
        let mut server = Rehearsal::new(&config, Arc::new(snapshot(self.nodes.clone())), interface(&[SERVER]));
        for (at, step) in self.steps.iter().enumerate() {
            match step {
                Step::Packet(packet, expected) => expected
                    .compare(packet, &server.packet(packet))
                    .map_err(|wrong| format!("step {}: {wrong}", at + 1))?,
                Step::Pass(time) => server.pass(*time),
                Step::Publish(nodes) => server.publish(Arc::new(snapshot(nodes.clone()))),
                Step::Plug(addresses) => server.plug(interface(addresses)),
                Step::Occupy(ip) => server.occupy(*ip, Mac([2, 0, 0, 0, 1, 1])),
            }
        }
        Ok(())
    }
}

/// What a packet gets; what is not named may be anything.
#[derive(Debug, Clone, Default)]
struct Expected {
    kind: Option<ReplyKind>,
    /// Why there is no reply: the label, or `released` or `declined`.
    silence: Option<&'static str>,
    yiaddr: Option<Ipv4Addr>,
    siaddr: Option<Ipv4Addr>,
    to: Option<Destination>,
    options: Vec<(u8, Option<Vec<u8>>)>,
    codes: Option<Vec<u8>>,
    file: Option<&'static str>,
    /// The bytes from a place on.
    bytes: Vec<(usize, Vec<u8>)>,
    length: Option<usize>,
}

fn reply(kind: ReplyKind, ip: [u8; 4]) -> Expected {
    Expected {
        kind: Some(kind),
        yiaddr: Some(ip.into()),
        ..Expected::default()
    }
}

fn offer(ip: [u8; 4]) -> Expected {
    reply(ReplyKind::Offer, ip)
}

fn ack(ip: [u8; 4]) -> Expected {
    reply(ReplyKind::Ack, ip)
}

fn nak() -> Expected {
    reply(ReplyKind::Nak, [0; 4]).without(51).without(3)
}

/// No reply, for this reason.
fn silence(why: &'static str) -> Expected {
    Expected {
        silence: Some(why),
        ..Expected::default()
    }
}

impl Expected {
    fn with(mut self, code: u8, value: impl AsRef<[u8]>) -> Self {
        self.options.push((code, Some(value.as_ref().to_vec())));
        self
    }

    fn without(mut self, code: u8) -> Self {
        self.options.push((code, None));
        self
    }

    /// The codes of all options, in their order.
    fn codes(mut self, codes: &[u8]) -> Self {
        self.codes = Some(codes.to_vec());
        self
    }

    fn to(mut self, to: Destination) -> Self {
        self.to = Some(to);
        self
    }

    fn siaddr(mut self, ip: [u8; 4]) -> Self {
        self.siaddr = Some(ip.into());
        self
    }

    /// The boot file in the header.
    fn file(mut self, name: &'static str) -> Self {
        self.file = Some(name);
        self
    }

    /// These bytes from a place of the packet on.
    fn at(mut self, place: usize, bytes: &[u8]) -> Self {
        self.bytes.push((place, bytes.to_vec()));
        self
    }

    fn length(mut self, length: usize) -> Self {
        self.length = Some(length);
        self
    }

    fn compare(&self, packet: &[u8], outcome: &Outcome) -> Result<(), String> {
        let why = match outcome {
            Outcome::Sent(got) => return self.compare_reply(packet, got),
            Outcome::Silence(why) => why,
            Outcome::Released => "released",
            Outcome::Declined => "declined",
        };
        match self.silence {
            Some(expected) if expected == why => Ok(()),
            _ => Err(format!("no reply ({why})")),
        }
    }

    fn compare_reply(&self, packet: &[u8], got: &Dispatch) -> Result<(), String> {
        if let Some(why) = self.silence {
            return Err(format!("a reply instead of silence ({why}): {:?}", got.envelope));
        }
        let sent = &got.packet;
        let mut wrong = String::new();
        let mut compare = |what: &str, expected: &dyn std::fmt::Debug, got: &dyn std::fmt::Debug| {
            let (expected, got) = (format!("{expected:?}"), format!("{got:?}"));
            if expected != got {
                let _ = write!(wrong, "\n      {what}: {got}\n      instead of {expected}");
            }
        };
        if let Some(kind) = self.kind {
            compare("kind", &kind, &got.envelope.kind);
        }
        if let Some(ip) = self.yiaddr {
            compare("yiaddr", &ip, &got.envelope.yiaddr);
        }
        if let Some(ip) = self.siaddr {
            compare(
                "siaddr",
                &ip,
                &Ipv4Addr::from(<[u8; 4]>::try_from(&sent[20..24]).unwrap()),
            );
        }
        if let Some(to) = self.to {
            compare("destination", &to, &got.envelope.to);
        }
        let options = options(sent);
        for (code, value) in &self.options {
            let parts: Vec<&[u8]> = options.iter().filter(|(c, _)| c == code).map(|(_, v)| *v).collect();
            let found = (!parts.is_empty()).then(|| parts.concat());
            compare(&format!("option {code}"), value, &found);
        }
        if let Some(codes) = &self.codes {
            compare(
                "options",
                codes,
                &options.iter().map(|(code, _)| *code).collect::<Vec<u8>>(),
            );
        }
        if let Some(name) = self.file {
            let end = sent[108..236].iter().position(|byte| *byte == 0).unwrap_or(128);
            compare("file", &name, &String::from_utf8_lossy(&sent[108..108 + end]));
        }
        for (place, bytes) in &self.bytes {
            compare(
                &format!("bytes from {place} on"),
                bytes,
                &&sent[*place..*place + bytes.len()],
            );
        }
        if let Some(length) = self.length {
            compare("length", &length, &sent.len());
        }
        // What holds for every reply.
        compare("op", &2, &sent[0]);
        compare("htype and hlen", &&packet[1..3], &&sent[1..3]);
        compare("hops", &0, &sent[3]);
        compare("xid", &&packet[4..8], &&sent[4..8]);
        compare("secs and ciaddr", &([0; 2], [0; 4]), &(&sent[8..10], &sent[12..16]));
        compare("giaddr and chaddr", &&packet[24..44], &&sent[24..44]);
        compare("300 bytes at least", &true, &(sent.len() >= 300));
        let order = options
            .iter()
            .map(|(code, _)| if *code == 82 { 256 } else { u16::from(*code) });
        compare("the order of options", &true, &order.is_sorted());
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// Code and value of each option on the wire, in order.
fn options(packet: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    let mut rest = &packet[HEADER..];
    while rest[0] != 255 {
        let length = usize::from(rest[1]);
        found.push((rest[0], &rest[2..2 + length]));
        rest = &rest[2 + length..];
    }
    found
}

fn interface(addresses: &[Ipv4Addr]) -> Receiving {
    Receiving {
        addresses: addresses.to_vec(),
        link: Some((2, Mac([2, 0, 0, 0, 0, 0xfe]))),
    }
}

/// To everyone.
const EVERYONE: Destination = Destination::Broadcast;

fn relay(ip: [u8; 4]) -> Destination {
    Destination::Relay(ip.into(), 67)
}

fn unicast(ip: [u8; 4]) -> Destination {
    Destination::Unicast(ip.into())
}

fn frame(ip: [u8; 4], number: u8) -> Destination {
    Destination::Frame(ip.into(), Mac([2, 0, 0, 0, 0, number]))
}

/// Runs cases and tells all that fail.
fn run(cases: &[Case]) {
    let failed: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let wrong = case.run().err()?;
            Some(format!("{} ({}): {wrong}", case.says, case.rule))
        })
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {} cases fail:\n  {}",
        failed.len(),
        cases.len(),
        failed.join("\n  ")
    );
}

#[test]
fn known_nodes_get_what_the_inventory_says() {
    run(&known::cases());
}

#[test]
fn each_client_gets_what_it_boots() {
    run(&boot::cases());
}

#[test]
fn clients_behind_relays_are_served_as_those_on_the_wire() {
    run(&relay::cases());
}

#[test]
fn strangers_get_leases_of_a_pool() {
    run(&pool::cases());
}

#[test]
fn broken_and_hostile_packets_get_silence_or_a_plain_answer() {
    run(&broken::cases());
}

#[test]
fn what_the_configuration_says_is_what_clients_get() {
    run(&configuration::cases());
}

#[test]
fn options_of_every_scope_come_where_they_should() {
    run(&options::cases());
}

#[test]
fn rules_say_what_groups_of_clients_get() {
    run(&rules::cases());
}

#[test]
fn a_coredhcp_yaml_gives_its_clients_what_they_had_or_better() {
    run(&dropin::cases());
}

#[test]
fn there_are_at_least_ninety_cases_and_no_two_say_the_same() {
    let all = [
        known::cases(),
        boot::cases(),
        relay::cases(),
        pool::cases(),
        broken::cases(),
        configuration::cases(),
        options::cases(),
        rules::cases(),
        dropin::cases(),
    ];
    let mut said: Vec<&str> = all.iter().flatten().map(|case| case.says).collect();
    said.sort_unstable();
    assert!(said.len() >= 90, "{} cases", said.len());
    let twice: Vec<&[&str]> = said.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let empty = |case: &&Case| case.steps.is_empty() && case.refused.is_empty();
    assert_eq!(all.iter().flatten().find(empty).map(|case| case.says), None);
}
