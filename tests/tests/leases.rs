//! Leases of a running bootd: addresses that somebody uses already, what the operator sees and does, and CoreDHCP's files of leases.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::process::run;
use bootd_tests::wire::Client;
use bootd_tests::{Bootd, Machine, Rack, eventually};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn an_address_that_somebody_uses_is_not_offered_and_is_shown() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let squatter = Machine::plug(&rack.network, "squat")?;
        squatter.ip("addr add 172.16.0.200/24 dev squat0")?;
        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        let lease = socket.lease(mac(0x71), PATIENCE)?;
        ensure!(lease.yiaddr == Ipv4Addr::new(172, 16, 0, 201), "{lease:?}");
        // The client itself has an address and asks again, as a loader after its firmware does: its own answer is none.
        client.ip("addr add 172.16.0.201/24 dev cable0")?;
        let again = socket.lease(mac(0x71), PATIENCE)?;
        ensure!(again.yiaddr == lease.yiaddr, "{again:?}");
        let shown = leases(&bootd)?;
        ensure!(shown.len() == 2, "{shown:?}");
        ensure!(
            shown[0]["state"] == "conflict" && shown[0]["ip"] == "172.16.0.200",
            "{shown:?}"
        );
        ensure!(
            shown[1]["state"] == "leased" && shown[1]["mac"] == "02:00:00:00:00:71",
            "{shown:?}"
        );
        let text = bootd.ask(&["leases"])?;
        let text = String::from_utf8(text.stdout)?;
        ensure!(
            text.contains("172.16.0.200     conflict") && text.contains("2 addresses"),
            "{text}"
        );

        // The other one goes, and the operator says so.
        squatter.ip("addr del 172.16.0.200/24 dev squat0")?;
        let freed = bootd.ask(&["leases", "free", "172.16.0.200"])?;
        ensure!(freed.status.success(), "{freed:?}");
        let nothing = bootd.ask(&["leases", "free", "172.16.0.9"])?;
        ensure!(nothing.status.code() == Some(64), "{nothing:?}");
        let offer = socket.discover(mac(0x72), PATIENCE)?;
        ensure!((200..250).contains(&offer.yiaddr.octets()[3]) && offer.yiaddr != lease.yiaddr);
        bootd.must_run()
    });
}

#[test]
fn leases_of_coredhcp_are_taken_over_and_given_back() {
    in_rack(|| {
        let rack = Rack::new()?;
        let file = rack.path("coredhcp.db");
        let path = file.to_str().context("a path that is text")?;
        let schema = "create table leases4 (mac string not null, ip string not null, expiry int, hostname string not null, \
                      primary key (mac, ip))";
        for statement in [
            schema,
            "insert into leases4 values ('02:00:00:00:00:71', '172.16.0.207', 4000000000, '007')",
            "insert into leases4 values ('', '172.16.0.208', 4000000000, '')",
            "insert into leases4 values ('02:00:00:00:00:73', '10.0.0.1', 4000000000, '')",
        ] {
            run("sqlite3", &[path, statement])?;
        }
        let config = fs::read_to_string(rack.path("bootd.toml"))?;
        rack.write(
            "bootd.toml",
            &format!("{config}\n[compat]\nimport_leases = [{{ file = \"{path}\" }}]\n"),
        )?;
        let mut bootd = rack.start_bootd()?;
        let shown = leases(&bootd)?;
        ensure!(shown.len() == 1 && shown[0]["hostname"] == "7", "{shown:?}");
        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        let known = socket.lease(mac(0x71), PATIENCE)?;
        ensure!(known.yiaddr == Ipv4Addr::new(172, 16, 0, 207), "{known:?}");
        let other = socket.lease(mac(0x72), PATIENCE)?;

        let exported = rack.path("exported.db");
        let exported = exported.to_str().context("a path that is text")?;
        let done = bootd.ask(&["leases", "export", exported])?;
        ensure!(done.status.success(), "{done:?}");
        bootd.stop(PATIENCE)?;
        for file in [exported, path] {
            let rows = run("sqlite3", &[file, "select mac, ip from leases4 order by ip desc"])?;
            let expected = format!("02:00:00:00:00:71|172.16.0.207\n02:00:00:00:00:72|{}\n", other.yiaddr);
            ensure!(rows == expected, "{file}: {rows}");
        }
        // The store has them, whatever becomes of a file that nobody else changed.
        bootd.start_again()?;
        eventually(PATIENCE, "the leases are there again", || {
            leases(&bootd).ok().filter(|shown| shown.len() == 2)
        })?;
        bootd.must_run()
    });
}

#[test]
fn a_lease_that_was_acknowledged_is_there_after_kill_minus_nine() {
    in_rack(|| {
        let rack = Rack::new()?;
        // Nobody lives on this wire who could answer a probe.
        let config = rack.config().replace("[dhcp]\n", "[dhcp]\nprobe = \"0s\"\n");
        rack.write("bootd.toml", &config)?;
        let mut bootd = rack.start_bootd()?;
        let client = Client::plug(&rack)?;
        let mut acknowledged = Vec::new();
        for round in 0..3 {
            let socket = client.dhcp_socket()?;
            for number in 0..15 {
                let mac = mac(0x40 + 15 * round + number);
                acknowledged.push((mac, socket.lease(mac, PATIENCE)?.yiaddr));
            }
            // Right behind the last ACK.
            bootd.kill_minus_nine();
            bootd.start_again()?;
            let shown = leases(&bootd)?;
            for (mac, ip) in &acknowledged {
                let is_it = |lease: &Value| lease["mac"] == text(*mac) && lease["ip"] == ip.to_string();
                let kept = shown.iter().any(|lease| is_it(lease) && lease["state"] == "leased");
                ensure!(kept, "{} had {ip}, and now: {shown:?}", text(*mac));
            }
        }
        bootd.must_run()
    });
}

fn leases(bootd: &Bootd) -> Result<Vec<Value>> {
    let view = bootd.ask_json(&["leases"])?;
    let leases = view["leases"].as_array().cloned();
    leases.with_context(|| format!("no leases in {view}"))
}

fn mac(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, number]
}

fn text(mac: [u8; 6]) -> String {
    bootd_sdk::mac::Mac(mac).to_string()
}
