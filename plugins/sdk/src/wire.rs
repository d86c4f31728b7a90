//! The JSON that crosses the plugin border, as Rust types. The schema of a [`Node`] is that of `bootd nodes --json`.
//!
//! Both sides ignore fields that they do not know and fill in what is missing, so a newer host and an older plugin understand each other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::mac::Mac;

/// A machine that boots, or its BMC: one row of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// The xname, such as `x1000c0s0b0n0`.
    pub id: String,
    /// The node id: a small number that is unique in the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nid: Option<u64>,
    /// SMD's component type: `Node`, `NodeBMC`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// SMD's role, such as `Compute`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub role: String,
    /// SMD's sub-role, such as `Worker`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sub_role: String,
    /// SMD's hardware class, such as `River`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub class: String,
    /// SMD's state, such as `On`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// SMD's architecture, such as `X86`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub arch: String,
    /// Whether SMD counts it as usable.
    pub enabled: bool,
    /// What people call it, such as `compute1`. Not its DHCP host name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The fully qualified name, when there is one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fqdn: String,
    /// Labels of the SMD groups that it is in, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Its network interfaces; the order is the publisher's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// What is different about this node's boot.
    #[serde(skip_serializing_if = "Boot::is_default")]
    pub boot: Boot,
    /// DHCP options for this node only: code to value in hexadecimal.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<u8, String>,
    /// Stored and handed on, never interpreted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// A network interface of a [`Node`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its hardware address.
    pub mac: Mac,
    /// Its addresses; the first IPv4 address in a served subnet is the one that DHCP gives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<Address>,
}

/// An address of an [`Interface`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The name of the network, such as `management`; empty when unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network: String,
    /// The address.
    pub ip: IpAddr,
}

/// Overrides of a node's boot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Boot {
    /// The loader's file name instead of the one that its architecture gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loader: Option<String>,
    /// The URL of its boot script instead of bootd's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
}

impl Boot {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What `init` gets: how this instance is configured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Configuration {
    /// `local` or `upstream`.
    pub mode: String,
    /// The plugin's own table, `config`, of bootd.toml.
    pub config: serde_json::Value,
    /// The folder of bootd.toml: relative paths in `config` are relative to it.
    pub folder: String,
    /// What a plugin may want to know of the appliance.
    pub server: Server,
}

/// The appliance as its plugins see it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Server {
    /// bootd's own address towards the nodes.
    pub address: String,
    /// The URL of the boot listener as nodes reach it, such as `http://172.16.0.254:8081`, without a slash at its end.
    pub boot_url: String,
}

/// What `init` answers: what the plugin provides.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Setup {
    /// The HTTP routes that it serves. A route that another plugin has is a load error.
    pub routes: Vec<Route>,
    /// It publishes nodes, and answers `resolve`.
    pub provides_nodes: bool,
    /// The events that it wants to see.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventKind>,
}

/// An HTTP route of a plugin; the longest matching prefix wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// `GET` (which covers `HEAD`), `POST`, …
    pub method: String,
    /// The path, matched as a whole prefix of segments: `/boot/v1` covers `/boot/v1/hosts`, not `/boot/v10`. With `*` at its end it is
    /// matched as plain text: `/cloud-init*` covers `/cloud-initmeta-data` too.
    pub prefix: String,
    /// Who may call it.
    pub access: Access,
    /// Bytes that a request's body may have; more is answered with 413.
    #[serde(default = "Route::default_body_limit")]
    pub body_limit: usize,
    /// Milliseconds that an answer may take, at most 60,000, on threads of its own, so that nobody else waits behind it: for what is passed
    /// on to another service. Unset: bootd's `http.plugin_deadline`, on the threads for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Requests have the client's `authorization` field, to be shown to another service. Without it no plugin sees a token.
    #[serde(default, skip_serializing_if = "is_false")]
    pub passes_token: bool,
}

impl Route {
    fn default_body_limit() -> usize {
        1024 * 1024
    }

    /// A route with the default body limit, 1 MiB.
    pub fn new(method: &str, prefix: &str, access: Access) -> Self {
        Self {
            method: method.into(),
            prefix: prefix.into(),
            access,
            body_limit: Self::default_body_limit(),
            deadline_ms: None,
            passes_token: false,
        }
    }
}

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Anyone who reaches the listener.
    Open,
    /// A peer whose address is a node's.
    Node,
    /// Who shows a valid token, where the listener asks for tokens.
    Token,
}

/// An HTTP request for a plugin.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// The method, upper case. A `HEAD` comes as `GET`.
    pub method: String,
    /// The path, percent-decoded once, without the query.
    pub path: String,
    /// The query as it came, without `?`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub query: String,
    /// Header fields; names in lower case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The body, when it is UTF-8.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// The listener's address, such as `0.0.0.0:8081`.
    pub listener: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Host and port by which the client reaches this listener, such as `172.16.0.254:8081`: from the `Host` field, or the local
    /// address of the connection when there is none.
    pub host: String,
    /// The client's address, after trusted proxies.
    pub peer: Option<IpAddr>,
    /// The node that this address is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Node>,
    /// The claims of the token, when one was shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<serde_json::Value>,
    /// How URLs are led to this box; apply [`rewrite`] to what a node is to fetch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rewrites: Vec<Rewrite>,
    /// URLs that name a site which a plugin mirrors are to lead to this box, too. Not so only where bootd asks for itself what stands there.
    pub leads_here: bool,
}

impl Request {
    /// Scheme and host of this listener as the client reached it, such as `http://172.16.0.254:8081`. `None` when the client's `Host` field has
    /// characters that no host has: they could end a word or a line of what an answer quotes.
    pub fn base(&self) -> Option<String> {
        let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        let good = !self.host.is_empty() && self.host.len() <= 255 && self.host.chars().all(is_safe);
        let scheme = if self.scheme == "https" { "https" } else { "http" };
        good.then(|| format!("{scheme}://{}", self.host))
    }
}

/// URLs that begin with `from` are fetched from here: `to` takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    /// What boot parameters say, such as `s3://boot-images/`.
    pub from: String,
    /// What the node gets, such as `http://172.16.0.254:9000/boot-images/`.
    pub to: String,
}

/// A plugin's answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// 100 to 599.
    pub status: u16,
    /// Header fields. `content-length` is the host's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The body.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// The host may serve it again, to the same node for the same URL, until the plugin bumps or the inventory changes.
    pub keep: bool,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: String::new(),
            keep: false,
        }
    }
}

impl Answer {
    /// An answer with a body of this type.
    pub fn new(status: u16, content_type: &str, body: impl Into<String>) -> Self {
        Self {
            status,
            headers: vec![("content-type".into(), content_type.into())],
            body: body.into(),
            keep: false,
        }
    }

    /// Plain text.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body)
    }

    /// RFC 7807 problem details, as SMD and BSS answer errors (contract 1.4).
    pub fn problem(status: u16, title: &str, detail: &str) -> Self {
        let body = serde_json::json!({"type": "about:blank", "title": title, "detail": detail, "status": status});
        Self::new(status, "application/problem+json", body.to_string())
    }

    /// The same, allowed to be kept.
    pub fn kept(mut self) -> Self {
        self.keep = true;
        self
    }
}

/// Nodes that a plugin publishes, and what it adds to those of others.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Publication {
    /// These are all nodes of this plugin; without it they are added to, or take the place of, what it published before.
    pub full: bool,
    /// Only look: the report says what would happen.
    pub dry_run: bool,
    /// The rows. Each is read by itself: a bad one costs only itself.
    pub nodes: Vec<serde_json::Value>,
    /// What it adds to nodes that another plugin owns: rows of the form of an [`Overlay`], each read by itself. With `full` these are all
    /// overlays of this plugin.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overlays: Vec<serde_json::Value>,
    /// Ids of nodes, and of overlays, that are gone. Only without `full`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
}

/// What a plugin adds to a node, whoever owns it. It takes effect while the node is there. Only what is not set yet is added: the owner's
/// row comes first, then the overlays in the order of the plugins in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Overlay {
    /// The node's xname.
    pub id: String,
    /// See [`Node::name`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// See [`Node::boot`]; each field by itself.
    #[serde(skip_serializing_if = "Boot::is_default")]
    pub boot: Boot,
    /// See [`Node::options`]; each option by itself.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<u8, String>,
}

/// What came of a [`Publication`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Rows that took effect.
    pub accepted: usize,
    /// Rows that did not.
    pub refused: Vec<Refusal>,
}

/// A row that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Its place among the nodes, or the overlays, of the publication, from 0.
    pub row: usize,
    /// Its id, as far as it could be read.
    pub id: String,
    /// Why, for humans: names the other row of a duplicate.
    pub reason: String,
}

/// A look into the inventory. One field is set; none asks for all nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Query {
    /// By the hardware address of an interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// By an address of an interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// By xname.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// By NID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nid: Option<u64>,
    /// By group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// How a plugin is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// One line for humans, such as `5 nodes from /etc/bootd/nodes.yaml`.
    pub text: String,
    /// What is wrong with its data, each mistake by itself. Not empty: `bootd check` refuses, `bootd status` says *degraded*.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<Mistake>,
}

/// Something wrong in a data file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mistake {
    /// The file.
    pub file: String,
    /// The line, from 1; 0: the file as a whole.
    pub line: u64,
    /// What is wrong, and what to do.
    pub text: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.text),
            line => write!(f, "{}:{line}: {}", self.file, self.text),
        }
    }
}

/// Writes to a plugin's store: all of it or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Commit {
    /// What must hold, else nothing is written: key to its present text, or to null when there must be no such key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub expect: BTreeMap<String, Option<String>>,
    /// Keys to write.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub put: BTreeMap<String, String>,
    /// Keys to delete.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub delete: Vec<String>,
}

/// An HTTP request that the host makes for a plugin. Redirects are not followed: they come as answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fetch {
    /// `GET`, `POST`, …
    pub method: String,
    /// An `http` or `https` URL.
    pub url: String,
    /// Header fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The body; empty: none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// Milliseconds until the whole answer must be there, at most 300,000.
    pub timeout_ms: u64,
    /// Bytes that the answer's body may have, at most 256 MiB; a larger one is a failure.
    pub most_bytes: usize,
    /// A file of PEM certificates that are trusted instead of the system's, for `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The [`Fetched::validator`] of the answer that is known, or an empty text when none is. When the answer to a `GET` is still that one,
    /// by its entity tag or by its bytes, it comes with status 304 and without a body. Unset: no validator is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
}

impl Default for Fetch {
    fn default() -> Self {
        Self {
            method: "GET".into(),
            url: String::new(),
            headers: Vec::new(),
            body: String::new(),
            timeout_ms: 10_000,
            most_bytes: 16 * 1024 * 1024,
            ca: None,
            known: None,
        }
    }
}

impl Fetch {
    /// A `GET` with the default limits: 10 seconds, 16 MiB.
    pub fn get(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ..Self::default()
        }
    }
}

/// The answer to a [`Fetch`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fetched {
    /// The status, whatever it is.
    pub status: u16,
    /// Header fields; names in lower case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The body. One that is not UTF-8 is a failure.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// What tells this answer from another, for [`Fetch::known`]. Only of an answer with status 200 or 304.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validator: Option<String>,
}

/// What tells two answers for one URL apart: the entity tag, where there is one, and a digest of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validator<'a> {
    /// Of the body, as whoever fetches makes it; without white space.
    pub digest: &'a str,
    /// As the server wrote it; empty: none.
    pub etag: &'a str,
}

impl<'a> Validator<'a> {
    /// Reads [`Validator::text`]. `None`: it is none.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (digest, etag) = text.split_once(' ')?;
        Some(Self { digest, etag })
    }

    /// As a text.
    pub fn text(&self) -> String {
        format!("{} {}", self.digest, self.etag)
    }
}

impl Fetched {
    /// A header field by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A number of a plugin that bootd shows as `bootd_plugin_events_total` or `bootd_plugin_value`, with the labels `plugin` and `name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    /// 1 to 64 of `a` to `z`, `0` to `9` and `_`. At most 64 metrics a plugin.
    pub name: String,
    /// What it counts.
    pub kind: MetricKind,
}

/// The kinds of a [`Metric`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// What a plugin can be told of as it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The inventory changed.
    Inventory,
    /// A client of the boot listener was answered.
    Http,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Events that were lost before this one, because nobody took them in time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// What happened, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Happening {
    /// [`EventKind::Inventory`].
    Inventory {
        /// Counts the changes since the start.
        generation: u64,
    },
    /// [`EventKind::Http`].
    Http {
        /// The client, after trusted proxies.
        peer: IpAddr,
        /// The method.
        method: String,
        /// The path, without the query.
        path: String,
        /// The answer's status.
        status: u16,
    },
}

impl Happening {
    /// Its kind.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Inventory { .. } => EventKind::Inventory,
            Self::Http { .. } => EventKind::Http,
        }
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_false(value: &bool) -> bool {
    !value
}

/// `text` with each URL that begins with a rewrite's `from` led to its `to`. A URL begins at the start of the text, or after anything that
/// cannot be within one: white space, `=`, `:` or `;` that ends a prefix such as `root=live:`, a quote or a comma. All else stays byte for byte.
/// Where several rewrites match, the longest `from` wins.
pub fn rewrite(text: &str, rewrites: &[Rewrite]) -> String {
    crate::lead::led(text, |_, rest| {
        let fits = |r: &&Rewrite| !r.from.is_empty() && rest.starts_with(r.from.as_str());
        let best = rewrites.iter().filter(fits).max_by_key(|r| r.from.len())?;
        Some((best.from.len(), best.to.clone()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_inside_kernel_arguments_are_led_here_and_the_rest_stays() {
        let rewrites = [
            Rewrite {
                from: "http://s3.site:9000/boot-images/".into(),
                to: "http://172.16.0.254:9000/boot-images/".into(),
            },
            Rewrite {
                from: "s3://boot-images/".into(),
                to: "http://172.16.0.254:9000/boot-images/".into(),
            },
        ];
        assert_eq!(
            rewrite(
                "ro  root=live:http://s3.site:9000/boot-images/a?b=s3://x/ x=s3://boot-images/k ds=nocloud;s=http://s3.site:9000/other/",
                &rewrites
            ),
            "ro  root=live:http://172.16.0.254:9000/boot-images/a?b=s3://x/ x=http://172.16.0.254:9000/boot-images/k ds=nocloud;s=http://s3.site:9000/other/",
        );
        assert_eq!(
            rewrite("http://evil/http://s3.site:9000/boot-images/", &rewrites),
            "http://evil/http://s3.site:9000/boot-images/"
        );
        assert_eq!(
            rewrite("größe s3://boot-images/ü", &rewrites),
            "größe http://172.16.0.254:9000/boot-images/ü"
        );
    }
}
