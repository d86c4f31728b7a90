//! The TFTP service: sockets and the clock around the transfers of [`Engine`], on one thread of its own.
//!
//! A transfer has a socket of its own, so that it has a port which nobody can guess, hears nobody else, and sees that a client is gone; or, with
//! [`Tftp::single_port`], all of them speak from where they listen. Answers leave from the address that was asked, over either family.
//! Promises: the thread waits for sockets and nothing else; what a client sends costs that datagram at most, and its own transfer; should
//! the service end all the same it starts again on the same sockets. Callers see none of the engine.

use std::collections::HashMap;
use std::io::{self, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use super::Files;
use super::engine::{End, Ended, Engine, Id, Limits, Opening, Ports, Refusal, Verdict, Why};
use super::request::Packet;
use super::trouble::Trouble;
use crate::boots::event::{State, Transfer};
use crate::boots::{Event, Watch};
use crate::capture::{self, Direction, Whose};
use crate::config::Config;
use crate::lines::Lines;
use crate::metrics::{Metrics, Refusals};
use crate::net::{Burst, Inbox, Listening, Met, Outbox, Sockets, TAKEN, Way};
use crate::urgency;
use crate::watchdog::{BEAT, Pulse};

#[cfg(doc)]
use crate::config::Tftp;

/// A running TFTP service. Dropping it ends it too, without waiting.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    thread: Mutex<Option<(PipeWriter, JoinHandle<()>)>>,
    trouble: Arc<Trouble>,
    leaving: Arc<AtomicBool>,
    /// It stands still when the thread ends before it is told.
    _pulse: Arc<Pulse>,
    granted: Arc<ArcSwap<Granted>>,
}

/// What is granted at most, in bytes and blocks.
#[derive(Debug, Clone, Copy)]
struct Granted {
    blksize: u16,
    windowsize: u16,
}

impl Granted {
    fn of(config: &Config) -> Self {
        Self {
            blksize: config.tftp.blksize,
            windowsize: config.tftp.windowsize,
        }
    }
}

/// A TFTP service that does not start.
#[derive(Debug, thiserror::Error)]
pub enum TftpError {
    /// The port is taken, not allowed, or the address is not this machine's.
    #[error("TFTP cannot listen on {address}: {why}{}", hint(why))]
    Bind {
        /// Where it should listen.
        address: SocketAddr,
        /// Why it cannot. Not a `source`: whoever prints the chain would say it twice.
        why: io::Error,
    },
    /// The thread cannot be started.
    #[error("the TFTP thread cannot be started: {0}")]
    Thread(io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another program listens there: stop it, or choose another tftp.port)",
        io::ErrorKind::AddrNotAvailable => " (no interface of this machine has this address)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need CAP_NET_BIND_SERVICE)",
        _ => "",
    }
}

/// Listens on [`Config::tftp_addresses`] and [`Tftp::port`] (0 takes a free one) and serves until stopped. What `files` holds when a read
/// begins is what that read gets.
pub fn start(
    config: &Config,
    files: Arc<ArcSwap<Files>>,
    metrics: Arc<Metrics>,
    watch: Watch,
    sockets: &Sockets,
) -> Result<Service, TftpError> {
    start_with(config, files, metrics, watch, limits(config), sockets)
}

impl Service {
    /// Where it listens; of several addresses the first.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it has places for all who ask.
    pub fn trouble(&self) -> Arc<Trouble> {
        Arc::clone(&self.trouble)
    }

    /// Takes no more requests, which are for another process now, and ends with the last transfer under way. Does not wait.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether it ended by itself.
    pub fn has_ended(&self) -> bool {
        let running = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().is_none_or(|(_, thread)| thread.is_finished())
    }

    /// Ends it, with the transfers under way, and waits for its thread.
    pub fn stop(&self) {
        let running = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = running {
            drop(stop);
            // The thread catches its panics; if it did not, there is nothing left to end.
            let _ = thread.join();
        }
    }

    /// Grants what this configuration says to reads that begin from now on. Where it listens it does not change.
    pub fn take(&self, config: &Config) {
        self.granted.store(Arc::new(Granted::of(config)));
    }
}

fn start_with(
    config: &Config,
    files: Arc<ArcSwap<Files>>,
    metrics: Arc<Metrics>,
    watch: Watch,
    limits: Limits,
    sockets: &Sockets,
) -> Result<Service, TftpError> {
    let listening = listen(config, sockets)?;
    let address = listening
        .first()
        .map_or(SocketAddr::from(([0; 4], 0)), |port| port.address());
    let (stopped, stop) = io::pipe().map_err(TftpError::Thread)?;
    for port in &listening {
        tracing::info!(address = %port.address(), "tftp listens");
    }
    if limits.ports == Ports::Shared {
        for port in &listening {
            // Without it transfers to who is not there end when their time is over.
            let _ = port.hear_who_is_gone();
        }
    }
    let trouble = Arc::new(Trouble::new(limits.reads));
    let told = Arc::clone(&trouble);
    let pulse = metrics.pulses().begin("tftp");
    let beating = Arc::clone(&pulse);
    let granted = Arc::new(ArcSwap::from_pointee(Granted {
        blksize: limits.blksize,
        windowsize: limits.windowsize,
    }));
    let grants = Arc::clone(&granted);
    let leaving = Arc::<AtomicBool>::default();
    let told_to_leave = Arc::clone(&leaving);
    let thread = std::thread::Builder::new()
        .name("tftp".into())
        .spawn(move || {
            urgency::become_urgent();
            supervise(&metrics, &stopped, RESTART_AFTER, || {
                Desk::new(&listening, &files, &metrics, &watch, limits, (&told, &grants))?.serve(
                    &stopped,
                    &beating,
                    &told_to_leave,
                )
            });
        })
        .map_err(TftpError::Thread)?;
    Ok(Service {
        address,
        thread: Mutex::new(Some((stop, thread))),
        trouble,
        leaving,
        _pulse: pulse,
        granted,
    })
}

/// The sockets of all addresses that it listens on.
fn listen(config: &Config, sockets: &Sockets) -> Result<Vec<Arc<Listening>>, TftpError> {
    let mut port = config.tftp.port;
    let mut listening: Vec<Arc<Listening>> = Vec::new();
    for ip in config.tftp_addresses() {
        let address = SocketAddr::new(ip, port);
        let opened = match sockets.udp(None, address) {
            Some(handed) => Listening::handed(handed),
            None => Listening::open(address, RECEIVE_BUFFER),
        };
        match opened.map(Arc::new) {
            Ok(socket) => {
                port = socket.address().port();
                sockets.lend(&socket);
                listening.push(socket);
            }
            // A machine without IPv6 has all addresses of IPv4 nevertheless.
            Err(why) if ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !listening.is_empty() && has_no_ipv6(&why) => {
                tracing::info!(%why, "no IPv6 for tftp");
            }
            Err(why) => return Err(TftpError::Bind { address, why }),
        }
    }
    Ok(listening)
}

fn has_no_ipv6(error: &io::Error) -> bool {
    let missing = [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL, libc::EPROTONOSUPPORT];
    error.raw_os_error().is_some_and(|number| missing.contains(&number))
}

fn limits(config: &Config) -> Limits {
    // A flood of requests must leave descriptors to the other services.
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let half = descriptors.map_or(READS, |most| usize::try_from(most / 2).unwrap_or(READS));
    Limits {
        reads: if config.tftp.single_port {
            READS
        } else {
            READS.min(half)
        },
        each: READS_EACH,
        blksize: config.tftp.blksize,
        windowsize: config.tftp.windowsize,
        ports: match config.tftp.single_port {
            true => Ports::Shared,
            false => Ports::Own,
        },
    }
}

/// Serves until stopped, whatever happens.
fn supervise(metrics: &Metrics, stopped: &PipeReader, pause: Duration, mut serve: impl FnMut() -> io::Result<Stopped>) {
    loop {
        match catch_unwind(AssertUnwindSafe(&mut serve)) {
            Ok(Ok(Stopped)) => return,
            Ok(Err(error)) => tracing::error!(%error, "tftp service ended, starting again"),
            Err(_) => tracing::error!("tftp service panicked, starting again"),
        }
        metrics.done("tftp", "restarted");
        let pause = Timespec::try_from(pause).ok();
        if poll(&mut [PollFd::new(stopped, PollFlags::IN)], pause.as_ref()).is_ok_and(|ready| ready > 0) {
            return;
        }
    }
}

/// It was told to end.
struct Stopped;

/// Where packets arrive and leave.
struct Desk<'a> {
    listening: &'a [Arc<Listening>],
    files: &'a ArcSwap<Files>,
    metrics: &'a Metrics,
    watch: &'a Watch,
    ports: Ports,
    engine: Engine,
    /// Of each transfer its own way, or whom it serves from which of the listening sockets.
    ways: HashMap<Id, To>,
    sockets: OwnedFd,
    start: Instant,
    inbox: Inbox,
    outbox: Outbox,
    /// What waits for each of the listening sockets.
    shared: Vec<Outbox>,
    refusals: Refusals,
    /// Each client may read without end; not each read is worth a line.
    lines: Lines,
    repeated: Counter,
    ignored: Counter,
    /// What the kernel had no room for, and how much of that is counted, of each listening socket.
    unheard: Counter,
    dropped: Vec<u32>,
    trouble: &'a Trouble,
    granted: &'a ArcSwap<Granted>,
}

/// How a transfer reaches its client.
enum To {
    Way(Way),
    Shared(usize, Met),
}

impl<'a> Desk<'a> {
    fn new(
        listening: &'a [Arc<Listening>],
        files: &'a ArcSwap<Files>,
        metrics: &'a Arc<Metrics>,
        watch: &'a Watch,
        limits: Limits,
        (trouble, granted): (&'a Trouble, &'a ArcSwap<Granted>),
    ) -> io::Result<Self> {
        let sockets = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (number, port) in listening.iter().enumerate() {
            epoll::add(&sockets, port, Token::Port(number).data(), epoll::EventFlags::IN)?;
        }
        metrics.set("tftp", "transfers", 0);
        Ok(Self {
            listening,
            files,
            metrics,
            watch,
            ports: limits.ports,
            engine: Engine::new(limits),
            ways: HashMap::new(),
            sockets,
            start: Instant::now(),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            shared: listening.iter().map(|_| Outbox::default()).collect(),
            refusals: Refusals::new(Arc::clone(metrics), "tftp"),
            lines: Lines::new(Instant::now()),
            repeated: metrics.counter("tftp", "retransmitted"),
            ignored: metrics.counter("tftp", "acknowledgement_ignored"),
            unheard: metrics.refusals_counter("tftp", "receive_buffer_full"),
            dropped: vec![0; listening.len()],
            trouble,
            granted,
        })
    }

    fn serve(mut self, stopped: &PipeReader, pulse: &Pulse, leaving: &AtomicBool) -> io::Result<Stopped> {
        // Only that the other end is closed will ever happen there.
        epoll::add(&self.sockets, stopped, Token::Stop.data(), epoll::EventFlags::IN)?;
        let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS];
        let mut listens = true;
        loop {
            pulse.beat();
            if leaving.load(Ordering::Relaxed) {
                if std::mem::take(&mut listens) {
                    for port in self.listening {
                        epoll::delete(&self.sockets, port)?;
                    }
                }
                if self.engine.is_empty() {
                    return Ok(Stopped);
                }
            }
            let alarm = self.engine.alarm().map(|at| at.saturating_sub(self.start.elapsed()));
            let wait = Timespec::try_from(alarm.map_or(BEAT, |wait| wait.min(BEAT))).ok();
            let (events, _) = match epoll::wait(&self.sockets, &mut room, wait.as_ref()) {
                Ok(events) => events,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let now = self.start.elapsed();
            // Transfers first: who asks for the next file acknowledged the end of the one before it.
            for event in &*events {
                match Token::of(event.data) {
                    Token::Stop => return Ok(Stopped),
                    Token::Port(_) => {}
                    Token::Transfer(id) => self.guarded(Some(id), |desk| desk.heard(id, now)),
                }
            }
            for event in events {
                if let Token::Port(number) = Token::of(event.data) {
                    if { event.flags }.contains(epoll::EventFlags::ERR) {
                        self.gone(number);
                    }
                    self.arrived(number, now)?;
                }
            }
            while self.engine.alarm().is_some_and(|at| at <= now) {
                let mut rang = None;
                self.guarded(None, |desk| {
                    rang = desk.engine.due(now);
                });
                if let Some((id, Some(burst))) = rang {
                    self.send(id, burst);
                }
            }
            self.flush();
            self.tell();
        }
    }

    /// What came to a listening socket. One batch, so that transfers go on while requests flood it.
    fn arrived(&mut self, number: usize, now: Duration) -> io::Result<()> {
        let Some(port) = self.listening.get(number) else {
            return Ok(());
        };
        let mut inbox = std::mem::take(&mut self.inbox);
        match port.receive(&mut inbox) {
            Ok(()) => {}
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        let mut count = 0;
        for (bytes, met) in inbox.datagrams() {
            count += 1;
            self.guarded(None, |desk| desk.asked(number, met, bytes, now));
        }
        self.inbox = inbox;
        // A buffer that was full is emptied in full batches.
        if count == TAKEN
            && let (Ok(backlog), Some(counted)) = (port.backlog(), self.dropped.get_mut(number))
        {
            self.unheard.inc_by(backlog.dropped.wrapping_sub(*counted).into());
            *counted = backlog.dropped;
        }
        Ok(())
    }

    /// Machines said that nobody listens where a transfer goes. Transfers with their own ways hear that there.
    fn gone(&mut self, number: usize) {
        let Some(port) = self.listening.get(number) else {
            return;
        };
        for peer in std::iter::from_fn(|| port.gone().ok()).take(TAKEN) {
            if let Some(id) = self.engine.of(&peer) {
                self.engine.end(id, End::Gone);
            }
        }
        self.put_away();
    }

    fn asked(&mut self, number: usize, met: &Met, bytes: Option<&[u8]>, now: Duration) {
        let Some(bytes) = bytes else {
            return self.refusals.count(Why::TooLong.label(), &met.peer, &"");
        };
        if !met.is_ours_alone {
            return self.refusals.count(Why::ToAll.label(), &met.peer, &"");
        }
        if self.ports == Ports::Shared
            && !Packet::is_request(bytes)
            && let Some(id) = self.engine.of(&met.peer)
        {
            return self.packet(id, bytes, now);
        }
        let granted = **self.granted.load();
        self.engine.grant_at_most(granted.blksize, granted.windowsize);
        self.watch.tell_packet(|| Some(seen(met, Direction::FromClient, bytes)));
        match self.engine.request(met.peer, bytes, &self.files.load(), now) {
            Verdict::Begin(opening) => self.begin(number, met, opening, now),
            Verdict::Again(id, burst) => self.send(id, burst),
            Verdict::Refuse(refusal) => self.refuse(number, met, refusal),
            Verdict::Ignore(why) => self.refusals.count(why.label(), &met.peer, &""),
        }
        self.put_away();
    }

    fn begin(&mut self, number: usize, met: &Met, opening: Opening, now: Duration) {
        self.watch.tell(|| {
            let (name, len) = (opening.name(), opening.size());
            Some(loader(met.peer, &name, 0, Some(len), State::UnderWay))
        });
        // The kernel knows how wide the way to a client is when a socket leads there.
        let way = Way::open(met).and_then(|way| Ok((way.room()?, way)));
        let (room, way) = match way {
            Ok(way) => way,
            Err(error) => {
                tracing::debug!(%error, peer = %met.peer, "no socket for a tftp transfer");
                return self.refuse(number, met, Refusal::no_socket(&opening));
            }
        };
        let (id, burst) = self.engine.begin(opening, room, now);
        let to = if self.ports == Ports::Shared {
            To::Shared(number, *met)
        } else if let Err(error) = epoll::add(&self.sockets, &way, Token::Transfer(id).data(), epoll::EventFlags::IN) {
            tracing::debug!(%error, peer = %met.peer, "no room for a tftp transfer");
            return self.engine.end(id, End::Dropped);
        } else {
            To::Way(way)
        };
        self.ways.insert(id, to);
        self.send(id, burst);
        self.metrics.set("tftp", "transfers", self.engine.len() as i64);
    }

    fn refuse(&mut self, number: usize, met: &Met, refusal: Refusal) {
        if matches!(refusal.why, Why::TooMany | Why::NoSocket) {
            self.trouble.had_no_place();
        }
        self.refusals.count(refusal.why.label(), &met.peer, &refusal.name);
        if !refusal.name.is_empty() {
            let status = if refusal.why.is_missing() { 404 } else { 503 };
            self.watch
                .tell(|| Some(loader(met.peer, &refusal.name, 0, None, State::Refused(status))));
        }
        self.watch
            .tell_packet(|| Some(seen(met, Direction::ToClient, &refusal.packet)));
        let burst = Burst::of(refusal.packet);
        if self.ports == Ports::Own
            && let Ok(way) = Way::open(met)
        {
            self.outbox.add(burst, None);
            // Who is not there any more needs no answer.
            let _ = way.send(&mut self.outbox);
        } else {
            self.queue(number, burst, *met);
        }
    }

    /// Something came for a transfer with its own way.
    fn heard(&mut self, id: Id, now: Duration) {
        let Some(To::Way(way)) = self.ways.get(&id) else { return };
        let mut buffer = [0; LONGEST];
        match way.receive(&mut buffer) {
            Ok(length) => self.packet(id, buffer.get(..length).unwrap_or_default(), now),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.engine.end(id, End::Gone);
                self.put_away();
            }
            Err(error) => tracing::debug!(%error, "tftp transfer"),
        }
    }

    fn packet(&mut self, id: Id, bytes: &[u8], now: Duration) {
        match self.engine.packet(id, bytes, now) {
            Ok(Some(burst)) => self.send(id, burst),
            Ok(None) => {}
            Err(why) => self.refusals.count(why.label(), &"a client", &""),
        }
        self.put_away();
    }

    fn send(&mut self, id: Id, burst: Burst) {
        match self.ways.get(&id) {
            Some(To::Way(way)) => {
                self.outbox.add(burst, None);
                match way.send(&mut self.outbox) {
                    // What finds no room is lost, and sent again as what is lost on the wire.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.engine.end(id, End::Gone),
                    Err(error) => tracing::debug!(%error, "tftp datagrams not sent"),
                    Ok(()) => {}
                }
            }
            Some(&To::Shared(number, met)) => self.queue(number, burst, met),
            None => {}
        }
    }

    fn queue(&mut self, number: usize, burst: Burst, met: Met) {
        if let (Some(outbox), Some(port)) = (self.shared.get_mut(number), self.listening.get(number)) {
            outbox.add(burst, Some(met));
            if outbox.len() >= TAKEN {
                port.send(outbox, unsent);
            }
        }
    }

    /// Sends what waits for the listening sockets.
    fn flush(&mut self) {
        for (port, outbox) in self.listening.iter().zip(&mut self.shared) {
            if !outbox.is_empty() {
                port.send(outbox, unsent);
            }
        }
    }

    /// Counts what ended, and closes its socket.
    fn put_away(&mut self) {
        let ended = self.engine.ended();
        if ended.is_empty() {
            return;
        }
        for mut ended in ended {
            if let Some(farewell) = ended.farewell.take() {
                self.send(ended.id, Burst::of(farewell));
            }
            // The system forgets a socket that is closed.
            self.ways.remove(&ended.id);
            self.count(&ended);
        }
        self.metrics.set("tftp", "transfers", self.engine.len() as i64);
    }

    fn count(&self, ended: &Ended) {
        let Ended {
            peer, name, bytes, how, ..
        } = ended;
        let state = match how {
            End::Done => State::Done,
            End::Aborted | End::Replaced => State::Aborted,
            End::Gone | End::TimedOut | End::Displaced | End::Dropped => State::Broken,
        };
        self.watch.tell(|| Some(loader(*peer, name, *bytes, None, state)));
        let (file, how) = (name, how.label());
        self.metrics.done("tftp", how);
        if ended.how == End::Done {
            self.metrics.sent("tftp", ended.kind.label(), *bytes);
            let now = Instant::now();
            if self.lines.may_write(now) {
                tracing::info!(%peer, %file, bytes, done = true, "tftp read");
            }
            if let Some(left_out) = self.lines.left_out(now) {
                tracing::warn!(left_out, "tftp lines left out: clients read too much");
            }
        } else {
            tracing::debug!(%peer, %file, bytes, done = false, how, "tftp read");
        }
    }

    fn tell(&mut self) {
        self.put_away();
        match self.engine.repeated() {
            0 => {}
            repeated => {
                self.repeated.inc_by(repeated);
            }
        }
        match self.engine.ignored() {
            0 => {}
            ignored => {
                self.ignored.inc_by(ignored);
            }
        }
    }

    /// A panic costs what was being done, and the transfer that it was about.
    fn guarded(&mut self, id: Option<Id>, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_ok() {
            return;
        }
        self.refusals.count("panic", &"a client", &"");
        if let Some(id) = id {
            self.engine.end(id, End::Dropped);
        }
    }
}

/// For the capture.
fn seen(met: &Met, direction: Direction, bytes: &[u8]) -> Event {
    let client = SocketAddr::new(met.peer.ip().to_canonical(), met.peer.port());
    let server = SocketAddr::new(met.ours.to_canonical(), TFTP);
    let packet = capture::Packet::new(capture::Kind::Udp, direction, client, server, bytes);
    Event::Packet(Whose::Ip(client.ip()), packet)
}

/// What the timelines of boots are told.
fn loader(peer: SocketAddr, name: &str, sent: u64, of: Option<u64>, state: State) -> Event {
    let transfer = Transfer {
        name: name.into(),
        sent,
        of,
        state,
        agent: "".into(),
    };
    Event::Loader(peer.ip().to_canonical(), transfer)
}

/// The port of requests, as captures show it.
const TFTP: u16 = 69;

/// What an event is about.
enum Token {
    Stop,
    Port(usize),
    Transfer(Id),
}

impl Token {
    fn of(data: epoll::EventData) -> Self {
        match data.u64() {
            u64::MAX => Self::Stop,
            number if number & PORTS != 0 => Self::Port((number & !PORTS) as usize),
            id => Self::Transfer(id),
        }
    }

    fn data(&self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Self::Stop => u64::MAX,
            Self::Port(number) => PORTS | *number as u64,
            Self::Transfer(id) => *id,
        })
    }
}

fn unsent(peer: SocketAddr, error: io::Error) {
    tracing::debug!(%peer, %error, "tftp datagrams not sent");
}

/// Errors that say something of one datagram, or of nothing.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, Interrupted, NetworkUnreachable, WouldBlock};
    matches!(
        error.kind(),
        WouldBlock | Interrupted | ConnectionRefused | HostUnreachable | NetworkUnreachable
    )
}

/// Requests that wait for the thread, in bytes as the kernel counts them: a whole rack may power on at once.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Reads under way at once, if the process may open twice as many files.
const READS: usize = 4096;
/// Reads of one address at once: all nodes behind one translator of addresses, and still not everything.
const READS_EACH: usize = 1024;
/// What is read of a packet for a transfer: its kind and a number.
const LONGEST: usize = 64;
/// Sockets that are looked at before the clock is.
const EVENTS: usize = 256;
/// Between the end of a service and its next start.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// In the numbers of events, what tells sockets that listen from transfers.
const PORTS: u64 = 1 << 63;

#[cfg(test)]
mod tests;
