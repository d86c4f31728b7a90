//! Addresses that are being probed before they are offered, and the packets that wait for that.
//!
//! Pure: the time is passed in, what is to be sent comes out. An address is probed twice, at once and after half of the time; who says in that
//! time that it has the address has it, unless that is the client itself. Two packets for one address are one client's, and the later one is
//! answered. Never holds more than [`MOST`] packets.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::time::Duration;

use bootd_sdk::mac::Mac;

/// An interface and an address.
type Place = (u32, Ipv4Addr);

/// What is being probed. `T` is what waits.
#[derive(Debug)]
pub(super) struct Probes<T> {
    /// How long an answer is waited for.
    time: Duration,
    waiting: HashMap<Place, Waiting<T>>,
    by_due: BTreeSet<(Duration, Place)>,
}

#[derive(Debug)]
struct Waiting<T> {
    kept: T,
    /// Who waits: its own answer is none.
    client: Option<Mac>,
    /// Our hardware address on that interface.
    from: Mac,
    /// Probes that were sent.
    sent: u32,
    due: Duration,
}

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begun<T> {
    /// It waits.
    Kept,
    /// It waits instead of an earlier one of its client.
    Instead,
    /// Too many wait.
    Full(T),
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due<T> {
    /// Send a probe, by the interface and our address there.
    Send((u32, Mac), Ipv4Addr),
    /// Nobody has the address; this waited for that.
    Unused(Ipv4Addr, T),
}

impl<T> Probes<T> {
    pub(super) fn new(time: Duration) -> Self {
        Self {
            time,
            waiting: HashMap::new(),
            by_due: BTreeSet::new(),
        }
    }

    /// Begins to probe an address on an interface for a client's packet.
    pub(super) fn begin(
        &mut self,
        (interface, from): (u32, Mac),
        ip: Ipv4Addr,
        client: Option<Mac>,
        kept: T,
        now: Duration,
    ) -> Begun<T> {
        let place = (interface, ip);
        if let Some(waiting) = self.waiting.get_mut(&place) {
            waiting.kept = kept;
            waiting.client = client;
            return Begun::Instead;
        }
        if self.waiting.len() >= MOST {
            return Begun::Full(kept);
        }
        let (sent, due) = (0, now);
        self.by_due.insert((due, place));
        self.waiting.insert(
            place,
            Waiting {
                kept,
                client,
                from,
                sent,
                due,
            },
        );
        Begun::Kept
    }

    /// When something is due.
    pub(super) fn next(&self) -> Option<Duration> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// One thing that is due by now.
    pub(super) fn due(&mut self, now: Duration) -> Option<Due<T>> {
        let &(due, place) = self.by_due.first().filter(|(due, _)| *due <= now)?;
        self.by_due.remove(&(due, place));
        let waiting = self.waiting.get_mut(&place)?;
        let (interface, ip) = place;
        if waiting.sent < PROBES {
            waiting.sent += 1;
            // A thread that is late shortens no wait.
            waiting.due = now + self.time / PROBES;
            self.by_due.insert((waiting.due, place));
            return Some(Due::Send((interface, waiting.from), ip));
        }
        let waiting = self.waiting.remove(&place)?;
        Some(Due::Unused(ip, waiting.kept))
    }

    /// Somebody on an interface says to have an address. What waited for that address, when it is not the client who has it.
    pub(super) fn heard(&mut self, place: Place, by: Mac) -> Option<T> {
        let waiting = self.waiting.get(&place)?;
        if waiting.client == Some(by) || waiting.sent == 0 {
            return None;
        }
        let waiting = self.waiting.remove(&place)?;
        self.by_due.remove(&(waiting.due, place));
        Some(waiting.kept)
    }
}

/// Packets that wait at once at most.
pub(super) const MOST: usize = 1024;
/// Probes for an address.
const PROBES: u32 = 2;

#[cfg(test)]
mod tests {
    use super::super::testing::mac;
    use super::*;

    const LINK: (u32, Mac) = (3, Mac([2, 0, 0, 0, 0, 0xfe]));
    const IP: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 200);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn probes() -> Probes<&'static str> {
        Probes::new(at(300))
    }

    #[test]
    fn an_address_that_nobody_claims_is_asked_for_twice_and_free_when_the_time_is_over() {
        let mut probes = probes();
        assert_eq!(probes.next(), None);
        assert_eq!(probes.begin(LINK, IP, Some(mac(9)), "a", at(1000)), Begun::Kept);
        assert_eq!(probes.next(), Some(at(1000)));
        assert_eq!(probes.due(at(1000)), Some(Due::Send(LINK, IP)));
        assert_eq!(probes.due(at(1149)), None);
        assert_eq!(probes.due(at(1150)), Some(Due::Send(LINK, IP)));
        assert_eq!(probes.due(at(1299)), None);
        // Another packet of the same client takes the place of the first, and waits no longer than it.
        assert_eq!(probes.begin(LINK, IP, Some(mac(9)), "b", at(1299)), Begun::Instead);
        assert_eq!(probes.due(at(1300)), Some(Due::Unused(IP, "b")));
        assert_eq!((probes.due(at(9000)), probes.next()), (None, None));
    }

    #[test]
    fn who_claims_the_address_has_it_unless_it_is_the_client_or_elsewhere() {
        let mut probes = probes();
        probes.begin(LINK, IP, Some(mac(9)), "a", at(0));
        // Before the question there is no answer.
        assert_eq!(probes.heard((3, IP), mac(0x66)), None);
        probes.due(at(0));
        assert_eq!(probes.heard((3, IP), mac(9)), None);
        assert_eq!(probes.heard((4, IP), mac(0x66)), None);
        assert_eq!(probes.heard((3, [172, 16, 0, 201].into()), mac(0x66)), None);
        assert_eq!(probes.heard((3, IP), mac(0x66)), Some("a"));
        assert_eq!(probes.heard((3, IP), mac(0x66)), None);
        assert_eq!((probes.due(at(9000)), probes.next()), (None, None));
    }

    #[test]
    fn the_queue_has_a_bound_and_room_again_when_the_time_is_over() {
        let mut probes = probes();
        let ip = |number: usize| Ipv4Addr::from_bits(0x0a00_0000 + number as u32);
        for number in 0..MOST {
            assert_eq!(probes.begin(LINK, ip(number), None, "", at(0)), Begun::Kept);
        }
        assert_eq!(probes.begin(LINK, ip(MOST), None, "late", at(0)), Begun::Full("late"));
        let mut free = 0;
        for now in [0, 150, 300] {
            while let Some(due) = probes.due(at(now)) {
                free += usize::from(matches!(due, Due::Unused(..)));
            }
        }
        assert_eq!(free, MOST);
        assert_eq!(probes.begin(LINK, ip(MOST), None, "late", at(300)), Begun::Kept);
    }
}
