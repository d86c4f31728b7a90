//! Moves DHCP packets: receives, has them decided, sends, counts.
//!
//! One thread an interface. It holds the pools' lock only while memory changes: a lease is written by the store's thread, which sends the ACK
//! when the row is durable; when the store refuses or fails there is none, and the client asks again. A DISCOVER of a client that the plugins
//! are asked about is kept, and answered on the asker's thread when they have said something. A packet that makes the code panic costs that
//! packet; a failing socket costs a pause. Both are counted.

use std::fmt::Display;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bootd_sdk::mac::Mac;
use dhcproto::v4::OptionCode;

use super::answer::{FreedWhy, Lease, Missing, NakWhy, Verdict, Why, answer};
use super::boot::{Note, Stage};
use super::bootloop::encode_nak;
use super::encode::encode;
use super::holder::{Hex, Holder};
use super::options::find;
use super::policy::{Policy, Receiving};
use super::pool::{Cleared, Pools};
use super::reply::{Destination, Envelope, Reply, ReplyKind};
use super::request::{HEADER, Kind, Request, parse};
use super::rows::{self, Clocks, Saved};
use crate::config::Arch;
use crate::dhcp::{Deps, LOOK_AGAIN, LeaseView, Lookup};
use crate::lines::Lines;
use crate::metrics::Metrics;
use crate::net::{FrameSocket, Interface, NetError, UdpPort, shorten_time_slice};
use crate::state::{StoreError, Write};

/// Where replies leave.
pub(crate) trait Outlet: Send + Sync + 'static {
    /// Sends a packet.
    fn send(&self, packet: &[u8], envelope: &Envelope) -> io::Result<()>;
}

/// What all threads share.
pub(crate) struct Shell {
    deps: Deps,
    policy: Policy,
    pools: Mutex<Pools>,
    /// Clients in the pools, readable without their lock.
    pooled: AtomicUsize,
    lines: Lines,
}

/// A packet, and how it came.
#[derive(Clone, Copy)]
struct Arrived<'a> {
    bytes: &'a [u8],
    peer: &'a dyn Display,
    receiving: &'a Receiving,
    /// Where the answer leaves.
    outlet: &'a Arc<dyn Outlet>,
    turn: Turn,
}

/// Whether the plugins may be asked about a client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The packet came a moment ago.
    First,
    /// They were asked for this packet already.
    Asked,
}

/// What becomes of the packet of a client that is not in the inventory.
enum Unknown {
    /// A pool decides, now.
    Pool,
    /// It is kept until the plugins have said something.
    Kept,
    /// An earlier one is.
    Left,
}

impl Shell {
    /// Takes over the leases of earlier runs. Rows that make no sense are left out, and said.
    pub(crate) fn new(deps: Deps) -> Result<Self, StoreError> {
        let policy = Policy::new(&deps.config);
        let mut pools = Pools::new(&policy);
        let clocks = clocks();
        let mut moved = Write::default();
        for (key, value) in deps.store.scan(rows::TABLE, "")? {
            let former = Saved::read(&key, &value, policy.terms.bind_to, clocks);
            let restored = former.filter(|former| pools.restore(former.clone(), clocks.boot));
            match restored {
                Some(former) => rows::rekey(&former, &key, clocks, &mut moved),
                None => tracing::warn!(key, value, "lease left out: unreadable, twice there, or in no pool"),
            }
        }
        if moved != Write::default() {
            deps.store.write_and_wait(moved)?;
        }
        let pooled = AtomicUsize::new(pools.len());
        Ok(Self {
            deps,
            policy,
            pools: Mutex::new(pools),
            pooled,
            lines: Lines::new(Instant::now()),
        })
    }

    /// What DHCP works with.
    pub(crate) fn deps(&self) -> &Deps {
        &self.deps
    }

    /// Deals with one packet. `buffer` is for the answer; whoever has many packets hands in the same one each time.
    pub(crate) fn packet(
        self: &Arc<Self>,
        bytes: &[u8],
        peer: &dyn Display,
        receiving: &Receiving,
        outlet: &Arc<dyn Outlet>,
        buffer: &mut Vec<u8>,
    ) {
        let arrived = Arrived {
            bytes,
            peer,
            receiving,
            outlet,
            turn: Turn::First,
        };
        self.deal(arrived, buffer);
    }

    fn deal(self: &Arc<Self>, arrived: Arrived<'_>, buffer: &mut Vec<u8>) {
        let handled = catch_unwind(AssertUnwindSafe(|| match parse(arrived.bytes) {
            Ok(request) => self.request(&request, arrived, buffer),
            Err(bad) => self.deps.metrics.refused(PART, bad.label(), arrived.peer, &bad),
        }));
        if handled.is_err() {
            let detail = format!("a bug in bootd; the packet has {} bytes", arrived.bytes.len());
            self.deps.metrics.refused(PART, "panic", arrived.peer, &detail);
        }
    }

    /// The addresses of the pools that clients have, or had last.
    pub(crate) fn leases(&self) -> Vec<LeaseView> {
        let now = boot_clock();
        let held = self.pools().held(now);
        held.into_iter()
            .map(|held| LeaseView {
                mac: held.mac,
                client_id: held.client_id.map(|id| Hex(&id).to_string()),
                ip: held.ip,
                subnet: format!("{}/{}", held.subnet.0, held.subnet.1),
                state: held.state,
                expires_in_s: held.until.saturating_sub(now).as_secs(),
                hostname: held.host_name,
            })
            .collect()
    }

    fn request(self: &Arc<Self>, request: &Request<'_>, arrived: Arrived<'_>, buffer: &mut Vec<u8>) {
        let (receiving, outlet) = (arrived.receiving, arrived.outlet);
        if request.mac.is_some_and(|mac| self.deps.ignored.contains(mac)) {
            return self.ignored(Why::ByOperator, request);
        }
        let snapshot = self.deps.snapshot.load();
        let verdict = answer(request, &self.policy, &snapshot, receiving);
        let Verdict::Unknown(mac, missing) = verdict else {
            if settled(&verdict) {
                self.forget(request);
            }
            return self.act(verdict, request, outlet, buffer);
        };
        if missing == Missing::Mac {
            match self.look_up(mac, request, arrived) {
                Unknown::Pool => {}
                Unknown::Kept => return,
                Unknown::Left => return self.ignored(Why::LookupUnderWay, request),
            }
        }
        let mut pools = self.pools();
        let verdict = pools.answer(request, &self.policy, &snapshot, receiving, boot_clock());
        self.pooled.store(pools.len(), Ordering::Relaxed);
        // Writes are queued in the order of the decisions, so the lock is held until then; queueing never waits.
        let verdict = self.queue(verdict, outlet);
        drop(pools);
        if let Some(verdict) = verdict {
            self.act(verdict, request, outlet, buffer);
        }
    }

    /// Has the plugins asked about a client that the inventory does not know. Only its DISCOVER waits for what they say: who sends anything
    /// else has an address or an offer already, and is answered at once.
    fn look_up(self: &Arc<Self>, mac: Mac, request: &Request<'_>, arrived: Arrived<'_>) -> Unknown {
        if arrived.turn == Turn::Asked || self.policy.is_for_another(request, arrived.receiving) {
            return Unknown::Pool;
        }
        match request.kind {
            Some(Kind::Discover) => {}
            Some(Kind::Request | Kind::Inform) => {
                (self.deps.unknown)(mac, None);
                return Unknown::Pool;
            }
            _ => return Unknown::Pool,
        }
        let (shell, outlet) = (Arc::clone(self), Arc::clone(arrived.outlet));
        let (bytes, peer) = (arrived.bytes.to_vec(), arrived.peer.to_string());
        let receiving = arrived.receiving.clone();
        let then = move || {
            let kept = Arrived {
                bytes: &bytes,
                peer: &peer,
                receiving: &receiving,
                outlet: &outlet,
                turn: Turn::Asked,
            };
            shell.deal(kept, &mut Vec::new());
        };
        match (self.deps.unknown)(mac, Some(Box::new(then))) {
            Lookup::Begun => Unknown::Kept,
            Lookup::Waiting => Unknown::Left,
            Lookup::Nobody => Unknown::Pool,
        }
    }

    /// Does what is left to do after the decision. Leases do not come here.
    fn act(&self, verdict: Verdict<'_>, request: &Request<'_>, outlet: &Arc<dyn Outlet>, buffer: &mut Vec<u8>) {
        match verdict {
            Verdict::Reply(reply) => self.reply(&reply, None, outlet, buffer),
            Verdict::Nak(reply, why) | Verdict::End(reply, _, why) => self.reply(&reply, Some(why), outlet, buffer),
            Verdict::Ignore(why) => self.ignored(why, request),
            Verdict::Lease(..) | Verdict::Freed(..) | Verdict::Unknown(..) | Verdict::Probe(_) => {}
        }
    }

    fn reply(&self, reply: &Reply<'_>, nak: Option<NakWhy>, outlet: &Arc<dyn Outlet>, buffer: &mut Vec<u8>) {
        match nak {
            Some(NakWhy::Bootloop) => encode_nak(reply, buffer),
            _ => encode(reply, buffer),
        }
        let letter = Letter {
            packet: buffer,
            envelope: reply.envelope(),
            boot: Boot::of(reply),
            xname: reply.xname.unwrap_or_default(),
            nak,
        };
        self.send(&letter, outlet);
    }

    /// Queues what the store must know; what needs no store comes back.
    fn queue<'a>(self: &Arc<Self>, verdict: Verdict<'a>, outlet: &Arc<dyn Outlet>) -> Option<Verdict<'a>> {
        match verdict {
            Verdict::Lease(reply, lease) => self.keep(&reply, &lease, outlet),
            Verdict::End(reply, holder, why) => {
                self.drop_row(&holder);
                return Some(Verdict::Nak(reply, why));
            }
            Verdict::Freed(holder, ip, why) => {
                let why = match why {
                    FreedWhy::Released => "release",
                    FreedWhy::Declined => "decline",
                };
                if self.lines.may_write(Instant::now()) {
                    tracing::info!(client = %holder, %ip, why, "dhcp lease ended by its client");
                }
                self.deps.metrics.done(PART, why);
                self.drop_row(&holder);
            }
            other => return Some(other),
        }
        None
    }

    /// The ACK leaves when the lease is durable, from the store's thread.
    fn keep(self: &Arc<Self>, reply: &Reply<'_>, lease: &Lease, outlet: &Arc<dyn Outlet>) {
        let (shell, outlet, who) = (Arc::clone(self), Arc::clone(outlet), lease.holder.clone());
        let (envelope, boot) = (reply.envelope(), Boot::of(reply));
        let mut packet = Vec::with_capacity(ROOM);
        encode(reply, &mut packet);
        let send = move || {
            let letter = Letter {
                packet: &packet,
                envelope,
                boot,
                xname: "",
                nak: None,
            };
            shell.send(&letter, &outlet);
        };
        let metrics = Arc::clone(&self.deps.metrics);
        let queued = self
            .deps
            .store
            .write(rows::keep(lease, clocks()), move |done| match done {
                Ok(()) => {
                    // This thread is the store's: a bug here must not end it.
                    if catch_unwind(AssertUnwindSafe(send)).is_err() {
                        metrics.refused(PART, "panic", &who, &"a bug in bootd");
                    }
                }
                Err(error) => metrics.refused(PART, error.label(), &who, &error),
            });
        if let Err(error) = queued {
            self.deps.metrics.refused(PART, error.label(), &lease.holder, &error);
        }
    }

    /// A client of the inventory knows its address by now: what it had of a pool is over.
    fn forget(&self, request: &Request<'_>) {
        if self.pooled.load(Ordering::Relaxed) == 0 {
            return;
        }
        let Some(holder) = Holder::of(request, self.policy.terms.bind_to) else {
            return;
        };
        let mut pools = self.pools();
        let had_row = pools.forget(&holder, boot_clock());
        self.pooled.store(pools.len(), Ordering::Relaxed);
        if had_row {
            self.drop_row(&holder);
        }
    }

    /// An operator says that nobody has an address of a pool. `false`: it is in no pool.
    pub(crate) fn free(&self, ip: Ipv4Addr) -> bool {
        let mut pools = self.pools();
        let Some(Cleared(holder)) = pools.clear(ip, boot_clock()) else {
            return false;
        };
        self.pooled.store(pools.len(), Ordering::Relaxed);
        if let Some(holder) = holder {
            self.drop_row(&holder);
        }
        true
    }

    /// A row that stays by a failure is harmless: it is of a client that no other row is about, and runs out by itself.
    fn drop_row(&self, holder: &Holder) {
        let (metrics, who) = (Arc::clone(&self.deps.metrics), holder.clone());
        let refused = move |error: StoreError| metrics.refused(PART, error.label(), &who, &error);
        let then = refused.clone();
        let queued = self
            .deps
            .store
            .write(rows::drop_row(holder), move |done| done.unwrap_or_else(then));
        queued.unwrap_or_else(refused);
    }

    fn send(&self, letter: &Letter<'_>, outlet: &Arc<dyn Outlet>) {
        let (packet, envelope, boot) = (letter.packet, &letter.envelope, &letter.boot);
        let metrics = &self.deps.metrics;
        if let Err(error) = outlet.send(packet, envelope) {
            let reason = match error.kind() {
                io::ErrorKind::WouldBlock => "send_buffer_full",
                _ => "send_failed",
            };
            return metrics.refused(PART, reason, &envelope.mac, &error);
        }
        let kind = envelope.kind.name();
        metrics.done(PART, kind);
        metrics.sent(PART, kind, packet.len() as u64);
        if let Some(note) = boot.note.filter(|_| letter.nak.is_none()) {
            metrics.refused(PART, note.label(), &envelope.mac, &note);
        }
        if !self.lines.may_write(Instant::now()) {
            return;
        }
        let file = find(&packet[HEADER..], OptionCode::BootfileName).unwrap_or_default();
        tracing::info!(
            kind,
            mac = %envelope.mac,
            ip = %envelope.yiaddr,
            xname = letter.xname,
            arch = boot.arch.map_or("", |arch| arch.name()),
            stage = boot.stage.name(),
            file = %String::from_utf8_lossy(&file),
            reason = letter.nak.map_or("", NakWhy::label),
            "dhcp reply"
        );
    }

    fn ignored(&self, why: Why, request: &Request<'_>) {
        self.deps.metrics.refused(PART, why.label(), request, &why);
    }

    /// Says from time to time how many lines were too many.
    fn say_left_out(&self) {
        if let Some(left_out) = self.lines.left_out(Instant::now()) {
            tracing::warn!(left_out, "dhcp lines left out: clients send too much");
        }
    }

    fn pools(&self) -> MutexGuard<'_, Pools> {
        // A panic while it was held is counted; the tables stay usable.
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reply that is bytes, and what is said about it.
struct Letter<'a> {
    packet: &'a [u8],
    envelope: Envelope,
    boot: Boot,
    /// Empty when the inventory does not know the client.
    xname: &'a str,
    nak: Option<NakWhy>,
}

/// How far a client's boot is, as far as logs and metrics tell.
#[derive(Clone, Copy)]
struct Boot {
    stage: Stage,
    arch: Option<Arch>,
    note: Option<Note>,
}

impl Boot {
    fn of(reply: &Reply<'_>) -> Self {
        Self {
            stage: reply.booting.stage,
            arch: reply.booting.arch,
            note: reply.booting.note,
        }
    }
}

/// Whether a client of the inventory now knows that an address of the pool is not its own any more.
fn settled(verdict: &Verdict<'_>) -> bool {
    match verdict {
        Verdict::Reply(reply) => reply.kind == ReplyKind::Ack,
        Verdict::Nak(..) | Verdict::Ignore(Why::Released) => true,
        _ => false,
    }
}

/// The sockets of one interface.
pub(crate) struct Port {
    name: String,
    number: u16,
    frames: Arc<Frames>,
    /// Shared with ACKs that wait for the store.
    outlet: Arc<dyn Outlet>,
}

struct Frames {
    udp: ArcSwap<UdpPort>,
    socket: FrameSocket,
    interface: ArcSwap<Interface>,
}

impl Port {
    /// Opens them.
    pub(crate) fn open(name: &str, number: u16) -> Result<Self, NetError> {
        let interface = Interface::find(name)?;
        let udp = UdpPort::open(&interface, number)?;
        let frames = Arc::new(Frames {
            udp: ArcSwap::from_pointee(udp),
            socket: FrameSocket::open()?,
            interface: ArcSwap::from_pointee(interface),
        });
        Ok(Self {
            name: name.into(),
            number,
            outlet: Arc::clone(&frames) as Arc<dyn Outlet>,
            frames,
        })
    }

    /// The interface's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Takes over what the interface is now. A socket keeps to the one that it was opened on: made anew, the interface needs another.
    fn follow(&self, interface: Interface, metrics: &Metrics) {
        let index = interface.index;
        if self.frames.udp.load().index() != index {
            match UdpPort::open(&interface, self.number) {
                Ok(udp) => {
                    self.frames.udp.store(Arc::new(udp));
                    tracing::warn!(
                        interface = self.name,
                        index,
                        "the interface is a new one: DHCP is heard again"
                    );
                }
                Err(error) => metrics.refused(PART, "reopen_failed", &self.name, &error),
            }
        }
        self.frames.interface.store(Arc::new(interface));
    }
}

impl Outlet for Frames {
    fn send(&self, packet: &[u8], envelope: &Envelope) -> io::Result<()> {
        let to = |ip: Ipv4Addr, port| self.udp.load().send(packet, (ip, port));
        let broadcast = || to(Ipv4Addr::BROADCAST, CLIENT_PORT);
        let interface = self.interface.load();
        // No frames on loopback and the like.
        let frame = |ip: Ipv4Addr, mac: Mac| {
            let from = (interface.ethernet?, envelope.server, SERVER_PORT);
            let to = (mac, ip, CLIENT_PORT);
            Some(self.socket.send(packet, interface.index, from, to))
        };
        match envelope.to {
            Destination::Relay(relay) => to(relay, SERVER_PORT),
            Destination::Unicast(ip) => to(ip, CLIENT_PORT),
            Destination::Broadcast => broadcast().or_else(|error| match error.kind() {
                // Replies to hosts that are not there fill the buffer of UDP; frames wait for nobody.
                io::ErrorKind::WouldBlock => frame(Ipv4Addr::BROADCAST, Mac([0xff; 6])).unwrap_or(Err(error)),
                _ => Err(error),
            }),
            Destination::Frame(ip, mac) => frame(ip, mac).unwrap_or_else(broadcast),
        }
    }
}

/// Receives until `ending`.
pub(crate) fn receive(shell: &Arc<Shell>, port: &Port, ending: &AtomicBool) {
    shorten_time_slice();
    let mut buffer = vec![0; LARGEST];
    let mut answer = Vec::with_capacity(ROOM);
    let mut receiving = receiving(&port.frames.interface.load());
    let (mut looked, mut there) = (Instant::now(), true);
    while !ending.load(Ordering::Relaxed) {
        let udp = port.frames.udp.load_full();
        match udp.receive(&mut buffer) {
            Ok(Some((length, peer))) => {
                let peer: SocketAddr = peer;
                shell.packet(&buffer[..length], &peer, &receiving, &port.outlet, &mut answer);
            }
            Ok(None) => {}
            Err(error) => {
                let metrics = &shell.deps.metrics;
                metrics.refused(PART, "receive_failed", &port.name(), &error);
                std::thread::sleep(PAUSE);
            }
        }
        shell.say_left_out();
        if looked.elapsed() >= LOOK_AGAIN {
            looked = Instant::now();
            // A bridge changes its hardware address when ports come and go; while it is gone the last state stays.
            match Interface::find(port.name()) {
                Ok(interface) => {
                    there = true;
                    receiving = self::receiving(&interface);
                    port.follow(interface, &shell.deps.metrics);
                }
                Err(error) if there => {
                    there = false;
                    tracing::warn!(interface = port.name(), %error, "no DHCP there until it comes back");
                }
                Err(_) => {}
            }
        }
    }
}

fn receiving(interface: &Interface) -> Receiving {
    Receiving {
        addresses: interface.addresses.clone(),
        link: None,
    }
}

fn clocks() -> Clocks {
    Clocks {
        boot: boot_clock(),
        boot_id: boot_id(),
        unix: unix_clock(),
    }
}

/// Which start of the machine this is; 0 where the system does not say, and rows then go by the wall clock.
fn boot_id() -> u64 {
    static ID: OnceLock<u64> = OnceLock::new();
    *ID.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        u64::from_str_radix(&digits, 16).unwrap_or_default()
    })
}

/// Time since the machine started, sleep included. Lease times run on it: nobody sets it.
fn boot_clock() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or_default(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}

fn unix_clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// The name of this part in metrics and logs.
const PART: &str = "dhcp4";
/// Ports of replies are constants even when the server listens elsewhere.
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// The largest packet that is read; a longer one arrives cut off and is refused as such.
const LARGEST: usize = 9216;
/// What nearly every answer fits in.
const ROOM: usize = 1024;
/// After a failing receive, so that a lasting failure does not eat the processor.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
