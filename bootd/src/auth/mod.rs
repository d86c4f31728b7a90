//! Who may write, and read what is not a node's business: JSON Web Tokens.
//!
//! The module `check` decides from a token, keys and a time, and touches nothing else. [`Auth`] owns the keys: a pair of its own, made at the first
//! start in `state_dir`, with which [`Auth::mint`] makes short-lived tokens for operators, and those of the site (a JWKS, by file or URL;
//! `site`), looked at again from time to time. A request fetches nothing; one with a key that nobody knows yet may wait a moment for the
//! next look. A token is never logged.

mod check;
mod keys;
mod site;

pub use check::{Refused, Rules};
pub use keys::{Auth, AuthError, Wanted, mistakes};
