//! `bootd plugins`

use super::{Exit, Look, ask};
use crate::plugins::PluginStatus;

pub(super) fn run(look: &Look) -> Exit {
    if look.json {
        return ask::print_json(&look.place, "/plugins");
    }
    let view: Vec<PluginStatus> = match ask::view(&look.place, "/plugins") {
        Ok(view) => view,
        Err(exit) => return exit,
    };
    for plugin in &view {
        say!(
            "{:<12} {:<10} {:<8} {}",
            plugin.name,
            plugin.state,
            plugin.version,
            plugin.text
        );
        if let Some(file) = &plugin.file {
            say!("    file   {}", file.display());
        }
        if let Some(seconds) = plugin.next_try_s {
            say!("    next   in {seconds} s");
        }
        if plugin.restarts > 0 {
            say!("    starts {} after a failure", plugin.restarts);
        }
        if let Some(reason) = &plugin.reason {
            say!("    reason {reason}");
        }
        if plugin.left_behind > 0 {
            say!(
                "    hang   {} earlier instances or starts never came back",
                plugin.left_behind
            );
        }
        if plugin.stuck > 0 {
            say!(
                "    stuck  {} calls are over their deadline and have not come back",
                plugin.stuck
            );
        }
        for route in &plugin.routes {
            say!("    route  {route}");
        }
        for mistake in &plugin.mistakes {
            say!("    wrong  {mistake}");
        }
    }
    if view.is_empty() {
        say!("no plugins are configured");
    }
    Exit::Good
}
