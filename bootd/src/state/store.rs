//! The store over redb, and its writer thread.
//!
//! After a failed write, of a full disk for one, redb refuses all that comes after, be there space again or not. So the writer thread closes
//! the file and opens it again, to be read at least; it writes again after a pause, longer and longer while that fails, and what is
//! written in between fails at once. [`Store::trouble`] tells.
//!
//! One process has the file. A bootd that another one follows closes it ([`Store::release`]) and reads on from a copy; the other one has read from such
//! a copy until then ([`Store::ahead`]), and what it wrote waits until it has the file ([`Store::take_file`]).

use std::collections::BTreeMap;
use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant, SystemTime};

use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError,
    TableHandle,
};

use super::Copied;
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
    /// Another process has the file.
    #[error("another process of bootd has the state store: this one is ending, or beginning")]
    Elsewhere,
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
            Self::Elsewhere => "store_elsewhere",
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

/// What the writer thread is told.
enum Order {
    Write(Queued),
    /// Close the file, when all that was told before is written.
    Release(SyncSender<Result<(), StoreError>>),
    /// Open the file again.
    Resume(SyncSender<Result<(), StoreError>>),
    /// The file that was awaited.
    Take(Database, SyncSender<()>),
}

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
    /// Only the writer thread changes it.
    file: RwLock<File>,
    /// How the last commit failed.
    trouble: Mutex<Option<String>>,
    /// Called when all writes of a commit are reported.
    after: Mutex<Vec<After>>,
    /// How long commits take, those that fail among them.
    commits: Durations,
}

/// Where rows are.
enum File {
    Open(Database),
    /// It cannot be opened again yet.
    Lost,
    /// Another process has it. These are read.
    Elsewhere(Copied),
}

/// The store; clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    writer: SyncSender<Order>,
    replaced: Option<Arc<str>>,
}

impl Store {
    /// Opens or makes `state_dir/bootd.redb` and starts its writer thread. A broken file is put aside and an empty one takes its place, since
    /// a rack must come up after a power cut: [`Store::replaced`] tells.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join("bootd.redb");
        let failed = |error: String| StoreError::Open(path.display().to_string(), error);
        std::fs::create_dir_all(state_dir).map_err(|e| failed(e.to_string()))?;
        let (database, replaced) = open_or_replace(&path, Looks::AtAll)?;
        Self::over(File::Open(database), replaced, reopen(path))
            .map_err(|e| StoreError::Open(state_dir.display().to_string(), e.to_string()))
    }

    /// A store whose file another process has yet, and of which this is a copy. Reads are of the copy; writes wait for [`Store::take_file`],
    /// and whoever would wait for one gets an error.
    pub fn ahead(state_dir: &Path, copied: Copied) -> Result<Self, StoreError> {
        Self::over(File::Elsewhere(copied), None, reopen(state_dir.join("bootd.redb")))
            .map_err(|e| StoreError::Open(state_dir.display().to_string(), e.to_string()))
    }

    /// Opens the file, which another process has closed a moment ago. All that waited is written.
    pub fn take_file(&self, state_dir: &Path) -> Result<(), StoreError> {
        // It was whole a moment ago, and reading all of it takes time.
        let (database, _) = open_or_replace(&state_dir.join("bootd.redb"), Looks::NoFurther)?;
        let (done, wait) = sync_channel(1);
        self.writer
            .send(Order::Take(database, done))
            .map_err(|_| StoreError::Closed)?;
        wait.recv().map_err(|_| StoreError::Closed)
    }

    /// Writes all that was told until now, and closes the file for another process. Reads go on, of a copy; writes fail.
    pub fn release(&self) -> Result<(), StoreError> {
        let (done, wait) = sync_channel(1);
        self.writer.send(Order::Release(done)).map_err(|_| StoreError::Closed)?;
        wait.recv().map_err(|_| StoreError::Closed)?
    }

    /// Opens the file again: no other process took it.
    pub fn resume(&self) -> Result<(), StoreError> {
        let (done, wait) = sync_channel(1);
        self.writer.send(Order::Resume(done)).map_err(|_| StoreError::Closed)?;
        wait.recv().map_err(|_| StoreError::Closed)?
    }

    /// All rows, as of one moment.
    pub fn copy(&self) -> Result<Copied, StoreError> {
        self.shared.with(copy, Copied::clone)
    }

    fn over(file: File, replaced: Option<String>, reopen: Reopen) -> io::Result<Self> {
        let is_ahead = matches!(file, File::Elsewhere(_));
        let shared = Arc::new(Shared {
            file: RwLock::new(file),
            trouble: Mutex::default(),
            after: Mutex::default(),
            commits: Durations::new(&REQUESTS),
        });
        let (sender, queue) = sync_channel(QUEUE);
        let writer = Writer {
            shared: Arc::clone(&shared),
            reopen,
            is_ahead,
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
        self.writer.try_send(Order::Write(queued)).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Full,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }

    /// Writes and waits until it is durable, with all that was written before.
    pub fn write_and_wait(&self, write: Write) -> Result<(), StoreError> {
        if self.shared.is_elsewhere() {
            return Err(StoreError::Elsewhere);
        }
        let (done, wait) = sync_channel(1);
        let then: Then = Box::new(move |result| drop(done.send(result)));
        let urgency = Urgency::Now;
        let queued = Queued { write, then, urgency };
        self.writer.send(Order::Write(queued)).map_err(|_| StoreError::Closed)?;
        wait.recv().map_err(|_| StoreError::Closed)?
    }

    /// Reads one value.
    pub fn get(&self, table: &str, key: &str) -> Result<Option<String>, StoreError> {
        let from_file = |database: &Database| {
            let read = database.begin_read().map_err(failed)?;
            match read.open_table(definition(table)) {
                Ok(rows) => Ok(rows.get(key).map_err(failed)?.map(|value| value.value().to_owned())),
                Err(TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(failed(error)),
            }
        };
        self.shared.with(from_file, |copied| copied.get(table, key))
    }

    /// Reads all values whose keys begin with `prefix`, in key order.
    pub fn scan(&self, table: &str, prefix: &str) -> Result<BTreeMap<String, String>, StoreError> {
        let from_file = |database: &Database| {
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
        };
        self.shared.with(from_file, |copied| copied.scan(table, prefix))
    }
}

fn reopen(path: PathBuf) -> Reopen {
    Box::new(move || Database::builder().set_cache_size(CACHE).open(&path))
}

fn copy(database: &Database) -> Result<Copied, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let mut copied = Copied::default();
    for table in read.list_tables().map_err(failed)? {
        let name = table.name().to_owned();
        let rows = read.open_table(definition(&name)).map_err(failed)?;
        let mut found = BTreeMap::new();
        for row in rows.iter().map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            found.insert(key.value().to_owned(), value.value().to_owned());
        }
        copied.put_table(name, found);
    }
    Ok(copied)
}

impl Shared {
    fn with<T>(
        &self,
        from_file: impl FnOnce(&Database) -> Result<T, StoreError>,
        from_copy: impl FnOnce(&Copied) -> T,
    ) -> Result<T, StoreError> {
        match &*self.file() {
            File::Open(database) => from_file(database),
            File::Lost => Err(StoreError::Failed("its file cannot be opened again yet".into())),
            File::Elsewhere(copied) => Ok(from_copy(copied)),
        }
    }

    fn file(&self) -> RwLockReadGuard<'_, File> {
        self.file.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_file(&self, file: File) {
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = file;
    }

    fn is_lost(&self) -> bool {
        matches!(&*self.file(), File::Lost)
    }

    fn is_elsewhere(&self) -> bool {
        matches!(&*self.file(), File::Elsewhere(_))
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
fn open_or_replace(path: &Path, looks: Looks) -> Result<(Database, Option<String>), StoreError> {
    let shown = path.display();
    let why = match open_checked(path, looks) {
        Ok(database) => return Ok((database, None)),
        Err(Unopened::Failed(error)) => return Err(error),
        Err(Unopened::Broken(why)) => why,
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let aside = path.with_added_extension(format!("broken-{}", now.unwrap_or_default().as_secs()));
    let failed = |error: String| StoreError::Open(shown.to_string(), format!("{why}, and {error}"));
    std::fs::rename(path, &aside).map_err(|error| failed(format!("it cannot be put aside: {error}")))?;
    let database = match open_checked(path, looks) {
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

/// How far is looked into a file that is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looks {
    /// All of it is read: what a start does not find, a lease or a plugin would.
    AtAll,
    /// As far as opening goes.
    NoFurther,
}

/// Opens or makes a file.
fn open_checked(path: &Path, looks: Looks) -> Result<Database, Unopened> {
    // redb is not free of assertions about what a file holds.
    if let Err(error) = for_the_owner_only(path) {
        let path = path.display().to_string();
        return Err(Unopened::Failed(StoreError::Open(path, error.to_string())));
    }
    let opened = catch_unwind(|| {
        let mut database = Database::builder().set_cache_size(CACHE).create(path)?;
        let whole = looks == Looks::NoFurther || database.check_integrity()?;
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
    /// Writes wait for the file.
    is_ahead: bool,
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
    fn run(mut self, queue: &Receiver<Order>) {
        let mut next = None;
        let mut early = Vec::new();
        loop {
            let received = match self.retry {
                _ if next.is_some() => next.take().ok_or(RecvTimeoutError::Timeout),
                Some(retry) if self.shared.is_lost() => {
                    queue.recv_timeout(retry.due.saturating_duration_since(Instant::now()))
                }
                _ => queue.recv().map_err(RecvTimeoutError::from),
            };
            if !self.is_waiting() && self.shared.is_lost() {
                self.open_again();
            }
            match received {
                Ok(Order::Write(write)) if self.is_ahead && early.len() >= QUEUE => {
                    report(write.then, Err(StoreError::Full))
                }
                Ok(Order::Write(write)) if self.is_ahead => early.push(write),
                Ok(Order::Write(first)) => {
                    let writes;
                    (writes, next) = batch(first, queue);
                    self.commit(writes);
                }
                Ok(Order::Take(database, done)) => {
                    self.is_ahead = false;
                    self.shared.set_file(File::Open(database));
                    if !early.is_empty() {
                        self.commit(std::mem::take(&mut early));
                    }
                    let _ = done.send(());
                }
                Ok(Order::Release(done)) => drop(done.send(self.release())),
                Ok(Order::Resume(done)) => {
                    self.open_again();
                    let resumed = match self.shared.is_lost() {
                        true => Err(StoreError::Failed(self.shared.trouble().unwrap_or_default())),
                        false => {
                            self.retry = None;
                            self.shared.set_trouble(None);
                            Ok(())
                        }
                    };
                    let _ = done.send(resumed);
                }
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
        if self.shared.is_elsewhere() {
            for Queued { then, .. } in batch {
                report(then, Err(StoreError::Elsewhere));
            }
            return;
        }
        let result = if self.is_waiting() {
            Err(self.shared.trouble().unwrap_or_default())
        } else {
            let started = Instant::now();
            let written = match &*self.shared.file() {
                File::Open(database) => write_all(database, &batch, &mut conflicts),
                File::Lost | File::Elsewhere(_) => Err(failed("its file cannot be opened again yet")),
            };
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
            report(then, result);
        }
        for then in &*self.shared.after.lock().unwrap_or_else(PoisonError::into_inner) {
            if catch_unwind(AssertUnwindSafe(then)).is_err() {
                tracing::error!("what waited for a commit panicked");
            }
        }
    }

    /// Closes the file. Nothing is in the queue that was told before.
    fn release(&self) -> Result<(), StoreError> {
        let copied = self.shared.with(copy, Copied::clone)?;
        self.shared.set_file(File::Elsewhere(copied));
        Ok(())
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
        let mut file = self.shared.file.write().unwrap_or_else(PoisonError::into_inner);
        let opened = catch_unwind(AssertUnwindSafe(|| {
            *file = File::Lost;
            (self.reopen)()
        }));
        let why = match opened {
            Ok(Ok(opened)) => {
                *file = File::Open(opened);
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it cannot be read without a panic".into(),
        };
        drop(file);
        let trouble = format!("the state file cannot be opened again: {why}");
        self.shared.set_trouble(Some(trouble));
        self.later();
    }
}

fn report(then: Then, result: Result<(), StoreError>) {
    // A panic here would end every later write, not just this one.
    if catch_unwind(AssertUnwindSafe(|| then(result))).is_err() {
        tracing::error!("what waited for a write panicked");
    }
}

/// Writes for one commit: all that wait, and if nobody waits for them, those that come soon; and what else was told after them.
fn batch(first: Queued, queue: &Receiver<Order>) -> (Vec<Queued>, Option<Order>) {
    let until = Instant::now() + SOON;
    let mut urgency = first.urgency;
    let mut batch = vec![first];
    while batch.len() < BATCH {
        let next = match urgency {
            Urgency::Now => queue.try_recv().ok(),
            // The last store being gone ends the wait, too.
            Urgency::Soon => queue.recv_timeout(until.saturating_duration_since(Instant::now())).ok(),
        };
        let next = match next {
            Some(Order::Write(next)) => next,
            other => return (batch, other),
        };
        if next.urgency == Urgency::Now {
            urgency = Urgency::Now;
        }
        batch.push(next);
    }
    (batch, None)
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
