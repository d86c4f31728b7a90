//! Where log lines go: standard error, as text for people or, with `BOOTD_LOG_FORMAT=json`, one JSON object a line. `BOOTD_LOG` says how
//! much, such as `debug` or `info,bootd::dhcp=debug`; the default is `info`.
//!
//! A thread of its own writes them, from a bounded queue: a journal or a disk that stalls loses lines, which are counted, and never holds
//! up a packet.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Lines that wait to be written; more are lost.
const WAITING: usize = 8192;

static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// Starts logging. Called once; dropping what it returns writes the lines that still wait.
pub fn start() -> WorkerGuard {
    let filter = EnvFilter::try_from_env("BOOTD_LOG").unwrap_or_else(|_| EnvFilter::new("info,async_tftp=warn"));
    let queue = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING);
    let (writer, guard) = queue.thread_name("log").finish(std::io::stderr());
    let _ = LOST.set(writer.error_counter());
    let registry = tracing_subscriber::registry().with(filter);
    let json = std::env::var("BOOTD_LOG_FORMAT").is_ok_and(|format| format == "json");
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
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
    guard
}

/// Lines that were lost because nobody took them in time.
pub fn lost() -> usize {
    LOST.get().map_or(0, ErrorCounter::dropped_lines)
}
