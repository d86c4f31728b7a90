//! Options of several scopes, merged by code.
//!
//! The options of a scope are encoded once: with the configuration, or, a node's own, with the snapshot. A packet takes from each scope what
//! it has, the later scope wins, and what is left is copied. Nothing is allocated. Pure.

use dhcproto::v4::OptionCode;

use crate::config::{DhcpOption, OptionSet};

/// The options of all scopes that count for a client.
#[derive(Clone)]
pub(super) struct Scopes<'a> {
    by_code: [Option<&'a DhcpOption>; 256],
    /// A bit for each code that is there, so that nobody looks at 256 places.
    there: [u64; 4],
}

impl Default for Scopes<'_> {
    fn default() -> Self {
        Self {
            by_code: [None; 256],
            there: [0; 4],
        }
    }
}

impl<'a> Scopes<'a> {
    /// Adds a scope, which wins over those before it.
    pub(super) fn add(&mut self, scope: &'a OptionSet) {
        for option in scope.iter() {
            let code = usize::from(option.code);
            self.by_code[code] = Some(option);
            self.there[code / 64] |= 1 << (code % 64);
        }
    }

    /// The option with this code.
    pub(super) fn get(&self, code: OptionCode) -> Option<&'a DhcpOption> {
        self.by_code[usize::from(u8::from(code))]
    }

    /// The first code that is there, from this one on.
    pub(super) fn next_from(&self, code: u8) -> Option<u8> {
        let (mut word, bit) = (usize::from(code) / 64, code % 64);
        let mut left = self.there[word] & (u64::MAX << bit);
        while left == 0 {
            word += 1;
            left = *self.there.get(word)?;
        }
        u8::try_from(word * 64 + left.trailing_zeros() as usize).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::When;

    #[test]
    fn codes_come_ascending_and_each_once() {
        let codes = [1, 63, 64, 65, 127, 128, 254];
        let mut set = OptionSet::default();
        for code in codes {
            set.set(DhcpOption::new(code, When::Always, &[code]));
        }
        let mut scopes = Scopes::default();
        scopes.add(&set);
        scopes.add(&set);
        let mut found = Vec::new();
        let mut next = 0;
        while let Some(code) = scopes.next_from(next) {
            found.push(code);
            next = code + 1;
        }
        assert_eq!(found, codes);
    }
}
