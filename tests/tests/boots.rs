//! What goes wrong with a boot is named: twelve planted faults, each with its own diagnosis in `bootd boots`, and kept over a restart.
//!
//! A client by hand plays the nodes, so that each of them stops exactly where its fault is; that real firmware reaches *booted* is seen in `boot.rs`.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::wire::{ACK, Client, DISCOVER, DhcpSocket, OFFER, REQUEST, Reply, message, xid};
use bootd_tests::{BOOT_STAGES, Bootd, Rack, SERVER, eventually};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

#[test]
fn each_of_twelve_faults_has_its_own_name_and_timelines_survive_a_restart() {
    in_rack(|| {
        let rack = Rack::new()?;
        write(&rack)?;
        let mut bootd = rack.start_bootd()?;
        let client = Client::plug(&rack)?;
        let site = Site {
            dhcp: client.dhcp_socket()?,
            client,
            bootd: &bootd,
        };

        site.no_address()?;
        site.wrong_loader()?;
        site.loader_missing()?;
        site.script_refused()?;
        site.kernel_missing()?;
        site.initramfs_truncated()?;
        site.root_never_asked_for()?;
        site.root_slow()?;
        site.unknown_address()?;
        site.phone_home_missing()?;
        site.relay_without_route()?;
        site.foreign_server()?;
        site.whole_boot()?;

        let said = bootd.ask(&["boots"])?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let first = said.lines().nth(1).context("no boots")?;
        ensure!(first.contains(" stuck "), "stragglers are not first:\n{said}");
        ensure!(said.contains("1 booted"), "{said}");
        let metrics = bootd.metrics()?;
        ensure!(metrics.contains("root-never-asked-for"), "the diagnosis is not counted");

        let before = bootd.ask_json(&["boots", &xname(7)])?;
        drop(site);
        bootd.stop(Duration::from_secs(20))?;
        bootd.start_again()?;
        let after = bootd.ask_json(&["boots", &xname(7)])?;
        ensure!(after["attempts"] == before["attempts"], "{before:#}\n{after:#}");
        bootd.must_run()
    });
}

struct Site<'a> {
    client: Client,
    dhcp: DhcpSocket,
    bootd: &'a Bootd,
}

impl Site<'_> {
    /// Waits until the last attempt of a client is told to be this.
    fn says(&self, who: &str, name: &str) -> Result<()> {
        let mut last = Value::Null;
        let found = eventually(TIME, &format!("{who} is {name}"), || {
            last = self.bootd.ask_json(&["boots", who]).ok()?;
            let attempt = last["attempts"].as_array()?.last()?;
            (attempt["diagnosis"]["name"] == name).then(|| attempt["diagnosis"]["text"].to_string())
        });
        let text = found.with_context(|| format!("{last:#}"))?;
        ensure!(text.len() > 40, "few words: {text}");
        let shown = self.bootd.ask(&["boots", who])?;
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        ensure!(shown.contains(&format!("  {name}: ")), "{shown}");
        Ok(())
    }

    fn no_address(&self) -> Result<()> {
        self.dhcp.send(&message(DISCOVER, xid(), mac(99), &[]))?;
        self.says("52:54:00:be:ef:63", "no-address")
    }

    fn wrong_loader(&self) -> Result<()> {
        // Option 93 once more: 64-bit ARM.
        self.exchange(2, &ARM)?;
        self.client.tftp("ipxe-arm64.efi")?;
        self.says(&xname(2), "wrong-loader")
    }

    fn loader_missing(&self) -> Result<()> {
        self.exchange(3, &PC)?;
        ensure!(self.client.tftp("nothing.efi").is_err());
        self.says(&xname(3), "loader-refused")
    }

    fn script_refused(&self) -> Result<()> {
        self.ipxe(4)?;
        self.get(4, 8081, &script(4), usize::MAX)?;
        self.says(&xname(4), "no-boot-parameters")?;
        // What a script of its own makes of an address that it does not know.
        ensure!(self.get(4, 8081, "/boot/v1/bootscript?mac=${net9/mac}", usize::MAX)?.0 == 400);
        self.says(&xname(4), "script-refused")
    }

    fn kernel_missing(&self) -> Result<()> {
        self.ipxe(5)?;
        self.get(5, 8081, &script(5), usize::MAX)?;
        ensure!(self.get(5, 9000, "/images/none", usize::MAX)?.0 == 404);
        self.says(&xname(5), "kernel-refused")
    }

    fn initramfs_truncated(&self) -> Result<()> {
        self.to_kernel(6)?;
        self.get(6, 9000, "/images/initrd", 100_000)?;
        self.says(&xname(6), "initramfs-broken-off")
    }

    fn root_never_asked_for(&self) -> Result<()> {
        self.to_system(7)?;
        self.says(&xname(7), "root-never-asked-for")
    }

    fn root_slow(&self) -> Result<()> {
        self.to_system(8)?;
        let mut stream = self.ask(8, 9000, "/images/root")?;
        let (begin, mut part) = (Instant::now(), [0; 16 * 1024]);
        while begin.elapsed() < Duration::from_secs(13) {
            stream.read_exact(&mut part)?;
            std::thread::sleep(Duration::from_millis(20));
        }
        self.says(&xname(8), "root-slow")
    }

    fn unknown_address(&self) -> Result<()> {
        self.get(77, 8081, "/cloud-init/meta-data", usize::MAX)?;
        self.says("172.16.0.77", "unknown-address")
    }

    fn phone_home_missing(&self) -> Result<()> {
        self.to_documents(10)?;
        self.says(&xname(10), "phone-home-missing")
    }

    fn relay_without_route(&self) -> Result<()> {
        let giaddr = Ipv4Addr::new(10, 9, 0, 1);
        let socket = self.client.udp_socket()?;
        for _ in 0..4 {
            let mut packet = message(DISCOVER, xid(), mac(11), &[]);
            packet[24..28].copy_from_slice(&giaddr.octets());
            socket.send_to(&packet, (SERVER, 67))?;
            std::thread::sleep(Duration::from_millis(700));
        }
        self.says(&xname(11), "relay-without-route")
    }

    fn foreign_server(&self) -> Result<()> {
        let offer = self.dhcp.discover(mac(12), TIME)?;
        let mut options = vec![50, 4];
        options.extend(offer.yiaddr.octets());
        options.extend([54, 4, 172, 16, 0, 66]);
        self.dhcp.send(&message(REQUEST, xid(), mac(12), &options))?;
        self.says(&xname(12), "foreign-dhcp-server")
    }

    /// With the only node that does all that is expected of it.
    fn whole_boot(&self) -> Result<()> {
        self.to_documents(1)?;
        let path = "/cloud-init/phone-home/1";
        let body = "instance_id=1";
        let request = format!(
            "POST {path} HTTP/1.0\r\nHost: {SERVER}:8081\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = self.connect(1, 8081)?;
        stream.write_all(request.as_bytes())?;
        stream.read_to_end(&mut Vec::new())?;
        let attempt = eventually(TIME, "it is booted", || {
            let view = self.bootd.ask_json(&["boots", &xname(1)]).ok()?;
            let attempt = view["attempts"].as_array()?.last()?.clone();
            (attempt["state"] == "booted").then_some(attempt)
        })?;
        let steps = attempt["steps"].as_array().context("no steps")?;
        let stages: Vec<&str> = steps.iter().filter_map(|step| step["stage"].as_str()).collect();
        ensure!(stages == BOOT_STAGES, "{attempt:#}");
        Ok(())
    }

    fn to_documents(&self, node: u8) -> Result<()> {
        self.to_system(node)?;
        self.get(node, 9000, "/images/root", usize::MAX)?;
        for document in ["meta-data", "user-data", "vendor-data", "compute.yaml"] {
            let (status, _) = self.get(node, 8081, &format!("/cloud-init/{document}"), usize::MAX)?;
            ensure!(status == 200, "{document}: {status}");
        }
        Ok(())
    }

    fn to_system(&self, node: u8) -> Result<()> {
        self.to_kernel(node)?;
        self.get(node, 9000, "/images/initrd", usize::MAX)?;
        self.exchange(node, &LINUX)
    }

    fn to_kernel(&self, node: u8) -> Result<()> {
        self.ipxe(node)?;
        ensure!(self.get(node, 8081, &script(node), usize::MAX)?.0 == 200);
        self.get(node, 9000, "/images/vmlinuz", usize::MAX)?;
        Ok(())
    }

    fn ipxe(&self, node: u8) -> Result<()> {
        self.exchange(node, &PC)?;
        self.client.tftp("ipxe-x86_64.efi")?;
        self.exchange(node, &IPXE)
    }

    /// DISCOVER, OFFER, REQUEST, ACK with these options; the client has the address then.
    fn exchange(&self, node: u8, options: &[u8]) -> Result<()> {
        let offer = self.packet(DISCOVER, node, options, &[])?;
        ensure!(offer.kind == OFFER && offer.yiaddr == ip(node), "{offer:?}");
        let mut request = vec![50, 4];
        request.extend(offer.yiaddr.octets());
        request.extend([54, 4]);
        request.extend(SERVER.octets());
        let ack = self.packet(REQUEST, node, options, &request)?;
        ensure!(ack.kind == ACK, "{ack:?}");
        // It has one address at a time, so that TFTP leaves from it.
        self.client.ip("addr flush dev cable0")?;
        self.client.ip(&format!("addr add {}/24 dev cable0", ip(node)))
    }

    fn packet(&self, kind: u8, node: u8, options: &[u8], more: &[u8]) -> Result<Reply> {
        let xid = xid();
        let mut packet = bootd_tests::wire::header(xid, mac(node));
        packet.extend([99, 130, 83, 99, 53, 1, kind]);
        packet.extend([options, more, &[255]].concat());
        packet.resize(packet.len().max(300), 0);
        self.dhcp.send(&packet)?;
        self.dhcp.receive(xid, TIME)
    }

    fn connect(&self, node: u8, port: u16) -> Result<std::net::TcpStream> {
        self.client.ip("addr flush dev cable0")?;
        self.client.ip(&format!("addr add {}/24 dev cable0", ip(node)))?;
        self.client.at(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            // Little is on the way, so that who reads slowly is seen to.
            socket.set_recv_buffer_size(32 * 1024)?;
            socket.bind(&SocketAddr::new(IpAddr::V4(ip(node)), 0).into())?;
            socket.connect_timeout(&SocketAddr::from((SERVER, port)).into(), TIME)?;
            Ok(std::net::TcpStream::from(socket))
        })
    }

    fn ask(&self, node: u8, port: u16, path: &str) -> Result<std::net::TcpStream> {
        let mut stream = self.connect(node, port)?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {SERVER}:{port}\r\n\r\n").as_bytes())?;
        Ok(stream)
    }

    /// The status, and how much of the answer was read, at most so much.
    fn get(&self, node: u8, port: u16, path: &str, most: usize) -> Result<(u16, usize)> {
        let mut stream = self.ask(node, port, path)?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        let status = std::str::from_utf8(&head[9..])?.parse()?;
        let (mut count, mut part) = (0, [0; 64 * 1024]);
        while count < most {
            match stream.read(&mut part)? {
                0 => break,
                read => count += read,
            }
        }
        Ok((status, count))
    }
}

/// Twelve nodes, of which one has no boot parameters and one a kernel that is not there; a configuration without a pool.
fn write(rack: &Rack) -> Result<()> {
    let mut nodes = "nodes:\n".to_owned();
    for node in 1..=12 {
        let address = match node {
            11 => "10.9.0.11".into(),
            node => ip(node).to_string(),
        };
        nodes += &format!(
            "- name: compute{node}\n  nid: {node}\n  xname: {}\n  bmc_mac: de:ca:fc:0f:fe:{node:02x}\n  bmc_ip: 172.16.0.{}\n  group: compute\n  interfaces:\n  \
             - mac_addr: 52:54:00:be:ef:{node:02x}\n    ip_addrs:\n    - name: management\n      ip_addr: {address}\n",
            xname(node),
            100 + node
        );
    }
    rack.write("nodes.yaml", &nodes)?;
    let parameters = |kernel: &str, nodes: &[u8]| {
        let macs: String = nodes
            .iter()
            .map(|node| format!("  - 52:54:00:be:ef:{node:02x}\n"))
            .collect();
        let images = "http://172.16.0.254:9000/images";
        format!(
            "kernel: '{images}/{kernel}'\ninitrd: '{images}/initrd'\n\
             params: 'root=live:{images}/root ip=dhcp ds=nocloud-net;s=http://172.16.0.254:8081/cloud-init/'\nmacs:\n{macs}"
        )
    };
    rack.write(
        "boot-compute.yaml",
        &parameters("vmlinuz", &[1, 2, 3, 6, 7, 8, 10, 11, 12]),
    )?;
    rack.write("boot-none.yaml", &parameters("none", &[5]))?;
    let group = bootd_tests::data::GROUP.trim_end();
    let phone_home = "\n      phone_home:\n        url: http://172.16.0.254:8081/cloud-init/phone-home/{{ ds.meta_data.instance_data.v1.instance_id }}\n";
    rack.write("ci-group-compute.yaml", &format!("{group}{phone_home}"))?;

    let bucket = rack.path("images");
    fs::create_dir(&bucket)?;
    for (name, size) in [("vmlinuz", 1 << 20), ("initrd", 32 << 20), ("root", 48 << 20)] {
        File::create(bucket.join(name))?.set_len(size)?;
    }
    let config = rack.config();
    let config: Vec<&str> = config.lines().filter(|line| !line.starts_with("pool = ")).collect();
    let dir = rack.dir.display();
    let config = config.join("\n").replace(
        "boot-compute.yaml\"]",
        &format!("boot-compute.yaml\", \"{dir}/boot-none.yaml\"]"),
    );
    let more = format!(
        "\n[[dhcp.subnet]]\ncidr = \"10.9.0.0/24\"\nrouters = [\"10.9.0.1\"]\nserver = \"172.16.0.254\"\n\
         [[origin]]\nbucket = \"images\"\ndir = \"{}\"\nfrom = [\"http://172.16.0.254:9000/\"]\n\
         [boots.deadlines]\nfirmware-dhcp = \"2s\"\nroot = \"2s\"\nphone-home = \"2s\"\n\
         [tftp.loaders]\narm64-efi = \"/usr/lib/ipxe/ipxe.efi\"\n",
        bucket.display()
    );
    rack.write("bootd.toml", &format!("{config}{more}"))?;
    Ok(())
}

fn xname(node: u8) -> String {
    format!("x1000c0s0b{}n0", node - 1)
}

fn mac(node: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 0xbe, 0xef, node]
}

fn ip(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 16, 0, node)
}

fn script(node: u8) -> String {
    format!("/boot/v1/bootscript?mac=52:54:00:be:ef:{node:02x}")
}

/// Options 93 and 60 of firmware; option 77 of iPXE; what Linux sends.
const PC: [u8; 15] = *b"\x5d\x02\0\x07\x3c\x09PXEClient";
const ARM: [u8; 15] = *b"\x5d\x02\0\x0b\x3c\x09PXEClient";
const IPXE: [u8; 10] = *b"\x5d\x02\0\x07\x4d\x04iPXE";
const LINUX: [u8; 6] = *b"\x37\x04\x01\x03\x06\x0c";
const TIME: Duration = Duration::from_secs(20);
