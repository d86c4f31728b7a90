//! The new process: takes over what the old one has, in two parts.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::line::{HandedOver, Line, Released, Word};
use crate::dhcp::{self, DhcpError, Ignored};
use crate::inventory::Inventory;
use crate::net::Sockets;
use crate::state::{Copied, Store, StoreError};

/// What a start begins with.
pub struct Begun {
    /// The process before this one, when it is an upgrade.
    pub successor: Option<Successor>,
    /// What that one, or systemd, handed over.
    pub sockets: Arc<Sockets>,
}

/// This process, as the one that follows another.
pub struct Successor {
    line: Line,
    copied: Mutex<Copied>,
}

/// Why this process cannot follow the other one.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The other one ended, or says nothing.
    #[error("the process that is to be followed: {0}")]
    Line(#[from] io::Error),
    /// The state file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The leases.
    #[error(transparent)]
    Dhcp(#[from] DhcpError),
}

/// Takes over sockets. To be called once, before there are threads.
pub fn begin() -> Result<Begun, FollowError> {
    if std::env::var_os(VARIABLE).is_none() {
        return Ok(Begun {
            successor: None,
            sockets: Arc::new(Sockets::from_environment()),
        });
    }
    let line = Line::of_standard_input()?;
    line.wait_at_most(PATIENCE)?;
    let sockets = Arc::new(Sockets::of(line.take()?));
    let copied = Mutex::new(line.hear()?);
    Ok(Begun {
        successor: Some(Successor { line, copied }),
        sockets,
    })
}

impl Successor {
    /// The store that all parts begin with; its file comes later.
    pub fn store(&self, state_dir: &Path) -> Result<Store, StoreError> {
        let mut copied = self.copied.lock().unwrap_or_else(PoisonError::into_inner);
        Store::ahead(state_dir, std::mem::take(&mut copied))
    }

    /// Known nodes are answered: says so, waits until the other process has closed its files, and takes them over.
    pub fn take_over(
        &self,
        state_dir: &Path,
        store: &Store,
        inventory: &Inventory,
        ignored: &Ignored,
        dhcp: &dhcp::Service,
    ) -> Result<(), FollowError> {
        self.line.say(&Word::Ready)?;
        let Released { unsaved } = match self.line.hear() {
            // It was killed in between, so its files are closed as well.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Released::default(),
            heard => heard?,
        };
        take_file(store, state_dir)?;
        inventory.read_again()?;
        ignored.read_again()?;
        dhcp.take_over(unsaved)?;
        Ok(())
    }

    /// All is in service. When this returns the other process has told systemd who is the main process now.
    pub fn serves(self) -> Result<(), FollowError> {
        self.line.say(&Word::Serving)?;
        if let Err(error) = self.line.hear::<HandedOver>() {
            // It lives on or ended; this one serves.
            tracing::warn!(%error, "the process before this one did not say farewell");
        }
        Ok(())
    }
}

/// A process that was killed has its lock a moment longer than its end of the line.
fn take_file(store: &Store, state_dir: &Path) -> Result<(), StoreError> {
    for _ in 0..LOOKS {
        match store.take_file(state_dir) {
            Err(StoreError::InUse(_)) => std::thread::sleep(LOOK),
            taken => return taken,
        }
    }
    store.take_file(state_dir)
}

/// How often it is looked whether the state file is free, and the time between.
const LOOKS: u32 = 50;
const LOOK: Duration = Duration::from_millis(100);
/// Set for a process that follows another; its standard input is the line then.
pub(super) const VARIABLE: &str = "BOOTD_FOLLOWS";
/// How long the old process may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
