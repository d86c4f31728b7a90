//! How the process gives memory back, which it shares with its plugins: they use the same allocator of the C library.
//!
//! Reading data files and answering with long lists takes many times the memory of what stays. glibc keeps what was freed, in an arena for
//! each thread, and learns from each large buffer to keep even more. A box for one rack has better use for it.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

/// Large buffers come from the system and go back to it; what is free at the end of an arena goes back, too. Called once, before any thread.
pub fn settle() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [(libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE)] {
        // SAFETY: sets a number of the allocator; it may refuse.
        let _ = unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives back all that is free, in the middle of arenas as well. Takes some milliseconds, and each arena only as long as it is looked
/// through, so that no other thread waits for all of them.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: frees what nobody uses; callable from any thread.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// Gives memory back whenever much of it was used and may be free again. Never ends.
pub fn watch() -> std::io::Result<()> {
    let watch = || {
        let (mut left, mut is_settled, mut last) = (0, false, Instant::now());
        loop {
            std::thread::sleep(LOOK_AGAIN);
            let used = anonymous_pages();
            if used <= left + MUCH && is_settled && last.elapsed() < ANYWAY {
                left = left.min(used);
                continue;
            }
            give_back();
            left = anonymous_pages();
            last = Instant::now();
            // What was in use a moment ago may be free now, so once more until nothing comes of it.
            is_settled = used <= left + MUCH / 4;
            // Who asks for long lists again and again gets them from memory that is at hand.
            std::thread::sleep(REST);
        }
    };
    std::thread::Builder::new().name("memory".into()).spawn(watch).map(drop)
}

/// Pages that hold data of this process and of no file; 0 when that is not known.
fn anonymous_pages() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut fields = text.split(' ').skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
    let (resident, shared) = (fields.next().unwrap_or(0), fields.next().unwrap_or(0));
    resident.saturating_sub(shared)
}

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// After memory was given back.
const REST: Duration = Duration::from_secs(2);
/// After this time a try costs little.
const ANYWAY: Duration = Duration::from_secs(60);
/// Pages more than at the last time that are worth a try: 8 MiB.
const MUCH: u64 = 2048;
/// The smallest buffer, in bytes, that is large: more than what a download takes at once. glibc would move this line up to 32 MiB by itself.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 1024 * 1024;
