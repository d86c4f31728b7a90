//! Where log lines go: standard error, as text for people or, with `BOOTD_LOG_FORMAT=json`, one JSON object a line. `BOOTD_LOG` says how
//! much, such as `debug` or `info,bootd::dhcp=debug`; the default is `info`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging. Called once.
pub fn start() {
    let filter = EnvFilter::try_from_env("BOOTD_LOG").unwrap_or_else(|_| EnvFilter::new("info,async_tftp=warn"));
    let registry = tracing_subscriber::registry().with(filter);
    let json = std::env::var("BOOTD_LOG_FORMAT").is_ok_and(|format| format == "json");
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = if json {
        registry.with(layer.json()).try_init()
    } else {
        registry
            .with(layer.with_ansi(std::io::stderr().is_terminal()))
            .try_init()
    };
    if started.is_err() {
        tracing::debug!("logging was started already");
    }
}
