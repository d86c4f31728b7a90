//! Rules: groups of clients with names, options, loaders and scripts of their own.

use super::super::testing::{Client, node};
use super::*;

const OWN: [u8; 4] = [172, 16, 0, 1];

/// B with rules.
fn rules(rule: &'static str, says: &'static str, rules: &[&str]) -> Case {
    let text: Vec<String> = rules.iter().map(|rule| format!("[[dhcp.rule]]\n{rule}\n")).collect();
    case(rule, says).config(&text.concat())
}

fn controller(number: u8, ip: &str) -> Node {
    let mut bmc = node(number, &[ip]);
    bmc.kind = "NodeBMC".into();
    bmc.id = "x1000c0s0b0".into();
    bmc.nid = None;
    bmc
}

pub(super) fn cases() -> Vec<Case> {
    let client = || Client::new(1);
    let mut grouped = node(1, &["172.16.0.1"]);
    grouped.groups = vec!["compute".into()];
    let mut child = node(1, &["172.16.0.1"]);
    child.id = "x1000c0s0b0n0".into();
    let named = |name: &'static str| offer(OWN).with(12, name);
    vec![
        rules(
            "1.5 M",
            "a rule names nodes by their type",
            &["type = [\"Node\"]\nhostname = \"c{05d}\""],
        )
        .packet(client().discover(), named("c00001.openchami.cluster")),
        rules(
            "1.5 M",
            "a rule of another type does not fit",
            &["type = [\"NodeBMC\"]\nhostname = \"bmc{04d}\""],
        )
        .packet(client().discover(), named("nid0001.openchami.cluster")),
        rules("1.5 M", "{id} is the xname", &["hostname = \"n-{id}\""])
            .packet(client().discover(), named("n-x1000c0s0b0n1.openchami.cluster")),
        rules(
            "1.5 M",
            "the first rule that fits ends the search",
            &["hostname = \"a\"", "hostname = \"b\"\nrouters = [\"172.16.0.9\"]"],
        )
        .packet(
            client().discover(),
            named("a.openchami.cluster").with(3, [172, 16, 0, 254]),
        ),
        rules(
            "1.5 M",
            "a rule that continues lets later ones add and replace",
            &[
                "hostname = \"a\"\nrouters = [\"172.16.0.8\"]\ncontinue = true",
                "hostname = \"b\"",
            ],
        )
        .packet(
            client().discover(),
            named("b.openchami.cluster").with(3, [172, 16, 0, 8]),
        ),
        rules(
            "1.5 M",
            "a rule with several criteria fits when all do",
            &[
                "type = [\"Node\"]\nid = [\"x9c0s0b0n0\"]\nhostname = \"a\"",
                "type = [\"Node\"]\nid = [\"x1000c0s0b0n1\"]\nhostname = \"b\"",
            ],
        )
        .packet(client().discover(), named("b.openchami.cluster")),
        rules(
            "1.5 I",
            "ranges in brackets name many xnames",
            &["id = [\"x1000c0s[0-3]b0n[1,7]\"]\nhostname = \"a\""],
        )
        .nodes([node(1, &["172.16.0.1"]), node(2, &["172.16.0.2"])])
        .packet(client().discover(), named("a.openchami.cluster"))
        .packet(
            Client::new(2).discover(),
            offer([172, 16, 0, 2]).with(12, "nid0002.openchami.cluster"),
        ),
        rules(
            "1.5 M",
            "a rule of a subnet looks at the address that is given",
            &[
                "subnet = [\"10.0.0.0/8\"]\nhostname = \"far\"",
                "subnet = [\"172.16.0.0/24\"]\nhostname = \"near\"",
            ],
        )
        .config(SECOND)
        .nodes([node(1, &["172.16.0.1", "10.1.0.1"])])
        .packet(client().discover(), named("near.openchami.cluster"))
        .packet(
            client().giaddr([10, 1, 0, 9]).discover(),
            offer([10, 1, 0, 1]).with(12, "far.openchami.cluster"),
        ),
        rules(
            "2.5 I",
            "the mask of a rule is that of the subnet that holds the address, not of the first one",
            &["subnet = [\"10.0.0.0/8\", \"172.16.0.0/16\"]\nnetmask = \"subnet\""],
        )
        .packet(client().discover(), offer(OWN).with(1, [255, 255, 0, 0])),
        rules(
            "1.5 M",
            "routers and mask of a rule replace those from before, whatever the client lists",
            &["routers = [\"172.16.0.1\", \"172.16.0.2\"]\nnetmask = \"255.255.252.0\""],
        )
        .packet(
            client().option(55, &[6]).discover(),
            offer(OWN)
                .with(3, [172, 16, 0, 1, 172, 16, 0, 2])
                .with(1, [255, 255, 252, 0]),
        ),
        rules(
            "1.5 M",
            "a rule that ignores ends it, whatever rules before it gave",
            &["hostname = \"a\"\ncontinue = true", "type = [\"Node\"]\nignore = true"],
        )
        .packet(client().discover(), silence("ignored_by_rule"))
        .packet(client().request(), silence("ignored_by_rule")),
        rules(
            "1.5 M",
            "the rule's domain stands instead of everybody's",
            &["hostname = \"a\"\ndomain = \"rack.example\""],
        )
        .packet(client().discover(), named("a.rack.example")),
        rules(
            "1.5 M",
            "domains are appended in the order that a rule says",
            &["hostname = \"a\"\ndomain = \"rack.example\"\ndomain_append = [\"rule\", \"global\"]"],
        )
        .packet(client().discover(), named("a.rack.example.openchami.cluster")),
        rules(
            "1.5 M",
            "a rule can say that no domain is appended",
            &["hostname = \"a\"\ndomain_append = []"],
        )
        .packet(client().discover(), named("a")),
        case(
            "1.5 M",
            "what no rule names is called as upstream calls it, when the configuration says so",
        )
        .keys("[dhcp]", "hostnames = { \"*\" = \"unknown-{04d}\" }")
        .packet(client().discover(), named("unknown-0001.openchami.cluster")),
        case("1.5 I", "the usual name is nid0001 for nodes, and none for controllers")
            .nodes([node(1, &["172.16.0.1"]), controller(2, "172.16.0.102")])
            .packet(client().discover(), named("nid0001.openchami.cluster"))
            .packet(Client::new(2).discover(), offer([172, 16, 0, 102]).without(12)),
        case("1.5 I", "a controller's number is that of its node")
            .keys("[dhcp]", "hostnames = { Node = \"nid{04d}\", NodeBMC = \"bmc{04d}\" }")
            .nodes([child, controller(2, "172.16.0.102")])
            .packet(
                Client::new(2).discover(),
                offer([172, 16, 0, 102]).with(12, "bmc0001.openchami.cluster"),
            ),
        rules(
            "6.1 I",
            "a rule gives options to a group of the inventory",
            &["group = [\"compute\"]\noptions = { mtu = 9000 }"],
        )
        .nodes([grouped, node(2, &["172.16.0.2"])])
        .packet(client().discover(), offer(OWN).with(26, [0x23, 0x28]))
        .packet(Client::new(2).discover(), offer([172, 16, 0, 2]).without(26)),
        rules(
            "6.1 I",
            "a rule knows architectures",
            &["arch = [\"arm64-efi\"]\nloader = \"grubaa64.efi\""],
        )
        .packet(
            client().option(93, &[0, 11]).discover(),
            offer(OWN).with(67, "grubaa64.efi"),
        )
        .packet(
            client().option(93, &[0, 7]).discover(),
            offer(OWN).with(67, "ipxe-x86_64.efi"),
        ),
        rules(
            "6.1 I",
            "a rule knows vendor classes",
            &["vendor_class = [\"PXEClient*\"]\noptions = { \"43\" = \"060108\" }"],
        )
        .packet(
            client().option(60, b"PXEClient:Arch:00007:UNDI:003001").discover(),
            offer(OWN).with(43, [6, 1, 8]),
        )
        .packet(client().discover(), offer(OWN).without(43)),
        rules(
            "6.1 I",
            "a rule knows user classes, plain and of RFC 3004",
            &["user_class = [\"blue\"]\nhostname = \"a\""],
        )
        .packet(client().option(77, b"blue").discover(), named("a.openchami.cluster"))
        .packet(
            client().option(77, b"\x03red\x04blue").discover(),
            named("a.openchami.cluster"),
        )
        .packet(
            client().option(77, b"red").discover(),
            named("nid0001.openchami.cluster"),
        ),
        rules(
            "6.1 I",
            "a rule knows what a relay says of the port",
            &[
                "circuit_id = [\"rack1*\"]\nhostname = \"a\"",
                "remote_id = [\"0x0a0b\"]\nhostname = \"b\"",
            ],
        )
        .packet(
            client()
                .giaddr([172, 16, 0, 9])
                .option(82, b"\x01\x06rack17")
                .discover(),
            named("a.openchami.cluster"),
        )
        .packet(
            client().giaddr([172, 16, 0, 9]).option(82, &[2, 2, 10, 11]).discover(),
            named("b.openchami.cluster"),
        ),
        rules(
            "6.1 I",
            "a rule knows hardware addresses, and strangers by them",
            &["mac = [\"02:00:00:00:00:09\"]\noptions = { mtu = 1400 }\nscript = \"http://10.0.0.1/x\""],
        )
        .instead("dns =", &format!("{POOL}dns ="))
        .packet(
            Client::new(9).option(77, b"iPXE").discover(),
            offer([172, 16, 0, 200])
                .with(26, [5, 120])
                .with(67, "http://10.0.0.1/x"),
        )
        .packet(client().discover(), offer(OWN).without(26)),
        rules(
            "1.5 M",
            "a rule with a type is for nodes only",
            &["type = [\"Node\"]\nignore = true"],
        )
        .instead("dns =", &format!("{POOL}dns ="))
        .packet(Client::new(9).discover(), offer([172, 16, 0, 200]))
        .packet(client().discover(), silence("ignored_by_rule")),
        rules("1.5 I", "a rule that does nothing is refused", &["type = [\"Node\"]"]).refused("dhcp.rule[0]"),
        rules(
            "1.5 I",
            "a rule with a mask that has holes is refused",
            &["netmask = \"255.0.255.0\""],
        )
        .refused("dhcp.rule[0].netmask"),
    ]
}
