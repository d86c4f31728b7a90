//! A coredhcp.yaml as it is in the field, and what its clients get; with and without upstream's own bytes.

use super::super::testing::{Client, node};
use super::*;

const OWN: [u8; 4] = [172, 16, 0, 1];
const FIRST: [u8; 4] = [172, 16, 0, 200];
const SERVER_IP: [u8; 4] = [172, 16, 0, 254];
const STRICT: &str = "[compat]\nstrict = true\n";

/// What all files of the contract's section 7 begin with.
const BEFORE: [&str; 4] = [
    "server_id: 172.16.0.254",
    "dns: 172.16.0.254",
    "router: 172.16.0.254",
    "netmask: 255.255.255.0",
];
/// Configuration B's.
const KEYS: &str = "coresmd: svc_base_uri=http://127.0.0.1:27779 ipxe_base_uri=http://172.16.0.254:8081 ca_cert=/ca.pem cache_valid=1s \
    lease_time=1h domain=openchami.cluster rule=type:Node,hostname:nid{04d} rule=type:NodeBMC,hostname:bmc{04d}";
/// Configuration P's.
const BY_POSITION: &str = "coresmd: http://127.0.0.1:27779 http://172.16.0.254:8081 '' 1s 1h false";
const BOOTLOOP: &str = "bootloop: /tmp/t.db default 5m 172.16.0.200 172.16.0.202";

/// A case with a coredhcp.yaml whose server4 has these plugins.
fn yaml(rule: &'static str, says: &'static str, plugins: &[&str]) -> Case {
    let lines: Vec<String> = plugins.iter().map(|plugin| format!("    - {plugin}\n")).collect();
    let text = format!("server4:\n  listen: [\"%veth0\"]\n  plugins:\n{}", lines.concat());
    let mut case = case(rule, says);
    match config::coredhcp::read(&text) {
        Ok(understood) => case.config = understood.toml,
        Err(mistakes) => case.mistakes = mistakes.iter().map(ToString::to_string).collect(),
    }
    case
}

/// The usual plugins, and these behind them.
fn usual(rule: &'static str, says: &'static str, more: &[&str]) -> Case {
    yaml(rule, says, &[&BEFORE[..], more].concat())
}

/// The whole packet of the contract's golden replies.
fn golden(boot_file: &str) -> Expected {
    let mut packet = vec![2, 1, 6, 0, 0x11, 0x22, 0x33, 0x44, 0, 0, 0x80, 0, 0, 0, 0, 0];
    packet.extend_from_slice(&[OWN, SERVER_IP, [0; 4]].concat());
    packet.extend_from_slice(&[2, 0, 0, 0, 0, 1]);
    packet.resize(236, 0);
    packet.extend_from_slice(&[99, 130, 83, 99]);
    let mut option = |code: u8, value: &[u8]| {
        packet.extend_from_slice(&[code, u8::try_from(value.len()).unwrap()]);
        packet.extend_from_slice(value);
    };
    option(1, &[255, 255, 255, 0]);
    option(3, &SERVER_IP);
    option(6, &SERVER_IP);
    option(12, b"nid0001.openchami.cluster");
    option(17, b"172.16.0.254");
    option(51, &3600u32.to_be_bytes());
    option(53, &[2]);
    option(54, &SERVER_IP);
    option(67, boot_file.as_bytes());
    packet.push(255);
    packet.resize(packet.len().max(300), 0);
    offer(OWN).to(EVERYONE).length(packet.len()).at(0, &packet)
}

pub(super) fn cases() -> Vec<Case> {
    let client = || Client::new(1);
    let firmware = || Client::new(1).option(93, &[0, 7]);
    let asks = |number: u8| Client::new(number).discover();
    let takes = |number: u8, ip: [u8; 4]| Client::new(number).option(50, &ip).option(54, &SERVER_IP).request();
    let renews = |number: u8, ip: [u8; 4]| Client::new(number).unicast().ciaddr(ip).request();
    let mut bmc = node(2, &["172.16.0.102"]);
    bmc.kind = "NodeBMC".into();
    bmc.id = "x1000c0s0b0".into();
    let unknown = |number: u8| Client::new(number).option(77, b"iPXE");
    let mut all = vec![
        usual("2.1 M", "strict: golden reply A, byte for byte", &[KEYS])
            .config(STRICT)
            .packet(firmware().discover(), golden("ipxe-x86_64.efi").length(332)),
        usual("2.1 M", "strict: golden reply B, byte for byte", &[KEYS]).config(STRICT).packet(
            firmware().option(77, b"iPXE").discover(),
            golden("http://172.16.0.254:8081/boot/v1/bootscript?mac=02:00:00:00:00:01"),
        ),
        usual("8.1 M", "strict: a REQUEST is acknowledged with the inventory's address whatever it asks for", &[KEYS])
            .config(STRICT)
            .packet(client().option(50, &[172, 16, 0, 9]).option(54, &[172, 16, 0, 3]).request(), ack(OWN)),
        usual("8.1 M", "strict: INFORM, RELEASE and DECLINE get silence", &[KEYS])
            .config(STRICT)
            .packet(client().ciaddr(OWN).send(8), silence("message_type"))
            .packet(client().ciaddr(OWN).send(7), silence("message_type"))
            .packet(client().option(50, &OWN).send(4), silence("message_type")),
        usual("8.1 M", "strict: iPXE is known by its plain user class alone", &[KEYS])
            .config(STRICT)
            .packet(
                firmware().option(77, b"\x04iPXE").option(175, &[1, 1, 1]).discover(),
                offer(OWN).with(67, "ipxe-x86_64.efi"),
            ),
        usual("8.1 M", "strict: architectures that upstream does not know get no boot file", &[KEYS])
            .config(STRICT)
            .packet(client().option(93, &[0, 9]).discover(), offer(OWN).without(67))
            .packet(
                client().option(93, &[0, 16]).option(60, b"HTTPClient").discover(),
                offer(OWN).without(67).without(60),
            ),
        usual("8.1 M", "strict: an architecture of one byte does not end the server", &[KEYS])
            .config(STRICT)
            .packet(client().option(93, &[7]).discover(), offer(OWN).without(67)),
        usual("8.1 M", "strict: a stranger gets an answer without an address", &[KEYS])
            .config(STRICT)
            .packet(asks(9), offer([0; 4]).with(1, [255, 255, 255, 0]).with(3, SERVER_IP).without(51)),
        usual("7 M", "configuration B: firmware, iPXE and Linux get the same address and what they boot", &[KEYS])
            .packet(firmware().discover(), offer(OWN).with(67, "ipxe-x86_64.efi").with(54, SERVER_IP).siaddr(SERVER_IP))
            .packet(
                client().option(77, b"iPXE").discover(),
                offer(OWN).with(67, "http://172.16.0.254:8081/boot/v1/bootscript?mac=02:00:00:00:00:01"),
            )
            .packet(client().request(), ack(OWN).with(12, "nid0001.openchami.cluster").without(67)),
        usual("2.2 I", "configuration B: a stranger gets silence", &[KEYS]).packet(asks(9), silence("no_pool")),
        usual("2.5 M", "configuration B: every relay is served, and every address of the inventory", &[KEYS])
            .nodes([node(1, &["10.9.8.7"])])
            .packet(
                client().giaddr([10, 9, 8, 254]).discover(),
                offer([10, 9, 8, 7]).to(relay([10, 9, 8, 254])).with(1, [255, 255, 255, 0]).with(54, SERVER_IP),
            )
            .packet(asks(1), offer([10, 9, 8, 7])),
        usual("1.5.5 I", "configuration B: a controller has its node's number", &[KEYS])
            .nodes([
                {
                    let mut child = node(1, &["172.16.0.1"]);
                    child.id = "x1000c0s0b0n0".into();
                    child.nid = Some(17);
                    child
                },
                {
                    let mut bmc = bmc.clone();
                    bmc.nid = None;
                    bmc
                },
            ])
            .packet(asks(2), offer([172, 16, 0, 102]).with(12, "bmc0017.openchami.cluster")),
        usual("1.5.4 M", "configuration P: by position, nodes are called nid0001 and nobody else anything", &[BY_POSITION])
            .nodes([node(1, &["172.16.0.1"]), bmc.clone()])
            .packet(asks(1), offer(OWN).with(12, "nid0001").with(51, 3600u32.to_be_bytes()))
            .packet(asks(2), offer([172, 16, 0, 102]).without(12)),
        usual("0 M", "the form of five words, of the first generations", &[
            "coresmd: http://127.0.0.1:27779 http://172.16.0.254:8081 '' 1s 2h",
        ])
        .packet(asks(1), offer(OWN).with(51, 7200u32.to_be_bytes())),
        usual("1.4 M", "ipxe_uri is the whole URL of the boot script", &[
            "coresmd: svc_base_uri=http://127.0.0.1:27779 ipxe_uri=http://172.16.0.254:8081/boot-service/bootscript",
        ])
        .packet(
            client().option(77, b"iPXE").discover(),
            offer(OWN).with(67, "http://172.16.0.254:8081/boot-service/bootscript?mac=02:00:00:00:00:01"),
        ),
        usual("1.5.4 M", "since 0.6, what no rule names is called unknown-0001", &[
            "coresmd: svc_base_uri=http://127.0.0.1:27779 ipxe_base_uri=http://172.16.0.254:8081 domain=a.example rule=type:NodeBMC,hostname:bmc{04d}",
        ])
        .packet(asks(1), offer(OWN).with(12, "unknown-0001.a.example")),
        usual("1.5.1 M", "a rule that does nothing is skipped, and an unknown key too", &[
            "coresmd: svc_base_uri=http://127.0.0.1:27779 ipxe_base_uri=http://172.16.0.254:8081 rule=type:Node \
             hostname_by_type=Node:x rule=type:Node,hostname:n{02d}",
        ])
        .packet(asks(1), offer(OWN).with(12, "n01")),
        usual("2.6 I", "configuration P: a stranger has its lease with one REQUEST", &[BY_POSITION, BOOTLOOP])
            .packet(asks(9), offer(FIRST).with(51, 300u32.to_be_bytes()).with(17, "172.16.0.254"))
            .packet(takes(9, FIRST), ack(FIRST).with(51, 300u32.to_be_bytes()))
            .packet(takes(9, FIRST), ack(FIRST)),
        usual("2.6 I", "configuration P: a stranger's iPXE gets the script that reboots with its first packet", &[BY_POSITION, BOOTLOOP])
            .packet(unknown(9).discover(), offer(FIRST).with(67, "default"))
            .packet(unknown(9).option(50, &FIRST).option(54, &SERVER_IP).request(), ack(FIRST).with(67, "default")),
        usual("2.6 M", "configuration P: a stranger's firmware gets its loader", &[BY_POSITION, BOOTLOOP]).packet(
            Client::new(9).option(93, &[0, 0]).discover(),
            offer(FIRST).with(67, "undionly.kpxe").without(12),
        ),
        usual("2.6 I", "configuration P: a stranger that is known by now is refused its renewal, and boots again", &[BY_POSITION, BOOTLOOP])
            .packet(takes(9, FIRST), ack(FIRST))
            .packet(renews(9, FIRST), ack(FIRST))
            .publish([node(9, &["172.16.0.9"])])
            .packet(renews(9, FIRST), nak().with(54, SERVER_IP))
            .packet(asks(9), offer([172, 16, 0, 9])),
        usual("2.6 M", "bootloop that always refuses renewals still gives leases", &[BY_POSITION, BOOTLOOP])
            .keys("[compat]", "bootloop_nak = \"always\"")
            .packet(asks(9), offer(FIRST))
            .packet(takes(9, FIRST), ack(FIRST))
            .packet(renews(9, FIRST), nak().with(54, SERVER_IP))
            .packet(asks(9), offer([172, 16, 0, 201])),
        usual("6.3.6 I", "configuration P: leases end, and a pool of three serves a fourth client", &[BY_POSITION, BOOTLOOP])
            .packet(takes(9, FIRST), ack(FIRST))
            .packet(takes(8, [172, 16, 0, 201]), ack([172, 16, 0, 201]))
            .packet(takes(7, [172, 16, 0, 202]), ack([172, 16, 0, 202]))
            .packet(asks(6), silence("pool_exhausted"))
            .pass(301)
            .packet(asks(6), offer(FIRST)),
        usual("1.6 M", "bootloop with pools of subnets serves strangers behind relays from theirs", &[
            BY_POSITION,
            "bootloop: lease_file=/tmp/t.db subnet_pool=172.16.0.0/24,172.16.0.200,172.16.0.202 subnet_pool=10.1.0.0/24,10.1.0.10,10.1.0.12",
        ])
        .packet(asks(9), offer(FIRST))
        .packet(Client::new(8).giaddr([10, 1, 0, 9]).discover(), offer([10, 1, 0, 10]).to(relay([10, 1, 0, 9])))
        .packet(Client::new(7).giaddr([10, 7, 0, 9]).discover(), silence("no_pool")),
        usual("1.6 M", "bootloop with one pool serves strangers behind every relay", &[BY_POSITION, BOOTLOOP])
            .packet(Client::new(9).giaddr([10, 7, 0, 9]).discover(), offer(FIRST).to(relay([10, 7, 0, 9]))),
        usual("1.6 M", "bootloop with one pool serves strangers behind the relay of a rule's subnet", &[
            "coresmd: svc_base_uri=http://127.0.0.1:27779 ipxe_base_uri=http://172.16.0.254:8081 rule=subnet:10.7.0.0/24,routers:10.7.0.1",
            BOOTLOOP,
        ])
        .packet(Client::new(9).giaddr([10, 7, 0, 9]).discover(), offer(FIRST).to(relay([10, 7, 0, 9]))),
        usual("1.6 I", "a pool of bootloop that ends before it begins is refused", &[BY_POSITION, "bootloop: /tmp/t.db default 5m 172.16.0.202 172.16.0.200"])
            .refused("bootloop"),
        usual("1.3 M", "range gives leases without a boot file for iPXE", &["range: /tmp/t.db 172.16.0.200 172.16.0.202 10m"])
            .nodes([])
            .packet(asks(9), offer(FIRST).with(51, 600u32.to_be_bytes()))
            .packet(takes(9, FIRST), ack(FIRST)),
        usual("1.3 M", "mtu, searchdomains, staticroute and sleep before coresmd count for nodes", &[
            "mtu: 9000",
            "searchdomains: a.example",
            "staticroute: 10.0.0.0/8,172.16.0.1",
            "sleep: 1ms",
            BY_POSITION,
        ])
        .packet(
            asks(1),
            offer(OWN).with(26, [0x23, 0x28]).with(119, b"\x01a\x07example\0").with(121, [8, 10, 172, 16, 0, 1]),
        ),
        usual("1.3 M", "what stands behind coresmd counts for strangers only", &[BY_POSITION, "mtu: 1400", BOOTLOOP])
            .packet(asks(1), offer(OWN).without(26))
            .packet(asks(9), offer(FIRST).with(26, [5, 120])),
        usual("1.3 M", "nbp behind coresmd is for strangers", &[BY_POSITION, "range: /tmp/t.db 172.16.0.200 172.16.0.202 10m", "nbp: tftp://10.0.0.1/x/pxelinux.0"])
            .packet(asks(9), offer(FIRST).with(66, "10.0.0.1").with(67, "/x/pxelinux.0"))
            .packet(firmware().discover(), offer(OWN).with(67, "ipxe-x86_64.efi").without(66)),
        usual("1.3 M", "ipv6only before coresmd takes the address of who asks for that", &["ipv6only: 30m", BY_POSITION])
            .packet(client().option(55, &[1, 108]).discover(), offer([0; 4]).with(108, 1800u32.to_be_bytes()))
            .packet(client().option(55, &[1]).discover(), offer(OWN))
            .packet(asks(1), offer(OWN)),
        usual("1.3 M", "autoconfigure behind coresmd tells strangers that ask", &[BY_POSITION, "autoconfigure: DoNotAutoConfigure"])
            .packet(Client::new(9).option(116, &[1]).discover(), offer([0; 4]).with(116, [0]))
            .packet(asks(9), silence("no_pool"))
            .packet(asks(1), offer(OWN)),
        yaml("0.1 I", "the packaged file, with a netmask only, starts and keeps silent", &["netmask: 255.255.255.0"])
            .nodes([])
            .packet(asks(9), silence("no_pool")),
        yaml("1.3 M", "without server_id the interface's own address is the server", &["netmask: 255.255.255.0", BY_POSITION])
            .packet(asks(1), offer(OWN).with(54, SERVER_IP).with(17, "172.16.0.254")),
        yaml("1.1 M", "plugin names in capitals are known", &["Server_ID: 172.16.0.254", "NETMASK: 255.255.255.0", BY_POSITION])
            .packet(asks(1), offer(OWN).with(54, SERVER_IP)),
        yaml("1.1 M", "a plugin that nobody knows is refused", &["example: a"]).refused("example"),
        yaml("1.1 M", "a plugin without its colon is refused", &["sleep 300ms"]).refused("colon"),
        yaml("1.3 M", "a netmask with holes is refused", &["netmask: 255.0.255.0"]).refused("netmask"),
        yaml("1.3 I", "a static route to an IPv6 network, which ends upstream at the first packet, is refused", &["staticroute: fd00::/8,172.16.0.1"])
            .refused("staticroute"),
        usual(
            "1.4 I",
            "a cache that is never valid, which ends upstream, is looked at each second",
            &["coresmd: svc_base_uri=http://127.0.0.1:27779 ipxe_base_uri=http://b cache_valid=0s"],
        )
        .packet(asks(1), offer(OWN)),
        yaml("1.4 M", "coresmd without its URLs is refused", &["coresmd: lease_time=1h"]).refused("svc_base_uri"),
        usual("1.4 M", "a comment that nobody closes swallows what follows it", &[
            "coresmd: svc_base_uri=http://127.0.0.1:27779 ipxe_base_uri=http://b /* old lease_time=9h",
        ])
        .packet(asks(1), offer(OWN).with(51, 3600u32.to_be_bytes())),
        usual("1.4 I", "coresmd without ca_cert starts", &[
            "coresmd: svc_base_uri=http://127.0.0.1:27779 ipxe_base_uri=http://b",
        ])
        .packet(asks(1), offer(OWN)),
        usual("1.5.2 M", "a rule that ignores keeps bootloop from answering, too", &[
            "coresmd: svc_base_uri=http://127.0.0.1:27779 ipxe_base_uri=http://b rule=type:Node,ignore:true",
            BOOTLOOP,
        ])
        .packet(asks(1), silence("ignored_by_rule"))
        .packet(asks(9), offer(FIRST)),
        usual("2.5 M", "of a rule's subnet behind a relay the address there is given, with the rule's mask and routers", &[
            "coresmd: svc_base_uri=http://127.0.0.1:27779 ipxe_base_uri=http://b rule=subnet:10.1.0.0/16,type:Node,routers:10.1.0.1,hostname:n{04d}",
        ])
        .nodes([node(1, &["172.16.0.1", "10.1.2.3"])])
        .packet(
            client().giaddr([10, 1, 9, 9]).discover(),
            offer([10, 1, 2, 3]).with(1, [255, 255, 0, 0]).with(3, [10, 1, 0, 1]).with(12, "n0001"),
        )
        .packet(asks(1), offer(OWN).with(1, [255, 255, 255, 0])),
        usual("2.5 M", "a node without an address in the rule's subnet behind that relay falls through to bootloop", &[
            "coresmd: svc_base_uri=http://127.0.0.1:27779 ipxe_base_uri=http://b rule=subnet:10.1.0.0/24,hostname:n{04d}",
            "bootloop: lease_file=/tmp/t.db subnet_pool=10.1.0.0/24,10.1.0.10,10.1.0.12",
        ])
        .packet(client().giaddr([10, 1, 0, 9]).discover(), offer([10, 1, 0, 10])),
    ];
    all.push(
        usual(
            "6.3.4 I",
            "a refusal by bootloop's rule can be delivered through a relay",
            &[BY_POSITION, BOOTLOOP],
        )
        .packet(
            Client::new(9).giaddr([172, 16, 0, 9]).option(50, &FIRST).request(),
            ack(FIRST),
        )
        .publish([node(9, &["172.16.0.9"])])
        .packet(
            Client::new(9)
                .giaddr([172, 16, 0, 9])
                .option(50, &FIRST)
                .option(82, &[1, 1, 7])
                .request(),
            nak()
                .to(relay([172, 16, 0, 9]))
                .at(0, &[2])
                .at(10, &[0x80, 0])
                .codes(&[53, 54, 82]),
        ),
    );
    all
}
