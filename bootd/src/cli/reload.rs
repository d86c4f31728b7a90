//! `bootd reload`

use clap::Args;

use super::{Exit, Place, ask};
use crate::plugins::Reloaded;

/// What to load anew.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The plugins; all of them when none is named.
    #[arg(value_name = "PLUGIN")]
    plugins: Vec<String>,
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for plugin in &arguments.plugins {
        query.append_pair("plugin", plugin);
    }
    let reloaded: Vec<Reloaded> = match ask::post(&arguments.place, &format!("/reload?{}", query.finish())) {
        Ok(reloaded) => reloaded,
        Err(exit) => return exit,
    };
    if arguments.json {
        say!("{:#}", serde_json::json!(reloaded));
    }
    let mut exit = Exit::Good;
    for plugin in &reloaded {
        match &plugin.error {
            Some(error) => {
                eprintln!("bootd: plugin {}: {error}", plugin.name);
                exit = Exit::Failed;
            }
            None if arguments.json => {}
            None => say!("{}: generation {} is in service", plugin.name, plugin.generation),
        }
    }
    exit
}
