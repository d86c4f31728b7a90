//! Who would get something else from DHCP by another configuration, and what.
//!
//! Answers all nodes of the inventory, at each stage of a boot, and the packets that came lately, by the rules of both configurations, with the code that
//! answers packets, and compares what would leave option by option. Touches nothing that serves: addresses of pools come from empty ones, and are
//! told as "of the pool", so that nothing differs by who came first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use bootd_sdk::mac::Mac;
use serde::{Deserialize, Serialize};

use super::recent::Asked;
use super::v4::boot::{Stage, arch_of};
use super::v4::explain::{discover, shown};
use super::v4::options::read;
use super::v4::policy::Receiving;
use super::v4::rehearsal::{Outcome, Rehearsal};
use super::v4::request::{HEADER, parse};
use super::v6;
use crate::config::{Arch, Config, Selector};
use crate::inventory::Snapshot;
use crate::net::Interface;

/// Who would get something else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Differences {
    /// What differs, each with all who get it so.
    pub groups: Vec<Group>,
    /// Nodes that were asked for, and packets that came lately.
    pub nodes: usize,
    /// The packets among that.
    pub recent: usize,
    /// What is not compared.
    pub notes: Vec<String>,
    #[serde(skip)]
    found: BTreeMap<Told, BTreeMap<Mac, Seen>>,
}

/// A difference, and whom it is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// What differs, such as `routers`.
    pub what: String,
    /// What it was; `None`: it was not there.
    pub old: Option<String>,
    /// What it will be; `None`: it will not be there.
    pub new: Option<String>,
    /// At which stages of their boots; empty: that makes no difference.
    pub stages: Vec<String>,
    /// Who.
    pub who: Vec<Who>,
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Who {
    /// The node; `None`: the inventory does not know it.
    pub xname: Option<String>,
    /// The hardware address.
    pub mac: Mac,
}

/// What differs: the field, and what it is by either configuration.
type Told = (String, Option<String>, Option<String>);

/// For whom that is found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    xname: Option<String>,
    stages: BTreeSet<&'static str>,
}

/// What a client gets, field by field.
type Fields = BTreeMap<String, String>;

/// Compares the answers of two configurations.
pub(crate) fn differences(old: &Config, new: &Config, snapshot: &Arc<Snapshot>, recent: &[Asked]) -> Differences {
    // While they cannot be listed, answers name no server.
    let interfaces = Interface::all().unwrap_or_default();
    compare(old, new, snapshot, recent, &interfaces)
}

fn compare(
    old: &Config,
    new: &Config,
    snapshot: &Arc<Snapshot>,
    recent: &[Asked],
    interfaces: &[Interface],
) -> Differences {
    let mut both = (
        Answerer::new(old, snapshot, interfaces),
        Answerer::new(new, snapshot, interfaces),
    );
    let mut differences = Differences {
        recent: recent.len(),
        ..Differences::default()
    };
    let archs: BTreeMap<Mac, Arch> = recent.iter().filter_map(arch_seen).collect();
    for entry in snapshot.entries() {
        let node = &entry.node;
        differences.nodes += 1;
        for interface in &node.interfaces {
            let arch = archs.get(&interface.mac).copied().unwrap_or(Arch::X86_64Efi);
            for (stage, name) in STAGES {
                let ask = |by: &mut Answerer<'_>| by.node(interface.mac, arch, stage);
                let (before, after) = (ask(&mut both.0), ask(&mut both.1));
                differences.note(Some(&node.id), interface.mac, Some(name), &before, &after);
            }
        }
    }
    for asked in recent {
        let (before, after) = (both.0.packet(asked), both.1.packet(asked));
        let xname = snapshot.by_mac(asked.mac).map(|(node, _)| node.id.as_str());
        let stage = STAGES
            .iter()
            .find(|(stage, _)| *stage == asked.stage)
            .map(|(_, name)| *name);
        differences.note(xname, asked.mac, stage, &before, &after);
    }
    differences.sort();
    differences
}

/// Answers by one configuration.
struct Answerer<'a> {
    config: &'a Config,
    snapshot: &'a Snapshot,
    rehearsal: Rehearsal,
    /// This box's addresses where nodes are, if the configuration does not say which is its own.
    own: Receiving,
    v6: Option<(v6::policy::Policy, v6::policy::Receiving)>,
}

impl<'a> Answerer<'a> {
    fn new(config: &'a Config, snapshot: &'a Arc<Snapshot>, interfaces: &[Interface]) -> Self {
        let meant = |selectors: &[Selector], i: &Interface| selectors.iter().any(|s| s.means(&i.name, i.ips()));
        let served = interfaces.iter().filter(|i| meant(&config.interfaces, i));
        let addresses = match config.address {
            Some(_) => Vec::new(),
            None => served.flat_map(|interface| interface.addresses.clone()).collect(),
        };
        let v6 = config.dhcp6.as_ref().map(|dhcp6| {
            let served = interfaces.iter().filter(|i| meant(&dhcp6.interfaces, i));
            let own = served.flat_map(|interface| interface.networks6.iter().map(|(ip, _)| *ip));
            (
                v6::policy::Policy::rehearsed(config, dhcp6),
                v6::policy::Receiving::of(own),
            )
        });
        let own = Receiving { addresses, link: None };
        Self {
            config,
            snapshot,
            rehearsal: Rehearsal::new(config, Arc::clone(snapshot), own.clone()),
            own,
            v6,
        }
    }

    /// What a node gets at a stage of its boot, of both families.
    fn node(&mut self, mac: Mac, arch: Arch, stage: Stage) -> Fields {
        self.rehearsal.plug(self.own.clone());
        let mut fields = self.answer(None, &discover(mac, Some(arch), stage));
        if let Some((policy, own)) = &self.v6 {
            let answer = v6::explain::explained(policy, self.snapshot, own, mac, Some(arch), stage);
            fields.extend(fields6(&answer));
        }
        fields
    }

    /// What a packet gets that came lately.
    fn packet(&mut self, asked: &Asked) -> Fields {
        self.rehearsal.plug(asked.receiving.clone());
        self.answer(Some(asked.peer.port()), &asked.bytes)
    }

    fn answer(&mut self, port: Option<u16>, packet: &[u8]) -> Fields {
        self.rehearsal.forget_leases();
        let outcome = self.rehearsal.packet_from(port, packet);
        let mut fields = Fields::new();
        let answer = match &outcome {
            Outcome::Sent(sent) => {
                self.read(&sent.packet, &mut fields);
                format!("{:?}", sent.envelope.kind).to_uppercase()
            }
            Outcome::Silence(why) => format!("none ({why})"),
            Outcome::Released | Outcome::Declined => "none".into(),
        };
        fields.insert(ANSWER.into(), answer);
        fields
    }

    /// The fields and options of a reply.
    fn read(&self, packet: &[u8], fields: &mut Fields) {
        let ip = |at: usize| {
            packet
                .get(at..)
                .and_then(|rest| rest.first_chunk().copied())
                .map(Ipv4Addr::from)
        };
        for (what, at) in [("address", 16), ("next server", 20)] {
            if let Some(ip) = ip(at).filter(|ip| !ip.is_unspecified()) {
                let value = match what {
                    "address" => self.pool_of(ip).unwrap_or_else(|| ip.to_string()),
                    _ => ip.to_string(),
                };
                fields.insert(what.into(), value);
            }
        }
        for (what, range) in [("server name", 44..108), ("boot file (header)", 108..236)] {
            let text = packet.get(range).unwrap_or_default();
            let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
            if let Some(text) = text.get(..end).filter(|text| !text.is_empty()) {
                fields.insert(what.into(), String::from_utf8_lossy(text).into_owned());
            }
        }
        // Our own encoder wrote it a moment ago.
        let _ = read(packet.get(HEADER..).unwrap_or_default(), |code, value| {
            if code != MESSAGE_TYPE {
                let shown = shown(code, value);
                let field = fields.entry(option(code)).or_default();
                field.push_str(&shown);
            }
        });
    }

    /// The pool that an address is of; who gets which of them is nobody's before it is asked for.
    fn pool_of(&self, ip: Ipv4Addr) -> Option<String> {
        let mut pools = self
            .config
            .dhcp
            .subnets
            .iter()
            .filter_map(|subnet| subnet.pool.as_ref());
        let pool = pools.find(|pool| (pool.first..=pool.last).contains(&ip))?;
        (!self.snapshot.owns(ip)).then(|| format!("one of {} to {}", pool.first, pool.last))
    }
}

impl Differences {
    /// Notes what of two answers differs.
    fn note(&mut self, xname: Option<&str>, mac: Mac, stage: Option<&'static str>, old: &Fields, new: &Fields) {
        if old == new {
            return;
        }
        for prefix in ["", V6] {
            let of = |fields: &'_ Fields| -> Fields {
                let own = fields
                    .iter()
                    .filter(|(what, _)| what.starts_with(V6) != prefix.is_empty());
                own.map(|(what, value)| (what.clone(), value.clone())).collect()
            };
            let (old, new) = (of(old), of(new));
            let answer = format!("{prefix}{ANSWER}");
            // Who gets another kind of answer, or none, gets nothing as before.
            let whats: BTreeSet<&String> = match old.get(&answer) == new.get(&answer) {
                true => old.keys().chain(new.keys()).collect(),
                false => BTreeSet::from([&answer]),
            };
            for what in whats {
                let (before, after) = (old.get(what).cloned(), new.get(what).cloned());
                if before != after {
                    self.find(xname, mac, stage, (what.clone(), before, after));
                }
            }
        }
    }

    /// Notes which lines of a text differ.
    pub(crate) fn lines(&mut self, xname: &str, mac: Mac, what: &str, old: &str, new: &str) {
        let (mut before, mut after) = (old.lines(), new.lines());
        loop {
            match (before.next(), after.next()) {
                (None, None) => return,
                (one, other) if one == other => {}
                (one, other) => {
                    let told = (what.to_owned(), one.map(str::to_owned), other.map(str::to_owned));
                    self.find(Some(xname), mac, None, told);
                }
            }
        }
    }

    fn find(&mut self, xname: Option<&str>, mac: Mac, stage: Option<&'static str>, told: Told) {
        let seen = self.found.entry(told).or_default().entry(mac).or_insert_with(|| Seen {
            xname: xname.map(str::to_owned),
            stages: BTreeSet::new(),
        });
        seen.stages.extend(stage);
    }

    /// Puts together who gets the same.
    pub(crate) fn sort(&mut self) {
        self.groups.clear();
        for ((what, old, new), seen) in &self.found {
            let mut by_stages: BTreeMap<&BTreeSet<&str>, Vec<Who>> = BTreeMap::new();
            for (mac, seen) in seen {
                let (xname, mac) = (seen.xname.clone(), *mac);
                by_stages.entry(&seen.stages).or_default().push(Who { xname, mac });
            }
            for (stages, mut who) in by_stages {
                who.sort();
                let all = stages.len() == STAGES.len();
                let names = STAGES.iter().map(|(_, name)| *name);
                let stages = names.filter(|name| !all && stages.contains(name)).map(str::to_owned);
                self.groups.push(Group {
                    what: what.clone(),
                    old: old.clone(),
                    new: new.clone(),
                    stages: stages.collect(),
                    who,
                });
            }
        }
    }
}

/// The architecture that a packet of a firmware names.
fn arch_seen(asked: &Asked) -> Option<(Mac, Arch)> {
    let request = parse(&asked.bytes).ok()?;
    let arch = arch_of(request.arch?, request.boots_by_http(), false)?;
    Some((asked.mac, arch))
}

/// The same of DHCPv6.
fn fields6(answer: &v6::explain::Explained6) -> Fields {
    let mut fields = Fields::new();
    let Some(address) = answer.address else {
        fields.insert(format!("{V6}{ANSWER}"), answer.verdict.clone());
        return fields;
    };
    let mut put = |what: &str, value: String| {
        if !value.is_empty() {
            fields.insert(format!("{V6}{what}"), value);
        }
    };
    let dns: Vec<String> = answer.dns.iter().map(ToString::to_string).collect();
    put(ANSWER, "ADVERTISE".into());
    put("address", address.to_string());
    put("dns", dns.join(" "));
    put("search", answer.search.join(" "));
    put("host name", answer.hostname.clone().unwrap_or_default());
    put("boot file", answer.boot_file.clone().unwrap_or_default());
    put(
        "lifetime",
        answer.lifetime_s.map(|seconds| seconds.to_string()).unwrap_or_default(),
    );
    for option in &answer.options {
        let (code, value) = option.split_once(" = ").unwrap_or((option, ""));
        put(&format!("option {code}"), value.to_owned());
    }
    fields
}

/// What an option is called.
fn option(code: u8) -> String {
    let name = match code {
        1 => "netmask",
        3 => "routers",
        6 => "dns",
        12 => "host name",
        15 => "domain",
        26 => "mtu",
        42 => "ntp",
        43 => "vendor options",
        51 => "lease time",
        54 => "server",
        58 => "renewal time",
        59 => "rebinding time",
        66 => "tftp server",
        67 => "boot file",
        _ => return format!("option {code}"),
    };
    name.into()
}

const STAGES: [(Stage, &str); 3] = [(Stage::Firmware, "firmware"), (Stage::Ipxe, "ipxe"), (Stage::Os, "os")];
/// The kind of an answer.
const ANSWER: &str = "answer";
/// How fields of DHCPv6 begin.
const V6: &str = "DHCPv6 ";
const MESSAGE_TYPE: u8 = 53;

#[cfg(test)]
#[path = "answer_diff_tests.rs"]
mod tests;
