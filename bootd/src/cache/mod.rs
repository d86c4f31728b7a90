//! Artifacts: the objects of the configured buckets, wherever they come from.
//!
//! [`Artifacts::open`] is the one way to an object's bytes. Promises: only configured buckets; a key never leads out of its origin; the body of
//! an [`Object`] is exactly [`Object::range`] or ends in an error, never short and well. A retry against an origin happens here or nowhere.
//! With [`Artifacts::keep`], objects of remote origins are kept on disk and served from there; without it, as in `bootd check`, every open goes
//! through to the origin. Callers are the artifacts listener and the operator's commands.

mod bucket;
mod client;
mod dir;
mod disk;
mod fill;
mod keep;
mod keys;
pub mod list;
mod map;
mod name;
mod origin;
mod proof;
mod rate;
mod read;
mod sets;
mod shelf;
mod store;
mod view;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::Stream;
use tokio_util::sync::CancellationToken;

use crate::boots::Watch;
use crate::config::Config;
use crate::http::BodyError;
use crate::http::range::Spec;
use crate::lines::Lines;
use crate::metrics::Metrics;

use bucket::Bucket;
pub use disk::CacheError;
use keep::Keep;
use list::{Listing, Page};
pub use map::{Mapped, WeakMapped};
pub use name::Name;
use origin::Origin;
pub use sets::Epoch;
use sets::Sets;
use shelf::Place;
pub use view::{Amounts, Cached, CachedState, PinError};

/// The configured buckets.
pub struct Artifacts {
    buckets: BTreeMap<String, Bucket>,
    keep: Option<Keep>,
    /// Nothing is kept at present, and this is the folder that was opened before.
    idle: Option<Keep>,
    metrics: Arc<Metrics>,
    lines: Arc<Lines>,
    watch: Watch,
}

/// What is wanted of an object.
#[derive(Debug, Clone)]
pub struct Want {
    /// Which bytes.
    pub range: Spec,
    /// Only this version: a strong entity tag, with its quotes.
    pub if_match: Option<String>,
    /// Nothing of the body.
    pub head: bool,
    /// As the origin has it now, not as it is kept.
    pub fresh: bool,
    /// The kernel alone will look at the bytes, so they may be those of a mapped file.
    pub mapped: bool,
    /// The version that was in service then, without `if_match`: [`Artifacts::script_of`].
    pub as_of: Option<Epoch>,
}

/// An open object.
pub struct Object {
    /// Its length, of which `range` may be a part.
    pub len: u64,
    /// Its entity tag, with its quotes, `W/"…"` when it is weak.
    pub etag: Option<String>,
    /// When it last changed.
    pub last_modified: Option<SystemTime>,
    /// Its media type, if the origin knows.
    pub content_type: Option<String>,
    /// The bytes that `body` has; none for a HEAD.
    pub range: Range<u64>,
    /// Whether `range` is what was asked for: not so without a range, or when the origin knows none and the body is whole.
    pub partial: bool,
    /// Those bytes.
    pub body: ObjectBody,
    /// The file of which the body may have parts, as [`Want::mapped`] allows.
    pub mapped: Option<Mapped>,
    /// It is what the cache has, or fetches: its origin may have another version by now.
    pub kept: bool,
    /// It may well be old; this is why.
    pub stale: Option<&'static str>,
}

/// The bytes of an object: as many as promised, or an error.
pub struct ObjectBody {
    stream: Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>,
    left: u64,
}

/// Why an object does not open.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// No origin has this bucket.
    #[error("there is no such bucket")]
    NoSuchBucket,
    /// The origin has no such object.
    #[error("there is no such object")]
    NoSuchKey,
    /// A name that no object can have.
    #[error("{0}")]
    BadName(&'static str),
    /// It is there, but not for bootd or not for anyone.
    #[error("{0}")]
    Denied(String),
    /// Only a version is here that is newer than the client's boot script.
    #[error("the object was replaced after the boot script was given; fetch the script again")]
    Replaced,
    /// It is another version than the wanted one.
    #[error("the object is another version")]
    Changed,
    /// None of the wanted bytes exist.
    #[error("the object has only {len} bytes")]
    Unsatisfiable {
        /// Its length.
        len: u64,
    },
    /// The origin answers with something unusable.
    #[error("the origin failed: {0}")]
    Origin(String),
    /// The origin cannot be reached.
    #[error("the origin cannot be reached: {0}")]
    Unreachable(String),
    /// The origin does not answer in time.
    #[error("the origin did not answer in time")]
    Timeout,
}

/// An origin that cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactsError {
    /// There are no credentials where they should be.
    #[error("the credentials of bucket {bucket}, {from}: {why}")]
    Credentials {
        /// Whose.
        bucket: String,
        /// Where they should be.
        from: String,
        /// Why not.
        why: String,
    },
    /// The origin's address makes no sense.
    #[error("the origin of bucket {bucket}: {why}")]
    Origin {
        /// Whose.
        bucket: String,
        /// Why not.
        why: String,
    },
}

impl Artifacts {
    /// Makes ready to ask every origin; asks none. One that cannot be used is there all the same, and every open says why it fails: one
    /// bucket's mistake must not cost the others.
    pub fn new(config: &Config, metrics: Arc<Metrics>) -> (Self, Vec<ArtifactsError>) {
        let mut mistakes = Vec::new();
        let mut buckets: BTreeMap<String, Bucket> = BTreeMap::new();
        for origin in &config.origins {
            let ready = Origin::new(origin).unwrap_or_else(|mistake| {
                let unusable = Origin::Unusable(mistake.to_string());
                mistakes.push(mistake);
                unusable
            });
            let bucket = buckets.entry(origin.bucket.clone()).or_default();
            bucket.add(&origin.prefix, ready);
        }
        let lines = Arc::new(Lines::new(Instant::now()));
        (
            Self {
                buckets,
                keep: None,
                idle: None,
                metrics,
                lines,
                watch: Watch::default(),
            },
            mistakes,
        )
    }

    /// Tells the timelines of boots what is read from now on.
    pub fn tell(&mut self, watch: Watch) {
        self.watch = watch;
    }

    /// Where it tells.
    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Keeps objects of remote origins in the cache folder from now on, and serves those that are there. Blocks as long as it takes to look
    /// through the folder. After an error every open goes through to the origin.
    pub fn keep(&mut self, config: &Config) -> Result<(), CacheError> {
        let mut origins = self.buckets.values().flat_map(Bucket::origins);
        if config.cache.size != Some(0) && origins.any(Origin::is_remote) {
            self.keep = Some(Keep::open(config, Arc::clone(&self.metrics))?);
        }
        Ok(())
    }

    /// The same without any time between two questions to origins, and before a set changes.
    #[cfg(test)]
    pub(crate) fn keep_impatiently(&mut self, config: &Config) -> Result<(), CacheError> {
        let metrics = Arc::clone(&self.metrics);
        self.keep = Some(Keep::checking(config, metrics, Duration::ZERO, Duration::ZERO)?);
        Ok(())
    }

    /// The same with the origins and the bounds of another configuration: of what is kept goes what another origin had under its name. Blocks
    /// as [`Artifacts::keep`] when nothing was kept before.
    pub fn changed(&self, config: &Config) -> (Self, Vec<ArtifactsError>, Result<(), CacheError>) {
        let (mut changed, mistakes) = Self::new(config, Arc::clone(&self.metrics));
        changed.lines = Arc::clone(&self.lines);
        changed.watch = self.watch.clone();
        let opened = self
            .keep
            .as_ref()
            .or(self.idle.as_ref())
            .map(|keep| Keep::of(keep.shared()));
        let Some(keep) = opened else {
            let kept = changed.keep(config);
            return (changed, mistakes, kept);
        };
        let keeps = config.cache.size != Some(0)
            && changed
                .buckets
                .values()
                .flat_map(Bucket::origins)
                .any(Origin::is_remote);
        match keeps {
            true => changed.keep = Some(keep),
            false => changed.idle = Some(keep),
        }
        (changed, mistakes, Ok(()))
    }

    /// These are in service now, in the place of others.
    pub fn take(&self, config: &Config) {
        if let Some(keep) = &self.keep {
            keep.go_by(config);
        }
    }

    /// Compares what is kept with what was fetched, all of it in about this period, again and again, until the shutdown; zero: never.
    pub async fn scrub(self: Arc<Self>, period: Duration, shutdown: CancellationToken) {
        if let Some(keep) = &self.keep
            && !period.is_zero()
        {
            shutdown.run_until_cancelled(keep.scrub(&self.buckets, period)).await;
        }
    }

    /// Notes that this process comes to its end; whoever does not do that has all that is kept compared at the next start. Blocks shortly.
    pub fn end(&self) {
        if let Some(keep) = self.keep.as_ref().or(self.idle.as_ref()) {
            keep.end();
        }
    }

    /// Leaves the cache folder to another process: what is kept here is served on, and what is fetched is not kept. Blocks shortly.
    pub fn release(&self) -> std::io::Result<()> {
        self.keep.as_ref().map_or(Ok(()), Keep::release)
    }

    /// No other process took the cache folder. Blocks shortly.
    pub fn resume(&self) -> std::io::Result<()> {
        self.keep.as_ref().map_or(Ok(()), Keep::resume)
    }

    /// Whether objects of remote origins are kept.
    pub fn keeps(&self) -> bool {
        self.keep.is_some()
    }

    /// Whether the object of this path is read from this machine, all of it. Asks nobody.
    pub fn is_here(&self, path: &str) -> bool {
        let Ok((place, origin)) = self.place(path) else {
            return false;
        };
        !origin.is_remote() || self.keep.as_ref().is_some_and(|keep| keep.has(&place))
    }

    /// This client was given a boot script now: the files that it fetches for some time belong together, as they are now.
    pub fn script_given(&self, client: IpAddr) {
        if let Some(keep) = &self.keep {
            keep.script_given(client);
        }
    }

    /// As of when the files of a client are; `None`: as they are.
    pub fn script_of(&self, client: IpAddr) -> Option<Epoch> {
        self.keep.as_ref()?.script_of(client)
    }

    /// Which files belong together: the paths that each boot script names. Others do not count.
    pub fn set_sets<'p>(&self, scripts: impl IntoIterator<Item = &'p Vec<String>>) {
        let Some(keep) = &self.keep else { return };
        let place = |path: &String| Some(self.place(path).ok()?.0);
        let scripts = scripts
            .into_iter()
            .map(|paths| paths.iter().filter_map(place).collect());
        keep.set_sets(Sets::of(scripts.collect()));
    }

    /// Does what is to be done so that changed sets go into service, and former ones go; to be called every second or so.
    pub async fn change_sets(&self) {
        let Some(keep) = &self.keep else { return };
        for due in keep.due().await {
            let Some(place) = keep.place_of(&due) else { continue };
            if let Ok(origin) = self.origin(&place.bucket, &place.key) {
                keep.go_on(origin, due);
            }
        }
    }

    /// What is kept, in a line; `None` when nothing is.
    pub fn kept(&self) -> Option<String> {
        self.keep.as_ref().map(Keep::status)
    }

    /// How much is kept; `None`: nothing is, ever.
    pub fn amounts(&self) -> Option<Amounts> {
        self.keep.as_ref().map(Keep::amounts)
    }

    /// What an operator should know about what is kept.
    pub fn warnings(&self) -> Vec<String> {
        self.keep.as_ref().map(Keep::warnings).unwrap_or_default()
    }

    /// Opens an object; both names are decoded already. Dropping this, or the object, ends the work for it, but for what is
    /// fetched to be kept.
    pub async fn open(&self, bucket: &str, key: &str, want: Want) -> Result<Object, OpenError> {
        let origin = self.origin(bucket, key)?;
        name::check_key(key)?;
        let opening = async {
            match &self.keep {
                Some(keep) if origin.is_remote() && !want.fresh => {
                    let place = Place {
                        bucket: bucket.into(),
                        key: key.into(),
                    };
                    keep.object(origin, place, want).await
                }
                _ => origin.open(key, &want).await,
            }
        };
        tokio::time::timeout(OPEN_TIMEOUT, opening)
            .await
            .map_err(|_| OpenError::Timeout)?
    }

    /// All that is kept, being fetched, or pinned; by name. `None`: nothing is kept of any origin.
    pub fn cached(&self) -> Option<Vec<Cached>> {
        self.keep.as_ref().map(Keep::list)
    }

    /// Begins to fetch the object of this path, and says how far it is; ask again for more. Its origin is asked at most for what is not kept.
    pub async fn warm(&self, path: &str) -> Result<Cached, OpenError> {
        let (place, origin) = self.place(path)?;
        match &self.keep {
            Some(keep) if origin.is_remote() => keep.warm(origin, place).await,
            _ if origin.is_remote() => Err(OpenError::Denied(
                "nothing is kept: cache.size is 0, or the folder cannot be used".into(),
            )),
            _ => {
                let len = origin.open(&place.key, &Want::head()).await?.len;
                Ok(Cached {
                    path: format!("/{}", place.name()),
                    state: CachedState::Local,
                    len: Some(len),
                    have: len,
                    ..Cached::default()
                })
            }
        }
    }

    /// Keeps the object of this path, now or once it is fetched, whatever wants its room. `false`: it was pinned already. Blocks.
    pub fn pin(&self, path: &str) -> Result<Result<bool, PinError>, OpenError> {
        let (place, _) = self.place(path)?;
        Ok(self.keep.as_ref().map_or(Ok(false), |keep| keep.pin(place)))
    }

    /// Ends that. `false`: it was not pinned. Blocks.
    pub fn unpin(&self, path: &str) -> Result<Result<bool, PinError>, OpenError> {
        let (place, _) = self.place(path)?;
        Ok(self.keep.as_ref().map_or(Ok(false), |keep| keep.unpin(&place)))
    }

    /// Removes what is kept of this path. `false`: there is nothing.
    pub fn remove(&self, path: &str) -> Result<bool, OpenError> {
        let (place, _) = self.place(path)?;
        Ok(self.keep.as_ref().is_some_and(|keep| keep.remove(&place)))
    }

    fn place(&self, path: &str) -> Result<(Place, &Arc<Origin>), OpenError> {
        let Name::Object { bucket, key } = Name::parse(path)? else {
            return Err(OpenError::NoSuchKey);
        };
        let origin = self.origin(&bucket, &key)?;
        Ok((Place { bucket, key }, origin))
    }

    fn origin(&self, bucket: &str, key: &str) -> Result<&Arc<Origin>, OpenError> {
        self.buckets.get(bucket).ok_or(OpenError::NoSuchBucket)?.of(key)
    }

    /// A page of a bucket's list, as its origin has it now.
    pub async fn list(&self, bucket: &str, page: &Page) -> Result<Listing, OpenError> {
        let bucket = self.buckets.get(bucket).ok_or(OpenError::NoSuchBucket)?;
        tokio::time::timeout(OPEN_TIMEOUT, bucket.list(page))
            .await
            .map_err(|_| OpenError::Timeout)?
    }

    /// The names of the buckets.
    pub fn buckets(&self) -> impl Iterator<Item = &str> {
        self.buckets.keys().map(String::as_str)
    }

    /// Where an object is written, for humans.
    pub fn written_to(&self, bucket: &str, key: &str) -> Result<&str, OpenError> {
        self.origin(bucket, key).map(|origin| origin.written_to())
    }

    /// The origins of a bucket, for humans.
    pub fn origins(&self, bucket: &str) -> Result<Vec<&str>, OpenError> {
        let bucket = self.buckets.get(bucket).ok_or(OpenError::NoSuchBucket)?;
        Ok(bucket.origins().map(Origin::written_to).collect())
    }

    /// The length of the object at this path of the artifacts listener, `/<bucket>/<key>`, as its origin tells it now.
    pub async fn size(&self, url_path: &str) -> Result<u64, OpenError> {
        let path = url_path.split_once('?').map_or(url_path, |(path, _)| path);
        match Name::parse(path)? {
            Name::Object { bucket, key } => Ok(self.open(&bucket, &key, Want::head()).await?.len),
            Name::Bucket(_) | Name::Root => Err(OpenError::NoSuchKey),
        }
    }

    /// Whether there is such a bucket.
    pub fn has_bucket(&self, bucket: &str) -> bool {
        self.buckets.contains_key(bucket)
    }

    /// How many log lines reading objects may cause.
    pub(crate) fn lines(&self) -> &Arc<Lines> {
        &self.lines
    }

    /// Where what happens to objects is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

impl Want {
    /// All of it.
    pub fn whole() -> Self {
        Self {
            range: Spec::Whole,
            if_match: None,
            head: false,
            fresh: false,
            mapped: false,
            as_of: None,
        }
    }

    /// What it is, without its bytes.
    pub fn head() -> Self {
        Self {
            head: true,
            ..Self::whole()
        }
    }
}

impl ObjectBody {
    /// A body that must turn out to be this long.
    fn new(len: u64, stream: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static) -> Self {
        Self {
            stream: Box::pin(stream),
            left: len,
        }
    }

    fn empty() -> Self {
        Self::new(0, futures_util::stream::empty())
    }
}

impl Default for ObjectBody {
    fn default() -> Self {
        Self::empty()
    }
}

impl Stream for ObjectBody {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let Poll::Ready(next) = self.stream.as_mut().poll_next(cx) else {
            return Poll::Pending;
        };
        let left = self.left;
        let verdict = match next {
            Some(Ok(bytes)) if bytes.len() as u64 <= left => {
                self.left -= bytes.len() as u64;
                return Poll::Ready(Some(Ok(bytes)));
            }
            Some(Ok(_)) => "the origin sent more than it promised".into(),
            Some(Err(error)) => error,
            None => format!("the origin's body ended {left} bytes early").into(),
        };
        // Nobody may take what comes after an error for the rest.
        self.left = 0;
        self.stream = Box::pin(futures_util::stream::empty());
        Poll::Ready(Some(Err(verdict)))
    }
}

impl OpenError {
    /// The metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoSuchBucket => "no_such_bucket",
            Self::NoSuchKey => "no_such_key",
            Self::BadName(_) => "bad_name",
            Self::Denied(_) => "denied",
            Self::Replaced => "replaced",
            Self::Changed => "changed",
            Self::Unsatisfiable { .. } => "unsatisfiable_range",
            Self::Origin(_) => "origin_failed",
            Self::Unreachable(_) => "origin_unreachable",
            Self::Timeout => "origin_timeout",
        }
    }
}

/// From the request to the first byte, retries included. A firmware waits longer than this.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt;
    use futures_util::stream::iter;

    async fn read(promised: u64, chunks: &[&'static str]) -> Result<Vec<u8>, String> {
        let chunks: Vec<Result<Bytes, BodyError>> = chunks.iter().map(|chunk| Ok(Bytes::from(*chunk))).collect();
        ObjectBody::new(promised, iter(chunks))
            .map_ok(|bytes| bytes.to_vec())
            .try_concat()
            .await
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_body_is_as_long_as_promised_or_an_error() {
        assert_eq!(read(6, &["abc", "", "def"]).await, Ok(b"abcdef".to_vec()));
        assert_eq!(read(0, &[]).await, Ok(vec![]));
        assert_eq!(
            read(7, &["abc", "def"]).await,
            Err("the origin's body ended 1 bytes early".into())
        );
        assert_eq!(
            read(5, &["abc", "def"]).await,
            Err("the origin sent more than it promised".into())
        );
    }
}
