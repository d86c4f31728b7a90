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
fn what_the_site_refuses_is_asked_for_again_soon_and_then_less_and_less_often() {
    for known in [BTreeSet::new(), ids(0..1)] {
        let mut rounds = Rounds::default();
        rounds.list(HOUR, ids(0..1), known);
        let (mut asked, mut now) = (Vec::new(), HOUR);
        while now < HOUR * 2 {
            if !rounds.next(now).is_empty() {
                asked.push((now - HOUR).as_secs());
                rounds.refuse(now, "x0c0s0b0n0");
                rounds.want("x0c0s0b0n0");
                assert!(!rounds.may_ask("x0c0s0b0n0", now));
            }
            now += Duration::from_secs(1);
        }
        assert_eq!(asked, [0, 5, 15, 35, 75, 155, 315, 635, 1235, 1835, 2435, 3035]);
        rounds.ask_again(now);
        assert!(rounds.may_ask("x0c0s0b0n0", now));
        assert_eq!(rounds.next(now).len(), 1);
        rounds.refuse(now, "x0c0s0b0n0");
        rounds.again(now);
        assert_eq!(rounds.next(now).len(), 1);
        rounds.read("x0c0s0b0n0");
        assert_eq!(
            paced(&mut rounds, now + Duration::from_secs(1), 500)
                .iter()
                .sum::<usize>(),
            0
        );
    }
}

#[test]
fn however_many_are_refused_others_have_their_turn() {
    let mut rounds = Rounds::default();
    rounds.list(HOUR, ids(0..1000), BTreeSet::new());
    let mut now = HOUR;
    while rounds.unknown().0 > 900 {
        let next = rounds.next(now);
        assert!(next.len() <= 4, "{next:?}");
        for id in next {
            match id.trim_end_matches("b0n0").ends_with('7') {
                true => rounds.read(&id),
                false => rounds.refuse(now, &id),
            }
        }
        now += Duration::from_secs(1);
        assert!(now < HOUR + Duration::from_secs(600), "{:?} are left", rounds.unknown());
    }
}

#[test]
fn a_refused_node_for_which_the_site_then_fails_holds_up_no_other() {
    let mut rounds = Rounds::default();
    rounds.list(HOUR, ids(0..3), BTreeSet::new());
    let mut now = HOUR;
    rounds.refuse(now, "x0c0s0b0n0");
    while rounds.unknown().0 > 1 {
        let mut next = rounds.next(now).into_iter();
        while let Some(id) = next.next() {
            match id.as_str() {
                "x0c0s0b0n0" => rounds.fail(now, &id, next.by_ref().collect()),
                _ if now < HOUR + Duration::from_secs(10) => rounds.fail(now, &id, next.by_ref().collect()),
                _ => rounds.read(&id),
            }
        }
        now += Duration::from_secs(1);
        assert!(now < HOUR + Duration::from_secs(600), "{:?} are left", rounds.unknown());
    }
}

#[test]
fn what_is_known_of_a_node_that_left_goes_after_two_rounds_and_not_with_the_whole_inventory() {
    let mut rounds = Rounds::default();
    let mut now = HOUR;
    let mut list = |seconds, nodes: std::ops::Range<usize>| {
        now += Duration::from_secs(seconds);
        rounds.list(now, ids(nodes), ids(0..3));
        rounds.gone(now)
    };
    assert_eq!(list(0, 0..3), [""; 0]);
    assert_eq!(list(300, 0..2), [""; 0]);
    assert_eq!(list(1100, 0..2), [""; 0]);
    assert_eq!(list(100, 0..2), ["x0c0s2b0n0"]);
    assert_eq!(list(100, 0..3), [""; 0], "it came back");
    assert_eq!(list(300, 0..1), [""; 0]);
    assert_eq!(list(2000, 0..0), [""; 0], "none is left: that is something else");
    assert_eq!(list(2000, 0..1), [""; 0]);
    assert_eq!(list(1200, 0..1), ["x0c0s1b0n0", "x0c0s2b0n0"]);
}
