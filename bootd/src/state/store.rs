//! The store over redb, and its writer thread.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, TableError};

/// Writes that may wait at once; a full queue refuses.
const QUEUE: usize = 4096;
/// Writes that share one commit at most.
const BATCH: usize = 1024;

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
    /// The file cannot be opened, or another bootd holds it.
    #[error("the state file {0} cannot be opened: {1}")]
    Open(String, String),
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
            Self::Full => "store_full",
            Self::Closed => "store_closed",
            Self::Conflict => "store_conflict",
            Self::Failed(_) => "store_failed",
        }
    }
}

/// Called on the writer thread when a write is durable, or failed.
type Then = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// The store; clones share it.
#[derive(Clone)]
pub struct Store {
    database: Arc<Database>,
    writer: SyncSender<(Write, Then)>,
}

impl Store {
    /// Opens or makes `state_dir/bootd.redb` and starts its writer thread.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join("bootd.redb");
        let failed = |error: String| StoreError::Open(path.display().to_string(), error);
        std::fs::create_dir_all(state_dir).map_err(|e| failed(e.to_string()))?;
        let database = Arc::new(Database::create(&path).map_err(|e| failed(e.to_string()))?);
        let (writer, queue) = sync_channel(QUEUE);
        let shared = Arc::clone(&database);
        std::thread::Builder::new()
            .name("state".into())
            .spawn(move || write_loop(&shared, &queue))
            .map_err(|e| failed(e.to_string()))?;
        Ok(Self { database, writer })
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
        let read = self.database.begin_read().map_err(failed)?;
        match read.open_table(definition(table)) {
            Ok(rows) => Ok(rows.get(key).map_err(failed)?.map(|value| value.value().to_owned())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Reads all values whose keys begin with `prefix`, in key order.
    pub fn scan(&self, table: &str, prefix: &str) -> Result<BTreeMap<String, String>, StoreError> {
        let read = self.database.begin_read().map_err(failed)?;
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
    }
}

fn write_loop(database: &Database, queue: &Receiver<(Write, Then)>) {
    while let Ok(first) = queue.recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH {
            let Ok(next) = queue.try_recv() else { break };
            batch.push(next);
        }
        commit(database, batch);
    }
}

/// One transaction for the whole batch. A write whose preconditions fail is left out by itself; a failing disk fails them all.
fn commit(database: &Database, batch: Vec<(Write, Then)>) {
    let mut conflicts = Vec::with_capacity(batch.len());
    let result = (|| {
        let mut transaction = database.begin_write().map_err(failed)?;
        transaction.set_durability(Durability::Immediate).map_err(failed)?;
        for (write, _) in &batch {
            conflicts.push(!apply(&transaction, write)?);
        }
        transaction.commit().map_err(failed)
    })();
    for (at, (_, then)) in batch.into_iter().enumerate() {
        then(match &result {
            Ok(()) if conflicts[at] => Err(StoreError::Conflict),
            Ok(()) => Ok(()),
            Err(error) => Err(StoreError::Failed(error.to_string())),
        });
    }
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
    use super::*;

    fn row(key: &str) -> Row {
        Row {
            table: "core".into(),
            key: key.into(),
        }
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
        // The writer thread ends when the last handle is gone; until then the file is locked.
        let store = (0..100).find_map(|_| {
            std::thread::yield_now();
            std::thread::sleep(std::time::Duration::from_millis(20));
            Store::open(dir.path()).ok()
        });
        let store = store.unwrap();
        assert_eq!(store.get("core", "b").unwrap().as_deref(), Some("y"));
        assert_eq!(store.scan("core", "a/").unwrap().len(), 1);
        assert_eq!(store.get("nothing", "b").unwrap(), None);
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
