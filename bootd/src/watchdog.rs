//! Whether the process still does its work: each thread that answers packets has a pulse, each runtime as well, and one thread looks at them.
//!
//! A look that finds all of them beating tells systemd so (`WATCHDOG=1`, where the unit has `WatchdogSec=`). One that does not tells nothing
//! and names who stands still, in the log and as a metric; after some of these systemd ends the process and starts another, which knows all
//! that it knew. A thread that ended by a panic stands still, too. Never watches what a new process would not mend: a plugin that hangs is its
//! supervisor's, and the store's thread may wait for its disk.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::runtime::Handle;

use crate::metrics::Metrics;

/// All that beats.
#[derive(Debug, Default)]
pub struct Pulses {
    all: Mutex<Vec<Weak<Pulse>>>,
    are_handed_over: AtomicBool,
    /// What the last look said.
    still: Mutex<Vec<String>>,
}

impl Pulses {
    /// One more, which must beat once in [`BEAT`] or a little later, as long as anybody holds it.
    pub fn begin(&self, name: impl Into<String>) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse {
            name: name.into(),
            beats: AtomicU64::new(0),
            seen: AtomicU64::new(u64::MAX),
        });
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|pulse| pulse.strong_count() > 0);
        all.push(Arc::downgrade(&pulse));
        pulse
    }

    /// Another process is watched from now on.
    pub fn hand_over(&self) {
        self.are_handed_over.store(true, Ordering::Relaxed);
    }

    /// The names of those that have not beaten since the last look.
    pub fn look(&self) -> Vec<String> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let present = all.iter().filter_map(Weak::upgrade);
        let still: Vec<String> = present
            .filter(|pulse| !pulse.has_moved())
            .map(|pulse| pulse.name.clone())
            .collect();
        still.clone_into(&mut self.still.lock().unwrap_or_else(PoisonError::into_inner));
        still
    }

    /// The names of those that stood still at the last look of the watchdog.
    pub fn still(&self) -> Vec<String> {
        self.still.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a thread moves as it goes.
#[derive(Debug)]
pub struct Pulse {
    name: String,
    beats: AtomicU64,
    /// What the last look saw. At first what no count is, so that who began a moment ago does not stand still.
    seen: AtomicU64,
}

impl Pulse {
    /// It goes on.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    fn has_moved(&self) -> bool {
        let beats = self.beats.load(Ordering::Relaxed);
        self.seen.swap(beats, Ordering::Relaxed) != beats
    }
}

/// The rounds of a thread that waits a moment for packets in each.
#[derive(Debug)]
pub struct Rounds {
    pulse: Arc<Pulse>,
    ending: Arc<AtomicBool>,
    pause: Arc<Pause>,
}

impl Rounds {
    /// Those of a thread with this pulse, which end when `ending` is set.
    pub fn new(pulse: Arc<Pulse>, ending: Arc<AtomicBool>, pause: Arc<Pause>) -> Self {
        pause.threads.fetch_add(1, Ordering::SeqCst);
        Self { pulse, ending, pause }
    }

    /// Asked before each round: whether there is to be one. The asking is the thread's pulse. During a pause it waits.
    pub fn go_on(&self) -> bool {
        self.pulse.beat();
        if self.pause.is_on.load(Ordering::SeqCst) {
            self.pause.resting.fetch_add(1, Ordering::SeqCst);
            while self.pause.is_on.load(Ordering::SeqCst) && !self.ending.load(Ordering::Relaxed) {
                std::thread::sleep(REST);
                self.pulse.beat();
            }
            self.pause.resting.fetch_sub(1, Ordering::SeqCst);
        }
        !self.ending.load(Ordering::Relaxed)
    }

    /// Whether another process goes on with what this thread did.
    pub fn are_handed_over(&self) -> bool {
        self.pause.is_for_good()
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        self.pause.threads.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A pause of threads that work in rounds.
#[derive(Debug, Default)]
pub struct Pause {
    is_on: AtomicBool,
    is_for_good: AtomicBool,
    threads: AtomicUsize,
    resting: AtomicUsize,
}

impl Pause {
    /// Begins it, and waits until all threads rest, so long at most. `false`: some do not.
    pub fn begin(&self, within: Duration) -> bool {
        self.is_on.store(true, Ordering::SeqCst);
        let until = Instant::now() + within;
        while self.resting.load(Ordering::SeqCst) < self.threads.load(Ordering::SeqCst) {
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(REST);
        }
        true
    }

    /// All go on.
    pub fn end(&self) {
        self.is_on.store(false, Ordering::SeqCst);
    }

    /// Whether another process does their work.
    pub fn is_for_good(&self) -> bool {
        self.is_for_good.load(Ordering::Relaxed)
    }

    /// It is a pause for good: another process does their work.
    pub fn hand_over(&self) {
        self.is_for_good.store(true, Ordering::Relaxed);
    }
}

/// Gives each of these runtimes a pulse, and begins to look. Ends when another process is watched.
pub fn start(metrics: Arc<Metrics>, runtimes: &[(&str, &Handle)]) -> io::Result<()> {
    for (name, runtime) in runtimes {
        let pulse = metrics.pulses().begin(format!("the runtime {name}"));
        runtime.spawn(async move {
            loop {
                pulse.beat();
                tokio::time::sleep(BEAT).await;
            }
        });
    }
    let between = between(limit());
    let watch = move || {
        let mut before = Vec::new();
        loop {
            std::thread::sleep(between);
            if metrics.pulses().are_handed_over.load(Ordering::Relaxed) {
                return;
            }
            let still = metrics.pulses().look();
            metrics.set(
                "watchdog",
                "standing_still",
                i64::try_from(still.len()).unwrap_or(i64::MAX),
            );
            match still.as_slice() {
                [] => {
                    let _ = sd_notify::notify(false, &[NotifyState::Watchdog]);
                }
                still if still != before => {
                    let still = still.join(", ");
                    tracing::error!(
                        still,
                        "stands still for {} s: the watchdog is not fed",
                        between.as_secs()
                    );
                }
                _ => {}
            }
            before = still;
        }
    };
    std::thread::Builder::new()
        .name("watchdog".into())
        .spawn(watch)
        .map(drop)
}

/// What systemd waits for a sign, where it does.
fn limit() -> Option<Duration> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    // Without the second one it is whose process has the first one (sd_watchdog_enabled(3)): so a bootd gives it to the one that follows it.
    let is_ours = number("WATCHDOG_PID").is_none_or(|id| id == u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|_| is_ours).map(Duration::from_micros)
}

/// Between two looks: a third of the limit, so that one that comes late costs nothing, and long enough for everybody to beat.
fn between(limit: Option<Duration>) -> Duration {
    limit.map_or(UNASKED, |limit| (limit / 3).max(BEAT * 3))
}

/// How often a pulse beats at least.
pub const BEAT: Duration = Duration::from_millis(500);
/// Between two looks of a thread whether its pause is over.
const REST: Duration = Duration::from_millis(2);
/// Between two looks where systemd does not wait for any.
const UNASKED: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_beat_between_two_looks_stands_still() {
        let pulses = Pulses::default();
        let (dhcp, tftp) = (pulses.begin("dhcp-eth1"), pulses.begin("tftp"));
        assert_eq!(pulses.look(), [""; 0], "both began a moment ago");
        dhcp.beat();
        assert_eq!(pulses.look(), ["tftp"]);
        tftp.beat();
        assert_eq!(pulses.look(), ["dhcp-eth1"]);
        drop((dhcp, tftp));
        assert_eq!(pulses.look(), [""; 0], "nobody waits for who was told to end");
    }

    #[test]
    fn a_pause_has_begun_when_all_threads_rest_and_they_go_on_after_it() {
        let (pulses, pause, ending) = (Pulses::default(), Arc::<Pause>::default(), Arc::<AtomicBool>::default());
        let rounds = Rounds::new(pulses.begin("dhcp-eth1"), Arc::clone(&ending), Arc::clone(&pause));
        let (told, heard) = std::sync::mpsc::sync_channel(0);
        let thread = std::thread::spawn(move || {
            while rounds.go_on() {
                let _ = told.send(());
            }
        });
        heard.recv().unwrap();
        assert!(
            !pause.begin(Duration::from_millis(20)),
            "it is in the middle of a round"
        );
        heard.recv().unwrap();
        assert!(pause.begin(Duration::from_secs(60)));
        heard.try_recv().unwrap_err();
        pause.end();
        heard.recv().unwrap();
        ending.store(true, Ordering::Relaxed);
        drop(heard);
        thread.join().unwrap();
        assert!(pause.begin(Duration::ZERO), "who has ended needs no rest");
    }

    #[test]
    fn a_runtime_whose_threads_all_hang_stands_still() {
        let metrics = Arc::<Metrics>::default();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        start(Arc::clone(&metrics), &[("http", runtime.handle())]).unwrap();
        let (hang, (told, hangs)) = (std::sync::mpsc::channel::<()>(), std::sync::mpsc::channel());
        runtime.spawn(async move {
            told.send(()).unwrap();
            let _ = hang.1.recv();
        });
        hangs.recv().unwrap();
        metrics.pulses().look();
        assert_eq!(metrics.pulses().look(), ["the runtime http"]);
        drop(hang.0);
        while !metrics.pulses().look().is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn three_looks_fit_into_what_systemd_waits_and_each_pulse_beats_between_two() {
        assert_eq!(between(Some(Duration::from_secs(30))), Duration::from_secs(10));
        assert!(between(Some(Duration::from_secs(1))) > BEAT * 2);
        assert_eq!(between(None), UNASKED);
    }
}
