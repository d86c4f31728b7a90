//! Plugins are replaced while they are asked: by the operator's word, and by another file in the place of theirs.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::server::{self, Bootd};
use bootd_tests::wire::Client;
use bootd_tests::{Rack, eventually_true};
use serde_json::Value;

const PLUGINS: [&str; 3] = ["smd", "bss", "cloud-init"];
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn every_plugin_is_reloaded_a_hundred_times_under_load_and_nothing_is_refused_or_grows() {
    in_rack(|| {
        let rack = Rack::new()?;
        let client = Client::plug(&rack)?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        let mut bootd = rack.start_bootd()?;
        let (answers, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let sizes = std::thread::scope(|scope| {
            let load = scope.spawn(|| -> Result<()> {
                while !over.load(Ordering::Relaxed) {
                    // Each question is a new one, so no kept answer serves it.
                    let n = answers.fetch_add(1, Ordering::Relaxed);
                    for path in [
                        format!("/boot/v1/bootscript?mac=52:54:00:be:ef:01&retry={n}"),
                        format!("/cloud-init/meta-data?n={n}"),
                        format!("/hsm/v2/State/Components/x1000c0s0b0n0?n={n}"),
                    ] {
                        let (status, text) = client.get(&path)?;
                        ensure!(status == 200, "{path}: {status} {text}");
                    }
                    let (status, text) = client.http(
                        "POST /cloud-init/phone-home/x1000c0s0b0n0 HTTP/1.1\r\nhost: b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                    )?;
                    ensure!(status < 500, "phone-home: {status} {text}");
                }
                Ok(())
            });
            let reloads = || -> Result<(Size, Size)> {
                let mut early = None;
                for n in 0..100 {
                    // Each reload falls among requests.
                    eventually_true(PATIENCE, "load between two reloads", || {
                        load.is_finished() || answers.load(Ordering::Relaxed) > 2 * n
                    })?;
                    for reloaded in reload(&rack)? {
                        ensure!(reloaded["error"].is_null(), "{reloaded}");
                    }
                    if n == 30 {
                        early = Some(size(bootd.id())?);
                    }
                }
                // Instances end a moment after they were replaced.
                let before = early.context("it was noted")?;
                let mut after = size(bootd.id())?;
                let _ = eventually_true(PATIENCE, "threads end", || {
                    after = size(bootd.id()).unwrap_or(after);
                    after.threads <= before.threads + 3
                });
                Ok((before, after))
            };
            let sizes = reloads();
            over.store(true, Ordering::Relaxed);
            load.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
            sizes
        });
        let (before, after) = sizes?;
        let status = plugins(&rack)?;
        for plugin in &status {
            ensure!(plugin["generation"] == 101 && plugin["restarts"] == 0, "{plugin}");
            ensure!(plugin["left_behind"] == 0 && plugin["state"] == "running", "{plugin}");
        }
        ensure!(answers.load(Ordering::Relaxed) > 100, "hardly any load");
        ensure!(after.threads <= before.threads + 3, "threads: {before:?}, {after:?}");
        ensure!(
            after.descriptors <= before.descriptors + 8,
            "descriptors: {before:?}, {after:?}"
        );
        ensure!(
            after.resident_kib <= before.resident_kib + 8 * 1024,
            "memory: {before:?}, {after:?}"
        );
        bootd.must_run()
    });
}

#[test]
fn another_file_in_a_plugins_place_takes_over_and_a_bad_one_does_not() {
    in_rack(|| {
        let rack = Rack::new()?;
        let client = Client::plug(&rack)?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        let folder = rack.path("own");
        fs::create_dir(&folder)?;
        let binary = server::binary()?;
        let beside = binary.parent().context("folder of bootd")?;
        for name in ["bootd", "libbootd_smd.so", "libbootd_bss.so", "libbootd_cloud_init.so"] {
            fs::copy(beside.join(name), folder.join(name)).with_context(|| name.to_owned())?;
        }
        let mut bootd = Bootd::start(
            &folder.join("bootd"),
            &rack.path("bootd.toml"),
            &rack.dir,
            &rack.journal,
        )?;
        let file = folder.join("libbootd_bss.so");
        let whole = fs::read(&file)?;
        let bss = || plugins(&rack).ok()?.into_iter().find(|plugin| plugin["name"] == "bss");
        let script = || client.get("/boot/v1/bootscript?mac=52:54:00:be:ef:01");
        ensure!(script()?.0 == 200);

        put(&file, &[&whole[..], b"1"].concat())?;
        eventually_true(PATIENCE, "the new file is in service", || {
            bss().is_some_and(|bss| bss["generation"] == 2)
        })?;
        ensure!(script()?.0 == 200);

        put(&file, &whole[..whole.len() / 2])?;
        eventually_true(PATIENCE, "the bad file is named", || {
            bss().is_some_and(|bss| bss["reason"].as_str().is_some_and(|reason| reason.contains("cut off")))
        })?;
        let status = bss().context("bss")?;
        ensure!(status["state"] == "running" && status["generation"] == 2, "{status}");
        ensure!(script()?.0 == 200);

        put(&file, &[&whole[..], b"2"].concat())?;
        eventually_true(PATIENCE, "the mended file is in service", || {
            bss().is_some_and(|bss| bss["generation"] == 3)
        })?;
        ensure!(script()?.0 == 200);
        bootd.must_run()
    });
}

/// Puts a file in the place of another, as a package manager does.
fn put(file: &Path, bytes: &[u8]) -> Result<()> {
    let aside = file.with_extension("new");
    let mut new = fs::File::create(&aside)?;
    new.write_all(bytes)?;
    fs::set_permissions(&aside, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    fs::rename(&aside, file).context("rename")
}

fn reload(rack: &Rack) -> Result<Vec<Value>> {
    let config = rack.path("bootd.toml").display().to_string();
    let words = [&["reload", "--json", "--config", &config][..], &PLUGINS].concat();
    let output = server::command(&words)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("what reload says")
}

fn plugins(rack: &Rack) -> Result<Vec<Value>> {
    let config = rack.path("bootd.toml").display().to_string();
    let output = server::command(&["plugins", "--json", "--config", &config])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("what plugins says")
}

/// What a process takes.
#[derive(Debug, Clone, Copy)]
struct Size {
    resident_kib: u64,
    threads: u64,
    descriptors: usize,
}

fn size(pid: u32) -> Result<Size> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let number = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.with_context(|| key.to_owned())
    };
    Ok(Size {
        resident_kib: number("VmRSS:")?,
        threads: number("Threads:")?,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
    })
}
