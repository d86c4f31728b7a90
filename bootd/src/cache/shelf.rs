//! What the cache decides: who is served from disk, who follows a fill, who starts one, who is passed through, what makes room.
//!
//! No I/O, no clock, no lock: times and free bytes are passed in, files are numbers; the shell (`keep`) moves the bytes. Promises: at most
//! one fill of an object at a time; what is kept, being filled, or gone but still read, never takes more than the budget when something new
//! comes in; what is being read makes no room for anything else; a fill that ends badly is [`Step::Broken`] for its readers, never an end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::time::{Duration, Instant};

use super::Want;
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
        /// An older version is here: there is no need to wait long.
        has_older: bool,
    },
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
}

/// What is there of the shelf, for humans and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) objects: usize,
    pub(super) bytes: u64,
    pub(super) fills: usize,
    pub(super) stale: usize,
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
}

#[derive(Debug)]
struct Standing {
    number: Number,
    version: Version,
    room: u64,
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
}

impl Shelf {
    /// Empty.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            places: HashMap::new(),
            pins: BTreeSet::new(),
            whose: HashMap::new(),
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
        let before = self.take_off(&place, None);
        self.used += room;
        let standing = self.standing(number, version, room);
        self.whose.insert(number, place.clone());
        self.places.entry(place).or_default().kept = Some(standing);
        self.check_invariants();
        (number, before)
    }

    /// The longest unused that go so that the rest is within the limits, as after a start with smaller ones.
    pub(super) fn trim(&mut self) -> Vec<Number> {
        self.make_room(0, 0, None, &|_| false).unwrap_or_default()
    }

    /// What a reader gets.
    pub(super) fn ask(&mut self, place: &Place, want: &Want, now: Instant) -> Verdict {
        let has_older = self.places.get(place).is_some_and(|entry| entry.kept.is_some());
        let Some(entry) = self.places.get(place) else {
            return match want.head {
                true => Verdict::Through(Why::Head),
                false => self.begin(place, has_older, now),
            };
        };
        let wanted = want.if_match.as_deref();
        match (&entry.fill, &entry.kept) {
            (Some(fill), kept) => match &fill.version {
                Some(version) if version.meets(wanted) => match start(want, version.len) {
                    Some(start) if start > fill.watermark.saturating_add(AHEAD) => Verdict::Through(Why::Ahead),
                    _ => Verdict::Follow(fill.number),
                },
                _ if wanted.is_some() && kept.as_ref().is_some_and(|kept| kept.version.meets(wanted)) => {
                    self.serve(place, now)
                }
                Some(_) => Verdict::Through(Why::OtherVersion),
                None if want.head && !has_older => Verdict::Through(Why::Head),
                None => Verdict::Await {
                    fill: fill.number,
                    begins: false,
                    has_older,
                },
            },
            (None, Some(kept)) if !kept.version.meets(wanted) => {
                self.check_soon(place);
                Verdict::Through(Why::OtherVersion)
            }
            (None, Some(kept)) if kept.is_old && wanted.is_none() => match self.begin(place, true, now) {
                Verdict::Through(_) => self.serve(place, now),
                begun => begun,
            },
            (None, Some(_)) => self.serve(place, now),
            (None, None) if want.head => Verdict::Through(Why::Head),
            (None, None) => self.begin(place, false, now),
        }
    }

    /// What is kept of it, whatever else there may be: for who cannot wait longer, or waited in vain.
    pub(super) fn ask_kept(&mut self, place: &Place, want: &Want, now: Instant) -> Option<Kept> {
        let kept = self.places.get(place)?.kept.as_ref()?;
        if !kept.version.meets(want.if_match.as_deref()) {
            return None;
        }
        let is_old = kept.is_old;
        match self.serve(place, now) {
            Verdict::Kept(kept) if is_old => Some(Kept {
                stale: kept.stale.or(Some(Stale::Unfetched)),
                ..kept
            }),
            Verdict::Kept(kept) => Some(kept),
            _ => None,
        }
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
            self.drop_fill(&place);
            return Room::None(Why::Inexact);
        }
        let room = room_of(version.len);
        let Some(evicted) = self.make_room(room, free, Some(&place), is_read) else {
            self.drop_fill(&place);
            return Room::None(Why::NoRoom);
        };
        self.used += room;
        if let Some(filling) = self.places.get_mut(&place).and_then(|entry| entry.fill.as_mut()) {
            filling.version = Some(version);
            filling.room = room;
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

    /// A fill is complete and safe on disk: it is what is kept from now on. The version that it replaces goes.
    pub(super) fn sealed(&mut self, fill: Number, now: Instant) -> Option<Number> {
        let place = self.whose.get(&fill)?.clone();
        let filling = self.places.get_mut(&place)?.fill.take()?;
        self.fills -= 1;
        let version = filling.version?;
        let before = self.take_off(&place, None);
        let mut standing = self.standing(fill, version, filling.room);
        standing.checked = Some(now);
        standing.touched = Some(now);
        self.whose.insert(fill, place.clone());
        self.places.entry(place).or_default().kept = Some(standing);
        self.check_invariants();
        before
    }

    /// A fill ended badly. Its older version stays, but for one that its origin has had no more for long: that goes.
    pub(super) fn failed(&mut self, fill: Number, failure: Failure, now: Instant) -> Option<Number> {
        let place = self.whose.get(&fill)?.clone();
        self.drop_fill(&place);
        if failure == Failure::Disk {
            self.no_fill_before = Some(now + AFTER_DISK_TROUBLE);
        }
        let kept = self.kept_mut(&place)?;
        kept.checked = Some(now);
        // The next check finds out whether it still is.
        kept.is_old = false;
        if failure == Failure::NoSuchKey {
            return self.gone(&place, now);
        }
        kept.is_stale(Stale::Unfetched, now);
        None
    }

    /// What came of asking the origin about a kept object. One that its origin has had no more for long goes.
    pub(super) fn checked(&mut self, object: Number, said: &Checked, now: Instant) -> Option<Number> {
        let place = self.whose.get(&object)?.clone();
        let kept = self.kept_mut(&place).filter(|kept| kept.number == object)?;
        kept.is_checking = false;
        kept.checked = Some(now);
        match said {
            Checked::Has(version) if version.is_same(&kept.version) => kept.is_fresh(now),
            Checked::Has(_) => {
                kept.is_old = true;
                kept.gone_since = None;
            }
            Checked::Nothing => kept.is_stale(kept.stale.unwrap_or(Stale::Unasked), now),
            Checked::Gone => return self.gone(&place, now),
        }
        None
    }

    /// A kept object cannot be read: off the shelf with it, unless it is gone already.
    pub(super) fn broken(&mut self, object: Number) -> Option<Number> {
        let place = self.whose.get(&object)?.clone();
        self.take_off(&place, Some(object))
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

    /// Takes what is kept of a name off the shelf.
    pub(super) fn remove(&mut self, place: &Place) -> Option<Number> {
        self.take_off(place, None)
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
                of(place, Stands::Kept { object, stale, hits })
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

    fn begin(&mut self, place: &Place, has_older: bool, now: Instant) -> Verdict {
        if self.no_fill_before.is_some_and(|then| now < then) {
            return Verdict::Through(Why::Disk);
        }
        if self.fills >= MOST_FILLS {
            return Verdict::Through(Why::Busy);
        }
        let number = self.number();
        self.fills += 1;
        self.whose.insert(number, place.clone());
        self.places.entry(place.clone()).or_default().fill = Some(Filling {
            number,
            version: None,
            room: 0,
            watermark: 0,
        });
        self.check_invariants();
        Verdict::Await {
            fill: number,
            begins: true,
            has_older,
        }
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
        kept.is_checking |= check;
        let touch = is_due(kept.touched, BETWEEN_TOUCHES);
        if touch {
            kept.touched = Some(now);
        }
        Verdict::Kept(Kept {
            object: kept.number,
            stale: kept.stale,
            check,
            touch,
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
        match now.saturating_duration_since(since) >= GRACE {
            true => self.take_off(place, None),
            false => None,
        }
    }

    /// The longest unused objects that make room for so many bytes more, taken off; `None` when all of them are not enough.
    fn make_room(
        &mut self,
        room: u64,
        free: u64,
        for_whom: Option<&Place>,
        is_read: &dyn Fn(Number) -> bool,
    ) -> Option<Vec<Number>> {
        // Without one to make room for, what the file system has free is no matter.
        let floor = for_whom.map_or(0, |_| self.limits.floor.saturating_add(room));
        let mut objects = self.sum().objects + self.fills;
        let (mut used, mut free) = (self.used, free);
        let mut chosen = Vec::new();
        let mut rest: Vec<(&Place, &Standing)> = self
            .places
            .iter()
            // The version before stays until the new one is there.
            .filter(|(place, _)| Some(*place) != for_whom && !self.pins.contains(*place))
            .filter_map(|(place, entry)| Some((place, entry.kept.as_ref()?)))
            .filter(|(_, kept)| !is_read(kept.number))
            .collect();
        rest.sort_by_key(|(_, kept)| std::cmp::Reverse(kept.last_use));
        while used.saturating_add(room) > self.limits.budget || free < floor || objects > self.limits.objects {
            let (place, kept) = rest.pop()?;
            used -= kept.room;
            free = free.saturating_add(kept.room);
            objects -= 1;
            chosen.push(place.clone());
        }
        let evicted: Vec<Number> = chosen.iter().filter_map(|place| self.take_off(place, None)).collect();
        // Nobody reads them.
        for number in &evicted {
            self.released(*number);
        }
        Some(evicted)
    }

    /// Takes what is kept of a place off the shelf, if it is this.
    fn take_off(&mut self, place: &Place, only: Option<Number>) -> Option<Number> {
        let entry = self.places.get_mut(place)?;
        let kept = entry.kept.take_if(|kept| only.is_none_or(|only| kept.number == only))?;
        if entry.fill.is_none() {
            self.places.remove(place);
        }
        self.whose.remove(&kept.number);
        self.leaving.insert(kept.number, kept.room);
        Some(kept.number)
    }

    fn drop_fill(&mut self, place: &Place) {
        let Some(entry) = self.places.get_mut(place) else {
            return;
        };
        let Some(filling) = entry.fill.take() else { return };
        if entry.kept.is_none() {
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
            let kept: u64 = self
                .places
                .values()
                .filter_map(|entry| entry.kept.as_ref())
                .map(|kept| kept.room)
                .sum();
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
            debug_assert_eq!(self.whose.len(), self.sum().objects + fills);
            debug_assert!(
                self.places
                    .values()
                    .all(|entry| entry.kept.is_some() || entry.fill.is_some())
            );
        }
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
