//! Artifacts: opened here, whatever they come from.
