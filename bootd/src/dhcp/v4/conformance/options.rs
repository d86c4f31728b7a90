//! Options: by scope, by number, and those that say something instead of an address.

use super::super::testing::{Client, node};
use super::*;

const OWN: [u8; 4] = [172, 16, 0, 1];

pub(super) fn cases() -> Vec<Case> {
    let client = || Client::new(1);
    let mut special = node(1, &["172.16.0.1"]);
    special.options = [(26, "0200".to_owned())].into();
    let minutes = |n: u32| (n * 60).to_be_bytes();
    vec![
        case("1.3 M", "the MTU is sent to who lists it, or lists nothing")
            .keys("[dhcp]", "options = { mtu = 9000 }")
            .packet(client().discover(), offer(OWN).with(26, [0x23, 0x28]))
            .packet(
                client().option(55, &[1, 26]).discover(),
                offer(OWN).with(26, [0x23, 0x28]),
            )
            .packet(client().option(55, &[1]).discover(), offer(OWN).without(26)),
        case("1.3 I", "an MTU that no network has is refused")
            .keys("[dhcp]", "options = { mtu = 67 }")
            .refused("dhcp.options.mtu"),
        case("1.3 M", "the search list is sent always, as names of DNS")
            .keys("[dhcp]", "options = { search = [\"a.example\", \"b.example\"] }")
            .packet(
                client().option(55, &[1]).discover(),
                offer(OWN).with(119, b"\x01a\x07example\0\x01b\x07example\0"),
            ),
        case(
            "1.3 M",
            "static routes are sent always, with the bytes of a destination that count",
        )
        .keys(
            "[dhcp]",
            "options = { static_routes = [\"10.0.0.0/8 via 172.16.0.1\", \"0.0.0.0/0 via 172.16.0.254\"] }",
        )
        .packet(
            client().option(55, &[1]).discover(),
            offer(OWN).with(121, [8, 10, 172, 16, 0, 1, 0, 172, 16, 0, 254]),
        ),
        case("1.3 I", "a static route to an IPv6 network is refused")
            .keys("[dhcp]", "options = { static_routes = [\"fd00::/8 via 172.16.0.1\"] }")
            .refused("static_routes"),
        case("6.1 I", "time servers, and any option by its number, are sent")
            .keys(
                "[dhcp]",
                "options = { ntp = [\"10.0.0.1\"], \"224\" = \"00ff\", \"43\" = \"0104\" }",
            )
            .packet(
                client().discover(),
                offer(OWN).with(42, [10, 0, 0, 1]).with(224, [0, 255]).with(43, [1, 4]),
            ),
        case("6.1 I", "the protocol's own options cannot be set")
            .keys("[dhcp]", "options = { \"54\" = \"0a000001\" }")
            .refused("54"),
        case(
            "6.1 I",
            "a subnet's options come before those for everybody, a node's own before all",
        )
        .keys("[dhcp]", "options = { mtu = 9000, ntp = [\"10.0.0.1\"] }")
        .config("options = { mtu = 1500 }\n")
        .nodes([special, node(2, &["172.16.0.2"])])
        .packet(client().discover(), offer(OWN).with(26, [2, 0]).with(42, [10, 0, 0, 1]))
        .packet(Client::new(2).discover(), offer([172, 16, 0, 2]).with(26, [5, 220])),
        case("6.1 I", "two subnets have their own options")
            .config("options = { mtu = 1500 }\n")
            .config(SECOND)
            .config("options = { mtu = 9000 }\n")
            .nodes([node(1, &["172.16.0.1", "10.1.0.1"])])
            .packet(client().discover(), offer(OWN).with(26, [5, 220]))
            .packet(
                client().giaddr([10, 1, 0, 9]).discover(),
                offer([10, 1, 0, 1]).with(26, [0x23, 0x28]),
            ),
        case("1.3 M", "who lists option 108 gets it and no address")
            .keys("[dhcp]", "ipv6_only = \"30m\"")
            .packet(
                client().option(55, &[1, 108]).discover(),
                offer([0; 4]).with(108, minutes(30)).without(51),
            )
            .packet(client().option(55, &[1, 3]).discover(), offer(OWN).without(108)),
        case(
            "1.3 I",
            "who lists nothing keeps its IPv4 address though others prefer IPv6",
        )
        .keys("[dhcp]", "ipv6_only = \"30m\"")
        .packet(client().discover(), offer(OWN).without(108)),
        case("1.3 M", "who gets no address and asks whether to make one up is told")
            .config("[dhcp.unknown]\nautoconfigure = \"DoNotAutoConfigure\"\n")
            .packet(
                Client::new(9).option(116, &[1]).discover(),
                offer([0; 4]).with(116, [0]).without(51),
            ),
        case("1.3 M", "who does not ask whether to make one up gets silence")
            .config("[dhcp.unknown]\nautoconfigure = \"DoNotAutoConfigure\"\n")
            .packet(Client::new(9).discover(), silence("no_pool")),
        case("1.3 M", "who may make one up is told, too, and nodes are not concerned")
            .config("[dhcp.unknown]\nautoconfigure = \"AutoConfigure\"\n")
            .packet(
                Client::new(9).option(116, &[1]).discover(),
                offer([0; 4]).with(116, [1]),
            )
            .packet(client().option(116, &[1]).discover(), offer(OWN).without(116)),
        case(
            "2.2 I",
            "answers without an address are given where somebody depends on them",
        )
        .config("[dhcp.unknown]\nanswer_without_address = true\n")
        .packet(
            Client::new(9).discover(),
            offer([0; 4]).with(1, [255, 255, 255, 0]).without(51),
        )
        .packet(client().discover(), offer(OWN)),
        case(
            "1.3 M",
            "a boot file for everybody else by another scheme is a server in option 66 and a path in 67",
        )
        .keys("[dhcp]", "nbp = \"tftp://10.0.0.1:6969/pxelinux.0\"")
        .config(POOL)
        .packet(
            Client::new(9).discover(),
            offer([172, 16, 0, 200])
                .with(66, "10.0.0.1:6969")
                .with(67, "/pxelinux.0"),
        )
        .packet(
            Client::new(9).option(55, &[1]).discover(),
            offer([172, 16, 0, 200]).without(66).without(67),
        ),
        case(
            "1.3 M",
            "a boot file for everybody else by HTTP is a whole URL, and nodes keep their own",
        )
        .keys("[dhcp]", "nbp = \"http://10.0.0.1/boot.efi\"")
        .config(POOL)
        .packet(
            Client::new(9).discover(),
            offer([172, 16, 0, 200])
                .with(67, "http://10.0.0.1/boot.efi")
                .without(66),
        )
        .packet(
            client().option(93, &[0, 7]).discover(),
            offer(OWN).with(67, "ipxe-x86_64.efi"),
        ),
        case("1.4 M", "boot scripts can be another service's")
            .keys(
                "[dhcp]",
                "script_url = \"http://10.0.0.9:8081/boot-service/bootscript\"",
            )
            .packet(
                client().option(77, b"iPXE").discover(),
                offer(OWN).with(67, "http://10.0.0.9:8081/boot-service/bootscript?mac=02:00:00:00:00:01"),
            ),
        case(
            "1.4 I",
            "to a script's URL with a query the hardware address is added with &",
        )
        .keys("[dhcp]", "script_url = \"http://10.0.0.9/script?retry=1\"")
        .packet(
            client().option(77, b"iPXE").discover(),
            offer(OWN).with(67, "http://10.0.0.9/script?retry=1&mac=02:00:00:00:00:01"),
        ),
        case(
            "2.6 I",
            "strangers' iPXE gets the script that is configured for them, nodes their own",
        )
        .config(POOL)
        .config("[dhcp.unknown]\nscript = \"default\"\n")
        .packet(
            Client::new(9).option(77, b"iPXE").discover(),
            offer([172, 16, 0, 200]).with(67, "default"),
        )
        .packet(
            client().option(77, b"iPXE").discover(),
            offer(OWN).with(67, "http://172.16.0.254:8081/boot/v1/bootscript?mac=02:00:00:00:00:01"),
        ),
        case("1.3 M", "strangers can have routers and name servers of their own")
            .config(POOL)
            .config("[dhcp.unknown]\noptions = { routers = [\"172.16.0.253\"], dns = [\"172.16.0.252\"] }\n")
            .packet(
                Client::new(9).discover(),
                offer([172, 16, 0, 200])
                    .with(3, [172, 16, 0, 253])
                    .with(6, [172, 16, 0, 252]),
            )
            .packet(client().discover(), offer(OWN).with(3, [172, 16, 0, 254])),
        case("2.4 I", "a machine's identifier comes back as it came").packet(
            client().option(97, &[0; 17]).option(93, &[0, 7]).discover(),
            offer(OWN).with(97, [0; 17]),
        ),
        case(
            "2.3 I",
            "option 82, sub-option 11: the client sees the relay as its server",
        )
        .nodes([node(1, &["172.16.0.1"])])
        .packet(
            client()
                .giaddr([172, 16, 0, 9])
                .option(82, &[11, 4, 172, 16, 0, 9])
                .discover(),
            offer(OWN)
                .with(54, [172, 16, 0, 9])
                .siaddr([172, 16, 0, 254])
                .to(relay([172, 16, 0, 9])),
        )
        .packet(
            client()
                .giaddr([172, 16, 0, 9])
                .option(54, &[172, 16, 0, 9])
                .option(82, &[11, 4, 172, 16, 0, 9])
                .request(),
            ack(OWN).with(54, [172, 16, 0, 9]),
        ),
        case("2.4 I", "whom the configuration ignores gets silence")
            .keys("[dhcp]", "ignore = [\"02:00:00:00:00:01\"]")
            .packet(client().discover(), silence("ignored_by_configuration"))
            .packet(client().request(), silence("ignored_by_configuration")),
    ]
}
