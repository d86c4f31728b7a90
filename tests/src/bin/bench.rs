//! `bench`: measures bootd and prints a table a measurement. `tests/bench` builds and installs what it needs.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a command prints is its purpose"
)]

#[path = "../bench/mod.rs"]
mod bench;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bench::{Options, Table};
use bootd_tests::namespace;

/// A measurement: its name, whether it makes a network, and what runs it.
type Measurement = (&'static str, Needs, fn(&Options) -> Result<String>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// A network namespace of its own.
    Network,
}

const ALL: &[Measurement] = &[
    ("dhcp", Needs::Network, |options| bench::dhcp::run(options)),
    ("dhcp-latency", Needs::Network, |options| {
        text(bench::dhcp::latency(options))
    }),
    ("dhcp6", Needs::Network, |options| text(bench::dhcp6::run(options))),
    ("dhcp-core", Needs::Nothing, |_| text(bench::dhcp_core::run())),
    ("publish", Needs::Nothing, |_| text(bench::publish::run())),
    ("tftp", Needs::Network, |options| bench::tftp::run(options)),
    ("perfdhcp", Needs::Network, |options| {
        text(bench::perfdhcp::run(options))
    }),
    ("bad-plugins", Needs::Network, |_| text(bench::bad_plugins::run())),
    ("script", Needs::Network, |_| bench::script::run()),
    ("meta-data", Needs::Network, |_| bench::meta_data::run()),
    ("upstream", Needs::Network, |_| bench::upstream::run()),
    ("discover", Needs::Network, |_| bench::discover::run()),
    ("process", Needs::Network, |_| bench::process::run()),
    ("instructions", Needs::Network, |options| {
        text(bench::instructions::run(options))
    }),
    ("cache", Needs::Network, |options| bench::cache::run(options)),
];

const USAGE: &str = "usage: bench [--list] [--short] [--in-flight N] [--rate N] [--rounds N] [--object MB] [--with-so FILE]... [NAME...]
  --short          dhcp, dhcp6, dhcp-latency, tftp, cache, instructions: one short run of each server, to see that it works
  --in-flight N    dhcp, dhcp6: so many exchanges in flight
  --rate N         dhcp-latency: so many exchanges begun a second
  --rounds N       cache: so many runs of each server by turns
  --object MB      cache: so large is the large object that everybody has; 1400
  --with-so FILE   load this plugin too where bootd itself runs, to see what it costs the others";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((options, names)) = read(&args) else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    if names.iter().any(|name| name == "--list") {
        ALL.iter().for_each(|(name, ..)| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<&Measurement> = ALL
        .iter()
        .filter(|(name, ..)| names.is_empty() || names.iter().any(|wanted| wanted == name))
        .collect();
    let mut code = ExitCode::SUCCESS;
    for (name, needs, run) in chosen {
        // Each in a namespace of its own, so that none finds what another left.
        let done = if *needs == Needs::Network && !namespace::inside() {
            again(&options, name).map(|()| String::new())
        } else {
            run(&options)
        };
        match done {
            Ok(table) => println!("{table}"),
            Err(error) => {
                eprintln!("bench: {name}: {error:?}\n");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

fn text(table: Result<Table>) -> Result<String> {
    Ok(table?.to_string())
}

fn again(options: &Options, name: &str) -> Result<()> {
    let files: Vec<String> = options.with_so.iter().map(|file| file.display().to_string()).collect();
    let mut words: Vec<&str> = files.iter().flat_map(|file| ["--with-so", file]).collect();
    words.extend(options.short.then_some("--short"));
    let in_flight = options.in_flight.map(|number| number.to_string());
    words.extend(in_flight.iter().flat_map(|number| ["--in-flight", number]));
    let rate = options.rate.map(|number| number.to_string());
    words.extend(rate.iter().flat_map(|number| ["--rate", number]));
    let rounds = options.rounds.map(|number| number.to_string());
    words.extend(rounds.iter().flat_map(|number| ["--rounds", number]));
    let object = options.object.map(|number| number.to_string());
    words.extend(object.iter().flat_map(|number| ["--object", number]));
    words.push(name);
    namespace::again_with(&words)
}

/// Options and names; `None` when there is no such thing.
fn read(args: &[String]) -> Option<(Options, Vec<String>)> {
    let (mut options, mut names) = (Options::default(), Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--with-so" => options.with_so.push(PathBuf::from(args.next()?)),
            "--short" => options.short = true,
            "--in-flight" => options.in_flight = Some(args.next()?.parse().ok()?),
            "--rate" => options.rate = Some(args.next()?.parse().ok()?),
            "--rounds" => options.rounds = Some(args.next()?.parse().ok().filter(|rounds| *rounds > 0)?),
            "--object" => options.object = Some(args.next()?.parse().ok().filter(|size| *size > 0)?),
            "--list" => names.push(arg.clone()),
            name if ALL.iter().any(|(of, ..)| *of == name) => names.push(arg.clone()),
            _ => return None,
        }
    }
    Some((options, names))
}
