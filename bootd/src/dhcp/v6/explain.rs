//! What a client would get over IPv6, without a packet: `bootd explain`.
//!
//! Puts together the SOLICIT that such a client sends, has it answered by the code that answers packets, and reads that answer, so it cannot
//! say anything else.

use std::net::Ipv6Addr;

use bootd_sdk::mac::Mac;
use dhcproto::v6::{MessageType, OptionCode};
use serde::Serialize;

use super::answer::{Missing, Verdict, Why, answer};
use super::encode::encode;
use super::policy::{Policy, Receiving};
use super::reply::Reply;
use super::request::{Options, parse};
use crate::config::{Arch, Config, Dhcp6};
use crate::dhcp::v4::boot::{Stage, code_of};
use crate::inventory::Snapshot;

/// What a client would get over IPv6.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Explained6 {
    /// What happens, in words.
    pub verdict: String,
    /// The node, when the inventory knows the hardware address.
    pub xname: Option<String>,
    /// Its address.
    pub address: Option<Ipv6Addr>,
    /// Option 23.
    pub dns: Vec<Ipv6Addr>,
    /// Option 24.
    pub search: Vec<String>,
    /// The name in option 39.
    pub hostname: Option<String>,
    /// Option 59.
    pub boot_file: Option<String>,
    /// Valid lifetime of the address.
    pub lifetime_s: Option<u32>,
    /// The subnet by which it is served.
    pub subnet: Option<String>,
    /// The rules that fit, in order.
    pub rules: Vec<String>,
    /// All other options of the answer.
    pub options: Vec<String>,
}

/// Says what the client with this hardware address gets at this stage of its boot, on a wire of this box.
pub fn explain6(
    config: &Config,
    dhcp6: &Dhcp6,
    snapshot: &Snapshot,
    own: &Receiving,
    mac: Mac,
    arch: Option<Arch>,
    stage: Stage,
) -> Explained6 {
    explained(&Policy::rehearsed(config, dhcp6), snapshot, own, mac, arch, stage)
}

/// The same by rules that were read already.
pub(in crate::dhcp) fn explained(
    policy: &Policy,
    snapshot: &Snapshot,
    own: &Receiving,
    mac: Mac,
    arch: Option<Arch>,
    stage: Stage,
) -> Explained6 {
    let packet = solicit(mac, arch, stage);
    let nothing = |verdict: String| Explained6 {
        verdict,
        ..Explained6::default()
    };
    let request = match parse(&packet, link_local(mac)) {
        Ok(request) => request,
        // The packet above is whole.
        Err(bad) => return nothing(format!("gets no answer: {bad}")),
    };
    match answer(&request, policy, snapshot, own) {
        Verdict::Reply(reply) => of_reply(&reply),
        Verdict::Unknown(Missing::Mac(_)) => nothing("is not in the inventory: no address".into()),
        Verdict::Unknown(missing) => nothing(format!("gets no address: {}", missing.why())),
        Verdict::Ignore(why @ (Why::NoSubnet | Why::RelayNotServed)) => nothing(format!("gets no answer here: {why}")),
        Verdict::Ignore(why) => nothing(format!("gets no answer: {why}")),
    }
}

fn of_reply(reply: &Reply<'_>) -> Explained6 {
    let words = match reply.xname {
        Some(xname) => format!("is in the inventory as {xname}"),
        None => "is in the file of hosts".into(),
    };
    let words = match &reply.grant {
        Some(grant) => format!("{words}; here, and behind relays of {}", grant.subnet),
        None => words,
    };
    let booting = reply.grant.as_ref().map(|grant| &grant.booting);
    let verdict = match booting.and_then(|booting| booting.note) {
        Some(note) => format!("{words}; {note}"),
        None => words,
    };
    let mut explained = Explained6 {
        verdict,
        xname: reply.xname.map(str::to_owned),
        address: reply.ip,
        subnet: reply.grant.as_ref().map(|grant| grant.subnet.to_string()),
        rules: reply
            .grant
            .iter()
            .flat_map(|grant| grant.said.rules.iter().map(|rule| rule.name.clone()))
            .collect(),
        ..Explained6::default()
    };
    let mut packet = Vec::new();
    encode(reply, &mut packet);
    // Written by our own encoder a moment ago.
    for (code, value) in Options(packet.get(4..).unwrap_or_default()).flatten() {
        match code {
            OptionCode::ClientId | OptionCode::ServerId => {}
            OptionCode::IANA => explained.lifetime_s = lifetime(value),
            OptionCode::DomainNameServers => {
                let ips = value.as_chunks::<16>().0.iter();
                explained.dns = ips.copied().map(Ipv6Addr::from).collect();
            }
            OptionCode::DomainSearchList => explained.search = names(value),
            OptionCode::ClientFqdn => explained.hostname = Some(name(value.get(1..).unwrap_or_default())),
            OptionCode::OptBootfileUrl => explained.boot_file = Some(String::from_utf8_lossy(value).into_owned()),
            _ => {
                let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
                explained.options.push(format!("{} = {hex}", u16::from(code)));
            }
        }
    }
    explained
}

/// The valid lifetime of the first address of an IA_NA.
fn lifetime(ia: &[u8]) -> Option<u32> {
    let (_, address) = Options(ia.get(12..)?).flatten().next()?;
    Some(u32::from_be_bytes(*address.get(20..)?.first_chunk()?))
}

/// Names of DNS, one behind the other.
fn names(mut labels: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    while !labels.is_empty() {
        names.push(name(labels));
        let mut end = 0;
        while let Some(length @ 1..) = labels.get(end) {
            end += usize::from(*length) + 1;
        }
        labels = labels.get(end + 1..).unwrap_or_default();
    }
    names
}

/// A name of DNS as text.
fn name(mut labels: &[u8]) -> String {
    let mut text = String::new();
    while let [length @ 1..=u8::MAX, rest @ ..] = labels {
        let (label, next) = rest.split_at_checked((*length).into()).unwrap_or((rest, &[]));
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(&String::from_utf8_lossy(label));
        labels = next;
    }
    text
}

/// The SOLICIT of such a client, which lists what it may get.
fn solicit(mac: Mac, arch: Option<Arch>, stage: Stage) -> Vec<u8> {
    let mut packet = vec![MessageType::Solicit.into(), 0, 0, 0];
    let mut option = |code: OptionCode, value: &[u8]| {
        packet.extend_from_slice(&u16::from(code).to_be_bytes());
        packet.extend_from_slice(&(value.len() as u16).to_be_bytes());
        packet.extend_from_slice(value);
    };
    option(OptionCode::ClientId, &[&[0, 3, 0, 1], &mac.0[..]].concat());
    option(OptionCode::IANA, &[0; 12]);
    let wanted = [
        OptionCode::DomainNameServers,
        OptionCode::ClientFqdn,
        OptionCode::OptBootfileUrl,
        OptionCode::OptBootfileParam,
    ];
    let list: Vec<u8> = wanted.iter().flat_map(|code| u16::from(*code).to_be_bytes()).collect();
    option(OptionCode::ORO, &list);
    if stage == Stage::Firmware {
        option(OptionCode::VendorClass, b"\x00\x00\x01\x57\x00\x09PXEClient");
    }
    if stage == Stage::Ipxe {
        option(OptionCode::UserClass, b"\x00\x04iPXE");
    }
    if let Some(arch) = arch.filter(|_| stage != Stage::Os) {
        option(OptionCode::ClientArchType, &code_of(arch).to_be_bytes());
    }
    packet
}

/// The address of the link that a client makes of its hardware address.
fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::dhcp::v4::testing::{mac, node, snapshot};

    #[test]
    fn a_node_is_explained_as_it_would_be_answered() {
        let text = "[server]\ninterfaces = [\"e\"]\n[dhcp]\ndomain = \"openchami.cluster\"\n[dhcp6]\n[[dhcp6.subnet]]\nprefix = \"fd00::/64\"\n\
                    dns = [\"fd00::fe\"]\nsearch = [\"openchami.cluster\", \"a.b\"]\noptions = { \"99\" = \"0a\" }\n[[dhcp.rule]]\nname = \"all\"\nhostname = \"n{02d}\"\n";
        let config = crate::config::parse(text, Path::new("bootd.toml")).unwrap();
        let own = Receiving::of(["fd00::fe".parse().unwrap()]);
        let nodes = snapshot([node(1, &["fd00::1"]), node(2, &["10.0.0.2"])]);
        let of = |number, stage| {
            let six = config.dhcp6.as_ref().unwrap();
            explain6(&config, six, &nodes, &own, mac(number), Some(Arch::X86_64Efi), stage)
        };
        let expected = Explained6 {
            verdict: "is in the inventory as x1000c0s0b0n1; here, and behind relays of fd00::/64".into(),
            xname: Some("x1000c0s0b0n1".into()),
            address: Some("fd00::1".parse().unwrap()),
            dns: vec!["fd00::fe".parse().unwrap()],
            search: vec!["openchami.cluster".into(), "a.b".into()],
            hostname: Some("n01.openchami.cluster".into()),
            boot_file: Some("tftp://[fd00::fe]/ipxe-x86_64.efi".into()),
            lifetime_s: Some(3600),
            subnet: Some("fd00::/64".into()),
            rules: vec!["all".into()],
            options: vec!["99 = 0a".into()],
        };
        assert_eq!(of(1, Stage::Firmware), expected);
        let script = of(1, Stage::Ipxe).boot_file;
        assert!(
            script.as_deref() == Some("http://[fd00::fe]:8081/boot/v1/bootscript?mac=02:00:00:00:00:01"),
            "{script:?}"
        );
        assert_eq!(of(1, Stage::Os).boot_file, None);
        assert!(
            of(2, Stage::Os).verdict.contains("without an IPv6 address"),
            "{:?}",
            of(2, Stage::Os)
        );
        assert!(of(3, Stage::Os).verdict.contains("not in the inventory"));
    }
}
