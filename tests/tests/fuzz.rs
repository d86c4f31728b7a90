//! The fuzzer's corpus, once through: what it found stays found. The last file that is printed is the one that a failing check is about.
#![allow(clippy::print_stdout)]

#[path = "../fuzz/checks.rs"]
mod checks;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

#[test]
fn packets_of_the_corpus_get_good_answers_or_none() -> Result<()> {
    replay("dhcp4", checks::dhcp4)
}

#[test]
fn relay_options_of_the_corpus_come_back_as_they_were() -> Result<()> {
    replay("relay_options", checks::relay_options)
}

#[test]
fn files_of_the_corpus_are_refused_or_come_to_a_good_configuration() -> Result<()> {
    replay("coredhcp_yaml", checks::coredhcp_yaml)
}

fn replay(target: &str, check: fn(&[u8])) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut number = 0;
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        println!("{}", path.display());
        check(&fs::read(&path)?);
        number += 1;
    }
    ensure!(number > 0, "{} is empty", folder.display());
    Ok(())
}
