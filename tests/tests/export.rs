//! What `bootd export` prints is all that a bootd keeps: another one that imports it serves the same.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::wire::Client;
use bootd_tests::{Rack, data, server};

/// What a node of the seed gets, and an operator sees.
const SEEN: [&str; 6] = [
    "/hsm/v2/State/Components",
    "/hsm/v2/Inventory/EthernetInterfaces",
    "/boot/v1/bootscript?mac=52:54:00:be:ef:01",
    "/boot/v1/bootparameters",
    "/cloud-init/meta-data",
    "/cloud-init/compute.yaml",
];

#[test]
fn an_export_fills_an_empty_bootd_and_comes_out_of_it_the_same() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let client = Client::plug(&rack)?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        let before = seen(&client)?;
        let exported = rack.path("backup.yaml");
        std::fs::write(&exported, run(&rack, &["export"])?.stdout)?;
        bootd.stop(std::time::Duration::from_secs(10))?;

        std::fs::remove_dir_all(rack.path("state"))?;
        rack.write("bootd.toml", &without_files(&rack.config()))?;
        bootd.start_again()?;
        let (status, _) = client.get("/cloud-init/meta-data")?;
        ensure!(status == 422, "nobody is a node yet, and it says {status}");

        run(&rack, &["import", text(&exported)?])?;
        let after = seen(&client)?;
        for ((path, before), after) in SEEN.iter().zip(&before).zip(&after) {
            ensure!(
                without_times(before) == without_times(after),
                "{path}\n{before}\n---\n{after}"
            );
        }
        let again = run(&rack, &["export"])?.stdout;
        let (first, again) = (std::fs::read_to_string(&exported)?, String::from_utf8(again)?);
        ensure!(first == again, "{first}\n---\n{again}");
        bootd.must_run()
    });
}

#[test]
fn an_import_with_mistakes_is_refused_whole_with_its_reason_and_changes_nothing() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let before = run(&rack, &["export"])?.stdout;
        let wrong = rack.write("wrong.yaml", &data::NODES.replace("x1000c0s0b3n0", "x1000c0s0banana"))?;
        let refused = bootd_at(&rack, &["import", "--plugin", "smd", text(&wrong)?])?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(
            refused.status.code() == Some(64) && said.contains("banana"),
            "{} {said}",
            refused.status
        );
        let nobody = bootd_at(&rack, &["import", "--plugin", "nobody", text(&wrong)?])?;
        ensure!(nobody.status.code() == Some(64), "{}", nobody.status);
        let unlabelled = bootd_at(&rack, &["import", text(&wrong)?])?;
        let said = String::from_utf8_lossy(&unlabelled.stderr).into_owned();
        ensure!(
            unlabelled.status.code() == Some(64) && said.contains("--plugin"),
            "{} {said}",
            unlabelled.status
        );
        ensure!(run(&rack, &["export"])?.stdout == before, "something changed");
        bootd.must_run()
    });
}

fn seen(client: &Client) -> Result<Vec<String>> {
    SEEN.iter()
        .map(|path| {
            let (status, said) = client.get(path)?;
            ensure!(status == 200, "{path}: {status} {said}");
            Ok(said)
        })
        .collect()
}

/// Rows that the API wrote have the time of their last change.
fn without_times(text: &str) -> String {
    let mut parts = text.split("\"LastUpdate\":\"");
    let first = parts.next().unwrap_or_default();
    let rest = parts.map(|part| part.split_once("\",").map_or("", |(_, rest)| rest));
    std::iter::once(first).chain(rest).collect()
}

/// The configuration without data files.
fn without_files(config: &str) -> String {
    let lines = config.lines().filter(|line| !line.starts_with("config."));
    lines.map(|line| format!("{line}\n")).collect()
}

fn run(rack: &Rack, args: &[&str]) -> Result<Output> {
    let output = bootd_at(rack, args)?;
    ensure!(
        output.status.success(),
        "bootd {}: {} {}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

fn bootd_at(rack: &Rack, args: &[&str]) -> Result<Output> {
    Command::new(server::binary()?)
        .args(args)
        .arg("--config")
        .arg(rack.path("bootd.toml"))
        .stdin(Stdio::null())
        .output()
        .context("start bootd")
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is UTF-8")
}
