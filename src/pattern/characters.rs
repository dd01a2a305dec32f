//! Sets of characters with the meaning that Python gives them, written as classes of the regex crate.
//!
//! The two differ on what a word is made of (marks, joiners, `½`), on white space, and on which letters are the same but
//! for case. Classes are spelled out so that none of this is left to the regex crate; `\b` cannot be, so for it the
//! names are changed.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fmt::Write,
    sync::LazyLock,
};

use regex::{Captures, Regex};

use super::tokens::{ASCII, Flags, IGNORE_CASE};

/// What a category such as `\w` weighs, where a plain character weighs one: so many compile in a few milliseconds.
const CATEGORY_WEIGHT: usize = 16;

/// How many bytes of a translated class weigh as much as a character.
const BYTES_PER_WEIGHT: usize = 16;

/// The characters that Python's `\w` and `\b` take for part of a word, written for the inside of brackets.
const WORD: &str = r"\p{L}\p{N}_";

/// Where the two disagree: marks and joiners are parts of words to the regex crate alone, `²` and `½` to Python alone.
const DISPUTED: &str = r"[\w~~[\p{L}\p{N}_]]";

/// Stands on both sides of a disputed character that Python takes for part of a word; the regex crate's `\w` holds it.
const WORD_GUARD: char = '\u{301}';

/// Stands on both sides of any other disputed character; the regex crate's `\w` does not hold it.
const OTHER_GUARD: char = '²';

/// Both guards, written for the inside of brackets.
const GUARDS: &str = r"\x{301}\x{b2}";

/// How a guarded pattern begins: at the start of the name, so that no search begins between a character and its guard.
pub(super) const GUARDED_START: &str = r"\A(?s:[^\x{301}\x{b2}]|[\x{301}\x{b2}].[\x{301}\x{b2}])*";

/// No character beyond this one has another case.
const LAST_CASED: char = '\u{1e943}';

/// A member of a class: a code point, which may be a surrogate, or the inside of brackets.
#[derive(Clone, Copy)]
pub(super) enum Member {
    Point(u32),
    Category(&'static str),
}

/// Characters, of which one is to be matched.
pub(super) struct Set {
    /// The inside of a class in the syntax of the regex crate.
    inside: String,
    flags: Flags,
    is_ascii: bool,
    weight: usize,
}

impl Set {
    /// An empty set; what is added means what it means under these flags.
    pub(super) fn new(flags: Flags) -> Self {
        Self { inside: String::new(), flags, is_ascii: true, weight: 1 }
    }

    /// A set of one member.
    pub(super) fn of(member: Member, flags: Flags) -> Self {
        let mut set = Self::new(flags);
        set.add(member);
        set
    }

    /// Adds a character with its other cases, or all that a category holds.
    pub(super) fn add(&mut self, member: Member) {
        match member {
            Member::Point(point) => self.add_range(point, point),
            Member::Category(inside) => {
                self.inside.push_str(inside);
                self.is_ascii = false;
                self.weight += CATEGORY_WEIGHT;
            }
        }
    }

    /// Adds code points with their other cases; surrogates among them are left out, since no name holds one.
    pub(super) fn add_range(&mut self, low: u32, high: u32) {
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

    /// What it costs to match one character of this set, where a plain character costs one.
    pub(super) fn weight(&self) -> usize {
        self.weight + self.inside.len() / BYTES_PER_WEIGHT
    }

    /// A class of the regex crate for this set or for all other characters.
    pub(super) fn to_class(&self, negated: bool) -> String {
        match (self.inside.as_str(), negated) {
            ("", false) => r"[^\s\S]".into(),
            ("", true) => r"[\s\S]".into(),
            (inside, false) => format!("[{inside}]"),
            (inside, true) => format!("[^{inside}]"),
        }
    }

    /// The same for names that passed [`guard`]: takes a character together with its guards.
    pub(super) fn to_guarded_class(&self, negated: bool) -> String {
        let class = self.to_class(negated);
        if self.is_ascii && !negated {
            return class;
        }
        format!("(?:[{class}--[{GUARDS}]]|[{GUARDS}]{class}[{GUARDS}])")
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

/// What `\w`, `\d`, `\s` and their opposites hold, written for the inside of brackets; none for another letter.
pub(super) fn category(letter: char, flags: Flags) -> Option<&'static str> {
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

/// Prepares a name for a pattern with `\b` or `\B`, which in the regex crate are bound to its own idea of a word.
///
/// Each disputed character gets guards on both sides for which that idea is Python's idea of the character. A guarded
/// pattern steps over a character and its guards at once, so that it never looks at the places within.
pub(super) fn guard(name: &str) -> Cow<'_, str> {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| Regex::new(DISPUTED).expect("a constant"));
    if name.is_ascii() {
        return name.into();
    }
    PATTERN.replace_all(name, |found: &Captures<'_>| {
        // Of the disputed, Python takes the numbers for parts of words and nothing else.
        let guard = if found[0].chars().all(char::is_numeric) { WORD_GUARD } else { OTHER_GUARD };
        format!("{guard}{}{guard}", &found[0])
    })
}
