//! How much of what one client sends is looked at, and what is left unanswered when more comes than can be answered.
//!
//! Three rules, in this order, each with its own counted reason:
//!
//! 1. *Duplicates* ([`Shed::Duplicate`]): of packets of one batch with the same hardware address, transaction, message type and relay only the first
//!    is answered. A client that sent twice, or a relay pair that both passed its packet on, gets the answers of the relays that ask.
//! 2. *Rate* ([`Shed::RateLimited`]): a client has `dhcp.rate_limit` packets a second in the long run, and twice that many at once, from each
//!    address that it or its relay sends from: whoever uses its name elsewhere does not use up its share. What a packet calls itself is its client,
//!    so this keeps one that spins from taking the place of others; it does not stop who invents addresses.
//! 3. *Overload* ([`Shed::Overload`]): while the socket's buffer is more than half full, packets of clients that are not in the inventory
//!    are left: they ask again, later each time, whoever has a lease long before it ends, and the nodes of the rack boot. Everything else is answered in turn. What the kernel
//!    drops after that, without regard to whose it is, is counted as `receive_buffer_full`.
//!
//! Each thread has a [`Limit`] of its own, so there is nothing to wait for; a client's packets come through one or two of them. The table is
//! allocated once. Two clients whose hardware addresses meet in one place take turns in it, and each begins anew then: the limit is too
//! generous for them, never too tight. Pure: the time is passed in.

use std::time::Duration;

use bootd_sdk::mac::Mac;

/// Why a packet is left. Each is a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// The batch had it already.
    Duplicate,
    /// The client sends too much.
    RateLimited,
    /// Too much waits, and the inventory does not know the client.
    Overload,
}

impl Shed {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Duplicate => "shed_duplicate",
            Self::RateLimited => "rate_limited",
            Self::Overload => "shed_overload",
        }
    }

    /// What the log says.
    pub fn text(self) -> &'static str {
        match self {
            Self::Duplicate => "it came twice at once, and was answered once",
            Self::RateLimited => "the client sends more than dhcp.rate_limit",
            Self::Overload => "more comes than can be answered, and the client is not in the inventory",
        }
    }
}

/// How full the server's ears are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Load {
    /// Packets are answered as they come.
    #[default]
    Light,
    /// More than half of what can wait does.
    Heavy,
}

/// What packets are the same for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// The client.
    pub mac: Mac,
    /// The transaction.
    pub xid: u32,
    /// The message type; 0 where there is none.
    pub kind: u8,
    /// The relay, or the link that it names.
    pub relay: u128,
    /// The address that the packet was sent from.
    pub from: u128,
}

/// One thread's memory of who sent how much.
#[derive(Debug)]
pub struct Limit {
    /// Nanoseconds between two packets; 0: there is no limit.
    each: u64,
    /// Nanoseconds that a client may be ahead of that.
    ahead: u64,
    /// By a hash of the hardware address.
    clients: Box<[Client]>,
    /// The packets of this batch.
    batch: Vec<Token>,
    now: u64,
    load: Load,
}

/// A client and when it has used up what it may send.
#[derive(Debug, Clone, Copy)]
struct Client {
    mac: Mac,
    from: u128,
    used_up: u64,
}

impl Limit {
    /// So many packets a second each client; 0: as many as it wants.
    pub fn new(a_second: u32) -> Self {
        let each = 1_000_000_000_u64.checked_div(a_second.into()).unwrap_or(0);
        let nobody = Client {
            mac: Mac([0; 6]),
            from: 0,
            used_up: 0,
        };
        let places = if each == 0 { 0 } else { PLACES };
        Self {
            each,
            ahead: each * u64::from(a_second.saturating_mul(2)),
            clients: vec![nobody; places].into(),
            batch: Vec::with_capacity(ROOM),
            now: 0,
            load: Load::Light,
        }
    }

    /// A batch came, at this time of a clock that never goes back.
    pub fn begin(&mut self, now: Duration, load: Load) {
        self.now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.load = load;
        self.batch.clear();
    }

    /// Whether a packet is to be looked at, as far as that is known from itself.
    pub fn admit(&mut self, packet: Token) -> Result<(), Shed> {
        if self.batch.contains(&packet) {
            return Err(Shed::Duplicate);
        }
        if self.batch.len() < ROOM {
            self.batch.push(packet);
        }
        if self.each == 0 {
            return Ok(());
        }
        let Some(client) = self.clients.get_mut(place(packet.mac, packet.from)) else {
            return Ok(());
        };
        if (client.mac, client.from) != (packet.mac, packet.from) {
            *client = Client {
                mac: packet.mac,
                from: packet.from,
                used_up: self.now,
            };
        }
        let used_up = client.used_up.max(self.now).saturating_add(self.each);
        if used_up - self.now > self.ahead {
            return Err(Shed::RateLimited);
        }
        client.used_up = used_up;
        Ok(())
    }

    /// Whether a packet of a client that the inventory does not know is to be answered.
    pub fn admit_unknown(&self) -> Result<(), Shed> {
        match self.load {
            Load::Heavy => Err(Shed::Overload),
            Load::Light => Ok(()),
        }
    }
}

/// Multiplied by an odd constant of random bits, the low bytes of a hardware address, in which those of a rack differ, reach all places.
fn place(mac: Mac, from: u128) -> usize {
    let [a, b, c, d, e, f] = mac.0;
    let from = (from as u64) ^ (from >> u64::BITS) as u64;
    let number = u64::from_be_bytes([0, 0, a, b, c, d, e, f]) ^ from.rotate_left(32);
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (u64::BITS - PLACES.ilog2())) as usize
}

/// Clients that are remembered at most, a power of two.
const PLACES: usize = 1 << 14;
/// Packets of a batch that are remembered at most.
const ROOM: usize = crate::net::BATCH;

#[cfg(test)]
mod tests {
    use super::*;

    fn token(client: u16, xid: u32) -> Token {
        let [a, b] = client.to_be_bytes();
        Token {
            mac: Mac([2, 0, 0, 0, a, b]),
            xid,
            kind: 1,
            relay: 0,
            from: 0,
        }
    }

    #[test]
    fn a_client_that_spins_gets_its_share_and_others_theirs() {
        let mut limit = Limit::new(64);
        let mut admitted = 0;
        // One client sends 10,000 packets a second for ten seconds, another one 50.
        for packet in 0..100_000_u32 {
            limit.begin(Duration::from_micros(100 * u64::from(packet)), Load::Light);
            match limit.admit(token(1, packet)) {
                Ok(()) => admitted += 1,
                Err(shed) => assert_eq!(shed, Shed::RateLimited),
            }
            if packet % 200 == 0 {
                assert_eq!(limit.admit(token(2, packet)), Ok(()));
            }
        }
        assert!((64 * 10..64 * 12 + 2).contains(&admitted), "{admitted}");
    }

    #[test]
    fn a_burst_of_twice_the_rate_is_fine_and_zero_is_no_limit() {
        let mut limit = Limit::new(10);
        limit.begin(Duration::from_secs(1000), Load::Light);
        let burst = (0..100).filter(|xid| limit.admit(token(1, *xid)).is_ok()).count();
        assert_eq!(burst, 20);
        let mut none = Limit::new(0);
        none.begin(Duration::ZERO, Load::Light);
        assert!((0..1000).all(|xid| none.admit(token(1, xid)).is_ok()));
    }

    #[test]
    fn whoever_uses_a_clients_name_elsewhere_does_not_use_up_its_share() {
        let mut limit = Limit::new(10);
        limit.begin(Duration::from_secs(1000), Load::Light);
        for xid in 0..100 {
            let elsewhere = Token {
                from: 0xfd00 << 112 | 3,
                ..token(1, xid)
            };
            let _ = limit.admit(elsewhere);
        }
        assert_eq!(limit.admit(token(1, 100)), Ok(()));
    }

    #[test]
    fn a_batch_answers_a_packet_once_and_the_next_batch_again() {
        let mut limit = Limit::new(64);
        limit.begin(Duration::ZERO, Load::Light);
        assert_eq!(limit.admit(token(1, 7)), Ok(()));
        assert_eq!(limit.admit(token(1, 7)), Err(Shed::Duplicate));
        let request = Token { kind: 3, ..token(1, 7) };
        let relayed = Token {
            relay: 5,
            ..token(1, 7)
        };
        for other in [token(1, 8), token(2, 7), request, relayed] {
            assert_eq!(limit.admit(other), Ok(()));
        }
        limit.begin(Duration::ZERO, Load::Light);
        assert_eq!(limit.admit(token(1, 7)), Ok(()));
    }

    #[test]
    fn overload_costs_strangers_their_answers() {
        let mut limit = Limit::new(64);
        assert_eq!(limit.admit_unknown(), Ok(()));
        limit.begin(Duration::ZERO, Load::Heavy);
        assert_eq!(limit.admit_unknown(), Err(Shed::Overload));
    }

    #[test]
    fn the_nodes_of_a_rack_rarely_meet_in_the_table() {
        let places: std::collections::HashSet<usize> =
            (0..10_000).map(|client| place(token(client, 0).mac, 0)).collect();
        assert!(places.len() > 7_000, "{}", places.len());
        assert!(places.iter().all(|place| *place < PLACES));
    }
}
