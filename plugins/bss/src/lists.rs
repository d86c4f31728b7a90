//! Lists of all nodes as finished bytes: who asks again and again gets those that were made, so that boot scripts are not behind them for long.
//!
//! What is kept is of the newest boot parameters, and not older than [`LONGEST`]: the inventory's own changes are not seen here. One list is
//! made at a time; nobody waits for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bootd_sdk::prelude::*;

use crate::book::Book;

/// The lists.
#[derive(Default)]
pub(crate) struct Lists {
    pub(crate) hosts: List,
    pub(crate) dump: List,
    /// Held while one of them is made.
    making: Mutex<()>,
}

/// A list that may have been made.
#[derive(Default)]
pub(crate) struct List(Mutex<Option<Made>>);

/// JSON, and what it is of.
struct Made {
    json: Arc<str>,
    book: Arc<Book>,
    /// When its making began.
    at: Duration,
}

impl Lists {
    /// The list of this book at this time: as it was made just now, else as `make` makes it. 503: one is being made.
    pub(crate) fn answer(
        &self,
        list: &List,
        book: &Arc<Book>,
        now: Duration,
        make: impl FnOnce() -> Result<String, Answer>,
    ) -> Answer {
        if let Some(json) = list.made(book, now) {
            return json_answer(&json);
        }
        let Ok(_making) = self.making.try_lock() else {
            return busy();
        };
        // Somebody may have finished it between the two looks.
        if let Some(json) = list.made(book, now) {
            return json_answer(&json);
        }
        match make() {
            Ok(json) => {
                let answer = json_answer(&json);
                list.keep(Made {
                    json: json.into(),
                    book: Arc::clone(book),
                    at: now,
                });
                answer
            }
            Err(answer) => answer,
        }
    }
}

impl List {
    fn made(&self, book: &Arc<Book>, now: Duration) -> Option<Arc<str>> {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.as_ref()
            .filter(|made| Arc::ptr_eq(&made.book, book) && now.saturating_sub(made.at) < LONGEST)
            .map(|made| Arc::clone(&made.json))
    }

    fn keep(&self, made: Made) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
    }

    /// Lets go of what nobody will get any more: it keeps an old book.
    pub(crate) fn forget_old(&self, now: Duration) {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if made.as_ref().is_some_and(|made| now.saturating_sub(made.at) >= LONGEST) {
            *made = None;
        }
    }
}

fn json_answer(json: &str) -> Answer {
    Answer::new(200, "application/json", json)
}

fn busy() -> Answer {
    let mut answer = Answer::problem(
        503,
        "Service Unavailable",
        "another list of all nodes is being made; ask again",
    );
    answer.headers.push(("retry-after".into(), "1".into()));
    answer
}

/// How old a list may be that is answered.
const LONGEST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(lists: &Lists, book: &Arc<Book>, millis: u64, json: &str) -> String {
        lists
            .answer(&lists.dump, book, Duration::from_millis(millis), || Ok(json.into()))
            .body
    }

    #[test]
    fn a_list_is_made_anew_after_a_second_and_for_another_book() {
        let (lists, book) = (Lists::default(), Arc::new(Book::default()));
        assert_eq!(ask(&lists, &book, 0, "a"), "a");
        assert_eq!(ask(&lists, &book, 999, "b"), "a");
        let other = Arc::new(Book::default());
        assert_eq!(ask(&lists, &other, 999, "c"), "c");
        assert_eq!(ask(&lists, &other, 1998, "d"), "c");
        assert_eq!(ask(&lists, &other, 1999, "e"), "e");
        lists.dump.forget_old(Duration::from_secs(9));
        assert_eq!(Arc::strong_count(&other), 1);
    }

    #[test]
    fn one_list_is_made_at_a_time_and_nobody_waits_for_it() {
        let (lists, book) = (Lists::default(), Arc::new(Book::default()));
        let now = Duration::ZERO;
        let made = lists.answer(&lists.dump, &book, now, || {
            for list in [&lists.dump, &lists.hosts] {
                let busy = lists.answer(list, &book, now, || Ok("second".into()));
                assert_eq!(busy.status, 503);
                assert!(busy.headers.contains(&("retry-after".into(), "1".into())));
            }
            Ok("first".into())
        });
        assert_eq!(made.body, "first");
        assert_eq!(ask(&lists, &book, 1, "second"), "first");
    }

    #[test]
    fn what_could_not_be_made_is_not_kept() {
        let (lists, book) = (Lists::default(), Arc::new(Book::default()));
        let failed = || Err(Answer::problem(500, "Internal Server Error", "no inventory"));
        let answer = lists.answer(&lists.dump, &book, Duration::ZERO, failed);
        assert_eq!(answer.status, 500);
        assert_eq!(ask(&lists, &book, 0, "a"), "a");
    }
}
