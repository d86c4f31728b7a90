//! How long a node waits after a boot that failed: one second at first, twice as long each time, up to a bound.
//!
//! A rack that lost its server at one moment comes back spread out: who waits how long follows from the node's name and the count of its
//! tries, so the same URL always gets the same script.

/// Seconds to wait after the try number `retry` (0: the first), at most `longest`, at least 1.
pub(crate) fn wait(longest: u32, retry: u32, who: &str) -> u32 {
    let longest = longest.max(1);
    let most = |retry: u32| 1u32.checked_shl(retry).unwrap_or(longest).min(longest);
    let Some(before) = retry.checked_sub(1) else { return 1 };
    // Never shorter than the time before, as long as it grows; then spread over the last quarter.
    let least = most(before).min(longest - longest / 4);
    let spread = most(retry).saturating_sub(least).saturating_add(1);
    least + u32::try_from(hash(who, retry) % u64::from(spread)).unwrap_or(0)
}

/// FNV-1a and a finish that spreads it over all bits: the same in each version, as a kept script must be.
fn hash(who: &str, retry: u32) -> u64 {
    let bytes = who.bytes().chain(retry.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wait_is_a_second_and_each_later_one_is_no_shorter_until_the_bound() {
        for node in 0..1000 {
            let who = format!("x1000c0s{node}b0n0");
            assert_eq!(wait(30, 0, &who), 1);
            let waits: Vec<u32> = (0..8).map(|retry| wait(30, retry, &who)).collect();
            for (retry, pair) in waits.windows(2).enumerate().take(5) {
                assert!(pair[0] <= pair[1], "{who} {retry} {waits:?}");
            }
            for (retry, wait) in waits.iter().enumerate().skip(1) {
                let most = (1 << retry).min(30);
                assert!((most / 2..=most).contains(wait), "{who} {waits:?}");
            }
        }
    }

    #[test]
    fn nodes_that_failed_together_come_back_apart_and_each_always_alike() {
        for retry in [3, 5, 9] {
            let mut waits: Vec<u32> = (0..1000).map(|n| wait(30, retry, &format!("x{n}c0s0b0n0"))).collect();
            assert_eq!(wait(30, retry, "x7c0s0b0n0"), waits[7]);
            waits.sort_unstable();
            waits.dedup();
            assert!(waits.len() >= 5, "{retry} {waits:?}");
        }
    }

    #[test]
    fn any_bound_and_any_count_of_tries_is_taken() {
        for longest in [0, 1, 2, 3, 4, 7, 30, u32::MAX] {
            for retry in [0, 1, 2, 31, 32, 33, u32::MAX] {
                let wait = wait(longest, retry, "x");
                assert!((1..=longest.max(1)).contains(&wait), "{longest} {retry} {wait}");
            }
        }
    }
}
