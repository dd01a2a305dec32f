//! Says in one line what is wrong with a command line; clap's own texts take several.
//!
//! Invariant: what the line repeats of the command line is escaped.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::escape::Escaped;

use super::is_mode;

/// What is wrong where no mode was given.
pub(super) const NO_MODE: &str = "expected server or client after PASSWORD";

/// Describes an error of clap's on a command line of these words.
pub(super) fn describe(mut error: clap::Error, words: &[OsString]) -> String {
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg)
    {
        let is_after_mode = words.iter().skip_while(|word| !is_mode(word)).any(|other| other == &**word);
        let shown = Escaped(word);
        return if word.starts_with('-') {
            format!("unknown option '{shown}'")
        } else if is_after_mode {
            format!("unexpected argument after PATTERN: '{shown}' (quote PATTERN, or the shell expands it)")
        } else {
            format!("{NO_MODE}, not '{shown}'")
        };
    }
    let context: Vec<_> = error.context().map(|(kind, value)| (kind, value.clone())).collect();
    for (kind, value) in context {
        if let ContextValue::String(text) = value {
            error.insert(kind, ContextValue::String(Escaped(&text).to_string()));
        }
    }
    let text = error.to_string();
    let summary = text.split("\n\n").next().unwrap_or_default();
    let lines: Vec<_> = summary.trim_start_matches("error: ").lines().map(str::trim).collect();
    lines.join(" ")
}

/// Adds where to read more.
pub(super) fn with_hint(text: &str, mode: Option<&str>) -> String {
    let mode = mode.map(|mode| format!(" {mode}")).unwrap_or_default();
    format!("{text}; see tinyp2p{mode} --help")
}
