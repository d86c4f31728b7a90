//! What is wrong with a boot, in plain words: what was seen, what was not, and where to look.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::stage::Stage;
use crate::config::Arch;

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The name of the cause, for filters and metrics: `root-never-asked-for`.
    pub name: String,
    /// The stage that it is about.
    pub stage: Stage,
    /// A sentence.
    pub text: String,
    /// When it was found.
    pub at_ms: u64,
    /// The boot does not go on by itself.
    #[serde(default)]
    pub stops: bool,
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// DHCP does not answer; the label of the reason.
    NoAddress(&'static str),
    /// A NAK; the label of the reason.
    AddressRefused(&'static str),
    /// Offers do not arrive, or another server was faster.
    OfferNotTaken {
        /// The relay that they go through.
        relay: Option<IpAddr>,
        /// How often the client asked.
        tries: u32,
    },
    /// The client takes the address of another server.
    OtherServer(Option<Ipv4Addr>),
    /// An address without anything to fetch.
    NoBootFile {
        /// The client's architecture.
        arch: String,
        /// Why.
        why: &'static str,
    },
    /// The loader is a program for other machines.
    WrongLoader {
        /// What it is for.
        program: Arch,
        /// What the client is.
        firmware: Arch,
    },
    /// There is nothing to boot for it: its script only asks again.
    NoParameters,
    /// A file or document was refused.
    Refused {
        /// Which.
        name: String,
        /// The status.
        status: u16,
    },
    /// A file ended before its end.
    Broken {
        /// Which.
        name: String,
        /// Bytes that left.
        bytes: u64,
        /// Bytes of the whole.
        of: Option<u64>,
    },
    /// A file does not go on.
    Stalled {
        /// Which.
        name: String,
        /// Bytes that left.
        bytes: u64,
        /// Bytes of the whole.
        of: Option<u64>,
    },
    /// A file comes slowly.
    Slow {
        /// Which.
        name: String,
        /// Bytes a second.
        rate: u64,
        /// Bytes that are missing.
        left: u64,
    },
    /// The next step does not come.
    Missing {
        /// The last stage that was seen.
        after: Stage,
        /// The one that was not.
        next: Stage,
        /// The system asked for an address and has one.
        has_address: bool,
    },
    /// An address that no node has.
    UnknownAddress(IpAddr),
}

impl Cause {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoAddress(_) => "no-address",
            Self::AddressRefused(_) => "address-refused",
            Self::OfferNotTaken { relay: Some(_), .. } => "relay-without-route",
            Self::OfferNotTaken { relay: None, .. } => "offer-not-taken",
            Self::OtherServer(_) => "foreign-dhcp-server",
            Self::NoBootFile { .. } => "no-loader",
            Self::WrongLoader { .. } => "wrong-loader",
            Self::NoParameters => "no-boot-parameters",
            Self::Refused { .. } => "refused",
            Self::Broken { .. } => "broken-off",
            Self::Stalled { .. } => "stalled",
            Self::Slow { .. } => "slow",
            Self::Missing { next, .. } => match next {
                Stage::FirmwareDhcp | Stage::IpxeDhcp => "loader-silent",
                Stage::Loader => "loader-never-asked-for",
                Stage::Script => "script-never-asked-for",
                Stage::Kernel => "kernel-never-asked-for",
                Stage::Initramfs => "initramfs-never-asked-for",
                Stage::OsDhcp => "system-silent",
                Stage::Root => "root-never-asked-for",
                Stage::MetaData => "cloud-init-silent",
                Stage::CloudConfig => "cloud-config-never-asked-for",
                Stage::PhoneHome => "phone-home-missing",
            },
            Self::UnknownAddress(_) => "unknown-address",
        }
    }

    /// With its words.
    pub fn diagnosis(&self, stage: Stage, at_ms: u64) -> Diagnosis {
        let name = match self {
            Self::Refused { .. } | Self::Broken { .. } | Self::Stalled { .. } | Self::Slow { .. } => {
                let stage = match stage {
                    Stage::FirmwareDhcp | Stage::IpxeDhcp | Stage::OsDhcp => "address",
                    stage => stage.name(),
                };
                format!("{stage}-{}", self.name())
            }
            _ => self.name().into(),
        };
        Diagnosis {
            name,
            stage,
            text: self.text(stage),
            at_ms,
            stops: !matches!(self, Self::Slow { .. }),
        }
    }

    fn text(&self, stage: Stage) -> String {
        match self {
            Self::NoAddress(label) => format!("it asks for an address and gets none: {}", no_address(label)),
            Self::AddressRefused(label) => {
                format!("the address that it wants was refused ({label}); it should ask for another one")
            }
            Self::OfferNotTaken { relay: Some(relay), tries } => format!(
                "asked {tries} times through the relay {relay}, was offered an address each time and never took it: the offers do not reach it. \
                 Is there a route from here to {relay}, and does the relay let answers pass?"
            ),
            Self::OfferNotTaken { relay: None, tries } => format!(
                "asked {tries} times, was offered an address and never took it: the offers do not reach it, or another DHCP server on this wire is faster"
            ),
            Self::OtherServer(Some(server)) => {
                format!("it took the address that {server} offered: another DHCP server answers on this wire; stop it, or let it leave these machines to bootd")
            }
            Self::OtherServer(None) => {
                "it took an address of another DHCP server on this wire; stop that, or let it leave these machines to bootd".into()
            }
            Self::NoBootFile { arch, why } => format!(
                "it has an address and nothing to fetch: there is no loader for its architecture {arch} ({why}); see tftp.loaders and bootd check"
            ),
            Self::WrongLoader { program, firmware } => format!(
                "its loader is a program for {program}, and its firmware is {firmware}: it does not start there; correct tftp.loaders, or the node's own loader"
            ),
            Self::NoParameters => "iPXE asks for its script again and again: there are no boot parameters for it (bootd explain --mac; ochami bss boot params set)".into(),
            Self::Refused { name, status } => {
                let noun = stage.noun();
                let advice = match stage {
                    Stage::Loader => "see tftp.root and tftp.loaders",
                    Stage::Script => "are there boot parameters for it? see bootd explain --mac",
                    Stage::Kernel | Stage::Initramfs | Stage::Root => {
                        "it is not in its bucket, or its origin does not answer; correct the boot parameters or put it there (bootd check, bootd cache ls)"
                    }
                    _ => "see bootd explain --mac and the log",
                };
                match status {
                    404 => format!("{noun} does not exist ({name}: 404): {advice}"),
                    status => format!("{noun} was refused ({name}: {status}): {advice}"),
                }
            }
            Self::Broken { name, bytes, of } => format!(
                "{} broke off after {} ({name}): the node gave up, or the origin did; it boots only if it asks again",
                stage.noun(),
                part(*bytes, *of)
            ),
            Self::Stalled { name, bytes, of } => format!(
                "{} does not go on: {} came ({name}), and nothing for 30 s: the node hangs, its link is down, or the origin stalls",
                stage.noun(),
                part(*bytes, *of)
            ),
            Self::Slow { name, rate, left } => {
                let seconds = left / (*rate).max(1);
                format!(
                    "{} comes slowly: {} a second, about {seconds} s more ({name}); see the link of the node, and whether the origin is slow (bootd cache ls)",
                    stage.noun(),
                    size(*rate)
                )
            }
            Self::Missing { after, next, has_address } => missing(*after, *next, *has_address),
            Self::UnknownAddress(ip) => format!(
                "{ip} asked for cloud-init's documents, and no node has this address: its configuration is unknown. Is its address from another \
                 DHCP server, or is the node not in the inventory? see bootd nodes"
            ),
        }
    }
}

fn missing(after: Stage, next: Stage, has_address: bool) -> String {
    match next {
        Stage::FirmwareDhcp | Stage::IpxeDhcp => {
            "loader fetched, and iPXE never asked for an address: it did not start (Secure Boot? see the node's console), or has no driver for this network card"
                .into()
        }
        Stage::Loader => {
            "it has an address and never asked for its loader: does its firmware boot from the network on this port, and does TFTP (69/udp) reach this box?".into()
        }
        Stage::Script => {
            "iPXE has an address and never asked for its script: does HTTP reach this box from there (see dhcp.script_url), or has the loader a script of its own?".into()
        }
        Stage::Kernel => "it has its script and never asked for the kernel: see the node's console for what iPXE says of the script".into(),
        Stage::Initramfs => "kernel fetched, initramfs never asked for: see the node's console for what iPXE says".into(),
        Stage::OsDhcp if after < Stage::Kernel => "it has its script, and nothing since: the script's files are not this box's, or it asked for none of them; see the node's console"
            .into(),
        Stage::OsDhcp => "kernel and initramfs fetched, and nothing since: the kernel did not start, or the initramfs has no network \
                          (no driver for the card, or no ip=dhcp in the kernel arguments)"
            .into(),
        Stage::Root if has_address => "root image never requested, though the initramfs has an address: is root=live: right, and is livenet in the initramfs?".into(),
        Stage::Root => "root image never requested: the initramfs has no network (no driver for the card, or no ip=dhcp in the kernel arguments)".into(),
        Stage::MetaData => {
            format!("{} is there, and cloud-init never asked: is cloud-init in the image, and does ds=nocloud name this box?", bare(after))
        }
        Stage::CloudConfig => "cloud-init has its meta-data and never asked for its groups' documents: see the node's console".into(),
        Stage::PhoneHome => "its configuration was fetched, and phone-home never came: a module of cloud-init failed or hangs (see cloud-init's log on the node)".into(),
    }
}

fn bare(stage: Stage) -> &'static str {
    match stage {
        Stage::OsDhcp => "the system's address",
        stage => stage.noun(),
    }
}

/// What the labels of DHCP's reasons mean for who waits for the node.
fn no_address(label: &str) -> &'static str {
    match label {
        "no_pool" => "it is not in the inventory, and there is no pool where it is (bootd nodes)",
        "pool_exhausted" => "it is not in the inventory, and the pool is exhausted (bootd leases)",
        "relay_not_served" => "its relay is in no subnet of the configuration ([[dhcp.subnet]])",
        "bad_relay_address" => "its relay names an address that no relay can have",
        "ignored_by_rule" => "a rule ignores it",
        "ignored_by_configuration" => "dhcp.ignore lists it",
        "ignored_by_operator" => "an operator has it ignored (bootd nodes unignore)",
        "unanswered" => "no answer left in time; see the log and bootd status",
        "probed_in_vain" => "somebody uses each address that was tried (bootd leases)",
        "not_our_lease" => "it asks for a lease that is not bootd's",
        "address_conflict" => "it says that somebody else uses its address",
        _ => "see bootd_refused in the metrics and the log for why",
    }
}

fn part(bytes: u64, of: Option<u64>) -> String {
    match of {
        Some(of) => format!("{} of {}", size(bytes), size(of)),
        None => size(bytes),
    }
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} bytes"),
    }
}
