//! The words of CoreDHCP's own plugins, as strict as these are (contract 1.3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bootd_sdk::text::{counted, shown};
use ipnet::IpNet;

use super::bootloop::{self, Bootloop, Pool};
use super::coresmd::{self, Coresmd, no_time};
use super::file::Plugin;
use super::go;
use super::told::Told;

/// The plugins that there are, as `bootd coredhcp --plugins` prints them.
pub(super) const NAMES: [&str; 17] = [
    "autoconfigure",
    "bootloop",
    "coresmd",
    "dns",
    "file",
    "ipv6only",
    "lease_time",
    "mtu",
    "nbp",
    "netmask",
    "prefix",
    "range",
    "router",
    "searchdomains",
    "server_id",
    "sleep",
    "staticroute",
];

/// What a plugin of server4 does.
#[derive(Debug, Clone)]
pub(super) enum Step {
    ServerId(Ipv4Addr),
    Dns(Vec<Ipv4Addr>),
    Router(Vec<Ipv4Addr>),
    Netmask(Ipv4Addr),
    Mtu(u16),
    LeaseTime(Duration),
    Search(Vec<String>),
    /// Each as `10.0.0.0/8 via 172.16.0.1`.
    StaticRoute(Vec<String>),
    Ipv6Only(Duration),
    Autoconfigure(&'static str),
    Nbp(String),
    File {
        path: String,
        refresh: bool,
    },
    Range {
        store: String,
        pool: Pool,
        lease_time: Duration,
    },
    Coresmd(Box<Coresmd>),
    Bootloop(Bootloop),
}

/// A plugin of server4. `None`: it does nothing, or the mistakes say what is wrong.
pub(super) fn v4(plugin: &Plugin, told: &mut Told) -> Option<Step> {
    let mut words = Words { plugin, told };
    match plugin.name.as_str() {
        "server_id" => {
            let ip = words.at_least(1, "bootd's own IPv4 address")?.first().cloned()?;
            words.most(1);
            words.ipv4(&ip).map(Step::ServerId)
        }
        "dns" => words.ipv4s("the IPv4 addresses of name servers").map(Step::Dns),
        "router" => words.ipv4s("the IPv4 addresses of routers").map(Step::Router),
        "netmask" => {
            let mask = words.one("a netmask such as 255.255.255.0")?;
            let text = format!("'{}' is not a netmask such as 255.255.255.0", shown(&mask));
            words.or_wrong(go::netmask(&mask), text).map(Step::Netmask)
        }
        "mtu" => {
            let mtu = words.one("a number of bytes")?;
            let text = format!("'{}' is not a number from 68 to 65535", shown(&mtu));
            let mtu = mtu.parse().ok().filter(|mtu| *mtu >= 68);
            words.or_wrong(mtu, text).map(Step::Mtu)
        }
        "lease_time" => {
            let time = words.at_least(1, "a time such as 1h")?.first().cloned()?;
            words.most(1);
            words.time(&time).map(Step::LeaseTime)
        }
        "searchdomains" => Some(Step::Search(words.domains())),
        "staticroute" => words.routes().map(Step::StaticRoute),
        "sleep" => {
            words.sleep();
            None
        }
        "ipv6only" => match plugin.words.as_slice() {
            [] => Some(Step::Ipv6Only(Duration::ZERO)),
            [time] => words.time(time).map(Step::Ipv6Only),
            _ => words.wrong("has more than one word, and takes one time at most".into()),
        },
        "autoconfigure" => match plugin.words.as_slice() {
            [] => Some(Step::Autoconfigure("DoNotAutoConfigure")),
            [word] => match word.as_str() {
                "0" | "DoNotAutoConfigure" => Some(Step::Autoconfigure("DoNotAutoConfigure")),
                "1" | "AutoConfigure" => Some(Step::Autoconfigure("AutoConfigure")),
                other => words.wrong(format!(
                    "'{}' is neither 0, 1, DoNotAutoConfigure nor AutoConfigure",
                    shown(other)
                )),
            },
            _ => words.wrong("has more than one word".into()),
        },
        "nbp" => words.nbp().map(Step::Nbp),
        "file" => words.file(),
        "range" => words.range(),
        "coresmd" => coresmd::read(plugin, told).map(|coresmd| Step::Coresmd(Box::new(coresmd))),
        "bootloop" => bootloop::read(plugin, told).map(Step::Bootloop),
        "prefix" => {
            told.ignored(&plugin.place, "", "it is for server6 only");
            None
        }
        _ => words.unknown(),
    }
}

/// What a plugin of server6 does.
#[derive(Debug, Clone)]
pub(super) enum Step6 {
    /// As `dhcp6.server_id` has it.
    ServerId(String),
    Dns(Vec<Ipv6Addr>),
    Search(Vec<String>),
    /// The URL, and the parameters that its query holds.
    Nbp(String, Vec<String>),
    File {
        path: String,
        refresh: bool,
    },
    Coresmd(Box<Coresmd>),
}

/// A plugin of server6. `None`: it does nothing, or the mistakes say what is wrong.
pub(super) fn v6(plugin: &Plugin, told: &mut Told) -> Option<Step6> {
    let mut words = Words { plugin, told };
    match plugin.name.as_str() {
        "server_id" => words.duid().map(Step6::ServerId),
        "dns" => words.ipv6s("the addresses of name servers").map(Step6::Dns),
        "searchdomains" => Some(Step6::Search(words.domains())),
        "sleep" => {
            words.sleep();
            None
        }
        "nbp" => words.nbp().map(|url| {
            let query = url::Url::parse(&url).ok();
            let params = query.iter().flat_map(|url| url.query_pairs());
            let params = params.filter(|(key, value)| key == "params" && !value.is_empty());
            let params = params.map(|(_, value)| value.into_owned()).collect();
            Step6::Nbp(url, params)
        }),
        "file" => match words.file()? {
            Step::File { path, refresh } => Some(Step6::File { path, refresh }),
            _ => None,
        },
        "prefix" => {
            words.prefix();
            told.ignored(
                &plugin.place,
                "dhcp6",
                "prefixes are not delegated here: who asks for one gets the status NoPrefixAvail",
            );
            None
        }
        "coresmd" => coresmd::read(plugin, told).map(|coresmd| Step6::Coresmd(Box::new(coresmd))),
        "bootloop" => {
            told.wrong(
                &plugin.place,
                "it is for server4 only, and CoreDHCP does not start with it here",
            );
            None
        }
        name if NAMES.contains(&name) => {
            told.ignored(&plugin.place, "", "it is for server4 only");
            None
        }
        _ => words.unknown(),
    }
}

struct Words<'p, 't> {
    plugin: &'p Plugin,
    told: &'t mut Told,
}

impl<'p> Words<'p, '_> {
    fn wrong<T>(&mut self, text: String) -> Option<T> {
        self.told.wrong(&self.plugin.place, text);
        None
    }

    fn or_wrong<T>(&mut self, value: Option<T>, text: String) -> Option<T> {
        self.told.or_wrong(value, &self.plugin.place, text)
    }

    fn at_least(&mut self, least: usize, what: &str) -> Option<&'p [String]> {
        if self.plugin.words.len() < least {
            return self.wrong(format!(
                "has {}, and needs {what}",
                counted(self.plugin.words.len(), "word")
            ));
        }
        Some(&self.plugin.words)
    }

    /// Words after these are told; CoreDHCP does not look at them.
    fn most(&mut self, most: usize) {
        if let Some(rest) = self.plugin.words.get(most..).filter(|rest| !rest.is_empty()) {
            let rest: Vec<String> = rest.iter().map(|word| shown(word)).collect();
            self.told.ignored(
                &self.plugin.place,
                "",
                format!("the words after the first {most}: {}", rest.join(" ")),
            );
        }
    }

    /// Exactly one word.
    fn one(&mut self, what: &str) -> Option<String> {
        match self.plugin.words.as_slice() {
            [word] => Some(word.clone()),
            words => self.wrong(format!(
                "has {}, and needs exactly one: {what}",
                counted(words.len(), "word")
            )),
        }
    }

    fn ipv4(&mut self, text: &str) -> Option<Ipv4Addr> {
        self.or_wrong(go::ipv4(text), format!("'{}' is no IPv4 address", shown(text)))
    }

    fn ipv4s(&mut self, what: &str) -> Option<Vec<Ipv4Addr>> {
        let words = self.at_least(1, what)?;
        let ips: Vec<Option<Ipv4Addr>> = words.iter().map(|word| self.ipv4(word)).collect();
        ips.into_iter().collect()
    }

    fn time(&mut self, text: &str) -> Option<Duration> {
        self.or_wrong(go::duration(text), no_time("the word", text))
    }

    fn sleep(&mut self) {
        if let Some(time) = self.one("a time such as 300ms")
            && self.time(&time).is_some()
        {
            self.told.ignored(&self.plugin.place, "", "no answer is held back");
        }
    }

    fn domains(&mut self) -> Vec<String> {
        let mut domains = Vec::new();
        for word in &self.plugin.words {
            let name = word.trim_end_matches('.');
            if coresmd::is_domain(name) {
                domains.push(name.to_owned());
            } else {
                self.told.ignored(
                    &self.plugin.place,
                    "",
                    format!("'{}' is not a domain name", shown(word)),
                );
            }
        }
        domains
    }

    fn routes(&mut self) -> Option<Vec<String>> {
        let words = self.at_least(1, "pairs such as 10.0.0.0/8,172.16.0.1")?;
        let mut routes = Vec::new();
        for word in words {
            let parts = word.split_once(',').map(|(net, via)| (go::cidr(net), go::ipv4(via)));
            match parts {
                Some((Some(IpNet::V4(net)), Some(via))) => routes.push(format!("{net} via {via}")),
                Some((Some(IpNet::V6(_)), _)) => {
                    return self.wrong(format!(
                        "'{}' leads to an IPv6 network, which DHCPv4 cannot say",
                        shown(word)
                    ));
                }
                _ => {
                    return self.wrong(format!(
                        "'{}' is not a network and a router with a comma between, such as 10.0.0.0/8,172.16.0.1",
                        shown(word)
                    ));
                }
            }
        }
        Some(routes)
    }

    fn nbp(&mut self) -> Option<String> {
        let text = self.one("a URL such as tftp://172.16.0.1/ipxe.efi")?;
        match url::Url::parse(&text) {
            Ok(url) if url.has_host() => Some(text),
            Ok(_) => self.wrong(format!(
                "'{}' names no host, as in tftp://172.16.0.1/ipxe.efi",
                shown(&text)
            )),
            Err(error) => self.wrong(format!("'{}' is not a URL: {error}", shown(&text))),
        }
    }

    fn file(&mut self) -> Option<Step> {
        let words = self.at_least(1, "the path of a file with lines of MAC and address")?;
        let path = words.first()?.clone();
        let refresh = match words.get(1).map(String::as_str) {
            None => false,
            Some("autorefresh") => true,
            Some(other) => {
                let text = format!("'{}', since only autorefresh means something there", shown(other));
                self.told.ignored(&self.plugin.place, "", text);
                false
            }
        };
        Some(Step::File { path, refresh })
    }

    fn range(&mut self) -> Option<Step> {
        let words = self.at_least(4, "four: a lease file, first and last address, a time")?;
        self.most(4);
        let [store, first, last, time, ..] = words else {
            return None;
        };
        let pool = bootloop::ends(&self.plugin.place, first, last, self.told);
        let lease_time = self.time(time);
        Some(Step::Range {
            store: store.clone(),
            pool: pool?,
            lease_time: lease_time?,
        })
    }

    /// Kind and hardware address, as `dhcp6.server_id` has them.
    fn duid(&mut self) -> Option<String> {
        let words = self.at_least(2, "two: a kind (LL or LLT) and a hardware address")?;
        self.most(2);
        let [kind, mac, ..] = words else { return None };
        let short = match kind.to_ascii_lowercase().as_str() {
            "ll" | "duid-ll" | "duid_ll" => Some("LL"),
            "llt" | "duid-llt" | "duid_llt" => Some("LLT"),
            _ => self.wrong(format!("'{}' is neither LL nor LLT", shown(kind))),
        };
        let text = format!("'{}' is no hardware address", shown(mac));
        let mac = self.or_wrong(mac.parse::<bootd_sdk::mac::Mac>().ok(), text);
        Some(format!("{} {}", short?, mac?))
    }

    /// Addresses of IPv6; CoreDHCP takes those of IPv4 too, and sends what nobody understands.
    fn ipv6s(&mut self, what: &str) -> Option<Vec<Ipv6Addr>> {
        let words = self.at_least(1, what)?;
        let mut ips = Vec::new();
        for word in words {
            match word.parse::<IpAddr>() {
                Ok(IpAddr::V6(ip)) => ips.push(ip),
                Ok(IpAddr::V4(ip)) => {
                    let text = format!("{ip}, which DHCPv6 cannot say");
                    self.told.ignored(&self.plugin.place, "dhcp6.subnet", text);
                }
                Err(_) => return self.wrong(format!("'{}' is no address", shown(word))),
            }
        }
        Some(ips)
    }

    fn prefix(&mut self) {
        let Some(words) = self.at_least(2, "two: an IPv6 network and a length") else {
            return;
        };
        if let [net, length, ..] = words {
            let net = match go::cidr(net) {
                Some(IpNet::V6(net)) => net.prefix_len(),
                _ => {
                    self.wrong::<()>(format!("'{}' is no IPv6 network", shown(net)));
                    0
                }
            };
            if !length.parse::<u8>().is_ok_and(|length| (net..=128).contains(&length)) {
                self.wrong::<()>(format!("'{}' is not a length within that network", shown(length)));
            }
        }
    }

    fn unknown<T>(&mut self) -> Option<T> {
        self.wrong(format!(
            "there is no plugin '{}'; there are {}",
            shown(&self.plugin.name),
            NAMES.join(", ")
        ))
    }
}
