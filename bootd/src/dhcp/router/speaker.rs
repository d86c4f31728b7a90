//! What is said to whom, on one interface: decided from messages and the time alone.
//!
//! Promises: nothing is said beside another router, unless the configuration wants that; everybody is told at most once in three seconds
//! (RFC 4861 section 10); one router that was heard is remembered, whatever comes. Times are of a clock that never goes back.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::advertisement::{self, INTERVAL, ROUTER_ADVERTISEMENT, options, promise};
use crate::config::RouterAdvertisement;

/// What becomes of an ICMPv6 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It asks for routers: the advertisement goes to the one who asked.
    ToAsker(Ipv6Addr),
    /// It asks for routers and has no address yet: the advertisement goes to all nodes of the link.
    ToAll,
    /// All nodes were told a moment ago.
    JustSaid,
    /// It is not known yet whether there is a router here; who asks asks again.
    Listening,
    /// It is for the router that is here.
    LeftToRouter(Ipv6Addr),
    /// A router is here, as of now.
    Router(Ipv6Addr),
    /// It is something else, which the kernel deals with.
    NotOurs,
    /// It asks or says something in a way that the RFC forbids. The metric label.
    Malformed(&'static str),
}

/// What one interface says, and what it heard.
#[derive(Debug)]
pub struct Speaker {
    message: Vec<u8>,
    /// Whether hosts would miss it.
    promises: bool,
    beside_routers: bool,
    /// Another router, and until when it counts.
    router: Option<(Ipv6Addr, Duration)>,
    /// When routers were asked whether they are there; `None`: that could not be sent yet, and so nothing could be answered.
    asked: Option<Duration>,
    to_all: Option<Duration>,
}

impl Speaker {
    /// One that has heard nothing yet.
    pub fn new(message: Vec<u8>, says: &RouterAdvertisement) -> Self {
        Self {
            promises: promise(&message).is_ok_and(|promise| !promise.is_zero()) || !says.rdnss.is_empty(),
            message,
            beside_routers: says.beside_routers,
            router: None,
            asked: None,
            to_all: None,
        }
    }

    /// The advertisement.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Whether routers are to be asked.
    pub fn wants_to_ask(&self) -> bool {
        self.asked.is_none() && !self.beside_routers
    }

    /// They were asked; the one that is here answers soon.
    pub fn asked(&mut self, now: Duration) {
        self.asked = Some(now);
    }

    /// What is to be said at the end, if anything.
    pub fn last(&self) -> Option<Vec<u8>> {
        (self.promises && self.to_all.is_some()).then(|| advertisement::last(&self.message))
    }

    /// Decides on a message from this address.
    pub fn hear(&mut self, message: &[u8], from: Ipv6Addr, now: Duration) -> Verdict {
        match message.first() {
            Some(&ROUTER_SOLICITATION) => self.solicited(message, from, now),
            Some(&ROUTER_ADVERTISEMENT) => self.advertised(message, from, now),
            _ => Verdict::NotOurs,
        }
    }

    /// Whether all nodes are to be told now, though nobody asked.
    pub fn is_due(&mut self, now: Duration) -> bool {
        let is_time = self.to_all.is_none_or(|last| now >= last + INTERVAL);
        let is_due = self.promises && is_time && !self.is_listening(now) && self.router(now).is_none();
        if is_due {
            self.to_all = Some(now);
        }
        is_due
    }

    /// The router that is here, beside which nothing is said.
    pub fn router(&self, now: Duration) -> Option<Ipv6Addr> {
        let (router, until) = self.router?;
        (until > now && !self.beside_routers).then_some(router)
    }

    fn is_listening(&self, now: Duration) -> bool {
        !self.beside_routers && self.asked.is_none_or(|asked| now < asked + LISTEN)
    }

    fn solicited(&mut self, message: &[u8], from: Ipv6Addr, now: Duration) -> Verdict {
        if message.len() < 8 || message.get(1) != Some(&0) {
            return Verdict::Malformed("bad_solicitation");
        }
        if options(message.get(8..).unwrap_or_default()).any(|option| option.is_err()) {
            return Verdict::Malformed("bad_solicitation_option");
        }
        if !from.is_unspecified() && !from.is_unicast_link_local() {
            // Routers never forward a link-local source, so this one may be from elsewhere.
            return Verdict::Malformed("solicitation_from_elsewhere");
        }
        if let Some(router) = self.router(now) {
            Verdict::LeftToRouter(router)
        } else if self.is_listening(now) {
            Verdict::Listening
        } else if !from.is_unspecified() {
            Verdict::ToAsker(from)
        } else if self.to_all.is_some_and(|last| now < last + BETWEEN) {
            Verdict::JustSaid
        } else {
            self.to_all = Some(now);
            Verdict::ToAll
        }
    }

    fn advertised(&mut self, message: &[u8], from: Ipv6Addr, now: Duration) -> Verdict {
        if !from.is_unicast_link_local() {
            return Verdict::Malformed("advertisement_from_elsewhere");
        }
        let Ok(promise) = promise(message) else {
            return Verdict::Malformed("bad_advertisement");
        };
        // Another server of ours, with the same configuration. The checksum is its own.
        let is_ours = message.get(4..) == self.message.get(4..);
        if promise.is_zero() || is_ours {
            if self.router.is_some_and(|(router, _)| router == from) {
                self.router = None;
            }
            return Verdict::NotOurs;
        }
        self.router = Some((from, now + promise));
        Verdict::Router(from)
    }
}

/// The message that asks for routers.
pub(super) const SOLICITATION: [u8; 8] = [ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
const ROUTER_SOLICITATION: u8 = 133;
/// Between two advertisements to all nodes (RFC 4861 section 10: MIN_DELAY_BETWEEN_RAS).
const BETWEEN: Duration = Duration::from_secs(3);
/// A router answers within half a second (MAX_RA_DELAY_TIME).
const LISTEN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::super::advertisement::{Dhcp6, encode};
    use super::*;

    const ASKER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfebe, 0xef01);
    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const NOW: Duration = Duration::from_secs(100);

    fn speaker(says: &RouterAdvertisement) -> Speaker {
        let mut speaker = Speaker::new(encode(says, Dhcp6::None), says);
        speaker.asked(Duration::ZERO);
        speaker
    }

    fn quiet() -> Speaker {
        speaker(&RouterAdvertisement::default())
    }

    fn with_prefix(prefix: &str) -> RouterAdvertisement {
        RouterAdvertisement {
            prefixes: vec![(prefix.parse().unwrap(), 64)],
            ..RouterAdvertisement::default()
        }
    }

    fn of_router(lifetime: u16) -> Vec<u8> {
        let mut message = encode(&RouterAdvertisement::default(), Dhcp6::None);
        message[6..8].copy_from_slice(&lifetime.to_be_bytes());
        message
    }

    #[test]
    fn a_solicitation_is_answered_where_it_came_from_and_all_nodes_are_told_seldom() {
        let mut speaker = quiet();
        assert_eq!(speaker.hear(&SOLICITATION, ASKER, NOW), Verdict::ToAsker(ASKER));
        let with_source = [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0xbe, 0xef, 1];
        assert_eq!(speaker.hear(&with_source, ASKER, NOW), Verdict::ToAsker(ASKER));
        let nobody = Ipv6Addr::UNSPECIFIED;
        assert_eq!(speaker.hear(&SOLICITATION, nobody, NOW), Verdict::ToAll);
        let soon = NOW + Duration::from_secs(2);
        assert_eq!(speaker.hear(&SOLICITATION, nobody, soon), Verdict::JustSaid);
        assert_eq!(speaker.hear(&SOLICITATION, nobody, NOW + BETWEEN), Verdict::ToAll);
    }

    #[test]
    fn anything_else_is_left_alone_or_refused() {
        let mut speaker = quiet();
        assert_eq!(speaker.hear(&[], ASKER, NOW), Verdict::NotOurs);
        assert_eq!(speaker.hear(&[135, 0, 0, 0], ASKER, NOW), Verdict::NotOurs);
        for bad in [
            &[133, 0, 0, 0][..],
            &[133, 1, 0, 0, 0, 0, 0, 0],
            &[133, 0, 0, 0, 0, 0, 0, 0, 1, 0],
            &[133, 0, 0, 0, 0, 0, 0, 0, 1, 9, 0],
            &[133, 0, 0, 0, 0, 0, 0, 0, 1],
            &[134, 0, 0, 0],
        ] {
            let verdict = speaker.hear(bad, ASKER, NOW);
            assert!(matches!(verdict, Verdict::Malformed(_)), "{bad:?}: {verdict:?}");
        }
        let elsewhere = "2001:db8::1".parse().unwrap();
        for message in [&SOLICITATION[..], &of_router(1800)] {
            assert!(matches!(speaker.hear(message, elsewhere, NOW), Verdict::Malformed(_)));
        }
        assert_eq!(speaker.router(NOW), None);
    }

    #[test]
    fn nothing_is_said_beside_another_router_until_it_goes() {
        let mut speaker = quiet();
        assert_eq!(speaker.hear(&of_router(1800), ROUTER, NOW), Verdict::Router(ROUTER));
        assert_eq!(speaker.hear(&SOLICITATION, ASKER, NOW), Verdict::LeftToRouter(ROUTER));
        let later = NOW + Duration::from_secs(1799);
        assert_eq!(speaker.hear(&SOLICITATION, ASKER, later), Verdict::LeftToRouter(ROUTER));
        let silent = NOW + Duration::from_secs(1800);
        assert_eq!(speaker.hear(&SOLICITATION, ASKER, silent), Verdict::ToAsker(ASKER));
        // Or it says so itself.
        speaker.hear(&of_router(1800), ROUTER, silent);
        assert_eq!(speaker.hear(&of_router(0), ROUTER, silent), Verdict::NotOurs);
        assert_eq!(speaker.hear(&SOLICITATION, ASKER, silent), Verdict::ToAsker(ASKER));
    }

    #[test]
    fn where_it_is_wanted_another_router_does_not_matter() {
        let mut speaker = speaker(&RouterAdvertisement {
            beside_routers: true,
            ..RouterAdvertisement::default()
        });
        speaker.hear(&of_router(1800), ROUTER, Duration::ZERO);
        assert_eq!(
            speaker.hear(&SOLICITATION, ASKER, Duration::ZERO),
            Verdict::ToAsker(ASKER)
        );
    }

    #[test]
    fn a_second_server_with_the_same_words_is_no_other_router() {
        let says = with_prefix("fd00:1::");
        let mut speaker = speaker(&says);
        let mut heard = encode(&says, Dhcp6::None);
        heard[2..4].copy_from_slice(&[0xab, 0xcd]);
        assert_eq!(speaker.hear(&heard, ROUTER, NOW), Verdict::NotOurs);
        assert_eq!(speaker.hear(&SOLICITATION, ASKER, NOW), Verdict::ToAsker(ASKER));
        let other = encode(&with_prefix("fd00:2::"), Dhcp6::None);
        assert_eq!(speaker.hear(&other, ROUTER, NOW), Verdict::Router(ROUTER));
        assert_eq!(quiet().hear(&quiet().message, ROUTER, NOW), Verdict::NotOurs);
    }

    #[test]
    fn for_a_second_it_is_found_out_whether_there_is_a_router() {
        let says = RouterAdvertisement::default();
        let mut speaker = Speaker::new(encode(&says, Dhcp6::None), &says);
        // An interface that has just come cannot send yet.
        assert!(speaker.wants_to_ask());
        assert_eq!(speaker.hear(&SOLICITATION, ASKER, NOW), Verdict::Listening);
        let mut speaker = quiet();
        assert!(!speaker.wants_to_ask());
        let early = Duration::from_millis(900);
        assert_eq!(speaker.hear(&SOLICITATION, ASKER, early), Verdict::Listening);
        assert_eq!(speaker.hear(&SOLICITATION, ASKER, LISTEN), Verdict::ToAsker(ASKER));
    }

    #[test]
    fn what_promises_something_is_said_again_and_taken_back_at_the_end() {
        let mut speaker = speaker(&with_prefix("fd00:1::"));
        assert!(!speaker.is_due(Duration::ZERO) && speaker.last().is_none());
        assert!(speaker.is_due(LISTEN) && !speaker.is_due(LISTEN));
        assert!(!speaker.is_due(LISTEN + INTERVAL / 2) && speaker.is_due(LISTEN + INTERVAL));
        assert!(speaker.last().is_some());
        speaker.hear(&of_router(9000), ROUTER, LISTEN + INTERVAL);
        assert!(!speaker.is_due(LISTEN + INTERVAL * 3));
        assert!(!quiet().is_due(NOW) && quiet().last().is_none());
    }
}
