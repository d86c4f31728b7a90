//! The conformance suite over IPv6: packets in, packets out, against what CoreDHCP's users rely on and what it ought to do better.
//!
//! A case is a sentence with its section of the contract, a configuration, an inventory, and messages with what each of them gets. Each case
//! runs twice, unless it is about one of the two: with a client on the wire, and with the same one behind a relay, which must get the same.
//! Packets go the whole way from configuration text to bytes ([`Rehearsal`]). Each file has the cases of one subject; a run tells all that fail.

mod boot;
mod broken;
mod configuration;
mod dropin;
mod known;
mod relay;
mod status;

use std::fmt::{Debug, Write};
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::Arc;

use bootd_sdk::wire::Node;

use super::policy::Receiving;
use super::rehearsal::{Outcome, Rehearsal};
use super::testing::{SERVER_ID, link_local, option, options, relayed};
use crate::config::{self, Config, ConfigError};
use crate::dhcp::v4::testing::{node, snapshot};

/// Configuration B6 of the contract, with a boot listener of this box.
const B6: &str = r#"
[server]
interfaces = ["veth0"]
[dhcp]
domain = "openchami.cluster"
[[http.listener]]
address = "[::]:8081"
serve = ["boot", "loaders"]
[dhcp6]
server_id = "LL 02:00:00:00:00:fe"
lease_time = "1h"
[[dhcp6.subnet]]
prefix = "fd00::/64"
dns = ["fd00::fe"]
"#;

/// A second subnet, behind a relay.
const SECOND: &str = "[[dhcp6.subnet]]\nprefix = \"fd01::/64\"\nserver = \"fd01::fe\"\n";

/// How a client's packets come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    Relayed,
}

/// A case.
struct Case {
    /// The section of the contract and the mark of the rule.
    rule: &'static str,
    says: &'static str,
    config: String,
    nodes: Vec<Node>,
    ways: Vec<Way>,
    steps: Vec<Step>,
    /// The configuration is refused: each of these texts is in a line of `bootd check`.
    refused: Vec<&'static str>,
    mistakes: Vec<String>,
}

enum Step {
    /// A client's message, whose it is, and what it gets.
    Message(u8, Vec<u8>, Box<Expected>),
    /// A whole packet, where it comes from, and what it gets.
    Packet(Ipv6Addr, Vec<u8>, Box<Expected>),
    Publish(Vec<Node>),
    Plug(Vec<Ipv6Addr>),
}

/// A case with configuration B6 and node 1, which has fd00::1.
fn case(rule: &'static str, says: &'static str) -> Case {
    Case {
        rule,
        says,
        config: B6.to_owned(),
        nodes: vec![node(1, &["172.16.0.1", "fd00::1"])],
        ways: vec![Way::Direct, Way::Relayed],
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

    /// With more keys in a table of the configuration, such as `[dhcp6]`.
    fn keys(self, table: &str, keys: &str) -> Self {
        self.instead(&format!("{table}\n"), &format!("{table}\n{keys}\n"))
    }

    /// With another inventory.
    fn nodes(mut self, nodes: impl Into<Vec<Node>>) -> Self {
        self.nodes = nodes.into();
        self
    }

    /// About one of the two ways only.
    fn only(mut self, way: Way) -> Self {
        self.ways = vec![way];
        self
    }

    /// What node 1 says and gets.
    fn message(self, message: Vec<u8>, gets: Expected) -> Self {
        self.of(1, message, gets)
    }

    /// What the client with this number says and gets.
    fn of(mut self, number: u8, message: Vec<u8>, gets: Expected) -> Self {
        self.steps.push(Step::Message(number, message, Box::new(gets)));
        self
    }

    /// A packet as it is, from this address.
    fn packet(mut self, from: &str, packet: Vec<u8>, gets: Expected) -> Self {
        self.steps
            .push(Step::Packet(from.parse().unwrap(), packet, Box::new(gets)));
        self
    }

    /// The inventory changes.
    fn publish(mut self, nodes: impl Into<Vec<Node>>) -> Self {
        self.steps.push(Step::Publish(nodes.into()));
        self
    }

    /// Packets come from here on from an interface with these addresses.
    fn plug(mut self, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        self.steps.push(Step::Plug(addresses));
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
        self.ways
            .iter()
            .try_for_each(|way| self.go(&config, *way).map_err(|wrong| format!("{way:?}: {wrong}")))
    }

    fn go(&self, config: &Config, way: Way) -> Result<(), String> {
        let snapshot_of = |nodes: &[Node]| Arc::new(snapshot(nodes.to_vec()));
        let on_wire = Receiving::of([link_local(0xfe), "fd00::fe".parse().unwrap()]);
        let mut server = Rehearsal::new(config, snapshot_of(&self.nodes), on_wire).ok_or("no DHCPv6")?;
        for (at, step) in self.steps.iter().enumerate() {
            let compared = match step {
                Step::Message(number, message, expected) => match way {
                    Way::Direct => expected.compare(message, &server.packet(message, link_local(*number)), &server),
                    Way::Relayed => {
                        let packet = relayed(message, 0, LINK, link_local(*number), &option(18, b"port 7"));
                        let outcome = server.packet(&packet, RELAY.parse().unwrap());
                        unwrapped(&packet, outcome).and_then(|inner| expected.compare(message, &inner, &server))
                    }
                },
                Step::Packet(from, packet, expected) => {
                    let outcome = match server.packet(packet, *from) {
                        Outcome::Sent { packet, note } => Outcome::Sent {
                            packet: peeled(&packet, 13).1,
                            note,
                        },
                        silence => silence,
                    };
                    expected.compare(&peeled(packet, 12).1, &outcome, &server)
                }
                Step::Publish(nodes) => {
                    server.publish(snapshot_of(nodes));
                    Ok(())
                }
                Step::Plug(addresses) => {
                    server.plug(Receiving::of(addresses.iter().copied()));
                    Ok(())
                }
            };
            compared.map_err(|wrong| format!("step {}: {wrong}", at + 1))?;
        }
        Ok(())
    }
}

/// The relay's address towards the server, and the one on the client's link.
const RELAY: &str = "fd00:9::1";
const LINK: &str = "fd00::fd";

/// What the relay passes on to its client. The layer around it must be the one that it sent.
fn unwrapped(packet: &[u8], outcome: Outcome) -> Result<Outcome, String> {
    let Outcome::Sent { packet: reply, note } = outcome else {
        return Ok(outcome);
    };
    if reply[0] != 13 || reply[1..34] != packet[1..34] {
        return Err(format!("the relay gets {:?}", &reply[..34]));
    }
    let mut inner = options(&reply[34..]);
    let last = inner.pop();
    if inner != [(18, b"port 7".to_vec())] {
        return Err(format!("the relay gets the options {inner:?}"));
    }
    match last {
        Some((9, packet)) => Ok(Outcome::Sent { packet, note }),
        other => Err(format!("the relay gets {other:?} to pass on")),
    }
}

/// The options of all layers but what they pass on, and the innermost message.
fn peeled(packet: &[u8], layer: u8) -> (Vec<Layer>, Vec<u8>) {
    let (mut layers, mut message) = (Vec::new(), packet.to_vec());
    while message.first() == Some(&layer) && message.len() > 34 {
        let mut all = options(&message[34..]);
        let Some((9, inner)) = all.pop() else {
            panic!("a layer without a message: {message:?}");
        };
        layers.push(all);
        message = inner;
    }
    (layers, message)
}

type Layer = Vec<(u16, Vec<u8>)>;

/// What a message gets; what is not named may be anything.
#[derive(Debug, Clone, Default)]
struct Expected {
    /// 2 or 7.
    kind: Option<u8>,
    /// Why there is no reply.
    silence: Option<&'static str>,
    /// What is counted beside it.
    note: Option<Option<&'static str>>,
    /// All values of an option, in their order.
    options: Vec<(u16, Vec<Vec<u8>>)>,
    /// The status of the message.
    status: Option<Option<u16>>,
    /// The status in identity associations: the option, the number of the association, the status.
    statuses: Vec<(u16, u32, u16)>,
    codes: Option<Vec<u16>>,
}

fn advertise() -> Expected {
    Expected {
        kind: Some(2),
        ..Expected::default()
    }
}

fn reply() -> Expected {
    Expected {
        kind: Some(7),
        ..Expected::default()
    }
}

/// No reply, for this reason.
fn silence(why: &'static str) -> Expected {
    Expected {
        silence: Some(why),
        ..Expected::default()
    }
}

impl Expected {
    fn with(self, code: u16, value: impl AsRef<[u8]>) -> Self {
        self.each(code, &[value.as_ref()])
    }

    fn each(mut self, code: u16, values: &[&[u8]]) -> Self {
        let values = values.iter().map(|value| value.to_vec()).collect();
        self.options.push((code, values));
        self
    }

    fn without(self, code: u16) -> Self {
        self.each(code, &[])
    }

    /// An IA_NA with this number and these addresses, each with its lifetime; of the first one's come the times to renew.
    fn lease(self, id: u32, addresses: &[(&str, u32)]) -> Self {
        self.with(3, lease(id, addresses))
    }

    fn status(mut self, status: u16) -> Self {
        self.status = Some(Some(status));
        self
    }

    fn no_status(mut self) -> Self {
        self.status = Some(None);
        self
    }

    /// An identity association without addresses.
    fn nothing(mut self, code: u16, id: u32, status: u16) -> Self {
        self.statuses.push((code, id, status));
        self
    }

    /// The boot file.
    fn file(self, url: &str) -> Self {
        self.with(59, url)
    }

    fn note(mut self, note: Option<&'static str>) -> Self {
        self.note = Some(note);
        self
    }

    /// The codes of all options, in their order.
    fn codes(mut self, codes: &[u16]) -> Self {
        self.codes = Some(codes.to_vec());
        self
    }

    fn compare(&self, message: &[u8], outcome: &Outcome, server: &Rehearsal) -> Result<(), String> {
        let (packet, note) = match (outcome, self.silence) {
            (Outcome::Sent { packet, note }, None) => (packet, note),
            (Outcome::Silence(why), Some(expected)) if *why == expected => return Ok(()),
            (Outcome::Silence(why), _) => return Err(format!("no reply ({why})")),
            (Outcome::Sent { packet, .. }, Some(why)) => {
                return Err(format!("a reply instead of silence ({why}): {packet:?}"));
            }
        };
        let mut wrong = String::new();
        let mut compare = |what: &str, expected: &dyn Debug, got: &dyn Debug| {
            let (expected, got) = (format!("{expected:?}"), format!("{got:?}"));
            if expected != got {
                let _ = write!(wrong, "\n      {what}: {got}\n      instead of {expected}");
            }
        };
        let (got, sent) = (options(&packet[4..]), options(&message[4..]));
        let values = |of: &[(u16, Vec<u8>)], code: u16| -> Vec<Vec<u8>> {
            let values = of.iter().filter(|(other, _)| *other == code);
            values.map(|(_, value)| value.clone()).collect()
        };
        if let Some(kind) = self.kind {
            compare("kind", &kind, &packet[0]);
        }
        if let Some(expected) = &self.note {
            compare("counted", expected, note);
        }
        for (code, expected) in &self.options {
            compare(&format!("option {code}"), expected, &values(&got, *code));
        }
        if let Some(expected) = self.status {
            let found = values(&got, 13);
            let status = found.first().map(|value| u16::from_be_bytes([value[0], value[1]]));
            compare("status", &expected, &status);
        }
        for (code, id, status) in &self.statuses {
            let of_ia = |value: &Vec<u8>| value[..4] == id.to_be_bytes();
            let found = values(&got, *code).into_iter().find(of_ia);
            let within = found.map(|value| options(&value[if *code == 4 { 4 } else { 12 }..]));
            let [a, b] = status.to_be_bytes();
            let is_status = |(code, value): &(u16, Vec<u8>)| *code == 13 && value[..2] == [a, b];
            let good = within
                .as_ref()
                .is_some_and(|within| within.len() == 1 && is_status(&within[0]));
            if !good {
                compare(
                    &format!("association {id} of option {code}"),
                    &format!("status {status}"),
                    &within,
                );
            }
        }
        let codes: Vec<u16> = got.iter().map(|(code, _)| *code).collect();
        if let Some(expected) = &self.codes {
            compare("options", expected, &codes);
        }
        // What holds for every reply.
        compare("transaction", &&message[1..4], &&packet[1..4]);
        compare("client identifier", &values(&sent, 1).first(), &values(&got, 1).first());
        compare(
            "server identifier",
            &vec![server.server_id().to_vec()],
            &values(&got, 2),
        );
        let singles = codes.iter().filter(|code| ![3, 4, 25].contains(*code));
        let twice = singles
            .clone()
            .find(|code| codes.iter().filter(|other| other == code).count() > 1);
        compare("an option that is there twice", &None::<u16>, &twice);
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// The value of an IA_NA as a reply has it.
fn lease(id: u32, addresses: &[(&str, u32)]) -> Vec<u8> {
    let seconds = addresses[0].1;
    let mut value = id.to_be_bytes().to_vec();
    value.extend_from_slice(&(seconds / 2).to_be_bytes());
    value.extend_from_slice(&(seconds / 4 * 3).to_be_bytes());
    for (ip, seconds) in addresses {
        let mut address = ip.parse::<Ipv6Addr>().unwrap().octets().to_vec();
        address.extend_from_slice(&seconds.to_be_bytes());
        address.extend_from_slice(&seconds.to_be_bytes());
        value.extend_from_slice(&option(5, &address));
    }
    value
}

/// A name in the form of DNS, without its end.
fn labels(name: &str) -> Vec<u8> {
    name.split('.')
        .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat())
        .collect()
}

fn octets(ip: &str) -> [u8; 16] {
    ip.parse::<Ipv6Addr>().unwrap().octets()
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
fn who_cannot_have_what_it_asks_for_is_told_so() {
    run(&status::cases());
}

#[test]
fn relays_get_their_layers_back() {
    run(&relay::cases());
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
fn a_coredhcp_yaml_gives_its_clients_what_they_had_or_better() {
    run(&dropin::cases());
}

#[test]
fn there_are_at_least_sixty_cases_and_no_two_say_the_same() {
    let all = [
        known::cases(),
        boot::cases(),
        status::cases(),
        relay::cases(),
        broken::cases(),
        configuration::cases(),
        dropin::cases(),
    ];
    let mut said: Vec<&str> = all.iter().flatten().map(|case| case.says).collect();
    said.sort_unstable();
    assert!(said.len() >= 60, "{} cases", said.len());
    let twice: Vec<&[&str]> = said.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let empty = |case: &&Case| case.steps.is_empty() && case.refused.is_empty();
    assert_eq!(all.iter().flatten().find(empty).map(|case| case.says), None);
    let id = all
        .iter()
        .flatten()
        .find(|case| !case.config.contains("02:00:00:00:00:fe"));
    assert!(id.is_none_or(|case| !case.refused.is_empty()), "{SERVER_ID:?}");
}
