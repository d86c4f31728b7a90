//! `bootd plugins`

use serde::Deserialize;

use super::{Exit, Look, ask};

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Plugin {
    name: String,
    state: String,
    version: String,
    file: String,
    text: String,
    mistakes: Vec<String>,
    routes: Vec<String>,
    stuck: usize,
}

pub(super) fn run(look: &Look) -> Exit {
    if look.json {
        return ask::print_json(&look.place, "/plugins");
    }
    let view: Vec<Plugin> = match ask::view(&look.place, "/plugins") {
        Ok(view) => view,
        Err(exit) => return exit,
    };
    for plugin in &view {
        println!(
            "{:<12} {:<9} {:<8} {}",
            plugin.name, plugin.state, plugin.version, plugin.text
        );
        if !plugin.file.is_empty() {
            println!("    file   {}", plugin.file);
        }
        if plugin.stuck > 0 {
            println!(
                "    stuck  {} calls are over their deadline and have not come back",
                plugin.stuck
            );
        }
        for route in &plugin.routes {
            println!("    route  {route}");
        }
        for mistake in &plugin.mistakes {
            println!("    wrong  {mistake}");
        }
    }
    if view.is_empty() {
        println!("no plugins are configured");
    }
    Exit::Good
}
