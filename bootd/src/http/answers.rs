//! Answers of plugins on their way to clients.
//!
//! A client that takes a large answer slowly holds its memory meanwhile. So large ones take of what all together may have, until their last
//! byte is sent or the client is gone; one that finds nothing left is not sent. Small ones are bounded by the number of connections.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Body, full};

/// Bytes of an answer that counts.
const LARGE: usize = 64 * 1024;
/// What all large answers together may have, in KiB.
const ALL_KIB: usize = 256 * 1024;

/// What all large answers share.
#[derive(Debug)]
pub(super) struct Answers(Arc<Semaphore>);

impl Default for Answers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ALL_KIB)))
    }
}

impl Answers {
    /// A body that counts until nothing of it is in memory; `None`: there is no room for it now.
    pub(super) fn hold(&self, bytes: Bytes) -> Option<Body> {
        if bytes.len() < LARGE {
            return Some(full(bytes));
        }
        let kib = u32::try_from(bytes.len().div_ceil(1024)).ok()?;
        let held = Arc::clone(&self.0).try_acquire_many_owned(kib).ok()?;
        Some(full(Bytes::from_owner(Held { bytes, _held: held })))
    }
}

/// Bytes with their part of the bound.
struct Held {
    bytes: Bytes,
    _held: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::body::Body as _;

    use super::*;

    #[tokio::test]
    async fn large_answers_share_a_bound_until_their_last_byte_is_gone_and_small_ones_need_none() {
        let answers = Answers::default();
        let text: Vec<u8> = (0..64 << 20).map(|at| (at % 251) as u8).collect();
        let large = Bytes::from(text);
        let four: Vec<Body> = (0..4).map(|_| answers.hold(large.clone()).unwrap()).collect();
        assert!(answers.hold(large.slice(..LARGE)).is_none());
        assert!(answers.hold(large.slice(..LARGE - 1)).is_some());
        for body in four {
            assert_eq!(body.size_hint().exact(), Some(64 << 20));
            let sent = body.collect().await.unwrap().to_bytes();
            assert!(sent == large);
            let last = sent.slice(sent.len() - 1..);
            drop(sent);
            assert!(answers.hold(large.clone()).is_none(), "the last byte is on its way");
            drop(last);
            let next = answers.hold(large.clone());
            assert!(next.is_some());
            std::mem::forget(next);
        }
        assert_eq!(answers.0.available_permits(), 0);
    }

    #[test]
    fn an_answer_larger_than_the_bound_is_not_sent() {
        assert!(
            Answers::default()
                .hold(Bytes::from(vec![0; (ALL_KIB << 10) + 1]))
                .is_none()
        );
    }
}
