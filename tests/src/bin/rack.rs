//! `rack`: boots virtual nodes from power-on to their login prompt and shows each step as it happens.
//!
//! `rack demo` does it through bootd, `rack compare` through bootd and through dnsmasq and nginx in turn. Both start
//! themselves again inside a network namespace. `tests/demo` installs and builds what they need.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a command prints is its purpose"
)]

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bootd_tests::peer::Peer;
use bootd_tests::{BOOT_LIMIT, Bootd, Node, Rack, Step, Timeline, namespace, server};

const USAGE: &str = "usage: rack demo [--nodes N] [--keep]    boot N nodes (1 to 5) through bootd
       rack compare [--runs N]            boot a node through bootd and through dnsmasq and nginx, N times each
       rack peer [--keep]                 boot a node through dnsmasq and nginx only";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(wish) = Wish::read(&args) else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    let done = namespace::enter().and_then(|()| match wish {
        Wish::Demo { nodes, keep } => demo(nodes, keep),
        Wish::Compare { runs } => compare(runs),
        Wish::Peer { keep } => peer(keep),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
            eprintln!("\nrack: {}", causes.join("\nbecause: "));
            ExitCode::FAILURE
        }
    }
}

/// What the command line asks for.
enum Wish {
    Demo { nodes: u8, keep: bool },
    Compare { runs: usize },
    Peer { keep: bool },
}

impl Wish {
    fn read(args: &[String]) -> Option<Self> {
        let (verb, mut rest) = args.split_first()?;
        let (mut nodes, mut runs, mut keep) = (1, 3, false);
        while let [flag, more @ ..] = rest {
            rest = match (verb.as_str(), flag.as_str(), more) {
                ("demo" | "peer", "--keep", _) => {
                    keep = true;
                    more
                }
                ("demo", "--nodes", [number, more @ ..]) => {
                    nodes = number.parse().ok().filter(|n| (1..=5).contains(n))?;
                    more
                }
                ("compare", "--runs", [number, more @ ..]) => {
                    runs = number.parse().ok().filter(|n| (1..=99).contains(n))?;
                    more
                }
                _ => return None,
            };
        }
        match verb.as_str() {
            "demo" => Some(Self::Demo { nodes, keep }),
            "compare" => Some(Self::Compare { runs }),
            "peer" => Some(Self::Peer { keep }),
            _ => None,
        }
    }
}

fn demo(count: u8, keep: bool) -> Result<()> {
    let mut rack = prepare()?;
    let outcome = show(&rack, count);
    if let Err(error) = outcome {
        eprintln!("--- all files of this run: {} ---", rack.dir.display());
        rack.keep();
        return Err(error);
    }
    let (bootd, nodes) = outcome?;
    if keep {
        rack.keep();
        look_around(&rack, Some(&bootd), &nodes);
        park();
    }
    Ok(())
}

/// Builds what a rack needs and says so, since the first time takes a while.
fn prepare() -> Result<Rack> {
    println!("Preparing the virtual rack: bridge br0 with 172.16.0.254/24, kernel, initramfs, root image");
    let start = Instant::now();
    let rack = Rack::new()?;
    println!(
        "  done in {:.1} s, files in {}",
        start.elapsed().as_secs_f32(),
        rack.dir.display()
    );
    Ok(rack)
}

fn show(rack: &Rack, count: u8) -> Result<(Bootd, Vec<Node>)> {
    let start = Instant::now();
    println!("Starting bootd");
    let bootd = rack.start_bootd()?;
    println!(
        "  ready in {:.2} s, process {}",
        start.elapsed().as_secs_f32(),
        bootd.id()
    );
    let nodes = boot(rack, count)?;
    Ok((bootd, nodes))
}

/// Boots nodes 1 to `count` at once and prints every step, then a table.
fn boot(rack: &Rack, count: u8) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for number in 1..=count {
        let node = rack.power_on(number)?;
        println!("Power on: node {number}, MAC {}", node.mac());
        nodes.push(node);
    }
    let mut told: BTreeMap<(u8, Step), Duration> = BTreeMap::new();
    while told.keys().filter(|(_, step)| *step == Step::Login).count() < nodes.len() {
        for node in &mut nodes {
            for (step, at) in node.timeline().steps() {
                if told.insert((node.number, step), at).is_none() {
                    let name = if count > 1 {
                        format!("node {}: ", node.number)
                    } else {
                        String::new()
                    };
                    println!("{:7.1} s  {name}{}", at.as_secs_f32(), step.words());
                }
            }
            if node.since.elapsed() > BOOT_LIMIT || node.failed().is_some() {
                // The wait is over; this makes the error with the end of the console.
                node.wait(Step::Login, Duration::ZERO)?;
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
    for node in &nodes {
        let timeline = node.timeline();
        println!("\nnode {}, {}:\n{}", node.number, node.mac(), timeline.table());
        let missing = timeline.missing();
        if !missing.is_empty() {
            let words: Vec<_> = missing.iter().map(|step| step.words()).collect();
            println!("not seen: {}", words.join(", "));
        }
        if let Some(prompt) = rack.journal.console(node.from(), node.number, " login: ") {
            println!("its console says: {}", prompt.trim());
        }
    }
    Ok(nodes)
}

fn peer(keep: bool) -> Result<()> {
    let mut rack = prepare()?;
    let outcome = Peer::start(&rack).and_then(|peer| Ok((peer, boot(&rack, 1)?)));
    match outcome {
        Err(error) => {
            eprintln!("--- all files of this run: {} ---", rack.dir.display());
            rack.keep();
            Err(error)
        }
        Ok((_peer, nodes)) => {
            if keep {
                rack.keep();
                look_around(&rack, None, &nodes);
                park();
            }
            Ok(())
        }
    }
}

fn look_around(rack: &Rack, bootd: Option<&Bootd>, nodes: &[Node]) {
    let dir = rack.dir.display();
    let me = std::process::id();
    let outside = fs::read_link("/proc/self/ns/user").ok() == fs::read_link("/proc/1/ns/user").ok();
    let user = if outside { "" } else { "-U --preserve-credentials " };
    let inside = format!("nsenter -t {me} {user}-n -m");
    println!("All of it keeps running until Ctrl-C. From another terminal:");
    println!("  a shell in the rack's network:   {inside} bash");
    println!("  traffic:                         {inside} tcpdump -ni br0");
    for node in nodes {
        println!(
            "  node {} (testuser, testuser):      busybox ping 172.16.0.{0} in the shell above",
            node.number
        );
        println!("    its console, live:             tail -f {}", node.console.display());
        println!(
            "    type at it:                    socat -,raw,echo=0,escape=0x1d UNIX-CONNECT:{dir}/console{}.sock",
            node.number
        );
    }
    if let Some(bootd) = bootd {
        let binary = server::binary().map_or_else(|_| "bootd".to_owned(), |path| path.display().to_string());
        println!("  bootd, process {}:", bootd.id());
        println!("    its log:                       tail -f {}", bootd.log().display());
        for verb in ["nodes", "plugins", "explain --mac 52:54:00:be:ef:01 --arch x86_64-efi"] {
            println!("    {binary} {verb} --config {dir}/bootd.toml");
        }
        println!("    over its socket:               curl --unix-socket {dir}/admin.sock http://bootd/metrics");
        println!("  change the nodes:                edit {dir}/nodes.yaml");
    }
    println!("  stop:                            Ctrl-C here, or kill {me}");
}

fn park() {
    loop {
        thread::park();
    }
}

/// Boots through both in turn, so that whatever else the machine does falls on both.
fn compare(runs: usize) -> Result<()> {
    let mut rack = prepare()?;
    let mut times: [Vec<Timeline>; 2] = [Vec::new(), Vec::new()];
    for run in 1..=runs {
        for (which, name) in ["bootd", "dnsmasq and nginx"].into_iter().enumerate() {
            println!("run {run} of {runs}: {name}");
            let timeline = one_boot(&rack, which == 0).inspect_err(|_| rack.keep())?;
            if let Some(at) = timeline.at(Step::Login) {
                println!("  login prompt after {:.1} s", at.as_secs_f32());
            }
            times[which].push(timeline);
        }
    }
    println!("\nmedians of {runs} boots each, s since power-on:\n");
    println!("{:<46}{:>10}{:>10}{:>8}", "step", "bootd", "peer", "ratio");
    for step in Step::ALL {
        let [ours, theirs] = [0, 1].map(|which: usize| median(&times[which], step));
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            println!(
                "{:<46}{ours:>10.1}{theirs:>10.1}{:>8.2}",
                step.words(),
                ours / theirs.max(0.001)
            );
        }
    }
    Ok(())
}

fn one_boot(rack: &Rack, through_bootd: bool) -> Result<Timeline> {
    let (_bootd, _peer) = if through_bootd {
        // Each run starts from nothing, as the peer does.
        let _ = fs::remove_dir_all(rack.path("state"));
        let _ = fs::remove_dir_all(rack.path("cache"));
        (Some(rack.start_bootd().context("bootd does not start")?), None)
    } else {
        (None, Some(Peer::start(rack)?))
    };
    let mut node = rack.power_on(1)?;
    let timeline = node.wait(Step::Login, BOOT_LIMIT)?;
    if timeline.at(Step::Login).is_none() {
        bail!("no login prompt");
    }
    Ok(timeline)
}

fn median(times: &[Timeline], step: Step) -> Option<f32> {
    let mut all: Vec<f32> = times
        .iter()
        .filter_map(|timeline| timeline.at(step))
        .map(|at| at.as_secs_f32())
        .collect();
    all.sort_by(f32::total_cmp);
    let middle = all.len() / 2;
    match all.len() {
        0 => None,
        n if n % 2 == 1 => Some(all[middle]),
        _ => Some(f32::midpoint(all[middle - 1], all[middle])),
    }
}
