//! The old process: starts the new one, hands over, or takes everything back.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::line::{HandedOver, Line, Released, Word};
use super::new::VARIABLE;
use super::steps::{Acts, Back, Step, run};
use crate::http::{Door, InService};
use crate::metrics::Metrics;
use crate::net::Sockets;
use crate::reload::Reloader;
use crate::state::{Store, StoreError};
use crate::{dhcp, tftp};

/// What is handed over.
pub struct Parts {
    /// The file that the new process is to serve by.
    pub config: PathBuf,
    /// The listening sockets.
    pub sockets: Arc<Sockets>,
    /// What survives.
    pub store: Store,
    /// Rests, and goes on or leaves.
    pub dhcp: Arc<dhcp::Service>,
    /// Finishes its transfers.
    pub tftp: Option<Arc<tftp::Service>>,
    /// What is kept of artifacts.
    pub app: InService,
    /// Rests meanwhile.
    pub reloader: Arc<Reloader>,
    /// Where connections come in.
    pub door: Door,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// What an operator asks for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The new binary; else the file from which this process was started, as it is now.
    pub binary: Option<PathBuf>,
    /// Start it without `bootd check` before.
    pub unchecked: bool,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Upgraded {
    /// The process that serves now.
    pub pid: u32,
    /// The one that served.
    pub was: u32,
    /// How long packets for the pools and new connections waited, in milliseconds.
    pub waited_ms: u64,
}

/// Why the old process serves on.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// Another one.
    #[error("another upgrade is under way")]
    UnderWay,
    /// The path of this process's binary is not known.
    #[error("this process's binary cannot be found: {0}; name one with --binary")]
    NoBinary(io::Error),
    /// It does not start.
    #[error("{binary} cannot be started: {why}")]
    Start {
        /// The file.
        binary: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// It finds mistakes.
    #[error("{binary} check refuses the configuration ({status}):\n{said}")]
    Check {
        /// The file.
        binary: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        said: String,
    },
    /// It ended before it served.
    #[error("the new process ended ({status}) {before}; the log has what it said")]
    Ended {
        /// How.
        status: ExitStatus,
        /// Before what.
        before: &'static str,
    },
    /// It takes too long.
    #[error("the new process was not {what} within {} s", within.as_secs())]
    TooSlow {
        /// What it should be.
        what: &'static str,
        /// How long it had.
        within: Duration,
    },
    /// Packets are being dealt with that do not end.
    #[error("DHCP does not come to rest; try again")]
    Busy,
    /// The store.
    #[error("the state store: {0}")]
    Store(#[from] StoreError),
    /// The cache folder.
    #[error("the cache folder: {0}")]
    Cache(io::Error),
    /// A bug.
    #[error("a bug in bootd; see the log: {0}")]
    Bug(JoinError),
    /// The two do not understand each other.
    #[error("the new process cannot be spoken to: {0}")]
    Line(io::Error),
}

/// Upgrades, one at a time.
pub struct Upgrader {
    parts: Parts,
    turn: Mutex<()>,
    over: CancellationToken,
}

impl Upgrader {
    /// For these parts.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            turn: Mutex::default(),
            over: CancellationToken::new(),
        })
    }

    /// Has another process take the place of this one. After an error this one serves as before. Dropping this ends nothing.
    pub async fn upgrade(self: &Arc<Self>, asked: Asked) -> Result<Upgraded, UpgradeError> {
        let upgrader = Arc::clone(self);
        let work = tokio::spawn(async move {
            let reloader = Arc::clone(&upgrader.parts.reloader);
            let _same = reloader.hold().await;
            let work = tokio::task::spawn_blocking(move || upgrader.turn_of(&asked));
            let upgraded = work.await.unwrap_or_else(|error| Err(UpgradeError::Bug(error)));
            match &upgraded {
                Ok(Upgraded { pid, waited_ms, .. }) => tracing::info!(
                    pid,
                    waited_ms,
                    "upgraded: another process serves, this one finishes its transfers"
                ),
                Err(error) => tracing::error!(%error, "not upgraded: this process serves on"),
            }
            upgraded
        });
        work.await.unwrap_or_else(|error| Err(UpgradeError::Bug(error)))
    }

    /// Returns when another process serves.
    pub async fn is_over(&self) {
        self.over.cancelled().await;
    }

    fn turn_of(&self, asked: &Asked) -> Result<Upgraded, UpgradeError> {
        let Ok(_turn) = self.turn.try_lock() else {
            return Err(UpgradeError::UnderWay);
        };
        if self.over.is_cancelled() {
            return Err(UpgradeError::UnderWay);
        }
        let binary = match &asked.binary {
            Some(binary) => binary.clone(),
            None => own_binary().map_err(UpgradeError::NoBinary)?,
        };
        tracing::info!(binary = %binary.display(), "an upgrade begins");
        let mut attempt = Attempt {
            parts: &self.parts,
            binary,
            unchecked: asked.unchecked,
            new: None,
            paused: None,
        };
        run(&mut attempt)?;
        let upgraded = attempt.hand_over();
        self.over.cancel();
        Ok(upgraded)
    }
}

/// An upgrade under way.
struct Attempt<'a> {
    parts: &'a Parts,
    binary: PathBuf,
    unchecked: bool,
    new: Option<New>,
    paused: Option<Instant>,
}

/// The process that was started.
struct New {
    child: Child,
    line: Line,
    until: Instant,
}

impl Acts for Attempt<'_> {
    type Error = UpgradeError;

    fn act(&mut self, step: Step) -> Result<(), UpgradeError> {
        match step {
            Step::Check => self.check(),
            Step::Start => self.start(),
            Step::Ready => self.hear(Word::Ready, READY),
            Step::Pause => self.pause(),
            Step::Release => self.release(),
            Step::Serving => self.hear(Word::Serving, SERVING),
        }
    }

    fn take_back(&mut self, back: Back) {
        let parts = self.parts;
        match back {
            Back::Kill => {
                if let Some(mut new) = self.new.take() {
                    let _ = new.child.kill();
                    let _ = new.child.wait();
                }
            }
            Back::Reopen => {
                if let Err(error) = parts.store.resume() {
                    tracing::error!(%error, "the state store is not open again; it is tried on");
                }
                if let Err(error) = parts.app.load().artifacts.resume() {
                    tracing::error!(%error, "the cache folder is not this process's again: nothing new is kept");
                }
            }
            Back::GoOn => {
                parts.dhcp.resume();
                parts.door.open();
            }
        }
    }
}

impl Attempt<'_> {
    fn check(&self) -> Result<(), UpgradeError> {
        if self.unchecked {
            return Ok(());
        }
        let mut command = Command::new(&self.binary);
        command.arg("check").arg("--config").arg(&self.parts.config);
        without_systemd(&mut command);
        let checked = command.stdin(Stdio::null()).output();
        let output = checked.map_err(|why| self.not_started(why))?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        Err(UpgradeError::Check {
            binary: self.binary.clone(),
            status: output.status,
            said: String::from_utf8_lossy(&said).trim().to_owned(),
        })
    }

    fn start(&mut self) -> Result<(), UpgradeError> {
        let (line, theirs) = Line::pair().map_err(UpgradeError::Line)?;
        let mut arguments = std::env::args_os();
        let mut command = Command::new(&self.binary);
        command.arg0(arguments.next().unwrap_or_else(|| OsString::from("bootd")));
        // It becomes the main process, whom the watchdog is about.
        command.args(arguments).env(VARIABLE, "1").env_remove("WATCHDOG_PID");
        let child = command.stdin(theirs).spawn().map_err(|why| self.not_started(why))?;
        drop(command);
        let new = self.new.insert(New {
            child,
            line,
            until: Instant::now() + READY,
        });
        let sockets = self.parts.sockets.duplicates().map_err(UpgradeError::Line)?;
        self.parts.app.load().watch.flush();
        let copied = self.parts.store.copy()?;
        let given = new.line.give(&sockets).and_then(|()| new.line.say(&copied));
        given.map_err(|error| new.failed(error, "ready", READY))
    }

    fn hear(&mut self, awaited: Word, within: Duration) -> Result<(), UpgradeError> {
        let what = match awaited {
            Word::Ready => "ready",
            Word::Serving => "serving",
        };
        let Some(new) = &mut self.new else {
            return Err(UpgradeError::Line(io::ErrorKind::NotConnected.into()));
        };
        if awaited == Word::Serving {
            new.until = Instant::now() + within;
        }
        let left = new.until.saturating_duration_since(Instant::now());
        let heard = new
            .line
            .wait_at_most(left.max(LEAST))
            .and_then(|()| new.line.hear::<Word>());
        match heard {
            Ok(word) if word == awaited => Ok(()),
            Ok(_) => Err(UpgradeError::Line(io::Error::other("it says something else"))),
            Err(error) => Err(new.failed(error, what, within)),
        }
    }

    fn pause(&mut self) -> Result<(), UpgradeError> {
        self.paused = Some(Instant::now());
        self.parts.door.shut();
        match self.parts.dhcp.pause(PAUSE) {
            true => Ok(()),
            false => Err(UpgradeError::Busy),
        }
    }

    fn release(&mut self) -> Result<(), UpgradeError> {
        let parts = self.parts;
        parts.store.release()?;
        parts.app.load().artifacts.release().map_err(UpgradeError::Cache)?;
        let released = Released {
            unsaved: parts.dhcp.unsaved(),
        };
        let Some(new) = &mut self.new else {
            return Err(UpgradeError::Line(io::ErrorKind::NotConnected.into()));
        };
        let said = new.line.say(&released);
        said.map_err(|error| new.failed(error, "serving", SERVING))
    }

    /// Nothing fails any more: the new process serves.
    fn hand_over(self) -> Upgraded {
        let waited = self.paused.map_or(Duration::ZERO, |paused| paused.elapsed());
        let parts = self.parts;
        let pid = self.new.as_ref().map_or(0, |new| new.child.id());
        parts.metrics.pulses().hand_over();
        let _ = sd_notify::notify(false, &[NotifyState::MainPid(pid)]);
        if let Some(new) = &self.new {
            // It serves, whether it hears that or not.
            let _ = new.line.say(&HandedOver);
        }
        parts.door.leave();
        if let Some(tftp) = &parts.tftp {
            tftp.leave();
        }
        parts.dhcp.leave();
        Upgraded {
            pid,
            was: std::process::id(),
            waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn not_started(&self, why: io::Error) -> UpgradeError {
        UpgradeError::Start {
            binary: self.binary.clone(),
            why,
        }
    }
}

impl New {
    /// Why it was not heard.
    fn failed(&mut self, error: io::Error, what: &'static str, within: Duration) -> UpgradeError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return UpgradeError::TooSlow { what, within },
            _ => {}
        }
        // Who closes the line is ending.
        let until = Instant::now() + ENDS;
        while Instant::now() < until {
            if let Ok(Some(status)) = self.child.try_wait() {
                let before = match what {
                    "ready" => "before it was ready",
                    _ => "before it served",
                };
                return UpgradeError::Ended { status, before };
            }
            std::thread::sleep(LEAST);
        }
        UpgradeError::Line(error)
    }
}

/// Where this process's binary is, or was: a package manager has put another file there by now.
fn own_binary() -> io::Result<PathBuf> {
    let path = std::fs::read_link("/proc/self/exe")?;
    Ok(as_it_is_now(&path))
}

fn as_it_is_now(path: &Path) -> PathBuf {
    let text = path.to_string_lossy();
    text.strip_suffix(" (deleted)")
        .map_or_else(|| path.into(), PathBuf::from)
}

fn without_systemd(command: &mut Command) {
    for variable in ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", VARIABLE] {
        command.env_remove(variable);
    }
}

/// How long the new process may take until it answers known nodes.
const READY: Duration = Duration::from_secs(30);
/// How long it may take from then on until it answers everybody, who waits meanwhile.
const SERVING: Duration = Duration::from_secs(30);
/// How long packets may take that are being dealt with: a plugin looks up a client for a second at most.
const PAUSE: Duration = Duration::from_secs(3);
/// How long a process may take to end that closed its end of the line.
const ENDS: Duration = Duration::from_secs(2);
const LEAST: Duration = Duration::from_millis(10);
/// How long the old process finishes transfers before it cuts them off.
pub const LIVES_ON: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_of_a_file_that_was_replaced_is_the_one_in_its_place() {
        for (link, path) in [
            ("/usr/bin/bootd", "/usr/bin/bootd"),
            ("/usr/bin/bootd (deleted)", "/usr/bin/bootd"),
        ] {
            assert_eq!(as_it_is_now(Path::new(link)), Path::new(path));
        }
    }
}
