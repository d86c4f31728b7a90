//! A host for unit tests: runs a [`Plugin`] through the real border, with everything in memory.
//!
//! It takes each published row as it is (bootd's own validation is not here; [`FakeHost::refuse`] plays it), keeps what is said of health, and never sleeps for real:
//! [`FakeHost::sleeps`] says how many sleeps pass before `run` is told to stop, and only they move the boot clock. Fetches are answered by a
//! function of the test, events are those that the test sends.
#![allow(unsafe_code)]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::c_void;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bootd_abi as abi;

use crate::border::{Table, table};
use crate::mac::Mac;
use crate::text::{borrowed, empty, given, lent, taken};
use crate::wire::{
    self, Answer, Commit, Event, Fetch, Fetched, Happening, Health, Metric, MetricKind, Node, Publication, Query,
    Refusal, Report, Request, Setup, Validator,
};
use crate::{Error, Host, Plugin};

/// A host in memory. Each is leaked: the ABI promises its table for the process's life.
pub struct FakeHost {
    table: abi::Host,
    nodes: Mutex<Nodes>,
    health: Mutex<Health>,
    store: Mutex<BTreeMap<String, String>>,
    refused: Mutex<BTreeMap<String, String>>,
    answers: Mutex<Box<Answers>>,
    metrics: Mutex<Vec<(Metric, i64)>>,
    events: Mutex<VecDeque<Event>>,
    bumps: AtomicU64,
    sleeps: AtomicU64,
    /// Nanoseconds slept.
    slept: AtomicU64,
}

/// Nodes in the order in which they came, and where each is: tests publish tens of thousands one by one.
#[derive(Default)]
struct Nodes {
    rows: BTreeMap<u64, Node>,
    places: HashMap<String, u64>,
    next: u64,
}

impl Nodes {
    fn remove(&mut self, id: &str) {
        if let Some(place) = self.places.remove(id) {
            self.rows.remove(&place);
        }
    }

    fn put(&mut self, node: Node) {
        self.remove(&node.id);
        self.places.insert(node.id.clone(), self.next);
        self.rows.insert(self.next, node);
        self.next += 1;
    }
}

/// What answers fetches: an answer, or why there is none.
type Answers = dyn FnMut(&Fetch) -> Result<Fetched, String> + Send;

/// Why there is no instance: `init` said so.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct NotStarted {
    /// The configuration is to blame: bootd shows a mistake in bootd.toml.
    pub is_bad_argument: bool,
    /// The plugin's words.
    pub text: String,
}

/// A running instance of a plugin.
pub struct Instance {
    plugin: &'static abi::Plugin,
    instance: *mut c_void,
    /// What `init` said that it provides.
    pub setup: Setup,
}

impl FakeHost {
    /// A host with an empty inventory.
    pub fn new() -> &'static Self {
        let host = Box::into_raw(Box::new(Self {
            table: abi::Host {
                magic: abi::MAGIC,
                major: abi::MAJOR,
                minor: abi::MINOR,
                size: std::mem::size_of::<abi::Host>(),
                ctx: std::ptr::null(),
                log_enabled: Some(log_enabled),
                log: Some(log),
                now_unix_ns: Some(now),
                now_boot_ns: Some(now_boot),
                sleep: Some(sleep),
                publish: Some(publish),
                nodes: Some(nodes),
                bump: Some(bump),
                health: Some(health),
                store_get: Some(store_get),
                store_scan: Some(store_scan),
                store_commit: Some(store_commit),
                fetch: Some(fetch),
                metric: Some(metric),
                metric_add: Some(metric_add),
                metric_set: Some(metric_set),
                event: Some(event),
            },
            nodes: Mutex::default(),
            health: Mutex::default(),
            store: Mutex::default(),
            refused: Mutex::default(),
            answers: Mutex::new(Box::new(|fetch| Err(format!("{} is not there", fetch.url)))),
            metrics: Mutex::default(),
            events: Mutex::default(),
            bumps: AtomicU64::new(0),
            sleeps: AtomicU64::new(0),
            slept: AtomicU64::new(0),
        }));
        // SAFETY: just made and not shared yet; never freed.
        unsafe {
            (*host).table.ctx = host.cast_const().cast();
            &*host
        }
    }

    /// Starts a plugin with this `config` table, in local mode.
    pub fn start<P: Plugin>(&'static self, config: serde_json::Value) -> Result<Instance, NotStarted> {
        self.start_in::<P>("local", config)
    }

    /// Starts a plugin with this `config` table, in any mode.
    pub fn start_in<P: Plugin>(&'static self, mode: &str, config: serde_json::Value) -> Result<Instance, NotStarted> {
        let plugin = Box::leak::<'static>(Box::new(table::<P>("0"))) as &'static Table;
        let plugin = plugin.plugin();
        let configuration = wire::Configuration {
            mode: mode.into(),
            config,
            folder: String::new(),
            server: wire::Server {
                address: "172.16.0.254".into(),
                boot_url: "http://172.16.0.254:8081".into(),
            },
        };
        let failed = |text: String| NotStarted {
            is_bad_argument: false,
            text,
        };
        let text = serde_json::to_string(&configuration).map_err(|error| failed(error.to_string()))?;
        let (mut instance, mut out) = (std::ptr::null_mut(), empty());
        let init = plugin.init.ok_or_else(|| failed("no init".into()))?;
        // SAFETY: called as the ABI says; the table is leaked.
        let status = unsafe { init(&raw const self.table, borrowed(&text), &raw mut instance, &raw mut out) };
        // SAFETY: the plugin gave it, or nobody wrote to it.
        let text = unsafe { taken(out, usize::MAX) }.unwrap_or_default();
        if status != abi::status::OK {
            let is_bad_argument = status == abi::status::BAD_ARGUMENT;
            return Err(NotStarted { is_bad_argument, text });
        }
        Ok(Instance {
            plugin,
            instance,
            setup: serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?,
        })
    }

    /// The host as a plugin's parts see it.
    pub fn host(&'static self) -> Host {
        // SAFETY: the table is leaked with its host.
        unsafe { Host::new(&raw const self.table) }
    }

    /// What is published, in order.
    pub fn published(&self) -> Vec<Node> {
        lock(&self.nodes).rows.values().cloned().collect()
    }

    /// Refuses rows with this id from now on, as bootd's validation would.
    pub fn refuse(&self, id: &str, reason: &str) {
        lock(&self.refused).insert(id.into(), reason.into());
    }

    /// Takes rows with this id again.
    pub fn accept(&self, id: &str) {
        lock(&self.refused).remove(id);
    }

    /// What the plugin's store has, but for what the SDK keeps of a site.
    pub fn stored(&self) -> BTreeMap<String, String> {
        let mut stored = lock(&self.store).clone();
        stored.remove(crate::upstream::KEY);
        stored
    }

    /// Puts a row into the plugin's store, as another version of it may have.
    pub fn store(&self, key: &str, text: &str) {
        lock(&self.store).insert(key.into(), text.into());
    }

    /// Puts nodes into the inventory, as another plugin would.
    pub fn set_nodes(&self, nodes: Vec<Node>) {
        let mut inventory = lock(&self.nodes);
        *inventory = Nodes::default();
        nodes.into_iter().for_each(|node| inventory.put(node));
    }

    /// What the plugin last said of itself.
    pub fn health(&self) -> Health {
        lock(&self.health).clone()
    }

    /// How often the plugin bumped.
    pub fn bumps(&self) -> u64 {
        self.bumps.load(Ordering::SeqCst)
    }

    /// What answers fetches from now on: an answer, or why there is none. Until then there is none.
    pub fn answer_fetches(&self, answers: impl FnMut(&Fetch) -> Result<Fetched, String> + Send + 'static) {
        *lock(&self.answers) = Box::new(answers);
    }

    /// The value of a metric; `None`: it was not declared.
    pub fn metric(&self, name: &str) -> Option<i64> {
        let metrics = lock(&self.metrics);
        metrics
            .iter()
            .find(|(metric, _)| metric.name == name)
            .map(|(_, value)| *value)
    }

    /// Something happens. The plugin sees it whether its `init` asked for this kind or not.
    pub fn happens(&self, what: Happening) {
        lock(&self.events).push_back(Event { lost: 0, what });
    }

    /// How many sleeps of `run` pass, at once, before it is told to stop.
    pub fn sleeps(&self, count: u64) {
        self.sleeps.store(count, Ordering::SeqCst);
    }
}

// SAFETY: the ABI promises that an instance may be called from any thread, and several calls at once.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

impl Instance {
    /// Runs the background work on this thread until it is told to stop.
    pub fn run(&self) -> bool {
        // SAFETY: called as the ABI says.
        self.plugin
            .run
            .is_some_and(|run| unsafe { run(self.instance) } == abi::status::OK)
    }

    /// Sends a request; a panic of the plugin is an error with its text.
    pub fn handle(&self, request: &Request) -> Result<Answer, Error> {
        let text = serde_json::to_string(request)?;
        let mut out = empty();
        let handle = self.plugin.handle.ok_or("no handle")?;
        // SAFETY: called as the ABI says.
        let status = unsafe { handle(self.instance, borrowed(&text), &raw mut out) };
        // SAFETY: the plugin gave it, or nobody wrote to it.
        let text = unsafe { taken(out, usize::MAX) }.unwrap_or_default();
        if status != abi::status::OK {
            return Err(text.into());
        }
        Ok(serde_json::from_str(&text)?)
    }

    /// Sends a `GET` for a path with an optional query.
    pub fn get(&self, path: &str, node: Option<Node>) -> Result<Answer, Error> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let peer = node
            .as_ref()
            .and_then(|n| n.interfaces.first()?.ips.first().map(|ip| ip.ip));
        self.handle(&Request {
            method: "GET".into(),
            path: path.into(),
            query: query.into(),
            scheme: "http".into(),
            host: "172.16.0.254:8081".into(),
            listener: "0.0.0.0:8081".into(),
            leads_here: true,
            peer,
            node,
            ..Request::default()
        })
    }

    /// Asks for a MAC.
    pub fn resolve(&self, mac: Mac) -> Option<Node> {
        let (text, mut out) = (mac.to_string(), empty());
        // SAFETY: called as the ABI says.
        let status = unsafe { self.plugin.resolve?(self.instance, borrowed(&text), &raw mut out) };
        // SAFETY: the plugin gave it, or nobody wrote to it.
        let text = unsafe { taken(out, usize::MAX) }.unwrap_or_default();
        if status == abi::status::OK {
            serde_json::from_str(&text).ok()
        } else {
            None
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(free) = self.plugin.free {
            // SAFETY: what `init` made, freed once.
            unsafe { free(self.instance) }
        }
    }
}

/// Feeds `count` mutations of these texts to a function: bytes and lines changed, cut out, repeated and moved. The same ones each time.
pub fn mutations(seeds: &[Vec<u8>], count: u32, mut feed: impl FnMut(&str)) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap_or(0) % below.max(1)
    };
    let tokens: [&[u8]; 12] = [
        b"[",
        b"]",
        b"{",
        b"}",
        b": ",
        b"- ",
        b"\n",
        b"&a ",
        b"*a",
        b"<<: ",
        b"\"",
        b"\xc3\xa9",
    ];
    for _ in 0..count {
        let mut text = seeds[random(seeds.len())].clone();
        for _ in 0..=random(6) {
            let (at, length) = (random(text.len()), random(24));
            let end = (at + length).min(text.len());
            match random(5) {
                0 if !text.is_empty() => text[at] = u8::try_from(random(128)).unwrap_or(0),
                1 => drop(text.drain(at..end)),
                2 => drop(text.splice(at..at, text[at..end].to_vec())),
                3 => drop(text.splice(at..at, tokens[random(tokens.len())].iter().copied())),
                _ => text.truncate(text.len() - random(text.len()) / 8),
            }
        }
        feed(&String::from_utf8_lossy(&text));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// # Safety
/// `ctx` is the `ctx` of a [`FakeHost`]'s table.
unsafe fn this(ctx: *const c_void) -> &'static FakeHost {
    // SAFETY: the caller's promise; fake hosts are leaked.
    unsafe { &*ctx.cast::<FakeHost>() }
}

unsafe extern "C" fn log_enabled(_: *const c_void, _: u32) -> u8 {
    0
}

unsafe extern "C" fn log(_: *const c_void, _: u32, _: abi::Str, _: abi::Str, _: abi::Str) {}

unsafe extern "C" fn now(_: *const c_void) -> u64 {
    1_700_000_000_000_000_000
}

unsafe extern "C" fn now_boot(ctx: *const c_void) -> u64 {
    // SAFETY: called through the table.
    unsafe { this(ctx) }.slept.load(Ordering::SeqCst)
}

unsafe extern "C" fn sleep(ctx: *const c_void, time_ns: u64) -> abi::Status {
    // SAFETY: called through the table.
    let host = unsafe { this(ctx) };
    host.slept.fetch_add(time_ns, Ordering::SeqCst);
    let left = host
        .sleeps
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    if left.is_ok() {
        abi::status::OK
    } else {
        abi::status::STOPPING
    }
}

unsafe extern "C" fn publish(ctx: *const c_void, publication: abi::Str, out: *mut abi::Buf) -> abi::Status {
    // SAFETY: called through the table, with a lent text.
    let (host, text) = unsafe { (this(ctx), lent(publication).unwrap_or_default()) };
    let Ok(publication) = serde_json::from_str::<Publication>(text) else {
        return abi::status::BAD_ARGUMENT;
    };
    let mut report = Report::default();
    let mut rows = Vec::new();
    for (row, value) in publication.nodes.into_iter().enumerate() {
        let id = value["id"].as_str().unwrap_or_default().to_owned();
        if let Some(reason) = lock(&host.refused).get(&id).cloned() {
            report.refused.push(Refusal { row, id, reason });
            continue;
        }
        match serde_json::from_value::<Node>(value) {
            Ok(node) => rows.push(node),
            Err(error) => report.refused.push(Refusal {
                row,
                id,
                reason: error.to_string(),
            }),
        }
    }
    report.accepted = rows.len();
    if !publication.dry_run {
        let mut nodes = lock(&host.nodes);
        if publication.full {
            *nodes = Nodes::default();
        }
        publication.gone.iter().for_each(|id| nodes.remove(id));
        rows.into_iter().for_each(|node| nodes.put(node));
    }
    // SAFETY: the plugin passes a place for a buffer.
    unsafe { *out = given(serde_json::to_string(&report).unwrap_or_default()) };
    abi::status::OK
}

unsafe extern "C" fn nodes(ctx: *const c_void, query: abi::Str, out: *mut abi::Buf) -> abi::Status {
    // SAFETY: called through the table, with a lent text.
    let (host, text) = unsafe { (this(ctx), lent(query).unwrap_or_default()) };
    let Ok(query) = serde_json::from_str::<Query>(text) else {
        return abi::status::BAD_ARGUMENT;
    };
    let found: Vec<Node> = lock(&host.nodes)
        .rows
        .values()
        .filter(|node| matches(node, &query))
        .cloned()
        .collect();
    // SAFETY: the plugin passes a place for a buffer.
    unsafe { *out = given(serde_json::to_string(&found).unwrap_or_default()) };
    abi::status::OK
}

fn matches(node: &Node, query: &Query) -> bool {
    query.mac.is_none_or(|mac| node.interfaces.iter().any(|i| i.mac == mac))
        && query
            .ip
            .is_none_or(|ip| node.interfaces.iter().any(|i| i.ips.iter().any(|a| a.ip == ip)))
        && query.id.as_ref().is_none_or(|id| node.id == *id)
        && query.nid.is_none_or(|nid| node.nid == Some(nid))
        && query.group.as_ref().is_none_or(|group| node.groups.contains(group))
}

unsafe extern "C" fn bump(ctx: *const c_void) {
    // SAFETY: called through the table.
    unsafe { this(ctx) }.bumps.fetch_add(1, Ordering::SeqCst);
}

unsafe extern "C" fn health(ctx: *const c_void, health: abi::Str) -> abi::Status {
    // SAFETY: called through the table, with a lent text.
    let (host, text) = unsafe { (this(ctx), lent(health).unwrap_or_default()) };
    let Ok(health) = serde_json::from_str(text) else {
        return abi::status::BAD_ARGUMENT;
    };
    *lock(&host.health) = health;
    abi::status::OK
}

unsafe extern "C" fn store_get(ctx: *const c_void, key: abi::Str, out: *mut abi::Buf) -> abi::Status {
    // SAFETY: called through the table, with a lent text.
    let (host, key) = unsafe { (this(ctx), lent(key).unwrap_or_default()) };
    let Some(value) = lock(&host.store).get(key).cloned() else {
        return abi::status::NONE;
    };
    // SAFETY: the plugin passes a place for a buffer.
    unsafe { *out = given(value) };
    abi::status::OK
}

unsafe extern "C" fn store_scan(ctx: *const c_void, prefix: abi::Str, out: *mut abi::Buf) -> abi::Status {
    // SAFETY: called through the table, with a lent text.
    let (host, prefix) = unsafe { (this(ctx), lent(prefix).unwrap_or_default()) };
    let found: BTreeMap<_, _> = lock(&host.store)
        .iter()
        .filter(|(k, _)| k.starts_with(prefix))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    // SAFETY: the plugin passes a place for a buffer.
    unsafe { *out = given(serde_json::to_string(&found).unwrap_or_default()) };
    abi::status::OK
}

unsafe extern "C" fn store_commit(ctx: *const c_void, commit: abi::Str, _: *mut abi::Buf) -> abi::Status {
    // SAFETY: called through the table, with a lent text.
    let (host, text) = unsafe { (this(ctx), lent(commit).unwrap_or_default()) };
    let Ok(commit) = serde_json::from_str::<Commit>(text) else {
        return abi::status::BAD_ARGUMENT;
    };
    let mut store = lock(&host.store);
    if commit
        .expect
        .iter()
        .any(|(key, value)| store.get(key) != value.as_ref())
    {
        return abi::status::NONE;
    }
    store.extend(commit.put);
    for key in &commit.delete {
        store.remove(key);
    }
    abi::status::OK
}

unsafe extern "C" fn fetch(ctx: *const c_void, request: abi::Str, out: *mut abi::Buf) -> abi::Status {
    // SAFETY: called through the table, with a lent text.
    let (host, text) = unsafe { (this(ctx), lent(request).unwrap_or_default()) };
    let Ok(request) = serde_json::from_str::<Fetch>(text) else {
        return abi::status::BAD_ARGUMENT;
    };
    let (status, text) = match (lock(&host.answers))(&request) {
        Ok(fetched) => {
            let fetched = validated(&request, fetched);
            (abi::status::OK, serde_json::to_string(&fetched).unwrap_or_default())
        }
        Err(text) => (abi::status::FAILED, text),
    };
    // SAFETY: the plugin passes a place for a buffer.
    unsafe { *out = given(text) };
    status
}

/// What bootd makes of an answer for whoever knows an earlier one.
fn validated(request: &Fetch, mut fetched: Fetched) -> Fetched {
    let Some(known) = &request.known else { return fetched };
    match fetched.status {
        200 => {
            let mut hasher = DefaultHasher::new();
            fetched.body.hash(&mut hasher);
            let (digest, etag) = (hasher.finish().to_string(), fetched.header("etag").unwrap_or_default());
            let validator = Validator { digest: &digest, etag };
            let text = validator.text();
            if Validator::parse(known).is_some_and(|known| known.digest == digest) {
                (fetched.status, fetched.body) = (304, String::new());
            }
            fetched.validator = Some(text);
        }
        304 => fetched.validator = Some(known.clone()),
        _ => {}
    }
    fetched
}

unsafe extern "C" fn metric(ctx: *const c_void, declaration: abi::Str, id: *mut u64) -> abi::Status {
    // SAFETY: called through the table, with a lent text.
    let (host, text) = unsafe { (this(ctx), lent(declaration).unwrap_or_default()) };
    let Ok(declared) = serde_json::from_str::<Metric>(text) else {
        return abi::status::BAD_ARGUMENT;
    };
    let mut metrics = lock(&host.metrics);
    let at = metrics.iter().position(|(metric, _)| metric.name == declared.name);
    let at = at.unwrap_or_else(|| {
        metrics.push((declared, 0));
        metrics.len() - 1
    });
    // SAFETY: the plugin passes a place for the id.
    unsafe { *id = at as u64 };
    abi::status::OK
}

unsafe extern "C" fn metric_add(ctx: *const c_void, id: u64, by: i64) -> abi::Status {
    // SAFETY: called through the table.
    change(unsafe { this(ctx) }, id, |kind, value| {
        (kind == MetricKind::Gauge || by >= 0).then(|| *value += by)
    })
}

unsafe extern "C" fn metric_set(ctx: *const c_void, id: u64, to: i64) -> abi::Status {
    // SAFETY: called through the table.
    change(unsafe { this(ctx) }, id, |kind, value| {
        (kind == MetricKind::Gauge).then(|| *value = to)
    })
}

fn change(host: &FakeHost, id: u64, f: impl FnOnce(MetricKind, &mut i64) -> Option<()>) -> abi::Status {
    let mut metrics = lock(&host.metrics);
    let metric = usize::try_from(id).ok().and_then(|at| metrics.get_mut(at));
    match metric.and_then(|(metric, value)| f(metric.kind, value)) {
        Some(()) => abi::status::OK,
        None => abi::status::BAD_ARGUMENT,
    }
}

unsafe extern "C" fn event(ctx: *const c_void, timeout_ns: u64, out: *mut abi::Buf) -> abi::Status {
    // SAFETY: called through the table.
    let next = lock(&unsafe { this(ctx) }.events).pop_front();
    match next {
        Some(event) => {
            // SAFETY: the plugin passes a place for a buffer.
            unsafe { *out = given(serde_json::to_string(&event).unwrap_or_default()) };
            abi::status::OK
        }
        // Waiting is a sleep, which may be the last one.
        // SAFETY: called through the table.
        None => match unsafe { sleep(ctx, timeout_ns) } {
            abi::status::OK => abi::status::NONE,
            stopping => stopping,
        },
    }
}
