//! Random patterns.

use super::python::differences;

/// The same random numbers for the same seed.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    /// One of several pieces that are separated by spaces, with `␣` for a space.
    fn pick(&mut self, from: &str) -> String {
        let pieces: Vec<&str> = from.split(' ').collect();
        pieces[self.below(pieces.len())].replace('␣', " ")
    }

    fn join(&mut self, from: &str, most: usize) -> String {
        (0..=self.below(most)).map(|_| self.pick(from)).collect()
    }

    /// A pattern that is well-formed but for bad luck.
    fn pattern(&mut self, depth: usize) -> String {
        let mut pattern = String::new();
        for _ in 0..=self.below(4) {
            let part = match self.below(12) {
                0 if depth > 0 => format!("{}|{}", self.pattern(depth - 1), self.pattern(depth - 1)),
                1..=3 if depth > 0 => format!("{}{})", self.pick(GROUPS), self.pattern(depth - 1)),
                4 => self.pick(ANCHORS),
                5..=6 => format!("{}{}]", self.pick(BRACKETS), self.join(MEMBERS, 4)),
                _ => self.pick(ATOMS),
            };
            pattern += &part;
            if self.below(3) == 0 {
                pattern += &self.pick(REPEATS);
            }
        }
        pattern
    }

    /// A pattern with look-around where it may stand, but for bad luck.
    fn looking_pattern(&mut self) -> String {
        let mut pattern = self.pick(r"^ ^ ^ \A (?i)^ (?m)^ (?x)^␣ (?x)\A");
        for _ in 0..self.below(3) {
            pattern += &(self.pick("(?= (?! (?=.* (?!.*") + &self.pattern(1) + ")");
        }
        if self.below(2) == 0 {
            pattern = self.pick("(?=.* (?=.*? (?=") + &self.pattern(0) + &self.pick(") ).* ).*? )(?=.*a)");
        }
        pattern += &self.pattern(1);
        for _ in 0..self.below(3) {
            pattern += &(self.pick("(?<= (?<!") + &self.pattern(1) + ")");
        }
        pattern + &self.pick(r"$ $ $ \Z $␣")
    }
}

const ATOMS: &str =
    r"a b k s i x é 1 ␣ - _ . . # { } {, ] \w \W \d \D \s \S \. \- \x41 \u00e9 \ud800 \0 \101 \n ß σ ٣ (?#c)";
const ANCHORS: &str = r"^ $ \b \B \b \B \A \Z";
const REPEATS: &str = "* + ? *? +? ?? {2} {1,2} {,1} {,} {0} {0,1}? {2,} {3,1} { {1,a} **";
const GROUPS: &str = "( ( (?: (?: (?i: (?-i: (?x: (?s: (?m: (?-s: (?i-s: (?-x: (?P<n> (?P<m>";
const BRACKETS: &str = "[ [^ [ [^ [] [^]";
const MEMBERS: &str = r"a k s i é 1 ␣ - - _ . ^ [ [:alpha: && -- ~~ || a-k A-Z à-ÿ { # $ \] \\ \b \w \W \d \D \s \S \- \x41 \101 \ud800 \n !-/";
const OTHERS: &str =
    r"| | ) ) ) ) ] ] ] (?i) (?x) (?a) (?s) (?ia: (?# (? (?= (?! (?<= (?> [[ \ \< \] \1 \q \\ {2} txt [^\W\d]";
const LETTERS: &str = "a b k s i x é 1 ٣ ␣ - _ . [ ] # { } A B K S I \u{a0} 日 😀 σ ß";

#[test]
fn random_patterns_mean_what_they_mean_to_python() {
    let rounds = if crate::support::full() { 100 } else { 1 };
    let pieces = [ATOMS, ANCHORS, REPEATS, GROUPS, BRACKETS, MEMBERS, OTHERS, OTHERS].join(" ");
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..rounds {
        let patterns: Vec<String> = (0..2000)
            .map(|number| match number % 10 {
                0 | 1 => dice.join(&pieces, 7),
                2 => format!("(?i){}", dice.pattern(2)),
                3 => format!("(?a){}", dice.pattern(2)),
                4 => format!("(?ms){}", dice.pattern(2)),
                5 | 6 => dice.looking_pattern(),
                _ => dice.pattern(2),
            })
            .collect();
        let names: Vec<String> = (0..40).map(|_| dice.join(LETTERS, 6)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(differences(&names, &patterns), "", "round {round}");
    }
}
