//! The `config` table, in either mode. A key of the other mode is a mistake.

use std::path::PathBuf;

use bootd_sdk::file::Paths;
use bootd_sdk::upstream::{self, HoldBack, Refresh, Token, Url};
use serde::{Deserialize, Deserializer};

use crate::network::Networks;

/// The `config` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Settings {
    /// The data are kept here.
    Local(LocalSettings),
    /// The site's are mirrored.
    Upstream(UpstreamSettings),
}

/// In local mode.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalSettings {
    /// The cluster's defaults, as `ochami cloud-init defaults set` reads them.
    #[serde(default)]
    pub(crate) defaults: Option<PathBuf>,
    /// Files of groups, as `ochami cloud-init group set` reads them.
    #[serde(default)]
    pub(crate) groups: Paths,
    /// What is different about single nodes, as `ochami cloud-init node set` reads it.
    #[serde(default)]
    pub(crate) instances: Option<PathBuf>,
    /// Whether who has a token may read the documents of any node. `ochami cloud-init group render` and `node get` need it.
    #[serde(default = "yes")]
    pub(crate) impersonation: bool,
    /// Serves `network-config`: fixed addresses in the networks of these names, DHCP on all other interfaces. Unset: 404.
    #[serde(default)]
    pub(crate) network_config: Option<Networks>,
}

/// In upstream mode.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSettings {
    /// The site, or its metadata-service.
    url: SiteUrl,
    /// Certificates that are trusted instead of the system's.
    #[serde(default)]
    ca: Option<PathBuf>,
    /// What is shown to the site.
    #[serde(default)]
    token: Option<Token>,
    /// Seconds between two refreshes.
    #[serde(default)]
    refresh_s: Refresh,
    /// What is not believed at once.
    #[serde(default)]
    hold_back: HoldBack,
    /// What the site's documents call its boot listener, besides `url`.
    #[serde(default)]
    from: Vec<Url>,
    /// Whether nodes are led to this box where documents name the site.
    #[serde(default = "yes")]
    pub(crate) rewrite: bool,
    /// Which service the site has.
    #[serde(default)]
    pub(crate) api: Api,
    /// How the site is asked for what is different about single nodes.
    #[serde(default)]
    pub(crate) instance: Instances,
    /// As in local mode.
    #[serde(default = "yes")]
    pub(crate) impersonation: bool,
    /// As in local mode.
    #[serde(default)]
    pub(crate) network_config: Option<Networks>,
}

impl UpstreamSettings {
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
            (Api::CloudInit, _) => CLOUD_INIT,
            (Api::MetadataService, false) => METADATA_SERVICE,
            (Api::MetadataService, true) => "",
        }
    }

    /// What the URLs of the site's documents begin with.
    pub(crate) fn names(&self) -> Vec<String> {
        let service = match self.api {
            Api::CloudInit => CLOUD_INIT,
            Api::MetadataService => METADATA_SERVICE,
        };
        let own = format!("{}{}", self.url.url.text(), self.service());
        let others = self.from.iter().map(|from| format!("{}{service}", from.text()));
        std::iter::once(own).chain(others).collect()
    }
}

/// A URL, and whether it has a path, be it only `/`: metadata-service is below one at OpenCHAMI's gateway, and has none of its own.
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

/// The services that a site may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Api {
    /// OpenCHAMI's cloud-init, or a bootd in local mode.
    #[default]
    CloudInit,
    /// What came after it: read only.
    MetadataService,
}

/// How overrides of single nodes are read: the site's cloud-init lists none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Instances {
    /// They are not.
    #[default]
    None,
    /// An administrator may ask as any node, where the site has that on.
    Impersonate,
    /// In the node's name, where the site believes `X-Forwarded-For`.
    Forwarded,
}

fn yes() -> bool {
    true
}

/// Where a site has the older service.
const CLOUD_INIT: &str = "/cloud-init";
/// Where the gateway of OpenCHAMI's newer releases has the newer one.
const METADATA_SERVICE: &str = "/metadata-service";
