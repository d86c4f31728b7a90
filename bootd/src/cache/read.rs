//! A reader of an object file, complete or being filled: never reads beyond what is there, and never ends before its range does.
//!
//! When the disk fails, not the origin, the rest comes from the origin, if that has this very version.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::try_unfold;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;

use super::dir::chunk_after;
use super::fill::{Broken, Open, Progress};
use super::keep::{Shared, Stored};
use super::origin::Origin;
use super::shelf::{Failure, Step, step};
use super::{OPEN_TIMEOUT, Object, ObjectBody, Want, proof};
use crate::http::BodyError;
use crate::http::range::Spec;

/// Reads a range.
pub(super) struct Reader {
    shared: Arc<Shared>,
    origin: Arc<Origin>,
    stored: Arc<Stored>,
    /// Of the fill, or of the proof, unless all of the object is there and good.
    progress: Option<watch::Receiver<Progress>>,
    start: u64,
    at: u64,
    end: u64,
    /// The rest, from the origin.
    rest: Option<ObjectBody>,
    /// Whether bytes of the mapped file will do.
    mapped: bool,
}

impl Reader {
    /// A body that is this part of a kept object.
    pub(super) fn of_kept(
        shared: &Arc<Shared>,
        origin: &Arc<Origin>,
        stored: &Arc<Stored>,
        range: Range<u64>,
        mapped: bool,
    ) -> ObjectBody {
        let progress = proof::progress(shared, origin, stored);
        Self::body(shared, origin, stored, progress, range, mapped)
    }

    /// A body that is this part of an object that is being fetched.
    pub(super) fn of_fill(
        shared: &Arc<Shared>,
        origin: &Arc<Origin>,
        open: &Arc<Open>,
        range: Range<u64>,
        mapped: bool,
    ) -> ObjectBody {
        Self::body(shared, origin, &open.stored, Some(open.progress.clone()), range, mapped)
    }

    fn body(
        shared: &Arc<Shared>,
        origin: &Arc<Origin>,
        stored: &Arc<Stored>,
        progress: Option<watch::Receiver<Progress>>,
        range: Range<u64>,
        mapped: bool,
    ) -> ObjectBody {
        if range.is_empty() {
            return ObjectBody::empty();
        }
        let reader = Self {
            shared: Arc::clone(shared),
            origin: Arc::clone(origin),
            stored: Arc::clone(stored),
            progress,
            start: range.start,
            at: range.start,
            end: range.end,
            rest: None,
            mapped,
        };
        let chunks = try_unfold(reader, async |mut reader: Self| {
            let chunk = reader.next().await?;
            Ok(chunk.map(|chunk| (chunk, reader)))
        });
        ObjectBody::new(range.end - range.start, chunks)
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            if let Some(rest) = &mut self.rest {
                return rest.next().await.transpose();
            }
            if self.stored.proof.is_damaged() {
                self.rest = Some(self.rest_from_origin().await?);
                continue;
            }
            let Progress { watermark, broken } = match &mut self.progress {
                None => Progress {
                    watermark: self.stored.record.len,
                    broken: None,
                },
                Some(progress) => progress.borrow_and_update().clone(),
            };
            match step(self.at, self.end, watermark, broken.is_some()) {
                Step::Done => return Ok(None),
                Step::Read(range) => {
                    if let Some(chunk) = self.at_hand(&range) {
                        self.at += chunk.len() as u64;
                        return Ok(Some(chunk));
                    }
                    let most = chunk_after(self.at - self.start);
                    let most = usize::try_from(range.end - range.start).map_or(most, |there| there.min(most));
                    match self.shared.read(&self.stored.file, range.start, most).await {
                        Ok(chunk) => {
                            self.at += chunk.len() as u64;
                            return Ok(Some(chunk));
                        }
                        Err(error) => {
                            self.shared.broken(&self.stored, &error);
                            self.rest = Some(self.rest_from_origin().await?);
                        }
                    }
                }
                Step::Wait => {
                    let changed = match &mut self.progress {
                        None => return Err("the object is shorter than it is".into()),
                        Some(progress) => progress.changed().await,
                    };
                    // Nobody fills any more, and nobody said how it ended: that is no end.
                    if changed.is_err() {
                        return Err("the fetch was given up".into());
                    }
                }
                Step::Broken => match broken {
                    Some(Broken {
                        failure: Failure::Disk, ..
                    }) => self.rest = Some(self.rest_from_origin().await?),
                    Some(Broken { why, .. }) => return Err((*why).into()),
                    None => return Err("the fetch broke".into()),
                },
            }
        }
    }

    /// The next bytes of the mapped file, if they are in memory.
    fn at_hand(&self, range: &Range<u64>) -> Option<Bytes> {
        let map = self.mapped.then(|| self.stored.map())??;
        let chunk = map.at_hand(range.clone())?;
        self.shared.counts.disk.inc_by(chunk.len() as u64);
        Some(chunk)
    }

    /// All that is not read yet, of this version and no other.
    async fn rest_from_origin(&mut self) -> Result<ObjectBody, BodyError> {
        let record = &self.stored.record;
        let Some(etag) = &record.etag else {
            return Err("the disk failed".into());
        };
        let want = Want {
            range: Spec::FromTo(self.at, self.end - 1),
            if_match: Some(etag.clone()),
            fresh: true,
            ..Want::whole()
        };
        let object = tokio::time::timeout(OPEN_TIMEOUT, self.origin.open(&record.key, &want)).await??;
        if object.len != record.len || object.range != (self.at..self.end) {
            return Err("the disk failed, and the origin has another version".into());
        }
        self.shared.counts.request("through_disk");
        Ok(counted(object, &self.shared.counts.passed).body)
    }
}

/// The object, its bytes counted as they come.
pub(super) fn counted(mut object: Object, counter: &Counter) -> Object {
    let counter = counter.clone();
    let len = object.range.end - object.range.start;
    let body = std::mem::take(&mut object.body).inspect(move |chunk| {
        if let Ok(bytes) = chunk {
            counter.inc_by(bytes.len() as u64);
        }
    });
    object.body = ObjectBody::new(len, body);
    object
}
