//! The store over redb, and its writer thread.
//!
//! After a failed write, of a full disk for one, redb refuses all that comes after, be there space again or not. So the writer thread closes
//! the file and opens it again, to be read at least; it writes again after a pause, longer and longer while that fails, and what is
//! written in between fails at once. [`Store::trouble`] tells.

use std::collections::BTreeMap;
use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError,
};

use crate::metrics::{Durations, REQUESTS};
use crate::urgency;

/// Writes that may wait at once; a full queue refuses.
const QUEUE: usize = 4096;
/// Writes that share one commit at most.
const BATCH: usize = 1024;
/// Bytes of the file that are held in memory; without a bound redb takes a gigabyte. What is asked for often is in snapshots already.
const CACHE: usize = 2 * 1024 * 1024;
/// Between a failure and the next try; twice as long after each that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Between two such tries at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A key of the store: table and key. Table names are `lease`, `core` and `plugin/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The table.
    pub table: String,
    /// The key in it.
    pub key: String,
}

/// Several changes that happen together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Write {
    /// What must hold: key and its present value (`None`: no such key).
    pub expect: Vec<(Row, Option<String>)>,
    /// New values.
    pub put: Vec<(Row, String)>,
    /// Keys to delete.
    pub delete: Vec<Row>,
}

/// A store that did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("the state file {0} cannot be opened: {1}")]
    Open(String, String),
    /// Another process holds the file.
    #[error("the state file {0} is in use: another bootd uses this state_dir; stop it, or give this one its own")]
    InUse(String),
    /// Too many writes wait; the disk does not keep up.
    #[error("the state store's queue is full")]
    Full,
    /// The writer thread is gone.
    #[error("the state store is closed")]
    Closed,
    /// A precondition did not hold; nothing was written.
    #[error("the data changed in between")]
    Conflict,
    /// The disk or the file failed.
    #[error("the state store failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// The metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Open(..) => "store_open",
            Self::InUse(_) => "store_in_use",
            Self::Full => "store_full",
            Self::Closed => "store_closed",
            Self::Conflict => "store_conflict",
            Self::Failed(_) => "store_failed",
        }
    }
}

/// How long a write may wait for another one to share its commit, when nobody waits for it.
const SOON: Duration = Duration::from_millis(250);

/// Called on the writer thread when a write is durable, or failed.
type Then = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Called on the writer thread after the reports of each commit.
type After = Box<dyn Fn() + Send>;

/// A write on its way.
struct Queued {
    write: Write,
    then: Then,
    urgency: Urgency,
}

/// How long it may stay on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Urgency {
    /// Somebody waits for it.
    Now,
    /// [`SOON`].
    Soon,
}

/// Opens the file again.
type Reopen = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

/// What readers and the writer thread share.
struct Shared {
    /// `None` while it cannot be opened again. Only the writer thread changes it.
    database: RwLock<Option<Database>>,
    /// How the last commit failed.
    trouble: Mutex<Option<String>>,
    /// Called when all writes of a commit are reported.
    after: Mutex<Vec<After>>,
    /// How long commits take, those that fail among them.
    commits: Durations,
}

/// The store; clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    writer: SyncSender<Queued>,
    replaced: Option<Arc<str>>,
}

impl Store {
    /// Opens or makes `state_dir/bootd.redb` and starts its writer thread. A broken file is put aside and an empty one takes its place, since
    /// a rack must come up after a power cut: [`Store::replaced`] tells.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join("bootd.redb");
        let failed = |error: String| StoreError::Open(path.display().to_string(), error);
        std::fs::create_dir_all(state_dir).map_err(|e| failed(e.to_string()))?;
        let (database, replaced) = open_or_replace(&path)?;
        let reopen: Reopen = Box::new(move || Database::builder().set_cache_size(CACHE).open(&path));
        Self::over(database, replaced, reopen)
            .map_err(|e| StoreError::Open(state_dir.display().to_string(), e.to_string()))
    }

    fn over(database: Database, replaced: Option<String>, reopen: Reopen) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            database: RwLock::new(Some(database)),
            trouble: Mutex::default(),
            after: Mutex::default(),
            commits: Durations::new(&REQUESTS),
        });
        let (sender, queue) = sync_channel(QUEUE);
        let writer = Writer {
            shared: Arc::clone(&shared),
            reopen,
            retry: None,
        };
        std::thread::Builder::new().name("state".into()).spawn(move || {
            urgency::let_packets_go_first();
            writer.run(&queue);
        })?;
        Ok(Self {
            shared,
            writer: sender,
            replaced: replaced.map(Into::into),
        })
    }

    /// What was lost when the file was opened, and where the broken one is now; `None` when it was good.
    pub fn replaced(&self) -> Option<&str> {
        self.replaced.as_deref()
    }

    /// How the last commit failed; `None` when it did not.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble()
    }

    /// How long commits take.
    pub fn commits(&self) -> &Durations {
        &self.shared.commits
    }

    /// Hands a write to the writer thread; never waits. `then` runs on that thread when the write is durable or failed.
    pub fn write(
        &self,
        write: Write,
        then: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.hand_over(write, Box::new(then), Urgency::Now)
    }

    /// The same for what nobody waits for: it shares the commit of the next write that somebody does wait for, or has one a quarter of a
    /// second later.
    pub fn write_soon(
        &self,
        write: Write,
        then: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.hand_over(write, Box::new(then), Urgency::Soon)
    }

    /// Has something called on the writer thread whenever the writes that shared a commit are all reported: what their reports gathered can be
    /// dealt with at once.
    pub fn after_each_commit(&self, then: impl Fn() + Send + 'static) {
        let mut after = self.shared.after.lock().unwrap_or_else(PoisonError::into_inner);
        after.push(Box::new(then));
    }

    fn hand_over(&self, write: Write, then: Then, urgency: Urgency) -> Result<(), StoreError> {
        let queued = Queued { write, then, urgency };
        self.writer.try_send(queued).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Full,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }

    /// Writes and waits until it is durable, with all that was written before.
    pub fn write_and_wait(&self, write: Write) -> Result<(), StoreError> {
        let (done, wait) = sync_channel(1);
        let then: Then = Box::new(move |result| drop(done.send(result)));
        let urgency = Urgency::Now;
        let queued = Queued { write, then, urgency };
        self.writer.send(queued).map_err(|_| StoreError::Closed)?;
        wait.recv().map_err(|_| StoreError::Closed)?
    }

    /// Reads one value.
    pub fn get(&self, table: &str, key: &str) -> Result<Option<String>, StoreError> {
        self.shared.with(|database| {
            let read = database.begin_read().map_err(failed)?;
            match read.open_table(definition(table)) {
                Ok(rows) => Ok(rows.get(key).map_err(failed)?.map(|value| value.value().to_owned())),
                Err(TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(failed(error)),
            }
        })
    }

    /// Reads all values whose keys begin with `prefix`, in key order.
    pub fn scan(&self, table: &str, prefix: &str) -> Result<BTreeMap<String, String>, StoreError> {
        self.shared.with(|database| {
            let read = database.begin_read().map_err(failed)?;
            let rows = match read.open_table(definition(table)) {
                Ok(rows) => rows,
                Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
                Err(error) => return Err(failed(error)),
            };
            let mut found = BTreeMap::new();
            for row in rows.range(prefix..).map_err(failed)? {
                let (key, value) = row.map_err(failed)?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                found.insert(key.value().to_owned(), value.value().to_owned());
            }
            Ok(found)
        })
    }
}

impl Shared {
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            Some(database) => work(database),
            None => Err(StoreError::Failed("its file cannot be opened again yet".into())),
        }
    }

    fn is_open(&self) -> bool {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        database.is_some()
    }

    fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone()
    }

    fn set_trouble(&self, trouble: Option<String>) {
        let mut last = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*last, &trouble) {
            (None, Some(error)) => tracing::error!(%error, "the state file cannot be written"),
            (Some(_), None) => tracing::info!("the state file is written again"),
            _ => {}
        }
        *last = trouble;
    }
}

/// The database, and what is to be told when a broken one had to make room for it.
fn open_or_replace(path: &Path) -> Result<(Database, Option<String>), StoreError> {
    let shown = path.display();
    let why = match open_checked(path) {
        Ok(database) => return Ok((database, None)),
        Err(Unopened::Failed(error)) => return Err(error),
        Err(Unopened::Broken(why)) => why,
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let aside = path.with_added_extension(format!("broken-{}", now.unwrap_or_default().as_secs()));
    let failed = |error: String| StoreError::Open(shown.to_string(), format!("{why}, and {error}"));
    std::fs::rename(path, &aside).map_err(|error| failed(format!("it cannot be put aside: {error}")))?;
    let database = match open_checked(path) {
        Ok(database) => database,
        Err(Unopened::Failed(error)) => return Err(error),
        Err(Unopened::Broken(error)) => return Err(failed(format!("neither can a new one be used: {error}"))),
    };
    let told = format!(
        "the state file {shown} was broken ({why}) and is now {}; bootd began with an empty one, without the leases of the pools and \
         what plugins had kept",
        aside.display()
    );
    tracing::error!("{told}");
    Ok((database, Some(told)))
}

/// Why a file does not open.
enum Unopened {
    /// What it holds is no database, or not a whole one.
    Broken(String),
    /// Anything else: nothing is known to be wrong with what it holds.
    Failed(StoreError),
}

/// Opens or makes a file and reads all of it: what a start does not find, a lease or a plugin would.
fn open_checked(path: &Path) -> Result<Database, Unopened> {
    // redb is not free of assertions about what a file holds.
    if let Err(error) = for_the_owner_only(path) {
        let path = path.display().to_string();
        return Err(Unopened::Failed(StoreError::Open(path, error.to_string())));
    }
    let opened = catch_unwind(|| {
        let mut database = Database::builder().set_cache_size(CACHE).create(path)?;
        let whole = database.check_integrity()?;
        Ok((database, whole))
    });
    match opened {
        Ok(Ok((database, whole))) => {
            if !whole {
                tracing::warn!(file = %path.display(), "the state file was repaired");
            }
            Ok(database)
        }
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
            Err(Unopened::Failed(StoreError::InUse(path.display().to_string())))
        }
        Ok(Err(error)) if is_broken(&error) => Err(Unopened::Broken(error.to_string())),
        Ok(Err(error)) => {
            let (path, error) = (path.display().to_string(), error.to_string());
            Err(Unopened::Failed(StoreError::Open(path, error)))
        }
        Err(_) => Err(Unopened::Broken("it cannot be read without a panic".into())),
    }
}

/// What plugins keep is nobody else's to read, whatever the umask.
fn for_the_owner_only(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

/// Whether the contents are at fault, and not the disk, a permission or another process.
fn is_broken(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::RepairAborted | DatabaseError::Storage(StorageError::Corrupted(_)) => true,
        // How redb says that the magic number is wrong, or that the file is shorter than it should be.
        DatabaseError::Storage(StorageError::Io(error)) => {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        }
        _ => false,
    }
}

/// The writer thread's.
struct Writer {
    shared: Arc<Shared>,
    reopen: Reopen,
    /// After a failure.
    retry: Option<Retry>,
}

#[derive(Clone, Copy)]
struct Retry {
    due: Instant,
    pause: Duration,
}

impl Writer {
    /// Until the last [`Store`] is gone.
    fn run(mut self, queue: &Receiver<Queued>) {
        loop {
            let received = match self.retry {
                Some(retry) if !self.shared.is_open() => {
                    queue.recv_timeout(retry.due.saturating_duration_since(Instant::now()))
                }
                _ => queue.recv().map_err(RecvTimeoutError::from),
            };
            if !self.is_waiting() && !self.shared.is_open() {
                self.open_again();
            }
            match received {
                Ok(first) => self.commit(batch(first, queue)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Whether it is too early for another try.
    fn is_waiting(&self) -> bool {
        self.retry.is_some_and(|retry| Instant::now() < retry.due)
    }

    /// One transaction for the whole batch. A write whose preconditions fail is left out by itself; a failing disk fails them all.
    fn commit(&mut self, batch: Vec<Queued>) {
        let mut conflicts = Vec::with_capacity(batch.len());
        let result = if self.is_waiting() {
            Err(self.shared.trouble().unwrap_or_default())
        } else {
            let started = Instant::now();
            let written = self.shared.with(|database| write_all(database, &batch, &mut conflicts));
            self.shared.commits.observe(started.elapsed());
            let result = written.map_err(|error| match error {
                StoreError::Failed(error) => error,
                other => other.to_string(),
            });
            self.shared.set_trouble(result.clone().err());
            match result {
                Ok(()) => self.retry = None,
                Err(_) => {
                    self.later();
                    self.open_again();
                }
            }
            result
        };
        for (at, Queued { then, .. }) in batch.into_iter().enumerate() {
            let result = match &result {
                Ok(()) if conflicts[at] => Err(StoreError::Conflict),
                Ok(()) => Ok(()),
                Err(error) => Err(StoreError::Failed(error.clone())),
            };
            // A panic here would end every later write, not just this one.
            if catch_unwind(AssertUnwindSafe(|| then(result))).is_err() {
                tracing::error!("what waited for a write panicked");
            }
        }
        for then in &*self.shared.after.lock().unwrap_or_else(PoisonError::into_inner) {
            if catch_unwind(AssertUnwindSafe(then)).is_err() {
                tracing::error!("what waited for a commit panicked");
            }
        }
    }

    fn later(&mut self) {
        let pause = self
            .retry
            .map_or(FIRST_PAUSE, |retry| (retry.pause * 2).min(LONGEST_PAUSE));
        let due = Instant::now() + pause;
        self.retry = Some(Retry { due, pause });
    }

    /// Waits for the readers, then closes the file, and only then opens it: it is locked until it is closed.
    fn open_again(&mut self) {
        let mut database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner);
        let opened = catch_unwind(AssertUnwindSafe(|| {
            drop(database.take());
            (self.reopen)()
        }));
        let why = match opened {
            Ok(Ok(opened)) => {
                *database = Some(opened);
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it cannot be read without a panic".into(),
        };
        drop(database);
        let trouble = format!("the state file cannot be opened again: {why}");
        self.shared.set_trouble(Some(trouble));
        self.later();
    }
}

/// Writes for one commit: all that wait, and if nobody waits for them, those that come soon.
fn batch(first: Queued, queue: &Receiver<Queued>) -> Vec<Queued> {
    let until = Instant::now() + SOON;
    let mut urgency = first.urgency;
    let mut batch = vec![first];
    while batch.len() < BATCH {
        let next = match urgency {
            Urgency::Now => queue.try_recv().ok(),
            // The last store being gone ends the wait, too.
            Urgency::Soon => queue.recv_timeout(until.saturating_duration_since(Instant::now())).ok(),
        };
        let Some(next) = next else { break };
        if next.urgency == Urgency::Now {
            urgency = Urgency::Now;
        }
        batch.push(next);
    }
    batch
}

fn write_all(database: &Database, batch: &[Queued], conflicts: &mut Vec<bool>) -> Result<(), StoreError> {
    let written = catch_unwind(AssertUnwindSafe(|| {
        let mut transaction = database.begin_write().map_err(failed)?;
        transaction.set_durability(Durability::Immediate).map_err(failed)?;
        for Queued { write, .. } in batch {
            conflicts.push(!apply(&transaction, write)?);
        }
        transaction.commit().map_err(failed)
    }));
    written.unwrap_or_else(|_| Err(failed("it cannot be written without a panic")))
}

/// `false`: a precondition does not hold, nothing was changed.
fn apply(transaction: &redb::WriteTransaction, write: &Write) -> Result<bool, StoreError> {
    for (row, expected) in &write.expect {
        let rows = transaction.open_table(definition(&row.table)).map_err(failed)?;
        let present = rows
            .get(row.key.as_str())
            .map_err(failed)?
            .map(|value| value.value().to_owned());
        if present != *expected {
            return Ok(false);
        }
    }
    for (row, value) in &write.put {
        let mut rows = transaction.open_table(definition(&row.table)).map_err(failed)?;
        rows.insert(row.key.as_str(), value.as_str()).map_err(failed)?;
    }
    for row in &write.delete {
        let mut rows = transaction.open_table(definition(&row.table)).map_err(failed)?;
        rows.remove(row.key.as_str()).map_err(failed)?;
    }
    Ok(true)
}

fn definition(name: &str) -> TableDefinition<'_, &'static str, &'static str> {
    TableDefinition::new(name)
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}

#[cfg(test)]
#[path = "store_tests.rs"]
pub(crate) mod tests;
