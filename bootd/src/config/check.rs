//! From what was written to a [`Config`]: the only way there.
//!
//! Goes through the whole file and collects every mistake with its key; nothing here stops at the first one. Touches no file but the
//! path of its own binary.

mod dhcp;
mod dhcp6;
mod listeners;
mod options;
mod options6;
mod rules;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::LOADERS;
use super::checked::{
    Arch, AuthConfig, BootloopNak, Boots, Cache, Compat, Config, Credentials, Glob, Jwks, Listener, Loader, Mistake,
    Mode, Origin, PluginConfig, Selector, Service, Source, Tftp,
};
use super::raw::{self, Field, Raw};
use crate::auth::Rules;
use crate::boots::Stage;

/// Makes a [`Config`], or lists everything that keeps it from being one.
pub(super) fn check(raw: Raw, path: &Path) -> Result<Config, Vec<Mistake>> {
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let mut m = Mistakes {
        list: Vec::new(),
        folder,
    };
    m.unknown("", &raw.unknown_keys, Raw::KEYS);

    let server = m.table("server", raw.server);
    m.unknown("server", &server.unknown_keys, raw::Server::KEYS);
    let interfaces: Vec<String> = m.optional("server.interfaces", server.interfaces).unwrap_or_default();
    let interfaces: Vec<Selector> = interfaces
        .iter()
        .enumerate()
        .filter_map(|(i, text)| selector(&mut m, &format!("server.interfaces[{i}]"), text))
        .collect();
    let address = m.optional("server.address", server.address);
    let address: Option<Ipv4Addr> = m.parsed("server.address", address);
    if address.is_some_and(|ip| ip.is_unspecified()) {
        m.wrong(
            "server.address",
            "0.0.0.0 is nobody's address; leave it out for that of the interface on which a node is heard",
        );
    }
    let state_dir = m.path("server.state_dir", server.state_dir, "/var/lib/bootd");
    let cache_dir = m.path("server.cache_dir", server.cache_dir, "/var/cache/bootd");

    let compat = compat(&mut m, raw.compat);
    let dhcp = dhcp::dhcp(&mut m, raw.dhcp, address);
    let dhcp6 = dhcp6::dhcp6(&mut m, raw.dhcp6, dhcp.lease_time, &interfaces);
    if !interfaces.is_empty() && dhcp.subnets.is_empty() && dhcp6.is_none() && !m.has("dhcp") {
        m.wrong(
            "dhcp.subnet",
            "missing: server.interfaces are to answer DHCP, so at least one [[dhcp.subnet]] is needed",
        );
    }
    let tftp = tftp(&mut m, raw.tftp);
    let http = listeners::http(&mut m, raw.http, dhcp6.is_some());
    let serves_scripts = http
        .listeners
        .iter()
        .any(|listener| listener.serve.contains(&Service::Boot));
    if !interfaces.is_empty() && tftp.serve && !serves_scripts && dhcp.script_url.is_none() && !m.has("http.listener") {
        m.wrong(
            "http.listener",
            "none serves \"boot\", so no node would get a boot script",
        );
    }
    let admin = m.table("admin", raw.admin);
    m.unknown("admin", &admin.unknown_keys, raw::Admin::KEYS);
    let admin_socket = m.path("admin.socket", admin.socket, ADMIN_SOCKET);
    let auth = auth(&mut m, raw.auth);
    let origins = origins(&mut m, raw.origin);
    let cache = m.table("cache", raw.cache);
    m.unknown("cache", &cache.unknown_keys, raw::Cache::KEYS);
    let cache = Cache {
        size: m.bytes("cache.size", cache.size),
        warm: m.optional("cache.warm", cache.warm).unwrap_or(true),
        scrub: m.time("cache.scrub", cache.scrub).unwrap_or(A_WEEK),
        hold_back: m
            .time("cache.hold_back", cache.hold_back)
            .filter(|time| !time.is_zero()),
    };
    let boots = boot_timelines(&mut m, raw.boots);
    let plugins = plugins(&mut m, raw.plugin);
    sites(&mut m, &plugins, &http.listeners, address);
    let dirs = m.table("plugins", raw.plugins);
    m.unknown("plugins", &dirs.unknown_keys, raw::Plugins::KEYS);
    let dirs: Option<Vec<String>> = m.optional("plugins.dirs", dirs.dirs);
    let plugin_dirs = dirs.map_or_else(default_plugin_dirs, |dirs| {
        dirs.iter().map(|dir| m.folder.join(dir)).collect()
    });

    if m.list.is_empty() {
        let path = path.to_path_buf();
        Ok(Config {
            path,
            interfaces,
            address,
            state_dir,
            cache_dir,
            dhcp,
            dhcp6,
            tftp,
            http,
            admin_socket,
            auth,
            origins,
            cache,
            boots,
            plugins,
            plugin_dirs,
            compat,
            written: std::sync::Arc::default(),
            dialect: super::Dialect::default(),
        })
    } else {
        Err(m.list)
    }
}

fn selector(m: &mut Mistakes, key: &str, text: &str) -> Option<Selector> {
    if let Ok(ip) = text.parse() {
        return Some(Selector::Address(ip));
    }
    if text.is_empty() || text.len() > 15 || text.contains(['/', ' ', '%']) {
        m.wrong(
            key,
            format!(
                "'{text}' is not the name of a network interface, a pattern of names such as vlan*, or an IP address"
            ),
        );
        return None;
    }
    Some(match Glob::text(text) {
        Ok(pattern) if text.contains('*') => Selector::Pattern(pattern),
        _ => Selector::Name(text.into()),
    })
}

fn boot_timelines(m: &mut Mistakes, raw: Field<raw::Boots>) -> Boots {
    let raw = m.table("boots", raw);
    m.unknown("boots", &raw.unknown_keys, raw::Boots::KEYS);
    let mut boots = Boots::default();
    if let Some(attempts) = m.optional("boots.attempts", raw.attempts) {
        if attempts > 100 {
            m.wrong("boots.attempts", format!("{attempts} is not between 0 and 100"));
        }
        boots.limits.attempts = attempts.into();
    }
    let deadlines: BTreeMap<String, Field<String>> = m.optional("boots.deadlines", raw.deadlines).unwrap_or_default();
    for (name, time) in deadlines {
        let key = format!("boots.deadlines.{name}");
        let time = m.time(&key, time);
        match (Stage::from_name(&name), time) {
            (Some(stage), Some(time)) if !time.is_zero() => boots.deadlines.set(stage, time),
            (Some(_), Some(_)) => m.wrong(key, "must be longer than 0s"),
            (Some(_), None) => {}
            (None, _) => {
                let known = Stage::ALL.map(Stage::name).join(", ");
                m.wrong(key, format!("no such stage of a boot; there are {known}"));
            }
        }
    }
    boots
}

fn compat(m: &mut Mistakes, raw: Field<raw::Compat>) -> Compat {
    let raw = m.table("compat", raw);
    m.unknown("compat", &raw.unknown_keys, raw::Compat::KEYS);
    let mut import_leases = Vec::new();
    for (i, raw) in m.list("compat.import_leases", raw.import_leases) {
        let key = format!("compat.import_leases[{i}]");
        m.unknown(&key, &raw.unknown_keys, raw::Import::KEYS);
        let file: Option<String> = m.required(&format!("{key}.file"), raw.file, "an SQLite file of CoreDHCP");
        import_leases.extend(file.map(|file| m.folder.join(file)));
    }
    let choices = [("renewal", BootloopNak::Renewal), ("always", BootloopNak::Always)];
    Compat {
        strict: m.optional("compat.strict", raw.strict).unwrap_or_default(),
        bootloop_nak: m
            .choice("compat.bootloop_nak", raw.bootloop_nak, &choices)
            .unwrap_or_default(),
        import_leases,
    }
}

fn auth(m: &mut Mistakes, raw: Field<raw::Auth>) -> AuthConfig {
    let raw = m.table("auth", raw);
    m.unknown("auth", &raw.unknown_keys, raw::Auth::KEYS);
    let jwks: Option<String> = m.optional("auth.jwks", raw.jwks);
    let ca: Option<String> = m.optional("auth.ca", raw.ca);
    let jwks = jwks.map(|text| match text.split_once("://") {
        Some(("http" | "https", _)) => Jwks::Url(text),
        _ => Jwks::File(m.folder.join(text)),
    });
    let config = AuthConfig {
        ca: ca.map(|ca| m.folder.join(ca)),
        rules: Rules {
            issuers: m.optional("auth.issuers", raw.issuers).unwrap_or_default(),
            audiences: m.optional("auth.audiences", raw.audiences).unwrap_or_default(),
        },
        read_scopes: m.optional("auth.read_scopes", raw.read_scopes).unwrap_or_default(),
        write_scopes: m.optional("auth.write_scopes", raw.write_scopes).unwrap_or_default(),
        longest: m.duration("auth.longest", raw.longest, AuthConfig::default().longest),
        jwks,
    };
    if config.jwks.is_some() && config.rules.audiences.is_empty() {
        m.wrong(
            "auth.audiences",
            "missing: with auth.jwks it says whose tokens are meant, or tokens for every other service would be good here, too",
        );
    }
    config
}

/// The admin socket alone.
pub(super) fn admin_socket(raw: Raw, path: &Path) -> Option<PathBuf> {
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let mut m = Mistakes {
        list: Vec::new(),
        folder,
    };
    let admin = m.table("admin", raw.admin);
    let socket = m.path("admin.socket", admin.socket, ADMIN_SOCKET);
    m.list.is_empty().then_some(socket)
}

const ADMIN_SOCKET: &str = "/run/bootd/admin.sock";
const A_WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

fn tftp(m: &mut Mistakes, raw: Field<raw::Tftp>) -> Tftp {
    let raw = m.table("tftp", raw);
    m.unknown("tftp", &raw.unknown_keys, raw::Tftp::KEYS);
    let root = m.path("tftp.root", raw.root, LOADERS);
    let blksize = m.optional("tftp.blksize", raw.blksize).unwrap_or(1468);
    if !(512..=65464).contains(&blksize) {
        m.wrong("tftp.blksize", format!("{blksize} is not between 512 and 65464"));
    }
    let windowsize = m.optional("tftp.windowsize", raw.windowsize).unwrap_or(16);
    if !(1..=64).contains(&windowsize) {
        m.wrong("tftp.windowsize", format!("{windowsize} is not between 1 and 64"));
    }
    let debian = |file: &str| Loader {
        file: Path::new("/usr/lib/ipxe").join(file),
        configured: false,
    };
    let mut loaders: BTreeMap<Arch, Loader> = Arch::ALL
        .map(|arch| {
            (
                arch,
                Loader {
                    file: root.join(arch.file_name()),
                    configured: false,
                },
            )
        })
        .into();
    loaders.insert(Arch::X86Bios, debian("undionly.kpxe"));
    loaders.insert(Arch::X86_64Efi, debian("ipxe.efi"));
    let configured: BTreeMap<String, Field<String>> = m.optional("tftp.loaders", raw.loaders).unwrap_or_default();
    for (name, file) in configured {
        let key = format!("tftp.loaders.{name}");
        let file = m.required(&key, file, "the loader's file");
        match (Arch::from_name(&name), file) {
            (Some(arch), Some(file)) => {
                loaders.insert(
                    arch,
                    Loader {
                        file: m.folder.join(file),
                        configured: true,
                    },
                );
            }
            (Some(_), None) => {}
            (None, _) => {
                let known = Arch::ALL.map(Arch::name).join(", ");
                m.wrong(key, format!("no such architecture; there are {known}"));
            }
        }
    }
    let address = m.optional("tftp.address", raw.address);
    let serve = m.optional("tftp.serve", raw.serve).unwrap_or(true);
    // Loaders that nobody asked for are not announced where nobody serves them.
    loaders.retain(|_, loader| serve || loader.configured);
    Tftp {
        serve,
        autoexec: m.optional("tftp.autoexec", raw.autoexec).unwrap_or(true),
        address: m.parsed("tftp.address", address),
        port: m.port("tftp.port", raw.port, 69),
        single_port: m.optional("tftp.single_port", raw.single_port).unwrap_or(false),
        root,
        blksize,
        windowsize,
        loaders,
    }
}

fn origins(m: &mut Mistakes, raw: Field<Vec<Field<raw::Origin>>>) -> Vec<Origin> {
    let mut origins: Vec<Origin> = Vec::new();
    for (i, raw) in m.list("origin", raw) {
        let key = format!("origin[{i}]");
        m.unknown(&key, &raw.unknown_keys, raw::Origin::KEYS);
        let bucket_key = format!("{key}.bucket");
        let bucket: Option<String> =
            m.required(&bucket_key, raw.bucket, "the bucket's name, the first part of its URLs");
        let bucket = bucket.filter(|name| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            let good = !name.is_empty() && name.len() <= 63 && name.bytes().all(fits) && !name.starts_with('.');
            if !good {
                m.wrong(
                    &bucket_key,
                    format!("'{name}' is not a bucket name: letters, digits, '.', '-', '_', at most 63"),
                );
            }
            good
        });
        let prefix = key_prefix(m, &format!("{key}.prefix"), raw.prefix);
        let sidecar: Option<String> = m.optional(&format!("{key}.sidecar"), raw.sidecar);
        if let Some(suffix) = sidecar
            .as_ref()
            .filter(|suffix| suffix.is_empty() || suffix.contains('/'))
        {
            m.wrong(
                format!("{key}.sidecar"),
                format!("'{suffix}' is not the end of a name, such as \".sha256\""),
            );
        }
        let is_same = |other: &Origin| Some(&other.bucket) == bucket.as_ref() && other.prefix == prefix;
        if let Some(other) = origins.iter().position(is_same) {
            let text = format!("is origin[{other}]'s already; several origins of a bucket need a prefix each");
            m.wrong(&bucket_key, text);
        }
        let endpoint = m.url(&format!("{key}.endpoint"), raw.endpoint);
        let http = m.url(&format!("{key}.http"), raw.http);
        let dir: Option<String> = m.optional(&format!("{key}.dir"), raw.dir);
        let region: Option<String> = m.optional(&format!("{key}.region"), raw.region);
        let credentials = credentials(m, &key, raw.credentials, raw.profile, raw.credentials_from);
        if endpoint.is_none() && (region.is_some() || credentials != Credentials::None) {
            m.wrong(&key, "region and credentials go with endpoint");
        }
        let mut from: Vec<String> = m.optional(&format!("{key}.from"), raw.from).unwrap_or_default();
        for (j, prefix) in from.iter_mut().enumerate() {
            if !prefix.contains("://") || prefix.contains(char::is_whitespace) {
                m.wrong(
                    format!("{key}.from[{j}]"),
                    format!("'{prefix}' is not the beginning of a URL, such as http://10.0.0.1:9000/"),
                );
            }
            if !prefix.ends_with('/') {
                prefix.push('/');
            }
        }
        let rewrite = m.optional(&format!("{key}.rewrite"), raw.rewrite).unwrap_or(true);
        let bucket = bucket.unwrap_or_default();
        let mut prefixes: Vec<String> = from.iter().map(|prefix| format!("{prefix}{bucket}/")).collect();
        let source = match (endpoint, http, dir) {
            (Some(endpoint), None, None) => {
                prefixes.push(format!("{endpoint}/{bucket}/"));
                Source::S3 {
                    endpoint,
                    region: region.unwrap_or_else(|| "us-east-1".into()),
                    credentials,
                }
            }
            (None, Some(url), None) => {
                prefixes.push(format!("{url}/"));
                Source::Http(url)
            }
            (None, None, Some(dir)) => Source::Dir(m.folder.join(dir)),
            _ if m.has(&key) => continue,
            _ => {
                m.wrong(&key, "needs exactly one of endpoint (S3), http and dir");
                continue;
            }
        };
        prefixes.dedup();
        origins.push(Origin {
            bucket,
            prefix,
            sidecar,
            source,
            prefixes,
            rewrite,
        });
    }
    origins
}

/// The beginning of keys; none begins with a slash, or leads anywhere.
fn key_prefix(m: &mut Mistakes, key: &str, raw: Field<String>) -> String {
    let prefix: String = m.optional(key, raw).unwrap_or_default();
    let mut segments = prefix.split('/').rev();
    // The last one may be the beginning of a name.
    let last = segments.next().unwrap_or_default();
    let is_bad = |segment: &str| matches!(segment, "" | "." | "..");
    if segments.any(is_bad) || matches!(last, "." | "..") || prefix.chars().any(char::is_control) {
        m.wrong(
            key,
            format!("'{prefix}' is not the beginning of a key, such as \"efi-images/\""),
        );
    }
    prefix
}

fn credentials(
    m: &mut Mistakes,
    key: &str,
    file: Field<String>,
    profile: Field<String>,
    from: Field<String>,
) -> Credentials {
    let file: Option<String> = m.optional(&format!("{key}.credentials"), file);
    let profile: Option<String> = m.optional(&format!("{key}.profile"), profile);
    let from_key = format!("{key}.credentials_from");
    let from: Option<String> = m.optional(&from_key, from);
    if profile.is_some() && file.is_none() {
        m.wrong(format!("{key}.profile"), "goes with credentials, the file that has it");
    }
    match (file, from.as_deref()) {
        (None, None) => Credentials::None,
        (Some(file), None) => Credentials::File(m.folder.join(file), profile),
        (None, Some("environment")) => Credentials::Environment,
        (None, Some("instance")) => Credentials::Instance,
        (Some(_), Some(_)) => {
            m.wrong(from_key, "there are credentials already: only one of the two");
            Credentials::None
        }
        (None, Some(other)) => {
            m.wrong(from_key, format!("'{other}' is not \"environment\" or \"instance\""));
            Credentials::None
        }
    }
}

/// A box that mirrors itself would look well, and have nothing.
fn sites(m: &mut Mistakes, plugins: &[PluginConfig], listeners: &[Listener], own: Option<Ipv4Addr>) {
    for (at, plugin) in plugins.iter().enumerate().filter(|(_, p)| p.mode == Mode::Upstream) {
        let url = plugin.config["url"].as_str().and_then(|url| url::Url::parse(url).ok());
        let Some(url) = url else { continue };
        let is_own = |listener: &Listener| {
            let mut ips = [listener.address.ip()].into_iter().chain(own.map(Into::into));
            Some(listener.address.port()) == url.port_or_known_default()
                && ips.any(|ip| url.host_str() == Some(ip.to_string().as_str()))
        };
        if listeners.iter().any(is_own) {
            m.wrong(
                format!("plugin[{at}].config.url"),
                "is this box itself, which would mirror its own mirror; name the site",
            );
        }
    }
}

fn plugins(m: &mut Mistakes, raw: Field<Vec<Field<raw::Plugin>>>) -> Vec<PluginConfig> {
    let mut plugins: Vec<PluginConfig> = Vec::new();
    for (i, raw) in m.list("plugin", raw) {
        let key = format!("plugin[{i}]");
        m.unknown(&key, &raw.unknown_keys, raw::Plugin::KEYS);
        let name_key = format!("{key}.name");
        let name: Option<String> = m.required(&name_key, raw.name, "the plugin's name, such as \"smd\"");
        let mode: Option<String> = m.optional(&format!("{key}.mode"), raw.mode);
        let mode = match mode.as_deref() {
            None | Some("local") => Mode::Local,
            Some("upstream") => Mode::Upstream,
            Some(other) => {
                m.wrong(
                    format!("{key}.mode"),
                    format!("'{other}' is neither \"local\" nor \"upstream\""),
                );
                Mode::Local
            }
        };
        let file: Option<String> = m.optional(&format!("{key}.file"), raw.file);
        let config: toml::Table = m.optional(&format!("{key}.config"), raw.config).unwrap_or_default();
        let Some(name) = name else { continue };
        if name.is_empty()
            || !name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            m.wrong(
                name_key,
                format!("'{name}' is not a plugin name: lower-case letters, digits and '-'"),
            );
        } else if let Some(other) = plugins.iter().position(|p| p.name == name) {
            m.wrong(name_key, format!("'{name}' is plugin[{other}] already"));
        } else {
            let config = serde_json::to_value(config).unwrap_or_default();
            plugins.push(PluginConfig {
                name,
                file: file.map(|file| m.folder.join(file)),
                mode,
                config,
            });
        }
    }
    plugins
}

/// Beside the binary, then where packages put them.
fn default_plugin_dirs() -> Vec<PathBuf> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_path_buf));
    beside
        .into_iter()
        .chain([PathBuf::from("/usr/lib/bootd/plugins")])
        .collect()
}

/// Collects mistakes while values are taken out of their fields.
struct Mistakes {
    list: Vec<Mistake>,
    /// Relative paths are relative to this folder.
    folder: PathBuf,
}

impl Mistakes {
    fn wrong(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.list.push(Mistake {
            key: key.into(),
            text: text.into(),
        });
    }

    /// Whether a mistake was found in this part of the file.
    fn has(&self, key: &str) -> bool {
        self.list.iter().any(|mistake| mistake.key.starts_with(key))
    }

    fn unknown(&mut self, table: &str, unknown: &BTreeMap<String, toml::Value>, known: &[&str]) {
        for name in unknown.keys() {
            let key = if table.is_empty() {
                name.clone()
            } else {
                format!("{table}.{name}")
            };
            let known: Vec<&str> = known.iter().map(|name| name.trim_start_matches("r#")).collect();
            self.wrong(key, format!("no such key; there are {}", known.join(", ")));
        }
    }

    fn optional<T>(&mut self, key: &str, field: Field<T>) -> Option<T> {
        match field {
            Field::Absent => None,
            Field::Value(value) => Some(value),
            Field::Wrong(text) => {
                self.wrong(key, text);
                None
            }
        }
    }

    fn required<T>(&mut self, key: &str, field: Field<T>, meaning: &str) -> Option<T> {
        if matches!(field, Field::Absent) {
            self.wrong(key, format!("missing: {meaning}"));
        }
        self.optional(key, field)
    }

    fn table<T: Default>(&mut self, key: &str, field: Field<T>) -> T {
        self.optional(key, field).unwrap_or_default()
    }

    /// The elements of an array of tables, each with its place.
    fn list<T>(&mut self, key: &str, field: Field<Vec<Field<T>>>) -> Vec<(usize, T)> {
        let fields = self.optional(key, field).unwrap_or_default().into_iter().enumerate();
        fields
            .filter_map(|(i, field)| Some((i, self.optional(&format!("{key}[{i}]"), field)?)))
            .collect()
    }

    fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, key: &str, text: Option<String>) -> Option<T> {
        let text = text?;
        text.parse()
            .map_err(|error: T::Err| self.wrong(key, format!("'{text}': {error}")))
            .ok()
    }

    /// One of a few words.
    fn choice<T: Copy>(&mut self, key: &str, field: Field<String>, choices: &[(&str, T)]) -> Option<T> {
        let text: String = self.optional(key, field)?;
        let found = choices.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.wrong(key, format!("'{text}' is not one of {}", words.join(", ")));
        }
        found.map(|(_, value)| *value)
    }

    /// Each element of a list, parsed; those that cannot be are mistakes.
    fn each<T, E: fmt::Display>(
        &mut self,
        key: &str,
        field: Field<Vec<String>>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let texts = self.optional(key, field).unwrap_or_default().into_iter().enumerate();
        texts
            .filter_map(|(i, text)| {
                parse(&text)
                    .map_err(|error| self.wrong(format!("{key}[{i}]"), format!("'{text}': {error}")))
                    .ok()
            })
            .collect()
    }

    /// A list of words, none of them empty.
    fn words(&mut self, key: &str, field: Field<Vec<String>>) -> Vec<String> {
        self.each(key, field, |text| match text.is_empty() {
            true => Err("an empty word"),
            false => Ok(text.to_owned()),
        })
    }

    fn mask(&mut self, key: &str, text: &str) -> Option<Ipv4Addr> {
        options::mask(text).map_err(|error| self.wrong(key, error)).ok()
    }

    /// A domain name; an empty text is none.
    fn domain(&mut self, key: &str, field: Field<String>) -> Option<String> {
        let domain: String = self.optional(key, field)?;
        if !options::is_domain(&domain) {
            self.wrong(
                key,
                format!("'{domain}' is not a domain name, such as openchami.cluster"),
            );
        }
        Some(domain)
    }

    /// What goes into option 67: a name or a URL.
    fn boot_file(&mut self, key: &str, field: Field<String>) -> Option<String> {
        let text: String = self.optional(key, field)?;
        if text.is_empty() || text.len() > 512 || text.contains(char::is_control) {
            self.wrong(key, "is not the name of a file, or a URL");
            return None;
        }
        Some(text)
    }

    /// A URL to which a query is appended.
    fn script(&mut self, key: &str, text: &str) -> bool {
        let good = url::Url::parse(text).is_ok_and(|url| url.has_host() && url.fragment().is_none())
            && text.len() <= 400
            && !text.contains(char::is_whitespace);
        if !good {
            self.wrong(
                key,
                format!("'{text}' is not a URL such as http://172.16.0.254:8081/boot/v1/bootscript"),
            );
        }
        good
    }

    fn addresses(&mut self, key: &str, field: Field<Vec<String>>) -> Vec<Ipv4Addr> {
        let texts = self.optional(key, field).unwrap_or_default().into_iter().enumerate();
        texts
            .filter_map(|(i, text)| self.parsed(&format!("{key}[{i}]"), Some(text)))
            .collect()
    }

    fn path(&mut self, key: &str, field: Field<String>, default: &str) -> PathBuf {
        let path: String = self.optional(key, field).unwrap_or_else(|| default.into());
        if path.is_empty() {
            self.wrong(key, "an empty path");
        }
        self.folder.join(path)
    }

    fn duration(&mut self, key: &str, field: Field<String>, default: Duration) -> Duration {
        let time = self.time(key, field).unwrap_or(default);
        if time.is_zero() {
            self.wrong(key, "must be longer than nothing");
        }
        time
    }

    /// A time, which may be nothing.
    fn time(&mut self, key: &str, field: Field<String>) -> Option<Duration> {
        let text: String = self.optional(key, field)?;
        let time = humantime::parse_duration(&text);
        time.map_err(|error| self.wrong(key, format!("'{text}' is not a time such as 30s, 5m or 1h: {error}")))
            .ok()
    }

    /// A number of bytes, with a unit or without.
    fn bytes(&mut self, key: &str, field: Field<String>) -> Option<u64> {
        let text: String = self.optional(key, field)?;
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim() {
            "" | "B" => Some(0),
            "KiB" => Some(10),
            "MiB" => Some(20),
            "GiB" => Some(30),
            "TiB" => Some(40),
            _ => None,
        };
        let bytes = number.parse::<u64>().ok().zip(shift);
        let bytes = bytes.and_then(|(number, shift)| number.checked_mul(1 << shift));
        if bytes.is_none() {
            self.wrong(key, format!("'{text}' is not a size such as 512MiB, 40GiB or 2TiB"));
        }
        bytes
    }

    /// Whole seconds, at least 10: clients renew at half of it, and a shorter one is a storm.
    fn lease_time(&mut self, key: &str, field: Field<String>, default: Duration) -> Duration {
        let time = self.duration(key, field, default);
        if time < Duration::from_secs(10) || time.as_secs() >= u64::from(u32::MAX) {
            self.wrong(
                key,
                format!("{} is not between 10s and 136 years", humantime::format_duration(time)),
            );
        }
        Duration::from_secs(time.as_secs())
    }

    /// An http(s) URL, without a slash at its end.
    /// A UDP port that clients can know.
    fn port(&mut self, key: &str, field: Field<u16>, usual: u16) -> u16 {
        let port = self.optional(key, field).unwrap_or(usual);
        if port == 0 {
            self.wrong(
                key,
                format!("0 is no port that a client could know; the usual one is {usual}"),
            );
        }
        port
    }

    fn url(&mut self, key: &str, field: Field<String>) -> Option<String> {
        let text: String = self.optional(key, field)?;
        match url::Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() && url.query().is_none() => {
                Some(text.trim_end_matches('/').to_owned())
            }
            Ok(_) => {
                self.wrong(key, format!("'{text}' is not an http or https URL without a query"));
                None
            }
            Err(error) => {
                self.wrong(key, format!("'{text}' is not a URL: {error}"));
                None
            }
        }
    }
}
