//! The files that the end-to-end tests run are those that this workspace builds: no plugin file beside bootd is stale.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bootd_tests::plugin::exports;
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
