//! The configuration as it is written: what serde accepts, key by key.
//!
//! Each value is a [`Field`], which keeps a value of the wrong type as a mistake instead of ending the reading; each table keeps the keys
//! that nobody knows. So one pass sees every mistake. What the keys mean is explained in `conf/bootd.toml`.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::Mistake;
use super::schema::{self, Shape};

/// A value that may be absent or of the wrong type.
#[derive(Debug, Default)]
pub(super) enum Field<T> {
    #[default]
    Absent,
    Value(T),
    Wrong(String),
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        Ok(match T::deserialize(value) {
            Ok(value) => Self::Value(value),
            Err(error) => Self::Wrong(error.to_string().trim().to_owned()),
        })
    }
}

/// Declares a table: its keys, and a place for the unknown ones.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($key:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(default)]
        pub(super) struct $name {
            $(pub(super) $key: Field<$type>,)*
            #[serde(flatten)]
            pub(super) unknown_keys: BTreeMap<String, toml::Value>,
        }

        impl $name {
            pub(super) const KEYS: &[&str] = &[$(stringify!($key)),*];
        }

        impl Shape for $name {
            fn shape() -> serde_json::Value {
                schema::table([$((stringify!($key), <$type>::shape())),*])
            }
        }
    };
}

table! {
    /// The whole file.
    Raw {
        server: Server,
        dhcp: Dhcp,
        dhcp6: Dhcp6,
        tftp: Tftp,
        http: Http,
        admin: Admin,
        auth: Auth,
        origin: Vec<Field<Origin>>,
        cache: Cache,
        boots: Boots,
        plugin: Vec<Field<Plugin>>,
        plugins: Plugins,
        compat: Compat,
    }
}

table! {
    /// `[server]`
    Server {
        interfaces: Vec<String>,
        address: String,
        state_dir: String,
        cache_dir: String,
    }
}

table! {
    /// `[dhcp]`
    Dhcp {
        port: u16,
        lease_time: String,
        domain: String,
        router_solicitations: bool,
        router_advertisement: RouterAdvertisement,
        script_url: String,
        hostnames: BTreeMap<String, Field<String>>,
        options: Options,
        ipv6_only: String,
        threads: u16,
        probe: String,
        rate_limit: u32,
        bind_to: String,
        nbp: String,
        ignore: Vec<String>,
        hosts: Hosts,
        unknown: Unknown,
        subnet: Vec<Field<Subnet>>,
        rule: Vec<Field<Rule>>,
    }
}

table! {
    /// `[dhcp6]`
    Dhcp6 {
        port: u16,
        interfaces: Vec<String>,
        lease_time: String,
        server_id: String,
        preference: u8,
        script_url: String,
        unknown: String,
        nbp: String,
        boot_params: Vec<String>,
        hosts: Hosts,
        options: Options,
        subnet: Vec<Field<Subnet6>>,
    }
}

table! {
    /// `[[dhcp6.subnet]]`
    Subnet6 {
        prefix: String,
        nested: bool,
        dns: Vec<String>,
        search: Vec<String>,
        server: String,
        options: Options,
    }
}

/// `options = { … }` of any scope: by name or by number.
pub(super) type Options = BTreeMap<String, toml::Value>;

table! {
    /// `[dhcp.router_advertisement]`
    RouterAdvertisement {
        prefixes: Vec<String>,
        rdnss: Vec<String>,
        lifetime: String,
        beside_routers: bool,
    }
}

table! {
    /// `[dhcp.hosts]` and `[dhcp6.hosts]`
    Hosts {
        file: String,
        refresh: bool,
        lease_time: String,
        before_inventory: bool,
    }
}

table! {
    /// `[dhcp.unknown]`
    Unknown {
        autoconfigure: String,
        script: String,
        options: Options,
        answer_without_address: bool,
    }
}

table! {
    /// `[[dhcp.rule]]`
    Rule {
        name: String,
        r#type: Vec<String>,
        subnet: Vec<String>,
        id: Vec<String>,
        group: Vec<String>,
        mac: Vec<String>,
        arch: Vec<String>,
        vendor_class: Vec<String>,
        user_class: Vec<String>,
        circuit_id: Vec<String>,
        remote_id: Vec<String>,
        hostname: String,
        domain: String,
        domain_append: Vec<String>,
        routers: Vec<String>,
        netmask: String,
        options: Options,
        options6: Options,
        loader: String,
        script: String,
        ignore: bool,
        r#continue: bool,
        log: String,
    }
}

table! {
    /// `[[dhcp.subnet]]`
    Subnet {
        cidr: String,
        nested: bool,
        netmask: String,
        routers: Vec<String>,
        dns: Vec<String>,
        server: String,
        pool: Pool,
        options: Options,
    }
}

table! {
    /// `pool = { … }` of a subnet
    Pool {
        first: String,
        last: String,
        lease_time: String,
    }
}

table! {
    /// `[tftp]`
    Tftp {
        serve: bool,
        autoexec: bool,
        address: String,
        port: u16,
        single_port: bool,
        root: String,
        blksize: u16,
        windowsize: u16,
        loaders: BTreeMap<String, Field<String>>,
    }
}

table! {
    /// `[http]`
    Http {
        listener: Vec<Field<Listener>>,
        plugin_deadline: String,
    }
}

table! {
    /// `[[http.listener]]`
    Listener {
        address: String,
        serve: Vec<String>,
        auth: String,
        tls: Tls,
        trusted_proxies: Vec<String>,
        pace: String,
    }
}

table! {
    /// `tls = { … }` of a listener
    Tls {
        cert: String,
        key: String,
    }
}

table! {
    /// `[admin]`
    Admin {
        socket: String,
    }
}

table! {
    /// `[auth]`
    Auth {
        jwks: String,
        ca: String,
        issuers: Vec<String>,
        audiences: Vec<String>,
        read_scopes: Vec<String>,
        write_scopes: Vec<String>,
        longest: String,
    }
}

table! {
    /// `[[origin]]`
    Origin {
        bucket: String,
        prefix: String,
        sidecar: String,
        endpoint: String,
        region: String,
        credentials: String,
        credentials_from: String,
        profile: String,
        http: String,
        dir: String,
        from: Vec<String>,
        rewrite: bool,
    }
}

table! {
    /// `[cache]`
    Cache {
        size: String,
        warm: bool,
        scrub: String,
        hold_back: String,
    }
}

table! {
    /// `[boots]`
    Boots {
        attempts: u16,
        deadlines: BTreeMap<String, Field<String>>,
    }
}

table! {
    /// `[[plugin]]`
    Plugin {
        name: String,
        file: String,
        mode: String,
        config: toml::Table,
    }
}

table! {
    /// `[plugins]`
    Plugins {
        dirs: Vec<String>,
    }
}

table! {
    /// `[compat]`
    Compat {
        strict: bool,
        bootloop_nak: String,
        import_leases: Vec<Field<Import>>,
    }
}

table! {
    /// An element of `import_leases`
    Import {
        file: String,
    }
}

/// Reads the text. Fails only when it is not TOML.
pub(super) fn parse(text: &str) -> Result<Raw, Mistake> {
    toml::from_str(text).map_err(|error| {
        let line = error
            .span()
            .map(|span| text[..span.start.min(text.len())].lines().count().max(1));
        let text = match line {
            Some(line) => format!("line {line}: not TOML: {}", error.message()),
            None => format!("not TOML: {}", error.message()),
        };
        Mistake {
            key: String::new(),
            text,
        }
    })
}
