//! What is wrong with a command line, in one line and in the words of the usage: clap's own texts take several lines
//! and speak of arguments and subcommands.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::escape::Escaped;

use super::words::{self, Words};

/// What is wrong with a line that clap refuses, or would if it knew of PASSWORD and PATTERN.
pub(super) fn describe(words: &Words, refusal: Option<&clap::Error>) -> Option<String> {
    if let Some(option) = &words.valueless {
        return Some(missing_value(&option.to_string()));
    }
    let Some(password) = &words.password else {
        return Some("PASSWORD is missing, and behind it server or client".to_owned());
    };
    match &words.mode {
        Some(mode) if words::is_mode(mode) => {}
        _ if words::is_mode(password) => return Some(format!("PASSWORD is missing before {}", password.display())),
        None => return Some("the mode is missing: server or client is wanted behind PASSWORD".to_owned()),
        Some(mode) => {
            let mode = mode.to_string_lossy();
            // Not shown here, for it may be a good password.
            let is_like_option = password.len() > 1 && password.as_encoded_bytes().starts_with(b"-");
            let hint = if is_like_option { " (an option that is none of ours was taken for it)" } else { "" };
            return Some(format!("'{}' is no mode: server or client is wanted behind PASSWORD{hint}", Escaped(&mode)));
        }
    }
    let text = refusal.map(describe_refusal);
    text.or_else(|| {
        let (pattern, extra) = (words.pattern.as_ref()?.to_string_lossy(), words.extra.as_ref()?.to_string_lossy());
        let (pattern, extra) = (Escaped(&pattern), Escaped(&extra));
        Some(format!(
            "one word too many behind PATTERN '{pattern}': '{extra}' (quote PATTERN, or the shell expands it to names)"
        ))
    })
}

fn describe_refusal(refusal: &clap::Error) -> String {
    let text = |kind| match refusal.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        _ => String::new(),
    };
    let argument = text(ContextKind::InvalidArg);
    let value = text(ContextKind::InvalidValue);
    let cause = refusal.source().map(ToString::to_string).unwrap_or_default();
    match refusal.kind() {
        ErrorKind::MissingRequiredArgument => {
            let names: Vec<String> = argument.split(' ').map(bare).collect();
            let verb = if names.len() == 1 { "is" } else { "are" };
            format!("{} {verb} missing", names.join(" and "))
        }
        ErrorKind::InvalidValue if value.is_empty() => missing_value(&argument),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let name = argument.split(' ').next().unwrap_or_default();
            format!("unusable {} '{}': {}", bare(name), Escaped(&value), Escaped(&cause))
        }
        ErrorKind::UnknownArgument => format!("'{}' is no option of this mode", Escaped(&argument)),
        ErrorKind::TooManyValues => format!("{argument} takes no value"),
        ErrorKind::ArgumentConflict => {
            format!("{argument} and {} exclude each other", text(ContextKind::PriorArg))
        }
        _ => {
            let text = refusal.to_string();
            let line = text.trim_start_matches("error: ").lines().next().unwrap_or_default();
            Escaped(line).to_string()
        }
    }
}

/// What is missing of `--option <VALUE>`.
fn missing_value(option: &str) -> String {
    let (option, value) = option.split_once(' ').unwrap_or((option, "a value"));
    format!("{} is missing behind {option}", bare(value))
}

/// The name of an argument as the usage writes it, without the signs that clap puts around it.
fn bare(name: &str) -> String {
    name.trim_matches(|sign| "<>[].".contains(sign)).to_owned()
}
