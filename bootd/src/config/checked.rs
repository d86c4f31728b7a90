//! The configuration as the code uses it: parsed, complete, consistent. Made by `check` only.

mod dhcp;
mod dhcp6;
mod pattern;

pub use dhcp::*;
pub use dhcp6::*;
pub use pattern::{BadGlob, BadName, Glob, NamePattern, hex_bytes};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bootd_sdk::wire::Rewrite;

use crate::auth::Rules;
use crate::boots::{Deadlines, Limits};

/// What bootd does, completely.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that it came from.
    pub path: PathBuf,
    /// Interfaces on which DHCP is answered; DHCPv6 may have others.
    pub interfaces: Vec<Selector>,
    /// bootd's own address towards the nodes: `next-server`, server identifier, host of boot URLs. `None`: that of the interface on which a
    /// node is heard.
    pub address: Option<Ipv4Addr>,
    /// What must survive a restart.
    pub state_dir: PathBuf,
    /// What may be thrown away.
    pub cache_dir: PathBuf,
    /// DHCP.
    pub dhcp: Dhcp,
    /// DHCPv6. `None`: it is not served.
    pub dhcp6: Option<Dhcp6>,
    /// TFTP and the loaders, which UEFI HTTP Boot gets too.
    pub tftp: Tftp,
    /// HTTP.
    pub http: Http,
    /// The Unix socket of the operator's commands.
    pub admin_socket: PathBuf,
    /// Who may write, and read what is not a node's business.
    pub auth: AuthConfig,
    /// Where artifacts come from; buckets are distinct.
    pub origins: Vec<Origin>,
    /// What is kept of them.
    pub cache: Cache,
    /// What is remembered of boots.
    pub boots: Boots,
    /// Plugins, in the order in which they are asked.
    pub plugins: Vec<PluginConfig>,
    /// Folders in which plugin files are looked for, in order.
    pub plugin_dirs: Vec<PathBuf>,
    /// What CoreDHCP did.
    pub compat: Compat,
    /// What was written, key by key, to say what a reload changes. Of a coredhcp.yaml it is what the file comes to.
    pub written: Arc<toml::Table>,
    /// How the file is read again.
    pub dialect: Dialect,
}

/// In which form the configuration is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// A `bootd.toml`, or a coredhcp.yaml by its extension.
    #[default]
    Bootd,
    /// A coredhcp.yaml, whatever its name is, and the `bootd.toml` beside it.
    Coredhcp,
}

/// For who depends on what CoreDHCP did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compat {
    /// Its packets, byte for byte, crashes and file system traversal aside (contract 8.1).
    pub strict: bool,
    /// Whom a NAK tells to begin again.
    pub bootloop_nak: BootloopNak,
    /// SQLite files of its plugins `range` and `bootloop`: read at a start when somebody else wrote them, written at a clean stop.
    pub import_leases: Vec<PathBuf>,
}

/// Which renewals of clients of a pool get a NAK (contract 2.6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BootloopNak {
    /// Those of clients that the inventory knows by now.
    #[default]
    Renewal,
    /// All of them.
    Always,
}

/// TFTP and loaders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tftp {
    /// Whether there is TFTP. Without it loaders are announced only when they are configured.
    pub serve: bool,
    /// Whether `autoexec.ipxe` is made, which iPXE fetches before it asks by DHCP.
    pub autoexec: bool,
    /// Where it listens; `::` is every address, of IPv4 too. `None`: on [`Config::address`], or on every address when subnets have others.
    pub address: Option<IpAddr>,
    /// UDP port.
    pub port: u16,
    /// Whether transfers leave from that port, too, instead of one of their own.
    pub single_port: bool,
    /// A folder of more files to serve, read at start. It need not exist.
    pub root: PathBuf,
    /// Largest blksize granted, 512 to 65464; 1468 fits an Ethernet frame.
    pub blksize: u16,
    /// Largest windowsize granted, 1 to 64 (RFC 7440).
    pub windowsize: u16,
    /// The loader of each architecture.
    pub loaders: BTreeMap<Arch, Loader>,
}

/// A loader: what the first stage of an architecture fetches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loader {
    /// The file on this machine.
    pub file: PathBuf,
    /// The configuration names it; a missing one is then a mistake.
    pub configured: bool,
}

/// Client architectures that get a loader. The names are those of the configuration, of `--arch`, and of the contract's file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// PC BIOS (option 93: 0; by HTTP 20).
    X86Bios,
    /// 32-bit x86 UEFI (6; by HTTP 15).
    I386Efi,
    /// 64-bit x86 UEFI (7, 9; by HTTP 16, 17).
    X86_64Efi,
    /// 32-bit ARM UEFI (10; by HTTP 18).
    Arm32Efi,
    /// 64-bit ARM UEFI (11; by HTTP 19).
    Arm64Efi,
}

impl Arch {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::X86Bios,
        Self::I386Efi,
        Self::X86_64Efi,
        Self::Arm32Efi,
        Self::Arm64Efi,
    ];

    /// `x86-bios`, `i386-efi`, `x86_64-efi`, `arm32-efi` or `arm64-efi`.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86Bios => "x86-bios",
            Self::I386Efi => "i386-efi",
            Self::X86_64Efi => "x86_64-efi",
            Self::Arm32Efi => "arm32-efi",
            Self::Arm64Efi => "arm64-efi",
        }
    }

    /// The file name under which its loader is served (contract 2.4).
    pub fn file_name(self) -> &'static str {
        match self {
            Self::X86Bios => "undionly.kpxe",
            Self::I386Efi => "ipxe-i386.efi",
            Self::X86_64Efi => "ipxe-x86_64.efi",
            Self::Arm32Efi => "ipxe-arm32.efi",
            Self::Arm64Efi => "ipxe-arm64.efi",
        }
    }

    /// The architecture of this [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.name() == name)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// HTTP settings.
#[derive(Debug, Clone)]
pub struct Http {
    /// The listeners; where DHCP is answered, at least one serves `boot`.
    pub listeners: Vec<Listener>,
    /// How long a plugin may take for an answer before the client gets 504.
    pub plugin_deadline: Duration,
}

/// An HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it serves.
    pub serve: BTreeSet<Service>,
    /// Whether routes that want a token are served without one.
    pub access: Access,
    /// It speaks TLS, with this pair.
    pub tls: Option<Tls>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Bytes a second that a connection gets at most.
    pub pace: Option<u64>,
}

/// A certificate and its private key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, followed by those that lead to its root.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Listener {
    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// What it serves, for humans.
    pub fn services(&self) -> String {
        let names: Vec<&str> = self.serve.iter().map(|service| service.name()).collect();
        names.join(", ")
    }
}

/// What a listener may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// The routes of the plugins.
    Boot,
    /// `/loaders/<file>`.
    Loaders,
    /// The buckets, S3 path-style, read-only.
    Artifacts,
    /// What is below `/cloud-init`, at the root.
    CloudInit,
    /// `/meta-data`, `/user-data` and `/phone-home` of BSS.
    BssRoot,
    /// The boot board, the operator's views, metrics, and whether bootd lives and is ready.
    Admin,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Boot,
        Self::Loaders,
        Self::Artifacts,
        Self::CloudInit,
        Self::BssRoot,
        Self::Admin,
    ];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Loaders => "loaders",
            Self::Artifacts => "artifacts",
            Self::CloudInit => "cloud-init",
            Self::BssRoot => "bss-root",
            Self::Admin => "admin",
        }
    }

    /// The service of this [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }
}

/// Which tokens are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// Keys of the site, beside bootd's own.
    pub jwks: Option<Jwks>,
    /// Certificates that are trusted for the URL of the keys, instead of the system's.
    pub ca: Option<PathBuf>,
    /// What tokens of the site's keys must say.
    pub rules: Rules,
    /// One of these scopes is needed to read; none: no scope is.
    pub read_scopes: Vec<String>,
    /// The same to write.
    pub write_scopes: Vec<String>,
    /// The longest that a token of `bootd token` lives.
    pub longest: Duration,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            jwks: None,
            ca: None,
            rules: Rules::default(),
            read_scopes: Vec::new(),
            write_scopes: Vec::new(),
            longest: Duration::from_secs(24 * 3600),
        }
    }
}

/// Where keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jwks {
    /// In a file.
    File(PathBuf),
    /// Behind a URL.
    Url(String),
}

impl fmt::Display for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(url),
        }
    }
}

/// What a listener asks of routes that want a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A valid token.
    Token,
    /// Nothing: said at start and in `bootd status`.
    None,
}

impl Access {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::None => "none",
        }
    }
}

/// Where a bucket's objects come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The bucket's name: the first segment of the path on the artifacts listener.
    pub bucket: String,
    /// It has the keys that begin so, and are no other origin's with a longer one; all when it is empty.
    pub prefix: String,
    /// What answers.
    pub source: Source,
    /// What is behind the key of an object that holds another one's SHA-256, such as `.sha256`.
    pub sidecar: Option<String>,
    /// URL prefixes that mean this bucket, in boot parameters; each ends with `/` and is followed by a key.
    pub prefixes: Vec<String>,
    /// Whether such URLs are led here.
    pub rewrite: bool,
}

/// What is kept of artifacts, in [`Config::cache_dir`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cache {
    /// Bytes at most; 0: nothing is kept. `None`: a share of what the file system has free.
    pub size: Option<u64>,
    /// Whether files that boot scripts name are fetched before nodes ask.
    pub warm: bool,
    /// In which time all that is kept is compared with what was fetched; zero: never.
    pub scrub: Duration,
    /// How long a node waits at most for the files of its boot script to be here; `None`: it does not.
    pub hold_back: Option<Duration>,
}

/// What is remembered of boots, and how long their stages may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Boots {
    /// How much is kept.
    pub limits: Limits,
    /// After which times a step is late.
    pub deadlines: Deadlines,
}

/// Kinds of origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An S3 service, asked path-style.
    S3 {
        /// Its URL, without a slash at the end.
        endpoint: String,
        /// Its region.
        region: String,
        /// Where the keys are that requests are signed with.
        credentials: Credentials,
    },
    /// A web server: keys are paths below this URL, which ends without a slash.
    Http(String),
    /// A folder: keys are paths in it.
    Dir(PathBuf),
}

/// Where the keys of an S3 service are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nowhere: requests are not signed.
    #[default]
    None,
    /// In a file: the access key id in its first line and the secret in its second, or sections as AWS's tools have them, of which this is one.
    File(PathBuf, Option<String>),
    /// In the environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, and maybe `AWS_SESSION_TOKEN`.
    Environment,
    /// At the metadata service of the cloud instance that this box is.
    Instance,
}

/// What it is, and where.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { endpoint, .. } => write!(f, "endpoint {endpoint}"),
            Self::Http(url) => write!(f, "http {url}"),
            Self::Dir(dir) => write!(f, "dir {}", dir.display()),
        }
    }
}

/// A plugin to load.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConfig {
    /// Its name, such as `cloud-init`.
    pub name: String,
    /// The file, when it is not `libbootd_<name>.so` in one of the plugin folders.
    pub file: Option<PathBuf>,
    /// Where its data lives.
    pub mode: Mode,
    /// Its own settings.
    pub config: serde_json::Value,
}

/// Where a plugin's data lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Here.
    Local,
    /// At the site's service; mirrored here.
    Upstream,
}

/// Something wrong in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The key, such as `dhcp.subnet[0].pool.first`.
    pub key: String,
    /// What is wrong, and what to do.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            f.write_str(&self.text)
        } else {
            write!(f, "{}: {}", self.key, self.text)
        }
    }
}

impl Config {
    /// The same with the loaders that are there or that the configuration names; clients of the other architectures are answered without one.
    /// Whose named loader is missing sees that it is, which a firmware tells better than a reply without a boot file.
    pub fn with_loaders(&self, there: impl Fn(Arch) -> bool) -> Self {
        let mut config = self.clone();
        config
            .tftp
            .loaders
            .retain(|arch, loader| loader.configured || there(*arch));
        config
    }

    /// bootd's own address towards the nodes where no packet or connection says another: [`Config::address`], else the first one that a
    /// subnet has, else none in particular (0.0.0.0).
    pub fn own_address(&self) -> Ipv4Addr {
        let of_subnets = || self.dhcp.subnets.iter().find_map(|subnet| subnet.server);
        self.address.or_else(of_subnets).unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// Where TFTP listens: [`Tftp::address`]; else one address when it is the server of all subnets and there is no DHCPv6; else every one, of
    /// both families.
    pub fn tftp_addresses(&self) -> Vec<IpAddr> {
        let one = self.dhcp.subnets.iter().all(|subnet| subnet.server == self.address);
        let of_server = self.address.filter(|_| one && self.dhcp6.is_none()).map(IpAddr::V4);
        let every = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        match self.tftp.address.or(of_server).unwrap_or(every) {
            address if address == every => vec![Ipv4Addr::UNSPECIFIED.into(), every],
            address => vec![address],
        }
    }

    /// The URL of the boot listener as nodes reach it, without a slash at the end.
    pub fn boot_url(&self) -> String {
        self.url_of(Service::Boot)
            .unwrap_or_else(|| format!("http://{}:8081", self.own_address()))
    }

    /// The URL of a boot script as nodes reach it, without the hardware address, which is to follow.
    pub fn script_url_for(&self) -> String {
        match &self.dhcp.script_url {
            Some(url) => before_mac(url),
            None => format!("{}/boot/v1/bootscript?mac=", self.boot_url()),
        }
    }

    /// The same over IPv6, where the configuration says it.
    pub fn script_url6_for(&self) -> Option<String> {
        let six = self.dhcp6.as_ref().and_then(|dhcp6| dhcp6.script_url.as_deref());
        six.or(self.dhcp.script_url.as_deref()).map(before_mac)
    }

    /// Where TFTP is served, for humans.
    pub fn tftp_text(&self) -> String {
        if !self.tftp.serve {
            return "no TFTP".into();
        }
        let addresses = self.tftp_addresses().into_iter();
        let addresses: Vec<String> = addresses
            .map(|address| SocketAddr::new(address, self.tftp.port).to_string())
            .collect();
        let one = if self.tftp.single_port {
            ", all of it from this port"
        } else {
            ""
        };
        format!("TFTP on {}{one}", addresses.join(", "))
    }

    /// The URL of the listener with this service, at bootd's own address, without a slash at the end.
    pub fn url_of(&self, service: Service) -> Option<String> {
        self.listener_of(service).map(|listener| {
            let (scheme, port) = (listener.scheme(), listener.address.port());
            match listener.address.ip() {
                ip if ip.is_unspecified() => format!("{scheme}://{}:{port}", self.own_address()),
                ip => format!("{scheme}://{}", SocketAddr::new(ip, port)),
            }
        })
    }

    /// The first listener with this service, of those without TLS if there is one: loaders from a package trust no certificate of a site.
    pub fn listener_of(&self, service: Service) -> Option<&Listener> {
        let all = || self.http.listeners.iter().filter(|l| l.serve.contains(&service));
        all().find(|listener| listener.tls.is_none()).or_else(|| all().next())
    }

    /// The first listener with this service that is reached over IPv6, of those without TLS if there is one.
    pub fn listener6_of(&self, service: Service) -> Option<&Listener> {
        let all = || {
            let listeners = self.http.listeners.iter();
            listeners.filter(|l| l.address.is_ipv6() && l.serve.contains(&service))
        };
        all().find(|listener| listener.tls.is_none()).or_else(|| all().next())
    }

    /// The origin that has a key.
    pub fn origin_of(&self, bucket: &str, key: &str) -> Option<&Origin> {
        let origins = self.origins.iter();
        let theirs = origins.filter(|origin| origin.bucket == bucket && key.starts_with(&origin.prefix));
        theirs.max_by_key(|origin| origin.prefix.len())
    }

    /// How URLs of boot parameters are led to the artifacts listener of this box, which a node reaches at `host`, an address without port.
    pub fn rewrites(&self, host: &str) -> Vec<Rewrite> {
        let Some(listener) = self.listener_of(Service::Artifacts) else {
            return Vec::new();
        };
        let (scheme, port) = (listener.scheme(), listener.address.port());
        self.origins
            .iter()
            .filter(|origin| origin.rewrite)
            .flat_map(|origin| {
                let to = format!("{scheme}://{host}:{port}/{}/{}", origin.bucket, origin.prefix);
                origin.prefixes.iter().map(move |from| Rewrite {
                    from: format!("{from}{}", origin.prefix),
                    to: to.clone(),
                })
            })
            .collect()
    }
}

fn before_mac(script_url: &str) -> String {
    let joint = if script_url.contains('?') { '&' } else { '?' };
    format!("{script_url}{joint}mac=")
}
