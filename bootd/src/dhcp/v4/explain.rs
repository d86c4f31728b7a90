//! What a client would get, without a packet: `bootd explain`.
//!
//! Puts together the packet that such a client sends, has it answered by the code that answers packets, and reads that answer, so it cannot say
//! anything else.

use std::net::Ipv4Addr;

use bootd_sdk::mac::Mac;
use dhcproto::v4::{MessageType, OptionCode};
use serde::Serialize;

use super::answer::{Verdict, answer};
use super::boot::{Stage, code_of};
use super::encode::encode;
use super::options::{find, read};
use super::policy::{Policy, Receiving};
use super::pool::Pools;
use super::reply::Reply;
use super::request::{BROADCAST, HEADER, MAGIC_COOKIE, Request, parse};
use crate::config::{Arch, Config, OptionSet};
use crate::inventory::Snapshot;

/// What a client would get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// What happens, in words.
    pub verdict: String,
    /// The node, when the inventory knows the hardware address.
    pub xname: Option<String>,
    /// Its address; clients of a pool get one of the pool's.
    pub address: Option<Ipv4Addr>,
    /// Option 1.
    pub mask: Option<Ipv4Addr>,
    /// Option 3.
    pub routers: Vec<Ipv4Addr>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 12.
    pub hostname: Option<String>,
    /// The server from which it fetches its loader by TFTP.
    pub next_server: Option<Ipv4Addr>,
    /// Option 67.
    pub boot_file: Option<String>,
    /// Option 51.
    pub lease_time_s: Option<u32>,
    /// The subnet by which it is served.
    pub subnet: Option<String>,
    /// The rules that fit, in order.
    pub rules: Vec<String>,
    /// All options, each with the scope that it is from.
    pub options: Vec<String>,
}

/// Says what the client with this hardware address gets at this stage of its boot. `own`: this box's addresses, for subnets whose configuration
/// has none.
pub fn explain(
    config: &Config,
    snapshot: &Snapshot,
    own: &[Ipv4Addr],
    mac: Mac,
    arch: Option<Arch>,
    stage: Stage,
) -> Explained {
    // A file of hosts that cannot be read keeps DHCP from starting; `bootd check` tells.
    let policy = Policy::read(config).unwrap_or_else(|_| Policy::new(config));
    let packet = discover(mac, arch, stage);
    let request = match parse(&packet) {
        Ok(request) => request,
        // The packet above is whole.
        Err(bad) => return nothing(format!("gets no answer: {bad}")),
    };
    // On no interface in particular: a node's own address says where it is. Of several of ours the one in its subnet is taken.
    let addresses = if config.address.is_some() { &[] } else { own };
    let receiving = Receiving {
        addresses: addresses.to_vec(),
        link: None,
    };
    match answer(&request, &policy, snapshot, &receiving) {
        Verdict::Reply(reply) => {
            let words = match reply.xname {
                Some(xname) => format!("is in the inventory as {xname}"),
                None if reply.yiaddr.is_unspecified() => "gets no address, and is told why".into(),
                None => "is in the file of hosts".into(),
            };
            let mut explained = of_reply(config, &reply, words);
            explained.address = Some(reply.yiaddr);
            explained
        }
        Verdict::Unknown(..) => unknown(config, &request, &policy, snapshot, &receiving, mac),
        // A DISCOVER of this shape gets one of the two above.
        Verdict::Ignore(why) => nothing(format!("gets no answer: {why}")),
        Verdict::Nak(..) | Verdict::Lease(..) | Verdict::End(..) | Verdict::Freed(..) | Verdict::Probe(_) => {
            nothing("gets no offer".into())
        }
    }
}

fn unknown(
    config: &Config,
    request: &Request<'_>,
    policy: &Policy,
    snapshot: &Snapshot,
    receiving: &Receiving,
    mac: Mac,
) -> Explained {
    let node = snapshot.by_mac(mac).map(|(node, _)| node);
    let who = match node {
        Some(node) => format!(
            "is in the inventory as {}, without an IPv4 address in a served subnet",
            node.id
        ),
        None => "is not in the inventory".into(),
    };
    let Some(subnet) = policy.subnets.iter().find(|subnet| subnet.pool.is_some()) else {
        return nothing(format!("{who}, and there is no pool: no answer"));
    };
    let receiving = match subnet.server {
        Some(server) => Receiving {
            addresses: vec![server],
            link: None,
        },
        None => receiving.clone(),
    };
    let verdict = Pools::new(policy).answer(request, policy, snapshot, &receiving, Default::default());
    let mut explained = match (verdict, &subnet.pool) {
        (Verdict::Reply(reply), Some(pool)) => of_reply(
            config,
            &reply,
            format!(
                "{who}: gets a free address of the pool {} to {} when it is on that wire",
                pool.first, pool.last
            ),
        ),
        (Verdict::Ignore(why), _) => nothing(format!("{who}: {why}")),
        _ => nothing(who),
    };
    explained.xname = node.map(|node| node.id.clone());
    explained
}

fn of_reply(config: &Config, reply: &Reply<'_>, words: String) -> Explained {
    let mut packet = Vec::new();
    encode(reply, &mut packet);
    let options = &packet[HEADER..];
    let verdict = match reply.booting.note {
        Some(note) => format!("{words}; {note}"),
        None => words,
    };
    Explained {
        verdict,
        xname: reply.xname.map(str::to_owned),
        address: None,
        mask: addresses(options, OptionCode::SubnetMask).first().copied(),
        routers: addresses(options, OptionCode::Router),
        dns: addresses(options, OptionCode::DomainNameServer),
        hostname: text(options, OptionCode::Hostname),
        next_server: Some(reply.siaddr()),
        boot_file: text(options, OptionCode::BootfileName),
        lease_time_s: find(options, OptionCode::AddressLeaseTime)
            .and_then(|value| value.first_chunk().copied())
            .map(u32::from_be_bytes),
        subnet: reply.grant.as_ref().map(|grant| grant.subnet.to_string()),
        rules: reply
            .grant
            .iter()
            .flat_map(|grant| grant.said.rules.iter().map(|rule| rule.name.clone()))
            .collect(),
        options: scoped(config, reply, options),
    }
}

/// The options of a reply, each with the scope that it is from.
fn scoped(config: &Config, reply: &Reply<'_>, area: &[u8]) -> Vec<String> {
    let Some(grant) = &reply.grant else {
        return vec![];
    };
    let subnet = config
        .dhcp
        .subnets
        .iter()
        .enumerate()
        .find(|(_, subnet)| (subnet.network, subnet.prefix) == (grant.subnet.network, grant.subnet.prefix));
    // The later wins; what none of them has is bootd's own doing.
    let mut scopes: Vec<(String, &OptionSet)> = vec![("dhcp.options".into(), &config.dhcp.options)];
    let of_subnet = subnet.map(|(i, _)| format!("dhcp.subnet[{i}]"));
    scopes.extend(of_subnet.clone().zip(subnet.map(|(_, subnet)| &subnet.options)));
    scopes.extend(grant.unknown.map(|options| ("dhcp.unknown".into(), options)));
    let rules = grant.said.rules.iter();
    scopes.extend(rules.map(|rule| (format!("rule {}", rule.name), &rule.options)));
    scopes.extend(grant.own.map(|options| ("the node itself".into(), options)));
    let mut codes = Vec::new();
    // Written by our own encoder a moment ago.
    let _ = read(area, |code, _| {
        if !codes.contains(&code) {
            codes.push(code);
        }
    });
    let mut lines = Vec::new();
    for code in codes {
        let value = find(area, code.into()).unwrap_or_default();
        let same = |options: &OptionSet| options.get(code).is_some_and(|option| option.value() == *value);
        let from = scopes
            .iter()
            .rev()
            .find(|(_, options)| same(options))
            .map(|(name, _)| name.clone());
        let masks = grant.said.rules.iter().rev().find(|rule| rule.mask_of_subnet);
        let from = from.or_else(|| match code {
            1 if grant.said.mask.is_some() => masks.map(|rule| format!("rule {}", rule.name)),
            1 | 3 | 6 => of_subnet.clone(),
            12 => Some(
                match grant.said.rules.iter().rev().find(|rule| rule.hostname.is_some()) {
                    Some(rule) => format!("rule {}", rule.name),
                    None => "dhcp.hostnames".into(),
                },
            ),
            _ => None,
        });
        let from = from.map(|from| format!(" ({from})")).unwrap_or_default();
        lines.push(format!("{code} = {}{from}", shown(code, &value)));
    }
    lines
}

/// The value of an option for humans.
pub(in crate::dhcp) fn shown(code: u8, value: &[u8]) -> String {
    let hex = || value.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match (code, value) {
        (1 | 3 | 6 | 7 | 28 | 42 | 54, _) if !value.is_empty() && value.len().is_multiple_of(4) => {
            let ips = value
                .as_chunks::<4>()
                .0
                .iter()
                .map(|ip| Ipv4Addr::from(*ip).to_string());
            ips.collect::<Vec<_>>().join(" ")
        }
        (2 | 51 | 58 | 59 | 108, &[a, b, c, d]) => i32::from_be_bytes([a, b, c, d]).to_string(),
        (26, &[a, b]) => u16::from_be_bytes([a, b]).to_string(),
        (53 | 116, &[a]) => a.to_string(),
        (12 | 15 | 17 | 60 | 66 | 67, _) => String::from_utf8_lossy(value).into_owned(),
        _ => hex(),
    }
}

/// The addresses in an option; half a one at its end is left out.
fn addresses(options: &[u8], code: OptionCode) -> Vec<Ipv4Addr> {
    let value = find(options, code).unwrap_or_default();
    value.as_chunks::<4>().0.iter().copied().map(Ipv4Addr::from).collect()
}

fn text(options: &[u8], code: OptionCode) -> Option<String> {
    find(options, code).map(|value| String::from_utf8_lossy(&value).into_owned())
}

fn nothing(verdict: String) -> Explained {
    Explained {
        verdict,
        xname: None,
        address: None,
        mask: None,
        routers: vec![],
        dns: vec![],
        hostname: None,
        next_server: None,
        boot_file: None,
        lease_time_s: None,
        subnet: None,
        rules: vec![],
        options: vec![],
    }
}

/// The DISCOVER of such a client. It asks for broadcast, and for no option in particular.
pub(in crate::dhcp) fn discover(mac: Mac, arch: Option<Arch>, stage: Stage) -> Vec<u8> {
    let mut packet = vec![0; HEADER];
    packet[..3].copy_from_slice(&[1, 1, 6]);
    packet[10..12].copy_from_slice(&BROADCAST.to_be_bytes());
    packet[28..34].copy_from_slice(&mac.0);
    packet[HEADER - MAGIC_COOKIE.len()..].copy_from_slice(&MAGIC_COOKIE);
    let mut option = |code: OptionCode, value: &[u8]| {
        packet.extend_from_slice(&[code.into(), value.len() as u8]);
        packet.extend_from_slice(value);
    };
    option(OptionCode::MessageType, &[MessageType::Discover.into()]);
    if stage == Stage::Firmware {
        option(OptionCode::ClassIdentifier, b"PXEClient");
    }
    if stage == Stage::Ipxe {
        option(OptionCode::UserClass, b"iPXE");
    }
    if let Some(arch) = arch.filter(|_| stage != Stage::Os) {
        option(OptionCode::ClientSystemArchitecture, &code_of(arch).to_be_bytes());
    }
    packet.push(OptionCode::End.into());
    packet
}

#[cfg(test)]
mod tests {
    use super::super::testing::{SERVER, config, mac, node, site, snapshot};
    use super::*;

    #[test]
    fn a_node_is_explained_as_it_would_be_answered() {
        let explained = explain(&config(), &site(), &[], mac(1), Some(Arch::X86_64Efi), Stage::Firmware);
        let expected = Explained {
            verdict: "is in the inventory as x1000c0s0b0n1".into(),
            xname: Some("x1000c0s0b0n1".into()),
            address: Some([172, 16, 0, 1].into()),
            mask: Some([255, 255, 255, 0].into()),
            routers: vec![SERVER],
            dns: vec![SERVER],
            hostname: Some("nid0001.openchami.cluster".into()),
            next_server: Some(SERVER),
            boot_file: Some("ipxe-x86_64.efi".into()),
            lease_time_s: Some(3600),
            subnet: Some("172.16.0.0/24".into()),
            rules: vec![],
            options: [
                "1 = 255.255.255.0 (dhcp.subnet[0])",
                "3 = 172.16.0.254 (dhcp.subnet[0])",
                "6 = 172.16.0.254 (dhcp.subnet[0])",
                "12 = nid0001.openchami.cluster (dhcp.hostnames)",
                "17 = 172.16.0.254",
                "51 = 3600",
                "53 = 2",
                "54 = 172.16.0.254",
                "67 = ipxe-x86_64.efi",
            ]
            .map(str::to_owned)
            .into(),
        };
        assert_eq!(explained, expected);
        let script = explain(&config(), &site(), &[], mac(1), None, Stage::Ipxe).boot_file;
        assert!(script.is_some_and(|url| url.ends_with("/boot/v1/bootscript?mac=02:00:00:00:00:01")));
        assert_eq!(
            explain(&config(), &site(), &[], mac(1), None, Stage::Os).boot_file,
            None
        );
    }

    #[test]
    fn the_rules_that_fit_and_the_scopes_of_options_are_named() {
        let text = "[server]\ninterfaces = [\"e\"]\naddress = \"172.16.0.254\"\n[dhcp]\noptions = { mtu = 9000, \"43\" = \"01\" }\n\
                    [[dhcp.subnet]]\ncidr = \"172.16.0.0/24\"\noptions = { mtu = 1500 }\n\
                    [[dhcp.rule]]\nname = \"all\"\nhostname = \"n{02d}\"\ncontinue = true\n\
                    [[dhcp.rule]]\nsubnet = [\"172.16.0.0/16\"]\nnetmask = \"subnet\"\noptions = { \"43\" = \"02\" }\n";
        let config = crate::config::parse(text, std::path::Path::new("bootd.toml")).unwrap();
        let explained = explain(&config, &site(), &[], mac(1), None, Stage::Os);
        assert_eq!(explained.rules, ["all", "rule[1]"]);
        for line in [
            "1 = 255.255.0.0 (rule rule[1])",
            "12 = n01 (rule all)",
            "26 = 1500 (dhcp.subnet[0])",
            "43 = 02 (rule rule[1])",
        ] {
            assert!(
                explained.options.iter().any(|option| option == line),
                "{line}: {explained:?}"
            );
        }
    }

    #[test]
    fn a_stranger_is_told_of_the_pool_or_of_nothing() {
        let stranger = explain(&config(), &site(), &[], mac(9), None, Stage::Ipxe);
        assert!(
            stranger.verdict.contains("172.16.0.200 to 172.16.0.207"),
            "{stranger:?}"
        );
        assert_eq!((stranger.address, stranger.lease_time_s), (None, Some(300)));
        let mut config = config();
        for subnet in &mut config.dhcp.subnets {
            subnet.pool = None;
        }
        let stranger = explain(&config, &site(), &[], mac(9), None, Stage::Ipxe);
        assert!(stranger.verdict.ends_with("no answer"), "{stranger:?}");
        let elsewhere = explain(
            &config,
            &snapshot([node(2, &["192.168.9.9"])]),
            &[],
            mac(2),
            None,
            Stage::Os,
        );
        assert_eq!(elsewhere.xname, None);
        assert!(elsewhere.verdict.contains("x1000c0s0b0n2"), "{elsewhere:?}");
    }
}
