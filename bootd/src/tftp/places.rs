//! Who has a place, and who gives one up for somebody else.
//!
//! Pure bookkeeping of [`Engine`](super::engine::Engine), which owns the transfers themselves. Promises: a client whose requests are forged gets the
//! places of those that nobody was heard of; where all places are taken the first to go is who was never heard, then who does nothing with its place,
//! then one of the client that has by far the most. Who reads as machines read, and has few, keeps its place.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use super::engine::Id;

/// Places that are taken.
#[derive(Debug, Default)]
pub(super) struct Places {
    clients: HashMap<IpAddr, Client>,
    /// Those whose client was not heard yet. Numbers grow, so the first is the oldest.
    unheard: BTreeSet<Id>,
    /// There was nobody to give way; not before then is it looked again.
    look_again: Duration,
}

#[derive(Debug, Default)]
struct Client {
    count: usize,
    unheard: BTreeSet<Id>,
}

/// What a place is used for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Use {
    pub(super) id: Id,
    pub(super) client: IpAddr,
    /// Since it was given, and since its client said something new.
    pub(super) age: Duration,
    pub(super) silence: Duration,
    /// Bytes that the client has.
    pub(super) bytes: u64,
}

impl Places {
    /// A transfer begins; its client was not heard yet.
    pub(super) fn take(&mut self, id: Id, client: IpAddr) {
        self.unheard.insert(id);
        let client = self.clients.entry(client).or_default();
        client.count += 1;
        client.unheard.insert(id);
    }

    /// Its client was heard.
    pub(super) fn heard(&mut self, id: Id, client: IpAddr) {
        self.unheard.remove(&id);
        if let Some(client) = self.clients.get_mut(&client) {
            client.unheard.remove(&id);
        }
    }

    /// A transfer is over.
    pub(super) fn leave(&mut self, id: Id, client: IpAddr) {
        self.heard(id, client);
        if let Some(own) = self.clients.get_mut(&client) {
            own.count -= 1;
            if own.count == 0 {
                self.clients.remove(&client);
            }
        }
    }

    /// How many a client has.
    pub(super) fn of(&self, client: IpAddr) -> usize {
        self.clients.get(&client).map_or(0, |client| client.count)
    }

    /// The oldest of a client that was not heard.
    pub(super) fn unheard_of(&self, client: IpAddr) -> Option<Id> {
        self.clients.get(&client)?.unheard.first().copied()
    }

    /// Which one gives way to this client, when all places are taken. `None`: nobody does.
    pub(super) fn gives_way(&mut self, asker: IpAddr, uses: impl Iterator<Item = Use>, now: Duration) -> Option<Id> {
        if let Some(&oldest) = self.unheard.first() {
            return Some(oldest);
        }
        // Looking at all of them takes a while, so a flood of requests does not get to do it each time.
        if now < self.look_again {
            return None;
        }
        let greedy = self.greediest(asker);
        let found = uses
            .filter(|one| one.is_idle() || Some(one.client) == greedy)
            .min_by_key(|one| (!one.is_idle(), one.pace()));
        if found.is_none() {
            self.look_again = now + BETWEEN_LOOKS;
        }
        found.map(|one| one.id)
    }

    /// The client that has the most, if that is far more than a machine needs, and than the asker has.
    fn greediest(&self, asker: IpAddr) -> Option<IpAddr> {
        let (client, most) = self.clients.iter().max_by_key(|(_, client)| client.count)?;
        (most.count > MANY.max(self.of(asker) * 2)).then_some(*client)
    }
}

impl Use {
    /// Whether nothing is done with it that a machine that boots would do.
    fn is_idle(self) -> bool {
        self.silence >= LONG || self.age >= LONG && self.pace() < SLOW
    }

    /// Bytes a second.
    fn pace(self) -> u64 {
        self.bytes * 1000 / (self.age.as_millis() as u64).max(1)
    }
}

/// Without news. A client on a bad wire asks again within a second or two.
const LONG: Duration = Duration::from_secs(5);
/// In bytes a second: a loader takes four minutes.
const SLOW: u64 = 4096;
/// More transfers of one client at once than a machine has. Behind a translator of addresses there may be a rack.
const MANY: usize = 64;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn client(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    fn place(id: Id, number: u8, kilobytes: u64, age: u64, silence: u64) -> Use {
        Use {
            id,
            client: client(number),
            age: Duration::from_secs(age),
            silence: Duration::from_secs(silence),
            bytes: kilobytes << 10,
        }
    }

    /// All of them are heard.
    fn taken(uses: &[Use]) -> Places {
        let mut places = Places::default();
        for one in uses {
            places.take(one.id, one.client);
            places.heard(one.id, one.client);
        }
        places
    }

    fn gives_way(uses: &[Use]) -> Option<Id> {
        taken(uses).gives_way(client(99), uses.iter().copied(), NOW)
    }

    #[test]
    fn who_was_never_heard_goes_first_and_the_oldest_of_them() {
        let uses = [place(1, 1, 0, 9, 9), place(2, 2, 0, 8, 8), place(3, 2, 0, 7, 7)];
        let mut places = taken(&uses[..1]);
        places.take(2, client(2));
        places.take(3, client(2));
        let mut next = || places.gives_way(client(99), uses.iter().copied(), NOW);
        assert_eq!(next(), Some(2));
        places.leave(2, client(2));
        assert_eq!(places.unheard_of(client(2)), Some(3));
        assert_eq!(places.of(client(2)), 1);
        places.leave(3, client(2));
        assert_eq!((places.of(client(2)), places.unheard_of(client(2))), (0, None));
    }

    #[test]
    fn who_is_silent_or_crawls_goes_before_who_reads() {
        let reads = place(1, 1, 900, 9, 1);
        assert_eq!(gives_way(&[reads]), None);
        let silent = place(2, 2, 900, 9, 5);
        assert_eq!(gives_way(&[reads, silent]), Some(2));
        let crawls = place(3, 3, 30, 9, 0);
        assert_eq!(gives_way(&[reads, silent, crawls]), Some(3));
        // It has only just begun.
        assert_eq!(gives_way(&[place(4, 4, 0, 4, 4)]), None);
    }

    #[test]
    fn who_has_far_more_than_a_machine_needs_gives_one_up_the_slowest() {
        let mut uses: Vec<_> = (0..MANY as u64).map(|id| place(id, 1, 200 + id, 2, 0)).collect();
        assert_eq!(gives_way(&uses), None);
        uses.push(place(100, 1, 150, 2, 0));
        uses.push(place(101, 2, 100, 2, 0));
        assert_eq!(gives_way(&uses), Some(100));
        // Not to somebody who has nearly as many.
        let mut places = taken(&uses);
        (200..233).for_each(|id| places.take(id, client(3)));
        (200..233).for_each(|id| places.heard(id, client(3)));
        assert_eq!(places.gives_way(client(3), uses.iter().copied(), NOW), None);
    }

    #[test]
    fn a_flood_does_not_have_everybody_looked_at_each_time() {
        let uses = [place(1, 1, 900, 9, 1)];
        let mut places = taken(&uses);
        assert_eq!(places.gives_way(client(9), uses.into_iter(), NOW), None);
        let silent = [place(1, 1, 900, 9, 9)];
        assert_eq!(places.gives_way(client(9), silent.into_iter(), NOW), None);
        let later = NOW + BETWEEN_LOOKS;
        assert_eq!(places.gives_way(client(9), silent.into_iter(), later), Some(1));
    }
}
