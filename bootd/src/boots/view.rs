//! What is shown of boots: a line for each client, the whole of one, and how long stages take. The schema of `bootd boots --json`, of the board and
//! of its events.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bootd_sdk::mac::Mac;
use serde::{Deserialize, Serialize};

use super::attempt::{Attempt, End, State};
use super::book::{Book, Record, Who};
use super::stage::Stage;

/// `bootd boots --json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Boots {
    /// The time, in milliseconds since 1970, as all times here.
    pub now_ms: u64,
    /// The newest attempt of each client; stragglers first.
    pub boots: Vec<Summary>,
    /// How long stages take, of these attempts.
    pub stages: Vec<Percentiles>,
    /// Nodes of the inventory that were not heard of.
    #[serde(default)]
    pub unseen: Vec<String>,
}

/// How long stages take, without the attempts: `/admin/boots/stages`, which is small at any number of nodes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Stages {
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
    /// Of the newest attempt of each client.
    pub stages: Vec<Percentiles>,
}

/// An attempt in a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The client: xname, else hardware address, else IP address.
    pub who: String,
    /// Whether the inventory knows it.
    pub known: bool,
    /// From where it boots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// Which attempt.
    pub number: u64,
    /// How it goes.
    pub state: State,
    /// The stage that it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// The stage that is to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Stage>,
    /// When it began.
    pub began_ms: u64,
    /// When it was heard last.
    pub heard_ms: u64,
    /// Bytes of the file that is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes of the whole file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// Bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// What is wrong: its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<String>,
    /// The same in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// `bootd boots NODE --json`: all attempts that are kept of a client.
#[derive(Debug, Serialize, Deserialize)]
pub struct Timeline {
    /// The client.
    pub who: String,
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
    /// Its attempts and what is known of it.
    #[serde(flatten)]
    pub record: Record,
}

/// How many clients' newest attempts are where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// By state and the stage that was reached last; an attempt that has no step yet is at the first one.
    pub boots: BTreeMap<(State, Stage), u64>,
}

impl Tally {
    /// Of a book.
    pub fn of(book: &Book) -> Self {
        let mut boots = BTreeMap::new();
        for (_, record) in book.records() {
            if let Some(attempt) = record.attempts.back() {
                let stage = attempt.at().unwrap_or(Stage::FirmwareDhcp);
                *boots.entry((attempt.state, stage)).or_default() += 1;
            }
        }
        Self { boots }
    }
}

/// How long a stage takes, from the end of the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// The stage.
    pub stage: Stage,
    /// How many attempts reached it.
    pub count: usize,
    /// Milliseconds: half of them were faster.
    pub p50_ms: u64,
    /// Nine in ten were faster.
    pub p90_ms: u64,
    /// All but one in a hundred were faster.
    pub p99_ms: u64,
}

impl Summary {
    /// The newest attempt of a client; `None`: there is none.
    pub fn of(who: &Who, record: &Record) -> Option<Self> {
        let attempt = record.attempts.back()?;
        let step = attempt.steps.iter().max_by_key(|step| step.heard_ms);
        let file = step.filter(|step| step.bytes > 0 && step.end != End::Done);
        let mac = match who {
            Who::Mac(mac) => Some(*mac),
            _ => record.mac,
        };
        Some(Self {
            who: who.to_string(),
            known: matches!(who, Who::Node(_)),
            mac,
            ip: attempt.ip,
            number: attempt.number,
            state: attempt.state,
            stage: attempt.at(),
            next: match attempt.state {
                State::UnderWay | State::Stuck => attempt.next(record.habits),
                State::Booted | State::GivenUp => None,
            },
            began_ms: attempt.began_ms,
            heard_ms: attempt.heard_ms,
            bytes: file.map(|step| step.bytes),
            of: file.and_then(|step| step.of),
            rate: file.and_then(|step| step.rate()),
            diagnosis: attempt.diagnosis.as_ref().map(|said| said.name.clone()),
            text: attempt.diagnosis.as_ref().map(|said| said.text.clone()),
        })
    }

    /// Stragglers first: who is stuck, then who is under way, the longest first, then the others, the newest first.
    fn order(&self) -> (u8, u64) {
        match self.state {
            State::Stuck => (0, self.began_ms),
            State::UnderWay if self.diagnosis.is_some() => (1, self.began_ms),
            State::UnderWay => (2, self.began_ms),
            State::GivenUp => (3, u64::MAX - self.heard_ms),
            State::Booted => (4, u64::MAX - self.heard_ms),
        }
    }
}

impl Boots {
    /// All of a book.
    pub fn of(book: &Book, now_ms: u64) -> Self {
        let mut boots: Vec<Summary> = book
            .records()
            .filter_map(|(who, record)| Summary::of(who, record))
            .collect();
        boots.sort_by(|a, b| a.order().cmp(&b.order()).then_with(|| a.who.cmp(&b.who)));
        Self {
            now_ms,
            boots,
            stages: Stages::of(book, now_ms).stages,
            unseen: Vec::new(),
        }
    }
}

impl Stages {
    /// Of a book.
    pub fn of(book: &Book, now_ms: u64) -> Self {
        let attempts = book.records().filter_map(|(_, record)| record.attempts.back());
        Self {
            now_ms,
            stages: percentiles(attempts),
        }
    }
}

/// Of each stage that was reached.
fn percentiles<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> Vec<Percentiles> {
    let mut times: BTreeMap<Stage, Vec<u64>> = BTreeMap::new();
    for attempt in attempts {
        for (stage, ms) in attempt.stages() {
            times.entry(stage).or_default().push(ms);
        }
    }
    let of = |(stage, mut times): (Stage, Vec<u64>)| {
        times.sort_unstable();
        let at = |percent: usize| {
            let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(place).copied().unwrap_or_default()
        };
        Percentiles {
            stage,
            count: times.len(),
            p50_ms: at(50),
            p90_ms: at(90),
            p99_ms: at(99),
        }
    };
    times.into_iter().map(of).collect()
}
