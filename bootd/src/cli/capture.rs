//! `bootd capture`: the last packets and requests of a node, as a file for tshark and Wireshark.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::{Exit, Place, ask};

/// Whose packets, and where to.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bootd capture --mac 52:54:00:be:ef:01 -o node.pcapng\n  \
    bootd capture --mac x1000c0s0b0n0 -o -\n\n\
    Look with: tshark -r node.pcapng -T fields -e _ws.col.Info -e frame.comment\n\
    Of each client the last 64 packets and requests are kept: DHCP, TFTP's requests, and the heads of HTTP. What bootd decided about a\n\
    packet is its comment. Nothing needs to be switched on before.")]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// The node's hardware address; an xname or an IP address does as well.
    #[arg(long, value_name = "MAC")]
    mac: String,
    /// The file (pcapng); one that is there is replaced. "-" is the standard output.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    let who = percent_encoding::utf8_percent_encode(&arguments.mac, percent_encoding::NON_ALPHANUMERIC);
    let file = match ask::bytes(&arguments.place, &format!("/capture/{who}")) {
        Ok(file) => file,
        Err(exit) => return exit,
    };
    let output = &arguments.output;
    let written = match output.as_os_str() == "-" {
        true => std::io::stdout().lock().write_all(&file),
        false => fs::write(output, &file),
    };
    match written {
        Ok(()) if output.as_os_str() == "-" => Exit::Good,
        Ok(()) => {
            say!("{}: {} bytes; look with: tshark -r {0}", output.display(), file.len());
            Exit::Good
        }
        Err(error) => {
            eprintln!("bootd: {}: {error}", output.display());
            Exit::Failed
        }
    }
}
