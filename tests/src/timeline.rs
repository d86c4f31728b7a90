//! The steps of a boot, from power-on to the login prompt, and when each one happened.
//!
//! Read from the journal, so the same for bootd and for its peer: servers say when they had served something, the
//! console says what the node itself noticed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::journal::{Event, How, Journal, Stage};
use crate::node::Node;

/// A step of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The firmware has its address.
    FirmwareAddress,
    /// The loader came by TFTP.
    Loader,
    /// iPXE has its address.
    IpxeAddress,
    /// iPXE has a boot script.
    Script,
    /// The kernel came.
    Kernel,
    /// The initramfs came.
    Initramfs,
    /// Linux runs.
    Linux,
    /// Linux has its address.
    LinuxAddress,
    /// The root image came.
    RootImage,
    /// The root image runs.
    Root,
    /// cloud-init has its meta-data.
    MetaData,
    /// cloud-init has the group's data, which vendor-data includes.
    GroupData,
    /// The node said that it is up.
    PhoneHome,
    /// The login prompt.
    Login,
}

impl Step {
    /// All of them, in the order of a boot.
    pub const ALL: [Self; 14] = [
        Self::FirmwareAddress,
        Self::Loader,
        Self::IpxeAddress,
        Self::Script,
        Self::Kernel,
        Self::Initramfs,
        Self::Linux,
        Self::LinuxAddress,
        Self::RootImage,
        Self::Root,
        Self::MetaData,
        Self::GroupData,
        Self::PhoneHome,
        Self::Login,
    ];

    /// The step in plain words.
    pub fn words(self) -> &'static str {
        match self {
            Self::FirmwareAddress => "the firmware has an address (DHCP)",
            Self::Loader => "the loader iPXE came (TFTP)",
            Self::IpxeAddress => "iPXE has an address (DHCP)",
            Self::Script => "iPXE has its boot script (HTTP)",
            Self::Kernel => "the kernel came (HTTP)",
            Self::Initramfs => "the initramfs came (HTTP)",
            Self::Linux => "Linux runs",
            Self::LinuxAddress => "Linux has an address (DHCP)",
            Self::RootImage => "the root image came (HTTP)",
            Self::Root => "the root image runs",
            Self::MetaData => "cloud-init has the node's meta-data (HTTP)",
            Self::GroupData => "cloud-init has the group's data (HTTP)",
            Self::PhoneHome => "the node phoned home (HTTP)",
            Self::Login => "login prompt",
        }
    }
}

/// When the steps of one boot happened, counted from power-on.
#[derive(Debug, Clone, Default)]
pub struct Timeline(BTreeMap<Step, Duration>);

impl Timeline {
    /// The steps that a node has taken so far, each at its first time.
    pub fn of(journal: &Journal, node: &Node) -> Self {
        let mac = node.mac();
        let mut address = None;
        let mut steps = BTreeMap::new();
        for entry in journal.since(node.from()) {
            if let Event::Address { mac: m, ip, .. } = &entry.event
                && *m == mac
            {
                address = Some(*ip);
            }
            let step = match &entry.event {
                Event::Address { mac: m, stage, .. } if *m == mac => Some(match stage {
                    Stage::Firmware => Step::FirmwareAddress,
                    Stage::Ipxe => Step::IpxeAddress,
                    Stage::Os => Step::LinuxAddress,
                }),
                Event::Served { peer, path, how, .. } if Some(*peer) == address => served(path, *how),
                Event::Console { node: n, line } if *n == node.number => said(line),
                _ => None,
            };
            if let Some(step) = step {
                let at = entry.at.saturating_duration_since(node.since);
                steps.entry(step).or_insert(at);
            }
        }
        Self(steps)
    }

    /// When a step happened.
    pub fn at(&self, step: Step) -> Option<Duration> {
        self.0.get(&step).copied()
    }

    /// The steps that happened, in the order of a boot.
    pub fn steps(&self) -> impl Iterator<Item = (Step, Duration)> + '_ {
        self.0.iter().map(|(step, at)| (*step, *at))
    }

    /// The steps that a complete boot has and this one has not.
    pub fn missing(&self) -> Vec<Step> {
        Step::ALL
            .into_iter()
            .filter(|step| !self.0.contains_key(step))
            .collect()
    }

    /// A table: step, time since power-on, time since the step before.
    pub fn table(&self) -> String {
        let mut text = format!("{:<46}{:>10}{:>10}\n", "step", "at", "took");
        let mut before = Duration::ZERO;
        for (step, at) in self.steps() {
            let took = at.saturating_sub(before);
            before = before.max(at);
            let _ = writeln!(
                text,
                "{:<46}{:>8.1} s{:>8.1} s",
                step.words(),
                at.as_secs_f32(),
                took.as_secs_f32()
            );
        }
        text
    }
}

/// The step that ends when this was served.
fn served(path: &str, how: How) -> Option<Step> {
    let file = path.split('?').next().unwrap_or(path);
    match how {
        How::Tftp => file.ends_with(".efi").then_some(Step::Loader),
        How::HttpWrite => file.contains("/phone-home/").then_some(Step::PhoneHome),
        How::Http if file.ends_with("/boot/v1/bootscript") => Some(Step::Script),
        How::Http if file.contains("/vmlinuz") => Some(Step::Kernel),
        How::Http if file.contains("/initramfs") => Some(Step::Initramfs),
        How::Http if file.contains("/compute/base/rocky") => Some(Step::RootImage),
        How::Http if file.ends_with("/meta-data") => Some(Step::MetaData),
        How::Http if file.contains("/cloud-init/") && file.ends_with(".yaml") => Some(Step::GroupData),
        How::Http => None,
    }
}

/// The step that this line on the console tells.
fn said(line: &str) -> Option<Step> {
    if line.contains("bootd-demo: initramfs started") {
        Some(Step::Linux)
    } else if line.contains("bootd-demo: root image started") {
        Some(Step::Root)
    } else if line.ends_with(" login: ") {
        Some(Step::Login)
    } else {
        None
    }
}
