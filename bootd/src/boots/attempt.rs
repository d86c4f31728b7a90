//! One attempt of a node to boot: what happened, step by step, what comes next, and whether that is late.
//!
//! Pure: events and the time come from outside, in milliseconds since 1970. Promises: memory is bounded whatever a node does; a step that was seen
//! is told even when others before it were not, since nodes begin in many ways; what is said to be wrong goes away when the node goes on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bootd_sdk::text::shown;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::diagnosis::{Cause, Diagnosis};
use super::event::{Dhcp, Gets, Outcome, State as Sent, Transfer};
use super::promise::Promise;
use super::stage::{Deadlines, Stage};
use crate::config::Arch;
use crate::dhcp::Stage as Asker;

/// An attempt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Counts the attempts of a node.
    pub number: u64,
    /// When it began.
    pub began_ms: u64,
    /// When its node was heard last.
    pub heard_ms: u64,
    /// How it goes.
    pub state: State,
    /// What happened, in the order in which it began.
    pub steps: Vec<Step>,
    /// What is wrong, or was until the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// The node's address, as far as it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// The relay between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<IpAddr>,
    /// What the firmware and its loader say of themselves.
    #[serde(default)]
    pub hints: Told,
    /// What is known of the rest of it.
    #[serde(default)]
    pub promise: Promise,
    /// Documents that came of those that are included.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub included: BTreeSet<String>,
    /// The transaction of the DHCP message that was heard last.
    #[serde(skip)]
    xid: u32,
    /// The address that was offered or given last.
    #[serde(skip)]
    given: Option<IpAddr>,
    /// The script that it got last.
    #[serde(skip)]
    script: Bytes,
}

/// How an attempt goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its next step is not due yet.
    #[default]
    UnderWay,
    /// Something is wrong, and said in the diagnosis.
    Stuck,
    /// The last stage that is expected was reached.
    Booted,
    /// Its node began anew before that.
    GivenUp,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::UnderWay, Self::Stuck, Self::Booted, Self::GivenUp];

    /// The name in JSON and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnderWay => "under-way",
            Self::Stuck => "stuck",
            Self::Booted => "booted",
            Self::GivenUp => "given-up",
        }
    }
}

/// What firmware and loaders say of themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// The architecture, `x86_64-efi`, or the number of option 93.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub arch: String,
    /// Option 60.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub vendor_class: String,
    /// Option 97.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub machine_id: String,
    /// The last `User-Agent`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub agent: String,
}

/// A step of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Of which stage.
    pub stage: Stage,
    /// When it began.
    pub began_ms: u64,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// When something of it happened last.
    pub heard_ms: u64,
    /// How often it was begun.
    pub tries: u32,
    /// What it is about: an address, a file, a path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub what: String,
    /// Bytes that came.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// Bytes of the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// How it went.
    pub end: End,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It goes on.
    Open,
    /// An address was offered, and not taken yet.
    Offered,
    /// Well.
    Done,
    /// Not.
    Failed,
}

impl Step {
    /// Bytes a second so far; `None` before there is something to say.
    pub fn rate(&self) -> Option<u64> {
        let ms = self
            .heard_ms
            .max(self.ended_ms.unwrap_or_default())
            .saturating_sub(self.began_ms);
        (ms > 0 && self.bytes > 0).then(|| self.bytes.saturating_mul(1000) / ms)
    }
}

impl Attempt {
    /// One that begins.
    pub fn new(number: u64, now: u64) -> Self {
        Self {
            number,
            began_ms: now,
            heard_ms: now,
            ..Self::default()
        }
    }

    /// The stage that it is at.
    pub fn at(&self) -> Option<Stage> {
        self.steps
            .iter()
            .max_by_key(|step| step.heard_ms)
            .map(|step| step.stage)
    }

    /// The stages that it has behind it, and milliseconds of each, from the end of the one before it.
    pub fn stages(&self) -> impl Iterator<Item = (Stage, u64)> + '_ {
        let mut before = self.began_ms;
        self.steps.iter().filter_map(move |step| {
            let ended = step.ended_ms.filter(|_| step.end == End::Done)?;
            let took = ended.saturating_sub(before);
            before = before.max(ended);
            Some((step.stage, took))
        })
    }

    /// Whether a DHCP message begins another attempt.
    pub fn is_over_for(&self, dhcp: &Dhcp, now: u64) -> bool {
        let Some(at) = self.at() else { return false };
        let idle = now.saturating_sub(self.heard_ms);
        match dhcp.asker {
            // Firmware tries one way after the other: HTTP, PXE, IPv4, IPv6.
            Asker::Firmware => dhcp.begins && (at > Stage::FirmwareDhcp || idle > LONG_IDLE),
            Asker::Ipxe => dhcp.begins && (at > Stage::Script || at == Stage::Script && idle > LONG_IDLE),
            Asker::Os => false,
        }
    }

    /// Whether a request for the loader or the script begins another attempt.
    pub fn is_over_for_request(&self, stage: Stage, now: u64) -> bool {
        let Some(at) = self.at() else { return false };
        match stage {
            Stage::Loader => at > Stage::IpxeDhcp,
            _ => self.state == State::Booted || at > Stage::Initramfs && now.saturating_sub(self.heard_ms) > LONG_IDLE,
        }
    }

    /// Whether its firmware said what it is.
    fn knows_firmware(&self) -> bool {
        !(self.hints.arch.is_empty() && self.hints.vendor_class.is_empty())
    }

    /// Whether this is the script that it got last.
    pub fn has_script(&self, body: &Bytes) -> bool {
        !body.is_empty() && self.script == body
    }

    /// Its script, to be known again.
    pub fn keep_script(&mut self, body: &Bytes) {
        self.script = body.clone();
    }

    /// A DHCP message.
    pub fn dhcp(&mut self, dhcp: &Dhcp, now: u64) {
        let stage = match dhcp.asker {
            Asker::Firmware => Stage::FirmwareDhcp,
            Asker::Ipxe => Stage::IpxeDhcp,
            Asker::Os => Stage::OsDhcp,
        };
        if let Some(hints) = dhcp.hints.as_ref().filter(|_| !self.knows_firmware()) {
            let arch = hints.known.map(Arch::name).map(str::to_owned);
            self.hints.arch = arch.or(hints.arch.map(|number| number.to_string())).unwrap_or_default();
            self.hints.vendor_class = shown(&String::from_utf8_lossy(&hints.vendor_class));
            self.hints.machine_id = hints.machine_id.iter().map(|byte| format!("{byte:02x}")).collect();
        }
        self.relay = dhcp.relay.or(self.relay);
        let again = dhcp.begins && dhcp.xid != self.xid;
        self.xid = dhcp.xid;
        let before = self.steps.len();
        self.step(stage, now);
        let is_old = self.steps.len() == before;
        let given = self.given;
        let step = self.step(stage, now);
        if is_old && dhcp.begins && (again || step.end == End::Offered) {
            step.tries += 1;
        }
        step.heard_ms = now;
        match dhcp.outcome {
            Outcome::Offered(gets) => {
                if step.end != End::Done || again {
                    step.end = End::Offered;
                    step.ended_ms = None;
                }
                if step.what.is_empty() || given != Some(gets.ip) {
                    step.what = gets.ip.to_string();
                }
                self.given = Some(gets.ip);
                self.went_on(stage, now);
            }
            Outcome::Has(gets) => {
                let first = step.end != End::Done;
                step.end = End::Done;
                if step.what.is_empty() || given != Some(gets.ip) {
                    step.what = gets.ip.to_string();
                }
                if first {
                    step.ended_ms = Some(now);
                }
                self.given = Some(gets.ip);
                self.ip = Some(gets.ip);
                self.went_on(stage, now);
                self.look_at_boot_file(stage, gets, now);
            }
            Outcome::Refused(label) => self.fail(stage, Cause::AddressRefused(label), now),
            Outcome::OtherServer(server) => self.fail(stage, Cause::OtherServer(server), now),
            Outcome::Silence(label) if is_final(label) => self.fail(stage, Cause::NoAddress(label), now),
            Outcome::Silence(_) => {}
        }
    }

    /// An address without anything to fetch leads nowhere.
    fn look_at_boot_file(&mut self, stage: Stage, gets: Gets, now: u64) {
        if stage == Stage::FirmwareDhcp && !gets.boot_file {
            let why = gets.note.unwrap_or("nothing names one");
            let arch = self.hints.arch.clone();
            self.say(stage, Cause::NoBootFile { arch, why }, now);
        }
    }

    /// A file on its way. `loader`: what kind of program it is, when it is a loader.
    pub fn transfer(&mut self, stage: Stage, transfer: &Transfer, program: Option<Arch>, now: u64) {
        self.agent(&transfer.agent);
        let wrong = self.is_wrong_loader(program);
        let step = self.step(stage, now);
        if step.what != *transfer.name {
            step.what = transfer.name.to_string();
        }
        step.heard_ms = now;
        match transfer.state {
            Sent::UnderWay => {
                if transfer.sent == 0 && step.bytes > 0 {
                    step.tries += 1;
                }
                step.bytes = transfer.sent;
                step.of = transfer.of.or(step.of);
                step.end = End::Open;
                step.ended_ms = None;
                if transfer.sent > 0 {
                    self.went_on(stage, now);
                }
            }
            Sent::Done => {
                step.bytes = transfer.sent;
                step.of = Some(transfer.sent);
                step.end = End::Done;
                step.ended_ms = Some(now);
                self.went_on(stage, now);
                if let Some(cause) = wrong {
                    self.say(stage, cause, now);
                }
            }
            // Firmware asks for the size first; that is no try.
            Sent::Aborted if stage == Stage::Loader => {}
            Sent::Aborted | Sent::Broken => {
                let (bytes, of) = (transfer.sent, transfer.of);
                step.bytes = bytes;
                step.of = of;
                let name = transfer.name.to_string();
                self.fail(stage, Cause::Broken { name, bytes, of }, now);
            }
            Sent::Refused(status) => {
                let name = transfer.name.to_string();
                self.fail(stage, Cause::Refused { name, status }, now);
            }
        }
    }

    fn is_wrong_loader(&self, program: Option<Arch>) -> Option<Cause> {
        let (program, firmware) = (program?, Arch::from_name(&self.hints.arch)?);
        (program != firmware).then_some(Cause::WrongLoader { program, firmware })
    }

    /// The boot script.
    pub fn script(&mut self, path: &str, status: u16, promised: Promised, agent: &str, now: u64) {
        self.agent(agent);
        if self.at() != Some(Stage::Script) {
            self.begin(Stage::Script, now);
        } else if let Some(step) = self.steps.iter_mut().rfind(|step| step.stage == Stage::Script) {
            step.tries += 1;
        }
        let polls = self.promise.polls;
        let step = self.step(Stage::Script, now);
        if step.what != path {
            step.what = path.into();
        }
        step.heard_ms = now;
        match (status, promised) {
            (200, Promised::Same) if polls => self.fail(Stage::Script, Cause::NoParameters, now),
            (200, Promised::Same) => {
                step.end = End::Done;
                step.ended_ms = Some(now);
                self.went_on(Stage::Script, now);
            }
            (200, Promised::This(promise)) if promise.polls => self.fail(Stage::Script, Cause::NoParameters, now),
            (200, Promised::This(promise)) => {
                step.end = End::Done;
                step.ended_ms = Some(now);
                self.promise = promise;
                self.went_on(Stage::Script, now);
            }
            // It waits for its files.
            (200, Promised::Nothing) => self.went_on(Stage::Script, now),
            _ => self.fail(
                Stage::Script,
                Cause::Refused {
                    name: path.into(),
                    status,
                },
                now,
            ),
        }
    }

    /// Meta-data, user-data or vendor-data. `last`: cloud-init asks for nothing after it but what is included.
    pub fn document(&mut self, path: &str, status: u16, last: bool, now: u64) {
        self.promise.seed = true;
        let step = self.step(Stage::MetaData, now);
        step.heard_ms = now;
        if !path.ends_with("/meta-data") {
            if last && step.end != End::Done {
                step.end = End::Done;
                step.ended_ms = Some(now);
            }
        } else if status == 200 {
            step.what = path.into();
        } else {
            return self.fail(
                Stage::MetaData,
                Cause::Refused {
                    name: path.into(),
                    status,
                },
                now,
            );
        }
        self.went_on(Stage::MetaData, now);
    }

    /// A document that is included.
    pub fn config(&mut self, path: &str, status: u16, now: u64) {
        let step = self.step(Stage::CloudConfig, now);
        step.what = path.into();
        step.heard_ms = now;
        if status != 200 {
            return self.fail(
                Stage::CloudConfig,
                Cause::Refused {
                    name: path.into(),
                    status,
                },
                now,
            );
        }
        if self.included.len() < MOST_STEPS {
            self.included.insert(path.into());
        }
        if self.promise.includes.is_subset(&self.included)
            && let Some(step) = self.steps.iter_mut().rfind(|step| step.stage == Stage::CloudConfig)
        {
            step.end = End::Done;
            step.ended_ms = Some(now);
        }
        self.went_on(Stage::CloudConfig, now);
    }

    /// The node says that it is done.
    pub fn phone_home(&mut self, status: u16, now: u64) {
        let step = self.step(Stage::PhoneHome, now);
        step.heard_ms = now;
        if status >= 300 {
            let name = "phone-home".to_owned();
            return self.fail(Stage::PhoneHome, Cause::Refused { name, status }, now);
        }
        step.end = End::Done;
        step.ended_ms = Some(now);
        self.promise.phone_home = true;
        self.went_on(Stage::PhoneHome, now);
    }

    /// It is wrong from the beginning: an address that no node has asked.
    pub fn of_nobody(&mut self, ip: IpAddr, stage: Stage, now: u64) {
        let step = self.step(stage, now);
        step.heard_ms = now;
        step.what = ip.to_string();
        self.ip = Some(ip);
        self.heard_ms = now;
        self.fail(stage, Cause::UnknownAddress(ip), now);
    }

    /// The time goes on. `true`: something is to be said now that was not before.
    pub fn tick(&mut self, deadlines: &Deadlines, habits: Habits, now: u64) -> bool {
        self.settle(habits, now);
        if self.state != State::UnderWay {
            return false;
        }
        let Some((stage, cause)) = self.late(deadlines, habits, now) else {
            return false;
        };
        let before = self.diagnosis.as_ref().map(|said| said.name.clone());
        self.say(stage, cause, now);
        self.diagnosis.as_ref().map(|said| &said.name) != before.as_ref()
    }

    /// Cloud-init that asks for no vendor-data has its meta-data all the same; and who reached the last stage is booted.
    pub fn settle(&mut self, habits: Habits, now: u64) {
        if let Some(step) = self.steps.iter_mut().rfind(|step| step.stage == Stage::MetaData)
            && step.end == End::Open
            && now.saturating_sub(step.heard_ms) > REST_OF_DOCUMENTS
            && !step.what.is_empty()
        {
            step.end = End::Done;
            step.ended_ms = Some(step.heard_ms);
        }
        if matches!(self.state, State::UnderWay | State::Stuck) && self.is_done(self.goal(habits)) {
            self.state = State::Booted;
            self.diagnosis = None;
        }
    }

    /// The last stage that is expected of it.
    pub fn goal(&self, habits: Habits) -> Stage {
        if habits.phones_home {
            return Stage::PhoneHome;
        }
        // An address is a way and no goal.
        let goals = Stage::ALL.into_iter().rev().filter(|stage| *stage != Stage::OsDhcp);
        let known = self
            .steps
            .iter()
            .any(|step| step.stage == Stage::Script && step.end == End::Done);
        match known || self.promise.seed {
            true => goals
                .into_iter()
                .find(|stage| self.promise.has(*stage))
                .unwrap_or(Stage::Script),
            // Nobody knows before there is a script.
            false => Stage::PhoneHome,
        }
    }

    /// The stage that is to come next.
    pub fn next(&self, habits: Habits) -> Option<Stage> {
        let at = self.at()?;
        let goal = self.goal(habits);
        let comes = |stage: &Stage| *stage > at && *stage <= goal && (self.promise.has(*stage) || *stage == goal);
        Stage::ALL.into_iter().find(comes)
    }

    fn late(&self, deadlines: &Deadlines, habits: Habits, now: u64) -> Option<(Stage, Cause)> {
        let step = self.steps.iter().max_by_key(|step| step.heard_ms)?;
        let stage = step.stage;
        let quiet = now.saturating_sub(step.heard_ms);
        let after = |limit: std::time::Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let is_dhcp = matches!(stage, Stage::FirmwareDhcp | Stage::IpxeDhcp | Stage::OsDhcp);
        match step.end {
            End::Offered if now.saturating_sub(step.began_ms) > after(deadlines.of(stage)) => {
                let relay = self.relay;
                Some((
                    stage,
                    Cause::OfferNotTaken {
                        relay,
                        tries: step.tries,
                    },
                ))
            }
            End::Open if is_dhcp && now.saturating_sub(step.began_ms) > after(deadlines.of(stage)) => {
                Some((stage, Cause::NoAddress("unanswered")))
            }
            End::Open if step.of.is_some() && quiet > STALLED => {
                let (name, bytes, of) = (step.what.clone(), step.bytes, step.of);
                Some((stage, Cause::Stalled { name, bytes, of }))
            }
            End::Open if step.of.is_some() => {
                let rate = step.rate()?;
                let is_slow = now.saturating_sub(step.began_ms) > SLOW_AFTER && rate < SLOW;
                let (name, left) = (step.what.clone(), step.of?.saturating_sub(step.bytes));
                is_slow.then_some((stage, Cause::Slow { name, rate, left }))
            }
            End::Done | End::Open => {
                let next = match step.end {
                    // More of it is to come.
                    End::Open => stage,
                    _ => self.next(habits)?,
                };
                let has_address = self
                    .steps
                    .iter()
                    .any(|step| step.stage == Stage::OsDhcp && step.end == End::Done);
                (quiet > after(deadlines.of(next))).then_some((
                    next,
                    Cause::Missing {
                        after: stage,
                        next,
                        has_address,
                    },
                ))
            }
            End::Offered | End::Failed => None,
        }
    }

    fn agent(&mut self, agent: &str) {
        if !agent.is_empty() && self.hints.agent != agent {
            self.hints.agent = agent.chars().take(80).collect();
        }
    }

    /// The node went on: what was said before is over.
    fn went_on(&mut self, stage: Stage, now: u64) {
        self.heard_ms = now;
        if self.diagnosis.as_ref().is_some_and(|said| said.stage <= stage) {
            self.diagnosis = None;
            if self.state == State::Stuck {
                self.state = State::UnderWay;
            }
        }
    }

    fn fail(&mut self, stage: Stage, cause: Cause, now: u64) {
        self.heard_ms = now;
        let step = self.step(stage, now);
        step.end = End::Failed;
        step.ended_ms = Some(now);
        self.say(stage, cause, now);
    }

    fn say(&mut self, stage: Stage, cause: Cause, now: u64) {
        if self.state == State::Booted {
            return;
        }
        let diagnosis = cause.diagnosis(stage, now);
        if diagnosis.stops {
            self.state = State::Stuck;
        }
        self.diagnosis = Some(diagnosis);
    }

    fn is_done(&self, stage: Stage) -> bool {
        let step = self.steps.iter().rfind(|step| step.stage == stage);
        step.is_some_and(|step| step.end == End::Done)
    }

    /// The present step of a stage: that since the last step of an earlier one, or a new one.
    fn step(&mut self, stage: Stage, now: u64) -> &mut Step {
        let present = self.steps.iter().rposition(|step| step.stage <= stage);
        let found = present.filter(|at| self.steps.get(*at).is_some_and(|step| step.stage == stage));
        if found.is_none() {
            self.begin(stage, now);
        }
        let at = found.unwrap_or(self.steps.len().saturating_sub(1));
        // `begin` has put one there.
        &mut self.steps[at]
    }

    fn begin(&mut self, stage: Stage, now: u64) {
        if self.steps.len() >= MOST_STEPS {
            // The beginning and the end tell most.
            self.steps.remove(MOST_STEPS / 4);
        }
        self.steps.push(Step {
            stage,
            began_ms: now,
            ended_ms: None,
            heard_ms: now,
            tries: 1,
            what: String::new(),
            bytes: 0,
            of: None,
            end: End::Open,
        });
    }
}

/// What a script says of the rest of a boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Promised {
    /// This.
    This(Promise),
    /// What the one before it said: it is the same.
    Same,
    /// Nothing: it waits, or is none.
    Nothing,
}

/// What a node is known to do from earlier attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Habits {
    /// It phoned home.
    #[serde(default)]
    pub phones_home: bool,
}

/// Whether a DHCP message is not answered for a reason that stays: others go away by themselves within seconds.
fn is_final(label: &str) -> bool {
    !matches!(
        label,
        "lookup_under_way" | "probe_under_way" | "other_server" | "release_of_node" | "rate_limit"
    )
}

/// Milliseconds without a sign, after which a script or iPXE's DHCP is of another attempt.
const LONG_IDLE: u64 = 120_000;
/// Milliseconds after which cloud-init does not ask for vendor-data any more.
const REST_OF_DOCUMENTS: u64 = 10_000;
/// Milliseconds without a byte of a file that was begun.
const STALLED: u64 = 30_000;
/// Bytes a second under which a file is slow, and milliseconds after which that is said.
const SLOW: u64 = 4_000_000;
const SLOW_AFTER: u64 = 10_000;
/// Steps of an attempt that are kept.
const MOST_STEPS: usize = 48;
