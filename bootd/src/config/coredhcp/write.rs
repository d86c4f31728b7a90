//! The text of a `bootd.toml`: what a coredhcp.yaml comes to, each note beside the key that it is about.

use std::net::Ipv4Addr;
use std::time::Duration;

use bootd_sdk::text::shown;
use ipnet::{IpNet, Ipv4Net};

use super::bootloop::Pool;
use super::chain::{Options, Plan, Reached};
use super::chain6::Plan6;
use super::coresmd::Coresmd;
use super::listen::Listen;
use super::rule::Rule;
use super::told::{About, Told};
use crate::config::Arch;

/// Writes it. Adds notes of what only shows here.
pub(super) fn toml(plan: &Plan, listen: Option<&Listen>, six: Option<&(Plan6, Listen)>, told: &mut Told) -> String {
    let inventory = plan.coresmd.as_ref().filter(|(_, reached)| *reached == Reached::Yes);
    let inventory = inventory.map(|(coresmd, _)| coresmd);
    // What both families share is server4's, else server6's.
    let inventory = inventory.or_else(|| six.and_then(|(six, _)| six.coresmd.as_ref()));
    let subnets = match listen {
        Some(_) => subnets(plan, inventory, told),
        None => Vec::new(),
    };
    let refresh = inventory.map(|coresmd| refresh(coresmd, told));
    let lease_time = match (inventory, &plan.lease_time) {
        (Some(coresmd), _) => Some(lease(&coresmd.place, "dhcp.lease_time", coresmd.lease_time, told)),
        (None, time) => time
            .as_ref()
            .map(|(place, time)| lease(place, "dhcp.lease_time", *time, told)),
    };
    let pool_time = plan.pool_time.as_ref();
    let pool_time = pool_time.map(|(place, time)| lease(place, "dhcp.subnet.pool", *time, told));
    let hosts_time = plan.hosts.as_ref().and_then(|hosts| hosts.lease_time.as_ref());
    let hosts_time = hosts_time.map(|(place, time)| lease(place, "dhcp.hosts", *time, told));
    if let Some(coresmd) = inventory {
        of_inventory(coresmd, told);
    }
    let lifetime = six.and_then(|(six, _)| six.coresmd.as_ref());
    let lifetime = lifetime.map(|coresmd| lease(&coresmd.place, "dhcp6.lease_time", coresmd.lease_time, told));
    let relative = relative_paths(plan, six.map(|(six, _)| six));
    if !relative.is_empty() {
        told.changed(
            if listen.is_some() {
                "server4.plugins"
            } else {
                "server6.plugins"
            },
            "",
            format!(
                "relative paths are relative to this file's folder: {}",
                relative.join(", ")
            ),
        );
    }

    let mut out = Text {
        lines: Vec::new(),
        notes: told.notes.iter().collect(),
    };
    out.table("server", "[server]");
    let first = listen.or(six.map(|(_, listen)| listen));
    let interfaces = first.map(|listen| listen.interfaces.clone()).unwrap_or_default();
    out.key("server", "interfaces", texts(&interfaces));
    out.optional("server", "address", plan.address.map(|ip| text(&ip.to_string())));

    out.table("dhcp", "[dhcp]");
    if let Some(listen) = listen.filter(|listen| listen.port != 67) {
        out.key("dhcp", "port", listen.port.to_string());
    }
    out.optional("dhcp", "lease_time", lease_time.map(|time| text(&time)));
    if let Some(coresmd) = inventory {
        out.optional("dhcp", "domain", coresmd.domain.as_deref().map(text));
        out.key("dhcp", "script_url", text(&coresmd.script));
        let names = coresmd
            .hostnames
            .iter()
            .map(|(kind, name)| format!("{} = {}", name_of(kind), text(name)));
        out.key("dhcp", "hostnames", braces(names));
    } else if let Some((coresmd, _)) = &plan.coresmd {
        // What its TFTP serves leads there.
        out.key("dhcp", "script_url", text(&coresmd.script));
    }
    let options = options(&plan.all, false);
    out.optional("dhcp", "options", (!options.is_empty()).then(|| braces(options)));
    out.optional("dhcp", "ipv6_only", plan.ipv6_only.map(|time| text(&seconds(time))));
    out.optional("dhcp", "nbp", plan.nbp.as_deref().map(text));
    out.comment("CoreDHCP does not answer router solicitations; true spares iPXE 12 s where no router advertises.");
    out.key("dhcp", "router_solicitations", "false".into());

    if let Some(hosts) = &plan.hosts {
        out.table("dhcp.hosts", "[dhcp.hosts]");
        out.key("dhcp.hosts", "file", text(&hosts.path));
        out.key("dhcp.hosts", "refresh", hosts.refresh.to_string());
        out.optional("dhcp.hosts", "lease_time", hosts_time.map(|time| text(&time)));
        out.key("dhcp.hosts", "before_inventory", hosts.before_inventory.to_string());
    }

    let unknown = self::options(&plan.unknown, true);
    if plan.script.is_some() || plan.autoconfigure.is_some() || !unknown.is_empty() {
        out.table("dhcp.unknown", "[dhcp.unknown]");
        out.optional("dhcp.unknown", "script", plan.script.as_deref().map(text));
        out.optional("dhcp.unknown", "autoconfigure", plan.autoconfigure.map(text));
        out.optional(
            "dhcp.unknown",
            "options",
            (!unknown.is_empty()).then(|| braces(unknown)),
        );
    }

    for subnet in &subnets {
        out.table("dhcp.subnet", "[[dhcp.subnet]]");
        out.key("dhcp.subnet", "cidr", text(&subnet.cidr.to_string()));
        let within = |other: &&Subnet| other.cidr != subnet.cidr && other.cidr.contains(&subnet.cidr);
        if subnets.iter().skip(1).any(|other| within(&other)) {
            out.key("dhcp.subnet", "nested", "true".into());
        }
        let mask = plan.all.netmask.map(|mask| mask.to_string());
        let mask = mask.or_else(|| (subnet.cidr.prefix_len() == 0).then(|| "none".into()));
        out.optional("dhcp.subnet", "netmask", mask.map(|mask| text(&mask)));
        let routers = addresses(&plan.all.routers);
        if plan.all.routers.iter().all(|router| subnet.cidr.contains(router)) {
            out.optional("dhcp.subnet", "routers", routers);
        } else {
            // Routers of a subnet are within it; an option may say anything.
            let options = routers.map(|ips| braces([format!("routers = {ips}")]));
            out.optional("dhcp.subnet", "options", options);
        }
        out.optional("dhcp.subnet", "dns", addresses(&plan.all.dns));
        if let Some(pool) = &subnet.pool {
            let ends = [("first", pool.first.to_string()), ("last", pool.last.to_string())];
            let time = pool_time.iter().map(|time| ("lease_time", time.clone()));
            let entries = ends.into_iter().chain(time);
            let entries = entries.map(|(name, value)| format!("{name} = {}", text(&value)));
            out.key("dhcp.subnet", "pool", braces(entries));
        }
    }
    if let Some((six, heard)) = six {
        out.dhcp6(six, heard, &interfaces, lifetime);
    }
    for (place, rule) in inventory.map(|coresmd| coresmd.rules.as_slice()).unwrap_or_default() {
        out.table(place, "[[dhcp.rule]]");
        out.rule(rule);
    }

    out.tftp(plan, inventory);
    out.table("http", "[http]");
    out.comment("CoreDHCP serves nothing by HTTP; a listener in a bootd.toml beside this file would.");
    out.key("http", "listener", "[]".into());
    if !plan.stores.is_empty() {
        out.table("compat", "[compat]");
        let files = plan.stores.iter().map(|file| format!("{{ file = {} }}", text(file)));
        out.key("compat", "import_leases", list(files));
    }
    if let Some(coresmd) = inventory {
        out.table("plugin", "[[plugin]]");
        out.key("plugin", "name", text("smd"));
        out.key("plugin", "mode", text("upstream"));
        out.key("plugin", "config.url", text(&coresmd.smd));
        out.optional("plugin", "config.ca", coresmd.ca.as_deref().map(text));
        out.optional("plugin", "config.refresh_s", refresh.map(|seconds| seconds.to_string()));
    }
    out.end()
}

struct Subnet {
    cidr: Ipv4Net,
    pool: Option<Pool>,
}

/// One that holds everybody, and one for each network that a rule or a pool names.
fn subnets(plan: &Plan, inventory: Option<&Coresmd>, told: &mut Told) -> Vec<Subnet> {
    let everybody = plan.pools.iter().find(|pool| pool.subnet.is_none()).cloned();
    let mut subnets = vec![Subnet {
        cidr: Ipv4Net::default(),
        pool: everybody,
    }];
    let of_pools = plan
        .pools
        .iter()
        .filter_map(|pool| pool.subnet.map(|cidr| (cidr, Some(pool))));
    let rules = inventory.map(|coresmd| coresmd.rules.as_slice()).unwrap_or_default();
    let of_rules = rules.iter().flat_map(|(_, rule)| &rule.subnets);
    let of_rules = of_rules.filter_map(|net| match net {
        IpNet::V4(cidr) => Some((*cidr, None)),
        IpNet::V6(_) => None,
    });
    for (cidr, pool) in of_pools.chain(of_rules) {
        let place = "server4.plugins";
        if let Some(known) = subnets.iter().find(|subnet| subnet.cidr == cidr) {
            if pool.is_some() && known.pool.as_ref() != pool {
                told.ignored(
                    place,
                    "dhcp.subnet.pool",
                    format!("the second pool of {cidr}; there is one a subnet"),
                );
            }
            continue;
        }
        if !(1..=30).contains(&cidr.prefix_len()) {
            continue;
        }
        if plan.all.netmask.is_none() {
            let text = format!("unknown clients of {cidr} are told its mask; CoreDHCP tells none without a netmask");
            told.changed(place, "dhcp.subnet", text);
        }
        for router in plan.all.routers.iter().filter(|router| !cidr.contains(*router)) {
            told.understood(
                place,
                "dhcp.subnet",
                format!("router {router} is not in {cidr}; its clients are told of it, and will hardly reach it: rules may give them another"),
            );
        }
        subnets.push(Subnet {
            cidr,
            pool: pool.cloned(),
        });
    }
    subnets
}

/// Notes of coresmd's keys.
fn of_inventory(coresmd: &Coresmd, told: &mut Told) {
    let place = &coresmd.place;
    told.understood(
        place,
        "plugin",
        "the nodes of SMD are mirrored; with SMD down, those from before are served",
    );
    match &coresmd.ca {
        Some(ca) => told.understood(
            place,
            "plugin.config.ca",
            format!("{} is trusted, instead of the system's certificates", shown(ca)),
        ),
        None if coresmd.smd.starts_with("https:") => told.changed(
            place,
            "plugin.config.ca",
            "no ca_cert, so the system's certificates are trusted; coresmd 0.5 and later do not start without one",
        ),
        None => {}
    }
    if coresmd.single_port {
        let text = "single_port: all of TFTP leaves from its port; blocks are as large as elsewhere, not 512 bytes";
        told.understood(place, "tftp.single_port", text);
    }
    told.understood(
        place,
        "dhcp.script_url",
        "where iPXE finds the script of a node, with ?mac= behind",
    );
    told.understood(place, "dhcp.lease_time", "lease time of the nodes that SMD knows");
    for (place, rule) in &coresmd.rules {
        told.understood(place, place, "options for nodes");
        for change in &rule.changes {
            told.changed(place, place, change);
        }
        if rule.kinds.iter().any(|kind| kind != "Node")
            && rule.hostname.as_deref().is_some_and(|name| name.contains("d}"))
        {
            told.changed(
                place,
                place,
                "the number of what is not a Node is its own, or its node's; coresmd says 0 for each",
            );
        }
    }
}

/// Seconds between two looks at SMD.
fn refresh(coresmd: &Coresmd, told: &mut Told) -> u64 {
    let asked = coresmd.refresh.as_secs();
    let seconds = asked.clamp(1, 86400);
    if coresmd.refresh != Duration::from_secs(seconds) {
        let text = format!("SMD is looked at every {seconds} s; whole seconds, 1 to 86400");
        told.changed(&coresmd.place, "plugin.config.refresh_s", text);
    }
    seconds
}

/// A lease time: whole seconds, at least a minute.
fn lease(place: &str, key: &str, time: Duration, told: &mut Told) -> String {
    let seconds = time.as_secs().clamp(10, u64::from(u32::MAX) - 1);
    if Duration::from_secs(seconds) != time {
        told.changed(
            place,
            key,
            format!("a lease of {seconds} s; whole seconds, and at least 10"),
        );
    }
    self::seconds(Duration::from_secs(seconds))
}

fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0 => "0s".into(),
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

fn relative_paths(plan: &Plan, six: Option<&Plan6>) -> Vec<String> {
    let coresmd = plan.coresmd.iter().map(|(coresmd, _)| coresmd);
    let coresmd = coresmd.chain(six.and_then(|six| six.coresmd.as_ref()));
    let certificates = coresmd.clone().filter_map(|coresmd| coresmd.ca.as_ref());
    let folders = coresmd.map(|coresmd| &coresmd.tftp_dir);
    let hosts = plan.hosts.iter().map(|hosts| &hosts.path);
    let hosts = hosts.chain(six.iter().flat_map(|six| &six.hosts).map(|hosts| &hosts.path));
    let all = certificates.chain(folders).chain(hosts).chain(&plan.stores);
    all.filter(|path| !path.starts_with('/'))
        .map(|path| shown(path))
        .collect()
}

fn options(options: &Options, with_network: bool) -> Vec<String> {
    let mut entries = Vec::new();
    if with_network {
        entries.extend(
            options
                .netmask
                .map(|mask| format!("netmask = {}", text(&mask.to_string()))),
        );
        entries.extend(addresses(&options.routers).map(|ips| format!("routers = {ips}")));
        entries.extend(addresses(&options.dns).map(|ips| format!("dns = {ips}")));
    }
    entries.extend(options.mtu.map(|mtu| format!("mtu = {mtu}")));
    let lists = [("search", &options.search), ("static_routes", &options.static_routes)];
    for (name, values) in lists.into_iter().filter(|(_, values)| !values.is_empty()) {
        entries.push(format!("{name} = {}", texts(values)));
    }
    entries
}

/// Lines, and the notes that are not written yet.
struct Text<'n> {
    lines: Vec<String>,
    notes: Vec<&'n About>,
}

impl Text<'_> {
    /// A table's header, with the notes about the table.
    fn table(&mut self, key: &str, header: &str) {
        if !self.lines.is_empty() {
            self.lines.push(String::new());
        }
        self.notes_of(key);
        self.lines.push(header.into());
    }

    fn key(&mut self, table: &str, name: &str, value: String) {
        self.notes_of(&format!("{table}.{name}"));
        self.lines.push(format!("{name} = {value}"));
    }

    fn optional(&mut self, table: &str, name: &str, value: Option<String>) {
        match value {
            Some(value) => self.key(table, name, value),
            None => self.notes_of(&format!("{table}.{name}")),
        }
    }

    fn comment(&mut self, text: &str) {
        self.lines.push(format!("# {text}"));
    }

    fn notes_of(&mut self, key: &str) {
        let here = |about: &&About| about.key == key && !key.is_empty();
        let notes = self.notes.iter().copied().filter(here);
        self.lines.extend(notes.map(|about| format!("# {}", about.note)));
        self.notes.retain(|about| !here(about));
    }

    fn dhcp6(&mut self, plan: &Plan6, listen: &Listen, shared: &[String], lifetime: Option<String>) {
        self.table("dhcp6", "[dhcp6]");
        let other = (listen.interfaces != shared).then(|| texts(&listen.interfaces));
        self.optional("dhcp6", "interfaces", other);
        let port = (listen.port != 547).then(|| listen.port.to_string());
        self.optional("dhcp6", "port", port);
        self.optional("dhcp6", "server_id", plan.server_id.as_deref().map(text));
        self.optional("dhcp6", "lease_time", lifetime.map(|time| text(&time)));
        let script = plan.coresmd.as_ref().map(|coresmd| text(&coresmd.script));
        self.optional("dhcp6", "script_url", script);
        self.optional("dhcp6", "nbp", plan.nbp.as_deref().map(text));
        let params = (!plan.boot_params.is_empty()).then(|| texts(&plan.boot_params));
        self.optional("dhcp6", "boot_params", params);
        let hosts = plan.hosts.as_ref().map(|hosts| {
            let entries = [
                format!("file = {}", text(&hosts.path)),
                format!("refresh = {}", hosts.refresh),
                "lease_time = \"1h\"".into(),
                format!("before_inventory = {}", hosts.before_inventory),
            ];
            braces(entries)
        });
        self.optional("dhcp6", "hosts", hosts);
        self.table("dhcp6.subnet", "[[dhcp6.subnet]]");
        self.key("dhcp6.subnet", "prefix", text("::/0"));
        let dns: Vec<String> = plan.dns.iter().map(ToString::to_string).collect();
        self.optional("dhcp6.subnet", "dns", (!dns.is_empty()).then(|| texts(&dns)));
        let search = (!plan.search.is_empty()).then(|| texts(&plan.search));
        self.optional("dhcp6.subnet", "search", search);
    }

    fn rule(&mut self, rule: &Rule) {
        let one = |text: &Option<String>| text.as_deref().map(self::text);
        let several = |items: &[String]| (!items.is_empty()).then(|| texts(items));
        // coresmd has rules for the nodes of SMD only.
        let everything = || rule.ids.is_empty().then(|| texts(&["*".into()]));
        let subnets: Vec<String> = rule.subnets.iter().map(ToString::to_string).collect();
        let netmask = rule.netmask.map(|mask| mask.to_string());
        let masks = rule.subnets.iter().any(|net| matches!(net, IpNet::V4(_)));
        let netmask = netmask.or((masks && !rule.ignore).then(|| "subnet".into()));
        let append = rule
            .domain_append
            .as_ref()
            .map(|names| list(names.iter().map(|name| text(name))));
        for (name, value) in [
            ("name", one(&rule.name)),
            ("type", several(&rule.kinds).or_else(everything)),
            ("subnet", several(&subnets)),
            ("id", several(&rule.ids)),
            ("hostname", one(&rule.hostname)),
            ("domain", one(&rule.domain)),
            ("domain_append", append),
            ("routers", addresses(&rule.routers)),
            ("netmask", one(&netmask)),
            ("ignore", rule.ignore.then(|| "true".into())),
            ("continue", rule.goes_on.then(|| "true".into())),
            ("log", one(&rule.log)),
        ] {
            self.optional("dhcp.rule", name, value);
        }
    }

    fn tftp(&mut self, plan: &Plan, inventory: Option<&Coresmd>) {
        self.table("tftp", "[tftp]");
        let Some(coresmd) = plan.coresmd.as_ref().map(|(coresmd, _)| coresmd).or(inventory) else {
            self.comment("coresmd is what serves TFTP, and there is none.");
            self.key("tftp", "serve", "false".into());
            return;
        };
        self.key("tftp", "address", text("::"));
        self.comment("CoreDHCP has none, and a stock iPXE that finds one asks no DHCP server what to boot.");
        self.key("tftp", "autoexec", "false".into());
        self.key("tftp", "port", coresmd.tftp_port.to_string());
        if coresmd.single_port {
            self.key("tftp", "single_port", "true".into());
        }
        self.key("tftp", "root", text(&coresmd.tftp_dir));
        self.table("tftp.loaders", "[tftp.loaders]");
        let dir = coresmd.tftp_dir.trim_end_matches('/');
        for arch in Arch::ALL {
            self.key(
                "tftp.loaders",
                arch.name(),
                text(&format!("{dir}/{}", arch.file_name())),
            );
        }
    }

    /// The whole text. What belongs to no key stands at its top.
    fn end(self) -> String {
        let mut out = String::new();
        for about in &self.notes {
            out.push_str(&format!("# {}\n", about.note));
        }
        if !self.notes.is_empty() {
            out.push('\n');
        }
        for line in &self.lines {
            out.push_str(line);
            out.push('\n');
        }
        out
    }
}

fn text(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

fn texts(items: &[String]) -> String {
    list(items.iter().map(|item| text(item)))
}

fn addresses(ips: &[Ipv4Addr]) -> Option<String> {
    (!ips.is_empty()).then(|| list(ips.iter().map(|ip| text(&ip.to_string()))))
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().collect();
    format!("[{}]", items.join(", "))
}

fn braces(entries: impl IntoIterator<Item = String>) -> String {
    let entries: Vec<String> = entries.into_iter().collect();
    format!("{{ {} }}", entries.join(", "))
}

/// A key of a table, quoted where it must be.
fn name_of(key: &str) -> String {
    let bare = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare && !key.is_empty() { key.into() } else { text(key) }
}
