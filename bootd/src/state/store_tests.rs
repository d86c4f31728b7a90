//! What survives restarts, broken files and failing disks.

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

/// A store whose disk is full when told so.
pub(crate) fn on_a_disk_that_may_be_full(dir: &Path, full: &Arc<AtomicBool>) -> Store {
    let (path, disk) = (dir.join("bootd.redb"), Arc::clone(full));
    let reopen: Reopen = Box::new(move || {
        let mut file = OpenOptions::new();
        let file = file.read(true).write(true).create(true).truncate(false).open(&path)?;
        let (file, full) = (FileBackend::new(file)?, Arc::clone(&disk));
        Database::builder().create_with_backend(Disk { file, full })
    });
    Store::over(File::Open(reopen().unwrap()), None, reopen).unwrap()
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
    let full = Arc::new(AtomicBool::new(false));
    let store = on_a_disk_that_may_be_full(dir.path(), &full);
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

#[test]
fn what_nobody_waits_for_is_written_soon_or_with_what_somebody_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (done, wait) = std::sync::mpsc::channel();
    let told = done.clone();
    store
        .write_soon(put("a", "1"), move |result| told.send(("a", result.is_ok())).unwrap())
        .unwrap();
    assert!(
        wait.try_recv().is_err(),
        "written before anybody could share its commit"
    );
    store.write_and_wait(put("b", "2")).unwrap();
    assert_eq!(wait.try_recv(), Ok(("a", true)));
    store
        .write_soon(put("c", "3"), move |result| done.send(("c", result.is_ok())).unwrap())
        .unwrap();
    assert_eq!(wait.recv_timeout(Duration::from_secs(10)), Ok(("c", true)));
    assert_eq!(store.get("core", "c").unwrap().as_deref(), Some("3"));
}

#[test]
fn the_state_file_is_for_its_owner_only_also_when_it_was_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bootd.redb");
    let mode = || std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    drop(Store::open(dir.path()).unwrap());
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    reopen(dir.path());
    assert_eq!(mode(), 0o600);
}

#[test]
fn a_store_goes_from_one_process_to_the_next_with_what_both_wrote_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let old = Store::open(folder.path()).unwrap();
    old.write_and_wait(put("a", "1")).unwrap();
    let new = Store::ahead(folder.path(), old.copy().unwrap()).unwrap();
    assert_eq!(new.get("core", "a").unwrap().as_deref(), Some("1"));
    assert!(matches!(new.write_and_wait(put("x", "1")), Err(StoreError::Elsewhere)));
    assert!(matches!(new.take_file(folder.path()), Err(StoreError::InUse(_))));

    let (done, written) = std::sync::mpsc::channel();
    new.write(put("b", "2"), move |result| drop(done.send(result))).unwrap();
    old.write(put("c", "3"), |_| {}).unwrap();
    old.release().unwrap();
    assert_eq!(
        old.get("core", "c").unwrap().as_deref(),
        Some("3"),
        "what was told before is in the copy"
    );
    assert_eq!(old.scan("core", "a").unwrap().len(), 1);
    assert!(matches!(old.write_and_wait(put("d", "4")), Err(StoreError::Elsewhere)));

    written.try_recv().unwrap_err();
    new.take_file(folder.path()).unwrap();
    written.recv().unwrap().unwrap();
    let keys: Vec<String> = new.scan("core", "").unwrap().into_keys().collect();
    assert_eq!(keys, ["a", "b", "c"]);
}

#[test]
fn a_store_that_nobody_took_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.release().unwrap();
    drop(Store::open(folder.path()).unwrap());
    let deadline = Instant::now() + Duration::from_secs(10);
    // The other one's thread closes it a moment after its last handle went.
    while store.resume().is_err() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    store.write_and_wait(put("a", "1")).unwrap();
    assert_eq!(store.get("core", "a").unwrap().as_deref(), Some("1"));
}
