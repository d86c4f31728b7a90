//! `bootd nodes`, and what it does with them: `accept`, `ignore`, `unignore`

use bootd_sdk::mac::Mac;
use clap::{Args, Subcommand};

use super::{Exit, Look, ask};
use crate::admin::Accepted;
use crate::admin::views::{Ignoring, Nodes};

/// What to do with nodes.
#[derive(Debug, Args)]
// Good before and after what to do.
#[command(mut_arg("config", |arg| arg.global(true)), mut_arg("json", |arg| arg.global(true)))]
pub struct Arguments {
    #[command(flatten)]
    look: Look,
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Let through what is held back: a site that is mirrored says that much of what it had is gone, and it is so. `bootd status` says what.
    #[command(after_help = "Examples:\n  bootd nodes accept")]
    Accept,
    /// Answer no DHCP of these clients any more, whatever the inventory says; also after a restart.
    #[command(after_help = "Examples:\n  bootd nodes ignore 52:54:00:be:ef:01 52:54:00:be:ef:02")]
    Ignore(Clients),
    /// Answer them again.
    #[command(after_help = "Examples:\n  bootd nodes unignore 52:54:00:be:ef:01")]
    Unignore(Clients),
}

#[derive(Debug, Args)]
struct Clients {
    /// Hardware addresses.
    #[arg(value_name = "MAC", required = true)]
    macs: Vec<Mac>,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    match &arguments.act {
        Some(Act::Accept) => accept(&arguments.look),
        Some(Act::Ignore(clients)) => ignoring(&arguments.look, "/ignore", &clients.macs),
        Some(Act::Unignore(clients)) => ignoring(&arguments.look, "/unignore", &clients.macs),
        None => look(&arguments.look),
    }
}

fn accept(look: &Look) -> Exit {
    let done: Accepted = match ask::post(&look.place, "/accept") {
        Ok(done) => done,
        Err(exit) => return exit,
    };
    if look.json {
        say!("{:#}", serde_json::json!(done));
    } else {
        for text in &done.accepted {
            say!("accepted: {text}");
        }
        for text in &done.left {
            say!("held back still: {text}");
        }
        if done.accepted.is_empty() && done.left.is_empty() && done.failed.is_empty() {
            say!("nothing is held back");
        }
    }
    for text in &done.failed {
        eprintln!("bootd: {text}");
    }
    if done.failed.is_empty() && done.left.is_empty() {
        Exit::Good
    } else {
        Exit::Failed
    }
}

fn ignoring(look: &Look, path: &str, macs: &[Mac]) -> Exit {
    let mut all = Vec::new();
    for mac in macs {
        let done: Ignoring = match ask::post(&look.place, &format!("{path}?mac={mac}")) {
            Ok(done) => done,
            Err(exit) => return exit,
        };
        if !look.json {
            let now = if done.ignored { "ignored" } else { "answered" };
            let so = if done.changed { "now" } else { "already" };
            say!("{mac}: {so} {now}");
        }
        all.push(done);
    }
    if look.json {
        say!("{:#}", serde_json::json!(all));
    }
    Exit::Good
}

fn look(look: &Look) -> Exit {
    if look.json {
        return ask::print_json(&look.place, "/nodes");
    }
    let view: Nodes = match ask::view(&look.place, "/nodes") {
        Ok(view) => view,
        Err(exit) => return exit,
    };
    let title = ["XNAME", "NID", "KIND", "NAME", "MAC", "ADDRESS", "GROUPS", "FROM"];
    let [xname, nid, kind, name, mac, address, groups, from] = title;
    say!("{xname:<18} {nid:>6} {kind:<10} {name:<12} {mac:<18} {address:<16} {groups:<16} {from}");
    for row in &view.nodes {
        let node = &row.node;
        let nid = node.nid.map_or_else(|| "-".into(), |nid| nid.to_string());
        let from = if row.last_good {
            format!("{} (last run)", row.plugin)
        } else {
            row.plugin.clone()
        };
        let mut first = true;
        for interface in &node.interfaces {
            let ips: Vec<String> = interface.ips.iter().map(|address| address.ip.to_string()).collect();
            let (mac, ips) = (interface.mac.to_string(), ips.join(","));
            if first {
                let groups = node.groups.join(",");
                say!(
                    "{:<18} {nid:>6} {:<10} {:<12} {mac:<18} {ips:<16} {groups:<16} {from}",
                    node.id,
                    node.kind,
                    node.name
                );
            } else {
                say!("{:<48} {mac:<18} {ips}", "");
            }
            first = false;
        }
        if first {
            say!(
                "{:<18} {nid:>6} {:<10} {:<12} {:<18} {:<16} {:<16} {from}",
                node.id,
                node.kind,
                node.name,
                "-",
                "-",
                "-"
            );
        }
    }
    say!("{} nodes", view.nodes.len());
    for mac in &view.ignored {
        say!("ignored by DHCP: {mac} (`bootd nodes unignore {mac}` ends that)");
    }
    for left_out in &view.refused {
        let row = if left_out.row.is_empty() {
            "a row"
        } else {
            &left_out.row
        };
        say!(
            "left out or wrong: {row} (from {}): {}",
            left_out.plugin,
            left_out.reason
        );
    }
    Exit::Good
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Verb};

    #[test]
    fn options_are_good_before_and_after_what_to_do() {
        for line in [
            "bootd nodes --config F --json",
            "bootd nodes --config F --json accept",
            "bootd nodes accept --config F --json",
            "bootd nodes --json accept --config F",
            "bootd nodes ignore 02:00:00:00:00:01 --config F --json",
        ] {
            let Verb::Nodes(arguments) = Cli::try_parse_from(line.split(' ')).unwrap().verb else {
                panic!("{line}")
            };
            assert_eq!(arguments.look.place.config.to_str(), Some("F"), "{line}");
            assert!(arguments.look.json, "{line}");
            assert_eq!(
                arguments.act.is_some(),
                line.contains("accept") || line.contains("ignore"),
                "{line}"
            );
        }
        let Verb::Nodes(plain) = Cli::try_parse_from(["bootd", "nodes", "accept"]).unwrap().verb else {
            panic!()
        };
        assert_eq!(plain.look.place.config.to_str(), Some(crate::config::DEFAULT_PATH));
        assert!(!plain.look.json);
    }
}
