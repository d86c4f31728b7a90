//! Where log lines go: standard error (or where CoreDHCP's flags lead them). `BOOTD_LOG_FORMAT` says how: `text` for people, `json` for one object
//! a line, `journal` for the journal with fields, which is what a service of systemd does by itself. `BOOTD_LOG` says how much, such as `debug` or
//! `info,bootd::dhcp=debug`; the default is `info`.
//!
//! A thread of its own writes them, from a bounded queue: a journal or a disk that stalls loses lines, which are counted, and never holds
//! up a packet.

mod journal;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use journal::Journal;

/// Lines that wait to be written; more are lost.
const WAITING: usize = 8192;

static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// Whether standard output is for others.
static NO_STDOUT: AtomicBool = AtomicBool::new(false);

/// Where log lines go, and how many.
#[derive(Debug, Default)]
pub struct Log {
    /// Where.
    pub to: To,
    /// The filter, such as `info`. `None`: what `BOOTD_LOG` says.
    pub level: Option<&'static str>,
}

/// Where log lines go.
#[derive(Debug, Default)]
pub enum To {
    /// Standard error.
    #[default]
    Stderr,
    /// As with CoreDHCP: standard output, a file, both or neither.
    Output {
        /// To standard output. Without it nothing at all goes there.
        stdout: bool,
        /// To this file as well, opened for appending.
        file: Option<File>,
    },
    /// The journal.
    #[doc(hidden)]
    Journal(Journal),
}

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
    Journal,
}

impl Form {
    /// The wanted one, else the journal's for a standard error that is the journal. `None`: there is no such form.
    fn wanted(wanted: Option<&str>, is_journal: impl Fn() -> bool) -> Option<Self> {
        match wanted {
            Some("text") => Some(Self::Text),
            Some("json") => Some(Self::Json),
            Some("journal") => Some(Self::Journal),
            None | Some("") if is_journal() => Some(Self::Journal),
            None | Some("") => Some(Self::Text),
            Some(_) => None,
        }
    }
}

/// Starts logging. Called once; dropping what it returns writes the lines that still wait.
pub fn start(mut log: Log) -> WorkerGuard {
    let wanted = std::env::var("BOOTD_LOG").ok();
    let filter = filter(log.level.or(wanted.as_deref()).unwrap_or("info"));
    let mut trouble = None;
    let variable = |name| std::env::var(name).ok();
    let wanted = variable("BOOTD_LOG_FORMAT");
    let is_journal = || matches!(log.to, To::Stderr) && journal::is_stderr(variable("JOURNAL_STREAM").as_deref());
    let mut form = Form::wanted(wanted.as_deref(), is_journal).unwrap_or_else(|| {
        trouble = Some("BOOTD_LOG_FORMAT is neither text, json nor journal".to_owned());
        Form::Text
    });
    if form == Form::Journal {
        match Journal::connect() {
            Ok(journal) => log.to = To::Journal(journal),
            Err(error) => {
                trouble = Some(format!("the journal cannot be reached: {error}"));
                form = Form::Text;
            }
        }
    }
    let terminal = match &log.to {
        To::Journal(_) => false,
        To::Stderr => std::io::stderr().is_terminal(),
        To::Output { stdout, file } => {
            NO_STDOUT.store(!stdout, Ordering::Relaxed);
            *stdout && file.is_none() && std::io::stdout().is_terminal()
        }
    };
    let queue = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING);
    let (writer, guard) = queue.thread_name("log").finish(log.to);
    let _ = LOST.set(writer.error_counter());
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let started = match form {
        Form::Json => registry.with(layer.json()).try_init(),
        Form::Text => registry.with(layer.with_ansi(terminal)).try_init(),
        Form::Journal => registry.with(layer.event_format(journal::Fields)).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started already");
    }
    if let Some(trouble) = trouble {
        tracing::warn!(trouble, "log lines are written as text");
    }
    guard
}

/// The filter that this text is; one that is none is `info`. Each retry of `object_store` is a line at INFO: with `info` for everything they are left
/// out, since bootd itself says what came of it; `debug`, or its name, shows them.
fn filter(text: &str) -> EnvFilter {
    let (text, filter) = match EnvFilter::try_new(text) {
        Ok(filter) => (text, filter),
        Err(_) => ("info", EnvFilter::new("info")),
    };
    let is_info = text.split(',').any(|word| word.trim().eq_ignore_ascii_case("info"));
    match "object_store=warn".parse() {
        Ok(quiet) if is_info && !text.contains("object_store") => filter.add_directive(quiet),
        _ => filter,
    }
}

/// Whether lines for people may go to standard output.
pub fn has_stdout() -> bool {
    !NO_STDOUT.load(Ordering::Relaxed)
}

impl Write for To {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stderr => io::stderr().write_all(line)?,
            Self::Journal(journal) => journal.send(line)?,
            Self::Output { stdout, file } => {
                // A reader that is gone, or a disk that is full, keeps no line from the other one.
                let shown = if *stdout { io::stdout().write_all(line) } else { Ok(()) };
                if let Some(file) = file {
                    file.write_all(line)?;
                }
                shown?;
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().flush(),
            Self::Journal(_) => Ok(()),
            Self::Output { stdout, file } => {
                if *stdout {
                    io::stdout().flush()?;
                }
                file.as_mut().map_or(Ok(()), File::flush)
            }
        }
    }
}

/// Lines that were lost because nobody took them in time.
pub fn lost() -> usize {
    LOST.get().map_or(0, ErrorCounter::dropped_lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// The lines that this filter lets through.
    fn lines(text: &str) -> String {
        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);
        impl Write for Lines {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(line)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let seen = Lines::default();
        let writer = seen.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let registry = tracing_subscriber::registry().with(filter(text)).with(layer);
        tracing::subscriber::with_default(registry, || {
            tracing::info!(target: "object_store::client::retry", "a retry");
            tracing::warn!(target: "object_store::client::retry", "a warning");
            tracing::info!(target: "bootd::cache", "our own");
            tracing::debug!(target: "bootd::dhcp", "details");
        });
        String::from_utf8(seen.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn the_journal_is_for_its_own_stream_and_for_who_wants_it() {
        for (wanted, is_journal, form) in [
            (None, false, Some(Form::Text)),
            (None, true, Some(Form::Journal)),
            (Some(""), true, Some(Form::Journal)),
            (Some("text"), true, Some(Form::Text)),
            (Some("json"), true, Some(Form::Json)),
            (Some("journal"), false, Some(Form::Journal)),
            (Some("xml"), true, None),
        ] {
            assert_eq!(Form::wanted(wanted, || is_journal), form, "{wanted:?}");
        }
    }

    #[test]
    fn each_retry_of_an_origin_is_for_who_wants_debug_or_names_it() {
        for (filter, retries, details) in [
            ("info", false, false),
            ("no=filter=at=all", false, false),
            ("info,bootd::dhcp=debug", false, true),
            ("debug", true, true),
            ("info,object_store=info", true, false),
        ] {
            let lines = lines(filter);
            assert!(lines.contains("a warning"), "{filter}: {lines}");
            assert_eq!(lines.contains("a retry"), retries, "{filter}: {lines}");
            assert_eq!(lines.contains("details"), details, "{filter}: {lines}");
        }
        assert_eq!(lines("error"), "");
    }
}
