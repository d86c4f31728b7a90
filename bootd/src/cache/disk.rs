//! The object files below `cache_dir`: one for each version of an object, with a record beside it.
//!
//! `objects/<xx>/<id>.data` is the bare body, `<id>.meta` says whose it is and has checksums, its own among them; `tmp/` is what is being
//! fetched, and emptied at the start. A file is under its final name only when its bytes are safe on disk, and it is kept only with a record
//! that is whole. `lock` says while bootd runs that it does: whoever finds it so at a start knows that the end was none. What else lies in the folder
//! is left alone and counted. `pins` and `waiting` are lists of names: of what is pinned, and of what is complete and not in service yet. Everything here blocks: the runtime's threads never call it.

use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256};
use crc_fast::{CrcAlgorithm, Digest, checksum};
use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::shelf::{Number, Place, Version};

/// The folder, held by this process alone.
pub(super) struct Disk {
    root: PathBuf,
    lock: File,
    /// Whether it is this process's. Whoever puts something in place holds it.
    ours: RwLock<bool>,
    ended_well: bool,
    /// A disk that fails after so many bytes of a body.
    #[cfg(test)]
    pub(super) fails_after: std::sync::atomic::AtomicU64,
}

/// A cache folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Another process uses it.
    #[error("server.cache_dir {}: another bootd uses it; stop it, or give this one its own", .0.display())]
    InUse(PathBuf),
    /// The system refuses.
    #[error("server.cache_dir {}: {why}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        why: io::Error,
    },
}

/// What is known of an object, beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) bucket: String,
    pub(super) key: String,
    /// The origin that it came from.
    pub(super) origin: String,
    pub(super) len: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) modified: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content_type: Option<String>,
    /// When it was fetched, in nanoseconds since 1970: of two versions the later one holds.
    pub(super) fetched: u64,
    /// SHA-256 of the body, hexadecimal; what was kept by an older version has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
    /// CRC-32C of each [`BLOCK`] of the body.
    pub(super) blocks: Vec<u32>,
}

/// The body of a kept object, being compared with its record.
pub(super) struct Comparison {
    file: Arc<File>,
    /// The same file for where direct reads open, and then do not work.
    plain: Option<Arc<File>>,
    record: Record,
    at: u64,
    whole: Context,
    /// A block, aligned as direct reads want it.
    buffer: Vec<u8>,
    aligned: usize,
}

/// Why a body is not what its record says.
#[derive(Debug, thiserror::Error)]
pub(super) enum Doubt {
    /// It was removed meanwhile.
    #[error("it is gone")]
    Gone,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is other than what was fetched.
    #[error("the bytes from {from} to {until} are not those that were fetched")]
    Block {
        /// The first one of the block.
        from: u64,
        /// The one behind the last.
        until: u64,
    },
    /// The same, of all of it.
    #[error("its SHA-256 is not that of what was fetched")]
    Whole,
}

/// The name of a sealed object's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Id(String);

/// What lies in the folder.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Whole objects, the longest unused first.
    pub(super) objects: Vec<Found>,
    /// Files of objects that were removed: half sealed, damaged, or an older version.
    pub(super) removed: u64,
    /// Files that are no object's.
    pub(super) foreign: u64,
}

/// An object that was kept before the start.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: Id,
    pub(super) record: Record,
    pub(super) file: File,
    used: SystemTime,
}

/// A body on its way to disk.
pub(super) struct Draft {
    pub(super) file: Arc<File>,
    path: PathBuf,
    written: u64,
    /// Of the block that is not full yet, and of all.
    digest: Digest,
    whole: Context,
    blocks: Vec<u32>,
    #[cfg(test)]
    fails_after: u64,
}

impl Record {
    pub(super) fn place(&self) -> Place {
        Place {
            bucket: self.bucket.clone(),
            key: self.key.clone(),
        }
    }

    pub(super) fn version(&self) -> Version {
        Version {
            etag: self.etag.clone(),
            len: self.len,
            modified: self.modified,
        }
    }

    pub(super) fn without_blocks(self) -> Self {
        Self {
            blocks: Vec::new(),
            ..self
        }
    }

    fn to_text(&self) -> io::Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        let mut text = format!("{MAGIC}{:08x}\n", crc(&json)).into_bytes();
        text.extend_from_slice(&json);
        text.push(b'\n');
        Ok(text)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let rest = text.strip_prefix(MAGIC.as_bytes())?;
        let (sum, json) = rest.split_at_checked(9)?;
        let json = json.strip_suffix(b"\n")?;
        if sum != format!("{:08x}\n", crc(json)).as_bytes() {
            return None;
        }
        let record: Self = serde_json::from_slice(json).ok()?;
        let is_whole = record.blocks.len() as u64 == record.len.div_ceil(BLOCK) && record.version().is_exact();
        is_whole.then_some(record)
    }

    /// The name of its files.
    pub(super) fn id(&self) -> Id {
        let mut digest = Context::new(&SHA256);
        let etag = self.etag.as_deref().unwrap_or_default();
        for field in [&*self.bucket, &*self.key, etag] {
            digest.update(&(field.len() as u64).to_be_bytes());
            digest.update(field.as_bytes());
        }
        // The time, too: what is removed late must not be what was fetched anew.
        for field in [self.len, self.modified.unwrap_or_default(), self.fetched] {
            digest.update(&field.to_be_bytes());
        }
        let digest = hex(digest.finish().as_ref());
        Id(digest.get(..ID).unwrap_or(&digest).into())
    }
}

impl Disk {
    /// Makes the folder what it must be, and empties `tmp`.
    pub(super) fn open(root: &Path) -> Result<Self, CacheError> {
        let failed = |why| CacheError::Folder {
            folder: root.into(),
            why,
        };
        make_folder(root).map_err(failed)?;
        let mut open = OpenOptions::new();
        let mut lock = open
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(root.join("lock"))
            .map_err(failed)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(CacheError::InUse(root.into())),
            Err(error) => return Err(failed(error.into())),
        }
        let mut said = String::new();
        // What cannot be read is no end either.
        let ended_well = lock.read_to_string(&mut said).is_ok() && said.is_empty();
        lock.write_all_at(RUNNING, 0).map_err(failed)?;
        lock.sync_all().map_err(failed)?;
        let disk = Self {
            root: root.into(),
            lock,
            ours: RwLock::new(true),
            ended_well,
            #[cfg(test)]
            fails_after: u64::MAX.into(),
        };
        make_folder(&disk.objects()).map_err(failed)?;
        make_folder(&disk.tmp()).map_err(failed)?;
        for entry in fs::read_dir(disk.tmp()).map_err(failed)?.flatten() {
            let path = entry.path();
            let gone = match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            gone.map_err(failed)?;
        }
        Ok(disk)
    }

    /// Whether the process before this one came to its end; true of a new folder.
    pub(super) fn ended_well(&self) -> bool {
        self.ended_well
    }

    /// This one comes to its end.
    pub(super) fn end(&self) -> io::Result<()> {
        match *self.ours() {
            true => self.say_ended(),
            false => Ok(()),
        }
    }

    /// Leaves the folder to another process: what is kept is read on, and nothing changes any more.
    pub(super) fn release(&self) -> io::Result<()> {
        let mut ours = self.ours.write().unwrap_or_else(PoisonError::into_inner);
        self.say_ended()?;
        *ours = false;
        Ok(rustix::fs::flock(&self.lock, FlockOperation::Unlock)?)
    }

    /// No other process took it.
    pub(super) fn resume(&self) -> io::Result<()> {
        let mut ours = self.ours.write().unwrap_or_else(PoisonError::into_inner);
        rustix::fs::flock(&self.lock, FlockOperation::NonBlockingLockExclusive)?;
        self.lock.write_all_at(RUNNING, 0)?;
        *ours = true;
        self.lock.sync_all()
    }

    /// Whether it is this process's.
    pub(super) fn is_ours(&self) -> bool {
        *self.ours()
    }

    fn say_ended(&self) -> io::Result<()> {
        self.lock.set_len(0)?;
        self.lock.sync_all()
    }

    fn ours(&self) -> RwLockReadGuard<'_, bool> {
        self.ours.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// While it is held the folder stays this process's.
    fn hold(&self) -> io::Result<RwLockReadGuard<'_, bool>> {
        let ours = self.ours();
        match *ours {
            true => Ok(ours),
            false => Err(io::Error::other(
                "another process has the cache folder: this one is ending",
            )),
        }
    }

    /// Begins to compare a kept object with its record, read from the disk itself where the file system can do that: nothing of it stays in memory.
    pub(super) fn compare(&self, id: &Id) -> Result<Comparison, Doubt> {
        let found = self.find(id).ok_or(Doubt::Gone)?;
        let flags = OFlags::DIRECT | OFlags::CLOEXEC;
        let direct = rustix::fs::open(self.path(id, "data"), flags, Mode::empty());
        let plain = Arc::new(found.file);
        Ok(match direct {
            Err(_) => Comparison::of(plain, found.record),
            Ok(direct) => Comparison {
                plain: Some(plain),
                ..Comparison::of(Arc::new(direct.into()), found.record)
            },
        })
    }

    /// Looks at all that is kept. What cannot be an object, or not any more, is removed if its name says that it was one.
    pub(super) fn scan(&self) -> io::Result<Scan> {
        let mut scan = Scan::default();
        for folder in fs::read_dir(self.objects())?.flatten() {
            let Some(prefix) = folder
                .file_name()
                .to_str()
                .filter(|name| is_hex(name, 2))
                .map(str::to_owned)
            else {
                scan.foreign += 1;
                continue;
            };
            let Ok(files) = fs::read_dir(folder.path()) else {
                scan.foreign += 1;
                continue;
            };
            let mut names: Vec<String> = Vec::new();
            for file in files.flatten() {
                match file.file_name().to_str().and_then(id_of) {
                    Some(id) if id.starts_with(&prefix) => names.push(id.into()),
                    _ => scan.foreign += 1,
                }
            }
            names.sort_unstable();
            names.dedup();
            for name in names {
                let id = Id(name);
                match self.find(&id) {
                    Some(found) => scan.objects.push(found),
                    None => {
                        self.remove(&id);
                        scan.removed += 1;
                    }
                }
            }
        }
        scan.objects
            .sort_by_key(|found| std::cmp::Reverse(found.record.fetched));
        // What was not in service yet when the process before this one ended is not now either: the files of its set may be older.
        let waiting = self.waiting();
        scan.objects.retain(|found| {
            let is_waiting = waiting.contains(&found.id);
            if is_waiting {
                self.remove(&found.id);
            }
            !is_waiting
        });
        if !waiting.is_empty() {
            self.write_waiting(&[])?;
        }
        let mut seen = std::collections::HashSet::new();
        scan.objects.retain(|found| {
            let is_latest = seen.insert(found.record.place());
            if !is_latest {
                self.remove(&found.id);
                scan.removed += 1;
            }
            is_latest
        });
        scan.objects.sort_by_key(|found| found.used);
        Ok(scan)
    }

    /// The object, if both files are what they should be.
    fn find(&self, id: &Id) -> Option<Found> {
        let meta = self.path(id, "meta");
        let metadata = fs::symlink_metadata(&meta).ok()?;
        if !metadata.is_file() || metadata.len() > LARGEST_RECORD {
            return None;
        }
        let record = Record::parse(&fs::read(&meta).ok()?)?;
        let data = self.path(id, "data");
        let is_whole = fs::symlink_metadata(&data).is_ok_and(|data| data.is_file() && data.len() == record.len);
        if !is_whole || record.id() != *id {
            return None;
        }
        Some(Found {
            id: id.clone(),
            record,
            file: File::open(data).ok()?,
            used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        })
    }

    /// The pinned names, `bucket/key`, as they were written last. One that cannot be read is none.
    pub(super) fn pins(&self) -> Vec<String> {
        let text = fs::read(self.root.join("pins")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes the pinned names, all or as they were.
    pub(super) fn write_pins(&self, pins: &[String]) -> io::Result<()> {
        self.write_names("pins", pins)
    }

    /// Complete objects that are not in service, as they were written last.
    fn waiting(&self) -> Vec<Id> {
        let text = fs::read(self.root.join("waiting")).unwrap_or_default();
        let names: Vec<String> = serde_json::from_slice(&text).unwrap_or_default();
        names.into_iter().map(Id).collect()
    }

    /// Writes which they are, all or as they were: with those that are not among them any more their older versions are out of service.
    pub(super) fn write_waiting(&self, waiting: &[Id]) -> io::Result<()> {
        let names: Vec<String> = waiting.iter().map(|id| id.0.clone()).collect();
        self.write_names("waiting", &names)
    }

    fn write_names(&self, name: &str, names: &[String]) -> io::Result<()> {
        let _ours = self.hold()?;
        make_folder(&self.tmp())?;
        let written = self.tmp().join(name);
        let mut file = File::create(&written)?;
        file.write_all(&serde_json::to_vec(names)?)?;
        file.sync_all()?;
        fs::rename(&written, self.root.join(name))?;
        File::open(&self.root)?.sync_all()
    }

    /// Bytes free for this process, and all bytes of the file system.
    pub(super) fn space(&self) -> io::Result<(u64, u64)> {
        let system = rustix::fs::statvfs(&self.root)?;
        let bytes = |blocks: u64| blocks.saturating_mul(system.f_frsize);
        Ok((bytes(system.f_bavail), bytes(system.f_blocks)))
    }

    /// A file for a body of this length, its room reserved where the file system can do that.
    pub(super) fn draft(&self, number: Number, len: u64) -> io::Result<Draft> {
        let _ours = self.hold()?;
        make_folder(&self.tmp())?;
        let path = self.tmp().join(format!("{}.data", number.0));
        let mut open = OpenOptions::new();
        let file = open
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        let draft = Draft {
            file: Arc::new(file),
            path,
            written: 0,
            digest: Digest::new(CRC),
            whole: Context::new(&SHA256),
            blocks: Vec::new(),
            #[cfg(test)]
            fails_after: self.fails_after.load(std::sync::atomic::Ordering::SeqCst),
        };
        if len > 0 {
            match rustix::fs::fallocate(&draft.file, FallocateFlags::KEEP_SIZE, 0, len) {
                Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS) => {}
                Err(error) => {
                    let _ = fs::remove_file(&draft.path);
                    return Err(error.into());
                }
            }
        }
        Ok(draft)
    }

    /// Removes what a fill wrote.
    pub(super) fn discard(&self, draft: &Draft) {
        let Ok(_ours) = self.hold() else { return };
        // Its record is there when the seal got so far.
        for path in [&draft.path, &draft.path.with_extension("meta")] {
            let _ = fs::remove_file(path);
        }
    }

    /// Makes a complete body a kept object, and says its SHA-256. Whatever ends this in the middle leaves only files that the next start removes.
    pub(super) fn seal(&self, draft: &mut Draft, mut record: Record) -> io::Result<(Id, String)> {
        let _ours = self.hold()?;
        if draft.written != record.len {
            return Err(io::Error::other("the body is not complete"));
        }
        record.blocks = draft.finished_blocks();
        let sha256 = draft.sha256();
        record.sha256 = Some(sha256.clone());
        let id = record.id();
        let (data, meta) = (self.path(&id, "data"), self.path(&id, "meta"));
        let written = draft.path.with_extension("meta");
        rustix::fs::fdatasync(&draft.file)?;
        let mut open = OpenOptions::new();
        let mut file = open
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&written)?;
        file.write_all(&record.to_text()?)?;
        file.sync_all()?;
        let folder = data.parent().unwrap_or(&self.root);
        make_folder(&self.objects())?;
        let is_new = !folder.is_dir();
        make_folder(folder)?;
        if is_new {
            File::open(self.objects())?.sync_all()?;
        }
        fs::rename(&draft.path, &data)?;
        fs::rename(&written, &meta)?;
        File::open(folder)?.sync_all()?;
        Ok((id, sha256))
    }

    /// Removes a kept object: the record first, since nothing is kept without one.
    pub(super) fn remove(&self, id: &Id) {
        let Ok(_ours) = self.hold() else { return };
        for path in self.files(id) {
            let _ = fs::remove_file(path);
        }
    }

    /// The files of a kept object, in the order in which they are removed.
    pub(super) fn files(&self, id: &Id) -> [PathBuf; 2] {
        ["meta", "data"].map(|extension| self.path(id, extension))
    }

    /// Notes that an object was used now, for the order after the next start.
    pub(super) fn touch(&self, id: &Id) {
        let Ok(_ours) = self.hold() else { return };
        if let Ok(file) = OpenOptions::new().write(true).open(self.path(id, "meta")) {
            let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
        }
    }

    fn path(&self, id: &Id, extension: &str) -> PathBuf {
        let prefix = id.0.get(..2).unwrap_or("00");
        self.objects().join(prefix).join(format!("{}.{extension}", id.0))
    }

    fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }
}

impl Draft {
    /// Appends to the body.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if self.written + bytes.len() as u64 > self.fails_after {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all_at(bytes, self.written)?;
        self.whole.update(bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = usize::try_from(BLOCK - self.written % BLOCK).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.digest.update(now);
            self.written += now.len() as u64;
            if self.written.is_multiple_of(BLOCK) {
                self.end_block();
            }
            rest = later;
        }
        Ok(())
    }

    /// SHA-256 of what was written so far, hexadecimal.
    pub(super) fn sha256(&self) -> String {
        hex(self.whole.clone().finish().as_ref())
    }

    fn finished_blocks(&mut self) -> Vec<u32> {
        if !self.written.is_multiple_of(BLOCK) {
            self.end_block();
        }
        std::mem::take(&mut self.blocks)
    }

    fn end_block(&mut self) {
        let digest = std::mem::replace(&mut self.digest, Digest::new(CRC));
        self.blocks.push(low(digest.finalize()));
    }
}

impl Comparison {
    /// Of a body with a record that has its checksums.
    pub(super) fn of(file: Arc<File>, record: Record) -> Self {
        let buffer = vec![0; BLOCK as usize + ALIGNMENT];
        Self {
            file,
            plain: None,
            record,
            at: 0,
            whole: Context::new(&SHA256),
            aligned: buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT),
            buffer,
        }
    }

    /// Compares the next block; the number of bytes that are good from the beginning. `None`: that was all.
    pub(super) fn next(&mut self) -> Result<Option<u64>, Doubt> {
        let (from, len) = (self.at, self.record.len);
        if from >= len {
            return Ok(None);
        }
        let until = (from + BLOCK).min(len);
        let wanted = (until - from) as usize;
        let room = self.buffer.get_mut(self.aligned..).unwrap_or_default();
        let room = room.get_mut(..BLOCK as usize).unwrap_or_default();
        let mut read = 0;
        while read < wanted {
            let rest = room.get_mut(read..).unwrap_or_default();
            match self.file.read_at(rest, from + read as u64) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => match self.plain.take() {
                    // What is no damage must not cost an object.
                    Some(plain) if error.kind() == io::ErrorKind::InvalidInput => self.file = plain,
                    _ => return Err(error.into()),
                },
            }
        }
        let block = room.get(..wanted).unwrap_or_default();
        let number = usize::try_from(from / BLOCK).unwrap_or(usize::MAX);
        if self.record.blocks.get(number) != Some(&crc(block)) {
            return Err(Doubt::Block { from, until });
        }
        self.whole.update(block);
        self.at = until;
        if until == len {
            let whole = hex(self.whole.clone().finish().as_ref());
            let is_same = self.record.sha256.as_ref().is_none_or(|sha256| *sha256 == whole);
            return if is_same { Ok(Some(until)) } else { Err(Doubt::Whole) };
        }
        Ok(Some(until))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The id in the name of an object's file.
fn id_of(name: &str) -> Option<&str> {
    let (id, extension) = name.split_once('.')?;
    (is_hex(id, ID) && matches!(extension, "data" | "meta")).then_some(id)
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn crc(bytes: &[u8]) -> u32 {
    low(checksum(CRC, bytes))
}

/// A CRC of 32 bits in its wider type.
fn low(sum: u64) -> u32 {
    u32::try_from(sum & u64::from(u32::MAX)).unwrap_or_default()
}

/// Each of these parts of a body has its checksum.
pub(super) const BLOCK: u64 = 4 << 20;
const CRC: CrcAlgorithm = CrcAlgorithm::Crc32Iscsi;
/// A record begins so; the number is that of its form.
const MAGIC: &str = "bootd object 1 crc32c ";
/// What is in the lock while a process runs.
const RUNNING: &[u8] = b"running\n";
/// Of direct reads; no disk wants more.
const ALIGNMENT: usize = 4096;
/// Digits of an id.
const ID: usize = 32;
/// Bytes of a record at most: one of an object of 5 TB, S3's largest.
const LARGEST_RECORD: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, etag: &str, body: &[u8]) -> Record {
        Record {
            bucket: "b".into(),
            key: key.into(),
            origin: "o".into(),
            len: body.len() as u64,
            etag: Some(etag.into()),
            modified: None,
            content_type: Some("text/plain".into()),
            fetched: 1,
            sha256: None,
            blocks: Vec::new(),
        }
    }

    fn keep(disk: &Disk, record: &Record, body: &[u8]) -> Id {
        let mut draft = disk.draft(Number(record.fetched), record.len).unwrap();
        for chunk in body.chunks(70_000) {
            draft.write(chunk).unwrap();
        }
        disk.seal(&mut draft, record.clone()).unwrap().0
    }

    fn names(scan: &Scan) -> Vec<String> {
        let mut names: Vec<String> = scan.objects.iter().map(|found| found.record.key.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_sealed_is_found_again_with_a_checksum_for_each_block() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let body: Vec<u8> = (0..BLOCK + 12_345).map(|i| (i * 7 % 251) as u8).collect();
        keep(&disk, &record("large", "\"a\"", &body), &body);
        keep(&disk, &record("empty", "\"a\"", b""), b"");
        let scan = disk.scan().unwrap();
        assert_eq!(
            (names(&scan), scan.removed, scan.foreign),
            (vec!["empty".into(), "large".into()], 0, 0)
        );
        let found = scan.objects.iter().find(|found| found.record.key == "large").unwrap();
        let blocks: Vec<u32> = body.chunks(BLOCK as usize).map(crc).collect();
        assert_eq!(found.record.blocks, blocks);
        let mut read = vec![0; body.len()];
        found.file.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(read, body);
        assert_eq!(fs::read_dir(disk.tmp()).unwrap().count(), 0);
    }

    #[test]
    fn a_seal_that_ends_anywhere_leaves_nothing_that_is_taken_for_an_object() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let good = keep(&disk, &record("good", "\"a\"", b"good"), b"good");
        let sealed = |key: &str| keep(&disk, &record(key, "\"a\"", b"12345"), b"12345");
        // The body has its name, the record not yet.
        fs::remove_file(disk.path(&sealed("1"), "meta")).unwrap();
        // The other way round, as a file system without order may leave it.
        fs::remove_file(disk.path(&sealed("2"), "data")).unwrap();
        // The record, or the body, is cut.
        let cut = |path: PathBuf| OpenOptions::new().write(true).open(path).unwrap().set_len(3).unwrap();
        cut(disk.path(&sealed("3"), "meta"));
        cut(disk.path(&sealed("4"), "data"));
        // A bit of the record is another.
        let flipped = disk.path(&sealed("5"), "meta");
        let mut text = fs::read(&flipped).unwrap();
        text[60] ^= 1;
        fs::write(&flipped, text).unwrap();
        // Before the first rename.
        let mut draft = disk.draft(Number(9), 5).unwrap();
        draft.write(b"12").unwrap();
        fs::write(disk.tmp().join("9.meta"), "half").unwrap();
        // What is not the cache's.
        fs::write(disk.objects().join("notes.txt"), "mine").unwrap();
        fs::write(disk.path(&good, "bak"), "mine").unwrap();
        drop(disk);

        let disk = Disk::open(dir.path()).unwrap();
        let scan = disk.scan().unwrap();
        assert_eq!((names(&scan), scan.removed, scan.foreign), (vec!["good".into()], 5, 2));
        let again = disk.scan().unwrap();
        assert_eq!(
            (names(&again), again.removed, again.foreign),
            (vec!["good".into()], 0, 2)
        );
        assert_eq!(fs::read_dir(disk.tmp()).unwrap().count(), 0);
        assert_eq!(fs::read(disk.objects().join("notes.txt")).unwrap(), b"mine");
    }

    #[test]
    fn of_two_versions_the_later_one_is_kept_and_the_order_is_that_of_use() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let mut new = record("k", "\"new\"", b"new");
        new.fetched = 7;
        keep(&disk, &new, b"new");
        keep(&disk, &record("k", "\"old\"", b"old"), b"old");
        let other = keep(&disk, &record("other", "\"x\"", b"x"), b"x");
        let past = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
        File::open(disk.path(&other, "meta")).unwrap().set_times(past).unwrap();
        let scan = disk.scan().unwrap();
        let order: Vec<&str> = scan.objects.iter().map(|found| &*found.record.key).collect();
        assert_eq!((order, scan.removed), (vec!["other", "k"], 1));
        disk.touch(&other);
        let scan = disk.scan().unwrap();
        assert_eq!(scan.objects.last().unwrap().record.key, "other");
        assert_eq!(scan.objects.first().unwrap().record.etag.as_deref(), Some("\"new\""));
    }

    #[test]
    fn a_folder_is_used_by_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        assert!(matches!(Disk::open(dir.path()), Err(CacheError::InUse(_))));
        drop(disk);
        assert!(Disk::open(dir.path()).is_ok());
        assert!(matches!(
            Disk::open(Path::new("/proc/none")),
            Err(CacheError::Folder { .. })
        ));
    }
}
