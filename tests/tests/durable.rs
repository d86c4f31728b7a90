//! What was acknowledged is there: after kill -9 at random moments, and with two writers at once.
//!
//! The moments come from a seed, `BOOTD_SIM_SEED` when it is set; a failure tells which it was.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::ochami::commands::NO_CLOUD_INIT;
use bootd_tests::ochami::{Answer, Line, Ochami, Request};
use bootd_tests::{Bootd, Rack, eventually, server};
use serde_json::{Value, json};

/// Writes of the test with kill -9.
const WRITES: usize = 1_000;
/// Writes between two kills, at most.
const MOST_BETWEEN: u64 = 160;

#[test]
fn what_was_acknowledged_is_there_after_kill_minus_nine_at_random_moments_of_1000_writes() {
    in_rack(|| {
        let seed = match std::env::var("BOOTD_SIM_SEED") {
            Ok(text) => text.parse().context("BOOTD_SIM_SEED")?,
            Err(_) => 0x5eed,
        };
        kill_at_random_moments(seed).with_context(|| format!("BOOTD_SIM_SEED={seed}"))
    });
}

#[test]
fn two_writers_at_once_lose_no_update() {
    in_rack(|| {
        let rack = bare_rack()?;
        let mut bootd = rack.start_bootd()?;
        let ochami = Ochami::log_in(&rack)?;
        let ids: Vec<String> = (0..200).map(node).collect();
        let components: Vec<Value> = ids.iter().map(|id| json!({"ID": id, "State": "On"})).collect();
        let mut line = Line::open()?;
        for (target, body) in [
            (
                "/hsm/v2/State/Components",
                json!({"Components": components}).to_string(),
            ),
            (
                "/hsm/v2/groups",
                r#"{"label":"all","description":"","members":{}}"#.into(),
            ),
        ] {
            let answer = line.ask(&Request::new("POST", target, body).bytes(ochami.token()))?;
            ensure!((200..300).contains(&answer.status), "{target}: {answer:?}");
        }
        let set = boot_parameters(
            "52:54:00:00:00:01",
            r#""kernel":"http://k/0","initrd":"http://i/0","params":"p0","#,
        );
        let answer = line.ask(&Request::new("PUT", "/boot/v1/bootparameters", set).bytes(ochami.token()))?;
        ensure!(answer.status == 200, "{answer:?}");

        // Each writer adds its half of the members and changes its own fields of what both write.
        thread::scope(|scope| {
            let writers: Vec<_> = (0..2)
                .map(|writer| {
                    scope.spawn({
                        let (ids, ochami) = (&ids, &ochami);
                        move || one_of_two(writer, ids, ochami.token())
                    })
                })
                .collect();
            for writer in writers {
                writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
            }
            anyhow::Ok(())
        })?;

        let check = |line: &mut Line| {
            let members = read(line, &ochami, "/hsm/v2/groups/all/members")?;
            let mut found: Vec<&str> = members["ids"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let mut wanted: Vec<&str> = ids.iter().map(String::as_str).collect();
            found.sort_unstable();
            wanted.sort_unstable();
            ensure!(found == wanted, "{} members of {}", found.len(), wanted.len());
            let parameters = read(line, &ochami, "/boot/v1/bootparameters?mac=52:54:00:00:00:01")?;
            ensure!(
                parameters[0]["params"] == "p99" && parameters[0]["initrd"] == "http://i/99",
                "{parameters}"
            );
            let defaults = read(line, &ochami, "/cloud-init/admin/cluster-defaults")?;
            ensure!(
                defaults == json!({"cluster-name": "c99", "region": "r99"}),
                "{defaults}"
            );
            let groups = read(line, &ochami, "/cloud-init/admin/groups")?;
            ensure!(groups.as_object().map(serde_json::Map::len) == Some(200), "{groups}");
            Ok(())
        };
        check(&mut line)?;
        bootd.kill_minus_nine();
        bootd.start_again()?;
        check(&mut Line::open()?).context("after kill -9")?;
        bootd.must_run()
    });
}

/// A hundred rounds of one writer; the other one does the same with its own fields.
fn one_of_two(writer: usize, ids: &[String], token: &str) -> Result<()> {
    let mut line = Line::open()?;
    for round in 0..100 {
        let id = &ids[round * 2 + writer];
        let (parameters, defaults) = match writer {
            0 => (
                format!(r#""params":"p{round}","#),
                format!(r#"{{"cluster-name":"c{round}"}}"#),
            ),
            _ => (
                format!(r#""initrd":"http://i/{round}","#),
                format!(r#"{{"region":"r{round}"}}"#),
            ),
        };
        for request in [
            Request::new("POST", "/hsm/v2/groups/all/members", format!(r#"{{"id":"{id}"}}"#)),
            Request::new(
                "PATCH",
                "/boot/v1/bootparameters",
                boot_parameters("52:54:00:00:00:01", &parameters),
            ),
            Request::new("POST", "/cloud-init/admin/cluster-defaults", defaults),
            Request::new("PUT", format!("/cloud-init/admin/groups/{id}"), ci_group(id, "x")),
        ] {
            let answer = line.ask(&request.bytes(token))?;
            ensure!((200..300).contains(&answer.status), "{request:?}: {answer:?}");
        }
    }
    Ok(())
}

fn kill_at_random_moments(seed: u64) -> Result<()> {
    let rack = bare_rack()?;
    let mut bootd = rack.start_bootd()?;
    let ochami = Ochami::log_in(&rack)?;
    let mut random = Random(seed);
    let mut known = Known::default();
    known.say(&Write::Group, &ochami)?;
    let mut next = 0;
    let mut kills = 0;
    while next < WRITES {
        let between = random.below(MOST_BETWEEN);
        let pause = Duration::from_micros(random.below(6_000));
        let last = WRITES.min(next + usize::try_from(between)?);
        let in_flight = thread::scope(|scope| {
            let writer = scope.spawn(|| write_until_refused(&mut known, next, &ochami));
            // The kill comes a moment after so many acknowledgements, wherever the next write is then.
            let reached = eventually(Duration::from_secs(120), "the writes go on", || {
                (progress() > last || writer.is_finished()).then_some(())
            });
            thread::sleep(pause);
            bootd.kill_minus_nine();
            let ended = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
            reached.and(ended)
        })?;
        kills += 1;
        next = in_flight;
        bootd.start_again()?;
        known
            .check(&ochami)
            .with_context(|| format!("after kill {kills}, {next} writes"))?;
        // What was under way may be there or not; it is sent again.
        if next < WRITES {
            known.say(&Write::number(next), &ochami)?;
            next += 1;
        }
    }
    ensure!(kills >= 5, "only {kills} kills");
    ends_well(&mut bootd, &known, &ochami)
}

fn ends_well(bootd: &mut Bootd, known: &Known, ochami: &Ochami) -> Result<()> {
    bootd.stop(Duration::from_secs(20))?;
    bootd.start_again()?;
    known.check(ochami).context("after an ordinary stop")?;
    bootd.must_run()
}

/// Writes from number `from` on until no answer comes; gives the number of the write that had none.
fn write_until_refused(known: &mut Known, from: usize, ochami: &Ochami) -> Result<usize> {
    let mut line = Line::open()?;
    for number in from..WRITES {
        set_progress(number);
        let write = Write::number(number);
        match line.ask(&write.request().bytes(ochami.token())) {
            Ok(answer) => known.acknowledged(&write, &answer)?,
            Err(_) => {
                known.unanswered(&write);
                return Ok(number);
            }
        }
    }
    set_progress(usize::MAX);
    Ok(WRITES)
}

/// A write of the test.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Write {
    /// The group in which the members are.
    Group,
    /// A component.
    Component(usize),
    /// A member of the group.
    Member(usize),
    /// A MAC's kernel: MACs come again, kernels do not.
    Kernel(usize),
    /// The content of a group of cloud-init: groups come again, contents do not.
    Content(usize),
}

impl Write {
    fn number(number: usize) -> Self {
        match number % 4 {
            0 => Self::Component(number),
            // Of the component that was written before.
            1 => Self::Member(number - 1),
            2 => Self::Kernel(number),
            _ => Self::Content(number),
        }
    }

    fn request(&self) -> Request {
        match self {
            Self::Group => Request::new(
                "POST",
                "/hsm/v2/groups",
                r#"{"label":"all","description":"","members":{}}"#,
            ),
            Self::Component(n) => Request::new(
                "POST",
                "/hsm/v2/State/Components",
                format!(
                    r#"{{"Components":[{{"ID":"{}","Type":"Node","State":"On","NID":{}}}]}}"#,
                    node(*n),
                    n + 1
                ),
            ),
            Self::Member(n) => Request::new(
                "POST",
                "/hsm/v2/groups/all/members",
                format!(r#"{{"id":"{}"}}"#, node(*n)),
            ),
            Self::Kernel(n) => Request::new(
                "PUT",
                "/boot/v1/bootparameters",
                boot_parameters(&self.key(), &format!(r#""kernel":"http://k/{n}","#)),
            ),
            Self::Content(n) => Request::new(
                "PUT",
                format!("/cloud-init/admin/groups/{}", self.key()),
                ci_group(&self.key(), &n.to_string()),
            ),
        }
    }

    /// What it writes to.
    fn key(&self) -> String {
        match self {
            Self::Group => "all".into(),
            Self::Component(n) => format!("component {}", node(*n)),
            Self::Member(n) => format!("member {}", node(*n)),
            Self::Kernel(n) => format!("52:54:00:00:01:{:02x}", n % 31),
            Self::Content(n) => format!("g{}", n % 29),
        }
    }

    /// What it writes there.
    fn value(&self) -> String {
        match self {
            Self::Group => String::new(),
            Self::Component(n) => (n + 1).to_string(),
            Self::Member(_) => "yes".into(),
            Self::Kernel(n) => format!("http://k/{n}"),
            Self::Content(n) => n.to_string(),
        }
    }
}

/// What must be there, and what may be there instead: a write that had no answer.
#[derive(Debug, Default)]
struct Known {
    acknowledged: BTreeMap<String, String>,
    perhaps: Option<Write>,
}

impl Known {
    /// Sends a write on a connection of its own.
    fn say(&mut self, write: &Write, ochami: &Ochami) -> Result<()> {
        let answer = Line::open()?.ask(&write.request().bytes(ochami.token()))?;
        self.acknowledged(write, &answer)
    }

    fn acknowledged(&mut self, write: &Write, answer: &Answer) -> Result<()> {
        // The write that had no answer may have been stored, and is then refused as a second one.
        let was_there = answer.status == 409 && self.perhaps.as_ref() == Some(write);
        ensure!(
            (200..300).contains(&answer.status) || was_there,
            "{write:?}: {answer:?}"
        );
        if self.perhaps.as_ref() == Some(write) {
            self.perhaps = None;
        }
        self.acknowledged.insert(write.key(), write.value());
        Ok(())
    }

    fn unanswered(&mut self, write: &Write) {
        self.perhaps = Some(write.clone());
    }

    fn check(&self, ochami: &Ochami) -> Result<()> {
        let there = everything(ochami)?;
        for (key, value) in self.acknowledged.iter().filter(|(key, _)| *key != "all") {
            let found = there.get(key);
            let perhaps = self
                .perhaps
                .as_ref()
                .filter(|write| write.key() == *key)
                .map(Write::value);
            ensure!(
                found == Some(value) || (perhaps.is_some() && found == perhaps.as_ref()),
                "{key}: {value} was acknowledged, there is {found:?} (without an answer: {perhaps:?})"
            );
        }
        for key in there.keys() {
            let perhaps = self.perhaps.as_ref().is_some_and(|write| write.key() == *key);
            ensure!(
                perhaps || self.acknowledged.contains_key(key),
                "{key} is there, and nobody wrote it"
            );
        }
        Ok(())
    }
}

/// All that bootd holds, as [`Write::key`] and [`Write::value`] name it.
fn everything(ochami: &Ochami) -> Result<BTreeMap<String, String>> {
    let mut line = Line::open()?;
    let mut all = BTreeMap::new();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let components = read(&mut line, ochami, "/hsm/v2/State/Components")?;
    for one in list(&components["Components"]) {
        let id = one["ID"].as_str().context("an ID")?;
        all.insert(format!("component {id}"), one["NID"].to_string());
    }
    let members = read(&mut line, ochami, "/hsm/v2/groups/all/members")?;
    for one in list(&members["ids"]) {
        let id = one.as_str().context("an id")?;
        all.insert(format!("member {id}"), "yes".into());
    }
    for one in list(&read(&mut line, ochami, "/boot/v1/bootparameters")?) {
        let kernel = one["kernel"].as_str().context("a kernel")?;
        for mac in list(&one["macs"]) {
            all.insert(mac.as_str().context("a MAC")?.to_owned(), kernel.to_owned());
        }
    }
    let groups = read(&mut line, ochami, "/cloud-init/admin/groups")?;
    for (name, group) in groups.as_object().context("groups are an object")? {
        let content = group["file"]["content"].as_str().unwrap_or_default();
        all.insert(name.clone(), content.trim().to_owned());
    }
    Ok(all)
}

fn read(line: &mut Line, ochami: &Ochami, target: &str) -> Result<Value> {
    let answer = line.ask(&Request::get(target).bytes(ochami.token()))?;
    ensure!(answer.status == 200, "{target}: {answer:?}");
    answer.json()
}

fn bare_rack() -> Result<Rack> {
    let rack = Rack::new()?;
    rack.write("bootd.toml", &rack.bare_config())?;
    ensure!(server::binary()?.exists());
    Ok(rack)
}

/// A node for each number below 8,192.
fn node(number: usize) -> String {
    format!("x1000c{}s{}b{}n0", number / 1024, number / 8 % 128, number % 8)
}

fn boot_parameters(mac: &str, fields: &str) -> String {
    format!(r#"{{"macs":["{mac}"],{fields}{NO_CLOUD_INIT}"#)
}

fn ci_group(name: &str, content: &str) -> String {
    format!(r###"{{"name":"{name}","file":{{"content":"{content}","filename":"","encoding":"plain"}}}}"###)
}

/// The number of the write under way.
static PROGRESS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

fn progress() -> usize {
    PROGRESS.load(std::sync::atomic::Ordering::Relaxed)
}

fn set_progress(number: usize) {
    PROGRESS.store(number, std::sync::atomic::Ordering::Relaxed);
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
