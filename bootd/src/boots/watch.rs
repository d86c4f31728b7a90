//! The thread that keeps the timelines: takes what the parts tell, says what changed, and writes attempts to the store.
//!
//! Promises: whoever tells never waits, and what finds the queue full is counted ([`Watch::tell`]); the book is locked for moments only, never by a
//! thread that answers packets; what is kept survives a restart, as of some seconds before a crash. A failing store costs the memory of attempts
//! over a restart and nothing else.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bootd_sdk::mac::Mac;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::broadcast;

use super::book::{Book, Record, Who, World};
use super::event::Event;
use super::view::{Boots, Stages, Summary, Tally, Timeline};
use super::{Deadlines, Limits};
use crate::capture::{Ring, Said, Whose};
use crate::config::{Arch, Config};
use crate::inventory::Snapshot;
use crate::metrics::Metrics;
use crate::state::{Row, Store, Write};
use crate::tftp::Files;

/// The thread cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("the thread of boot timelines cannot be started: {0}")]
pub struct WatchError(std::io::Error);

/// Where events are told, and timelines are read. A clone is the same one; the default one hears nothing.
#[derive(Clone, Default)]
pub struct Watch(Option<Arc<Inner>>);

struct Inner {
    queue: SyncSender<Batch>,
    book: Arc<Mutex<Book>>,
    ring: Arc<Mutex<Ring>>,
    changes: broadcast::Sender<Arc<str>>,
    clock: Clock,
    lost: Counter,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Events of one moment.
enum Batch {
    One(u64, Event),
    Many(u64, Vec<Event>),
    /// Another configuration counts: its bounds, and the ports of its listeners.
    GoBy(Limits, Deadlines, Vec<u16>),
    /// There will be no more: all that is kept is written.
    End,
}

/// Milliseconds since 1970 that never go back: the wall clock of the start, and the time since.
#[derive(Debug, Clone, Copy)]
struct Clock {
    start: Instant,
    unix_ms: u64,
}

impl Clock {
    fn new() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            start: Instant::now(),
            unix_ms: u64::try_from(unix.as_millis()).unwrap_or_default(),
        }
    }

    fn now(self) -> u64 {
        let since = u64::try_from(self.start.elapsed().as_millis()).unwrap_or_default();
        self.unix_ms.saturating_add(since)
    }
}

impl Watch {
    /// Takes over the attempts of earlier runs and starts the thread. One that is to remember no attempt hears nothing.
    pub fn start(
        config: &Config,
        snapshot: Arc<ArcSwap<Snapshot>>,
        files: Arc<ArcSwap<Files>>,
        store: Store,
        metrics: Arc<Metrics>,
    ) -> Result<Self, WatchError> {
        if config.boots.limits.attempts == 0 {
            return Ok(Self::default());
        }
        let mut book = Book::new(config.boots.limits, config.boots.deadlines);
        restore(&mut book, &store);
        let book = Arc::new(Mutex::new(book));
        let ring: Arc<Mutex<Ring>> = Arc::default();
        let (queue, told) = sync_channel(QUEUE);
        let (changes, _) = broadcast::channel(CHANGES);
        let clock = Clock::new();
        let lost = metrics.refusals_counter("boots", "event_queue_full");
        let keeper = Keeper {
            world: Known {
                snapshot,
                files,
                ports: ports_of(config),
            },
            book: Arc::clone(&book),
            ring: Arc::clone(&ring),
            changes: changes.clone(),
            clock,
            store,
            metrics,
            dirty: BTreeSet::new(),
            counted: HashMap::new(),
            forgotten: 0,
            given_up: 0,
        };
        let thread = std::thread::Builder::new()
            .name("boots".into())
            .spawn(move || keeper.run(&told))
            .map_err(WatchError)?;
        Ok(Self(Some(Arc::new(Inner {
            queue,
            book,
            ring,
            changes,
            clock,
            lost,
            thread: Mutex::new(Some(thread)),
        }))))
    }

    /// Goes by another configuration, from the events on that come after this. Waits for a place in the queue.
    pub fn go_by(&self, config: &Config) {
        let Some(inner) = &self.0 else { return };
        let (limits, deadlines) = (config.boots.limits, config.boots.deadlines);
        // Without the thread nobody keeps timelines.
        let _ = inner.queue.send(Batch::GoBy(limits, deadlines, ports_of(config)));
    }

    /// Tells one event. Never waits; what finds the queue full is lost, and counted.
    pub fn tell(&self, event: impl FnOnce() -> Option<Event>) {
        let Some(inner) = &self.0 else { return };
        let Some(event) = event() else { return };
        if inner.queue.try_send(Batch::One(inner.clock.now(), event)).is_err() {
            inner.lost.inc();
        }
    }

    /// Tells several events of one moment.
    pub fn tell_all<const N: usize>(&self, events: impl FnOnce() -> [Event; N]) {
        let Some(inner) = &self.0 else { return };
        let events = Batch::Many(inner.clock.now(), events().into());
        if inner.queue.try_send(events).is_err() {
            inner.lost.inc_by(N as u64);
        }
    }

    /// The last packets of these, as a pcapng file with these words about it; `None`: there are none.
    pub fn captured(&self, whose: &[Whose], about: &str) -> Option<Vec<u8>> {
        let ring = self.0.as_ref()?.ring.lock().unwrap_or_else(PoisonError::into_inner);
        (ring.count(whose) > 0).then(|| ring.file(whose, about))
    }

    /// A place where a thread gathers the events of a batch.
    pub fn pen(&self) -> Pen {
        Pen {
            watch: self.clone(),
            events: Vec::new(),
        }
    }

    /// What all clients did last.
    pub fn boots(&self) -> Boots {
        match &self.0 {
            Some(inner) => Boots::of(&inner.book(), inner.clock.now()),
            None => Boots::default(),
        }
    }

    /// How long stages take.
    pub fn stages(&self) -> Stages {
        match &self.0 {
            Some(inner) => Stages::of(&inner.book(), inner.clock.now()),
            None => Stages::default(),
        }
    }

    /// All that is kept of a client: by xname, hardware address or IP address.
    pub fn timeline(&self, who: &str) -> Option<Timeline> {
        let inner = self.0.as_ref()?;
        let book = inner.book();
        let mac = who.parse::<Mac>().ok();
        let ip = who.parse::<IpAddr>().ok();
        let names = |(other, record): &(&Who, &Record)| match other {
            Who::Node(id) => id == who || mac.is_some() && record.mac == mac || ip.is_some() && newest_ip(record) == ip,
            Who::Mac(other) => Some(*other) == mac || ip.is_some() && newest_ip(record) == ip,
            Who::Ip(other) => Some(*other) == ip,
        };
        let (who, record) = book.records().find(names)?;
        Some(Timeline {
            who: who.to_string(),
            now_ms: inner.clock.now(),
            record: record.clone(),
        })
    }

    /// Each change from now on: a [`Summary`] as JSON, or `{"gone":"who"}`. Who reads too slowly is told how many it missed.
    pub fn changes(&self) -> Option<broadcast::Receiver<Arc<str>>> {
        self.0.as_ref().map(|inner| inner.changes.subscribe())
    }

    /// Whether anybody hears what is told.
    pub fn hears(&self) -> bool {
        self.0.is_some()
    }

    /// How many clients' newest attempts are in which state, and at which stage.
    pub fn tally(&self) -> Tally {
        self.0
            .as_ref()
            .map(|inner| Tally::of(&inner.book()))
            .unwrap_or_default()
    }

    /// The time of the timelines, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.0.as_ref().map_or(0, |inner| inner.clock.now())
    }

    /// Writes what is kept and ends the thread. What is told afterwards is lost.
    pub fn stop(&self) {
        let Some(inner) = &self.0 else { return };
        let thread = inner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && inner.queue.send(Batch::End).is_ok()
        {
            let _ = thread.join();
        }
    }
}

fn newest_ip(record: &Record) -> Option<IpAddr> {
    record.attempts.back()?.ip
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Events that a thread gathers while it deals with a batch of packets, and tells at once.
pub struct Pen {
    watch: Watch,
    events: Vec<Event>,
}

impl Pen {
    /// Notes an event, if anybody hears.
    pub fn note(&mut self, event: impl FnOnce() -> Option<Event>) {
        if self.watch.0.is_some() {
            self.events.extend(event());
        }
    }

    /// Tells all of them.
    pub fn tell(&mut self) {
        let Some(inner) = self.watch.0.as_ref().filter(|_| !self.events.is_empty()) else {
            return;
        };
        let count = self.events.len();
        let events = std::mem::replace(&mut self.events, Vec::with_capacity(count));
        if inner.queue.try_send(Batch::Many(inner.clock.now(), events)).is_err() {
            inner.lost.inc_by(count as u64);
        }
    }
}

/// What the thread works with.
struct Keeper {
    world: Known,
    book: Arc<Mutex<Book>>,
    ring: Arc<Mutex<Ring>>,
    changes: broadcast::Sender<Arc<str>>,
    clock: Clock,
    store: Store,
    metrics: Arc<Metrics>,
    /// Changed, and not written yet.
    dirty: BTreeSet<Who>,
    /// Diagnoses that the metrics have.
    counted: HashMap<String, u64>,
    forgotten: u64,
    given_up: u64,
}

impl Keeper {
    fn run(mut self, told: &Receiver<Batch>) {
        let (mut next_look, mut next_write) = (Instant::now() + LOOK, Instant::now() + WRITE);
        loop {
            let wait = next_look.saturating_duration_since(Instant::now());
            let is_over = match told.recv_timeout(wait) {
                Ok(first) => self.take(first, told),
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            let now = Instant::now();
            if is_over || now >= next_look {
                next_look = now + LOOK;
                self.look();
            }
            if is_over {
                while !self.dirty.is_empty() {
                    self.write();
                }
                return;
            }
            if now >= next_write {
                next_write = now + WRITE;
                self.write();
            }
        }
    }

    /// Takes what waits. `true`: that was the end.
    fn take(&mut self, first: Batch, told: &Receiver<Batch>) -> bool {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        for batch in std::iter::once(first).chain(told.try_iter().take(AT_ONCE)) {
            match batch {
                Batch::One(at, event) => keep(event, &mut book, &mut ring, &self.world, at),
                Batch::Many(at, events) => {
                    for event in events {
                        keep(event, &mut book, &mut ring, &self.world, at);
                    }
                }
                Batch::GoBy(limits, deadlines, ports) => {
                    book.go_by(limits, deadlines);
                    self.world.ports = ports;
                }
                Batch::End => return true,
            }
        }
        false
    }

    /// Looks who is late, and says what changed.
    fn look(&mut self) {
        let mut lines = Vec::new();
        {
            let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            book.tick(self.clock.now());
            for who in book.changed() {
                if self.changes.receiver_count() > 0 {
                    let summary = book.record(&who).and_then(|record| Summary::of(&who, record));
                    let line = match summary {
                        Some(summary) => serde_json::to_string(&summary),
                        None => serde_json::to_string(&serde_json::json!({ "gone": who.to_string() })),
                    };
                    lines.extend(line);
                }
                self.dirty.insert(who);
            }
            for (name, count) in &book.said {
                let counted = self.counted.entry(name.clone()).or_default();
                if *count > *counted {
                    self.metrics.diagnosed(name, count - *counted);
                }
                *counted = *count;
            }
            let given_up = book.given_up - self.given_up;
            self.given_up = book.given_up;
            self.metrics.boots_ended(&book.ended(), given_up);
            let forgotten = book.forgotten - self.forgotten;
            self.forgotten = book.forgotten;
            self.metrics.counter("boots", "client_forgotten").inc_by(forgotten);
        }
        for line in lines {
            // Nobody listens any more: no news.
            let _ = self.changes.send(line.into());
        }
    }

    /// Writes some of what changed.
    fn write(&mut self) {
        let mut write = Write::default();
        {
            let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            for _ in 0..WRITES {
                let Some(who) = self.dirty.pop_first() else { break };
                match book.record(&who).map(serde_json::to_string) {
                    Some(Ok(text)) => write.put.push((row(&who), text)),
                    Some(Err(_)) => {}
                    None => write.delete.push(row(&who)),
                }
            }
        }
        if write == Write::default() {
            return;
        }
        let metrics = Arc::clone(&self.metrics);
        let queued = self.store.write_soon(write, move |done| {
            if let Err(error) = done {
                metrics.refused("boots", error.label(), &"the timelines", &error);
            }
        });
        if let Err(error) = queued {
            self.metrics.refused("boots", error.label(), &"the timelines", &error);
        }
    }
}

/// Gives an event to the timelines, a packet to the capture, and to that what was decided about the last one.
fn keep(event: Event, book: &mut Book, ring: &mut Ring, world: &Known, at: u64) {
    match event {
        Event::Packet(whose, packet) => ring.put(whose, packet, at),
        event => {
            book.take(&event, world, at);
            match event {
                Event::Dhcp(dhcp) => ring.say(Whose::Mac(dhcp.mac), Said::Dhcp(dhcp.asker, dhcp.outcome)),
                Event::Loader(ip, transfer) => ring.say(Whose::Ip(ip), Said::File(transfer.state)),
                _ => {}
            }
        }
    }
}

fn row(who: &Who) -> Row {
    let key = match who {
        Who::Node(id) => format!("node/{id}"),
        Who::Mac(mac) => format!("mac/{mac}"),
        Who::Ip(ip) => format!("ip/{ip}"),
    };
    Row {
        table: TABLE.into(),
        key,
    }
}

/// What cannot be read is left out: it is of another version, and only a memory.
fn restore(book: &mut Book, store: &Store) {
    let rows = store.scan(TABLE, "").unwrap_or_default();
    for (key, text) in rows {
        let who = match key.split_once('/') {
            Some(("node", id)) => Some(Who::Node(id.into())),
            Some(("mac", mac)) => mac.parse().ok().map(Who::Mac),
            Some(("ip", ip)) => ip.parse().ok().map(Who::Ip),
            _ => None,
        };
        if let (Some(who), Ok(record)) = (who, serde_json::from_str(&text)) {
            book.restore(who, record);
        }
    }
}

/// What bootd knows.
struct Known {
    snapshot: Arc<ArcSwap<Snapshot>>,
    files: Arc<ArcSwap<Files>>,
    ports: Vec<u16>,
}

impl World for Known {
    fn by_mac(&self, mac: Mac) -> Option<String> {
        self.snapshot.load().by_mac(mac).map(|(node, _)| node.id.clone())
    }

    fn by_ip(&self, ip: IpAddr) -> Option<String> {
        self.snapshot.load().by_ip(ip).map(|node| node.id.clone())
    }

    fn program(&self, loader: &str) -> Option<Arch> {
        program(&self.files.load().get(loader).ok()?)
    }

    fn ports(&self) -> &[u16] {
        &self.ports
    }
}

/// Where this box serves files and documents.
fn ports_of(config: &Config) -> Vec<u16> {
    let listeners = config.http.listeners.iter();
    listeners.map(|listener| listener.address.port()).collect()
}

/// For which machines a loader is: a PE file says so in its header, and what is none of these is a BIOS's.
fn program(file: &[u8]) -> Option<Arch> {
    if !file.starts_with(b"MZ") {
        return None;
    }
    let at = |from: usize, count: usize| file.get(from..from + count);
    let header = usize::try_from(u32::from_le_bytes(at(0x3c, 4)?.try_into().ok()?)).ok()?;
    if at(header, 4)? != b"PE\0\0" {
        return None;
    }
    match u16::from_le_bytes(at(header.checked_add(4)?, 2)?.try_into().ok()?) {
        0x8664 => Some(Arch::X86_64Efi),
        0x014c => Some(Arch::I386Efi),
        0xaa64 => Some(Arch::Arm64Efi),
        0x01c0 | 0x01c2 | 0x01c4 => Some(Arch::Arm32Efi),
        _ => None,
    }
}

/// The store's table.
const TABLE: &str = "boots";
/// Batches of events that may wait.
const QUEUE: usize = 8192;
/// Batches that are taken under one lock.
const AT_ONCE: usize = 64;
/// Changes that a reader may be behind.
const CHANGES: usize = 16_384;
/// Between two looks who is late, and what changed.
const LOOK: Duration = Duration::from_millis(250);
/// Between two writes, and clients in each.
const WRITE: Duration = Duration::from_secs(2);
const WRITES: usize = 1000;
