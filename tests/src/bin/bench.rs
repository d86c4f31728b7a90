//! `bench`: runs the benches by name, or all of them, in a network namespace, and prints their reports.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a command prints is its purpose"
)]

use std::process::ExitCode;

use anyhow::Result;
use bootd_tests::{bench, namespace};

type Bench = fn() -> Result<String>;

/// All benches.
const BENCHES: [(&str, Bench); 2] = [("script", bench::script::run), ("process", bench::process::run)];

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    if let Some(name) = names.iter().find(|name| BENCHES.iter().all(|bench| bench.0 != **name)) {
        let all = BENCHES.map(|(name, _)| name).join(" ");
        eprintln!("bench: there is no '{name}'; there is: {all}");
        return ExitCode::from(64);
    }
    match run(&names) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(names: &[String]) -> Result<()> {
    let mut wanted = BENCHES
        .iter()
        .filter(|(name, _)| names.is_empty() || names.iter().any(|n| n == name));
    // Each in a namespace of its own, so that none finds what another left.
    if !namespace::inside() {
        for (name, _) in wanted {
            namespace::again_with(&[name])?;
        }
        return Ok(());
    }
    wanted.try_for_each(|(name, bench)| {
        println!("== {name}\n{}", bench()?);
        Ok(())
    })
}
