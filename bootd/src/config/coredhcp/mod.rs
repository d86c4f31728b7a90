//! Reads a coredhcp.yaml, of every generation in the field, and gives the same as the text of a `bootd.toml` (contract 0, 1 and 7).
//!
//! Pure: text in, text out, no file is touched. What it promises: a file that CoreDHCP takes is taken, apart from what the notes name; a
//! file that is refused is refused with all its mistakes at once; nothing is left out without a note. It knows nothing of how `bootd`
//! serves: what a file means is said in ordinary keys, which conf/bootd.toml explains.

mod bootloop;
mod chain;
mod chain6;
mod coresmd;
mod file;
mod go;
mod listen;
mod merge;
mod rule;
mod stock;
#[cfg(test)]
mod tests;
mod told;
mod words;
mod write;

pub(super) use merge::merged;

use std::fmt;

use super::Mistake;
use chain::Plan;
use told::Told;

/// What a coredhcp.yaml says.
#[derive(Debug, Clone)]
pub struct Understood {
    /// The text of a `bootd.toml` that says the same, with each note beside the key that it is about.
    pub toml: String,
    /// What was understood, changed and ignored.
    pub notes: Vec<Note>,
}

/// A word to the operator about a place of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What became of it.
    pub kind: Kind,
    /// Such as `server4.plugins[4] coresmd rule 2`.
    pub place: String,
    /// In plain words.
    pub text: String,
}

/// What became of a part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is done as CoreDHCP does it.
    Understood,
    /// It is done otherwise, or better.
    Changed,
    /// It is not done.
    Ignored,
}

/// Reads the text of a coredhcp.yaml, or lists all its mistakes, each with its place. Never panics, whatever the text.
pub fn read(text: &str) -> Result<Understood, Vec<Mistake>> {
    let mut told = Told::default();
    let (server4, server6) = file::read(text, &mut told);
    let mut heard = None;
    let mut plan = Plan::default();
    if let Some(server4) = &server4 {
        heard = Some(listen::v4(server4.listen.as_deref(), &mut told));
        let plugins = server4.plugins.iter();
        let steps = plugins.filter_map(|plugin| Some((plugin.place.clone(), stock::v4(plugin, &mut told)?)));
        let steps = steps.collect();
        plan = chain::follow(steps, &mut told);
    }
    let mut six = None;
    if let Some(server6) = &server6 {
        let heard = listen::v6(server6.listen.as_deref(), &mut told);
        let plugins = server6.plugins.iter();
        let steps = plugins.filter_map(|plugin| Some((plugin.place.clone(), stock::v6(plugin, &mut told)?)));
        let steps = steps.collect();
        let four = plan.coresmd.as_ref().map(|(coresmd, _)| coresmd);
        six = Some((chain6::follow(steps, four, &mut told), heard));
    }
    if !told.mistakes.is_empty() {
        return Err(told.mistakes);
    }
    let toml = write::toml(&plan, heard.as_ref(), six.as_ref(), &mut told);
    Ok(Understood {
        toml,
        notes: told.notes.into_iter().map(|about| about.note).collect(),
    })
}

/// The plugins that a coredhcp.yaml may name.
pub fn plugins() -> &'static [&'static str] {
    &stock::NAMES
}

impl Kind {
    /// `understood`, `changed` or `ignored`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Understood => "understood",
            Self::Changed => "changed",
            Self::Ignored => "ignored",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.kind.name(), self.place, self.text)
    }
}
