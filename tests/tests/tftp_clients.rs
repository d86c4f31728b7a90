//! TFTP's clients that there are: each gets the same bytes, over IPv4 and IPv6 where it can, with a port a transfer and with one for all.
//!
//! U-Boot and the firmware of OVMF are spoken for by hand, with the options that they send. What came after somebody's ERROR is counted: nothing.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::process::run;
use bootd_tests::readers::Load;
use bootd_tests::{Bootd, Machine, Rack, eventually_true, network};

const V4: &str = "172.16.0.254";
const V6: &str = "fd00:b007::254";
/// No multiple of any block, with all bytes in it.
const LENGTH: usize = 1_234_567;

#[test]
fn tftp_hpa_gets_the_files_bytes() {
    in_rack(|| {
        each_way(|site| {
            for server in [V4, V6] {
                let file = site.fetched(
                    "tftp",
                    &["-m", "binary", server, &site.port(), "-c", "get", "loader", "OUT"],
                )?;
                site.is_the_loader(&file)?;
            }
            // Lines are converted on the way, and converted back.
            let text = site.fetched("tftp", &["-m", "ascii", V4, &site.port(), "-c", "get", "text", "OUT"])?;
            ensure!(text == site.text, "{} bytes of text", text.len());
            Ok(())
        })
    });
}

#[test]
fn atftp_gets_the_files_bytes_with_each_option_it_has() {
    in_rack(|| {
        each_way(|site| {
            let port = site.port();
            for options in [
                &[][..],
                &["--option", "blksize 1468"],
                &["--option", "blksize 1024", "--option", "windowsize 8"],
                &[
                    "--option",
                    "tsize 0",
                    "--option",
                    "timeout 2",
                    "--option",
                    "windowsize 16",
                    "--option",
                    "blksize 1468",
                ],
            ] {
                let words = ["--get", "--remote-file", "loader", "--local-file", "OUT", V4, &port];
                site.is_the_loader(&site.fetched("atftp", &[options, &words].concat())?)?;
            }
            Ok(())
        })
    });
}

#[test]
fn curl_gets_the_files_bytes_over_either_family() {
    in_rack(|| {
        each_way(|site| {
            for server in [V4.to_owned(), format!("[{V6}]")] {
                let url = format!("tftp://{server}:{}/loader", site.port());
                for options in [&[][..], &["--tftp-no-options"], &["--tftp-blksize", "1400"]] {
                    let words = ["-sS", "-g", "-o", "OUT", &url];
                    site.is_the_loader(&site.fetched("curl", &[options, &words].concat())?)?;
                }
            }
            let url = format!("tftp://{V4}:{}/nothing", site.port());
            ensure!(
                site.fetched("curl", &["-sS", "-o", "OUT", &url]).is_err(),
                "curl got a file that is not there"
            );
            Ok(())
        })
    });
}

#[test]
fn busyboxs_tftp_gets_the_files_bytes() {
    in_rack(|| {
        each_way(|site| {
            let port = site.port();
            for options in [&[][..], &["-b", "1468"], &["-b", "65464"]] {
                let words = ["-g", "-r", "loader", "-l", "OUT", V4, &port];
                let words = [&["tftp"][..], options, &words].concat();
                site.is_the_loader(&site.fetched("busybox", &words)?)?;
            }
            Ok(())
        })
    });
}

#[test]
fn u_boots_options_are_all_granted_and_the_file_comes() {
    in_rack(|| {
        each_way(|site| {
            for server in [V4, V6] {
                let client = site.client(server)?;
                let options = [
                    ("tsize", "0"),
                    ("timeout", "5"),
                    ("blksize", "1468"),
                    ("windowsize", "8"),
                ];
                let (granted, from) = client.ask("loader", &options)?;
                let blksize = if server == V4 { "1468" } else { "1448" };
                let wanted = format!("blksize {blksize} tsize {LENGTH} timeout 5 windowsize 8 ");
                ensure!(granted == wanted, "granted is {granted:?}, not {wanted:?}");
                site.is_the_loader(&client.read(from, blksize.parse()?, 8)?)?;
            }
            Ok(())
        })
    });
}

#[test]
fn nothing_is_sent_after_a_firmware_asked_for_the_size_and_aborted_and_then_its_file_comes() {
    in_rack(|| {
        each_way(|site| {
            let client = site.client(V4)?;
            for _ in 0..3 {
                // As EDK2 does, from one port.
                let (granted, from) = client.ask("loader", &[("tsize", "0"), ("blksize", "1468")])?;
                ensure!(granted == format!("blksize 1468 tsize {LENGTH} "), "{granted}");
                client
                    .socket
                    .send_to(b"\0\x05\0\x08User aborted the transfer\0", from)?;
                client.socket.set_read_timeout(Some(Duration::from_secs(4)))?;
                let heard = client.socket.recv_from(&mut [0; 2048]);
                ensure!(heard.is_err(), "{heard:?} after the ERROR");
            }
            let (_, from) = client.ask("loader", &[("blksize", "1468")])?;
            site.is_the_loader(&client.read(from, 1468, 1)?)?;
            let metrics = site.bootd.metrics()?;
            ensure!(metrics.contains("what=\"aborted\"} 3"), "{metrics}");
            Ok(())
        })
    });
}

#[test]
fn a_thousand_clients_at_once_all_get_the_file_and_bootd_grows_by_little() {
    in_rack(|| {
        each_way(|site| {
            let before = site.bootd.memory_kib("VmRSS")?;
            let load = Load {
                server: site.server(V4)?,
                from: "172.16.0.1".parse()?,
                name: "loader".into(),
                content: site.loader.clone(),
                clients: 1000,
                blksize: 1468,
                window: 4,
            };
            let outcome = site.machine.at(|| load.once(Duration::from_secs(120)))?;
            let mut times = outcome.first.clone();
            times.sort();
            let (first, middle, last) = (times[0], times[500], times[999]);
            let after = site.bootd.memory_kib("VmHWM")?;
            println!(
                "first {first:?}, middle {middle:?}, last {last:?}; {before} KiB before, {after} at most; {} said again",
                outcome.again
            );
            ensure!(
                last < middle * 4 + Duration::from_secs(5),
                "somebody waited {last:?}, the middle one {middle:?}"
            );
            ensure!(after < before + 40_000, "{before} KiB grew to {after}");
            eventually_true(Duration::from_secs(20), "all transfers are over", || {
                site.bootd
                    .metrics()
                    .is_ok_and(|text| text.contains("what=\"transfers\"} 0"))
            })
        })
    });
}

/// With a port a transfer, and with one for all.
fn each_way(test: fn(&Site) -> Result<()>) -> Result<()> {
    for single_port in [false, true] {
        let mut site = Site::new(single_port)?;
        test(&site).with_context(|| format!("single_port = {single_port}"))?;
        site.bootd.must_run()?;
        drop(site);
        network::ip("link del br0")?;
    }
    Ok(())
}

/// bootd, and a machine of one node.
struct Site {
    bootd: Bootd,
    machine: Machine,
    loader: Vec<u8>,
    text: Vec<u8>,
    single_port: bool,
    rack: Rack,
}

impl Site {
    fn new(single_port: bool) -> Result<Self> {
        let rack = Rack::new()?;
        rack.network.announce_ready()?;
        let loader: Vec<u8> = (0..LENGTH).map(|n| (n * 7 % 256) as u8).collect();
        let text = b"#!ipxe\necho one\r\necho two\n\n".repeat(100);
        fs::create_dir(rack.path("root"))?;
        fs::write(rack.path("root/loader"), &loader)?;
        fs::write(rack.path("root/text"), &text)?;
        let root = rack.path("root").display().to_string();
        let tftp =
            format!("[tftp]\naddress = \"::\"\nroot = \"{root}\"\nsingle_port = {single_port}\nblksize = 65464\n");
        let config = fs::read_to_string(rack.path("bootd.toml"))?;
        rack.write("bootd.toml", &format!("{config}{tftp}"))?;
        let bootd = rack.start_bootd()?;
        // The other one's goes when its machine's processes are gone.
        let cable = if single_port { "d" } else { "c" };
        let machine = Machine::plug(&rack.network, cable)?;
        machine.ip(&format!("addr add 172.16.0.1/24 dev {cable}0"))?;
        machine.ip(&format!("addr add fd00:b007::1/64 dev {cable}0 nodad"))?;
        fs::create_dir(rack.path("got"))?;
        Ok(Self {
            bootd,
            machine,
            loader,
            text,
            single_port,
            rack,
        })
    }

    fn port(&self) -> String {
        "69".into()
    }

    fn server(&self, address: &str) -> Result<SocketAddr> {
        Ok(SocketAddr::new(address.parse()?, 69))
    }

    /// Runs a program at the machine; its word `OUT` is a file that it writes, whose content is returned.
    fn fetched(&self, program: &str, words: &[&str]) -> Result<Vec<u8>> {
        let out: PathBuf = self.rack.path("got/out");
        let _ = fs::remove_file(&out);
        let out_text = out.display().to_string();
        let words: Vec<&str> = words
            .iter()
            .map(|word| if *word == "OUT" { out_text.as_str() } else { word })
            .collect();
        let said = self.machine.at(|| run(program, &words));
        let what = || format!("{program} {}", words.join(" "));
        let said = said.with_context(what)?;
        fs::read(&out).with_context(|| format!("{}: {said}", what()))
    }

    fn is_the_loader(&self, bytes: &[u8]) -> Result<()> {
        ensure!(
            bytes == self.loader,
            "{} bytes came, of {LENGTH}, or others",
            bytes.len()
        );
        Ok(())
    }

    fn client(&self, server: &str) -> Result<Client> {
        let server = self.server(server)?;
        let own: IpAddr = if server.is_ipv4() {
            "0.0.0.0".parse()?
        } else {
            "::".parse()?
        };
        let socket = self.machine.at(|| Ok(UdpSocket::bind((own, 0))?))?;
        Ok(Client {
            socket,
            server,
            single_port: self.single_port,
        })
    }
}

/// A client by hand.
struct Client {
    socket: UdpSocket,
    server: SocketAddr,
    single_port: bool,
}

impl Client {
    /// The options that are granted, and where the transfer is met.
    fn ask(&self, name: &str, options: &[(&str, &str)]) -> Result<(String, SocketAddr)> {
        let words: String = options
            .iter()
            .map(|(name, value)| format!("{name}\0{value}\0"))
            .collect();
        self.socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        self.socket
            .send_to(format!("\0\u{1}{name}\0octet\0{words}").as_bytes(), self.server)?;
        let mut packet = [0; 2048];
        let (length, from) = self.socket.recv_from(&mut packet).context("no answer")?;
        ensure!(packet[..2] == [0, 6], "no OACK: {:?}", &packet[..length.min(100)]);
        ensure!(from.ip() == self.server.ip(), "an answer from {from}");
        ensure!(
            (from.port() == 69) == self.single_port,
            "an answer from port {}",
            from.port()
        );
        Ok((String::from_utf8_lossy(&packet[2..length]).replace('\0', " "), from))
    }

    fn read(&self, from: SocketAddr, blksize: usize, window: usize) -> Result<Vec<u8>> {
        let (mut file, mut block) = (Vec::new(), 0_usize);
        let mut packet = vec![0; 65536];
        self.socket.send_to(&[0, 4, 0, 0], from)?;
        loop {
            let length = self.socket.recv(&mut packet).context("no block")?;
            match packet[..length] {
                [0, 3, high, low, ref data @ ..] => {
                    if u16::from_be_bytes([high, low]) != (block + 1) as u16 {
                        continue;
                    }
                    block += 1;
                    file.extend_from_slice(data);
                    let is_last = data.len() < blksize;
                    if is_last || block.is_multiple_of(window) {
                        self.socket.send_to(&[0, 4, high, low], from)?;
                    }
                    if is_last {
                        return Ok(file);
                    }
                }
                _ => bail!("no block: {:?}", &packet[..length.min(100)]),
            }
        }
    }
}
