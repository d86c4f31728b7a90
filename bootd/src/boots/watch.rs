//! The thread that keeps the timelines: takes what the parts tell, says what changed, and writes attempts to the store.
//!
//! Promises: whoever tells puts its event into a place that the thread empties ten times a second, and wakes nobody; what finds it full is
//! counted ([`Watch::tell`]); the book is locked for moments only, never by a thread that answers packets; what is kept survives a restart, and
//! a crash but for its last seconds. A failing store costs the memory of attempts over a restart and nothing else.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
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
    told: Mutex<Told>,
    book: Mutex<Book>,
    ring: Mutex<Ring>,
    changes: broadcast::Sender<Arc<str>>,
    clock: Clock,
    lost: Counter,
    /// So much is told that packets are left out.
    is_busy: AtomicBool,
    left_out: Counter,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What was told since the thread looked last. Locked only to put something in, or to take all of it away.
#[derive(Default)]
struct Told {
    /// With their times.
    events: Vec<(u64, Event)>,
    /// Another configuration counts: its bounds, and the ports of its listeners.
    go_by: Option<(Limits, Deadlines, Vec<u16>)>,
    /// All that is kept is to be written now; who waits for it.
    flush: Vec<SyncSender<()>>,
    /// There will be no more: all that is kept is written.
    is_over: bool,
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
        let (book, ring) = (Mutex::new(book), Mutex::default());
        let (changes, _) = broadcast::channel(CHANGES);
        let lost = metrics.refusals_counter("boots", "event_queue_full");
        let inner = Arc::new(Inner {
            told: Mutex::default(),
            book,
            ring,
            changes,
            clock: Clock::new(),
            lost,
            is_busy: AtomicBool::new(false),
            left_out: metrics.refusals_counter("boots", "capture_left_out"),
            thread: Mutex::default(),
        });
        let keeper = Keeper {
            world: Known {
                snapshot,
                files,
                ports: ports_of(config),
            },
            inner: Arc::clone(&inner),
            spare: Vec::new(),
            store,
            metrics,
            dirty: VecDeque::new(),
            is_dirty: HashSet::new(),
            counted: HashMap::new(),
            forgotten: 0,
            given_up: 0,
        };
        let thread = std::thread::Builder::new()
            .name("boots".into())
            .spawn(move || keeper.run())
            .map_err(WatchError)?;
        *inner.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(Self(Some(inner)))
    }

    /// Goes by another configuration, soon.
    pub fn go_by(&self, config: &Config) {
        let Some(inner) = &self.0 else { return };
        let (limits, deadlines) = (config.boots.limits, config.boots.deadlines);
        inner.told().go_by = Some((limits, deadlines, ports_of(config)));
    }

    /// Tells one event. Never waits but for who puts or takes something at the same moment; what finds no room is lost, and counted.
    pub fn tell(&self, event: impl FnOnce() -> Option<Event>) {
        let Some(inner) = &self.0 else { return };
        if let Some(event) = event() {
            inner.put(std::iter::once(event));
        }
    }

    /// Whether packets and heads are kept for the capture. Under great load they are left out, and counted: timelines go first.
    pub fn captures(&self) -> bool {
        match &self.0 {
            Some(inner) if inner.is_busy.load(Ordering::Relaxed) => {
                inner.left_out.inc();
                false
            }
            found => found.is_some(),
        }
    }

    /// Tells a packet, if packets are kept at present.
    pub fn tell_packet(&self, packet: impl FnOnce() -> Option<Event>) {
        if self.captures() {
            self.tell(packet);
        }
    }

    /// Tells several events of one moment.
    pub fn tell_all<const N: usize>(&self, events: impl FnOnce() -> [Event; N]) {
        if let Some(inner) = &self.0 {
            inner.put(events().into_iter());
        }
    }

    /// The last packets of these, as a pcapng file with these words about it; `None`: there are none.
    pub fn captured(&self, whose: &[Whose], about: &str) -> Option<Vec<u8>> {
        let ring = self.0.as_ref()?.ring();
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
            Who::Node(id) => {
                **id == *who || mac.is_some() && record.mac == mac || ip.is_some() && newest_ip(record) == ip
            }
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

    /// Has all that is kept written, and waits for that, a while.
    pub fn flush(&self) {
        let Some(inner) = &self.0 else { return };
        let (done, wait) = sync_channel(1);
        inner.told().flush.push(done);
        if let Some(thread) = &*inner.thread.lock().unwrap_or_else(PoisonError::into_inner) {
            thread.thread().unpark();
        }
        // A store that is slow is no reason not to go on.
        let _ = wait.recv_timeout(FLUSH);
    }

    /// Writes what is kept and ends the thread. What is told afterwards is lost.
    pub fn stop(&self) {
        let Some(inner) = &self.0 else { return };
        let thread = inner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            inner.told().is_over = true;
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn newest_ip(record: &Record) -> Option<IpAddr> {
    record.attempts.back()?.ip
}

impl Inner {
    fn put(&self, events: impl ExactSizeIterator<Item = Event>) {
        let now = self.clock.now();
        let mut told = self.told();
        let count = events.len();
        if told.events.len() + count > MOST_TOLD {
            drop(told);
            self.lost.inc_by(count as u64);
            return;
        }
        told.events.extend(events.map(|event| (now, event)));
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

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

    /// Notes a packet, if packets are kept at present.
    pub fn note_packet(&mut self, packet: impl FnOnce() -> Option<Event>) {
        if self.watch.captures() {
            self.note(packet);
        }
    }

    /// Tells all of them.
    pub fn tell(&mut self) {
        if let Some(inner) = self.watch.0.as_ref().filter(|_| !self.events.is_empty()) {
            inner.put(self.events.drain(..));
        }
    }
}

/// What the thread works with.
struct Keeper {
    inner: Arc<Inner>,
    world: Known,
    /// Room for what is told while the rest is dealt with.
    spare: Vec<(u64, Event)>,
    store: Store,
    metrics: Arc<Metrics>,
    /// Changed, and not written yet, in the order in which they changed first, with the time from which on they are written.
    dirty: VecDeque<(Instant, Who)>,
    /// The same.
    is_dirty: HashSet<Who>,
    /// Diagnoses that the metrics have.
    counted: HashMap<String, u64>,
    forgotten: u64,
    given_up: u64,
}

impl Keeper {
    fn run(mut self) {
        let (mut next_look, mut next_write) = (Instant::now() + LOOK, Instant::now() + WRITE);
        loop {
            std::thread::park_timeout(TAKE);
            let (is_over, flush) = self.take();
            let now = Instant::now();
            if is_over || !flush.is_empty() || now >= next_look {
                next_look = now + LOOK;
                self.look();
            }
            if is_over || !flush.is_empty() {
                while !self.dirty.is_empty() {
                    self.write(None);
                }
                // It comes behind all that was queued.
                let _ = self.store.write_and_wait(Write::default());
                for done in flush {
                    // Who waited too long is gone.
                    let _ = done.try_send(());
                }
            }
            if is_over {
                return;
            }
            if now >= next_write {
                next_write = now + WRITE;
                self.write(Some(now));
            }
        }
    }

    /// Takes what was told. Whether that was the end, and who waits until all is written.
    fn take(&mut self) -> (bool, Vec<SyncSender<()>>) {
        let (mut events, go_by, flush, is_over) = {
            let mut told = self.inner.told();
            let events = std::mem::replace(&mut told.events, std::mem::take(&mut self.spare));
            (events, told.go_by.take(), std::mem::take(&mut told.flush), told.is_over)
        };
        if let Some((limits, deadlines, ports)) = go_by {
            self.inner.book().go_by(limits, deadlines);
            self.world.ports = ports;
        }
        self.inner.is_busy.store(events.len() > BUSY, Ordering::Relaxed);
        // Whoever looks has a turn in between.
        while !events.is_empty() {
            let mut book = self.inner.book();
            let mut ring = self.inner.ring();
            for (at, event) in events.drain(..events.len().min(AT_ONCE)) {
                keep(event, &mut book, &mut ring, &self.world, at);
            }
        }
        self.spare = events;
        (is_over, flush)
    }

    /// Looks who is late, and says what changed.
    fn look(&mut self) {
        let mut lines = Vec::new();
        {
            let mut book = self.inner.book();
            book.tick(self.inner.clock.now());
            book.is_watched = self.inner.changes.receiver_count() > 0;
            lines.extend(book.moves().iter().flat_map(serde_json::to_string));
            for who in book.changed() {
                if book.is_watched {
                    let summary = book.record(&who).and_then(|record| Summary::of(&who, record));
                    let line = match summary {
                        Some(summary) => serde_json::to_string(&summary),
                        None => serde_json::to_string(&serde_json::json!({ "gone": who.to_string() })),
                    };
                    lines.extend(line);
                }
                if self.is_dirty.insert(who.clone()) {
                    self.dirty.push_back((Instant::now() + UNWRITTEN, who));
                }
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
            let _ = self.inner.changes.send(line.into());
        }
    }

    /// Writes some of what changed; `due`: as far as that is due by then.
    fn write(&mut self, due: Option<Instant>) {
        let mut write = Write::default();
        {
            let book = self.inner.book();
            for _ in 0..WRITES {
                let is_due = |(at, _): &mut (Instant, Who)| due.is_none_or(|due| *at <= due);
                let Some((_, who)) = self.dirty.pop_front_if(is_due) else {
                    break;
                };
                self.is_dirty.remove(&who);
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
    fn generation(&self) -> u64 {
        self.snapshot.load().generation()
    }

    fn by_mac(&self, mac: Mac) -> Option<Arc<str>> {
        self.snapshot
            .load()
            .by_mac(mac)
            .map(|(node, _)| node.id.as_str().into())
    }

    fn by_ip(&self, ip: IpAddr) -> Option<Arc<str>> {
        self.snapshot.load().by_ip(ip).map(|node| node.id.as_str().into())
    }

    fn is_of(&self, id: &str, ip: IpAddr) -> Option<bool> {
        let snapshot = self.snapshot.load();
        let interfaces = &snapshot.by_id(id)?.interfaces;
        let mut ips = interfaces.iter().flat_map(|interface| &interface.ips).peekable();
        ips.peek()?;
        Some(ips.any(|own| own.ip == ip))
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
/// Events that may wait.
const MOST_TOLD: usize = 65_536;
/// Events between two times above which packets are left out.
const BUSY: usize = 4096;
/// Events that are dealt with under one lock.
const AT_ONCE: usize = 1024;
/// Between two times that events are taken.
const TAKE: Duration = Duration::from_millis(100);
/// Changes that a reader may be behind.
const CHANGES: usize = 16_384;
/// Between two looks who is late, and what changed.
const LOOK: Duration = Duration::from_millis(250);
/// How long is waited until all is written.
const FLUSH: Duration = Duration::from_secs(2);
/// How long what changed may be unwritten: a node that boots changes all the time. A crash costs as much memory of boots.
const UNWRITTEN: Duration = Duration::from_secs(10);
/// Between two writes, and clients in each: leases wait for the same disk.
const WRITE: Duration = Duration::from_secs(1);
const WRITES: usize = 500;
