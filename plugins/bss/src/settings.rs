//! The `config` table of each mode. A mistake in it names its key.

use bootd_sdk::file::Paths;
use bootd_sdk::upstream::{self, HoldBack, Refresh, Token, Url};
use serde::{Deserialize, Deserializer};

use crate::rules;

/// The table, by mode.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Settings {
    /// The boot parameters are kept here.
    Local(Local),
    /// A site's are mirrored.
    Upstream(Upstream),
}

/// The table in local mode.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Local {
    /// Boot parameter files, as `ochami bss boot params set` reads them.
    #[serde(default)]
    pub(crate) boot: Paths,
    #[serde(default = "retry_delay")]
    retry_delay_s: u32,
    #[serde(default = "poll_delay")]
    poll_delay_s: u32,
    #[serde(default, deserialize_with = "rules::advertised")]
    advertise: Option<String>,
    #[serde(default)]
    legacy_cloud_init: bool,
}

/// The table in upstream mode.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The site, or its boot-service.
    url: SiteUrl,
    /// PEM certificates that are trusted for it instead of the system's.
    #[serde(default)]
    ca: Option<std::path::PathBuf>,
    /// The token that is shown to it.
    #[serde(default)]
    token: Option<Token>,
    /// Seconds between two refreshes.
    #[serde(default)]
    refresh_s: Refresh,
    /// What is not believed at once.
    #[serde(default)]
    hold_back: HoldBack,
    /// How boot parameters name the site; its URL always counts.
    #[serde(default)]
    from: Vec<Url>,
    /// What the site runs.
    #[serde(default)]
    pub(crate) api: Api,
    /// Whether URLs that name the site lead to this box.
    #[serde(default = "yes")]
    pub(crate) rewrite: bool,
    #[serde(default = "retry_delay")]
    retry_delay_s: u32,
    #[serde(default = "poll_delay")]
    poll_delay_s: u32,
    #[serde(default, deserialize_with = "rules::advertised")]
    advertise: Option<String>,
    #[serde(default)]
    legacy_cloud_init: bool,
}

/// Which service a site has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Api {
    /// BSS, or a bootd in local mode.
    #[default]
    Bss,
    /// The one of OpenCHAMI's newer releases. Read only.
    BootService,
}

/// What both modes have.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    /// Seconds that a node waits at most after a boot that failed, before it asks again. It waits one at first, and longer each time.
    pub(crate) retry_delay_s: u32,
    /// Seconds that a node without parameters waits before it asks again.
    pub(crate) poll_delay_s: u32,
    /// Where cloud-init is: appended as `ds=nocloud-net;s=ADVERTISE/` to parameters without `ds=`. Unset: nothing is appended.
    pub(crate) advertise: Option<String>,
    /// Serves `/meta-data`, `/user-data` and `/phone-home` at the root, as BSS once did.
    pub(crate) legacy_cloud_init: bool,
}

impl Settings {
    pub(crate) fn common(&self) -> Common {
        match self {
            Self::Local(local) => Common {
                retry_delay_s: local.retry_delay_s,
                poll_delay_s: local.poll_delay_s,
                advertise: local.advertise.clone(),
                legacy_cloud_init: local.legacy_cloud_init,
            },
            Self::Upstream(upstream) => Common {
                retry_delay_s: upstream.retry_delay_s,
                poll_delay_s: upstream.poll_delay_s,
                advertise: upstream.advertise.clone(),
                legacy_cloud_init: upstream.legacy_cloud_init,
            },
        }
    }
}

impl Upstream {
    /// How the site is reached.
    pub(crate) fn site(&self) -> upstream::Settings {
        upstream::Settings {
            url: self.url.url.clone(),
            ca: self.ca.clone(),
            token: self.token.clone(),
            refresh: self.refresh_s,
            hold_back: self.hold_back,
        }
    }

    /// The service's path below the URL.
    pub(crate) fn service(&self) -> &'static str {
        match (self.api, self.url.has_path) {
            (Api::Bss, _) => "/boot/v1",
            (Api::BootService, false) => BOOT_SERVICE,
            (Api::BootService, true) => "",
        }
    }

    /// The URLs that name the site, without the path of its boot-service: all of a site is at its gateway.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let url = self.url.url.text();
        let url = match self.api {
            Api::Bss => url,
            Api::BootService => url.strip_suffix(BOOT_SERVICE).unwrap_or(url),
        };
        std::iter::once(url).chain(self.from.iter().map(Url::text))
    }
}

/// A URL, and whether it has a path, be it only `/`: boot-service is below one at OpenCHAMI's gateway, and has none of its own.
#[derive(Debug, Clone)]
struct SiteUrl {
    url: Url,
    has_path: bool,
}

impl<'de> Deserialize<'de> for SiteUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self {
            has_path: text.split_once("://").is_some_and(|(_, rest)| rest.contains('/')),
            url: Url::deserialize(serde::de::value::StringDeserializer::new(text))?,
        })
    }
}

fn retry_delay() -> u32 {
    30
}

fn poll_delay() -> u32 {
    10
}

fn yes() -> bool {
    true
}

/// Where the gateway of OpenCHAMI's newer releases has boot-service.
const BOOT_SERVICE: &str = "/boot-service";
