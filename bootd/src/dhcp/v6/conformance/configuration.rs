//! Keys of the configuration: rules, options, the ignored, mistakes.

use super::super::testing::{Client, link_local, part};
use super::*;
use crate::dhcp::v4::testing::node;

pub(super) fn cases() -> Vec<Case> {
    let client = || Client::new(1).ia(7, &[]);
    let named = |name: &str| [&[0], &labels(name)[..], &[0]].concat();
    let asks_name = || client().option(39, &[0, 0]).solicit();
    let stop = |says: &'static str, text: &str, refused: &'static str| case("1", says).config(text).refused(refused);
    vec![
        case("1.5", "rules name nodes over IPv6, too: by type, id, group and hardware address")
            .config(
                "[[dhcp.rule]]\ntype = [\"NodeBMC\"]\nhostname = \"bmc\"\n[[dhcp.rule]]\nid = [\"x1000c0s0b0n*\"]\n\
                 mac = [\"02:00:*\"]\nhostname = \"c{02d}\"\n",
            )
            .message(asks_name(), advertise().with(39, named("c01.openchami.cluster"))),
        case("1.5", "a rule's subnet is one of the address, in either family")
            .config(
                "[[dhcp.rule]]\nsubnet = [\"172.16.0.0/16\"]\nhostname = \"four\"\n[[dhcp.rule]]\nsubnet = [\"fd00::/16\"]\n\
                 hostname = \"six\"\n",
            )
            .message(asks_name(), advertise().with(39, named("six.openchami.cluster"))),
        case("1.5", "a rule sees the architecture and the classes of options 61, 16 and 15")
            .config(
                "[[dhcp.rule]]\narch = [\"arm64-efi\"]\nloader = \"arm.efi\"\n[[dhcp.rule]]\nuser_class = [\"rescue\"]\n\
                 loader = \"http://[fd00::5]/rescue.efi\"\n[[dhcp.rule]]\nvendor_class = [\"PXEClient*\"]\nloader = \"pxe.efi\"\n",
            )
            .message(client().option(61, &[0, 11]).solicit(), advertise().file("tftp://[fd00::fe]/arm.efi"))
            .message(
                client().option(61, &[0, 7]).option(15, &part("rescue")).solicit(),
                advertise().file("http://[fd00::5]/rescue.efi"),
            )
            .message(
                client()
                    .option(61, &[0, 7])
                    .option(16, &super::super::testing::vendor_class("PXEClient:Arch:00007"))
                    .solicit(),
                advertise().file("tftp://[fd00::fe]/pxe.efi"),
            ),
        case("1.5", "a rule sees what the relay says of the client's link")
            .only(Way::Relayed)
            .config("[[dhcp.rule]]\ncircuit_id = [\"port 7\"]\nhostname = \"seven\"\n")
            .message(asks_name(), advertise().with(39, named("seven.openchami.cluster"))),
        case("2.8 M", "a rule that ignores leaves a node without an answer, whatever it asks")
            .config("[[dhcp.rule]]\nid = [\"x1000c0s0b0n1\"]\nignore = true\n")
            .message(client().solicit(), silence("ignored_by_rule"))
            .message(client().renew(), silence("ignored_by_rule"))
            .message(Client::new(1).send(11), silence("ignored_by_rule")),
        case("1.5", "a rule that ignores a hardware address holds for strangers, too")
            .config("[[dhcp.rule]]\nmac = [\"02:00:00:00:00:09\"]\nignore = true\n")
            .of(9, Client::new(9).ia(7, &[]).renew(), silence("ignored_by_rule")),
        case("1", "whom the configuration ignores gets no answer in either family")
            .keys("[dhcp]", "ignore = [\"02:00:00:00:00:01\"]")
            .message(client().solicit(), silence("ignored_by_configuration")),
        case("1.3 M", "a search list always comes")
            .config("search = [\"a.example\", \"b.example\"]\n")
            .message(
                client().solicit(),
                advertise().with(24, [&labels("a.example")[..], &[0], &labels("b.example")[..], &[0]].concat()),
            ),
        case("1", "options of everybody, the subnet and rules: the later wins, and they come in order")
            .keys("[dhcp6]", "options = { \"100\" = \"01\", \"99\" = \"01\", ntp = [\"fd00::7\"] }")
            .config("options = { \"100\" = \"02\" }\n[[dhcp.rule]]\ntype = [\"Node\"]\noptions6 = { \"101\" = \"03\", \"99\" = \"03\" }\n")
            .message(
                client().asks(&[56]).solicit(),
                advertise()
                    .with(99, [3])
                    .with(100, [2])
                    .with(101, [3])
                    .with(56, option(1, &octets("fd00::7")))
                    .codes(&[1, 2, 3, 56, 99, 100, 101]),
            )
            .message(client().solicit(), advertise().without(56)),
        case("1", "a preference is in ADVERTISE, and nowhere else")
            .keys("[dhcp6]", "preference = 255")
            .message(client().solicit(), advertise().with(7, [255]))
            .message(client().request(), reply().without(7)),
        case("1.4", "the lifetime is that of DHCPv6, else that of DHCP")
            .instead("lease_time = \"1h\"\n", "")
            .keys("[dhcp]", "lease_time = \"100s\"")
            .message(client().solicit(), advertise().lease(7, &[("fd00::1", 100)])),
        case("1", "of nested subnets the smaller one has its addresses")
            .config("[[dhcp6.subnet]]\nprefix = \"fd00::/96\"\nnested = true\ndns = [\"fd00::53\"]\n")
            .message(client().asks(&[23]).solicit(), advertise().with(23, octets("fd00::53"))),
        case("1", "a subnet of everything serves who is in no other one")
            .instead("prefix = \"fd00::/64\"", "prefix = \"::/0\"")
            .nodes([node(1, &["2001:db8::1"])])
            .message(client().solicit(), advertise().lease(7, &[("2001:db8::1", 3600)])),
        case("1", "a node on an interface of which nobody knows a subnet gets its first served address")
            .only(Way::Direct)
            .plug(&[])
            .message(client().solicit(), advertise().lease(7, &[("fd00::1", 3600)])),
        stop("a prefix that is there twice is refused", "[[dhcp6.subnet]]\nprefix = \"fd00::/64\"\n", "dhcp6.subnet[1].prefix: fd00::/64 is dhcp6.subnet[0]'s already"),
        stop("prefixes that overlap are refused", "[[dhcp6.subnet]]\nprefix = \"fd00::/48\"\n", "dhcp6.subnet[1].prefix: overlaps dhcp6.subnet[0]"),
        stop("a prefix that is not IPv6 is refused", "[[dhcp6.subnet]]\nprefix = \"172.16.0.0/24\"\n", "dhcp6.subnet[1].prefix: '172.16.0.0/24'"),
        stop("a prefix with host bits is refused", "[[dhcp6.subnet]]\nprefix = \"fd01::1/64\"\n", "host bits"),
        stop("a prefix of the link is refused", "[[dhcp6.subnet]]\nprefix = \"fe80::/64\"\n", "holds no addresses of nodes"),
        stop("a name server that is not IPv6 is refused", "search = [\"a b\"]\n[[dhcp6.subnet]]\nprefix = \"fd01::/64\"\ndns = [\"10.0.0.1\"]\nserver = \"fe80::1\"\n", "dhcp6.subnet[1].dns[0]")
            .refused("dhcp6.subnet[0].search: 'a b' is not a domain name")
            .refused("dhcp6.subnet[1].server"),
        stop("options of the protocol are refused, and those without a value", "options = { \"59\" = \"01\", \"0\" = \"01\", \"70000\" = \"01\", dns = [], \"99\" = \"zz\" }\n", "dhcp6.subnet[0].options.59: option 59 is the protocol's own")
            .refused("dhcp6.subnet[0].options.0: no such option")
            .refused("dhcp6.subnet[0].options.70000: no such option")
            .refused("dhcp6.subnet[0].options.dns: an empty value")
            .refused("dhcp6.subnet[0].options.99: 'zz' is not hexadecimal"),
        case("1", "keys that nobody knows and words that mean nothing are refused")
            .keys("[dhcp6]", "pool = 1\nunknown = \"maybe\"\nnbp = \"x\"\nboot_params = [\"\"]\ninterfaces = [\"a/b\"]")
            .refused("dhcp6.pool: no such key")
            .refused("dhcp6.unknown: 'maybe' is not one of")
            .refused("dhcp6.nbp: 'x' is not a URL")
            .refused("dhcp6.boot_params[0]")
            .refused("dhcp6.interfaces[0]"),
        case("1", "an identity that is none is refused")
            .instead("LL 02:00:00:00:00:fe", "EN 02:00:00:00:00:fe")
            .refused("dhcp6.server_id: 'EN 02:00:00:00:00:fe' is no DUID"),
        case("1", "DHCPv6 without a subnet is refused")
            .instead("[[dhcp6.subnet]]\nprefix = \"fd00::/64\"\ndns = [\"fd00::fe\"]\n", "")
            .refused("dhcp6.subnet: missing"),
    ]
}

#[test]
fn an_identity_may_be_given_in_every_form() {
    for (text, bytes) in [
        ("LL 02:00:00:00:00:fe", "000300010200000000fe"),
        ("duid-llt 02-00-00-00-00-fe", "00010001000000000200000000fe"),
        ("0004:00112233", "000400112233"),
    ] {
        let config = B6.replace("LL 02:00:00:00:00:fe", text);
        let config = config::parse(&config, Path::new("bootd.toml")).unwrap();
        let server = Rehearsal::new(&config, Arc::new(snapshot([])), Receiving::default()).unwrap();
        let hex: String = server.server_id().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, bytes);
    }
}

#[test]
fn a_file_of_hosts_gives_addresses_for_the_same_time_before_the_inventory_or_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hosts.txt");
    std::fs::write(&file, "02:00:00:00:00:01 fd00::f1\n02:00:00:00:00:05 fd00::f5\n").unwrap();
    for (before, own) in [(false, "fd00::1"), (true, "fd00::f1")] {
        let text = format!(
            "{B6}[dhcp6.hosts]\nfile = \"{}\"\nlease_time = \"200s\"\nbefore_inventory = {before}\n",
            file.display()
        );
        let config = config::parse(&text, Path::new("bootd.toml")).unwrap();
        let nodes = Arc::new(snapshot([node(1, &["fd00::1"])]));
        let server = Rehearsal::new(&config, nodes, Receiving::default()).unwrap();
        for (number, ip, seconds) in [(1, own, if before { 200 } else { 3600 }), (5, "fd00::f5", 200)] {
            let message = Client::new(number).ia(7, &[]).solicit();
            let expected = advertise().lease(7, &[(ip, seconds)]);
            expected
                .compare(&message, &server.packet(&message, link_local(number)), &server)
                .unwrap();
        }
    }
}
