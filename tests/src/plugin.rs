//! Plugins that the tests build or bring: those in C, with the header that is checked in, and the hostile one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::server;

/// Builds a plugin of one C file, named from the root of the source tree, and gives the shared object's path.
pub fn build_c(source: &str, flags: &[&str], to: PathBuf) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("root of the source")?;
    let output = Command::new("cc")
        .args([
            "-std=c11",
            "-D_GNU_SOURCE",
            "-O1",
            "-g",
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Werror",
        ])
        .args(["-fPIC", "-shared", "-I"])
        .arg(root.join("plugins/abi/include"))
        .args(flags)
        .arg("-o")
        .arg(&to)
        .arg(root.join(source))
        .output()
        .context("no C compiler: tests/install test")?;
    ensure!(
        output.status.success(),
        "cc {source}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(to)
}

/// The plugin of `tests/hostile`, a release build as bootd itself.
pub fn hostile() -> Result<PathBuf> {
    let file = server::binary()?.with_file_name("libhostile.so");
    ensure!(
        file.exists(),
        "{} is not there; run: cargo build --release --workspace",
        file.display()
    );
    Ok(file)
}

/// The symbols that a shared object exports.
pub fn exports(file: &Path) -> Result<Vec<String>> {
    let output = Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(file)
        .output()
        .context("start nm")?;
    ensure!(
        output.status.success(),
        "nm: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .lines()
        .filter_map(|line| Some(line.split_whitespace().nth(2)?.to_owned()))
        .collect())
}
