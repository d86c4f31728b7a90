//! The cache in front of an origin: asks the [`Shelf`] what a reader gets, and sees that it gets it.
//!
//! Owns the object files, the fills, and the questions to origins about what is kept. Promises: many readers of one object cost its origin one
//! fetch, which no reader can end; what is kept is served whatever its origin does, and until a newer version is complete; files that belong
//! together change in one moment, on disk as in memory (`sets`); a lock is held for arithmetic only; disk work runs on blocking threads, so many at
//! once.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use rustix::io::ReadWriteFlags;
use tokio::sync::{Semaphore, watch};

use super::disk::{CacheError, Disk, Doubt, Id, Record};
use super::fill::{self, Open, Told};
use super::map::Mapped;
use super::origin::Origin;
use super::proof::Proof;
use super::rate::Lowest;
use super::read::{Reader, counted};
use super::sets::{Epoch, MOST_SCRIPTS, SCRIPT_LASTS, SETTLES, Sets};
use super::shelf::{
    BETWEEN_CHECKS, Checked, Due, Failure, Item, Kept, Limits, MOST_PINS, Number, Pinned, Place, Room, Sealed, Shelf,
    Stands, Verdict, Version, Why,
};
use super::view::{Amounts, Cached, CachedState, PinError};
use super::{OPEN_TIMEOUT, Object, ObjectBody, OpenError, Want};
use crate::config::Config;
use crate::http::range::Slice;
use crate::metrics::Metrics;

/// The cache.
pub(super) struct Keep(Arc<Shared>);

/// What readers, fills and checks share.
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) disk: Disk,
    /// Reads from disk at once; those from memory need none.
    reads: Semaphore,
    /// Objects that are compared at once behind an unclean end, each with a block in memory.
    pub(super) proofs: Semaphore,
    /// What origins said moments ago that they do not have.
    missing: moka::sync::Cache<Place, ()>,
    /// As of which change the script of a client is.
    scripts: moka::sync::Cache<IpAddr, Epoch>,
    /// The names of complete versions that are not in service, as they are on disk: the next start removes these. Locked before the state, and
    /// by blocking threads only.
    waiting: Mutex<Vec<(Number, Id)>>,
    pub(super) counts: Counts,
    /// The lowest rate of a fetch.
    pub(super) lowest: Lowest,
    budget: AtomicU64,
}

struct State {
    shelf: Shelf,
    fills: HashMap<Number, watch::Receiver<Told>>,
    objects: HashMap<Number, Arc<Stored>>,
    /// Off the shelf, and maybe still read.
    leaving: Vec<(Number, Weak<Stored>)>,
}

/// The file of an object, complete or being filled.
pub(super) struct Stored {
    pub(super) number: Number,
    pub(super) file: Arc<File>,
    /// Without the checksums.
    pub(super) record: Record,
    /// Once it is sealed.
    pub(super) id: OnceLock<Id>,
    /// Hexadecimal, once it is sealed.
    pub(super) sha256: OnceLock<String>,
    /// Once somebody reads it so; `None`: it cannot be mapped.
    pub(super) map: OnceLock<Option<Mapped>>,
    pub(super) proof: Proof,
}

/// What is counted.
pub(super) struct Counts {
    metrics: Arc<Metrics>,
    hit: Counter,
    /// Bytes that came from disk.
    pub(super) disk: Counter,
    /// Bytes that fills fetched.
    pub(super) filled: Counter,
    /// Bytes that were passed through.
    pub(super) passed: Counter,
    /// When the disk failed last, and how.
    failed: Mutex<Option<(Instant, String)>>,
}

impl Keep {
    /// Opens the folder, and serves from now on what was kept there.
    pub(super) fn open(config: &Config, metrics: Arc<Metrics>) -> Result<Self, CacheError> {
        Self::checking(config, metrics, BETWEEN_CHECKS, SETTLES)
    }

    /// The same with another time between two questions to the origin about one object, and another one before a set changes.
    pub(super) fn checking(
        config: &Config,
        metrics: Arc<Metrics>,
        check_each: Duration,
        settles: Duration,
    ) -> Result<Self, CacheError> {
        let failed = |why| CacheError::Folder {
            folder: config.cache_dir.clone(),
            why,
        };
        let disk = Disk::open(&config.cache_dir)?;
        let mut scan = disk.scan().map_err(failed)?;
        // What another origin had under that name is another object.
        scan.objects.retain(|found| {
            let origin = config.origin_of(&found.record.bucket, &found.record.key);
            let is_other = origin.is_some_and(|origin| origin.source.to_string() != found.record.origin);
            if is_other {
                disk.remove(&found.id);
                scan.removed += 1;
            }
            !is_other
        });
        let (free, total) = disk.space().map_err(failed)?;
        let kept: u64 = scan.objects.iter().map(|found| found.record.len).sum();
        let limits = Limits {
            budget: config
                .cache
                .size
                .unwrap_or((free.saturating_add(kept) / 100).saturating_mul(SHARE)),
            floor: (total / 100).saturating_mul(FLOOR).min(LARGEST_FLOOR),
            objects: most_objects(),
            check_each,
            settles,
        };
        let mut shelf = Shelf::new(limits);
        if !config.cache.warm {
            shelf.sets = Sets::none();
        }
        for place in disk.pins().iter().filter_map(|name| Place::of(name)) {
            shelf.pin(place);
        }
        let mut objects = HashMap::new();
        for found in scan.objects {
            let (number, _) = shelf.found(found.record.place(), found.record.version());
            let sha256 = found.record.sha256.clone();
            let stored = Stored {
                number,
                file: Arc::new(found.file),
                sha256: sha256.map(OnceLock::from).unwrap_or_default(),
                map: OnceLock::new(),
                record: found.record.clone().without_blocks(),
                id: found.id.into(),
                proof: match disk.ended_well() {
                    true => Proof::default(),
                    false => Proof::needed(found.record),
                },
            };
            objects.insert(number, Arc::new(stored));
        }
        for number in shelf.trim() {
            if let Some(id) = objects.remove(&number).as_ref().and_then(|stored| stored.id.get()) {
                disk.remove(id);
            }
        }
        let (budget, removed, foreign) = (limits.budget, scan.removed, scan.foreign);
        tracing::info!(
            objects = objects.len(),
            bytes = kept,
            budget,
            removed,
            foreign,
            ended_well = disk.ended_well(),
            "cache opened"
        );
        let counts = Counts::new(metrics);
        counts.add("found_damaged", removed);
        counts.add("found_foreign", foreign);
        let shared = Shared {
            state: Mutex::new(State {
                shelf,
                fills: HashMap::new(),
                objects,
                leaving: Vec::new(),
            }),
            disk,
            reads: Semaphore::new(READS),
            proofs: Semaphore::new(PROOFS),
            missing: moka::sync::Cache::builder()
                .max_capacity(MOST_MISSING)
                .time_to_live(MISSING_FOR)
                .build(),
            scripts: moka::sync::Cache::builder()
                .max_capacity(MOST_SCRIPTS)
                .time_to_live(SCRIPT_LASTS)
                .build(),
            waiting: Mutex::default(),
            counts,
            lowest: Lowest::OF_ORIGINS,
            budget: budget.into(),
        };
        Ok(Self(Arc::new(shared)))
    }

    /// Another handle.
    pub(super) fn of(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// Goes by another configuration: what another origin had under its name goes, and what is over the bound goes with the next object that
    /// comes.
    pub(super) fn go_by(&self, config: &Config) {
        let others: Vec<Place> = {
            let state = self.0.state();
            let records = state.objects.values().map(|stored| &stored.record);
            let is_other = |record: &&Record| {
                let origin = config.origin_of(&record.bucket, &record.key);
                origin.is_some_and(|origin| origin.source.to_string() != record.origin)
            };
            records.filter(is_other).map(Record::place).collect()
        };
        for place in &others {
            self.remove(place);
        }
        let size = config.cache.size.or_else(|| {
            let (free, _) = self.0.disk.space().ok()?;
            let kept = self.0.state().shelf.sum().bytes;
            Some((free.saturating_add(kept) / 100).saturating_mul(SHARE))
        });
        let Some(size) = size else { return };
        let mut state = self.0.state();
        state.shelf.bound(size);
        self.0.budget.store(size, Ordering::Relaxed);
    }

    /// Says to the next start that this was no crash. Blocks shortly.
    pub(super) fn end(&self) {
        if let Err(error) = self.0.disk.end() {
            tracing::warn!(%error, "the cache looks as after a crash: the next start compares all that is kept");
        }
    }

    /// Leaves the folder to another process. Blocks shortly.
    pub(super) fn release(&self) -> io::Result<()> {
        self.0.disk.release()
    }

    /// No other process took it. Blocks shortly.
    pub(super) fn resume(&self) -> io::Result<()> {
        self.0.disk.resume()
    }

    /// Opens the object of a checked key. Dropping this, or the object, ends no fill.
    pub(super) async fn object(&self, origin: &Arc<Origin>, place: Place, want: Want) -> Result<Object, OpenError> {
        if self.0.missing.contains_key(&place) {
            self.0.counts.request("missing");
            return Err(OpenError::NoSuchKey);
        }
        let opened = self.found(origin, &place, want).await;
        // Of what is kept the shelf knows better what to make of that.
        if matches!(opened, Err(OpenError::NoSuchKey)) {
            self.0.missing.insert(place, ());
        }
        opened
    }

    async fn found(&self, origin: &Arc<Origin>, place: &Place, want: Want) -> Result<Object, OpenError> {
        for _ in 0..ATTEMPTS {
            match self.find(origin, place, &want) {
                Way::Kept(stored, kept) => return self.kept(origin, &stored, kept, &want),
                Way::Through(why) => {
                    self.0.counts.request(why.label());
                    return self.through(origin, place, &want).await;
                }
                Way::Follow(open) => return self.follow(origin, &open, &want),
                Way::Replaced => {
                    self.0.counts.request("replaced");
                    return Err(OpenError::Replaced);
                }
                Way::Await(told) => match outcome(told).await {
                    // It is known now which version it is.
                    Told::Open(_) | Told::Same | Told::Asking => {}
                    Told::Through(why, whole) => {
                        self.0.counts.request(why.label());
                        let whole = whole.lock().unwrap_or_else(PoisonError::into_inner).take();
                        return match whole.filter(|object| is_what(&want, object)) {
                            Some(object) => Ok(counted(object, &self.0.counts.passed)),
                            None => self.through(origin, place, &want).await,
                        };
                    }
                    Told::Failed(error) => return Err(error),
                },
            }
        }
        self.0.counts.request(Why::Busy.label());
        self.through(origin, place, &want).await
    }

    /// This client was given its script: for some time its files are of the versions that are in service now.
    pub(super) fn script_given(&self, client: IpAddr) {
        let epoch = self.0.state().shelf.epoch();
        self.0.scripts.insert(client, epoch);
    }

    /// As of which change the script of a client is; `None`: it was given none lately.
    pub(super) fn script_of(&self, client: IpAddr) -> Option<Epoch> {
        self.0.scripts.get(&client)
    }

    /// Which files change together, from now on.
    pub(super) fn set_sets(&self, sets: Sets) {
        self.0.state().shelf.sets = sets;
    }

    /// What is to be done about sets of files. Former versions that nobody can want any more go.
    pub(super) async fn due(&self) -> Vec<Due> {
        let (due, is_ready) = {
            let mut state = self.0.state();
            let due = state.shelf.due(Instant::now());
            for gone in state.shelf.expired(Instant::now()) {
                self.0.retire(&mut state, Some(gone));
            }
            (due, !state.shelf.ready().is_empty())
        };
        if is_ready {
            let shared = Arc::clone(&self.0);
            let _ = tokio::task::spawn_blocking(move || shared.change()).await;
        }
        due
    }

    /// Does what is due about a set. Must be called with what [`Keep::due`] gave.
    pub(super) fn go_on(&self, origin: &Arc<Origin>, due: Due) {
        match due {
            Due::Fill(place, fill) => {
                self.0.counts.one("renewed");
                self.begin(&mut self.0.state(), origin, &place, fill);
            }
            Due::Check(object) => {
                let stored = self.0.state().objects.get(&object).map(Arc::clone);
                if let Some(stored) = stored {
                    tokio::spawn(check(Arc::clone(&self.0), Arc::clone(origin), stored));
                }
            }
        }
    }

    /// The name of an object that is due.
    pub(super) fn place_of(&self, due: &Due) -> Option<Place> {
        match due {
            Due::Fill(place, _) => Some(place.clone()),
            Due::Check(object) => self.0.state().objects.get(object).map(|stored| stored.record.place()),
        }
    }

    /// Whether all of an object is kept.
    pub(super) fn has(&self, place: &Place) -> bool {
        self.0.state().shelf.has(place)
    }

    /// All that is kept, being fetched, or pinned; by name.
    pub(super) fn list(&self) -> Vec<Cached> {
        let state = self.0.state();
        let items = state.shelf.items();
        items.into_iter().map(|item| state.cached(item)).collect()
    }

    /// Begins to fetch an object, unless it is kept or being fetched, and says how far it is.
    pub(super) async fn warm(&self, origin: &Arc<Origin>, place: Place) -> Result<Cached, OpenError> {
        self.0.missing.invalidate(&place);
        let opened = self.object(origin, place.clone(), Want::whole()).await?;
        drop(opened);
        let state = self.0.state();
        let mut items = state.shelf.items().into_iter().filter(|item| item.place == place);
        let item = items.rfind(|item| item.stands != Stands::Absent);
        let not_kept = || {
            OpenError::Origin("it is not kept: it does not fit, or its origin does not say which version it is".into())
        };
        item.map(|item| state.cached(item)).ok_or_else(not_kept)
    }

    /// Keeps the object of a name from now on, whatever wants its room; also over a restart. `false`: it was pinned already. Blocks.
    pub(super) fn pin(&self, place: Place) -> Result<bool, PinError> {
        let mut state = self.0.state();
        match state.shelf.pin(place) {
            Pinned::Already => Ok(false),
            Pinned::TooMany => Err(PinError::TooMany(MOST_PINS)),
            Pinned::Now => self.write_pins(&state).map(|()| true),
        }
    }

    /// Ends that. `false`: it was not pinned. Blocks.
    pub(super) fn unpin(&self, place: &Place) -> Result<bool, PinError> {
        let mut state = self.0.state();
        let was = state.shelf.unpin(place);
        if was {
            self.write_pins(&state)?;
        }
        Ok(was)
    }

    /// Removes what is kept of a name; who reads it goes on reading. `false`: there is nothing.
    pub(super) fn remove(&self, place: &Place) -> bool {
        let mut state = self.0.state();
        let gone = state.shelf.remove(place);
        for gone in &gone {
            self.0.retire(&mut state, Some(*gone));
        }
        !gone.is_empty()
    }

    /// Seldom, and short: under the lock, so that the file is what the shelf has.
    fn write_pins(&self, state: &State) -> Result<(), PinError> {
        let pins: Vec<String> = state.shelf.pins().map(Place::name).collect();
        self.0.disk.write_pins(&pins).map_err(PinError::Disk)
    }

    /// How it is, in a line.
    pub(super) fn status(&self) -> String {
        let sum = self.0.state().shelf.sum();
        let plural = if sum.objects == 1 { "" } else { "s" };
        let (objects, bytes, most) = (
            sum.objects,
            Size(sum.bytes),
            Size(self.0.budget.load(Ordering::Relaxed)),
        );
        let mut line = format!("{objects} object{plural}, {bytes} of at most {most}");
        if sum.fills > 0 {
            line.push_str(&format!(", {} being fetched", sum.fills));
        }
        line
    }

    /// How much of it there is.
    pub(super) fn amounts(&self) -> Amounts {
        let sum = self.0.state().shelf.sum();
        Amounts {
            objects: sum.objects,
            bytes: sum.bytes,
            budget: self.0.budget.load(Ordering::Relaxed),
            fills: sum.fills,
            stale: sum.stale,
            waiting: sum.waiting,
            former: sum.former,
        }
    }

    /// What of it may be old, and since when; and whether the disk failed lately.
    pub(super) fn warnings(&self) -> Vec<String> {
        let now = Instant::now();
        let doubts = self.0.state().shelf.doubts(now);
        let seconds = |time: Duration| humantime::format_duration(Duration::from_secs(time.as_secs())).to_string();
        let mut warnings: Vec<String> = doubts
            .iter()
            .map(|doubt| {
                let (objects, bucket) = (doubt.objects, &doubt.bucket);
                let (why, lasts) = (doubt.stale.text(), seconds(doubt.lasts));
                format!("cache: bucket {bucket}: {objects} served as kept: {why}, for {lasts} now")
            })
            .collect();
        let failed = self.0.counts.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, why)) = &*failed
            && now.saturating_duration_since(*when) < LATELY
        {
            warnings.push(format!("cache: the disk failed {} ago: {why}", seconds(now - *when)));
        }
        warnings
    }

    fn find(&self, origin: &Arc<Origin>, place: &Place, want: &Want) -> Way {
        let shared = &self.0;
        let mut state = shared.state();
        let verdict = state.shelf.ask(place, want, Instant::now());
        match verdict {
            Verdict::Through(why) => Way::Through(why),
            Verdict::Replaced => Way::Replaced,
            Verdict::Kept(kept) => {
                if let Some(fill) = kept.renew {
                    shared.counts.one("renewed");
                    self.begin(&mut state, origin, place, fill);
                }
                match state.objects.get(&kept.object) {
                    Some(stored) => Way::Kept(Arc::clone(stored), kept),
                    None => Way::Through(Why::Disk),
                }
            }
            Verdict::Follow(fill) => {
                let Some(hear) = state.fills.get(&fill) else {
                    return Way::Through(Why::Busy);
                };
                let told = hear.borrow().clone();
                match told {
                    Told::Open(open) => {
                        shared.counts.request("joined");
                        Way::Follow(open)
                    }
                    // Its room is reserved, its file is not made yet.
                    _ => Way::Await(hear.clone()),
                }
            }
            Verdict::Await { fill, begins } => {
                if begins {
                    shared.counts.request("miss");
                    self.begin(&mut state, origin, place, fill);
                }
                match state.fills.get(&fill) {
                    Some(told) => Way::Await(told.clone()),
                    None => Way::Through(Why::Busy),
                }
            }
        }
    }

    fn begin(&self, state: &mut State, origin: &Arc<Origin>, place: &Place, fill: Number) {
        let (told, hear) = watch::channel(Told::Asking);
        state.fills.insert(fill, hear);
        tokio::spawn(fill::run(
            Arc::clone(&self.0),
            Arc::clone(origin),
            place.clone(),
            fill,
            told,
        ));
    }

    fn kept(&self, origin: &Arc<Origin>, stored: &Arc<Stored>, kept: Kept, want: &Want) -> Result<Object, OpenError> {
        let shared = &self.0;
        match kept.stale {
            None => drop(shared.counts.hit.inc()),
            Some(_) => shared.counts.request("stale"),
        }
        if kept.check {
            tokio::spawn(check(Arc::clone(shared), Arc::clone(origin), Arc::clone(stored)));
        }
        if kept.touch
            && let Some(id) = stored.id.get().cloned()
        {
            let shared = Arc::clone(shared);
            tokio::task::spawn_blocking(move || shared.disk.touch(&id));
        }
        let mut object = stored.object(want, |range| {
            let mapped = is_worth_a_map(want, &range);
            Reader::of_kept(shared, origin, stored, range, mapped)
        })?;
        object.stale = kept.stale.map(|stale| stale.text());
        Ok(object)
    }

    fn follow(&self, origin: &Arc<Origin>, open: &Arc<Open>, want: &Want) -> Result<Object, OpenError> {
        open.stored.object(want, |range| {
            Reader::of_fill(&self.0, origin, open, range.clone(), is_worth_a_map(want, &range))
        })
    }

    async fn through(&self, origin: &Arc<Origin>, place: &Place, want: &Want) -> Result<Object, OpenError> {
        let object = origin.open(&place.key, want).await?;
        Ok(counted(object, &self.0.counts.passed))
    }
}

impl State {
    /// Leaves only what is on its way to wait, or waits.
    fn retain_waiting(&self, names: &mut Vec<(Number, Id)>) {
        names.retain(|(number, _)| self.fills.contains_key(number) || self.shelf.is_waiting(*number));
    }

    fn cached(&self, item: Item) -> Cached {
        let mut cached = Cached {
            path: format!("/{}", item.place.name()),
            is_pinned: item.is_pinned,
            ..Cached::default()
        };
        match item.stands {
            Stands::Absent => cached.state = CachedState::Absent,
            Stands::Filling { have, len } => {
                cached.state = CachedState::Fetching;
                (cached.have, cached.len) = (have, len);
            }
            Stands::Kept {
                object,
                stale,
                is_waiting,
                hits,
            } => {
                cached.state = if stale.is_some() {
                    CachedState::Stale
                } else {
                    CachedState::Kept
                };
                let waits = is_waiting.then_some("a newer version waits for the other files of its set");
                cached.why = waits.or(stale.map(|stale| stale.text())).map(Into::into);
                cached.hits = hits;
                if let Some(stored) = self.objects.get(&object) {
                    let record = &stored.record;
                    (cached.have, cached.len) = (record.len, Some(record.len));
                    cached.etag = record.etag.clone();
                    cached.sha256 = stored.sha256.get().cloned();
                    cached.origin = record.origin.clone();
                    let fetched = SystemTime::UNIX_EPOCH + Duration::from_nanos(record.fetched);
                    cached.age_s = fetched.elapsed().ok().map(|age| age.as_secs());
                }
            }
        }
        cached
    }
}

/// What a reader gets, with what it takes.
enum Way {
    Kept(Arc<Stored>, Kept),
    Follow(Arc<Open>),
    Await(watch::Receiver<Told>),
    Replaced,
    Through(Why),
}

/// Smaller parts cost more to map than to copy.
fn is_worth_a_map(want: &Want, range: &std::ops::Range<u64>) -> bool {
    want.mapped && range.end - range.start >= WORTH_A_MAP
}

/// What the origin answered to a fill.
async fn outcome(mut told: watch::Receiver<Told>) -> Told {
    let heard = tokio::time::timeout(OPEN_TIMEOUT, told.wait_for(|told| !matches!(told, Told::Asking))).await;
    match heard {
        Ok(Ok(told)) => told.clone(),
        Ok(Err(_)) => Told::Failed(OpenError::Origin("the fetch was given up".into())),
        Err(_) => Told::Failed(OpenError::Timeout),
    }
}

/// Whether a whole object that was opened for another reader is what this one wants.
fn is_what(want: &Want, object: &Object) -> bool {
    let is_version = want.if_match.is_none() || want.if_match == object.etag;
    is_version && !want.head && want.range.of_length(object.len) == Slice::Whole
}

/// Asks the origin whether it still has what is kept.
async fn check(shared: Arc<Shared>, origin: Arc<Origin>, stored: Arc<Stored>) {
    let number = stored.number;
    let key = stored.record.key.clone();
    // Held no longer: it would count as being read.
    drop(stored);
    let said = match tokio::time::timeout(OPEN_TIMEOUT, origin.open(&key, &Want::head())).await {
        Ok(Ok(object)) => Checked::Has(version_of(&object)),
        Ok(Err(OpenError::NoSuchKey)) => Checked::Gone,
        Ok(Err(error)) => {
            shared.counts.trouble("check_failed", &key, &error);
            Checked::Nothing
        }
        Err(_) => {
            shared.counts.trouble("check_failed", &key, &OpenError::Timeout);
            Checked::Nothing
        }
    };
    shared.counts.one("checked");
    let is_ready = {
        let mut state = shared.state();
        let gone = state.shelf.checked(number, &said, Instant::now());
        shared.retire(&mut state, gone);
        !state.shelf.ready().is_empty()
    };
    if is_ready {
        let _ = tokio::task::spawn_blocking(move || shared.change()).await;
    }
}

/// The version of an open object.
pub(super) fn version_of(object: &Object) -> Version {
    let modified = object
        .last_modified
        .and_then(|date| date.duration_since(SystemTime::UNIX_EPOCH).ok());
    Version {
        etag: object.etag.clone(),
        len: object.len,
        modified: modified.map(|since| since.as_secs()),
    }
}

impl Stored {
    /// The file as memory.
    pub(super) fn map(&self) -> Option<&Mapped> {
        let map = || Mapped::of(&self.file, self.record.len).ok();
        self.map.get_or_init(map).as_ref()
    }

    /// What a reader that wants this gets of it.
    fn object(&self, want: &Want, body: impl FnOnce(std::ops::Range<u64>) -> ObjectBody) -> Result<Object, OpenError> {
        let record = &self.record;
        let (range, partial) = match want.range.of_length(record.len) {
            _ if want.head => (0..0, false),
            Slice::Whole => (0..record.len, false),
            Slice::Part(part) => (part, true),
            Slice::Unsatisfiable => return Err(OpenError::Unsatisfiable { len: record.len }),
        };
        Ok(Object {
            len: record.len,
            etag: record.etag.clone(),
            last_modified: record
                .modified
                .map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
            content_type: record.content_type.clone(),
            body: body(range.clone()),
            mapped: is_worth_a_map(want, &range).then(|| self.map().cloned()).flatten(),
            range,
            partial,
            kept: true,
            stale: None,
        })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fill has its version: what it gets, and the objects that go for it.
    pub(super) fn opened(&self, fill: Number, version: Version, free: u64) -> (Room, Vec<Arc<Stored>>) {
        let mut state = self.state();
        let State {
            shelf,
            objects,
            leaving,
            fills,
        } = &mut *state;
        leaving.retain(|(number, stored)| {
            let is_read = stored.strong_count() > 0;
            if !is_read {
                shelf.released(*number);
            }
            is_read
        });
        let is_read = |number: Number| objects.get(&number).is_some_and(|stored| Arc::strong_count(stored) > 1);
        let room = shelf.opened(fill, version, free, Instant::now(), &is_read);
        let evicted = match &room {
            Room::Granted(evicted) => evicted.iter().filter_map(|number| objects.remove(number)).collect(),
            Room::Same | Room::None(_) => {
                fills.remove(&fill);
                Vec::new()
            }
        };
        self.counts.add("evicted", evicted.len() as u64);
        (room, evicted)
    }

    pub(super) fn advanced(&self, fill: Number, watermark: u64) {
        self.state().shelf.advanced(fill, watermark);
    }

    /// A fill is about to get its name on disk, where an older version of it is: until the change the next start is to remove it. Blocks.
    pub(super) fn will_wait(&self, fill: Number, record: &Record) -> io::Result<()> {
        if !self.state().shelf.has(&record.place()) {
            return Ok(());
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = waiting.clone();
        self.state().retain_waiting(&mut names);
        names.push((fill, record.id()));
        self.write_waiting(&mut waiting, names)
    }

    fn write_waiting(&self, waiting: &mut Vec<(Number, Id)>, names: Vec<(Number, Id)>) -> io::Result<()> {
        let ids: Vec<Id> = names.iter().map(|(_, id)| id.clone()).collect();
        self.disk.write_waiting(&ids)?;
        *waiting = names;
        Ok(())
    }

    /// A fill is complete, and has its name on disk. Blocks.
    pub(super) fn sealed(&self, stored: Arc<Stored>) {
        let mut state = self.state();
        let number = stored.number;
        state.fills.remove(&number);
        let sealed = state.shelf.sealed(number, Instant::now());
        state.objects.insert(number, stored);
        self.counts.one("filled");
        match sealed {
            Sealed::Serves => {}
            Sealed::Waits(before) => self.retire(&mut state, before),
            Sealed::Unknown => self.retire(&mut state, Some(number)),
        }
        drop(state);
        self.change();
    }

    /// Has new versions go into service, those that may: on disk in one moment, and then here. Blocks.
    pub(super) fn change(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let before = waiting.clone();
        let mut names = before.clone();
        let ready = {
            let state = self.state();
            state.retain_waiting(&mut names);
            state.shelf.ready()
        };
        names.retain(|(number, _)| !ready.contains(number));
        if names != before
            && let Err(error) = self.write_waiting(&mut waiting, names)
        {
            self.counts.disk_trouble("disk_write_failed", "waiting", &error);
            return;
        }
        if ready.is_empty() {
            return;
        }
        let mut state = self.state();
        let Some(gone) = state.shelf.change(&ready, Instant::now()) else {
            drop(state);
            // A newer one still was found meanwhile: they go on waiting.
            if let Err(error) = self.write_waiting(&mut waiting, before) {
                self.counts.disk_trouble("disk_write_failed", "waiting", &error);
            }
            return;
        };
        for gone in gone {
            self.retire(&mut state, Some(gone));
        }
        self.counts.one("changed");
    }

    pub(super) fn failed(&self, fill: Number, failure: Failure) {
        let mut state = self.state();
        state.fills.remove(&fill);
        let gone = state.shelf.failed(fill, failure, Instant::now());
        self.retire(&mut state, gone);
    }

    /// All that is kept.
    pub(super) fn stored(&self) -> Vec<Arc<Stored>> {
        self.state().objects.values().map(Arc::clone).collect()
    }

    /// A kept object is not what was fetched.
    pub(super) fn damaged(&self, stored: &Stored, doubt: &Doubt) {
        self.counts.disk_trouble("damaged", &stored.record.key, doubt);
        self.take_off(stored);
    }

    /// A kept object cannot be read.
    pub(super) fn broken(&self, stored: &Stored, error: &io::Error) {
        self.counts.disk_trouble("disk_read_failed", &stored.record.key, error);
        self.take_off(stored);
    }

    fn take_off(&self, stored: &Stored) {
        let mut state = self.state();
        let gone = state.shelf.broken(stored.number);
        self.retire(&mut state, gone);
    }

    /// Removes the file of what was taken off the shelf; who reads it goes on reading.
    fn retire(&self, state: &mut State, gone: Option<Number>) {
        let Some(number) = gone else { return };
        let Some(stored) = state.objects.remove(&number) else {
            return;
        };
        state.leaving.push((number, Arc::downgrade(&stored)));
        let paths = stored
            .id
            .get()
            .filter(|_| self.disk.is_ours())
            .map(|id| self.disk.files(id));
        tokio::task::spawn_blocking(move || {
            for path in paths.into_iter().flatten() {
                let _ = std::fs::remove_file(path);
            }
            drop(stored);
        });
    }

    /// Some bytes of a file, at least one: from memory at once, or by a blocking thread.
    pub(super) async fn read(&self, file: &Arc<File>, at: u64, most: usize) -> io::Result<Bytes> {
        let mut chunk = vec![0; most];
        let at_hand = rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut chunk)], at, ReadWriteFlags::NOWAIT);
        let read = match at_hand {
            Ok(read) if read > 0 => read,
            _ => {
                let _turn = self.reads.acquire().await.map_err(io::Error::other)?;
                let file = Arc::clone(file);
                let read;
                (chunk, read) = tokio::task::spawn_blocking(move || {
                    let read = file.read_at(&mut chunk, at)?;
                    io::Result::Ok((chunk, read))
                })
                .await??;
                read
            }
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        chunk.truncate(read);
        self.counts.disk.inc_by(read as u64);
        Ok(chunk.into())
    }
}

impl Counts {
    fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            hit: metrics.cache_requests("hit"),
            disk: metrics.bytes_counter("cache", "disk"),
            filled: metrics.fetched_counter("cache", "filled"),
            passed: metrics.fetched_counter("cache", "passed_through"),
            failed: Mutex::default(),
            metrics,
        }
    }

    /// A read was answered in this way.
    pub(super) fn request(&self, result: &str) {
        self.metrics.cache_requests(result).inc();
    }

    pub(super) fn one(&self, what: &str) {
        self.metrics.done("cache", what);
    }

    fn add(&self, what: &str, count: u64) {
        self.metrics.counter("cache", what).inc_by(count);
    }

    /// Counts what went wrong, and logs it now and then.
    pub(super) fn trouble(&self, what: &'static str, key: &str, why: &dyn std::fmt::Display) {
        self.metrics.refused("cache", what, &key, why);
    }

    /// The same of the disk.
    pub(super) fn disk_trouble(&self, what: &'static str, key: &str, why: &dyn std::fmt::Display) {
        self.trouble(what, key, why);
        let failed = (Instant::now(), why.to_string());
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
    }
}

const WORTH_A_MAP: u64 = 64 << 10;

/// Bytes for humans.
struct Size(u64);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mut unit, mut size) = ("B", self.0 as f64);
        for larger in ["KiB", "MiB", "GiB", "TiB"] {
            if size < 1024.0 {
                break;
            }
            (unit, size) = (larger, size / 1024.0);
        }
        let digits = if unit == "B" { 0 } else { 1 };
        write!(f, "{size:.digits$} {unit}")
    }
}

/// An object takes a descriptor; an eighth of those that the process may have.
fn most_objects() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let eighth = limit.map_or(MOST_OBJECTS, |limit| usize::try_from(limit / 8).unwrap_or(MOST_OBJECTS));
    eighth.clamp(16, MOST_OBJECTS)
}

const MOST_OBJECTS: usize = 8192;
/// Tries to find out what a reader gets, while fills begin and fail around it; after that it is passed through.
const ATTEMPTS: usize = 4;
/// How long an origin is not asked again for what it does not have: seldom enough for whoever asks without end, and soon enough for who is
/// about to put it there.
const MISSING_FOR: Duration = Duration::from_secs(5);
/// Names of which that is known at most.
const MOST_MISSING: u64 = 16 * 1024;
/// How long a failure of the disk is shown.
const LATELY: Duration = Duration::from_secs(600);
/// Blocking reads at once: more only make a disk seek.
const READS: usize = 32;
const PROOFS: usize = 8;
/// Percent of what the file system had free at the start, where the configuration says nothing.
const SHARE: u64 = 80;
/// Percent of the file system that stay free, as long as that is not more than [`LARGEST_FLOOR`].
const FLOOR: u64 = 5;
const LARGEST_FLOOR: u64 = 10 << 30;

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
