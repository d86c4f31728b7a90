//! The artifacts listener: answers like a read-only S3 service, path-style, `/<bucket>/<key>`.
//!
//! Promises: a body streams through and is never held whole; one that breaks midway ends the connection and is never a clean short end; a
//! client's signature is ignored, since what is served here is open to the rack anyway, and so is the query of an object. Lists are the origin's
//! own. Never writes, and says where that is done. Errors are S3's XML, so that S3 clients understand them.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bootd_sdk::text::shown;
use bytes::Bytes;
use futures_util::Stream;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LAST_MODIFIED,
    RETRY_AFTER, WARNING,
};
use hyper::{HeaderMap, Method, Response, StatusCode};

use super::listing::{self, BadQuestion, Question};
use super::range::{self, Condition, Spec, Version};
use super::told::agent;
use super::xml::Xml;
use super::{Body, BodyError, full};
use crate::boots::event::{State, Transfer};
use crate::boots::{Event, Watch};
use crate::cache::list::Listing;
use crate::cache::{Artifacts, Epoch, Name, Object, ObjectBody, OpenError, Want};
use crate::lines::Lines;
use crate::metrics::{Class, Metrics};

/// What bodies leave through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// A socket: the kernel alone looks at them.
    Plain,
    /// A cipher, which may not be given what may not be touched ([`Want::mapped`]).
    Tls,
}

/// Answers a request for this path and query, as they came, still percent-encoded. Dropping this, or the body of the answer, ends the work for it.
pub async fn respond(
    artifacts: &Artifacts,
    peer: IpAddr,
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    wire: Wire,
) -> Response<Body> {
    let started = Instant::now();
    // A node whose script is of before a change gets the files of before.
    let as_of = artifacts.script_of(peer);
    let answer = answer(artifacts, method, path, query, headers, wire, as_of).await;
    let class = match &answer {
        Ok(Answer::Object(..)) => Class::Object,
        _ => Class::Bucket,
    };
    artifacts.metrics().took(class, started.elapsed());
    match answer {
        Ok(Answer::Object(bucket, object)) => {
            let read = Read {
                started,
                metrics: Arc::clone(artifacts.metrics()),
                lines: Arc::clone(artifacts.lines()),
                bucket,
                path: shown(path),
                peer,
                status: status_of(&object),
                told: Told {
                    watch: artifacts.watch().clone(),
                    path: path.into(),
                    agent: agent(headers),
                    from: object.range.start,
                    of: object.len,
                    last: started,
                },
            };
            // What is over at once is told once.
            if object.range.end - object.range.start > AT_ONCE {
                read.told.tell(peer, 0, State::UnderWay);
            }
            whole_or_part(object, read)
        }
        Ok(Answer::Head(object)) => {
            artifacts.metrics().done("artifacts", "head");
            let mut response = described(&object, full(""));
            set(&mut response, CONTENT_LENGTH, &object.len.to_string());
            response
        }
        Ok(Answer::NotModified(object)) => {
            artifacts.metrics().done("artifacts", "not_modified");
            let mut response = described(&object, full(""));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        }
        Ok(Answer::About(xml)) => {
            artifacts.metrics().done("artifacts", "listed");
            let mut response = Response::new(if *method == Method::HEAD { full("") } else { full(xml) });
            set(&mut response, CONTENT_TYPE, "application/xml");
            response
        }
        Err(refusal) => {
            if *method == Method::GET && path.len() <= LONGEST_PATH {
                let told = refused(path, refusal.told().0, agent(headers));
                artifacts.watch().tell(|| Some(Event::Object(peer, told)));
            }
            artifacts
                .metrics()
                .refused("artifacts", refusal.label(), &peer, &refusal.detail(path));
            refusal.response(method, path)
        }
    }
}

/// What a good request gets.
enum Answer {
    Object(String, Object),
    Head(Object),
    NotModified(Object),
    /// XML about a bucket, or all of them.
    About(String),
}

/// What a request that gets nothing is told.
enum Refusal {
    /// What is neither read nor written.
    Method,
    /// PUT, POST and DELETE, and where that is done.
    Write(String),
    /// What is no question about a bucket, or one that has no answer here.
    Question(BadQuestion),
    /// `If-Match`, `If-Unmodified-Since`.
    Precondition,
    /// All else.
    Open(OpenError),
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

async fn answer(
    artifacts: &Artifacts,
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    wire: Wire,
    as_of: Option<Epoch>,
) -> Result<Answer, Refusal> {
    let head = match *method {
        Method::GET => false,
        Method::HEAD => true,
        Method::PUT | Method::POST | Method::DELETE => return Err(no_write(artifacts, path)?),
        _ => return Err(Refusal::Method),
    };
    let (bucket, key) = match Name::parse(path)? {
        Name::Object { bucket, key } => (bucket, key),
        Name::Bucket(bucket) if !artifacts.has_bucket(&bucket) => return Err(OpenError::NoSuchBucket.into()),
        Name::Bucket(bucket) => return about(artifacts, &bucket, query, head).await,
        Name::Root => return Ok(Answer::About(listing::buckets(artifacts.buckets()))),
    };
    let mut want = Want {
        range: Spec::of(headers),
        mapped: wire == Wire::Plain,
        as_of,
        ..Want::whole()
    };
    let looks = Want { as_of, ..Want::head() };
    if head || range::conditional(headers) {
        let mut object = artifacts.open(&bucket, &key, looks).await?;
        // Who insists on a version that is not kept may know more than the cache: its origin decides, as long as it does.
        let is_refused = range::condition(headers, version_of(&object)) == Condition::Failed;
        if object.kept && is_refused {
            let fresh = Want {
                fresh: true,
                ..Want::head()
            };
            object = artifacts.open(&bucket, &key, fresh).await.unwrap_or(object);
        }
        let version = version_of(&object);
        match range::condition(headers, version) {
            Condition::Failed => return Err(Refusal::Precondition),
            Condition::NotModified => return Ok(Answer::NotModified(object)),
            Condition::Met if head => return Ok(Answer::Head(object)),
            Condition::Met => {}
        }
        if !range::range_stands(headers, version) {
            want.range = Spec::Whole;
        }
        // The body must be of the version that met the conditions.
        want.if_match = object.etag.filter(|etag| !etag.starts_with("W/"));
    }
    let object = match artifacts.open(&bucket, &key, want).await {
        // Changed between the two: what the client has is old, and it did not insist on it.
        Err(OpenError::Changed) if !range::insists(headers) => {
            let mapped = wire == Wire::Plain;
            let anew = Want {
                mapped,
                as_of,
                ..Want::whole()
            };
            artifacts.open(&bucket, &key, anew).await?
        }
        opened => opened?,
    };
    Ok(Answer::Object(bucket, object))
}

/// Whoever writes is told where, if there is such a bucket.
fn no_write(artifacts: &Artifacts, path: &str) -> Result<Refusal, OpenError> {
    let to = match Name::parse(path)? {
        Name::Bucket(bucket) => written_to(&bucket, &artifacts.origins(&bucket)?.join(", ")),
        Name::Object { bucket, key } => written_to(&bucket, artifacts.written_to(&bucket, &key)?),
        Name::Root => "bootd only reads. Objects are written to the site's store.".into(),
    };
    Ok(Refusal::Write(to))
}

fn written_to(bucket: &str, origin: &str) -> String {
    format!("bootd only reads. The objects of {bucket} are written to its origin: {origin}.")
}

/// What is asked of a bucket.
async fn about(artifacts: &Artifacts, bucket: &str, query: &str, head: bool) -> Result<Answer, Refusal> {
    let xml = match Question::read(query).map_err(Refusal::Question)? {
        // Whether it is there, and it is.
        _ if head => String::new(),
        Question::Location => listing::location(),
        Question::Versioning => listing::versioning(),
        Question::List(asked) => {
            let listing = match asked.page.most {
                0 => Listing::default(),
                _ => artifacts.list(bucket, &asked.page).await?,
            };
            asked.xml(bucket, &listing)
        }
    };
    Ok(Answer::About(xml))
}

fn version_of(object: &Object) -> Version<'_> {
    Version {
        etag: object.etag.as_deref(),
        modified: object.last_modified,
    }
}

fn status_of(object: &Object) -> StatusCode {
    if object.partial {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    }
}

fn whole_or_part(mut object: Object, read: Read) -> Response<Body> {
    let status = read.status;
    let len = object.range.end - object.range.start;
    let stream = std::mem::take(&mut object.body);
    let body = Sending {
        stream: Mutex::new(stream),
        left: len,
        sent: 0,
        read,
    };
    let mut response = described(&object, body.boxed());
    if let Some(mapped) = object.mapped.take() {
        response.extensions_mut().insert(mapped.downgrade());
    }
    *response.status_mut() = status;
    set(&mut response, CONTENT_LENGTH, &len.to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        let (start, end) = (object.range.start, object.range.end - 1);
        set(
            &mut response,
            CONTENT_RANGE,
            &format!("bytes {start}-{end}/{}", object.len),
        );
    }
    response
}

/// An answer with what is known of an object.
fn described(object: &Object, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let content_type = object.content_type.as_deref().unwrap_or("application/octet-stream");
    set(&mut response, CONTENT_TYPE, content_type);
    set(&mut response, ACCEPT_RANGES, "bytes");
    if let Some(etag) = &object.etag {
        set(&mut response, ETAG, etag);
    }
    if let Some(modified) = object.last_modified {
        set(&mut response, LAST_MODIFIED, &httpdate::fmt_http_date(modified));
    }
    if let Some(why) = object.stale {
        set(&mut response, WARNING, &format!("110 bootd \"{why}\""));
    }
    response
}

/// Leaves out a value that is no header value: it comes from an origin, and an odd one must not cost the object.
fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The body of an object on its way; its end, good or bad, is told when it is dropped.
struct Sending {
    // Never locked: a body must be Sync, a stream is not, and `get_mut` needs no lock.
    stream: Mutex<ObjectBody>,
    left: u64,
    sent: u64,
    read: Read,
}

/// A read, for the log.
struct Read {
    started: Instant,
    metrics: Arc<Metrics>,
    lines: Arc<Lines>,
    bucket: String,
    path: String,
    peer: IpAddr,
    status: StatusCode,
    told: Told,
}

/// What the timelines of boots are told of a read.
struct Told {
    watch: Watch,
    /// As it was asked for.
    path: Box<str>,
    agent: Box<str>,
    /// Where in the object it begins.
    from: u64,
    /// Bytes of the object.
    of: u64,
    /// When something was told last.
    last: Instant,
}

impl Told {
    fn tell(&self, peer: IpAddr, sent: u64, state: State) {
        if self.path.len() > LONGEST_PATH {
            return;
        }
        self.watch.tell(|| {
            let transfer = Transfer {
                name: self.path.clone(),
                sent: self.from + sent,
                of: Some(self.of),
                state,
                agent: self.agent.clone(),
            };
            Some(Event::Object(peer, transfer))
        });
    }
}

fn refused(path: &str, status: StatusCode, agent: Box<str>) -> Transfer {
    Transfer {
        name: path.into(),
        sent: 0,
        of: None,
        state: State::Refused(status.as_u16()),
        agent,
    }
}

/// Bytes of a path that a boot script may name.
const LONGEST_PATH: usize = 512;
/// Bytes of an answer that leaves in one piece.
const AT_ONCE: u64 = 64 * 1024;
/// Between two words about how far a read is.
const TELL_AGAIN: Duration = Duration::from_secs(1);

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let stream = this.stream.get_mut().unwrap_or_else(PoisonError::into_inner);
        match Pin::new(stream).poll_next(cx) {
            Poll::Ready(Some(Ok(bytes))) => {
                this.left = this.left.saturating_sub(bytes.len() as u64);
                this.sent += bytes.len() as u64;
                let told = &mut this.read.told;
                let now = Instant::now();
                if this.left > 0 && now.duration_since(told.last) >= TELL_AGAIN {
                    told.last = now;
                    told.tell(this.read.peer, this.sent, State::UnderWay);
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Poll::Ready(Some(Err(error))) => {
                let Read {
                    metrics, peer, path, ..
                } = &this.read;
                metrics.refused("artifacts", "origin_broke", peer, &format_args!("{path}: {error}"));
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let Read {
            started,
            metrics,
            lines,
            bucket,
            path,
            peer,
            status,
            told,
        } = &self.read;
        // A part that does not reach the end is a step on the way.
        let state = match self.left {
            0 if told.from + self.sent >= told.of => State::Done,
            0 => State::UnderWay,
            _ => State::Broken,
        };
        told.tell(*peer, self.sent, state);
        let (bytes, done, status) = (self.sent, self.left == 0, status.as_u16());
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        metrics.done("artifacts", if done { "read" } else { "aborted" });
        metrics.sent("artifacts", bucket, bytes);
        let now = Instant::now();
        if lines.may_write(now) {
            tracing::info!(%path, %peer, status, bytes, ms, done, "artifact read");
        }
        if let Some(left_out) = lines.left_out(now) {
            tracing::warn!(left_out, "artifact lines left out: clients send too much");
        }
    }
}

impl Refusal {
    /// The metric label.
    fn label(&self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Write(_) => "write",
            Self::Question(_) => "bad_question",
            Self::Precondition => "precondition",
            Self::Open(error) => error.label(),
        }
    }

    /// S3's status, code and message.
    fn told(&self) -> (StatusCode, &'static str, String) {
        match self {
            Self::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "Artifacts are read with GET and HEAD.".into(),
            ),
            Self::Write(to) => (StatusCode::FORBIDDEN, "AccessDenied", to.clone()),
            Self::Question(bad) => {
                let (status, code) = match bad {
                    BadQuestion::Unknown => (StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
                    BadQuestion::MaxKeys | BadQuestion::Encoding => (StatusCode::BAD_REQUEST, "InvalidArgument"),
                };
                (status, code, bad.to_string())
            }
            Self::Precondition | Self::Open(OpenError::Changed) => (
                StatusCode::PRECONDITION_FAILED,
                "PreconditionFailed",
                "The object is another version.".into(),
            ),
            Self::Open(error) => {
                let (status, code) = match error {
                    OpenError::NoSuchBucket => (StatusCode::NOT_FOUND, "NoSuchBucket"),
                    OpenError::NoSuchKey => (StatusCode::NOT_FOUND, "NoSuchKey"),
                    OpenError::BadName(_) => (StatusCode::BAD_REQUEST, "InvalidURI"),
                    OpenError::Denied(_) => (StatusCode::FORBIDDEN, "AccessDenied"),
                    OpenError::Unsatisfiable { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"),
                    _ => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
                };
                let message = match error {
                    // The details name the site's hosts; they are in the log.
                    OpenError::Origin(_) => "The origin failed.".into(),
                    OpenError::Unreachable(_) => "The origin cannot be reached.".into(),
                    error => error.to_string(),
                };
                (status, code, message)
            }
        }
    }

    fn detail(&self, path: &str) -> String {
        match self {
            Self::Open(error) => format!("{}: {error}", shown(path)),
            _ => shown(path),
        }
    }

    fn response(&self, method: &Method, path: &str) -> Response<Body> {
        let (status, code, message) = self.told();
        let request = request_id();
        let names = match Name::parse(path) {
            Ok(Name::Object { bucket, key }) if code == "NoSuchBucket" => {
                format!("<BucketName>{}</BucketName><Key>{}</Key>", Xml(&bucket), Xml(&key))
            }
            Ok(Name::Object { key, .. }) => format!("<Key>{}</Key>", Xml(&key)),
            Ok(Name::Bucket(bucket)) => format!("<BucketName>{}</BucketName>", Xml(&bucket)),
            Ok(Name::Root) | Err(_) => String::new(),
        };
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{}</Message>{names}\
             <Resource>{}</Resource><RequestId>{request}</RequestId></Error>",
            Xml(&message),
            Xml(path),
        );
        let mut response = Response::new(if *method == Method::HEAD { full("") } else { full(xml) });
        *response.status_mut() = status;
        set(&mut response, CONTENT_TYPE, "application/xml");
        set(&mut response, HeaderName::from_static("x-amz-request-id"), &request);
        match self {
            Self::Method => set(&mut response, ALLOW, "GET, HEAD"),
            Self::Open(OpenError::Unsatisfiable { len }) => {
                set(&mut response, CONTENT_RANGE, &format!("bytes */{len}"));
            }
            _ if status == StatusCode::SERVICE_UNAVAILABLE => set(&mut response, RETRY_AFTER, RETRY_SECONDS),
            _ => {}
        }
        response
    }
}

/// An id that a client may name in a question; unlike any other of this process, and most likely of others.
fn request_id() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let count = LAST.fetch_add(1, Ordering::Relaxed);
    format!("{:08X}{:08X}", now & 0xffff_ffff, count & 0xffff_ffff)
}

/// After trouble with an origin.
const RETRY_SECONDS: &str = "5";

#[cfg(test)]
mod tests;
