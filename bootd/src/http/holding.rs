//! Boot scripts and the sets of files that they name, where `cache.hold_back` says that nodes wait for them.
//!
//! Promises: a node whose script names files of remote origins which are not all here is given the last script that was given for the same
//! question and whose files were all here, as long as they are, however long that takes. Without such a one it gets a script that sleeps and asks
//! again, longer each time and not at the same moment as all others; after so long in all it gets its script as it is. So a node that powers
//! on while an image is on its way boots the one before, or begins when it can read all of it from here, and a storm of nodes does not fetch half of
//! it past the cache. How often a node waited is in the URL that it comes back with; plugins never see that. Former scripts are in memory
//! only, so many bytes of them: a restart forgets them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;

use crate::cache::Artifacts;
use crate::explain::SCRIPT;

/// How a request for a script came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    /// Its query, without what was added here.
    pub(super) query: &'a str,
    /// How often it waited.
    waited: u32,
}

impl<'a> Asked<'a> {
    /// `None`: it is no script that is asked for.
    pub(super) fn read(path: &str, query: &'a str) -> Option<Self> {
        (path == SCRIPT).then(|| match query.rsplit_once("&held=") {
            Some((query, waited)) if waited.parse::<u32>().is_ok() => Self {
                query,
                waited: waited.parse().unwrap_or_default(),
            },
            _ => Self { query, waited: 0 },
        })
    }

    /// What a node gets in the place of a script that names these files. `base`: where it was asked for, `http://172.16.0.254:8081`; `longest`:
    /// how long a node waits in all.
    pub(super) fn decide(
        self,
        paths: &[&str],
        base: &str,
        longest: Duration,
        former: Option<Former>,
        artifacts: &Artifacts,
    ) -> Verdict {
        let missing = paths.iter().filter(|path| !artifacts.is_here(path)).count();
        if missing == 0 {
            return Verdict::Complete;
        }
        if let Some(former) = former.filter(|former| former.paths.iter().all(|path| artifacts.is_here(path))) {
            return Verdict::Former(former.script);
        }
        match self.wait(missing, base, longest) {
            Some(script) => Verdict::Waits(script),
            None => Verdict::AsItIs,
        }
    }

    /// The script that waits, if it is to.
    fn wait(self, missing: usize, base: &str, longest: Duration) -> Option<String> {
        let so_far: Duration = (0..self.waited.min(MOST)).map(|number| pause(self.query, number)).sum();
        if so_far >= longest || self.waited >= MOST {
            return None;
        }
        let seconds = pause(self.query, self.waited).min(longest - so_far).as_secs().max(1);
        let plural = if missing == 1 { "file is" } else { "files are" };
        let (query, waited) = (self.query, self.waited + 1);
        Some(format!(
            "#!ipxe\necho {missing} {plural} being fetched for this node, again in {seconds} s\n:again\nsleep {seconds}\n\
             chain --replace {base}{SCRIPT}?{query}&held={waited} || goto again\n"
        ))
    }
}

/// Whether a script is one of those that wait.
pub(super) fn waits(script: &[u8]) -> bool {
    script.starts_with(b"#!ipxe\necho ") && script.windows(6).any(|part| part == b"&held=")
}

/// What a node gets that asks for its script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The script: all its files are here.
    Complete,
    /// The script, though they are not: the node waited long enough.
    AsItIs,
    /// The one before, whose files are.
    Former(Bytes),
    /// This one, which asks again.
    Waits(String),
}

/// A script whose files were all here when it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Former {
    script: Bytes,
    /// Its files.
    paths: Vec<String>,
}

/// The last such script of each question.
pub(super) struct Formers(moka::sync::Cache<String, Former>);

impl Default for Formers {
    fn default() -> Self {
        let weigh = |question: &String, former: &Former| {
            let paths: usize = former.paths.iter().map(|path| path.len() + ENTRY).sum();
            u32::try_from(question.len() + former.script.len() + paths + ENTRY).unwrap_or(u32::MAX)
        };
        let formers = moka::sync::Cache::builder().weigher(weigh).max_capacity(MOST_BYTES);
        Self(formers.build())
    }
}

impl Formers {
    /// The one of this question.
    pub(super) fn of(&self, question: &str) -> Option<Former> {
        self.0.get(question)
    }

    /// This was given, and its files are here. A script without any is no set that a node could go on with.
    pub(super) fn remember(&self, question: &str, script: &Bytes, paths: &[&str]) {
        let is_same = |former: Former| former.script == *script;
        if paths.is_empty() || self.0.get(question).is_some_and(is_same) {
            return;
        }
        let former = Former {
            script: script.clone(),
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        };
        self.0.insert(question.into(), former);
    }
}

/// The number's wait of a node: twice as long each time, and half of it its own.
fn pause(query: &str, number: u32) -> Duration {
    let mut hasher = DefaultHasher::new();
    (query, number).hash(&mut hasher);
    let most = (FIRST << number.min(DOUBLINGS)).min(LONGEST);
    Duration::from_secs(most / 2 + hasher.finish() % (most / 2 + 1))
}

/// Seconds.
const FIRST: u64 = 2;
const LONGEST: u64 = 30;
/// After which the longest is reached, whatever number a client sends.
const DOUBLINGS: u32 = 5;
/// Waits of a node, however short each was.
const MOST: u32 = 1000;
/// Of former scripts together; those of the longest unused questions go first.
const MOST_BYTES: u64 = 16 << 20;
/// What an entry or a name takes beside its text.
const ENTRY: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bootd_sdk::wire::Rewrite;

    use super::*;
    use crate::config::{Origin, Source};
    use crate::script::own_paths;

    const TO: &str = "http://10.0.0.1:9000/images/";

    fn artifacts() -> Artifacts {
        let mut config = crate::tftp::testing::config(std::path::Path::new("/nowhere"));
        let origin = |bucket: &str, source| Origin {
            bucket: bucket.into(),
            prefix: String::new(),
            sidecar: None,
            source,
            prefixes: Vec::new(),
            rewrite: true,
        };
        config.origins = vec![
            origin("images", Source::Http("http://127.0.0.1:1".into())),
            origin("local", Source::Dir("/nowhere".into())),
        ];
        Artifacts::new(&config, Arc::default()).0
    }

    fn rewrites() -> Vec<Rewrite> {
        ["images", "local"]
            .map(|bucket| Rewrite {
                from: "s3://".into(),
                to: format!("http://10.0.0.1:9000/{bucket}/"),
            })
            .into()
    }

    fn hold(query: &str, script: &str, longest: u64) -> Option<String> {
        let asked = Asked::read(SCRIPT, query).unwrap();
        let longest = Duration::from_secs(longest);
        let paths = own_paths(script, &rewrites());
        match asked.decide(&paths, "http://10.0.0.1:8081", longest, None, &artifacts()) {
            Verdict::Waits(script) => Some(script),
            Verdict::Complete | Verdict::AsItIs => None,
            Verdict::Former(_) => panic!("there is none"),
        }
    }

    #[test]
    fn a_script_with_files_that_are_not_here_waits_longer_each_time_and_not_for_ever() {
        let script =
            format!("#!ipxe\nkernel --name kernel {TO}vmlinuz root=live:{TO}root quiet\ninitrd {TO}initrd\nboot\n");
        let (mut query, mut total) = ("mac=52:54:00:be:ef:01".to_owned(), 0);
        let mut waits = Vec::new();
        while let Some(held) = hold(&query, &script, 120) {
            assert!(held.starts_with("#!ipxe\necho 3 files are being fetched"), "{held}");
            let seconds = held.split("\nsleep ").nth(1).unwrap().lines().next().unwrap();
            let seconds: u64 = seconds.parse().unwrap();
            let url = held
                .split("chain --replace ")
                .nth(1)
                .unwrap()
                .split(' ')
                .next()
                .unwrap();
            query = url
                .strip_prefix("http://10.0.0.1:8081/boot/v1/bootscript?")
                .unwrap()
                .to_owned();
            assert_eq!(query, format!("mac=52:54:00:be:ef:01&held={}", waits.len() + 1));
            total += seconds;
            waits.push(seconds);
        }
        assert_eq!(total, 120, "{waits:?}");
        assert!(
            waits[0] <= 2 && waits.iter().all(|wait| (1..=30).contains(wait)),
            "{waits:?}"
        );
    }

    #[test]
    fn nodes_do_not_come_back_at_the_same_moment() {
        let waits: std::collections::BTreeSet<Duration> =
            (0..100).map(|node| pause(&format!("mac={node}"), 5)).collect();
        assert!(waits.len() > 10, "{waits:?}");
    }

    #[test]
    fn a_script_whose_files_are_here_or_lead_elsewhere_is_given_as_it_is() {
        for script in [
            "#!ipxe\nsleep 10\nchain http://10.0.0.1:8081/boot/v1/bootscript?mac=1\n",
            "#!ipxe\nkernel http://elsewhere/images/vmlinuz\nboot\n",
            "#!ipxe\nkernel http://10.0.0.1:9000/local/vmlinuz\nboot\n",
        ] {
            assert_eq!(hold("mac=1", script, 120), None, "{script}");
        }
    }

    #[test]
    fn a_node_keeps_its_former_script_until_the_files_of_the_new_one_are_here() {
        let (formers, artifacts) = (Formers::default(), artifacts());
        let decide = |question: &str, script: &str, query: &str| {
            let rewrites = rewrites();
            let paths = own_paths(script, &rewrites);
            let asked = Asked::read(SCRIPT, query).unwrap();
            let longest = Duration::from_secs(10);
            let verdict = asked.decide(
                &paths,
                "http://10.0.0.1:8081",
                longest,
                formers.of(question),
                &artifacts,
            );
            if verdict == Verdict::Complete {
                formers.remember(question, &Bytes::copy_from_slice(script.as_bytes()), &paths);
            }
            verdict
        };
        let old = "#!ipxe\nkernel http://10.0.0.1:9000/local/vmlinuz\nboot\n";
        let new = format!("#!ipxe\nkernel {TO}vmlinuz\nboot\n");
        // Nobody had one: it waits.
        assert!(matches!(decide("mac=1", &new, "mac=1"), Verdict::Waits(_)));
        assert_eq!(decide("mac=1", old, "mac=1"), Verdict::Complete);
        assert_eq!(decide("mac=1", &new, "mac=1"), Verdict::Former(old.into()));
        // However long it lasts.
        assert_eq!(decide("mac=1", &new, "mac=1&held=999"), Verdict::Former(old.into()));
        // Another node has none.
        assert!(matches!(decide("mac=2", &new, "mac=2"), Verdict::Waits(_)));
        assert_eq!(decide("mac=2", &new, "mac=2&held=999"), Verdict::AsItIs);
        // What names no files is nothing to go on with.
        assert_eq!(decide("mac=3", "#!ipxe\nshell\n", "mac=3"), Verdict::Complete);
        assert!(matches!(decide("mac=3", &new, "mac=3"), Verdict::Waits(_)));
        // Nor is a script whose own files are gone.
        formers.remember("mac=4", &Bytes::from_static(b"#!ipxe\n"), &["/images/gone"]);
        assert!(matches!(decide("mac=4", &new, "mac=4"), Verdict::Waits(_)));
    }

    #[test]
    fn former_scripts_take_so_much_memory_and_not_more() {
        let formers = Formers::default();
        for node in 0..400 {
            formers.remember(&format!("mac={node}"), &vec![b'x'; 100_000].into(), &["/local/k"]);
        }
        formers.0.run_pending_tasks();
        assert!(formers.0.weighted_size() <= MOST_BYTES);
        assert!(formers.0.entry_count() > 100);
    }

    #[test]
    fn what_was_added_is_taken_away_again() {
        let read = |query| Asked::read(SCRIPT, query).map(|asked| (asked.query, asked.waited));
        assert_eq!(read("mac=1&held=3"), Some(("mac=1", 3)));
        assert_eq!(read("mac=1"), Some(("mac=1", 0)));
        assert_eq!(read("mac=1&held=soon"), Some(("mac=1&held=soon", 0)));
        assert_eq!(Asked::read("/boot/v1/bootparameters", "mac=1&held=3"), None);
    }
}
