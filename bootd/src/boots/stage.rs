//! The stages of a boot, in their order, and how long the next one may take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A stage of a boot. The order is that of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The firmware has an address.
    FirmwareDhcp,
    /// The loader.
    Loader,
    /// iPXE has an address.
    IpxeDhcp,
    /// The boot script.
    Script,
    /// The kernel.
    Kernel,
    /// The initramfs, all of them when there are several.
    Initramfs,
    /// The initramfs, or the operating system, has an address.
    OsDhcp,
    /// The root image.
    Root,
    /// cloud-init's meta-data.
    MetaData,
    /// The documents of the node's groups, behind user-data and vendor-data.
    CloudConfig,
    /// The node said that it is done.
    PhoneHome,
}

impl Stage {
    /// All of them, in their order.
    pub const ALL: [Self; 11] = [
        Self::FirmwareDhcp,
        Self::Loader,
        Self::IpxeDhcp,
        Self::Script,
        Self::Kernel,
        Self::Initramfs,
        Self::OsDhcp,
        Self::Root,
        Self::MetaData,
        Self::CloudConfig,
        Self::PhoneHome,
    ];

    /// The name in JSON, metrics and the configuration: `firmware-dhcp`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FirmwareDhcp => "firmware-dhcp",
            Self::Loader => "loader",
            Self::IpxeDhcp => "ipxe-dhcp",
            Self::Script => "script",
            Self::Kernel => "kernel",
            Self::Initramfs => "initramfs",
            Self::OsDhcp => "os-dhcp",
            Self::Root => "root",
            Self::MetaData => "meta-data",
            Self::CloudConfig => "cloud-config",
            Self::PhoneHome => "phone-home",
        }
    }

    /// The stage of this [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }

    /// Its place in [`Self::ALL`].
    pub const fn number(self) -> usize {
        self as usize
    }

    /// What it is in a sentence: "the kernel".
    pub const fn noun(self) -> &'static str {
        match self {
            Self::FirmwareDhcp => "an address for its firmware",
            Self::Loader => "the loader",
            Self::IpxeDhcp => "an address for iPXE",
            Self::Script => "its boot script",
            Self::Kernel => "the kernel",
            Self::Initramfs => "the initramfs",
            Self::OsDhcp => "an address for its system",
            Self::Root => "the root image",
            Self::MetaData => "cloud-init's meta-data",
            Self::CloudConfig => "its groups' cloud-config",
            Self::PhoneHome => "phone-home",
        }
    }
}

/// How long a stage may take to come, counted from the last thing that its node did. What a machine does in between differs: a kernel that
/// starts needs longer than a firmware that has its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines([Duration; Stage::ALL.len()]);

impl Deadlines {
    /// The time until a stage.
    pub fn of(&self, stage: Stage) -> Duration {
        self.0.get(stage.number()).copied().unwrap_or_default()
    }

    /// Sets one.
    pub fn set(&mut self, stage: Stage, time: Duration) {
        if let Some(place) = self.0.get_mut(stage.number()) {
            *place = time;
        }
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self(Stage::ALL.map(|stage| {
            Duration::from_secs(match stage {
                Stage::FirmwareDhcp => 15,
                Stage::Loader => 20,
                // The loader starts, and some network cards need long for their link.
                Stage::IpxeDhcp => 60,
                Stage::Script | Stage::Kernel | Stage::Initramfs => 20,
                // The kernel and its drivers start.
                Stage::OsDhcp | Stage::Root => 60,
                Stage::MetaData => 180,
                Stage::CloudConfig => 60,
                Stage::PhoneHome => 600,
            })
        }))
    }
}
