//! Which nodes are asked for, second by second.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::rounds::Rounds;

const HOUR: Duration = Duration::from_secs(3600);

fn ids(numbers: std::ops::Range<usize>) -> BTreeSet<String> {
    numbers.map(|n| format!("x0c0s{n}b0n0")).collect()
}

/// How many are asked for in each second; each is read.
fn paced(rounds: &mut Rounds, from: Duration, seconds: u64) -> Vec<usize> {
    let read = |second| {
        let next = rounds.next(from + Duration::from_secs(second));
        next.iter().for_each(|id| rounds.read(id));
        next.len()
    };
    (0..seconds).map(read).collect()
}

#[test]
fn what_is_not_known_is_asked_for_first_and_then_all_of_it_spread_over_ten_minutes() {
    let mut rounds = Rounds::default();
    assert!(rounds.is_listing_due(HOUR));
    rounds.list(HOUR, ids(0..10), BTreeSet::new());
    assert!(!rounds.is_listing_due(HOUR));
    assert_eq!(paced(&mut rounds, HOUR, 600)[..5], [4, 4, 2, 0, 0]);
    assert_eq!(rounds.unknown(), (0, 10));
    let again = paced(&mut rounds, HOUR + Duration::from_secs(600), 600);
    assert_eq!((again.iter().sum::<usize>(), again.iter().max()), (10, Some(&1)));
}

#[test]
fn never_more_than_a_few_a_second_however_many_nodes_there_are() {
    let mut rounds = Rounds::default();
    rounds.list(HOUR, ids(0..10_000), ids(0..10_000));
    let asked = paced(&mut rounds, HOUR, 2600);
    assert!(asked.iter().max() == Some(&4) && asked.iter().sum::<usize>() > 10_000);
}

#[test]
fn who_asked_in_vain_comes_before_all_others() {
    let mut rounds = Rounds::default();
    rounds.list(HOUR, ids(0..100), BTreeSet::new());
    rounds.want("x0c0s77b0n0");
    rounds.want("x0c0s77b0n0");
    let next = rounds.next(HOUR);
    assert_eq!((next.len(), next[0].as_str()), (4, "x0c0s77b0n0"));
    rounds.list(HOUR, ids(0..101), BTreeSet::new());
    assert_eq!(
        rounds.next(HOUR)[0],
        "x0c0s100b0n0",
        "a new node has its turn in the round that runs"
    );
}

#[test]
fn a_site_that_fails_is_left_alone_for_longer_each_time() {
    let mut rounds = Rounds::default();
    rounds.list(HOUR, ids(0..3), BTreeSet::new());
    let mut now = HOUR;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let next = rounds.next(now);
        assert_eq!(next.len(), 3, "none is forgotten");
        rounds.fail(now, &next[0], next[1..].to_vec());
        let failed = now;
        while !rounds.may_ask("x0c0s0b0n0", now) {
            assert_eq!(rounds.next(now).len(), 0);
            now += Duration::from_secs(1);
        }
        pauses.push((now - failed).as_secs());
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn one_node_that_always_fails_holds_up_no_other() {
    let mut rounds = Rounds::default();
    rounds.list(HOUR, ids(0..100), BTreeSet::new());
    let mut now = HOUR;
    while rounds.unknown().0 > 1 {
        let mut next = rounds.next(now).into_iter();
        while let Some(id) = next.next() {
            if id == "x0c0s0b0n0" {
                rounds.fail(now, &id, next.by_ref().collect());
                rounds.want(&id);
            } else {
                rounds.read(&id);
            }
        }
        now += Duration::from_secs(1);
        assert!(now < HOUR + Duration::from_secs(600), "{:?} are left", rounds.unknown());
    }
}

#[test]
fn what_the_site_refuses_waits_for_the_next_round() {
    let mut rounds = Rounds::default();
    rounds.list(HOUR, ids(0..1), BTreeSet::new());
    assert_eq!(rounds.next(HOUR).len(), 1);
    rounds.refuse("x0c0s0b0n0");
    rounds.want("x0c0s0b0n0");
    assert!(!rounds.may_ask("x0c0s0b0n0", HOUR));
    assert_eq!(paced(&mut rounds, HOUR, 600).iter().sum::<usize>(), 0);
    rounds.again(HOUR);
    assert!(rounds.may_ask("x0c0s0b0n0", HOUR));
    assert_eq!(rounds.next(HOUR).len(), 1);
}
