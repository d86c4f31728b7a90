//! `bootd capture`: what a node said and was told, in a file that tshark reads, with what bootd decided.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::wire::{Client, DISCOVER, message, xid};
use bootd_tests::{Rack, eventually_true};

#[test]
fn the_last_packets_of_a_node_are_read_by_tshark_with_what_was_decided() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let client = Client::plug(&rack)?;
        let dhcp = client.dhcp_socket()?;
        let node = [0x52, 0x54, 0, 0xbe, 0xef, 1];
        dhcp.lease(node, TIME)?;
        // Nobody's business of that node: another machine.
        dhcp.send(&message(DISCOVER, xid(), [0x52, 0x54, 0, 0xbe, 0xef, 2], &[]))?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        ensure!(client.tftp("nothing.efi").is_err());
        let request = "GET /boot/v1/bootscript?mac=52:54:00:be:ef:01 HTTP/1.0\r\nHost: x:8081\r\nUser-Agent: iPXE/1.21\r\nAuthorization: Bearer secret\r\n\r\n";
        ensure!(client.http(request)?.0 == 200);

        let file = rack.path("node.pcapng");
        let name = file.to_str().context("a path")?;
        let all = [
            "dhcp.option.dhcp == 1",
            "dhcp.option.dhcp == 2",
            "dhcp.option.dhcp == 3",
            "dhcp.option.dhcp == 5",
            "tftp.opcode == 1 && tftp.source_file == \"nothing.efi\"",
            "tftp.opcode == 5",
            "http.request.uri contains \"bootscript\" && http.user_agent == \"iPXE/1.21\"",
            "http.response.code == 200",
            "frame.comment contains \"offered 172.16.0.1 with a boot file\"",
            "frame.comment contains \"acknowledged 172.16.0.1\"",
            "frame.comment contains \"refused, 404\"",
        ];
        eventually_true(TIME, "all of it is in the file", || {
            let asked = bootd.ask(&["capture", "--mac", "52:54:00:be:ef:01", "-o", name]);
            asked.is_ok_and(|asked| asked.status.success())
                && all
                    .iter()
                    .all(|filter| shown(name, filter).is_ok_and(|lines| lines == 1))
        })
        .with_context(|| {
            let seen = all.map(|filter| format!("{filter}: {:?}", shown(name, filter).ok()));
            let asked = bootd.ask(&["capture", "--mac", "52:54:00:be:ef:01", "-o", name]);
            let said = asked.map(|asked| String::from_utf8_lossy(&asked.stderr).into_owned());
            format!("{}\n{:?}\n{said:?}", seen.join("\n"), tshark(&["-r", name]))
        })?;
        // Only its own, nothing malformed, no secret.
        ensure!(shown(name, "dhcp.hw.mac_addr == 52:54:00:be:ef:02")? == 0);
        ensure!(shown(name, "_ws.malformed || ip.checksum.status == \"Bad\"")? == 0);
        ensure!(!String::from_utf8_lossy(&std::fs::read(&file)?).contains("Bearer secret"));
        ensure!(shown(name, "ip.src == 172.16.0.254 && udp.srcport == 67 && udp.dstport == 68")? == 2);

        let by_name = bootd.ask(&["capture", "--mac", "x1000c0s0b0n0", "-o", name])?;
        ensure!(by_name.status.success() && shown(name, "tftp")? == 2, "by its xname");
        let nobody = bootd.ask(&["capture", "--mac", "02:00:00:00:00:99", "-o", name])?;
        ensure!(
            !nobody.status.success() && String::from_utf8_lossy(&nobody.stderr).contains("no packet of such a node")
        );
        bootd.must_run()
    });
}

/// How many packets a filter shows.
fn shown(file: &str, filter: &str) -> Result<usize> {
    Ok(tshark(&["-r", file, "-Y", filter])?.lines().count())
}

fn tshark(words: &[&str]) -> Result<String> {
    let output = Command::new("tshark")
        .args(words)
        .output()
        .context("install the Debian package tshark")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

const TIME: Duration = Duration::from_secs(20);
