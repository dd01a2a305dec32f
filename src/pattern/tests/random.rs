//! Random patterns.

use super::python::differences;

/// The same random numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn join(&mut self, from: &[&str], most: usize) -> String {
        (0..=self.below(most)).map(|_| self.pick(from)).collect()
    }

    /// A pattern that is well-formed but for bad luck.
    fn pattern(&mut self, depth: usize) -> String {
        let mut pattern = String::new();
        for _ in 0..=self.below(4) {
            let part = match self.below(12) {
                0 if depth > 0 => format!("{}|{}", self.pattern(depth - 1), self.pattern(depth - 1)),
                1..=3 if depth > 0 => format!("{}{})", self.pick(GROUPS), self.pattern(depth - 1)),
                4 => self.pick(ANCHORS).to_owned(),
                5..=6 => format!("{}{}]", self.pick(BRACKETS), self.join(MEMBERS, 4)),
                _ => self.pick(ATOMS).to_owned(),
            };
            pattern += &part;
            if self.below(3) == 0 {
                pattern += self.pick(REPEATS);
            }
        }
        pattern
    }
}

const ATOMS: &[&str] = &[
    "a", "b", "k", "s", "i", "x", "é", "²", "\u{301}", "ſ", "İ", "1", " ", "-", "_", ".", ".", "#", "{", "}", "{,",
    "]", r"\w", r"\W", r"\d", r"\D", r"\s", r"\S", r"\.", r"\-", r"\x41", r"\u0301", r"\ud800", r"\0", r"\101", r"\n",
    "ß", "K", "σ", "Ⓐ", "\u{200d}", "‿", "٣", "٣", "(?#c)", "e\u{301}",
];
const ANCHORS: &[&str] = &["^", "$", r"\b", r"\B", r"\b", r"\B", r"\A", r"\Z"];
const REPEATS: &[&str] = &[
    "*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}", "{,1}", "{,}", "{0}", "{0,1}?", "{2,}", "{3,1}", "{", "{1,a}",
    "**",
];
const GROUPS: &[&str] =
    &["(", "(", "(?:", "(?:", "(?i:", "(?-i:", "(?x:", "(?s:", "(?m:", "(?-s:", "(?i-s:", "(?-x:", "(?P<n>", "(?P<m>"];
const BRACKETS: &[&str] = &["[", "[^", "[", "[^", "[]", "[^]"];
const MEMBERS: &[&str] = &[
    "a",
    "k",
    "s",
    "i",
    "é",
    "²",
    "\u{301}",
    "ſ",
    "İ",
    "1",
    " ",
    "-",
    "-",
    "_",
    ".",
    "^",
    "[",
    "[:alpha:",
    "&&",
    "--",
    "~~",
    "||",
    "a-k",
    "A-Z",
    "À-ÿ",
    "\u{300}-\u{310}",
    "ͱ-ϿK",
    "{",
    "#",
    "$",
    r"\]",
    r"\\",
    r"\b",
    r"\w",
    r"\W",
    r"\d",
    r"\D",
    r"\s",
    r"\S",
    r"\-",
    r"\x41",
    r"\101",
    r"\ud800",
    r"\ud800-\uffff",
    r"\n",
    "‿",
    "!-/",
    "\u{200d}",
    "σ",
    "Ⓐ",
];

/// What random names and the pieces of random patterns are made of.
const PIECES: &[&str] = &[
    "a",
    "b",
    "k",
    "s",
    "i",
    "x",
    "é",
    "²",
    "\u{301}",
    "ſ",
    "İ",
    "1",
    "2",
    " ",
    "-",
    "&",
    "~",
    "#",
    ",",
    ":",
    "_",
    ".",
    ".",
    "^",
    "$",
    "|",
    "|",
    "*",
    "+",
    "?",
    "{",
    "}",
    "{2}",
    "{1,2}",
    "{,1}",
    "{,}",
    "{0}",
    "(",
    "(",
    ")",
    ")",
    ")",
    "(?:",
    "(?P<n>",
    "(?P<m>",
    "(?i)",
    "(?i:",
    "(?-i:",
    "(?x:",
    "(?x)",
    "(?a)",
    "(?ia:",
    "(?m:",
    "(?s)",
    "(?s:",
    "(?#",
    "(?",
    "(?=",
    "(?>",
    "[",
    "[",
    "[^",
    "]",
    "]",
    "]",
    "[[",
    "--",
    "&&",
    "~~",
    "||",
    "a-z",
    "A-Z",
    "[:alpha:]",
    "\\",
    r"\b",
    r"\B",
    r"\b",
    r"\B",
    r"\w",
    r"\W",
    r"\d",
    r"\D",
    r"\s",
    r"\S",
    r"\A",
    r"\Z",
    r"\.",
    r"\<",
    r"\-",
    r"\]",
    r"\x41",
    r"\u0301",
    r"\ud800",
    r"\0",
    r"\101",
    r"\1",
    r"\q",
    "\n",
    r"\\",
    "txt",
    "cafe",
    r"[^\W\d]",
    r"[\w.]",
    "[a-z]",
    "[^a]",
    "[é²]",
    "ß",
    "K",
    "σ",
    "日",
];
const LETTERS: &[&str] = &[
    "a", "b", "k", "s", "i", "x", "e\u{301}", "\u{301}", "é", "²", "½", "ſ", "K", "İ", "ı", "I", "S", "1", "٣", " ",
    "-", "_", ".", "‿", "\u{200d}", "Ⓐ", "σ", "ς", "ß", "ẞ", "[", "]", "#", "{", "}", "A", "B", "\u{a0}", "日", "😀",
    "\u{345}", "ι",
];

#[test]
fn random_patterns_mean_what_they_mean_to_python() {
    let rounds = if std::env::var_os("TINYP2P_FULL").is_some() { 100 } else { 1 };
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..rounds {
        let patterns: Vec<String> = (0..2000)
            .map(|number| match number % 10 {
                0 | 1 => dice.join(PIECES, 7),
                2 => format!("(?i){}", dice.pattern(2)),
                3 => format!("(?a){}", dice.pattern(2)),
                4 => format!("(?ms){}", dice.pattern(2)),
                _ => dice.pattern(2),
            })
            .collect();
        let names: Vec<String> = (0..40).map(|_| dice.join(LETTERS, 6)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(differences(&names, &patterns), "", "round {round}");
    }
}
