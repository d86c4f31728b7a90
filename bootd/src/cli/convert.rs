//! `bootd convert`

use std::io::Read;
use std::path::PathBuf;

use clap::Args;

use super::Exit;
use crate::config::{self, coredhcp};

/// What to convert.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A coredhcp.yaml; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    let read = if arguments.file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        config::text_of(&arguments.file)
    };
    let text = match read {
        Ok(text) => text,
        Err(error) => {
            eprintln!("bootd: {}: {error}", arguments.file.display());
            return Exit::Wrong;
        }
    };
    match coredhcp::read(&text) {
        Ok(understood) => {
            say!("{}", understood.toml.trim_end());
            Exit::Good
        }
        Err(mistakes) => {
            eprintln!("bootd: {}: {} mistake(s)", arguments.file.display(), mistakes.len());
            mistakes.iter().for_each(|mistake| eprintln!("  {mistake}"));
            Exit::Wrong
        }
    }
}
