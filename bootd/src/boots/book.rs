//! The attempts of all nodes: which event is whose, and where one attempt ends and the next begins.
//!
//! Pure: events, the time, and who has which address come from outside. A client is a node's xname when the inventory knows it, else its hardware
//! address, else its IP address. Promises: so many clients, of them so many strangers, and so many attempts of each are kept; who was heard
//! longest ago goes first, and goings are counted.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bootd_sdk::mac::Mac;
use foldhash::HashMap;
use serde::{Deserialize, Serialize};

use super::attempt::{Attempt, Habits, Promised, State};
use super::event::{Asked, Dhcp, Event, Outcome, State as Bytes, Transfer};
use super::promise::Promise;
use super::stage::{Deadlines, Stage};
use super::view::Summary;
use crate::config::Arch;
use crate::dhcp::Stage as Asker;

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Who {
    /// A node of the inventory, by its xname.
    Node(Arc<str>),
    /// A machine that the inventory does not know.
    Mac(Mac),
    /// An address of which not even that is known.
    Ip(IpAddr),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => f.write_str(id),
            Self::Mac(mac) => mac.fmt(f),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// What the rest of bootd knows of clients and files.
pub trait World {
    /// Another number when anything of what follows may be different.
    fn generation(&self) -> u64;
    /// The xname of the node with this hardware address.
    fn by_mac(&self, mac: Mac) -> Option<Arc<str>>;
    /// The xname of the node with this address.
    fn by_ip(&self, ip: IpAddr) -> Option<Arc<str>>;
    /// Whether an address is that of the node with this xname; `None`: the inventory has no address for it.
    fn is_of(&self, id: &str, ip: IpAddr) -> Option<bool>;
    /// For which machines a loader is a program.
    fn program(&self, loader: &str) -> Option<Arch>;
    /// The ports where this box serves files and documents.
    fn ports(&self) -> &[u16];
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Attempts of each client.
    pub attempts: usize,
    /// Clients that the inventory knows.
    pub nodes: usize,
    /// Other clients.
    pub strangers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempts: 5,
            nodes: 100_000,
            strangers: 1024,
        }
    }
}

/// A client and its attempts, the newest last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The hardware address from which it boots, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// What it does each time.
    #[serde(default)]
    pub habits: Habits,
    /// Its attempts.
    pub attempts: VecDeque<Attempt>,
    /// Whether [`Book::changed`] has it already.
    #[serde(skip)]
    is_changed: bool,
    /// Whether it may become late, as the book has it.
    #[serde(skip)]
    is_open: bool,
    /// The attempt and the stage that were told last of it.
    #[serde(skip)]
    was_at: Option<(u64, Stage)>,
}

impl Record {
    /// With these attempts.
    pub fn of(attempts: impl Into<VecDeque<Attempt>>) -> Self {
        Self {
            attempts: attempts.into(),
            ..Self::default()
        }
    }
}

/// An attempt that reached the last stage that was expected of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Milliseconds from its beginning.
    pub took_ms: u64,
    /// The stages that it went through, and milliseconds of each, from the end of the one before it.
    pub stages: Vec<(Stage, u64)>,
}

/// All of them.
#[derive(Debug)]
pub struct Book {
    limits: Limits,
    deadlines: Deadlines,
    records: HashMap<Who, Record>,
    /// Who has which hardware address, and as of which generation of the inventory.
    by_mac: HashMap<Mac, (u64, Who)>,
    /// Who has which address, by what DHCP gave.
    by_ip: HashMap<IpAddr, Who>,
    strangers: usize,
    /// Those that something happened to since the last [`Book::changed`].
    changed: BTreeSet<Who>,
    /// Attempts that may become late.
    open: BTreeSet<Who>,
    /// Clients that were forgotten for others.
    pub forgotten: u64,
    /// Attempts that were given up since the start.
    pub given_up: u64,
    /// Diagnoses since the start, by name.
    pub said: HashMap<String, u64>,
    /// Attempts that booted since the last [`Book::ended`].
    booted: Vec<Ended>,
    /// Whether somebody wants [`Book::moves`].
    pub is_watched: bool,
    /// What came to another stage since the last [`Book::moves`].
    moves: Vec<Summary>,
}

impl Book {
    /// An empty one.
    pub fn new(limits: Limits, deadlines: Deadlines) -> Self {
        Self {
            limits,
            deadlines,
            records: HashMap::default(),
            by_mac: HashMap::default(),
            by_ip: HashMap::default(),
            strangers: 0,
            changed: BTreeSet::new(),
            open: BTreeSet::new(),
            forgotten: 0,
            given_up: 0,
            said: HashMap::default(),
            booted: Vec::new(),
            is_watched: false,
            moves: Vec::new(),
        }
    }

    /// Goes by other bounds from now on; what is over them goes with what comes next.
    pub fn go_by(&mut self, limits: Limits, deadlines: Deadlines) {
        (self.limits, self.deadlines) = (limits, deadlines);
    }

    /// A record of an earlier run.
    pub fn restore(&mut self, who: Who, mut record: Record) {
        if let Some(attempt) = record.attempts.back() {
            if let Some(ip) = attempt.ip {
                self.by_ip.insert(ip, who.clone());
            }
            if matches!(attempt.state, State::UnderWay | State::Stuck) {
                self.open.insert(who.clone());
                record.is_open = true;
            }
        }
        self.strangers += usize::from(!matches!(who, Who::Node(_)));
        self.records.insert(who, record);
    }

    /// All clients.
    pub fn records(&self) -> impl Iterator<Item = (&Who, &Record)> {
        self.records.iter()
    }

    /// One client.
    pub fn record(&self, who: &Who) -> Option<&Record> {
        self.records.get(who)
    }

    /// Who has this address, by what DHCP gave or the inventory says.
    pub fn who_has(&self, ip: IpAddr, world: &dyn World) -> Option<Who> {
        let given = self.by_ip.get(&ip);
        match given {
            Some(Who::Node(_)) => given.cloned(),
            _ => world.by_ip(ip).map(Who::Node).or_else(|| given.cloned()),
        }
    }

    /// Those that changed since the last call; a client that is gone is among them.
    pub fn changed(&mut self) -> BTreeSet<Who> {
        for who in &self.changed {
            if let Some(record) = self.records.get_mut(who) {
                record.is_changed = false;
            }
        }
        std::mem::take(&mut self.changed)
    }

    /// Each attempt that came to another stage since the last call, as it was then: stages that pass quickly are seen, too.
    pub fn moves(&mut self) -> Vec<Summary> {
        std::mem::take(&mut self.moves)
    }

    /// The attempts that booted since the last call.
    pub fn ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.booted)
    }

    /// Something happened.
    pub fn take(&mut self, event: &Event, world: &dyn World, now: u64) {
        let who = match event {
            Event::Dhcp(dhcp) => self.dhcp(dhcp, world, now),
            Event::Loader(ip, transfer) => self.loader(*ip, transfer, world, now),
            Event::Script(ip, asked) => self.script(*ip, asked, world, now),
            Event::Object(ip, transfer) => self.object(*ip, transfer, world, now),
            Event::Document(ip, asked) => self.document(*ip, asked, world, now),
            // The capture has those.
            Event::Packet(..) => None,
        };
        let Some(who) = who else { return };
        let Some(record) = self.records.get_mut(&who) else {
            return;
        };
        let habits = record.habits;
        let Some(attempt) = record.attempts.back_mut() else {
            return;
        };
        attempt.settle(habits, now);
        let may_be_late = matches!(attempt.state, State::UnderWay | State::Stuck);
        let at = attempt.at().map(|stage| (attempt.number, stage));
        let is_said_now = attempt.diagnosis.as_ref().is_some_and(|said| said.at_ms == now);
        let (was_open, was_changed) = (record.is_open, std::mem::replace(&mut record.is_changed, true));
        record.is_open = may_be_late;
        let has_moved = std::mem::replace(&mut record.was_at, at) != at;
        if has_moved && self.is_watched && self.moves.len() < MOST_MOVES {
            self.moves.extend(Summary::of(&who, record));
        }
        match (was_open, may_be_late) {
            (false, true) => drop(self.open.insert(who.clone())),
            (true, false) => self.close(&who),
            _ => {}
        }
        if is_said_now {
            self.count(&who, now);
        }
        if !was_changed {
            self.changed.insert(who);
        }
    }

    /// The time goes on: who is late is told so.
    pub fn tick(&mut self, now: u64) {
        let mut told = Vec::new();
        for who in &self.open {
            let Some(record) = self.records.get_mut(who) else {
                continue;
            };
            let habits = record.habits;
            if let Some(attempt) = record.attempts.back_mut() {
                let before = attempt.state;
                if attempt.tick(&self.deadlines, habits, now) || attempt.state != before {
                    told.push(who.clone());
                }
            }
        }
        for who in told {
            self.count(&who, now);
            let is_over = self.present(&who).is_none_or(|attempt| attempt.state == State::Booted);
            if is_over {
                self.close(&who);
            }
            self.changed.insert(who);
        }
    }

    fn present(&self, who: &Who) -> Option<&Attempt> {
        self.records.get(who)?.attempts.back()
    }

    /// An attempt will not become late any more. One that was open until now ended now.
    fn close(&mut self, who: &Who) {
        if !self.open.remove(who) {
            return;
        }
        if let Some(record) = self.records.get_mut(who) {
            record.is_open = false;
        }
        let Some(attempt) = self.present(who).filter(|attempt| attempt.state == State::Booted) else {
            return;
        };
        let ended = Ended {
            took_ms: attempt.heard_ms.saturating_sub(attempt.began_ms),
            stages: attempt.stages().collect(),
        };
        self.booted.push(ended);
    }

    /// Counts what was said just now.
    fn count(&mut self, who: &Who, now: u64) {
        let said = self.present(who).and_then(|attempt| attempt.diagnosis.as_ref());
        if let Some(name) = said.filter(|said| said.at_ms == now).map(|said| said.name.clone()) {
            *self.said.entry(name).or_default() += 1;
        }
    }

    fn dhcp(&mut self, dhcp: &Dhcp, world: &dyn World, now: u64) -> Option<Who> {
        let who = self.who_is(dhcp.mac, world);
        if let Outcome::Has(gets) = &dhcp.outcome {
            self.gives(gets.ip, &who);
        }
        let present = self.present(&who);
        let is_new = match (dhcp.asker, present) {
            // An operating system that asks is part of a boot that is under way, or of none.
            (Asker::Os, None) => return None,
            (Asker::Os, Some(attempt)) => {
                let over = matches!(attempt.state, State::Booted | State::GivenUp);
                if over || dhcp.renews || attempt.at().is_none_or(|at| at < Stage::Script) {
                    return None;
                }
                false
            }
            (_, None) => dhcp.begins,
            (_, Some(attempt)) => attempt.is_over_for(dhcp, now),
        };
        if present.is_none() && !is_new {
            return None;
        }
        let (record, attempt) = self.attempt(&who, is_new, now)?;
        if dhcp.asker != Asker::Os {
            record.replace(dhcp.mac);
        }
        attempt.dhcp(dhcp, now);
        Some(who)
    }

    fn loader(&mut self, ip: IpAddr, transfer: &Transfer, world: &dyn World, now: u64) -> Option<Who> {
        let who = self.who_has(ip, world)?;
        let is_new = match self.present(&who) {
            None => transfer.state != Bytes::Aborted,
            Some(attempt) => transfer.state == Bytes::UnderWay && attempt.is_over_for_request(Stage::Loader, now),
        };
        // Scripts that TFTP makes are iPXE's way to its own.
        if transfer.name.ends_with(".ipxe") {
            return None;
        }
        let program = match transfer.state {
            Bytes::Done => world.program(&transfer.name),
            _ => None,
        };
        let (_, attempt) = self.attempt(&who, is_new, now)?;
        attempt.ip = attempt.ip.or(Some(ip));
        attempt.transfer(Stage::Loader, transfer, program, now);
        Some(who)
    }

    fn script(&mut self, ip: IpAddr, asked: &Asked, world: &dyn World, now: u64) -> Option<Who> {
        let who = match asked.mac {
            Some(mac) => self.who_is(mac, world),
            None => self.who_has(ip, world).unwrap_or(Who::Ip(ip)),
        };
        // Anybody may ask for the script of a node. Only its own request is a step of its boot.
        let holder = self.who_has(ip, world);
        let is_own = match (&who, &holder) {
            (who, Some(holder)) => who == holder,
            (Who::Node(id), None) => match world.is_of(id, ip) {
                Some(is_own) => is_own,
                None => self
                    .present(&who)
                    .and_then(|attempt| attempt.ip)
                    .is_none_or(|own| own == ip),
            },
            (_, None) => true,
        };
        if !is_own {
            return None;
        }
        self.gives(ip, &who);
        let is_new = self
            .present(&who)
            .is_none_or(|attempt| attempt.is_over_for_request(Stage::Script, now));
        let (mac, attempt) = self.attempt(&who, is_new, now)?;
        let promised = if attempt.has_script(&asked.body) {
            Promised::Same
        } else {
            if asked.status == 200 {
                attempt.keep_script(&asked.body);
            }
            match str::from_utf8(&asked.body) {
                Ok(script) if !script.is_empty() => Promised::This(Promise::of_script(script, world.ports())),
                _ => Promised::Nothing,
            }
        };
        if mac.is_none() {
            *mac = asked.mac;
        }
        attempt.ip = Some(ip);
        attempt.script(&asked.path, asked.status, promised, &asked.agent, now);
        Some(who)
    }

    fn object(&mut self, ip: IpAddr, transfer: &Transfer, world: &dyn World, now: u64) -> Option<Who> {
        let who = self.who_has(ip, world)?;
        let attempt = self.records.get_mut(&who)?.attempts.back_mut()?;
        // What no script names is not part of a boot.
        let stage = attempt.promise.stage_of(&transfer.name)?;
        if matches!(attempt.state, State::Booted | State::GivenUp) {
            return None;
        }
        attempt.transfer(stage, transfer, None, now);
        Some(who)
    }

    fn document(&mut self, ip: IpAddr, asked: &Asked, world: &dyn World, now: u64) -> Option<Who> {
        let name = asked.path.rsplit('/').next().unwrap_or_default();
        let known = self.who_has(ip, world);
        let is_known = matches!(known, Some(Who::Node(_))) || asked.status == 200;
        let who = known.unwrap_or(Who::Ip(ip));
        let is_new = self.present(&who).is_none();
        let is_phone_home = asked.path.contains("/phone-home");
        let (_, attempt) = self.attempt(&who, is_new, now)?;
        let over = matches!(attempt.state, State::Booted | State::GivenUp) && !is_phone_home;
        if !is_known && !matches!(name, "user-data" | "vendor-data") && asked.status != 200 {
            attempt.of_nobody(ip, Stage::MetaData, now);
            return Some(who);
        }
        if over {
            return None;
        }
        let text = str::from_utf8(&asked.body).unwrap_or_default();
        match name {
            "meta-data" => attempt.document(&asked.path, asked.status, false, now),
            "user-data" | "vendor-data" => {
                if asked.status == 200 {
                    attempt.promise.add_includes(text);
                }
                attempt.document(&asked.path, asked.status, name == "vendor-data", now);
            }
            _ if is_phone_home => attempt.phone_home(asked.status, now),
            _ if name.ends_with(".yaml") => {
                attempt.promise.add_config(text);
                attempt.config(&asked.path, asked.status, now);
            }
            _ => return None,
        }
        if is_phone_home
            && asked.status < 300
            && let Some(record) = self.records.get_mut(&who)
        {
            record.habits.phones_home = true;
        }
        Some(who)
    }

    /// A client by its hardware address. One that came into the inventory meanwhile keeps its attempts.
    fn who_is(&mut self, mac: Mac, world: &dyn World) -> Who {
        let generation = world.generation();
        if let Some((_, who)) = self.by_mac.get(&mac).filter(|(as_of, _)| *as_of == generation) {
            return who.clone();
        }
        let who = world.by_mac(mac).map_or(Who::Mac(mac), Who::Node);
        // Strangers are not remembered here: there is no end of them.
        let Who::Node(_) = &who else { return who };
        if self.by_mac.len() >= self.limits.nodes.saturating_mul(2) {
            self.by_mac.clear();
        }
        self.by_mac.insert(mac, (generation, who.clone()));
        let before = Who::Mac(mac);
        if !self.records.contains_key(&who)
            && let Some(record) = self.records.remove(&before)
        {
            self.strangers = self.strangers.saturating_sub(1);
            if self.open.remove(&before) {
                self.open.insert(who.clone());
            }
            self.changed.insert(before);
            self.changed.insert(who.clone());
            self.records.insert(who.clone(), record);
        }
        who
    }

    fn gives(&mut self, ip: IpAddr, who: &Who) {
        if self.by_ip.get(&ip) != Some(who) {
            if self.by_ip.len() >= self.limits.nodes.saturating_mul(2) {
                self.by_ip.clear();
            }
            self.by_ip.insert(ip, who.clone());
        }
    }

    /// The attempt that something belongs to.
    fn attempt(&mut self, who: &Who, is_new: bool, now: u64) -> Option<(&mut Option<Mac>, &mut Attempt)> {
        if !self.records.contains_key(who) {
            self.make_room(who);
            self.strangers += usize::from(!matches!(who, Who::Node(_)));
            self.records.insert(who.clone(), Record::default());
        }
        let record = self.records.get_mut(who)?;
        if is_new || record.attempts.is_empty() {
            let number = record.attempts.back().map_or(1, |last| last.number + 1);
            if let Some(last) = record.attempts.back_mut()
                && !matches!(last.state, State::Booted | State::GivenUp)
            {
                last.state = State::GivenUp;
                self.given_up += 1;
            }
            record.attempts.push_back(Attempt::new(number, now));
            while record.attempts.len() > self.limits.attempts.max(1) {
                record.attempts.pop_front();
            }
        }
        Some((&mut record.mac, record.attempts.back_mut()?))
    }

    /// Forgets who was heard longest ago, of strangers or of nodes, when there are too many.
    fn make_room(&mut self, who: &Who) {
        let is_node = matches!(who, Who::Node(_));
        let nodes = self.records.len() - self.strangers;
        let is_full = match is_node {
            true => nodes >= self.limits.nodes,
            false => self.strangers >= self.limits.strangers,
        };
        if !is_full {
            return;
        }
        let same = |other: &Who| matches!(other, Who::Node(_)) == is_node;
        let heard = |record: &Record| record.attempts.back().map_or(0, |attempt| attempt.heard_ms);
        // An eighth at once: a flood of strangers does not look through all of them each time.
        let mut all: Vec<(u64, Who)> = self
            .records
            .iter()
            .filter(|(who, _)| same(who))
            .map(|(who, record)| (heard(record), who.clone()))
            .collect();
        all.sort_unstable();
        all.truncate((all.len() / 8).max(1));
        for (_, old) in all {
            self.records.remove(&old);
            self.open.remove(&old);
            self.strangers -= usize::from(!is_node);
            self.forgotten += 1;
            self.changed.insert(old);
        }
    }
}

/// Moves that wait to be told.
const MOST_MOVES: usize = 8192;
