//! What a row must be.
