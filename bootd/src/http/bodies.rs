//! Bodies of requests: read within the route's limit, a time, and what all of them together may take.
//!
//! Whoever showed a token shares one bound; all others share a smaller one, of which each client has a part, so that no stranger can keep a
//! write or a node's phone-home out. A body counts from its first byte until its request is answered. A read needs no large body, and strangers may not
//! send one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long a body may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What all bodies behind tokens may take together, in KiB.
const BEHIND_TOKENS_KIB: usize = 64 * 1024;
/// What all others may take together, in KiB.
const OTHERS_KIB: usize = 16 * 1024;
/// What one client may take of that, in KiB.
const EACH_KIB: u32 = 2 * 1024;
/// Bytes of a body that comes with a read, from somebody without a token.
const MOST_OF_A_READ: usize = 16 * 1024;

/// Who sends a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// Whoever the route's token, or the lack of one, lets in.
    BehindToken,
    /// Anybody who wants to read something.
    Reader(IpAddr),
    /// Anybody who sends something.
    Writer(IpAddr),
}

/// What all bodies share.
#[derive(Debug)]
pub(super) struct Bodies {
    behind_tokens: Semaphore,
    others: Semaphore,
    /// What clients have of the others' bound, in KiB.
    shares: Mutex<HashMap<IpAddr, u32>>,
}

/// A body that was read, and its part of the bound.
#[derive(Debug)]
pub(super) struct Read<'a> {
    pub(super) bytes: Vec<u8>,
    _held: Option<Held<'a>>,
}

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    TooLarge,
    TooSlow,
    TooMany,
    Broken,
}

impl Unread {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::TooLarge => "body_too_large",
            Self::TooSlow => "body_too_slow",
            Self::TooMany => "too_many_bodies",
            Self::Broken => "bad_body",
        }
    }

    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooMany => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }

    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::TooLarge => "the body is larger than this route allows",
            Self::TooSlow => "the body did not come in time",
            Self::TooMany => "too many bodies are being read; try again",
            Self::Broken => "the body is not well formed, or broke off",
        }
    }
}

impl Default for Bodies {
    fn default() -> Self {
        Self {
            behind_tokens: Semaphore::new(BEHIND_TOKENS_KIB),
            others: Semaphore::new(OTHERS_KIB),
            shares: Mutex::default(),
        }
    }
}

impl Bodies {
    /// Reads a body for a route with this limit.
    pub(super) async fn read(&self, body: Incoming, limit: usize, sender: Sender) -> Result<Read<'_>, Unread> {
        if body.is_end_stream() {
            return Ok(Read {
                bytes: Vec::new(),
                _held: None,
            });
        }
        let limit = match sender {
            Sender::Reader(_) => limit.min(MOST_OF_A_READ),
            Sender::BehindToken | Sender::Writer(_) => limit,
        };
        if body.size_hint().lower() > limit as u64 {
            return Err(Unread::TooLarge);
        }
        tokio::time::timeout(TIMEOUT, self.collect(body, limit, sender))
            .await
            .unwrap_or(Err(Unread::TooSlow))
    }

    /// Takes of the bound as bytes come: who announces much and sends nothing holds nothing.
    async fn collect(&self, mut body: Incoming, limit: usize, sender: Sender) -> Result<Read<'_>, Unread> {
        let mut held = self.nothing(sender);
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(part) = frame.map_err(|_| Unread::Broken)?.into_data() else {
                continue;
            };
            if bytes.len() + part.len() > limit {
                return Err(Unread::TooLarge);
            }
            bytes.extend_from_slice(&part);
            held.grow(bytes.len())?;
        }
        Ok(Read {
            bytes,
            _held: Some(held),
        })
    }

    fn nothing(&self, sender: Sender) -> Held<'_> {
        Held {
            bodies: self,
            sender,
            permits: None,
            kib: 0,
        }
    }

    fn shares(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of the bound; given back when dropped.
#[derive(Debug)]
struct Held<'a> {
    bodies: &'a Bodies,
    sender: Sender,
    permits: Option<SemaphorePermit<'a>>,
    kib: u32,
}

impl<'a> Held<'a> {
    /// Takes what is missing for so many bytes.
    fn grow(&mut self, bytes: usize) -> Result<(), Unread> {
        let wanted = u32::try_from(bytes.div_ceil(1024)).map_err(|_| Unread::TooMany)?;
        let more = wanted.saturating_sub(self.kib);
        if more == 0 {
            return Ok(());
        }
        let pool: &'a Semaphore = match self.sender {
            Sender::BehindToken => &self.bodies.behind_tokens,
            Sender::Reader(client) | Sender::Writer(client) => {
                let mut shares = self.bodies.shares();
                let share = shares.entry(client).or_default();
                if *share + more > EACH_KIB {
                    let nothing = *share == 0;
                    if nothing {
                        shares.remove(&client);
                    }
                    return Err(Unread::TooMany);
                }
                *share += more;
                &self.bodies.others
            }
        };
        self.kib += more;
        let permit = pool.try_acquire_many(more).map_err(|_| Unread::TooMany)?;
        match &mut self.permits {
            Some(permits) => permits.merge(permit),
            None => self.permits = Some(permit),
        }
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Sender::Reader(client) | Sender::Writer(client) = self.sender
            && self.kib > 0
        {
            let mut shares = self.bodies.shares();
            if let Some(share) = shares.get_mut(&client) {
                *share = share.saturating_sub(self.kib);
                if *share == 0 {
                    shares.remove(&client);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(172, 16, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(172, 16, 0, 2));

    fn held(bodies: &Bodies, sender: Sender, kib: usize) -> Result<Held<'_>, Unread> {
        let mut held = bodies.nothing(sender);
        held.grow(kib * 1024)?;
        Ok(held)
    }

    #[test]
    fn one_client_without_a_token_has_a_part_of_the_bound_until_its_bodies_are_gone() {
        let bodies = Bodies::default();
        let first = held(&bodies, Sender::Writer(CLIENT), EACH_KIB as usize - 1).unwrap();
        let second = held(&bodies, Sender::Reader(CLIENT), 1).unwrap();
        assert_eq!(held(&bodies, Sender::Reader(CLIENT), 1).unwrap_err(), Unread::TooMany);
        assert!(held(&bodies, Sender::Writer(OTHER), 1).is_ok());
        drop(first);
        assert!(held(&bodies, Sender::Writer(CLIENT), EACH_KIB as usize - 1).is_ok());
        drop(second);
        assert!(bodies.shares().is_empty());
    }

    #[test]
    fn strangers_who_take_all_that_they_may_leave_writers_with_tokens_theirs() {
        let bodies = Bodies::default();
        let clients = (0..u32::try_from(OTHERS_KIB).unwrap() / EACH_KIB).map(|n| IpAddr::V4(n.into()));
        let all: Vec<_> = clients
            .map(|client| held(&bodies, Sender::Writer(client), EACH_KIB as usize).unwrap())
            .collect();
        assert_eq!(held(&bodies, Sender::Writer(OTHER), 1).unwrap_err(), Unread::TooMany);
        assert!(!bodies.shares().contains_key(&OTHER));
        let whole = held(&bodies, Sender::BehindToken, BEHIND_TOKENS_KIB).unwrap();
        assert_eq!(held(&bodies, Sender::BehindToken, 1).unwrap_err(), Unread::TooMany);
        drop((all, whole));
        assert!(held(&bodies, Sender::Writer(OTHER), 1).is_ok());
    }

    #[test]
    fn what_was_taken_already_is_not_taken_again_as_a_body_grows() {
        let bodies = Bodies::default();
        let mut held = bodies.nothing(Sender::BehindToken);
        for bytes in [1, 1024, 1025, 64 * 1024] {
            held.grow(bytes).unwrap();
        }
        assert_eq!(bodies.behind_tokens.available_permits(), BEHIND_TOKENS_KIB - 64);
    }
}
