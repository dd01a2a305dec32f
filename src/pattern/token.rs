//! Reads what Python's patterns are made of, from left to right and never back.

use std::{fmt, sync::LazyLock};

use regex::Regex;

use super::PatternError;

/// One token: how a group begins, a class, a repeat, an escape or a character.
static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
    let token = r"(?sx) \A(?:
        \(\?[imsxau]*(?:-[imsx]+)?: | \(\?[imsxau]+\) | \(\?P<[_\p{XID_Start}]\p{XID_Continue}*> | \(\?P= | \(\?<?[=!] | \(\?[(>] | \(\??
        | \[\^?\]?(?:[^\]\\]|\\.)*\]
        | (?:[*+?]|\{[0-9]+\}|\{[0-9]*,[0-9]*\})[+?]?
        | \\(?:x[[:xdigit:]]{2}|u[[:xdigit:]]{4}|U[[:xdigit:]]{8}|0[0-7]{0,2}|[1-7][0-7]{2}|.)
        | . )";
    Regex::new(token).expect("a constant")
});

/// What means nothing: comments.
static IGNORED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?s)\A(?:\(\?#(?:[^)\\]|\\.)*\))*").expect("a constant"));

/// What means nothing if the flag `x` holds: white space, and the rest of a line after `#`, too.
static IGNORED_IF_VERBOSE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?s)\A(?:\(\?#(?:[^)\\]|\\.)*\)|[ \t-\r]|#(?:[^\n\\]|\\.)*)*").expect("a constant"));

/// The tokens of a pattern.
#[derive(Default)]
pub(super) struct Tokens<'a> {
    pub(super) python: &'a str,
    /// Where the token taken last begins, in bytes.
    pub(super) last: usize,
    /// Where the next token begins, in bytes.
    next: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(python: &'a str) -> Self {
        Self { python, ..Self::default() }
    }

    /// Takes the next token.
    pub(super) fn take(&mut self, is_verbose: bool) -> Option<&'a str> {
        self.skip_ignored(is_verbose);
        let token = TOKEN.find(self.rest())?.as_str();
        self.last = self.next;
        self.next += token.len();
        Some(token)
    }

    /// Goes over what means nothing.
    pub(super) fn skip_ignored(&mut self, is_verbose: bool) {
        let ignored = if is_verbose { &IGNORED_IF_VERBOSE } else { &IGNORED };
        self.next += ignored.find(self.rest()).map_or(0, |ignored| ignored.len());
    }

    /// What is still to be read.
    pub(super) fn rest(&self) -> &'a str {
        &self.python[self.next..]
    }

    /// The error that something is wrong with the token taken last.
    pub(super) fn error(&self, what: impl fmt::Display) -> PatternError {
        self.error_at(self.last, what)
    }

    /// The error that something is wrong at an earlier place. In its text places count characters from one.
    pub(super) fn error_at(&self, place: usize, what: impl fmt::Display) -> PatternError {
        PatternError(format!("{what} at character {}", self.python[..place].chars().count() + 1))
    }
}
