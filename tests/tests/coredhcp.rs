//! bootd in the place of CoreDHCP: coredhcp.yaml files as they are in the field, unchanged, with SMD and BSS at the addresses that they name.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bootd_tests::journal::How;
use bootd_tests::namespace::in_rack;
use bootd_tests::network::ip;
use bootd_tests::server::{self, Bootd};
use bootd_tests::wire::{self, ACK, Client, DISCOVER, DhcpSocket, OFFER, Reply};
use bootd_tests::wire6::{self, Dhcp6Socket};
use bootd_tests::{BOOT_LIMIT, Event, NODE_9, Rack, Root, Step, data, eventually, eventually_true};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

const T: &str = include_str!("../data/coredhcp/t.yaml");
const B: &str = include_str!("../data/coredhcp/b.yaml");
const P: &str = include_str!("../data/coredhcp/p.yaml");
const B6: &str = include_str!("../data/coredhcp/b6.yaml");
const DUAL: &str = include_str!("../data/coredhcp/dual.yaml");
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn the_tutorials_file_boots_a_node_and_an_unknown_one_reboots_until_it_is_added() {
    in_rack(|| {
        let rack = Rack::on("virbr-openchami")?;
        let mut services = services(&rack)?;
        let mut dhcp = coredhcp(&rack, T)?;
        opens_only_dhcp_tftp_and_its_own_socket(&dhcp)?;

        let mut node = rack.power_on(1)?;
        node.wait(Step::Login, BOOT_LIMIT).context("a node of SMD")?;
        drop(node);

        let mut unknown = rack.power_on(9)?;
        let from = unknown.from();
        let told_to_reboot = || {
            let reboot = |event: &Event| matches!(event, Event::Served { path, how: How::Tftp, .. } if path.ends_with("default"));
            rack.journal.count(from, reboot)
        };
        eventually_true(BOOT_LIMIT, "an unknown node reboots, and again", || {
            told_to_reboot() >= 2
        })
        .with_context(|| format!("{} times", told_to_reboot()))?;
        rack.write("nodes.yaml", &format!("{}\n{NODE_9}", data::NODES))?;
        rack.write("boot-compute.yaml", &format!("{}\n  - {}\n", data::BOOT, unknown.mac()))?;
        unknown
            .wait(Step::Login, BOOT_LIMIT * 2)
            .context("the node that was unknown")?;
        let has_its_own = |event: &Event| matches!(event, Event::Address { ip, .. } if ip.octets() == [172, 16, 0, 9]);
        ensure!(
            rack.journal.count(from, has_its_own) > 0,
            "it has no address of its own"
        );
        services.must_run()?;
        dhcp.must_run()
    });
}

#[test]
fn known_clients_get_what_coredhcp_says_to_them() {
    in_rack(|| {
        let rack = Rack::on("veth0")?;
        rack.write("nodes.yaml", N1)?;
        let mut services = services(&rack)?;
        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        for (file, name) in [(B, "nid0001.openchami.cluster"), (P, "nid0001")] {
            let mut dhcp = coredhcp(&rack, file)?;
            eventually_true(PATIENCE, "the nodes of SMD are there", || {
                dhcp.ask_json(&["nodes"])
                    .is_ok_and(|view| view["nodes"].as_array().is_some_and(|nodes| nodes.len() >= 2))
            })?;
            let offer = ask(&socket, N1_MAC, &[93, 2, 0, 7])?;
            golden(&offer, name, "ipxe-x86_64.efi")?;
            let ipxe = ask(&socket, N1_MAC, &[&[93, 2, 0, 7, 77, 4][..], b"iPXE"].concat())?;
            let script = "http://172.16.0.254:8081/boot/v1/bootscript?mac=02:00:00:00:00:01";
            golden(&ipxe, name, script)?;
            let ack = socket.lease(N1_MAC, PATIENCE)?;
            ensure!(ack.kind == ACK && ack.yiaddr.octets() == [172, 16, 0, 1], "{ack:?}");
            opens_only_dhcp_tftp_and_its_own_socket(&dhcp)?;
            if file == P {
                let ack = socket.lease(STRANGER, PATIENCE).context("a stranger's lease")?;
                ensure!(ack.kind == ACK && ack.yiaddr.octets() == [172, 16, 0, 200], "{ack:?}");
                ensure!(ack.option(51) == Some(&300_u32.to_be_bytes()), "{ack:?}");
                let ipxe = ask(&socket, STRANGER, &[&[93, 2, 0, 7, 77, 4][..], b"iPXE"].concat())?;
                ensure!(ipxe.option(67) == Some(b"default"), "{ipxe:?}");
            } else {
                ensure!(ask_once(&socket, STRANGER, &[]).is_err(), "a stranger is answered");
            }
            says_what_it_made_of_the_file(&dhcp)?;
            takes_its_changed_file(&rack, &dhcp, &socket, file)?;
            dhcp.stop(PATIENCE)?;
        }
        services.must_run()
    });
}

#[test]
fn a_file_with_coresmd_in_both_sections_serves_both_and_one_with_version_six_alone_serves_that() {
    in_rack(|| {
        let rack = Rack::on("veth0")?;
        ip("addr add fd00::fe/64 dev veth0 nodad")?;
        rack.write(
            "nodes.yaml",
            &format!("{N1}    - name: management6\n      ip_addr: fd00::1\n"),
        )?;
        let mut services = services(&rack)?;
        let client = Client::plug(&rack)?;
        client.ip("link set cable0 address 02:00:00:00:00:01")?;
        let link_local = wire6::link_local(N1_MAC);
        client.ip(&format!("addr add {link_local}/64 dev cable0 nodad"))?;
        let socket = client.dhcp_socket()?;
        let socket6 = Dhcp6Socket::open(client.machine(), "cable0", 546)?;
        for (file, lifetime, script) in [
            (
                DUAL,
                1800,
                "http://[fd00::fe]:8081/boot/v1/bootscript?mac=02:00:00:00:00:01",
            ),
            (
                B6,
                3600,
                "http://172.16.0.254:8081/boot/v1/bootscript?mac=02:00:00:00:00:01",
            ),
        ] {
            let mut dhcp = coredhcp(&rack, file)?;
            let ask6 = |kind, more: &[u8]| -> Result<wire6::Reply6> {
                let xid = wire6::xid();
                socket6.send(&wire6::message(kind, xid, N1_MAC, more), wire6::SERVERS)?;
                socket6.receive(xid, Duration::from_secs(1))
            };
            let ipxe = [wire6::option(15, b"\0\x04iPXE"), wire6::option(6, &[0, 23, 0, 59])].concat();
            let advertised = eventually(PATIENCE, "an ADVERTISE", || ask6(wire6::SOLICIT, &ipxe).ok())?;
            let node = "fd00::1".parse()?;
            ensure!(advertised.address() == Some((node, lifetime)), "{advertised:?}");
            ensure!(advertised.option(59) == Some(script.as_bytes()), "{advertised:?}");
            ensure!(
                advertised.option(2) == Some(&[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xfe]),
                "{advertised:?}"
            );
            let taken = ask6(wire6::REQUEST, &wire6::option(2, &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xfe]))?;
            ensure!(
                taken.kind == wire6::REPLY && taken.address() == Some((node, lifetime)),
                "{taken:?}"
            );
            let offer = ask_once(&socket, N1_MAC, &[93, 2, 0, 7]);
            ensure!(offer.is_ok() == (file == DUAL), "{offer:?}");
            opens_only_dhcp_tftp_and_its_own_socket(&dhcp)?;
            let status = dhcp.ask_json(&["status"])?["dhcp"].to_string();
            ensure!(
                status.contains("IPv6") && status.contains("IPv4") == (file == DUAL),
                "{status}"
            );
            dhcp.stop(PATIENCE)?;
        }
        services.must_run()
    });
}

const N1_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const STRANGER: [u8; 6] = [2, 0, 0, 0, 0, 0x77];

/// The contract's node N1.
const N1: &str = "nodes:
- name: n1
  nid: 1
  xname: x1000c0s0b0n0
  bmc_mac: de:ca:fc:0f:fe:e1
  bmc_ip: 172.16.0.101
  interfaces:
  - mac_addr: 02:00:00:00:00:01
    ip_addrs:
    - name: management
      ip_addr: 172.16.0.1
";

/// SMD, BSS, cloud-init and the artifacts, by another bootd in local mode, with the rack's data files.
fn services(rack: &Rack) -> Result<Bootd> {
    let dir = rack.path("services");
    fs::create_dir(&dir)?;
    certificates(rack, &dir)?;
    let (own, all) = (dir.display().to_string(), rack.dir.display().to_string());
    let config = rack
        .config()
        .replace("[\"br0\"]", "[]")
        .replace(&format!("{all}/state"), &format!("{own}/state"))
        .replace(&format!("{all}/cache"), &format!("{own}/cache"))
        .replace(&format!("{all}/admin.sock"), &format!("{own}/admin.sock"));
    let more = format!(
        "[[http.listener]]\naddress = \"0.0.0.0:8443\"\nserve = [\"boot\"]\nauth = \"none\"\n\
         tls = {{ cert = \"{own}/cert.pem\", key = \"{own}/key.pem\" }}\n\
         [[http.listener]]\naddress = \"127.0.0.1:27779\"\nserve = [\"boot\"]\nauth = \"none\"\n\
         [tftp]\nserve = false\n"
    );
    let path = dir.join("bootd.toml");
    fs::write(&path, config + &more)?;
    Bootd::start(&server::binary()?, &path, &dir, &rack.journal).context("SMD and BSS")
}

/// A CA in the rack's folder, and a certificate for the name that the tutorial has for its services.
fn certificates(rack: &Rack, dir: &std::path::Path) -> Result<()> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    fs::write(rack.path("ca.pem"), params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let cert = CertificateParams::new(vec!["demo.openchami.cluster".into()])?.signed_by(&key, &issuer)?;
    fs::write(dir.join("cert.pem"), cert.pem())?;
    fs::write(dir.join("key.pem"), key.serialize_pem())?;
    Ok(())
}

/// `bootd coredhcp` with a file as it is. Beside it stands only where this rack keeps things.
fn coredhcp(rack: &Rack, file: &str) -> Result<Bootd> {
    let dir = rack.path("coredhcp");
    let root = rack.path("root");
    for old in [&dir, &root] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    fs::create_dir(&dir)?;
    let own = dir.display();
    fs::write(
        dir.join("bootd.toml"),
        format!(
            "[server]\nstate_dir = \"{own}/state\"\ncache_dir = \"{own}/cache\"\n[admin]\nsocket = \"{own}/admin.sock\"\n"
        ),
    )?;
    fs::write(dir.join("config.yaml"), file)?;
    let root = Root::new(rack, "172.16.0.254 demo.openchami.cluster")?;
    root.add("/root_ca/root_ca.crt", fs::read(rack.path("ca.pem"))?)?;
    let loader = fs::read("/usr/lib/ipxe/ipxe.efi").context("the package ipxe")?;
    root.add("/tftpboot/ipxe-x86_64.efi", loader)?;
    Bootd::start_coredhcp(root, &dir.join("config.yaml"), &dir, &rack.journal)
}

/// Golden replies A and B of the contract, apart from the name and the boot file.
fn golden(reply: &Reply, name: &str, file: &str) -> Result<()> {
    let server = [172, 16, 0, 254];
    ensure!(
        reply.kind == OFFER && reply.yiaddr.octets() == [172, 16, 0, 1],
        "{reply:?}"
    );
    ensure!(reply.bytes[20..24] == server, "siaddr {:?}", &reply.bytes[20..24]);
    for (code, value) in [
        (1, &[255, 255, 255, 0][..]),
        (3, &server),
        (6, &server),
        (12, name.as_bytes()),
        (17, b"172.16.0.254"),
        (51, &3600_u32.to_be_bytes()),
        (54, &server),
        (67, file.as_bytes()),
    ] {
        let got = reply.option(code);
        ensure!(
            got == Some(value),
            "option {code}: {:?} instead of {:?}",
            got.map(String::from_utf8_lossy),
            String::from_utf8_lossy(value)
        );
    }
    Ok(())
}

/// A DISCOVER with these options and no list of wanted ones, asked again until it is answered.
fn ask(socket: &DhcpSocket, mac: [u8; 6], options: &[u8]) -> Result<Reply> {
    eventually(PATIENCE, "an offer", || ask_once(socket, mac, options).ok())
}

fn ask_once(socket: &DhcpSocket, mac: [u8; 6], options: &[u8]) -> Result<Reply> {
    let xid = wire::xid();
    let mut message = wire::header(xid, mac);
    message.extend_from_slice(&[99, 130, 83, 99, 53, 1, DISCOVER]);
    message.extend_from_slice(options);
    message.push(255);
    message.resize(message.len().max(300), 0);
    socket.send(&message)?;
    socket.receive(xid, Duration::from_secs(2))
}

/// `bootd reload` reads the coredhcp.yaml again; one with a mistake changes nothing.
fn takes_its_changed_file(rack: &Rack, dhcp: &Bootd, socket: &DhcpSocket, file: &str) -> Result<()> {
    let path = rack.path("coredhcp").join("config.yaml");
    let router = || -> Result<Vec<u8>> {
        let offer = ask(socket, N1_MAC, &[93, 2, 0, 7])?;
        Ok(offer.option(3).unwrap_or_default().to_vec())
    };
    let before = router()?;
    fs::write(&path, file.replace("router: 172.16.0.254", "router: 172.16.0.999"))?;
    ensure!(dhcp.ask(&["reload"])?.status.code() == Some(64) && router()? == before);
    fs::write(&path, file.replace("router: 172.16.0.254", "router: 172.16.0.9"))?;
    let report = dhcp.ask_json(&["reload"])?;
    ensure!(report["applied"] == true, "{report:#}");
    ensure!(router()? == [172, 16, 0, 9], "{:?}", router());
    Ok(())
}

fn says_what_it_made_of_the_file(dhcp: &Bootd) -> Result<()> {
    let log = fs::read_to_string(dhcp.log())?;
    for says in ["understood: ", "changed: ", "server4.plugins[4] coresmd"] {
        ensure!(log.contains(says), "nothing of '{says}' in\n{log}");
    }
    Ok(())
}

/// Which sockets of a process listen, by what the kernel says of its descriptors.
fn opens_only_dhcp_tftp_and_its_own_socket(dhcp: &Bootd) -> Result<()> {
    let mut inodes = BTreeSet::new();
    for fd in fs::read_dir(format!("/proc/{}/fd", dhcp.id()))?.flatten() {
        let target = fs::read_link(fd.path()).unwrap_or_default();
        let target = target.to_string_lossy().into_owned();
        inodes.extend(
            target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'))
                .map(str::to_owned),
        );
    }
    ensure!(!inodes.is_empty(), "it has no sockets at all");
    let table = |name: &str| -> Result<Vec<Vec<String>>> {
        let text = fs::read_to_string(PathBuf::from("/proc/net").join(name))?;
        Ok(text
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect())
    };
    let port = |row: &[String]| {
        let text = row.get(1)?.rsplit_once(':')?.1;
        u16::from_str_radix(text, 16).ok()
    };
    for name in ["udp", "udp6", "tcp", "tcp6", "raw", "raw6"] {
        for row in table(name)?
            .iter()
            .filter(|row| row.get(9).is_some_and(|inode| inodes.contains(inode)))
        {
            let good = match name {
                "udp" => matches!(port(row), Some(67 | 69)),
                "udp6" => matches!(port(row), Some(67 | 69 | 547)),
                // 0A is LISTEN; a connection to SMD is fine.
                "tcp" | "tcp6" => row.get(3).is_some_and(|state| state != "0A"),
                _ => false,
            };
            ensure!(good, "{name}: {row:?}");
        }
    }
    for row in table("unix")?
        .iter()
        .filter(|row| row.get(6).is_some_and(|inode| inodes.contains(inode)))
    {
        // Flag 10000 is a socket that accepts connections.
        let listens = row.get(3).is_some_and(|flags| flags == "00010000");
        ensure!(
            !listens || row.get(7).is_some_and(|path| path.ends_with("/admin.sock")),
            "{row:?}"
        );
    }
    Ok(())
}
