//! All transfers: who has one, what a packet means to it, and which is due next.
//!
//! Pure: takes packets and the time, gives packets ([`Burst`]). Sockets, files and the clock are its caller's. Promises: a transfer is known by its client's
//! address and port; a request that comes again begins none, one for something else ends the one before it, as soon as it is sure that it is the
//! client's own; a client's ERROR ends its transfer, and nothing leaves after it; there are no more transfers than [`Limits`] says, each client has
//! its share of them, and who gets none hears why. What a transfer costs is its place in the tables: the files are shared. Who makes room for whom is
//! decided in `places`.

use std::cmp::Reverse;
use std::collections::hash_map::RandomState;
use std::collections::{BinaryHeap, HashMap};
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::time::Duration;

use bootd_sdk::text::shown;
use bytes::Bytes;

use super::content::Content;
use super::places::{Places, Use};
use super::request::{Code, Granted, Malformed, Mode, Packet, Request, error};
use super::transfer::{Step, Transfer};
use super::{Files, Kind, Refused};
use crate::net::Burst;

/// What names a transfer; none is named twice.
pub type Id = u64;

/// What bounds transfers.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Under way at once.
    pub reads: usize,
    /// Of these, one client's: those of one address.
    pub each: usize,
    /// Largest block, in bytes, of the options that are granted.
    pub blksize: u16,
    /// Largest window, in blocks.
    pub windowsize: u16,
    /// Where transfers speak from.
    pub ports: Ports,
}

/// Where transfers speak from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// Each from a port of its own: who says something there got what was sent from there.
    Own,
    /// All from the one where they were asked: a client's port has one transfer.
    Shared,
}

/// The transfers.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    transfers: HashMap<Id, Entry>,
    /// The newest of each client's port.
    by_peer: HashMap<SocketAddr, Id>,
    places: Places,
    /// For each transfer its [`Entry::alarm`], and some that are over.
    alarms: BinaryHeap<Reverse<(Duration, Id)>>,
    next: Id,
    ended: Vec<Ended>,
    repeated: u64,
    ignored: u64,
    hasher: RandomState,
}

#[derive(Debug)]
struct Entry {
    transfer: Transfer,
    peer: SocketAddr,
    /// The request, so that it is known again.
    asked: u64,
    name: String,
    kind: Kind,
    alarm: Duration,
    began: Duration,
    /// One of the same port, which ends when this one's client is heard. Whoever asked may have forged that port.
    before: Option<Id>,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict {
    /// It gets a transfer: [`Engine::begin`].
    Begin(Opening),
    /// It gets the answer of this transfer again.
    Again(Id, Burst),
    /// It gets an ERROR.
    Refuse(Refusal),
    /// It gets nothing.
    Ignore(Why),
}

/// A request that is granted.
#[derive(Debug)]
pub struct Opening {
    peer: SocketAddr,
    asked: u64,
    request: Request,
    file: Bytes,
    kind: Kind,
}

impl Opening {
    /// The file's name as it may be shown.
    pub fn name(&self) -> String {
        shown(&self.request.name)
    }

    /// The file's length, in bytes.
    pub fn size(&self) -> u64 {
        self.file.len() as u64
    }
}

/// A request that is not.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub why: Why,
    /// The file's name as it may be shown.
    pub name: String,
    /// What the client gets.
    pub packet: Bytes,
}

/// Why a packet does not get what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It cannot be read.
    Malformed(Malformed),
    /// It is longer than any.
    TooLong,
    /// It was sent to a group or to all (RFC 1123 4.2.3.5).
    ToAll,
    /// It wants to write.
    Write,
    /// Its name leads to no file.
    Name(Refused),
    /// All places are taken.
    TooMany,
    /// All of this client are.
    TooManyOfClient,
    /// There is no socket to be had for it.
    NoSocket,
    /// The request was answered, and comes again.
    AskedAgain,
    /// It is about no transfer that there is.
    NoTransfer,
    /// It is no packet for a transfer under way.
    NotForTransfer,
}

/// A transfer that is over.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which one.
    pub id: Id,
    /// Whose.
    pub peer: SocketAddr,
    /// The file's name as it may be shown.
    pub name: String,
    /// What the file is.
    pub kind: Kind,
    /// Bytes that the client has, as far as it said.
    pub bytes: u64,
    /// How it ended.
    pub how: End,
    /// What its client is told, if it waits for more.
    pub farewell: Option<Bytes>,
}

/// How a transfer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client has all of the file.
    Done,
    /// The client wants no more. Ordinary: a UEFI firmware asks for the size first and aborts.
    Aborted,
    /// The client asked for something else, or from the beginning.
    Replaced,
    /// The client's machine says that nobody is there.
    Gone,
    /// The client said nothing for too long.
    TimedOut,
    /// Its client was never heard, or did nothing with its place, and another one needed it.
    Displaced,
    /// It cannot go on, for a reason of ours.
    Dropped,
}

impl Engine {
    /// Grants no larger blocks and windows from now on.
    pub fn grant_at_most(&mut self, blksize: u16, windowsize: u16) {
        (self.limits.blksize, self.limits.windowsize) = (blksize, windowsize);
    }

    /// Without any transfer.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            transfers: HashMap::new(),
            by_peer: HashMap::new(),
            places: Places::default(),
            alarms: BinaryHeap::new(),
            next: 0,
            ended: Vec::new(),
            repeated: 0,
            ignored: 0,
            hasher: RandomState::new(),
        }
    }

    /// A packet that came where requests do.
    pub fn request(&mut self, peer: SocketAddr, packet: &[u8], files: &Files, now: Duration) -> Verdict {
        let request = match Packet::read(packet) {
            Ok(Packet::Read(request)) => request,
            Ok(Packet::Write) => {
                return refuse(Why::Write, "", Code::Illegal, "nothing can be written here");
            }
            Ok(Packet::Acknowledgement(_) | Packet::Error) => return Verdict::Ignore(Why::NoTransfer),
            Err(malformed @ Malformed::Mode) => {
                return refuse(
                    Why::Malformed(malformed),
                    "",
                    Code::Illegal,
                    "the modes are octet and netascii",
                );
            }
            Err(malformed @ Malformed::Unterminated) => {
                return refuse(Why::Malformed(malformed), "", Code::Illegal, "the request has no end");
            }
            // Who sends what is no packet at all may be anybody.
            Err(malformed) => return Verdict::Ignore(Why::Malformed(malformed)),
        };
        let asked = self.hasher.hash_one(packet);
        if let Some(&id) = self.by_peer.get(&peer)
            && let Some(entry) = self.transfers.get_mut(&id)
        {
            let is_alike = entry.asked == asked;
            // Who went on with the answer, and asks again at the end or a good while later, begins anew.
            let heard = entry.transfer.heard();
            let began_anew = heard.is_some_and(|at| entry.transfer.is_at_end() || now >= at + BEGUN_ANEW);
            if is_alike && !began_anew {
                return match entry.transfer.asked_again(now) {
                    Step::Repeat(burst) => {
                        self.repeated += 1;
                        Verdict::Again(id, burst)
                    }
                    _ => Verdict::Ignore(Why::AskedAgain),
                };
            }
        }
        let file = match files.find(&request.name) {
            Ok(file) => file,
            Err(refused) => {
                let (code, text) = match refused {
                    Refused::Empty | Refused::Unknown => (Code::NotFound, "File not found"),
                    Refused::TooLong | Refused::Control | Refused::Dots => (Code::Access, "Access violation"),
                };
                return refuse(Why::Name(refused), &request.name, code, text);
            }
        };
        if self.places.of(peer.ip()) >= self.limits.each && !self.make_room_among_own(&peer) {
            let text = "too many transfers of yours, try again";
            return refuse(Why::TooManyOfClient, &request.name, Code::Undefined, text);
        }
        if self.transfers.len() >= self.limits.reads && !self.make_room(&peer, now) {
            return refuse(Why::TooMany, &request.name, Code::Undefined, COME_BACK);
        }
        Verdict::Begin(Opening {
            peer,
            asked,
            request,
            file: file.bytes.clone(),
            kind: file.kind,
        })
    }

    /// Begins a transfer whose datagrams have so much room, and gives its first answer.
    pub fn begin(&mut self, opening: Opening, room: usize, now: Duration) -> (Id, Burst) {
        let Opening {
            peer,
            asked,
            request,
            file,
            kind,
        } = opening;
        let granted = self.grant(&request, &file, room);
        let blksize = granted.blksize.unwrap_or(USUAL_BLKSIZE).into();
        let content = Content::new(file, request.mode, blksize);
        let (transfer, step) = Transfer::begin(content, &granted, now);
        let before = self.begun_before(&peer);
        let id = self.next;
        self.next += 1;
        let alarm = transfer.due();
        self.alarms.push(Reverse((alarm, id)));
        self.by_peer.insert(peer, id);
        self.places.take(id, peer.ip());
        let entry = Entry {
            transfer,
            peer,
            asked,
            name: shown(&request.name),
            kind,
            alarm,
            began: now,
            before,
        };
        self.transfers.insert(id, entry);
        let burst = self.after(id, step);
        (id, burst.unwrap_or_else(|| Burst::of(Bytes::new())))
    }

    /// The transfer of a client's port.
    pub fn of(&self, peer: &SocketAddr) -> Option<Id> {
        self.by_peer.get(peer).copied()
    }

    /// A packet for a transfer; what leaves for it.
    pub fn packet(&mut self, id: Id, packet: &[u8], now: Duration) -> Result<Option<Burst>, Why> {
        let entry = self.transfers.get_mut(&id).ok_or(Why::NoTransfer)?;
        match Packet::read(packet) {
            Ok(Packet::Acknowledgement(block)) => {
                let is_first = entry.transfer.heard().is_none();
                let step = entry.transfer.acknowledged(block, now);
                self.ignored += u64::from(step == Step::Nothing);
                if is_first && entry.transfer.heard().is_some() {
                    let (peer, before) = (entry.peer, entry.before.take());
                    self.places.heard(id, peer.ip());
                    if let Some(before) = before {
                        self.end(before, End::Replaced);
                    }
                }
                Ok(self.after(id, step))
            }
            Ok(Packet::Error) => {
                self.end(id, End::Aborted);
                Ok(None)
            }
            Ok(Packet::Read(_) | Packet::Write) => Err(Why::NotForTransfer),
            Err(malformed) => Err(Why::Malformed(malformed)),
        }
    }

    /// When [`Engine::due`] has something to do.
    pub fn alarm(&self) -> Option<Duration> {
        self.alarms.peek().map(|Reverse((at, _))| *at)
    }

    /// The next transfer that waited long enough, and what leaves for it; `None`: there is none.
    pub fn due(&mut self, now: Duration) -> Option<(Id, Option<Burst>)> {
        while let Some(Reverse((at, id))) = self.alarms.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.alarms.pop();
            let Some(entry) = self.transfers.get_mut(&id).filter(|entry| entry.alarm == at) else {
                continue;
            };
            // Each packet moves it; the alarm is moved only when it rings.
            let step = entry.transfer.waited(now);
            entry.alarm = entry.transfer.due();
            self.alarms.push(Reverse((entry.alarm, id)));
            if step != Step::Nothing {
                return Some((id, self.after(id, step)));
            }
        }
        None
    }

    /// Ends a transfer.
    pub fn end(&mut self, id: Id, how: End) {
        let Some(entry) = self.transfers.remove(&id) else {
            return;
        };
        self.places.leave(id, entry.peer.ip());
        let is_newest = self.by_peer.get(&entry.peer) == Some(&id);
        match entry.before.filter(|before| self.transfers.contains_key(before)) {
            _ if !is_newest => {}
            Some(before) => {
                self.by_peer.insert(entry.peer, before);
            }
            None => {
                self.by_peer.remove(&entry.peer);
            }
        }
        // Who was never heard may be somebody else than who asked.
        let waits = how == End::Displaced && entry.transfer.heard().is_some();
        self.ended.push(Ended {
            id,
            peer: entry.peer,
            bytes: entry.transfer.bytes(),
            name: entry.name,
            kind: entry.kind,
            how,
            farewell: waits.then(|| error(Code::Undefined, COME_BACK)),
        });
    }

    /// The transfers that ended since this was asked last.
    pub fn ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    /// How often something was sent again since this was asked last.
    pub fn repeated(&mut self) -> u64 {
        std::mem::take(&mut self.repeated)
    }

    /// How many acknowledgements had nothing leave since this was asked last: doubled ones, and those of no block that is under way.
    pub fn ignored(&mut self) -> u64 {
        std::mem::take(&mut self.ignored)
    }

    /// How many transfers there are.
    pub fn len(&self) -> usize {
        self.transfers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.transfers.is_empty()
    }

    /// Ends a transfer of somebody who needs its place less. `false`: there is none.
    fn make_room(&mut self, asker: &SocketAddr, now: Duration) -> bool {
        let uses = self.transfers.iter().map(|(&id, entry)| Use {
            id,
            client: entry.peer.ip(),
            age: now.saturating_sub(entry.began),
            silence: now.saturating_sub(entry.transfer.news_at()),
            bytes: entry.transfer.bytes(),
        });
        match self.places.gives_way(asker.ip(), uses, now) {
            Some(id) => self.end(id, End::Displaced),
            None => return self.end_before(asker),
        }
        true
    }

    /// The same of the client itself: forged requests in its name do not keep it out.
    fn make_room_among_own(&mut self, asker: &SocketAddr) -> bool {
        match self.places.unheard_of(asker.ip()) {
            Some(id) => self.end(id, End::Displaced),
            None => return self.end_before(asker),
        }
        true
    }

    /// Where there is no place for both, the one that this port had ends at once.
    fn end_before(&mut self, asker: &SocketAddr) -> bool {
        let before = self.of(asker);
        if let Some(id) = before {
            self.end(id, End::Replaced);
        }
        before.is_some()
    }

    /// The transfer that a new one of this port is instead of, if it goes on until that is sure. One that was not heard either is over.
    fn begun_before(&mut self, peer: &SocketAddr) -> Option<Id> {
        let id = self.of(peer)?;
        let entry = self.transfers.get(&id)?;
        if entry.transfer.heard().is_some() && self.limits.ports == Ports::Own {
            return Some(id);
        }
        let before = entry.before;
        self.end(id, End::Replaced);
        before
    }

    /// What of the options holds.
    fn grant(&self, request: &Request, file: &Bytes, room: usize) -> Granted {
        let options = &request.options;
        // Blocks have four bytes before them. On a way too narrow for the smallest blocks they go in pieces.
        let widest = u16::try_from(room.saturating_sub(4))
            .unwrap_or(u16::MAX)
            .max(SMALLEST_BLKSIZE);
        Granted {
            blksize: options.blksize.map(|asked| asked.min(self.limits.blksize).min(widest)),
            // How long a text becomes would have to be counted; clients do without.
            tsize: (options.tsize && request.mode == Mode::Octet).then_some(file.len() as u64),
            timeout: options.timeout,
            windowsize: options.windowsize.map(|asked| asked.min(self.limits.windowsize)),
        }
    }

    fn after(&mut self, id: Id, step: Step) -> Option<Burst> {
        let burst = match step {
            Step::Nothing => None,
            Step::Send(burst) => Some(burst),
            Step::Repeat(burst) => {
                self.repeated += 1;
                Some(burst)
            }
            Step::Done => {
                self.end(id, End::Done);
                None
            }
            Step::GaveUp => {
                self.end(id, End::TimedOut);
                None
            }
        };
        if let Some(entry) = self.transfers.get_mut(&id) {
            let due = entry.transfer.due();
            if due < entry.alarm {
                entry.alarm = due;
                self.alarms.push(Reverse((due, id)));
            }
        }
        burst
    }

    /// Bytes that transfers have for themselves.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.transfers.values().map(|entry| entry.transfer.held()).sum()
    }
}

impl Refusal {
    /// Of an opening for which there is no socket.
    pub fn no_socket(opening: &Opening) -> Self {
        let name = &opening.request.name;
        Self {
            why: Why::NoSocket,
            name: shown(name),
            packet: error(Code::Undefined, COME_BACK),
        }
    }
}

fn refuse(why: Why, name: &str, code: Code, text: &str) -> Verdict {
    Verdict::Refuse(Refusal {
        why,
        name: shown(name),
        packet: error(code, text),
    })
}

impl Why {
    /// There is no such file.
    pub fn is_missing(self) -> bool {
        matches!(self, Self::Name(Refused::Empty | Refused::Unknown))
    }

    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed(malformed) => malformed.label(),
            Self::TooLong => "too_long",
            Self::ToAll => "sent_to_all",
            Self::Write => "write",
            Self::Name(refused) => refused.label(),
            Self::TooMany => "too_many_reads",
            Self::TooManyOfClient => "too_many_reads_of_client",
            Self::NoSocket => "no_socket",
            Self::AskedAgain => "asked_again",
            Self::NoTransfer => "no_transfer",
            Self::NotForTransfer => "not_for_transfer",
        }
    }
}

impl End {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Done => "read",
            Self::Aborted => "aborted",
            Self::Replaced => "replaced",
            Self::Gone => "gone",
            Self::TimedOut => "timed_out",
            Self::Displaced => "displaced",
            Self::Dropped => "dropped",
        }
    }
}

const COME_BACK: &str = "too many transfers, try again";
/// Without options (RFC 1350).
const USUAL_BLKSIZE: u16 = 512;
/// RFC 2348.
const SMALLEST_BLKSIZE: u16 = 8;
/// No request is on its way for so long.
const BEGUN_ANEW: Duration = Duration::from_secs(1);
