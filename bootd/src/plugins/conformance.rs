//! `bootd plugins check`: whether a plugin file keeps the contract of `plugins/abi`.
//!
//! Loads the file as bootd would, gives it the host's real services with nothing behind them (an empty inventory, a store that forgets), and
//! goes through its life once: `init` with a configuration that is none and with the right one, requests and look-ups good and bad, two at
//! a time, a second instance beside the first, the end. Each finding is told as it is made. Calls have deadlines; a crash is the caller's to
//! catch, who runs this in a process of its own.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bootd_abi as abi;
use bootd_sdk::text::{borrowed, empty, lent, taken};
use bootd_sdk::wire::{Answer, Configuration, Node, Request, Route, Setup};
use object::{Object, ObjectSymbol};

use super::instance::MOST_ANSWER;
use super::loader::{self, Loaded};
use super::routes::Routes;
use super::services::{Registered, Shared, bare_table};
use super::{Core, locked};
use crate::inventory::{Inventory, ServedSubnets};

/// How long `init` may take, as in bootd.
const INIT: Duration = Duration::from_secs(10);
/// How long a request may take: the default of `http.plugin_deadline`.
const HANDLE: Duration = Duration::from_secs(5);
/// How long a look-up may take, as in bootd.
const RESOLVE: Duration = Duration::from_secs(1);
/// How long `run` may take to return, as in bootd.
const STOP: Duration = Duration::from_secs(2);
/// Requests at once, and how many each of them is.
const AT_ONCE: (usize, usize) = (2, 8);

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As the contract says.
    Good,
    /// Allowed, and worth a look.
    Note,
    /// Against the contract.
    Bad,
}

/// Goes through a plugin's life and tells each finding: the verdict, what was looked at, what was seen. Gives the number of bad ones.
pub fn check(file: &Path, configuration: &Configuration, tell: impl FnMut(Verdict, &str, &str)) -> usize {
    let mut script = Script { tell, bad: 0 };
    // The rest makes no sense without an instance.
    let _ = script.run(file, configuration);
    script.bad
}

struct Script<T> {
    tell: T,
    bad: usize,
}

/// An instance, and the host that it has.
struct Made {
    plugin: &'static abi::Plugin,
    pointer: Pointer,
    services: Registered,
    setup: Setup,
    run: Option<Receiver<abi::Status>>,
}

#[derive(Clone, Copy)]
struct Pointer(*mut c_void);

// SAFETY: the ABI says that an instance's functions may be called from several threads at once.
unsafe impl Send for Pointer {}

/// A status and the text that came with it. `None`: the call did not return in time.
type Called = Option<(abi::Status, String)>;

impl<T: FnMut(Verdict, &str, &str)> Script<T> {
    fn run(&mut self, file: &Path, configuration: &Configuration) -> Option<()> {
        let loaded = match loader::load(file, None) {
            Ok(loaded) => loaded,
            Err(error) => return self.fatal("file", &error.to_string()),
        };
        self.good(
            "file",
            "owner and mode are safe, it is whole, it has the entry symbol, its table is one",
        );
        self.exports(file);
        self.table(&loaded);
        let plugin = loaded.table;
        let shared = shared(plugin)?;
        self.garbage_configurations(plugin, &shared, configuration);

        let text = serde_json::to_string(configuration).ok()?;
        let mut first = self.make("init", plugin, &shared, text.clone().into_bytes())?;
        self.setup(&first);
        first.start_run();
        self.requests(&first);
        self.look_ups(&first);

        let mut second = self.make("a second instance beside the first", plugin, &shared, text.into_bytes())?;
        second.start_run();
        for (what, made) in [
            ("the second instance answers", &second),
            ("the first one still does", &first),
        ] {
            if let Some(route) = made.setup.routes.iter().find(|route| route.method == "GET") {
                self.request(what, made, route);
            }
        }
        self.end("the end of the second instance", second)?;
        self.end("the end of the first instance", first)?;

        let health = shared.health();
        for mistake in &health.mistakes {
            self.note("health", &mistake.to_string());
        }
        let held = locked(&HELD);
        match (held.given.len(), held.twice) {
            (0, 0) => self.good("buffers of the host", &format!("all {} were released once", held.next)),
            (kept, twice) => self.bad(
                "buffers of the host",
                &format!(
                    "of {}, {kept} were never released and {twice} more than once",
                    held.next
                ),
            ),
        }
        Some(())
    }

    /// The symbols that others could bind to.
    fn exports(&mut self, file: &Path) {
        let bytes = std::fs::read(file).unwrap_or_default();
        let names: Vec<String> = match object::File::parse(&*bytes) {
            Ok(file) => file
                .dynamic_symbols()
                .filter(|symbol| symbol.is_definition() && symbol.is_global())
                .filter_map(|symbol| Some(symbol.name().ok()?.to_owned()))
                .collect(),
            Err(error) => return self.note("exports", &error.to_string()),
        };
        if names == [abi::ENTRY_SYMBOL] {
            self.good("exports", "one symbol, the entry function");
        } else {
            self.note(
                "exports",
                &format!("more than the entry function: {}", names.join(", ")),
            );
        }
    }

    fn table(&mut self, loaded: &Loaded) {
        let plugin = loaded.table;
        self.good(
            "table",
            &format!(
                "ABI {}.{}, {} bytes (this bootd: {}.{})",
                plugin.major,
                plugin.minor,
                plugin.size,
                abi::MAJOR,
                abi::MINOR
            ),
        );
        // SAFETY: the ABI promises both texts for the process's life.
        let texts = unsafe { [("name", lent(plugin.name)), ("version", lent(plugin.version))] };
        for (what, text) in texts {
            match text {
                Some(text) if !text.is_empty() => self.good(what, text),
                Some(_) => self.note(what, "it is empty"),
                None => self.bad(what, "it is not UTF-8"),
            }
        }
        let asked = |host: &abi::Host| {
            // SAFETY: the entry function has no side effects and reads only the head of the table it is shown.
            unsafe { (loaded.entry)(host) }
        };
        let other_major = abi::Host {
            major: abi::MAJOR + 1,
            ..bare_table()
        };
        if std::ptr::eq(asked(&bare_table()), plugin) && std::ptr::eq(asked(&bare_table()), plugin) {
            self.good("entry", "gives the same table each time");
        } else {
            self.bad(
                "entry",
                "gives another table at the next call; it must be one, valid for the process's life",
            );
        }
        if !asked(&other_major).is_null() {
            self.note("entry", "does not refuse a host of another major version");
        }
        let functions = [
            ("run", plugin.run.is_some()),
            ("handle", plugin.handle.is_some()),
            ("resolve", plugin.resolve.is_some()),
            ("free", plugin.free.is_some()),
        ];
        let missing: Vec<&str> = functions
            .iter()
            .filter(|(_, there)| !there)
            .map(|(name, _)| *name)
            .collect();
        if !missing.is_empty() {
            self.note(
                "functions",
                &format!("without {}, which is allowed", missing.join(", ")),
            );
        }
    }

    /// `init` refuses what it cannot read, with a reason; it does not panic.
    fn garbage_configurations(&mut self, plugin: &'static abi::Plugin, shared: &Arc<Shared>, good: &Configuration) {
        let other_mode = Configuration {
            mode: "no-such-mode".into(),
            ..good.clone()
        };
        let wrong_settings = Configuration {
            config: serde_json::json!([1, 2]),
            ..good.clone()
        };
        let text = |configuration| serde_json::to_string(configuration).unwrap_or_default().into_bytes();
        for (what, config, must_refuse) in [
            ("init with nothing", Vec::new(), true),
            ("init with no JSON", b"{\"config\":".to_vec(), true),
            ("init with no UTF-8", b"{\"mode\":\"\xff\xfe\"}".to_vec(), true),
            ("init with settings of another type", text(&wrong_settings), false),
            ("init with an unknown mode", text(&other_mode), false),
        ] {
            let services = Registered::new(shared);
            let Some((status, said, pointer)) = init(plugin, &services, config) else {
                self.bad(what, "it did not return in time");
                continue;
            };
            match status {
                abi::status::OK => {
                    let seen = "it takes it: settings that it does not read cannot be wrong";
                    match must_refuse {
                        true => self.bad(what, "it says OK; BAD_ARGUMENT is for what cannot be read"),
                        false => self.note(what, seen),
                    }
                    services.stop();
                    if let Some(free) = plugin.free {
                        // SAFETY: what `init` just made; nothing else was called on it.
                        unsafe { free(pointer.0) };
                    }
                }
                abi::status::BAD_ARGUMENT | abi::status::FAILED if said.is_empty() => {
                    self.bad(what, &format!("{}, but without a reason", name(status)));
                }
                abi::status::BAD_ARGUMENT | abi::status::FAILED => {
                    self.good(what, &format!("{}: {said}", name(status)))
                }
                other => self.bad(what, &format!("{}: {said}", name(other))),
            }
        }
    }

    fn make(
        &mut self,
        what: &str,
        plugin: &'static abi::Plugin,
        shared: &Arc<Shared>,
        config: Vec<u8>,
    ) -> Option<Made> {
        let services = Registered::new(shared);
        let begun = Instant::now();
        let Some((status, text, pointer)) = init(plugin, &services, config) else {
            return self.fatal(what, &format!("it did not return within {INIT:?}"));
        };
        if status != abi::status::OK {
            return self.fatal(
                what,
                &format!(
                    "{}: {text} (is its configuration right? see --config and --set)",
                    name(status)
                ),
            );
        }
        let setup: Setup = match serde_json::from_str(&text) {
            Ok(setup) => setup,
            Err(error) => return self.fatal(what, &format!("its setup is not understood: {error}: {text}")),
        };
        services.subscribe(&setup.events);
        self.good(what, &format!("OK after {:.1?}", begun.elapsed()));
        Some(Made {
            plugin,
            pointer,
            services,
            setup,
            run: None,
        })
    }

    fn setup(&mut self, made: &Made) {
        match Routes::default().add(0, "it", &made.setup.routes) {
            Ok(()) => {
                let routes: Vec<String> = made
                    .setup
                    .routes
                    .iter()
                    .map(|route| format!("{} {}", route.method, route.prefix))
                    .collect();
                self.good("routes", &format!("{}: {}", routes.len(), routes.join(", ")));
            }
            Err(error) => self.bad("routes", &error.to_string()),
        }
        if !made.setup.routes.is_empty() && made.plugin.handle.is_none() {
            self.bad("routes", "there is no handle to answer them");
        }
        if made.setup.provides_nodes && made.plugin.resolve.is_none() {
            self.note(
                "nodes",
                "it publishes nodes and looks none up: a node just added is found at its next publication",
            );
        }
    }

    fn requests(&mut self, made: &Made) {
        for route in &made.setup.routes {
            self.request(&format!("{} {}", route.method, route.prefix), made, route);
        }
        let Some(route) = made.setup.routes.iter().find(|route| route.method == "GET") else {
            return;
        };
        for (what, bytes) in [
            ("a request that is nothing", &b""[..]),
            ("a request that is no JSON", b"GET / HTTP/1.1"),
            ("a request that is no UTF-8", b"\xff\xfe{}"),
        ] {
            match made.handle(bytes.to_vec()).recv_timeout(HANDLE).ok() {
                None => self.bad(what, "no answer in time"),
                Some((status, text)) if status < 0 && status != abi::status::PANICKED => {
                    self.good(what, &format!("{}: {text}", name(status)));
                }
                Some((status, text)) => self.bad(what, &format!("{} instead of BAD_ARGUMENT: {text}", name(status))),
            }
        }
        let text = serde_json::to_vec(&request(route)).unwrap_or_default();
        let begun = Instant::now();
        let (threads, each) = AT_ONCE;
        let mut wrong = None;
        for _ in 0..each {
            let waiting: Vec<_> = (0..threads).map(|_| made.handle(text.clone())).collect();
            for wait in waiting {
                wrong = answer(wait.recv_timeout(HANDLE).ok()).err().or(wrong);
            }
        }
        match wrong {
            None => self.good(
                "two requests at once",
                &format!("{} answers in {:.1?}", threads * each, begun.elapsed()),
            ),
            Some(text) => self.bad("two requests at once", &text),
        }
    }

    fn request(&mut self, what: &str, made: &Made, route: &Route) {
        let text = serde_json::to_vec(&request(route)).unwrap_or_default();
        let begun = Instant::now();
        match answer(made.handle(text).recv_timeout(HANDLE).ok()) {
            Ok(answer) => {
                let kept = if answer.keep { ", may be kept" } else { "" };
                self.good(
                    what,
                    &format!("status {} after {:.1?}{kept}", answer.status, begun.elapsed()),
                );
            }
            Err(text) => self.bad(what, &text),
        }
    }

    fn look_ups(&mut self, made: &Made) {
        if made.plugin.resolve.is_none() || !made.setup.provides_nodes {
            return;
        }
        const UNKNOWN: &str = "a look-up of an unknown MAC";
        match made.resolve("02:00:5e:00:53:99") {
            Some((abi::status::NONE, _)) => self.good(UNKNOWN, "NONE"),
            Some((abi::status::OK, text)) => match serde_json::from_str::<Node>(&text) {
                Ok(node) => self.note(UNKNOWN, &format!("it knows it: {}", node.id)),
                Err(error) => self.bad(UNKNOWN, &format!("its node is not understood: {error}")),
            },
            Some((status, text)) => self.bad(UNKNOWN, &format!("{}: {text}", name(status))),
            None => self.bad(UNKNOWN, &format!("no answer within {RESOLVE:?}")),
        }
        const NONE: &str = "a look-up of what is no MAC";
        match made.resolve("no mac") {
            Some((abi::status::PANICKED, text)) => self.bad(NONE, &text),
            Some((abi::status::OK, text)) => self.bad(NONE, &format!("it found one: {text}")),
            Some((status, _)) => self.good(NONE, &name(status)),
            None => self.bad(NONE, &format!("no answer within {RESOLVE:?}")),
        }
    }

    /// Ends an instance as bootd does: tells it, waits for `run`, frees it.
    fn end(&mut self, what: &str, made: Made) -> Option<()> {
        made.services.stop();
        let begun = Instant::now();
        if let Some(run) = &made.run {
            match run.recv_timeout(STOP) {
                Ok(abi::status::OK | abi::status::STOPPING) => {}
                Ok(status) => self.bad(what, &format!("run returned {}", name(status))),
                // It cannot be freed, and the rest would not be what bootd does.
                Err(_) => return self.fatal(what, &format!("run did not return within {STOP:?} of STOPPING")),
            }
        }
        let (pointer, free) = (made.pointer, made.plugin.free);
        let freed = call(move |_| {
            let pointer = pointer;
            if let Some(free) = free {
                // SAFETY: what `init` made; `run` returned and no call is under way.
                unsafe { free(pointer.0) };
            }
            abi::status::OK
        });
        match freed.recv_timeout(STOP) {
            Ok(_) => self.good(
                what,
                &format!("run returned and it is freed after {:.1?}", begun.elapsed()),
            ),
            Err(_) => self.bad(what, &format!("free did not return within {STOP:?}")),
        }
        Some(())
    }

    fn good(&mut self, what: &str, seen: &str) {
        (self.tell)(Verdict::Good, what, seen);
    }

    fn note(&mut self, what: &str, seen: &str) {
        (self.tell)(Verdict::Note, what, seen);
    }

    fn bad(&mut self, what: &str, seen: &str) {
        self.bad += 1;
        (self.tell)(Verdict::Bad, what, seen);
    }

    /// Bad, and the end of the script.
    fn fatal<N>(&mut self, what: &str, seen: &str) -> Option<N> {
        self.bad(what, seen);
        None
    }
}

impl Made {
    fn start_run(&mut self) {
        let Some(run) = self.plugin.run else { return };
        let (done, wait) = sync_channel(1);
        let pointer = self.pointer;
        std::thread::spawn(move || {
            let pointer = pointer;
            // SAFETY: what `init` made; `run` is called once.
            let _ = done.send(unsafe { run(pointer.0) });
        });
        self.run = Some(wait);
    }

    fn handle(&self, request: Vec<u8>) -> Receiver<(abi::Status, String)> {
        let (pointer, handle) = (self.pointer, self.plugin.handle);
        call(move |out| {
            let pointer = pointer;
            // SAFETY: what `init` made; the request lives until the call returns.
            handle.map_or(abi::status::FAILED, |handle| unsafe {
                handle(pointer.0, str_of(&request), out)
            })
        })
    }

    fn resolve(&self, mac: &'static str) -> Called {
        let (pointer, resolve) = (self.pointer, self.plugin.resolve?);
        let wait = call(move |out| {
            let pointer = pointer;
            // SAFETY: what `init` made; the text is a constant.
            unsafe { resolve(pointer.0, borrowed(mac), out) }
        });
        wait.recv_timeout(RESOLVE).ok()
    }
}

/// What bootd has for its plugins, with nothing in it.
fn shared(plugin: &'static abi::Plugin) -> Option<Arc<Shared>> {
    // SAFETY: the ABI promises the text for the process's life.
    let name = unsafe { lent(plugin.name) }
        .filter(|name| !name.is_empty())
        .unwrap_or("plugin");
    let metrics = Arc::default();
    let inventory = Inventory::new(&[name.to_owned()], ServedSubnets::default(), None, Arc::clone(&metrics)).ok()?;
    Some(Shared::new(name, Core::new(Arc::new(inventory), None, metrics)))
}

fn init(
    plugin: &'static abi::Plugin,
    services: &Registered,
    config: Vec<u8>,
) -> Option<(abi::Status, String, Pointer)> {
    let (init, host) = (plugin.init?, counting(services.table()));
    let made = Arc::new(Mutex::new(Pointer(std::ptr::null_mut())));
    let wait = call({
        let made = Arc::clone(&made);
        move |out| {
            let mut pointer = std::ptr::null_mut();
            // SAFETY: the table was checked by the loader; the host's table is leaked; the text lives until the call returns.
            let status = unsafe { init(host, str_of(&config), &raw mut pointer, out) };
            *locked(&made) = Pointer(pointer);
            status
        }
    });
    let (status, text) = wait.recv_timeout(INIT).ok()?;
    let pointer = *locked(&made);
    Some((status, text, pointer))
}

/// Calls on a thread of its own, as bootd does: what hangs there is left behind.
fn call(f: impl FnOnce(*mut abi::Buf) -> abi::Status + Send + 'static) -> Receiver<(abi::Status, String)> {
    let (done, wait) = sync_channel(1);
    std::thread::spawn(move || {
        let mut out = empty();
        let status = f(&raw mut out);
        // SAFETY: the plugin gave it, or nobody wrote to it.
        let text = unsafe { taken(out, MOST_ANSWER) };
        let _ = done.send((status, text.unwrap_or_else(|| format!("more than {MOST_ANSWER} bytes"))));
    });
    wait
}

fn str_of(bytes: &[u8]) -> abi::Str {
    abi::Str {
        ptr: bytes.as_ptr(),
        len: bytes.len(),
    }
}

/// A request for a route, as from a node.
fn request(route: &Route) -> Request {
    let peer = std::net::Ipv4Addr::new(192, 0, 2, 1);
    Request {
        method: route.method.clone(),
        path: route.prefix.trim_end_matches('*').into(),
        headers: vec![("host".into(), "192.0.2.254:8081".into())],
        body: if route.method == "GET" {
            String::new()
        } else {
            "{}".into()
        },
        listener: "0.0.0.0:8081".into(),
        scheme: "http".into(),
        host: "192.0.2.254:8081".into(),
        peer: Some(peer.into()),
        ..Request::default()
    }
}

fn answer(called: Called) -> Result<Answer, String> {
    let (status, text) = called.ok_or_else(|| format!("no answer within {HANDLE:?}"))?;
    if status != abi::status::OK {
        return Err(format!("{}: {text}", name(status)));
    }
    let answer: Answer =
        serde_json::from_str(&text).map_err(|error| format!("its answer is not understood: {error}"))?;
    match answer.status {
        200..600 => Ok(answer),
        status => Err(format!("its answer has the status {status}")),
    }
}

fn name(status: abi::Status) -> String {
    match status {
        abi::status::OK => "OK".into(),
        abi::status::NONE => "NONE".into(),
        abi::status::STOPPING => "STOPPING".into(),
        abi::status::FAILED => "FAILED".into(),
        abi::status::PANICKED => "PANICKED".into(),
        abi::status::BAD_ARGUMENT => "BAD_ARGUMENT".into(),
        other => format!("status {other}"),
    }
}

/// The host's buffers that are with the plugin, by the number that stands in their `owner`.
struct Held {
    next: usize,
    given: BTreeMap<usize, Given>,
    twice: usize,
}

struct Given {
    owner: usize,
    release: unsafe extern "C" fn(*mut c_void, *mut u8, usize),
}

static HELD: Mutex<Held> = Mutex::new(Held {
    next: 0,
    given: BTreeMap::new(),
    twice: 0,
});

/// The functions of the host that give buffers; those of all instances are the same.
static REAL: OnceLock<&'static abi::Host> = OnceLock::new();

/// A host's table whose buffers are counted until they are released.
fn counting(real: &'static abi::Host) -> &'static abi::Host {
    REAL.get_or_init(|| real);
    Box::leak(Box::new(abi::Host {
        publish: Some(publish),
        nodes: Some(nodes),
        store_get: Some(store_get),
        store_scan: Some(store_scan),
        store_commit: Some(store_commit),
        fetch: Some(fetch),
        event: Some(event),
        ..*real
    }))
}

macro_rules! counted {
    ($($function:ident),+) => {
        $(unsafe extern "C" fn $function(ctx: *const c_void, input: abi::Str, out: *mut abi::Buf) -> abi::Status {
            let Some(real) = REAL.get().and_then(|real| real.$function) else { return abi::status::FAILED };
            // SAFETY: the plugin's arguments, handed on as they are; `out` is NULL or a place for a buffer.
            unsafe {
                let status = real(ctx, input, out);
                count(out);
                status
            }
        })+
    };
}
counted!(publish, nodes, store_get, store_scan, store_commit, fetch);

unsafe extern "C" fn event(ctx: *const c_void, timeout_ns: u64, out: *mut abi::Buf) -> abi::Status {
    let Some(real) = REAL.get().and_then(|real| real.event) else {
        return abi::status::FAILED;
    };
    // SAFETY: as above.
    unsafe {
        if !out.is_null() {
            // Nothing is written when no event comes.
            *out = empty();
        }
        let status = real(ctx, timeout_ns, out);
        count(out);
        status
    }
}

/// # Safety
/// `out` is NULL or points to a buffer that the host just wrote.
unsafe fn count(out: *mut abi::Buf) {
    // SAFETY: the caller's promise.
    let Some(buf) = (unsafe { out.as_mut() }) else { return };
    let Some(free) = buf.release else { return };
    let mut held = locked(&HELD);
    held.next += 1;
    let number = held.next;
    let owner = buf.owner.expose_provenance();
    held.given.insert(number, Given { owner, release: free });
    buf.owner = std::ptr::without_provenance_mut(number);
    buf.release = Some(release);
}

unsafe extern "C" fn release(owner: *mut c_void, ptr: *mut u8, len: usize) {
    let mut held = locked(&HELD);
    let Some(given) = held.given.remove(&owner.addr()) else {
        held.twice += 1;
        return;
    };
    drop(held);
    // SAFETY: the host's own buffer, released for the first time.
    unsafe { (given.release)(std::ptr::with_exposed_provenance_mut(given.owner), ptr, len) };
}
