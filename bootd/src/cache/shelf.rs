//! What the cache decides: who is served from disk, who follows a fill, who starts one, who is passed through, what makes room, and when new
//! versions go into service.
//!
//! No I/O, no clock, no lock: times and free bytes are passed in, files are numbers; the shell (`keep`) moves the bytes. Promises: at most
//! one fill of an object at a time; what is kept, being filled, or gone but still read, never takes more than the budget when something new
//! comes in; what is being read makes no room for anything else; a fill that ends badly is [`Step::Broken`] for its readers, never an end.
//! What is kept is served until a newer version is complete, and how sets of files change is in `sets`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::time::{Duration, Instant};

use super::Want;
use super::sets::{Epoch, Sets};
use crate::http::range::Slice;

/// The name of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) bucket: String,
    pub(super) key: String,
}

impl Place {
    /// `bucket/key`: a bucket has no slash.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.bucket, self.key)
    }

    /// What [`Place::name`] gave.
    pub(super) fn of(name: &str) -> Option<Self> {
        let (bucket, key) = name.split_once('/')?;
        Some(Self {
            bucket: bucket.into(),
            key: key.into(),
        })
    }
}

/// Which bytes those of an object are, as its origin tells them apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    /// The entity tag, with its quotes.
    pub(super) etag: Option<String>,
    pub(super) len: u64,
    /// The date of the last change, in seconds since 1970.
    pub(super) modified: Option<u64>,
}

/// A fill, and the object file that it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Number(pub(super) u64);

/// What a reader gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// What is kept.
    Kept(Kept),
    /// What is being fetched, as far as it is there.
    Follow(Number),
    /// The origin has not said yet what it has. Ask again when it has.
    Await {
        fill: Number,
        /// The fill is to begin.
        begins: bool,
    },
    /// The reader's script is of a time when another version was in service, and that is here no more.
    Replaced,
    /// The origin's own answer.
    Through(Why),
}

/// A kept object is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) object: Number,
    pub(super) stale: Option<Stale>,
    /// It is time to ask the origin, beside this, whether it still has this version.
    pub(super) check: bool,
    /// It is time to note on disk that it is in use.
    pub(super) touch: bool,
    /// Its newer version is to be fetched beside this.
    pub(super) renew: Option<Number>,
}

/// Why the origin's own answer is passed through; also a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Only what it is was asked, and nothing of it is here.
    Head,
    /// The reader wants another version than the one that is here.
    OtherVersion,
    /// The reader starts too far beyond what was fetched.
    Ahead,
    /// Too many fills at once.
    Busy,
    /// The origin does not say which version it is, or only about.
    Inexact,
    /// It does not fit.
    NoRoom,
    /// The disk fails.
    Disk,
}

impl Why {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Head => "through_head",
            Self::OtherVersion => "through_other_version",
            Self::Ahead => "through_ahead",
            Self::Busy => "through_busy",
            Self::Inexact => "through_inexact",
            Self::NoRoom => "through_no_room",
            Self::Disk => "through_disk",
        }
    }
}

/// Why what is kept may be old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stale {
    /// The origin gave no answer of use.
    Unasked,
    /// The origin has it no more.
    Gone,
    /// There is a new version, which could not be fetched.
    Unfetched,
}

impl Stale {
    /// For humans.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Unasked => "the origin did not confirm it",
            Self::Gone => "the origin does not have it any more",
            Self::Unfetched => "a newer version could not be fetched",
        }
    }
}

/// What came of pinning a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pinned {
    Now,
    Already,
    /// There are [`MOST_PINS`].
    TooMany,
}

/// What a fill gets once its version is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Room {
    /// Its bytes are reserved. These go first.
    Granted(Vec<Number>),
    /// It is here already; the fill is over.
    Same,
    /// None; the fill is over.
    None(Why),
}

/// How a fill ends badly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The origin does not have it.
    NoSuchKey,
    /// The origin fails.
    Origin,
    /// The disk fails.
    Disk,
}

/// What the origin says about a kept object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Checked {
    /// It has this.
    Has(Version),
    /// It does not have it.
    Gone,
    /// Nothing of use.
    Nothing,
}

/// What became of a complete fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sealed {
    /// It is in service.
    Serves,
    /// An older version is, until the change. Another one that waited for that goes.
    Waits(Option<Number>),
    /// Nobody knows it.
    Unknown,
}

/// What is to be done so that a set of files can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    /// Ask the origin what it has instead of this.
    Check(Number),
    /// Begin to fetch the newer version.
    Fill(Place, Number),
}

/// What a reader of a fill does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Read these bytes: they are there.
    Read(Range<u64>),
    /// Wait for more.
    Wait,
    /// All is read.
    Done,
    /// There will be no more.
    Broken,
}

/// What a reader does that is at `at` and wants all before `end`, when so much is there.
pub(super) fn step(at: u64, end: u64, watermark: u64, is_broken: bool) -> Step {
    if at >= end {
        Step::Done
    } else if at < watermark {
        Step::Read(at..end.min(watermark))
    } else if is_broken {
        Step::Broken
    } else {
        Step::Wait
    }
}

/// All that is kept and being fetched.
#[derive(Debug)]
pub(super) struct Shelf {
    limits: Limits,
    places: HashMap<Place, Entry>,
    /// Names whose objects make no room for anything, be they here or not.
    pins: BTreeSet<Place>,
    whose: HashMap<Number, Place>,
    /// Which files change together.
    pub(super) sets: Sets,
    /// Counts the changes.
    epoch: Epoch,
    /// Taken off the shelf while somebody reads it: its bytes are free when the last reader is gone.
    leaving: BTreeMap<Number, u64>,
    /// Bytes of all that is kept, filled or leaving.
    used: u64,
    fills: usize,
    last: u64,
    /// Counts the uses, for what was not used for long.
    uses: u64,
    no_fill_before: Option<Instant>,
}

/// How much the shelf holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes at most.
    pub(super) budget: u64,
    /// Bytes that stay free in the file system.
    pub(super) floor: u64,
    /// Objects at most; each takes a descriptor.
    pub(super) objects: usize,
    /// Between two questions to the origin about one object.
    pub(super) check_each: Duration,
    /// How long no file of a set may have changed at its origin before the set does here.
    pub(super) settles: Duration,
}

/// What is there of the shelf, for humans and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) objects: usize,
    pub(super) bytes: u64,
    pub(super) fills: usize,
    pub(super) stale: usize,
    /// Complete, and not in service yet.
    pub(super) waiting: usize,
    /// Not in service any more, for who has an older script.
    pub(super) former: usize,
}

/// Objects of one bucket that may be old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) bucket: String,
    pub(super) stale: Stale,
    pub(super) objects: usize,
    /// How long the first of them is so.
    pub(super) lasts: Duration,
}

/// An object, or what is to become one, for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) stands: Stands,
    pub(super) is_pinned: bool,
}

/// What is there of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stands {
    /// All of it.
    Kept {
        object: Number,
        stale: Option<Stale>,
        /// A newer version is complete, and waits for the other files of its set.
        is_waiting: bool,
        /// How often it was served since the start.
        hits: u64,
    },
    /// So many bytes of so many, if the origin has said that.
    Filling { have: u64, len: Option<u64> },
    /// Nothing; it is pinned.
    Absent,
}

/// One name: what is kept of it, and what is being fetched.
#[derive(Debug, Default)]
struct Entry {
    kept: Option<Standing>,
    fill: Option<Filling>,
    /// The newer version, complete: it goes into service together with those of its set.
    waiting: Option<Standing>,
    /// Versions that were in service, the latest last.
    former: Vec<Former>,
}

/// A version that was in service, for who has a script from then.
#[derive(Debug)]
struct Former {
    standing: Standing,
    /// The first change with which it was so no more, and when that was.
    until: Epoch,
    left: Instant,
}

#[derive(Debug)]
struct Standing {
    number: Number,
    version: Version,
    room: u64,
    /// The change with which it went into service.
    since: Epoch,
    /// When its origin was first heard to have it.
    seen: Option<Instant>,
    /// The last question to which its origin said that it has this version: when it was asked.
    confirmed: Option<Instant>,
    /// When the question that is open was asked.
    asked: Option<Instant>,
    last_use: u64,
    hits: u64,
    touched: Option<Instant>,
    checked: Option<Instant>,
    is_checking: bool,
    /// The origin has another version: the next reader fetches it.
    is_old: bool,
    stale: Option<Stale>,
    stale_since: Option<Instant>,
    gone_since: Option<Instant>,
}

#[derive(Debug)]
struct Filling {
    number: Number,
    /// Once the origin has said it; the room is reserved then.
    version: Option<Version>,
    room: u64,
    watermark: u64,
    /// When its origin said so.
    seen: Option<Instant>,
}

/// What there is for a reader, of all versions of an object.
enum Pick {
    /// The one in service.
    Kept,
    /// Another one that is complete.
    Other(Number),
    /// None any more of the one that it must have.
    Replaced,
    /// None that it wants.
    None,
}

impl Shelf {
    /// Empty.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            places: HashMap::new(),
            pins: BTreeSet::new(),
            whose: HashMap::new(),
            sets: Sets::default(),
            epoch: Epoch::default(),
            leaving: BTreeMap::new(),
            used: 0,
            fills: 0,
            last: 0,
            uses: 0,
            no_fill_before: None,
        }
    }

    /// Puts what was found on disk on the shelf, the longest unused first. What was there of the same name goes.
    pub(super) fn found(&mut self, place: Place, version: Version) -> (Number, Option<Number>) {
        let number = self.number();
        let room = room_of(version.len);
        let kept = self.kept_mut(&place).map(|kept| kept.number);
        let before = kept.and_then(|kept| self.take_off(&place, kept));
        self.used += room;
        let standing = self.standing(number, version, room);
        self.whose.insert(number, place.clone());
        self.places.entry(place).or_default().kept = Some(standing);
        self.check_invariants();
        (number, before)
    }

    /// Keeps so many bytes at most from now on.
    pub(super) fn bound(&mut self, budget: u64) {
        self.limits.budget = budget;
    }

    /// The longest unused that go so that the rest is within the limits, as after a start with smaller ones.
    pub(super) fn trim(&mut self) -> Vec<Number> {
        self.make_room(0, 0, None, &|_| false).unwrap_or_default()
    }

    /// What a reader gets.
    pub(super) fn ask(&mut self, place: &Place, want: &Want, now: Instant) -> Verdict {
        let wanted = want.if_match.as_deref();
        let Some(entry) = self.places.get(place) else {
            return match want.head {
                true => Verdict::Through(Why::Head),
                false => self.begin(place, now),
            };
        };
        match entry.pick(wanted, want.as_of) {
            Pick::Kept => return self.serve(place, now),
            Pick::Other(object) => return Verdict::Kept(Kept::beside(object)),
            Pick::Replaced => return Verdict::Replaced,
            Pick::None => {}
        }
        match (&entry.fill, &entry.kept) {
            (Some(fill), kept) => match &fill.version {
                Some(version) if version.meets(wanted) => match start(want, version.len) {
                    Some(start) if start > fill.watermark.saturating_add(AHEAD) => Verdict::Through(Why::Ahead),
                    _ => Verdict::Follow(fill.number),
                },
                Some(_) => Verdict::Through(Why::OtherVersion),
                None if want.head && kept.is_none() => Verdict::Through(Why::Head),
                None => Verdict::Await {
                    fill: fill.number,
                    begins: false,
                },
            },
            (None, Some(_)) => {
                self.check_soon(place);
                Verdict::Through(Why::OtherVersion)
            }
            (None, None) if want.head => Verdict::Through(Why::Head),
            (None, None) => self.begin(place, now),
        }
    }

    /// The change that was the last one: what a script that is given now is as of.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether a version of it is kept.
    pub(super) fn has(&self, place: &Place) -> bool {
        self.places.get(place).is_some_and(|there| there.kept.is_some())
    }

    /// The origin has answered a fill with this version. `free` are the bytes free in the file system; what `is_read` stays.
    pub(super) fn opened(
        &mut self,
        fill: Number,
        version: Version,
        free: u64,
        now: Instant,
        is_read: &dyn Fn(Number) -> bool,
    ) -> Room {
        let Some(place) = self.whose.get(&fill).cloned() else {
            return Room::None(Why::Busy);
        };
        if let Some(kept) = self.kept_mut(&place)
            && kept.version.is_same(&version)
        {
            kept.is_fresh(now);
            self.drop_fill(&place);
            return Room::Same;
        }
        if !version.is_exact() {
            self.not_renewed(&place, now);
            return Room::None(Why::Inexact);
        }
        let room = room_of(version.len);
        let Some(evicted) = self.make_room(room, free, Some(&place), is_read) else {
            self.not_renewed(&place, now);
            return Room::None(Why::NoRoom);
        };
        self.used += room;
        if let Some(filling) = self.places.get_mut(&place).and_then(|entry| entry.fill.as_mut()) {
            filling.version = Some(version);
            filling.room = room;
            filling.seen = Some(now);
        }
        self.check_invariants();
        Room::Granted(evicted)
    }

    /// So many bytes of a fill are there.
    pub(super) fn advanced(&mut self, fill: Number, watermark: u64) {
        if let Some(place) = self.whose.get(&fill)
            && let Some(filling) = self.places.get_mut(place).and_then(|entry| entry.fill.as_mut())
        {
            debug_assert!(filling.version.as_ref().is_some_and(|version| watermark <= version.len));
            debug_assert!(watermark >= filling.watermark);
            filling.watermark = watermark;
        }
    }

    /// A fill is complete and safe on disk. Without an older version it is in service from now on.
    pub(super) fn sealed(&mut self, fill: Number, now: Instant) -> Sealed {
        let Some(place) = self.whose.get(&fill).cloned() else {
            return Sealed::Unknown;
        };
        let entry = self.places.get_mut(&place);
        let Some(filling) = entry.and_then(|entry| entry.fill.take_if(|filling| filling.version.is_some())) else {
            return Sealed::Unknown;
        };
        let Some(version) = filling.version else {
            return Sealed::Unknown;
        };
        self.fills -= 1;
        let mut standing = self.standing(fill, version, filling.room);
        standing.checked = Some(now);
        standing.touched = Some(now);
        (standing.seen, standing.confirmed) = (filling.seen, filling.seen);
        let entry = self.places.entry(place.clone()).or_default();
        let sealed = if entry.kept.is_none() {
            entry.kept = Some(standing);
            Sealed::Serves
        } else {
            let before = entry.waiting.replace(standing);
            Sealed::Waits(before.map(|before| self.leaves(before)))
        };
        self.check_invariants();
        sealed
    }

    /// The complete versions that may go into service now, all of a set or none.
    pub(super) fn ready(&self) -> Vec<Number> {
        let mut ready = Vec::new();
        for set in self.changing() {
            let places = || set.iter().filter_map(|place| self.places.get(*place));
            let Some(quiet) = self.quiet(&set) else { continue };
            let is_alone = !self.sets.has(set.first().copied());
            let is_over = |entry: &Entry| {
                let serves = entry.waiting.as_ref().or(entry.kept.as_ref());
                let is_sure = serves.is_none_or(|serves| serves.confirmed.is_some_and(|asked| asked >= quiet));
                entry.fill.is_none() && (is_alone || is_sure) && (entry.waiting.is_some() || !entry.is_old())
            };
            if places().all(is_over) {
                ready.extend(places().filter_map(|entry| Some(entry.waiting.as_ref()?.number)));
            }
        }
        ready
    }

    /// Whether this is complete and not in service.
    pub(super) fn is_waiting(&self, number: Number) -> bool {
        let entry = self.whose.get(&number).and_then(|place| self.places.get(place));
        entry.is_some_and(|entry| entry.waiting.as_ref().is_some_and(|waiting| waiting.number == number))
    }

    /// They go into service in this moment. The versions before stay for who has a script from before, if they are of a set; these go. `None`: one of
    /// them is gone meanwhile, and nothing changes.
    pub(super) fn change(&mut self, ready: &[Number], now: Instant) -> Option<Vec<Number>> {
        if !ready.iter().all(|number| self.is_waiting(*number)) {
            return None;
        }
        let mut gone = Vec::new();
        let places: Vec<Place> = ready
            .iter()
            .filter_map(|number| self.whose.get(number).cloned())
            .collect();
        let epoch = self.epoch.next();
        for place in places {
            let is_of_set = self.sets.has(Some(&place));
            let Some(entry) = self.places.get_mut(&place) else {
                continue;
            };
            let Some(mut standing) = entry.waiting.take_if(|waiting| ready.contains(&waiting.number)) else {
                continue;
            };
            standing.since = epoch;
            self.epoch = epoch;
            if let Some(before) = entry.kept.replace(standing) {
                match is_of_set {
                    true => entry.former.push(Former {
                        standing: before,
                        until: epoch,
                        left: now,
                    }),
                    false => gone.push(self.leaves(before)),
                }
            }
        }
        let most = self.sum().former.saturating_sub(MOST_FORMER);
        let oldest: Vec<Number> = self.formers().into_iter().take(most).collect();
        gone.extend(oldest.into_iter().filter_map(|number| self.broken(number)));
        self.check_invariants();
        Some(gone)
    }

    /// Versions that nobody can have a script of any more.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<Number> {
        let formers = self.places.values().flat_map(|entry| &entry.former);
        let is_over = |former: &&Former| now.saturating_duration_since(former.left) >= super::sets::SCRIPT_LASTS;
        let over: Vec<Number> = formers.filter(is_over).map(|former| former.standing.number).collect();
        over.into_iter().filter_map(|number| self.broken(number)).collect()
    }

    /// What is to be done so that sets in which something changed come to their change.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Due> {
        let mut due = Vec::new();
        let changing: Vec<(Vec<Place>, Option<Instant>)> = self
            .changing()
            .iter()
            .map(|set| (set.iter().map(|place| (*place).clone()).collect(), self.quiet(set)))
            .collect();
        for place in changing.iter().flat_map(|(set, _)| set) {
            due.extend(self.renew(place, now).map(|fill| Due::Fill(place.clone(), fill)));
        }
        let check_each = self.limits.check_each;
        for (place, quiet) in changing
            .iter()
            .flat_map(|(set, quiet)| set.iter().map(move |place| (place, *quiet)))
        {
            let Some(quiet) = quiet.filter(|quiet| *quiet <= now) else {
                continue;
            };
            let Some(entry) = self.places.get_mut(place) else {
                continue;
            };
            let confirmed = entry.waiting.as_ref().map(|waiting| waiting.confirmed);
            let Some(kept) = entry.kept.as_mut().filter(|_| entry.fill.is_none()) else {
                continue;
            };
            let is_sure = confirmed.unwrap_or(kept.confirmed).is_some_and(|asked| asked >= quiet);
            let is_due = kept
                .checked
                .is_none_or(|checked| checked < quiet || now.saturating_duration_since(checked) >= check_each);
            if !is_sure && is_due && !kept.is_checking {
                kept.is_checking = true;
                kept.asked = Some(now);
                due.push(Due::Check(kept.number));
            }
        }
        due
    }

    /// A fill ended badly. Its older version stays, but for one that its origin has had no more for long: that goes.
    pub(super) fn failed(&mut self, fill: Number, failure: Failure, now: Instant) -> Option<Number> {
        let place = self.whose.get(&fill)?.clone();
        if failure == Failure::Disk {
            self.no_fill_before = Some(now + AFTER_DISK_TROUBLE);
        }
        if failure == Failure::NoSuchKey {
            self.drop_fill(&place);
            return self.gone(&place, now);
        }
        self.not_renewed(&place, now);
        None
    }

    /// What came of asking the origin about a kept object. One that its origin has had no more for long goes.
    pub(super) fn checked(&mut self, object: Number, said: &Checked, now: Instant) -> Option<Number> {
        let place = self.whose.get(&object)?.clone();
        let entry = self.places.get_mut(&place)?;
        let kept = entry.kept.as_mut().filter(|kept| kept.number == object)?;
        kept.is_checking = false;
        kept.checked = Some(now);
        let asked = kept.asked.take();
        match said {
            Checked::Has(version) if version.is_same(&kept.version) => {
                kept.is_fresh(now);
                kept.confirmed = asked;
                return entry.waiting.take().map(|waiting| self.leaves(waiting));
            }
            Checked::Has(version) => {
                kept.is_old = true;
                kept.gone_since = None;
                let waiting = entry.waiting.as_mut();
                if let Some(waiting) = waiting.filter(|waiting| waiting.version.is_same(version)) {
                    waiting.confirmed = asked;
                    return None;
                }
                // There is a newer one still.
                return entry.waiting.take().map(|waiting| self.leaves(waiting));
            }
            Checked::Nothing => kept.is_stale(kept.stale.unwrap_or(Stale::Unasked), now),
            Checked::Gone => return self.gone(&place, now),
        }
        None
    }

    /// An object cannot be read, or is wanted no more: off the shelf with it, unless it is gone already.
    pub(super) fn broken(&mut self, object: Number) -> Option<Number> {
        let place = self.whose.get(&object)?.clone();
        self.take_off(&place, object)
    }

    /// Nobody reads this any more, which was taken off the shelf; its bytes are free.
    pub(super) fn released(&mut self, object: Number) {
        if let Some(room) = self.leaving.remove(&object) {
            self.used -= room;
        }
        self.check_invariants();
    }

    /// Keeps the object of a name, now or later, whatever else wants its room.
    pub(super) fn pin(&mut self, place: Place) -> Pinned {
        if self.pins.contains(&place) {
            return Pinned::Already;
        }
        if self.pins.len() >= MOST_PINS {
            return Pinned::TooMany;
        }
        self.pins.insert(place);
        Pinned::Now
    }

    /// Ends that. `false`: it was not pinned.
    pub(super) fn unpin(&mut self, place: &Place) -> bool {
        self.pins.remove(place)
    }

    /// The pinned names, in order.
    pub(super) fn pins(&self) -> impl Iterator<Item = &Place> {
        self.pins.iter()
    }

    /// Takes what is kept of a name off the shelf, all versions.
    pub(super) fn remove(&mut self, place: &Place) -> Vec<Number> {
        let numbers = self.places.get(place).map(Entry::numbers).unwrap_or_default();
        numbers
            .into_iter()
            .filter_map(|number| self.take_off(place, number))
            .collect()
    }

    /// All that there is, and what is pinned and not there; by name.
    pub(super) fn items(&self) -> Vec<Item> {
        let of = |place: &Place, stands| Item {
            place: place.clone(),
            stands,
            is_pinned: self.pins.contains(place),
        };
        let mut items = Vec::new();
        for (place, entry) in &self.places {
            items.extend(entry.kept.as_ref().map(|kept| {
                let (object, stale, hits) = (kept.number, kept.stale, kept.hits);
                let is_waiting = entry.waiting.is_some();
                of(
                    place,
                    Stands::Kept {
                        object,
                        stale,
                        is_waiting,
                        hits,
                    },
                )
            }));
            items.extend(entry.fill.as_ref().map(|fill| {
                let (have, len) = (fill.watermark, fill.version.as_ref().map(|version| version.len));
                of(place, Stands::Filling { have, len })
            }));
        }
        let absent = self.pins.iter().filter(|place| !self.places.contains_key(place));
        items.extend(absent.map(|place| of(place, Stands::Absent)));
        items.sort_by(|one, other| one.place.cmp(&other.place));
        items
    }

    /// What there is.
    pub(super) fn sum(&self) -> Sum {
        let kept = || self.places.values().filter_map(|entry| entry.kept.as_ref());
        Sum {
            objects: kept().count(),
            bytes: kept().map(|kept| kept.version.len).sum(),
            fills: self.fills,
            stale: kept().filter(|kept| kept.stale.is_some()).count(),
            waiting: self.places.values().filter(|entry| entry.waiting.is_some()).count(),
            former: self.places.values().map(|entry| entry.former.len()).sum(),
        }
    }

    /// What may be old, by bucket and reason.
    pub(super) fn doubts(&self, now: Instant) -> Vec<Doubt> {
        let mut doubts: BTreeMap<(&str, Stale), Doubt> = BTreeMap::new();
        for (place, entry) in &self.places {
            let Some(kept) = &entry.kept else { continue };
            let (Some(stale), Some(since)) = (kept.stale, kept.stale_since) else {
                continue;
            };
            let doubt = doubts.entry((&place.bucket, stale)).or_insert_with(|| Doubt {
                bucket: place.bucket.clone(),
                stale,
                objects: 0,
                lasts: Duration::ZERO,
            });
            doubt.objects += 1;
            doubt.lasts = doubt.lasts.max(now.saturating_duration_since(since));
        }
        doubts.into_values().collect()
    }

    fn begin(&mut self, place: &Place, now: Instant) -> Verdict {
        match self.begun(place, now) {
            Ok(fill) => Verdict::Await { fill, begins: true },
            Err(why) => Verdict::Through(why),
        }
    }

    /// A fill of the newer version of what is kept, if it is to begin.
    fn renew(&mut self, place: &Place, now: Instant) -> Option<Number> {
        let entry = self.places.get(place)?;
        let is_to = entry.is_old() && entry.waiting.is_none() && entry.fill.is_none();
        is_to.then(|| self.begun(place, now).ok()).flatten()
    }

    fn begun(&mut self, place: &Place, now: Instant) -> Result<Number, Why> {
        if self.no_fill_before.is_some_and(|then| now < then) {
            return Err(Why::Disk);
        }
        if self.fills >= MOST_FILLS {
            return Err(Why::Busy);
        }
        let number = self.number();
        self.fills += 1;
        self.whose.insert(number, place.clone());
        self.places.entry(place.clone()).or_default().fill = Some(Filling {
            number,
            version: None,
            room: 0,
            watermark: 0,
            seen: None,
        });
        self.check_invariants();
        Ok(number)
    }

    /// The kept object of a place that has one.
    fn serve(&mut self, place: &Place, now: Instant) -> Verdict {
        self.uses += 1;
        let (uses, check_each) = (self.uses, self.limits.check_each);
        let Some(kept) = self.kept_mut(place) else {
            return Verdict::Through(Why::OtherVersion);
        };
        kept.last_use = uses;
        kept.hits += 1;
        let is_due = |last: Option<Instant>, after: Duration| {
            last.is_none_or(|last| now.saturating_duration_since(last) >= after)
        };
        let check = !kept.is_checking && is_due(kept.checked, check_each);
        if check {
            kept.is_checking = true;
            kept.asked = Some(now);
        }
        let touch = is_due(kept.touched, BETWEEN_TOUCHES);
        if touch {
            kept.touched = Some(now);
        }
        let (object, stale) = (kept.number, kept.stale);
        Verdict::Kept(Kept {
            object,
            stale,
            check,
            touch,
            renew: self.renew(place, now),
        })
    }

    /// Somebody knows another version: the next reader finds out whether the origin does.
    fn check_soon(&mut self, place: &Place) {
        if let Some(kept) = self.kept_mut(place) {
            kept.checked = None;
        }
    }

    /// The origin says that it has no such object. It may be somebody's slip, so what is kept stays for some time.
    fn gone(&mut self, place: &Place, now: Instant) -> Option<Number> {
        let kept = self.kept_mut(place)?;
        let since = *kept.gone_since.get_or_insert(now);
        kept.is_stale(Stale::Gone, now);
        kept.is_old = false;
        let object = kept.number;
        match now.saturating_duration_since(since) >= GRACE {
            true => self.take_off(place, object),
            false => None,
        }
    }

    /// The longest unused objects that make room for so many bytes more, taken off, former versions before all others; `None` when all of them are
    /// not enough.
    fn make_room(
        &mut self,
        room: u64,
        free: u64,
        for_whom: Option<&Place>,
        is_read: &dyn Fn(Number) -> bool,
    ) -> Option<Vec<Number>> {
        // Without one to make room for, what the file system has free is no matter.
        let floor = for_whom.map_or(0, |_| self.limits.floor.saturating_add(room));
        let sum = self.sum();
        let mut objects = sum.objects + sum.waiting + sum.former + self.fills;
        let (mut used, mut free) = (self.used, free);
        let mut chosen = Vec::new();
        // Of a set that changes the old files serve until all new ones are here.
        let changing: BTreeSet<&Place> = self
            .changing()
            .into_iter()
            .flatten()
            .filter(|place| self.sets.has(Some(place)))
            .collect();
        let kept = self
            .places
            .iter()
            .filter_map(|(place, entry)| Some((place, entry.kept.as_ref()?)));
        let mut rest: Vec<&Standing> = kept
            .clone()
            // The version before stays until the new one is there.
            .filter(|(place, _)| Some(*place) != for_whom && !self.pins.contains(*place) && !changing.contains(*place))
            .map(|(_, kept)| kept)
            .filter(|kept| !is_read(kept.number))
            .collect();
        rest.sort_by_key(|kept| std::cmp::Reverse(kept.last_use));
        // But where both do not fit, and nothing depends on it, that goes last.
        let own = kept.filter(|(place, _)| Some(*place) == for_whom && !self.sets.has(Some(place)));
        rest.splice(0..0, own.map(|(_, kept)| kept).filter(|kept| !is_read(kept.number)));
        let formers = self.formers();
        let formers = formers.iter().rev().filter(|number| !is_read(**number));
        rest.extend(formers.filter_map(|number| self.former(*number)));
        while used.saturating_add(room) > self.limits.budget || free < floor || objects > self.limits.objects {
            let goes = rest.pop()?;
            used -= goes.room;
            free = free.saturating_add(goes.room);
            objects -= 1;
            chosen.push(goes.number);
        }
        let evicted: Vec<Number> = chosen.into_iter().filter_map(|number| self.broken(number)).collect();
        // Nobody reads them.
        for number in &evicted {
            self.released(*number);
        }
        Some(evicted)
    }

    /// Takes one version of what is there of a place off the shelf.
    fn take_off(&mut self, place: &Place, only: Number) -> Option<Number> {
        let entry = self.places.get_mut(place)?;
        let is_it = |standing: &mut Standing| standing.number == only;
        let mut standing = entry.kept.take_if(is_it).or_else(|| entry.waiting.take_if(is_it));
        if standing.is_none()
            && let Some(at) = entry.former.iter().position(|former| former.standing.number == only)
        {
            standing = Some(entry.former.remove(at).standing);
        }
        // Without an older one it cannot wait any longer; it is none that earlier scripts have named.
        if entry.kept.is_none()
            && let Some(mut waiting) = entry.waiting.take()
        {
            self.epoch = self.epoch.next();
            waiting.since = self.epoch;
            entry.kept = Some(waiting);
        }
        if entry.is_empty() {
            self.places.remove(place);
        }
        standing.map(|standing| self.leaves(standing))
    }

    /// It is on no place any more.
    fn leaves(&mut self, standing: Standing) -> Number {
        self.whose.remove(&standing.number);
        self.leaving.insert(standing.number, standing.room);
        standing.number
    }

    /// The numbers of former versions, the oldest first.
    fn formers(&self) -> Vec<Number> {
        let formers = self.places.values().flat_map(|entry| &entry.former);
        let mut formers: Vec<(Epoch, Number)> = formers.map(|former| (former.until, former.standing.number)).collect();
        formers.sort_unstable();
        formers.into_iter().map(|(_, number)| number).collect()
    }

    fn former(&self, number: Number) -> Option<&Standing> {
        let formers = &self.places.get(self.whose.get(&number)?)?.former;
        let former = formers.iter().find(|former| former.standing.number == number)?;
        Some(&former.standing)
    }

    /// Places that change together, and in which something has changed.
    fn changing(&self) -> Vec<Vec<&Place>> {
        if !self.sets.are_known() {
            return Vec::new();
        }
        let mut sets: BTreeMap<&Place, Vec<&Place>> = BTreeMap::new();
        for (place, entry) in &self.places {
            if entry.is_old() || entry.waiting.is_some() {
                let set = self.sets.of_place(place);
                sets.entry(set.first().copied().unwrap_or(place)).or_insert(set);
            }
        }
        sets.into_values().collect()
    }

    /// Since when nothing may have changed at the origins of a set so that it is taken as it is now; `None`: nothing of it is complete.
    fn quiet(&self, set: &[&Place]) -> Option<Instant> {
        let waiting = |place: &&Place| self.places.get(*place)?.waiting.as_ref()?.seen;
        let last = set.iter().filter_map(waiting).max()?;
        Some(last + self.limits.settles)
    }

    /// A fill came to nothing: what is kept stays, and the next check finds out whether it still is old.
    fn not_renewed(&mut self, place: &Place, now: Instant) {
        self.drop_fill(place);
        if let Some(kept) = self.kept_mut(place) {
            kept.checked = Some(now);
            kept.is_old = false;
            kept.is_stale(Stale::Unfetched, now);
        }
    }

    fn drop_fill(&mut self, place: &Place) {
        let Some(entry) = self.places.get_mut(place) else {
            return;
        };
        let Some(filling) = entry.fill.take() else { return };
        if entry.is_empty() {
            self.places.remove(place);
        }
        self.whose.remove(&filling.number);
        self.used -= filling.room;
        self.fills -= 1;
        self.check_invariants();
    }

    fn kept_mut(&mut self, place: &Place) -> Option<&mut Standing> {
        self.places.get_mut(place)?.kept.as_mut()
    }

    fn standing(&mut self, number: Number, version: Version, room: u64) -> Standing {
        self.uses += 1;
        Standing {
            number,
            version,
            room,
            since: Epoch::default(),
            seen: None,
            confirmed: None,
            asked: None,
            last_use: self.uses,
            hits: 0,
            touched: None,
            checked: None,
            is_checking: false,
            is_old: false,
            stale: None,
            stale_since: None,
            gone_since: None,
        }
    }

    fn number(&mut self) -> Number {
        self.last += 1;
        Number(self.last)
    }

    fn check_invariants(&self) {
        if cfg!(debug_assertions) {
            let standing = |entry: &Entry| entry.standing().map(|standing| standing.room).sum::<u64>();
            let kept: u64 = self.places.values().map(standing).sum();
            let filled: u64 = self
                .places
                .values()
                .filter_map(|entry| entry.fill.as_ref())
                .map(|fill| fill.room)
                .sum();
            let leaving: u64 = self.leaving.values().sum();
            debug_assert_eq!(self.used, kept + filled + leaving);
            let fills = self.places.values().filter(|entry| entry.fill.is_some()).count();
            debug_assert_eq!(self.fills, fills);
            let sum = self.sum();
            debug_assert_eq!(self.whose.len(), sum.objects + sum.waiting + sum.former + fills);
            debug_assert!(self.places.values().all(|entry| !entry.is_empty()));
            debug_assert!(
                self.places
                    .values()
                    .all(|entry| entry.waiting.is_none() || entry.kept.is_some())
            );
        }
    }
}

impl Kept {
    /// A version that is not the one in service: nothing is to be asked or noted about it.
    fn beside(object: Number) -> Self {
        Self {
            object,
            stale: None,
            check: false,
            touch: false,
            renew: None,
        }
    }
}

impl Entry {
    /// The version for a reader that wants this tag, or whose script is as of then.
    fn pick(&self, wanted: Option<&str>, as_of: Option<Epoch>) -> Pick {
        let former = || self.former.iter().rev();
        if wanted.is_some() {
            return match &self.kept {
                Some(kept) if kept.version.meets(wanted) => Pick::Kept,
                _ => former()
                    .map(|former| &former.standing)
                    .find(|former| former.version.meets(wanted))
                    .map_or(Pick::None, |former| Pick::Other(former.number)),
            };
        }
        let is_of = |as_of: Epoch| self.kept.as_ref().is_some_and(|kept| kept.since <= as_of);
        let then = as_of
            .filter(|as_of| !is_of(*as_of))
            .map(|as_of| former().find(|former| former.standing.since <= as_of && as_of < former.until));
        match (&self.kept, then) {
            (_, Some(Some(former))) => Pick::Other(former.standing.number),
            (Some(_), Some(None)) => Pick::Replaced,
            (Some(_), None) => Pick::Kept,
            (None, _) => Pick::None,
        }
    }

    /// The origin has another version than the one in service.
    fn is_old(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.is_old)
    }

    fn standing(&self) -> impl Iterator<Item = &Standing> {
        let former = self.former.iter().map(|former| &former.standing);
        self.kept.iter().chain(&self.waiting).chain(former)
    }

    fn numbers(&self) -> Vec<Number> {
        self.standing().map(|standing| standing.number).collect()
    }

    fn is_empty(&self) -> bool {
        self.fill.is_none() && self.standing().next().is_none()
    }
}

impl Standing {
    /// The origin has this very version.
    fn is_fresh(&mut self, now: Instant) {
        self.checked = Some(now);
        self.is_old = false;
        self.stale = None;
        self.stale_since = None;
        self.gone_since = None;
    }

    fn is_stale(&mut self, stale: Stale, now: Instant) {
        self.stale = Some(stale);
        self.stale_since.get_or_insert(now);
    }
}

impl Version {
    /// Whether two objects of this name and version have the same bytes: a strong tag says so, or without any tag the date.
    pub(super) fn is_exact(&self) -> bool {
        match &self.etag {
            Some(etag) => !etag.starts_with("W/"),
            None => self.modified.is_some(),
        }
    }

    /// Whether it is this one.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same = match (&self.etag, &other.etag) {
            (Some(one), Some(other)) => one == other,
            (None, None) => self.modified == other.modified,
            _ => false,
        };
        same && self.len == other.len && self.is_exact()
    }

    fn meets(&self, wanted: Option<&str>) -> bool {
        wanted.is_none_or(|wanted| self.etag.as_deref() == Some(wanted))
    }
}

/// Where a reader begins, unless it wants nothing that there is.
fn start(want: &Want, len: u64) -> Option<u64> {
    match want.range.of_length(len) {
        _ if want.head => None,
        Slice::Whole => Some(0),
        Slice::Part(part) => Some(part.start),
        Slice::Unsatisfiable => None,
    }
}

/// What an object takes on disk, its record included.
fn room_of(len: u64) -> u64 {
    len.div_ceil(PAGE).saturating_mul(PAGE).saturating_add(PAGE)
}

/// A block of most file systems.
const PAGE: u64 = 4096;
/// A reader that starts further than this beyond what was fetched would wait too long.
pub(super) const AHEAD: u64 = 64 << 20;
/// Versions that are not in service any more and stay for who has an older script, at most.
pub(super) const MOST_FORMER: usize = 64;
/// Pinned names at most.
pub(super) const MOST_PINS: usize = 4096;
/// Fills at once: a rack has some images, and whoever asks for many names must not open a connection for each.
const MOST_FILLS: usize = 32;
/// [`Limits::check_each`] as it is: seldom for the origin, and soon enough for who put a new image there.
pub(super) const BETWEEN_CHECKS: Duration = Duration::from_secs(30);
/// Between two notes on disk that an object is in use.
const BETWEEN_TOUCHES: Duration = Duration::from_secs(60);
/// How long an object stays of which the origin says that it is gone.
const GRACE: Duration = Duration::from_secs(300);
/// How long no fill begins after the disk failed.
const AFTER_DISK_TROUBLE: Duration = Duration::from_secs(10);

#[cfg(test)]
#[path = "shelf_tests.rs"]
mod tests;
