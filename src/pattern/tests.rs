use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Write as _},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;

/// Answers each pattern with one line: a digit a name, or what is wrong.
const ORACLE: &str = r#"
import re, signal, sys, warnings
warnings.simplefilter("ignore")
warnings.simplefilter("error", DeprecationWarning)
def too_slow(*_):
    raise TimeoutError
signal.signal(signal.SIGALRM, too_slow)
text = lambda line: bytes.fromhex(line).decode()
names = [text(word) for word in sys.stdin.readline().split(",")]
for line in sys.stdin:
    signal.setitimer(signal.ITIMER_REAL, 5)
    try:
        regex = re.compile(text(line))
        print("".join("01"[regex.search(name) is not None] for name in names))
    except TimeoutError:
        print("slow")
    except Exception as error:
        print("error", " ".join(str(error).split()))
    signal.setitimer(signal.ITIMER_REAL, 0)
    re.purge()
"#;

const NAMES: &[&str] = &[
    "a",
    "b.txt",
    "B.TXT",
    "aa",
    "ab",
    "abc.txt",
    "foo-bar_baz.jpg",
    "photo 001.JPG",
    ".hidden",
    "-rf",
    "...",
    "[a]",
    "a]b[c",
    "{1,2}",
    "a{2}",
    "x{1,2",
    "(a)",
    "a&&b",
    "a--b",
    "a~~b||c",
    "<b>",
    "#1 *?+^$",
    "\\d\\w",
    "é",
    "cafe\u{301}.txt",
    "\u{301}",
    "naïve É.txt",
    "straße",
    "STRASSE ẞ",
    "K k",
    "ſs",
    "İ ı i",
    "٣٤.txt",
    "x²½",
    "Ⅷ Ⓐ",
    "日本.png",
    "a\u{200d}b",
    "a‿b",
    "😀.gif",
    "a\u{a0}b\u{2003}c",
    "σςΣ µμ",
    "Z:Q,7'\"@%!=;/",
    "a\u{7f}\u{1c}\u{85}b",
    "2004-12-31",
];

const PATTERNS: &[&str] = &[
    // Plain ones, as people write them.
    r"a",
    r"\.txt$",
    r"^\w+\.txt$",
    r"(?i)\.(jpe?g|png)$",
    r"\w{3,20}-\w{1,4}",
    r"^[^.]",
    r"^\.",
    r"\d+",
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
    r"foo|bar",
    r"",
    r"|",
    r"a||b",
    r"(|a)b",
    r".",
    r"^.$",
    r"^..$",
    r"^$",
    r" ",
    r"\ ",
    r"é",
    r"日|😀",
    r"^.\.gif",
    // Anchors.
    r"\Aa",
    r"a\Z",
    r"txt\Z",
    r"(?m)^a$",
    r"(?m)a$",
    r"$",
    r"^",
    r"^a|b$",
    r"^*",
    r"$?",
    r"\b+",
    r"\A{2}",
    r"(^)*a",
    r"(?:^)+a",
    r"a^b",
    r"x*$y*",
    // Classes.
    r"[a]",
    r"[]a]",
    r"[^]a]",
    r"[]",
    r"[^]",
    r"[]-a]",
    r"[a-]",
    r"[-a]",
    r"[a-c-e]",
    r"[--/]",
    r"[+--]",
    r"[a--]",
    r"[--a]",
    r"[z-a]",
    r"[a-\d]",
    r"[\d-a]",
    r"[\d-]",
    r"[\w.-]+$",
    r"[[]",
    r"[[a]",
    r"[[a]]",
    r"[a[b]c]",
    r"[[:alpha:]]",
    r"[[:alpha:]]+",
    r"[[:^digit:]]",
    r"[a&&b]",
    r"[a&&b]{2}",
    r"[a--b]",
    r"[a~~b]",
    r"[a||b]",
    r"[|~&-]{2}",
    r"[^a&&b]",
    r"[\^]",
    r"[a^]",
    r"[^^]",
    r"[$]",
    r"[.]",
    r"[(]a[)]",
    r"[{}]",
    r"[#]",
    r"[\b]",
    r"[\B]",
    r"[\A]",
    r"[\Z]",
    r"[\]]",
    r"[\\]",
    r"[\-]",
    r"[\&\~]",
    r"[\x41-\x5a]",
    r"[\u00e9]",
    r"[\U0001F600]",
    r"[\0-\37]",
    r"[\101]",
    r"[\1]",
    r"[\8]",
    r"[\400]",
    r"[\q]",
    r"[\_]",
    r"[\ud800]",
    r"[^\ud800]",
    r"[\ud800-\udfff]",
    r"[\ud000-\uffff]",
    r"[\u0000-\U0010ffff]",
    r"[^\u0000-\U0010ffff]",
    r"[a-z",
    r"[a",
    r"[",
    r"[^",
    r"[a-",
    r"[\W\d]",
    r"^[^\W\d_]+$",
    r"[^\s\S]",
    r"[\D\d]",
    r"[é-ï]",
    r"[^\x00-\x7f]",
    r"[😀-😎]",
    // Repeats and braces.
    r"a*",
    r"a+a",
    r"a?b",
    r"a*?b",
    r"a+?",
    r"a??",
    r"a{2}",
    r"^a{2}$",
    r"^a{,1}$",
    r"^a{0,}$",
    r"^.{,}$",
    r"a{,5}b",
    r"a{2,1}",
    r"a{1}{2}",
    r"a**",
    r"a+*",
    r"a{2}*",
    r"a*??",
    r"a{2}?",
    r"a{2}??",
    r"a*+",
    r"a++",
    r"a?+",
    r"a{2}+",
    r"a{",
    r"a{}",
    r"{",
    r"}",
    r"{}",
    r"{,}",
    r"{1}",
    r"{a}",
    r"{1,2",
    r"x{1,2",
    r"x{1, 2}",
    r"x{1,2x}",
    r"a{b}",
    r"{{2}",
    r"{{1,2}}",
    r"a{ 2}",
    r"a{2",
    r"a{-1}",
    r"a{٣}",
    r"a{4294967295}",
    r"a{99999999999999999999}",
    r"a{0}b",
    r"(a){2}",
    r"(?:){3}",
    r"(?:)*",
    r"()*",
    r"(a*)*b",
    r"(a*)+",
    r"(a|b*)*c",
    r"*a",
    r"+",
    r"?x",
    r"(*a)",
    r"(?:*a)",
    r"a|*",
    r"a|+b",
    r"(|*)",
    r"*.txt",
    r"foo*.jpg",
    // Escapes.
    r"\.",
    r"\<b\>",
    r"\#\ \-\&\~",
    r"\'\,\@\%\!\=\;\:\/",
    r"\\",
    r"\\d",
    r"\",
    r"a\",
    r"\\\",
    r"\é",
    r"\日",
    r"\_",
    r"\y",
    r"\p{L}",
    r"\pL",
    r"\h",
    r"\G",
    r"\K",
    r"\Q",
    r"\e",
    r"\c",
    r"\R",
    r"\X",
    r"\a",
    r"\f",
    r"\n",
    r"\r",
    r"\t",
    r"\v",
    r"\0",
    r"\07",
    r"\012",
    r"\0123",
    r"\101",
    r"\141",
    r"\377",
    r"\400",
    r"\777",
    r"\08",
    r"\x41",
    r"\x4",
    r"\x",
    r"\x{41}",
    r"\xe9",
    r"\u00e9",
    r"\u00e",
    r"\u{e9}",
    r"\U0001F600",
    r"\U0001F60",
    r"\U00110000",
    r"\ud83d\ude00",
    r"\ud800",
    r"a|\ud800",
    r"\ud800*a",
    r"\N{LATIN SMALL LETTER A}",
    r"\N",
    r"\N{}",
    r"\1",
    r"(a)\1",
    r"(a)\2",
    r"(a\1)",
    r"\18",
    r"\81",
    r"(a)(b)\12",
    // Categories.
    r"\d",
    r"\D",
    r"^\D+$",
    r"\w",
    r"^\w+$",
    r"\W",
    r"^\W+$",
    r"\s",
    r"\S",
    r"^\S+$",
    r"^\S$",
    r"\w\W\w",
    r"^.\s.\s.$",
    r"[\s]",
    r"[^\s]+$",
    r"\w{5}",
    // Boundaries, where the two ideas of a word part.
    r"\b",
    r"\B",
    r"\bcafe\b",
    r"cafe\b",
    r"cafe\B",
    r"\bx",
    r"x\b",
    r"x\B",
    r"x\B.\B.\b",
    r"²\b",
    r"\B²",
    r"½\b$",
    r"^\b",
    r"^\B",
    r"\b$",
    r"\B$",
    r"^\B.\B$",
    r"^\B\u0301\B$",
    r"^\b.",
    r"a\b.\bb",
    r"a\b\u200d\bb",
    r"a\b[^a]\bb",
    r"a\b\W\bb",
    r"\bⒶ",
    r"\BⒶ",
    r"\b\d+\b",
    r"\b\w+\b",
    r"^\w+\b",
    r"\b[\w-]+\b",
    r"\b(é|e\u0301)",
    r"\b\b",
    r"\b\B",
    r"(\b|a)+",
    r"(\ba|b)+",
    r"(?a)\b",
    r"(?a)\bé",
    r"(?a)\Bé",
    r"(?a)^\B.\B$",
    r"(?a:\b)é\b",
    r"(?a:\B)é\b",
    r"(?i)\bCAFE\b",
    r"\b[^\W\d_]",
    r"\b\ud800?a",
    r"\b\S+²",
    // Case.
    r"(?i)a",
    r"(?i)K",
    r"(?i)^k",
    r"(?i)\u212a",
    r"(?i)s{2}",
    r"(?i)ſ",
    r"(?i)ß",
    r"(?i)SS",
    r"(?i)i",
    r"(?i)^i i",
    r"(?i)^ı.ı.ı$",
    r"(?i)İ",
    r"(?i)É",
    r"(?i)[é]",
    r"(?i)[a-z]{4}",
    r"(?i)^[k-s]",
    r"(?i)^[^k]",
    r"(?i)^[^a-z]+$",
    r"(?i)σσσ",
    r"(?i)µµ",
    r"(?i)^[\w ]+$",
    r"(?i:a)B",
    r"(?i:B)\.txt",
    r"(?i)(?-i:b)\.txt",
    r"(?i)b(?-i:\.)txt",
    r"(?ia)k",
    r"(?ai)^[^k]",
    r"(?ia)É",
    r"(?i)(?a:ſ)",
    r"(?ia:s)(?i:s)",
    r"(?i)[@-\[]",
    r"(?i)[^@-\[]{4}",
    r"(?i)[Z-a]",
    // Flags.
    r"(?s)a.b",
    r"(?s).",
    r"(?m)^",
    r"(?x) a b # comment",
    r"(?x) a \  b",
    r"(?x)[ ]a",
    r"(?x)[#]",
    r"(?x)\#1",
    r"(?x)a # b
      b",
    r"(?x)a # b \
      b",
    r"(?x)a +",
    r"(?x)a + ?",
    r"(?x)a{1, 2}",
    r"(?x)a {2}",
    r"(?x)( ?:a)",
    r"(?x)(? :a)",
    r"(?x)a #",
    r"(?x) (?i)A",
    r"(?x: a b )c",
    r"(?x: a (?-x: )b)",
    r"(?x)a|b # x
      |c",
    "(?x)a\u{a0}b",
    "(?x)a\u{b}b",
    r"(?a)\w",
    r"(?a)^\w+$",
    r"(?a)\W",
    r"(?a)\d",
    r"(?a)\D",
    r"(?a)\s",
    r"(?a)\S",
    r"(?a)[\w]",
    r"(?a)[\W]",
    r"(?a)[^\s]",
    r"(?u)\w",
    r"(?a).*(?u:\w)$",
    r"(?a:\w)$",
    r"(?u:(?a:\w)\w)",
    r"(?L)a",
    r"(?L:a)",
    r"(?t)a",
    r"(?au)a",
    r"(?aa)a",
    r"(?a)(?u)a",
    r"(?au:a)",
    r"(?i-i:a)",
    r"(?-a:a)",
    r"(?-i)a",
    r"(?i-)a",
    r"(?-:a)",
    r"(?-)",
    r"(?i",
    r"(?i:",
    r"(?i-",
    r"(?i-s",
    r"(?ii)A",
    r"(?ims-x:A.B)",
    r"(?imsx)A.B",
    r"(?y)a",
    r"(?iy)a",
    r"(?i-y:a)",
    r"(?é)a",
    r"a(?i)",
    r"(?i)(?s)A.B",
    r"(?#c)(?i)A",
    r"(?:)(?i)A",
    r"^(?i)A",
    r"((?i)A)",
    r"|(?i)A",
    r"(?i)*",
    r"(?i)|A",
    // Groups.
    r"(a)",
    r"(?:a)",
    r"(?P<n>a)",
    r"(?P<n>a)(?P<n>b)",
    r"(?P<n>a)|(?P<m>b)",
    r"(?P<1>a)",
    r"(?P<é>a)",
    r"(?P<a b>a)",
    r"(?P<>a)",
    r"(?P<n",
    r"(?P<n>",
    r"(?P=n)",
    r"(?P<n>a)(?P=n)",
    r"(?P>n)",
    r"(?P",
    r"(?<n>a)",
    r"(?'n'a)",
    r"(?#comment)a",
    r"a(?#comment)*",
    r"(?#comment)*",
    r"(?#a\)b)a",
    r"(?#",
    r"(?=a)",
    r"a(?=b)",
    r"(?!a)",
    r"^(?!a)",
    r"(?<=a)b",
    r"(?<!a)b",
    r"(?<=a*)b",
    r"(?<",
    r"(?>a)",
    r"(?>a*)b",
    r"(a)?(?(1)b|c)",
    r"(?(1)a)",
    r"(?P<n>a)?(?(n)b)",
    r"(?|a)",
    r"(?R)",
    r"(?1)",
    r"(?&n)",
    r"(?",
    r"(",
    r")",
    r"(a",
    r"a)",
    r"(a))",
    r"((a)",
    r"()",
    r"(?)",
    r"(?:",
    r"(?:a",
    r"((((((((((a))))))))))",
    r"(a|b)(c|\.)",
    r"a(?#x)b",
    r"(*)",
    r"(?:a|)b",
    r"(?:a|b|)+c",
];

/// A `python3` that is asked whether patterns are found in [`NAMES`].
struct Python(Child);

impl Python {
    fn start() -> Self {
        let python = Command::new("python3")
            .args(["-X", "utf8", "-c", ORACLE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed to run the tests");
        Self(python)
    }

    fn answers(mut self, names: &[&str], patterns: &[String]) -> Vec<String> {
        let mut questions = names.iter().map(|name| hex(name)).collect::<Vec<_>>().join(",") + "\n";
        for pattern in patterns {
            questions += &(hex(pattern) + "\n");
        }
        let mut stdin = self.0.stdin.take().unwrap();
        let writer = thread::spawn(move || stdin.write_all(questions.as_bytes()).unwrap());
        let answers: Vec<String> = BufReader::new(self.0.stdout.take().unwrap()).lines().map(Result::unwrap).collect();
        writer.join().unwrap();
        assert!(self.0.wait().unwrap().success());
        assert_eq!(answers.len(), patterns.len());
        answers
    }
}

fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// Compares our answers with Python's and says what differs.
fn differences(names: &[&str], patterns: &[String]) -> String {
    let answers = Python::start().answers(names, patterns);
    let mut differences = String::new();
    let (mut same, mut unsupported, mut invalid) = (0, 0, 0);
    for (python, answer) in patterns.iter().zip(&answers) {
        let refused = answer.starts_with("error");
        match Pattern::new(python) {
            _ if answer == "slow" => {}
            Err(BadPattern(Cause::Invalid { .. })) if refused => invalid += 1,
            Err(BadPattern(Cause::Unsupported(_))) => unsupported += 1,
            Err(error) => writeln!(differences, "{python:?}: python {answer}, ours {error}").unwrap(),
            Ok(_) if refused => writeln!(differences, "{python:?}: python {answer}, ours takes it").unwrap(),
            Ok(pattern) => {
                same += 1;
                for (name, digit) in names.iter().zip(answer.chars()) {
                    if pattern.is_found_in(name) != (digit == '1') {
                        writeln!(differences, "{python:?} in {name:?}: python {digit}").unwrap();
                    }
                }
            }
        }
    }
    println!("{same} agree, {invalid} are invalid to both, {unsupported} are not supported");
    differences
}

#[test]
fn chosen_patterns_mean_what_they_mean_to_python() {
    let patterns: Vec<String> = PATTERNS.iter().map(|&pattern| pattern.to_owned()).collect();
    assert_eq!(differences(NAMES, &patterns), "");
}

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

#[test]
fn the_empty_pattern_matches_all_names() {
    let pattern = Pattern::new("").unwrap();
    assert!(NAMES.iter().all(|name| pattern.is_found_in(name)));
    assert_eq!(pattern.as_str(), "");
}

#[test]
fn peers_are_sent_the_pattern_as_it_was_given() {
    assert_eq!(Pattern::new(r"(?i)\bé[[]{,3}\Z").unwrap().as_str(), r"(?i)\bé[[]{,3}\Z");
}

#[test]
fn a_bad_pattern_says_what_is_wrong() {
    for (pattern, text) in [
        ("(a", "the parenthesis is not closed at character 1"),
        ("é[b", "the bracket is not closed at character 2"),
        (r"a\", "nothing follows the backslash at character 2"),
        (r"\y", r"unknown escape \y at character 1"),
        (r"a\x4", r"\x wants 2 hexadecimal digits that name a character at character 2"),
        ("a+*", "multiple repeat at character 3"),
        ("a{2,1}", "the least count is greater than the greatest at character 2"),
        ("x(?=a)", "it uses look-ahead, which is not supported here"),
        ("(?<!a)x", "it uses look-behind, which is not supported here"),
        (r"(a)\1", "it uses a back-reference, which is not supported here"),
        ("(?P<n>a)(?P=n)", "it uses a back-reference, which is not supported here"),
        ("(a)?(?(1)b)", "it uses a conditional, which is not supported here"),
        ("(?>a)", "it uses an atomic group, which is not supported here"),
        ("a++", "it uses a possessive repeat, which is not supported here"),
        (r"\N{BULLET}", r"it uses a character by its name, \N{...}, which is not supported here"),
        ("(?t)a", "it uses the flag t, which is not supported here"),
    ] {
        assert_eq!(Pattern::new(pattern).unwrap_err().to_string(), text, "{pattern}");
    }
    assert_eq!(Pattern::new(&"x".repeat(4097)).unwrap_err().to_string(), "it is longer than 4096 bytes");
}

#[test]
fn a_glob_gets_a_hint_what_to_write_instead() {
    for (glob, regex) in [
        ("*.txt", r"\.txt$"),
        ("*", ""),
        ("**", ""),
        ("*.tar.gz", r"\.tar\.gz$"),
        ("*foo*", "foo"),
        ("?.c", r"^.\.c$"),
        ("*a?b*.c", r"a.b.*\.c$"),
        ("*.{jpg,png}", r"\.(jpg|png)$"),
        ("*.[ch]", r"\.[ch]$"),
        ("*.[!ch]", r"\.[^ch]$"),
    ] {
        let text = Pattern::new(glob).unwrap_err().to_string();
        let hint = if regex.is_empty() {
            "write '' for all names".to_owned()
        } else {
            format!("write '{regex}' instead of the glob")
        };
        assert!(text.ends_with(&format!("; a pattern is a regular expression, {hint}")), "{glob}: {text}");
        assert!(Pattern::new(regex).is_ok(), "{glob}");
    }
    for no_glob in ["+", "(*", r"*\d", "a{2}{3}", "*\u{1b}[2J", "*[", "*{"] {
        assert!(!Pattern::new(no_glob).unwrap_err().to_string().contains("glob"), "{no_glob}");
    }
    assert!(Pattern::new("foo*.jpg").unwrap().is_found_in("fooo.jpg"));
}

#[test]
fn expensive_patterns_are_refused_at_once() {
    let nested = |times: usize| format!("{}a{}", "(".repeat(times), ")".repeat(times));
    for pattern in [
        r"(\w{1000}){1000}",
        r"\w{4000}",
        r"(?:\w\W){60}",
        "(((((.{9}){9}){9}){9}){9}){9}",
        "a{4294967294}",
        "(?:){4294967294}",
        r"(?:\b){4294967294}",
        "(?:(?:a{0,255}){0,255}){0,255}",
        "((((((((){1000}){1000}){1000}){1000}){1000}){1000}){1000})",
        &r"\w".repeat(2048),
        &r"\b\W".repeat(1000),
        &r"[\w.]".repeat(800),
        &format!("(?i){}", "[b-\u{1eff}]".repeat(500)),
        &format!("(?i)[{}]", "b-\u{1eff}".repeat(600)),
        &nested(51),
        &nested(2000),
        &"x".repeat(1 << 20),
    ] {
        let start = Instant::now();
        let error = Pattern::new(pattern).unwrap_err();
        assert!(matches!(error.0, Cause::TooLarge | Cause::TooLong), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10), "{error} after {:?}", start.elapsed());
    }
}

#[test]
fn large_patterns_within_the_limits_are_searched_at_once() {
    for pattern in [
        r"^\w{64}$",
        r"\b\w{3,20}\b",
        r"(?i)[a-z0-9]{255}",
        r"\b[^.]{200}",
        "(?:a?b?){1300}[^ab]",
        "[ab]*a[ab]{2000}[^ab]",
        &"[^a]".repeat(1000),
        &"(?:a|b".repeat(50).chars().chain(")*".repeat(50).chars()).collect::<String>(),
        &(1000..1400).map(|number| number.to_string()).collect::<Vec<_>>().join("|"),
    ] {
        let start = Instant::now();
        let pattern = Pattern::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        pattern.is_found_in(&"ab".repeat(127));
        assert!(start.elapsed() < Duration::from_secs(10), "{} took {:?}", pattern.as_str(), start.elapsed());
    }
}

proptest! {
    #[test]
    fn any_text_is_a_pattern_or_is_refused(text in any::<String>(), name in any::<String>()) {
        match Pattern::new(&text) {
            Ok(pattern) => {
                pattern.is_found_in(&name);
            }
            Err(error) => prop_assert!(!error.to_string().contains(char::is_control)),
        }
    }

    #[test]
    fn any_text_of_awkward_characters_is_a_pattern_or_is_refused(
        text in r"[()\[\]{}*+?|^$.\\a-z,0-9<>=!:#P é²&~-]{0,40}",
        name in r"[a-z0-9 é²\u{301}_.-]{0,20}",
    ) {
        if let Ok(pattern) = Pattern::new(&text) {
            pattern.is_found_in(&name);
        }
    }

    #[test]
    fn an_escaped_name_finds_itself(name in any::<String>()) {
        let escaped: String = name.chars().flat_map(|c| c.is_ascii_punctuation().then_some('\\').into_iter().chain([c])).collect();
        prop_assert!(Pattern::new(&escaped).unwrap().is_found_in(&name));
    }
}
