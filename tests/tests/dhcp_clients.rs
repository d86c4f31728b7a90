//! The DHCP clients that machines really have, and their firmware: each takes what it should, and lives with it.
//!
//! Every client runs on a machine of its own at the rack's bridge. Its hook writes each turn of its life to a file, which is what the tests
//! look at: `bound 172.16.0.1 3600 nid0001`.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bootd_tests::journal::How;
use bootd_tests::namespace::in_rack;
use bootd_tests::process::{Child, run};
use bootd_tests::wire::{ACK, Client, DISCOVER, OFFER, REQUEST};
use bootd_tests::{Bootd, Event, Firmware, Machine, NODE_9, Node, Rack, Stage, eventually, network, tail, wire};

const PATIENCE: Duration = Duration::from_secs(20);
const FIRMWARE_LIMIT: Duration = Duration::from_secs(120);

#[test]
fn udhcpc_takes_a_nodes_address_renews_it_and_gives_it_back() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let station = Station::plug(&rack, "a", 1)?;
        let udhcpc = station.udhcpc()?;
        station.saw("bound 172.16.0.1 3600 nid0001", PATIENCE)?;
        signal(&udhcpc, "USR1")?;
        station.saw("renew 172.16.0.1 3600 nid0001", PATIENCE)?;
        let from = rack.journal.len();
        signal(&udhcpc, "USR2")?;
        station.saw("deconfig", PATIENCE)?;
        eventually(PATIENCE, "bootd counts the release", || {
            bootd.metrics().ok().filter(|text| counted(text, "release_of_node"))
        })?;
        ensure!(
            address(&rack, from, 1).is_none(),
            "a RELEASE is acknowledged: {:?}",
            address(&rack, from, 1)
        );
        bootd.must_run()
    });
}

#[test]
fn udhcpc_takes_a_strangers_lease_and_gives_it_back_for_somebody_else() {
    in_rack(|| {
        let rack = rack_with("172.16.0.200", "5m")?;
        let mut bootd = rack.start_bootd()?;
        let first = Station::plug(&rack, "a", 0x71)?;
        let second = Station::plug(&rack, "b", 0x72)?;
        let udhcpc = first.udhcpc()?;
        first.saw("bound 172.16.0.200 300", PATIENCE)?;
        let other = second.udhcpc()?;
        second.saw("leasefail", PATIENCE)?;
        signal(&udhcpc, "USR2")?;
        second.saw("bound 172.16.0.200 300", PATIENCE)?;
        drop(other);
        bootd.must_run()
    });
}

#[test]
fn dhclient_takes_a_nodes_address_and_its_name() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let station = Station::plug(&rack, "a", 2)?;
        let _dhclient = station.dhclient()?;
        station.saw("BOUND 172.16.0.2 3600 nid0002", PATIENCE)?;
        bootd.must_run()
    });
}

#[test]
fn dhclient_renews_a_short_lease_and_rebinds_it_when_its_server_cannot_be_reached() {
    in_rack(|| {
        let rack = rack_with("172.16.0.201", "20s")?;
        // The address by which leases name their server is one that the box can lose.
        network::ip("addr add 172.16.0.253/24 dev br0")?;
        let config = fs::read_to_string(rack.path("bootd.toml"))?;
        let with = config.replace(
            "cidr = \"172.16.0.0/24\"\n",
            "cidr = \"172.16.0.0/24\"\nserver = \"172.16.0.253\"\n",
        );
        rack.write("bootd.toml", &with)?;
        let mut bootd = rack.start_bootd()?;
        let station = Station::plug(&rack, "a", 0x71)?;
        let _dhclient = station.dhclient()?;
        station.saw("BOUND 172.16.0.200 20", PATIENCE)?;
        station.saw("RENEW 172.16.0.200 20", PATIENCE)?;
        network::ip("addr del 172.16.0.253/24 dev br0")?;
        // Its hook calls that a renewal, too; what it says tells whom it asked.
        let before = station.said().len();
        let asked = "DHCPREQUEST for 172.16.0.200 on a0 to 255.255.255.255 port 67\nDHCPACK of 172.16.0.200";
        eventually(
            Duration::from_secs(40),
            "dhclient asks everybody, and is answered",
            || station.said().get(before..)?.contains(asked).then_some(()),
        )
        .with_context(|| station.said())?;
        let events = fs::read_to_string(station.path("events"))?;
        ensure!(!events.contains("EXPIRE"), "it lost its lease:\n{events}");
        bootd.must_run()
    });
}

#[test]
fn a_lease_that_nobody_renews_ends_and_is_somebody_elses_then() {
    in_rack(|| {
        let rack = rack_with("172.16.0.200", "15s")?;
        let mut bootd = rack.start_bootd()?;
        let first = Station::plug(&rack, "a", 0x71)?;
        let second = Station::plug(&rack, "b", 0x72)?;
        let dhclient = first.dhclient()?;
        first.saw("BOUND 172.16.0.200 15", PATIENCE)?;
        // Its cable is pulled: it lives on, and loses its address by itself.
        network::ip("link set a-br down")?;
        let _udhcpc = second.udhcpc()?;
        second.saw("leasefail", PATIENCE)?;
        second.saw("bound 172.16.0.200 15", Duration::from_secs(40))?;
        first.saw("EXPIRE", Duration::from_secs(40))?;
        // Back on the network, it is told that there is nothing for it.
        network::ip("link set a-br up")?;
        drop(dhclient);
        bootd.must_run()
    });
}

#[test]
fn a_stranger_that_became_a_node_leaves_its_lease_for_its_own_address() {
    in_rack(|| {
        let rack = rack_with("172.16.0.201", "20s")?;
        let mut bootd = rack.start_bootd()?;
        let station = Station::plug(&rack, "a", 9)?;
        let _dhclient = station.dhclient()?;
        station.saw("BOUND 172.16.0.200 20", PATIENCE)?;
        rack.write(
            "nodes.yaml",
            &format!("{}\n{NODE_9}", bootd_tests::data::NODES.trim_end()),
        )?;
        station.saw("BOUND 172.16.0.9 3600 nid0009", Duration::from_secs(60))?;
        bootd.must_run()
    });
}

#[test]
fn dhcpcd_takes_a_nodes_address_and_a_strangers_lease() {
    in_rack(|| {
        let rack = Rack::new()?;
        // Its user would be one that does not exist in the rack's user namespace; without one it runs as it is.
        let users = fs::read_to_string("/etc/passwd").context("users")?;
        let kept: Vec<&str> = users.lines().filter(|line| !line.starts_with("dhcpcd:")).collect();
        let passwd = rack.write("passwd", &format!("{}\n", kept.join("\n")))?;
        run("mount", &["--bind", &passwd.display().to_string(), "/etc/passwd"])?;
        run("mount", &["-t", "tmpfs", "tmpfs", "/run"])?;
        run("mount", &["-t", "tmpfs", "tmpfs", "/var/lib/dhcpcd"])?;
        fs::create_dir("/run/dhcpcd").context("dhcpcd's folder")?;
        let mut bootd = rack.start_bootd()?;
        let node = Station::plug(&rack, "a", 3)?;
        let stranger = Station::plug(&rack, "b", 0x73)?;
        let _one = node.dhcpcd()?;
        node.saw("BOUND 172.16.0.3 3600 nid0003", PATIENCE)?;
        let _two = stranger.dhcpcd()?;
        stranger.saw("BOUND 172.16.0.200 300", PATIENCE)?;
        bootd.must_run()
    });
}

#[test]
fn a_client_that_finds_its_address_in_use_ends_with_another_one() {
    in_rack(|| {
        let rack = rack_with("172.16.0.201", "5m")?;
        let mut bootd = rack.start_bootd()?;
        let squatter = Machine::plug(&rack.network, "s")?;
        squatter.ip("addr add 172.16.0.200/24 dev s0")?;
        let station = Station::plug(&rack, "a", 0x71)?;
        let _udhcpc = station.udhcpc()?;
        station.saw("bound 172.16.0.201 300", Duration::from_secs(40))?;
        bootd.must_run()
    });
}

#[test]
fn dhcping_gets_its_answer() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let client = Client::plug(&rack)?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        for mac in ["52:54:00:be:ef:01", "00:00:00:00:00:00"] {
            let said = client.at(|| {
                run(
                    "dhcping",
                    &["-v", "-t", "5", "-c", "172.16.0.1", "-s", "172.16.0.254", "-h", mac],
                )
            });
            said.with_context(|| format!("dhcping as {mac}"))?;
        }
        bootd.must_run()
    });
}

#[test]
fn uefi_boots_by_pxe() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let node = rack.power_on_with(Firmware::Uefi, 1)?;
        acknowledged(&rack, &node, Stage::Firmware)?;
        fetched(&rack, &node, How::Tftp, "ipxe-x86_64.efi")?;
        acknowledged(&rack, &node, Stage::Ipxe)?;
        fetched(&rack, &node, How::Http, "/boot/v1/bootscript")?;
        bootd.must_run()
    });
}

#[test]
fn uefi_boots_by_http() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let node = rack.power_on_with(Firmware::UefiByHttp, 2)?;
        acknowledged(&rack, &node, Stage::Firmware)?;
        fetched(&rack, &node, How::Http, "/loaders/ipxe-x86_64.efi")?;
        acknowledged(&rack, &node, Stage::Ipxe)?;
        fetched(&rack, &node, How::Http, "/boot/v1/bootscript")?;
        bootd.must_run()
    });
}

#[test]
fn a_bios_with_ipxe_in_its_rom_begins_with_the_boot_script() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let node = rack.power_on_with(Firmware::Bios, 3)?;
        acknowledged(&rack, &node, Stage::Ipxe)?;
        fetched(&rack, &node, How::Http, "/boot/v1/bootscript")?;
        bootd.must_run()
    });
}

#[test]
fn a_bios_without_ipxe_is_led_to_undionly() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let client = Client::plug(&rack)?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        let socket = client.dhcp_socket()?;
        for (kind, gets) in [(DISCOVER, OFFER), (REQUEST, ACK)] {
            let xid = wire::xid();
            let mut message = wire::message(kind, xid, [0x52, 0x54, 0, 0xbe, 0xef, 1], &[]);
            // The architecture is the second option; a PC's BIOS is 0.
            ensure!(message[243..247] == [93, 2, 0, 7], "{:?}", &message[240..250]);
            message[246] = 0;
            socket.send(&message)?;
            let reply = socket.receive(xid, PATIENCE)?;
            ensure!(
                reply.kind == gets && reply.option(67) == Some(b"undionly.kpxe"),
                "{reply:?}"
            );
        }
        let loader = client.tftp("undionly.kpxe")?;
        ensure!(loader.len() > 50_000, "a loader of {} bytes", loader.len());
        bootd.must_run()
    });
}

#[test]
fn two_bootds_on_one_segment_give_a_known_node_the_same_address() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let box_two = Machine::plug(&rack.network, "two")?;
        box_two.ip("addr add 172.16.0.253/24 dev two0")?;
        let dir = rack.path("two");
        fs::create_dir(&dir).context("the second box's folder")?;
        let config = rack
            .config()
            .replace(
                &format!("{}/state", rack.dir.display()),
                &dir.join("state").display().to_string(),
            )
            .replace(
                &format!("{}/cache", rack.dir.display()),
                &dir.join("cache").display().to_string(),
            )
            .replace("/admin.sock", "/two/admin.sock")
            .replace("\"br0\"", "\"two0\"")
            .replace("172.16.0.254", "172.16.0.253")
            .replace(
                "first = \"172.16.0.200\", last = \"172.16.0.250\"",
                "first = \"172.16.0.100\", last = \"172.16.0.109\"",
            );
        fs::write(dir.join("bootd.toml"), config)?;
        let mut second = Bootd::start_on(&box_two, &dir, &rack.journal)?;

        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        for (last, mac) in (1..=5).map(|n| (n, [0x52, 0x54, 0, 0xbe, 0xef, n])) {
            let xid = wire::xid();
            socket.send(&wire::message(DISCOVER, xid, mac, &[]))?;
            let mut servers = Vec::new();
            for _ in 0..2 {
                let reply = socket.receive(xid, PATIENCE)?;
                ensure!(
                    reply.yiaddr.octets() == [172, 16, 0, last],
                    "{} is offered",
                    reply.yiaddr
                );
                servers.push(reply.option(54).map(<[u8]>::to_vec));
            }
            servers.sort();
            ensure!(
                servers == [Some(vec![172, 16, 0, 253]), Some(vec![172, 16, 0, 254])],
                "{servers:?}"
            );
            // The one that is chosen acknowledges; the other one keeps silent.
            let taken = wire::xid();
            let options = [&[50, 4, 172, 16, 0, last][..], &[54, 4, 172, 16, 0, 253]].concat();
            socket.send(&wire::message(REQUEST, taken, mac, &options))?;
            let reply = socket.receive(taken, PATIENCE)?;
            ensure!(
                reply.kind == ACK && reply.option(54) == Some(&[172, 16, 0, 253]),
                "{reply:?}"
            );
            ensure!(
                socket.receive(taken, Duration::from_millis(300)).is_err(),
                "both acknowledge"
            );
        }
        // A client of its own life does not care which of them answers.
        let station = Station::plug(&rack, "a", 4)?;
        let udhcpc = station.udhcpc()?;
        station.saw("bound 172.16.0.4 3600 nid0004", PATIENCE)?;
        bootd.kill_minus_nine();
        signal(&udhcpc, "USR1")?;
        drop(udhcpc);
        let udhcpc = station.udhcpc()?;
        station.saw("bound 172.16.0.4 3600 nid0004", PATIENCE)?;
        drop(udhcpc);
        second.must_run()
    });
}

/// A machine with one network interface, on which a DHCP client runs.
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

    fn udhcpc(&self) -> Result<Child> {
        let hook = self.path("hook");
        self.start(
            "udhcpc",
            &[
                "-f",
                "-a500",
                "-t",
                "2",
                "-T",
                "1",
                "-A",
                "2",
                "-i",
                &self.interface,
                "-s",
                &hook,
            ],
        )
    }

    fn dhclient(&self) -> Result<Child> {
        let [hook, leases, pid, conf] = ["hook", "leases", "pid", "dhclient.conf"].map(|name| self.path(name));
        self.start(
            "dhclient",
            &[
                "-4",
                "-d",
                "-sf",
                &hook,
                "-lf",
                &leases,
                "-pf",
                &pid,
                "-cf",
                &conf,
                &self.interface,
            ],
        )
    }

    fn dhcpcd(&self) -> Result<Child> {
        self.start(
            "dhcpcd",
            &["-4", "-B", "-f", "/dev/null", "-c", &self.path("hook"), &self.interface],
        )
    }

    fn start(&self, program: &str, args: &[&str]) -> Result<Child> {
        let said = fs::File::create(self.path("said"))?;
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
                "--- events ---\n{}\n--- the client ---\n{}",
                tail(&self.dir.join("events"), 20),
                tail(&self.dir.join("said"), 20)
            )
        })?;
        Ok(fs::write(seen, found)?)
    }

    /// What the client itself says.
    fn said(&self) -> String {
        fs::read_to_string(self.path("said")).unwrap_or_default()
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

/// A rack whose pool goes from 172.16.0.200 to here, with this lease time.
fn rack_with(last: &str, lease_time: &str) -> Result<Rack> {
    let rack = Rack::new()?;
    let pool = "last = \"172.16.0.250\", lease_time = \"5m\"";
    let config = rack.config();
    ensure!(config.contains(pool), "no pool in the rack's configuration:\n{config}");
    let config = config.replace(pool, &format!("last = \"{last}\", lease_time = \"{lease_time}\""));
    rack.write("bootd.toml", &config)?;
    Ok(rack)
}

/// Waits until a node has its own address at this stage of its boot.
fn acknowledged(rack: &Rack, node: &Node, stage: Stage) -> Result<()> {
    let what = format!("node {} gets its address as {stage:?}", node.number);
    let ip = eventually(FIRMWARE_LIMIT, &what, || {
        rack.journal.find(node.from(), |entry| match &entry.event {
            Event::Address { mac, ip, stage: s } if *mac == node.mac() && *s == stage => Some(*ip),
            _ => None,
        })
    })
    .with_context(|| end(rack, node))?;
    ensure!(ip.octets() == [172, 16, 0, node.number], "{what}: {ip}");
    Ok(())
}

/// Waits until a node was served this.
fn fetched(rack: &Rack, node: &Node, by: How, what: &str) -> Result<()> {
    eventually(FIRMWARE_LIMIT, &format!("node {} fetches {what}", node.number), || {
        rack.journal.find(node.from(), |entry| match &entry.event {
            Event::Served { peer, path, how, .. } if *how == by && path.contains(what) => {
                (peer.octets()[3] == node.number).then_some(())
            }
            _ => None,
        })
    })
    .with_context(|| end(rack, node))
}

fn end(rack: &Rack, node: &Node) -> String {
    format!(
        "--- console ---\n{}\n--- bootd ---\n{}",
        tail(&node.console, 20),
        tail(&rack.path("bootd.log"), 20)
    )
}

/// The address that was acknowledged to a node since a place of the journal.
fn address(rack: &Rack, from: usize, number: u8) -> Option<std::net::Ipv4Addr> {
    rack.journal.find(from, |entry| match &entry.event {
        Event::Address { mac, ip, .. } if *mac == bootd_tests::node::mac(number) => Some(*ip),
        _ => None,
    })
}

/// Whether something with this label was counted.
fn counted(metrics: &str, label: &str) -> bool {
    metrics
        .lines()
        .any(|line| line.contains(label) && !line.ends_with(" 0"))
}

fn signal(child: &Child, name: &str) -> Result<()> {
    run("kill", &[&format!("-{name}"), &child.id().to_string()]).map(|_| ())
}

/// The hook of all clients: udhcpc says what happened in its first argument, the others in `$reason`.
const HOOK: &str = r#"#!/bin/sh
what=${reason:-$1}
address=${new_ip_address:-$ip}
case $what in
bound | BOUND | REBOOT | renew | RENEW | REBIND)
    PATH=$PATH:/usr/sbin:/sbin ip addr replace "$address/24" dev "$interface" ;;
deconfig | EXPIRE | FAIL | RELEASE)
    PATH=$PATH:/usr/sbin:/sbin ip addr flush dev "$interface" ;;
esac
echo "$what $address ${lease:-$new_dhcp_lease_time} ${hostname:-$new_host_name}" >>EVENTS
"#;

/// Impatient.
const DHCLIENT: &str = "timeout 10; retry 2; reboot 2; select-timeout 0; initial-interval 1; backoff-cutoff 2;\n\
    request subnet-mask, routers, domain-name-servers, host-name, dhcp-lease-time;\n";
