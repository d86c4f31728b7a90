//! A folder as an origin. A key opens the regular file of that name below the folder, and never anything outside: the kernel resolves it
//! with openat2, symlinks that stay inside included. Reads run on tokio's blocking threads, a chunk each. A file that changes while it is read
//! ends in an error. (object_store's own local store is not used: it follows symlinks anywhere, reads 8 KiB at a time, and turns in circles
//! when a file shrinks.)

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::try_unfold;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::list::{Listed, Listing, Page};
use super::name::check_key;
use super::{Object, ObjectBody, OpenError, Want};
use crate::http::BodyError;
use crate::http::range::Slice;

/// The folder.
pub(super) struct Dir {
    root: Arc<Path>,
}

impl Dir {
    /// The folder need not exist yet.
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// A page of the files below it.
    pub(super) async fn list(&self, page: &Page) -> Result<Listing, OpenError> {
        let (root, page) = (Arc::clone(&self.root), page.clone());
        let list = move || {
            let mut listing = Listing::default();
            let _ = walk(&root, "", &page, &mut listing, &mut { LOOKED_AT })?;
            Ok(listing)
        };
        tokio::task::spawn_blocking(list)
            .await
            .map_err(|error| OpenError::Origin(error.to_string()))?
    }

    pub(super) async fn open(&self, key: &str, want: &Want) -> Result<Object, OpenError> {
        let root = Arc::clone(&self.root);
        let wanted = key.to_owned();
        let (file, metadata) = tokio::task::spawn_blocking(move || open(&root, &wanted))
            .await
            .map_err(|error| OpenError::Origin(error.to_string()))??;

        let len = metadata.len();
        let etag = tag(&metadata);
        if want.if_match.as_ref().is_some_and(|wanted| *wanted != etag) {
            return Err(OpenError::Changed);
        }
        let (range, partial) = match want.range.of_length(len) {
            _ if want.head => (0..0, false),
            Slice::Whole => (0..len, false),
            Slice::Part(part) => (part, true),
            Slice::Unsatisfiable => return Err(OpenError::Unsatisfiable { len }),
        };
        let body = ObjectBody::new(
            range.end - range.start,
            chunks(file, etag.clone(), range.start, range.end),
        );
        Ok(Object {
            len,
            etag: Some(etag),
            last_modified: metadata.modified().ok(),
            content_type: None,
            range,
            partial,
            body,
            mapped: None,
            kept: false,
            stale: None,
        })
    }
}

/// What lies below a folder, `""` or ending with a slash, as far as the page wants it. Symlinks to folders are not followed: they may lead in a circle.
fn walk(
    root: &Path,
    folder: &str,
    page: &Page,
    listing: &mut Listing,
    left: &mut usize,
) -> Result<ControlFlow<()>, OpenError> {
    let Ok(entries) = fs::read_dir(root.join(folder)) else {
        // It went meanwhile, or is not for us.
        return Ok(ControlFlow::Continue(()));
    };
    let mut names: Vec<String> = Vec::new();
    for entry in entries.flatten() {
        *left = left.checked_sub(1).ok_or_else(too_many)?;
        let (Ok(mut name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) else {
            continue;
        };
        if kind.is_dir() {
            name.push('/');
        }
        names.push(name);
    }
    names.sort_unstable();
    for name in names {
        let key = format!("{folder}{name}");
        let leads_there = key.starts_with(&page.prefix) || page.prefix.starts_with(&key);
        let begin = page.begin();
        if !leads_there || (*key < *begin && !begin.starts_with(&key)) || check_key(key.trim_end_matches('/')).is_err()
        {
            continue;
        }
        let object = || {
            let (_, metadata) = open(root, &key).ok()?;
            Some(Listed {
                key: key.clone(),
                len: metadata.len(),
                etag: Some(tag(&metadata)),
                last_modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            })
        };
        let taken = match key.ends_with('/') && page.common(&key).is_none() {
            true => walk(root, &key, page, listing, left)?,
            false => listing.offer(page, &key, object),
        };
        if taken.is_break() {
            return Ok(taken);
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn too_many() -> OpenError {
    OpenError::Origin(format!(
        "the folder has more than {LOOKED_AT} entries where it is looked at"
    ))
}

fn open(root: &Path, key: &str) -> Result<(File, Metadata), OpenError> {
    let in_root = |error: io::Error| OpenError::Origin(format!("{}: {error}", root.display()));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(root, flags, Mode::empty()).map_err(|error| in_root(error.into()))?;
    let file = match open_beneath(&folder, Path::new(key), ResolveFlags::NO_MAGICLINKS) {
        // A way out, or a symlink with an absolute target; something was renamed meanwhile; an old kernel.
        Err(Errno::XDEV | Errno::AGAIN | Errno::NOSYS) => {
            let root = fs::canonicalize(root).map_err(in_root)?;
            let path = fs::canonicalize(root.join(key)).map_err(refusal)?;
            let Ok(below) = path.strip_prefix(&root) else {
                return Err(OpenError::Denied("the key leads out of its folder".into()));
            };
            match open_beneath(&folder, below, ResolveFlags::NO_SYMLINKS) {
                Err(Errno::NOSYS) => open_resolved(&path),
                opened => opened.map_err(io::Error::from),
            }
        }
        opened => opened.map_err(io::Error::from),
    };
    let file = file.map_err(refusal)?;
    let metadata = file.metadata().map_err(refusal)?;
    if !metadata.is_file() {
        return Err(OpenError::NoSuchKey);
    }
    Ok((file, metadata))
}

fn open_beneath(folder: &OwnedFd, path: &Path, resolve: ResolveFlags) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat2(folder, path, flags, Mode::empty(), ResolveFlags::BENEATH | resolve).map(File::from)
}

/// For kernels before 5.6: what replaces a folder of the resolved path by a symlink just now leads astray.
fn open_resolved(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

/// What the client hears of a file that does not open.
fn refusal(error: io::Error) -> OpenError {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::InvalidInput => OpenError::NoSuchKey,
        _ if error.raw_os_error() == Some(libc::ELOOP) => OpenError::NoSuchKey,
        io::ErrorKind::PermissionDenied => OpenError::Denied("the file may not be read".into()),
        _ => OpenError::Origin(error.to_string()),
    }
}

/// Changes whenever the file is written or replaced, as far as the file system tells.
fn tag(metadata: &Metadata) -> String {
    let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
    format!("\"{:x}-{seconds:x}.{nanos:x}-{:x}\"", metadata.len(), metadata.ino())
}

fn chunks(file: File, etag: String, start: u64, end: u64) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    try_unfold((file, etag, start), move |(file, etag, at)| async move {
        if at >= end {
            return Ok(None);
        }
        tokio::task::spawn_blocking(move || {
            let most = chunk_after(at - start);
            let mut chunk = vec![0; usize::try_from(end - at).map_or(most, |left| left.min(most))];
            let read = file.read_at(&mut chunk, at)?;
            chunk.truncate(read);
            if read == 0 {
                return Ok(None);
            }
            let at = at + read as u64;
            // Before the last chunk leaves, or a client could take a mixture for the object.
            if at >= end && tag(&file.metadata()?) != etag {
                return Err("the file changed while it was read".into());
            }
            Ok(Some((Bytes::from(chunk), (file, etag, at))))
        })
        .await?
    })
}

/// Entries of folders that a page may take; each costs a moment.
const LOOKED_AT: usize = 100_000;

/// How much a reader is given next that has read so much.
pub(super) fn chunk_after(read: u64) -> usize {
    if read < GOES_ON { CHUNK } else { LARGE_CHUNK }
}

/// Read at once, and held for each reader that stopped reading: small, so that a thousand of these hold little memory.
const CHUNK: usize = 64 << 10;
/// For a reader that goes on reading; with this one alone needs few hops between threads.
const LARGE_CHUNK: usize = 256 << 10;
/// More than the system's buffers hold of what is not read.
const GOES_ON: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn symlinks_are_followed_inside_the_folder_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("sub/kernel"), "kernel").unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        symlink("sub/kernel", root.join("relative")).unwrap();
        symlink(root.join("sub/kernel"), root.join("absolute")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink(dir.path().join("secret"), root.join("far")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink(&root, dir.path().join("other")).unwrap();
        for root in [&root, &dir.path().join("other")] {
            for key in [
                "sub/kernel",
                "relative",
                "absolute",
                "sub/../relative",
                "up/root/relative",
            ] {
                let mut text = String::new();
                open(root, key).unwrap().0.read_to_string(&mut text).unwrap();
                assert_eq!(text, "kernel", "{key}");
            }
            for key in ["out", "far", "up/secret", "../secret", "/etc/passwd", "/proc/self/exe"] {
                assert!(matches!(open(root, key), Err(OpenError::Denied(_))), "{key}");
            }
            for key in ["", ".", "sub", "none", "sub/none", "sub/kernel/x", "loop", "a\0b"] {
                assert!(matches!(open(root, key), Err(OpenError::NoSuchKey)), "{key}");
            }
        }
    }
}
