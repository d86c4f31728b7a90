//! Whether this rack boots all its nodes from what is here, at [`PATH`] of boot listeners: 200 or 503, and why in a line each. For load balancers and
//! whoever powers racks on. Open to all; says counts, and of what is missing the URLs that the boot scripts of every node name.

use hyper::header::{CACHE_CONTROL, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::{Body, full};
use crate::warmer::Readiness;

/// Where it is said.
pub(super) const PATH: &str = "/bootd/v1/ready";
/// Between two looks of whoever waits for it.
const AGAIN: HeaderValue = HeaderValue::from_static("5");

/// Answers.
pub(super) fn respond(readiness: &Readiness, keeps: bool) -> Response<Body> {
    let text = readiness.text();
    let (is_ready, line) = match text {
        _ if !keeps => (true, "nothing is kept ahead here: nodes need their origins".into()),
        None => (false, "boot files: nobody has looked yet".into()),
        Some(text) => (readiness.is_ready(), text),
    };
    let lines = std::iter::once(line).chain(readiness.failures());
    let mut response = Response::new(full(lines.map(|line| line + "\n").collect::<String>()));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !is_ready {
        headers.insert(RETRY_AFTER, AGAIN);
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_nothing_is_ready_and_who_has_not_looked_is_not() {
        let readiness = Readiness::default();
        assert_eq!(respond(&readiness, false).status(), StatusCode::OK);
        let response = respond(&readiness, true);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers().get(RETRY_AFTER), Some(&AGAIN));
    }
}
