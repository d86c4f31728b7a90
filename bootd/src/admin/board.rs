//! The boot board: a page that shows the rack moving, made of files that are part of the program, and the stream of changes that moves it.
//!
//! The page is open to whoever reaches its listener and says nothing by itself; what it shows comes from the views, which want a token unless the
//! listener's `auth` is `"none"`. Nothing is loaded from elsewhere, and the page may not ([`POLICY`]).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::http::{Body, full};

/// A file of the page, when there is one at this path.
pub(crate) fn file(path: &str) -> Option<Response<Body>> {
    const HTML: &str = "text/html; charset=utf-8";
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    let (content_type, text) = match path {
        "/" | "/board" | "/board/" => (HTML, include_str!("board/board.html")),
        "/board/board.css" => ("text/css; charset=utf-8", include_str!("board/board.css")),
        "/board/board.js" => (SCRIPT, include_str!("board/board.js")),
        "/board/feed.js" => (SCRIPT, include_str!("board/feed.js")),
        "/board/health.js" => (SCRIPT, include_str!("board/health.js")),
        "/board/rack.js" => (SCRIPT, include_str!("board/rack.js")),
        "/board/stragglers.js" => (SCRIPT, include_str!("board/stragglers.js")),
        "/board/timeline.js" => (SCRIPT, include_str!("board/timeline.js")),
        "/board/words.js" => (SCRIPT, include_str!("board/words.js")),
        _ => return None,
    };
    let mut response = Response::new(full(text));
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Some(response)
}

/// What happens from now on, as server-sent events: one of type `boot` for each change of a timeline, `missed` when the reader was too slow and
/// must look at all of it again, and a comment from time to time, so that both ends see that the other is there.
pub(super) fn changes(mut changes: Receiver<Arc<str>>, place: OwnedSemaphorePermit) -> Response<Body> {
    let (sender, mut events) = mpsc::channel::<Bytes>(1);
    // It ends with the reader: at the next event, or sign.
    tokio::spawn(async move {
        let _place = place;
        while let Some(text) = next(&mut changes).await
            && sender.send(text.into()).await.is_ok()
        {}
    });
    let frames = stream::poll_fn(move |cx| {
        let framed = |bytes| Ok::<_, Infallible>(Frame::data(bytes));
        events.poll_recv(cx).map(|bytes| bytes.map(framed))
    });
    let mut response = Response::new(StreamBody::new(frames).map_err(|never| match never {}).boxed());
    for (name, value) in [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The next events, those that wait together. `None`: there will be no more.
async fn next(changes: &mut Receiver<Arc<str>>) -> Option<String> {
    let first = match tokio::time::timeout(SIGN, changes.recv()).await {
        Ok(Ok(first)) => first,
        Ok(Err(RecvError::Lagged(count))) => return Some(format!("event: missed\ndata: {count}\n\n")),
        Ok(Err(RecvError::Closed)) => return None,
        Err(_) => return Some(":\n\n".into()),
    };
    let mut text = format!("event: boot\ndata: {first}\n\n");
    while text.len() < AT_ONCE
        && let Ok(next) = changes.try_recv()
    {
        text.push_str("event: boot\ndata: ");
        text.push_str(&next);
        text.push_str("\n\n");
    }
    Some(text)
}

/// Nobody may watch any more.
pub(super) fn too_many() -> Response<Body> {
    let mut response = Response::new(full(
        "64 watch already, boards and `bootd boots --follow` together: end one of them, and try again\n",
    ));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

/// Who watches at once.
pub(super) const WATCHERS: usize = 64;
/// Between two signs of life.
const SIGN: Duration = Duration::from_secs(15);
/// Bytes that are sent together.
const AT_ONCE: usize = 64 * 1024;
/// What the page may do: run its own script and ask this box.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
