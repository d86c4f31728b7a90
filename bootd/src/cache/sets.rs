//! Which files belong together: those that one boot script names, and those of scripts that share one of them.
//!
//! A changed file of a set goes into service together with all others of it: when each that changed at its origin is here, complete, and each
//! origin has said again, after nothing changed for [`SETTLES`], that it has these. Until then everyone gets the versions before. A client that was
//! given its script before such a change, and fetches its files after it, gets the versions before, too, for [`SCRIPT_LASTS`]; when they are not
//! here any more it is refused, and has to ask for its script again. So no node gets the kernel of one set and the initramfs of another.
//!
//! Not promised: where an image is written in parts that are further apart than [`SETTLES`], or a script's files are not here when it is given (what
//! is fetched then is what the origin has then); for clients behind one address, of which the last one's script counts; after a restart, for
//! who has a script from before it. Sets are known from the warmer: without `cache.warm` each file is alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::shelf::Place;

/// The number of a change: all versions that go into service in the same moment have the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(u64);

impl Epoch {
    /// The change after it.
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The sets.
#[derive(Debug, Default)]
pub(super) struct Sets {
    /// `None`: they will be known, and are not yet.
    known: Option<Vec<Vec<Place>>>,
    /// In which one each place is.
    places: BTreeMap<Place, usize>,
}

impl Sets {
    /// There are none.
    pub(super) fn none() -> Self {
        Self::of(Vec::new())
    }

    /// Those of scripts, joined where they share a file.
    pub(super) fn of(scripts: Vec<Vec<Place>>) -> Self {
        let mut joined: Vec<BTreeSet<Place>> = Vec::new();
        let mut places: BTreeMap<Place, usize> = BTreeMap::new();
        for script in scripts {
            let mut into = joined.len();
            let touched: BTreeSet<usize> = script.iter().filter_map(|place| places.get(place).copied()).collect();
            joined.push(script.into_iter().collect());
            for other in touched {
                // The smaller one moves.
                let (from, to) = match (joined.get(other), joined.get(into)) {
                    (Some(one), Some(two)) if one.len() > two.len() => (into, other),
                    _ => (other, into),
                };
                let moved = joined.get_mut(from).map(std::mem::take).unwrap_or_default();
                for place in &moved {
                    places.insert(place.clone(), to);
                }
                if let Some(set) = joined.get_mut(to) {
                    set.extend(moved);
                }
                into = to;
            }
            for place in joined.get(into).into_iter().flatten() {
                places.entry(place.clone()).or_insert(into);
            }
        }
        Self {
            known: Some(joined.into_iter().map(|set| set.into_iter().collect()).collect()),
            places,
        }
    }

    /// Whether it is known by now which files belong together.
    pub(super) fn are_known(&self) -> bool {
        self.known.is_some()
    }

    /// Whether it is in a set.
    pub(super) fn has(&self, place: Option<&Place>) -> bool {
        place.is_some_and(|place| self.places.contains_key(place))
    }

    /// All that change together with it, in order.
    pub(super) fn of_place<'s>(&'s self, place: &'s Place) -> Vec<&'s Place> {
        let set = self.places.get(place).and_then(|at| self.known.as_ref()?.get(*at));
        set.map_or(vec![place], |set| set.iter().collect())
    }
}

/// How long nothing of a set may have changed at the origins: who writes a new image writes its files one after the other.
pub(super) const SETTLES: Duration = Duration::from_secs(15);
/// How long a script counts, and the versions of its files stay; a node that takes longer from its script to its last file gets that as it is then.
pub(super) const SCRIPT_LASTS: Duration = Duration::from_secs(600);
/// Clients of which it is known as of when their script is; the longest unheard go first.
pub(super) const MOST_SCRIPTS: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn places(keys: &str) -> Vec<Place> {
        let of = |key: &str| Place {
            bucket: "b".into(),
            key: key.into(),
        };
        keys.split(' ').map(of).collect()
    }

    fn together(sets: &Sets, key: &str) -> String {
        let place = places(key).remove(0);
        let keys: Vec<&str> = sets.of_place(&place).iter().map(|place| &*place.key).collect();
        keys.join(" ")
    }

    #[test]
    fn files_of_one_script_belong_together_and_those_of_scripts_that_share_one() {
        let sets = Sets::of(
            ["k1 i1 r1", "k2 i2 r2", "k3 i3", "k2 i4", "k5 r1", "i4 k3"]
                .map(places)
                .into(),
        );
        assert_eq!(together(&sets, "i1"), "i1 k1 k5 r1");
        assert_eq!(together(&sets, "k5"), "i1 k1 k5 r1");
        for key in ["k2", "i2", "r2", "k3", "i3", "i4"] {
            assert_eq!(together(&sets, key), "i2 i3 i4 k2 k3 r2", "{key}");
        }
        assert_eq!(together(&sets, "alone"), "alone");
        assert!(sets.has(places("k3").first()) && !sets.has(places("alone").first()));
        assert!(sets.are_known() && Sets::none().are_known() && !Sets::default().are_known());
    }
}
