//! `[[dhcp.rule]]`: criteria and what they lead to.

use ipnet::IpNet;

use super::{Mistakes, options, options6};
use crate::config::raw::{self, Field};
use crate::config::{Arch, BadGlob, Criteria, DhcpOption, DomainOf, Glob, Rule, RuleLog, When};

pub(super) fn rules(m: &mut Mistakes, raw: Field<Vec<Field<raw::Rule>>>) -> Vec<Rule> {
    let all = m.list("dhcp.rule", raw);
    if all.len() > MOST {
        m.wrong("dhcp.rule", format!("{} rules are more than {MOST}", all.len()));
    }
    all.into_iter().map(|(i, raw)| rule(m, i, raw)).collect()
}

/// So that the number of a rule fits where matches are kept.
const MOST: usize = 4096;

fn rule(m: &mut Mistakes, number: usize, raw: raw::Rule) -> Rule {
    let table = format!("dhcp.rule[{number}]");
    let key = |name: &str| format!("{table}.{name}");
    m.unknown(&table, &raw.unknown_keys, raw::Rule::KEYS);
    let criteria = Criteria {
        types: m.words(&key("type"), raw.r#type),
        ids: m.each(&key("id"), raw.id, |text| Glob::xname(&text.to_ascii_lowercase())),
        groups: m.words(&key("group"), raw.group),
        subnets: m.each(&key("subnet"), raw.subnet, |text| {
            text.parse().map(|net: IpNet| net.trunc())
        }),
        macs: m.each(&key("mac"), raw.mac, mac),
        archs: m.each(&key("arch"), raw.arch, arch),
        vendor_classes: m.each(&key("vendor_class"), raw.vendor_class, Glob::bytes),
        user_classes: m.each(&key("user_class"), raw.user_class, Glob::bytes),
        circuit_ids: m.each(&key("circuit_id"), raw.circuit_id, Glob::bytes),
        remote_ids: m.each(&key("remote_id"), raw.remote_id, Glob::bytes),
    };
    let name = m.optional(&key("name"), raw.name);
    let hostname = m.optional(&key("hostname"), raw.hostname);
    let parts = [("rule", DomainOf::Rule), ("global", DomainOf::Global)];
    let domain_append = match raw.domain_append {
        Field::Absent => None,
        field => Some(m.each(&key("domain_append"), field, |text| {
            let found = parts.iter().find(|(word, _)| *word == text);
            found.map(|(_, part)| *part).ok_or("is neither \"rule\" nor \"global\"")
        })),
    };
    if let Some([a, b]) = domain_append.as_deref()
        && a == b
    {
        m.wrong(key("domain_append"), "names the same domain twice");
    }
    let mut given = options::options(m, &key("options"), raw.options);
    let routers = m.addresses(&key("routers"), raw.routers);
    given.set_addresses(3, When::Always, &routers);
    let netmask: Option<String> = m.optional(&key("netmask"), raw.netmask);
    let mask_of_subnet = netmask.as_deref() == Some("subnet");
    if mask_of_subnet && !criteria.subnets.iter().any(|net| matches!(net, IpNet::V4(_))) {
        m.wrong(
            key("netmask"),
            "\"subnet\" is the mask of what `subnet` lists, and there is no network of IPv4",
        );
    }
    if let Some(text) = netmask.filter(|_| !mask_of_subnet)
        && let Some(mask) = m.mask(&key("netmask"), &text)
    {
        given.set(DhcpOption::new(1, When::Always, &mask.octets()));
    }
    let levels = [
        ("info", RuleLog::Info),
        ("debug", RuleLog::Debug),
        ("none", RuleLog::None),
    ];
    let rule = Rule {
        name: name.unwrap_or_else(|| format!("rule[{number}]")),
        criteria,
        hostname: m.parsed(&key("hostname"), hostname),
        domain: m.domain(&key("domain"), raw.domain),
        domain_append,
        mask_of_subnet,
        options: given,
        options6: options6::options(m, &key("options6"), raw.options6),
        loader: m.boot_file(&key("loader"), raw.loader),
        script: m.boot_file(&key("script"), raw.script),
        ignore: m.optional(&key("ignore"), raw.ignore).unwrap_or_default(),
        goes_on: m.optional(&key("continue"), raw.r#continue).unwrap_or_default(),
        log: m.choice(&key("log"), raw.log, &levels).unwrap_or_default(),
    };
    if !acts(&rule) && !m.has(&table) {
        m.wrong(
            &table,
            "does nothing: it needs hostname, domain, routers, netmask, options, options6, loader, script or ignore",
        );
    }
    rule
}

fn acts(rule: &Rule) -> bool {
    rule.ignore
        || rule.mask_of_subnet
        || rule.hostname.is_some()
        || rule.domain.is_some()
        || !rule.options.is_empty()
        || !rule.options6.is_empty()
        || rule.loader.is_some()
        || rule.script.is_some()
}

fn mac(text: &str) -> Result<Glob, BadGlob> {
    Glob::text(&text.to_ascii_lowercase().replace('-', ":"))
}

fn arch(name: &str) -> Result<Arch, String> {
    Arch::from_name(name).ok_or_else(|| {
        let known = Arch::ALL.map(Arch::name).join(", ");
        format!("no such architecture; there are {known}")
    })
}
