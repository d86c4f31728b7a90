//! Threads that answer packets go first: they need little, and at once.
//!
//! Two things are asked for. A short time slice: Linux since 6.12 takes one of its own for an ordinary thread, and lets it run as soon as it
//! wakes, also where a thread with a longer one is at work; no privilege is needed, and older kernels ignore it. And a niceness of -10, so
//! that packets have nine tenths of a processor for which something else computes without end; that needs CAP_SYS_NICE, or LimitNICE= of
//! systemd. Where it is not to be had, everything else steps back instead.
#![allow(unsafe_code)]

use std::sync::OnceLock;

/// The kernel's shortest slice, in nanoseconds.
const SHORTEST: u64 = 100_000;
/// The niceness. A receive thread sleeps whenever there is no packet, and never computes for long.
const NICE: i32 = -10;
/// That of everything else, where packets cannot have theirs.
const BEHIND: i32 = 5;

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

/// Makes the calling thread one of them.
pub fn become_urgent() {
    // Said with the slice, so without the permission to change it, it must be what it is.
    let usual = rustix::process::getpriority_process(None).unwrap_or(0);
    match ask_for(NICE.min(usual)).or_else(|_| ask_for(usual)) {
        Ok(()) => {}
        Err(error) => tracing::debug!(%error, "packets have no short time slice"),
    }
}

/// Makes the calling thread, and all that it starts from now on, come after packets: it steps back where they cannot go before it.
pub fn let_packets_go_first() {
    static GO_BEFORE: OnceLock<bool> = OnceLock::new();
    let try_it = || std::thread::spawn(|| ask_for(NICE).is_ok()).join().unwrap_or(false);
    if !GO_BEFORE.get_or_init(try_it) {
        // On Linux this is the thread's own.
        let _ = rustix::process::setpriority_process(None, BEHIND);
    }
}

fn ask_for(nice: i32) -> std::io::Result<()> {
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        nice,
        runtime: SHORTEST,
        ..SchedAttr::default()
    };
    // SAFETY: the kernel reads `size` bytes of the struct, which lives for the call; thread 0 is the calling one; flags are 0.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thread_may_have_a_short_slice_without_any_privilege() {
        let asked = || super::ask_for(rustix::process::getpriority_process(None).unwrap());
        std::thread::spawn(asked).join().unwrap().unwrap();
    }
}
