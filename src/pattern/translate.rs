//! Python's regular expressions, rewritten token by token in the syntax of the regex crate.
//!
//! What comes out matches exactly the names in which Python 3 (3.11 and later) finds the pattern; what cannot be said in the regex
//! crate is a [`Flaw`]. Only whether there is a match counts, never where: groups capture nothing and lazy repeats
//! are written as greedy ones.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write,
    sync::LazyLock,
};

use regex::Regex;

/// The deepest nest of groups; each level costs the compiler stack.
const MAX_NEST: usize = 50;

/// The most that a pattern may weigh, repeats multiplied out; a search takes at most this many steps a byte of the name.
const MAX_WEIGHT: usize = 4096;

/// What a Unicode category weighs, where a character weighs one: the time to compile it, roughly.
const CATEGORY_WEIGHT: usize = 16;

/// How many bytes of a translated class weigh as much as a character.
const BYTES_PER_WEIGHT: usize = 16;

/// The characters that Python's `\w` and `\b` take for part of a word, written for the inside of brackets.
const WORD: &str = r"\p{L}\p{N}_";

/// Where the two disagree on what is part of a word: marks and joiners are to the regex crate, `²` and `½` are to Python.
const DISPUTED: &str = r"[\w~~[\p{L}\p{N}_]]";

/// Stands on both sides of a disputed character that Python takes for part of a word; the regex crate's `\w` holds it.
const WORD_GUARD: char = '\u{301}';

/// Stands on both sides of any other disputed character; the regex crate's `\w` does not hold it.
const OTHER_GUARD: char = '²';

/// Both guards, written for the inside of brackets.
const GUARDS: &str = r"\x{301}\x{b2}";

/// No character beyond this one has another case.
const LAST_CASED: char = '\u{1e943}';

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

/// A pattern in the syntax of the regex crate.
pub(super) struct Translation {
    pub(super) regex: String,
    /// Whether names must pass [`guard`] before they are searched.
    pub(super) guarded: bool,
}

/// Translates a pattern.
pub(super) fn translate(python: &str) -> Result<Translation, Flaw> {
    let plain = Translator::new(python, false).run()?;
    if !plain.has_boundary {
        return Ok(Translation { regex: plain.regex, guarded: false });
    }
    let guarded = Translator::new(python, true).run()?;
    // Anchored, so that no search begins between a character and its guard.
    Ok(Translation { regex: format!(r"\A(?s:[^{GUARDS}]|[{GUARDS}].[{GUARDS}])*(?:{})", guarded.regex), guarded: true })
}

/// Prepares a name for a pattern with `\b` or `\B`, which in the regex crate are bound to its own idea of a word.
///
/// Each disputed character gets guards on both sides for which that idea is Python's idea of the character. A guarded
/// pattern steps over a character and its guards at once, so that it never looks at the places within.
pub(super) fn guard(name: &str) -> Cow<'_, str> {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| Regex::new(DISPUTED).expect("a constant"));
    if name.is_ascii() {
        return name.into();
    }
    PATTERN.replace_all(name, |found: &regex::Captures<'_>| {
        // Of the disputed, Python takes the numbers for parts of words and nothing else.
        let guard = if found[0].chars().all(char::is_numeric) { WORD_GUARD } else { OTHER_GUARD };
        format!("{guard}{}{guard}", &found[0])
    })
}

/// One unit of Python's grammar: a character or an escaped one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Plain(char),
    Escaped(char),
}

use Token::{Escaped, Plain};

/// What stands before a repeat.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Anchor,
    Item { weight: usize },
    Repeat,
}

/// Inline flags as a set of bits.
type Flags = u8;
const IGNORE_CASE: Flags = 1;
const MULTI_LINE: Flags = 2;
const DOT_ALL: Flags = 4;
const VERBOSE: Flags = 8;
const ASCII: Flags = 16;
const UNICODE: Flags = 32;

/// What an inline flag group does.
enum FlagGroup {
    Global(Flags),
    Scoped { on: Flags, off: Flags },
}

/// A member of a class: a code point, which may be a surrogate, or the inside of brackets.
#[derive(Clone, Copy)]
enum Member {
    Point(u32),
    Category(&'static str),
}

/// The inside of a class in the syntax of the regex crate.
struct Set {
    inside: String,
    flags: Flags,
    is_ascii: bool,
    weight: usize,
}

impl Set {
    fn new(flags: Flags) -> Self {
        Self { inside: String::new(), flags, is_ascii: true, weight: 1 }
    }

    fn of(member: Member, flags: Flags) -> Self {
        let mut set = Self::new(flags);
        set.add(member);
        set
    }

    fn add(&mut self, member: Member) {
        match member {
            Member::Point(point) => self.add_range(point, point),
            Member::Category(inside) => {
                self.inside.push_str(inside);
                self.is_ascii = false;
                self.weight += CATEGORY_WEIGHT;
            }
        }
    }

    /// Adds code points; surrogates among them are left out, since no name holds one.
    fn add_range(&mut self, low: u32, high: u32) {
        for (low, high) in [(low, high.min(0xd7ff)), (low.max(0xe000), high)] {
            if let (Some(low), Some(high)) = (char::from_u32(low), char::from_u32(high))
                && low <= high
            {
                self.add_characters(low, high);
            }
        }
    }

    fn add_characters(&mut self, low: char, high: char) {
        self.push(low, high);
        if self.flags & IGNORE_CASE == 0 {
            return;
        }
        let ascii = self.flags & ASCII != 0;
        for (one, family) in FAMILIES.range(low..=high) {
            for &other in family {
                if !(low..=high).contains(&other) && !(ascii && !(one.is_ascii() && other.is_ascii())) {
                    self.push(other, other);
                }
            }
        }
    }

    /// What one character of this set weighs.
    fn weight(&self) -> usize {
        self.weight + self.inside.len() / BYTES_PER_WEIGHT
    }

    fn push(&mut self, low: char, high: char) {
        self.is_ascii &= high.is_ascii();
        push_character(&mut self.inside, low);
        if low != high {
            self.inside.push('-');
            push_character(&mut self.inside, high);
        }
    }
}

/// Each character that has another case, with all that Python takes for the same under `(?i)`: those whose lower case
/// forms have one upper case form. Unlike in the regex crate, `i`, `I`, `İ` and `ı` are one family.
static FAMILIES: LazyLock<BTreeMap<char, Vec<char>>> = LazyLock::new(|| {
    let mut families: HashMap<String, Vec<char>> = HashMap::new();
    for character in '\0'..=LAST_CASED {
        let lower = character.to_lowercase().next().unwrap_or(character);
        if lower != character || !character.to_uppercase().eq([character]) {
            families.entry(lower.to_uppercase().collect()).or_default().push(character);
        }
    }
    families.into_values().flat_map(|family| family.clone().into_iter().map(move |one| (one, family.clone()))).collect()
});

fn push_character(out: &mut String, character: char) {
    if character.is_ascii_alphanumeric() {
        out.push(character);
    } else {
        write!(out, r"\x{{{:x}}}", u32::from(character)).expect("a string takes all");
    }
}

/// What a translator made of the whole pattern.
struct Translated {
    regex: String,
    has_boundary: bool,
}

struct Translator<'a> {
    python: &'a str,
    /// Where the next token begins, in bytes.
    next: usize,
    /// Where the last token began, in bytes.
    last: usize,
    out: String,
    names: HashSet<&'a str>,
    weight: usize,
    guarded: bool,
    has_boundary: bool,
}

impl<'a> Translator<'a> {
    fn new(python: &'a str, guarded: bool) -> Self {
        Self {
            python,
            next: 0,
            last: 0,
            out: String::new(),
            names: HashSet::new(),
            weight: 0,
            guarded,
            has_boundary: false,
        }
    }

    fn run(mut self) -> Result<Translated, Flaw> {
        let backslashes = self.python.len() - self.python.trim_end_matches('\\').len();
        if backslashes % 2 == 1 {
            self.last = self.python.len() - 1;
            return Err(self.invalid("nothing follows the backslash"));
        }
        self.alternatives(0, 0)?;
        if self.take().is_some() {
            return Err(self.invalid("unbalanced parenthesis"));
        }
        Ok(Translated { regex: self.out, has_boundary: self.has_boundary })
    }

    fn peek(&self) -> Option<Token> {
        let mut rest = self.python[self.next..].chars();
        match rest.next()? {
            '\\' => rest.next().map(Escaped),
            character => Some(Plain(character)),
        }
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.peek()?;
        self.last = self.next;
        self.next += match token {
            Plain(character) => character.len_utf8(),
            Escaped(character) => 1 + character.len_utf8(),
        };
        Some(token)
    }

    fn eat(&mut self, character: char) -> bool {
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
    fn invalid(&self, what: impl Into<String>) -> Flaw {
        Flaw::Invalid { what: what.into(), at: self.python[..self.last].chars().count() + 1 }
    }

    fn alternatives(&mut self, mut flags: Flags, depth: usize) -> Result<(), Flaw> {
        if depth > MAX_NEST {
            return Err(Flaw::TooLarge);
        }
        self.branch(&mut flags, depth, depth == 0)?;
        while self.eat('|') {
            self.out.push('|');
            self.branch(&mut flags, depth, false)?;
        }
        Ok(())
    }

    fn branch(&mut self, flags: &mut Flags, depth: usize, is_first: bool) -> Result<(), Flaw> {
        let mut last = Last::Nothing;
        while let Some(token) = self.peek().filter(|&token| token != Plain('|') && token != Plain(')')) {
            self.take();
            last = match token {
                Plain(' ' | '\t'..='\r') if *flags & VERBOSE != 0 => last,
                Plain('#') if *flags & VERBOSE != 0 => {
                    while self.take().is_some_and(|token| token != Plain('\n')) {}
                    last
                }
                Plain('(') => {
                    let may_set_flags = is_first && last == Last::Nothing;
                    self.group(flags, depth, may_set_flags)?.unwrap_or(last)
                }
                Plain('[') => self.class(*flags)?,
                Plain('.') if *flags & DOT_ALL == 0 => self.atom(&Set::of(Member::Point(0x0a), 0), true),
                Plain('.') => self.atom(&Set::of(Member::Category(r"\s\S"), 0), false),
                Plain('^') if *flags & MULTI_LINE != 0 => self.anchor("(?m:^)"),
                Plain('^') => self.anchor(r"\A"),
                Plain('$') if *flags & MULTI_LINE != 0 => self.anchor("(?m:$)"),
                // Python also matches before a final line feed, which no name holds.
                Plain('$') => self.anchor(r"\z"),
                Plain(sign @ ('*' | '+' | '?' | '{')) => match self.counts(sign)? {
                    Some((least, most)) => self.repeat(last, least, most)?,
                    None => self.atom(&Set::of(Member::Point('{'.into()), 0), false),
                },
                Plain(character) => self.atom(&Set::of(Member::Point(character.into()), *flags), false),
                Escaped(letter) => self.escape(letter, *flags)?,
            };
            if self.weight > MAX_WEIGHT {
                return Err(Flaw::TooLarge);
            }
        }
        Ok(())
    }

    fn anchor(&mut self, regex: &str) -> Last {
        self.out.push_str(regex);
        self.weight += 1;
        Last::Anchor
    }

    /// Writes what matches one character of a set.
    fn atom(&mut self, set: &Set, negated: bool) -> Last {
        let inside = if set.inside.is_empty() { r"[^\s\S]" } else { &set.inside };
        let class = format!("[{}{inside}]", if negated { "^" } else { "" });
        if self.guarded && (negated || !set.is_ascii) {
            write!(self.out, "(?:[{class}--[{GUARDS}]]|[{GUARDS}]{class}[{GUARDS}])").expect("a string takes all");
        } else {
            self.out.push_str(&class);
        }
        let weight = set.weight();
        self.weight += weight;
        Last::Item { weight }
    }

    fn repeat(&mut self, last: Last, least: u32, most: Option<u32>) -> Result<Last, Flaw> {
        let weight = match last {
            Last::Nothing | Last::Anchor => return Err(self.invalid("nothing to repeat")),
            Last::Repeat => return Err(self.invalid("multiple repeat")),
            Last::Item { weight } => weight,
        };
        if self.eat('+') {
            return Err(Flaw::Unsupported("a possessive repeat"));
        }
        self.eat('?');
        let most_text = most.map_or(String::new(), |most| most.to_string());
        write!(self.out, "{{{least},{most_text}}}").expect("a string takes all");
        let copies = usize::try_from(most.unwrap_or(least)).unwrap_or(usize::MAX);
        self.weight = self.weight.saturating_add(weight.saturating_mul(copies.saturating_sub(1)));
        Ok(Last::Repeat)
    }

    /// How often to repeat, at least and at most; none if the brace is an ordinary character.
    fn counts(&mut self, sign: char) -> Result<Option<(u32, Option<u32>)>, Flaw> {
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

    /// Translates a group; comments and global flags are none that could be repeated.
    fn group(&mut self, flags: &mut Flags, depth: usize, may_set_flags: bool) -> Result<Option<Last>, Flaw> {
        let (start, before) = (self.last, self.weight);
        let mut inner = *flags;
        if self.eat('?') {
            match self.take().ok_or_else(|| self.invalid("the pattern ends within a group"))? {
                Plain('P') => self.named()?,
                Plain(':') => {}
                Plain('#') => loop {
                    match self.take() {
                        None => return Err(self.unclosed(start, "the comment is not closed")),
                        Some(Plain(')')) => return Ok(None),
                        Some(_) => {}
                    }
                },
                Plain('=' | '!') => return Err(Flaw::Unsupported("look-ahead")),
                Plain('<') => {
                    return Err(match self.take() {
                        Some(Plain('=' | '!')) => Flaw::Unsupported("look-behind"),
                        _ => self.invalid("unknown kind of group: a named one is written (?P<name>...)"),
                    });
                }
                Plain('(') => return Err(Flaw::Unsupported("a conditional")),
                Plain('>') => return Err(Flaw::Unsupported("an atomic group")),
                Plain(letter) if letter == '-' || letter.is_ascii_alphabetic() => match self.flags(letter)? {
                    FlagGroup::Scoped { on, off } => {
                        if on & (ASCII | UNICODE) != 0 {
                            inner &= !(ASCII | UNICODE);
                        }
                        inner = (inner | on) & !off;
                    }
                    FlagGroup::Global(_) if !may_set_flags => {
                        return Err(self.unclosed(start, "global flags stand at the start or nowhere"));
                    }
                    FlagGroup::Global(on) => {
                        *flags |= on;
                        if *flags & (ASCII | UNICODE) == ASCII | UNICODE {
                            return Err(self.invalid("the flags a and u exclude each other"));
                        }
                        return Ok(None);
                    }
                },
                _ => return Err(self.invalid("unknown kind of group")),
            }
        }
        self.weight += 1;
        self.out.push_str("(?:");
        self.alternatives(inner, depth + 1)?;
        if !self.eat(')') {
            return Err(self.unclosed(start, "the parenthesis is not closed"));
        }
        self.out.push(')');
        Ok(Some(Last::Item { weight: self.weight - before }))
    }

    /// A flaw where something began.
    fn unclosed(&mut self, start: usize, what: &str) -> Flaw {
        self.last = start;
        self.invalid(what)
    }

    /// Reads on after `(?P`.
    fn named(&mut self) -> Result<(), Flaw> {
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

    /// Reads an inline flag group from its first letter on, up to the colon or the parenthesis.
    fn flags(&mut self, first: char) -> Result<FlagGroup, Flaw> {
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
                _ => return Err(self.invalid("the flags do not end")),
            };
        }
        loop {
            match self.take() {
                Some(Plain(':')) if off != 0 => break,
                Some(Plain(letter)) => off |= self.flag(letter)?,
                _ => return Err(self.invalid("the flags do not end")),
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

    fn class(&mut self, flags: Flags) -> Result<Last, Flaw> {
        let start = self.last;
        let negated = self.eat('^');
        let mut set = Set::new(flags);
        let mut is_first = true;
        loop {
            if set.weight() > MAX_WEIGHT {
                return Err(Flaw::TooLarge);
            }
            let low = match self.take() {
                None => return Err(self.unclosed(start, "the bracket is not closed")),
                Some(Plain(']')) if !is_first => break,
                Some(token) => self.member(token, flags)?,
            };
            is_first = false;
            if !self.eat('-') {
                set.add(low);
                continue;
            }
            let high = match self.take() {
                None => return Err(self.unclosed(start, "the bracket is not closed")),
                Some(Plain(']')) => {
                    set.add(low);
                    set.add(Member::Point('-'.into()));
                    break;
                }
                Some(token) => self.member(token, flags)?,
            };
            match (low, high) {
                (Member::Point(low), Member::Point(high)) if low <= high => set.add_range(low, high),
                _ => return Err(self.invalid("bad range of characters")),
            }
        }
        Ok(self.atom(&set, negated))
    }

    fn member(&mut self, token: Token, flags: Flags) -> Result<Member, Flaw> {
        Ok(match token {
            Plain(character) => Member::Point(character.into()),
            Escaped('b') => Member::Point(8),
            Escaped(digit @ '0'..='7') => Member::Point(self.octal(digit)?),
            Escaped(letter) => match category(letter, flags) {
                Some(inside) => Member::Category(inside),
                None => Member::Point(self.escaped_character(letter)?),
            },
        })
    }

    /// Reads up to two more octal digits.
    fn octal(&mut self, first: char) -> Result<u32, Flaw> {
        let digits = format!("{first}{}", self.digits(2, 8));
        match u32::from_str_radix(&digits, 8) {
            Ok(point) if point <= 0o377 => Ok(point),
            _ => Err(self.invalid("the octal escape is greater than 377")),
        }
    }

    fn escape(&mut self, letter: char, flags: Flags) -> Result<Last, Flaw> {
        let point = match letter {
            'A' => return Ok(self.anchor(r"\A")),
            'Z' => return Ok(self.anchor(r"\z")),
            'b' | 'B' => {
                let is_ascii = flags & ASCII != 0;
                self.has_boundary |= !is_ascii;
                let (before, after) = if is_ascii { ("(?-u:", ")") } else { ("", "") };
                return Ok(self.anchor(&format!(r"{before}\{letter}{after}")));
            }
            '0' => self.octal('0')?,
            '1'..='9' => {
                let rest = self.python[self.next..].as_bytes();
                let is_octal =
                    letter < '8' && rest.iter().take(2).filter(|byte| (b'0'..=b'7').contains(*byte)).count() == 2;
                if !is_octal {
                    return Err(Flaw::Unsupported("a back-reference"));
                }
                self.octal(letter)?
            }
            _ => match category(letter, flags) {
                Some(inside) => return Ok(self.atom(&Set::of(Member::Category(inside), flags), false)),
                None => self.escaped_character(letter)?,
            },
        };
        Ok(self.atom(&Set::of(Member::Point(point), flags), false))
    }

    /// Reads the escapes that mean one character both within and without brackets.
    fn escaped_character(&mut self, letter: char) -> Result<u32, Flaw> {
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

/// The inside of brackets that stands for `\w`, `\d`, `\s` and their opposites.
fn category(letter: char, flags: Flags) -> Option<&'static str> {
    Some(match (letter, flags & ASCII != 0) {
        ('w', false) => WORD,
        ('W', false) => r"[^\p{L}\p{N}_]",
        ('d', false) => r"\p{Nd}",
        ('D', false) => r"\P{Nd}",
        ('s', false) => r"\s\x1c-\x1f",
        ('S', false) => r"[^\s\x1c-\x1f]",
        ('w', true) => "0-9A-Z_a-z",
        ('W', true) => "[^0-9A-Z_a-z]",
        ('d', true) => "0-9",
        ('D', true) => "[^0-9]",
        ('s', true) => r"\t-\r\x20",
        ('S', true) => r"[^\t-\r\x20]",
        _ => return None,
    })
}
