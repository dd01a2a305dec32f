//! The user's regular expression, with the meaning that Python 3's `re.search` gives it on text.
//!
//! Strangers who know the password send patterns to servers, so that the work a pattern makes is bounded here: its
//! length, its nest, the size of what it compiles to, and by the regex crate the time of a search, which is linear in the name.

mod characters;
mod tokens;
mod translate;

use std::{fmt, sync::Arc};

use regex::{Regex, RegexBuilder};

use characters::guard;
use tokens::Flaw;
use translate::translate;

/// The longest pattern in bytes.
const MAX_PATTERN_BYTES: usize = 4096;

/// The largest compiled pattern in bytes; `\w` takes about 45,000 and compiling this much about 15 ms.
const MAX_COMPILED_BYTES: usize = 4 << 20;

/// The most memory in bytes that a search may use to remember states.
const MAX_CACHE_BYTES: usize = 1 << 20;

/// The deepest nest that the regex crate takes, of groups and all else; a group of ours is at most five levels there.
const MAX_REGEX_NEST: u32 = 250;

/// A compiled pattern. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    python: Arc<str>,
    /// None matches all names.
    regex: Option<Regex>,
    guarded: bool,
}

impl Pattern {
    /// Compiles a pattern in Python's syntax; the empty one matches all names.
    pub(crate) fn new(python: &str) -> Result<Self, BadPattern> {
        if python.is_empty() {
            return Ok(Self { python: python.into(), regex: None, guarded: false });
        }
        if python.len() > MAX_PATTERN_BYTES {
            return Err(BadPattern(Cause::TooLong));
        }
        let translation = translate(python).map_err(|flaw| BadPattern::new(python, flaw))?;
        let regex = RegexBuilder::new(&translation.regex)
            .size_limit(MAX_COMPILED_BYTES)
            .dfa_size_limit(MAX_CACHE_BYTES)
            .nest_limit(MAX_REGEX_NEST)
            .build()
            .map_err(|_| BadPattern(Cause::TooLarge))?;
        Ok(Self { python: python.into(), regex: Some(regex), guarded: translation.guarded })
    }

    /// Whether the pattern matches anywhere in a name.
    ///
    /// Exact for all that can be a name: where a text ends in a line feed, Python's `$` also matches before that, and in
    /// an empty one its `\B` matches nothing.
    pub(crate) fn is_found_in(&self, name: &str) -> bool {
        match &self.regex {
            None => true,
            Some(regex) if self.guarded => regex.is_match(&guard(name)),
            Some(regex) => regex.is_match(name),
        }
    }

    /// The pattern as it was given, for other peers.
    pub(crate) fn as_str(&self) -> &str {
        &self.python
    }
}

/// Why a pattern cannot be used. The text completes "could not use the pattern 'X': ".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadPattern(Cause);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    TooLong,
    TooLarge,
    Unsupported(&'static str),
    Invalid { what: String, at: usize, instead: Option<String> },
}

impl BadPattern {
    fn new(python: &str, flaw: Flaw) -> Self {
        Self(match flaw {
            Flaw::TooLarge => Cause::TooLarge,
            Flaw::Unsupported(what) => Cause::Unsupported(what),
            Flaw::Invalid { what, at } => Cause::Invalid { what, at, instead: from_glob(python) },
        })
    }
}

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::TooLong => write!(f, "it is longer than {MAX_PATTERN_BYTES} bytes"),
            Cause::TooLarge => f.write_str("it is too complex"),
            Cause::Unsupported(what) => write!(f, "it uses {what}, which is not supported here"),
            Cause::Invalid { what, at, instead } => {
                write!(f, "{what} at character {at}")?;
                match instead.as_deref() {
                    Some("") => f.write_str("; a pattern is a regular expression, write '' for all names"),
                    Some(regex) => {
                        write!(f, "; a pattern is a regular expression, write '{regex}' instead of the glob")
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

/// The regular expression that finds what a glob would: `\.txt$` for `*.txt`, and the empty one for `*`.
fn from_glob(glob: &str) -> Option<String> {
    let is_ordinary = |c: char| c.is_alphanumeric() || " -_.,~@%&=:;#!*?[]{}".contains(c);
    if !glob.contains(['*', '?']) || !glob.chars().all(is_ordinary) {
        return None;
    }
    let middle = glob.trim_matches('*');
    if middle.is_empty() {
        return Some(String::new());
    }
    let mut regex = String::new();
    let (mut in_class, mut in_choice) = (false, false);
    for character in middle.chars() {
        match character {
            '[' | ']' => in_class = character == '[',
            '{' | '}' => in_choice = character == '{',
            _ => {}
        }
        match character {
            '!' if regex.ends_with('[') => regex.push('^'),
            _ if in_class => regex.push(character),
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '.' => regex.push_str(r"\."),
            '{' => regex.push('('),
            '}' => regex.push(')'),
            ',' if in_choice => regex.push('|'),
            _ => regex.push(character),
        }
    }
    let start = if glob.starts_with('*') { "" } else { "^" };
    let end = if glob.ends_with('*') { "" } else { "$" };
    Some(format!("{start}{regex}{end}")).filter(|regex| translate(regex).is_ok())
}

#[cfg(test)]
mod tests;
