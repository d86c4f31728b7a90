//! Leads a request to what answers it: a plugin's route, a loader, an artifact, or the own public keys.
//!
//! Knows who is asking (the peer, behind trusted proxies the one that they name; the node of that address), whether they may, and which
//! URLs lead to this box. Each request is answered, counted and logged, whatever comes.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use arc_swap::ArcSwap;
use bootd_sdk::text::shown;
use bootd_sdk::wire::{self, Answer, EventKind, Happening, Route};
use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;

use super::answers::Answers;
use super::artifacts::Wire;
use super::bodies::{Bodies, Sender};
use super::heads::Heads;
use super::holding::{Formers, Verdict};
use super::paths::{Lead, lead};
use super::told::{self, Answered, Text};
use super::{Body, Certificates, artifacts, full, holding, keys, loaders, ready};
use crate::admin::{Admin, board, health};
use crate::auth::{Auth, Refused, Wanted};
use crate::boots::Watch;
use crate::cache::Artifacts;
use crate::config::{Access, Config, Listener, Service};
use crate::inventory::Inventory;
use crate::lines::Lines;
use crate::metrics::{Class, Metrics};
use crate::plugins::{Asked, CallError, Plugins, Ready, Routed};
use crate::script::own_paths;
use crate::tftp::Files;
use crate::warmer::Readiness;

/// Where the [`App`] in service is at any moment; another configuration makes another one.
pub type InService = Arc<ArcSwap<App>>;

/// What the router leads to: everything that a request needs, as one configuration has it. Never changes; a reload puts another one in its place.
#[derive(Clone)]
pub struct App {
    /// The configuration.
    pub config: Arc<Config>,
    /// Its listeners, for connections to share.
    pub listeners: Vec<Arc<Listener>>,
    /// The nodes.
    pub inventory: Arc<Inventory>,
    /// The plugins.
    pub plugins: Arc<Plugins>,
    /// The buckets.
    pub artifacts: Arc<Artifacts>,
    /// Loaders and generated scripts.
    pub files: Arc<ArcSwap<Files>>,
    /// The certificates of listeners that speak TLS; none for `bootd check`.
    pub certificates: Arc<Certificates>,
    /// Which tokens are good; none for `bootd check`.
    pub auth: Option<Arc<Auth>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is told of boots.
    pub watch: Watch,
    /// Whether the files that boot scripts name are here.
    pub readiness: Arc<Readiness>,
    /// What all connections share.
    pub bounds: Arc<Bounds>,
    /// What shows all this to operators, once it is there.
    pub admin: OnceLock<Weak<Admin>>,
}

/// What all connections together may have.
pub struct Bounds {
    /// Memory for request bodies.
    bodies: Bodies,
    /// Memory for answers that are being sent.
    answers: Answers,
    /// Scripts that nodes go on with while the files of the next ones are fetched.
    formers: Formers,
    /// Log lines.
    lines: Lines,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            bodies: Bodies::default(),
            answers: Answers::default(),
            formers: Formers::default(),
            lines: Lines::new(Instant::now()),
        }
    }
}

/// The connection that a request came on.
#[derive(Clone)]
pub struct Connection {
    /// The listener that accepted it.
    pub listener: Arc<Listener>,
    /// Our end.
    pub local: SocketAddr,
    /// Their end.
    pub peer: SocketAddr,
}

impl App {
    /// Listeners that serve `admin` show this from now on.
    pub fn is_shown_by(&self, admin: &Arc<Admin>) {
        // There is one.
        let _ = self.admin.set(Arc::downgrade(admin));
    }

    /// What the configuration says of the listener at this address; `None`: it has none there.
    pub fn listener(&self, address: SocketAddr) -> Option<&Arc<Listener>> {
        self.listeners.iter().find(|listener| listener.address == address)
    }

    /// Answers a request.
    pub async fn respond(&self, connection: &Connection, request: Request<Incoming>) -> Response<Body> {
        let started = Instant::now();
        let peer = client(connection, request.headers());
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let path = uri.path();
        let heads = self.watch.captures().then(|| {
            let (port, server) = (connection.peer.port(), connection.local);
            Heads::of(peer, port, server, &method, &uri, request.headers())
        });
        let serves = |service| connection.listener.serve.contains(&service);
        if serves(Service::Artifacts) {
            let query = uri.query().unwrap_or_default();
            let wire = match connection.listener.tls {
                None => Wire::Plain,
                Some(_) => Wire::Tls,
            };
            let response =
                artifacts::respond(&self.artifacts, peer, &method, path, query, request.headers(), wire).await;
            self.capture(heads, &response);
            return response;
        }
        let mut class = told::class(path);
        let agent = self.watch.hears().then(|| told::agent(request.headers()));
        let mut response = match path
            .strip_prefix("/loaders/")
            .map(|name| percent_decode_str(name).decode_utf8())
        {
            Some(Ok(name)) if serves(Service::Loaders) => {
                loaders::respond(&self.files.load(), &method, request.headers(), &name)
            }
            _ if serves(Service::Admin) && is_admins(path) => {
                class = Class::Operator;
                self.show(connection, peer, &request).await
            }
            _ => self.ask_plugin(connection, peer, request).await,
        };
        self.capture(heads.filter(|_| !serves(Service::Admin)), &response);
        let (status, bytes) = (
            response.status().as_u16(),
            response.body().size_hint().exact().unwrap_or(0),
        );
        let now = Instant::now();
        if self.bounds.lines.may_write(now) {
            let ms = now.duration_since(started).as_millis();
            let path = shown(path);
            tracing::info!(%peer, %method, path, status, bytes, ms, "http request");
        }
        if let Some(left_out) = self.bounds.lines.left_out(now) {
            tracing::warn!(left_out, "http lines left out: clients send too much");
        }
        self.metrics.answered(status, bytes);
        self.metrics.took(class, now.duration_since(started));
        let text = response.extensions_mut().remove::<Text>();
        self.watch.tell(|| {
            told::of_answer(Answered {
                peer,
                method: &method,
                path,
                query: uri.query().unwrap_or_default(),
                status,
                bytes,
                text: text.map(|text| text.0).unwrap_or_default(),
                agent: agent.unwrap_or_default(),
            })
        });
        self.plugins.tell(EventKind::Http, || Happening::Http {
            peer,
            method: method.as_str().into(),
            path: path.into(),
            status,
        });
        response
    }

    /// Keeps the heads of a request and of its answer.
    fn capture(&self, heads: Option<Heads>, response: &Response<Body>) {
        if let Some(heads) = heads {
            self.watch.tell_all(|| heads.answered(response));
        }
    }

    async fn ask_plugin(&self, connection: &Connection, peer: IpAddr, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let Ok(path) = percent_decode_str(head.uri.path()).decode_utf8() else {
            self.metrics.refused("http", "bad_path", &peer, &head.uri.path());
            return text(StatusCode::BAD_REQUEST, "the path is not UTF-8\n");
        };
        let path = match lead(&connection.listener.serve, &path) {
            Lead::AsItIs => path,
            Lead::To(other) => Cow::Owned(other),
            Lead::Nowhere => return text(StatusCode::NOT_FOUND, "404 page not found\n"),
        };
        if path == keys::PATH
            && let Some(auth) = &self.auth
        {
            return keys::respond(auth, &head.method, &head.headers);
        }
        if path == ready::PATH {
            let keeps = self.artifacts.keeps() && self.config.cache.warm;
            return ready::respond(&self.readiness, keeps);
        }
        let (plugin, route) = match self.plugins.route(head.method.as_str(), &path) {
            Routed::To(plugin, route) => (plugin, route),
            Routed::OtherMethods(methods) => {
                let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, &format!("allow {}", methods.join(",")));
                if let Ok(allow) = HeaderValue::from_str(&methods.join(", ")) {
                    response.headers_mut().insert(ALLOW, allow);
                }
                return response;
            }
            Routed::Nowhere => return self.nowhere(&path),
        };
        let snapshot = self.inventory.snapshot();
        let node = snapshot.by_ip(peer).cloned();
        let token = || self.token(&head.headers, &head.method);
        let decide = || admission(route.access, &connection.listener, node.is_some(), token);
        let mut decided = decide();
        // Keys rotate: the site's may hold this one by now.
        if decided == Admission::TokenRefused(Refused::UnknownKey)
            && let Some(auth) = &self.auth
            && Box::pin(auth.look_again()).await
        {
            decided = decide();
        }
        let claims = match decided {
            Admission::Granted(claims) => claims,
            Admission::NodesOnly => {
                self.metrics.refused("http", "not_a_node", &peer, &path);
                return problem(StatusCode::FORBIDDEN, "only nodes of the inventory may ask this");
            }
            Admission::TokenRefused(refused) => {
                self.metrics.refused("http", refused.label(), &peer, &path);
                return token_refused(&refused);
            }
        };
        let host = host(connection, &head.headers);
        let query = head.uri.query().unwrap_or_default();
        let script = holding::Asked::read(&path, query);
        let query = script.map_or(query, |script| script.query);
        let asked = Asked {
            plugin,
            node: node.as_deref().map(|node| node.id.as_str()),
            peer: Some(peer),
            scheme: scheme(connection, &head.headers),
            host: &host,
            led_to: Some(self.seen_as(connection)),
            path: path.trim_end_matches('/'),
            query,
            as_of: self.plugins.as_of(plugin, &snapshot),
        };
        let is_read = matches!(head.method, Method::GET | Method::HEAD);
        let may_be_kept = is_read && claims.is_none() && body.is_end_stream();
        if may_be_kept && let Some(kept) = self.plugins.kept(&asked) {
            return self.send(self.held(script, &asked, kept), peer);
        }
        // On the heap: what most requests need not stays out of their way.
        let called = Call {
            connection,
            peer,
            asked,
            script,
            node: node.as_deref(),
            claims,
            may_be_kept,
            sender: match (route.access, is_read) {
                (wire::Access::Token, _) => Sender::BehindToken,
                (_, true) => Sender::Reader(peer),
                (_, false) => Sender::Writer(peer),
            },
            head: &head,
        };
        Box::pin(self.call(called, body, &route)).await
    }

    /// The board, the operator's views, and the state of this bootd.
    async fn show(&self, connection: &Connection, peer: IpAddr, request: &Request<Incoming>) -> Response<Body> {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let detail =
                "only GET is served here: what changes something goes through the admin socket (see bootd --help)";
            return problem(StatusCode::METHOD_NOT_ALLOWED, detail);
        }
        if let Some(page) = board::file(path) {
            return page;
        }
        match path {
            "/livez" => return health::live(&self.metrics),
            "/readyz" => {
                let admin = self.admin.get().and_then(Weak::upgrade);
                return health::ready(&self.metrics, admin.as_deref());
            }
            _ => {}
        }
        let token = || self.token(request.headers(), &Method::GET);
        match admission(wire::Access::Token, &connection.listener, false, token) {
            Admission::Granted(_) => {}
            Admission::NodesOnly => return problem(StatusCode::FORBIDDEN, "not for nodes"),
            Admission::TokenRefused(refused) => {
                self.metrics.refused("http", refused.label(), &peer, &path);
                return token_refused(&refused);
            }
        }
        match self.admin.get().and_then(Weak::upgrade) {
            Some(admin) if matches!(path, "/metrics" | "/admin/metrics") => admin.metrics(request.headers()),
            Some(admin) => admin.shown(path.strip_prefix("/admin").unwrap_or(path), query).await,
            None => try_again(problem(StatusCode::SERVICE_UNAVAILABLE, "bootd is starting")),
        }
    }

    /// Asks the plugin itself.
    async fn call(&self, called: Call<'_>, body: Incoming, route: &Route) -> Response<Body> {
        let Call {
            connection,
            peer,
            asked,
            script,
            node,
            claims,
            may_be_kept,
            sender,
            head,
        } = called;
        // Its part of the bound is held until the plugin has answered.
        let mut read = match self.bounds.bodies.read(body, route.body_limit, sender).await {
            Ok(read) => read,
            Err(unread) => {
                self.metrics.refused("http", unread.label(), &peer, &asked.path);
                return problem(unread.status(), unread.detail());
            }
        };
        let Ok(body) = String::from_utf8(std::mem::take(&mut read.bytes)) else {
            return problem(StatusCode::BAD_REQUEST, "the body is not UTF-8");
        };
        let is_head = head.method == Method::HEAD;
        let method = if is_head {
            Method::GET.as_str()
        } else {
            head.method.as_str()
        };
        let request = wire::Request {
            method: method.into(),
            path: asked.path.into(),
            query: asked.query.into(),
            headers: plain_headers(&head.headers, route.passes_token),
            body,
            listener: connection.listener.address.to_string(),
            scheme: asked.scheme.into(),
            host: asked.host.into(),
            peer: asked.peer,
            node: node.cloned(),
            claims,
            rewrites: self.config.rewrites(&url_host(self.seen_as(connection))),
            leads_here: true,
        };
        let asked_again = may_be_kept.then_some(&asked);
        match self.plugins.answer(asked.plugin, asked_again, request, route).await {
            Ok(answer) => self.send(self.held(script, &asked, answer), peer),
            Err(error) => failed(&error),
        }
    }

    /// A boot script, or what a node gets instead while not all files of it are here.
    fn held(&self, script: Option<holding::Asked<'_>>, asked: &Asked<'_>, answer: Ready) -> Ready {
        let Some(script) = script.filter(|_| answer.status == StatusCode::OK && self.artifacts.keeps()) else {
            return answer;
        };
        let Ok(text) = str::from_utf8(&answer.body) else {
            return answer;
        };
        let rewrites = asked
            .led_to
            .map(|ip| self.config.rewrites(&url_host(ip)))
            .unwrap_or_default();
        let paths = own_paths(text, &rewrites);
        // From now on this client's files are of the versions that are in service now.
        if let Some(peer) = asked.peer.filter(|_| !paths.is_empty()) {
            self.artifacts.script_given(peer);
        }
        let Some(longest) = self.config.cache.hold_back else {
            return answer;
        };
        let base = format!("{}://{}", asked.scheme, asked.host);
        let question = format!("{base} {:?} {:?} {}", asked.led_to, asked.node, asked.query);
        let formers = &self.bounds.formers;
        let (counted, body) = match script.decide(&paths, &base, longest, formers.of(&question), &self.artifacts) {
            Verdict::AsItIs => return answer,
            Verdict::Complete => {
                formers.remember(&question, &answer.body, &paths);
                return answer;
            }
            Verdict::Former(former) => ("script_former", former),
            Verdict::Waits(waiting) => ("script_held", waiting.into()),
        };
        self.metrics.done("http", counted);
        Ready { body, ..answer }
    }

    /// What the request's token says.
    fn token(&self, headers: &HeaderMap, method: &Method) -> Result<serde_json::Value, Refused> {
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let wanted = match *method {
            Method::GET | Method::HEAD => Wanted::Read,
            _ => Wanted::Write,
        };
        match &self.auth {
            Some(auth) => auth.check(shown, wanted),
            None => Err(Refused::Missing),
        }
    }

    /// Sends what a plugin answered, if there is room for it.
    fn send(&self, answer: Ready, peer: IpAddr) -> Response<Body> {
        let bytes = answer.body.len();
        // Scripts and documents say what their node will do next.
        let text = (bytes <= MOST_TEXT).then(|| Text(answer.body.clone()));
        let Some(body) = self.bounds.answers.hold(answer.body) else {
            self.metrics
                .refused("http", "too_many_answers", &peer, &format_args!("{bytes} bytes"));
            return try_again(problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many large answers are being sent; try again",
            ));
        };
        let mut response = Response::new(body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        if let Some(text) = text {
            response.extensions_mut().insert(text);
        }
        response
    }

    /// The address by which the client of a connection reaches this box.
    fn seen_as(&self, connection: &Connection) -> IpAddr {
        let local = connection.local.ip().to_canonical();
        let proxies = &connection.listener.trusted_proxies;
        if local.is_unspecified() || proxies.contains(&connection.peer.ip().to_canonical()) {
            return self.config.own_address().into();
        }
        local
    }

    /// No plugin has this path. While one is out of service it may be its path, so clients are told to try again.
    fn nowhere(&self, path: &str) -> Response<Body> {
        let out = self.plugins.out_of_service();
        let missing: Vec<&str> = out.iter().map(|(name, _)| *name).collect();
        if missing.is_empty() || path == "/" {
            return text(StatusCode::NOT_FOUND, "404 page not found\n");
        }
        let detail = format!(
            "no plugin answers {path}, and out of service is: {} (see bootd plugins)",
            missing.join(", ")
        );
        let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, &detail);
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("10"));
        response
    }
}

/// Whether a path is the operator's, where a listener serves `admin`.
fn is_admins(path: &str) -> bool {
    let views = path.starts_with("/admin/") || path.starts_with("/board/");
    views || matches!(path, "/" | "/board" | "/metrics" | "/livez" | "/readyz")
}

/// Bytes of a text that is looked into for what it says about the boot.
const MOST_TEXT: usize = 64 * 1024;

/// A request that a plugin is asked.
struct Call<'a> {
    connection: &'a Connection,
    peer: IpAddr,
    asked: Asked<'a>,
    /// If it is a boot script, and those may wait.
    script: Option<holding::Asked<'a>>,
    node: Option<&'a wire::Node>,
    claims: Option<serde_json::Value>,
    may_be_kept: bool,
    sender: Sender,
    head: &'a Parts,
}

/// The client: the peer, or behind a trusted proxy the last address of `X-Forwarded-For` that is not itself a trusted proxy's.
fn client(connection: &Connection, headers: &HeaderMap) -> IpAddr {
    let peer = connection.peer.ip().to_canonical();
    let trusted = &connection.listener.trusted_proxies;
    if !trusted.contains(&peer) {
        return peer;
    }
    let forwarded = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok());
    let named: Vec<&str> = forwarded.flat_map(|value| value.split(',')).collect();
    for address in named.into_iter().rev() {
        match address.trim().parse::<IpAddr>() {
            Ok(ip) if trusted.contains(&ip.to_canonical()) => {}
            Ok(ip) => return ip.to_canonical(),
            Err(_) => break,
        }
    }
    peer
}

/// Whether a request may have its route.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Admission {
    /// With the claims of the token, where one is asked for.
    Granted(Option<serde_json::Value>),
    NodesOnly,
    TokenRefused(Refused),
}

fn admission(
    access: wire::Access,
    listener: &Listener,
    is_node: bool,
    token: impl FnOnce() -> Result<serde_json::Value, Refused>,
) -> Admission {
    match (access, listener.access) {
        (wire::Access::Node, _) if !is_node => Admission::NodesOnly,
        (wire::Access::Open | wire::Access::Node, _) | (wire::Access::Token, Access::None) => Admission::Granted(None),
        // Only here: checking a signature costs more than many an answer.
        (wire::Access::Token, Access::Token) => match token() {
            Ok(claims) => Admission::Granted(Some(claims)),
            Err(refused) => Admission::TokenRefused(refused),
        },
    }
}

/// RFC 6750 section 3: which check failed, for whoever made the token.
fn token_refused(refused: &Refused) -> Response<Body> {
    let (status, error) = match refused {
        Refused::Missing => (StatusCode::UNAUTHORIZED, None),
        Refused::Scope(_) => (StatusCode::FORBIDDEN, Some("insufficient_scope")),
        _ => (StatusCode::UNAUTHORIZED, Some("invalid_token")),
    };
    let mut response = problem(status, &refused.to_string());
    let challenge = error.map_or("Bearer".into(), |error| format!("Bearer error=\"{error}\""));
    if let Ok(challenge) = HeaderValue::from_str(&challenge) {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Host and port by which the client reaches the listener, or a trusted proxy before it. What is said is used only when it has the form of a
/// host.
fn host<'a>(connection: &Connection, headers: &'a HeaderMap) -> Cow<'a, str> {
    let said = |name: &str| headers.get(name).and_then(|host| host.to_str().ok());
    let forwarded = said("x-forwarded-host").filter(|_| is_by_proxy(connection));
    let hosts = [forwarded, said(HOST.as_str())];
    match hosts.into_iter().flatten().find(|host| is_host(host)) {
        Some(host) => host.into(),
        None => SocketAddr::new(connection.local.ip().to_canonical(), connection.local.port())
            .to_string()
            .into(),
    }
}

/// The scheme by which the client reaches the listener, or a trusted proxy before it.
fn scheme(connection: &Connection, headers: &HeaderMap) -> &'static str {
    let said = headers.get("x-forwarded-proto").and_then(|scheme| scheme.to_str().ok());
    match said.filter(|_| is_by_proxy(connection)) {
        Some("https") => "https",
        Some("http") => "http",
        _ => connection.listener.scheme(),
    }
}

/// Whether a proxy that is believed made the connection.
fn is_by_proxy(connection: &Connection) -> bool {
    let proxies = &connection.listener.trusted_proxies;
    proxies.contains(&connection.peer.ip().to_canonical())
}

/// A name or an address, with a port or without.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        // The colons of an address in brackets are its own.
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (text, None),
    };
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let good = match bracketed {
        Some(ip) => ip.parse::<Ipv6Addr>().is_ok(),
        None => {
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            !name.is_empty() && name.len() <= 253 && name.bytes().all(fits)
        }
    };
    good && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// The fields that a plugin sees. Secrets are the host's business, but for a token that a route says it passes on.
fn plain_headers(headers: &HeaderMap, passes_token: bool) -> Vec<(String, String)> {
    let text = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
    text.filter(|(name, _)| name != "cookie" && (passes_token || name != "authorization"))
        .collect()
}

/// An address as it stands in a URL.
pub(crate) fn url_host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

fn response(answer: Ready) -> Response<Body> {
    let mut response = Response::new(full(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

fn failed(error: &CallError) -> Response<Body> {
    let status = match error {
        CallError::QueueFull | CallError::NotRunning | CallError::Retired => StatusCode::SERVICE_UNAVAILABLE,
        CallError::Deadline => StatusCode::GATEWAY_TIMEOUT,
        CallError::Missing => StatusCode::NOT_FOUND,
        CallError::Failed(_) | CallError::Nonsense(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let response = problem(status, &error.to_string());
    match status {
        StatusCode::NOT_FOUND => response,
        _ => try_again(response),
    }
}

/// Says when to ask again.
fn try_again(mut response: Response<Body>) -> Response<Body> {
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// RFC 7807 problem details.
fn problem(status: StatusCode, detail: &str) -> Response<Body> {
    let answer = Answer::problem(status.as_u16(), status.canonical_reason().unwrap_or_default(), detail);
    response(answer.into())
}

fn text(status: StatusCode, body: &'static str) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(trusted: &[&str]) -> Connection {
        let listener = Listener {
            address: "0.0.0.0:8081".parse().unwrap(),
            serve: [Service::Boot].into(),
            access: Access::Token,
            tls: None,
            trusted_proxies: trusted.iter().map(|ip| ip.parse().unwrap()).collect(),
            pace: None,
        };
        let (local, peer) = ("172.16.0.254:8081".parse().unwrap(), "10.0.0.9:4711".parse().unwrap());
        Connection {
            listener: Arc::new(listener),
            local,
            peer,
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_their_own_word() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "172.16.0.1, 172.16.0.2".parse().unwrap());
        let who = |trusted: &[&str]| client(&connection(trusted), &headers).to_string();
        assert_eq!(who(&[]), "10.0.0.9");
        assert_eq!(who(&["10.0.0.9"]), "172.16.0.2");
        assert_eq!(who(&["10.0.0.9", "172.16.0.2"]), "172.16.0.1");
        headers.insert("x-forwarded-for", "172.16.0.1, nonsense".parse().unwrap());
        assert_eq!(client(&connection(&["10.0.0.9"]), &headers).to_string(), "10.0.0.9");
    }

    #[test]
    fn a_trusted_proxy_says_by_which_scheme_and_host_it_was_asked_and_nobody_else() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "rack1:8081".parse().unwrap());
        headers.insert("x-forwarded-host", "lb.example".parse().unwrap());
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        let asked = |trusted: &[&str]| {
            (
                scheme(&connection(trusted), &headers),
                host(&connection(trusted), &headers),
            )
        };
        assert_eq!(asked(&[]), ("http", "rack1:8081".into()));
        assert_eq!(asked(&["10.0.0.9"]), ("https", "lb.example".into()));
        headers.insert("x-forwarded-host", "lb.example/x".parse().unwrap());
        headers.insert("x-forwarded-proto", "javascript".parse().unwrap());
        let asked = (
            scheme(&connection(&["10.0.0.9"]), &headers),
            host(&connection(&["10.0.0.9"]), &headers),
        );
        assert_eq!(asked, ("http", "rack1:8081".into()));
    }

    #[test]
    fn a_host_field_that_is_no_host_is_not_repeated() {
        let mut headers = HeaderMap::new();
        assert_eq!(host(&connection(&[]), &headers), "172.16.0.254:8081");
        headers.insert(HOST, "rack1:8081".parse().unwrap());
        assert_eq!(host(&connection(&[]), &headers), "rack1:8081");
        for bad in [
            "x\" || reboot",
            "evil.example:99999999:1[]",
            "a@b",
            "",
            "a:99999",
            "a b",
        ] {
            headers.insert(HOST, bad.parse().unwrap());
            assert_eq!(host(&connection(&[]), &headers), "172.16.0.254:8081", "{bad}");
        }
    }
}
