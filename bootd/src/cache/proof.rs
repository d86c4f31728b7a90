//! Whether what is on disk still is what was fetched: checksums, compared where that is in doubt, and slowly of everything.
//!
//! After a start behind an unclean end an object is read and compared while its first reader follows, block by block, as readers of a fill follow. The
//! scrub reads all objects from the disk itself, in the time that the configuration gives it. Promises: a block that is found to be other than what
//! was fetched is never served from then on; its object is off the shelf, and fetched again; who is in the middle of it goes on with bytes of
//! the origin.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Want;
use super::bucket::Bucket;
use super::disk::{BLOCK, Comparison, Doubt, Record};
use super::fill::{Broken, Progress};
use super::keep::{Keep, Shared, Stored};
use super::origin::Origin;
use super::shelf::Failure;

/// Of an object: whether its bytes were compared since bootd started, if they have to be.
#[derive(Default)]
pub(super) struct Proof {
    /// With its checksums, if it is needed.
    record: Option<Record>,
    progress: OnceLock<watch::Receiver<Progress>>,
    is_damaged: AtomicBool,
}

impl Proof {
    /// What was there before an unclean end.
    pub(super) fn needed(record: Record) -> Self {
        Self {
            record: Some(record),
            ..Self::default()
        }
    }

    /// Whether nothing of it may be read any more.
    pub(super) fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    fn is_there(&self, len: u64) -> bool {
        let proven = |hear: &watch::Receiver<Progress>| hear.borrow().watermark == len;
        self.record.is_none() || self.progress.get().is_some_and(proven)
    }
}

/// How far an object may be read by now; `None`: all of it. Begins to compare it when nobody did.
pub(super) fn progress(
    shared: &Arc<Shared>,
    origin: &Arc<Origin>,
    stored: &Arc<Stored>,
) -> Option<watch::Receiver<Progress>> {
    if stored.proof.is_there(stored.record.len) {
        return None;
    }
    let record = stored.proof.record.clone()?;
    let begin = || {
        let (tell, hear) = watch::channel(Progress::default());
        let (shared, origin, stored) = (Arc::clone(shared), Arc::clone(origin), Arc::clone(stored));
        let runtime = Handle::current();
        tokio::spawn(async move {
            let turns = Arc::clone(&shared);
            let _turn = turns.proofs.acquire().await;
            let prove = move || {
                let comparison = Comparison::of(Arc::clone(&stored.file), record);
                prove(&shared, &origin, &stored, comparison, &tell, &runtime);
            };
            let _ = spawn_blocking(prove).await;
        });
        hear
    };
    Some(stored.proof.progress.get_or_init(begin).clone())
}

fn prove(
    shared: &Arc<Shared>,
    origin: &Arc<Origin>,
    stored: &Arc<Stored>,
    mut comparison: Comparison,
    tell: &watch::Sender<Progress>,
    runtime: &Handle,
) {
    let compared = loop {
        match comparison.next() {
            Ok(Some(watermark)) => tell.send_modify(|progress| progress.watermark = watermark),
            Ok(None) => break Ok(()),
            Err(doubt) => break Err(doubt),
        }
    };
    match compared {
        Ok(()) => shared.counts.one("proven"),
        Err(doubt) => {
            damaged(shared, origin, stored, &doubt, runtime);
            let why = doubt.to_string().into();
            let failure = Failure::Disk;
            tell.send_modify(|progress| progress.broken = Some(Broken { failure, why }));
        }
    }
}

/// Takes an object off the shelf and has it fetched again.
fn damaged(shared: &Arc<Shared>, origin: &Arc<Origin>, stored: &Arc<Stored>, doubt: &Doubt, runtime: &Handle) {
    stored.proof.is_damaged.store(true, Ordering::Relaxed);
    shared.damaged(stored, doubt);
    let (keep, origin, place) = (Keep::of(shared), Arc::clone(origin), stored.record.place());
    runtime.spawn(async move {
        // Its failure is counted where it happens; whoever wants the object asks again.
        let _ = keep.object(&origin, place, Want::whole()).await;
    });
}

impl Keep {
    /// Compares all that is kept, again and again, each time in about this period; does not return.
    pub(super) async fn scrub(&self, buckets: &BTreeMap<String, Bucket>, period: Duration) -> ! {
        loop {
            sleep(FIRST_PAUSE.min(period)).await;
            let all = self.shared().stored();
            let bytes: u64 = all.iter().map(|stored| stored.record.len).sum();
            let blocks = u32::try_from(bytes.div_ceil(BLOCK)).unwrap_or(u32::MAX).max(1);
            let pause = (period / blocks).min(LONGEST_PAUSE);
            let all: Vec<Weak<Stored>> = all.iter().map(Arc::downgrade).collect();
            for stored in all {
                self.scrub_one(buckets, &stored, pause).await;
            }
            self.shared().counts.one("scrubbed");
        }
    }

    /// An object that goes meanwhile is let go: it is held for a block at a time.
    async fn scrub_one(&self, buckets: &BTreeMap<String, Bucket>, stored: &Weak<Stored>, pause: Duration) {
        let shared = self.shared();
        let Some(id) = stored.upgrade().and_then(|stored| stored.id.get().cloned()) else {
            return;
        };
        let opening = Arc::clone(shared);
        let Ok(Ok(mut comparison)) = spawn_blocking(move || opening.disk.compare(&id)).await else {
            return;
        };
        loop {
            sleep(pause).await;
            let compared = spawn_blocking(move || {
                let next = comparison.next();
                (comparison, next)
            });
            let Ok((rest, next)) = compared.await else { return };
            comparison = rest;
            match next {
                Ok(Some(_)) => {}
                Ok(None) | Err(Doubt::Gone) => return,
                Err(doubt) => {
                    let Some(stored) = stored.upgrade() else { return };
                    // Objects of buckets that there are no more are read by nobody.
                    let origin = buckets
                        .get(&stored.record.bucket)
                        .map(|bucket| bucket.of(&stored.record.key));
                    if let Some(Ok(origin)) = origin {
                        damaged(shared, origin, &stored, &doubt, &Handle::current());
                    }
                    return;
                }
            }
        }
    }
}

/// A start has more to do than to look at what is there.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// Between two blocks, however little is kept.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
