//! One timeline per boot attempt: what each node did, what it should do next, and what is wrong when it does not.
//!
//! `event` is what DHCP, TFTP and HTTP tell; `book` knows whose it is, `attempt` what it means, `promise` what a node's own documents say of the rest,
//! `stage` the order and the deadlines, `diagnosis` the words. All of that is pure. `watch` is the thread around it: it takes events from bounded
//! queues, never delays who tells, writes attempts to the store and says what changed to whoever looks.

mod attempt;
mod book;
mod diagnosis;
pub mod event;
mod promise;
mod stage;
#[cfg(test)]
mod tests;
mod view;
mod watch;

pub use attempt::{Attempt, End, Habits, State, Step, Told};
pub use book::{Book, Ended, Limits, Record, Who, World};
pub use diagnosis::{Cause, Diagnosis, size};
pub use event::Event;
pub use promise::Promise;
pub use stage::{Deadlines, Stage};
pub use view::{Boots, Percentiles, Stages, Summary, Tally, Timeline};
pub use watch::{Pen, Watch, WatchError};
