//! What a machine on the cable gets: ordinary exchanges, answers while everything behind bootd is gone, hostile packets.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::peer::Peer;
use bootd_tests::server::{self, Bootd};
use bootd_tests::wire::{self, ACK, Client, DISCOVER, DhcpSocket};
use bootd_tests::{Rack, SERVER, eventually_true};

const NODE_1: [u8; 6] = [0x52, 0x54, 0, 0xbe, 0xef, 1];
const STRANGER: [u8; 6] = [0x52, 0x54, 0, 0xbe, 0xef, 0x77];
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn the_peer_and_the_client_understand_each_other() {
    in_rack(|| {
        let rack = Rack::new()?;
        let _peer = Peer::start(&rack)?;
        let client = Client::plug(&rack)?;
        gets(&client.dhcp_socket()?, NODE_1, 1)?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        ensure!(client.tftp("ipxe-x86_64.efi")?.len() > 100_000);
        ensure!(client.tftp("../leases").is_err());
        let (status, text) = client.get("/cloud-init/meta-data")?;
        ensure!(
            status == 200 && text.contains("local-hostname: nid001"),
            "{status} {text}"
        );
        Ok(())
    });
}

#[test]
fn known_nodes_get_their_dhcp_answers_with_nodes_yaml_and_all_plugins_gone() {
    in_rack(|| {
        let rack = Rack::new()?;
        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        let mut bootd = rack.start_bootd()?;
        gets(&socket, NODE_1, 1)?;
        bootd.stop(PATIENCE)?;

        fs::remove_file(rack.path("nodes.yaml"))?;
        // Plugins lie beside the binary; beside this copy there are none.
        fs::create_dir(rack.path("alone"))?;
        let alone = rack.path("alone").join("bootd");
        fs::copy(server::binary()?, &alone).context("copy bootd")?;
        let mut bootd = Bootd::start(&alone, &rack.path("bootd.toml"), &rack.dir, &rack.journal)?;
        for (last, mac) in (1..=5).map(|n| (n, [0x52, 0x54, 0, 0xbe, 0xef, n])) {
            gets(&socket, mac, last)?;
        }
        bootd.must_run()
    });
}

#[test]
fn serve_starts_with_bad_rows_left_out_and_says_so() {
    in_rack(|| {
        let rack = Rack::new()?;
        // The second node claims the first one's MAC.
        let nodes = bootd_tests::data::NODES.replace("52:54:00:be:ef:02", "52:54:00:be:ef:01");
        rack.write("nodes.yaml", &nodes)?;
        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        let mut bootd = rack.start_bootd()?;
        gets(&socket, [0x52, 0x54, 0, 0xbe, 0xef, 3], 3)?;
        let log = fs::read_to_string(bootd.log())?;
        ensure!(
            log.lines()
                .any(|line| line.contains("nodes.yaml") && line.contains("52:54:00:be:ef:01")),
            "the log does not name the bad row:\n{log}"
        );
        bootd.must_run()
    });
}

#[test]
fn a_request_that_is_held_open_while_the_inventory_changes_leaves_no_outdated_answer_behind() {
    in_rack(|| {
        let rack = Rack::new()?;
        let client = Client::plug(&rack)?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        let mut bootd = rack.start_bootd()?;
        client.at(|| {
            let mut held = TcpStream::connect((SERVER, 8081))?;
            held.set_read_timeout(Some(PATIENCE))?;
            held.write_all(
                b"GET /cloud-init/meta-data HTTP/1.1\r\nhost: 172.16.0.254:8081\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n",
            )?;
            let ask = || client.get("/cloud-init/meta-data");
            ensure!(ask()?.1.contains("nid001"));
            rack.write("nodes.yaml", &bootd_tests::data::NODES.replace("nid: 1\n", "nid: 501\n"))?;
            eventually_true(PATIENCE, "the node is another one", || {
                ask().is_ok_and(|(_, text)| text.contains("nid501"))
            })?;
            held.write_all(b"0\r\n\r\n")?;
            let mut said = String::new();
            held.read_to_string(&mut said)?;
            ensure!(said.contains("200 OK"), "{said}");
            let (_, text) = ask()?;
            ensure!(text.contains("nid501"), "{text}");
            Ok(())
        })?;
        bootd.must_run()
    });
}

#[test]
fn hostile_dhcp_packets_change_nothing() {
    in_rack(|| {
        let rack = Rack::new()?;
        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        let mut bootd = rack.start_bootd()?;
        gets(&socket, NODE_1, 1)?;
        let pid = bootd.id();
        for (what, packet) in hostile_dhcp() {
            socket.send(&packet).with_context(|| what.clone())?;
            gets(&socket, NODE_1, 1).with_context(|| format!("after: {what}"))?;
            bootd.must_run().with_context(|| format!("after: {what}"))?;
        }
        ensure!(bootd.id() == pid);
        Ok(())
    });
}

#[test]
fn hostile_tftp_and_http_requests_change_nothing() {
    in_rack(|| {
        let rack = Rack::new()?;
        let client = Client::plug(&rack)?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        let mut bootd = rack.start_bootd()?;
        let loader = client.tftp("ipxe-x86_64.efi").context("the loader by TFTP")?;
        ensure!(loader.len() > 100_000, "a loader of {} bytes", loader.len());

        let socket = client.udp_socket()?;
        for (what, packet) in hostile_tftp() {
            socket.send_to(&packet, (SERVER, 69)).with_context(|| what.clone())?;
            bootd.must_run().with_context(|| format!("after: {what}"))?;
        }
        for name in [
            "../../../../etc/passwd",
            "/etc/passwd",
            "..\\..\\etc\\passwd",
            "./.././../etc/passwd",
            "",
            ".",
        ] {
            ensure!(client.tftp(name).is_err(), "TFTP gave {name:?}");
        }
        ensure!(client.tftp("ipxe-x86_64.efi")? == loader, "another loader than before");

        for port in [8081, 9000] {
            for (what, request) in hostile_http() {
                let answer = client.at(|| raw_http(port, &request)).with_context(|| what.clone())?;
                let text = String::from_utf8_lossy(&answer);
                ensure!(
                    !text.contains("root:x:0:0"),
                    "{what} on {port}: got a file of the system"
                );
                ensure!(
                    !text.starts_with("HTTP/1.1 5"),
                    "{what} on {port}: {}",
                    text.lines().next().unwrap_or("")
                );
                bootd.must_run().with_context(|| format!("after: {what}"))?;
            }
        }
        let (status, text) = client.get("/cloud-init/meta-data")?;
        ensure!(status == 200 && text.contains("nid001"), "{status} {text}");
        let (status, text) = client.get("/boot/v1/bootscript?mac=52%3A54%3A00%3Abe%3Aef%3A01")?;
        ensure!(status == 200 && text.starts_with("#!ipxe"), "{status} {text}");
        Ok(())
    });
}

/// The whole exchange ends with the address 172.16.0.`last`.
fn gets(socket: &DhcpSocket, mac: [u8; 6], last: u8) -> Result<()> {
    let reply = socket
        .lease(mac, PATIENCE)
        .with_context(|| format!("the lease of 172.16.0.{last}"))?;
    ensure!(reply.kind == ACK, "not acknowledged: kind {}", reply.kind);
    ensure!(
        reply.yiaddr.octets() == [172, 16, 0, last],
        "address {} instead of .{last}",
        reply.yiaddr
    );
    Ok(())
}

fn hostile_dhcp() -> Vec<(String, Vec<u8>)> {
    let good = |options: &[u8]| wire::message(DISCOVER, wire::xid(), STRANGER, options);
    let bare = |tail: &[u8]| [wire::header(wire::xid(), STRANGER), tail.to_vec()].concat();
    let cookie = [99, 130, 83, 99];
    let with = |at: usize, value: u8| {
        let mut bytes = good(&[]);
        bytes[at] = value;
        bytes
    };
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for length in [0, 1, 4, 28, 43, 235, 236, 239, 240, 241, 242, 243] {
        let mut bytes = good(&[]);
        bytes.truncate(length);
        all.push((format!("truncated to {length} bytes"), bytes));
    }
    all.push(("no cookie".into(), bare(&[0; 64])));
    all.push(("another cookie".into(), bare(&[99, 130, 83, 98, 53, 1, 1, 255])));
    all.push(("no options at all".into(), bare(&cookie)));
    all.push((
        "no message type".into(),
        bare(&[&cookie[..], &[55, 1, 1, 255]].concat()),
    ));
    all.push((
        "message type of length 0".into(),
        bare(&[&cookie[..], &[53, 0, 255]].concat()),
    ));
    all.push(("message type 0".into(), bare(&[&cookie[..], &[53, 1, 0, 255]].concat())));
    all.push((
        "message type 200".into(),
        bare(&[&cookie[..], &[53, 1, 200, 255]].concat()),
    ));
    all.push(("architecture of length 0".into(), good(&[93, 0])));
    all.push(("architecture of length 1".into(), good(&[93, 1, 7])));
    all.push(("architecture of length 3".into(), good(&[93, 3, 0, 7, 0])));
    all.push(("architecture 65535".into(), good(&[93, 2, 255, 255])));
    all.push((
        "an option beyond the end".into(),
        bare(&[&cookie[..], &[53, 1, 1, 12, 200, 65]].concat()),
    ));
    all.push((
        "an option without length".into(),
        bare(&[&cookie[..], &[53, 1, 1, 12]].concat()),
    ));
    all.push(("requested address of length 1".into(), good(&[50, 1, 9])));
    all.push(("server identifier of length 5".into(), good(&[54, 5, 1, 2, 3, 4, 5])));
    all.push(("client identifier of length 0".into(), good(&[61, 0])));
    all.push(("user class of length 0".into(), good(&[77, 0])));
    all.push(("relay information that lies".into(), good(&[82, 4, 1, 200, 1, 1])));
    all.push(("overload of nothing".into(), good(&[52, 1, 3])));
    all.push((
        "a host name of zeros".into(),
        good(&[[12, 64].as_slice(), &[0; 64]].concat()),
    ));
    all.push((
        "255 bytes of host name".into(),
        good(&[[12, 255].as_slice(), &[0xff; 255]].concat()),
    ));
    for hlen in [0, 1, 5, 7, 16, 17, 20, 255] {
        all.push((format!("hlen {hlen}"), with(2, hlen)));
    }
    all.push(("hardware type 0".into(), with(1, 0)));
    all.push(("op 0".into(), with(0, 0)));
    all.push(("op 2, an answer".into(), with(0, 2)));
    all.push(("255 hops".into(), with(3, 255)));
    all.push(("a relay address of its own".into(), {
        let mut bytes = good(&[]);
        bytes[24..28].copy_from_slice(&SERVER.octets());
        bytes
    }));
    all.push((
        "a MAC of zeros".into(),
        wire::message(DISCOVER, wire::xid(), [0; 6], &[]),
    ));
    all.push((
        "a broadcast MAC".into(),
        wire::message(DISCOVER, wire::xid(), [255; 6], &[]),
    ));
    let many: Vec<u8> = (0..400).flat_map(|_| [12, 1, 65]).collect();
    all.push(("an option 400 times".into(), good(&many)));
    all.push(("1400 bytes of 0xff".into(), vec![0xff; 1400]));
    all
}

fn hostile_tftp() -> Vec<(String, Vec<u8>)> {
    let request = |rest: &[u8]| [&[0, 1], rest].concat();
    let long = [vec![b'a'; 1200], b"\0octet\0".to_vec()].concat();
    vec![
        ("nothing".into(), vec![]),
        ("one byte".into(), vec![0]),
        ("no name".into(), vec![0, 1]),
        ("opcode 9".into(), vec![0, 9, 1, 2]),
        ("an unterminated name".into(), request(b"ipxe-x86_64.efi")),
        ("no mode".into(), request(b"ipxe-x86_64.efi\0")),
        ("mode mail".into(), request(b"ipxe-x86_64.efi\0mail\0")),
        ("a long name".into(), request(&long)),
        ("a name of no text".into(), request(b"\xff\xfe\x80\0octet\0")),
        ("blksize 0".into(), request(b"ipxe-x86_64.efi\0octet\0blksize\x000\0")),
        (
            "blksize 99999999999".into(),
            request(b"ipxe-x86_64.efi\0octet\0blksize\x0099999999999\0"),
        ),
        (
            "windowsize 0".into(),
            request(b"ipxe-x86_64.efi\0octet\0windowsize\x000\0"),
        ),
        (
            "an option without value".into(),
            request(b"ipxe-x86_64.efi\0octet\0tsize\0"),
        ),
        ("a write request".into(), [&[0, 2], &b"x\0octet\0"[..]].concat()),
        ("data out of nothing".into(), [&[0, 3, 0, 1], &[7; 512][..]].concat()),
        ("an acknowledgement out of nothing".into(), vec![0, 4, 0, 1]),
        ("an error".into(), b"\0\x05\0\x08aborted\0".to_vec()),
    ]
}

fn hostile_http() -> Vec<(String, Vec<u8>)> {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes();
    let mut all: Vec<(String, Vec<u8>)> = [
        "/../../../../etc/passwd",
        "/boot-images/../../../../../../etc/passwd",
        "/boot-images/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/boot-images//etc/passwd",
        "/loaders/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/loaders/%00",
        "/boot/v1/bootscript",
        "/boot/v1/bootscript?mac=%",
        "/boot/v1/bootscript?mac=zz:zz",
        "/cloud-init/../../etc/passwd",
        "/cloud-init/..%2f.yaml",
        "http://[",
        "*",
    ]
    .into_iter()
    .map(|path| (format!("GET {path}"), get(path)))
    .collect();
    all.push(("no HTTP at all".into(), b"\0\x01\x02\xff\r\n\r\n".to_vec()));
    all.push(("no version".into(), b"GET /\r\n\r\n".to_vec()));
    let header = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(300_000));
    all.push(("300 kB of header".into(), header.into_bytes()));
    let range = "GET /boot-images/compute/base/rocky9.6-compute-base-rocky9 HTTP/1.1\r\nHost: x\r\n\
        Range: bytes=18446744073709551615-0,-0,5-3\r\nConnection: close\r\n\r\n";
    all.push(("an impossible range".into(), range.into()));
    let post = "POST /cloud-init/phone-home/x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nabc";
    all.push(("a body that does not come".into(), post.into()));
    all
}

/// Sends bytes and reads what comes until the server closes or is silent for a second.
fn raw_http(port: u16, request: &[u8]) -> Result<Vec<u8>> {
    let to = SocketAddr::from((SERVER, port));
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).context("connect")?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    // The server may well close before it has all of it.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut chunk) {
        answer.extend_from_slice(&chunk[..n]);
        if answer.len() > 1 << 20 {
            break;
        }
    }
    Ok(answer)
}
