//! The user's regular expression, in Python's syntax and with the meaning of Python's `re.search`.
//!
//! Letters, digits, word boundaries and case are those of Unicode as the regex crate has them. Peers send patterns to
//! servers, so the work that a pattern makes is bounded: its length, its cost, the size of what it compiles to, and the
//! time of a search, which the regex crate keeps linear in the length of the name.

mod class;
mod glob;
mod size;
mod token;
mod translate;

use std::{fmt, sync::Arc};

use regex::{RegexSet, RegexSetBuilder};

use translate::translate;

/// The longest pattern in bytes.
const MAX_PATTERN_BYTES: usize = 4096;

/// The most that a pattern may cost, see [`size::cost`]; attacks with this much took 9 ms for a name of 255 bytes.
const MAX_COST: usize = 4096;

/// What each part of a pattern costs apart from its regular expression.
const PART_COST: usize = 32;

/// The largest compiled pattern in bytes; `\w` takes about 45,000, and compiling this much about 25 ms.
const MAX_COMPILED_BYTES: usize = 4 << 20;

/// The most memory in bytes for the states that searches remember; with 1 MiB, `\w{1,50}` is searched without them, twenty
/// times as slowly.
const MAX_CACHE_BYTES: usize = 4 << 20;

/// A compiled pattern. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    python: Arc<str>,
    /// The pattern without look-around, and what each look-around looks for.
    parts: RegexSet,
    /// For each part whether it must be found in a name, or must not.
    wanted: Arc<[bool]>,
}

impl Pattern {
    /// Compiles a pattern in Python's syntax; the empty one matches all names.
    pub(crate) fn new(python: &str) -> Result<Self, PatternError> {
        if python.len() > MAX_PATTERN_BYTES {
            return Err(PatternError(format!("it is longer than {MAX_PATTERN_BYTES} bytes")));
        }
        let too_complex = || PatternError("it is too complex".to_owned());
        let parts = translate(python).map_err(|error| error.or_glob(python))?;
        let regexes = parts.iter().map(|part| &part.regex);
        let costs = regexes.clone().map(|regex| size::cost(regex).saturating_add(PART_COST));
        if costs.fold(0, usize::saturating_add) > MAX_COST {
            return Err(too_complex());
        }
        let set = RegexSetBuilder::new(regexes)
            .size_limit(MAX_COMPILED_BYTES)
            .dfa_size_limit(MAX_CACHE_BYTES)
            .build()
            .map_err(|_| too_complex())?;
        let wanted = parts.iter().map(|part| part.is_wanted).collect();
        Ok(Self { python: python.into(), parts: set, wanted })
    }

    /// Whether the pattern matches anywhere in a name.
    ///
    /// Meant for what can be a name: where a text ends in a line feed, Python's `$` also matches before that, and in an
    /// empty one its `\B` matches nothing.
    pub(crate) fn is_found_in(&self, name: &str) -> bool {
        let found = self.parts.matches(name);
        self.wanted.iter().enumerate().all(|(index, &is_wanted)| found.matched(index) == is_wanted)
    }

    /// The pattern as it was given, for other peers.
    pub(crate) fn as_str(&self) -> &str {
        &self.python
    }
}

/// Why a pattern cannot be used. The text completes "could not use the pattern 'X': ".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PatternError(String);

impl PatternError {
    /// Adds what to write instead where the pattern looks like a glob.
    fn or_glob(self, python: &str) -> Self {
        let Some(regex) = glob::to_regex(python) else { return self };
        let hint = if regex.is_empty() { "'' for all names" } else { &format!("'{regex}' instead of the glob") };
        Self(format!("{self}; a pattern is a regular expression, write {hint}"))
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
