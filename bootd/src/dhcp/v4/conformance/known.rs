//! Nodes of the inventory on the server's own wire.

use super::super::testing::{Client, SERVER, node};
use super::*;

const OWN: [u8; 4] = [172, 16, 0, 1];
const SERVER_IP: [u8; 4] = [172, 16, 0, 254];

fn golden(boot_file: &[u8]) -> Expected {
    offer(OWN)
        .siaddr(SERVER_IP)
        .to(EVERYONE)
        .at(0, &[2, 1, 6, 0, 0x11, 0x22, 0x33, 0x44, 0, 0, 0x80, 0, 0, 0, 0, 0])
        .at(28, &[2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .at(44, &[0; 64])
        .codes(&[1, 3, 6, 12, 17, 51, 53, 54, 67])
        .with(1, [255, 255, 255, 0])
        .with(3, SERVER_IP)
        .with(6, SERVER_IP)
        .with(12, "nid0001.openchami.cluster")
        .with(17, "172.16.0.254")
        .with(51, 3600u32.to_be_bytes())
        .with(53, [2])
        .with(54, SERVER_IP)
        .with(67, boot_file)
}

pub(super) fn cases() -> Vec<Case> {
    let client = || Client::new(1);
    let named = |ip: [u8; 4]| Client::new(1).option(50, &ip);
    let mut all = vec![
        case(
            "2.1 M",
            "golden reply A: firmware gets its loader, with the options in upstream's order",
        )
        .packet(
            client().option(93, &[0, 7]).discover(),
            golden(b"ipxe-x86_64.efi").length(332).file("ipxe-x86_64.efi"),
        ),
        case("2.1 M", "golden reply B: iPXE gets its boot script").packet(
            client().option(93, &[0, 7]).option(77, b"iPXE").discover(),
            golden(b"http://172.16.0.254:8081/boot/v1/bootscript?mac=02:00:00:00:00:01"),
        ),
        case(
            "2.1 M",
            "client identifier and relay information come back as they came, the latter as the last option",
        )
        .packet(
            client().option(82, &[1, 1, 9]).option(61, &[255, 0, 1, 2]).discover(),
            offer(OWN)
                .with(61, [255, 0, 1, 2])
                .with(82, [1, 1, 9])
                .codes(&[1, 3, 6, 12, 17, 51, 53, 54, 61, 82]),
        ),
        case("2.1 M", "the flags of the request come back")
            .packet(client().unicast().discover(), offer(OWN).at(10, &[0, 0])),
        case("2.1 M", "a short reply is filled up to 300 bytes")
            .packet(named([172, 16, 0, 9]).request(), nak().length(300)),
        case("2.1 M", "parts of an option are one value").packet(
            client()
                .option(77, b"iP")
                .option(61, b"ab")
                .option(77, b"XE")
                .option(61, b"cd")
                .discover(),
            offer(OWN)
                .with(61, b"abcd")
                .with(67, "http://172.16.0.254:8081/boot/v1/bootscript?mac=02:00:00:00:00:01"),
        ),
        case(
            "2.1 M",
            "options in the boot file's field are read when option 52 says so",
        )
        .packet(
            {
                let mut packet = client().option(52, &[1]).discover();
                packet[108..115].copy_from_slice(&[77, 4, b'i', b'P', b'X', b'E', 255]);
                packet
            },
            offer(OWN).with(67, "http://172.16.0.254:8081/boot/v1/bootscript?mac=02:00:00:00:00:01"),
        ),
        case(
            "2.2 M",
            "a REQUEST without an offer before it is acknowledged, as dhcping and restarts need it",
        )
        .packet(client().request(), ack(OWN).with(51, 3600u32.to_be_bytes())),
        case(
            "2.2 M",
            "a REQUEST for the offered address that names this server is acknowledged",
        )
        .packet(named(OWN).option(54, &SERVER_IP).request(), ack(OWN).to(EVERYONE)),
        case("2.2 M", "a node that comes back with its address is acknowledged").packet(named(OWN).request(), ack(OWN)),
        case("2.2 M", "a renewal is acknowledged to the address that the node uses")
            .packet(client().unicast().ciaddr(OWN).request(), ack(OWN).to(unicast(OWN))),
        case("2.2 M", "a rebinding node is acknowledged")
            .packet(client().ciaddr(OWN).request(), ack(OWN).to(unicast(OWN))),
        case("2.2 I", "a REQUEST for another address than the inventory's is refused").packet(
            named([172, 16, 0, 9])
                .option(61, &[1, 2])
                .option(82, &[1, 1, 9])
                .request(),
            nak()
                .to(EVERYONE)
                .codes(&[53, 54, 61, 82])
                .with(54, SERVER_IP)
                .siaddr([0; 4]),
        ),
        case(
            "2.2 I",
            "a renewal of another address is refused by broadcast: the client cannot use it any more",
        )
        .packet(
            client().unicast().ciaddr([172, 16, 0, 201]).request(),
            nak().to(EVERYONE),
        ),
        case(
            "2.2 I",
            "a node whose address changed in the inventory begins again and gets the new one",
        )
        .packet(client().request(), ack(OWN))
        .publish([node(1, &["172.16.0.7"])])
        .packet(client().ciaddr(OWN).request(), nak())
        .packet(client().discover(), offer([172, 16, 0, 7]))
        .packet(
            named([172, 16, 0, 7]).option(54, &SERVER_IP).request(),
            ack([172, 16, 0, 7]),
        ),
        case("2.2 I", "a REQUEST that names another server is that server's matter").packet(
            named(OWN).option(54, &[172, 16, 0, 3]).request(),
            silence("other_server"),
        ),
        case("2.2 M", "who means another server by siaddr gets silence")
            .packet(client().siaddr([172, 16, 0, 3]).discover(), silence("other_server"))
            .packet(client().siaddr([172, 16, 0, 3]).request(), silence("other_server")),
        case("2.2 M", "who means this server by siaddr gets its answer")
            .packet(client().siaddr(SERVER_IP).discover(), offer(OWN)),
        case(
            "2.2 I",
            "INFORM gets an ACK without address and lease time, sent to the address in use",
        )
        .packet(
            client().unicast().ciaddr(OWN).send(8),
            ack([0; 4])
                .to(unicast(OWN))
                .without(51)
                .with(1, [255, 255, 255, 0])
                .with(12, "nid0001.openchami.cluster"),
        ),
        case("2.2 I", "INFORM without an address in use gets silence")
            .packet(client().send(8), silence("inform_from_elsewhere")),
        case("2.2 I", "RELEASE gets no reply, and a node's address stays its own")
            .packet(
                client().ciaddr(OWN).option(54, &SERVER_IP).send(7),
                silence("release_of_node"),
            )
            .packet(client().discover(), offer(OWN)),
        case(
            "2.2 I",
            "DECLINE of a node's address gets no reply and is counted as a conflict",
        )
        .packet(named(OWN).option(54, &SERVER_IP).send(4), silence("address_conflict"))
        .packet(client().discover(), offer(OWN)),
        case("2.2 M", "BOOTP gets silence").packet(client().bootp(), silence("bootp")),
        case("2.3 M", "the broadcast flag is honoured").packet(client().discover(), offer(OWN).to(EVERYONE)),
        case(
            "2.3 M",
            "without the flag the reply goes to the offered address and the client's hardware address",
        )
        .packet(client().unicast().discover(), offer(OWN).to(frame(OWN, 1))),
        case("2.3 M", "a refusal is broadcast though the client did not ask for it")
            .packet(named([172, 16, 0, 9]).unicast().request(), nak().to(EVERYONE)),
        case("2.3 I", "an address in a DISCOVER is none that the client uses").packet(
            client().unicast().ciaddr([172, 16, 0, 66]).discover(),
            offer(OWN).to(frame(OWN, 1)),
        ),
        case("2.4 I", "the first IPv4 address counts, whatever stands before it")
            .nodes([node(1, &["fd00::1", "172.16.0.1", "172.16.0.2"])])
            .packet(client().discover(), offer(OWN)),
        case(
            "2.4 I",
            "without a relay the address of the receiving interface's subnet is preferred",
        )
        .config(SECOND)
        .nodes([node(1, &["10.1.0.1", "172.16.0.1"])])
        .packet(client().discover(), offer(OWN))
        .plug(&[[10, 1, 0, 254]])
        .packet(client().discover(), offer([10, 1, 0, 1])),
        case("1.3 M", "name servers are sent to who lists them, or lists nothing")
            .packet(client().option(55, &[1, 6]).discover(), offer(OWN).with(6, SERVER_IP))
            .packet(client().option(55, &[1]).discover(), offer(OWN).without(6))
            .packet(client().option(55, &[]).discover(), offer(OWN).without(6))
            .packet(client().discover(), offer(OWN).with(6, SERVER_IP)),
        case(
            "1.3 M",
            "netmask, router, host name and root path are sent whatever the client lists",
        )
        .packet(
            client().option(55, &[6]).discover(),
            offer(OWN).codes(&[1, 3, 6, 12, 17, 51, 53, 54]),
        ),
        case("2.2 M", "the times of renewal and rebinding are told to who asks").packet(
            client().option(55, &[58, 59]).request(),
            ack(OWN).with(58, 1800u32.to_be_bytes()).with(59, 3150u32.to_be_bytes()),
        ),
        case("1.5 M", "the domain is appended to the host name, and told to who asks").packet(
            client().option(55, &[15]).discover(),
            offer(OWN)
                .with(12, "nid0001.openchami.cluster")
                .with(15, "openchami.cluster"),
        ),
        case("1.5 M", "without a domain the host name stands alone")
            .instead("domain = \"openchami.cluster\"\n", "")
            .packet(client().discover(), offer(OWN).with(12, "nid0001")),
        case("2.4 M", "the lease time is the configured one")
            .instead("\"1h\"", "\"90m\"")
            .packet(client().discover(), offer(OWN).with(51, 5400u32.to_be_bytes())),
        case(
            "2.7 M",
            "all three stages of a boot get the same address, and Linux gets its host name and no boot file",
        )
        .packet(client().option(93, &[0, 7]).discover(), offer(OWN))
        .packet(
            client()
                .option(93, &[0, 7])
                .option(50, &OWN)
                .option(54, &SERVER_IP)
                .request(),
            ack(OWN),
        )
        .packet(client().option(77, b"iPXE").option(93, &[0, 7]).discover(), offer(OWN))
        .packet(
            client()
                .option(77, b"iPXE")
                .option(50, &OWN)
                .option(54, &SERVER_IP)
                .request(),
            ack(OWN),
        )
        .packet(client().option(61, &[255, 1, 2, 3]).discover(), offer(OWN))
        .packet(
            client()
                .option(61, &[255, 1, 2, 3])
                .option(50, &OWN)
                .option(54, &SERVER_IP)
                .request(),
            ack(OWN).without(67).with(12, "nid0001.openchami.cluster"),
        ),
        case(
            "2.3 I",
            "nothing is sent to the server itself or to many, though a packet names them",
        )
        .packet(
            client().ciaddr(SERVER.octets()).send(8),
            silence("inform_from_elsewhere"),
        )
        .packet(client().ciaddr([255; 4]).send(8), silence("inform_from_elsewhere"))
        .packet(client().ciaddr([8, 8, 8, 8]).send(8), silence("inform_from_elsewhere")),
    ];
    let mut special = node(1, &["172.16.0.1"]);
    special.options = [
        (3, "ac100001".to_owned()),
        (43, "0104".to_owned()),
        (230, "5a".repeat(300)),
    ]
    .into();
    all.push(
        case(
            "2.1 M",
            "a node's own options replace and add, and what is longer than 255 bytes comes in parts",
        )
        .nodes([special])
        .packet(
            client().discover(),
            offer(OWN)
                .codes(&[1, 3, 6, 12, 17, 43, 51, 53, 54, 230, 230])
                .with(3, OWN)
                .with(43, [1, 4])
                .with(230, [0x5a; 300]),
        ),
    );
    all
}
