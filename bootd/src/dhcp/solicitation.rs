//! Router solicitations, answered so that nobody waits for a router that is not there.
//!
//! iPXE configures IPv6 before it fetches anything, and where no router answers it waits about 12.5 s for nothing. The advertisement that
//! it gets here promises no prefix and no route (lifetime 0), so hosts keep no address and no route of it; it says whether there is DHCPv6 (M and
//! O), and what `[router_advertisements]` of the configuration adds (RFC 4861, RFC 8106). Where another router advertises, this box keeps
//! silent as long as that one's word lasts, unless it is told to speak.
//!
//! [`read`], [`Advertisement`] and [`Link`] are pure; one thread an interface moves the messages. Where IPv6 is off, there is nothing to answer.

use std::io::ErrorKind;
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bootd_sdk::mac::Mac;

use super::served::Served;
use crate::config::RouterAdvertisements;
use crate::metrics::Metrics;
use crate::net::Icmp6;

/// What an ICMPv6 message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// It asks for routers.
    Solicitation,
    /// Another router speaks; its word lasts so long.
    Advertisement(Duration),
    /// Something else, which the kernel deals with.
    NotOurs,
    /// It speaks in a way that the RFC forbids.
    Malformed(&'static str),
}

/// Reads a message from this address.
pub fn read(message: &[u8], from: Ipv6Addr) -> Message {
    let (kind, header) = match message.first() {
        Some(&ROUTER_SOLICITATION) => (ROUTER_SOLICITATION, 8),
        Some(&ROUTER_ADVERTISEMENT) => (ROUTER_ADVERTISEMENT, 16),
        _ => return Message::NotOurs,
    };
    let is_solicitation = kind == ROUTER_SOLICITATION;
    let bad =
        |solicitation, advertisement| Message::Malformed(if is_solicitation { solicitation } else { advertisement });
    let Some((head, mut options)) = message.split_at_checked(header) else {
        return bad("bad_solicitation", "bad_advertisement");
    };
    if head.get(1) != Some(&0) {
        return bad("bad_solicitation", "bad_advertisement");
    }
    // Routers never forward an address of the link, so any other source may be from elsewhere.
    let is_of_link = from.is_unicast_link_local() || (is_solicitation && from.is_unspecified());
    if !is_of_link {
        return bad("solicitation_from_elsewhere", "advertisement_from_elsewhere");
    }
    let mut lasts = match head.get(6..8) {
        Some(&[a, b]) if !is_solicitation => Duration::from_secs(u16::from_be_bytes([a, b]).into()),
        _ => Duration::ZERO,
    };
    // Options are 8-byte units with a length of at least one (RFC 4861, 6.1.1).
    while !options.is_empty() {
        let units = options.get(1).copied().unwrap_or_default();
        let Some((option, rest)) = options.split_at_checked(usize::from(units) * 8).filter(|_| units > 0) else {
            return bad("bad_solicitation_option", "bad_advertisement_option");
        };
        match option.first() {
            // Who has no address yet cannot be reached by its hardware's.
            Some(&SOURCE) if from.is_unspecified() => return bad("bad_solicitation_option", ""),
            // A prefix is a word, too, of a router that is not the way to elsewhere.
            Some(&PREFIX) if !is_solicitation => {
                let valid = option.get(4..8).and_then(|valid| valid.first_chunk());
                let valid = valid.map_or(0, |valid| u32::from_be_bytes(*valid));
                lasts = lasts.max(Duration::from_secs(valid.into()).min(LONGEST));
            }
            _ => {}
        }
        options = rest;
    }
    match is_solicitation {
        true => Message::Solicitation,
        false => Message::Advertisement(lasts),
    }
}

/// What this box says of itself on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// The message. The checksum is the kernel's.
    bytes: Vec<u8>,
    /// From one unasked advertisement to the next. `None`: nothing in it ends, so nobody need be reminded.
    every: Option<Duration>,
    /// It is sent where another router advertises, too.
    beside_others: bool,
}

impl Advertisement {
    /// `managed`: DHCPv6 is served there. `mac`: the interface's.
    pub fn new(config: Option<&RouterAdvertisements>, managed: bool, mac: Option<Mac>) -> Self {
        let flags = if managed { MANAGED | OTHER } else { 0 };
        let mut bytes = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, 0, flags];
        bytes.resize(16, 0);
        let Some(config) = config else {
            return Self {
                bytes,
                every: None,
                beside_others: false,
            };
        };
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let lifetime = u16::try_from(config.lifetime.as_secs()).unwrap_or(u16::MAX);
        if let Some(field) = bytes.get_mut(6..8) {
            field.copy_from_slice(&lifetime.to_be_bytes());
        }
        if let Some(mac) = mac {
            bytes.extend_from_slice(&[SOURCE, 1]);
            bytes.extend_from_slice(&mac.0);
        }
        for prefix in &config.prefixes {
            let flags = if prefix.on_link { 0x80 } else { 0 } | if prefix.autonomous { 0x40 } else { 0 };
            bytes.extend_from_slice(&[PREFIX, 4, prefix.net.prefix_len(), flags]);
            bytes.extend_from_slice(&seconds(prefix.valid).to_be_bytes());
            bytes.extend_from_slice(&seconds(prefix.preferred).to_be_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&prefix.net.network().octets());
        }
        if !config.dns.is_empty() {
            // Each is two units; the configuration allows few.
            let units = u8::try_from(1 + 2 * config.dns.len()).unwrap_or(u8::MAX);
            bytes.extend_from_slice(&[NAME_SERVERS, units, 0, 0]);
            bytes.extend_from_slice(&seconds(3 * LONGEST_REST).to_be_bytes());
            config.dns.iter().for_each(|ip| bytes.extend_from_slice(&ip.octets()));
        }
        // Three come before anything in it ends.
        let lives = config.prefixes.iter().map(|prefix| prefix.preferred);
        let lives = lives.chain((!config.lifetime.is_zero()).then_some(config.lifetime));
        let lives = lives.chain((!config.dns.is_empty()).then_some(3 * LONGEST_REST));
        let every = lives.min().map(|life| (life / 3).clamp(BETWEEN, LONGEST_REST));
        Self {
            bytes,
            every,
            beside_others: config.beside_others,
        }
    }

    /// The message.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The last word: this is no router any more. `None`: it never said that it is one.
    fn last(&self) -> Option<Vec<u8>> {
        let lifetime = self.bytes.get(6..8)?;
        if lifetime == [0, 0] {
            return None;
        }
        let mut bytes = self.bytes.clone();
        bytes.get_mut(6..8)?.fill(0);
        Some(bytes)
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Send the advertisement there.
    Send(Ipv6Addr),
    /// Nothing, and this is counted.
    Nothing(&'static str),
}

/// What is known of a link. The time is passed in.
#[derive(Debug, Default)]
pub struct Link {
    /// The other router, and when its word ends.
    other: Option<(Ipv6Addr, Duration)>,
    /// When the last advertisement to all left.
    last_to_all: Option<Duration>,
    /// Since when the link is heard.
    since: Duration,
}

impl Link {
    /// A link that is heard from now on, and on which other routers were asked for.
    pub fn new(now: Duration) -> Self {
        Self {
            since: now,
            ..Self::default()
        }
    }

    /// The other router whose word lasts.
    pub fn other(&self, now: Duration) -> Option<Ipv6Addr> {
        self.other.filter(|(_, until)| now < *until).map(|(ip, _)| ip)
    }

    /// Another router speaks.
    pub fn heard(&mut self, from: Ipv6Addr, lasts: Duration, now: Duration) {
        let until = now.saturating_add(lasts);
        match &mut self.other {
            // Its own last word ends it; another one's does not.
            Some((ip, end)) if *ip != from && now < *end => *end = until.max(*end),
            other => *other = Some((from, until)),
        }
    }

    /// Somebody asks for routers.
    pub fn asked(&mut self, from: Ipv6Addr, what: &Advertisement, now: Duration) -> Act {
        if !what.beside_others {
            if self.other(now).is_some() {
                return Act::Nothing("another_router_advertises");
            }
            // A router that is there was asked a moment ago, and has half a second to answer; the client asks again.
            if now.saturating_sub(self.since) < HEARING {
                return Act::Nothing("still_listening");
            }
        }
        if !from.is_unspecified() {
            return Act::Send(from);
        }
        if self.last_to_all.is_some_and(|last| now.saturating_sub(last) < BETWEEN) {
            return Act::Nothing("answered_a_moment_ago");
        }
        self.last_to_all = Some(now);
        Act::Send(ALL_NODES)
    }

    /// Time went by: whether all are to be reminded.
    pub fn tick(&mut self, what: &Advertisement, now: Duration) -> Option<Ipv6Addr> {
        let every = what.every?;
        let listens = now.saturating_sub(self.since) < HEARING;
        if !what.beside_others && (listens || self.other(now).is_some()) {
            return None;
        }
        if self.last_to_all.is_some_and(|last| now.saturating_sub(last) < every) {
            return None;
        }
        self.last_to_all = Some(now);
        Some(ALL_NODES)
    }
}

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
/// Flags of an advertisement: addresses by DHCPv6, and all else by it.
const MANAGED: u8 = 0x80;
const OTHER: u8 = 0x40;
/// Options: the sender's hardware address, a prefix, name servers.
const SOURCE: u8 = 1;
const PREFIX: u8 = 3;
const NAME_SERVERS: u8 = 25;
/// All nodes of the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers of the link.
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Between two advertisements to all nodes (RFC 4861, 10: MIN_DELAY_BETWEEN_RAS).
const BETWEEN: Duration = Duration::from_secs(3);
/// At most from one unasked advertisement to the next (RFC 4861, 6.2.1: MaxRtrAdvInterval).
const LONGEST_REST: Duration = Duration::from_secs(600);
/// The longest that a router's word counts (RFC 4861, 6.2.1: AdvDefaultLifetime).
const LONGEST: Duration = Duration::from_secs(9000);
/// How long other routers have to answer (RFC 4861, 10: MAX_RA_DELAY_TIME), and something for the way.
const HEARING: Duration = Duration::from_millis(700);
/// The metrics' name of this part.
const PART: &str = "router_solicitation";

/// What a thread works with.
pub(super) struct Deps<'a> {
    pub(super) name: &'a str,
    pub(super) advertisement: &'a Advertisement,
    pub(super) served: &'a Served,
    pub(super) metrics: &'a Metrics,
}

/// Answers on the socket's interface until `ending`. Made anew, an interface needs another socket.
pub(super) fn serve(socket: &Icmp6, deps: &Deps<'_>, ending: &AtomicBool) {
    let Deps {
        name,
        advertisement,
        served,
        metrics,
    } = deps;
    let start = Instant::now();
    let mut link = Link::new(Duration::ZERO);
    let mut buffer = [0; 1500];
    send(
        socket,
        metrics,
        &[ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0],
        ALL_ROUTERS,
        "asked",
    );
    while !ending.load(Ordering::Relaxed) {
        let received = socket.receive(&mut buffer);
        let now = start.elapsed();
        match received {
            Ok(Some((message, from))) => match read(message, from) {
                Message::NotOurs => {}
                Message::Malformed(reason) => metrics.refused(PART, reason, &from, &""),
                Message::Advertisement(lasts) => link.heard(from, lasts, now),
                Message::Solicitation => match link.asked(from, advertisement, now) {
                    Act::Send(to) => send(socket, metrics, advertisement.bytes(), to, "answered"),
                    Act::Nothing(why) => metrics.done(PART, why),
                },
            },
            Ok(None) => {}
            Err(error) => {
                metrics.refused(PART, "receive_failed", name, &error);
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        if let Some(to) = link.tick(advertisement, now) {
            send(socket, metrics, advertisement.bytes(), to, "advertised");
        }
        served.router(name, link.other(now));
    }
    if let Some(last) = advertisement.last() {
        send(socket, metrics, &last, ALL_NODES, "advertised");
    }
}

fn send(socket: &Icmp6, metrics: &Metrics, message: &[u8], to: Ipv6Addr, what: &'static str) {
    match socket.send(message, to) {
        Ok(()) => metrics.done(PART, what),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            metrics.refused(PART, "send_buffer_full", &to, &error);
        }
        Err(error) => metrics.refused(PART, "send_failed", &to, &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AdvertisedPrefix;

    const ASKER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfebe, 0xef01);
    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const NOBODY: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
    const PLAIN: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn nothing() -> Advertisement {
        Advertisement::new(None, false, None)
    }

    fn router() -> RouterAdvertisements {
        RouterAdvertisements {
            lifetime: second(1800),
            prefixes: vec![AdvertisedPrefix {
                net: "fd00::/64".parse().unwrap(),
                on_link: true,
                autonomous: false,
                valid: second(7200),
                preferred: second(3600),
            }],
            dns: vec!["fd00::fe".parse().unwrap()],
            beside_others: false,
        }
    }

    #[test]
    fn a_solicitation_is_answered_where_it_came_from() {
        let mut link = Link::default();
        assert_eq!(read(&PLAIN, ASKER), Message::Solicitation);
        assert_eq!(link.asked(ASKER, &nothing(), second(1)), Act::Send(ASKER));
        assert_eq!(read(&PLAIN, NOBODY), Message::Solicitation);
        assert_eq!(link.asked(NOBODY, &nothing(), second(2)), Act::Send(ALL_NODES));
        assert_eq!(
            link.asked(NOBODY, &nothing(), second(3)),
            Act::Nothing("answered_a_moment_ago")
        );
        assert_eq!(link.asked(NOBODY, &nothing(), second(6)), Act::Send(ALL_NODES));
        let with_source = [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0xbe, 0xef, 1];
        assert_eq!(read(&with_source, ASKER), Message::Solicitation);
    }

    #[test]
    fn anything_else_is_left_alone_or_refused() {
        assert_eq!(read(&[], ASKER), Message::NotOurs);
        assert_eq!(read(&[135, 0, 0, 0], ASKER), Message::NotOurs);
        let bad = |bytes: &[u8], from| matches!(read(bytes, from), Message::Malformed(_));
        for options in [
            &[1][..],
            &[1, 0],
            &[1, 9, 0],
            &[1, 1, 0, 0, 0, 0, 0],
            &[1, 1, 0, 0, 0, 0, 0, 0, 1],
        ] {
            assert!(bad(&[&PLAIN, options].concat(), ASKER), "{options:?}");
            assert!(bad(&[&[134][..], &[0; 15], options].concat(), ROUTER), "{options:?}");
        }
        assert!(bad(&[133, 0, 0, 0], ASKER) && bad(&[134; 15], ROUTER) && bad(&[133, 1, 0, 0, 0, 0, 0, 0], ASKER));
        assert!(bad(&PLAIN, "2001:db8::1".parse().unwrap()));
        assert!(bad(&[&[134][..], &[0; 15]].concat(), NOBODY));
        assert!(bad(&[&PLAIN[..], &[1, 1, 2, 0, 0, 0, 0, 1]].concat(), NOBODY));
    }

    #[test]
    fn by_default_it_promises_nothing_but_dhcpv6_where_that_is() {
        let mut expected = [0; 16];
        expected[0] = 134;
        assert_eq!(nothing().bytes(), expected);
        expected[5] = 0xc0;
        assert_eq!(Advertisement::new(None, true, Some(Mac([2; 6]))).bytes(), expected);
        assert_eq!(nothing().last(), None);
        let mut link = Link::default();
        assert_eq!(link.tick(&nothing(), second(9999)), None);
    }

    #[test]
    fn what_is_configured_is_in_it_and_comes_again_before_it_ends() {
        let mac = Mac([2, 0, 0, 0, 0, 0xfe]);
        let what = Advertisement::new(Some(&router()), true, Some(mac));
        let mut expected = vec![134, 0, 0, 0, 0, 0xc0, 0x07, 0x08];
        expected.extend_from_slice(&[0; 8]);
        expected.extend_from_slice(&[1, 1, 2, 0, 0, 0, 0, 0xfe]);
        expected.extend_from_slice(&[3, 4, 64, 0x80, 0, 0, 0x1c, 0x20, 0, 0, 0x0e, 0x10, 0, 0, 0, 0]);
        expected.extend_from_slice(&"fd00::".parse::<Ipv6Addr>().unwrap().octets());
        expected.extend_from_slice(&[25, 3, 0, 0, 0, 0, 0x07, 0x08]);
        expected.extend_from_slice(&"fd00::fe".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(what.bytes(), expected);
        assert_eq!(read(what.bytes(), ROUTER), Message::Advertisement(second(7200)));
        let mut link = Link::default();
        assert_eq!(link.tick(&what, Duration::ZERO), None);
        assert_eq!(link.tick(&what, second(1)), Some(ALL_NODES));
        assert_eq!(link.tick(&what, second(500)), None);
        assert_eq!(link.tick(&what, second(601)), Some(ALL_NODES));
        let last = what.last().unwrap();
        assert_eq!((last.len(), &last[6..8]), (expected.len(), &[0, 0][..]));
    }

    #[test]
    fn where_another_router_advertises_there_is_no_second_voice() {
        let what = nothing();
        let mut link = Link::new(second(10));
        assert_eq!(link.asked(ASKER, &what, second(10)), Act::Nothing("still_listening"));
        let mut word = [0; 16];
        (word[0], word[7]) = (134, 100);
        assert_eq!(read(&word, ROUTER), Message::Advertisement(second(100)));
        link.heard(ROUTER, second(100), second(11));
        assert_eq!(
            link.asked(ASKER, &what, second(110)),
            Act::Nothing("another_router_advertises")
        );
        assert_eq!((link.other(second(110)), link.other(second(111))), (Some(ROUTER), None));
        assert_eq!(link.asked(ASKER, &what, second(111)), Act::Send(ASKER));
        // A short word of a second one does not end the first one's; its own last word does.
        link.heard(ROUTER, second(100), second(200));
        link.heard(ASKER, Duration::ZERO, second(201));
        assert_eq!(link.other(second(202)), Some(ROUTER));
        link.heard(ROUTER, Duration::ZERO, second(203));
        assert_eq!(link.other(second(203)), None);
        let told = Advertisement::new(
            Some(&RouterAdvertisements {
                beside_others: true,
                ..router()
            }),
            false,
            None,
        );
        link.heard(ROUTER, second(100), second(300));
        assert_eq!(link.asked(ASKER, &told, second(301)), Act::Send(ASKER));
        assert_eq!(
            link.tick(&Advertisement::new(Some(&router()), false, None), second(301)),
            None
        );
        assert_eq!(link.tick(&told, second(301)), Some(ALL_NODES));
    }
}
