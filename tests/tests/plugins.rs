//! The files that the end-to-end tests run are those that this workspace builds: no plugin file beside bootd is stale.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bootd_tests::plugin::{build_c, exports, hostile};
use bootd_tests::server;
use serde_json::Value;

#[test]
fn no_plugin_file_beside_bootd_is_stale() -> Result<()> {
    let binary = server::binary()?;
    let folder = binary.parent().context("folder of bootd")?;
    let expected = plugin_files()?;
    ensure!(!expected.is_empty(), "the workspace builds no plugin");
    for name in plugin_files_in(folder)? {
        ensure!(
            expected.contains(&name),
            "{} belongs to no plugin of this workspace, yet bootd could load it: remove it",
            folder.join(&name).display()
        );
    }
    for name in expected.iter().map(String::as_str).chain(["bootd"]) {
        fresh(&folder.join(name))?;
    }
    Ok(())
}

#[test]
fn each_plugin_exports_one_symbol() -> Result<()> {
    let binary = server::binary()?;
    let folder = binary.parent().context("folder of bootd")?;
    for name in plugin_files()? {
        let exports = exports(&folder.join(&name))?;
        ensure!(exports == ["bootd_plugin_entry_v1"], "{name} exports {exports:?}");
    }
    Ok(())
}

#[test]
fn each_plugin_keeps_the_contract() -> Result<()> {
    let data = |name: &str| format!("{}/data/{name}", env!("CARGO_MANIFEST_DIR"));
    let binary = server::binary()?;
    let settings = [
        ("libbootd_smd.so", vec![format!("nodes={}", data("nodes.yaml"))]),
        (
            "libbootd_bss.so",
            vec![format!("boot=[\"{}\"]", data("boot-compute.yaml"))],
        ),
        (
            "libbootd_cloud_init.so",
            vec![
                format!("defaults={}", data("ci-defaults.yaml")),
                format!("groups=[\"{}\"]", data("ci-group-compute.yaml")),
            ],
        ),
        ("libhostile.so", vec!["behaviour=good".into()]),
    ];
    for (name, settings) in settings {
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let (code, said) = check(&binary.with_file_name(name), &settings)?;
        ensure!(code == Some(0) && said.contains("keeps the contract"), "{name}: {said}");
    }
    let example = build_c("plugins/example-c/example.c", &[], scratch("libbootd_example_c.so"))?;
    let (code, said) = check(
        &example,
        &["id=x1000c0s0b0n0", "mac=52:54:00:be:ef:01", "ip=172.16.0.1"],
    )?;
    ensure!(code == Some(0) && !said.contains("bad "), "{said}");
    Ok(())
}

#[test]
fn what_breaks_the_contract_is_named_by_the_check() -> Result<()> {
    let tables = |case: u8| {
        build_c(
            "tests/hostile/tables.c",
            &[&format!("-DCASE={case}")],
            scratch(&format!("t{case}.so")),
        )
    };
    let raw = build_c("tests/hostile/raw.c", &[], scratch("raw.so"))?;
    for (file, behaviour, bad) in [
        (tables(1)?, None, "bad   file: "),
        (tables(10)?, None, "bad   name: it is not UTF-8"),
        (tables(11)?, None, "bad   it crashed (signal 6)"),
        // It leaks what it is given, and takes what is no request.
        (raw, None, "bad   a request that is no JSON: OK instead of BAD_ARGUMENT"),
        (
            hostile()?,
            Some("panic-in-init"),
            "bad   init: PANICKED: panicked: init panics on purpose",
        ),
        (
            hostile()?,
            Some("fail-in-init"),
            "bad   init: FAILED: init fails on purpose",
        ),
        (hostile()?, Some("panic-in-handle"), "bad   GET /hostile: PANICKED"),
        (
            hostile()?,
            Some("hang-in-resolve"),
            "bad   a look-up of an unknown MAC: no answer within 1s",
        ),
        (
            hostile()?,
            Some("run-spins"),
            "run did not return within 2s of STOPPING",
        ),
    ] {
        let behaviour = behaviour.map(|behaviour| format!("behaviour={behaviour}"));
        let settings: Vec<&str> = behaviour.iter().map(String::as_str).collect();
        let (code, said) = check(&file, &settings)?;
        ensure!(code == Some(1) && said.contains(bad), "{bad} is not in:\n{said}");
    }
    Ok(())
}

/// `bootd plugins check`: its exit code, and what it says.
fn check(file: &Path, settings: &[&str]) -> Result<(Option<i32>, String)> {
    let file = file.display().to_string();
    let mut words = vec!["plugins", "check", &file];
    settings.iter().for_each(|setting| words.extend(["--set", setting]));
    let output = server::command(&words)?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
}

/// A file for this test program alone.
fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()))
}

/// The file is there, it is what cargo built, and none of its sources is newer.
fn fresh(file: &Path) -> Result<()> {
    const ADVICE: &str = "run: cargo build --release --workspace";
    let built = modified(file).with_context(|| format!("{}; {ADVICE}", file.display()))?;
    let in_deps = file.with_file_name("deps").join(file.file_name().context("file name")?);
    if in_deps.exists() {
        ensure!(
            fs::read(&in_deps)? == fs::read(file)?,
            "{} is not what cargo built; {ADVICE}",
            file.display()
        );
    }
    let rules = file.with_extension("d");
    let text = fs::read_to_string(&rules).with_context(|| format!("{}; {ADVICE}", rules.display()))?;
    for source in sources(&text) {
        // A source that is gone is a reason to build anew, too.
        let fresh = modified(&source).is_ok_and(|changed| changed <= built);
        ensure!(fresh, "{} is older than {}; {ADVICE}", file.display(), source.display());
    }
    Ok(())
}

/// The sources in cargo's dependency file, `target: source source`, where a space within a path has a backslash.
fn sources(text: &str) -> Vec<PathBuf> {
    let list = text
        .lines()
        .next()
        .and_then(|line| line.split_once(": "))
        .map_or("", |(_, list)| list);
    let list = list.replace("\\ ", "\0");
    list.split_whitespace()
        .map(|path| PathBuf::from(path.replace('\0', " ")))
        .collect()
}

fn modified(path: &Path) -> std::io::Result<std::time::SystemTime> {
    fs::metadata(path)?.modified()
}

/// The names of plugin files in a folder.
fn plugin_files_in(folder: &Path) -> Result<BTreeSet<String>> {
    let names = fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names
        .filter(|name| name.starts_with("libbootd_") && name.ends_with(".so"))
        .collect())
}

/// The names of the plugin files that this workspace builds: its shared objects for C callers.
fn plugin_files() -> Result<BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .output()
        .context("start cargo")?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let targets = packages
        .iter()
        .filter_map(|package| package["targets"].as_array())
        .flatten();
    let is_plugin = |target: &&Value| {
        let types = target["crate_types"].as_array().into_iter().flatten();
        let kinds = target["kind"].as_array().into_iter().flatten();
        types.into_iter().any(|kind| kind == "cdylib") && !kinds.into_iter().any(|kind| kind == "example")
    };
    let names = targets.filter(is_plugin).filter_map(|target| target["name"].as_str());
    Ok(names.map(|name| format!("lib{}.so", name.replace('-', "_"))).collect())
}
