//! The pieces that Python's patterns are made of: tokens, counts, flags, names and escapes.
//!
//! A [`Reader`] never goes back but over a brace that turns out to be an ordinary character.

use std::{collections::HashSet, sync::LazyLock};

use regex::Regex;

use Token::{Escaped, Plain};

/// Why a pattern has no translation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Python refuses it too; `at` counts characters from one.
    Invalid { what: String, at: usize },
    /// Python knows it, the regex crate does not.
    Unsupported(&'static str),
    /// It nests too deep or grows too long.
    TooLarge,
}

/// One unit of Python's grammar: a character or an escaped one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Plain(char),
    Escaped(char),
}

/// Inline flags as a set of bits.
pub(super) type Flags = u8;
pub(super) const IGNORE_CASE: Flags = 1;
pub(super) const MULTI_LINE: Flags = 2;
pub(super) const DOT_ALL: Flags = 4;
pub(super) const VERBOSE: Flags = 8;
pub(super) const ASCII: Flags = 16;
pub(super) const UNICODE: Flags = 32;

/// What an inline flag group does.
pub(super) enum FlagGroup {
    Global(Flags),
    Scoped { on: Flags, off: Flags },
}

/// Reads a pattern from left to right.
pub(super) struct Reader<'a> {
    python: &'a str,
    /// Where the next token begins, in bytes.
    next: usize,
    /// Where the last token began, in bytes.
    last: usize,
    names: HashSet<&'a str>,
}

impl<'a> Reader<'a> {
    /// Begins to read a pattern; refuses one that ends within an escape.
    pub(super) fn new(python: &'a str) -> Result<Self, Flaw> {
        let backslashes = python.len() - python.trim_end_matches('\\').len();
        let reader = Self { python, next: 0, last: python.len().saturating_sub(1), names: HashSet::new() };
        if backslashes.is_multiple_of(2) { Ok(reader) } else { Err(reader.invalid("nothing follows the backslash")) }
    }

    /// Where the token taken last begins; for [`Reader::invalid_at`].
    pub(super) fn place(&self) -> usize {
        self.last
    }

    /// Whether a digit begins an octal escape and not a back-reference.
    pub(super) fn is_octal(&self, first: char) -> bool {
        let rest = &self.python.as_bytes()[self.next..];
        matches!((first, rest), ('0'..='7', [b'0'..=b'7', b'0'..=b'7', ..]))
    }

    /// The next token.
    pub(super) fn peek(&self) -> Option<Token> {
        let mut rest = self.python[self.next..].chars();
        match rest.next()? {
            '\\' => rest.next().map(Escaped),
            character => Some(Plain(character)),
        }
    }

    /// Takes the next token.
    pub(super) fn take(&mut self) -> Option<Token> {
        let token = self.peek()?;
        self.last = self.next;
        self.next += match token {
            Plain(character) => character.len_utf8(),
            Escaped(character) => 1 + character.len_utf8(),
        };
        Some(token)
    }

    /// Takes the next token if it is this character; says whether it was.
    pub(super) fn eat(&mut self, character: char) -> bool {
        let found = self.peek() == Some(Plain(character));
        if found {
            self.take();
        }
        found
    }

    /// Takes at most `most` digits.
    fn digits(&mut self, most: usize, radix: u32) -> &'a str {
        let rest = &self.python[self.next..];
        let length = rest.bytes().take(most).take_while(|&byte| char::from(byte).is_digit(radix)).count();
        self.next += length;
        &rest[..length]
    }

    /// A flaw at the token taken last.
    pub(super) fn invalid(&self, what: impl Into<String>) -> Flaw {
        Flaw::Invalid { what: what.into(), at: self.python[..self.last].chars().count() + 1 }
    }

    /// A flaw at an earlier place.
    pub(super) fn invalid_at(&mut self, place: usize, what: &str) -> Flaw {
        self.last = place;
        self.invalid(what)
    }

    /// How often to repeat, at least and at most; none if the brace is an ordinary character.
    pub(super) fn counts(&mut self, sign: char) -> Result<Option<(u32, Option<u32>)>, Flaw> {
        match sign {
            '*' => return Ok(Some((0, None))),
            '+' => return Ok(Some((1, None))),
            '?' => return Ok(Some((0, Some(1)))),
            _ => {}
        }
        let (brace, after) = (self.last, self.next);
        let low = self.digits(usize::MAX, 10);
        let comma = self.eat(',');
        let high = if comma { self.digits(usize::MAX, 10) } else { low };
        let closed = self.eat('}');
        self.last = brace;
        if !closed || !comma && low.is_empty() {
            self.next = after;
            return Ok(None);
        }
        let (least, most) = (self.count(low)?.unwrap_or(0), self.count(high)?);
        if most.is_some_and(|most| least > most) {
            return Err(self.invalid("the least count is greater than the greatest"));
        }
        Ok(Some((least, most)))
    }

    fn count(&self, digits: &str) -> Result<Option<u32>, Flaw> {
        if digits.is_empty() {
            return Ok(None);
        }
        match digits.parse::<u32>() {
            Ok(count) if count < u32::MAX => Ok(Some(count)),
            _ => Err(self.invalid("the repeat count is too large")),
        }
    }

    /// Reads an inline flag group from its first letter on, up to the colon or the parenthesis.
    pub(super) fn flags(&mut self, first: char) -> Result<FlagGroup, Flaw> {
        let (mut on, mut off, mut letter) = (0, 0, first);
        while letter != '-' {
            on |= self.flag(letter)?;
            if on & (ASCII | UNICODE) == ASCII | UNICODE {
                return Err(self.invalid("the flags a and u exclude each other"));
            }
            letter = match self.take() {
                Some(Plain(')')) => return Ok(FlagGroup::Global(on)),
                Some(Plain(':')) => return Ok(FlagGroup::Scoped { on, off }),
                Some(Plain(letter)) => letter,
                _ => return Err(self.invalid("the flags are unfinished")),
            };
        }
        loop {
            match self.take() {
                Some(Plain(':')) if off != 0 => break,
                Some(Plain(letter)) => off |= self.flag(letter)?,
                _ => return Err(self.invalid("the flags are unfinished")),
            }
        }
        if off & (ASCII | UNICODE) != 0 {
            return Err(self.invalid("the flags a and u cannot be turned off"));
        }
        if on & off != 0 {
            return Err(self.invalid("a flag is turned on and off"));
        }
        Ok(FlagGroup::Scoped { on, off })
    }

    fn flag(&self, letter: char) -> Result<Flags, Flaw> {
        Ok(match letter {
            'i' => IGNORE_CASE,
            'm' => MULTI_LINE,
            's' => DOT_ALL,
            'x' => VERBOSE,
            'a' => ASCII,
            'u' => UNICODE,
            // Python had it until 3.12, for no purpose that it knew of.
            't' => return Err(Flaw::Unsupported("the flag t")),
            _ => return Err(self.invalid("unknown flag")),
        })
    }

    /// Reads the name of a group, from behind `(?P`; names are unique.
    pub(super) fn group_name(&mut self) -> Result<(), Flaw> {
        static IDENTIFIER: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"\A[_\p{XID_Start}]\p{XID_Continue}*\z").expect("a constant"));
        if self.eat('=') {
            return Err(Flaw::Unsupported("a back-reference"));
        }
        if !self.eat('<') {
            return Err(self.invalid("unknown kind of group"));
        }
        let (name, _) = self.python[self.next..]
            .split_once('>')
            .filter(|(name, _)| IDENTIFIER.is_match(name))
            .ok_or_else(|| self.invalid("bad group name"))?;
        if !self.names.insert(name) {
            return Err(self.invalid("two groups have the same name"));
        }
        self.next += name.len() + 1;
        Ok(())
    }

    /// Reads an octal escape whose first digit is taken.
    pub(super) fn octal(&mut self, first: char) -> Result<u32, Flaw> {
        let digits = format!("{first}{}", self.digits(2, 8));
        match u32::from_str_radix(&digits, 8) {
            Ok(point) if point <= 0o377 => Ok(point),
            _ => Err(self.invalid("the octal escape is greater than 377")),
        }
    }

    /// Reads the escapes that mean one character both within and without brackets.
    pub(super) fn escaped_character(&mut self, letter: char) -> Result<u32, Flaw> {
        let length = match letter {
            'a' => return Ok(0x07),
            't' => return Ok(0x09),
            'n' => return Ok(0x0a),
            'v' => return Ok(0x0b),
            'f' => return Ok(0x0c),
            'r' => return Ok(0x0d),
            'N' => return Err(Flaw::Unsupported(r"a character by its name, \N{...}")),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ if letter.is_ascii_alphanumeric() => return Err(self.invalid(format!(r"unknown escape \{letter}"))),
            _ => return Ok(letter.into()),
        };
        let digits = self.digits(length, 16);
        match u32::from_str_radix(digits, 16) {
            Ok(point) if digits.len() == length && point <= 0x0010_ffff => Ok(point),
            _ => Err(self.invalid(format!(r"\{letter} wants {length} hexadecimal digits that name a character"))),
        }
    }
}
