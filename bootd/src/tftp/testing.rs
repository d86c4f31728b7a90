//! A configuration for tests: everything on loopback, ports of the system's choice.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use crate::config::{Access, Config, Dhcp, Http, Listener, Service, Tftp};

pub(crate) fn config(root: &Path) -> Config {
    Config {
        path: "test.toml".into(),
        interfaces: Vec::new(),
        address: Some(Ipv4Addr::LOCALHOST),
        state_dir: "/nowhere".into(),
        cache_dir: "/nowhere".into(),
        dhcp6: None,
        dhcp: Dhcp {
            port: 0,
            router_solicitations: false,
            ..Dhcp::default()
        },
        tftp: Tftp {
            serve: true,
            autoexec: true,
            address: None,
            port: 0,
            single_port: false,
            root: root.into(),
            blksize: 1468,
            windowsize: 16,
            loaders: BTreeMap::new(),
        },
        http: Http {
            listeners: vec![Listener {
                address: ([0, 0, 0, 0], 8081).into(),
                serve: [Service::Boot, Service::Loaders].into(),
                access: Access::Token,
                tls: None,
                trusted_proxies: Vec::new(),
                pace: None,
            }],
            plugin_deadline: Duration::from_secs(10),
        },
        admin_socket: "/nowhere".into(),
        auth: Default::default(),
        origins: Vec::new(),
        cache: Default::default(),
        boots: Default::default(),
        plugins: Vec::new(),
        plugin_dirs: Vec::new(),
        written: Default::default(),
        dialect: Default::default(),
        compat: Default::default(),
    }
}
