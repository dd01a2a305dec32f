//! The words of a command line before clap sees them.
//!
//! PASSWORD and PATTERN may be any word, one that looks like an option or a mode too. So they are held aside with
//! stand-ins in their places, and options before PASSWORD are moved behind the mode that knows them.

use std::ffi::OsString;

use clap::{Arg, Command};

/// What stands for PASSWORD and PATTERN while clap parses; no mode and no option.
const STAND_IN: &str = "word";

/// The words of a line, with those that may look like anything held aside.
#[derive(Default)]
pub(super) struct Words {
    /// What clap parses.
    pub(super) line: Vec<OsString>,
    pub(super) password: Option<OsString>,
    pub(super) mode: Option<OsString>,
    pub(super) pattern: Option<OsString>,
    /// The first word behind PATTERN.
    pub(super) extra: Option<OsString>,
    /// An option at the end of the line that lacks its value.
    pub(super) valueless: Option<Arg>,
}

impl Words {
    /// Takes a line apart, the program's name first.
    pub(super) fn set_aside(definition: &Command, words: impl IntoIterator<Item = OsString>) -> Self {
        let mut words = words.into_iter();
        let mut aside = Self { line: words.next().into_iter().collect(), ..Self::default() };
        let mut options = Vec::new();
        while let Some(word) = words.next() {
            match Word::of(definition, &word) {
                Word::Option { wants } => {
                    options.push(word);
                    options.extend(aside.value(wants, &mut words));
                }
                Word::Separator if aside.password.is_none() => aside.password = words.next(),
                _ if aside.password.is_none() => aside.password = Some(word),
                _ => {
                    aside.set_mode(word, options);
                    aside.take_arguments(definition, &mut words);
                    return aside;
                }
            }
        }
        match aside.password.take_if(|word| is_mode(word) && options.iter().any(is_help)) {
            // Who asks for help on a mode need not think of a password.
            Some(mode) => aside.set_mode(mode, options),
            None => aside.line.append(&mut options),
        }
        aside
    }

    fn set_mode(&mut self, mode: OsString, options: Vec<OsString>) {
        self.line.extend([STAND_IN.into(), mode.clone()]);
        self.line.extend(options);
        self.mode = Some(mode);
    }

    /// Takes what follows the mode.
    fn take_arguments(&mut self, definition: &Command, words: &mut dyn Iterator<Item = OsString>) {
        let is_client = self.mode.as_ref().is_some_and(|mode| mode == "client");
        let mut positionals = 0;
        let mut options_may_follow = true;
        while let Some(word) = words.next() {
            match Word::of(definition, &word) {
                Word::Option { wants } if options_may_follow => {
                    self.line.push(word);
                    let value = self.value(wants, words);
                    self.line.extend(value);
                    continue;
                }
                Word::Separator if options_may_follow => {
                    options_may_follow = false;
                    self.line.push(word);
                    continue;
                }
                _ => positionals += 1,
            }
            match positionals {
                2 if is_client => {
                    self.line.push(STAND_IN.into());
                    self.pattern = Some(word);
                }
                3.. if is_client => self.extra = self.extra.take().or(Some(word)),
                _ => self.line.push(word),
            }
        }
    }

    /// The value of an option that wants the next word for it.
    fn value(&mut self, wants: Option<&Arg>, words: &mut dyn Iterator<Item = OsString>) -> Option<OsString> {
        let option = wants?;
        let value = words.next();
        if value.is_none() {
            self.valueless = Some(option.clone());
        }
        value
    }
}

/// Whether a word is the name of a mode.
pub(super) fn is_mode(word: &OsString) -> bool {
    word == "server" || word == "client"
}

fn is_help(word: &OsString) -> bool {
    word == "--help" || word == "-h"
}

/// What a word of the line is, as far as its looks tell.
enum Word<'a> {
    /// One of our options, and if its value is the next word, which one.
    Option { wants: Option<&'a Arg> },
    /// `--`
    Separator,
    /// Anything else.
    Plain,
}

impl<'a> Word<'a> {
    fn of(definition: &'a Command, word: &OsString) -> Self {
        let Some(text) = word.to_str() else { return Self::Plain };
        if text == "--" {
            return Self::Separator;
        }
        let options = || {
            let modes = definition.get_subcommands().flat_map(Command::get_arguments);
            modes.chain(definition.get_arguments()).filter(|option| !option.is_positional())
        };
        let takes_value = |option: &Arg| option.get_action().takes_values();
        if let Some(long) = text.strip_prefix("--") {
            let (name, has_value) = long.split_once('=').map_or((long, false), |(name, _)| (name, true));
            if matches!(name, "help" | "version") && !has_value {
                return Self::Option { wants: None };
            }
            return match options().find(|option| option.get_long() == Some(name)) {
                Some(option) => Self::Option { wants: Some(option).filter(|option| takes_value(option) && !has_value) },
                None => Self::Plain,
            };
        }
        let Some(shorts) = text.strip_prefix('-').filter(|shorts| !shorts.is_empty()) else { return Self::Plain };
        for (at, short) in shorts.char_indices() {
            match options().find(|option| option.get_short() == Some(short)) {
                Some(option) if takes_value(option) => {
                    let is_last = at + short.len_utf8() == shorts.len();
                    return Self::Option { wants: Some(option).filter(|_| is_last) };
                }
                Some(_) => {}
                None if matches!(short, 'h' | 'V') => {}
                None => return Self::Plain,
            }
        }
        Self::Option { wants: None }
    }
}
