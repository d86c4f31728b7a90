//! HTTP requests that bootd makes for its plugins: one client, one trust, one place for limits. A fetch ends with its answer, its timeout,
//! its limit, or the end of the instance that asked. Environment proxies are not used: a rack's services are beside it. Bodies and header
//! values are never logged: they hold tokens.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{Context, SHA256};
use bootd_sdk::wire::{Fetch, Fetched, Validator};
use reqwest::{Certificate, Client, Method, StatusCode};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// The longest that a fetch may take.
const LONGEST: Duration = Duration::from_secs(300);
/// Bytes that a fetched body may have at most, whatever the plugin says.
const MOST_BYTES: usize = 256 * 1024 * 1024;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection that was idle for so long is not used again. Servers end idle ones by themselves, a bootd after 15 s: a request that is sent
/// in that moment is lost, and whether it was obeyed is not known.
const IDLE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The request is not one.
    #[error("not a request: {0}")]
    Malformed(String),
    /// The file of trusted certificates cannot be used.
    #[error("ca {0}: {1}")]
    Ca(PathBuf, String),
    /// No connection: nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// No answer, or half of one.
    #[error("{0}")]
    Network(String),
    /// It took too long.
    #[error("no whole answer within {0:?}")]
    Timeout(Duration),
    /// The body is larger than the plugin wants.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// The body is not text.
    #[error("the answer is not UTF-8")]
    NotText,
    /// The instance is to end.
    #[error("the plugin is stopping")]
    Stopping,
    /// The system has no thread or descriptor left.
    #[error("bootd cannot fetch: {0}")]
    Here(String),
}

/// Makes the requests of all plugins.
#[derive(Default)]
pub(super) struct Fetcher {
    runtime: OnceLock<Runtime>,
    /// A client for each file of trusted certificates.
    clients: Mutex<HashMap<Option<PathBuf>, Trusting>>,
}

struct Trusting {
    /// When the file was last changed.
    changed: Option<SystemTime>,
    client: Client,
}

impl Fetcher {
    /// Makes a request and waits for its answer. For threads that may wait.
    pub(super) fn fetch(&self, fetch: &Fetch, stopping: &CancellationToken) -> Result<Fetched, FetchError> {
        let client = self.client(fetch.ca.as_deref().map(Path::new))?;
        let timeout = Duration::from_millis(fetch.timeout_ms).min(LONGEST);
        self.runtime()?.block_on(async {
            tokio::select! {
                () = stopping.cancelled() => Err(FetchError::Stopping),
                done = tokio::time::timeout(timeout, answer(&client, fetch)) => {
                    done.unwrap_or(Err(FetchError::Timeout(timeout)))
                }
            }
        })
    }

    fn runtime(&self) -> Result<&Runtime, FetchError> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let made = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("fetch")
            .enable_all()
            .build()
            .map_err(|error| FetchError::Here(error.to_string()))?;
        Ok(self.runtime.get_or_init(|| made))
    }

    /// The client that trusts these certificates; a file that changed is read again.
    fn client(&self, ca: Option<&Path>) -> Result<Client, FetchError> {
        let bad = |text: String| FetchError::Ca(ca.unwrap_or(Path::new("")).into(), text);
        let changed = match ca {
            Some(path) => {
                let metadata = std::fs::metadata(path).map_err(|error| bad(error.to_string()))?;
                metadata.modified().ok()
            }
            None => None,
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trusting) = clients
            .get(&ca.map(Path::to_owned))
            .filter(|trusting| trusting.changed == changed)
        {
            return Ok(trusting.client.clone());
        }
        let mut builder = Client::builder()
            .user_agent(concat!("bootd/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .no_proxy();
        if let Some(path) = ca {
            let pem = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| bad(causes(&error)))?;
            if certificates.is_empty() {
                return Err(bad("holds no certificate in PEM form".into()));
            }
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().map_err(|error| FetchError::Here(causes(&error)))?;
        let trusting = Trusting {
            changed,
            client: client.clone(),
        };
        clients.insert(ca.map(Path::to_owned), trusting);
        Ok(client)
    }
}

async fn answer(client: &Client, fetch: &Fetch) -> Result<Fetched, FetchError> {
    let method =
        Method::from_bytes(fetch.method.as_bytes()).map_err(|error| FetchError::Malformed(error.to_string()))?;
    let mut request = client.request(method, &fetch.url);
    for (name, value) in &fetch.headers {
        request = request.header(name, value);
    }
    let known = fetch.known.as_deref().and_then(Validator::parse);
    if let Some(known) = known.filter(|known| !known.etag.is_empty()) {
        request = request.header("if-none-match", known.etag);
    }
    if !fetch.body.is_empty() {
        request = request.body(fetch.body.clone());
    }
    let request = request.build().map_err(|error| FetchError::Malformed(causes(&error)))?;
    let network = |error: reqwest::Error| match (error.is_connect(), error.is_timeout()) {
        (true, true) => FetchError::Connect(format!("no connection within {CONNECT:?}")),
        (true, false) => FetchError::Connect(innermost(&error)),
        (false, _) => FetchError::Network(innermost(&error)),
    };
    let mut response = client.execute(request).await.map_err(network)?;
    let most = fetch.most_bytes.min(MOST_BYTES);
    if response.content_length().is_some_and(|length| length > most as u64) {
        return Err(FetchError::TooLarge(most));
    }
    let is_validated = fetch.known.is_some() && response.status() == StatusCode::OK;
    let mut digest = is_validated.then(|| Context::new(&SHA256));
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(network)? {
        if body.len() + part.len() > most {
            return Err(FetchError::TooLarge(most));
        }
        if let Some(digest) = &mut digest {
            digest.update(&part);
        }
        body.extend_from_slice(&part);
    }
    let headers = response.headers().iter();
    let mut fetched = Fetched {
        status: response.status().as_u16(),
        headers: headers
            .map(|(name, value)| (name.as_str().into(), String::from_utf8_lossy(value.as_bytes()).into()))
            .collect(),
        ..Fetched::default()
    };
    if let Some(digest) = digest {
        let digest: String = digest.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let etag = fetched.header("etag").unwrap_or_default();
        let validator = Validator { digest: &digest, etag };
        let text = validator.text();
        fetched.validator = Some(text);
        if known.is_some_and(|known| known.digest == digest) {
            // The same bytes, whatever its tag: they do not cross the border again.
            fetched.status = StatusCode::NOT_MODIFIED.as_u16();
            return Ok(fetched);
        }
    } else if response.status() == StatusCode::NOT_MODIFIED {
        fetched.validator.clone_from(&fetch.known);
    }
    fetched.body = String::from_utf8(body).map_err(|_| FetchError::NotText)?;
    Ok(fetched)
}

/// The end of a chain of errors: what stands before it says no more than that a request failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

/// An error with its causes, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::Arc;

    use super::*;

    /// A server that answers one connection with these bytes.
    fn serves(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            stream.write_all(answer).unwrap();
        });
        address
    }

    fn fetch(fetch: &Fetch) -> Result<Fetched, FetchError> {
        Fetcher::default().fetch(fetch, &CancellationToken::new())
    }

    #[test]
    fn any_status_is_an_answer_and_redirects_are_not_followed() {
        let to = serves(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2\r\n\r\nhi");
        let fetched = fetch(&Fetch::get(format!("http://{to}/"))).unwrap();
        assert_eq!((fetched.status, fetched.body.as_str()), (302, "hi"));
        assert_eq!(fetched.header("location"), Some("http://127.0.0.1:1/"));
    }

    /// A server that answers as many connections with these bytes as a test asks for, and says what each asked.
    fn serves_often(answer: &'static [u8]) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mut text) = (stream.unwrap(), [0; 4096]);
                let length = stream.read(&mut text).unwrap();
                heard
                    .lock()
                    .unwrap()
                    .push(String::from_utf8_lossy(&text[..length]).into());
                stream.write_all(answer).unwrap();
            }
        });
        (address, asked)
    }

    fn known(to: SocketAddr, validator: Option<&str>) -> Fetched {
        let request = Fetch {
            known: Some(validator.unwrap_or_default().into()),
            ..Fetch::get(format!("http://{to}/"))
        };
        fetch(&request).unwrap()
    }

    #[test]
    fn what_is_known_comes_without_its_body_by_its_bytes_and_by_its_tag() {
        let (to, asked) =
            serves_often(b"HTTP/1.1 200 OK\r\nETag: \"7\"\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]");
        let first = known(to, None);
        assert_eq!((first.status, first.body.as_str()), (200, "[]"));
        let again = known(to, first.validator.as_deref());
        assert_eq!((again.status, again.body.as_str()), (304, ""));
        assert_eq!(again.validator, first.validator);
        let asked = asked.lock().unwrap().clone();
        assert!(
            !asked[0].contains("if-none-match") && asked[1].contains("if-none-match: \"7\""),
            "{asked:?}"
        );

        let (to, _) = serves_often(b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n");
        let unchanged = known(to, first.validator.as_deref());
        assert_eq!((unchanged.status, &unchanged.validator), (304, &first.validator));
        let (to, _) = serves_often(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n[1]");
        let other = known(to, first.validator.as_deref());
        assert_eq!((other.status, other.body.as_str()), (200, "[1]"));
        assert!(fetch(&Fetch::get(format!("http://{to}/"))).unwrap().validator.is_none());
    }

    #[test]
    fn half_an_answer_a_large_one_and_one_that_is_no_text_are_failures() {
        let half = serves(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        assert!(matches!(
            fetch(&Fetch::get(format!("http://{half}/"))),
            Err(FetchError::Network(_))
        ));
        let large = serves(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nmore than 8");
        let small = Fetch {
            most_bytes: 8,
            ..Fetch::get(format!("http://{large}/"))
        };
        assert!(matches!(fetch(&small), Err(FetchError::TooLarge(8))));
        let binary = serves(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\xff");
        assert!(matches!(
            fetch(&Fetch::get(format!("http://{binary}/"))),
            Err(FetchError::NotText)
        ));
    }

    #[test]
    fn a_server_that_says_nothing_costs_the_timeout_and_the_end_of_an_instance_ends_its_fetch() {
        let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let quick = Fetch {
            timeout_ms: 20,
            ..Fetch::get(format!("http://{}/", silent.local_addr().unwrap()))
        };
        assert!(matches!(fetch(&quick), Err(FetchError::Timeout(_))));
        let stopping = CancellationToken::new();
        stopping.cancel();
        let fetcher = Fetcher::default();
        assert!(matches!(
            fetcher.fetch(&Fetch::get("http://127.0.0.1:1/"), &stopping),
            Err(FetchError::Stopping | FetchError::Connect(_))
        ));
    }

    #[test]
    fn what_is_no_request_is_named() {
        for url in ["", "no url", "ftp://x/"] {
            let error = fetch(&Fetch::get(url)).unwrap_err();
            assert!(
                matches!(
                    error,
                    FetchError::Malformed(_) | FetchError::Connect(_) | FetchError::Network(_)
                ),
                "{url}: {error}"
            );
        }
        let ca = Fetch {
            ca: Some("/nowhere/ca.pem".into()),
            ..Fetch::get("https://127.0.0.1:1/")
        };
        assert!(fetch(&ca).unwrap_err().to_string().starts_with("ca /nowhere/ca.pem: "));
    }
}
