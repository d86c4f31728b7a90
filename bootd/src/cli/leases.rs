//! `bootd leases`: the addresses of the pools, and what an operator does with them: `free`, `export`

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Exit, Look, ask};
use crate::admin::views::{Freed, Leases};
use crate::dhcp;

/// What to do with leases.
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
    /// End the lease of an address, or its rest after a conflict. Its client is not told, and may go on using it until it renews.
    #[command(after_help = "Examples:\n  bootd leases free 172.16.0.200")]
    Free {
        /// The address.
        ip: Ipv4Addr,
    },
    /// Write the leases that run into an SQLite file, as CoreDHCP's plugins bootloop and range keep them.
    #[command(after_help = "Examples:\n  bootd leases export /tmp/coredhcp.db")]
    Export {
        /// The file; one that is there is replaced.
        file: PathBuf,
    },
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    let look = &arguments.look;
    match &arguments.act {
        Some(Act::Free { ip }) => free(look, *ip),
        Some(Act::Export { file }) => export(look, file),
        None if look.json => ask::print_json(&look.place, "/leases"),
        None => show(look),
    }
}

fn free(look: &Look, ip: Ipv4Addr) -> Exit {
    let done: Freed = match ask::post(&look.place, &format!("/leases/free?ip={ip}")) {
        Ok(done) => done,
        Err(exit) => return exit,
    };
    if look.json {
        say!("{:#}", serde_json::json!(done));
    } else {
        say!("{}: free", done.ip);
    }
    Exit::Good
}

fn export(look: &Look, file: &std::path::Path) -> Exit {
    let view: Leases = match ask::view(&look.place, "/leases") {
        Ok(view) => view,
        Err(exit) => return exit,
    };
    match dhcp::export_leases(file, &view.leases) {
        Ok(count) if look.json => say!("{:#}", serde_json::json!({ "exported": count })),
        Ok(count) => say!("{count} leases in {}", file.display()),
        Err(error) => {
            eprintln!("bootd: {error}");
            return Exit::Failed;
        }
    }
    Exit::Good
}

fn show(look: &Look) -> Exit {
    let view: Leases = match ask::view(&look.place, "/leases") {
        Ok(view) => view,
        Err(exit) => return exit,
    };
    let [ip, state, ends, mac, name, subnet, id] =
        ["ADDRESS", "STATE", "ENDS IN", "MAC", "NAME", "SUBNET", "CLIENT ID"];
    say!("{ip:<16} {state:<9} {ends:<12} {mac:<18} {name:<20} {subnet:<19} {id}");
    for lease in &view.leases {
        let ends = match lease.expires_in_s {
            0 => "-".into(),
            seconds => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
        };
        let dash = || "-".to_owned();
        say!(
            "{:<16} {:<9} {ends:<12} {:<18} {:<20} {:<19} {}",
            lease.ip.to_string(),
            lease.state.name(),
            lease.mac.map_or_else(dash, |mac| mac.to_string()),
            lease.hostname.clone().unwrap_or_else(dash),
            lease.subnet,
            lease.client_id.clone().unwrap_or_else(dash),
        );
    }
    say!("{} addresses", view.leases.len());
    Exit::Good
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Verb};

    #[test]
    fn options_are_good_before_and_after_what_to_do() {
        for line in [
            "bootd leases --config F --json",
            "bootd leases --json free 172.16.0.200 --config F",
            "bootd leases export /tmp/x.db --config F --json",
        ] {
            let Verb::Leases(arguments) = Cli::try_parse_from(line.split(' ')).unwrap().verb else {
                panic!("{line}")
            };
            assert_eq!(arguments.look.place.config.to_str(), Some("F"), "{line}");
            assert!(arguments.look.json, "{line}");
        }
        for line in ["bootd leases free", "bootd leases free x", "bootd leases export"] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
