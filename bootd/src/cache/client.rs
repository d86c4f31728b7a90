//! How origins are spoken to over HTTP: how patiently, where their redirects may lead, and that a body is continued with the same version alone.
//!
//! The store asks for the rest of a broken body by itself, and compares the tags of the answers, weak ones too. Here the lengths are compared
//! as well, and what has a weak tag is not continued: nobody may get the bytes of two versions in one body.
//!
//! A redirect is followed, some times in a row, never from https to http, and never by a signed request: its signature is good for one host and
//! path, and its session token is nobody else's. What is not followed is an error that names the place, without its query, which may be a secret.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use hyper::HeaderMap;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderValue};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use reqwest::Url;
use reqwest::redirect::Policy;

/// Makes the clients.
#[derive(Debug)]
pub(super) struct Connector {
    /// Whether requests are signed.
    pub(super) is_signed: bool,
}

/// The version that the first answer to a request had, for all requests that continue it: an extension of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Same(Arc<OnceLock<Seen>>);

/// What tells versions apart in an answer.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    etag: Option<HeaderValue>,
    /// The length of the whole object.
    len: Option<HeaderValue>,
}

/// The rest is of another version.
#[derive(Debug, thiserror::Error)]
#[error("the origin has another version by now")]
struct Other;

#[derive(Debug)]
struct Client(reqwest::Client);

/// Why a redirect is not followed. The place comes last: a log line may cut it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum NotFollowed {
    /// What was asked for in private would come in the open.
    #[error("it redirects from https to {0}")]
    ToPlain(String),
    /// The signature is good for one host and path.
    #[error("it redirects a signed request to {0}")]
    Signed(String),
    /// It may never end.
    #[error("it redirects more than {MOST_REDIRECTS} times, at last to {0}")]
    TooMany(String),
}

impl HttpConnector for Connector {
    /// A large object takes as long as it takes; silence is what ends a request.
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let is_signed = self.is_signed;
        let policy = Policy::custom(
            move |attempt| match not_followed(is_signed, attempt.previous(), attempt.url()) {
                None => attempt.follow(),
                Some(why) => attempt.error(why),
            },
        );
        let client = reqwest::Client::builder()
            .user_agent(concat!("bootd/", env!("CARGO_PKG_VERSION")))
            .redirect(policy)
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .build()
            .map_err(|error| object_store::Error::Generic {
                store: "HTTP client",
                source: error.into(),
            })?;
        Ok(HttpClient::new(Client(client)))
    }
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let same = request.extensions().get::<Same>().cloned();
        let response = self.0.call(request).await?;
        match same {
            Some(same) if response.status().is_success() && !same.is_in(response.headers()) => {
                Err(HttpError::new(HttpErrorKind::Unknown, Other))
            }
            _ => Ok(response),
        }
    }
}

impl Same {
    /// Whether this answer has the same version as the first one; true of the first.
    fn is_in(&self, headers: &HeaderMap) -> bool {
        let seen = Seen::of(headers);
        match self.0.get() {
            Some(first) => !first.is_weak() && *first == seen,
            None => self.0.set(seen).is_ok(),
        }
    }
}

impl Seen {
    fn of(headers: &HeaderMap) -> Self {
        let total = |range: &HeaderValue| {
            let range = range.to_str().ok()?;
            HeaderValue::from_str(range.rsplit('/').next()?).ok()
        };
        Self {
            etag: headers.get(ETAG).cloned(),
            len: match headers.get(CONTENT_RANGE) {
                Some(range) => total(range),
                None => headers.get(CONTENT_LENGTH).cloned(),
            },
        }
    }

    fn is_weak(&self) -> bool {
        self.etag.as_ref().is_none_or(|etag| etag.as_bytes().starts_with(b"W/"))
    }
}

/// Why a redirect is not followed; `None`: it is. The URLs before begin with the first one.
fn not_followed(is_signed: bool, before: &[Url], to: &Url) -> Option<NotFollowed> {
    let was_private = before.iter().any(|url| url.scheme() == "https");
    if was_private && to.scheme() != "https" {
        Some(NotFollowed::ToPlain(place(to)))
    } else if is_signed {
        Some(NotFollowed::Signed(place(to)))
    } else if before.len() > MOST_REDIRECTS {
        Some(NotFollowed::TooMany(place(to)))
    } else {
        None
    }
}

/// A URL without what may be a secret.
fn place(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Neither can fail for what has a host; of what has none there is none to hide.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

/// Redirects of one request.
const MOST_REDIRECTS: usize = 5;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an origin may be silent.
const SILENCE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(is_signed: bool, before: &[&str], to: &str) -> Option<String> {
        let before: Vec<Url> = before.iter().map(|url| url.parse().unwrap()).collect();
        not_followed(is_signed, &before, &to.parse().unwrap()).map(|why| why.to_string())
    }

    #[test]
    fn redirects_lead_anywhere_but_out_of_the_private() {
        assert_eq!(refused(false, &["http://a/k"], "http://b:81/k"), None);
        assert_eq!(refused(false, &["http://a/k"], "https://b/k"), None);
        assert_eq!(refused(false, &["https://a/k"], "https://b/k"), None);
        let to_plain = Some("it redirects from https to http://b/k".into());
        assert_eq!(refused(false, &["https://a/k"], "http://b/k"), to_plain);
        assert_eq!(
            refused(false, &["http://a/k", "https://a/k"], "http://u:p@b/k?X-Sig=1#f"),
            to_plain
        );
    }

    #[test]
    fn redirects_end() {
        let five = ["http://a/k"; MOST_REDIRECTS];
        assert_eq!(refused(false, &five, "http://b/k"), None);
        let six = ["http://a/k"; MOST_REDIRECTS + 1];
        let text = "it redirects more than 5 times, at last to http://b/k";
        assert_eq!(refused(false, &six, "http://b/k"), Some(text.into()));
    }

    #[test]
    fn a_signed_request_goes_nowhere_else() {
        let text = "it redirects a signed request to https://b/k";
        assert_eq!(refused(true, &["https://a/k"], "https://b/k"), Some(text.into()));
    }
}
