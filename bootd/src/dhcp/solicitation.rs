//! Router solicitations, answered so that nobody waits for a router that is not there.
//!
//! iPXE configures IPv6 before it fetches anything, and where no router answers it waits about 12.5 s for nothing. The advertisement that
//! it gets here promises nothing: no prefix, no default route (lifetime 0), no DHCPv6, so hosts change nothing else (RFC 4861, 6.2).
//! [`answer`] is pure; one thread an interface moves the messages. Where IPv6 is off, there is nothing to answer.

use std::io::ErrorKind;
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::metrics::Metrics;
use crate::net::Icmp6;

/// What becomes of an ICMPv6 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It asks for routers: the advertisement goes to the one who asked.
    ToAsker(Ipv6Addr),
    /// It asks for routers and has no address yet: the advertisement goes to all nodes of the link.
    ToAll,
    /// It is something else, which the kernel deals with.
    NotOurs,
    /// It asks in a way that the RFC forbids.
    Malformed(&'static str),
}

/// Decides on a message from this address.
pub fn answer(message: &[u8], from: Ipv6Addr) -> Verdict {
    if message.first() != Some(&ROUTER_SOLICITATION) {
        return Verdict::NotOurs;
    }
    if message.len() < 8 || message[1] != 0 {
        return Verdict::Malformed("bad_solicitation");
    }
    // Options are 8-byte units with a length of at least one (RFC 4861, 6.1.1).
    let mut options = &message[8..];
    while let [_, units, ..] = options {
        match options.get(usize::from(*units) * 8..) {
            Some(rest) if *units > 0 => options = rest,
            _ => return Verdict::Malformed("bad_solicitation_option"),
        }
    }
    if from.is_unspecified() {
        Verdict::ToAll
    } else if from.is_unicast_link_local() {
        Verdict::ToAsker(from)
    } else {
        // Routers never forward a link-local source, so this one may be from elsewhere.
        Verdict::Malformed("solicitation_from_elsewhere")
    }
}

/// A router advertisement that promises nothing. The checksum is the kernel's.
pub const ADVERTISEMENT: [u8; 16] = {
    let mut message = [0; 16];
    message[0] = ROUTER_ADVERTISEMENT;
    message
};

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
/// All nodes of the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Between two advertisements to all nodes (RFC 4861, 10: MIN_DELAY_BETWEEN_RAS).
const BETWEEN: Duration = Duration::from_secs(3);
/// The metrics' name of this part.
const PART: &str = "router_solicitation";

/// Answers on the socket's interface until `ending`. Made anew, an interface needs another socket.
pub(super) fn serve(socket: &Icmp6, metrics: &Metrics, ending: &AtomicBool) {
    let mut buffer = [0; 1500];
    let mut last_to_all: Option<Instant> = None;
    while !ending.load(Ordering::Relaxed) {
        let (message, from) = match socket.receive(&mut buffer) {
            Ok(Some(received)) => received,
            Ok(None) => continue,
            Err(error) => {
                metrics.refused(PART, "receive_failed", &"icmp6", &error);
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let to = match answer(message, from) {
            Verdict::NotOurs => continue,
            Verdict::Malformed(reason) => {
                metrics.refused(PART, reason, &from, &"");
                continue;
            }
            Verdict::ToAll if last_to_all.is_some_and(|last| last.elapsed() < BETWEEN) => {
                metrics.done(PART, "answered_a_moment_ago");
                continue;
            }
            Verdict::ToAll => {
                last_to_all = Some(Instant::now());
                ALL_NODES
            }
            Verdict::ToAsker(asker) => asker,
        };
        match socket.send(&ADVERTISEMENT, to) {
            Ok(()) => metrics.done(PART, "answered"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                metrics.refused(PART, "send_buffer_full", &to, &error);
            }
            Err(error) => metrics.refused(PART, "send_failed", &to, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfebe, 0xef01);

    #[test]
    fn a_solicitation_is_answered_where_it_came_from() {
        let plain = [133, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(answer(&plain, ASKER), Verdict::ToAsker(ASKER));
        assert_eq!(answer(&plain, Ipv6Addr::UNSPECIFIED), Verdict::ToAll);
        let with_source = [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0xbe, 0xef, 1];
        assert_eq!(answer(&with_source, ASKER), Verdict::ToAsker(ASKER));
    }

    #[test]
    fn anything_else_is_left_alone_or_refused() {
        assert_eq!(answer(&[], ASKER), Verdict::NotOurs);
        assert_eq!(answer(&[135, 0, 0, 0], ASKER), Verdict::NotOurs);
        assert!(matches!(answer(&[133, 0, 0, 0], ASKER), Verdict::Malformed(_)));
        assert!(matches!(
            answer(&[133, 0, 0, 0, 0, 0, 0, 0, 1, 0], ASKER),
            Verdict::Malformed(_)
        ));
        assert!(matches!(
            answer(&[133, 0, 0, 0, 0, 0, 0, 0, 1, 9, 0], ASKER),
            Verdict::Malformed(_)
        ));
        let plain = [133, 0, 0, 0, 0, 0, 0, 0];
        assert!(matches!(
            answer(&plain, "2001:db8::1".parse().unwrap()),
            Verdict::Malformed(_)
        ));
    }
}
