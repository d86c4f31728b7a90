//! A folder as an origin. A key opens the regular file of that name below the folder, and never anything outside: the path is resolved first
//! and compared with the resolved folder, and the file that is then opened must not be a symlink. Reads run on tokio's blocking threads, a
//! chunk each. A file that changes while it is read ends in an error. (object_store's own local store is not used: it follows symlinks
//! anywhere, reads 8 KiB at a time, and turns in circles when a file shrinks.)

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::try_unfold;

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
        })
    }
}

fn open(root: &Path, key: &str) -> Result<(File, Metadata), OpenError> {
    let root = fs::canonicalize(root).map_err(|error| OpenError::Origin(format!("{}: {error}", root.display())))?;
    let path: PathBuf = fs::canonicalize(root.join(key)).map_err(refusal)?;
    if !path.starts_with(&root) {
        return Err(OpenError::Denied("the key leads out of its folder".into()));
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&path)
        .map_err(refusal)?;
    let metadata = file.metadata().map_err(refusal)?;
    if !metadata.is_file() {
        return Err(OpenError::NoSuchKey);
    }
    Ok((file, metadata))
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

fn chunks(file: File, etag: String, at: u64, end: u64) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    try_unfold((file, etag, at), move |(file, etag, at)| async move {
        if at >= end {
            return Ok(None);
        }
        tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; usize::try_from(end - at).map_or(CHUNK, |left| left.min(CHUNK))];
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

/// Read at once; with this a reader needs few hops between threads, and a thousand readers little memory.
const CHUNK: usize = 256 << 10;
