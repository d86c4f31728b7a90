//! Lines for the journal, each with its fields: `journalctl -u bootd MAC=52:54:00:be:ef:01` finds what was said of a machine, `XNAME=` of a node,
//! `REASON=` why.
//!
//! The native protocol of systemd-journald (systemd.io/JOURNAL_NATIVE_PROTOCOL): a datagram a line, `NAME=value` with a newline behind each. Values
//! have no newlines, so none needs the form with a length. The datagram is made where the line is, and sent by the log's own thread: a layer
//! that sends by itself (tracing-journald) would have a packet wait for a journal that stalls. Fields have their names as in JSON, in capitals;
//! the message has all of them once more, for people.

use std::fmt::{self, Write as _};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use rustix::fs::fstat;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// A connection to the journal of this machine.
#[derive(Debug)]
pub struct Journal(UnixDatagram);

impl Journal {
    /// Connects to it.
    pub(super) fn connect() -> io::Result<Self> {
        Self::at(SOCKET)
    }

    fn at(path: &str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Self(socket))
    }

    /// Sends what [`Fields`] wrote. One that is larger than a datagram may be loses its end.
    pub(super) fn send(&self, line: &[u8]) -> io::Result<()> {
        match self.0.send(line) {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => {
                let cut = line.get(..LONGEST).unwrap_or(line);
                let whole = cut.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                self.0
                    .send(&[cut.get(..whole).unwrap_or_default(), b"CUT=1\n"].concat())
                    .map(drop)
            }
            sent => sent.map(drop),
        }
    }
}

/// Whether standard error leads to the journal: systemd says in `JOURNAL_STREAM` which stream that is (systemd.exec(5)).
pub(super) fn is_stderr(stream: Option<&str>) -> bool {
    is_journal(stream, io::stderr())
}

fn is_journal(stream: Option<&str>, file: impl AsFd) -> bool {
    let said = stream.and_then(|stream| stream.split_once(':'));
    let (Some((device, inode)), Ok(stat)) = (said, fstat(file)) else {
        return false;
    };
    device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino)
}

/// Writes a line as its fields.
pub(super) struct Fields;

impl<S, N> FormatEvent<S, N> for Fields
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let about = event.metadata();
        let priority = match *about.level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        writeln!(
            out,
            "PRIORITY={priority}\nSYSLOG_IDENTIFIER=bootd\nTARGET={}",
            about.target()
        )?;
        let mut line = Line::default();
        event.record(&mut line);
        out.write_str(&line.fields)?;
        writeln!(out, "MESSAGE={}{}", line.message, line.shown)
    }
}

/// The parts of a line.
#[derive(Default)]
struct Line {
    message: String,
    /// ` name=value` of each field.
    shown: String,
    /// `NAME=value` and a newline of each.
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        let value = value.replace(['\n', '\r'], " ");
        let name = field.name();
        if name == "message" {
            self.message = value;
            return;
        }
        // Names of the journal are capitals, digits and underscores, and do not begin with one; writing into a String does not fail.
        let fits = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        };
        let capitals: String = name.trim_start_matches('_').chars().map(fits).collect();
        let _ = writeln!(self.fields, "{capitals}={value}");
        if !value.is_empty() {
            let _ = write!(self.shown, " {name}={value}");
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Bytes of a line that leave in any case.
const LONGEST: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use tracing_subscriber::layer::SubscriberExt;

    use super::super::To;
    use super::*;

    /// What a journal gets when these lines are written.
    fn datagrams(write: impl FnOnce()) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        journal.set_nonblocking(true).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let writer = move || To::Journal(Journal::at(&path).unwrap());
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Fields)
            .with_writer(writer);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), write);
        let mut room = vec![0; 1 << 20];
        let mut all = Vec::new();
        while let Ok(count) = journal.recv(&mut room) {
            all.push(String::from_utf8(room[..count].to_vec()).unwrap());
        }
        all
    }

    #[test]
    fn a_line_is_one_datagram_with_its_fields_and_a_message_that_has_them_too() {
        let lines = datagrams(|| {
            tracing::warn!(
                mac = "52:54:00:be:ef:01",
                reason = "no\npool",
                left_out = 3,
                rule = "",
                "refused"
            );
        });
        let (head, rest) = lines[0].split_once("TARGET=").unwrap();
        assert_eq!((lines.len(), head), (1, "PRIORITY=4\nSYSLOG_IDENTIFIER=bootd\n"));
        let (_, fields) = rest.split_once('\n').unwrap();
        assert_eq!(
            fields,
            "MAC=52:54:00:be:ef:01\nREASON=no pool\nLEFT_OUT=3\nRULE=\nMESSAGE=refused mac=52:54:00:be:ef:01 reason=no pool left_out=3\n"
        );
    }

    #[test]
    fn a_line_that_is_too_long_for_a_datagram_loses_its_end_and_not_its_fields() {
        let lines = datagrams(|| tracing::error!(mac = "x", text = "a".repeat(900_000), "told"));
        assert!(
            lines[0].contains("MAC=x\n") && lines[0].ends_with("CUT=1\n"),
            "{}",
            lines[0].len()
        );
    }

    #[test]
    fn only_the_stream_that_systemd_names_is_the_journals() {
        let file = tempfile::tempfile().unwrap();
        let about = file.metadata().unwrap();
        let stream = format!("{}:{}", about.dev(), about.ino());
        assert!(is_journal(Some(&stream), &file));
        for other in [None, Some(""), Some("1:2"), Some("nonsense")] {
            assert!(!is_journal(other, &file));
        }
    }
}
