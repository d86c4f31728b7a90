//! Plugins that misbehave cost nobody else anything: each of them is loaded into a bootd that serves a rack, and while it does its worst,
//! DHCP, TFTP and the other plugins' routes answer, and `bootd plugins` says what is wrong with it.
//!
//! What they do is in `tests/hostile`: wrong tables in `tables.c`, calls that no safe code makes in `raw.c`, all else in `src/lib.rs`.
// What was measured is shown by --nocapture inside the namespace, and by failures.
#![allow(clippy::print_stdout)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::plugin::{build_c, hostile};
use bootd_tests::server::Bootd;
use bootd_tests::wire::{self, Client, DISCOVER, DhcpSocket};
use bootd_tests::{Rack, eventually, eventually_true};
use serde_json::Value;

const NODE_1: [u8; 6] = [0x52, 0x54, 0, 0xbe, 0xef, 1];
const STRANGER: [u8; 6] = [0x52, 0x54, 0, 0xbe, 0xef, 0x77];
/// For what must happen, sooner or later.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long an answer to a node may take, whatever a plugin does. An answer takes about a millisecond; this machine may be busy.
const SLOW: Duration = Duration::from_secs(1);

#[test]
fn tables_that_are_wrong_are_refused_by_the_name_of_the_field() {
    // tables.c: the case, and what bootd says of it.
    const WRONG: [(&str, u8, &str); 7] = [
        ("wrong-magic", 1, "magic is 0x3144544f4f43"),
        ("newer-major", 2, "major is 2, not 1"),
        ("null-table", 5, "its entry function refuses this bootd (ABI 1."),
        ("missing-symbol", 6, "the symbol bootd_plugin_entry_v1 is missing"),
        ("null-init", 7, "init is NULL"),
        ("short-table", 8, "size is 56, at least 96 is needed"),
        (
            "world-writable",
            0,
            "may be written by others (mode 777): chmod go-w it",
        ),
    ];
    in_rack(|| {
        let mut site = Site::new(|rack| {
            let plugin = |(name, case, _): &(&str, u8, &str)| {
                let file = table(rack, *case)?;
                let mode = if *name == "world-writable" { 0o777 } else { 0o755 };
                fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
                Ok(entry(name, &file, ""))
            };
            WRONG.iter().map(plugin).collect()
        })?;
        for (name, _, text) in WRONG {
            let plugin = site.bootd.plugin(name)?;
            ensure!(plugin["state"] == "failed", "{plugin:#}");
            ensure!(
                plugin["text"].as_str().is_some_and(|said| said.contains(text)),
                "{plugin:#}"
            );
            ensure!(
                plugin["generation"] == 0 && plugin["next_try_s"].is_number(),
                "{plugin:#}"
            );
            let logged = site
                .rack
                .journal
                .log(0, "a plugin is out of service", |fields| fields["plugin"] == name);
            ensure!(logged.is_some(), "{name} is not in the log");
        }
        ensure!(site.metric("bootd_amount", "wrong-magic", "up")? == Some(0));
        site.others_answer()
    });
}

#[test]
fn tables_of_an_older_and_a_newer_minor_are_loaded_and_serve() {
    // Minor 0; a later minor with a longer table; one with nothing but init; one whose name is no text.
    const FINE: [(&str, u8); 4] = [
        ("older-minor", 3),
        ("newer-minor", 4),
        ("only-init", 9),
        ("name-not-utf8", 10),
    ];
    in_rack(|| {
        let mut site = Site::new(|rack| {
            FINE.iter()
                .map(|(name, case)| Ok(entry(name, &table(rack, *case)?, "")))
                .collect()
        })?;
        for (name, case) in FINE {
            let plugin = site.bootd.plugin(name)?;
            ensure!(plugin["state"] == "running" && plugin["generation"] == 1, "{plugin:#}");
            if name != "only-init" {
                site.answers(&format!("/table/{case}"), 200)?;
            }
        }
        site.others_answer()
    });
}

#[test]
fn an_init_that_panics_or_fails_is_tried_again_with_growing_waits() {
    in_rack(|| {
        let mut site = Site::with(&[("panicking", "panic-in-init"), ("failing", "fail-in-init")])?;
        for (name, text) in [
            ("panicking", "panicked: init panics on purpose"),
            ("failing", "init fails on purpose"),
        ] {
            let plugin = site.bootd.plugin(name)?;
            ensure!(plugin["state"] == "failed", "{plugin:#}");
            ensure!(
                plugin["text"].as_str().is_some_and(|said| said.contains(text)),
                "{plugin:#}"
            );
        }
        // One second after the first failure, then two more, then four.
        let waits = || -> Vec<u64> {
            let entries = site.rack.journal.since(0);
            let lines = entries.iter().filter_map(|entry| match &entry.event {
                bootd_tests::Event::Log(line) => Some(&line["fields"]),
                _ => None,
            });
            let out = lines.filter(|f| f["message"] == "a plugin is out of service" && f["plugin"] == "panicking");
            out.filter_map(|fields| fields["again_in_s"].as_u64()).collect()
        };
        eventually_true(PATIENCE, "the third try", || waits().len() >= 3)?;
        ensure!(waits()[..3] == [1, 2, 4], "{:?}", waits());
        ensure!(site.metric("bootd_amount", "failing", "up")? == Some(0));
        site.others_answer()
    });
}

#[test]
fn an_init_that_hangs_and_a_run_that_spins_are_seen_and_delay_nobody() {
    in_rack(|| {
        let begun = Instant::now();
        let mut site = Site::with(&[("hanging-init", "hang-in-init"), ("spinning", "run-spins")])?;
        ensure!(
            begun.elapsed() < Duration::from_secs(8),
            "the start took {:?}",
            begun.elapsed()
        );
        ensure!(site.bootd.plugin("hanging-init")?["state"] == "starting");
        site.others_answer()?;
        let plugin = site.wait_for("hanging-init", |plugin| plugin["left_behind"] == 1)?;
        ensure!(plugin["state"] == "failed", "{plugin:#}");
        ensure!(
            plugin["text"].as_str().is_some_and(|said| said.contains("init")),
            "{plugin:#}"
        );
        let plugin = site.wait_for("spinning", |plugin| plugin["state"] == "degraded")?;
        let said = plugin["text"].as_str().unwrap_or_default();
        ensure!(said.contains("its run uses a whole processor"), "{plugin:#}");
        ensure!(site.metric("bootd_amount", "hanging-init", "left_behind")? == Some(1));
        site.others_answer()
    });
}

#[test]
fn a_handler_that_panics_and_a_run_that_panics_are_started_again() {
    in_rack(|| {
        let mut site = Site::with(&[("panicking-run", "run-panics"), ("panicking", "panic-in-handle")])?;
        let plugin = site.wait_for("panicking-run", |plugin| plugin["restarts"].as_u64() >= Some(1))?;
        ensure!(plugin["reason"] == "its run panicked", "{plugin:#}");
        site.answers("/hostile", 500)?;
        let plugin = site.wait_for("panicking", |plugin| plugin["state"] == "restarting")?;
        ensure!(plugin["reason"] == "panicked: handle panics on purpose", "{plugin:#}");
        ensure!(plugin["next_try_s"].as_u64() <= Some(1), "{plugin:#}");
        site.answers("/hostile", 503)?;
        site.others_answer()?;
        let plugin = site.wait_for("panicking", |plugin| plugin["state"] == "running")?;
        ensure!(plugin["restarts"] == 1 && plugin["generation"] == 2, "{plugin:#}");
        // The new instance is a fresh one, and the next wait is longer.
        site.answers("/hostile", 500)?;
        let plugin = site.wait_for("panicking", |plugin| plugin["state"] == "restarting")?;
        ensure!(plugin["next_try_s"] == 2, "{plugin:#}");
        ensure!(site.metric("bootd_amount", "panicking", "restarts")? == Some(1));
        site.others_answer()
    });
}

#[test]
fn a_handler_and_a_resolve_that_hang_cost_their_own_callers_a_deadline_and_nobody_else() {
    in_rack(|| {
        let mut site = Site::with(&[("hanging", "hang-in-handle"), ("hanging-resolve", "hang-in-resolve")])?;
        // Both threads hang; whoever comes third waits in the queue for as long.
        let begun = Instant::now();
        let client = &site.client;
        std::thread::scope(|scope| -> Result<()> {
            let asked: Vec<_> = (0..3).map(|_| scope.spawn(|| client.get("/hostile"))).collect();
            site.socket.send(&wire::message(DISCOVER, wire::xid(), STRANGER, &[]))?;
            while asked.iter().any(|asked| !asked.is_finished()) {
                dhcp(&site.socket)?;
            }
            for asked in asked {
                let (status, text) = asked.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
                ensure!(status == 504, "{status} {text}");
            }
            Ok(())
        })?;
        ensure!(
            begun.elapsed() < Duration::from_secs(4),
            "a deadline of 1 s took {:?}",
            begun.elapsed()
        );
        site.others_answer()?;
        for name in ["hanging", "hanging-resolve"] {
            let plugin = site.wait_for(name, |plugin| plugin["restarts"].as_u64() >= Some(1))?;
            ensure!(
                plugin["reason"]
                    .as_str()
                    .is_some_and(|said| said.contains("its calls do not come back")),
                "{plugin:#}"
            );
            // The old instance never comes back; it is said, and counted.
            let plugin = site.wait_for(name, |plugin| plugin["left_behind"] == 1)?;
            ensure!(plugin["state"] == "degraded" && plugin["generation"] == 2, "{plugin:#}");
        }
        // A stranger is answered all the same, as one that nobody knows.
        site.socket.discover([0x52, 0x54, 0, 0xbe, 0xef, 0x78], PATIENCE)?;
        site.others_answer()
    });
}

#[test]
fn a_publisher_of_garbage_is_told_row_by_row_and_changes_nothing() {
    in_rack(|| {
        let mut site = Site::with(&[("garbage", "publish-garbage")])?;
        let plugin = site.wait_for("garbage", |plugin| plugin["text"] != "")?;
        let said = plugin["text"].as_str().unwrap_or_default();
        ensure!(said.starts_with("0 of 12 rows accepted, 12 refused"), "{plugin:#}");
        site.others_answer()
    });
}

#[test]
fn a_publisher_of_a_hundred_thousand_rows_delays_no_answer() {
    in_rack(|| {
        let mut site = Site::with(&[("many", "publish-many")])?;
        let plugin = site.meanwhile("many", |plugin| plugin["text"] != "")?;
        let said = plugin["text"].as_str().unwrap_or_default();
        ensure!(said.starts_with("100000 of 100000 rows accepted"), "{plugin:#}");
        println!("{said}");
        site.others_answer()
    });
}

#[test]
fn a_publisher_of_ten_thousand_rows_ten_times_a_second_delays_no_answer() {
    in_rack(|| {
        let mut site = Site::with(&[("often", "publish-often")])?;
        let plugin = site.meanwhile("often", |plugin| {
            let said = plugin["text"].as_str().unwrap_or_default();
            said.split_once(" publications")
                .and_then(|(n, _)| n.parse().ok())
                .unwrap_or(0)
                >= 5
        })?;
        println!("{}", plugin["text"]);
        ensure!(plugin["restarts"] == 0, "{plugin:#}");
        site.others_answer()
    });
}

#[test]
fn a_million_log_lines_cost_bounded_lines_and_delay_no_answer() {
    in_rack(|| {
        let mut site = Site::with(&[("logging", "log")])?;
        let plugin = site.meanwhile("logging", |plugin| {
            plugin["text"].as_str().unwrap_or("").starts_with("a million")
        })?;
        println!("{}", plugin["text"]);
        let log = fs::File::open(site.bootd.log())?;
        let lines = BufReader::new(log)
            .lines()
            .map_while(std::io::Result::ok)
            .filter(|line| line.contains("of a million"));
        let lines = lines.count();
        ensure!((100..50_000).contains(&lines), "{lines} lines");
        eventually_true(PATIENCE, "what was left out is said", || {
            let said = site
                .rack
                .journal
                .log(0, "refused", |fields| fields["reason"] == "log_lines");
            said.is_some_and(|fields| fields["peer"] == "logging")
        })?;
        site.others_answer()
    });
}

#[test]
fn buffers_that_are_leaked_ids_and_contexts_that_name_nothing_and_arguments_that_are_none() {
    in_rack(|| {
        let mut site = Site::new(|rack| {
            let file = build_c("tests/hostile/raw.c", &[], rack.path("raw.so"))?;
            Ok(vec![entry("raw", &file, "")])
        })?;
        site.says("/raw/leak", "leaked")?;
        site.says("/raw/arguments", "6 of 6 refused")?;
        // Ids of an instance that has ended, of which the second one here still knows.
        let reloaded = site.bootd.reload(&["raw"])?;
        ensure!(
            reloaded.status.success(),
            "{}",
            String::from_utf8_lossy(&reloaded.stderr)
        );
        site.says("/raw/ids", "7 of 7 refused")?;
        eventually_true(
            PATIENCE,
            "the first instance has ended, and all its calls are refused",
            || site.says("/raw/contexts", "7 of 7 refused").is_ok(),
        )?;
        ensure!(site.metric("bootd_refused_total", "plugins", "stale_id")? >= Some(6));
        let counted = site
            .bootd
            .metrics()?
            .contains("bootd_plugin_events_total{plugin=\"raw\",name=\"counted\"} 1");
        ensure!(counted, "the good id counts once");
        ensure!(
            site.bootd.plugin("raw")?["text"] == "",
            "invented contexts say nothing of its health"
        );
        site.others_answer()
    });
}

#[test]
fn answers_that_are_none_are_errors_of_their_own_request() {
    in_rack(|| {
        let mut site = Site::new(|rack| {
            let file = build_c("tests/hostile/raw.c", &[], rack.path("raw.so"))?;
            Ok(vec![
                entry("raw", &file, ""),
                entry("nonsense", &hostile()?, "behaviour = \"nonsense\""),
            ])
        })?;
        for path in [
            "no-json",
            "nothing",
            "null-with-length",
            "deep",
            "huge",
            "status",
            "none",
        ] {
            site.answers(&format!("/raw/{path}"), 500)?;
            dhcp(&site.socket)?;
        }
        for path in ["status-0", "status-99", "status-65535", "huge"] {
            site.answers(&format!("/hostile/{path}"), 500)?;
            dhcp(&site.socket)?;
        }
        // A header that is none is left out; one that would end the head early is no header.
        for path in ["header-name", "header-value", "header-length"] {
            let (status, text) = site.client.http(&format!("GET /hostile/{path} HTTP/1.0\r\n\r\n"))?;
            ensure!(
                status == 200 && (text.is_empty() || text == "short\n"),
                "{path}: {status} {text:?}"
            );
        }
        site.answers("/raw/no-text", 200)?;
        site.answers("/raw/good", 200)?;
        site.answers("/hostile/good", 200)?;
        for name in ["raw", "nonsense"] {
            let plugin = site.bootd.plugin(name)?;
            ensure!(plugin["state"] == "running" && plugin["restarts"] == 0, "{plugin:#}");
        }
        ensure!(site.metric("bootd_refused_total", "plugins", "nonsense")? >= Some(8));
        site.others_answer()
    });
}

#[test]
fn a_thread_that_outlives_its_instance_publishes_nothing_any_more() {
    in_rack(|| {
        let mut site = Site::with(&[("outliving", "outlive")])?;
        site.wait_for("outliving", |plugin| {
            plugin["text"].as_str().unwrap_or("").starts_with("instance 1: Ok")
        })?;
        let reloaded = site.bootd.reload(&["outliving"])?;
        ensure!(
            reloaded.status.success(),
            "{}",
            String::from_utf8_lossy(&reloaded.stderr)
        );
        let plugin = site.wait_for("outliving", |plugin| {
            let said = plugin["text"].as_str().unwrap_or("");
            said.starts_with("instance 2: Ok") && !said.contains("refused 0 times")
        })?;
        ensure!(plugin["generation"] == 2 && plugin["left_behind"] == 0, "{plugin:#}");
        let nodes = site.command(&["nodes", "--json"])?;
        ensure!(
            nodes.contains("x3000c0s0b0n2") && !nodes.contains("x3000c0s0b0n1"),
            "{nodes}"
        );
        site.others_answer()
    });
}

#[test]
fn a_start_that_fails_after_it_published_changes_nothing() {
    in_rack(|| {
        let mut site = Site::with(&[("late", "fail-second-start")])?;
        let before = site.command(&["nodes", "--json"])?;
        ensure!(before.contains("\"plugin\": \"late\""), "{before}");
        let reloaded = site.bootd.reload(&["late"])?;
        ensure!(!reloaded.status.success(), "the reload succeeded");
        ensure!(site.command(&["nodes", "--json"])? == before);
        let plugin = site.wait_for("late", |plugin| plugin["reason"].is_string())?;
        ensure!(plugin["state"] == "running" && plugin["generation"] == 1, "{plugin:#}");
        site.others_answer()
    });
}

#[test]
fn a_request_under_way_is_answered_by_the_instance_that_is_replaced_meanwhile() {
    in_rack(|| {
        let mut site = Site::with(&[("sleeping", "sleep-in-handle")])?;
        let (status, said) = std::thread::scope(|scope| {
            let client = &site.client;
            let asked = scope.spawn(|| client.get("/hostile"));
            // It is asked by now, or a moment later, which is as good.
            for _ in 0..3 {
                let reloaded = site.bootd.reload(&["sleeping"])?;
                ensure!(reloaded.status.success());
            }
            asked.join().map_err(|_| anyhow::anyhow!("the client panicked"))?
        })?;
        ensure!(status == 200 && said == "slept\n", "{status} {said}");
        site.others_answer()
    });
}

#[test]
fn a_reload_of_a_plugin_whose_instances_all_hang_is_answered() {
    in_rack(|| {
        let mut site = Site::with(&[("stubborn", "run-hangs")])?;
        // One that is replaced before it came to hang ends as it should.
        eventually(PATIENCE, "four instances hang", || {
            site.bootd.reload(&["stubborn"]).ok()?;
            let plugin = site.bootd.plugin("stubborn").ok()?;
            (plugin["left_behind"].as_u64() >= Some(4)).then_some(())
        })?;
        let reloaded = site.bootd.reload(&["stubborn"])?;
        let said = String::from_utf8_lossy(&reloaded.stderr).into_owned();
        ensure!(!reloaded.status.success() && said.contains("hang"), "{said}");
        site.others_answer()
    });
}

#[test]
fn a_plugin_file_that_is_swapped_all_the_time_is_loaded_whole_or_not_at_all() {
    in_rack(|| {
        let path = std::cell::OnceCell::new();
        let mut site = Site::new(|rack| {
            let file = rack.path("swapped.so");
            fs::copy(hostile()?, &file)?;
            let entry = entry("swapped", &file, "behaviour = \"good\"");
            let _ = path.set(file);
            Ok(vec![entry])
        })?;
        let path = path.get().context("path")?;
        let mut whole = fs::read(path)?;
        let mut other = fs::read(hostile()?.with_file_name("libbootd_smd.so"))?;
        let longest = whole.len().max(other.len());
        other.resize(longest, 0);
        whole.resize(longest, 0);
        let (done, swaps) = (AtomicBool::new(false), AtomicU32::new(0));
        std::thread::scope(|scope| -> Result<()> {
            scope.spawn(|| {
                // In place and by renaming: half of it, another plugin of the same length, and whole.
                let aside = path.with_extension("new");
                while !done.load(Ordering::Acquire) {
                    for bytes in [&whole[..whole.len() / 2], &other[..], &whole[..]] {
                        let _ = fs::write(path, bytes);
                        let _ = fs::write(&aside, bytes).and_then(|()| fs::rename(&aside, path));
                        swaps.fetch_add(2, Ordering::AcqRel);
                    }
                }
            });
            let result = (0..200).try_for_each(|_| {
                // Whether it succeeds is a matter of luck; bootd goes on either way.
                site.bootd.reload(&["swapped"])?;
                dhcp(&site.socket).map(drop)
            });
            done.store(true, Ordering::Release);
            result
        })?;
        println!("{} swaps", swaps.load(Ordering::Acquire));
        site.wait_for("swapped", |plugin| {
            plugin["state"] == "running" || plugin["state"] == "degraded"
        })?;
        fs::write(path, &whole)?;
        ensure!(site.bootd.reload(&["swapped"])?.status.success());
        site.answers("/hostile", 200)?;
        site.others_answer()
    });
}

#[test]
fn a_script_that_bss_served_once_is_served_while_bss_hangs() {
    in_rack(|| served_once("script-then-hang", "its calls do not come back"));
}

#[test]
fn a_script_that_bss_served_once_is_served_while_bss_panics() {
    in_rack(|| served_once("script-then-panic", "panicked: the second script panics on purpose"));
}

/// A stand-in for bss that serves one script and then does its worst: the node that had it gets it again, all the time.
fn served_once(behaviour: &str, reason: &str) -> Result<()> {
    let rack = Rack::new()?;
    let bss =
        "name = \"bss\"\nconfig.boot = [\"{dir}/boot-compute.yaml\"]".replace("{dir}", &rack.dir.display().to_string());
    let config = rack.config();
    ensure!(config.contains(&bss), "the rack's configuration has no bss:\n{config}");
    let stand_in = format!(
        "name = \"bss\"\nfile = \"{}\"\nconfig.behaviour = \"{behaviour}\"",
        hostile()?.display()
    );
    rack.write("bootd.toml", &impatient(&config.replace(&bss, &stand_in)))?;
    let client = Client::plug(&rack)?;
    client.ip("addr add 172.16.0.1/24 dev cable0")?;
    let socket = client.dhcp_socket()?;
    let mut bootd = rack.start_bootd()?;
    const SCRIPT: &str = "/boot/v1/bootscript?mac=52:54:00:be:ef:01";
    let (status, text) = client.get(SCRIPT)?;
    ensure!(status == 200 && text == "#!ipxe\necho kept\n", "{status} {text}");
    // Everything that answers are kept for changes, so bss is asked anew, and does its worst.
    rack.write("nodes.yaml", &bootd_tests::data::NODES.replace("compute2", "renamed"))?;
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < PATIENCE {
        let asked = Instant::now();
        let (status, text) = client.get(SCRIPT)?;
        slowest = slowest.max(asked.elapsed());
        ensure!(
            status == 200 && text == "#!ipxe\necho kept\n",
            "after {:?}: {status} {text}",
            begun.elapsed()
        );
        // Another client, without a kept answer, makes the second thread hang.
        let _ = client.get("/boot/v1/bootscript?mac=52:54:00:be:ef:02")?;
        dhcp(&socket)?;
        let plugin = bootd.plugin("bss")?;
        if plugin["restarts"].as_u64() >= Some(1) {
            ensure!(
                plugin["reason"].as_str().is_some_and(|said| said.contains(reason)),
                "{plugin:#}"
            );
            println!("served through it; the slowest after {slowest:?}");
            ensure!(slowest < Duration::from_secs(3), "{slowest:?}");
            return bootd.must_run();
        }
    }
    anyhow::bail!("bss was not started again: {:#}", bootd.plugin("bss")?)
}

/// A rack with hostile plugins before the ordinary ones, and a client on its cable with the address of the first node.
struct Site {
    rack: Rack,
    client: Client,
    socket: DhcpSocket,
    bootd: Bootd,
    asked: u32,
}

impl Site {
    /// With these entries of `bootd.toml`.
    fn new(entries: impl FnOnce(&Rack) -> Result<Vec<String>>) -> Result<Self> {
        let rack = Rack::new()?;
        let config = impatient(&rack.config());
        let (before, after) = config
            .split_once("[[plugin]]")
            .context("plugins in the rack's configuration")?;
        let entries = entries(&rack)?.concat();
        rack.write("bootd.toml", &format!("{before}{entries}[[plugin]]{after}"))?;
        let client = Client::plug(&rack)?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        let (socket, bootd) = (client.dhcp_socket()?, rack.start_bootd()?);
        // On a busy machine smd is not through with its file yet, and who is not known yet waits for all plugins.
        socket.lease(NODE_1, PATIENCE)?;
        Ok(Self {
            socket,
            bootd,
            client,
            rack,
            asked: 0,
        })
    }

    /// With the plugin of `tests/hostile` under these names, behaving so.
    fn with(plugins: &[(&str, &str)]) -> Result<Self> {
        Self::new(|_| {
            let entry = |(name, behaviour): &(&str, &str)| {
                Ok(entry(name, &hostile()?, &format!("behaviour = \"{behaviour}\"")))
            };
            plugins.iter().map(entry).collect()
        })
    }

    /// Everybody else's answers: DHCP, TFTP, and the routes of bss, cloud-init and smd, none of them from memory.
    fn others_answer(&mut self) -> Result<()> {
        let slowest = (0..10)
            .map(|_| dhcp(&self.socket))
            .try_fold(Duration::ZERO, |slow, took| Ok::<_, anyhow::Error>(slow.max(took?)))?;
        let begun = Instant::now();
        let script = self.client.tftp("config.ipxe")?;
        ensure!(script.starts_with(b"#!ipxe"), "TFTP gave {} bytes", script.len());
        self.asked += 1;
        for (path, part) in [
            ("/boot/v1/bootscript?mac=52:54:00:be:ef:01", "vmlinuz"),
            ("/cloud-init/meta-data?", "nid001"),
            // One node: a list of all is as long as the inventory, and so takes its time.
            ("/hsm/v2/State/Components/x1000c0s0b0n0?", "x1000c0s0b0n0"),
        ] {
            let (status, text) = self.client.get(&format!("{path}&asked={}", self.asked))?;
            ensure!(status == 200 && text.contains(part), "{path}: {status} {text}");
        }
        println!(
            "slowest DHCP exchange {slowest:?}; TFTP and three routes {:?}",
            begun.elapsed()
        );
        ensure!(
            begun.elapsed() < 3 * SLOW,
            "TFTP and three routes took {:?}",
            begun.elapsed()
        );
        self.bootd.must_run()
    }

    /// Asks everybody else over and over until the plugin's status is so.
    fn meanwhile(&mut self, name: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let begun = Instant::now();
        loop {
            self.others_answer()
                .with_context(|| format!("while {name} does its worst"))?;
            let plugin = self.bootd.plugin(name)?;
            if is_so(&plugin) {
                return Ok(plugin);
            }
            ensure!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {plugin:#}");
        }
    }

    /// The plugin's status, when it is so.
    fn wait_for(&self, name: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let found = eventually(PATIENCE, "the plugin's status", || {
            last = self.bootd.plugin(name).ok()?;
            is_so(&last).then(|| last.clone())
        });
        found.with_context(|| format!("{last:#}"))
    }

    fn answers(&self, path: &str, expected: u16) -> Result<()> {
        let (status, text) = self.client.get(path)?;
        ensure!(
            status == expected,
            "{path}: {status} {}",
            text.get(..300).unwrap_or(&text)
        );
        Ok(())
    }

    fn says(&self, path: &str, expected: &str) -> Result<()> {
        let (status, text) = self.client.get(path)?;
        ensure!(status == 200 && text.trim() == expected, "{path}: {status} {text}");
        Ok(())
    }

    /// A verb of bootd that asks this one.
    fn command(&self, words: &[&str]) -> Result<String> {
        let config = self.rack.path("bootd.toml").display().to_string();
        let output = bootd_tests::server::command(&[words, &["--config", &config]].concat())?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn metric(&self, family: &str, part: &str, what: &str) -> Result<Option<i64>> {
        let text = self.bootd.metrics()?;
        let start = format!("{family}{{part=\"{part}\",what=\"{what}\"}} ");
        Ok(text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()))
    }
}

/// The first node's whole exchange of four messages, in time: how long it took.
fn dhcp(socket: &DhcpSocket) -> Result<Duration> {
    let begun = Instant::now();
    let reply = socket.lease(NODE_1, PATIENCE)?;
    let took = begun.elapsed();
    ensure!(
        reply.yiaddr.octets() == [172, 16, 0, 1],
        "the first node got {}",
        reply.yiaddr
    );
    ensure!(took < SLOW, "the first node got its address after {took:?}");
    Ok(took)
}

/// An entry of `bootd.toml`.
fn entry(name: &str, file: &Path, config: &str) -> String {
    format!(
        "[[plugin]]\nname = \"{name}\"\nfile = \"{}\"\nconfig = {{ {config} }}\n\n",
        file.display()
    )
}

fn table(rack: &Rack, case: u8) -> Result<PathBuf> {
    build_c(
        "tests/hostile/tables.c",
        &[&format!("-DCASE={case}")],
        rack.path(&format!("table-{case}.so")),
    )
}

/// A plugin has a second for an answer, and one client may ask as often as it can.
fn impatient(config: &str) -> String {
    config.replacen("[dhcp]\n", "[dhcp]\nrate_limit = 0\n", 1).replacen(
        "[[http.listener]]",
        "[http]\nplugin_deadline = \"1s\"\n[[http.listener]]",
        1,
    )
}
