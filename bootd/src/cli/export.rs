//! `bootd export`
//!
//! One text with a section a plugin, which begins with a line of its own ([`section`]); `bootd import` reads it back, and each section
//! alone is a file as the plugin reads it.

use clap::Args;

use super::{Exit, Place, ask};

/// What to print.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The plugins; all that keep data when none is named.
    #[arg(value_name = "PLUGIN")]
    plugins: Vec<String>,
    #[command(flatten)]
    place: Place,
}

/// What the line before a plugin's data begins with: a YAML document's start with a comment.
const SECTION: &str = "--- # bootd export: ";

/// The line before a plugin's data.
fn section(plugin: &str) -> String {
    format!("{SECTION}{plugin}")
}

/// The plugin whose data come after this line.
pub(super) fn plugin_of(line: &str) -> Option<&str> {
    line.strip_prefix(SECTION).map(str::trim_end)
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    match gather(arguments) {
        // Only a whole export is one.
        Ok(text) => {
            say!("{}", text.trim_end());
            Exit::Good
        }
        Err(exit) => exit,
    }
}

fn gather(arguments: &Arguments) -> Result<String, Exit> {
    let mut plugins = arguments.plugins.clone();
    if plugins.is_empty() {
        plugins = ask::view(&arguments.place, "/export")?;
    }
    let mut text = String::new();
    for plugin in &plugins {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("plugin", plugin)
            .finish();
        let data = ask::text(&arguments.place, &format!("/export?{query}"))?;
        text.push_str(&format!("{}\n{}\n", section(plugin), data.trim_end()));
    }
    Ok(text)
}
