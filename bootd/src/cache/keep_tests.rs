//! The cache in front of an origin that does what a test tells it: serve, break, stall, change, fail.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures_util::TryStreamExt;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

#[path = "fault_tests.rs"]
mod faults;

use super::*;
use crate::cache::{Artifacts, CachedState};
use crate::config::{self, Source};
use crate::dhcp::v4::testing::Random;
use crate::http::range::Spec;
use crate::http::{Body, BodyError, full};
use crate::tftp::testing::config;

/// What the origin does.
#[derive(Clone)]
struct Does {
    /// All its objects.
    body: Bytes,
    etag: Option<&'static str>,
    /// Instead of any answer.
    status: Option<u16>,
    /// The same, for what is no HEAD.
    get_status: Option<u16>,
    /// The connection breaks after so many bytes of a body.
    breaks_after: Option<usize>,
    knows_ranges: bool,
    /// What it says that the SHA-256 of its objects is, beside each.
    sidecar: Option<String>,
}

/// A web server.
struct Web {
    does: Mutex<Does>,
    gets: AtomicUsize,
    heads: AtomicUsize,
    /// Bytes of bodies.
    sent: AtomicU64,
    /// Chunks that it may send.
    may_send: Semaphore,
}

const CHUNK: usize = 64 << 10;
const ALL: usize = Semaphore::MAX_PERMITS / 2;

impl Web {
    fn new(body: Vec<u8>) -> Arc<Self> {
        Arc::new(Self {
            does: Mutex::new(Does {
                body: body.into(),
                etag: Some("\"v1\""),
                status: None,
                get_status: None,
                breaks_after: None,
                knows_ranges: true,
                sidecar: None,
            }),
            gets: AtomicUsize::new(0),
            heads: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            may_send: Semaphore::new(ALL),
        })
    }

    fn now(&self, change: impl FnOnce(&mut Does)) {
        change(&mut self.does.lock().unwrap());
    }

    fn gets(&self) -> usize {
        self.gets.load(Ordering::SeqCst)
    }

    /// Serves until the token is dropped; returns where.
    async fn start(self: &Arc<Self>) -> (Source, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let source = Source::Http(format!("http://{}", listener.local_addr().unwrap()));
        let web = Arc::clone(self);
        let serving = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let web = Arc::clone(&web);
                let service = hyper::service::service_fn(move |request| {
                    let answer = Arc::clone(&web).answer(&request);
                    async { Ok::<_, std::convert::Infallible>(answer) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                open.spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        (source, serving)
    }

    fn answer(self: Arc<Self>, request: &Request<Incoming>) -> Response<Body> {
        let does = self.does.lock().unwrap().clone();
        let is_head = request.method() == Method::HEAD;
        if request.uri().path().ends_with(SIDECAR) {
            return match does.sidecar {
                Some(text) => Response::new(full(text)),
                None => Response::builder().status(404).body(full("")).unwrap(),
            };
        }
        match is_head {
            true => self.heads.fetch_add(1, Ordering::SeqCst),
            false => self.gets.fetch_add(1, Ordering::SeqCst),
        };
        let mut response = Response::builder();
        if let Some(etag) = does.etag {
            response = response.header("etag", etag);
        }
        if let Some(status) = does.status.or(does.get_status.filter(|_| !is_head)) {
            return response.status(status).body(full("")).unwrap();
        }
        let wanted = request.headers().get("if-match");
        if wanted.is_some_and(|wanted| Some(wanted.to_str().unwrap()) != does.etag) {
            return response.status(StatusCode::PRECONDITION_FAILED).body(full("")).unwrap();
        }
        let len = does.body.len() as u64;
        let range = match Spec::of(request.headers()).of_length(len) {
            Slice::Part(part) if does.knows_ranges => {
                let range = format!("bytes {}-{}/{len}", part.start, part.end - 1);
                response = response
                    .status(StatusCode::PARTIAL_CONTENT)
                    .header("content-range", range);
                part
            }
            _ => 0..len,
        };
        let response = response.header("content-length", range.end - range.start);
        let response = response.header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
        if is_head {
            return response.body(full("")).unwrap();
        }
        let end = does
            .breaks_after
            .map_or(range.end, |after| range.end.min(range.start + after as u64));
        let does_break = end < range.end;
        let body = does.body;
        let chunks = stream::try_unfold(range.start, move |at| {
            let (web, body) = (Arc::clone(&self), body.clone());
            async move {
                if at >= end {
                    if !does_break {
                        return Ok(None);
                    }
                    // What was sent before arrives.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    return Err(BodyError::from("broken as told"));
                }
                web.may_send.acquire().await.unwrap().forget();
                let next = end.min(at + CHUNK as u64);
                web.sent.fetch_add(next - at, Ordering::SeqCst);
                let bytes = body.slice(usize::try_from(at).unwrap()..usize::try_from(next).unwrap());
                Ok(Some((Frame::data(bytes), next)))
            }
        });
        response
            .body(BodyExt::boxed(StreamBody::new(Sync(Mutex::new(Box::pin(chunks))))))
            .unwrap()
    }
}

/// A body must be Sync.
struct Sync<S>(Mutex<std::pin::Pin<Box<S>>>);

impl<S: stream::Stream> stream::Stream for Sync<S> {
    type Item = S::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.0.get_mut().unwrap().as_mut().poll_next(context)
    }
}

/// Larger than a chunk, and no two parts alike.
fn image(len: u32) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Behind the name of an object that holds another one's SHA-256.
const SIDECAR: &str = ".sha256";

/// Opens the cache, as soon as the one before is gone with its last task.
async fn over(dir: &Path, source: &Source, size: Option<u64>) -> Artifacts {
    over_with(dir, source, size, None).await
}

async fn over_with(dir: &Path, source: &Source, size: Option<u64>, sidecar: Option<&str>) -> Artifacts {
    let config = configured(dir, source, size, sidecar);
    let (mut artifacts, mistakes) = Artifacts::new(&config, Arc::default());
    assert!(mistakes.is_empty(), "{mistakes:?}");
    eventually("free", async || {
        match Keep::checking(&config, Arc::clone(&artifacts.metrics), Duration::ZERO, Duration::ZERO) {
            Ok(keep) => artifacts.keep = Some(keep),
            Err(CacheError::InUse(_)) => {}
            Err(error) => panic!("{error}"),
        }
        artifacts.keep.is_some()
    })
    .await;
    artifacts
}

fn configured(dir: &Path, source: &Source, size: Option<u64>, sidecar: Option<&str>) -> Config {
    let mut config = config(Path::new("/nowhere"));
    config.cache_dir = dir.into();
    config.cache.size = size;
    config.origins = vec![config::Origin {
        bucket: "b".into(),
        source: source.clone(),
        prefix: String::new(),
        sidecar: sidecar.map(str::to_owned),
        prefixes: Vec::new(),
        rewrite: true,
    }];
    config
}

async fn bytes(object: Object) -> Result<Vec<u8>, String> {
    let chunks = object.body.map_ok(|chunk| chunk.to_vec());
    chunks.try_concat().await.map_err(|error| error.to_string())
}

/// As over a plain connection: from the mapped file, where that is in memory.
async fn get(artifacts: &Artifacts, key: &str) -> Result<Vec<u8>, String> {
    let want = Want {
        mapped: true,
        ..Want::whole()
    };
    match artifacts.open("b", key, want).await {
        Ok(object) => bytes(object).await,
        Err(error) => Err(error.label().into()),
    }
}

async fn part(artifacts: &Artifacts, key: &str, range: Spec) -> Result<Vec<u8>, String> {
    let want = Want { range, ..Want::whole() };
    match artifacts.open("b", key, want).await {
        Ok(object) => bytes(object).await,
        Err(error) => Err(error.label().into()),
    }
}

/// Waits for what happens on its own.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..1000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

fn sum(artifacts: &Artifacts) -> super::super::shelf::Sum {
    artifacts.keep.as_ref().unwrap().0.state().shelf.sum()
}

async fn until_kept(artifacts: &Artifacts, objects: usize) {
    eventually("kept", async || {
        sum(artifacts).objects == objects && sum(artifacts).fills == 0
    })
    .await;
}

fn counted_as(artifacts: &Artifacts, line: &str) -> bool {
    artifacts.metrics.text().lines().any(|other| other == line)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_readers_at_once_cost_the_origin_each_byte_once() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(1_500_001);
    let web = Web::new(body.clone());
    let (source, _serving) = web.start().await;
    web.may_send.forget_permits(ALL);
    let artifacts = Arc::new(over(dir.path(), &source, None).await);
    let mut readers = tokio::task::JoinSet::new();
    for index in 0..100_u64 {
        let artifacts = Arc::clone(&artifacts);
        readers.spawn(async move {
            let from = if index % 3 == 0 { index * 10_000 } else { 0 };
            (from, part(&artifacts, "image", Spec::From(from)).await)
        });
    }
    eventually("asked", async || web.gets() == 1).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        web.may_send.add_permits(1);
    }
    web.may_send.add_permits(ALL);
    while let Some(read) = readers.join_next().await {
        let (from, read) = read.unwrap();
        assert_eq!(read.unwrap(), body[from as usize..]);
    }
    until_kept(&artifacts, 1).await;
    assert_eq!(get(&artifacts, "image").await.unwrap(), body);
    assert_eq!((web.gets(), web.sent.load(Ordering::SeqCst)), (1, 1_500_001));
    assert!(counted_as(
        &artifacts,
        "bootd_fetched_bytes_total{part=\"cache\",what=\"filled\"} 1500001"
    ));
    assert!(counted_as(&artifacts, "bootd_cache_requests_total{result=\"miss\"} 1"));
    assert!(counted_as(&artifacts, "bootd_cache_requests_total{result=\"hit\"} 1"));
}

#[tokio::test]
async fn after_a_restart_with_the_origin_dead_every_byte_is_served_and_said_to_be_old() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(5_000_000);
    let web = Web::new(body.clone());
    let (source, serving) = web.start().await;
    let artifacts = over(dir.path(), &source, None).await;
    for key in ["kernel", "path/to/image"] {
        assert_eq!(get(&artifacts, key).await.unwrap(), body);
    }
    until_kept(&artifacts, 2).await;
    drop(artifacts);
    serving.abort();

    let artifacts = over(dir.path(), &source, None).await;
    assert_eq!(sum(&artifacts).objects, 2);
    assert_eq!(get(&artifacts, "kernel").await.unwrap(), body);
    assert_eq!(
        part(&artifacts, "path/to/image", Spec::Last(70_000)).await.unwrap(),
        body[4_930_000..]
    );
    assert_eq!(
        part(&artifacts, "kernel", Spec::From(5_000_000)).await.unwrap_err(),
        "unsatisfiable_range"
    );
    let head = artifacts.open("b", "kernel", Want::head()).await.unwrap();
    assert_eq!(
        (head.len, head.etag.as_deref(), head.range),
        (5_000_000, Some("\"v1\""), 0..0)
    );
    let date = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
    assert_eq!(head.last_modified, Some(date));
    eventually("stale", async || {
        artifacts.open("b", "kernel", Want::head()).await.unwrap().stale == Some("the origin did not confirm it")
    })
    .await;
    assert_eq!(get(&artifacts, "kernel").await.unwrap(), body);
    assert_eq!(get(&artifacts, "other").await.unwrap_err(), "origin_unreachable");
    assert!(
        artifacts.kept().unwrap().contains("2 objects"),
        "{:?}",
        artifacts.kept()
    );
    let [warning] = artifacts.warnings().try_into().unwrap();
    assert!(warning.starts_with("cache: bucket b: "), "{warning}");
    assert!(
        warning.contains(" served as kept: the origin did not confirm it, for "),
        "{warning}"
    );
}

#[tokio::test]
async fn a_fetch_that_breaks_is_continued_under_its_tag_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(1_000_000);
    let web = Web::new(body.clone());
    let (source, _serving) = web.start().await;
    // Each connection brings a part.
    web.now(|does| does.breaks_after = Some(400_000));
    let artifacts = over(dir.path(), &source, None).await;
    assert_eq!(get(&artifacts, "k").await.unwrap(), body);
    until_kept(&artifacts, 1).await;
    assert_eq!((web.gets(), web.sent.load(Ordering::SeqCst)), (3, 1_000_000));
}

#[tokio::test]
async fn readers_of_a_fetch_that_breaks_for_good_see_an_error_and_the_next_one_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(1_000_000);
    let web = Web::new(body.clone());
    let (source, _serving) = web.start().await;
    web.now(|does| (does.breaks_after, does.knows_ranges) = (Some(990_000), false));
    let artifacts = over(dir.path(), &source, None).await;
    let objects = futures_util::future::join_all((0..5).map(|_| artifacts.open("b", "k", Want::whole()))).await;
    for read in futures_util::future::join_all(objects.into_iter().map(|object| bytes(object.unwrap()))).await {
        read.unwrap_err();
    }
    eventually("over", async || sum(&artifacts).fills == 0).await;
    assert!(counted_as(
        &artifacts,
        "bootd_refused_total{part=\"cache\",what=\"fill_failed\"} 1"
    ));
    eventually("removed", async || {
        std::fs::read_dir(dir.path().join("tmp")).unwrap().count() == 0
    })
    .await;
    web.now(|does| does.breaks_after = None);
    assert_eq!(get(&artifacts, "k").await.unwrap(), body);
    until_kept(&artifacts, 1).await;
}

#[tokio::test]
async fn a_fetch_whose_origin_is_away_for_a_while_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(2_000_000);
    let web = Web::new(body.clone());
    let (source, _serving) = web.start().await;
    let artifacts = over(dir.path(), &source, None).await;
    // More breaks than the store bears in one body, and refusals between.
    web.now(|does| does.breaks_after = Some(200_000));
    let object = artifacts.open("b", "k", Want::whole()).await.unwrap();
    let trouble = tokio::spawn({
        let web = Arc::clone(&web);
        async move {
            for status in [Some(503), None, Some(500), None] {
                tokio::time::sleep(Duration::from_millis(300)).await;
                web.now(|does| does.status = status);
            }
        }
    });
    assert_eq!(bytes(object).await.unwrap(), body);
    trouble.await.unwrap();
    until_kept(&artifacts, 1).await;
    assert_eq!(web.sent.load(Ordering::SeqCst), 2_000_000);
}

#[tokio::test]
async fn an_operator_has_objects_fetched_pinned_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let web = Web::new(image(200_000));
    let (source, _serving) = web.start().await;
    let artifacts = over(dir.path(), &source, Some(500_000)).await;
    assert!(artifacts.warm("/b/kernel").await.is_ok());
    until_kept(&artifacts, 1).await;
    let warm = artifacts.warm("/b/kernel").await.unwrap();
    assert_eq!(
        (warm.state, warm.have, warm.len),
        (CachedState::Kept, 200_000, Some(200_000))
    );
    assert_eq!((&*warm.path, warm.etag.as_deref()), ("/b/kernel", Some("\"v1\"")));
    assert_eq!(web.gets(), 1);
    assert!(artifacts.pin("/b/kernel").unwrap().unwrap());
    assert!(artifacts.pin("/b/none yet").unwrap().unwrap());
    drop(artifacts);

    let artifacts = over(dir.path(), &source, Some(500_000)).await;
    for key in ["one", "two", "three"] {
        assert_eq!(get(&artifacts, key).await.map(|bytes| bytes.len()), Ok(200_000));
        eventually("kept", async || {
            get(&artifacts, key).await.is_ok() && sum(&artifacts).fills == 0
        })
        .await;
    }
    let listed = artifacts.cached().unwrap();
    let names: Vec<_> = listed
        .iter()
        .map(|object| (&*object.path, object.state, object.is_pinned))
        .collect();
    let (kept, absent) = (CachedState::Kept, CachedState::Absent);
    assert_eq!(
        names,
        [
            ("/b/kernel", kept, true),
            ("/b/none yet", absent, true),
            ("/b/three", kept, false)
        ]
    );
    assert!(artifacts.unpin("/b/none yet").unwrap().unwrap());
    assert!(!artifacts.unpin("/b/none yet").unwrap().unwrap());
    assert!(artifacts.remove("/b/three").unwrap());
    assert!(!artifacts.remove("/b/three").unwrap());
    assert_eq!(artifacts.cached().unwrap().len(), 1);
    assert!(matches!(
        artifacts.warm("/other/key").await,
        Err(OpenError::NoSuchBucket)
    ));
}

#[tokio::test]
async fn ten_thousand_requests_for_what_does_not_exist_cost_the_origin_one() {
    let dir = tempfile::tempdir().unwrap();
    let web = Web::new(image(1000));
    let (source, _serving) = web.start().await;
    let artifacts = over(dir.path(), &source, None).await;
    web.now(|does| does.status = Some(404));
    for _ in 0..10_000 {
        assert!(get(&artifacts, "none").await.is_err());
    }
    assert_eq!(web.gets(), 1);
    assert!(matches!(
        artifacts.open("b", "none", Want::head()).await,
        Err(OpenError::NoSuchKey)
    ));
    assert_eq!(web.heads.load(Ordering::SeqCst), 0);
    // Who insists on what the origin has now gets that.
    web.now(|does| does.status = None);
    let fresh = Want {
        fresh: true,
        ..Want::whole()
    };
    assert!(artifacts.open("b", "none", fresh).await.is_ok());
    // Another name is another question.
    assert_eq!(get(&artifacts, "other").await, Ok(image(1000)));
}

#[tokio::test]
async fn when_the_disk_fails_in_the_middle_readers_get_the_rest_from_the_origin() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(1_000_000);
    let web = Web::new(body.clone());
    let (source, _serving) = web.start().await;
    let artifacts = over(dir.path(), &source, None).await;
    let disk = &artifacts.keep.as_ref().unwrap().0.disk;
    disk.fails_after.store(500_000, Ordering::SeqCst);
    let opened = futures_util::future::join_all((0..3).map(|_| artifacts.open("b", "k", Want::whole()))).await;
    for read in futures_util::future::join_all(opened.into_iter().map(|object| bytes(object.unwrap()))).await {
        assert_eq!(read.unwrap(), body);
    }
    assert_eq!(sum(&artifacts), Default::default());
    eventually("removed", async || {
        std::fs::read_dir(dir.path().join("tmp")).unwrap().count() == 0
    })
    .await;
    let warnings = artifacts.warnings();
    assert!(
        warnings[0].starts_with("cache: the disk failed 0s ago: "),
        "{warnings:?}"
    );
    // For a while nothing is filled; everything is served.
    assert_eq!(get(&artifacts, "k").await.unwrap(), body);
    assert!(counted_as(
        &artifacts,
        "bootd_cache_requests_total{result=\"through_disk\"} 4"
    ));
}

#[tokio::test]
async fn a_fetch_goes_on_when_its_first_reader_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(1_000_000);
    let web = Web::new(body.clone());
    let (source, _serving) = web.start().await;
    web.may_send.forget_permits(ALL - 2);
    let artifacts = over(dir.path(), &source, None).await;
    let first = artifacts.open("b", "k", Want::whole()).await.unwrap();
    drop(first);
    web.may_send.add_permits(ALL / 2);
    assert_eq!(get(&artifacts, "k").await.unwrap(), body);
    until_kept(&artifacts, 1).await;
    assert_eq!(web.gets(), 1);
}

#[tokio::test]
async fn a_changed_object_is_fetched_by_the_next_reader_and_who_wants_the_old_one_never_gets_a_mix() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (image(300_000), vec![7; 200_000]);
    let web = Web::new(old.clone());
    let (source, _serving) = web.start().await;
    let artifacts = over(dir.path(), &source, None).await;
    assert_eq!(get(&artifacts, "k").await.unwrap(), old);
    until_kept(&artifacts, 1).await;
    let slow = artifacts.open("b", "k", Want::whole()).await.unwrap();
    web.now(|does| (does.body, does.etag) = (new.clone().into(), Some("\"v2\"")));
    eventually("the new one", async || get(&artifacts, "k").await.unwrap() == new).await;
    until_kept(&artifacts, 1).await;
    let insists = |tag: &str| Want {
        if_match: Some(tag.into()),
        ..Want::whole()
    };
    assert_eq!(
        bytes(artifacts.open("b", "k", insists("\"v2\"")).await.unwrap())
            .await
            .unwrap(),
        new
    );
    let refused = artifacts.open("b", "k", insists("\"v1\"")).await.err().unwrap();
    assert_eq!(refused.label(), "changed");
    // A reader from before reads on in the file from before, though that is gone from the folder.
    eventually("one file", async || {
        let folders = std::fs::read_dir(dir.path().join("objects")).unwrap().flatten();
        folders
            .map(|folder| std::fs::read_dir(folder.path()).unwrap().count())
            .sum::<usize>()
            == 2
    })
    .await;
    assert_eq!(bytes(slow).await.unwrap(), old);
}

#[tokio::test]
async fn while_a_new_version_is_fetched_everyone_has_the_old_one_and_does_not_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (image(300_000), vec![7; 200_000]);
    let web = Web::new(old.clone());
    let (source, _serving) = web.start().await;
    let artifacts = over(dir.path(), &source, None).await;
    assert_eq!(get(&artifacts, "k").await.unwrap(), old);
    until_kept(&artifacts, 1).await;
    // The origin answers, and then sends a chunk and no more.
    web.now(|does| (does.body, does.etag) = (new.clone().into(), Some("\"v2\"")));
    web.may_send.forget_permits(ALL);
    web.may_send.add_permits(1);
    eventually("it is fetched", async || {
        assert_eq!(get(&artifacts, "k").await.unwrap(), old);
        counted_as(&artifacts, "bootd_done_total{part=\"cache\",what=\"renewed\"} 1") && web.gets() == 2
    })
    .await;
    for _ in 0..10 {
        assert_eq!(get(&artifacts, "k").await.unwrap(), old);
    }
    web.may_send.add_permits(ALL);
    eventually("the new one", async || get(&artifacts, "k").await.unwrap() == new).await;
    assert_eq!(web.gets(), 2);
}

#[tokio::test]
async fn what_was_complete_and_not_in_service_is_not_after_a_restart_either() {
    let dir = tempfile::tempdir().unwrap();
    let old = image(300_000);
    let web = Web::new(old.clone());
    let (source, serving) = web.start().await;
    let artifacts = over(dir.path(), &source, None).await;
    artifacts.set_sets(&[vec!["/b/k".to_owned(), "/b/i".to_owned()]]);
    for key in ["k", "i"] {
        assert_eq!(get(&artifacts, key).await.unwrap(), old);
    }
    until_kept(&artifacts, 2).await;
    web.now(|does| (does.body, does.etag) = (vec![7; 200_000].into(), Some("\"v2\"")));
    // Only of the first one a new version is fetched: nobody looks after the set.
    eventually("one waits", async || {
        assert_eq!(get(&artifacts, "k").await.unwrap(), old);
        sum(&artifacts).waiting == 1
    })
    .await;
    assert_eq!(
        artifacts.cached().unwrap()[1].why.as_deref(),
        Some("a newer version waits for the other files of its set")
    );
    serving.abort();
    drop(artifacts);
    let artifacts = over(dir.path(), &source, None).await;
    for key in ["k", "i"] {
        assert_eq!(get(&artifacts, key).await.unwrap(), old);
    }
    assert_eq!((sum(&artifacts).objects, sum(&artifacts).waiting), (2, 0));
    let files = || {
        let folders = std::fs::read_dir(dir.path().join("objects")).unwrap().flatten();
        folders
            .map(|folder| std::fs::read_dir(folder.path()).unwrap().count())
            .sum::<usize>()
    };
    assert_eq!(files(), 4);
}

#[tokio::test]
async fn a_new_version_that_cannot_be_fetched_costs_nothing_that_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(300_000);
    let web = Web::new(body.clone());
    let (source, _serving) = web.start().await;
    let artifacts = over(dir.path(), &source, None).await;
    assert_eq!(get(&artifacts, "k").await.unwrap(), body);
    until_kept(&artifacts, 1).await;
    web.now(|does| (does.etag, does.get_status) = (Some("\"v2\""), Some(403)));
    eventually("known", async || {
        let object = artifacts.open("b", "k", Want::whole()).await.unwrap();
        let is_known = object.stale == Some("a newer version could not be fetched");
        assert_eq!(bytes(object).await.unwrap(), body);
        is_known
    })
    .await;
}

#[tokio::test]
async fn an_origin_in_trouble_costs_nothing_that_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(300_000);
    let web = Web::new(body.clone());
    let (source, _serving) = web.start().await;
    let artifacts = over(dir.path(), &source, None).await;
    assert_eq!(get(&artifacts, "k").await.unwrap(), body);
    until_kept(&artifacts, 1).await;
    for (status, stale) in [
        (Some(503), Some("the origin did not confirm it")),
        (None, None),
        (Some(404), Some("the origin does not have it any more")),
        (Some(403), Some("the origin does not have it any more")),
        (None, None),
    ] {
        web.now(|does| does.status = status);
        eventually("known", async || {
            let object = artifacts.open("b", "k", Want::whole()).await.unwrap();
            let is_known = object.stale == stale;
            assert_eq!(bytes(object).await.unwrap(), body);
            is_known
        })
        .await;
    }
    assert_eq!(web.gets(), 1);
}

#[tokio::test]
async fn what_is_not_kept_is_passed_through_whole_and_asked_for_once_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(300_000);
    let web = Web::new(body.clone());
    let (source, _serving) = web.start().await;
    // It does not fit.
    let small = over(dir.path(), &source, Some(100_000)).await;
    assert_eq!(get(&small, "k").await.unwrap(), body);
    assert_eq!((web.gets(), sum(&small).objects), (1, 0));
    assert!(counted_as(
        &small,
        "bootd_cache_requests_total{result=\"through_no_room\"} 1"
    ));
    assert!(counted_as(
        &small,
        "bootd_fetched_bytes_total{part=\"cache\",what=\"passed_through\"} 300000"
    ));
    assert_eq!(part(&small, "k", Spec::FromTo(5, 9)).await.unwrap(), body[5..10]);
    drop(small);
    // Its tag does not tell versions apart.
    web.now(|does| does.etag = Some("W/\"weak\""));
    let weak = over(dir.path(), &source, None).await;
    let gets = web.gets();
    assert_eq!(get(&weak, "k").await.unwrap(), body);
    assert_eq!((web.gets(), sum(&weak).objects), (gets + 1, 0));
    // Without a tag the date does.
    web.now(|does| does.etag = None);
    assert_eq!(get(&weak, "k").await.unwrap(), body);
    until_kept(&weak, 1).await;
    drop(weak);
    // Nothing is to be kept, or can be.
    std::fs::remove_dir_all(dir.path().join("tmp")).unwrap();
    let artifacts = over(dir.path(), &source, None).await;
    std::fs::remove_dir_all(dir.path()).unwrap();
    std::fs::write(dir.path(), "a file").unwrap();
    assert_eq!(get(&artifacts, "other").await.unwrap(), body);
    assert_eq!(get(&artifacts, "k").await.unwrap(), body);
    std::fs::remove_file(dir.path()).unwrap();
}

#[tokio::test]
async fn a_reader_far_ahead_of_a_fetch_is_passed_through() {
    let dir = tempfile::tempdir().unwrap();
    let web = Web::new(vec![1; (65 << 20) + 10]);
    let (source, _serving) = web.start().await;
    web.may_send.forget_permits(ALL - 1);
    let artifacts = over(dir.path(), &source, None).await;
    let whole = artifacts.open("b", "k", Want::whole()).await.unwrap();
    eventually("the first chunk", async || web.may_send.available_permits() == 0).await;
    web.may_send.add_permits(1);
    let ahead = part(&artifacts, "k", Spec::Last(10));
    // The fetch may take the place of the reader.
    let ahead = tokio::time::timeout(Duration::from_secs(10), async {
        tokio::pin!(ahead);
        loop {
            tokio::select! {
                read = &mut ahead => return read,
                () = tokio::time::sleep(Duration::from_millis(20)) => web.may_send.add_permits(1),
            }
        }
    });
    assert_eq!(ahead.await.unwrap().unwrap(), [1; 10]);
    assert!(counted_as(
        &artifacts,
        "bootd_cache_requests_total{result=\"through_ahead\"} 1"
    ));
    assert_eq!(web.gets(), 2);
    drop(whole);
}

#[tokio::test]
async fn a_kept_file_that_cannot_be_read_is_replaced_by_its_origin_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(1_000_000);
    let web = Web::new(body.clone());
    let (source, _serving) = web.start().await;
    let artifacts = over(dir.path(), &source, None).await;
    get(&artifacts, "k").await.unwrap();
    until_kept(&artifacts, 1).await;
    let shared = &artifacts.keep.as_ref().unwrap().0;
    let stored = shared.state().objects.values().next().cloned().unwrap();
    let [_, data] = shared.disk.files(stored.id.get().unwrap());
    drop(stored);
    std::fs::OpenOptions::new()
        .write(true)
        .open(data)
        .unwrap()
        .set_len(400_000)
        .unwrap();
    assert_eq!(get(&artifacts, "k").await.unwrap(), body);
    assert_eq!((web.gets(), sum(&artifacts).objects), (2, 0));
    assert_eq!(get(&artifacts, "k").await.unwrap(), body);
    until_kept(&artifacts, 1).await;
    assert_eq!(web.gets(), 3);
}

/// Flips a bit of the only object that is kept.
fn flip(dir: &Path, at: u64) {
    let folders = std::fs::read_dir(dir.join("objects")).unwrap();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    let mut files = files.map(|file| file.unwrap().path());
    let data = files
        .find(|path| path.extension().is_some_and(|end| end == "data"))
        .unwrap();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(data).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    file.sync_all().unwrap();
}

const TWO_BLOCKS_AND_MORE: u32 = 9_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_an_unclean_end_a_flipped_bit_is_not_served_and_the_object_is_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(TWO_BLOCKS_AND_MORE);
    let web = Web::new(body.clone());
    let (source, _serving) = web.start().await;
    let artifacts = over(dir.path(), &source, None).await;
    assert_eq!(get(&artifacts, "image").await.unwrap(), body);
    until_kept(&artifacts, 1).await;
    let sha256 = artifacts.cached().unwrap()[0].sha256.clone().unwrap();
    drop(artifacts);
    flip(dir.path(), 5_000_000);

    let artifacts = over(dir.path(), &source, None).await;
    assert_eq!(artifacts.cached().unwrap()[0].sha256, Some(sha256.clone()));
    assert_eq!(get(&artifacts, "image").await.unwrap(), body);
    assert!(counted_as(
        &artifacts,
        "bootd_refused_total{part=\"cache\",what=\"damaged\"} 1"
    ));
    let warnings = artifacts.warnings();
    let text = "the bytes from 4194304 to 8388608 are not those that were fetched";
    assert!(warnings.iter().any(|warning| warning.contains(text)), "{warnings:?}");
    until_kept(&artifacts, 1).await;
    assert_eq!(web.gets(), 3, "the first time, the rest, and the second time");
    // What was fetched by this process is not in doubt.
    assert_eq!(get(&artifacts, "image").await.unwrap(), body);
    assert_eq!(web.gets(), 3);
    assert_eq!(artifacts.cached().unwrap()[0].sha256, Some(sha256));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_an_unclean_end_with_the_origin_dead_what_is_good_is_served_and_what_is_not_breaks() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(TWO_BLOCKS_AND_MORE);
    let web = Web::new(body.clone());
    let (source, serving) = web.start().await;
    let artifacts = over(dir.path(), &source, None).await;
    get(&artifacts, "image").await.unwrap();
    until_kept(&artifacts, 1).await;
    drop(artifacts);
    serving.abort();

    let artifacts = Arc::new(over(dir.path(), &source, None).await);
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let artifacts = Arc::clone(&artifacts);
        readers.spawn(async move { get(&artifacts, "image").await.unwrap() });
    }
    while let Some(read) = readers.join_next().await {
        assert!(read.unwrap() == body);
    }
    assert!(counted_as(
        &artifacts,
        "bootd_done_total{part=\"cache\",what=\"proven\"} 1"
    ));
    drop(artifacts);
    flip(dir.path(), 8_500_000);
    let artifacts = over(dir.path(), &source, None).await;
    let mut object = artifacts.open("b", "image", Want::whole()).await.unwrap();
    let mut got = Vec::new();
    let end = loop {
        match object.body.try_next().await {
            Ok(Some(bytes)) => got.extend_from_slice(&bytes),
            Ok(None) => panic!("{} bytes, and a good end", got.len()),
            Err(error) => break error.to_string(),
        }
    };
    assert!(got.len() <= 8_388_608 && body.starts_with(&got), "{} bytes", got.len());
    assert!(!end.is_empty());
    assert_eq!(get(&artifacts, "image").await.unwrap_err(), "origin_unreachable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scrub_finds_a_flipped_bit_and_the_object_is_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(TWO_BLOCKS_AND_MORE);
    let web = Web::new(body.clone());
    let (source, _serving) = web.start().await;
    let artifacts = Arc::new(over(dir.path(), &source, None).await);
    get(&artifacts, "image").await.unwrap();
    until_kept(&artifacts, 1).await;
    artifacts.end();
    let stop = tokio_util::sync::CancellationToken::new();
    let period = Duration::from_millis(30);
    let scrub = tokio::spawn(Arc::clone(&artifacts).scrub(period, stop.clone()));
    let scrubbed =
        |artifacts: &Artifacts| counted_as(artifacts, "bootd_done_total{part=\"cache\",what=\"scrubbed\"} 0");
    eventually("scrubbed", async || {
        artifacts.metrics.text().contains("what=\"scrubbed\"") && !scrubbed(&artifacts)
    })
    .await;
    assert!(!artifacts.metrics.text().contains("what=\"damaged\""));
    // A reader that has begun goes on with what is good.
    let mut object = artifacts.open("b", "image", Want::whole()).await.unwrap();
    let mut got = object.body.try_next().await.unwrap().unwrap().to_vec();
    flip(dir.path(), 8_999_999);
    eventually("found", async || {
        counted_as(&artifacts, "bootd_refused_total{part=\"cache\",what=\"damaged\"} 1")
    })
    .await;
    while let Some(bytes) = object.body.try_next().await.unwrap() {
        got.extend_from_slice(&bytes);
    }
    assert!(got == body);
    until_kept(&artifacts, 1).await;
    assert_eq!(get(&artifacts, "image").await.unwrap(), body);
    stop.cancel();
    scrub.await.unwrap();
    drop(object);
    drop(artifacts);
    // It came to its end: nothing is in doubt.
    let artifacts = over(dir.path(), &source, None).await;
    assert_eq!(get(&artifacts, "image").await.unwrap(), body);
    assert!(!artifacts.metrics.text().contains("proven"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_other_than_its_origin_says_beside_it_never_ends_and_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(700_000);
    let web = Web::new(body.clone());
    let (source, _serving) = web.start().await;
    // What has no sum beside it is kept as it is.
    let artifacts = over_with(dir.path(), &source, None, Some(SIDECAR)).await;
    assert_eq!(get(&artifacts, "none").await.unwrap(), body);
    until_kept(&artifacts, 1).await;
    let sha256 = artifacts.cached().unwrap()[0].sha256.clone().unwrap();

    web.now(|does| does.sidecar = Some(format!("{}  image\n", "0".repeat(64))));
    for _ in 0..2 {
        let mut object = artifacts.open("b", "image", Want::whole()).await.unwrap();
        let mut got = Vec::new();
        let end = loop {
            match object.body.try_next().await {
                Ok(Some(bytes)) => got.extend_from_slice(&bytes),
                Ok(None) => panic!("a good end"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(got.len() < body.len() && body.starts_with(&got), "{}", got.len());
        assert!(end.contains("its SHA-256 is"), "{end}");
    }
    until_kept(&artifacts, 1).await;
    // What cannot be read is no sum.
    web.now(|does| does.sidecar = Some("soon".into()));
    assert_eq!(get(&artifacts, "image").await.unwrap_err(), "origin_failed");

    web.now(|does| does.sidecar = Some(format!("SHA256 (image) = {}\n", sha256.to_uppercase())));
    assert_eq!(get(&artifacts, "image").await.unwrap(), body);
    until_kept(&artifacts, 2).await;
    // The sum is an object as any other.
    assert!(get(&artifacts, "image.sha256").await.unwrap().starts_with(b"SHA256"));
}

#[tokio::test]
async fn an_origin_without_a_name_or_with_no_tls_where_that_is_wanted_costs_nothing_that_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(300_000);
    let web = Web::new(body.clone());
    let (source, _serving) = web.start().await;
    let artifacts = over(dir.path(), &source, None).await;
    assert_eq!(get(&artifacts, "image").await.unwrap(), body);
    until_kept(&artifacts, 1).await;
    let plain = source.to_string().replace("http http:", "https:");
    for other in [Source::Http(plain), Source::Http("http://origin.invalid".into())] {
        let origin = |source: &Source| config::Origin {
            bucket: "b".into(),
            prefix: String::new(),
            sidecar: None,
            source: source.clone(),
            prefixes: Vec::new(),
            rewrite: true,
        };
        // What is kept came from this one; where it was is another matter.
        let mut config = config(Path::new("/nowhere"));
        config.origins = vec![origin(&other)];
        let (gone, mistakes) = Artifacts::new(&config, Arc::default());
        assert!(mistakes.is_empty());
        let error = gone.open("b", "image", Want::whole()).await.err().unwrap();
        assert_eq!(error.label(), "origin_unreachable", "{other}: {error}");
        assert!(!error.to_string().is_empty());
        let place = Place {
            bucket: "b".into(),
            key: "image".into(),
        };
        let moved = Arc::clone(gone.buckets["b"].of("image").unwrap());
        let keep = artifacts.keep.as_ref().unwrap();
        for _ in 0..3 {
            let object = keep.object(&moved, place.clone(), Want::whole()).await.unwrap();
            assert_eq!(bytes(object).await.unwrap(), body);
        }
    }
}

#[tokio::test]
async fn what_another_origin_had_under_the_same_name_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let webs = [Web::new(image(10)), Web::new(vec![2; 10])];
    for web in webs {
        let (source, _serving) = web.start().await;
        let artifacts = over(dir.path(), &source, None).await;
        assert_eq!(get(&artifacts, "k").await.unwrap(), web.does.lock().unwrap().body);
        until_kept(&artifacts, 1).await;
    }
}

#[tokio::test]
async fn another_configuration_goes_on_with_what_is_kept_but_for_what_another_origin_had() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Web::new(image(10)), Web::new(vec![2; 10]));
    let ((source, _serving), (moved, _serving_too)) = (one.start().await, two.start().await);
    let first = over(dir.path(), &source, None).await;
    assert_eq!(get(&first, "k").await.unwrap(), image(10));
    until_kept(&first, 1).await;
    // Nothing is kept for a while.
    let none = configured(dir.path(), &source, Some(0), None);
    let (second, mistakes, kept) = first.changed(&none);
    assert!(mistakes.is_empty() && kept.is_ok() && !second.keeps());
    // The same folder, without being opened again.
    let again = configured(dir.path(), &source, Some(1 << 20), None);
    let (third, _, kept) = second.changed(&again);
    third.take(&again);
    assert!(kept.is_ok() && third.keeps());
    assert_eq!(sum(&third).objects, 1);
    let kept = third.kept().unwrap();
    assert!(kept.contains("at most 1.0 MiB"), "{kept}");
    let elsewhere = configured(dir.path(), &moved, None, None);
    let (fourth, ..) = third.changed(&elsewhere);
    fourth.take(&elsewhere);
    assert_eq!(sum(&fourth).objects, 0);
    assert_eq!(get(&fourth, "k").await.unwrap(), [2; 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_origin_and_the_disk_do_each_reader_gets_the_bytes_of_one_version_or_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let bodies: Vec<Vec<u8>> = (0..4)
        .map(|tag| image(300_000 + tag * 50_000).iter().map(|b| b ^ tag as u8).collect())
        .collect();
    let web = Web::new(bodies[0].clone());
    web.now(|does| does.etag = Some("\"v0\""));
    let (source, _serving) = web.start().await;
    // Room for two of three objects.
    let artifacts = Arc::new(over(dir.path(), &source, Some(1_000_000)).await);
    let mut random = Random::seeded(0x5702);
    let mut readers = tokio::task::JoinSet::new();
    let (mut good, mut bad) = (0, 0);
    for _ in 0..1500 {
        match random.below(40) {
            0 => {
                let tag = random.below(4) as usize;
                let etag = ["\"v0\"", "\"v1\"", "\"v2\"", "\"v3\""][tag];
                web.now(|does| (does.body, does.etag) = (bodies[tag].clone().into(), Some(etag)));
            }
            1 => web.now(|does| does.breaks_after = Some(100_000)),
            2 => web.now(|does| does.knows_ranges = false),
            3 => web.now(|does| does.status = Some(404)),
            4 => artifacts
                .keep
                .as_ref()
                .unwrap()
                .0
                .disk
                .fails_after
                .store(100_000, Ordering::SeqCst),
            5..10 => {
                web.now(|does| (does.breaks_after, does.knows_ranges, does.status) = (None, true, None));
                artifacts
                    .keep
                    .as_ref()
                    .unwrap()
                    .0
                    .disk
                    .fails_after
                    .store(u64::MAX, Ordering::SeqCst);
            }
            _ => {}
        }
        let key = *random.pick(&["a", "b", "c"]);
        let from = random.below(400_000);
        let range = *random.pick(&[
            Spec::Whole,
            Spec::Whole,
            Spec::From(from),
            Spec::FromTo(from, from + 90_000),
        ]);
        let leaves_early = random.below(10) == 0;
        let (artifacts, bodies) = (Arc::clone(&artifacts), bodies.clone());
        readers.spawn(async move {
            let want = Want { range, ..Want::whole() };
            let Ok(mut object) = artifacts.open("b", key, want).await else {
                return false;
            };
            if leaves_early {
                let _ = futures_util::StreamExt::next(&mut object.body).await;
                return true;
            }
            let (tag, range) = (object.etag.clone().unwrap(), object.range.clone());
            let Ok(read) = bytes(object).await else { return false };
            let body = &bodies[tag[2..3].parse::<usize>().unwrap()];
            assert!(
                read == body[range.start as usize..range.end as usize],
                "{key} {tag} {range:?}"
            );
            true
        });
        while readers.len() > 40 {
            match readers.join_next().await.unwrap().unwrap() {
                true => good += 1,
                false => bad += 1,
            }
        }
    }
    while let Some(read) = readers.join_next().await {
        read.unwrap();
    }
    println!(
        "{good} good, {bad} in error, {} gets for {} bytes",
        web.gets(),
        web.sent.load(Ordering::SeqCst)
    );
    assert!(good > 0);
    eventually("over", async || sum(&artifacts).fills == 0).await;
    eventually("emptied", async || {
        std::fs::read_dir(dir.path().join("tmp")).unwrap().count() == 0
    })
    .await;
    let folders = || std::fs::read_dir(dir.path().join("objects")).unwrap().flatten();
    let files = || {
        folders()
            .map(|folder| std::fs::read_dir(folder.path()).unwrap().count())
            .sum::<usize>()
    };
    eventually("as many files as objects", async || {
        files() == 2 * sum(&artifacts).objects
    })
    .await;
}
