//! Boot scripts that wait for their files, where `cache.hold_back` says so.
//!
//! A script that names files of remote origins which are not all here is answered with one that sleeps and asks again, longer each time and not at
//! the same moment as all others; after so long in all the script is given as it is. So a node that powers on while an image is on its way
//! begins when it can read it from here, and a storm of nodes does not fetch half of it past the cache. How often a node waited is in the URL
//! that it comes back with, so nothing is remembered for it; plugins never see that.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bootd_sdk::wire::Rewrite;

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

    /// The script that waits in the place of this one, if it is to. `base`: where it was asked for, `http://172.16.0.254:8081`; `longest`: how long a
    /// node waits in all.
    pub(super) fn hold(
        self,
        script: &str,
        base: &str,
        longest: Duration,
        rewrites: &[Rewrite],
        artifacts: &Artifacts,
    ) -> Option<String> {
        let so_far: Duration = (0..self.waited.min(MOST)).map(|number| pause(self.query, number)).sum();
        if so_far >= longest || self.waited >= MOST {
            return None;
        }
        let missing = missing(script, rewrites, artifacts);
        if missing == 0 {
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

/// How many files that a script names lead here and are not.
fn missing(script: &str, rewrites: &[Rewrite], artifacts: &Artifacts) -> usize {
    let words = script.split_ascii_whitespace();
    let urls = words.map(|word| word.strip_prefix("root=live:").unwrap_or(word));
    let mut paths: Vec<&str> = urls
        .filter(|url| rewrites.iter().any(|rewrite| url.starts_with(&rewrite.to)))
        .filter_map(|url| url.split_once("://")?.1.find('/').map(|at| (url, at)))
        .filter_map(|(url, at)| url.get(url.find("://")? + 3 + at..))
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths.iter().filter(|path| !artifacts.is_here(path)).count()
}

/// The number's wait of a node: twice as long each time, and half of it its own.
fn pause(query: &str, number: u32) -> Duration {
    let mut hasher = DefaultHasher::new();
    (query, number).hash(&mut hasher);
    let most = (FIRST << number.min(MOST)).min(LONGEST);
    Duration::from_secs(most / 2 + hasher.finish() % (most / 2 + 1))
}

/// Seconds.
const FIRST: u64 = 2;
const LONGEST: u64 = 30;
/// Waits of a node, however short each was.
const MOST: u32 = 1000;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Origin, Source};

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
        asked.hold(script, "http://10.0.0.1:8081", longest, &rewrites(), &artifacts())
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
    fn what_was_added_is_taken_away_again() {
        let read = |query| Asked::read(SCRIPT, query).map(|asked| (asked.query, asked.waited));
        assert_eq!(read("mac=1&held=3"), Some(("mac=1", 3)));
        assert_eq!(read("mac=1"), Some(("mac=1", 0)));
        assert_eq!(read("mac=1&held=soon"), Some(("mac=1&held=soon", 0)));
        assert_eq!(Asked::read("/boot/v1/bootparameters", "mac=1&held=3"), None);
    }
}
