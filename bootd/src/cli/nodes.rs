//! `bootd nodes`, and `bootd nodes accept`

use clap::{Args, Subcommand};

use super::{Exit, Look, Place, ask};
use crate::admin::Accepted;
use crate::admin::views::Nodes;

/// What to do with nodes.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(flatten)]
    look: Look,
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Let through what is held back: a site that is mirrored says that much of what it had is gone, and it is so. `bootd status` says what.
    Accept(Place),
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    match &arguments.act {
        Some(Act::Accept(place)) => accept(place),
        None => look(&arguments.look),
    }
}

fn accept(place: &Place) -> Exit {
    let done: Accepted = match ask::post(place, "/accept") {
        Ok(done) => done,
        Err(exit) => return exit,
    };
    for text in &done.accepted {
        say!("accepted: {text}");
    }
    for text in &done.left {
        say!("held back still: {text}");
    }
    for text in &done.failed {
        eprintln!("bootd: {text}");
    }
    if done.accepted.is_empty() && done.left.is_empty() && done.failed.is_empty() {
        say!("nothing is held back");
    }
    if done.failed.is_empty() && done.left.is_empty() {
        Exit::Good
    } else {
        Exit::Failed
    }
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
