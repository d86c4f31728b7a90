//! The thread that probes addresses before they are offered, and answers the packets that waited for it.
//!
//! A packet thread hands a packet over and goes on. The socket is open only while there is something to probe and for a moment after, so a wire
//! full of ARP costs nothing at other times. What it hears about an address goes to the pool; the packet is then decided again. When it cannot
//! work, addresses are offered unprobed, which is said.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bootd_sdk::mac::Mac;

use super::PART;
use super::letter::Letter;
use super::policy::Receiving;
use super::probe::{Begun, Due, Probes};
use super::service::{Desk, Shell};
use crate::dhcp::clock::boot_clock;
use crate::dhcp::outbox::Outlet;
use crate::net::{Arp, Interface, NetError, Wake};

/// What packet threads hand over.
pub(super) struct Waiting {
    probes: Mutex<Probes<Kept>>,
    wake: Wake,
    ending: AtomicBool,
    /// Whether a thread works on it.
    served: AtomicBool,
}

/// A packet that waits, and how it came.
pub(super) struct Kept {
    pub(super) bytes: Vec<u8>,
    pub(super) peer: SocketAddrV4,
    pub(super) receiving: Receiving,
    pub(super) outlet: Arc<dyn Outlet<Letter>>,
    /// Addresses that were probed for it.
    pub(super) probed: u8,
}

impl Waiting {
    /// Nothing waits yet.
    pub(super) fn new(time: Duration) -> std::io::Result<Self> {
        Ok(Self {
            probes: Mutex::new(Probes::new(time)),
            wake: Wake::new()?,
            ending: AtomicBool::default(),
            served: AtomicBool::default(),
        })
    }

    /// Has an address probed for a packet.
    pub(super) fn begin(&self, link: (u32, Mac), ip: Ipv4Addr, client: Option<Mac>, kept: Kept) -> Begun<Kept> {
        if !self.served.load(Ordering::Relaxed) {
            return Begun::Full(kept);
        }
        let begun = self.probes().begin(link, ip, client, kept, boot_clock());
        if matches!(begun, Begun::Kept) {
            self.wake.wake();
        }
        begun
    }

    /// Whether packets wait.
    pub(super) fn is_busy(&self) -> bool {
        self.probes().next().is_some()
    }

    fn probes(&self) -> MutexGuard<'_, Probes<Kept>> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread; it ends with this.
pub(crate) struct Prober {
    waiting: Arc<Waiting>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    /// Starts it, where addresses are to be probed.
    pub(crate) fn start(shell: &Arc<Shell>) -> Option<Self> {
        let waiting = shell.waiting()?;
        let started = Arp::open().map_err(|error| error.to_string()).and_then(|_| {
            let (shell, waiting) = (Arc::clone(shell), Arc::clone(&waiting));
            let thread = std::thread::Builder::new().name("arp".into());
            thread
                .spawn(move || serve(&shell, &waiting))
                .map_err(|error| error.to_string())
        });
        match started {
            Ok(thread) => {
                waiting.served.store(true, Ordering::Relaxed);
                let thread = Some(thread);
                Some(Self { waiting, thread })
            }
            Err(error) => {
                tracing::warn!(error, "addresses are offered without being probed");
                None
            }
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.waiting.served.store(false, Ordering::Relaxed);
        self.waiting.ending.store(true, Ordering::Relaxed);
        self.waiting.wake.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(shell: &Arc<Shell>, waiting: &Waiting) {
    let metrics = &shell.deps().metrics;
    let mut desk = shell.unlimited_desk();
    let mut arp = None;
    let mut busy = boot_clock();
    while !waiting.ending.load(Ordering::Relaxed) {
        let now = boot_clock();
        let next = waiting.probes().next();
        if next.is_some() {
            busy = now;
        } else if now.saturating_sub(busy) > IDLE {
            arp = None;
        }
        if next.is_some() && arp.is_none() {
            arp = opened(Arp::open(), shell);
        }
        let failed = arp.as_ref().and_then(|arp| hear(arp, shell, waiting, &mut desk).err());
        if let Some(error) = failed {
            metrics.refused(PART, "arp_failed", &"", &error);
            arp = None;
        }
        work(arp.as_ref(), shell, waiting, &mut desk);
        let next = waiting.probes().next();
        let time = match (next, &arp) {
            (Some(next), _) => Some(next.saturating_sub(boot_clock())),
            (None, Some(_)) => Some(IDLE),
            (None, None) => None,
        };
        if let Err(error) = waiting.wake.wait(arp.as_ref(), time) {
            metrics.refused(PART, "arp_failed", &"", &error);
            std::thread::sleep(PAUSE);
        }
    }
}

fn opened(arp: Result<Arp, NetError>, shell: &Shell) -> Option<Arp> {
    arp.map_err(|error| shell.deps().metrics.refused(PART, "arp_failed", &"", &error))
        .ok()
}

/// Does what is due.
fn work(arp: Option<&Arp>, shell: &Arc<Shell>, waiting: &Waiting, desk: &mut Desk) {
    loop {
        // Not held while a packet is decided, which may begin the next probe.
        let Some(due) = waiting.probes().due(boot_clock()) else {
            return;
        };
        match due {
            Due::Send(link, ip) => {
                let sent = arp.map(|arp| arp.probe(now(link), ip));
                if let Some(Err(error)) = sent {
                    shell.deps().metrics.refused(PART, "probe_not_sent", &ip, &error);
                }
            }
            Due::Unused(ip, kept) => shell.unused(ip, &kept, desk),
        }
    }
}

/// The interface with the hardware address that it has now, which answers go to: a bridge changes its own when ports come and go.
fn now((index, before): (u32, Mac)) -> (u32, Mac) {
    let all = Interface::all().unwrap_or_default();
    let found = all.iter().find(|interface| interface.index == index);
    (index, found.and_then(|interface| interface.ethernet).unwrap_or(before))
}

fn hear(arp: &Arp, shell: &Arc<Shell>, waiting: &Waiting, desk: &mut Desk) -> std::io::Result<()> {
    // Some at a time: what is due must not wait for a wire that never is silent.
    for _ in 0..AT_ONCE {
        let Some(heard) = arp.hear()? else { break };
        let kept = waiting.probes().heard((heard.interface, heard.ip), heard.mac);
        if let Some(kept) = kept {
            shell.used(heard.ip, heard.mac, &kept, desk);
        }
    }
    Ok(())
}

/// How long the socket stays open when there is nothing to probe.
const IDLE: Duration = Duration::from_secs(10);
/// Messages that are heard between two looks at what is due.
const AT_ONCE: usize = 256;
/// After a failure, so that a lasting one does not eat the processor.
const PAUSE: Duration = Duration::from_millis(100);
