//! `bootd boots`: how each node's boot goes, the timeline of one, and what happens as it happens.

use clap::Args;

use super::{Exit, Look, ask};
use crate::boots::{Attempt, Boots, End, State, Step, Summary, Timeline, size};

/// What to show of boots.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bootd boots                     every node's last attempt, stragglers first\n  \
    bootd boots x1000c0s0b0n0       what that node did, step by step, and what is wrong\n  \
    bootd boots --follow            what happens, as it happens\n  \
    bootd boots --follow --json     the same as one JSON object a line"
)]
pub struct Arguments {
    #[command(flatten)]
    look: Look,
    /// One node only, with all of its steps: an xname, a hardware address or an IP address.
    node: Option<String>,
    /// Go on and print what happens.
    #[arg(long, short)]
    follow: bool,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    let look = &arguments.look;
    let path = arguments
        .node
        .as_deref()
        .map(|node| format!("/boots/{}", escaped(node)));
    let shown = match (&path, look.json) {
        // Events alone: whoever reads them looks at all of it by itself.
        (None, true) if arguments.follow => Exit::Good,
        (path, true) => ask::print_json(&look.place, path.as_deref().unwrap_or("/boots")),
        (Some(path), false) => timeline(look, path),
        (None, false) => all(look),
    };
    match shown {
        Exit::Good if arguments.follow => follow(arguments),
        shown => shown,
    }
}

fn escaped(node: &str) -> String {
    percent_encoding::utf8_percent_encode(node, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn all(look: &Look) -> Exit {
    let view: Boots = match ask::view(&look.place, "/boots") {
        Ok(view) => view,
        Err(exit) => return exit,
    };
    header();
    for boot in &view.boots {
        row(boot, view.now_ms);
    }
    if !view.stages.is_empty() {
        let [stage, count, p50, p90, p99] = ["STAGE", "REACHED", "HALF IN", "90 % IN", "99 % IN"];
        say!("\n{stage:<14} {count:>8} {p50:>9} {p90:>9} {p99:>9}");
        for stage in &view.stages {
            let [p50, p90, p99] = [stage.p50_ms, stage.p90_ms, stage.p99_ms].map(seconds);
            say!(
                "{:<14} {:>8} {p50:>9} {p90:>9} {p99:>9}",
                stage.stage.name(),
                stage.count
            );
        }
    }
    let count = |state| view.boots.iter().filter(|boot| boot.state == state).count();
    say!(
        "\n{} booted, {} under way, {} stuck, {} gave up; {} nodes were not heard of",
        count(State::Booted),
        count(State::UnderWay),
        count(State::Stuck),
        count(State::GivenUp),
        view.unseen.len()
    );
    Exit::Good
}

fn header() {
    let [node, state, stage, since, heard, what] = ["NODE", "STATE", "STAGE", "BEGAN", "HEARD", ""];
    say!("{node:<18} {state:<10} {stage:<14} {since:>9} {heard:>9}  {what}");
}

fn row(boot: &Summary, now_ms: u64) {
    let ago = |at: u64| seconds(now_ms.saturating_sub(at));
    let mut rest = boot.text.clone().unwrap_or_default();
    if let (true, Some(bytes)) = (rest.is_empty(), boot.bytes) {
        let of = boot.of.map(|of| format!(" of {}", size(of))).unwrap_or_default();
        let rate = boot.rate.map(|rate| format!(", {}/s", size(rate))).unwrap_or_default();
        rest = format!("{}{of}{rate}", size(bytes));
    }
    say!(
        "{:<18} {:<10} {:<14} {:>9} {:>9}  {rest}",
        boot.who,
        boot.state.name(),
        boot.stage.map_or("-", |stage| stage.name()),
        ago(boot.began_ms),
        ago(boot.heard_ms)
    );
}

fn timeline(look: &Look, path: &str) -> Exit {
    let view: Timeline = match ask::view(&look.place, path) {
        Ok(view) => view,
        Err(exit) => return exit,
    };
    for attempt in &view.record.attempts {
        show(&view, attempt);
    }
    Exit::Good
}

fn show(view: &Timeline, attempt: &Attempt) {
    let ago = seconds(view.now_ms.saturating_sub(attempt.began_ms));
    say!(
        "{}, attempt {}, began {ago} ago: {}",
        view.who,
        attempt.number,
        attempt.state.name()
    );
    let hints = &attempt.hints;
    for (name, text) in [
        ("firmware", &hints.arch),
        ("vendor class", &hints.vendor_class),
        ("machine", &hints.machine_id),
        ("agent", &hints.agent),
    ] {
        if !text.is_empty() {
            say!("  {name}: {text}");
        }
    }
    for step in &attempt.steps {
        let at = seconds(step.began_ms.saturating_sub(attempt.began_ms));
        let took = step
            .ended_ms
            .map_or_else(|| "…".into(), |ended| seconds(ended.saturating_sub(step.began_ms)));
        say!("  {at:>9}  {:<14} {took:>9}  {}", step.stage.name(), said(step));
    }
    match (&attempt.diagnosis, attempt.next(view.record.habits)) {
        (Some(diagnosis), _) => say!("  {}: {}", diagnosis.name, diagnosis.text),
        (None, Some(next)) if attempt.state == State::UnderWay => say!("  next: {}", next.noun()),
        _ => {}
    }
}

fn said(step: &Step) -> String {
    let mut said = step.what.clone();
    if step.bytes > 0 {
        let of = step
            .of
            .filter(|of| *of != step.bytes)
            .map(|of| format!(" of {}", size(of)))
            .unwrap_or_default();
        let rate = step
            .rate()
            .map(|rate| format!(", {}/s", size(rate)))
            .unwrap_or_default();
        said.push_str(&format!(" {}{of}{rate}", size(step.bytes)));
    }
    if step.tries > 1 {
        said.push_str(&format!(" ({} tries)", step.tries));
    }
    if step.end == End::Failed {
        said.push_str(" failed");
    }
    said
}

fn follow(arguments: &Arguments) -> Exit {
    let look = &arguments.look;
    if !look.json && arguments.node.is_none() {
        say!("");
    }
    let wanted = arguments.node.as_deref();
    ask::events(&look.place, "/boots/changes", |name, data| {
        if name == "missed" {
            eprintln!("bootd: {data} changes were missed: this reader is too slow");
            return;
        }
        let Ok(boot) = serde_json::from_str::<Summary>(data) else {
            return;
        };
        let mac = boot.mac.map(|mac| mac.to_string()).unwrap_or_default();
        let ip = boot.ip.map(|ip| ip.to_string()).unwrap_or_default();
        if wanted.is_some_and(|wanted| ![boot.who.as_str(), &mac, &ip].contains(&wanted)) {
            return;
        }
        if look.json {
            say!("{data}");
        } else {
            row(&boot, boot.heard_ms);
        }
    })
}

/// Milliseconds for people.
fn seconds(ms: u64) -> String {
    match ms {
        0..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => format!("{}:{:02} min", ms / 60_000, ms % 60_000 / 1000),
        _ => format!("{}:{:02} h", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}
