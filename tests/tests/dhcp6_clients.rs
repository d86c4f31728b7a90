//! DHCPv6 with the clients that machines really have, and their firmware; sockets, threads and router solicitations.
//!
//! Every client runs on a machine of its own at the rack's bridge. Its hook writes each turn of its life to a file, which is what the tests
//! look at: `BOUND6 fd00::1`.

use std::fs;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::network::ip;
use bootd_tests::process::{Child, run};
use bootd_tests::wire6::{self, ADVERTISE, Dhcp6Socket, REPLY, REQUEST, SERVERS, SOLICIT};
use bootd_tests::{Firmware, Machine, Node, Rack, data, eventually, eventually_true, tail};

const PATIENCE: Duration = Duration::from_secs(20);
const FIRMWARE_LIMIT: Duration = Duration::from_secs(120);
const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xfe);
const NODE_1: [u8; 6] = [0x52, 0x54, 0, 0xbe, 0xef, 1];

#[test]
fn dhclient_takes_a_nodes_address_renews_it_rebinds_it_and_gives_it_back() {
    in_rack(|| {
        let rack = rack("lease_time = \"40s\"\n", "")?;
        let mut bootd = rack.start_bootd()?;
        let station = Station::plug(&rack, "a", 1)?;
        let dhclient = station.dhclient(&[])?;
        station.saw("BOUND6 fd00::1", PATIENCE)?;
        station.saw("RENEW6 fd00::1", Duration::from_secs(40))?;
        // Another server takes over, whose DUID it does not know: it asks everybody.
        bootd.stop(PATIENCE)?;
        fs::remove_dir_all(rack.path("state"))?;
        bootd.start_again()?;
        station.saw("REBIND6 fd00::1", Duration::from_secs(60))?;
        drop(dhclient);
        let _release = station.dhclient(&["-r"])?;
        eventually_true(PATIENCE, "bootd answers the release", || {
            fs::read_to_string(bootd.log()).is_ok_and(|log| log.contains("\"status\":\"Success\""))
        })?;
        bootd.must_run()
    });
}

#[test]
fn dhcpcd_takes_a_nodes_address_renews_it_and_gives_it_back() {
    in_rack(|| {
        let rack = rack("lease_time = \"20s\"\n", "")?;
        // Its user would be one that does not exist in the rack's user namespace; without one it runs as it is.
        let users = fs::read_to_string("/etc/passwd").context("users")?;
        let kept: Vec<&str> = users.lines().filter(|line| !line.starts_with("dhcpcd:")).collect();
        let passwd = rack.write("passwd", &format!("{}\n", kept.join("\n")))?;
        run("mount", &["--bind", &passwd.display().to_string(), "/etc/passwd"])?;
        run("mount", &["-t", "tmpfs", "tmpfs", "/run"])?;
        run("mount", &["-t", "tmpfs", "tmpfs", "/var/lib/dhcpcd"])?;
        fs::create_dir("/run/dhcpcd").context("dhcpcd's folder")?;
        let mut bootd = rack.start_bootd()?;
        let station = Station::plug(&rack, "a", 2)?;
        let dhcpcd = station.dhcpcd()?;
        station.saw("BOUND6 fd00::2", PATIENCE)?;
        station.saw("RENEW6 fd00::2", Duration::from_secs(40))?;
        run("kill", &["-ALRM", &dhcpcd.id().to_string()])?;
        eventually_true(PATIENCE, "bootd answers the release", || {
            fs::read_to_string(bootd.log()).is_ok_and(|log| log.contains("\"status\":\"Success\""))
        })?;
        bootd.must_run()
    });
}

#[test]
fn a_solicit_to_the_group_has_one_answer_however_many_threads_there_are_and_relays_are_spread() {
    in_rack(|| {
        let rack = rack("", "threads = 4\n")?;
        let mut bootd = rack.start_bootd()?;
        let station = Station::plug(&rack, "a", 1)?;
        let socket = station.socket(546)?;
        for _ in 0..20 {
            let xid = wire6::xid();
            socket.send(&wire6::message(SOLICIT, xid, NODE_1, &[]), SERVERS)?;
            let reply = socket.receive(xid, PATIENCE)?;
            ensure!(reply.kind == ADVERTISE, "{reply:?}");
            ensure!(reply.address() == Some((node(1), 3600)), "{reply:?}");
            ensure!(
                socket.receive(xid, Duration::from_millis(100)).is_err(),
                "a multicast has two answers"
            );
        }
        // A relay with an address of its own gets its answers at the port that it speaks from.
        station.machine.ip("addr add fd00::77/64 dev a0 nodad")?;
        for number in 1..=5 {
            let socket = station.socket(5000 + u16::from(number))?;
            let mac = [0x52, 0x54, 0, 0xbe, 0xef, number];
            let xid = wire6::xid();
            let message = wire6::message(SOLICIT, xid, mac, &[]);
            let packet = wire6::relayed(&message, SERVER6, wire6::link_local(mac));
            socket.send(&packet, SERVER6)?;
            let reply = socket.receive(xid, PATIENCE)?;
            ensure!(reply.address() == Some((node(number), 3600)), "{reply:?}");
        }
        bootd.must_run()
    });
}

#[test]
fn an_identity_survives_a_restart_and_an_address_comes_with_its_interface() {
    in_rack(|| {
        let rack = rack("interfaces = [\"cable*\"]\n", "")?;
        let mut bootd = rack.start_bootd()?;
        let status = bootd.ask_json(&["status"])?;
        let told = status["dhcp"].to_string();
        ensure!(told.contains("DHCP on br0: IPv4") && !told.contains("IPv6"), "{told}");
        let machine = Machine::plug(&rack.network, "cable")?;
        ip("link set cable-br nomaster")?;
        machine.ip("link set cable0 address 52:54:00:be:ef:01")?;
        let socket = settled(&machine, "cable0", NODE_1)?;
        let ask = |kind, more: &[u8]| -> Result<wire6::Reply6> {
            let xid = wire6::xid();
            socket.send(&wire6::message(kind, xid, NODE_1, more), SERVERS)?;
            socket.receive(xid, Duration::from_millis(500))
        };
        eventually_true(PATIENCE, "DHCPv6 comes to the interface", || {
            let status = bootd.ask_json(&["status"]).unwrap_or_default();
            status["dhcp"].to_string().contains("DHCP on cable-br: IPv6")
        })?;
        // It takes two seconds until the addresses of a link that comes are nobody else's.
        let first = eventually(PATIENCE, "an ADVERTISE", || ask(SOLICIT, &[]).ok())?;
        ensure!(first.address() == Some((node(1), 3600)), "{first:?}");
        let id = first.option(2).context("no identity")?.to_vec();
        bootd.stop(PATIENCE)?;
        bootd.start_again()?;
        let taken = eventually(PATIENCE, "a REPLY after the restart", || {
            ask(REQUEST, &wire6::option(2, &id)).ok()
        })?;
        ensure!(taken.kind == REPLY && taken.option(2) == Some(&id), "{taken:?}");
        bootd.must_run()
    });
}

#[test]
fn uefi_boots_by_pxe_over_ipv6_on_a_wire_without_a_router() {
    in_rack(|| {
        let rack = rack("", "")?;
        let mut bootd = rack.start_bootd()?;
        let node = rack.power_on_with(Firmware::Uefi6, 1)?;
        offered(&rack, &node, "firmware", "tftp://[fd00::fe]/ipxe-x86_64.efi")?;
        fetched(&rack, &node, "tftp read", "ipxe-x86_64.efi")?;
        bootd.must_run()
    });
}

#[test]
fn uefi_boots_by_http_over_ipv6_where_there_is_no_ipv4() {
    in_rack(|| {
        let rack = rack("", "")?;
        let config = fs::read_to_string(rack.path("bootd.toml"))?;
        let subnet = config.lines().skip_while(|line| *line != "[[dhcp.subnet]]").take(4);
        let subnet: Vec<&str> = subnet.collect();
        rack.write("bootd.toml", &config.replace(&subnet.join("\n"), ""))?;
        let mut bootd = rack.start_bootd()?;
        let node = rack.power_on_with(Firmware::UefiByHttp6, 2)?;
        offered(
            &rack,
            &node,
            "firmware",
            "http://[fd00::fe]:8081/loaders/ipxe-x86_64.efi",
        )?;
        fetched(&rack, &node, "http request", "/loaders/ipxe-x86_64.efi")?;
        let script = format!("http://[fd00::fe]:8081/boot/v1/bootscript?mac={}", node.mac());
        offered(&rack, &node, "ipxe", &script)?;
        fetched(&rack, &node, "http request", "/boot/v1/bootscript")?;
        bootd.must_run()
    });
}

/// Waits until DHCPv6 tells a node this boot file.
fn offered(rack: &Rack, node: &Node, stage: &str, file: &str) -> Result<()> {
    let what = format!("DHCPv6 tells node {} of {file}", node.number);
    eventually(FIRMWARE_LIMIT, &what, || {
        rack.journal.log(node.from(), "dhcp6 reply", |fields| {
            fields["kind"] == "reply" && fields["stage"] == stage && fields["file"] == file
        })
    })
    .with_context(|| end(rack, node))
    .map(drop)
}

/// Waits until a node was served this at its IPv6 address.
fn fetched(rack: &Rack, node: &Node, message: &str, what: &str) -> Result<()> {
    let own = self::node(node.number).to_string();
    eventually(FIRMWARE_LIMIT, &format!("node {} fetches {what}", node.number), || {
        rack.journal.log(node.from(), message, |fields| {
            fields["peer"].as_str().is_some_and(|peer| peer.contains(&own)) && fields.to_string().contains(what)
        })
    })
    .with_context(|| end(rack, node))
    .map(drop)
}

fn end(rack: &Rack, node: &Node) -> String {
    format!(
        "--- console ---\n{}\n--- bootd ---\n{}",
        tail(&node.console, 20),
        tail(&rack.path("bootd.log"), 30)
    )
}

/// A rack whose nodes have addresses of both families. `keys`: of `[dhcp6]`; `more`: of `[dhcp]`.
fn rack(keys: &str, more: &str) -> Result<Rack> {
    let rack = Rack::new()?;
    ip(&format!("addr add {SERVER6}/64 dev br0 nodad"))?;
    let config = rack
        .config()
        .replace("[dhcp]\n", &format!("[dhcp]\n{more}"))
        .replace("\"0.0.0.0:8081\"", "\"[::]:8081\"");
    rack.write(
        "bootd.toml",
        &format!("{config}\n[dhcp6]\n{keys}[[dhcp6.subnet]]\nprefix = \"fd00::/64\"\ndns = [\"{SERVER6}\"]\n"),
    )?;
    rack.write("nodes.yaml", &nodes())?;
    Ok(rack)
}

/// The seed's nodes, each with fd00::<its number> beside its address.
fn nodes() -> String {
    let mut text = String::new();
    for line in data::NODES.lines() {
        text.push_str(line);
        text.push('\n');
        let own = line.trim().strip_prefix("ip_addr: 172.16.0.");
        if let Some(number) = own.and_then(|number| number.parse::<u8>().ok()) {
            let indent = " ".repeat(line.len() - line.trim_start().len() - 2);
            text.push_str(&format!(
                "{indent}- name: management6\n{indent}  ip_addr: fd00::{number}\n"
            ));
        }
    }
    text
}

fn node(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into())
}

/// A socket of a machine whose address of the link is settled.
fn settled(machine: &Machine, interface: &str, mac: [u8; 6]) -> Result<Dhcp6Socket> {
    // The address was made of the hardware address before.
    machine.ip(&format!("link set {interface} down"))?;
    machine.ip(&format!("link set {interface} up"))?;
    machine.ip(&format!("addr flush dev {interface} scope link"))?;
    machine.ip(&format!("addr add {}/64 dev {interface} nodad", wire6::link_local(mac)))?;
    Dhcp6Socket::open(machine, interface, 546)
}

/// A machine with one network interface, on which a DHCPv6 client runs.
struct Station {
    machine: Machine,
    interface: String,
    dir: PathBuf,
}

impl Station {
    /// The machine at the end of this cable, with the MAC `52:54:00:be:ef:<number>`.
    fn plug(rack: &Rack, cable: &str, number: u8) -> Result<Self> {
        let machine = Machine::plug(&rack.network, cable)?;
        let interface = format!("{cable}0");
        machine.ip(&format!("link set {interface} address 52:54:00:be:ef:{number:02x}"))?;
        let mac = [0x52, 0x54, 0, 0xbe, 0xef, number];
        drop(settled(&machine, &interface, mac)?);
        let dir = rack.path(&format!("station-{cable}"));
        fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        let station = Self {
            machine,
            interface,
            dir,
        };
        let hook = HOOK.replace("EVENTS", &station.path("events"));
        fs::write(station.path("hook"), hook)?;
        run("chmod", &["755", &station.path("hook")])?;
        fs::write(station.path("dhclient.conf"), DHCLIENT)?;
        Ok(station)
    }

    fn socket(&self, port: u16) -> Result<Dhcp6Socket> {
        Dhcp6Socket::open(&self.machine, &self.interface, port)
    }

    fn dhclient(&self, more: &[&str]) -> Result<Child> {
        let [hook, leases, pid, conf] = ["hook", "leases", "pid", "dhclient.conf"].map(|name| self.path(name));
        let usual = [
            "-6", "-d", "-D", "LL", "-sf", &hook, "-lf", &leases, "-pf", &pid, "-cf", &conf,
        ];
        self.start("dhclient", &[&usual, more, &[&self.interface]].concat())
    }

    fn dhcpcd(&self) -> Result<Child> {
        fs::write(self.path("dhcpcd.conf"), DHCPCD)?;
        let (conf, hook) = (self.path("dhcpcd.conf"), self.path("hook"));
        self.start("dhcpcd", &["-6", "-B", "-f", &conf, "-c", &hook, &self.interface])
    }

    fn start(&self, program: &str, args: &[&str]) -> Result<Child> {
        let said = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("said"))?;
        let mut command = self.machine.command(program);
        command.args(args).stdout(Stdio::from(said.try_clone()?)).stderr(said);
        Child::spawn(program, &mut command)
    }

    /// Waits until the client's hook was called so; what was seen once is not seen again.
    fn saw(&self, what: &str, within: Duration) -> Result<()> {
        let seen = self.path("seen");
        let before = fs::read_to_string(&seen).map_or(0, |text| text.len());
        let found = eventually(within, &format!("{}: {what}", self.interface), || {
            let events = fs::read_to_string(self.path("events")).unwrap_or_default();
            let mut end = before;
            events.get(before..)?.split_inclusive('\n').find_map(|line| {
                end += line.len();
                line.starts_with(what).then(|| events[..end].to_owned())
            })
        });
        let found = found.with_context(|| {
            format!(
                "--- events ---\n{}\n--- the client ---\n{}\n--- bootd ---\n{}",
                tail(&self.dir.join("events"), 20),
                tail(&self.dir.join("said"), 40),
                tail(&self.dir.with_file_name("bootd.log"), 20)
            )
        })?;
        Ok(fs::write(seen, found)?)
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

/// The hook of both clients: what happened is in `$reason`.
const HOOK: &str = r#"#!/bin/sh
export PATH=$PATH:/usr/sbin:/sbin
address=${new_ip6_address:-$new_dhcp6_ia_na1_ia_addr1}
case $reason in
BOUND6 | RENEW6 | REBIND6 | REBOOT6)
    ip -6 addr replace "$address/128" dev "$interface" nodad ;;
esac
echo "$reason $address" >>EVENTS
"#;

/// Impatient.
const DHCLIENT: &str = "timeout 10; retry 2; reboot 2; select-timeout 0; initial-interval 1; backoff-cutoff 2;\n\
    also request dhcp6.name-servers, dhcp6.fqdn;\n";

const DHCPCD: &str = "duid ll\nnoipv6rs\nnohook resolv.conf\nia_na 1\nlastleaseextend\n";
