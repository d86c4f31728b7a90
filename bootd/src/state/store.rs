//! The store over redb, and its writer thread.
//!
//! After a failed write, of a full disk for one, redb refuses all that comes after, be there space again or not. So the writer thread closes
//! the file and opens it again, to be read at least; it writes again after a pause, longer and longer while that fails, and what is
//! written in between fails at once. [`Store::trouble`] tells.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError,
};

/// Writes that may wait at once; a full queue refuses.
const QUEUE: usize = 4096;
/// Writes that share one commit at most.
const BATCH: usize = 1024;
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

/// Called on the writer thread when a write is durable, or failed.
type Then = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Opens the file again.
type Reopen = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

/// What readers and the writer thread share.
struct Shared {
    /// `None` while it cannot be opened again. Only the writer thread changes it.
    database: RwLock<Option<Database>>,
    /// How the last commit failed.
    trouble: Mutex<Option<String>>,
}

/// The store; clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    writer: SyncSender<(Write, Then)>,
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
        let reopen: Reopen = Box::new(move || Database::open(&path));
        Self::over(database, replaced, reopen)
            .map_err(|e| StoreError::Open(state_dir.display().to_string(), e.to_string()))
    }

    fn over(database: Database, replaced: Option<String>, reopen: Reopen) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            database: RwLock::new(Some(database)),
            trouble: Mutex::default(),
        });
        let (sender, queue) = sync_channel(QUEUE);
        let writer = Writer {
            shared: Arc::clone(&shared),
            reopen,
            retry: None,
        };
        std::thread::Builder::new()
            .name("state".into())
            .spawn(move || writer.run(&queue))?;
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

    /// Hands a write to the writer thread; never waits. `then` runs on that thread when the write is durable or failed.
    pub fn write(
        &self,
        write: Write,
        then: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.writer
            .try_send((write, Box::new(then)))
            .map_err(|error| match error {
                TrySendError::Full(_) => StoreError::Full,
                TrySendError::Disconnected(_) => StoreError::Closed,
            })
    }

    /// Writes and waits until it is durable.
    pub fn write_and_wait(&self, write: Write) -> Result<(), StoreError> {
        let (done, wait) = sync_channel(1);
        let then: Then = Box::new(move |result| drop(done.send(result)));
        self.writer.send((write, then)).map_err(|_| StoreError::Closed)?;
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
    let opened = catch_unwind(|| {
        let mut database = Database::create(path)?;
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
    fn run(mut self, queue: &Receiver<(Write, Then)>) {
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
                Ok(first) => {
                    let mut batch = vec![first];
                    while batch.len() < BATCH {
                        let Ok(next) = queue.try_recv() else { break };
                        batch.push(next);
                    }
                    self.commit(batch);
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
    fn commit(&mut self, batch: Vec<(Write, Then)>) {
        let mut conflicts = Vec::with_capacity(batch.len());
        let result = if self.is_waiting() {
            Err(self.shared.trouble().unwrap_or_default())
        } else {
            let written = self.shared.with(|database| write_all(database, &batch, &mut conflicts));
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
        for (at, (_, then)) in batch.into_iter().enumerate() {
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

fn write_all(database: &Database, batch: &[(Write, Then)], conflicts: &mut Vec<bool>) -> Result<(), StoreError> {
    let written = catch_unwind(AssertUnwindSafe(|| {
        let mut transaction = database.begin_write().map_err(failed)?;
        transaction.set_durability(Durability::Immediate).map_err(failed)?;
        for (write, _) in batch {
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
mod tests {
    use std::fs::OpenOptions;
    use std::ops::Bound;
    use std::sync::atomic::{AtomicBool, Ordering};

    use redb::backends::FileBackend;
    use redb::{BackendError, StorageBackend};

    use super::*;

    fn row(key: &str) -> Row {
        Row {
            table: "core".into(),
            key: key.into(),
        }
    }

    /// Opens a file whose writer thread may still be ending: it does when the last handle is gone, and until then the file is locked.
    fn reopen(dir: &Path) -> Store {
        let store = (0..100).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            Store::open(dir).ok()
        });
        store.unwrap()
    }

    fn filled(dir: &Path) {
        let store = Store::open(dir).unwrap();
        for key in 0..200 {
            let put = vec![(row(&format!("a/{key}")), "x".repeat(500))];
            store
                .write_and_wait(Write {
                    put,
                    ..Write::default()
                })
                .unwrap();
        }
    }

    fn put_aside(dir: &Path) -> Vec<std::path::PathBuf> {
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        files
            .filter(|path| path.to_string_lossy().contains("bootd.redb.broken-"))
            .collect()
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        {
            let store = Store::open(dir.path()).unwrap();
            store
                .write_and_wait(Write {
                    put: vec![(row("a/1"), "x".into()), (row("b"), "y".into())],
                    ..Write::default()
                })
                .unwrap();
        }
        let store = reopen(dir.path());
        assert_eq!(store.get("core", "b").unwrap().as_deref(), Some("y"));
        assert_eq!(store.scan("core", "a/").unwrap().len(), 1);
        assert_eq!(store.get("nothing", "b").unwrap(), None);
        assert_eq!((store.replaced(), put_aside(dir.path()).len()), (None, 0));
    }

    #[test]
    fn a_file_that_is_no_database_is_put_aside() {
        // The last one is what a power cut leaves of a file that was being made.
        for garbage in [b"x".to_vec(), b"not a database".repeat(1000), vec![0; 1 << 20]] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("bootd.redb"), &garbage).unwrap();
            let store = Store::open(dir.path()).unwrap();
            let aside = put_aside(dir.path());
            assert_eq!(std::fs::read(&aside[0]).unwrap(), garbage);
            let told = store.replaced().unwrap();
            assert!(told.contains(&*aside[0].to_string_lossy()), "{told}");
            store
                .write_and_wait(Write {
                    put: vec![(row("a"), "new".into())],
                    ..Write::default()
                })
                .unwrap();
            drop(store);
            let store = reopen(dir.path());
            assert_eq!(store.get("core", "a").unwrap().as_deref(), Some("new"));
            assert_eq!((store.replaced(), put_aside(dir.path()).len()), (None, 1));
        }
    }

    #[test]
    fn a_file_of_any_other_length_or_contents_never_stops_a_start() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        drop(reopen(dir.path()));
        let good = (0..100).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            // Locked until its writer thread has ended.
            let file = dir.path().join("bootd.redb");
            Database::open(&file).ok()?;
            std::fs::read(file).ok()
        });
        let good = good.unwrap();
        let opened = |contents: &[u8]| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("bootd.redb"), contents).unwrap();
            let store = Store::open(dir.path()).unwrap();
            let kept = store.scan("core", "a/").unwrap().len();
            assert_eq!(store.replaced().is_some(), put_aside(dir.path()).len() == 1);
            assert_eq!(kept, if store.replaced().is_some() { 0 } else { 200 });
            kept
        };
        assert_eq!(opened(&good), 200);
        for length in [9, 64, 320, 4096, 5000, 8192, 40_960, good.len() / 2] {
            assert_eq!(opened(&good[..length]), 0, "{length} bytes");
        }
        for at in (0..good.len()).step_by(good.len() / 40) {
            let mut bad = good.clone();
            bad[at..].iter_mut().take(4096).for_each(|byte| *byte ^= 0x55);
            opened(&bad);
        }
    }

    #[test]
    fn a_file_that_another_bootd_uses_stays_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let _store = Store::open(dir.path()).unwrap();
        let error = Store::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("another bootd uses this state_dir"), "{error}");
        assert_eq!(put_aside(dir.path()).len(), 0);
    }

    #[test]
    fn a_file_that_is_not_at_fault_stays_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bootd.redb")).unwrap();
        assert!(matches!(Store::open(dir.path()), Err(StoreError::Open(..))));
        assert_eq!(put_aside(dir.path()).len(), 0);
    }

    /// A file on a disk that may be full.
    #[derive(Debug)]
    struct Disk {
        file: FileBackend,
        full: Arc<AtomicBool>,
    }

    impl Disk {
        fn room(&self) -> io::Result<()> {
            match self.full.load(Ordering::Relaxed) {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.file.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.room()?;
            self.file.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.room()?;
            self.file.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.room()?;
            self.file.write(offset, data)
        }

        fn close(&self) -> io::Result<()> {
            self.file.close()
        }

        fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
            self.file.try_lock_range(start, end)
        }

        fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
            self.file.unlock_range(start, end)
        }
    }

    fn put(key: &str, value: &str) -> Write {
        Write {
            put: vec![(row(key), value.into())],
            ..Write::default()
        }
    }

    #[test]
    fn a_disk_that_was_full_is_written_again_without_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bootd.redb");
        let full = Arc::new(AtomicBool::new(false));
        let disk = Arc::clone(&full);
        let reopen: Reopen = Box::new(move || {
            let mut file = OpenOptions::new();
            let file = file.read(true).write(true).create(true).truncate(false).open(&path)?;
            let (file, full) = (FileBackend::new(file)?, Arc::clone(&disk));
            Database::builder().create_with_backend(Disk { file, full })
        });
        let store = Store::over(reopen().unwrap(), None, reopen).unwrap();
        store.write_and_wait(put("a", "before")).unwrap();
        assert_eq!(store.trouble(), None);

        full.store(true, Ordering::Relaxed);
        let until = Instant::now() + FIRST_PAUSE * 5;
        while Instant::now() < until {
            assert!(matches!(
                store.write_and_wait(put("a", "lost")),
                Err(StoreError::Failed(_))
            ));
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(store.trouble().is_some());

        full.store(false, Ordering::Relaxed);
        let until = Instant::now() + Duration::from_secs(5);
        while store.write_and_wait(put("b", "after")).is_err() {
            assert!(Instant::now() < until, "{:?}", store.trouble());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(store.trouble(), None);
        assert_eq!(store.get("core", "a").unwrap().as_deref(), Some("before"));
        assert_eq!(store.get("core", "b").unwrap().as_deref(), Some("after"));
    }

    #[test]
    fn a_panic_of_who_waits_for_a_write_ends_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.write(put("a", "1"), |_| panic!("of who waits")).unwrap();
        store.write_and_wait(put("b", "2")).unwrap();
        assert_eq!(store.get("core", "a").unwrap().as_deref(), Some("1"));
    }

    #[test]
    fn a_precondition_that_fails_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let write = Write {
            expect: vec![(row("a"), Some("old".into()))],
            put: vec![(row("a"), "new".into())],
            delete: vec![],
        };
        assert!(matches!(store.write_and_wait(write), Err(StoreError::Conflict)));
        assert_eq!(store.get("core", "a").unwrap(), None);
    }
}
