//! The fuzzer's corpus, as it is and with small changes: what was found stays found, without the fuzzer.
//!
//! `BOOTD_FUZZ_ROUNDS` says how many changed copies of each file are tried; `BOOTD_FUZZ_SEED` repeats a run.

#[path = "../fuzz/checks.rs"]
mod checks;
#[path = "../fuzz/tftp.rs"]
mod tftp;
#[path = "../fuzz/v6.rs"]
mod v6;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Result, bail, ensure};

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

#[test]
fn packets_of_ipv6_of_the_corpus_get_good_answers_or_none() -> Result<()> {
    replay("v6", v6::packets)
}

#[test]
fn conversations_by_tftp_of_the_corpus_get_the_files_bytes_and_end() -> Result<()> {
    replay("tftp", tftp::conversation)
}

fn replay(target: &str, check: fn(&[u8])) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries: Result<Vec<_>, _> = fs::read_dir(&folder)?.collect();
    let mut files: Vec<_> = entries?.iter().map(fs::DirEntry::path).collect();
    files.sort();
    let corpus: Result<Vec<Vec<u8>>, _> = files.iter().map(fs::read).collect();
    let corpus = corpus?;
    ensure!(!corpus.is_empty(), "{} is empty", folder.display());
    let mut random = Random(number("BOOTD_FUZZ_SEED", 4711) | 1);
    for (path, bytes) in files.iter().zip(&corpus) {
        attempt(target, path, bytes, check)?;
        for _ in 0..number("BOOTD_FUZZ_ROUNDS", 300) {
            let mut changed = bytes.clone();
            for _ in 0..=random.below(4) {
                random.change(&mut changed, &corpus);
            }
            attempt(target, path, &changed, check)?;
        }
    }
    Ok(())
}

fn attempt(target: &str, of: &Path, bytes: &[u8], check: fn(&[u8])) -> Result<()> {
    if catch_unwind(AssertUnwindSafe(|| check(bytes))).is_err() {
        let kept = std::env::temp_dir().join(format!("bootd-{target}-finding"));
        fs::write(&kept, bytes)?;
        bail!("a finding, near {}; its bytes are in {}", of.display(), kept.display());
    }
    Ok(())
}

fn number(variable: &str, usual: u64) -> u64 {
    let text = std::env::var(variable).unwrap_or_default();
    text.parse().unwrap_or(usual)
}

/// A small generator of numbers, never of zero.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }

    /// One small change.
    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let until = (at + self.below(16)).min(bytes.len());
        match self.below(5) {
            0 => drop(bytes.drain(at..until)),
            1 => bytes.insert(at, self.below(256) as u8),
            2 => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len() + 1);
                let to = (from + self.below(64)).min(other.len());
                drop(bytes.splice(at..until, other[from..to].iter().copied()));
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = [0, 1, 4, 255, *byte ^ 1, self.below(256) as u8][self.below(6)];
                }
            }
        }
    }
}
