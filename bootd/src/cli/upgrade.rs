//! `bootd upgrade`

use std::path::PathBuf;

use clap::Args;

use super::{Exit, Place, ask};
use crate::upgrade::Upgraded;

/// What to start.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The new binary; else the file from which the running bootd was started, as it is now.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Do not have the new binary check the configuration first, which refuses what a start would live with, such as a missing loader.
    #[arg(long)]
    unchecked: bool,
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    if let Some(binary) = &arguments.binary {
        // The running bootd may be in another folder.
        match std::path::absolute(binary) {
            Ok(binary) => query.append_pair("binary", &binary.to_string_lossy()),
            Err(error) => {
                eprintln!("bootd: {}: {error}", binary.display());
                return Exit::Failed;
            }
        };
    }
    if arguments.unchecked {
        query.append_key_only("unchecked");
    }
    let upgraded: Upgraded = match ask::post(&arguments.place, &format!("/upgrade?{}", query.finish())) {
        Ok(upgraded) => upgraded,
        Err(exit) => return exit,
    };
    if arguments.json {
        say!("{:#}", serde_json::json!(upgraded));
        return Exit::Good;
    }
    say!(
        "process {} serves; process {} finishes its transfers. Packets for the pools and new connections waited {} ms, known nodes not at all.",
        upgraded.pid,
        upgraded.was,
        upgraded.waited_ms
    );
    Exit::Good
}
