//! Where DHCP listens: on interfaces that come and go, and with several threads, of which a broadcast has one.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::network::ip;
use bootd_tests::server::Bootd;
use bootd_tests::wire::{self, ACK, Client, DISCOVER, DhcpSocket};
use bootd_tests::{Rack, SERVER, eventually_true};

const NODE_1: [u8; 6] = [0x52, 0x54, 0, 0xbe, 0xef, 1];
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_broadcast_has_one_answer_however_many_threads_there_are_and_unicast_is_spread() {
    in_rack(|| {
        let rack = Rack::new()?;
        let config = rack.config().replace("[dhcp]\n", "[dhcp]\nthreads = 4\n");
        rack.write("bootd.toml", &config)?;
        let mut bootd = rack.start_bootd()?;
        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        socket.lease(NODE_1, PATIENCE)?;
        for _ in 0..20 {
            let xid = wire::xid();
            socket.send(&wire::message(DISCOVER, xid, NODE_1, &[]))?;
            socket.receive(xid, PATIENCE)?;
            ensure!(
                socket.receive(xid, Duration::from_millis(100)).is_err(),
                "a broadcast has two answers"
            );
        }

        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        let before = wakings(&bootd)?;
        for number in 0..=u8::MAX {
            // Each from a port of its own, as the kernel spreads by that.
            let packet = wire::message(DISCOVER, wire::xid(), [2, 0, 0, 0, 1, number], &[]);
            client.udp_socket()?.send_to(&packet, (SERVER, 67))?;
        }
        eventually_true(PATIENCE, "three threads are woken by unicast", || {
            let now = wakings(&bootd).unwrap_or_default();
            let woken = now.iter().filter(|(thread, count)| {
                thread.starts_with("dhcp-br0-") && **count > before.get(*thread).unwrap_or(&0) + 16
            });
            woken.count() >= 3
        })?;
        bootd.must_run()
    });
}

#[test]
fn an_interface_that_is_missing_is_told_and_served_when_it_comes_and_comes_again() {
    in_rack(|| {
        let rack = Rack::new()?;
        let config = rack.config().replace("[\"br0\"]", "[\"cable*\", \"eth7\"]");
        rack.write("bootd.toml", &config)?;
        let mut bootd = rack.start_bootd()?;
        ensure!(is_missing(&bootd, "cable*")? && is_missing(&bootd, "eth7")?);
        for _ in 0..2 {
            let client = Client::plug(&rack)?;
            ip("link set cable-br nomaster")?;
            ip("addr add 172.16.0.253/24 dev cable-br")?;
            gets(&client.dhcp_socket()?, 1)?;
            ensure!(!is_missing(&bootd, "cable*")? && is_missing(&bootd, "eth7")?);
            ip("link del cable-br")?;
            eventually_true(PATIENCE, "it is told that the interface went", || {
                is_missing(&bootd, "cable*").unwrap_or(false)
            })?;
        }
        bootd.must_run()
    });
}

#[test]
fn the_interface_with_an_address_is_found_when_it_gets_it() {
    in_rack(|| {
        let rack = Rack::new()?;
        let config = rack.config().replace("[\"br0\"]", "[\"172.16.0.250\"]");
        rack.write(
            "bootd.toml",
            &config.replace("172.16.0.250\", lease", "172.16.0.249\", lease"),
        )?;
        let mut bootd = rack.start_bootd()?;
        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        let xid = wire::xid();
        socket.send(&wire::message(DISCOVER, xid, NODE_1, &[]))?;
        ensure!(socket.receive(xid, Duration::from_secs(1)).is_err());
        ip("addr add 172.16.0.250/24 dev br0")?;
        gets(&socket, 1)?;
        bootd.must_run()
    });
}

fn gets(socket: &DhcpSocket, last: u8) -> Result<()> {
    let reply = socket.lease(NODE_1, PATIENCE)?;
    let expected = (ACK, Ipv4Addr::new(172, 16, 0, last));
    ensure!((reply.kind, reply.yiaddr) == expected, "{reply:?}");
    Ok(())
}

/// Whether `bootd status` says so of an interface.
fn is_missing(bootd: &Bootd, interface: &str) -> Result<bool> {
    let status = bootd.ask_json(&["status"])?;
    let warnings = status["warnings"].as_array().context("no warnings in the status")?;
    let told = format!("interface {interface} is not there");
    Ok(warnings
        .iter()
        .any(|warning| warning.as_str().is_some_and(|text| text.starts_with(&told))))
}

/// How often each thread was woken, by its name.
fn wakings(bootd: &Bootd) -> Result<BTreeMap<String, u64>> {
    let mut all = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{}/task", bootd.id()))?.flatten() {
        let name = fs::read_to_string(task.path().join("comm"))?.trim().to_owned();
        let status = fs::read_to_string(task.path().join("status"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let count = line
            .and_then(|count| count.trim().parse().ok())
            .context("no count of switches")?;
        all.insert(name, count);
    }
    Ok(all)
}
