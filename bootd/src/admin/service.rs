//! The socket and its routes.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bootd_sdk::mac::Mac;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{board, health, present, transfer, views};
use crate::cache::OpenError;
use crate::dhcp::{self, Ignored, IgnoredError, Leases};
use crate::explain;
use crate::http::{App, Body, Door, InService, full};
use crate::metrics::Format;
use crate::net::Sockets;
use crate::reload::{Mode, Reloader};
use crate::state::Store;
use crate::tftp;
use crate::upgrade::{self, Upgrader};

/// The socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Another bootd answers there.
    #[error("admin.socket {0}: another bootd answers there already")]
    Taken(PathBuf),
    /// Something else is at its place, and is left alone.
    #[error(
        "admin.socket {0}: there is a file or folder of this name, which is no socket: move it, or choose another path"
    )]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("admin.socket {0}: {1}")]
    Bind(PathBuf, std::io::Error),
}

/// What the socket can tell.
pub struct Admin {
    /// All that the HTTP listeners know.
    pub app: InService,
    /// Has another process take its place.
    pub upgrader: Arc<Upgrader>,
    /// Puts another configuration into service.
    pub reloader: Arc<Reloader>,
    /// What survives; it knows whether the disk fails.
    pub store: Store,
    /// Whom DHCP does not answer.
    pub ignored: Arc<Ignored>,
    /// The addresses of the pools.
    pub leases: Leases,
    /// When bootd became ready.
    pub started: std::time::Instant,
    /// Warnings of the start or the last reload, such as missing loaders.
    pub warnings: Arc<ArcSwap<Vec<String>>>,
    /// Interfaces that DHCP is not on, as of now.
    pub interfaces: dhcp::Warnings,
    /// Where DHCP is at present.
    pub served: Arc<dhcp::Served>,
    /// Files that boot scripts name and this box cannot serve, as of the last look.
    pub missing: ArcSwap<Vec<String>>,
    /// Places for who watches boots.
    pub watchers: Arc<Semaphore>,
    /// Whether TFTP has places for all who ask; `None`: there is no TFTP.
    pub tftp: Option<Arc<tftp::Trouble>>,
}

/// Opens the socket, for the owner and group of the process, or takes it over. One that a dead bootd left behind is replaced. Must run within a
/// tokio runtime.
pub fn bind(path: &Path, sockets: &Sockets) -> Result<Arc<UnixListener>, AdminError> {
    let socket = match sockets.unix(path) {
        Some(handed) => UnixListener::from_std(handed).map_err(|error| AdminError::Bind(path.into(), error))?,
        None => open(path)?,
    };
    let socket = Arc::new(socket);
    sockets.lend(&socket);
    Ok(socket)
}

fn open(path: &Path) -> Result<UnixListener, AdminError> {
    let failed = |error| AdminError::Bind(path.into(), error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    if let Ok(there) = std::fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            return Err(AdminError::NotASocket(path.into()));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(AdminError::Taken(path.into()));
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

/// Looks every few minutes whether the files that boot scripts name are there. A file that is missing is said once, and in `bootd status`.
pub async fn look_for_missing_files(admin: Arc<Admin>, shutdown: CancellationToken) {
    loop {
        let app = admin.app();
        let missing = explain::boot_files(&app).await.missing;
        let before = admin.missing.swap(Arc::new(missing.clone()));
        for text in missing.iter().filter(|text| !before.contains(text)) {
            tracing::warn!(text, "a boot file is missing");
        }
        app.metrics.set(
            "boot_files",
            "missing",
            i64::try_from(missing.len()).unwrap_or(i64::MAX),
        );
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

/// Between two looks for missing files.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// Connections to the socket; more wait until one ends.
const CONNECTIONS: usize = 64;
/// How long an import's body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long connections may go on after a stop.
const DRAIN: Duration = Duration::from_secs(1);
/// How long a connection may take for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// Serves the socket until the shutdown token is cancelled or the door is left.
pub async fn run(listener: Arc<UnixListener>, admin: Arc<Admin>, door: Door, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let place = tokio::select! {
            () = shutdown.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            () = door.closes() => match door.is_open().await {
                true => continue,
                false => break,
            },
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let admin = Arc::clone(&admin);
        connections.spawn(async move {
            let _place = place;
            let service = service_fn(|request: Request<Incoming>| {
                let admin = Arc::clone(&admin);
                async move { Ok::<_, Infallible>(admin.respond(request).await) }
            });
            // A client that goes away is no news.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
    // Who asked for the end wants to hear of it.
    connections.close();
    let _ = tokio::time::timeout(DRAIN, connections.wait()).await;
}

impl Admin {
    /// Places for who watches boots.
    pub fn watchers() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(board::WATCHERS))
    }

    /// What is in service at this moment.
    pub(super) fn app(&self) -> Arc<App> {
        self.app.load_full()
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default();
        match (&head.method, head.uri.path()) {
            (&Method::POST, "/import") => self.import(query, body).await,
            (&Method::POST, "/accept") => json(&transfer::accept(&self.app()).await),
            (&Method::POST, "/reload") => self.reload(query).await,
            (&Method::POST, "/token") => self.token(query),
            (&Method::POST, "/upgrade") => self.upgrade(query).await,
            (&Method::POST, "/ignore") => self.ignore(query, Ignored::add).await,
            (&Method::POST, "/unignore") => self.ignore(query, Ignored::remove).await,
            (&Method::POST, "/leases/free") => self.free_lease(query),
            (&Method::POST, "/cache/warm") => self.warm(query).await,
            (&Method::POST, "/cache/pin") => self.keep(query, Act::Pin).await,
            (&Method::POST, "/cache/unpin") => self.keep(query, Act::Unpin).await,
            (&Method::POST, "/cache/rm") => self.keep(query, Act::Remove).await,
            (&Method::GET, "/metrics") => self.metrics(&head.headers),
            (&Method::GET, "/livez") => health::live(&self.app().metrics),
            (&Method::GET, "/readyz") => health::ready(&self.app().metrics, Some(self)),
            (&Method::GET, path) => self.view(path, query).await,
            _ => error(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET, and POST for /accept, /cache/…, /leases/free, /ignore, /unignore, /reload, /import, /token and /upgrade, are served here",
            ),
        }
    }

    /// A view of this path and query, without the prefix that a listener has for them. What is a secret, or has one in it, is not among them.
    pub(crate) async fn shown(&self, path: &str, query: &str) -> Response<Body> {
        match path {
            "/export" => error(StatusCode::NOT_FOUND, "no such view here; see bootd export"),
            path => self.view(path, query).await,
        }
    }

    /// All numbers, in the format that the client takes.
    pub(crate) fn metrics(&self, headers: &HeaderMap) -> Response<Body> {
        let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let format = Format::accepted(accept.unwrap_or_default());
        let text = self.app().metrics.exposition(&present::read(self), format);
        let mut response = Response::new(full(text));
        let content_type = HeaderValue::from_static(format.content_type());
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        response
    }

    async fn view(&self, path: &str, query: &str) -> Response<Body> {
        if let Some(who) = path.strip_prefix("/boots/") {
            return self.boots(who);
        }
        if let Some(who) = path.strip_prefix("/capture/") {
            return self.captured(who);
        }
        match path {
            "/boots" => json(&views::boots(self)),
            "/export" => self.export(query).await,
            "/leases" => json(&views::Leases {
                leases: self.leases.all(),
            }),
            "/status" => json(&views::status(self)),
            "/cache" => match self.app().artifacts.cached() {
                Some(objects) => json(&views::Cache { objects }),
                None => error(
                    StatusCode::NOT_FOUND,
                    "nothing is kept: no origin is remote, or cache.size is 0 (see bootd status)",
                ),
            },
            "/cache/wanted" => json(&explain::wanted(&self.app()).await),
            "/nodes" => json(&views::nodes(self, &self.app().inventory.snapshot())),
            "/keys" => match &self.app().auth {
                Some(auth) => json(&auth.key_set()),
                None => error(StatusCode::NOT_FOUND, "no keys"),
            },
            "/plugins" => json(&self.app().plugins.status()),
            "/explain" => match explain::Question::parse(query) {
                Ok(question) => json(&explain::explain(&self.app(), &question).await),
                Err(text) => error(StatusCode::BAD_REQUEST, &text),
            },
            _ => error(StatusCode::NOT_FOUND, "no such view"),
        }
    }

    /// The last packets of a client.
    fn captured(&self, who: &str) -> Response<Body> {
        let who = percent_encoding::percent_decode_str(who).decode_utf8_lossy();
        let (whose, about) = views::whose(self, &who);
        match self.app().watch.captured(&whose, &about) {
            Some(file) => {
                let mut response = Response::new(full(file));
                let content_type = HeaderValue::from_static("application/vnd.tcpdump.pcap");
                response.headers_mut().insert(CONTENT_TYPE, content_type);
                response
            }
            None => error(
                StatusCode::NOT_FOUND,
                "no packet of such a node is remembered: give a hardware address, an xname or an IP address (see bootd boots, bootd nodes)",
            ),
        }
    }

    /// The timeline of a client, the changes of all, or how long their stages take.
    fn boots(&self, who: &str) -> Response<Body> {
        if who == "stages" {
            return json(&self.app().watch.stages());
        }
        if who == "changes" {
            let place = Arc::clone(&self.watchers).try_acquire_owned();
            return match (self.app().watch.changes(), place) {
                (Some(changes), Ok(place)) => board::changes(changes, place),
                (None, _) => error(
                    StatusCode::NOT_FOUND,
                    "no timelines are kept here: boots.attempts is 0 in the configuration",
                ),
                (Some(_), Err(_)) => {
                    self.app().metrics.done("boots", "watchers_too_many");
                    board::too_many()
                }
            };
        }
        let who = percent_encoding::percent_decode_str(who).decode_utf8_lossy();
        match self.app().watch.timeline(&who) {
            Some(timeline) => json(&timeline),
            None => error(
                StatusCode::NOT_FOUND,
                "nothing was heard of such a node: give an xname, a hardware address or an IP address (see bootd boots)",
            ),
        }
    }

    /// Ends the lease of the address that the query names.
    fn free_lease(&self, query: &str) -> Response<Body> {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        let ip = pairs
            .find(|(key, _)| key == "ip")
            .map(|(_, text)| text.parse::<Ipv4Addr>());
        let Some(Ok(ip)) = ip else {
            return error(StatusCode::BAD_REQUEST, "ip=ADDRESS is missing, or is no IPv4 address");
        };
        if !self.leases.free(ip) {
            return error(
                StatusCode::NOT_FOUND,
                "nobody has this address of a pool, or had it (see bootd leases)",
            );
        }
        tracing::info!(%ip, "the operator freed an address of a pool");
        json(&views::Freed { ip })
    }

    /// Has an object fetched that is not kept, and says how far that is.
    async fn warm(&self, query: &str) -> Response<Body> {
        let Some(path) = path_of(query) else {
            return error(StatusCode::BAD_REQUEST, NO_PATH);
        };
        match self.app().artifacts.warm(&path).await {
            Ok(cached) => json(&cached),
            Err(refused) => no_object(&path, &refused),
        }
    }

    /// Pins or unpins a name, or removes what is kept of it.
    async fn keep(&self, query: &str, act: Act) -> Response<Body> {
        let Some(path) = path_of(query) else {
            return error(StatusCode::BAD_REQUEST, NO_PATH);
        };
        let (artifacts, wanted) = (Arc::clone(&self.app().artifacts), path.clone());
        let done = tokio::task::spawn_blocking(move || {
            Ok(match act {
                Act::Pin => artifacts.pin(&wanted)?,
                Act::Unpin => artifacts.unpin(&wanted)?,
                Act::Remove => Ok(artifacts.remove(&wanted)?),
            })
        });
        match done.await {
            Ok(Ok(Ok(changed))) => {
                tracing::info!(path, ?act, changed, "the operator decides about the cache");
                json(&views::Changed { path, changed })
            }
            Ok(Ok(Err(failed))) => error(StatusCode::SERVICE_UNAVAILABLE, &failed.to_string()),
            Ok(Err(refused)) => no_object(&path, &refused),
            Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "a bug in bootd; see the log"),
        }
    }

    /// Has DHCP ignore the hardware address that the query names, or answer it again.
    async fn ignore(&self, query: &str, change: fn(&Ignored, Mac) -> Result<bool, IgnoredError>) -> Response<Body> {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        let mac = match pairs.find(|(key, _)| key == "mac").map(|(_, text)| text.parse::<Mac>()) {
            Some(Ok(mac)) => mac,
            Some(Err(bad)) => return error(StatusCode::BAD_REQUEST, &bad.to_string()),
            None => return error(StatusCode::BAD_REQUEST, "mac=MAC is missing"),
        };
        let ignored = Arc::clone(&self.ignored);
        let done = tokio::task::spawn_blocking(move || change(&ignored, mac)).await;
        match done {
            Ok(Ok(changed)) => {
                let ignored = self.ignored.contains(mac);
                tracing::info!(%mac, ignored, changed, "the operator decides whether dhcp answers");
                json(&views::Ignoring { mac, ignored, changed })
            }
            Ok(Err(failed)) => error(StatusCode::SERVICE_UNAVAILABLE, &failed.to_string()),
            Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "a bug in bootd; see the log"),
        }
    }

    /// Has another process take the place of this one.
    async fn upgrade(&self, query: &str) -> Response<Body> {
        let mut asked = upgrade::Asked::default();
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "binary" => asked.binary = Some(PathBuf::from(value.into_owned())),
                "unchecked" => asked.unchecked = true,
                _ => {}
            }
        }
        match self.upgrader.upgrade(asked).await {
            Ok(upgraded) => json(&upgraded),
            Err(failed) => error(StatusCode::CONFLICT, &failed.to_string()),
        }
    }

    /// Makes a token. Whoever may open the socket is an operator.
    fn token(&self, query: &str) -> Response<Body> {
        let (mut subject, mut scopes, mut lifetime) = ("operator".to_owned(), Vec::new(), Duration::from_secs(3600));
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "subject" if !value.is_empty() => subject = value.into_owned(),
                "scope" => scopes.push(value.into_owned()),
                "ttl_s" => match value.parse() {
                    Ok(seconds) => lifetime = Duration::from_secs(seconds),
                    Err(_) => return error(StatusCode::BAD_REQUEST, "ttl_s is not a number of seconds"),
                },
                _ => {}
            }
        }
        let Some(auth) = &self.app().auth else {
            return error(StatusCode::NOT_FOUND, "no keys");
        };
        if lifetime.is_zero() || lifetime > auth.longest() {
            let longest = humantime::format_duration(auth.longest());
            return error(
                StatusCode::BAD_REQUEST,
                &format!("a token lives 1s to {longest} (auth.longest)"),
            );
        }
        match auth.mint(&subject, &scopes, lifetime) {
            Ok(token) => {
                tracing::info!(subject, ttl_s = lifetime.as_secs(), "a token was made");
                json(&serde_json::json!({ "token": token }))
            }
            Err(failed) => error(StatusCode::INTERNAL_SERVER_ERROR, &failed.to_string()),
        }
    }

    /// The data of the plugin that the query names, as YAML; without a name, who has data to export.
    async fn export(&self, query: &str) -> Response<Body> {
        let Some(name) = plugin_of(query) else {
            return json(&transfer::names(&self.app()));
        };
        match transfer::export(&self.app(), &name).await {
            Ok(yaml) => {
                let mut response = Response::new(full(yaml));
                let content_type = HeaderValue::from_static("application/yaml; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, content_type);
                response
            }
            Err(failed) => error(failed.status(), &failed.to_string()),
        }
    }

    /// Hands the body to the plugin that the query names.
    async fn import(&self, query: &str, body: Incoming) -> Response<Body> {
        let Some(name) = plugin_of(query) else {
            return error(StatusCode::BAD_REQUEST, "plugin=NAME is missing");
        };
        let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, transfer::MOST).collect()).await;
        let Ok(Ok(body)) = collected else {
            let text = format!(
                "the body did not come in {} s, or has over {} bytes",
                BODY_TIMEOUT.as_secs(),
                transfer::MOST
            );
            return error(StatusCode::BAD_REQUEST, &text);
        };
        let Ok(text) = String::from_utf8(body.to_bytes().into()) else {
            return error(StatusCode::BAD_REQUEST, "the body is not UTF-8");
        };
        match transfer::import(&self.app(), &name, text).await {
            Ok(()) => {
                tracing::info!(plugin = name, "data was imported");
                json(&serde_json::json!({ "imported": name }))
            }
            Err(failed) => error(failed.status(), &failed.to_string()),
        }
    }

    /// Puts the configuration into service that is in its file now; with `dry_run` only says what would change. With `plugin=NAME` starts new
    /// instances of these plugins instead.
    async fn reload(&self, query: &str) -> Response<Body> {
        let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
        let names: Vec<String> = pairs
            .iter()
            .filter(|(key, _)| key == "plugin")
            .map(|(_, value)| value.to_string())
            .collect();
        if names.is_empty() {
            let mode = match pairs.iter().any(|(key, _)| key == "dry_run") {
                true => Mode::DryRun,
                false => Mode::Apply,
            };
            return json(&self.reloader.reload(mode).await);
        }
        match self.app().plugins.reload(names).await {
            Some(reloaded) => json(&reloaded),
            None => error(
                StatusCode::NOT_FOUND,
                "no plugin of this name is configured (see bootd plugins)",
            ),
        }
    }
}

/// What an operator does with an object of the cache.
#[derive(Debug, Clone, Copy)]
enum Act {
    Pin,
    Unpin,
    Remove,
}

/// The path at the artifacts listener that a query names: as it is, or as a URL of S3 or of a listener.
fn path_of(query: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let (_, url) = pairs.find(|(key, _)| key == "url")?;
    let path = match url.split_once("://") {
        Some(("s3", path)) => path,
        Some((_, rest)) => rest.split_once('/')?.1,
        None => url.trim_start_matches('/'),
    };
    let path = path.split(['?', '#']).next()?;
    Some(format!("/{path}"))
}

fn no_object(path: &str, refused: &OpenError) -> Response<Body> {
    let status = match refused {
        OpenError::NoSuchBucket | OpenError::NoSuchKey | OpenError::BadName(_) => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_GATEWAY,
    };
    error(status, &format!("{path}: {refused}"))
}

const NO_PATH: &str = "url=URL is missing, or names no object: /bucket/key, s3://bucket/key or http://host/bucket/key";

/// The first `plugin` of a query.
fn plugin_of(query: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find_map(|(key, value)| (key == "plugin").then(|| value.into_owned()))
}

fn json(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let mut response = Response::new(full(body));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(failed) => error(StatusCode::INTERNAL_SERVER_ERROR, &failed.to_string()),
    }
}

fn error(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(full(serde_json::json!({ "error": text }).to_string()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::path_of;

    #[test]
    fn an_object_is_named_by_its_path_or_by_a_url() {
        for url in [
            "/b/some/key",
            "b/some/key",
            "s3://b/some/key",
            "http://172.16.0.254:9000/b/some/key",
            "https://store/b/some/key?X-Amz-Signature=1",
        ] {
            let query: String = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("url", url)
                .finish();
            assert_eq!(path_of(&query).as_deref(), Some("/b/some/key"), "{url}");
        }
        for query in ["", "path=/b/k", "url=http://store"] {
            assert_eq!(path_of(query), None, "{query}");
        }
    }
}
