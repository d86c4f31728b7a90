//! What the shelf decides, case by case, and a simulation with seeds: origins that change, break and vanish, readers that come at any time.

use super::super::sets::{SCRIPT_LASTS, SETTLES};
use super::*;
use crate::dhcp::v4::testing::Random;
use crate::http::range::Spec;

fn place(key: &str) -> Place {
    Place {
        bucket: "b".into(),
        key: key.into(),
    }
}

fn version(tag: u64, len: u64) -> Version {
    Version {
        etag: Some(format!("\"{tag}\"")),
        len,
        modified: None,
    }
}

fn shelf(budget: u64) -> Shelf {
    let mut shelf = Shelf::new(Limits {
        budget,
        floor: 100 * PAGE,
        objects: 5,
        check_each: BETWEEN_CHECKS,
        settles: SETTLES,
    });
    shelf.sets = Sets::none();
    shelf
}

/// These belong together.
fn set(keys: &[&str]) -> Sets {
    Sets::of(vec![keys.iter().map(|key| place(key)).collect()])
}

/// Completes a fill with this version.
fn complete(shelf: &mut Shelf, fill: Number, version: Version, now: Instant) -> Sealed {
    let len = version.len;
    assert!(matches!(opened(shelf, fill, version, now), Room::Granted(_)));
    shelf.advanced(fill, len);
    shelf.sealed(fill, now)
}

fn want_as_of(epoch: Epoch) -> Want {
    Want {
        as_of: Some(epoch),
        ..Want::whole()
    }
}

const FREE: u64 = 1 << 40;

fn nobody_reads(_: Number) -> bool {
    false
}

fn opened(shelf: &mut Shelf, fill: Number, version: Version, now: Instant) -> Room {
    shelf.opened(fill, version, FREE, now, &nobody_reads)
}

fn begin(shelf: &mut Shelf, key: &str, now: Instant) -> Number {
    match shelf.ask(&place(key), &Want::whole(), now) {
        Verdict::Await { fill, begins: true } => fill,
        other => panic!("{other:?}"),
    }
}

fn keep(shelf: &mut Shelf, key: &str, version: Version, now: Instant) -> Number {
    let fill = begin(shelf, key, now);
    assert_eq!(complete(shelf, fill, version, now), Sealed::Serves);
    fill
}

fn kept(verdict: Verdict) -> Kept {
    match verdict {
        Verdict::Kept(kept) => kept,
        other => panic!("{other:?}"),
    }
}

fn want(range: Spec, if_match: Option<&str>) -> Want {
    Want {
        range,
        if_match: if_match.map(str::to_owned),
        head: false,
        ..Want::whole()
    }
}

#[test]
fn the_first_reader_begins_a_fill_and_all_others_follow_it() {
    let (mut shelf, now) = (shelf(FREE), Instant::now());
    let fill = begin(&mut shelf, "k", now);
    let again = shelf.ask(&place("k"), &Want::whole(), now);
    assert_eq!(again, Verdict::Await { fill, begins: false });
    assert_eq!(shelf.ask(&place("k"), &Want::head(), now), Verdict::Through(Why::Head));
    assert_eq!(
        opened(&mut shelf, fill, version(1, 2 * AHEAD), now),
        Room::Granted(vec![])
    );
    assert_eq!(shelf.ask(&place("k"), &Want::whole(), now), Verdict::Follow(fill));
    assert_eq!(shelf.ask(&place("k"), &Want::head(), now), Verdict::Follow(fill));
    let mut ask = |from, tag| shelf.ask(&place("k"), &want(Spec::From(from), tag), now);
    assert_eq!(ask(AHEAD, Some("\"1\"")), Verdict::Follow(fill));
    assert_eq!(ask(AHEAD + 1, None), Verdict::Through(Why::Ahead));
    assert_eq!(ask(0, Some("\"2\"")), Verdict::Through(Why::OtherVersion));
    shelf.advanced(fill, 10);
    let at = want(Spec::From(AHEAD + 1), None);
    assert_eq!(shelf.ask(&place("k"), &at, now), Verdict::Follow(fill));
    assert_eq!(shelf.sealed(fill, now), Sealed::Serves);
    assert_eq!(kept(shelf.ask(&place("k"), &Want::head(), now)).object, fill);
}

#[test]
fn what_is_kept_is_served_at_once_and_checked_now_and_then() {
    let (mut shelf, start) = (shelf(FREE), Instant::now());
    let object = keep(&mut shelf, "k", version(1, 5), start);
    let ask = |shelf: &mut Shelf, at: Duration| kept(shelf.ask(&place("k"), &Want::whole(), start + at));
    let fresh = ask(&mut shelf, BETWEEN_CHECKS / 2);
    assert_eq!((fresh.check, fresh.stale), (false, None));
    assert!(ask(&mut shelf, BETWEEN_CHECKS).check);
    // One question at a time, however long it takes.
    assert!(!ask(&mut shelf, 5 * BETWEEN_CHECKS).check);
    let answered = 5 * BETWEEN_CHECKS;
    shelf.checked(object, &Checked::Nothing, start + answered);
    assert_eq!(ask(&mut shelf, answered).stale, Some(Stale::Unasked));
    let doubt = Doubt {
        bucket: "b".into(),
        stale: Stale::Unasked,
        objects: 1,
        lasts: BETWEEN_CHECKS,
    };
    assert_eq!(shelf.doubts(start + answered + BETWEEN_CHECKS), [doubt]);
    assert!(ask(&mut shelf, answered + BETWEEN_CHECKS).check);
    shelf.checked(object, &Checked::Has(version(1, 5)), start + answered);
    assert_eq!(ask(&mut shelf, answered).stale, None);
}

/// The fill of the newer version that this reader brings about; it has the older one itself.
fn renewed(shelf: &mut Shelf, key: &str, older: Number, now: Instant) -> Number {
    let served = kept(shelf.ask(&place(key), &Want::whole(), now));
    assert_eq!(served.object, older);
    served.renew.unwrap()
}

#[test]
fn a_new_version_is_fetched_beside_the_next_reader_and_the_old_one_serves_until_it_is_there() {
    let (mut shelf, now) = (shelf(FREE), Instant::now());
    let old = keep(&mut shelf, "k", version(1, 5), now);
    assert_eq!(shelf.checked(old, &Checked::Has(version(2, 6)), now), None);
    let fill = renewed(&mut shelf, "k", old, now);
    // Who insists on the old one has it, and so has everyone else.
    let insists = want(Spec::Whole, Some("\"1\""));
    assert_eq!(kept(shelf.ask(&place("k"), &insists, now)).object, old);
    opened(&mut shelf, fill, version(2, 6), now);
    assert_eq!(kept(shelf.ask(&place("k"), &insists, now)).object, old);
    let served = kept(shelf.ask(&place("k"), &Want::whole(), now));
    assert_eq!((served.object, served.renew, served.stale), (old, None, None));
    // Who knows the new one need not wait for it.
    let knows = want(Spec::Whole, Some("\"2\""));
    assert_eq!(shelf.ask(&place("k"), &knows, now), Verdict::Follow(fill));
    shelf.advanced(fill, 6);
    assert_eq!(shelf.sealed(fill, now), Sealed::Waits(None));
    assert_eq!(kept(shelf.ask(&place("k"), &Want::whole(), now)).object, old);
    // It is alone, so nothing else has to be there.
    assert_eq!(shelf.ready(), [fill]);
    assert_eq!(shelf.change(&[fill], now), Some(vec![old]));
    assert_eq!(kept(shelf.ask(&place("k"), &Want::whole(), now)).object, fill);
    assert_eq!(
        shelf.ask(&place("k"), &insists, now),
        Verdict::Through(Why::OtherVersion)
    );
    assert_eq!(shelf.sum().objects, 1);
    shelf.released(old);
    assert_eq!(shelf.used, room_of(6));
}

#[test]
fn files_of_a_set_change_in_one_moment_after_their_origins_said_again_that_this_is_all() {
    let (mut shelf, start) = (shelf(FREE), Instant::now());
    shelf.sets = set(&["k", "i", "r"]);
    let [k, i, r] = ["k", "i", "r"].map(|key| keep(&mut shelf, key, version(1, 5), start));
    let at = |seconds| start + Duration::from_secs(seconds);
    let script = shelf.epoch();
    shelf.checked(k, &Checked::Has(version(2, 5)), at(1));
    let new_k = renewed(&mut shelf, "k", k, at(1));
    assert_eq!(complete(&mut shelf, new_k, version(2, 5), at(1)), Sealed::Waits(None));
    // Whoever wrote the kernel may be writing the rest.
    assert!(shelf.ready().is_empty() && shelf.due(at(2)).is_empty());
    let checks = shelf.due(at(1) + SETTLES);
    assert_eq!(checks.len(), 3, "{checks:?}");
    let answered = at(2) + SETTLES;
    shelf.checked(k, &Checked::Has(version(2, 5)), answered);
    shelf.checked(r, &Checked::Has(version(1, 5)), answered);
    assert!(
        shelf.ready().is_empty(),
        "nobody knows yet whether the initramfs changed"
    );
    shelf.checked(i, &Checked::Has(version(2, 7)), answered);
    assert!(shelf.ready().is_empty(), "it did");
    let due = shelf.due(answered);
    let [Due::Fill(_, new_i)] = due[..] else {
        panic!("{due:?}")
    };
    opened(&mut shelf, new_i, version(2, 7), answered);
    assert!(shelf.ready().is_empty());
    shelf.advanced(new_i, 7);
    assert_eq!(shelf.sealed(new_i, answered), Sealed::Waits(None));
    // What is kept is what was served all the time.
    for (key, old) in [("k", k), ("i", i), ("r", r)] {
        assert_eq!(kept(shelf.ask(&place(key), &Want::whole(), answered)).object, old);
    }
    let again = answered + SETTLES;
    assert_eq!(shelf.due(again).len(), 3);
    for (object, theirs) in [(k, version(2, 5)), (i, version(2, 7)), (r, version(1, 5))] {
        assert!(shelf.ready().is_empty());
        shelf.checked(object, &Checked::Has(theirs), again);
    }
    let mut ready = shelf.ready();
    ready.sort();
    assert_eq!(ready, [new_k, new_i]);
    // One that is gone meanwhile keeps all others from it.
    assert_eq!(shelf.change(&[new_k, r, new_i], again), None);
    assert_eq!(shelf.change(&ready, again), Some(vec![]));
    // Whose script is from before gets the versions of before, and who is new the new ones.
    for (key, old, new) in [("k", k, new_k), ("i", i, new_i), ("r", r, r)] {
        let mut ask = |want: &Want| kept(shelf.ask(&place(key), want, again)).object;
        assert_eq!(ask(&want_as_of(script)), old, "{key}");
        assert_eq!(ask(&Want::whole()), new, "{key}");
        let now = shelf.epoch();
        assert_eq!(
            kept(shelf.ask(&place(key), &want_as_of(now), again)).object,
            new,
            "{key}"
        );
    }
    let sum = shelf.sum();
    assert_eq!((sum.objects, sum.waiting, sum.former), (3, 0, 2));
    // For some time.
    assert_eq!(shelf.expired(again + SCRIPT_LASTS / 2), []);
    assert_eq!(shelf.expired(again + SCRIPT_LASTS).len(), 2);
    assert_eq!(
        shelf.ask(&place("k"), &want_as_of(script), again),
        Verdict::Replaced,
        "it must not get another one"
    );
    assert_eq!(kept(shelf.ask(&place("r"), &want_as_of(script), again)).object, r);
}

#[test]
fn a_set_does_not_change_while_one_of_its_files_cannot_be_fetched_or_asked_about() {
    let (mut shelf, start) = (shelf(FREE), Instant::now());
    shelf.sets = set(&["k", "i"]);
    let [k, i] = ["k", "i"].map(|key| keep(&mut shelf, key, version(1, 5), start));
    shelf.checked(k, &Checked::Has(version(2, 5)), start);
    let new_k = renewed(&mut shelf, "k", k, start);
    complete(&mut shelf, new_k, version(2, 5), start);
    let mut now = start + SETTLES;
    for said in [Checked::Nothing, Checked::Gone, Checked::Has(version(2, 5))] {
        assert!(shelf.due(now).contains(&Due::Check(i)), "{said:?}");
        shelf.checked(k, &Checked::Has(version(2, 5)), now);
        shelf.checked(i, &said, now);
        assert!(shelf.ready().is_empty(), "{said:?}");
        now += BETWEEN_CHECKS;
    }
    let due = shelf.due(now);
    let Some(Due::Fill(_, new_i)) = due.first().cloned() else {
        panic!("{due:?}")
    };
    opened(&mut shelf, new_i, version(2, 5), now);
    shelf.failed(new_i, Failure::Origin, now);
    assert!(shelf.ready().is_empty());
    let served = kept(shelf.ask(&place("i"), &Want::whole(), now));
    assert_eq!((served.object, served.stale), (i, Some(Stale::Unfetched)));
    // The origin goes back to the kernel before: there is nothing to change.
    shelf.checked(i, &Checked::Has(version(1, 5)), now);
    assert_eq!(shelf.checked(k, &Checked::Has(version(1, 5)), now), Some(new_k));
    assert!(shelf.due(now + SETTLES).is_empty() && shelf.ready().is_empty());
}

#[test]
fn nothing_changes_before_it_is_known_what_belongs_together() {
    let (mut shelf, now) = (shelf(FREE), Instant::now());
    shelf.sets = Sets::default();
    let old = keep(&mut shelf, "k", version(1, 5), now);
    shelf.checked(old, &Checked::Has(version(2, 5)), now);
    let new = renewed(&mut shelf, "k", old, now);
    complete(&mut shelf, new, version(2, 5), now);
    assert!(shelf.ready().is_empty() && shelf.due(now + 2 * SETTLES).is_empty());
    shelf.sets = Sets::none();
    assert_eq!(shelf.ready(), [new]);
}

#[test]
fn former_versions_make_room_before_all_others_and_there_are_so_many() {
    let now = Instant::now();
    let mut shelf = shelf(4 * room_of(PAGE));
    shelf.sets = set(&["k"]);
    let first = keep(&mut shelf, "k", version(1, PAGE), now);
    let script = shelf.epoch();
    let mut old = first;
    let mut replace = |shelf: &mut Shelf, tag| {
        shelf.checked(old, &Checked::Has(version(tag, PAGE)), now);
        let new = renewed(shelf, "k", old, now);
        complete(shelf, new, version(tag, PAGE), now);
        old = new;
        shelf.change(&[new], now).unwrap()
    };
    assert_eq!(replace(&mut shelf, 2), []);
    assert_eq!(replace(&mut shelf, 3), []);
    keep(&mut shelf, "other", version(1, PAGE), now);
    assert_eq!(shelf.sum().former, 2);
    let fill = begin(&mut shelf, "more", now);
    assert_eq!(
        opened(&mut shelf, fill, version(1, PAGE), now),
        Room::Granted(vec![first])
    );
    assert_eq!(shelf.ask(&place("k"), &want_as_of(script), now), Verdict::Replaced);
    shelf.failed(fill, Failure::Origin, now);
    shelf.limits.budget = FREE;
    shelf.limits.objects = 1000;
    let gone: usize = (4..2 * MOST_FORMER as u64)
        .map(|tag| replace(&mut shelf, tag).len())
        .sum();
    assert_eq!(shelf.sum().former, MOST_FORMER);
    assert_eq!(gone + MOST_FORMER, 2 * MOST_FORMER - 4 + 1);
}

#[test]
fn where_two_versions_do_not_fit_the_old_one_makes_room_unless_a_set_depends_on_it() {
    let now = Instant::now();
    for is_of_set in [false, true] {
        let mut shelf = shelf(3 * room_of(PAGE));
        shelf.sets = if is_of_set { set(&["k", "i"]) } else { Sets::none() };
        let old = keep(&mut shelf, "k", version(1, 3 * PAGE), now);
        shelf.checked(old, &Checked::Has(version(2, 3 * PAGE)), now);
        let fill = renewed(&mut shelf, "k", old, now);
        let room = opened(&mut shelf, fill, version(2, 3 * PAGE), now);
        if is_of_set {
            assert_eq!(room, Room::None(Why::NoRoom));
            let served = kept(shelf.ask(&place("k"), &Want::whole(), now));
            assert_eq!((served.object, served.stale), (old, Some(Stale::Unfetched)));
            assert_eq!(served.renew, None, "not with each reader");
        } else {
            assert_eq!(room, Room::Granted(vec![old]));
            assert_eq!(shelf.ask(&place("k"), &Want::whole(), now), Verdict::Follow(fill));
        }
    }
}

#[test]
fn a_new_version_that_cannot_be_fetched_leaves_the_old_one_in_service() {
    let (mut shelf, now) = (shelf(FREE), Instant::now());
    let old = keep(&mut shelf, "k", version(1, 5), now);
    shelf.checked(old, &Checked::Has(version(2, 6)), now);
    let fill = renewed(&mut shelf, "k", old, now);
    opened(&mut shelf, fill, version(2, 6), now);
    assert_eq!(shelf.failed(fill, Failure::Origin, now), None);
    let served = kept(shelf.ask(&place("k"), &Want::whole(), now));
    assert_eq!((served.object, served.stale), (old, Some(Stale::Unfetched)));
    let later = now + BETWEEN_CHECKS;
    assert!(kept(shelf.ask(&place("k"), &Want::whole(), later)).check);
    // The origin went back to what is kept.
    shelf.checked(old, &Checked::Has(version(3, 6)), later);
    let fill = renewed(&mut shelf, "k", old, later);
    assert_eq!(opened(&mut shelf, fill, version(1, 5), later), Room::Same);
    assert_eq!(kept(shelf.ask(&place("k"), &Want::whole(), later)).stale, None);
}

#[test]
fn what_is_gone_at_its_origin_stays_for_some_minutes() {
    let (mut shelf, start) = (shelf(FREE), Instant::now());
    let object = keep(&mut shelf, "k", version(1, 5), start);
    assert_eq!(shelf.checked(object, &Checked::Gone, start), None);
    assert_eq!(
        kept(shelf.ask(&place("k"), &Want::whole(), start)).stale,
        Some(Stale::Gone)
    );
    assert_eq!(
        shelf.checked(object, &Checked::Gone, start + GRACE - BETWEEN_CHECKS),
        None
    );
    // Back in between: the time begins anew.
    shelf.checked(object, &Checked::Has(version(1, 5)), start + GRACE);
    assert_eq!(shelf.checked(object, &Checked::Gone, start + GRACE), None);
    assert_eq!(shelf.checked(object, &Checked::Gone, start + 2 * GRACE), Some(object));
    assert_eq!(shelf.sum(), Sum::default());
}

#[test]
fn what_is_pinned_makes_no_room_for_anything() {
    let now = Instant::now();
    let mut shelf = shelf(4 * (PAGE + PAGE));
    let [old, _] = ["a", "b"].map(|key| keep(&mut shelf, key, version(1, PAGE), now));
    assert_eq!(shelf.pin(place("a")), Pinned::Now);
    assert_eq!(shelf.pin(place("a")), Pinned::Already);
    let fill = begin(&mut shelf, "c", now);
    // Only the other one goes; for more there is no room.
    assert!(matches!(opened(&mut shelf, fill, version(1, 4 * PAGE), now), Room::Granted(gone) if gone.len() == 1));
    shelf.failed(fill, Failure::Origin, now);
    let fill = begin(&mut shelf, "d", now);
    assert_eq!(
        opened(&mut shelf, fill, version(1, 6 * PAGE), now),
        Room::None(Why::NoRoom)
    );
    assert_eq!(kept(shelf.ask(&place("a"), &Want::whole(), now)).object, old);
    assert!(shelf.unpin(&place("a")) && !shelf.unpin(&place("a")));
    let fill = begin(&mut shelf, "d", now);
    assert_eq!(
        opened(&mut shelf, fill, version(1, 6 * PAGE), now),
        Room::Granted(vec![old])
    );
}

#[test]
fn all_that_there_is_is_listed_by_name() {
    let now = Instant::now();
    let mut shelf = shelf(FREE);
    let object = keep(&mut shelf, "b", version(1, 10), now);
    shelf.ask(&place("b"), &Want::whole(), now);
    let fill = begin(&mut shelf, "a", now);
    opened(&mut shelf, fill, version(1, 100), now);
    shelf.advanced(fill, 40);
    shelf.pin(place("c"));
    let items = shelf.items();
    let stands: Vec<_> = items
        .iter()
        .map(|item| (&*item.place.key, item.stands.clone(), item.is_pinned))
        .collect();
    let filling = Stands::Filling {
        have: 40,
        len: Some(100),
    };
    let kept = Stands::Kept {
        object,
        stale: None,
        is_waiting: false,
        hits: 1,
    };
    assert_eq!(
        stands,
        [("a", filling, false), ("b", kept, false), ("c", Stands::Absent, true)]
    );
    assert_eq!(shelf.remove(&place("b")), [object]);
    assert_eq!(shelf.remove(&place("b")), []);
    assert_eq!(shelf.items().len(), 2);
}

#[test]
fn the_longest_unused_make_room_and_never_what_is_being_read_or_replaced() {
    let now = Instant::now();
    let mut shelf = shelf(3 * room_of(PAGE));
    let [a, b, c] = ["a", "b", "c"].map(|key| keep(&mut shelf, key, version(1, PAGE), now));
    kept(shelf.ask(&place("a"), &Want::whole(), now));
    let fill = begin(&mut shelf, "d", now);
    let is_b = |number| number == b;
    let room = shelf.opened(fill, version(1, 1), FREE, now, &is_b);
    assert_eq!(room, Room::Granted(vec![c]));
    // What does not fit even so evicts nobody.
    let large = begin(&mut shelf, "e", now);
    assert_eq!(
        opened(&mut shelf, large, version(1, 3 * PAGE + 1), now),
        Room::None(Why::NoRoom)
    );
    assert_eq!(shelf.sum().objects, 2);
    // Nor does what would leave too little space free; what goes is counted as free.
    let large = begin(&mut shelf, "e", now);
    let floor = shelf.limits.floor;
    let room = shelf.opened(large, version(1, 3 * PAGE), floor - 1, now, &nobody_reads);
    assert_eq!(room, Room::None(Why::NoRoom));
    let large = begin(&mut shelf, "e", now);
    let room = shelf.opened(large, version(1, 1), floor, now, &|number| number == a);
    assert_eq!(room, Room::Granted(vec![b]));
    let inexact = begin(&mut shelf, "w", now);
    let weak = Version {
        etag: Some("W/\"1\"".into()),
        ..version(1, 1)
    };
    assert_eq!(opened(&mut shelf, inexact, weak, now), Room::None(Why::Inexact));
}

#[test]
fn there_are_so_many_objects_and_fills_and_not_more() {
    let (mut shelf, now) = (shelf(FREE), Instant::now());
    for key in 0..20 {
        keep(&mut shelf, &key.to_string(), version(1, 1), now);
    }
    assert_eq!(shelf.sum().objects, 5);
    for key in 100..100 + MOST_FILLS {
        begin(&mut shelf, &key.to_string(), now);
    }
    let more = shelf.ask(&place("more"), &Want::whole(), now);
    assert_eq!(more, Verdict::Through(Why::Busy));
}

#[test]
fn after_the_disk_failed_nothing_is_filled_for_a_while() {
    let (mut shelf, now) = (shelf(FREE), Instant::now());
    let fill = begin(&mut shelf, "k", now);
    shelf.failed(fill, Failure::Disk, now);
    assert_eq!(shelf.ask(&place("k"), &Want::whole(), now), Verdict::Through(Why::Disk));
    begin(&mut shelf, "k", now + AFTER_DISK_TROUBLE);
}

#[test]
fn a_reader_reads_what_is_there_and_takes_no_standstill_for_the_end() {
    for (at, end, watermark, is_broken, wanted) in [
        (0, 10, 4, false, Step::Read(0..4)),
        (4, 10, 4, false, Step::Wait),
        (4, 10, 4, true, Step::Broken),
        (0, 10, 4, true, Step::Read(0..4)),
        (2, 10, 20, false, Step::Read(2..10)),
        (10, 10, 4, true, Step::Done),
        (8, 10, 4, false, Step::Wait),
    ] {
        assert_eq!(
            step(at, end, watermark, is_broken),
            wanted,
            "{at} {end} {watermark} {is_broken}"
        );
    }
}

/// An origin's fetch, as the shell would run it.
#[derive(Debug)]
struct Fetch {
    key: usize,
    tag: u64,
    len: u64,
    watermark: u64,
    is_open: bool,
    is_broken: bool,
    is_sealed: bool,
}

/// Somebody who reads one object.
#[derive(Debug)]
struct Reading {
    /// What it was promised.
    tag: u64,
    file: Number,
    at: u64,
    end: u64,
}

#[derive(Debug, Clone, Copy)]
struct Theirs {
    tag: u64,
    len: u64,
    is_up: bool,
    is_there: bool,
}

#[test]
fn in_any_order_of_events_each_reader_gets_one_version_and_each_byte_is_fetched_once() {
    let mut random = Random::seeded(0xcac4e);
    for _ in 0..300 {
        simulate(random.next(), 400);
    }
}

#[test]
#[ignore = "long: cargo test -p bootd --release cache::shelf -- --ignored"]
fn in_a_great_many_orders_too() {
    let mut random = Random::seeded(0xcac4e);
    for _ in 0..50_000 {
        simulate(random.next(), 1000);
    }
}

fn simulate(seed: u64, events: usize) {
    let mut random = Random::of(seed);
    let start = Instant::now();
    let mut now = start;
    let budget = 12 * PAGE;
    let mut shelf = Shelf::new(Limits {
        budget,
        floor: 0,
        objects: 4,
        check_each: BETWEEN_CHECKS,
        settles: Duration::ZERO,
    });
    // Two belong together, two are alone.
    shelf.sets = set(&["a", "b"]);
    let keys = ["a", "b", "c", "d"].map(place);
    let mut origin = [Theirs {
        tag: 1,
        len: 2 * PAGE,
        is_up: true,
        is_there: true,
    }; 4];
    let mut files: BTreeMap<Number, Fetch> = BTreeMap::new();
    let mut readings: Vec<Reading> = Vec::new();
    let mut checks: Vec<(Number, usize)> = Vec::new();
    let mut left: Vec<Number> = Vec::new();
    let mut scripts = vec![shelf.epoch()];
    for _ in 0..events {
        match random.below(13) {
            // Somebody asks.
            0..=3 => {
                let key = random.below(4) as usize;
                let any = random.below(3 * PAGE);
                let range = *random.pick(&[
                    Spec::Whole,
                    Spec::From(any),
                    Spec::FromTo(any, any + 100),
                    Spec::Last(any),
                ]);
                let tag = format!("\"{}\"", origin[key].tag.saturating_sub(random.below(2)));
                let if_match = (random.below(5) == 0).then_some(&*tag);
                let as_of = (random.below(3) == 0).then(|| *random.pick(&scripts));
                let want = Want {
                    as_of,
                    ..want(range, if_match)
                };
                match shelf.ask(&keys[key], &want, now) {
                    Verdict::Await { fill, begins } => {
                        assert_eq!(begins, !files.contains_key(&fill), "seed {seed}");
                        if begins {
                            begun(&mut files, fill, key, seed);
                        }
                    }
                    Verdict::Follow(file) => {
                        let fetch = &files[&file];
                        assert!(fetch.is_open && !fetch.is_broken && !fetch.is_sealed, "seed {seed}");
                        read(&mut readings, fetch, file, range, if_match, seed);
                    }
                    Verdict::Kept(kept) => {
                        if let Some(fill) = kept.renew {
                            begun(&mut files, fill, key, seed);
                        }
                        let fetch = &files[&kept.object];
                        assert!(fetch.is_sealed && fetch.key == key, "seed {seed}");
                        read(&mut readings, fetch, kept.object, range, if_match, seed);
                        if kept.check {
                            checks.push((kept.object, key));
                        }
                    }
                    Verdict::Replaced => assert!(want.as_of.is_some_and(|as_of| as_of < shelf.epoch())),
                    Verdict::Through(_) => {}
                }
            }
            // A fill goes on by a step.
            4..=6 => {
                let going: Vec<Number> = files
                    .iter()
                    .filter(|(_, f)| !f.is_sealed && !f.is_broken)
                    .map(|(number, _)| *number)
                    .collect();
                if going.is_empty() {
                    continue;
                }
                let number = *random.pick(&going);
                let fetch = files.get_mut(&number).unwrap();
                let theirs = origin[fetch.key];
                let before = if !theirs.is_up || random.below(10) == 0 {
                    fetch.is_broken = true;
                    let failure = *random.pick(&[Failure::Origin, Failure::Origin, Failure::Disk]);
                    shelf.failed(number, failure, now)
                } else if !theirs.is_there && !fetch.is_open {
                    fetch.is_broken = true;
                    shelf.failed(number, Failure::NoSuchKey, now)
                } else if !fetch.is_open {
                    (fetch.tag, fetch.len, fetch.is_open) = (theirs.tag, theirs.len, true);
                    let is_read = |file| readings.iter().any(|reading| reading.file == file);
                    match shelf.opened(number, version(theirs.tag, theirs.len), FREE, now, &is_read) {
                        Room::Granted(evicted) => {
                            for file in evicted {
                                assert!(!is_read(file), "what is read was evicted, seed {seed}");
                                files.remove(&file);
                            }
                            assert!(shelf.used <= budget, "seed {seed}");
                        }
                        Room::Same | Room::None(_) => fetch.is_broken = true,
                    }
                    None
                } else if fetch.watermark < fetch.len {
                    fetch.watermark = fetch.len.min(fetch.watermark + random.below(PAGE));
                    shelf.advanced(number, fetch.watermark);
                    None
                } else {
                    fetch.is_sealed = true;
                    match shelf.sealed(number, now) {
                        Sealed::Waits(before) => before,
                        sealed => {
                            assert_eq!(sealed, Sealed::Serves, "seed {seed}");
                            None
                        }
                    }
                };
                left.extend(before);
            }
            // Somebody reads on, or goes away.
            7..=8 if !readings.is_empty() => {
                let index = random.below(readings.len() as u64) as usize;
                let reading = &mut readings[index];
                let fetch = &files[&reading.file];
                assert_eq!(fetch.tag, reading.tag, "another version in the middle, seed {seed}");
                match step(reading.at, reading.end, fetch.watermark, fetch.is_broken) {
                    Step::Read(range) => {
                        assert!(range.start == reading.at && range.end <= fetch.watermark, "seed {seed}");
                        reading.at = range.end.min(range.start + 1 + random.below(PAGE));
                    }
                    Step::Wait => assert!(!fetch.is_sealed, "seed {seed}"),
                    Step::Done => drop(readings.swap_remove(index)),
                    Step::Broken => {
                        assert!(reading.at < reading.end && !fetch.is_sealed, "seed {seed}");
                        readings.swap_remove(index);
                    }
                }
            }
            // An origin answers a check.
            9 if !checks.is_empty() => {
                let (object, key) = checks.swap_remove(random.below(checks.len() as u64) as usize);
                let theirs = origin[key];
                let said = match (theirs.is_up, theirs.is_there) {
                    (false, _) => Checked::Nothing,
                    (true, false) => Checked::Gone,
                    (true, true) => Checked::Has(version(theirs.tag, theirs.len)),
                };
                left.extend(shelf.checked(object, &said, now));
            }
            // An origin is another.
            10 => {
                let theirs = &mut origin[random.below(4) as usize];
                match random.below(4) {
                    0 => theirs.is_up = !theirs.is_up,
                    1 => theirs.is_there = !theirs.is_there,
                    2 => (theirs.tag, theirs.len) = (theirs.tag + 1, random.below(6 * PAGE)),
                    _ => {
                        *theirs = Theirs {
                            is_up: true,
                            is_there: true,
                            ..*theirs
                        }
                    }
                }
            }
            // The shell looks after sets.
            11 => {
                for due in shelf.due(now) {
                    match due {
                        Due::Check(object) => checks.push((object, files[&object].key)),
                        Due::Fill(place, fill) => {
                            let key = keys.iter().position(|key| *key == place).unwrap();
                            begun(&mut files, fill, key, seed);
                        }
                    }
                }
                let ready = shelf.ready();
                left.extend(shelf.change(&ready, now).unwrap());
                left.extend(shelf.expired(now));
                scripts.push(shelf.epoch());
            }
            _ => now += Duration::from_secs(random.below(40)),
        }
        left.retain(|number| {
            let is_read = readings.iter().any(|reading| reading.file == *number);
            if !is_read {
                shelf.released(*number);
            }
            is_read
        });
    }
    // All come to an end: nothing is left over.
    for (number, fetch) in &files {
        if !fetch.is_sealed && !fetch.is_broken {
            left.extend(shelf.failed(*number, Failure::Origin, now));
        }
    }
    for number in left {
        shelf.released(number);
    }
    let standing = shelf.places.values().flat_map(Entry::standing);
    let kept: u64 = standing.map(|standing| standing.room).sum();
    assert_eq!(
        (shelf.used, shelf.fills, shelf.leaving.len()),
        (kept, 0, 0),
        "seed {seed}"
    );
}

/// Somebody begins to read what it was given, if there is something to read.
fn read(readings: &mut Vec<Reading>, fetch: &Fetch, file: Number, range: Spec, if_match: Option<&str>, seed: u64) {
    let tag = format!("\"{}\"", fetch.tag);
    assert!(
        if_match.is_none_or(|wanted| wanted == tag),
        "not the wanted version, seed {seed}"
    );
    let (at, end) = match range.of_length(fetch.len) {
        Slice::Whole => (0, fetch.len),
        Slice::Part(part) => (part.start, part.end),
        Slice::Unsatisfiable => return,
    };
    readings.push(Reading {
        tag: fetch.tag,
        file,
        at,
        end,
    });
}

/// A fill begins: the only one of its object.
fn begun(files: &mut BTreeMap<Number, Fetch>, fill: Number, key: usize, seed: u64) {
    let is_one = !files
        .values()
        .any(|file| file.key == key && !file.is_sealed && !file.is_broken);
    assert!(is_one, "two fills of one object, seed {seed}");
    let fetch = Fetch {
        key,
        tag: 0,
        len: 0,
        watermark: 0,
        is_open: false,
        is_broken: false,
        is_sealed: false,
    };
    assert!(files.insert(fill, fetch).is_none(), "seed {seed}");
}

#[test]
fn in_any_order_of_events_no_node_gets_files_of_two_sets() {
    let mut random = Random::seeded(0x5e75);
    let mut seen = Seen::default();
    for _ in 0..300 {
        boot_while_images_change(random.next(), 1500, &mut seen);
    }
    // It must have come to what it is about.
    assert!(seen.changes > 300, "{seen:?}");
    assert!(seen.booted > 3000 && seen.across > 100 && seen.refused > 10, "{seen:?}");
}

#[test]
#[ignore = "long: cargo test -p bootd --release cache::shelf -- --ignored"]
fn in_a_great_many_orders_no_node_does_either() {
    let mut random = Random::seeded(0x5e75);
    for _ in 0..50_000 {
        boot_while_images_change(random.next(), 1000, &mut Seen::default());
    }
}

/// What came about in simulations.
#[derive(Debug, Default)]
struct Seen {
    changes: usize,
    booted: usize,
    /// Nodes whose files changed between their script and their last file.
    across: usize,
    /// Nodes that had to ask for their script again.
    refused: usize,
}

/// A node on its way through its files.
struct Node {
    script: Epoch,
    given: Instant,
    got: Vec<u64>,
}

/// Somebody writes new images, file by file, shorter apart than [`SETTLES`], while nodes boot, the shell looks after sets, fetches break, and origins
/// are down. The set was here once.
fn boot_while_images_change(seed: u64, events: usize, seen: &mut Seen) {
    let mut random = Random::of(seed);
    let mut now = Instant::now();
    let mut shelf = Shelf::new(Limits {
        // Sometimes there is room for little more than two of them.
        budget: if random.below(2) == 0 { FREE } else { 7 * room_of(PAGE) },
        floor: 0,
        objects: 1000,
        check_each: BETWEEN_CHECKS,
        settles: SETTLES,
    });
    let names = ["kernel", "initramfs", "root"];
    shelf.sets = set(&names);
    let mut origin = [1_u64; 3];
    // Of each fill the file, and the version once its origin said it.
    let mut fills: BTreeMap<Number, (usize, u64)> = BTreeMap::new();
    let mut tags: BTreeMap<Number, u64> = BTreeMap::new();
    let mut checks: Vec<(Number, usize)> = Vec::new();
    let mut nodes: Vec<Node> = Vec::new();
    let mut written = names.len();
    let mut is_up = true;
    for name in names {
        let object = keep(&mut shelf, name, version(1, PAGE), now);
        tags.insert(object, 1);
    }
    for _ in 0..events {
        match random.below(10) {
            // A node powers on.
            0 if nodes.len() < 10 => nodes.push(Node {
                script: shelf.epoch(),
                given: now,
                got: Vec::new(),
            }),
            // A node fetches its next file.
            0..=3 if !nodes.is_empty() => {
                let index = random.below(nodes.len() as u64) as usize;
                let node = &mut nodes[index];
                // The shell forgets of what time a script is.
                if now.duration_since(node.given) >= SCRIPT_LASTS {
                    nodes.swap_remove(index);
                    continue;
                }
                let file = node.got.len();
                match shelf.ask(&place(names[file]), &want_as_of(node.script), now) {
                    Verdict::Kept(kept) => {
                        node.got.push(tags[&kept.object]);
                        fills.extend(kept.renew.map(|fill| (fill, (file, 0))));
                        if kept.check {
                            checks.push((kept.object, file));
                        }
                    }
                    Verdict::Replaced => {
                        seen.refused += 1;
                        nodes.swap_remove(index);
                        continue;
                    }
                    other => panic!("what is kept is served, {other:?}, seed {seed}"),
                }
                assert!(
                    node.got.windows(2).all(|two| two[0] == two[1]),
                    "{:?}, seed {seed}",
                    node.got
                );
                if node.got.len() == names.len() {
                    seen.booted += 1;
                    seen.across += usize::from(node.script < shelf.epoch());
                    nodes.swap_remove(index);
                }
            }
            // Fetches go on by a step.
            4..=5 => {
                let Some((fill, (file, tag))) = fills.pop_first() else {
                    continue;
                };
                if !is_up || random.below(8) == 0 {
                    assert_eq!(shelf.failed(fill, Failure::Origin, now), None);
                } else if tag == 0 {
                    let tag = origin[file];
                    match opened(&mut shelf, fill, version(tag, PAGE), now) {
                        Room::Granted(_) => drop(fills.insert(fill, (file, tag))),
                        Room::Same | Room::None(_) => {}
                    }
                } else {
                    shelf.advanced(fill, PAGE);
                    tags.insert(fill, tag);
                    assert!(matches!(shelf.sealed(fill, now), Sealed::Waits(_)), "seed {seed}");
                }
            }
            // An origin answers.
            6 if !checks.is_empty() => {
                let (object, file) = checks.swap_remove(random.below(checks.len() as u64) as usize);
                let said = match is_up {
                    true => Checked::Has(version(origin[file], PAGE)),
                    false => Checked::Nothing,
                };
                shelf.checked(object, &said, now);
            }
            // The next file of an image is written, or the first one of the next image.
            7 if written < names.len() => {
                origin[written] += 1;
                written += 1;
            }
            7 if random.below(8) == 0 => {
                origin[0] += 1;
                written = 1;
            }
            // The shell looks after sets.
            8 => {
                for due in shelf.due(now) {
                    match due {
                        Due::Check(object) => {
                            let file = names.iter().position(|name| shelf.whose[&object].key == *name);
                            checks.push((object, file.unwrap()));
                        }
                        Due::Fill(place, fill) => {
                            let file = names.iter().position(|name| place.key == *name);
                            fills.insert(fill, (file.unwrap(), 0));
                        }
                    }
                }
                let ready = shelf.ready();
                seen.changes += usize::from(!ready.is_empty());
                shelf.change(&ready, now).unwrap();
                shelf.expired(now);
                for gone in shelf.leaving.keys().copied().collect::<Vec<_>>() {
                    shelf.released(gone);
                }
            }
            9 if !is_up || random.below(20) == 0 => is_up = !is_up,
            _ => {
                // Whoever writes an image does not rest in the middle of it, and no answer takes that long.
                let rest = if written < names.len() || !checks.is_empty() {
                    4
                } else {
                    60
                };
                for file in origin.iter_mut().skip(written) {
                    *file += 1;
                    now += Duration::from_secs(random.below(rest));
                }
                written = names.len();
                now += Duration::from_secs(random.below(rest));
            }
        }
    }
}
