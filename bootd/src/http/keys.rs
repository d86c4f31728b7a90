//! The public keys of this box (a JWKS) at [`PATH`] of boot listeners: whoever names that URL as its `auth.jwks` trusts the tokens that
//! `bootd token` makes here. Open to all, as public keys are; answered by the core, so no plugin can give others in their place.

use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue};
use hyper::{HeaderMap, Method, Response, StatusCode};

use super::range::{self, Condition, Version};
use super::{Body, full};
use crate::auth::Auth;

/// Where the keys are.
pub(super) const PATH: &str = "/bootd/v1/keys";
/// How long they may be kept: no longer than a box that trusts them keeps them.
const KEEP: HeaderValue = HeaderValue::from_static("public, max-age=300");
/// RFC 7517 section 8.5.2.
const JWK_SET: HeaderValue = HeaderValue::from_static("application/jwk-set+json");

/// Answers with the keys.
pub(super) fn respond(auth: &Auth, method: &Method, headers: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(full(""));
    if method != Method::GET && method != Method::HEAD {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let etag = format!("\"{}\"", auth.key_id());
    let version = Version {
        etag: Some(&etag),
        modified: None,
    };
    match range::condition(headers, version) {
        Condition::Failed => {
            *response.status_mut() = StatusCode::PRECONDITION_FAILED;
            return response;
        }
        Condition::NotModified => *response.status_mut() = StatusCode::NOT_MODIFIED,
        Condition::Met => {
            *response.body_mut() = full(auth.key_set().to_string());
            response.headers_mut().insert(CONTENT_TYPE, JWK_SET);
        }
    }
    response.headers_mut().insert(CACHE_CONTROL, KEEP);
    // It is made of hexadecimal digits.
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::config::AuthConfig;

    #[tokio::test]
    async fn the_keys_come_whole_once_and_not_again_while_they_are_the_same() {
        let auth = Auth::open(&AuthConfig::default(), tempfile::tempdir().unwrap().path()).unwrap();
        let mut headers = HeaderMap::new();
        let (head, body) = respond(&auth, &Method::GET, &headers).into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert_eq!((head.status, &head.headers[CONTENT_TYPE]), (StatusCode::OK, &JWK_SET));
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&body).unwrap(),
            auth.key_set()
        );
        headers.insert("if-none-match", head.headers[ETAG].clone());
        let again = respond(&auth, &Method::GET, &headers);
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(
            (&again.headers()[CACHE_CONTROL], &again.headers()[ETAG]),
            (&KEEP, &head.headers[ETAG])
        );
        let refused = respond(&auth, &Method::PUT, &headers);
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
