//! One client that misbehaves costs the others nothing: floods, connections that never end, garbage in a plugin's place.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::server::{self, Bootd};
use bootd_tests::wire::{self, Client, DISCOVER};
use bootd_tests::{Rack, SERVER, eventually_true};

const NODE_1: [u8; 6] = [0x52, 0x54, 0, 0xbe, 0xef, 1];

#[test]
fn packets_that_name_dead_relays_do_not_hold_up_the_answers_to_nodes() {
    in_rack(|| {
        let rack = Rack::new()?;
        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        let mut bootd = rack.start_bootd()?;
        socket.lease(NODE_1, Duration::from_secs(10))?;
        for n in 0..1000_u32 {
            let mut packet = wire::message(DISCOVER, n, [0x52, 0x54, 0, 0xbe, 0xef, 2], &[]);
            // giaddr: hosts of the subnet that are not there, so that the kernel asks for them in vain.
            packet[24..28].copy_from_slice(&[172, 16, 0, 110 + (n % 80) as u8]);
            socket.send(&packet)?;
        }
        let asked = Instant::now();
        socket
            .lease(NODE_1, Duration::from_secs(10))
            .context("after the flood")?;
        ensure!(
            asked.elapsed() < Duration::from_secs(2),
            "the answer took {:?}",
            asked.elapsed()
        );
        bootd.must_run()
    });
}

#[test]
fn one_client_with_many_open_requests_leaves_the_listener_to_the_others() {
    in_rack(|| {
        let rack = Rack::new()?;
        let client = Client::plug(&rack)?;
        client.ip("addr add 172.16.0.2/24 dev cable0")?;
        let mut bootd = rack.start_bootd()?;
        let held = client.at(|| {
            let mut held = Vec::new();
            for _ in 0..300 {
                let mut stream = TcpStream::connect((SERVER, 8081))?;
                // Some of them are refused already: that is the point.
                let _ = stream.write_all(
                    b"POST /cloud-init/phone-home/x HTTP/1.1\r\nhost: bootd\r\ncontent-length: 1000\r\n\r\nx",
                );
                stream.set_nonblocking(true)?;
                held.push(stream);
            }
            eventually_true(Duration::from_secs(5), "bootd keeps no more than 64 of them", || {
                let open = |mut stream: &TcpStream| {
                    let read = stream.read(&mut [0]);
                    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
                };
                held.iter().filter(|stream| open(stream)).count() <= 64
            })?;
            Ok(held)
        })?;
        // Another client on the same cable; what the first one holds stays open at bootd.
        client.ip("addr del 172.16.0.2/24 dev cable0")?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        let (status, text) = client.get("/boot/v1/bootscript?mac=52:54:00:be:ef:01")?;
        ensure!(status == 200 && text.starts_with("#!ipxe"), "{status} {text}");
        drop(held);
        bootd.must_run()
    });
}

#[test]
fn bodies_of_strangers_that_never_end_keep_no_write_out() {
    in_rack(|| {
        let rack = Rack::new()?;
        let client = Client::plug(&rack)?;
        client.ip("addr add 172.16.0.77/24 dev cable0")?;
        let mut bootd = rack.start_bootd()?;
        let held = client.at(|| {
            let mut held = Vec::new();
            // As many megabytes as all bodies together may have, and more, in requests that everybody may send.
            for _ in 0..40 {
                let mut stream = TcpStream::connect((SERVER, 8081))?;
                stream.set_write_timeout(Some(Duration::from_secs(5)))?;
                let head = "GET /boot/v1/dumpstate HTTP/1.1\r\nhost: bootd\r\ncontent-length: 4194304\r\n\r\n";
                stream.write_all(head.as_bytes())?;
                // Refused already, as it should be, or taken.
                let _ = stream.write_all(&[b'x'; 4_194_296]);
                held.push(stream);
            }
            Ok(held)
        })?;
        let body = r#"{"Components":[{"ID":"x3000c0s0b0n0","State":"On"}]}"#;
        let (status, said) = client.http(&format!(
            "POST /hsm/v2/State/Components HTTP/1.0\r\nhost: bootd\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))?;
        ensure!(status == 204, "{status} {said}");
        ensure!(
            bootd.metrics()?.contains("body_too_large"),
            "the bodies were not refused"
        );
        drop(held);
        bootd.must_run()
    });
}

#[test]
fn a_plugin_file_that_is_cut_off_costs_only_that_plugin() {
    in_rack(|| {
        let rack = Rack::new()?;
        let client = Client::plug(&rack)?;
        let folder = rack.path("cut");
        std::fs::create_dir(&folder)?;
        let binary = server::binary()?;
        let beside = binary.parent().context("folder of bootd")?;
        for name in ["bootd", "libbootd_smd.so", "libbootd_bss.so", "libbootd_cloud_init.so"] {
            std::fs::copy(beside.join(name), folder.join(name)).with_context(|| name.to_owned())?;
        }
        let bss = folder.join("libbootd_bss.so");
        let whole = std::fs::read(&bss)?;
        std::fs::write(&bss, &whole[..whole.len() / 2])?;
        let mut bootd = Bootd::start(
            &folder.join("bootd"),
            &rack.path("bootd.toml"),
            &rack.dir,
            &rack.journal,
        )?;
        client.dhcp_socket()?.lease(NODE_1, Duration::from_secs(10))?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        let status = |path: &str| -> Result<u16> { Ok(client.get(path)?.0) };
        ensure!(status("/cloud-init/meta-data")? == 200);
        ensure!(status("/boot/v1/bootscript?mac=52:54:00:be:ef:01")? == 503);
        bootd.must_run()
    });
}
