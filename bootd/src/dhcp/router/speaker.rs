//! What is said to whom, on one interface: decided from messages and the time alone.
//!
//! Promises: nothing is said beside another router, unless the configuration wants that; everybody is told at most once in three seconds
//! (RFC 4861 section 10), and where many ask at once everybody is told instead of each of them, which needs no neighbour; a few routers are
//! remembered, whatever comes, and those that are silent for long are asked whether they are still there. Times are of a clock that never goes back.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::advertisement::{self, INTERVAL, ROUTER_ADVERTISEMENT, options, promise};
use crate::config::RouterAdvertisement;
use crate::net::Heard;

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
    /// Those that are here: a few.
    routers: Vec<Router>,
    /// When routers were asked whether they are there; `None`: that could not be sent yet, and so nothing could be answered.
    asked: Option<Duration>,
    to_all: Option<Duration>,
    /// When this second of answers began, and how many askers got one since.
    second: Duration,
    answers: u32,
}

/// Another router.
#[derive(Debug)]
struct Router {
    address: Ipv6Addr,
    heard: Duration,
    /// As long as it said.
    until: Duration,
    /// How often it was asked since it was heard.
    asked: u32,
}

impl Speaker {
    /// One that has heard nothing yet.
    pub fn new(message: Vec<u8>, says: &RouterAdvertisement) -> Self {
        Self {
            promises: promise(&message).is_ok_and(|promise| !promise.is_zero()) || !says.rdnss.is_empty(),
            message,
            beside_routers: says.beside_routers,
            routers: Vec::new(),
            asked: None,
            to_all: None,
            second: Duration::ZERO,
            answers: 0,
        }
    }

    /// The advertisement.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Whether routers are to be asked: at first, and when one was silent for long.
    pub fn wants_to_ask(&self, now: Duration) -> bool {
        let is_silent = |router: &Router| router.is_to_be_asked(now);
        !self.beside_routers && (self.asked.is_none() || self.routers.iter().any(is_silent))
    }

    /// They were asked; those that are here answer soon.
    pub fn asked(&mut self, now: Duration) {
        self.asked.get_or_insert(now);
        let silent = self.routers.iter_mut().filter(|router| router.is_to_be_asked(now));
        silent.for_each(|router| router.asked += 1);
    }

    /// What is to be said at the end, if anything.
    pub fn last(&self) -> Option<Vec<u8>> {
        (self.promises && self.to_all.is_some()).then(|| advertisement::last(&self.message))
    }

    /// Decides on a message.
    pub fn hear(&mut self, heard: Heard<'_>, now: Duration) -> Verdict {
        let kind = heard.message.first().copied();
        match kind {
            // Who is not on this link cannot send that (RFC 4861 sections 6.1.1 and 6.1.2).
            Some(ROUTER_SOLICITATION | ROUTER_ADVERTISEMENT) if heard.hop_limit != 255 => {
                Verdict::Malformed("forwarded")
            }
            Some(ROUTER_SOLICITATION) => self.solicited(heard.message, heard.from, now),
            Some(ROUTER_ADVERTISEMENT) => self.advertised(heard.message, heard.from, now),
            _ => Verdict::NotOurs,
        }
    }

    /// Tells everybody, if that is not too often: one who asked cannot be told alone.
    pub fn to_all(&mut self, now: Duration) -> Verdict {
        if self.to_all.is_some_and(|last| now < last + BETWEEN) {
            return Verdict::JustSaid;
        }
        self.to_all = Some(now);
        Verdict::ToAll
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

    /// The router that is here, beside which nothing is said: of several the one that stays the longest.
    pub fn router(&self, now: Duration) -> Option<Ipv6Addr> {
        let here = self.routers.iter().filter(|router| router.is_here(now));
        let longest = here.max_by_key(|router| router.until)?;
        (!self.beside_routers).then_some(longest.address)
    }

    fn is_listening(&self, now: Duration) -> bool {
        !self.beside_routers && self.asked.is_none_or(|asked| now < asked + LISTEN)
    }

    fn solicited(&mut self, message: &[u8], from: Ipv6Addr, now: Duration) -> Verdict {
        if message.len() < 8 || message.get(1) != Some(&0) {
            return Verdict::Malformed("bad_solicitation");
        }
        for option in options(message.get(8..).unwrap_or_default()) {
            match option {
                // Who has no address yet has none that is to be remembered for it.
                Ok([SOURCE_LINK_LAYER_ADDRESS, ..]) if from.is_unspecified() => {}
                Ok(_) => continue,
                Err(_) => {}
            }
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
        } else if from.is_unspecified() || self.answers_enough(now) {
            self.to_all(now)
        } else {
            Verdict::ToAsker(from)
        }
    }

    /// Whether so many got an answer of their own in this second that the rest hears one for all: each takes a place among the kernel's neighbours,
    /// whether there is somebody or not.
    fn answers_enough(&mut self, now: Duration) -> bool {
        if now >= self.second + SECOND {
            (self.second, self.answers) = (now, 0);
        }
        self.answers += 1;
        self.answers > ANSWERS
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
        self.routers
            .retain(|router| router.address != from && router.is_here(now));
        if promise.is_zero() || is_ours {
            return Verdict::NotOurs;
        }
        if self.routers.len() >= ROUTERS
            && let Some(first) = self.routers.iter().enumerate().min_by_key(|(_, router)| router.until)
        {
            self.routers.swap_remove(first.0);
        }
        self.routers.push(Router {
            address: from,
            heard: now,
            until: now + promise,
            asked: 0,
        });
        Verdict::Router(from)
    }
}

impl Router {
    fn is_here(&self, now: Duration) -> bool {
        now < self.until && (self.asked < ASKS || now < self.asks_at(self.asked))
    }

    fn is_to_be_asked(&self, now: Duration) -> bool {
        self.asked < ASKS && now < self.until && now >= self.asks_at(self.asked)
    }

    fn asks_at(&self, asked: u32) -> Duration {
        self.heard + SILENCE + BETWEEN_ASKS * asked
    }
}

/// The message that asks for routers.
pub(super) const SOLICITATION: [u8; 8] = [ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
const ROUTER_SOLICITATION: u8 = 133;
/// Between two advertisements to all nodes (RFC 4861 section 10: MIN_DELAY_BETWEEN_RAS).
const BETWEEN: Duration = Duration::from_secs(3);
/// Of another router, before it is asked whether it is still there; routers say it themselves more often, if nobody changed that.
const SILENCE: Duration = Duration::from_secs(600);
/// As hosts ask (RFC 4861 section 10: RTR_SOLICITATION_INTERVAL, MAX_RTR_SOLICITATIONS).
const BETWEEN_ASKS: Duration = Duration::from_secs(4);
const ASKS: u32 = 3;
/// Other routers that are remembered.
const ROUTERS: usize = 8;
/// Who gets an answer of its own in each second.
const ANSWERS: u32 = 100;
const SECOND: Duration = Duration::from_secs(1);
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
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

    fn hear(speaker: &mut Speaker, message: &[u8], from: Ipv6Addr, now: Duration) -> Verdict {
        let hop_limit = 255;
        speaker.hear(
            Heard {
                message,
                from,
                hop_limit,
            },
            now,
        )
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
        assert_eq!(hear(&mut speaker, &SOLICITATION, ASKER, NOW), Verdict::ToAsker(ASKER));
        let with_source = [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0xbe, 0xef, 1];
        assert_eq!(hear(&mut speaker, &with_source, ASKER, NOW), Verdict::ToAsker(ASKER));
        let nobody = Ipv6Addr::UNSPECIFIED;
        assert_eq!(hear(&mut speaker, &SOLICITATION, nobody, NOW), Verdict::ToAll);
        let soon = NOW + Duration::from_secs(2);
        assert_eq!(hear(&mut speaker, &SOLICITATION, nobody, soon), Verdict::JustSaid);
        assert_eq!(hear(&mut speaker, &SOLICITATION, nobody, NOW + BETWEEN), Verdict::ToAll);
    }

    #[test]
    fn anything_else_is_left_alone_or_refused() {
        let mut speaker = quiet();
        assert_eq!(hear(&mut speaker, &[], ASKER, NOW), Verdict::NotOurs);
        assert_eq!(hear(&mut speaker, &[135, 0, 0, 0], ASKER, NOW), Verdict::NotOurs);
        for bad in [
            &[133, 0, 0, 0][..],
            &[133, 1, 0, 0, 0, 0, 0, 0],
            &[133, 0, 0, 0, 0, 0, 0, 0, 1, 0],
            &[133, 0, 0, 0, 0, 0, 0, 0, 1, 9, 0],
            &[133, 0, 0, 0, 0, 0, 0, 0, 1],
            &[134, 0, 0, 0],
        ] {
            let verdict = hear(&mut speaker, bad, ASKER, NOW);
            assert!(matches!(verdict, Verdict::Malformed(_)), "{bad:?}: {verdict:?}");
        }
        let elsewhere = "2001:db8::1".parse().unwrap();
        for message in [&SOLICITATION[..], &of_router(1800)] {
            assert!(matches!(
                hear(&mut speaker, message, elsewhere, NOW),
                Verdict::Malformed(_)
            ));
        }
        assert_eq!(speaker.router(NOW), None);
    }

    #[test]
    fn nothing_is_said_beside_another_router_until_it_goes() {
        let mut speaker = quiet();
        assert_eq!(
            hear(&mut speaker, &of_router(1800), ROUTER, NOW),
            Verdict::Router(ROUTER)
        );
        assert_eq!(
            hear(&mut speaker, &SOLICITATION, ASKER, NOW),
            Verdict::LeftToRouter(ROUTER)
        );
        let later = NOW + Duration::from_secs(1799);
        assert_eq!(
            hear(&mut speaker, &SOLICITATION, ASKER, later),
            Verdict::LeftToRouter(ROUTER)
        );
        let silent = NOW + Duration::from_secs(1800);
        assert_eq!(
            hear(&mut speaker, &SOLICITATION, ASKER, silent),
            Verdict::ToAsker(ASKER)
        );
        // Or it says so itself.
        hear(&mut speaker, &of_router(1800), ROUTER, silent);
        assert_eq!(hear(&mut speaker, &of_router(0), ROUTER, silent), Verdict::NotOurs);
        assert_eq!(
            hear(&mut speaker, &SOLICITATION, ASKER, silent),
            Verdict::ToAsker(ASKER)
        );
    }

    #[test]
    fn where_it_is_wanted_another_router_does_not_matter() {
        let mut speaker = speaker(&RouterAdvertisement {
            beside_routers: true,
            ..RouterAdvertisement::default()
        });
        hear(&mut speaker, &of_router(1800), ROUTER, Duration::ZERO);
        assert_eq!(
            hear(&mut speaker, &SOLICITATION, ASKER, Duration::ZERO),
            Verdict::ToAsker(ASKER)
        );
    }

    #[test]
    fn a_second_server_with_the_same_words_is_no_other_router() {
        let says = with_prefix("fd00:1::");
        let mut speaker = speaker(&says);
        let mut heard = encode(&says, Dhcp6::None);
        heard[2..4].copy_from_slice(&[0xab, 0xcd]);
        assert_eq!(hear(&mut speaker, &heard, ROUTER, NOW), Verdict::NotOurs);
        assert_eq!(hear(&mut speaker, &SOLICITATION, ASKER, NOW), Verdict::ToAsker(ASKER));
        let other = encode(&with_prefix("fd00:2::"), Dhcp6::None);
        assert_eq!(hear(&mut speaker, &other, ROUTER, NOW), Verdict::Router(ROUTER));
        assert_eq!(hear(&mut quiet(), &quiet().message, ROUTER, NOW), Verdict::NotOurs);
    }

    #[test]
    fn for_a_second_it_is_found_out_whether_there_is_a_router() {
        let says = RouterAdvertisement::default();
        let mut speaker = Speaker::new(encode(&says, Dhcp6::None), &says);
        // An interface that has just come cannot send yet.
        assert!(speaker.wants_to_ask(NOW));
        assert_eq!(hear(&mut speaker, &SOLICITATION, ASKER, NOW), Verdict::Listening);
        let mut speaker = quiet();
        assert!(!speaker.wants_to_ask(NOW));
        let early = Duration::from_millis(900);
        assert_eq!(hear(&mut speaker, &SOLICITATION, ASKER, early), Verdict::Listening);
        assert_eq!(
            hear(&mut speaker, &SOLICITATION, ASKER, LISTEN),
            Verdict::ToAsker(ASKER)
        );
    }

    #[test]
    fn what_promises_something_is_said_again_and_taken_back_at_the_end() {
        let mut speaker = speaker(&with_prefix("fd00:1::"));
        assert!(!speaker.is_due(Duration::ZERO) && speaker.last().is_none());
        assert!(speaker.is_due(LISTEN) && !speaker.is_due(LISTEN));
        assert!(!speaker.is_due(LISTEN + INTERVAL / 2) && speaker.is_due(LISTEN + INTERVAL));
        assert!(speaker.last().is_some());
        hear(&mut speaker, &of_router(9000), ROUTER, LISTEN + INTERVAL);
        assert!(!speaker.is_due(LISTEN + INTERVAL * 3));
        assert!(!quiet().is_due(NOW) && quiet().last().is_none());
    }

    #[test]
    fn what_did_not_come_from_this_link_is_not_believed() {
        let mut speaker = quiet();
        for message in [&SOLICITATION[..], &of_router(1800)] {
            for hop_limit in [0, 1, 64, 254] {
                let heard = Heard {
                    message,
                    from: ROUTER,
                    hop_limit,
                };
                assert_eq!(speaker.hear(heard, NOW), Verdict::Malformed("forwarded"));
            }
        }
        let with_source = [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0xbe, 0xef, 1];
        let verdict = hear(&mut speaker, &with_source, Ipv6Addr::UNSPECIFIED, NOW);
        assert_eq!(verdict, Verdict::Malformed("bad_solicitation_option"));
    }

    #[test]
    fn of_two_routers_the_one_that_stays_counts() {
        let mut speaker = quiet();
        let other = "fe80::2".parse().unwrap();
        hear(&mut speaker, &of_router(1800), ROUTER, NOW);
        hear(&mut speaker, &of_router(1), other, NOW);
        assert_eq!(speaker.router(NOW), Some(ROUTER));
        hear(&mut speaker, &of_router(0), other, NOW);
        assert_eq!(speaker.router(NOW), Some(ROUTER));
        // However many come.
        for number in 0..100 {
            let from = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, number);
            hear(&mut speaker, &of_router(100), from, NOW);
        }
        assert_eq!((speaker.router(NOW), speaker.routers.len()), (Some(ROUTER), ROUTERS));
    }

    #[test]
    fn a_router_that_is_silent_for_long_is_asked_and_forgotten_when_it_does_not_answer() {
        let mut speaker = quiet();
        hear(&mut speaker, &of_router(9000), ROUTER, NOW);
        let long = NOW + SILENCE;
        assert!(!speaker.wants_to_ask(NOW) && speaker.wants_to_ask(long));
        speaker.asked(long);
        assert!(!speaker.wants_to_ask(long) && speaker.wants_to_ask(long + BETWEEN_ASKS));
        // It answers.
        hear(&mut speaker, &of_router(9000), ROUTER, long + BETWEEN_ASKS);
        let long = long + BETWEEN_ASKS + SILENCE;
        for number in 0..ASKS {
            let now = long + BETWEEN_ASKS * number;
            assert!(speaker.wants_to_ask(now));
            speaker.asked(now);
            assert_eq!(speaker.router(now), Some(ROUTER));
        }
        assert_eq!(speaker.router(long + BETWEEN_ASKS * ASKS), None);
        assert!(!speaker.wants_to_ask(long + BETWEEN_ASKS * ASKS));
    }

    #[test]
    fn where_many_ask_at_once_all_are_told_instead_of_each() {
        let mut speaker = quiet();
        let mut alone = 0;
        for number in 0..1000 {
            let from = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, number);
            alone += u32::from(hear(&mut speaker, &SOLICITATION, from, NOW) == Verdict::ToAsker(from));
        }
        assert_eq!((alone, speaker.to_all), (ANSWERS, Some(NOW)));
        let later = NOW + SECOND;
        assert_eq!(hear(&mut speaker, &SOLICITATION, ASKER, later), Verdict::ToAsker(ASKER));
    }
}
