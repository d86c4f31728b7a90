//! A fill: one sequential GET of a whole object into a file, owned by the cache and by no reader.
//!
//! Tells its readers what it knows as it learns it: which version, how many bytes are there, how it ended. Each end is told; a fill that is
//! dropped or panics counts as failed, for its readers and for the shelf. A body that breaks is asked for again from where it broke, for that very
//! version, as long as that brings bytes at some [rate](super::rate); one that stalls counts as broken. Where its origin says the SHA-256 of an object, the last byte is told to nobody before all of
//! them are found to be right. Room on disk is reserved before the first byte is written, and the file gets its name when every byte is safe.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use super::disk::{Draft, Record};
use super::keep::{Shared, Stored, version_of};
use super::origin::Origin;
use super::proof::Proof;
use super::rate::{Going, Rate};
use super::shelf::{Failure, Number, Place, Room, Version, Why};
use super::{OPEN_TIMEOUT, Object, ObjectBody, OpenError, Want};
use crate::http::range::Spec;

/// What became of a fill's request.
#[derive(Clone)]
pub(super) enum Told {
    /// No answer yet.
    Asking,
    /// The bytes come.
    Open(Arc<Open>),
    /// It is not kept. The object is for the first one who wants all of it.
    Through(Why, Arc<Mutex<Option<Object>>>),
    /// It is what is kept already.
    Same,
    /// There is no object.
    Failed(OpenError),
}

/// A fill whose bytes come.
pub(super) struct Open {
    pub(super) stored: Arc<Stored>,
    pub(super) progress: watch::Receiver<Progress>,
}

/// How far a fill is.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// So many bytes are there.
    pub(super) watermark: u64,
    /// There will be no more.
    pub(super) broken: Option<Broken>,
}

/// How a fill broke.
#[derive(Debug, Clone)]
pub(super) struct Broken {
    pub(super) failure: Failure,
    pub(super) why: Arc<str>,
}

/// Fetches the object.
pub(super) async fn run(
    shared: Arc<Shared>,
    origin: Arc<Origin>,
    place: Place,
    number: Number,
    told: watch::Sender<Told>,
) {
    let mut fill = Fill {
        shared,
        number,
        is_over: false,
        expected: None,
    };
    match expected(&origin, &place.key).await {
        Ok(expected) => fill.expected = expected,
        Err(error) => {
            fill.fail(Failure::Origin);
            told.send_replace(Told::Failed(error));
            return;
        }
    }
    let opened = tokio::time::timeout(OPEN_TIMEOUT, origin.open(&place.key, &Want::whole())).await;
    let object = match opened.unwrap_or(Err(OpenError::Timeout)) {
        Ok(object) => object,
        Err(error) => {
            let failure = match error {
                OpenError::NoSuchKey => Failure::NoSuchKey,
                _ => Failure::Origin,
            };
            fill.fail(failure);
            told.send_replace(Told::Failed(error));
            return;
        }
    };
    let (draft, object) = match fill.room(&place, &origin, object).await {
        Ok(granted) => granted,
        Err(instead) => {
            told.send_replace(instead);
            return;
        }
    };
    let stored = Arc::new(Stored {
        number,
        file: Arc::clone(&draft.file),
        record: record_of(&place, &origin, &object),
        id: Default::default(),
        sha256: Default::default(),
        map: Default::default(),
        proof: Proof::default(),
    });
    let (progress, hear) = watch::channel(Progress::default());
    let open = Open {
        stored: Arc::clone(&stored),
        progress: hear,
    };
    told.send_replace(Told::Open(Arc::new(open)));
    let (broken, draft) = match fill.fetch(&place, &origin, object, draft, &progress).await {
        Ok(draft) => match fill.doubt(&draft) {
            None => {
                progress.send_modify(|progress| progress.watermark = stored.record.len);
                return fill.seal(draft, stored).await;
            }
            Some(broken) => (broken, Some(draft)),
        },
        Err(broken) => broken,
    };
    let counts = &fill.shared.counts;
    match broken.failure {
        Failure::Disk => counts.disk_trouble("disk_write_failed", &place.key, &broken.why),
        Failure::Origin | Failure::NoSuchKey => counts.trouble("fill_failed", &place.key, &broken.why),
    }
    fill.fail(broken.failure);
    progress.send_modify(|progress| progress.broken = Some(broken));
    if let Some(draft) = draft {
        let shared = Arc::clone(&fill.shared);
        let _ = spawn_blocking(move || shared.disk.discard(&draft)).await;
    }
}

/// A fill under way.
struct Fill {
    shared: Arc<Shared>,
    number: Number,
    is_over: bool,
    /// The SHA-256 that its origin says, hexadecimal.
    expected: Option<String>,
}

impl Fill {
    /// Takes it off the shelf. Before anybody hears of it, or who asks again would find it there.
    fn fail(&mut self, failure: Failure) {
        self.is_over = true;
        self.shared.failed(self.number, failure);
    }

    /// Reserves room and opens a file, or says what readers get instead.
    async fn room(&mut self, place: &Place, origin: &Origin, object: Object) -> Result<(Draft, Object), Told> {
        let shared = Arc::clone(&self.shared);
        let free = spawn_blocking(move || shared.disk.space().map_or(0, |(free, _)| free))
            .await
            .unwrap_or(0);
        let (room, evicted) = self.shared.opened(self.number, version_of(&object), free);
        let through = |why, object| Told::Through(why, Arc::new(Mutex::new(Some(object))));
        match room {
            Room::Granted(_) => {}
            Room::Same => {
                self.is_over = true;
                return Err(Told::Same);
            }
            Room::None(why) => {
                self.is_over = true;
                return Err(through(why, object));
            }
        }
        debug_assert!(record_of(place, origin, &object).version().is_exact());
        let (shared, number, len) = (Arc::clone(&self.shared), self.number, object.len);
        let draft = spawn_blocking(move || {
            for stored in evicted {
                if let Some(id) = stored.id.get() {
                    shared.disk.remove(id);
                }
            }
            shared.disk.draft(number, len)
        });
        match draft.await.unwrap_or_else(|error| Err(error.into())) {
            Ok(draft) => Ok((draft, object)),
            Err(error) => {
                self.shared.counts.disk_trouble("disk_write_failed", &place.key, &error);
                self.fail(Failure::Disk);
                Err(through(Why::Disk, object))
            }
        }
    }

    /// Moves the body to disk. After a failure of the disk the file may be lost with it.
    async fn fetch(
        &self,
        place: &Place,
        origin: &Origin,
        object: Object,
        mut draft: Draft,
        progress: &watch::Sender<Progress>,
    ) -> Result<Draft, (Broken, Option<Draft>)> {
        let version = version_of(&object);
        let mut body = object.body.ready_chunks(AT_ONCE);
        let (mut watermark, mut synced) = (0, 0);
        let mut last_bytes = Instant::now();
        let mut syncing: Option<Syncing> = None;
        let lowest = self.shared.lowest;
        let mut rate = Rate::new(lowest);
        loop {
            let asked = Instant::now();
            let chunks = match tokio::time::timeout(rate.left(), body.next()).await {
                Ok(Some(chunks)) => chunks,
                Ok(None) => break,
                Err(_) => Vec::new(),
            };
            let waited = asked.elapsed();
            let mut good = Vec::with_capacity(chunks.len());
            let mut end = None;
            for chunk in chunks {
                match chunk {
                    Ok(bytes) => good.push(bytes),
                    Err(error) => end = Some(error.to_string()),
                }
            }
            let size: u64 = good.iter().map(|bytes| bytes.len() as u64).sum();
            let going = rate.took(waited, size);
            draft = match spawn_blocking(move || write(draft, &good)).await {
                Ok((draft, Ok(()))) => draft,
                Ok((draft, Err(error))) => return Err((broken(Failure::Disk, &error), Some(draft))),
                Err(error) => return Err((broken(Failure::Disk, &error), None)),
            };
            self.shared.counts.filled.inc_by(size);
            watermark += size;
            self.shared.advanced(self.number, watermark);
            let told = match self.expected {
                Some(_) => watermark.min(version.len.saturating_sub(1)),
                None => watermark,
            };
            progress.send_modify(|progress| progress.watermark = told);
            if size > 0 {
                last_bytes = Instant::now();
            }
            // What has come whole is not too slow any more.
            let is_whole = end.is_none() && watermark == version.len;
            if going != Going::On && !is_whole {
                self.shared.counts.trouble("fill_stalled", &place.key, &lowest);
                end = Some(lowest.to_string());
            } else if let Some(why) = &end {
                self.shared.counts.trouble("fill_broke", &place.key, why);
            }
            if let Some(why) = end {
                drop(body);
                let asked = Instant::now();
                let rest = match going {
                    Going::Over => None,
                    Going::On | Going::Stalled => resumed(origin, &place.key, &version, watermark, last_bytes).await,
                };
                body = match rest {
                    Some(rest) if rate.took(asked.elapsed(), 0) != Going::Over => rest.ready_chunks(AT_ONCE),
                    _ => return Err((broken(Failure::Origin, &why), Some(draft))),
                };
            }
            // Little by little, or the seal of a large object would be one long wait for the disk.
            if watermark - synced >= SYNC_EACH && syncing.as_ref().is_none_or(JoinHandle::is_finished) {
                if let Err(error) = finish(syncing.take()).await {
                    return Err((broken(Failure::Disk, &error), Some(draft)));
                }
                synced = watermark;
                let file = Arc::clone(&draft.file);
                syncing = Some(spawn_blocking(move || Ok(rustix::fs::fdatasync(&file)?)));
            }
        }
        match finish(syncing).await {
            Ok(()) => Ok(draft),
            Err(error) => Err((broken(Failure::Disk, &error), Some(draft))),
        }
    }

    /// Why it is not what its origin says that it is.
    fn doubt(&self, draft: &Draft) -> Option<Broken> {
        let expected = self.expected.as_ref()?;
        let sha256 = draft.sha256();
        let why = format!("its SHA-256 is {sha256}, and its origin says {expected}");
        (sha256 != *expected).then(|| broken(Failure::Origin, &why))
    }

    async fn seal(&mut self, mut draft: Draft, stored: Arc<Stored>) {
        let (shared, record) = (Arc::clone(&self.shared), stored.record.clone());
        let complete = Arc::clone(&stored);
        let sealed = spawn_blocking(move || {
            let named = shared.will_wait(complete.number, &record);
            let sealed = named.and_then(|()| shared.disk.seal(&mut draft, record));
            match sealed {
                Ok((id, sha256)) => {
                    let _ = complete.id.set(id);
                    let _ = complete.sha256.set(sha256);
                    shared.sealed(complete);
                    Ok(())
                }
                Err(error) => {
                    shared.disk.discard(&draft);
                    Err(error)
                }
            }
        });
        match sealed.await.unwrap_or_else(|error| Err(error.into())) {
            Ok(()) => self.is_over = true,
            // Its readers have every byte all the same.
            Err(error) => {
                self.shared
                    .counts
                    .trouble("disk_write_failed", &stored.record.key, &error);
                self.fail(Failure::Disk);
            }
        }
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        if !self.is_over {
            self.fail(Failure::Origin);
        }
    }
}

/// The SHA-256 of an object as its origin says it in another one; `None`: it says none.
async fn expected(origin: &Origin, key: &str) -> Result<Option<String>, OpenError> {
    let Some(sidecar) = origin.sidecar_of(key) else {
        return Ok(None);
    };
    let reading = async {
        let mut object = origin.open(&sidecar, &Want::whole()).await?;
        let mut text = Vec::new();
        while let Some(bytes) = object.body.next().await {
            text.extend_from_slice(&bytes.map_err(|error| OpenError::Origin(error.to_string()))?);
            if text.len() > LARGEST_SIDECAR {
                break;
            }
        }
        // `sum  name` or `SHA256 (name) = sum`.
        let text = String::from_utf8_lossy(&text).to_lowercase();
        let is_sum = |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let sum = text.split_whitespace().find(is_sum).map(str::to_owned);
        sum.ok_or_else(|| OpenError::Origin(format!("{sidecar} has no SHA-256 in it")))
            .map(Some)
    };
    match tokio::time::timeout(OPEN_TIMEOUT, reading)
        .await
        .unwrap_or(Err(OpenError::Timeout))
    {
        Err(OpenError::NoSuchKey) => Ok(None),
        said => said,
    }
}

/// The rest of a body that broke, of the same version; `None` when there is none, or none in time.
async fn resumed(
    origin: &Origin,
    key: &str,
    version: &Version,
    watermark: u64,
    last_bytes: Instant,
) -> Option<ObjectBody> {
    // Without a tag nobody can tell whether it is of the same version.
    let etag = version.etag.as_ref()?;
    let want = Want {
        range: Spec::From(watermark),
        if_match: Some(etag.clone()),
        fresh: true,
        ..Want::whole()
    };
    let mut pause = FIRST_PAUSE;
    while last_bytes.elapsed() + pause < RESUME_FOR {
        tokio::time::sleep(pause).await;
        pause *= 2;
        match tokio::time::timeout(OPEN_TIMEOUT, origin.open(key, &want)).await {
            Ok(Ok(rest)) if rest.range == (watermark..version.len) && version_of(&rest).is_same(version) => {
                return Some(rest.body);
            }
            // It is another version, or an origin that knows no ranges.
            Ok(Ok(_) | Err(OpenError::Changed | OpenError::NoSuchKey | OpenError::Unsatisfiable { .. })) => {
                return None;
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
    None
}

/// A write of all that is there to the disk.
type Syncing = JoinHandle<io::Result<()>>;

/// How it ended. The system tells of bytes that it lost once only, so no result may be left unread.
async fn finish(syncing: Option<Syncing>) -> io::Result<()> {
    match syncing {
        None => Ok(()),
        Some(syncing) => syncing.await.unwrap_or_else(|error| Err(error.into())),
    }
}

fn write(mut draft: Draft, chunks: &[Bytes]) -> (Draft, io::Result<()>) {
    let written = chunks.iter().try_for_each(|bytes| draft.write(bytes));
    (draft, written)
}

fn broken(failure: Failure, why: &dyn std::fmt::Display) -> Broken {
    Broken {
        failure,
        why: why.to_string().into(),
    }
}

fn record_of(place: &Place, origin: &Origin, object: &Object) -> Record {
    let version = version_of(object);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Record {
        bucket: place.bucket.clone(),
        key: place.key.clone(),
        origin: origin.name().into(),
        len: version.len,
        etag: version.etag,
        modified: version.modified,
        content_type: object.content_type.clone(),
        fetched: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
        sha256: None,
        blocks: Vec::new(),
    }
}

/// Bytes that are read of an object with a SHA-256 in it.
const LARGEST_SIDECAR: usize = 4096;
/// Before a broken body is asked for again; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How long it is asked for again without a byte of it. Its readers wait as long; to begin anew would take longer.
const RESUME_FOR: Duration = Duration::from_secs(30);
/// Chunks of a body that are written together when they are there.
const AT_ONCE: usize = 64;
/// Bytes after which they are sent to the disk for good.
const SYNC_EACH: u64 = 64 << 20;
