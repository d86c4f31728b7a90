//! A coredhcp.yaml with `server6`.

use super::super::testing::{Client, part};
use super::*;
use crate::dhcp::v4::testing::node;

/// Configuration B6 of the contract, with these lines after `dns`.
fn yaml(more: &str) -> String {
    format!(
        "server6:\n  listen: \"[ff02::1:2%veth0]\"\n  plugins:\n    - server_id: LL 02:00:00:00:00:fe\n    - dns: fd00::fe\n{more}"
    )
}

const CORESMD: &str = "    - coresmd: svc_base_uri=http://127.0.0.1:27779 ipxe_base_uri=http://172.16.0.254:8081 lease_time=1h \
                       domain=openchami.cluster rule=type:Node,hostname:nid{04d}\n";

/// A case with this coredhcp.yaml.
fn dropin(rule: &'static str, says: &'static str, yaml: &str) -> Case {
    let (config, mistakes) = match config::coredhcp::read(yaml) {
        Ok(understood) => (understood.toml, vec![]),
        Err(mistakes) => (String::new(), mistakes.iter().map(ToString::to_string).collect()),
    };
    Case {
        config,
        mistakes,
        ..case(rule, says)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let client = || Client::new(1).ia(7, &[]);
    let b6 = yaml(CORESMD);
    vec![
        dropin(
            "7 B6",
            "configuration B6 gives a node its address, its name and the name server",
            &b6,
        )
        .message(
            client().asks(&[23, 39]).solicit(),
            advertise()
                .lease(7, &[("fd00::1", 3600)])
                .with(23, octets("fd00::fe"))
                .with(39, [&[0], &labels("nid0001.openchami.cluster")[..], &[0]].concat()),
        ),
        dropin("2.8 M", "with coresmd iPXE gets the boot script at ipxe_base_uri", &b6).message(
            client().option(15, &part("iPXE")).solicit(),
            advertise().file("http://172.16.0.254:8081/boot/v1/bootscript?mac=02:00:00:00:00:01"),
        ),
        dropin(
            "2.8 I",
            "with coresmd firmware gets the loader of its architecture",
            &b6,
        )
        .message(
            client().option(61, &[0, 7]).asks(&[59]).solicit(),
            advertise().file("tftp://[fd00::fe]/ipxe-x86_64.efi"),
        ),
        dropin(
            "2.8 M",
            "with coresmd a node gets its first IPv6 address, whatever subnet that is of",
            &b6,
        )
        .nodes([node(1, &["2001:db8::1", "fd00::1"])])
        .only(Way::Relayed)
        .message(client().solicit(), advertise().lease(7, &[("2001:db8::1", 3600)])),
        dropin(
            "1.4 M",
            "coresmd's rule that ignores leaves a node without an answer",
            &yaml(&CORESMD.replace("hostname:nid{04d}", "ignore:true")),
        )
        .message(client().solicit(), silence("ignored_by_rule")),
        dropin(
            "1.5",
            "a rule for a subnet of IPv6 names its nodes",
            &yaml(&CORESMD.replace("type:Node,hostname:nid{04d}", "subnet:fd00::/64,hostname:six")),
        )
        .message(
            client().asks(&[39]).solicit(),
            advertise().with(39, [&[0], &labels("six.openchami.cluster")[..], &[0]].concat()),
        ),
        dropin(
            "1.3 M",
            "searchdomains sends option 24 always",
            &yaml("    - searchdomains: a.example\n"),
        )
        .message(
            Client::new(1).send(11),
            reply().with(24, [&labels("a.example")[..], &[0]].concat()).without(23),
        ),
        dropin(
            "1.3 M",
            "nbp is the boot file of who lists option 59, and its parameters that of who lists 60",
            &yaml("    - nbp: \"http://[fd00::9]/x?params=a%3Db\"\n"),
        )
        .message(
            Client::new(1).asks(&[59, 60]).send(11),
            reply().file("http://[fd00::9]/x?params=a%3Db").with(60, part("a=b")),
        )
        .message(Client::new(1).send(11), reply().without(59).without(60)),
        dropin(
            "1.3 I",
            "prefixes are refused by their status, where CoreDHCP delegates them",
            &yaml(&format!("    - prefix: 2001:db8::/48 64\n{CORESMD}")),
        )
        .message(
            client().option(25, &super::super::testing::ia(9, &[])).solicit(),
            advertise().lease(7, &[("fd00::1", 3600)]).nothing(25, 9, 6),
        ),
        dropin(
            "6.3.13",
            "a file with coresmd in both sections is taken, and serves version 6 with its own lifetime",
            &format!(
                "server4:\n  plugins:\n    - server_id: 172.16.0.254\n    - netmask: 255.255.255.0\n{}{}",
                CORESMD.replace("lease_time=1h", "lease_time=2h"),
                b6
            ),
        )
        .message(client().solicit(), advertise().lease(7, &[("fd00::1", 3600)])),
        dropin(
            "1.6 M",
            "bootloop in server6 is fatal, as upstream",
            &yaml("    - bootloop: x\n"),
        )
        .refused("server6.plugins[2] bootloop: it is for server4 only"),
        dropin(
            "1.3 M",
            "a server_id of another kind is fatal, as upstream",
            &b6.replace("LL 02", "EN 02"),
        )
        .refused("server6.plugins[0] server_id: 'EN' is neither LL nor LLT"),
    ]
}
