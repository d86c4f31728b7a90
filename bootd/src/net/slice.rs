//! A short time slice for threads that answer packets: they need little, and at once.
//!
//! Linux since 6.12 takes a slice of its own for an ordinary thread, and lets one with a shorter slice run as soon as it wakes, also where a
//! thread with a longer one is at work. So a thread that computes without end, in a plugin say, delays a packet by nothing. No privilege is
//! needed; older kernels ignore it.
#![allow(unsafe_code)]

/// The kernel's shortest slice, in nanoseconds.
const SHORTEST: u64 = 100_000;

/// The kernel's `struct sched_attr`, version 0.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Asks for the shortest slice for the calling thread. Where it is not to be had, all goes on as it was.
pub fn shorten() {
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        // Said with the slice, so it must be what it is.
        nice: rustix::process::getpriority_process(None).unwrap_or(0),
        runtime: SHORTEST,
        ..SchedAttr::default()
    };
    // SAFETY: the kernel reads `size` bytes of the struct, which lives for the call; thread 0 is the calling one; flags are 0.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    if done != 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), "no short time slice");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thread_may_ask_for_it_without_any_privilege() {
        std::thread::spawn(super::shorten).join().unwrap();
    }
}
