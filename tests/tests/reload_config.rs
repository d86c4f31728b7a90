//! A changed bootd.toml is taken into service while nodes are served: what changes is told, a mistake changes nothing, and no packet is lost.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::network::ip;
use bootd_tests::server::Bootd;
use bootd_tests::wire::{ACK, Client, DISCOVER, DhcpSocket, OFFER, REQUEST, Reply, message, xid};
use bootd_tests::{Rack, SERVER, data, eventually, eventually_true};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(10);
/// In 172.16.0.0/24 and in 172.16.1.0/24.
const NODE: [u8; 6] = [0x52, 0x54, 0, 0xbe, 0xef, 1];
const NODE_OF_THE_OTHER: [u8; 6] = [0x52, 0x54, 0, 0xbe, 0xef, 0x21];
const ROUTER: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 254);
const OTHER_ROUTER: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);

#[test]
fn a_dry_run_names_exactly_the_nodes_of_a_changed_router_and_the_reload_gives_it_to_them() {
    in_rack(|| {
        let rack = two_subnets()?;
        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        let mut bootd = rack.start_bootd()?;
        ensure!(router(&socket, NODE)? == ROUTER);
        let before = router(&socket, NODE_OF_THE_OTHER)?;

        let same = bootd.ask_json(&["reload", "--dry-run"])?;
        ensure!(same["answers"]["groups"] == serde_json::json!([]), "{same}");
        let said = said(&bootd, &["reload", "--dry-run"])?;
        ensure!(said.1.contains("nobody gets anything else"), "{said:?}");

        rack.write(
            "bootd.toml",
            &config(&rack).replace(r#"routers = ["172.16.0.254"]"#, r#"routers = ["172.16.0.1"]"#),
        )?;
        let dry = bootd.ask_json(&["reload", "--dry-run"])?;
        let groups = dry["answers"]["groups"].as_array().context("groups")?;
        ensure!(groups.len() == 1, "{dry:#}");
        let group = &groups[0];
        ensure!(
            group["what"] == "routers" && group["old"] == "172.16.0.254" && group["new"] == "172.16.0.1",
            "{group:#}"
        );
        let who: BTreeSet<&str> = group["who"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|who| who["xname"].as_str())
            .collect();
        // The nodes of that subnet and their BMCs, which have addresses in it, too.
        let names = (0..5).flat_map(|n| [format!("x1000c0s0b{n}n0"), format!("x1000c0s0b{n}")]);
        let names: BTreeSet<String> = names.collect();
        ensure!(who == names.iter().map(String::as_str).collect(), "{group:#}");
        ensure!(
            dry["applied"] == false && router(&socket, NODE)? == ROUTER,
            "a dry run changes something"
        );

        let (code, text, _) = said_all(&bootd, &["reload"])?;
        ensure!(code == Some(0) && text.contains("1 key changed"), "{code:?} {text}");
        ensure!(
            text.contains(r#"dhcp.subnet[172.16.0.0/24].routers: ["172.16.0.254"] -> ["172.16.0.1"]"#),
            "{text}"
        );
        ensure!(router(&socket, NODE)? == OTHER_ROUTER);
        ensure!(router(&socket, NODE_OF_THE_OTHER)? == before);
        bootd.must_run()
    });
}

#[test]
fn a_file_with_mistakes_or_with_keys_that_need_a_restart_changes_nothing_and_sighup_does_what_reload_does() {
    in_rack(|| {
        let rack = two_subnets()?;
        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        let mut bootd = rack.start_bootd()?;
        let good = config(&rack).replace(r#"routers = ["172.16.0.254"]"#, r#"routers = ["172.16.0.1"]"#);

        let bad = good.replace("lease_time = \"1h\"", "lease_time = \"soon\"\nleese = 3");
        rack.write("bootd.toml", &bad)?;
        let (code, _, errors) = said_all(&bootd, &["reload"])?;
        ensure!(code == Some(64), "{code:?} {errors}");
        for key in ["dhcp.lease_time", "leese", "nothing changed"] {
            ensure!(errors.contains(key), "{key} is not in {errors}");
        }
        ensure!(router(&socket, NODE)? == ROUTER, "a bad file changes something");

        let wrong_plugin = good.replace("config.nodes = ", "config.nods = ");
        rack.write("bootd.toml", &wrong_plugin)?;
        let (code, _, errors) = said_all(&bootd, &["reload"])?;
        ensure!(
            code == Some(64) && errors.contains("plugin[0].config"),
            "{code:?} {errors}"
        );
        ensure!(
            router(&socket, NODE)? == ROUTER,
            "bad settings of a plugin change something"
        );

        let taken = good.replace("0.0.0.0:9000", "203.0.113.9:9000");
        rack.write("bootd.toml", &taken)?;
        let (code, _, errors) = said_all(&bootd, &["reload"])?;
        ensure!(
            code == Some(64) && errors.contains("203.0.113.9:9000"),
            "{code:?} {errors}"
        );
        ensure!(
            router(&socket, NODE)? == ROUTER,
            "a listener that cannot be opened changes something"
        );

        rack.write("bootd.toml", &good.replace("state\"", "elsewhere\""))?;
        let (code, _, errors) = said_all(&bootd, &["reload"])?;
        ensure!(
            code == Some(64) && errors.contains("server.state_dir"),
            "{code:?} {errors}"
        );
        ensure!(router(&socket, NODE)? == ROUTER, "half of a file counts");

        rack.write("bootd.toml", &good)?;
        hang_up(&bootd)?;
        eventually_true(PATIENCE, "SIGHUP takes the file into service", || {
            router(&socket, NODE).is_ok_and(|router| router == OTHER_ROUTER)
        })?;
        let log = std::fs::read_to_string(bootd.log())?;
        ensure!(
            log.contains("dhcp.subnet[172.16.0.0/24].routers"),
            "the log does not say what changed"
        );
        bootd.must_run()
    });
}

#[test]
fn listeners_come_and_go_one_that_stays_keeps_its_connections_and_its_token_counts_at_once() {
    in_rack(|| {
        let rack = two_subnets()?;
        let client = Client::plug(&rack)?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        let mut bootd = rack.start_bootd()?;
        let mut kept = client.at(|| Ok(TcpStream::connect(SocketAddr::from((SERVER, 8081)))?))?;
        kept.set_read_timeout(Some(PATIENCE))?;
        ensure!(asked(&mut kept, "/hsm/v2/State/Components")? == 200);
        let connects = |port: u16| {
            client.at(|| {
                Ok(TcpStream::connect_timeout(&SocketAddr::from((SERVER, port)), Duration::from_secs(1)).is_ok())
            })
        };
        ensure!(connects(9000)? && !connects(8082)?);

        let other =
            config(&rack)
                .replace("0.0.0.0:9000", "0.0.0.0:8082")
                .replacen("auth = \"none\"", "auth = \"token\"", 1);
        rack.write("bootd.toml", &other)?;
        let report = bootd.ask_json(&["reload"])?;
        ensure!(report["applied"] == true, "{report:#}");
        ensure!(connects(8082)?);
        eventually_true(PATIENCE, "the listener that is gone is closed", || {
            connects(9000).is_ok_and(|there| !there)
        })?;
        // The same connection, by what is said of its listener now.
        let write = "POST /hsm/v2/State/Components HTTP/1.1\r\nhost: b\r\ncontent-length: 2\r\n\r\n{}";
        kept.write_all(write.as_bytes())?;
        ensure!(status(&mut kept)? == 401, "a token is not asked for");

        rack.write("bootd.toml", &config(&rack))?;
        let report = bootd.ask_json(&["reload"])?;
        ensure!(report["applied"] == true && connects(9000)?, "{report:#}");
        bootd.must_run()
    });
}

#[test]
fn interfaces_come_and_go_and_one_that_stays_is_served_on() {
    in_rack(|| {
        let rack = two_subnets()?;
        ip("link add br1 type bridge")?;
        ip("addr add 172.16.2.254/24 dev br1")?;
        ip("link set br1 up")?;
        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        let mut bootd = rack.start_bootd()?;
        let is_on = |name: &str| -> Result<bool> {
            let status = bootd.ask_json(&["status"])?;
            Ok(status["dhcp"].to_string().contains(&format!("DHCP on {name}:")))
        };
        ensure!(is_on("br0")? && !is_on("br1")?);
        for _ in 0..2 {
            for (interfaces, with_other) in [(r#"["br0", "br1"]"#, true), (r#"["br0"]"#, false)] {
                rack.write("bootd.toml", &config(&rack).replace(r#"["br0"]"#, interfaces))?;
                let report = bootd.ask_json(&["reload"])?;
                ensure!(report["applied"] == true, "{report:#}");
                ensure!(is_on("br0")? && is_on("br1")? == with_other, "{interfaces}");
                exchange(&socket, NODE)?;
            }
        }
        bootd.must_run()
    });
}

#[test]
fn only_a_plugin_with_other_settings_gets_a_new_instance() {
    in_rack(|| {
        let rack = two_subnets()?;
        let mut bootd = rack.start_bootd()?;
        let generations = || -> Result<Vec<u64>> {
            let each = ["smd", "bss", "cloud-init"].map(|name| bootd.plugin(name));
            let generations = each
                .into_iter()
                .map(|plugin| plugin?["generation"].as_u64().context("generation"));
            generations.collect()
        };
        ensure!(generations()? == [1, 1, 1]);
        rack.write("other-defaults.yaml", data::DEFAULTS)?;
        let other = config(&rack).replace("/ci-defaults.yaml", "/other-defaults.yaml");
        rack.write("bootd.toml", &other)?;
        let report = bootd.ask_json(&["reload"])?;
        ensure!(
            report["plugins"][0]["name"] == "cloud-init" && report["plugins"][1].is_null(),
            "{report:#}"
        );
        ensure!(generations()? == [1, 1, 2], "{:?}", generations());
        let again = bootd.ask_json(&["reload"])?;
        ensure!(
            again["changes"] == serde_json::json!([]) && again["plugins"].is_null(),
            "{again:#}"
        );
        ensure!(generations()? == [1, 1, 2]);
        bootd.must_run()
    });
}

#[test]
fn leases_of_a_pool_stay_their_clients_whatever_becomes_of_the_pool() {
    in_rack(|| {
        let rack = two_subnets()?;
        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        let mut bootd = rack.start_bootd()?;
        let stranger = [2, 0, 0, 0, 0, 0x77];
        let mine = socket.lease(stranger, PATIENCE)?.yiaddr;
        let pool = "first = \"172.16.0.200\", last = \"172.16.0.250\"";
        for (other, stays) in [
            ("first = \"172.16.0.190\", last = \"172.16.0.240\"", true),
            ("first = \"172.16.0.220\", last = \"172.16.0.240\"", false),
            (pool, true),
        ] {
            rack.write("bootd.toml", &config(&rack).replace(pool, other))?;
            let report = bootd.ask_json(&["reload"])?;
            ensure!(report["applied"] == true, "{report:#}");
            let leases = bootd.ask_json(&["leases"])?.to_string();
            ensure!(leases.contains(&mine.to_string()) == stays, "{other}: {leases}");
        }
        ensure!(
            socket.lease(stranger, PATIENCE)?.yiaddr == mine,
            "it has another address now"
        );
        bootd.must_run()
    });
}

#[test]
fn fifty_reloads_under_load_lose_no_exchange() {
    in_rack(|| {
        let rack = two_subnets()?;
        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        let mut bootd = rack.start_bootd()?;
        let (exchanges, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let times = std::thread::scope(|scope| {
            let load = scope.spawn(|| -> Result<()> {
                let clients = (1..=5).chain(0x21..=0x22).map(|last| [0x52, 0x54, 0, 0xbe, 0xef, last]);
                for mac in clients.chain([[2, 0, 0, 0, 0, 0x77]]).cycle() {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    exchange(&socket, mac)
                        .with_context(|| format!("exchange {}", exchanges.load(Ordering::Relaxed)))?;
                    exchanges.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
            let reloads = || -> Result<Vec<f64>> {
                let mut times = Vec::new();
                for n in 0..50 {
                    let began = exchanges.load(Ordering::Relaxed);
                    eventually_true(PATIENCE, "load between two reloads", || {
                        load.is_finished() || exchanges.load(Ordering::Relaxed) > began + 4
                    })?;
                    let router = format!("routers = [\"172.16.0.{}\"]", 100 + n);
                    let pool = format!("last = \"172.16.0.{}\"", 240 + n % 10);
                    let text = config(&rack)
                        .replace(r#"routers = ["172.16.0.254"]"#, &router)
                        .replace("last = \"172.16.0.250\"", &pool);
                    rack.write("bootd.toml", &text)?;
                    let report = bootd.ask_json(&["reload"])?;
                    ensure!(report["applied"] == true, "{report:#}");
                    times.extend(report["took_ms"].as_f64());
                }
                Ok(times)
            };
            let times = reloads();
            over.store(true, Ordering::Relaxed);
            load.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
            times
        });
        let mut times = times?;
        times.sort_by(f64::total_cmp);
        let exchanges = exchanges.load(Ordering::Relaxed);
        println!(
            "{exchanges} exchanges, none lost, during 50 reloads of {:.1} ms (median), {:.1} ms at most",
            times[25], times[49]
        );
        ensure!(exchanges > 250, "hardly any load: {exchanges}");
        bootd.must_run()
    });
}

#[test]
fn with_ten_thousand_nodes_a_reload_takes_less_than_its_budget() {
    in_rack(|| {
        let rack = two_subnets()?;
        let mut nodes = String::from("nodes:\n");
        for n in 0..10_000_u32 {
            let [_, _, a, b] = n.to_be_bytes();
            writeln!(
                nodes,
                "- {{name: n{n}, nid: {}, xname: x{}c{}s{}b0n{}, bmc_mac: 'de:ca:fc:10:{a:02x}:{b:02x}', bmc_ip: 10.9.{a}.{b}, group: compute, \
                 interfaces: [{{mac_addr: '52:54:01:00:{a:02x}:{b:02x}', ip_addrs: [{{name: m, ip_addr: 10.1.{}.{}}}]}}]}}",
                n + 1,
                1000 + n / 256,
                n / 32 % 8,
                n / 4 % 8,
                n % 4,
                1 + n / 250,
                1 + n % 250
            )?;
        }
        rack.write("nodes.yaml", &nodes)?;
        let with = |router: &str| {
            format!(
                "{}\n[[dhcp.subnet]]\ncidr = \"10.1.0.0/16\"\nrouters = [\"{router}\"]\n",
                config(&rack)
            )
        };
        rack.write("bootd.toml", &with("10.1.0.1"))?;
        let mut bootd = rack.start_bootd()?;
        eventually_true(PATIENCE, "the nodes are there", || {
            bootd
                .ask_json(&["status"])
                .is_ok_and(|status| status["inventory"].to_string().contains("10000"))
        })?;
        let mut times = Vec::new();
        for n in 2..12 {
            rack.write("bootd.toml", &with(&format!("10.1.0.{n}")))?;
            let report = bootd.ask_json(&["reload"])?;
            ensure!(report["applied"] == true, "{report:#}");
            times.push(report["took_ms"].as_f64().context("took_ms")?);
        }
        rack.write("bootd.toml", &with("10.1.0.99"))?;
        let began = Instant::now();
        let dry = bootd.ask_json(&["reload", "--dry-run"])?;
        let who = dry["answers"]["groups"][0]["who"].as_array().map_or(0, Vec::len);
        ensure!(who == 10_000, "{who} nodes of 10,000");
        times.sort_by(f64::total_cmp);
        println!(
            "10,000 nodes: a reload takes {:.1} ms (median), {:.1} ms at most; a dry run {:.1} s",
            times[5],
            times[9],
            began.elapsed().as_secs_f64()
        );
        ensure!(times[9] < 200.0, "{times:?}");
        bootd.must_run()
    });
}

/// A rack with a second subnet, two nodes in it, and no limit for clients.
fn two_subnets() -> Result<Rack> {
    let rack = Rack::new()?;
    ip("addr add 172.16.1.254/24 brd + dev br0")?;
    let more = (1..=2).map(|n| {
        format!(
            "- name: other{n}\n  nid: 10{n}\n  xname: x2000c0s0b{n}n0\n  bmc_mac: de:ca:fc:0f:ff:e{n}\n  bmc_ip: 172.16.1.10{n}\n  \
             group: compute\n  interfaces:\n  - mac_addr: 52:54:00:be:ef:2{n}\n    ip_addrs:\n    - name: management\n      \
             ip_addr: 172.16.1.{n}\n"
        )
    });
    let nodes: String = [data::NODES.to_owned(), "\n".to_owned()]
        .into_iter()
        .chain(more)
        .collect();
    rack.write("nodes.yaml", &nodes)?;
    rack.write("bootd.toml", &config(&rack))?;
    Ok(rack)
}

fn config(rack: &Rack) -> String {
    let second = "[[dhcp.subnet]]\ncidr = \"172.16.1.0/24\"\nrouters = [\"172.16.1.254\"]\n\n[[http.listener]]";
    let config = rack.config().replacen("[[http.listener]]", second, 1);
    config.replace("[dhcp]\n", "[dhcp]\nrate_limit = 0\nprobe = \"0s\"\n")
}

/// The router that a client is offered.
fn router(socket: &DhcpSocket, mac: [u8; 6]) -> Result<Ipv4Addr> {
    let offer = socket.discover(mac, PATIENCE)?;
    let value = offer
        .option(3)
        .and_then(|value| value.first_chunk::<4>())
        .context("no router")?;
    Ok(Ipv4Addr::from(*value))
}

/// Four messages, none of which is sent twice.
fn exchange(socket: &DhcpSocket, mac: [u8; 6]) -> Result<Reply> {
    let once = |kind, options: &[u8]| -> Result<Reply> {
        let xid = xid();
        socket.send(&message(kind, xid, mac, options))?;
        socket.receive(xid, Duration::from_secs(3))
    };
    let offer = once(DISCOVER, &[])?;
    ensure!(offer.kind == OFFER, "kind {}", offer.kind);
    let mut options = vec![50, 4];
    options.extend_from_slice(&offer.yiaddr.octets());
    options.extend_from_slice(&[54, 4]);
    options.extend_from_slice(offer.option(54).context("no server")?);
    let ack = once(REQUEST, &options)?;
    ensure!(ack.kind == ACK && ack.yiaddr == offer.yiaddr, "{ack:?}");
    Ok(ack)
}

/// Exit code and standard output of a verb.
fn said(bootd: &Bootd, args: &[&str]) -> Result<(Option<i32>, String)> {
    said_all(bootd, args).map(|(code, said, _)| (code, said))
}

/// The same with what it says on standard error.
fn said_all(bootd: &Bootd, args: &[&str]) -> Result<(Option<i32>, String, String)> {
    let output = bootd.ask(args)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

fn hang_up(bootd: &Bootd) -> Result<()> {
    let pid = Pid::from_raw(bootd.id().cast_signed()).context("process id")?;
    kill_process(pid, Signal::HUP).context("signal bootd")
}

/// A GET on a connection that stays.
fn asked(connection: &mut TcpStream, path: &str) -> Result<u16> {
    connection.write_all(format!("GET {path} HTTP/1.1\r\nhost: b\r\n\r\n").as_bytes())?;
    status(connection)
}

/// Reads an answer to its end.
fn status(connection: &mut TcpStream) -> Result<u16> {
    let mut bytes = Vec::new();
    let head = eventually(PATIENCE, "an answer", || {
        let mut part = [0; 4096];
        let n = connection.read(&mut part).ok()?;
        bytes.extend_from_slice(&part[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")?
                .parse::<usize>()
                .ok()
        })?;
        (body.len() >= length).then(|| head.to_owned())
    })?;
    let status: Option<u16> = head.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    status.context("an answer without status")
}
