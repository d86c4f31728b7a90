//! The words that SMD knows for the fields of a component (contract 2.3): read in any case, kept and written in one.

use serde::{Deserialize, Deserializer, Serialize};

pub(crate) const STATES: &[&str] = &["Unknown", "Empty", "Populated", "Off", "On", "Standby", "Halt", "Ready"];
pub(crate) const FLAGS: &[&str] = &["Unknown", "OK", "Warning", "Alert", "Locked"];
pub(crate) const ROLES: &[&str] = &["Compute", "Service", "System", "Application", "Storage", "Management"];
pub(crate) const SUB_ROLES: &[&str] = &["Master", "Worker", "Storage"];
pub(crate) const NET_TYPES: &[&str] = &["Sling", "Infiniband", "Ethernet", "OEM", "None"];
pub(crate) const ARCHS: &[&str] = &["X86", "ARM", "UNKNOWN", "Other"];
pub(crate) const CLASSES: &[&str] = &["River", "Mountain", "Hill"];

/// The spelling that the list has.
pub(crate) fn canonical(list: &'static [&'static str], text: &str) -> Option<&'static str> {
    list.iter().find(|word| word.eq_ignore_ascii_case(text)).copied()
}

/// A word of a list above; empty: none. As small as it can be, for there is one in each field of each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Word(pub(crate) &'static str);

impl Word {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Word {
    /// What a row in the store says. A word that this version does not know is none.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let lists = [STATES, FLAGS, NET_TYPES, ARCHS, CLASSES];
        // Exact, since `Unknown` and `UNKNOWN` are words of different lists.
        let word = lists.iter().flat_map(|list| list.iter()).find(|word| ***word == text);
        Ok(Self(word.copied().unwrap_or_default()))
    }
}

/// Whether a component may go from this state to that one unforced (contract 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transition {
    /// It may.
    Allowed,
    /// Not from this state: it is left as it is.
    Skipped,
    /// Never without `Force`.
    OnlyForced,
}

pub(crate) fn transition(from: &str, to: &str) -> Transition {
    let starts: &[&str] = match to {
        "Off" => &["Off", "On", "Standby", "Halt", "Ready"],
        "On" => &["On", "Off", "Standby", "Halt"],
        "Standby" => &["Standby", "Ready"],
        "Halt" => &["Halt", "Ready"],
        "Ready" => &["Ready", "On", "Off", "Standby", "Halt"],
        _ => return Transition::OnlyForced,
    };
    if starts.contains(&from) {
        Transition::Allowed
    } else {
        Transition::Skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_in_any_case() {
        assert_eq!(canonical(STATES, "rEADY"), Some("Ready"));
        assert_eq!(canonical(ARCHS, "unknown"), Some("UNKNOWN"));
        assert_eq!(canonical(CLASSES, "Creek"), None);
    }

    #[test]
    fn a_state_changes_only_where_the_contract_lets_it() {
        assert_eq!(transition("Off", "On"), Transition::Allowed);
        assert_eq!(transition("Ready", "On"), Transition::Skipped);
        assert_eq!(transition("Standby", "Halt"), Transition::Skipped);
        assert_eq!(transition("On", "Empty"), Transition::OnlyForced);
    }
}
