//! The order of an upgrade, and what is taken back when a step fails.

/// What the old process does, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Has the new binary look at the configuration.
    Check,
    /// Starts it, with the sockets and a copy of the store.
    Start,
    /// Waits until it answers known nodes.
    Ready,
    /// Has DHCP rest, and accepts no connections.
    Pause,
    /// Closes the store and the cache folder, and says so.
    Release,
    /// Waits until the new process serves.
    Serving,
}

/// What is done when a step failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Back {
    /// Ends the new process.
    Kill,
    /// Opens the store and the cache folder again.
    Reopen,
    /// Has DHCP go on, and accepts connections.
    GoOn,
}

/// One side of an upgrade.
pub(super) trait Acts {
    type Error;

    fn act(&mut self, step: Step) -> Result<(), Self::Error>;

    fn take_back(&mut self, back: Back);
}

/// Takes all steps, or none.
pub(super) fn run<A: Acts>(acts: &mut A) -> Result<(), A::Error> {
    for step in ALL {
        if let Err(error) = acts.act(step) {
            after(step).for_each(|back| acts.take_back(back));
            return Err(error);
        }
    }
    Ok(())
}

/// What is taken back when this step failed, itself half done maybe. The new process first: it may have the files by then.
fn after(failed: Step) -> impl Iterator<Item = Back> {
    let undone_by = [
        (Step::Start, Back::Kill),
        (Step::Release, Back::Reopen),
        (Step::Pause, Back::GoOn),
    ];
    undone_by
        .into_iter()
        .filter_map(move |(step, back)| (step <= failed).then_some(back))
}

const ALL: [Step; 6] = [
    Step::Check,
    Step::Start,
    Step::Ready,
    Step::Pause,
    Step::Release,
    Step::Serving,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Noted {
        fails_at: Option<Step>,
        acted: Vec<Step>,
        back: Vec<Back>,
    }

    impl Acts for Noted {
        type Error = Step;

        fn act(&mut self, step: Step) -> Result<(), Step> {
            self.acted.push(step);
            match self.fails_at == Some(step) {
                true => Err(step),
                false => Ok(()),
            }
        }

        fn take_back(&mut self, back: Back) {
            self.back.push(back);
        }
    }

    #[test]
    fn what_succeeds_takes_nothing_back() {
        let mut noted = Noted::default();
        assert_eq!(run(&mut noted), Ok(()));
        assert_eq!((&noted.acted[..], &noted.back[..]), (&ALL[..], &[][..]));
    }

    #[test]
    fn a_failure_takes_back_what_was_done_until_then_and_ends_the_new_process_before_its_files_are_opened() {
        use Back::{GoOn, Kill, Reopen};
        for (step, back) in [
            (Step::Check, &[][..]),
            (Step::Start, &[Kill]),
            (Step::Ready, &[Kill]),
            (Step::Pause, &[Kill, GoOn]),
            (Step::Release, &[Kill, Reopen, GoOn]),
            (Step::Serving, &[Kill, Reopen, GoOn]),
        ] {
            let mut noted = Noted {
                fails_at: Some(step),
                ..Noted::default()
            };
            assert_eq!(run(&mut noted), Err(step));
            assert_eq!(noted.acted.last(), Some(&step));
            assert_eq!(noted.back, back, "{step:?}");
        }
    }
}
