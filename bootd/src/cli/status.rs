//! `bootd status`

use super::{Exit, Look, ask};
use crate::admin::views::Status;

pub(super) fn run(look: &Look) -> Exit {
    if look.json {
        return ask::print_json(&look.place, "/status");
    }
    let view: Status = match ask::view(&look.place, "/status") {
        Ok(view) => view,
        Err(exit) => return exit,
    };
    say!(
        "bootd {}, ready for {} s, {}",
        view.version,
        view.uptime_s,
        view.inventory
    );
    for listener in &view.listeners {
        say!("{}: {}, auth {}", listener.url, listener.serves, listener.auth);
    }
    for line in &view.dhcp {
        say!("{line}");
    }
    if !view.cache.is_empty() {
        say!("cache: {}", view.cache);
    }
    if !view.boot_files.is_empty() {
        say!("{}", view.boot_files);
    }
    for mirror in &view.mirrors {
        say!("{mirror}");
    }
    for warning in &view.warnings {
        say!("warning: {warning}");
    }
    Exit::Good
}
