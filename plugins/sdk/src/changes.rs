//! How many rows a change adds, removes and changes: what comes and goes at a site leaves a trace in the log.

/// Rows that are others now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// They were not there.
    pub added: usize,
    /// They are gone.
    pub removed: usize,
    /// They say something else.
    pub changed: usize,
}

impl Changes {
    /// One line in the log, when there are any. `rows`: what they are, for people: `groups`. `from`: whose data they are: a URL.
    pub fn log(&self, rows: &str, from: &str) {
        let Self {
            added,
            removed,
            changed,
        } = *self;
        if *self != Self::default() {
            tracing::info!(rows, added, removed, changed, from, "what is mirrored changed");
        }
    }
}
