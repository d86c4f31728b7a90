//! A coredhcp.yaml with `server6`.

use super::*;

pub(super) fn cases() -> Vec<Case> {
    Vec::new()
}
