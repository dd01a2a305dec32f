//! Python's regular expressions, rewritten token by token in the syntax of the regex crate.
//!
//! What comes out matches exactly the names in which Python 3.11 and later find the pattern; what the regex crate cannot
//! say is a [`Flaw`]. Only whether there is a match counts, never where: groups capture nothing, and lazy repeats are
//! written as greedy ones.

use std::fmt::Write;

use super::{
    characters::{GUARDED_START, Member, Set, category},
    tokens::{
        ASCII, DOT_ALL, FlagGroup, Flags, Flaw, MULTI_LINE, Reader,
        Token::{self, Escaped, Plain},
        UNICODE, VERBOSE,
    },
};

/// The deepest nest of groups; each level costs stack.
const MAX_NEST: usize = 50;

/// The most that a pattern may weigh, repeats multiplied out; a search of a name of 255 bytes then takes some
/// ten milliseconds at worst.
const MAX_WEIGHT: usize = 4096;

/// A pattern in the syntax of the regex crate.
pub(super) struct Translation {
    pub(super) regex: String,
    /// Whether names must pass [`super::characters::guard`] before they are searched.
    pub(super) guarded: bool,
}

/// Translates a pattern; twice if it looks at word boundaries, because then all of it must step over guards.
pub(super) fn translate(python: &str) -> Result<Translation, Flaw> {
    let plain = Translator::run(python, false)?;
    if !plain.has_boundary {
        return Ok(Translation { regex: plain.out, guarded: false });
    }
    let guarded = Translator::run(python, true)?;
    Ok(Translation { regex: format!("{GUARDED_START}(?:{})", guarded.out), guarded: true })
}

/// What stands before a repeat.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Previous {
    Nothing,
    Anchor,
    Item { weight: usize },
    Repeat,
}

struct Translator<'a> {
    reader: Reader<'a>,
    out: String,
    weight: usize,
    guarded: bool,
    has_boundary: bool,
}

impl<'a> Translator<'a> {
    fn run(python: &'a str, guarded: bool) -> Result<Self, Flaw> {
        let reader = Reader::new(python)?;
        let mut translator = Self { reader, out: String::new(), weight: 0, guarded, has_boundary: false };
        translator.alternatives(0, 0)?;
        match translator.reader.take() {
            Some(_) => Err(translator.reader.invalid("unbalanced parenthesis")),
            None => Ok(translator),
        }
    }

    fn alternatives(&mut self, mut flags: Flags, depth: usize) -> Result<(), Flaw> {
        if depth > MAX_NEST {
            return Err(Flaw::TooLarge);
        }
        self.branch(&mut flags, depth, depth == 0)?;
        while self.reader.eat('|') {
            self.out.push('|');
            self.branch(&mut flags, depth, false)?;
        }
        Ok(())
    }

    fn branch(&mut self, flags: &mut Flags, depth: usize, is_first: bool) -> Result<(), Flaw> {
        let mut previous = Previous::Nothing;
        while let Some(token) = self.reader.peek().filter(|&token| token != Plain('|') && token != Plain(')')) {
            self.reader.take();
            previous = match token {
                Plain(' ' | '\t'..='\r') if *flags & VERBOSE != 0 => previous,
                Plain('#') if *flags & VERBOSE != 0 => {
                    while self.reader.take().is_some_and(|token| token != Plain('\n')) {}
                    previous
                }
                Plain('(') => {
                    let may_set_flags = is_first && previous == Previous::Nothing;
                    self.group(flags, depth, may_set_flags)?.unwrap_or(previous)
                }
                Plain('[') => self.class(*flags)?,
                Plain('.') if *flags & DOT_ALL == 0 => self.atom(&Set::of(Member::Point('\n'.into()), 0), true),
                Plain('.') => self.atom(&Set::new(0), true),
                Plain('^') if *flags & MULTI_LINE != 0 => self.anchor("(?m:^)"),
                Plain('^') => self.anchor(r"\A"),
                Plain('$') if *flags & MULTI_LINE != 0 => self.anchor("(?m:$)"),
                // Python also matches before a final line feed, which no name holds.
                Plain('$') => self.anchor(r"\z"),
                Plain(sign @ ('*' | '+' | '?' | '{')) => match self.reader.counts(sign)? {
                    Some((least, most)) => self.repeat(previous, least, most)?,
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

    fn anchor(&mut self, regex: &str) -> Previous {
        self.out.push_str(regex);
        self.weight += 1;
        Previous::Anchor
    }

    /// Writes what matches one character of a set.
    fn atom(&mut self, set: &Set, negated: bool) -> Previous {
        self.out.push_str(&if self.guarded { set.to_guarded_class(negated) } else { set.to_class(negated) });
        let weight = set.weight();
        self.weight += weight;
        Previous::Item { weight }
    }

    fn repeat(&mut self, previous: Previous, least: u32, most: Option<u32>) -> Result<Previous, Flaw> {
        let weight = match previous {
            Previous::Nothing | Previous::Anchor => return Err(self.reader.invalid("nothing to repeat")),
            Previous::Repeat => return Err(self.reader.invalid("multiple repeat")),
            Previous::Item { weight } => weight,
        };
        if self.reader.eat('+') {
            return Err(Flaw::Unsupported("a possessive repeat"));
        }
        self.reader.eat('?');
        let most_text = most.map_or(String::new(), |most| most.to_string());
        write!(self.out, "{{{least},{most_text}}}").expect("a string takes all");
        let copies = usize::try_from(most.unwrap_or(least)).unwrap_or(usize::MAX);
        self.weight = self.weight.saturating_add(weight.saturating_mul(copies.saturating_sub(1)));
        Ok(Previous::Repeat)
    }

    /// Translates a group; comments and global flags are none that could be repeated.
    fn group(&mut self, flags: &mut Flags, depth: usize, may_set_flags: bool) -> Result<Option<Previous>, Flaw> {
        let (start, before) = (self.reader.place(), self.weight);
        let mut inner = *flags;
        if self.reader.eat('?') {
            match self.reader.take().ok_or_else(|| self.reader.invalid("the pattern ends within a group"))? {
                Plain('P') => self.reader.group_name()?,
                Plain(':') => {}
                Plain('#') => loop {
                    match self.reader.take() {
                        None => return Err(self.reader.invalid_at(start, "the comment is not closed")),
                        Some(Plain(')')) => return Ok(None),
                        Some(_) => {}
                    }
                },
                Plain('=' | '!') => return Err(Flaw::Unsupported("look-ahead")),
                Plain('<') => {
                    return Err(match self.reader.take() {
                        Some(Plain('=' | '!')) => Flaw::Unsupported("look-behind"),
                        _ => self.reader.invalid("unknown kind of group: a named one is written (?P<name>...)"),
                    });
                }
                Plain('(') => return Err(Flaw::Unsupported("a conditional")),
                Plain('>') => return Err(Flaw::Unsupported("an atomic group")),
                Plain(letter) if letter == '-' || letter.is_ascii_alphabetic() => match self.reader.flags(letter)? {
                    FlagGroup::Scoped { on, off } => {
                        if on & (ASCII | UNICODE) != 0 {
                            inner &= !(ASCII | UNICODE);
                        }
                        inner = (inner | on) & !off;
                    }
                    FlagGroup::Global(_) if !may_set_flags => {
                        return Err(self.reader.invalid_at(start, "global flags stand at the start or nowhere"));
                    }
                    FlagGroup::Global(on) => {
                        *flags |= on;
                        if *flags & (ASCII | UNICODE) == ASCII | UNICODE {
                            return Err(self.reader.invalid("the flags a and u exclude each other"));
                        }
                        return Ok(None);
                    }
                },
                _ => return Err(self.reader.invalid("unknown kind of group")),
            }
        }
        self.weight += 1;
        self.out.push_str("(?:");
        self.alternatives(inner, depth + 1)?;
        if !self.reader.eat(')') {
            return Err(self.reader.invalid_at(start, "the parenthesis is not closed"));
        }
        self.out.push(')');
        Ok(Some(Previous::Item { weight: self.weight - before }))
    }

    fn class(&mut self, flags: Flags) -> Result<Previous, Flaw> {
        let start = self.reader.place();
        let negated = self.reader.eat('^');
        let mut set = Set::new(flags);
        let mut is_first = true;
        loop {
            if set.weight() > MAX_WEIGHT {
                return Err(Flaw::TooLarge);
            }
            let low = match self.reader.take() {
                None => return Err(self.reader.invalid_at(start, "the bracket is not closed")),
                Some(Plain(']')) if !is_first => break,
                Some(token) => self.member(token, flags)?,
            };
            is_first = false;
            if !self.reader.eat('-') {
                set.add(low);
                continue;
            }
            let high = match self.reader.take() {
                None => return Err(self.reader.invalid_at(start, "the bracket is not closed")),
                Some(Plain(']')) => {
                    set.add(low);
                    set.add(Member::Point('-'.into()));
                    break;
                }
                Some(token) => self.member(token, flags)?,
            };
            match (low, high) {
                (Member::Point(low), Member::Point(high)) if low <= high => set.add_range(low, high),
                _ => return Err(self.reader.invalid("bad range of characters")),
            }
        }
        Ok(self.atom(&set, negated))
    }

    fn member(&mut self, token: Token, flags: Flags) -> Result<Member, Flaw> {
        Ok(match token {
            Plain(character) => Member::Point(character.into()),
            Escaped('b') => Member::Point(8),
            Escaped(digit @ '0'..='7') => Member::Point(self.reader.octal(digit)?),
            Escaped(letter) => match category(letter, flags) {
                Some(inside) => Member::Category(inside),
                None => Member::Point(self.reader.escaped_character(letter)?),
            },
        })
    }

    fn escape(&mut self, letter: char, flags: Flags) -> Result<Previous, Flaw> {
        let point = match letter {
            'A' => return Ok(self.anchor(r"\A")),
            'Z' => return Ok(self.anchor(r"\z")),
            'b' | 'B' => {
                let is_ascii = flags & ASCII != 0;
                self.has_boundary |= !is_ascii;
                let (before, after) = if is_ascii { ("(?-u:", ")") } else { ("", "") };
                return Ok(self.anchor(&format!(r"{before}\{letter}{after}")));
            }
            '0' => self.reader.octal('0')?,
            '1'..='9' if !self.reader.is_octal(letter) => return Err(Flaw::Unsupported("a back-reference")),
            '1'..='9' => self.reader.octal(letter)?,
            _ => match category(letter, flags) {
                Some(inside) => return Ok(self.atom(&Set::of(Member::Category(inside), flags), false)),
                None => self.reader.escaped_character(letter)?,
            },
        };
        Ok(self.atom(&Set::of(Member::Point(point), flags), false))
    }
}
