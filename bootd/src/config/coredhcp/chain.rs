//! The order of plugins, which says for whom each of them counts.
//!
//! CoreDHCP asks them one after the other. coresmd answers the nodes that it knows and ends it for them, so what stands behind it is for
//! all others; nbp and bootloop end it for everybody (contract 1.3). The order becomes scopes here: everybody, or who is unknown.

use std::net::Ipv4Addr;
use std::time::Duration;

use bootd_sdk::text::shown;

use super::bootloop::{Bootloop, Pool};
use super::coresmd::Coresmd;
use super::stock::Step;
use super::told::Told;

/// All that server4's plugins come to.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) address: Option<Ipv4Addr>,
    /// For everybody.
    pub(super) all: Options,
    /// For who is unknown.
    pub(super) unknown: Options,
    /// Of whom no other plugin gives one, and the plugin that says it.
    pub(super) lease_time: Option<(String, Duration)>,
    pub(super) ipv6_only: Option<Duration>,
    pub(super) autoconfigure: Option<&'static str>,
    pub(super) nbp: Option<String>,
    pub(super) hosts: Option<Hosts>,
    /// The last one, and whether any packet reaches it.
    pub(super) coresmd: Option<(Coresmd, Reached)>,
    /// Dynamic addresses.
    pub(super) pools: Vec<Pool>,
    /// Their lease time, and the plugin that says it.
    pub(super) pool_time: Option<(String, Duration)>,
    /// Boot file of unknown iPXE clients.
    pub(super) script: Option<String>,
    /// SQLite files of leases.
    pub(super) stores: Vec<String>,
}

/// What clients are told, besides their address.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) netmask: Option<Ipv4Addr>,
    pub(super) routers: Vec<Ipv4Addr>,
    pub(super) dns: Vec<Ipv4Addr>,
    pub(super) mtu: Option<u16>,
    pub(super) search: Vec<String>,
    pub(super) static_routes: Vec<String>,
}

/// `file`.
#[derive(Debug)]
pub(super) struct Hosts {
    pub(super) path: String,
    pub(super) refresh: bool,
    /// By a lease_time before it, and the place of that.
    pub(super) lease_time: Option<(String, Duration)>,
    pub(super) before_inventory: bool,
}

/// Whether packets come to a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    Yes,
    Never,
}

/// Whom a packet that comes this far may be from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    Everybody,
    Unknown,
    /// Nobody, since this plugin ends it.
    Nobody(String),
}

/// Goes through the plugins in their order.
pub(super) fn follow(steps: Vec<(String, Step)>, told: &mut Told) -> Plan {
    let mut walk = Walk {
        plan: Plan::default(),
        told,
        from: From::Everybody,
        time: None,
        range: None,
        file: None,
        behind: Vec::new(),
    };
    for (place, step) in steps {
        walk.step(&place, step);
    }
    walk.end()
}

struct Walk<'t> {
    plan: Plan,
    told: &'t mut Told,
    from: From,
    /// lease_time, and where it stands.
    time: Option<(String, Duration)>,
    /// A range in front of coresmd or file.
    range: Option<String>,
    /// A file, and whether plugins with options stand behind it.
    file: Option<(String, bool)>,
    /// Plugins that were there already, by name and scope.
    behind: Vec<(&'static str, bool)>,
}

impl Walk<'_> {
    fn step(&mut self, place: &str, step: Step) {
        if let From::Nobody(end) = &self.from {
            let end = end.clone();
            self.never(place, step, &end);
            return;
        }
        let unknown = self.from == From::Unknown;
        let (scope, whom) = if unknown {
            ("dhcp.unknown.options", "unknown clients")
        } else {
            ("dhcp.subnet", "everybody")
        };
        self.again(place, step.name(), unknown);
        let has_options = !matches!(
            step,
            Step::File { .. } | Step::Range { .. } | Step::Coresmd(_) | Step::Bootloop(_) | Step::LeaseTime(_)
        );
        if let Some((_, followed)) = &mut self.file {
            *followed |= has_options;
        }
        let options = if unknown {
            &mut self.plan.unknown
        } else {
            &mut self.plan.all
        };
        match step {
            Step::ServerId(ip) if ip.is_unspecified() => {
                self.told.changed(
                    place,
                    "server.address",
                    "0.0.0.0 is no address; that of the interface is used",
                );
            }
            Step::ServerId(ip) => {
                self.plan.address = Some(ip);
                if unknown {
                    self.told.changed(
                        place,
                        "server.address",
                        "this box's address, for known nodes, too, although it stands behind coresmd",
                    );
                } else {
                    self.told.understood(place, "server.address", "this box's address");
                }
            }
            Step::Dns(ips) => {
                options.dns.extend(ips);
                self.told.understood(
                    place,
                    scope,
                    format!("name servers, to {whom} who asks for them or asks for nothing"),
                );
            }
            Step::Router(ips) => {
                options.routers = ips;
                self.told.understood(place, scope, format!("routers, to {whom}"));
            }
            Step::Netmask(mask) => {
                options.netmask = Some(mask);
                self.told.understood(place, scope, format!("netmask, to {whom}"));
            }
            Step::Mtu(mtu) => {
                options.mtu = Some(mtu);
                let scope = if unknown { scope } else { "dhcp.options" };
                self.told.understood(
                    place,
                    scope,
                    format!("MTU, to {whom} who asks for it or asks for nothing"),
                );
            }
            Step::Search(domains) => {
                options.search = domains;
                let scope = if unknown { scope } else { "dhcp.options" };
                if options.search.is_empty() {
                    self.told.changed(
                        place,
                        scope,
                        "no domains, so option 119 is not sent; CoreDHCP sends an empty one",
                    );
                } else {
                    self.told.understood(place, scope, format!("search list, to {whom}"));
                }
            }
            Step::StaticRoute(routes) => {
                options.static_routes = routes;
                let scope = if unknown { scope } else { "dhcp.options" };
                self.told.understood(place, scope, format!("static routes, to {whom}"));
            }
            Step::LeaseTime(time) => self.time = Some((place.to_owned(), time)),
            Step::Ipv6Only(_) if unknown => {
                self.told.ignored(place, "", "behind coresmd it would be for unknown clients alone, which cannot be said; in front of it, it is for everybody");
            }
            Step::Ipv6Only(time) => {
                self.plan.ipv6_only = Some(time);
                self.told.changed(
                    place,
                    "dhcp.ipv6_only",
                    "no address for clients that ask for option 108; CoreDHCP gives none to those that ask for nothing, either",
                );
            }
            Step::Autoconfigure(value) => {
                self.plan.autoconfigure = Some(value);
                if unknown {
                    self.told
                        .understood(place, "dhcp.unknown.autoconfigure", "for clients that get no address");
                } else {
                    self.told.changed(
                        place,
                        "dhcp.unknown.autoconfigure",
                        "for clients that get no address, wherever it stands; CoreDHCP drops here what has no address yet",
                    );
                }
            }
            Step::Nbp(url) => {
                self.plan.nbp = Some(url);
                if unknown {
                    self.told.changed(
                        place,
                        "dhcp.nbp",
                        "for everybody who has no other boot file, known nodes as well",
                    );
                } else {
                    self.told
                        .understood(place, "dhcp.nbp", "the boot file of everybody; it ends the chain");
                }
                self.from = From::Nobody(place.to_owned());
            }
            Step::File { path, refresh } => self.file(place, path, refresh),
            Step::Range {
                store,
                pool,
                lease_time,
            } => {
                self.pool(place, vec![pool], lease_time, &store);
                self.range = (!unknown).then(|| place.to_owned());
            }
            Step::Coresmd(coresmd) => {
                if self.plan.coresmd.is_some() {
                    self.told.changed(place, "", "takes the place of the coresmd before it");
                }
                self.plan.coresmd = Some((*coresmd, Reached::Yes));
                self.from = From::Unknown;
            }
            Step::Bootloop(bootloop) => {
                self.bootloop(place, bootloop);
                self.from = From::Nobody(place.to_owned());
            }
        }
    }

    /// What no packet reaches.
    fn never(&mut self, place: &str, step: Step, end: &str) {
        let text = format!("{end} ends the chain, so no packet comes here");
        match step {
            Step::Coresmd(coresmd) => {
                self.told
                    .ignored(place, "", format!("{text}; its TFTP is served all the same"));
                if self.plan.coresmd.is_none() {
                    self.plan.coresmd = Some((*coresmd, Reached::Never));
                }
            }
            Step::ServerId(ip) if self.plan.address.is_none() => {
                self.plan.address = Some(ip);
                self.told.changed(
                    place,
                    "server.address",
                    format!("{text}; it is this box's address all the same"),
                );
            }
            _ => self.told.ignored(place, "", text),
        }
    }

    /// A plugin that was there before.
    fn again(&mut self, place: &str, name: &'static str, unknown: bool) {
        if self.behind.contains(&(name, unknown)) && name != "coresmd" {
            let what = if name == "dns" {
                "its servers are added"
            } else {
                "the last one counts"
            };
            self.told
                .understood(place, "", format!("{name} is there more than once; {what}"));
        } else if self.behind.contains(&(name, false)) && unknown {
            self.told.changed(
                place,
                "",
                format!("{name} counts for unknown clients; with CoreDHCP the last one counts for everybody"),
            );
        }
        self.behind.push((name, unknown));
    }

    fn file(&mut self, place: &str, path: String, refresh: bool) {
        let before_inventory = self.from == From::Everybody;
        let key = "dhcp.hosts";
        if self.plan.hosts.is_some() {
            self.told
                .changed(place, key, "takes the place of the file before it, as with CoreDHCP");
        }
        self.told
            .understood(place, key, format!("fixed addresses by the file {}", shown(&path)));
        if self.time.is_none() {
            self.told.changed(
                place,
                key,
                "its hosts get a lease time; CoreDHCP gives none, since no lease_time stands before it",
            );
        }
        self.file = Some((place.to_owned(), false));
        self.plan.hosts = Some(Hosts {
            path,
            refresh,
            lease_time: self.time.clone(),
            before_inventory,
        });
    }

    fn bootloop(&mut self, place: &str, bootloop: Bootloop) {
        if !self.plan.pools.is_empty() {
            self.told.changed(
                place,
                "dhcp.subnet.pool",
                "its addresses take the place of those of range",
            );
            self.plan.pools.clear();
        }
        self.told.understood(
            place,
            "dhcp.unknown.script",
            format!(
                "unknown clients get a short lease, and iPXE is given {}",
                shown(&bootloop.script)
            ),
        );
        self.told.changed(
            place,
            "dhcp.unknown",
            "a lease lasts its time and ends; a client is refused its lease (NAK) at a renewal once it is known. bootloop refuses every second packet",
        );
        self.pool(place, bootloop.pools, bootloop.lease_time, &bootloop.store);
        self.plan.script = Some(bootloop.script);
    }

    fn pool(&mut self, place: &str, pools: Vec<Pool>, time: Duration, store: &str) {
        for pool in &pools {
            if let Some(ip) = self.plan.address.filter(|ip| (pool.first..=pool.last).contains(ip)) {
                self.told.wrong(
                    place,
                    format!("{} to {} holds {ip}, which is server_id's", pool.first, pool.last),
                );
            }
        }
        self.told.understood(
            place,
            "dhcp.subnet.pool",
            "addresses for clients that the inventory does not know",
        );
        self.told.understood(
            place,
            "compat.import_leases",
            format!(
                "leases in {} are taken over at a start when somebody else wrote them, and written back at a clean stop",
                shown(store)
            ),
        );
        self.plan.pools = pools;
        self.plan.pool_time = Some((place.to_owned(), time));
        if !self.plan.stores.iter().any(|known| known == store) {
            self.plan.stores.push(store.to_owned());
        }
    }

    /// What can only be said when all were seen.
    fn end(mut self) -> Plan {
        if let Some((place, time)) = self.time {
            match (&self.plan.coresmd, &self.plan.hosts) {
                (Some((coresmd, Reached::Yes)), None) => self.told.ignored(
                    &place,
                    "dhcp.lease_time",
                    format!(
                        "{} says the lease time of the nodes that it knows, and pools have their own",
                        coresmd.place
                    ),
                ),
                (Some((_, Reached::Yes)), Some(_)) => {
                    self.told
                        .understood(&place, "dhcp.hosts", "lease time of the hosts of file");
                }
                _ => {
                    self.told.understood(&place, "dhcp.lease_time", "lease time");
                    self.plan.lease_time = Some((place, time));
                }
            }
        }
        if let Some((place, true)) = &self.file {
            let text = "its hosts get what the plugins behind it say, too; with CoreDHCP only what stands before it";
            self.told.changed(place, "dhcp.hosts", text);
        }
        if let Some(place) = self.range
            && (self.plan.coresmd.is_some() || self.plan.hosts.is_some())
        {
            let text = "nodes that have an address by coresmd or file take none of the range";
            self.told.changed(&place, "dhcp.subnet.pool", text);
        }
        if self.plan.address.is_none() {
            self.told.changed(
                "server4.plugins",
                "server.address",
                "there is no server_id: the address of the interface is used, where CoreDHCP says 0.0.0.0",
            );
        }
        let plan = self.plan;
        let inventory = matches!(plan.coresmd, Some((_, Reached::Yes)));
        if plan.pools.is_empty() {
            let whom = match (inventory, plan.hosts.is_some()) {
                (false, false) => "no plugin gives addresses, so nobody is answered",
                (true, _) => "clients that neither SMD nor a file knows are not answered",
                (false, true) => "clients that the file does not know are not answered",
            };
            self.told.changed(
                "server4.plugins",
                "",
                format!("{whom}; CoreDHCP sends them an answer with the address 0.0.0.0"),
            );
        }
        plan
    }
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Self::ServerId(_) => "server_id",
            Self::Dns(_) => "dns",
            Self::Router(_) => "router",
            Self::Netmask(_) => "netmask",
            Self::Mtu(_) => "mtu",
            Self::LeaseTime(_) => "lease_time",
            Self::Search(_) => "searchdomains",
            Self::StaticRoute(_) => "staticroute",
            Self::Ipv6Only(_) => "ipv6only",
            Self::Autoconfigure(_) => "autoconfigure",
            Self::Nbp(_) => "nbp",
            Self::File { .. } => "file",
            Self::Range { .. } => "range",
            Self::Coresmd(_) => "coresmd",
            Self::Bootloop(_) => "bootloop",
        }
    }
}
