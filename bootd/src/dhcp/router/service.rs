//! The thread of one interface: moves messages, counts them, and says when another router comes.

use std::io::ErrorKind;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::advertisement::{Dhcp6, encode};
use super::speaker::{SOLICITATION, Speaker, Verdict};
use crate::config::RouterAdvertisement;
use crate::metrics::Metrics;
use crate::net::{Heard, Icmp6};
use crate::watchdog::Rounds;

/// What a thread works with.
pub(in crate::dhcp) struct Service {
    /// Of this interface; one that is made anew needs another.
    pub(in crate::dhcp) socket: Icmp6,
    pub(in crate::dhcp) interface: String,
    pub(in crate::dhcp) says: RouterAdvertisement,
    pub(in crate::dhcp) dhcp6: Dhcp6,
    /// The other router, for who wants to know.
    pub(in crate::dhcp) router: Arc<ArcSwapOption<Ipv6Addr>>,
    pub(in crate::dhcp) metrics: Arc<Metrics>,
}

impl Service {
    /// Answers as long as there are rounds.
    pub(in crate::dhcp) fn run(&self, rounds: &Rounds) {
        let began = Instant::now();
        let mut speaker = Speaker::new(encode(&self.says, self.dhcp6), &self.says);
        let mut buffer = [0; 1500];
        let mut told = Told::default();
        while rounds.go_on() {
            // While the interface makes sure that its address is its own, nothing can be sent.
            if speaker.wants_to_ask(began.elapsed()) && self.socket.send(&SOLICITATION, ALL_ROUTERS).is_ok() {
                self.metrics.done(PART, "asked");
                speaker.asked(began.elapsed());
            }
            match self.socket.receive(&mut buffer) {
                Ok(Some(heard)) => self.deal(heard, &mut speaker, began.elapsed()),
                Ok(None) => {}
                Err(error) => {
                    self.metrics.refused(PART, "receive_failed", &self.interface, &error);
                    std::thread::sleep(PAUSE);
                }
            }
            let now = began.elapsed();
            if speaker.is_due(now) {
                self.send(speaker.message(), ALL_NODES, "unsolicited");
            }
            self.tell(speaker.router(now), &mut told, now);
        }
        // What was said holds where another process says it from now on.
        if let Some(last) = speaker.last().filter(|_| !rounds.are_handed_over()) {
            self.send(&last, ALL_NODES, "taken_back");
        }
    }

    fn deal(&self, heard: Heard<'_>, speaker: &mut Speaker, now: Duration) {
        let verdict = match speaker.hear(heard, now) {
            Verdict::ToAsker(asker) if self.send(speaker.message(), asker, "answered") == Sent::NoNeighbour => {
                speaker.to_all(now)
            }
            verdict => verdict,
        };
        match verdict {
            Verdict::NotOurs | Verdict::ToAsker(_) => {}
            Verdict::Router(_) => self.metrics.done(PART, "other_router_heard"),
            Verdict::LeftToRouter(_) => self.metrics.done(PART, "left_to_router"),
            Verdict::JustSaid => self.metrics.done(PART, "answered_a_moment_ago"),
            Verdict::Listening => self.metrics.done(PART, "listening"),
            Verdict::Malformed(reason) => self.metrics.refused(PART, reason, &heard.from, &self.interface),
            Verdict::ToAll => {
                self.send(speaker.message(), ALL_NODES, "answered");
            }
        }
    }

    fn send(&self, message: &[u8], to: Ipv6Addr, what: &str) -> Sent {
        let Err(error) = self.socket.send(message, to) else {
            self.metrics.done(PART, what);
            return Sent::Well;
        };
        let is_full = error.kind() == ErrorKind::WouldBlock;
        let reason = if is_full { "send_buffer_full" } else { "send_failed" };
        self.metrics.refused(PART, reason, &to, &error);
        match error.raw_os_error() {
            Some(libc::ENOBUFS) => Sent::NoNeighbour,
            _ => Sent::Failed,
        }
    }

    /// Once when it comes, and once when it goes; where it comes and goes all the time, not each time.
    fn tell(&self, router: Option<Ipv6Addr>, told: &mut Told, now: Duration) {
        if self.router.load().as_deref().copied() != router {
            self.router.store(router.map(Arc::new));
        }
        if told.router.is_some() == router.is_some() || told.at.is_some_and(|at| now < at + BETWEEN_LINES) {
            return;
        }
        let interface = &self.interface;
        match (told.router, router) {
            (_, Some(router)) => {
                tracing::info!(interface, %router, "a router advertises here: solicitations are left to it");
            }
            (Some(router), None) => {
                tracing::info!(interface, %router, "the router advertises no more: solicitations are answered again");
            }
            (None, None) => {}
        }
        *told = Told { router, at: Some(now) };
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Well,
    Failed,
    /// The kernel knows so many neighbours that there is no room for another one.
    NoNeighbour,
}

/// What the log said last of another router, and when.
#[derive(Default)]
struct Told {
    router: Option<Ipv6Addr>,
    at: Option<Duration>,
}

/// The metrics' name of this part.
const PART: &str = "router_solicitation";
/// All nodes of the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers of the link.
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const BETWEEN_LINES: Duration = Duration::from_secs(5);
/// After a failing receive.
const PAUSE: Duration = Duration::from_millis(100);
